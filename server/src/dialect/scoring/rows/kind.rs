//! What kinds of values stand in rows: what a model server would make of one row must not change by the rows that it stands with.

use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Arrays of more dimensions are left alone.
const DEEPEST: u8 = 8;

const NULL: u8 = 1;
const BOOL: u8 = 2;
const TEXT: u8 = 4;
const DOUBLE: u8 = 8;
/// A whole number within int64.
const INTEGER: u8 = 16;
/// One above that and within uint64.
const UNSIGNED: u8 = 32;
/// One beyond.
const HUGE: u8 = 64;

/// The kinds of the values at one place of all rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Any of these, as bits.
    Scalar(u8),
    /// So many, each of this kind; of an empty list nothing is known.
    Array(usize, Option<Box<Self>>),
    /// Values by their place.
    Row(Vec<Self>),
    /// Values by name.
    Record(Vec<(String, Self)>),
}

impl Kind {
    /// The kind of a value, a list being an array; `None` when its items are not of one kind.
    pub(super) fn of(value: &RawValue) -> Option<Self> {
        of(value, DEEPEST)
    }

    /// The kind of a list with one value for each column.
    pub(super) fn of_row(row: &RawValue) -> Option<Self> {
        let cells: Vec<&RawValue> = serde_json::from_str(row.get()).ok()?;
        cells.into_iter().map(Self::of).collect::<Option<_>>().map(Self::Row)
    }

    /// Whether there are names.
    pub(super) fn is_record(&self) -> bool {
        matches!(self, Self::Record(_))
    }

    /// The kind of what stands at this place in some rows, with what stands there in others; `None` where the two do not go together.
    pub(super) fn join(self, other: Self) -> Option<Self> {
        Some(match (self, other) {
            (Self::Scalar(a), Self::Scalar(b)) => Self::Scalar(a | b),
            (Self::Array(0, _), Self::Array(0, _)) => Self::Array(0, None),
            (Self::Array(a, item), Self::Array(b, other)) if a == b => Self::Array(a, Some(Box::new(item?.join(*other?)?))),
            (Self::Row(a), Self::Row(b)) if a.len() == b.len() => {
                Self::Row(a.into_iter().zip(b).map(|(a, b)| a.join(b)).collect::<Option<_>>()?)
            }
            (Self::Record(a), Self::Record(b)) if a.len() == b.len() => {
                let pairs = a.into_iter().zip(b);
                let join = |((name, a), (other, b)): ((String, Self), (String, Self))| (name == other).then_some((name, a.join(b)?));
                Self::Record(pairs.map(join).collect::<Option<_>>()?)
            }
            (Self::Scalar(_) | Self::Array(..) | Self::Row(_) | Self::Record(_), _) => return None,
        })
    }

    /// Writes it, so that two are the same when their texts are.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Scalar(kinds) => out.extend_from_slice(format!("{kinds} ").as_bytes()),
            Self::Array(length, item) => {
                out.extend_from_slice(format!("[{length}:").as_bytes());
                item.iter().for_each(|item| item.write(out));
                out.push(b']');
            }
            Self::Row(cells) => {
                out.push(b'(');
                cells.iter().for_each(|cell| cell.write(out));
                out.push(b')');
            }
            Self::Record(members) => {
                out.push(b'{');
                for (name, kind) in members {
                    out.extend_from_slice(format!("{name:?}:").as_bytes());
                    kind.write(out);
                }
                out.push(b'}');
            }
        }
    }
}

fn of(value: &RawValue, depth: u8) -> Option<Kind> {
    let text = value.get();
    Some(match text.as_bytes().first()? {
        b'[' => {
            let depth = depth.checked_sub(1)?;
            let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
            let mut kinds = items.iter().map(|item| of(item, depth));
            let Some(first) = kinds.next() else { return Some(Kind::Array(0, None)) };
            let item = kinds.try_fold(first?, |all, kind| all.join(kind?))?;
            Kind::Array(items.len(), Some(Box::new(item)))
        }
        b'{' => {
            let depth = depth.checked_sub(1)?;
            let kinds = members(value)?.into_iter().map(|(name, value)| Some((name, of(value, depth)?)));
            Kind::Record(kinds.collect::<Option<_>>()?)
        }
        b'n' => Kind::Scalar(NULL),
        b't' | b'f' => Kind::Scalar(BOOL),
        b'"' => Kind::Scalar(TEXT),
        _ => Kind::Scalar(number(text)),
    })
}

fn number(text: &str) -> u8 {
    if text.contains(['.', 'e', 'E']) {
        DOUBLE
    } else if text.parse::<i64>().is_ok() {
        INTEGER
    } else if text.parse::<u64>().is_ok() {
        UNSIGNED
    } else {
        HUGE
    }
}

/// The members of an object, in its order; `None` when it is none, or a name stands twice.
pub(super) fn members(object: &RawValue) -> Option<Vec<(String, &RawValue)>> {
    struct Members;

    impl<'de> Visitor<'de> for Members {
        type Value = Vec<(String, &'de RawValue)>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some(member) = entries.next_entry()? {
                members.push(member);
            }
            Ok(members)
        }
    }

    let members = serde_json::Deserializer::from_str(object.get()).deserialize_map(Members).ok()?;
    let mut names: Vec<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names.is_sorted_by(|a, b| a < b).then_some(members)
}
