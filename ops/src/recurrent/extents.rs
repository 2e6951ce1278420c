//! The sizes of a recurrent operator's tensors, and where their rows lie.

use super::operator::Recurrent;
use crate::error::OpError;
use crate::ir::tensor::element_count;

/// Indices of the inputs.
pub(super) mod input {
    pub const X: usize = 0;
    pub const W: usize = 1;
    pub const R: usize = 2;
    pub const BIAS: usize = 3;
    pub const LENGTHS: usize = 4;
    pub const HIDDEN: usize = 5;
    pub const CELL: usize = 6;
    pub const PEEPHOLES: usize = 7;
    /// How many there are at most.
    pub const COUNT: usize = 8;
}

/// The sizes of one problem.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Extents {
    /// Elements of a sequence.
    pub steps: usize,
    /// Sequences.
    pub batch: usize,
    /// Numbers of each element.
    pub input: usize,
    /// Numbers of the hidden state.
    pub hidden: usize,
    /// 2 when sequences are read both ways.
    pub directions: usize,
    /// Rows of the weights for each number of the hidden state.
    pub gates: usize,
    /// The batch is the outermost dimension.
    pub batch_first: bool,
}

impl Extents {
    /// The sizes that the dimensions of the inputs give.
    ///
    /// # Errors
    /// When they do not fit together.
    pub fn new<'a>(
        operator: &Recurrent,
        dims: impl Fn(usize) -> Option<&'a [usize]>,
    ) -> Result<Extents, OpError> {
        let three = |index: usize| match dims(index) {
            Some(&[a, b, c]) => Ok([a, b, c]),
            Some(other) => Err(OpError::constraint("rank of X, W and R", 3, other.len())),
            None => Err(OpError::Arity { what: "inputs", expected: "at least 3", got: index }),
        };
        let ([outer, inner, input], [_, _, hidden]) = (three(input::X)?, three(input::R)?);
        let (steps, batch) = if operator.batch_first { (inner, outer) } else { (outer, inner) };
        let extents = Extents {
            steps,
            batch,
            input,
            hidden,
            directions: operator.direction.count(),
            gates: operator.cell.gates(),
            batch_first: operator.batch_first,
        };
        if operator.hidden_size.is_some_and(|size| size != hidden) {
            return Err(OpError::constraint("hidden_size", hidden, operator.hidden_size.unwrap_or(0)));
        }
        // The largest thing that anyone computes with, in bytes.
        let room = [steps.max(1), batch.max(1), extents.directions, 2 * extents.gates + 6, hidden, 8];
        element_count(&room).ok_or(OpError::Size)?;
        let rows = extents.gate_rows();
        let state = extents.state_dims();
        let expected: [(usize, &'static str, &[usize]); input::COUNT - 1] = [
            (input::W, "dimensions of W", &[extents.directions, rows, input]),
            (input::R, "dimensions of R", &[extents.directions, rows, hidden]),
            (input::BIAS, "dimensions of B", &[extents.directions, 2 * rows]),
            (input::LENGTHS, "dimensions of sequence_lens", &[batch]),
            (input::HIDDEN, "dimensions of initial_h", &state),
            (input::CELL, "dimensions of initial_c", &state),
            (input::PEEPHOLES, "dimensions of P", &[extents.directions, 3 * hidden]),
        ];
        for (index, what, expected) in expected {
            if let Some(got) = dims(index)
                && got != expected
            {
                return Err(OpError::constraint(what, format!("{expected:?}"), format!("{got:?}")));
            }
        }
        Ok(extents)
    }

    /// Rows of the weights of one direction.
    pub fn gate_rows(&self) -> usize {
        self.gates * self.hidden
    }

    /// Whether any tensor is empty.
    pub fn is_empty(&self) -> bool {
        [self.steps, self.batch, self.input, self.hidden].contains(&0)
    }

    /// The dimensions of the output for all steps.
    pub fn sequence_dims(&self) -> [usize; 4] {
        let Extents { steps, batch, hidden, directions, .. } = *self;
        if self.batch_first { [batch, steps, directions, hidden] } else { [steps, directions, batch, hidden] }
    }

    /// The dimensions of the states.
    pub fn state_dims(&self) -> [usize; 3] {
        let Extents { batch, hidden, directions, .. } = *self;
        if self.batch_first { [batch, directions, hidden] } else { [directions, batch, hidden] }
    }

    /// The row of X that holds a step of a sequence.
    pub fn input_row(&self, step: usize, sequence: usize) -> usize {
        if self.batch_first { sequence * self.steps + step } else { step * self.batch + sequence }
    }

    /// The row of the output for all steps.
    pub fn output_row(&self, step: usize, direction: usize, sequence: usize) -> usize {
        if self.batch_first {
            (sequence * self.steps + step) * self.directions + direction
        } else {
            (step * self.directions + direction) * self.batch + sequence
        }
    }

    /// The row of a state.
    pub fn state_row(&self, direction: usize, sequence: usize) -> usize {
        if self.batch_first {
            sequence * self.directions + direction
        } else {
            direction * self.batch + sequence
        }
    }

    /// The length of each sequence.
    ///
    /// # Errors
    /// When one is negative or longer than the steps there are.
    pub fn lengths(&self, given: Option<&[i32]>) -> Result<Vec<usize>, OpError> {
        let Some(given) = given else { return Ok(vec![self.steps; self.batch]) };
        let length = |&length: &i32| {
            let fits = usize::try_from(length).ok().filter(|&length| length <= self.steps);
            fits.ok_or_else(|| OpError::constraint("sequence_lens", format!("0 to {}", self.steps), length))
        };
        let all: Vec<usize> = given.iter().map(length).collect::<Result<_, _>>()?;
        if all.len() != self.batch {
            return Err(OpError::Internal("a length for each sequence"));
        }
        Ok(all)
    }
}
