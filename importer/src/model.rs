//! A model: its graph, what it takes and gives, and where it comes from.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use sardonyx_ops::DType;
use sardonyx_ops::ir::dim::Dim;
use sardonyx_ops::ir::fact::Fact;
use sardonyx_ops::ir::graph::Graph;

use crate::error::ImportError;
use crate::graph;
use crate::infer::{FoldLimits, infer};
use crate::map::map_file;
use crate::onnx::{self, ExternalData, LoadLimits, ModelProto, OperatorSetId, TypeProto, ValueInfoProto};

/// An input or output of a model.
#[derive(Debug, Clone)]
pub struct ValueSpec {
    /// Its name.
    pub name: Arc<str>,
    /// Its element type; `None` for an output whose type only a run finds out.
    pub dtype: Option<DType>,
    /// Its dimensions, by number or by name; `None` when the rank is not known.
    pub shape: Option<Vec<Dim>>,
}

/// Where a model comes from and what it asks for.
#[derive(Debug, Clone)]
pub struct Metadata {
    /// Version of the file format.
    pub ir_version: i64,
    /// Operator sets and their versions.
    pub opsets: Vec<OperatorSetId>,
    /// The exporter's name and version.
    pub producer: (Arc<str>, Arc<str>),
    /// The name of the graph.
    pub graph_name: Arc<str>,
    /// Texts that the model's maker added.
    pub properties: BTreeMap<Arc<str>, Arc<str>>,
}

/// A model, decoded and checked, free of any device. Its weights share the memory of the file.
#[derive(Debug, Clone)]
pub struct Model {
    graph: Graph,
    inputs: Vec<ValueSpec>,
    outputs: Vec<ValueSpec>,
    metadata: Metadata,
    bytes: Bytes,
}

impl Model {
    /// Opens a model file, which is mapped into memory, as are the files of its external data, which must lie beside or
    /// beneath it.
    ///
    /// # Errors
    /// [`ImportError`]: the first thing that is wrong with it.
    pub fn open(path: impl AsRef<Path>) -> Result<Model, ImportError> {
        Model::open_with(path, &LoadLimits::default())
    }

    /// Opens a model file within limits.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn open_with(path: impl AsRef<Path>, limits: &LoadLimits) -> Result<Model, ImportError> {
        let path = path.as_ref();
        // The folder of a name without one is the current folder.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        Model::load(map_file(path)?, limits, Some(ExternalData::new(folder)?))
    }

    /// Takes a model from memory; it cannot have external data.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Result<Model, ImportError> {
        Model::load(bytes.into(), &LoadLimits::default(), None)
    }

    fn load(bytes: Bytes, limits: &LoadLimits, external: Option<ExternalData>) -> Result<Model, ImportError> {
        let proto = onnx::read(bytes.clone(), limits)?;
        let external = RefCell::new(external);
        let graph = graph::build(&proto.graph, &|tensor| match &mut *external.borrow_mut() {
            Some(external) => external.tensor(tensor, limits),
            None => onnx::to_tensor(tensor, limits),
        })?;
        let inputs = graph
            .inputs
            .iter()
            .map(|(id, fact)| ValueSpec {
                name: graph.names.get(id.0).cloned().unwrap_or_default(),
                dtype: Some(fact.dtype),
                shape: fact.shape.clone(),
            })
            .collect();
        let outputs = outputs(&proto, &graph)?;
        Ok(Model { graph, inputs, outputs, metadata: metadata(proto), bytes })
    }

    /// The graph, as the model has it.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// What a caller gives, in order.
    pub fn inputs(&self) -> &[ValueSpec] {
        &self.inputs
    }

    /// What a caller gets, in order.
    pub fn outputs(&self) -> &[ValueSpec] {
        &self.outputs
    }

    /// Where the model comes from.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The bytes of the file, for a digest.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

fn metadata(proto: ModelProto) -> Metadata {
    Metadata {
        ir_version: proto.ir_version,
        opsets: proto.opset_imports,
        producer: (proto.producer_name, proto.producer_version),
        graph_name: proto.graph.name,
        properties: proto.metadata,
    }
}

/// What the graph computes, by inference over its declared inputs. A declared output shape is not trusted, but fills in
/// for one that inference does not find.
fn outputs(proto: &ModelProto, graph: &Graph) -> Result<Vec<ValueSpec>, ImportError> {
    let inputs: Vec<Fact> = graph.inputs.iter().map(|(_, fact)| fact.clone()).collect();
    let inferred = infer(graph, &inputs, &FoldLimits::shapes_only())?;
    let declared: HashMap<&str, &ValueInfoProto> =
        proto.graph.value_info.iter().chain(&proto.graph.outputs).map(|info| (&*info.name, info)).collect();
    let found = graph.outputs.iter().zip(&inferred.graph.outputs).map(|(named, id)| {
        let name = graph.names.get(named.0).cloned().unwrap_or_default();
        let fact = inferred.fact(*id);
        let (dtype, shape) = match declared.get(&*name).and_then(|info| info.ty.as_ref()) {
            Some(TypeProto::Tensor(tensor)) => {
                let dims = tensor.dims.iter().flatten().enumerate();
                let shape: Result<Vec<Dim>, _> =
                    dims.map(|(axis, dim)| graph::declared_dim(&name, axis, dim)).collect();
                (DType::from_onnx(tensor.elem_type), tensor.dims.as_ref().and(shape.ok()))
            }
            _ => (None, None),
        };
        let consistent = fact.is_none_or(|fact| dtype.is_none_or(|dtype| dtype == fact.dtype));
        ValueSpec {
            name,
            dtype: fact.map(|fact| fact.dtype).or(dtype),
            shape: fact.and_then(|fact| fact.shape.clone()).or(shape.filter(|_| consistent)),
        }
    });
    Ok(found.collect())
}
