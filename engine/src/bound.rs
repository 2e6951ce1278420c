//! A plan bound to a device, with the memory of its runs.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use sardonyx_ops::Tensor;
use sardonyx_ops::plan::Plan;

use crate::device::{Compiler, Device};
use crate::error::{Error, Result};
use crate::placement::Placement;
use crate::profile::Recorder;
use crate::program::{self, Context, Program, Settings};
use crate::session::{Fallback, Precision};
use crate::values::Times;

/// A program with the memory of its runs. Runs at the same time each take a context; a context is made when none is
/// free and kept afterwards.
pub(crate) struct Bound {
    program: Program,
    device: Device,
    contexts: Mutex<Vec<Context>>,
}

impl Bound {
    pub(crate) fn new(
        plan: Plan,
        device: &Device,
        settings: Settings,
        compiler: Compiler<'_>,
    ) -> Result<Bound> {
        let program = program::build(plan, device, settings, compiler)?;
        let first = program.context(device)?;
        Ok(Bound { program, device: device.clone(), contexts: Mutex::new(vec![first]) })
    }

    pub(crate) fn program(&self) -> &Program {
        &self.program
    }

    /// Some step runs on the CPU.
    pub(crate) fn uses_cpu(&self) -> bool {
        self.program.uses_cpu()
    }

    /// Runs once. `inputs` are in the program's order, of its types and dimensions, and aligned. `check` is asked between
    /// steps whether to go on.
    pub(crate) fn run(
        &self,
        inputs: &[Tensor],
        check: &(dyn Fn() -> Result<()> + Sync),
        recorder: &mut Recorder<'_>,
    ) -> Result<Vec<Tensor>> {
        let free = self.contexts.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut context = match free {
            Some(context) => context,
            None => self.program.context(&self.device)?,
        };
        let result = self.program.run(&mut context, &self.device, inputs, check, recorder);
        // A failed run may leave a buffer mapped or a slot taken; its context is not used again.
        if result.is_ok() {
            self.contexts.lock().unwrap_or_else(PoisonError::into_inner).push(context);
        }
        result
    }
}

/// A plan bound to a device: the part of a session below the model, for tools and tests that make plans themselves.
pub struct PlanSession {
    bound: Bound,
}

impl PlanSession {
    /// Binds `plan` to `device`.
    ///
    /// # Errors
    /// When a step has no place, or the device refuses.
    pub fn new(
        mut plan: Plan,
        device: &Device,
        fallback: Fallback,
        precision: Precision,
    ) -> Result<PlanSession> {
        program::suit(&mut plan, device);
        let choices = program::Choices::default();
        let settings = Settings { fallback, precision, memory_budget: None, taps: false, choices };
        Ok(PlanSession { bound: Bound::new(plan, device, settings, Compiler::default())? })
    }

    /// Runs once, inputs and outputs in the plan's order.
    ///
    /// # Errors
    /// When an input does not fit, or a step fails.
    pub fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        self.run_timed(inputs).map(|(outputs, _)| outputs)
    }

    /// Runs once and says where the time went.
    ///
    /// # Errors
    /// As [`PlanSession::run`].
    pub fn run_timed(&self, inputs: &[Tensor]) -> Result<(Vec<Tensor>, Times)> {
        let program = self.bound.program();
        if inputs.len() != program.inputs.len() {
            return Err(Error::Internal(format!("{} inputs for {}", inputs.len(), program.inputs.len())));
        }
        let aligned: Vec<Tensor> = inputs.iter().cloned().map(Tensor::aligned).collect();
        for (tensor, &id) in aligned.iter().zip(&program.inputs) {
            let value = &program.values[id.0];
            if tensor.dtype() != value.dtype || tensor.dims() != value.dims {
                return Err(Error::InputShape {
                    name: value.name.to_string(),
                    expected: format!("{}{:?}", value.dtype, value.dims),
                    got: tensor.dims().to_vec(),
                });
            }
        }
        let mut recorder = Recorder::default();
        let outputs = self.bound.run(&aligned, &|| Ok(()), &mut recorder)?;
        Ok((outputs, recorder.times))
    }

    /// Fills the memory of runs with bytes that are NaN as floats and absurd as integers, so that a kernel that leaves
    /// an element unwritten is found out by a test.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn poison(&self) -> Result<()> {
        let mut contexts = self.bound.contexts.lock().unwrap_or_else(PoisonError::into_inner);
        contexts.iter_mut().try_for_each(|context| context.poison(&self.bound.device))
    }

    /// Where each step runs.
    pub fn placement(&self) -> &Placement {
        &self.bound.program().placement
    }
}

impl fmt::Debug for PlanSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PlanSession({:?}, {} steps)", self.bound.device, self.placement().steps.len())
    }
}
