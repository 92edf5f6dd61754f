//! Google's tokens: a service account's signature, what gcloud left, the metadata server.

use aws_lc_rs::{
    encoding::{AsDer as _, Pkcs8V1Der},
    rsa::{KeyPair, KeySize},
    signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey},
};
use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};

use super::*;
use crate::config::GoogleCredentials;

fn pem(key: &KeyPair) -> String {
    let der: Pkcs8V1Der<'_> = key.as_der().unwrap();
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", BASE64_STANDARD.encode(der.as_ref()))
}

fn account(key: &str, server: &str) -> String {
    json!({
        "type": "service_account",
        "project_id": "p",
        "private_key_id": "key-1",
        "private_key": key,
        "client_email": "me@p.iam.gserviceaccount.com",
        "token_uri": format!("{server}/token"),
    })
    .to_string()
}

fn decoded(part: &str) -> Value {
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

#[tokio::test]
async fn a_service_account_signs() {
    let server = Server::new(|_| token("t1")).await;
    let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let text = account(&pem(&key), &server.address);
    let grants = Place::default().file("/account.json", &text).grants();
    for credentials in [GoogleCredentials::Inline(text.clone().into()), GoogleCredentials::File("/account.json".into())] {
        let credential = get(&grants, &Grant::Google(credentials)).await.unwrap();
        assert_eq!(bearer(&credential), "t1");
    }
    let seen = server.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(
        (seen[0].path.as_str(), seen[0].field("grant_type").unwrap()),
        ("/token", "urn:ietf:params:oauth:grant-type:jwt-bearer".to_owned())
    );
    let assertion = seen[0].field("assertion").unwrap();
    let parts: Vec<&str> = assertion.split('.').collect();
    let [head, claims, signature] = parts.as_slice() else { panic!("{assertion}") };
    assert_eq!(decoded(head), json!({ "alg": "RS256", "typ": "JWT", "kid": "key-1" }));
    let told = decoded(claims);
    assert_eq!(told["iss"], "me@p.iam.gserviceaccount.com");
    assert_eq!(told["scope"], "https://www.googleapis.com/auth/cloud-platform");
    assert_eq!(told["aud"], format!("{}/token", server.address));
    assert_eq!(told["exp"].as_u64().unwrap() - told["iat"].as_u64().unwrap(), 3600);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    assert!(now.abs_diff(told["iat"].as_u64().unwrap()) < 60);
    let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public_key().as_ref())
        .verify(format!("{head}.{claims}").as_bytes(), &signature)
        .unwrap();
}

#[tokio::test]
async fn what_gcloud_left_is_found() {
    let server = Server::new(|_| token("t1")).await;
    let user = json!({
        "type": "authorized_user", "client_id": "id", "client_secret": "secret", "refresh_token": "refresh",
        "token_uri": format!("{}/token", server.address),
    })
    .to_string();
    for place in [
        Place::default().with("GOOGLE_APPLICATION_CREDENTIALS", "/adc.json").file("/adc.json", &user),
        Place::default().with("HOME", "/home/me").file("/home/me/.config/gcloud/application_default_credentials.json", &user),
        Place::default().with("CLOUDSDK_CONFIG", "/sdk").with("HOME", "/x").file("/sdk/application_default_credentials.json", &user),
    ] {
        assert_eq!(bearer(&get(&place.grants(), &Grant::Google(GoogleCredentials::Ambient)).await.unwrap()), "t1");
    }
    let seen = &server.seen()[2];
    let fields = ["grant_type", "client_id", "client_secret", "refresh_token"].map(|name| seen.field(name).unwrap());
    assert_eq!(fields, ["refresh_token", "id", "secret", "refresh"]);
}

#[tokio::test]
async fn the_metadata_server_is_the_last() {
    let server = Server::new(|seen| {
        let mut answer = token("t1");
        if !seen.path.contains("instance") || seen.header("metadata-flavor") != "Google" {
            *answer.status_mut() = http::StatusCode::FORBIDDEN;
        }
        answer.headers_mut().insert("metadata-flavor", http::HeaderValue::from_static("Google"));
        answer
    })
    .await;
    let host = server.address.trim_start_matches("http://").to_owned();
    let grants = Place::default().with("GCE_METADATA_HOST", host).with("HOME", "/home/me").grants();
    assert_eq!(bearer(&get(&grants, &Grant::Google(GoogleCredentials::Ambient)).await.unwrap()), "t1");
    let expected = "/computeMetadata/v1/instance/service-accounts/default/token\
                    ?scopes=https%3A%2F%2Fwww.googleapis.com%2Fauth%2Fcloud-platform";
    assert_eq!((server.seen()[0].method.as_str(), server.seen()[0].path.as_str()), ("GET", expected));
    let nowhere = Route { proxy: Some("http://127.0.0.1:1".parse().unwrap()), ca: None };
    grants.pass(&Grant::Google(GoogleCredentials::Ambient), nowhere).get().await.unwrap();

    let other = Server::new(|_| token("t1")).await;
    let grants = Place::default().with("GCE_METADATA_HOST", other.address.trim_start_matches("http://")).grants();
    assert_refused(&get(&grants, &Grant::Google(GoogleCredentials::Ambient)).await.unwrap_err(), "what answers as metadata server is none");
}

#[tokio::test]
async fn what_is_no_credential_is_named_without_its_content() {
    let hush = "hush-hush";
    for (text, expected) in [
        (hush.to_owned(), "no JSON object"),
        (json!({ "type": 5, "x": hush }).to_string(), "no JSON object"),
        (json!({ "type": "external_account", "audience": hush }).to_string(), "`external_account` are not supported"),
        (json!({ "type": "impersonated_service_account" }).to_string(), "`impersonated_service_account` are not supported"),
        (json!({ "type": "service_account", "private_key": hush }).to_string(), "lack `client_email`"),
        (json!({ "type": "service_account", "client_email": "me" }).to_string(), "lack `private_key`"),
        (account(hush, "http://127.0.0.1:1"), "no RSA key in PEM form"),
        (account("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "http://127.0.0.1:1"), "no RSA key in PEM form"),
        (json!({ "type": "authorized_user", "client_id": "a", "client_secret": hush }).to_string(), "lack `refresh_token`"),
    ] {
        let error = get(&Place::default().grants(), &Grant::Google(GoogleCredentials::Inline(text.into()))).await.unwrap_err();
        assert_refused(&error, expected);
        assert!(!format!("{error:?}").contains(hush), "{error:?}");
    }
    let grants = Place::default().with("GOOGLE_APPLICATION_CREDENTIALS", "/none").grants();
    assert_refused(&get(&grants, &Grant::Google(GoogleCredentials::Ambient)).await.unwrap_err(), "cannot read /none");
}
