//! A request's values, laid out as the model's inputs and checked on the way.

use std::collections::HashMap;

use super::{
    grid::{Cell, Cells, Grid},
    plan::{Field, Part, Plan},
    refusal::{Refusal, Unlaid},
    request::{Input, Request},
    want::{Places, Want, Why, put, repeat, zeros},
};
use crate::mlflow::native::{Tensor, Values};

const UNNAMED: &str = "Invalid input. Failed to parse input data. This model contains an un-named model signature which expects a single \
                       n-dimensional array or a single value as input, and not an object of them";

/// What the model is given: a tensor per input, in the order of the plan's.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) tensors: Vec<Tensor>,
    pub(super) rows: usize,
    /// Whether MLflow gives the model a table, which shapes the answer.
    pub(super) is_table: bool,
}

/// A tensor out of a request: its shape, and where its values are.
struct Source<'r, 'a> {
    shape: Vec<usize>,
    cells: Vec<&'r Cells<'a>>,
    places: Places,
}

impl Plan {
    /// Lays a request out, in no more than so many bytes.
    ///
    /// # Errors
    /// What in it is missing, or not what it must be; or that it takes more.
    pub(super) fn feed(&self, request: &Request<'_>, room: usize) -> Result<Feed, Unlaid> {
        let input = &request.input;
        let is_table = self.is_table(request.is_table);
        let has_names = matches!(input, Input::Named(_) | Input::Table { names: Some(_), .. });
        let fields = match (&self.fields, &self.parts) {
            (Some(fields), None) => Some(fields),
            // Without a signature the request says which it is; the columns of an only input have their names in either case.
            (Some(fields), Some(_)) if has_names && (request.is_table || self.ports.len() == 1) => Some(fields),
            _ => None,
        };
        if let Some(fields) = fields {
            let rows = input.rows()?;
            return Ok(Feed { tensors: self.table(fields, (input, rows), room)?, rows, is_table });
        }
        let tensors = self.tensors(self.parts.as_deref().unwrap_or_default(), request, room)?;
        let rows = tensors.first().and_then(|tensor| tensor.shape().first().copied()).unwrap_or(1);
        Ok(Feed { tensors, rows, is_table })
    }

    fn table(&self, fields: &[Field], (input, rows): (&Input<'_>, usize), room: usize) -> Result<Vec<Tensor>, Unlaid> {
        let places = places(fields, input)?;
        // A value that is sent once may stand in every row.
        let bytes = self.ports.iter().zip(&self.widths).map(|(port, width)| rows.saturating_mul(width * port.kind.width()));
        if bytes.fold(0, usize::saturating_add) > room {
            return Err(Unlaid::Large);
        }
        let mut values: Vec<Values> = self.ports.iter().zip(&self.widths).map(|(port, width)| zeros(port.kind, rows * width)).collect();
        for (at, (field, place)) in fields.iter().zip(places).enumerate() {
            let Some((port, start)) = field.goes else { continue };
            let step = self.widths[port];
            let put = match place {
                Some(place) => column(&mut values[port], (start, step), (input, place, rows), field.want),
                None => repeat(&mut values[port], (start, step), &Cell::Null, field.want),
            };
            put.map_err(|why| refuse(why, Some(&field.name.clone().unwrap_or_else(|| at.to_string())), field.want))?;
        }
        let tensor = |(at, values): (usize, Values)| {
            let is_flat = self.ports[at].shape.as_ref().is_some_and(|shape| shape.len() == 1);
            let shape = if is_flat { vec![rows] } else { vec![rows, self.widths[at]] };
            Tensor::new(shape, values).map_err(|fault| Refusal::bad(fault.to_string()).into())
        };
        values.into_iter().enumerate().map(tensor).collect()
    }

    fn tensors(&self, parts: &[Part], request: &Request<'_>, room: usize) -> Result<Vec<Tensor>, Unlaid> {
        if let ([Part { name: None, .. }], Input::Named(_), false) = (parts, &request.input, request.is_table) {
            return Err(Refusal::bad(UNNAMED).into());
        }
        let missing: Vec<&str> = parts.iter().filter(|part| source(part, parts.len(), request).is_none()).map(Part::shown).collect();
        if !missing.is_empty() {
            return Err(missing_inputs(&missing).into());
        }
        let mut tensors: Vec<Option<Tensor>> = self.ports.iter().map(|_| None).collect();
        for part in parts {
            let source = source(part, parts.len(), request).ok_or_else(|| missing_inputs(&[part.shown()]))??;
            let port = &self.ports[part.port];
            let mut shape = source.shape.clone();
            if request.is_table {
                adapt(&mut shape, part.shape.as_deref());
            }
            check(&shape, part.shape.as_deref())?;
            adapt(&mut shape, port.shape.as_deref());
            check(&shape, port.shape.as_deref())?;
            let count: usize = shape.iter().product();
            if count.saturating_mul(port.kind.width()) > room {
                return Err(Unlaid::Large);
            }
            let mut values = zeros(port.kind, count);
            source.fill(&mut values, part.want).map_err(|why| refuse(why, None, part.want))?;
            tensors[part.port] = Some(Tensor::new(shape, values).map_err(|fault| Refusal::bad(fault.to_string()))?);
        }
        Ok(tensors.into_iter().flatten().collect())
    }
}

impl Part {
    fn shown(&self) -> &str {
        self.name.as_deref().unwrap_or("0")
    }
}

/// Where a request has each field; `None` for what may be missing and is.
fn places(fields: &[Field], input: &Input<'_>) -> Result<Vec<Option<usize>>, Refusal> {
    let count = match input {
        Input::Named(named) => named.len(),
        Input::Table { grid, .. } => grid.shape.get(1).copied().unwrap_or(1),
        Input::Bare(grid) if grid.shape.len() > 1 => grid.shape[1],
        Input::Bare(_) => 1,
    };
    let is_named = fields.iter().all(|field| field.name.is_some());
    let name = |at: usize| match input {
        Input::Named(named) => named.get(at).map(|(name, _)| name.as_ref()),
        Input::Table { names: Some(names), .. } => names.get(at).map(AsRef::as_ref),
        // A list is the column of a signature that has only one.
        Input::Bare(_) => fields[0].name.as_deref().filter(|_| fields.len() == 1),
        Input::Table { names: None, .. } => None,
    };
    if !is_named {
        return if count < fields.len() {
            let wants = fields.len();
            Err(Refusal::unfit(format!(
                "Model inference is missing inputs. The model signature declares {wants} inputs  but the provided value only has {count} \
                 inputs. Note: the inputs were not named in the signature so we can only verify their count."
            )))
        } else {
            Ok((0..fields.len()).map(Some).collect())
        };
    }
    // Mostly they are all there, in order.
    if count == fields.len() && fields.iter().enumerate().all(|(at, field)| field.name.as_deref() == name(at)) {
        return Ok((0..count).map(Some).collect());
    }
    let mut known: HashMap<&str, (usize, bool)> = HashMap::with_capacity(count);
    for (at, name) in (0..count).filter_map(|at| Some((at, name(at)?))) {
        known.entry(name).and_modify(|(_, is_double)| *is_double = true).or_insert((at, false));
    }
    let found = fields.iter().map(|field| match field.name.as_deref().and_then(|name| known.get(name)) {
        Some((_, true)) => Err(Refusal::bad("Invalid input. Two columns have the same name")),
        place => Ok(place.map(|(at, _)| *at)),
    });
    let found = found.collect::<Result<Vec<_>, _>>()?;
    let missing = fields.iter().zip(&found).filter(|(field, found)| field.is_required && found.is_none());
    let missing: Vec<&str> = missing.filter_map(|(field, _)| field.name.as_deref()).collect();
    if missing.is_empty() { Ok(found) } else { Err(missing_inputs(&missing)) }
}

fn missing_inputs(names: &[&str]) -> Refusal {
    let names: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
    Refusal::unfit(format!("Model is missing inputs [{}].", names.join(", ")))
}

/// Puts a column of a request where it goes.
fn column(into: &mut Values, goes: (usize, usize), from: (&Input<'_>, usize, usize), want: Want) -> Result<(), Why> {
    let (input, place, rows) = from;
    match input {
        Input::Named(named) => {
            let grid = &named[place].1;
            match grid.shape.as_slice() {
                [] => repeat(into, goes, &grid.cells.first(), want),
                [_] | [_, 1] => put(into, goes, (&grid.cells, Places::first(rows)), want),
                _ => Err(Why::List),
            }
        }
        Input::Table { grid, .. } | Input::Bare(grid) => match grid.shape.as_slice() {
            [] | [_] => put(into, goes, (&grid.cells, Places::first(rows)), want),
            [_, width] => put(into, goes, (&grid.cells, Places { start: place, step: *width, ..Places::first(rows) }), want),
            _ => Err(Why::List),
        },
    }
}

/// What a request has for a tensor; `None`: nothing.
fn source<'r, 'a>(part: &Part, parts: usize, request: &'r Request<'a>) -> Option<Result<Source<'r, 'a>, Refusal>> {
    let named = |wanted: &str| match &request.input {
        Input::Named(named) => named.iter().find(|(name, _)| name == wanted).map(|(_, grid)| Source::whole(grid)),
        Input::Table { names: Some(names), grid } => names.iter().position(|name| name == wanted).map(|place| Source::column(grid, place)),
        Input::Table { names: None, .. } | Input::Bare(_) => None,
    };
    let by_name = part.name.as_deref().and_then(named);
    if parts > 1 || by_name.is_some() {
        return by_name.map(Ok);
    }
    match &request.input {
        Input::Bare(grid) => Some(Ok(Source::whole(grid))),
        Input::Table { grid, .. } => Some(Ok(Source::squeezed(grid))),
        Input::Named(named) if request.is_table => Some(Source::beside(named)),
        Input::Named(_) => None,
    }
}

impl<'r, 'a> Source<'r, 'a> {
    fn whole(grid: &'r Grid<'a>) -> Self {
        let count = grid.shape.iter().product();
        Self { shape: grid.shape.clone(), cells: vec![&grid.cells], places: Places::first(count) }
    }

    /// A table whose only column holds lists is a tensor of those.
    fn squeezed(grid: &'r Grid<'a>) -> Self {
        let mut whole = Self::whole(grid);
        if whole.shape.len() > 2 && whole.shape[1] == 1 {
            whole.shape.remove(1);
        }
        whole
    }

    fn column(grid: &'r Grid<'a>, place: usize) -> Self {
        let width = grid.shape.get(1).copied().unwrap_or(1);
        let run: usize = grid.shape.iter().skip(2).product();
        let shape: Vec<usize> = grid.shape.iter().take(1).chain(grid.shape.iter().skip(2)).copied().collect();
        let places = Places { start: place * run, step: width * run, run, count: shape.iter().product() };
        Self { shape, cells: vec![&grid.cells], places }
    }

    /// Columns side by side.
    fn beside(named: &'r [(std::borrow::Cow<'a, str>, Grid<'a>)]) -> Result<Self, Refusal> {
        if let [(_, grid)] = named {
            return Ok(Self::whole(grid));
        }
        let rows = named.first().map_or(0, |(_, grid)| grid.rows());
        if named.iter().any(|(_, grid)| grid.shape.len() != 1) {
            return Err(refuse(Why::List, None, Want::Double));
        }
        let cells = named.iter().map(|(_, grid)| &grid.cells).collect();
        Ok(Self { shape: vec![rows, named.len()], cells, places: Places::first(rows) })
    }

    fn fill(&self, values: &mut Values, want: Want) -> Result<(), Why> {
        let width = self.cells.len();
        self.cells.iter().enumerate().try_for_each(|(at, cells)| put(values, (at, width), (cells, self.places), want))
    }
}

/// A table has a column where a tensor may have numbers alone, and the other way round.
fn adapt(shape: &mut Vec<usize>, expected: Option<&[Option<usize>]>) {
    match (shape.as_slice(), expected) {
        ([_], Some([_, None | Some(1)])) => shape.push(1),
        ([_, 1], Some([_])) => drop(shape.pop()),
        _ => {}
    }
}

fn check(shape: &[usize], expected: Option<&[Option<usize>]>) -> Result<(), Refusal> {
    let Some(expected) = expected else { return Ok(()) };
    let fits =
        shape.len() == expected.len() && shape.iter().zip(expected).all(|(given, wanted)| wanted.is_none_or(|wanted| wanted == *given));
    if fits {
        return Ok(());
    }
    let tuple = |sizes: Vec<String>| if let [one] = sizes.as_slice() { format!("({one},)") } else { format!("({})", sizes.join(", ")) };
    let given = tuple(shape.iter().map(ToString::to_string).collect());
    let wanted = tuple(expected.iter().map(|size| size.map_or_else(|| "-1".to_owned(), |size| size.to_string())).collect());
    Err(Refusal::unfit(format!("Shape of input {given} does not match expected shape {wanted}.")))
}

/// Says why a value does not fit.
fn refuse(why: Why, column: Option<&str>, want: Want) -> Refusal {
    let name = want.name();
    let cause = match why {
        Why::Lossy => {
            return Refusal::unfit(match column {
                Some(column) => format!("Incompatible input types for column {column}. Can not safely convert float64 to {name}."),
                None => format!("dtype of input float64 does not match expected dtype {name}"),
            });
        }
        Why::Null if matches!(want, Want::Text | Want::Binary) => "a text is wanted, not null".to_owned(),
        Why::Null if matches!(want, Want::Whole { .. }) => "Cannot convert non-finite values (NA or inf) to integer".to_owned(),
        Why::Null => "a value is wanted, not 'NoneType'".to_owned(),
        Why::NotNumber => "could not convert string to float".to_owned(),
        Why::NotWhole => "invalid literal for int()".to_owned(),
        Why::NotText => "a text is wanted, not a value of another type".to_owned(),
        Why::NotBase64 => "Invalid base64".to_owned(),
        Why::Range => format!("a number is out of bounds for {name}"),
        Why::List => "a single value is wanted, not a list".to_owned(),
    };
    Refusal::bad(match column {
        Some(column) => {
            format!(
                "Invalid input. Data is not compatible with model signature. Failed to convert column {column} to type '{name}'. Error: '{cause}'"
            )
        }
        None => format!("Invalid input. {cause}"),
    })
}
