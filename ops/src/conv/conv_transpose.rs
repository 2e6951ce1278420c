//! [ConvTranspose](https://onnx.ai/onnx/operators/onnx__ConvTranspose.html): the gradient of a convolution with respect
//! to its input, used to enlarge.

use std::sync::Arc;

use sardonyx_shaders::Capabilities;

use super::conv::{agree, groups, kernel, operands, spatial_rank};
use super::gpu;
use super::reference;
use super::transpose_cpu::TransposeKernel;
use super::window::{Padding, Sizes, Window, numbers, three};
use crate::build::NodeSpec;
use crate::dispatch::Lowering;
use crate::error::OpError;
use crate::ir::dim::{Dim, DimError};
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::operator::{Cost, CpuKernel, Operator, Role};
use crate::problem::Problem;

/// Input (N, C, D...), weights (C, M / groups, k...), and optionally a bias (M); output (N, M, D'...), where along each
/// axis `D' = stride · (D - 1) + output_padding + (k - 1) · dilation + 1 - pads`, or `D'` is given and the pads follow.
#[derive(Clone, PartialEq, Debug)]
pub struct ConvTranspose {
    /// The window. Strides are those of the output.
    pub window: Window,
    /// Groups of channels.
    pub groups: usize,
    /// Elements added at the end of each output axis; none when empty.
    pub output_padding: Vec<usize>,
    /// Output extents, which then determine the padding.
    pub output_shape: Option<Vec<usize>>,
}

/// Builds ConvTranspose.
///
/// # Errors
/// When there are not two or three inputs, or an attribute is out of range.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(2, 3, "2 or 3")?;
    const NATURAL: &str = "a list of integers from 0 to 2^31";
    Ok(Arc::new(ConvTranspose {
        window: Window::read(spec.attributes)?,
        groups: groups(spec)?,
        output_padding: numbers(spec.attributes, "output_padding", 0, NATURAL)?.unwrap_or_default(),
        output_shape: numbers(spec.attributes, "output_shape", 0, NATURAL)?.filter(|shape| !shape.is_empty()),
    }))
}

impl ConvTranspose {
    /// The output's extent along an axis, where it is given.
    fn stated(&self, axis: usize, rank: usize) -> Option<usize> {
        let shape = self.output_shape.as_ref()?;
        // Some exporters give batch and channels too.
        shape.get(shape.len().checked_sub(rank)? + axis).copied()
    }

    /// The output's extent along an axis before anything is cut off: `stride · (input - 1) + rest`.
    fn natural(&self, axis: usize, input: &Dim, kernel: usize) -> Result<Dim, DimError> {
        let added = self.output_padding.get(axis).copied().unwrap_or(0);
        let rest = self.window.span(axis, kernel)?.checked_add(added).ok_or(DimError)?;
        let stride = self.window.stride(axis);
        let offset = i64::try_from(rest).ok().zip(i64::try_from(stride).ok()).ok_or(DimError)?;
        input.scale(stride)?.offset(offset.0 - offset.1)
    }

    fn extent(&self, axis: usize, rank: usize, input: &Dim, kernel: usize) -> Result<Dim, DimError> {
        if let Some(stated) = self.stated(axis, rank) {
            return Ok(Dim::Known(stated));
        }
        if matches!(self.window.padding, Padding::SameUpper | Padding::SameLower) {
            return input.scale(self.window.stride(axis));
        }
        let (before, after) = self.window.pads(axis, rank);
        let pads = i64::try_from(before + after).map_err(|_| DimError)?;
        self.natural(axis, input, kernel)?.offset(-pads)
    }

    /// What is cut off before an axis of known sizes. Where the output is larger than all that windows reach, nothing
    /// is, and the rest of it holds the bias alone.
    fn before(
        &self,
        axis: usize,
        rank: usize,
        input: usize,
        kernel: usize,
        output: usize,
    ) -> Result<usize, DimError> {
        let same = matches!(self.window.padding, Padding::SameUpper | Padding::SameLower);
        if !same && self.output_shape.is_none() {
            return Ok(self.window.pads(axis, rank).0);
        }
        let natural = self.natural(axis, &Dim::Known(input), kernel)?.known().unwrap_or(0);
        let total = natural.saturating_sub(output);
        // Only SAME_UPPER puts an odd one at the end.
        let upper = self.window.padding == Padding::SameUpper;
        Ok(if upper { total / 2 } else { total - total / 2 })
    }

    fn shape(&self, x: &[Dim], w: &[Dim], bias: Option<&[Dim]>) -> Result<Vec<Dim>, OpError> {
        let rank = spatial_rank(x.len(), w.len())?;
        self.window.check(rank)?;
        let lengths = |what, got: usize, expected: &[usize]| {
            let right = got == 0 || expected.contains(&got);
            if right { Ok(()) } else { Err(OpError::constraint(what, format!("{rank} numbers"), got)) }
        };
        lengths("output_padding", self.output_padding.len(), &[rank])?;
        lengths("output_shape", self.output_shape.as_ref().map_or(0, Vec::len), &[rank, rank + 2])?;
        agree("input channels of the weights", &x[1], &w[0])?;
        if x[1].known().is_some_and(|inputs| inputs % self.groups != 0) {
            return Err(OpError::constraint(
                "input channels",
                format!("a multiple of {}", self.groups),
                &x[1],
            ));
        }
        let outputs = w[1].scale(self.groups)?;
        if let Some(bias) = bias {
            let [size] = bias else { return Err(OpError::constraint("rank of the bias", 1, bias.len())) };
            agree("size of the bias", &outputs, size)?;
        }
        let mut shape = vec![x[0].clone(), outputs];
        for (axis, kernel) in kernel(&self.window, w)?.into_iter().enumerate() {
            shape.push(match kernel {
                Some(kernel) => self.extent(axis, rank, &x[axis + 2], kernel)?,
                None => Dim::named(&format!("ConvTranspose.axis{axis}")),
            });
        }
        Ok(shape)
    }

    fn sizes(&self, x: &[usize], w: &[usize], bias: Option<&[usize]>) -> Result<Sizes, OpError> {
        let known = |dims: &[usize]| crate::ir::dim::from_known(dims);
        let bias = bias.map(known);
        let shape = self.shape(&known(x), &known(w), bias.as_deref())?;
        let output: Vec<usize> = shape.iter().filter_map(Dim::known).collect();
        let rank = x.len() - 2;
        let mut before = Vec::new();
        for axis in 0..rank {
            before.push(self.before(axis, rank, x[axis + 2], w[axis + 2], output[axis + 2])?);
        }
        let sizes = Sizes {
            batch: x[0],
            groups: self.groups,
            inputs: x[1] / self.groups,
            outputs: w[1],
            input: three(x[2..].iter().copied(), 1),
            kernel: three(w[2..].iter().copied(), 1),
            output: three(output[2..].iter().copied(), 1),
            strides: three((0..rank).map(|axis| self.window.stride(axis)), 1),
            dilations: three((0..rank).map(|axis| self.window.dilation(axis)), 1),
            before: three(before.into_iter(), 0),
        };
        if sizes.fits() { Ok(sizes) } else { Err(OpError::Size) }
    }

    fn problem_sizes(&self, problem: &Problem<'_>) -> Option<Sizes> {
        let (x, w) = (problem.input(0)?, problem.input(1)?);
        self.sizes(x.dims, w.dims, problem.input(2).map(|bias| bias.dims)).ok()
    }
}

impl Operator for ConvTranspose {
    fn name(&self) -> &'static str {
        "ConvTranspose"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let (x, w, bias) = operands(inputs)?;
        let shape = match (&x.shape, &w.shape) {
            (Some(x), Some(w)) => Some(self.shape(x, w, bias.and_then(|bias| bias.shape.as_deref()))?),
            _ => None,
        };
        Ok(vec![Fact { dtype: x.dtype, shape, value: None, sizes: None }])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let (x, w, bias) = reference::operands(inputs)?;
        let sizes = self.sizes(x.dims, w.dims, bias.map(|bias| bias.dims))?;
        let rank = x.dims.len() - 2;
        let dims = [&[sizes.batch, sizes.groups * sizes.outputs], &sizes.output[3 - rank..]].concat();
        Ok(vec![reference::convolve(&sizes, true, [x, w], bias, &dims)?])
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        let Some(sizes) = self.problem_sizes(problem) else { return Ok(None) };
        TransposeKernel::prepare(problem, sizes)
    }

    fn lower(&self, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
        match self.problem_sizes(problem) {
            Some(sizes) => gpu::lower(problem, caps, &sizes, true),
            None => Lowering::refused("ConvTranspose", "its sizes do not fit together"),
        }
    }

    fn role(&self) -> Role {
        Role::Anchor
    }

    fn cost(&self, problem: &Problem<'_>) -> Cost {
        let flops = self.problem_sizes(problem).map_or(0, |sizes| sizes.flops(true));
        problem.cost_with(flops)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::check::{agrees, random};
    use crate::ir::dtype::DType;

    fn transpose(groups: usize, strides: &[usize], pads: &[usize]) -> ConvTranspose {
        let padding = Padding::Explicit(pads.to_vec());
        let window = Window { strides: strides.to_vec(), padding, ..Window::default() };
        ConvTranspose { window, groups, output_padding: Vec::new(), output_shape: None }
    }

    fn run(op: &ConvTranspose, x: &Tensor, w: &Tensor) -> (Vec<usize>, Vec<f32>) {
        let y = op.reference(&[Some(x.view()), Some(w.view())], 1).unwrap().remove(0);
        (y.dims().to_vec(), y.to_vec().unwrap())
    }

    #[test]
    fn literal_convolutions() {
        let x = Tensor::from_slice(&[1, 1, 3], &[1.0f32, 2.0, 3.0]).unwrap();
        let w = Tensor::from_slice(&[1, 1, 2], &[1.0f32, 10.0]).unwrap();
        let (dims, values) = run(&transpose(1, &[], &[]), &x, &w);
        assert_eq!((dims.as_slice(), values), ([1, 1, 4].as_slice(), vec![1.0, 12.0, 23.0, 30.0]));
        let (_, values) = run(&transpose(1, &[3], &[]), &x, &w);
        assert_eq!(values, [1.0, 10.0, 0.0, 2.0, 20.0, 0.0, 3.0, 30.0]);
        let (_, values) = run(&transpose(1, &[3], &[1, 2]), &x, &w);
        assert_eq!(values, [10.0, 0.0, 2.0, 20.0, 0.0]);
        let padded = ConvTranspose { output_padding: vec![1], ..transpose(1, &[3], &[1, 1]) };
        assert_eq!(run(&padded, &x, &w).1, [10.0, 0.0, 2.0, 20.0, 0.0, 3.0, 30.0]);
        // Larger than what windows reach: the rest is empty. Smaller: an odd element goes from the beginning.
        let larger = ConvTranspose { output_shape: Some(vec![9]), ..transpose(1, &[3], &[]) };
        assert_eq!(run(&larger, &x, &w).1, [1.0, 10.0, 0.0, 2.0, 20.0, 0.0, 3.0, 30.0, 0.0]);
        let smaller = ConvTranspose { output_shape: Some(vec![1, 1, 5]), ..transpose(1, &[3], &[]) };
        assert_eq!(run(&smaller, &x, &w).1, [0.0, 2.0, 20.0, 0.0, 3.0]);
        let mut same = transpose(1, &[3], &[]);
        same.window.padding = Padding::SameUpper;
        assert_eq!(run(&same, &x, &w).1.len(), 9);
    }

    #[test]
    fn groups_keep_channels_apart() {
        let x = Tensor::from_slice(&[1, 4, 1], &[1.0f32, 2.0, 3.0, 4.0]).unwrap();
        let w = Tensor::from_slice(&[4, 2, 1], &[1.0f32, 10.0, 1.0, 10.0, 1.0, 10.0, 1.0, 10.0]).unwrap();
        let (dims, values) = run(&transpose(2, &[], &[]), &x, &w);
        assert_eq!((dims.as_slice(), values), ([1, 4, 1].as_slice(), vec![3.0, 30.0, 7.0, 70.0]));
    }

    #[test]
    fn shapes_keep_names() {
        let x = Fact::new(DType::F32, vec![Dim::Known(1), Dim::Known(4), Dim::named("h"), Dim::Known(7)]);
        let w = Fact::known(DType::F32, &[4, 3, 4, 4]);
        let y = transpose(2, &[2, 2], &[1, 1, 1, 1]).infer(&[Some(&x), Some(&w)], 1).unwrap().remove(0);
        let text: Vec<String> = y.shape.unwrap().iter().map(Dim::to_string).collect();
        assert_eq!(text, ["1", "6", "2*h", "14"]);
        let wrong = Fact::known(DType::F32, &[5, 3, 4, 4]);
        assert!(transpose(1, &[], &[]).infer(&[Some(&x), Some(&wrong)], 1).is_err());
    }

    #[test]
    fn the_cpu_kernel_agrees_with_the_reference() {
        let mut same = transpose(1, &[2, 3], &[]);
        same.window.padding = Padding::SameLower;
        let mut dilated = transpose(1, &[1, 2], &[3, 1, 0, 2]);
        dilated.window.dilations = vec![2, 3];
        let cases: [(ConvTranspose, &[usize], &[usize]); 7] = [
            (transpose(1, &[2, 2], &[]), &[2, 17, 7, 9], &[17, 5, 2, 2]),
            (transpose(1, &[2, 2], &[1, 1, 1, 1]), &[1, 3, 17, 33], &[3, 9, 4, 4]),
            (transpose(3, &[2, 1], &[1, 0, 0, 1]), &[2, 6, 5, 7], &[6, 2, 3, 3]),
            (same, &[1, 3, 6, 5], &[3, 4, 3, 4]),
            (dilated, &[1, 3, 9, 8], &[3, 2, 3, 2]),
            (transpose(2, &[3], &[1, 2]), &[2, 4, 65], &[4, 3, 5]),
            (transpose(1, &[2, 1, 2], &[0, 1, 1, 1, 0, 1]), &[1, 2, 3, 4, 5], &[2, 3, 3, 2, 3]),
        ];
        for (op, x, w) in cases {
            let bias = random(&[w[1] * op.groups], 3);
            let inputs = [Some(random(x, 1)), Some(random(w, 2)), Some(bias)];
            agrees(&op, &inputs, &[1, 2], 1e-5);
            agrees(&op, &[inputs[0].clone(), inputs[1].clone(), None], &[], 1e-5);
        }
    }
}
