//! Where each step runs: on the device if a kernel fits, else on the CPU with the reasons recorded.

use std::sync::Arc;

use sardonyx_ops::dispatch::{Binding, Candidate, Dispatch};
use sardonyx_ops::expr::{Expr, ExprNode};
use sardonyx_ops::ir::graph::ValueId;
use sardonyx_ops::plan::{Plan, PlanStep, PlanValue};
use sardonyx_ops::pointwise::Pointwise;
use sardonyx_ops::problem::{Epilogue, Operand, Problem, storage_of};
use sardonyx_ops::{DType, Role};
use sardonyx_shaders::Capabilities;
use sardonyx_shaders::storage::Storage;

use super::choices::Choices;
use crate::session::Precision;
use crate::transfer::buffer_bytes;

/// How tensors lie on a device.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layouts {
    pub(super) f16: bool,
    pub(super) precision: Precision,
}

impl Layouts {
    pub(super) fn storage(&self, value: &PlanValue) -> Option<Storage> {
        match (self.precision, value.dtype) {
            (Precision::F16, DType::F32) if is_small_constant(value) => Some(Storage::F32),
            (Precision::F16, DType::F32) if self.f16 => Some(Storage::F16),
            (Precision::F32, DType::F16 | DType::BF16) => Some(Storage::F32),
            (_, dtype) => storage_of(dtype, self.f16),
        }
    }
}

/// Constants of at most this many elements stay f32: they are a few percent of a model's bytes, and most of what rounding
/// weights does to its results. A bias shifts a whole channel, and the weights of the first layers are few.
const SMALL: usize = 1 << 14;

fn is_small_constant(value: &PlanValue) -> bool {
    value.constant.as_ref().is_some_and(|constant| constant.len() <= SMALL)
}

/// A step with its place.
pub(super) enum Placed {
    View,
    /// By this candidate; kernels that would have come first were refused for these reasons.
    Device(Candidate, Vec<String>),
    Cpu {
        reason: String,
    },
}

/// The problem of a step. `storage` says how each value lies on the device.
pub(super) fn problem<'a>(
    values: &'a [PlanValue],
    step: &'a PlanStep,
    operands: &'a [Operand<'a>],
    storage: &dyn Fn(&PlanValue) -> Option<Storage>,
) -> Problem<'a> {
    let of = |id: &ValueId| operand(values, *id, storage);
    Problem {
        inputs: step.inputs.iter().map(|input| input.as_ref().map(of)).collect(),
        outputs: step.outputs.iter().flatten().map(of).collect(),
        epilogue: step.epilogue.as_ref().map(|epilogue| Epilogue { expr: &epilogue.expr, operands }),
    }
}

/// The operands of a step's epilogue.
pub(super) fn epilogue_operands<'a>(
    values: &'a [PlanValue],
    step: &PlanStep,
    storage: &dyn Fn(&PlanValue) -> Option<Storage>,
) -> Vec<Operand<'a>> {
    let ids = step.epilogue.iter().flat_map(|epilogue| &epilogue.operands);
    ids.map(|&id| operand(values, id, storage)).collect()
}

fn operand<'a>(
    values: &'a [PlanValue],
    id: ValueId,
    storage: &dyn Fn(&PlanValue) -> Option<Storage>,
) -> Operand<'a> {
    let value = &values[id.0];
    Operand { dtype: value.dtype, dims: &value.dims, value: value.constant.as_ref(), storage: storage(value) }
}

/// Places every step of a plan. Steps whose epilogue fits no kernel are split in two. `caps` is `None` on the CPU.
pub(super) fn place(
    plan: &mut Plan,
    caps: Option<&Capabilities>,
    layouts: Layouts,
    choices: &Choices,
) -> Vec<Placed> {
    let mut placed = Vec::with_capacity(plan.steps.len());
    let mut index = 0;
    while index < plan.steps.len() {
        let fused = plan.steps[index].epilogue.is_some();
        let place = match caps {
            Some(caps) => match lower(plan, index, caps, layouts, choices) {
                Ok(place) => place,
                Err(reason) if fused => {
                    let without = PlanStep { epilogue: None, ..plan.steps[index].clone() };
                    let with = std::mem::replace(&mut plan.steps[index], without);
                    let alone = lower(plan, index, caps, layouts, choices);
                    plan.steps[index] = with;
                    match alone {
                        Ok(_) => {
                            split(plan, index);
                            continue;
                        }
                        Err(_) => Placed::Cpu { reason },
                    }
                }
                Err(reason) => Placed::Cpu { reason },
            },
            None if plan.steps[index].op.role() == Role::View => Placed::View,
            None => Placed::Cpu { reason: String::new() },
        };
        let output = plan.steps[index].outputs.first().copied().flatten();
        let f32 = output.is_some_and(|id| plan.values[id.0].dtype == DType::F32);
        if matches!(place, Placed::Cpu { .. }) && fused && !f32 {
            // CPU epilogues work on f32 only.
            split(plan, index);
            continue;
        }
        placed.push(place);
        index += 1;
    }
    placed
}

/// The names of what can do a step, best first.
pub(crate) fn candidates(
    plan: &Plan,
    index: usize,
    caps: &Capabilities,
    precision: Precision,
) -> Vec<String> {
    let layouts = Layouts { f16: caps.f16, precision };
    let storage = |value: &PlanValue| layouts.storage(value);
    let step = &plan.steps[index];
    let operands = epilogue_operands(&plan.values, step, &storage);
    let lowering = step.op.lower(&problem(&plan.values, step, &operands, &storage), caps);
    let mut names: Vec<String> = Vec::new();
    for name in lowering.candidates.iter().map(Candidate::name) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The best candidate of a step on a device, or every reason against it.
fn lower(
    plan: &Plan,
    index: usize,
    caps: &Capabilities,
    layouts: Layouts,
    choices: &Choices,
) -> Result<Placed, String> {
    let step = &plan.steps[index];
    if step.op.role() == Role::View {
        return Ok(Placed::View);
    }
    let storage = |value: &PlanValue| layouts.storage(value);
    let operands = epilogue_operands(&plan.values, step, &storage);
    let problem = problem(&plan.values, step, &operands, &storage);
    let most = caps.buffer_bytes;
    let beyond = |bytes: u64| format!("a tensor of {bytes} bytes is beyond the device's buffers of {most}");
    for operand in problem.inputs.iter().flatten().chain(&problem.outputs).chain(&operands) {
        let bytes = operand.storage.map_or(0, |storage| buffer_bytes(storage, operand.len()));
        if bytes > most {
            return Err(beyond(bytes));
        }
    }
    if problem.outputs.iter().all(Operand::is_empty) {
        return Ok(Placed::Device(Candidate::default(), Vec::new()));
    }
    let mut lowering = step.op.lower(&problem, caps);
    choices.prefer(step, &mut lowering.candidates);
    let mut reasons: Vec<String> =
        lowering.refused.iter().map(|refusal| format!("{}: {}", refusal.kernel, refusal.reason)).collect();
    for candidate in lowering.candidates {
        if let Some(name) = caps.without.iter().find(|name| **name == candidate.name()) {
            reasons.push(format!("{name}: left out on this device"));
            continue;
        }
        let scratch = |index: usize| {
            let scratch = candidate.scratch.get(index)?;
            Some(buffer_bytes(scratch.storage, scratch.len))
        };
        let packed = |index: usize| {
            let (packed, storage) = candidate.packed.get(index)?;
            Some(buffer_bytes(*storage, packed.len()))
        };
        let whole = |operand: &Operand<'_>| Some(buffer_bytes(operand.storage?, operand.len()));
        let bytes = |binding: &Binding| match *binding {
            Binding::Input(index) => problem.inputs.get(index)?.as_ref().and_then(whole),
            Binding::Output(index) => problem.outputs.get(index).and_then(whole),
            Binding::Operand(index) => operands.get(index).and_then(whole),
            Binding::Packed(index) => packed(index),
            Binding::Scratch(index) => scratch(index),
        };
        let own = (0..candidate.scratch.len()).filter_map(scratch);
        let largest = own.chain((0..candidate.packed.len()).filter_map(packed)).max().unwrap_or(0);
        // A tensor beyond the binding limit takes several bindings.
        let bindings = |dispatch: &Dispatch| -> u64 {
            let tensors = dispatch.reads.iter().chain(&dispatch.writes);
            tensors.map(|tensor| u64::from(caps.pieces(bytes(tensor).unwrap_or(0)))).sum()
        };
        let most_bindings = u64::from(caps.storage_buffers);
        match candidate.dispatches.iter().find(|dispatch| bindings(dispatch) > most_bindings) {
            None if largest > most => reasons.push(beyond(largest)),
            None => return Ok(Placed::Device(candidate, reasons)),
            Some(dispatch) => reasons.push(format!(
                "{}: its tensors take {} bindings, the device has {most_bindings}",
                dispatch.kernel.variant.name,
                bindings(dispatch)
            )),
        }
    }
    Err(reasons.join("; "))
}

/// Makes two steps of one: the anchor, and its epilogue as a pointwise step.
fn split(plan: &mut Plan, index: usize) {
    let Some(epilogue) = plan.steps[index].epilogue.take() else { return };
    let step = &mut plan.steps[index];
    let Some(Some(result)) = step.outputs.first().copied() else { return };
    let between = ValueId(plan.values.len());
    let value = &plan.values[result.0];
    plan.values.push(PlanValue {
        name: Arc::from(format!("{}.anchor", value.name)),
        constant: None,
        ..value.clone()
    });
    step.outputs[0] = Some(between);
    let (anchor, rest) = step.nodes.split_at(1.min(step.nodes.len()));
    let (anchor, rest) = (anchor.to_vec(), rest.to_vec());
    step.nodes = anchor;
    let nodes = epilogue.expr.nodes.iter().map(|node| match node {
        ExprNode::Accumulator => ExprNode::Operand(0),
        ExprNode::Operand(operand) => ExprNode::Operand(operand + 1),
        other => other.clone(),
    });
    let expr = Expr { nodes: nodes.collect(), results: epilogue.expr.results.clone() };
    let inputs = std::iter::once(between).chain(epilogue.operands).map(Some).collect();
    let pointwise = PlanStep {
        op: Arc::new(Pointwise { name: "Pointwise", expr }),
        inputs,
        outputs: vec![Some(result)],
        epilogue: None,
        nodes: rest,
    };
    plan.steps.insert(index + 1, pointwise);
}

#[cfg(test)]
mod tests {
    use sardonyx_ops::Tensor;

    use super::*;

    #[test]
    fn halving_spares_small_constants() {
        let value = |dims: &[usize], constant: bool| PlanValue {
            name: "v".into(),
            dtype: DType::F32,
            dims: dims.to_vec(),
            constant: constant.then(|| Tensor::from_vec(dims, vec![0.5f32; dims.iter().product()]).unwrap()),
        };
        let halved = Layouts { f16: true, precision: Precision::F16 };
        assert_eq!(halved.storage(&value(&[SMALL], true)), Some(Storage::F32));
        assert_eq!(halved.storage(&value(&[SMALL + 1], true)), Some(Storage::F16));
        assert_eq!(halved.storage(&value(&[1], false)), Some(Storage::F16));
        let whole = Layouts { f16: false, precision: Precision::F16 };
        assert_eq!(whole.storage(&value(&[SMALL + 1], true)), Some(Storage::F32));
    }
}
