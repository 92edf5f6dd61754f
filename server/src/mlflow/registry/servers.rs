//! Which tracking server and registry there are, and how one proves who asks: the environment variables that MLflow's own clients read.

use std::path::PathBuf;

use base64::Engine as _;
use flowgate_proto::v1::ErrorReason;
use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION, uri::Authority};
use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    config::{Environment, NO_SERVER, NamedServer, NamedServers, ServerAddress, ServerKey},
    error::{Error, Result},
    upstream::control::ControlTls,
};

const WORKSPACE: HeaderName = HeaderName::from_static("x-mlflow-workspace");

/// The servers that know models.
#[derive(Clone, Debug)]
pub struct Servers {
    /// Of registered models, or why there is none: models that are in a folder or a bucket need none.
    registry: Result<Server>,
    /// Of runs, logged models and files, or why there is none.
    tracking: Result<Server>,
    /// How TLS is spoken with them.
    pub tls: ControlTls,
}

/// One server, and what it is told with each request.
#[derive(Clone, Debug)]
pub struct Server {
    /// The address, without a `/` at its end.
    address: String,
    host: Authority,
    /// What names it.
    key: ServerKey,
    auth: Auth,
    workspace: Option<HeaderValue>,
}

#[derive(Clone, Debug)]
enum Auth {
    Nobody,
    Basic { username: String, password: SecretString },
    Bearer(SecretString),
}

impl Servers {
    /// What the environment says: `MLFLOW_TRACKING_URI` (unless `tracking_uri` does), `MLFLOW_REGISTRY_URI`, and those of users, tokens and
    /// TLS.
    ///
    /// # Errors
    /// `GATEWAY_NOT_SERVING` when something is set that is not supported.
    pub fn read(tracking_uri: Option<&str>, environment: &dyn Environment) -> Result<Self> {
        let variable = |name: &str| environment.variable(name).filter(|value| !value.is_empty());
        for name in ["MLFLOW_TRACKING_AUTH", "MLFLOW_TRACKING_AWS_SIGV4"] {
            if variable(name).is_some_and(|value| !is_false(&value)) {
                let message = format!("{name} is set, which is not supported; use a user and password, or a token");
                return Err(Error::new(ErrorReason::GatewayNotServing, message));
            }
        }
        let auth = auth(environment)?;
        let workspace = variable("MLFLOW_WORKSPACE").map(|name| header(&name, "MLFLOW_WORKSPACE")).transpose()?;
        let named = NamedServers::read(tracking_uri, variable);
        let server = |named: Option<&NamedServer>| {
            let named = named.ok_or_else(|| Error::new(ErrorReason::GatewayNotServing, NO_SERVER))?;
            Server::new(named, auth.clone(), workspace.clone())
        };
        let (registry, tracking) = (server(named.registry.as_ref()), server(named.tracking.as_ref()));
        let file = |name| variable(name).map(PathBuf::from);
        let tls = ControlTls {
            insecure: variable("MLFLOW_TRACKING_INSECURE_TLS").is_some_and(|value| !is_false(&value)),
            ca: file("MLFLOW_TRACKING_SERVER_CERT_PATH"),
            identity: file("MLFLOW_TRACKING_CLIENT_CERT_PATH"),
        };
        if tls.insecure && tls.ca.is_some() {
            let message = "MLFLOW_TRACKING_INSECURE_TLS and MLFLOW_TRACKING_SERVER_CERT_PATH exclude each other; unset one of them";
            return Err(Error::new(ErrorReason::GatewayNotServing, message));
        }
        Ok(Self { registry, tracking, tls })
    }

    /// The server of registered models.
    ///
    /// # Errors
    /// `GATEWAY_NOT_SERVING` when there is none, or its address is no server's.
    pub fn registry(&self) -> Result<&Server> {
        self.registry.as_ref().map_err(Error::clone)
    }

    /// The server of runs, logged models and files.
    ///
    /// # Errors
    /// `GATEWAY_NOT_SERVING` when there is none, or its address is no server's.
    pub fn tracking(&self) -> Result<&Server> {
        self.tracking.as_ref().map_err(Error::clone)
    }
}

impl Server {
    fn new(named: &NamedServer, auth: Auth, workspace: Option<HeaderValue>) -> Result<Self> {
        let ServerAddress { base, host, user } = named.address().map_err(|why| Error::new(ErrorReason::GatewayNotServing, why))?;
        let auth = match (auth, user) {
            (Auth::Nobody, Some(user)) => {
                let (username, password) = user.split_once(':').unwrap_or((&user, ""));
                Auth::Basic { username: unescape(username), password: unescape(password).into() }
            }
            (auth, _) => auth,
        };
        Ok(Self { address: base, host, key: named.key, auth, workspace })
    }

    /// The same store behind another host, which is not told who asks: whoever registers a model chooses that host.
    #[must_use]
    pub fn elsewhere(&self, host: &Authority) -> Self {
        if self.is_at(host) {
            return self.clone();
        }
        let address = self.address.replacen(self.host.as_str(), host.as_str(), 1);
        Self { address, host: host.clone(), key: self.key, auth: Auth::Nobody, workspace: self.workspace.clone() }
    }

    /// Whether it is at this host and port.
    pub fn is_at(&self, host: &Authority) -> bool {
        *host == self.host
    }

    /// Its address, without a `/` at the end, and without secrets.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What names it in the configuration.
    pub fn key(&self) -> ServerKey {
        self.key
    }

    /// What errors call it.
    pub fn named(&self) -> String {
        format!("the tracking server at {} ({})", self.address, self.key)
    }

    /// Says who asks.
    ///
    /// # Errors
    /// `PROVIDER_CREDENTIAL_REJECTED` when the credential has characters that no header can hold.
    pub fn authorize(&self, headers: &mut HeaderMap) -> Result<()> {
        let value = match &self.auth {
            Auth::Nobody => None,
            Auth::Basic { username, password } => {
                let pair = format!("{username}:{}", password.expose_secret());
                Some(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair)))
            }
            Auth::Bearer(token) => Some(format!("Bearer {}", token.expose_secret())),
        };
        if let Some(value) = value {
            let mut value = header(&value, "MLFLOW_TRACKING_TOKEN")?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        if let Some(workspace) = &self.workspace {
            headers.insert(WORKSPACE, workspace.clone());
        }
        Ok(())
    }
}

/// A user and password win over a token, and each variable over its line in the file.
fn auth(environment: &dyn Environment) -> Result<Auth> {
    let variable = |name: &str| environment.variable(name).filter(|value| !value.is_empty());
    let (in_file, found) = credentials_file(environment)?;
    let either =
        |name: &str| variable(name).or_else(|| in_file.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, v)| v.clone()));
    match (either("MLFLOW_TRACKING_USERNAME"), either("MLFLOW_TRACKING_PASSWORD")) {
        (Some(username), Some(password)) => return Ok(Auth::Basic { username, password: password.into() }),
        (None, None) => {}
        // MLflow ignores the half; it is never what somebody wanted.
        _ => {
            let place = if found { "the environment or ~/.mlflow/credentials" } else { "the environment" };
            let message =
                format!("MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD go together, and one is missing; set both in {place}");
            return Err(Error::new(ErrorReason::ProviderCredentialRejected, message));
        }
    }
    Ok(variable("MLFLOW_TRACKING_TOKEN").map_or(Auth::Nobody, |token| Auth::Bearer(token.into())))
}

/// The section `[mlflow]` of `~/.mlflow/credentials`, and whether there is such a file.
fn credentials_file(environment: &dyn Environment) -> Result<(Vec<(String, String)>, bool)> {
    let Some(home) = environment.variable("HOME").filter(|home| !home.is_empty()) else { return Ok((Vec::new(), false)) };
    let path = PathBuf::from(home).join(".mlflow/credentials");
    let text = match environment.file(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((Vec::new(), false)),
        Err(error) => {
            let message = format!("cannot read `{}`: {error}", path.display());
            return Err(Error::new(ErrorReason::ProviderCredentialRejected, message));
        }
    };
    let mut is_ours = false;
    let mut pairs = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';'])) {
        if let Some(section) = line.strip_prefix('[') {
            is_ours = section.trim_end_matches(']').trim() == "mlflow";
        } else if let (true, Some((key, value))) = (is_ours, line.split_once(['=', ':'])) {
            pairs.push((key.trim().to_owned(), value.trim().to_owned()));
        }
    }
    Ok((pairs, true))
}

fn is_false(value: &str) -> bool {
    ["false", "0", ""].iter().any(|no| value.trim().eq_ignore_ascii_case(no))
}

fn unescape(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn header(text: &str, from: &str) -> Result<HeaderValue> {
    let message = || format!("{from} has characters that no header can hold; correct it");
    HeaderValue::from_str(text).map_err(|_| Error::new(ErrorReason::ProviderCredentialRejected, message()))
}
