//! A token for Google's cloud: by a service account's signature, by what gcloud left, or from the metadata server.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{RSA_PKCS1_SHA256, RsaKeyPair},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::Request;
use rustls::pki_types::{PrivateKeyDer, pem::PemObject as _};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::json;

use super::{Issued, issuer::Issuer, issuer::form, oauth, refused, unavailable};
use crate::{config::GoogleCredentials, error::Result};

const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
const TOKEN_URL: &str = "https://oauth2.googleapis.com/token";
const JWT_GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// How long an assertion is good, which is the longest that is taken.
const ASSERTION: Duration = Duration::from_secs(3600);
const METADATA: &str = "metadata.google.internal";

/// A credentials file, of the types that stand for an account by themselves.
#[derive(Deserialize)]
struct File {
    r#type: String,
    token_uri: Option<String>,
    client_email: Option<String>,
    private_key: Option<SecretString>,
    private_key_id: Option<String>,
    client_id: Option<String>,
    client_secret: Option<SecretString>,
    refresh_token: Option<SecretString>,
}

pub(super) async fn issue(issuer: &Issuer, credentials: &GoogleCredentials) -> Result<Issued> {
    match credentials {
        GoogleCredentials::Inline(text) => by_file(issuer, text.text().expose_secret()).await,
        GoogleCredentials::File(path) => by_file(issuer, &issuer.needed_file(path).await?).await,
        GoogleCredentials::Ambient => match ambient(issuer).await? {
            Some(text) => by_file(issuer, &text).await,
            None => by_metadata(issuer).await,
        },
    }
}

/// The file that Google's own tools would take, if there is one.
async fn ambient(issuer: &Issuer) -> Result<Option<String>> {
    if let Some(path) = issuer.variable("GOOGLE_APPLICATION_CREDENTIALS") {
        return issuer.needed_file(Path::new(&path)).await.map(Some);
    }
    let folder = issuer.variable("CLOUDSDK_CONFIG").map(PathBuf::from);
    let folder = folder.or_else(|| Some(PathBuf::from(issuer.variable("HOME")?).join(".config/gcloud")));
    match folder {
        Some(folder) => issuer.optional_file(&folder.join("application_default_credentials.json")).await,
        None => Ok(None),
    }
}

async fn by_file(issuer: &Issuer, text: &str) -> Result<Issued> {
    // The decoder's words may quote a secret.
    let file: File = serde_json::from_str(text).map_err(|_| refused("the Google credentials are no JSON object with a `type`"))?;
    let token_url = file.token_uri.as_deref().unwrap_or(TOKEN_URL);
    let lacks = |field: &str| refused(format!("the Google credentials lack `{field}`"));
    match file.r#type.as_str() {
        "service_account" => {
            let assertion = file.assertion(token_url, SystemTime::now())?;
            oauth::exchange(issuer, token_url, &[("grant_type", JWT_GRANT), ("assertion", assertion.expose_secret())], None).await
        }
        "authorized_user" => {
            let secret = file.client_secret.as_ref().ok_or_else(|| lacks("client_secret"))?;
            let refresh = file.refresh_token.as_ref().ok_or_else(|| lacks("refresh_token"))?;
            let pairs = [
                ("grant_type", "refresh_token"),
                ("client_id", file.client_id.as_deref().ok_or_else(|| lacks("client_id"))?),
                ("client_secret", secret.expose_secret()),
                ("refresh_token", refresh.expose_secret()),
            ];
            oauth::exchange(issuer, token_url, &pairs, None).await
        }
        other => Err(refused(format!(
            "Google credentials of type `{other}` are not supported; use service_account, authorized_user or the metadata server"
        ))),
    }
}

impl File {
    /// A signed statement of who asks, RFC 7523.
    fn assertion(&self, token_url: &str, now: SystemTime) -> Result<SecretString> {
        let lacks = |field: &str| refused(format!("the Google credentials lack `{field}`"));
        let email = self.client_email.as_deref().ok_or_else(|| lacks("client_email"))?;
        let key = key(self.private_key.as_ref().ok_or_else(|| lacks("private_key"))?)?;
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let head = json!({ "alg": "RS256", "typ": "JWT", "kid": self.private_key_id });
        let claims = json!({
            "iss": email,
            "scope": SCOPE,
            "aud": token_url,
            "iat": now.as_secs(),
            "exp": (now + ASSERTION).as_secs(),
        });
        let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let told = format!("{}.{}", encode(head.to_string().as_bytes()), encode(claims.to_string().as_bytes()));
        let mut signature = vec![0; key.public_modulus_len()];
        key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), told.as_bytes(), &mut signature)
            .map_err(|_| refused("the Google credentials' `private_key` does not sign"))?;
        Ok(format!("{told}.{}", encode(&signature)).into())
    }
}

fn key(pem: &SecretString) -> Result<RsaKeyPair> {
    let unfit = || refused("the Google credentials' `private_key` is no RSA key in PEM form");
    let key = match PrivateKeyDer::from_pem_slice(pem.expose_secret().as_bytes()) {
        Ok(PrivateKeyDer::Pkcs8(key)) => RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()),
        Ok(PrivateKeyDer::Pkcs1(key)) => RsaKeyPair::from_der(key.secret_pkcs1_der()),
        Ok(_) | Err(_) => return Err(unfit()),
    };
    key.map_err(|_| unfit())
}

/// The account that the machine itself runs as.
async fn by_metadata(issuer: &Issuer) -> Result<Issued> {
    let host = issuer.variable("GCE_METADATA_HOST").unwrap_or_else(|| METADATA.to_owned());
    let query = form([("scopes", SCOPE)]);
    let request = Request::get(format!("http://{host}/computeMetadata/v1/instance/service-accounts/default/token?{query}"))
        .header("metadata-flavor", "Google")
        .body(Bytes::new())
        .map_err(|_| refused("GCE_METADATA_HOST is no host"))?;
    let answer = issuer.send_near(request).await.map_err(|error| match error.upstream_status_code() {
        Some(_) => error,
        None => unavailable(format!("no Google credentials file, and no metadata server: {error:?}")),
    })?;
    if answer.headers.get("metadata-flavor").is_none_or(|flavour| flavour != "Google") {
        return Err(refused("no Google credentials file, and what answers as metadata server is none"));
    }
    oauth::token(&answer, &[])
}
