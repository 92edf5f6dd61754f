//! A conversation, answered whole: `cargo run --example chat -- "What is a gateway?"`.

use flowgate_client::{Client, Error, message, proto::v1::ChatRequest};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let question = std::env::args().nth(1).unwrap_or_else(|| "What is a gateway?".to_owned());

    // Nothing is sent yet: the first call opens the connection.
    let client = Client::connect("http://127.0.0.1:5000")?;
    let answer = client
        .chat(ChatRequest {
            endpoint: "chat".to_owned(),
            messages: vec![message::system("Answer in one sentence."), message::user(question)],
            max_tokens: Some(200),
            ..Default::default()
        })
        .await?;

    println!("{}", message::text_of(&answer));

    // Every answer says what it used and how it was carried out.
    let usage = answer.usage.unwrap_or_default();
    let call = answer.call.unwrap_or_default();
    println!("\n{} tokens by {} of {}, request {}", usage.output_tokens(), answer.model, call.provider, call.request_id);
    Ok(())
}
