//! From an ONNX file to a plan: decode, check, infer, fold, recognise, fuse.
//!
//! Everything this crate reads is untrusted: a damaged or hostile file gives an [`ImportError`], in bounded
//! time and memory, and never a panic.

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

pub mod error;
pub mod map;
pub mod onnx;

pub use error::ImportError;
pub use onnx::LoadLimits;
