//! Operators along an axis: sums and their kin, softmax, the largest.

use std::cmp::Ordering;

use crate::mlflow::native::{
    bounds::room,
    fault::Fault,
    operators::elementwise::{INDICES, Number},
    site::{Built, Given, Site},
    tensor::{Element, Tensor, Type, View, axis, for_type, strides},
    value::{Kind, Value},
};

/// What one group of values becomes; ONNX Runtime has an answer for none of them, too.
type Fold<T> = fn(&[T]) -> T;

pub(crate) fn reduce(site: &Site<'_>) -> Result<Built, Fault> {
    let (axes, keeps, is_noop) = (site.axes(1), site.flag("keepdims", true), site.flag("noop_with_empty_axes", false));
    for_type!(site.kind_of(0)?, site, number, T => {
        let fold = fold::<T>(&site.node.operator).ok_or_else(|| site.fault("is not supported"))?;
        Ok(Built::one(T::TYPE, move |given| {
            let tensor = given.tensor(0)?;
            let rank = tensor.shape().len();
            let axes = axes.of(given, rank)?.filter(|axes| !axes.is_empty());
            if axes.is_none() && is_noop {
                // Nothing is taken together, so that each value is folded alone.
                let values = tensor.values::<T>()?.iter().map(|value| fold(std::slice::from_ref(value)));
                return Tensor::of(tensor.shape().to_vec(), values.collect());
            }
            let axes = axes.unwrap_or_else(|| (0..rank).collect());
            let kept: Vec<usize> = (0..rank).filter(|axis| !axes.contains(axis)).collect();
            let groups = grouped(tensor, tensor.values::<T>()?, &kept, &axes)?;
            let length: usize = axes.iter().map(|axis| tensor.shape()[*axis]).product();
            // Of no values there may be any number of sums.
            let count = room::<T>(&kept.iter().map(|axis| tensor.shape()[*axis]).collect::<Vec<_>>())?;
            let values = (0..count).map(|at| fold(&groups[at * length..(at + 1) * length])).collect();
            let shape = tensor.shape().iter().enumerate().filter_map(|(at, length)| match axes.contains(&at) {
                true => keeps.then_some(1),
                false => Some(*length),
            });
            Tensor::of(shape.collect(), values)
        }))
    })
}

/// The values with those that are reduced together beside each other.
fn grouped<T: Number>(tensor: &Tensor, values: &[T], kept: &[usize], axes: &[usize]) -> Result<Vec<T>, Fault> {
    if axes.first() >= kept.last() || kept.is_empty() {
        return Ok(values.to_vec());
    }
    let steps = strides(tensor.shape());
    let order = || kept.iter().chain(axes);
    let view = View {
        start: 0,
        shape: order().map(|axis| tensor.shape()[*axis]).collect(),
        steps: order().map(|axis| steps[*axis].cast_signed()).collect(),
    };
    view.copy(values)
}

fn fold<T: Number>(name: &str) -> Option<Fold<T>> {
    Some(match name {
        "ReduceSum" => |values| T::from_double(0.0).plus(sum(values, |value| value)),
        "ReduceProd" => |values| values.iter().fold(T::from_double(1.0), |product, value| product.times(*value)),
        "ReduceMax" => |values| best(values, Ordering::Greater),
        "ReduceMin" => |values| best(values, Ordering::Less),
        "ReduceMean" => |values| T::from_double(sum(values, |value| value).to_double() / count(values).max(1.0)),
        "ReduceL1" => |values| sum(values, |value| if value < T::zero() { T::zero().minus(value) } else { value }),
        "ReduceL2" => |values| T::from_double(sum(values, |value| value.times(value)).to_double().sqrt()),
        "ReduceSumSquare" => |values| sum(values, |value| value.times(value)),
        "ReduceLogSum" => |values| T::from_double(sum(values, |value| value).to_double().ln()),
        "ReduceLogSumExp" => |values| {
            let most = best(values, Ordering::Greater).to_double();
            let most = if most.is_finite() { most } else { 0.0 };
            T::from_double(values.iter().map(|value| (value.to_double() - most).exp()).sum::<f64>().ln() + most)
        },
        _ => return None,
    })
}

#[expect(clippy::cast_precision_loss, reason = "tensors are far smaller than 2^53")]
fn count<T>(values: &[T]) -> f64 {
    values.len() as f64
}

/// Floats are summed in double precision; integers wrap around.
fn sum<T: Number>(values: &[T], of: impl Fn(T) -> T) -> T {
    if matches!(T::TYPE, Type::F32 | Type::F64) {
        return T::from_double(values.iter().map(|value| of(*value).to_double()).sum());
    }
    values.iter().fold(T::zero(), |total, value| total.plus(of(*value)))
}

fn best<T: Number>(values: &[T], order: Ordering) -> T {
    let better = |best: T, value: &T| if value.is_nan() || value.partial_cmp(&best) == Some(order) { *value } else { best };
    let worst = if order == Ordering::Greater { f64::NEG_INFINITY } else { f64::INFINITY };
    values.split_first().map_or(T::from_double(worst), |(first, rest)| rest.iter().fold(*first, better))
}

/// The values along an axis, one lane after the other.
pub(crate) struct Lanes {
    outer: usize,
    length: usize,
    inner: usize,
}

impl Lanes {
    pub(crate) fn new(shape: &[usize], axis: usize) -> Self {
        // Of lanes without values there may be any number.
        let outer = if shape[axis..].contains(&0) { 0 } else { shape[..axis].iter().product() };
        Self { outer, length: shape[axis], inner: shape[axis + 1..].iter().product() }
    }

    /// Where each lane begins; its values are `inner` apart.
    pub(crate) fn starts(&self) -> impl Iterator<Item = usize> {
        let (block, inner) = (self.length * self.inner, self.inner);
        (0..self.outer).flat_map(move |outer| (0..inner).map(move |at| outer * block + at))
    }

    pub(crate) fn places(&self, start: usize) -> impl DoubleEndedIterator<Item = usize> {
        let inner = self.inner;
        (0..self.length).map(move |at| start + at * inner)
    }
}

pub(crate) fn softmax(site: &Site<'_>) -> Result<Built, Fault> {
    let name = site.node.operator.as_str();
    // Before version 13, all axes from the named one on were one.
    let is_flat = site.version < 13;
    let at = site.int("axis").unwrap_or(if is_flat { 1 } else { -1 });
    let turn: fn(&mut [f64]) = match name {
        "Softmax" => soft,
        "LogSoftmax" => |lane| {
            let most = lane.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum = lane.iter().map(|value| (value - most).exp()).sum::<f64>().ln();
            lane.iter_mut().for_each(|value| *value = *value - most - sum);
        },
        _ => |lane| {
            let most = lane.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let hot = lane.iter().position(|value| *value >= most);
            lane.iter_mut().enumerate().for_each(|(at, value)| *value = f64::from(u8::from(Some(at) == hot)));
        },
    };
    for_type!(site.kind_of(0)?, site, real, T => Ok(Built::one(T::TYPE, move |given| {
        let tensor = given.tensor(0)?;
        let at = axis(at, tensor.shape().len())?;
        let mut lanes = Lanes::new(tensor.shape(), at);
        if is_flat {
            lanes = Lanes { outer: lanes.outer, length: lanes.length * lanes.inner, inner: 1 };
        }
        let mut values = tensor.values::<T>()?.to_vec();
        let mut lane = Vec::with_capacity(lanes.length);
        for start in lanes.starts() {
            lane.clear();
            lane.extend(lanes.places(start).map(|place| values[place].to_double()));
            turn(&mut lane);
            lanes.places(start).zip(&lane).for_each(|(place, value)| values[place] = T::from_double(*value));
        }
        Tensor::of(tensor.shape().to_vec(), values)
    })))
}

/// Turns scores into probabilities.
pub(crate) fn soft(lane: &mut [f64]) {
    let most = lane.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    lane.iter_mut().for_each(|value| *value = (*value - most).exp());
    let sum: f64 = lane.iter().sum();
    lane.iter_mut().for_each(|value| *value /= sum);
}

pub(crate) fn cumulate(site: &Site<'_>) -> Result<Built, Fault> {
    let (is_exclusive, is_reverse) = (site.flag("exclusive", false), site.flag("reverse", false));
    site.expect(1, INDICES)?;
    for_type!(site.kind_of(0)?, site, number, T => Ok(Built::one(T::TYPE, move |given| {
        let tensor = given.tensor(0)?;
        let [at] = given.ints(1)?.as_slice().try_into().map_err(|_| Fault::new("the axis is not one number"))?;
        let lanes = Lanes::new(tensor.shape(), axis(at, tensor.shape().len())?);
        let mut values = tensor.values::<T>()?.to_vec();
        for start in lanes.starts() {
            let mut total = T::zero();
            let mut step = |place: usize| {
                let next = total.plus(values[place]);
                values[place] = if is_exclusive { total } else { next };
                total = next;
            };
            if is_reverse { lanes.places(start).rev().for_each(&mut step) } else { lanes.places(start).for_each(&mut step) }
        }
        Tensor::of(tensor.shape().to_vec(), values)
    })))
}

pub(crate) fn arg(site: &Site<'_>) -> Result<Built, Fault> {
    let order = if site.node.operator == "ArgMax" { Ordering::Greater } else { Ordering::Less };
    let (at, keeps, is_last) = (site.int("axis").unwrap_or(0), site.flag("keepdims", true), site.flag("select_last_index", false));
    for_type!(site.kind_of(0)?, site, number, T => Ok(Built::one(Type::I64, move |given| {
        let tensor = given.tensor(0)?;
        let at = axis(at, tensor.shape().len())?;
        let (lanes, values) = (Lanes::new(tensor.shape(), at), tensor.values::<T>()?);
        if lanes.length == 0 {
            return Err(Fault::new("there is nothing to choose from"));
        }
        let found = lanes.starts().map(|start| {
            let mut best = (0_i64, values[start]);
            for (at, place) in (0_i64..).zip(lanes.places(start)).skip(1) {
                let compared = values[place].partial_cmp(&best.1);
                if compared == Some(order) || (is_last && compared == Some(Ordering::Equal)) {
                    best = (at, values[place]);
                }
            }
            best.0
        });
        let mut shape = tensor.shape().to_vec();
        if keeps { shape[at] = 1 } else { shape.remove(at); }
        Tensor::of(shape, found.collect())
    })))
}

pub(crate) fn top(site: &Site<'_>) -> Result<Built, Fault> {
    let (fixed, at, is_largest) = (site.int("k"), site.int("axis").unwrap_or(-1), site.flag("largest", true));
    site.expect(1, INDICES)?;
    let kind = site.kind_of(0)?;
    for_type!(kind, site, number, T => Ok(Built::many(vec![Kind::Tensor(kind), Kind::Tensor(Type::I64)], move |given| {
        let tensor = given.tensor(0)?;
        let at = axis(at, tensor.shape().len())?;
        let (lanes, values) = (Lanes::new(tensor.shape(), at), tensor.values::<T>()?);
        let count = wanted(given, fixed, lanes.length)?;
        let mut shape = tensor.shape().to_vec();
        shape[at] = count;
        let total = room::<T>(&shape)?;
        let (mut best, mut indices) = (vec![T::zero(); total], vec![0_i64; total]);
        let out = Lanes::new(&shape, at);
        for (start, to) in lanes.starts().zip(out.starts()) {
            let mut lane: Vec<(i64, T)> = (0..).zip(lanes.places(start).map(|place| values[place])).collect();
            // Stable, so that of equals the first comes first.
            lane.sort_by(|a, b| {
                let order = a.1.partial_cmp(&b.1).unwrap_or_else(|| a.1.is_nan().cmp(&b.1.is_nan()));
                if is_largest { order.reverse() } else { order }
            });
            for ((index, value), place) in lane.into_iter().zip(out.places(to)) {
                (best[place], indices[place]) = (value, index);
            }
        }
        Ok(vec![Value::Tensor(Tensor::of(shape.clone(), best)?), Value::Tensor(Tensor::of(shape, indices)?)])
    })))
}

/// How many are wanted of those that there are.
fn wanted(given: &Given<'_>, fixed: Option<i64>, length: usize) -> Result<usize, Fault> {
    let wanted = match fixed {
        Some(wanted) => wanted,
        None => *given.ints(1)?.first().ok_or_else(|| Fault::new("k is missing"))?,
    };
    let count = usize::try_from(wanted).ok().filter(|count| *count <= length);
    count.ok_or_else(|| Fault::new(format!("the best {wanted} of {length} are asked for")))
}
