//! Quantized operators. Scales are powers of two, so that every value before a rounding is exact and integers must be
//! equal; where that cannot be, they may differ by one.

use sardonyx_ops::{DType, Tensor};

use crate::driver::{Generator, microsoft, onnx};
use crate::node::{Draw, Node, tensor};
use crate::windows::{windows, written};

pub const GENERATORS: &[Generator] = &[
    onnx("ConvInteger", conv_integer),
    onnx("DequantizeLinear", dequantize),
    onnx("DynamicQuantizeLinear", dynamic),
    onnx("MatMulInteger", matmul_integer),
    onnx("QLinearConv", qlinear_conv),
    onnx("QLinearMatMul", qlinear_matmul),
    onnx("QuantizeLinear", quantize),
    microsoft("DynamicQuantizeMatMul", dynamic_matmul),
    microsoft("MatMulIntegerToFloat", matmul_to_float),
    microsoft("MatMulNBits", matmul_bits),
    microsoft("QGemm", qgemm),
    microsoft("QLinearAdd", around_two),
    microsoft("QLinearAveragePool", around_pool),
    microsoft("QLinearConcat", around_concat),
    microsoft("QLinearGlobalAveragePool", around_global_pool),
    microsoft("QLinearLeakyRelu", |draw, node| around_one(draw, node.float("alpha", 0.25))),
    microsoft("QLinearMul", around_two),
    // A sigmoid's last digit may tip a rounding.
    microsoft("QLinearSigmoid", |draw, node| around_one(draw, node).off_by_one()),
];

const BYTES: [DType; 2] = [DType::U8, DType::I8];

/// Bytes of every value.
fn bytes(draw: &mut Draw, dtype: DType, dims: &[usize]) -> Tensor {
    draw.bulk(dtype, dims)
}

fn scale(draw: &mut Draw, dtype: DType, dims: &[usize]) -> Tensor {
    let len: usize = dims.iter().product();
    let all: Vec<f64> = (0..len).map(|_| draw.pick(&[0.125, 0.25, 0.5, 1.0])).collect();
    tensor(dtype, dims, &all)
}

fn zero_point(draw: &mut Draw, dtype: DType, dims: &[usize]) -> Tensor {
    let low = if dtype == DType::U8 { 100 } else { -20 };
    draw.numbers(dtype, dims, low, low + 40)
}

/// A scale and a zero point, for all or along a dimension.
fn parameters(draw: &mut Draw, node: Node, dtype: DType, dims: &[usize]) -> Node {
    let (scale, zero) = (scale(draw, DType::F32, dims), zero_point(draw, dtype, dims));
    node.setting(draw, scale).setting(draw, zero)
}

/// The granularity of a tensor: its axis as the model writes it, its block, and the dimensions of scales.
fn granularity(draw: &mut Draw, dims: &[usize]) -> (i64, i64, Vec<usize>) {
    if dims.is_empty() || draw.one_in(3) {
        return (1, 0, Vec::new());
    }
    let (axis, written) = draw.axis(dims.len());
    if draw.flag() {
        return (written, 0, vec![dims[axis]]);
    }
    let block = draw.between(1, dims[axis].max(1) as i64);
    let mut own = dims.to_vec();
    own[axis] = dims[axis].div_ceil(block as usize);
    (written, block, own)
}

fn quantize(draw: &mut Draw, node: Node) -> Node {
    let to = draw.pick(&[DType::U8, DType::I8, DType::U8, DType::I8, DType::U16, DType::I16]);
    let dtype = draw.pick(&[DType::F32, DType::F32, DType::F16, DType::BF16]);
    let dims = draw.dims(0, 4);
    let x = draw.floats_within(dtype, &dims, -20.0, 20.0);
    let (axis, block, own) = granularity(draw, &dims);
    let node = node.int("axis", axis).int("block_size", block).input(draw, x);
    let scales = scale(draw, dtype, &own);
    let node = node.setting(draw, scales);
    match draw.below(3) {
        0 => node.int("output_dtype", i64::from(to.to_onnx())),
        _ => {
            let zero = zero_point(draw, to, &own);
            node.setting(draw, zero)
        }
    }
}

fn dequantize(draw: &mut Draw, node: Node) -> Node {
    let from = draw.pick(&[DType::U8, DType::I8, DType::U8, DType::I8, DType::U16, DType::I16, DType::I32]);
    let dtype = draw.pick(&[DType::F32, DType::F32, DType::F16]);
    let dims = draw.dims(0, 4);
    let x = draw.numbers(from, &dims, 0, 100);
    let (axis, block, own) = granularity(draw, &dims);
    let node = node.int("axis", axis).int("block_size", block).input(draw, x);
    let scales = scale(draw, dtype, &own);
    let node = node.setting(draw, scales);
    if from == DType::I32 || draw.one_in(3) {
        return node;
    }
    let zero = zero_point(draw, from, &own);
    node.setting(draw, zero)
}

fn dynamic(draw: &mut Draw, node: Node) -> Node {
    let dims = draw.dims(1, 4);
    let x = draw.data(DType::F32, &dims);
    node.input(draw, x).outputs(&[true; 3]).off_by_one().unhalved()
}

/// Two matrices of bytes with leading dimensions.
fn matrices(draw: &mut Draw) -> (Tensor, Tensor, [usize; 2]) {
    let (m, k, n) = (draw.maybe_zero().min(65), draw.extent(), draw.extent().min(65));
    let batch: Vec<usize> = if draw.one_in(3) { vec![draw.between(1, 3) as usize] } else { Vec::new() };
    let (a, b) = (draw.pick(&BYTES), draw.pick(&BYTES));
    let b_batch = if draw.flag() { batch.clone() } else { Vec::new() };
    let a = bytes(draw, a, &[batch, vec![m, k]].concat());
    let b = bytes(draw, b, &[b_batch, vec![k, n]].concat());
    (a, b, [m, n])
}

fn matmul_integer(draw: &mut Draw, node: Node) -> Node {
    let (a, b, [_, n]) = matrices(draw);
    let zero_a = zero_point(draw, a.dtype(), &[]);
    let columns = if b.dims().len() == 2 && draw.flag() { vec![n] } else { Vec::new() };
    let zero_b = zero_point(draw, b.dtype(), &columns);
    let node = node.input(draw, a).setting(draw, b);
    match draw.below(3) {
        0 => node,
        1 => node.setting(draw, zero_a),
        _ => node.setting(draw, zero_a).setting(draw, zero_b),
    }
}

fn qlinear_matmul(draw: &mut Draw, node: Node) -> Node {
    let (a, b, [_, n]) = matrices(draw);
    let columns = if b.dims().len() == 2 && draw.flag() { vec![n] } else { Vec::new() };
    let (first, second, to) = (a.dtype(), b.dtype(), draw.pick(&BYTES));
    let node = node.input(draw, a);
    let node = parameters(draw, node, first, &[]).setting(draw, b);
    let node = parameters(draw, node, second, &columns);
    let node = node.setting(draw, tensor(DType::F32, &[], &[64.0]));
    let zero = zero_point(draw, to, &[]);
    node.setting(draw, zero)
}

fn matmul_to_float(draw: &mut Draw, node: Node) -> Node {
    let (a, b, [_, n]) = matrices(draw);
    let (zero_a, zero_b) = (zero_point(draw, a.dtype(), &[]), zero_point(draw, b.dtype(), &[]));
    let bias = draw.flag().then(|| draw.data(DType::F32, &[n]));
    let (scale_a, scale_b) = (scale(draw, DType::F32, &[]), scale(draw, DType::F32, &[]));
    let node = node.input(draw, a).setting(draw, b).setting(draw, scale_a).setting(draw, scale_b);
    let node = node.setting(draw, zero_a).setting(draw, zero_b).unhalved();
    if bias.is_some() { node.optional(draw, bias) } else { node }
}

fn dynamic_matmul(draw: &mut Draw, node: Node) -> Node {
    let (m, k, n) = (draw.extent().min(65), draw.extent(), draw.extent().min(65));
    let dtype = draw.pick(&BYTES);
    let (x, b) = (draw.data(DType::F32, &[m, k]), bytes(draw, dtype, &[k, n]));
    let (scales, zero) = (scale(draw, DType::F32, &[]), zero_point(draw, dtype, &[]));
    let node = node.input(draw, x).setting(draw, b).setting(draw, scales).setting(draw, zero);
    // One step of the input's scale, where a rounding tips over.
    node.tolerance(2e-2, 2e-2).sums().unhalved()
}

fn matmul_bits(draw: &mut Draw, node: Node) -> Node {
    let (bits, block) = (draw.pick(&[2usize, 4, 4, 8]), draw.pick(&[16usize, 32, 64]));
    let (m, k, n) = (draw.extent().min(33), draw.extent(), draw.extent().min(65));
    let dtype = draw.pick(&[DType::F32, DType::F32, DType::F16]);
    let blocks = k.div_ceil(block);
    let x = draw.data(dtype, &[m, k]);
    let codes = bytes(draw, DType::U8, &[n, blocks, block * bits / 8]);
    let scales = scale(draw, dtype, &[n * blocks]);
    let zeros = draw.flag().then(|| bytes(draw, DType::U8, &[n * (blocks * bits).div_ceil(8)]));
    let node =
        node.int("bits", bits as i64).int("block_size", block as i64).int("K", k as i64).int("N", n as i64);
    let node = node.input(draw, x).setting(draw, codes).setting(draw, scales).tolerance(2e-5, 1e-2).sums();
    if zeros.is_some() { node.optional(draw, zeros) } else { node }
}

fn qgemm(draw: &mut Draw, node: Node) -> Node {
    let (m, k, n) = (draw.extent().min(33), draw.extent(), draw.extent().min(65));
    let (ta, tb) = (draw.flag(), draw.flag());
    let (first, second) = (draw.pick(&BYTES), draw.pick(&BYTES));
    let a = bytes(draw, first, &if ta { [k, m] } else { [m, k] });
    let b = bytes(draw, second, &if tb { [n, k] } else { [k, n] });
    let c = draw.flag().then(|| draw.numbers(DType::I32, &[n], -999, 999));
    let quantized = draw.flag();
    let node = node.flag("transA", ta).flag("transB", tb).float("alpha", 0.5).input(draw, a);
    let node = parameters(draw, node, first, &[]).setting(draw, b);
    let node = parameters(draw, node, second, &[]).optional(draw, c);
    if !quantized {
        return node.unhalved();
    }
    let node = node.setting(draw, tensor(DType::F32, &[], &[64.0]));
    let zero = zero_point(draw, first, &[]);
    node.setting(draw, zero)
}

/// Input, weights and the channels they make, with the attributes of a convolution.
fn convolution(draw: &mut Draw, node: Node) -> (Node, Tensor, Tensor, usize) {
    let all = windows(draw);
    let (c, m, groups) = match draw.below(3) {
        0 => (1, 1, draw.extent().min(17)),
        _ => (draw.extent().min(9), draw.extent().min(9), 1),
    };
    let n = draw.between(1, 2) as usize;
    let (first, second) = (draw.pick(&BYTES), draw.pick(&BYTES));
    let x = bytes(draw, first, &[vec![n, c * groups], all.input.clone()].concat());
    let kernel: Vec<usize> = all.kernel.iter().map(|&k| k as usize).collect();
    let w = bytes(draw, second, &[vec![m * groups, c], kernel].concat());
    (written(draw, node, &all, true).int("group", groups as i64), x, w, m * groups)
}

fn conv_integer(draw: &mut Draw, node: Node) -> Node {
    let (node, x, w, channels) = convolution(draw, node);
    let zero_x = zero_point(draw, x.dtype(), &[]);
    let columns = if draw.flag() { vec![channels] } else { Vec::new() };
    let zero_w = zero_point(draw, w.dtype(), &columns);
    let node = node.input(draw, x).setting(draw, w);
    match draw.below(3) {
        0 => node,
        1 => node.setting(draw, zero_x),
        _ => node.setting(draw, zero_x).setting(draw, zero_w),
    }
}

fn qlinear_conv(draw: &mut Draw, node: Node) -> Node {
    let (node, x, w, channels) = convolution(draw, node);
    let (first, second, to) = (x.dtype(), w.dtype(), draw.pick(&BYTES));
    let columns = if draw.flag() { vec![channels] } else { Vec::new() };
    let bias = draw.flag().then(|| draw.numbers(DType::I32, &[channels], -999, 999));
    let node = node.input(draw, x);
    let node = parameters(draw, node, first, &[]).setting(draw, w);
    let node = parameters(draw, node, second, &columns);
    let node = node.setting(draw, tensor(DType::F32, &[], &[64.0]));
    let zero = zero_point(draw, to, &[]);
    let node = node.setting(draw, zero);
    if bias.is_some() { node.optional(draw, bias) } else { node }
}

/// Quantized inputs, then the scale and zero point of the output.
fn around(draw: &mut Draw, node: Node, all: &[Vec<usize>]) -> Node {
    let dtype = draw.pick(&BYTES);
    let node = all.iter().fold(node, |node, dims| {
        let x = bytes(draw, dtype, dims);
        let node = node.input(draw, x);
        parameters(draw, node, dtype, &[])
    });
    parameters(draw, node, dtype, &[])
}

fn around_one(draw: &mut Draw, node: Node) -> Node {
    let dims = draw.dims(0, 4);
    around(draw, node, &[dims])
}

fn around_two(draw: &mut Draw, node: Node) -> Node {
    let dims = draw.dims(0, 4);
    let other = draw.broadcast_to(&dims);
    around(draw, node, &[dims, other])
}

fn around_pool(draw: &mut Draw, node: Node) -> Node {
    let mut all = windows(draw);
    let rank = all.kernel.len();
    (0..2 * rank).for_each(|at| all.pads[at] = all.pads[at].min(all.kernel[at % rank] / 2));
    all.dilations = vec![1; rank];
    let node = written(draw, node.ints("kernel_shape", &all.kernel), &all, true);
    let node = Node {
        attributes: node.attributes.into_iter().filter(|(name, _)| *name != "dilations").collect(),
        ..node
    };
    // Means of nine numbers are not exact.
    around(draw, node, &[[vec![1, 3], all.input].concat()]).off_by_one()
}

fn around_global_pool(draw: &mut Draw, node: Node) -> Node {
    let dims = draw.full_dims(4, 4);
    around(draw, node, &[dims]).off_by_one()
}

/// The output's scale and zero point come first here.
fn around_concat(draw: &mut Draw, node: Node) -> Node {
    let dims = draw.dims(1, 4);
    let (axis, written) = draw.axis(dims.len());
    let dtype = draw.pick(&BYTES);
    let count = draw.between(1, 3);
    let node = node.int("axis", written);
    let node = parameters(draw, node, dtype, &[]);
    (0..count).fold(node, |node, _| {
        let mut own = dims.clone();
        own[axis] = draw.extent().min(9);
        let x = bytes(draw, dtype, &own);
        let node = node.input(draw, x);
        parameters(draw, node, dtype, &[])
    })
}
