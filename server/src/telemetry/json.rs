//! A log line as one JSON object: time, level, the event's fields, target. Written straight into the line, since every call costs one.

use std::fmt;

use serde::Serialize;
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::Writer,
        time::{FormatTime as _, SystemTime},
    },
    registry::LookupSpan,
};

/// The length of most lines, in bytes.
const USUAL: usize = 768;

/// The format of one line.
#[derive(Debug)]
pub(super) struct Json;

/// The members of an object, each with the comma before it.
struct Members(Vec<u8>);

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut line: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut members = Members(Vec::with_capacity(USUAL));
        members.add("level", event.metadata().level().as_str());
        event.record(&mut members);
        members.add("target", event.metadata().target());
        line.write_str("{\"timestamp\":\"")?;
        SystemTime.format_time(&mut line)?;
        line.write_char('"')?;
        line.write_str(std::str::from_utf8(&members.0).map_err(|_| fmt::Error)?)?;
        line.write_str("}\n")
    }
}

impl Members {
    fn add<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) {
        let before = self.0.len();
        self.0.push(b',');
        let written = serde_json::to_writer(&mut self.0, name).and_then(|()| {
            self.0.push(b':');
            serde_json::to_writer(&mut self.0, value)
        });
        if written.is_err() {
            self.0.truncate(before);
        }
    }
}

impl Visit for Members {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field.name(), &value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field.name(), &value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field.name(), &value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field.name(), &value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field.name(), &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};

    use serde_json::{Value, json};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(line)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_event_is_one_line_of_json() {
        let sink = Sink::default();
        let out = sink.clone();
        let log = tracing_subscriber::fmt().event_format(Json).with_writer(move || out.clone()).finish();
        tracing::subscriber::with_default(log, || {
            tracing::info!(target: "access", text = "a \"b\"\n\u{1}ü", whole = -3, count = 3_u64, ms = 0.25, none = None::<u32>, yes = true, "call");
            tracing::warn!(nan = f64::NAN, shown = %"x\"", told = ?Some("y"), "odd {}", 1);
        });
        let written = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        let mut lines: Vec<Value> = written.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        for line in &mut lines {
            let time = line.as_object_mut().unwrap().remove("timestamp").unwrap();
            assert!(time.as_str().unwrap().ends_with('Z'), "{time}");
        }
        let first = json!({"level": "INFO", "message": "call", "text": "a \"b\"\n\u{1}ü", "whole": -3, "count": 3, "ms": 0.25, "yes": true, "target": "access"});
        let target = "flowgate_server::telemetry::json::tests";
        let second = json!({"level": "WARN", "message": "odd 1", "nan": null, "shown": "x\"", "told": "Some(\"y\")", "target": target});
        assert_eq!(lines, [first, second]);
    }
}
