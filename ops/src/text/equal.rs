//! [Equal](https://onnx.ai/onnx/operators/onnx__Equal.html) of strings. That of numbers is an expression.

use std::sync::Arc;

use super::{expect_strings, strings};
use crate::broadcast::{self, Strides};
use crate::error::OpError;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::graph::{Graph, Node};
use crate::ir::numbers::filled;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::movement::sizes::required;
use crate::operator::{Expansion, Operator};

/// Whether the strings of two inputs are the same, broadcast.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StringEqual;

impl StringEqual {
    /// What `Equal` of these inputs, which are strings, comes down to.
    ///
    /// # Errors
    /// When an input is missing.
    pub fn expansion(inputs: &[Option<&Fact>]) -> Result<Expansion, OpError> {
        let (x, y) = (required(inputs, 0)?, required(inputs, 1)?);
        let mut graph = Graph::default();
        let (left, right) = (graph.add_value("left"), graph.add_value("right"));
        graph.inputs = vec![(left, x.clone()), (right, y.clone())];
        let output = graph.add_value("output");
        graph.outputs = vec![output];
        graph.nodes.push(Node {
            name: "strings".into(),
            op: Arc::new(StringEqual),
            inputs: vec![Some(left), Some(right)],
            outputs: vec![Some(output)],
        });
        Ok(Expansion::Graph { graph: Arc::new(graph), inputs: vec![0, 1] })
    }
}

impl Operator for StringEqual {
    fn name(&self) -> &'static str {
        "Equal"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let (x, y) = (required(inputs, 0)?, required(inputs, 1)?);
        expect_strings(x, 0)?;
        expect_strings(y, 1)?;
        Ok(vec![match (&x.shape, &y.shape) {
            (Some(x), Some(y)) => Fact::new(DType::Bool, broadcast::shape(&[x, y])?),
            _ => Fact::unranked(DType::Bool),
        }])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let ((x_dims, x), (y_dims, y)) = (strings(inputs, 0)?, strings(inputs, 1)?);
        let dims = broadcast::dims(&[x_dims, y_dims])?;
        let (x_strides, y_strides) = (Strides::new(x_dims, &dims), Strides::new(y_dims, &dims));
        let mut same = filled(&dims, false)?;
        for (i, slot) in same.iter_mut().enumerate() {
            let pair = (x.get(x_strides.offset(i)), y.get(y_strides.offset(i)));
            let (Some(x), Some(y)) = pair else { return Err(OpError::Internal("a string out of bounds")) };
            *slot = x == y;
        }
        Ok(vec![Tensor::from_bools(&dims, &same)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_compared_and_broadcast() {
        let text = |all: &[&str]| {
            Tensor::from_strings(&[all.len()], all.iter().map(|s| s.to_string()).collect()).unwrap()
        };
        let (x, y) = (text(&["string1", "string2"]), text(&["string1"]));
        let same = StringEqual.reference(&[Some(x.view()), Some(y.view())], 1).unwrap().remove(0);
        assert_eq!((same.dims(), same.bytes()), (&[2][..], &[1, 0][..]));
        let fact = Fact::constant(x);
        let expansion = StringEqual::expansion(&[Some(&fact), Some(&fact)]).unwrap();
        assert!(matches!(expansion, Expansion::Graph { .. }));
    }
}
