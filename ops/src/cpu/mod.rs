//! What CPU kernels of several families share.

pub mod math;
