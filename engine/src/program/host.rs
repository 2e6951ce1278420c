//! Steps on the CPU, and the memory of the host that they work in.

use std::ops::Range;

use sardonyx_ops::finish::Finish;
use sardonyx_ops::ir::graph::ValueId;
use sardonyx_ops::ir::view::{View, ViewMut};
use sardonyx_ops::plan::PlanValue;
use sardonyx_ops::{CpuRun, OpError, Tensor};

use super::{CpuStep, HostPlace, LINE, Program};
use crate::error::{Error, Result};

const MISSING: OpError = OpError::Internal("a value is not on the host");

/// A cache line, so that host memory is aligned for every kernel.
#[repr(C, align(64))]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Line([u8; LINE as usize]);

/// The host's memory of one run at a time.
#[derive(Default)]
pub(super) struct HostMemory {
    arena: Vec<Line>,
    scratch: Vec<Line>,
    lists: Lists,
}

/// Lists whose memory is used again by every step, so that a run takes none from the heap.
#[derive(Default)]
struct Lists {
    inputs: Vec<Option<View<'static>>>,
    outputs: Vec<ViewMut<'static>>,
    written: Vec<Option<&'static mut [u8]>>,
    read: Vec<(usize, &'static [Line])>,
}

/// The same list, emptied, for other lifetimes of its elements: the standard library keeps the memory.
fn emptied<A, B>(mut list: Vec<A>) -> Vec<B> {
    list.clear();
    list.into_iter().filter_map(|_| None).collect()
}

/// The memory that steps read, in pieces between what the current step writes: first line, and lines.
#[derive(Clone, Copy)]
pub(super) struct Readable<'a>(&'a [(usize, &'a [Line])]);

impl<'a> Readable<'a> {
    fn bytes(&self, line: usize, bytes: usize) -> Option<&'a [u8]> {
        let piece = self.0.partition_point(|(first, _)| *first <= line).checked_sub(1)?;
        let (first, lines) = self.0.get(piece)?;
        bytemuck::cast_slice::<Line, u8>(lines.get(line - first..)?).get(..bytes)
    }
}

impl HostMemory {
    /// Memory for activations and for the kernels' own use, zeroed when it is touched.
    pub(super) fn new(arena: u64, scratch: u64) -> Result<HostMemory> {
        let lines = |bytes: u64| {
            let count = usize::try_from(bytes.div_ceil(LINE)).unwrap_or(usize::MAX);
            bytemuck::allocation::try_zeroed_vec(count).map_err(|()| Error::Memory {
                what: "activations on the host".to_owned(),
                asked: bytes,
                allowed: 0,
            })
        };
        Ok(HostMemory { arena: lines(arena)?, scratch: lines(scratch)?, lists: Lists::default() })
    }

    /// Overwrites everything with `0xFF`.
    pub(super) fn poison(&mut self) {
        self.arena.fill(Line([0xFF; LINE as usize]));
        self.scratch.fill(Line([0xFF; LINE as usize]));
    }

    /// Reads from it.
    pub(super) fn read<R>(&self, read: impl FnOnce(Readable<'_>) -> R) -> R {
        read(Readable(&[(0, &self.arena)]))
    }

    /// The bytes from a line on.
    pub(super) fn write(&mut self, line: usize, bytes: usize) -> Option<&mut [u8]> {
        let lines = self.arena.get_mut(line..)?;
        bytemuck::cast_slice_mut::<Line, u8>(lines).get_mut(..bytes)
    }
}

/// What a step writes: the place in its list of outputs, and the lines, from low to high.
pub(super) fn writes(
    values: &[PlanValue],
    roots: &[ValueId],
    host: &[Option<HostPlace>],
    outputs: &[Option<ValueId>],
) -> Option<Vec<(usize, Range<usize>)>> {
    let lines = |(index, id): (usize, &ValueId)| {
        let Some(HostPlace::Arena { line }) = host[roots[id.0].0] else { return None };
        let value = &values[id.0];
        let bytes = value.dtype.bytes_for(value.dims.iter().product()).unwrap_or(0);
        let lines = bytes.div_ceil(LINE as usize);
        Some((index, line..line + lines))
    };
    let mut all: Vec<_> = outputs.iter().flatten().enumerate().map(lines).collect::<Option<_>>()?;
    all.sort_by_key(|(_, range)| (range.start, range.end));
    Some(all)
}

impl Program {
    /// Bytes of a value as the host has it.
    pub(super) fn bytes(&self, id: ValueId) -> Option<usize> {
        let value = &self.values[id.0];
        value.dtype.bytes_for(value.dims.iter().product())
    }

    /// A value on the host.
    pub(super) fn view<'c>(
        &'c self,
        id: ValueId,
        host: Readable<'c>,
        inputs: &'c [Tensor],
    ) -> Option<View<'c>> {
        let value = &self.values[id.0];
        let root = self.roots[id.0];
        let (bytes, strings) = match self.host[root.0]? {
            HostPlace::Input(index) => (inputs[index].bytes(), inputs[index].strings()),
            HostPlace::Constant => {
                let constant = self.values[root.0].constant.as_ref()?;
                (constant.bytes(), constant.strings())
            }
            HostPlace::Arena { line } => (host.bytes(line, self.bytes(id)?)?, None),
        };
        Some(View { dtype: value.dtype, dims: &value.dims, bytes, strings })
    }

    /// Runs a step on the CPU.
    pub(super) fn run_cpu(
        &self,
        step: &CpuStep,
        host: &mut HostMemory,
        inputs: &[Tensor],
    ) -> Result<(), OpError> {
        let HostMemory { arena, scratch, lists } = host;
        // The step's outputs leave the arena while its inputs are read from what is left.
        let mut read: Vec<(usize, &[Line])> = emptied(std::mem::take(&mut lists.read));
        let mut written: Vec<Option<&mut [u8]>> = emptied(std::mem::take(&mut lists.written));
        let mut views: Vec<Option<View<'_>>> = emptied(std::mem::take(&mut lists.inputs));
        let mut outputs: Vec<ViewMut<'_>> = emptied(std::mem::take(&mut lists.outputs));
        written.resize_with(step.writes.len(), || None);
        let (mut first, mut rest) = (0, arena.as_mut_slice());
        for (index, range) in &step.writes {
            let before = range.start.checked_sub(first).ok_or(MISSING)?;
            let (shared, tail) = rest.split_at_mut_checked(before).ok_or(MISSING)?;
            let (own, after) = tail.split_at_mut_checked(range.len()).ok_or(MISSING)?;
            read.push((first, shared));
            written[*index] = Some(bytemuck::cast_slice_mut(own));
            (first, rest) = (range.end, after);
        }
        read.push((first, rest));
        for (id, bytes) in step.outputs.iter().flatten().zip(&mut written) {
            let value = &self.values[id.0];
            let bytes = bytes.take().ok_or(MISSING)?;
            let wanted = self.bytes(*id).unwrap_or(0);
            outputs.push(ViewMut { dtype: value.dtype, dims: &value.dims, bytes: &mut bytes[..wanted] });
        }
        let result = self.call(step, Readable(&read), scratch, inputs, &mut views, &mut outputs);
        // What borrows is emptied before what it borrows from.
        lists.inputs = emptied(views);
        lists.outputs = emptied(outputs);
        lists.written = emptied(written);
        lists.read = emptied(read);
        result
    }

    fn call<'c>(
        &'c self,
        step: &'c CpuStep,
        host: Readable<'c>,
        scratch: &mut [Line],
        inputs: &'c [Tensor],
        views: &mut Vec<Option<View<'c>>>,
        outputs: &mut [ViewMut<'c>],
    ) -> Result<(), OpError> {
        let read = |id: &ValueId| self.view(*id, host, inputs).ok_or(MISSING);
        for input in &step.inputs {
            views.push(input.as_ref().map(read).transpose()?);
        }
        let finish = match &step.epilogue {
            None => None,
            Some((expr, operands)) => {
                let output = step.outputs.iter().flatten().next().ok_or(MISSING)?;
                let value = &self.values[output.0];
                let operands = operands.iter().map(read).collect::<Result<_, _>>()?;
                Some(Finish::new(expr, value.dtype, operands, &value.dims)?)
            }
        };
        let finished = match &step.kernel {
            None => {
                let results = step.op.reference(views, step.outputs.len())?;
                let wanted = step.outputs.iter().zip(&results).filter(|(id, _)| id.is_some());
                for ((_, result), output) in wanted.zip(outputs.iter_mut()) {
                    if result.dims() != output.dims || result.dtype() != output.dtype {
                        return Err(OpError::Internal("a result differs from what was inferred"));
                    }
                    output.bytes.copy_from_slice(result.bytes());
                }
                false
            }
            Some(kernel) => {
                let scratch = &mut bytemuck::cast_slice_mut::<Line, u8>(scratch)[..kernel.scratch()];
                kernel.run(&mut CpuRun { inputs: views, outputs, scratch, finish: finish.as_ref() })?;
                kernel.finishes()
            }
        };
        match (finish, outputs.first_mut()) {
            (Some(finish), Some(output)) if !finished => finish.apply_all(output),
            _ => Ok(()),
        }
    }
}
