//! Kernels that measure what a device can reach. They are no variants: no operator runs them. Both take a buffer that is
//! read and one that is written, in groups of 64 invocations.

/// Copies the first buffer to the second, in pieces of 16 bytes, whatever the number of workgroups in a row.
pub const COPY: &str = include_str!("../wgsl/roof/copy.wgsl");

/// Multiplies and adds, [`MULTIPLY_ADDS`] times in each invocation, with the two `vec4<f32>` of the first buffer.
pub const MULTIPLY_ADD: &str = include_str!("../wgsl/roof/multiply_add.wgsl");

/// Multiply-adds of one invocation of [`MULTIPLY_ADD`].
pub const MULTIPLY_ADDS: u64 = 256 * 32;
