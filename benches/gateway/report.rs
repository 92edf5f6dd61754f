//! The report: a table, the ratios that the goals are about, and all numbers as JSON.

use std::{
    fmt::{self, Display, Formatter},
    fs,
    path::Path,
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    CONNECTIONS, ROUNDS,
    calls::Scenario,
    peers::{NGINX_WORKERS, Peer},
    sample::{COLUMNS, PIECES, ROWS},
    shared::{Result, count, load::Measured, median, micros, percentile},
};

/// Goals of CPU per call, as multiples of nginx proxying the same upstream over HTTP.
const BYTE_LANE_GOAL: f64 = 2.0;
const TYPED_GOAL: f64 = 3.0;

/// All that was measured.
pub struct Report {
    pub scenarios: Vec<Scenario>,
    pub cells: Vec<Cell>,
    pub memory: Memory,
    pub length: Duration,
}

/// Flowgate's resident memory, in KiB: before the load, the most that was seen after a measurement, and at rest again.
pub struct Memory {
    pub idle: u64,
    pub loaded: u64,
    pub after: u64,
}

/// One scenario, one peer, one number of connections.
pub struct Cell {
    pub scenario: Scenario,
    pub peer: Peer,
    pub connections: usize,
    rounds: Result<Vec<Measured>, String>,
}

/// Times in microseconds.
#[derive(Clone, Copy)]
struct Numbers {
    calls: usize,
    per_second: f64,
    p50: f64,
    p99: f64,
    /// Until the first content of a stream.
    first_p50: Option<f64>,
    first_p99: Option<f64>,
    cpu: Option<f64>,
}

impl Cell {
    /// Not yet measured.
    pub fn new(scenario: Scenario, peer: Peer, connections: usize) -> Self {
        Self { scenario, peer, connections, rounds: Ok(Vec::new()) }
    }

    /// Adds a round; the first failure stays.
    pub fn add(&mut self, measured: Result<Measured>) {
        match (&mut self.rounds, measured) {
            (Ok(rounds), Ok(measured)) => rounds.push(measured),
            (rounds @ Ok(_), Err(error)) => *rounds = Err(error.to_string()),
            (Err(_), _) => {}
        }
    }

    /// Why it could not be measured.
    pub fn failure(&self) -> Option<&str> {
        self.rounds.as_ref().err().map(String::as_str)
    }

    fn numbers(&self) -> Result<Numbers, String> {
        Numbers::new(self.rounds.as_ref().map_err(Clone::clone)?)
    }
}

impl Numbers {
    fn new(rounds: &[Measured]) -> Result<Self, String> {
        let sorted = |of: fn(&Measured) -> &Vec<Duration>| {
            let mut all: Vec<Duration> = rounds.iter().flat_map(of).copied().collect();
            all.sort_unstable();
            all
        };
        let (latencies, firsts) = (sorted(|round| &round.latencies), sorted(|round| &round.firsts));
        let percentile = |sorted: &[Duration], percent| percentile(sorted, percent).map(micros);
        let calls = latencies.len();
        Ok(Self {
            calls,
            per_second: count(calls) / rounds.iter().map(|round| round.elapsed).sum::<Duration>().as_secs_f64(),
            p50: percentile(&latencies, 50).ok_or("no call was answered in time")?,
            p99: percentile(&latencies, 99).ok_or("no call was answered in time")?,
            first_p50: percentile(&firsts, 50),
            first_p99: percentile(&firsts, 99),
            cpu: median(rounds.iter().filter_map(|round| Some(micros(round.cpu?) / count(round.latencies.len()))).collect()),
        })
    }
}

impl Report {
    pub fn is_right(&self) -> bool {
        self.cells.iter().all(|cell| cell.numbers().is_ok())
    }

    fn numbers(&self, scenario: Scenario, peer: Peer, connections: usize) -> Option<Numbers> {
        let is_it = |cell: &&Cell| cell.scenario == scenario && cell.peer == peer && cell.connections == connections;
        self.cells.iter().find(is_it)?.numbers().ok()
    }

    /// Beside a direct call in the protocol that this peer speaks to the upstream: Flowgate's typed calls become HTTP.
    fn direct(&self, cell: &Cell) -> Option<Numbers> {
        let scenario = if cell.peer == Peer::Flowgate { cell.scenario.http() } else { cell.scenario };
        self.numbers(scenario, Peer::Direct, cell.connections)
    }

    /// Flowgate's CPU per call, as a multiple of nginx's for `other`.
    fn ratio(&self, scenario: Scenario, other: Scenario, connections: usize) -> Option<f64> {
        let ours = self.numbers(scenario, Peer::Flowgate, connections)?.cpu?;
        Some(ours / self.numbers(other, Peer::Nginx, connections)?.cpu?)
    }

    fn ratios(&self) -> impl Iterator<Item = Ratio> {
        self.scenarios.iter().map(|&scenario| {
            let of = |other| CONNECTIONS.map(|connections| self.ratio(scenario, other, connections));
            let goal = if scenario.is_grpc() { TYPED_GOAL } else { BYTE_LANE_GOAL };
            Ratio { scenario, goal, to_http: of(scenario.http()), to_grpc: scenario.is_grpc().then(|| of(scenario)) }
        })
    }

    /// Writes `target/bench.json`.
    pub fn save(&self) -> Result<()> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench.json");
        fs::write(&path, format!("{:#}\n", self.to_json()))?;
        println!("All numbers: {}", path.display());
        Ok(())
    }

    fn to_json(&self) -> Value {
        let cell = |cell: &Cell| {
            let mut value = json!({"scenario": cell.scenario.name(), "peer": cell.peer.name(), "connections": cell.connections});
            match cell.numbers() {
                Err(error) => value["error"] = json!(error),
                Ok(numbers) => {
                    value["calls"] = json!(numbers.calls);
                    value["calls_per_second"] = json!(numbers.per_second);
                    value["latency_us"] = json!({"p50": numbers.p50, "p99": numbers.p99});
                    value["first_event_us"] = json!({"p50": numbers.first_p50, "p99": numbers.first_p99});
                    value["cpu_us_per_call"] = json!(numbers.cpu);
                    let direct = self.direct(cell);
                    value["added_us"] = json!({
                        "p50": direct.map(|direct| numbers.p50 - direct.p50),
                        "p99": direct.map(|direct| numbers.p99 - direct.p99),
                        "first_p50": direct.and_then(|direct| Some(numbers.first_p50? - direct.first_p50?)),
                    });
                }
            }
            value
        };
        let ratio = |ratio: Ratio| {
            json!({
                "scenario": ratio.scenario.name(), "connections": CONNECTIONS, "goal": ratio.goal,
                "cpu_to_nginx_http": ratio.to_http, "cpu_to_nginx_grpc": ratio.to_grpc,
            })
        };
        json!({
            "seconds": self.length.as_secs_f64(),
            "cores": cores(),
            "nginx_workers": NGINX_WORKERS,
            "cells": self.cells.iter().map(cell).collect::<Vec<_>>(),
            "ratios": self.ratios().map(ratio).collect::<Vec<_>>(),
            "flowgate_rss_kib": {"idle": self.memory.idle, "loaded": self.memory.loaded, "after": self.memory.after},
        })
    }
}

/// One scenario's multiples of nginx's CPU per call, at each number of connections.
struct Ratio {
    scenario: Scenario,
    goal: f64,
    to_http: [Option<f64>; 2],
    to_grpc: Option<[Option<f64>; 2]>,
}

fn cores() -> usize {
    thread::available_parallelism().map_or(0, Into::into)
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{} cores for load, upstream and peer together; nginx with {NGINX_WORKERS} workers; {:.1} s per measurement in {ROUNDS} rounds.\n\
             A stream has {PIECES} pieces, a prediction {ROWS} rows of {}. Times in µs, cpu is the peer's per call, median of the rounds.\n",
            cores(),
            self.length.as_secs_f64(),
            COLUMNS.len(),
        )?;
        self.table(f)?;
        self.goals(f)?;
        let Memory { idle, loaded, after } = self.memory;
        writeln!(f, "\nFlowgate's resident memory: {idle} KiB idle, {loaded} KiB loaded, {after} KiB after.")
    }
}

impl Report {
    fn table(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let half = format!("{:>9} {:>8} {:>8} {:>8} {:>8} {:>8}", "calls/s", "p50", "p99", "added", "first", "cpu");
        writeln!(f, "{:27} | {:^54} | {:^54}", "", "1 connection", "64 connections")?;
        writeln!(f, "{:17} {:9} | {half} | {half}", "", "")?;
        for &scenario in &self.scenarios {
            for peer in Peer::ALL {
                write!(f, "{:17} {:9}", scenario.name(), peer.name())?;
                for cell in self.cells.iter().filter(|cell| cell.scenario == scenario && cell.peer == peer) {
                    match cell.numbers() {
                        Err(error) => write!(f, " | FAILED: {}", error.chars().take(300).collect::<String>())?,
                        Ok(numbers) => {
                            let added = self.direct(cell).map(|direct| numbers.p50 - direct.p50).filter(|_| peer != Peer::Direct);
                            let Numbers { per_second, p50, p99, first_p50, cpu, .. } = numbers;
                            write!(
                                f,
                                " | {per_second:>9.0} {p50:>8.0} {p99:>8.0} {} {} {}",
                                Micros(added),
                                Micros(first_p50),
                                Micros(cpu)
                            )?;
                        }
                    }
                }
                writeln!(f)?;
            }
        }
        Ok(())
    }

    fn goals(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nCPU per call, Flowgate : nginx{:24} {:>8} {:>8}", "", CONNECTIONS[0], CONNECTIONS[1])?;
        for Ratio { scenario, goal, to_http: [one, many], to_grpc } in self.ratios() {
            let verdict = many.map_or("not measured", |many| if many <= goal { "met" } else { "MISSED" });
            let beside = format!("{} : nginx {}", scenario.name(), scenario.http().name());
            writeln!(f, "  {beside:51} {} {}   goal {goal:.1} {verdict}", Times(one), Times(many))?;
            if let Some([one, many]) = to_grpc {
                let beside = format!("{} : nginx passing gRPC on", scenario.name());
                writeln!(f, "  {beside:51} {} {}", Times(one), Times(many))?;
            }
        }
        Ok(())
    }
}

/// A column of a number that may be missing.
struct Micros(Option<f64>);
struct Times(Option<f64>);

impl Display for Micros {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(micros) => write!(f, "{micros:>8.1}"),
            None => write!(f, "{:>8}", "–"),
        }
    }
}

impl Display for Times {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(times) => write!(f, "{times:>7.2}×"),
            None => write!(f, "{:>8}", "–"),
        }
    }
}
