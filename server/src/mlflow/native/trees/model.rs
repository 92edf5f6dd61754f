//! A model as a library wrote it: its trees, and what its answers mean.

use super::{forest::Forest, plan::MAX_FEATURES, transform::Transform};
use crate::mlflow::native::{
    bounds::{Stop, fits},
    fault::Fault,
};

/// How many bytes a score takes on its way: as the trees sum it, and as its transform takes and gives it.
const SCORE: usize = 20;

/// What a model was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// A number, or several.
    Regression,
    /// The probability of the second of two classes.
    Binary,
    /// A probability per class, or the class itself.
    Multiclass,
    /// Numbers to order by.
    Ranking,
}

/// Trees in the precision that their library compares in.
#[derive(Clone, Debug)]
pub(super) enum Engine {
    Single(Forest<f32>),
    Double(Forest<f64>),
}

/// A model that answers rows of features in the order in which it was trained.
#[derive(Clone, Debug)]
pub struct Model {
    pub(super) engine: Engine,
    /// What is transformed is this share of the raw scores: of a mean, one part in as many as there are rounds.
    pub(super) share: f64,
    pub(super) transform: Transform,
    pub(super) task: Task,
    pub(super) objective: String,
    /// How wide rows are.
    pub(super) features: usize,
    pub(super) feature_names: Vec<String>,
}

impl Model {
    /// How many features a row has.
    pub fn features(&self) -> usize {
        self.features
    }

    /// Their names; empty when the file has none.
    pub fn feature_names(&self) -> &[String] {
        &self.feature_names
    }

    /// What it was made for.
    pub fn task(&self) -> Task {
        self.task
    }

    /// The objective by its name in the file.
    pub fn objective(&self) -> &str {
        &self.objective
    }

    /// How many values an answer has.
    pub fn outputs(&self) -> usize {
        self.transform.outputs(self.scores())
    }

    /// How many raw scores a row gets: one per class or target.
    pub fn scores(&self) -> usize {
        match &self.engine {
            Engine::Single(forest) => forest.outputs(),
            Engine::Double(forest) => forest.outputs(),
        }
    }

    /// How many trees it has.
    pub fn trees(&self) -> usize {
        match &self.engine {
            Engine::Single(forest) => forest.trees(),
            Engine::Double(forest) => forest.trees(),
        }
    }

    /// How many bytes its trees take, nearly.
    pub fn bytes(&self) -> usize {
        match &self.engine {
            Engine::Single(forest) => forest.bytes(),
            Engine::Double(forest) => forest.bytes(),
        }
    }

    /// The library's own prediction, [`Self::outputs`] values per row. A missing value is NaN, a category its number.
    ///
    /// # Errors
    /// When `rows` are not rows of [`Self::features`] values or too many, and when it is told to stop.
    pub fn predict(&self, rows: &[f64], stop: &Stop) -> Result<Vec<f64>, Fault> {
        let mut scores = self.raw(rows, stop)?;
        let mut out = Vec::with_capacity(scores.len());
        if self.share != 1.0 {
            scores.iter_mut().for_each(|score| *score *= self.share);
        }
        scores.chunks_exact_mut(self.scores()).for_each(|row| self.transform.row(row, &mut out));
        Ok(out)
    }

    /// The raw scores, before the objective's transform: [`Self::scores`] values per row.
    ///
    /// # Errors
    /// As [`Self::predict`].
    pub fn raw(&self, rows: &[f64], stop: &Stop) -> Result<Vec<f64>, Fault> {
        let count = self.rows(rows)?;
        fits(count.saturating_mul(self.scores()).saturating_mul(SCORE))?;
        match &self.engine {
            Engine::Single(forest) => {
                let mut out = vec![0.0; count * forest.outputs()];
                forest.score(&narrow(rows), self.features, &mut out, stop)?;
                Ok(out.into_iter().map(f64::from).collect())
            }
            Engine::Double(forest) => {
                let mut out = vec![0.0; count * forest.outputs()];
                forest.score(rows, self.features, &mut out, stop)?;
                Ok(out)
            }
        }
    }

    /// What each feature adds to each raw score: per row and score one value per feature and a last one, the mean over the training.
    /// Together they are the score.
    ///
    /// # Errors
    /// As [`Self::predict`], when there would be too many, and when the file does not tell how much of the training went through each node.
    pub fn contributions(&self, rows: &[f64], stop: &Stop) -> Result<Vec<f64>, Fault> {
        self.rows(rows)?;
        match &self.engine {
            Engine::Single(forest) => forest.contributions(&narrow(rows), self.features, stop),
            Engine::Double(forest) => forest.contributions(rows, self.features, stop),
        }
    }

    fn rows(&self, rows: &[f64]) -> Result<usize, Fault> {
        if rows.len().checked_rem(self.features) != Some(0) {
            return Err(Fault::new(format!("{} values are no rows of {} features", rows.len(), self.features)));
        }
        Ok(rows.len() / self.features)
    }
}

/// Checks how many features a file says there are against those that its trees ask for.
pub(super) fn features(told: usize, asked: usize) -> Result<usize, Fault> {
    if told == 0 || told > MAX_FEATURES || told < asked {
        return Err(Fault::new(format!("the file tells of {told} features, and its trees ask for {asked}")));
    }
    Ok(told)
}

#[expect(clippy::cast_possible_truncation, reason = "the model was trained on values as narrow")]
fn narrow(rows: &[f64]) -> Vec<f32> {
    rows.iter().map(|value| *value as f32).collect()
}
