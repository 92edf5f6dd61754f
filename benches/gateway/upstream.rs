//! The fake upstream: answers at once, from memory, over HTTP/1.1 and, for the gRPC reference, over h2; a process of its own.

use std::{
    convert::Infallible,
    io::{Read as _, Write as _},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt as _, Either, Full};
use hyper::{
    body::{Body, Frame, Incoming},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::{Deserialize, de::IgnoredAny};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::{
    sample::{ROWS, Sample},
    shared::Result,
};

/// Serves until standard input ends, that is until the benchmark does. Says its two ports first: HTTP, gRPC.
pub fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let http = TcpListener::bind("127.0.0.1:0").await?;
        let grpc = TcpListener::bind("127.0.0.1:0").await?;
        println!("{} {}", http.local_addr()?.port(), grpc.local_addr()?.port());
        std::io::stdout().flush()?;
        let sample = Arc::new(Sample::new());
        tokio::select! {
            served = serve(http, Arc::clone(&sample), Wire::Http1) => served,
            served = serve(grpc, sample, Wire::Http2) => served,
            ended = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())) => Ok(ended?.map(drop)?),
        }
    })
}

#[derive(Clone, Copy)]
enum Wire {
    Http1,
    Http2,
}

async fn serve(listener: TcpListener, sample: Arc<Sample>, wire: Wire) -> Result<()> {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        // A peer that goes away is no failure of the upstream's.
        connections.spawn(connection(stream, Arc::clone(&sample), wire));
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(stream: TcpStream, sample: Arc<Sample>, wire: Wire) -> hyper::Result<()> {
    let stream = TokioIo::new(stream);
    let service = service_fn(move |request| answer(request, Arc::clone(&sample)));
    match wire {
        Wire::Http1 => http1::Builder::new().serve_connection(stream, service).await,
        Wire::Http2 => http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await,
    }
}

type Answer = Either<Full<Bytes>, Pieces>;

async fn answer(request: Request<Incoming>, sample: Arc<Sample>) -> hyper::Result<Response<Answer>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(match head.uri.path() {
        "/v1/chat/completions" => match serde_json::from_slice(&body) {
            Ok(Asked { stream: true }) => respond("text/event-stream", Either::Right(Pieces::new(sample, |sample| &sample.events))),
            Ok(Asked { stream: false }) => respond("application/json", Either::Left(Full::new(sample.chat_answer.clone()))),
            Err(_) => refuse(),
        },
        "/invocations" if has_all_rows(&body) => respond("application/json", Either::Left(Full::new(sample.predict_answer.clone()))),
        "/flowgate.v1.ChatService/Chat" => grpc(sample, |sample| &sample.grpc_chat),
        "/flowgate.v1.ChatService/StreamChat" => grpc(sample, |sample| &sample.grpc_stream),
        "/flowgate.v1.PredictionService/Predict" => grpc(sample, |sample| &sample.grpc_predict),
        _ => refuse(),
    })
}

#[derive(Deserialize)]
struct Asked {
    #[serde(default)]
    stream: bool,
}

#[derive(Deserialize)]
struct Scored {
    dataframe_split: Split,
}

#[derive(Deserialize)]
struct Split {
    data: Vec<IgnoredAny>,
}

/// A gateway that loses rows would be fast.
fn has_all_rows(body: &[u8]) -> bool {
    serde_json::from_slice::<Scored>(body).is_ok_and(|scored| scored.dataframe_split.data.len() == ROWS)
}

fn respond(content_type: &'static str, body: Answer) -> Response<Answer> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn refuse() -> Response<Answer> {
    let mut response = respond("text/plain", Either::Left(Full::new(Bytes::from_static(b"not what the benchmark asks"))));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response
}

fn grpc(sample: Arc<Sample>, of: fn(&Sample) -> &[Bytes]) -> Response<Answer> {
    let trailers = HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
    respond("application/grpc", Either::Right(Pieces { trailers: Some(trailers), ..Pieces::new(sample, of) }))
}

/// A body that is written piece by piece, each in a write of its own, as a model's words come.
struct Pieces {
    sample: Arc<Sample>,
    of: fn(&Sample) -> &[Bytes],
    next: usize,
    paused: bool,
    trailers: Option<HeaderMap>,
}

impl Pieces {
    fn new(sample: Arc<Sample>, of: fn(&Sample) -> &[Bytes]) -> Self {
        Self { sample, of, next: 0, paused: true, trailers: None }
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(piece) = (self.of)(&self.sample).get(self.next).cloned() else {
            return Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
        };
        // Pending makes the server flush what it has.
        self.paused = !self.paused;
        if self.paused {
            task.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.next += 1;
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}
