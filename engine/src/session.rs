//! Sessions: a model bound to a device, ready to run.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use sardonyx_ops::Tensor;
use sardonyx_ops::plan::Plan;

use crate::device::Device;
use crate::error::{Error, Result};
use crate::memory::MemoryPlan;
use crate::placement::Placement;
use crate::program::{self, Context, Program, Settings};
use crate::values::{Inputs, Outputs};

/// What happens to operators that have no kernel on the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Fallback {
    /// They are an error when the session is built.
    #[default]
    Deny,
    /// They run on the CPU; [`Session::placement`] says which and why.
    Allow,
}

/// In which precision floats are stored on a GPU. Arithmetic accumulates in f32 always.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Precision {
    /// As the model says.
    #[default]
    Model,
    /// f32 values as f16 where the device has it: half the memory and traffic.
    F16,
    /// f16 and bf16 values as f32.
    F32,
}
