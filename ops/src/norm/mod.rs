//! Operators that bring groups of elements to a common scale.

mod batch;
mod batch_training;
mod cpu;
mod expansion;
mod gpu;
mod group;
mod layer;
mod lp;
mod lrn;
mod normalize;
mod parameter;
mod skip;
mod softmax;
mod statistic;

pub use batch::BatchNormalization;
pub use batch_training::BatchTraining;
pub use lrn::Lrn;
pub use normalize::{Normalize, Product, Span};
pub use parameter::Stretch;
pub use skip::SkipNormalize;
pub use softmax::{Form, Softmax};
pub use statistic::Statistic;

use crate::build::{Build, OperatorRow};

const fn row(name: &'static str, build: Build) -> OperatorRow {
    OperatorRow { domain: "", name, since: 1, build }
}

const fn contributed(name: &'static str, build: Build) -> OperatorRow {
    OperatorRow { domain: "com.microsoft", name, since: 1, build }
}

/// The ONNX operators of this family.
pub const OPERATORS: &[OperatorRow] = &[
    row("BatchNormalization", batch::build),
    row("GroupNormalization", group::group),
    row("Hardmax", softmax::hard),
    row("InstanceNormalization", group::instance),
    row("LayerNormalization", layer::layer),
    row("LogSoftmax", softmax::log),
    row("LpNormalization", lp::lp),
    row("LRN", lrn::build),
    row("MeanVarianceNormalization", lp::mean_variance),
    row("RMSNormalization", layer::rms),
    // Exporters write this one into the standard domain.
    row("SimplifiedLayerNormalization", layer::simplified),
    contributed("SimplifiedLayerNormalization", layer::simplified),
    contributed("SkipLayerNormalization", skip::layer),
    contributed("SkipSimplifiedLayerNormalization", skip::simplified),
    row("Softmax", softmax::soft),
];
