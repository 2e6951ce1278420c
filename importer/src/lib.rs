//! From an ONNX file to a plan: decode, check, infer, fold, recognise, fuse.
//!
//! Everything this crate reads is untrusted: a damaged or hostile file gives an [`ImportError`], in bounded
//! time and memory, and never a panic.

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

pub mod error;
pub mod graph;
pub mod infer;
pub mod map;
mod model;
pub mod onnx;
pub mod passes;
pub mod plan;
mod prepare;
pub mod quantize;
mod standard;
pub mod table;

pub use error::ImportError;
pub use infer::FoldLimits;
pub use model::{Metadata, Model, ValueSpec};
pub use onnx::LoadLimits;
pub use plan::{HostInput, PlanOptions, Rest, Source, Stage, Take, Work, plan};
pub use prepare::{Prepared, prepare};
