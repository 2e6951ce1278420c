//! The words everything else is said in: element types, dimensions, host tensors, attributes, graphs.

pub mod dim;
pub mod dtype;
pub mod tensor;
