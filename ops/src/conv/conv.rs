//! [Conv](https://onnx.ai/onnx/operators/onnx__Conv.html): convolution over one to three spatial axes.

use std::sync::Arc;

use sardonyx_shaders::Capabilities;

use super::reference;
use super::window::{Sizes, Window, three};
use super::{blocked, cpu, gpu};
use crate::build::NodeSpec;
use crate::dispatch::Lowering;
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::layout::Blocking;
use crate::operator::{Cost, CpuKernel, Operator, Role, Summed};
use crate::problem::Problem;

/// Input (N, C, D...), weights (M, C / groups, k...), and optionally a bias (M); output (N, M, D'...).
#[derive(Clone, PartialEq, Debug)]
pub struct Conv {
    /// The window.
    pub window: Window,
    /// Groups of channels, each convolved by itself.
    pub groups: usize,
}

/// Builds Conv.
///
/// # Errors
/// When there are not two or three inputs, or an attribute is out of range.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(2, 3, "2 or 3")?;
    Ok(Arc::new(Conv::read(spec)?))
}

/// Reads `group`.
pub(super) fn groups(spec: &NodeSpec<'_>) -> Result<usize, OpError> {
    let groups = i32::try_from(spec.attributes.int_or("group", 1)?).ok().filter(|&groups| groups >= 1);
    groups
        .and_then(|groups| usize::try_from(groups).ok())
        .ok_or(OpError::Attribute { name: "group", expected: "a positive integer below 2^31" })
}

/// The input, the weights, and the bias if there is one; their types checked.
pub(super) fn operands<'a>(
    inputs: &[Option<&'a Fact>],
) -> Result<(&'a Fact, &'a Fact, Option<&'a Fact>), OpError> {
    let [Some(x), Some(w), rest @ ..] = inputs else {
        return Err(OpError::Arity { what: "inputs", expected: "2 or 3", got: inputs.len() });
    };
    let bias = rest.first().copied().flatten();
    for (input, fact) in [Some(*x), Some(*w), bias].into_iter().enumerate() {
        let Some(fact) = fact else { continue };
        if !matches!(fact.dtype, DType::F32 | DType::F16 | DType::BF16 | DType::F64) {
            return Err(OpError::Type { input, expected: "a float", got: fact.dtype });
        }
        if fact.dtype != x.dtype {
            return Err(OpError::Type { input, expected: "the type of input 0", got: fact.dtype });
        }
    }
    Ok((x, w, bias))
}

/// Checks that there are one to three spatial axes behind the channels of input and weights.
pub(super) fn spatial_rank(x: usize, w: usize) -> Result<usize, OpError> {
    if x != w {
        return Err(OpError::constraint("rank of the weights", x, w));
    }
    match x {
        3..=5 => Ok(x - 2),
        0..=2 => Err(OpError::constraint("rank of the input", "3 to 5", x)),
        _ => Err(OpError::unsupported(format!("a convolution over {} axes", x - 2))),
    }
}

/// Checks a size against what it must be, when both are known.
pub(super) fn agree(what: &'static str, expected: &Dim, got: &Dim) -> Result<(), OpError> {
    match (expected.known(), got.known()) {
        (Some(expected), Some(got)) if expected != got => Err(OpError::constraint(what, expected, got)),
        _ => Ok(()),
    }
}

/// The window's extents: the attribute, else the weights' last dimensions, where known.
pub(super) fn kernel(window: &Window, weights: &[Dim]) -> Result<Vec<Option<usize>>, OpError> {
    let own = weights.get(2..).unwrap_or(&[]);
    let mut all = Vec::new();
    for (axis, dim) in own.iter().enumerate() {
        let stated = window.kernel.as_ref().and_then(|kernel| kernel.get(axis).copied());
        if let Some(stated) = stated {
            agree("kernel_shape", dim, &Dim::Known(stated))?;
        }
        let extent = dim.known().or(stated);
        if extent == Some(0) {
            return Err(OpError::constraint("extent of the window", "1 or more", 0));
        }
        all.push(extent);
    }
    Ok(all)
}

impl Conv {
    /// Reads the attributes.
    pub(crate) fn read(spec: &NodeSpec<'_>) -> Result<Conv, OpError> {
        Ok(Conv { window: Window::read(spec.attributes)?, groups: groups(spec)? })
    }

    /// The shape of the output.
    pub(crate) fn shape(&self, x: &[Dim], w: &[Dim], bias: Option<&[Dim]>) -> Result<Vec<Dim>, OpError> {
        let rank = spatial_rank(x.len(), w.len())?;
        self.window.check(rank)?;
        agree("input channels", &w[1].scale(self.groups)?, &x[1])?;
        if w[0].known().is_some_and(|outputs| outputs % self.groups != 0) {
            return Err(OpError::constraint(
                "output channels",
                format!("a multiple of {}", self.groups),
                &w[0],
            ));
        }
        if let Some(bias) = bias {
            let [size] = bias else { return Err(OpError::constraint("rank of the bias", 1, bias.len())) };
            agree("size of the bias", &w[0], size)?;
        }
        let mut shape = vec![x[0].clone(), w[0].clone()];
        for (axis, kernel) in kernel(&self.window, w)?.into_iter().enumerate() {
            shape.push(match kernel {
                Some(kernel) => self.window.output(axis, rank, &x[axis + 2], kernel)?,
                None => Dim::named(&format!("Conv.axis{axis}")),
            });
        }
        Ok(shape)
    }

    /// The sizes of a convolution over operands of these dimensions.
    pub(crate) fn sizes(&self, x: &[usize], w: &[usize], bias: Option<&[usize]>) -> Result<Sizes, OpError> {
        let known = |dims: &[usize]| crate::ir::dim::from_known(dims);
        let bias = bias.map(known);
        let shape = self.shape(&known(x), &known(w), bias.as_deref())?;
        let output: Vec<usize> = shape.iter().filter_map(Dim::known).collect();
        let rank = x.len() - 2;
        let mut before = Vec::new();
        for axis in 0..rank {
            before.push(self.window.before(axis, rank, x[axis + 2], w[axis + 2], output[axis + 2])?);
        }
        let sizes = Sizes {
            batch: x[0],
            groups: self.groups,
            inputs: w[1],
            outputs: w[0] / self.groups,
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

impl Operator for Conv {
    fn name(&self) -> &'static str {
        "Conv"
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
        Ok(vec![reference::convolve(&sizes, false, [x, w], bias, &dims)?])
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        let Some(sizes) = self.problem_sizes(problem) else { return Ok(None) };
        cpu::prepare(problem, sizes)
    }

    fn lower(&self, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
        match self.problem_sizes(problem) {
            Some(sizes) => gpu::lower(problem, caps, &sizes, false),
            None => Lowering::refused("Conv", "its sizes do not fit together"),
        }
    }

    fn role(&self) -> Role {
        Role::Anchor
    }

    fn blocked(&self, problem: &Problem<'_>, block: usize, blocked: &[bool]) -> Option<Blocking> {
        blocked::blocking(self, self.problem_sizes(problem)?, problem, block, blocked)
    }

    fn summed(&self, problem: &Problem<'_>) -> Option<Summed> {
        let sizes = self.problem_sizes(problem)?;
        let (blocks, len) = (sizes.groups * sizes.outputs, sizes.inputs * sizes.window());
        Some(Summed { input: 1, blocks, len, lines: 1 })
    }

    fn cost(&self, problem: &Problem<'_>) -> Cost {
        let flops = self.problem_sizes(problem).map_or(0, |sizes| sizes.flops(false));
        problem.cost_with(flops)
    }
}

#[cfg(test)]
mod tests {
    use super::super::window::Padding;
    use super::*;
    use crate::cpu::check::{agrees, narrowed, random};

    fn conv(groups: usize, strides: &[usize], dilations: &[usize], padding: Padding) -> Conv {
        let window =
            Window { kernel: None, strides: strides.to_vec(), dilations: dilations.to_vec(), padding };
        Conv { window, groups }
    }

    fn pads(pads: &[usize]) -> Padding {
        Padding::Explicit(pads.to_vec())
    }

    #[test]
    fn literal_convolutions() {
        let x = Tensor::from_vec(&[1, 1, 3, 3], (1u8..=9).map(f32::from).collect()).unwrap();
        let w = Tensor::from_slice(&[1, 1, 2, 2], &[1.0f32, 0.0, 0.0, -1.0]).unwrap();
        let bias = Tensor::from_slice(&[1], &[0.5f32]).unwrap();
        let run = |conv: Conv, bias: Option<&Tensor>| {
            let inputs = [Some(x.view()), Some(w.view()), bias.map(Tensor::view)];
            conv.reference(&inputs, 1).unwrap().remove(0)
        };
        let plain = run(conv(1, &[], &[], pads(&[])), Some(&bias));
        assert_eq!((plain.dims(), plain.to_vec::<f32>().unwrap()), ([1, 1, 2, 2].as_slice(), vec![-3.5; 4]));
        let padded = run(conv(1, &[2, 2], &[], pads(&[1, 1, 0, 0])), None);
        assert_eq!(padded.to_vec::<f32>().unwrap(), [-1.0, -3.0, -7.0, -4.0]);
        let upper = run(conv(1, &[2, 2], &[], Padding::SameUpper), None);
        assert_eq!(upper.to_vec::<f32>().unwrap(), [-4.0, 3.0, 7.0, 9.0]);
        let lower = run(conv(1, &[2, 2], &[], Padding::SameLower), None);
        assert_eq!(lower.to_vec::<f32>().unwrap(), [-1.0, -3.0, -7.0, -4.0]);
    }

    #[test]
    fn groups_keep_channels_apart() {
        let x = Tensor::from_slice(&[1, 2, 2], &[1.0f32, 2.0, 10.0, 20.0]).unwrap();
        let w = Tensor::from_slice(&[4, 1, 1], &[1.0f32, 2.0, 3.0, 4.0]).unwrap();
        let y = conv(2, &[], &[], pads(&[])).reference(&[Some(x.view()), Some(w.view())], 1).unwrap();
        assert_eq!(y[0].dims(), [1, 4, 2]);
        assert_eq!(y[0].to_vec::<f32>().unwrap(), [1.0, 2.0, 2.0, 4.0, 30.0, 60.0, 40.0, 80.0]);
    }

    #[test]
    fn shapes_keep_names_and_refuse_misfits() {
        let x = Fact::new(DType::F32, vec![Dim::named("n"), Dim::Known(3), Dim::named("h"), Dim::Known(224)]);
        let w = Fact::known(DType::F32, &[16, 3, 3, 3]);
        let op = conv(1, &[2, 2], &[], pads(&[1, 1, 1, 1]));
        let y = op.infer(&[Some(&x), Some(&w)], 1).unwrap().remove(0);
        let text: Vec<String> = y.shape.unwrap().iter().map(Dim::to_string).collect();
        assert_eq!(text, ["n", "16", "floor((h-1)/2)+1", "112"]);
        for dims in [&[16, 4, 3, 3][..], &[16, 3, 3], &[16, 3, 0, 3]] {
            let w = Fact::known(DType::F32, dims);
            assert!(op.infer(&[Some(&x), Some(&w)], 1).is_err(), "{dims:?}");
        }
        let bias = Fact::known(DType::F32, &[15]);
        assert!(op.infer(&[Some(&x), Some(&w), Some(&bias)], 1).is_err());
        assert!(conv(5, &[], &[], pads(&[])).infer(&[Some(&x), Some(&w)], 1).is_err());
    }

    fn check(op: &Conv, x: &[usize], w: &[usize]) {
        let inputs = [Some(random(x, 7)), Some(random(w, 8)), Some(random(&w[..1], 9))];
        // Sums of a thousand products in f32.
        agrees(op, &inputs, &[1, 2], 3e-5);
        agrees(op, &[inputs[0].clone(), inputs[1].clone(), None], &[], 3e-5);
    }

    #[test]
    fn the_cpu_kernel_agrees_on_images() {
        let cases: [(&Conv, &[usize], &[usize]); 9] = [
            (&conv(1, &[], &[], pads(&[])), &[2, 17, 9, 11], &[5, 17, 1, 1]),
            (&conv(1, &[], &[], pads(&[1, 1, 1, 1])), &[1, 3, 17, 65], &[8, 3, 3, 3]),
            (&conv(1, &[2, 2], &[], pads(&[1, 0, 2, 1])), &[2, 5, 17, 13], &[7, 5, 3, 2]),
            (&conv(1, &[1, 3], &[2, 1], pads(&[0, 4, 1, 5])), &[1, 4, 9, 31], &[3, 4, 3, 5]),
            (&conv(1, &[2, 2], &[], Padding::SameUpper), &[1, 3, 65, 64], &[4, 3, 3, 3]),
            (&conv(1, &[2, 3], &[], Padding::SameLower), &[1, 3, 17, 17], &[4, 3, 4, 4]),
            (&conv(3, &[], &[1, 2], Padding::Valid), &[2, 6, 8, 9], &[9, 2, 3, 3]),
            (&conv(1, &[], &[], pads(&[3, 3, 3, 3])), &[1, 2, 1, 1], &[3, 2, 7, 7]),
            (&conv(1, &[2, 2], &[], pads(&[])), &[1, 40, 7, 7], &[64, 40, 1, 1]),
        ];
        for (op, x, w) in cases {
            check(op, x, w);
        }
        // Large enough for several tiles on each thread.
        check(&conv(1, &[], &[], pads(&[1, 1, 1, 1])), &[1, 32, 65, 63], &[16, 32, 3, 3]);
        check(&conv(1, &[], &[], pads(&[1, 1, 1, 1])), &[1, 127, 7, 7], &[129, 127, 3, 3]);
    }

    #[test]
    fn the_cpu_kernel_agrees_on_lines_and_volumes() {
        check(&conv(1, &[], &[3], pads(&[6, 6])), &[2, 3, 65], &[5, 3, 5]);
        check(&conv(1, &[4], &[], pads(&[1, 2])), &[1, 1, 127], &[3, 1, 10]);
        check(
            &conv(2, &[2, 1, 2], &[1, 2, 1], pads(&[1, 2, 0, 1, 1, 1])),
            &[2, 4, 5, 7, 9],
            &[6, 2, 3, 2, 3],
        );
    }

    #[test]
    fn the_depthwise_kernel_agrees() {
        let cases: [(&Conv, &[usize], &[usize]); 8] = [
            (&conv(17, &[], &[], pads(&[1, 1, 1, 1])), &[2, 17, 7, 7], &[17, 1, 3, 3]),
            (&conv(3, &[], &[], pads(&[1, 1, 1, 1])), &[1, 3, 113, 112], &[3, 1, 3, 3]),
            (&conv(5, &[2, 2], &[], pads(&[1, 1, 1, 1])), &[1, 5, 65, 63], &[5, 1, 3, 3]),
            (&conv(5, &[2, 3], &[2, 3], pads(&[2, 1, 0, 3])), &[1, 5, 33, 41], &[10, 1, 5, 5]),
            (&conv(4, &[2, 2], &[], Padding::SameUpper), &[1, 4, 14, 14], &[4, 1, 5, 5]),
            (&conv(4, &[], &[], pads(&[5, 5])), &[3, 4, 17], &[12, 1, 3]),
            (&conv(2, &[3, 1], &[], pads(&[0, 0, 0, 0])), &[1, 2, 9, 300], &[2, 1, 1, 2]),
            (&conv(2, &[], &[], pads(&[1, 1, 1, 1, 1, 1])), &[1, 2, 3, 4, 5], &[4, 1, 3, 3, 3]),
        ];
        for (op, x, w) in cases {
            check(op, x, w);
        }
    }

    #[test]
    fn narrow_floats_compute_wide() {
        for groups in [1, 4] {
            let op = conv(groups, &[], &[], pads(&[1, 1, 1, 1]));
            for (dtype, tolerance) in [(DType::F16, 2e-3), (DType::BF16, 1.6e-2)] {
                let inputs = [random(&[1, 4, 9, 9], 1), random(&[4, 4 / groups, 3, 3], 2), random(&[4], 3)];
                let inputs = inputs.map(|tensor| Some(narrowed(&tensor, dtype)));
                agrees(&op, &inputs, &[1], tolerance);
            }
        }
    }
}
