//! [LayerNormalization](https://onnx.ai/onnx/operators/onnx__LayerNormalization.html),
//! [RMSNormalization](https://onnx.ai/onnx/operators/onnx__RMSNormalization.html) and
//! [SimplifiedLayerNormalization](https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md), which is
//! RMSNormalization under an older name and with the inverse deviations as a second output.

use std::sync::Arc;

use super::normalize::{Normalize, Product, Span};
use super::statistic::Statistic;
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::dtype::DType;
use crate::operator::Operator;

fn build(spec: &NodeSpec<'_>, op: Normalize, products: &[Product]) -> Result<Arc<dyn Operator>, OpError> {
    let number = spec.attributes.int_or("stash_type", 1)?;
    let stash = DType::from_onnx(number).filter(|dtype| dtype.is_float());
    let stash = stash.ok_or_else(|| OpError::constraint("stash_type", "a float type", number))?;
    if spec.outputs.len() > products.len() {
        let got = spec.outputs.len();
        return Err(OpError::Arity { what: "outputs", expected: "1 to 3", got });
    }
    let wanted = products.iter().zip(spec.outputs).filter(|(_, wanted)| **wanted);
    let outputs = wanted.map(|(product, _)| *product).collect();
    let epsilon = spec.attributes.float_or("epsilon", 1e-5)?;
    let span = Span::From(spec.attributes.int_or("axis", -1)?);
    Ok(Arc::new(Normalize { outputs, stash, epsilon, span, ..op }))
}

pub(super) fn layer(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(2, 3, "2 or 3")?;
    let op = Normalize::new("LayerNormalization", Statistic::Variance, 0.0, Span::From(-1));
    build(spec, op, &[Product::Normalized, Product::Mean, Product::Factor])
}

pub(super) fn rms(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(2, 2, "2")?;
    let op = Normalize::new("RMSNormalization", Statistic::MeanSquare, 0.0, Span::From(-1));
    build(spec, op, &[Product::Normalized])
}

pub(super) fn simplified(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(2, 2, "2")?;
    let op = Normalize::new("SimplifiedLayerNormalization", Statistic::MeanSquare, 0.0, Span::From(-1));
    build(spec, op, &[Product::Normalized, Product::Factor])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::attributes::{Attribute, Attributes};
    use crate::ir::fact::Fact;
    use crate::ir::tensor::Tensor;

    fn spec<'a>(attributes: &'a Attributes, inputs: &'a [bool], outputs: &'a [bool]) -> NodeSpec<'a> {
        NodeSpec { op_type: "", opset: 17, inputs, outputs, attributes }
    }

    #[test]
    fn rows_are_centred_and_scaled() {
        let mut attributes = Attributes::default();
        attributes.insert("epsilon", Attribute::Float(1.75));
        let op = layer(&spec(&attributes, &[true; 3], &[true; 3])).unwrap();
        let x = Tensor::from_vec(&[2, 2], vec![1.0f32, 4.0, -2.0, 1.0]).unwrap();
        let scale = Tensor::from_vec(&[2], vec![2.0f32, 1.0]).unwrap();
        let bias = Tensor::from_vec(&[2], vec![0.5f32, 0.0]).unwrap();
        let views = [Some(x.view()), Some(scale.view()), Some(bias.view())];
        let all = op.reference(&views, 3).unwrap();
        // Both variances are 9/4, plus 7/4.
        assert_eq!(all[0].to_vec::<f32>().unwrap(), [-1.0, 0.75, -1.0, 0.75]);
        assert_eq!((all[1].dims(), all[1].to_vec::<f32>().unwrap()), (&[2, 1][..], vec![2.5, -0.5]));
        assert_eq!(all[2].to_vec::<f32>().unwrap(), [0.5, 0.5]);
        let facts = [Fact::known(DType::F16, &[2, 2]), Fact::known(DType::F16, &[2])];
        let facts = op.infer(&[Some(&facts[0]), Some(&facts[1]), None], 2).unwrap();
        assert_eq!((facts[0].dtype, facts[1].dtype), (DType::F16, DType::F32));
    }

    #[test]
    fn root_mean_squares_keep_the_mean() {
        let mut attributes = Attributes::default();
        attributes.insert("epsilon", Attribute::Float(0.0));
        let op = simplified(&spec(&attributes, &[true; 2], &[true; 2])).unwrap();
        let x = Tensor::from_vec(&[1, 2], vec![1.0f32, 7.0]).unwrap();
        let scale = Tensor::from_vec(&[2], vec![5.0f32, 10.0]).unwrap();
        let all = op.reference(&[Some(x.view()), Some(scale.view())], 2).unwrap();
        assert_eq!(all[0].to_vec::<f32>().unwrap(), [1.0, 14.0]);
        assert_eq!(all[1].to_vec::<f32>().unwrap(), [0.2]);
    }

    #[test]
    fn scales_that_do_not_fit_are_refused() {
        let attributes = Attributes::default();
        let op = rms(&spec(&attributes, &[true; 2], &[true])).unwrap();
        let facts = [Fact::known(DType::F32, &[2, 4]), Fact::known(DType::F32, &[3])];
        assert!(op.infer(&[Some(&facts[0]), Some(&facts[1])], 1).is_err());
        assert!(layer(&spec(&attributes, &[true], &[true])).is_err());
    }
}
