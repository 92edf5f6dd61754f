//! What classifiers share: their labels, and what is made of scores. The quirks are ONNX Runtime's, for models are made to its answers.

use std::sync::Arc;

use crate::mlflow::native::{
    fault::Fault,
    operators::{elementwise::sigmoid, reduce::soft},
    site::Site,
    tensor::{Tensor, Type},
    value::Labels,
};

/// What becomes of the scores of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transform {
    None,
    Logistic,
    Softmax,
    SoftmaxZero,
    Probit,
}

/// What becomes of one score where there are two classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Second {
    /// It stays alone.
    Left,
    /// It is a probability: the other class has the rest.
    Rest,
    /// It is a margin: the other class has its negative.
    Opposite,
}

impl Transform {
    pub(crate) fn read(site: &Site<'_>) -> Result<Self, Fault> {
        Ok(match site.text("post_transform")?.unwrap_or("NONE") {
            "NONE" => Self::None,
            "LOGISTIC" => Self::Logistic,
            "SOFTMAX" => Self::Softmax,
            "SOFTMAX_ZERO" => Self::SoftmaxZero,
            "PROBIT" => Self::Probit,
            other => return Err(site.fault(format!("with post_transform `{other}` is not supported"))),
        })
    }

    /// As [`Transform::read`], where the attribute is a number.
    pub(crate) fn numbered(site: &Site<'_>) -> Result<Self, Fault> {
        Ok(match site.int("post_transform").unwrap_or(0) {
            0 => Self::None,
            1 => Self::Softmax,
            2 => Self::Logistic,
            3 => Self::SoftmaxZero,
            4 => Self::Probit,
            other => return Err(site.fault(format!("with post_transform {other} is not supported"))),
        })
    }

    /// Turns the scores of one row into what the model answers. One score becomes two where a second class is asked for.
    pub(crate) fn apply(self, scores: &mut Vec<f64>, second: Second) {
        if let ([score], true) = (scores.as_slice(), second != Second::Left && self != Self::Probit) {
            let score = *score;
            *scores = match (self, second) {
                (Self::Logistic, _) => vec![sigmoid(-score), sigmoid(score)],
                (_, Second::Opposite) => vec![-score, score],
                _ => vec![1.0 - score, score],
            };
            return;
        }
        match self {
            Self::None => {}
            Self::Logistic if scores.len() > 1 => scores.iter_mut().for_each(|score| *score = sigmoid(*score)),
            Self::Softmax if scores.len() > 1 => soft(scores),
            Self::SoftmaxZero if scores.len() > 1 => soft_but_zero(scores),
            Self::Probit => scores.iter_mut().for_each(|score| *score = probit(*score)),
            Self::Logistic | Self::Softmax | Self::SoftmaxZero => {}
        }
    }
}

/// Softmax in which a score of zero stays near it.
fn soft_but_zero(scores: &mut [f64]) {
    let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        if score.abs() > 1e-7 {
            *score = (*score - most).exp();
            sum += *score;
        } else {
            *score *= (-most).exp();
        }
    }
    scores.iter_mut().for_each(|score| *score /= sum);
}

/// By the approximation of the inverse error function that ONNX Runtime uses, constants included.
fn probit(value: f64) -> f64 {
    let value = 2.0 * value - 1.0;
    let log = ((1.0 - value) * (1.0 + value)).ln();
    let half = 2.0 / (std::f64::consts::PI * 0.147) + 0.5 * log;
    let root = ((half * half - log / 0.147).sqrt() - half).sqrt();
    std::f64::consts::SQRT_2 * if value < 0.0 { -root } else { root }
}

impl Labels {
    /// The classes of a classifier, texts before numbers; named as its attributes are.
    pub(crate) fn read(site: &Site<'_>, texts: &str, numbers: &str) -> Result<Self, Fault> {
        let texts = site.texts(texts)?;
        Ok(if texts.is_empty() { Self::Numbers(site.ints(numbers)) } else { Self::Texts(texts) })
    }

    pub(crate) const fn kind(&self) -> Type {
        match self {
            Self::Numbers(_) => Type::I64,
            Self::Texts(_) => Type::Text,
        }
    }

    /// The labels of the chosen classes. One that has no label is its number, as in ONNX Runtime.
    pub(crate) fn of(&self, chosen: &[usize]) -> Tensor {
        match self {
            Self::Numbers(labels) => {
                let number = |at: &usize| labels.get(*at).copied().unwrap_or_else(|| i64::try_from(*at).unwrap_or(i64::MAX));
                Tensor::row(chosen.iter().map(number).collect())
            }
            Self::Texts(labels) => {
                let text = |at: &usize| labels.get(*at).cloned().unwrap_or_else(|| at.to_string().into());
                Tensor::row(chosen.iter().map(text).collect::<Vec<Arc<str>>>())
            }
        }
    }
}

/// Where the first of the largest scores is.
pub(crate) fn best(scores: &[f64]) -> usize {
    let better = |best: usize, at: usize| if scores[at] > scores[best] { at } else { best };
    (0..scores.len()).reduce(better).unwrap_or(0)
}

/// Numbers of any width, in double precision, as the models of `ai.onnx.ml` compute on.
pub(crate) fn doubles(tensor: &Tensor) -> Result<std::borrow::Cow<'_, [f64]>, Fault> {
    use crate::mlflow::native::tensor::Values;
    Ok(match tensor.contents() {
        Values::F64(values) => values.as_slice().into(),
        _ => match super::cast::convert(tensor, Type::F64)?.into_contents() {
            Values::F64(values) => values.into(),
            _ => return Err(Fault::new("numbers are needed")),
        },
    })
}

/// The answer of a model: single precision, a row per row. How many columns there are only counts where there are no rows.
#[expect(clippy::cast_possible_truncation, reason = "ONNX's answers are singles")]
pub(crate) fn singles(rows: usize, columns: usize, values: &[f64]) -> Result<Tensor, Fault> {
    let columns = values.len().checked_div(rows).unwrap_or(columns);
    Tensor::of(vec![rows, columns], values.iter().map(|value| *value as f32).collect())
}

/// The types of rows that models take.
pub(crate) const NUMBERS: &[Type] = &[Type::F32, Type::F64, Type::I64, Type::I32];
