//! Values of a request before the model's types are known: scalars, and lists of lists of them in one row.

use std::{
    borrow::Cow,
    cell::{Cell as Slot, RefCell},
    fmt,
};

use flowgate_proto::v1::DataType;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::refusal::Refusal;
use crate::dialect::scoring::half;

/// How many values a request may hold: they take more room than their text.
pub(super) const MOST_CELLS: usize = 1 << 22;
/// How many nulls may stand for what rows leave out: so many, and so many more for each value that is sent.
const FREE_NULLS: usize = 1 << 14;
const NULLS_EACH: usize = 8;
/// What is said of more.
const SPARSE: &str = "Invalid input. The rows leave out nearly all of their columns; send the columns that the model has, and null where \
                      it has no value";
/// How deep lists may nest, as in NumPy before its version 2.
const DEEPEST: usize = 32;

/// A scalar.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell<'a> {
    Null,
    Bool(bool),
    Int(i64),
    /// A whole number above `i64::MAX`.
    Big(u64),
    Real(f64),
    Text(Cow<'a, str>),
    /// A field of CSV, which may stand for anything.
    Raw(Cow<'a, str>),
}

/// Lists of lists that are all of one length per depth; no length for a scalar.
#[derive(Clone, Debug, PartialEq, Default)]
pub(super) struct Grid<'a> {
    pub(super) shape: Vec<usize>,
    /// The last dimension fastest.
    pub(super) cells: Cells<'a>,
}

/// The values of a grid.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cells<'a> {
    /// Of any type each.
    Loose(Vec<Cell<'a>>),
    /// Of one type, in little-endian bytes.
    Packed(Packed<'a>),
}

/// Numbers or truth values as a tensor has them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Packed<'a> {
    pub(super) kind: DataType,
    pub(super) data: &'a [u8],
}

/// The first thing wrong in what is being read. Serde's errors are texts, and its own may repeat the input.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    first: RefCell<Option<Refusal>>,
    /// Values, and the nulls among them that nobody sent.
    cells: Slot<usize>,
    nulls: Slot<usize>,
}

/// Checks how many values a request holds.
pub(super) fn few(cells: usize) -> Result<(), Refusal> {
    if cells <= MOST_CELLS { Ok(()) } else { Err(Refusal::too_many(format_args!("There are more than {MOST_CELLS} values"))) }
}

/// Checks how many of the values are nulls that nobody sent: they take room that no body stands for.
pub(super) fn dense(cells: usize, nulls: usize) -> Result<(), Refusal> {
    if nulls <= (cells - nulls).saturating_mul(NULLS_EACH).saturating_add(FREE_NULLS) { Ok(()) } else { Err(Refusal::bad(SPARSE)) }
}

impl Trouble {
    /// Stops the reading.
    pub(super) fn raise<E: Error>(&self, refusal: Refusal) -> E {
        self.first.borrow_mut().get_or_insert(refusal);
        E::custom("refused")
    }

    /// What it was.
    pub(super) fn into_first(self) -> Option<Refusal> {
        self.first.into_inner()
    }

    /// Counts values, and stops the reading at too many.
    pub(super) fn count<E: Error>(&self, more: usize) -> Result<(), E> {
        let cells = self.cells.get().saturating_add(more);
        self.cells.set(cells);
        few(cells).map_err(|refusal| self.raise(refusal))
    }

    /// Counts nulls that nobody sent.
    fn count_nulls<E: Error>(&self, more: usize) -> Result<(), E> {
        self.count(more)?;
        self.nulls.set(self.nulls.get() + more);
        dense(self.cells.get(), self.nulls.get()).map_err(|refusal| self.raise(refusal))
    }
}

/// Reads a value into a grid; an object is none.
pub(super) struct GridSeed<'t> {
    pub(super) trouble: &'t Trouble,
    /// What is said of lists of unequal lengths.
    pub(super) ragged: &'static str,
}

/// A grid that is being read.
#[derive(Debug, Default)]
pub(super) struct Growing<'a> {
    shape: Vec<usize>,
    cells: Vec<Cell<'a>>,
    /// At which depth the scalars are.
    leaf: Option<usize>,
}

/// Reads a value at a depth of a growing grid.
pub(super) struct Item<'t, 'g, 'a> {
    pub(super) seed: &'t GridSeed<'t>,
    pub(super) growing: &'g mut Growing<'a>,
    pub(super) depth: usize,
}

impl<'a> Growing<'a> {
    /// A list whose items are read one by one.
    pub(super) fn list() -> Self {
        Self { shape: vec![0], cells: Vec::new(), leaf: None }
    }

    /// Nulls for items that a list of scalars lacks.
    pub(super) fn pad<E: Error>(&mut self, seed: &GridSeed<'_>, more: usize) -> Result<(), E> {
        if more == 0 {
            return Ok(());
        }
        if *self.leaf.get_or_insert(1) != 1 {
            return Err(seed.ragged());
        }
        seed.trouble.count_nulls(more)?;
        self.cells.resize(self.cells.len() + more, Cell::Null);
        Ok(())
    }

    /// The list of so many items.
    pub(super) fn close<E: Error>(mut self, seed: &GridSeed<'_>, items: usize) -> Result<Grid<'a>, E> {
        if let Some(first) = self.shape.first_mut() {
            *first = items;
        }
        self.finish(seed)
    }

    /// The grid, all read.
    pub(super) fn finish<E: Error>(self, seed: &GridSeed<'_>) -> Result<Grid<'a>, E> {
        // Lists that end in empty ones beside lists of scalars.
        match self.leaf {
            Some(leaf) if leaf != self.shape.len() => Err(seed.ragged()),
            _ => Ok(Grid { shape: self.shape, cells: Cells::Loose(self.cells) }),
        }
    }
}

impl<'de> DeserializeSeed<'de> for GridSeed<'_> {
    type Value = Grid<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Grid<'de>, D::Error> {
        let mut growing = Growing::default();
        Item { seed: &self, growing: &mut growing, depth: 0 }.deserialize(deserializer)?;
        growing.finish(&self)
    }
}

impl GridSeed<'_> {
    /// Stops the reading at lists of unequal lengths.
    pub(super) fn ragged<E: Error>(&self) -> E {
        self.trouble.raise(Refusal::bad(self.ragged))
    }
}

impl<'de> Item<'_, '_, 'de> {
    fn put<E: Error>(self, cell: Cell<'de>) -> Result<(), E> {
        self.seed.trouble.count(1)?;
        if *self.growing.leaf.get_or_insert(self.depth) != self.depth {
            return Err(self.seed.ragged());
        }
        self.growing.cells.push(cell);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Item<'_, '_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Item<'_, '_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("values")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.put(Cell::Null)
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<(), E> {
        self.put(Cell::Bool(truth))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        self.put(Cell::Int(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.put(i64::try_from(number).map_or(Cell::Big(number), Cell::Int))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        self.put(Cell::Real(number))
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<(), E> {
        self.put(Cell::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.put(Cell::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Self { seed, growing, depth } = self;
        let known = growing.shape.get(depth).copied();
        if known.is_none() {
            if depth >= DEEPEST {
                return Err(seed.ragged());
            }
            // Its place, before its items take theirs.
            growing.shape.push(usize::MAX);
        }
        let mut length = 0;
        while items.next_element_seed(Item { seed, growing: &mut *growing, depth: depth + 1 })?.is_some() {
            length += 1;
            // Empty lists in any number hold no cell.
            if length > MOST_CELLS {
                return Err(seed.ragged());
            }
        }
        match known {
            None | Some(usize::MAX) => growing.shape[depth] = length,
            Some(known) if known == length => {}
            Some(_) => return Err(seed.ragged()),
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        Err(self.seed.trouble.raise(Refusal::bad("Invalid input. An object stands where a value or a list of values belongs")))
    }
}

impl Grid<'_> {
    /// How many rows it has; a scalar goes for one.
    pub(super) fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }
}

impl Default for Cells<'_> {
    fn default() -> Self {
        Self::Loose(Vec::new())
    }
}

impl Cells<'_> {
    /// The first value; nothing where there is none.
    pub(super) fn first(&self) -> Cell<'_> {
        match self {
            Self::Loose(cells) => cells.first().cloned(),
            Self::Packed(packed) => packed.at(0),
        }
        .unwrap_or(Cell::Null)
    }
}

impl Packed<'_> {
    /// The value at a place; `None` behind the last one.
    pub(super) fn at(self, at: usize) -> Option<Cell<'static>> {
        fn bytes<const N: usize>(data: &[u8], at: usize) -> Option<[u8; N]> {
            data.as_chunks().0.get(at).copied()
        }
        let data = self.data;
        Some(match self.kind {
            DataType::Bool => Cell::Bool(bytes::<1>(data, at)? != [0]),
            DataType::Int8 => Cell::Int(i8::from_le_bytes(bytes(data, at)?).into()),
            DataType::Int16 => Cell::Int(i16::from_le_bytes(bytes(data, at)?).into()),
            DataType::Int32 => Cell::Int(i32::from_le_bytes(bytes(data, at)?).into()),
            DataType::Int64 => Cell::Int(i64::from_le_bytes(bytes(data, at)?)),
            DataType::Uint8 => Cell::Int(u8::from_le_bytes(bytes(data, at)?).into()),
            DataType::Uint16 => Cell::Int(u16::from_le_bytes(bytes(data, at)?).into()),
            DataType::Uint32 => Cell::Int(u32::from_le_bytes(bytes(data, at)?).into()),
            DataType::Uint64 => {
                let number = u64::from_le_bytes(bytes(data, at)?);
                i64::try_from(number).map_or(Cell::Big(number), Cell::Int)
            }
            DataType::Float16 => real(half(bytes(data, at)?).into()),
            DataType::Float32 => real(f32::from_le_bytes(bytes(data, at)?).into()),
            DataType::Float64 => real(f64::from_le_bytes(bytes(data, at)?)),
            DataType::String | DataType::Bytes | DataType::Unspecified => return None,
        })
    }
}

/// What is no number is nothing, as in pandas.
fn real(number: f64) -> Cell<'static> {
    if number.is_nan() { Cell::Null } else { Cell::Real(number) }
}
