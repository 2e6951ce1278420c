//! The words everything else is said in: element types, dimensions, host tensors, attributes, graphs.

pub mod attributes;
pub mod derived;
pub mod dim;
pub mod dtype;
pub mod fact;
pub mod graph;
pub mod item;
pub mod narrow;
pub mod numbers;
pub mod tensor;
pub mod view;
