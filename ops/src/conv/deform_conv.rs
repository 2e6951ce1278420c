//! [`DeformConv`](https://onnx.ai/onnx/operators/onnx__DeformConv.html): a convolution whose windows read at shifted
//! places, each tap at its own.

use std::sync::Arc;

use super::conv::{self, Conv};
use super::window::Window;
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::dim::{self, Dim};
use crate::ir::fact::Fact;
use crate::ir::numbers::{filled, float_tensor, floats};
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::movement::sizes::{optional, view};
use crate::operator::{Cost, Operator};
use crate::problem::Problem;

/// `DeformConv` over images.
#[derive(Clone, PartialEq, Debug)]
pub struct DeformConv {
    /// The convolution without shifts.
    pub conv: Conv,
    /// Groups of channels that are shifted together.
    pub offset_groups: usize,
}

/// Builds [`DeformConv`].
///
/// # Errors
/// When an attribute is out of range.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(3, 5, "3 to 5")?;
    let offset_groups = spec.attributes.int_or("offset_group", 1)?;
    let offset_groups = u32::try_from(offset_groups).ok().filter(|&groups| groups > 0);
    let offset_groups = offset_groups
        .ok_or(OpError::Attribute { name: "offset_group", expected: "a positive integer below 2^32" })?;
    let conv = Conv { window: Window::read(spec.attributes)?, groups: conv::groups(spec)? };
    Ok(Arc::new(DeformConv { conv, offset_groups: offset_groups as usize }))
}

impl DeformConv {
    /// The output's shape; offsets and mask checked against it. `shapes` are those of the inputs.
    fn shape(&self, shapes: &[Option<&[Dim]>]) -> Result<Vec<Dim>, OpError> {
        let given = |index: usize| shapes.get(index).copied().flatten();
        let (Some(x), Some(w)) = (given(0), given(1)) else {
            return Err(OpError::Internal("an input is missing"));
        };
        if x.len() != 4 {
            return Err(OpError::unsupported(format!("a deformed convolution of rank {}", x.len())));
        }
        let output = self.conv.shape(x, w, given(3))?;
        if x[1].known().is_some_and(|channels| !channels.is_multiple_of(self.offset_groups)) {
            let expected = format!("a multiple of {}", self.offset_groups);
            return Err(OpError::constraint("input channels", expected, &x[1]));
        }
        let taps = w[2].mul(&w[3])?.scale(self.offset_groups)?;
        for (index, what, channels) in [(2, "offsets", taps.scale(2)?), (4, "mask", taps)] {
            let Some(own) = given(index) else { continue };
            if own.len() != 4 {
                return Err(OpError::constraint("rank of offsets and mask", 4, own.len()));
            }
            let expected = [x[0].clone(), channels, output[2].clone(), output[3].clone()];
            for (expected, own) in expected.iter().zip(own) {
                conv::agree(what, expected, own)?;
            }
        }
        Ok(output)
    }
}

/// The element at a place between four of a plane; zero outside.
fn sample(plane: &[f64], [height, width]: [usize; 2], y: f64, x: f64) -> f64 {
    let (top, left) = (y.floor(), x.floor());
    let at = |row: f64, column: f64| {
        let inside = row >= 0.0 && column >= 0.0 && row < height as f64 && column < width as f64;
        if inside { plane[row as usize * width + column as usize] } else { 0.0 }
    };
    let (down, right) = (y - top, x - left);
    let line = |row: f64| at(row, left) * (1.0 - right) + at(row, left + 1.0) * right;
    if y.is_finite() && x.is_finite() { line(top) * (1.0 - down) + line(top + 1.0) * down } else { 0.0 }
}

impl Operator for DeformConv {
    fn name(&self) -> &'static str {
        "DeformConv"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let bias = [optional(inputs, 0), optional(inputs, 1), optional(inputs, 3)];
        let (x, _, _) = conv::operands(&bias)?;
        for input in [2, 4] {
            if let Some(got) =
                optional(inputs, input).map(|fact| fact.dtype).filter(|&dtype| dtype != x.dtype)
            {
                return Err(OpError::Type { input, expected: "the type of input 0", got });
            }
        }
        let shapes: Vec<Option<&[Dim]>> =
            inputs.iter().map(|fact| fact.and_then(|fact| fact.shape.as_deref())).collect();
        if inputs.iter().zip(&shapes).any(|(fact, shape)| fact.is_some() && shape.is_none()) {
            return Ok(vec![Fact::unranked(x.dtype)]);
        }
        Ok(vec![Fact::new(x.dtype, self.shape(&shapes)?)])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let (x, w, offsets) = (view(inputs, 0)?, view(inputs, 1)?, view(inputs, 2)?);
        let shapes: Vec<Option<Vec<Dim>>> =
            inputs.iter().map(|view| view.map(|view| dim::from_known(view.dims))).collect();
        let shape = self.shape(&shapes.iter().map(Option::as_deref).collect::<Vec<_>>())?;
        let dims = dim::known(&shape).ok_or(OpError::Internal("an extent"))?;
        let numbers = |index| optional(inputs, index).map(|view| floats(&view)).transpose();
        let (data, weights, offsets) = (floats(&x)?, floats(&w)?, floats(&offsets)?);
        let (bias, mask) = (numbers(3)?, numbers(4)?);
        let (&[_, channels, height, width], &[_, depth, kernel_height, kernel_width]) = (x.dims, w.dims)
        else {
            return Err(OpError::Internal("a rank"));
        };
        let &[batch, outputs, rows, columns] = dims.as_slice() else {
            return Err(OpError::Internal("a rank"));
        };
        let (plane, points, taps) = (height * width, rows * columns, kernel_height * kernel_width);
        let (window, dtype) = (&self.conv.window, x.dtype);
        let (top, left) = (window.pads(0, 2).0 as f64, window.pads(1, 2).0 as f64);
        let mut results = filled(&dims, 0.0)?;
        let mut samples = filled(&[channels, taps], 0.0)?;
        // Index of an offset or a mask: channels of them, then points.
        for at in 0..batch * points {
            let (n, point) = (at / points, at % points);
            let y = (point / columns * window.stride(0)) as f64 - top;
            let x = (point % columns * window.stride(1)) as f64 - left;
            for (index, slot) in samples.iter_mut().enumerate() {
                let (channel, tap) = (index / taps, index % taps);
                let group = channel / (channels / self.offset_groups);
                let own = (n * self.offset_groups + group) * taps + tap;
                let row =
                    y + (tap / kernel_width * window.dilation(0)) as f64 + offsets[own * 2 * points + point];
                let column = x
                    + (tap % kernel_width * window.dilation(1)) as f64
                    + offsets[(own * 2 + 1) * points + point];
                let source = &data[(n * channels + channel) * plane..][..plane];
                let factor = mask.as_ref().map_or(1.0, |mask| mask[own * points + point]);
                *slot = factor * sample(source, [height, width], row, column);
            }
            for output in 0..outputs {
                let first = output / (outputs / self.conv.groups) * depth * taps;
                let own = &weights[output * depth * taps..][..depth * taps];
                let sum: f64 = own.iter().zip(&samples[first..]).map(|(weight, x)| weight * x).sum();
                let bias = bias.as_ref().map_or(0.0, |bias| bias[output]);
                results[(n * outputs + output) * points + point] = sum + bias;
            }
        }
        Ok(vec![float_tensor(dtype, &dims, &results)?])
    }

    fn cost(&self, problem: &Problem<'_>) -> Cost {
        let cost = problem.default_cost();
        let weights = problem.input(1).map_or(0, |w| w.len()) as u64;
        let points: u64 = problem.outputs.iter().map(|y| y.len() as u64).sum();
        Cost { flops: points.saturating_mul(weights.saturating_mul(2)), ..cost }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shifted_taps_read_between_elements() {
        let x = Tensor::from_slice(&[1, 1, 2, 2], &[1f64, 2.0, 3.0, 4.0]).unwrap();
        let w = Tensor::from_slice(&[1, 1, 1, 1], &[10f64]).unwrap();
        // Half an element down, then a quarter to the right, then far outside, then nothing.
        let down = [0.5, 0.0, 9.0, 0.0];
        let right = [0.0, 0.25, 0.0, 0.0];
        let offsets = Tensor::from_slice(&[1, 2, 2, 2], &[down, right].concat()).unwrap();
        let mask = Tensor::from_slice(&[1, 1, 2, 2], &[1f64, 1.0, 1.0, 0.5]).unwrap();
        let bias = Tensor::from_slice(&[1], &[1f64]).unwrap();
        let op = DeformConv { conv: Conv { window: Window::default(), groups: 1 }, offset_groups: 1 };
        let inputs = [&x, &w, &offsets, &bias, &mask].map(|tensor| Some(tensor.view()));
        let y = op.reference(&inputs, 1).unwrap().remove(0);
        // Right of the last column there are zeros.
        assert_eq!(y.to_vec::<f64>().unwrap(), [21.0, 16.0, 1.0, 21.0]);
        let wrong = [&x, &w, &mask].map(|tensor| Some(tensor.view()));
        assert!(op.reference(&wrong, 1).is_err());
    }
}
