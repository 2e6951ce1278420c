//! [`GatherND`](https://onnx.ai/onnx/operators/onnx__GatherND.html): slices picked by index tuples.

use std::sync::Arc;

use sardonyx_shaders::storage::Width;
use sardonyx_shaders::{Capabilities, Kernel, params, table};

use super::assemble::{row_major, select};
use super::gather::wrap_one;
use super::sizes::{self, required, view};
use crate::build::NodeSpec;
use crate::dispatch::{Binding, Candidate, Dispatch, Lowering, Refusal, linear_grid, word};
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::fact::Fact;
use crate::ir::tensor::{Tensor, element_count};
use crate::ir::view::View;
use crate::operator::{CpuKernel, CpuRun, Operator, Role};
use crate::problem::Problem;

/// `GatherND`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GatherNd {
    /// Leading dimensions that data and indices have in common.
    pub batch_dims: i64,
}

/// Builds [`GatherNd`].
///
/// # Errors
/// When there are not two inputs.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(2, 2, "2")?;
    Ok(Arc::new(GatherNd { batch_dims: spec.attributes.int_or("batch_dims", 0)? }))
}

/// Data and indices of known sizes.
struct Tuples {
    dims: Vec<usize>,
    /// Elements of a batch of the data.
    batch: usize,
    /// Index tuples to a batch.
    per_batch: usize,
    /// Extents that a tuple picks from, and their strides.
    extents: Vec<usize>,
    strides: Vec<usize>,
    /// Elements of a slice.
    inner: usize,
}

impl GatherNd {
    fn tuples(self, data: &[usize], indices: &[usize]) -> Result<Tuples, OpError> {
        let wrong = |expected: &'static str| {
            OpError::constraint("dimensions", expected, format!("data {data:?}, indices {indices:?}"))
        };
        let b = usize::try_from(self.batch_dims).map_err(|_| wrong("batch_dims of 0 or more"))?;
        let (&depth, outer) = indices.split_last().ok_or_else(|| wrong("indices of rank 1 or more"))?;
        if b > outer.len() || b > data.len() || outer[..b] != data[..b] || depth > data.len() - b {
            return Err(wrong("batches in common, and tuples no longer than the data's other dimensions"));
        }
        let dims = [outer, &data[b + depth..]].concat();
        element_count(&dims).ok_or(OpError::Size)?;
        Ok(Tuples {
            dims,
            batch: data[b..].iter().product(),
            per_batch: outer[b..].iter().product(),
            extents: data[b..b + depth].to_vec(),
            strides: row_major(data)[b..b + depth].to_vec(),
            inner: data[b + depth..].iter().product(),
        })
    }
}

impl Tuples {
    /// The first data element of each slice.
    fn starts(&self, indices: &View<'_>) -> Result<Vec<usize>, OpError> {
        let all = sizes::integers(indices, 1)?;
        let depth = self.extents.len();
        let count = self.dims_of_tuples(indices);
        (0..count)
            .map(|tuple| {
                let mut at = tuple / self.per_batch.max(1) * self.batch;
                for (j, (&extent, &stride)) in self.extents.iter().zip(&self.strides).enumerate() {
                    at += wrap_one(all[tuple * depth + j], extent)? * stride;
                }
                Ok(at)
            })
            .collect()
    }

    fn dims_of_tuples(&self, indices: &View<'_>) -> usize {
        indices.dims[..indices.dims.len() - 1].iter().product()
    }
}

impl Operator for GatherNd {
    fn name(&self) -> &'static str {
        "GatherND"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let (x, indices) = (required(inputs, 0)?, required(inputs, 1)?);
        if indices.dtype != crate::DType::I64 {
            return Err(OpError::Type { input: 1, expected: "i64", got: indices.dtype });
        }
        if let (Some(data), Some(own)) = (x.dims(), indices.dims()) {
            self.tuples(&data, &own)?;
        }
        let (Some(data), Some(own)) = (&x.shape, &indices.shape) else {
            return Ok(vec![Fact::unranked(x.dtype)]);
        };
        let b = usize::try_from(self.batch_dims).unwrap_or(0);
        let Some((Some(depth), outer)) = own.split_last().map(|(depth, outer)| (depth.known(), outer)) else {
            return Ok(vec![Fact::unranked(x.dtype)]);
        };
        let rest = b.checked_add(depth).and_then(|from| data.get(from..));
        let rest = rest
            .ok_or_else(|| OpError::constraint("index tuples", format!("{} at most", data.len()), depth))?;
        let shape: Vec<Dim> = [outer, rest].concat();
        Ok(vec![Fact::new(x.dtype, shape)])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let (x, indices) = (view(inputs, 0)?, view(inputs, 1)?);
        let tuples = self.tuples(x.dims, indices.dims)?;
        let starts = tuples.starts(&indices)?;
        let y = select(&x, &tuples.dims, None, |i| Some(starts[i / tuples.inner] + i % tuples.inner))?;
        Ok(vec![y])
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        let bits = problem.input(0).map_or(0, |x| x.dtype.bits());
        Ok((bits >= 8).then(|| Box::new(GatherNdKernel { op: *self }) as Box<dyn CpuKernel>))
    }

    fn lower(&self, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
        Lowering::from_result(self.candidate(problem, caps))
    }

    fn role(&self) -> Role {
        Role::Anchor
    }
}

struct GatherNdKernel {
    op: GatherNd,
}

impl CpuKernel for GatherNdKernel {
    fn run(&self, run: &mut CpuRun<'_, '_>) -> Result<(), OpError> {
        let (x, indices) = (view(run.inputs, 0)?, view(run.inputs, 1)?);
        let tuples = self.op.tuples(x.dims, indices.dims)?;
        let starts = tuples.starts(&indices)?;
        let output = run.outputs.first_mut().ok_or(OpError::Internal("no output"))?;
        let size = x.dtype.bits() / 8;
        let bytes = tuples.inner * size;
        if output.bytes.len() != starts.len() * bytes {
            return Err(OpError::Internal("an output of another size"));
        }
        for (slot, &start) in output.bytes.chunks_mut(bytes.max(1)).zip(&starts) {
            slot.copy_from_slice(&x.bytes[start * size..start * size + bytes]);
        }
        Ok(())
    }
}

impl GatherNd {
    fn candidate(self, problem: &Problem<'_>, caps: &Capabilities) -> Result<Candidate, Refusal> {
        let variant = &table::GATHER_ND;
        let kernel = variant.name;
        let refuse = |reason: String| Refusal { kernel, reason };
        let (Some(x), Some(indices)) = (problem.input(0), problem.input(1)) else {
            return Err(refuse("an input is missing".to_owned()));
        };
        let tuples = self.tuples(x.dims, indices.dims).map_err(|error| refuse(error.to_string()))?;
        if let Some(value) = indices.value {
            tuples.starts(&value.view()).map_err(|error| refuse(error.to_string()))?;
        }
        let (from, at) = (problem.stored(kernel, Some(x))?, problem.stored(kernel, Some(indices))?);
        let len: usize = tuples.dims.iter().product();
        if len.max(x.len()) > i32::MAX as usize {
            return Err(refuse("more than 2^31 elements".to_owned()));
        }
        if tuples.extents.is_empty() {
            return Err(refuse("tuples of no index".to_owned()));
        }
        let mut params = params::movement::GatherNd {
            len: word(kernel, len)?,
            depth: word(kernel, tuples.extents.len())?,
            inner: word(kernel, tuples.inner)?,
            per_batch: word(kernel, tuples.per_batch)?,
            batch: word(kernel, tuples.batch)?,
            ..Default::default()
        };
        if tuples.extents.len() > params.dims.len() {
            return Err(refuse("tuples of more than eight indices".to_owned()));
        }
        for (slot, (&extent, &stride)) in tuples.extents.iter().zip(&tuples.strides).enumerate() {
            params.dims[slot] = word(kernel, extent)?;
            params.strides[slot] = word(kernel, stride)?;
        }
        let groups = tuples.inner.is_multiple_of(4);
        let width = if groups { Width::Four } else { Width::One };
        let ending = problem.ending(kernel, from.value(), Width::Four)?;
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

    #[test]
    fn tuples_pick_elements_and_slices() {
        let x = Tensor::from_slice(&[2, 2, 2], &[0i32, 1, 2, 3, 4, 5, 6, 7]).unwrap();
        let of = |batch_dims, dims: &[usize], indices: &[i64]| {
            let indices = Tensor::from_slice(dims, indices).unwrap();
            GatherNd { batch_dims }.reference(&[Some(x.view()), Some(indices.view())], 1)
        };
        let y = of(0, &[2, 2], &[0, 1, 1, 0]).unwrap();
        assert_eq!((y[0].dims(), y[0].to_vec::<i32>().unwrap()), (&[2, 2][..], vec![2, 3, 4, 5]));
        let y = of(1, &[2, 1], &[1, 0]).unwrap();
        assert_eq!(y[0].to_vec::<i32>().unwrap(), [2, 3, 4, 5]);
        let y = of(0, &[1, 3], &[-1, -1, -2]).unwrap();
        assert_eq!((y[0].dims(), y[0].to_vec::<i32>().unwrap()), (&[1][..], vec![6]));
        assert!(of(0, &[1, 4], &[0; 4]).is_err());
        assert!(of(0, &[1, 1], &[2]).is_err());
        assert!(of(-1, &[1, 1], &[0]).is_err());
        assert!(of(3, &[2, 2, 2, 1], &[0; 8]).is_err());
    }
}
