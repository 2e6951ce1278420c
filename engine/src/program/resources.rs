//! What a program keeps on a device: weights, parameters, pipelines, and the dispatches that bind them.

use std::collections::HashMap;
use std::sync::Arc;

use sardonyx_ops::Tensor;
use sardonyx_ops::dispatch::Binding;
use sardonyx_ops::ir::graph::ValueId;
use sardonyx_ops::plan::Plan;
use sardonyx_shaders::storage::Storage;
use sardonyx_shaders::{Capabilities, Kernel};

use super::place::{Layouts, Placed};
use super::schedule::{Batch, DeviceKey};
use super::{BufferPlace, ReadyDispatch};
use crate::device::Gpu;
use crate::error::{Error, Result};
use crate::transfer::{buffer_bytes, to_device};

/// Alignment of everything bound at an offset: WebGPU's default, which every adapter accepts.
const ALIGNMENT: u64 = 256;

/// Bytes of weights in one buffer, unless a single tensor is larger.
const WEIGHTS_BUFFER: u64 = 64 << 20;

/// Bytes written to the device before it gets to work them off.
const UPLOAD_CHUNK: usize = 32 << 20;

/// What a program keeps on a device.
#[derive(Default)]
pub(super) struct Resources {
    pub(super) dispatches: Vec<ReadyDispatch>,
    pub(super) weights: Vec<wgpu::Buffer>,
    pub(super) params: Option<wgpu::Buffer>,
}

/// Resources decided but not made.
pub(super) struct Pending<'a> {
    weights: Vec<(Weight<'a>, Storage)>,
    known: HashMap<(WeightKey, Storage), usize>,
    params: Vec<u8>,
    dispatches: Vec<PendingDispatch<'a>>,
}

#[derive(Clone, Copy)]
struct Weight<'a>(&'a Tensor);

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum WeightKey {
    Constant(ValueId),
    Packed(usize, usize),
}

enum Bound {
    Slot { slot: usize, bytes: u64 },
    Weight(usize),
}

struct PendingDispatch<'a> {
    step: usize,
    /// Which of the step's launches.
    launch: usize,
    kernel: &'a Kernel,
    bindings: Vec<Bound>,
    params: Vec<(u64, u64)>,
    grid: [u32; 3],
}

/// Decides what the steps on the device need.
pub(super) fn plan<'a>(
    plan: &'a Plan,
    placed: &'a [Placed],
    batches: &[Batch],
    roots: &[ValueId],
    slots: &HashMap<DeviceKey, usize>,
    layouts: Layouts,
    caps: Option<&Capabilities>,
) -> Pending<'a> {
    let mut pending =
        Pending { weights: Vec::new(), known: HashMap::new(), params: Vec::new(), dispatches: Vec::new() };
    let alignment = caps.map_or(ALIGNMENT, |caps| u64::from(caps.offset_alignment).max(ALIGNMENT));
    for &index in batches.iter().flat_map(|batch| &batch.device) {
        let (Placed::Device(candidate), step) = (&placed[index], &plan.steps[index]) else { continue };
        for (launch, dispatch) in candidate.dispatches.iter().enumerate() {
            let value = |id: ValueId, pending: &mut Pending<'a>| -> Option<Bound> {
                let root = roots[id.0];
                let value = &plan.values[root.0];
                let storage = layouts.storage(value.dtype)?;
                if let Some(constant) = &value.constant {
                    return Some(pending.weight(WeightKey::Constant(root), constant, storage));
                }
                let slot = *slots.get(&DeviceKey::Value(root))?;
                Some(Bound::Slot { slot, bytes: buffer_bytes(storage, value.dims.iter().product()) })
            };
            let bindings =
                dispatch.reads.iter().chain(&dispatch.writes).filter_map(|binding| match *binding {
                    Binding::Input(i) => value(step.inputs.get(i).copied().flatten()?, &mut pending),
                    Binding::Operand(i) => value(*step.epilogue.as_ref()?.operands.get(i)?, &mut pending),
                    Binding::Output(i) => value(step.outputs.iter().flatten().nth(i).copied()?, &mut pending),
                    Binding::Packed(i) => {
                        let (tensor, storage) = candidate.packed.get(i)?;
                        Some(pending.weight(WeightKey::Packed(index, i), tensor, *storage))
                    }
                    Binding::Scratch(i) => {
                        let scratch = candidate.scratch.get(i)?;
                        let slot = *slots.get(&DeviceKey::Scratch(index, i))?;
                        Some(Bound::Slot { slot, bytes: buffer_bytes(scratch.storage, scratch.len) })
                    }
                });
            let bindings: Vec<Bound> = bindings.collect();
            let mut params = vec![pending.param(&dispatch.params, alignment)];
            if !dispatch.operands.is_empty() {
                params.push(pending.param(bytemuck::cast_slice(&dispatch.operands), alignment));
            }
            pending.dispatches.push(PendingDispatch {
                step: index,
                launch,
                kernel: &dispatch.kernel,
                bindings,
                params,
                grid: dispatch.grid,
            });
        }
    }
    pending
}

impl<'a> Pending<'a> {
    fn weight(&mut self, key: WeightKey, tensor: &'a Tensor, storage: Storage) -> Bound {
        let next = self.weights.len();
        let index = *self.known.entry((key, storage)).or_insert(next);
        if index == next {
            self.weights.push((Weight(tensor), storage));
        }
        Bound::Weight(index)
    }

    fn param(&mut self, bytes: &[u8], alignment: u64) -> (u64, u64) {
        let offset = (self.params.len() as u64).next_multiple_of(alignment);
        self.params.resize(offset as usize, 0);
        self.params.extend_from_slice(bytes);
        // A uniform binding is at least a row of four words.
        self.params.resize(self.params.len().next_multiple_of(16), 0);
        (offset, self.params.len() as u64 - offset)
    }

    /// Bytes that the weights take on the device.
    pub(super) fn weight_bytes(&self) -> u64 {
        self.weights.iter().map(|(weight, storage)| weight_bytes(*weight, *storage)).sum()
    }

    /// Dispatches of each step.
    pub(super) fn dispatch_counts(&self) -> HashMap<usize, usize> {
        let mut counts = HashMap::new();
        for dispatch in &self.dispatches {
            *counts.entry(dispatch.step).or_insert(0) += 1;
        }
        counts
    }

    /// Makes pipelines and buffers, and uploads.
    pub(super) fn make(self, gpu: &Gpu, limit: u64) -> Result<Resources> {
        let kernels: Vec<&Kernel> = self.dispatches.iter().map(|dispatch| dispatch.kernel).collect();
        let pipelines = gpu.pipelines(&kernels)?;
        let (weights, places) = upload_weights(gpu, &self.weights, limit)?;
        let params = upload_params(gpu, &self.params)?;
        let ready = |dispatch: PendingDispatch<'_>| {
            let bindings = dispatch.bindings.iter().map(|bound| match *bound {
                Bound::Slot { slot, bytes } => BufferPlace::Slot { slot, bytes },
                Bound::Weight(index) => places[index],
            });
            let pipeline = pipelines.get(dispatch.kernel);
            Ok(ReadyDispatch {
                step: dispatch.step,
                launch: dispatch.launch,
                bindings: bindings.collect(),
                pipeline: Arc::clone(
                    pipeline.ok_or_else(|| Error::Internal("a pipeline is missing".to_owned()))?,
                ),
                params: dispatch.params,
                grid: dispatch.grid,
            })
        };
        let dispatches: Result<Vec<ReadyDispatch>> = self.dispatches.into_iter().map(ready).collect();
        Ok(Resources { dispatches: dispatches?, weights, params })
    }
}

fn weight_bytes(weight: Weight<'_>, storage: Storage) -> u64 {
    buffer_bytes(storage, weight.0.len()).next_multiple_of(ALIGNMENT)
}

fn upload_weights(
    gpu: &Gpu,
    weights: &[(Weight<'_>, Storage)],
    limit: u64,
) -> Result<(Vec<wgpu::Buffer>, Vec<BufferPlace>)> {
    let mut sizes: Vec<u64> = Vec::new();
    let mut places = Vec::new();
    let full = WEIGHTS_BUFFER.min(limit);
    for (weight, storage) in weights {
        let bytes = weight_bytes(*weight, *storage);
        match sizes.last_mut() {
            Some(size) if *size + bytes <= full => {
                places.push((sizes.len() - 1, sizes[sizes.len() - 1]));
                let last = sizes.len() - 1;
                sizes[last] += bytes;
            }
            _ => {
                places.push((sizes.len(), 0));
                sizes.push(bytes);
            }
        }
    }
    let mut buffers = Vec::with_capacity(sizes.len());
    for size in sizes {
        buffers.push(gpu.scoped(|| {
            gpu.device().create_buffer(&wgpu::BufferDescriptor {
                label: Some("weights"),
                size,
                usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        })?);
    }
    let mut written = 0;
    let mut placed = Vec::with_capacity(places.len());
    for ((weight, storage), (buffer, offset)) in weights.iter().zip(places) {
        let data = to_device(&weight.0.view(), *storage);
        for (index, chunk) in data.chunks(UPLOAD_CHUNK).enumerate() {
            gpu.queue().write_buffer(&buffers[buffer], offset + (index * UPLOAD_CHUNK) as u64, chunk);
            written += chunk.len();
            if written >= UPLOAD_CHUNK {
                // Staging memory is freed when the device has copied it.
                let submission = gpu.queue().submit(None);
                gpu.wait(Some(submission), super::run::WAIT_LIMIT)?;
                written = 0;
            }
        }
        let bytes = buffer_bytes(*storage, weight.0.len());
        placed.push(BufferPlace::Weights { buffer, offset, bytes });
    }
    gpu.queue().submit(None);
    gpu.check()?;
    Ok((buffers, placed))
}

fn upload_params(gpu: &Gpu, params: &[u8]) -> Result<Option<wgpu::Buffer>> {
    if params.is_empty() {
        return Ok(None);
    }
    let buffer = gpu.scoped(|| {
        gpu.device().create_buffer(&wgpu::BufferDescriptor {
            label: Some("parameters"),
            size: params.len() as u64,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        })
    })?;
    gpu.queue().write_buffer(&buffer, 0, params);
    Ok(Some(buffer))
}
