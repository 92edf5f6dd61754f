//! Support vector machines, as libsvm and liblinear leave them.

use crate::mlflow::native::{
    bounds::room,
    fault::Fault,
    operators::{
        classes::{NUMBERS, Second, Transform, best, doubles, singles},
        elementwise::Number,
    },
    site::{Built, Given, Site},
    tensor::Type,
    value::{Kind, Labels, Value},
};

/// How alike two rows are.
#[derive(Clone, Copy)]
enum Form {
    Linear,
    Poly,
    Rbf,
    Sigmoid,
}

/// Rows to compare with.
struct Vectors {
    form: Form,
    gamma: f64,
    offset: f64,
    degree: f64,
    vectors: Vec<f64>,
    features: usize,
}

fn widen(values: Vec<f32>) -> Vec<f64> {
    values.into_iter().map(f64::from).collect()
}

/// Likenesses are singles in ONNX Runtime, and large polynomials show it.
fn single(value: f64) -> f64 {
    f64::from(f32::from_double(value))
}

impl Vectors {
    fn read(site: &Site<'_>, vectors: Vec<f32>, count: usize) -> Result<Self, Fault> {
        let form = match site.text("kernel_type")?.unwrap_or("LINEAR") {
            "LINEAR" => Form::Linear,
            "POLY" => Form::Poly,
            "RBF" => Form::Rbf,
            "SIGMOID" => Form::Sigmoid,
            other => return Err(site.fault(format!("with the kernel `{other}` is not supported"))),
        };
        if count == 0 || vectors.is_empty() || !vectors.len().is_multiple_of(count) {
            return Err(site.fault("has vectors of different lengths"));
        }
        let params = widen(site.floats("kernel_params"));
        let param = |at: usize| params.get(at).copied().unwrap_or(0.0);
        let features = vectors.len() / count;
        Ok(Self { form, gamma: param(0), offset: param(1), degree: param(2), vectors: widen(vectors), features })
    }

    /// A row's likeness to each vector.
    fn compare(&self, row: &[f64], out: &mut Vec<f64>) {
        out.clear();
        out.extend(self.vectors.chunks_exact(self.features).map(|vector| {
            let pairs = row.iter().zip(vector);
            if let Form::Rbf = self.form {
                return single((-self.gamma * pairs.map(|(a, b)| (a - b) * (a - b)).sum::<f64>()).exp());
            }
            let product = single(pairs.map(|(a, b)| a * b).sum());
            let bent = || single(self.gamma * product + self.offset);
            match self.form {
                Form::Poly => single(bent().powf(self.degree)),
                Form::Sigmoid => single(bent().tanh()),
                Form::Linear | Form::Rbf => product,
            }
        }));
    }

    /// Calls `with` for each row with its likenesses, of which so many scores are made.
    fn each(&self, given: &Given<'_>, scores: usize, mut with: impl FnMut(&[f64])) -> Result<usize, Fault> {
        let tensor = given.tensor(0)?;
        let (rows, columns) = tensor.matrix()?;
        if columns != self.features {
            return Err(Fault::new(format!("{columns} features are given, {} are needed", self.features)));
        }
        room::<f64>(&[rows, scores])?;
        let mut likeness = Vec::with_capacity(self.vectors.len() / self.features);
        for row in doubles(tensor)?.chunks_exact(columns) {
            given.stop.check()?;
            self.compare(row, &mut likeness);
            with(&likeness);
        }
        Ok(rows)
    }
}

pub(crate) fn regressor(site: &Site<'_>) -> Result<Built, Fault> {
    site.expect(0, NUMBERS)?;
    let count = usize::try_from(site.int("n_supports").unwrap_or(0)).unwrap_or(0);
    if Transform::read(site)? != Transform::None {
        return Err(site.fault("with a post_transform is not supported"));
    }
    let (coefficients, rho, is_one_class) = (site.floats("coefficients"), site.floats("rho"), site.flag("one_class", false));
    let rho = f64::from(*rho.first().ok_or_else(|| site.fault("has no rho"))?);
    // Without support vectors the coefficients are one vector themselves.
    let (vectors, coefficients) = match count {
        0 => (Vectors { form: Form::Linear, ..Vectors::read(site, coefficients, 1)? }, vec![1.0]),
        count => (Vectors::read(site, site.floats("support_vectors"), count)?, widen(coefficients)),
    };
    if coefficients.len() < count {
        return Err(site.fault("has fewer coefficients than support vectors"));
    }
    Ok(Built::one(Type::F32, move |given| {
        let mut out = Vec::new();
        let rows = vectors.each(given, 1, |likeness| {
            let score = likeness.iter().zip(&coefficients).map(|(a, b)| a * b).sum::<f64>() + rho;
            out.push(match is_one_class {
                true if score > 0.0 => 1.0,
                true => -1.0,
                false => score,
            });
        })?;
        singles(rows, 1, &out)
    }))
}

pub(crate) fn classifier(site: &Site<'_>) -> Result<Built, Fault> {
    site.expect(0, NUMBERS)?;
    let (labels, transform) = (Labels::read(site, "classlabels_strings", "classlabels_ints")?, Transform::read(site)?);
    let kinds = vec![Kind::Tensor(labels.kind()), Kind::Tensor(Type::F32)];
    let machine = if site.ints("vectors_per_class").is_empty() { Machine::linear(site, &labels)? } else { Machine::votes(site, &labels)? };
    let second = match transform {
        Transform::None => Second::Opposite,
        _ => Second::Rest,
    };
    let (is_pair, columns) = (labels.len() == 2, machine.columns(labels.len()));
    Ok(Built::many(kinds, move |given| {
        let (mut out, mut chosen) = (Vec::new(), Vec::new());
        let rows = machine.vectors.each(given, columns, |likeness| {
            let (class, mut scores) = machine.decide(likeness);
            chosen.push(class);
            transform.apply(&mut scores, if is_pair { second } else { Second::Left });
            out.extend_from_slice(&scores);
        })?;
        Ok(vec![Value::Tensor(labels.of(&chosen)), Value::Tensor(singles(rows, columns, &out)?)])
    }))
}

/// What tells classes apart.
struct Machine {
    vectors: Vectors,
    rho: Vec<f64>,
    pairs: Option<Pairs>,
    is_positive: bool,
}

/// Each class against each other: which support vectors are whose, and what they weigh against the others.
struct Pairs {
    /// Where a class's vectors begin and end.
    spans: Vec<(usize, usize)>,
    coefficients: Vec<f64>,
    count: usize,
    /// Platt's scaling, per pair; none where no probabilities are asked for.
    slopes: Vec<f64>,
    offsets: Vec<f64>,
}

impl Machine {
    /// One vector per class.
    fn linear(site: &Site<'_>, labels: &Labels) -> Result<Self, Fault> {
        let coefficients = site.floats("coefficients");
        let is_positive = coefficients.iter().all(|coefficient| *coefficient >= 0.0);
        let vectors = Vectors { form: Form::Linear, ..Vectors::read(site, coefficients, labels.len())? };
        let rho = widen(site.floats("rho"));
        if rho.is_empty() { Err(site.fault("has no rho")) } else { Ok(Self { vectors, rho, pairs: None, is_positive }) }
    }

    fn votes(site: &Site<'_>, labels: &Labels) -> Result<Self, Fault> {
        let (mut spans, mut count) = (Vec::new(), 0_usize);
        for size in site.ints("vectors_per_class") {
            let end = usize::try_from(size)
                .ok()
                .and_then(|size| count.checked_add(size))
                .ok_or_else(|| site.fault("has a wrong vectors_per_class"))?;
            spans.push((count, end));
            count = end;
        }
        let vectors = Vectors::read(site, site.floats("support_vectors"), count)?;
        let (coefficients, rho) = (widen(site.floats("coefficients")), widen(site.floats("rho")));
        let (slopes, offsets) = (widen(site.floats("prob_a")), widen(site.floats("prob_b")));
        let classes = labels.len();
        let against = classes.saturating_mul(classes.saturating_sub(1)) / 2;
        let is_whole = classes > 1
            && spans.len() == classes
            && (classes - 1).checked_mul(count).is_some_and(|least| coefficients.len() >= least)
            && rho.len() >= against
            && slopes.len() == offsets.len()
            && (slopes.is_empty() || slopes.len() >= against);
        if !is_whole {
            return Err(site.fault("has attributes of lengths that do not go together"));
        }
        Ok(Self { vectors, rho, is_positive: false, pairs: Some(Pairs { spans, coefficients, count, slopes, offsets }) })
    }

    /// How many scores the model answers.
    fn columns(&self, classes: usize) -> usize {
        let has_votes = self.pairs.as_ref().is_some_and(|pairs| pairs.slopes.is_empty());
        if has_votes && classes > 2 { classes * (classes - 1) / 2 } else { classes }
    }

    /// The class, and the scores that the model answers.
    fn decide(&self, likeness: &[f64]) -> (usize, Vec<f64>) {
        let Some(pairs) = &self.pairs else {
            let scores: Vec<f64> = likeness.iter().map(|product| product + self.rho[0]).collect();
            let class = best(&scores);
            let is_second = scores.len() == 2 && if self.is_positive { scores[class] >= 0.5 } else { scores[class] > 0.0 };
            return (if is_second { 1 } else { class }, scores);
        };
        let classes = pairs.spans.len();
        let (mut votes, mut scores) = (vec![0.0; classes], Vec::with_capacity(self.rho.len()));
        for first in 0..classes {
            for second in first + 1..classes {
                let score = pairs.weigh(likeness, second - 1, first) + pairs.weigh(likeness, first, second) + self.rho[scores.len()];
                votes[if score > 0.0 { first } else { second }] += 1.0;
                scores.push(score);
            }
        }
        (best(&votes), if pairs.slopes.is_empty() { scores } else { pairs.probabilities(&scores) })
    }
}

impl Pairs {
    /// The vectors of a class by a row of coefficients.
    fn weigh(&self, likeness: &[f64], row: usize, class: usize) -> f64 {
        let (start, end) = self.spans[class];
        let coefficients = &self.coefficients[row * self.count..(row + 1) * self.count];
        coefficients[start..end].iter().zip(&likeness[start..end]).map(|(a, b)| a * b).sum()
    }

    /// Probabilities of the classes from those of the pairs: the second method of Wu, Lin and Weng (2004), with libsvm's bounds.
    fn probabilities(&self, scores: &[f64]) -> Vec<f64> {
        let classes = self.spans.len();
        let mut wins = vec![0.0; classes * classes];
        let mut pair = 0;
        for first in 0..classes {
            for second in first + 1..classes {
                let win = 1.0 / (1.0 + (scores[pair] * self.slopes[pair] + self.offsets[pair]).exp());
                wins[first * classes + second] = win.clamp(1e-7, 1.0 - 1e-7);
                wins[second * classes + first] = 1.0 - wins[first * classes + second];
                pair += 1;
            }
        }
        coupled(&wins, classes)
    }
}

fn coupled(wins: &[f64], classes: usize) -> Vec<f64> {
    let each = u32::try_from(classes).map_or(f64::MAX, f64::from);
    let mut form = vec![0.0; classes * classes];
    for a in 0..classes {
        for b in (0..classes).filter(|b| *b != a) {
            form[a * classes + a] += wins[b * classes + a].powi(2);
            form[a * classes + b] = -wins[b * classes + a] * wins[a * classes + b];
        }
    }
    let mut odds = vec![1.0 / each; classes];
    for _ in 0..100 {
        let mut slope: Vec<f64> = form.chunks_exact(classes).map(|row| row.iter().zip(&odds).map(|(a, b)| a * b).sum()).collect();
        let mut total: f64 = odds.iter().zip(&slope).map(|(a, b)| a * b).sum();
        if slope.iter().all(|slope| (slope - total).abs() < 0.005 / each) {
            break;
        }
        for a in 0..classes {
            let own = form[a * classes + a];
            let step = (total - slope[a]) / own;
            odds[a] += step;
            total = (total + step * (step * own + 2.0 * slope[a])) / (1.0 + step).powi(2);
            for b in 0..classes {
                slope[b] = (slope[b] + step * form[a * classes + b]) / (1.0 + step);
                odds[b] /= 1.0 + step;
            }
        }
    }
    odds
}
