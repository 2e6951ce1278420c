//! [`Tile`](https://onnx.ai/onnx/operators/onnx__Tile.html): a tensor repeated along its axes.

use std::sync::Arc;

use sardonyx_shaders::Capabilities;

use super::assemble::row_major;
use super::sizes::{self, Integers, required, view};
use super::strided::{CopyKernel, Strided};
use crate::build::NodeSpec;
use crate::dispatch::Lowering;
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::operator::{CpuKernel, Operator, Role};
use crate::problem::Problem;

/// `Tile` as often as input 1 says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tile;

/// Builds [`Tile`].
///
/// # Errors
/// When there are not two inputs.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(2, 2, "2")?;
    Ok(Arc::new(Tile))
}

impl Tile {
    fn map(self, dims: &[usize], integers: &Integers<'_>) -> Result<(Vec<usize>, Strided), OpError> {
        let repeats = integers(1)?.ok_or(OpError::Internal("no repeats"))?;
        if repeats.len() != dims.len() {
            return Err(OpError::constraint("repeats", format!("{} numbers", dims.len()), repeats.len()));
        }
        let (mut output, mut shape, mut steps) = (Vec::new(), Vec::new(), Vec::new());
        for ((&dim, &stride), &count) in dims.iter().zip(&row_major(dims)).zip(&repeats) {
            let count =
                usize::try_from(count).map_err(|_| OpError::constraint("repeats", "0 or more", count))?;
            output.push(dim.checked_mul(count).ok_or(OpError::Size)?);
            // Each axis is two: which repetition, and where in it.
            shape.extend([count, dim]);
            steps.extend([0, stride as isize]);
        }
        let map = Strided::new(&shape, &steps, 0, dims.iter().product())?;
        Ok((output, map))
    }
}

impl Operator for Tile {
    fn name(&self) -> &'static str {
        "Tile"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let (x, repeats) = (required(inputs, 0)?, required(inputs, 1)?);
        sizes::expect_indices(repeats.dtype, 1)?;
        let Some(dims) = &x.shape else { return Ok(vec![Fact::unranked(x.dtype)]) };
        let shape = match sizes::of(repeats) {
            Some(repeats) if repeats.len() == dims.len() => {
                let times = |(dim, count): (&Dim, &Dim)| Ok(dim.mul(count)?);
                dims.iter().zip(&repeats).map(times).collect::<Result<_, OpError>>()?
            }
            Some(repeats) => {
                return Err(OpError::constraint("repeats", format!("{} numbers", dims.len()), repeats.len()));
            }
            None => (0..dims.len()).map(|axis| Dim::named(&format!("Tile.{axis}"))).collect(),
        };
        Ok(vec![Fact::new(x.dtype, shape)])
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
            Some(Err(error)) => Lowering::refused("Tile", error.to_string()),
            None => Lowering::refused("Tile", "an input is missing"),
        }
    }

    fn role(&self) -> Role {
        Role::Anchor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_columns_repeat() {
        let tile = |dims: &[usize], data: &[i64], repeats: &[i64]| {
            let x = Tensor::from_slice(dims, data).unwrap();
            let repeats = Tensor::from_slice(&[repeats.len()], repeats).unwrap();
            Tile.reference(&[Some(x.view()), Some(repeats.view())], 1).map(|mut all| all.remove(0))
        };
        let y = tile(&[2, 2], &[1, 2, 3, 4], &[2, 2]).unwrap();
        assert_eq!(y.to_vec::<i64>().unwrap(), [1, 2, 1, 2, 3, 4, 3, 4, 1, 2, 1, 2, 3, 4, 3, 4]);
        assert_eq!(tile(&[2], &[1, 2], &[0]).unwrap().dims(), [0]);
        assert!(tile(&[2], &[1, 2], &[1, 1]).is_err());
        assert!(tile(&[2], &[1, 2], &[-1]).is_err());
        assert!(tile(&[2], &[1, 2], &[i64::MAX]).is_err());
    }
}
