//! Models of MLflow's that are answered in this process, in its scoring protocol: a body in, a status and a body out.
//!
//! A folder becomes an engine (ONNX, by our engine or else by ONNX Runtime; XGBoost's or LightGBM's own trees) and a plan, which says once and for all where each column or
//! tensor of a request goes. A request is read in one pass into untyped values (`request`, `csv`), laid out as the model's inputs and
//! checked on the way (`feed`, `want`), and answered (`engine`, `answer`). It answers as MLflow's own server does, except where
//! that one is wrong: no number is changed silently, binary is base64 in every form, NaN is null, a failure of the model is 500, and no
//! text repeats the input.
//!
//! Beyond MLflow, models of trees take `"params": {"explain": true}`. Each prediction is then an object: `prediction`, and `contributions`
//! (per feature, by the names of the signature) and `bias`, which add up to the raw score, before the objective's transform; with several
//! scores a list of each.

mod answer;
mod csv;
mod engine;
mod feed;
mod grid;
mod load;
mod message;
mod params;
mod plan;
mod refusal;
mod request;
mod want;

#[cfg(test)]
mod tests;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use http::{HeaderValue, StatusCode};

pub use self::load::{Beyond, Unfit};
use self::{
    engine::Engine,
    feed::Feed,
    plan::Plan,
    refusal::{Refusal, Unlaid},
    request::Request,
};
pub use super::native::Stop;
use super::{
    model_file::ModelFile,
    native::{MOST_BYTES, Tensor, Type},
    signature::Signature,
};
use crate::dialect::scoring::{message::MEDIA, without_nan};

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A model of an MLflow folder that is answered in this process, from any number of threads.
#[derive(Debug)]
pub struct Native {
    engine: Engine,
    plan: Plan,
    signature: Option<Signature>,
    bytes: u64,
    /// What it is called in the log.
    name: Arc<str>,
    /// Whether it has been said that a call had parameters which it does not know.
    has_said: AtomicBool,
}

/// How a request's body is written.
#[derive(Clone, Copy, Debug)]
pub enum Written<'a> {
    /// As its content type says.
    As(Option<&'a str>),
    /// As the contract's own message, by Flowgate itself, which has judged the tensors in it; see [`crate::dialect::scoring::message`].
    Message,
}

/// Why a request is not ready to be predicted.
#[derive(Debug)]
pub enum Unread {
    /// The answer to what the model cannot be given.
    Refused(Scored),
    /// Laid out for the model it takes more room than it was given.
    Large,
}

/// A request that is read and laid out for the model.
#[derive(Debug)]
pub struct Ask {
    feed: Feed,
    explain: bool,
    /// Whether predictions that are tensors are wanted as a message of them.
    in_tensors: bool,
}

/// The answer to a scoring request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scored {
    /// 200; 400 for what the caller did wrong, 415 for a content type, 500 for what the model did.
    pub status: StatusCode,
    /// What the body is: JSON, or the contract's own message.
    pub content_type: HeaderValue,
    /// JSON: `{"predictions": …}`, or `{"error_code", "message"}`; or a `PredictResponse` with tensors, where the request wanted them.
    pub body: Bytes,
}

impl Native {
    /// Reads a model's folder and makes it ready to answer. It blocks.
    ///
    /// # Errors
    /// When the model needs what only Python has, or its files are damaged.
    pub fn load(folder: &Path, file: &ModelFile, others: Beyond<'_>) -> Result<Self, Unfit> {
        let loaded = load::load(folder, file, others)?;
        Ok(Self {
            engine: loaded.engine,
            plan: loaded.plan,
            signature: file.signature.clone(),
            bytes: loaded.bytes,
            name: "".into(),
            has_said: AtomicBool::new(false),
        })
    }

    /// The same, called so in the log.
    #[must_use]
    pub fn called(self, name: &Arc<str>) -> Self {
        Self { name: Arc::clone(name), ..self }
    }

    /// Answers a scoring request as MLflow's server would. It computes, and waits for nothing; told to stop, it fails.
    pub fn answer(&self, written: Written<'_>, body: &[u8], stop: &Stop) -> Scored {
        match self.read(written, body, MOST_BYTES) {
            Ok(ask) => self.predict(ask, stop),
            Err(Unread::Refused(refused)) => refused,
            Err(Unread::Large) => Refusal::too_large().into(),
        }
    }

    /// Reads a request, which takes time by the length of the body, and lays it out for the model in no more than so many bytes: a value
    /// that is sent once may stand in every row.
    ///
    /// # Errors
    /// What the model cannot be given, or that it takes more.
    pub fn read(&self, written: Written<'_>, body: &[u8], room: usize) -> Result<Ask, Unread> {
        let ask = match written {
            Written::As(content_type) => match Media::of(content_type)? {
                Media::Json => self.json(body, room)?,
                Media::Csv => self.ask(&csv::read(body)?, false, room)?,
            },
            Written::Message => {
                let message = message::decode(body)?;
                let (request, in_tensors) = message::read(&message)?;
                self.ask(&request, in_tensors, room)?
            }
        };
        Ok(ask)
    }

    /// Answers what was read, which takes what time the model needs; told to stop, it fails.
    pub fn predict(&self, ask: Ask, stop: &Stop) -> Scored {
        let Ask { mut feed, explain, in_tensors } = ask;
        let answered = self.engine.answer(&mut feed, explain, stop);
        let written = answered.and_then(|answer| {
            let message = if in_tensors { message::write(&answer, feed.is_table, feed.rows)? } else { None };
            match message {
                Some(message) => Ok(Scored::well(MEDIA, message)),
                None => answer::write(&answer, feed.is_table, feed.rows).map(|json| Scored::well(JSON, json)),
            }
        });
        written.unwrap_or_else(Scored::from)
    }

    /// About how many bytes of memory it takes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What it takes and gives: as its `MLmodel` says, else as the graph of an ONNX model does.
    pub fn signature(&self) -> Option<Signature> {
        let graph = self.engine.signature(self.plan.is_table(false));
        let Some(signature) = self.signature.clone() else { return graph };
        let (inputs, outputs) = graph.map(|graph| (graph.inputs, graph.outputs)).unwrap_or_default();
        Some(Signature { inputs: signature.inputs.or(inputs), outputs: signature.outputs.or(outputs), params: signature.params })
    }

    fn json(&self, body: &[u8], room: usize) -> Result<Ask, Unlaid> {
        let refusal = match request::read(body) {
            Ok(request) => return self.ask(&request, false, room),
            Err(refusal) => refusal,
        };
        // Python writes NaN where it has no number. An infinity is a number, which JSON cannot say.
        let has_nan = memchr::memmem::find(body, b"NaN").is_some();
        let legal = has_nan.then(|| without_nan(body)).flatten().ok_or(refusal)?;
        self.ask(&request::read(&legal)?, false, room)
    }

    fn ask(&self, request: &Request<'_>, in_tensors: bool, room: usize) -> Result<Ask, Unlaid> {
        let declared = self.signature.as_ref().and_then(|signature| signature.params.as_deref());
        let asked = params::read(request.params.as_ref(), declared)?;
        if asked.is_more && !self.has_said.swap(true, Relaxed) {
            let known: Vec<&str> = declared.unwrap_or_default().iter().map(|param| param.name.as_str()).collect();
            let (model, known) = (&self.name, known.join(", "));
            tracing::warn!(%model, known, "a call has `params` that the model does not know; such are ignored, as MLflow does; said once");
        }
        Ok(Ask { feed: self.plan.feed(request, room)?, explain: asked.explain, in_tensors })
    }
}

impl Ask {
    /// How many values the model is given, where its time hangs on that; `None` where it may take any.
    pub fn values(&self) -> Option<usize> {
        let is_even = !self.explain && self.feed.tensors.iter().all(|tensor| tensor.kind() != Type::Text);
        is_even.then(|| self.feed.tensors.iter().map(Tensor::len).sum())
    }
}

impl Scored {
    fn well(content_type: HeaderValue, body: Vec<u8>) -> Self {
        Self { status: StatusCode::OK, content_type, body: body.into() }
    }
}

impl From<Refusal> for Scored {
    fn from(refusal: Refusal) -> Self {
        Self { status: refusal.status, content_type: JSON, body: refusal.body().into() }
    }
}

impl From<Unlaid> for Unread {
    fn from(unlaid: Unlaid) -> Self {
        match unlaid {
            Unlaid::Refused(refusal) => Self::Refused(refusal.into()),
            Unlaid::Large => Self::Large,
        }
    }
}

impl From<Refusal> for Unread {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal.into())
    }
}

/// What a content type says.
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
                return Err(Refusal::media("Unrecognized content type parameters"));
            }
            if !value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8") {
                return Err(Refusal::media("The scoring server only supports UTF-8"));
            }
        }
        match kind.to_ascii_lowercase().as_str() {
            "application/json" => Ok(Self::Json),
            "text/csv" => Ok(Self::Csv),
            _ => Err(Refusal::media("This predictor does not support the content type")),
        }
    }
}
