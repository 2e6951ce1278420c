//! [Normalizer](https://onnx.ai/onnx/operators/onnx_aionnxml_Normalizer.html): each row divided by its norm; a row whose
//! norm is 0 stays as it is.

use std::sync::Arc;

use crate::DType;
use crate::build::NodeSpec;
use crate::compose::Composition;
use crate::error::OpError;
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::operator::Operator;
use crate::pointwise::cast;
use crate::reduce::{Axes, Kind, Reduce, Reduced};

pub(super) fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 1, "1")?;
    let kind = match spec.attributes.str_or("norm", "MAX".to_owned())?.as_str() {
        "MAX" => Kind::Max,
        "L1" => Kind::L1,
        "L2" => Kind::L2,
        _ => return Err(OpError::Attribute { name: "norm", expected: "MAX, L1 or L2" }),
    };
    let mut graph = Composition::default();
    let x = graph.input(0, &Fact::unranked(DType::F32));
    let x = graph.node(Arc::new(cast(DType::F32)), &[x]);
    let axes = Axes::Attribute(vec![-1]);
    let reduced = Reduced { axes, keepdims: true, noop_with_empty_axes: false };
    let norm = graph.node(Arc::new(Reduce { name: kind.name(), kind, reduced }), &[x]);
    let zero = graph.constant(Tensor::scalar(0f32));
    let one = graph.constant(Tensor::scalar(1f32));
    let is_zero = graph.pointwise("Equal", &[norm, zero])?;
    let norm = graph.pointwise("Where", &[is_zero, one, norm])?;
    let y = graph.pointwise("Div", &[x, norm])?;
    Ok(graph.operator("Normalizer", &[y]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::attributes::{Attribute, Attributes};

    #[test]
    fn rows_have_one_norm_each() {
        let run = |norm: &str| {
            let mut attributes = Attributes::default();
            attributes.insert("norm", Attribute::Str(norm.into()));
            let (inputs, outputs) = (&[true], &[true]);
            let spec = NodeSpec { op_type: "Normalizer", opset: 1, inputs, outputs, attributes: &attributes };
            let x = Tensor::from_slice(&[2, 2], &[3.0f32, -4.0, 0.0, 0.0]).unwrap();
            let y = build(&spec).unwrap().reference(&[Some(x.view())], 1).unwrap().remove(0);
            y.to_vec::<f32>().unwrap()
        };
        assert_eq!(run("L2"), [0.6, -0.8, 0.0, 0.0]);
        assert_eq!(run("L1"), [3.0 / 7.0, -4.0 / 7.0, 0.0, 0.0]);
        assert_eq!(run("MAX"), [1.0, -4.0 / 3.0, 0.0, 0.0]);
    }
}
