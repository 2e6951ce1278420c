//! Recurrent networks on every device.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "test code")]

use sardonyx_ops::build::NodeSpec;
use sardonyx_ops::ir::attributes::{Attribute, Attributes};
use sardonyx_ops::recurrent;
use sardonyx_ops::{DType, Tensor};
use sardonyx_tests::{Check, Random};

/// A network to test.
#[derive(Clone)]
struct Case {
    name: &'static str,
    attributes: Vec<(&'static str, Attribute)>,
    /// Steps, batch, input, hidden.
    sizes: [usize; 4],
    direction: &'static str,
    batch_first: bool,
    lengths: bool,
    /// Bias, initial states and peepholes are given.
    complete: bool,
    wanted: &'static [bool],
    constant: bool,
    dtype: DType,
}

impl Case {
    fn new(name: &'static str, sizes: [usize; 4]) -> Case {
        Case {
            name,
            attributes: Vec::new(),
            sizes,
            direction: "forward",
            batch_first: false,
            lengths: false,
            complete: true,
            wanted: if name == "LSTM" { &[true; 3] } else { &[true; 2] },
            constant: true,
            dtype: DType::F32,
        }
    }

    fn with(mut self, attributes: &[(&'static str, Attribute)]) -> Case {
        self.attributes.extend_from_slice(attributes);
        self
    }

    fn check(&self) -> Check {
        let mut random = Random(11);
        let [steps, batch, input, hidden] = self.sizes;
        let gates = match self.name {
            "LSTM" => 4,
            "GRU" => 3,
            _ => 1,
        };
        let directions = if self.direction == "bidirectional" { 2 } else { 1 };
        let mut tensor = |dims: &[usize]| random.tensor_of(self.dtype, dims);
        let state = if self.batch_first { [batch, directions, hidden] } else { [directions, batch, hidden] };
        let lengths: Vec<i32> = (0..batch).map(|k| ((k * 2 + 1) % (steps + 1)) as i32).collect();
        let mut inputs = vec![
            Some(tensor(&if self.batch_first { [batch, steps, input] } else { [steps, batch, input] })),
            Some(tensor(&[directions, gates * hidden, input])),
            Some(tensor(&[directions, gates * hidden, hidden])),
            self.complete.then(|| tensor(&[directions, 2 * gates * hidden])),
            self.lengths.then(|| Tensor::from_vec(&[batch], lengths).unwrap()),
            self.complete.then(|| tensor(&state)),
        ];
        if self.name == "LSTM" {
            inputs.push(self.complete.then(|| tensor(&state)));
            inputs.push(self.complete.then(|| tensor(&[directions, 3 * hidden])));
        }
        let mut all = Attributes::default();
        all.insert("direction", Attribute::Str(self.direction.to_owned()));
        all.insert("layout", Attribute::Int(i64::from(self.batch_first)));
        all.insert("hidden_size", Attribute::Int(hidden as i64));
        self.attributes.iter().for_each(|(name, value)| all.insert(*name, value.clone()));
        let row = recurrent::OPERATORS.iter().find(|row| row.name == self.name).unwrap();
        let given: Vec<bool> = inputs.iter().map(Option::is_some).collect();
        let spec = NodeSpec {
            op_type: self.name,
            opset: 22,
            inputs: &given,
            outputs: self.wanted,
            attributes: &all,
        };
        let op = (row.build)(&spec).unwrap();
        assert!(all.unread().is_empty(), "{} does not read {:?}", self.name, all.unread());
        // Rounding feeds back from step to step.
        let check = Check::new(op, inputs).wanted(self.wanted).tolerance(2e-5, 2e-2);
        if self.constant { check.constants(&[1, 2, 3]) } else { check }
    }
}

const CELLS: [&str; 3] = ["LSTM", "GRU", "RNN"];

#[test]
fn sizes() {
    for name in CELLS {
        for (hidden, batch, steps) in [(1, 1, 1), (3, 3, 5), (17, 3, 1), (17, 1, 5), (65, 3, 5)] {
            Case::new(name, [steps, batch, 7, hidden]).check().run();
        }
        Case { constant: false, complete: false, ..Case::new(name, [3, 2, 4, 9]) }.check().run();
    }
}

#[test]
fn directions_layouts_and_lengths() {
    for name in CELLS {
        for direction in ["forward", "reverse", "bidirectional"] {
            for batch_first in [false, true] {
                let case = Case { direction, batch_first, ..Case::new(name, [5, 3, 2, 6]) };
                case.check().run();
                Case { lengths: true, ..case }.check().run();
            }
        }
    }
}

#[test]
fn outputs_may_be_absent() {
    for wanted in [&[true][..], &[false, true], &[false, false, true], &[true, false, true]] {
        Case { wanted, ..Case::new("LSTM", [2, 3, 4, 5]) }.check().run();
    }
    for name in ["GRU", "RNN"] {
        for wanted in [&[true][..], &[false, true]] {
            Case { wanted, ..Case::new(name, [2, 3, 4, 5]) }.check().run();
        }
    }
}

#[test]
fn half_precision_is_rounded_at_the_end() {
    for name in CELLS {
        Case { dtype: DType::F16, ..Case::new(name, [3, 2, 5, 7]) }.check().run();
    }
}

#[test]
fn variants_of_the_cells() {
    let one = Attribute::Int(1);
    let linear = Case::new("GRU", [4, 3, 5, 6]).with(&[("linear_before_reset", one.clone())]);
    linear.check().run();
    Case { complete: false, ..linear.clone() }.check().run();
    linear.with(&[("clip", Attribute::Float(0.25))]).check().run();
    let coupled = Case::new("LSTM", [4, 3, 5, 6]).with(&[("input_forget", one)]);
    coupled.check().run();
    coupled.with(&[("clip", Attribute::Float(0.25))]).check().run();
    Case::new("GRU", [4, 3, 5, 6]).with(&[("clip", Attribute::Float(0.25))]).check().run();
}

fn activations(names: &[&str]) -> [(&'static str, Attribute); 3] {
    [
        ("activations", Attribute::Strs(names.iter().map(|name| (*name).to_owned()).collect())),
        ("activation_alpha", Attribute::Floats(vec![0.5; 6])),
        ("activation_beta", Attribute::Floats(vec![0.25; 6])),
    ]
}

#[test]
fn functions() {
    for names in [
        ["Affine", "Elu", "HardSigmoid"],
        ["LeakyRelu", "Relu", "ScaledTanh"],
        ["Sigmoid", "Softplus", "Softsign"],
        ["Tanh", "ThresholdedRelu", "Tanh"],
    ] {
        // Rounded inputs may lie on the other side of a threshold.
        Case::new("LSTM", [2, 2, 3, 4]).with(&activations(&names)).check().as_modelled().run();
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let mixed = activations(&["Tanh", "Sigmoid"]);
    let case = Case { direction: "bidirectional", ..Case::new("RNN", [2, 2, 3, 4]) }.with(&mixed);
    case.check().cpu_only().run();
    Case::new("RNN", [1, 1, 1, 1025]).check().cpu_only().run();
}
