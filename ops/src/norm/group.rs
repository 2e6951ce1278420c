//! [GroupNormalization](https://onnx.ai/onnx/operators/onnx__GroupNormalization.html) and
//! [InstanceNormalization](https://onnx.ai/onnx/operators/onnx__InstanceNormalization.html): each group of channels, or
//! each channel, of each instance on its own.

use std::sync::Arc;

use super::normalize::{Normalize, Span};
use super::parameter::Stretch;
use super::statistic::Statistic;
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::operator::Operator;

pub(super) fn group(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(3, 3, "3")?;
    let epsilon = spec.attributes.float_or("epsilon", 1e-5)?;
    let number = spec.attributes.int("num_groups")?.copied();
    let groups = number.and_then(|number| usize::try_from(number).ok()).filter(|&number| number > 0);
    let groups = groups.ok_or(OpError::Attribute { name: "num_groups", expected: "a positive integer" })?;
    // Statistics are computed in f32 or better whatever the attribute says.
    spec.attributes.int_or("stash_type", 1)?;
    // Opset 18 has a scale and a bias per group, which 21 corrected.
    let stretch = if spec.opset < 21 { Stretch::Groups(groups) } else { Stretch::Channels };
    let op = Normalize::new("GroupNormalization", Statistic::Variance, epsilon, Span::Groups(Some(groups)));
    Ok(Arc::new(Normalize { stretch, ..op }))
}

pub(super) fn instance(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(3, 3, "3")?;
    let epsilon = spec.attributes.float_or("epsilon", 1e-5)?;
    let op = Normalize::new("InstanceNormalization", Statistic::Variance, epsilon, Span::Groups(None));
    Ok(Arc::new(Normalize { stretch: Stretch::Channels, ..op }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::attributes::{Attribute, Attributes};
    use crate::ir::dtype::DType;
    use crate::ir::fact::Fact;
    use crate::ir::tensor::Tensor;

    fn run(op: &Arc<dyn Operator>, parameters: [&[f32]; 2]) -> Vec<f32> {
        let x = Tensor::from_vec(&[1, 4, 2], vec![1.0f32, 1.0, 3.0, 3.0, 0.0, 4.0, 4.0, 0.0]).unwrap();
        let [scale, bias] = parameters.map(|all| Tensor::from_slice(&[all.len()], all).unwrap());
        let views = [Some(x.view()), Some(scale.view()), Some(bias.view())];
        op.reference(&views, 1).unwrap().remove(0).to_vec().unwrap()
    }

    fn spec(attributes: &Attributes, opset: i64) -> NodeSpec<'_> {
        NodeSpec { op_type: "", opset, inputs: &[true; 3], outputs: &[true], attributes }
    }

    #[test]
    fn scales_are_per_group_then_per_channel() {
        let mut attributes = Attributes::default();
        attributes.insert("epsilon", Attribute::Float(0.0));
        attributes.insert("num_groups", Attribute::Int(2));
        let early = group(&spec(&attributes, 18)).unwrap();
        assert_eq!(run(&early, [&[1.0, 2.0], &[0.0, 5.0]]), [-1., -1., 1., 1., 3., 7., 7., 3.]);
        let late = group(&spec(&attributes, 21)).unwrap();
        let got = run(&late, [&[1.0, 2.0, 3.0, 4.0], &[0.0, 0.0, 0.0, 9.0]]);
        assert_eq!(got, [-1., -1., 2., 2., -3., 3., 13., 5.]);
        let facts = [Fact::known(DType::F32, &[1, 3, 2]), Fact::known(DType::F32, &[3])];
        assert!(late.infer(&[Some(&facts[0]), Some(&facts[1]), Some(&facts[1])], 1).is_err());
    }

    #[test]
    fn channels_alone() {
        let mut attributes = Attributes::default();
        attributes.insert("epsilon", Attribute::Float(4.0));
        let op = instance(&spec(&attributes, 6)).unwrap();
        let got = run(&op, [&[1.0, 1.0, 8f32.sqrt(), 1.0], &[0.0, 1.0, 0.0, 0.0]]);
        assert_eq!(got[..6], [0.0, 0.0, 1.0, 1.0, -2.0, 2.0]);
    }
}
