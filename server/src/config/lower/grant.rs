//! How a deployment without a key gets credentials that expire, by the settings and secrets of its `config`.

use std::{path::PathBuf, time::Duration};

use http::Uri;
use secrecy::SecretString;

use super::fields::Fields;
use crate::{
    config::{
        AwsGrant, AwsKeys, AwsRole, AwsSource, ClientCredentials, GoogleCredentials, Grant, Place, Proof, diagnostic::Diagnostic,
        raw::RawModel, reading::Reading, tree::At,
    },
    provider::{Grants, Provider},
};

/// Whom Microsoft's directory answers as, where the environment names no other cloud.
const ENTRA: &str = "https://login.microsoftonline.com";

/// The grant that a row and what is given to it make; `None` when it is not asked for one.
pub(super) fn lower(model: &At<RawModel>, provider: &Provider, fields: &Fields, place: &Place, reading: &mut Reading<'_>) -> Option<Grant> {
    let asked = Asked { model, fields };
    match provider.grant? {
        Grants::Aws(service) => asked.aws(service, place, reading).map(Grant::Aws),
        Grants::Google => Some(Grant::Google(match asked.secret("vertex_credentials") {
            Some(text) => GoogleCredentials::Inline(text.into()),
            None => GoogleCredentials::Ambient,
        })),
        Grants::Entra(scope) => asked.entra(scope, reading),
        Grants::Own(path, scope) => asked.own(place, path, scope, reading),
    }
}

struct Asked<'a> {
    model: &'a At<RawModel>,
    fields: &'a Fields,
}

impl Asked<'_> {
    fn setting(&self, name: &str) -> Option<String> {
        Some(self.fields.settings.get(name)).filter(|value| !value.is_empty()).map(str::to_owned)
    }

    fn secret(&self, name: &str) -> Option<SecretString> {
        self.fields.secrets.iter().find(|(known, _)| *known == name).map(|(_, secret)| secret.clone())
    }

    /// Says that something is missing that another thing needs, unless it was given and is only not set.
    fn lacks(&self, name: &str, needs: &str, reading: &mut Reading<'_>) {
        if !reading.is_damaged(self.model.spot) && !self.fields.given.iter().any(|given| given.value == name) {
            let diagnostic = Diagnostic::new(format!("`{name}` is missing, which `{needs}` needs"));
            reading.error(self.model.spot, diagnostic.expected(format!("`{name}` in `config`")));
        }
    }

    fn aws(&self, service: &'static str, place: &Place, reading: &mut Reading<'_>) -> Option<AwsGrant> {
        let Some(region) = self.setting("aws_region") else {
            // Without one nothing would be signed, and the requests sent all the same.
            if matches!(place, Place::Http(_)) && !reading.is_damaged(self.model.spot) {
                let diagnostic = Diagnostic::new("`aws_region` is missing, which signatures need, and the address does not tell it");
                let expected = "`aws_region` in `config`, or the environment variable AWS_REGION; or a key, or `upstream.auth`";
                reading.error(self.model.spot, diagnostic.expected(expected));
            }
            return None;
        };
        let source = match self.setting("aws_access_key_id") {
            Some(access_key_id) => {
                let Some(secret) = self.secret("aws_secret_access_key") else {
                    self.lacks("aws_secret_access_key", "aws_access_key_id", reading);
                    return None;
                };
                let session_token = self.secret("aws_session_token").map(Into::into);
                AwsSource::Keys(AwsKeys { access_key_id, secret_access_key: secret.into(), session_token })
            }
            None if self.secret("aws_secret_access_key").is_some() => {
                // Without it the secret would say nothing, and the keys of the machine would sign.
                self.lacks("aws_access_key_id", "aws_secret_access_key", reading);
                return None;
            }
            None => AwsSource::Chain { profile: self.setting("aws_profile") },
        };
        let duration = self.setting("session_length_seconds").and_then(|text| self.seconds(&text, reading));
        let role = self.setting("aws_role_arn").map(|arn| AwsRole {
            arn,
            session_name: AwsRole::SESSION.to_owned(),
            duration,
            external_id: self.setting("aws_external_id"),
        });
        Some(AwsGrant { region, service, source, role })
    }

    /// What AWS allows as the length of a session.
    fn seconds(&self, text: &str, reading: &mut Reading<'_>) -> Option<Duration> {
        let seconds = text.parse().ok().filter(|seconds| (900..=43_200).contains(seconds)).map(Duration::from_secs);
        if seconds.is_none() {
            let diagnostic = Diagnostic::new("`session_length_seconds` is no length that a session may have");
            reading.error(self.model.spot, diagnostic.expected("900 to 43200"));
        }
        seconds
    }

    fn entra(&self, scope: &str, reading: &mut Reading<'_>) -> Option<Grant> {
        let (tenant, client_id) = (self.setting("tenant_id"), self.setting("client_id"));
        let variable = |name: &str| reading.resolver.variable(name);
        let secret = self.secret("client_secret").or_else(|| variable("AZURE_CLIENT_SECRET").map(Into::into));
        let proof = match secret {
            Some(secret) => Proof::Body(secret.into()),
            None => Proof::AssertionFile(PathBuf::from(variable("AZURE_FEDERATED_TOKEN_FILE")?)),
        };
        let host = variable("AZURE_AUTHORITY_HOST").unwrap_or_else(|| ENTRA.to_owned());
        let Some(tenant) = tenant else {
            self.lacks("tenant_id", "client_secret", reading);
            return None;
        };
        let Some(client_id) = client_id else {
            self.lacks("client_id", "tenant_id", reading);
            return None;
        };
        let token_url = format!("{}/{tenant}/oauth2/v2.0/token", host.trim_end_matches('/')).parse().ok()?;
        Some(client_credentials(token_url, client_id, proof, scope))
    }

    /// At the provider's own host.
    fn own(&self, place: &Place, path: &str, scope: &str, reading: &mut Reading<'_>) -> Option<Grant> {
        let Some(client_id) = self.setting("client_id") else {
            if self.secret("client_secret").is_some() {
                self.lacks("client_id", "client_secret", reading);
            }
            return None;
        };
        let variable = || reading.resolver.variable("DATABRICKS_CLIENT_SECRET").map(Into::into);
        let Some(secret) = self.secret("client_secret").or_else(variable) else {
            self.lacks("client_secret", "client_id", reading);
            return None;
        };
        let Place::Http(addresses) = place else { return None };
        let mut parts = addresses.first()?.clone().into_parts();
        parts.path_and_query = path.parse().ok();
        let token_url = Uri::from_parts(parts).ok()?;
        Some(client_credentials(token_url, client_id, Proof::Basic(secret.into()), scope))
    }
}

fn client_credentials(token_url: Uri, client_id: String, proof: Proof, scope: &str) -> Grant {
    Grant::ClientCredentials(ClientCredentials { token_url, client_id, proof, scope: Some(scope.to_owned()), resource: None })
}
