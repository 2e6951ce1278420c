//! Models: files, mapped and checked.

use std::path::Path;
use std::sync::Arc;

use sardonyx_importer::{LoadLimits, Metadata, ValueSpec};
use sardonyx_ops::ir::graph::Graph;

use crate::error::Result;

/// An ONNX model: its file is mapped, its graph checked; weights are not touched yet. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Model {
    inner: Arc<sardonyx_importer::Model>,
}

impl Model {
    /// Opens a model file. External weights are looked for beside it.
    ///
    /// # Errors
    /// When the file cannot be read, is not a sound ONNX model, or uses what Sardonyx does not do.
    pub fn open(path: impl AsRef<Path>) -> Result<Model> {
        Model::open_with(path, &LoadLimits::default())
    }

    /// Opens a model file within limits of size, depth and counts.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn open_with(path: impl AsRef<Path>, limits: &LoadLimits) -> Result<Model> {
        Ok(Model::wrap(sardonyx_importer::Model::open_with(path, limits)?))
    }

    /// Takes a model from memory; it cannot have external weights.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn from_bytes(bytes: impl Into<bytes::Bytes>) -> Result<Model> {
        Ok(Model::wrap(sardonyx_importer::Model::from_bytes(bytes)?))
    }

    fn wrap(model: sardonyx_importer::Model) -> Model {
        Model { inner: Arc::new(model) }
    }

    /// What a run takes, in the model's order.
    pub fn inputs(&self) -> &[ValueSpec] {
        self.inner.inputs()
    }

    /// What a run gives, in the model's order.
    pub fn outputs(&self) -> &[ValueSpec] {
        self.inner.outputs()
    }

    /// Where the model comes from.
    pub fn metadata(&self) -> &Metadata {
        self.inner.metadata()
    }

    /// The operators and constants of the model, for tools that look at them.
    pub fn graph(&self) -> &Graph {
        self.inner.graph()
    }

    /// The bytes of the model's file, external weights not included.
    pub fn bytes(&self) -> &bytes::Bytes {
        self.inner.bytes()
    }
}
