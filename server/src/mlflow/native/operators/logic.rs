//! Comparisons, booleans and the choice by them.

use crate::mlflow::native::{
    fault::Fault,
    operators::elementwise::{Number, pair},
    site::{Built, Site},
    tensor::{Element, Tensor, Type, broadcast, expand, for_type},
};

pub(crate) fn equal(site: &Site<'_>) -> Result<Built, Fault> {
    for_type!(site.pair_kind()?, any, T => Ok(pair::<T, bool>(|a, b| a == b)))
}

pub(crate) fn order(site: &Site<'_>) -> Result<Built, Fault> {
    let name = site.node.operator.as_str();
    for_type!(site.pair_kind()?, site, number, T => Ok(match name {
        "Less" => pair::<T, bool>(|a, b| a < b),
        "LessOrEqual" => pair::<T, bool>(|a, b| a <= b),
        "Greater" => pair::<T, bool>(|a, b| a > b),
        _ => pair::<T, bool>(|a, b| a >= b),
    }))
}

pub(crate) fn both(site: &Site<'_>) -> Result<Built, Fault> {
    let name = site.node.operator.as_str();
    for_type!(site.pair_kind()?, site, [Bool = bool], T => Ok(match name {
        "And" => pair::<T, bool>(|a, b| *a && *b),
        "Or" => pair::<T, bool>(|a, b| *a || *b),
        _ => pair::<T, bool>(|a, b| a != b),
    }))
}

pub(crate) fn not(site: &Site<'_>) -> Result<Built, Fault> {
    site.expect(0, &[Type::Bool])?;
    Ok(Built::one(Type::Bool, |given| {
        let tensor = given.tensor(0)?;
        Tensor::of(tensor.shape().to_vec(), tensor.values::<bool>()?.iter().map(|value| !value).collect())
    }))
}

pub(crate) fn is_special(site: &Site<'_>) -> Result<Built, Fault> {
    let is_nan = site.node.operator == "IsNaN";
    let (negative, positive) = (site.flag("detect_negative", true), site.flag("detect_positive", true));
    let test = move |value: f64| {
        if is_nan { value.is_nan() } else { value.is_infinite() && if value < 0.0 { negative } else { positive } }
    };
    for_type!(site.kind_of(0)?, site, real, T => Ok(Built::one(Type::Bool, move |given| {
        let tensor = given.tensor(0)?;
        Tensor::of(tensor.shape().to_vec(), tensor.values::<T>()?.iter().map(|value| test(value.to_double())).collect())
    })))
}

pub(crate) fn choose(site: &Site<'_>) -> Result<Built, Fault> {
    site.expect(0, &[Type::Bool])?;
    let kind = site.kind_of(1)?;
    site.expect(2, &[kind])?;
    for_type!(kind, any, T => Ok(Built::one(T::TYPE, |given| {
        let (test, yes, no) = (given.tensor(0)?, given.tensor(1)?, given.tensor(2)?);
        let shape = broadcast(&broadcast(test.shape(), yes.shape())?, no.shape())?;
        let test = expand(test.values::<bool>()?, test.shape(), &shape)?;
        let yes = expand(yes.values::<T>()?, yes.shape(), &shape)?;
        let no = expand(no.values::<T>()?, no.shape(), &shape)?;
        let chosen = test.into_iter().zip(yes.into_iter().zip(no)).map(|(test, (yes, no))| if test { yes } else { no });
        Tensor::of(shape, chosen.collect())
    })))
}
