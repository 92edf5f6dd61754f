//! How far the predictions of two scoring answers are apart, number by number.

use std::borrow::Cow;

use bytes::Bytes;

use super::{answer::predictions, tree::Json};

/// The differences of two trees of predictions.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Drift {
    /// The largest difference of two numbers that stand at the same place.
    pub absolute: f64,
    /// The largest difference as a share of the larger of the two, from 0 to 2.
    pub relative: f64,
    /// Lists of different lengths, keys that only one has, lists or objects where the other has something else.
    pub shapes: u64,
    /// Texts and truth values that differ, and values of different kinds.
    pub values: u64,
}

/// Compares two answers. Bodies that are no JSON differ by one value, unless they are the same.
pub fn drift(one: &Bytes, other: &Bytes) -> Drift {
    let mut drift = Drift::default();
    let bodies = (predictions(one), predictions(other));
    if let (Ok(one), Ok(other)) = &bodies
        && let (Ok(one), Ok(other)) = (serde_json::from_slice(&one.json), serde_json::from_slice(&other.json))
    {
        drift.walk(one, other);
    } else {
        drift.values = u64::from(one != other);
    }
    drift
}

impl Drift {
    fn walk(&mut self, one: Json<'_>, other: Json<'_>) {
        match (one, other) {
            (Json::List(one), Json::List(other)) => {
                self.shapes += u64::from(one.len() != other.len());
                one.into_iter().zip(other).for_each(|(one, other)| self.walk(one, other));
            }
            (Json::Object(one), Json::Object(other)) => self.walk_objects(one, other),
            (Json::List(_) | Json::Object(_), _) | (_, Json::List(_) | Json::Object(_)) => self.shapes += 1,
            (Json::Null, Json::Null) => {}
            (Json::Bool(one), Json::Bool(other)) => self.values += u64::from(one != other),
            (Json::Text(one), Json::Text(other)) => self.values += u64::from(one != other),
            (one, other) => match (number(&one), number(&other)) {
                (Some(one), Some(other)) => self.add(one, other),
                _ => self.values += 1,
            },
        }
    }

    /// Keys may stand in any order.
    fn walk_objects<'a>(&mut self, mut one: Vec<(Cow<'a, str>, Json<'a>)>, mut other: Vec<(Cow<'a, str>, Json<'a>)>) {
        one.sort_by(|a, b| a.0.cmp(&b.0));
        other.sort_by(|a, b| a.0.cmp(&b.0));
        let mut others = other.into_iter().peekable();
        for (key, value) in one {
            while others.next_if(|(other, _)| *other < key).is_some() {
                self.shapes += 1;
            }
            match others.next_if(|(other, _)| *other == key) {
                Some((_, other)) => self.walk(value, other),
                None => self.shapes += 1,
            }
        }
        self.shapes += others.count() as u64;
    }

    fn add(&mut self, one: f64, other: f64) {
        let absolute = (one - other).abs();
        let larger = one.abs().max(other.abs());
        self.absolute = self.absolute.max(absolute);
        if larger > 0.0 {
            self.relative = self.relative.max(absolute / larger);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "beyond 2^53 a difference of one is no drift")]
fn number(json: &Json<'_>) -> Option<f64> {
    match json {
        Json::Integer(number) => Some(*number as f64),
        Json::Unsigned(number) => Some(*number as f64),
        Json::Double(number) => Some(*number),
        Json::Null | Json::Bool(_) | Json::Text(_) | Json::List(_) | Json::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(one: &'static str, other: &'static str) -> Drift {
        let (one, other) = (Bytes::from_static(one.as_bytes()), Bytes::from_static(other.as_bytes()));
        let there = drift(&one, &other);
        assert_eq!(there, drift(&other, &one), "it is the same the other way round");
        there
    }

    #[test]
    fn numbers_drift_and_everything_else_differs_or_does_not() {
        let none = Drift::default();
        for (one, other, want) in [
            (r#"{"predictions": [1, 2.5]}"#, "[1.0,2.5]", none),
            ("[1, 2, 10]", "[1, 4, 11]", Drift { absolute: 2.0, relative: 0.5, ..none }),
            ("[-1e-3]", "[1e-3]", Drift { absolute: 0.002, relative: 2.0, ..none }),
            ("[0]", "[0.0]", none),
            ("[NaN]", "[null]", none),
            ("[NaN]", "[1]", Drift { values: 1, ..none }),
            (r#"["a", true]"#, r#"["b", false]"#, Drift { values: 2, ..none }),
            (r#"["1"]"#, "[1]", Drift { values: 1, ..none }),
            ("[1, 2]", "[1]", Drift { shapes: 1, ..none }),
            ("[[1]]", "[1]", Drift { shapes: 1, ..none }),
            (
                r#"[{"a": 1, "b": "x", "d": 0}]"#,
                r#"[{"b": "x", "a": 3, "c": 0}]"#,
                Drift { absolute: 2.0, relative: 2.0 / 3.0, shapes: 2, ..none },
            ),
            ("a,b\n1,2\n", "a,b\n1,2\n", none),
            ("a,b\n1,2\n", "a,b\n1,3\n", Drift { values: 1, ..none }),
            ("[18446744073709551615]", "[9223372036854775807]", Drift { absolute: 9_223_372_036_854_775_808.0, relative: 0.5, ..none }),
        ] {
            assert_eq!(of(one, other), want, "{one} {other}");
        }
    }
}
