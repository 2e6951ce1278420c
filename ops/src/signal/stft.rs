//! [`STFT`](https://onnx.ai/onnx/operators/onnx__STFT.html): the Fourier transforms of a signal's overlapping stretches.

use std::sync::Arc;

use super::Number;
use super::fft::{Complex, Transform};
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::fact::Fact;
use crate::ir::numbers::{filled, float_tensor, floats};
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::movement::sizes::{optional, required, view};
use crate::operator::{Cost, Operator};
use crate::problem::Problem;

/// `STFT` of a batch of real or complex signals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stft {
    /// Of each transform there is one half only; the other mirrors it when the signal is real.
    pub onesided: bool,
}

/// Builds [`Stft`].
///
/// # Errors
/// When there are not two to four inputs.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(2, 4, "2 to 4")?;
    Ok(Arc::new(Stft { onesided: spec.attributes.flag("onesided", true)? }))
}

/// The stretches of a signal.
struct Frames {
    len: usize,
    step: usize,
    count: usize,
}

impl Frames {
    fn new(signal: usize, step: i64, window: Option<usize>, len: Option<i64>) -> Result<Frames, OpError> {
        let step = Number::size(step, "frame_step", 1)?;
        let len = match (len, window) {
            (Some(len), _) => Number::size(len, "frame_length", 1)?,
            (None, window) => window.unwrap_or(signal),
        };
        if window.is_some_and(|window| window != len) {
            return Err(OpError::constraint("window", format!("{len} elements"), window.unwrap_or(0)));
        }
        let last = signal.checked_sub(len).filter(|_| len > 0);
        let last = last.ok_or_else(|| OpError::constraint("frame_length", format!("1 to {signal}"), len))?;
        Ok(Frames { len, step, count: last / step + 1 })
    }
}

fn expect_signal(dims: &[Dim]) -> Result<(), OpError> {
    let fits = dims.len() == 3 && dims[2].known().is_none_or(|parts| parts == 1 || parts == 2);
    if fits {
        Ok(())
    } else {
        Err(OpError::constraint("signal", "[batch, length, 1 or 2]", format!("{dims:?}")))
    }
}

/// The number of elements of a window.
fn window_len(dims: &[usize]) -> Result<usize, OpError> {
    match dims {
        &[len] => Ok(len),
        dims => Err(OpError::constraint("rank of the window", 1, dims.len())),
    }
}

impl Stft {
    fn bins(self, len: usize) -> usize {
        if self.onesided { len / 2 + 1 } else { len }
    }
}

impl Operator for Stft {
    fn name(&self) -> &'static str {
        "STFT"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let x = required(inputs, 0)?;
        if !x.dtype.is_float() {
            return Err(OpError::Type { input: 0, expected: "a float type", got: x.dtype });
        }
        let window = optional(inputs, 2);
        if let Some(got) = window.map(|window| window.dtype).filter(|&dtype| dtype != x.dtype) {
            return Err(OpError::Type { input: 2, expected: "the type of the signal", got });
        }
        let batch = match &x.shape {
            Some(dims) => {
                expect_signal(dims)?;
                dims[0].clone()
            }
            None => Dim::named("STFT.batch"),
        };
        let signal = x.shape.as_ref().and_then(|dims| dims[1].known());
        let window = match window {
            None => Some(None),
            Some(window) => window.dims().map(|dims| window_len(&dims).map(Some)).transpose()?,
        };
        let len = match Number::of_fact(inputs, 3)? {
            Number::Absent => Some(None),
            Number::Unknown => None,
            Number::Is(len) => Some(Some(len)),
        };
        let (frames, bins) = match (signal, Number::of_fact(inputs, 1)?, window, len) {
            (Some(signal), Number::Is(step), Some(window), Some(len)) => {
                let frames = Frames::new(signal, step, window, len)?;
                (Dim::Known(frames.count), Dim::Known(self.bins(frames.len)))
            }
            _ => (Dim::named("STFT.frames"), Dim::named("STFT.bins")),
        };
        Ok(vec![Fact::new(x.dtype, vec![batch, frames, bins, Dim::Known(2)])])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let x = view(inputs, 0)?;
        expect_signal(&crate::ir::dim::from_known(x.dims))?;
        let &[batch, signal, parts] = x.dims else { return Err(OpError::Internal("a signal's rank")) };
        let step = Number::of_run(inputs, 1)?.ok_or(OpError::Internal("an input is missing"))?;
        let window = optional(inputs, 2);
        let length = window.map(|window| window_len(window.dims)).transpose()?;
        let frames = Frames::new(signal, step, length, Number::of_run(inputs, 3)?)?;
        let weights = match window {
            Some(window) => floats(&window)?,
            None => filled(&[frames.len], 1.0)?,
        };
        let bins = self.bins(frames.len);
        let dims = [batch, frames.count, bins, 2];
        let (data, mut results) = (floats(&x)?, filled(&dims, 0.0)?);
        let transform = Transform::new(frames.len, false)?;
        let mut line: Vec<Complex<f64>> = filled(&[frames.len], [0.0; 2])?;
        for (index, result) in results.chunks_exact_mut(bins * 2).enumerate() {
            let (n, frame) = (index / frames.count, index % frames.count);
            for (k, (slot, weight)) in line.iter_mut().zip(&weights).enumerate() {
                let at = (n * signal + frame * frames.step + k) * parts;
                *slot = [data[at] * weight, if parts == 2 { data[at + 1] * weight } else { 0.0 }];
            }
            transform.run(&mut line)?;
            result.as_chunks_mut::<2>().0.iter_mut().zip(&line).for_each(|(slot, value)| *slot = *value);
        }
        Ok(vec![float_tensor(x.dtype, &dims, &results)?])
    }

    fn cost(&self, problem: &Problem<'_>) -> Cost {
        let cost = problem.default_cost();
        Cost { flops: cost.flops.saturating_mul(256), ..cost }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_overlap() {
        let x = Tensor::from_slice(&[1, 4, 1], &[1.0f64, 2.0, 3.0, 4.0]).unwrap();
        let window = Tensor::from_slice(&[2], &[1.0f64, 0.5]).unwrap();
        let step = Tensor::scalar(1i64);
        let inputs = [Some(x.view()), Some(step.view()), Some(window.view())];
        let y = Stft { onesided: true }.reference(&inputs, 1).unwrap().remove(0);
        assert_eq!(y.dims(), [1, 3, 2, 2]);
        let y: Vec<f64> = y.to_vec().unwrap();
        let expected = [2.0, 0.0, 0.0, 0.0, 3.5, 0.0, 0.5, 0.0, 5.0, 0.0, 1.0, 0.0];
        assert!(y.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{y:?}");
        let none = Tensor::scalar(0i64);
        assert!(Stft { onesided: true }.reference(&[Some(x.view()), Some(none.view())], 1).is_err());
    }
}
