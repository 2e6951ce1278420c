//! [`Trilu`](https://onnx.ai/onnx/operators/onnx__Trilu.html): the upper or lower triangle of matrices.

use std::sync::Arc;

use sardonyx_shaders::storage::Width;
use sardonyx_shaders::{Capabilities, Kernel, params, table};

use super::assemble::{by_size, elements, elements_mut, select};
use super::sizes::{self, Integers, required, view};
use crate::build::NodeSpec;
use crate::dispatch::{Binding, Candidate, Dispatch, Lowering, Refusal, linear_grid, word};
use crate::error::OpError;
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::operator::{CpuKernel, CpuRun, Operator, Role};
use crate::problem::Problem;

/// `Trilu`: what lies on the other side of a diagonal becomes zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trilu {
    /// Keeps what lies on and above the diagonal, otherwise on and below.
    pub upper: bool,
}

/// Builds [`Trilu`].
///
/// # Errors
/// When there are not one or two inputs.
pub fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 2, "1 or 2")?;
    Ok(Arc::new(Trilu { upper: spec.attributes.flag("upper", true)? }))
}

impl Trilu {
    /// How far the diagonal lies above the main one, within the matrix or just outside.
    fn offset(self, dims: &[usize], integers: &Integers<'_>) -> Result<i64, OpError> {
        let &[.., rows, columns] = dims else {
            return Err(OpError::constraint("rank", "2 or more", dims.len()));
        };
        let offset = match integers(1)?.as_deref() {
            None => 0,
            Some(&[offset]) => offset,
            Some(all) => return Err(OpError::constraint("k", "one number", all.len())),
        };
        let (rows, columns) = (i64::try_from(rows), i64::try_from(columns));
        let (Ok(rows), Ok(columns)) = (rows, columns) else { return Err(OpError::Size) };
        Ok(offset.clamp(-rows, columns))
    }

    fn keeps(self, row: usize, column: usize, offset: i64) -> bool {
        let above = column as i64 - row as i64 - offset;
        if self.upper { above >= 0 } else { above <= 0 }
    }
}

impl Operator for Trilu {
    fn name(&self) -> &'static str {
        "Trilu"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let x = required(inputs, 0)?;
        if let Some(rank) = x.rank().filter(|&rank| rank < 2) {
            return Err(OpError::constraint("rank", "2 or more", rank));
        }
        Ok(vec![Fact { value: None, sizes: None, ..x.clone() }])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let x = view(inputs, 0)?;
        let offset = self.offset(x.dims, &*sizes::of_run(inputs))?;
        let (rows, columns) = (x.dims[x.dims.len() - 2], x.dims[x.dims.len() - 1]);
        let y =
            select(&x, x.dims, None, |i| self.keeps(i / columns % rows, i % columns, offset).then_some(i))?;
        Ok(vec![y])
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        let bits = problem.input(0).map_or(0, |x| x.dtype.bits());
        Ok((bits >= 8).then(|| Box::new(TriluKernel { op: *self }) as Box<dyn CpuKernel>))
    }

    fn lower(&self, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
        Lowering::from_result(self.candidate(problem, caps))
    }

    fn planned_by(&self) -> &'static [usize] {
        &[1]
    }

    fn role(&self) -> Role {
        Role::Anchor
    }
}

struct TriluKernel {
    op: Trilu,
}

impl CpuKernel for TriluKernel {
    fn run(&self, run: &mut CpuRun<'_, '_>) -> Result<(), OpError> {
        let x = view(run.inputs, 0)?;
        let offset = self.op.offset(x.dims, &*sizes::of_run(run.inputs))?;
        let output = run.outputs.first_mut().ok_or(OpError::Internal("no output"))?;
        by_size!(x.dtype.bits() / 8, rows(self.op, &x, offset, output.bytes))
    }
}

fn rows<const N: usize>(op: Trilu, x: &View<'_>, offset: i64, y: &mut [u8]) -> Result<(), OpError> {
    let &[.., rows, columns] = x.dims else { return Err(OpError::Internal("a matrix")) };
    let (x, y) = (elements::<N>(x.bytes), elements_mut::<N>(y));
    if columns == 0 {
        return Ok(());
    }
    for (index, (y, x)) in y.chunks_mut(columns).zip(x.chunks(columns)).enumerate() {
        // The first column on the diagonal.
        let on = (index % rows) as i64 + offset;
        let cut = usize::try_from(if op.upper { on } else { on + 1 }).unwrap_or(0).min(columns);
        y.fill([0; N]);
        let kept = if op.upper { cut..columns } else { 0..cut };
        y[kept.clone()].copy_from_slice(&x[kept]);
    }
    Ok(())
}

impl Trilu {
    fn candidate(self, problem: &Problem<'_>, caps: &Capabilities) -> Result<Candidate, Refusal> {
        let variant = &table::TRILU;
        let kernel = variant.name;
        let refuse = |reason: String| Refusal { kernel, reason };
        let x = problem.input(0).ok_or_else(|| refuse("an input is missing".to_owned()))?;
        let storage = problem.stored(kernel, Some(x))?;
        let offset =
            self.offset(x.dims, &*sizes::of_problem(problem)).map_err(|error| refuse(error.to_string()))?;
        if x.len() > i32::MAX as usize {
            return Err(refuse("more than 2^31 elements".to_owned()));
        }
        let params = params::movement::Trilu {
            len: word(kernel, x.len())?,
            rows: word(kernel, x.dims[x.dims.len() - 2])?,
            columns: word(kernel, x.dims[x.dims.len() - 1])?,
            offset: i32::try_from(offset).map_err(|_| refuse("a diagonal beyond 2^31".to_owned()))?,
        };
        let ending = problem.ending(kernel, storage.value(), Width::Four)?;
        let dispatch = Dispatch {
            kernel: Kernel {
                variant,
                inputs: vec![(storage, Width::One)],
                knobs: vec![("UPPER", u32::from(self.upper))],
                expression: ending.expression,
            },
            reads: std::iter::once(Binding::Input(0)).chain(ending.reads).collect(),
            writes: vec![Binding::Output(0)],
            params: bytemuck::bytes_of(&params).to_vec(),
            operands: ending.operands,
            grid: linear_grid(kernel, x.len().div_ceil(4 * 64), caps)?,
        };
        Ok(Candidate { dispatches: vec![dispatch], ..Candidate::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn triangles() {
        let x = Tensor::from_slice(&[2, 3], &[1i64, 2, 3, 4, 5, 6]).unwrap();
        let of = |upper, offset: i64| {
            let offset = Tensor::scalar(offset);
            let y = Trilu { upper }.reference(&[Some(x.view()), Some(offset.view())], 1).unwrap();
            y[0].to_vec::<i64>().unwrap()
        };
        assert_eq!(of(true, 0), [1, 2, 3, 0, 5, 6]);
        assert_eq!(of(true, 1), [0, 2, 3, 0, 0, 6]);
        assert_eq!(of(false, 0), [1, 0, 0, 4, 5, 0]);
        assert_eq!(of(false, -1), [0, 0, 0, 4, 0, 0]);
        assert_eq!(of(false, i64::MIN), [0; 6]);
        assert_eq!(of(false, i64::MAX), [1, 2, 3, 4, 5, 6]);
    }
}
