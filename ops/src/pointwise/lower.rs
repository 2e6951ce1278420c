//! The kernel of a pointwise operator: nothing but an expression.

use sardonyx_shaders::expression::{Expression, Output};
use sardonyx_shaders::storage::{ValueType, Width};
use sardonyx_shaders::{Capabilities, Kernel, params, table};

use crate::dispatch::{Binding, Candidate, Dispatch, Ending, Refusal, linear_grid, word};
use crate::expr::Expr;
use crate::problem::Problem;

pub(super) fn lower(expr: &Expr, problem: &Problem<'_>, caps: &Capabilities) -> Result<Candidate, Refusal> {
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
        let Some(input) = input else { continue };
        let storage = problem.stored(kernel, Some(input))?;
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
