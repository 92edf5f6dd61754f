//! From raw scores to answers: the links of the libraries' objectives.

/// What a model's file says of its scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Transform {
    Identity,
    /// `1 / (1 + exp(-steepness * x))`.
    Sigmoid(f64),
    Exp,
    /// `ln(1 + exp(x))`.
    LogExp,
    /// The square, with the sign.
    SignedSquare,
    Softmax,
    /// The place of the greatest.
    ArgMax,
    /// 1 above zero, else 0.
    Step,
}

impl Transform {
    /// How many values an answer has.
    pub(super) fn outputs(self, scores: usize) -> usize {
        if self == Self::ArgMax { 1 } else { scores }
    }

    /// Turns the scores of one row into its answer.
    pub(super) fn row(self, scores: &mut [f64], out: &mut Vec<f64>) {
        match self {
            Self::Identity => {}
            Self::Sigmoid(steepness) => each(scores, |x| 1.0 / (1.0 + (-steepness * x).exp())),
            Self::Exp => each(scores, f64::exp),
            // As it is, or for large values what it comes to.
            Self::LogExp => each(scores, |x| x.max(0.0) + (-x.abs()).exp().ln_1p()),
            Self::SignedSquare => each(scores, |x| x * x.abs()),
            Self::Step => each(scores, |x| f64::from(u8::from(x > 0.0))),
            Self::Softmax => softmax(scores),
            Self::ArgMax => return out.push(greatest(scores)),
        }
        out.extend_from_slice(scores);
    }
}

fn each(scores: &mut [f64], turn: impl Fn(f64) -> f64) {
    scores.iter_mut().for_each(|score| *score = turn(*score));
}

fn softmax(scores: &mut [f64]) {
    let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    each(scores, |x| (x - most).exp());
    let sum: f64 = scores.iter().sum();
    each(scores, |x| x / sum);
}

/// The first of the greatest.
fn greatest(scores: &[f64]) -> f64 {
    let better = |best: usize, (at, score): (usize, &f64)| if *score > scores[best] { at } else { best };
    scores.iter().enumerate().fold(0, better) as f64
}
