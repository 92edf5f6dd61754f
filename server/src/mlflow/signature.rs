//! What a model says it takes and gives: MLflow's signatures, read from their JSON into total types.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

mod contract;
mod entries;

/// How deep types may nest.
const DEEPEST: usize = 16;
/// How many columns, tensors, parameters or properties there may be in one place.
const WIDEST: usize = 100_000;

/// What a model takes and gives.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Signature {
    /// What it takes. `None`: it does not say.
    pub inputs: Option<Schema>,
    /// What it gives.
    pub outputs: Option<Schema>,
    /// Its parameters. `None`: it takes none; empty as well.
    pub params: Option<Vec<Param>>,
}

/// One side of a signature.
#[derive(Clone, Debug, PartialEq)]
pub enum Schema {
    /// A table.
    Columns(Vec<Column>),
    /// Tensors: one without a name, or several with names.
    Tensors(Vec<Tensor>),
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Its name; columns without names are told apart by their place.
    pub name: Option<String>,
    /// What its cells hold.
    pub kind: Kind,
    /// Whether it must be there. Default yes.
    pub required: bool,
}

/// A tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Its name.
    pub name: Option<String>,
    /// What its elements are.
    pub element: Element,
    /// Its shape; `None` in a place where any size is taken.
    pub shape: Vec<Option<usize>>,
}

/// A parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    /// Its name.
    pub name: String,
    /// What it holds: a scalar, or an object.
    pub kind: Kind,
    /// What it is when nobody says; `Null` for nothing.
    pub default: Value,
    /// Whether it is a list of them.
    pub is_list: bool,
}

/// What a cell holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// One value.
    Scalar(Scalar),
    /// `array`.
    Array(Box<Self>),
    /// `object`, by its properties.
    Object(BTreeMap<String, Property>),
    /// `map` from text.
    Map(Box<Self>),
    /// `any`.
    Any,
    /// `sparkml_vector`.
    Vector,
}

/// A property of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Property {
    /// What it holds.
    pub kind: Kind,
    /// Whether it must be there. Default yes.
    pub required: bool,
}

/// One value of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scalar {
    /// `boolean`.
    Boolean,
    /// `integer`: 32 bits.
    Integer,
    /// `long`: 64 bits.
    Long,
    /// `float`: 32 bits.
    Float,
    /// `double`: 64 bits.
    Double,
    /// `string`.
    String,
    /// `binary`.
    Binary,
    /// `datetime`: nanoseconds.
    Datetime,
}

/// What a tensor is made of, in numpy's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    /// `bool`.
    Bool,
    /// `int8`.
    Int8,
    /// `int16`.
    Int16,
    /// `int32`.
    Int32,
    /// `int64`.
    Int64,
    /// `uint8`.
    Uint8,
    /// `uint16`.
    Uint16,
    /// `uint32`.
    Uint32,
    /// `uint64`.
    Uint64,
    /// `float16`.
    Float16,
    /// `float32`.
    Float32,
    /// `float64`.
    Float64,
    /// `str`, `object`: text, or anything Python has.
    Object,
    /// `bytes`.
    Bytes,
    /// `datetime64`.
    Datetime,
}

/// Why a signature cannot be read; it holds no text of the model's but names of types.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature's {side} cannot be read: {why}")]
pub struct BadSignature {
    side: &'static str,
    why: String,
}

impl Signature {
    /// From its three texts of JSON, as `MLmodel` holds them.
    ///
    /// # Errors
    /// When one of them is no JSON, or no schema.
    pub fn read(inputs: Option<&str>, outputs: Option<&str>, params: Option<&str>) -> Result<Self, BadSignature> {
        let side = |side, text: Option<&str>| text.map(|text| schema(text).map_err(|why| BadSignature { side, why })).transpose();
        let params = params.map(|text| list(text).and_then(|list| list.iter().map(param).collect()));
        Ok(Self {
            inputs: side("inputs", inputs)?.flatten(),
            outputs: side("outputs", outputs)?.flatten(),
            params: params.transpose().map_err(|why| BadSignature { side: "params", why })?,
        })
    }
}

impl Scalar {
    const NAMES: [(&str, Self); 8] = [
        ("boolean", Self::Boolean),
        ("integer", Self::Integer),
        ("long", Self::Long),
        ("float", Self::Float),
        ("double", Self::Double),
        ("string", Self::String),
        ("binary", Self::Binary),
        ("datetime", Self::Datetime),
    ];

    /// Its name in signatures.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, scalar)| *scalar == self).map_or("", |(name, _)| name)
    }
}

impl Element {
    const NAMES: [(&str, Self); 15] = [
        ("bool", Self::Bool),
        ("int8", Self::Int8),
        ("int16", Self::Int16),
        ("int32", Self::Int32),
        ("int64", Self::Int64),
        ("uint8", Self::Uint8),
        ("uint16", Self::Uint16),
        ("uint32", Self::Uint32),
        ("uint64", Self::Uint64),
        ("float16", Self::Float16),
        ("float32", Self::Float32),
        ("float64", Self::Float64),
        ("object", Self::Object),
        ("bytes", Self::Bytes),
        ("datetime64", Self::Datetime),
    ];

    /// Its name in numpy, without lengths and units.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, element)| *element == self).map_or("", |(name, _)| name)
    }

    /// numpy adds lengths in bits and units: `str32`, `datetime64[ns]`.
    fn named(name: &str) -> Option<Self> {
        let exact = Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, element)| *element);
        let has = |start: &str| name.strip_prefix(start).is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()));
        exact.or(match name {
            _ if has("str") || has("<U") => Some(Self::Object),
            _ if has("bytes") => Some(Self::Bytes),
            _ if name.starts_with("datetime64[") => Some(Self::Datetime),
            _ => None,
        })
    }
}

fn list(text: &str) -> Result<Vec<Value>, String> {
    let list: Vec<Value> = serde_json::from_str(text).map_err(|_| "it is no list in JSON".to_owned())?;
    if list.len() > WIDEST { Err(format!("it has more than {WIDEST} entries")) } else { Ok(list) }
}

/// `None` for an empty list, which says nothing.
fn schema(text: &str) -> Result<Option<Schema>, String> {
    let list = list(text)?;
    let tensors = list.iter().filter(|entry| entry["type"] == "tensor").count();
    if list.is_empty() {
        return Ok(None);
    }
    if tensors == 0 {
        let columns: Vec<Column> = list.iter().map(column).collect::<Result<_, _>>()?;
        named(
            columns.iter().map(|column| column.name.as_deref()),
            columns.len() > 1 && columns.iter().any(|column| column.name.is_some()),
        )?;
        return Ok(Some(Schema::Columns(columns)));
    }
    if tensors < list.len() {
        return Err("it has both columns and tensors".to_owned());
    }
    let tensors: Vec<Tensor> = list.iter().map(tensor).collect::<Result<_, _>>()?;
    named(tensors.iter().map(|tensor| tensor.name.as_deref()), tensors.len() > 1)?;
    Ok(Some(Schema::Tensors(tensors)))
}

/// All have names or none, and no two the same.
fn named<'a>(names: impl Iterator<Item = Option<&'a str>>, must: bool) -> Result<(), String> {
    let mut seen = std::collections::HashSet::new();
    for name in names {
        match name {
            None if must => return Err("some entries have names and others none".to_owned()),
            Some(name) if !seen.insert(name) => return Err("two entries have the same name".to_owned()),
            None | Some(_) => {}
        }
    }
    Ok(())
}

fn column(value: &Value) -> Result<Column, String> {
    let entry = object(value, "a column")?;
    Ok(Column { name: name(entry)?, kind: kind(entry, 0)?, required: required(entry)? })
}

fn tensor(value: &Value) -> Result<Tensor, String> {
    let entry = object(value, "a tensor")?;
    let spec = object(entry.get("tensor-spec").unwrap_or(&Value::Null), "`tensor-spec`")?;
    let element = spec.get("dtype").and_then(Value::as_str).ok_or("a tensor has no `dtype`")?;
    let element = Element::named(element).ok_or_else(|| format!("there is no element type `{}`", short(element)))?;
    let shape = spec.get("shape").and_then(Value::as_array).ok_or("a tensor has no `shape`")?;
    let size = |value: &Value| match value.as_i64() {
        Some(-1) => Ok(None),
        Some(size) => usize::try_from(size).map(Some).map_err(|_| "a size in a shape is negative"),
        None => Err("a size in a shape is no whole number"),
    };
    if shape.len() > 32 {
        return Err("a tensor has more than 32 dimensions".to_owned());
    }
    Ok(Tensor { name: name(entry)?, element, shape: shape.iter().map(size).collect::<Result<_, _>>()? })
}

fn param(value: &Value) -> Result<Param, String> {
    let entry = object(value, "a parameter")?;
    let name = name(entry)?.ok_or("a parameter has no name")?;
    let is_list = match entry.get("shape") {
        None | Some(Value::Null) => false,
        Some(Value::Array(shape)) if matches!(shape.as_slice(), [size] if size.as_i64() == Some(-1)) => true,
        Some(_) => return Err("a parameter's `shape` is neither null nor [-1]".to_owned()),
    };
    let default = entry.get("default").cloned().unwrap_or(Value::Null);
    Ok(Param { name, kind: kind(entry, 0)?, default, is_list })
}

fn kind(entry: &Map<String, Value>, depth: usize) -> Result<Kind, String> {
    if depth > DEEPEST {
        return Err(format!("its types nest deeper than {DEEPEST}"));
    }
    let below = |key: &str| {
        let inner = entry.get(key).ok_or_else(|| format!("a type has no `{key}`"))?;
        kind(object(inner, &format!("`{key}`"))?, depth + 1).map(Box::new)
    };
    match entry.get("type").and_then(Value::as_str).ok_or("an entry has no `type`")? {
        "array" => Ok(Kind::Array(below("items")?)),
        "map" => Ok(Kind::Map(below("values")?)),
        "any" => Ok(Kind::Any),
        "sparkml_vector" => Ok(Kind::Vector),
        "object" => {
            let properties = object(entry.get("properties").unwrap_or(&Value::Null), "`properties`")?;
            let property = |(name, value): (&String, &Value)| {
                let inner = object(value, "a property")?;
                Ok((name.clone(), Property { kind: kind(inner, depth + 1)?, required: required(inner)? }))
            };
            properties.iter().map(property).collect::<Result<_, String>>().map(Kind::Object)
        }
        other => {
            let scalar = Scalar::NAMES.iter().find(|(name, _)| *name == other);
            scalar.map(|(_, scalar)| Kind::Scalar(*scalar)).ok_or_else(|| format!("there is no type `{}`", short(other)))
        }
    }
}

fn object<'a>(value: &'a Value, what: &str) -> Result<&'a Map<String, Value>, String> {
    value.as_object().ok_or_else(|| format!("{what} is no object"))
}

/// numpy's and pandas' names of columns may be numbers.
fn name(entry: &Map<String, Value>) -> Result<Option<String>, String> {
    match entry.get("name") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(name)) => Ok(Some(name.clone())),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(_) => Err("a name is no text".to_owned()),
    }
}

fn required(entry: &Map<String, Value>) -> Result<bool, String> {
    match (entry.get("required"), entry.get("optional")) {
        (Some(Value::Bool(required)), _) => Ok(*required),
        // As MLflow wrote it before 2.6.
        (None, Some(Value::Bool(optional))) => Ok(!optional),
        (None | Some(Value::Null), None | Some(Value::Null)) => Ok(true),
        _ => Err("`required` is neither true nor false".to_owned()),
    }
}

fn short(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(40).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn inputs(json: &Value) -> Result<Option<Schema>, String> {
        Signature::read(Some(&json.to_string()), None, None).map(|signature| signature.inputs).map_err(|error| error.to_string())
    }

    #[test]
    fn columns_of_every_type() {
        let scalars = Scalar::NAMES.map(|(name, _)| json!({"type": name, "name": name, "required": false}));
        let Some(Schema::Columns(columns)) = inputs(&json!(scalars)).unwrap() else { panic!() };
        for (column, (name, scalar)) in columns.iter().zip(Scalar::NAMES) {
            let expected = Column { name: Some(name.to_owned()), kind: Kind::Scalar(scalar), required: false };
            assert_eq!((column, scalar.name()), (&expected, name));
        }
        let nested = json!([{"type": "array", "items": {"type": "object", "properties": {
            "a": {"type": "long"}, "b": {"type": "map", "values": {"type": "any"}, "required": false}}}}]);
        let property = |kind, required| Property { kind, required };
        let kind = Kind::Array(Box::new(Kind::Object(BTreeMap::from([
            ("a".to_owned(), property(Kind::Scalar(Scalar::Long), true)),
            ("b".to_owned(), property(Kind::Map(Box::new(Kind::Any)), false)),
        ]))));
        assert_eq!(inputs(&nested).unwrap(), Some(Schema::Columns(vec![Column { name: None, kind, required: true }])));
        assert_eq!(inputs(&json!([])).unwrap(), None);
        let old = inputs(&json!([{"type": "double", "name": "a", "optional": true}])).unwrap().unwrap();
        assert!(matches!(&old, Schema::Columns(columns) if !columns[0].required), "{old:?}");
    }

    #[test]
    fn tensors() {
        let tensor = |dtype: &str| json!([{"type": "tensor", "tensor-spec": {"dtype": dtype, "shape": [-1, 3]}}]);
        for (dtype, element) in Element::NAMES.into_iter().chain([
            ("str32", Element::Object),
            ("datetime64[ns]", Element::Datetime),
            ("bytes8", Element::Bytes),
        ]) {
            let expected = Tensor { name: None, element, shape: vec![None, Some(3)] };
            assert_eq!(inputs(&tensor(dtype)).unwrap(), Some(Schema::Tensors(vec![expected])), "{dtype}");
        }
    }

    #[test]
    fn params_and_their_defaults() {
        let text =
            r#"[{"name":"t","default":0.5,"shape":null,"type":"double"},{"name":"stop","default":["a"],"shape":[-1],"type":"string"}]"#;
        let params = Signature::read(None, None, Some(text)).unwrap().params.unwrap();
        assert_eq!(params[0], Param { name: "t".to_owned(), kind: Kind::Scalar(Scalar::Double), default: json!(0.5), is_list: false });
        assert!(params[1].is_list && params[1].default == json!(["a"]));
    }

    #[test]
    fn what_is_no_schema_is_refused() {
        let mut deep = json!({"type": "long"});
        for _ in 0..20 {
            deep = json!({"type": "array", "items": deep});
        }
        let mixed = json!([{"type": "long"}, {"type": "tensor", "tensor-spec": {"dtype": "int8", "shape": []}}]);
        for (json, told) in [
            (json!({}), "no list"),
            (json!([1]), "no object"),
            (json!([{}]), "no `type`"),
            (json!([{"type": "decimal"}]), "no type `decimal`"),
            (json!([{"type": "array"}]), "no `items`"),
            (json!([{"type": "object", "properties": []}]), "no object"),
            (json!([deep]), "nest deeper"),
            (mixed, "both columns and tensors"),
            (json!([{"type": "long", "name": "a"}, {"type": "long"}]), "others none"),
            (json!([{"type": "long", "name": "a"}, {"type": "long", "name": "a"}]), "the same name"),
            (json!([{"type": "long", "name": []}]), "no text"),
            (json!([{"type": "long", "required": "yes"}]), "neither true nor false"),
            (json!([{"type": "tensor"}]), "no object"),
            (json!([{"type": "tensor", "tensor-spec": {"dtype": "complex64", "shape": []}}]), "complex64"),
            (json!([{"type": "tensor", "tensor-spec": {"dtype": "int8", "shape": [-2]}}]), "negative"),
            (json!([{"type": "tensor", "tensor-spec": {"dtype": "int8", "shape": [1.5]}}]), "no whole number"),
        ] {
            let error = inputs(&json).unwrap_err();
            assert!(error.contains(told) && error.contains("inputs"), "{json}: {error}");
        }
        let bad = Signature::read(None, None, Some(r#"[{"name":"t","type":"double","shape":[3]}]"#)).unwrap_err();
        assert!(bad.to_string().contains("params") && bad.to_string().contains("[-1]"), "{bad}");
        assert!(Signature::read(Some(&"[".repeat(10_000)), None, None).is_err());
    }
}
