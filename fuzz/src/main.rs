//! One program for all targets: which one it is stands in `FUZZ_TARGET`. A row of the registry, or one of [`OTHERS`].

#![no_main]

mod batch;
mod doors;
mod framers;
mod inference;
mod judge;
mod models;
mod rows;

use std::{env, sync::LazyLock};

use flowgate_server::provider;
use libfuzzer_sys::fuzz_target;

/// Takes one input and panics when something is wrong.
type Feed = Box<dyn Fn(&[u8]) + Send + Sync>;

/// The targets that are no rows.
const OTHERS: [(&str, fn(&[u8])); 13] = [
    ("framers", framers::feed),
    ("door-openai", doors::openai),
    ("door-scoring", doors::scoring),
    ("door-oip", inference::grpc),
    ("door-oip-rest", inference::rest),
    ("oip-answers", inference::answer),
    ("batches", batch::feed),
    ("agents", rows::agents),
    ("model-onnx", models::onnx),
    ("model-xgboost", models::xgboost),
    ("model-lightgbm", models::lightgbm),
    ("model-file", models::model_file),
    ("model-body", models::body),
];

static TARGET: LazyLock<Feed> = LazyLock::new(|| {
    let name = env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target");
    if let Some((_, feed)) = OTHERS.iter().find(|(other, _)| *other == name) {
        return Box::new(feed);
    }
    let row = provider::find(&name).expect("FUZZ_TARGET is a provider, or one of the others");
    Box::new(|input| rows::feed(row, input))
});

fuzz_target!(|input: &[u8]| TARGET(input));
