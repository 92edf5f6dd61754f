//! A server that answers as a test says, answers that break off included, and fetches that ask nobody.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use http::{HeaderMap, Request, StatusCode};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::Semaphore,
};

use crate::{
    error::Result,
    task::Tasks,
    upstream::control::{Answer, Fetch},
};

/// A request as the server sees it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) method: String,
    /// Path and query.
    pub(super) target: String,
    pub(super) headers: HashMap<String, String>,
}

/// An answer.
#[derive(Clone, Default)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
    pub(super) is_unmeasured: bool,
    /// After how many bytes of the body the connection is closed.
    pub(super) cut: Option<usize>,
    /// What each answer takes one permit of before it goes on after the cut, or after all.
    pub(super) gate: Option<Arc<Semaphore>>,
}

pub(super) struct Server {
    pub(super) address: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Reply {
    pub(super) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, body: body.into(), ..Self::default() }
    }

    /// A file, or the part of it that is asked for.
    pub(super) fn file(seen: &Seen, content: &[u8], etag: &str) -> Self {
        let from = seen.headers.get("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
        let mut reply = Self::new(200, content);
        if let Some(from) = from {
            reply = Self::new(206, &content[from..]);
            reply.headers.push(("content-range", format!("bytes {from}-{}/{}", content.len() - 1, content.len())));
        }
        reply.headers.push(("etag", etag.to_owned()));
        reply
    }

    /// Without a word of its length.
    pub(super) fn unmeasured(mut self) -> Self {
        self.is_unmeasured = true;
        self
    }

    pub(super) fn cut(mut self, after: usize) -> Self {
        self.cut = Some(after);
        self
    }
}

impl Server {
    pub(super) async fn new(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (tasks, noted, answer) = (Tasks::default(), Arc::clone(&seen), Arc::new(answer));
        tasks.clone().spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (noted, answer) = (Arc::clone(&noted), Arc::clone(&answer));
                tasks.spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        match stream.read_u8().await {
                            Ok(byte) => head.push(byte),
                            Err(_) => return,
                        }
                    }
                    let seen = read(&String::from_utf8(head).unwrap());
                    let reply = answer(&seen);
                    let head_only = seen.method == "HEAD";
                    noted.lock().unwrap().push(seen);
                    let mut text = format!("HTTP/1.1 {} X\r\nconnection: close\r\n", reply.status);
                    if !reply.is_unmeasured {
                        text.push_str(&format!("content-length: {}\r\n", reply.body.len()));
                    }
                    for (name, value) in &reply.headers {
                        text.push_str(&format!("{name}: {value}\r\n"));
                    }
                    text.push_str("\r\n");
                    drop(stream.write_all(text.as_bytes()).await);
                    let end = if head_only { 0 } else { reply.cut.unwrap_or(reply.body.len()) };
                    drop(stream.write_all(&reply.body[..end]).await);
                    if let Some(gate) = reply.gate {
                        gate.acquire().await.unwrap().forget();
                    }
                    drop(stream.shutdown().await);
                });
            }
        });
        Self { address, seen }
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// How often something was asked for.
    pub(super) fn asked(&self, target: &str) -> usize {
        self.seen().iter().filter(|seen| seen.target == target).count()
    }
}

fn read(head: &str) -> Seen {
    let mut lines = head.lines();
    let mut first = lines.next().unwrap().split(' ');
    let (method, target) = (first.next().unwrap().to_owned(), first.next().unwrap().to_owned());
    let headers = lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    Seen { method, target, headers }
}

/// A fetch that asks nobody; all requests are noted by their whole address.
pub(super) fn fetch(
    answer: impl Fn(&Request<Bytes>) -> Result<(u16, String)> + Send + Sync + 'static,
) -> (Fetch, Arc<Mutex<Vec<Request<Bytes>>>>) {
    let seen: Arc<Mutex<Vec<Request<Bytes>>>> = Arc::default();
    let noted = Arc::clone(&seen);
    let fetch: Fetch = Arc::new(move |request| {
        let answered = answer(&request).map(|(status, body)| Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: stream::iter([Ok(Bytes::from(body))]).boxed(),
        });
        noted.lock().unwrap().push(request);
        async move { answered }.boxed()
    });
    (fetch, seen)
}
