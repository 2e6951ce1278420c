//! Attentions, rotary embeddings, caches.

use sardonyx_ops::{DType, Tensor};

use crate::driver::{Generator, microsoft, onnx};
use crate::node::{Draw, Node, tensor};

pub const GENERATORS: &[Generator] = &[
    onnx("Attention", attention),
    onnx("CausalConvWithState", causal_conv),
    onnx("LinearAttention", linear),
    onnx("RotaryEmbedding", rotary),
    onnx("TensorScatter", tensor_scatter),
    Generator { domain: "ai.onnx.preview", name: "FlexAttention", make: flex },
    microsoft("Attention", packed),
    microsoft("EmbedLayerNormalization", embed),
    microsoft("GroupQueryAttention", group_query),
    microsoft("MultiHeadAttention", multi_head),
    microsoft("RotaryEmbedding", rotary),
];

/// Sums of products twice, with a softmax between.
const TWICE: (f64, f64) = (3e-5, 1.5e-2);

fn dtype(draw: &mut Draw) -> DType {
    draw.pick(&[DType::F32, DType::F32, DType::F32, DType::F16])
}

struct Sizes {
    batch: usize,
    heads: usize,
    key_heads: usize,
    queries: usize,
    keys: usize,
    size: usize,
}

fn sizes(draw: &mut Draw) -> Sizes {
    let key_heads = draw.between(1, 3) as usize;
    Sizes {
        batch: draw.between(1, 2) as usize,
        heads: key_heads * draw.between(1, 3) as usize,
        key_heads,
        queries: draw.extent().min(33),
        keys: draw.extent().min(65),
        size: draw.pick(&[2, 4, 8, 16, 17, 32, 64]),
    }
}

fn attention(draw: &mut Draw, node: Node) -> Node {
    let dtype = dtype(draw);
    let s = sizes(draw);
    let values = if draw.one_in(3) { draw.extent().min(33) } else { s.size };
    let flat = draw.flag();
    let (q, k, v) = match flat {
        true => (
            draw.data(dtype, &[s.batch, s.queries, s.heads * s.size]),
            draw.data(dtype, &[s.batch, s.keys, s.key_heads * s.size]),
            draw.data(dtype, &[s.batch, s.keys, s.key_heads * values]),
        ),
        false => (
            draw.data(dtype, &[s.batch, s.heads, s.queries, s.size]),
            draw.data(dtype, &[s.batch, s.key_heads, s.keys, s.size]),
            draw.data(dtype, &[s.batch, s.key_heads, s.keys, values]),
        ),
    };
    let node = match flat {
        true => node.int("q_num_heads", s.heads as i64).int("kv_num_heads", s.key_heads as i64),
        false => node,
    };
    let node = if draw.one_in(3) { node.flag("is_causal", true) } else { node };
    let node = if draw.one_in(3) { node.float("scale", 0.25) } else { node };
    let node = if draw.one_in(4) { node.float("softcap", 4.0) } else { node };
    let past = draw.one_in(3).then(|| draw.extent().min(17));
    let total = s.keys + past.unwrap_or(0);
    let mask = draw.flag().then(|| {
        let shape = draw.pick(&[
            vec![s.queries, total],
            vec![s.batch, s.heads, s.queries, total],
            vec![1, 1, s.queries, total],
            vec![s.batch, 1, s.queries, total],
        ]);
        if draw.flag() { draw.data(dtype, &shape) } else { truth(draw, &shape) }
    });
    let node = node.input(draw, q).input(draw, k).input(draw, v).tolerance(TWICE.0, TWICE.1).sums();
    match (mask, past) {
        (None, None) => node,
        (mask, None) => node.optional(draw, mask),
        (mask, Some(past)) => {
            let key = draw.data(dtype, &[s.batch, s.key_heads, past, s.size]);
            let value = draw.data(dtype, &[s.batch, s.key_heads, past, values]);
            let node = node.optional(draw, mask).input(draw, key).input(draw, value);
            node.some_outputs(draw, 4, 1)
        }
    }
}

/// Truth values of which every row has one that holds.
fn truth(draw: &mut Draw, dims: &[usize]) -> Tensor {
    let last = dims[dims.len() - 1];
    let len: usize = dims.iter().product();
    let all: Vec<bool> = (0..len).map(|i| i % last == 0 || draw.flag()).collect();
    Tensor::from_bools(dims, &all).unwrap()
}

/// Without the graphs that may change its scores.
fn flex(draw: &mut Draw, node: Node) -> Node {
    let dtype = dtype(draw);
    let s = sizes(draw);
    let q = draw.data(dtype, &[s.batch, s.heads, s.queries, s.size]);
    let k = draw.data(dtype, &[s.batch, s.key_heads, s.keys, s.size]);
    let v = draw.data(dtype, &[s.batch, s.key_heads, s.keys, s.size]);
    let node = if draw.flag() { node.float("scale", 0.25) } else { node };
    node.input(draw, q).input(draw, k).input(draw, v).tolerance(TWICE.0, TWICE.1).sums()
}

fn causal_conv(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.pick(&[DType::F32, DType::F32, DType::F16, DType::BF16]);
    let (batch, channels, length) = (draw.between(1, 2) as usize, draw.extent(), draw.extent());
    let taps = draw.between(1, 5) as usize;
    let (x, filter) = (draw.data(dtype, &[batch, channels, length]), draw.data(dtype, &[channels, 1, taps]));
    let bias = draw.flag().then(|| draw.data(dtype, &[channels]));
    let state = draw.flag().then(|| draw.data(dtype, &[batch, channels, taps - 1]));
    let activation = draw.pick(&["none", "silu"]);
    let node = node.text("activation", activation).input(draw, x).setting(draw, filter);
    let node = node.optional(draw, bias).optional(draw, state).outputs(&[true; 2]);
    // The sum may be held in the type of the data before its activation.
    node.tolerance(1e-5, 1e-2).sums()
}

fn linear(draw: &mut Draw, node: Node) -> Node {
    let dtype = DType::F32;
    let s = sizes(draw);
    let (size, length) = (s.size.min(16), s.queries.min(9));
    let rule = draw.pick(&["linear", "gated", "delta", "gated_delta"]);
    let q = draw.data(dtype, &[s.batch, length, s.heads * size]);
    let k = draw.floats_within(dtype, &[s.batch, length, s.key_heads * size], -0.25, 0.25);
    let v = draw.data(dtype, &[s.batch, length, s.key_heads * size]);
    let state = draw.flag().then(|| draw.data(dtype, &[s.batch, s.key_heads, size, size]));
    let decay =
        rule.contains("gated").then(|| draw.floats_within(dtype, &[s.batch, length, s.key_heads], -1.0, 0.0));
    let rate =
        rule.contains("delta").then(|| draw.floats_within(dtype, &[s.batch, length, s.key_heads], 0.0, 1.0));
    let node = node
        .text("update_rule", rule)
        .int("q_num_heads", s.heads as i64)
        .int("kv_num_heads", s.key_heads as i64);
    let node = node.input(draw, q).input(draw, k).input(draw, v);
    node.optional(draw, state)
        .optional(draw, decay)
        .optional(draw, rate)
        .outputs(&[true; 2])
        .tolerance(5e-5, 2e-2)
        .sums()
}

fn rotary(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.pick(&[DType::F32, DType::F32, DType::F16, DType::BF16]);
    let s = sizes(draw);
    let size = s.size.next_multiple_of(2);
    let flat = draw.flag();
    let x = match flat {
        true => draw.data(dtype, &[s.batch, s.queries, s.heads * size]),
        false => draw.data(dtype, &[s.batch, s.heads, s.queries, size]),
    };
    let turned = if draw.one_in(3) { 2 * draw.between(1, size as i64 / 2) as usize } else { 0 };
    let half = if turned == 0 { size } else { turned } / 2;
    let interleaved = draw.flag();
    // The reference rounds products to the type of the data before it adds them.
    let node = node.flag("interleaved", interleaved).tolerance(1e-5, 1e-2).sums();
    let node = if turned > 0 { node.int("rotary_embedding_dim", turned as i64) } else { node };
    let node = if flat || turned > 0 { node.int("num_heads", s.heads as i64) } else { node };
    let most = s.queries + 5;
    let contributed = !node.domain.is_empty();
    if !contributed && draw.flag() {
        let angles = [s.batch, s.queries, half];
        let (cos, sin) = (draw.data(dtype, &angles), draw.data(dtype, &angles));
        return node.input(draw, x).input(draw, cos).input(draw, sin);
    }
    let (cos, sin) = (draw.data(dtype, &[most, half]), draw.data(dtype, &[most, half]));
    let at = match contributed && draw.flag() {
        true => draw.numbers(DType::I64, &[1], 0, 5),
        false => draw.numbers(DType::I64, &[s.batch, s.queries], 0, most as i64 - 1),
    };
    let node = node.input(draw, x);
    match contributed {
        true => node.input(draw, at).setting(draw, cos).setting(draw, sin),
        false => node.setting(draw, cos).setting(draw, sin).input(draw, at),
    }
}

fn tensor_scatter(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.any_type();
    let dims = draw.full_dims(3, 4);
    let axis = draw.between(1, dims.len() as i64 - 1) as usize;
    let mut own = dims.clone();
    own[axis] = draw.between(1, dims[axis] as i64) as usize;
    let (cache, update) = (draw.bulk(dtype, &dims), draw.bulk(dtype, &own));
    let circular = draw.flag();
    let most = if circular { dims[axis] - 1 } else { dims[axis] - own[axis] };
    let starts = draw.flag().then(|| draw.numbers(DType::I64, &dims[..1], 0, most as i64));
    let written = draw.signed(axis, dims.len());
    let node = node.int("axis", written).text("mode", if circular { "circular" } else { "linear" });
    node.input(draw, cache).input(draw, update).optional(draw, starts)
}

fn packed(draw: &mut Draw, node: Node) -> Node {
    let dtype = dtype(draw);
    let s = sizes(draw);
    let input = draw.extent().min(33);
    let hidden = s.heads * s.size.min(16);
    let x = draw.data(dtype, &[s.batch, s.queries, input]);
    let weights = draw.floats_within(dtype, &[input, 3 * hidden], -0.5, 0.5);
    let bias = draw.flag().then(|| draw.data(dtype, &[3 * hidden]));
    let causal = draw.one_in(3);
    let counts: Vec<i64> = (0..s.batch).map(|_| draw.between(1, s.queries as i64)).collect();
    let mask = match draw.below(3) {
        0 => Some(draw.vector(DType::I32, &counts)),
        1 => {
            let at = |i: usize| f64::from(u8::from(((i % s.queries) as i64) < counts[i / s.queries]));
            let all: Vec<f64> = (0..s.batch * s.queries).map(at).collect();
            Some(tensor(DType::I32, &[s.batch, s.queries], &all))
        }
        _ => None,
    };
    let node = node.int("num_heads", s.heads as i64).flag("unidirectional", causal);
    let node = node.input(draw, x).setting(draw, weights).optional(draw, bias);
    let node = if mask.is_some() { node.optional(draw, mask) } else { node };
    let node = if draw.one_in(3) { node.outputs(&[true; 2]) } else { node };
    node.tolerance(1e-4, 3e-2).sums()
}

fn embed(draw: &mut Draw, node: Node) -> Node {
    let dtype = dtype(draw);
    let (batch, length, hidden) = (draw.between(1, 3) as usize, draw.extent().min(33), draw.extent().max(2));
    let words = draw.numbers(DType::I32, &[batch, length], 0, 6);
    let segments = draw.flag().then(|| draw.numbers(DType::I32, &[batch, length], 0, 1));
    let tables: Vec<Tensor> =
        [7, length + 2, 2].iter().map(|&rows| draw.data(dtype, &[rows, hidden])).collect();
    let (gamma, beta) = (draw.data(dtype, &[hidden]), draw.data(dtype, &[hidden]));
    let mask = draw.flag().then(|| draw.numbers(DType::I32, &[batch, length], 0, 1));
    let second = segments.is_some().then(|| tables[2].clone());
    let node = node.float("epsilon", 1e-1).input(draw, words).optional(draw, segments);
    let node = node.setting(draw, tables[0].clone()).setting(draw, tables[1].clone()).optional(draw, second);
    let node = node.setting(draw, gamma).setting(draw, beta);
    let node = if mask.is_some() { node.optional(draw, mask).outputs(&[true; 2]) } else { node };
    node.tolerance(2e-5, 1e-2)
}

fn multi_head(draw: &mut Draw, node: Node) -> Node {
    let dtype = dtype(draw);
    let s = sizes(draw);
    let hidden = s.heads * s.size;
    let node = node.int("num_heads", s.heads as i64).tolerance(TWICE.0, TWICE.1).sums();
    let bias = draw.one_in(3).then(|| draw.data(dtype, &[3 * hidden]));
    if draw.one_in(4) {
        let all = draw.data(dtype, &[s.batch, s.queries, s.heads, 3, s.size]);
        let node = node.input(draw, all).optional(draw, None).optional(draw, None);
        return if bias.is_some() { node.optional(draw, bias) } else { node };
    }
    let q = draw.data(dtype, &[s.batch, s.queries, hidden]);
    let (k, v) = (draw.data(dtype, &[s.batch, s.keys, hidden]), draw.data(dtype, &[s.batch, s.keys, hidden]));
    let past = draw.one_in(3).then(|| draw.extent().min(17));
    let total = s.keys + past.unwrap_or(0);
    let mask = draw.one_in(3).then(|| {
        let counts: Vec<i64> = (0..s.batch).map(|_| draw.between(1, total as i64)).collect();
        draw.vector(DType::I32, &counts)
    });
    let scores = draw.one_in(3).then(|| {
        let batch = if draw.flag() { 1 } else { s.batch };
        draw.data(dtype, &[batch, s.heads, s.queries, total])
    });
    let causal = draw.one_in(4);
    let node = node.flag("unidirectional", causal).input(draw, q).input(draw, k).input(draw, v);
    let node = node.optional(draw, bias).optional(draw, mask).optional(draw, scores);
    match past {
        None => node,
        Some(past) => {
            let cache = [s.batch, s.heads, past, s.size];
            let (key, value) = (draw.data(dtype, &cache), draw.data(dtype, &cache));
            node.input(draw, key).input(draw, value).some_outputs(draw, 3, 1)
        }
    }
}

fn group_query(draw: &mut Draw, node: Node) -> Node {
    let dtype = dtype(draw);
    let s = sizes(draw);
    let size = s.size.next_multiple_of(2);
    let length = s.queries.min(17);
    let past = if draw.flag() { 0 } else { draw.between(1, 9) as usize };
    let total = past + length;
    let node = node.int("num_heads", s.heads as i64).int("kv_num_heads", s.key_heads as i64);
    let rotates = draw.flag();
    let interleaved = draw.flag();
    let node =
        if rotates { node.flag("do_rotary", true).flag("rotary_interleaved", interleaved) } else { node };
    let node = if draw.one_in(3) { node.int("local_window_size", draw.between(1, 9)) } else { node };
    let node = if draw.one_in(3) { node.float("softcap", 4.0) } else { node };
    let cache = [s.batch, s.key_heads, past, size];
    let (key, value) = (draw.data(dtype, &cache), draw.data(dtype, &cache));
    let q = draw.data(dtype, &[s.batch, length, s.heads * size]);
    let (k, v) = (
        draw.data(dtype, &[s.batch, length, s.key_heads * size]),
        draw.data(dtype, &[s.batch, length, s.key_heads * size]),
    );
    let node = match draw.one_in(3) {
        true => {
            let all = draw.data(dtype, &[s.batch, length, (s.heads + 2 * s.key_heads) * size]);
            node.input(draw, all).optional(draw, None).optional(draw, None)
        }
        false => node.input(draw, q).input(draw, k).input(draw, v),
    };
    let node = node.input(draw, key).input(draw, value);
    let last = draw.vector(DType::I32, &vec![total as i64 - 1; s.batch]);
    let whole = tensor(DType::I32, &[], &[total as f64]);
    let node = node.input(draw, last).setting(draw, whole);
    let (cos, sin) = (draw.data(dtype, &[total + 3, size / 2]), draw.data(dtype, &[total + 3, size / 2]));
    let node = if rotates { node.setting(draw, cos).setting(draw, sin) } else { node };
    node.some_outputs(draw, 3, 1).tolerance(TWICE.0, 2e-2).sums()
}
