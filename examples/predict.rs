//! A prediction for typed columns, and what a refusal says: `cargo run --example predict`.

use flowgate_client::{
    Client, Error, input,
    proto::v1::{ErrorReason, PredictRequest},
};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let client = Client::connect("http://127.0.0.1:5000")?;

    // Two flowers, column by column. MLflow's own JSON forms are fields of the same message.
    let flowers = input::frame([
        input::doubles("sepal length (cm)", [5.1, 6.7]),
        input::doubles("sepal width (cm)", [3.5, 3.0]),
        input::doubles("petal length (cm)", [1.4, 5.2]),
        input::doubles("petal width (cm)", [0.2, 2.3]),
    ]);
    let request = PredictRequest { endpoint: "iris".to_owned(), input: Some(flowers), ..Default::default() };
    let answer = client.predict(request.clone()).await?;
    println!("{:?}", answer.output);

    // Reasons are a closed set, for programs; messages are for people.
    let unknown = PredictRequest { endpoint: "no-such-endpoint".to_owned(), ..request };
    match client.predict(unknown).await {
        Err(error) if error.reason() == Some(ErrorReason::CallerEndpointNotFound) => println!("as expected: {error}"),
        Err(error) => return Err(error),
        Ok(_) => println!("somebody has made that endpoint"),
    }
    Ok(())
}
