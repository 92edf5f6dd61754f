//! Flowgate beside nginx and beside a direct call, in one run: latency, throughput, CPU and memory, every answer checked. See README.md.

use std::{
    env,
    error::Error,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use calls::Scenario;
use load::{Load, Measured};
use peers::{Peer, Peers};
use report::{Cell, Memory, Report};
use sample::Sample;
use tokio::signal::unix::{SignalKind, signal};

mod calls;
mod load;
mod peers;
mod report;
mod sample;
mod upstream;

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// How many connections call at a time: latency is read at one, throughput at many.
const CONNECTIONS: [usize; 2] = [1, 64];
/// Each measurement is split, and the peers take turns, so that a disturbance of the machine meets all of them.
const ROUNDS: u32 = 3;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let done = if arguments == ["upstream"] {
        upstream::main().map(|()| true)
    } else if arguments.iter().any(|argument| argument == "--bench") {
        bench(arguments.iter().find(|argument| !argument.starts_with('-')).map_or("", String::as_str))
    } else {
        println!("run it with `make bench`, or `cargo bench --bench gateway`");
        return ExitCode::SUCCESS;
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures the tasks whose names hold `filter`. Whether every answer was right.
fn bench(filter: &str) -> Result<bool> {
    let seconds: f64 = env::var("BENCH_SECONDS").map_or(Ok(3.0), |seconds| seconds.parse())?;
    let length = Duration::try_from_secs_f64(seconds)?;
    let scenarios: Vec<Scenario> = Scenario::ALL.into_iter().filter(|scenario| scenario.name().contains(filter)).collect();
    let report = measuring(Peers::start()?, scenarios, length)?;
    print!("{report}");
    report.save()?;
    Ok(report.is_right())
}

/// Measures on a thread of its own, and gives up after the round if this process is told to end: what it started is to end too.
fn measuring(peers: Peers, scenarios: Vec<Scenario>, length: Duration) -> Result<Report> {
    static TOLD: AtomicBool = AtomicBool::new(false);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut measuring = tokio::task::spawn_blocking(move || measure(&peers, scenarios, length, &TOLD));
        tokio::select! {
            report = &mut measuring => return report?,
            _ = terminate.recv() => TOLD.store(true, Ordering::Relaxed),
            _ = interrupt.recv() => TOLD.store(true, Ordering::Relaxed),
        }
        measuring.await?
    })
}

fn measure(peers: &Peers, scenarios: Vec<Scenario>, length: Duration, told_to_end: &AtomicBool) -> Result<Report> {
    let sample = Arc::new(Sample::new());
    let mut memory = Memory { idle: peers.memory()?, loaded: 0, after: 0 };
    let mut cells = Vec::new();
    for &scenario in &scenarios {
        for connections in CONNECTIONS {
            eprintln!("{} on {connections} connections …", scenario.name());
            let load = |peer| Load {
                scenario,
                address: peers.address(peer, scenario),
                connections,
                length: length / ROUNDS,
                sample: Arc::clone(&sample),
            };
            let measured = in_turns(|peer| {
                if told_to_end.load(Ordering::Relaxed) {
                    return Err("told to end".into());
                }
                let measured = load::run(&load(peer), || peers.cpu(peer))?;
                memory.loaded = memory.loaded.max(peers.memory()?);
                Ok(measured)
            });
            if told_to_end.load(Ordering::Relaxed) {
                return Err("told to end".into());
            }
            cells.extend(measured.map(|(peer, measured)| Cell::new(scenario, peer, connections, measured)));
        }
    }
    #[expect(clippy::disallowed_methods, reason = "nothing else runs: memory is to settle")]
    std::thread::sleep(length);
    memory.after = peers.memory()?;
    Ok(Report { scenarios, cells, memory, length })
}

/// Measures each peer `ROUNDS` times, each round beginning with another one. A failed peer is not asked again.
fn in_turns(mut measure: impl FnMut(Peer) -> Result<Measured>) -> [(Peer, Result<Measured>); 3] {
    let mut all = Peer::ALL.map(|peer| (peer, Ok(Measured::default())));
    for round in 0..ROUNDS as usize {
        for turn in 0..all.len() {
            let (peer, so_far) = &mut all[(round + turn) % Peer::ALL.len()];
            if let Ok(sum) = so_far {
                match measure(*peer) {
                    Ok(measured) => sum.add(measured),
                    Err(error) => *so_far = Err(error),
                }
            }
        }
    }
    all
}
