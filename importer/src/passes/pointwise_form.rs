//! A pointwise step as an expression over distinct values: the form in which such steps are merged.

use std::sync::Arc;

use half::{bf16, f16};
use sardonyx_ops::expr::{Expr, ExprNode, Scalar};
use sardonyx_ops::ir::graph::ValueId;
use sardonyx_ops::plan::{Plan, PlanStep};
use sardonyx_ops::{DType, Role, Tensor};

/// An expression with one result, and the values it reads: each once, none in vain.
#[derive(Clone)]
pub(super) struct PointwiseForm {
    pub expr: Expr,
    pub operands: Vec<ValueId>,
    /// The value computed.
    pub result: ValueId,
    /// The model's nodes, in the order of computation.
    pub nodes: Vec<Arc<str>>,
}

impl PointwiseForm {
    /// The form of a step; `None` when it has another role, several results, or an epilogue.
    pub fn of(step: &PlanStep, plan: &Plan) -> Option<PointwiseForm> {
        let expr = step.op.expression().filter(|_| step.op.role() == Role::Pointwise)?;
        let operands: Vec<ValueId> = step.inputs.iter().flatten().copied().collect();
        let [Some(result)] = step.outputs.as_slice() else { return None };
        if step.epilogue.is_some() || expr.results.len() != 1 || expr.operands() > operands.len() {
            return None;
        }
        let (expr, operands) = distinct(expr, &operands);
        let (expr, operands) = inline_scalars(expr, operands, plan);
        Some(PointwiseForm { expr, operands, result: *result, nodes: step.nodes.clone() })
    }

    /// This form with the result of `inner` computed in place; `None` when it does not read that.
    pub fn merged(&self, inner: &PointwiseForm) -> Option<PointwiseForm> {
        let at = self.operands.iter().position(|id| *id == inner.result)?;
        let operands = [self.operands.as_slice(), &inner.operands].concat();
        let (expr, operands) = distinct(&self.expr.inline(at, &inner.expr), &operands);
        let nodes = [inner.nodes.as_slice(), &self.nodes].concat();
        Some(PointwiseForm { expr, operands, result: self.result, nodes })
    }

    /// The expression with the value `anchor` as the accumulator, and the other operands.
    pub fn finishing(&self, anchor: ValueId) -> (Expr, Vec<ValueId>) {
        let expr = self.expr.map_operands(|index| match self.operands.get(index) {
            Some(id) if *id == anchor => Err(ExprNode::Accumulator),
            _ => Ok(index),
        });
        distinct(&expr, &self.operands)
    }
}

/// The expression over a list without repetitions and without values it does not read.
fn distinct(expr: &Expr, operands: &[ValueId]) -> (Expr, Vec<ValueId>) {
    let mut list: Vec<ValueId> = Vec::new();
    let renumbered = expr.tidied().map_operands(|index| {
        let Some(&id) = operands.get(index) else { return Ok(index) };
        Ok(list.iter().position(|known| *known == id).unwrap_or_else(|| {
            list.push(id);
            list.len() - 1
        }))
    });
    (renumbered.tidied(), list)
}

/// Puts constants of one element into the expression, where that leaves the result's dimensions as they are.
fn inline_scalars(expr: Expr, operands: Vec<ValueId>, plan: &Plan) -> (Expr, Vec<ValueId>) {
    let constants: Vec<Option<ExprNode>> = operands.iter().map(|id| scalar(plan, *id)).collect();
    let rank = |id: &ValueId| super::dims(plan, *id).len();
    let others = operands.iter().zip(&constants).filter(|(_, constant)| constant.is_none());
    let Some(highest) = others.map(|(id, _)| rank(id)).max() else { return (expr, operands) };
    let inlined = expr.map_operands(|index| {
        let fits = operands.get(index).is_some_and(|id| rank(id) <= highest);
        constants.get(index).cloned().flatten().filter(|_| fits).map_or(Ok(index), Err)
    });
    distinct(&inlined, &operands)
}

fn scalar(plan: &Plan, id: ValueId) -> Option<ExprNode> {
    let tensor = plan.values.get(id.0)?.constant.as_ref().filter(|tensor| tensor.len() == 1)?;
    match first_element(tensor)? {
        // WGSL has no literals for infinity and NaN.
        Scalar::Float(value) if !value.is_finite() => None,
        constant => Some(ExprNode::Constant(tensor.dtype(), constant)),
    }
}

/// The number that a constant begins with.
pub(super) fn number(tensor: &Tensor) -> Option<f64> {
    match first_element(tensor)? {
        Scalar::Float(number) => Some(number),
        Scalar::Int(number) => Some(number as f64),
    }
}

fn first_element(tensor: &Tensor) -> Option<Scalar> {
    macro_rules! first {
        ($rust:ty) => {
            *tensor.elements::<$rust>().ok()?.first()?
        };
    }
    Some(match tensor.dtype() {
        DType::F32 => Scalar::Float(first!(f32).into()),
        DType::F64 => Scalar::Float(first!(f64)),
        DType::F16 => Scalar::Float(first!(f16).into()),
        DType::BF16 => Scalar::Float(first!(bf16).into()),
        DType::I8 => Scalar::Int(first!(i8).into()),
        DType::I16 => Scalar::Int(first!(i16).into()),
        DType::I32 => Scalar::Int(first!(i32).into()),
        DType::I64 => Scalar::Int(first!(i64)),
        DType::U8 => Scalar::Int(first!(u8).into()),
        DType::U16 => Scalar::Int(first!(u16).into()),
        DType::U32 => Scalar::Int(first!(u32).into()),
        DType::U64 => Scalar::Int(i64::try_from(first!(u64)).ok()?),
        DType::Bool => Scalar::Int(i64::from(*tensor.bytes().first()? != 0)),
        _ => return None,
    })
}
