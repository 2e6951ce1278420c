//! Resizing values whose channels lie in blocks: the last dimension is one more that stays as it is.

use std::sync::Arc;

use super::resize::{Resize, Tables};
use super::separable::{self, ResizeKernel};
use crate::error::OpError;
use crate::ir::dim::from_known;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::layout::{Blocking, Reorder, Source, blocked_dims};
use crate::movement::sizes::{required, view};
use crate::operator::{CpuKernel, Operator, Role};
use crate::problem::Problem;

/// A resizing with known sizes over values in blocks.
#[derive(Clone, Debug)]
struct BlockedResize {
    plain: Resize,
    block: usize,
    /// Dimensions of the input when it is not in blocks.
    input: Vec<usize>,
    /// Dimensions of the output when it is not in blocks, and the tables of its axes.
    tables: Tables,
}

/// How a resizing works in blocks, where its input is in blocks and only its spatial axes change.
pub(super) fn blocking(
    plain: &Resize,
    problem: &Problem<'_>,
    block: usize,
    blocked: &[bool],
) -> Option<Blocking> {
    let x = problem.input(0)?;
    if !blocked.first().copied().unwrap_or(false) || x.dtype != DType::F32 || x.is_empty() {
        return None;
    }
    blocked_dims(x.dims, block)?;
    let tables = plain.tables_of_problem(problem).ok()?;
    if tables.0.len() != 4 || tables.1.iter().any(|(axis, _)| *axis < 2) {
        return None;
    }
    let op = BlockedResize { plain: plain.clone(), block, input: x.dims.to_vec(), tables };
    Some(Blocking { op: Arc::new(op), inputs: vec![Source::Blocked(0)], output: true })
}

impl BlockedResize {
    fn output_dims(&self) -> Vec<usize> {
        blocked_dims(&self.tables.0, self.block).unwrap_or_default()
    }
}

impl Operator for BlockedResize {
    fn name(&self) -> &'static str {
        self.plain.name
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        Ok(vec![Fact::new(required(inputs, 0)?.dtype, from_known(&self.output_dims()))])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let x = Reorder::out_of_blocks(&self.input).reference(&[Some(view(inputs, 0)?)], 1)?.remove(0);
        let y = separable::reference(&self.plain, &x.view(), &self.tables.0, &self.tables.1)?;
        Reorder::into_blocks(&self.tables.0, self.output_dims()).reference(&[Some(y.view())], 1)
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        let Some(x) = problem.input(0) else { return Ok(None) };
        let tables = (self.output_dims(), self.tables.1.clone());
        Ok(Some(Box::new(ResizeKernel::with_tables(&self.plain, x, tables))))
    }

    fn role(&self) -> Role {
        Role::Anchor
    }
}

#[cfg(test)]
mod tests {
    use super::super::resize::{Inputs, Policy};
    use super::super::table::{Method, Mode, Nearest, Transform};
    use super::*;
    use crate::cpu::check::{random, run_cpu, with_problem};
    use crate::cpu::vector::LANES;

    #[test]
    fn resizing_in_blocks_agrees() {
        for mode in [Mode::Nearest(Nearest::Floor), Mode::Linear, Mode::Cubic(-0.75)] {
            for (scales, fits) in
                [([1.0, 1.0, 2.0, 3.0], true), ([1.0, 1.0, 0.6, 1.0], true), ([1.0, 2.0, 2.0, 2.0], false)]
            {
                let method = Method {
                    mode,
                    transform: Transform::HalfPixel,
                    antialias: false,
                    exclude_outside: false,
                };
                let inputs = Inputs::Attribute(scales.to_vec());
                let (axes, policy) = (None, Policy::Stretch);
                let op = Resize { method, axes, extrapolation: 0.0, policy, inputs, name: "Resize" };
                let dims = [2, 24, 7, 13];
                let x = random(&dims, 3);
                let exact = op.reference(&[Some(x.view())], 1).unwrap().remove(0);
                let blocking = with_problem(&op, &[Some(x.clone())], &[], |problem, _| {
                    assert!(op.blocked(problem, LANES, &[false]).is_none());
                    op.blocked(problem, LANES, &[true])
                });
                assert_eq!(blocking.is_some(), fits);
                let Some(blocking) = blocking else { continue };
                let into = |x: &Tensor| {
                    let blocked = blocked_dims(x.dims(), LANES).unwrap();
                    Reorder::into_blocks(x.dims(), blocked).reference(&[Some(x.view())], 1).unwrap().remove(0)
                };
                let (x, exact) = (into(&x), into(&exact));
                assert_eq!(blocking.op.reference(&[Some(x.view())], 1).unwrap()[0].bytes(), exact.bytes());
                let got = run_cpu(&*blocking.op, &[Some(x)], &[], None).unwrap();
                assert_eq!(got.dims(), exact.dims());
                let (got, exact) = (got.to_vec::<f32>().unwrap(), exact.to_vec::<f32>().unwrap());
                assert!(got.iter().zip(&exact).all(|(a, b)| (a - b).abs() <= 1e-5 * b.abs().max(1.0)));
            }
        }
    }
}
