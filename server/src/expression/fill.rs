//! Templates that a dialect fills: of the body for a model server, and of what stands in its answer.

use std::{net::IpAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Method};
use minijinja::{Value, value::Object};

use super::{
    Fault, Request, Seen, Template, Texts,
    json::{Table, items},
    lower::Roots,
    meter,
    operands::Source,
};
use crate::{
    dialect::{
        scoring::door,
        templated::{self, Fill},
    },
    event::Payload,
};

/// The names that stand for MLflow's four forms of an input.
const FORMS: [&str; 4] = ["dataframe_split", "dataframe_records", "instances", "inputs"];

/// What a template sees of a request in MLflow's JSON: `request`, and these.
const OF_REQUEST: Roots = Roots { request: true, steps: false, given: &["rows", "columns", "inputs", "params"] };
/// What it sees of a model server's answer.
const OF_ANSWER: Roots = Roots { request: false, steps: false, given: &["response"] };

/// What a template makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Makes {
    /// A request's body of JSON.
    Json,
    /// The object of JSON that becomes a request's query.
    Query,
    /// A request's body of something else.
    Text,
    /// Predictions out of an answer, as JSON.
    Predictions,
}

/// What a template sees.
#[derive(Debug)]
struct Scope {
    request: Arc<Request>,
    is_answer: bool,
}

/// A template, compiled. What is to be JSON is so whatever the request holds: that is seen to here, and by how texts are written.
///
/// # Errors
/// What is wrong with it, and where.
pub fn fill(text: &str, makes: Makes) -> Result<Fill, Fault> {
    let is_answer = makes == Makes::Predictions;
    let template = Template::compile_over(text, if is_answer { OF_ANSWER } else { OF_REQUEST })?;
    let quoted = if makes == Makes::Text { template.quoted_in_json() } else { template.quoted() };
    if let Some(place) = quoted {
        let message = "`{{ … }}` stands between the quotes of a JSON text, which a value with quotes in it would end; leave the quotes out \
                       and write `{{ …|tojson }}`";
        return Err(Fault::at(place..place + 2, message));
    }
    if let Some(fault) = broken(&template, makes) {
        return Err(fault);
    }
    let is_sent = template.alone().is_some_and(|source| source != Source::Made);
    let template = template.writing(if makes == Makes::Text { Texts::AsTheyAre } else { Texts::AsJson });
    let fill = Fill::new(move |body| {
        meter::start(meter::RENDERING);
        let request = Request {
            method: Method::POST,
            path: String::new(),
            query: String::new(),
            remote: IpAddr::from([0, 0, 0, 0]),
            headers: HeaderMap::new(),
            principal: "".into(),
            payload: Payload::wire_only(door::wire(None, body.clone())),
            seen: Seen::default(),
        };
        let rendered = template.fill(&Value::from_object(Scope { request: Arc::new(request), is_answer }))?;
        Ok(Bytes::from(rendered.text))
    });
    Ok(if is_sent { fill.of_what_is_sent() } else { fill })
}

/// What keeps a template from making JSON, or a query, of some values.
fn broken(template: &Template, makes: Makes) -> Option<Fault> {
    if makes == Makes::Text {
        return None;
    }
    if let Some((place, why)) = template.broken_json() {
        let message = format!(
            "it makes no JSON where a text or a number stands for each `{{{{ … }}}}` ({why}); each must be a whole value of its own, such as \
             `{{{{ -rows[0][0] }}}}` or `{{{{ params.name|tojson }}}}`"
        );
        return Some(Fault::at(place..place + 2, message));
    }
    // What one `{{ … }}` alone stands for may be an object, unless it is a list.
    let is_open = template.alone().is_some_and(|source| source != Source::SentList);
    let frame = || template.frame(|source| if source == Source::SentList { "[]" } else { "0" }).0;
    let is_query = makes != Makes::Query || is_open || templated::is_query(frame().as_bytes());
    (!is_query).then(|| {
        let message = "a query is made of an object of texts, numbers, booleans and lists of them, for example `{\"x\": {{ rows[0][0] }}}`";
        Fault::at(0..1, message)
    })
}

impl Scope {
    /// The input, and the name of its form.
    fn input(&self) -> Option<(&'static str, Value)> {
        let body = self.request.json().downcast_object_ref::<Table>()?;
        FORMS.into_iter().find_map(|form| Some((form, body.get(form)?.clone())))
    }

    /// Rows, whatever the form.
    fn rows(&self) -> Option<Value> {
        match self.input()? {
            ("dataframe_split", split) => split.downcast_object_ref::<Table>()?.get("data").cloned(),
            (_, input) => items(&input).is_some().then_some(input),
        }
    }

    /// The names of columns, as far as the input names them.
    fn columns(&self) -> Option<Value> {
        match self.input()? {
            ("dataframe_split", split) => split.downcast_object_ref::<Table>()?.get("columns").cloned(),
            (_, input) => {
                let first = items(&input).map_or_else(|| Some(input.clone()), |rows| rows.first().cloned())?;
                let names = first.downcast_object_ref::<Table>()?.entries().iter().map(|(name, _)| name.clone());
                Some(names.collect())
            }
        }
    }

    fn params(&self) -> Option<Value> {
        let body = self.request.json().downcast_object_ref::<Table>()?;
        Some(body.get("params").cloned().unwrap_or_else(|| Value::from_object(Table::new(Vec::new()))))
    }
}

impl Object for Scope {
    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        match key {
            "_given_response" if self.is_answer => Some(self.request.json().clone()),
            "_given_rows" => self.rows(),
            "_given_columns" => self.columns(),
            "_given_inputs" => self.input().map(|(_, input)| input),
            "_given_params" => self.params(),
            _ => self.request.get_value_by_str(key),
        }
    }
}

#[cfg(test)]
mod tests;
