use std::sync::Arc;

use crate::build::NodeSpec;
use crate::control::evaluate::evaluate;
use crate::ir::attributes::{Attribute, Attributes};
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::graph::{Graph, Node, ValueId};
use crate::operator::Operator;
use crate::{OpError, Tensor};

/// A graph of operators of this family by name.
#[derive(Default)]
struct Made(Graph);

impl Made {
    fn input(&mut self) -> ValueId {
        let id = self.0.add_value("input");
        self.0.inputs.push((id, Fact::unranked(DType::F32)));
        id
    }

    fn number(&mut self, number: i64) -> ValueId {
        let id = self.0.add_value("number");
        self.0.constants.insert(id, Tensor::scalar(number));
        id
    }

    fn call(&mut self, name: &str, attributes: &[(&str, Attribute)], inputs: &[ValueId]) -> ValueId {
        let row = super::OPERATORS.iter().find(|row| row.name == name).unwrap();
        let mut all = Attributes::default();
        attributes.iter().for_each(|(name, value)| all.insert(*name, value.clone()));
        let given = vec![true; inputs.len()];
        let spec = NodeSpec { op_type: name, opset: 18, inputs: &given, outputs: &[true], attributes: &all };
        let op: Arc<dyn Operator> = (row.build)(&spec).unwrap();
        let id = self.0.add_value(name);
        let inputs = inputs.iter().copied().map(Some).collect();
        self.0.nodes.push(Node { name: name.into(), op, inputs, outputs: vec![Some(id)] });
        id
    }

    fn run(mut self, output: ValueId, given: &[Tensor]) -> Result<Tensor, OpError> {
        self.0.outputs = vec![output];
        Ok(evaluate(&self.0, given.to_vec())?.remove(0))
    }
}

fn floats(values: &[f32]) -> Tensor {
    Tensor::from_slice(&[values.len()], values).unwrap()
}

#[test]
fn members_come_and_go_by_position() {
    for (place, want) in [(0, [9.0, 1.0]), (1, [1.0, 9.0]), (-1, [9.0, 1.0])] {
        let mut made = Made::default();
        let (a, b) = (made.input(), made.input());
        let place = made.number(place);
        let sequence = made.call("SequenceConstruct", &[], &[a]);
        let sequence = made.call("SequenceInsert", &[], &[sequence, b, place]);
        let joined = made.call("ConcatFromSequence", &[("axis", Attribute::Int(0))], &[sequence]);
        let got = made.run(joined, &[floats(&[1.0]), floats(&[9.0])]).unwrap();
        assert_eq!(got.to_vec::<f32>().unwrap(), want, "{place:?}");
    }
    let mut made = Made::default();
    let (a, b) = (made.input(), made.input());
    let last = made.number(-1);
    let sequence = made.call("SequenceConstruct", &[], &[a, b, a]);
    let sequence = made.call("SequenceErase", &[], &[sequence, last]);
    let member = made.call("SequenceAt", &[], &[sequence, last]);
    assert_eq!(made.run(member, &[floats(&[1.0]), floats(&[9.0])]).unwrap().to_vec::<f32>().unwrap(), [9.0]);
}

#[test]
fn positions_outside_are_errors() {
    for (name, place) in
        [("SequenceAt", 2), ("SequenceAt", -3), ("SequenceErase", 2), ("SequenceAt", i64::MIN)]
    {
        let mut made = Made::default();
        let a = made.input();
        let place = made.number(place);
        let sequence = made.call("SequenceConstruct", &[], &[a, a]);
        let result = made.call(name, &[], &[sequence, place]);
        let result = if name == "SequenceAt" { result } else { made.call("SequenceLength", &[], &[result]) };
        assert!(matches!(made.run(result, &[floats(&[1.0])]), Err(OpError::Constraint { .. })), "{name}");
    }
    let mut made = Made::default();
    let empty = made.call("SequenceEmpty", &[], &[]);
    let erased = made.call("SequenceErase", &[], &[empty]);
    let length = made.call("SequenceLength", &[], &[erased]);
    assert!(made.run(length, &[]).is_err());
}

#[test]
fn tensors_are_cut_into_members_and_stacked_again() {
    let x = Tensor::from_slice(&[3, 2], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
    let mut made = Made::default();
    let input = made.input();
    let keep = [("axis", Attribute::Int(-1)), ("keepdims", Attribute::Int(0))];
    let parts = made.call("SplitToSequence", &keep, &[input]);
    let attributes = [("axis", Attribute::Int(-2)), ("new_axis", Attribute::Int(1))];
    let turned = made.call("ConcatFromSequence", &attributes, &[parts]);
    let got = made.run(turned, std::slice::from_ref(&x)).unwrap();
    assert_eq!((got.dims(), got.to_vec::<f32>().unwrap()), (&[2, 3][..], vec![1.0, 3.0, 5.0, 2.0, 4.0, 6.0]));
    // Parts of two, the last one shorter.
    let mut made = Made::default();
    let (input, each) = (made.input(), made.number(2));
    let parts = made.call("SplitToSequence", &[], &[input, each]);
    let last = made.number(-1);
    let last = made.call("SequenceAt", &[], &[parts, last]);
    assert_eq!(made.run(last, std::slice::from_ref(&x)).unwrap().dims(), [1, 2]);
    for length in [0, -1] {
        let mut made = Made::default();
        let (input, each) = (made.input(), made.number(length));
        let parts = made.call("SplitToSequence", &[], &[input, each]);
        let length = made.call("SequenceLength", &[], &[parts]);
        assert!(made.run(length, std::slice::from_ref(&x)).is_err());
    }
}

#[test]
fn optionals_know_whether_they_are_there() {
    let mut made = Made::default();
    let input = made.input();
    let optional = made.call("Optional", &[], &[input]);
    let there = made.call("OptionalHasElement", &[], &[optional]);
    assert_eq!(made.run(there, &[floats(&[1.0])]).unwrap().bytes(), [1]);
    let mut made = Made::default();
    let none = made.call("Optional", &[("type", Attribute::Type)], &[]);
    let there = made.call("OptionalHasElement", &[], &[none]);
    assert_eq!(made.run(there, &[]).unwrap().bytes(), [0]);
    let mut made = Made::default();
    let none = made.call("Optional", &[("type", Attribute::Type)], &[]);
    let value = made.call("OptionalGetElement", &[], &[none]);
    assert!(matches!(made.run(value, &[]), Err(OpError::Constraint { .. })));
}
