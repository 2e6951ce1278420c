//! [`Cast`](https://onnx.ai/onnx/operators/onnx__Cast.html) and
//! [`CastLike`](https://onnx.ai/onnx/operators/onnx__CastLike.html).

use std::sync::Arc;

use sardonyx_shaders::Capabilities;

use super::Pointwise;
use super::cast_narrow::{CastNarrow, is_wide};
use crate::build::NodeSpec;
use crate::compose::Composition;
use crate::dispatch::Lowering;
use crate::error::OpError;
use crate::expr::{Expr, ExprNode};
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::narrow::{Narrowing, Rounding};
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::operator::{Cost, CpuKernel, Expansion, Operator, Role};
use crate::problem::Problem;

/// A conversion of one input.
pub fn cast(to: DType) -> Pointwise {
    let nodes = vec![ExprNode::Operand(0), ExprNode::Cast { arg: 0, to }];
    Pointwise { name: "Cast", expr: Expr { nodes, results: vec![1] } }
}

/// `Cast` to a type that takes part in expressions. From other types it is [`CastNarrow`].
#[derive(Clone, Debug)]
pub struct Cast {
    /// The type asked for.
    to: DType,
    /// The conversion from types that take part in expressions.
    wide: Pointwise,
}

pub(super) fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 1, "1")?;
    let narrowing = narrowing(spec)?;
    let to = match spec.attributes.get("to") {
        // Opset 1 gave the type's name.
        Some(crate::ir::attributes::Attribute::Str(name)) => by_name(name),
        _ => spec.attributes.int("to")?.and_then(|&number| DType::from_onnx(number)),
    };
    let to = to.ok_or(OpError::Attribute { name: "to", expected: "an element type" })?;
    if is_wide(to) {
        return Ok(Arc::new(Cast { to, wide: cast(to) }));
    }
    Ok(Arc::new(CastNarrow { to, narrowing }))
}

/// Reads `saturate` and `round_mode`.
fn narrowing(spec: &NodeSpec<'_>) -> Result<Narrowing, OpError> {
    let rounding = match spec.attributes.str("round_mode")? {
        None | Some("up") => Rounding::Up,
        Some("down") => Rounding::Down,
        Some("nearest") => Rounding::Nearest,
        Some(_) => return Err(OpError::Attribute { name: "round_mode", expected: "up, down or nearest" }),
    };
    Ok(Narrowing { saturate: spec.attributes.flag("saturate", true)?, rounding })
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

/// The operator that converts from one type to another.
fn between(from: DType, to: DType, narrowing: Narrowing) -> Arc<dyn Operator> {
    if is_wide(from) && is_wide(to) { Arc::new(cast(to)) } else { Arc::new(CastNarrow { to, narrowing }) }
}

/// One operator on input 0 in place of the node.
fn instead(op: Arc<dyn Operator>, input: &Fact) -> Expansion {
    let mut graph = Composition::default();
    let x = graph.input(0, input);
    let y = graph.node(op, &[x]);
    graph.finish(&[y])
}

impl Cast {
    fn for_type(&self, from: DType) -> Arc<dyn Operator> {
        between(from, self.to, Narrowing::default())
    }
}

impl Operator for Cast {
    fn name(&self) -> &'static str {
        "Cast"
    }

    fn expand(&self, inputs: &[Option<&Fact>]) -> Result<Expansion, OpError> {
        match inputs {
            [Some(input)] if !is_wide(input.dtype) => Ok(instead(self.for_type(input.dtype), input)),
            _ => Ok(Expansion::Stays),
        }
    }

    fn infer(&self, inputs: &[Option<&Fact>], outputs: usize) -> Result<Vec<Fact>, OpError> {
        match inputs {
            [Some(input)] => self.for_type(input.dtype).infer(inputs, outputs),
            _ => Err(OpError::Arity { what: "inputs", expected: "1", got: inputs.len() }),
        }
    }

    fn reference(&self, inputs: &[Option<View<'_>>], outputs: usize) -> Result<Vec<Tensor>, OpError> {
        match inputs {
            [Some(input)] => self.for_type(input.dtype).reference(inputs, outputs),
            _ => Err(OpError::Arity { what: "inputs", expected: "1", got: inputs.len() }),
        }
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        self.wide.cpu(problem)
    }

    fn lower(&self, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
        self.wide.lower(problem, caps)
    }

    fn role(&self) -> Role {
        Role::Pointwise
    }

    fn expression(&self) -> Option<&Expr> {
        Some(&self.wide.expr)
    }

    fn cost(&self, problem: &Problem<'_>) -> Cost {
        self.wide.cost(problem)
    }
}

/// A conversion of input 0 to the type of input 1, whose contents do not matter.
#[derive(Clone, Copy, Debug, Default)]
pub struct CastLike {
    /// How numbers become narrow floats.
    pub narrowing: Narrowing,
}

pub(super) fn build_like(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(2, 2, "2")?;
    Ok(Arc::new(CastLike { narrowing: narrowing(spec)? }))
}

impl Operator for CastLike {
    fn name(&self) -> &'static str {
        "CastLike"
    }

    fn expand(&self, inputs: &[Option<&Fact>]) -> Result<Expansion, OpError> {
        match inputs {
            [Some(input), Some(like)] => Ok(instead(between(input.dtype, like.dtype, self.narrowing), input)),
            _ => Ok(Expansion::Stays),
        }
    }

    fn infer(&self, inputs: &[Option<&Fact>], outputs: usize) -> Result<Vec<Fact>, OpError> {
        let [Some(input), Some(like)] = inputs else {
            return Err(OpError::Arity { what: "inputs", expected: "2", got: inputs.len() });
        };
        between(input.dtype, like.dtype, self.narrowing).infer(&[Some(input)], outputs)
    }

    fn reference(&self, inputs: &[Option<View<'_>>], outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let [Some(input), Some(like)] = inputs else {
            return Err(OpError::Arity { what: "inputs", expected: "2", got: inputs.len() });
        };
        between(input.dtype, like.dtype, self.narrowing).reference(&[Some(*input)], outputs)
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        match (problem.input(0), problem.outputs.first()) {
            (Some(input), Some(output)) => between(input.dtype, output.dtype, self.narrowing).cpu(problem),
            _ => Ok(None),
        }
    }

    fn lower(&self, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
        let (Some(input), Some(output)) = (problem.input(0), problem.outputs.first()) else {
            return Lowering::refused("CastLike", "no output");
        };
        let op = between(input.dtype, output.dtype, self.narrowing);
        let mut problem = problem.clone();
        problem.inputs.truncate(1);
        op.lower(&problem, caps)
    }
}
