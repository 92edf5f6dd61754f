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
use self::{engine::Engine, plan::Plan, refusal::Refusal, request::Request};
use super::{model_file::ModelFile, signature::Signature};
use crate::dialect::scoring::without_python_tokens;

/// A model of an MLflow folder that is answered in this process, from any number of threads.
#[derive(Debug)]
pub struct Native {
    engine: Engine,
    plan: Plan,
    signature: Option<Signature>,
    bytes: u64,
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

    /// Answers a scoring request as MLflow's server would. It computes, and waits for nothing.
    pub fn answer(&self, content_type: Option<&str>, body: &[u8]) -> Scored {
        let answered = match Media::of(content_type) {
            Ok(Media::Json) => self.json(body),
            Ok(Media::Csv) => csv::read(body).and_then(|request| self.predict(&request)),
            Err(refusal) => Err(refusal),
        };
        match answered {
            Ok(body) => Scored { status: StatusCode::OK, body: body.into() },
            Err(refusal) => Scored { status: refusal.status, body: refusal.body().into() },
        }
    }

    /// About how many bytes of memory it takes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What it takes and gives, as its `MLmodel` says.
    pub fn signature(&self) -> Option<&Signature> {
        self.signature.as_ref()
    }

    fn json(&self, body: &[u8]) -> Result<Vec<u8>, Refusal> {
        let has = |token: &[u8]| memchr::memmem::find(body, token).is_some();
        match request::read(body) {
            Ok(request) => self.predict(&request),
            // Python writes NaN where it has no number. An infinity is a number, which JSON cannot say.
            Err(_) if has(b"NaN") && !has(b"Infinity") => {
                let legal = without_python_tokens(body);
                request::read(&legal).and_then(|request| self.predict(&request))
            }
            Err(refusal) => Err(refusal),
        }
    }

    fn predict(&self, request: &Request<'_>) -> Result<Vec<u8>, Refusal> {
        let declared = self.signature.as_ref().and_then(|signature| signature.params.as_deref());
        let explain = params::explain(request.params.as_ref(), declared)?;
        let mut feed = self.plan.feed(request)?;
        let answer = self.engine.answer(&mut feed, explain)?;
        Ok(answer::write(&answer, feed.is_table, feed.rows))
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
