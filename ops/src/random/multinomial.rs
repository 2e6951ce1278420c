//! [Multinomial](https://onnx.ai/onnx/operators/onnx__Multinomial.html): classes drawn by their probabilities.

use std::sync::Arc;

use super::distribution::dtype_of;
use super::generator::Seed;
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::numbers::{filled, floats, integer_tensor};
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::movement::sizes::{required, view};
use crate::norm::{Form, Softmax};
use crate::operator::Operator;

/// Classes drawn for each row of logarithms of probabilities, which need not sum to 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Multinomial {
    /// How many are drawn for each row.
    pub samples: usize,
    /// Element type of the output: i32 or i64.
    pub dtype: DType,
    /// Where the numbers begin.
    pub seed: Seed,
}

pub(super) fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 1, "1")?;
    let samples = usize::try_from(spec.attributes.int_or("sample_size", 1)?);
    let samples =
        samples.map_err(|_| OpError::Attribute { name: "sample_size", expected: "a number of 0 or more" })?;
    let dtype = dtype_of(spec)?.unwrap_or(DType::I32);
    if !matches!(dtype, DType::I32 | DType::I64) {
        return Err(OpError::Attribute { name: "dtype", expected: "i32 or i64" });
    }
    Ok(Arc::new(Multinomial { samples, dtype, seed: Seed::of_float(spec)? }))
}

impl Operator for Multinomial {
    fn name(&self) -> &'static str {
        "Multinomial"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let x = required(inputs, 0)?;
        if !x.dtype.is_float() {
            return Err(OpError::Type { input: 0, expected: "a float", got: x.dtype });
        }
        let batch = match x.shape.as_deref() {
            Some([batch, _]) => batch.clone(),
            Some(other) => return Err(OpError::constraint("input", "2 dimensions", other.len())),
            None => Dim::named("Multinomial.batch"),
        };
        Ok(vec![Fact::new(self.dtype, vec![batch, Dim::Known(self.samples)])])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let x = view(inputs, 0)?;
        let &[batch, classes] = x.dims else {
            return Err(OpError::constraint("input", "2 dimensions", x.dims.len()));
        };
        let dims = [batch, self.samples];
        let mut drawn: Vec<i128> = filled(&dims, 0)?;
        if !drawn.is_empty() && classes == 0 {
            return Err(OpError::constraint("input", "at least one class", "none"));
        }
        let mut probabilities = floats(&x)?;
        Softmax { form: Form::Soft, axis: 1, flatten: false }.transform(&mut probabilities, x.dims)?;
        let mut generator = self.seed.generator();
        let rows = probabilities.chunks(classes.max(1)).zip(drawn.chunks_mut(self.samples.max(1)));
        for (row, drawn) in rows {
            let mut total = 0.0;
            let bounds: Vec<f64> = row
                .iter()
                .map(|p| {
                    total += p;
                    total
                })
                .collect();
            for slot in drawn {
                let at = generator.uniform() * total;
                // Rounding may leave a number above all bounds.
                *slot = bounds.partition_point(|&bound| bound <= at).min(classes - 1) as i128;
            }
        }
        Ok(vec![integer_tensor(self.dtype, &dims, &drawn)?])
    }

    fn folds(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_come_with_their_probability() {
        // Probabilities 1/2, 1/2 and 0, 1; the generator's first numbers for seed 0 are 0.549, 0.715, 0.603, 0.545,
        // 0.424, 0.646.
        let x = [0.0, 0.0, f32::NEG_INFINITY, 3.0];
        let x = Tensor::from_slice(&[2, 2], &x).unwrap();
        let op = Multinomial { samples: 5, dtype: DType::I64, seed: Seed(Some(0)) };
        let y = op.reference(&[Some(x.view())], 1).unwrap().remove(0);
        assert_eq!(y.to_vec::<i64>().unwrap(), [1, 1, 1, 1, 0, 1, 1, 1, 1, 1]);
        let none = Tensor::from_slice(&[1, 0], &[0f32; 0]).unwrap();
        assert!(op.reference(&[Some(none.view())], 1).is_err());
        let bad = Tensor::from_slice(&[1, 2], &[f32::NAN; 2]).unwrap();
        op.reference(&[Some(bad.view())], 1).unwrap();
    }
}
