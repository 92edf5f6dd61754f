//! Pieces of JSON text: scalars into a buffer, fields whose presence counts, and NaN tokens made legal. Knows no message.

use memchr::{memchr2, memchr3};
use serde::{Deserialize, Deserializer, Serialize};

/// JSON text in which Python's own tokens are `null`.
pub(super) struct Legal {
    /// The text; as wrong as it was in every other respect.
    pub(super) text: Vec<u8>,
    /// Whether an infinity was among them.
    pub(super) infinite: bool,
}

/// Appends a number, a truth value or a text. NaN and infinities become `null`.
pub(super) fn put<T: Serialize + ?Sized>(out: &mut Vec<u8>, scalar: &T) {
    // A scalar always has a JSON form, and a Vec takes every byte.
    serde_json::to_writer(out, scalar).ok();
}

/// Appends `items` between brackets, each by `write`, with commas.
pub(super) fn list<T, E>(
    out: &mut Vec<u8>,
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut Vec<u8>, T) -> Result<(), E>,
) -> Result<(), E> {
    out.push(b'[');
    for (n, item) in items.into_iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        write(out, item)?;
    }
    out.push(b']');
    Ok(())
}

/// A field's value, `null` included, so that `None` means that the field is absent.
pub(super) fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Turns the tokens `NaN`, `Infinity` and `-Infinity`, which Python writes and no JSON allows, into `null`. Strings stay.
pub(super) fn legal(text: &[u8]) -> Legal {
    let mut legal = Legal { text: Vec::with_capacity(text.len()), infinite: false };
    let mut rest = text;
    while let Some(at) = memchr3(b'"', b'N', b'I', rest) {
        let (before, token) = rest.split_at(at);
        legal.text.extend_from_slice(before);
        rest = if let Some(after) = token.strip_prefix(b"NaN") {
            legal.text.extend_from_slice(b"null");
            after
        } else if let Some(after) = token.strip_prefix(b"Infinity") {
            if legal.text.last() == Some(&b'-') {
                legal.text.pop();
            }
            legal.text.extend_from_slice(b"null");
            legal.infinite = true;
            after
        } else {
            let (copied, after) = token.split_at(if token.starts_with(b"\"") { string_length(token) } else { 1 });
            legal.text.extend_from_slice(copied);
            after
        };
    }
    legal.text.extend_from_slice(rest);
    legal
}

/// The length of the string literal with which `text` starts, both quotes included; all of `text` when it does not end.
pub(super) fn string_length(text: &[u8]) -> usize {
    let mut end = 1;
    while let Some(at) = text.get(end..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        end += at + 1;
        if text.get(end - 1) == Some(&b'"') {
            return end;
        }
        end += 1;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn legal_text(text: &str) -> String {
        String::from_utf8(legal(text.as_bytes()).text).unwrap()
    }

    #[test]
    fn tokens_become_null_and_strings_stay() {
        for (text, want) in [
            ("[NaN, -Infinity,Infinity]", "[null, null,null]"),
            (r#"{"NaN": NaN, "a\"NaN": "NaN"}"#, r#"{"NaN": null, "a\"NaN": "NaN"}"#),
            (r#"["\\", NaN, "\\\"-Infinity"]"#, r#"["\\", null, "\\\"-Infinity"]"#),
            (r#"["é NaN ü", "Nein", "-Infinity"]"#, r#"["é NaN ü", "Nein", "-Infinity"]"#),
            (r#"["open NaN"#, r#"["open NaN"#),
            (r#"["open \"#, r#"["open \"#),
            ("Ni", "Ni"),
            ("", ""),
        ] {
            assert_eq!(legal_text(text), want);
        }
        assert!(legal(b"[-Infinity]").infinite);
        assert!(!legal(br#"["Infinity", NaN]"#).infinite);
    }

    #[test]
    fn what_was_wrong_stays_wrong() {
        for text in ["[1Infinity]", "[NaNNaN]", "[1-Infinity]", "[NaN", "NaN NaN", "[nan]", "[-NaN]"] {
            assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&legal(text.as_bytes()).text).is_err(), "{text}");
        }
    }
}
