//! `flowgate check`: everything that is wrong with a configuration, without serving it.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;

use super::{USAGE, complain, say};
use crate::{
    catalog::Catalog,
    config::{self, Config, LoadOptions, SecretsMode},
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
    say(&format!("ok: {}\n", counted(&loaded.config)));
    ExitCode::SUCCESS
}

/// How many endpoints there will be, as far as the file says it.
fn counted(config: &Config) -> String {
    let plural = |count: usize| format!("{count} endpoint{}", if count == 1 { "" } else { "s" });
    match (&config.models.serve, config.endpoints.len()) {
        (None, count) => plural(count),
        (Some(_), 0) => "the registered models that `mlflow.serve` names".to_owned(),
        (Some(_), count) => format!("{}, and the registered models that `mlflow.serve` names", plural(count)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Serve, fixture::Fake};

    #[test]
    fn registered_models_count() {
        let mut config = Fake::default().load("endpoints: [{ name: a, endpoint_type: llm/v1/chat, model: { provider: mock } }]").config;
        assert_eq!(counted(&config), "1 endpoint");
        config.models.serve = Some(Serve::All);
        assert_eq!(counted(&config), "1 endpoint, and the registered models that `mlflow.serve` names");
        config.endpoints.clear();
        assert_eq!(counted(&config), "the registered models that `mlflow.serve` names");
    }
}
