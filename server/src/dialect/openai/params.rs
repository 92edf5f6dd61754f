//! The body of a request while it is written: which fields the provider lacks, and which the caller's own options replace.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Display,
};

use bytes::Bytes;
use pbjson_types::{Struct, Value};
use serde::{Serialize, Serializer, ser::SerializeMap};

use super::{
    json::{Json, Number, Object, sorted},
    message::PROTOCOL,
};
use crate::{
    dialect::{Ask, Target, Unsupported},
    error::{Error, Result},
};

/// What an operator chose (the model) or a policy has read (the content) is not for options to replace.
pub(super) const RESERVED: [&str; 5] = ["model", "stream", "messages", "prompt", "input"];

/// The two spellings of one parameter.
const MAX_TOKENS: [&str; 2] = ["max_tokens", "max_completion_tokens"];

/// Who is asked, and what happens with parameters that it lacks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules<'a> {
    pub(super) ask: &'a Ask<'a>,
    pub(super) target: &'a Target,
}

/// A request body with the caller's `provider_options` merged in.
#[derive(Debug)]
pub(super) struct Params<'a> {
    rules: Rules<'a>,
    options: BTreeMap<&'a str, &'a Value>,
    object: Object,
}

/// `stream_options` of the caller, with usage asked for.
struct StreamOptions<'a>(Option<&'a Value>);

impl Rules<'_> {
    /// The provider has no place for a field that is set: the call is refused, or the field left out.
    pub(super) fn lack(&self, field: impl Display) -> Result<()> {
        match self.ask.unsupported {
            Unsupported::Refuse => Err(Error::unsupported(field.to_string(), self.target.provider)),
            Unsupported::Drop => {
                tracing::warn!(%field, provider = self.target.provider, "a parameter was left out: the provider does not have it");
                Ok(())
            }
            Unsupported::Ignore => Ok(()),
        }
    }

    /// Whether the provider takes a field, by its name on the wire; if not, as [`Rules::lack`].
    pub(super) fn takes(&self, wire: &str, field: impl Display) -> Result<bool> {
        if self.target.quirks.lacks.contains(&wire) {
            return self.lack(field).map(|()| false);
        }
        Ok(true)
    }
}

impl<'a> Params<'a> {
    /// A body that names the target's model.
    pub(super) fn new(rules: Rules<'a>, options: &'a HashMap<String, Struct>) -> Result<Self> {
        let mut merged = BTreeMap::new();
        // What was said to the protocol holds for all who speak it; what was said to the provider itself wins.
        for entry in [PROTOCOL, rules.target.provider] {
            for (name, value) in options.get(entry).into_iter().flat_map(|options| &options.fields) {
                if RESERVED.contains(&name.as_str()) {
                    return Err(Error::invalid(format!("provider_options.{entry}.{name}"), "is set by the call itself; leave it out"));
                }
                merged.insert(name.as_str(), value);
            }
        }
        let mut params = Self { rules, options: merged, object: Object::default() };
        if !rules.target.model.is_empty() {
            params.object.put("model", &rules.target.model)?;
        }
        Ok(params)
    }

    fn is_replaced(&self, wire: &str) -> bool {
        let has = |name: &str| self.options.contains_key(name);
        if MAX_TOKENS.contains(&wire) { MAX_TOKENS.into_iter().any(has) } else { has(wire) }
    }

    /// Writes `field` of the contract as `wire`, unless an option replaces it.
    pub(super) fn put(&mut self, field: &str, wire: &str, value: &(impl Serialize + ?Sized)) -> Result<()> {
        if self.is_replaced(wire) || !self.rules.takes(wire, field)? {
            return Ok(());
        }
        self.object.put(wire, value)
    }

    /// As [`Params::put`] for a field that may be unset.
    pub(super) fn put_some(&mut self, field: &str, wire: &str, value: Option<impl Serialize>) -> Result<()> {
        value.map_or(Ok(()), |value| self.put(field, wire, &value))
    }

    /// As [`Params::put`] for text that may be empty.
    pub(super) fn put_text(&mut self, field: &str, wire: &str, value: &str) -> Result<()> {
        self.put_some(field, wire, (!value.is_empty()).then_some(value))
    }

    /// As [`Params::put`] for a list or map that may be empty.
    pub(super) fn put_list<T: Serialize>(&mut self, field: &str, wire: &str, values: &[T]) -> Result<()> {
        self.put_some(field, wire, (!values.is_empty()).then_some(values))
    }

    /// As [`Params::put`] for a sampling value.
    pub(super) fn put_number(&mut self, name: &str, value: Option<f64>) -> Result<()> {
        if value.is_some_and(|value| !value.is_finite()) {
            return Err(Error::invalid(name, "must be a finite number"));
        }
        self.put_some(name, name, value.map(Number))
    }

    /// As [`Params::put`] for `logit_bias`.
    pub(super) fn put_bias(&mut self, bias: &HashMap<String, f64>) -> Result<()> {
        if let Some((token, _)) = bias.iter().find(|(_, value)| !value.is_finite()) {
            return Err(Error::invalid(format!("logit_bias.{token}"), "must be a finite number"));
        }
        let bias: BTreeMap<_, _> = bias.iter().map(|(token, value)| (token, Number(*value))).collect();
        self.put_some("logit_bias", "logit_bias", (!bias.is_empty()).then_some(bias))
    }

    /// Refuses a field that the protocol has no place for, if it is set.
    pub(super) fn lack(&self, field: &str, is_set: bool) -> Result<()> {
        if is_set { self.rules.lack(field) } else { Ok(()) }
    }

    /// The body. A streamed answer is asked to report usage, whatever the options say of it.
    pub(super) fn end(mut self) -> Result<Bytes> {
        let streaming = self.rules.ask.streaming;
        let reports = streaming && self.rules.target.quirks.stream_usage;
        if streaming {
            self.object.put("stream", &true)?;
        }
        if reports {
            let own = self.options.get("stream_options").copied();
            self.object.put("stream_options", &StreamOptions(own))?;
        }
        for (name, value) in self.options {
            if name != "stream_options" || (streaming && !reports) {
                self.object.put(name, &Json(value))?;
            }
        }
        Ok(self.object.end())
    }
}

impl Serialize for StreamOptions<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use pbjson_types::value::Kind;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("include_usage", &true)?;
        if let Some(Kind::StructValue(own)) = self.0.and_then(|value| value.kind.as_ref()) {
            for (name, Json(value)) in sorted(own).into_iter().filter(|(name, _)| *name != "include_usage") {
                map.serialize_entry(name, &Json(value))?;
            }
        }
        map.end()
    }
}
