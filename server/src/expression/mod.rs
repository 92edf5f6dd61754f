//! Python-flavoured expressions and templates over a request: compiled once at load, bounded in work, memory and time. Pure.

mod request;

use std::{fmt, ops::Range, sync::Arc, sync::LazyLock};

use minijinja::{Environment, Value};

pub use request::Request;

/// Instructions that one evaluation may take.
const FUEL: u64 = 10_000;

static ENGINE: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut engine = Environment::new();
    engine.set_fuel(Some(FUEL));
    engine.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    engine
});

/// A condition of a configuration, compiled. Cloning shares.
#[derive(Clone)]
pub struct Expression(Arc<Compiled>);

struct Compiled {
    text: String,
    expression: minijinja::Expression<'static, 'static>,
}

/// A text with `{{ … }}` of a configuration, compiled. Cloning shares.
#[derive(Clone, Debug)]
pub struct Template(Arc<str>);

/// What is wrong with a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What.
    pub message: String,
    /// Where in the text, in bytes, if that is known.
    pub range: Option<Range<usize>>,
}

impl Expression {
    /// Compiles a text.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn compile(text: &str) -> Result<Self, Fault> {
        let expression =
            ENGINE.compile_expression_owned(text.to_owned()).map_err(|error| Fault { message: error.to_string(), range: error.range() })?;
        Ok(Self(Arc::new(Compiled { text: text.to_owned(), expression })))
    }

    /// The text as it is written.
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// Whether it is true of a request.
    ///
    /// # Errors
    /// Why it cannot be told.
    pub fn holds(&self, request: &Arc<Request>) -> Result<bool, String> {
        let scope = minijinja::context! { request => Value::from_dyn_object(Arc::clone(request)) };
        self.0.expression.eval(scope).map(|value| value.is_true()).map_err(|error| error.to_string())
    }
}

impl Template {
    /// Compiles a text.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn compile(text: &str) -> Result<Self, Fault> {
        ENGINE.template_from_str(text).map_err(|error| Fault { message: error.to_string(), range: error.range() })?;
        Ok(Self(text.into()))
    }

    /// The text as it is written.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// The text with what it names, of a request and of the steps that came before.
    ///
    /// # Errors
    /// Why it cannot be told.
    pub fn render(&self, request: &Arc<Request>, steps: &serde_json::Value) -> Result<String, String> {
        let scope = Value::from_pairs([
            ("request", Value::from_dyn_object(Arc::clone(request))),
            ("steps", Value::from(minijinja::value::Serde(steps))),
        ]);
        ENGINE.render_str(&self.0, scope).map_err(|error| error.to_string())
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.0.text).finish()
    }
}
