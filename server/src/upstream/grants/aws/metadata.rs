//! Keys from where the code runs: the endpoint that a container is given, and the metadata service of an EC2 instance.

use std::path::Path;

use bytes::Bytes;
use http::{HeaderValue, Request, Uri};
use secrecy::SecretString;
use serde::Deserialize;

use super::{Keys, time};
use crate::{
    error::Result,
    upstream::grants::{
        bad_answer,
        issuer::{Answer, Issuer},
        refused, unavailable,
    },
};

const RELATIVE: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
const FULL: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
/// The container agent of ECS.
const AGENT: &str = "http://169.254.170.2";
/// Whom keys may be asked of without TLS: the agents of ECS and EKS, and this machine.
const NEAR: &[&str] = &["169.254.170.2", "169.254.170.23", "[fd00:ec2::23]", "localhost", "127.0.0.1", "[::1]"];
const INSTANCE: &str = "http://169.254.169.254";
const ROLES: &str = "/latest/meta-data/iam/security-credentials/";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Told {
    code: Option<String>,
    access_key_id: Option<String>,
    secret_access_key: Option<SecretString>,
    token: Option<SecretString>,
    expiration: Option<String>,
}

/// Whether this is a container that is given an endpoint.
pub(super) fn is_container(issuer: &Issuer) -> bool {
    [RELATIVE, FULL].into_iter().any(|name| issuer.variable(name).is_some())
}

pub(super) async fn container(issuer: &Issuer) -> Result<Keys> {
    let full = match (issuer.variable(RELATIVE), issuer.variable(FULL)) {
        (Some(path), _) => format!("{AGENT}{path}"),
        (None, Some(full)) => full,
        (None, None) => return Err(refused(format!("neither {RELATIVE} nor {FULL} is set"))),
    };
    let address: Uri = full.parse().map_err(|_| refused(format!("{FULL} is no address")))?;
    if address.scheme_str() != Some("https") && !address.host().is_some_and(|host| NEAR.contains(&host)) {
        return Err(refused(format!("{FULL} is neither https nor an address of this machine or its container agent")));
    }
    let token = match issuer.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
        Some(path) => Some(issuer.needed_file(Path::new(&path)).await?),
        None => issuer.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN"),
    };
    let mut request = Request::new(Bytes::new());
    *request.uri_mut() = address;
    if let Some(token) = token {
        request.headers_mut().insert(http::header::AUTHORIZATION, secret(token.trim())?);
    }
    read(&issuer.send_near(request).await?)
}

/// Version 2 only, which asks for a token first, so that nobody is tricked into asking for us.
pub(super) async fn instance(issuer: &Issuer) -> Result<Keys> {
    if issuer.variable("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Err(refused("no AWS keys in environment, profile, web identity or container, and the instance's are turned off"));
    }
    let place = issuer.variable("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or_else(|| INSTANCE.to_owned());
    let place = place.trim_end_matches('/');
    let request = |builder: http::request::Builder| builder.body(Bytes::new()).map_err(|_| refused("the metadata address is none"));
    let token = Request::put(format!("{place}/latest/api/token")).header("x-aws-ec2-metadata-token-ttl-seconds", "21600");
    let token = issuer.send_near(request(token)?).await.map_err(|error| match error.upstream_status_code() {
        Some(_) => error,
        None => unavailable(format!("no AWS keys in environment, profile, web identity or container, and no instance: {error:?}")),
    })?;
    let token = secret(&text(&token)?)?;
    let get = |path: &str| request(Request::get(format!("{place}{path}")).header("x-aws-ec2-metadata-token", token.clone()));
    let roles = text(&issuer.send_near(get(ROLES)?).await?)?;
    let role = roles.lines().next().filter(|role| !role.is_empty()).ok_or_else(|| refused("the instance has no role"))?;
    read(&issuer.send_near(get(&format!("{ROLES}{role}"))?).await?)
}

fn text(answer: &Answer) -> Result<String> {
    if !answer.status.is_success() {
        return Err(refused(format!("the instance's metadata service answered {}", answer.status)).upstream_status(answer.status));
    }
    Ok(String::from_utf8_lossy(&answer.body).trim().to_owned())
}

fn secret(token: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(token).map_err(|_| refused("a token for AWS keys has characters that no header can hold"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn read(answer: &Answer) -> Result<Keys> {
    if !answer.status.is_success() {
        return Err(refused(format!("the endpoint for AWS keys answered {}", answer.status)).upstream_status(answer.status));
    }
    let bad = || bad_answer("the endpoint for AWS keys gave none");
    // The decoder's words may quote a secret.
    let told: Told = serde_json::from_slice(&answer.body).map_err(|_| bad())?;
    if let Some(code) = told.code.filter(|code| code != "Success") {
        return Err(refused(format!("the endpoint for AWS keys says {code}")));
    }
    Ok(Keys {
        access_key_id: told.access_key_id.ok_or_else(bad)?,
        secret_access_key: told.secret_access_key.ok_or_else(bad)?,
        session_token: told.token,
        end: match told.expiration {
            Some(text) => Some(time(&text).ok_or_else(bad)?),
            None => None,
        },
    })
}
