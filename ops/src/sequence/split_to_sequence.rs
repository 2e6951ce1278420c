//! [`SplitToSequence`](https://onnx.ai/onnx/operators/onnx__SplitToSequence.html): the parts of a tensor as a sequence.

use std::sync::Arc;

use super::construct;
use super::parts::{Dissolved, Dissolving, Given, check_length, given, input};
use crate::build::NodeSpec;
use crate::compose::Composition;
use crate::error::OpError;
use crate::ir::fact::Fact;
use crate::ir::item::Item;
use crate::movement::axes::Axes;
use crate::movement::sizes;
use crate::movement::split::{Lengths, Split};
use crate::movement::squeeze::Squeeze;
use crate::operator::{Expansion, Operator, all_tensors};

/// The parts of a tensor along an axis.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct SplitToSequence {
    axis: i64,
    /// Without lengths in input 1, parts of extent 1 keep the axis.
    keepdims: bool,
}

/// Builds `SplitToSequence`.
///
/// # Errors
/// When there are not one or two inputs.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 2, "1 or 2")?;
    let axis = spec.attributes.int_or("axis", 0)?;
    let keepdims = spec.attributes.flag("keepdims", true)?;
    Ok(Arc::new(Dissolved(SplitToSequence { axis, keepdims })))
}

/// The lengths of the parts of an axis; `None` while the contents of input 1 are not known.
fn lengths(split: Option<&Fact>, extent: usize) -> Result<Option<Vec<i64>>, OpError> {
    let whole = i64::try_from(extent).map_err(|_| OpError::Size)?;
    let Some(split) = split else { return Ok(Some(vec![1; extent])) };
    sizes::expect_indices(split.dtype, 1)?;
    let Some(value) = &split.value else { return Ok(None) };
    if !value.dims().is_empty() {
        return Ok(Some(sizes::integers(&value.view(), 1)?));
    }
    let each = match sizes::integers(&value.view(), 1)?[..] {
        [each] if each > 0 => each,
        _ => return Err(OpError::constraint("length of a part", "1 or more", "less")),
    };
    let count = usize::try_from(whole.div_euclid(each)).map_err(|_| OpError::Size)?;
    check_length(count)?;
    let mut all = vec![each; count];
    all.extend(Some(whole % each).filter(|rest| *rest > 0));
    Ok(Some(all))
}

impl Dissolving for SplitToSequence {
    fn name(&self) -> &'static str {
        "SplitToSequence"
    }

    fn dissolve(&self, inputs: Given<'_, '_>) -> Result<Expansion, OpError> {
        let facts = all_tensors(inputs)?;
        let Item::Tensor(fact) = given(inputs, 0)? else {
            return Err(OpError::constraint("an input", "a tensor", "another value"));
        };
        let Some(dims) = fact.dims() else { return Ok(Expansion::Waits) };
        let axis = sizes::axis(self.axis, dims.len())?;
        let split = sizes::optional(&facts, 1);
        if split.is_none() {
            check_length(dims[axis])?;
        }
        let Some(lengths) = lengths(split, dims[axis])? else { return Ok(Expansion::Waits) };
        check_length(lengths.len())?;
        if lengths.is_empty() && dims[axis] == 0 {
            return Ok(Expansion::Values(vec![Item::Sequence(Vec::new())]));
        }
        let mut graph = Composition::default();
        let whole = input(&mut graph, 0);
        let count = lengths.len();
        let op = Split { axis: self.axis, lengths: Lengths::Attribute(lengths), wanted: vec![true; count] };
        let mut all = graph.nodes(Arc::new(op), &[Some(whole)], count);
        if split.is_none() && !self.keepdims {
            let squeeze: Arc<dyn Operator> =
                Arc::new(Squeeze { axes: Axes::Attribute(Some(vec![self.axis])) });
            all = all.into_iter().map(|part| graph.node(Arc::clone(&squeeze), &[part])).collect();
        }
        let sequence = graph.node(construct::node(), &all);
        Ok(graph.finish(&[sequence]))
    }

    fn place(&self) -> Option<usize> {
        Some(1)
    }
}
