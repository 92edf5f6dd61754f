//! The command line: `start`, `check`, `schema`, `providers`, `models`, `call`, `rollback`, and the spellings that MLflow's documentation uses.

use std::{ffi::OsString, io::Write as _, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use flowgate_client::{Error, proto::v1::ErrorReason};

mod call;
mod check;
mod models;
mod providers;
mod rollback;
mod shim;
mod start;

/// What a bad command line or configuration exits with (`EX_USAGE` of sysexits.h).
const USAGE: u8 = 64;

/// One door to every model a company has: typed gRPC, gRPC-Web and JSON over HTTP in front of MLflow models and LLM providers.
///
/// Without a command and without a file it serves the built-in quickstart.
#[derive(Debug, Parser)]
#[command(name = "flowgate", version, args_conflicts_with_subcommands = true)]
struct Line {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    start: start::Start,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve a configuration.
    Start(start::Start),
    /// Say what is wrong with a configuration; exit 64 if anything is.
    Check(check::Check),
    /// Print the JSON Schema of the configuration, for editors.
    Schema,
    /// List the providers that a configuration may name, or tell of one in detail.
    Providers(providers::Providers),
    /// List the models that a running gateway runs itself, load them or let them go.
    Models(models::Models),
    /// Call an endpoint of a running gateway.
    Call(call::Call),
    /// End the rollout of an endpoint of a running gateway: its canary gets no calls any more.
    Rollback(rollback::Rollback),
    /// MLflow's spelling: `flowgate gateway start --config-path FILE`.
    #[command(hide = true)]
    Gateway(Gateway),
    /// What the gateway runs between itself and a program that it starts; not for people.
    #[command(hide = true)]
    Shim(shim::Shim),
}

#[derive(Debug, Args)]
struct Gateway {
    #[command(subcommand)]
    command: GatewayCommand,
}

#[derive(Debug, Subcommand)]
enum GatewayCommand {
    /// Serve a configuration.
    Start(start::Start),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    run(std::env::args_os())
}

fn run(line: impl IntoIterator<Item = OsString>) -> ExitCode {
    let line = match Line::try_parse_from(line) {
        Ok(line) => line,
        Err(error) => {
            let text = error.render();
            return if error.use_stderr() {
                complain(&text.to_string());
                ExitCode::from(USAGE)
            } else {
                say(&text.to_string());
                ExitCode::SUCCESS
            };
        }
    };
    match line.command {
        None => start::run(&line.start),
        Some(Command::Start(start) | Command::Gateway(Gateway { command: GatewayCommand::Start(start) })) => start::run(&start),
        Some(Command::Check(check)) => check::run(&check),
        Some(Command::Schema) => {
            say(&format!("{:#}\n", crate::config::schema()));
            ExitCode::SUCCESS
        }
        Some(Command::Providers(providers)) => providers::run(&providers),
        Some(Command::Models(models)) => models::run(&models),
        Some(Command::Call(call)) => call::run(&call),
        Some(Command::Rollback(rollback)) => rollback::run(&rollback),
        Some(Command::Shim(shim)) => shim::run(&shim),
    }
}

/// Writes to standard output; a reader that went away is no failure of ours.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        tracing::debug!("standard output is closed");
    }
}

/// Writes to standard error.
fn complain(text: &str) {
    if std::io::stderr().lock().write_all(text.as_bytes()).is_err() {
        tracing::debug!("standard error is closed");
    }
}

/// A runtime for one command.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

/// What went wrong at an admin listener, with what to do; `more` knows what a command's own reasons call for.
fn of_admin(address: &str, error: &Error, more: impl FnOnce(ErrorReason) -> Option<&'static str>) -> String {
    if error.is_connection() {
        let advice = "is a gateway running there? `--admin` names the address of another one's admin listener";
        return format!("the connection to {address} failed: {}\n    {advice}", error.told());
    }
    let told = error.reason_name().map_or_else(|| error.told(), |reason| format!("{} ({reason})", error.told()));
    let advice = error.reason().and_then(|reason| match reason {
        ErrorReason::CallerUnauthenticated => Some("`--key`, or FLOWGATE_ADMIN_KEY, holds the key that the gateway has as `admin.key`"),
        ErrorReason::CallerUnknownPath => Some("is this the admin listener? It has an address of its own, `admin.listen`"),
        reason => more(reason),
    });
    advice.map_or_else(|| told.clone(), |advice| format!("{told}\n    {advice}"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn files(line: &[&str]) -> Vec<String> {
        let line = Line::try_parse_from(line).unwrap();
        let start = match line.command {
            None => line.start,
            Some(Command::Start(start) | Command::Gateway(Gateway { command: GatewayCommand::Start(start) })) => start,
            Some(other) => panic!("{other:?}"),
        };
        start.config_path.iter().map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn the_command_line_is_consistent() {
        Line::command().debug_assert();
    }

    #[test]
    fn every_command_and_option_is_documented() {
        let page = include_str!("../../../docs/configuration.md");
        let (_, page) = page.split_once("## Command line").unwrap();
        let line = Line::command();
        for command in line.get_subcommands().filter(|command| !command.is_hide_set()) {
            assert!(page.contains(&format!("`flowgate {}", command.get_name())), "{}", command.get_name());
            for option in command.get_arguments().filter_map(clap::Arg::get_long) {
                assert!(page.contains(&format!("`--{option}")), "--{option}");
            }
        }
    }

    #[test]
    fn every_documented_spelling_starts() {
        assert_eq!(files(&["flowgate", "start", "--config-path", "a.yaml"]), ["a.yaml"]);
        assert_eq!(files(&["flowgate", "start", "--config", "a.yaml", "--host", "0.0.0.0", "--port", "80"]), ["a.yaml"]);
        assert_eq!(files(&["flowgate", "gateway", "start", "--config-path", "a.yaml", "--config-path", "b.yaml"]), ["a.yaml", "b.yaml"]);
        assert_eq!(files(&["flowgate", "--config-path", "/app/f.yaml"]), ["/app/f.yaml"]);
        assert!(files(&["flowgate"]).is_empty());
    }
}
