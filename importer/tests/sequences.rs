//! Sequences and optionals dissolve when a graph is planned.

#![allow(clippy::unwrap_used, reason = "clippy's exemption for tests does not reach their helpers")]

mod interpreter;

use std::sync::Arc;

use interpreter::run;
use sardonyx_importer::{PlanOptions, Work, plan, table};
use sardonyx_ops::build::NodeSpec;
use sardonyx_ops::ir::attributes::{Attribute, Attributes};
use sardonyx_ops::ir::fact::Fact;
use sardonyx_ops::ir::graph::{Graph, Node, ValueId};
use sardonyx_ops::{DType, Item, Operator, Tensor};

/// A graph of operators of the table.
#[derive(Default)]
struct Made(Graph);

impl Made {
    fn input(&mut self, name: &str) -> ValueId {
        let id = self.0.add_value(name);
        self.0.inputs.push((id, Fact::unranked(DType::F32)));
        id
    }

    /// An input that is a sequence or an optional.
    fn item(&mut self, name: &str) -> ValueId {
        let id = self.input(name);
        self.0.items.insert(id, None);
        id
    }

    fn capture(&mut self, name: &str) -> ValueId {
        let id = self.0.add_value(name);
        self.0.captures.push((name.into(), id));
        id
    }

    fn constant(&mut self, tensor: Tensor) -> ValueId {
        let id = self.0.add_value(format!("constant{}", self.0.names.len()));
        self.0.constants.insert(id, tensor);
        id
    }

    fn calls(
        &mut self,
        name: &str,
        attributes: Vec<(&str, Attribute)>,
        inputs: &[Option<ValueId>],
        captured: &[ValueId],
        outputs: usize,
    ) -> Vec<ValueId> {
        let mut all = Attributes::default();
        attributes.into_iter().for_each(|(name, value)| all.insert(name, value));
        let given: Vec<bool> = inputs.iter().map(Option::is_some).collect();
        let wanted = vec![true; outputs];
        let (inputs_given, outputs_wanted) = (&given[..], &wanted[..]);
        let row = table::lookup("", name, 18).unwrap();
        let spec = NodeSpec {
            op_type: name,
            opset: 18,
            inputs: inputs_given,
            outputs: outputs_wanted,
            attributes: &all,
        };
        let op: Arc<dyn Operator> = (row.build)(&spec).unwrap();
        let ids: Vec<ValueId> = (0..outputs).map(|_| self.0.add_value(name)).collect();
        let inputs = inputs.iter().copied().chain(captured.iter().copied().map(Some)).collect();
        self.0.nodes.push(Node {
            name: name.into(),
            op,
            inputs,
            outputs: ids.iter().copied().map(Some).collect(),
        });
        ids
    }

    fn call(&mut self, name: &str, inputs: &[ValueId]) -> ValueId {
        let inputs: Vec<_> = inputs.iter().copied().map(Some).collect();
        self.calls(name, Vec::new(), &inputs, &[], 1)[0]
    }

    fn joined(&mut self, sequence: ValueId) -> ValueId {
        self.calls("ConcatFromSequence", vec![("axis", Attribute::Int(0))], &[Some(sequence)], &[], 1)[0]
    }

    fn done(mut self, outputs: &[ValueId]) -> Graph {
        self.0.outputs = outputs.to_vec();
        self.0
    }
}

fn floats(values: &[f32]) -> Tensor {
    Tensor::from_slice(&[values.len()], values).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.to_vec().unwrap()
}

#[test]
fn members_stay_where_they_are() {
    let mut made = Made::default();
    let (x, y) = (made.input("x"), made.input("y"));
    let sequence = made.call("SequenceConstruct", &[x, y]);
    let last = made.constant(Tensor::scalar(-1i64));
    let member = made.call("SequenceAt", &[sequence, last]);
    let sum = made.call("Add", &[member, x]);
    let graph = made.done(&[sum, sequence]);
    let facts = [Fact::known(DType::F32, &[2]), Fact::known(DType::F32, &[2])];
    let stage = plan(&graph, &facts, &PlanOptions::default()).unwrap();
    let Work::Compiled(plan) = stage.work else { panic!("a host step") };
    assert_eq!((plan.steps.len(), plan.outputs.len()), (1, 3));
    let pair = Item::Sequence(vec![Item::Tensor(1), Item::Tensor(2)]);
    assert_eq!(stage.gives, [Item::Tensor(0), pair]);
}

#[test]
fn inputs_come_as_the_tensors_that_they_are_made_of() {
    let mut made = Made::default();
    let (sequence, extra) = (made.item("sequence"), made.input("extra"));
    let sequence = made.call("SequenceInsert", &[sequence, extra]);
    let joined = made.joined(sequence);
    let length = made.call("SequenceLength", &[sequence]);
    let graph = made.done(&[joined, length]);
    for count in [0, 2] {
        let forms = [Item::Sequence(vec![Item::Tensor(()); count]), Item::Tensor(())];
        let graph = graph.taken_apart(&forms);
        let inputs: Vec<Tensor> = (0..=count).map(|i| floats(&[i as f32])).collect();
        let run = run(&graph, &inputs, &PlanOptions::default()).unwrap();
        assert_eq!(values(&run.outputs[0]), [0.0, 1.0, 2.0][..=count]);
        assert_eq!(run.outputs[1].to_vec::<i64>().unwrap(), [count as i64 + 1]);
    }
    // An optional that is not there.
    let mut made = Made::default();
    let optional = made.item("optional");
    let there = made.call("OptionalHasElement", &[optional]);
    let graph = made.done(&[there]);
    for (form, there) in [(Item::Optional(None), 0), (Item::Tensor(()), 1)] {
        let inputs: Vec<Tensor> = form.tensors().iter().map(|_| floats(&[1.0])).collect();
        let run = run(&graph.taken_apart(&[form]), &inputs, &PlanOptions::default()).unwrap();
        assert_eq!(run.outputs[0].bytes(), [there]);
    }
}

#[test]
fn a_position_that_a_run_computes_is_read_back() {
    let mut made = Made::default();
    let (x, y, place) = (made.input("x"), made.input("y"), made.input("place"));
    let (x, y) = (made.call("Neg", &[x]), made.call("Exp", &[y]));
    let sequence = made.call("SequenceConstruct", &[x, y]);
    let twice = made.call("Add", &[place, place]);
    let member = made.call("SequenceAt", &[sequence, twice]);
    let again = made.call("Abs", &[member]);
    let graph = made.done(&[again]);
    for (place, want) in [(0i64, 3.0), (-1, 3.0)] {
        let inputs = [floats(&[3.0]), floats(&[0.0]), Tensor::scalar(place)];
        let run = run(&graph, &inputs, &PlanOptions::default()).unwrap();
        assert_eq!((run.stages, values(&run.outputs[0])), (2, vec![want]));
    }
    let inputs = [floats(&[3.0]), floats(&[0.0]), Tensor::scalar(1i64)];
    assert!(run(&graph, &inputs, &PlanOptions::default()).is_err(), "a position beyond the end");
}

#[test]
fn a_branch_may_give_a_sequence() {
    let branch = |first: &str, second: &str| {
        let mut made = Made::default();
        let pair = [made.capture(first), made.capture(second)];
        let sequence = made.call("SequenceConstruct", &pair);
        Attribute::Graph(Arc::new(made.done(&[sequence])))
    };
    let mut made = Made::default();
    let (x, y, zero) = (made.input("x"), made.input("y"), made.constant(Tensor::scalar(0f32)));
    let condition = made.call("Less", &[x, zero]);
    let branches = vec![("then_branch", branch("x", "y")), ("else_branch", branch("y", "x"))];
    let sequence = made.calls("If", branches, &[Some(condition)], &[y, x, x, y], 1)[0];
    let joined = made.joined(sequence);
    let graph = made.done(&[joined]);
    for (x, want) in [(-1.0, [-1.0, 5.0]), (1.0, [5.0, 1.0])] {
        let run = run(&graph, &[floats(&[x]), floats(&[5.0])], &PlanOptions::default()).unwrap();
        assert_eq!(values(&run.outputs[0]), want);
    }
}

/// Grows a sequence by `state + 1` while that is below a limit.
fn growing(counted: bool) -> Graph {
    let mut body = Made::default();
    let (_, go_on, sequence, state) =
        (body.input("i"), body.input("go_on"), body.item("sequence"), body.input("state"));
    let (one, limit) = (body.constant(floats(&[1.0])), body.capture("limit"));
    let state = body.call("Add", &[state, one]);
    let sequence = body.call("SequenceInsert", &[sequence, state]);
    let go_on = if counted { body.call("Identity", &[go_on]) } else { body.call("Less", &[state, limit]) };
    let body = Attribute::Graph(Arc::new(body.done(&[go_on, sequence, state])));
    let mut made = Made::default();
    let (times, state, limit) = (made.input("times"), made.input("state"), made.input("limit"));
    let sequence = made.calls("SequenceEmpty", Vec::new(), &[], &[], 1)[0];
    let inputs = [Some(times), None, Some(sequence), Some(state)];
    let outputs = made.calls("Loop", vec![("body", body)], &inputs, &[limit], 2);
    let joined = made.joined(outputs[0]);
    made.done(&[joined, outputs[1]])
}

#[test]
fn a_loop_may_carry_a_sequence() {
    for (counted, times, want) in [(true, 3, 3), (false, 100, 4), (false, 2, 2)] {
        let inputs = [Tensor::scalar(times as i64), floats(&[0.0]), floats(&[4.0])];
        let run = run(&growing(counted), &inputs, &PlanOptions::default()).unwrap();
        assert_eq!(values(&run.outputs[0]), [1.0, 2.0, 3.0, 4.0][..want], "{counted} {times}");
        assert_eq!(values(&run.outputs[1]), [want as f32]);
    }
}

#[test]
fn a_body_runs_for_each_member() {
    let mut body = Made::default();
    let (x, y) = (body.input("x"), body.input("y"));
    let (sum, product) = (body.call("Add", &[x, y]), body.call("Mul", &[x, y]));
    let body = Attribute::Graph(Arc::new(body.done(&[sum, product])));
    let mut made = Made::default();
    let (a, b, y) = (made.input("a"), made.input("b"), made.input("y"));
    let sequence = made.call("SequenceConstruct", &[a, b]);
    let inputs = [Some(sequence), Some(y)];
    let outputs = made.calls("SequenceMap", vec![("body", body)], &inputs, &[], 2);
    let (sums, products) = (made.joined(outputs[0]), made.joined(outputs[1]));
    let graph = made.done(&[sums, products]);
    let inputs = [floats(&[1.0]), floats(&[2.0]), floats(&[10.0])];
    let run = run(&graph, &inputs, &PlanOptions::default()).unwrap();
    assert_eq!((values(&run.outputs[0]), values(&run.outputs[1])), (vec![11.0, 12.0], vec![10.0, 20.0]));
}
