//! The body of a request while it is written: which fields the provider lacks, and which the caller's own options replace.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Display,
};

use bytes::Bytes;
use flowgate_proto::v1::{ErrorReason, RawPart};
use pbjson_types::{Struct, Value, value::Kind};
use serde::Serialize;

use super::{
    Ask, Target, Unsupported,
    json::{Json, Number, Object},
};
use crate::error::{Error, Result};

/// How the bodies of one protocol take `provider_options`.
#[derive(Debug)]
pub(super) struct Shape {
    /// The protocol's name: the entry of `provider_options` that holds for all who speak it, and the provider of raw parts.
    pub(super) protocol: &'static str,
    /// What an operator chose (the model) or a policy has read (the content) is not for options to replace.
    pub(super) reserved: &'static [&'static str],
    /// Spellings of one parameter: an option in one of them replaces the parameter in any.
    pub(super) same: &'static [&'static str],
}

/// Who is asked, and what happens with parameters that it lacks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules<'a> {
    pub(super) ask: &'a Ask<'a>,
    pub(super) target: &'a Target,
    pub(super) shape: &'static Shape,
}

/// A request body with the caller's `provider_options` merged in.
#[derive(Debug)]
pub(super) struct Params<'a> {
    rules: Rules<'a>,
    options: BTreeMap<&'a str, &'a Value>,
    object: Object,
}

impl Rules<'_> {
    /// The provider has no place for a field that is set: the call is refused, or the field left out.
    pub(super) fn lack(&self, field: impl Display) -> Result<()> {
        let provider = self.target.provider;
        self.refuse(&field, || Error::unsupported(field.to_string(), provider))
    }

    /// As [`Rules::lack`], for those of some fields that are set.
    pub(super) fn lack_all(&self, fields: impl IntoIterator<Item = (&'static str, bool)>) -> Result<()> {
        fields.into_iter().filter(|(_, is_set)| *is_set).try_for_each(|(field, _)| self.lack(field))
    }

    /// As [`Rules::lack`], for the address of media that the provider does not fetch.
    pub(super) fn unfetched(&self, field: impl Display) -> Result<()> {
        let provider = self.target.provider;
        self.refuse(&field, || {
            let message = format!(
                "{provider} does not fetch what `{field}` names; send the bytes as `data`, or have the operator set `media.fetch` on the \
                 endpoint"
            );
            Error::new(ErrorReason::CallerUnsupportedParameter, message.clone()).at(field.to_string(), message)
        })
    }

    fn refuse(&self, field: &impl Display, error: impl FnOnce() -> Error) -> Result<()> {
        match self.ask.unsupported {
            Unsupported::Refuse => Err(error()),
            Unsupported::Drop => {
                tracing::warn!(%field, provider = self.target.provider, "a parameter was left out: the provider does not have it");
                Ok(())
            }
            Unsupported::Ignore => Ok(()),
        }
    }

    /// Whether a raw part is in a form that the provider reads.
    pub(super) fn owns(&self, raw: &RawPart) -> bool {
        raw.provider == self.shape.protocol || raw.provider == self.target.provider
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
        Self::unnamed(rules, options)?.named()
    }

    /// As [`Params::new`], for a protocol that also takes what was said to another one; its own options win.
    pub(super) fn also(rules: Rules<'a>, options: &'a HashMap<String, Struct>, other: &str) -> Result<Self> {
        Self::merged(rules, options, &[other, rules.shape.protocol, rules.target.provider])?.named()
    }

    /// A body that does not name the model, since the address does.
    pub(super) fn unnamed(rules: Rules<'a>, options: &'a HashMap<String, Struct>) -> Result<Self> {
        Self::merged(rules, options, &[rules.shape.protocol, rules.target.provider])
    }

    /// What was said to the protocol holds for all who speak it; what was said to the provider itself wins.
    fn merged(rules: Rules<'a>, options: &'a HashMap<String, Struct>, entries: &[&str]) -> Result<Self> {
        let mut merged = BTreeMap::new();
        for entry in entries {
            for (name, value) in options.get(*entry).into_iter().flat_map(|options| &options.fields) {
                if rules.shape.reserved.contains(&name.as_str()) {
                    return Err(Error::invalid(format!("provider_options.{entry}.{name}"), "is set by the call itself; leave it out"));
                }
                // What was said to the provider itself goes there, whatever its row knows.
                if *entry == rules.shape.protocol && !rules.takes(name, format_args!("provider_options.{entry}.{name}"))? {
                    continue;
                }
                merged.insert(name.as_str(), value);
            }
        }
        Ok(Self { rules, options: merged, object: Object::default() })
    }

    fn named(mut self) -> Result<Self> {
        if !self.rules.target.model.is_empty() {
            self.object.put("model", &self.rules.target.model)?;
        }
        Ok(self)
    }

    /// The rules that it was made with.
    pub(super) fn rules(&self) -> Rules<'a> {
        self.rules
    }

    /// Whether an option stands for the field.
    pub(super) fn is_replaced(&self, wire: &str) -> bool {
        let has = |name: &str| self.options.contains_key(name);
        if self.rules.shape.same.contains(&wire) { self.rules.shape.same.iter().any(|name| has(name)) } else { has(wire) }
    }

    /// Takes an option out, for whoever writes it in a way of its own.
    pub(super) fn take_option(&mut self, wire: &str) -> Option<&'a Value> {
        self.options.remove(wire)
    }

    /// An object within the body, written by `fill`; left out when that writes nothing. An option of its name is merged into it field by
    /// field, or replaces it where the option is no object.
    ///
    /// # Errors
    /// Those of `fill`.
    pub(super) fn nest(&mut self, wire: &str, fill: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let own = match self.options.get(wire).and_then(|value| value.kind.as_ref()) {
            Some(Kind::StructValue(own)) => own.fields.iter().map(|(name, value)| (name.as_str(), value)).collect(),
            Some(_) => return Ok(()),
            None => BTreeMap::new(),
        };
        self.options.remove(wire);
        let mut inner = Self { rules: self.rules, options: own, object: Object::default() };
        fill(&mut inner)?;
        let body = inner.end()?;
        if *body != *b"{}" { self.object.put_json(wire, &body) } else { Ok(()) }
    }

    /// Writes a field that is not of the contract and that no option replaces.
    pub(super) fn set(&mut self, wire: &str, value: &(impl Serialize + ?Sized)) -> Result<()> {
        self.object.put(wire, value)
    }

    /// Writes `field` of the contract as `wire`, unless an option replaces it.
    pub(super) fn put(&mut self, field: &str, wire: &str, value: &(impl Serialize + ?Sized)) -> Result<()> {
        let spelled = self.rules.target.quirks.renames.iter().find(|(name, _)| *name == wire).map_or(wire, |(_, own)| own);
        if self.is_replaced(wire) || self.is_replaced(spelled) || !self.rules.takes(wire, field)? {
            return Ok(());
        }
        self.object.put(spelled, value)
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
    pub(super) fn put_number(&mut self, field: &str, wire: &str, value: Option<f64>) -> Result<()> {
        if value.is_some_and(|value| !value.is_finite()) {
            return Err(Error::invalid(field, "must be a finite number"));
        }
        self.put_some(field, wire, value.map(Number))
    }

    /// As [`Params::put`] for `logit_bias`.
    pub(super) fn put_bias(&mut self, bias: &HashMap<String, f64>) -> Result<()> {
        if let Some((token, _)) = bias.iter().find(|(_, value)| !value.is_finite()) {
            return Err(Error::invalid(format!("logit_bias.{token}"), "must be a finite number"));
        }
        let bias: BTreeMap<_, _> = bias.iter().map(|(token, value)| (token, Number(*value))).collect();
        self.put_some("logit_bias", "logit_bias", (!bias.is_empty()).then_some(bias))
    }

    /// As [`Params::put_some`] for a field that only some speakers of the protocol take.
    pub(super) fn put_extra(&mut self, field: &str, wire: &str, value: Option<impl Serialize>) -> Result<()> {
        if self.rules.target.quirks.takes.contains(&wire) { self.put_some(field, wire, value) } else { self.lack(field, value.is_some()) }
    }

    /// Refuses a field that the protocol has no place for, if it is set.
    pub(super) fn lack(&self, field: &str, is_set: bool) -> Result<()> {
        if is_set { self.rules.lack(field) } else { Ok(()) }
    }

    /// The body, the caller's further options last.
    pub(super) fn end(mut self) -> Result<Bytes> {
        for (name, value) in self.options {
            self.object.put(name, &Json(value))?;
        }
        Ok(self.object.end())
    }
}
