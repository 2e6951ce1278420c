//! [OneHotEncoder](https://onnx.ai/onnx/operators/onnx_aionnxml_OneHotEncoder.html): a 1 in the place of each category.

use std::sync::Arc;

use super::label_encoder::Keys;
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::numbers::{filled, floats};
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::movement::sizes::{required, view};
use crate::operator::Operator;

/// A new last dimension with a 1 where the category stands among those known.
#[derive(Clone, PartialEq, Debug)]
pub struct OneHotEncoder {
    keys: Keys,
    count: usize,
    is_text: bool,
    /// Unknown categories are zeros, not an error.
    zeros: bool,
}

pub(super) fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 1, "1")?;
    let categories = match (spec.attributes.strs("cats_strings")?, spec.attributes.ints("cats_int64s")?) {
        (Some(strings), None) => Tensor::from_strings(&[strings.len()], strings.to_vec())?,
        (None, Some(integers)) => Tensor::from_slice(&[integers.len()], integers)?,
        _ => {
            let expected = "given, or cats_strings, but not both";
            return Err(OpError::Attribute { name: "cats_int64s", expected });
        }
    };
    Ok(Arc::new(OneHotEncoder {
        keys: Keys::new(&categories.view())?,
        count: categories.len(),
        is_text: categories.dtype() == DType::Str,
        zeros: spec.attributes.flag("zeros", true)?,
    }))
}

impl Operator for OneHotEncoder {
    fn name(&self) -> &'static str {
        "OneHotEncoder"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let x = required(inputs, 0)?;
        if (x.dtype == DType::Str) != self.is_text {
            return Err(OpError::Type { input: 0, expected: "the type of the categories", got: x.dtype });
        }
        let Some(shape) = &x.shape else { return Ok(vec![Fact::unranked(DType::F32)]) };
        let shape = shape.iter().cloned().chain([Dim::Known(self.count)]);
        Ok(vec![Fact::new(DType::F32, shape.collect())])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let x = view(inputs, 0)?;
        let found = if x.dtype.is_float() {
            let whole: Vec<i64> = floats(&x)?.into_iter().map(|x| x as i64).collect();
            self.keys.find(&Tensor::from_vec(x.dims, whole)?.view())?
        } else {
            self.keys.find(&x)?
        };
        if !self.zeros && found.contains(&None) {
            return Err(OpError::constraint("categories", "those of the model", "others"));
        }
        let dims: Vec<usize> = x.dims.iter().copied().chain([self.count]).collect();
        let mut all = filled(&dims, 0f32)?;
        for (row, place) in found.into_iter().enumerate() {
            if let Some(place) = place {
                all[row * self.count + place] = 1.0;
            }
        }
        Ok(vec![Tensor::from_vec(&dims, all)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::attributes::{Attribute, Attributes};

    #[test]
    fn categories_have_places() {
        let mut attributes = Attributes::default();
        attributes.insert("cats_int64s", Attribute::Ints(vec![5, 7, 9]));
        let (inputs, outputs) = (&[true], &[true]);
        let build = |attributes: &Attributes| {
            build(&NodeSpec { op_type: "OneHotEncoder", opset: 1, inputs, outputs, attributes }).unwrap()
        };
        let x = Tensor::from_slice(&[3], &[7.0f32, 4.0, 5.0]).unwrap();
        let y = build(&attributes).reference(&[Some(x.view())], 1).unwrap().remove(0);
        assert_eq!(y.dims(), [3, 3]);
        assert_eq!(y.to_vec::<f32>().unwrap(), [0., 1., 0., 0., 0., 0., 1., 0., 0.]);
        attributes.insert("zeros", Attribute::Int(0));
        assert!(build(&attributes).reference(&[Some(x.view())], 1).is_err());
    }
}
