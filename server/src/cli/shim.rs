//! `flowgate shim`: what the gateway runs between itself and a program that it starts.

use std::{ffi::OsString, process::ExitCode};

use clap::Args;

use super::complain;
use crate::mlflow::process::shim;

/// What shells exit with when a program cannot be started.
const NOT_STARTED: u8 = 127;

#[derive(Debug, Args)]
pub(super) struct Shim {
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    program: Vec<OsString>,
}

pub(super) fn run(given: &Shim) -> ExitCode {
    let Some((program, arguments)) = given.program.split_first() else { return ExitCode::from(NOT_STARTED) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = runtime.and_then(|runtime| {
        let ended = runtime.block_on(shim::run(program, arguments));
        // A thread of its reads standard input, which has no end while the gateway lives; nobody waits for that.
        runtime.shutdown_background();
        ended
    });
    match ended {
        Ok(code) => u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from),
        Err(error) => {
            complain(&format!("{} cannot be started: {error}\n", program.display()));
            ExitCode::from(NOT_STARTED)
        }
    }
}
