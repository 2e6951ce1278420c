//! Recurrent networks on the GPU: a matrix product for the inputs of all steps, a launch that walks along all sequences
//! at once, and copies of its results to the outputs that are wanted.

use sardonyx_shaders::expression::Expression;
use sardonyx_shaders::params;
use sardonyx_shaders::storage::{Storage, ValueType, Width};
use sardonyx_shaders::{Capabilities, Kernel, table};

use super::activation::Activation;
use super::extents::{Extents, input};
use super::operator::{Cell, Recurrent};
use crate::dispatch::{Binding, Candidate, Dispatch, Lowering, Refusal, Scratch, linear_grid, word};
use crate::ir::dtype::DType;
use crate::ir::numbers::filled;
use crate::matmul::gpu::Factors;
use crate::matmul::product::Product;
use crate::movement::strided::{self, Strided};
use crate::problem::{Operand, Problem};
use crate::repacked::Repacked;

/// Largest hidden state that the kernel's workgroup memory holds.
const MOST: usize = 1024;
/// Products that one invocation may add up one after the other, so that a launch does not hold up the device.
const LONGEST: usize = 1 << 22;
/// Functions of a direction that the kernel's parameters have room for.
const FUNCTIONS: usize = 3;

/// The ways to do a problem: one for each way to do the product of the inputs.
pub(super) fn lower(operator: &Recurrent, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
    let kernel = table::RECURRENT.name;
    let refused = |reason: &str| Lowering::refused(kernel, reason);
    let extents = match operator.extents(problem) {
        Ok(extents) => extents,
        Err(error) => return refused(&error.to_string()),
    };
    if extents.is_empty() {
        return refused("an empty input");
    }
    let (Some(x), Some(w)) = (problem.input(input::X), problem.input(input::W)) else {
        return refused("an input is missing");
    };
    let rows = extents.steps * extents.batch;
    let columns = extents.directions * extents.gate_rows();
    let (left, right, result) = ([rows, extents.input], [columns, extents.input], [rows, columns]);
    let Ok(product) = Product::new(&left, &right, false, true) else {
        return refused("the product of its inputs is too large");
    };
    let products = Problem {
        inputs: vec![Some(Operand { dims: &left, ..*x }), Some(Operand { dims: &right, ..*w })],
        outputs: vec![Operand { dtype: DType::F32, dims: &result, value: None, storage: Some(Storage::F32) }],
        epilogue: None,
    };
    let mut lowering = Factors { product, scale: 1.0, a: 0, b: 1, addend: None }.lower(&products, caps);
    for mut candidate in std::mem::take(&mut lowering.candidates) {
        lowering.push(walk(operator, &extents, problem, &mut candidate, caps).map(|()| candidate));
    }
    lowering
}

/// Adds the walk along the sequences to a candidate that computes the products of the inputs.
fn walk(
    operator: &Recurrent,
    extents: &Extents,
    problem: &Problem<'_>,
    candidate: &mut Candidate,
    caps: &Capabilities,
) -> Result<(), Refusal> {
    let kernel = table::RECURRENT.name;
    let refuse = |reason: String| Refusal { kernel, reason };
    let Extents { steps, batch, hidden, directions, .. } = *extents;
    let workgroup = if hidden <= 64 { 64 } else { 256 };
    if hidden > MOST {
        return Err(refuse(format!("{hidden} numbers of the hidden state; workgroup memory holds {MOST}")));
    }
    if steps.saturating_mul(hidden * hidden.div_ceil(workgroup)) > LONGEST {
        return Err(refuse(format!("{steps} steps of {hidden} numbers in one launch")));
    }
    let (first, second) = (operator.activations_of(0), operator.activations_of(directions - 1));
    if first.iter().zip(second).any(|(a, b)| a.curve != b.curve) {
        return Err(refuse("directions with different functions".to_owned()));
    }
    let wanted: Vec<usize> = (0..3).filter(|&index| operator.wanted[index]).collect();
    if wanted.len() != problem.outputs.len() {
        return Err(refuse("outputs that the model does not name".to_owned()));
    }

    // The product wrote to what the problem has as its output.
    let products = Binding::Scratch(candidate.scratch.len());
    candidate.scratch.push(Scratch { storage: Storage::F32, len: steps * batch * columns(extents) });
    for write in candidate.dispatches.iter_mut().flat_map(|dispatch| &mut dispatch.writes) {
        if *write == Binding::Output(0) {
            *write = products;
        }
    }
    let states = extents.state_dims().iter().product::<usize>();
    let sequence = if operator.wanted[0] { states * steps } else { 0 };
    let results = Binding::Scratch(candidate.scratch.len());
    candidate.scratch.push(Scratch { storage: Storage::F32, len: sequence + 2 * states });
    if sequence + 2 * states >= 1 << 31 {
        return Err(refuse("results of 2^31 elements or more".to_owned()));
    }

    let rows = extents.gate_rows();
    let weights = problem.input(input::R).ok_or_else(|| refuse("an input is missing".to_owned()))?;
    let weights_storage = problem.stored(kernel, Some(weights))?;
    let mut strides = (hidden, 1);
    let mut weights_binding = Binding::Input(input::R);
    // With rows along the gates neighbouring invocations read neighbouring elements.
    let (shape, moves) = ([directions, hidden, rows], [rows * hidden, 1, hidden]);
    if let Some(packed) = weights.value.and_then(|value| Repacked::reordered(value, &shape, &moves, 1).ok()) {
        weights_binding = Binding::Packed(candidate.packed.len());
        candidate.packed.push((packed, weights_storage));
        strides = (1, rows);
    }
    let mut reads = vec![products, weights_binding];
    let mut inputs = vec![(Storage::F32, Width::One), (weights_storage, Width::One)];
    let lstm = operator.cell.has_cell_state();
    let optional = [
        (input::BIAS, directions * 2 * rows),
        (input::LENGTHS, batch),
        (input::HIDDEN, states),
        (input::CELL, if lstm { states } else { 1 }),
        (input::PEEPHOLES, if lstm { directions * 3 * hidden } else { 1 }),
    ];
    for (index, len) in optional {
        if let Some(operand) = problem.input(index) {
            reads.push(Binding::Input(index));
            inputs.push((problem.stored(kernel, Some(operand))?, Width::One));
            continue;
        }
        let (made, storage) = if index == input::LENGTHS {
            let steps = i32::try_from(steps).map_err(|_| refuse(format!("{steps} steps")))?;
            (filled(&[len], steps).and_then(Repacked::made), Storage::I32)
        } else {
            (filled(&[len], 0.0f32).and_then(Repacked::made), Storage::F32)
        };
        let stand_in = made.map_err(|error| refuse(error.to_string()))?;
        reads.push(Binding::Packed(candidate.packed.len()));
        inputs.push((storage, Width::One));
        candidate.packed.push((stand_in, storage));
    }
    if reads.len() + 1 > caps.storage_buffers as usize {
        return Err(refuse("more tensors than the device binds".to_owned()));
    }

    let mut functions = [0.0; 24];
    for (direction, own) in [first, second].into_iter().enumerate().take(directions) {
        for (slot, activation) in functions.chunks_exact_mut(4).skip(direction * FUNCTIONS).zip(own) {
            slot[..2].copy_from_slice(&[activation.alpha, activation.beta]);
        }
    }
    let one = |row: usize| word(kernel, row * hidden);
    let params = params::recurrent::Recurrent {
        steps: word(kernel, steps)?,
        batch: word(kernel, batch)?,
        directions: word(kernel, directions)?,
        hidden: word(kernel, hidden)?,
        product_step: word(kernel, extents.input_row(1, 0) * columns(extents))?,
        product_sequence: word(kernel, extents.input_row(0, 1) * columns(extents))?,
        weight_row: word(kernel, strides.0)?,
        weight_column: word(kernel, strides.1)?,
        output_step: one(extents.output_row(1, 0, 0))?,
        output_direction: one(extents.output_row(0, 1, 0))?,
        output_sequence: one(extents.output_row(0, 0, 1))?,
        states: word(kernel, sequence)?,
        state_direction: one(extents.state_row(1, 0))?,
        state_sequence: one(extents.state_row(0, 1))?,
        cells: word(kernel, sequence + states)?,
        reversed: (0..directions).map(|k| u32::from(operator.direction.reverses(k)) << k).sum(),
        functions,
        clip: operator.clip.unwrap_or(0.0),
        ..Default::default()
    };
    let curve = |index: usize| first.get(index).map_or(0, |activation: &Activation| activation.curve as u32);
    let (gate, new) = if operator.cell == Cell::Rnn { (0, 0) } else { (0, 1) };
    candidate.dispatches.push(Dispatch {
        kernel: Kernel {
            variant: &table::RECURRENT,
            inputs,
            knobs: vec![
                ("WORKGROUP", if workgroup == 64 { 64 } else { 256 }),
                ("CELL", cell(operator.cell)),
                ("SEQUENCE", u32::from(operator.wanted[0])),
                ("CLIP", u32::from(operator.clip.is_some())),
                ("GATE", curve(gate)),
                ("NEW", curve(new)),
                ("OUT", curve(2)),
            ],
            expression: Expression::store(ValueType::F32, Storage::F32, Width::One),
        },
        reads,
        writes: vec![results],
        params: bytemuck::bytes_of(&params).to_vec(),
        operands: Vec::new(),
        grid: linear_grid(kernel, batch * directions, caps)?,
    });
    for (place, index) in wanted.into_iter().enumerate() {
        let (offset, len) = match index {
            0 => (0, sequence),
            1 => (sequence, states),
            _ => (sequence + states, states),
        };
        let storage = problem.stored(kernel, problem.outputs.get(place))?;
        let copy = Strided::new(&[len], &[1], offset, sequence + 2 * states)
            .map_err(|error| refuse(error.to_string()))?;
        let ending = strided::plain(storage);
        candidate.dispatches.push(copy.dispatch(
            (results, Storage::F32),
            Binding::Output(place),
            ending,
            caps,
        )?);
    }
    Ok(())
}

/// Columns of the products of the inputs.
fn columns(extents: &Extents) -> usize {
    extents.directions * extents.gate_rows()
}

/// The number by which the kernel knows a cell.
fn cell(cell: Cell) -> u32 {
    match cell {
        Cell::Rnn => 0,
        Cell::Gru { linear_before_reset: false } => 1,
        Cell::Gru { linear_before_reset: true } => 2,
        Cell::Lstm { coupled: false } => 3,
        Cell::Lstm { coupled: true } => 4,
    }
}
