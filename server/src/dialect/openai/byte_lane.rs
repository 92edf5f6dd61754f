//! The byte lane: bodies and frames as received, with the few edits that the gateway owes, and what it reads of them in passing.

use bytes::{BufMut, Bytes, BytesMut};
use flowgate_proto::v1::Usage;
use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    door,
    quirks::must_rewrite,
    stream::{Said, said},
    usage,
};
use crate::dialect::errors::{Errors, bad_answer, is_bare_error};
use crate::dialect::json::{Fields, Meaning, Str, place, write};
use crate::{
    dialect::{Ask, Decoder, Frame, Target},
    error::{Error, Result},
    event::{Event, Task, WireAnswer, WireFrame},
};

/// The decoder of the byte lane.
#[derive(Debug)]
pub(super) struct Frames {
    errors: Errors,
    /// Whether the client asked for usage itself; else a chunk that holds nothing but usage is not for it.
    wants_usage: bool,
    has_choice: bool,
}

/// One edit: the bytes from `start` to `end` become `text`.
struct Edit {
    start: usize,
    end: usize,
    text: Vec<u8>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ChunkIn<'a> {
    choices: Option<Choices>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    service_tier: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

/// What the choices of a chunk hold, without keeping them.
#[derive(Clone, Copy, Default)]
struct Choices {
    any: bool,
    content: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ChoiceIn {
    delta: Option<Delta>,
    message: Option<Delta>,
    text: Option<Meaning>,
    finish_reason: Option<Meaning>,
}

/// Whether a delta holds more than a role.
#[derive(Clone, Copy, Default)]
struct Delta(bool);

/// What becomes of the model that a client named.
#[derive(Clone, Copy, Debug)]
pub(super) enum Model<'a> {
    /// It stays: the target has no name for it.
    Kept,
    /// It becomes the target's.
    Named(&'a str),
    /// It goes: the address names it.
    LeftOut,
}

impl<'a> Model<'a> {
    /// What a body of the plain protocol does with it.
    pub(super) fn of(target: &'a Target) -> Self {
        if target.model.is_empty() { Self::Kept } else { Self::Named(&target.model) }
    }
}

/// The body as received, for the target's model, and with usage asked for in a stream. `None` when it holds what the provider takes in
/// another form only.
pub(super) fn edit(ask: &Ask<'_>, target: &Target, model: Model<'_>) -> Result<Option<Bytes>> {
    let wire = ask.payload.wire().ok_or_else(|| Error::internal("the byte lane has no body as received"))?;
    if let Model::LeftOut = model {
        return edit_fields(ask, target, &without(&wire.body, "model")?, Model::Kept);
    }
    edit_fields(ask, target, &wire.body, model)
}

fn edit_fields(ask: &Ask<'_>, target: &Target, body: &Bytes, model: Model<'_>) -> Result<Option<Bytes>> {
    let fields = door::fields(body)?;
    if must_rewrite(body, &fields, target.quirks) {
        return Ok(None);
    }
    let mut edits = Vec::new();
    if let Model::Named(name) = model {
        edits.push(set(body, &fields, "model", name)?);
    }
    if ask.streaming && target.quirks.stream_usage {
        edits.extend(ask_for_usage(body, &fields)?);
    }
    if let ([], [first, _]) = (fields.0.as_slice(), edits.as_mut_slice()) {
        first.text.push(b',');
    }
    Ok(Some(apply(body, edits)))
}

/// The body without a field of it, and without the comma that kept it apart from its neighbour.
fn without(body: &Bytes, name: &str) -> Result<Bytes> {
    let fields = door::fields(body)?;
    let Some(at) = fields.0.iter().position(|(key, _)| key == name) else { return Ok(body.clone()) };
    let end_of = |n: usize| fields.0.get(n).map(|(_, value)| offset(body, value.get().as_bytes()) + value.get().len());
    let end = end_of(at).unwrap_or_default();
    let edit = match at.checked_sub(1).and_then(end_of) {
        Some(start) => Edit { start, end, text: Vec::new() },
        None => {
            let comma = body.get(end..).unwrap_or_default().iter().position(|byte| *byte == b',').filter(|_| fields.0.len() > 1);
            let start = offset(body, body.trim_ascii()) + 1;
            Edit { start, end: comma.map_or(end, |comma| end + comma + 1), text: Vec::new() }
        }
    };
    Ok(apply(body, vec![edit]))
}

fn ask_for_usage(body: &[u8], fields: &Fields<'_>) -> Result<Option<Edit>> {
    let Some(options) = fields.get("stream_options") else {
        return set(body, fields, "stream_options", &serde_json::json!({ "include_usage": true })).map(Some);
    };
    let own: Fields<'_> = crate::dialect::json::read(options, crate::dialect::json::At::Root.key("stream_options"))?;
    if own.get("include_usage").is_some_and(|value| value.get() == "true") {
        return Ok(None);
    }
    set_within(body, options.get(), &own, "include_usage", &true).map(Some)
}

fn set(body: &[u8], fields: &Fields<'_>, name: &str, value: &(impl serde::Serialize + ?Sized)) -> Result<Edit> {
    let whole = body.trim_ascii();
    edit_at(offset(body, whole), fields, body, (name, value))
}

fn set_within(body: &[u8], object: &str, fields: &Fields<'_>, name: &str, value: &impl serde::Serialize) -> Result<Edit> {
    edit_at(offset(body, object.as_bytes()), fields, body, (name, value))
}

/// Replaces a field's value, or adds the field right after the brace at `open`.
fn edit_at(open: usize, fields: &Fields<'_>, body: &[u8], (name, value): (&str, &(impl serde::Serialize + ?Sized))) -> Result<Edit> {
    let mut text = Vec::new();
    if let Some((_, old)) = fields.0.iter().find(|(key, _)| key == name) {
        let start = offset(body, old.get().as_bytes());
        write(&mut text, value)?;
        return Ok(Edit { start, end: start + old.get().len(), text });
    }
    write(&mut text, name)?;
    text.push(b':');
    write(&mut text, value)?;
    if !fields.0.is_empty() {
        text.push(b',');
    }
    Ok(Edit { start: open + 1, end: open + 1, text })
}

/// Where a slice of the body starts in it.
fn offset(body: &[u8], slice: &[u8]) -> usize {
    slice.as_ptr().addr() - body.as_ptr().addr()
}

fn apply(body: &Bytes, mut edits: Vec<Edit>) -> Bytes {
    edits.sort_by_key(|edit| edit.start);
    let mut out = BytesMut::with_capacity(body.len() + edits.iter().map(|edit| edit.text.len()).sum::<usize>());
    let mut from = 0;
    for edit in edits {
        out.put_slice(&body[from..edit.start]);
        out.put_slice(&edit.text);
        from = edit.end;
    }
    out.put_slice(&body[from..]);
    out.freeze()
}

/// A whole answer as it came.
pub(super) fn decode(task: Task, errors: Errors, headers: &HeaderMap, body: Bytes) -> Result<WireAnswer> {
    let usage = peek(task, errors, &body)?;
    let content_type = headers.get(CONTENT_TYPE).cloned().unwrap_or(HeaderValue::from_static("application/json"));
    Ok(WireAnswer { content_type, body, usage })
}

/// Usage, once it is clear that the body is an answer.
fn peek(task: Task, errors: Errors, body: &[u8]) -> Result<Option<Usage>> {
    let content = if task == Task::Embed { "data" } else { "choices" };
    let fields: Fields<'_> = serde_json::from_slice(body).map_err(|error| bad_answer(format!("the answer at {}", place(&error))))?;
    errors.pass(fields.get("error"), body)?;
    let is_list = |value: &RawValue| value.get().strip_prefix('[').is_some_and(|list| !list.trim_start().starts_with(']'));
    if !fields.get(content).is_some_and(is_list) {
        let is_error = is_bare_error(&fields.0);
        return Err(if is_error { errors.of_frame(body) } else { bad_answer(format!("the answer has no {content}")) });
    }
    Ok(usage::with_tier(usage::read(fields.get("usage"), errors.quirks()), fields.get("service_tier")))
}

impl Frames {
    /// A decoder for the answer to an ask.
    pub(super) fn new(ask: &Ask<'_>, errors: Errors) -> Self {
        let asked = ask.payload.wire().and_then(|wire| door::peek(&wire.body).ok());
        Self { errors, wants_usage: asked.is_some_and(|peek| peek.include_usage), has_choice: false }
    }
}

impl Decoder for Frames {
    fn frame(&mut self, frame: Frame, events: &mut Vec<Event>) -> Result<()> {
        let data = match said(&frame, self.errors)? {
            Said::Nothing => {
                events.push(Event::Ping);
                return Ok(());
            }
            Said::Done if !self.has_choice => return Err(bad_answer("the stream ended without a choice")),
            Said::Done => {
                events.extend([Event::Wire(WireFrame { bytes: frame.raw, content: false, usage: None }), Event::End]);
                return Ok(());
            }
            Said::Chunk(data) => data,
        };
        let chunk: ChunkIn<'_> = serde_json::from_slice(data).map_err(|error| bad_answer(format!("a chunk at {}", place(&error))))?;
        self.errors.pass(chunk.error, data)?;
        let choices = chunk.choices.unwrap_or_default();
        if !choices.any && serde_json::from_slice(data).is_ok_and(|fields: Fields<'_>| is_bare_error(&fields.0)) {
            return Err(self.errors.of_frame(data));
        }
        self.has_choice |= choices.any;
        let usage = usage::with_tier(usage::read(chunk.usage, self.errors.quirks()), chunk.service_tier);
        let is_hidden = usage.is_some() && !choices.any && !self.wants_usage;
        let bytes = if is_hidden { Bytes::new() } else { frame.raw.clone() };
        events.push(Event::Wire(WireFrame { bytes, content: choices.content, usage }));
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Choices {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Choices;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of choices")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Choices, A::Error> {
                let mut choices = Choices::default();
                while let Some(ChoiceIn { delta, message, text, finish_reason }) = seq.next_element()? {
                    choices.any = true;
                    let delta = delta.or(message).is_some_and(|delta| delta.0);
                    choices.content |= delta || [text, finish_reason].into_iter().flatten().any(|meaning| meaning.0);
                }
                Ok(choices)
            }
        }
        deserializer.deserialize_seq(Reader)
    }
}

impl<'de> Deserialize<'de> for Delta {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Delta;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a delta")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Delta, A::Error> {
                let mut content = false;
                while let Some(key) = map.next_key::<Str<'de>>()? {
                    if content || &*key == "role" {
                        map.next_value::<IgnoredAny>()?;
                    } else {
                        content = map.next_value::<Meaning>()?.0;
                    }
                }
                Ok(Delta(content))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}
