//! The answer to several requests in one, cut into an answer for each.

use bytes::Bytes;
use serde::de::IgnoredAny;

use crate::dialect::scoring::json::{legal, string_length};

/// The answers to requests of so many rows each, in their order; `None` when there is not one prediction for each row.
pub fn split(body: &Bytes, counts: &[usize]) -> Option<Vec<Bytes>> {
    let is_json = |text: &[u8]| serde_json::from_slice::<IgnoredAny>(text).is_ok();
    // Python's own tokens change nothing of where values begin and end.
    if !is_json(body) && !is_json(&legal(body).text) {
        return None;
    }
    let text = body.trim_ascii();
    if text.starts_with(b"[") {
        return answers(counts, b"[", &[(b"", text)], b"]");
    }
    let [only] = *items(text)?.as_slice() else { return None };
    let (name, predictions) = member(only)?;
    if name != b"\"predictions\"" {
        return None;
    }
    if predictions.starts_with(b"[") {
        return answers(counts, b"{\"predictions\": [", &[(b"", predictions)], b"]}");
    }
    let columns: Vec<_> = items(predictions)?.into_iter().map(member).collect::<Option<_>>()?;
    answers(counts, b"{\"predictions\": {", &columns, b"}}")
}

/// An answer for each count, made of its part of each list; with names, of objects of lists.
fn answers(counts: &[usize], begin: &[u8], lists: &[(&[u8], &[u8])], end: &[u8]) -> Option<Vec<Bytes>> {
    let mut answers = vec![begin.to_vec(); counts.len()];
    let total: usize = counts.iter().sum();
    for (n, (name, list)) in lists.iter().enumerate() {
        let items = items(list).filter(|items| list.starts_with(b"[") && items.len() == total)?;
        let mut rest = items.as_slice();
        for (answer, count) in answers.iter_mut().zip(counts) {
            let (own, others) = rest.split_at_checked(*count)?;
            rest = others;
            if n > 0 {
                answer.extend_from_slice(b", ");
            }
            if !name.is_empty() {
                answer.extend_from_slice(name);
                answer.extend_from_slice(b": [");
            }
            for (m, item) in own.iter().enumerate() {
                if m > 0 {
                    answer.extend_from_slice(b", ");
                }
                answer.extend_from_slice(item);
            }
            if !name.is_empty() {
                answer.push(b']');
            }
        }
    }
    let ended = answers.into_iter().map(|mut answer| {
        answer.extend_from_slice(end);
        answer.into()
    });
    (!lists.is_empty()).then(|| ended.collect())
}

/// What stands between the commas of a list or an object that is known to be whole; `None` when it is neither.
fn items(text: &[u8]) -> Option<Vec<&[u8]>> {
    let ([b'[', inner @ .., b']'] | [b'{', inner @ .., b'}']) = text else { return None };
    if inner.trim_ascii().is_empty() {
        return Some(Vec::new());
    }
    let (mut items, mut start, mut at, mut depth) = (Vec::new(), 0, 0, 0_usize);
    while let Some(byte) = inner.get(at) {
        match byte {
            b'"' => at += string_length(inner.get(at..)?),
            b'[' | b'{' => (at, depth) = (at + 1, depth + 1),
            b']' | b'}' => (at, depth) = (at + 1, depth.checked_sub(1)?),
            b',' if depth == 0 => {
                items.push(inner.get(start..at)?.trim_ascii());
                at += 1;
                start = at;
            }
            _ => at += 1,
        }
    }
    items.push(inner.get(start..)?.trim_ascii());
    Some(items)
}

/// The name of a member, quotes included, and its value.
fn member(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (name, value) = text.split_at_checked(string_length(text))?;
    Some((name, value.trim_ascii_start().strip_prefix(b":")?.trim_ascii()))
}
