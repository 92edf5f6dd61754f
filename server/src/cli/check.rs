//! `flowgate check`: everything that is wrong with a configuration, without serving it.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;

use super::{USAGE, complain, say};
use crate::{
    catalog::Catalog,
    config::{self, LoadOptions, SecretsMode},
};

#[derive(Debug, Args)]
pub(super) struct Check {
    /// The configuration; later files are laid over earlier ones.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Take unknown keys as warnings.
    #[arg(long)]
    lenient: bool,
}

pub(super) fn run(check: &Check) -> ExitCode {
    let options = LoadOptions { lenient: check.lenient, secrets: SecretsMode::List };
    let loaded = match config::load(&check.files, options) {
        Ok(loaded) => loaded,
        Err(diagnostics) => {
            complain(&format!("{diagnostics}\n"));
            return ExitCode::from(USAGE);
        }
    };
    for warning in &loaded.warnings {
        complain(&format!("{warning}\n"));
    }
    for unset in &loaded.unset_secrets {
        complain(&format!("not set: {} ({})\n", unset.name, unset.place));
    }
    for (name, why) in Catalog::new(&loaded.config).not_serving() {
        complain(&format!("not serving: {name}: {why}\n"));
    }
    let endpoints = loaded.config.endpoints.len();
    say(&format!("ok: {endpoints} endpoint{}\n", if endpoints == 1 { "" } else { "s" }));
    ExitCode::SUCCESS
}
