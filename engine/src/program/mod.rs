//! A program: a plan bound to a device, ready to run again and again.
//!
//! [`layout`] lets steps on the CPU work on channels in blocks, [`place`] decides where each step runs, [`parts`] finds those that
//! have nothing to move and [`in_place`] results that need no memory of their own, [`build`] orders the steps into phases, gives every value memory and makes buffers and pipelines, [`verify`] checks, [`run`] replays.

mod aligned;
mod arena;
mod build;
mod choices;
mod host;
mod in_place;
mod layout;
mod links;
mod parts;
mod place;
mod resources;
mod rounding;
mod run;
mod schedule;
#[cfg(test)]
mod testing;
mod timed;
mod verify;
mod weights;
mod widen;

use std::ops::Range;
use std::sync::Arc;

pub(crate) use build::{Settings, build, placement};
pub(crate) use choices::Choices;
pub(crate) use links::Given;
pub(crate) use place::candidates;
pub(crate) use run::{Context, WAIT_LIMIT};
use sardonyx_ops::expr::Expr;
use sardonyx_ops::ir::graph::ValueId;
use sardonyx_ops::operator::Cost;
use sardonyx_ops::plan::{Plan, PlanValue};
use sardonyx_ops::{CpuKernel, Operator};
use sardonyx_shaders::storage::Storage;
pub(crate) use weights::Known;

use self::resources::Resources;
use crate::device::{BoundKernel, Device};
use crate::memory::MemoryPlan;
use crate::placement::Placement;

/// Gives a plan for the CPU the forms that its kernels are fastest on. Steps on a GPU stay as they are.
pub(crate) fn suit(plan: &mut Plan, device: &Device) {
    if device.gpu().is_none() {
        widen::widen(plan);
        layout::lay_out(plan);
    }
}

/// Bytes of a cache line, the unit of memory on the host.
const LINE: u64 = 64;

/// A plan bound to a device.
pub(crate) struct Program {
    /// Facts about each value.
    pub(crate) values: Vec<PlanValue>,
    /// Values given by the caller.
    pub(crate) inputs: Vec<ValueId>,
    /// Values wanted by the caller.
    pub(crate) outputs: Vec<ValueId>,
    /// For each value, the one whose memory it shares: itself, or the source of a view.
    roots: Vec<ValueId>,
    /// Outputs whose bytes are those of other values too, by their roots.
    shared: Vec<ValueId>,
    /// Where each root lies on the host.
    host: Vec<Option<HostPlace>>,
    /// Where each root lies on the device.
    device: Vec<Option<DevicePlace>>,
    phases: Vec<Phase>,
    launches: Vec<Launch>,
    /// Launches that begin a new submission, so that none keeps the device busy for long.
    splits: Vec<usize>,
    cpu: Vec<CpuStep>,
    /// Bytes of the arena on the host, and of those on the device.
    host_bytes: u64,
    device_arenas: Vec<u64>,
    /// Bytes of the buffers that weights lie in, and of the parameters.
    weight_buffers: Vec<u64>,
    param_bytes: u64,
    made: Resources,
    staging_bytes: u64,
    scratch_bytes: usize,
    /// How many of the outputs are the plan's own; those after them are taps.
    pub(crate) wanted: usize,
    /// What is known about each of the plan's steps.
    pub(crate) details: Vec<StepDetail>,
    pub(crate) placement: Placement,
    pub(crate) memory: MemoryPlan,
}

/// Work between two waits: values go up, kernels run, values come down, CPU steps run.
#[derive(Default)]
struct Phase {
    uploads: Vec<ValueId>,
    launches: Range<usize>,
    /// Values and their offsets in the staging buffer.
    downloads: Vec<(ValueId, u64)>,
    cpu: Range<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum HostPlace {
    /// What the caller gives as this input.
    Input(usize),
    /// The value's constant.
    Constant,
    /// The context's arena, from this line on.
    Arena { line: usize },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct DevicePlace {
    buffer: BufferPlace,
    storage: Storage,
}

/// A range of a buffer on the device.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum BufferPlace {
    /// A part of an arena of the context.
    Arena { arena: usize, offset: u64, bytes: u64 },
    /// A part of a weights buffer.
    Weights { buffer: usize, offset: u64, bytes: u64 },
}

impl BufferPlace {
    fn bytes(&self) -> u64 {
        match *self {
            BufferPlace::Arena { bytes, .. } | BufferPlace::Weights { bytes, .. } => bytes,
        }
    }
}

/// One launch of a kernel, bound to memory.
struct Launch {
    /// The step, and which of its dispatches.
    step: usize,
    number: usize,
    kernel: BoundKernel,
    /// What is read, then what is written.
    bindings: Vec<BufferPlace>,
    reads: usize,
    /// The value of each, where it is one: a host may bind it elsewhere.
    values: Vec<Option<ValueId>>,
    /// Offset and size in the parameter buffer: the kernel's own, and its operands'.
    params: Vec<(u64, u64)>,
    grid: [u32; 3],
}

struct CpuStep {
    /// The plan's step.
    step: usize,
    op: Arc<dyn Operator>,
    node: Arc<str>,
    /// `None` runs the reference.
    kernel: Option<Box<dyn CpuKernel>>,
    inputs: Vec<Option<ValueId>>,
    outputs: Vec<Option<ValueId>>,
    /// What it writes: the place among its outputs, and the lines of the arena, from low to high.
    writes: Vec<(usize, Range<usize>)>,
    epilogue: Option<(Expr, Vec<ValueId>)>,
}

/// What is said of a step when it is timed.
pub(crate) struct StepDetail {
    pub(crate) op: &'static str,
    pub(crate) nodes: Vec<Arc<str>>,
    /// Its results are among the program's outputs, behind those of the plan.
    pub(crate) is_tapped: bool,
    pub(crate) kernels: Vec<&'static str>,
    pub(crate) on_device: bool,
    pub(crate) reads: Vec<ValueId>,
    pub(crate) writes: Vec<ValueId>,
    cost: Cost,
}
