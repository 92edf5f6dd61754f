//! Operators that make tensors or change their shapes, values untouched.

use crate::mlflow::native::{
    bounds::room,
    fault::Fault,
    operators::{
        elementwise::{INDICES, Number},
        pick::picked,
    },
    site::{Built, Site},
    tensor::{Element, Tensor, Type, View, axis, broadcast, expand, for_type, has_rank, size, strides},
};

pub(crate) fn constant(site: &Site<'_>) -> Result<Built, Fault> {
    let tensor = match site.node.attributes.first().map_or("", |attribute| attribute.name.as_str()) {
        "value" => site.tensor("value")?.ok_or_else(|| site.fault("has no value"))?,
        "value_float" => Tensor::scalar(site.float("value_float").unwrap_or(0.0)),
        "value_floats" => Tensor::row(site.floats("value_floats")),
        "value_int" => Tensor::scalar(site.int("value_int").unwrap_or(0)),
        "value_ints" => Tensor::row(site.ints("value_ints")),
        "value_string" => Tensor::scalar(std::sync::Arc::<str>::from(site.text("value_string")?.unwrap_or(""))),
        "value_strings" => Tensor::row(site.texts("value_strings")?),
        other => return Err(site.fault(format!("with `{other}` is not supported"))),
    };
    Ok(Built::one(tensor.kind(), move |_| Ok(tensor.clone())))
}

pub(crate) fn filled(site: &Site<'_>) -> Result<Built, Fault> {
    site.expect(0, INDICES)?;
    let value = site.tensor("value")?.unwrap_or_else(|| Tensor::scalar(0.0_f32));
    if value.len() != 1 {
        return Err(site.fault("has not one value"));
    }
    for_type!(value.kind(), any, T => Ok(Built::one(T::TYPE, move |given| {
        let shape = lengths(&given.ints(0)?)?;
        let places = std::iter::repeat_n(&0, room::<T>(&shape)?);
        Tensor::of(shape, picked(value.values::<T>()?, places))
    })))
}

/// Lengths that a call brings, which must be lengths.
fn lengths(ints: &[i64]) -> Result<Vec<usize>, Fault> {
    let lengths = ints.iter().map(|int| usize::try_from(*int).ok()).collect::<Option<_>>();
    lengths.ok_or_else(|| Fault::new(format!("{ints:?} is no shape")))
}

fn number(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

pub(crate) fn shape(site: &Site<'_>) -> Result<Built, Fault> {
    site.kind_of(0)?;
    let (start, end) = (site.int("start").unwrap_or(0), site.int("end").unwrap_or(i64::MAX));
    Ok(Built::one(Type::I64, move |given| {
        let shape = given.tensor(0)?.shape();
        let rank = number(shape.len());
        let place = |at: i64| usize::try_from(if at < 0 { at.saturating_add(rank) } else { at }.clamp(0, rank)).unwrap_or(0);
        let (start, end) = (place(start), place(end));
        Ok(Tensor::row(shape.get(start..end.max(start)).unwrap_or(&[]).iter().map(|length| number(*length)).collect()))
    }))
}

pub(crate) fn size_of(site: &Site<'_>) -> Result<Built, Fault> {
    site.kind_of(0)?;
    Ok(Built::one(Type::I64, |given| Ok(Tensor::scalar(number(given.tensor(0)?.len())))))
}

pub(crate) fn reshape(site: &Site<'_>) -> Result<Built, Fault> {
    let (fixed, keeps_zeros) = (site.ints("shape"), site.flag("allowzero", false));
    let by_input = site.has(1);
    site.expect(1, INDICES)?;
    Ok(Built::one(site.kind_of(0)?, move |given| {
        let tensor = given.tensor(0)?;
        let wanted = if by_input { given.ints(1)? } else { fixed.clone() };
        tensor.with_shape(reshaped(tensor, &wanted, keeps_zeros)?)
    }))
}

fn reshaped(tensor: &Tensor, wanted: &[i64], keeps_zeros: bool) -> Result<Vec<usize>, Fault> {
    let fault = || Fault::new(format!("a tensor of shape {:?} cannot take shape {wanted:?}", tensor.shape()));
    let (mut shape, mut free) = (Vec::with_capacity(wanted.len()), None);
    for (at, length) in wanted.iter().enumerate() {
        shape.push(match *length {
            -1 if free.replace(at).is_none() => 1,
            0 if !keeps_zeros => *tensor.shape().get(at).ok_or_else(fault)?,
            length => usize::try_from(length).map_err(|_| fault())?,
        });
    }
    if let Some(free) = free {
        let rest = size(&shape)?;
        let left = tensor.len().checked_div(rest).unwrap_or(0);
        if left * rest != tensor.len() {
            return Err(fault());
        }
        shape[free] = left;
    }
    Ok(shape)
}

pub(crate) fn flatten(site: &Site<'_>) -> Result<Built, Fault> {
    let at = site.int("axis").unwrap_or(1);
    Ok(Built::one(site.kind_of(0)?, move |given| {
        let tensor = given.tensor(0)?;
        let rank = tensor.shape().len();
        let at = if at == number(rank) { rank } else { axis(at, rank)? };
        let (outer, inner) = tensor.shape().split_at(at);
        tensor.with_shape(vec![outer.iter().product(), inner.iter().product()])
    }))
}

pub(crate) fn squeeze(site: &Site<'_>) -> Result<Built, Fault> {
    let axes = site.axes(1);
    Ok(Built::one(site.kind_of(0)?, move |given| {
        let tensor = given.tensor(0)?;
        let axes = axes.of(given, tensor.shape().len())?;
        let drops = |at: usize, length: usize| axes.as_ref().map_or(length == 1, |axes| axes.contains(&at));
        if let Some(long) = tensor.shape().iter().enumerate().find(|(at, length)| drops(*at, **length) && **length != 1) {
            return Err(Fault::new(format!("axis {} has length {}, not 1", long.0, long.1)));
        }
        tensor
            .with_shape(tensor.shape().iter().enumerate().filter(|(at, length)| !drops(*at, **length)).map(|(_, length)| *length).collect())
    }))
}

pub(crate) fn unsqueeze(site: &Site<'_>) -> Result<Built, Fault> {
    let (fixed, by_input) = (site.ints("axes"), site.has(1));
    Ok(Built::one(site.kind_of(0)?, move |given| {
        let tensor = given.tensor(0)?;
        let asked = if by_input { given.ints(1)? } else { fixed.clone() };
        let rank = tensor.shape().len() + asked.len();
        has_rank(rank)?;
        let mut axes = asked.iter().map(|at| axis(*at, rank)).collect::<Result<Vec<_>, _>>()?;
        axes.sort_unstable();
        axes.dedup();
        if axes.len() != asked.len() {
            return Err(Fault::new("an axis is named twice"));
        }
        let mut shape = tensor.shape().to_vec();
        // In ascending order every place exists when it is its turn.
        axes.iter().for_each(|at| shape.insert((*at).min(shape.len()), 1));
        tensor.with_shape(shape)
    }))
}

pub(crate) fn transpose(site: &Site<'_>) -> Result<Built, Fault> {
    let order = site.ints("perm");
    for_type!(site.kind_of(0)?, any, T => Ok(Built::one(T::TYPE, move |given| transposed::<T>(given.tensor(0)?, &order))))
}

/// A tensor with its axes in another order; reversed when none is given.
pub(crate) fn transposed<T: Element>(tensor: &Tensor, order: &[i64]) -> Result<Tensor, Fault> {
    let rank = tensor.shape().len();
    let order = if order.is_empty() { (0..rank).rev().collect() } else { lengths(order)? };
    let mut sorted = order.clone();
    sorted.sort_unstable();
    if sorted != (0..rank).collect::<Vec<_>>() {
        return Err(Fault::new(format!("{order:?} is no order of {rank} axes")));
    }
    let steps = strides(tensor.shape());
    let shape: Vec<usize> = order.iter().map(|axis| tensor.shape()[*axis]).collect();
    let view = View { start: 0, shape: shape.clone(), steps: order.iter().map(|axis| steps[*axis].cast_signed()).collect() };
    Tensor::of(shape, view.copy(tensor.values::<T>()?)?)
}

pub(crate) fn expanded(site: &Site<'_>) -> Result<Built, Fault> {
    site.expect(1, INDICES)?;
    for_type!(site.kind_of(0)?, any, T => Ok(Built::one(T::TYPE, |given| {
        let tensor = given.tensor(0)?;
        let shape = broadcast(tensor.shape(), &lengths(&given.ints(1)?)?)?;
        let values = expand(tensor.values::<T>()?, tensor.shape(), &shape)?;
        Tensor::of(shape, values)
    })))
}

pub(crate) fn tile(site: &Site<'_>) -> Result<Built, Fault> {
    site.expect(1, INDICES)?;
    for_type!(site.kind_of(0)?, any, T => Ok(Built::one(T::TYPE, |given| {
        let (tensor, times) = (given.tensor(0)?, lengths(&given.ints(1)?)?);
        let own = tensor.shape();
        if times.len() != own.len() {
            return Err(Fault::new(format!("{times:?} does not say how often to repeat {} dimensions", own.len())));
        }
        // Each axis becomes two: which repeat, and where in it.
        let steps = strides(own);
        let paired = times.iter().zip(own).flat_map(|(times, length)| [*times, *length]).collect();
        let view = View { start: 0, shape: paired, steps: steps.iter().flat_map(|step| [0, step.cast_signed()]).collect() };
        let values = view.copy(tensor.values::<T>()?)?;
        Tensor::of(times.iter().zip(own).map(|(times, length)| times * length).collect(), values)
    })))
}

pub(crate) fn range(site: &Site<'_>) -> Result<Built, Fault> {
    for_type!(site.same_kind()?, site, number, T => Ok(Built::one(T::TYPE, |given| {
        let (start, limit, delta) = (given.single::<T>(0)?, given.single::<T>(1)?, given.single::<T>(2)?);
        let count = ((limit.to_double() - start.to_double()) / delta.to_double()).ceil().max(0.0);
        if !count.is_finite() || delta == T::zero() {
            return Err(Fault::new("the range has no end"));
        }
        let count = room::<T>(&[usize::try_from(i64::from_double(count)).unwrap_or(0)])?;
        let values = std::iter::successors(Some(start), |value| Some(value.plus(delta)));
        Ok(Tensor::row(values.take(count).collect()))
    })))
}
