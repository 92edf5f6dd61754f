//! Reads the events of a streamed answer into the contract's. A whole answer is read by the same code, item by item, and joined.

use flowgate_proto::v1::{ChatResponse, RawPart, ToolCallPart, chat_delta::Delta};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    answer::{ItemIn, PieceIn, ResponseIn, citation_of, content, finish, head, raw, raw_entry, said},
    told::{About, EntryState, ItemState, Items, Kind, Section, Spot},
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
    #[serde(borrow)]
    item_id: Option<&'a RawValue>,
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

impl<'a> EventIn<'a> {
    /// Which item it is about, of the kind that the event is of.
    fn about(&self, kind: Kind) -> About<'a> {
        let id = self.item_id.and_then(|id| serde_json::from_str(id.get()).ok()).unwrap_or_default();
        About { kind, index: self.output_index.0, id, ..About::default() }
    }

    fn entry(&self) -> u32 {
        self.content_index.0.unwrap_or_default()
    }

    /// The piece of reasoning that it is about: of its content, or of its summary.
    fn section(&self, is_open: bool) -> Section {
        (is_open, if is_open { self.entry() } else { self.summary_index.0.unwrap_or_default() })
    }
}

/// The decoder.
#[derive(Debug)]
pub(super) struct Typed {
    errors: Errors,
    pieces: Pieces,
    is_started: bool,
    wants_tools: bool,
    items: Items,
    /// Whether `[DONE]` is an end too, and nobody need have said that the response is begun.
    ends_at_done: bool,
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
        if self.ends_at_done && bytes == b"[DONE]" {
            self.end(&ResponseIn::default(), events)?;
            events.push(Event::End);
            return Ok(());
        }
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
        Self { errors, pieces: Pieces::new(0), is_started: false, wants_tools: false, items: Items::default(), ends_at_done: false }
    }

    /// The same for speakers whose end mark is `[DONE]`, and who may say nothing of the response but its pieces.
    pub(super) fn until_done(self) -> Self {
        Self { ends_at_done: true, ..self }
    }

    fn event(&mut self, kind: &str, event: &EventIn<'_>, events: &mut Vec<Event>) -> Result<()> {
        if self.items.are_too_many() {
            return Err(bad_answer("the answer has more than 4,096 items"));
        }
        if self.ends_at_done && !matches!(kind, "response.created" | "response.completed" | "response.incomplete") {
            self.start(&ResponseIn::default(), events);
        }
        match kind {
            "response.created" => self.start(&response(event)?, events),
            "response.output_item.added" => self.begun(event, events)?,
            "response.output_item.done" => self.done(event, events)?,
            "response.output_text.delta" => {
                let spot = self.message(event);
                self.text(spot, piece(event.delta)?, event.logprobs, events);
            }
            "response.output_text.annotation.added" => {
                let spot = self.message(event);
                self.annotation(spot, event.annotation, events);
            }
            "response.refusal.delta" => {
                let spot = self.message(event);
                self.refusal(spot, piece(event.delta)?, events);
            }
            "response.function_call_arguments.delta" => self.arguments(event, events)?,
            "response.reasoning_text.delta" => self.thought(event, true, events)?,
            "response.reasoning_summary_text.delta" => self.thought(event, false, events)?,
            "response.completed" | "response.incomplete" | "response.failed" => {
                let mut response = response(event)?;
                if response.status.is_empty() {
                    response.status = Str(kind.trim_start_matches("response.").to_owned().into());
                }
                self.end(&response, events)?;
                events.push(Event::End);
            }
            known if known.ends_with(".done") => self.said_whole(known, event, events),
            // What frames the pieces.
            known if known.ends_with("_part.added") => {}
            _ => events.push(Event::Ping),
        }
        Ok(())
    }

    /// The whole of what pieces told before; some speakers tell it only so.
    fn said_whole(&mut self, kind: &str, event: &EventIn<'_>, events: &mut Vec<Event>) {
        let text = |raw: Option<&RawValue>| piece(raw).unwrap_or_default();
        match kind {
            "response.content_part.done" => self.part(event, events),
            "response.output_text.done" => {
                let spot = self.message(event);
                if self.spot(spot).text.is_none() {
                    self.text(spot, text(event.text), event.logprobs, events);
                }
            }
            "response.refusal.done" => {
                let spot = self.message(event);
                if self.spot(spot).refusal.is_none() {
                    self.refusal(spot, text(event.refusal), events);
                }
            }
            "response.function_call_arguments.done" => {
                if let Some(item) = self.items.likely(&event.about(Kind::Call)) {
                    self.all_arguments(item, text(event.arguments), events);
                }
            }
            "response.reasoning_text.done" => self.whole_thought(event, true, text(event.text), events),
            "response.reasoning_summary_text.done" => self.whole_thought(event, false, text(event.text), events),
            _ => {}
        }
    }

    /// A whole entry of a message, or of reasoning in the open.
    fn part(&mut self, event: &EventIn<'_>, events: &mut Vec<Event>) {
        let Some(json) = event.part else { return };
        match serde_json::from_str::<PieceIn<'_>>(json.get()) {
            Ok(part) if said(&part.r#type) == "reasoning_text" => {
                self.whole_thought(event, true, said(&part.text).to_owned(), events);
            }
            _ => {
                let spot = self.message(event);
                self.entry(spot, json, events);
            }
        }
    }

    /// The entry of a message that an event is about.
    fn message(&mut self, event: &EventIn<'_>) -> Spot {
        (self.items.of(&event.about(Kind::Message)), event.entry())
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
                for (item, json) in self.items.again(output).into_iter().zip(output) {
                    if let Some(item) = item {
                        self.whole_item(item, json, events)?;
                    }
                }
            }
            None if !self.items.says() => return Err(bad_answer("the answer has no output")),
            None => {}
        }
        let (reason, word) = finish(response, self.wants_tools);
        self.pieces.end(reason, &word, events);
        events.extend(response.usage.and_then(usage::read).map(Event::Usage));
        Ok(())
    }

    /// The head of an item; only that of a call says something.
    fn begun(&mut self, event: &EventIn<'_>, events: &mut Vec<Event>) -> Result<()> {
        let raw = event.item.ok_or_else(|| bad_answer("an event has no item"))?;
        let index = self.items.of(&About { begins: true, ..About::item(raw, event.output_index.0) });
        if let Ok(item) = serde_json::from_str::<ItemIn<'_>>(raw.get())
            && said(&item.r#type) == "function_call"
        {
            self.call(index, &item, events);
        }
        Ok(())
    }

    fn done(&mut self, event: &EventIn<'_>, events: &mut Vec<Event>) -> Result<()> {
        let json = event.item.ok_or_else(|| bad_answer("an event has no item"))?;
        let item = self.items.of(&About::item(json, event.output_index.0));
        self.whole_item(item, json, events)
    }

    /// A whole item: what was not told of it before.
    fn whole_item(&mut self, index: u32, json: &RawValue, events: &mut Vec<Event>) -> Result<()> {
        if std::mem::replace(&mut self.items.state(index).is_done, true) {
            return Ok(());
        }
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
        if self.items.state(index).call.is_none() {
            let id = said(if said(&item.call_id).is_empty() { &item.id } else { &item.call_id });
            let head = ToolCallPart { id: id.to_owned(), name: said(&item.name).to_owned(), ..ToolCallPart::default() };
            let part = self.pieces.whole(Delta::ToolCall(head), events);
            self.items.state(index).call = Some(part);
        }
        self.all_arguments(index, said(&item.arguments).to_owned(), events);
    }

    /// The whole arguments of a call, where no pieces told them.
    fn all_arguments(&mut self, index: u32, arguments: String, events: &mut Vec<Event>) {
        let ItemState { call, has_arguments, .. } = self.items.state(index);
        if let (Some(part), false, false) = (*call, *has_arguments, arguments.is_empty()) {
            *has_arguments = true;
            self.pieces.push(part, Delta::Arguments(arguments), events);
        }
    }

    fn arguments(&mut self, event: &EventIn<'_>, events: &mut Vec<Event>) -> Result<()> {
        let piece = piece(event.delta)?;
        let item = self.items.likely(&event.about(Kind::Call)).map(|item| self.items.state(item));
        let Some((item, part)) = item.and_then(|item| item.call.map(|part| (item, part))) else {
            return Err(bad_answer("arguments of no call"));
        };
        if !piece.is_empty() {
            item.has_arguments = true;
            self.pieces.push(part, Delta::Arguments(piece), events);
        }
        Ok(())
    }

    fn thought(&mut self, event: &EventIn<'_>, is_open: bool, events: &mut Vec<Event>) -> Result<()> {
        let item = self.items.of(&event.about(Kind::Reasoning));
        self.reasoning(item, event.section(is_open), piece(event.delta)?, events);
        Ok(())
    }

    /// A piece of reasoning; a blank line stands between two entries of it.
    fn reasoning(&mut self, index: u32, section: Section, mut text: String, events: &mut Vec<Event>) {
        if text.is_empty() {
            return;
        }
        let item = self.items.state(index);
        item.sections.insert(section);
        let last = item.section.replace(section);
        if last.is_some_and(|last| last != section) {
            text.insert_str(0, "\n\n");
        }
        let part = self.reasoning_slot(index);
        self.pieces.push(part, Delta::Reasoning(text), events);
    }

    /// A whole entry of reasoning, where no pieces told it.
    fn whole_thought(&mut self, event: &EventIn<'_>, is_open: bool, text: String, events: &mut Vec<Event>) {
        let (item, section) = (self.items.of(&event.about(Kind::Reasoning)), event.section(is_open));
        if !self.items.state(item).sections.contains(&section) {
            self.reasoning(item, section, text, events);
        }
    }

    fn reasoned(&mut self, index: u32, item: &ItemIn<'_>, entries: &[&RawValue], events: &mut Vec<Event>) {
        if self.items.state(index).section.is_none() {
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
        self.pieces.slot(&mut self.items.state(index).reasoning)
    }

    fn slot(&mut self, (item, entry): Spot, of: fn(&mut EntryState) -> &mut Option<u32>) -> u32 {
        self.pieces.slot(of(self.items.state(item).entry(entry)))
    }

    fn spot(&mut self, (item, entry): Spot) -> &mut EntryState {
        self.items.state(item).entry(entry)
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
