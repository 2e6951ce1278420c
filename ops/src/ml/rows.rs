//! Rows of features, of whatever type of number.

use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::fact::Fact;
use crate::ir::numbers::{floats, integers};
use crate::ir::view::View;
use crate::movement::sizes::{required, view};

/// The rows of input 0: a matrix, or a vector as the only row.
pub(super) struct Rows {
    values: Vec<f64>,
    features: usize,
    /// How many rows there are.
    pub(super) count: usize,
}

impl Rows {
    /// The number of rows of input 0.
    pub(super) fn infer(inputs: &[Option<&Fact>]) -> Result<Dim, OpError> {
        let x = required(inputs, 0)?;
        if !x.dtype.is_float() && !x.dtype.is_integer() {
            return Err(OpError::Type { input: 0, expected: "a number type", got: x.dtype });
        }
        match x.shape.as_deref() {
            Some([_]) => Ok(Dim::Known(1)),
            Some([batch, _]) => Ok(batch.clone()),
            Some(other) => Err(OpError::constraint("input", "1 or 2 dimensions", other.len())),
            None => Ok(Dim::named("rows")),
        }
    }

    pub(super) fn new(inputs: &[Option<View<'_>>]) -> Result<Rows, OpError> {
        let x = view(inputs, 0)?;
        let values = match x.dtype.is_float() {
            true => floats(&x)?,
            false => integers(&x)?.into_iter().map(|x| x as f64).collect(),
        };
        match *x.dims {
            [features] => Ok(Rows { values, features, count: 1 }),
            [count, features] => Ok(Rows { values, features, count }),
            _ => Err(OpError::constraint("input", "1 or 2 dimensions", x.dims.len())),
        }
    }

    /// Features of a row.
    pub(super) fn features(&self) -> usize {
        self.features
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[f64]> {
        (0..self.count).map(|row| &self.values[row * self.features..(row + 1) * self.features])
    }
}
