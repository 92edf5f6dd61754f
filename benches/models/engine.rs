//! The native engine beside ONNX Runtime, on forests of a hundred trees: what one call takes, without any protocol around it.

use std::{
    fmt::{self, Display, Formatter},
    fs,
    hint::black_box,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{ChildStdin, ChildStdout, Stdio},
    sync::mpsc::Receiver,
    time::Duration,
};

use flowgate_server::mlflow::native::{Model, Stop, Tensor, Value, Values};
use serde::Deserialize;
use tokio::time::Instant;

use crate::{
    ground::Ground,
    shared::{Result, process::Process},
};

const FORESTS: [&str; 3] = ["iris", "deep", "regressor"];
const ROWS: [usize; 2] = [1, 1000];
/// The model that does nothing.
const EMPTY: &str = "empty";
/// How often each is measured, in turns, and for how long; the best round counts, since all that disturbs makes slower.
const ROUNDS: usize = 12;
const ROUND: Duration = Duration::from_millis(80);
/// How far answers may be apart.
const NEAR: f64 = 1e-5;

/// What calls took, in nanoseconds.
pub struct Report(Vec<Row>);

struct Row {
    forest: &'static str,
    rows: usize,
    ours: f64,
    bound: f64,
    plain: f64,
    /// A call of ONNX Runtime for as many rows that computes nothing.
    empty: f64,
}

/// ONNX Runtime, in a process of Python that measures when it is told to.
struct Reference {
    _process: Process,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// A round of it.
#[derive(Deserialize)]
struct Told {
    bound: f64,
    plain: f64,
    outputs: Vec<Vec<f64>>,
}

/// One of our models, and what it is asked.
struct Ours {
    model: Model,
    name: String,
    rows: Tensor,
}

/// Measures all, in turns.
pub fn measure(ground: &Ground, told: &Receiver<()>) -> Result<Report> {
    let mut reference = Reference::start(ground)?;
    let mut report = Vec::new();
    for rows in ROWS {
        let mut empty = f64::INFINITY;
        for _ in 0..ROUNDS {
            empty = empty.min(reference.round(EMPTY, rows)?.bound);
        }
        for forest in FORESTS {
            let ours = Ours::load(&ground.forests().join(forest), rows)?;
            let mut row = Row { forest, rows, ours: f64::INFINITY, bound: f64::INFINITY, plain: f64::INFINITY, empty };
            for round in 0..ROUNDS {
                if told.try_recv().is_ok() {
                    return Err("told to end".into());
                }
                let told = reference.round(forest, rows)?;
                if round == 0 {
                    ours.check(&told.outputs).map_err(|error| format!("{forest}, {rows} rows: {error}"))?;
                }
                row.bound = row.bound.min(told.bound);
                row.plain = row.plain.min(told.plain);
                row.ours = row.ours.min(ours.round()?);
            }
            report.push(row);
        }
    }
    Ok(Report(report))
}

impl Reference {
    fn start(ground: &Ground) -> Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/models/reference.py");
        let mut command = ground.python(&script)?;
        let mut process = Process::start(command.arg(ground.forests()).stdin(Stdio::piped()).stdout(Stdio::piped()))?;
        let (ask, answers) = (process.child.stdin.take(), process.child.stdout.take());
        let (ask, answers) = ask.zip(answers).ok_or("the reference has no pipes")?;
        Ok(Self { _process: process, ask, answers: BufReader::new(answers) })
    }

    fn round(&mut self, name: &str, rows: usize) -> Result<Told> {
        writeln!(self.ask, "{name} {rows} {}", ROUND.as_millis())?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(serde_json::from_str(&line).map_err(|error| format!("the reference has ended: {error}"))?)
    }
}

impl Ours {
    fn load(folder: &Path, count: usize) -> Result<Self> {
        let model = Model::load(&fs::read(folder.join("model.onnx"))?)?;
        let rows: Vec<Vec<f32>> = serde_json::from_slice(&fs::read(folder.join("rows.json"))?)?;
        let rows = rows.get(..count).ok_or("too few rows")?;
        let shape = vec![count, rows.first().map_or(0, Vec::len)];
        let name = model.inputs().first().ok_or("the model has no input")?.name.clone();
        Ok(Self { model, name, rows: Tensor::new(shape, Values::F32(rows.concat()))? })
    }

    /// The input is copied for each call, as whoever reads a request makes one.
    fn call(&self) -> Result<Vec<Value>> {
        Ok(self.model.run(vec![(&self.name, self.rows.clone())], &Stop::default())?)
    }

    fn round(&self) -> Result<f64> {
        let (started, mut calls) = (Instant::now(), 0_u32);
        while started.elapsed() < ROUND {
            for _ in 0..10 {
                black_box(self.call()?);
            }
            calls += 10;
        }
        Ok(started.elapsed().as_secs_f64() * 1e9 / f64::from(calls))
    }

    fn check(&self, expected: &[Vec<f64>]) -> Result<()> {
        let found = self.call()?.into_iter().map(numbers).collect::<Result<Vec<_>>>()?;
        let is_near = |(a, b): (&f64, &f64)| (a - b).abs() <= NEAR * b.abs().max(1.0);
        let is_same = |(a, b): (&Vec<f64>, &Vec<f64>)| a.len() == b.len() && a.iter().zip(b).all(is_near);
        if found.len() == expected.len() && found.iter().zip(expected).all(is_same) {
            return Ok(());
        }
        Err("another answer than ONNX Runtime's".into())
    }
}

fn numbers(value: Value) -> Result<Vec<f64>> {
    match value {
        Value::Tensor(tensor) => match tensor.into_contents() {
            Values::F32(values) => Ok(values.into_iter().map(f64::from).collect()),
            #[expect(clippy::cast_precision_loss, reason = "labels are small")]
            Values::I64(values) => Ok(values.into_iter().map(|value| value as f64).collect()),
            other => Err(format!("an answer of {other:?}").into()),
        },
        other => Err(format!("an answer of {other:?}").into()),
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nThe native engine beside ONNX Runtime: 100 trees, one thread, µs per call, best of {ROUNDS} rounds")?;
        writeln!(
            f,
            "{:10} {:>6} {:>10} {:>10} {:>10} {:>10} {:>10}",
            "forest", "rows", "ours", "ORT", "ORT empty", "ORT run()", "ours:ORT"
        )?;
        for Row { forest, rows, ours, bound, plain, empty } in &self.0 {
            let ratio = ours / bound;
            let verdict = if ratio <= 1.0 { "met" } else { "MISSED" };
            let [ours, bound, empty, plain] = [ours, bound, empty, plain].map(|nanos| nanos / 1e3);
            writeln!(f, "{forest:10} {rows:>6} {ours:>10.2} {bound:>10.2} {empty:>10.2} {plain:>10.2} {ratio:>9.2}×  goal 1 {verdict}")?;
        }
        Ok(())
    }
}
