//! Quantization as an expression, so that it is fused and has a kernel: where there is one scale for all, or one for each
//! index of an axis, and the types take part in expressions.

use std::sync::Arc;

use crate::compose::Composition;
use crate::error::OpError;
use crate::expr::{Expr, ExprNode, Function};
use crate::ir::dim::Dim;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::movement::axes::Axes;
use crate::movement::sizes;
use crate::movement::unsqueeze::Unsqueeze;
use crate::operator::Expansion;
use crate::pointwise::Pointwise;

/// An expression under construction over the inputs of an operator.
#[derive(Default)]
pub(super) struct Steps {
    expr: Expr,
    types: Vec<DType>,
}

impl Steps {
    fn push(&mut self, node: ExprNode, dtype: DType) -> usize {
        self.types.push(dtype);
        self.expr.push(node)
    }

    /// An input of type `from`, converted.
    pub fn operand(&mut self, index: usize, from: DType, to: DType) -> usize {
        let operand = self.push(ExprNode::Operand(index), from);
        self.cast(operand, to)
    }

    /// A function of earlier steps that has their type.
    pub fn call(&mut self, function: &'static Function, args: &[usize], params: &[f32]) -> usize {
        let node = ExprNode::Call { function, args: args.to_vec(), params: params.to_vec() };
        self.push(node, DType::F32)
    }

    /// A step's result in another type.
    pub fn cast(&mut self, arg: usize, to: DType) -> usize {
        if self.types.get(arg) == Some(&to) { arg } else { self.push(ExprNode::Cast { arg, to }, to) }
    }

    /// The node's place taken by the expression. It stays when the scale, which is input 1, goes along blocks, or too
    /// little is known of its shape.
    ///
    /// # Errors
    /// When the axis is out of range.
    pub fn expand(
        mut self,
        name: &'static str,
        result: usize,
        inputs: &[Option<&Fact>],
        axis: i64,
        block: i64,
    ) -> Result<Expansion, OpError> {
        let [Some(x), Some(scale), ..] = inputs else { return Ok(Expansion::Stays) };
        let (Some(rank), Some(scale)) = (x.rank(), scale.dims()) else { return Ok(Expansion::Stays) };
        let behind = match scale.as_slice() {
            [] => 0,
            [1] if rank > 0 => 0,
            &[count] if block == 0 => {
                let axis = sizes::axis(axis, rank)?;
                let extent = x.shape.as_ref().and_then(|dims| dims.get(axis)).and_then(Dim::known);
                // An extent of 1 must not be stretched.
                if extent.is_some_and(|extent| extent != count) {
                    return Ok(Expansion::Stays);
                }
                rank - 1 - axis
            }
            _ => return Ok(Expansion::Stays),
        };
        self.expr.results = vec![result];
        let mut graph = Composition::default();
        let mut operands = Vec::new();
        for (index, fact) in inputs.iter().enumerate().filter_map(|(index, fact)| Some((index, (*fact)?))) {
            // Another shape than the scale's is for the reference to complain about.
            if index > 1 && fact.dims().as_ref() != Some(&scale) {
                return Ok(Expansion::Stays);
            }
            let operand = graph.input(index, fact);
            operands.push(if index > 0 && behind > 0 {
                let axes = (1..=behind).map(|axis| i64::try_from(axis).map_err(|_| OpError::Size));
                let axes = Axes::Attribute(Some(axes.collect::<Result<_, _>>()?));
                graph.node(Arc::new(Unsqueeze { axes }), &[operand])
            } else {
                operand
            });
        }
        let y = graph.node(Arc::new(Pointwise { name, expr: self.expr }), &operands);
        Ok(graph.finish(&[y]))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::HashMap;

    use crate::ir::fact::Fact;
    use crate::ir::tensor::Tensor;
    use crate::operator::{Expansion, Operator};

    /// Checks that an operator expands, and that the graph gives what the reference gives.
    pub(in super::super) fn agrees(op: &dyn Operator, inputs: &[Option<Tensor>]) {
        let facts: Vec<Option<Fact>> =
            inputs.iter().map(|x| x.as_ref().map(|x| Fact::known(x.dtype(), x.dims()))).collect();
        let facts: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
        let Expansion::Graph { graph, inputs: from } = op.expand(&facts).unwrap() else { panic!("it stays") };
        let mut values = HashMap::new();
        for ((id, _), &index) in graph.inputs.iter().zip(&from) {
            values.insert(*id, inputs[index].clone().unwrap());
        }
        for node in &graph.nodes {
            let given: Vec<_> = node.inputs.iter().map(|id| id.map(|id| values[&id].view())).collect();
            let result = node.op.reference(&given, 1).unwrap().remove(0);
            values.insert(node.outputs[0].unwrap(), result);
        }
        let views: Vec<_> = inputs.iter().map(|x| x.as_ref().map(Tensor::view)).collect();
        let expected = op.reference(&views, 1).unwrap().remove(0);
        let got = &values[&graph.outputs[0]];
        assert_eq!((got.dtype(), got.dims()), (expected.dtype(), expected.dims()));
        assert_eq!(got.bytes(), expected.bytes());
    }
}
