//! Arithmetic on each value, or on pairs of them.

use std::cmp::Ordering;

use crate::mlflow::native::{
    fault::Fault,
    site::{Built, Site},
    tensor::{Element, Tensor, Type, for_type, zip},
};

/// What arithmetic needs of a number.
pub(crate) trait Number: Element + Copy + PartialOrd {
    /// The least and the most that a float can be short of infinity; none for integers.
    const LEAST: Option<Self>;
    const MOST: Option<Self>;
    /// Integers wrap around, as they do in ONNX Runtime.
    fn plus(self, other: Self) -> Self;
    fn minus(self, other: Self) -> Self;
    fn times(self, other: Self) -> Self;
    /// `None` where there is no answer: integers by zero.
    fn over(self, other: Self) -> Option<Self>;
    /// The rest, with the sign of the divisor as in Python, or of the dividend as in C.
    fn rest(self, other: Self, like_c: bool) -> Option<Self>;
    fn to_double(self) -> f64;
    /// Rounded toward zero, and to the nearest that there is.
    fn from_double(value: f64) -> Self;
    fn is_nan(self) -> bool;
}

macro_rules! integer {
    ($($rust:ty),+) => { $(
        impl Number for $rust {
            const LEAST: Option<Self> = None;
            const MOST: Option<Self> = None;
            fn plus(self, other: Self) -> Self { self.wrapping_add(other) }
            fn minus(self, other: Self) -> Self { self.wrapping_sub(other) }
            fn times(self, other: Self) -> Self { self.wrapping_mul(other) }
            fn over(self, other: Self) -> Option<Self> { (other != 0).then(|| self.wrapping_div(other)) }
            fn rest(self, other: Self, like_c: bool) -> Option<Self> {
                if other == 0 { return None; }
                let rest = self.wrapping_rem(other);
                let is_below = |value: Self| value.partial_cmp(&0) == Some(Ordering::Less);
                let differs = rest != 0 && is_below(rest) != is_below(other);
                Some(if differs && !like_c { rest.wrapping_add(other) } else { rest })
            }
            fn to_double(self) -> f64 { self as f64 }
            #[expect(clippy::cast_possible_truncation, reason = "saturates")]
            fn from_double(value: f64) -> Self { value as Self }
            fn is_nan(self) -> bool { false }
        }
    )+ };
}
integer!(i64, i32, i8, u8);

macro_rules! floating {
    ($($rust:ty, $rounded:expr);+) => { $(
        impl Number for $rust {
            const LEAST: Option<Self> = Some(Self::MIN);
            const MOST: Option<Self> = Some(Self::MAX);
            fn plus(self, other: Self) -> Self { self + other }
            fn minus(self, other: Self) -> Self { self - other }
            fn times(self, other: Self) -> Self { self * other }
            fn over(self, other: Self) -> Option<Self> { Some(self / other) }
            fn rest(self, other: Self, like_c: bool) -> Option<Self> {
                let rest = self % other;
                Some(if !like_c && rest != 0.0 && (rest < 0.0) != (other < 0.0) { rest + other } else { rest })
            }
            fn to_double(self) -> f64 { f64::from(self) }
            fn from_double(value: f64) -> Self { $rounded(value) }
            fn is_nan(self) -> bool { Self::is_nan(self) }
        }
    )+ };
}
floating!(f32, single; f64, std::convert::identity);

#[expect(clippy::cast_possible_truncation, reason = "rounds")]
const fn single(value: f64) -> f32 {
    value as f32
}

/// What the transcendental operators need: computed in double precision, which ONNX Runtime's answer in single is near enough to.
pub(crate) trait Real: Number {
    fn through(self, function: fn(f64) -> f64) -> Self {
        Self::from_double(function(self.to_double()))
    }
}
impl Real for f32 {}
impl Real for f64 {}

/// An operator on each value.
fn map<T: Element, U: Element>(function: impl Fn(&T) -> U + Send + Sync + 'static) -> Built {
    Built::one(U::TYPE, move |given| {
        let tensor = given.tensor(0)?;
        Tensor::of(tensor.shape().to_vec(), tensor.values::<T>()?.iter().map(&function).collect())
    })
}

/// An operator on pairs of values.
pub(crate) fn pair<T: Element, U: Element>(join: impl Fn(&T, &T) -> U + Send + Sync + 'static) -> Built {
    Built::one(U::TYPE, move |given| zip::<T, T, U>(given.tensor(0)?, given.tensor(1)?, &join))
}

pub(crate) fn signed(site: &Site<'_>) -> Result<Built, Fault> {
    let name = site.node.operator.as_str();
    for_type!(site.kind_of(0)?, site, number, T => {
        let zero = T::zero();
        Ok(match name {
            "Abs" => map::<T, T>(move |value| if *value < zero { zero.minus(*value) } else { *value }),
            "Neg" => map::<T, T>(move |value| T::from_double(-0.0).minus(*value)),
            _ => map::<T, T>(move |value| match value.partial_cmp(&zero) {
                Some(order) => T::from_double(f64::from(order as i8)),
                None => *value,
            }),
        })
    })
}

pub(crate) fn real(site: &Site<'_>) -> Result<Built, Fault> {
    let function: fn(f64) -> f64 = match site.node.operator.as_str() {
        "Sqrt" => f64::sqrt,
        "Exp" => f64::exp,
        "Log" => f64::ln,
        "Reciprocal" => f64::recip,
        "Sigmoid" => sigmoid,
        "Tanh" => f64::tanh,
        "Erf" => erf,
        "Floor" => f64::floor,
        "Ceil" => f64::ceil,
        "Round" => f64::round_ties_even,
        "Sin" => f64::sin,
        "Cos" => f64::cos,
        "Tan" => f64::tan,
        "Asin" => f64::asin,
        "Acos" => f64::acos,
        "Atan" => f64::atan,
        "Sinh" => f64::sinh,
        "Cosh" => f64::cosh,
        "Softplus" => |x| x.max(0.0) + (-x.abs()).exp().ln_1p(),
        _ => |x| x / (1.0 + x.abs()),
    };
    for_type!(site.kind_of(0)?, site, real, T => Ok(map::<T, T>(move |value| value.through(function))))
}

/// Activations with parameters of their own.
pub(crate) fn shaped(site: &Site<'_>) -> Result<Built, Fault> {
    let name = site.node.operator.as_str();
    let (first, second) = match name {
        "LeakyRelu" => (0.01, 0.0),
        "HardSigmoid" => (0.2, 0.5),
        "Selu" => (1.673_263_2, 1.050_701),
        _ => (1.0, 0.0),
    };
    let alpha = f64::from(site.float("alpha").unwrap_or(first));
    let beta = f64::from(site.float("beta").or_else(|| site.float("gamma")).unwrap_or(second));
    let function: fn(f64, f64, f64) -> f64 = match name {
        "LeakyRelu" => |x, alpha, _| if x < 0.0 { alpha * x } else { x },
        "Elu" => |x, alpha, _| if x < 0.0 { alpha * x.exp_m1() } else { x },
        "Selu" => |x, alpha, gamma| gamma * if x <= 0.0 { alpha * x.exp_m1() } else { x },
        "HardSigmoid" => |x, alpha, beta| (alpha * x + beta).clamp(0.0, 1.0),
        _ => |x, alpha, _| if x > alpha { x } else { 0.0 },
    };
    for_type!(site.kind_of(0)?, site, real, T => Ok(map::<T, T>(move |value| T::from_double(function(value.to_double(), alpha, beta)))))
}

pub(crate) fn relu(site: &Site<'_>) -> Result<Built, Fault> {
    for_type!(site.kind_of(0)?, site, number, T => {
        let zero = T::zero();
        Ok(map::<T, T>(move |value| if *value < zero { zero } else { *value }))
    })
}

pub(crate) fn clip(site: &Site<'_>) -> Result<Built, Fault> {
    let (low, high) = (site.float("min"), site.float("max"));
    for_type!(site.kind_of(0)?, site, number, T => Ok(Built::one(T::TYPE, move |given| {
        let tensor = given.tensor(0)?;
        let bound = |at, fixed: Option<f32>| match given.maybe(at)? {
            Some(_) => given.single::<T>(at).map(Some),
            None => Ok(fixed.map(|fixed| T::from_double(f64::from(fixed)))),
        };
        // Without a bound, infinities become the largest numbers: so ONNX Runtime.
        let (low, high) = (bound(1, low)?.or(T::LEAST), bound(2, high)?.or(T::MOST));
        let clip = |value: &T| {
            let raised = low.filter(|low| value < low).unwrap_or(*value);
            high.filter(|high| raised > *high).unwrap_or(raised)
        };
        Tensor::of(tensor.shape().to_vec(), tensor.values::<T>()?.iter().map(clip).collect())
    })))
}

pub(crate) fn arithmetic(site: &Site<'_>) -> Result<Built, Fault> {
    let name = site.node.operator.as_str();
    for_type!(site.pair_kind()?, site, number, T => Ok(match name {
        "Add" => pair::<T, T>(|a, b| a.plus(*b)),
        "Sub" => pair::<T, T>(|a, b| a.minus(*b)),
        _ => pair::<T, T>(|a, b| a.times(*b)),
    }))
}

pub(crate) fn divide(site: &Site<'_>) -> Result<Built, Fault> {
    let (is_rest, like_c) = (site.node.operator == "Mod", site.flag("fmod", false));
    for_type!(site.pair_kind()?, site, number, T => Ok(Built::one(T::TYPE, move |given| {
        let (left, right) = (given.tensor(0)?, given.tensor(1)?);
        // Only integers have no answer here.
        if right.values::<T>()?.iter().any(|value| T::zero().over(*value).is_none()) {
            return Err(Fault::new("division by zero"));
        }
        zip::<T, T, T>(left, right, |a, b| if is_rest { a.rest(*b, like_c) } else { a.over(*b) }.unwrap_or(*a))
    })))
}

/// The exponent may be of another type.
pub(crate) fn power(site: &Site<'_>) -> Result<Built, Fault> {
    let exponent = site.kind_of(1)?;
    for_type!(site.kind_of(0)?, site, number, T => for_type!(exponent, site, number, U => Ok(Built::one(T::TYPE, |given| {
        zip::<T, U, T>(given.tensor(0)?, given.tensor(1)?, |a, b| T::from_double(raise(a.to_double(), b.to_double())))
    }))))
}

fn raise(value: f64, exponent: f64) -> f64 {
    if exponent == 2.0 { value * value } else { value.powf(exponent) }
}

/// Min, Max, Sum and Mean of any number of tensors.
pub(crate) fn fold(site: &Site<'_>) -> Result<Built, Fault> {
    let name = site.node.operator.clone();
    let count = f64::from(u32::try_from(site.inputs.len()).map_err(|_| site.fault("has too many inputs"))?);
    for_type!(site.same_kind()?, site, number, T => {
        let join: fn(&T, &T) -> T = match name.as_str() {
            "Min" => |a, b| if a.is_nan() || *a < *b { *a } else { *b },
            "Max" => |a, b| if a.is_nan() || *a > *b { *a } else { *b },
            _ => |a, b| a.plus(*b),
        };
        let is_mean = name == "Mean";
        Ok(Built::one(T::TYPE, move |given| {
            let tensors = given.tensors()?;
            let (first, rest) = tensors.split_first().ok_or_else(|| Fault::new("there is nothing to join"))?;
            let total = rest.iter().try_fold((*first).clone(), |total, next| zip::<T, T, T>(&total, next, join))?;
            if !is_mean {
                return Ok(total);
            }
            let values = total.values::<T>()?.iter().map(|value| T::from_double(value.to_double() / count)).collect();
            Tensor::of(total.shape().to_vec(), values)
        }))
    })
}

pub(crate) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The error function: its series near zero, its continued fraction further out (both from any table of functions).
pub(crate) fn erf(x: f64) -> f64 {
    let size = x.abs();
    if size.is_nan() {
        return x;
    }
    if size > 6.0 {
        return x.signum();
    }
    if size < 2.5 {
        let (mut term, mut sum) = (x, x);
        for n in 1..100_u32 {
            term *= -x * x / f64::from(n);
            let next = term / f64::from(2 * n + 1);
            sum += next;
            if next.abs() < 1e-17 * sum.abs() {
                break;
            }
        }
        return sum * std::f64::consts::FRAC_2_SQRT_PI;
    }
    let fraction = (1..=60_u32).rev().fold(size, |below, n| size + f64::from(n) / 2.0 / below);
    let beyond = (-size * size).exp() / fraction / std::f64::consts::PI.sqrt();
    x.signum() * (1.0 - beyond)
}

/// The types that a wide choice of operators takes for indices.
pub(crate) const INDICES: &[Type] = &[Type::I64, Type::I32];
