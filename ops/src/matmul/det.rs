//! [`Det`](https://onnx.ai/onnx/operators/onnx__Det.html): determinants of square matrices.

use std::sync::Arc;

use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::fact::Fact;
use crate::ir::numbers::{filled, float_tensor, floats};
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::movement::sizes::{required, view};
use crate::operator::{Cost, Operator};
use crate::problem::Problem;

/// `Det` of the last two dimensions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Det;

/// Builds [`Det`].
///
/// # Errors
/// When there is not one input.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 1, "1")?;
    Ok(Arc::new(Det))
}

/// The determinant of a matrix of `n` rows, by elimination with the largest pivot of each column.
fn determinant(matrix: &mut [f64], n: usize) -> f64 {
    let mut product = 1.0;
    for column in 0..n {
        let size = |row: usize| matrix[row * n + column].abs();
        let pivot = (column..n).fold(column, |best, row| if size(row) > size(best) { row } else { best });
        if pivot != column {
            (0..n).for_each(|k| matrix.swap(pivot * n + k, column * n + k));
            product = -product;
        }
        let diagonal = matrix[column * n + column];
        product *= diagonal;
        if diagonal == 0.0 {
            break;
        }
        let (above, below) = matrix.split_at_mut((column + 1) * n);
        let own = &above[column * n..];
        for row in below.chunks_exact_mut(n) {
            let factor = row[column] / diagonal;
            row.iter_mut().zip(own).skip(column).for_each(|(x, y)| *x -= factor * y);
        }
    }
    product
}

impl Operator for Det {
    fn name(&self) -> &'static str {
        "Det"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let x = required(inputs, 0)?;
        if !x.dtype.is_float() {
            return Err(OpError::Type { input: 0, expected: "a float type", got: x.dtype });
        }
        let Some(dims) = &x.shape else { return Ok(vec![Fact::unranked(x.dtype)]) };
        let [batch @ .., rows, columns] = dims.as_slice() else {
            return Err(OpError::constraint("rank", "2 or more", dims.len()));
        };
        if let (Some(rows), Some(columns)) = (rows.known(), columns.known())
            && rows != columns
        {
            return Err(OpError::constraint("columns of a square matrix", rows, columns));
        }
        Ok(vec![Fact::new(x.dtype, batch.to_vec())])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let x = view(inputs, 0)?;
        let &[ref batch @ .., rows, columns] = x.dims else {
            return Err(OpError::constraint("rank", "2 or more", x.dims.len()));
        };
        if rows != columns {
            return Err(OpError::constraint("columns of a square matrix", rows, columns));
        }
        // The product of nothing is 1.
        let mut results = filled(batch, 1.0)?;
        let mut data = floats(&x)?;
        if rows > 0 {
            for (result, matrix) in results.iter_mut().zip(data.chunks_exact_mut(rows * rows)) {
                *result = determinant(matrix, rows);
            }
        }
        Ok(vec![float_tensor(x.dtype, batch, &results)?])
    }

    fn cost(&self, problem: &Problem<'_>) -> Cost {
        let cost = problem.default_cost();
        let rows = problem.input(0).and_then(|x| x.dims.last().copied()).unwrap_or(1) as u64;
        let elements = problem.input(0).map_or(0, |x| x.len()) as u64;
        Cost { flops: elements.saturating_mul(rows), ..cost }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn determinants() {
        let of = |n: usize, data: &[f64]| {
            let x = Tensor::from_slice(&[1, n, n], data).unwrap();
            Det.reference(&[Some(x.view())], 1).unwrap()[0].to_vec::<f64>().unwrap()
        };
        assert_eq!(of(2, &[1.0, 2.0, 3.0, 4.0]), [-2.0]);
        assert_eq!(of(3, &[0.0, 2.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 5.0]), [-10.0]);
        assert_eq!(of(2, &[1.0, 2.0, 2.0, 4.0]), [0.0]);
        assert_eq!(of(0, &[]), [1.0]);
    }
}
