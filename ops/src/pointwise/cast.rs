//! [`Cast`](https://onnx.ai/onnx/operators/onnx__Cast.html) and
//! [`CastLike`](https://onnx.ai/onnx/operators/onnx__CastLike.html).

use std::sync::Arc;

use sardonyx_shaders::Capabilities;

use super::Pointwise;
use crate::build::NodeSpec;
use crate::dispatch::Lowering;
use crate::error::OpError;
use crate::expr::{Expr, ExprNode};
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::operator::{CpuKernel, Operator};
use crate::problem::Problem;

/// A conversion of one input.
pub fn cast(to: DType) -> Pointwise {
    let nodes = vec![ExprNode::Operand(0), ExprNode::Cast { arg: 0, to }];
    Pointwise { name: "Cast", expr: Expr { nodes, results: vec![1] } }
}

/// Whether values of this type can be converted.
fn check(dtype: DType) -> Result<DType, OpError> {
    use DType::*;
    match dtype {
        F32 | F64 | F16 | BF16 | I8 | I16 | I32 | I64 | U8 | U16 | U32 | U64 | Bool => Ok(dtype),
        other => Err(OpError::unsupported(format!("conversion to or from {other}"))),
    }
}

pub(super) fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 1, "1")?;
    // Both speak of 8-bit floats only.
    spec.attributes.int("saturate")?;
    spec.attributes.str("round_mode")?;
    let to = match spec.attributes.get("to") {
        // Opset 1 gave the type's name.
        Some(crate::ir::attributes::Attribute::Str(name)) => by_name(name),
        _ => spec.attributes.int("to")?.and_then(|&number| DType::from_onnx(number)),
    };
    let to = to.ok_or(OpError::Attribute { name: "to", expected: "an element type" })?;
    Ok(Arc::new(cast(check(to)?)))
}

fn by_name(name: &str) -> Option<DType> {
    Some(match name {
        "FLOAT" => DType::F32,
        "DOUBLE" => DType::F64,
        "FLOAT16" => DType::F16,
        "INT8" => DType::I8,
        "INT16" => DType::I16,
        "INT32" => DType::I32,
        "INT64" => DType::I64,
        "UINT8" => DType::U8,
        "UINT16" => DType::U16,
        "UINT32" => DType::U32,
        "UINT64" => DType::U64,
        "BOOL" => DType::Bool,
        _ => return None,
    })
}

/// A conversion of input 0 to the type of input 1, whose contents do not matter.
#[derive(Clone, Debug)]
pub struct CastLike;

pub(super) fn build_like(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(2, 2, "2")?;
    spec.attributes.int("saturate")?;
    spec.attributes.str("round_mode")?;
    Ok(Arc::new(CastLike))
}

impl Operator for CastLike {
    fn name(&self) -> &'static str {
        "CastLike"
    }

    fn infer(&self, inputs: &[Option<&Fact>], outputs: usize) -> Result<Vec<Fact>, OpError> {
        let [Some(input), Some(like)] = inputs else {
            return Err(OpError::Arity { what: "inputs", expected: "2", got: inputs.len() });
        };
        cast(check(like.dtype)?).infer(&[Some(input)], outputs)
    }

    fn reference(&self, inputs: &[Option<View<'_>>], outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let [input @ Some(_), Some(like)] = inputs else {
            return Err(OpError::Arity { what: "inputs", expected: "2", got: inputs.len() });
        };
        cast(check(like.dtype)?).reference(&[*input], outputs)
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        let Some(output) = problem.outputs.first() else { return Ok(None) };
        cast(check(output.dtype)?).cpu(problem)
    }

    fn lower(&self, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
        let Some(output) = problem.outputs.first() else {
            return Lowering::refused("CastLike", "no output");
        };
        let mut problem = problem.clone();
        problem.inputs.truncate(1);
        cast(output.dtype).lower(&problem, caps)
    }
}
