//! Files of S3 and of stores that speak its protocol.

use std::{borrow::Cow, sync::Arc, time::SystemTime};

use bytes::Bytes;
use flowgate_proto::v1::ErrorReason;
use futures_util::{FutureExt as _, future::BoxFuture};
use http::{HeaderName, HeaderValue, Request, StatusCode, header};
use percent_encoding::{percent_decode_str, utf8_percent_encode};

use super::source::{Listed, MOST_FILES, MOST_FOLDERS, MOST_LIST, Opened, Source, bad_answer, bad_name, opened, range, refused, too_many};
use crate::{
    config::{AwsGrant, AwsSource, Environment, Grant, RelativePath},
    dialect::sigv4::UNRESERVED,
    error::{Error, Result},
    upstream::{
        control::{Answer, Fetch},
        grants::{Grants, Pass, Route},
    },
};

/// How many pages of a list are read: they may be full of what is no file.
const MOST_PAGES: usize = MOST_FOLDERS;

/// Asks for the checksums of an object.
const CHECKSUMS: HeaderName = HeaderName::from_static("x-amz-checksum-mode");

/// A folder of a bucket.
pub(super) struct S3 {
    /// Where the bucket is, without a `/` at the end.
    bucket: String,
    prefix: Option<RelativePath>,
    region: String,
    pass: Arc<Pass>,
    fetch: Fetch,
}

/// An endpoint with its host as it is sent, which is signed: in small letters, and without the port that is the scheme's own.
fn as_sent(endpoint: &str) -> String {
    let Some((scheme, rest)) = endpoint.split_once("://") else { return endpoint.to_owned() };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (scheme, host) = (scheme.to_ascii_lowercase(), host.to_ascii_lowercase());
    let own = if scheme == "https" { ":443" } else { ":80" };
    format!("{scheme}://{}{path}", host.strip_suffix(own).unwrap_or(&host))
}

/// One page of a list.
#[derive(Debug, Default, PartialEq)]
struct Page {
    /// Name, size, mark.
    objects: Vec<(String, u64, Option<String>)>,
    next: Option<String>,
}

impl S3 {
    /// A folder of a bucket, at the endpoint and with the keys that AWS's own tools would take; `MLFLOW_S3_ENDPOINT_URL` goes first.
    pub(super) fn new(bucket: &str, prefix: Option<&RelativePath>, environment: &dyn Environment, grants: &Grants, fetch: Fetch) -> Self {
        let first = |names: &[&str]| names.iter().find_map(|name| environment.variable(name).filter(|value| !value.is_empty()));
        let region = first(&["AWS_REGION", "AWS_DEFAULT_REGION"]).unwrap_or_else(|| "us-east-1".to_owned());
        let place = match first(&["MLFLOW_S3_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]) {
            Some(endpoint) => format!("{}/{bucket}", as_sent(&endpoint).trim_end_matches('/')),
            // A certificate for all buckets covers no name with a dot in it.
            None if bucket.contains('.') => format!("https://s3.{region}.amazonaws.com/{bucket}"),
            None => format!("https://{bucket}.s3.{region}.amazonaws.com"),
        };
        let source = AwsSource::Chain { profile: None };
        let pass = grants.pass(&Grant::Aws(AwsGrant { region: region.clone(), service: "s3", source, role: None }), Route::default());
        Self { bucket: place, prefix: prefix.cloned(), region, pass, fetch }
    }

    async fn get(&self, tail: &str, from: u64, mark: Option<&str>) -> Result<Answer> {
        let request = Request::get(format!("{}{tail}", self.bucket)).body(Bytes::new());
        let mut request = request.map_err(|error| {
            let message = "the S3 endpoint is no address; correct MLFLOW_S3_ENDPOINT_URL";
            Error::new(ErrorReason::GatewayNotServing, message).because(error)
        })?;
        range(&mut request, from);
        if let Some(mark) = mark.and_then(|mark| mark.parse().ok()) {
            request.headers_mut().insert(header::IF_MATCH, mark);
            request.headers_mut().insert(CHECKSUMS, HeaderValue::from_static("ENABLED"));
        }
        let credential = self.pass.get().await?;
        credential.authorize(&mut request, SystemTime::now())?;
        let answer = (self.fetch)(request).await?;
        if matches!(answer.status, StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED) {
            self.pass.forget(&credential);
        }
        let region = answer.headers.get("x-amz-bucket-region").and_then(|region| region.to_str().ok());
        match region.filter(|region| *region != self.region && !answer.status.is_success()) {
            Some(region) => {
                let message = format!("the bucket is in region {region} and not in {}; set AWS_REGION={region}", self.region);
                Err(Error::new(ErrorReason::GatewayNotServing, message))
            }
            None => Ok(answer),
        }
    }

    async fn page(&self, next: Option<&str>) -> Result<Page> {
        let escape = |text: &str| utf8_percent_encode(text, UNRESERVED).to_string();
        let prefix = self.prefix.as_ref().map(|prefix| format!("&prefix={}", escape(&format!("{prefix}/")))).unwrap_or_default();
        let token = next.map(|next| format!("&continuation-token={}", escape(next))).unwrap_or_default();
        let answer = self.get(&format!("/?list-type=2&encoding-type=url{token}{prefix}"), 0, None).await?;
        let status = answer.status;
        let body = answer.whole(MOST_LIST).await?;
        if !status.is_success() {
            return Err(refused(status, &body, "bucket of the model"));
        }
        page(&String::from_utf8_lossy(&body)).ok_or_else(|| bad_answer("the store's list of files is none; check MLFLOW_S3_ENDPOINT_URL"))
    }

    async fn walk(&self) -> Result<Vec<Listed>> {
        let before = self.prefix.as_ref().map(|prefix| format!("{prefix}/")).unwrap_or_default();
        let (mut found, mut next) = (Vec::new(), None);
        for _ in 0..MOST_PAGES {
            let page = self.page(next.as_deref()).await?;
            // What ends in `/` stands for a folder.
            for (key, size, mark) in page.objects.into_iter().filter(|(key, ..)| !key.ends_with('/')) {
                let name = key.strip_prefix(&before).ok_or_else(|| bad_answer("the store lists files of other folders"))?;
                found.push(Listed { path: name.parse().map_err(|error| bad_name(&error))?, size: Some(size), mark });
            }
            if found.len() > MOST_FILES {
                return Err(too_many());
            }
            next = page.next;
            if next.is_none() {
                return Ok(found);
            }
        }
        Err(too_many())
    }
}

impl Source for S3 {
    fn list(&self) -> BoxFuture<'_, Result<Vec<Listed>>> {
        self.walk().boxed()
    }

    fn open<'a>(&'a self, file: &'a Listed, from: u64) -> BoxFuture<'a, Result<Opened>> {
        async move {
            let key = match &self.prefix {
                None => file.path.clone(),
                Some(prefix) => prefix.join(&file.path).map_err(|error| bad_name(&error))?,
            };
            let escaped: String = key.segments().map(|segment| format!("/{}", utf8_percent_encode(segment, UNRESERVED))).collect();
            opened(self.get(&escaped, from, file.mark.as_deref()).await?, from, &format!("file `{}`", file.path)).await
        }
        .boxed()
    }
}

/// A page of a list in XML. What it is read for holds neither attributes, comments nor nested elements of one name.
fn page(xml: &str) -> Option<Page> {
    element(xml, "ListBucketResult").or_else(|| xml.split_once("<ListBucketResult ").map(|(_, rest)| rest))?;
    // Some stores do not know that names can be escaped so, and do not say that they are.
    let is_escaped = element(xml, "EncodingType").is_some_and(|kind| kind.trim() == "url");
    let plain = |text: &str| {
        let text = unescape(text);
        if is_escaped { percent_decode_str(&text.replace('+', " ")).decode_utf8().ok().map(Cow::into_owned) } else { Some(text) }
    };
    let mut page = Page::default();
    let mut rest = xml;
    while let Some((_, after)) = rest.split_once("<Contents>") {
        let (object, after) = after.split_once("</Contents>")?;
        let mark = element(object, "ETag").map(unescape);
        page.objects.push((plain(element(object, "Key")?)?, element(object, "Size")?.trim().parse().ok()?, mark));
        rest = after;
    }
    if element(xml, "IsTruncated").is_some_and(|more| more.trim() == "true") {
        page.next = Some(unescape(element(xml, "NextContinuationToken")?));
    }
    Some(page)
}

fn unescape(text: &str) -> String {
    let plain = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&#34;", "\""), ("&#39;", "'"), ("&amp;", "&")];
    plain.iter().fold(text.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}

fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_signed_as_it_is_sent() {
        for (written, sent) in [
            ("http://Rook-Ceph:80", "http://rook-ceph"),
            ("HTTPS://S3.corp:443/Sub", "https://s3.corp/Sub"),
            ("https://s3.corp:80", "https://s3.corp:80"),
            ("http://127.0.0.1:9000/", "http://127.0.0.1:9000/"),
        ] {
            assert_eq!(as_sent(written), sent);
        }
    }

    #[test]
    fn pages_are_read() {
        let xml = "<?xml version=\"1.0\"?>\n<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>b</Name><EncodingType>url</EncodingType>\
                   <Contents><Key>a%2FMLmodel</Key><LastModified>x</LastModified><ETag>&quot;e-1&quot;</ETag><Size>12</Size></Contents>\
                   <Contents><Key>a%2Fx+y%C3%BC%26.txt</Key><Size>0</Size></Contents><IsTruncated>true</IsTruncated>\
                   <NextContinuationToken>t&amp;1==</NextContinuationToken></ListBucketResult>";
        let expected = Page {
            objects: vec![("a/MLmodel".to_owned(), 12, Some("\"e-1\"".to_owned())), ("a/x yü&.txt".to_owned(), 0, None)],
            next: Some("t&1==".to_owned()),
        };
        assert_eq!(page(xml), Some(expected));
        let plain = "<ListBucketResult><Contents><Key>a+b%2F&amp;c</Key><Size>1</Size></Contents></ListBucketResult>";
        assert_eq!(page(plain).unwrap().objects[0].0, "a+b%2F&c");
        assert_eq!(page("<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"), Some(Page::default()));
        for wrong in ["", "<html></html>", &xml.replace("<Size>12</Size>", "<Size>-1</Size>"), &xml.replace("</Contents>", "")] {
            assert_eq!(page(wrong), None, "{wrong}");
        }
        assert_eq!(page(&xml.replace("NextContinuationToken", "Other")), None);
    }
}
