//! The parameters of a request, checked against the model's signature. No model here takes any but `explain`, which is the gateway's own.

use serde_json::{Map, Value};

use super::refusal::Refusal;
use crate::mlflow::signature::{Kind, Param, Scalar};

/// Asks for what each feature adds to a prediction.
pub(super) const EXPLAIN: &str = "explain";

/// What the parameters of a request ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// Predictions with what led to them.
    pub(super) explain: bool,
    /// And something that nobody knows, which MLflow ignores, too.
    pub(super) is_more: bool,
}

/// Checks what is given.
///
/// # Errors
/// When they are no object, or one of them is of another type than is declared.
pub(super) fn read(given: Option<&Value>, declared: Option<&[Param]>) -> Result<Asked, Refusal> {
    let given = match given {
        None | Some(Value::Null) => return Ok(Asked::default()),
        Some(Value::Object(given)) => given,
        // As MLflow does: who declares none takes anything.
        Some(_) if declared.is_none() => return Ok(Asked { is_more: true, ..Asked::default() }),
        Some(_) => return Err(Refusal::unfit("Parameters must be a dictionary.")),
    };
    let is_known = |name: &String| name == EXPLAIN || declared.unwrap_or_default().iter().any(|param| param.name == *name);
    let asked = Asked { explain: false, is_more: !given.keys().all(is_known) };
    let wrong: Vec<&str> =
        declared.unwrap_or_default().iter().filter(|param| !fits(param, given)).map(|param| param.name.as_str()).collect();
    let is_declared = declared.unwrap_or_default().iter().any(|param| param.name == EXPLAIN);
    match given.get(EXPLAIN) {
        _ if !wrong.is_empty() => Err(invalid(&wrong)),
        // A model's own parameter of this name keeps its meaning.
        None | Some(Value::Bool(false)) => Ok(asked),
        Some(_) if is_declared => Ok(asked),
        Some(Value::Bool(true)) => Ok(Asked { explain: true, ..asked }),
        Some(_) => Err(invalid(&[EXPLAIN])),
    }
}

fn invalid(names: &[&str]) -> Refusal {
    let said: Vec<String> = names.iter().map(|name| format!("Failed to validate type and shape for '{name}'")).collect();
    Refusal::unfit(format!("Invalid parameters found: {}", said.join(", ")))
}

fn fits(param: &Param, given: &Map<String, Value>) -> bool {
    let Some(value) = given.get(&param.name) else { return true };
    match (value, param.is_list) {
        (Value::Array(items), true) => items.iter().all(|item| is(item, &param.kind)),
        (_, true) => false,
        (value, false) => is(value, &param.kind),
    }
}

fn is(value: &Value, kind: &Kind) -> bool {
    match (kind, value) {
        (Kind::Scalar(_), Value::Null) | (Kind::Any, _) => true,
        (Kind::Scalar(scalar), value) => match scalar {
            Scalar::Boolean => value.is_boolean(),
            Scalar::Integer => value.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
            Scalar::Long => value.is_i64(),
            Scalar::Float | Scalar::Double => value.is_number(),
            Scalar::String | Scalar::Binary => value.is_string(),
            Scalar::Datetime => value.as_str().is_some_and(is_time),
        },
        (Kind::Array(items), Value::Array(list)) => list.iter().all(|item| is(item, items)),
        (Kind::Map(values), Value::Object(map)) => map.values().all(|value| is(value, values)),
        (Kind::Object(properties), Value::Object(map)) => {
            let has = |name: &String, kind: &Kind, required: bool| map.get(name).map_or(!required, |value| is(value, kind));
            map.keys().all(|name| properties.contains_key(name))
                && properties.iter().all(|(name, property)| has(name, &property.kind, property.required))
        }
        (Kind::Vector, value) => value.is_object(),
        (Kind::Array(_) | Kind::Map(_) | Kind::Object(_), _) => false,
    }
}

fn is_time(text: &str) -> bool {
    chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").is_ok() || text.replacen(' ', "T", 1).parse::<chrono::NaiveDateTime>().is_ok()
}
