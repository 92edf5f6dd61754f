//! The operators, by domain and name. Each is built once for the types of its inputs and runs on tensors; this file only finds them.

mod cast;
mod elementwise;
mod logic;
mod matrix;
mod pick;
mod reduce;
mod scan;
mod shape;
mod text;
mod tokens;

mod classes;
mod encode;
mod ensemble;
mod linear;
mod scale;
mod svm;

use super::{
    fault::Fault,
    site::{Built, Site},
};

/// What broadcast along an axis of its own before version 7. Without one they did as they do now.
const BROADCAST: [&str; 11] = ["Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Less", "Greater"];
const BROADCASTS: i64 = 7;

type Build = fn(&Site<'_>) -> Result<Built, Fault>;

/// Operators that hand on their input as it is.
pub(crate) fn passes_on(domain: &str, name: &str) -> bool {
    domain.is_empty() && matches!(name, "Identity" | "Dropout")
}

/// Builds the operator of a node.
pub(crate) fn build(domain: &str, site: &Site<'_>) -> Result<Built, Fault> {
    let name = site.node.operator.as_str();
    let build = match domain {
        "" => tensor(name).or_else(|| arithmetic(name)),
        "ai.onnx.ml" => learned(name),
        _ => contributed(name),
    };
    let build = build.ok_or_else(|| {
        let called = if domain.is_empty() { name.to_owned() } else { format!("{domain}.{name}") };
        Fault::new(format!("operator {called} is not supported"))
    })?;
    let is_old = domain.is_empty() && site.version < BROADCASTS && BROADCAST.contains(&name);
    if is_old && site.attribute("axis").is_some() {
        return Err(site.fault("with `axis` is not supported"));
    }
    build(site)
}

fn arithmetic(name: &str) -> Option<Build> {
    Some(match name {
        "Abs" | "Neg" | "Sign" => elementwise::signed,
        "Sqrt" | "Exp" | "Log" | "Reciprocal" | "Sigmoid" | "Tanh" | "Erf" | "Floor" | "Ceil" | "Round" | "Sin" | "Cos" | "Tan"
        | "Asin" | "Acos" | "Atan" | "Sinh" | "Cosh" | "Softplus" | "Softsign" => elementwise::real,
        "LeakyRelu" | "Elu" | "HardSigmoid" | "Selu" | "ThresholdedRelu" => elementwise::shaped,
        "Relu" => elementwise::relu,
        "Clip" => elementwise::clip,
        "Add" | "Sub" | "Mul" => elementwise::arithmetic,
        "Div" | "Mod" => elementwise::divide,
        "Pow" => elementwise::power,
        "Min" | "Max" | "Sum" | "Mean" => elementwise::fold,
        "Equal" => logic::equal,
        "Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual" => logic::order,
        "And" | "Or" | "Xor" => logic::both,
        "Not" => logic::not,
        "IsNaN" | "IsInf" => logic::is_special,
        "Where" => logic::choose,
        "Cast" => cast::cast,
        "CastLike" => cast::cast_like,
        "MatMul" => matrix::matmul,
        "Gemm" => matrix::gemm,
        "Einsum" => matrix::einsum,
        "EyeLike" => matrix::eye_like,
        "Softmax" | "LogSoftmax" | "Hardmax" => reduce::softmax,
        "LpNormalization" => scale::unit,
        "CumSum" => reduce::cumulate,
        "ArgMax" | "ArgMin" => reduce::arg,
        "TopK" => reduce::top,
        _ if name.starts_with("Reduce") => reduce::reduce,
        _ => return None,
    })
}

fn tensor(name: &str) -> Option<Build> {
    Some(match name {
        "Constant" => shape::constant,
        "ConstantOfShape" => shape::filled,
        "Shape" => shape::shape,
        "Size" => shape::size_of,
        "Reshape" => shape::reshape,
        "Flatten" => shape::flatten,
        "Squeeze" => shape::squeeze,
        "Unsqueeze" => shape::unsqueeze,
        "Transpose" => shape::transpose,
        "Expand" => shape::expanded,
        "Tile" => shape::tile,
        "Range" => shape::range,
        "Concat" => pick::concat,
        "Split" => pick::split,
        "Slice" => pick::slice,
        "Gather" => pick::gather,
        "GatherElements" => pick::gather_elements,
        "GatherND" => pick::gather_nested,
        "ScatterElements" | "Scatter" => pick::scatter_elements,
        "ScatterND" => pick::scatter_nested,
        "OneHot" => pick::one_hot,
        "NonZero" => pick::non_zero,
        "Compress" => pick::compress,
        "Pad" => pick::pad,
        "Scan" => scan::scan,
        "If" => scan::branch,
        "SequenceConstruct" => scan::sequence,
        "SequenceAt" => scan::sequence_at,
        "ConcatFromSequence" => scan::concat_sequence,
        "StringNormalizer" => text::normalize,
        "TfIdfVectorizer" => text::grams,
        "StringConcat" => text::concat,
        _ => return None,
    })
}

fn learned(name: &str) -> Option<Build> {
    Some(match name {
        "LinearClassifier" => linear::classifier,
        "LinearRegressor" => linear::regressor,
        "SVMClassifier" => svm::classifier,
        "SVMRegressor" => svm::regressor,
        "TreeEnsembleClassifier" => ensemble::classifier,
        "TreeEnsembleRegressor" => ensemble::regressor,
        "TreeEnsemble" => ensemble::ensemble,
        "Scaler" => scale::scaler,
        "Normalizer" => scale::normalizer,
        "Binarizer" => scale::binarizer,
        "Imputer" => scale::imputer,
        "FeatureVectorizer" => scale::features,
        "ArrayFeatureExtractor" => scale::extract,
        "OneHotEncoder" => encode::one_hot,
        "LabelEncoder" => encode::labels,
        "CategoryMapper" => encode::categories,
        "ZipMap" => encode::zip_map,
        _ => return None,
    })
}

fn contributed(name: &str) -> Option<Build> {
    Some(match name {
        "CDist" => matrix::distances,
        "Tokenizer" => text::tokenize,
        _ => return None,
    })
}
