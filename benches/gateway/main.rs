//! Flowgate beside nginx and beside a direct call, in one run: latency, throughput, CPU and memory, every answer checked. See README.md.

use std::{
    env,
    process::ExitCode,
    sync::{Arc, mpsc::Receiver},
    time::Duration,
};

use calls::{Link, Scenario};
use peers::{Peer, Peers};
use report::{Cell, Memory, Report};
use sample::Sample;
use shared::{Result, load::Load, until_told_to_end};

mod calls;
mod peers;
mod report;
mod sample;
#[path = "../shared/mod.rs"]
mod shared;
mod upstream;

/// How many connections call at a time: latency is read at one, throughput at many.
const CONNECTIONS: [usize; 2] = [1, 64];
/// Each measurement is split into rounds over all tasks and peers, so that a disturbance of the machine meets all of them.
const ROUNDS: u32 = 5;

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
    let seconds: f64 = env::var("BENCH_SECONDS").map_or(Ok(5.0), |seconds| seconds.parse())?;
    let length = Duration::try_from_secs_f64(seconds)?;
    let scenarios: Vec<Scenario> = Scenario::ALL.into_iter().filter(|scenario| scenario.name().contains(filter)).collect();
    let peers = Peers::start()?;
    let report = until_told_to_end(move |told| measure(&peers, scenarios, length, told))?;
    print!("{report}");
    report.save()?;
    Ok(report.is_right())
}

fn measure(peers: &Peers, scenarios: Vec<Scenario>, length: Duration, told_to_end: &Receiver<()>) -> Result<Report> {
    let sample = Arc::new(Sample::new());
    let mut memory = Memory { idle: peers.memory()?, loaded: 0, after: 0 };
    let of = |scenario| CONNECTIONS.into_iter().flat_map(move |connections| Peer::ALL.map(|peer| Cell::new(scenario, peer, connections)));
    let mut cells: Vec<Cell> = scenarios.iter().copied().flat_map(of).collect();
    for round in 0..ROUNDS {
        eprintln!("round {} of {ROUNDS} …", round + 1);
        for cell in in_turn(&mut cells, round as usize) {
            if told_to_end.try_recv().is_ok() {
                return Err("told to end".into());
            }
            let (scenario, address) = (cell.scenario, peers.address(cell.peer, cell.scenario));
            let open = || Link::open(scenario, address, Arc::clone(&sample));
            let load = Load { connections: cell.connections, length: length / ROUNDS, open };
            cell.add(load.run(|| peers.cpu(cell.peer)));
            memory.loaded = memory.loaded.max(peers.memory()?);
        }
    }
    // Memory settles while nothing else runs.
    if told_to_end.recv_timeout(length).is_ok() {
        return Err("told to end".into());
    }
    memory.after = peers.memory()?;
    Ok(Report { scenarios, cells, memory, length })
}

/// What is still to be measured, the peers of each task in an order that begins with another one each round. A failed peer is
/// not asked again.
fn in_turn(cells: &mut [Cell], round: usize) -> impl Iterator<Item = &mut Cell> {
    let rotated = cells.chunks_mut(Peer::ALL.len()).flat_map(move |peers| {
        peers.rotate_left(usize::from(round > 0));
        peers
    });
    rotated.filter(|cell| cell.failure().is_none())
}
