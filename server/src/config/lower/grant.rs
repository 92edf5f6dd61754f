//! How a deployment without a key gets credentials that expire, by the settings and secrets of its `config`.

use std::{path::PathBuf, time::Duration};

use http::{Uri, header};
use secrecy::SecretString;

use super::{fields::Fields, upstream::Upstream};
use crate::{
    config::{
        AwsGrant, AwsKeys, AwsRole, AwsSource, ClientCredentials, GoogleCredentials, Grant, Place, Proof, diagnostic::Diagnostic,
        raw::RawModel, reading::Reading, tree::At,
    },
    provider::Grants,
};

/// Whom Microsoft's directory answers as, where the environment names no other cloud.
const ENTRA: &str = "https://login.microsoftonline.com";

/// The grant that a row and what is given to it make; `None` when it is not asked for one. What is missing is judged by what the file has,
/// so that those who do not know its secrets find the same.
pub(super) fn lower(model: &At<RawModel>, fields: &Fields, upstream: &Upstream, place: &Place, reading: &mut Reading<'_>) -> Option<Grant> {
    let asked = Asked { model, fields, upstream };
    match fields.provider.grant? {
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
    upstream: &'a Upstream,
}

/// What of a grant the file has.
enum Part<'a> {
    /// This field, and maybe others.
    Field(&'a str),
    /// Nothing: it is all of the environment, or there is no grant.
    None,
    /// Nothing, and a header in the token's place.
    Header,
}

impl<'a> Asked<'a> {
    fn setting(&self, name: &str) -> Option<String> {
        Some(self.fields.settings.get(name)).filter(|value| !value.is_empty()).map(str::to_owned)
    }

    fn secret(&self, name: &str) -> Option<SecretString> {
        self.fields.secrets.iter().find(|(known, _)| *known == name).map(|(_, secret)| secret.clone())
    }

    fn is_given(&self, name: &str) -> bool {
        self.fields.given(name).is_some()
    }

    /// Which of these fields, that a token is got with, the file has.
    fn part(&self, names: &[&'a str]) -> Part<'a> {
        match names.iter().find(|name| self.is_given(name)) {
            Some(name) => Part::Field(name),
            None if self.upstream.written.iter().any(|(name, _)| *name == header::AUTHORIZATION) => Part::Header,
            None => Part::None,
        }
    }

    /// Says that something is missing that another thing needs, unless it was given and is only not set.
    fn lacks(&self, name: &str, needs: &str, env: Option<&str>, reading: &mut Reading<'_>) {
        if !reading.is_damaged(self.model.spot) && !self.is_given(name) {
            let or_env = env.map(|env| format!(", or the environment variable {env}")).unwrap_or_default();
            let diagnostic = Diagnostic::new(format!("`{name}` is missing, which `{needs}` needs"));
            reading.error(self.model.spot, diagnostic.expected(format!("`{name}` in `config`{or_env}")));
        }
    }

    fn aws(&self, service: &'static str, place: &Place, reading: &mut Reading<'_>) -> Option<AwsGrant> {
        let source = self.aws_source(reading);
        let Some(region) = self.setting("aws_region") else {
            // Without one nothing would be signed, and the requests sent all the same.
            if matches!(place, Place::Http(_)) && !reading.is_damaged(self.model.spot) {
                let diagnostic = Diagnostic::new("`aws_region` is missing, which signatures need, and the address does not tell it");
                let expected = "`aws_region` in `config`, or the environment variable AWS_REGION; or a key, or `upstream.auth`";
                reading.error(self.model.spot, diagnostic.expected(expected));
            }
            return None;
        };
        self.check_region(&region, reading);
        let duration = self.setting("session_length_seconds").and_then(|text| self.seconds(&text, reading));
        let role = self.setting("aws_role_arn").map(|arn| AwsRole {
            arn,
            session_name: AwsRole::SESSION.to_owned(),
            duration,
            external_id: self.setting("aws_external_id"),
        });
        Some(AwsGrant { region, service, source: source?, role })
    }

    fn aws_source(&self, reading: &mut Reading<'_>) -> Option<AwsSource> {
        let (id, secret) = ("aws_access_key_id", "aws_secret_access_key");
        match (self.is_given(id), self.is_given(secret)) {
            (false, false) => return Some(AwsSource::Chain { profile: self.setting("aws_profile") }),
            (true, false) => self.lacks(secret, id, None, reading),
            // Without it the secret would say nothing, and the keys of the machine would sign.
            (false, true) => self.lacks(id, secret, None, reading),
            (true, true) => {}
        }
        Some(AwsSource::Keys(AwsKeys {
            access_key_id: self.setting(id)?,
            secret_access_key: self.secret(secret)?.into(),
            session_token: self.secret("aws_session_token").map(Into::into),
        }))
    }

    /// A request is signed for one region, which must be that of the address.
    fn check_region(&self, region: &str, reading: &mut Reading<'_>) {
        let Some((spot, other)) = self.fields.in_hosts.iter().find(|(_, other)| *other != region) else { return };
        if let Some(given) = self.fields.given("aws_region") {
            let diagnostic = Diagnostic::new(format!("`aws_region` is `{region}`, and an address is in `{other}`"));
            reading.error(given.spot, diagnostic.expected("the region of the addresses, or `aws_region` left out"));
        } else {
            let diagnostic = Diagnostic::new(format!("`aws_region` is `{region}` by one address and `{other}` by this one"));
            reading.error(*spot, diagnostic.expected("addresses of one region, for which requests are signed"));
        }
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
        let part = self.part(&["client_secret", "tenant_id", "client_id"]);
        if let Part::Header = part {
            return None;
        }
        let variable = |name: &str| reading.resolver.variable(name);
        let proof = if self.is_given("client_secret") {
            self.secret("client_secret").map(|secret| Proof::Body(secret.into()))
        } else if let Some(secret) = variable("AZURE_CLIENT_SECRET") {
            Some(Proof::Body(secret.into()))
        } else {
            // Without any proof a key is asked for.
            Some(Proof::AssertionFile(PathBuf::from(variable("AZURE_FEDERATED_TOKEN_FILE")?)))
        };
        let host = variable("AZURE_AUTHORITY_HOST").unwrap_or_else(|| ENTRA.to_owned());
        let (tenant, client_id) = (self.setting("tenant_id"), self.setting("client_id"));
        if let Part::Field(part) = part {
            for (name, value, env) in [("tenant_id", &tenant, "AZURE_TENANT_ID"), ("client_id", &client_id, "AZURE_CLIENT_ID")] {
                if value.is_none() {
                    self.lacks(name, part, Some(env), reading);
                }
            }
        }
        let (tenant, client_id) = (tenant?, client_id?);
        let Ok(token_url) = format!("{}/{tenant}/oauth2/v2.0/token", host.trim_end_matches('/')).parse() else {
            let diagnostic = Diagnostic::new("`tenant_id` makes no address of a token server");
            reading.error(self.model.spot, diagnostic.expected("an id or a domain, and AZURE_AUTHORITY_HOST an address or not set"));
            return None;
        };
        Some(client_credentials(token_url, client_id, proof?, scope))
    }

    /// At the provider's own host.
    fn own(&self, place: &Place, path: &str, scope: &str, reading: &mut Reading<'_>) -> Option<Grant> {
        let part = self.part(&["client_id", "client_secret"]);
        if let Part::Header = part {
            return None;
        }
        let client_id = self.setting("client_id");
        let secret = if self.is_given("client_secret") {
            self.secret("client_secret")
        } else {
            reading.resolver.variable("DATABRICKS_CLIENT_SECRET").map(Into::into)
        };
        if let Part::Field(part) = part {
            if client_id.is_none() {
                self.lacks("client_id", part, Some("DATABRICKS_CLIENT_ID"), reading);
            }
            if secret.is_none() {
                self.lacks("client_secret", part, Some("DATABRICKS_CLIENT_SECRET"), reading);
            }
        }
        let (client_id, secret) = (client_id?, secret?);
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
