//! [`Transpose`](https://onnx.ai/onnx/operators/onnx__Transpose.html): dimensions in another order.

use std::sync::Arc;

use sardonyx_shaders::Capabilities;

use super::assemble::row_major;
use super::sizes::{self, required, view};
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

/// `Transpose` by a permutation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transpose {
    /// For each output dimension, the input dimension it is; reversed order when absent.
    pub perm: Option<Vec<i64>>,
}

/// Builds [`Transpose`].
///
/// # Errors
/// When there is not one input.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 1, "1")?;
    Ok(Arc::new(Transpose { perm: spec.attributes.ints("perm")?.map(<[i64]>::to_vec) }))
}

impl Transpose {
    /// The permutation for an input of `rank` dimensions.
    ///
    /// # Errors
    /// When it does not name each dimension once.
    pub fn order(&self, rank: usize) -> Result<Vec<usize>, OpError> {
        match &self.perm {
            None => Ok((0..rank).rev().collect()),
            Some(perm) if perm.len() == rank && perm.iter().all(|&axis| axis >= 0) => sizes::axes(perm, rank),
            Some(perm) => {
                Err(OpError::constraint("perm", format!("each of {rank} axes once"), format!("{perm:?}")))
            }
        }
    }

    /// The output's dimensions, and the copy that makes it.
    fn map(&self, dims: &[usize]) -> Result<(Vec<usize>, Strided), OpError> {
        let (order, strides) = (self.order(dims.len())?, row_major(dims));
        let shape: Vec<usize> = order.iter().map(|&axis| dims[axis]).collect();
        let steps: Vec<isize> = order.iter().map(|&axis| strides[axis] as isize).collect();
        let map = Strided::new(&shape, &steps, 0, dims.iter().product())?;
        Ok((shape, map))
    }
}

impl Operator for Transpose {
    fn name(&self) -> &'static str {
        "Transpose"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let x = required(inputs, 0)?;
        let shape = match (&x.shape, &self.perm) {
            (Some(dims), _) => self.order(dims.len())?.into_iter().map(|axis| dims[axis].clone()).collect(),
            (None, Some(perm)) => {
                (0..perm.len()).map(|axis| Dim::named(&format!("Transpose.{axis}"))).collect()
            }
            (None, None) => return Ok(vec![Fact::unranked(x.dtype)]),
        };
        Ok(vec![Fact::new(x.dtype, shape)])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let x = view(inputs, 0)?;
        let (dims, map) = self.map(x.dims)?;
        Ok(vec![map.reference(&x, &dims)?])
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        let op = self.clone();
        Ok(CopyKernel::prepare(problem, move |inputs| Ok(vec![op.map(view(inputs, 0)?.dims)?.1])))
    }

    fn lower(&self, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
        match problem.input(0).map(|x| self.map(x.dims)) {
            Some(Ok((_, map))) => map.lower(problem, caps),
            _ => Lowering::refused("Transpose", "the permutation does not fit the input"),
        }
    }

    fn moves(&self, problem: &Problem<'_>, _output: usize) -> Option<Strided> {
        self.map(problem.input(0)?.dims).ok().map(|(_, map)| map)
    }

    fn role(&self) -> Role {
        Role::Anchor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matrices_and_permutations() {
        let x = Tensor::from_slice(&[2, 3], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        let y = Transpose { perm: None }.reference(&[Some(x.view())], 1).unwrap();
        assert_eq!(y[0].dims(), [3, 2]);
        assert_eq!(y[0].to_vec::<f32>().unwrap(), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        let x = Tensor::from_slice(&[1, 2, 3], &[1i64, 2, 3, 4, 5, 6]).unwrap();
        let y = Transpose { perm: Some(vec![2, 0, 1]) }.reference(&[Some(x.view())], 1).unwrap();
        assert_eq!((y[0].dims(), y[0].to_vec::<i64>().unwrap()), (&[3, 1, 2][..], vec![1, 4, 2, 5, 3, 6]));
        for wrong in [vec![0, 0, 1], vec![0, 1], vec![0, 1, 3], vec![-1, 0, 1]] {
            assert!(Transpose { perm: Some(wrong) }.order(3).is_err());
        }
    }

    #[test]
    fn nibbles_transpose() {
        let x = Tensor::from_bytes(crate::DType::U4, &[2, 2], vec![0x21, 0x43].into()).unwrap();
        let y = Transpose { perm: None }.reference(&[Some(x.view())], 1).unwrap();
        assert_eq!(y[0].bytes(), [0x31, 0x42]);
    }
}
