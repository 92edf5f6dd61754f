//! What is claimed of models, measured: how they are served, how fast the native engine is, and that many come and go. See README.md.

use std::{env, fmt::Display, process::ExitCode, sync::mpsc::Receiver};

use ground::Ground;
use shared::{Result, until_told_to_end};

mod engine;
mod ground;
mod serving;
#[path = "../shared/mod.rs"]
mod shared;
mod soak;

/// The shipped binary's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A part by its name.
type Part = (&'static str, fn(&Ground, &Receiver<()>) -> Result<Box<dyn Display>>);

const PARTS: [Part; 3] = [
    ("serving", |ground, told| {
        ground.train()?;
        Ok(Box::new(serving::measure(ground, told)?))
    }),
    ("engine", |ground, told| {
        ground.train()?;
        Ok(Box::new(engine::measure(ground, told)?))
    }),
    ("soak", |ground, told| Ok(Box::new(soak::measure(ground, told)?))),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("run it with `make bench-models`, or `cargo bench --bench models`");
        return ExitCode::SUCCESS;
    }
    let filter = arguments.iter().find(|argument| !argument.starts_with('-')).cloned().unwrap_or_default();
    match until_told_to_end(move |told| bench(&filter, told)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures the parts whose names hold `filter`, and prints what each found.
fn bench(filter: &str, told: &Receiver<()>) -> Result<()> {
    flowgate_server::install_crypto();
    let ground = Ground::new()?;
    for (name, measure) in PARTS.into_iter().filter(|(name, _)| name.contains(filter)) {
        eprintln!("{name} …");
        print!("{}", measure(&ground, told)?);
    }
    Ok(())
}
