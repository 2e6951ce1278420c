//! Channel blocks on the CPU: convolutions and what stands between them work on values whose channels lie in blocks, and a
//! value that is needed in the other form too is reordered, once.

use std::collections::HashMap;
use std::sync::Arc;

use sardonyx_ops::ir::graph::ValueId;
use sardonyx_ops::layout::{Blocking, Reorder, Source, block, blockable, blocked_dims, stretched_dims};
use sardonyx_ops::plan::{Plan, PlanEpilogue, PlanStep, PlanValue};
use sardonyx_ops::{Operator, Role, Tensor};

use super::place::{epilogue_operands, problem};

/// Lets the steps of a plan for the CPU work in blocks where their operators know how.
pub(super) fn lay_out(plan: &mut Plan) {
    let Some(block) = block() else { return };
    let steps = std::mem::take(&mut plan.steps);
    let mut pass = Pass { plan, block, blocked: HashMap::new(), pending: HashMap::new() };
    for step in steps {
        match pass.blocking(&step) {
            Some((blocking, operands)) => pass.in_blocks(step, &blocking, operands),
            None => {
                step.reads().for_each(|id| pass.out_of_blocks(id));
                pass.plan.steps.push(step);
            }
        }
    }
    let outputs = pass.plan.outputs.clone();
    outputs.into_iter().for_each(|id| pass.out_of_blocks(id));
}

struct Pass<'a> {
    plan: &'a mut Plan,
    block: usize,
    /// Values in blocks, by the values they stand for.
    blocked: HashMap<ValueId, ValueId>,
    /// Values that so far are there in blocks only, with the value that has them.
    pending: HashMap<ValueId, ValueId>,
}

impl Pass<'_> {
    fn value(&self, id: ValueId) -> &PlanValue {
        &self.plan.values[id.0]
    }

    /// How a step works in blocks, and the dimensions that its epilogue's operands get. `None` when it does not.
    fn blocking(&self, step: &PlanStep) -> Option<(Blocking, Vec<Vec<usize>>)> {
        let [Some(output)] = *step.outputs.as_slice() else { return None };
        if !blockable(self.value(output).dtype) || step.op.role() == Role::View {
            return None;
        }
        let storage = |_: &PlanValue| None;
        let operands = epilogue_operands(&self.plan.values, step, &storage);
        let problem = problem(&self.plan.values, step, &operands, &storage);
        let there: Vec<bool> =
            step.inputs.iter().map(|id| id.is_some_and(|id| self.blocked.contains_key(&id))).collect();
        let blocking = step.op.blocked(&problem, self.block, &there)?;
        for source in &blocking.inputs {
            match *source {
                Source::Blocked(index) => {
                    self.dims_in_blocks(step.inputs.get(index).copied().flatten()?, output)?;
                }
                Source::Plain(index) => {
                    step.inputs.get(index).copied().flatten()?;
                }
            }
        }
        let operands = step.epilogue.iter().flat_map(|epilogue| &epilogue.operands);
        let operands: Option<Vec<_>> = match blocking.output {
            true => operands.map(|&id| self.dims_in_blocks(id, output)).collect(),
            false => Some(Vec::new()),
        };
        if blocking.output {
            blocked_dims(&self.value(output).dims, self.block)?;
        }
        Some((blocking, operands?))
    }

    /// The dimensions of a value in blocks that is read for `output`; `None` when it has no such form.
    fn dims_in_blocks(&self, id: ValueId, output: ValueId) -> Option<Vec<usize>> {
        let value = self.value(id);
        let own = blocked_dims(&value.dims, self.block);
        let dims = own.or_else(|| stretched_dims(&value.dims, &self.value(output).dims, self.block))?;
        let moves = Reorder::into_blocks(&value.dims, dims.clone()).role() != Role::View;
        (blockable(value.dtype) || !moves).then_some(dims)
    }

    /// Adds a step as `blocking` says. `operands` are the dimensions of its epilogue's operands.
    fn in_blocks(&mut self, step: PlanStep, blocking: &Blocking, operands: Vec<Vec<usize>>) {
        let Some(output) = step.outputs.first().copied().flatten() else { return };
        let mut inputs = Vec::with_capacity(blocking.inputs.len());
        for source in &blocking.inputs {
            inputs.push(match source {
                Source::Plain(index) => {
                    let id = step.inputs.get(*index).copied().flatten();
                    id.into_iter().for_each(|id| self.out_of_blocks(id));
                    id
                }
                Source::Blocked(index) => {
                    let id = step.inputs.get(*index).copied().flatten();
                    id.and_then(|id| Some(self.blocked_form(id, self.dims_in_blocks(id, output)?)))
                }
            });
        }
        let mut epilogue = step.epilogue;
        if let Some(PlanEpilogue { operands: ids, .. }) = &mut epilogue {
            if !blocking.output {
                ids.iter().for_each(|&id| self.out_of_blocks(id));
            }
            for (id, dims) in ids.iter_mut().zip(operands) {
                *id = self.blocked_form(*id, dims);
            }
        }
        let mut written = output;
        if blocking.output
            && let Some(dims) = blocked_dims(&self.value(output).dims, self.block)
        {
            written = self.add(output, dims, None);
            self.blocked.insert(output, written);
            self.pending.insert(output, written);
        }
        self.plan.steps.push(PlanStep {
            op: Arc::clone(&blocking.op),
            inputs,
            outputs: vec![Some(written)],
            epilogue,
            nodes: step.nodes,
        });
    }

    /// A value with other dimensions that stands for `of`.
    fn add(&mut self, of: ValueId, dims: Vec<usize>, constant: Option<Tensor>) -> ValueId {
        let value = self.value(of);
        let value = PlanValue {
            name: Arc::from(format!("{}.blocked", value.name)),
            dtype: value.dtype,
            dims,
            constant,
        };
        self.plan.values.push(value);
        ValueId(self.plan.values.len() - 1)
    }

    /// The value in blocks, made by a step of its own where it is not there yet.
    fn blocked_form(&mut self, id: ValueId, dims: Vec<usize>) -> ValueId {
        if let Some(&there) = self.blocked.get(&id) {
            return there;
        }
        let reorder = Reorder::into_blocks(&self.value(id).dims, dims.clone());
        let constant = self.value(id).constant.clone();
        let folded = constant.and_then(|constant| {
            let mut results = reorder.reference(&[Some(constant.aligned().view())], 1).ok()?;
            results.pop()
        });
        let folds = folded.is_some();
        let there = self.add(id, dims, folded);
        if !folds {
            self.reorder(reorder, id, there);
        }
        self.blocked.insert(id, there);
        there
    }

    /// Makes a value that is there in blocks only, if it is.
    fn out_of_blocks(&mut self, id: ValueId) {
        if let Some(from) = self.pending.remove(&id) {
            let reorder = Reorder::out_of_blocks(&self.value(id).dims);
            self.reorder(reorder, from, id);
        }
    }

    fn reorder(&mut self, op: Reorder, from: ValueId, to: ValueId) {
        self.plan.steps.push(PlanStep {
            op: Arc::new(op),
            inputs: vec![Some(from)],
            outputs: vec![Some(to)],
            epilogue: None,
            nodes: Vec::new(),
        });
    }
}

#[cfg(test)]
mod tests {
    use sardonyx_ops::DType;
    use sardonyx_ops::conv::conv::Conv;
    use sardonyx_ops::conv::window::Window;
    use sardonyx_ops::movement::trilu::Trilu;

    use super::super::testing::step;
    use super::*;

    fn value(name: &str, dims: &[usize], constant: bool) -> PlanValue {
        let zeros = || Tensor::from_vec(dims, vec![0.0f32; dims.iter().product()]).unwrap();
        let constant = constant.then(zeros);
        PlanValue { name: name.into(), dtype: DType::F32, dims: dims.to_vec(), constant }
    }

    #[test]
    fn values_are_reordered_at_the_borders_only() {
        if block().is_none() {
            return;
        }
        let conv = || Arc::new(Conv { window: Window::default(), groups: 1 });
        let dims = [1, 16, 3, 5];
        let mut plan = Plan {
            values: vec![
                value("x", &dims, false),
                value("w", &[16, 16, 1, 1], true),
                value("a", &dims, false),
                value("b", &dims, false),
                value("y", &dims, false),
            ],
            steps: vec![
                step(conv(), &[0, 1], 2),
                step(conv(), &[2, 1], 3),
                step(Arc::new(Trilu { upper: true }), &[3], 4),
            ],
            inputs: vec![ValueId(0)],
            outputs: vec![ValueId(4), ValueId(3)],
            ..Plan::default()
        };
        lay_out(&mut plan);
        let names: Vec<_> = plan.steps.iter().map(|step| (step.op.name(), step.nodes.len())).collect();
        let wanted = [("Reorder", 0), ("Conv", 1), ("Conv", 1), ("Reorder", 0), ("Trilu", 1)];
        assert_eq!(names, wanted);
        assert_eq!(plan.steps[3].outputs, [Some(ValueId(3))]);
        assert_eq!(plan.values[plan.steps[1].outputs[0].unwrap().0].dims, [1, 2, 3, 5, 8]);
    }
}
