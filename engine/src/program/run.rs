//! Replaying a program.

use std::ops::Range;
use std::time::Duration;

use sardonyx_ops::Tensor;

use super::host::HostMemory;
use super::links::{Links, Origin};
use super::{BufferPlace, HostPlace, Phase, Program};
use crate::device::{BoundKernel, Device, Gpu, Staging};
use crate::device_tensor::DeviceTensor;
use crate::error::{Error, Result};
use crate::profile::{HostStage, Recorder};
use crate::shader::ShaderLaunch;
use crate::transfer::{from_device, to_device};

/// The longest wait for the device before it counts as hung.
pub(crate) const WAIT_LIMIT: Duration = Duration::from_secs(300);

/// The memory of one run at a time.
pub(crate) struct Context {
    pub(super) host: HostMemory,
    device: Vec<wgpu::Buffer>,
    /// One for each dispatch.
    pub(super) groups: Vec<wgpu::BindGroup>,
    staging: Option<Staging>,
    /// What a host has bound.
    pub(super) links: Links,
}

impl Context {
    /// Overwrites all memory with `0xFF`.
    pub(crate) fn poison(&mut self, device: &Device) -> Result<()> {
        self.host.poison();
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
        let mut context = Context {
            host: HostMemory::new(self.host_bytes, self.scratch_bytes as u64)?,
            device: Vec::new(),
            groups: Vec::new(),
            staging: None,
            links: Links::default(),
        };
        let Some(gpu) = device.gpu() else { return Ok(context) };
        for &size in &self.device_arenas {
            let usage =
                wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
            context.device.push(buffer(gpu, "activations", size, usage)?);
        }
        if self.staging_bytes > 0 {
            let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
            context.staging = Some(Staging::new(buffer(gpu, "read-back", self.staging_bytes, usage)?));
        }
        for index in 0..self.launches.len() {
            let group = self.group(&context, gpu, index)?;
            context.groups.push(group);
        }
        Ok(context)
    }

    /// Binds a launch to the memory of a context and to what a host has bound there.
    pub(super) fn group(&self, context: &Context, gpu: &Gpu, index: usize) -> Result<wgpu::BindGroup> {
        let launch = &self.launches[index];
        let tensors = launch.bindings.iter().zip(&launch.values).enumerate();
        let storage = tensors.flat_map(|(tensor, (place, value))| {
            let bound = value.and_then(|id| context.links.bound(id));
            let (buffer, offset) = self.binding(context, *place, bound);
            let pieces = launch.kernel.bound.ranges(tensor, place.bytes());
            pieces.map(move |(from, bytes)| wgpu::BufferBinding {
                buffer,
                offset: offset + from,
                size: wgpu::BufferSize::new(bytes),
            })
        });
        let uniform = launch.params.iter().filter_map(|&(offset, size)| {
            Some(wgpu::BufferBinding {
                buffer: self.made.params.as_ref()?,
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
        gpu.scoped(|| {
            gpu.device().create_bind_group(&wgpu::BindGroupDescriptor {
                label: None,
                layout: &self.made.pipelines[index].layout,
                entries: &entries,
            })
        })
    }

    /// The buffer that a tensor lies in, and from where on.
    fn binding<'c>(
        &'c self,
        context: &'c Context,
        place: BufferPlace,
        bound: Option<&'c DeviceTensor>,
    ) -> (&'c wgpu::Buffer, u64) {
        match (place, bound) {
            (BufferPlace::Arena { .. }, Some(tensor)) => (&tensor.buffer, tensor.offset),
            (BufferPlace::Arena { arena, offset, .. }, None) => (&context.device[arena], offset),
            (BufferPlace::Weights { buffer, offset, .. }, _) => (&self.made.weights[buffer].buffer, offset),
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
        self.replay(context, device, inputs, check, recorder)?;
        let reading = HostStage::ReadBack.begin();
        let outputs = (0..self.outputs.len()).map(|index| self.output(index, context, inputs)).collect();
        recorder.end(reading);
        outputs
    }

    /// Runs once; the outputs stay in the context.
    pub(crate) fn replay(
        &self,
        context: &mut Context,
        device: &Device,
        inputs: &[Tensor],
        check: &(dyn Fn() -> Result<()> + Sync),
        recorder: &mut Recorder<'_>,
    ) -> Result<()> {
        for phase in &self.phases {
            check()?;
            if let Some(gpu) = device.gpu() {
                self.run_device(phase, context, gpu, inputs, recorder)?;
            }
            let steps = HostStage::Steps.begin();
            for step in &self.cpu[phase.cpu.clone()] {
                check()?;
                let begun = recorder.step_begins();
                self.run_cpu(step, &mut context.host, inputs).map_err(|source| Error::Step {
                    node: step.node.to_string(),
                    op: step.op.name(),
                    source,
                })?;
                recorder.step_ends(step.step, begun);
            }
            recorder.end(steps);
        }
        match device.gpu() {
            Some(gpu) => self.hand_over(context, gpu, inputs),
            None => Ok(()),
        }
    }

    /// An output of the latest run that is in host memory.
    pub(crate) fn output(&self, index: usize, context: &Context, inputs: &[Tensor]) -> Result<Tensor> {
        let missing = || Error::Internal(format!("output {index} was not computed"));
        let id = *self.outputs.get(index).ok_or_else(missing)?;
        let (root, dims) = (self.roots[id.0], &self.values[id.0].dims);
        let tensor = match self.host[root.0] {
            Some(HostPlace::Input(index)) => inputs[index].reshaped(dims).ok(),
            Some(HostPlace::Constant) => {
                self.values[root.0].constant.as_ref().and_then(|constant| constant.reshaped(dims).ok())
            }
            _ => context.host.read(|host| Some(self.view(id, host, inputs)?.to_tensor())),
        };
        tensor.ok_or_else(missing)
    }

    /// Records the dispatches of a program whose steps all run on the device, with the copies that a host's bindings
    /// take.
    pub(crate) fn encode(
        &self,
        context: &Context,
        gpu: &Gpu,
        inputs: &[Tensor],
        encoder: &mut wgpu::CommandEncoder,
    ) -> Result<()> {
        if let Some(step) = self.cpu.first() {
            let what = format!("node \"{}\" runs on the CPU, where no encoder reaches", step.node);
            return Err(Error::Bind { what });
        }
        for phase in &self.phases {
            self.upload(phase, context, gpu, inputs)?;
            self.copy_inputs(phase, context, encoder);
            self.dispatch(phase.launches.clone(), context, encoder);
        }
        self.write_outputs(context, gpu, inputs)?;
        self.copy_outputs(context, encoder);
        gpu.check()
    }

    /// Brings outputs to where a host has bound them.
    fn hand_over(&self, context: &Context, gpu: &Gpu, inputs: &[Tensor]) -> Result<()> {
        self.write_outputs(context, gpu, inputs)?;
        if context.links.copied_out.is_empty() {
            return Ok(());
        }
        let mut encoder =
            gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor { label: None });
        self.copy_outputs(context, &mut encoder);
        gpu.queue().submit([encoder.finish()]);
        gpu.check()
    }

    fn copy_outputs(&self, context: &Context, encoder: &mut wgpu::CommandEncoder) {
        for (origin, to) in &context.links.copied_out {
            let (from, offset) = match origin {
                Origin::Tensor(tensor) => (&tensor.buffer, tensor.offset),
                Origin::Value(id) => match self.device[id.0].map(|place| place.buffer) {
                    Some(BufferPlace::Arena { arena, offset, .. }) => (&context.device[arena], offset),
                    _ => continue,
                },
            };
            let bytes = to.bytes().unwrap_or(0);
            encoder.copy_buffer_to_buffer(from, offset, &to.buffer, to.offset, Some(bytes));
        }
    }

    fn run_device(
        &self,
        phase: &Phase,
        context: &mut Context,
        gpu: &Gpu,
        inputs: &[Tensor],
        recorder: &mut Recorder<'_>,
    ) -> Result<()> {
        if phase.uploads.is_empty() && phase.launches.is_empty() && phase.downloads.is_empty() {
            return Ok(());
        }
        let uploading = HostStage::Upload.begin();
        self.upload(phase, context, gpu, inputs)?;
        recorder.end(uploading);
        if recorder.profiler().is_some() {
            self.submit_timed(phase, context, gpu, recorder)?;
            return self.finish_device(phase, context, gpu, recorder);
        }
        let encoding = HostStage::Encode.begin();
        let mut encoder =
            gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor { label: None });
        self.copy_inputs(phase, context, &mut encoder);
        let mut first = phase.launches.start;
        for &split in self.splits.iter().filter(|split| phase.launches.contains(split)) {
            self.dispatch(first..split, context, &mut encoder);
            let next = gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor { label: None });
            gpu.queue().submit([std::mem::replace(&mut encoder, next).finish()]);
            first = split;
        }
        self.dispatch(first..phase.launches.end, context, &mut encoder);
        self.copy_downloads(phase, context, &mut encoder);
        let submission = gpu.queue().submit([encoder.finish()]);
        recorder.end(encoding);
        if !context.links.reads_back(phase) {
            return gpu.check();
        }
        let waiting = HostStage::Wait.begin();
        gpu.wait(Some(submission), WAIT_LIMIT)?;
        recorder.end(waiting);
        self.finish_device(phase, context, gpu, recorder)
    }

    /// What is launched, in the order of a run.
    pub(crate) fn launched(&self) -> impl Iterator<Item = (&BoundKernel, ShaderLaunch)> {
        self.launches.iter().map(|launch| {
            let step = &self.details[launch.step];
            let launched = ShaderLaunch { op: step.op, nodes: step.nodes.clone(), grid: launch.grid };
            (&launch.kernel, launched)
        })
    }

    /// Records a launch.
    pub(super) fn launch(&self, pass: &mut wgpu::ComputePass<'_>, index: usize, context: &Context) {
        pass.set_pipeline(&self.made.pipelines[index].pipeline);
        pass.set_bind_group(0, &context.groups[index], &[]);
        let [x, y, z] = self.launches[index].grid;
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
                && let BufferPlace::Arena { arena, offset: from, bytes } = place.buffer
                && context.links.downloads(id)
            {
                let (from_buffer, to) = (&context.device[arena], &staging.buffer);
                encoder.copy_buffer_to_buffer(from_buffer, from, to, offset, Some(bytes));
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
        if !context.links.reads_back(phase) {
            return Ok(());
        }
        let reading = HostStage::ReadBack.begin();
        self.read_back(phase, context, gpu)?;
        recorder.end(reading);
        Ok(())
    }

    /// Writes to the device what a phase takes from the host.
    fn upload(&self, phase: &Phase, context: &Context, gpu: &Gpu, inputs: &[Tensor]) -> Result<()> {
        for &id in &phase.uploads {
            let place =
                self.device[id.0].ok_or_else(|| Error::Internal("an upload without place".to_owned()))?;
            let BufferPlace::Arena { arena, offset, .. } = place.buffer else { continue };
            if context.links.on_device(id) {
                continue;
            }
            context.host.read(|host| {
                if let Some(view) = self.view(id, host, inputs)
                    && !view.is_empty()
                {
                    let data = to_device(&view, place.storage);
                    gpu.queue().write_buffer(&context.device[arena], offset, &data);
                }
            });
        }
        Ok(())
    }

    /// Records the copies that a phase begins with.
    fn copy_inputs(&self, phase: &Phase, context: &Context, encoder: &mut wgpu::CommandEncoder) {
        for &id in &phase.uploads {
            if let (Some(place), Some(tensor)) = (self.device[id.0], context.links.copied_in(id))
                && let BufferPlace::Arena { arena, offset, .. } = place.buffer
            {
                let (to, bytes) = (&context.device[arena], tensor.bytes().unwrap_or(0));
                encoder.copy_buffer_to_buffer(&tensor.buffer, tensor.offset, to, offset, Some(bytes));
            }
        }
    }

    /// Records launches.
    fn dispatch(&self, launches: Range<usize>, context: &Context, encoder: &mut wgpu::CommandEncoder) {
        if launches.is_empty() {
            return;
        }
        let mut pass =
            encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: None, timestamp_writes: None });
        for index in launches {
            self.launch(&mut pass, index, context);
        }
    }

    fn read_back(&self, phase: &Phase, context: &mut Context, gpu: &Gpu) -> Result<()> {
        let Some(staging) = &context.staging else { return Ok(()) };
        gpu.map(staging, WAIT_LIMIT)?;
        for &(id, offset) in &phase.downloads {
            let (Some(place), Some(HostPlace::Arena { line })) = (self.device[id.0], self.host[id.0]) else {
                continue;
            };
            let BufferPlace::Arena { bytes, .. } = place.buffer else { continue };
            if !context.links.downloads(id) {
                continue;
            }
            let range = staging
                .buffer
                .get_mapped_range(offset..offset + bytes)
                .map_err(|error| gpu.fault(error.to_string()))?;
            if let Some(bytes) = self.bytes(id).and_then(|wanted| context.host.write(line, wanted)) {
                from_device(&range, place.storage, self.values[id.0].dtype, bytes);
            }
        }
        staging.buffer.unmap();
        Ok(())
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
