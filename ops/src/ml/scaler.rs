//! [Scaler](https://onnx.ai/onnx/operators/onnx_aionnxml_Scaler.html): `(x - offset) · scale` for each feature.

use std::sync::Arc;

use crate::DType;
use crate::build::NodeSpec;
use crate::compose::Composition;
use crate::error::OpError;
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::operator::Operator;
use crate::pointwise::cast;

pub(super) fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 1, "1")?;
    let mut graph = Composition::default();
    let x = graph.input(0, &Fact::unranked(DType::F32));
    let mut x = graph.node(Arc::new(cast(DType::F32)), &[x]);
    for (name, function) in [("offset", "Sub"), ("scale", "Mul")] {
        if let Some(numbers) = spec.attributes.floats(name)? {
            let numbers = graph.constant(Tensor::from_slice(&[numbers.len()], numbers)?);
            x = graph.pointwise(function, &[x, numbers])?;
        }
    }
    Ok(graph.operator("Scaler", &[x]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::attributes::{Attribute, Attributes};

    #[test]
    fn integers_become_floats() {
        let mut attributes = Attributes::default();
        attributes.insert("offset", Attribute::Floats(vec![1.0, 2.0]));
        attributes.insert("scale", Attribute::Floats(vec![0.5]));
        let (inputs, outputs) = (&[true], &[true]);
        let spec = NodeSpec { op_type: "Scaler", opset: 1, inputs, outputs, attributes: &attributes };
        let x = Tensor::from_slice(&[2, 2], &[1i64, 2, 3, -2]).unwrap();
        let y = build(&spec).unwrap().reference(&[Some(x.view())], 1).unwrap().remove(0);
        assert_eq!(y.to_vec::<f32>().unwrap(), [0.0, 0.0, 1.0, -2.0]);
    }
}
