//! From a plan to a program.

use std::collections::HashMap;
use std::sync::Arc;

use rayon::prelude::*;
use sardonyx_ops::Role;
use sardonyx_ops::ir::graph::ValueId;
use sardonyx_ops::operator::Cost;
use sardonyx_ops::plan::{Plan, PlanStep, PlanValue};
use sardonyx_shaders::Capabilities;

use super::choices::Choices;
use super::place::{self, Layouts, Placed};
use super::resources::{self, Pending, Resources};
use super::rounding;
use super::schedule::{self, Batch, DeviceKey};
use super::weights::Known;
use super::{
    BufferPlace, CpuStep, DevicePlace, HostPlace, LINE, Phase, Program, StepDetail, aligned, arena, host,
    in_place, parts, timed, verify,
};
use crate::device::{Compiler, Device, Gpu};
use crate::error::{Error, Result};
use crate::memory::MemoryPlan;
use crate::placement::{Place, PlacedStep, Placement};
use crate::session::{Fallback, Precision};
use crate::transfer::buffer_bytes;

/// The choices of a session that a program depends on.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) fallback: Fallback,
    pub(crate) precision: Precision,
    pub(crate) memory_budget: Option<u64>,
    /// The results of all steps are outputs too.
    pub(crate) taps: bool,
    /// Kernels that somebody chose.
    pub(crate) choices: Choices,
}

/// A program that is decided but not made on the device, with what it was decided from.
pub(super) struct Decided<'a> {
    pub(super) program: Program,
    pub(super) steps: Vec<PlanStep>,
    pub(super) placed: Vec<Placed>,
    pub(super) layouts: Layouts,
    pending: Pending<'a>,
}

/// Binds a plan to a device.
///
/// # Errors
/// When a step must fall back to the CPU and may not, memory exceeds the budget, or the device refuses.
pub(crate) fn build(
    plan: Plan,
    device: &Device,
    settings: Settings,
    compiler: Compiler<'_>,
) -> Result<Program> {
    let caps = device.capabilities();
    let known = device.gpu().map(Gpu::weights);
    let decided = tracing::debug_span!("decide")
        .in_scope(|| decide(plan, (caps, known), &device.info().id, &settings))?;
    tracing::debug_span!("verify").in_scope(|| {
        verify::verify(&decided.program, &decided.steps, &decided.placed, decided.layouts, caps)
    })?;
    let mut program = decided.program;
    if let Some(gpu) = device.gpu() {
        program.made = decided.pending.make(gpu, &program.launches, compiler)?;
    }
    Ok(program)
}

/// Decides everything about a program. `caps` is `None` on the CPU; `known` are the weights that a device has.
pub(super) fn decide<'a>(
    mut plan: Plan,
    (caps, known): (Option<&Capabilities>, Option<&'a Known>),
    device: &str,
    settings: &Settings,
) -> Result<Decided<'a>> {
    let layouts = Layouts { f16: caps.is_some_and(|caps| caps.f16), precision: settings.precision };
    let lines = rounding::lines(&plan, layouts);
    let mut placed = place::place(&mut plan, caps, layouts, &settings.choices);
    if caps.is_some() && settings.fallback == Fallback::Deny {
        deny_fallback(&plan, &placed, device)?;
    }
    let wanted = plan.outputs.len();
    let tapped = if settings.taps { tap(&mut plan, &placed) } else { Vec::new() };
    let roots = schedule::roots(&plan, &placed);
    let (alignment, limit) = (resources::alignment(caps), caps.map_or(u64::MAX, |caps| caps.buffer_bytes));
    let mut parts = parts::find(&plan, &mut placed, &roots, layouts, caps);
    let batches = schedule::order(&plan, &placed, &roots, &parts);
    in_place::find(&plan, &placed, &batches, &roots, &mut parts);
    let schedule = schedule::schedule(&plan, &placed, &batches, &roots, &parts, layouts);
    let on_host = arena::pack(&schedule.host, LINE, u64::MAX);
    let on_device = arena::arrange(&schedule.device, &schedule.accesses, alignment, limit);
    let mut cpu = cpu_steps(&plan, &batches)?;
    align_constants(&mut plan, &cpu, &roots);
    let scratch_bytes =
        cpu.iter().filter_map(|step| Some(step.kernel.as_ref()?.scratch())).max().unwrap_or(0);
    let device_place = |id: usize| {
        let value = &plan.values[id];
        let (holder, from) = parts.holder(ValueId(id));
        let arena::Spot { arena, offset } = *on_device.place.get(&DeviceKey::Value(holder))?;
        let storage = layouts.storage(value)?;
        let offset = offset + (from * storage.bytes()) as u64;
        let len: usize = value.dims.iter().product();
        // Behind a part lies another one.
        let bytes = match holder.0 == id {
            true => buffer_bytes(storage, len),
            false => (len.next_multiple_of(4) * storage.bytes()) as u64,
        };
        Some(DevicePlace { buffer: BufferPlace::Arena { arena, offset, bytes }, storage })
    };
    let device: Vec<_> = (0..plan.values.len()).map(device_place).collect();
    let places = resources::Memory { roots: &roots, places: &device, spots: &on_device.place };
    let mut pending = resources::plan(&plan, &placed, &batches, &places, &lines, layouts, (caps, known));
    let memory = MemoryPlan {
        device_weights: pending.weight_buffers().iter().sum(),
        device_activations: on_device.total(),
        device_live: arena::live(&schedule.device),
        device_staging: schedule.staging_bytes,
        host_activations: on_host.total(),
        host_live: arena::live(&schedule.host),
        host_scratch: scratch_bytes as u64,
    };
    check_budget(&plan, settings, &memory)?;
    let details = timed::details(&plan, &placed, &tapped, &cpu, layouts);
    let phases = phases(schedule.phases, &batches, &pending.dispatch_counts());
    let host_place = |id: usize| {
        let id = ValueId(id);
        if let Some(index) = plan.inputs.iter().position(|input| roots[input.0] == id) {
            return Some(HostPlace::Input(index));
        }
        if plan.values[id.0].constant.is_some() {
            return Some(HostPlace::Constant);
        }
        let (holder, from) = parts.holder(id);
        let spot = on_host.place.get(&holder)?;
        let bytes = plan.values[id.0].dtype.bytes_for(from)?;
        Some(HostPlace::Arena { line: (spot.offset / LINE) as usize + bytes / LINE as usize })
    };
    let host: Vec<_> = (0..plan.values.len()).map(host_place).collect();
    for step in &mut cpu {
        let missing = || Error::Internal("an output has no place on the host".to_owned());
        step.writes = host::writes(&plan.values, &roots, &host, &step.outputs).ok_or_else(missing)?;
    }
    let splits = splits(&details, &placed, &batches);
    let launches = std::mem::take(&mut pending.launches);
    let program = Program {
        shared: plan.outputs.iter().map(|id| roots[id.0]).filter(|&root| parts.shares(root)).collect(),
        host,
        device,
        placement: ordered_placement(&plan, &placed, &batches, launches.len(), caps.is_some()),
        phases,
        launches,
        splits,
        cpu,
        host_bytes: on_host.total(),
        device_arenas: on_device.bytes,
        weight_buffers: pending.weight_buffers(),
        param_bytes: pending.params.len() as u64,
        made: Resources::default(),
        staging_bytes: schedule.staging_bytes,
        scratch_bytes,
        details,
        wanted,
        memory,
        roots,
        inputs: plan.inputs,
        outputs: plan.outputs,
        values: plan.values,
    };
    Ok(Decided { program, steps: plan.steps, placed, layouts, pending })
}

/// Phases with the launches and CPU steps of their batches.
fn phases(mut phases: Vec<Phase>, batches: &[Batch], counts: &HashMap<usize, usize>) -> Vec<Phase> {
    let (mut first_launch, mut first_cpu) = (0, 0);
    for (phase, batch) in phases.iter_mut().zip(batches) {
        let launched: usize = batch.device.iter().map(|step| counts.get(step).copied().unwrap_or(0)).sum();
        phase.launches = first_launch..first_launch + launched;
        phase.cpu = first_cpu..first_cpu + batch.cpu.len();
        first_launch += launched;
        first_cpu += batch.cpu.len();
    }
    phases
}

/// Operations and bytes of one submission. The slowest GPUs that models run on do 50 GFLOP/s and move 10 GB/s: that is a
/// tenth of a second, far from the two seconds after which systems take a device away.
const SUBMITTED: Cost = Cost { flops: 5_000_000_000, bytes: 1_000_000_000 };

/// The launches that begin a new submission, by counted work.
fn splits(details: &[StepDetail], placed: &[Placed], batches: &[Batch]) -> Vec<usize> {
    let (mut splits, mut next) = (Vec::new(), 0);
    for batch in batches {
        let mut load = 0.0;
        for &index in &batch.device {
            let (cost, Placed::Device(candidate, _)) = (details[index].cost, &placed[index]) else {
                continue;
            };
            let share = |work: u64, most: u64| work as f64 / most as f64;
            let whole = share(cost.flops, SUBMITTED.flops).max(share(cost.bytes, SUBMITTED.bytes));
            for _ in &candidate.dispatches {
                let own = whole / candidate.dispatches.len() as f64;
                if load > 0.0 && load + own > 1.0 {
                    splits.push(next);
                    load = 0.0;
                }
                load += own;
                next += 1;
            }
        }
    }
    splits
}

/// Makes the results of all steps outputs, after those of the plan, and says which steps these are: not those that only show a
/// value under other dimensions, but also those that turn out to need no copy.
fn tap(plan: &mut Plan, placed: &[Placed]) -> Vec<bool> {
    let tapped: Vec<bool> = placed.iter().map(|placed| !matches!(placed, Placed::View)).collect();
    let steps = plan.steps.iter().zip(&tapped).filter(|(_, tapped)| **tapped);
    plan.outputs.extend(steps.flat_map(|(step, _)| step.outputs.iter().flatten()));
    tapped
}

/// The first step that would fall back, as an error.
fn deny_fallback(plan: &Plan, placed: &[Placed], device: &str) -> Result<()> {
    for (step, placed) in plan.steps.iter().zip(placed) {
        if let Placed::Cpu { reason } = placed {
            return Err(Error::Unsupported {
                node: step.name().to_owned(),
                op: step.op.name(),
                device: device.to_owned(),
                why: reason.clone(),
            });
        }
    }
    Ok(())
}

fn check_budget(plan: &Plan, settings: &Settings, memory: &MemoryPlan) -> Result<()> {
    let Some(allowed) = settings.memory_budget else { return Ok(()) };
    let asked = memory.total();
    if asked <= allowed {
        return Ok(());
    }
    let mut largest: Vec<(usize, &str)> = plan
        .values
        .iter()
        .map(|value| (value.dims.iter().product::<usize>() * value.dtype.bits() / 8, &*value.name))
        .collect();
    largest.sort_unstable_by(|a, b| b.cmp(a));
    let names: Vec<String> =
        largest.iter().take(3).map(|(bytes, name)| format!("\"{name}\" {bytes} bytes")).collect();
    Err(Error::Memory { what: format!("this model (largest tensors: {})", names.join(", ")), asked, allowed })
}

/// Constants whose elements are read on the CPU are aligned for their type; in a mapped file they lie anywhere. Those that kernels hold
/// in forms of their own stay there.
fn align_constants(plan: &mut Plan, cpu: &[CpuStep], roots: &[ValueId]) {
    for step in cpu {
        let read = |index: usize| step.kernel.as_ref().is_none_or(|kernel| kernel.reads_elements(index));
        let inputs = step.inputs.iter().enumerate().filter(|(index, _)| read(*index));
        let operands = step.epilogue.iter().flat_map(|(_, operands)| operands);
        for id in inputs.filter_map(|(_, id)| id.as_ref()).chain(operands) {
            if plan.values[id.0].dtype.bits() > 8 {
                let constant = &mut plan.values[roots[id.0].0].constant;
                *constant = constant.take().map(aligned::aligned);
            }
        }
    }
}

/// Kernels of the steps that run on the CPU, prepared for their sizes, which may put weights in another order.
fn cpu_steps(plan: &Plan, batches: &[Batch]) -> Result<Vec<CpuStep>> {
    let storage = |_: &PlanValue| None;
    let prepare = |&index: &usize| {
        let step = &plan.steps[index];
        let node: Arc<str> = step.name().into();
        let operands = place::epilogue_operands(&plan.values, step, &storage);
        let problem = place::problem(&plan.values, step, &operands, &storage);
        let kernel = step.op.cpu(&problem).map_err(|source| Error::Step {
            node: node.to_string(),
            op: step.op.name(),
            source,
        })?;
        debug_assert!(step.op.role() != Role::View, "views take no time");
        Ok(CpuStep {
            step: index,
            op: Arc::clone(&step.op),
            node,
            kernel,
            inputs: step.inputs.clone(),
            outputs: step.outputs.clone(),
            writes: Vec::new(),
            epilogue: step.epilogue.as_ref().map(|e| (e.expr.clone(), e.operands.clone())),
        })
    };
    let steps: Vec<usize> = batches.iter().flat_map(|batch| &batch.cpu).copied().collect();
    steps.par_iter().map(prepare).collect()
}

/// Where the steps of a plan go, in the plan's order, without anything being made on the device.
pub(crate) fn placement(mut plan: Plan, device: &Device, settings: &Settings) -> Placement {
    let caps = device.capabilities();
    let layouts = Layouts { f16: caps.is_some_and(|caps| caps.f16), precision: settings.precision };
    let mut placed = place::place(&mut plan, caps, layouts, &settings.choices);
    let roots = schedule::roots(&plan, &placed);
    parts::find(&plan, &mut placed, &roots, layouts, caps);
    let steps = (0..placed.len()).map(|index| placed_step(&plan, &placed, index)).collect();
    Placement { steps, dispatches: 0, gpu: device.gpu().is_some() }
}

/// Where the steps go, in the order in which they run.
fn ordered_placement(
    plan: &Plan,
    placed: &[Placed],
    batches: &[Batch],
    dispatches: usize,
    gpu: bool,
) -> Placement {
    let ordered = batches.iter().flat_map(|batch| batch.device.iter().chain(&batch.cpu)).copied();
    let views = (0..placed.len()).filter(|&index| matches!(placed[index], Placed::View));
    let steps = ordered.chain(views).map(|index| placed_step(plan, placed, index)).collect();
    Placement { steps, dispatches, gpu }
}

fn placed_step(plan: &Plan, placed: &[Placed], index: usize) -> PlacedStep {
    PlacedStep {
        op: plan.steps[index].op.name(),
        nodes: plan.steps[index].nodes.clone(),
        refused: match &placed[index] {
            Placed::Device(_, reasons) => reasons.clone(),
            _ => Vec::new(),
        },
        place: match &placed[index] {
            Placed::View => Place::View,
            Placed::Device(candidate, _) => Place::Device {
                kernels: candidate.dispatches.iter().map(|d| d.kernel.variant.name).collect(),
            },
            Placed::Cpu { reason } => Place::Cpu { reason: reason.clone() },
        },
    }
}
