//! Operators that move elements, on every device.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "test code")]

use std::sync::Arc;

use sardonyx_ops::ir::dtype::DType;
use sardonyx_ops::movement::concat::Concat;
use sardonyx_ops::movement::depth_to_space::DepthToSpace;
use sardonyx_ops::movement::expand::Expand;
use sardonyx_ops::movement::gather::Gather;
use sardonyx_ops::movement::gather_elements::GatherElements;
use sardonyx_ops::movement::gather_nd::GatherNd;
use sardonyx_ops::movement::identity::Identity;
use sardonyx_ops::movement::pad::{Mode, Pad};
use sardonyx_ops::movement::reduction::Reduction;
use sardonyx_ops::movement::scatter_elements::ScatterElements;
use sardonyx_ops::movement::scatter_nd::ScatterNd;
use sardonyx_ops::movement::slice::{Bounds, Slice};
use sardonyx_ops::movement::space_to_depth::SpaceToDepth;
use sardonyx_ops::movement::split::{Lengths, Split};
use sardonyx_ops::movement::tile::Tile;
use sardonyx_ops::movement::transpose::Transpose;
use sardonyx_ops::movement::trilu::Trilu;
use sardonyx_ops::sort::top_k::TopK;
use sardonyx_ops::{Operator, Tensor};
use sardonyx_tests::{Check, Random};

/// One type of every storage width: bytes, truth values, words, pairs of words, floats.
const TYPES: [DType; 6] = [DType::F32, DType::F16, DType::I64, DType::U8, DType::Bool, DType::I32];

fn ints(all: &[i64]) -> Option<Tensor> {
    Some(Tensor::from_slice(&[all.len()], all).unwrap())
}

#[test]
fn permutations() {
    let mut random = Random(11);
    for dtype in TYPES {
        for (dims, perm) in [
            (&[17, 65][..], &[1, 0][..]),
            (&[3, 4, 8], &[1, 0, 2]),
            (&[2, 3, 5, 7], &[0, 2, 3, 1]),
            (&[2, 5, 7, 3], &[3, 0, 1, 2]),
            (&[1, 2, 3, 2, 3, 2, 3, 2], &[7, 5, 6, 3, 4, 1, 2, 0]),
            (&[127], &[0]),
        ] {
            let op = Transpose { perm: Some(perm.to_vec()) };
            Check::new(Arc::new(op), vec![Some(random.tensor_of(dtype, dims))]).run();
        }
    }
}

#[test]
fn slices() {
    let mut random = Random(12);
    for dtype in TYPES {
        for (starts, ends, steps) in [
            ([1, 0, 0], [i64::MAX, 65, 7], [1, 1, 1]),
            ([0, 3, 1], [5, -2, 6], [2, 5, 1]),
            ([-1, 64, -1], [i64::MIN, 0, i64::MIN], [-1, -3, -2]),
        ] {
            let bounds = Bounds {
                starts: starts.to_vec(),
                ends: ends.to_vec(),
                axes: None,
                steps: Some(steps.to_vec()),
            };
            let op = Slice { attributes: Some(bounds) };
            Check::new(Arc::new(op), vec![Some(random.tensor_of(dtype, &[5, 65, 7]))]).run();
        }
    }
    let inputs =
        vec![Some(random.tensor(&[5, 33])), ints(&[-4, 1]), ints(&[1 << 40, 32]), ints(&[0, 1]), None];
    Check::new(Arc::new(Slice { attributes: None }), inputs).constants(&[1, 2, 3]).run();
}

#[test]
fn expansions() {
    let mut random = Random(13);
    for dtype in TYPES {
        for (dims, shape) in
            [(&[3, 1][..], &[2, 1, 17][..]), (&[1, 65], &[33, 1]), (&[], &[5, 7]), (&[4, 1, 8], &[4, 3, 8])]
        {
            let inputs = vec![Some(random.tensor_of(dtype, dims)), ints(shape)];
            Check::new(Arc::new(Expand), inputs).constants(&[1]).run();
        }
    }
}

#[test]
fn concatenations() {
    let mut random = Random(14);
    for dtype in TYPES {
        for (axis, shapes) in [
            (0, &[&[3, 5][..], &[1, 5]][..]),
            (1, &[&[3, 5], &[3, 1], &[3, 2]]),
            (1, &[&[2, 4, 3], &[2, 8, 3], &[2, 4, 3], &[2, 1, 3]]),
            (-1, &[&[7, 4], &[7, 8], &[7, 4], &[7, 12], &[7, 4], &[7, 16]]),
            (0, &[&[0, 5], &[2, 5], &[3, 5]]),
        ] {
            let inputs = shapes.iter().map(|dims| Some(random.tensor_of(dtype, dims))).collect();
            Check::new(Arc::new(Concat { axis }), inputs).run();
        }
    }
    // More inputs than a kernel takes, in rows that are not whole groups of four.
    let inputs = (1..7).map(|columns| Some(random.tensor(&[9, columns, 3]))).collect();
    Check::new(Arc::new(Concat { axis: 1 }), inputs).run();
}

#[test]
fn look_ups() {
    let mut random = Random(15);
    for dtype in TYPES {
        for (dims, axis) in [(&[17, 5][..], 0), (&[3, 17, 4], 1), (&[5, 17], -1)] {
            let indices: Vec<i64> = (0..33).map(|_| random.below(34) as i64 - 17).collect();
            let x = random.tensor_of(dtype, dims);
            let long = Tensor::from_slice(&[3, 11], &indices).unwrap();
            Check::new(Arc::new(Gather { axis }), vec![Some(x.clone()), Some(long)]).run();
            let short: Vec<i32> = indices.iter().map(|&index| index as i32).collect();
            let short = Tensor::from_slice(&[33], &short).unwrap();
            Check::new(Arc::new(Gather { axis }), vec![Some(x), Some(short)]).run();
        }
    }
}

#[test]
fn copies() {
    let mut random = Random(16);
    for dtype in TYPES {
        let op: Arc<dyn Operator> = Arc::new(Identity);
        Check::new(op, vec![Some(random.tensor_of(dtype, &[13, 5]))]).run();
    }
}

#[test]
fn parts_of_a_tensor() {
    let mut random = Random(17);
    for dtype in TYPES {
        for (dims, axis, lengths) in
            [(&[5, 8][..], 1, &[4, 4][..]), (&[7, 5, 3], 1, &[1, 3, 1]), (&[6, 33], 0, &[2, 0, 4])]
        {
            let op = Split { axis, lengths: Lengths::Input, wanted: vec![true; lengths.len()] };
            let inputs = vec![Some(random.tensor_of(dtype, dims)), ints(lengths)];
            Check::new(Arc::new(op), inputs).constants(&[1]).outputs(lengths.len()).run();
        }
    }
}

#[test]
fn repetitions() {
    let mut random = Random(18);
    for dtype in TYPES {
        for (dims, repeats) in [(&[3, 5][..], &[2, 3][..]), (&[2, 1, 4], &[3, 5, 1]), (&[17], &[7])] {
            let inputs = vec![Some(random.tensor_of(dtype, dims)), ints(repeats)];
            Check::new(Arc::new(Tile), inputs).constants(&[1]).run();
        }
    }
}

#[test]
fn blocks_of_pixels() {
    let mut random = Random(19);
    for dtype in TYPES {
        for column_row_depth in [false, true] {
            let x = random.tensor_of(dtype, &[2, 18, 5, 7]);
            Check::new(Arc::new(DepthToSpace { block: 3, column_row_depth }), vec![Some(x)]).run();
            let x = random.tensor_of(dtype, &[2, 3, 6, 10]);
            Check::new(Arc::new(SpaceToDepth { block: 2, column_row_depth }), vec![Some(x)]).run();
        }
    }
}

#[test]
fn look_ups_of_elements_and_tuples() {
    let mut random = Random(20);
    for dtype in TYPES {
        for (data, dims, axis) in
            [(&[9, 5][..], &[13, 5][..], 0), (&[3, 9, 4], &[2, 9, 3], 1), (&[5, 9], &[4, 65], 1)]
        {
            let len = dims.iter().product();
            let indices: Vec<i64> = (0..len).map(|_| random.below(18) as i64 - 9).collect();
            let indices = Tensor::from_slice(dims, &indices).unwrap();
            let inputs = vec![Some(random.tensor_of(dtype, data)), Some(indices)];
            Check::new(Arc::new(GatherElements { axis }), inputs).run();
        }
        for (data, dims, batch_dims) in
            [(&[5, 6, 7][..], &[11, 2][..], 0), (&[3, 5, 8], &[3, 4, 1], 1), (&[5, 5, 5], &[2, 3, 3], 0)]
        {
            let len = dims.iter().product();
            let indices: Vec<i64> = (0..len).map(|_| random.below(10) as i64 - 5).collect();
            let indices = Tensor::from_slice(dims, &indices).unwrap();
            let inputs = vec![Some(random.tensor_of(dtype, data)), Some(indices)];
            Check::new(Arc::new(GatherNd { batch_dims }), inputs).run();
        }
    }
}

#[test]
fn paddings() {
    let mut random = Random(21);
    for dtype in TYPES {
        for mode in [Mode::Constant, Mode::Reflect, Mode::Edge, Mode::Wrap] {
            for (dims, pads) in [
                (&[2, 3, 5, 7][..], &[0, 0, 1, 2, 0, 0, 3, 1][..]),
                (&[3, 5, 4], &[1, 0, 0, 2, 0, 0]),
                (&[6, 9], &[-1, 2, 3, -4]),
                (&[1], &[2, 3]),
            ] {
                let x = random.tensor_of(dtype, dims);
                let value = random.tensor_of(dtype, &[1]).reshaped(&[]).unwrap();
                let op = Pad { mode, attributes: None };
                Check::new(Arc::new(op), vec![Some(x), ints(pads), Some(value)]).constants(&[1]).run();
            }
        }
    }
}

#[test]
fn triangles() {
    let mut random = Random(22);
    for dtype in TYPES {
        for upper in [false, true] {
            for offset in [-3, 0, 2, 100] {
                let x = random.tensor_of(dtype, &[3, 5, 7]);
                let inputs = vec![Some(x), Some(Tensor::scalar(offset as i64))];
                Check::new(Arc::new(Trilu { upper }), inputs).constants(&[1]).run();
            }
        }
    }
}

#[test]
fn scatters() {
    let mut random = Random(23);
    for dtype in [DType::F32, DType::I32, DType::I64, DType::U8, DType::F16] {
        for reduction in [Reduction::None, Reduction::Add, Reduction::Mul, Reduction::Min, Reduction::Max] {
            let along: Vec<i64> = (0..7 * 5).map(|i| i % 7 - 3).collect();
            let elements = vec![
                Some(random.tensor_of(dtype, &[9, 5])),
                Some(Tensor::from_slice(&[7, 5], &along).unwrap()),
                Some(random.tensor_of(dtype, &[7, 5])),
            ];
            let tuples = vec![
                Some(random.tensor_of(dtype, &[9, 5])),
                Some(Tensor::from_slice(&[4, 1], &[0i64, -1, 3, 0]).unwrap()),
                Some(random.tensor_of(dtype, &[4, 5])),
            ];
            // Narrow integers meet on the CPU only, and so do 64-bit ones except in sums.
            let words = matches!(dtype, DType::F32 | DType::I32 | DType::F16);
            let wide = dtype == DType::I64 && reduction == Reduction::Add;
            for (op, inputs) in [
                (Arc::new(ScatterElements { axis: 0, reduction }) as Arc<dyn Operator>, elements),
                (Arc::new(ScatterNd { reduction }), tuples),
            ] {
                let check = Check::new(op, inputs);
                match words || wide || reduction == Reduction::None {
                    true => check.run(),
                    false => check.cpu_only().run(),
                };
            }
        }
    }
}

#[test]
fn best_elements_on_the_cpu() {
    let mut random = Random(24);
    for dtype in [DType::F32, DType::I64, DType::U8] {
        for (dims, axis, k) in [(&[3, 65][..], 1, 7), (&[17, 5], 0, 17), (&[2, 33, 3], 1, 1)] {
            for (largest, sorted) in [(true, true), (false, true), (true, false)] {
                let op = TopK { axis, largest, sorted, k: None };
                let inputs = vec![Some(random.tensor_of(dtype, dims)), ints(&[k])];
                Check::new(Arc::new(op), inputs).constants(&[1]).outputs(2).cpu_only().run();
            }
        }
    }
}
