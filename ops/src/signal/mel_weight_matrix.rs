//! [`MelWeightMatrix`](https://onnx.ai/onnx/operators/onnx__MelWeightMatrix.html): triangular weights that gather the
//! frequencies of a spectrum into bands of equal width on the mel scale.

use std::sync::Arc;

use super::Number;
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

/// `MelWeightMatrix` of an element type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MelWeightMatrix {
    /// Element type of the result.
    pub dtype: DType,
}

/// Builds [`MelWeightMatrix`].
///
/// # Errors
/// When there are not five inputs, or the type is no number.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(5, 5, "5")?;
    Ok(Arc::new(MelWeightMatrix { dtype: super::output_datatype(spec)? }))
}

/// A frequency on the mel scale.
fn mel(hertz: f64) -> f64 {
    2595.0 * (1.0 + hertz / 700.0).log10()
}

/// The frequency at a place of the mel scale.
fn hertz(mel: f64) -> f64 {
    700.0 * (10f64.powf(mel / 2595.0) - 1.0)
}

/// The only element of a float input.
fn frequency(inputs: &[Option<View<'_>>], index: usize) -> Result<f64, OpError> {
    match floats(&view(inputs, index)?)?.as_slice() {
        &[one] => Ok(one),
        all => Err(OpError::constraint("elements of a scalar input", 1, all.len())),
    }
}

/// An integer input as a size.
fn size(
    inputs: &[Option<View<'_>>],
    index: usize,
    what: &'static str,
    least: usize,
) -> Result<usize, OpError> {
    let number = Number::of_run(inputs, index)?.ok_or(OpError::Internal("an input is missing"))?;
    Number::size(number, what, least)
}

impl Operator for MelWeightMatrix {
    fn name(&self) -> &'static str {
        "MelWeightMatrix"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        for input in 3..5 {
            let got = required(inputs, input)?.dtype;
            if !got.is_float() {
                return Err(OpError::Type { input, expected: "a float type", got });
            }
        }
        let bins = match Number::of_fact(inputs, 1)? {
            Number::Is(len) => Dim::Known(Number::size(len, "dft_length", 0)? / 2 + 1),
            _ => Dim::named("MelWeightMatrix.bins"),
        };
        let bands = match Number::of_fact(inputs, 0)? {
            Number::Is(bands) => Dim::Known(Number::size(bands, "num_mel_bins", 0)?),
            _ => Dim::named("MelWeightMatrix.bands"),
        };
        Ok(vec![Fact::new(self.dtype, vec![bins, bands])])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let bands = size(inputs, 0, "num_mel_bins", 0)?;
        let len = size(inputs, 1, "dft_length", 0)?;
        let rate = size(inputs, 2, "sample_rate", 1)?;
        let (low, high) = (mel(frequency(inputs, 3)?), mel(frequency(inputs, 4)?));
        if !(low.is_finite() && high.is_finite() && low <= high) {
            return Err(OpError::constraint(
                "edges",
                "finite, the lower first",
                format!("{low} and {high} mel"),
            ));
        }
        let bins = len / 2 + 1;
        let mut weights = filled(&[bins, bands], 0.0)?;
        let step = (high - low) / (bands as f64 + 2.0);
        // The bin at the edge of each band; saturates beyond what a spectrum has.
        let edge = |k: usize| {
            let place = (len as f64 + 1.0) * hertz(low + step * k as f64) / rate as f64;
            place.floor().max(0.0) as usize
        };
        for band in 0..bands {
            let [left, middle, right] = [edge(band), edge(band + 1), edge(band + 2)];
            let mut set = |bin: usize, weight: f64| {
                if bin < bins {
                    weights[bin * bands + band] = weight;
                }
            };
            if left == middle {
                set(middle, 1.0);
            }
            for bin in left..middle.saturating_add(1).min(bins) {
                if left < middle {
                    set(bin, (bin - left) as f64 / (middle - left) as f64);
                }
            }
            for bin in middle..right.min(bins) {
                set(bin, (right - bin) as f64 / (right - middle) as f64);
            }
        }
        Ok(vec![super::numbers(self.dtype, &[bins, bands], &weights)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn triangles_over_a_small_spectrum() {
        let integers = [3i64, 16, 8000].map(Tensor::scalar);
        let edges = [0f32, 4000.0].map(Tensor::scalar);
        let inputs: Vec<_> = integers.iter().chain(&edges).map(|tensor| Some(tensor.view())).collect();
        let y = MelWeightMatrix { dtype: DType::F32 }.reference(&inputs, 1).unwrap().remove(0);
        assert_eq!(y.dims(), [9, 3]);
        // Edges at 0, 324.4…, 799.3…, 1494.3… and 2511.4… hertz: bins 0, 0, 1, 3 and 5.
        let column =
            |band: usize| y.to_vec::<f32>().unwrap().into_iter().skip(band).step_by(3).collect::<Vec<_>>();
        assert_eq!(column(0), [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(column(1), [0.0, 1.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(column(2), [0.0, 0.0, 0.5, 1.0, 0.5, 0.0, 0.0, 0.0, 0.0]);
    }
}
