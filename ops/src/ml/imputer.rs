//! [Imputer](https://onnx.ai/onnx/operators/onnx_aionnxml_Imputer.html): other values in place of missing ones.

use std::sync::Arc;

use crate::DType;
use crate::build::NodeSpec;
use crate::compose::Composition;
use crate::error::OpError;
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::operator::Operator;

pub(super) fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 1, "1")?;
    let attributes = spec.attributes;
    let mut graph = Composition::default();
    let x = graph.input(0, &Fact::unranked(DType::F32));
    let (floats, integers) =
        (attributes.floats("imputed_value_floats")?, attributes.ints("imputed_value_int64s")?);
    let (missing, instead) = match (floats, integers) {
        (Some(values), None) => {
            let replaced = attributes.float_or("replaced_value_float", 0.0)?;
            let missing = if replaced.is_nan() {
                graph.pointwise("IsNaN", &[x])?
            } else {
                let replaced = graph.constant(Tensor::scalar(replaced));
                graph.pointwise("Equal", &[x, replaced])?
            };
            (missing, Tensor::from_slice(&[values.len()], values)?)
        }
        (None, Some(values)) => {
            let replaced = graph.constant(Tensor::scalar(attributes.int_or("replaced_value_int64", 0)?));
            (graph.pointwise("Equal", &[x, replaced])?, Tensor::from_slice(&[values.len()], values)?)
        }
        _ => {
            let expected = "given, or imputed_value_int64s, but not both";
            return Err(OpError::Attribute { name: "imputed_value_floats", expected });
        }
    };
    let instead = graph.constant(instead);
    let y = graph.pointwise("Where", &[missing, instead, x])?;
    Ok(graph.operator("Imputer", &[y]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::attributes::{Attribute, Attributes};

    #[test]
    fn missing_values_have_a_mark() {
        let run = |replaced: f32, x: &[f32]| {
            let mut attributes = Attributes::default();
            attributes.insert("imputed_value_floats", Attribute::Floats(vec![7.0, 8.0]));
            attributes.insert("replaced_value_float", Attribute::Float(replaced));
            let (inputs, outputs) = (&[true], &[true]);
            let spec = NodeSpec { op_type: "Imputer", opset: 1, inputs, outputs, attributes: &attributes };
            let x = Tensor::from_slice(&[x.len() / 2, 2], x).unwrap();
            let y = build(&spec).unwrap().reference(&[Some(x.view())], 1).unwrap().remove(0);
            y.to_vec::<f32>().unwrap()
        };
        assert_eq!(run(f32::NAN, &[f32::NAN, 1.0, 2.0, f32::NAN]), [7.0, 1.0, 2.0, 8.0]);
        assert_eq!(run(-1.0, &[-1.0, -1.0, 2.0, 3.0]), [7.0, 8.0, 2.0, 3.0]);
    }
}
