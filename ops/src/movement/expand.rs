//! [`Expand`](https://onnx.ai/onnx/operators/onnx__Expand.html): broadcasting made explicit.

use std::sync::Arc;

use sardonyx_shaders::Capabilities;

use super::assemble::row_major;
use super::sizes::{self, Integers, required, view};
use super::strided::{CopyKernel, Strided};
use crate::broadcast;
use crate::build::NodeSpec;
use crate::dispatch::Lowering;
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::operator::{CpuKernel, Operator, Role};
use crate::problem::Problem;

/// `Expand` to the shape in input 1, which itself broadcasts with the input's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expand;

/// Builds [`Expand`].
///
/// # Errors
/// When there are not two inputs.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(2, 2, "2")?;
    Ok(Arc::new(Expand))
}

impl Expand {
    fn map(self, dims: &[usize], integers: &Integers<'_>) -> Result<(Vec<usize>, Strided), OpError> {
        let target = integers(1)?.ok_or(OpError::Arity { what: "inputs", expected: "2", got: 1 })?;
        let extent =
            |n| usize::try_from(n).map_err(|_| OpError::constraint("shape", "sizes of 0 or more", n));
        let target = target.into_iter().map(extent).collect::<Result<Vec<usize>, _>>()?;
        let shape = broadcast::dims(&[dims, &target])?;
        let ahead = shape.len() - dims.len();
        let strides = row_major(dims);
        let step = |axis: usize| match axis.checked_sub(ahead) {
            Some(own) if dims[own] != 1 => strides[own] as isize,
            _ => 0,
        };
        let steps: Vec<isize> = (0..shape.len()).map(step).collect();
        let map = Strided::new(&shape, &steps, 0, dims.iter().product())?;
        Ok((shape, map))
    }
}

impl Operator for Expand {
    fn name(&self) -> &'static str {
        "Expand"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let (x, target) = (required(inputs, 0)?, required(inputs, 1)?);
        sizes::expect_indices(target.dtype, 1)?;
        let Some(dims) = &x.shape else { return Ok(vec![Fact::unranked(x.dtype)]) };
        let shape = match (sizes::of(target), target.dims().as_deref()) {
            (Some(sizes), _) => broadcast::shape(&[dims, &sizes])?,
            (None, Some(&[rank])) if rank <= 64 => {
                (0..rank.max(dims.len())).map(|axis| Dim::named(&format!("Expand.{axis}"))).collect()
            }
            _ => return Ok(vec![Fact::unranked(x.dtype)]),
        };
        let contents = match (sizes::of(x).as_deref(), shape.as_slice()) {
            (Some([one]), [Dim::Known(count)]) if *count <= 64 => Some(vec![one.clone(); *count]),
            (contents, _) => contents.map(<[Dim]>::to_vec),
        };
        Ok(vec![sizes::carry(x.dtype, shape, contents)?])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let x = view(inputs, 0)?;
        let (dims, map) = self.map(x.dims, &*sizes::of_run(inputs))?;
        Ok(vec![map.reference(&x, &dims)?])
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        let op = *self;
        Ok(CopyKernel::prepare(problem, move |inputs| {
            Ok(vec![op.map(view(inputs, 0)?.dims, &*sizes::of_run(inputs))?.1])
        }))
    }

    fn lower(&self, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
        match problem.input(0).map(|x| self.map(x.dims, &*sizes::of_problem(problem))) {
            Some(Ok((_, map))) => map.lower(problem, caps),
            Some(Err(error)) => Lowering::refused("Expand", error.to_string()),
            None => Lowering::refused("Expand", "an input is missing"),
        }
    }

    fn moves(&self, problem: &Problem<'_>, _output: usize) -> Option<Strided> {
        let map = self.map(problem.input(0)?.dims, &*sizes::of_problem(problem));
        map.ok().map(|(_, map)| map)
    }

    fn role(&self) -> Role {
        Role::Anchor
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    fn expand(dims: &[usize], data: &[f32], shape: &[i64]) -> Result<Tensor, OpError> {
        let x = Tensor::from_slice(dims, data).unwrap();
        let shape = Tensor::from_slice(&[shape.len()], shape).unwrap();
        Ok(Expand.reference(&[Some(x.view()), Some(shape.view())], 1)?.remove(0))
    }

    #[test]
    fn ones_stretch_both_ways() {
        let y = expand(&[3, 1], &[1.0, 2.0, 3.0], &[2, 1, 2]).unwrap();
        assert_eq!(y.dims(), [2, 3, 2]);
        assert_eq!(y.to_vec::<f32>().unwrap(), [1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0]);
        assert_eq!(expand(&[3, 1], &[1.0, 2.0, 3.0], &[1]).unwrap().dims(), [3, 1]);
        assert_eq!(expand(&[], &[4.0], &[2]).unwrap().to_vec::<f32>().unwrap(), [4.0, 4.0]);
        assert!(expand(&[3], &[1.0, 2.0, 3.0], &[2]).is_err());
        assert!(expand(&[1], &[1.0], &[-2]).is_err());
        assert!(expand(&[1], &[1.0], &[i64::MAX, i64::MAX]).is_err());
    }

    #[test]
    fn names_pass() {
        let x = Fact::new(DType::F32, vec![Dim::Known(1), Dim::Known(5)]);
        let sizes = Some(vec![Dim::named("n"), Dim::Known(1)]);
        let shape = Fact { dtype: DType::I64, shape: Some(vec![Dim::Known(2)]), value: None, sizes };
        let y = Expand.infer(&[Some(&x), Some(&shape)], 1).unwrap();
        assert_eq!(y[0].shape.as_ref().unwrap(), &[Dim::named("n"), Dim::Known(5)]);
    }
}
