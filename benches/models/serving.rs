//! One forest, served in every way: by `mlflow models serve` itself, through Flowgate before it, by Python that Flowgate starts, and
//! natively. First answer, latency, throughput and memory, every answer checked.

use std::{
    env,
    fmt::{self, Display, Formatter},
    fs,
    net::SocketAddr,
    process::{Command, Stdio},
    sync::mpsc::Receiver,
    time::Duration,
};

use bytes::Bytes;
use flowgate_server::{
    config,
    mlflow::{
        model_file::ModelFile,
        onnx::Library,
        scoring::{Beyond, Native, Stop, Written},
    },
};
use http::{Request, header};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    ground::Ground,
    shared::{
        Result, count,
        http::{Driver, Sender, exchange, open},
        load::{self, Load, Measured},
        median, micros, percentile,
        process::{Process, flowgate, free_ports, local, pause},
    },
};

/// Latency is read at one connection, throughput at many.
const CONNECTIONS: [usize; 2] = [1, 64];
/// Each measurement is split in rounds over all ways, so that a disturbance of the machine meets all of them.
const ROUNDS: usize = 3;
const ROUND: Duration = Duration::from_millis(1500);
/// How long a server may take to its first answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Calls in this process, without any server.
const CALLS: usize = 20_000;
/// What is claimed: the p99 of a native answer, and what batching does to the throughput of the same scoring server.
const P99_GOAL: Duration = Duration::from_millis(1);
const BATCHING_GOAL: f64 = 10.0;

/// Who answers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Direct,
    Passed,
    Batched,
    Python,
    PythonBatched,
    Native,
}

impl Way {
    const ALL: [Self; 6] = [Self::Direct, Self::Passed, Self::Batched, Self::Python, Self::PythonBatched, Self::Native];

    fn name(self) -> &'static str {
        match self {
            Self::Direct => "mlflow models serve",
            Self::Passed => "flowgate before it",
            Self::Batched => "flowgate before it, batching",
            Self::Python => "flowgate, runtime python",
            Self::PythonBatched => "the same, batching",
            Self::Native => "flowgate, runtime native",
        }
    }

    /// The endpoint's model, and whether it batches.
    fn endpoint(self, ground: &Ground, direct: u16) -> String {
        let folder = |name| ground.forests().join(name).display().to_string();
        let model = match self {
            Self::Direct | Self::Passed | Self::Batched => format!("url: \"http://127.0.0.1:{direct}\""),
            Self::Python | Self::PythonBatched => format!("uri: \"{}\", runtime: python", folder("python")),
            Self::Native => format!("uri: \"{}\", runtime: native", folder("native")),
        };
        let batches = matches!(self, Self::Batched | Self::PythonBatched);
        let batch = if batches { "batch: { max_rows: 64, max_delay: 20ms }, " } else { "" };
        format!("{{ name: forest, endpoint_type: mlflow/predict, {batch}model: {{ provider: mlflow, {model} }} }}")
    }
}

/// A way, served and measured so far.
struct Served {
    way: Way,
    process: Process,
    address: SocketAddr,
    /// What is asked, and the answer to the byte.
    body: Bytes,
    answer: Bytes,
    first: Duration,
    /// Per number of connections, the rounds.
    rounds: [Vec<Measured>; 2],
    memory: u64,
}

/// One way's numbers.
struct Row {
    way: Way,
    first: Duration,
    p50: Duration,
    p99: Duration,
    alone: f64,
    many_p99: Duration,
    many: f64,
    cpu: Option<f64>,
    memory: u64,
}

/// All of them.
pub struct Report {
    rows: Vec<Row>,
    inside: (Duration, Duration),
}

/// A connection that asks for one row.
struct Link {
    sender: Sender,
    _driver: Driver,
    address: SocketAddr,
    body: Bytes,
    answer: Bytes,
}

impl load::Link for Link {
    async fn call(&mut self) -> Result<Option<Duration>> {
        let request = ask(self.address, &self.body)?;
        exchange(&mut self.sender, request, &self.answer, usize::MAX).await
    }
}

fn ask(address: SocketAddr, body: &Bytes) -> Result<Request<Full<Bytes>>> {
    let request = Request::post("/invocations").header(header::HOST, address.to_string()).header(header::CONTENT_TYPE, "application/json");
    Ok(request.body(Full::new(body.clone()))?)
}

/// Starts and measures all.
pub fn measure(ground: &Ground, told: &Receiver<()>) -> Result<Report> {
    let body = body(ground)?;
    let (inside, label) = inside(ground, &body)?;
    let [direct] = free_ports::<1>()?;
    let mut all = Vec::new();
    for way in Way::ALL {
        all.push(Served::start(way, ground, direct, &body, label)?);
    }
    for round in 0..ROUNDS {
        for (at, connections) in CONNECTIONS.into_iter().enumerate() {
            all.rotate_left(usize::from(round > 0 && at == 0));
            for served in &mut all {
                if told.try_recv().is_ok() {
                    return Err("told to end".into());
                }
                let way = served.way.name();
                served.round(at, connections).map_err(|error| format!("{way}: {error}"))?;
            }
        }
    }
    all.sort_by_key(|served| served.way as u8);
    let rows = all.iter().map(Served::row).collect::<Result<_>>()?;
    Ok(Report { rows, inside })
}

/// One row, in a form that every server takes.
fn body(ground: &Ground) -> Result<Bytes> {
    let rows: Vec<Value> = serde_json::from_slice(&fs::read(ground.forests().join("iris/rows.json"))?)?;
    Ok(json!({ "inputs": rows.get(..1) }).to_string().into())
}

/// The native runtime without sockets: a body in, a body out. Its p50 and p99, and the class that all others are to answer too.
fn inside(ground: &Ground, body: &[u8]) -> Result<((Duration, Duration), i64)> {
    let folder = ground.forests().join("native");
    let others = Beyond { library: &Library::find(None, &config::Process), threads: None };
    let native = Native::load(&folder, &ModelFile::read(&fs::read(folder.join(ModelFile::NAME))?)?, others)?;
    let mut times = Vec::with_capacity(CALLS);
    let mut last = Bytes::new();
    for _ in 0..CALLS {
        let started = Instant::now();
        let scored = native.answer(Written::As(Some("application/json")), body, &Stop::default());
        times.push(started.elapsed());
        last = scored.body;
    }
    times.sort_unstable();
    let both = percentile(&times, 50).zip(percentile(&times, 99)).ok_or("nothing was measured")?;
    let label = label(&last).ok_or_else(|| format!("no class in {}", String::from_utf8_lossy(&last)))?;
    Ok((both, label))
}

/// The class in an answer: alone, or beside the probabilities under the name that the export gives it.
fn label(answer: &[u8]) -> Option<i64> {
    let answer: Value = serde_json::from_slice(answer).ok()?;
    let predictions = &answer["predictions"];
    predictions.get(0).or_else(|| predictions["label"].get(0))?.as_i64()
}

impl Served {
    /// Starts it and waits for its first answer, which must be the right one.
    fn start(way: Way, ground: &Ground, direct: u16, body: &Bytes, label: i64) -> Result<Self> {
        let started = Instant::now();
        let (process, port) = match way {
            Way::Direct => (mlflow(ground, direct)?, direct),
            _ => {
                let [port, admin] = free_ports::<2>()?;
                let (endpoint, folder) = (way.endpoint(ground, direct), ground.folder().display());
                let config = format!(
                    "listen: 127.0.0.1:{port}\nadmin: {{ listen: \"127.0.0.1:{admin}\" }}\ntelemetry: {{ log: json }}\n\
                     mlflow: {{ python: \"{}\", cache: {{ folder: \"{folder}/cache-{}\" }} }}\nendpoints:\n  - {endpoint}\n",
                    Ground::program("python").display(),
                    way as u8,
                );
                (flowgate(ground.folder(), &format!("flowgate-{}", way as u8), &config, port)?, port)
            }
        };
        let address = local(port);
        let answer = first_answer(address, body, started).map_err(|error| format!("{}: {error}", way.name()))?;
        let first = started.elapsed();
        if self::label(&answer) != Some(label) {
            return Err(format!("{}: another class than {label}: {}", way.name(), String::from_utf8_lossy(&answer)).into());
        }
        Ok(Self { way, process, address, body: body.clone(), answer, first, rounds: [Vec::new(), Vec::new()], memory: 0 })
    }

    fn round(&mut self, at: usize, connections: usize) -> Result<()> {
        let open = || async {
            let (sender, driver) = open(self.address).await?;
            Ok(Link { sender, _driver: driver, address: self.address, body: self.body.clone(), answer: self.answer.clone() })
        };
        let load = Load { connections, length: ROUND, open };
        let measured = load.run(|| self.process.cpu().map(Some))?;
        self.rounds[at].push(measured);
        self.memory = self.memory.max(self.process.census()?.memory);
        Ok(())
    }

    fn row(&self) -> Result<Row> {
        let [alone, many] = &self.rounds;
        let sorted = |rounds: &[Measured]| {
            let mut all: Vec<Duration> = rounds.iter().flat_map(|round| &round.latencies).copied().collect();
            all.sort_unstable();
            all
        };
        let rate = |rounds: &[Measured]| {
            let calls = rounds.iter().map(|round| count(round.latencies.len())).sum::<f64>();
            calls / rounds.iter().map(|round| round.elapsed).sum::<Duration>().as_secs_f64()
        };
        let cpu = median(many.iter().filter_map(|round| Some(micros(round.cpu?) / count(round.latencies.len()))).collect());
        let (one, all) = (sorted(alone), sorted(many));
        let at = |sorted: &[Duration], percent| percentile(sorted, percent).ok_or("no call was answered in time");
        Ok(Row {
            way: self.way,
            first: self.first,
            p50: at(&one, 50)?,
            p99: at(&one, 99)?,
            alone: rate(alone),
            many_p99: at(&all, 99)?,
            many: rate(many),
            cpu,
            memory: self.memory,
        })
    }
}

/// MLflow's own server, as its documentation starts it.
fn mlflow(ground: &Ground, port: u16) -> Result<Process> {
    let log = fs::File::create(ground.folder().join("mlflow.log"))?;
    let programs = Ground::program("");
    let path = env::var("PATH").map(|path| format!("{}:{path}", programs.display()))?;
    let mut command = Command::new(programs.join("mlflow"));
    command.args(["models", "serve", "--env-manager", "local", "--port", &port.to_string(), "--model-uri"]);
    command.arg(ground.forests().join("python")).env("PATH", path).env("MLFLOW_DISABLE_TELEMETRY", "true");
    Process::start(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log))
}

/// Asks until there is an answer.
fn first_answer(address: SocketAddr, body: &Bytes, started: Instant) -> Result<Bytes> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    loop {
        let asked: Result<_> = runtime.block_on(async {
            let (mut sender, _driver) = open(address).await?;
            let (head, body) = sender.send_request(ask(address, body)?).await?.into_parts();
            Ok((head.status, body.collect().await?.to_bytes()))
        });
        match asked {
            Ok((status, body)) if status.is_success() => return Ok(body),
            Ok((status, body)) => return Err(format!("{status}: {}", String::from_utf8_lossy(&body)).into()),
            Err(error) if started.elapsed() > PATIENCE => return Err(format!("no answer within {PATIENCE:?}: {error}").into()),
            Err(_) => pause(),
        }
    }
}

impl Report {
    fn rate(&self, way: Way) -> f64 {
        self.rows.iter().find(|row| row.way == way).map_or(0.0, |row| row.many)
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        writeln!(
            f,
            "\nA forest of 100 trees on irises, one row per call; {ROUNDS} rounds of {ROUND:?}. Times in ms, cpu in µs per call at 64"
        )?;
        writeln!(f, "{:30} {:>9} | {:>8} {:>8} {:>8} | {:>8} {:>8} {:>8} | {:>8}", "", "", "1 conn.", "", "", "64", "", "", "memory")?;
        writeln!(
            f,
            "{:30} {:>9} | {:>8} {:>8} {:>8} | {:>8} {:>8} {:>8} | {:>8}",
            "", "first", "p50", "p99", "calls/s", "p99", "calls/s", "cpu", "MiB"
        )?;
        for row in &self.rows {
            let (first, p50, p99, many_p99) = (ms(row.first), ms(row.p50), ms(row.p99), ms(row.many_p99));
            let (name, alone, many, cpu, memory) = (row.way.name(), row.alone, row.many, row.cpu.unwrap_or(0.0), row.memory / 1024);
            writeln!(
                f,
                "{name:30} {first:>9.0} | {p50:>8.3} {p99:>8.3} {alone:>8.0} | {many_p99:>8.2} {many:>8.0} {cpu:>8.0} | {memory:>8}"
            )?;
        }
        let (p50, p99) = self.inside;
        let verdict = if p99 < P99_GOAL { "met" } else { "MISSED" };
        writeln!(
            f,
            "Native in process, body to body: p50 {:.4} ms, p99 {:.4} ms; goal p99 under {P99_GOAL:?} {verdict}",
            ms(p50),
            ms(p99)
        )?;
        let times = self.rate(Way::Batched) / self.rate(Way::Direct);
        let verdict = if times >= BATCHING_GOAL { "met" } else { "MISSED" };
        writeln!(f, "Batching before the same server, to direct calls at 64: {times:.1}×; goal {BATCHING_GOAL} {verdict}")
    }
}
