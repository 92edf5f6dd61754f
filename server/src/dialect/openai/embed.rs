//! Embeddings in both directions: lists of numbers, or base64 of little-endian 32-bit floats.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use flowgate_proto::v1::{EmbedRequest, EmbedResponse, Embedding};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    answer::index,
    end,
    usage::{self, UsageOut},
};
use crate::dialect::errors::{Errors, bad_answer, is_bare_error};
use crate::dialect::json::{Count, Fields, Str, place};
use crate::dialect::params::{Params, Rules};
use crate::error::{Error, Result};

/// An answer of embeddings. It has no further fields that the contract could keep.
#[derive(Default, Deserialize)]
#[serde(default)]
struct AnswerIn<'a> {
    #[serde(borrow)]
    model: Option<Str<'a>>,
    #[serde(rename = "data")]
    vectors: Option<Vec<EmbeddingIn>>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

/// One vector.
#[derive(Deserialize)]
struct EmbeddingIn {
    #[serde(default)]
    index: Count,
    embedding: Vector,
}

/// A vector in either form.
struct Vector(Vec<f32>);

impl<'de> Deserialize<'de> for Vector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Vector;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of numbers or base64 of 32-bit floats")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Vector, E> {
                floats(text).map(Vector).ok_or_else(|| E::custom("not base64 of 32-bit floats"))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vector, A::Error> {
                let mut values = Vec::with_capacity(seq.size_hint().unwrap_or(1536));
                while let Some(value) = seq.next_element()? {
                    values.push(value);
                }
                Ok(Vector(values))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum OneOrMany<'a, T> {
    One(&'a T),
    Many(&'a [T]),
}

#[derive(Serialize)]
struct AnswerOut<'a> {
    object: &'static str,
    data: Vec<EmbeddingOut<'a>>,
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<UsageOut>,
}

#[derive(Serialize)]
struct EmbeddingOut<'a> {
    object: &'static str,
    index: u32,
    embedding: VectorOut<'a>,
}

/// How vectors are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// A list of numbers.
    #[default]
    Float,
    /// Base64 of little-endian 32-bit floats.
    Base64,
}

struct VectorOut<'a>(&'a [f32], Encoding);

impl Serialize for VectorOut<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.1 {
            Encoding::Float => self.0.serialize(serializer),
            Encoding::Base64 => {
                let bytes: Vec<u8> = self.0.iter().flat_map(|value| value.to_le_bytes()).collect();
                serializer.serialize_str(&STANDARD.encode(bytes))
            }
        }
    }
}

/// The body of an embeddings call.
pub(super) fn encode(request: &EmbedRequest, rules: Rules<'_>) -> Result<Bytes> {
    let mut params = Params::new(rules, &request.provider_options)?;
    let tokens: Vec<&[u32]> = request.token_inputs.iter().map(|input| input.ids.as_slice()).collect();
    match (request.inputs.as_slice(), tokens.as_slice()) {
        ([], []) => return Err(Error::invalid("inputs", "must hold at least one text")),
        ([text], []) => params.put("inputs", "input", &OneOrMany::One(text))?,
        (texts, []) => params.put("inputs", "input", &OneOrMany::Many(texts))?,
        ([], [ids]) => params.put("token_inputs", "input", &OneOrMany::One(ids))?,
        ([], many) => params.put("token_inputs", "input", &OneOrMany::Many(many))?,
        _ => return Err(Error::invalid("token_inputs", "cannot go together with `inputs`")),
    }
    params.put_some("dimensions", "dimensions", request.dimensions)?;
    params.put_text("user", "user", &request.user)?;
    end(params)
}

/// An answer of embeddings, its vectors in the order of the inputs.
pub(super) fn decode(body: &[u8], errors: Errors) -> Result<EmbedResponse> {
    let answer: AnswerIn<'_> = serde_json::from_slice(body).map_err(|error| bad_answer(format!("the answer at {}", place(&error))))?;
    errors.pass(answer.error, body)?;
    let Some(vectors) = answer.vectors.filter(|vectors| !vectors.is_empty()) else {
        let fields: Fields<'_> = serde_json::from_slice(body).unwrap_or_default();
        return Err(if is_bare_error(&fields.0) { errors.of_frame(body) } else { bad_answer("the answer has no data") });
    };
    let mut embeddings = Vec::with_capacity(vectors.len());
    for (n, vector) in vectors.into_iter().enumerate() {
        embeddings.push(Embedding { index: index(vector.index, n), values: vector.embedding.0 });
    }
    embeddings.sort_by_key(|embedding| embedding.index);
    Ok(EmbedResponse {
        model: answer.model.map(String::from).unwrap_or_default(),
        embeddings,
        usage: usage::read(answer.usage, errors.quirks()),
        call: None,
    })
}

fn floats(text: &str) -> Option<Vec<f32>> {
    let bytes = STANDARD.decode(text).ok()?;
    let (values, rest) = bytes.as_chunks::<4>();
    rest.is_empty().then(|| values.iter().map(|value| f32::from_le_bytes(*value)).collect())
}

/// An answer as OpenAI writes it.
pub(super) fn write(answer: &EmbedResponse, model: &str, encoding: Encoding) -> Result<Bytes> {
    let vectors = answer.embeddings.iter().map(|embedding| EmbeddingOut {
        object: "embedding",
        index: embedding.index,
        embedding: VectorOut(&embedding.values, encoding),
    });
    let out = AnswerOut {
        object: "list",
        data: vectors.collect(),
        model: if answer.model.is_empty() { model } else { &answer.model },
        usage: answer.usage.as_ref().map(usage::write),
    };
    let mut body = Vec::new();
    crate::dialect::json::write(&mut body, &out)?;
    Ok(body.into())
}
