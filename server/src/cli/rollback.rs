//! `flowgate rollback`: ends a rollout over the admin listener of a running gateway.

use std::process::ExitCode;

use clap::Args;
use flowgate_client::{
    Client, Error,
    proto::v1::{Rollout, RolloutState},
};

use super::{complain, runtime, say};

#[derive(Debug, Args)]
pub(super) struct Rollback {
    /// The endpoint.
    endpoint: String,
    /// Where the gateway's admin listener is.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:5001")]
    admin: String,
    /// The key of the admin services, sent as a bearer token.
    #[arg(long, env = "FLOWGATE_ADMIN_KEY", hide_env_values = true)]
    key: Option<String>,
    /// Why, in a few words, for the log and for whoever asks about the endpoint.
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

pub(super) fn run(rollback: &Rollback) -> ExitCode {
    crate::install_crypto();
    let done = match runtime() {
        Ok(runtime) => runtime.block_on(rollback.send()),
        Err(error) => Err(format!("the runtime cannot be started: {error}")),
    };
    match done {
        Ok(rollout) => {
            say(&told(&rollout));
            ExitCode::SUCCESS
        }
        Err(what) => {
            complain(&format!("error: {what}\n"));
            ExitCode::FAILURE
        }
    }
}

impl Rollback {
    async fn send(&self) -> Result<Rollout, String> {
        let client = self.client().map_err(|error| self.explain(&error))?;
        client.admin().roll_back(&self.endpoint, &self.reason).await.map_err(|error| self.explain(&error))
    }

    fn client(&self) -> Result<Client, Error> {
        let options = Client::options(&self.admin);
        match &self.key {
            Some(key) => options.key(key)?.connect(),
            None => options.connect(),
        }
    }

    fn explain(&self, error: &Error) -> String {
        super::of_admin(&self.admin, error, |_| None)
    }
}

fn told(rollout: &Rollout) -> String {
    let Rollout { endpoint, canary, share_percent: share, reason, .. } = rollout;
    if rollout.state() == RolloutState::RolledBack {
        format!("{endpoint}: rolled back, {canary} gets no calls\n    {reason}\n")
    } else {
        // Its configuration was changed in this moment, so that it began anew.
        format!("{endpoint}: {canary} gets {share} % of the calls\n")
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{
        Listeners, config,
        policy::testing::{deployment, endpoint},
        task::Tasks,
    };

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        rollback: Rollback,
    }

    async fn send(line: &[&str]) -> Result<String, String> {
        let rollback = Line::try_parse_from([&["rollback"], line].concat()).unwrap().rollback;
        rollback.send().await.map(|rollout| told(&rollout))
    }

    /// A gateway with an endpoint that has a rollout and one that has none; its data and admin addresses.
    async fn gateway(key: Option<&str>) -> (String, String) {
        crate::install_crypto();
        let mut ranker = endpoint("ranker", vec![deployment("stable"), deployment("next")]);
        let every = std::time::Duration::from_secs(600);
        let (steps, canary) = (vec![5, 100], "next".to_owned());
        ranker.routing.rollout = Some(config::Rollout { canary, steps, every, error_rate: None, p95: None, min_calls: 20 });
        let nowhere = "127.0.0.1:0".parse().unwrap();
        let config = config::Config {
            listen: nowhere,
            admin: nowhere,
            admin_key: key.map(|key| key.to_owned().into()),
            endpoints: vec![ranker, endpoint("plain", vec![deployment("only")])],
            ..Default::default()
        };
        let listeners = Listeners::bind(&config).await.unwrap();
        let at = |listener: &tokio::net::TcpListener| format!("http://{}", listener.local_addr().unwrap());
        let addresses = (at(&listeners.data), at(&listeners.admin));
        Tasks::default().spawn(async move {
            crate::serve(&config, listeners, CancellationToken::new()).await.unwrap();
        });
        addresses
    }

    #[tokio::test]
    async fn what_became_of_the_rollout_is_told_and_the_first_reason_stays() {
        let (_, admin) = gateway(None).await;
        let told = "ranker: rolled back, next gets no calls\n    by an operator: it drops rows\n";
        assert_eq!(send(&["ranker", "--admin", &admin, "--reason", "it drops rows"]).await.unwrap(), told);
        assert_eq!(send(&["ranker", "--admin", &admin]).await.unwrap(), told);
    }

    #[tokio::test]
    async fn what_went_wrong_is_told_with_what_to_do() {
        let (data, admin) = gateway(Some("k-1")).await;
        let told = async |line: &[&str]| send(line).await.unwrap_err();
        let missing = told(&["ranker", "--admin", &admin]).await;
        assert!(missing.contains("no credential was sent") && missing.contains("`--key`, or FLOWGATE_ADMIN_KEY"), "{missing}");
        assert!(told(&["ranker", "--admin", &admin, "--key", "k-2"]).await.contains("CALLER_UNAUTHENTICATED"));
        let unknown = told(&["rankre", "--admin", &admin, "--key", "k-1"]).await;
        assert!(unknown.contains("did you mean `ranker`?") && unknown.contains("CALLER_ENDPOINT_NOT_FOUND"), "{unknown}");
        let none = told(&["plain", "--admin", &admin, "--key", "k-1"]).await;
        assert!(none.contains("the endpoint has no rollout") && none.contains("CALLER_ROLLOUT_NOT_FOUND"), "{none}");
        let wordy = told(&["ranker", "--admin", &admin, "--key", "k-1", "--reason", &"x".repeat(201)]).await;
        assert!(wordy.contains("must be one line of at most 200 characters"), "{wordy}");
        let elsewhere = told(&["ranker", "--admin", &data, "--key", "k-1"]).await;
        assert!(elsewhere.contains("is this the admin listener?"), "{elsewhere}");
        let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let away = told(&["ranker", "--admin", &format!("http://{closed}")]).await;
        assert!(away.starts_with(&format!("the connection to http://{closed} failed: ")) && away.contains("`--admin`"), "{away}");
    }
}
