//! The GPU kernels of Sardonyx, written in WGSL.
//!
//! A kernel is one file under `wgsl/`, a *variant* is one row of [`table::VARIANTS`], and a [`Kernel`] is a variant with
//! everything chosen that turns it into source: the storage of each tensor, the values of its knobs, and the
//! [`expression::Expression`] applied to each result before it is stored. [`Kernel::source`] is a pure function; this
//! crate knows neither devices nor operators.

pub mod bound;
pub mod caps;
pub mod expression;
mod kernel;
pub mod library;
pub mod params;
pub mod roof;
pub mod storage;
pub mod table;
mod unroll;

pub use bound::Bound;
pub use caps::Capabilities;
pub use kernel::{Kernel, Source};
