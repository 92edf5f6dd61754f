//! Every way to ask the gateway for a prediction.

use crate::{doors::Refusal, gateway::Running};
use flowgate_client::proto::{
    v1::{PredictRequest, PredictResponse, predict_request::Input, predict_response::Output},
    wkt::{ListValue, Value, value::Kind},
};

/// One door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PredictDoor {
    Grpc,
    /// One item of `StreamPredict`.
    GrpcStream,
    /// `/v1/endpoints/{endpoint}:predict`
    Native,
    /// `/endpoints/{endpoint}/invocations`
    Invocations,
    /// `/invocations`
    Default,
    /// The endpoint's own `path:`.
    Own,
}

pub const DOORS: [PredictDoor; 6] =
    [PredictDoor::Grpc, PredictDoor::GrpcStream, PredictDoor::Native, PredictDoor::Invocations, PredictDoor::Default, PredictDoor::Own];

impl PredictDoor {
    /// Asks with `{"instances": [[1.5]]}`; the predictions as JSON.
    pub async fn ask(self, running: &Running, endpoint: &str) -> Result<serde_json::Value, Refusal> {
        let path = match self {
            Self::Grpc => return Ok(predictions(&running.client().predict(request(endpoint)).await?)),
            Self::GrpcStream => {
                let requests = futures_util::stream::iter([request(endpoint)]);
                let mut answers = running.client().stream_predict(requests).await?;
                let answer = answers.next().await.expect("each request has an answer")?;
                assert_eq!(answer.index, 0);
                let told = predictions(&answer.result?);
                assert!(answers.next().await.is_none());
                return Ok(told);
            }
            Self::Native => format!("/v1/endpoints/{endpoint}:predict"),
            Self::Invocations => format!("/endpoints/{endpoint}/invocations"),
            Self::Default => "/invocations".to_owned(),
            Self::Own => format!("/own/{endpoint}"),
        };
        let response = running.post(&path, r#"{"instances":[[1.5]]}"#).await;
        if response.status() != 200 {
            return Err(Refusal::of_response(response).await);
        }
        let mut answer: serde_json::Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        Ok(answer["predictions"].take())
    }
}

/// `{"instances": [[1.5]]}`
pub fn request(endpoint: &str) -> PredictRequest {
    let row = Value { kind: Some(Kind::ListValue(ListValue { values: vec![number(1.5)] })) };
    let input = Some(Input::Instances(ListValue { values: vec![row] }));
    PredictRequest { endpoint: endpoint.to_owned(), input, ..Default::default() }
}

/// A number in free JSON.
pub fn number(number: f64) -> Value {
    Value { kind: Some(Kind::NumberValue(number)) }
}

/// The predictions of an answer, as JSON.
pub fn predictions(answer: &PredictResponse) -> serde_json::Value {
    match &answer.output {
        Some(Output::Predictions(value)) => serde_json::to_value(value).unwrap(),
        other => panic!("predictions as JSON, not {other:?}"),
    }
}
