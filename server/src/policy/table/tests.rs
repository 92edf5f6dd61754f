//! A model with a column of bytes, and what reaches it.

use std::sync::Mutex;

use flowgate_proto::v1::{DataType, ErrorReason, PredictRequest, Tensor, Tensors, predict_request::Input};
use futures_util::FutureExt as _;

use super::*;
use crate::{
    balance::{breaker::State, vitals::Ward},
    call::Call,
    dialect::scoring::table::Takes,
    error::Error,
    policy::{
        Over,
        testing::{Then, call, catalog, deployment, endpoint, unary},
    },
};

/// A model, or why it cannot be loaded.
#[derive(Debug)]
struct Model(Result<Vec<Entry>>, Mutex<usize>);

impl Signed for Model {
    fn entries(&self) -> BoxFuture<'_, Result<Vec<Entry>>> {
        *self.1.lock().unwrap() += 1;
        async { self.0.clone() }.boxed()
    }
}

/// What the model gets of one tensor, and how often it was asked what it takes.
async fn sent(model: Option<Result<Vec<Entry>>>, tensor: Tensor) -> (Result<Input>, usize) {
    let config = endpoint("e", vec![deployment("only")]);
    let catalog = catalog(vec![config]);
    let endpoint = Arc::clone(catalog.endpoint("e").unwrap());
    let vitals = Ward::default().of(&endpoint, &endpoint.deployments[0]);
    let model = model.map(|entries| Arc::new(Model(entries, Mutex::default())));
    let seen = Arc::new(Mutex::new(None));
    let note = Arc::clone(&seen);
    let below = Then(move |attempt: Attempt| {
        let Ok(Request::Predict(request)) = attempt.call.payload.typed() else { panic!() };
        *note.lock().unwrap() = request.input.clone();
        async { Ok(unary()) }
    });
    let request = PredictRequest { input: Some(Input::Tensors(Tensors { tensors: vec![tensor] })), ..Default::default() };
    let call = Call { payload: Payload::typed_only(Request::Predict(request)), ..call(false) };
    let attempt = call.attempt(Arc::clone(&endpoint.deployments[0])).unwrap();
    let table = Over(Table::new(model.clone().map(|model| model as Arc<dyn Signed>), Arc::clone(&vitals)), below);
    let answered = table.call(attempt).await.map(|_| ());
    assert_eq!(vitals.breaker.state(), State::Closed);
    let asked = model.map_or(0, |model| *model.1.lock().unwrap());
    (answered.map(|()| seen.lock().unwrap().take().unwrap()), asked)
}

fn bytes() -> Tensor {
    Tensor { data_type: DataType::Bytes.into(), shape: vec![1], byte_strings: vec![(&b"\xff"[..]).into()], ..Tensor::default() }
}

fn entries(is_binary: bool) -> Option<Result<Vec<Entry>>> {
    Some(Ok(vec![Entry { name: Some("b".to_owned()), is_binary, takes: Takes::Value }]))
}

#[tokio::test]
async fn bytes_for_a_column_of_bytes_go_as_a_table() {
    assert!(matches!(sent(entries(true), bytes()).await, (Ok(Input::Frame(frame)), 1) if frame.columns[0].name == "b"));
    assert!(matches!(sent(entries(false), bytes()).await, (Ok(Input::Tensors(_)), 1)));
    assert!(matches!(sent(None, bytes()).await, (Ok(Input::Tensors(_)), 0)), "of somebody else's model nothing is known");
    let numbers = Tensor { data_type: DataType::Bool.into(), shape: vec![1], data: vec![1].into(), ..Tensor::default() };
    assert!(matches!(sent(entries(true), numbers).await, (Ok(Input::Tensors(_)), 0)), "numbers do not wait for the signature");
}

#[tokio::test]
async fn a_column_as_a_table_of_one_is_sent_as_a_column_and_any_other_shape_is_refused() {
    let number = |shape: &[i64]| {
        let count = usize::try_from(shape.iter().product::<i64>()).unwrap();
        let (data_type, data) = (DataType::Bool.into(), vec![1; count].into());
        Tensor { name: "b".to_owned(), data_type, shape: shape.to_vec(), data, ..Tensor::default() }
    };
    let (Ok(Input::Tensors(sent_on)), 1) = sent(entries(false), number(&[2, 1])).await else { panic!() };
    assert_eq!(sent_on.tensors[0].shape, [2]);
    let (told, 1) = sent(entries(false), number(&[2, 3])).await else { panic!() };
    let told = told.unwrap_err().to_string();
    assert!(told.contains("`b` takes one value per row: [2] or [2, 1]"), "{told}");
    assert!(matches!(sent(None, number(&[2, 1])).await, (Ok(Input::Tensors(tensors)), 0) if tensors.tensors[0].shape == [2, 1]));
}

#[tokio::test]
async fn a_model_that_cannot_be_loaded_is_not_sent_a_guess() {
    let failed = Error::new(ErrorReason::GatewayNotServing, "cannot be loaded");
    let (told, _) = sent(Some(Err(failed)), bytes()).await;
    assert_eq!(told.unwrap_err().reason(), ErrorReason::GatewayNotServing);
}
