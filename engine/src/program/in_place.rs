//! Results that replace what they are made of. A kernel reads an operand of its expression element by element, right before it
//! stores the result: where nobody wants the operand afterwards, the result takes its memory, and an addition to a
//! residual needs no memory of its own. On the CPU kernels store unfinished results first, so there nothing is replaced.

use std::collections::{HashMap, HashSet};

use sardonyx_ops::dispatch::{Binding, Candidate, Dispatch};
use sardonyx_ops::ir::graph::ValueId;
use sardonyx_ops::plan::{Plan, PlanStep};
use sardonyx_shaders::expression::Pattern;

use super::parts::Parts;
use super::place::Placed;
use super::schedule::{Batch, bound_value, device_reads};

/// Whether an operand of a dispatch's expression, a read by its index, may lie where a write goes: the kernel reads and stores
/// the same elements in the same groups.
pub(super) fn may_replace(dispatch: &Dispatch, read: usize, write: usize) -> bool {
    let kernel = &dispatch.kernel;
    let operand =
        read.checked_sub(kernel.inputs.len()).and_then(|index| kernel.expression.operands.get(index));
    let output = kernel.expression.outputs.get(write);
    operand.zip(output).is_some_and(|(operand, output)| {
        operand.pattern == Pattern::Same && (operand.storage, operand.width) == (output.storage, output.width)
    })
}

/// Finds the results that take the memory of an operand, for steps in this order.
pub(super) fn find(plan: &Plan, placed: &[Placed], batches: &[Batch], roots: &[ValueId], parts: &mut Parts) {
    let root = |id: &ValueId| roots[id.0];
    // What a host may bind elsewhere, and what shares its memory with others.
    let mut fixed: HashSet<ValueId> = plan.inputs.iter().chain(&plan.outputs).map(root).collect();
    fixed.extend((0..roots.len()).map(ValueId).filter(|&id| parts.shares(id)));
    let on_cpu = batches.iter().flat_map(|batch| &batch.cpu).flat_map(|&step| plan.steps[step].reads());
    let mut kept: HashSet<ValueId> = on_cpu.map(|id| roots[id.0]).chain(fixed.iter().copied()).collect();
    let steps: Vec<usize> = batches.iter().flat_map(|batch| &batch.device).copied().collect();
    let mut last: HashMap<ValueId, usize> = HashMap::new();
    for (time, &step) in steps.iter().enumerate() {
        last.extend(device_reads(plan, step, &placed[step]).iter().map(|id| (root(id), time)));
    }
    for (time, &index) in steps.iter().enumerate() {
        let Placed::Device(candidate, _) = &placed[index] else { continue };
        let step = &plan.steps[index];
        for (output, id) in step.outputs.iter().flatten().enumerate() {
            let result = root(id);
            if fixed.contains(&result) {
                continue;
            }
            let free = |id: ValueId| {
                let dead = last.get(&id) == Some(&time) && plan.values[id.0].constant.is_none();
                dead && id != result && !kept.contains(&id) && reads_once(candidate, step, roots, id)
            };
            let mut operands = replaceable(candidate, step, output).map(|id| root(&id));
            if let Some(operand) = operands.find(|&id| free(id)) {
                parts.put(result, operand);
                kept.insert(operand);
            }
        }
    }
}

/// The operands that an output may replace.
fn replaceable<'a>(
    candidate: &'a Candidate,
    step: &'a PlanStep,
    output: usize,
) -> impl Iterator<Item = ValueId> + 'a {
    let writes = move |dispatch: &&Dispatch| dispatch.writes.contains(&Binding::Output(output));
    let mut writers = candidate.dispatches.iter().filter(writes);
    // What several launches write is not finished when the first of them stores it.
    let only = writers.next().filter(|_| writers.next().is_none());
    only.into_iter().flat_map(move |dispatch| {
        let write = dispatch.writes.iter().position(|write| *write == Binding::Output(output));
        let reads = dispatch.reads.iter().enumerate();
        reads.filter_map(move |(read, binding)| {
            may_replace(dispatch, read, write?).then(|| bound_value(step, *binding)).flatten()
        })
    })
}

/// One binding of one launch reads the value.
fn reads_once(candidate: &Candidate, step: &PlanStep, roots: &[ValueId], root: ValueId) -> bool {
    let reads = candidate.dispatches.iter().flat_map(|dispatch| &dispatch.reads);
    reads.filter(|binding| bound_value(step, **binding).map(|id| roots[id.0]) == Some(root)).count() == 1
}
