//! Conditions and templates, compiled; what is wrong with one is reported at its place in the YAML.

use crate::{
    config::{
        diagnostic::{Diagnostic, Spot},
        place,
        reading::Reading,
        tree::At,
    },
    dialect::templated::Fill,
    expression::{self, Expression, Fault, Makes, Template},
};

/// A condition.
pub(super) fn condition(when: &At<String>, reading: &mut Reading<'_>) -> Option<Expression> {
    let compiled = Expression::compile(&when.value);
    compiled.map_err(|fault| report(when, "condition", "`'x' in request.json()`", (fault, reading))).ok()
}

/// A template.
pub(super) fn template(input: &At<String>, reading: &mut Reading<'_>) -> Option<Template> {
    let compiled = Template::compile(&input.value);
    compiled.map_err(|fault| report(input, "template", "`{{ steps.clean.text }}`", (fault, reading))).ok()
}

/// A template that a dialect fills.
pub(super) fn fill(written: &At<String>, makes: Makes, reading: &mut Reading<'_>) -> Option<Fill> {
    let example = if makes == Makes::Predictions { "`{{ response.scores }}`" } else { "`{\"rows\": {{ rows }}}`" };
    expression::fill(&written.value, makes).map_err(|fault| report(written, "template", example, (fault, reading))).ok()
}

fn report(text: &At<String>, what: &str, example: &str, (fault, reading): (Fault, &mut Reading<'_>)) {
    let spot = fault.range.map_or(text.spot, |range| spot(text, range.start, reading));
    let diagnostic = Diagnostic::new(format!("the {what} cannot be read: {}", fault.message));
    reading.error(spot, diagnostic.expected(format!("a {what}, for example {example}")));
}

/// The place of a byte of a text.
pub(super) fn spot(text: &At<String>, offset: usize, reading: &Reading<'_>) -> Spot {
    // What a placeholder stood for has no places of its own.
    if text.expanded { text.spot } else { place::within(&reading.report, text.spot, &text.value, offset) }
}
