//! What breaks a rule is an error with a name: zero divisors, negative sizes, indices out of range.

use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::attributes::{Attribute, Attributes};
use crate::ir::fact::Fact;
use crate::ir::tensor::Tensor;
use crate::ir::view::View;

fn ints(values: &[i64]) -> Tensor {
    Tensor::from_slice(&[values.len()], values).unwrap()
}

fn number(value: i64) -> Tensor {
    Tensor::scalar(value)
}

/// What becomes of an operator when planning knows the contents of all inputs, and when only a run does.
fn outcomes(name: &str, attributes: &[(&str, Attribute)], inputs: &[Tensor]) -> [Result<(), OpError>; 2] {
    [true, false].map(|known| {
        let row = super::OPERATORS.iter().find(|row| row.name == name && row.domain.is_empty()).unwrap();
        let mut all = Attributes::default();
        attributes.iter().for_each(|(name, value)| all.insert(*name, value.clone()));
        let given = &vec![true; inputs.len()][..];
        let spec = NodeSpec { op_type: name, opset: 18, inputs: given, outputs: &[true], attributes: &all };
        let op = (row.build)(&spec)?;
        let fact = |tensor: &Tensor| match known {
            true => Fact::constant(tensor.clone()),
            false => Fact::known(tensor.dtype(), tensor.dims()),
        };
        let facts: Vec<Fact> = inputs.iter().map(fact).collect();
        let facts: Vec<Option<&Fact>> = facts.iter().map(Some).collect();
        op.infer(&facts, 1)?;
        let views: Vec<Option<View<'_>>> = inputs.iter().map(|tensor| Some(tensor.view())).collect();
        op.reference(&views, 1).map(drop)
    })
}

#[test]
fn broken_rules_have_names() {
    let x = || Tensor::from_slice(&[2, 3], &[0f32; 6]).unwrap();
    let axis = |axis: i64| ("axis", Attribute::Int(axis));
    let block = |size: i64| ("blocksize", Attribute::Int(size));
    let cube = || Tensor::from_slice(&[1, 4, 2, 2], &[0f32; 16]).unwrap();
    let far = i64::MAX;
    type Case = (&'static str, Vec<(&'static str, Attribute)>, Vec<Tensor>);
    let cases: Vec<Case> = vec![
        ("Concat", vec![axis(2)], vec![x(), x()]),
        ("Concat", vec![axis(0)], vec![x(), cube()]),
        ("ConstantOfShape", vec![], vec![ints(&[2, -1])]),
        ("ConstantOfShape", vec![], vec![ints(&[far, far])]),
        ("DepthToSpace", vec![block(0)], vec![cube()]),
        ("DepthToSpace", vec![block(-2)], vec![cube()]),
        ("DepthToSpace", vec![block(3)], vec![cube()]),
        ("Expand", vec![], vec![x(), ints(&[-2, 3])]),
        ("Expand", vec![], vec![x(), ints(&[5, 3])]),
        ("Expand", vec![], vec![x(), ints(&[far, 2, 3])]),
        ("Flatten", vec![axis(3)], vec![x()]),
        ("Gather", vec![axis(2)], vec![x(), ints(&[0])]),
        ("Gather", vec![], vec![x(), ints(&[2])]),
        ("Gather", vec![], vec![x(), ints(&[-3])]),
        ("Gather", vec![], vec![x(), ints(&[i64::MIN])]),
        ("GatherElements", vec![], vec![x(), Tensor::from_slice(&[1, 1], &[2i64]).unwrap()]),
        ("GatherND", vec![], vec![x(), Tensor::from_slice(&[1, 2], &[0i64, 3]).unwrap()]),
        ("GatherND", vec![], vec![x(), Tensor::from_slice(&[1, 3], &[0i64; 3]).unwrap()]),
        ("OneHot", vec![], vec![ints(&[0]), number(-1), ints(&[0, 1])]),
        ("OneHot", vec![], vec![ints(&[0]), number(far), ints(&[0, 1])]),
        ("Pad", vec![], vec![x(), ints(&[0, 0, -3, 0])]),
        ("Pad", vec![], vec![x(), ints(&[far, 0, far, 0])]),
        ("Pad", vec![], vec![x(), ints(&[1, 1])]),
        ("Range", vec![], vec![number(0), number(5), number(0)]),
        ("Range", vec![], vec![number(i64::MIN), number(far), number(1)]),
        ("Reshape", vec![], vec![x(), ints(&[4, 2])]),
        ("Reshape", vec![], vec![x(), ints(&[-1, -1])]),
        ("Reshape", vec![], vec![x(), ints(&[-2, 3])]),
        ("Reshape", vec![], vec![x(), ints(&[far, far])]),
        ("ReverseSequence", vec![], vec![x(), ints(&[9, 1, 1])]),
        ("ScatterElements", vec![], vec![x(), ints(&[0]), ints(&[0])]),
        (
            "ScatterElements",
            vec![],
            vec![
                x(),
                Tensor::from_slice(&[1, 1], &[2i64]).unwrap(),
                Tensor::zeroed(crate::DType::F32, &[1, 1]).unwrap(),
            ],
        ),
        (
            "ScatterND",
            vec![],
            vec![
                x(),
                Tensor::from_slice(&[1, 1], &[2i64]).unwrap(),
                Tensor::zeroed(crate::DType::F32, &[1, 3]).unwrap(),
            ],
        ),
        ("Slice", vec![], vec![x(), ints(&[0]), ints(&[1]), ints(&[0]), ints(&[0])]),
        ("Slice", vec![], vec![x(), ints(&[0]), ints(&[1]), ints(&[2])]),
        ("Slice", vec![], vec![x(), ints(&[0, 0]), ints(&[1])]),
        ("SpaceToDepth", vec![block(0)], vec![cube()]),
        ("Split", vec![axis(5)], vec![x()]),
        ("Split", vec![], vec![x(), ints(&[-1, 3])]),
        ("Split", vec![], vec![x(), ints(&[far])]),
        ("Squeeze", vec![], vec![x(), ints(&[0])]),
        ("Tile", vec![], vec![x(), ints(&[-1, 1])]),
        ("Tile", vec![], vec![x(), ints(&[far, far])]),
        ("Transpose", vec![("perm", Attribute::Ints(vec![0, 0]))], vec![x()]),
        ("Transpose", vec![("perm", Attribute::Ints(vec![0, 7]))], vec![x()]),
        ("Unsqueeze", vec![], vec![x(), ints(&[0, 0])]),
        ("Unsqueeze", vec![], vec![x(), ints(&[9])]),
    ];
    for (name, attributes, inputs) in cases {
        for (way, outcome) in outcomes(name, &attributes, &inputs).into_iter().enumerate() {
            let error = outcome.err().unwrap_or_else(|| panic!("{name} takes {inputs:?} ({way})"));
            assert!(!matches!(error, OpError::Internal(_)), "{name} of {inputs:?} ({way}): {error}");
        }
    }
}
