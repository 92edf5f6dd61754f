//! Methods of texts, dicts and lists: those of the engine's Python layer, each paid for beforehand, and ours where that layer knows no
//! bounds. Pure.

use minijinja::{Error, State, Value, value::ValueKind};
use minijinja_contrib::pycompat;

use super::{
    json::{items, pairs},
    meter::{ITEM, charge, charge_each, refuse},
    operators::{at, compare, given, text_of, whole},
};

/// Calls a method of a text that takes no more than `work` in time and memory.
///
/// # Errors
/// When the value is no text, the arguments do not fit, or it costs too much.
pub(super) fn python(state: &mut State<'_, '_>, method: &str, args: &[Value], work: fn(&[Value]) -> usize) -> Result<Value, Error> {
    let (text, rest) = args.split_first().ok_or_else(|| refuse("an argument is missing"))?;
    if text.kind() != ValueKind::String {
        return Err(refuse("a method of texts was called on another value"));
    }
    charge(work(args))?;
    pycompat::unknown_method_callback(state, text, method, rest)
}

fn length(args: &[Value], n: usize) -> usize {
    args.get(n).and_then(Value::as_str).map_or(0, str::len)
}

/// Nothing beyond its arguments.
pub(super) fn prefix(args: &[Value]) -> usize {
    args.get(1).and_then(items).map_or(0, |prefixes| prefixes.len().saturating_mul(ITEM / 8))
}

/// Reads the text.
pub(super) fn scan(args: &[Value]) -> usize {
    length(args, 0)
}

/// Makes another text of about its length.
pub(super) fn remake(args: &[Value]) -> usize {
    length(args, 0).saturating_mul(2)
}

/// Makes another text letter by letter.
pub(super) fn respell(args: &[Value]) -> usize {
    length(args, 0).saturating_mul(4)
}

/// Looks for each letter among those to be stripped.
pub(super) fn strip(args: &[Value]) -> usize {
    length(args, 0).saturating_mul((length(args, 1) / 4).max(1))
}

/// Makes pieces, at most as many as the separator occurs.
pub(super) fn split(args: &[Value]) -> usize {
    let Some(text) = args.first().and_then(Value::as_str) else { return 0 };
    let separators = match given(args, 1).and_then(Value::as_str) {
        Some("") => text.len(),
        // Reading it costs as well, but no more than what is counted below.
        Some(separator) => text.matches(separator).count(),
        None => text.split_whitespace().count(),
    };
    let most = given(args, 2).and_then(|most| whole(most).ok()).and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
    text.len().saturating_mul(2).saturating_add(separators.min(most).saturating_add(1).saturating_mul(ITEM))
}

/// Makes lines.
pub(super) fn lines(args: &[Value]) -> usize {
    let text = args.first().and_then(Value::as_str).unwrap_or_default();
    text.len().saturating_mul(2).saturating_add(text.matches('\n').count().saturating_add(1).saturating_mul(ITEM))
}

fn texts(args: &[Value], n: usize) -> Result<&str, Error> {
    at(args, n)?.as_str().ok_or_else(|| refuse("a text is needed"))
}

/// `text.replace(old, new, count)`: the result is measured before it is made.
pub(super) fn replace(args: &[Value]) -> Result<Value, Error> {
    let (text, old, new) = (texts(args, 0)?, texts(args, 1)?, texts(args, 2)?);
    let most = given(args, 3).map(whole).transpose()?.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
    charge(text.len())?;
    let found = text.matches(old).count().min(most);
    charge(text.len().saturating_add(found.saturating_mul(new.len())))?;
    Ok(Value::from(text.replacen(old, new, found)))
}

/// `separator.join(list)`.
pub(super) fn join(args: &[Value]) -> Result<Value, Error> {
    let separator = texts(args, 0)?;
    let items = items(at(args, 1)?).ok_or_else(|| refuse("a list is joined"))?;
    charge_each(items.len(), ITEM / 4 + separator.len())?;
    let mut joined = String::new();
    for (n, item) in items.iter().enumerate() {
        let text = text_of(item)?;
        charge(text.len())?;
        if n > 0 {
            joined.push_str(separator);
        }
        joined.push_str(&text);
    }
    Ok(Value::from(joined))
}

/// `list|join(separator)`: Jinja's order of the two.
pub(super) fn join_filter(args: &[Value]) -> Result<Value, Error> {
    let separator = given(args, 1).cloned().unwrap_or_else(|| Value::from(""));
    join(&[separator, at(args, 0)?.clone()])
}

pub(super) fn remove_prefix(args: &[Value]) -> Result<Value, Error> {
    let text = texts(args, 0)?;
    charge(text.len())?;
    Ok(Value::from(text.strip_prefix(texts(args, 1)?).unwrap_or(text)))
}

pub(super) fn remove_suffix(args: &[Value]) -> Result<Value, Error> {
    let text = texts(args, 0)?;
    charge(text.len())?;
    Ok(Value::from(text.strip_suffix(texts(args, 1)?).unwrap_or(text)))
}

/// How often a text holds another, or a list a value.
pub(super) fn count(args: &[Value]) -> Result<Value, Error> {
    let value = at(args, 0)?;
    if let Some(items) = items(value) {
        charge_each(items.len(), ITEM / 8)?;
        let mut count = 0;
        for item in items {
            count += u64::from(compare("==", item, at(args, 1)?)?);
        }
        return Ok(Value::from(count));
    }
    let text = texts(args, 0)?;
    charge(text.len())?;
    Ok(Value::from(text.matches(texts(args, 1)?).count()))
}

/// `dict.get(key, default)`, of headers, arguments and metadata too.
pub(super) fn get(args: &[Value]) -> Result<Value, Error> {
    let value = at(args, 0)?;
    let object = value.as_object().filter(|_| value.kind() == ValueKind::Map).ok_or_else(|| refuse("only a dict has `.get(…)`"))?;
    let found = object.get_value(at(args, 1)?).filter(|found| !found.is_undefined());
    Ok(found.unwrap_or_else(|| args.get(2).cloned().unwrap_or_else(|| Value::from(()))))
}

pub(super) fn keys(args: &[Value]) -> Result<Value, Error> {
    Ok(Value::from(pairs(at(args, 0)?)?.into_iter().map(|(key, _)| key).collect::<Vec<_>>()))
}

pub(super) fn values(args: &[Value]) -> Result<Value, Error> {
    Ok(Value::from(pairs(at(args, 0)?)?.into_iter().map(|(_, value)| value).collect::<Vec<_>>()))
}

pub(super) fn entries(args: &[Value]) -> Result<Value, Error> {
    let pairs = pairs(at(args, 0)?)?;
    charge_each(pairs.len(), ITEM)?;
    Ok(Value::from(pairs.into_iter().map(|(key, value)| Value::from(vec![key, value])).collect::<Vec<_>>()))
}
