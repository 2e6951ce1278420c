//! [`ConcatFromSequence`](https://onnx.ai/onnx/operators/onnx__ConcatFromSequence.html): the members end to end, or
//! along a new axis.

use std::sync::Arc;

use super::at;
use super::parts::{Dissolved, Dissolving, Given, input, members, parts};
use crate::build::NodeSpec;
use crate::compose::Composition;
use crate::error::OpError;
use crate::ir::tensor::Tensor;
use crate::movement::axes::Axes;
use crate::movement::concat::Concat;
use crate::movement::unsqueeze::Unsqueeze;
use crate::operator::{Expansion, Operator};

/// The members in one tensor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct ConcatFromSequence {
    axis: i64,
    /// The axis is a new one.
    stacks: bool,
}

/// Builds `ConcatFromSequence`.
///
/// # Errors
/// When there is not one input, or no axis.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 1, "1")?;
    let axis = spec.attributes.int("axis")?.copied();
    let axis = axis.ok_or(OpError::Attribute { name: "axis", expected: "an integer" })?;
    let stacks = spec.attributes.flag("new_axis", false)?;
    Ok(Arc::new(Dissolved(ConcatFromSequence { axis, stacks })))
}

impl Dissolving for ConcatFromSequence {
    fn name(&self) -> &'static str {
        "ConcatFromSequence"
    }

    fn dissolve(&self, inputs: Given<'_, '_>) -> Result<Expansion, OpError> {
        let count = members(parts(inputs, 0)?)?.len();
        if count == 0 {
            return Err(OpError::constraint("members to concatenate", "1 or more", 0));
        }
        let mut graph = Composition::default();
        let sequence = input(&mut graph, 0);
        let mut all = Vec::with_capacity(count);
        for index in 0..count {
            let index = graph.constant(Tensor::scalar(i64::try_from(index).map_err(|_| OpError::Size)?));
            let member = graph.node(at::node(), &[sequence, index]);
            all.push(match self.stacks {
                true => {
                    let axes = Axes::Attribute(Some(vec![self.axis]));
                    graph.node(Arc::new(Unsqueeze { axes }), &[member])
                }
                false => member,
            });
        }
        let joined = graph.node(Arc::new(Concat { axis: self.axis }), &all);
        Ok(graph.finish(&[joined]))
    }
}
