//! [`ScatterND`](https://onnx.ai/onnx/operators/onnx__ScatterND.html): slices replaced or met, by index tuples.

use std::sync::Arc;

use sardonyx_shaders::Capabilities;

use super::assemble::row_major;
use super::gather::wrap_one;
use super::reduction::Reduction;
use super::scatter_elements::{infer, reference, start};
use super::scatter_gpu::{self, Layout};
use super::sizes::{self, view};
use crate::build::NodeSpec;
use crate::dispatch::{Candidate, Lowering, Refusal};
use crate::error::OpError;
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::operator::{CpuKernel, CpuRun, Operator};
use crate::problem::Problem;

/// `ScatterND`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScatterNd {
    /// How updates meet the data.
    pub reduction: Reduction,
}

/// Builds [`ScatterNd`].
///
/// # Errors
/// When an attribute breaks a rule.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(3, 3, "3")?;
    Ok(Arc::new(ScatterNd { reduction: Reduction::from_spec(spec)? }))
}

/// For each slice of updates the data element it begins at, and the elements of a slice.
fn targets(data: &View<'_>, indices: &View<'_>, updates: &View<'_>) -> Result<(Vec<usize>, usize), OpError> {
    let wrong = || {
        let got = format!("indices {:?}, updates {} {:?}", indices.dims, updates.dtype, updates.dims);
        OpError::constraint("indices and updates", format!("tuples into {} {:?}", data.dtype, data.dims), got)
    };
    let (&depth, outer) = indices.dims.split_last().ok_or_else(wrong)?;
    let slice = data.dims.get(depth..).ok_or_else(wrong)?;
    if updates.dims != [outer, slice].concat() || updates.dtype != data.dtype {
        return Err(wrong());
    }
    let (all, strides) = (sizes::integers(indices, 1)?, row_major(data.dims));
    let target = |tuple: usize| -> Result<usize, OpError> {
        let mut at = 0;
        for j in 0..depth {
            at += wrap_one(all[tuple * depth + j], data.dims[j])? * strides[j];
        }
        Ok(at)
    };
    let count = outer.iter().product::<usize>();
    Ok(((0..count).map(target).collect::<Result<_, _>>()?, slice.iter().product()))
}

impl Operator for ScatterNd {
    fn name(&self) -> &'static str {
        "ScatterND"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        infer(inputs)
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let (data, indices, updates) = (view(inputs, 0)?, view(inputs, 1)?, view(inputs, 2)?);
        let (targets, inner) = targets(&data, &indices, &updates)?;
        let pairs = targets.into_iter().enumerate().map(|(from, to)| (to, from * inner));
        reference(self.reduction, &data, &updates, pairs, inner)
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        let bits = problem.input(0).map_or(0, |x| x.dtype.bits());
        Ok((bits >= 8).then(|| Box::new(ScatterKernel { op: *self }) as Box<dyn CpuKernel>))
    }

    fn lower(&self, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
        Lowering::from_result(self.candidate(problem, caps))
    }
}

impl ScatterNd {
    fn candidate(self, problem: &Problem<'_>, caps: &Capabilities) -> Result<Candidate, Refusal> {
        let refuse = |reason: &str| Refusal { kernel: "scatter", reason: reason.to_owned() };
        let (Some(x), Some(indices), Some(updates)) = (problem.input(0), problem.input(1), problem.input(2))
        else {
            return Err(refuse("an input is missing"));
        };
        let misfit = || refuse("its indices and updates do not fit the data");
        let (&depth, outer) = indices.dims.split_last().ok_or_else(misfit)?;
        let slice = x.dims.get(depth..).ok_or_else(misfit)?;
        if updates.dims != [outer, slice].concat() || updates.dtype != x.dtype {
            return Err(misfit());
        }
        let strides = row_major(x.dims);
        scatter_gpu::candidate(self.reduction, problem, &Layout::Tuples { depth, strides: &strides }, caps)
    }
}

struct ScatterKernel {
    op: ScatterNd,
}

impl CpuKernel for ScatterKernel {
    fn run(&self, run: &mut CpuRun<'_, '_>) -> Result<(), OpError> {
        let (data, indices, updates) = (view(run.inputs, 0)?, view(run.inputs, 1)?, view(run.inputs, 2)?);
        let (targets, inner) = targets(&data, &indices, &updates)?;
        let pairs = targets.into_iter().enumerate().map(|(from, to)| (to, from * inner));
        self.op.reduction.scatter(start(run)?, &updates, pairs, inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scatter(
        reduction: Reduction,
        indices: (&[usize], &[i64]),
        updates: (&[usize], &[i32]),
    ) -> Result<Vec<i32>, OpError> {
        let data = Tensor::from_slice(&[2, 3], &[1i32, 2, 3, 4, 5, 6]).unwrap();
        let indices = Tensor::from_slice(indices.0, indices.1).unwrap();
        let updates = Tensor::from_slice(updates.0, updates.1).unwrap();
        let inputs = [Some(data.view()), Some(indices.view()), Some(updates.view())];
        Ok(ScatterNd { reduction }.reference(&inputs, 1)?[0].to_vec::<i32>().unwrap())
    }

    #[test]
    fn rows_and_elements() {
        let rows = scatter(Reduction::None, (&[1, 1], &[-1]), (&[1, 3], &[7, 8, 9])).unwrap();
        assert_eq!(rows, [1, 2, 3, 7, 8, 9]);
        let twice = scatter(Reduction::Add, (&[2, 2], &[0, 2, 0, 2]), (&[2], &[10, 20])).unwrap();
        assert_eq!(twice, [1, 2, 33, 4, 5, 6]);
        let least = scatter(Reduction::Min, (&[1, 2], &[1, 0]), (&[1], &[0])).unwrap();
        assert_eq!(least, [1, 2, 3, 0, 5, 6]);
        assert!(scatter(Reduction::None, (&[1, 1], &[2]), (&[1, 3], &[7, 8, 9])).is_err());
        assert!(scatter(Reduction::None, (&[1, 1], &[0]), (&[3], &[7, 8, 9])).is_err());
        assert!(scatter(Reduction::None, (&[1, 3], &[0, 0, 0]), (&[1], &[7])).is_err());
    }
}
