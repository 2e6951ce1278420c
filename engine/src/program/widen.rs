//! Sixteen-bit floats on the CPU: between the inputs and outputs of a model, steps work on f32. Its arithmetic is that of
//! f32 in any case; so nothing is converted back and forth between steps, or rounded more often than the model's own
//! conversions say.

use std::collections::HashMap;
use std::sync::Arc;

use sardonyx_ops::expr::{Expr, ExprNode};
use sardonyx_ops::ir::graph::ValueId;
use sardonyx_ops::plan::{Plan, PlanEpilogue, PlanStep, PlanValue};
use sardonyx_ops::pointwise::{self, Pointwise};
use sardonyx_ops::{DType, Role, Tensor};
use sardonyx_shaders::storage::Storage;

use crate::transfer::to_device;

/// Lets the steps of a plan for the CPU work on f32 where the model has f16 or bf16.
pub(super) fn widen(plan: &mut Plan) {
    let steps = std::mem::take(&mut plan.steps);
    let mut pass = Pass { plan, wide: HashMap::new(), pending: HashMap::new() };
    for step in steps {
        if pass.gains(&step) {
            pass.on_wide(step);
        } else {
            step.reads().for_each(|id| pass.narrow(id));
            pass.plan.steps.push(step);
        }
    }
    let outputs = pass.plan.outputs.clone();
    outputs.into_iter().for_each(|id| pass.narrow(id));
}

fn is_half(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16)
}

/// Whether an expression converts nothing: then it means the same for floats of any width.
fn converts_nothing(expr: &Expr) -> bool {
    !expr.nodes.iter().any(|node| matches!(node, ExprNode::Cast { .. }))
}

struct Pass<'a> {
    plan: &'a mut Plan,
    /// f32 values, by the values they stand for.
    wide: HashMap<ValueId, ValueId>,
    /// Values that so far are there as f32 only, with the value that has them.
    pending: HashMap<ValueId, ValueId>,
}

impl Pass<'_> {
    fn is_half(&self, id: ValueId) -> bool {
        is_half(self.plan.values[id.0].dtype)
    }

    /// Whether a step computes 16-bit floats, and would compute the same from f32.
    fn gains(&self, step: &PlanStep) -> bool {
        let [Some(output)] = *step.outputs.as_slice() else { return false };
        let means_the_same = match step.op.role() {
            Role::View => {
                step.inputs.first().copied().flatten().is_some_and(|id| self.wide.contains_key(&id))
            }
            Role::Pointwise => step.op.expression().is_some_and(converts_nothing),
            Role::Anchor => true,
            Role::Opaque => false,
        };
        let epilogue = step.epilogue.as_ref().is_none_or(|epilogue| converts_nothing(&epilogue.expr));
        self.is_half(output) && means_the_same && epilogue
    }

    /// Adds a step that reads and writes f32.
    fn on_wide(&mut self, step: PlanStep) {
        let inputs = step.inputs.iter().map(|id| id.map(|id| self.widened(id))).collect();
        let op = match step.op.expression() {
            Some(expr) => Arc::new(Pointwise { name: step.op.name(), expr: on_wide(expr) }),
            None => step.op,
        };
        let epilogue = step.epilogue.map(|epilogue| PlanEpilogue {
            expr: on_wide(&epilogue.expr),
            operands: epilogue.operands.iter().map(|&id| self.widened(id)).collect(),
        });
        let mut written = Vec::with_capacity(step.outputs.len());
        for output in step.outputs {
            written.push(output.map(|id| {
                let there = self.add(id, None);
                self.wide.insert(id, there);
                self.pending.insert(id, there);
                there
            }));
        }
        self.plan.steps.push(PlanStep { op, inputs, outputs: written, epilogue, nodes: step.nodes });
    }

    /// The f32 value that stands for another one, made by a step of its own where it is not there yet.
    fn widened(&mut self, id: ValueId) -> ValueId {
        if !self.is_half(id) {
            return id;
        }
        if let Some(&there) = self.wide.get(&id) {
            return there;
        }
        let constant = self.plan.values[id.0].constant.as_ref().and_then(|constant| {
            let wide = to_device(&constant.view(), Storage::F32).into_owned();
            Tensor::from_bytes(DType::F32, constant.dims(), wide.into()).ok()
        });
        let computed = constant.is_none();
        let there = self.add(id, constant);
        if computed {
            self.cast(id, there, DType::F32);
        }
        self.wide.insert(id, there);
        there
    }

    /// Makes a value that is there as f32 only, if it is.
    fn narrow(&mut self, id: ValueId) {
        if let Some(from) = self.pending.remove(&id) {
            self.cast(from, id, self.plan.values[id.0].dtype);
        }
    }

    fn add(&mut self, of: ValueId, constant: Option<Tensor>) -> ValueId {
        let value = &self.plan.values[of.0];
        let (name, dims) = (Arc::from(format!("{}.wide", value.name)), value.dims.clone());
        self.plan.values.push(PlanValue { name, dtype: DType::F32, dims, constant });
        ValueId(self.plan.values.len() - 1)
    }

    fn cast(&mut self, from: ValueId, to: ValueId, dtype: DType) {
        self.plan.steps.push(PlanStep {
            op: Arc::new(pointwise::cast(dtype)),
            inputs: vec![Some(from)],
            outputs: vec![Some(to)],
            epilogue: None,
            nodes: Vec::new(),
        });
    }
}

/// An expression whose 16-bit constants are f32.
fn on_wide(expr: &Expr) -> Expr {
    let nodes = expr.nodes.iter().map(|node| match node {
        ExprNode::Constant(dtype, scalar) if is_half(*dtype) => ExprNode::Constant(DType::F32, *scalar),
        node => node.clone(),
    });
    Expr { nodes: nodes.collect(), results: expr.results.clone() }
}

#[cfg(test)]
mod tests {
    use half::f16;
    use sardonyx_ops::expr::Scalar;
    use sardonyx_ops::matmul::matmul::MatMul;
    use sardonyx_ops::pointwise::functions;

    use super::super::testing::step;
    use super::*;

    #[test]
    fn values_are_converted_at_the_borders_only() {
        let weights =
            Tensor::from_vec(&[2, 2], [1.5f32, 0.25, -3.0, 0.1].map(f16::from_f32).to_vec()).unwrap();
        let value = |name: &str, constant: Option<Tensor>| PlanValue {
            name: name.into(),
            dtype: DType::F16,
            dims: vec![2, 2],
            constant,
        };
        let mut add = Expr::call(&functions::ADD, 2, Vec::new());
        add.nodes[1] = ExprNode::Constant(DType::F16, Scalar::Float(2.0));
        let add = Pointwise { name: "Add", expr: add };
        let mut plan = Plan {
            values: vec![
                value("x", None),
                value("w", Some(weights)),
                value("a", None),
                value("b", None),
                value("y", None),
            ],
            steps: vec![
                step(Arc::new(MatMul::default()), &[0, 1], 2),
                step(Arc::new(add), &[2], 3),
                step(Arc::new(pointwise::cast(DType::F16)), &[3], 4),
            ],
            inputs: vec![ValueId(0)],
            outputs: vec![ValueId(4), ValueId(3)],
            ..Plan::default()
        };
        widen(&mut plan);
        let names: Vec<_> = plan.steps.iter().map(|step| (step.op.name(), step.nodes.len())).collect();
        // In, the two steps, out for the conversion that the model has.
        assert_eq!(names, [("Cast", 0), ("MatMul", 1), ("Add", 1), ("Cast", 0), ("Cast", 1)]);
        let dtype = |id: Option<ValueId>| plan.values[id.unwrap().0].dtype;
        for step in &plan.steps[1..3] {
            assert!(step.inputs.iter().chain(&step.outputs).all(|&id| dtype(id) == DType::F32));
        }
        assert_eq!(plan.steps[3].outputs, [Some(ValueId(3))]);
        let wide = plan.steps[1].inputs[1].unwrap();
        let found: Vec<f32> = plan.values[wide.0].constant.as_ref().unwrap().to_vec().unwrap();
        assert_eq!(found, [1.5, 0.25, -3.0, f16::from_f32(0.1).to_f32()]);
        let types = plan.steps[2].op.expression().unwrap().types(None, &[DType::F32]).unwrap();
        assert!(types.iter().all(|&dtype| dtype == DType::F32));
    }
}
