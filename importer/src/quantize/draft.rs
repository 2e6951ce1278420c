//! A decoded model that can be changed and written.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use sardonyx_ops::{DType, Tensor};

use crate::error::{ImportError, InvalidFault, Place, UnsupportedFault};
use crate::graph;
use crate::infer::{FoldLimits, infer};
use crate::map::map_file;
use crate::onnx::{
    self, AttributeProto, AttributeValue, Encoded, ExternalData, LoadLimits, ModelProto, NodeProto,
    OperatorSetId, TensorData, TensorProto,
};

type Result<T> = std::result::Result<T, ImportError>;

/// The most bytes of initializers in a model file: protobuf allows 2 GiB, and the graph needs room beside them.
const MOST_BYTES: u64 = (1 << 31) - (64 << 20);

/// A model to rewrite. Its weights share the memory of the file they come from.
#[derive(Debug, Clone)]
pub struct Draft {
    pub(super) model: ModelProto,
    constants: HashMap<Arc<str>, Tensor>,
    names: HashSet<Arc<str>>,
    limits: LoadLimits,
    loaded: u64,
}

/// The name by which a node is known: its own, or that of its first output.
pub fn label(node: &NodeProto) -> Arc<str> {
    node.place().node.unwrap_or_default()
}

impl Draft {
    /// Reads a model file and maps the files of its external data.
    ///
    /// # Errors
    /// As [`crate::Model::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Draft> {
        let path = path.as_ref();
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        Draft::read(map_file(path)?, Some(ExternalData::new(folder.unwrap_or(Path::new(".")))?))
    }

    /// Takes a model from memory; it cannot have external data.
    ///
    /// # Errors
    /// As [`crate::Model::from_bytes`].
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Result<Draft> {
        Draft::read(bytes.into(), None)
    }

    fn read(bytes: Bytes, mut external: Option<ExternalData>) -> Result<Draft> {
        let limits = LoadLimits::default();
        let mut loaded = bytes.len() as u64;
        let mut model = onnx::read(bytes, &limits)?;
        let mut constants = HashMap::new();
        for proto in &mut model.graph.initializers {
            let tensor = match &mut external {
                Some(external) => external.tensor(proto, &limits)?,
                None => onnx::to_tensor(proto, &limits)?,
            };
            if matches!(proto.data, TensorData::External(_)) {
                proto.data = TensorData::Raw(tensor.shared_bytes());
                loaded = loaded.saturating_add(tensor.bytes().len() as u64);
            }
            constants.insert(proto.name.clone(), tensor);
        }
        let mut names = HashSet::new();
        for node in &model.graph.nodes {
            names.extend(node.outputs.iter().cloned());
            if let (true, Some(name)) = (is_constant(node), node.outputs.first())
                && let Some(tensor) = value(node, &limits)?
            {
                constants.insert(name.clone(), tensor);
            }
        }
        names.extend(model.graph.inputs.iter().map(|info| info.name.clone()));
        names.extend(constants.keys().cloned());
        let draft = Draft { model, constants, names, limits, loaded };
        draft.check_versions()?;
        Ok(draft)
    }

    /// The body of an inlined function may mean another version of an operator than the model's graph can say.
    fn check_versions(&self) -> Result<()> {
        for node in &self.model.graph.nodes {
            if self.version(&node.domain).is_some_and(|version| version != node.opset) {
                let detail = "a local function uses another version of the operator set than the model";
                return Err(ImportError::unsupported(node.place(), UnsupportedFault::Operator, detail));
            }
        }
        Ok(())
    }

    /// The bytes of the model file and of its external weights.
    pub fn loaded_bytes(&self) -> u64 {
        self.loaded
    }

    /// The version of an operator set that the model imports.
    pub fn version(&self, domain: &str) -> Option<i64> {
        self.model.opset_imports.iter().find(|import| &*import.domain == domain).map(|import| import.version)
    }

    /// The contents of an initializer or a `Constant` node of the main graph.
    pub fn constant(&self, name: &str) -> Option<&Tensor> {
        self.constants.get(name)
    }

    /// The nodes of the main graph, in topological order.
    pub fn nodes(&self) -> &[NodeProto] {
        &self.model.graph.nodes
    }

    /// A name that nothing has, beginning with `stem`.
    pub(super) fn fresh(&mut self, stem: &str) -> Arc<str> {
        let mut name: Arc<str> = stem.into();
        let mut number = 1;
        while !self.names.insert(name.clone()) {
            number += 1;
            name = format!("{stem}_{number}").into();
        }
        name
    }

    /// Adds an initializer, and gives its name.
    pub(super) fn add(&mut self, stem: &str, tensor: Tensor) -> Arc<str> {
        let name = self.fresh(stem);
        // Before version 4 of the format every initializer had to be an input as well.
        self.model.ir_version = self.model.ir_version.max(4);
        self.model.graph.initializers.push(proto(&name, &tensor));
        self.constants.insert(name.clone(), tensor);
        name
    }

    /// Makes sure that a domain is imported.
    pub(super) fn import(&mut self, domain: &str, version: i64) {
        if self.version(domain).is_none() {
            self.model.opset_imports.push(OperatorSetId { domain: domain.into(), version });
        }
    }

    /// A node of ONNX's own operator set.
    pub(super) fn node(
        &self,
        op: &str,
        name: &str,
        inputs: &[&Arc<str>],
        outputs: &[&Arc<str>],
    ) -> NodeProto {
        NodeProto {
            name: name.into(),
            op_type: op.into(),
            inputs: inputs.iter().map(|input| Arc::clone(input)).collect(),
            outputs: outputs.iter().map(|output| Arc::clone(output)).collect(),
            opset: self.version("").unwrap_or_default(),
            ..NodeProto::default()
        }
    }

    /// How often each value is read, by nodes, their subgraphs and as an output.
    pub(super) fn readers(&self) -> HashMap<Arc<str>, usize> {
        let mut readers: HashMap<Arc<str>, usize> = HashMap::new();
        for node in &self.model.graph.nodes {
            let captured = node.subgraphs().flat_map(|graph| &graph.captures);
            node.inputs
                .iter()
                .chain(captured)
                .for_each(|name| *readers.entry(name.clone()).or_default() += 1);
        }
        for output in &self.model.graph.outputs {
            *readers.entry(output.name.clone()).or_default() += 1;
        }
        readers
    }

    /// Drops initializers, with the inputs whose defaults they are, and `Constant` nodes that nothing reads.
    pub(super) fn sweep(&mut self) {
        let read = self.readers();
        let graph = &mut self.model.graph;
        graph
            .nodes
            .retain(|node| !is_constant(node) || node.outputs.iter().any(|output| read.contains_key(output)));
        let dropped: HashSet<Arc<str>> = graph
            .initializers
            .iter()
            .map(|tensor| tensor.name.clone())
            .filter(|name| !read.contains_key(name))
            .collect();
        graph.initializers.retain(|tensor| !dropped.contains(&tensor.name));
        graph.inputs.retain(|info| !dropped.contains(&info.name));
        graph.value_info.retain(|info| !dropped.contains(&info.name));
    }

    /// The element types of values, as far as inference finds them.
    ///
    /// # Errors
    /// As [`crate::Model::open`]: operators that are not known, and what inference finds wrong.
    pub(super) fn facts(&self) -> Result<BTreeMap<Arc<str>, sardonyx_ops::ir::fact::Fact>> {
        let graph = graph::build(&self.model.graph, &|tensor| onnx::to_tensor(tensor, &self.limits))?;
        let inputs: Vec<_> = graph.inputs.iter().map(|(_, fact)| fact.clone()).collect();
        let inferred = infer(&graph, &inputs, &FoldLimits::shapes_only())?;
        let named = inferred.graph.names.iter().zip(&inferred.facts);
        Ok(named.filter_map(|(name, fact)| Some((name.clone(), fact.clone()?))).collect())
    }

    /// The model as pieces of files; above 2 GiB of weights, these go to `data_file` beside it.
    ///
    /// # Errors
    /// As [`onnx::encode_model`].
    pub fn encode(&self, data_file: &str) -> Result<Encoded> {
        onnx::encode_model(&self.model, data_file, MOST_BYTES, &self.limits)
    }
}

/// The value of a `Constant` node, of the kinds that rewriting looks at.
fn value(node: &NodeProto, limits: &LoadLimits) -> Result<Option<Tensor>> {
    let given = node.attributes.first().map(|attribute| &attribute.value);
    Ok(match given {
        Some(AttributeValue::Tensor(proto)) if !matches!(proto.data, TensorData::External(_)) => {
            Some(onnx::to_tensor(proto, limits)?)
        }
        Some(AttributeValue::Float(value)) => Some(Tensor::scalar(*value)),
        Some(AttributeValue::Floats(values)) => Some(made(Tensor::from_slice(&[values.len()], values))?),
        _ => None,
    })
}

fn is_constant(node: &NodeProto) -> bool {
    &*node.op_type == "Constant" && node.domain.is_empty()
}

/// A tensor as an initializer.
pub(super) fn proto(name: &Arc<str>, tensor: &Tensor) -> TensorProto {
    let data = if tensor.is_empty() { TensorData::Absent } else { TensorData::Raw(tensor.shared_bytes()) };
    TensorProto {
        name: name.clone(),
        dims: tensor.dims().iter().map(|dim| *dim as i64).collect(),
        data_type: tensor.dtype().to_onnx().into(),
        data,
    }
}

/// An integer attribute.
pub(super) fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: name.into(), value: AttributeValue::Int(value) }
}

/// The value of an integer attribute, or its default.
pub(super) fn int_of(node: &NodeProto, name: &str, default: i64) -> i64 {
    match node.attribute(name) {
        Some(AttributeValue::Int(value)) => *value,
        _ => default,
    }
}

/// The value of a float attribute, or its default.
pub(super) fn float_of(node: &NodeProto, name: &str, default: f32) -> f32 {
    match node.attribute(name) {
        Some(AttributeValue::Float(value)) => *value,
        _ => default,
    }
}

/// A tensor that could not be made of sizes that this crate chose: a defect.
pub(super) fn made<E: std::fmt::Display>(result: std::result::Result<Tensor, E>) -> Result<Tensor> {
    result.map_err(|error| {
        ImportError::invalid(Place::model(), InvalidFault::TensorData, format!("a quantized tensor: {error}"))
    })
}

/// The elements of a constant of f32.
pub(super) fn floats(tensor: &Tensor) -> Option<std::borrow::Cow<'_, [f32]>> {
    if tensor.dtype() == DType::F32 { tensor.elements::<f32>().ok() } else { None }
}
