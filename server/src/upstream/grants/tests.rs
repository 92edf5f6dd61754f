//! Grants against token servers on port 0, and the cache against a fetch of its own.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering::SeqCst},
    time::SystemTime,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use secrecy::ExposeSecret as _;
use tokio::net::TcpListener;

use super::*;

mod aws;
mod google;
mod oauth;
mod passes;

/// A request as a token server sees it.
#[derive(Clone, Debug)]
struct Seen {
    method: String,
    path: String,
    headers: HeaderMap,
    body: String,
}

impl Seen {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// A field of a form.
    fn field(&self, name: &str) -> Option<String> {
        let pair = self.body.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name)?;
        Some(percent_encoding::percent_decode_str(pair.1).decode_utf8().unwrap().into_owned())
    }
}

/// A token server.
struct Server {
    address: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    async fn new(answer: impl Fn(&Seen) -> Response<String> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (tasks, noted, answer) = (Tasks::default(), Arc::clone(&seen), Arc::new(answer));
        tasks.clone().spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (noted, answer) = (Arc::clone(&noted), Arc::clone(&answer));
                let service = service_fn(move |request: Request<Incoming>| {
                    let (noted, answer) = (Arc::clone(&noted), Arc::clone(&answer));
                    async move {
                        let (parts, body) = request.into_parts();
                        let body = body.collect().await?.to_bytes();
                        let seen = Seen {
                            method: parts.method.to_string(),
                            path: parts.uri.to_string(),
                            headers: parts.headers,
                            body: String::from_utf8(body.to_vec()).unwrap(),
                        };
                        let answer = answer(&seen);
                        noted.lock().unwrap().push(seen);
                        Ok::<_, hyper::Error>(answer.map(|body| Full::new(Bytes::from(body))))
                    }
                });
                tasks.spawn(async move {
                    drop(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
                });
            }
        });
        Self { address, seen }
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

fn answer(status: u16, body: impl Into<String>) -> Response<String> {
    Response::builder().status(status).body(body.into()).unwrap()
}

fn token(text: &str) -> Response<String> {
    answer(200, format!(r#"{{"access_token":"{text}","token_type":"Bearer","expires_in":3600}}"#))
}

/// Variables, and files that may change.
#[derive(Default)]
struct Place {
    variables: HashMap<&'static str, String>,
    files: Mutex<HashMap<PathBuf, String>>,
}

impl Place {
    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.variables.insert(name, value.into());
        self
    }

    fn write(&self, path: &str, text: &str) {
        self.files.lock().unwrap().insert(path.into(), text.to_owned());
    }

    fn file(self, path: &str, text: &str) -> Self {
        self.write(path, text);
        self
    }

    fn grants(self) -> Grants {
        Grants::new(Arc::new(self), Tasks::default())
    }
}

impl Environment for Place {
    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }

    fn file(&self, path: &Path) -> io::Result<String> {
        self.files.lock().unwrap().get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn runs(&self, _: &Path) -> bool {
        false
    }

    fn keeps(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn today(&self) -> Option<chrono::NaiveDate> {
        None
    }
}

async fn get(grants: &Grants, grant: &Grant) -> Result<Arc<Credential>> {
    grants.pass(grant, Route::default()).get().await
}

fn bearer(credential: &Credential) -> &str {
    let Credential::Header { header, prefix, secret } = credential else { panic!("{credential:?}") };
    assert_eq!((header.as_str(), *prefix), ("authorization", "Bearer "));
    secret.expose_secret()
}

/// Refused, with a word of why in the log and none of it for callers.
fn assert_refused(error: &Error, why: &str) {
    let logged = format!("{error:?}");
    assert!(logged.starts_with("PROVIDER_CREDENTIAL_REJECTED") && logged.contains(why), "{why}: {logged}");
    assert!(!error.to_string().contains(why), "{error}");
}
