//! `FusedGemm` of `com.microsoft` (ONNX Runtime's `docs/ContribOperators.md`): a Gemm and an activation.

use std::sync::Arc;

use super::gemm;
use crate::DType;
use crate::build::NodeSpec;
use crate::compose::Composition;
use crate::error::OpError;
use crate::ir::fact::Fact;
use crate::operator::Operator;

/// Builds `FusedGemm`.
///
/// # Errors
/// As `Gemm`; when there is no such activation.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    let gemm = gemm::build(&NodeSpec { op_type: "Gemm", opset: 13, ..*spec })?;
    let activation = spec.attributes.str_or("activation", String::new())?;
    let mut params = Vec::new();
    for (name, parameter) in
        [("activation_alpha", "alpha"), ("activation_beta", "beta"), ("activation_gamma", "gamma")]
    {
        params.extend(spec.attributes.float(name)?.map(|&value| (parameter, value)));
    }
    let mut graph = Composition::default();
    let inputs: Vec<_> = (0..spec.inputs.len())
        .map(|index| spec.has_input(index).then(|| graph.input(index, &Fact::unranked(DType::F32))))
        .collect();
    let mut value = graph.nodes(gemm, &inputs, 1)[0];
    if !activation.is_empty() {
        value = graph.activation(&activation, &params, value)?;
    }
    Ok(graph.operator("FusedGemm", &[value]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tensor;
    use crate::ir::attributes::{Attribute, Attributes};

    #[test]
    fn the_activation_has_parameters_of_its_own() {
        let mut attributes = Attributes::default();
        attributes.insert("alpha", Attribute::Float(2.0));
        attributes.insert("activation", Attribute::Str("LeakyRelu".into()));
        attributes.insert("activation_alpha", Attribute::Float(0.25));
        let (inputs, outputs) = (&[true, true], &[true]);
        let op =
            build(&NodeSpec { op_type: "FusedGemm", opset: 1, inputs, outputs, attributes: &attributes });
        let a = Tensor::from_slice(&[2, 1], &[1.0f32, -2.0]).unwrap();
        let b = Tensor::from_slice(&[1, 1], &[3.0f32]).unwrap();
        let y = op.unwrap().reference(&[Some(a.view()), Some(b.view())], 1).unwrap().remove(0);
        assert_eq!(y.to_vec::<f32>().unwrap(), [6.0, -3.0]);
        assert!(attributes.unread().is_empty());
    }
}
