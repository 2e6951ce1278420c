//! Convolutions over values whose channels lie in blocks.

mod dense;
mod depthwise;
mod micro;
#[cfg(test)]
mod tests;
mod winograd;

use std::sync::Arc;

use dense::DenseKernel;
pub(crate) use dense::{Form, grid};
use depthwise::DepthwiseKernel;
pub(crate) use depthwise::grid as channel_grid;
pub(crate) use micro::BLOCKS;
use winograd::WinogradKernel;

use super::conv::Conv;
use super::window::Sizes;
use crate::cpu::scratch_floats;
use crate::cpu::tiles::{Grid, Tile, for_each_tile};
use crate::cpu::vector::{Isa, LANES};
use crate::error::OpError;
use crate::ir::dim::from_known;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::layout::{Blocking, Ending, Source};
use crate::movement::sizes::{required, view};
use crate::operator::{Cost, CpuKernel, CpuRun, Operator, Role};
use crate::problem::Problem;

/// A convolution with constant weights over values in blocks.
#[derive(Clone, Debug)]
struct BlockedConv {
    conv: Conv,
    weights: Tensor,
    bias: Option<Tensor>,
    /// Dimensions of the input when it is not in blocks.
    input: Vec<usize>,
    /// Dimensions of the output when it is not in blocks.
    output: Vec<usize>,
    form: Form,
    sizes: Sizes,
}

/// How a convolution works in blocks: where its channels fill them, or only those of one side.
pub(super) fn blocking(
    conv: &Conv,
    sizes: Sizes,
    problem: &Problem<'_>,
    block: usize,
    blocked: &[bool],
) -> Option<Blocking> {
    let (x, w, output) = (problem.input(0)?, problem.input(1)?, problem.outputs.first()?);
    let bias = match problem.input(2) {
        Some(bias) => Some(bias.value?.clone()),
        None => None,
    };
    let weights = w.value?.clone();
    let f32s = [Some(x.dtype), Some(w.dtype), bias.as_ref().map(Tensor::dtype)];
    if block != LANES || f32s.iter().flatten().any(|dtype| *dtype != DType::F32) || output.is_empty() {
        return None;
    }
    let form = Form::of(&sizes, x.dims, output.dims, blocked.first().copied().unwrap_or(false))?;
    let source = if form.input { Source::Blocked(0) } else { Source::Plain(0) };
    let op = BlockedConv {
        conv: conv.clone(),
        weights,
        bias,
        input: x.dims.to_vec(),
        output: output.dims.to_vec(),
        form,
        sizes,
    };
    Some(Blocking { op: Arc::new(op), inputs: vec![source], output: form.output })
}

impl Operator for BlockedConv {
    fn name(&self) -> &'static str {
        "Conv"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        Ok(vec![Fact::new(required(inputs, 0)?.dtype, from_known(&self.form.output_dims(&self.output)))])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let (weights, bias) = (self.weights.clone().aligned(), self.bias.clone().map(Tensor::aligned));
        self.form.reference([&self.input, &self.output], view(inputs, 0)?, |x| {
            self.conv.reference(&[Some(x), Some(weights.view()), bias.as_ref().map(Tensor::view)], 1)
        })
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        Ok(self.kernel(problem, Isa::detect()))
    }

    fn role(&self) -> Role {
        Role::Anchor
    }

    fn cost(&self, problem: &Problem<'_>) -> Cost {
        let base = problem.default_cost();
        let weights = (self.weights.len() * size_of::<f32>()) as u64;
        Cost {
            flops: base.flops.saturating_add(self.sizes.flops(false)),
            bytes: base.bytes.saturating_add(weights),
        }
    }
}

impl BlockedConv {
    fn kernel(&self, problem: &Problem<'_>, isa: Isa) -> Option<Box<dyn CpuKernel>> {
        let bias = self.bias.clone().map(Tensor::aligned);
        let bias = bias.as_ref().map(|bias| bias.view().slice::<f32>());
        let whole = self.form.input && self.form.output;
        if whole && winograd::pays(&self.sizes) {
            let kernel = WinogradKernel::new(self.sizes, isa, (&self.weights, bias), problem)?;
            return Some(Box::new(kernel));
        }
        if self.sizes.groups == 1 {
            let kernel = DenseKernel::new(self.sizes, self.form, isa, (&self.weights, bias), problem)?;
            return Some(Box::new(kernel));
        }
        let weights = self.weights.clone().aligned();
        let constants = (weights.view().slice::<f32>(), bias);
        Some(Box::new(DepthwiseKernel::new(self.sizes, isa, constants, Ending::of(problem))))
    }
}

/// Runs a kernel over blocks: `tile` gets the input, what the ending adds, a tile of the output, and a piece of the scratch
/// memory of `share` elements. What is no ending follows each tile.
fn run_tiles(
    run: &mut CpuRun<'_, '_>,
    ending: Option<Ending>,
    grid: &Grid,
    share: usize,
    tile: impl Fn(&[f32], Option<&[f32]>, &mut Tile<'_>, &mut [f32]) -> Result<(), OpError> + Sync,
) -> Result<(), OpError> {
    let added = ending.and_then(|ending| ending.operand(run));
    let (Some(Some(x)), Some(output)) = (run.inputs.first(), run.outputs.first_mut()) else {
        return Err(OpError::Internal("a missing operand"));
    };
    let (x, output) = (x.slice::<f32>(), output.slice::<f32>());
    if ending.is_some_and(|ending| ending.added.is_some()) && added.map(<[f32]>::len) != Some(output.len()) {
        return Err(OpError::Internal("an operand of another size"));
    }
    let scratch = (scratch_floats(run.scratch), share);
    let finish = if ending.is_some() { None } else { run.finish };
    for_each_tile(output, 0, grid, scratch, finish, |part, scratch| tile(x, added, part, scratch))
}
