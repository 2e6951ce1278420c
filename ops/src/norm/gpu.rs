//! Normalisation on the GPU: one launch that normalises; scale and bias go with the epilogue.

use sardonyx_shaders::storage::{Storage, ValueType, Width};
use sardonyx_shaders::{Capabilities, Kernel, params, table};

use super::normalize::{Normalize, reshaped};
use crate::dispatch::{Binding, Candidate, Dispatch, Refusal, linear_grid, word};
use crate::problem::Problem;
use crate::reduce::gpu::{LONG, SHORT, check_len};

/// Normalises what `read` binds, of dimensions `dims`, with scale and bias at these inputs.
pub(super) fn lower(
    operator: &Normalize,
    problem: &Problem<'_>,
    dims: &[usize],
    read: (Binding, Storage),
    parameters: [usize; 2],
    caps: &Capabilities,
) -> Result<Candidate, Refusal> {
    let kernel = table::NORMALIZE.name;
    let refuse = |reason: String| Refusal { kernel, reason };
    check_len(kernel, dims.iter().product())?;
    let lines = operator.lines(dims).map_err(|error| refuse(error.to_string()))?;
    let lines = lines.ok_or_else(|| refuse("its lines are in several pieces".to_owned()))?;
    let row = lines.len > SHORT && (lines.inner == 1 || lines.count() < 256);
    let vector = match row {
        true => lines.inner == 1 && lines.len.is_multiple_of(4),
        false => lines.inner.is_multiple_of(4),
    };
    let width = if vector { Width::Four } else { Width::One };
    let mut ending = problem.ending(kernel, ValueType::F32, width)?;
    let views = operator.parameter_views(problem, parameters).map_err(|error| refuse(error.to_string()))?;
    // What is put first last happens first: the scale before the bias.
    for view in views.iter().rev() {
        let operand = problem.input(view.input).ok_or_else(|| refuse("an input is missing".to_owned()))?;
        problem.stored(kernel, Some(operand))?;
        let operand = reshaped(operand, &view.own);
        let binding = Binding::Input(view.input);
        match view.bias {
            true => ending.add_first(&operand, &view.output, width, binding, 1.0),
            false => ending.multiply_first(&operand, &view.output, width, binding),
        }
        .ok_or_else(|| refuse("a scale or bias in more than eight dimensions".to_owned()))?;
    }
    if ending.reads.len() + 2 > caps.storage_buffers as usize {
        return Err(refuse("more tensors than the device binds".to_owned()));
    }
    let mut knobs = vec![("STATISTIC", operator.statistic.number()), ("VECTOR", u32::from(vector))];
    if row && lines.len > LONG {
        knobs.push(("WORKGROUP", 256));
    }
    let lanes = if vector { 4 } else { 1 };
    let groups = if row { lines.count() } else { lines.count().div_ceil(lanes * 64) };
    let params = params::norm::Normalize {
        lines: word(kernel, lines.count())?,
        len: word(kernel, lines.len)?,
        inner: word(kernel, lines.inner)?,
        epsilon: operator.epsilon,
    };
    let mut reads = vec![read.0];
    reads.extend(ending.reads);
    Ok(Candidate {
        dispatches: vec![Dispatch {
            kernel: Kernel {
                variant: if row { &table::NORMALIZE_ROW } else { &table::NORMALIZE },
                inputs: vec![(read.1, width)],
                knobs,
                expression: ending.expression,
            },
            reads,
            writes: vec![Binding::Output(0)],
            params: bytemuck::bytes_of(&params).to_vec(),
            operands: ending.operands,
            grid: linear_grid(kernel, groups, caps)?,
        }],
        ..Candidate::default()
    })
}
