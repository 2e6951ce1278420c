//! [`GatherElements`](https://onnx.ai/onnx/operators/onnx__GatherElements.html): single elements along an axis, picked
//! by an index each.

use std::sync::Arc;

use sardonyx_shaders::storage::Width;
use sardonyx_shaders::{Capabilities, Kernel, params, table};

use super::assemble::{by_size, coordinates, elements, elements_mut, row_major, select};
use super::gather::{check_constant, wrap};
use super::sizes::{self, required, view};
use crate::build::NodeSpec;
use crate::dispatch::{Binding, Candidate, Dispatch, Lowering, Refusal, linear_grid, word};
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::operator::{CpuKernel, CpuRun, Operator, Role};
use crate::problem::Problem;

/// `GatherElements` along an axis.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GatherElements {
    /// The axis; negative counts from the back.
    pub axis: i64,
}

/// Builds [`GatherElements`].
///
/// # Errors
/// When there are not two inputs.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(2, 2, "2")?;
    Ok(Arc::new(GatherElements { axis: spec.attributes.int_or("axis", 0)? }))
}

/// Checks that indices lie within the data along all other axes, and gives the axis.
///
/// # Errors
/// When they do not.
pub(super) fn along(axis: i64, data: &[usize], indices: &[usize]) -> Result<usize, OpError> {
    let axis = sizes::axis(axis, data.len())?;
    let fits = data.len() == indices.len()
        && data.iter().zip(indices).enumerate().all(|(at, (data, own))| at == axis || own <= data);
    if !fits {
        let expected = format!("within {data:?} except along axis {axis}");
        return Err(OpError::constraint("dimensions of the indices", expected, format!("{indices:?}")));
    }
    Ok(axis)
}

/// Where the line of index element `i` begins in the data: its element with coordinate 0 along `axis`.
fn line(i: usize, indices: &[usize], strides: &[usize], axis: usize) -> usize {
    let at = coordinates(i, indices);
    at.iter()
        .zip(strides)
        .enumerate()
        .filter(|(own, _)| *own != axis)
        .map(|(_, (c, stride))| c * stride)
        .sum()
}

/// The data element that each index stands for; `at` are the indices, counted from the front.
pub(super) fn elements_at(data: &[usize], indices: &[usize], axis: usize, at: &[usize]) -> Vec<usize> {
    let strides = row_major(data);
    let row = indices.last().copied().unwrap_or(1).max(1);
    // Along a row only the last coordinate changes.
    let step = usize::from(axis + 1 != indices.len());
    let mut all = Vec::with_capacity(at.len());
    for (index, at) in at.chunks(row).enumerate() {
        let base = line(index * row, indices, &strides, axis);
        all.extend(at.iter().enumerate().map(|(j, &at)| base + j * step + at * strides[axis]));
    }
    all
}

impl Operator for GatherElements {
    fn name(&self) -> &'static str {
        "GatherElements"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let (x, indices) = (required(inputs, 0)?, required(inputs, 1)?);
        sizes::expect_indices(indices.dtype, 1)?;
        if let (Some(data), Some(own)) = (x.dims(), indices.dims()) {
            along(self.axis, &data, &own)?;
        }
        let rank = x.rank().or(indices.rank());
        let shape = indices
            .shape
            .clone()
            .or_else(|| Some((0..rank?).map(|axis| Dim::named(&format!("GatherElements.{axis}"))).collect()));
        Ok(vec![Fact { dtype: x.dtype, shape, value: None, sizes: None }])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let (x, indices) = (view(inputs, 0)?, view(inputs, 1)?);
        let axis = along(self.axis, x.dims, indices.dims)?;
        let (at, strides) = (wrap(&indices, 1, x.dims[axis])?, row_major(x.dims));
        let y = select(&x, indices.dims, None, |i| {
            Some(line(i, indices.dims, &strides, axis) + at[i] * strides[axis])
        })?;
        Ok(vec![y])
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        let bits = problem.input(0).map_or(0, |x| x.dtype.bits());
        Ok((bits >= 8).then(|| Box::new(GatherElementsKernel { op: *self }) as Box<dyn CpuKernel>))
    }

    fn lower(&self, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
        Lowering::from_result(self.candidate(problem, caps))
    }

    fn role(&self) -> Role {
        Role::Anchor
    }
}

struct GatherElementsKernel {
    op: GatherElements,
}

impl CpuKernel for GatherElementsKernel {
    fn run(&self, run: &mut CpuRun<'_, '_>) -> Result<(), OpError> {
        let (x, indices) = (view(run.inputs, 0)?, view(run.inputs, 1)?);
        let axis = along(self.op.axis, x.dims, indices.dims)?;
        let at = wrap(&indices, 1, x.dims[axis])?;
        let output = run.outputs.first_mut().ok_or(OpError::Internal("no output"))?;
        let from = elements_at(x.dims, indices.dims, axis, &at);
        by_size!(x.dtype.bits() / 8, pick(x.bytes, output.bytes, &from))
    }
}

fn pick<const N: usize>(x: &[u8], y: &mut [u8], from: &[usize]) -> Result<(), OpError> {
    let (x, y) = (elements::<N>(x), elements_mut::<N>(y));
    if y.len() != from.len() {
        return Err(OpError::Internal("an output of another size"));
    }
    for (slot, &from) in y.iter_mut().zip(from) {
        *slot = x[from];
    }
    Ok(())
}

impl GatherElements {
    fn candidate(self, problem: &Problem<'_>, caps: &Capabilities) -> Result<Candidate, Refusal> {
        let variant = &table::GATHER_ELEMENTS;
        let kernel = variant.name;
        let refuse = |reason: String| Refusal { kernel, reason };
        let (Some(x), Some(indices)) = (problem.input(0), problem.input(1)) else {
            return Err(refuse("an input is missing".to_owned()));
        };
        let axis = along(self.axis, x.dims, indices.dims).map_err(|error| refuse(error.to_string()))?;
        check_constant(kernel, problem, 1, x.dims[axis])?;
        let (from, at) = (problem.stored(kernel, Some(x))?, problem.stored(kernel, Some(indices))?);
        if indices.len().max(x.len()) > i32::MAX as usize {
            return Err(refuse("more than 2^31 elements".to_owned()));
        }
        let strides = row_major(x.dims);
        let mut params = params::movement::GatherElements {
            len: word(kernel, indices.len())?,
            rank: word(kernel, x.dims.len())?,
            extent: word(kernel, x.dims[axis])?,
            stride: word(kernel, strides[axis])?,
            ..Default::default()
        };
        if x.dims.len() > params.dims.len() {
            return Err(refuse("more than eight dimensions".to_owned()));
        }
        for (slot, own) in (0..x.dims.len()).rev().enumerate() {
            params.dims[slot] = word(kernel, indices.dims[own])?;
            params.strides[slot] = if own == axis { 0 } else { word(kernel, strides[own])? };
        }
        let ending = problem.ending(kernel, from.value(), Width::Four)?;
        let dispatch = Dispatch {
            kernel: Kernel {
                variant,
                inputs: vec![(from, Width::One), (at, Width::One)],
                knobs: Vec::new(),
                expression: ending.expression,
            },
            reads: [Binding::Input(0), Binding::Input(1)].into_iter().chain(ending.reads).collect(),
            writes: vec![Binding::Output(0)],
            params: bytemuck::bytes_of(&params).to_vec(),
            operands: ending.operands,
            grid: linear_grid(kernel, indices.len().div_ceil(4 * 64), caps)?,
        };
        Ok(Candidate { dispatches: vec![dispatch], ..Candidate::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_index_per_element() {
        let x = Tensor::from_slice(&[3, 3], &[1i32, 2, 3, 4, 5, 6, 7, 8, 9]).unwrap();
        let indices = Tensor::from_slice(&[2, 3], &[1i64, -1, 0, 2, 0, 0]).unwrap();
        let y = GatherElements { axis: 0 }.reference(&[Some(x.view()), Some(indices.view())], 1).unwrap();
        assert_eq!((y[0].dims(), y[0].to_vec::<i32>().unwrap()), (&[2, 3][..], vec![4, 8, 3, 7, 2, 3]));
        let y = GatherElements { axis: 1 }.reference(&[Some(x.view()), Some(indices.view())], 1).unwrap();
        assert_eq!(y[0].to_vec::<i32>().unwrap(), [2, 3, 1, 6, 4, 4]);
        let wrong = Tensor::from_slice(&[1, 1], &[3i64]).unwrap();
        assert!(GatherElements { axis: 1 }.reference(&[Some(x.view()), Some(wrong.view())], 1).is_err());
        let wide = Tensor::from_slice(&[1, 4], &[0i64; 4]).unwrap();
        assert!(GatherElements { axis: 0 }.reference(&[Some(x.view()), Some(wide.view())], 1).is_err());
    }
}
