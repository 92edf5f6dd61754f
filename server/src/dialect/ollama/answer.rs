//! Answers: lines, of which the last says that it is; a whole answer is one such line.

use chrono::DateTime;
use flowgate_proto::v1::{
    ChatDelta, ChatResponse, FinishReason, RawPart, StreamStart, ToolCallPart, Usage, UsageSource, chat_delta::Delta,
};
use serde_json::value::RawValue;

use super::SHAPE;
use crate::{
    dialect::{
        Decoder, Frame,
        errors::{Errors, bad_answer},
        functions::CallIn,
        join::join,
        json::{Count, Object, Str, is_meaningful, kept, object, place},
        openai,
        pieces::Pieces,
        tools::made_up_id,
    },
    error::Result,
    event::Event,
};

/// Fields of the last line that say how fast it was, and the old form of a memory; no answer of the contract has a place for them.
const PASSING: [&str; 5] = ["total_duration", "load_duration", "prompt_eval_duration", "eval_duration", "context"];

object! {
    /// A line of chat or of completions.
    LineIn {
        model: Str<'a> = "model",
        created_at: Str<'a> = "created_at",
        message: Option<MessageIn<'a>> = "message",
        response: Option<Str<'a>> = "response",
        thinking: Str<'a> = "thinking",
        done: Option<bool> = "done",
        done_reason: Str<'a> = "done_reason",
        prompt_eval_count: Count = "prompt_eval_count",
        eval_count: Count = "eval_count",
        logprobs: Option<&'a RawValue> = "logprobs",
        error: Option<&'a RawValue> = "error",
    }
}

object! {
    /// A message, or a piece of one.
    MessageIn {
        content: Str<'a> = "content",
        thinking: Str<'a> = "thinking",
        tool_calls: Vec<CallIn<'a>> = "tool_calls",
    }
}

/// Reads an answer, whole or line by line.
#[derive(Debug)]
pub(super) struct Reader {
    errors: Errors,
    is_started: bool,
    /// When the answer began, which tells it from others of the conversation.
    created_at: String,
    pieces: Pieces,
    text: Option<u32>,
    thinking: Option<u32>,
    /// How many calls were made.
    calls: usize,
}

/// A whole answer.
pub(super) fn decode(body: &[u8], errors: Errors) -> Result<ChatResponse> {
    let mut events = Vec::new();
    Reader::new(errors).line(body, &mut events)?;
    if !matches!(events.last(), Some(Event::End)) {
        return Err(bad_answer("the answer is not the whole one"));
    }
    join(events)
}

impl Decoder for Reader {
    fn frame(&mut self, frame: Frame, events: &mut Vec<Event>) -> Result<()> {
        self.line(&frame.data, events)
    }
}

impl Reader {
    /// A reader of one answer.
    pub(super) fn new(errors: Errors) -> Self {
        Self { errors, is_started: false, created_at: String::new(), pieces: Pieces::new(0), text: None, thinking: None, calls: 0 }
    }

    fn line(&mut self, line: &[u8], events: &mut Vec<Event>) -> Result<()> {
        let line: LineIn<'_> = serde_json::from_slice(line).map_err(|error| bad_answer(format!("a line at {}", place(&error))))?;
        if let Some(error) = line.error.filter(|error| is_meaningful(error)) {
            return Err(self.errors.inside(error));
        }
        if line.message.is_none() && line.response.is_none() {
            return Err(bad_answer("a line says nothing"));
        }
        let before = events.len();
        self.start(&line, events);
        let message = line.message.unwrap_or_default();
        self.think([line.thinking, message.thinking], events);
        self.say([line.response.unwrap_or_default(), message.content], events);
        if let Some(logprobs) = line.logprobs {
            self.logprobs(logprobs, events);
        }
        for call in message.tool_calls {
            self.call(call, events);
        }
        for (name, raw) in message.rest.into_iter().filter(|(name, raw)| name != "role" && is_meaningful(raw)) {
            let mut field = Object::default();
            field.put(&name, raw)?;
            let json = String::from_utf8_lossy(&field.end()).into_owned();
            self.pieces.whole(Delta::Raw(RawPart { provider: SHAPE.protocol.to_owned(), json }), events);
        }
        if line.done == Some(true) {
            self.pieces.end(finish_reason(&line.done_reason, self.calls), &line.done_reason, events);
            events.extend(usage(line.prompt_eval_count, line.eval_count).map(Event::Usage));
            events.push(Event::End);
        } else if events.len() == before {
            events.push(Event::Ping);
        }
        Ok(())
    }

    fn start(&mut self, line: &LineIn<'_>, events: &mut Vec<Event>) {
        if std::mem::replace(&mut self.is_started, true) {
            return;
        }
        self.created_at = line.created_at.to_string();
        let seconds = DateTime::parse_from_rfc3339(&line.created_at).ok().and_then(|time| u32::try_from(time.timestamp()).ok());
        let rest = line.rest.iter().filter(|(name, _)| !PASSING.contains(&&**name)).cloned().collect();
        events.push(Event::Start(StreamStart {
            id: String::new(),
            model: line.model.to_string(),
            created: seconds.unwrap_or_default(),
            provider_fields: kept(&rest),
        }));
    }

    fn think(&mut self, pieces: [Str<'_>; 2], events: &mut Vec<Event>) {
        for piece in pieces.into_iter().filter(|piece| !piece.is_empty()) {
            let part = self.pieces.slot(&mut self.thinking);
            self.pieces.push(part, Delta::Reasoning(piece.into()), events);
        }
    }

    fn say(&mut self, pieces: [Str<'_>; 2], events: &mut Vec<Event>) {
        for piece in pieces.into_iter().filter(|piece| !piece.is_empty()) {
            let part = self.pieces.slot(&mut self.text);
            self.pieces.push(part, Delta::Text(piece.into()), events);
        }
    }

    /// Log probabilities of the tokens of this line, where it has text that they could be of.
    fn logprobs(&mut self, raw: &RawValue, events: &mut Vec<Event>) {
        if let (Some(part), logprobs @ Some(_)) = (self.text, openai::tokens(raw)) {
            events.push(Event::Delta(ChatDelta { choice: self.pieces.choice(), part, delta: None, logprobs }));
        }
    }

    /// A call. Older servers give it no id, which its result has to name: then it gets one that no other answer has.
    fn call(&mut self, call: CallIn<'_>, events: &mut Vec<Event>) {
        let mut call = ToolCallPart::from(call);
        if call.id.is_empty() {
            call.id = made_up_id(&format!("{}\n{}\n{}\n{}", self.created_at, self.calls, call.name, call.arguments));
        }
        self.pieces.tool_call(call, events);
        self.calls += 1;
    }
}

/// Why it ended; the protocol says `stop` for calls too.
fn finish_reason(word: &str, calls: usize) -> FinishReason {
    match word {
        "stop" if calls > 0 => FinishReason::ToolCalls,
        "stop" => FinishReason::Stop,
        "length" => FinishReason::Length,
        _ => FinishReason::Unspecified,
    }
}

fn usage(input: Count, output: Count) -> Option<Usage> {
    let is_told = input.0.is_some() || output.0.is_some();
    is_told.then_some(Usage { input_tokens: input.0, output_tokens: output.0, source: UsageSource::Reported.into(), ..Usage::default() })
}
