//! Operators that compute each output element from the elements at the same place of their inputs.
//!
//! All of them are one operator, [`Pointwise`], with an [`Expr`]. A new one needs a row of [`functions`] with its WGSL, and
//! a row of [`OPERATORS`].

pub mod aligned;
mod bytes;
pub mod cast;
pub mod cast_narrow;
pub mod functions;
mod lower;
mod operators;
mod sizes;

use std::sync::Arc;

use rayon::prelude::*;
use sardonyx_shaders::Capabilities;

pub use cast::{Cast, CastLike, cast};
pub use cast_narrow::CastNarrow;
pub use operators::OPERATORS;

use crate::broadcast;
use crate::dispatch::Lowering;
use crate::error::OpError;
use crate::expr::Expr;
use crate::expr::eval::{Evaluation, TILE, Target};
use crate::ir::dim::Dim;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::tensor::{Tensor, element_count};
use crate::ir::view::{View, ViewMut};
use crate::layout::{Blocking, stretched_dims};
use crate::operator::{CpuKernel, CpuRun, Expansion, Operator, Role};
use crate::problem::{Operand, Problem};
use crate::text::equal::StringEqual;

/// An expression over inputs that broadcast to one shape; each result is an output. Operand `i` of the expression is the
/// `i`-th input that is given: absent ones do not count.
#[derive(Clone, Debug)]
pub struct Pointwise {
    /// The operator's name in the model, or the joined name of a fused chain.
    pub name: &'static str,
    /// What is computed.
    pub expr: Expr,
}

impl Operator for Pointwise {
    fn name(&self) -> &'static str {
        self.name
    }

    fn expand(&self, inputs: &[Option<&Fact>]) -> Result<Expansion, OpError> {
        // Expressions know numbers only.
        let strings = inputs.iter().flatten().any(|fact| fact.dtype == DType::Str);
        if strings && self.name == "Equal" { StringEqual::expansion(inputs) } else { Ok(Expansion::Stays) }
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let facts: Vec<&Fact> = inputs.iter().flatten().copied().collect();
        let types: Vec<DType> = facts.iter().map(|fact| fact.dtype).collect();
        let shapes: Option<Vec<&[Dim]>> = facts.iter().map(|fact| fact.shape.as_deref()).collect();
        let shape = shapes.map(|shapes| broadcast::shape(&shapes)).transpose()?;
        let all = self.expr.types(None, &types)?;
        let fact = |&result: &usize| match &shape {
            Some(shape) => Fact::new(all[result], shape.clone()),
            None => Fact::unranked(all[result]),
        };
        let mut results: Vec<Fact> = self.expr.results.iter().map(fact).collect();
        sizes::complete(&self.expr, &facts, &mut results);
        Ok(results)
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let operands: Vec<View<'_>> = inputs.iter().flatten().copied().collect();
        let shapes: Vec<&[usize]> = operands.iter().map(|view| view.dims).collect();
        let dims = broadcast::dims(&shapes)?;
        let types: Vec<DType> = operands.iter().map(|view| view.dtype).collect();
        let all = self.expr.types(None, &types)?;
        let len: usize = element_count(&dims).ok_or(OpError::Size)?;
        let mut buffers = Vec::new();
        for &result in &self.expr.results {
            let bytes = all[result].bytes_for(len).ok_or(OpError::Size)?;
            let mut words: Vec<u64> = Vec::new();
            words.try_reserve_exact(bytes.div_ceil(8)).map_err(|_| OpError::Size)?;
            words.resize(bytes.div_ceil(8), 0);
            buffers.push((all[result], bytes, words));
        }
        let mut views: Vec<ViewMut<'_>> = Vec::new();
        for (dtype, wanted, words) in &mut buffers {
            let bytes: &mut [u8] = bytemuck::cast_slice_mut(words);
            views.push(ViewMut { dtype: *dtype, dims: &dims, bytes: &mut bytes[..*wanted] });
        }
        compute(&self.expr, &operands, &dims, &mut views)?;
        views.iter().map(|view| Ok(view.as_view().to_tensor())).collect()
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        let Some(output) = problem.outputs.first() else { return Ok(None) };
        if let Some(table) = bytes::TableKernel::prepare(&self.expr, problem)? {
            return Ok(Some(Box::new(table)));
        }
        Ok(Some(Box::new(PointwiseKernel { expr: self.expr.clone(), dims: output.dims.to_vec() })))
    }

    fn lower(&self, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
        Lowering::from_result(lower::lower(&self.expr, problem, caps))
    }

    fn role(&self) -> Role {
        Role::Pointwise
    }

    fn expression(&self) -> Option<&Expr> {
        Some(&self.expr)
    }

    fn blocked(&self, problem: &Problem<'_>, block: usize, blocked: &[bool]) -> Option<Blocking> {
        let [output] = problem.outputs.as_slice() else { return None };
        let fits = |input: &Option<Operand<'_>>| {
            input.as_ref().is_some_and(|x| stretched_dims(x.dims, output.dims, block).is_some())
        };
        let whole = |(input, &there): (&Option<Operand<'_>>, &bool)| {
            there && input.as_ref().is_some_and(|x| x.dims == output.dims)
        };
        let gains = problem.inputs.iter().zip(blocked).any(whole) && problem.inputs.iter().all(fits);
        gains.then(|| Blocking::of_all(Arc::new(self.clone()), problem.inputs.len()))
    }
}

struct PointwiseKernel {
    expr: Expr,
    dims: Vec<usize>,
}

impl CpuKernel for PointwiseKernel {
    fn run(&self, run: &mut CpuRun<'_, '_>) -> Result<(), OpError> {
        let operands: Vec<View<'_>> = run.inputs.iter().flatten().copied().collect();
        compute(&self.expr, &operands, &self.dims, run.outputs)
    }
}

/// Evaluates an expression into outputs of dimensions `dims`, in parallel over runs of tiles.
fn compute(
    expr: &Expr,
    operands: &[View<'_>],
    dims: &[usize],
    outputs: &mut [ViewMut<'_>],
) -> Result<(), OpError> {
    // Below this, handing work to another thread costs more than the work.
    const LEAST: usize = 64 * TILE;
    let shapes: Vec<(DType, &[usize])> = operands.iter().map(|view| (view.dtype, view.dims)).collect();
    let evaluation = Evaluation::new(expr, None, &shapes, dims)?;
    let len = element_count(dims).ok_or(OpError::Size)?;
    let piece = |start: usize, outputs: &mut [&mut [u8]], len: usize| -> Result<(), OpError> {
        let mut workspace = evaluation.workspace(len)?;
        let mut target = Target { outputs, first: start };
        for at in (start..start + len).step_by(TILE) {
            let end = (at + TILE).min(start + len);
            evaluation.tile(&mut workspace, operands, None, at..end, &mut target)?;
        }
        Ok(())
    };
    // A few chunks for each thread, so that one that is held up does not hold up all.
    let chunk = (len / (4 * rayon::current_num_threads())).next_multiple_of(TILE).max(LEAST);
    let mut parts: Vec<Vec<&mut [u8]>> = Vec::new();
    parts.resize_with(len.div_ceil(chunk), || Vec::with_capacity(outputs.len()));
    for output in outputs {
        let bytes = output.dtype.bytes_for(chunk).ok_or(OpError::Size)?;
        parts.iter_mut().zip(output.bytes.chunks_mut(bytes)).for_each(|(part, bytes)| part.push(bytes));
    }
    let run = |(index, part): (usize, &mut Vec<&mut [u8]>)| {
        let start = index * chunk;
        piece(start, part, chunk.min(len - start))
    };
    match parts.len() {
        0 | 1 => parts.iter_mut().enumerate().try_for_each(run),
        _ => parts.par_iter_mut().enumerate().try_for_each(run),
    }
}
