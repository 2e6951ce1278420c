//! Attention, and what models compute around it.

mod append;
mod attend;
mod attend_cpu;
mod attend_gpu;
#[allow(clippy::module_inception, reason = "the family has the name of its first operator")]
mod attention;
mod causal_conv;
mod embed;
mod flex;
mod group_query;
mod linear;
mod multi_head;
mod packed;
mod padding;
mod rotary;
mod scaled;
mod tensor_scatter;

pub use append::Append;
pub use attend::{Attend, Order, Spot};
pub use attention::Attention;
pub use causal_conv::CausalConv;
pub use embed::EmbedLayerNormalization;
pub use flex::FlexAttention;
pub use group_query::GroupQueryAttention;
pub use linear::LinearAttention;
pub use multi_head::MultiHeadAttention;
pub use packed::PackedAttention;
pub use rotary::RotaryEmbedding;
pub use scaled::Sizes;
pub use tensor_scatter::TensorScatter;

use crate::build::{Build, OperatorRow};

const fn row(name: &'static str, since: i64, build: Build) -> OperatorRow {
    OperatorRow { domain: "", name, since, build }
}

const fn contributed(name: &'static str, build: Build) -> OperatorRow {
    OperatorRow { domain: "com.microsoft", name, since: 1, build }
}

/// The operators of this family.
pub const OPERATORS: &[OperatorRow] = &[
    row("Attention", 23, attention::build),
    row("CausalConvWithState", 27, causal_conv::build),
    row("LinearAttention", 27, linear::build),
    row("RotaryEmbedding", 23, rotary::build),
    row("TensorScatter", 24, tensor_scatter::build),
    OperatorRow { domain: "ai.onnx.preview", name: "FlexAttention", since: 1, build: flex::build },
    contributed("Attention", packed::build),
    contributed("EmbedLayerNormalization", embed::build),
    contributed("GroupQueryAttention", group_query::build),
    contributed("MultiHeadAttention", multi_head::build),
    contributed("RotaryEmbedding", rotary::contributed),
];
