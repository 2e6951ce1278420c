//! Operators of `ai.onnx.ml`: classical machine learning.

mod array_feature_extractor;
mod binarizer;
mod label_encoder;
mod tree_ensemble;

pub use array_feature_extractor::ArrayFeatureExtractor;
pub use binarizer::Binarizer;
pub use label_encoder::LabelEncoder;
pub use tree_ensemble::TreeEnsemble;

use crate::build::{Build, OperatorRow};

const fn row(name: &'static str, since: i64, build: Build) -> OperatorRow {
    OperatorRow { domain: "ai.onnx.ml", name, since, build }
}

/// The operators of this family.
pub const OPERATORS: &[OperatorRow] = &[
    row("ArrayFeatureExtractor", 1, array_feature_extractor::build),
    row("Binarizer", 1, binarizer::build),
    row("LabelEncoder", 2, label_encoder::build),
    row("TreeEnsemble", 5, tree_ensemble::build),
];
