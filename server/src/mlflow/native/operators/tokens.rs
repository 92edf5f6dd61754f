//! The regular expressions of tokenizers: a run of single characters or classes of them, each repeated. No groups, no alternatives.

use std::collections::HashSet;

/// The most repetitions that an expression may spell out.
const MOST: usize = 1000;

/// An expression that is matched as RE2 does: from the left, greedily.
#[derive(Debug)]
pub(crate) struct Expression {
    parts: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    /// Characters of a class, so many at least and at most.
    Run { class: Class, least: usize, most: usize },
    /// The edge of a word.
    Edge,
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

    fn has(&self, letter: char) -> bool {
        self.ranges.iter().any(|(first, last)| (*first..=*last).contains(&letter)) != self.is_negated
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
        let (mut rest, mut parts) = (letters.as_slice(), Vec::new());
        while let Some((first, after)) = rest.split_first() {
            rest = after;
            let class = match first {
                '\\' if rest.first() == Some(&'b') => {
                    rest = &rest[1..];
                    parts.push(Part::Edge);
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
            parts.push(Part::Run { class, least, most });
        }
        Some(Self { parts })
    }

    /// All that the expression finds, one after the other.
    pub(crate) fn find<'a>(&self, text: &'a str) -> Vec<&'a str> {
        self.spans(text).into_iter().filter_map(|(start, end)| text.get(start..end)).collect()
    }

    /// What stands between what the expression finds; characters where it finds nothing at all.
    pub(crate) fn split<'a>(&self, text: &'a str) -> Vec<&'a str> {
        if self.parts.is_empty() {
            return text.char_indices().filter_map(|(at, letter)| text.get(at..at + letter.len_utf8())).collect();
        }
        let (mut pieces, mut from) = (Vec::new(), 0);
        for (start, end) in self.spans(text) {
            pieces.extend(text.get(from..start).filter(|piece| !piece.is_empty()));
            from = end;
        }
        pieces.extend(text.get(from..).filter(|piece| !piece.is_empty()));
        pieces
    }

    fn spans(&self, text: &str) -> Vec<(usize, usize)> {
        let letters: Vec<(usize, char)> = text.char_indices().collect();
        let byte = |at: usize| letters.get(at).map_or(text.len(), |(byte, _)| *byte);
        let (mut found, mut start) = (Vec::new(), 0);
        // What failed once at a place fails there again, whatever came before it.
        let mut failed = HashSet::new();
        while start < letters.len() {
            match self.end(&letters, 0, start, &mut failed).filter(|end| *end > start) {
                Some(end) => {
                    found.push((byte(start), byte(end)));
                    start = end;
                }
                None => start += 1,
            }
        }
        found
    }

    /// Where the parts from one on end when they begin at a place. As deep as there are parts.
    fn end(&self, letters: &[(usize, char)], part: usize, at: usize, failed: &mut HashSet<(usize, usize)>) -> Option<usize> {
        if failed.contains(&(part, at)) {
            return None;
        }
        let end = match self.parts.get(part) {
            None => return Some(at),
            Some(Part::Edge) => {
                let is_word = |at: Option<usize>| {
                    at.and_then(|at| letters.get(at)).is_some_and(|(_, letter)| letter.is_ascii_alphanumeric() || *letter == '_')
                };
                let is_edge = is_word(at.checked_sub(1)) != is_word(Some(at));
                is_edge.then(|| self.end(letters, part + 1, at, failed)).flatten()
            }
            Some(Part::Run { class, least, most }) => {
                let run = letters[at..].iter().take(*most).take_while(|(_, letter)| class.has(*letter)).count();
                (*least..=run).rev().find_map(|length| self.end(letters, part + 1, at + length, failed))
            }
        };
        if end.is_none() {
            failed.insert((part, at));
        }
        end
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
