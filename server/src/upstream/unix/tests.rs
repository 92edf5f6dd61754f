//! Servers behind Unix sockets that answer, hang up in the middle, or are not there.

use std::{
    future::Future,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
};

use futures_util::StreamExt as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    sync::mpsc,
};

use super::*;

const SOON: Duration = Duration::from_secs(10);

struct Server {
    client: Unix,
    connections: Arc<AtomicUsize>,
    _folder: tempfile::TempDir,
}

/// A server whose connections are each looked after by `serve`.
fn server<F: Future<Output = ()> + Send + 'static>(serve: impl Fn(UnixStream) -> F + Send + 'static) -> Server {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("s");
    let (listener, tasks) = (UnixListener::bind(&path).unwrap(), Tasks::default());
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    tasks.clone().spawn({
        let tasks = tasks.clone();
        async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, SeqCst);
                tasks.spawn(serve(stream));
            }
        }
    });
    Server { client: Unix::new(&path, &tasks).unwrap(), connections, _folder: folder }
}

/// The head of a request without a body; `None` at the end.
async fn head(stream: &mut UnixStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

/// Writes each answer once it is asked for.
async fn answer_all(mut stream: UnixStream, answer: &'static str) {
    while head(&mut stream).await.is_some() {
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

fn get(path: &str) -> Request<Bytes> {
    Request::get(path).body(Bytes::new()).unwrap()
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let (seen, mut heads) = mpsc::unbounded_channel();
    let server = server(move |mut stream| {
        let seen = seen.clone();
        async move {
            while let Some(head) = head(&mut stream).await {
                seen.send(head).unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").await.unwrap();
            }
        }
    });
    for _ in 0..3 {
        let response = server.client.send(get("http://elsewhere.test/ping?x=1")).await.unwrap();
        assert_eq!(response.into_body().collect(10).await.unwrap().0, "hi");
    }
    assert_eq!(server.connections.load(SeqCst), 1);
    let head = heads.recv().await.unwrap();
    assert!(head.starts_with("GET /ping?x=1 HTTP/1.1\r\n") && head.contains("host: localhost\r\n"), "{head}");
}

#[tokio::test]
async fn calls_at_once_have_connections_of_their_own() {
    let server = server(|stream| answer_all(stream, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n"));
    let first = server.client.send(get("/")).await.unwrap();
    let second = server.client.send(get("/")).await.unwrap();
    assert_eq!(server.connections.load(SeqCst), 2);
    drop((first, second));
}

#[tokio::test]
async fn who_gives_a_call_up_hangs_up() {
    for answer in ["", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n"] {
        let (told, mut news) = mpsc::unbounded_channel();
        let server = server(move |mut stream| {
            let told = told.clone();
            async move {
                head(&mut stream).await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
                told.send("asked").unwrap();
                // Or a reset, when there was something left to read.
                assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0);
                told.send("hung up").unwrap();
            }
        });
        let mut call = Box::pin(async {
            let mut body = server.client.send(get("/")).await.unwrap().into_body();
            assert_eq!(body.next().await.unwrap().unwrap(), "hi");
            body.next().await
        });
        tokio::select! {
            ended = &mut call => panic!("{ended:?}"),
            asked = news.recv() => assert_eq!(asked, Some("asked")),
        }
        drop(call);
        assert_eq!(tokio::time::timeout(SOON, news.recv()).await.unwrap(), Some("hung up"), "{answer}");
    }
}

#[tokio::test]
async fn an_answer_that_is_cut_is_no_answer() {
    let server = server(|mut stream| async move {
        let asked = head(&mut stream).await.unwrap();
        if asked.starts_with("GET /half ") {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhal").await.unwrap();
        }
    });
    let unanswered = server.client.send(get("/none")).await.unwrap_err();
    assert!(matches!(unanswered, Unanswered::Cut(_)), "{unanswered:?}");
    let mut body = server.client.send(get("/half")).await.unwrap().into_body();
    assert_eq!(body.next().await.unwrap().unwrap(), "hal");
    assert!(body.next().await.unwrap().is_err());
}

#[tokio::test]
async fn nobody_there_is_told_from_no_answer() {
    let folder = tempfile::tempdir().unwrap();
    let client = Unix::new(&folder.path().join("s"), &Tasks::default()).unwrap();
    let unanswered = client.send(get("/")).await.unwrap_err();
    assert!(matches!(&unanswered, Unanswered::Unreached(cause) if !cause.is_empty()), "{unanswered:?}");
}
