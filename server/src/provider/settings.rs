//! The settings that rows have in their `config`.

use super::Setting;
use crate::dialect::{mlflow, oip, templated};

pub(super) static AWS_REGION: Setting =
    Setting { env: &["AWS_REGION", "AWS_DEFAULT_REGION"], in_host: Some(aws_region), ..Setting::new("aws_region") };
pub(super) static AWS_KEY_ID: Setting = Setting::of_grant("aws_access_key_id");
pub(super) static AWS_ROLE: Setting = Setting::of_grant("aws_role_arn");
pub(super) static AWS_EXTERNAL_ID: Setting = Setting::of_grant("aws_external_id");
pub(super) static AWS_PROFILE: Setting = Setting::of_grant("aws_profile");
pub(super) static AWS_SESSION: Setting = Setting::of_grant("session_length_seconds");
pub(super) static AZURE_VERSION: Setting = Setting::new("api_version");
pub(super) static AZURE_DEPLOYMENT: Setting = Setting::new("deployment");
pub(super) static API: Setting = Setting { words: &["chat", "responses"], default: "chat", ..Setting::new("api") };
pub(super) static AZURE_TENANT: Setting = Setting { env: &["AZURE_TENANT_ID"], ..Setting::of_grant("tenant_id") };
pub(super) static AZURE_CLIENT: Setting = Setting { env: &["AZURE_CLIENT_ID"], ..Setting::of_grant("client_id") };
pub(super) static CLOUDFLARE_ACCOUNT: Setting = Setting { env: &["CLOUDFLARE_ACCOUNT_ID"], ..Setting::new("account_id") };
pub(super) static DATABRICKS_HOST: Setting = Setting { env: &["DATABRICKS_HOST"], ..Setting::new("host") };
pub(super) static DATABRICKS_CLIENT: Setting = Setting { env: &["DATABRICKS_CLIENT_ID"], ..Setting::of_grant("client_id") };
pub(super) static MLFLOW_SCHEMA: Setting = Setting { words: mlflow::SCHEMAS, ..Setting::new(mlflow::SCHEMA) };
pub(super) static MLFLOW_PLAIN: Setting = Setting { default: mlflow::PLAIN, ..MLFLOW_SCHEMA };
pub(super) static HTTP_METHOD: Setting = Setting { words: templated::METHODS, default: "POST", ..Setting::new(templated::METHOD) };
pub(super) static HTTP_PATH: Setting =
    Setting { check: Some((is_path, "a path below the address, for example `/predict`")), ..Setting::new(templated::PATH) };
pub(super) static HTTP_CONTENT_TYPE: Setting =
    Setting { check: Some((is_media_type, "a media type, for example `text/csv`")), ..Setting::new(templated::CONTENT_TYPE) };
pub(super) static OIP_VERSION: Setting = Setting::new(oip::VERSION);
pub(super) static BASE_MODEL: Setting = Setting::new("base_model");
pub(super) static SAGEMAKER_MODEL: Setting = Setting::new("served_model");
pub(super) static SAGEMAKER_STREAM: Setting = Setting { words: &["sse", "lines"], default: "sse", ..Setting::new("stream_format") };
pub(super) static SAGEMAKER_SCHEMA: Setting = Setting { words: &["openai", "tgi"], default: "openai", ..Setting::new("schema") };
pub(super) static VERTEX_PROJECT: Setting = Setting { env: &["GOOGLE_CLOUD_PROJECT"], ..Setting::new("vertex_project") };
pub(super) static VERTEX_LOCATION: Setting =
    Setting { env: &["GOOGLE_CLOUD_LOCATION"], default: "global", host: Some(vertex_host), ..Setting::new("vertex_location") };

/// The host of a location of Google's cloud: https://cloud.google.com/vertex-ai/docs/reference/rest#rest_endpoints
fn vertex_host(location: &str) -> String {
    match location {
        "global" => "aiplatform.googleapis.com".to_owned(),
        "eu" | "us" => format!("aiplatform.{location}.rep.googleapis.com"),
        _ => format!("{location}-aiplatform.googleapis.com"),
    }
}

fn is_path(text: &str) -> bool {
    text.starts_with('/') && text.parse::<http::uri::PathAndQuery>().is_ok()
}

fn is_media_type(text: &str) -> bool {
    http::HeaderValue::from_str(text).is_ok() && text.split_once('/').is_some_and(|(kind, rest)| !kind.is_empty() && !rest.is_empty())
}

/// The region in a host of AWS, which has a label of its own there: https://docs.aws.amazon.com/general/latest/gr/rande.html
fn aws_region(host: &str) -> Option<String> {
    let host = host.to_ascii_lowercase();
    let inner = [".amazonaws.com", ".amazonaws.com.cn", ".api.aws"].into_iter().find_map(|end| host.strip_suffix(end))?;
    inner.split('.').find(|label| is_region(label)).map(str::to_owned)
}

/// Words and a number, the first word of two letters, for example `us-gov-west-1`.
fn is_region(label: &str) -> bool {
    let Some((words, number)) = label.rsplit_once('-') else { return false };
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase());
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number && words.split('-').count() >= 2 && words.split('-').all(is_word) && words.find('-') == Some(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_is_read_off_hosts_of_aws_only() {
        for (host, expected) in [
            ("bedrock-runtime.eu-west-1.amazonaws.com", Some("eu-west-1")),
            ("bedrock-runtime-fips.us-gov-west-1.amazonaws.com", Some("us-gov-west-1")),
            ("vpce-0a1b-2c.bedrock-runtime.us-east-1.vpce.amazonaws.com", Some("us-east-1")),
            ("Runtime.SageMaker.CN-North-1.amazonaws.com.cn", Some("cn-north-1")),
            ("bedrock-runtime.us-east-1.api.aws", Some("us-east-1")),
            ("bedrock-runtime.amazonaws.com", None),
            ("gateway-2.corp.amazonaws.com", None),
            ("bedrock-runtime.eu-west-1.example.com", None),
            ("localhost", None),
        ] {
            assert_eq!(aws_region(host).as_deref(), expected, "{host}");
        }
    }
}
