//! Graphs in which the size of each value is known as soon as its node is there.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Composition, LATEST, standard};
use crate::build::OperatorRow;
use crate::error::OpError;
use crate::ir::attributes::{Attribute, Attributes};
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::graph::{Graph, ValueId};
use crate::ir::numbers::float_tensor;
use crate::ir::tensor::{Tensor, element_count};
use crate::ir::view::View;
use crate::operator::{Expansion, Operator};
use crate::{attention, control, conv, matmul, movement, norm, pointwise, reduce};

/// Where the operators of a sketch are looked up.
const FAMILIES: &[&[OperatorRow]] = &[
    attention::OPERATORS,
    conv::OPERATORS,
    matmul::OPERATORS,
    movement::OPERATORS,
    norm::OPERATORS,
    pointwise::OPERATORS,
    reduce::OPERATORS,
];

/// A graph in the making. Every value's shape is inferred when its node is added.
#[derive(Debug, Default)]
pub struct Sketch {
    made: Composition,
    facts: Vec<Fact>,
}

/// The inputs of an operator as values of a sketch; `None` where absent.
pub type Given = [Option<ValueId>];

/// What draws the graph: from the inputs to the outputs.
pub type Draw<'a> = &'a dyn Fn(&mut Sketch, &Given) -> Result<Vec<ValueId>, OpError>;

/// The graph that an operator stands for, once all its inputs' sizes are known; until then the operator stays.
///
/// # Errors
/// What `draw` finds wrong.
pub fn expansion(inputs: &[Option<&Fact>], draw: Draw<'_>) -> Result<Expansion, OpError> {
    if inputs.iter().flatten().any(|fact| fact.dims().is_none()) {
        return Ok(Expansion::Stays);
    }
    let mut sketch = Sketch::default();
    let given: Vec<Option<ValueId>> =
        inputs.iter().enumerate().map(|(index, fact)| fact.map(|fact| sketch.input(index, fact))).collect();
    let outputs = draw(&mut sketch, &given)?;
    Ok(sketch.made.finish(&outputs))
}

/// Runs the graph that an operator stands for, node by node.
///
/// # Errors
/// What `draw` or a node finds wrong.
pub fn evaluate(inputs: &[Option<View<'_>>], outputs: usize, draw: Draw<'_>) -> Result<Vec<Tensor>, OpError> {
    let mut sketch = Sketch::default();
    let mut tensors = Vec::new();
    let mut given = Vec::with_capacity(inputs.len());
    for (index, view) in inputs.iter().enumerate() {
        given.push(view.map(|view| {
            let tensor = view.to_tensor();
            tensors.push(tensor.clone());
            sketch.input(index, &Fact::constant(tensor))
        }));
    }
    let mut drawn = draw(&mut sketch, &given)?;
    drawn.truncate(outputs.max(1));
    sketch.made.graph.outputs = drawn;
    control::evaluate::evaluate(&sketch.made.graph, tensors)
}

impl Sketch {
    /// Input `index` of the operator that the sketch is for.
    fn input(&mut self, index: usize, fact: &Fact) -> ValueId {
        self.facts.push(fact.clone());
        self.made.input(index, fact)
    }

    /// A constant.
    pub fn constant(&mut self, tensor: Tensor) -> ValueId {
        self.facts.push(Fact::constant(tensor.clone()));
        self.made.constant(tensor)
    }

    /// A number of a float type, which broadcasts to anything.
    ///
    /// # Errors
    /// When the type is another.
    pub fn number(&mut self, dtype: DType, value: f64) -> Result<ValueId, OpError> {
        Ok(self.constant(float_tensor(dtype, &[], &[value])?))
    }

    /// What is known about a value.
    ///
    /// # Errors
    /// When it belongs to another sketch.
    pub fn fact(&self, id: ValueId) -> Result<&Fact, OpError> {
        self.facts.get(id.0).ok_or(OpError::Internal("a value of another sketch"))
    }

    /// A value's dimensions.
    ///
    /// # Errors
    /// When they depend on the contents of an input.
    pub fn dims(&self, id: ValueId) -> Result<Vec<usize>, OpError> {
        self.fact(id)?.dims().ok_or_else(|| OpError::unsupported("a size that depends on data"))
    }

    /// A value's element type.
    ///
    /// # Errors
    /// When it belongs to another sketch.
    pub fn dtype(&self, id: ValueId) -> Result<DType, OpError> {
        Ok(self.fact(id)?.dtype)
    }

    /// One output of an operator.
    ///
    /// # Errors
    /// When a rule of the operator's definition is broken.
    pub fn node(&mut self, op: Arc<dyn Operator>, inputs: &[ValueId]) -> Result<ValueId, OpError> {
        let facts: Vec<Option<&Fact>> = inputs.iter().map(|id| self.facts.get(id.0)).collect();
        let fact = op.infer(&facts, 1)?.into_iter().next();
        self.facts.push(fact.ok_or(OpError::Internal("an output was not inferred"))?);
        Ok(self.made.node(op, inputs))
    }

    /// The nodes of another graph; `given` are its inputs and then its captures. The graph's outputs.
    ///
    /// # Errors
    /// When they are not as many as the graph has, or a node's rule is broken.
    pub fn inline(&mut self, graph: &Graph, given: &[ValueId]) -> Result<Vec<ValueId>, OpError> {
        let misfit = || OpError::Internal("a nested graph does not fit its node");
        let wanted = graph.inputs.iter().map(|(id, _)| id).chain(graph.captures.iter().map(|(_, id)| id));
        let wanted: Vec<ValueId> = wanted.copied().collect();
        if wanted.len() != given.len() {
            return Err(OpError::constraint("inputs of a nested graph", given.len(), wanted.len()));
        }
        let mut here: HashMap<ValueId, ValueId> = wanted.into_iter().zip(given.iter().copied()).collect();
        for (id, tensor) in &graph.constants {
            here.insert(*id, self.constant(tensor.clone()));
        }
        for node in &graph.nodes {
            let fact = |id: &Option<ValueId>| match id {
                None => Ok(None),
                Some(id) => here.get(id).and_then(|id| self.facts.get(id.0)).map(Some).ok_or_else(misfit),
            };
            let facts = node.inputs.iter().map(fact).collect::<Result<Vec<_>, _>>()?;
            let facts = node.op.infer(&facts, node.outputs.len())?;
            if facts.len() < node.outputs.len() {
                return Err(OpError::Internal("an output was not inferred"));
            }
            let wanted = node.outputs.iter().zip(facts).filter(|(id, _)| id.is_some());
            self.facts.extend(wanted.map(|(_, fact)| fact));
            self.made.copy(node, "", &mut here)?;
        }
        graph.outputs.iter().map(|id| here.get(id).copied().ok_or_else(misfit)).collect()
    }

    /// A standard operator by its ONNX name, with attributes.
    ///
    /// # Errors
    /// When a rule of the operator's definition is broken.
    pub fn call(
        &mut self,
        name: &str,
        attributes: &[(&str, Attribute)],
        inputs: &[ValueId],
    ) -> Result<ValueId, OpError> {
        let mut all = Attributes::default();
        for (name, value) in attributes {
            all.insert(*name, value.clone());
        }
        self.node(standard(FAMILIES, name, LATEST, &all, inputs.len())?, inputs)
    }

    /// The numbers from 0 on, as 64-bit integers of these dimensions.
    ///
    /// # Errors
    /// When there are more than any sequence has.
    pub fn range(&mut self, dims: &[usize]) -> Result<ValueId, OpError> {
        const MOST: usize = 1 << 28;
        let count = element_count(dims).filter(|&count| count <= MOST).ok_or(OpError::Size)?;
        let all: Vec<i64> = (0i64..).take(count).collect();
        Ok(self.constant(Tensor::from_vec(dims, all)?))
    }

    /// A vector of 64-bit integers.
    fn integers(&mut self, all: &[i64]) -> Result<ValueId, OpError> {
        Ok(self.constant(Tensor::from_slice(&[all.len()], all)?))
    }

    fn sizes(&mut self, dims: &[usize]) -> Result<ValueId, OpError> {
        let sizes: Result<Vec<i64>, _> = dims.iter().map(|&n| i64::try_from(n)).collect();
        self.integers(&sizes.map_err(|_| OpError::Size)?)
    }

    /// The same elements under other dimensions.
    ///
    /// # Errors
    /// When the number of elements differs.
    pub fn reshape(&mut self, value: ValueId, dims: &[usize]) -> Result<ValueId, OpError> {
        if self.dims(value)? == dims {
            return Ok(value);
        }
        let sizes = self.sizes(dims)?;
        self.call("Reshape", &[("allowzero", Attribute::Int(1))], &[value, sizes])
    }

    /// Dimensions in another order.
    ///
    /// # Errors
    /// When `order` is not a permutation of the dimensions.
    pub fn transpose(&mut self, value: ValueId, order: &[i64]) -> Result<ValueId, OpError> {
        self.call("Transpose", &[("perm", Attribute::Ints(order.to_vec()))], &[value])
    }

    /// Every `step`th index from `start` up to `end` along one axis.
    ///
    /// # Errors
    /// When there is no such axis.
    pub fn slice(
        &mut self,
        value: ValueId,
        axis: i64,
        [start, end]: [usize; 2],
        step: i64,
    ) -> Result<ValueId, OpError> {
        let bounds = [self.sizes(&[start])?, self.sizes(&[end])?];
        let (axis, step) = (self.integers(&[axis])?, self.integers(&[step])?);
        self.call("Slice", &[], &[value, bounds[0], bounds[1], axis, step])
    }

    /// Values one after another along an axis.
    ///
    /// # Errors
    /// When their other dimensions differ.
    pub fn concat(&mut self, axis: i64, values: &[ValueId]) -> Result<ValueId, OpError> {
        self.call("Concat", &[("axis", Attribute::Int(axis))], values)
    }

    /// Copies of a value that broadcast to dimensions.
    ///
    /// # Errors
    /// When they do not broadcast.
    pub fn stretch(&mut self, value: ValueId, dims: &[usize]) -> Result<ValueId, OpError> {
        let sizes = self.sizes(dims)?;
        self.call("Expand", &[], &[value, sizes])
    }

    /// Another element type.
    ///
    /// # Errors
    /// When there is no such conversion.
    pub fn cast(&mut self, value: ValueId, to: DType) -> Result<ValueId, OpError> {
        if self.dtype(value)? == to {
            return Ok(value);
        }
        self.call("Cast", &[("to", Attribute::Int(i64::from(to.to_onnx())))], &[value])
    }
}
