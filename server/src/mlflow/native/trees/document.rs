//! A document of plain values, out of JSON or UBJSON; long rows of numbers take eight bytes a number.

use std::{borrow::Cow, fmt};

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::mlflow::native::fault::Fault;

/// A value. What no number is, `null` among numbers, is NaN.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Document {
    Null,
    Flag(bool),
    Number(f64),
    Text(String),
    Numbers(Vec<f64>),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
}

impl Document {
    /// Reads JSON, in which the numbers that JSON lacks may stand too.
    ///
    /// # Errors
    /// Where it is no JSON.
    pub(super) fn from_json(bytes: &[u8]) -> Result<Self, Fault> {
        serde_json::from_slice(&without_nan(bytes)).map_err(|error| Fault::broken(format!("no JSON: {error}")))
    }

    /// The field of an object.
    ///
    /// # Errors
    /// When it is none, or lacks it.
    pub(super) fn field(&self, name: &str) -> Result<&Self, Fault> {
        self.find(name).ok_or_else(|| Fault::new(format!("the field `{name}` is missing")))
    }

    /// The field of an object, if there is one.
    pub(super) fn find(&self, name: &str) -> Option<&Self> {
        let Self::Object(fields) = self else { return None };
        fields.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// The field, as text.
    ///
    /// # Errors
    /// When it is missing, or is none.
    pub(super) fn text(&self, name: &str) -> Result<&str, Fault> {
        match self.field(name)? {
            Self::Text(text) => Ok(text),
            _ => Err(Fault::new(format!("the field `{name}` is no text"))),
        }
    }

    /// The field, a number or the text of one.
    ///
    /// # Errors
    /// When it is missing, or is no number of things.
    pub(super) fn count(&self, name: &str) -> Result<usize, Fault> {
        let number = match self.field(name)? {
            Self::Number(number) => Some(*number),
            Self::Text(text) => text.parse().ok(),
            _ => None,
        };
        number.and_then(whole).ok_or_else(|| Fault::new(format!("the field `{name}` is no count")))
    }

    /// The field, as numbers.
    ///
    /// # Errors
    /// When it is missing, or holds anything else.
    pub(super) fn numbers(&self, name: &str) -> Result<&[f64], Fault> {
        match self.field(name)? {
            Self::Numbers(numbers) => Ok(numbers),
            _ => Err(Fault::new(format!("the field `{name}` is no list of numbers"))),
        }
    }

    /// The field, as a list of anything but numbers.
    ///
    /// # Errors
    /// When it is missing, or is none.
    pub(super) fn list(&self, name: &str) -> Result<&[Self], Fault> {
        match self.field(name)? {
            Self::List(list) => Ok(list),
            Self::Numbers(numbers) if numbers.is_empty() => Ok(&[]),
            _ => Err(Fault::new(format!("the field `{name}` is no list"))),
        }
    }

    /// A list of these values.
    pub(super) fn of_list(list: Vec<Self>) -> Self {
        let number = |value: &Self| match value {
            Self::Number(number) => Some(*number),
            Self::Null => Some(f64::NAN),
            _ => None,
        };
        match list.iter().map(number).collect() {
            Some(numbers) => Self::Numbers(numbers),
            None => Self::List(list),
        }
    }
}

/// A number that counts or indexes something.
pub(super) fn whole(number: f64) -> Option<usize> {
    #[expect(clippy::cast_possible_truncation, reason = "it is whole and within bounds")]
    (number >= 0.0 && number <= f64::from(u32::MAX) && number.fract() == 0.0).then_some(number as usize)
}

/// XGBoost writes `NaN` where a node has no threshold.
fn without_nan(bytes: &[u8]) -> Cow<'_, [u8]> {
    if !bytes.windows(3).any(|three| three == b"NaN") {
        return Cow::Borrowed(bytes);
    }
    let (mut out, mut at, mut in_text) = (Vec::with_capacity(bytes.len()), 0, false);
    while let Some(&byte) = bytes.get(at) {
        if !in_text && bytes[at..].starts_with(b"NaN") {
            out.extend_from_slice(b"null");
            at += 3;
            continue;
        }
        in_text ^= byte == b'"';
        let taken = if in_text && byte == b'\\' { 2 } else { 1 };
        out.extend_from_slice(&bytes[at..(at + taken).min(bytes.len())]);
        at += taken;
    }
    Cow::Owned(out)
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Document;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Document, E> {
        Ok(Document::Null)
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<Document, E> {
        Ok(Document::Flag(flag))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Document, E> {
        Ok(Document::Number(number as f64))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Document, E> {
        Ok(Document::Number(number as f64))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Document, E> {
        Ok(Document::Number(number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Document, E> {
        Ok(Document::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Document, A::Error> {
        let mut numbers = Vec::new();
        while let Some(value) = seq.next_element()? {
            match value {
                Document::Number(number) => numbers.push(number),
                Document::Null => numbers.push(f64::NAN),
                other => {
                    let mut list: Vec<Document> = numbers.into_iter().map(Document::Number).collect();
                    list.push(other);
                    while let Some(value) = seq.next_element()? {
                        list.push(value);
                    }
                    return Ok(Document::List(list));
                }
            }
        }
        Ok(Document::Numbers(numbers))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(Document::Object(fields))
    }
}
