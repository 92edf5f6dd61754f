//! `google.protobuf.Value` as JSON text, both ways, without a tree between: whole numbers lose their fraction, keys are sorted.

use std::fmt;

use flowgate_proto::wkt::{ListValue, NullValue, Struct, Value, value::Kind};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::json::{list, put};
use crate::error::Error;

/// Up to here every whole number is exact in a double.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// What is wrong in a value, and where below it.
#[derive(Debug)]
pub(super) struct Flaw {
    path: String,
    what: &'static str,
}

/// What becomes of a whole number that no double holds exactly.
#[derive(Clone, Copy, Debug)]
pub(super) enum Whole {
    /// It is refused: a model must not see another number than the caller sent.
    Exact,
    /// It is rounded, as the contract says of numbers in JSON answers.
    Rounded,
}

/// Reads one value.
#[derive(Clone, Copy)]
struct Reader(Whole);

impl Flaw {
    fn new(what: &'static str) -> Self {
        Self { path: String::new(), what }
    }

    /// The same flaw, seen from one step further out.
    fn under(mut self, step: fmt::Arguments<'_>) -> Self {
        self.path.insert_str(0, &step.to_string());
        self
    }

    /// The error, given the request's field that holds the value.
    pub(super) fn of(self, field: &str) -> Error {
        Error::invalid(format!("{field}{}", self.path), self.what)
    }
}

/// Appends a value; one without a kind is `null`.
pub(super) fn write(out: &mut Vec<u8>, value: &Value) -> Result<(), Flaw> {
    match &value.kind {
        None | Some(Kind::NullValue(_)) => out.extend_from_slice(b"null"),
        Some(Kind::BoolValue(truth)) => put(out, truth),
        Some(Kind::NumberValue(number)) => return write_number(out, *number),
        Some(Kind::StringValue(text)) => put(out, text.as_str()),
        Some(Kind::ListValue(items)) => return write_list(out, &items.values),
        Some(Kind::StructValue(fields)) => return write_struct(out, fields),
    }
    Ok(())
}

/// Appends a list of values.
pub(super) fn write_list(out: &mut Vec<u8>, values: &[Value]) -> Result<(), Flaw> {
    list(out, values.iter().enumerate(), |out, (n, value)| write(out, value).map_err(|flaw| flaw.under(format_args!("[{n}]"))))
}

/// Appends an object, its keys sorted, because the message keeps no order.
pub(super) fn write_struct(out: &mut Vec<u8>, object: &Struct) -> Result<(), Flaw> {
    let mut fields: Vec<(&String, &Value)> = object.fields.iter().collect();
    fields.sort_unstable_by(|a, b| a.0.cmp(b.0));
    out.push(b'{');
    for (n, (key, value)) in fields.into_iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        put(out, key.as_str());
        out.push(b':');
        write(out, value).map_err(|flaw| flaw.under(format_args!(".{key}")))?;
    }
    out.push(b'}');
    Ok(())
}

#[expect(clippy::cast_possible_truncation, reason = "whole and within 2^53")]
fn write_number(out: &mut Vec<u8>, number: f64) -> Result<(), Flaw> {
    if !number.is_finite() {
        return Err(Flaw::new("is NaN or infinite, which JSON lacks; send null"));
    }
    let negative_zero = number == 0.0 && number.is_sign_negative();
    if number.fract() == 0.0 && number.abs() <= EXACT && !negative_zero {
        put(out, &(number as i64));
    } else {
        put(out, &number);
    }
    Ok(())
}

/// Reads a value from JSON text.
///
/// # Errors
/// What is wrong with the text; with [`Whole::Exact`] also a whole number that would not survive.
pub(super) fn read(text: &[u8], whole: Whole) -> serde_json::Result<Value> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = Reader(whole).deserialize(&mut deserializer)?;
    deserializer.end().map(|()| value)
}

fn of(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

impl<'de> DeserializeSeed<'de> for Reader {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

#[expect(clippy::cast_precision_loss, reason = "checked where it matters")]
impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    // A kind of its own, for clients that refuse to print a value without one.
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(of(Kind::NullValue(NullValue::NullValue.into())))
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Value, E> {
        Ok(of(Kind::BoolValue(truth)))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(of(Kind::NumberValue(number)))
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Value, E> {
        self.whole(number.into(), number as f64)
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Value, E> {
        self.whole(number.into(), number as f64)
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(of(Kind::StringValue(text.to_owned())))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(of(Kind::StringValue(text)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut values = Vec::with_capacity(items.size_hint().unwrap_or_default());
        while let Some(value) = items.next_element_seed(self)? {
            values.push(value);
        }
        Ok(of(Kind::ListValue(ListValue { values })))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Struct::default();
        while let Some(key) = entries.next_key::<String>()? {
            object.fields.insert(key, entries.next_value_seed(self)?);
        }
        Ok(of(Kind::StructValue(object)))
    }
}

impl Reader {
    #[expect(clippy::cast_possible_truncation, reason = "every double in the range of u64 fits i128")]
    fn whole<E: serde::de::Error>(self, exact: i128, rounded: f64) -> Result<Value, E> {
        match self.0 {
            Whole::Exact if rounded as i128 != exact => Err(E::custom("an integer beyond 2^53")),
            Whole::Exact | Whole::Rounded => Ok(of(Kind::NumberValue(rounded))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(value: &Value) -> String {
        let mut out = Vec::new();
        write(&mut out, value).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_print_as_they_were_meant() {
        for (number, want) in [
            (1.0, "1"),
            (-3.0, "-3"),
            (0.0, "0"),
            (-0.0, "-0.0"),
            (0.1, "0.1"),
            (1e300, "1e+300"),
            (5e-324, "5e-324"),
            (9_007_199_254_740_991.0, "9007199254740991"),
            (9_007_199_254_740_992.0, "9007199254740992"),
            (-9_007_199_254_740_992.0, "-9007199254740992"),
            (9_007_199_254_740_994.0, "9007199254740994.0"),
        ] {
            let text = written(&of(Kind::NumberValue(number)));
            assert_eq!(text, want);
            assert_eq!(text.parse::<f64>().unwrap().to_bits(), number.to_bits());
        }
    }

    #[test]
    fn a_flaw_names_its_place() {
        let value = read(br#"{"a": [1, {"b": 2}]}"#, Whole::Exact).unwrap();
        let Some(Kind::StructValue(mut object)) = value.kind else { panic!("an object") };
        let Some(Kind::ListValue(items)) = &mut object.fields.get_mut("a").unwrap().kind else { panic!("a list") };
        let Some(Kind::StructValue(inner)) = &mut items.values[1].kind else { panic!("an object") };
        inner.fields.insert("b".to_owned(), of(Kind::NumberValue(f64::NAN)));
        let error = write_struct(&mut Vec::new(), &object).unwrap_err().of("params");
        assert_eq!(error.violations()[0].field, "params.a[1].b");
    }

    #[test]
    fn integers_beyond_a_double_are_refused_or_rounded() {
        for text in ["9007199254740993", "-9007199254740993", "9223372036854775807", "18446744073709551615"] {
            assert!(read(text.as_bytes(), Whole::Exact).is_err(), "{text}");
            assert!(read(text.as_bytes(), Whole::Rounded).is_ok(), "{text}");
        }
        for text in ["9007199254740994", "-9223372036854775808", "1000000000000000000"] {
            assert!(read(text.as_bytes(), Whole::Exact).is_ok(), "{text}");
        }
    }

    #[test]
    fn text_survives_both_ways_with_keys_sorted() {
        let text = r#"{"z":[null,true,"a\"b\\é\n"],"a":{"x":1.5,"b":{}}}"#;
        let value = read(text.as_bytes(), Whole::Exact).unwrap();
        assert_eq!(written(&value), r#"{"a":{"b":{},"x":1.5},"z":[null,true,"a\"b\\é\n"]}"#);
        assert_eq!(written(&Value { kind: None }), "null");
    }
}
