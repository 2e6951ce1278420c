//! Attention and caches on every device.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "test code")]

use std::sync::Arc;

use sardonyx_ops::attention::{Append, Attend, Order, Sizes, Spot};
use sardonyx_ops::expr::{Expr, ExprNode};
use sardonyx_ops::pointwise::functions;
use sardonyx_ops::{DType, Tensor};
use sardonyx_tests::{Check, Random};

fn sizes(batch: usize, heads: [usize; 2], places: [usize; 2], elements: [usize; 2]) -> Sizes {
    let ([heads, key_heads], [queries, keys], [size, value_size]) = (heads, places, elements);
    Sizes { batch, heads, key_heads, queries, keys, size, value_size }
}

fn factors(random: &mut Random, dtype: DType, sizes: &Sizes) -> Vec<Option<Tensor>> {
    let Sizes { batch, heads, key_heads, queries, keys, size, value_size } = *sizes;
    let mut factor = |dims: &[usize]| Some(random.tensor_of(dtype, dims));
    vec![
        factor(&[batch, heads, queries, size]),
        factor(&[batch, key_heads, keys, size]),
        factor(&[batch, key_heads, keys, value_size]),
    ]
}

/// Tiles and single queries, whole groups of four and not.
fn shapes() -> [Sizes; 8] {
    [
        sizes(1, [1, 1], [1, 1], [1, 1]),
        sizes(2, [3, 3], [17, 65], [32, 32]),
        sizes(1, [2, 1], [127, 127], [64, 64]),
        sizes(2, [6, 2], [1, 300], [64, 48]),
        sizes(1, [2, 1], [3, 129], [17, 3]),
        sizes(1, [1, 1], [65, 33], [8, 128]),
        sizes(1, [1, 1], [20, 70], [40, 48]),
        sizes(1, [2, 2], [20, 40], [256, 256]),
    ]
}

#[test]
fn attention_of_every_size() {
    let mut random = Random(71);
    for sizes in shapes() {
        for dtype in [DType::F32, DType::F16] {
            let inputs = factors(&mut random, dtype, &sizes);
            Check::new(Arc::new(Attend::dense(sizes, 0.4)), inputs).run();
        }
    }
}

#[test]
fn masks_windows_and_caps() {
    let mut random = Random(72);
    for sizes in shapes() {
        let mut inputs = factors(&mut random, DType::F32, &sizes);
        let dense = Attend::dense(sizes, 0.4);
        let high = Some(sizes.keys as i64 - sizes.queries as i64);
        let op = Attend { softcap: 2.0, high, low: Some(-40), ..dense.clone() };
        Check::new(Arc::new(op), inputs.clone()).run();
        let mask = Spot::stretched(&[sizes.queries, sizes.keys]);
        inputs.push(Some(random.tensor(&[sizes.queries, sizes.keys])));
        Check::new(Arc::new(Attend { mask, ..dense.clone() }), inputs.clone()).run();
        let mask = Spot::stretched(&[sizes.batch, 1, 1, sizes.keys]);
        let seen: Vec<bool> = (0..sizes.batch * sizes.keys).map(|key| key % 3 != 1).collect();
        inputs[3] = Some(Tensor::from_bools(&[sizes.batch, 1, 1, sizes.keys], &seen).unwrap());
        let op = Attend { mask, ..dense.clone() };
        Check::new(Arc::new(op.clone()), inputs.clone()).run();
        Check::new(Arc::new(Attend { fill: -1.5, ..op }), inputs).run();
    }
}

#[test]
fn a_query_that_sees_no_key_gives_zeros() {
    let mut random = Random(73);
    for queries in [5, 40] {
        let sizes = sizes(1, [2, 2], [queries, 33], [16, 16]);
        let mut inputs = factors(&mut random, DType::F32, &sizes);
        let op = Attend { high: Some(-3), ..Attend::dense(sizes, 1.0) };
        Check::new(Arc::new(op), inputs.clone()).run();
        inputs.push(Some(Tensor::from_bools(&[33], &[false; 33]).unwrap()));
        let op = Attend { mask: Spot::stretched(&[33]), ..Attend::dense(sizes, 1.0) };
        Check::new(Arc::new(op), inputs.clone()).run();
        inputs[3] = Some(Tensor::from_vec(&[33], vec![f32::NEG_INFINITY; 33]).unwrap());
        let op = Attend { mask: Spot::stretched(&[33]), ..Attend::dense(sizes, 1.0) };
        Check::new(Arc::new(op), inputs).run();
    }
}

#[test]
fn factors_that_lie_in_one_tensor() {
    let mut random = Random(74);
    for (length, size) in [(3, 6), (37, 16)] {
        let (batch, heads) = (2, 3);
        let hidden = 3 * heads * size;
        let packed = random.tensor(&[batch, length, hidden]);
        let keys = random.tensor(&[batch, heads, size, length]);
        let side = [length * hidden, size, hidden, 1];
        let op = Attend {
            q: Spot { offset: 0, strides: side },
            k: Spot { offset: 0, strides: [heads * size * length, size * length, 1, length] },
            v: Spot { offset: 2 * heads * size, strides: side },
            order: Order::Rows,
            dims: vec![batch, length, heads * size],
            ..Attend::dense(sizes(batch, [heads, heads], [length, length], [size, size]), 0.25)
        };
        let add = ExprNode::Call { function: &functions::ADD, args: vec![0, 1], params: Vec::new() };
        let sum = Expr { nodes: vec![ExprNode::Accumulator, ExprNode::Operand(0), add], results: vec![2] };
        let operand = random.tensor(&op.dims);
        Check::new(Arc::new(op), vec![Some(packed.clone()), Some(keys), Some(packed)])
            .epilogue(sum, vec![operand])
            .run();
    }
}

#[test]
fn queries_are_turned() {
    let mut random = Random(76);
    for sizes in [sizes(2, [3, 3], [17, 20], [8, 8]), sizes(1, [4, 2], [1, 33], [32, 17])] {
        let Sizes { batch, queries, size, .. } = sizes;
        let mut op = Attend::dense(sizes, 0.5);
        let mut inputs = factors(&mut random, DType::F32, &sizes);
        inputs.push(None);
        inputs.push(Some(random.tensor(&[batch, 1, queries, size])));
        inputs.push(Some(random.tensor(&[queries, size])));
        op.turn = Some([Spot::stretched(&[batch, 1, queries, size]), Spot::stretched(&[queries, size])]);
        Check::new(Arc::new(op), inputs).run();
    }
}

#[test]
fn rows_behind_a_cache() {
    let mut random = Random(75);
    for (extents, past) in [([1, 1, 1, 2], 0), ([2, 3, 5, 16], 7), ([1, 2, 17, 6], 65)] {
        for dtype in [DType::F32, DType::F16] {
            let [batch, heads, count, size] = extents;
            let op = Append {
                extents,
                past,
                x: Spot { offset: 0, strides: [count * heads * size, size, heads * size, 1] },
                cos: Spot::stretched(&[batch, 1, count, size]),
                sin: Spot::stretched(&[count, size]),
                other: None,
            };
            let mut inputs = vec![
                Some(random.tensor_of(dtype, &[batch, count, heads, size])),
                (past > 0).then(|| random.tensor_of(dtype, &[batch, heads, past, size])),
            ];
            Check::new(Arc::new(op), inputs.clone()).run();
            inputs.push(Some(random.tensor_of(dtype, &[batch, 1, count, size])));
            inputs.push(Some(random.tensor_of(dtype, &[count, size])));
            Check::new(Arc::new(op), inputs.clone()).run();
            // A second cache: heads by position, as the first one's, and one by one.
            for strides in [op.x.strides, Spot::dense([batch, heads, count, size]).strides] {
                let pair = Append { other: Some(Spot { offset: 0, strides }), ..op };
                let mut inputs = inputs.clone();
                inputs.push(Some(random.tensor_of(dtype, &[batch, count, heads, size])));
                inputs.push((past > 0).then(|| random.tensor_of(dtype, &[batch, heads, past, size])));
                Check::new(Arc::new(pair), inputs.clone()).outputs(2).run();
                inputs[2] = None;
                inputs[3] = None;
                Check::new(Arc::new(pair), inputs).outputs(2).run();
            }
        }
    }
}
