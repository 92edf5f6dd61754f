//! What prepares numbers for a model: scaling, filling holes, picking and gathering columns.

use crate::mlflow::native::{
    bounds::room,
    fault::Fault,
    operators::{
        classes::{NUMBERS, doubles},
        elementwise::Number,
        pick::picked,
        reduce::Lanes,
    },
    site::{Built, Site},
    tensor::{Element, Tensor, Type, axis, for_type},
};

pub(crate) fn scaler(site: &Site<'_>) -> Result<Built, Fault> {
    site.expect(0, NUMBERS)?;
    let (offsets, scales) = (site.floats("offset"), site.floats("scale"));
    if offsets.is_empty() || scales.is_empty() {
        return Err(site.fault("has no offset or no scale"));
    }
    Ok(Built::one(Type::F32, move |given| {
        let tensor = given.tensor(0)?;
        let (_, columns) = tensor.matrix()?;
        if [&offsets, &scales].iter().any(|list| list.len() != 1 && list.len() != columns) {
            return Err(Fault::new(format!("{columns} columns are given, {} are scaled", offsets.len().max(scales.len()))));
        }
        let pick = |list: &[f32], at: usize| f64::from(list[if list.len() == 1 { 0 } else { at % columns }]);
        let scaled = |(at, value): (usize, &f64)| f32::from_double((value - pick(&offsets, at)) * pick(&scales, at));
        Tensor::of(tensor.shape().to_vec(), doubles(tensor)?.iter().enumerate().map(scaled).collect())
    }))
}

pub(crate) fn normalizer(site: &Site<'_>) -> Result<Built, Fault> {
    site.expect(0, NUMBERS)?;
    let norm: fn(&[f64]) -> f64 = match site.text("norm")?.unwrap_or("MAX") {
        "MAX" => |row| row.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        "L1" => |row| row.iter().map(|value| value.abs()).sum(),
        "L2" => |row| row.iter().map(|value| value * value).sum::<f64>().sqrt(),
        other => return Err(site.fault(format!("with the norm `{other}` is not supported"))),
    };
    Ok(Built::one(Type::F32, move |given| {
        let tensor = given.tensor(0)?;
        let (_, columns) = tensor.matrix()?;
        let values = doubles(tensor)?;
        let mut out = Vec::with_capacity(values.len());
        for row in values.chunks_exact(columns.max(1)) {
            let norm = norm(row);
            // A row of zeros has no direction, and stays.
            out.extend(row.iter().map(|value| f32::from_double(if norm == 0.0 { *value } else { value / norm })));
        }
        Tensor::of(tensor.shape().to_vec(), out)
    }))
}

/// Lanes along an axis, each as long as one; those of zeros stay.
pub(crate) fn unit(site: &Site<'_>) -> Result<Built, Fault> {
    let order = site.int("p").unwrap_or(2);
    if !matches!(order, 1 | 2) {
        return Err(site.fault("is supported for p 1 or 2 only"));
    }
    let at = site.int("axis").unwrap_or(-1);
    for_type!(site.kind_of(0)?, site, real, T => Ok(Built::one(T::TYPE, move |given| {
        let tensor = given.tensor(0)?;
        let lanes = Lanes::new(tensor.shape(), axis(at, tensor.shape().len())?);
        let mut values = tensor.values::<T>()?.to_vec();
        for start in lanes.starts() {
            let sizes = lanes.places(start).map(|place| values[place].to_double().abs());
            let norm = if order == 1 { sizes.sum::<f64>() } else { sizes.map(|size| size * size).sum::<f64>().sqrt() };
            for place in lanes.places(start) {
                values[place] = if norm == 0.0 { T::zero() } else { T::from_double(values[place].to_double() / norm) };
            }
        }
        Tensor::of(tensor.shape().to_vec(), values)
    })))
}

pub(crate) fn binarizer(site: &Site<'_>) -> Result<Built, Fault> {
    let threshold = f64::from(site.float("threshold").unwrap_or(0.0));
    for_type!(site.kind_of(0)?, site, number, T => Ok(Built::one(T::TYPE, move |given| {
        let tensor = given.tensor(0)?;
        let over = |value: &T| T::from_double(f64::from(u8::from(value.to_double() > threshold)));
        Tensor::of(tensor.shape().to_vec(), tensor.values::<T>()?.iter().map(over).collect())
    })))
}

pub(crate) fn imputer(site: &Site<'_>) -> Result<Built, Fault> {
    match site.kind_of(0)? {
        Type::F32 => impute(site.floats("imputed_value_floats"), site.float("replaced_value_float").unwrap_or(0.0), site),
        Type::F64 => {
            let values = site.floats("imputed_value_floats").into_iter().map(f64::from).collect();
            impute::<f64>(values, f64::from(site.float("replaced_value_float").unwrap_or(0.0)), site)
        }
        Type::I64 => impute(site.ints("imputed_value_int64s"), site.int("replaced_value_int64").unwrap_or(0), site),
        other => Err(site.refuse_type(other)),
    }
}

fn impute<T: Number>(values: Vec<T>, hole: T, site: &Site<'_>) -> Result<Built, Fault> {
    if values.is_empty() {
        return Err(site.fault("has no values to fill in"));
    }
    Ok(Built::one(T::TYPE, move |given| {
        let tensor = given.tensor(0)?;
        let columns = tensor.shape().last().copied().unwrap_or(1);
        if values.len() != 1 && values.len() != columns {
            return Err(Fault::new(format!("{columns} columns are given, {} can be filled", values.len())));
        }
        let fill = |(at, value): (usize, &T)| {
            let is_hole = *value == hole || (hole.is_nan() && value.is_nan());
            if is_hole { values[at % values.len()] } else { *value }
        };
        Tensor::of(tensor.shape().to_vec(), tensor.values::<T>()?.iter().enumerate().map(fill).collect())
    }))
}

/// Columns of several tensors side by side, cut or filled with zeros to the widths that the model knows.
pub(crate) fn features(site: &Site<'_>) -> Result<Built, Fault> {
    let widths: Option<Vec<usize>> = site.ints("inputdimensions").iter().map(|width| usize::try_from(*width).ok()).collect();
    let widths = widths.filter(|widths| widths.len() == site.inputs.len()).ok_or_else(|| site.fault("has no width for each input"))?;
    for at in 0..site.inputs.len() {
        site.expect(at, NUMBERS)?;
    }
    Ok(Built::one(Type::F32, move |given| {
        let tensors = given.tensors()?;
        let rows = tensors.first().map_or(Ok((0, 0)), |tensor| tensor.matrix())?.0;
        let total = widths.iter().try_fold(0_usize, |sum, width| sum.checked_add(*width)).unwrap_or(usize::MAX);
        let count = room::<f32>(&[rows, total])?;
        let mut out = vec![0.0_f32; count];
        let mut start = 0;
        for (tensor, width) in tensors.iter().zip(&widths) {
            let (own, columns) = tensor.matrix()?;
            if own != rows {
                return Err(Fault::new("the inputs have different numbers of rows"));
            }
            for (row, values) in doubles(tensor)?.chunks_exact(columns.max(1)).enumerate() {
                let place = row * total + start;
                values.iter().take(*width).enumerate().for_each(|(at, value)| out[place + at] = f32::from_double(*value));
            }
            start += width;
        }
        Tensor::of(vec![rows, total], out)
    }))
}

/// Columns by their places.
pub(crate) fn extract(site: &Site<'_>) -> Result<Built, Fault> {
    site.expect(1, &[Type::I64])?;
    for_type!(site.kind_of(0)?, any, T => Ok(Built::one(T::TYPE, |given| {
        let (tensor, wanted) = (given.tensor(0)?, given.tensor(1)?.values::<i64>()?);
        let columns = tensor.shape().last().copied().ok_or_else(|| Fault::new("there are no columns"))?;
        let places: Option<Vec<usize>> = wanted.iter().map(|at| usize::try_from(*at).ok().filter(|at| *at < columns)).collect();
        let places = places.ok_or_else(|| Fault::new(format!("columns {wanted:?} are asked for, {columns} are given")))?;
        // A single dimension is one row.
        let mut shape = if tensor.shape().len() == 1 { vec![1, columns] } else { tensor.shape().to_vec() };
        if let Some(last) = shape.last_mut() {
            *last = places.len();
        }
        room::<T>(&shape)?;
        let rows = tensor.values::<T>()?.chunks_exact(columns.max(1));
        Tensor::of(shape, rows.flat_map(|row| picked(row, places.iter())).collect())
    })))
}
