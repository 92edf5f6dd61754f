//! Signatures as clients see them.

use flowgate_proto::v1;

use super::{Kind, Param, Schema, Signature};

impl Signature {
    /// As clients see it.
    pub fn to_proto(&self) -> v1::ModelSignature {
        let side = |schema: &Option<Schema>| schema.as_ref().map(Schema::fields).unwrap_or_default();
        let param = |param: &Param| v1::ModelField {
            name: param.name.clone(),
            r#type: if param.is_list { format!("array({})", param.kind.name()) } else { param.kind.name() },
            shape: Vec::new(),
            required: param.default.is_null(),
        };
        v1::ModelSignature {
            inputs: side(&self.inputs),
            outputs: self.outputs_to_proto(),
            params: self.params.iter().flatten().map(param).collect(),
        }
    }

    /// What it gives, as clients see it.
    pub fn outputs_to_proto(&self) -> Vec<v1::ModelField> {
        self.outputs.as_ref().map(Schema::fields).unwrap_or_default()
    }
}

impl Schema {
    fn fields(&self) -> Vec<v1::ModelField> {
        let size = |size: &Option<usize>| size.and_then(|size| i64::try_from(size).ok()).unwrap_or(-1);
        match self {
            Self::Columns(columns) => columns
                .iter()
                .map(|column| v1::ModelField {
                    name: column.name.clone().unwrap_or_default(),
                    r#type: column.kind.name(),
                    shape: Vec::new(),
                    required: column.required,
                })
                .collect(),
            Self::Tensors(tensors) => tensors
                .iter()
                .map(|tensor| v1::ModelField {
                    name: tensor.name.clone().unwrap_or_default(),
                    r#type: format!("tensor({})", tensor.element.name()),
                    shape: tensor.shape.iter().map(size).collect(),
                    required: true,
                })
                .collect(),
        }
    }
}

impl Kind {
    /// Its name in signatures, that of what it holds included.
    fn name(&self) -> String {
        match self {
            Self::Scalar(scalar) => scalar.name().to_owned(),
            Self::Array(items) => format!("array({})", items.name()),
            Self::Map(values) => format!("map({})", values.name()),
            Self::Object(_) => "object".to_owned(),
            Self::Any => "any".to_owned(),
            Self::Vector => "sparkml_vector".to_owned(),
        }
    }
}
