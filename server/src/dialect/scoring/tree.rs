//! A JSON tree that keeps what a typed answer needs: exact integers and the order of keys. Borrows its texts.

use std::{borrow::Cow, fmt};

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

/// A JSON value.
#[derive(Debug)]
pub(super) enum Json<'a> {
    Null,
    Bool(bool),
    /// A whole number within int64.
    Integer(i64),
    /// A whole number above int64 and within uint64.
    Unsigned(u64),
    Double(f64),
    Text(Cow<'a, str>),
    List(Vec<Self>),
    Object(Vec<(Cow<'a, str>, Self)>),
}

/// What a scalar is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Bool,
    Integer,
    Unsigned,
    Double,
    Text,
}

/// Why predictions cannot be what was asked for, in words that go on from "the predictions".
#[derive(Clone, Copy, Debug)]
pub(super) enum Unfit {
    /// Their shape; as JSON they have one.
    Shape(&'static str),
    /// A number, which only the body as it came holds exactly.
    Number(&'static str),
}

impl Json<'_> {
    /// What it is; `None` for lists and objects.
    pub(super) fn kind(&self) -> Option<Kind> {
        Some(match self {
            Self::Null => Kind::Null,
            Self::Bool(_) => Kind::Bool,
            Self::Integer(_) => Kind::Integer,
            Self::Unsigned(_) => Kind::Unsigned,
            Self::Double(_) => Kind::Double,
            Self::Text(_) => Kind::Text,
            Self::List(_) | Self::Object(_) => return None,
        })
    }

    /// The number as a double, NaN for null; `None` when it is none, or a whole number that no double holds.
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "what is lost is found and refused")]
    pub(super) fn as_double(&self) -> Option<f64> {
        match self {
            Self::Null => Some(f64::NAN),
            Self::Double(number) => Some(*number),
            Self::Integer(number) => Some(*number as f64).filter(|double| *double as i128 == i128::from(*number)),
            Self::Unsigned(number) => Some(*number as f64).filter(|double| *double as i128 == i128::from(*number)),
            Self::Bool(_) | Self::Text(_) | Self::List(_) | Self::Object(_) => None,
        }
    }
}

impl Kind {
    /// The kind of a column that holds both; `None` when there is none.
    pub(super) fn join(self, other: Self) -> Option<Self> {
        match (self, other) {
            (a, b) if a == b => Some(a),
            (Self::Null, kind) | (kind, Self::Null) => Some(kind),
            (Self::Integer, Self::Unsigned) | (Self::Unsigned, Self::Integer) => Some(Self::Unsigned),
            (Self::Double, Self::Integer | Self::Unsigned) | (Self::Integer | Self::Unsigned, Self::Double) => Some(Self::Double),
            _ => None,
        }
    }
}

struct Reader;

impl<'de> Deserialize<'de> for Json<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

impl<'de> Visitor<'de> for Reader {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Json<'de>, E> {
        Ok(Json::Bool(truth))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Json<'de>, E> {
        Ok(Json::Integer(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json<'de>, E> {
        Ok(i64::try_from(number).map_or(Json::Unsigned(number), Json::Integer))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Json<'de>, E> {
        Ok(Json::Double(number))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json<'de>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json<'de>, A::Error> {
        let mut object = Vec::new();
        while let Some((key, value)) = entries.next_entry::<Json<'de>, Json<'de>>()? {
            // Read as a value, because only that borrows.
            let Json::Text(key) = key else { return Err(A::Error::custom("a key that is no text")) };
            object.push((key, value));
        }
        Ok(Json::Object(object))
    }
}
