//! A client of Flowgate: typed calls and streams over one gRPC connection. It never retries; Flowgate does.
//!
//! ```no_run
//! use flowgate_client::{Client, message, proto::v1::ChatRequest};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), flowgate_client::Error> {
//!     let client = Client::connect("http://127.0.0.1:5000")?;
//!     let request = ChatRequest {
//!         endpoint: "chat".to_owned(),
//!         messages: vec![message::system("Answer in one sentence."), message::user("What is a gateway?")],
//!         ..Default::default()
//!     };
//!
//!     // Whole …
//!     let answer = client.chat(request.clone()).await?;
//!     println!("{}", message::text_of(&answer));
//!
//!     // … or piece by piece.
//!     let mut pieces = client.stream_chat(request).await?.text();
//!     while let Some(piece) = pieces.next().await {
//!         print!("{}", piece?);
//!     }
//!     Ok(())
//! }
//! ```
//!
//! A [`Client`] is cheap to clone, and its clones share the connection. [`Client::options`] sets credentials, TLS and defaults;
//! [`Client::with`] sets what one call needs:
//!
//! ```no_run
//! # use flowgate_client::{CallOptions, Client, Error, Tls, input, proto::v1::PredictRequest};
//! # use std::time::Duration;
//! # async fn run(ca: Vec<u8>) -> Result<(), Error> {
//! let client = Client::options("https://models.example.com:5000")
//!     .key("fg-1234")?
//!     .tls(Tls::new().ca(ca))
//!     .deadline(Duration::from_secs(10))
//!     .connect()?;
//!
//! let call = CallOptions::new().deadline(Duration::from_millis(200)).request_id("order-77")?;
//! let request = PredictRequest {
//!     endpoint: "iris".to_owned(),
//!     input: Some(input::frame([input::doubles("petal length (cm)", [1.4]), input::doubles("petal width (cm)", [0.2])])),
//!     ..Default::default()
//! };
//! match client.with(&call).predict(request).await {
//!     Ok(answer) => println!("{:?}", answer.output),
//!     Err(error) => println!("{}: {}", error.reason_name().unwrap_or("?"), error.message()),
//! }
//! # Ok(())
//! # }
//! ```

mod client;
pub mod collect;
mod error;
pub mod input;
pub mod message;
mod options;
mod stream;
#[cfg(test)]
mod tests;

pub use client::{Admin, Client};
pub use error::{Error, Violation};
/// The contract: messages, generated clients and servers.
pub use flowgate_proto as proto;
pub use options::{CallOptions, DEFAULT_MAX_MESSAGE_BYTES, Options, Tls};
pub use stream::{ChatStream, CompleteStream, EventStream, PredictStream, Prediction, StreamedEvent, TextStream};
