//! From a plan to a program.

use std::sync::Arc;

use sardonyx_ops::ir::graph::ValueId;
use sardonyx_ops::plan::Plan;
use sardonyx_ops::{DType, Role};

use super::place::{self, Layouts, Placed};
use super::resources::{self, Resources};
use super::schedule::{self, Batch, DeviceKey};
use super::{BufferPlace, CpuStep, DevicePlace, HostPlace, Program};
use super::{slots, timed};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::memory::MemoryPlan;
use crate::placement::{Place, PlacedStep, Placement};
use crate::session::{Fallback, Precision};
use crate::transfer::buffer_bytes;

/// The choices of a session that a program depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) fallback: Fallback,
    pub(crate) precision: Precision,
    pub(crate) memory_budget: Option<u64>,
    /// The results of all steps are outputs too.
    pub(crate) taps: bool,
}

/// Binds a plan to a device.
///
/// # Errors
/// When a step must fall back to the CPU and may not, memory exceeds the budget, or the device refuses.
pub(crate) fn build(mut plan: Plan, device: &Device, settings: Settings) -> Result<Program> {
    let caps = device.capabilities();
    let layouts = Layouts { f16: caps.is_some_and(|caps| caps.f16), precision: settings.precision };
    let placed = place::place(&mut plan, caps, layouts);
    if device.gpu().is_some() && settings.fallback == Fallback::Deny {
        deny_fallback(&plan, &placed, device)?;
    }
    let wanted = plan.outputs.len();
    if settings.taps {
        tap(&mut plan, &placed);
    }
    let roots = schedule::roots(&plan, &placed);
    let schedule = schedule::schedule(&plan, &placed, &roots, layouts);
    let limit = caps.map_or(u64::MAX, |caps| caps.binding_bytes.min(caps.buffer_bytes));
    let host = slots::assign(schedule.host, u64::MAX);
    let on_device = slots::assign(schedule.device, limit);
    align_constants(&mut plan, &schedule.batches, &roots);
    let cpu = cpu_steps(&plan, &schedule.batches)?;
    let scratch_bytes =
        cpu.iter().filter_map(|step| Some(step.kernel.as_ref()?.scratch())).max().unwrap_or(0);

    let pending = resources::plan(&plan, &placed, &schedule.batches, &roots, &on_device.place, layouts, caps);
    let memory = MemoryPlan {
        device_weights: pending.weight_bytes(),
        device_activations: on_device.bytes.iter().sum(),
        device_staging: schedule.staging_bytes,
        host_activations: host.bytes.iter().sum(),
        host_scratch: scratch_bytes as u64,
    };
    check_budget(&plan, settings, &memory)?;
    let counts = pending.dispatch_counts();
    let details = timed::details(&plan, &placed, &cpu, layouts);
    let Resources { dispatches, weights, params } = match device.gpu() {
        Some(gpu) => pending.make(gpu, limit)?,
        None => Resources::default(),
    };

    let mut phases = schedule.phases;
    let (mut first_dispatch, mut first_cpu) = (0, 0);
    for (phase, batch) in phases.iter_mut().zip(&schedule.batches) {
        let launched: usize = batch.device.iter().map(|step| counts.get(step).copied().unwrap_or(0)).sum();
        phase.dispatches = first_dispatch..first_dispatch + launched;
        phase.cpu = first_cpu..first_cpu + batch.cpu.len();
        first_dispatch += launched;
        first_cpu += batch.cpu.len();
    }
    let host_place = |id: usize| {
        let id = ValueId(id);
        if let Some(index) = plan.inputs.iter().position(|input| roots[input.0] == id) {
            return Some(HostPlace::Input(index));
        }
        if plan.values[id.0].constant.is_some() {
            return Some(HostPlace::Constant);
        }
        host.place.get(&id).map(|&slot| HostPlace::Slot(slot))
    };
    let device_place = |id: usize| {
        let slot = *on_device.place.get(&DeviceKey::Value(ValueId(id)))?;
        let value = &plan.values[id];
        let storage = layouts.storage(value.dtype)?;
        let bytes = buffer_bytes(storage, value.dims.iter().product());
        Some(DevicePlace { buffer: BufferPlace::Slot { slot, bytes }, storage })
    };
    Ok(Program {
        host: (0..plan.values.len()).map(host_place).collect(),
        device: (0..plan.values.len()).map(device_place).collect(),
        placement: ordered_placement(&plan, &placed, &schedule.batches, dispatches.len(), device),
        phases,
        dispatches,
        cpu,
        host_slots: host.bytes,
        device_slots: on_device.bytes,
        weights,
        params,
        staging_bytes: schedule.staging_bytes,
        scratch_bytes,
        details,
        wanted,
        memory,
        roots,
        inputs: plan.inputs,
        outputs: plan.outputs,
        values: plan.values,
    })
}

/// Makes the results of all steps outputs, after those of the plan.
fn tap(plan: &mut Plan, placed: &[Placed]) {
    for (step, placed) in plan.steps.iter().zip(placed) {
        if !matches!(placed, Placed::View) {
            plan.outputs.extend(step.outputs.iter().flatten());
        }
    }
}

/// The first step that would fall back, as an error.
fn deny_fallback(plan: &Plan, placed: &[Placed], device: &Device) -> Result<()> {
    for (step, placed) in plan.steps.iter().zip(placed) {
        if let Placed::Cpu { reason } = placed {
            return Err(Error::Unsupported {
                node: step.name().to_owned(),
                op: step.op.name(),
                device: device.info().id.clone(),
                why: reason.clone(),
            });
        }
    }
    Ok(())
}

fn check_budget(plan: &Plan, settings: Settings, memory: &MemoryPlan) -> Result<()> {
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

/// Constants that CPU steps read are aligned for their element type; in a mapped file they lie anywhere.
fn align_constants(plan: &mut Plan, batches: &[Batch], roots: &[ValueId]) {
    for &step in batches.iter().flat_map(|batch| &batch.cpu) {
        let reads: Vec<ValueId> = plan.steps[step].reads().map(|id| roots[id.0]).collect();
        for id in reads {
            let constant = &mut plan.values[id.0].constant;
            *constant = constant.take().map(sardonyx_ops::Tensor::aligned);
        }
    }
}

/// Kernels of the steps that run on the CPU, prepared for their sizes.
fn cpu_steps(plan: &Plan, batches: &[Batch]) -> Result<Vec<CpuStep>> {
    let storage = |_: DType| None;
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
            epilogue: step.epilogue.as_ref().map(|e| (e.expr.clone(), e.operands.clone())),
        })
    };
    batches.iter().flat_map(|batch| &batch.cpu).map(prepare).collect()
}

/// Where the steps of a plan go, in the plan's order, without anything being made on the device.
pub(crate) fn placement(mut plan: Plan, device: &Device, precision: Precision) -> Placement {
    let caps = device.capabilities();
    let layouts = Layouts { f16: caps.is_some_and(|caps| caps.f16), precision };
    let placed = place::place(&mut plan, caps, layouts);
    let steps = (0..placed.len()).map(|index| placed_step(&plan, &placed, index)).collect();
    Placement { steps, dispatches: 0, gpu: device.gpu().is_some() }
}

/// Where the steps go, in the order in which they run.
fn ordered_placement(
    plan: &Plan,
    placed: &[Placed],
    batches: &[Batch],
    dispatches: usize,
    device: &Device,
) -> Placement {
    let ordered = batches.iter().flat_map(|batch| batch.device.iter().chain(&batch.cpu)).copied();
    let views = (0..placed.len()).filter(|&index| matches!(placed[index], Placed::View));
    let steps = ordered.chain(views).map(|index| placed_step(plan, placed, index)).collect();
    Placement { steps, dispatches, gpu: device.gpu().is_some() }
}

fn placed_step(plan: &Plan, placed: &[Placed], index: usize) -> PlacedStep {
    PlacedStep {
        op: plan.steps[index].op.name(),
        nodes: plan.steps[index].nodes.clone(),
        place: match &placed[index] {
            Placed::View => Place::View,
            Placed::Device(candidate) => Place::Device {
                kernels: candidate.dispatches.iter().map(|d| d.kernel.variant.name).collect(),
            },
            Placed::Cpu { reason } => Place::Cpu { reason: reason.clone() },
        },
    }
}
