//! Whose signature is whose. A provider signs or seals what its model thought and called, wants that back to the letter, and refuses what
//! another one made. So that a conversation can go on elsewhere, what Flowgate answers begins with the family that made it and a colon:
//! `anthropic:EqQB…`. Going back, the mark comes off for that family, and what is another's stays behind. What has no mark was not got from
//! here: it is taken for the asked provider's own.
//!
//! A family is all who read each other's signatures. Claude's are compatible wherever it is served, as Anthropic says, so that they are one;
//! everyone else reads only their own, and goes by the name of their row, which also keeps apart OpenAI and Azure: they refuse each other's
//! encrypted reasoning. No provider's own strings begin with a word and a colon: they are base64, hexadecimal or JSON.

use std::{collections::BTreeSet, fmt::Display};

use bytes::Bytes;
use flowgate_proto::v1::{ChatResponse, chat_delta::Delta, part::Kind};

use super::{Decoder, Frame, Target, params::Rules};
use crate::{
    error::Result,
    event::{Answer, Event},
};

/// Who made a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Family {
    /// The word for those who read its signatures: letters, digits and dashes, no capitals.
    pub(super) signs: &'static str,
    /// The word for those who read its redacted reasoning.
    pub(super) seals: &'static str,
}

/// What a signature is to the family that is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signed<T> {
    /// There is none.
    No,
    /// Its own, without the mark.
    Own(T),
    /// Another's.
    Foreign,
}

/// Marks the signatures of a stream: each once, where it begins.
struct Marking {
    family: Family,
    inner: Box<dyn Decoder>,
    /// The parts whose signature has begun, by choice and number.
    begun: BTreeSet<(u32, u32)>,
}

impl Family {
    /// Those who sign and seal under one word.
    pub(super) const fn new(word: &'static str) -> Self {
        Self { signs: word, seals: word }
    }

    /// A provider that alone reads what it signs.
    pub(super) fn of(target: &Target) -> Self {
        Self::new(target.provider)
    }

    /// What a signature is to the family.
    pub(super) fn read(self, signature: &str) -> Signed<&str> {
        match (word(signature.as_bytes()), signature.split_once(':')) {
            _ if signature.is_empty() => Signed::No,
            (None, _) => Signed::Own(signature),
            (Some(_), Some((word, own))) if word == self.signs => Signed::Own(own),
            (Some(_), _) => Signed::Foreign,
        }
    }

    /// What redacted reasoning is to the family.
    pub(super) fn read_redacted(self, redacted: &[u8]) -> Signed<&[u8]> {
        match word(redacted) {
            _ if redacted.is_empty() => Signed::No,
            None => Signed::Own(redacted),
            Some(word) if word == self.seals.as_bytes() => Signed::Own(redacted.get(word.len() + 1..).unwrap_or_default()),
            Some(_) => Signed::Foreign,
        }
    }

    /// A whole answer with its signatures marked.
    pub(super) fn answer(self, answer: Answer) -> Answer {
        match answer {
            Answer::Chat(chat) => Answer::Chat(self.chat(chat)),
            other => other,
        }
    }

    /// As [`Family::answer`], for a conversation's.
    pub(super) fn chat(self, mut answer: ChatResponse) -> ChatResponse {
        let messages = answer.choices.iter_mut().filter_map(|choice| choice.message.as_mut());
        for part in messages.flat_map(|message| &mut message.parts) {
            match &mut part.kind {
                Some(Kind::ToolCall(call)) => self.mark(&mut call.signature),
                Some(Kind::Reasoning(reasoning)) => {
                    self.mark(&mut reasoning.signature);
                    self.seal(&mut reasoning.redacted);
                }
                _ => {}
            }
        }
        answer
    }

    /// A decoder whose events have their signatures marked.
    pub(super) fn decoder(self, inner: Box<dyn Decoder>) -> Box<dyn Decoder> {
        Box::new(Marking { family: self, inner, begun: BTreeSet::new() })
    }

    fn mark(self, signature: &mut String) {
        if !signature.is_empty() {
            *signature = format!("{}:{signature}", self.signs);
        }
    }

    fn seal(self, redacted: &mut Bytes) {
        if !redacted.is_empty() {
            *redacted = [self.seals.as_bytes(), b":", redacted].concat().into();
        }
    }
}

impl<T: Default> Signed<T> {
    /// What is sent of it; empty when nothing is.
    pub(super) fn own(self) -> T {
        match self {
            Self::Own(own) => own,
            Self::No | Self::Foreign => T::default(),
        }
    }
}

/// For a protocol that has no place for a signature, or for redacted reasoning: what says whose it is stays behind.
///
/// # Errors
/// When it does not say so, as [`Rules::lack`].
pub(super) fn leave(signature: impl AsRef<[u8]>, rules: Rules<'_>, field: impl Display) -> Result<()> {
    let signature = signature.as_ref();
    if signature.is_empty() || is_marked(signature) { Ok(()) } else { rules.lack(field) }
}

/// Whether it begins with the mark of a family.
pub(super) fn is_marked(signature: &[u8]) -> bool {
    word(signature).is_some()
}

/// The word of the mark.
fn word(signature: &[u8]) -> Option<&[u8]> {
    let is_of_word = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    let end = signature.iter().position(|byte| !is_of_word(byte))?;
    let word = signature.get(..end).filter(|word| !word.is_empty())?;
    (signature.get(end) == Some(&b':')).then_some(word)
}

impl Decoder for Marking {
    fn frame(&mut self, frame: Frame, events: &mut Vec<Event>) -> Result<()> {
        let before = events.len();
        let read = self.inner.frame(frame, events);
        self.mark_since(before, events);
        read
    }

    fn finish(&mut self, events: &mut Vec<Event>) -> Result<()> {
        let before = events.len();
        let read = self.inner.finish(events);
        self.mark_since(before, events);
        read
    }
}

impl Marking {
    fn mark_since(&mut self, before: usize, events: &mut [Event]) {
        for event in events.iter_mut().skip(before) {
            let Event::Delta(piece) = event else { continue };
            let at = (piece.choice, piece.part);
            match &mut piece.delta {
                Some(Delta::ToolCall(head)) => self.family.mark(&mut head.signature),
                Some(Delta::Redacted(redacted)) => self.family.seal(redacted),
                Some(Delta::Signature(signature)) if !signature.is_empty() && self.begun.insert(at) => self.family.mark(signature),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
