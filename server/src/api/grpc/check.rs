//! What the RPCs check before anything is called: ranges and required fields, all faults at once; short forms become normal ones.
//! What a provider may judge better is left to its dialect.

use std::{collections::HashMap, fmt};

use flowgate_proto::v1::{
    ChatRequest, CompleteRequest, EmbedRequest, Message, Part, PredictRequest, PredictionForm, ResponseFormat, ResponseFormatType, Role,
    Tool, ToolChoice, ToolChoiceMode, media_part::Source, part::Kind,
};

use super::{call::Ask, convert::text_part};
use crate::{
    error::{Error, Result},
    event::{Request, Task},
};

/// Faults that are named; all of them must fit into a header.
const MOST_FAULTS: usize = 10;
const AT_LEAST_ONE: &str = "must be at least 1";
const MISSING: &str = "is missing";

/// What is wrong with a request.
#[derive(Default)]
struct Faults(Option<Error>);

/// What chat and completion share.
struct Sampling<'a> {
    max_tokens: Option<u32>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    top_k: Option<u32>,
    frequency_penalty: Option<f64>,
    presence_penalty: Option<f64>,
    stop: &'a [String],
    choice_count: Option<u32>,
    logit_bias: &'a HashMap<String, f64>,
}

/// The sampling fields of a request; chat and completion name them alike.
macro_rules! sampling_of {
    ($request:ident) => {
        Sampling {
            max_tokens: $request.max_tokens,
            temperature: $request.temperature,
            top_p: $request.top_p,
            top_k: $request.top_k,
            frequency_penalty: $request.frequency_penalty,
            presence_penalty: $request.presence_penalty,
            stop: &$request.stop,
            choice_count: $request.choice_count,
            logit_bias: &$request.logit_bias,
        }
    };
}

/// Checks a conversation.
pub(super) fn chat(mut request: ChatRequest) -> Result<Ask> {
    let mut faults = Faults::default();
    faults.if_true(request.endpoint.is_empty(), "endpoint", MISSING);
    faults.if_true(request.messages.is_empty(), "messages", "must hold at least one message");
    for (n, message) in request.messages.iter_mut().enumerate() {
        check_message(&mut faults, format_args!("messages[{n}]"), message);
    }
    sampling(&mut faults, &sampling_of!(request));
    let wants_top = request.top_logprobs.is_some_and(|top| top > 0);
    faults.if_true(wants_top && request.logprobs != Some(true), "top_logprobs", "needs `logprobs: true`");
    for (n, tool) in request.tools.iter().enumerate() {
        faults.if_true(!is_tool_name(&tool.name), format_args!("tools[{n}].name"), "must be 1 to 64 of `a-z`, `A-Z`, `0-9`, `_` and `-`");
    }
    if let Some(choice) = &request.tool_choice {
        tool_choice(&mut faults, choice, &request.tools);
    }
    if let Some(format) = &request.response_format {
        response_format(&mut faults, format);
    }
    faults.if_true(request.prompt_variables.is_some(), "prompt_variables", "the endpoint has no prompt template; leave it out");
    faults.finish()?;
    let endpoint = std::mem::take(&mut request.endpoint);
    Ok(Ask { endpoint, task: Task::Chat, request: Request::Chat(request) })
}

/// Checks prompts.
pub(super) fn complete(mut request: CompleteRequest) -> Result<Ask> {
    let mut faults = Faults::default();
    faults.if_true(request.endpoint.is_empty(), "endpoint", MISSING);
    faults.if_true(request.prompts.is_empty(), "prompts", "must hold at least one prompt");
    sampling(&mut faults, &sampling_of!(request));
    faults.finish()?;
    let endpoint = std::mem::take(&mut request.endpoint);
    Ok(Ask { endpoint, task: Task::Complete, request: Request::Complete(request) })
}

/// Checks inputs to embed.
pub(super) fn embed(mut request: EmbedRequest) -> Result<Ask> {
    let mut faults = Faults::default();
    faults.if_true(request.endpoint.is_empty(), "endpoint", MISSING);
    match (request.inputs.is_empty(), request.token_inputs.is_empty()) {
        (true, true) => faults.add("inputs", "must hold at least one text, unless `token_inputs` does"),
        (false, false) => faults.add("token_inputs", "cannot stand beside `inputs`; use one of them"),
        (true, false) | (false, true) => {}
    }
    for (n, input) in request.token_inputs.iter().enumerate() {
        faults.if_true(input.ids.is_empty(), format_args!("token_inputs[{n}].ids"), "must hold at least one id");
    }
    faults.if_true(request.dimensions == Some(0), "dimensions", AT_LEAST_ONE);
    faults.finish()?;
    let endpoint = std::mem::take(&mut request.endpoint);
    Ok(Ask { endpoint, task: Task::Embed, request: Request::Embed(request) })
}

/// Checks an input to predict for, as far as it does not depend on the dialect.
pub(super) fn predict(mut request: PredictRequest) -> Result<Ask> {
    let mut faults = Faults::default();
    faults.if_true(request.endpoint.is_empty(), "endpoint", MISSING);
    let one_of = "one of `dataframe_split`, `dataframe_records`, `instances`, `inputs`, `frame`, `tensors`, `raw` must be set";
    faults.if_true(request.input.is_none(), "input", one_of);
    let form = PredictionForm::try_from(request.prediction_form);
    faults.if_true(form.is_err(), "prediction_form", "is not a form that this gateway knows");
    faults.finish()?;
    let endpoint = std::mem::take(&mut request.endpoint);
    Ok(Ask { endpoint, task: Task::Predict, request: Request::Predict(request) })
}

fn check_message(faults: &mut Faults, at: fmt::Arguments<'_>, message: &mut Message) {
    match Role::try_from(message.role) {
        Ok(Role::Unspecified) => message.set_role(Role::User),
        Ok(_) => {}
        Err(_) => faults.add(format_args!("{at}.role"), "is not a role that this gateway knows"),
    }
    if !message.text.is_empty() {
        if message.parts.is_empty() {
            message.parts.push(text_part(std::mem::take(&mut message.text)));
        } else {
            faults.add(format_args!("{at}.text"), "cannot stand beside `parts`; use one of them");
        }
    }
    for (n, part) in message.parts.iter().enumerate() {
        check_part(faults, format_args!("{at}.parts[{n}]"), part);
    }
}

fn check_part(faults: &mut Faults, at: fmt::Arguments<'_>, part: &Part) {
    match &part.kind {
        None => faults.add(at, "has no kind; set one of `text`, `media`, `tool_call`, `tool_result`, `reasoning`, `refusal`, `raw`"),
        Some(Kind::Media(media)) => match &media.source {
            None => faults.add(format_args!("{at}.media"), "has no source; set one of `data`, `uri`, `file_id`"),
            Some(Source::Data(_)) => {
                faults.if_true(media.mime_type.is_empty(), format_args!("{at}.media.mime_type"), "is required with `data`");
            }
            Some(Source::Uri(name) | Source::FileId(name)) => {
                faults.if_true(name.is_empty(), format_args!("{at}.media"), "has an empty source");
            }
        },
        Some(Kind::ToolCall(call)) => faults.if_true(call.name.is_empty(), format_args!("{at}.tool_call.name"), MISSING),
        Some(Kind::ToolResult(result)) => {
            faults.if_true(result.tool_call_id.is_empty(), format_args!("{at}.tool_result.tool_call_id"), MISSING);
            for (n, part) in result.parts.iter().enumerate() {
                let is_content = matches!(&part.kind, Some(Kind::Text(_) | Kind::Media(_)));
                faults.if_true(!is_content, format_args!("{at}.tool_result.parts[{n}]"), "must be `text` or `media`");
            }
        }
        Some(Kind::Raw(raw)) => {
            faults.if_true(raw.provider.is_empty(), format_args!("{at}.raw.provider"), MISSING);
            faults.if_true(raw.json.is_empty(), format_args!("{at}.raw.json"), MISSING);
        }
        Some(Kind::Text(_) | Kind::Reasoning(_) | Kind::Refusal(_)) => {}
    }
}

fn sampling(faults: &mut Faults, sampling: &Sampling<'_>) {
    for (field, count) in [("max_tokens", sampling.max_tokens), ("top_k", sampling.top_k), ("choice_count", sampling.choice_count)] {
        faults.if_true(count == Some(0), field, AT_LEAST_ONE);
    }
    let outside = |number: Option<f64>, allowed: fn(f64) -> bool| number.is_some_and(|number| !allowed(number));
    // How hot a model may run is the provider's to say.
    faults.if_true(outside(sampling.temperature, |t| t >= 0.0 && t.is_finite()), "temperature", "must be a number from 0");
    faults.if_true(outside(sampling.top_p, |p| p > 0.0 && p <= 1.0), "top_p", "must be above 0 and at most 1");
    for (field, penalty) in [("frequency_penalty", sampling.frequency_penalty), ("presence_penalty", sampling.presence_penalty)] {
        faults.if_true(outside(penalty, |penalty| (-2.0..=2.0).contains(&penalty)), field, "must be from -2 to 2");
    }
    for (n, stop) in sampling.stop.iter().enumerate() {
        faults.if_true(stop.is_empty(), format_args!("stop[{n}]"), "must not be empty");
    }
    let biased = sampling.logit_bias.values().all(|bias| (-100.0..=100.0).contains(bias));
    faults.if_true(!biased, "logit_bias", "must hold numbers from -100 to 100");
}

fn tool_choice(faults: &mut Faults, choice: &ToolChoice, tools: &[Tool]) {
    match ToolChoiceMode::try_from(choice.mode) {
        Err(_) => faults.add("tool_choice.mode", "is not a mode that this gateway knows"),
        Ok(ToolChoiceMode::Tool) if choice.name.is_empty() => faults.add("tool_choice.name", "is required with TOOL_CHOICE_MODE_TOOL"),
        Ok(ToolChoiceMode::Tool) => {
            let is_known = tools.iter().any(|tool| tool.name == choice.name);
            faults.if_true(!is_known, "tool_choice.name", "is not the name of one of the `tools`");
        }
        Ok(_) => faults.if_true(!choice.name.is_empty(), "tool_choice.name", "is allowed with TOOL_CHOICE_MODE_TOOL only"),
    }
}

fn response_format(faults: &mut Faults, format: &ResponseFormat) {
    match ResponseFormatType::try_from(format.r#type) {
        Err(_) => faults.add("response_format.type", "is not a type that this gateway knows"),
        Ok(ResponseFormatType::JsonSchema) => {
            for (field, text) in [("name", &format.name), ("schema", &format.schema)] {
                faults.if_true(
                    text.is_empty(),
                    format_args!("response_format.{field}"),
                    "is required with RESPONSE_FORMAT_TYPE_JSON_SCHEMA",
                );
            }
        }
        Ok(_) => {}
    }
}

fn is_tool_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

impl Faults {
    fn add(&mut self, field: impl fmt::Display, what: &'static str) {
        self.0 = Some(match self.0.take() {
            None => Error::invalid(field.to_string(), what),
            Some(error) if error.violations().len() < MOST_FAULTS => error.at(field.to_string(), what),
            Some(error) => error,
        });
    }

    fn if_true(&mut self, wrong: bool, field: impl fmt::Display, what: &'static str) {
        if wrong {
            self.add(field, what);
        }
    }

    fn finish(self) -> Result<()> {
        self.0.map_or(Ok(()), Err)
    }
}
