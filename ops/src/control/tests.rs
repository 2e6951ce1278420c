use std::sync::Arc;

use super::branch::If;
use super::evaluate::evaluate;
use super::repeat::Loop;
use super::scan::Scan;
use crate::expr::Expr;
use crate::ir::fact::Fact;
use crate::ir::graph::{Graph, Node, ValueId};
use crate::ir::item::Item;
use crate::movement::identity::Identity;
use crate::operator::{Expansion, Operator};
use crate::pointwise::{Pointwise, functions};
use crate::{DType, OpError, Tensor};

/// A graph of named values.
#[derive(Default)]
struct Made(Graph);

impl Made {
    fn input(&mut self, name: &str) -> ValueId {
        let id = self.0.add_value(name);
        self.0.inputs.push((id, Fact::unranked(DType::F32)));
        id
    }

    fn capture(&mut self, name: &str) -> ValueId {
        let id = self.0.add_value(name);
        self.0.captures.push((name.into(), id));
        id
    }

    fn constant(&mut self, tensor: Tensor) -> ValueId {
        let id = self.0.add_value("constant");
        self.0.constants.insert(id, tensor);
        id
    }

    fn call(&mut self, op: Arc<dyn Operator>, inputs: &[ValueId]) -> ValueId {
        let id = self.0.add_value("result");
        let inputs = inputs.iter().copied().map(Some).collect();
        self.0.nodes.push(Node { name: op.name().into(), op, inputs, outputs: vec![Some(id)] });
        id
    }

    fn binary(&mut self, function: &'static crate::expr::Function, a: ValueId, b: ValueId) -> ValueId {
        let expr = Expr::call(function, 2, Vec::new());
        self.call(Arc::new(Pointwise { name: "Binary", expr }), &[a, b])
    }

    fn done(mut self, outputs: &[ValueId]) -> Arc<Graph> {
        self.0.outputs = outputs.to_vec();
        Arc::new(self.0)
    }
}

fn floats(values: &[f32]) -> Tensor {
    Tensor::from_slice(&[values.len()], values).unwrap()
}

fn reference(op: &dyn Operator, inputs: &[Option<&Tensor>], outputs: usize) -> Result<Vec<Tensor>, OpError> {
    let views: Vec<_> = inputs.iter().map(|tensor| tensor.map(Tensor::view)).collect();
    op.reference(&views, outputs)
}

/// The same by the graph that the use comes down to.
fn expanded(op: &dyn Operator, inputs: &[Option<&Tensor>]) -> Vec<Tensor> {
    let facts: Vec<Option<Fact>> =
        inputs.iter().map(|tensor| tensor.map(|tensor| Fact::constant(tensor.clone()))).collect();
    let facts: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
    let Expansion::Graph { graph, inputs: from } = op.expand_items(&items(&facts)).unwrap() else {
        panic!("it stays")
    };
    evaluate(&graph, from.iter().map(|&index| inputs[index].unwrap().clone()).collect()).unwrap()
}

fn items<'a>(facts: &[Option<&'a Fact>]) -> Vec<Option<Item<&'a Fact>>> {
    facts.iter().map(|fact| fact.map(Item::Tensor)).collect()
}

fn same(a: &[Tensor], b: &[Tensor]) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        assert_eq!((a.dtype(), a.dims(), a.bytes()), (b.dtype(), b.dims(), b.bytes()));
    }
}

#[test]
fn a_condition_takes_one_branch_with_its_own_captures() {
    let branch = |function| {
        let mut made = Made::default();
        let (a, b) = (made.capture("a"), made.capture("b"));
        let result = made.binary(function, a, b);
        made.done(&[result])
    };
    let op = If { then_branch: branch(&functions::ADD), else_branch: branch(&functions::SUB) };
    let (a, b, c, d) = (floats(&[5.0]), floats(&[3.0]), floats(&[10.0]), floats(&[20.0]));
    for (condition, want) in [(true, 30.0), (false, 2.0)] {
        let condition = Tensor::from_bools(&[], &[condition]).unwrap();
        let inputs = [Some(&condition), Some(&a), Some(&b), Some(&c), Some(&d)];
        let got = reference(&op, &inputs, 1).unwrap();
        assert_eq!(got[0].to_vec::<f32>().unwrap(), [want]);
        same(&expanded(&op, &inputs), &got);
    }
    let number = floats(&[1.0]);
    let inputs = [Some(&number), Some(&a), Some(&b), Some(&c), Some(&d)];
    assert!(matches!(reference(&op, &inputs, 1), Err(OpError::Type { input: 0, .. })));
}

/// `state = state + step` with `step` captured; yields the state. The condition is handed on, or `state < 10`.
fn counting(limited: bool) -> Loop {
    let mut made = Made::default();
    let (_, condition, state) = (made.input("i"), made.input("condition"), made.input("state"));
    let step = made.capture("step");
    let next = made.binary(&functions::ADD, state, step);
    let condition = match limited {
        false => made.call(Arc::new(Identity), &[condition]),
        true => {
            let limit = made.constant(Tensor::scalar(10.0f32));
            made.binary(&functions::LESS, next, limit)
        }
    };
    Loop { body: made.done(&[condition, next, next]), states: 1, first: 0 }
}

#[test]
fn a_counted_loop_unrolls_to_what_it_computes() {
    let op = counting(false);
    let (times, start, step) = (Tensor::scalar(3i64), Tensor::scalar(1.0f32), Tensor::scalar(2.0f32));
    let inputs = [Some(&times), None, Some(&start), Some(&step)];
    let got = reference(&op, &inputs, 2).unwrap();
    assert_eq!(got[0].to_vec::<f32>().unwrap(), [7.0]);
    assert_eq!((got[1].dims(), got[1].to_vec::<f32>().unwrap()), (&[3][..], vec![3.0, 5.0, 7.0]));
    same(&expanded(&op, &inputs), &got);
    // None at all: the state stays, and what is yielded is empty.
    let never = Tensor::scalar(0i64);
    let got = reference(&op, &[Some(&never), None, Some(&start), Some(&step)], 2).unwrap();
    assert_eq!((got[0].to_vec::<f32>().unwrap(), got[1].dims()), (vec![1.0], &[0][..]));
    assert!(op.wants_value(0) && !op.wants_value(2));
}

#[test]
fn a_condition_ends_a_loop() {
    let op = counting(true);
    let (start, step) = (Tensor::scalar(1.0f32), Tensor::scalar(4.0f32));
    let got = reference(&op, &[None, None, Some(&start), Some(&step)], 2).unwrap();
    assert_eq!(got[1].to_vec::<f32>().unwrap(), [5.0, 9.0, 13.0]);
    let facts = [None, None, Some(Fact::constant(start)), Some(Fact::constant(step))];
    let facts: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
    assert!(matches!(op.expand_items(&items(&facts)).unwrap(), Expansion::Waits));
    assert!(!op.wants_value(0));
}

/// Adds each slice to the state; yields the sums.
fn summing(batched: bool, yielded: (i64, bool)) -> Scan {
    let mut made = Made::default();
    let (state, row) = (made.input("state"), made.input("row"));
    let next = made.binary(&functions::ADD, state, row);
    let body = made.done(&[next, next]);
    Scan { body, states: 1, scanned: vec![(0, yielded.1)], yielded: vec![yielded], batched }
}

#[test]
fn a_scan_walks_slices_in_both_directions() {
    let start = floats(&[0.0, 100.0]);
    let rows = Tensor::from_slice(&[3, 2], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
    for (yielded, want) in [
        ((0, false), [1.0, 102.0, 4.0, 106.0, 9.0, 112.0]),
        ((-1, false), [1.0, 4.0, 9.0, 102.0, 106.0, 112.0]),
        ((0, true), [9.0, 112.0, 8.0, 110.0, 5.0, 106.0]),
    ] {
        let op = summing(false, yielded);
        let got = reference(&op, &[Some(&start), Some(&rows)], 2).unwrap();
        assert_eq!(got[0].to_vec::<f32>().unwrap(), [9.0, 112.0]);
        assert_eq!(got[1].to_vec::<f32>().unwrap(), want, "{yielded:?}");
        same(&expanded(&op, &[Some(&start), Some(&rows)]), &got);
    }
    let none = Tensor::zeroed(DType::F32, &[0, 2]).unwrap();
    let got = reference(&summing(false, (1, false)), &[Some(&start), Some(&none)], 2).unwrap();
    assert_eq!((got[0].to_vec::<f32>().unwrap(), got[1].dims()), (vec![0.0, 100.0], &[2, 0][..]));
}

#[test]
fn the_first_scan_had_batches_with_lengths() {
    let op = summing(true, (0, false));
    let start = Tensor::from_slice(&[2, 1], &[0.0f32, 10.0]).unwrap();
    let rows = Tensor::from_slice(&[2, 3, 1], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
    let lengths = Tensor::from_slice(&[2], &[3i64, 2]).unwrap();
    let got = reference(&op, &[Some(&lengths), Some(&start), Some(&rows)], 2).unwrap();
    assert_eq!(got[0].to_vec::<f32>().unwrap(), [6.0, 19.0]);
    assert_eq!(got[1].to_vec::<f32>().unwrap(), [1.0, 3.0, 6.0, 14.0, 19.0, 0.0]);
    let wrong = Tensor::from_slice(&[2], &[4i64, -1]).unwrap();
    assert!(reference(&op, &[Some(&wrong), Some(&start), Some(&rows)], 2).is_err());
}
