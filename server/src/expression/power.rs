//! `**` where the engine groups otherwise than Python: behind another one, and behind a `-`. There, brackets must say what is meant. Pure.

use std::mem;

use minijinja::machinery::Token;

/// What stands before a word, as far as that decides how `**` groups.
#[derive(Default)]
pub(super) struct Powers {
    outer: Vec<Operand>,
    operand: Operand,
    after_value: bool,
}

/// What is known of the operand that is being read.
#[derive(Default)]
struct Operand {
    signed: bool,
    raised: bool,
}

impl Powers {
    /// Takes the next word or sign.
    ///
    /// # Errors
    /// When it is a `**` that Python would read otherwise.
    pub(super) fn see(&mut self, token: &Token<'_>) -> Result<(), String> {
        let mut is_value = false;
        match token {
            Token::ParenOpen | Token::BracketOpen | Token::BraceOpen => self.outer.push(mem::take(&mut self.operand)),
            Token::ParenClose | Token::BracketClose | Token::BraceClose => {
                self.operand = self.outer.pop().unwrap_or_default();
                is_value = true;
            }
            Token::Pow if self.operand.signed || self.operand.raised => {
                return Err(
                    "Python reads `**` behind a `-` or another `**` from the right; write brackets, for example `2 ** (3 ** 2)`".to_owned()
                );
            }
            Token::Pow => self.operand.raised = true,
            // Behind a `**` it belongs to what follows, here as in Python.
            Token::Minus if !self.after_value => self.operand.signed |= !self.operand.raised,
            Token::Ident("and" | "or" | "not" | "in" | "is" | "if" | "else") => self.operand = Operand::default(),
            Token::Ident(_) | Token::Str(_) | Token::String(_) | Token::Int(_) | Token::Int128(_) | Token::Float(_) => is_value = true,
            Token::Dot | Token::Pipe => {}
            _ => self.operand = Operand::default(),
        }
        self.after_value = is_value;
        Ok(())
    }
}
