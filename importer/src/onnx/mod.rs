//! ONNX files: decoding, checking, local functions, tensors, external data.
//!
//! The format is `onnx.proto` of <https://github.com/onnx/onnx>, its rules are `docs/IR.md` there. [`read`]
//! gives a model whose graph is safe to walk: every node's operator set version is known, local functions are
//! inlined, nodes stand in topological order, every value that is read is defined, once. Operators are not
//! looked at here. Weights are not touched: tensors share the memory of the file.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_possible_wrap
    )
)]

pub mod attribute;
mod decode;
pub mod encode;
pub mod external;
mod functions;
mod limits;
pub mod model;
pub mod subset;
pub mod tensor;
mod topology;
mod types;
pub mod value;
mod versions;
mod wire;

#[cfg(test)]
mod robustness;
#[cfg(test)]
pub(crate) mod testing;

use bytes::Bytes;

pub use attribute::{AttributeKind, AttributeProto, AttributeValue};
pub use encode::{Encoded, encode_model, encode_tensor};
pub use external::ExternalData;
pub use limits::LoadLimits;
pub use model::{
    Dim, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetId, SparseTensorProto, TensorType,
    TypeProto, ValueInfoProto,
};
pub use tensor::{TensorData, TensorProto, decode_tensor, to_tensor};
pub use value::decode_value;

use crate::error::{Budget, ImportError, ParseFault, Place};

/// Reads a model: decodes it, inlines its functions, sorts its nodes, and checks all but operators.
///
/// # Errors
/// [`ImportError`]: the first thing that is wrong, in the order file size, protobuf, versions, functions,
/// names, topology, declared types, constants.
pub fn read(bytes: Bytes, limits: &LoadLimits) -> Result<ModelProto, ImportError> {
    let model = read_structure(bytes, limits)?;
    types::check_constants(&model.graph, limits)?;
    Ok(model)
}

/// Reads a model as [`read`] does, but lets constants be damaged or emptied: enough to look at a model whose
/// weights have been stripped.
///
/// # Errors
/// As [`read`], except for constants.
pub fn read_structure(bytes: Bytes, limits: &LoadLimits) -> Result<ModelProto, ImportError> {
    let size = bytes.len() as u64;
    if size > limits.file_bytes {
        return Err(ImportError::budget(Place::model(), Budget::FileBytes, size, limits.file_bytes));
    }
    if bytes.is_empty() {
        return Err(ImportError::Parse { what: ParseFault::NotOnnx, offset: 0 });
    }
    let (mut model, structure_bytes) = decode::model(&bytes, limits)?;
    versions::resolve(&mut model)?;
    functions::inline(&mut model, limits, structure_bytes)?;
    topology::settle(&mut model.graph)?;
    types::check_interface(&mut model.graph)?;
    Ok(model)
}
