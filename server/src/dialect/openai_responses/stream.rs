//! Reads the events of a streamed answer into the contract's. A whole answer is read by the same code, item by item, and joined.

use flowgate_proto::v1::{ChatResponse, RawPart, ToolCallPart, chat_delta::Delta};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    answer::{ItemIn, PieceIn, ResponseIn, citation_of, content, finish, head, raw, raw_entry, said},
    told::{EntryState, ItemState, Items, Kind, Section, Spot, places},
    usage,
};
use crate::{
    dialect::{
        Decoder, Frame,
        errors::{Errors, bad_answer},
        join::join,
        json::{Count, Str, is_meaningful, place},
        openai::tokens,
        pieces::Pieces,
    },
    error::Result,
    event::Event,
};

/// Calls besides those of functions that the caller has to carry out.
const CALLERS: [&str; 4] = ["apply_patch_call", "computer_call", "custom_tool_call", "local_shell_call"];

/// One event.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct EventIn<'a> {
    #[serde(borrow)]
    r#type: Option<Str<'a>>,
    #[serde(borrow)]
    response: Option<&'a RawValue>,
    #[serde(borrow)]
    item: Option<&'a RawValue>,
    #[serde(borrow)]
    part: Option<&'a RawValue>,
    output_index: Count,
    content_index: Count,
    summary_index: Count,
    #[serde(borrow)]
    delta: Option<&'a RawValue>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    refusal: Option<&'a RawValue>,
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
    #[serde(borrow)]
    annotation: Option<&'a RawValue>,
    #[serde(borrow)]
    logprobs: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

/// The decoder.
#[derive(Debug)]
pub(super) struct Typed {
    errors: Errors,
    pieces: Pieces,
    is_started: bool,
    wants_tools: bool,
    items: Items,
}

/// A whole answer.
///
/// # Errors
/// `PROVIDER_BAD_ANSWER` when the body is not what the protocol says; what the answer says went wrong.
pub(super) fn whole(body: &[u8], errors: Errors) -> Result<ChatResponse> {
    let response: ResponseIn<'_> = serde_json::from_slice(body).map_err(|error| bad_answer(format!("the answer at {}", place(&error))))?;
    let mut events = Vec::new();
    Typed::new(errors).end(&response, &mut events)?;
    join(events)
}

impl Decoder for Typed {
    fn frame(&mut self, frame: Frame, events: &mut Vec<Event>) -> Result<()> {
        let bytes = frame.data.trim_ascii();
        if bytes.is_empty() || bytes == b"[DONE]" {
            events.push(Event::Ping);
            return Ok(());
        }
        let event: EventIn<'_> = match serde_json::from_slice(bytes) {
            Ok(event) => event,
            Err(_) if *frame.name == *b"error" => return Err(self.errors.of_frame(bytes)),
            Err(error) => return Err(bad_answer(format!("an event at {}", place(&error)))),
        };
        let name = std::str::from_utf8(&frame.name).unwrap_or_default();
        let kind = event.r#type.as_deref().unwrap_or(name);
        if kind == "error" || event.error.is_some_and(is_meaningful) {
            return Err(self.errors.of_frame(bytes));
        }
        self.event(kind, &event, events)
    }
}

impl Typed {
    /// A decoder of one answer.
    pub(super) fn new(errors: Errors) -> Self {
        Self { errors, pieces: Pieces::new(0), is_started: false, wants_tools: false, items: Items::new() }
    }

    fn event(&mut self, kind: &str, event: &EventIn<'_>, events: &mut Vec<Event>) -> Result<()> {
        let item = event.output_index.0.unwrap_or_default();
        let entry = event.content_index.0.unwrap_or_default();
        let spot = (item, entry);
        match kind {
            "response.created" => self.start(&response(event)?, events),
            "response.output_item.added" => self.begun(item, event.item, events)?,
            "response.output_item.done" => self.done(item, event.item, events)?,
            "response.output_text.delta" => self.text(spot, piece(event.delta)?, event.logprobs, events),
            "response.output_text.annotation.added" => self.annotation(spot, event.annotation, events),
            "response.content_part.done" => {
                if let Some(json) = event.part {
                    self.entry(spot, json, events);
                }
            }
            "response.refusal.delta" => self.refusal(spot, piece(event.delta)?, events),
            "response.function_call_arguments.delta" => self.arguments(item, piece(event.delta)?, events)?,
            "response.reasoning_text.delta" => self.reasoning(item, (true, entry), piece(event.delta)?, events),
            "response.reasoning_summary_text.delta" => {
                self.reasoning(item, (false, event.summary_index.0.unwrap_or_default()), piece(event.delta)?, events);
            }
            "response.completed" | "response.incomplete" | "response.failed" => {
                let mut response = response(event)?;
                if response.status.is_empty() {
                    response.status = Str(kind.trim_start_matches("response.").to_owned().into());
                }
                self.end(&response, events)?;
                events.push(Event::End);
            }
            known if known.ends_with(".done") => self.said_whole(known, spot, event, events),
            // What frames the pieces.
            known if known.ends_with("_part.added") => {}
            _ => events.push(Event::Ping),
        }
        Ok(())
    }

    /// The whole of what pieces told before; some speakers tell it only so.
    fn said_whole(&mut self, kind: &str, spot: Spot, event: &EventIn<'_>, events: &mut Vec<Event>) {
        let text = |raw: Option<&RawValue>| piece(raw).unwrap_or_default();
        let (item, entry) = spot;
        match kind {
            "response.output_text.done" if self.spot(spot).text.is_none() => self.text(spot, text(event.text), event.logprobs, events),
            "response.refusal.done" if self.spot(spot).refusal.is_none() => self.refusal(spot, text(event.refusal), events),
            "response.function_call_arguments.done" => self.all_arguments(item, text(event.arguments), events),
            "response.reasoning_text.done" => self.section(item, (true, entry), text(event.text), events),
            "response.reasoning_summary_text.done" => {
                self.section(item, (false, event.summary_index.0.unwrap_or_default()), text(event.text), events);
            }
            _ => {}
        }
    }

    fn start(&mut self, response: &ResponseIn<'_>, events: &mut Vec<Event>) {
        if !std::mem::replace(&mut self.is_started, true) {
            events.push(Event::Start(head(response)));
        }
    }

    /// The end, with what was not told before: all of a whole answer.
    fn end(&mut self, response: &ResponseIn<'_>, events: &mut Vec<Event>) -> Result<()> {
        if let Some(error) = response.error.filter(|error| is_meaningful(error)) {
            return Err(self.errors.inside(error));
        }
        if *response.status == *"failed" {
            return Err(self.errors.of_frame(b""));
        }
        self.start(response, events);
        match &response.output {
            Some(output) => {
                for (place, item) in places(&self.items, output).into_iter().zip(output) {
                    self.done(place, Some(item), events)?;
                }
            }
            None if !self.items.values().any(ItemState::says) => return Err(bad_answer("the answer has no output")),
            None => {}
        }
        let (reason, word) = finish(response, self.wants_tools);
        self.pieces.end(reason, &word, events);
        events.extend(response.usage.and_then(usage::read).map(Event::Usage));
        Ok(())
    }

    /// The head of an item; only that of a call says something.
    fn begun(&mut self, index: u32, raw: Option<&RawValue>, events: &mut Vec<Event>) -> Result<()> {
        let raw = raw.ok_or_else(|| bad_answer("an event has no item"))?;
        self.item(index).kind = Some(Kind::of(raw));
        if let Ok(item) = serde_json::from_str::<ItemIn<'_>>(raw.get())
            && said(&item.r#type) == "function_call"
        {
            self.call(index, &item, events);
        }
        Ok(())
    }

    /// A whole item: what was not told of it before.
    fn done(&mut self, index: u32, json: Option<&RawValue>, events: &mut Vec<Event>) -> Result<()> {
        let json = json.ok_or_else(|| bad_answer("an event has no item"))?;
        let state = self.item(index);
        if std::mem::replace(&mut state.is_done, true) {
            return Ok(());
        }
        state.kind = Some(Kind::of(json));
        let item: ItemIn<'_> = match serde_json::from_str(json.get()) {
            Ok(item) => item,
            Err(_) => return self.keep(json, events),
        };
        match (said(&item.r#type), content(item.content)) {
            ("message", Some(entries)) => {
                for (n, entry) in (0..).zip(entries) {
                    self.entry((index, n), entry, events);
                }
            }
            ("function_call", _) => self.call(index, &item, events),
            ("reasoning", Some(entries)) => self.reasoned(index, &item, &entries, events),
            _ => return self.keep(json, events),
        }
        Ok(())
    }

    /// An item that has no name in the contract.
    fn keep(&mut self, json: &RawValue, events: &mut Vec<Event>) -> Result<()> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Kind {
            r#type: Option<String>,
        }
        let kind: Kind = serde_json::from_str(json.get()).map_err(|_| bad_answer("an item is no object"))?;
        self.wants_tools |= kind.r#type.is_some_and(|kind| CALLERS.contains(&&*kind));
        self.raw(raw(json.get()), events);
        Ok(())
    }

    fn raw(&mut self, part: RawPart, events: &mut Vec<Event>) {
        self.pieces.whole(Delta::Raw(part), events);
    }

    /// A whole entry of a message: what was not told of it before.
    fn entry(&mut self, spot: Spot, json: &RawValue, events: &mut Vec<Event>) {
        if std::mem::replace(&mut self.spot(spot).is_done, true) {
            return;
        }
        let Ok(entry) = serde_json::from_str::<PieceIn<'_>>(json.get()) else {
            return self.raw(raw_entry(json.get()), events);
        };
        let EntryState { text, refusal, cited, .. } = *self.spot(spot);
        match said(&entry.r#type) {
            "output_text" | "text" => {
                if text.is_none() {
                    self.text(spot, said(&entry.text).to_owned(), entry.logprobs, events);
                }
                for annotation in entry.annotations.into_iter().flatten().skip(cited) {
                    self.annotation(spot, Some(annotation), events);
                }
            }
            "refusal" if refusal.is_some() => {}
            "refusal" => self.refusal(spot, said(&entry.refusal).to_owned(), events),
            _ => self.raw(raw_entry(json.get()), events),
        }
    }

    fn text(&mut self, spot: Spot, text: String, logprobs: Option<&RawValue>, events: &mut Vec<Event>) {
        let logprobs = logprobs.and_then(tokens);
        if !text.is_empty() || logprobs.is_some() {
            let part = self.slot(spot, |entry| &mut entry.text);
            self.pieces.push_scored(part, Delta::Text(text), logprobs, events);
        }
    }

    fn refusal(&mut self, spot: Spot, text: String, events: &mut Vec<Event>) {
        if !text.is_empty() {
            let part = self.slot(spot, |entry| &mut entry.refusal);
            self.pieces.push(part, Delta::Refusal(text), events);
        }
    }

    fn annotation(&mut self, spot: Spot, annotation: Option<&RawValue>, events: &mut Vec<Event>) {
        let Some(annotation) = annotation else { return };
        self.spot(spot).cited += 1;
        match citation_of(annotation) {
            Some(citation) => {
                let part = self.slot(spot, |entry| &mut entry.text);
                self.pieces.push(part, Delta::Citation(citation), events);
            }
            None => self.raw(raw(annotation.get()), events),
        }
    }

    /// A call, or what was not told of it before. Some speakers give it one id only.
    fn call(&mut self, index: u32, item: &ItemIn<'_>, events: &mut Vec<Event>) {
        self.wants_tools = true;
        if self.item(index).call.is_none() {
            let id = said(if said(&item.call_id).is_empty() { &item.id } else { &item.call_id });
            let head = ToolCallPart { id: id.to_owned(), name: said(&item.name).to_owned(), ..ToolCallPart::default() };
            let part = self.pieces.whole(Delta::ToolCall(head), events);
            self.item(index).call = Some(part);
        }
        self.all_arguments(index, said(&item.arguments).to_owned(), events);
    }

    /// The whole arguments of a call, where no pieces told them.
    fn all_arguments(&mut self, index: u32, arguments: String, events: &mut Vec<Event>) {
        let ItemState { call, has_arguments, .. } = self.item(index);
        if let (Some(part), false, false) = (*call, *has_arguments, arguments.is_empty()) {
            *has_arguments = true;
            self.pieces.push(part, Delta::Arguments(arguments), events);
        }
    }

    fn arguments(&mut self, index: u32, piece: String, events: &mut Vec<Event>) -> Result<()> {
        let item = self.item(index);
        let Some(part) = item.call else { return Err(bad_answer("arguments of no call")) };
        if !piece.is_empty() {
            item.has_arguments = true;
            self.pieces.push(part, Delta::Arguments(piece), events);
        }
        Ok(())
    }

    /// A piece of reasoning; a blank line stands between two entries of it.
    fn reasoning(&mut self, index: u32, section: Section, mut text: String, events: &mut Vec<Event>) {
        if text.is_empty() {
            return;
        }
        let item = self.item(index);
        item.kind.get_or_insert(Kind::Reasoning);
        item.sections.insert(section);
        let last = item.section.replace(section);
        if last.is_some_and(|last| last != section) {
            text.insert_str(0, "\n\n");
        }
        let part = self.reasoning_slot(index);
        self.pieces.push(part, Delta::Reasoning(text), events);
    }

    /// A whole entry of reasoning, where no pieces told it.
    fn section(&mut self, index: u32, section: Section, text: String, events: &mut Vec<Event>) {
        if !self.item(index).sections.contains(&section) {
            self.reasoning(index, section, text, events);
        }
    }

    fn reasoned(&mut self, index: u32, item: &ItemIn<'_>, entries: &[&RawValue], events: &mut Vec<Event>) {
        if self.item(index).section.is_none() {
            for (n, entry) in (0..).zip(item.summary.iter().flatten()) {
                self.reasoning(index, (false, n), said(&entry.text).to_owned(), events);
            }
            for (n, entry) in (0..).zip(entries) {
                let text = serde_json::from_str::<PieceIn<'_>>(entry.get()).map(|entry| said(&entry.text).to_owned()).unwrap_or_default();
                self.reasoning(index, (true, n), text, events);
            }
        }
        let encrypted = said(&item.encrypted_content);
        if !encrypted.is_empty() {
            let part = self.reasoning_slot(index);
            self.pieces.push(part, Delta::Signature(encrypted.to_owned()), events);
        }
    }

    fn reasoning_slot(&mut self, index: u32) -> u32 {
        self.pieces.slot(&mut self.items.entry(index).or_default().reasoning)
    }

    fn slot(&mut self, (item, entry): Spot, of: fn(&mut EntryState) -> &mut Option<u32>) -> u32 {
        let item = self.items.entry(item).or_default();
        item.kind.get_or_insert(Kind::Message);
        self.pieces.slot(of(item.entry(entry)))
    }

    fn item(&mut self, index: u32) -> &mut ItemState {
        self.items.entry(index).or_default()
    }

    fn spot(&mut self, (item, entry): Spot) -> &mut EntryState {
        self.item(item).entry(entry)
    }
}

fn response<'a>(event: &EventIn<'a>) -> Result<ResponseIn<'a>> {
    let raw = event.response.ok_or_else(|| bad_answer("an event has no response"))?;
    serde_json::from_str(raw.get()).map_err(|error| bad_answer(format!("a response at {}", place(&error))))
}

/// A piece of text.
fn piece(delta: Option<&RawValue>) -> Result<String> {
    let text: Str<'_> =
        delta.and_then(|delta| serde_json::from_str(delta.get()).ok()).ok_or_else(|| bad_answer("a piece of an answer is no text"))?;
    Ok(text.into())
}
