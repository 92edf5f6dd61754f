//! An environment for tests.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
};

use super::{Diagnostics, Environment, LoadOptions, Loaded, SecretsMode, Source, parse};

/// Variables and files that exist only in a test.
#[derive(Default)]
pub(crate) struct Fake {
    variables: HashMap<String, String>,
    files: HashMap<PathBuf, String>,
}

impl Fake {
    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn text(mut self, path: &str, text: &str) -> Self {
        self.files.insert(path.into(), text.to_owned());
        self
    }

    pub(crate) fn parse(&self, texts: &[&str], options: LoadOptions) -> Result<Loaded, Diagnostics> {
        let names = ["flowgate.yaml", "overlay.yaml", "third.yaml"];
        let sources: Vec<_> =
            names.iter().zip(texts).map(|(name, text)| Source { name: (*name).to_owned(), text: (*text).to_owned() }).collect();
        parse(&sources, self, options)
    }

    pub(crate) fn load(&self, text: &str) -> Loaded {
        match self.parse(&[text], LoadOptions::default()) {
            Ok(loaded) => loaded,
            Err(found) => panic!("{found}"),
        }
    }

    pub(crate) fn list(&self, text: &str) -> Loaded {
        match self.parse(&[text], LoadOptions { secrets: SecretsMode::List, lenient: false }) {
            Ok(loaded) => loaded,
            Err(found) => panic!("{found}"),
        }
    }

    pub(crate) fn errors(&self, text: &str) -> String {
        match self.parse(&[text], LoadOptions::default()) {
            Ok(_) => panic!("it loads"),
            Err(found) => found.to_string(),
        }
    }
}

impl Environment for Fake {
    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }

    fn file(&self, path: &Path) -> io::Result<String> {
        self.files.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}
