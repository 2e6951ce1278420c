//! Epilogues on the CPU: what an anchor's results pass through while they are still in cache.

use rayon::prelude::*;

use crate::error::OpError;
use crate::expr::Expr;
use crate::expr::eval::{Evaluation, TILE, Target, Workspace};
use crate::expr::lanes::Lanes;
use crate::ir::dtype::DType;
use crate::ir::view::{View, ViewMut};

/// An epilogue with the operands of one run.
pub struct Finish<'a> {
    evaluation: Evaluation<'a>,
    operands: Vec<View<'a>>,
}

/// The tiles that an epilogue's steps go through on one thread.
pub struct FinishWorkspace {
    tiles: Workspace,
    accumulator: [f32; TILE],
}

impl<'a> Finish<'a> {
    /// Prepares an epilogue over results of type `dtype` and dimensions `output`.
    ///
    /// # Errors
    /// When a function does not take the types.
    pub fn new(
        expr: &'a Expr,
        dtype: DType,
        operands: Vec<View<'a>>,
        output: &[usize],
    ) -> Result<Finish<'a>, OpError> {
        let shapes: Vec<(DType, &[usize])> = operands.iter().map(|view| (view.dtype, view.dims)).collect();
        let evaluation = Evaluation::new(expr, Some(dtype), &shapes, output)?;
        Ok(Finish { evaluation, operands })
    }

    /// An operand of the epilogue.
    pub fn operand(&self, index: usize) -> Option<View<'a>> {
        self.operands.get(index).copied()
    }

    /// Working memory for one thread.
    ///
    /// # Errors
    /// When a type does not take part in expressions.
    pub fn workspace(&self) -> Result<FinishWorkspace, OpError> {
        Ok(FinishWorkspace { tiles: self.evaluation.workspace(TILE)?, accumulator: [0.0; TILE] })
    }

    /// Passes the f32 results from flat output index `start` on through the expression, in place.
    ///
    /// # Errors
    /// When a type does not take part in expressions.
    pub fn apply(&self, results: &mut [f32], start: usize) -> Result<(), OpError> {
        self.apply_with(&mut self.workspace()?, results, start)
    }

    /// The same in working memory that is used again.
    ///
    /// # Errors
    /// When a type does not take part in expressions.
    pub fn apply_with(
        &self,
        workspace: &mut FinishWorkspace,
        results: &mut [f32],
        start: usize,
    ) -> Result<(), OpError> {
        let FinishWorkspace { tiles, accumulator } = workspace;
        for (index, chunk) in results.chunks_mut(TILE).enumerate() {
            let (len, first) = (chunk.len(), start + index * TILE);
            accumulator[..len].copy_from_slice(chunk);
            let lanes = Lanes::F32(&accumulator[..len]);
            let mut target = Target { outputs: &mut [bytemuck::cast_slice_mut(chunk)], first };
            self.evaluation.tile(tiles, &self.operands, Some(lanes), first..first + len, &mut target)?;
        }
        Ok(())
    }

    /// Passes a whole f32 output through the expression, on all threads of the current pool.
    ///
    /// # Errors
    /// When the output is not f32, or a type does not take part in expressions.
    pub fn apply_all(&self, output: &mut ViewMut<'_>) -> Result<(), OpError> {
        if output.dtype != DType::F32 {
            return Err(OpError::Internal("an epilogue over results that are not f32"));
        }
        const CHUNK: usize = 16 * TILE;
        output
            .slice::<f32>()
            .par_chunks_mut(CHUNK)
            .enumerate()
            .try_for_each(|(index, chunk)| self.apply(chunk, index * CHUNK))
    }
}
