//! [`Flatten`](https://onnx.ai/onnx/operators/onnx__Flatten.html): a matrix of the same elements.

use std::sync::Arc;

use super::relabel::{self, relabels};
use super::sizes::{required, view};
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::dim::{self, Dim};
use crate::ir::fact::Fact;
use crate::ir::tensor::{Tensor, element_count};
use crate::ir::view::View;
use crate::operator::Operator;

/// `Flatten`: dimensions before an axis become rows, the others columns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flatten {
    /// First dimension of the columns, from `-rank` to `rank` inclusive.
    pub axis: i64,
}

/// Builds [`Flatten`].
///
/// # Errors
/// When there is not one input.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 1, "1")?;
    Ok(Arc::new(Flatten { axis: spec.attributes.int_or("axis", 1)? }))
}

impl Flatten {
    fn axis(self, rank: usize) -> Result<usize, OpError> {
        // The rank itself is an axis here: one column.
        if usize::try_from(self.axis) == Ok(rank) { Ok(rank) } else { super::sizes::axis(self.axis, rank) }
    }
}

impl Operator for Flatten {
    fn name(&self) -> &'static str {
        "Flatten"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let x = required(inputs, 0)?;
        let shape = match &x.shape {
            Some(dims) => {
                let (rows, columns) = dims.split_at(self.axis(dims.len())?);
                vec![dim::product(rows)?, dim::product(columns)?]
            }
            None => vec![Dim::named("Flatten.rows"), Dim::named("Flatten.columns")],
        };
        Ok(vec![Fact::new(x.dtype, shape)])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let x = view(inputs, 0)?;
        let (rows, columns) = x.dims.split_at(self.axis(x.dims.len())?);
        let count = |dims| element_count(dims).ok_or(OpError::Size);
        Ok(vec![relabel::reference(&x, &[count(rows)?, count(columns)?])?])
    }

    relabels!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dimensions_join_at_the_axis() {
        let x = Tensor::zeroed(crate::DType::F32, &[2, 3, 4]).unwrap();
        let dims = |axis| Flatten { axis }.reference(&[Some(x.view())], 1).map(|all| all[0].dims().to_vec());
        assert_eq!(dims(0).unwrap(), [1, 24]);
        assert_eq!(dims(1).unwrap(), [2, 12]);
        assert_eq!(dims(3).unwrap(), [24, 1]);
        assert_eq!(dims(-1).unwrap(), [6, 4]);
        assert!(dims(4).is_err() && dims(-4).is_err());
        let shape = vec![Dim::named("n"), Dim::Known(3), Dim::Known(4)];
        let fact = Flatten { axis: 1 }.infer(&[Some(&Fact::new(crate::DType::F32, shape))], 1).unwrap();
        assert_eq!(fact[0].shape.as_ref().unwrap(), &[Dim::named("n"), Dim::Known(12)]);
    }
}
