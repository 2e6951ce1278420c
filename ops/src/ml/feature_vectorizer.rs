//! [FeatureVectorizer](https://onnx.ai/onnx/operators/onnx_aionnxml_FeatureVectorizer.html): the features of all inputs,
//! one after another.

use std::sync::Arc;

use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::numbers::{filled, float_tensor};
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::operator::Operator;

use super::rows::Rows;

/// So many features of each input, as floats; an input that has fewer is filled up with zeros.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FeatureVectorizer {
    widths: Vec<usize>,
    total: usize,
}

pub(super) fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(spec.inputs.len().max(1), usize::MAX, "1 or more")?;
    let fail =
        OpError::Attribute { name: "inputdimensions", expected: "a number of features for each input" };
    let given = spec.attributes.ints("inputdimensions")?.ok_or(fail.clone())?;
    let widths: Vec<usize> =
        given.iter().map(|&n| usize::try_from(n)).collect::<Result<_, _>>().map_err(|_| fail.clone())?;
    if widths.len() != spec.inputs.len() {
        return Err(fail);
    }
    let total = widths.iter().try_fold(0usize, |sum, &n| sum.checked_add(n)).ok_or(OpError::Size)?;
    Ok(Arc::new(FeatureVectorizer { widths, total }))
}

impl Operator for FeatureVectorizer {
    fn name(&self) -> &'static str {
        "FeatureVectorizer"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let mut batch = None;
        for index in 0..inputs.len() {
            batch.get_or_insert(Rows::infer(&inputs[index..])?);
        }
        let batch = batch.ok_or(OpError::Internal("no input"))?;
        Ok(vec![Fact::new(DType::F32, vec![batch, Dim::Known(self.total)])])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let count = Rows::new(inputs)?.count;
        let mut all = filled(&[count, self.total], 0.0)?;
        let mut start = 0;
        for (index, &width) in self.widths.iter().enumerate() {
            let rows = Rows::new(&inputs[index..])?;
            if rows.count != count {
                return Err(OpError::constraint("rows of an input", count, rows.count));
            }
            for (row, to) in rows.iter().zip(all.chunks_mut(self.total.max(1))) {
                to[start..start + width].iter_mut().zip(row).for_each(|(to, from)| *to = *from);
            }
            start += width;
        }
        Ok(vec![float_tensor(DType::F32, &[count, self.total], &all)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::attributes::{Attribute, Attributes};

    #[test]
    fn features_stand_side_by_side() {
        let mut attributes = Attributes::default();
        attributes.insert("inputdimensions", Attribute::Ints(vec![2, 1]));
        let (inputs, outputs) = (&[true, true], &[true]);
        let spec =
            NodeSpec { op_type: "FeatureVectorizer", opset: 1, inputs, outputs, attributes: &attributes };
        let a = Tensor::from_slice(&[2, 1], &[1i64, 2]).unwrap();
        let b = Tensor::from_slice(&[2, 2], &[3.0f32, 4.0, 5.0, 6.0]).unwrap();
        let op = build(&spec).unwrap();
        let y = op.reference(&[Some(a.view()), Some(b.view())], 1).unwrap().remove(0);
        assert_eq!(y.to_vec::<f32>().unwrap(), [1.0, 0.0, 3.0, 2.0, 0.0, 5.0]);
        let c = Tensor::zeroed(DType::F32, &[3, 1]).unwrap();
        assert!(op.reference(&[Some(a.view()), Some(c.view())], 1).is_err());
    }
}
