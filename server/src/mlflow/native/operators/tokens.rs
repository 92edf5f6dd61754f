//! The regular expressions of tokenizers: a run of single characters or classes of them, each repeated. No groups, no alternatives.

use std::fmt::{self, Write as _};

use regex::{Regex, RegexBuilder};

/// The most repetitions that an expression may spell out.
const MOST: usize = 1000;
/// The most single characters, classes and edges.
const MOST_PARTS: usize = 256;
/// How many bytes an expression may take to be matched.
const MOST_COMPILED: usize = 1 << 21;

/// An expression that is matched as RE2 does: from the left, greedily, in time by the length of the text.
#[derive(Debug)]
pub(crate) struct Expression {
    /// None for the empty one.
    regex: Option<Regex>,
}

/// A set of characters.
#[derive(Debug, Default, Clone)]
struct Class {
    ranges: Vec<(char, char)>,
    is_negated: bool,
}

impl Class {
    fn of(ranges: &[(char, char)]) -> Self {
        Self { ranges: ranges.to_vec(), is_negated: false }
    }

    /// The same set, as the library writes it.
    fn write(&self, pattern: &mut String) {
        pattern.push_str(if self.is_negated { "[^" } else { "[" });
        for (first, last) in &self.ranges {
            push(pattern, format_args!(r"\x{{{:x}}}-\x{{{:x}}}", u32::from(*first), u32::from(*last)));
        }
        pattern.push(']');
    }
}

/// `\w`, `\d`, `\s`: of ASCII, as in RE2.
fn named(name: char) -> Option<Class> {
    let mut class = Class::of(match name.to_ascii_lowercase() {
        'w' => &[('a', 'z'), ('A', 'Z'), ('0', '9'), ('_', '_')],
        'd' => &[('0', '9')],
        's' => &[('\t', '\n'), ('\u{c}', '\r'), (' ', ' ')],
        _ => return None,
    });
    class.is_negated = name.is_ascii_uppercase();
    Some(class)
}

fn push(pattern: &mut String, piece: fmt::Arguments<'_>) {
    // A String takes every piece.
    pattern.write_fmt(piece).ok();
}

fn escaped(letter: char) -> Option<char> {
    Some(match letter {
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        other if other.is_ascii_alphanumeric() => return None,
        other => other,
    })
}

impl Expression {
    /// Reads an expression; `None` when it is of a form that is not known here.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let letters: Vec<char> = text.strip_prefix("(?u)").unwrap_or(text).chars().collect();
        let (mut rest, mut parts, mut pattern) = (letters.as_slice(), 0, String::new());
        while let Some((first, after)) = rest.split_first() {
            rest = after;
            parts += 1;
            if parts > MOST_PARTS {
                return None;
            }
            let class = match first {
                '\\' if rest.first() == Some(&'b') => {
                    rest = &rest[1..];
                    pattern.push_str(r"(?-u:\b)");
                    continue;
                }
                '\\' => {
                    let (name, after) = rest.split_first()?;
                    rest = after;
                    named(*name).or_else(|| escaped(*name).map(|letter| Class::of(&[(letter, letter)])))?
                }
                '[' => class(&mut rest)?,
                '.' => Class { ranges: vec![('\n', '\n')], is_negated: true },
                '(' | ')' | '|' | '^' | '$' | '*' | '+' | '?' | '{' | '}' => return None,
                letter => Class::of(&[(*letter, *letter)]),
            };
            let (least, most) = repeats(&mut rest)?;
            class.write(&mut pattern);
            match most {
                usize::MAX => push(&mut pattern, format_args!("{{{least},}}")),
                most => push(&mut pattern, format_args!("{{{least},{most}}}")),
            }
        }
        let compiled = || RegexBuilder::new(&pattern).size_limit(MOST_COMPILED).dfa_size_limit(MOST_COMPILED).build().ok();
        Some(Self { regex: if parts == 0 { None } else { Some(compiled()?) } })
    }

    /// All that the expression finds, one after the other; nothing is not found.
    pub(crate) fn find<'a>(&self, text: &'a str) -> Vec<&'a str> {
        self.regex.iter().flat_map(|regex| regex.find_iter(text)).map(|found| found.as_str()).filter(|found| !found.is_empty()).collect()
    }

    /// What stands between what the expression finds; characters for the empty one.
    pub(crate) fn split<'a>(&self, text: &'a str) -> Vec<&'a str> {
        let Some(regex) = &self.regex else {
            return text.char_indices().filter_map(|(at, letter)| text.get(at..at + letter.len_utf8())).collect();
        };
        let (mut pieces, mut from) = (Vec::new(), 0);
        for found in regex.find_iter(text).filter(|found| !found.is_empty()) {
            pieces.extend(text.get(from..found.start()).filter(|piece| !piece.is_empty()));
            from = found.end();
        }
        pieces.extend(text.get(from..).filter(|piece| !piece.is_empty()));
        pieces
    }
}

/// A class in brackets, past its opening one.
fn class(rest: &mut &[char]) -> Option<Class> {
    let mut class = Class::default();
    if rest.first() == Some(&'^') {
        class.is_negated = true;
        *rest = &rest[1..];
    }
    let mut is_first = true;
    loop {
        let (letter, after) = rest.split_first()?;
        *rest = after;
        let first = match letter {
            ']' if !is_first => return Some(class),
            '[' => return None,
            '\\' => {
                let (name, after) = rest.split_first()?;
                *rest = after;
                if let Some(named) = named(*name) {
                    if named.is_negated {
                        return None;
                    }
                    class.ranges.extend(named.ranges);
                    continue;
                }
                escaped(*name)?
            }
            letter => *letter,
        };
        is_first = false;
        let last = match **rest {
            ['-', last, ..] if last != ']' => {
                *rest = &rest[2..];
                if last == '\\' { return None } else { last }
            }
            _ => first,
        };
        class.ranges.push((first, last));
    }
}

/// How often the part before may stand.
fn repeats(rest: &mut &[char]) -> Option<(usize, usize)> {
    let (least, most, length) = match **rest {
        ['*', ..] => (0, usize::MAX, 1),
        ['+', ..] => (1, usize::MAX, 1),
        ['?', ..] => (0, 1, 1),
        ['{', ..] => {
            let end = rest.iter().position(|letter| *letter == '}')?;
            let inside: String = rest[1..end].iter().collect();
            let number = |text: &str| text.parse().ok().filter(|number| *number <= MOST);
            let (least, most) = match inside.split_once(',') {
                None => (number(&inside)?, number(&inside)?),
                Some((least, "")) => (number(least)?, usize::MAX),
                Some((least, most)) => (number(least)?, number(most)?),
            };
            (least, most, end + 1)
        }
        _ => (1, 1, 0),
    };
    *rest = &rest[length..];
    // A lazy or possessive repeat is another language.
    if length > 0 && matches!(rest.first(), Some('?' | '+' | '*' | '{')) { None } else { Some((least, most)) }
}
