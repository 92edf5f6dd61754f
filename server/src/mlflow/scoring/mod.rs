//! Models of MLflow's that are answered in this process, in its scoring protocol: a body in, a status and a body out.
//!
//! A folder becomes an engine (ONNX, by our engine or else by ONNX Runtime; XGBoost's or LightGBM's own trees) and a plan, which says once and for all where each column or
//! tensor of a request goes. A request is read in one pass into untyped values (`request`, `csv`), laid out as the model's inputs and
//! checked on the way (`feed`, `want`), and answered (`engine`, `answer`). It answers as MLflow's own server does, except where
//! that one is wrong: no number is changed silently, binary is base64 in every form, NaN is null, a failure of the model is 500, and no
//! text repeats the input.
//!
//! Beyond MLflow, models of trees take `"params": {"explain": true}`. Each prediction is then an object: `prediction`, and `contributions`
//! (per feature) and `bias`, which add up to the raw score, before the objective's transform; with several scores a list of each.

mod answer;
mod csv;
mod engine;
mod feed;
mod grid;
mod load;
mod params;
mod plan;
mod refusal;
mod request;
mod want;

#[cfg(test)]
mod tests;

use std::path::Path;

use bytes::Bytes;
use http::StatusCode;

pub use self::load::{Beyond, Unfit};
use self::{engine::Engine, feed::Feed, plan::Plan, refusal::Refusal, request::Request};
pub use super::native::Stop;
use super::{
    model_file::ModelFile,
    native::{Tensor, Type},
    signature::Signature,
};
use crate::dialect::scoring::without_nan;

/// A model of an MLflow folder that is answered in this process, from any number of threads.
#[derive(Debug)]
pub struct Native {
    engine: Engine,
    plan: Plan,
    signature: Option<Signature>,
    bytes: u64,
}

/// A request that is read and laid out for the model.
#[derive(Debug)]
pub struct Ask {
    feed: Feed,
    explain: bool,
}

/// The answer to a scoring request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scored {
    /// 200; 400 for what the caller did wrong, 415 for a content type, 500 for what the model did.
    pub status: StatusCode,
    /// JSON: `{"predictions": …}`, or `{"error_code", "message"}`.
    pub body: Bytes,
}

impl Native {
    /// Reads a model's folder and makes it ready to answer. It blocks.
    ///
    /// # Errors
    /// When the model needs what only Python has, or its files are damaged.
    pub fn load(folder: &Path, file: &ModelFile, others: Beyond<'_>) -> Result<Self, Unfit> {
        let loaded = load::load(folder, file, others)?;
        Ok(Self { engine: loaded.engine, plan: loaded.plan, signature: file.signature.clone(), bytes: loaded.bytes })
    }

    /// Answers a scoring request as MLflow's server would. It computes, and waits for nothing; told to stop, it fails.
    pub fn answer(&self, content_type: Option<&str>, body: &[u8], stop: &Stop) -> Scored {
        self.read(content_type, body).map_or_else(|refused| refused, |ask| self.predict(ask, stop))
    }

    /// Reads a request and lays it out for the model, which takes time by the length of the body.
    ///
    /// # Errors
    /// The answer to what the model cannot be given.
    pub fn read(&self, content_type: Option<&str>, body: &[u8]) -> Result<Ask, Scored> {
        let ask = match Media::of(content_type) {
            Ok(Media::Json) => self.json(body),
            Ok(Media::Csv) => csv::read(body).and_then(|request| self.ask(&request)),
            Err(refusal) => Err(refusal),
        };
        ask.map_err(Scored::from)
    }

    /// Answers what was read, which takes what time the model needs; told to stop, it fails.
    pub fn predict(&self, ask: Ask, stop: &Stop) -> Scored {
        let Ask { mut feed, explain } = ask;
        let answered = self.engine.answer(&mut feed, explain, stop);
        let written = answered.and_then(|answer| answer::write(&answer, feed.is_table, feed.rows));
        written.map_or_else(Scored::from, |body| Scored { status: StatusCode::OK, body: body.into() })
    }

    /// About how many bytes of memory it takes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What it takes and gives, as its `MLmodel` says.
    pub fn signature(&self) -> Option<&Signature> {
        self.signature.as_ref()
    }

    fn json(&self, body: &[u8]) -> Result<Ask, Refusal> {
        let refusal = match request::read(body) {
            Ok(request) => return self.ask(&request),
            Err(refusal) => refusal,
        };
        // Python writes NaN where it has no number. An infinity is a number, which JSON cannot say.
        let has_nan = memchr::memmem::find(body, b"NaN").is_some();
        let legal = has_nan.then(|| without_nan(body)).flatten().ok_or(refusal)?;
        request::read(&legal).and_then(|request| self.ask(&request))
    }

    fn ask(&self, request: &Request<'_>) -> Result<Ask, Refusal> {
        let declared = self.signature.as_ref().and_then(|signature| signature.params.as_deref());
        let explain = params::explain(request.params.as_ref(), declared)?;
        Ok(Ask { feed: self.plan.feed(request)?, explain })
    }
}

impl Ask {
    /// How many values the model is given, where its time hangs on that; `None` where it may take any.
    pub fn values(&self) -> Option<usize> {
        let is_even = !self.explain && self.feed.tensors.iter().all(|tensor| tensor.kind() != Type::Text);
        is_even.then(|| self.feed.tensors.iter().map(Tensor::len).sum())
    }
}

impl From<Refusal> for Scored {
    fn from(refusal: Refusal) -> Self {
        Self { status: refusal.status, body: refusal.body().into() }
    }
}

/// What a body is.
enum Media {
    Json,
    Csv,
}

impl Media {
    fn of(content_type: Option<&str>) -> Result<Self, Refusal> {
        let mut parts = content_type.unwrap_or_default().split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default();
        for parameter in parts.filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            if !name.trim().eq_ignore_ascii_case("charset") {
                return Err(Refusal::media("Unrecognized content type parameters; the only one that is taken is `charset=utf-8`"));
            }
            if !value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8") {
                return Err(Refusal::media("The scoring server only supports UTF-8"));
            }
        }
        match kind.to_ascii_lowercase().as_str() {
            "application/json" => Ok(Self::Json),
            "text/csv" => Ok(Self::Csv),
            "application/vnd.apache.parquet" => Err(Refusal::media(
                "This model runs inside the gateway, which does not read Parquet; send `application/json` or `text/csv`",
            )),
            _ => Err(Refusal::media("This predictor only supports the following content types: 'text/csv', 'application/json'")),
        }
    }
}
