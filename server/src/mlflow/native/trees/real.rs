//! The two precisions that trees compare in: 32 bits as XGBoost and most of ONNX, 64 as LightGBM.

use std::{fmt::Debug, ops::AddAssign};

/// `f32` or `f64`; nothing else is one.
pub trait Real: Copy + Debug + Default + PartialOrd + AddAssign + Send + Sync + 'static {
    /// What no comparison holds for.
    const NAN: Self;

    /// The nearest value.
    fn from_f64(value: f64) -> Self;

    /// The same value.
    fn to_f64(self) -> f64;

    /// The greatest value below this one, so that `x < t` is `x <= t.below()`.
    fn below(self) -> Self;

    /// A number for a leaf's or set's place, kept where thresholds are kept.
    fn from_index(index: u32) -> Self;

    /// What [`Self::from_index`] was given.
    fn index(self) -> usize;
}

impl Real for f32 {
    const NAN: Self = Self::NAN;

    #[expect(clippy::cast_possible_truncation, reason = "rounding is what is asked for")]
    fn from_f64(value: f64) -> Self {
        value as Self
    }

    fn to_f64(self) -> f64 {
        f64::from(self)
    }

    fn below(self) -> Self {
        self.next_down()
    }

    fn from_index(index: u32) -> Self {
        Self::from_bits(index)
    }

    fn index(self) -> usize {
        self.to_bits() as usize
    }
}

impl Real for f64 {
    const NAN: Self = Self::NAN;

    fn from_f64(value: f64) -> Self {
        value
    }

    fn to_f64(self) -> f64 {
        self
    }

    fn below(self) -> Self {
        self.next_down()
    }

    fn from_index(index: u32) -> Self {
        Self::from_bits(u64::from(index))
    }

    #[expect(clippy::cast_possible_truncation, reason = "it was made from 32 bits")]
    fn index(self) -> usize {
        self.to_bits() as usize
    }
}
