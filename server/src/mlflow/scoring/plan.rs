//! Which column or tensor of a request goes where in the model: decided once, when the model is loaded.

use std::collections::HashMap;

use super::want::Want;
use crate::mlflow::{
    native::Type,
    signature::{Column, Kind, Schema, Tensor},
};

/// An input of the model.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) name: String,
    pub(super) kind: Type,
    /// The length of each dimension, where the model fixes it.
    pub(super) shape: Option<Vec<Option<usize>>>,
    /// What goes in, when no signature says it.
    pub(super) want: Want,
}

/// The inputs of a model, and the names of the columns of its only one, if they are known and count.
#[derive(Debug)]
pub(super) struct Inputs {
    pub(super) ports: Vec<Port>,
    pub(super) features: Vec<String>,
}

/// A column that a table must have.
#[derive(Debug)]
pub(super) struct Field {
    /// Without a name it is found by its place.
    pub(super) name: Option<String>,
    pub(super) is_required: bool,
    pub(super) want: Want,
    /// The input that takes it, and which of its columns it is there; `None`: no input does.
    pub(super) goes: Option<(usize, usize)>,
}

/// A tensor that a request must have; it goes into the input of its place.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) name: Option<String>,
    pub(super) want: Want,
    pub(super) shape: Option<Vec<Option<usize>>>,
    pub(super) port: usize,
}

/// How requests become inputs.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) ports: Vec<Port>,
    /// How many columns of a table each input takes.
    pub(super) widths: Vec<usize>,
    /// How a table is read; `None`: as the tensors are.
    pub(super) fields: Option<Vec<Field>>,
    /// How tensors are read; `None`: as a table is.
    pub(super) parts: Option<Vec<Part>>,
    /// Whether there is a signature.
    pub(super) is_signed: bool,
}

impl Plan {
    /// The plan for a signature's inputs.
    ///
    /// # Errors
    /// What of them these inputs cannot take.
    pub(super) fn new(inputs: Inputs, schema: Option<&Schema>) -> Result<Self, String> {
        let Inputs { ports, features } = inputs;
        let (fields, parts) = match schema {
            Some(Schema::Columns(columns)) if ports.len() == 1 => (Some(one(columns, &ports[0], &features)?), None),
            Some(Schema::Columns(columns)) => (Some(several(columns, &ports)?), None),
            Some(Schema::Tensors(tensors)) => (None, Some(tensors.iter().map(|tensor| part(tensor, &ports)).collect::<Result<_, _>>()?)),
            None => (unsigned(&ports, &features), Some(ports.iter().enumerate().map(|(at, port)| port.part(at)).collect())),
        };
        let mut widths = vec![0; ports.len()];
        for (port, _) in fields.iter().flatten().filter_map(|field: &Field| field.goes) {
            widths[port] += 1;
        }
        let plan = Self { ports, widths, fields, parts, is_signed: schema.is_some() };
        plan.fits()?;
        Ok(plan)
    }

    /// Whether the model is given a table: as its signature says; without one, as the request does.
    pub(super) fn is_table(&self, asked: bool) -> bool {
        if self.is_signed { self.parts.is_none() } else { asked }
    }

    /// Has the columns of the only input be called as the signature calls them, which may not be what they were called in training:
    /// LightGBM has underscores for spaces.
    pub(super) fn rename(&self, features: &mut [String]) {
        for field in self.fields.iter().flatten() {
            let feature = field.goes.and_then(|(_, at)| features.get_mut(at));
            if let (Some(feature), Some(name)) = (feature, &field.name) {
                feature.clone_from(name);
            }
        }
    }

    /// Whether every input gets what its shape asks for.
    fn fits(&self) -> Result<(), String> {
        let given: Vec<usize> = self.parts.iter().flatten().map(|part| part.port).collect();
        for (at, port) in self.ports.iter().enumerate() {
            let fed = given.iter().filter(|given| **given == at).count();
            if self.parts.is_some() && fed != 1 {
                return Err(format!("the signature names its input `{}` {fed} times", port.name));
            }
            let width = self.widths[at];
            if self.fields.is_some() && width == 0 {
                return Err(format!("the signature has no column for its input `{}`", port.name));
            }
            let Some(shape) = port.shape.as_deref().filter(|_| self.fields.is_some()) else { continue };
            let fits = match shape {
                [_] => width == 1,
                [_, None] => width > 0,
                [_, Some(columns)] => width == *columns,
                _ => false,
            };
            if !fits {
                return Err(format!("the signature has {width} columns for its input `{}`, which takes another number", port.name));
            }
        }
        Ok(())
    }
}

impl Port {
    fn part(&self, at: usize) -> Part {
        Part { name: Some(self.name.clone()), want: self.want, shape: self.shape.clone(), port: at }
    }

    /// Whether a single column of a table fits.
    fn takes_one(&self) -> bool {
        matches!(self.shape.as_deref(), None | Some([_] | [_, None | Some(1)]))
    }

    fn want(&self, want: Option<Want>) -> Result<Want, String> {
        let fits = want.and_then(|want| want.into_port(self.kind));
        fits.ok_or_else(|| format!("the signature's type is none that its input `{}` of {} takes", self.name, self.kind.name()))
    }

    /// What a column asks for, as this input takes it.
    fn column(&self, column: &Column) -> Result<Want, String> {
        match &column.kind {
            Kind::Scalar(scalar) => self.want(Want::column(*scalar)),
            Kind::Array(_) | Kind::Object(_) | Kind::Map(_) | Kind::Any | Kind::Vector => {
                Err(format!("the signature's type is none that its input `{}` takes", self.name))
            }
        }
    }

    fn field(&self, column: &Column, goes: (usize, usize)) -> Result<Field, String> {
        let want = self.column(column)?;
        // What may be missing is NaN, which only floating numbers have.
        let has_nothing = matches!(self.kind, Type::F32 | Type::F64) && !matches!(want, Want::Whole { .. });
        Ok(Field { name: column.name.clone(), is_required: column.required || !has_nothing, want, goes: Some(goes) })
    }
}

/// All columns side by side in the only input; where it has names for them, by those.
fn one(columns: &[Column], port: &Port, features: &[String]) -> Result<Vec<Field>, String> {
    let named = columns.iter().all(|column| column.name.is_some());
    if !named || features.is_empty() {
        return columns.iter().enumerate().map(|(at, column)| port.field(column, (0, at))).collect();
    }
    let known = by_name(features.iter().map(String::as_str));
    let place = |column: &Column| known.get(column.name.as_deref()?).copied();
    if columns.len() != features.len() {
        return Err(format!("the signature has {} columns where it was trained on {}", columns.len(), features.len()));
    }
    let places: Option<Vec<usize>> = columns.iter().map(place).collect();
    let places = places.ok_or("the signature names columns that it was not trained on")?;
    columns.iter().zip(places).map(|(column, at)| port.field(column, (0, at))).collect()
}

/// The place of each name; the first, where one stands twice.
fn by_name<'a>(names: impl DoubleEndedIterator<Item = &'a str> + ExactSizeIterator) -> HashMap<&'a str, usize> {
    names.enumerate().rev().map(|(at, name)| (name, at)).collect()
}

/// A column for every input, by name.
fn several(columns: &[Column], ports: &[Port]) -> Result<Vec<Field>, String> {
    let known = by_name(ports.iter().map(|port| port.name.as_str()));
    let field = |column: &Column| match column.name.as_deref().and_then(|name| known.get(name).copied()) {
        Some(at) => ports[at].field(column, (at, 0)),
        None => Ok(Field { name: column.name.clone(), is_required: column.required, want: Want::Text, goes: None }),
    };
    columns.iter().map(field).collect()
}

fn part(tensor: &Tensor, ports: &[Port]) -> Result<Part, String> {
    let port = match &tensor.name {
        // One input takes one tensor, whatever the two are called.
        _ if ports.len() == 1 => Some(0),
        Some(name) => ports.iter().position(|port| port.name == *name),
        None => None,
    };
    let port = port.ok_or("the signature has a tensor that none of its inputs takes")?;
    let want = ports[port].want(Want::element(tensor.element))?;
    Ok(Part { name: tensor.name.clone(), want, shape: Some(tensor.shape.clone()), port })
}

/// How a table is read without a signature, where names tell which column is which.
fn unsigned(ports: &[Port], features: &[String]) -> Option<Vec<Field>> {
    let field = |name: &String, port: &Port, goes| Field { name: Some(name.clone()), is_required: true, want: port.want, goes: Some(goes) };
    match ports {
        [port] if !features.is_empty() => Some(features.iter().enumerate().map(|(at, name)| field(name, port, (0, at))).collect()),
        // A table has one column a name.
        ports if ports.len() < 2 || !ports.iter().all(Port::takes_one) => None,
        ports => Some(ports.iter().enumerate().map(|(at, port)| field(&port.name, port, (at, 0))).collect()),
    }
}
