//! A scoring request out of its JSON: one of MLflow's four forms and the parameters, in one pass.
//!
//! MLflow's server has a fifth form: where `messages`, `prompt` or `input` stands at the top, the whole body is the input. It is for models
//! of language, none of which runs in this process; for tables and tensors its own signatures refuse it, since lists are no arrays there
//! (but for a table with a column of such a name).

use std::{borrow::Cow, collections::HashMap, fmt};

use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;

use super::{
    grid::{Grid, GridSeed, Growing, Item, Trouble},
    refusal::Refusal,
};

/// What a request gives to the model.
#[derive(Debug, PartialEq)]
pub(super) struct Request<'a> {
    pub(super) input: Input<'a>,
    /// Whether MLflow makes a table of it, whatever the signature.
    pub(super) is_table: bool,
    pub(super) params: Option<Value>,
}

/// The model's input, as it was sent.
#[derive(Debug, PartialEq)]
pub(super) enum Input<'a> {
    /// Rows, and names for their columns.
    Table { names: Option<Vec<Cow<'a, str>>>, grid: Grid<'a> },
    /// Columns or tensors by name.
    Named(Vec<(Cow<'a, str>, Grid<'a>)>),
    /// One tensor without a name.
    Bare(Grid<'a>),
}

/// How a body's input is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Split,
    Records,
    /// `instances` and `inputs`.
    Tensors,
}

const RAGGED: &str = "Invalid input. The data has an inhomogeneous shape: its rows are of different lengths, or hold lists beside values";
const RAGGED_SPLIT: &str = "Invalid input. Provided dataframe_split field is not a valid dataframe representation in 'split' format. Every row \
                            must be a list as long as `columns`";
const BAD_RECORDS: &str = "Invalid input. Provided dataframe_records field is not a valid dataframe representation in 'records' format. Every record must be an object";
const UNEQUAL: &str = "Invalid input. The length of values for each input/column name are not the same";
const ONE_FORM: &str = "The input must be a JSON dictionary with exactly one of the input fields {'dataframe_split', 'dataframe_records', \
                        'instances', 'inputs'}";

/// A key, borrowed where it can be.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Reads a body.
pub(super) fn read<'a>(body: &'a [u8]) -> Result<Request<'a>, Refusal> {
    let trouble = Trouble::default();
    let mut reader = serde_json::Deserializer::from_slice(body);
    let read = Body { trouble: &trouble }.deserialize(&mut reader).and_then(|request| reader.end().map(|()| request));
    read.map_err(|error| trouble.into_first().unwrap_or_else(|| no_json(body, &error)))
}

fn no_json(body: &[u8], error: &serde_json::Error) -> Refusal {
    const START: &str = "Invalid input. Ensure that input is a valid JSON formatted string. Error: '";
    if std::str::from_utf8(body).is_err() {
        return Refusal::bad(format!("{START}UnicodeDecodeError()'"));
    }
    // What serde says of types may repeat the input; of the syntax it does not.
    let what = if error.is_syntax() || error.is_eof() { error.to_string() } else { "it is of another form".to_owned() };
    Refusal::bad(format!("{START}JSONDecodeError('{what}')'"))
}

struct Body<'t> {
    trouble: &'t Trouble,
}

impl<'de> DeserializeSeed<'de> for Body<'_> {
    type Value = Request<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Request<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Body<'_> {
    type Value = Request<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Request<'de>, A::Error> {
        let (mut found, mut params) = (None, None);
        while let Some(Name(key)) = entries.next_key()? {
            let form = match key.as_ref() {
                "dataframe_split" => Form::Split,
                "dataframe_records" => Form::Records,
                "instances" | "inputs" => Form::Tensors,
                "params" => {
                    if params.replace(entries.next_value::<Option<Value>>()?).is_some() {
                        return Err(self.trouble.raise(Refusal::bad("Invalid input. `params` stands there twice")));
                    }
                    continue;
                }
                _ => {
                    entries.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            if found.is_some() {
                return Err(self.trouble.raise(Refusal::bad(format!("{ONE_FORM}. Received dictionary with more than one of them."))));
            }
            let input = entries.next_value_seed(Form::seed(form, self.trouble))?;
            found = Some((input, form));
        }
        match found {
            Some((input, form)) => Ok(Request { input, is_table: form != Form::Tensors, params: params.flatten() }),
            None => Err(self.trouble.raise(Refusal::bad(format!("{ONE_FORM}. Received dictionary with none of them.")))),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Request<'de>, A::Error> {
        // To its end, so that what is no JSON is said to be none.
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Err(self.trouble.raise(Refusal::bad(format!("Invalid input. {ONE_FORM}. Received a list."))))
    }

    fn visit_unit<E: Error>(self) -> Result<Request<'de>, E> {
        Err(self.other())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Request<'de>, E> {
        Err(self.other())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Request<'de>, E> {
        Err(self.other())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Request<'de>, E> {
        Err(self.other())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Request<'de>, E> {
        Err(self.other())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Request<'de>, E> {
        Err(self.other())
    }
}

impl Body<'_> {
    fn other<E: Error>(&self) -> E {
        self.trouble.raise(Refusal::bad(format!("Invalid input. {ONE_FORM}. Received a single value.")))
    }
}

/// Reads the value of a form.
struct FormSeed<'t> {
    form: Form,
    grid: GridSeed<'t>,
}

impl Form {
    fn seed(self, trouble: &Trouble) -> FormSeed<'_> {
        let ragged = if self == Self::Split { RAGGED_SPLIT } else { RAGGED };
        FormSeed { form: self, grid: GridSeed { trouble, ragged } }
    }
}

impl<'de> DeserializeSeed<'de> for FormSeed<'_> {
    type Value = Input<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Input<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for FormSeed<'_> {
    type Value = Input<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the model's input")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Input<'de>, A::Error> {
        match self.form {
            Form::Split => split(&self.grid, entries),
            Form::Records => Err(self.wrong("dictionary")),
            Form::Tensors => {
                let mut named: Vec<(Cow<'de, str>, Grid<'de>)> = Vec::with_capacity(entries.size_hint().unwrap_or(0));
                let mut seen = std::collections::HashSet::new();
                while let Some(Name(name)) = entries.next_key()? {
                    if !seen.insert(name.clone()) {
                        return Err(self.grid.trouble.raise(Refusal::bad("Invalid input. A name of `inputs` stands there twice")));
                    }
                    let grid = GridSeed { ..self.grid };
                    named.push((name, entries.next_value_seed(grid)?));
                }
                Ok(Input::Named(named))
            }
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Input<'de>, A::Error> {
        if self.form == Form::Split {
            return Err(self.wrong("list"));
        }
        let mut list = List { seed: &self.grid, may_hold_values: self.form == Form::Tensors, items: 0, grid: None, rows: None };
        while items.next_element_seed(&mut list)?.is_some() {
            list.items += 1;
        }
        list.close()
    }

    fn visit_unit<E: Error>(self) -> Result<Input<'de>, E> {
        self.scalar(|item| item.visit_unit())
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<Input<'de>, E> {
        self.scalar(|item| item.visit_bool(truth))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Input<'de>, E> {
        self.scalar(|item| item.visit_i64(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Input<'de>, E> {
        self.scalar(|item| item.visit_u64(number))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Input<'de>, E> {
        self.scalar(|item| item.visit_f64(number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Input<'de>, E> {
        self.scalar(|item| item.visit_str(text))
    }
}

impl FormSeed<'_> {
    fn scalar<'de, E: Error>(&self, visit: impl FnOnce(Item<'_, '_, 'de>) -> Result<(), E>) -> Result<Input<'de>, E> {
        if self.form != Form::Tensors {
            return Err(self.wrong("a single value"));
        }
        let mut growing = Growing::default();
        visit(Item { seed: &self.grid, growing: &mut growing, depth: 0 })?;
        growing.finish(&self.grid).map(Input::Bare)
    }

    fn wrong<E: Error>(&self, got: &str) -> E {
        let message = match self.form {
            Form::Split => format!("Invalid input. Dataframe split format must be a dictionary. Got {got}."),
            Form::Records => format!("Invalid input. Dataframe records format must be a list of records. Got {got}."),
            Form::Tensors => RAGGED.to_owned(),
        };
        self.grid.trouble.raise(Refusal::bad(message))
    }
}

/// Headings may be numbers.
#[derive(Deserialize)]
#[serde(untagged)]
enum Heading<'a> {
    #[serde(borrow)]
    Text(Name<'a>),
    Int(i64),
    Real(f64),
}

fn split<'de, A: MapAccess<'de>>(seed: &GridSeed<'_>, mut entries: A) -> Result<Input<'de>, A::Error> {
    const KEYS: &str = "Invalid input. Dataframe split format must have 'data' field and optionally 'columns' and 'index' fields.";
    let (mut names, mut grid) = (None, None);
    while let Some(Name(key)) = entries.next_key()? {
        match key.as_ref() {
            "columns" if names.is_none() => {
                let headings = entries.next_value::<Option<Vec<Heading<'de>>>>();
                names = Some(headings.map_err(|error| malformed(seed, error, "Its `columns` must be a list of names"))?);
            }
            "data" if grid.is_none() => grid = Some(entries.next_value_seed(GridSeed { ..*seed })?),
            // It names rows, which no prediction depends on.
            "index" => drop(entries.next_value::<IgnoredAny>()?),
            _ => return Err(seed.trouble.raise(Refusal::bad(KEYS))),
        }
    }
    let Some(mut grid) = grid else { return Err(seed.trouble.raise(Refusal::bad(KEYS))) };
    let names: Option<Vec<Cow<'de, str>>> = names.flatten().map(|names| names.into_iter().map(Heading::name).collect());
    match (grid.shape.as_slice(), &names) {
        ([], _) => return Err(seed.ragged()),
        ([0], Some(names)) => grid.shape.push(names.len()),
        ([_], _) => grid.shape.push(1),
        _ => {}
    }
    match names {
        Some(names) if grid.shape.get(1) != Some(&names.len()) => Err(seed.ragged()),
        names => Ok(Input::Table { names, grid }),
    }
}

/// What is no JSON at all is told so by serde.
fn malformed<E: Error>(seed: &GridSeed<'_>, error: E, what: &str) -> E {
    let text = error.to_string();
    if text.starts_with("data did not match") || text.starts_with("invalid type") {
        let said = "Invalid input. Provided dataframe_split field is not a valid dataframe representation in 'split' format.";
        return seed.trouble.raise(Refusal::bad(format!("{said} {what}")));
    }
    error
}

impl<'a> Heading<'a> {
    fn name(self) -> Cow<'a, str> {
        match self {
            Self::Text(Name(name)) => name,
            Self::Int(number) => Cow::Owned(number.to_string()),
            Self::Real(number) => Cow::Owned(number.to_string()),
        }
    }
}

/// A list that turns out to be one of values or one of records.
struct List<'t, 'a> {
    seed: &'t GridSeed<'t>,
    may_hold_values: bool,
    items: usize,
    grid: Option<Growing<'a>>,
    rows: Option<Rows<'a>>,
}

/// Records on their way to columns.
#[derive(Default)]
struct Rows<'a> {
    columns: Vec<(Cow<'a, str>, Growing<'a>, usize)>,
    places: HashMap<Cow<'a, str>, usize>,
}

impl<'a> List<'_, 'a> {
    fn close<E: Error>(self) -> Result<Input<'a>, E> {
        let (seed, items) = (self.seed, self.items);
        if let Some(rows) = self.rows {
            let close = |(name, mut column, filled): (Cow<'a, str>, Growing<'a>, usize)| {
                column.pad(seed, items - filled)?;
                column.close(seed, items).map(|grid| (name, grid))
            };
            return rows.columns.into_iter().map(close).collect::<Result<_, E>>().map(Input::Named);
        }
        match self.grid {
            Some(grid) => grid.close(seed, items).map(Input::Bare),
            None => Ok(Input::Bare(Grid { shape: vec![0], ..Grid::default() })),
        }
    }

    fn value<E: Error>(&mut self, visit: impl FnOnce(Item<'_, '_, 'a>) -> Result<(), E>) -> Result<(), E> {
        if !self.may_hold_values {
            return Err(self.seed.trouble.raise(Refusal::bad(BAD_RECORDS)));
        }
        if self.rows.is_some() {
            return Err(self.seed.ragged());
        }
        let growing = self.grid.get_or_insert_with(Growing::list);
        visit(Item { seed: self.seed, growing, depth: 1 })
    }
}

impl<'de> DeserializeSeed<'de> for &mut List<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &mut List<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value or a record")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        if self.grid.is_some() {
            return Err(self.seed.ragged());
        }
        let (seed, row) = (self.seed, self.items);
        let rows = self.rows.get_or_insert_default();
        let mut next = 0;
        while let Some(Name(name)) = entries.next_key()? {
            let place = rows.place(name, next);
            next = place + 1;
            let (_, growing, filled) = &mut rows.columns[place];
            if *filled > row {
                return Err(seed.trouble.raise(Refusal::bad("Invalid input. A name stands twice in one record")));
            }
            growing.pad(seed, row - *filled)?;
            *filled = row + 1;
            entries.next_value_seed(Item { seed, growing, depth: 1 })?;
        }
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.value(|item| item.visit_unit())
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<(), E> {
        self.value(|item| item.visit_bool(truth))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        self.value(|item| item.visit_i64(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.value(|item| item.visit_u64(number))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        self.value(|item| item.visit_f64(number))
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<(), E> {
        self.value(|item| item.visit_borrowed_str(text))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.value(|item| item.visit_str(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<(), A::Error> {
        self.value(|item| item.visit_seq(items))
    }
}

impl<'a> Rows<'a> {
    /// Where a column is; records mostly name them in one order.
    fn place(&mut self, name: Cow<'a, str>, expected: usize) -> usize {
        if self.columns.get(expected).is_some_and(|(known, ..)| *known == name) {
            return expected;
        }
        let columns = &mut self.columns;
        *self.places.entry(name).or_insert_with_key(|name| {
            columns.push((name.clone(), Growing::list(), 0));
            columns.len() - 1
        })
    }
}

impl Input<'_> {
    /// How many rows it has.
    ///
    /// # Errors
    /// When columns are of different lengths.
    pub(super) fn rows(&self) -> Result<usize, Refusal> {
        match self {
            Self::Table { grid, .. } | Self::Bare(grid) => Ok(grid.rows()),
            Self::Named(named) => {
                // A scalar stands for itself in every row.
                let mut lengths = named.iter().filter_map(|(_, grid)| grid.shape.first().copied());
                let first = lengths.next().unwrap_or(1);
                if lengths.all(|length| length == first) { Ok(first) } else { Err(Refusal::bad(UNEQUAL)) }
            }
        }
    }
}
