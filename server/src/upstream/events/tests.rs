//! Bodies that end in a frame which nothing closed.

use serde_json::Value as Json;

use super::*;
use crate::event::WireFrame;

/// Reads JSON: an object with an error is one, anything else is content; `finish` says that all was said.
struct Plain;

impl Decoder for Plain {
    fn frame(&mut self, frame: Frame, events: &mut Vec<Event>) -> Result<()> {
        if frame.data.is_empty() {
            return Ok(());
        }
        if *frame.data == *b"[DONE]" {
            events.push(Event::End);
            return Ok(());
        }
        let bad = |_| Error::new(ErrorReason::ProviderBadAnswer, "no JSON");
        let json: Json = serde_json::from_slice(&frame.data).map_err(bad)?;
        if json.get("error").is_some() {
            return Err(Error::new(ErrorReason::ProviderRateLimited, "an error event"));
        }
        events.push(Event::Wire(WireFrame { bytes: frame.data, content: true, usage: None }));
        Ok(())
    }

    fn finish(&mut self, events: &mut Vec<Event>) -> Result<()> {
        events.push(Event::End);
        Ok(())
    }
}

/// What a body says, and why its stream failed if it did.
async fn read(framing: Framing, body: &'static str) -> (Vec<String>, Option<ErrorReason>) {
    let body = Body::full(bytes::Bytes::from_static(body.as_bytes()));
    let events = Events::new("fast".into(), body, framing, Box::new(Plain), Tasks::default());
    let (mut said, mut failed) = (Vec::new(), None);
    for event in events.collect::<Vec<_>>().await {
        match event {
            Ok(Event::Wire(frame)) => said.push(String::from_utf8_lossy(&frame.bytes).into_owned()),
            Ok(_) => said.push("end".to_owned()),
            Err(error) => failed = Some(error.reason()),
        }
    }
    (said, failed)
}

#[tokio::test]
async fn an_error_that_is_there_whole_is_told_though_nothing_closed_it() {
    for (framing, body) in [
        (Framing::Sse, "data: 1\n\ndata: {\"error\":{}}"),
        (Framing::Sse, "data: 1\n\ndata: {\"error\":{}}\n"),
        (Framing::Sse, "data: 1\n\nevent: error\ndata: {\ndata: \"error\":{}}"),
        (Framing::Lines, "1\n{\"error\":{}}"),
    ] {
        assert_eq!(read(framing, body).await, (vec!["1".to_owned()], Some(ErrorReason::ProviderRateLimited)), "{body}");
    }
}

#[tokio::test]
async fn half_an_error_is_a_cut() {
    for (framing, body) in [(Framing::Sse, "data: 1\n\ndata: {\"error\":{}"), (Framing::Lines, "1\n{\"error\":{")] {
        assert_eq!(read(framing, body).await, (vec!["1".to_owned()], Some(ErrorReason::ProviderStreamCut)), "{body}");
    }
}

#[tokio::test]
async fn no_content_is_taken_from_an_event_that_nothing_closed() {
    for body in ["data: 1\n\ndata: 2", "data: 1\n\ndata: 2\n"] {
        assert_eq!(read(Framing::Sse, body).await, (vec!["1".to_owned()], Some(ErrorReason::ProviderStreamCut)), "{body:?}");
    }
}

#[tokio::test]
async fn an_end_stands_though_nothing_closed_it() {
    for (framing, body) in [
        (Framing::Sse, "data: 1\n\ndata: [DONE]"),
        (Framing::Sse, "data: 1\n\n"),
        (Framing::Sse, "data: 1\n\nid: 7"),
        // A line needs no end where the body has one.
        (Framing::Lines, "1\n2"),
    ] {
        let (said, failed) = read(framing, body).await;
        assert_eq!((said.first().map(String::as_str), said.last().map(String::as_str), failed), (Some("1"), Some("end"), None), "{body:?}");
    }
}
