//! What all grants need to be asked for: HTTP, variables, files, the time.

use std::{io, path::Path, sync::Arc};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, StatusCode};
use percent_encoding::utf8_percent_encode;

use super::{Issued, aws, bad_answer, exit::Exit, google, oauth, refused, unavailable};
use crate::{
    config::{Environment, Grant},
    dialect::sigv4::UNRESERVED,
    error::Result,
    upstream::exchange::chain,
};

/// The longest answer that is read; a token is a few KiB.
const MOST_ANSWER: usize = 1 << 20;

/// Gets credentials for those who share a route.
pub(super) struct Issuer {
    environment: Arc<dyn Environment + Send + Sync>,
    /// To what is on this machine or beside it.
    near: Arc<Exit>,
    /// To all else.
    far: Arc<Exit>,
}

/// An answer, whole.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Issuer {
    pub(super) fn new(environment: Arc<dyn Environment + Send + Sync>, near: Arc<Exit>, far: Arc<Exit>) -> Self {
        Self { environment, near, far }
    }

    pub(super) async fn issue(&self, grant: &Grant) -> Result<Issued> {
        match grant {
            Grant::Aws(grant) => aws::issue(self, grant).await,
            Grant::ClientCredentials(grant) => oauth::issue(self, grant).await,
            Grant::Google(credentials) => google::issue(self, credentials).await,
        }
    }

    /// A variable that is set to something.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        self.environment.variable(name).filter(|value| !value.is_empty())
    }

    /// The text of a file, read anew each time because platforms rewrite theirs.
    pub(super) async fn file(&self, path: &Path) -> io::Result<String> {
        let (environment, path) = (Arc::clone(&self.environment), path.to_owned());
        tokio::task::spawn_blocking(move || environment.file(&path)).await.map_err(io::Error::other)?
    }

    /// The text of a file that must be there.
    pub(super) async fn needed_file(&self, path: &Path) -> Result<String> {
        self.file(path).await.map_err(|error| refused(format!("cannot read {}: {error}", path.display())))
    }

    /// The text of a file that need not be there.
    pub(super) async fn optional_file(&self, path: &Path) -> Result<Option<String>> {
        match self.file(path).await {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(refused(format!("cannot read {}: {error}", path.display()))),
        }
    }

    /// Sends a request by the route of those who ask and reads the whole answer, be it a refusal; follows nothing.
    ///
    /// # Errors
    /// `PROVIDER_UNAVAILABLE` when there is no answer, or one that says to come again.
    pub(super) async fn send(&self, request: Request<Bytes>) -> Result<Answer> {
        Self::send_by(&self.far, request).await
    }

    /// As [`Self::send`], to a service of the machine or of its platform, which no proxy reaches.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub(super) async fn send_near(&self, request: Request<Bytes>) -> Result<Answer> {
        Self::send_by(&self.near, request).await
    }

    async fn send_by(exit: &Exit, request: Request<Bytes>) -> Result<Answer> {
        let place = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        let no_answer = |error: reqwest::Error| unavailable(format!("{place}: {}", chain(&error.without_url())));
        let request = reqwest::Request::try_from(request).map_err(|error| refused(format!("{place} is no address: {}", chain(&error))))?;
        let mut response = exit.client()?.execute(request).await.map_err(no_answer)?;
        let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
        if status.is_server_error() || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS) {
            return Err(unavailable(format!("{place} answered {status}")).upstream_status(status));
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(no_answer)? {
            body.extend_from_slice(&chunk);
            if body.len() > MOST_ANSWER {
                return Err(bad_answer(format!("{place} answered with more than 1 MiB")));
            }
        }
        Ok(Answer { status, headers, body: body.freeze() })
    }
}

/// Pairs as a form's body, or a query.
pub(super) fn form<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let escape = |text| utf8_percent_encode(text, UNRESERVED);
    pairs.into_iter().map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect::<Vec<_>>().join("&")
}
