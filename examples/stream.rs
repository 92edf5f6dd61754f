//! A conversation, answered piece by piece: `cargo run --example stream -- "Tell me a story."`.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use flowgate_client::{CallOptions, Client, message, proto::v1::ChatRequest};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let question = std::env::args().nth(1).unwrap_or_else(|| "Tell me a story.".to_owned());
    let client = Client::connect("http://127.0.0.1:5000")?;

    // A deadline covers the whole stream. Dropping the stream cancels the call up to the provider.
    let call = CallOptions::new().deadline(Duration::from_secs(60));
    let request = ChatRequest { endpoint: "chat".to_owned(), messages: vec![message::user(question)], ..Default::default() };
    let mut pieces = client.with(&call).stream_chat(request).await?.text();

    // A stream that breaks off yields an error: it never just ends.
    while let Some(piece) = pieces.next().await {
        print!("{}", piece?);
        io::stdout().flush()?;
    }
    println!();
    Ok(())
}
