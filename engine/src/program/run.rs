//! Replaying a program.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sardonyx_ops::finish::Finish;
use sardonyx_ops::ir::graph::ValueId;
use sardonyx_ops::ir::view::{View, ViewMut};
use sardonyx_ops::{CpuRun, OpError, Tensor};

use super::{BufferPlace, CpuStep, HostPlace, Phase, Program};
use crate::device::{Device, Gpu};
use crate::error::{Error, Result};
use crate::profile::{HostStage, Recorder};
use crate::transfer::{from_device, to_device};

/// The longest wait for the device before it counts as hung.
pub(crate) const WAIT_LIMIT: Duration = Duration::from_secs(300);

/// A cache line, so that host memory is aligned for every kernel.
#[repr(C, align(64))]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Line([u8; 64]);

/// The memory of one run at a time.
pub(crate) struct Context {
    host: Vec<Vec<Line>>,
    scratch: Vec<Line>,
    device: Vec<wgpu::Buffer>,
    groups: Vec<wgpu::BindGroup>,
    staging: Option<wgpu::Buffer>,
}

fn lines(bytes: u64) -> Result<Vec<Line>> {
    let count = usize::try_from(bytes.div_ceil(64)).unwrap_or(usize::MAX);
    let mut all = Vec::new();
    all.try_reserve_exact(count).map_err(|_| Error::Memory {
        what: "activations on the host".to_owned(),
        asked: bytes,
        allowed: 0,
    })?;
    all.resize(count, Line([0; 64]));
    Ok(all)
}

impl Context {
    /// Overwrites all memory with `0xFF`.
    pub(crate) fn poison(&mut self, device: &Device) -> Result<()> {
        for lines in self.host.iter_mut().chain([&mut self.scratch]) {
            lines.fill(Line([0xFF; 64]));
        }
        let Some(gpu) = device.gpu() else { return Ok(()) };
        for buffer in &self.device {
            let size = usize::try_from(buffer.size()).unwrap_or(0);
            gpu.queue().write_buffer(buffer, 0, &vec![0xFF; size]);
        }
        gpu.queue().submit(None);
        gpu.check()
    }
}

impl Program {
    /// Some step runs on the CPU.
    pub(crate) fn uses_cpu(&self) -> bool {
        !self.cpu.is_empty()
    }

    /// Makes the memory for one run at a time.
    pub(crate) fn context(&self, device: &Device) -> Result<Context> {
        let host: Result<Vec<_>> = self.host_slots.iter().map(|&bytes| lines(bytes)).collect();
        let mut context = Context {
            host: host?,
            scratch: lines(self.scratch_bytes as u64)?,
            device: Vec::new(),
            groups: Vec::new(),
            staging: None,
        };
        let Some(gpu) = device.gpu() else { return Ok(context) };
        for &size in &self.device_slots {
            let usage =
                wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
            context.device.push(buffer(gpu, "activations", size, usage)?);
        }
        if self.staging_bytes > 0 {
            let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
            context.staging = Some(buffer(gpu, "read-back", self.staging_bytes, usage)?);
        }
        for dispatch in &self.dispatches {
            let storage = dispatch.bindings.iter().map(|place| self.binding(&context, *place));
            let uniform = dispatch.params.iter().filter_map(|&(offset, size)| {
                Some(wgpu::BufferBinding {
                    buffer: self.params.as_ref()?,
                    offset,
                    size: wgpu::BufferSize::new(size),
                })
            });
            let entries: Vec<wgpu::BindGroupEntry<'_>> = storage
                .chain(uniform)
                .enumerate()
                .map(|(index, binding)| wgpu::BindGroupEntry {
                    binding: index as u32,
                    resource: wgpu::BindingResource::Buffer(binding),
                })
                .collect();
            let group = gpu.scoped(|| {
                gpu.device().create_bind_group(&wgpu::BindGroupDescriptor {
                    label: None,
                    layout: &dispatch.pipeline.layout,
                    entries: &entries,
                })
            })?;
            context.groups.push(group);
        }
        Ok(context)
    }

    fn binding<'c>(&'c self, context: &'c Context, place: BufferPlace) -> wgpu::BufferBinding<'c> {
        match place {
            BufferPlace::Slot { slot, bytes } => wgpu::BufferBinding {
                buffer: &context.device[slot],
                offset: 0,
                size: wgpu::BufferSize::new(bytes),
            },
            BufferPlace::Weights { buffer, offset, bytes } => wgpu::BufferBinding {
                buffer: &self.weights[buffer],
                offset,
                size: wgpu::BufferSize::new(bytes),
            },
        }
    }

    /// Runs once. `inputs` are in the order of [`Program::inputs`], checked and aligned.
    pub(crate) fn run(
        &self,
        context: &mut Context,
        device: &Device,
        inputs: &[Tensor],
        check: &(dyn Fn() -> Result<()> + Sync),
        recorder: &mut Recorder<'_>,
    ) -> Result<Vec<Tensor>> {
        for phase in &self.phases {
            check()?;
            if let Some(gpu) = device.gpu() {
                self.run_device(phase, context, gpu, inputs, recorder)?;
            }
            let start = std::time::Instant::now();
            for step in &self.cpu[phase.cpu.clone()] {
                check()?;
                let begun = recorder.step_begins();
                self.run_cpu(step, context, inputs).map_err(|source| Error::Step {
                    node: step.node.to_string(),
                    op: step.op.name(),
                    source,
                })?;
                recorder.step_ends(step.step, begun);
            }
            recorder.stage(HostStage::Steps, start);
        }
        let start = std::time::Instant::now();
        let outputs = self
            .outputs
            .iter()
            .map(|&id| {
                let value = &self.values[id.0];
                let view = self.view(id, &context.host, inputs);
                let tensor = match self.host[self.roots[id.0].0] {
                    Some(HostPlace::Input(index)) => inputs[index].reshaped(&value.dims).ok(),
                    Some(HostPlace::Constant) => self.values[self.roots[id.0].0]
                        .constant
                        .as_ref()
                        .and_then(|c| c.reshaped(&value.dims).ok()),
                    _ => view.map(|view| view.to_tensor()),
                };
                tensor.ok_or_else(|| Error::Internal(format!("output \"{}\" was not computed", value.name)))
            })
            .collect::<Result<Vec<_>>>()?;
        recorder.stage(HostStage::ReadBack, start);
        Ok(outputs)
    }

    fn run_device(
        &self,
        phase: &Phase,
        context: &mut Context,
        gpu: &Gpu,
        inputs: &[Tensor],
        recorder: &mut Recorder<'_>,
    ) -> Result<()> {
        if phase.uploads.is_empty() && phase.dispatches.is_empty() && phase.downloads.is_empty() {
            return Ok(());
        }
        let start = std::time::Instant::now();
        for &id in &phase.uploads {
            let place =
                self.device[id.0].ok_or_else(|| Error::Internal("an upload without place".to_owned()))?;
            let BufferPlace::Slot { slot, .. } = place.buffer else { continue };
            if let Some(view) = self.view(id, &context.host, inputs)
                && !view.is_empty()
            {
                gpu.queue().write_buffer(&context.device[slot], 0, &to_device(&view, place.storage));
            }
        }
        recorder.stage(HostStage::Upload, start);
        if recorder.profiler().is_some() {
            self.submit_timed(phase, context, gpu, recorder)?;
            return self.finish_device(phase, context, gpu, recorder);
        }
        let start = std::time::Instant::now();
        let mut encoder =
            gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor { label: None });
        if !phase.dispatches.is_empty() {
            let mut pass = encoder
                .begin_compute_pass(&wgpu::ComputePassDescriptor { label: None, timestamp_writes: None });
            for index in phase.dispatches.clone() {
                self.launch(&mut pass, index, context);
            }
        }
        self.copy_downloads(phase, context, &mut encoder);
        let submission = gpu.queue().submit([encoder.finish()]);
        recorder.stage(HostStage::Encode, start);
        if phase.downloads.is_empty() {
            return gpu.check();
        }
        let start = std::time::Instant::now();
        gpu.wait(Some(submission), WAIT_LIMIT)?;
        recorder.stage(HostStage::Wait, start);
        self.finish_device(phase, context, gpu, recorder)
    }

    /// Records a launch.
    pub(super) fn launch(&self, pass: &mut wgpu::ComputePass<'_>, index: usize, context: &Context) {
        let dispatch = &self.dispatches[index];
        pass.set_pipeline(&dispatch.pipeline.pipeline);
        pass.set_bind_group(0, &context.groups[index], &[]);
        let [x, y, z] = dispatch.grid;
        pass.dispatch_workgroups(x, y, z);
    }

    /// Records the copies of what the host reads.
    pub(super) fn copy_downloads(
        &self,
        phase: &Phase,
        context: &Context,
        encoder: &mut wgpu::CommandEncoder,
    ) {
        for &(id, offset) in &phase.downloads {
            if let (Some(place), Some(staging)) = (self.device[id.0], &context.staging)
                && let BufferPlace::Slot { slot, bytes } = place.buffer
            {
                encoder.copy_buffer_to_buffer(&context.device[slot], 0, staging, offset, Some(bytes));
            }
        }
    }

    /// Reads back what a phase leaves for the host, once the device has done it.
    fn finish_device(
        &self,
        phase: &Phase,
        context: &mut Context,
        gpu: &Gpu,
        recorder: &mut Recorder<'_>,
    ) -> Result<()> {
        if phase.downloads.is_empty() {
            return Ok(());
        }
        let start = std::time::Instant::now();
        self.read_back(phase, context, gpu)?;
        recorder.stage(HostStage::ReadBack, start);
        Ok(())
    }

    fn read_back(&self, phase: &Phase, context: &mut Context, gpu: &Gpu) -> Result<()> {
        let Some(staging) = &context.staging else { return Ok(()) };
        let failed: Arc<Mutex<Option<String>>> = Arc::default();
        let mapped = Arc::new(AtomicBool::new(false));
        let (report, done) = (Arc::clone(&failed), Arc::clone(&mapped));
        staging.map_async(wgpu::MapMode::Read, .., move |result| {
            if let Err(error) = result {
                *report.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
            }
            done.store(true, Ordering::Release);
        });
        gpu.wait(None, WAIT_LIMIT)?;
        let error = failed.lock().unwrap_or_else(PoisonError::into_inner).take();
        if error.is_some() || !mapped.load(Ordering::Acquire) {
            gpu.check()?;
            return Err(gpu.fault(error.unwrap_or_else(|| "the read-back buffer was not mapped".to_owned())));
        }
        for &(id, offset) in &phase.downloads {
            let (Some(place), Some(HostPlace::Slot(slot))) = (self.device[id.0], self.host[id.0]) else {
                continue;
            };
            let BufferPlace::Slot { bytes, .. } = place.buffer else { continue };
            let range = staging
                .get_mapped_range(offset..offset + bytes)
                .map_err(|error| gpu.fault(error.to_string()))?;
            let value = &self.values[id.0];
            let wanted = value.dtype.bytes_for(value.dims.iter().product()).unwrap_or(0);
            let host: &mut [u8] = bytemuck::cast_slice_mut(&mut context.host[slot]);
            from_device(&range, place.storage, value.dtype, &mut host[..wanted]);
        }
        staging.unmap();
        Ok(())
    }

    /// A value on the host.
    fn view<'c>(&'c self, id: ValueId, host: &'c [Vec<Line>], inputs: &'c [Tensor]) -> Option<View<'c>> {
        let value = &self.values[id.0];
        let root = self.roots[id.0];
        let (bytes, strings) = match self.host[root.0]? {
            HostPlace::Input(index) => (inputs[index].bytes(), inputs[index].strings()),
            HostPlace::Constant => {
                let constant = self.values[root.0].constant.as_ref()?;
                (constant.bytes(), constant.strings())
            }
            HostPlace::Slot(slot) => {
                let wanted = value.dtype.bytes_for(value.dims.iter().product())?;
                let bytes: &[u8] = bytemuck::cast_slice(&host[slot]);
                (&bytes[..wanted], None)
            }
        };
        Some(View { dtype: value.dtype, dims: &value.dims, bytes, strings })
    }

    fn run_cpu(&self, step: &CpuStep, context: &mut Context, inputs: &[Tensor]) -> Result<(), OpError> {
        const MISSING: OpError = OpError::Internal("a value is not on the host");
        // Outputs leave the context while inputs are read from it: lifetimes keep their slots apart.
        let mut taken: Vec<(usize, Vec<Line>)> = Vec::with_capacity(step.outputs.len());
        for output in step.outputs.iter().flatten() {
            let Some(HostPlace::Slot(slot)) = self.host[self.roots[output.0].0] else { return Err(MISSING) };
            taken.push((slot, std::mem::take(&mut context.host[slot])));
        }
        let result = self.call(step, &context.host, &mut context.scratch, inputs, &mut taken);
        for (slot, lines) in taken {
            context.host[slot] = lines;
        }
        result
    }

    fn call(
        &self,
        step: &CpuStep,
        host: &[Vec<Line>],
        scratch: &mut [Line],
        inputs: &[Tensor],
        taken: &mut [(usize, Vec<Line>)],
    ) -> Result<(), OpError> {
        const MISSING: OpError = OpError::Internal("a value is not on the host");
        let read = |id: &ValueId| self.view(*id, host, inputs).ok_or(MISSING);
        let views: Vec<Option<View<'_>>> =
            step.inputs.iter().map(|id| id.as_ref().map(read).transpose()).collect::<Result<_, _>>()?;
        let finish = match &step.epilogue {
            None => None,
            Some((expr, operands)) => {
                let output = step.outputs.iter().flatten().next().ok_or(MISSING)?;
                let value = &self.values[output.0];
                let operands = operands.iter().map(read).collect::<Result<_, _>>()?;
                Some(Finish::new(expr, value.dtype, operands, &value.dims)?)
            }
        };
        let Some(kernel) = &step.kernel else {
            let results = step.op.reference(&views, step.outputs.len())?;
            for ((output, result), (_, lines)) in
                step.outputs.iter().zip(&results).filter(|(id, _)| id.is_some()).zip(taken.iter_mut())
            {
                let value = &self.values[output.ok_or(MISSING)?.0];
                if result.dims() != value.dims || result.dtype() != value.dtype {
                    return Err(OpError::Internal("a result differs from what was inferred"));
                }
                let bytes: &mut [u8] = bytemuck::cast_slice_mut(lines);
                bytes[..result.bytes().len()].copy_from_slice(result.bytes());
            }
            return self.finish(step, finish.as_ref(), taken);
        };
        let mut outputs: Vec<ViewMut<'_>> = Vec::with_capacity(taken.len());
        for (id, (_, lines)) in step.outputs.iter().flatten().zip(taken.iter_mut()) {
            let value = &self.values[id.0];
            let wanted = value.dtype.bytes_for(value.dims.iter().product()).ok_or(MISSING)?;
            let bytes: &mut [u8] = bytemuck::cast_slice_mut(lines);
            outputs.push(ViewMut { dtype: value.dtype, dims: &value.dims, bytes: &mut bytes[..wanted] });
        }
        let scratch: &mut [u8] = bytemuck::cast_slice_mut(scratch);
        let scratch = &mut scratch[..kernel.scratch()];
        kernel.run(&mut CpuRun {
            inputs: &views,
            outputs: &mut outputs,
            scratch,
            finish: finish.as_ref(),
        })?;
        if kernel.finishes() {
            return Ok(());
        }
        self.finish(step, finish.as_ref(), taken)
    }

    fn finish(
        &self,
        step: &CpuStep,
        finish: Option<&Finish<'_>>,
        taken: &mut [(usize, Vec<Line>)],
    ) -> Result<(), OpError> {
        let (Some(finish), Some(id), Some((_, lines))) =
            (finish, step.outputs.iter().flatten().next(), taken.first_mut())
        else {
            return Ok(());
        };
        let value = &self.values[id.0];
        let wanted = value.dtype.bytes_for(value.dims.iter().product()).unwrap_or(0);
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(lines);
        finish.apply_all(&mut ViewMut { dtype: value.dtype, dims: &value.dims, bytes: &mut bytes[..wanted] })
    }
}

fn buffer(gpu: &Gpu, label: &str, size: u64, usage: wgpu::BufferUsages) -> Result<wgpu::Buffer> {
    gpu.scoped(|| {
        gpu.device().create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size: size.max(16),
            usage,
            mapped_at_creation: false,
        })
    })
}
