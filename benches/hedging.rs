//! What hedging does to the slowest calls, and what it costs upstream: one process, a predictor that stalls now and then. See README.md.
#![expect(clippy::disallowed_methods, reason = "a benchmark has no tasks to drain: its runtime ends with it")]

use std::{
    convert::Infallible,
    env,
    error::Error,
    net::SocketAddr,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use flowgate_server::{
    Gateway, Listeners,
    config::{self, Hedge, HedgeAfter, LoadOptions, Process, Source},
};
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

const CALLS: u64 = 5000;
const WARM_UP: u64 = 500;
const AT_ONCE: u64 = 8;
const USUAL: Duration = Duration::from_millis(2);
const STALL: Duration = Duration::from_millis(200);
/// One call in so many stalls.
const STALLS: u64 = 100;
const HEDGE: Hedge = Hedge { after: HedgeAfter::Quantile(0.95), budget: 0.05 };
/// What the issue asks for.
const GOALS: (f64, f64) = (5.0, 0.05);

const ASKED: &[u8] = br#"{"instances": [[1.0, 2.0, 3.0, 4.0]]}"#;
const ANSWER: &[u8] = br#"{"predictions": [0.5]}"#;

struct Measured {
    p50: Duration,
    p99: Duration,
    /// Calls that the predictor got beyond those of the callers, as a share of these.
    extra: f64,
}

#[tokio::main]
async fn main() -> ExitCode {
    if !env::args().any(|argument| argument == "--bench") {
        println!("run it with `cargo bench --bench hedging`");
        return ExitCode::SUCCESS;
    }
    match bench().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn bench() -> Result<()> {
    flowgate_server::install_crypto();
    let plain = measure(None).await?;
    let hedged = measure(Some(HEDGE)).await?;
    println!("{CALLS} calls, {AT_ONCE} at a time; the predictor takes {USUAL:?}, and {STALL:?} once in {STALLS} calls");
    println!("{:10} {:>10} {:>10} {:>12}", "hedge", "p50", "p99", "extra calls");
    for (name, Measured { p50, p99, extra }) in [("none", &plain), ("after p95", &hedged)] {
        let ms = |time: &Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
        println!("{name:10} {:>10} {:>10} {:>11.2}%", ms(p50), ms(p99), extra * 100.0);
    }
    let times = plain.p99.as_secs_f64() / hedged.p99.as_secs_f64();
    let met = if times >= GOALS.0 && hedged.extra <= GOALS.1 { "met" } else { "missed" };
    println!("p99 is {times:.1} times lower; the goal (at least {} times, at most {:.0} % more calls) is {met}", GOALS.0, GOALS.1 * 100.0);
    Ok(())
}

async fn measure(hedge: Option<Hedge>) -> Result<Measured> {
    let seen = Arc::new(AtomicU64::new(0));
    let predictor = predictor(Arc::clone(&seen)).await?;
    let shutdown = CancellationToken::new();
    let gateway = gateway(predictor, hedge, shutdown.clone()).await?;
    load(gateway, WARM_UP / AT_ONCE).await?;
    let before = seen.load(Relaxed);
    let mut latencies = load(gateway, CALLS / AT_ONCE).await?;
    let got = seen.load(Relaxed) - before;
    shutdown.cancel();
    latencies.sort_unstable();
    let at = |share: usize| latencies[latencies.len() * share / 100];
    Ok(Measured { p50: at(50), p99: at(99), extra: got as f64 / latencies.len() as f64 - 1.0 })
}

/// Some connections, each calling again as soon as it has its answer.
async fn load(gateway: SocketAddr, calls: u64) -> Result<Vec<Duration>> {
    let mut callers: JoinSet<Result<Vec<Duration>>> = JoinSet::new();
    for _ in 0..AT_ONCE {
        let stream = TcpStream::connect(gateway).await?;
        stream.set_nodelay(true)?;
        callers.spawn(async move {
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            let _connection = tokio::spawn(connection);
            let mut latencies = Vec::new();
            for _ in 0..calls {
                let since = Instant::now();
                call(&mut sender, gateway).await?;
                latencies.push(since.elapsed());
            }
            Ok(latencies)
        });
    }
    let mut all = Vec::new();
    while let Some(latencies) = callers.join_next().await {
        all.extend(latencies??);
    }
    Ok(all)
}

async fn call(sender: &mut SendRequest<Full<Bytes>>, gateway: SocketAddr) -> Result<()> {
    let request = Request::post("/invocations").header(header::HOST, gateway.to_string()).header(header::CONTENT_TYPE, "application/json");
    let answer = sender.send_request(request.body(Full::new(Bytes::from_static(ASKED)))?).await?;
    let body = answer.into_body().collect().await?.to_bytes();
    if body == ANSWER { Ok(()) } else { Err(format!("a wrong answer: {body:?}").into()) }
}

/// A gateway before the predictor.
async fn gateway(predictor: SocketAddr, hedge: Option<Hedge>, shutdown: CancellationToken) -> Result<SocketAddr> {
    let text = format!(
        "listen: 127.0.0.1:0\nadmin: {{ listen: 127.0.0.1:0 }}\nendpoints:\n  - name: iris\n    endpoint_type: mlflow/predict\n    \
         model: {{ provider: mlflow, url: \"http://{predictor}\" }}\n"
    );
    let loaded = config::parse(&[Source { name: "bench.yaml".to_owned(), text }], &Process, LoadOptions::default());
    let mut config = loaded.map_err(|diagnostics| diagnostics.to_string())?.config;
    config.endpoints[0].routing.hedge = hedge;
    let listeners = Listeners::bind(&config).await?;
    let address = listeners.data.local_addr()?;
    let gateway = Gateway::new(&config).await?;
    tokio::spawn(async move { gateway.serve(&config, listeners, shutdown).await });
    Ok(address)
}

/// A predictor that counts what it is asked.
async fn predictor(seen: Arc<AtomicU64>) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let seen = Arc::clone(&seen);
            let service = service_fn(move |request: Request<Incoming>| predict(request, seen.fetch_add(1, Relaxed)));
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    Ok(address)
}

async fn predict(request: Request<Incoming>, number: u64) -> Result<Response<Full<Bytes>>, Infallible> {
    let _body = request.into_body().collect().await;
    sleep(if stalls(number) { STALL } else { USUAL }).await;
    let mut response = Response::new(Full::new(Bytes::from_static(ANSWER)));
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    Ok(response)
}

/// Exactly one of each hundred, at a place that looks like chance.
fn stalls(number: u64) -> bool {
    let (block, place) = (number / STALLS, number % STALLS);
    place == (block.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) % STALLS
}
