//! Graphs of existing operators, for operators that stand for several: what [`crate::operator::Operator::expand`] gives.
//! [`sketch`] makes those that depend on the sizes of values in between.

pub mod sketch;

use std::collections::HashMap;
use std::sync::Arc;

use crate::build::{NodeSpec, OperatorRow};
use crate::control::evaluate::evaluate;
use crate::error::OpError;
use crate::ir::attributes::{Attribute, Attributes};
use crate::ir::fact::Fact;
use crate::ir::graph::{Graph, Node, ValueId};
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::movement::reshape::Reshape;
use crate::operator::{Expansion, Operator};
use crate::pointwise;
use crate::reduce::{Axes, Kind, Reduce, Reduced};

/// The version of the standard operators that compositions are made of.
const LATEST: i64 = 24;

/// A standard operator by its ONNX name.
fn standard(
    families: &[&[OperatorRow]],
    name: &str,
    opset: i64,
    attributes: &Attributes,
    inputs: usize,
) -> Result<Arc<dyn Operator>, OpError> {
    let rows = families.iter().copied().flatten().filter(|row| row.domain.is_empty() && row.name == name);
    let row = rows.filter(|row| row.since <= opset).max_by_key(|row| row.since);
    let row = row.ok_or_else(|| OpError::unsupported(format!("the function {name:?} here")))?;
    let inputs = &vec![true; inputs][..];
    (row.build)(&NodeSpec { op_type: row.name, opset, inputs, outputs: &[true], attributes })
}

/// An operator that stands for the same graph whatever its inputs are.
#[derive(Debug)]
struct Composite {
    name: &'static str,
    graph: Arc<Graph>,
    /// Which input of the operator each of the graph's is.
    inputs: Vec<usize>,
}

impl Operator for Composite {
    fn name(&self) -> &'static str {
        self.name
    }

    fn expand(&self, _inputs: &[Option<&Fact>]) -> Result<Expansion, OpError> {
        Ok(Expansion::Graph { graph: Arc::clone(&self.graph), inputs: self.inputs.clone() })
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let missing = || OpError::Internal("an input is missing");
        let constants = self.graph.constants.iter().map(|(id, tensor)| (*id, Fact::constant(tensor.clone())));
        let mut facts: HashMap<ValueId, Fact> = constants.collect();
        for ((id, _), &index) in self.graph.inputs.iter().zip(&self.inputs) {
            let fact = inputs.get(index).copied().flatten().ok_or_else(missing)?;
            facts.insert(*id, fact.clone());
        }
        for node in &self.graph.nodes {
            let known: Vec<Option<&Fact>> =
                node.inputs.iter().map(|id| id.and_then(|id| facts.get(&id))).collect();
            let results = node.op.infer(&known, node.outputs.len())?;
            facts.extend(node.outputs.iter().zip(results).filter_map(|(id, fact)| Some(((*id)?, fact))));
        }
        self.graph.outputs.iter().map(|id| facts.get(id).cloned().ok_or_else(missing)).collect()
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let given = self.inputs.iter().map(|&index| Some(inputs.get(index)?.as_ref()?.to_tensor()));
        evaluate(&self.graph, given.collect::<Option<_>>().ok_or(OpError::Internal("an input is missing"))?)
    }
}

/// A graph under construction, whose inputs are inputs of the node that it takes the place of.
#[derive(Debug, Default)]
pub struct Composition {
    graph: Graph,
    inputs: Vec<usize>,
}

impl Composition {
    /// Input `index` of the node.
    pub fn input(&mut self, index: usize, fact: &Fact) -> ValueId {
        let id = self.graph.add_value(format!("input{index}"));
        self.graph.inputs.push((id, fact.clone()));
        self.inputs.push(index);
        id
    }

    /// A constant.
    pub fn constant(&mut self, tensor: Tensor) -> ValueId {
        let id = self.graph.add_value(format!("constant{}", self.graph.constants.len()));
        self.graph.constants.insert(id, tensor);
        id
    }

    /// The first output of an operator.
    pub fn node(&mut self, op: Arc<dyn Operator>, inputs: &[ValueId]) -> ValueId {
        let inputs: Vec<Option<ValueId>> = inputs.iter().copied().map(Some).collect();
        let id = self.graph.add_value(self.next_name(&*op));
        self.add(op, inputs, vec![Some(id)]);
        id
    }

    /// The outputs of an operator, some of whose inputs may be absent.
    pub fn nodes(
        &mut self,
        op: Arc<dyn Operator>,
        inputs: &[Option<ValueId>],
        outputs: usize,
    ) -> Vec<ValueId> {
        let name = self.next_name(&*op);
        let ids: Vec<ValueId> = (0..outputs).map(|_| self.graph.add_value(Arc::clone(&name))).collect();
        self.add(op, inputs.to_vec(), ids.iter().copied().map(Some).collect());
        ids
    }

    /// The outputs of an operator that has several.
    pub fn node_of<const N: usize>(&mut self, op: Arc<dyn Operator>, inputs: &[ValueId]) -> [ValueId; N] {
        let name = self.next_name(&*op);
        let outputs = std::array::from_fn(|index| self.graph.add_value(format!("{name}.{index}")));
        self.add(op, inputs.iter().copied().map(Some).collect(), outputs.map(Some).to_vec());
        outputs
    }

    fn next_name(&self, op: &dyn Operator) -> Arc<str> {
        format!("{}{}", op.name(), self.graph.nodes.len()).into()
    }

    fn add(&mut self, op: Arc<dyn Operator>, inputs: Vec<Option<ValueId>>, outputs: Vec<Option<ValueId>>) {
        let name = self.next_name(&*op);
        self.graph.nodes.push(Node { name, op, inputs, outputs });
    }

    /// A node of another graph. `here` says where what it reads is found, and is told where its results are.
    ///
    /// # Errors
    /// When it reads what is not in `here`.
    pub fn copy(
        &mut self,
        node: &Node,
        suffix: &str,
        here: &mut HashMap<ValueId, ValueId>,
    ) -> Result<(), OpError> {
        let missing = OpError::Internal("a nested graph reads a value that nothing writes");
        let find = |id: &ValueId| here.get(id).copied().ok_or_else(|| missing.clone());
        let inputs = node.inputs.iter().map(|id| id.as_ref().map(find).transpose());
        let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
        let name: Arc<str> = format!("{}{suffix}", node.name).into();
        let mut outputs = Vec::with_capacity(node.outputs.len());
        for id in &node.outputs {
            outputs.push(id.map(|id| {
                let new = self.graph.add_value(Arc::clone(&name));
                here.insert(id, new);
                new
            }));
        }
        self.graph.nodes.push(Node { name, op: Arc::clone(&node.op), inputs, outputs });
        Ok(())
    }

    /// The result of an operator without attributes that computes element by element, by its ONNX name.
    ///
    /// # Errors
    /// When there is no such operator.
    pub fn pointwise(&mut self, name: &str, inputs: &[ValueId]) -> Result<ValueId, OpError> {
        self.pointwise_of(name, LATEST, &[], inputs)
    }

    /// An activation by its ONNX name, with parameters by the names that these have as attributes.
    ///
    /// # Errors
    /// When there is no such operator, or it does not take them.
    pub fn activation(
        &mut self,
        name: &str,
        params: &[(&str, f32)],
        value: ValueId,
    ) -> Result<ValueId, OpError> {
        // From opset 11 on the limits are inputs.
        let opset = if name == "Clip" { 6 } else { LATEST };
        self.pointwise_of(name, opset, params, &[value])
    }

    fn pointwise_of(
        &mut self,
        name: &str,
        opset: i64,
        params: &[(&str, f32)],
        inputs: &[ValueId],
    ) -> Result<ValueId, OpError> {
        let mut attributes = Attributes::default();
        params.iter().for_each(|(name, value)| attributes.insert(*name, Attribute::Float(*value)));
        let op = standard(&[pointwise::OPERATORS], name, opset, &attributes, inputs.len())?;
        if let Some(unread) = attributes.unread().first() {
            return Err(OpError::unsupported(format!("{unread} of the function {name:?}")));
        }
        Ok(self.node(op, inputs))
    }

    /// A value under other dimensions, with as many elements.
    ///
    /// # Errors
    /// When a dimension does not fit i64.
    pub fn reshape(&mut self, value: ValueId, dims: &[usize]) -> Result<ValueId, OpError> {
        let sizes: Result<Vec<i64>, _> = dims.iter().map(|&extent| i64::try_from(extent)).collect();
        let shape = self.constant(Tensor::from_vec(&[dims.len()], sizes.map_err(|_| OpError::Size)?)?);
        Ok(self.node(Arc::new(Reshape { allow_zero: true }), &[value, shape]))
    }

    /// A reduction over some axes, which stay with extent 1 if `keepdims`. No axes reduce everything.
    pub fn reduce(&mut self, kind: Kind, value: ValueId, axes: &[usize], keepdims: bool) -> ValueId {
        let axes = Axes::Attribute(axes.iter().map(|&axis| axis as i64).collect());
        let reduced = Reduced { axes, keepdims, noop_with_empty_axes: false };
        self.node(Arc::new(Reduce { name: kind.name(), kind, reduced }), &[value])
    }

    /// An operator that stands for the graph, whatever its inputs are.
    pub fn operator(mut self, name: &'static str, outputs: &[ValueId]) -> Arc<dyn Operator> {
        self.graph.outputs = outputs.to_vec();
        Arc::new(Composite { name, graph: Arc::new(self.graph), inputs: self.inputs })
    }

    /// The finished graph.
    pub fn finish(mut self, outputs: &[ValueId]) -> Expansion {
        self.graph.outputs = outputs.to_vec();
        Expansion::Graph { graph: Arc::new(self.graph), inputs: self.inputs }
    }
}
