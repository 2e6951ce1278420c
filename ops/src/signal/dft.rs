//! [`DFT`](https://onnx.ai/onnx/operators/onnx__DFT.html): the discrete Fourier transform along one axis.

use std::sync::Arc;

use super::Number;
use super::fft::{Complex, Real, Transform};
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::numbers::{filled, float_tensor, floats};
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::movement::sizes::{self, required, view};
use crate::operator::{Cost, Operator};
use crate::problem::Problem;

/// `DFT`. The last dimension of its input holds real parts, or real and imaginary parts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dft {
    /// The axis where it is an attribute; else it is input 2, by default the last before the parts.
    pub axis: Option<i64>,
    /// The inverse transform.
    pub inverse: bool,
    /// Of a real signal's transform, which mirrors itself, there is one half only.
    pub onesided: bool,
}

/// Builds [`Dft`].
///
/// # Errors
/// When there are too many inputs for the opset.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    let axis = if spec.opset < 20 {
        spec.expect_inputs(1, 2, "1 or 2")?;
        Some(spec.attributes.int_or("axis", 1)?)
    } else {
        spec.expect_inputs(1, 3, "1 to 3")?;
        None
    };
    let inverse = spec.attributes.flag("inverse", false)?;
    let onesided = spec.attributes.flag("onesided", false)?;
    Ok(Arc::new(Dft { axis, inverse, onesided }))
}

impl Dft {
    /// The axis: any but the last.
    fn along(self, given: Option<i64>, rank: usize) -> Result<usize, OpError> {
        let axis = sizes::axis(self.axis.or(given).unwrap_or(-2), rank)?;
        if axis + 1 == rank {
            return Err(OpError::constraint("axis", "one of the signal", axis));
        }
        Ok(axis)
    }

    /// A real signal comes out of its half.
    fn mirrors(self) -> bool {
        self.inverse && self.onesided
    }

    /// Elements of a transformed line of `extent` elements.
    fn len(self, given: Option<i64>, extent: usize) -> Result<usize, OpError> {
        match given {
            Some(len) => Number::size(len, "dft_length", 1),
            None if self.mirrors() => {
                let len = extent.checked_sub(1).and_then(|half| half.checked_mul(2));
                len.filter(|&len| len > 0)
                    .ok_or_else(|| OpError::constraint("dimension along the axis", "2 or more", extent))
            }
            None => Ok(extent),
        }
    }

    /// The dimension along the axis, of `len` elements when whole.
    fn extent(self, len: &Dim) -> Result<Dim, OpError> {
        if self.onesided && !self.inverse { Ok(len.div_floor(2)?.offset(1)?) } else { Ok(len.clone()) }
    }
}

fn expect_parts(parts: &Dim) -> Result<(), OpError> {
    match parts.known() {
        None | Some(1 | 2) => Ok(()),
        Some(parts) => Err(OpError::constraint("last dimension", "1 or 2", parts)),
    }
}

impl Operator for Dft {
    fn name(&self) -> &'static str {
        "DFT"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let x = required(inputs, 0)?;
        if !x.dtype.is_float() {
            return Err(OpError::Type { input: 0, expected: "a float type", got: x.dtype });
        }
        let Some(dims) = &x.shape else { return Ok(vec![Fact::unranked(x.dtype)]) };
        let Some((parts, signal)) = dims.split_last().filter(|(_, signal)| !signal.is_empty()) else {
            return Err(OpError::constraint("rank", "2 or more", dims.len()));
        };
        expect_parts(parts)?;
        let mut shape = signal.to_vec();
        let axis = match Number::of_fact(inputs, 2)? {
            Number::Unknown if self.axis.is_none() => None,
            Number::Is(axis) => Some(self.along(Some(axis), dims.len())?),
            _ => Some(self.along(None, dims.len())?),
        };
        match axis {
            None => shape.iter_mut().for_each(|dim| *dim = Dim::named("DFT.extent")),
            Some(axis) => {
                let len = match (Number::of_fact(inputs, 1)?, shape[axis].known()) {
                    (Number::Is(len), _) => Dim::Known(self.len(Some(len), 0)?),
                    (Number::Unknown, _) => Dim::named("DFT.dft_length"),
                    (Number::Absent, Some(extent)) => Dim::Known(self.len(None, extent)?),
                    (Number::Absent, None) if self.mirrors() => shape[axis].offset(-1)?.scale(2)?,
                    (Number::Absent, None) => shape[axis].clone(),
                };
                shape[axis] = self.extent(&len)?;
            }
        }
        shape.push(Dim::Known(if self.mirrors() { 1 } else { 2 }));
        Ok(vec![Fact::new(x.dtype, shape)])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        // In the tensor's own precision, as the libraries have it that the official cases were recorded with.
        match view(inputs, 0)?.dtype {
            DType::F64 => self.transform::<f64>(inputs),
            _ => self.transform::<f32>(inputs),
        }
    }

    fn cost(&self, problem: &Problem<'_>) -> Cost {
        let cost = problem.default_cost();
        // A few operations for each factor of a line's length; chirps take about four times as long.
        Cost { flops: cost.flops.saturating_mul(256), ..cost }
    }
}

impl Dft {
    fn transform<T: Real>(&self, inputs: &[Option<View<'_>>]) -> Result<Vec<Tensor>, OpError> {
        let x = view(inputs, 0)?;
        let Some((&parts, signal)) = x.dims.split_last().filter(|(_, signal)| !signal.is_empty()) else {
            return Err(OpError::constraint("rank", "2 or more", x.dims.len()));
        };
        expect_parts(&Dim::Known(parts))?;
        let axis = self.along(Number::of_run(inputs, 2)?, x.dims.len())?;
        let len = self.len(Number::of_run(inputs, 1)?, signal[axis])?;
        let rows = self.extent(&Dim::Known(len))?.known().ok_or(OpError::Internal("an extent"))?;
        let out_parts = if self.mirrors() { 1 } else { 2 };
        let dims = [&signal[..axis], &[rows], &signal[axis + 1..], &[out_parts]].concat();
        let (data, mut results) = (floats(&x)?, filled(&dims, 0.0)?);
        if results.is_empty() {
            return Ok(vec![float_tensor(x.dtype, &dims, &results)?]);
        }
        let transform = Transform::new(len, self.inverse)?;
        let zero = [T::default(); 2];
        let mut line: Vec<Complex<T>> = filled(&[len], zero)?;
        let (extent, inner) = (signal[axis], signal[axis + 1..].iter().product::<usize>());
        // Of a mirrored line one half is read, and the rest follows from it.
        let read = if self.mirrors() { (len / 2 + 1).min(extent) } else { len.min(extent) };
        for outer in 0..signal[..axis].iter().product::<usize>() {
            for column in 0..inner {
                line.fill(zero);
                for (k, slot) in line.iter_mut().enumerate().take(read) {
                    let at = ((outer * extent + k) * inner + column) * parts;
                    *slot = [data[at], if parts == 2 { data[at + 1] } else { 0.0 }].map(T::near);
                }
                if self.mirrors() {
                    mirror(&mut line);
                }
                transform.run(&mut line)?;
                if parts == 1 {
                    mirror(&mut line);
                }
                for (k, value) in line.iter().enumerate().take(rows) {
                    let at = ((outer * rows + k) * inner + column) * out_parts;
                    results[at..at + out_parts].copy_from_slice(&value.map(T::wide)[..out_parts]);
                }
            }
        }
        Ok(vec![float_tensor(x.dtype, &dims, &results)?])
    }
}

/// Makes the transform of a real line of its first half: what is its own mirror image is real, not only nearly so.
fn mirror<T: Real>(line: &mut [Complex<T>]) {
    let len = line.len();
    for k in 0..=len / 2 {
        let twin = (len - k) % len;
        if twin == k {
            line[k][1] = T::default();
        } else {
            line[twin] = [line[k][0], -line[k][1]];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Dft = Dft { axis: None, inverse: false, onesided: false };

    fn run(op: Dft, dims: &[usize], x: &[f64], len: Option<i64>) -> (Vec<usize>, Vec<f64>) {
        let (x, len) = (Tensor::from_slice(dims, x).unwrap(), len.map(Tensor::scalar));
        let y = op.reference(&[Some(x.view()), len.as_ref().map(Tensor::view)], 1).unwrap().remove(0);
        let facts = (Fact::known(DType::F64, dims), len.map(Fact::constant));
        let inferred = op.infer(&[Some(&facts.0), facts.1.as_ref()], 1).unwrap();
        assert_eq!(inferred[0].dims().unwrap(), y.dims());
        (y.dims().to_vec(), y.to_vec().unwrap())
    }

    fn near(found: &[f64], expected: &[f64]) {
        assert!(found.len() == expected.len(), "{found:?}");
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?}");
    }

    #[test]
    fn transforms_of_four_numbers() {
        let (dims, y) = run(PLAIN, &[4, 1], &[1.0, 2.0, 3.0, 4.0], None);
        assert_eq!(dims, [4, 2]);
        near(&y, &[10.0, 0.0, -2.0, 2.0, -2.0, 0.0, -2.0, -2.0]);
        let onesided = Dft { onesided: true, ..PLAIN };
        let (dims, half) = run(onesided, &[4, 1], &[1.0, 2.0, 3.0, 4.0], None);
        assert_eq!(dims, [3, 2]);
        near(&half, &[10.0, 0.0, -2.0, 2.0, -2.0, 0.0]);
        let back = Dft { inverse: true, ..onesided };
        let (dims, x) = run(back, &[3, 2], &half, None);
        assert_eq!(dims, [4, 1]);
        near(&x, &[1.0, 2.0, 3.0, 4.0]);
        // The middle of a real line's transform is real, whatever the rounding.
        let ramp: Vec<f32> = (0..10).map(|k| k as f32 * 10.0).collect();
        let x = Tensor::from_vec(&[10, 1], ramp).unwrap();
        let y = PLAIN.reference(&[Some(x.view())], 1).unwrap()[0].to_vec::<f32>().unwrap();
        assert_eq!((y[1], y[11]), (0.0, 0.0));
        // Cut to two elements, and filled up to three.
        near(&run(PLAIN, &[4, 1], &[1.0, 2.0, 3.0, 4.0], Some(2)).1, &[3.0, 0.0, -1.0, 0.0]);
        near(&run(PLAIN, &[1, 1], &[1.0], Some(3)).1, &[1.0, 0.0, 1.0, 0.0, 1.0, 0.0]);
    }
}
