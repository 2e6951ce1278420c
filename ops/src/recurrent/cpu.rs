//! Recurrent networks of f32 on the CPU: one matrix product for the inputs of all steps, then the steps.

use rayon::prelude::*;

use super::activation::{Activation, within};
use super::extents::{Extents, input};
use super::operator::{Cell, Recurrent};
use crate::cpu::gemm::{Matrix, Store, multiply, multiply_into};
use crate::cpu::tiles::{Grid, for_each_tile};
use crate::cpu::{fill_floats, floats, is_float, scratch_floats, widened};
use crate::error::OpError;
use crate::operator::{CpuKernel, CpuRun};
use crate::problem::{Operand, Problem};

/// Sequences of a task from which on the recurrent weights are worth having with rows along the gates.
const MANY: usize = 9;
/// Most elements of a constant that is worth holding twice.
const MOST: usize = 16 << 20;

/// A recurrent operator on inputs of known sizes.
pub(super) struct RecurrentKernel {
    operator: Recurrent,
    extents: Extents,
    /// Sequences that one task walks along together.
    together: usize,
    input_weights: Weights,
    recurrent_weights: Weights,
}

/// Weights, and how a product reads them.
struct Weights {
    /// In another layout or type than they are given in.
    packed: Option<Vec<f32>>,
    /// Rows lie along the gates.
    transposed: bool,
}

impl Weights {
    /// Transposes constants where it `pays`. `rows` are those of each matrix.
    fn prepare(weights: &Operand<'_>, rows: usize, columns: usize, pays: bool) -> Result<Weights, OpError> {
        match weights.value.filter(|value| pays && value.len() <= MOST) {
            Some(value) => {
                let value = value.clone().aligned();
                let packed = transpose(&floats(&value.view())?, rows, columns);
                Ok(Weights { packed: Some(packed), transposed: true })
            }
            None => Ok(Weights { packed: widened(weights)?, transposed: false }),
        }
    }

    /// The transpose of `rows` rows and `columns` columns of `data`, as the right factor of a product.
    fn matrix<'a>(&self, data: &'a [f32], rows: usize, columns: usize) -> Matrix<'a> {
        match self.transposed {
            true => Matrix { data, row_stride: rows, column_stride: 1 },
            false => Matrix { data, row_stride: 1, column_stride: columns },
        }
    }
}

impl RecurrentKernel {
    /// The kernel for a problem; `None` when it is not over floats of 16 or 32 bits, or something is empty.
    pub fn prepare(
        operator: &Recurrent,
        problem: &Problem<'_>,
    ) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        let extents = operator.extents(problem)?;
        let (Some(w), Some(r)) = (problem.input(input::W), problem.input(input::R)) else { return Ok(None) };
        let wanted = operator.wanted.iter().filter(|&&wanted| wanted).count();
        let all_floats = is_float(w.dtype) && problem.outputs.iter().all(|output| output.dtype == w.dtype);
        if extents.is_empty() || !all_floats || problem.outputs.len() != wanted {
            return Ok(None);
        }
        let threads = rayon::current_num_threads().div_ceil(extents.directions).max(1);
        let together = extents.batch.div_ceil(threads);
        let all_rows = extents.directions * extents.gate_rows();
        let rows = extents.steps * extents.batch;
        Ok(Some(Box::new(RecurrentKernel {
            operator: operator.clone(),
            extents,
            together,
            input_weights: Weights::prepare(w, all_rows, extents.input, rows > 1)?,
            recurrent_weights: Weights::prepare(r, extents.gate_rows(), extents.hidden, together >= MANY)?,
        })))
    }

    /// Elements of scratch memory for the products of all steps with the input weights.
    fn products(&self) -> usize {
        let Extents { steps, batch, directions, .. } = self.extents;
        steps * batch * directions * self.extents.gate_rows()
    }

    /// Elements of scratch memory for each sequence and direction: two states, the sums of all gates, what is made of
    /// them, and the scaled state of a GRU with its product.
    fn each(&self) -> usize {
        (2 * self.extents.gates + 4) * self.extents.hidden
    }

    /// Adds the products of all steps to the biases that belong to them.
    fn project(
        &self,
        x: &[f32],
        w: &[f32],
        bias: Option<&[f32]>,
        products: &mut [f32],
    ) -> Result<(), OpError> {
        let Extents { steps, batch, input, directions, hidden, gates, .. } = self.extents;
        let own_rows = self.extents.gate_rows();
        let columns = directions * own_rows;
        // The new state's own addend of a GRU that scales its product stays there.
        let apart = matches!(self.operator.cell, Cell::Gru { linear_before_reset: true });
        let merged = if apart { (gates - 1) * hidden } else { own_rows };
        let addend = |column: usize| {
            let (direction, row) = (column / own_rows, column % own_rows);
            let at = |which: usize| bias.and_then(|bias| bias.get(direction * 2 * own_rows + which + row));
            let recurrent = if row < merged { at(own_rows) } else { None };
            at(0).copied().unwrap_or(0.0) + recurrent.copied().unwrap_or(0.0)
        };
        let flops = [steps * batch, columns, input].iter().fold(2u64, |all, &n| all.saturating_mul(n as u64));
        let grid = Grid::balanced(1, steps * batch, columns, flops);
        let left = Matrix { data: x, row_stride: input, column_stride: 1 };
        let right = self.input_weights.matrix(w, columns, input);
        for_each_tile(products, 0, &grid, (&mut [], 0), None, |tile, _| {
            for row in 0..tile.rows {
                let first = tile.column;
                tile.row_mut(row).iter_mut().enumerate().for_each(|(k, slot)| *slot = addend(first + k));
            }
            let (left, right) = (left.from(tile.row, 0), right.from(0, tile.column));
            multiply(tile, left, right, input, 1.0, Store::Add)
        })
    }
}

/// Some sequences in one direction, and the memory for their steps.
struct Task<'a> {
    direction: usize,
    first: usize,
    lengths: &'a [usize],
    memory: &'a mut [f32],
}

/// What all tasks read.
struct Shared<'a> {
    products: &'a [f32],
    recurrent: &'a [f32],
    bias: Option<&'a [f32]>,
    peepholes: Option<&'a [f32]>,
}

impl RecurrentKernel {
    /// Walks along the sequences of a task. Its states are the first two parts of its memory. The hidden state of each
    /// step goes to `outputs`, sequence by sequence, unless they are empty.
    fn walk(
        &self,
        task: &mut Task<'_>,
        outputs: &mut [&mut [f32]],
        shared: &Shared<'_>,
    ) -> Result<(), OpError> {
        let Extents { steps, hidden, directions, .. } = self.extents;
        let (count, rows) = (task.lengths.len(), self.extents.gate_rows());
        let (states, memory) = task.memory.split_at_mut(count * hidden);
        let (cells, memory) = memory.split_at_mut(count * hidden);
        let (sums, memory) = memory.split_at_mut(count * rows);
        let (gates, memory) = memory.split_at_mut(count * rows);
        let (scaled, new_sums) = memory.split_at_mut(count * hidden);
        let activations = self.operator.activations_of(task.direction);
        let direction = task.direction;
        let step = Step {
            activations,
            clip: self.operator.clip.unwrap_or(f32::INFINITY),
            peepholes: shared.peepholes.and_then(|all| all.get(direction * 3 * hidden..)),
            // The addends of the products with the hidden state.
            bias: shared.bias.and_then(|all| all.get((2 * direction + 1) * rows..)),
        };
        let own = shared.recurrent.get(task.direction * rows * hidden..).unwrap_or(&[]);
        let right = self.recurrent_weights.matrix(own, rows, hidden);
        // A GRU may need its reset gates before the product that makes the new state.
        let late = self.operator.cell == Cell::Gru { linear_before_reset: false };
        let early_rows = if late { rows - hidden } else { rows };
        let longest = task.lengths.iter().copied().max().unwrap_or(0).min(steps);
        let place = |index: usize, k: usize| {
            let length = task.lengths[index];
            let step = if self.operator.direction.reverses(task.direction) { length - 1 - k } else { k };
            let row = self.extents.input_row(step, task.first + index);
            (step, (row * directions + task.direction) * rows)
        };
        for k in 0..longest {
            let left = Matrix { data: states, row_stride: hidden, column_stride: 1 };
            multiply_into(sums, count, early_rows, hidden, left, right)?;
            let active = || (0..count).filter(|&index| k < task.lengths[index]);
            if late {
                for index in active() {
                    let at = place(index, k).1;
                    let state = &states[index * hidden..][..hidden];
                    step.gru_gates(
                        &shared.products[at..at + early_rows],
                        &mut sums[index * early_rows..][..early_rows],
                        &mut gates[index * rows..][..early_rows],
                    );
                    let reset = &gates[index * rows + hidden..][..hidden];
                    let slots = scaled[index * hidden..].iter_mut().zip(reset).zip(state);
                    slots.for_each(|((slot, reset), state)| *slot = reset * state);
                }
                let left = Matrix { data: scaled, row_stride: hidden, column_stride: 1 };
                multiply_into(new_sums, count, hidden, hidden, left, right.from(0, early_rows))?;
            }
            for index in active() {
                let (at, products) = place(index, k);
                let products = &shared.products[products..products + rows];
                let state = &mut states[index * hidden..][..hidden];
                let gates = &mut gates[index * rows..][..rows];
                match self.operator.cell {
                    Cell::Lstm { coupled } => {
                        let cell = &mut cells[index * hidden..][..hidden];
                        step.lstm(coupled, products, &mut sums[index * rows..][..rows], gates, state, cell);
                    }
                    Cell::Gru { linear_before_reset: true } => {
                        let sums = &mut sums[index * rows..][..rows];
                        let (early, new) = sums.split_at_mut(2 * hidden);
                        step.gru_gates(&products[..2 * hidden], early, &mut gates[..2 * hidden]);
                        step.gru_scale(&gates[hidden..2 * hidden], new);
                        step.gru_state(&products[2 * hidden..], new, gates, state);
                    }
                    Cell::Gru { linear_before_reset: false } => {
                        let new = &mut new_sums[index * hidden..][..hidden];
                        step.gru_state(&products[2 * hidden..], new, gates, state);
                    }
                    Cell::Rnn => {
                        let sums = &mut sums[index * rows..][..rows];
                        step.add_products(products, sums);
                        step.activate(0, sums, state);
                    }
                }
                if let Some(slot) = outputs.get_mut(index * steps + at) {
                    slot.copy_from_slice(state);
                }
            }
        }
        Ok(())
    }
}

/// What the steps of one direction have in common.
struct Step<'a> {
    activations: &'a [Activation],
    clip: f32,
    peepholes: Option<&'a [f32]>,
    bias: Option<&'a [f32]>,
}

impl Step<'_> {
    fn add_products(&self, products: &[f32], sums: &mut [f32]) {
        sums.iter_mut().zip(products).for_each(|(sum, product)| *sum += product);
    }

    /// The values of function `index`. The sums are overwritten.
    fn activate(&self, index: usize, sums: &mut [f32], values: &mut [f32]) {
        let clip = self.clip;
        if clip < f32::INFINITY {
            sums.iter_mut().for_each(|sum| *sum = within(*sum, -clip, clip));
        }
        self.activate_whole(index, sums, values);
    }

    /// The same without a limit.
    fn activate_whole(&self, index: usize, sums: &mut [f32], values: &mut [f32]) {
        if let Some(activation) = self.activations.get(index) {
            activation.apply(sums, values);
        }
    }

    /// Adds the cell state as gate `gate` sees it.
    fn peep(&self, gate: usize, cell: &[f32], sums: &mut [f32]) {
        let Some(peepholes) = self.peepholes else { return };
        let factors = peepholes.iter().skip(gate * cell.len());
        for ((sum, cell), factor) in sums.iter_mut().zip(cell).zip(factors) {
            *sum += factor * cell;
        }
    }

    fn lstm(
        &self,
        coupled: bool,
        products: &[f32],
        sums: &mut [f32],
        gates: &mut [f32],
        state: &mut [f32],
        cell: &mut [f32],
    ) {
        let size = state.len();
        self.add_products(products, sums);
        let (enter_sums, rest) = sums.split_at_mut(size);
        let (leave_sums, rest) = rest.split_at_mut(size);
        let (keep_sums, new_sums) = rest.split_at_mut(size);
        let (enter, rest) = gates.split_at_mut(size);
        let (leave, rest) = rest.split_at_mut(size);
        let (keep, new) = rest.split_at_mut(size);
        self.peep(0, cell, enter_sums);
        self.activate(0, enter_sums, enter);
        if coupled {
            keep.iter_mut().zip(&*enter).for_each(|(keep, enter)| *keep = 1.0 - enter);
        } else {
            self.peep(2, cell, keep_sums);
            self.activate(0, keep_sums, keep);
        }
        self.activate(1, new_sums, new);
        for (((cell, keep), enter), new) in cell.iter_mut().zip(&*keep).zip(&*enter).zip(&*new) {
            *cell = keep * *cell + enter * new;
        }
        self.peep(1, cell, leave_sums);
        self.activate(0, leave_sums, leave);
        enter_sums.copy_from_slice(cell);
        self.activate_whole(2, enter_sums, state);
        state.iter_mut().zip(&*leave).for_each(|(state, leave)| *state *= leave);
    }

    /// The update and reset gates.
    fn gru_gates(&self, products: &[f32], sums: &mut [f32], gates: &mut [f32]) {
        self.add_products(products, sums);
        self.activate(0, sums, gates);
    }

    /// Adds the bias to the product that makes the new state, and scales it by the reset gate.
    fn gru_scale(&self, reset: &[f32], new: &mut [f32]) {
        if let Some(bias) = self.bias {
            self.add_products(bias.get(2 * reset.len()..).unwrap_or(&[]), new);
        }
        new.iter_mut().zip(reset).for_each(|(new, reset)| *new *= reset);
    }

    /// The new state, with the reset gates as room for what is not kept.
    fn gru_state(&self, products: &[f32], sums: &mut [f32], gates: &mut [f32], state: &mut [f32]) {
        let (update, rest) = gates.split_at_mut(state.len());
        let new = &mut rest[..state.len()];
        self.add_products(products, sums);
        self.activate(1, sums, new);
        for ((state, update), new) in state.iter_mut().zip(&*update).zip(&*new) {
            *state = (1.0 - update) * new + update * *state;
        }
    }
}

impl CpuKernel for RecurrentKernel {
    fn reads_elements(&self, index: usize) -> bool {
        match index {
            input::W => self.input_weights.packed.is_none(),
            input::R => self.recurrent_weights.packed.is_none(),
            _ => true,
        }
    }

    fn run(&self, run: &mut CpuRun<'_, '_>) -> Result<(), OpError> {
        let extents = &self.extents;
        let Extents { batch, hidden, directions, .. } = *extents;
        let view = |index: usize| run.inputs.get(index).and_then(Option::as_ref);
        let given = |index: usize| view(index).map(floats).transpose();
        let missing = || OpError::Internal("an input is missing");
        let x = given(input::X)?.ok_or_else(missing)?;
        let weights = |index: usize, weights: &Weights| match weights.packed {
            Some(_) => Ok(Default::default()),
            None => given(index)?.ok_or_else(missing),
        };
        let (w, r) = (weights(input::W, &self.input_weights)?, weights(input::R, &self.recurrent_weights)?);
        let (bias, peepholes) = (given(input::BIAS)?, given(input::PEEPHOLES)?);
        let (first_states, first_cells) = (given(input::HIDDEN)?, given(input::CELL)?);
        let lengths = extents.lengths(view(input::LENGTHS).map(|view| view.slice::<i32>()))?;

        let (products, memory) = scratch_floats(run.scratch)
            .split_at_mut_checked(self.products())
            .ok_or(OpError::Internal("less scratch memory than asked for"))?;
        let w = self.input_weights.packed.as_deref().unwrap_or(&w);
        self.project(&x, w, bias.as_deref(), products)?;

        let mut parts = Vec::with_capacity(directions * batch.div_ceil(self.together));
        let mut rest = memory;
        for direction in 0..directions {
            for (group, lengths) in lengths.chunks(self.together).enumerate() {
                let wanted = lengths.len() * self.each();
                let (memory, after) = std::mem::take(&mut rest)
                    .split_at_mut_checked(wanted)
                    .ok_or(OpError::Internal("less scratch memory than asked for"))?;
                rest = after;
                let first = group * self.together;
                let (states, cells) = memory.split_at_mut(lengths.len() * hidden);
                for (states, given) in [(states, &first_states), (cells, &first_cells)] {
                    for (index, state) in states.chunks_exact_mut(hidden).take(lengths.len()).enumerate() {
                        let at = extents.state_row(direction, first + index) * hidden;
                        match given.as_ref().and_then(|given| given.get(at..at + hidden)) {
                            Some(given) => state.copy_from_slice(given),
                            None => state.fill(0.0),
                        }
                    }
                }
                parts.push(Task { direction, first, lengths, memory });
            }
        }
        let shared = Shared {
            products,
            recurrent: self.recurrent_weights.packed.as_deref().unwrap_or(&r),
            bias: bias.as_deref(),
            peepholes: peepholes.as_deref(),
        };
        let mut outputs = run.outputs.iter_mut();
        if self.operator.wanted[0] {
            let output = outputs.next().ok_or(OpError::Internal("an output is missing"))?;
            fill_floats(output, |sequence| self.walk_all(&mut parts, &shared, sequence))?;
        } else {
            self.walk_all(&mut parts, &shared, &mut [])?;
        }
        for (which, _) in self.operator.wanted.iter().enumerate().skip(1).filter(|(_, wanted)| **wanted) {
            let output = outputs.next().ok_or(OpError::Internal("an output is missing"))?;
            fill_floats(output, |states| {
                for task in &parts {
                    let count = task.lengths.len();
                    let own = task.memory.chunks_exact(hidden).skip((which - 1) * count).take(count);
                    for (index, state) in own.enumerate() {
                        let at = extents.state_row(task.direction, task.first + index) * hidden;
                        states[at..at + hidden].copy_from_slice(state);
                    }
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    fn scratch(&self) -> usize {
        4 * (self.products() + self.extents.directions * self.extents.batch * self.each())
    }
}

impl RecurrentKernel {
    /// Walks along all sequences; the states of all steps go to `sequence`, unless it is empty.
    fn walk_all(
        &self,
        tasks: &mut [Task<'_>],
        shared: &Shared<'_>,
        sequence: &mut [f32],
    ) -> Result<(), OpError> {
        // What lies beyond a sequence's own length.
        sequence.fill(0.0);
        let Extents { steps, hidden, .. } = self.extents;
        let mut rows: Vec<Option<&mut [f32]>> = sequence.chunks_exact_mut(hidden).map(Some).collect();
        let mut outputs: Vec<Vec<&mut [f32]>> = Vec::with_capacity(tasks.len());
        for task in &*tasks {
            let wanted = if rows.is_empty() { 0 } else { task.lengths.len() };
            let places = (0..wanted).flat_map(|index| (0..steps).map(move |step| (index, step)));
            let row = |(index, step)| {
                let row = self.extents.output_row(step, task.direction, task.first + index);
                rows.get_mut(row).and_then(Option::take).ok_or(OpError::Internal("an output row is missing"))
            };
            outputs.push(places.map(row).collect::<Result<_, _>>()?);
        }
        match (tasks, outputs.as_mut_slice()) {
            ([task], [outputs]) => self.walk(task, outputs, shared),
            (tasks, outputs) => {
                let all = tasks.par_iter_mut().zip(outputs);
                all.try_for_each(|(task, outputs)| self.walk(task, outputs, shared))
            }
        }
    }
}

/// Matrices of `rows` rows and `columns` columns, one behind the other, each transposed.
fn transpose(data: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut result = Vec::with_capacity(data.len());
    for matrix in data.chunks_exact((rows * columns).max(1)) {
        for column in 0..columns {
            result.extend(matrix.iter().skip(column).step_by(columns));
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::check::{numbers, random, run_cpu};
    use crate::ir::tensor::Tensor;
    use crate::ir::view::View;
    use crate::operator::Operator;
    use crate::recurrent::{Activation, Curve, Direction};

    #[test]
    fn the_cpu_kernel_agrees_with_the_reference() {
        let cells = [
            Cell::Lstm { coupled: false },
            Cell::Lstm { coupled: true },
            Cell::Gru { linear_before_reset: false },
            Cell::Gru { linear_before_reset: true },
            Cell::Rnn,
        ];
        for cell in cells {
            for (steps, batch, size, hidden) in [(1, 1, 1, 1), (5, 3, 2, 17), (3, 20, 4, 5)] {
                let operator = Recurrent {
                    cell,
                    direction: Direction::Both,
                    batch_first: batch == 3,
                    hidden_size: None,
                    activations: vec![Activation::plain(Curve::Tanh); 6],
                    clip: (batch == 20).then_some(0.5),
                    wanted: [true, false, false],
                };
                let rows = cell.gates() * hidden;
                let x = if batch == 3 { [batch, steps, size] } else { [steps, batch, size] };
                let state = if batch == 3 { [batch, 2, hidden] } else { [2, batch, hidden] };
                let lengths: Vec<i32> = (0..batch).map(|index| (index % (steps + 1)) as i32).collect();
                let mut inputs = vec![
                    Some(random(&x, 1)),
                    Some(random(&[2, rows, size], 2)),
                    Some(random(&[2, rows, hidden], 3)),
                    Some(random(&[2, 2 * rows], 4)),
                    Some(Tensor::from_vec(&[batch], lengths).unwrap()).filter(|_| batch > 1),
                    Some(random(&state, 5)),
                ];
                if cell.has_cell_state() {
                    inputs.extend([Some(random(&state, 6)), Some(random(&[2, 3 * hidden], 7))]);
                }
                let views: Vec<Option<View<'_>>> =
                    inputs.iter().map(|tensor| tensor.as_ref().map(Tensor::view)).collect();
                let exact = numbers(&operator.reference(&views, 1).unwrap()[0]);
                for (threads, constant) in [(1, &[][..]), (1, &[1, 2]), (3, &[1, 2])] {
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                    let got = pool.install(|| run_cpu(&operator, &inputs, constant, None)).expect("a kernel");
                    for (got, exact) in numbers(&got).iter().zip(&exact) {
                        assert!((got - exact).abs() < 1e-5, "{operator:?}: {got}, not {exact}");
                    }
                }
            }
        }
    }
}
