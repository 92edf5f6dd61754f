//! Tests of server-sent events under paused time.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use flowgate_proto::v1::ErrorReason;
use http_body_util::BodyExt as _;
use tokio::time::sleep_until;

use super::*;
use crate::policy::testing::{head, streamed, text};

/// Writes texts as they are, ends with a full stop, fails with `!REASON`.
struct Plain;

impl Encoder for Plain {
    fn event(&mut self, event: Event, out: &mut BytesMut) -> Result<()> {
        match event {
            Event::Delta(delta) => out.extend_from_slice(format!("{:?};", delta.delta.unwrap()).as_bytes()),
            Event::Usage(_) => {
                out.extend_from_slice(b"half of it");
                return Err(Error::internal("cannot be written"));
            }
            Event::End => out.extend_from_slice(b"."),
            _ => {}
        }
        Ok(())
    }

    fn failure(&mut self, error: &Error, out: &mut BytesMut) {
        out.extend_from_slice(format!("!{}", error.reason_name()).as_bytes());
    }
}

/// Tells when it is dropped.
struct Flag(Arc<AtomicBool>);

impl Drop for Flag {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Events of which none is the last.
struct Messages(stream::Iter<std::vec::IntoIter<Result<u8>>>);

impl Stream for Messages {
    type Item = Result<u8>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<u8>>> {
        self.0.poll_next_unpin(cx)
    }
}

impl Events for Messages {
    type Event = u8;

    fn headers(&self) -> HeaderMap {
        HeaderMap::new()
    }
}

impl Encoder<u8> for Plain {
    fn event(&mut self, event: u8, out: &mut BytesMut) -> Result<()> {
        data(event.to_string().as_bytes(), out);
        Ok(())
    }

    fn failure(&mut self, error: &Error, out: &mut BytesMut) {
        Encoder::<Event>::failure(self, error, out);
    }
}

fn cut() -> Error {
    Error::new(ErrorReason::ProviderStreamCut, "cut")
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// The writes of a body, each with the second in which it came.
async fn writes(response: Response<Body>, start: Instant) -> Vec<(u64, String)> {
    let mut body = response.into_body();
    let mut writes = Vec::new();
    while let Some(frame) = body.frame().await {
        let bytes = frame.unwrap().into_data().unwrap();
        writes.push((start.elapsed().as_secs(), String::from_utf8(bytes.to_vec()).unwrap()));
    }
    writes
}

async fn written(events: impl Stream<Item = Result<Event>> + Send + 'static) -> Vec<(u64, String)> {
    let start = Instant::now();
    let response = respond(async { Ok(streamed(events)) }, Plain).await.unwrap();
    writes(response, start).await
}

fn later(at: u64, event: Result<Event>) -> impl Stream<Item = Result<Event>> + Send {
    let until = Instant::now() + seconds(at);
    stream::once(async move {
        sleep_until(until).await;
        event
    })
}

#[tokio::test(start_paused = true)]
async fn the_head_waits_for_the_call_and_carries_the_upstreams_headers() {
    let start = Instant::now();
    let call = async {
        sleep(seconds(3)).await;
        let mut reply = streamed(stream::iter([Ok(Event::End)]));
        reply.head.headers.insert("x-upstream-request-id", HeaderValue::from_static("up"));
        Ok(reply)
    };
    let response = respond(call, Plain).await.unwrap();
    assert_eq!(start.elapsed(), seconds(3));
    let headers = response.headers();
    assert_eq!(headers[header::CONTENT_TYPE], "text/event-stream; charset=utf-8");
    assert_eq!(headers[header::CACHE_CONTROL], "no-cache");
    assert_eq!(headers["x-accel-buffering"], "no");
    assert_eq!(headers["x-upstream-request-id"], "up");
}

#[tokio::test(start_paused = true)]
async fn a_failure_before_the_head_is_returned() {
    let call = async {
        sleep(seconds(9)).await;
        Err::<Reply, _>(cut())
    };
    assert_eq!(respond(call, Plain).await.unwrap_err().reason(), ErrorReason::ProviderStreamCut);
}

#[tokio::test(start_paused = true)]
async fn after_ten_seconds_the_head_goes_out_and_pings_keep_the_connection() {
    let start = Instant::now();
    let call = async {
        sleep(seconds(25)).await;
        Ok(streamed(stream::iter([Ok(text("a")), Ok(Event::End)])))
    };
    let response = respond(call, Plain).await.unwrap();
    assert_eq!(start.elapsed(), seconds(10));
    let said: Vec<_> = writes(response, start).await;
    let expected = [(10, ": ping\n\n"), (20, ": ping\n\n"), (25, "Text(\"a\");.")];
    assert_eq!(said, expected.map(|(at, text)| (at, text.to_owned())));
}

#[tokio::test(start_paused = true)]
async fn a_failure_after_the_head_is_an_event() {
    let start = Instant::now();
    let call = async {
        sleep(seconds(12)).await;
        Err::<Reply, _>(cut())
    };
    let said = writes(respond(call, Plain).await.unwrap(), start).await;
    assert_eq!(said.last().unwrap(), &(12, "!PROVIDER_STREAM_CUT".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_quiet_stream_is_kept_alive_counted_from_its_last_event() {
    let events = later(0, Ok(text("a"))).chain(later(4, Ok(text("b")))).chain(later(26, Ok(Event::End)));
    let said = written(events).await;
    let times: Vec<_> = said.iter().map(|(at, text)| (*at, text.starts_with(':'))).collect();
    assert_eq!(times, [(0, false), (4, false), (14, true), (24, true), (26, false)]);
}

#[tokio::test]
async fn all_ready_events_go_in_one_write() {
    let said = written(stream::iter([Ok(text("a")), Ok(text("b")), Ok(Event::Ping), Ok(Event::End)])).await;
    assert_eq!(said.len(), 1);
    assert_eq!(said[0].1, "Text(\"a\");Text(\"b\");.");
}

#[tokio::test]
async fn a_fast_stream_is_written_in_bounded_pieces() {
    let many = (0..10_000).map(|_| Ok(text("0123456789"))).chain([Ok(Event::End)]);
    let said = written(stream::iter(many)).await;
    assert!(said.len() > 2);
    assert!(said.iter().all(|(_, text)| text.len() < MOST_AT_ONCE + 100));
}

#[tokio::test]
async fn a_stream_without_its_end_has_failed() {
    let said = written(stream::iter([Ok(text("a"))])).await;
    assert_eq!(said[0].1, "Text(\"a\");!PROVIDER_STREAM_CUT");
}

#[tokio::test]
async fn messages_that_have_no_last_one_are_complete_when_they_stop() {
    for (messages, expected) in
        [(vec![Ok(1), Ok(2)], "data: 1\n\ndata: 2\n\n"), (vec![Ok(1), Err(cut())], "data: 1\n\n!PROVIDER_STREAM_CUT")]
    {
        let messages = Messages(stream::iter(messages));
        let response = respond(async { Ok(messages) }, Plain).await.unwrap();
        assert_eq!(writes(response, Instant::now()).await[0].1, expected);
    }
}

#[tokio::test]
async fn an_error_ends_the_stream_after_what_came_before() {
    let said = written(stream::iter([Ok(text("a")), Err(cut()), Ok(text("b")), Ok(Event::End)])).await;
    assert_eq!(said[0].1, "Text(\"a\");!PROVIDER_STREAM_CUT");
}

#[tokio::test]
async fn an_event_that_cannot_be_written_leaves_no_half_of_itself() {
    let said = written(stream::iter([Ok(text("a")), Ok(Event::Usage(Default::default())), Ok(Event::End)])).await;
    assert_eq!(said[0].1, "Text(\"a\");!GATEWAY_INTERNAL");
}

#[tokio::test]
async fn nothing_is_read_after_the_end() {
    let events = stream::iter([Ok(Event::End)]).chain(stream::pending());
    assert_eq!(written(events).await, [(0, ".".to_owned())]);
}

#[tokio::test]
async fn dropping_the_body_drops_the_reply() {
    let dropped = Arc::new(AtomicBool::new(false));
    let flag = Flag(Arc::clone(&dropped));
    let events = stream::iter([Ok(text("a"))]).chain(stream::pending()).inspect(move |_| _ = &flag);
    let reply = Reply::many(head(), events);
    let mut body = respond(async { Ok(reply) }, Plain).await.unwrap().into_body();
    assert!(body.frame().await.is_some());
    assert!(!dropped.load(Relaxed));
    drop(body);
    assert!(dropped.load(Relaxed));
}

#[tokio::test(start_paused = true)]
async fn dropping_the_body_or_the_response_drops_the_call() {
    for wait in [5, 15] {
        let dropped = Arc::new(AtomicBool::new(false));
        let flag = Flag(Arc::clone(&dropped));
        let call = async move {
            let _flag = flag;
            std::future::pending::<Result<Reply>>().await
        };
        let response = timeout(seconds(wait), respond(call, Plain)).await;
        assert_eq!(response.is_err(), wait == 5);
        assert_eq!(dropped.load(Relaxed), wait == 5);
        drop(response);
        assert!(dropped.load(Relaxed));
    }
}
