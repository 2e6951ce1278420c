//! What the steps of a run gave, on the plan that really runs: for tools that look for the first wrong one.

use std::sync::Arc;

use sardonyx_ops::Tensor;
use sardonyx_ops::ir::graph::ValueId;

use crate::error::Result;
use crate::profile::Recorder;
use crate::program::Program;
use crate::session::{RunOptions, Session};
use crate::values::{Inputs, Outputs};

/// A step of a run with what it gave.
#[derive(Clone, Debug)]
pub struct Tap {
    /// The operator.
    pub op: &'static str,
    /// The model's nodes that the step does, the anchor first.
    pub nodes: Vec<Arc<str>>,
    /// Kernel variants, in order of their launches; on the CPU the one kernel. None where nothing had to be moved.
    pub kernels: Vec<&'static str>,
    /// It runs on a GPU.
    pub on_device: bool,
    /// Names of what it reads, constants left out; those that only hold another value's elements under other dimensions
    /// are named by that value.
    pub reads: Vec<Arc<str>>,
    /// What it gave.
    pub values: Vec<TapValue>,
}

/// What a step gave, under its name in the model.
#[derive(Clone, Debug)]
pub struct TapValue {
    /// The name. A step made of a part of a fused one has a name of its own.
    pub name: Arc<str>,
    /// The value.
    pub tensor: Tensor,
}

impl Program {
    /// The steps, in the order in which they run, with their results, which come as the plan lists its steps.
    pub(crate) fn taps(&self, results: Vec<Tensor>) -> Vec<Tap> {
        let mut results = results.into_iter();
        let name = |id: ValueId| Arc::clone(&self.values[id.0].name);
        let tapped = self.details.iter().filter(|detail| detail.is_tapped);
        let tap = tapped.map(|detail| Tap {
            op: detail.op,
            nodes: detail.nodes.clone(),
            kernels: detail.kernels.clone(),
            on_device: detail.on_device,
            reads: detail
                .reads
                .iter()
                .map(|id| self.root(*id))
                .filter(|id| self.values[id.0].constant.is_none())
                .map(name)
                .collect(),
            values: detail
                .writes
                .iter()
                .zip(&mut results)
                .map(|(id, tensor)| TapValue { name: name(*id), tensor })
                .collect(),
        });
        tap.collect()
    }
}

impl Session {
    /// Runs the model and gives the results of all steps besides, when the session was built with
    /// [`crate::SessionBuilder::taps`].
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn run_tapped<'a>(&self, inputs: impl Into<Inputs<'a>>) -> Result<(Outputs, Vec<Tap>)> {
        let mut recorder = Recorder::default();
        let outputs = self.run_recorded(inputs.into(), &RunOptions::default(), &mut recorder)?;
        Ok((outputs, recorder.taps))
    }
}
