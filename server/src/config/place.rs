//! Where in a file a part of a scalar stands: undoes YAML's folding and escapes as far as that is certain. Judges nothing.

use super::diagnostic::{Report, Spot};

/// How a scalar is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Plain,
    Single,
    Double,
    /// `|`, with so many columns of indentation.
    Literal(usize),
    /// `>`, likewise.
    Folded(usize),
}

/// The place of a byte of a scalar's value; the scalar's own where it cannot be told.
pub(super) fn within(report: &Report, spot: Spot, value: &str, offset: usize) -> Spot {
    let whole = report.text(spot.source);
    let size = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
    let start = size(spot.start);
    let (Some(before), Some(raw)) = (whole.get(..start), whole.get(start..start.saturating_add(size(spot.length)))) else { return spot };
    let found = value.get(..offset).and_then(|left| reach(raw, left, style(before, raw, spot)));
    let Some(passed) = found.and_then(|at| raw.get(..at)) else { return spot };
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let (line, column) = match passed.rsplit_once('\n') {
        Some((lines, last)) => {
            (spot.line.saturating_add(count(lines.matches('\n').count() + 1)), count(last.chars().count()).saturating_add(1))
        }
        None => (spot.line, spot.column.saturating_add(count(passed.chars().count()))),
    };
    Spot { line, column, start: spot.start.saturating_add(count(passed.len())), length: 0, ..spot }
}

fn style(before: &str, raw: &str, spot: Spot) -> Style {
    let indent = usize::try_from(spot.column).unwrap_or(1).saturating_sub(1);
    match (header(before), raw.as_bytes().first()) {
        (Some('|'), _) => Style::Literal(indent),
        (Some(_), _) => Style::Folded(indent),
        (None, Some(b'\'')) => Style::Single,
        (None, Some(b'"')) => Style::Double,
        (None, _) => Style::Plain,
    }
}

/// The sign of the block scalar whose header ends the lines before its text, if there is one.
fn header(before: &str) -> Option<char> {
    let (above, blank) = before.rsplit_once('\n')?;
    if !blank.trim().is_empty() {
        return None;
    }
    let line = above.trim_end().lines().next_back()?;
    let line = line.split(" #").next().unwrap_or(line).trim_end();
    let bare = line.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-'));
    let stem = bare.strip_suffix(['|', '>'])?;
    let stands_alone = stem.is_empty() || stem.ends_with([' ', '\t']);
    bare.chars().next_back().filter(|_| stands_alone && line.len() - bare.len() <= 2)
}

/// How many bytes of the raw text stand for the beginning `left` of its value.
fn reach(raw: &str, mut left: &str, style: Style) -> Option<usize> {
    let mut rest = raw;
    if let (Style::Single, Some(inner)) | (Style::Double, Some(inner)) = (style, raw.get(1..)) {
        rest = inner;
    }
    if let Style::Literal(_) | Style::Folded(_) = style {
        // Empty lines at the beginning are not part of the raw text.
        left = if raw.starts_with(['\r', '\n']) { left } else { left.trim_start_matches('\n') };
    }
    while !left.is_empty() {
        let (read, stands) = step(rest, style)?;
        left = match left.strip_prefix(stands.as_str()) {
            Some(left) => left,
            // It ends within a fold.
            None if stands.starts_with(left) => "",
            None => return None,
        };
        rest = rest.get(read..)?;
    }
    // A line break that stands for nothing is passed too.
    let nothing = step(rest, style).filter(|(_, stands)| stands.is_empty()).map_or(0, |(read, _)| read);
    Some(raw.len() - rest.len() + nothing)
}

/// The next piece of a raw text: its length, and what it stands for.
fn step(rest: &str, style: Style) -> Option<(usize, String)> {
    let first = rest.chars().next()?;
    match style {
        Style::Literal(indent) if matches!(first, '\r' | '\n') => Some((line_break(rest, indent), "\n".to_owned())),
        Style::Folded(indent) if matches!(first, '\r' | '\n') => folded(rest, Some(indent)),
        Style::Plain | Style::Single | Style::Double if first.is_ascii_whitespace() => {
            folded(rest, None).or_else(|| Some((1, first.to_string())))
        }
        Style::Single if rest.starts_with("''") => Some((2, "'".to_owned())),
        Style::Double if first == '\\' => escape(rest),
        Style::Literal(_) | Style::Folded(_) | Style::Plain | Style::Single | Style::Double => Some((first.len_utf8(), first.to_string())),
    }
}

/// One line break with the indentation behind it.
fn line_break(rest: &str, indent: usize) -> usize {
    let broken = if rest.starts_with("\r\n") { 2 } else { 1 };
    let behind = rest.get(broken..).unwrap_or_default();
    broken + behind.bytes().take(indent).take_while(|byte| *byte == b' ').count()
}

/// White space with line breaks in it: one is a space, more are one less. Lines that are indented further are not undone.
fn folded(rest: &str, indent: Option<usize>) -> Option<(usize, String)> {
    let length = rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
    let space = rest.get(..length)?;
    let breaks = space.matches('\n').count();
    let further = indent.is_some_and(|indent| space.rsplit('\n').next().is_some_and(|last| last.len() > indent));
    if breaks == 0 || further {
        return None;
    }
    Some((length, if breaks == 1 { " ".to_owned() } else { "\n".repeat(breaks - 1) }))
}

/// An escape that stands for one character in a way that needs no table, or for a line that goes on.
fn escape(rest: &str) -> Option<(usize, String)> {
    let behind = rest.get(1..)?;
    if behind.starts_with(['\r', '\n']) {
        return Some((1 + behind.len() - behind.trim_start().len(), String::new()));
    }
    let stands = match rest.chars().nth(1)? {
        'n' => '\n',
        't' => '\t',
        own @ ('"' | '\\' | '/' | ' ') => own,
        _ => return None,
    };
    Some((2, stands.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tree::{self, Any};

    /// The line and column of `needle`'s first byte in the value of `k`.
    #[track_caller]
    fn found(text: &str, needle: &str) -> (u32, u32) {
        let mut report = Report::new(vec![("f".to_owned(), text.to_owned())]);
        let tree = tree::read(0, &mut report).unwrap();
        let value = tree.get("k").unwrap();
        let Any::Text(written) = &value.value else { panic!("{text}") };
        let spot = within(&report, value.spot, written, written.find(needle).unwrap());
        (spot.line, spot.column)
    }

    #[test]
    fn a_part_is_found_in_every_style() {
        for (text, expected) in [
            ("k: a == X", (1, 9)),
            ("k:   é + X # c", (1, 10)),
            ("k: 'a[''b''] X'", (1, 14)),
            (r#"k: "a[\"b\"] X""#, (1, 14)),
            (r#"k: "é X""#, (1, 7)),
            ("k: |\n  a\n    X\n", (3, 5)),
            ("k: |-   # c\n  'a' X\n", (2, 7)),
            ("k: |2\n   a\n  X\n", (3, 3)),
            ("k: >\n  a\n  b\n\n  X\n", (5, 3)),
            ("k: >-\r\n  a\r\n  X\r\n", (3, 3)),
            ("k: |\r\n  a\r\n  X\r\n", (3, 3)),
            ("k: a\n  b\n\n  X", (4, 3)),
            ("k: 'a\n\n  X'", (3, 3)),
            ("k: \"a\n  X\"", (2, 3)),
            ("k:\n  'a X'", (2, 6)),
            ("k: \"a \\\n  X\"", (2, 3)),
            ("j: |\n  x\nk: X", (3, 4)),
            ("j: &a 'b X'\nk: *a", (1, 10)),
            ("k: |\n\n  a X", (3, 5)),
            ("\u{feff}k: a X", (1, 6)),
            ("{k: a X}", (1, 7)),
        ] {
            assert_eq!(found(text, "X"), expected, "{text:?}");
        }
    }

    #[test]
    fn what_is_not_certain_is_the_scalar_itself() {
        for (text, expected) in [(r#"k: "\u00e9 X""#, (1, 4)), ("k: >\n  a\n    b\n  X\n", (2, 3))] {
            assert_eq!(found(text, "X"), expected, "{text:?}");
        }
        let mut report = Report::new(vec![("f".to_owned(), "k: ab".to_owned())]);
        let spot = tree::read(0, &mut report).unwrap().get("k").unwrap().spot;
        for (value, offset) in [("ab", 9), ("xyz", 2), ("é", 1), ("abc", 3)] {
            assert_eq!(within(&report, spot, value, offset), spot, "{value} {offset}");
        }
        let gone = Spot { start: 90, ..spot };
        assert_eq!(within(&report, gone, "ab", 1), gone);
    }
}
