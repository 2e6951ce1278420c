//! Operators that move elements, on every device.

use std::sync::Arc;

use sardonyx_ops::ir::dtype::DType;
use sardonyx_ops::movement::concat::Concat;
use sardonyx_ops::movement::expand::Expand;
use sardonyx_ops::movement::gather::Gather;
use sardonyx_ops::movement::identity::Identity;
use sardonyx_ops::movement::slice::{Bounds, Slice};
use sardonyx_ops::movement::transpose::Transpose;
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
