//! What the scoring server's failures mean. Its texts echo inputs and hold stack traces; only what is known to be safe crosses.

use std::borrow::Cow;

use flowgate_proto::v1::ErrorReason;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use crate::{
    dialect::failure,
    error::{Error, in_one_line},
};

/// The body of a failure.
#[derive(Deserialize)]
struct Failure<'a> {
    #[serde(borrow)]
    error_code: Cow<'a, str>,
    #[serde(borrow)]
    message: Cow<'a, str>,
    #[serde(borrow)]
    stack_trace: Option<Cow<'a, str>>,
}

/// How one text of the scoring server is told to the caller.
struct Rule {
    /// The text holds this …
    mark: &'static str,
    /// … and this.
    also: &'static str,
    /// What comes after the mark is kept up to here, or to the end.
    until: &'static str,
    /// The field at fault.
    field: &'static str,
    /// What is wrong with it; `{}` is what was kept.
    words: &'static str,
}

const fn rule(mark: &'static str, field: &'static str, words: &'static str) -> Rule {
    Rule { mark, also: "", until: "", field, words }
}

const fn keep(mark: &'static str, until: &'static str, field: &'static str, words: &'static str) -> Rule {
    Rule { mark, also: "", until, field, words }
}

/// A column that could not be cast; `why` tells one cause from another.
const fn column(why: &'static str, words: &'static str) -> Rule {
    Rule { mark: "Failed to convert column ", also: why, until: " to type '", field: "input", words }
}

const NOT_NUMBER: &str = "holds text where the model wants a number";

/// What a model says, in whatever, of more than it takes at once.
pub const FEWER_ROWS: &str = "send fewer rows at a time";

/// What a model says that is asked to explain a prediction, and cannot.
pub const NO_EXPLANATIONS: &str = "This model gives no explanations";

/// What a model says, in whatever, that is answered by the gateway itself and was sent another content type.
pub const INSIDE: &str = "This model runs inside the gateway, which reads `application/json` and `text/csv`, in UTF-8";

/// The texts, the more telling first.
const RULES: &[Rule] = &[
    // The whole request.
    rule(FEWER_ROWS, "input", "is too much for one call; send fewer rows at a time"),
    keep("JSONDecodeError('", "')'", "body", "must be JSON: {}"),
    rule("UnicodeDecodeError", "body", "must be UTF-8"),
    rule(
        "exactly one of the input fields",
        "body",
        "must be a JSON object with exactly one of `dataframe_split`, `dataframe_records`, `instances`, `inputs`",
    ),
    rule(
        "Request payload must be a dictionary with 'inputs' key",
        "body",
        "must be a JSON object with `inputs`, the only form that this model takes",
    ),
    keep("Ensure that the input is a valid ", " produced using", "body", "must be a valid {}"),
    // The four forms.
    rule("Dataframe records format must be", "dataframe_records", "must be a list of objects"),
    rule("Provided dataframe_records field", "dataframe_records", "must be a list of objects"),
    rule("Dataframe split format must have", "dataframe_split", "must hold `data`, may hold `columns` and `index`, and nothing else"),
    rule("Dataframe split format must be", "dataframe_split", "must be an object"),
    rule("Provided dataframe_split field", "dataframe_split", "must be a table whose rows are as long as `columns`"),
    rule("The length of values for each input/column", "instances", "must have the same keys in every object"),
    rule("A name of `inputs` stands there twice", "inputs", "has two entries of the same name"),
    rule("A name stands twice in one record", "input", "has a record with the same name twice"),
    rule("Two columns have the same name", "input", "has two columns of the same name"),
    rule("An object stands where a value", "input", "holds an object where a value or a list of values belongs"),
    rule("There are no rows to predict", "input", "has no rows to predict"),
    rule(
        "The rows leave out nearly all of their columns",
        "input",
        "leaves out nearly all columns in its rows; send the columns that the model has, and null where it has no value",
    ),
    // Parameters.
    rule("Parameters must be a dictionary", "params", "must be an object"),
    rule("`params` stands there twice", "params", "stands there twice"),
    keep(NO_EXPLANATIONS, "", "params.explain", "asks for what there is not: this model gives no explanations{}"),
    // The model's signature.
    keep("Model is missing inputs [", "]", "input", "lacks what the model needs: {}"),
    keep("Model inference is missing inputs. ", ". Note", "input", "has too few columns: {}"),
    column("Cannot convert non-finite values", "holds null in column {} where the model wants an integer"),
    column("cannot convert float NaN to integer", "holds null in column {} where the model wants an integer"),
    column("not 'NoneType'", "holds null in column {} where the model wants a number"),
    column("encoding without a string argument", "holds null, or no text, in column {} where the model wants bytes as base64"),
    column("Invalid base64", "holds text that is no base64 in column {} where the model wants bytes"),
    column("Incorrect padding", "holds text that is no base64 in column {} where the model wants bytes"),
    column("could not convert string to float", "holds text in column {} where the model wants a number"),
    column("invalid literal for int()", "holds text in column {} where the model wants an integer"),
    keep("Failed to convert column ", ". Error", "input", "does not fit the model's signature: no conversion of column {}"),
    keep("Incompatible input types for column ", "", "input", "does not fit the model's signature: column {}"),
    keep("Shape of input ", "", "input", "does not fit the model's signature: shape {}"),
    keep("dtype of input ", "", "input", "does not fit the model's signature: dtype {}"),
    keep("This model contains ", "", "input", "does not fit the model, which contains {}"),
    rule("timezone-naive datetime", "input", "holds a time with a zone; send times without one, in UTC"),
    keep("Missing required properties: {", "}", "input", "lacks properties that the model needs: {}"),
    keep("Failed to enforce schema for key ", "", "input", "does not fit the model's signature: key {}"),
    keep("Expected data to be ", "", "input", "does not fit the model's signature: it must be {}"),
    rule("could not convert string to float", "input", NOT_NUMBER),
    rule("invalid literal for int()", "input", NOT_NUMBER),
    rule("not 'NoneType'", "input", "holds null where the model wants a number"),
    rule("a text is wanted", "input", "holds something else where the model wants text"),
    rule("a single value is wanted", "input", "holds a list where the model wants a single value"),
    rule("out of bounds for ", "input", "holds an integer beyond the range of the model's type"),
    rule("inhomogeneous shape", "input", "has rows of different lengths"),
];

/// The error for an answer that is not a success.
pub(in crate::dialect) fn classify(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Error {
    if status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
        let message = if memchr::memmem::find(body, INSIDE.as_bytes()).is_some() {
            "the model does not take this content type; send `application/json` or `text/csv`, in UTF-8"
        } else {
            "the model does not take this content type; send `application/json`, `text/csv` or `application/vnd.apache.parquet`, in UTF-8"
        };
        return Error::new(ErrorReason::CallerUnsupportedMediaType, message).upstream_status(status);
    }
    let plain = || match failure::by_status(status, headers, None) {
        // Gateways in front of it say so.
        error if status == StatusCode::FORBIDDEN => error.credential_stale(failure::tells_bad_token(&String::from_utf8_lossy(body))),
        error => error,
    };
    let Ok(failure) = serde_json::from_slice::<Failure<'_>>(body) else { return plain() };
    let from_model = failure.message.starts_with("Failed to predict data");
    let raised = match status {
        StatusCode::BAD_REQUEST => failure.stack_trace.is_some() && !failure.message.starts_with("Failed to parse input"),
        _ => from_model,
    };
    if raised {
        let message = "the model raised an exception on this input; check the input, or ask the model's owner";
        // For the operator, who sees it nowhere else: the scoring server logs nothing of it.
        let trace = failure.stack_trace.as_deref().unwrap_or_default();
        tracing::debug!(trace, "the model raised an exception");
        return Error::new(ErrorReason::ProviderModelFailed, message).upstream_status(status).because(format!(
            "{}: {}",
            failure.error_code,
            in_one_line(trace)
        ));
    }
    match status {
        StatusCode::BAD_REQUEST => refused(&failure.message).upstream_status(status),
        _ => plain(),
    }
}

/// The caller's mistake, in words that echo nothing of the input.
fn refused(message: &str) -> Error {
    let said = said(message);
    let error = Error::new(ErrorReason::CallerInvalidRequest, "the model refused the request");
    if said.contains("Invalid parameters found") {
        return error.at("params", format!("have the wrong type: {}", params(said)));
    }
    let Some((rule, rest)) = RULES.iter().find_map(|rule| Some((rule, rule.rest(said)?))) else {
        return error.at("input", "does not fit the model; compare it with the model's signature");
    };
    error.at(rule.field, rule.words.replace("{}", clip(rest).trim_end_matches('.')))
}

/// The message without its prefixes, which show the input and the signature.
fn said(message: &str) -> &str {
    if !message.starts_with("Failed to predict data") {
        // What follows is the body as the server read it.
        return message.split("\nInput: ").next().unwrap_or_default();
    }
    let message = message.rsplit("' with schema '").next().unwrap_or_default();
    if let Some((_, said)) = message.split_once("'. Error: ") {
        return said;
    }
    message.rsplit("'. \nError: ").next().unwrap_or_default()
}

/// The names of the refused parameters, sorted, because the server puts them in any order.
fn params(said: &str) -> String {
    const MARK: &str = "Failed to validate type and shape for '";
    let mut names: Vec<&str> = said.split(MARK).skip(1).filter_map(|rest| rest.split('\'').next()).collect();
    names.sort_unstable();
    names.dedup();
    clip(&names.join(", ")).to_owned()
}

/// What fits beside other words in a header.
fn clip(text: &str) -> &str {
    const MOST: usize = 400;
    text.char_indices().nth(MOST).and_then(|(end, _)| text.get(..end)).unwrap_or(text)
}

impl Rule {
    /// What is kept of a text that the rule knows.
    fn rest<'a>(&self, said: &'a str) -> Option<&'a str> {
        let (_, rest) = said.split_once(self.mark)?;
        if !said.contains(self.also) {
            return None;
        }
        match self.until {
            "" => Some(rest),
            until => rest.split_once(until).map(|(kept, _)| kept),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_token_is_told_from_a_lacking_permission() {
        let is_stale = |status, body: &str| classify(status, &HeaderMap::new(), body.as_bytes()).is_credential_stale();
        assert!(is_stale(StatusCode::FORBIDDEN, r#"{"error_code":403,"message":"Invalid access token. [ReqId: 1]"}"#));
        assert!(is_stale(StatusCode::FORBIDDEN, r#"{"error_code":"403","message":"Invalid Token"}"#));
        assert!(is_stale(StatusCode::UNAUTHORIZED, ""));
        assert!(!is_stale(StatusCode::FORBIDDEN, r#"{"error_code":"PERMISSION_DENIED","message":"You do not have permission."}"#));
    }
}
