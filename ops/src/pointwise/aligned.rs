//! Broadcasting as it was before opset 7: the second input aligns with a given axis of the first, not with its last.

use sardonyx_shaders::Capabilities;

use super::Pointwise;
use crate::dispatch::Lowering;
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::ir::view::{View, ViewMut};
use crate::operator::{CpuKernel, CpuRun, Operator};
use crate::problem::{Operand, Problem};

/// A pointwise operator of two inputs whose second begins at axis `axis` of the first; negative counts from the end.
#[derive(Clone, Debug)]
pub struct Aligned {
    /// What is computed.
    pub inner: Pointwise,
    /// Where the second input begins.
    pub axis: i64,
}

impl Aligned {
    /// The second input's dimensions with ones behind them, so that it aligns at the last axis.
    fn pad<T: Clone>(&self, first: usize, second: &[T], one: T) -> Result<Vec<T>, OpError> {
        let axis = if self.axis < 0 { self.axis.checked_add_unsigned(first as u64) } else { Some(self.axis) };
        let axis = axis.and_then(|axis| usize::try_from(axis).ok()).unwrap_or(usize::MAX);
        // One element, and nothing to align.
        if second.is_empty() {
            return Ok(Vec::new());
        }
        let after = first.checked_sub(axis).and_then(|room| room.checked_sub(second.len()));
        let after = after.ok_or_else(|| {
            OpError::constraint("axis", format!("room for {} of {first} dimensions", second.len()), self.axis)
        })?;
        Ok(second.iter().cloned().chain(std::iter::repeat_n(one, after)).collect())
    }
}

fn both<T>(inputs: &[Option<T>]) -> Result<(&T, &T), OpError> {
    match inputs {
        [Some(first), Some(second)] => Ok((first, second)),
        _ => Err(OpError::Arity { what: "inputs", expected: "2", got: inputs.len() }),
    }
}

impl Operator for Aligned {
    fn name(&self) -> &'static str {
        self.inner.name
    }

    fn infer(&self, inputs: &[Option<&Fact>], outputs: usize) -> Result<Vec<Fact>, OpError> {
        let (first, second) = both(inputs)?;
        let second = match (first.rank(), &second.shape) {
            (Some(rank), Some(shape)) => Fact::new(second.dtype, self.pad(rank, shape, Dim::Known(1))?),
            _ => Fact::unranked(second.dtype),
        };
        self.inner.infer(&[Some(first), Some(&second)], outputs)
    }

    fn reference(&self, inputs: &[Option<View<'_>>], outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let (first, second) = both(inputs)?;
        let dims = self.pad(first.dims.len(), second.dims, 1)?;
        self.inner.reference(&[Some(*first), Some(View { dims: &dims, ..*second })], outputs)
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        let (first, second) = both(&problem.inputs)?;
        let dims = self.pad(first.dims.len(), second.dims, 1)?;
        let inner = self.inner.cpu(problem)?;
        Ok(inner.map(|inner| Box::new(AlignedKernel { inner, dims }) as Box<dyn CpuKernel>))
    }

    fn lower(&self, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
        let padded = both(&problem.inputs)
            .and_then(|(first, second)| Ok((*first, *second, self.pad(first.dims.len(), second.dims, 1)?)));
        match padded {
            Ok((first, second, dims)) => {
                let second = Operand { dims: &dims, ..second };
                let problem = Problem { inputs: vec![Some(first), Some(second)], ..problem.clone() };
                self.inner.lower(&problem, caps)
            }
            Err(error) => Lowering::refused(self.name(), error.to_string()),
        }
    }
}

struct AlignedKernel {
    inner: Box<dyn CpuKernel>,
    dims: Vec<usize>,
}

impl CpuKernel for AlignedKernel {
    fn run(&self, run: &mut CpuRun<'_, '_>) -> Result<(), OpError> {
        let (first, second) = both(run.inputs)?;
        let inputs = [Some(*first), Some(View { dims: &self.dims, ..*second })];
        let mut outputs: Vec<ViewMut<'_>> = run
            .outputs
            .iter_mut()
            .map(|output| ViewMut { dtype: output.dtype, dims: output.dims, bytes: &mut *output.bytes })
            .collect();
        self.inner.run(&mut CpuRun {
            inputs: &inputs,
            outputs: &mut outputs,
            scratch: &mut *run.scratch,
            finish: run.finish,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::Expr;
    use crate::ir::dtype::DType;
    use crate::pointwise::functions::ADD;

    #[test]
    fn the_second_input_begins_at_the_axis() {
        let inner = Pointwise { name: "Add", expr: Expr::call(&ADD, 2, Vec::new()) };
        let a = Tensor::from_slice(&[2, 3, 2], &[0f32; 12]).unwrap();
        let b = Tensor::from_slice(&[3], &[1f32, 2.0, 3.0]).unwrap();
        for axis in [1, -2] {
            let op = Aligned { inner: inner.clone(), axis };
            let y = op.reference(&[Some(a.view()), Some(b.view())], 1).unwrap().remove(0);
            assert_eq!(y.to_vec::<f32>().unwrap(), [1.0, 1.0, 2.0, 2.0, 3.0, 3.0].repeat(2));
            let facts = [Fact::known(DType::F32, &[2, 3, 2]), Fact::known(DType::F32, &[3])];
            let shape = op.infer(&[Some(&facts[0]), Some(&facts[1])], 1).unwrap().remove(0);
            assert_eq!(shape.dims(), Some(vec![2, 3, 2]));
        }
        for axis in [3, -4, i64::MIN, i64::MAX] {
            let op = Aligned { inner: inner.clone(), axis };
            assert!(op.reference(&[Some(a.view()), Some(b.view())], 1).is_err(), "{axis}");
        }
    }
}
