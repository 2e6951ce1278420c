//! Rewriting float models as quantized ones.
//!
//! A [`Draft`] is a decoded model that can be changed and written. Each scheme is a function over it:
//!
//! | scheme | function | result |
//! |---|---|---|
//! | weights of 4 or 8 bits in blocks, rounded to the nearest or by [`Moments`] of their inputs | [`weights_only`] | `com.microsoft` MatMulNBits |
//! | 16-bit floats | [`to_f16`] | the same operators over f16, f32 at the inputs and outputs |
//! | 8-bit integers, activations measured in each run | [`dynamic_int8`] | DynamicQuantizeLinear and MatMulInteger |
//! | 8-bit integers, activations measured before | [`StaticPlan`] | QuantizeLinear and DequantizeLinear around operators |
//!
//! The outputs are standard ONNX; other runtimes run them as well.

mod compensate;
mod draft;
mod dynamic;
mod half;
mod matrix;
mod range;
mod rounding;
mod statics;
mod weights;

#[cfg(test)]
mod testing;

use std::collections::HashSet;
use std::sync::Arc;

pub use compensate::{AllMoments, Moments};
pub use draft::{Draft, label};
pub use dynamic::{DynamicOptions, dynamic_int8};
pub use half::to_f16;
pub use range::{Histogram, Method, Range};
pub use statics::{StaticOptions, StaticPlan};
pub use weights::{BlockOptions, inputs_of_products, weights_only};

/// Names of nodes (see [`label`]) that stay in float.
pub type Excluded = HashSet<Arc<str>>;

/// What a scheme did.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// The nodes that are quantized now, in their order.
    pub layers: Vec<Layer>,
    /// What the caller should know besides, one sentence each.
    pub warnings: Vec<String>,
}

/// A quantized node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Its name in the float model.
    pub node: Arc<str>,
    /// Its operator in the float model.
    pub op: Arc<str>,
    /// The name of its result in the float model.
    pub float: Arc<str>,
    /// The name of the same result in the quantized model.
    pub quantized: Arc<str>,
}
