//! [StringConcat](https://onnx.ai/onnx/operators/onnx__StringConcat.html): two strings joined, element by element.

use std::sync::Arc;

use super::{expect_strings, strings};
use crate::broadcast::{self, Strides};
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::numbers::filled;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::movement::sizes::required;
use crate::operator::Operator;

/// The strings of input 1 after those of input 0, broadcast.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StringConcat;

pub(super) fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(2, 2, "2")?;
    Ok(Arc::new(StringConcat))
}

impl Operator for StringConcat {
    fn name(&self) -> &'static str {
        "StringConcat"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let (x, y) = (required(inputs, 0)?, required(inputs, 1)?);
        expect_strings(x, 0)?;
        expect_strings(y, 1)?;
        Ok(vec![match (&x.shape, &y.shape) {
            (Some(x), Some(y)) => Fact::new(DType::Str, broadcast::shape(&[x, y])?),
            _ => Fact::unranked(DType::Str),
        }])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let ((x_dims, x), (y_dims, y)) = (strings(inputs, 0)?, strings(inputs, 1)?);
        let dims = broadcast::dims(&[x_dims, y_dims])?;
        let (x_strides, y_strides) = (Strides::new(x_dims, &dims), Strides::new(y_dims, &dims));
        let mut joined = filled(&dims, String::new())?;
        for (i, slot) in joined.iter_mut().enumerate() {
            let outside = OpError::Internal("a string out of bounds");
            let pair = (x.get(x_strides.offset(i)), y.get(y_strides.offset(i)));
            let (Some(x), Some(y)) = pair else { return Err(outside) };
            let length = x.len().checked_add(y.len()).ok_or(OpError::Size)?;
            slot.try_reserve_exact(length).map_err(|_| OpError::Size)?;
            slot.push_str(x);
            slot.push_str(y);
        }
        Ok(vec![Tensor::from_strings(&dims, joined)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_joined_and_broadcast() {
        let text = |dims: &[usize], all: &[&str]| {
            Tensor::from_strings(dims, all.iter().map(|s| s.to_string()).collect()).unwrap()
        };
        let (x, y) = (text(&[2, 1], &["的", ""]), text(&[2], &["s", "t"]));
        let joined = StringConcat.reference(&[Some(x.view()), Some(y.view())], 1).unwrap().remove(0);
        assert_eq!(
            (joined.dims(), joined.strings().unwrap()),
            (&[2, 2][..], &["的s", "的t", "s", "t"].map(String::from)[..])
        );
        let y = text(&[3], &["a", "b", "c"]);
        let x = text(&[2], &["a", "b"]);
        assert!(StringConcat.reference(&[Some(x.view()), Some(y.view())], 1).is_err());
        let number = Tensor::scalar(1f32);
        assert!(StringConcat.reference(&[Some(x.view()), Some(number.view())], 1).is_err());
    }
}
