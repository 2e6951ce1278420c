//! [`Gather`](https://onnx.ai/onnx/operators/onnx__Gather.html): slices along an axis, picked by index.

use std::sync::Arc;

use rayon::prelude::*;
use sardonyx_shaders::storage::Width;
use sardonyx_shaders::{Capabilities, Kernel, params, table};

use super::assemble::{by_size, elements, elements_mut, select};
use super::sizes::{self, required, view};
use super::strided::Strided;
use crate::build::NodeSpec;
use crate::dispatch::{Binding, Candidate, Dispatch, Lowering, Refusal, linear_grid, word};
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::fact::Fact;
use crate::ir::tensor::{Tensor, element_count};
use crate::ir::view::View;
use crate::operator::{CpuKernel, CpuRun, Operator, Role};
use crate::problem::Problem;

/// `Gather` along an axis.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gather {
    /// The axis; negative counts from the back.
    pub axis: i64,
}

/// Builds [`Gather`].
///
/// # Errors
/// When there are not two inputs.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(2, 2, "2")?;
    Ok(Arc::new(Gather { axis: spec.attributes.int_or("axis", 0)? }))
}

/// Indices counted from the front.
///
/// # Errors
/// When one is not in `-extent .. extent`, or they are not integers.
pub(super) fn wrap(indices: &View<'_>, input: usize, extent: usize) -> Result<Vec<usize>, OpError> {
    sizes::integers(indices, input)?.into_iter().map(|index| wrap_one(index, extent)).collect()
}

/// An index counted from the front.
///
/// # Errors
/// When it is not in `-extent .. extent`.
pub(super) fn wrap_one(index: i64, extent: usize) -> Result<usize, OpError> {
    let size = i64::try_from(extent).map_err(|_| OpError::Size)?;
    let wrapped = if index < 0 { index.saturating_add(size) } else { index };
    if !(0..size).contains(&wrapped) {
        return Err(OpError::constraint("index", format!("from -{extent} to {extent} exclusive"), index));
    }
    usize::try_from(wrapped).map_err(|_| OpError::Size)
}

/// Checks constant indices before a device, which only clamps them, reads by them.
pub(super) fn check_constant(
    kernel: &'static str,
    problem: &Problem<'_>,
    input: usize,
    extent: usize,
) -> Result<(), Refusal> {
    let Some(value) = problem.input(input).and_then(|operand| operand.value) else { return Ok(()) };
    wrap(&value.view(), input, extent)
        .map(drop)
        .map_err(|error| Refusal { kernel, reason: error.to_string() })
}

/// The input as `outer × extent × inner`, and the output's dimensions.
struct Blocks {
    dims: Vec<usize>,
    outer: usize,
    extent: usize,
    inner: usize,
}

impl Gather {
    fn blocks(self, x: &[usize], indices: &[usize]) -> Result<Blocks, OpError> {
        let axis = sizes::axis(self.axis, x.len())?;
        let dims = [&x[..axis], indices, &x[axis + 1..]].concat();
        element_count(&dims).ok_or(OpError::Size)?;
        Ok(Blocks {
            dims,
            outer: x[..axis].iter().product(),
            extent: x[axis],
            inner: x[axis + 1..].iter().product(),
        })
    }
}

impl Operator for Gather {
    fn name(&self) -> &'static str {
        "Gather"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let (x, indices) = (required(inputs, 0)?, required(inputs, 1)?);
        sizes::expect_indices(indices.dtype, 1)?;
        let (Some(dims), Some(at)) = (&x.shape, &indices.shape) else {
            return Ok(vec![Fact::unranked(x.dtype)]);
        };
        let axis = sizes::axis(self.axis, dims.len())?;
        let shape: Vec<Dim> = [&dims[..axis], at, &dims[axis + 1..]].concat();
        let contents = match (sizes::of(x), indices.integers(), dims.len()) {
            (Some(sizes), Some(indices), 1) => {
                let pick = |index| Ok(sizes[wrap_one(index, sizes.len())?].clone());
                Some(indices.into_iter().map(pick).collect::<Result<Vec<Dim>, OpError>>()?)
            }
            _ => None,
        };
        Ok(vec![sizes::carry(x.dtype, shape, contents)?])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let (x, indices) = (view(inputs, 0)?, view(inputs, 1)?);
        let Blocks { dims, extent, inner, .. } = self.blocks(x.dims, indices.dims)?;
        let at = wrap(&indices, 1, extent)?;
        let y = select(&x, &dims, None, |i| {
            let (block, within) = (i / inner, i % inner);
            Some((block / at.len() * extent + at[block % at.len()]) * inner + within)
        })?;
        Ok(vec![y])
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        let (Some(x), Some(indices)) = (problem.input(0), problem.input(1)) else { return Ok(None) };
        let single = self.blocks(x.dims, indices.dims)?.inner == 1;
        Ok((x.dtype.bits() >= 8).then(|| Box::new(GatherKernel { op: *self, single }) as Box<dyn CpuKernel>))
    }

    fn lower(&self, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
        Lowering::from_result(self.candidate(problem, caps))
    }

    /// One index is a slice.
    fn moves(&self, problem: &Problem<'_>, _output: usize) -> Option<Strided> {
        let (x, indices) = (problem.input(0)?, problem.input(1)?);
        let blocks = self.blocks(x.dims, indices.dims).ok()?;
        let [index] = wrap(&indices.value?.view(), 1, blocks.extent).ok()?.try_into().ok()?;
        let steps = [blocks.extent.checked_mul(blocks.inner)? as isize, 1];
        Strided::new(&[blocks.outer, blocks.inner], &steps, index * blocks.inner, x.len()).ok()
    }

    fn role(&self) -> Role {
        Role::Anchor
    }
}

struct GatherKernel {
    op: Gather,
    /// An index picks one element, not a slice.
    single: bool,
}

impl CpuKernel for GatherKernel {
    fn reads_elements(&self, index: usize) -> bool {
        index != 0 || self.single
    }

    fn run(&self, run: &mut CpuRun<'_, '_>) -> Result<(), OpError> {
        let (x, indices) = (view(run.inputs, 0)?, view(run.inputs, 1)?);
        let blocks = self.op.blocks(x.dims, indices.dims)?;
        let at = wrap(&indices, 1, blocks.extent)?;
        let output = run.outputs.first_mut().ok_or(OpError::Internal("no output"))?;
        let size = x.dtype.bits() / 8;
        let bytes = blocks.inner * size;
        if output.bytes.len() != blocks.outer * at.len() * bytes {
            return Err(OpError::Internal("an output of another size"));
        }
        if output.bytes.is_empty() {
            return Ok(());
        }
        if self.single {
            return by_size!(size, single(x.bytes, output.bytes, &at, blocks.extent));
        }
        let fill = |(block, y): (usize, &mut [u8])| {
            let from = (block / at.len() * blocks.extent + at[block % at.len()]) * bytes;
            y.copy_from_slice(&x.bytes[from..from + bytes]);
        };
        const PARALLEL: usize = 1 << 18;
        if output.bytes.len() < PARALLEL {
            output.bytes.chunks_mut(bytes).enumerate().for_each(fill);
        } else {
            output
                .bytes
                .par_chunks_mut(bytes)
                .enumerate()
                .with_min_len(1 + PARALLEL / 4 / bytes)
                .for_each(fill);
        }
        Ok(())
    }
}

/// Slices of one element.
fn single<const N: usize>(x: &[u8], y: &mut [u8], at: &[usize], extent: usize) -> Result<(), OpError> {
    let rows = elements_mut::<N>(y).chunks_mut(at.len()).zip(elements::<N>(x).chunks(extent.max(1)));
    for (y, x) in rows {
        for (slot, &at) in y.iter_mut().zip(at) {
            *slot = x[at];
        }
    }
    Ok(())
}

impl Gather {
    fn candidate(self, problem: &Problem<'_>, caps: &Capabilities) -> Result<Candidate, Refusal> {
        let variant = &table::GATHER;
        let kernel = variant.name;
        let refuse = |reason: String| Refusal { kernel, reason };
        let (Some(x), Some(indices)) = (problem.input(0), problem.input(1)) else {
            return Err(refuse("an input is missing".to_owned()));
        };
        let blocks = self.blocks(x.dims, indices.dims).map_err(|error| refuse(error.to_string()))?;
        check_constant(kernel, problem, 1, blocks.extent)?;
        let (from, at) = (problem.stored(kernel, Some(x))?, problem.stored(kernel, Some(indices))?);
        let len: usize = blocks.dims.iter().product();
        if len.max(x.len()) > i32::MAX as usize {
            return Err(refuse("more than 2^31 elements".to_owned()));
        }
        let ending = problem.ending(kernel, from.value(), Width::Four)?;
        let groups = blocks.inner.is_multiple_of(4);
        let params = params::movement::Gather {
            len: word(kernel, len)?,
            count: word(kernel, indices.len())?,
            extent: word(kernel, blocks.extent)?,
            inner: word(kernel, blocks.inner)?,
        };
        let width = if groups { Width::Four } else { Width::One };
        let dispatch = Dispatch {
            kernel: Kernel {
                variant,
                inputs: vec![(from, width), (at, Width::One)],
                knobs: vec![("FOUR", u32::from(groups))],
                expression: ending.expression,
            },
            reads: [Binding::Input(0), Binding::Input(1)].into_iter().chain(ending.reads).collect(),
            writes: vec![Binding::Output(0)],
            params: bytemuck::bytes_of(&params).to_vec(),
            operands: ending.operands,
            grid: linear_grid(kernel, len.div_ceil(4 * 64), caps)?,
        };
        Ok(Candidate { dispatches: vec![dispatch], ..Candidate::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;
    use crate::cpu::check::{random, run_cpu};

    #[test]
    fn rows_and_columns_by_index() {
        let x = Tensor::from_slice(&[3, 2], &[1.0f32, 1.2, 2.3, 3.4, 4.5, 5.7]).unwrap();
        let indices = Tensor::from_slice(&[2, 2], &[0i64, 1, -2, 2]).unwrap();
        let y = Gather { axis: 0 }.reference(&[Some(x.view()), Some(indices.view())], 1).unwrap();
        assert_eq!(y[0].dims(), [2, 2, 2]);
        assert_eq!(y[0].to_vec::<f32>().unwrap(), [1.0, 1.2, 2.3, 3.4, 2.3, 3.4, 4.5, 5.7]);
        let one = Tensor::scalar(-1i32);
        let y = Gather { axis: 1 }.reference(&[Some(x.view()), Some(one.view())], 1).unwrap();
        assert_eq!((y[0].dims(), y[0].to_vec::<f32>().unwrap()), (&[3][..], vec![1.2, 3.4, 5.7]));
        let wrong = Tensor::scalar(2i64);
        assert!(Gather { axis: 1 }.reference(&[Some(x.view()), Some(wrong.view())], 1).is_err());
        let least = Tensor::scalar(i64::MIN);
        assert!(Gather { axis: 1 }.reference(&[Some(x.view()), Some(least.view())], 1).is_err());
    }

    #[test]
    fn tables_are_read_where_they_lie() {
        let (table, indices) = (random(&[5, 3], 1), Tensor::from_slice(&[4], &[4i64, 0, -3, 2]).unwrap());
        for (axis, picks) in [(0, 4), (1, 2)] {
            let indices =
                Tensor::from_slice(&[picks], &indices.to_vec::<i64>().unwrap()[4 - picks..]).unwrap();
            let op = Gather { axis };
            let exact = op.reference(&[Some(table.view()), Some(indices.view())], 1).unwrap();
            let got = run_cpu(&op, &[Some(table.clone()), Some(indices)], &[0], None).unwrap();
            assert_eq!((got.dims(), got.bytes()), (exact[0].dims(), exact[0].bytes()));
        }
    }

    #[test]
    fn one_size_of_a_shape_is_a_scalar() {
        let sizes = Some(vec![Dim::named("n"), Dim::Known(3)]);
        let x = Fact { dtype: DType::I64, shape: Some(vec![Dim::Known(2)]), value: None, sizes };
        let index = |n: i64| Fact::constant(Tensor::scalar(n));
        let y = Gather { axis: 0 }.infer(&[Some(&x), Some(&index(0))], 1).unwrap();
        assert_eq!((y[0].rank(), y[0].sizes.as_ref().unwrap()), (Some(0), &vec![Dim::named("n")]));
        let y = Gather { axis: 0 }.infer(&[Some(&x), Some(&index(-1))], 1).unwrap();
        assert_eq!(y[0].integers().unwrap(), [3]);
        assert!(Gather { axis: 0 }.infer(&[Some(&x), Some(&index(2))], 1).is_err());
    }
}
