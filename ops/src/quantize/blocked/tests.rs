use super::*;
use crate::conv::conv::Conv;
use crate::conv::window::{Padding, Window};
use crate::cpu::check::{numbers, random, with_problem};
use crate::layout::{Reorder, blocked_dims};
use crate::operator::CpuRun;

/// Bytes from a seed, the extreme ones more often than others.
fn random_bytes(dims: &[usize], signed: bool, seed: u32) -> Tensor {
    let each = numbers(&random(dims, seed)).into_iter().map(|x| match x {
        ..-0.9 => 0u8,
        0.9.. => 255,
        x => (x * 142.0) as i8 as u8 ^ 0x80,
    });
    let flip = if signed { 0x80 } else { 0 };
    let all: Vec<u8> = each.map(|byte| byte ^ flip).collect();
    Tensor::from_bytes(if signed { DType::I8 } else { DType::U8 }, dims, all.into()).unwrap()
}

struct Case {
    groups: usize,
    strides: [usize; 2],
    dilations: [usize; 2],
    pads: [usize; 4],
    x: [usize; 4],
    w: [usize; 4],
    there: bool,
}

/// Compares the kernels with the reference, byte for byte: every pairing of types, every instruction set, on one thread
/// and several.
fn check(case: &Case) {
    let window = Window {
        kernel: None,
        strides: case.strides.to_vec(),
        dilations: case.dilations.to_vec(),
        padding: Padding::Explicit(case.pads.to_vec()),
    };
    let bounds = Bounds { least: -20, greatest: 200 };
    let conv = Conv { window, groups: case.groups };
    for (index, [x_signed, w_signed, y_signed]) in
        [[false, true, false], [true, true, true], [false, false, true], [true, false, false]]
            .into_iter()
            .enumerate()
    {
        let bounds = if index % 2 == 0 { Bounds::NONE } else { bounds };
        let op = QLinearConv { conv: conv.clone(), bounds };
        let zero = |signed: bool, at: i8| match signed {
            true => Tensor::scalar(at),
            false => Tensor::scalar((at as u8) ^ 0x80),
        };
        let channels = case.w[0];
        let scales: Vec<f32> = (0..channels).map(|c| 0.002 + 0.0003 * (c % 7) as f32).collect();
        let biases: Vec<i32> = (0..channels).map(|c| (c as i32 * 7919 % 4001) - 2000).collect();
        let inputs = [
            Some(random_bytes(&case.x, x_signed, 7 + index as u32)),
            Some(Tensor::scalar(0.02f32)),
            Some(zero(x_signed, -3)),
            Some(random_bytes(&case.w, w_signed, 70 + index as u32)),
            Some(Tensor::from_vec(&[channels], scales).unwrap()),
            // With the middle of the range as zero point, weights take half the memory.
            Some(zero(w_signed, if index == 1 { 5 } else { 0 })),
            Some(Tensor::scalar(0.03f32)),
            Some(zero(y_signed, 11)),
            (index != 2).then(|| Tensor::from_vec(&[channels], biases).unwrap()),
        ];
        let views: Vec<_> = inputs.iter().map(|x| x.as_ref().map(Tensor::view)).collect();
        let exact = op.reference(&views, 1).unwrap().remove(0);
        let blocking = with_problem(&op, &inputs, &[1, 2, 3, 4, 5, 6, 7, 8], |problem, _| {
            op.blocked(problem, LANES, &[case.there])
        });
        let blocking = blocking.expect("a way to work in blocks");
        let x = inputs[0].clone().unwrap();
        let x = match blocking.inputs[0] {
            Source::Blocked(0) => {
                let dims = blocked_dims(x.dims(), LANES).unwrap();
                Reorder::into_blocks(x.dims(), dims).reference(&[Some(x.view())], 1).unwrap().remove(0)
            }
            _ => x,
        };
        let operator: &dyn std::any::Any = &*blocking.op;
        let operator = operator.downcast_ref::<BlockedConv>().unwrap();
        let exact = match blocking.output {
            true => Reorder::into_blocks(exact.dims(), operator.form.output_dims(&operator.output))
                .reference(&[Some(exact.view())], 1)
                .unwrap()
                .remove(0),
            false => exact,
        };
        assert_eq!(operator.reference(&[Some(x.view())], 1).unwrap()[0].bytes(), exact.bytes());
        // Bytes as they are need more than AVX2, but for the plain kernels.
        let ways = Isa::all().into_iter().flat_map(|isa| [(isa, false), (isa, true)]);
        let ways = ways.filter(|&(isa, as_bytes)| !as_bytes || isa == Isa::Plain || bytes::is_fast());
        for ((isa, as_bytes), threads) in ways.flat_map(|way| [(way, 1), (way, 3)]) {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let got = pool.install(|| run(operator, &x, &exact, isa, as_bytes));
            let off = got.iter().zip(exact.bytes()).position(|(got, exact)| got != exact);
            assert_eq!(off, None, "{operator:?} {isa:?} {as_bytes} {threads}");
        }
    }
}

fn run(op: &BlockedConv, x: &Tensor, like: &Tensor, isa: Isa, as_bytes: bool) -> Vec<u8> {
    let kernel = op.kernel(x.dtype() == DType::I8, isa, as_bytes).unwrap().unwrap();
    let mut result: Vec<u8> = like.bytes().iter().map(|byte| !byte).collect();
    let mut scratch = vec![u64::MAX; kernel.scratch().div_ceil(8)];
    let scratch: &mut [u8] = bytemuck::cast_slice_mut(&mut scratch);
    let mut outputs = [ViewMut { dtype: like.dtype(), dims: like.dims(), bytes: &mut result }];
    let (inputs, scratch) = ([Some(x.view())], &mut scratch[..kernel.scratch()]);
    let mut run = CpuRun { inputs: &inputs, outputs: &mut outputs, scratch, finish: None };
    kernel.run(&mut run).unwrap();
    result
}

const ONE: [usize; 2] = [1, 1];

#[test]
fn convolutions_of_all_channels_are_exact() {
    let case =
        |x, w, strides, dilations, pads, there| Case { groups: 1, strides, dilations, pads, x, w, there };
    for case in [
        case([2, 16, 9, 11], [24, 16, 1, 1], ONE, ONE, [0; 4], true),
        case([1, 8, 1, 1], [8, 8, 1, 1], ONE, ONE, [0; 4], true),
        case([1, 24, 17, 3], [5, 24, 1, 1], ONE, ONE, [0; 4], true),
        case([1, 16, 17, 13], [16, 16, 1, 1], [2, 2], ONE, [0; 4], true),
        case([2, 8, 7, 9], [40, 8, 3, 3], ONE, ONE, [1; 4], false),
        case([1, 16, 13, 65], [17, 16, 3, 3], [2, 2], ONE, [1, 0, 0, 1], true),
        case([1, 8, 12, 12], [8, 8, 5, 3], [1, 3], [2, 1], [4, 1, 4, 1], true),
        case([1, 3, 33, 31], [8, 3, 3, 3], [2, 2], ONE, [1; 4], false),
        case([2, 1, 17, 9], [16, 1, 7, 7], [2, 2], ONE, [3; 4], false),
        case([1, 5, 6, 7], [24, 5, 3, 3], ONE, [2, 2], [2; 4], false),
        case([1, 17, 5, 3], [8, 17, 1, 1], ONE, ONE, [0; 4], false),
    ] {
        check(&case);
    }
}

#[test]
fn convolutions_of_single_channels_are_exact() {
    let case = |x: [usize; 4], kernel: [usize; 2], strides, dilations, pads| Case {
        groups: x[1],
        strides,
        dilations,
        pads,
        x,
        w: [x[1], 1, kernel[0], kernel[1]],
        there: true,
    };
    for case in [
        case([2, 24, 9, 11], [3, 3], ONE, ONE, [1; 4]),
        case([1, 16, 17, 65], [3, 3], [2, 2], ONE, [1; 4]),
        case([1, 8, 14, 13], [5, 5], [2, 1], ONE, [2, 2, 2, 2]),
        case([1, 8, 7, 7], [2, 2], ONE, [3, 2], [1, 0, 2, 0]),
        case([1, 8, 1, 1], [3, 3], ONE, ONE, [1; 4]),
        case([1, 40, 3, 3], [1, 1], ONE, ONE, [0; 4]),
        // Two pixels whose windows just lie in a vector, and two that do not.
        case([1, 16, 9, 33], [3, 7], [1, 4], ONE, [1, 3, 1, 3]),
        case([1, 8, 9, 33], [3, 7], [1, 5], ONE, [1, 3, 1, 3]),
    ] {
        check(&case);
    }
}

#[test]
fn what_is_not_constant_or_differs_by_channel_stays_as_it_is() {
    let op = QLinearConv { conv: Conv { window: Window::default(), groups: 1 }, bounds: Bounds::NONE };
    let inputs = [
        Some(random_bytes(&[1, 8, 3, 3], false, 1)),
        Some(Tensor::scalar(1f32)),
        Some(Tensor::scalar(0u8)),
        Some(random_bytes(&[8, 8, 1, 1], true, 2)),
        Some(Tensor::scalar(1f32)),
        Some(Tensor::scalar(0i8)),
        Some(Tensor::scalar(1f32)),
        Some(Tensor::scalar(0u8)),
    ];
    for (constant, blocked) in [([1, 2, 3, 4, 5, 6, 7], true), ([1, 2, 2, 4, 5, 6, 7], false)] {
        let found = with_problem(&op, &inputs, &constant, |problem, _| op.blocked(problem, LANES, &[true]));
        assert_eq!(found.is_some(), blocked);
    }
    // Rows of so many zeros are not worth the memory.
    let (strides, dilations) = (vec![1, 1], vec![1, 1 << 22]);
    let padding = Padding::Explicit(vec![0, 1 << 22, 0, 1 << 22]);
    let window = Window { kernel: None, strides, dilations, padding };
    let op = QLinearConv { conv: Conv { window, groups: 1 }, bounds: Bounds::NONE };
    let mut inputs = inputs;
    inputs[3] = Some(random_bytes(&[8, 8, 1, 3], true, 2));
    let constant = [1, 2, 3, 4, 5, 6, 7];
    let found = with_problem(&op, &inputs, &constant, |problem, _| op.blocked(problem, LANES, &[true]));
    assert!(found.is_none());
}
