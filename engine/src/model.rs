//! Models: files, mapped and checked.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use sardonyx_importer::{ImportError, LoadLimits, Metadata, ValueSpec};
use sardonyx_ops::ir::graph::Graph;

use tracing::field;

use crate::digest::Digest;
use crate::error::Result;

/// An ONNX model: its file is mapped, its graph checked; weights are not touched yet. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Model {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    model: sardonyx_importer::Model,
    digest: OnceLock<Digest>,
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
        let path = path.as_ref();
        Model::load(&path.display(), || sardonyx_importer::Model::open_with(path, limits))
    }

    /// Takes a model from memory; it cannot have external weights.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn from_bytes(bytes: impl Into<bytes::Bytes>) -> Result<Model> {
        Model::load(&"memory", || sardonyx_importer::Model::from_bytes(bytes))
    }

    fn load(
        from: &dyn fmt::Display,
        read: impl FnOnce() -> std::result::Result<sardonyx_importer::Model, ImportError>,
    ) -> Result<Model> {
        let span = tracing::info_span!("load", from = %from, bytes = field::Empty, nodes = field::Empty);
        let model = span.in_scope(read)?;
        span.record("bytes", model.bytes().len()).record("nodes", model.graph().nodes.len());
        Ok(Model { inner: Arc::new(Inner { model, digest: OnceLock::new() }) })
    }

    /// What a run takes, in the model's order.
    pub fn inputs(&self) -> &[ValueSpec] {
        self.inner.model.inputs()
    }

    /// What a run gives, in the model's order.
    pub fn outputs(&self) -> &[ValueSpec] {
        self.inner.model.outputs()
    }

    /// Where the model comes from.
    pub fn metadata(&self) -> &Metadata {
        self.inner.model.metadata()
    }

    /// The operators and constants of the model, for tools that look at them.
    pub fn graph(&self) -> &Graph {
        self.inner.model.graph()
    }

    /// The bytes of the model's file, external weights not included.
    pub fn bytes(&self) -> &bytes::Bytes {
        self.inner.model.bytes()
    }

    /// The digest of those bytes. The first call reads all of them, which takes a while for large models.
    pub fn digest(&self) -> Digest {
        *self.inner.digest.get_or_init(|| Digest::of(self.bytes()))
    }
}
