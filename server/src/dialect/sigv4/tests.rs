//! Signatures that AWS published, and some that botocore made.

use std::time::Duration;

use serde_json::Value;

use super::*;

fn keys(region: &str, service: &'static str, token: Option<&str>) -> SigningKeys {
    SigningKeys {
        access_key_id: "AKIDEXAMPLE".to_owned(),
        secret_access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
        session_token: token.map(SecretString::from),
        region: region.to_owned(),
        service,
    }
}

#[test]
fn the_published_vectors() {
    let vectors: Vec<Value> = serde_json::from_str(include_str!("testdata/vectors.json")).unwrap();
    assert_eq!(vectors.len(), 30);
    for vector in vectors {
        let text = |name: &str| vector[name].as_str().unwrap();
        let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for header in vector["headers"].as_array().unwrap() {
            let (name, value) = (header[0].as_str().unwrap(), header[1].as_str().unwrap());
            headers.entry(name.to_lowercase()).or_default().push(normal(value));
        }
        let asked = Asked {
            method: text("method"),
            path: text("path"),
            query: text("query"),
            headers: headers.iter().map(|(name, values)| (name.as_str(), values.join(","))).collect(),
            body: text("body").as_bytes(),
        };
        assert_eq!(asked.canonical(false), text("canonical"), "{}", text("name"));
        let authorization = asked.authorization(&keys("us-east-1", "service", None), "20150830T123600Z");
        assert!(authorization.ends_with(&format!("Signature={}", text("signature"))), "{}: {authorization}", text("name"));
    }
}

fn request(uri: &str, body: &'static str) -> Request<Bytes> {
    let request = Request::post(uri).header(header::CONTENT_TYPE, "application/json");
    request.header("x-request-timeout", "5000ms").body(Bytes::from_static(body.as_bytes())).unwrap()
}

/// 2026-03-04 05:06:07.
fn then() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_772_600_767)
}

/// The expected signatures are of botocore 1.44.5, `SigV4Auth`, of the same requests.
#[test]
fn requests_are_signed_as_botocore_signs_them() {
    for (uri, body, keys, expected) in [
        (
            "https://bedrock-runtime.eu-central-1.amazonaws.com/model/anthropic.claude-3-haiku-20240307-v1%3A0/converse-stream",
            r#"{"messages":[]}"#,
            keys("eu-central-1", "bedrock", None),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260304/eu-central-1/bedrock/aws4_request, SignedHeaders=content-type;host;x-amz-date, \
             Signature=d7683951fdee0da94feac52fceb4cd0af4c34e2b7163561dfdd32b0434d9837b",
        ),
        (
            "https://bedrock-runtime.us-east-1.amazonaws.com/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Ainference-profile%2F\
             us.amazon.nova-lite-v1%3A0/converse",
            r#"{"a":"é"}"#,
            keys("us-east-1", "bedrock", Some("tok/en+==")),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260304/us-east-1/bedrock/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, \
             Signature=331394fffe7f1f046192a2b78d89d289828fd6d82cdc90e2c3cecd64af2ae686",
        ),
        (
            "https://runtime.sagemaker.us-west-2.amazonaws.com:8443/endpoints/llm/invocations?b=2&a=x%20y&a=%2F",
            "",
            keys("us-west-2", "sagemaker", None),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260304/us-west-2/sagemaker/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date, Signature=2f87f25589fe8062b170c4f5b1472a174460849852f847e1b0b50a4aea6d29f8",
        ),
    ] {
        let mut request = request(uri, body);
        sign(&mut request, &keys, then()).unwrap();
        assert_eq!(request.headers()[header::AUTHORIZATION], expected);
        assert_eq!(request.headers()[DATE], "20260304T050607Z");
        assert_eq!(request.headers().get(TOKEN).is_some(), keys.session_token.is_some());
        assert!(request.headers().get(header::HOST).is_none(), "the connection writes it");
    }
}

#[test]
fn a_request_is_signed_anew() {
    let uri = "https://example.amazonaws.com/a";
    let (mut once, mut twice) = (request(uri, "x"), request(uri, "x"));
    sign(&mut twice, &keys("us-east-1", "sts", Some("old")), UNIX_EPOCH).unwrap();
    for request in [&mut once, &mut twice] {
        sign(request, &keys("us-east-1", "sts", None), then()).unwrap();
    }
    assert_eq!(once.headers(), twice.headers());
}

#[test]
fn every_x_amz_header_is_signed() {
    let mut request = request("https://example.amazonaws.com/", "");
    request.headers_mut().insert("x-amz-target", HeaderValue::from_static("a  b"));
    sign(&mut request, &keys("us-east-1", "service", None), then()).unwrap();
    let told = request.headers()[header::AUTHORIZATION].to_str().unwrap().to_owned();
    assert!(told.contains("SignedHeaders=content-type;host;x-amz-date;x-amz-target,"), "{told}");
    request.headers_mut().insert("x-amz-target", HeaderValue::from_bytes(b"\xff").unwrap());
    sign(&mut request, &keys("us-east-1", "service", None), then()).unwrap_err();
}

#[test]
fn secrets_are_not_printed() {
    let told = format!("{:?}", keys("us-east-1", "sts", Some("session")));
    assert!(!told.contains("wJalr") && !told.contains("session\""), "{told}");
    let mut request = request("https://example.amazonaws.com/", "");
    sign(&mut request, &keys("us-east-1", "sts", Some("ses-sion")), then()).unwrap();
    assert!(!format!("{request:?}").contains("ses-sion"));
}

/// The expected signature is of botocore 1.44.5, `S3SigV4Auth`: the path is not made normal.
#[test]
fn s3_signs_paths_as_they_are_sent() {
    let uri = "https://s3.eu-central-1.amazonaws.com/my.bucket/a%20b//../%C3%BC?list-type=2&prefix=x%2F&encoding-type=url";
    let mut request = Request::get(uri).header("x-amz-checksum-mode", "ENABLED").body(Bytes::new()).unwrap();
    sign(&mut request, &keys("eu-central-1", "s3", Some("tok/en+==")), then()).unwrap();
    assert_eq!(
        request.headers()[header::AUTHORIZATION],
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260304/eu-central-1/s3/aws4_request, \
         SignedHeaders=host;x-amz-checksum-mode;x-amz-content-sha256;x-amz-date;x-amz-security-token, \
         Signature=159d5c4a3f2840d411c993ce3aca96a3a03671afea9101af576f0a1da5b17dce"
    );
}
