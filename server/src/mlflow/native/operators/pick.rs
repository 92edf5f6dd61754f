//! Operators that cut tensors, join them and pick values by their places.

use crate::mlflow::native::{
    bounds::room,
    fault::Fault,
    operators::elementwise::INDICES,
    site::{Built, Given, Site},
    tensor::{Element, Tensor, Type, View, axis, for_type, size, strides},
    value::{Kind, Value},
};

pub(crate) fn concat(site: &Site<'_>) -> Result<Built, Fault> {
    let at = site.int("axis").unwrap_or(1);
    for_type!(site.same_kind()?, any, T => Ok(Built::one(T::TYPE, move |given| joined::<T>(&given.tensors()?, at))))
}

/// Tensors one after the other along an axis.
pub(crate) fn joined<T: Element>(tensors: &[&Tensor], at: i64) -> Result<Tensor, Fault> {
    let first = tensors.first().ok_or_else(|| Fault::new("there is nothing to join"))?;
    let rank = first.shape().len();
    let at = axis(at, rank)?;
    let differs =
        |tensor: &&&Tensor| tensor.shape().len() != rank || (0..rank).any(|dim| dim != at && tensor.shape()[dim] != first.shape()[dim]);
    if let Some(other) = tensors.iter().find(differs) {
        return Err(Fault::new(format!("shapes {:?} and {:?} cannot be joined along axis {at}", first.shape(), other.shape())));
    }
    let mut shape = first.shape().to_vec();
    shape[at] = tensors.iter().map(|tensor| tensor.shape()[at]).sum();
    let total = room::<T>(&shape)?;
    let outer: usize = shape[..at].iter().product();
    let parts = tensors
        .iter()
        .filter(|tensor| !tensor.is_empty())
        .map(|tensor| Ok((tensor.values::<T>()?, tensor.shape()[at..].iter().product())))
        .collect::<Result<Vec<_>, Fault>>()?;
    let mut values = Vec::with_capacity(total);
    for row in (0..outer).take_while(|_| !parts.is_empty()) {
        for (part, length) in &parts {
            values.extend_from_slice(&part[row * length..(row + 1) * length]);
        }
    }
    Tensor::of(shape, values)
}

pub(crate) fn split(site: &Site<'_>) -> Result<Built, Fault> {
    let (at, fixed, by_input) = (site.int("axis").unwrap_or(0), site.ints("split"), site.has(1));
    site.expect(1, INDICES)?;
    let count = site.node.outputs.len();
    let kind = site.kind_of(0)?;
    for_type!(kind, any, T => Ok(Built::many(vec![Kind::Tensor(kind); count], move |given| {
        let tensor = given.tensor(0)?;
        let at = axis(at, tensor.shape().len())?;
        let length = tensor.shape()[at];
        let parts = if by_input { given.ints(1)? } else { fixed.clone() };
        let parts = match parts.iter().map(|part| usize::try_from(*part).ok()).collect::<Option<Vec<_>>>() {
            Some(parts) if parts.is_empty() => even(length, count),
            Some(parts) if parts.len() == count && parts.iter().try_fold(0_usize, |sum, part| sum.checked_add(*part)) == Some(length) => parts,
            _ => return Err(Fault::new(format!("{length} values cannot be split into {parts:?}"))),
        };
        let mut start = 0;
        parts.into_iter().map(|part| {
            let cut = Cut { axis: at, start, step: 1, count: part };
            start += part;
            Ok(Value::Tensor(cut_out::<T>(tensor, &[cut])?))
        }).collect()
    })))
}

/// Equal parts, the last of which may be shorter.
fn even(length: usize, count: usize) -> Vec<usize> {
    let part = length.div_ceil(count.max(1));
    (0..count).map(|at| length.saturating_sub(part * at).min(part)).collect()
}

/// What is kept of one axis.
struct Cut {
    axis: usize,
    start: usize,
    step: isize,
    count: usize,
}

fn cut_out<T: Element>(tensor: &Tensor, cuts: &[Cut]) -> Result<Tensor, Fault> {
    let own = strides(tensor.shape());
    let mut view = View { start: 0, shape: tensor.shape().to_vec(), steps: own.iter().map(|step| step.cast_signed()).collect() };
    for cut in cuts {
        view.start += cut.start * own[cut.axis];
        view.shape[cut.axis] = cut.count;
        view.steps[cut.axis] = view.steps[cut.axis].saturating_mul(cut.step);
    }
    let values = view.copy(tensor.values::<T>()?)?;
    Tensor::of(view.shape, values)
}

pub(crate) fn slice(site: &Site<'_>) -> Result<Built, Fault> {
    let (starts, ends, axes) = (site.ints("starts"), site.ints("ends"), site.ints("axes"));
    let by_input = site.has(1);
    for at in 1..5 {
        site.expect(at, INDICES)?;
    }
    for_type!(site.kind_of(0)?, any, T => Ok(Built::one(T::TYPE, move |given| {
        let tensor = given.tensor(0)?;
        let optional = |at| if given.maybe(at)?.is_some() { given.ints(at) } else { Ok(Vec::new()) };
        let (starts, ends) = if by_input { (given.ints(1)?, given.ints(2)?) } else { (starts.clone(), ends.clone()) };
        let axes = if by_input { optional(3)? } else { axes.clone() };
        let steps = optional(4)?;
        if ends.len() != starts.len() || [&axes, &steps].iter().any(|list| !list.is_empty() && list.len() != starts.len()) {
            return Err(Fault::new("starts, ends, axes and steps are not equally many"));
        }
        let rank = tensor.shape().len();
        let cut = |at: usize| {
            let axis = axis(axes.get(at).copied().unwrap_or_else(|| i64::try_from(at).unwrap_or(i64::MAX)), rank)?;
            cut_of(axis, tensor.shape()[axis], (starts[at], ends[at], steps.get(at).copied().unwrap_or(1)))
        };
        let cuts = (0..starts.len()).map(cut).collect::<Result<Vec<_>, _>>()?;
        let repeats = cuts.iter().enumerate().any(|(at, cut)| cuts[..at].iter().any(|other| other.axis == cut.axis));
        if repeats { Err(Fault::new("an axis is named twice")) } else { cut_out::<T>(tensor, &cuts) }
    })))
}

/// As Python slices a list.
fn cut_of(axis: usize, length: usize, (start, end, step): (i64, i64, i64)) -> Result<Cut, Fault> {
    let whole = i64::try_from(length).unwrap_or(i64::MAX);
    let from_end = |at: i64| if at < 0 { at.saturating_add(whole) } else { at };
    let (start, end) = (from_end(start), from_end(end));
    let (start, span) = match step {
        0 => return Err(Fault::new("a step is zero")),
        1.. => {
            let start = start.clamp(0, whole);
            (start, end.clamp(0, whole) - start)
        }
        _ => {
            let start = start.clamp(-1, whole - 1);
            (start, start - end.clamp(-1, whole - 1))
        }
    };
    let count = usize::try_from(span.max(0).unsigned_abs().div_ceil(step.unsigned_abs())).unwrap_or(0);
    let step = isize::try_from(step.clamp(-whole - 1, whole + 1)).unwrap_or(1);
    Ok(Cut { axis, start: usize::try_from(start).unwrap_or(0), step, count })
}

/// The values at places.
pub(crate) fn picked<'a, T: Clone>(values: &[T], places: impl Iterator<Item = &'a usize>) -> Vec<T> {
    places.map(|place| values[*place].clone()).collect()
}

/// Places along an axis, which may be counted from the end.
fn places(given: &Given<'_>, at: usize, length: usize) -> Result<Vec<usize>, Fault> {
    given
        .ints(at)?
        .into_iter()
        .map(|index| axis(index, length).map_err(|_| Fault::new(format!("index {index} is none of {length}"))))
        .collect()
}

pub(crate) fn gather(site: &Site<'_>) -> Result<Built, Fault> {
    let at = site.int("axis").unwrap_or(0);
    site.expect(1, INDICES)?;
    for_type!(site.kind_of(0)?, any, T => Ok(Built::one(T::TYPE, move |given| {
        let (tensor, indices) = (given.tensor(0)?, given.tensor(1)?);
        let at = axis(at, tensor.shape().len())?;
        let places = places(given, 1, tensor.shape()[at])?;
        let shape: Vec<usize> = tensor.shape()[..at].iter().chain(indices.shape()).chain(&tensor.shape()[at + 1..]).copied().collect();
        let values = tensor.values::<T>()?;
        let inner: usize = tensor.shape()[at + 1..].iter().product();
        let block = inner * tensor.shape()[at];
        let mut picked = Vec::with_capacity(room::<T>(&shape)?);
        if !places.is_empty() && inner > 0 {
            for outer in values.chunks_exact(block.max(1)) {
                places.iter().for_each(|place| picked.extend_from_slice(&outer[place * inner..(place + 1) * inner]));
            }
        }
        Tensor::of(shape, picked)
    })))
}

/// Where in a tensor each of the places of another, as large or smaller but along one axis, falls.
fn elements(given: &Given<'_>, shape: &[usize], at: usize) -> Result<Vec<usize>, Fault> {
    let indices = given.tensor(1)?;
    let fits = indices.shape().len() == shape.len() && (0..shape.len()).all(|dim| dim == at || indices.shape()[dim] <= shape[dim]);
    if !fits {
        return Err(Fault::new(format!("indices of shape {:?} do not fit a tensor of shape {shape:?}", indices.shape())));
    }
    let (own, steps) = (strides(shape), strides(indices.shape()));
    let place = |(flat, along): (usize, usize)| {
        let dims = (0..shape.len()).map(|dim| if dim == at { along } else { flat / steps[dim] % indices.shape()[dim].max(1) });
        dims.zip(&own).map(|(index, step)| index * step).sum()
    };
    Ok(places(given, 1, shape[at])?.into_iter().enumerate().map(place).collect())
}

pub(crate) fn gather_elements(site: &Site<'_>) -> Result<Built, Fault> {
    let at = site.int("axis").unwrap_or(0);
    site.expect(1, INDICES)?;
    for_type!(site.kind_of(0)?, any, T => Ok(Built::one(T::TYPE, move |given| {
        let tensor = given.tensor(0)?;
        let at = axis(at, tensor.shape().len())?;
        let values = tensor.values::<T>()?;
        let picked = picked(values, elements(given, tensor.shape(), at)?.iter());
        Tensor::of(given.tensor(1)?.shape().to_vec(), picked)
    })))
}

pub(crate) fn scatter_elements(site: &Site<'_>) -> Result<Built, Fault> {
    let at = site.int("axis").unwrap_or(0);
    site.expect(1, INDICES)?;
    if site.text("reduction")?.is_some_and(|reduction| reduction != "none") {
        return Err(site.fault("with a reduction is not supported"));
    }
    let kind = site.kind_of(0)?;
    site.expect(2, &[kind])?;
    for_type!(kind, any, T => Ok(Built::one(T::TYPE, move |given| {
        let (tensor, updates) = (given.tensor(0)?, given.tensor(2)?);
        let at = axis(at, tensor.shape().len())?;
        if updates.shape() != given.tensor(1)?.shape() {
            return Err(Fault::new("indices and updates are not of one shape"));
        }
        let mut values = tensor.values::<T>()?.to_vec();
        for (place, update) in elements(given, tensor.shape(), at)?.into_iter().zip(updates.values::<T>()?) {
            values[place].clone_from(update);
        }
        Tensor::of(tensor.shape().to_vec(), values)
    })))
}

/// Where each of the blocks begins that nested indices lead to, how long they are, and the shape of all together.
fn blocks(shape: &[usize], indices: &Tensor) -> Result<(Vec<usize>, usize, Vec<usize>), Fault> {
    let (depth, outer) = indices.shape().split_last().ok_or_else(|| Fault::new("indices are a scalar"))?;
    if *depth == 0 || *depth > shape.len() {
        return Err(Fault::new(format!("{depth} indices do not lead into a tensor of {} dimensions", shape.len())));
    }
    let (steps, inner) = (strides(shape), &shape[*depth..]);
    let starts = indices.values::<i64>()?.chunks_exact(*depth).map(|index| {
        let along = index.iter().zip(shape).map(|(index, length)| axis(*index, *length));
        along.zip(&steps).map(|(at, step)| at.map(|at| at * step)).sum::<Result<usize, _>>()
    });
    let whole: Vec<usize> = outer.iter().chain(inner).copied().collect();
    size(&whole)?;
    Ok((starts.collect::<Result<_, _>>()?, inner.iter().product(), whole))
}

pub(crate) fn gather_nested(site: &Site<'_>) -> Result<Built, Fault> {
    site.expect(1, &[Type::I64])?;
    if site.int("batch_dims").unwrap_or(0) != 0 {
        return Err(site.fault("with batch_dims is not supported"));
    }
    for_type!(site.kind_of(0)?, any, T => Ok(Built::one(T::TYPE, move |given| {
        let (tensor, indices) = (given.tensor(0)?, given.tensor(1)?);
        let (starts, length, shape) = blocks(tensor.shape(), indices)?;
        room::<T>(&shape)?;
        let values = tensor.values::<T>()?;
        // Of a tensor without values there are places, but nothing at them.
        let block = |start: usize| values.get(start..start + length).unwrap_or_default().iter().cloned();
        Tensor::of(shape, starts.into_iter().flat_map(block).collect())
    })))
}

pub(crate) fn scatter_nested(site: &Site<'_>) -> Result<Built, Fault> {
    site.expect(1, &[Type::I64])?;
    let kind = site.kind_of(0)?;
    site.expect(2, &[kind])?;
    if site.text("reduction")?.is_some_and(|reduction| reduction != "none") {
        return Err(site.fault("with a reduction is not supported"));
    }
    for_type!(kind, any, T => Ok(Built::one(T::TYPE, move |given| {
        let (tensor, indices, updates) = (given.tensor(0)?, given.tensor(1)?, given.tensor(2)?);
        let (starts, length, shape) = blocks(tensor.shape(), indices)?;
        if updates.shape() != shape {
            return Err(Fault::new(format!("updates of shape {:?} stand where {shape:?} belongs", updates.shape())));
        }
        let mut values = tensor.values::<T>()?.to_vec();
        for (start, update) in starts.into_iter().zip(updates.values::<T>()?.chunks(length.max(1))) {
            values[start..start + length].clone_from_slice(update);
        }
        Tensor::of(tensor.shape().to_vec(), values)
    })))
}

pub(crate) fn one_hot(site: &Site<'_>) -> Result<Built, Fault> {
    let at = site.int("axis").unwrap_or(-1);
    site.expect(0, INDICES)?;
    site.expect(1, INDICES)?;
    for_type!(site.kind_of(2)?, any, T => Ok(Built::one(T::TYPE, move |given| {
        let (indices, values) = (given.tensor(0)?, given.tensor(2)?.values::<T>()?);
        let ([off, on], [depth]) = (values, given.ints(1)?.as_slice().try_into().unwrap_or([0])) else {
            return Err(Fault::new("a one-hot encoding needs two values"));
        };
        let depth = usize::try_from(depth).ok().filter(|depth| *depth > 0).ok_or_else(|| Fault::new("the depth is not positive"))?;
        let mut shape = indices.shape().to_vec();
        let at = axis(at, shape.len() + 1)?;
        let inner: usize = shape[at..].iter().product();
        shape.insert(at, depth);
        let mut out: Vec<T> = picked(std::slice::from_ref(off), std::iter::repeat_n(&0, room::<T>(&shape)?));
        for (flat, index) in given.ints(0)?.into_iter().enumerate() {
            // What is out of range is off everywhere.
            if let Ok(hot) = axis(index, depth) {
                out[(flat / inner * depth + hot) * inner + flat % inner].clone_from(on);
            }
        }
        Tensor::of(shape, out)
    })))
}

pub(crate) fn non_zero(site: &Site<'_>) -> Result<Built, Fault> {
    for_type!(site.kind_of(0)?, any, T => Ok(Built::one(Type::I64, |given| {
        let tensor = given.tensor(0)?;
        let (shape, steps, zero) = (tensor.shape(), strides(tensor.shape()), T::zero());
        let found: Vec<usize> = tensor.values::<T>()?.iter().enumerate().filter(|(_, value)| **value != zero).map(|(at, _)| at).collect();
        let index = |dim: usize| found.iter().map({
            let (step, length) = (steps[dim], shape[dim].max(1));
            move |flat| i64::try_from(flat / step % length).unwrap_or(0)
        });
        let all = vec![shape.len(), found.len()];
        room::<i64>(&all)?;
        Tensor::of(all, (0..shape.len()).flat_map(index).collect())
    })))
}

pub(crate) fn compress(site: &Site<'_>) -> Result<Built, Fault> {
    let at = site.int("axis");
    site.expect(1, &[Type::Bool])?;
    for_type!(site.kind_of(0)?, any, T => Ok(Built::one(T::TYPE, move |given| {
        let (tensor, test) = (given.tensor(0)?, given.tensor(1)?.values::<bool>()?);
        let flat = tensor.with_shape(vec![tensor.len()])?;
        let (tensor, at) = match at {
            Some(at) => (tensor, axis(at, tensor.shape().len())?),
            None => (&flat, 0),
        };
        let mut shape = tensor.shape().to_vec();
        let kept: Vec<usize> = (0..shape[at]).filter(|place| test.get(*place) == Some(&true)).collect();
        let inner: usize = shape[at + 1..].iter().product();
        let block = inner * shape[at];
        shape[at] = kept.len();
        let rows = tensor.values::<T>()?.chunks_exact(block.max(1));
        let picked = rows.flat_map(|row| kept.iter().flat_map(move |place| row[place * inner..(place + 1) * inner].iter().cloned()));
        Tensor::of(shape, picked.collect())
    })))
}

pub(crate) fn pad(site: &Site<'_>) -> Result<Built, Fault> {
    if site.text("mode")?.is_some_and(|mode| mode != "constant") || site.has(3) {
        return Err(site.fault("is supported with constant padding of all axes only"));
    }
    let (fixed, by_input, value) = (site.ints("pads"), site.has(1), site.float("value").unwrap_or(0.0));
    for_type!(site.kind_of(0)?, site, number, T => Ok(Built::one(T::TYPE, move |given| {
        let tensor = given.tensor(0)?;
        let pads = if by_input { given.ints(1)? } else { fixed.clone() };
        let pads = pads.into_iter().map(|pad| usize::try_from(pad).ok()).collect::<Option<Vec<_>>>();
        let rank = tensor.shape().len();
        let pads = pads.filter(|pads| pads.len() == rank * 2).ok_or_else(|| Fault::new("the padding is negative, or not that of every side"))?;
        let fill = match given.maybe(2)? {
            Some(_) => given.single::<T>(2)?,
            None => <T as super::elementwise::Number>::from_double(f64::from(value)),
        };
        let longer = |dim: usize| tensor.shape()[dim].checked_add(pads[dim])?.checked_add(pads[rank + dim]);
        let shape = (0..rank).map(longer).collect::<Option<Vec<_>>>().ok_or_else(|| Fault::new("the padding is too large"))?;
        let mut out = vec![fill; room::<T>(&shape)?];
        let (own, wide) = (strides(tensor.shape()), strides(&shape));
        for (flat, value) in tensor.values::<T>()?.iter().enumerate() {
            let place: usize = (0..rank).map(|dim| (flat / own[dim] % tensor.shape()[dim] + pads[dim]) * wide[dim]).sum();
            out[place] = *value;
        }
        Tensor::of(shape, out)
    })))
}
