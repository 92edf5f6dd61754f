//! Content blocks of answers as the contract's pieces: whole ones, and those that grow in a stream.

use flowgate_proto::v1::{Citation, RawPart, ToolCallPart, chat_delta::Delta};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{PROTOCOL, words::finish_reason};
use crate::{
    dialect::{
        errors::bad_answer,
        json::{Fields, Object, Str, is_null, place},
        pieces::Pieces,
    },
    error::Result,
    event::Event,
};

/// The one field of a raw part that holds a source of the text before it: no block, and never sent back as one.
pub(super) const SOURCE: &str = "citation";

/// The blocks of one answer so far. Texts that follow each other are one part, since a cited answer is cut where its sources change; the
/// place of a source is that of the block that it came with.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    pieces: Pieces,
    /// The text part that a further text block goes on with, and its length in characters.
    text: Option<u32>,
    chars: u32,
    /// One block comes after the other.
    open: Option<(u32, Open)>,
}

/// A block that may still grow.
#[derive(Debug)]
enum Open {
    /// Sources come before or after what they support: they wait for the end.
    Text {
        start: u32,
        citations: Vec<Box<RawValue>>,
    },
    Thinking {
        part: Option<u32>,
    },
    /// The arguments as they stood in the block's head, until they come in pieces.
    ToolUse {
        part: u32,
        whole: Option<String>,
    },
    /// Told already.
    Done,
    Raw(Growing),
}

/// How many fields of a block may grow; those of known blocks are fewer than ten.
const MOST_GROWN: usize = 64;

/// A block of the provider's own that is told whole, once it is.
#[derive(Debug)]
struct Growing {
    head: Box<RawValue>,
    /// The pieces of its `input`, joined.
    input: String,
    /// What later pieces say of other fields: text goes on, all else replaces.
    fields: Vec<(String, Grown)>,
}

#[derive(Debug)]
enum Grown {
    Text(String),
    Json(Box<RawValue>),
}

#[derive(Deserialize)]
struct Typed<'a> {
    #[serde(rename = "type", borrow)]
    kind: Str<'a>,
}

/// The fields of the blocks and deltas that the contract has parts for.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Known<'a> {
    #[serde(borrow)]
    text: Option<Str<'a>>,
    #[serde(borrow)]
    citations: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    citation: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<Str<'a>>,
    #[serde(borrow)]
    name: Option<Str<'a>>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    #[serde(borrow)]
    caller: Option<&'a RawValue>,
    #[serde(borrow)]
    partial_json: Option<Str<'a>>,
    #[serde(borrow)]
    thinking: Option<Str<'a>>,
    #[serde(borrow)]
    signature: Option<Str<'a>>,
    #[serde(borrow)]
    data: Option<Str<'a>>,
}

/// A source, in whichever of its forms.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Source {
    cited_text: Option<String>,
    url: Option<String>,
    source: Option<String>,
    title: Option<String>,
    document_title: Option<String>,
}

fn read<'a, T: Deserialize<'a>>(raw: &'a RawValue, what: &str) -> Result<T> {
    serde_json::from_str(raw.get()).map_err(|error| bad_answer(format!("{what} at {}", place(&error))))
}

fn owned(text: Option<Str<'_>>) -> String {
    text.map(String::from).unwrap_or_default()
}

impl Blocks {
    /// The head of a block: all of it in a whole answer.
    ///
    /// # Errors
    /// When it is not what the protocol says.
    pub(super) fn start(&mut self, index: u32, head: &RawValue, events: &mut Vec<Event>) -> Result<()> {
        self.stop(events);
        let Typed { kind } = read(head, "a block")?;
        let open = match &*kind {
            "text" => {
                let Known { text, citations, .. } = read(head, "a text block")?;
                let start = self.chars;
                self.push_text(owned(text), events);
                Open::Text { start, citations: citations.unwrap_or_default().into_iter().map(ToOwned::to_owned).collect() }
            }
            "thinking" => {
                let Known { thinking, signature, .. } = read(head, "a thinking block")?;
                self.end_text();
                let mut part = None;
                self.push_thought(&mut part, Delta::Reasoning(owned(thinking)), events);
                self.push_thought(&mut part, Delta::Signature(owned(signature)), events);
                Open::Thinking { part }
            }
            "redacted_thinking" => {
                let Known { data, .. } = read(head, "a redacted block")?;
                self.end_text();
                self.pieces.whole(Delta::Redacted(owned(data).into()), events);
                Open::Done
            }
            "tool_use" => self.start_call(read(head, "a tool call")?, events),
            _ => {
                self.end_text();
                Open::Raw(Growing { head: head.to_owned(), input: String::new(), fields: Vec::new() })
            }
        };
        self.open = Some((index, open));
        Ok(())
    }

    fn start_call(&mut self, call: Known<'_>, events: &mut Vec<Event>) -> Open {
        let Known { id, name, input, caller, .. } = call;
        self.end_text();
        // Who calls is opaque and wanted back, unless it is the model itself.
        let is_direct = |caller: &RawValue| serde_json::from_str::<Typed<'_>>(caller.get()).is_ok_and(|caller| &*caller.kind == "direct");
        let signature = caller.filter(|caller| !is_direct(caller)).map(|caller| caller.get().to_owned()).unwrap_or_default();
        let head = ToolCallPart { id: owned(id), name: owned(name), arguments: String::new(), signature };
        let part = self.pieces.whole(Delta::ToolCall(head), events);
        Open::ToolUse { part, whole: Some(input.map_or("{}", RawValue::get).to_owned()) }
    }

    /// A piece of a block.
    ///
    /// # Errors
    /// When there is no such block, or the piece is none of such a block.
    pub(super) fn delta(&mut self, index: u32, delta: &RawValue, events: &mut Vec<Event>) -> Result<()> {
        let Some((_, mut open)) = self.open.take_if(|(open, _)| *open == index) else {
            return Err(bad_answer("a piece of a block that is not open"));
        };
        let read = self.grow(&mut open, delta, events);
        self.open = Some((index, open));
        read
    }

    fn grow(&mut self, open: &mut Open, delta: &RawValue, events: &mut Vec<Event>) -> Result<()> {
        let Typed { kind } = read(delta, "a piece of a block")?;
        if let Open::Raw(growing) = open {
            return growing.grow(delta);
        }
        let known: Known<'_> = read(delta, "a piece of a block")?;
        match (open, &*kind) {
            (Open::Text { .. }, "text_delta") => self.push_text(owned(known.text), events),
            (Open::Text { citations, .. }, "citations_delta") => citations.extend(known.citation.map(ToOwned::to_owned)),
            (Open::Thinking { part }, "thinking_delta") => self.push_thought(part, Delta::Reasoning(owned(known.thinking)), events),
            (Open::Thinking { part }, "signature_delta") => self.push_thought(part, Delta::Signature(owned(known.signature)), events),
            (Open::ToolUse { part, whole }, "input_json_delta") => {
                let piece = owned(known.partial_json);
                if !piece.is_empty() {
                    *whole = None;
                    self.pieces.push(*part, Delta::Arguments(piece), events);
                }
            }
            (_, "text_delta" | "citations_delta" | "thinking_delta" | "signature_delta" | "input_json_delta") => {
                return Err(bad_answer("a piece that does not belong to its block"));
            }
            // The protocol grows; what such a piece means is not known.
            _ => {}
        }
        Ok(())
    }

    /// The end of the open block, if there is one.
    pub(super) fn stop(&mut self, events: &mut Vec<Event>) {
        let Some((_, open)) = self.open.take() else { return };
        match open {
            Open::Text { start, citations } => self.cite(start, &citations, events),
            Open::ToolUse { part, whole: Some(arguments) } => self.pieces.push(part, Delta::Arguments(arguments), events),
            Open::Raw(growing) => self.push_raw(growing.end(), events),
            Open::Thinking { .. } | Open::ToolUse { whole: None, .. } | Open::Done => {}
        }
    }

    /// The end of the answer, and the sequence that it names as what it ended at; told once.
    pub(super) fn end(&mut self, word: &str, sequence: String, explanation: &str, events: &mut Vec<Event>) {
        self.stop(events);
        if !explanation.is_empty() {
            self.pieces.refusal(explanation.to_owned(), events);
        }
        self.pieces.end_at(finish_reason(word, !sequence.is_empty()), word, sequence, events);
    }

    /// Whether the answer's end was told.
    pub(super) fn is_ended(&self) -> bool {
        self.pieces.is_ended()
    }

    fn end_text(&mut self) {
        (self.text, self.chars) = (None, 0);
    }

    fn push_text(&mut self, text: String, events: &mut Vec<Event>) {
        if !text.is_empty() {
            self.chars = u32::try_from(text.chars().count()).map_or(u32::MAX, |count| self.chars.saturating_add(count));
            let part = self.pieces.slot(&mut self.text);
            self.pieces.push(part, Delta::Text(text), events);
        }
    }

    fn push_thought(&mut self, part: &mut Option<u32>, delta: Delta, events: &mut Vec<Event>) {
        if !matches!(&delta, Delta::Reasoning(text) | Delta::Signature(text) if text.is_empty()) {
            let part = self.pieces.slot(part);
            self.pieces.push(part, delta, events);
        }
    }

    fn push_raw(&mut self, json: String, events: &mut Vec<Event>) {
        self.end_text();
        self.pieces.whole(Delta::Raw(RawPart { provider: PROTOCOL.to_owned(), json }), events);
    }

    fn cite(&mut self, start: u32, citations: &[Box<RawValue>], events: &mut Vec<Event>) {
        let end = self.chars;
        let (known, unknown): (Vec<_>, Vec<_>) = citations.iter().map(|raw| citation(raw, start, end).ok_or(raw)).partition(Result::is_ok);
        for citation in known.into_iter().flatten() {
            let part = self.pieces.slot(&mut self.text);
            self.pieces.push(part, Delta::Citation(citation), events);
        }
        for raw in unknown.into_iter().filter_map(Result::err) {
            self.push_raw(format!("{{\"{SOURCE}\":{}}}", raw.get()), events);
        }
    }
}

/// A source; `None` when nothing of it is known. Its place is that of the text it supports, not that within the source.
fn citation(raw: &RawValue, start: u32, end: u32) -> Option<Citation> {
    let Source { cited_text, url, source, title, document_title } = serde_json::from_str(raw.get()).ok()?;
    let (uri, title) = (url.or(source).unwrap_or_default(), title.or(document_title).unwrap_or_default());
    let quote = cited_text.unwrap_or_default();
    let is_known = !(uri.is_empty() && title.is_empty() && quote.is_empty());
    let place = |at| (start < end).then_some(at);
    is_known.then(|| Citation { uri, title, quote, start: place(start), end: place(end) })
}

impl Growing {
    fn grow(&mut self, delta: &RawValue) -> Result<()> {
        let pieces: Fields<'_> = read(delta, "a piece of a block")?;
        for (name, value) in pieces.0.into_iter().filter(|(name, value)| name != "type" && !is_null(value)) {
            let text = serde_json::from_str::<Str<'_>>(value.get()).ok();
            let known = self.fields.iter_mut().find(|(known, _)| *known == name);
            match (text, known) {
                (Some(text), _) if name == "partial_json" => self.input.push_str(&text),
                (Some(text), Some((_, Grown::Text(so_far)))) => so_far.push_str(&text),
                (Some(text), Some((_, grown))) => *grown = Grown::Text(text.into()),
                (Some(text), None) => {
                    let begun = self.begun(&name);
                    self.fields.push((name.into_owned(), Grown::Text(begun + &text)));
                }
                (None, Some((_, grown))) => *grown = Grown::Json(value.to_owned()),
                (None, None) => self.fields.push((name.into_owned(), Grown::Json(value.to_owned()))),
            }
            if self.fields.len() > MOST_GROWN {
                return Err(bad_answer("a block of which too many fields grow"));
            }
        }
        Ok(())
    }

    /// The text that a field of the head begins with.
    fn begun(&self, name: &str) -> String {
        let head: Fields<'_> = serde_json::from_str(self.head.get()).unwrap_or_default();
        head.get(name).and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
    }

    /// The whole block as JSON: to the letter where nothing was added.
    fn end(self) -> String {
        let Self { head, input, fields } = self;
        if input.is_empty() && fields.is_empty() {
            return Box::<str>::from(head).into();
        }
        rewritten(&head, &input, &fields).unwrap_or_else(|| Box::<str>::from(head).into())
    }
}

fn rewritten(head: &RawValue, input: &str, grown: &[(String, Grown)]) -> Option<String> {
    let head: Fields<'_> = serde_json::from_str(head.get()).ok()?;
    let mut object = Object::default();
    let is_grown = |name: &str| (name == "input" && !input.is_empty()) || grown.iter().any(|(known, _)| known == name);
    for (name, value) in head.0.iter().filter(|(name, _)| !is_grown(name)) {
        object.put(name, value).ok()?;
    }
    for (name, value) in grown {
        match value {
            Grown::Text(text) => object.put(name, text).ok()?,
            Grown::Json(json) => object.put(name, json).ok()?,
        }
    }
    match serde_json::from_str::<&RawValue>(input) {
        _ if input.is_empty() => {}
        Ok(json) => object.put("input", json).ok()?,
        Err(_) => object.put("input", input).ok()?,
    }
    String::from_utf8(object.end().into()).ok()
}
