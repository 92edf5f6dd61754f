//! Files of a web server. It has no lists: what is fetched is what `MLmodel` names, and what MLflow writes beside it.

use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};
use http::{Request, Uri};

use super::source::{Listed, Opened, Source, bad_answer, bad_name, opened, range, refused};
use crate::{
    config::{Location, RelativePath},
    error::{Error, Result},
    mlflow::model_file::{LONGEST, ModelFile},
    upstream::control::{Answer, Fetch},
};

/// What MLflow writes beside every model, and models do well without.
const BESIDE: [&str; 5] = ["conda.yaml", "python_env.yaml", "requirements.txt", "input_example.json", "serving_input_example.json"];

/// A folder on a web server.
pub(super) struct Web {
    pub(super) folder: Uri,
    pub(super) fetch: Fetch,
}

impl Web {
    async fn get(&self, path: &RelativePath, from: u64, head: bool) -> Result<Answer> {
        let place = Location::Http(self.folder.clone()).join(path).map_err(|error| bad_answer(error.to_string()))?;
        let method = if head { http::Method::HEAD } else { http::Method::GET };
        let request = Request::builder().method(method).uri(String::from(place)).body(Bytes::new());
        let mut request = request.map_err(|error| Error::internal("the name of a file makes no address").because(error))?;
        range(&mut request, from);
        (self.fetch)(request).await
    }

    async fn walk(&self) -> Result<Vec<Listed>> {
        let main: RelativePath = ModelFile::NAME.parse().map_err(|error| bad_name(&error))?;
        let answer = self.get(&main, 0, false).await?;
        let status = answer.status;
        let text = answer.whole(LONGEST).await?;
        if !status.is_success() {
            return Err(refused(status, &text, "file `MLmodel`"));
        }
        let model = ModelFile::read(&text)?;
        let mut found = vec![Listed { path: main, size: Some(text.len() as u64), mark: None }];
        for path in model.files() {
            if let Some(listed) = self.look(&path).await? {
                found.push(listed);
            } else if !BESIDE.contains(&path.as_str()) {
                return Err(bad_answer(format!(
                    "`{path}` is not on the web server, or a folder, which a web server cannot list; serve the model from a store"
                )));
            }
        }
        for name in BESIDE {
            let path: RelativePath = name.parse().map_err(|error| bad_name(&error))?;
            if !found.iter().any(|listed| listed.path == path)
                && let Some(listed) = self.look(&path).await?
            {
                found.push(listed);
            }
        }
        Ok(found)
    }

    /// What a file's head says of it; `None` when there is none.
    async fn look(&self, path: &RelativePath) -> Result<Option<Listed>> {
        let answer = self.get(path, 0, true).await?;
        if answer.status.is_success() {
            let text = |name| answer.headers.get(name).and_then(|value| value.to_str().ok());
            let size = text(http::header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
            return Ok(Some(Listed { path: path.clone(), size, mark: text(http::header::ETAG).map(ToOwned::to_owned) }));
        }
        // Some redirect from a folder to its page.
        if matches!(answer.status.as_u16(), 300..=399 | 404 | 410) {
            return Ok(None);
        }
        Err(refused(answer.status, b"", &format!("file `{path}`")))
    }
}

impl Source for Web {
    fn list(&self) -> BoxFuture<'_, Result<Vec<Listed>>> {
        self.walk().boxed()
    }

    fn open<'a>(&'a self, file: &'a Listed, from: u64) -> BoxFuture<'a, Result<Opened>> {
        async move { opened(self.get(&file.path, from, false).await?, from, &format!("file `{}`", file.path)).await }.boxed()
    }
}
