//! What a host binds to a context: tensors on the device in the place of the program's own memory.

use sardonyx_ops::Tensor;
use sardonyx_ops::ir::graph::ValueId;

use super::run::Context;
use super::{BufferPlace, HostPlace, Phase, Program};
use crate::device::Gpu;
use crate::device_tensor::{DeviceTensor, plain};
use crate::error::{Error, Result};
use crate::transfer::to_device;

/// What a run takes or gives, as a host has bound it.
#[derive(Clone, Debug, Default)]
pub(crate) enum Given {
    /// Nothing is bound.
    #[default]
    Nothing,
    /// A tensor in host memory.
    Host(Tensor),
    /// A tensor on the device.
    Device(DeviceTensor),
}

/// Where bound tensors meet a program.
#[derive(Default)]
pub(super) struct Links {
    /// Values that kernels find in a host's tensor instead of an arena.
    bound: Vec<(ValueId, DeviceTensor)>,
    /// Inputs copied on the device where a phase would upload them.
    pub(super) copied_in: Vec<(ValueId, DeviceTensor)>,
    /// Outputs copied on the device after the last phase.
    pub(super) copied_out: Vec<(Origin, DeviceTensor)>,
    /// Outputs that the host has, written to the device after the last phase.
    pub(super) written_out: Vec<(ValueId, DeviceTensor)>,
    /// Values that are not read back.
    kept: Vec<ValueId>,
}

/// Where an output lies on the device.
pub(super) enum Origin {
    Value(ValueId),
    Tensor(DeviceTensor),
}

impl Links {
    pub(super) fn bound(&self, id: ValueId) -> Option<&DeviceTensor> {
        self.bound.iter().find(|(bound, _)| *bound == id).map(|(_, tensor)| tensor)
    }

    /// A value is on the device already.
    pub(super) fn on_device(&self, id: ValueId) -> bool {
        self.bound(id).is_some() || self.copied_in(id).is_some()
    }

    pub(super) fn copied_in(&self, id: ValueId) -> Option<&DeviceTensor> {
        self.copied_in.iter().find(|(copied, _)| *copied == id).map(|(_, tensor)| tensor)
    }

    /// Copies need buffers that allow them.
    fn usages(&self) -> Result<()> {
        let sources = self.copied_in.iter().map(|(_, tensor)| tensor);
        let passed = self.copied_out.iter().filter_map(|(origin, _)| match origin {
            Origin::Tensor(tensor) => Some(tensor),
            Origin::Value(_) => None,
        });
        let targets = self.copied_out.iter().map(|(_, tensor)| tensor);
        let targets = targets.chain(self.written_out.iter().map(|(_, tensor)| tensor));
        let sources = sources.chain(passed).map(|tensor| (tensor, wgpu::BufferUsages::COPY_SRC));
        let targets = targets.map(|tensor| (tensor, wgpu::BufferUsages::COPY_DST));
        match sources.chain(targets).find(|(tensor, usage)| !tensor.buffer.usage().contains(*usage)) {
            None => Ok(()),
            Some((_, usage)) => {
                let what = format!("a buffer that has to be copied has not the usage {usage:?}");
                Err(Error::Bind { what })
            }
        }
    }

    /// Something of a phase comes down.
    pub(super) fn reads_back(&self, phase: &Phase) -> bool {
        phase.downloads.iter().any(|(id, _)| self.downloads(*id))
    }

    /// A value comes down.
    pub(super) fn downloads(&self, id: ValueId) -> bool {
        !self.kept.contains(&id)
    }
}

impl Program {
    /// Some step on the CPU, by its node, reads the value.
    fn read_on_cpu(&self, root: ValueId) -> Option<&str> {
        let reads = |step: &&super::CpuStep| {
            let operands = step.epilogue.iter().flat_map(|(_, operands)| operands);
            step.inputs.iter().flatten().chain(operands).any(|id| self.roots[id.0] == root)
        };
        self.cpu.iter().find(reads).map(|step| &*step.node)
    }

    /// Binds inputs and outputs of a context, in the program's order.
    ///
    /// # Errors
    /// When the device holds a value otherwise than the tensor, or the CPU reads an input that is on the device.
    pub(crate) fn bind(
        &self,
        context: &mut Context,
        gpu: &Gpu,
        inputs: &[Given],
        outputs: &[Option<DeviceTensor>],
    ) -> Result<()> {
        let mut links = Links::default();
        for (given, &id) in inputs.iter().zip(&self.inputs) {
            let (root, Given::Device(tensor)) = (self.roots[id.0], given) else { continue };
            if let Some(node) = self.read_on_cpu(root) {
                let what = format!("node \"{node}\" reads input \"{}\" on the CPU", self.values[id.0].name);
                return Err(Error::Bind { what });
            }
            if self.device[root.0].is_none() {
                continue;
            }
            // What is written while it may still be read has to be copied first.
            let written = outputs.iter().flatten().any(|output| output.buffer == tensor.buffer);
            let binds = self.binds(root, tensor)?;
            match binds && !written {
                true => links.bound.push((root, tensor.clone())),
                false => links.copied_in.push((root, tensor.clone())),
            }
        }
        for (output, &id) in outputs.iter().zip(&self.outputs) {
            let Some(tensor) = output else { continue };
            self.bind_output(&mut links, inputs, id, tensor)?;
        }
        if self.clashes(&links) {
            // A buffer would be bound for reading only and for writing at once: everything is copied instead.
            for (root, tensor) in std::mem::take(&mut links.bound) {
                match self.inputs.iter().any(|input| self.roots[input.0] == root) {
                    true => links.copied_in.push((root, tensor)),
                    false => links.copied_out.push((Origin::Value(root), tensor)),
                }
            }
        }
        for (id, _) in self.outputs.iter().zip(outputs).filter(|(_, output)| output.is_some()) {
            let root = self.roots[id.0];
            let written = links.written_out.iter().any(|(value, _)| self.roots[value.0] == root);
            let mut same = self.outputs.iter().zip(outputs).filter(|(other, _)| self.roots[other.0] == root);
            if !written && self.read_on_cpu(root).is_none() && same.all(|(_, output)| output.is_some()) {
                links.kept.push(root);
            }
        }
        links.usages()?;
        let before = std::mem::replace(&mut context.links, links);
        self.rebind(context, &before, gpu)
    }

    fn bind_output(
        &self,
        links: &mut Links,
        inputs: &[Given],
        id: ValueId,
        tensor: &DeviceTensor,
    ) -> Result<()> {
        let root = self.roots[id.0];
        let last = self.phases.last().is_some_and(|phase| phase.downloads.iter().any(|(d, _)| *d == root));
        match self.host[root.0] {
            Some(HostPlace::Input(index)) => match inputs.get(index) {
                Some(Given::Device(source)) => {
                    links.copied_out.push((Origin::Tensor(source.clone()), tensor.clone()));
                }
                _ => links.written_out.push((id, tensor.clone())),
            },
            // Computed on the device, and there until the end.
            _ if last => {
                // Others who want the value find it in the arena.
                let alone = self.outputs.iter().filter(|other| self.roots[other.0] == root).count() == 1
                    && !self.shared.contains(&root);
                let binds = self.binds(root, tensor)?;
                match binds && alone && self.read_on_cpu(root).is_none() {
                    true => links.bound.push((root, tensor.clone())),
                    false => links.copied_out.push((Origin::Value(root), tensor.clone())),
                }
            }
            _ => links.written_out.push((id, tensor.clone())),
        }
        Ok(())
    }

    /// Whether kernels can find a value in a host's tensor. A tensor that the device would hold in another form can
    /// neither be bound nor copied.
    fn binds(&self, root: ValueId, tensor: &DeviceTensor) -> Result<bool> {
        let missing = || Error::Internal("a value without a place is bound".to_owned());
        let place = self.device[root.0].ok_or_else(missing)?;
        let BufferPlace::Arena { bytes, .. } = place.buffer else { return Err(missing()) };
        if place.storage != plain(tensor.dtype)? {
            let (name, dtype) = (&self.values[root.0].name, tensor.dtype);
            let what = format!("\"{name}\" lies on the device as {:?}, not as plain {dtype}", place.storage);
            return Err(Error::Bind { what });
        }
        Ok(tensor.binds(bytes, super::resources::ALIGNMENT))
    }

    /// A dispatch would bind a host's buffer for reading only and for writing at once.
    fn clashes(&self, links: &Links) -> bool {
        self.launches.iter().any(|launch| {
            let all = 0..launch.bindings.len();
            let buffer = |index: usize| Some(&links.bound((*launch.values.get(index)?)?)?.buffer);
            let writes = |index: &usize| *index >= launch.reads || launch.kernel.bound.writable(*index);
            all.clone().filter(|index| !writes(index)).any(|read| {
                buffer(read).is_some()
                    && all.clone().filter(writes).any(|other| buffer(other) == buffer(read))
            })
        })
    }

    /// Makes the bind groups again that hold what was or is bound.
    fn rebind(&self, context: &mut Context, before: &Links, gpu: &Gpu) -> Result<()> {
        for (index, launch) in self.launches.iter().enumerate() {
            let meets = |links: &Links| launch.values.iter().flatten().any(|id| links.bound(*id).is_some());
            if meets(before) || meets(&context.links) {
                context.groups[index] = self.group(context, gpu, index)?;
            }
        }
        Ok(())
    }

    /// Writes to the device what a host has bound as an output and the host's memory holds.
    pub(super) fn write_outputs(&self, context: &Context, gpu: &Gpu, inputs: &[Tensor]) -> Result<()> {
        for (id, tensor) in &context.links.written_out {
            let storage = plain(tensor.dtype)?;
            let missing = || Error::Internal("an output was not computed".to_owned());
            context.host.read(|host| {
                let view = self.view(*id, host, inputs).ok_or_else(missing)?;
                gpu.queue().write_buffer(&tensor.buffer, tensor.offset, &to_device(&view, storage));
                Ok::<_, Error>(())
            })?;
        }
        Ok(())
    }
}
