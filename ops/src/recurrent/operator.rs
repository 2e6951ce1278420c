//! The operator that LSTM, GRU and RNN are: a cell that walks along sequences.

use sardonyx_shaders::Capabilities;

use super::activation::Activation;
use super::cpu::RecurrentKernel;
use super::extents::{Extents, input};
use super::step::{State, Weights};
use super::{gpu, gru, lstm, rnn};
use crate::build::NodeSpec;
use crate::dispatch::Lowering;
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::numbers::{filled, float_tensor, floats, integers};
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::operator::{Cost, CpuKernel, Operator};
use crate::problem::Problem;

/// What happens in a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cell {
    /// A cell state behind input, output and forget gates.
    Lstm {
        /// The forget gate is what the input gate leaves.
        coupled: bool,
    },
    /// Update and reset gates.
    Gru {
        /// The reset gate scales the product with the hidden state rather than the hidden state.
        linear_before_reset: bool,
    },
    /// One function of the sums.
    Rnn,
}

/// Which way sequences are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From the first element to the last.
    Forward,
    /// From the last element to the first.
    Reverse,
    /// Both ways, each with its own weights.
    Both,
}

impl Direction {
    /// How many ways sequences are read.
    pub fn count(self) -> usize {
        if self == Direction::Both { 2 } else { 1 }
    }

    /// Whether direction `index` runs from the last element to the first.
    pub fn reverses(self, index: usize) -> bool {
        self == Direction::Reverse || index == 1
    }
}

impl Cell {
    /// Rows of the weights for each number of the hidden state.
    pub fn gates(self) -> usize {
        match self {
            Cell::Lstm { .. } => 4,
            Cell::Gru { .. } => 3,
            Cell::Rnn => 1,
        }
    }

    /// Whether there is a cell state besides the hidden state.
    pub fn has_cell_state(self) -> bool {
        matches!(self, Cell::Lstm { .. })
    }
}

/// A recurrent network of one layer. Its outputs are the hidden state after every step, the last hidden state, and for
/// LSTM the last cell state.
#[derive(Clone, PartialEq, Debug)]
pub struct Recurrent {
    /// What happens in a step.
    pub cell: Cell,
    /// Which way sequences are read.
    pub direction: Direction,
    /// The batch is the outermost dimension of sequences and states.
    pub batch_first: bool,
    /// Numbers of the hidden state, where the model says so.
    pub hidden_size: Option<usize>,
    /// The functions of the first direction, then those of the second.
    pub activations: Vec<Activation>,
    /// What enters a function stays within this distance of zero; the cell state of an LSTM is not limited.
    pub clip: Option<f32>,
    /// Which outputs are wanted.
    pub wanted: [bool; 3],
}

impl Recurrent {
    /// Reads what the three operators have in common. `defaults` are the functions of one direction.
    ///
    /// # Errors
    /// When an attribute breaks a rule, or there are too many inputs or outputs.
    pub fn build(spec: &NodeSpec<'_>, cell: Cell, defaults: &[super::Curve]) -> Result<Recurrent, OpError> {
        if cell.has_cell_state() {
            spec.expect_inputs(3, 8, "3 to 8")?;
        } else {
            spec.expect_inputs(3, 6, "3 to 6")?;
        }
        if spec.outputs.len() > 2 + usize::from(cell.has_cell_state()) {
            return Err(OpError::Arity {
                what: "outputs",
                expected: "at most 2, or 3 for LSTM",
                got: spec.outputs.len(),
            });
        }
        let direction = match spec.attributes.str("direction")? {
            None | Some("forward") => Direction::Forward,
            Some("reverse") => Direction::Reverse,
            Some("bidirectional") => Direction::Both,
            Some(_) => {
                let expected = "forward, reverse or bidirectional";
                return Err(OpError::Attribute { name: "direction", expected });
            }
        };
        let batch_first = match spec.opset {
            // Before opset 14 there is no such attribute.
            ..14 => false,
            _ => spec.attributes.flag("layout", false)?,
        };
        let clip = spec.attributes.float("clip")?.copied();
        if clip.is_some_and(|clip| clip.is_nan() || clip < 0.0) {
            return Err(OpError::Attribute { name: "clip", expected: "at least 0" });
        }
        let hidden_size = spec.attributes.int("hidden_size")?.copied().map(usize::try_from).transpose();
        Ok(Recurrent {
            cell,
            direction,
            batch_first,
            hidden_size: hidden_size.map_err(|_| OpError::Size)?,
            activations: Activation::list(spec, defaults, direction.count())?,
            clip,
            wanted: std::array::from_fn(|index| spec.outputs.get(index).copied().unwrap_or(false)),
        })
    }

    /// The functions of a direction.
    pub(super) fn activations_of(&self, direction: usize) -> &[Activation] {
        let each = self.activations.len() / self.direction.count();
        self.activations.get(direction * each..(direction + 1) * each).unwrap_or_default()
    }

    fn check_types(dtypes: impl Fn(usize) -> Option<DType>) -> Result<(), OpError> {
        let first = dtypes(input::X);
        for index in 0..input::COUNT {
            let Some(got) = dtypes(index) else { continue };
            let (fits, expected) = match index {
                input::LENGTHS => (got == DType::I32, "i32"),
                input::X => (got.is_float(), "a float"),
                _ => (Some(got) == first, "the type of X"),
            };
            if !fits {
                return Err(OpError::Type { input: index, expected, got });
            }
        }
        Ok(())
    }

    /// The sizes of a problem.
    pub(super) fn extents(&self, problem: &Problem<'_>) -> Result<Extents, OpError> {
        Extents::new(self, |index| problem.input(index).map(|operand| operand.dims))
    }

    /// One step of one sequence.
    fn step(&self, weights: &Weights<'_>, x: &[f64], state: &mut State<'_>) {
        match self.cell {
            Cell::Lstm { coupled } => lstm::step(weights, coupled, x, state),
            Cell::Gru { linear_before_reset } => gru::step(weights, linear_before_reset, x, state.hidden),
            Cell::Rnn => rnn::step(weights, x, state.hidden),
        }
    }
}

impl Operator for Recurrent {
    fn name(&self) -> &'static str {
        match self.cell {
            Cell::Lstm { .. } => "LSTM",
            Cell::Gru { .. } => "GRU",
            Cell::Rnn => "RNN",
        }
    }

    fn infer(&self, inputs: &[Option<&Fact>], outputs: usize) -> Result<Vec<Fact>, OpError> {
        let fact = |index: usize| inputs.get(index).copied().flatten();
        let x = fact(input::X).ok_or(OpError::Internal("an input is missing"))?;
        Recurrent::check_types(|index| fact(index).map(|fact| fact.dtype))?;
        for rank in [input::X, input::W, input::R].into_iter().filter_map(|index| fact(index)?.rank()) {
            if rank != 3 {
                return Err(OpError::constraint("rank of X, W and R", 3, rank));
            }
        }
        let known: Vec<Option<Vec<usize>>> = (0..input::COUNT).map(|index| fact(index)?.dims()).collect();
        if (0..input::COUNT).all(|index| fact(index).is_some() == known[index].is_some()) {
            Extents::new(self, |index| known.get(index)?.as_deref())?;
        }
        let size = |index: usize, axis: usize| fact(index)?.shape.as_ref()?.get(axis).cloned();
        let name = |part: &str| Dim::named(&format!("{}.{part}", self.name()));
        let (step_axis, batch_axis) = if self.batch_first { (1, 0) } else { (0, 1) };
        let steps = size(input::X, step_axis).unwrap_or_else(|| name("steps"));
        let batch = size(input::X, batch_axis).unwrap_or_else(|| name("batch"));
        let hidden = match self.hidden_size {
            Some(size) => Dim::Known(size),
            None => size(input::R, 2).unwrap_or_else(|| name("hidden")),
        };
        let directions = Dim::Known(self.direction.count());
        let (sequence, state) = if self.batch_first {
            (vec![batch.clone(), steps, directions.clone(), hidden.clone()], vec![batch, directions, hidden])
        } else {
            (vec![steps, directions.clone(), batch.clone(), hidden.clone()], vec![directions, batch, hidden])
        };
        let mut all =
            vec![Fact::new(x.dtype, sequence), Fact::new(x.dtype, state.clone()), Fact::new(x.dtype, state)];
        all.truncate(outputs.max(1));
        Ok(all)
    }

    fn reference(&self, inputs: &[Option<View<'_>>], outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let view = |index: usize| inputs.get(index).and_then(Option::as_ref);
        Recurrent::check_types(|index| view(index).map(|view| view.dtype))?;
        let extents = Extents::new(self, |index| view(index).map(|view| view.dims))?;
        let Extents { steps, batch, hidden, directions, .. } = extents;
        let rows = extents.gate_rows();
        let given = |index: usize, otherwise: &[usize]| match view(index) {
            Some(view) => floats(view),
            None => filled(otherwise, 0.0),
        };
        let (state_dims, sequence_dims) = (extents.state_dims(), extents.sequence_dims());
        let [x, w, r] = [input::X, input::W, input::R].map(|index| given(index, &[]));
        let (x, w, r) = (x?, w?, r?);
        let bias = given(input::BIAS, &[directions, 2 * rows])?;
        let peepholes = given(input::PEEPHOLES, &[directions, 3 * hidden])?;
        let mut hidden_states = given(input::HIDDEN, &state_dims)?;
        let mut cell_states = given(input::CELL, &state_dims)?;
        let lengths = view(input::LENGTHS).map(integers).transpose()?;
        let lengths: Option<Vec<i32>> = lengths.map(|all| all.iter().map(|&n| n as i32).collect());
        let lengths = extents.lengths(lengths.as_deref())?;
        let mut sequence = filled(&sequence_dims, 0.0)?;
        for direction in 0..directions {
            let part = |all: &[f64], each: usize| direction * each..(direction + 1) * each.min(all.len());
            let weights = Weights {
                input: &w[part(&w, rows * extents.input)],
                recurrent: &r[part(&r, rows * hidden)],
                bias: &bias[part(&bias, 2 * rows)],
                peepholes: &peepholes[part(&peepholes, 3 * hidden)],
                activations: self.activations_of(direction),
                clip: self.clip,
            };
            for (index, &length) in lengths.iter().enumerate() {
                let at = extents.state_row(direction, index) * hidden;
                let mut state = State {
                    hidden: &mut hidden_states[at..at + hidden],
                    cell: &mut cell_states[at..at + hidden],
                };
                for k in 0..length {
                    let step = if self.direction.reverses(direction) { length - 1 - k } else { k };
                    let from = extents.input_row(step, index) * extents.input;
                    self.step(&weights, &x[from..from + extents.input], &mut state);
                    let to = extents.output_row(step, direction, index) * hidden;
                    sequence[to..to + hidden].copy_from_slice(state.hidden);
                }
            }
        }
        debug_assert_eq!(sequence.len(), steps * directions * batch * hidden);
        let dtype = view(input::X).map_or(DType::F32, |x| x.dtype);
        let mut all = vec![float_tensor(dtype, &sequence_dims, &sequence)?];
        for states in [&hidden_states, &cell_states] {
            all.push(float_tensor(dtype, &state_dims, states)?);
        }
        all.truncate(outputs.max(1));
        Ok(all)
    }

    fn cpu(&self, problem: &Problem<'_>) -> Result<Option<Box<dyn CpuKernel>>, OpError> {
        RecurrentKernel::prepare(self, problem)
    }

    fn lower(&self, problem: &Problem<'_>, caps: &Capabilities) -> Lowering {
        gpu::lower(self, problem, caps)
    }

    fn cost(&self, problem: &Problem<'_>) -> Cost {
        let base = problem.default_cost();
        let Ok(extents) = self.extents(problem) else { return base };
        let Extents { steps, batch, directions, input, hidden, .. } = extents;
        let flops = [steps, batch, directions, extents.gate_rows(), input.saturating_add(hidden)]
            .iter()
            .fold(2u64, |all, &size| all.saturating_mul(size as u64));
        Cost { flops: base.flops.saturating_add(flops), ..base }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::attributes::{Attribute, Attributes};
    use crate::recurrent::OPERATORS;

    fn build(name: &str, attributes: &[(&str, Attribute)]) -> std::sync::Arc<dyn Operator> {
        let mut all = Attributes::default();
        attributes.iter().for_each(|(name, value)| all.insert(*name, value.clone()));
        let row = OPERATORS.iter().find(|row| row.name == name).unwrap();
        let spec =
            NodeSpec { op_type: name, opset: 14, inputs: &[true; 3], outputs: &[true; 2], attributes: &all };
        let operator = (row.build)(&spec).unwrap();
        assert!(all.unread().is_empty());
        operator
    }

    fn all(dims: &[usize], value: f32) -> Tensor {
        Tensor::from_vec(dims, vec![value; dims.iter().product()]).unwrap()
    }

    /// The expected numbers are those of the cases `test_lstm_defaults`, `test_gru_defaults` and
    /// `test_simple_rnn_defaults` of the ONNX project.
    #[test]
    fn literal_states() {
        let expected = [
            ("LSTM", 4, [0.095_241_204, 0.256_064_47, 0.403_237_76]),
            ("GRU", 3, [0.123_970_28, 0.200_536_61, 0.199_916_53]),
            ("RNN", 1, [0.291_312_63, 0.604_367_8, 0.800_499]),
        ];
        let x = Tensor::from_slice(&[1, 3, 2], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        for (name, gates, expected) in expected {
            let operator = build(name, &[]);
            let (w, r) = (all(&[1, gates * 4, 2], 0.1), all(&[1, gates * 4, 4], 0.1));
            let views = [&x, &w, &r].map(|tensor| Some(tensor.view()));
            let states = operator.reference(&views, 2).unwrap().remove(1);
            assert_eq!(states.dims(), [1, 3, 4]);
            for (row, expected) in states.to_vec::<f32>().unwrap().chunks(4).zip(expected) {
                assert!(row.iter().all(|x| (x - expected).abs() < 1e-6), "{name}: {row:?}, not {expected}");
            }
        }
    }

    #[test]
    fn sizes_are_inferred_by_name() {
        let (n, t) = (Dim::named("n"), Dim::named("t"));
        let operator = build(
            "GRU",
            &[
                ("direction", Attribute::Str("bidirectional".to_owned())),
                ("layout", Attribute::Int(1)),
                ("linear_before_reset", Attribute::Int(1)),
            ],
        );
        let x = Fact::new(DType::F32, vec![n.clone(), t.clone(), Dim::Known(3)]);
        let (w, r) = (Fact::known(DType::F32, &[2, 15, 3]), Fact::known(DType::F32, &[2, 15, 5]));
        let facts = operator.infer(&[Some(&x), Some(&w), Some(&r)], 2).unwrap();
        let (two, five) = (Dim::Known(2), Dim::Known(5));
        assert_eq!(facts[0].shape, Some(vec![n.clone(), t, two.clone(), five.clone()]));
        assert_eq!(facts[1].shape, Some(vec![n, two, five]));
        let x = Fact::known(DType::F32, &[1, 4, 3]);
        let wrong = Fact::known(DType::F32, &[2, 14, 3]);
        assert!(operator.infer(&[Some(&x), Some(&wrong), Some(&r)], 2).is_err());
    }

    #[test]
    fn lengths_beyond_the_steps_are_errors() {
        let operator = build("RNN", &[]);
        let (x, w, r) = (all(&[2, 1, 1], 1.0), all(&[1, 1, 1], 1.0), all(&[1, 1, 1], 0.0));
        for length in [-1, 0, 2, 3] {
            let lengths = Tensor::from_slice(&[1], &[length]).unwrap();
            let mut views = [&x, &w, &r].map(|tensor| Some(tensor.view())).to_vec();
            views.extend([None, Some(lengths.view())]);
            assert_eq!(operator.reference(&views, 2).is_ok(), (0..=2).contains(&length));
        }
    }
}
