//! Where each operator of a model runs, and why.

use std::sync::Arc;

/// Where a step runs.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Place {
    /// On the device, by these kernels.
    Device {
        /// Names of the kernel variants, in order.
        kernels: Vec<&'static str>,
    },
    /// On the CPU, because of this.
    Cpu {
        /// Why not on the device; empty when the device is the CPU.
        reason: String,
    },
    /// Nowhere: the output is the input under other dimensions.
    View,
}

/// One step and its place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlacedStep {
    /// The operator.
    pub op: &'static str,
    /// The model's nodes that the step does, the anchor first.
    pub nodes: Vec<Arc<str>>,
    /// Where it runs.
    pub place: Place,
    /// For a step on the device: the kernels that refused it, and why.
    pub refused: Vec<String>,
}

/// The places of all steps.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Placement {
    /// Steps in the order in which they run.
    pub steps: Vec<PlacedStep>,
    /// Launches of kernels in one run.
    pub dispatches: usize,
    /// The device is a GPU.
    pub gpu: bool,
}

impl Placement {
    /// How many of the model's operators run on the session's device, and how many there are. Operators that became
    /// views count as being there; constants folded at load and steps that only reorder values are not counted.
    pub fn on_device(&self) -> (usize, usize) {
        let count = |steps: &mut dyn Iterator<Item = &PlacedStep>| steps.map(|step| step.nodes.len()).sum();
        let all: usize = count(&mut self.steps.iter());
        let off: usize = if self.gpu { count(&mut self.fallbacks()) } else { 0 };
        (all - off, all)
    }

    /// Steps that run on the CPU although the device is a GPU.
    pub fn fallbacks(&self) -> impl Iterator<Item = &PlacedStep> {
        self.steps.iter().filter(|step| self.gpu && matches!(step.place, Place::Cpu { .. }))
    }
}
