//! [`Shape`](https://onnx.ai/onnx/operators/onnx__Shape.html): the dimensions of a tensor.

use std::sync::Arc;

use super::sizes::{self, required, view};
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::operator::Operator;

/// `Shape` from dimension `start` up to `end`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// First dimension; negative counts from the back.
    pub start: i64,
    /// Dimension after the last; the rank when absent.
    pub end: Option<i64>,
}

/// Builds [`Shape`].
///
/// # Errors
/// When there is not one input.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 1, "1")?;
    let attributes = spec.attributes;
    Ok(Arc::new(Shape { start: attributes.int_or("start", 0)?, end: attributes.int("end")?.copied() }))
}

impl Shape {
    fn range(self, rank: usize) -> std::ops::Range<usize> {
        let signed = i64::try_from(rank).unwrap_or(i64::MAX);
        let clamp = |at: i64| {
            let at = if at < 0 { at.saturating_add(signed) } else { at };
            usize::try_from(at.clamp(0, signed)).unwrap_or(0)
        };
        let (start, end) = (clamp(self.start), clamp(self.end.unwrap_or(signed)));
        start..end.max(start)
    }
}

impl Operator for Shape {
    fn name(&self) -> &'static str {
        "Shape"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let Some(dims) = &required(inputs, 0)?.shape else {
            return Ok(vec![Fact::new(DType::I64, vec![Dim::named("Shape.rank")])]);
        };
        let sizes = dims[self.range(dims.len())].to_vec();
        Ok(vec![sizes::fact(DType::I64, vec![Dim::Known(sizes.len())], sizes)?])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let dims = view(inputs, 0)?.dims;
        let sizes: Result<Vec<i64>, _> =
            dims[self.range(dims.len())].iter().map(|&dim| i64::try_from(dim)).collect();
        let sizes = sizes.map_err(|_| OpError::Size)?;
        Ok(vec![Tensor::from_vec(&[sizes.len()], sizes)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_clamp() {
        let range = |start, end| Shape { start, end }.range(3);
        assert_eq!(range(0, None), 0..3);
        assert_eq!(range(-1, None), 2..3);
        assert_eq!(range(1, Some(-1)), 1..2);
        assert_eq!(range(-10, Some(10)), 0..3);
        assert_eq!(range(2, Some(1)), 2..2);
        assert_eq!(range(i64::MIN, Some(i64::MAX)), 0..3);
    }

    #[test]
    fn names_are_carried() {
        let x = Fact::new(DType::F32, vec![Dim::named("n"), Dim::Known(3)]);
        let shape = Shape { start: 0, end: None }.infer(&[Some(&x)], 1).unwrap();
        assert_eq!(shape[0].sizes.as_ref().unwrap(), &[Dim::named("n"), Dim::Known(3)]);
        assert!(shape[0].value.is_none());
        let known = Shape { start: 1, end: None }.infer(&[Some(&x)], 1).unwrap();
        assert_eq!(known[0].integers().unwrap(), [3]);
    }
}
