//! Files that a tracking server hands out: `mlflow-artifacts:`.

use bytes::Bytes;
use flowgate_proto::v1::ErrorReason;
use futures_util::{FutureExt as _, future::BoxFuture};
use http::{Request, StatusCode};
use percent_encoding::utf8_percent_encode;
use serde::Deserialize;

use super::source::{Listed, MOST_FILES, MOST_FOLDERS, MOST_LIST, Opened, Source, bad_answer, bad_name, opened, range, refused, too_many};
use crate::{
    config::RelativePath,
    dialect::sigv4::UNRESERVED,
    error::{Error, Result},
    mlflow::registry::Server,
    upstream::control::{Answer, Fetch},
};

/// A folder in a tracking server's store.
pub(super) struct Proxied {
    pub(super) server: Server,
    pub(super) folder: RelativePath,
    pub(super) fetch: Fetch,
}

#[derive(Deserialize)]
struct Files {
    #[serde(default)]
    files: Vec<File>,
}

#[derive(Deserialize)]
struct File {
    path: String,
    #[serde(default)]
    is_dir: bool,
    #[serde(default)]
    file_size: Option<u64>,
}

impl Proxied {
    async fn get(&self, tail: &str, from: u64) -> Result<Answer> {
        let uri = format!("{}/api/2.0/mlflow-artifacts/artifacts{tail}", self.server.address());
        let request = Request::get(uri).body(Bytes::new());
        let mut request = request.map_err(|error| Error::internal("the name of a file makes no address").because(error))?;
        self.server.authorize(request.headers_mut())?;
        range(&mut request, from);
        let answer = (self.fetch)(request).await?;
        if answer.status == StatusCode::SERVICE_UNAVAILABLE {
            let body = answer.whole(64 << 10).await?;
            // It means that this server never will.
            if memchr::memmem::find(&body, b"serve-artifacts").is_some() {
                let message = format!("{} hands out no files; start it without `--no-serve-artifacts`", self.server.address());
                return Err(Error::new(ErrorReason::GatewayNotServing, message));
            }
            return Err(refused(StatusCode::SERVICE_UNAVAILABLE, &body, "the model"));
        }
        Ok(answer)
    }

    /// One folder; its files and folders, by their paths below the model's.
    async fn folder(&self, below: Option<&RelativePath>) -> Result<Files> {
        let path = match below {
            None => self.folder.clone(),
            Some(below) => self.folder.join(below).map_err(|error| bad_name(&error))?,
        };
        let answer = self.get(&format!("?path={}", utf8_percent_encode(path.as_str(), UNRESERVED)), 0).await?;
        let status = answer.status;
        let body = answer.whole(MOST_LIST).await?;
        if !status.is_success() {
            return Err(refused(status, &body, &format!("folder `{path}`")));
        }
        serde_json::from_slice(&body).map_err(|error| bad_answer("the tracking server's list of files is none").because(error))
    }

    async fn walk(&self) -> Result<Vec<Listed>> {
        let (mut found, mut folders, mut seen) = (Vec::new(), vec![None], 0);
        while let Some(folder) = folders.pop() {
            seen += 1;
            for file in self.folder(folder.as_ref()).await?.files {
                let name: RelativePath = file.path.parse().map_err(|error| bad_name(&error))?;
                let path = match &folder {
                    None => name,
                    Some(folder) => RelativePath::join(folder, &name).map_err(|error| bad_name(&error))?,
                };
                if file.is_dir {
                    folders.push(Some(path));
                } else {
                    found.push(Listed { path, size: file.file_size, mark: None });
                }
                if found.len() > MOST_FILES || seen + folders.len() > MOST_FOLDERS {
                    return Err(too_many());
                }
            }
        }
        Ok(found)
    }
}

impl Source for Proxied {
    fn list(&self) -> BoxFuture<'_, Result<Vec<Listed>>> {
        self.walk().boxed()
    }

    fn open<'a>(&'a self, file: &'a Listed, from: u64) -> BoxFuture<'a, Result<Opened>> {
        async move {
            let path = self.folder.join(&file.path).map_err(|error| bad_name(&error))?;
            let escaped: String = path.segments().map(|segment| format!("/{}", utf8_percent_encode(segment, UNRESERVED))).collect();
            opened(self.get(&escaped, from).await?, from, &format!("file `{}`", file.path)).await
        }
        .boxed()
    }
}
