//! What one provider answered is replayed to every other.

use flowgate_proto::v1::{ChatDelta, ChatRequest, Message, Part, ReasoningPart, Role, ToolResultPart, part::Kind};
use http::HeaderMap;

use super::*;
use crate::{
    dialect::{
        Ask, Dialect, Habit, Quirks, Settings, Unsupported, anthropic::ANTHROPIC, bedrock::BEDROCK, cohere::COHERE, gemini::GEMINI,
        mlflow::MLFLOW, ollama::OLLAMA, openai::OPENAI, openai_responses::OPENAI_RESPONSES, vertex::VERTEX,
    },
    event::{Lane, Payload, Request, Task},
};

const MESSAGES: &str = r#"{"id":"m","role":"assistant","model":"c","content":[
    {"type":"thinking","thinking":"Hm.","signature":"SIGN"},{"type":"redacted_thinking","data":"SEAL"},{"type":"text","text":"Yes.","citations":[{"type":"new","of":"it"}]},
    {"type":"tool_use","id":"t1","name":"f","input":{},"caller":{"type":"code_execution","tool_id":"CALL"}}],
    "stop_reason":"tool_use","usage":{"input_tokens":1,"output_tokens":1}}"#;
const CONTENTS: &str = r#"{"candidates":[{"content":{"role":"model","parts":[{"text":"Hm.","thought":true},
    {"text":"Yes.","thoughtSignature":"SIGN"},{"functionCall":{"id":"t1","name":"f","args":{}},"thoughtSignature":"CALL"}]},
    "finishReason":"STOP","groundingMetadata":{"webSearchQueries":["yes"]}}]}"#;
const CONVERSE: &str = r#"{"output":{"message":{"role":"assistant","content":[
    {"reasoningContent":{"reasoningText":{"text":"Hm.","signature":"SIGN"}}},{"reasoningContent":{"redactedContent":"SEAL"}},
    {"text":"Yes."},{"toolUse":{"toolUseId":"t1","name":"f","input":{}}}]}},"stopReason":"tool_use"}"#;
const RESPONSES: &str = r#"{"id":"r","status":"completed","output":[
    {"type":"reasoning","summary":[{"type":"summary_text","text":"Hm."}],"encrypted_content":"SIGN"},
    {"type":"message","role":"assistant","content":[{"type":"output_text","text":"Yes.","annotations":[
        {"type":"url_citation","url":"https://a","title":"A","start_index":0,"end_index":3}]}]},
    {"type":"function_call","call_id":"t1","name":"f","arguments":"{}"}]}"#;
const CHAT: &str = r#"{"choices":[{"message":{"role":"assistant","reasoning_content":"Hm.","content":"Yes.","tool_calls":[
    {"id":"t1","type":"function","function":{"name":"f","arguments":"{}"},"thought_signature":"CALL"}]},"finish_reason":"tool_calls"}]}"#;

static DOOR: Quirks = Quirks { habits: &[Habit::OwnSignatures], ..Quirks::NONE };
static SILENT: Quirks = Quirks { lacks: &["reasoning_content", "thought_signature"], ..Quirks::NONE };

/// A provider that is asked.
struct Asked {
    dialect: &'static dyn Dialect,
    provider: &'static str,
    model: &'static str,
    quirks: &'static Quirks,
    /// An answer of its, if it signs.
    answer: &'static str,
    /// Who reads its signatures.
    signs: &'static str,
    /// Who reads what it redacts.
    seals: &'static str,
}

impl Asked {
    const fn new(dialect: &'static dyn Dialect, provider: &'static str, answer: &'static str) -> Self {
        Self { dialect, provider, model: "m", quirks: &Quirks::NONE, answer, signs: provider, seals: provider }
    }

    const fn model(self, model: &'static str) -> Self {
        Self { model, ..self }
    }

    const fn read_by(self, signs: &'static str, seals: &'static str) -> Self {
        Self { signs, seals, ..self }
    }

    const fn quirks(self, quirks: &'static Quirks) -> Self {
        Self { quirks, ..self }
    }

    fn target(&self) -> Target {
        let schema = if self.provider == "mlflow" { vec![("schema", "agent".to_owned())] } else { Vec::new() };
        Target {
            provider: self.provider,
            base: "https://host.example/v1".parse().unwrap(),
            model: self.model.to_owned(),
            headers: HeaderMap::new(),
            settings: Settings(schema),
            templates: crate::dialect::templated::Templates::default(),
            quirks: self.quirks,
        }
    }

    /// Its answer, with these for its signature, its seal and the signature of its call.
    fn answers(&self, secrets: &[String; 3]) -> Message {
        let [sign, seal, call] = secrets;
        let body = self.answer.replace("SIGN", sign).replace("SEAL", seal).replace("CALL", call);
        let payload = Payload::typed_only(Request::Chat(ChatRequest::default()));
        let answer = self.dialect.decode(&ask(&payload), &self.target(), &HeaderMap::new(), body.into()).unwrap();
        let Answer::Chat(mut answer) = answer else { panic!("no chat") };
        answer.choices.remove(0).message.unwrap()
    }

    /// What it is sent when a conversation goes on that holds an answer.
    fn is_sent(&self, answer: Message) -> Result<String> {
        let user = |text: &str| Message { role: Role::User.into(), text: text.to_owned(), ..Message::default() };
        let result = Kind::ToolResult(ToolResultPart { tool_call_id: "t1".to_owned(), ..ToolResultPart::default() });
        let parts = vec![Part { kind: Some(result), cache_hint: None }];
        let result = Message { role: Role::Tool.into(), parts, ..Message::default() };
        let max_tokens = (self.provider != "mlflow").then_some(9);
        let request = ChatRequest { messages: vec![user("Is it?"), answer, result], max_tokens, ..ChatRequest::default() };
        let payload = Payload::typed_only(Request::Chat(request));
        let request = self.dialect.encode(&ask(&payload), &self.target())?;
        Ok(String::from_utf8(request.into_body().to_vec()).unwrap())
    }
}

fn ask(payload: &Payload) -> Ask<'_> {
    Ask { task: Task::Chat, streaming: false, lane: Lane::Typed, payload, unsupported: Unsupported::Refuse }
}

fn all() -> Vec<Asked> {
    vec![
        Asked::new(&ANTHROPIC, "anthropic", MESSAGES),
        Asked::new(&ANTHROPIC, "azure-anthropic", MESSAGES).read_by("anthropic", "anthropic"),
        Asked::new(&ANTHROPIC, "minimax-anthropic", MESSAGES).quirks(&DOOR),
        Asked::new(&VERTEX, "vertex-ai", MESSAGES).model("claude-sonnet-4-5").read_by("anthropic", "anthropic"),
        Asked::new(&BEDROCK, "bedrock", CONVERSE).model("anthropic.claude-sonnet-4-5").read_by("anthropic", "bedrock"),
        Asked::new(&BEDROCK, "bedrock", CONVERSE).model("amazon.nova-pro-v1:0"),
        Asked::new(&BEDROCK, "bedrock", CONVERSE).model("arn:aws:bedrock:us-east-1:1:application-inference-profile/x"),
        Asked::new(&GEMINI, "gemini", CONTENTS).model("gemini-3-pro-preview"),
        Asked::new(&VERTEX, "vertex-ai", CONTENTS).model("gemini-3-pro-preview").read_by("gemini", "gemini"),
        Asked::new(&OPENAI_RESPONSES, "openai-responses", RESPONSES),
        Asked::new(&OPENAI_RESPONSES, "azure", RESPONSES),
        Asked::new(&OPENAI, "openai-compatible", CHAT),
        Asked::new(&OPENAI, "openai", ""),
        Asked::new(&OPENAI, "mistral", "").quirks(&SILENT),
        Asked::new(&COHERE, "cohere", ""),
        Asked::new(&OLLAMA, "ollama", ""),
        Asked::new(&MLFLOW, "mlflow", ""),
    ]
}

/// The conversation goes on wherever it is sent, what was signed goes to those who signed it, to the letter, and nobody sees a mark.
#[test]
fn an_answer_goes_back_to_whoever_is_asked_next() {
    for (n, first) in all().iter().enumerate().filter(|(_, asked)| !asked.answer.is_empty()) {
        let secrets = [format!("c2ln{n:04}"), format!("c2Vh{n:04}"), format!("Y2Fs{n:04}")];
        let answer = first.answers(&secrets);
        for next in all() {
            let place = format!("{} {} to {} {}", first.provider, first.model, next.provider, next.model);
            let sent = next.is_sent(answer.clone()).unwrap_or_else(|error| panic!("{place}: {error:?}"));
            let [sign, seal, call] = &secrets;
            let is_own = [first.signs == next.signs, first.seals == next.seals, first.signs == next.signs];
            let placeholders = ["SIGN", "SEAL", "CALL"];
            for ((secret, is_own), held) in [sign, seal, call].into_iter().zip(is_own).zip(placeholders) {
                // What Bedrock knows as Claude's has no place for whose call it is.
                let has_place = next.answer.contains(held) && first.answer.contains(held);
                assert_eq!(sent.contains(secret.as_str()), is_own && has_place, "{place}: {held} in {sent}");
            }
            assert!(!sent.contains(&format!("{}:", first.signs)), "{place}: {sent}");
        }
    }
}

#[test]
fn what_has_no_mark_is_the_asked_ones_own() {
    let family = Family::new("gemini");
    for own in ["EqQB+/=", "{\"type\":\"code_execution\"}", "skip_thought_signature_validator", ":x", "A:b", "a b:c"] {
        assert_eq!(family.read(own), Signed::Own(own));
        assert_eq!(family.read_redacted(own.as_bytes()), Signed::Own(own.as_bytes()));
    }
    assert_eq!(family.read("gemini:a:b"), Signed::Own("a:b"));
    assert_eq!(family.read("azure-2:a"), Signed::Foreign);
    assert_eq!(family.read_redacted(b"gemini:\xff"), Signed::Own(&b"\xff"[..]));
    assert_eq!(family.read_redacted(b"bedrock:\xff"), Signed::Foreign);
    assert_eq!((family.read(""), family.read_redacted(b"")), (Signed::No, Signed::No));
}

/// A gateway behind a gateway: each takes off its own mark only.
#[test]
fn marks_stand_one_before_the_other() {
    let [inner, outer] = [Family::new("gemini"), Family::new("openai-compatible")];
    let mut signature = "EqQB".to_owned();
    inner.mark(&mut signature);
    outer.mark(&mut signature);
    assert_eq!(signature, "openai-compatible:gemini:EqQB");
    assert_eq!(inner.read(outer.read(&signature).own()), Signed::Own("EqQB"));
}

/// Says one piece of a signature a frame.
struct Signing;

impl Decoder for Signing {
    fn frame(&mut self, frame: Frame, events: &mut Vec<Event>) -> Result<()> {
        for part in [0, 1] {
            let delta = Some(Delta::Signature(String::from_utf8(frame.data.to_vec()).unwrap()));
            events.push(Event::Delta(ChatDelta { part, delta, ..ChatDelta::default() }));
        }
        Ok(())
    }
}

#[test]
fn a_signature_in_pieces_is_marked_where_it_begins() {
    let (mut decoder, mut events) = (Family::new("anthropic").decoder(Box::new(Signing)), Vec::new());
    for data in ["", "Eq", "QB"] {
        decoder.frame(Frame { data: data.into(), ..Frame::default() }, &mut events).unwrap();
    }
    let answer = crate::dialect::join::join(events).unwrap();
    let parts = &answer.choices[0].message.as_ref().unwrap().parts;
    for part in parts {
        let Some(Kind::Reasoning(ReasoningPart { signature, .. })) = &part.kind else { panic!("{part:?}") };
        assert_eq!(signature, "anthropic:EqQB");
    }
    assert_eq!(parts.len(), 2);
}
