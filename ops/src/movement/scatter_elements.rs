//! [`ScatterElements`](https://onnx.ai/onnx/operators/onnx__ScatterElements.html), and `Scatter` before it: single
//! elements replaced or met along an axis, by an index each.

use std::sync::Arc;

use sardonyx_shaders::Capabilities;

use super::assemble::Assembly;
use super::gather::{check_constant, wrap};
use super::gather_elements::{along, elements_at};
use super::reduction::Reduction;
use super::scatter_gpu::{self, Layout};
use super::sizes::{self, required, view};
use crate::build::NodeSpec;
use crate::dispatch::{Candidate, Lowering, Refusal};
use crate::error::OpError;
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::ir::view::{View, ViewMut};
use crate::operator::{CpuKernel, CpuRun, Operator};
use crate::problem::Problem;

/// `ScatterElements` along an axis.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScatterElements {
    /// The axis; negative counts from the back.
    pub axis: i64,
    /// How updates meet the data.
    pub reduction: Reduction,
}

/// Builds [`ScatterElements`].
///
/// # Errors
/// When an attribute breaks a rule.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(3, 3, "3")?;
    let axis = spec.attributes.int_or("axis", 0)?;
    Ok(Arc::new(ScatterElements { axis, reduction: Reduction::from_spec(spec)? }))
}

impl ScatterElements {
    /// The data element that each update falls on.
    fn targets(self, data: &View<'_>, indices: &View<'_>, updates: &View<'_>) -> Result<Vec<usize>, OpError> {
        let axis = along(self.axis, data.dims, indices.dims)?;
        if updates.dims != indices.dims || updates.dtype != data.dtype {
            let got = format!("{} {:?}", updates.dtype, updates.dims);
            return Err(OpError::constraint("updates", format!("{} {:?}", data.dtype, indices.dims), got));
        }
        let at = wrap(indices, 1, data.dims[axis])?;
        Ok(elements_at(data.dims, indices.dims, axis, &at))
    }
}

/// The output's fact: that of the data.
pub(super) fn infer(inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, OpError> {
    let (data, indices, updates) = (required(inputs, 0)?, required(inputs, 1)?, required(inputs, 2)?);
    sizes::expect_indices(indices.dtype, 1)?;
    if updates.dtype != data.dtype {
        return Err(OpError::Type { input: 2, expected: "the type of the data", got: updates.dtype });
    }
    Ok(vec![Fact { value: None, sizes: None, ..data.clone() }])
}

/// The oracle for pairs of (element, first update), `inner` elements in a row.
pub(super) fn reference(
    reduction: Reduction,
    data: &View<'_>,
    updates: &View<'_>,
    pairs: impl Iterator<Item = (usize, usize)>,
    inner: usize,
) -> Result<Vec<Tensor>, OpError> {
    if data.dtype.bits() < 8 {
        if reduction != Reduction::None {
            return Err(OpError::unsupported(format!("a reduction of {}", data.dtype)));
        }
        let mut result = Assembly::zeroed(data.dtype, data.dims)?;
        for i in 0..result.len() {
            result.copy(i, data, i)?;
        }
        for (to, from) in pairs {
            for k in 0..inner {
                result.copy(to + k, updates, from + k)?;
            }
        }
        return Ok(vec![result.finish()?]);
    }
    let mut words = vec![0u64; data.bytes.len().div_ceil(8)];
    let bytes: &mut [u8] = &mut bytemuck::cast_slice_mut(&mut words)[..data.bytes.len()];
    bytes.copy_from_slice(data.bytes);
    let mut y = ViewMut { dtype: data.dtype, dims: data.dims, bytes };
    reduction.scatter(&mut y, updates, pairs, inner)?;
    Ok(vec![y.as_view().to_tensor()])
}

/// Copies the data into the output, for updates to fall on.
pub(super) fn start<'a, 'b>(run: &'a mut CpuRun<'_, 'b>) -> Result<&'a mut ViewMut<'b>, OpError> {
    let data = view(run.inputs, 0)?;
    let output = run.outputs.first_mut().ok_or(OpError::Internal("no output"))?;
    if output.bytes.len() != data.bytes.len() || output.dtype != data.dtype {
        return Err(OpError::Internal("an output of another size"));
    }
    output.bytes.copy_from_slice(data.bytes);
    Ok(output)
}

impl Operator for ScatterElements {
    fn name(&self) -> &'static str {
        "ScatterElements"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        infer(inputs)
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let (data, indices, updates) = (view(inputs, 0)?, view(inputs, 1)?, view(inputs, 2)?);
        let targets = self.targets(&data, &indices, &updates)?;
        let pairs = targets.into_iter().enumerate().map(|(from, to)| (to, from));
        reference(self.reduction, &data, &updates, pairs, 1)
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        let bits = problem.input(0).map_or(0, |x| x.dtype.bits());
        Ok((bits >= 8).then(|| Box::new(ScatterKernel { op: *self }) as Box<dyn CpuKernel>))
    }

    fn lower(&self, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
        Lowering::from_result(self.candidate(problem, caps))
    }
}

impl ScatterElements {
    fn candidate(self, problem: &Problem<'_>, caps: &Capabilities) -> Result<Candidate, Refusal> {
        let refuse = |reason: String| Refusal { kernel: "scatter", reason };
        let (Some(x), Some(indices), Some(updates)) = (problem.input(0), problem.input(1), problem.input(2))
        else {
            return Err(refuse("an input is missing".to_owned()));
        };
        let axis = along(self.axis, x.dims, indices.dims).map_err(|error| refuse(error.to_string()))?;
        if updates.dims != indices.dims || updates.dtype != x.dtype {
            return Err(refuse("its updates do not fit the indices".to_owned()));
        }
        check_constant("scatter", problem, 1, x.dims[axis])?;
        scatter_gpu::candidate(self.reduction, problem, &Layout::Along(axis), caps)
    }
}

struct ScatterKernel {
    op: ScatterElements,
}

impl CpuKernel for ScatterKernel {
    fn run(&self, run: &mut CpuRun<'_, '_>) -> Result<(), OpError> {
        let (data, indices, updates) = (view(run.inputs, 0)?, view(run.inputs, 1)?, view(run.inputs, 2)?);
        let targets = self.op.targets(&data, &indices, &updates)?;
        let pairs = targets.into_iter().enumerate().map(|(from, to)| (to, from));
        self.op.reduction.scatter(start(run)?, &updates, pairs, 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_replace_or_meet() {
        let data = Tensor::from_slice(&[1, 5], &[1.0f32, 2.0, 3.0, 4.0, 5.0]).unwrap();
        let indices = Tensor::from_slice(&[1, 2], &[1i64, -4]).unwrap();
        let updates = Tensor::from_slice(&[1, 2], &[1.5f32, 2.5]).unwrap();
        let of = |reduction| {
            let inputs = [Some(data.view()), Some(indices.view()), Some(updates.view())];
            ScatterElements { axis: 1, reduction }.reference(&inputs, 1).unwrap()[0].to_vec::<f32>().unwrap()
                [1]
        };
        assert_eq!(of(Reduction::None), 2.5);
        assert_eq!(of(Reduction::Add), 6.0);
        assert_eq!(of(Reduction::Mul), 7.5);
        assert_eq!(of(Reduction::Min), 1.5);
        assert_eq!(of(Reduction::Max), 2.5);
    }

    #[test]
    fn wrong_shapes_and_indices_are_refused() {
        let data = Tensor::from_slice(&[3], &[1i64, 2, 3]).unwrap();
        let op = ScatterElements { axis: 0, reduction: Reduction::None };
        for (indices, updates) in [(vec![3i64], vec![1i64]), (vec![0, 1], vec![1]), (vec![0; 4], vec![1; 4])]
        {
            let indices = Tensor::from_slice(&[indices.len()], &indices).unwrap();
            let updates = Tensor::from_slice(&[updates.len()], &updates).unwrap();
            let inputs = [Some(data.view()), Some(indices.view()), Some(updates.view())];
            // Along the axis itself there may be more indices than elements.
            assert_eq!(op.reference(&inputs, 1).is_ok(), indices.len() == 4);
        }
    }
}
