//! What can go wrong, as fields; text for people is made from them at the edge.

use std::sync::Arc;

use sardonyx_importer::ImportError;
use sardonyx_ops::{DType, OpError};

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the engine. [`Error::code`] is stable: log it, count it, switch on it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The model is malformed, exceeds a limit, or uses what Sardonyx does not do.
    #[error(transparent)]
    Model(Arc<ImportError>),
    /// An operator has no kernel on the device, and falling back to the CPU is denied.
    #[error("operator {op} of node \"{node}\" cannot run on {device}: {why}")]
    Unsupported {
        /// Node in the model.
        node: String,
        /// Its operator.
        op: &'static str,
        /// The device.
        device: String,
        /// The reasons of every kernel that refused.
        why: String,
    },
    /// An operator failed on the data of this run.
    #[error("operator {op} of node \"{node}\": {source}")]
    Step {
        /// Node in the model.
        node: String,
        /// Its operator.
        op: &'static str,
        /// What is wrong.
        source: OpError,
    },
    /// An input that the model does not have, was not given, or was given twice.
    #[error("input \"{name}\" {problem}; the model's inputs are {known}")]
    InputName {
        /// The name.
        name: String,
        /// "is unknown", "is missing", "is given twice", "must be a tensor".
        problem: &'static str,
        /// The names there are.
        known: String,
    },
    /// An input of another element type than the model's.
    #[error("input \"{name}\" has type {got}, the model wants {expected}")]
    InputType {
        /// The input.
        name: String,
        /// What the model says.
        expected: DType,
        /// What was given.
        got: DType,
    },
    /// An input whose dimensions do not fit the model's.
    #[error("input \"{name}\" has dimensions {got:?}, the model wants {expected}")]
    InputShape {
        /// The input.
        name: String,
        /// What the model says.
        expected: String,
        /// What was given.
        got: Vec<usize>,
    },
    /// A name given to the session builder that nothing has.
    #[error("{what} \"{name}\" is not in the model; it has {known}")]
    UnknownName {
        /// "dimension", "input" or "output".
        what: &'static str,
        /// The name given.
        name: String,
        /// Names there are.
        known: String,
    },
    /// No device fits the selection.
    #[error("no device matches \"{wanted}\"; this machine has {seen}")]
    NoDevice {
        /// The selection.
        wanted: String,
        /// Devices found.
        seen: String,
    },
    /// The device refused something, or is gone. See [`Error::retryable`].
    #[error("device {device}: {what}")]
    Device {
        /// The device.
        device: String,
        /// What happened.
        what: String,
        /// The device is lost: a new session on a new device may work.
        lost: bool,
    },
    /// The device did not finish in time.
    #[error("device {device} did not finish within {seconds} s")]
    DeviceTimeout {
        /// The device.
        device: String,
        /// The time waited.
        seconds: u64,
    },
    /// The caller's deadline has passed.
    #[error("the deadline of {limit:?} has passed")]
    Deadline {
        /// The time allowed.
        limit: std::time::Duration,
    },
    /// The caller cancelled the run.
    #[error("the run was cancelled")]
    Cancelled,
    /// More memory is needed than is allowed or can be had.
    #[error("{what} needs {asked} bytes, allowed are {allowed}")]
    Memory {
        /// What needs it.
        what: String,
        /// Bytes needed.
        asked: u64,
        /// Bytes allowed.
        allowed: u64,
    },
    /// A binding of a context that is missing, or that its program cannot use.
    #[error("cannot bind: {what}")]
    Bind {
        /// What is wrong.
        what: String,
    },
    /// A text given with [`crate::Device::with_kernels`] is of no kernel, or cannot stand in for the kernel's own.
    #[error("the changed kernel \"{name}\" cannot be used: {what}")]
    Kernel {
        /// The kernel.
        name: String,
        /// What is wrong.
        what: String,
    },
    /// A saved plan that is none, or that is not the plan of this model here. See [`crate::SavedPlan`].
    #[error("the saved plan cannot be used: {what}")]
    Plan {
        /// What is wrong.
        what: String,
    },
    /// A result holds another element type than was asked for, or has no such name.
    #[error("output \"{name}\": {problem}")]
    Output {
        /// The output.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// Data and dimensions do not make a tensor, or it holds another type.
    #[error(transparent)]
    Tensor(sardonyx_ops::TensorError),
    /// A defect of Sardonyx. The session stays usable.
    #[error("internal: {0}")]
    Internal(String),
}

impl Error {
    /// The stable code: `SDX-` and four digits. The first two digits are the kind: 01 file, 02 model, 03 unsupported,
    /// 04 budget, 05 input, 06 device, 07 deadline,
    /// 09 internal. `docs/ERRORS.md` explains each.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Model(error) => error.code(),
            Error::Unsupported { .. } => "SDX-0307",
            Error::Step { source: OpError::Unsupported { .. }, .. } => "SDX-0308",
            Error::Step { .. } => "SDX-0510",
            Error::InputName { .. } => "SDX-0502",
            Error::InputType { .. } => "SDX-0503",
            Error::InputShape { .. } => "SDX-0504",
            Error::UnknownName { .. } => "SDX-0505",
            Error::Output { .. } => "SDX-0506",
            Error::Bind { .. } => "SDX-0508",
            Error::Kernel { .. } => "SDX-0509",
            Error::Plan { .. } => "SDX-0511",
            Error::Tensor(_) => "SDX-0507",
            Error::NoDevice { .. } => "SDX-0601",
            Error::Device { lost: false, .. } => "SDX-0602",
            Error::Device { lost: true, .. } => "SDX-0603",
            Error::DeviceTimeout { .. } => "SDX-0604",
            Error::Deadline { .. } => "SDX-0701",
            Error::Cancelled => "SDX-0702",
            Error::Memory { .. } => "SDX-0411",
            Error::Internal(_) => "SDX-0901",
        }
    }

    /// Trying again on a new session may work: the device was lost or too slow.
    pub fn retryable(&self) -> bool {
        matches!(self, Error::Device { lost: true, .. } | Error::DeviceTimeout { .. })
    }

    /// The node of the model concerned, if one is.
    pub fn node(&self) -> Option<&str> {
        match self {
            Error::Model(error) => error.node(),
            Error::Unsupported { node, .. } | Error::Step { node, .. } => Some(node),
            _ => None,
        }
    }

    /// What to try next.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Error::Model(error) => return error.hint().map(str::to_owned),
            Error::Unsupported { .. } => "allow the CPU for it: Fallback::Allow, --fallback allow".to_owned(),
            Error::InputShape { .. } => "give a tensor of the model's dimensions".to_owned(),
            Error::InputType { expected, .. } => format!("convert the data to {expected}"),
            Error::NoDevice { .. } => "list the devices: sardonyx devices".to_owned(),
            Error::Device { lost: true, .. } => "open the device and build the session again".to_owned(),
            Error::Plan { .. } => "save the plan again: Session::plan, inspect --save-plan".to_owned(),
            Error::DeviceTimeout { .. } => "try a smaller input, another device, or the CPU".to_owned(),
            Error::Internal(_) => "this is a defect in Sardonyx: please report it with the model".to_owned(),
            _ => return None,
        })
    }
}

impl From<sardonyx_ops::TensorError> for Error {
    fn from(error: sardonyx_ops::TensorError) -> Error {
        Error::Tensor(error)
    }
}

impl From<ImportError> for Error {
    fn from(error: ImportError) -> Error {
        Error::Model(Arc::new(error))
    }
}
