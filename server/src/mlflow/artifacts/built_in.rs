//! Files of the models that this binary brings along.

use bytes::Bytes;
use flowgate_proto::v1::ErrorReason;
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream};

use super::source::{Listed, Opened, Source, Sums};
use crate::{
    config::RelativePath,
    error::{Error, Result},
};

/// A file by the path that begins with its model's name, and its content.
type Brought = (&'static str, &'static [u8]);

/// A small forest on Fisher's irises; `tests/interop/builtin_iris.py` makes it.
const FILES: &[Brought] = &[
    ("iris/MLmodel", include_bytes!("../builtin/iris/MLmodel")),
    ("iris/model.onnx", include_bytes!("../builtin/iris/model.onnx")),
    ("iris/serving_input_example.json", include_bytes!("../builtin/iris/serving_input_example.json")),
];

/// A model by its name.
pub(super) struct BuiltIn(pub(super) RelativePath);

impl BuiltIn {
    /// The files below the name: the path within, and the content.
    fn files(&self) -> impl Iterator<Item = Brought> {
        FILES.iter().filter_map(|(path, content)| Some((path.strip_prefix(self.0.as_str())?.strip_prefix('/')?, *content)))
    }

    fn missing(&self) -> Error {
        let mut names: Vec<_> = FILES.iter().filter_map(|(path, _)| path.split('/').next()).collect();
        names.dedup();
        let message = format!("no model `{}` is built in; there is {}", self.0, names.join(", "));
        Error::new(ErrorReason::ProviderNotFound, message)
    }
}

impl Source for BuiltIn {
    fn list(&self) -> BoxFuture<'_, Result<Vec<Listed>>> {
        let listed = self.files().filter_map(|(path, content)| {
            let mark = Some(blake3::hash(content).to_hex().to_string());
            Some(Listed { path: path.parse().ok()?, size: u64::try_from(content.len()).ok(), mark })
        });
        let listed: Vec<_> = listed.collect();
        let found = if listed.is_empty() { Err(self.missing()) } else { Ok(listed) };
        async { found }.boxed()
    }

    fn open<'a>(&'a self, file: &'a Listed, from: u64) -> BoxFuture<'a, Result<Opened>> {
        let found = self.files().find(|(path, _)| *path == file.path.as_str()).ok_or_else(|| self.missing());
        let opened = found.map(|(_, content)| {
            let rest = usize::try_from(from).ok().and_then(|from| content.get(from..)).unwrap_or_default();
            Opened {
                body: stream::iter([Ok(Bytes::from_static(rest))]).boxed(),
                from,
                size: file.size,
                mark: file.mark.clone(),
                sums: Sums::default(),
            }
        });
        async { opened }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_is_whole_and_what_is_not_there_is_said() {
        let iris = BuiltIn("iris".parse().unwrap());
        let listed = iris.list().await.unwrap();
        assert_eq!(listed.len(), 3);
        let model = listed.iter().find(|file| file.path.as_str() == "model.onnx").unwrap();
        let rest: Vec<_> = iris.open(model, 10).await.unwrap().body.collect().await;
        assert_eq!(rest[0].as_ref().unwrap().len() as u64, model.size.unwrap() - 10);
        let error = BuiltIn("iri".parse().unwrap()).list().await.unwrap_err();
        assert_eq!(
            (error.reason(), error.to_string().as_str()),
            (ErrorReason::ProviderNotFound, "no model `iri` is built in; there is iris")
        );
    }
}
