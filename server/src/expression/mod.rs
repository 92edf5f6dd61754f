//! Python-flavoured expressions and templates over a request: compiled once at load, bounded in work, memory and time. Pure.

use std::{fmt, ops::Range, sync::Arc, sync::LazyLock};

use minijinja::{Environment, Value, value::Object};
use serde::de::IgnoredAny;

mod arguments;
mod fill;
mod functions;
mod json;
mod lower;
mod meter;
mod methods;
mod names;
mod operands;
mod operators;
mod power;
mod request;
mod syntax;
#[cfg(test)]
mod tests;

use lower::Roots;
use operands::Source;

pub use fill::{Makes, fill};
pub use request::{Request, Seen};

/// Instructions that one evaluation may take. There are no loops, so a source of [`syntax::MAX_CONDITION`] never gets near it.
const FUEL: u64 = 10_000;
/// The longest text that a template may make, in bytes.
const MAX_OUTPUT: usize = 4 << 20;

/// The headers that hold credentials, in small letters. Whoever makes a [`Request`] leaves them out.
pub const CREDENTIALS: &[&str] = &[
    "authorization",
    "proxy-authorization",
    "cookie",
    "x-api-key",
    "api-key",
    "x-goog-api-key",
    "x-amz-security-token",
    "x-forwarded-client-cert",
];

static ENGINE: LazyLock<Environment<'static>> = LazyLock::new(|| names::engine(FUEL));

/// A condition of a configuration, compiled. Cloning shares.
#[derive(Clone)]
pub struct Expression(Arc<Compiled<minijinja::Expression<'static, 'static>>>);

/// A text with `{{ … }}` of a configuration, compiled. Cloning shares.
#[derive(Clone)]
pub struct Template {
    compiled: Arc<Compiled<Vec<Piece>>>,
    texts: Texts,
}

struct Compiled<T> {
    text: String,
    steps: Vec<String>,
    code: T,
}

enum Piece {
    Text(String),
    Expression {
        /// Where its `{{` stands.
        place: usize,
        source: Source,
        code: minijinja::Expression<'static, 'static>,
    },
}

/// How a template writes texts. Everything else is JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Texts {
    AsTheyAre,
    /// With quotes, but for what `|tojson` made, so that what stands outside of quotes is one value of JSON, whatever it holds.
    AsJson,
}

/// What a template makes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The text.
    pub text: String,
    /// Whether the template is one `{{ … }}` alone, and its value no text: then `text` is that value as JSON.
    pub is_value: bool,
}

/// What is wrong with a text, in words that say what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What.
    pub message: String,
    /// Where in the text, in bytes, if that is known.
    pub range: Option<Range<usize>>,
}

/// What a template sees: the request, and the steps that came before.
#[derive(Debug)]
struct Scope {
    request: Arc<Request>,
    steps: Value,
}

impl Fault {
    fn at(range: Range<usize>, message: impl Into<String>) -> Self {
        Self { message: message.into(), range: Some(range) }
    }
}

impl Expression {
    /// Compiles a text: parses it, checks every name in it, and bounds its work.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn compile(text: &str) -> Result<Self, Fault> {
        let lowered = lower::condition(text)?;
        let code = code(&lowered, text)?;
        Ok(Self(Arc::new(Compiled { text: text.to_owned(), steps: Vec::new(), code })))
    }

    /// The text as it is written.
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// Whether it is true of a request.
    ///
    /// # Errors
    /// Why it cannot be told, in words that hold nothing of the request; whoever asks decides what that means.
    pub fn holds(&self, request: &Arc<Request>) -> Result<bool, String> {
        meter::start(meter::CONDITION);
        let value = self.0.code.eval(Value::from_dyn_object(Arc::clone(request))).map_err(|error| meter::reason(&error))?;
        if value.is_undefined() { Err(meter::MISSING.to_owned()) } else { Ok(value.is_true()) }
    }
}

impl Template {
    /// Compiles a text. It has `{{ … }}` with the same expressions as conditions, and `steps`; no statements.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn compile(text: &str) -> Result<Self, Fault> {
        let template = Self::compile_over(text, Roots::STEP)?;
        let is_json = (template.begins_as_object() || template.begins_as_list()) && template.broken_json().is_none();
        Ok(if is_json { template.writing(Texts::AsJson) } else { template })
    }

    fn writing(self, texts: Texts) -> Self {
        Self { texts, ..self }
    }

    fn compile_over(text: &str, roots: Roots) -> Result<Self, Fault> {
        let (mut pieces, mut steps) = (Vec::new(), Vec::new());
        for piece in lower::template(text, roots)? {
            pieces.push(match piece {
                lower::Piece::Text(raw) => Piece::Text(raw),
                lower::Piece::Expression(place, lowered) => {
                    steps.extend(lowered.steps.iter().filter(|step| !steps.contains(*step)).cloned().collect::<Vec<_>>());
                    Piece::Expression { place, source: lowered.source, code: code(&lowered, text)? }
                }
            });
        }
        let compiled = Arc::new(Compiled { text: text.to_owned(), steps, code: pieces });
        Ok(Self { compiled, texts: Texts::AsTheyAre })
    }

    /// The text as it is written.
    pub fn text(&self) -> &str {
        &self.compiled.text
    }

    /// The steps that it names.
    pub fn steps(&self) -> &[String] {
        &self.compiled.steps
    }

    /// Whether it is written as an object of JSON: it is one, whatever its `{{ … }}` stand for.
    pub fn is_object(&self) -> bool {
        self.texts == Texts::AsJson && self.begins_as_object()
    }

    /// Whether it is written as a list of JSON, as [`Self::is_object`].
    pub fn is_list(&self) -> bool {
        self.texts == Texts::AsJson && self.begins_as_list()
    }

    /// Whether it begins as an object of JSON. Other texts may.
    pub fn begins_as_object(&self) -> bool {
        self.compiled.text.trim_start().strip_prefix('{').is_some_and(|rest| !rest.starts_with(['{', '%', '#']))
    }

    /// Whether it begins and ends as a list of JSON. Other texts may.
    pub fn begins_as_list(&self) -> bool {
        let inner = self.compiled.text.trim().strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).map(str::trim_start);
        let words = ["true", "false", "null"];
        inner.is_some_and(|inner| {
            inner.is_empty()
                || inner.starts_with(['{', '[', '"', '-'])
                || inner.starts_with(|c: char| c.is_ascii_digit())
                || words.iter().any(|word| inner.starts_with(word))
        })
    }

    /// Where the first `{{` stands between the quotes of a JSON text, if the template begins as JSON. A value with quotes in it would
    /// end that text and write on.
    pub fn quoted_in_json(&self) -> Option<usize> {
        if self.begins_as_object() || self.begins_as_list() { self.quoted() } else { None }
    }

    /// Where the first `{{` stands between quotes.
    fn quoted(&self) -> Option<usize> {
        let (mut is_quoted, mut is_escaped) = (false, false);
        for piece in &self.compiled.code {
            match piece {
                Piece::Text(text) => {
                    for c in text.chars() {
                        is_quoted ^= c == '"' && !is_escaped;
                        is_escaped = is_quoted && c == '\\' && !is_escaped;
                    }
                }
                Piece::Expression { place, .. } if is_quoted => return Some(*place),
                Piece::Expression { .. } => {}
            }
        }
        None
    }

    /// Where the text between the `{{ … }}` is no JSON around values of every kind, and why: the place of the last `{{` before that.
    pub fn broken_json(&self) -> Option<(usize, String)> {
        ["\"\"", "0"].into_iter().find_map(|value| {
            let (frame, places) = self.frame(|_| value);
            let error = serde_json::from_str::<IgnoredAny>(&frame).err()?;
            let lines = frame.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len);
            let end = lines.sum::<usize>() + error.column();
            let before = places.iter().rev().find(|(at, _)| *at < end);
            // Its line and column are those of the frame.
            let why = error.to_string().split(" at line ").next().unwrap_or_default().to_owned();
            Some((before.map_or(0, |(_, place)| *place), why))
        })
    }

    /// The text with other values in all places; where these stand, and where their `{{` do.
    fn frame(&self, value: impl Fn(Source) -> &'static str) -> (String, Vec<(usize, usize)>) {
        let (mut frame, mut places) = (String::new(), Vec::new());
        for piece in &self.compiled.code {
            match piece {
                Piece::Text(text) => frame.push_str(text),
                Piece::Expression { place, source, .. } => {
                    places.push((frame.len(), *place));
                    frame.push_str(value(*source));
                }
            }
        }
        (frame, places)
    }

    /// The text with what it names, of a request and of the steps that came before. Everything but texts is written as JSON, and they are
    /// too where the template is an object or a list of JSON: what a model or a caller said would else write on in it.
    ///
    /// # Errors
    /// Why it cannot be told: something is missing, or the result would be longer than 4 MiB.
    pub fn render(&self, request: &Arc<Request>, steps: &serde_json::Value) -> Result<Rendered, String> {
        meter::start(meter::RENDERING);
        let named = self.compiled.steps.iter().filter_map(|name| Some((Value::from(name.as_str()), json::of_tree(steps.get(name)?))));
        let steps = Value::from_object(json::Table::new(named.collect()));
        self.fill(&Value::from_object(Scope { request: Arc::clone(request), steps }))
    }

    fn fill(&self, scope: &Value) -> Result<Rendered, String> {
        let (mut out, mut is_value) = (String::new(), self.alone().is_some());
        for piece in &self.compiled.code {
            let value;
            let made;
            let text = match piece {
                Piece::Text(text) => text.as_str(),
                Piece::Expression { code, .. } => {
                    value = code.eval(scope.clone()).map_err(|error| meter::reason(&error))?;
                    if let Some(text) = value.as_str().filter(|_| self.texts == Texts::AsTheyAre || value.is_safe()) {
                        is_value = false;
                        text
                    } else {
                        made = json::text(&value).map_err(|error| meter::reason(&error))?;
                        &made
                    }
                }
            };
            if out.len() + text.len() > MAX_OUTPUT {
                return Err(format!("the text would be longer than {MAX_OUTPUT} bytes"));
            }
            out.push_str(text);
        }
        Ok(Rendered { text: out, is_value })
    }

    /// Where its value is from, if it is one `{{ … }}`, white space aside.
    fn alone(&self) -> Option<Source> {
        let is_blank = |piece: &&Piece| matches!(piece, Piece::Text(text) if text.trim().is_empty());
        let mut rest = self.compiled.code.iter().filter(|piece| !is_blank(piece));
        match (rest.next(), rest.next()) {
            (Some(Piece::Expression { source, .. }), None) => Some(*source),
            _ => None,
        }
    }
}

fn code(lowered: &lower::Lowered, text: &str) -> Result<minijinja::Expression<'static, 'static>, Fault> {
    let compiled = ENGINE.compile_expression_owned(lowered.text.clone());
    // Places in the lowered text mean nothing to whoever wrote the other.
    compiled.map_err(|error| Fault::at(0..text.len(), error.detail().unwrap_or("the expression cannot be compiled").to_owned()))
}

impl Object for Scope {
    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        if key == "_steps" { Some(self.steps.clone()) } else { self.request.get_value_by_str(key) }
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.0.text).finish()
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Template").field(&self.compiled.text).finish()
    }
}
