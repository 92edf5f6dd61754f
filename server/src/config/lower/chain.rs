//! `steps:` an endpoint that is a chain of others. Knows their names only; what they are is `graph`'s.

use std::collections::HashMap;

use super::compile;
use crate::{
    config::{
        Step,
        diagnostic::{Diagnostic, Spot},
        raw::{RawEndpoint, RawStep, RawTimeouts},
        reading::Reading,
        suggest,
        tree::At,
        units,
    },
    event::Task,
    expression::Template,
};

/// The steps, as far as they can be read. Empty for what is no chain.
pub(super) fn lower(at: &At<RawEndpoint>, reading: &mut Reading<'_>) -> Vec<Step> {
    let Some(written) = &at.value.routing.steps else { return Vec::new() };
    check_alone(&at.value, reading);
    check_upkeep(&at.value, reading);
    if written.value.is_empty() && !reading.is_damaged(written.spot) {
        reading.error(written.spot, Diagnostic::new("`steps` is empty").expected("at least one step, for example `{ endpoint: clean }`"));
    }
    let mut seen: HashMap<&str, Spot> = HashMap::new();
    let mut steps: Vec<Step> = Vec::new();
    for RawStep { name, endpoint, input } in written.value.iter().map(|step| &step.value) {
        if let Some(name) = name.as_ref().filter(|name| !units::name(&name.value)) {
            reading.wrong(name.spot, "name", units::NAME);
        }
        let template = input.as_ref().and_then(|input| {
            let template = compile::template(input, reading)?;
            check_names(input, &template, &steps, reading);
            check_json(input, &template, reading);
            Some(template)
        });
        if let Some(name) = name.as_ref().or(endpoint.as_ref()) {
            super::check_twice(&mut seen, name, "step name", reading);
            let endpoint = endpoint.as_ref().unwrap_or(name);
            steps.push(Step { name: name.value.clone(), endpoint: endpoint.value.clone(), input: template });
        }
    }
    steps
}

/// A chain has no deployments, so what is about them would do nothing, silently.
fn check_alone(raw: &RawEndpoint, reading: &mut Reading<'_>) {
    let (routing, traits) = (&raw.routing, &raw.traits);
    let first = raw.deployments.as_ref().and_then(|deployments| deployments.first());
    let beside = [
        ("model", raw.model.as_ref().map(|at| at.spot)),
        ("deployments", first.map(|at| at.spot)),
        ("upstream", raw.upstream.as_ref().map(|at| at.spot)),
        ("unsupported", raw.unsupported.as_ref().map(|at| at.spot)),
        ("compat", raw.compat.as_ref().map(|at| at.spot)),
        ("media", raw.media.as_ref().map(|at| at.spot)),
        ("idempotent", routing.idempotent.as_ref().map(|at| at.spot)),
        ("hedge", routing.hedge.as_ref().map(|at| at.spot)),
        ("mirror", routing.mirror.as_ref().map(|at| at.spot)),
        ("affinity", routing.affinity.as_ref().map(|at| at.spot)),
        ("rollout", routing.rollout.as_ref().map(|at| at.spot)),
        ("require", routing.require.as_ref().map(|at| at.spot)),
        ("prefer", routing.prefer.as_ref().map(|at| at.spot)),
        ("min_throughput", routing.min_throughput.as_ref().map(|at| at.spot)),
        ("price", traits.price.as_ref().map(|at| at.spot)),
        ("context_window", traits.context_window.as_ref().map(|at| at.spot)),
        ("capabilities", traits.capabilities.as_ref().and_then(|words| words.first()).map(|at| at.spot)),
        ("breaker", traits.breaker.as_ref().map(|at| at.spot)),
        ("concurrency", traits.concurrency.as_ref().map(|at| at.spot)),
        ("batch", traits.batch.as_ref().map(|at| at.spot)),
    ];
    for (key, spot) in beside {
        if let Some(spot) = spot {
            let diagnostic = Diagnostic::new(format!("`{key}` stands beside `steps`"));
            reading.error(spot, diagnostic.expected("one of the two: a chain has no deployments, the endpoints of its steps have"));
        }
    }
}

/// What holds for one try has no place on a chain either: each step's endpoint tries by its own keys.
fn check_upkeep(raw: &RawEndpoint, reading: &mut Reading<'_>) {
    let timeouts = raw.timeouts.as_ref().map(|timeouts| &timeouts.value);
    let of = |pick: fn(&RawTimeouts) -> &Option<At<String>>| timeouts.and_then(|timeouts| pick(timeouts).as_ref()).map(|at| at.spot);
    let beside = [
        ("retry", raw.routing.retry.as_ref().map(|at| at.spot)),
        ("timeouts.connect", of(|timeouts| &timeouts.connect)),
        ("timeouts.attempt", of(|timeouts| &timeouts.attempt)),
        ("timeouts.first_event", of(|timeouts| &timeouts.first_event)),
        ("timeouts.idle", of(|timeouts| &timeouts.idle)),
    ];
    for (key, spot) in beside {
        if let Some(spot) = spot {
            let diagnostic = Diagnostic::new(format!("`{key}` does nothing beside `steps`: a chain makes no attempts of its own"));
            reading
                .error(spot, diagnostic.expected(format!("`{key}` on the endpoints of the steps; `timeouts.total` holds for the chain")));
        }
    }
}

/// In JSON, a text within quotes could end them and write on: what a model says would become part of the request.
fn check_json(input: &At<String>, template: &Template, reading: &mut Reading<'_>) {
    let Some(place) = template.quoted_in_json() else { return };
    let spot = compile::spot(input, place, reading);
    let diagnostic = Diagnostic::new("`{{ … }}` stands between the quotes of a JSON text, which a value with quotes in it would end");
    reading.error(spot, diagnostic.suggest(Some("write `{{ …|tojson }}` without quotes around it")));
}

/// What an endpoint takes as a whole request must be JSON whatever its `{{ … }}` stand for: it would fail each call, or a text could write
/// on in it. Prompts may begin as they like.
pub(super) fn check_request(input: &At<String>, task: Task, reading: &mut Reading<'_>) {
    // What else is wrong with it is said already.
    let Ok(template) = Template::compile(&input.value) else { return };
    let is_object = template.begins_as_object();
    let is_read = match task {
        Task::Chat => is_object,
        Task::Predict => is_object || template.begins_as_list(),
        Task::Complete | Task::Embed => false,
    };
    if !is_read || template.quoted_in_json().is_some() {
        return;
    }
    let Some((place, why)) = template.broken_json() else { return };
    let spot = compile::spot(input, place, reading);
    if is_object {
        let message = format!("the `input` makes no JSON where a text or a number stands for each `{{{{ … }}}}` ({why})");
        let expected = "a JSON object, which this endpoint takes as a whole request, with a whole value for each `{{ … }}`";
        let diagnostic = Diagnostic::new(message).expected(expected);
        reading.error(spot, diagnostic.suggest(Some("begin what is a text all the same with `{{ '{' }}`")));
    } else {
        let message = format!("the `input` begins as a JSON list and is none ({why}), so that it is handed on as a text");
        let diagnostic = Diagnostic::new(message);
        reading.report.warn(spot, diagnostic.suggest(Some("correct the list, or begin the text with `{{ '[' }}`")));
    }
}

/// A step can use what earlier ones said, and nothing else.
fn check_names(input: &At<String>, template: &Template, earlier: &[Step], reading: &mut Reading<'_>) {
    if template.steps().is_empty() {
        return;
    }
    let names: Vec<&str> = earlier.iter().map(|step| step.name.as_str()).collect();
    let places = mentioned(&input.value);
    for name in template.steps().iter().map(String::as_str).filter(|name| !names.contains(name)) {
        // Written in an odd way, it is not found: then the whole text is the place.
        let place = places.iter().find(|(_, found)| *found == name);
        let spot = place.map_or(input.spot, |(offset, _)| compile::spot(input, *offset, reading));
        let diagnostic = Diagnostic::new(format!("`steps.{}` is no earlier step", suggest::short(name)));
        let expected = if names.is_empty() { "`request`: the first step has none before it".to_owned() } else { suggest::list(&names) };
        let dashed = names.iter().find(|own| own.strip_prefix(name).is_some_and(|rest| rest.starts_with(['-', '.'])));
        let suggestion = match dashed {
            Some(own) => Some(format!("write `steps['{own}']`")),
            None => suggest::nearest(name, &names),
        };
        reading.error(spot, diagnostic.expected(expected).suggest(suggestion));
    }
}

/// The names behind `steps.` and in `steps['…']` within the tags of a template, each with its place. Texts in quotes are passed over.
fn mentioned(template: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some((begin, end)) = tag(template, at) {
        names_in(template, (begin, end), &mut found);
        at = end;
    }
    found
}

/// Where the next tag of a template begins and ends.
fn tag(template: &str, from: usize) -> Option<(usize, usize)> {
    let rest = template.get(from..)?;
    let begin = ["{{", "{%", "{#"].iter().filter_map(|open| rest.find(open)).min()?;
    let inner = from + begin + 2;
    let close = match rest.as_bytes().get(begin + 1)? {
        b'{' => "}}",
        b'%' => "%}",
        // A comment: nothing in it counts.
        _ => {
            let end = template.get(inner..)?.find("#}").map_or(template.len(), |end| inner + end);
            return tag(template, end);
        }
    };
    Some((inner, template.get(inner..)?.find(close).map_or(template.len(), |end| inner + end)))
}

fn names_in<'a>(template: &'a str, (begin, end): (usize, usize), found: &mut Vec<(usize, &'a str)>) {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut at = begin;
    // What stood before, white space aside: after a `.`, `steps` is somebody else's.
    let mut before = ' ';
    while let Some(rest) = template.get(at..end).filter(|rest| !rest.is_empty()) {
        let first = rest.chars().next().unwrap_or(' ');
        let length = match first {
            '\'' | '"' => quoted(rest),
            c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            c => c.len_utf8(),
        };
        if rest.get(..length) == Some("steps") && before != '.' {
            let behind = rest.get(length..).unwrap_or_default();
            if let Some(name) = behind.strip_prefix('.') {
                let name = name.get(..name.find(|c| !is_word(c)).unwrap_or(name.len())).unwrap_or_default();
                found.extend((!name.is_empty()).then_some((at + length + 1, name)));
            } else if let Some(text) = behind.strip_prefix('[').filter(|text| text.starts_with(['\'', '"'])) {
                let name = text.get(1..quoted(text).saturating_sub(1)).unwrap_or_default();
                found.push((at + length + 2, name));
            }
        }
        if !first.is_whitespace() {
            before = first;
        }
        at += length;
    }
}

/// The length of a text in quotes.
fn quoted(text: &str) -> usize {
    let quote = text.chars().next();
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if !escaped && Some(c) == quote {
            return at + c.len_utf8();
        }
        escaped = !escaped && c == '\\';
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_steps_are_seen_in_tags_only() {
        let names = |template: &'static str| mentioned(template).into_iter().map(|(_, name)| name).collect::<Vec<_>>();
        for (template, expected) in [
            ("{{ steps.a.text }} {{steps.b}}", vec!["a", "b"]),
            ("{{ steps['a-b'].text }} {{ steps[\"c\"] }}", vec!["a-b", "c"]),
            ("{% if steps.a.predictions %}x{% endif %}", vec!["a"]),
            ("steps.a {{ 'steps.b' }} {# steps.c #} {{ request.steps.d }} {{ mysteps.e }}", vec![]),
            ("{{ steps[name] }} {{ steps }} {{ steps. }} {{ 'it\\'s steps.x' }}", vec![]),
            ("{{ steps.é ~ steps.b", vec!["é", "b"]),
            ("{{", vec![]),
            ("{# {{ steps.a }}", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(names(template), expected, "{template}");
        }
        assert_eq!(mentioned("x {{ steps.a }}"), [(11, "a")]);
        assert_eq!(mentioned("{{ steps['b'] }}"), [(10, "b")]);
    }
}
