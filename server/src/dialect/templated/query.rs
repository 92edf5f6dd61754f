//! The query of a request without a body, out of the JSON object that a template makes: `application/x-www-form-urlencoded`.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::value::RawValue;

use crate::dialect::json::{Fields, Str};

/// How long a query may be: servers take no longer addresses.
pub(super) const LONGEST: usize = 32 << 10;

/// What stands in a query as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The query that an object is: its names and values in their order, a list as its name once for each entry, `null` as nothing. Numbers keep
/// their digits. `None`: it is no object of texts, numbers, booleans and lists of them.
pub(super) fn of(json: &[u8]) -> Option<String> {
    let fields: Fields<'_> = serde_json::from_slice(json).ok()?;
    let mut query = String::new();
    for (name, value) in &fields.0 {
        if value.get().starts_with('[') {
            let entries: Vec<&RawValue> = serde_json::from_str(value.get()).ok()?;
            entries.into_iter().try_for_each(|entry| push(&mut query, name, entry))?;
        } else {
            push(&mut query, name, value)?;
        }
    }
    Some(query)
}

fn push(query: &mut String, name: &str, value: &RawValue) -> Option<()> {
    let text = match value.get().as_bytes().first()? {
        b'{' | b'[' => return None,
        b'n' => return Some(()),
        b'"' => serde_json::from_str::<Str<'_>>(value.get()).ok()?,
        _ => Str(value.get().into()),
    };
    let before = if query.is_empty() { "" } else { "&" };
    query.extend([before, &utf8_percent_encode(name, PLAIN).to_string(), "=", &utf8_percent_encode(&text, PLAIN).to_string()]);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_queries() {
        let query = |json: &str| of(json.as_bytes());
        let expected = [
            ("{}", ""),
            (r#"{"a": 1.50, "b": true, "c": null, "d": "x"}"#, "a=1.50&b=true&d=x"),
            (r#"{"a": [1, "two", null, 12345678901234567890], "b": []}"#, "a=1&a=two&a=12345678901234567890"),
            (r#"{"q r": "a&b=c#d+e %/ü\u0000\"", "e": ""}"#, "q%20r=a%26b%3Dc%23d%2Be%20%25%2F%C3%BC%00%22&e="),
        ];
        for (json, told) in expected {
            assert_eq!(query(json).as_deref(), Some(told), "{json}");
        }
        for none in ["[]", "1", "null", r#""a=1""#, r#"{"a": {}}"#, r#"{"a": [[1]]}"#, r#"{"a": [{}]}"#, r#"{"a": "\ud800"}"#, "", "{"] {
            assert_eq!(query(none), None, "{none}");
        }
    }
}
