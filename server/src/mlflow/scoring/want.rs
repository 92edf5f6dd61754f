//! What a column or tensor must hold, and how a value becomes that: MLflow's conversions without those that change a number.

use std::{borrow::Borrow, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use flowgate_proto::v1::DataType;

use super::grid::{Cell, Cells, Packed};
use crate::mlflow::{
    native::{Type, Values},
    signature::{Element, Scalar},
};

/// Beyond these not every whole number is a double.
const EXACT: f64 = 9_007_199_254_740_992.0;
/// What pandas reads as nothing.
const NOTHING: [&str; 17] = [
    "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL", "NaN", "None",
    "nan", "null",
];

/// What values must be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Want {
    /// A truth value.
    Bool,
    /// A whole number within bounds, by its name in NumPy.
    Whole { least: i64, most: i64, name: &'static str },
    /// 32 bits.
    Single,
    /// 64 bits.
    Double,
    /// Text.
    Text,
    /// Bytes that come as base64 and go as text.
    Binary,
}

/// Why a value is not what is wanted, in the words of the library that refuses it in MLflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    Null,
    NotNumber,
    NotWhole,
    NotText,
    NotBase64,
    /// Out of the type's range.
    Range,
    /// A fraction for a whole number.
    Lossy,
    List,
}

/// A number that a value stands for.
#[derive(Clone, Copy)]
enum Number {
    Nothing,
    Whole(i64),
    Real(f64),
}

impl Want {
    const LONG: Self = Self::Whole { least: i64::MIN, most: i64::MAX, name: "int64" };
    const INTEGER: Self = Self::whole(i32::MIN as i64, i32::MAX as i64, "int32");

    const fn whole(least: i64, most: i64, name: &'static str) -> Self {
        Self::Whole { least, most, name }
    }

    /// What a type of column asks for; `None` for what no model here takes.
    pub(super) fn column(scalar: Scalar) -> Option<Self> {
        Some(match scalar {
            Scalar::Boolean => Self::Bool,
            Scalar::Integer => Self::INTEGER,
            Scalar::Long => Self::LONG,
            Scalar::Float => Self::Single,
            Scalar::Double => Self::Double,
            Scalar::String => Self::Text,
            Scalar::Binary => Self::Binary,
            Scalar::Datetime => return None,
        })
    }

    /// What a tensor's type asks for.
    pub(super) fn element(element: Element) -> Option<Self> {
        Some(match element {
            Element::Bool => Self::Bool,
            Element::Int8 => Self::port(Type::I8),
            Element::Int16 => Self::whole(i16::MIN.into(), i16::MAX.into(), "int16"),
            Element::Int32 => Self::INTEGER,
            Element::Int64 => Self::LONG,
            Element::Uint8 => Self::port(Type::U8),
            Element::Uint16 => Self::whole(0, u16::MAX.into(), "uint16"),
            Element::Uint32 => Self::whole(0, u32::MAX.into(), "uint32"),
            Element::Float32 => Self::Single,
            Element::Float64 => Self::Double,
            Element::Object => Self::Text,
            Element::Bytes => Self::Binary,
            Element::Uint64 | Element::Float16 | Element::Datetime => return None,
        })
    }

    /// What an input of the model asks for when no signature does.
    pub(super) const fn port(kind: Type) -> Self {
        match kind {
            Type::F32 => Self::Single,
            Type::F64 => Self::Double,
            Type::I64 => Self::LONG,
            Type::I32 => Self::INTEGER,
            Type::I8 => Self::whole(i8::MIN as i64, i8::MAX as i64, "int8"),
            Type::U8 => Self::whole(0, u8::MAX as i64, "uint8"),
            Type::Bool => Self::Bool,
            Type::Text => Self::Text,
        }
    }

    /// What must hold for an input of the model to take it too; `None` when it never does.
    pub(super) fn into_port(self, kind: Type) -> Option<Self> {
        match (self, Self::port(kind)) {
            (Self::Text | Self::Binary, port) => (port == Self::Text).then_some(self),
            (_, Self::Text) => None,
            (Self::Whole { least, most, .. }, Self::Whole { least: other, most: another, name }) => {
                Some(Self::whole(least.max(other), most.min(another), name))
            }
            (_, port @ (Self::Whole { .. } | Self::Bool)) => Some(port),
            // The narrower of the two: what is sent must survive both.
            (Self::Single | Self::Double, Self::Single) | (Self::Single, _) => Some(Self::Single),
            (want, _) => Some(want),
        }
    }

    /// Its type, as NumPy says it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Whole { name, .. } => name,
            Self::Single => "float32",
            Self::Double => "float64",
            Self::Text => "str",
            Self::Binary => "bytes",
        }
    }

    fn number(self, cell: &Cell<'_>) -> Result<Number, Why> {
        let number = match cell {
            Cell::Null => Number::Nothing,
            Cell::Bool(truth) => Number::Whole((*truth).into()),
            Cell::Int(number) => Number::Whole(*number),
            #[expect(clippy::cast_precision_loss, reason = "as any number that is written with more digits than fit")]
            Cell::Big(number) => Number::Real(*number as f64),
            Cell::Real(number) => Number::Real(*number),
            Cell::Raw(field) if NOTHING.contains(&field.as_ref()) => Number::Nothing,
            // pandas takes a column of words of truth for truth values, which are numbers too.
            Cell::Raw(field) => truth(field.trim()).map_or_else(|| self.parse(field.trim()), |truth| Ok(Number::Whole(truth.into())))?,
            Cell::Text(text) => self.parse(text.trim())?,
        };
        match self {
            Self::Whole { least, most, .. } => whole(number, least, most),
            Self::Bool => whole(number, 0, 1).map_err(|why| if why == Why::Range { Why::Lossy } else { why }),
            _ => Ok(number),
        }
    }

    fn parse(self, text: &str) -> Result<Number, Why> {
        if self == Self::Bool
            && let Some(truth) = truth(text)
        {
            return Ok(Number::Whole(truth.into()));
        }
        if let Ok(number) = text.parse() {
            return Ok(Number::Whole(number));
        }
        let real = text.parse::<f64>().ok().filter(|number| number.is_finite());
        real.map(Number::Real).ok_or(if matches!(self, Self::Whole { .. }) { Why::NotWhole } else { Why::NotNumber })
    }
}

fn truth(word: &str) -> Option<bool> {
    match word {
        "True" | "true" | "TRUE" => Some(true),
        "False" | "false" | "FALSE" => Some(false),
        _ => None,
    }
}

/// A whole number; one that has only come as a fraction of nothing is taken.
#[expect(clippy::cast_possible_truncation, reason = "it is whole, and within what a double holds exactly")]
fn whole(number: Number, least: i64, most: i64) -> Result<Number, Why> {
    let number = match number {
        Number::Nothing => return Ok(Number::Nothing),
        Number::Whole(number) => number,
        Number::Real(number) if number.fract() != 0.0 => return Err(Why::Lossy),
        Number::Real(number) if number.abs() > EXACT => return Err(Why::Range),
        Number::Real(number) => number as i64,
    };
    if (least..=most).contains(&number) { Ok(Number::Whole(number)) } else { Err(Why::Range) }
}

/// What an input of the model is made of.
pub(super) trait Lane: Clone {
    fn of(cell: &Cell<'_>, want: Want) -> Result<Self, Why>;
}

macro_rules! whole_lane {
    ($rust:ty) => {
        impl Lane for $rust {
            fn of(cell: &Cell<'_>, want: Want) -> Result<Self, Why> {
                match want.number(cell)? {
                    Number::Whole(number) => Self::try_from(number).map_err(|_| Why::Range),
                    Number::Real(_) => Err(Why::Lossy),
                    Number::Nothing => Err(Why::Null),
                }
            }
        }
    };
}
whole_lane!(i64);
whole_lane!(i32);
whole_lane!(i8);
whole_lane!(u8);

impl Lane for bool {
    fn of(cell: &Cell<'_>, want: Want) -> Result<Self, Why> {
        i64::of(cell, want).map(|number| number != 0)
    }
}

impl Lane for f64 {
    #[expect(clippy::cast_precision_loss, reason = "MLflow's signatures take whole numbers for doubles")]
    fn of(cell: &Cell<'_>, want: Want) -> Result<Self, Why> {
        let number = match want.number(cell)? {
            Number::Nothing => return if matches!(want, Want::Whole { .. }) { Err(Why::Null) } else { Ok(Self::NAN) },
            Number::Whole(number) => kept(number, number as Self, want)?,
            Number::Real(number) => number,
        };
        if want == Want::Single { narrow(number).map(Self::from) } else { Ok(number) }
    }
}

impl Lane for f32 {
    #[expect(clippy::cast_precision_loss, reason = "what a signature says to be whole is compared")]
    fn of(cell: &Cell<'_>, want: Want) -> Result<Self, Why> {
        match want.number(cell)? {
            Number::Whole(number) if matches!(want, Want::Whole { .. }) => kept(number, f64::from(number as Self), want).and_then(narrow),
            _ => f64::of(cell, want).and_then(narrow),
        }
    }
}

/// What a whole number becomes in an input of floating numbers: itself, where the signature says that it is whole.
fn kept(number: i64, becomes: f64, want: Want) -> Result<f64, Why> {
    #[expect(clippy::cast_possible_truncation, reason = "an i128 holds every whole number that an i64 is rounded to")]
    let is_kept = becomes as i128 == i128::from(number);
    if is_kept || !matches!(want, Want::Whole { .. }) { Ok(becomes) } else { Err(Why::Lossy) }
}

/// 32 bits round; what is beyond their range is refused. An infinity, which only tensors hold, stays one.
#[expect(clippy::cast_possible_truncation, reason = "JSON has no shorter numbers, so that rounding is what was meant")]
fn narrow(number: f64) -> Result<f32, Why> {
    let single = number as f32;
    if single.is_infinite() && number.is_finite() { Err(Why::Range) } else { Ok(single) }
}

impl Lane for Arc<str> {
    fn of(cell: &Cell<'_>, want: Want) -> Result<Self, Why> {
        match cell {
            Cell::Text(text) | Cell::Raw(text) if want == Want::Binary => {
                // MLflow's own encoder breaks lines.
                let unbroken: String = text.chars().filter(|letter| !letter.is_ascii_whitespace()).collect();
                let bytes = STANDARD.decode(unbroken).map_err(|_| Why::NotBase64)?;
                String::from_utf8(bytes).map(Into::into).map_err(|_| Why::NotText)
            }
            Cell::Text(text) | Cell::Raw(text) => Ok(Self::from(text.as_ref())),
            Cell::Null => Err(Why::Null),
            Cell::Bool(_) | Cell::Int(_) | Cell::Big(_) | Cell::Real(_) => Err(Why::NotText),
        }
    }
}

/// Runs the same code for the values of a type.
macro_rules! for_values {
    ($values:expr, $vector:ident => $body:expr) => {
        match $values {
            Values::F32($vector) => $body,
            Values::F64($vector) => $body,
            Values::I64($vector) => $body,
            Values::I32($vector) => $body,
            Values::I8($vector) => $body,
            Values::U8($vector) => $body,
            Values::Bool($vector) => $body,
            Values::Text($vector) => $body,
        }
    };
}

/// As many zeros of a type.
pub(super) fn zeros(kind: Type, count: usize) -> Values {
    match kind {
        Type::F32 => Values::F32(vec![0.0; count]),
        Type::F64 => Values::F64(vec![0.0; count]),
        Type::I64 => Values::I64(vec![0; count]),
        Type::I32 => Values::I32(vec![0; count]),
        Type::I8 => Values::I8(vec![0; count]),
        Type::U8 => Values::U8(vec![0; count]),
        Type::Bool => Values::Bool(vec![false; count]),
        Type::Text => Values::Text(vec![Arc::from(""); count]),
    }
}

/// Which values of a request make a column or tensor: `count` of them, `run` side by side at every `step`-th place from `start` on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    pub(super) start: usize,
    pub(super) step: usize,
    pub(super) run: usize,
    pub(super) count: usize,
}

impl Places {
    /// The first so many.
    pub(super) const fn first(count: usize) -> Self {
        Self { start: 0, step: 1, run: 1, count }
    }

    fn all(self) -> impl Iterator<Item = usize> {
        let Self { start, step, run, count } = self;
        (0..count).map(move |at| if run == 1 { start + at * step } else { start + at / run * step + at % run })
    }
}

/// Puts values in every `step`-th place from `start` on.
pub(super) fn put(into: &mut Values, (start, step): (usize, usize), (cells, places): (&Cells<'_>, Places), want: Want) -> Result<(), Why> {
    fn fill<'c, T: Lane, C: Borrow<Cell<'c>>>(
        into: &mut [T],
        (start, step): (usize, usize),
        cells: impl Iterator<Item = C>,
        want: Want,
    ) -> Result<(), Why> {
        for (place, cell) in into.iter_mut().skip(start).step_by(step.max(1)).zip(cells) {
            *place = T::of(cell.borrow(), want)?;
        }
        Ok(())
    }
    let goes = (start, step);
    match cells {
        Cells::Loose(cells) => for_values!(into, vector => fill(vector, goes, places.all().filter_map(|at| cells.get(at)), want)),
        Cells::Packed(packed) if same(into, goes, *packed, places, want).is_some() => Ok(()),
        Cells::Packed(packed) => for_values!(into, vector => fill(vector, goes, places.all().filter_map(|at| packed.at(at)), want)),
    }
}

/// Copies values that are what the model takes already; `None` where they are not.
fn same(into: &mut Values, (start, step): (usize, usize), packed: Packed<'_>, places: Places, want: Want) -> Option<()> {
    fn copy<T, const N: usize>(
        into: &mut [T],
        (start, step): (usize, usize),
        (data, places): (&[u8], Places),
        of: impl Fn([u8; N]) -> T,
    ) -> Option<()> {
        let data = data.as_chunks().0;
        let places = into.iter_mut().skip(start).step_by(step.max(1)).zip(places.all());
        places.for_each(|(place, at)| {
            if let Some(bytes) = data.get(at) {
                *place = of(*bytes);
            }
        });
        Some(())
    }
    if want != Want::port(into.kind()) {
        return None;
    }
    let (goes, from) = ((start, step), (packed.data, places));
    match (into, packed.kind) {
        (Values::F32(into), DataType::Float32) => copy(into, goes, from, f32::from_le_bytes),
        (Values::F64(into), DataType::Float64) => copy(into, goes, from, f64::from_le_bytes),
        (Values::I64(into), DataType::Int64) => copy(into, goes, from, i64::from_le_bytes),
        (Values::I32(into), DataType::Int32) => copy(into, goes, from, i32::from_le_bytes),
        (Values::I8(into), DataType::Int8) => copy(into, goes, from, i8::from_le_bytes),
        (Values::U8(into), DataType::Uint8) => copy(into, goes, from, u8::from_le_bytes),
        _ => None,
    }
}

/// Puts one value in every `step`-th place from `start` on. A text is made once: it may be long, and the places many.
pub(super) fn repeat(into: &mut Values, (start, step): (usize, usize), cell: &Cell<'_>, want: Want) -> Result<(), Why> {
    fn fill<T: Lane + Clone>(into: &mut [T], (start, step): (usize, usize), cell: &Cell<'_>, want: Want) -> Result<(), Why> {
        let mut places = into.iter_mut().skip(start).step_by(step.max(1)).peekable();
        if places.peek().is_some() {
            let value = T::of(cell, want)?;
            places.for_each(|place| place.clone_from(&value));
        }
        Ok(())
    }
    for_values!(into, vector => fill(vector, (start, step), cell, want))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTEGER: Want = Want::INTEGER;
    const LONG: Want = Want::LONG;

    #[test]
    fn whole_numbers_are_never_changed() {
        let text = |text: &'static str| Cell::Text(text.into());
        for (cell, want, becomes) in [
            (Cell::Int(i64::MAX), LONG, Ok(i64::MAX)),
            (Cell::Int(2_147_483_648), INTEGER, Err(Why::Range)),
            (Cell::Big(1 << 63), LONG, Err(Why::Range)),
            (Cell::Real(-2.0), LONG, Ok(-2)),
            (Cell::Real(2.5), LONG, Err(Why::Lossy)),
            (Cell::Real(1e16), LONG, Err(Why::Range)),
            (Cell::Bool(true), INTEGER, Ok(1)),
            (Cell::Null, LONG, Err(Why::Null)),
            (text("12"), LONG, Ok(12)),
            (text("12.5"), LONG, Err(Why::Lossy)),
            (text("NA"), LONG, Err(Why::NotWhole)),
            (Cell::Raw("NA".into()), LONG, Err(Why::Null)),
            (Cell::Int(2), Want::Bool, Err(Why::Lossy)),
            (text("True"), Want::Bool, Ok(1)),
            (Cell::Int(-1), Want::port(Type::U8), Err(Why::Range)),
        ] {
            assert_eq!(i64::of(&cell, want), becomes, "{cell:?}");
        }
        assert_eq!(u8::of(&Cell::Int(256), LONG), Err(Why::Range));
        assert_eq!(bool::of(&Cell::Int(0), Want::Bool), Ok(false));
    }

    #[test]
    fn real_numbers_may_be_nothing_and_never_become_infinite() {
        assert!(f64::of(&Cell::Null, Want::Double).unwrap().is_nan());
        assert!(f32::of(&Cell::Raw("nan".into()), Want::Single).unwrap().is_nan());
        for (cell, want, becomes) in [
            (Cell::Null, LONG, Err(Why::Null)),
            (Cell::Real(1e39), Want::Single, Err(Why::Range)),
            (Cell::Real(1e39), Want::Double, Ok(1e39)),
            (Cell::Real(0.1), Want::Single, Ok(f64::from(0.1_f32))),
            (Cell::Big(u64::MAX), Want::Double, Ok(18_446_744_073_709_551_616.0)),
            (Cell::Text("inf".into()), Want::Double, Err(Why::NotNumber)),
            (Cell::Text(" 1e3 ".into()), Want::Double, Ok(1000.0)),
        ] {
            assert_eq!(f64::of(&cell, want), becomes, "{cell:?}");
        }
    }

    /// A text of megabytes would else stand in memory once for each of a million rows.
    #[test]
    fn a_text_sent_once_is_made_once() {
        let mut values = zeros(Type::Text, 6);
        repeat(&mut values, (1, 2), &Cell::Text("aGk=".into()), Want::Binary).unwrap();
        let Values::Text(texts) = values else { panic!("texts") };
        assert_eq!(texts.iter().map(|text| &**text).collect::<Vec<_>>(), ["", "hi", "", "hi", "", "hi"]);
        assert!(Arc::ptr_eq(&texts[1], &texts[3]) && Arc::ptr_eq(&texts[1], &texts[5]));
        assert_eq!(repeat(&mut zeros(Type::F32, 1), (0, 1), &Cell::Text("x".into()), Want::Single), Err(Why::NotNumber));
        // Where there are no rows, nothing is wrong with a value.
        assert_eq!(repeat(&mut zeros(Type::F32, 0), (0, 1), &Cell::Text("x".into()), Want::Single), Ok(()));
    }

    #[test]
    fn an_input_narrows_what_a_signature_asks_for() {
        for (want, kind, narrowed) in [
            (Want::Double, Type::F32, Some(Want::Single)),
            (Want::Single, Type::F64, Some(Want::Single)),
            (LONG, Type::I32, Some(INTEGER)),
            (INTEGER, Type::I64, Some(Want::Whole { least: i32::MIN.into(), most: i32::MAX.into(), name: "int64" })),
            (Want::Double, Type::I64, Some(LONG)),
            (LONG, Type::F32, Some(LONG)),
            (Want::Binary, Type::Text, Some(Want::Binary)),
            (Want::Text, Type::F32, None),
            (Want::Double, Type::Text, None),
        ] {
            assert_eq!(want.into_port(kind), narrowed, "{want:?} {kind:?}");
        }
        assert_eq!(Want::column(Scalar::Datetime), None);
        assert_eq!(Want::element(Element::Uint64), None);
    }
}
