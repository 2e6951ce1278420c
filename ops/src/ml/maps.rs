//! Operators that give or take maps, which no other operator does anything with:
//! [ZipMap](https://onnx.ai/onnx/operators/onnx_aionnxml_ZipMap.html) and
//! [DictVectorizer](https://onnx.ai/onnx/operators/onnx_aionnxml_DictVectorizer.html).

use std::sync::Arc;

use crate::build::NodeSpec;
use crate::error::OpError;
use crate::operator::Operator;

/// Says that there are no maps, and how to do without.
pub(super) fn refuse(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    let instead = match spec.op_type {
        "ZipMap" => "export with the option zipmap=False, which gives its tensor of scores",
        _ => "give features as a tensor",
    };
    Err(OpError::unsupported(format!("a map ({instead})")))
}
