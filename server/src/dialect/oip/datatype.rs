//! The protocol's names of the types of elements.

use flowgate_proto::v1::DataType;

use crate::error::Error;

/// The name, the type and the bytes of one element; 0 for those that tell their own length. Text is BYTES to the protocol.
const TYPES: [(&str, DataType, usize); 14] = [
    ("BOOL", DataType::Bool, 1),
    ("INT8", DataType::Int8, 1),
    ("INT16", DataType::Int16, 2),
    ("INT32", DataType::Int32, 4),
    ("INT64", DataType::Int64, 8),
    ("UINT8", DataType::Uint8, 1),
    ("UINT16", DataType::Uint16, 2),
    ("UINT32", DataType::Uint32, 4),
    ("UINT64", DataType::Uint64, 8),
    ("FP16", DataType::Float16, 2),
    ("FP32", DataType::Float32, 4),
    ("FP64", DataType::Float64, 8),
    ("BYTES", DataType::Bytes, 0),
    ("BYTES", DataType::String, 0),
];

/// The type of a name.
///
/// # Errors
/// What is expected at `field` instead.
pub(super) fn read(name: &str, field: impl FnOnce() -> String) -> Result<DataType, Error> {
    let known = TYPES.iter().find(|(known, ..)| *known == name);
    known.map(|(_, data_type, _)| *data_type).ok_or_else(|| {
        let what = if name == "BF16" {
            "is BF16, which this gateway does not carry; send FP32"
        } else {
            "must be BOOL, UINT8, UINT16, UINT32, UINT64, INT8, INT16, INT32, INT64, FP16, FP32, FP64 or BYTES"
        };
        Error::invalid(field(), what)
    })
}

/// The name of a type; `None` when it is none.
pub(super) fn name(data_type: DataType) -> Option<&'static str> {
    TYPES.iter().find(|(_, known, _)| *known == data_type).map(|(name, ..)| *name)
}

/// The bytes of one element; 0 for those that tell their own length.
pub(super) fn size(data_type: DataType) -> usize {
    TYPES.iter().find(|(_, known, _)| *known == data_type).map_or(0, |(.., size)| *size)
}
