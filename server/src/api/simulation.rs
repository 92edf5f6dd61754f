//! Random faults over the whole stack in simulated time: every call ends once, in its time, with one answer, and is recorded once.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use fastrand::Rng;
use flowgate_proto::v1::{ChatRequest, ErrorReason, Message, chat_delta::Delta};
use futures_util::{StreamExt as _, future::join_all};
use http::{HeaderMap, HeaderValue};
use tokio::time::{Instant, sleep, timeout};

use super::{
    Gate, Knock,
    testing::{guard, visit},
};
use crate::{
    call::Facts,
    config::{self, Hedge, HedgeAfter, Mock, MockFailure, MockFailureMode, Place, Timeouts},
    dialect::openai,
    event::{Answer, Event, Payload, Protocol, Reply, Request, Task, Wire},
    identity::Identity,
    policy::testing::{deployment, endpoint},
    stack::{Grounds, Snapshot},
    task::Cut,
};

const SEEDS: u64 = 10_000;
const CALLS: usize = 8;
const UNARY: Duration = Duration::from_secs(4);
const STREAM: Duration = Duration::from_secs(9);
/// A timer fires on the millisecond after its time.
const TICK: Duration = Duration::from_millis(2);

/// What one caller does.
#[derive(Clone, Copy, Debug)]
struct Plan {
    streaming: bool,
    byte_lane: bool,
    starts: Duration,
    deadline: Option<Duration>,
    /// When the caller goes away.
    leaves: Option<Duration>,
}

/// What a caller saw.
#[derive(Debug, Default)]
struct Seen {
    text: String,
    /// How often an answer began, ended, failed.
    began: usize,
    ended: usize,
    failed: Vec<ErrorReason>,
    left: bool,
    took: Duration,
}

fn pick<T: Copy>(rng: &mut Rng, of: &[T]) -> T {
    of[rng.usize(..of.len())]
}

fn millis(rng: &mut Rng, of: &[u64]) -> Duration {
    Duration::from_millis(pick(rng, of))
}

/// A server with a temper of its own, which says its own name.
fn server(rng: &mut Rng, alias: &str) -> config::Deployment {
    let modes = [MockFailureMode::Cut, MockFailureMode::ErrorEvent, MockFailureMode::NoEnd, MockFailureMode::Silent];
    let failure = rng.bool().then(|| MockFailure {
        every: rng.u64(1..4),
        status: rng.bool().then(|| pick(rng, &[400, 401, 404, 408, 429, 500, 503, 529])),
        mode: pick(rng, &modes),
    });
    let mock = Mock {
        text: Some([1, 2, 3, 4].map(|word| format!("{alias}{word}")).join(" ")),
        first_delay: millis(rng, &[0, 0, 5, 40, 400, 100_000]),
        delay: millis(rng, &[0, 0, 10, 300, 100_000]),
        failure,
        ..Mock::default()
    };
    let weight = Some(rng.u32(1..9));
    config::Deployment { place: Place::Mock(mock), weight, ..deployment(alias) }
}

fn named(rng: &mut Rng, name: &str) -> config::Endpoint {
    let weighted = rng.bool();
    let mut deployments: Vec<_> = (0..rng.usize(1..4)).map(|number| server(rng, &format!("{name}{number}-"))).collect();
    if !weighted {
        deployments.iter_mut().for_each(|deployment| deployment.weight = None);
    }
    let mut endpoint = endpoint(name, deployments);
    endpoint.timeouts = Timeouts {
        connect: Duration::from_secs(1),
        attempt: rng.bool().then(|| millis(rng, &[100, 1000])),
        first_event: rng.bool().then(|| millis(rng, &[200, 1000])),
        idle: rng.bool().then(|| millis(rng, &[100, 1000])),
        total_unary: Some(UNARY),
        total_stream: Some(STREAM),
    };
    endpoint.routing.retry.attempts = rng.bool().then(|| rng.u32(1..6));
    endpoint.routing.retry.budget = pick(rng, &[0.2, 1.0]);
    let after = HedgeAfter::Delay(millis(rng, &[0, 20, 200]));
    endpoint.routing.hedge = rng.bool().then_some(Hedge { after, budget: pick(rng, &[0.05, 1.0]) });
    endpoint
}

fn endpoints(rng: &mut Rng) -> Vec<config::Endpoint> {
    let mut first = named(rng, "a");
    if rng.bool() {
        first.routing.fallback = vec!["b".to_owned()];
    }
    vec![first, named(rng, "b")]
}

fn plan(rng: &mut Rng) -> Plan {
    Plan {
        streaming: rng.bool(),
        byte_lane: rng.bool(),
        starts: millis(rng, &[0, 1, 50, 700, 3000]),
        deadline: rng.bool().then(|| millis(rng, &[1, 60, 900])),
        leaves: (rng.u8(..4) == 0).then(|| millis(rng, &[0, 10, 250, 1500])),
    }
}

impl Plan {
    fn payload(self) -> Payload {
        if self.byte_lane {
            let body = format!("{{\"model\":\"a\",\"messages\":[{{\"role\":\"user\",\"content\":\"x\"}}],\"stream\":{}}}", self.streaming);
            return Payload::wire_only(Wire {
                protocol: Protocol::OpenAiChat,
                content_type: HeaderValue::from_static("application/json"),
                body: Bytes::from(body),
                decode: openai::door::decode_chat,
            });
        }
        let message = Message { text: "x".to_owned(), ..Default::default() };
        Payload::typed_only(Request::Chat(ChatRequest { endpoint: "a".to_owned(), messages: vec![message], ..Default::default() }))
    }

    /// By when the call must be over.
    fn most(self) -> Duration {
        let total = if self.streaming { STREAM } else { UNARY };
        [self.deadline, self.leaves].into_iter().flatten().fold(total, Duration::min)
    }

    async fn carry_out(self, gate: Arc<Gate>) -> (Self, Seen, Facts) {
        sleep(self.starts).await;
        let (visit, begun) = (visit(), Instant::now());
        let mut guard = guard(&gate.metrics, &visit);
        let mut headers = HeaderMap::new();
        if let Some(deadline) = self.deadline {
            headers.insert("x-request-timeout", HeaderValue::try_from(format!("{}ms", deadline.as_millis())).unwrap());
        }
        let knock = Knock { task: Task::Chat, streaming: self.streaming, payload: self.payload() };
        let seen = Mutex::new(Seen::default());
        let answered = async {
            match gate.call(&visit, &headers, "a", knock).await {
                Ok(reply) => read(reply, &seen).await,
                Err(error) => {
                    visit.record.fail(&error);
                    seen.lock().unwrap().failed.push(error.reason());
                }
            }
        };
        let left = timeout(self.leaves.unwrap_or(Duration::MAX), answered).await.is_err();
        let mut seen = seen.into_inner().unwrap();
        (seen.left, seen.took) = (left, begun.elapsed());
        if !left {
            guard.complete();
        }
        drop(guard);
        (self, seen, visit.record.facts())
    }
}

async fn read(mut reply: Reply, seen: &Mutex<Seen>) {
    while let Some(event) = reply.next().await {
        let mut seen = seen.lock().unwrap();
        match event {
            Ok(Event::Start(_)) => seen.began += 1,
            Ok(Event::Delta(delta)) => {
                if let Some(Delta::Text(text)) = delta.delta {
                    seen.text.push_str(&text);
                }
            }
            Ok(Event::Wire(frame)) => {
                let line = String::from_utf8(frame.bytes.to_vec()).unwrap();
                let data: serde_json::Value = serde_json::from_str(line.trim_start_matches("data:").trim()).unwrap_or_default();
                let delta = &data["choices"][0]["delta"];
                seen.began += usize::from(!delta["role"].is_null());
                seen.text.push_str(delta["content"].as_str().unwrap_or_default());
            }
            Ok(Event::End) => seen.ended += 1,
            Ok(Event::Answer(answer)) => {
                let answer = match answer {
                    Answer::Wire(wire) => openai::decode_answer(Task::Chat, &wire.body).unwrap(),
                    answer => answer,
                };
                let Answer::Chat(chat) = answer else { panic!("not an answer to a chat") };
                let parts = &chat.choices[0].message.as_ref().unwrap().parts;
                let Some(flowgate_proto::v1::part::Kind::Text(text)) = &parts[0].kind else { panic!("no text") };
                seen.text.push_str(&text.text);
                seen.ended += 1;
            }
            Ok(Event::ChoiceEnd(_) | Event::Usage(_) | Event::Ping) => {}
            Err(error) => seen.failed.push(error.reason()),
        }
    }
}

/// What is wrong with what one caller saw, if anything is.
fn judge(plan: Plan, seen: &Seen, facts: &Facts, texts: &[String]) -> Result<(), &'static str> {
    let whole = texts.contains(&seen.text);
    let part = texts.iter().any(|text| text.starts_with(&seen.text));
    if seen.took > plan.most() + TICK {
        return Err("it took longer than it may");
    }
    if seen.ended + seen.failed.len() != usize::from(!seen.left) && !(seen.left && seen.ended + seen.failed.len() <= 1) {
        return Err("it did not end just once");
    }
    if seen.began > 1 || !part || (seen.ended == 1 && !whole) {
        return Err("it is not one server's answer");
    }
    let recorded = facts.failure.as_ref().map(|failure| failure.reason);
    let expected = match seen.failed.first() {
        Some(reason) => Some(*reason),
        None if seen.left && seen.ended == 0 => Some(ErrorReason::CallerCancelled),
        None => recorded.filter(|reason| seen.left && *reason == ErrorReason::CallerCancelled),
    };
    if recorded != expected {
        return Err("it is recorded as something else");
    }
    if facts.attempts > 2 * 2 * 6 {
        return Err("it was tried too often");
    }
    Ok(())
}

async fn world(seed: u64) {
    fastrand::seed(seed);
    let mut rng = Rng::with_seed(seed);
    let (before, after) = (endpoints(&mut rng), endpoints(&mut rng));
    let all = before.iter().chain(&after).flat_map(|endpoint| &endpoint.deployments);
    let mut texts: Vec<String> = all
        .map(|deployment| match &deployment.place {
            Place::Mock(mock) => mock.text.clone().unwrap(),
            Place::Http(_) | Place::Model(_) | Place::Nowhere(_) => String::new(),
        })
        .collect();
    texts.dedup();
    let grounds = Grounds::new(&config::Models::default());
    let snapshot =
        |endpoints: Vec<config::Endpoint>| Snapshot::build(&config::Config { endpoints, ..Default::default() }, &grounds).unwrap();
    let gate = Arc::new(Gate {
        snapshot: ArcSwap::from_pointee(snapshot(before)),
        identity: Identity::new(&[]),
        metrics: Arc::clone(&grounds.metrics),
        max_request_bytes: 1 << 20,
        cut: Cut::default(),
    });
    let plans: Vec<Plan> = (0..CALLS).map(|_| plan(&mut rng)).collect();
    let reload = async {
        sleep(Duration::from_millis(60)).await;
        gate.snapshot.store(Arc::new(snapshot(after)));
    };
    let calls = join_all(plans.into_iter().map(|plan| plan.carry_out(Arc::clone(&gate))));
    let (seen, ()) = tokio::join!(calls, reload);
    for (plan, seen, facts) in &seen {
        if let Err(what) = judge(*plan, seen, facts, &texts) {
            panic!("seed {seed}: {what}: {plan:?} {seen:?} {facts:?}");
        }
    }
    let page = grounds.metrics.render();
    let numbers = |name: &str| -> f64 {
        page.lines().filter(|line| line.starts_with(name)).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };
    assert_eq!(numbers("flowgate_calls_total"), f64::from(u32::try_from(CALLS).unwrap()), "seed {seed}: calls are not counted once each");
    assert_eq!(numbers("flowgate_in_flight"), 0.0, "seed {seed}");
}

/// One seed after the other, each in a time of its own.
fn run(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(world(seed));
    }
}

#[test]
fn the_first_seeds_hold() {
    run(0..SEEDS / 4);
}

#[test]
fn the_second_seeds_hold() {
    run(SEEDS / 4..SEEDS / 2);
}

#[test]
fn the_third_seeds_hold() {
    run(SEEDS / 2..SEEDS / 4 * 3);
}

#[test]
fn the_last_seeds_hold() {
    run(SEEDS / 4 * 3..SEEDS);
}
