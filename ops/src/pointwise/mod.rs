//! Operators that compute each output element from the elements at the same place of their inputs.
//!
//! All of them are one operator, [`Pointwise`], with an [`Expr`]; a row of [`functions`] is all that a new one needs.

pub mod functions;

use rayon::prelude::*;
use sardonyx_shaders::expression::{Expression, Output};
use sardonyx_shaders::storage::{ValueType, Width};
use sardonyx_shaders::{Capabilities, Kernel, params, table};

use crate::broadcast;
use crate::dispatch::{Binding, Candidate, Dispatch, Ending, Lowering, Refusal, linear_grid, word};
use crate::error::OpError;
use crate::expr::eval::{self, Evaluation, TILE};
use crate::expr::{Expr, ExprNode};
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::ir::view::{View, ViewMut};
use crate::operator::{CpuKernel, CpuRun, Operator, Role};
use crate::problem::Problem;

/// An expression over inputs that broadcast to one shape; each result is an output.
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

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let facts: Vec<&Fact> = inputs.iter().flatten().copied().collect();
        let types: Vec<DType> = facts.iter().map(|fact| fact.dtype).collect();
        let shapes: Option<Vec<&[crate::ir::dim::Dim]>> =
            facts.iter().map(|fact| fact.shape.as_deref()).collect();
        let shape = shapes.map(|shapes| broadcast::shape(&shapes)).transpose()?;
        let all = self.expr.types(None, &types)?;
        let results = self.expr.results.iter().map(|&result| Fact {
            dtype: all[result],
            shape: shape.clone(),
            value: None,
            sizes: functions::sizes(&self.expr, &facts),
        });
        Ok(results.collect())
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let operands: Vec<View<'_>> = inputs.iter().flatten().copied().collect();
        let shapes: Vec<&[usize]> = operands.iter().map(|view| view.dims).collect();
        let dims = broadcast::dims(&shapes)?;
        let types: Vec<DType> = operands.iter().map(|view| view.dtype).collect();
        let all = self.expr.types(None, &types)?;
        let len: usize = crate::ir::tensor::element_count(&dims).ok_or(OpError::Size)?;
        let mut buffers = Vec::new();
        for &result in &self.expr.results {
            buffers.push((
                all[result],
                vec![0u64; all[result].bytes_for(len).ok_or(OpError::Size)?.div_ceil(8)],
            ));
        }
        let mut views: Vec<ViewMut<'_>> = Vec::new();
        for (dtype, words) in &mut buffers {
            let bytes: &mut [u8] = bytemuck::cast_slice_mut(words);
            let wanted = dtype.bytes_for(len).ok_or(OpError::Size)?;
            views.push(ViewMut { dtype: *dtype, dims: &dims, bytes: &mut bytes[..wanted] });
        }
        compute(&self.expr, &operands, &dims, &mut views)?;
        views.iter().map(|view| Ok(view.as_view().to_tensor())).collect()
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        let Some(output) = problem.outputs.first() else { return Ok(None) };
        Ok(Some(Box::new(PointwiseKernel { expr: self.expr.clone(), dims: output.dims.to_vec() })))
    }

    fn lower(&self, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
        Lowering::from_result(lower(&self.expr, problem, caps))
    }

    fn role(&self) -> Role {
        Role::Pointwise
    }

    fn expression(&self) -> Option<&Expr> {
        Some(&self.expr)
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
    const CHUNK: usize = 16 * TILE;
    let shapes: Vec<(DType, &[usize])> = operands.iter().map(|view| (view.dtype, view.dims)).collect();
    let evaluation = Evaluation::new(expr, None, &shapes, dims)?;
    let len: usize = dims.iter().product();
    let piece = |outputs: &mut [ViewMut<'_>], start: usize, len: usize| -> Result<(), OpError> {
        let mut workspace = evaluation.workspace()?;
        let mut done = 0;
        while done < len {
            let tile = TILE.min(len - done);
            evaluation.tile(&mut workspace, operands, None, start + done, tile);
            for (index, output) in outputs.iter_mut().enumerate() {
                eval::store(evaluation.result(&workspace, index), output, done);
            }
            done += tile;
        }
        Ok(())
    };
    match outputs {
        [output] if len > CHUNK => {
            let bytes = output.dtype.bits() / 8;
            let dtype = output.dtype;
            output.bytes.par_chunks_mut(CHUNK * bytes).enumerate().try_for_each(|(index, chunk)| {
                let dims = [chunk.len() / bytes];
                let len = dims[0];
                let mut part = [ViewMut { dtype, dims: &dims, bytes: chunk }];
                piece(&mut part, index * CHUNK, len)
            })
        }
        outputs => piece(outputs, 0, len),
    }
}

fn lower(expr: &Expr, problem: &Problem<'_>, caps: &Capabilities) -> Result<Candidate, Refusal> {
    let variant = &table::POINTWISE;
    let kernel = variant.name;
    let refuse = |reason: String| Refusal { kernel, reason };
    let output = problem.outputs.first().ok_or_else(|| refuse("no output".to_owned()))?;
    let mut ending = Ending {
        expression: Expression {
            accumulator: ValueType::F32,
            operands: Vec::new(),
            steps: Vec::new(),
            outputs: Vec::new(),
        },
        reads: Vec::new(),
        operands: Vec::new(),
    };
    let mut types = Vec::new();
    for (index, input) in problem.inputs.iter().enumerate() {
        let storage = problem.stored(kernel, input.as_ref())?;
        let input = input.as_ref().ok_or_else(|| refuse("an input is missing".to_owned()))?;
        types.push(input.dtype);
        ending
            .push_operand(input, storage, output.dims, Width::Four, Binding::Input(index))
            .ok_or_else(|| refuse("an input broadcasts over more than eight dimensions".to_owned()))?;
    }
    let steps = expr.to_wgsl(None, &types).map_err(|error| refuse(error.to_string()))?;
    ending.expression.steps = steps.steps;
    for (&step, output) in steps.results.iter().zip(&problem.outputs) {
        let storage = problem.stored(kernel, Some(output))?;
        ending.expression.outputs.push(Output { step, storage, width: Width::Four });
    }
    let bound = ending.reads.len() + problem.outputs.len();
    if bound > caps.storage_buffers as usize {
        return Err(refuse(format!("{bound} tensors, the device binds {}", caps.storage_buffers)));
    }
    let len = output.len();
    let params = params::pointwise::Pointwise { len: word(kernel, len)?, ..Default::default() };
    let grid = linear_grid(kernel, len.div_ceil(4 * 64), caps)?;
    Ok(Candidate {
        dispatches: vec![Dispatch {
            kernel: Kernel { variant, inputs: Vec::new(), knobs: Vec::new(), expression: ending.expression },
            reads: ending.reads,
            writes: (0..problem.outputs.len()).map(Binding::Output).collect(),
            params: bytemuck::bytes_of(&params).to_vec(),
            operands: ending.operands,
            grid,
        }],
        ..Candidate::default()
    })
}

/// A conversion of one input.
pub fn cast(to: DType) -> Pointwise {
    let nodes = vec![ExprNode::Operand(0), ExprNode::Cast { arg: 0, to }];
    Pointwise { name: "Cast", expr: Expr { nodes, results: vec![1] } }
}
