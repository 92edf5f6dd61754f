//! What every provider can be asked for: each probe through each row, held to a golden line, told as a table on a page. `UPDATE=1` writes
//! the lines and the table anew.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
};

use flowgate_proto::v1::{Capability, ErrorReason, part::Kind};
use http::HeaderMap;

use super::{Kind as RowKind, PROVIDERS, Provider};
use crate::{
    dialect::{Ask, Settings, Target, Unsupported},
    error::Error,
    event::{Lane, Payload, Request, Task},
};

/// One thing to ask for.
struct Probe {
    /// Its file in `testdata/probes`.
    file: &'static str,
    task: Task,
    streaming: bool,
    /// The head of its column.
    head: &'static str,
    /// What it asks for.
    about: &'static str,
}

const fn chat(file: &'static str, head: &'static str, about: &'static str) -> Probe {
    Probe { file, task: Task::Chat, streaming: false, head, about }
}

/// In the order of the columns.
const PROBES: &[Probe] = &[
    chat("chat_text", "chat", "an answer to a message of text"),
    Probe { streaming: true, ..chat("chat_text", "stream", "the same, piece by piece") },
    Probe {
        task: Task::Complete,
        ..chat("complete_prompt", "compl.", "a prompt, by the provider's own completions or as one message of a chat")
    },
    Probe { task: Task::Embed, ..chat("embed_texts", "embed", "texts as vectors") },
    chat("chat_system", "system", "instructions in a system message"),
    chat("chat_tools", "tools", "`tools` that the model may call"),
    chat("chat_tool_results", "results", "two calls of one turn in the conversation, with their results"),
    chat("chat_tool_required", "must", "`tool_choice` of mode `required`"),
    chat("chat_tool_single", "single", "`parallel_tool_calls: false`"),
    chat("chat_json_object", "json", "`response_format` of type `json_object`"),
    chat("chat_json_schema", "schema", "`response_format` of type `json_schema`"),
    chat("chat_image", "image", "an image as bytes"),
    chat("chat_image_address", "image@", "an image by its address, which the provider fetches"),
    chat("chat_document", "doc", "a PDF as bytes"),
    chat("chat_audio", "audio", "sound as bytes"),
    chat("chat_effort", "effort", "`reasoning.effort`"),
    chat("chat_budget", "budget", "`reasoning.budget_tokens`"),
    chat("chat_thought", "thought", "a model's reasoning sent back as text"),
    chat("chat_signature", "signed", "a model's reasoning sent back with the signature it came with"),
    chat("chat_cache", "cache", "a `cache_hint` on a part"),
    chat("chat_logprobs", "logprobs", "`logprobs`"),
    chat("chat_seed", "seed", "`seed`"),
    chat("chat_stop", "stop", "`stop`"),
    chat("chat_top_k", "top_k", "`top_k`"),
    chat("chat_choices", "n", "`choice_count` of 2"),
];

/// Which probes show what a row claims: any of them is enough.
const CLAIMS: &[(Capability, &[&str])] = &[
    (Capability::Stream, &["stream"]),
    (Capability::Tools, &["tools", "results"]),
    (Capability::JsonSchema, &["schema"]),
    (Capability::ImageInput, &["image", "image@"]),
    (Capability::AudioInput, &["audio"]),
];

/// One way to ask a row.
#[derive(Clone, Copy, Default)]
struct Way {
    /// The row.
    row: &'static str,
    /// What makes it this way, for the table; empty when it is the row's only one.
    label: &'static str,
    /// A model of it.
    model: &'static str,
    /// A model of it that makes vectors, where those of texts tell the protocol.
    embedder: &'static str,
    /// Settings beside those of the address.
    settings: &'static [(&'static str, &'static str)],
}

impl Way {
    const fn model(row: &'static str, label: &'static str, model: &'static str) -> Self {
        Self { row, label, model, embedder: "", settings: &[] }
    }

    const fn setting(row: &'static str, label: &'static str, settings: &'static [(&'static str, &'static str)]) -> Self {
        Self { settings, ..Self::model(row, label, "m") }
    }
}

const TITAN: &str = "amazon.titan-embed-text-v2:0";

/// The rows that have several ways, or want a model of a certain name; every other row is asked for the model `m`.
const WAYS: &[Way] = &[
    Way::setting("azure", "", &[]),
    Way::setting("azure", "`api: responses`", &[("api", "responses")]),
    Way::setting("azuread", "", &[]),
    Way::setting("azuread", "`api: responses`", &[("api", "responses")]),
    Way { embedder: TITAN, ..Way::model("bedrock", "Claude", "anthropic.claude-sonnet-4-5-20250929-v1:0") },
    Way { embedder: TITAN, ..Way::model("bedrock", "Nova", "amazon.nova-pro-v1:0") },
    Way { embedder: TITAN, ..Way::model("bedrock", "gpt-oss", "openai.gpt-oss-120b-1:0") },
    Way { embedder: TITAN, ..Way::model("bedrock", "others", "meta.llama3-3-70b-instruct-v1:0") },
    Way::setting("databricks", "", &[]),
    Way::setting("databricks", "`api: responses`", &[("api", "responses")]),
    Way { embedder: "gemini-embedding-001", ..Way::model("gemini", "3 and newer", "gemini-3-pro-preview") },
    Way { embedder: "gemini-embedding-001", ..Way::model("gemini", "up to 2.5", "gemini-2.5-flash") },
    Way::setting("mlflow", "", &[]),
    Way::setting("mlflow", "`schema: agent`", &[("schema", "agent")]),
    Way::setting("mlflow", "`schema: responses`", &[("schema", "responses")]),
    Way::setting("sagemaker", "", &[("schema", "openai")]),
    Way::setting("sagemaker", "`schema: tgi`", &[("schema", "tgi")]),
    Way { embedder: "text-embedding-005", ..Way::model("vertex-ai", "Gemini", "gemini-3-pro-preview") },
    Way::model("vertex-ai", "Claude", "claude-sonnet-4-5@20250929"),
    Way::model("vertex-ai", "open models", "meta/llama-3.3-70b-instruct-maas"),
];

/// What becomes of one probe.
enum Cell {
    /// The request on the wire.
    Sent(String),
    /// The field that is refused.
    Refused(String),
    /// Sent without what the model thought, so that the conversation goes on.
    LeftOut(String),
    /// The row has no such task.
    NoTask,
}

impl Cell {
    fn line(&self, probe: &Probe) -> String {
        match self {
            Self::Sent(request) => format!("{}: {request}\n", probe.head),
            Self::Refused(field) => format!("{}: refused: {field}\n", probe.head),
            Self::LeftOut(request) => format!("{}: left out: {request}\n", probe.head),
            Self::NoTask => format!("{}: no such task\n", probe.head),
        }
    }

    fn is_sent(&self) -> bool {
        matches!(self, Self::Sent(_))
    }
}

/// The address of a row with made-up values in its places.
pub(super) fn address(row: &Provider) -> String {
    row.address(&Settings(made_up(row))).unwrap_or_else(|setting| panic!("{}: {}", row.name, setting.name))
}

fn made_up(row: &Provider) -> Vec<(&'static str, String)> {
    let value = |whole: bool, default: &str| match (whole, default) {
        (true, _) => "https://host.example".to_owned(),
        (false, "") => "made-up".to_owned(),
        (false, default) => default.to_owned(),
    };
    row.placed().map(|setting| (setting.name, value(row.base == format!("{{{}}}", setting.name), setting.default))).collect()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src").canonicalize().unwrap().join("../..")
}

fn testdata(name: &str) -> PathBuf {
    root().join("server/src/provider/capabilities/testdata").join(name)
}

/// The rows whose protocol for models of language this build speaks, but for the made-up one.
fn rows() -> impl Iterator<Item = &'static Provider> {
    PROVIDERS.iter().filter(|row| row.kind != RowKind::Mock && row.llm.is_some())
}

fn ways(row: &'static Provider) -> Vec<Way> {
    let own: Vec<Way> = WAYS.iter().filter(|way| way.row == row.name).copied().collect();
    if own.is_empty() { vec![Way::model(row.name, "", "m")] } else { own }
}

fn target(row: &'static Provider, way: &Way, probe: &Probe) -> Target {
    let base = if row.base.is_empty() { "https://host.example".to_owned() } else { address(row) };
    let mut settings = made_up(row);
    settings.extend(way.settings.iter().map(|(name, value)| (*name, (*value).to_owned())));
    let model = if probe.task == Task::Embed && !way.embedder.is_empty() { way.embedder } else { way.model };
    Target {
        provider: row.name,
        base: base.parse().unwrap(),
        model: model.to_owned(),
        headers: HeaderMap::new(),
        settings: Settings(settings),
        templates: crate::dialect::templated::Templates::default(),
        quirks: &row.quirks,
    }
}

fn request(probe: &Probe) -> Request {
    let json = fs::read(testdata(&format!("probes/{}.json", probe.file))).unwrap();
    match probe.task {
        Task::Chat => Request::Chat(serde_json::from_slice(&json).unwrap()),
        Task::Complete => Request::Complete(serde_json::from_slice(&json).unwrap()),
        Task::Embed => Request::Embed(serde_json::from_slice(&json).unwrap()),
        Task::Predict => panic!("predictions have no such table"),
    }
}

fn ask(row: &'static Provider, way: &Way, probe: &Probe) -> Cell {
    // Where a row does not complete, a prompt is one message of a conversation.
    let twin = if probe.task == Task::Complete { Task::Chat } else { probe.task };
    let spoken = [probe.task, twin].into_iter().find_map(|task| Some((task, row.dialect(task)?)));
    let Some((task, dialect)) = spoken else { return Cell::NoTask };
    let (target, payload) = (target(row, way, probe), Payload::typed_only(request(probe)));
    let ask = Ask { task, streaming: probe.streaming, lane: Lane::Typed, payload: &payload, unsupported: Unsupported::Refuse };
    let thoughtless = without_thoughts(request(probe)).map(Payload::typed_only);
    let without = thoughtless.as_ref().and_then(|payload| dialect.encode(&Ask { payload, ..ask }, &target).ok());
    match dialect.encode(&ask, &target) {
        Ok(request) if without.is_some_and(|without| without.body() == request.body()) => Cell::LeftOut(written(&request)),
        Ok(request) => Cell::Sent(written(&request)),
        Err(error) => refused(&error).unwrap_or_else(|| panic!("{} {} {}: {error:?}", row.name, way.label, probe.head)),
    }
}

/// A conversation without what the model thought; nothing when it holds no thoughts.
fn without_thoughts(mut request: Request) -> Option<Request> {
    let Request::Chat(chat) = &mut request else { return None };
    let mut found = false;
    for message in &mut chat.messages {
        let before = message.parts.len();
        message.parts.retain(|part| !matches!(part.kind, Some(Kind::Reasoning(_))));
        found |= message.parts.len() < before;
    }
    found.then_some(request)
}

/// A refusal that names the field; nothing when it is any other error.
fn refused(error: &Error) -> Option<Cell> {
    match (error.reason(), error.violations()) {
        (ErrorReason::CallerUnsupportedParameter, [violation, ..]) => Some(Cell::Refused(violation.field.clone())),
        (ErrorReason::CallerWrongTask, _) => Some(Cell::NoTask),
        _ => None,
    }
}

/// The first line, the headers of the protocol's own, and the body as it is.
fn written(request: &http::Request<bytes::Bytes>) -> String {
    let own = request.headers().iter().filter(|(name, _)| *name != http::header::CONTENT_TYPE);
    let headers: BTreeMap<_, _> = own.map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    let headers: String = headers.iter().map(|(name, value)| format!("[{name}: {value}] ")).collect();
    format!("{} {} {headers}{}", request.method(), request.uri(), str::from_utf8(request.body()).unwrap())
}

/// Compares with a file, or writes it.
fn golden(path: &Path, actual: &str) {
    let expected = fs::read_to_string(path).unwrap_or_default();
    if env::var_os("UPDATE").is_some() && expected != actual {
        return fs::write(path, actual).unwrap();
    }
    assert_eq!(actual, expected, "{}; run with UPDATE=1 to accept", path.display());
}

/// The name of the file of a way.
fn file(way: &Way) -> String {
    let label: String = way.label.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    let label = label.trim_matches('-').replace("--", "-");
    if label.is_empty() { format!("{}.http", way.row) } else { format!("{}.{label}.http", way.row) }
}

#[test]
fn every_cell_is_a_request_or_a_refusal_by_name() {
    let mut files = Vec::new();
    for row in rows() {
        for way in ways(row) {
            let cells: Vec<_> = PROBES.iter().map(|probe| (probe, ask(row, &way, probe))).collect();
            nothing_is_lost(&way, &cells);
            golden(&testdata("wire").join(file(&way)), &cells.iter().map(|(probe, cell)| cell.line(probe)).collect::<String>());
            files.push(file(&way));
        }
    }
    let mut found: Vec<_> =
        fs::read_dir(testdata("wire")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    found.sort();
    files.sort();
    assert_eq!(found, files, "a file of no row");
    assert!(WAYS.iter().all(|way| rows().any(|row| row.name == way.row)), "a way of no row");
}

/// What a row tells whether it is asked for or not.
const ALWAYS: (&str, &str) = ("sagemaker", "logprobs");

/// Each conversation asks for something else: two that are the same on the wire have lost it.
fn nothing_is_lost(way: &Way, cells: &[(&Probe, Cell)]) {
    let mut seen = BTreeMap::new();
    let asks = |probe: &Probe| probe.task == Task::Chat && !probe.streaming && (way.row, probe.head) != ALWAYS;
    for (probe, cell) in cells.iter().filter(|(probe, _)| asks(probe)) {
        if let Cell::Sent(wire) = cell {
            let other = seen.insert(wire, probe.head);
            assert_eq!(other, None, "{} {}: {} is lost", way.row, way.label, probe.head);
        }
    }
}

#[test]
fn rows_claim_what_their_protocol_carries() {
    for row in PROVIDERS.iter().filter(|row| row.llm.is_none()) {
        assert_eq!(row.capabilities, [], "{} is not spoken to", row.name);
    }
    for row in rows() {
        let ways = ways(row);
        let carries = |heads: &[&str]| {
            let mut probes = PROBES.iter().filter(|probe| heads.contains(&probe.head));
            probes.any(|probe| ways.iter().any(|way| ask(row, way, probe).is_sent()))
        };
        for (capability, heads) in CLAIMS {
            assert_eq!(row.capabilities.contains(capability), carries(heads), "{} {capability:?}", row.name);
        }
    }
}

const PAGE: &str = "docs/providers.md";
const BEGIN: &str = "<!-- begin: capabilities -->\n";
const END: &str = "<!-- end: capabilities -->";

#[test]
fn the_page_has_the_table_as_it_is() {
    let page = fs::read_to_string(root().join(PAGE)).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    golden(&root().join(PAGE), &format!("{before}{BEGIN}{}{END}{after}", tables()));
}

fn tables() -> String {
    let mut text = "| column | asks for |\n|---|---|\n".to_owned();
    text.extend(PROBES.iter().map(|probe| format!("| {} | {} |\n", probe.head, probe.about)));
    let heads: Vec<_> = PROBES.iter().map(|probe| probe.head).collect();
    text += &format!("\n| provider | {} |\n|---|{}\n", heads.join(" | "), ":-:|".repeat(heads.len()));
    for row in rows() {
        for way in ways(row) {
            let cells: Vec<_> = PROBES.iter().map(|probe| if ask(row, &way, probe).is_sent() { "✓" } else { "—" }).collect();
            let label = if way.label.is_empty() { String::new() } else { format!(", {}", way.label) };
            text += &format!("| `{}`{label} | {} |\n", row.name, cells.join(" | "));
        }
    }
    text
}
