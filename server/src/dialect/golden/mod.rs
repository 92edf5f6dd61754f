//! Golden fixtures of dialects: `<dialect>/testdata/<case>/`, rewritten by `UPDATE=1`. A case's folder begins with its task (`chat_`,
//! `complete_`, `embed_`) and holds any of these:
//!
//! - `wire.json` (the body of a client of OpenAI's) gives `request.json`;
//! - `request.json` (the contract's) gives `upstream.http`, or `refused.txt`;
//! - `response.json` (or `.txt`) gives `answer.json`, or `answer_error.txt`; `headers.json` are the headers that came with it;
//! - `stream.sse`, `stream.ndjson` or `stream.jsonl` (an event stream's frames) gives `events.jsonl`; beside an answer both say the same;
//! - `failure.json` (status, headers, body) gives `failure.txt`;
//! - `case.json`: how it is asked, see [`Case`].
//!
//! A dialect's tests declare its [`Suite`] and say [`checks!`].

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
};

use flowgate_proto::v1::ErrorReason;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::Value as Json;

use super::{Ask, Dialect, Frame, Target, Unsupported, join::join, openai::door};
use crate::{
    error::{Error, Result},
    event::{Answer, Event, Lane, Payload, Request, Task},
};

mod asked;
pub(super) mod coverage;
pub(super) mod generated;
pub(super) mod hostile;
pub(super) mod round;
mod storm;
mod table;
mod text;

pub(super) use asked::{ask, chat, sent, target, wire};
pub(super) use table::table;
use text::request_json;
pub(super) use text::{answer_json, event_json, frames, indented, pretty, request_from, said, task};

/// The checks that every dialect goes through, each a test of its own; of the tasks that it is named with, every field has a fixture.
macro_rules! checks {
    ($suite:ident) => {
        #[test]
        fn goldens() {
            $suite.check();
        }

        #[test]
        fn hostile_answers_are_the_providers_fault() {
            $crate::dialect::golden::hostile::check(&$suite);
        }
    };
    ($suite:ident, $($task:ident),+) => {
        $crate::dialect::golden::checks!($suite);

        #[test]
        fn every_field_is_on_the_wire_or_refused_by_name() {
            $crate::dialect::golden::coverage::check(&$suite, &[$($crate::event::Task::$task),+]);
        }
    };
}
pub(super) use checks;

/// The fixtures of one dialect.
pub(super) struct Suite {
    /// The dialect.
    pub(super) dialect: &'static dyn Dialect,
    /// Its folder below `dialect/`.
    pub(super) folder: &'static str,
    /// Whom a case asks.
    pub(super) target: fn(&Case) -> Target,
}

/// `case.json`: how the case is asked.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Case {
    /// The endpoint's task, where it is not the request's.
    pub(super) task: Option<String>,
    /// Whether the answer is wanted piece by piece; so with every case that has a stream.
    pub(super) streaming: bool,
    /// `unsupported: drop`.
    pub(super) drop: bool,
    /// A name for the quirks, where they are not the plain ones.
    pub(super) quirks: String,
    /// The model, where it is not the suite's.
    pub(super) model: String,
    /// The base address, where it is not the suite's.
    pub(super) url: String,
    /// Settings of the target.
    pub(super) settings: BTreeMap<String, String>,
    /// How vectors are written at the door.
    pub(super) encoding: String,
}

/// `failure.json`: an answer that is not a success.
#[derive(Deserialize)]
pub(super) struct Failure {
    pub(super) status: u16,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Json,
}

/// One case.
#[derive(Debug)]
pub(super) struct Fixture {
    dir: PathBuf,
    pub(super) name: String,
    /// What the request is; the endpoint's task is [`Fixture::task`].
    pub(super) kind: Task,
    pub(super) case: Case,
}

/// What a stream gave.
pub(super) struct Streamed {
    pub(super) events: Vec<Event>,
    pub(super) error: Option<Error>,
    /// The frame that commits.
    pub(super) commit: Option<usize>,
}

/// The cases of a dialect, by name.
pub(super) fn fixtures(folder: &str) -> Vec<Fixture> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/dialect").join(folder).join("testdata");
    let mut dirs: Vec<_> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    dirs.sort();
    dirs.into_iter().map(Fixture::new).collect()
}

impl Fixture {
    fn new(dir: PathBuf) -> Self {
        let name = dir.file_name().unwrap().to_str().unwrap().to_owned();
        let kind = task(name.split('_').next().unwrap());
        let case = fs::read(dir.join("case.json")).map(|json| serde_json::from_slice(&json).unwrap()).unwrap_or_default();
        Self { dir, name, kind, case }
    }

    pub(super) fn read(&self, file: &str) -> Option<Vec<u8>> {
        fs::read(self.dir.join(file)).ok()
    }

    /// Compares with a golden file, or writes it.
    pub(super) fn golden(&self, file: &str, actual: &str) {
        let path = self.dir.join(file);
        let expected = fs::read_to_string(&path).unwrap_or_default();
        if env::var_os("UPDATE").is_some() && expected != actual {
            return fs::write(&path, actual).unwrap();
        }
        assert_eq!(actual, expected, "{}/{file}; run with UPDATE=1 to accept", self.name);
    }

    pub(super) fn task(&self) -> Task {
        self.case.task.as_deref().map_or(self.kind, task)
    }

    pub(super) fn ask<'a>(&self, payload: &'a Payload, lane: Lane) -> Ask<'a> {
        let unsupported = if self.case.drop { Unsupported::Drop } else { Unsupported::Refuse };
        Ask { task: self.task(), streaming: self.case.streaming || self.stream_file().is_some(), lane, payload, unsupported }
    }

    /// The bytes of the case's stream and the ending of the file that holds them.
    pub(super) fn stream_file(&self) -> Option<(Vec<u8>, &'static str)> {
        ["sse", "ndjson", "jsonl"].into_iter().find_map(|ending| Some((self.read(&format!("stream.{ending}"))?, ending)))
    }

    /// The request of the case, or an empty one of its kind where it has none.
    fn payload(&self) -> Payload {
        Payload::typed_only(request_from(self.kind, &self.read("request.json").unwrap_or_else(|| b"{}".to_vec())))
    }

    fn response(&self) -> Option<Vec<u8>> {
        self.read("response.json").or_else(|| self.read("response.txt"))
    }

    fn headers(&self) -> HeaderMap {
        let headers: BTreeMap<String, String> =
            self.read("headers.json").map(|json| serde_json::from_slice(&json).unwrap()).unwrap_or_default();
        headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }
}

impl Suite {
    /// Walks every case.
    pub(super) fn check(&self) {
        let fixtures = fixtures(self.folder);
        assert!(fixtures.len() >= 15, "{} has {} cases", self.folder, fixtures.len());
        fixtures.iter().for_each(|fixture| self.check_one(fixture));
    }

    fn check_one(&self, fixture: &Fixture) {
        if let Some(body) = fixture.read("wire.json") {
            let request = door::decode_request(fixture.kind, &wire(fixture.kind, body)).unwrap();
            fixture.golden("request.json", &pretty(&request_json(&request)));
        }
        if let Some(json) = fixture.read("request.json") {
            match self.encode(fixture, request_from(fixture.kind, &json)) {
                Ok(request) => fixture.golden("upstream.http", &request),
                Err(error) => fixture.golden("refused.txt", &said(&error)),
            }
        }
        let answer = fixture.response().and_then(|body| self.check_answer(fixture, body));
        let streamed = fixture.stream_file().map(|(body, ending)| self.check_stream(fixture, &body, ending));
        if let (Some(answer), Some(streamed)) = (answer, streamed) {
            let joined = serde_json::to_value(join(streamed.events).unwrap()).unwrap();
            assert_eq!(pretty(&joined), pretty(&answer_json(&answer)), "{}: deltas joined", fixture.name);
        }
        if let Some(json) = fixture.read("failure.json") {
            let error = self.classify(fixture, serde_json::from_slice(&json).unwrap());
            fixture.golden("failure.txt", &said(&error));
        }
    }

    /// The request on the wire: its first line, its headers, its body.
    pub(super) fn encode(&self, fixture: &Fixture, request: Request) -> Result<String> {
        let payload = Payload::typed_only(request);
        let request = self.dialect.encode(&fixture.ask(&payload, Lane::Typed), &(self.target)(&fixture.case))?;
        let mut text = format!("{} {}\n", request.method(), request.uri());
        let mut headers: Vec<_> = request.headers().iter().map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap())).collect();
        headers.sort();
        text.extend(headers);
        let body = String::from_utf8(request.into_body().to_vec()).unwrap();
        Ok(text + "\n" + &indented(&body))
    }

    fn classify(&self, fixture: &Fixture, failure: Failure) -> Error {
        let Failure { status, headers, body } = failure;
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        let body = body.as_str().map_or_else(|| body.to_string(), str::to_owned);
        self.dialect.classify(&(self.target)(&fixture.case), StatusCode::from_u16(status).unwrap(), &headers, body.as_bytes())
    }

    fn decode(&self, fixture: &Fixture, body: Vec<u8>) -> Result<Answer> {
        let payload = fixture.payload();
        let ask = Ask { streaming: false, ..fixture.ask(&payload, Lane::Typed) };
        self.dialect.decode(&ask, &(self.target)(&fixture.case), &fixture.headers(), body.into())
    }

    fn check_answer(&self, fixture: &Fixture, body: Vec<u8>) -> Option<Answer> {
        match self.decode(fixture, body) {
            Ok(answer) => {
                fixture.golden("answer.json", &pretty(&answer_json(&answer)));
                Some(answer)
            }
            Err(error) => {
                fixture.golden("answer_error.txt", &said(&error));
                None
            }
        }
    }

    fn check_stream(&self, fixture: &Fixture, body: &[u8], ending: &str) -> Streamed {
        let read = |piece| {
            let streamed = self.stream(fixture, frames(body, ending, piece), true);
            let mut lines: Vec<String> = streamed.events.iter().map(|event| event_json(event).to_string()).collect();
            lines.extend(streamed.error.as_ref().map(|error| Json::from(said(error)).to_string()));
            (streamed, lines.join("\n") + "\n")
        };
        let (whole, lines) = read(body.len());
        fixture.golden("events.jsonl", &lines);
        for piece in [1, 7] {
            assert_eq!(read(piece).1, lines, "{}: in pieces of {piece}", fixture.name);
        }
        self.check_cuts(fixture, &frames(body, ending, body.len()));
        whole
    }

    /// A stream that stops early never looks whole.
    fn check_cuts(&self, fixture: &Fixture, frames: &[Frame]) {
        let contents = |streamed: &Streamed| streamed.events.iter().filter(|event| matches!(event, Event::Delta(_))).count();
        let whole = contents(&self.stream(fixture, frames.to_vec(), true));
        for end in 0..frames.len() {
            let cut = self.stream(fixture, frames[..end].to_vec(), true);
            let looks_whole = cut.events.iter().any(|event| matches!(event, Event::End));
            assert!(!looks_whole || contents(&cut) == whole, "{}: cut before frame {end} and nobody notices", fixture.name);
        }
    }

    /// Feeds frames to a decoder, and the end of the connection if nothing ended the stream before.
    fn stream(&self, fixture: &Fixture, frames: Vec<Frame>, ends: bool) -> Streamed {
        let payload = fixture.payload();
        let mut decoder = self.dialect.decoder(&fixture.ask(&payload, Lane::Typed), &(self.target)(&fixture.case));
        let mut streamed = Streamed { events: Vec::new(), error: None, commit: None };
        let is_over = |streamed: &Streamed| streamed.error.is_some() || matches!(streamed.events.last(), Some(Event::End));
        for frame in frames {
            if is_over(&streamed) {
                break;
            }
            streamed.error = decoder.frame(frame, &mut streamed.events).err();
        }
        if ends && !is_over(&streamed) {
            streamed.error = decoder.finish(&mut streamed.events).err();
        }
        if ends && !is_over(&streamed) {
            streamed.error = Some(Error::new(ErrorReason::ProviderStreamCut, "cut"));
        }
        streamed
    }
}
