//! Python's operators on values of the engine, whose own ones know no bounds and compare what Python refuses to. Pure.

use std::{borrow::Cow, cmp::Ordering};

use minijinja::{
    Error, Value,
    value::{Tuple, ValueKind},
};

use super::{
    json::{self, items, pairs},
    meter::{ITEM, MISSING, charge, charge_each, left, refuse},
};

/// A number of either kind.
#[derive(Clone, Copy, Debug)]
pub(super) enum Number {
    Whole(i128),
    Real(f64),
}

impl Number {
    /// Of a number or truth value.
    pub(super) fn of(value: &Value) -> Option<Self> {
        match value.kind() {
            ValueKind::Bool => Some(Self::Whole(value.is_true().into())),
            ValueKind::Number if value.is_integer() => i128::try_from(value.clone()).ok().map(Self::Whole),
            ValueKind::Number => f64::try_from(value.clone()).ok().map(Self::Real),
            _ => None,
        }
    }

    /// As a double, rounded if it must be.
    #[expect(clippy::cast_precision_loss, reason = "as Python's own arithmetic with floats does")]
    pub(super) fn real(self) -> f64 {
        match self {
            Self::Whole(whole) => whole as f64,
            Self::Real(real) => real,
        }
    }

    /// As a value; whole numbers small when they can be.
    pub(super) fn value(self) -> Value {
        match self {
            Self::Whole(whole) => i64::try_from(whole).map_or_else(|_| Value::from(whole), Value::from),
            Self::Real(real) => Value::from(real),
        }
    }

    /// The sum.
    ///
    /// # Errors
    /// When it does not fit.
    pub(super) fn plus(self, other: Self) -> Result<Self, Error> {
        self.with(other, i128::checked_add, |a, b| a + b)
    }

    fn with(self, other: Self, whole: fn(i128, i128) -> Option<i128>, real: fn(f64, f64) -> f64) -> Result<Self, Error> {
        match (self, other) {
            (Self::Whole(a), Self::Whole(b)) => whole(a, b).map(Self::Whole).ok_or_else(|| refuse("a number gets too large")),
            (a, b) => Ok(Self::Real(real(a.real(), b.real()))),
        }
    }
}

/// One argument.
///
/// # Errors
/// When there is none.
pub(super) fn at(args: &[Value], n: usize) -> Result<&Value, Error> {
    args.get(n).ok_or_else(|| refuse("an argument is missing"))
}

/// An argument that is there and not `None`.
pub(super) fn given(args: &[Value], n: usize) -> Option<&Value> {
    args.get(n).filter(|value| !value.is_none())
}

/// A whole number.
///
/// # Errors
/// When it is none.
pub(super) fn whole(value: &Value) -> Result<i128, Error> {
    match Number::of(value) {
        Some(Number::Whole(whole)) => Ok(whole),
        _ => Err(refuse("a whole number is needed")),
    }
}

/// `a + b`.
pub(super) fn add(args: &[Value]) -> Result<Value, Error> {
    let (a, b) = (at(args, 0)?, at(args, 1)?);
    if let (Some(a), Some(b)) = (Number::of(a), Number::of(b)) {
        return a.plus(b).map(Number::value);
    }
    if let (Some(a), Some(b)) = (a.as_str(), b.as_str()) {
        charge(a.len() + b.len())?;
        return Ok(Value::from([a, b].concat()));
    }
    match (items(a), items(b)) {
        (Some(left), Some(right)) if a.is_tuple() == b.is_tuple() => {
            charge_each(left.len() + right.len(), ITEM)?;
            Ok(list_like(a, [left, right].concat()))
        }
        _ => Err(refuse("`+` adds numbers, texts or lists of one kind")),
    }
}

/// `a * b`.
pub(super) fn multiply(args: &[Value]) -> Result<Value, Error> {
    let (a, b) = (at(args, 0)?, at(args, 1)?);
    match (Number::of(a), Number::of(b)) {
        (Some(a), Some(b)) => a.with(b, i128::checked_mul, |a, b| a * b).map(Number::value),
        (None, Some(Number::Whole(times))) => repeat(a, times),
        (Some(Number::Whole(times)), None) => repeat(b, times),
        _ => Err(refuse("`*` multiplies numbers, or repeats a text or list a whole number of times")),
    }
}

fn repeat(value: &Value, times: i128) -> Result<Value, Error> {
    let times = usize::try_from(times.max(0)).unwrap_or(usize::MAX);
    if let Some(text) = value.as_str() {
        charge(text.len().saturating_mul(times))?;
        // The engine's own check is on the product; of an empty text there may be as many as one likes.
        return Ok(Value::from(if text.is_empty() { String::new() } else { text.repeat(times) }));
    }
    let items = items(value).ok_or_else(|| refuse("`*` repeats texts and lists only"))?;
    charge(items.len().saturating_mul(times).saturating_mul(ITEM))?;
    Ok(list_like(value, if items.is_empty() { Vec::new() } else { std::iter::repeat_n(items, times).flatten().cloned().collect() }))
}

fn list_like(of: &Value, items: Vec<Value>) -> Value {
    if of.is_tuple() { Value::from(Tuple::from(items)) } else { Value::from(items) }
}

/// `a ~ b`: Jinja's, of two texts.
pub(super) fn concat(args: &[Value]) -> Result<Value, Error> {
    let (a, b) = (text_of(at(args, 0)?)?, text_of(at(args, 1)?)?);
    charge(a.len() + b.len())?;
    Ok(Value::from(a.into_owned() + &b))
}

/// A value as text, as Python's `str` gives it; lists and dicts as JSON.
///
/// # Errors
/// When it is too long, or has none.
pub(super) fn text_of(value: &Value) -> Result<Cow<'_, str>, Error> {
    if let Some(text) = value.as_str() {
        return Ok(Cow::Borrowed(text));
    }
    match value.kind() {
        ValueKind::None | ValueKind::Bool | ValueKind::Number => Ok(Cow::Owned(value.to_string())),
        _ => json::text(value).map(Cow::Owned),
    }
}

/// A comparison by its sign.
///
/// # Errors
/// When the two cannot be compared, or only at too great a cost.
pub(super) fn compare(sign: &str, a: &Value, b: &Value) -> Result<bool, Error> {
    Ok(match sign {
        "==" => equal(a, b)?,
        "!=" => !equal(a, b)?,
        "<" => order(a, b)?.is_some_and(Ordering::is_lt),
        "<=" => order(a, b)?.is_some_and(Ordering::is_le),
        ">" => order(a, b)?.is_some_and(Ordering::is_gt),
        ">=" => order(a, b)?.is_some_and(Ordering::is_ge),
        "in" => contains(b, a)?,
        "not in" => !contains(b, a)?,
        _ => return Err(refuse("an operator is unknown")),
    })
}

/// `a < b <= c`: the first value, then signs and values in turn.
pub(super) fn chain(args: &[Value]) -> Result<Value, Error> {
    let mut left = at(args, 0)?;
    for link in args.get(1..).unwrap_or_default().chunks(2) {
        let right = at(link, 1)?;
        if !compare(at(link, 0)?.as_str().unwrap_or_default(), left, right)? {
            return Ok(Value::from(false));
        }
        left = right;
    }
    Ok(Value::from(true))
}

fn equal(a: &Value, b: &Value) -> Result<bool, Error> {
    if let (Some(a), Some(b)) = (a.as_str(), b.as_str()) {
        charge(if a.len() == b.len() { a.len() / 16 } else { 0 })?;
        return Ok(a == b);
    }
    charge(ITEM / 2)?;
    if a.is_undefined() || b.is_undefined() {
        return Err(refuse(MISSING));
    }
    if let (Some(left), Some(right)) = (items(a), items(b)) {
        if left.len() != right.len() || a.is_tuple() != b.is_tuple() {
            return Ok(false);
        }
        for (a, b) in left.iter().zip(right) {
            if !equal(a, b)? {
                return Ok(false);
            }
        }
        return Ok(true);
    }
    if a.kind() == ValueKind::Map && b.kind() == ValueKind::Map {
        return equal_dicts(a, b);
    }
    // What is left holds nothing.
    Ok(a.as_object().is_none() && b.as_object().is_none() && a == b)
}

fn equal_dicts(a: &Value, b: &Value) -> Result<bool, Error> {
    if a.len() != b.len() {
        return Ok(false);
    }
    for (key, value) in pairs(a)? {
        match b.as_object().and_then(|b| b.get_value(&key)) {
            Some(other) if equal(&value, &other)? => {}
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// Which is greater; `None` when one is no number at all (NaN).
///
/// # Errors
/// When the two are not of one kind, or it costs too much.
pub(super) fn order(a: &Value, b: &Value) -> Result<Option<Ordering>, Error> {
    if let (Some(left), Some(right)) = (Number::of(a), Number::of(b)) {
        return Ok(match (left, right) {
            (Number::Whole(left), Number::Whole(right)) => Some(left.cmp(&right)),
            (left, right) if left.real().is_nan() || right.real().is_nan() => None,
            // The engine compares whole numbers with doubles exactly.
            _ => Some(a.cmp(b)).filter(|_| a.is_number() && b.is_number()).or_else(|| left.real().partial_cmp(&right.real())),
        });
    }
    if let (Some(a), Some(b)) = (a.as_str(), b.as_str()) {
        charge(a.len().min(b.len()) / 16)?;
        return Ok(Some(a.cmp(b)));
    }
    charge(ITEM / 2)?;
    let (Some(left), Some(right)) = (items(a), items(b)) else {
        return Err(refuse("only two numbers, two texts or two lists have an order"));
    };
    for (a, b) in left.iter().zip(right) {
        if !equal(a, b)? {
            return order(a, b);
        }
    }
    Ok(Some(left.len().cmp(&right.len())))
}

fn contains(whole: &Value, part: &Value) -> Result<bool, Error> {
    if let Some(text) = whole.as_str() {
        let part = part.as_str().ok_or_else(|| refuse("a text can only hold another text"))?;
        // Reading is quick, so it costs half; a part that almost fits everywhere takes longer.
        charge(text.len() / 2)?;
        return Ok(memchr::memmem::find(text.as_bytes(), part.as_bytes()).is_some());
    }
    if let Some(items) = items(whole) {
        charge_each(items.len(), ITEM / 8)?;
        for item in items {
            if equal(item, part)? {
                return Ok(true);
            }
        }
        return Ok(false);
    }
    match whole.as_object() {
        Some(object) if whole.kind() == ValueKind::Map => Ok(object.get_value(part).is_some_and(|value| !value.is_undefined())),
        _ => Err(refuse("`in` looks into texts, lists and dicts only")),
    }
}

/// `value[index]`, also from the end.
pub(super) fn item(args: &[Value]) -> Result<Value, Error> {
    let (value, index) = (at(args, 0)?, at(args, 1)?);
    let found = if let Some(text) = value.as_str() {
        charge(text.len())?;
        let index = whole(index)?;
        let from = if index < 0 { text.chars().count() as i128 } else { 0 };
        usize::try_from(from + index).ok().and_then(|index| text.chars().nth(index)).map(Value::from)
    } else if let Some(items) = items(value) {
        let index = whole(index)?;
        let from = if index < 0 { items.len() as i128 } else { 0 };
        usize::try_from(from + index).ok().and_then(|index| items.get(index)).cloned()
    } else {
        value.as_object().filter(|_| value.kind() == ValueKind::Map).and_then(|object| object.get_value(index))
    };
    // Undefined when there is none, as with the engine's own indexing.
    Ok(found.unwrap_or_default())
}

/// `value[start:stop:step]`.
pub(super) fn slice(args: &[Value]) -> Result<Value, Error> {
    let value = at(args, 0)?;
    let [start, stop, step] = [1, 2, 3].map(|n| given(args, n).map(whole).transpose());
    let (start, stop, step) = (start?, stop?, step?.unwrap_or(1));
    if step == 0 {
        return Err(refuse("a slice has a step of 0"));
    }
    if let Some(text) = value.as_str() {
        if step == 1 {
            return cut(text, start, stop);
        }
        charge(text.len().saturating_mul(4))?;
        let chars: Vec<char> = text.chars().collect();
        let sliced: String = places(chars.len(), start, stop, step).filter_map(|place| chars.get(place)).collect();
        return Ok(Value::from(sliced));
    }
    let items = items(value).ok_or_else(|| refuse("only texts and lists have slices"))?;
    // Counted no further than can be paid for.
    let count = places(items.len(), start, stop, step).take(left() / ITEM + 1).count();
    charge_each(count, ITEM)?;
    Ok(list_like(value, places(items.len(), start, stop, step).filter_map(|place| items.get(place)).cloned().collect()))
}

/// `text[start:stop]`: read no further than to its end, which is what it costs.
fn cut(text: &str, start: Option<i128>, stop: Option<i128>) -> Result<Value, Error> {
    let from_end = |place: Option<i128>| place.is_some_and(|place| place < 0);
    let count = if from_end(start) || from_end(stop) {
        charge(text.len() / 4)?;
        text.chars().count() as i128
    } else {
        0
    };
    let place = |place: i128| usize::try_from(if place < 0 { place.saturating_add(count).max(0) } else { place }).unwrap_or(usize::MAX);
    let (start, stop) = (start.map_or(0, place), stop.map_or(usize::MAX, place));
    charge(text.len().min(stop.saturating_mul(4)))?;
    Ok(Value::from(text.chars().skip(start).take(stop.saturating_sub(start)).collect::<String>()))
}

/// The places that a slice takes, by Python's rules.
fn places(len: usize, start: Option<i128>, stop: Option<i128>, step: i128) -> impl Iterator<Item = usize> {
    let len = len as i128;
    let (low, high) = if step < 0 { (-1, len - 1) } else { (0, len) };
    let inside = |place: i128| if place < 0 { place.saturating_add(len).max(low) } else { place.min(high) };
    let start = start.map_or(if step < 0 { high } else { low }, inside);
    let stop = stop.map_or(if step < 0 { low } else { high }, inside);
    std::iter::successors(Some(start), move |place| place.checked_add(step))
        .take_while(move |place| if step < 0 { *place > stop } else { *place < stop })
        .filter_map(|place| usize::try_from(place).ok())
}
