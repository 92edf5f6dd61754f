//! Reads the chunks of a streamed answer into the contract's events; chat and completions alike.

use std::collections::BTreeMap;

use flowgate_proto::v1::{ChatDelta, Logprobs, RawPart, StreamStart, ToolCallPart, chat_delta::Delta};

use super::{
    answer::{AnswerIn, ChoiceIn, finish_reason, further, index},
    logprobs,
    parts::{
        Content, MessageIn, Piece, Side, ToolCallIn, arguments_of, citation_of, custom_call, piece_of, raw_field, raw_fields,
        reasoning_text,
    },
    usage,
    words::errors,
};
use crate::{
    dialect::{
        Decoder, Frame, Quirks,
        errors::{Errors, bad_answer, is_bare_error},
        json::{At, named, place},
        pieces::Pieces,
    },
    error::Result,
    event::Event,
};

/// The decoder of the typed lane.
#[derive(Debug)]
pub(super) struct Typed {
    errors: Errors,
    head: StreamStart,
    is_started: bool,
    choices: BTreeMap<u32, ChoiceState>,
}

/// What one frame is.
pub(super) enum Said<'a> {
    /// A comment, or an event without data.
    Nothing,
    /// The end mark.
    Done,
    /// A chunk.
    Chunk(&'a [u8]),
}

#[derive(Debug, Default)]
struct ChoiceState {
    pieces: Pieces,
    text: Option<u32>,
    reasoning: Option<u32>,
    refusal: Option<u32>,
    tools: Vec<ToolState>,
    /// The newest call of each index.
    by_index: BTreeMap<u32, usize>,
}

#[derive(Debug)]
struct ToolState {
    id: String,
    part: u32,
    head: ToolCallPart,
    is_announced: bool,
}

/// Tells frames apart.
///
/// # Errors
/// What an error event says.
pub(super) fn said(frame: &Frame, errors: Errors) -> Result<Said<'_>> {
    let data = frame.data.trim_ascii();
    match data {
        _ if *frame.name == *b"error" => Err(errors.of_frame(data)),
        b"" => Ok(Said::Nothing),
        b"[DONE]" => Ok(Said::Done),
        data => Ok(Said::Chunk(data)),
    }
}

impl Decoder for Typed {
    fn frame(&mut self, frame: Frame, events: &mut Vec<Event>) -> Result<()> {
        match said(&frame, self.errors)? {
            Said::Nothing => events.push(Event::Ping),
            Said::Done => self.end(events)?,
            Said::Chunk(data) => self.chunk(data, events)?,
        }
        Ok(())
    }
}

impl Typed {
    /// A decoder for a speaker with these quirks.
    pub(super) fn new(quirks: &'static Quirks) -> Self {
        Self { errors: errors(quirks), head: StreamStart::default(), is_started: false, choices: BTreeMap::new() }
    }

    fn chunk(&mut self, data: &[u8], events: &mut Vec<Event>) -> Result<()> {
        let chunk: AnswerIn<'_> = serde_json::from_slice(data).map_err(|error| bad_answer(format!("a chunk at {}", place(&error))))?;
        self.errors.pass(chunk.error, data)?;
        let AnswerIn { id, model, created, choices, usage, error: _, rest } = chunk;
        if choices.is_empty() && is_bare_error(&rest) {
            return Err(self.errors.of_frame(data));
        }
        if !self.is_started {
            fill(&mut self.head.id, &id);
            fill(&mut self.head.model, &model);
            self.head.created = created.0.unwrap_or(self.head.created);
            if let Some(fields) = further(&rest) {
                self.head.provider_fields.get_or_insert_default().fields.extend(fields.fields);
            }
            if !choices.is_empty() {
                self.is_started = true;
                events.push(Event::Start(std::mem::take(&mut self.head)));
            }
        }
        for (n, choice) in choices.into_iter().enumerate() {
            let state = self.choice(index(choice.index, n));
            state.read(choice, events)?;
        }
        if let Some(usage) = usage::with_tier(usage::read(usage, self.errors.quirks()), named(&rest, "service_tier")) {
            events.push(Event::Usage(usage));
        }
        Ok(())
    }

    /// Some speakers never say why a choice ended; the end mark ends it too.
    fn end(&mut self, events: &mut Vec<Event>) -> Result<()> {
        if !self.is_started {
            return Err(bad_answer("the stream ended without a choice"));
        }
        self.choices.values_mut().for_each(|choice| choice.pieces.end(finish_reason(""), "", events));
        events.push(Event::End);
        Ok(())
    }

    fn choice(&mut self, index: u32) -> &mut ChoiceState {
        let begun = || ChoiceState { pieces: Pieces::new(index), ..ChoiceState::default() };
        self.choices.entry(index).or_insert_with(begun)
    }
}

fn fill(field: &mut String, value: &str) {
    if field.is_empty() {
        value.clone_into(field);
    }
}

impl ChoiceState {
    fn read(&mut self, choice: ChoiceIn<'_>, events: &mut Vec<Event>) -> Result<()> {
        let before = events.len();
        let word = choice.finish_word().to_owned();
        if let Some(delta) = choice.delta.or(choice.message) {
            self.read_delta(delta, events)?;
        }
        if let Some(text) = choice.text.filter(|text| !text.is_empty()) {
            self.push_text(text.into(), events);
        }
        if let Some(logprobs) = choice.logprobs.and_then(logprobs::read) {
            self.push_logprobs(logprobs, before, events);
        }
        if !word.is_empty() {
            self.pieces.end(finish_reason(&word), &word, events);
        }
        Ok(())
    }

    fn read_delta(&mut self, delta: MessageIn<'_>, events: &mut Vec<Event>) -> Result<()> {
        self.push_reasoning(reasoning_text(&delta), events);
        match delta.content {
            Content::None => {}
            Content::Text(text) if text.is_empty() => {}
            Content::Text(text) => self.push_text(text.into(), events),
            Content::Parts(list) => {
                for raw in list {
                    let (piece, _) = piece_of(raw, Side::Answer, At::Root)?;
                    self.push_piece(piece, events);
                }
            }
        }
        for raw in delta.annotations {
            if let Some(citation) = citation_of(raw) {
                let part = self.pieces.slot(&mut self.text);
                self.pieces.push(part, Delta::Citation(citation), events);
            } else {
                self.push_raw(raw_field("annotations", &format!("[{}]", raw.get())), events);
            }
        }
        self.push_refusal(delta.refusal.into(), events);
        for call in delta.tool_calls {
            self.push_tool_call(&call, events);
        }
        for raw in raw_fields(&delta.rest) {
            self.push_raw(raw, events);
        }
        Ok(())
    }

    fn push_piece(&mut self, piece: Piece<'_>, events: &mut Vec<Event>) {
        match piece {
            Piece::Text(text) if text.is_empty() => {}
            Piece::Text(text) => self.push_text(text.into(), events),
            Piece::Reasoning(text) => self.push_reasoning(text, events),
            Piece::Refusal(text) => self.push_refusal(text.into(), events),
            Piece::Media(media) => drop(self.pieces.whole(Delta::Media(media), events)),
            Piece::Raw(raw) => self.push_raw(raw, events),
        }
    }

    fn push_text(&mut self, text: String, events: &mut Vec<Event>) {
        let part = self.pieces.slot(&mut self.text);
        self.pieces.push(part, Delta::Text(text), events);
    }

    fn push_reasoning(&mut self, text: String, events: &mut Vec<Event>) {
        if !text.is_empty() {
            let part = self.pieces.slot(&mut self.reasoning);
            self.pieces.push(part, Delta::Reasoning(text), events);
        }
    }

    fn push_refusal(&mut self, text: String, events: &mut Vec<Event>) {
        if !text.is_empty() {
            let part = self.pieces.slot(&mut self.refusal);
            self.pieces.push(part, Delta::Refusal(text), events);
        }
    }

    fn push_raw(&mut self, raw: RawPart, events: &mut Vec<Event>) {
        self.pieces.whole(Delta::Raw(raw), events);
    }

    fn push_tool_call(&mut self, call: &ToolCallIn<'_>, events: &mut Vec<Event>) {
        if let Some(raw) = custom_call(call) {
            return self.push_raw(raw, events);
        }
        let name = call.function.as_ref().map_or("", |function| &function.name);
        let at = self.tool(call, name);
        let tool = &mut self.tools[at];
        let arguments = arguments_of(call);
        if !tool.is_announced {
            fill(&mut tool.head.id, &call.id);
            fill(&mut tool.head.name, name);
            fill(&mut tool.head.signature, &call.thought_signature);
            if !tool.head.name.is_empty() || !arguments.is_empty() {
                tool.is_announced = true;
                self.pieces.push(tool.part, Delta::ToolCall(std::mem::take(&mut tool.head)), events);
            }
        }
        if !arguments.is_empty() {
            self.pieces.push(tool.part, Delta::Arguments(arguments), events);
        }
    }

    /// The tool call that a piece belongs to. Some speakers leave the index out, and some give all calls the same one: then a new
    /// name with a new id is a new call.
    fn tool(&mut self, call: &ToolCallIn<'_>, name: &str) -> usize {
        let index = call.index.0;
        let same_index = index.and_then(|index| self.by_index.get(&index).copied());
        let known = same_index.or_else(|| self.tools.len().checked_sub(1).filter(|_| index.is_none()));
        if let Some(at) = known.filter(|at| name.is_empty() || !self.tools[*at].is_other(&call.id)) {
            return at;
        }
        let part = self.pieces.fresh();
        self.by_index.extend(index.map(|index| (index, self.tools.len())));
        self.tools.push(ToolState { id: call.id.to_string(), part, head: ToolCallPart::default(), is_announced: false });
        self.tools.len() - 1
    }

    /// Log probabilities go with the text of their chunk, or alone.
    fn push_logprobs(&mut self, logprobs: Logprobs, before: usize, events: &mut Vec<Event>) {
        let of_text = events.iter_mut().skip(before).find_map(|event| match event {
            Event::Delta(delta) if matches!(delta.delta, Some(Delta::Text(_) | Delta::Refusal(_))) => Some(delta),
            _ => None,
        });
        match of_text {
            Some(delta) => delta.logprobs = Some(logprobs),
            None if logprobs.content.is_empty() && logprobs.refusal.is_empty() => {}
            None => {
                let part = self.pieces.slot(&mut self.text);
                events.push(Event::Delta(ChatDelta { choice: self.pieces.choice(), part, delta: None, logprobs: Some(logprobs) }));
            }
        }
    }
}

impl ToolState {
    fn is_other(&self, id: &str) -> bool {
        !id.is_empty() && id != self.id
    }
}
