//! What operators mean.

pub mod ir;

pub use ir::dtype::{DType, Element};
pub use ir::tensor::{Tensor, TensorError};
