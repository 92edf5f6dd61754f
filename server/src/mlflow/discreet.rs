//! What callers read of a model that cannot be run: where things lie on this machine is for the operator alone, who has the log.

use crate::error::Error;

/// What a path begins behind, beside spaces and the start of a text.
const BEFORE: &[char] = &['`', '\'', '"', '(', '[', '{', '<', '=', ',', ':', '|'];
/// What ends a path that stands in no quotes, beside spaces.
const AFTER: &[char] = &['`', '\'', '"', ')', ']', '}', '<', '>', ',', ';', ':', '|'];
/// What a path may stand between.
const QUOTES: &[char] = &['`', '\'', '"'];
/// Addresses that are paths, and what looks like one behind these words.
const LOCAL: &str = "file:";
const NONE: &[&str] = &["models:", "runs:", "mlflow-artifacts:", "dbfs:"];

/// The error as callers may have it: of each absolute path only the last name is left.
pub fn discreet(error: Error) -> Error {
    error.retold(|text| Some(without_folders(text)).filter(|told| told != text))
}

/// A text whose absolute paths have lost their folders.
fn without_folders(text: &str) -> String {
    let mut told = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, path, after)) = next(rest, told.chars().next_back()) {
        told.push_str(before);
        told.push_str("…/");
        told.push_str(path.trim_end_matches('/').rsplit('/').next().unwrap_or_default());
        rest = after;
    }
    told + rest
}

/// The next path that has folders, what is before it, and what comes after. `last` is what stands before the text.
fn next(text: &str, last: Option<char>) -> Option<(&str, &str, &str)> {
    let mut last = last;
    for (at, letter) in text.char_indices() {
        let (before, rest) = text.split_at_checked(at)?;
        let is_begin =
            last.is_none_or(|last| last.is_whitespace() || BEFORE.contains(&last)) && !NONE.iter().any(|word| before.ends_with(word));
        let path = match letter {
            // What has two is an address.
            '/' if is_begin && !rest.starts_with("//") => Some(rest),
            'f' if is_begin => rest.strip_prefix(LOCAL).filter(|path| path.starts_with('/')),
            _ => None,
        };
        if let Some(path) = path {
            let quote = last.filter(|last| QUOTES.contains(last) && path.contains(*last));
            let end = path.find(|c: char| quote.map_or_else(|| c.is_whitespace() || AFTER.contains(&c), |quote| c == quote));
            let (path, after) = path.split_at(end.unwrap_or(path.len()));
            if path.trim_matches('/').contains('/') {
                return Some((before, path, after));
            }
        }
        last = Some(letter);
    }
    None
}

#[cfg(test)]
mod tests {
    use flowgate_proto::v1::ErrorReason;

    use super::*;

    #[test]
    fn folders_of_this_machine_are_left_out() {
        let cases = [
            ("cannot read `/srv/my models/a.pkl`: no such file", "cannot read `…/a.pkl`: no such file"),
            ("model `file:///srv/models/slow` cannot be loaded", "model `…/slow` cannot be loaded"),
            ("[Errno 2] No such file: '/root/.cache/x/model.pkl'", "[Errno 2] No such file: '…/model.pkl'"),
            ("/opt/venv/bin/python cannot import (/opt/lib/a.py:3)", "…/python cannot import (…/a.py:3)"),
            ("PATH=/usr/bin:/usr/local/bin, /var/lib/", "PATH=…/bin:…/bin, …/lib"),
            ("it's /a/b's", "it's …/b's"),
            ("file:///a/b and file:/c/d", "…/b and …/d"),
        ];
        for (text, told) in cases {
            assert_eq!(without_folders(text), told);
        }
    }

    #[test]
    fn addresses_and_what_is_no_path_stay() {
        let kept = [
            "the registry at http://mlflow:5000/api/2.0 is away",
            "`s3://bucket/a/b` and models:/iris@champion and models:/iris/3",
            "runs:/abc/model, mlflow-artifacts:/2/models/m-1",
            "There is /invocations, /ping and /; 1/2 of text/csv",
            "env/python and ~/.mlflow/credentials",
            "…/a/b",
            "",
        ];
        for text in kept {
            assert_eq!(without_folders(text), text);
        }
    }

    #[test]
    fn an_error_keeps_its_reason() {
        let error = Error::new(ErrorReason::ProviderNotFound, "cannot read `/a/b`").because("at /a/b");
        let told = discreet(error);
        assert_eq!((told.reason(), told.to_string().as_str()), (ErrorReason::ProviderNotFound, "cannot read `…/b`"));
        assert!(!format!("{told:?}").contains("/a"), "{told:?}");
    }
}
