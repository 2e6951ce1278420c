//! Operators of `ai.onnx.ml`: classical machine learning.

mod array_feature_extractor;
mod binarizer;
mod category_mapper;
mod feature_vectorizer;
mod forest;
mod imputer;
mod label_encoder;
mod linear;
mod maps;
mod normalizer;
mod one_hot_encoder;
mod rows;
mod scaler;
mod scores;
mod tree_ensemble;
mod trees;

pub use array_feature_extractor::ArrayFeatureExtractor;
pub use binarizer::Binarizer;
pub use category_mapper::CategoryMapper;
pub use feature_vectorizer::FeatureVectorizer;
pub use forest::{TreeEnsembleClassifier, TreeEnsembleRegressor};
pub use label_encoder::LabelEncoder;
pub use linear::LinearClassifier;
pub use one_hot_encoder::OneHotEncoder;
pub use tree_ensemble::TreeEnsemble;

use crate::build::{Build, OperatorRow};

const fn row(name: &'static str, since: i64, build: Build) -> OperatorRow {
    OperatorRow { domain: "ai.onnx.ml", name, since, build }
}

/// The operators of this family.
pub const OPERATORS: &[OperatorRow] = &[
    row("ArrayFeatureExtractor", 1, array_feature_extractor::build),
    row("Binarizer", 1, binarizer::build),
    row("CategoryMapper", 1, category_mapper::build),
    row("DictVectorizer", 1, maps::refuse),
    row("FeatureVectorizer", 1, feature_vectorizer::build),
    row("Imputer", 1, imputer::build),
    row("LabelEncoder", 2, label_encoder::build),
    row("LinearClassifier", 1, linear::classifier),
    row("LinearRegressor", 1, linear::regressor),
    row("Normalizer", 1, normalizer::build),
    row("OneHotEncoder", 1, one_hot_encoder::build),
    row("Scaler", 1, scaler::build),
    row("TreeEnsemble", 5, tree_ensemble::build),
    row("TreeEnsembleClassifier", 1, forest::classifier),
    row("TreeEnsembleRegressor", 1, forest::regressor),
    row("ZipMap", 1, maps::refuse),
];
