//! Normalisations and softmax on every device.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "test code")]

use std::sync::Arc;

use sardonyx_ops::build::NodeSpec;
use sardonyx_ops::expr::{Expr, ExprNode};
use sardonyx_ops::ir::attributes::{Attribute, Attributes};
use sardonyx_ops::norm::{self, BatchNormalization, Form, Lrn, Softmax};
use sardonyx_ops::pointwise::functions;
use sardonyx_ops::{DType, Operator, Tensor};
use sardonyx_tests::{Check, Random};

/// An operator built as the importer does.
fn build(
    name: &str,
    opset: i64,
    inputs: &[bool],
    outputs: &[bool],
    attributes: &[(&str, Attribute)],
) -> Arc<dyn Operator> {
    let mut all = Attributes::default();
    attributes.iter().for_each(|(name, value)| all.insert(*name, value.clone()));
    let row = norm::OPERATORS.iter().find(|row| row.name == name).unwrap();
    let op = (row.build)(&NodeSpec { op_type: name, opset, inputs, outputs, attributes: &all }).unwrap();
    assert!(all.unread().is_empty(), "{name} does not read {:?}", all.unread());
    op
}

fn add() -> Expr {
    Expr {
        nodes: vec![
            ExprNode::Accumulator,
            ExprNode::Operand(0),
            ExprNode::Call { function: &functions::ADD, args: vec![0, 1], params: Vec::new() },
        ],
        results: vec![2],
    }
}

fn positive(random: &mut Random, dims: &[usize]) -> Tensor {
    let len = dims.iter().product();
    Tensor::from_vec(dims, (0..len).map(|_| random.float(0.5, 1.5)).collect::<Vec<f32>>()).unwrap()
}

const LINES: [[usize; 3]; 12] = [
    [3, 17, 1],
    [129, 64, 1],
    [5, 65, 1],
    [2, 1000, 1],
    [3, 4096, 1],
    [1, 5001, 1],
    [2, 5, 8],
    [3, 127, 3],
    [1, 300, 4],
    [2, 33, 260],
    [1, 1, 1],
    [7, 1, 5],
];

#[test]
fn softmax_along_every_kind_of_line() {
    let mut random = Random(31);
    for dims in LINES {
        for form in [Form::Soft, Form::Log] {
            for dtype in [DType::F32, DType::F16] {
                let op = Softmax { form, axis: 1, flatten: false };
                Check::new(Arc::new(op), vec![Some(random.tensor_of(dtype, &dims))]).run();
            }
        }
    }
    let op = Softmax { form: Form::Soft, axis: 1, flatten: true };
    Check::new(Arc::new(op), vec![Some(random.tensor(&[3, 5, 7]))]).run();
    let op = Softmax { form: Form::Hard, axis: 1, flatten: false };
    Check::new(Arc::new(op), vec![Some(random.tensor(&[3, 5, 7]))]).cpu_only().run();
}

#[test]
fn masked_elements_of_a_softmax_are_zero() {
    for len in [5, 100] {
        for inner in [1, 4] {
            let all = (0..2 * len * inner).map(|i| if i % 3 == 1 { f32::NEG_INFINITY } else { i as f32 });
            let data = Tensor::from_vec(&[2, len, inner], all.collect()).unwrap();
            let op = Softmax { form: Form::Soft, axis: 1, flatten: false };
            Check::new(Arc::new(op), vec![Some(data)]).run();
        }
    }
}

#[test]
fn layers_with_and_without_bias() {
    let mut random = Random(32);
    for [outer, len, _] in LINES {
        for dtype in [DType::F32, DType::F16] {
            let x = Some(random.tensor_of(dtype, &[outer, len]));
            let scale = Some(random.tensor_of(dtype, &[len]));
            let bias = Some(random.tensor_of(dtype, &[len]));
            let op = build("LayerNormalization", 17, &[true; 3], &[true], &[("axis", Attribute::Int(-1))]);
            // A line of one element has no variance: what is left of it is rounding.
            Check::new(op, vec![x.clone(), scale.clone(), bias]).run();
            let op = build("LayerNormalization", 17, &[true; 2], &[true], &[]);
            Check::new(op, vec![x.clone(), scale.clone()]).run();
            let op = build("RMSNormalization", 23, &[true; 2], &[true], &[]);
            Check::new(op, vec![x, scale]).run();
        }
    }
    // Several dimensions, a scale that stretches, a mean far from zero.
    let op = build("LayerNormalization", 17, &[true; 3], &[true], &[("axis", Attribute::Int(1))]);
    let data = positive(&mut random, &[3, 5, 17]);
    let scale = Some(random.tensor(&[17]));
    let bias = Some(random.tensor(&[5, 1]));
    Check::new(op, vec![Some(data), scale, bias]).run();
}

#[test]
fn statistics_are_left_to_the_cpu() {
    let mut random = Random(33);
    let op = build("LayerNormalization", 17, &[true; 2], &[true; 3], &[]);
    let inputs = vec![Some(random.tensor(&[3, 17])), Some(random.tensor(&[17]))];
    Check::new(op, inputs.clone()).outputs(3).cpu_only().run();
    let op = build("SimplifiedLayerNormalization", 1, &[true; 2], &[true; 2], &[]);
    Check::new(op, inputs).outputs(2).cpu_only().run();
}

#[test]
fn residual_connections_are_normalised() {
    let mut random = Random(34);
    for (dims, skip) in
        [(&[2, 3, 17][..], &[2, 3, 17][..]), (&[2, 5, 768], &[5, 768]), (&[1, 3, 65], &[1, 3, 65])]
    {
        let len = *dims.last().unwrap();
        let mut parameter = || Some(random.tensor(&[len]));
        let (gamma, beta, bias) = (parameter(), parameter(), parameter());
        let (x, skip) = (Some(random.tensor(dims)), Some(random.tensor(skip)));
        let op = build("SkipLayerNormalization", 1, &[true; 5], &[true], &[]);
        let inputs = vec![x.clone(), skip.clone(), gamma.clone(), beta.clone(), bias.clone()];
        Check::new(op, inputs).run();
        let given = [true, true, true, false, true];
        let op = build("SkipLayerNormalization", 1, &given, &[true], &[("epsilon", Attribute::Float(0.1))]);
        Check::new(op, vec![x.clone(), skip.clone(), gamma.clone(), None, bias.clone()]).run();
        let inputs = vec![x, skip, gamma, bias];
        let op = build("SkipSimplifiedLayerNormalization", 1, &[true; 4], &[true], &[]);
        Check::new(op, inputs.clone()).run();
        // The sum goes on to the next residual connection.
        let wanted = [true, false, false, true];
        let op = build("SkipSimplifiedLayerNormalization", 1, &[true; 4], &wanted, &[]);
        Check::new(op, inputs).wanted(&wanted).run();
    }
}

#[test]
fn groups_and_instances() {
    let mut random = Random(35);
    for dims in [&[2, 8, 5, 7][..], &[1, 4, 16], &[3, 6, 1, 1], &[1, 32, 33, 17], &[2, 4, 64, 64]] {
        let channels = dims[1];
        let x = positive(&mut random, dims);
        let mut parameter = |count| Some(random.tensor(&[count]));
        let (scale, bias) = (parameter(channels), parameter(channels));
        let op = build("InstanceNormalization", 6, &[true; 3], &[true], &[]);
        Check::new(op, vec![Some(x.clone()), scale.clone(), bias.clone()]).run();
        let attributes = [("num_groups", Attribute::Int(2)), ("stash_type", Attribute::Int(1))];
        let op = build("GroupNormalization", 21, &[true; 3], &[true], &attributes);
        Check::new(op, vec![Some(x.clone()), scale, bias]).run();
        let op = build("GroupNormalization", 18, &[true; 3], &[true], &attributes[..1]);
        Check::new(op, vec![Some(x), parameter(2), parameter(2)]).run();
    }
}

#[test]
fn batches_with_constant_and_with_given_statistics() {
    let mut random = Random(36);
    for dims in [&[2, 8, 5, 7][..], &[1, 3, 16], &[17, 5], &[2, 4, 8, 8]] {
        for dtype in [DType::F32, DType::F16] {
            let x = Some(random.tensor_of(dtype, dims));
            let mut inputs = vec![x];
            for _ in 0..3 {
                inputs.push(Some(random.tensor(&[dims[1]])));
            }
            inputs.push(Some(positive(&mut random, &[dims[1]])));
            let op = Arc::new(BatchNormalization { epsilon: 1e-5 });
            Check::new(op.clone(), inputs.clone()).run();
            Check::new(op, inputs).constants(&[1, 2, 3, 4]).run();
        }
    }
}

#[test]
fn norms_and_deviations() {
    let mut random = Random(37);
    for dims in LINES {
        for p in [1, 2] {
            let attributes = [("p", Attribute::Int(p)), ("axis", Attribute::Int(1))];
            let op = build("LpNormalization", 1, &[true], &[true], &attributes);
            Check::new(op, vec![Some(random.tensor(&dims))]).run();
        }
    }
    let zeros = Tensor::zeroed(DType::F32, &[3, 100, 4]).unwrap();
    for axis in [1, 2] {
        let op = build("LpNormalization", 22, &[true], &[true], &[("axis", Attribute::Int(axis))]);
        Check::new(op, vec![Some(zeros.clone())]).run();
    }
    let data = random.tensor(&[1, 3, 9, 7]);
    let op = build("MeanVarianceNormalization", 13, &[true], &[true], &[]);
    Check::new(op.clone(), vec![Some(data)]).run();
    // Over dimensions that are apart there is no kernel.
    Check::new(op, vec![Some(random.tensor(&[2, 3, 9, 7]))]).cpu_only().run();
}

#[test]
fn responses_across_channels() {
    let mut random = Random(38);
    for dims in [&[2, 5, 3, 3][..], &[1, 17, 4, 4], &[1, 3, 65], &[2, 7]] {
        for size in [1, 2, 3, 5, 40] {
            let op = Lrn { size, alpha: 0.5, beta: 0.75, bias: 2.0 };
            Check::new(Arc::new(op), vec![Some(random.tensor(dims))]).run();
        }
    }
}

#[test]
fn results_pass_through_an_epilogue() {
    let mut random = Random(39);
    for dims in [[3, 17, 5], [7, 100, 1], [1, 65, 8], [2, 64, 64]] {
        let operand = random.tensor(&[dims[2]]);
        let x = || Some(Random(40).tensor(&dims));
        let softmax = Arc::new(Softmax { form: Form::Soft, axis: 1, flatten: false });
        Check::new(softmax, vec![x()]).epilogue(add(), vec![operand.clone()]).run();
        let mut parameter = |count| Some(random.tensor(&[count]));
        let instance = build("InstanceNormalization", 6, &[true; 3], &[true], &[]);
        let inputs = vec![x(), parameter(dims[1]), parameter(dims[1])];
        Check::new(instance, inputs).epilogue(add(), vec![operand.clone()]).run();
        let layer = build("LayerNormalization", 17, &[true; 3], &[true], &[]);
        let inputs = vec![x(), parameter(dims[2]), parameter(dims[2])];
        Check::new(layer, inputs).epilogue(add(), vec![operand.clone()]).run();
        let skip = build("SkipLayerNormalization", 1, &[true; 3], &[true], &[]);
        let inputs = vec![x(), x(), parameter(dims[2])];
        Check::new(skip, inputs).epilogue(add(), vec![operand.clone()]).run();
        let batch = Arc::new(BatchNormalization { epsilon: 1e-5 });
        let mut inputs = vec![x()];
        (0..3).for_each(|_| inputs.push(parameter(dims[1])));
        inputs.push(Some(positive(&mut random, &[dims[1]])));
        Check::new(batch, inputs).constants(&[1, 2, 3, 4]).epilogue(add(), vec![operand.clone()]).run();
        let lrn = Arc::new(Lrn { size: 3, alpha: 0.5, beta: 0.75, bias: 2.0 });
        Check::new(lrn, vec![x()]).epilogue(add(), vec![operand]).run();
    }
}
