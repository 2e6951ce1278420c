//! Where ONNX's reference implementation differs from the text of the specification, the text holds: literal numbers
//! worked out from it by hand, on every device.

use sardonyx::{Device, Precision};
use sardonyx_ops::{DType, Tensor};
use sardonyx_tests::{gpu_turn, gpus};

use crate::driver::{Ran, case_of_parts, compare, run};
use crate::node::{Node, TOLERANCE, tensor};

/// The operator makes `want` of `x` and further inputs: by its reference, and on every device.
fn expect(node: Node, inputs: &[Tensor], dims: &[usize], want: &[f64]) {
    let want = [tensor(DType::F32, dims, want)];
    let node = Node {
        inputs: inputs.iter().cloned().map(Some).collect(),
        constant: (0..inputs.len()).map(|index| index > 0).collect(),
        ..node
    };
    let (graph, given, by_reference) = case_of_parts(&node).unwrap();
    compare(&by_reference, &want, TOLERANCE, Precision::Model)
        .unwrap_or_else(|what| panic!("{}: {what}", node.name));
    let _turn = gpu_turn();
    for device in std::iter::once(&Device::cpu()).chain(gpus()) {
        let ran = run(&graph, &given, device, Precision::Model, &Default::default()).unwrap();
        let Ran::Done(got, _) = ran else { panic!("{} is refused on {device:?}", node.name) };
        compare(&got, &want, TOLERANCE, Precision::Model)
            .unwrap_or_else(|what| panic!("{} on {device:?}: {what}", node.name));
    }
}

fn floats(dims: &[usize], all: &[f64]) -> Tensor {
    tensor(DType::F32, dims, all)
}

/// `square_sum[c]` runs from `c - floor((size - 1) / 2)` to `c + ceil((size - 1) / 2)`, the last one included: of an even
/// size, one channel more ahead than behind. The reference sums other channels.
#[test]
fn lrn_reaches_further_ahead_than_behind() {
    let node = Node::new("", "LRN").int("size", 2).float("alpha", 2.0).float("beta", 1.0).float("bias", 1.0);
    let want = [1.0 / (1.0 + 1.0 + 4.0), 2.0 / (1.0 + 4.0 + 9.0), 3.0 / (1.0 + 9.0)];
    expect(node, &[floats(&[1, 3, 1, 1], &[1.0, 2.0, 3.0])], &[1, 3, 1, 1], &want);
}

/// The L1 norm is a sum of magnitudes. The reference sums the elements with their signs.
#[test]
fn lp_normalization_sums_magnitudes() {
    let node = Node::new("", "LpNormalization").int("axis", -1).int("p", 1);
    expect(node, &[floats(&[2, 2], &[1.0, -3.0, -2.0, -2.0])], &[2, 2], &[0.25, -0.75, -0.5, -0.5]);
}

/// With `ceil_mode` a last window may reach beyond the padding; what lies there is no element and no padding, so it never
/// counts, and padding counts with `count_include_pad` only. The reference pads both ends alike and counts what it added.
#[test]
fn average_pool_counts_padding_but_nothing_beyond() {
    let x = [floats(&[1, 1, 4], &[1.0, 2.0, 3.0, 6.0])];
    let node = |include| {
        let node = Node::new("", "AveragePool").ints("kernel_shape", &[2]).ints("strides", &[2]);
        node.ints("pads", &[1, 0]).flag("ceil_mode", true).flag("count_include_pad", include)
    };
    // Windows begin at -1, 1 and 3 of 0 to 3.
    expect(node(true), &x, &[1, 1, 3], &[0.5, 2.5, 6.0]);
    expect(node(false), &x, &[1, 1, 3], &[1.0, 2.5, 6.0]);
    // The same on both axes of a picture, padded at one end each.
    let x = [floats(&[1, 1, 3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])];
    let node = Node::new("", "AveragePool").ints("kernel_shape", &[2, 2]).ints("strides", &[2, 2]);
    let node = node.ints("pads", &[0, 1, 0, 0]).flag("ceil_mode", true).flag("count_include_pad", true);
    expect(node, &x, &[1, 1, 2, 2], &[1.0, 3.0, 2.5, 6.0]);
}

/// The channels of a group meet the filters of that group only. The reference mixes them.
#[test]
fn conv_transpose_keeps_groups_apart() {
    let (x, w) = (floats(&[1, 2, 2], &[1.0, 2.0, 3.0, 4.0]), floats(&[2, 1, 2], &[1.0, 10.0, 2.0, 5.0]));
    let node = Node::new("", "ConvTranspose").int("group", 2);
    expect(node, &[x, w], &[1, 2, 3], &[1.0, 12.0, 20.0, 6.0, 23.0, 20.0]);
}

/// Before opset 13 the input is taken as a matrix whose rows are all dimensions from the axis on, which is 1 by default.
/// The reference knows the newer definition only.
#[test]
fn softmax_before_opset_13_goes_over_the_rest() {
    let logarithms = [1.0f64, 2.0, 3.0, 2.0, 1.0, 1.0, 1.0, 1.0].map(f64::ln);
    let x = [floats(&[2, 2, 2], &logarithms)];
    let want = [0.125, 0.25, 0.375, 0.25, 0.25, 0.25, 0.25, 0.25];
    expect(Node::new("", "Softmax").opset(12), &x, &[2, 2, 2], &want);
    let newer = [1.0 / 3.0, 2.0 / 3.0, 0.6, 0.4, 0.5, 0.5, 0.5, 0.5];
    expect(Node::new("", "Softmax").opset(13), &x, &[2, 2, 2], &newer);
    expect(Node::new("", "LogSoftmax").opset(12), &x, &[2, 2, 2], &want.map(f64::ln));
    let hard = [0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0];
    let node = Node::new("", "Hardmax").opset(12);
    let (_, _, got) =
        case_of_parts(&Node { inputs: vec![Some(x[0].clone())], constant: vec![false], ..node }).unwrap();
    assert_eq!(got[0].to_vec::<f32>().unwrap(), hard.map(|x| x as f32));
}
