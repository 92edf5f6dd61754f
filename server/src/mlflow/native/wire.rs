//! The part of ONNX's protobuf that a model for inference uses. Reads only; the meaning of what is read is decided elsewhere.

use std::collections::{HashMap, HashSet};

use super::{
    fault::Fault,
    tensor::{Tensor, Type, Values, size},
};

/// `ModelProto`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ModelFile {
    #[prost(message, optional, tag = "7")]
    pub(crate) graph: Option<Graph>,
    #[prost(message, repeated, tag = "8")]
    pub(crate) opsets: Vec<Opset>,
    #[prost(message, repeated, tag = "25")]
    pub(crate) functions: Vec<Function>,
}

/// `FunctionProto`: an operator that the model brings along.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Function {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, repeated, tag = "4")]
    pub(crate) inputs: Vec<String>,
    #[prost(string, repeated, tag = "5")]
    pub(crate) outputs: Vec<String>,
    #[prost(string, repeated, tag = "6")]
    pub(crate) attributes: Vec<String>,
    #[prost(message, repeated, tag = "7")]
    pub(crate) nodes: Vec<Node>,
    #[prost(message, repeated, tag = "9")]
    pub(crate) opsets: Vec<Opset>,
    #[prost(string, tag = "10")]
    pub(crate) domain: String,
    #[prost(message, repeated, tag = "11")]
    pub(crate) defaults: Vec<Attribute>,
}

/// `OperatorSetIdProto`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Opset {
    #[prost(string, tag = "1")]
    pub(crate) domain: String,
    #[prost(int64, tag = "2")]
    pub(crate) version: i64,
}

/// `GraphProto`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Graph {
    #[prost(message, repeated, tag = "1")]
    pub(crate) nodes: Vec<Node>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) initializers: Vec<Stored>,
    #[prost(message, repeated, tag = "11")]
    pub(crate) inputs: Vec<Declared>,
    #[prost(message, repeated, tag = "12")]
    pub(crate) outputs: Vec<Declared>,
    #[prost(message, repeated, tag = "15")]
    pub(crate) sparse: Vec<Ignored>,
}

/// A message whose presence alone matters.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Ignored {}

/// `NodeProto`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Node {
    #[prost(string, repeated, tag = "1")]
    pub(crate) inputs: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub(crate) outputs: Vec<String>,
    #[prost(string, tag = "3")]
    pub(crate) name: String,
    #[prost(string, tag = "4")]
    pub(crate) operator: String,
    #[prost(message, repeated, tag = "5")]
    pub(crate) attributes: Vec<Attribute>,
    #[prost(string, tag = "7")]
    pub(crate) domain: String,
}

/// `AttributeProto`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Attribute {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(float, optional, tag = "2")]
    pub(crate) float: Option<f32>,
    #[prost(int64, optional, tag = "3")]
    pub(crate) int: Option<i64>,
    #[prost(bytes = "vec", optional, tag = "4")]
    pub(crate) text: Option<Vec<u8>>,
    #[prost(message, optional, tag = "5")]
    pub(crate) tensor: Option<Stored>,
    #[prost(message, optional, tag = "6")]
    pub(crate) graph: Option<Graph>,
    #[prost(float, repeated, tag = "7")]
    pub(crate) floats: Vec<f32>,
    #[prost(int64, repeated, tag = "8")]
    pub(crate) ints: Vec<i64>,
    #[prost(bytes = "vec", repeated, tag = "9")]
    pub(crate) texts: Vec<Vec<u8>>,
    #[prost(int32, tag = "20")]
    pub(crate) kind: i32,
}

/// `TensorProto`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Stored {
    #[prost(int64, repeated, tag = "1")]
    pub(crate) dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    pub(crate) code: i32,
    #[prost(float, repeated, tag = "4")]
    pub(crate) floats: Vec<f32>,
    #[prost(int32, repeated, tag = "5")]
    pub(crate) smalls: Vec<i32>,
    #[prost(bytes = "vec", repeated, tag = "6")]
    pub(crate) texts: Vec<Vec<u8>>,
    #[prost(int64, repeated, tag = "7")]
    pub(crate) ints: Vec<i64>,
    #[prost(string, tag = "8")]
    pub(crate) name: String,
    #[prost(bytes = "vec", optional, tag = "9")]
    pub(crate) raw: Option<Vec<u8>>,
    #[prost(double, repeated, tag = "10")]
    pub(crate) doubles: Vec<f64>,
    #[prost(message, repeated, tag = "13")]
    pub(crate) beside: Vec<Entry>,
    #[prost(int32, tag = "14")]
    pub(crate) location: i32,
}

/// `StringStringEntryProto`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Entry {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(string, tag = "2")]
    pub(crate) value: String,
}

/// `ValueInfoProto`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Declared {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) form: Option<Form>,
}

/// `TypeProto`, of which only tensors are inputs.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Form {
    #[prost(message, optional, tag = "1")]
    pub(crate) tensor: Option<TensorForm>,
}

/// `TypeProto.Tensor`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct TensorForm {
    #[prost(int32, tag = "1")]
    pub(crate) code: i32,
    #[prost(message, optional, tag = "2")]
    pub(crate) shape: Option<ShapeForm>,
}

/// `TensorShapeProto`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ShapeForm {
    #[prost(message, repeated, tag = "1")]
    pub(crate) dims: Vec<DimForm>,
}

/// `TensorShapeProto.Dimension`: no number means any.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct DimForm {
    #[prost(int64, optional, tag = "1")]
    pub(crate) size: Option<i64>,
}

impl Graph {
    /// The names that it uses and does not define: those of the graph around it.
    pub(crate) fn free<'a>(&'a self, found: &mut Vec<&'a str>) {
        let given = self.inputs.iter().map(|input| &input.name).chain(self.initializers.iter().map(|stored| &stored.name));
        let own: HashSet<&str> = given.chain(self.nodes.iter().flat_map(|node| &node.outputs)).map(String::as_str).collect();
        let mut used: Vec<&str> = self.nodes.iter().flat_map(|node| &node.inputs).map(String::as_str).collect();
        used.extend(self.outputs.iter().map(|output| output.name.as_str()));
        for graph in self.nodes.iter().flat_map(|node| &node.attributes).filter_map(|attribute| attribute.graph.as_ref()) {
            graph.free(&mut used);
        }
        let mut seen: HashSet<&str> = found.iter().copied().collect();
        found.extend(used.into_iter().filter(|name| !name.is_empty() && !own.contains(name) && seen.insert(name)));
    }
}

impl Function {
    /// What it computes, as a graph.
    pub(crate) fn graph(&self) -> Graph {
        let declared = |names: &[String]| names.iter().map(|name| Declared { name: name.clone(), form: None }).collect();
        Graph { nodes: self.nodes.clone(), inputs: declared(&self.inputs), outputs: declared(&self.outputs), ..Graph::default() }
    }
}

/// The versions of the domains that are imported; the default domain has two names.
pub(crate) fn versions(opsets: &[Opset]) -> HashMap<String, i64> {
    let named = |opset: &Opset| (if opset.domain == "ai.onnx" { String::new() } else { opset.domain.clone() }, opset.version);
    opsets.iter().map(named).collect()
}

impl Stored {
    /// The tensor that is stored.
    pub(crate) fn read(&self) -> Result<Tensor, Fault> {
        let fault = |what: &str| self.unfit(what);
        if self.location != 0 {
            return Err(fault("is kept in another file"));
        }
        let (shape, kind) = (self.shape()?, self.kind()?);
        let data = match &self.raw {
            Some(raw) => from_raw(raw, kind),
            None => self.fields(kind),
        };
        let data = data.ok_or_else(|| fault("has values that do not fit its type"))?;
        if data.len() != size(&shape)? {
            return Err(fault("has not as many values as its shape says"));
        }
        Tensor::new(shape, data)
    }

    /// The shape that it says it has.
    pub(crate) fn shape(&self) -> Result<Vec<usize>, Fault> {
        let shape = self.dims.iter().map(|dim| usize::try_from(*dim).ok()).collect::<Option<_>>();
        shape.ok_or_else(|| self.unfit("has a negative dimension"))
    }

    /// The type of its values.
    pub(crate) fn kind(&self) -> Result<Type, Fault> {
        Type::from_code(self.code).ok_or_else(|| self.unfit(&format!("has element type {}, which is not supported", self.code)))
    }

    fn unfit(&self, what: &str) -> Fault {
        Fault::new(format!("the constant `{}` {what}", self.name))
    }

    fn fields(&self, kind: Type) -> Option<Values> {
        Some(match kind {
            Type::F32 => Values::F32(self.floats.clone()),
            Type::F64 => Values::F64(self.doubles.clone()),
            Type::I64 => Values::I64(self.ints.clone()),
            Type::I32 => Values::I32(self.smalls.clone()),
            Type::I8 => Values::I8(self.smalls.iter().map(|small| i8::try_from(*small).ok()).collect::<Option<_>>()?),
            Type::U8 => Values::U8(self.smalls.iter().map(|small| u8::try_from(*small).ok()).collect::<Option<_>>()?),
            Type::Bool => Values::Bool(self.smalls.iter().map(|small| *small != 0).collect()),
            Type::Text => {
                Values::Text(self.texts.iter().map(|text| std::str::from_utf8(text).ok().map(Into::into)).collect::<Option<_>>()?)
            }
        })
    }
}

/// Little-endian values, as `raw_data` holds them; `None` when they are no whole number of the type's.
fn from_raw(raw: &[u8], kind: Type) -> Option<Values> {
    Some(match kind {
        Type::F32 => Values::F32(whole(raw)?.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()),
        Type::F64 => Values::F64(whole(raw)?.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect()),
        Type::I64 => Values::I64(whole(raw)?.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect()),
        Type::I32 => Values::I32(whole(raw)?.iter().map(|bytes| i32::from_le_bytes(*bytes)).collect()),
        Type::I8 => Values::I8(raw.iter().map(|byte| byte.cast_signed()).collect()),
        Type::U8 => Values::U8(raw.to_vec()),
        Type::Bool => Values::Bool(raw.iter().map(|byte| *byte != 0).collect()),
        Type::Text => return None,
    })
}

fn whole<const N: usize>(raw: &[u8]) -> Option<&[[u8; N]]> {
    let (values, rest) = raw.as_chunks();
    rest.is_empty().then_some(values)
}
