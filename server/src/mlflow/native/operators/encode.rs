//! From categories to numbers and back, and the maps that classifiers answer with.

use std::{collections::HashMap, hash::Hash, sync::Arc};

use crate::mlflow::native::{
    bounds::room,
    fault::Fault,
    operators::cast::convert,
    site::{Built, Site},
    tensor::{Element, Tensor, Type},
    value::{Kind, Labels, Maps, Value},
};

/// What can be looked up. Of floats, all NaNs are one, and both zeros are.
trait Key: Element {
    type Code: Hash + Eq + Send + Sync;
    fn code(&self) -> Self::Code;
    fn is_nan(&self) -> bool {
        false
    }
}

impl Key for i64 {
    type Code = Self;
    fn code(&self) -> Self {
        *self
    }
}

impl Key for Arc<str> {
    type Code = Self;
    fn code(&self) -> Self {
        Self::clone(self)
    }
}

impl Key for f32 {
    type Code = u64;
    fn code(&self) -> u64 {
        f64::from(*self).code()
    }
    fn is_nan(&self) -> bool {
        Self::is_nan(*self)
    }
}

impl Key for f64 {
    type Code = u64;
    fn code(&self) -> u64 {
        let plain = if Self::is_nan(*self) { Self::NAN } else { *self + 0.0 };
        plain.to_bits()
    }
    fn is_nan(&self) -> bool {
        Self::is_nan(*self)
    }
}

pub(crate) fn one_hot(site: &Site<'_>) -> Result<Built, Fault> {
    let accepts_unknown = site.flag("zeros", true);
    if site.kind_of(0)? == Type::Text {
        return hot(&site.texts("cats_strings")?, accepts_unknown, Type::Text, site);
    }
    site.expect(0, &[Type::I64, Type::I32, Type::F32, Type::F64])?;
    hot(&site.ints("cats_int64s"), accepts_unknown, Type::I64, site)
}

fn hot<T: Key>(categories: &[T], accepts_unknown: bool, kind: Type, site: &Site<'_>) -> Result<Built, Fault> {
    let count = categories.len();
    if count == 0 {
        return Err(site.fault(format!("has no categories for {}", kind.name())));
    }
    let places: HashMap<T::Code, usize> = categories.iter().map(Key::code).zip(0..).collect();
    Ok(Built::one(Type::F32, move |given| {
        let tensor = convert(given.tensor(0)?, kind)?;
        let mut shape = tensor.shape().to_vec();
        shape.push(count);
        let mut out = vec![0.0_f32; room::<f32>(&shape)?];
        for (at, value) in tensor.values::<T>()?.iter().enumerate() {
            match places.get(&value.code()) {
                Some(place) => out[at * count + place] = 1.0,
                None if accepts_unknown => {}
                None => return Err(Fault::new("a category is unknown")),
            }
        }
        Tensor::of(shape, out)
    }))
}

/// A table from values of one type to values of another.
struct Table {
    keys: Tensor,
    values: Tensor,
    otherwise: Tensor,
    /// Since version 4, NaN is a key like any other.
    finds_nan: bool,
}

pub(crate) fn labels(site: &Site<'_>) -> Result<Built, Fault> {
    let given = site.kind_of(0)?;
    let classes = site.texts("classes_strings")?;
    let table = if classes.is_empty() { Table::read(site)? } else { Table::classes(site, classes, given)? };
    if table.keys.kind() != given {
        return Err(site.fault(format!("looks up {} but is given {}", table.keys.kind().name(), given.name())));
    }
    if table.keys.len() != table.values.len() || table.otherwise.len() != 1 {
        return Err(site.fault("has not one value for each key"));
    }
    match given {
        Type::Text => table.by::<Arc<str>>(site),
        Type::I64 => table.by::<i64>(site),
        Type::F32 => table.by::<f32>(site),
        Type::F64 => table.by::<f64>(site),
        other => Err(site.refuse_type(other)),
    }
}

impl Table {
    /// Version 1: texts and their places in a list.
    fn classes(site: &Site<'_>, classes: Vec<Arc<str>>, given: Type) -> Result<Self, Fault> {
        let places = Tensor::row((0..).take(classes.len()).collect::<Vec<i64>>());
        let texts = Tensor::row(classes);
        let (number, text) = (Tensor::scalar(site.int("default_int64").unwrap_or(-1)), default_text(site)?);
        Ok(match given {
            Type::Text => Self { keys: texts, values: places, otherwise: number, finds_nan: false },
            _ => Self { keys: places, values: texts, otherwise: text, finds_nan: false },
        })
    }

    fn read(site: &Site<'_>) -> Result<Self, Fault> {
        let values = side(site, "values")?;
        let otherwise = match (site.tensor("default_tensor")?, values.kind()) {
            (Some(tensor), kind) if tensor.kind() == kind => tensor.with_shape(vec![tensor.len()])?,
            (_, Type::Text) => default_text(site)?,
            (_, Type::I64) => Tensor::scalar(site.int("default_int64").unwrap_or(-1)),
            (_, Type::F32) => Tensor::scalar(site.float("default_float").unwrap_or(-0.0)),
            (_, kind) => convert(&Tensor::scalar(-0.0_f64), kind)?,
        };
        Ok(Self { keys: side(site, "keys")?, values, otherwise, finds_nan: site.version > 3 })
    }

    fn by<K: Key>(self, site: &Site<'_>) -> Result<Built, Fault> {
        match self.values.kind() {
            Type::Text => self.to::<K, Arc<str>>(),
            Type::I64 => self.to::<K, i64>(),
            Type::F32 => self.to::<K, f32>(),
            Type::F64 => self.to::<K, f64>(),
            other => Err(site.refuse_type(other)),
        }
    }

    fn to<K: Key, V: Element>(&self) -> Result<Built, Fault> {
        let finds_nan = self.finds_nan;
        let mut table = HashMap::new();
        for (key, value) in self.keys.values::<K>()?.iter().zip(self.values.values::<V>()?) {
            // Of equal keys the first counts.
            if finds_nan || !key.is_nan() {
                table.entry(key.code()).or_insert_with(|| value.clone());
            }
        }
        let otherwise = self.otherwise.values::<V>()?[0].clone();
        Ok(Built::one(V::TYPE, move |given| {
            let tensor = given.tensor(0)?;
            let found = tensor.values::<K>()?.iter().map(|key| table.get(&key.code()).unwrap_or(&otherwise).clone());
            Tensor::of(tensor.shape().to_vec(), found.collect())
        }))
    }
}

fn default_text(site: &Site<'_>) -> Result<Tensor, Fault> {
    Ok(Tensor::scalar(Arc::<str>::from(site.text("default_string")?.unwrap_or("_Unused"))))
}

/// The keys or the values, in whichever type they are written.
fn side(site: &Site<'_>, name: &str) -> Result<Tensor, Fault> {
    if let Some(tensor) = site.tensor(&format!("{name}_tensor"))? {
        return Ok(tensor);
    }
    let (texts, ints, floats) =
        (site.texts(&format!("{name}_strings"))?, site.ints(&format!("{name}_int64s")), site.floats(&format!("{name}_floats")));
    match (texts.is_empty(), ints.is_empty(), floats.is_empty()) {
        (false, ..) => Ok(Tensor::row(texts)),
        (_, false, _) => Ok(Tensor::row(ints)),
        (.., false) => Ok(Tensor::row(floats)),
        _ => Err(site.fault(format!("has no {name}"))),
    }
}

pub(crate) fn categories(site: &Site<'_>) -> Result<Built, Fault> {
    let (texts, numbers) = (Tensor::row(site.texts("cats_strings")?), Tensor::row(site.ints("cats_int64s")));
    if texts.len() != numbers.len() {
        return Err(site.fault("has not one number for each text"));
    }
    match site.kind_of(0)? {
        Type::Text => {
            let otherwise = Tensor::scalar(site.int("default_int64").unwrap_or(-1));
            Table { keys: texts, values: numbers, otherwise, finds_nan: false }.to::<Arc<str>, i64>()
        }
        Type::I64 => Table { keys: numbers, values: texts, otherwise: default_text(site)?, finds_nan: false }.to::<i64, Arc<str>>(),
        other => Err(site.refuse_type(other)),
    }
}

pub(crate) fn zip_map(site: &Site<'_>) -> Result<Built, Fault> {
    site.expect(0, &[Type::F32])?;
    let labels = Arc::new(Labels::read(site, "classlabels_strings", "classlabels_int64s")?);
    if labels.is_empty() {
        return Err(site.fault("has no labels"));
    }
    Ok(Built::many(vec![Kind::Maps], move |given| {
        let tensor = given.tensor(0)?;
        let (rows, columns) = tensor.matrix()?;
        if columns != labels.len() {
            return Err(Fault::new(format!("{columns} columns are given for {} labels", labels.len())));
        }
        Ok(vec![Value::Maps(Maps { labels: Arc::clone(&labels), rows: tensor.with_shape(vec![rows, columns])? })])
    }))
}
