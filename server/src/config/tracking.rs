//! Which servers know models, by which keys they are named, and what is taken for their address. Asks nobody.

use std::fmt;

use http::{
    Uri,
    uri::{Authority, Scheme},
};

/// What is said where models need a server and none is named.
pub const NO_SERVER: &str = "no tracking server is configured; set `mlflow.tracking_uri` or MLFLOW_TRACKING_URI";

/// What a server is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServerRole {
    /// Registered models.
    Registry,
    /// Runs, logged models and files.
    Tracking,
}

/// What names a server; shown as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerKey {
    /// `mlflow.tracking_uri`.
    Setting,
    /// An environment variable of MLflow's.
    Variable(&'static str),
}

/// A server as it is named.
#[derive(Clone)]
pub struct NamedServer {
    /// By what.
    pub key: ServerKey,
    /// It may hold a password.
    text: String,
}

/// The servers that are named.
#[derive(Clone, Debug)]
pub struct NamedServers {
    /// Of registered models.
    pub registry: Option<NamedServer>,
    /// Of runs, logged models and files.
    pub tracking: Option<NamedServer>,
}

/// The address of a server.
#[derive(Clone)]
pub struct ServerAddress {
    /// Without who asks, and without a `/` at its end.
    pub base: String,
    /// The host and port.
    pub host: Authority,
    /// Who asks: `user:password`, escaped.
    pub user: Option<String>,
}

impl NamedServers {
    /// Those that a file's `mlflow.tracking_uri` and MLflow's environment variables name.
    pub fn read(setting: Option<&str>, variable: impl Fn(&str) -> Option<String>) -> Self {
        let named = |name: &'static str| {
            let text = variable(name).filter(|text| !text.is_empty())?;
            Some(NamedServer { key: ServerKey::Variable(name), text })
        };
        let setting = setting.map(|text| NamedServer { key: ServerKey::Setting, text: text.to_owned() });
        let tracking = setting.or_else(|| named("MLFLOW_TRACKING_URI"));
        Self { registry: named("MLFLOW_REGISTRY_URI").or_else(|| tracking.clone()), tracking }
    }

    /// The one that is asked for something.
    pub fn of(&self, role: ServerRole) -> Option<&NamedServer> {
        match role {
            ServerRole::Registry => self.registry.as_ref(),
            ServerRole::Tracking => self.tracking.as_ref(),
        }
    }
}

impl NamedServer {
    /// Where it is.
    ///
    /// # Errors
    /// Why what names it is no address, and what to do; at most its scheme is repeated.
    pub fn address(&self) -> Result<ServerAddress, String> {
        let text = self.text.trim().trim_end_matches('/');
        parsed(text).ok_or_else(|| self.refusal(text))
    }

    fn refusal(&self, text: &str) -> String {
        let key = self.key;
        let scheme = text.split_once(':').map_or(text, |(scheme, _)| scheme);
        match scheme.split('+').next().unwrap_or_default() {
            "sqlite" | "postgresql" | "mysql" | "mssql" => format!(
                "{key} is a database (`{scheme}:`), which only a tracking server reads; run `mlflow server --backend-store-uri \
                 '{scheme}:…' --serve-artifacts` and set {key} to its address"
            ),
            "databricks" | "databricks-uc" | "uc" => format!(
                "{key} is a Databricks workspace, which is not supported as a registry; set it to the address of a tracking server, or name \
                 the endpoint's address with `provider: databricks`"
            ),
            "http" | "https" => format!("{key} is no address of a server; write `http://host:port`"),
            "" => format!("{key} is empty; write `http://host:port`"),
            _ if lacks_scheme(text) => format!("{key} lacks the `http://` of its address; write `http://host:port`"),
            _ => format!(
                "{key} is a folder, which only a tracking server reads; run `mlflow server --backend-store-uri FOLDER --serve-artifacts` \
                 and set {key} to its address, `http://host:port`, or name the model by its own folder"
            ),
        }
    }
}

fn parsed(text: &str) -> Option<ServerAddress> {
    let uri = text.parse::<Uri>().ok().filter(|uri| [Some(&Scheme::HTTP), Some(&Scheme::HTTPS)].contains(&uri.scheme()))?;
    let authority = uri.authority()?.as_str();
    let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user.to_owned()), host));
    let host: Authority = host.parse().ok()?;
    let base = format!("{}://{host}{}", uri.scheme_str()?, uri.path().trim_end_matches('/'));
    Some(ServerAddress { base, host, user })
}

/// Whether it is a host with a port.
fn lacks_scheme(text: &str) -> bool {
    let host = text.split('/').next().unwrap_or_default().parse::<Authority>();
    !text.contains("://") && host.is_ok_and(|host| host.port().is_some())
}

impl fmt::Display for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setting => f.write_str("`mlflow.tracking_uri`"),
            Self::Variable(name) => f.write_str(name),
        }
    }
}

impl fmt::Debug for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerAddress").field("base", &self.base).finish_non_exhaustive()
    }
}

impl fmt::Debug for NamedServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NamedServer").field("key", &self.key).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> NamedServer {
        NamedServers::read(Some(text), |_| None).tracking.unwrap()
    }

    #[test]
    fn the_file_wins_and_a_registry_has_a_variable_of_its_own() {
        let variable = |name: &str| match name {
            "MLFLOW_TRACKING_URI" => Some("http://a".to_owned()),
            "MLFLOW_REGISTRY_URI" => Some("http://b".to_owned()),
            _ => None,
        };
        let told = |setting, role| {
            let named = NamedServers::read(setting, variable);
            let of = named.of(role).unwrap();
            format!("{} {}", of.key, of.address().unwrap().base)
        };
        assert_eq!(told(None, ServerRole::Tracking), "MLFLOW_TRACKING_URI http://a");
        assert_eq!(told(Some("http://c"), ServerRole::Tracking), "`mlflow.tracking_uri` http://c");
        assert_eq!(told(Some("http://c"), ServerRole::Registry), "MLFLOW_REGISTRY_URI http://b");
        let none = NamedServers::read(None, |_| Some(String::new()));
        assert!(none.registry.is_none() && none.tracking.is_none(), "what says nothing names nothing");
    }

    #[test]
    fn an_address_is_split() {
        let address = named(" https://ann:hu%73h@host:81/x/ ").address().unwrap();
        assert_eq!((address.base.as_str(), address.host.as_str()), ("https://host:81/x", "host:81"));
        assert_eq!(address.user.as_deref(), Some("ann:hu%73h"));
    }

    #[test]
    fn what_is_no_address_is_refused_with_what_to_do_and_without_its_text() {
        for (text, told) in [
            ("sqlite:///mlflow.db", "is a database (`sqlite:`), which only a tracking server reads; run `mlflow server"),
            ("postgresql+psycopg2://me:hush@db/x", "--backend-store-uri 'postgresql+psycopg2:…'"),
            ("databricks", "Databricks"),
            ("databricks-uc", "Databricks"),
            ("./mlruns", "is a folder"),
            ("file:///mlruns", "is a folder"),
            ("hush@mlruns", "is a folder"),
            ("127.0.0.1:8400", "lacks the `http://`"),
            ("mlflow:5000/hush", "lacks the `http://`"),
            ("http://", "is no address of a server"),
            ("http://hush host", "is no address of a server"),
            ("", "is empty"),
        ] {
            let said = named(text).address().err().unwrap();
            assert!(said.starts_with("`mlflow.tracking_uri` ") && said.contains(told) && !said.contains("hush"), "{text}: {said}");
        }
    }
}
