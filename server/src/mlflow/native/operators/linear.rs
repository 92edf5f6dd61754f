//! Linear models: weights times features.

use crate::mlflow::native::{
    bounds::room,
    fault::Fault,
    operators::classes::{NUMBERS, Second, Transform, best, doubles, singles},
    site::{Built, Given, Site},
    tensor::Type,
    value::{Kind, Labels, Value},
};

/// A score per row of weights.
struct Weights {
    weights: Vec<f64>,
    intercepts: Vec<f64>,
    features: usize,
}

impl Weights {
    fn read(site: &Site<'_>, targets: usize) -> Result<Self, Fault> {
        let widen = |values: Vec<f32>| values.into_iter().map(f64::from).collect::<Vec<_>>();
        let (weights, intercepts) = (widen(site.floats("coefficients")), widen(site.floats("intercepts")));
        let fits = targets > 0 && !weights.is_empty() && weights.len().is_multiple_of(targets);
        if !fits || !(intercepts.is_empty() || intercepts.len() == targets) {
            return Err(site.fault("has coefficients and intercepts that do not go together"));
        }
        Ok(Self { features: weights.len() / targets, weights, intercepts })
    }

    /// Calls `with` for each row with its scores.
    fn score(&self, given: &Given<'_>, mut with: impl FnMut(&mut Vec<f64>)) -> Result<usize, Fault> {
        let tensor = given.tensor(0)?;
        let (rows, columns) = tensor.matrix()?;
        if columns != self.features {
            return Err(Fault::new(format!("{columns} features are given, {} are needed", self.features)));
        }
        room::<f64>(&[rows, self.weights.len() / self.features])?;
        let values = doubles(tensor)?;
        let mut scores = Vec::with_capacity(self.weights.len() / self.features + 1);
        for row in values.chunks_exact(columns) {
            given.stop.check()?;
            scores.clear();
            let weights = self.weights.chunks_exact(self.features).enumerate();
            scores.extend(weights.map(|(at, weights)| {
                let product: f64 = row.iter().zip(weights).map(|(value, weight)| value * weight).sum();
                product + self.intercepts.get(at).unwrap_or(&0.0)
            }));
            with(&mut scores);
        }
        Ok(rows)
    }
}

pub(crate) fn regressor(site: &Site<'_>) -> Result<Built, Fault> {
    site.expect(0, NUMBERS)?;
    let targets = usize::try_from(site.int("targets").unwrap_or(1)).unwrap_or(0);
    let (weights, transform) = (Weights::read(site, targets)?, Transform::read(site)?);
    Ok(Built::one(Type::F32, move |given| {
        let mut out = Vec::new();
        let rows = weights.score(given, |scores| {
            transform.apply(scores, Second::Left);
            out.extend_from_slice(scores);
        })?;
        singles(rows, targets, &out)
    }))
}

pub(crate) fn classifier(site: &Site<'_>) -> Result<Built, Fault> {
    site.expect(0, NUMBERS)?;
    let (labels, transform) = (Labels::read(site, "classlabels_strings", "classlabels_ints")?, Transform::read(site)?);
    let targets = match site.floats("intercepts").len() {
        0 => labels.len(),
        targets => targets,
    };
    let weights = Weights::read(site, targets)?;
    // One score chooses between two.
    if labels.len() != targets.max(2) {
        return Err(site.fault(format!("has {} labels for {} classes", labels.len(), targets.max(2))));
    }
    let second = if targets == 1 { Second::Rest } else { Second::Left };
    Ok(Built::many(vec![Kind::Tensor(labels.kind()), Kind::Tensor(Type::F32)], move |given| {
        let (mut out, mut chosen) = (Vec::new(), Vec::new());
        let rows = weights.score(given, |scores| {
            chosen.push(if scores.len() == 1 { usize::from(scores[0] > 0.0) } else { best(scores) });
            transform.apply(scores, second);
            out.extend_from_slice(scores);
        })?;
        Ok(vec![Value::Tensor(labels.of(&chosen)), Value::Tensor(singles(rows, targets.max(2), &out)?)])
    }))
}
