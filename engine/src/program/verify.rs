//! The verifier: an independent look at a finished program before anything of it runs.
//!
//! It replays the program on a picture of memory that holds, for every byte, which value lies there. Whatever reads a
//! value must find exactly that value: so nothing is read before it is written, and nothing is overwritten while it is
//! still wanted. It knows nothing of lifetimes, and takes what kernels access from the plan, not from the planner. A value that
//! no step writes, because a step that would have moved it does nothing, must be found as the values that it stands for.

use std::collections::HashMap;

use sardonyx_ops::dispatch::{Binding, Candidate, Dispatch};
use sardonyx_ops::ir::graph::ValueId;
use sardonyx_ops::plan::PlanStep;
use sardonyx_shaders::storage::Storage;
use sardonyx_shaders::{Bound, Capabilities};

use super::place::{Layouts, Placed};
use super::{BufferPlace, CpuStep, HostPlace, LINE, Launch, Program, in_place};
use crate::error::{Error, Result};

mod memory;
mod pieces;
#[cfg(test)]
mod tests;

use memory::{Memory, Owner, overlap};
use pieces::Piece;

struct Verifier<'a> {
    program: &'a Program,
    steps: &'a [PlanStep],
    placed: &'a [Placed],
    layouts: Layouts,
    /// Of values that no step writes: whose elements they are.
    stands_for: HashMap<usize, Vec<Piece>>,
    host: Memory,
    arenas: Vec<Memory>,
}

/// Checks a finished program.
///
/// # Errors
/// [`Error::Internal`] with what is wrong: a defect of the planner.
pub(super) fn verify(
    program: &Program,
    steps: &[PlanStep],
    placed: &[Placed],
    layouts: Layouts,
    caps: Option<&Capabilities>,
) -> Result<()> {
    let arenas = program.device_arenas.iter().map(|&size| Memory::new(size)).collect();
    let host = Memory::new(program.host_bytes);
    let mut verifier = Verifier { program, steps, placed, layouts, stands_for: HashMap::new(), host, arenas };
    verifier
        .leave_out()
        .and_then(|()| verifier.replay(caps))
        .map_err(|what| Error::Internal(format!("the verifier refuses the program: {what}")))
}

impl Verifier<'_> {
    fn replay(&mut self, caps: Option<&Capabilities>) -> Result<(), String> {
        let program = self.program;
        if let Some(caps) = caps
            && let Some(size) =
                program.device_arenas.iter().chain(&program.weight_buffers).find(|&&b| b > caps.buffer_bytes)
        {
            return Err(format!("a buffer of {size} bytes is beyond the device's limit"));
        }
        let mut launched = vec![0; self.steps.len()];
        let mut called = 0;
        for phase in &program.phases {
            for &id in &phase.uploads {
                self.read_host(id)?;
                self.copy(id, true)?;
            }
            for launch in program.launches.get(phase.launches.clone()).ok_or("launches that are not there")? {
                let numbers = launched.get_mut(launch.step).ok_or("a step that is not there")?;
                if *numbers != launch.number {
                    return Err(format!("step {} launches {} out of order", launch.step, launch.number));
                }
                *numbers += 1;
                self.launch(launch, caps.ok_or("a launch without a device")?)
                    .map_err(|what| format!("{what} in {}", self.steps[launch.step].name()))?;
            }
            for &(id, at) in &phase.downloads {
                let bytes = self.copy(id, false)?;
                if !at.is_multiple_of(8) || at.saturating_add(bytes) > program.staging_bytes {
                    return Err(format!("value {} is read back beyond the staging buffer", id.0));
                }
                self.write_host(id)?;
            }
            for step in program.cpu.get(phase.cpu.clone()).ok_or("CPU steps that are not there")? {
                called += 1;
                self.call(step).map_err(|what| format!("{what} in {}", step.node))?;
            }
        }
        for (step, placed) in self.placed.iter().enumerate() {
            match placed {
                Placed::Device(candidate, _) if launched[step] != candidate.dispatches.len() => {
                    return Err(format!("step {step} does not launch everything"));
                }
                Placed::Cpu { .. } => called -= 1,
                _ => {}
            }
        }
        if called != 0 {
            return Err("CPU steps are left out or doubled".to_owned());
        }
        program.outputs.iter().try_for_each(|&id| self.read_host(id))
    }

    fn root(&self, id: ValueId) -> Result<ValueId, String> {
        self.program.roots.get(id.0).copied().ok_or_else(|| format!("value {} is not there", id.0))
    }

    /// A value's range in the arena of the host; `None` when the caller or the model holds it.
    fn host_range(&self, id: ValueId) -> Result<Option<(u64, u64)>, String> {
        let root = self.root(id)?;
        let value = &self.program.values[id.0];
        match self.program.host[root.0] {
            None => Err(format!("value {} has no place on the host", id.0)),
            Some(HostPlace::Constant) if self.program.values[root.0].constant.is_none() => {
                Err(format!("value {} is no constant", root.0))
            }
            Some(HostPlace::Constant) => Ok(None),
            Some(HostPlace::Input(index)) => match self.program.inputs.get(index) {
                Some(&input) if self.root(input)? == root => Ok(None),
                _ => Err(format!("value {} is no input {index}", root.0)),
            },
            Some(HostPlace::Arena { line }) => {
                let bytes = value.dtype.bytes_for(value.dims.iter().product()).unwrap_or(0);
                Ok(Some((line as u64 * LINE, bytes as u64)))
            }
        }
    }

    fn read_host(&self, id: ValueId) -> Result<(), String> {
        let mut ranges = self.owned_on_host(id)?.into_iter().flatten();
        ranges.try_for_each(|(start, bytes, owner)| self.host.read(start, bytes, owner))
    }

    fn write_host(&mut self, id: ValueId) -> Result<(), String> {
        let ranges = self.owned_on_host(id)?.ok_or("what the caller or the model holds is written")?;
        ranges.into_iter().try_for_each(|(start, bytes, owner)| self.host.write(start, bytes, owner))
    }

    /// A value goes up, or comes down. Returns its bytes on the device.
    fn copy(&mut self, id: ValueId, up: bool) -> Result<u64, String> {
        let (root, value) = (self.root(id)?, &self.program.values[id.0]);
        let Some(place) = self.program.device[root.0] else {
            // What has no elements may be of a type that the device cannot hold: nothing is copied.
            return match value.dims.contains(&0) {
                true => Ok(0),
                false => Err("a copy of a value that is not on the device".to_owned()),
            };
        };
        let BufferPlace::Arena { arena, offset, bytes } = place.buffer else {
            return Err("a copy of a constant".to_owned());
        };
        if Some(place.storage) != self.layouts.storage(value) {
            return Err(format!("value {} is copied as {:?}", id.0, place.storage));
        }
        let size = |len: usize| (len as u64).saturating_mul(place.storage.bytes() as u64);
        let least = size(self.len(id));
        let ranges = self.owned(root, offset, size)?;
        let memory = self.arenas.get_mut(arena).ok_or("an arena that is not there")?;
        if bytes < least || !offset.is_multiple_of(4) || !bytes.is_multiple_of(4) {
            return Err(format!("value {} is copied with {bytes} bytes at {offset}", id.0));
        }
        memory.within(offset, bytes)?;
        for (start, bytes, owner) in ranges {
            match up {
                true => memory.write(start, bytes, owner)?,
                false => memory.read(start, bytes, owner)?,
            }
        }
        Ok(bytes)
    }

    fn call(&mut self, step: &CpuStep) -> Result<(), String> {
        let operands = step.epilogue.iter().flat_map(|(_, operands)| operands.iter().copied());
        let reads: Vec<ValueId> = step.inputs.iter().flatten().copied().chain(operands).collect();
        let outputs: Vec<ValueId> = step.outputs.iter().flatten().copied().collect();
        let mut taken = Vec::new();
        for &id in &reads {
            self.read_host(id)?;
            taken.extend(self.host_range(id)?);
        }
        if step.writes.len() != outputs.len() {
            return Err("not every output has its lines".to_owned());
        }
        for (index, lines) in &step.writes {
            let &id = outputs.get(*index).ok_or("an output that is not there")?;
            let own = (lines.start as u64 * LINE, lines.len() as u64 * LINE);
            let (start, bytes) = self.host_range(id)?.ok_or("an output that the caller holds")?;
            if start != own.0 || bytes > own.1 {
                return Err(format!("value {} is written elsewhere", id.0));
            }
            if taken.iter().any(|&other| overlap(own, other)) {
                return Err(format!("value {} is written over what the step reads or writes", id.0));
            }
            taken.push(own);
        }
        if step.kernel.as_ref().is_some_and(|kernel| kernel.scratch() > self.program.scratch_bytes) {
            return Err("the scratch memory is too small".to_owned());
        }
        outputs.iter().try_for_each(|&id| self.write_host(id))
    }

    fn launch(&mut self, launch: &Launch, caps: &Capabilities) -> Result<(), String> {
        let Some(Placed::Device(candidate, _)) = self.placed.get(launch.step) else {
            return Err("a step that is not on the device is launched".to_owned());
        };
        let dispatch = candidate.dispatches.get(launch.number).ok_or("a launch that is not there")?;
        if launch.kernel.kernel != dispatch.kernel || launch.grid != dispatch.grid {
            return Err("another kernel is launched".to_owned());
        }
        if launch.grid.iter().any(|&n| n > caps.grid_axis) {
            return Err(format!("a grid of {:?} is beyond the device's limit", launch.grid));
        }
        self.params(launch, dispatch, caps)?;
        let wanted: Vec<Binding> = dispatch.reads.iter().chain(&dispatch.writes).copied().collect();
        let how = &launch.kernel.bound;
        let (given, most) = (launch.bindings.len(), u64::from(caps.storage_buffers));
        let bound: u64 = (0..given).map(|tensor| u64::from(how.pieces(tensor))).sum();
        if given != wanted.len() || bound > most {
            return Err(format!("{bound} bindings for {} tensors, the device has {most}", wanted.len()));
        }
        for (tensor, place) in launch.bindings.iter().enumerate() {
            if how.replaced_by(tensor).is_none() {
                self.pieces(how, tensor, place.bytes(), caps)?;
            }
        }
        let mut ranges = Vec::with_capacity(given);
        for (&binding, place) in wanted.iter().zip(&launch.bindings) {
            ranges.push(self.range(launch.step, candidate, binding, place, caps)?);
        }
        let reads = dispatch.reads.len();
        let replaces = |(read, write): (usize, usize)| {
            let place = |tensor: usize| match launch.bindings.get(tensor) {
                Some(&BufferPlace::Arena { arena, offset, .. }) => Some((arena, offset)),
                _ => None,
            };
            let write_number = write.checked_sub(reads)?;
            let same = place(read).is_some() && place(read) == place(write);
            (same && in_place::may_replace(dispatch, read, write_number)).then_some(())
        };
        if how.replaced.iter().any(|&pair| replaces(pair).is_none()) {
            return Err("what a kernel does not read element by element is replaced".to_owned());
        }
        for (index, (place, owner)) in launch.bindings.iter().zip(&ranges).enumerate().skip(reads) {
            let BufferPlace::Arena { arena, offset, bytes } = *place else {
                return Err("a constant is written".to_owned());
            };
            for (other, (against, _)) in launch.bindings.iter().zip(&ranges).enumerate() {
                let BufferPlace::Arena { arena: same, offset: from, bytes: len } = *against else { continue };
                let replaced = how.replaced_by(other);
                if other == index || same != arena || replaced == Some(index) {
                    continue;
                }
                if overlap((offset, bytes), (from, len)) {
                    return Err(format!("{owner:?} is written over another binding"));
                }
                if other < reads && replaced.is_none() && !how.writable(other) {
                    return Err("a buffer is bound for reading only and for writing".to_owned());
                }
            }
        }
        for (index, (place, found)) in launch.bindings.iter().zip(&ranges).enumerate() {
            let (BufferPlace::Arena { arena, offset, bytes }, Some((owner, storage))) = (*place, *found)
            else {
                continue;
            };
            let size = |len: usize| (len as u64).saturating_mul(storage.bytes() as u64);
            let owned = match owner {
                Owner::Value(id) if index < reads => self.owned(ValueId(id), offset, size)?,
                Owner::Value(id) if self.stands_for.contains_key(&id) => {
                    return Err(format!("{owner:?} is written, and lies within others"));
                }
                _ => vec![(offset, bytes, owner)],
            };
            let memory = self.arenas.get_mut(arena).ok_or("an arena that is not there")?;
            for (start, bytes, owner) in owned {
                match index < reads {
                    true => memory.read(start, bytes, owner)?,
                    false => memory.write(start, bytes, owner)?,
                }
            }
        }
        Ok(())
    }

    /// Whose a binding is and how it lies there, `None` for constants; its range is checked against the limits and what the kernel addresses.
    fn range(
        &self,
        step: usize,
        candidate: &Candidate,
        binding: Binding,
        place: &BufferPlace,
        caps: &Capabilities,
    ) -> Result<Option<(Owner, Storage)>, String> {
        let plan = &self.steps[step];
        let missing = || format!("{binding:?} is not there");
        let value = |id: Option<ValueId>| {
            let root = self.root(id.ok_or_else(missing)?)?;
            let value = &self.program.values[root.0];
            let storage = self.layouts.storage(value).ok_or_else(missing)?;
            let owner = value.constant.is_none().then_some(Owner::Value(root.0));
            Ok::<_, String>((owner, storage, value.dims.iter().product::<usize>()))
        };
        let (owner, storage, len): (Option<Owner>, Storage, usize) = match binding {
            Binding::Input(index) => value(plan.inputs.get(index).copied().flatten())?,
            Binding::Output(index) => value(plan.outputs.iter().flatten().nth(index).copied())?,
            Binding::Operand(index) => {
                value(plan.epilogue.as_ref().and_then(|epilogue| epilogue.operands.get(index).copied()))?
            }
            Binding::Packed(index) => {
                let (packed, storage) = candidate.packed.get(index).ok_or_else(missing)?;
                (None, *storage, packed.len())
            }
            Binding::Scratch(index) => {
                let scratch = candidate.scratch.get(index).ok_or_else(missing)?;
                (Some(Owner::Scratch(step, index)), scratch.storage, scratch.len)
            }
        };
        let (size, offset, bytes) = match (*place, owner) {
            (BufferPlace::Arena { arena, offset, bytes }, Some(_)) => {
                (self.arenas.get(arena).map(|memory| memory.size), offset, bytes)
            }
            (BufferPlace::Weights { buffer, offset, bytes }, None) => {
                (self.program.weight_buffers.get(buffer).copied(), offset, bytes)
            }
            _ => return Err(format!("{binding:?} is bound to the wrong memory")),
        };
        let size = size.ok_or("a buffer that is not there")?;
        // Kernels move groups of four elements.
        let least = (len.next_multiple_of(4) as u64).saturating_mul(storage.bytes() as u64);
        if bytes < least {
            return Err(format!("{binding:?} is bound with {bytes} bytes and takes {least}"));
        }
        if offset.checked_add(bytes).is_none_or(|end| end > size) {
            return Err(format!("{binding:?} is bound beyond its buffer of {size} bytes"));
        }
        if !offset.is_multiple_of(u64::from(caps.offset_alignment)) {
            return Err(format!("{binding:?} is bound at {offset}, which is not aligned"));
        }
        // What has no elements is written by nothing.
        Ok(owner.filter(|_| len > 0).map(|owner| (owner, storage)))
    }

    /// The pieces in which a tensor is bound are within the device's limits, and cover it.
    fn pieces(&self, how: &Bound, tensor: usize, bytes: u64, caps: &Capabilities) -> Result<(), String> {
        let mut end = 0;
        for (from, len) in how.ranges(tensor, bytes) {
            if len == 0 || len > caps.binding_bytes {
                return Err(format!("tensor {tensor} is bound with {len} bytes, beyond the device's limit"));
            }
            if from != end || !from.is_multiple_of(u64::from(caps.offset_alignment)) {
                return Err(format!("tensor {tensor} is bound in a piece from {from} on"));
            }
            end = from + len;
        }
        match end == bytes {
            true => Ok(()),
            false => Err(format!("tensor {tensor} is bound up to {end} of {bytes} bytes")),
        }
    }

    /// The uniform bindings of a launch hold what the dispatch gives.
    fn params(&self, launch: &Launch, dispatch: &Dispatch, caps: &Capabilities) -> Result<(), String> {
        let operands: &[u8] = bytemuck::cast_slice(&dispatch.operands);
        let wanted: Vec<&[u8]> =
            std::iter::once(&*dispatch.params).chain((!operands.is_empty()).then_some(operands)).collect();
        if wanted.len() != launch.params.len() {
            return Err("parameters are missing".to_owned());
        }
        for (wanted, &(offset, bytes)) in wanted.iter().zip(&launch.params) {
            let within = offset.checked_add(bytes).is_some_and(|end| end <= self.program.param_bytes);
            let aligned = offset.is_multiple_of(u64::from(caps.offset_alignment));
            if !within || !aligned || bytes < wanted.len() as u64 {
                return Err(format!("{bytes} bytes of parameters at {offset}"));
            }
        }
        Ok(())
    }
}
