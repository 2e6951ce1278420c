//! `FusedConv` of `com.microsoft` (ONNX Runtime's `docs/ContribOperators.md`): a convolution, a sum and an activation.

use std::sync::Arc;

use super::conv;
use crate::DType;
use crate::build::NodeSpec;
use crate::compose::Composition;
use crate::error::OpError;
use crate::ir::fact::Fact;
use crate::operator::Operator;

/// The names of the parameters of an activation, in the order in which `FusedConv` lists their values.
fn names(activation: &str) -> &'static [&'static str] {
    match activation {
        "LeakyRelu" | "Elu" | "ThresholdedRelu" => &["alpha"],
        "HardSigmoid" => &["alpha", "beta"],
        "Clip" => &["min", "max"],
        _ => &[],
    }
}

/// Builds `FusedConv`: inputs are those of `Conv`, then what is added to its result.
///
/// # Errors
/// As `Conv`; when there is no such activation, or it takes other parameters.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(2, 4, "2 to 4")?;
    let activation = spec.attributes.str_or("activation", String::new())?;
    let values = spec.attributes.floats_or("activation_params", Vec::new())?;
    let names = names(&activation);
    if values.len() > names.len() {
        return Err(OpError::constraint("activation_params", names.len(), values.len()));
    }
    let own = &spec.inputs[..spec.inputs.len().min(3)];
    let conv = conv::build(&NodeSpec { op_type: "Conv", opset: 11, inputs: own, ..*spec })?;
    let mut graph = Composition::default();
    let input = |graph: &mut Composition, index: usize| {
        spec.has_input(index).then(|| graph.input(index, &Fact::unranked(DType::F32)))
    };
    let inputs: Vec<_> = (0..own.len()).map(|index| input(&mut graph, index)).collect();
    let mut value = graph.nodes(conv, &inputs, 1)[0];
    if let Some(sum) = input(&mut graph, 3) {
        value = graph.pointwise("Add", &[value, sum])?;
    }
    if !activation.is_empty() {
        let params: Vec<(&str, f32)> = names.iter().copied().zip(values).collect();
        value = graph.activation(&activation, &params, value)?;
    }
    Ok(graph.operator("FusedConv", &[value]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tensor;
    use crate::ir::attributes::{Attribute, Attributes};

    #[test]
    fn the_sum_comes_before_the_activation() {
        let mut attributes = Attributes::default();
        attributes.insert("activation", Attribute::Str("LeakyRelu".into()));
        attributes.insert("activation_params", Attribute::Floats(vec![0.5]));
        let inputs = &[true, true, false, true];
        let spec =
            NodeSpec { op_type: "FusedConv", opset: 1, inputs, outputs: &[true], attributes: &attributes };
        let op = build(&spec).unwrap();
        assert!(attributes.unread().is_empty());
        let x = Tensor::from_slice(&[1, 1, 2], &[1.0f32, 2.0]).unwrap();
        let w = Tensor::from_slice(&[1, 1, 1], &[3.0f32]).unwrap();
        let z = Tensor::from_slice(&[1, 1, 2], &[-5.0f32, 1.0]).unwrap();
        let y = op.reference(&[Some(x.view()), Some(w.view()), None, Some(z.view())], 1).unwrap().remove(0);
        assert_eq!(y.to_vec::<f32>().unwrap(), [-1.0, 7.0]);
        let mut unknown = Attributes::default();
        unknown.insert("activation", Attribute::Str("Step".into()));
        assert!(matches!(
            build(&NodeSpec { attributes: &unknown, ..spec }),
            Err(OpError::Unsupported { .. })
        ));
    }
}
