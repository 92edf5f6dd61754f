//! What expressions may name: operators, functions, methods, filters and tests, each with its parameters and what carries it out.
//! The documentation in `docs/conditions.md` lists the same.

use minijinja::{Environment, Error, State, Value};

use super::{
    functions,
    meter::{MISSING, refuse},
    methods, operators,
};

/// Something that can be called.
#[derive(Debug)]
pub(super) struct Row {
    /// Its name.
    pub(super) name: &'static str,
    /// Its parameters; of a method or filter, the value before it is the first.
    pub(super) params: &'static [&'static str],
    /// How many of them must be given.
    pub(super) required: usize,
    act: Act,
}

/// What carries it out.
#[derive(Debug)]
enum Act {
    /// Ours, which pays for itself.
    Ours(fn(&[Value]) -> Result<Value, Error>),
    /// The engine's Python layer, at a price that is known beforehand.
    Python(fn(&[Value]) -> usize),
}

/// A group of names, told from the others by a letter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    /// The letter before their names in compiled text, where what a person writes cannot name them.
    pub(super) letter: char,
    /// What they are, for messages.
    pub(super) what: &'static str,
    /// The names.
    pub(super) rows: &'static [Row],
}

const fn ours(name: &'static str, params: &'static [&'static str], required: usize, act: fn(&[Value]) -> Result<Value, Error>) -> Row {
    Row { name, params, required, act: Act::Ours(act) }
}

const fn python(name: &'static str, params: &'static [&'static str], required: usize, price: fn(&[Value]) -> usize) -> Row {
    Row { name, params, required, act: Act::Python(price) }
}

/// Operators that the engine must not carry out itself.
pub(super) const OPERATORS: Group = Group {
    letter: 'o',
    what: "operator",
    rows: &[
        ours("add", &["a", "b"], 2, operators::add),
        ours("multiply", &["a", "b"], 2, operators::multiply),
        ours("concat", &["a", "b"], 2, operators::concat),
        ours("eq", &["a", "b"], 2, |args| sign("==", args)),
        ours("ne", &["a", "b"], 2, |args| sign("!=", args)),
        ours("lt", &["a", "b"], 2, |args| sign("<", args)),
        ours("le", &["a", "b"], 2, |args| sign("<=", args)),
        ours("gt", &["a", "b"], 2, |args| sign(">", args)),
        ours("ge", &["a", "b"], 2, |args| sign(">=", args)),
        ours("in", &["part", "whole"], 2, |args| sign("in", args)),
        ours("chain", &[MANY], 1, operators::chain),
        ours("item", &["value", "index"], 2, operators::item),
        ours("slice", &["value", "start", "stop", "step"], 1, operators::slice),
        ours("is", &["value", "test", "other"], 2, functions::is),
    ],
};

/// Stands for any number of further arguments.
pub(super) const MANY: &str = "…";

/// Python's functions.
pub(super) const FUNCTIONS: Group = Group {
    letter: 'f',
    what: "function",
    rows: &[
        ours("abs", &["x"], 1, functions::abs),
        ours("all", &["list"], 1, functions::all),
        ours("any", &["list"], 1, functions::any),
        ours("bool", &["x"], 1, functions::bool),
        ours("float", &["x"], 1, functions::float),
        ours("int", &["x"], 1, functions::int),
        ours("isinstance", &["x", "type"], 2, functions::isinstance),
        ours("len", &["x"], 1, functions::len),
        ours("list", &["x"], 1, functions::list),
        ours("max", &["x", MANY], 1, functions::max),
        ours("min", &["x", MANY], 1, functions::min),
        ours("range", &["start", "stop", "step"], 1, functions::range),
        ours("round", &["x", "ndigits"], 1, functions::round),
        ours("sorted", &["list", "reverse"], 1, functions::sorted),
        ours("str", &["x"], 1, functions::str),
        ours("sum", &["list"], 1, functions::sum),
    ],
};

/// Python's methods of texts, dicts and lists.
pub(super) const METHODS: Group = Group {
    letter: 'm',
    what: "method",
    rows: &[
        python("capitalize", &["text"], 1, methods::respell),
        ours("count", &["value", "what"], 2, methods::count),
        python("endswith", &["text", "suffix"], 2, methods::prefix),
        python("find", &["text", "what"], 2, methods::scan),
        ours("get", &["dict", "key", "default"], 2, methods::get),
        python("isalnum", &["text"], 1, methods::scan),
        python("isalpha", &["text"], 1, methods::scan),
        python("isascii", &["text"], 1, methods::scan),
        python("isdigit", &["text"], 1, methods::scan),
        python("islower", &["text"], 1, methods::scan),
        python("isnumeric", &["text"], 1, methods::scan),
        python("isspace", &["text"], 1, methods::scan),
        python("isupper", &["text"], 1, methods::scan),
        ours("items", &["dict"], 1, methods::entries),
        ours("join", &["separator", "list"], 2, methods::join),
        ours("keys", &["dict"], 1, methods::keys),
        python("lower", &["text"], 1, methods::remake),
        python("lstrip", &["text", "chars"], 1, methods::strip),
        ours("removeprefix", &["text", "prefix"], 2, methods::remove_prefix),
        ours("removesuffix", &["text", "suffix"], 2, methods::remove_suffix),
        ours("replace", &["text", "old", "new", "count"], 3, methods::replace),
        python("rfind", &["text", "what"], 2, methods::scan),
        python("rstrip", &["text", "chars"], 1, methods::strip),
        python("split", &["text", "sep", "maxsplit"], 1, methods::split),
        python("splitlines", &["text", "keepends"], 1, methods::lines),
        python("startswith", &["text", "prefix"], 2, methods::prefix),
        python("strip", &["text", "chars"], 1, methods::strip),
        python("title", &["text"], 1, methods::respell),
        python("upper", &["text"], 1, methods::remake),
        ours("values", &["dict"], 1, methods::values),
    ],
};

/// Jinja's filters.
pub(super) const FILTERS: Group = Group {
    letter: 'j',
    what: "filter",
    rows: &[
        ours("abs", &["x"], 1, functions::abs),
        ours("default", &["value", "default_value", "boolean"], 1, functions::default),
        ours("first", &["list"], 1, functions::first),
        ours("float", &["x"], 1, functions::float),
        ours("int", &["x"], 1, functions::int),
        ours("join", &["list", "d"], 1, methods::join_filter),
        ours("last", &["list"], 1, functions::last),
        ours("length", &["x"], 1, functions::len),
        ours("list", &["x"], 1, functions::list),
        python("lower", &["text"], 1, methods::remake),
        ours("map", &["list", "attribute", "default"], 2, functions::map),
        ours("max", &["list"], 1, functions::max),
        ours("min", &["list"], 1, functions::min),
        ours("rejectattr", &["list", "attribute", "test", "value"], 2, functions::rejectattr),
        ours("replace", &["text", "old", "new", "count"], 3, methods::replace),
        ours("round", &["x", "precision"], 1, functions::round),
        ours("selectattr", &["list", "attribute", "test", "value"], 2, functions::selectattr),
        ours("sort", &["list", "reverse"], 1, functions::sorted),
        ours("string", &["x"], 1, functions::str),
        ours("sum", &["list"], 1, functions::sum),
        ours("tojson", &["value"], 1, functions::tojson),
        python("trim", &["text", "chars"], 1, methods::strip),
        python("upper", &["text"], 1, methods::remake),
    ],
};

/// What `request` offers.
pub(super) const PARTS: &[&str] =
    &["args", "get_json", "headers", "json", "metadata", "method", "path", "principal", "remote_addr", "text"];

impl Group {
    /// The row of a name.
    pub(super) fn find(&self, name: &str) -> Option<&'static Row> {
        self.rows.iter().find(|row| row.name == name)
    }

    /// The names.
    pub(super) fn names(&self) -> Vec<&'static str> {
        self.rows.iter().map(|row| row.name).collect()
    }
}

fn sign(sign: &str, args: &[Value]) -> Result<Value, Error> {
    operators::compare(sign, operators::at(args, 0)?, operators::at(args, 1)?).map(Value::from)
}

/// The engine, in which there is nothing but what this file names.
pub(super) fn engine(fuel: u64) -> Environment<'static> {
    let mut engine = Environment::empty();
    engine.set_fuel(Some(fuel));
    engine.set_debug(false);
    engine.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
    for group in [OPERATORS, FUNCTIONS, METHODS, FILTERS] {
        for row in group.rows {
            let name = format!("{}_{}", group.letter, row.name);
            match row.act {
                Act::Ours(act) => {
                    // These two are asked about what is missing.
                    let asks = matches!(row.name, "default" | "is");
                    engine.add_filter(name, move |args: &[Value]| if asks { act(args) } else { act(present(args)?) });
                }
                Act::Python(price) => {
                    let method = if row.name == "trim" { "strip" } else { row.name };
                    engine.add_filter(name, move |state: &mut State<'_, '_>, args: &[Value]| {
                        methods::python(state, method, present(args)?, price)
                    });
                }
            }
        }
    }
    engine
}

fn present(args: &[Value]) -> Result<&[Value], Error> {
    if args.iter().any(Value::is_undefined) { Err(refuse(MISSING)) } else { Ok(args) }
}

/// A question after the nearest of some names, if one is near: a third of its letters may differ.
pub(super) fn nearest(written: &str, names: &[&str]) -> String {
    let far = written.chars().count().div_ceil(3).max(1);
    let distances = names.iter().map(|name| (strsim::osa_distance(&written.to_ascii_lowercase(), &name.to_ascii_lowercase()), *name));
    match distances.filter(|(distance, _)| *distance <= far).min() {
        Some((_, name)) => format!("; did you mean `{name}`?"),
        None => String::new(),
    }
}
