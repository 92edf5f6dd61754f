//! Defaults: the deployment's `parameters`, for what the caller leaves unset. They make the attempt typed.

use flowgate_proto::{v1, wkt};
use serde_json::{Map, Value};

use super::{Next, Policy};
use crate::{
    call::Attempt,
    error::Result,
    event::{Reply, Request},
};

/// Fills in what the caller left unset.
#[derive(Debug)]
pub struct Defaults;

impl Policy<Attempt> for Defaults {
    async fn handle(&self, mut attempt: Attempt, next: &impl Next<Attempt>) -> Result<Reply> {
        if !attempt.deployment.parameters.is_empty() {
            let provider = attempt.deployment.provider;
            let request = attempt.call.payload.typed_mut()?;
            for (name, value) in &attempt.deployment.parameters {
                fill(request, provider, name, value);
            }
        }
        next.call(attempt).await
    }
}

/// Sets one parameter by its OpenAI name if the caller did not; a name the contract lacks goes to the provider's options.
fn fill(request: &mut Request, provider: &str, name: &str, value: &Value) {
    let options = match request {
        Request::Chat(chat) => {
            if fill_chat(chat, name, value) {
                return;
            }
            &mut chat.provider_options
        }
        Request::Complete(complete) => {
            if fill_complete(complete, name, value) {
                return;
            }
            &mut complete.provider_options
        }
        Request::Embed(embed) => match (name, as_u32(value)) {
            ("dimensions", Some(dimensions)) => {
                embed.dimensions.get_or_insert(dimensions);
                return;
            }
            _ => &mut embed.provider_options,
        },
        Request::Predict(predict) => {
            let params = predict.params.get_or_insert_default();
            params.fields.entry(name.to_owned()).or_insert_with(|| to_proto(value));
            return;
        }
    };
    let options = options.entry(provider.to_owned()).or_default();
    options.fields.entry(name.to_owned()).or_insert_with(|| to_proto(value));
}

/// The parameters that chat and completion share.
macro_rules! fill_shared {
    ($request:expr, $name:expr, $value:expr) => {
        match $name {
            "max_tokens" | "max_completion_tokens" => set(&mut $request.max_tokens, as_u32($value)),
            "temperature" => set(&mut $request.temperature, $value.as_f64()),
            "top_p" => set(&mut $request.top_p, $value.as_f64()),
            "top_k" => set(&mut $request.top_k, as_u32($value)),
            "seed" => set(&mut $request.seed, $value.as_i64()),
            "frequency_penalty" => set(&mut $request.frequency_penalty, $value.as_f64()),
            "presence_penalty" => set(&mut $request.presence_penalty, $value.as_f64()),
            "n" | "candidate_count" => set(&mut $request.choice_count, as_u32($value)),
            "stop" => fill_stop(&mut $request.stop, $value),
            _ => false,
        }
    };
}

fn fill_chat(chat: &mut v1::ChatRequest, name: &str, value: &Value) -> bool {
    match name {
        "logprobs" => set(&mut chat.logprobs, value.as_bool()),
        "top_logprobs" => set(&mut chat.top_logprobs, as_u32(value)),
        "parallel_tool_calls" => set(&mut chat.parallel_tool_calls, value.as_bool()),
        _ => fill_shared!(chat, name, value),
    }
}

fn fill_complete(complete: &mut v1::CompleteRequest, name: &str, value: &Value) -> bool {
    match name {
        "logprobs" => set(&mut complete.logprobs, as_u32(value)),
        "echo" => set(&mut complete.echo, value.as_bool()),
        _ => fill_shared!(complete, name, value),
    }
}

/// Whether the value fits the field; one that does not is left to the provider to judge.
fn set<T>(field: &mut Option<T>, value: Option<T>) -> bool {
    let Some(value) = value else { return false };
    field.get_or_insert(value);
    true
}

fn fill_stop(stop: &mut Vec<String>, value: &Value) -> bool {
    let words = match value {
        Value::String(word) => vec![word.clone()],
        Value::Array(words) => words.iter().filter_map(|word| word.as_str().map(ToOwned::to_owned)).collect(),
        _ => return false,
    };
    if stop.is_empty() {
        *stop = words;
    }
    true
}

fn as_u32(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|n| u32::try_from(n).ok())
}

fn to_proto(value: &Value) -> wkt::Value {
    use wkt::value::Kind;
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(truth) => Kind::BoolValue(*truth),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(list) => Kind::ListValue(wkt::ListValue { values: list.iter().map(to_proto).collect() }),
        Value::Object(map) => Kind::StructValue(to_struct(map)),
    };
    wkt::Value { kind: Some(kind) }
}

fn to_struct(map: &Map<String, Value>) -> wkt::Struct {
    wkt::Struct { fields: map.iter().map(|(name, value)| (name.clone(), to_proto(value))).collect() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn filled(mut request: v1::ChatRequest, parameters: &Value) -> v1::ChatRequest {
        let Value::Object(parameters) = parameters else { panic!("not an object") };
        let mut wrapped = Request::Chat(std::mem::take(&mut request));
        for (name, value) in parameters {
            fill(&mut wrapped, "openai", name, value);
        }
        let Request::Chat(request) = wrapped else { panic!("changed its kind") };
        request
    }

    #[test]
    fn what_the_caller_set_stays_even_when_it_is_zero() {
        let asked = v1::ChatRequest { temperature: Some(0.0), ..Default::default() };
        let request = filled(asked, &json!({"temperature": 0.7, "max_tokens": 100, "stop": "end", "n": 2}));
        assert_eq!((request.temperature, request.max_tokens, request.choice_count), (Some(0.0), Some(100), Some(2)));
        assert_eq!(request.stop, ["end"]);
    }

    #[test]
    fn a_name_that_the_contract_lacks_goes_to_the_provider() {
        let request = filled(v1::ChatRequest::default(), &json!({"service_tier": "flex", "max_tokens": "many"}));
        let options = &request.provider_options["openai"].fields;
        assert!(options.contains_key("service_tier"));
        assert!(options.contains_key("max_tokens"), "a value of the wrong type is the provider's to judge");
        assert_eq!(request.max_tokens, None);
    }
}
