//! An environment for tests.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use chrono::NaiveDate;

use super::{Diagnostics, Environment, LoadOptions, Loaded, SecretsMode, Source, parse};
use crate::provider::models::{Class, Prices, pico_per_token};

/// Variables and files that exist only in a test.
#[derive(Default)]
pub(crate) struct Fake {
    variables: HashMap<String, String>,
    files: HashMap<PathBuf, String>,
    /// Where nothing can be kept.
    full: Vec<PathBuf>,
    today: Option<NaiveDate>,
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

    pub(crate) fn full(mut self, folder: &str) -> Self {
        self.full.push(folder.into());
        self
    }

    pub(crate) fn day(mut self, day: &str) -> Self {
        self.today = day.parse().ok();
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

/// The price of these US dollars for a million tokens.
pub(crate) fn price(input: f64, output: f64) -> Option<Arc<Prices>> {
    let mut prices = Prices::default();
    prices.rates.set(Class::Input, pico_per_token(input));
    prices.rates.set(Class::Output, pico_per_token(output));
    Some(Arc::new(prices))
}

impl Environment for Fake {
    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }

    fn file(&self, path: &Path) -> io::Result<String> {
        self.files.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn runs(&self, program: &Path) -> bool {
        self.files.contains_key(program)
    }

    fn keeps(&self, folder: &Path) -> io::Result<()> {
        if self.full.iter().any(|full| folder.starts_with(full)) { Err(io::ErrorKind::PermissionDenied.into()) } else { Ok(()) }
    }

    fn today(&self) -> Option<NaiveDate> {
        self.today
    }
}
