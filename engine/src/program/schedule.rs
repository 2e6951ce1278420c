//! The order of steps, the transfers between them, and how long each value lives.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use sardonyx_ops::dispatch::Binding;
use sardonyx_ops::ir::graph::ValueId;
use sardonyx_ops::plan::{Plan, PlanStep};
use sardonyx_shaders::storage::Storage;

use super::Phase;
use super::arena::{Access, Lifetime};
use super::parts::Parts;
use super::place::{Layouts, Placed};
use crate::transfer::buffer_bytes;

/// What needs memory on the device.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(super) enum DeviceKey {
    /// A value.
    Value(ValueId),
    /// Scratch memory of a step: the step, and its index there.
    Scratch(usize, usize),
}

/// Steps that run without a wait in between: first those on the device, then those on the CPU.
#[derive(Default, Debug)]
pub(super) struct Batch {
    pub(super) device: Vec<usize>,
    pub(super) cpu: Vec<usize>,
}

/// Phases with their transfers, and what needs memory when.
pub(super) struct Schedule {
    pub(super) phases: Vec<Phase>,
    pub(super) host: Vec<Lifetime<ValueId>>,
    pub(super) device: Vec<Lifetime<DeviceKey>>,
    /// What each dispatch reads and writes of it.
    pub(super) accesses: Vec<Access<DeviceKey>>,
    pub(super) staging_bytes: u64,
}

/// First and last use.
struct Spans<K>(HashMap<K, (usize, usize)>);

impl<K: Copy + Eq + Hash + Ord> Spans<K> {
    fn touch(&mut self, key: K, at: usize) {
        let span = self.0.entry(key).or_insert((at, at));
        *span = (span.0.min(at), span.1.max(at));
    }

    fn lifetimes(self, bytes: impl Fn(K) -> u64) -> Vec<Lifetime<K>> {
        let mut all: Vec<_> = self
            .0
            .into_iter()
            .map(|(key, (from, to))| Lifetime { key, bytes: bytes(key), from, to })
            .collect();
        all.sort_by_key(|lifetime| lifetime.key);
        all
    }
}

/// For each value, the one whose memory it shares.
pub(super) fn roots(plan: &Plan, placed: &[Placed]) -> Vec<ValueId> {
    let mut roots: Vec<ValueId> = (0..plan.values.len()).map(ValueId).collect();
    for (step, placed) in plan.steps.iter().zip(placed) {
        if let (Placed::View, Some(Some(from)), Some(Some(to))) =
            (placed, step.inputs.first(), step.outputs.first())
        {
            roots[to.0] = roots[from.0];
        }
    }
    roots
}

/// The value that a binding of a step names.
pub(super) fn bound_value(step: &PlanStep, binding: Binding) -> Option<ValueId> {
    match binding {
        Binding::Input(index) => step.inputs.get(index).copied().flatten(),
        Binding::Operand(index) => step.epilogue.as_ref()?.operands.get(index).copied(),
        Binding::Output(index) => step.outputs.iter().flatten().nth(index).copied(),
        Binding::Packed(_) | Binding::Scratch(_) => None,
    }
}

/// What each dispatch of a step reads and writes, constants left out.
fn accesses(
    plan: &Plan,
    step: usize,
    placed: &Placed,
    roots: &[ValueId],
    parts: &Parts,
) -> Vec<Access<DeviceKey>> {
    let Placed::Device(candidate, _) = placed else { return Vec::new() };
    let key = |binding: &Binding| match *binding {
        Binding::Scratch(index) => Some(DeviceKey::Scratch(step, index)),
        other => {
            let (root, _) = parts.holder(roots[bound_value(&plan.steps[step], other)?.0]);
            plan.values[root.0].constant.is_none().then_some(DeviceKey::Value(root))
        }
    };
    let keys = |bindings: &[Binding]| bindings.iter().filter_map(key).collect();
    candidate.dispatches.iter().map(|dispatch| (keys(&dispatch.reads), keys(&dispatch.writes))).collect()
}

/// The values that a step on the device binds; constants it only uses repacked are not among them.
pub(super) fn device_reads(plan: &Plan, step: usize, placed: &Placed) -> Vec<ValueId> {
    let Placed::Device(candidate, _) = placed else { return Vec::new() };
    let step = &plan.steps[step];
    let mut reads = Vec::new();
    for binding in candidate.dispatches.iter().flat_map(|dispatch| &dispatch.reads) {
        // Outputs that a later dispatch of the step reads are no values it takes from elsewhere.
        if !matches!(binding, Binding::Output(_))
            && let Some(value) = bound_value(step, *binding)
            && !reads.contains(&value)
        {
            reads.push(value);
        }
    }
    reads
}

/// Orders the steps: as many as can run on the device, then as many as can run on the CPU, and so on, which keeps waits
/// few.
pub(super) fn order(plan: &Plan, placed: &[Placed], roots: &[ValueId], parts: &Parts) -> Vec<Batch> {
    let mut pending: HashSet<ValueId> = HashSet::new();
    for (step, placed) in plan.steps.iter().zip(placed) {
        if !matches!(placed, Placed::View) {
            pending.extend(step.outputs.iter().flatten().map(|id| roots[id.0]));
        }
    }
    let mut left: Vec<usize> =
        (0..plan.steps.len()).filter(|&step| !matches!(placed[step], Placed::View)).collect();
    let mut batches = Vec::new();
    while !left.is_empty() {
        let mut batch = Batch::default();
        for on_device in [true, false] {
            left.retain(|&index| {
                let step = &plan.steps[index];
                let fits = matches!(placed[index], Placed::Device(..)) == on_device;
                let ready = |id: ValueId| parts.all(roots[id.0], &|root| !pending.contains(&root));
                if !fits || !step.reads().all(ready) {
                    return true;
                }
                for output in step.outputs.iter().flatten() {
                    pending.remove(&roots[output.0]);
                }
                let list = if on_device { &mut batch.device } else { &mut batch.cpu };
                list.push(index);
                false
            });
        }
        if batch.device.is_empty() && batch.cpu.is_empty() {
            // A plan is in topological order, so some step is always ready; this keeps a broken one from hanging.
            break;
        }
        batches.push(batch);
    }
    batches
}

/// Schedules a placed plan whose steps run in the order of `batches`.
pub(super) fn schedule(
    plan: &Plan,
    placed: &[Placed],
    batches: &[Batch],
    roots: &[ValueId],
    parts: &Parts,
    layouts: Layouts,
) -> Schedule {
    let holder = |root: ValueId| parts.holder(root).0;
    let device_key = |root: ValueId| DeviceKey::Value(holder(root));
    let inputs: HashSet<ValueId> = plan.inputs.iter().map(|id| roots[id.0]).collect();
    let constant = |id: ValueId| plan.values[id.0].constant.is_some();
    // Inputs and constants are on the host without a slot.
    let given = |id: ValueId| inputs.contains(&id) || constant(id);
    let mut on_host: HashSet<ValueId> = HashSet::new();
    let mut on_device: HashSet<ValueId> = HashSet::new();
    let mut host = Spans(HashMap::new());
    let mut device = Spans(HashMap::new());
    let mut phases: Vec<Phase> = Vec::new();
    let mut launches = Vec::new();
    let (mut time, mut last_download) = (0, 0);
    for batch in batches {
        let mut phase = Phase::default();
        let begin = time;
        time += 1;
        for &step in &batch.device {
            for read in device_reads(plan, step, &placed[step]) {
                let root = roots[read.0];
                if constant(root) {
                    continue;
                }
                if !parts.all(root, &|root| on_device.contains(&root)) && on_device.insert(root) {
                    phase.uploads.push(root);
                    device.touch(device_key(root), begin);
                    if !given(root) {
                        host.touch(holder(root), begin);
                    }
                }
                device.touch(device_key(root), time);
            }
            for output in plan.steps[step].outputs.iter().flatten() {
                device.touch(device_key(roots[output.0]), time);
                on_device.insert(roots[output.0]);
            }
            if let Placed::Device(candidate, _) = &placed[step] {
                for scratch in 0..candidate.scratch.len() {
                    device.touch(DeviceKey::Scratch(step, scratch), time);
                }
            }
            launches.extend(accesses(plan, step, &placed[step], roots, parts));
            time += 1;
        }
        last_download = time;
        time += 1;
        let download = |root: ValueId, phase: &mut Phase| phase.downloads.push((root, 0));
        for &step in &batch.cpu {
            for read in plan.steps[step].reads() {
                let root = roots[read.0];
                if given(root) {
                    continue;
                }
                if !parts.all(root, &|root| on_host.contains(&root)) && on_host.insert(root) {
                    download(root, &mut phase);
                    device.touch(device_key(root), last_download);
                    host.touch(holder(root), last_download);
                }
                host.touch(holder(root), time);
            }
            for output in plan.steps[step].outputs.iter().flatten() {
                host.touch(holder(roots[output.0]), time);
                on_host.insert(roots[output.0]);
            }
            time += 1;
        }
        phases.push(phase);
    }
    for output in &plan.outputs {
        let root = roots[output.0];
        if given(root) {
            continue;
        }
        if !parts.all(root, &|root| on_host.contains(&root))
            && on_host.insert(root)
            && let Some(phase) = phases.last_mut()
        {
            phase.downloads.push((root, 0));
            device.touch(device_key(root), last_download);
            host.touch(holder(root), last_download);
        }
        host.touch(holder(root), time);
    }
    let storage = |id: ValueId| layouts.storage(&plan.values[id.0]).unwrap_or(Storage::U32);
    let value_bytes = |id: ValueId| {
        let value = &plan.values[id.0];
        buffer_bytes(storage(id), value.dims.iter().product())
    };
    let mut staging_bytes = 0;
    for phase in &mut phases {
        let mut offset = 0;
        for (value, at) in &mut phase.downloads {
            *at = offset;
            offset += value_bytes(*value);
        }
        staging_bytes = staging_bytes.max(offset);
    }
    Schedule {
        host: host.lifetimes(|id| {
            let value = &plan.values[id.0];
            value.dtype.bytes_for(value.dims.iter().product()).unwrap_or(0) as u64
        }),
        device: device.lifetimes(|key| match key {
            DeviceKey::Value(id) => value_bytes(id),
            DeviceKey::Scratch(step, index) => match &placed[step] {
                Placed::Device(candidate, _) => {
                    let scratch = candidate.scratch[index];
                    buffer_bytes(scratch.storage, scratch.len)
                }
                _ => 0,
            },
        }),
        accesses: launches,
        phases,
        staging_bytes,
    }
}
