//! Graphs of existing operators, for operators that stand for several: what [`crate::operator::Operator::expand`] gives.

use std::collections::HashMap;
use std::sync::Arc;

use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::attributes::Attributes;
use crate::ir::fact::Fact;
use crate::ir::graph::{Graph, Node, ValueId};
use crate::ir::tensor::Tensor;
use crate::movement::reshape::Reshape;
use crate::operator::{Expansion, Operator};
use crate::pointwise;
use crate::reduce::{Axes, Kind, Reduce, Reduced};

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
        let name: Arc<str> = format!("{}{}", op.name(), self.graph.nodes.len()).into();
        let id = self.graph.add_value(Arc::clone(&name));
        let inputs = inputs.iter().map(|&id| Some(id)).collect();
        self.graph.nodes.push(Node { name, op, inputs, outputs: vec![Some(id)] });
        id
    }

    /// The outputs of an operator that has several.
    pub fn node_of<const N: usize>(&mut self, op: Arc<dyn Operator>, inputs: &[ValueId]) -> [ValueId; N] {
        let name: Arc<str> = format!("{}{}", op.name(), self.graph.nodes.len()).into();
        let outputs = std::array::from_fn(|index| self.graph.add_value(format!("{name}.{index}")));
        let inputs = inputs.iter().map(|&id| Some(id)).collect();
        self.graph.nodes.push(Node { name, op, inputs, outputs: outputs.map(Some).to_vec() });
        outputs
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
    pub fn pointwise(&mut self, name: &'static str, inputs: &[ValueId]) -> Result<ValueId, OpError> {
        let row = pointwise::OPERATORS.iter().filter(|row| row.domain.is_empty() && row.name == name);
        let row = row.max_by_key(|row| row.since).ok_or(OpError::Internal("no such pointwise operator"))?;
        let op = (row.build)(&NodeSpec {
            op_type: name,
            opset: row.since.max(14),
            inputs: &vec![true; inputs.len()],
            outputs: &[true],
            attributes: &Attributes::default(),
        })?;
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

    /// The finished graph.
    pub fn finish(mut self, outputs: &[ValueId]) -> Expansion {
        self.graph.outputs = outputs.to_vec();
        Expansion::Graph { graph: Arc::new(self.graph), inputs: self.inputs }
    }
}
