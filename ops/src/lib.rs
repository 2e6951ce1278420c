//! What operators mean: element types, shapes, host tensors, the operators themselves with their references, CPU kernels
//! and lowerings, and the plan that the importer makes of them.

pub mod attention;
pub mod broadcast;
pub mod build;
pub mod compose;
pub mod control;
pub mod conv;
pub mod cpu;
pub mod dispatch;
pub mod error;
pub mod expr;
pub mod finish;
pub mod ir;
pub mod layout;
pub mod loss;
pub mod matmul;
pub mod ml;
pub mod movement;
pub mod norm;
pub mod operator;
pub mod picture;
pub mod plan;
pub mod pointwise;
pub mod pool;
pub mod problem;
pub mod quantize;
pub mod random;
pub mod recurrent;
pub mod reduce;
pub mod repacked;
pub mod resize;
pub mod restricted;
pub mod sequence;
pub mod signal;
pub mod sort;
pub mod text;
pub mod training;

pub use compose::sketch;
pub use error::OpError;
pub use ir::dtype::{DType, Element};
pub use ir::item::Item;
pub use ir::tensor::{Tensor, TensorError};
pub use operator::{CpuKernel, CpuRun, Expansion, Operator, Role};
