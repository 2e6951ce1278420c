//! What a program keeps on a device: weights, parameters, pipelines, and the dispatches that bind them.

use std::collections::HashMap;
use std::sync::Arc;

use sardonyx_ops::dispatch::Binding;
use sardonyx_ops::ir::graph::ValueId;
use sardonyx_ops::plan::Plan;
use sardonyx_shaders::storage::Storage;
use sardonyx_shaders::{Bound, Capabilities};

use super::arena::Spot;
use super::place::{Layouts, Placed};
use super::rounding::Lines;
use super::schedule::{Batch, DeviceKey, bound_value};
use super::weights::{Known, Shelf, Weights};
use super::{BufferPlace, DevicePlace, Launch};
use crate::device::{BoundKernel, Compiler, Gpu, Pipeline};
use crate::error::{Error, Result};
use crate::transfer::buffer_bytes;

/// Alignment of everything bound at an offset: WebGPU's default, which every adapter accepts.
pub(super) const ALIGNMENT: u64 = 256;

/// What a program keeps on a device.
#[derive(Default)]
pub(super) struct Resources {
    /// One for each dispatch.
    pub(super) pipelines: Vec<Arc<Pipeline>>,
    pub(super) weights: Vec<Arc<Shelf>>,
    pub(super) params: Option<wgpu::Buffer>,
}

/// Resources decided but not made.
pub(super) struct Pending<'a> {
    weights: Weights<'a>,
    /// Where constants and what kernels made of them lie.
    known: HashMap<(WeightKey, Storage), BufferPlace>,
    pub(super) params: Vec<u8>,
    pub(super) launches: Vec<Launch>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum WeightKey {
    Constant(ValueId),
    Packed(usize, usize),
}

/// Alignment of everything bound at an offset.
pub(super) fn alignment(caps: Option<&Capabilities>) -> u64 {
    caps.map_or(ALIGNMENT, |caps| u64::from(caps.offset_alignment).max(ALIGNMENT))
}

/// Where values and scratch memory lie.
pub(super) struct Memory<'a> {
    /// For each value, the one whose memory it shares.
    pub(super) roots: &'a [ValueId],
    /// Where each root lies.
    pub(super) places: &'a [Option<DevicePlace>],
    pub(super) spots: &'a HashMap<DeviceKey, Spot>,
}

/// Decides what the steps on the device need. `lines` says which constants are rounded line by line.
pub(super) fn plan<'w>(
    plan: &Plan,
    placed: &[Placed],
    batches: &[Batch],
    memory: &Memory<'_>,
    lines: &Lines,
    layouts: Layouts,
    (caps, known): (Option<&Capabilities>, Option<&'w Known>),
) -> Pending<'w> {
    let alignment = alignment(caps);
    let most = caps.map_or(u64::MAX, |caps| caps.buffer_bytes);
    let mut pending = Pending {
        weights: Weights::new(known, most, alignment),
        known: HashMap::new(),
        params: Vec::new(),
        launches: Vec::new(),
    };
    for &index in batches.iter().flat_map(|batch| &batch.device) {
        let (Placed::Device(candidate, _), step) = (&placed[index], &plan.steps[index]) else { continue };
        for (number, dispatch) in candidate.dispatches.iter().enumerate() {
            let value = |id: ValueId, pending: &mut Pending<'_>| -> Option<BufferPlace> {
                let root = memory.roots[id.0];
                let value = &plan.values[root.0];
                let storage = layouts.storage(value)?;
                if let Some(constant) = &value.constant {
                    let weights = &mut pending.weights;
                    let place = pending.known.entry((WeightKey::Constant(root), storage));
                    return Some(*place.or_insert_with(|| weights.constant(constant, storage, lines)));
                }
                Some(memory.places[root.0]?.buffer)
            };
            let bindings =
                dispatch.reads.iter().chain(&dispatch.writes).filter_map(|binding| match *binding {
                    Binding::Packed(i) => {
                        let (packed, storage) = candidate.packed.get(i)?;
                        let weights = &mut pending.weights;
                        let place = pending.known.entry((WeightKey::Packed(index, i), *storage));
                        Some(*place.or_insert_with(|| weights.packed(packed, *storage, lines)))
                    }
                    Binding::Scratch(i) => {
                        let scratch = candidate.scratch.get(i)?;
                        let &Spot { arena, offset } = memory.spots.get(&DeviceKey::Scratch(index, i))?;
                        let bytes = buffer_bytes(scratch.storage, scratch.len);
                        Some(BufferPlace::Arena { arena, offset, bytes })
                    }
                    other => value(bound_value(step, other)?, &mut pending),
                });
            let bindings: Vec<BufferPlace> = bindings.collect();
            let named = dispatch.reads.iter().chain(&dispatch.writes);
            let values = named.map(|binding| Some(memory.roots[bound_value(step, *binding)?.0])).collect();
            let bytes: Vec<u64> = bindings.iter().map(BufferPlace::bytes).collect();
            let writable = writable(&bindings, dispatch.reads.len());
            let replaced = replaced(&bindings, dispatch.reads.len());
            let bound = caps.map_or_else(Bound::default, |caps| Bound::new(caps, writable, replaced, &bytes));
            let mut params = vec![pending.param(&dispatch.params, alignment)];
            if !dispatch.operands.is_empty() {
                params.push(pending.param(bytemuck::cast_slice(&dispatch.operands), alignment));
            }
            pending.launches.push(Launch {
                step: index,
                number,
                kernel: BoundKernel { kernel: dispatch.kernel.clone(), bound },
                bindings,
                reads: dispatch.reads.len(),
                values,
                params,
                grid: dispatch.grid,
            });
        }
    }
    pending
}

/// Which of the first `reads` bindings lie in an arena that the others are written in, a bit to each.
fn writable(bindings: &[BufferPlace], reads: usize) -> u64 {
    let arena = |place: &BufferPlace| match place {
        BufferPlace::Arena { arena, .. } => Some(*arena),
        BufferPlace::Weights { .. } => None,
    };
    let (read, written) = bindings.split_at(reads.min(bindings.len()));
    let shared = read.iter().enumerate().filter(|(_, place)| {
        arena(place).is_some_and(|at| written.iter().any(|other| arena(other) == Some(at)))
    });
    shared.fold(0, |bits, (index, _)| bits | 1u64.checked_shl(index as u32).unwrap_or(0))
}

/// Which of the first `reads` bindings lie where one of the others is written.
fn replaced(bindings: &[BufferPlace], reads: usize) -> Vec<(usize, usize)> {
    let place = |place: &BufferPlace| match *place {
        BufferPlace::Arena { arena, offset, .. } => Some((arena, offset)),
        BufferPlace::Weights { .. } => None,
    };
    let writes = |read: usize| {
        (reads..bindings.len()).find(|&write| place(&bindings[write]) == place(&bindings[read]))
    };
    let read = (0..reads).filter(|&read| place(&bindings[read]).is_some());
    read.filter_map(|read| Some((read, writes(read)?))).collect()
}

impl Pending<'_> {
    fn param(&mut self, bytes: &[u8], alignment: u64) -> (u64, u64) {
        let offset = (self.params.len() as u64).next_multiple_of(alignment);
        self.params.resize(offset as usize, 0);
        self.params.extend_from_slice(bytes);
        // A uniform binding is at least a row of four words.
        self.params.resize(self.params.len().next_multiple_of(16), 0);
        (offset, self.params.len() as u64 - offset)
    }

    /// Bytes of the buffers that weights lie in.
    pub(super) fn weight_buffers(&self) -> Vec<u64> {
        self.weights.sizes()
    }

    /// Dispatches of each step.
    pub(super) fn dispatch_counts(&self) -> HashMap<usize, usize> {
        let mut counts = HashMap::new();
        for launch in &self.launches {
            *counts.entry(launch.step).or_insert(0) += 1;
        }
        counts
    }

    /// Makes pipelines and buffers, and uploads. `launches` are those of this, in their order.
    pub(super) fn make(&self, gpu: &Gpu, launches: &[Launch], compiler: Compiler<'_>) -> Result<Resources> {
        let kernels: Vec<&BoundKernel> = launches.iter().map(|launch| &launch.kernel).collect();
        let span = tracing::Span::current();
        let upload = || tracing::debug_span!(parent: &span, "weights").in_scope(|| self.weights.upload(gpu));
        let compile = || span.in_scope(|| gpu.pipelines(&kernels, compiler));
        // Drivers compile while the weights are on their way.
        let (weights, pipelines) = rayon::join(upload, compile);
        let (weights, pipelines) = (weights?, pipelines?);
        let missing = || Error::Internal("a pipeline is missing".to_owned());
        let each = kernels.iter().map(|kernel| pipelines.get(*kernel).map(Arc::clone).ok_or_else(missing));
        Ok(Resources {
            pipelines: each.collect::<Result<_>>()?,
            weights,
            params: upload_params(gpu, &self.params)?,
        })
    }
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
