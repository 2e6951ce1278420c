//! Values that lie within others: random chains of concatenations, splits and slices on every device, beside the reference.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "test code")]

use std::sync::Arc;

use sardonyx::{Device, Fallback, Place, PlanSession, Precision};
use sardonyx_ops::expr::Expr;
use sardonyx_ops::ir::graph::ValueId;
use sardonyx_ops::movement::concat::Concat;
use sardonyx_ops::movement::layout::Layout;
use sardonyx_ops::movement::rearrange::Rearrange;
use sardonyx_ops::movement::split::{Lengths, Split};
use sardonyx_ops::plan::{Plan, PlanStep, PlanValue};
use sardonyx_ops::pointwise::{Pointwise, cast, functions};
use sardonyx_ops::{DType, Operator, Tensor};
use sardonyx_tests::{Random, difference, gpu_turn, gpus};

/// A plan under construction, with what each value must be.
struct Draft {
    plan: Plan,
    want: Vec<Tensor>,
    width: usize,
}

impl Draft {
    fn new(width: usize, inputs: Vec<Tensor>) -> Draft {
        let mut draft = Draft { plan: Plan::default(), want: Vec::new(), width };
        for input in inputs {
            let id = draft.value(input);
            draft.plan.inputs.push(id);
        }
        draft
    }

    fn value(&mut self, want: Tensor) -> ValueId {
        let (dtype, dims) = (want.dtype(), want.dims().to_vec());
        let name = format!("v{}", self.want.len()).into();
        self.plan.values.push(PlanValue { name, dtype, dims, constant: None });
        self.want.push(want);
        ValueId(self.want.len() - 1)
    }

    fn step(&mut self, op: impl Operator + 'static, inputs: &[ValueId], outputs: usize) -> Vec<ValueId> {
        let views: Vec<_> = inputs.iter().map(|id| Some(self.want[id.0].view())).collect();
        let results = op.reference(&views, outputs).unwrap();
        let outputs: Vec<ValueId> = results.into_iter().map(|result| self.value(result)).collect();
        self.plan.steps.push(PlanStep {
            inputs: inputs.iter().copied().map(Some).collect(),
            outputs: outputs.iter().copied().map(Some).collect(),
            epilogue: None,
            nodes: vec![format!("{}{}", op.name(), self.plan.steps.len()).into()],
            op: Arc::new(op),
        });
        outputs
    }

    fn rows(&self, id: ValueId) -> usize {
        self.want[id.0].dims()[0]
    }

    fn call(&mut self, function: &'static sardonyx_ops::expr::function::Function, x: ValueId) -> ValueId {
        self.step(Pointwise { name: "Test", expr: Expr::call(function, 1, Vec::new()) }, &[x], 1)[0]
    }

    fn slice(&mut self, x: ValueId, from: usize, rows: usize) -> ValueId {
        let all = self.rows(x) * self.width;
        let lies = Layout { offset: from * self.width, ..Layout::dense(rows * self.width) };
        self.step(Rearrange::new(&lies, all, &[rows, self.width]).unwrap(), &[x], 1)[0]
    }

    fn split(&mut self, x: ValueId, parts: usize) -> Vec<ValueId> {
        let split = Split { axis: 0, lengths: Lengths::Equal { uneven: true }, wanted: vec![true; parts] };
        self.step(split, &[x], parts)
    }

    /// Runs the plan everywhere. Returns how many steps did nothing on the CPU.
    fn run(&self) -> usize {
        let given: Vec<Tensor> = self.plan.inputs.iter().map(|id| self.want[id.0].clone()).collect();
        let run = |device: &Device, precision| {
            let session = PlanSession::new(self.plan.clone(), device, Fallback::Allow, precision).unwrap();
            session.poison().unwrap();
            for (got, id) in session.run(&given).unwrap().iter().zip(&self.plan.outputs) {
                // Nothing is summed: what differs is the rounding of f16 to storage.
                let tolerance = if precision == Precision::F16 { 1e-3 } else { 0.0 };
                let off = difference(got, &self.want[id.0]);
                assert!(off <= tolerance, "{off} on {device:?} {precision:?}\n{}", self.plan);
            }
            session.placement().steps.iter().filter(|step| matches!(step.place, Place::View)).count()
        };
        let _turn = gpu_turn();
        for gpu in gpus() {
            run(gpu, Precision::Model);
            run(gpu, Precision::F16);
        }
        run(&Device::cpu(), Precision::Model)
    }
}

#[test]
fn what_is_split_worked_on_and_joined_is_not_copied() {
    let mut random = Random(91);
    let mut draft = Draft::new(64, vec![random.tensor(&[6, 64])]);
    let x = draft.call(&functions::RELU, ValueId(0));
    let halves = draft.split(x, 2);
    let a = draft.call(&functions::NEG, halves[1]);
    let b = draft.call(&functions::ABS, a);
    let all = draft.step(Concat { axis: 0 }, &[halves[0], halves[1], a, b], 1)[0];
    let again = draft.step(Concat { axis: -2 }, &[halves[0], halves[1], a, b, b], 1)[0];
    let y = draft.call(&functions::NEG, all);
    let z = draft.call(&functions::NEG, again);
    draft.plan.outputs = vec![y, z];
    // The split and the first concatenation; the second one reads a value twice.
    assert_eq!(draft.run(), 2);
    // Rows that begin in the middle of a line are copied.
    let mut draft = Draft::new(17, vec![random.tensor(&[6, 17])]);
    let x = draft.call(&functions::RELU, ValueId(0));
    let halves = draft.split(x, 2);
    let y = draft.step(Concat { axis: 0 }, &[halves[1], halves[0]], 1)[0];
    let y = draft.call(&functions::NEG, y);
    draft.plan.outputs = vec![y];
    assert_eq!(draft.run(), 0);
}

#[test]
fn parts_that_cross_between_devices() {
    let mut random = Random(92);
    let mut draft = Draft::new(64, vec![random.tensor(&[4, 64])]);
    let a = draft.call(&functions::RELU, ValueId(0));
    let b = draft.call(&functions::NEG, a);
    let all = draft.step(Concat { axis: 0 }, &[a, b], 1)[0];
    let part = draft.slice(all, 2, 4);
    // No GPU has f64: these run on the CPU, on parts and on the whole.
    let wide: Vec<ValueId> =
        [b, all, part].iter().map(|&id| draft.step(cast(DType::F64), &[id], 1)[0]).collect();
    let joined = draft.step(Concat { axis: 0 }, &wide, 1)[0];
    let narrow = draft.step(cast(DType::F32), &[joined], 1)[0];
    let y = draft.call(&functions::ABS, narrow);
    let z = draft.call(&functions::ABS, part);
    draft.plan.outputs = vec![y, z];
    draft.run();
}

#[test]
fn random_chains() {
    let mut random = Random(93);
    let mut left_out = 0;
    for case in 0..40 {
        let width = if case % 4 == 3 { 17 } else { 64 };
        let inputs = (0..2).map(|_| random.tensor(&[3 + case % 3, width])).collect();
        let mut draft = Draft::new(width, inputs);
        let mut values = vec![ValueId(0), ValueId(1)];
        for _ in 0..12 {
            let mut pick = || values[random.below(values.len())];
            let (x, y, z) = (pick(), pick(), pick());
            let rows = draft.rows(x);
            let all: usize = [x, y, z].iter().map(|&id| draft.rows(id)).sum();
            let kind = random.below(6);
            let new = match kind {
                0 | 1 if all > 64 => continue,
                0 => draft.step(Concat { axis: 0 }, &[x, y], 1),
                1 => draft.step(Concat { axis: 0 }, &[x, y, z], 1),
                2 => {
                    let from = random.below(rows);
                    vec![draft.slice(x, from, 1 + random.below(rows - from))]
                }
                3 => draft.split(x, 1 + random.below(rows.min(3))),
                4 => vec![draft.call(&functions::NEG, x)],
                _ => vec![draft.call(&functions::RELU, x)],
            };
            values.extend(new);
        }
        let count = 1 + random.below(3);
        draft.plan.outputs = (0..count).map(|_| values[2 + random.below(values.len() - 2)]).collect();
        draft.plan.outputs.sort_by_key(|id| id.0);
        draft.plan.outputs.dedup();
        left_out += draft.run();
    }
    assert!(left_out > 40, "{left_out}");
}
