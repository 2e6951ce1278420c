//! What can be wrong with one use of an operator. The caller adds the node's name.

use crate::ir::dim::DimError;
use crate::ir::dtype::DType;
use crate::ir::tensor::TensorError;

/// An operator cannot be built, inferred, lowered or run. Fields, not sentences: the text for people is made by
/// whoever knows the node.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OpError {
    /// An attribute is absent or has another kind than the operator's definition says.
    #[error("attribute {name} must be {expected}")]
    Attribute {
        /// Its name.
        name: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// Too few or too many inputs or outputs.
    #[error("{what}: expected {expected}, got {got}")]
    Arity {
        /// "inputs" or "outputs".
        what: &'static str,
        /// The number or range expected.
        expected: &'static str,
        /// The number found.
        got: usize,
    },
    /// An input has an element type that the operator's definition excludes.
    #[error("input {input} has type {got}, expected {expected}")]
    Type {
        /// Index of the input.
        input: usize,
        /// What the definition allows.
        expected: &'static str,
        /// What was found.
        got: DType,
    },
    /// A rule of the operator's definition is broken.
    #[error("{what}: expected {expected}, got {got}")]
    Constraint {
        /// The thing constrained.
        what: &'static str,
        /// What the definition says.
        expected: String,
        /// What the model says.
        got: String,
    },
    /// Legal ONNX that Sardonyx does not do.
    #[error("{what} is not supported")]
    Unsupported {
        /// The thing not supported.
        what: String,
    },
    /// A size is negative, overflows, or is beyond memory.
    #[error("a size is negative, overflows, or is beyond memory")]
    Size,
    /// A defect of ours: an invariant that inference should have ensured does not hold.
    #[error("internal: {0}")]
    Internal(&'static str),
}

impl OpError {
    /// A broken rule of the definition.
    pub fn constraint(what: &'static str, expected: impl ToString, got: impl ToString) -> OpError {
        OpError::Constraint { what, expected: expected.to_string(), got: got.to_string() }
    }

    /// Legal, but not done here.
    pub fn unsupported(what: impl Into<String>) -> OpError {
        OpError::Unsupported { what: what.into() }
    }
}

impl From<DimError> for OpError {
    fn from(_: DimError) -> OpError {
        OpError::Size
    }
}

impl From<TensorError> for OpError {
    fn from(error: TensorError) -> OpError {
        match error {
            TensorError::TooLarge { .. } => OpError::Size,
            TensorError::Length { .. } => OpError::Internal("data of the wrong length"),
            TensorError::Type { .. } => OpError::Internal("data of the wrong type"),
        }
    }
}
