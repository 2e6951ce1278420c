//! `NhwcMaxPool` of `com.microsoft` (ONNX Runtime's `docs/ContribOperators.md`): MaxPool with the channels last.

use std::sync::Arc;

use super::max_pool::MaxPool;
use super::window::Window;
use crate::DType;
use crate::build::NodeSpec;
use crate::compose::Composition;
use crate::error::OpError;
use crate::ir::fact::Fact;
use crate::movement::transpose::Transpose;
use crate::operator::Operator;

/// Builds `NhwcMaxPool`.
///
/// # Errors
/// When there is not one input, or an attribute breaks a rule.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 1, "1")?;
    let window = Window::from_spec(&NodeSpec { op_type: "MaxPool", opset: 12, ..*spec })?;
    let last = i64::try_from(window.kernel.len()).map_err(|_| OpError::Size)? + 1;
    let first = [0, last].into_iter().chain(1..last).collect();
    let back = std::iter::once(0).chain(2..=last).chain([1]).collect();
    let mut graph = Composition::default();
    let x = graph.input(0, &Fact::unranked(DType::F32));
    let x = graph.node(Arc::new(Transpose { perm: Some(first) }), &[x]);
    let y = graph.node(Arc::new(MaxPool { window, indices: false, column_major: false }), &[x]);
    let y = graph.node(Arc::new(Transpose { perm: Some(back) }), &[y]);
    Ok(graph.operator("NhwcMaxPool", &[y]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tensor;
    use crate::ir::attributes::{Attribute, Attributes};

    #[test]
    fn windows_slide_over_the_middle() {
        let mut attributes = Attributes::default();
        attributes.insert("kernel_shape", Attribute::Ints(vec![1, 2]));
        let (inputs, outputs) = (&[true], &[true]);
        let spec = NodeSpec { op_type: "NhwcMaxPool", opset: 1, inputs, outputs, attributes: &attributes };
        let x = Tensor::from_slice(&[1, 1, 3, 2], &[1u8, 60, 2, 50, 3, 40]).unwrap();
        let y = build(&spec).unwrap().reference(&[Some(x.view())], 1).unwrap().remove(0);
        assert_eq!((y.dims(), y.to_vec::<u8>().unwrap()), (&[1, 1, 2, 2][..], vec![2, 60, 3, 50]));
    }
}
