//! What answers: an ONNX model, whoever runs it, or trees, behind one way to ask.

use std::mem;

use super::{
    answer::{Answer, Explained},
    feed::Feed,
    refusal::Refusal,
};
use crate::{
    dialect::scoring::NO_EXPLANATIONS,
    mlflow::{
        native::{Fault, Model, Port, Stop, Tensor, Type, Values, trees},
        onnx::Session,
        signature::{self, Element, Schema, Signature},
    },
};

/// Why ONNX cannot be explained. Its `nodes_hitrates`, meant for speed, are 1 for every node in what exporters write.
const UNTOLD: &str = "an ONNX file does not tell how much of the training went through each node of its trees, which contributions need; log \
                      the XGBoost or LightGBM model itself (mlflow.xgboost, mlflow.lightgbm), or a Python model that explains its predictions";

/// A model that is ready to answer.
#[derive(Debug)]
pub(super) enum Engine {
    /// ONNX.
    Graph(Model),
    /// ONNX beyond that, by ONNX Runtime.
    Runtime(Session),
    /// XGBoost's or LightGBM's own file.
    Trees(Trees),
}

/// Trees, and what their library's class makes of them.
#[derive(Debug)]
pub(super) struct Trees {
    pub(super) model: trees::Model,
    pub(super) answer: TreeAnswer,
    /// What its features are called.
    pub(super) features: Vec<String>,
}

/// What a class answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TreeAnswer {
    /// 32 bits.
    Single,
    /// 64 bits.
    Double,
    /// The class that is likeliest, as its number.
    Class,
}

impl Engine {
    /// Predicts, unless it is told to stop; with what each feature adds, if that is asked for.
    ///
    /// # Errors
    /// When the model fails, or cannot explain itself.
    pub(super) fn answer(&self, feed: &mut Feed, explain: bool, stop: &Stop) -> Result<Answer<'_>, Refusal> {
        match self {
            Self::Graph(_) | Self::Runtime(_) if explain => Err(cannot_explain(UNTOLD)),
            Self::Graph(model) => {
                let tensors = mem::take(&mut feed.tensors);
                let named = model.inputs().iter().map(|port| port.name.as_str()).zip(tensors).collect();
                let values = model.run(named, stop).map_err(|fault| failed(&fault, feed.rows))?;
                Ok(Answer::Outputs(model.outputs().iter().map(|(name, _)| name.as_str()).zip(values).collect()))
            }
            Self::Runtime(session) => {
                let values = session.run(&feed.tensors).map_err(|fault| failed(&fault, feed.rows))?;
                Ok(Answer::Outputs(values))
            }
            Self::Trees(trees) => trees.answer(feed, explain, stop),
        }
    }

    /// What a graph says that it takes and gives, where answers are a table of one value per row and column. Files of trees say too little for
    /// that.
    pub(super) fn signature(&self, is_table: bool) -> Option<Signature> {
        let (inputs, outputs) = match self {
            Self::Graph(model) => (model.inputs(), model.gives()),
            Self::Runtime(session) => (session.inputs(), session.gives()),
            Self::Trees(_) => return None,
        };
        let tensor = |port: &Port| signature::Tensor {
            name: Some(port.name.clone()),
            element: element(port.kind),
            shape: port.shape.clone().unwrap_or_default(),
        };
        let column = |port: &Port| {
            let mut column = tensor(port);
            if let (true, [_, Some(1)]) = (is_table, column.shape.as_slice()) {
                column.shape.pop();
            }
            column
        };
        let side = |tensors: Vec<signature::Tensor>| (!tensors.is_empty()).then_some(Schema::Tensors(tensors));
        let (inputs, outputs) = (inputs.iter().map(tensor).collect(), outputs.iter().map(column).collect());
        Some(Signature { inputs: side(inputs), outputs: side(outputs), params: None })
    }
}

/// A type in the words of signatures.
fn element(kind: Type) -> Element {
    match kind {
        Type::F32 => Element::Float32,
        Type::F64 => Element::Float64,
        Type::I64 => Element::Int64,
        Type::I32 => Element::Int32,
        Type::I8 => Element::Int8,
        Type::U8 => Element::Uint8,
        Type::Bool => Element::Bool,
        Type::Text => Element::Object,
    }
}

impl Trees {
    fn answer(&self, feed: &Feed, explain: bool, stop: &Stop) -> Result<Answer<'_>, Refusal> {
        let Some(Values::F64(rows)) = feed.tensors.first().map(Tensor::contents) else {
            return Err(Refusal::failed(&"its input is none of its own"));
        };
        let scores = self.model.predict(rows, stop).map_err(|fault| failed(&fault, feed.rows))?;
        let predictions = self.shape(scores, feed.rows).map_err(|fault| failed(&fault, feed.rows))?;
        if !explain {
            return Ok(Answer::Array(predictions));
        }
        let contributions = self.model.contributions(rows, stop);
        let refused = |fault: Fault| if fault.is_large() { Refusal::too_large() } else { cannot_explain(&fault.to_string()) };
        let contributions = contributions.map_err(refused)?;
        let features = &self.features;
        Ok(Answer::Explained(Explained { predictions, contributions, features, scores: self.model.scores(), rows: feed.rows }))
    }

    fn shape(&self, scores: Vec<f64>, rows: usize) -> Result<Tensor, Fault> {
        let outputs = self.model.outputs();
        let shape = if outputs == 1 { vec![rows] } else { vec![rows, outputs] };
        #[expect(clippy::cast_possible_truncation, reason = "the library answers in 32 bits")]
        let single = |scores: Vec<f64>| Values::F32(scores.into_iter().map(|score| score as f32).collect());
        match self.answer {
            TreeAnswer::Double => Tensor::new(shape, Values::F64(scores)),
            TreeAnswer::Single => Tensor::new(shape, single(scores)),
            TreeAnswer::Class if outputs == 1 => Tensor::new(shape, Values::I64(self.classes(&scores))),
            TreeAnswer::Class if self.model.task() == trees::Task::Multiclass => {
                Tensor::new(vec![rows], Values::I64(scores.chunks_exact(outputs).map(likeliest).collect()))
            }
            // Several labels at once, which NumPy keeps as floating numbers.
            TreeAnswer::Class => {
                Tensor::new(shape, Values::F64(scores.iter().map(|score| f64::from(u8::from(is_likely(*score)))).collect()))
            }
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "a class's number")]
    fn classes(&self, scores: &[f64]) -> Vec<i64> {
        match self.model.task() {
            trees::Task::Multiclass => scores.iter().map(|class| *class as i64).collect(),
            _ => scores.iter().map(|score| i64::from(is_likely(*score))).collect(),
        }
    }
}

/// Whether a class is likelier than not. The library compares what it answers, 32 bits.
#[expect(clippy::cast_possible_truncation, reason = "on purpose")]
fn is_likely(score: f64) -> bool {
    score as f32 > 0.5
}

/// The first of the greatest.
fn likeliest(scores: &[f64]) -> i64 {
    let mut best = 0;
    for (at, score) in scores.iter().enumerate() {
        // NumPy compares what the library answers, 32 bits.
        #[expect(clippy::cast_possible_truncation, reason = "on purpose")]
        if *score as f32 > scores[best] as f32 {
            best = at;
        }
    }
    i64::try_from(best).unwrap_or_default()
}

/// Nothing to predict is the caller's fault, if it is one, and so is too much.
fn failed(fault: &Fault, rows: usize) -> Refusal {
    match rows {
        _ if fault.is_large() => Refusal::too_large(),
        0 => Refusal::bad("Invalid input. There are no rows to predict"),
        _ => Refusal::failed(fault),
    }
}

fn cannot_explain(why: &str) -> Refusal {
    Refusal::unfit(format!("{NO_EXPLANATIONS}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::is_likely;

    #[test]
    fn a_tie_of_singles_is_no_class() {
        assert!(!is_likely(0.5) && !is_likely(0.5 + 1e-9) && is_likely(0.500_000_1));
    }
}
