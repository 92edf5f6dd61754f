//! Client credentials, as Entra and Databricks take them.

use super::*;
use crate::config::{ClientCredentials, Proof};

fn grant(server: &str, proof: Proof) -> Grant {
    Grant::ClientCredentials(ClientCredentials {
        token_url: format!("{server}/tenant/oauth2/v2.0/token").parse::<Uri>().unwrap(),
        client_id: "app".to_owned(),
        proof,
        scope: Some("https://cognitiveservices.azure.com/.default".to_owned()),
        resource: None,
    })
}

#[tokio::test]
async fn a_secret_in_the_body() {
    let server = Server::new(|_| token("t1")).await;
    let grants = Place::default().grants();
    let credential = get(&grants, &grant(&server.address, Proof::Body("s&c=r%t".into()))).await.unwrap();
    assert_eq!(bearer(&credential), "t1");
    let seen = &server.seen()[0];
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", "/tenant/oauth2/v2.0/token"));
    assert_eq!(seen.header("content-type"), "application/x-www-form-urlencoded");
    assert_eq!(seen.header("authorization"), "");
    for (name, expected) in [
        ("grant_type", "client_credentials"),
        ("client_id", "app"),
        ("client_secret", "s&c=r%t"),
        ("scope", "https://cognitiveservices.azure.com/.default"),
    ] {
        assert_eq!(seen.field(name).as_deref(), Some(expected));
    }
    assert_eq!(seen.field("resource"), None);
}

#[tokio::test]
async fn a_secret_in_the_header() {
    let server = Server::new(|_| token("t1")).await;
    let Grant::ClientCredentials(grant) = grant(&server.address, Proof::Basic("s:1".into())) else { unreachable!() };
    let grant = ClientCredentials { scope: Some("all-apis".to_owned()), resource: Some("r".to_owned()), ..grant };
    get(&Place::default().grants(), &Grant::ClientCredentials(grant)).await.unwrap();
    let seen = &server.seen()[0];
    assert_eq!(seen.header("authorization"), "Basic YXBwOnMlM0Ex", "`app:s%3A1`");
    assert_eq!((seen.field("client_id"), seen.field("client_secret")), (None, None));
    assert_eq!((seen.field("scope").unwrap(), seen.field("resource").unwrap()), ("all-apis".to_owned(), "r".to_owned()));
}

#[tokio::test]
async fn an_assertion_is_read_anew_each_time() {
    let server = Server::new(|_| token("t1")).await;
    let place = Arc::new(Place::default().file("/var/token", "first\n"));
    let grants = Grants::new(Arc::clone(&place) as Arc<_>, Tasks::default());
    let there = grant(&server.address, Proof::AssertionFile("/var/token".into()));
    get(&grants, &there).await.unwrap();
    place.write("/var/token", "second");
    get(&grants, &there).await.unwrap();
    let seen = server.seen();
    for (seen, expected) in seen.iter().zip(["first", "second"]) {
        assert_eq!(seen.field("client_assertion").as_deref(), Some(expected));
        assert_eq!(seen.field("client_assertion_type").unwrap(), "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
        assert_eq!(seen.field("client_id").as_deref(), Some("app"));
        assert_eq!(seen.field("client_secret"), None);
    }
    assert_eq!(seen.len(), 2);
    let missing = grant(&server.address, Proof::AssertionFile("/none".into()));
    assert_refused(&get(&grants, &missing).await.unwrap_err(), "cannot read /none");
}

#[tokio::test]
async fn failures_are_told_apart_and_show_no_secret() {
    for (status, body, expected) in [
        (400, r#"{"error":"invalid_grant","error_description":"AADSTS7000215: invalid secret"}"#, ErrorReason::ProviderCredentialRejected),
        (401, r#"{"error":"invalid_client"}"#, ErrorReason::ProviderCredentialRejected),
        (400, r#"{"error":"invalid_grant","error_description":"hush-hush is wrong"}"#, ErrorReason::ProviderCredentialRejected),
        (403, "<html>", ErrorReason::ProviderCredentialRejected),
        (302, "", ErrorReason::ProviderCredentialRejected),
        (429, "", ErrorReason::ProviderUnavailable),
        (500, "", ErrorReason::ProviderUnavailable),
        (503, "", ErrorReason::ProviderUnavailable),
        (200, r#"{"access_token":7,"t":"hush-hush"}"#, ErrorReason::ProviderBadAnswer),
        (200, r#"{"access_token":"t","token_type":"mac"}"#, ErrorReason::ProviderBadAnswer),
        (200, r#"{"access_token":"t","expires_in":"soon"}"#, ErrorReason::ProviderBadAnswer),
        (200, "hush-hush", ErrorReason::ProviderBadAnswer),
    ] {
        let server = Server::new(move |_| answer(status, body)).await;
        let error = get(&Place::default().grants(), &grant(&server.address, Proof::Body("hush-hush".into()))).await.unwrap_err();
        assert_eq!(error.reason(), expected, "{status} {body}");
        assert_eq!(error.upstream_status_code(), Some(status), "{body}");
        assert!(!format!("{error:?}").contains("hush"), "{error:?}");
        assert!(!body.contains("AADSTS") || format!("{error:?}").contains("invalid_grant AADSTS7000215"), "{error:?}");
    }
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = get(&Place::default().grants(), &grant(&format!("http://{gone}"), Proof::Body("hush".into()))).await.unwrap_err();
    assert_eq!(error.reason(), ErrorReason::ProviderUnavailable);
    assert!(!format!("{error:?}").contains("hush"));
}

#[tokio::test]
async fn refusals_show_no_secret_in_any_form() {
    let secret = "hush\"1/2";
    let pair = "YXBwOmh1c2glMjIxJTJGMg==";
    let long = "x".repeat(294);
    for (proof, said) in [
        (Proof::Basic(secret.into()), secret),
        (Proof::Basic(secret.into()), "hush%221%2F2"),
        (Proof::Basic(secret.into()), pair),
        (Proof::Body(secret.into()), secret),
    ] {
        let text = format!("no {said} {long}{said}");
        let body = serde_json::json!({"error": "invalid_client", "error_description": text}).to_string().replace('/', "\\/");
        let server = Server::new(move |_| answer(401, body.clone())).await;
        let error = get(&Place::default().grants(), &grant(&server.address, proof)).await.unwrap_err();
        let told = format!("{error:?}");
        assert!(told.contains("invalid_client no *** xxx"), "{told}");
        assert!(!told.contains("hush") && !told.contains("YXBw"), "{told}");
    }
}

#[tokio::test]
async fn too_long_an_answer_is_not_read() {
    let server = Server::new(|_| answer(200, " ".repeat((1 << 20) + 1))).await;
    let error = get(&Place::default().grants(), &grant(&server.address, Proof::Body("x".into()))).await.unwrap_err();
    assert_eq!(error.reason(), ErrorReason::ProviderBadAnswer);
    assert!(format!("{error:?}").contains("more than 1 MiB"));
}

#[tokio::test]
async fn the_life_of_a_token() {
    for (told, expected) in [
        (r#"{"access_token":"t","expires_in":"120"}"#, 120),
        (r#"{"access_token":"t","expires_in":60,"token_type":"bearer"}"#, 60),
        (r#"{"access_token":"t"}"#, 300),
        (r#"{"access_token":"t","expires_in":18446744073709551615}"#, 365 * 24 * 3600),
    ] {
        let server = Server::new(move |_| answer(200, told)).await;
        let issuer = Issuer::new(Arc::new(Place::default()), Arc::default(), Arc::default());
        let issued = issuer.issue(&grant(&server.address, Proof::Body("x".into()))).await.unwrap();
        assert_eq!(issued.life, Some(Duration::from_secs(expected)), "{told}");
    }
}

#[tokio::test]
async fn tokens_are_asked_for_by_the_route_of_the_deployment() {
    let proxy = Server::new(|_| token("t1")).await;
    let grants = Place::default().grants();
    let there = grant("http://login.invalid", Proof::Body("hush".into()));
    let route = Route { proxy: Some(proxy.address.replace("http://", "http://u:p@").parse().unwrap()), ca: None };
    let pass = grants.pass(&there, route.clone());
    assert_eq!(bearer(&pass.get().await.unwrap()), "t1");
    assert_eq!(proxy.seen()[0].header("proxy-authorization"), "Basic dTpw");
    assert!(Arc::ptr_eq(&pass, &grants.pass(&there, route)) && !Arc::ptr_eq(&pass, &grants.pass(&there, Route::default())));
}

#[tokio::test]
async fn authorities_that_are_none_are_told_of() {
    let route = Route { proxy: None, ca: Some(("corp.pem".into(), Bytes::from_static(b"none"))) };
    let error = Place::default().grants().pass(&grant("https://login.invalid", Proof::Body("x".into())), route).get().await.unwrap_err();
    assert!(error.to_string().contains("corp.pem"), "{error}");
}
