//! `flowgate models`: the models that a running gateway runs itself, over its admin listener; loads them and lets them go.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use flowgate_client::{
    Client, Error,
    proto::{
        admin::v1::{Model, ModelFailure, ModelRuntime, ModelState},
        v1::ErrorReason,
    },
};

use super::{complain, runtime, say};

#[derive(Debug, Args)]
pub(super) struct Models {
    /// What is done with one model. Without it all are listed.
    #[arg(requires = "model")]
    act: Option<Act>,
    /// The model's reference, or the name of an endpoint that has just one such model.
    model: Option<String>,
    /// Where the gateway's admin listener is.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:5001")]
    admin: String,
    /// The key of the admin services, sent as a bearer token.
    #[arg(long, env = "FLOWGATE_ADMIN_KEY", hide_env_values = true)]
    key: Option<String>,
    /// Print JSON, for programs.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Act {
    /// Load it, or look up anew what its reference means.
    Load,
    /// Let it go, once its calls are done.
    Unload,
    /// Keep it loaded, whatever happens.
    Pin,
    /// Let it come and go again.
    Unpin,
}

pub(super) fn run(models: &Models) -> ExitCode {
    crate::install_crypto();
    let done = match runtime() {
        Ok(runtime) => runtime.block_on(models.ask()),
        Err(error) => Err(format!("the runtime cannot be started: {error}")),
    };
    match done {
        Ok(found) => {
            say(&models.told(&found));
            ExitCode::SUCCESS
        }
        Err(what) => {
            complain(&format!("error: {what}\n"));
            ExitCode::FAILURE
        }
    }
}

impl Models {
    async fn ask(&self) -> Result<Vec<Model>, String> {
        let client = self.client().map_err(|error| self.explain(&error))?;
        let (admin, name) = (client.admin(), self.model.as_deref().unwrap_or_default());
        let one = match self.act {
            None => return admin.list_models().await.map_err(|error| self.explain(&error)),
            Some(Act::Load) => admin.load_model(name).await,
            Some(Act::Unload) => admin.unload_model(name).await,
            Some(Act::Pin) => admin.pin_model(name, true).await,
            Some(Act::Unpin) => admin.pin_model(name, false).await,
        };
        let one = one.map_err(|error| self.explain(&error))?;
        if one.uri != name {
            return Ok(vec![one]);
        }
        // A reference may be defined in several ways, and all of them were meant.
        let all = admin.list_models().await.map_err(|error| self.explain(&error))?;
        Ok(all.into_iter().filter(|model| model.uri == name).collect())
    }

    fn client(&self) -> Result<Client, Error> {
        // A load takes as long as it takes.
        let options = Client::options(&self.admin);
        match &self.key {
            Some(key) => options.key(key)?.connect(),
            None => options.connect(),
        }
    }

    fn explain(&self, error: &Error) -> String {
        super::of_admin(&self.admin, error, |reason| match reason {
            ErrorReason::CallerModelNotFound => Some("`flowgate models` lists those there are"),
            _ => None,
        })
    }

    fn told(&self, models: &[Model]) -> String {
        if self.json {
            return serde_json::to_string_pretty(models).map_or_else(|error| error.to_string(), |text| format!("{text}\n"));
        }
        if models.is_empty() {
            return "no endpoint has a model that the gateway runs itself\n".to_owned();
        }
        let told: String = models.iter().map(line).collect();
        let is_back = matches!(self.act, Some(Act::Unload)) && models.iter().any(|model| model.pinned);
        if is_back {
            format!("{told}    it is pinned, so that it is loaded again; `flowgate models unpin` has it stay away\n")
        } else {
            told
        }
    }
}

/// A model in two lines or three.
fn line(model: &Model) -> String {
    let state = match model.state() {
        ModelState::Loaded => "loaded",
        ModelState::Loading => "loading",
        ModelState::Failed => "failed",
        ModelState::Unloaded | ModelState::Unspecified if model.pinned => "not loaded yet",
        ModelState::Unloaded | ModelState::Unspecified => "not loaded",
    };
    let mut facts = vec![state.to_owned()];
    match model.runtime() {
        ModelRuntime::Native => facts.push("in this process".to_owned()),
        ModelRuntime::Python => {
            let processes: Vec<_> = model.processes.iter().map(ToString::to_string).collect();
            facts.push(format!("{} Python (process {})", model.instances, processes.join(", ")));
        }
        ModelRuntime::Unspecified => {}
    }
    if model.version > 0 {
        let aliases = if model.aliases.is_empty() { String::new() } else { format!(" ({})", model.aliases.join(", ")) };
        facts.push(format!("version {}{aliases}", model.version));
    }
    if model.memory_bytes > 0 {
        facts.push(match model.memory_bytes {
            small if small < 1 << 20 => format!("{} KiB", small.div_ceil(1 << 10)),
            large => format!("{:.1} MiB", bytes(large)),
        });
    }
    if model.calls > 0 {
        facts.push(format!("{} calls", model.calls));
    }
    if model.pinned {
        let is_there = model.state() == ModelState::Loaded;
        facts.push(if is_there { "pinned" } else { "pinned: it is loaded by itself" }.to_owned());
    }
    if let Some(download) = &model.download {
        facts.push(format!("{:.1} of {:.1} MiB here", bytes(download.bytes_done), bytes(download.bytes)));
    }
    let why = match &model.failure {
        Some(failure) if model.state() == ModelState::Loaded => format!("    {}\n", failed(failure)),
        _ if model.state_reason.is_empty() => String::new(),
        _ => format!("    {}\n", model.state_reason),
    };
    let endpoints = if model.endpoints.is_empty() {
        "it takes the place of another one once it is loaded".to_owned()
    } else {
        format!("for {}", model.endpoints.join(", "))
    };
    format!("{}\n    {}; {endpoints}\n{why}", model.uri, facts.join(", "))
}

/// What does not answer in the place of the version that does.
fn failed(failure: &ModelFailure) -> String {
    let again_in = failure.again_in.as_ref().map(|time| time.seconds + i64::from(time.nanos > 0));
    let what = match (failure.version, again_in) {
        (0, None) => "loading it anew failed".to_owned(),
        (0, Some(_)) => "the look-up failed".to_owned(),
        (version, _) => format!("version {version} failed"),
    };
    let again = match again_in {
        None => "only when somebody loads it: `flowgate models load`".to_owned(),
        Some(0) => "with the next look-up".to_owned(),
        Some(left) => format!("with the first look-up after {left} s"),
    };
    format!("{what}: {}; it is tried again {again}", failure.reason)
}

/// In MiB, as people read them.
#[expect(clippy::cast_precision_loss, reason = "a tenth of a MiB is told")]
fn bytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_told_in_two_lines_or_three() {
        let loaded = Model {
            uri: "models:/iris@champion".to_owned(),
            state: ModelState::Loaded.into(),
            runtime: ModelRuntime::Native.into(),
            version: 3,
            aliases: vec!["champion".to_owned()],
            memory_bytes: 3 << 19,
            pinned: true,
            endpoints: vec!["iris".to_owned(), "other".to_owned()],
            ..Model::default()
        };
        let told = "models:/iris@champion\n    loaded, in this process, version 3 (champion), 1.5 MiB, pinned; for iris, other\n";
        assert_eq!(line(&loaded), told);
        let failed = Model {
            uri: "runs:/1/m".to_owned(),
            state: ModelState::Failed.into(),
            state_reason: "it is of no use".to_owned(),
            ..Model::default()
        };
        let broken = |failure| line(&Model { failure: Some(failure), ..loaded.clone() });
        let again_in = Some(flowgate_client::proto::wkt::Duration { seconds: 3, nanos: 1 });
        let failure = ModelFailure { version: 4, reason: "it is of no use".to_owned(), again_in };
        let later = "it is tried again with the first look-up after 4 s\n";
        assert_eq!(broken(failure.clone()), format!("{told}    version 4 failed: it is of no use; {later}"));
        let due = ModelFailure { again_in: Some(flowgate_client::proto::wkt::Duration::default()), ..failure.clone() };
        assert_eq!(broken(due), format!("{told}    version 4 failed: it is of no use; it is tried again with the next look-up\n"));
        let lost = ModelFailure { version: 0, ..failure.clone() };
        assert_eq!(broken(lost.clone()), format!("{told}    the look-up failed: it is of no use; {later}"));
        let left = "it is tried again only when somebody loads it: `flowgate models load`\n";
        let fixed = ModelFailure { again_in: None, ..failure };
        assert_eq!(broken(fixed), format!("{told}    version 4 failed: it is of no use; {left}"));
        let folder = ModelFailure { again_in: None, ..lost };
        assert_eq!(broken(folder), format!("{told}    loading it anew failed: it is of no use; {left}"));
        assert_eq!(line(&failed), "runs:/1/m\n    failed; it takes the place of another one once it is loaded\n    it is of no use\n");
        let python = Model {
            uri: "runs:/1/m".to_owned(),
            state: ModelState::Loaded.into(),
            runtime: ModelRuntime::Python.into(),
            instances: 2,
            processes: vec![71, 72],
            memory_bytes: 7200,
            endpoints: vec!["a".to_owned()],
            ..Model::default()
        };
        assert_eq!(line(&python), "runs:/1/m\n    loaded, 2 Python (process 71, 72), 8 KiB; for a\n");
        let pinned = Model { state: ModelState::Unloaded.into(), pinned: true, endpoints: vec!["a".to_owned()], ..failed };
        let pinned = Model { state_reason: String::new(), ..pinned };
        let told = "runs:/1/m\n    not loaded yet, pinned: it is loaded by itself; for a\n";
        assert_eq!(line(&pinned), told);
        let done =
            |act| Models { act: Some(act), model: None, admin: String::new(), key: None, json: false }.told(std::slice::from_ref(&pinned));
        assert_eq!(done(Act::Pin), told);
        let back = "    it is pinned, so that it is loaded again; `flowgate models unpin` has it stay away\n";
        assert_eq!(done(Act::Unload), format!("{told}{back}"));
    }
}
