//! Operators over quantized integers on every device: the same bytes as the references.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use std::sync::Arc;

use sardonyx_ops::build::NodeSpec;
use sardonyx_ops::ir::attributes::{Attribute, Attributes};
use sardonyx_ops::{DType, Operator, Tensor};
use sardonyx_tests::{Check, Random};

/// Bytes over the whole range, and the extremes often.
fn bytes(random: &mut Random, dtype: DType, dims: &[usize]) -> Tensor {
    let len: usize = dims.iter().product();
    let all: Vec<u8> = (0..len)
        .map(|_| match random.below(8) {
            0 => [0, 255, 128, 127][random.below(4)],
            _ => random.below(256) as u8,
        })
        .collect();
    Tensor::from_bytes(dtype, dims, all.into()).unwrap()
}

fn scales(random: &mut Random, dims: &[usize]) -> Tensor {
    let len: usize = dims.iter().product();
    Tensor::from_vec(dims, (0..len).map(|_| random.float(0.002, 0.1)).collect()).unwrap()
}

fn biases(random: &mut Random, count: usize) -> Tensor {
    Tensor::from_vec(&[count], (0..count).map(|_| random.below(20_001) as i32 - 10_000).collect()).unwrap()
}

fn dtype(random: &mut Random) -> DType {
    [DType::U8, DType::I8][random.below(2)]
}

fn build(
    domain: &str,
    name: &str,
    inputs: &[Option<Tensor>],
    attributes: &[(&str, Attribute)],
) -> Arc<dyn Operator> {
    let mut all = Attributes::default();
    attributes.iter().for_each(|(name, value)| all.insert(*name, value.clone()));
    let given: Vec<bool> = inputs.iter().map(Option::is_some).collect();
    let row = sardonyx_importer::table::lookup(domain, name, if domain.is_empty() { 18 } else { 1 }).unwrap();
    let spec = NodeSpec { op_type: name, opset: 18, inputs: &given, outputs: &[true], attributes: &all };
    (row.build)(&spec).unwrap()
}

fn ints(values: &[usize]) -> Attribute {
    Attribute::Ints(values.iter().map(|&value| value as i64).collect())
}

/// A random convolution: input, weights, attributes, output channels.
struct RandomConv {
    x: Tensor,
    w: Tensor,
    attributes: Vec<(&'static str, Attribute)>,
    channels: usize,
}

fn conv(random: &mut Random) -> RandomConv {
    let depthwise = random.below(3) == 0;
    let groups = if depthwise { 1 + random.below(19) } else { [1, 1, 1, 2, 3][random.below(5)] };
    let inputs = if depthwise { 1 } else { [1, 2, 3, 4, 7, 16, 17][random.below(7)] };
    let outputs =
        if depthwise { 1 + random.below(4) / 3 } else { [1, 2, 3, 4, 5, 8, 13, 17, 33][random.below(9)] };
    let axes = if random.below(8) == 0 { 1 } else { 2 };
    let (mut input, mut kernel, mut strides, mut dilations, mut pads) =
        (vec![], vec![], vec![], vec![], vec![]);
    for _ in 0..axes {
        let k = [1, 1, 2, 3, 3, 5][random.below(6)];
        let dilation = [1, 1, 1, 2][random.below(4)];
        let pad = random.below(k + 1);
        kernel.push(k);
        strides.push([1, 1, 2, 3][random.below(4)]);
        dilations.push(dilation);
        pads.push(pad);
        let least = ((k - 1) * dilation + 1).saturating_sub(2 * pad).max(1);
        input.push(least + [0, 1, 2, 3, 5, 7, 12, 13, 27][random.below(9)]);
    }
    let batch = 1 + random.below(5) / 4;
    let (x, w) = (dtype(random), dtype(random));
    let image = [&[batch, groups * inputs], &input[..]].concat();
    let window = [&[groups * outputs, inputs], &kernel[..]].concat();
    let attributes = vec![
        ("strides", ints(&strides)),
        ("dilations", ints(&dilations)),
        ("pads", ints(&[&pads[..], &pads[..]].concat())),
        ("group", Attribute::Int(groups as i64)),
    ];
    RandomConv {
        x: bytes(random, x, &image),
        w: bytes(random, w, &window),
        attributes,
        channels: groups * outputs,
    }
}

/// So many rounds, or as many as `SARDONYX_SOAK` says: drivers in software compile new kernels for each.
fn rounds(usual: usize) -> usize {
    std::env::var("SARDONYX_SOAK").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

#[test]
fn convolutions_of_random_sizes_and_types() {
    let mut random = Random(31);
    for round in 0..rounds(16) {
        let RandomConv { x, w, attributes, channels } = conv(&mut random);
        let vector = random.below(2) == 1;
        let dims: &[usize] = if vector { &[channels] } else { &[] };
        let zero = bytes(&mut random, x.dtype(), &[]);
        let w_zero = bytes(&mut random, w.dtype(), dims);
        let y = dtype(&mut random);
        let bias = (random.below(3) > 0).then(|| biases(&mut random, channels));
        let inputs = vec![
            Some(x.clone()),
            Some(scales(&mut random, &[])),
            Some(zero.clone()),
            Some(w.clone()),
            Some(scales(&mut random, dims)),
            Some(w_zero.clone()),
            Some(Tensor::scalar(random.float(0.05, 3.0))),
            Some(bytes(&mut random, y, &[])),
            bias,
        ];
        let inputs = inputs[..if inputs[8].is_none() { 8 } else { 9 }].to_vec();
        let op = build("", "QLinearConv", &inputs, &attributes);
        // GPUs ask for constant weights; a zero point of the input may be computed.
        let constants: &[usize] =
            if round % 4 == 0 { &[] } else { &[1, 3, 4, 5, 6, 7, 8][..inputs.len() - 2] };
        let check = Check::new(op, inputs).constants(constants);
        if round % 4 == 0 {
            check.cpu_only().run()
        } else {
            check.run()
        }
        if round % 4 == 1 {
            let inputs = vec![Some(x), Some(w), Some(zero), Some(w_zero)];
            let op = build("", "ConvInteger", &inputs, &attributes);
            Check::new(op, inputs).constants(&[1, 2, 3]).run();
        }
    }
}

#[test]
fn products_of_random_sizes_and_types() {
    let mut random = Random(32);
    let sizes = [1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 33, 64, 65, 127];
    for round in 0..rounds(12) {
        let mut size = || sizes[random.below(sizes.len())];
        let (m, n, k) = (size(), size(), size());
        let (x, w, y) = (dtype(&mut random), dtype(&mut random), dtype(&mut random));
        let outer = [&[][..], &[3], &[2, 3]][random.below(3)];
        let batched = random.below(4) == 0;
        let a = bytes(&mut random, x, &[outer, &[m, k]].concat());
        let b = bytes(&mut random, w, &[if batched { outer } else { &[] }, &[k, n]].concat());
        let dims: &[usize] = if random.below(2) == 1 { &[n] } else { &[] };
        let (a_zero, b_zero) = (bytes(&mut random, x, &[]), bytes(&mut random, w, dims));
        let (a_scale, b_scale) = (scales(&mut random, &[]), scales(&mut random, dims));
        let y_scale = Tensor::scalar(random.float(0.05, 3.0));
        let y_zero = bytes(&mut random, y, &[]);
        let all = |list: &[&Tensor]| list.iter().map(|&x| Some(x.clone())).collect::<Vec<_>>();
        let constant = round % 3 != 0;
        // GPUs ask for one constant second factor, and for a first one whose rows follow each other.
        let check = |domain: &str,
                     name: &str,
                     inputs: Vec<Option<Tensor>>,
                     attributes: &[(&str, Attribute)],
                     constants: &[usize],
                     gpu: bool| {
            let op = build(domain, name, &inputs, attributes);
            let check = Check::new(op, inputs).constants(if constant { constants } else { &[] });
            if gpu && constant { check.run() } else { check.cpu_only().run() }
        };
        let gpu = !batched || outer.is_empty();
        check("", "MatMulInteger", all(&[&a, &b, &a_zero, &b_zero]), &[], &[1, 3], gpu);
        let quantized = all(&[&a, &a_scale, &a_zero, &b, &b_scale, &b_zero, &y_scale, &y_zero]);
        check("", "QLinearMatMul", quantized, &[], &[1, 2, 3, 4, 5, 6, 7], gpu);
        let bias = Tensor::from_vec(&[n], (0..n).map(|_| random.float(-3.0, 3.0)).collect()).unwrap();
        let floats = all(&[&a, &b, &a_scale, &b_scale, &a_zero, &b_zero, &bias]);
        check("com.microsoft", "MatMulIntegerToFloat", floats, &[], &[1, 3, 5, 6], gpu);
        let flags = random.below(4);
        let attributes = [
            ("transA", Attribute::Int(i64::from(flags & 1 != 0))),
            ("transB", Attribute::Int(i64::from(flags & 2 != 0))),
            ("alpha", Attribute::Float(0.7)),
        ];
        let a = bytes(&mut random, x, &if flags & 1 != 0 { [k, m] } else { [m, k] });
        let b = bytes(&mut random, w, &if flags & 2 != 0 { [n, k] } else { [k, n] });
        let c = biases(&mut random, n);
        let mut gemm = all(&[&a, &a_scale, &a_zero, &b, &b_scale, &b_zero, &c, &y_scale, &y_zero]);
        let rows = flags & 1 == 0 || m == 1;
        check("com.microsoft", "QGemm", gemm.clone(), &attributes, &[1, 2, 3, 4, 5, 6, 7, 8], rows);
        gemm.truncate(7);
        check("com.microsoft", "QGemm", gemm, &attributes, &[1, 2, 3, 4, 5, 6], false);
    }
}

#[test]
fn packed_codes_of_random_sizes() {
    let mut random = Random(33);
    for round in 0..rounds(4) {
        let (bits, block) = ([4, 8][random.below(2)], [16, 32, 64, 128][random.below(4)]);
        let rows = [1, 2, 3, 5, 17][random.below(5)];
        let depth = [16, 17, 64, 100, 128, 200][random.below(6)];
        let columns = [1, 3, 4, 16, 33, 65][random.below(6)];
        let blocks = usize::div_ceil(depth, block);
        let mut zeros = bytes(&mut random, DType::U8, &[columns * (blocks * bits).div_ceil(8)]);
        if round % 3 == 0 {
            zeros = random.tensor(&[columns * blocks]);
        }
        let inputs = vec![
            Some(random.tensor(&[rows, depth])),
            Some(bytes(&mut random, DType::U8, &[columns, blocks, block * bits / 8])),
            Some(scales(&mut random, &[columns * blocks])),
            (random.below(3) > 0).then_some(zeros),
            None,
            Some(random.tensor(&[columns])),
        ];
        let attributes = [
            ("K", Attribute::Int(depth as i64)),
            ("N", Attribute::Int(columns as i64)),
            ("bits", Attribute::Int(bits as i64)),
            ("block_size", Attribute::Int(block as i64)),
        ];
        let constants: &[usize] = if inputs[3].is_some() { &[1, 2, 3, 5] } else { &[1, 2, 5] };
        // Codes of 8 bits around 0 cancel: sums are a hundred times as large as results.
        let op = build("com.microsoft", "MatMulNBits", &inputs, &attributes);
        // Some adapters in software refuse the kernel.
        Check::new(op, inputs).constants(constants).tolerance(1e-4, 2e-2).cpu_only().run();
    }
}

#[test]
fn floats_become_bytes_with_a_scale_that_suits_them() {
    let mut random = Random(34);
    for dims in [&[1][..], &[3], &[17, 5], &[65, 127], &[40_001]] {
        let inputs = vec![Some(random.tensor(dims))];
        let op = build("", "DynamicQuantizeLinear", &inputs, &[]);
        Check::new(op, inputs).outputs(3).as_modelled().run();
    }
    let inputs = vec![Some(Tensor::from_slice(&[5], &[0f32; 5]).unwrap())];
    let op = build("", "DynamicQuantizeLinear", &inputs, &[]);
    Check::new(op, inputs).outputs(3).as_modelled().run();
}

#[test]
fn greatest_bytes_of_windows() {
    let mut random = Random(35);
    for dtype in [DType::U8, DType::I8] {
        for (input, kernel, stride, pad) in [(9, 3, 2, 1), (7, 2, 1, 0), (112, 3, 2, 1), (5, 5, 3, 2)] {
            let inputs = vec![Some(bytes(&mut random, dtype, &[1, 3, input, input + 1]))];
            let attributes = [
                ("kernel_shape", ints(&[kernel; 2])),
                ("strides", ints(&[stride; 2])),
                ("pads", ints(&[pad; 4])),
            ];
            let op = build("", "MaxPool", &inputs, &attributes);
            Check::new(op, inputs).run();
        }
    }
}
