//! Python's built-in functions, and Jinja's filters and tests that work on lists. Each pays for its work before it does it. Pure.

use std::{cmp::Ordering, str::FromStr};

use minijinja::{Error, Value, value::ValueKind};

use super::{
    json::{self, items, pairs},
    meter::{ITEM, MISSING, charge, charge_each, refuse},
    operators::{Number, at, compare, given, order, text_of, whole},
};

/// The types that `isinstance` knows.
pub(super) const TYPES: &[&str] = &["str", "int", "float", "bool", "list", "dict"];

/// The tests that look at a value alone.
pub(super) const TESTS: &[&str] = &[
    "None",
    "none",
    "defined",
    "undefined",
    "string",
    "number",
    "integer",
    "float",
    "boolean",
    "sequence",
    "mapping",
    "iterable",
    "True",
    "true",
    "False",
    "false",
    "odd",
    "even",
];
/// The tests that compare it with another, and what they do.
pub(super) const COMPARING_TESTS: &[(&str, &str)] = &[
    ("==", "=="),
    ("eq", "=="),
    ("equalto", "=="),
    ("!=", "!="),
    ("ne", "!="),
    ("<", "<"),
    ("lt", "<"),
    ("<=", "<="),
    ("le", "<="),
    (">", ">"),
    ("gt", ">"),
    (">=", ">="),
    ("ge", ">="),
    ("in", "in"),
    ("startingwith", "startingwith"),
    ("endingwith", "endingwith"),
    ("divisibleby", "divisibleby"),
];

/// The items of a list, the keys of a dict or the characters of a text, paid for.
fn listed(value: &Value) -> Result<Vec<Value>, Error> {
    if let Some(items) = items(value) {
        charge_each(items.len(), ITEM)?;
        return Ok(items.to_vec());
    }
    if let Some(text) = value.as_str() {
        charge(text.len().saturating_mul(ITEM))?;
        return Ok(text.chars().map(Value::from).collect());
    }
    Ok(pairs(value)?.into_iter().map(|(key, _)| key).collect())
}

/// The items of a list, looked at where they are.
fn looked_at(value: &Value) -> Result<&[Value], Error> {
    let items = items(value).ok_or_else(|| refuse("a list is needed"))?;
    charge_each(items.len(), ITEM / 8)?;
    if items.iter().any(Value::is_undefined) { Err(refuse(MISSING)) } else { Ok(items) }
}

pub(super) fn len(args: &[Value]) -> Result<Value, Error> {
    let value = at(args, 0)?;
    charge(value.as_str().map_or(0, |text| text.len() / 16))?;
    let is_sized = matches!(value.kind(), ValueKind::String | ValueKind::Seq | ValueKind::Map);
    value.len().filter(|_| is_sized).map(Value::from).ok_or_else(|| refuse("only texts, lists and dicts have a length"))
}

pub(super) fn any(args: &[Value]) -> Result<Value, Error> {
    Ok(Value::from(looked_at(at(args, 0)?)?.iter().any(Value::is_true)))
}

pub(super) fn all(args: &[Value]) -> Result<Value, Error> {
    Ok(Value::from(looked_at(at(args, 0)?)?.iter().all(Value::is_true)))
}

pub(super) fn min(args: &[Value]) -> Result<Value, Error> {
    extreme(args, Ordering::Less)
}

pub(super) fn max(args: &[Value]) -> Result<Value, Error> {
    extreme(args, Ordering::Greater)
}

fn extreme(args: &[Value], wanted: Ordering) -> Result<Value, Error> {
    let items = if args.len() == 1 { looked_at(at(args, 0)?)? } else { args };
    let mut best = items.first().ok_or_else(|| refuse("an empty list has no least and no greatest item"))?;
    for item in items {
        if order(item, best)? == Some(wanted) {
            best = item;
        }
    }
    Ok(best.clone())
}

pub(super) fn sum(args: &[Value]) -> Result<Value, Error> {
    let mut total = Number::Whole(0);
    for item in looked_at(at(args, 0)?)? {
        total = total.plus(Number::of(item).ok_or_else(|| refuse("only numbers have a sum"))?)?;
    }
    Ok(total.value())
}

fn number(value: &Value) -> Result<Number, Error> {
    Number::of(value).ok_or_else(|| refuse("a number is needed"))
}

pub(super) fn abs(args: &[Value]) -> Result<Value, Error> {
    match number(at(args, 0)?)? {
        Number::Whole(whole) => whole.checked_abs().map(Number::Whole).ok_or_else(|| refuse("a number gets too large")),
        Number::Real(real) => Ok(Number::Real(real.abs())),
    }
    .map(Number::value)
}

/// To the nearest whole number, halves to the even one, as in Python; with digits, to so many after the point.
pub(super) fn round(args: &[Value]) -> Result<Value, Error> {
    let value = at(args, 0)?;
    let digits = given(args, 1).map(whole).transpose()?;
    match (number(value)?, digits) {
        (Number::Whole(_), None | Some(0..)) => Ok(value.clone()),
        (Number::Whole(_), Some(_)) => Err(refuse("a whole number is rounded to no digits before the point")),
        (Number::Real(real), None) => truncated(real.round_ties_even()),
        (Number::Real(real), Some(digits)) => {
            let digits = usize::try_from(digits).ok().filter(|digits| *digits <= 20);
            let digits = digits.ok_or_else(|| refuse("a number is rounded to between 0 and 20 digits"))?;
            // Through text, which rounds the exact decimal value, as Python does.
            Ok(Value::from(f64::from_str(&format!("{real:.digits$}")).unwrap_or(real)))
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "what does not fit is refused")]
fn truncated(real: f64) -> Result<Value, Error> {
    let fits = real.is_finite() && real.abs() < 1e30;
    if fits { Ok(Number::Whole(real.trunc() as i128).value()) } else { Err(refuse("a number is too large to be a whole one")) }
}

pub(super) fn int(args: &[Value]) -> Result<Value, Error> {
    let value = at(args, 0)?;
    if let Some(text) = value.as_str() {
        charge(text.len())?;
        let whole = i128::from_str(text.trim()).map_err(|_| refuse("a text is no whole number"))?;
        return Ok(Number::Whole(whole).value());
    }
    match number(value)? {
        whole @ Number::Whole(_) => Ok(whole.value()),
        Number::Real(real) => truncated(real),
    }
}

pub(super) fn float(args: &[Value]) -> Result<Value, Error> {
    let value = at(args, 0)?;
    if let Some(text) = value.as_str() {
        charge(text.len())?;
        return f64::from_str(text.trim()).map(Value::from).map_err(|_| refuse("a text is no number"));
    }
    Ok(Value::from(number(value)?.real()))
}

pub(super) fn str(args: &[Value]) -> Result<Value, Error> {
    let value = at(args, 0)?;
    if value.as_str().is_some() { Ok(value.clone()) } else { text_of(value).map(Value::from) }
}

pub(super) fn bool(args: &[Value]) -> Result<Value, Error> {
    Ok(Value::from(at(args, 0)?.is_true()))
}

pub(super) fn list(args: &[Value]) -> Result<Value, Error> {
    listed(at(args, 0)?).map(Value::from)
}

/// Of numbers only, or of texts only.
pub(super) fn sorted(args: &[Value]) -> Result<Value, Error> {
    let mut items = listed(at(args, 0)?)?;
    // Comparing costs; about as often as items are halved.
    let halvings = usize::BITS - items.len().leading_zeros();
    let each = items.iter().filter_map(|item| item.as_str().map(str::len)).max().unwrap_or(0) / 16 + ITEM / 4;
    charge(items.len().saturating_mul(halvings as usize).saturating_mul(each))?;
    let all = |test: fn(&Value) -> bool| items.iter().all(test);
    if !(all(|item| item.as_str().is_some()) || all(|item| Number::of(item).is_some_and(|number| !number.real().is_nan()))) {
        return Err(refuse("only numbers or only texts can be sorted"));
    }
    items.sort_by(|a, b| order(a, b).ok().flatten().unwrap_or(Ordering::Equal));
    if args.get(1).is_some_and(Value::is_true) {
        items.reverse();
    }
    Ok(Value::from(items))
}

pub(super) fn range(args: &[Value]) -> Result<Value, Error> {
    let (start, stop) = match given(args, 1) {
        Some(stop) => (whole(at(args, 0)?)?, whole(stop)?),
        None => (0, whole(at(args, 0)?)?),
    };
    let step = given(args, 2).map(whole).transpose()?.unwrap_or(1);
    if step == 0 {
        return Err(refuse("a range has a step of 0"));
    }
    let span = if step > 0 { stop.saturating_sub(start) } else { start.saturating_sub(stop) };
    let count = if span > 0 { (span - 1) / step.saturating_abs() + 1 } else { 0 };
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    charge(count.saturating_mul(ITEM))?;
    let numbers = std::iter::successors(Some(start), |number| number.checked_add(step)).take(count);
    Ok(Value::from(numbers.map(|number| Number::Whole(number).value()).collect::<Vec<_>>()))
}

/// Whether a value is of one of the types whose names follow.
pub(super) fn isinstance(args: &[Value]) -> Result<Value, Error> {
    let value = at(args, 0)?;
    let is = |name: &Value| match (name.as_str().unwrap_or_default(), value.kind()) {
        ("str", ValueKind::String) | ("bool" | "int", ValueKind::Bool) | ("list", ValueKind::Seq) | ("dict", ValueKind::Map) => true,
        ("int", ValueKind::Number) => value.is_integer(),
        ("float", ValueKind::Number) => !value.is_integer(),
        _ => false,
    };
    Ok(Value::from(args.iter().skip(1).any(is)))
}

pub(super) fn first(args: &[Value]) -> Result<Value, Error> {
    let items = items(at(args, 0)?).ok_or_else(|| refuse("a list is needed"))?;
    Ok(items.first().cloned().unwrap_or_default())
}

pub(super) fn last(args: &[Value]) -> Result<Value, Error> {
    let items = items(at(args, 0)?).ok_or_else(|| refuse("a list is needed"))?;
    Ok(items.last().cloned().unwrap_or_default())
}

/// Another value for one that is missing, or, when asked, false.
pub(super) fn default(args: &[Value]) -> Result<Value, Error> {
    let value = at(args, 0)?;
    let also_false = args.get(2).is_some_and(Value::is_true);
    let taken = value.is_undefined() || (also_false && !value.is_true());
    let other = || given(args, 1).cloned().unwrap_or_else(|| Value::from(""));
    Ok(if taken { other() } else { value.clone() })
}

/// JSON text, marked as such: nothing writes it as the JSON of a text.
pub(super) fn tojson(args: &[Value]) -> Result<Value, Error> {
    json::text(at(args, 0)?).map(Value::from_safe_string)
}

/// What stands at a path of keys and indices, `a.b.0`.
fn at_path(value: &Value, path: &str) -> Value {
    let step = |value: Value, key: &str| match key.parse::<usize>() {
        Ok(index) if value.kind() == ValueKind::Seq => items(&value).and_then(|items| items.get(index)).cloned().unwrap_or_default(),
        _ => value.as_object().and_then(|object| object.get_value_by_str(key)).unwrap_or_default(),
    };
    path.split('.').fold(value.clone(), step)
}

/// An attribute of every item.
pub(super) fn map(args: &[Value]) -> Result<Value, Error> {
    let items = looked_at(at(args, 0)?)?;
    charge_each(items.len(), ITEM)?;
    let path = at(args, 1)?.as_str().ok_or_else(|| refuse("`attribute` is a text"))?;
    let found = items.iter().map(|item| match (at_path(item, path), args.get(2)) {
        (found, None) if found.is_undefined() => Err(refuse(MISSING)),
        (found, Some(default)) if found.is_undefined() => Ok(default.clone()),
        (found, _) => Ok(found),
    });
    Ok(Value::from(found.collect::<Result<Vec<_>, _>>()?))
}

pub(super) fn selectattr(args: &[Value]) -> Result<Value, Error> {
    chosen(args, true)
}

pub(super) fn rejectattr(args: &[Value]) -> Result<Value, Error> {
    chosen(args, false)
}

/// The items whose attribute passes a test, or does not.
fn chosen(args: &[Value], wanted: bool) -> Result<Value, Error> {
    let items = looked_at(at(args, 0)?)?;
    charge_each(items.len(), ITEM)?;
    let path = at(args, 1)?.as_str().ok_or_else(|| refuse("an attribute's name is a text"))?;
    let name = given(args, 2).and_then(Value::as_str).unwrap_or("true");
    let mut kept = Vec::new();
    for item in items {
        let value = at_path(item, path);
        let passes = if given(args, 2).is_none() {
            value.is_true()
        } else if value.is_undefined() && !matches!(name, "defined" | "undefined") {
            false
        } else {
            test(name, &value, args.get(3))?
        };
        if passes == wanted {
            kept.push(item.clone());
        }
    }
    Ok(Value::from(kept))
}

/// `value is name(argument)`: the value, the name, the argument if it has one.
pub(super) fn is(args: &[Value]) -> Result<Value, Error> {
    test(at(args, 1)?.as_str().unwrap_or_default(), at(args, 0)?, args.get(2)).map(Value::from)
}

fn test(name: &str, value: &Value, other: Option<&Value>) -> Result<bool, Error> {
    if let Some((_, sign)) = COMPARING_TESTS.iter().find(|(known, _)| *known == name) {
        return compare_by(sign, value, other.ok_or_else(|| refuse("a test lacks what it compares with"))?);
    }
    let kind = value.kind();
    if kind == ValueKind::Undefined && !matches!(name, "defined" | "undefined") {
        return Err(refuse(MISSING));
    }
    Ok(match name {
        "None" | "none" => kind == ValueKind::None,
        "defined" => kind != ValueKind::Undefined,
        "undefined" => kind == ValueKind::Undefined,
        "string" => kind == ValueKind::String,
        "number" => kind == ValueKind::Number,
        "integer" => value.is_integer(),
        "float" => kind == ValueKind::Number && !value.is_integer(),
        "boolean" => kind == ValueKind::Bool,
        "sequence" => kind == ValueKind::Seq,
        "mapping" => kind == ValueKind::Map,
        "iterable" => matches!(kind, ValueKind::Seq | ValueKind::Map | ValueKind::String),
        "True" | "true" => kind == ValueKind::Bool && value.is_true(),
        "False" | "false" => kind == ValueKind::Bool && !value.is_true(),
        "odd" => whole(value)?.rem_euclid(2) == 1,
        "even" => whole(value)?.rem_euclid(2) == 0,
        _ => return Err(refuse("a test is unknown")),
    })
}

fn compare_by(sign: &str, value: &Value, other: &Value) -> Result<bool, Error> {
    let texts = || value.as_str().zip(other.as_str()).ok_or_else(|| refuse("only texts start and end with a text"));
    Ok(match sign {
        "startingwith" => texts().map(|(text, start)| text.starts_with(start))?,
        "endingwith" => texts().map(|(text, end)| text.ends_with(end))?,
        "divisibleby" => whole(value)?.checked_rem_euclid(whole(other)?) == Some(0),
        sign => compare(sign, value, other)?,
    })
}
