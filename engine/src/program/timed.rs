//! Running a program with the time of each step taken.

use std::time::Instant;

use sardonyx_ops::ir::graph::ValueId;
use sardonyx_ops::plan::{Plan, PlanValue};
use sardonyx_shaders::storage::Storage;

use super::place::{self, Layouts, Placed};
use super::{Context, CpuStep, Phase, Program, StepDetail, WAIT_LIMIT};
use crate::device::Gpu;
use crate::error::Result;
use crate::profile::{HostStage, Mark, ProfiledStep, Recorder};

/// What is known about each step of a placed plan, and whether it is `tapped`, which none is where that is empty.
pub(super) fn details(
    plan: &Plan,
    placed: &[Placed],
    tapped: &[bool],
    cpu: &[CpuStep],
    layouts: Layouts,
) -> Vec<StepDetail> {
    let on_host = |_: &PlanValue| None;
    let on_device = |value: &PlanValue| layouts.storage(value);
    let detail = |(index, (step, placed)): (usize, (&_, &Placed))| {
        let step: &sardonyx_ops::plan::PlanStep = step;
        let device = matches!(placed, Placed::Device(..));
        let storage: &dyn Fn(&PlanValue) -> Option<Storage> = if device { &on_device } else { &on_host };
        let operands = place::epilogue_operands(&plan.values, step, storage);
        let problem = place::problem(&plan.values, step, &operands, storage);
        StepDetail {
            op: step.op.name(),
            is_tapped: tapped.get(index).copied().unwrap_or(false),
            nodes: step.nodes.clone(),
            kernels: match placed {
                Placed::View => Vec::new(),
                Placed::Device(candidate, _) => {
                    candidate.dispatches.iter().map(|dispatch| dispatch.kernel.variant.name).collect()
                }
                Placed::Cpu { .. } => {
                    let kernel = cpu.iter().find(|cpu| cpu.step == index).and_then(|cpu| cpu.kernel.as_ref());
                    vec![kernel.map_or("reference", |kernel| kernel.name())]
                }
            },
            on_device: device,
            reads: step.reads().collect(),
            writes: step.outputs.iter().flatten().copied().collect(),
            cost: step.op.cost(&problem),
        }
    };
    plan.steps.iter().zip(placed).enumerate().map(detail).collect()
}

impl Program {
    /// The value whose memory a value shares.
    pub(crate) fn root(&self, id: ValueId) -> ValueId {
        self.roots[id.0]
    }

    /// What a profile says of the steps.
    pub(crate) fn profiled_steps(&self) -> Vec<ProfiledStep> {
        let list = |ids: &[ValueId]| {
            let values = ids.iter().map(|id| &self.values[id.0]);
            values.map(|value| (value.dtype, value.dims.clone())).collect()
        };
        let step = |detail: &StepDetail| ProfiledStep {
            op: detail.op,
            nodes: detail.nodes.clone(),
            kernels: detail.kernels.clone(),
            on_device: detail.on_device,
            inputs: list(&detail.reads),
            outputs: list(&detail.writes),
            flops: detail.cost.flops,
            bytes: detail.cost.bytes,
        };
        self.details.iter().map(step).collect()
    }

    /// Launches and waits, with times taken of each launch. In contrast to a plain run it waits even when nothing is
    /// read back, so that no time on the device hides behind steps on the CPU.
    pub(super) fn submit_timed(
        &self,
        phase: &Phase,
        context: &Context,
        gpu: &Gpu,
        recorder: &mut Recorder<'_>,
    ) -> Result<()> {
        let mut encoding = HostStage::Encode.begin();
        let Some(profiler) = recorder.profiler() else { return Ok(()) };
        let part = profiler.part();
        let mark = |index: usize| {
            let launch = &self.launches[index];
            Mark { part, step: launch.step, kernel: launch.number }
        };
        let encoder = || gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor { label: None });
        let first = phase.launches.start;
        let mut last = encoder();
        if let Some(probes) = profiler.probes() {
            let marks: Vec<Mark> = phase.launches.clone().map(mark).collect();
            if !marks.is_empty() {
                let launch =
                    |pass: &mut wgpu::ComputePass<'_>, index| self.launch(pass, first + index, context);
                probes.encode(gpu, &mut last, &marks, launch)?;
            }
        } else {
            recorder.end(encoding);
            for index in phase.launches.clone() {
                let recording = HostStage::Encode.begin();
                let start = recording.start;
                let mut alone = encoder();
                let mut pass = alone.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                self.launch(&mut pass, index, context);
                drop(pass);
                let submission = gpu.queue().submit([alone.finish()]);
                recorder.end(recording);
                let waiting = HostStage::Wait.begin();
                gpu.wait(Some(submission), WAIT_LIMIT)?;
                recorder.end(waiting);
                if let Some(profiler) = recorder.profiler() {
                    profiler.submission(mark(index), start);
                }
            }
            encoding = HostStage::Encode.begin();
        }
        self.copy_downloads(phase, context, &mut last);
        let commands = last.finish();
        let submitted = Instant::now();
        let submission = gpu.queue().submit([commands]);
        recorder.end(encoding);
        let waiting = HostStage::Wait.begin();
        gpu.wait(Some(submission), WAIT_LIMIT)?;
        recorder.end(waiting);
        if let Some(probes) = recorder.profiler().and_then(|profiler| profiler.probes()) {
            probes.done(submitted);
        }
        Ok(())
    }
}
