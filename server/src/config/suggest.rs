//! Words for messages: lists of what is allowed, and the nearest of them.

/// `a`, `b` or `c`.
pub(super) fn list(words: &[&str]) -> String {
    let quoted: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        Some((last, _)) => last.clone(),
        None => "nothing".to_owned(),
    }
}

/// A key for messages: without what does not belong into one. Where a space is missing behind its `:`, a secret may follow.
pub(super) fn short(key: &str) -> String {
    let ends = |c: char| c.is_control() || c.is_whitespace() || matches!(c, ':' | '=');
    let mut short: String = key.chars().take_while(|c| !ends(*c)).take(60).collect();
    if short.len() < key.len() {
        short.push('…');
    }
    short
}

/// A question after the nearest word, if one is near.
pub(crate) fn nearest(written: &str, words: &[&str]) -> Option<String> {
    near(written, words).map(|word| format!("did you mean `{word}`?"))
}

/// The nearest word, if one is near: a third of its letters may differ.
pub(super) fn near<'a>(written: &str, words: &[&'a str]) -> Option<&'a str> {
    let plain = |word: &str| word.to_ascii_lowercase().replace('-', "_");
    let written = plain(written);
    let far = written.chars().count().div_ceil(3).max(1);
    let close = words.iter().filter(|word| word.chars().count().abs_diff(written.chars().count()) <= far);
    let distances = close.map(|word| (strsim::osa_distance(&written, &plain(word)), *word));
    distances.filter(|(distance, _)| *distance <= far).min().map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_suggested_and_far_ones_not() {
        let words = ["model", "deployments", "timeouts", "openai-compatible"];
        assert_eq!(near("modle", &words), Some("model"));
        assert_eq!(near("timeout", &words), Some("timeouts"));
        assert_eq!(near("OpenAI_Compatible", &words), Some("openai-compatible"));
        assert_eq!(near("cache", &words), None);
        assert_eq!(near("", &words), None);
        for (key, expected) in [("api_base", "api_base"), ("api_key:sk-1", "api_key…"), ("a\nb", "a…"), ("", ""), ("é", "é")] {
            assert_eq!(short(key), expected);
        }
        assert_eq!(list(&["a"]), "`a`");
        assert_eq!(list(&["a", "b", "c"]), "`a`, `b` or `c`");
    }
}
