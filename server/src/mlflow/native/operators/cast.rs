//! From one type to another, texts included.

use std::sync::Arc;

use crate::mlflow::native::{
    bounds::fits,
    fault::Fault,
    site::{Built, Site},
    tensor::{TEXT, Tensor, Type, Values},
};

pub(crate) fn cast(site: &Site<'_>) -> Result<Built, Fault> {
    let code = site.int("to").unwrap_or(0);
    let to = i32::try_from(code).ok().and_then(Type::from_code);
    let to = to.ok_or_else(|| site.fault(format!("to element type {code} is not supported")))?;
    site.kind_of(0)?;
    Ok(Built::one(to, move |given| convert(given.tensor(0)?, to)))
}

pub(crate) fn cast_like(site: &Site<'_>) -> Result<Built, Fault> {
    let to = site.kind_of(1)?;
    site.kind_of(0)?;
    Ok(Built::one(to, move |given| convert(given.tensor(0)?, to)))
}

/// The same tensor in another type. Numbers that do not fit become the nearest that does; a text that is no number is a fault.
pub(crate) fn convert(tensor: &Tensor, to: Type) -> Result<Tensor, Fault> {
    if tensor.kind() == to {
        return Ok(tensor.clone());
    }
    fits(tensor.len().saturating_mul(if to == Type::Text { TEXT } else { to.width() }))?;
    let contents = match tensor.contents() {
        Values::F32(values) => from_doubles(values.iter().map(|value| f64::from(*value)), to),
        Values::F64(values) => from_doubles(values.iter().copied(), to),
        Values::I64(values) => from_integers(values.iter().copied(), to),
        Values::I32(values) => from_integers(values.iter().map(|value| i64::from(*value)), to),
        Values::I8(values) => from_integers(values.iter().map(|value| i64::from(*value)), to),
        Values::U8(values) => from_integers(values.iter().map(|value| i64::from(*value)), to),
        Values::Bool(values) => from_integers(values.iter().map(|value| i64::from(*value)), to),
        Values::Text(values) => from_texts(values, to)?,
    };
    Tensor::new(tensor.shape().to_vec(), contents)
}

fn from_doubles(values: impl Iterator<Item = f64>, to: Type) -> Values {
    #[expect(clippy::cast_possible_truncation, reason = "rounds")]
    match to {
        Type::F32 => Values::F32(values.map(|value| value as f32).collect()),
        Type::F64 => Values::F64(values.collect()),
        Type::I32 => Values::I32(values.map(|value| i32::try_from(whole(value)).unwrap_or(i32::MIN)).collect()),
        Type::Bool => Values::Bool(values.map(|value| value != 0.0).collect()),
        Type::Text => Values::Text(values.map(|value| show(value).into()).collect()),
        Type::I64 | Type::I8 | Type::U8 => from_integers(values.map(whole), to),
    }
}

/// The integer toward zero. What is none, or too large, is the least one: that is what ONNX Runtime's answers are on x86.
#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "checked")]
fn whole(value: f64) -> i64 {
    const END: f64 = i64::MAX as f64;
    if (-END..END).contains(&value) { value as i64 } else { i64::MIN }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss, reason = "as ONNX's Cast does: wraps")]
fn from_integers(values: impl Iterator<Item = i64>, to: Type) -> Values {
    match to {
        Type::F32 => Values::F32(values.map(|value| value as f32).collect()),
        Type::F64 => Values::F64(values.map(|value| value as f64).collect()),
        Type::I64 => Values::I64(values.collect()),
        Type::I32 => Values::I32(values.map(|value| value as i32).collect()),
        Type::I8 => Values::I8(values.map(|value| value as i8).collect()),
        Type::U8 => Values::U8(values.map(|value| value as u8).collect()),
        Type::Bool => Values::Bool(values.map(|value| value != 0).collect()),
        Type::Text => Values::Text(values.map(|value| value.to_string().into()).collect()),
    }
}

fn from_texts(values: &[Arc<str>], to: Type) -> Result<Values, Fault> {
    Ok(match to {
        Type::F32 => Values::F32(parsed(values, to)?),
        Type::F64 => Values::F64(parsed(values, to)?),
        _ => from_integers(parsed(values, to)?.into_iter(), to),
    })
}

/// The numbers that texts say. A fault tells which is none, not what it is: faults are logged.
fn parsed<T: std::str::FromStr>(values: &[Arc<str>], to: Type) -> Result<Vec<T>, Fault> {
    let number = |(at, text): (usize, &Arc<str>)| text.trim().parse().map_err(|_| Fault::new(format!("text {at} is no {}", to.name())));
    values.iter().enumerate().map(number).collect()
}

/// A number as ONNX Runtime writes it, of either width: C's `%.8g`.
fn show(value: f64) -> String {
    const DIGITS: usize = 8;
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "INF" } else { "-INF" }.to_owned();
    }
    let scientific = format!("{value:.*e}", DIGITS - 1);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let cut = |text: &str| if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text.to_owned() };
    let wide = i32::try_from(DIGITS).unwrap_or(i32::MAX);
    if exponent < -4 || exponent >= wide {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", cut(mantissa), exponent.unsigned_abs());
    }
    let decimals = usize::try_from(wide - 1 - exponent).unwrap_or(0);
    cut(&format!("{value:.decimals$}"))
}
