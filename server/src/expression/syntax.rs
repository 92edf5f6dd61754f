//! The shape of a text before it is parsed: how long, how deep, and what of the engine's language is not offered. Recursion in the parser
//! is bounded by what passes here.

use std::ops::Range;

use minijinja::{
    machinery::{Span, Token, tokenize},
    syntax::SyntaxConfig,
};

use super::{Fault, power::Powers};

/// The longest condition, in bytes.
pub(super) const MAX_CONDITION: usize = 4 << 10;
/// The longest template, in bytes.
pub(super) const MAX_TEMPLATE: usize = 64 << 10;
/// How deep brackets may be nested.
const MAX_BRACKETS: usize = 24;
/// How many signs and `not` may stand in a row.
const MAX_SIGNS: usize = 8;
/// How many words, signs and literals one expression may have.
const MAX_TOKENS: usize = 1000;

/// What is counted within one expression.
#[derive(Default)]
struct Shape {
    tokens: usize,
    brackets: usize,
    signs: usize,
    after_dot: bool,
    powers: Powers,
}

/// The range of a span.
pub(super) fn range(span: Span) -> Range<usize> {
    span.start_offset as usize..span.end_offset as usize
}

/// The end of a span that has a name as its last word.
pub(super) fn last_word(span: Span, name: &str) -> Range<usize> {
    let end = span.end_offset as usize;
    end.saturating_sub(name.len())..end
}

/// The start of a span that has a name as its first word.
pub(super) fn first_word(span: Span, name: &str) -> Range<usize> {
    let start = span.start_offset as usize;
    start..start + name.len()
}

/// Looks over a condition.
///
/// # Errors
/// What is too long, too deep or not offered.
pub(super) fn condition(text: &str) -> Result<(), Fault> {
    short(text, MAX_CONDITION, "a condition")?;
    if text.trim().is_empty() {
        return Err(Fault::at(0..text.len(), "the condition is empty; write for example `'x' in request.json()`"));
    }
    if text.trim_start().starts_with("{{") {
        let start = text.len() - text.trim_start().len();
        return Err(Fault::at(start..start + 2, "a condition is written without `{{ }}`"));
    }
    tokens(text, true)
}

/// Looks over a template.
///
/// # Errors
/// As [`condition`].
pub(super) fn template(text: &str) -> Result<(), Fault> {
    short(text, MAX_TEMPLATE, "a template")?;
    tokens(text, false)
}

fn short(text: &str, most: usize, what: &str) -> Result<(), Fault> {
    let start = text.floor_char_boundary(most);
    if text.len() > most { Err(Fault::at(start..text.len(), format!("{what} is at most {most} bytes long"))) } else { Ok(()) }
}

fn tokens(text: &str, is_expression: bool) -> Result<(), Fault> {
    let mut shape = Shape::default();
    let mut seen = 0;
    for token in tokenize(text, is_expression, SyntaxConfig::default()) {
        let (token, span) = token.map_err(|error| {
            let mut fault = fault(&error, text);
            // What has no end is found at the end; it began after what was read before.
            if fault.range.clone().and_then(|range| text.get(range)).is_none_or(|piece| piece.trim().is_empty()) {
                let rest = text.get(seen..).unwrap_or_default();
                fault.range = Some(text.len() - rest.trim_start().len()..text.len());
            }
            fault
        })?;
        seen = range(span).end;
        shape.see(&token).map_err(|message| Fault::at(range(span), message))?;
    }
    Ok(())
}

impl Shape {
    fn see(&mut self, token: &Token<'_>) -> Result<(), String> {
        match token {
            Token::VariableStart => *self = Self::default(),
            Token::BlockStart => return Err("statements are not offered; write `{{ … }}`, with `a if b else c` for a choice".to_owned()),
            Token::ParenOpen | Token::BracketOpen | Token::BraceOpen => self.brackets += 1,
            Token::ParenClose | Token::BracketClose | Token::BraceClose => self.brackets = self.brackets.saturating_sub(1),
            Token::Ident(word) if !self.after_dot => offered(word)?,
            _ => {}
        }
        let is_sign = matches!(token, Token::Minus | Token::Plus | Token::Ident("not" | "if"));
        self.signs = match token {
            _ if is_sign => self.signs + 1,
            // A choice may stand in the last branch of another, and is parsed within it.
            Token::Ident("else") => self.signs,
            _ => 0,
        };
        self.after_dot = matches!(token, Token::Dot);
        self.powers.see(token)?;
        self.tokens += 1;
        for (count, most, what) in [
            (self.brackets, MAX_BRACKETS, "brackets are nested"),
            (self.signs, MAX_SIGNS, "signs stand in a row"),
            (self.tokens, MAX_TOKENS, "words and signs are in one expression"),
        ] {
            if count > most {
                return Err(format!("more than {most} {what}; make it simpler"));
            }
        }
        Ok(())
    }
}

/// What Python has and the engine reads as something else.
fn offered(word: &str) -> Result<(), String> {
    Err(match word {
        "for" => "comprehensions are not offered; write `any`, `all`, `in`, `|map(attribute='…')` or `|selectattr('…', '==', …)`",
        "lambda" => "functions of one's own are not offered",
        "import" | "exec" | "eval" => "only expressions are offered",
        "null" | "nil" => "there is `None` for that",
        _ => return Ok(()),
    }
    .to_owned())
}

/// What the engine finds wrong with a text, and what to write instead.
pub(super) fn fault(error: &minijinja::Error, text: &str) -> Fault {
    let said = error.detail().unwrap_or("it is no expression");
    let range = error.range().map(|range| {
        let start = text.floor_char_boundary(range.start.min(text.len()));
        start..text.ceil_char_boundary(range.end.clamp(start, text.len()))
    });
    let near = range.as_ref().and_then(|range| text.get(range.start..)).unwrap_or_default();
    let before = range.as_ref().and_then(|range| text.get(..range.start)).unwrap_or_default().trim_end();
    let instead = match near.chars().next() {
        Some('&') => "; write `and`",
        Some('|') if before.ends_with('|') || near.starts_with("||") => "; write `or`",
        Some('!') => "; write `not`",
        Some('=') if !near.starts_with("==") => "; write `==` to compare",
        _ => "",
    };
    Fault { message: format!("{said}{instead}"), range }
}
