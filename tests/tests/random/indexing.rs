//! Gathers, scatters, and operators whose output's size depends on data.

use sardonyx_ops::{DType, Tensor};

use crate::driver::{Generator, onnx};
use crate::node::{Draw, Node, tensor};

pub const GENERATORS: &[Generator] = &[
    onnx("Compress", compress),
    onnx("Gather", gather),
    onnx("GatherElements", gather_elements),
    onnx("GatherND", gather_nd),
    onnx("NonMaxSuppression", non_max_suppression),
    onnx("NonZero", non_zero),
    onnx("Scatter", |draw, node| scatter_elements(draw, node.opset(10))),
    onnx("ScatterElements", scatter_elements),
    onnx("ScatterND", scatter_nd),
    onnx("TopK", top_k),
    onnx("Unique", unique),
];

/// Dimensions without zeros of data that indices point into.
fn full(draw: &mut Draw, least: usize, most: usize) -> Vec<usize> {
    draw.full_dims(least, most)
}

/// Indices into an extent, negative ones too.
fn indices(draw: &mut Draw, dims: &[usize], extent: usize) -> Tensor {
    let dtype = draw.pick(&[DType::I64, DType::I32]);
    draw.numbers(dtype, dims, -(extent as i64), extent as i64 - 1)
}

fn compress(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.any_type();
    let dims = draw.dims(1, 4);
    let x = draw.bulk(dtype, &dims);
    let (axis, written) = draw.axis(dims.len());
    let (node, extent) = match draw.flag() {
        true => (node.int("axis", written), dims[axis]),
        false => (node, x.len()),
    };
    // A short condition leaves the rest out.
    let count = if draw.one_in(3) { extent / 2 } else { extent };
    let condition = draw.data(DType::Bool, &[count]);
    node.input(draw, x).input(draw, condition)
}

fn gather(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.any_type();
    let dims = full(draw, 1, 4);
    let data = draw.bulk(dtype, &dims);
    let (axis, written) = draw.axis(dims.len());
    let mut at = draw.dims(0, 2);
    at.iter_mut().for_each(|dim| *dim = (*dim).min(9));
    let at = indices(draw, &at, dims[axis]);
    node.int("axis", written).input(draw, data).input(draw, at)
}

fn gather_elements(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.any_type();
    let dims = full(draw, 1, 4);
    let data = draw.bulk(dtype, &dims);
    let (axis, written) = draw.axis(dims.len());
    let at = smaller(draw, &dims, axis);
    let at = indices(draw, &at, dims[axis]);
    node.int("axis", written).input(draw, data).input(draw, at)
}

/// Dimensions within these, but for one axis, which is any.
fn smaller(draw: &mut Draw, dims: &[usize], axis: usize) -> Vec<usize> {
    let mut own = dims.to_vec();
    own[axis] = draw.maybe_zero().min(9);
    for (other, dim) in own.iter_mut().enumerate() {
        if other != axis && draw.one_in(3) {
            *dim = draw.between(1, *dim as i64) as usize;
        }
    }
    own
}

/// `outer` tuples of indices into the first dimensions, and the dimensions of the slices that they leave.
fn tuples(draw: &mut Draw, outer: &[usize], dims: &[usize]) -> (Tensor, Vec<usize>) {
    let depth = draw.between(1, dims.len() as i64) as usize;
    let count: usize = outer.iter().product();
    let mut all = Vec::new();
    for _ in 0..count {
        for &dim in &dims[..depth] {
            all.push(draw.between(-(dim as i64), dim as i64 - 1) as f64);
        }
    }
    (tensor(DType::I64, &[outer, &[depth]].concat(), &all), dims[depth..].to_vec())
}

fn gather_nd(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.any_type();
    let dims = full(draw, 1, 5);
    let data = draw.bulk(dtype, &dims);
    let batch = draw.below(dims.len().min(3));
    let mut outer = dims[..batch].to_vec();
    if draw.flag() {
        let more = draw.maybe_zero().min(9);
        outer.push(more);
    }
    let (at, _) = tuples(draw, &outer, &dims[batch..]);
    node.int("batch_dims", batch as i64).input(draw, data).input(draw, at)
}

/// With `none`, each element is written once at most: who writes last is not said.
fn reduction(draw: &mut Draw) -> &'static str {
    draw.pick(&["none", "add", "mul", "max", "min"])
}

/// The type that a reduction is tried on; anything is only moved.
fn type_for(draw: &mut Draw, reduction: &str) -> DType {
    match reduction {
        "none" => draw.any_type(),
        _ => draw.pick(&[DType::F32, DType::F32, DType::F16, DType::F64, DType::I32, DType::I64]),
    }
}

fn scatter_elements(draw: &mut Draw, node: Node) -> Node {
    let dims = full(draw, 1, 4);
    let (axis, written) = draw.axis(dims.len());
    let old = node.name == "Scatter";
    let kind = if old { "none" } else { reduction(draw) };
    let dtype = type_for(draw, kind);
    let mut own = smaller(draw, &dims, axis);
    own[axis] = own[axis].min(if kind == "none" { dims[axis] } else { 5 });
    let at = match kind {
        "none" => {
            // Along the axis each index once.
            let len: usize = own.iter().product();
            let inner: usize = own[axis + 1..].iter().product();
            let shift = draw.below(dims[axis]);
            let index = |i: usize| ((i / inner % own[axis] + shift) % dims[axis]) as f64;
            tensor(DType::I64, &own, &(0..len).map(index).collect::<Vec<_>>())
        }
        _ => indices(draw, &own, dims[axis]),
    };
    let (data, updates) =
        (draw.floats_within(dtype, &dims, 0.5, 2.0), draw.floats_within(dtype, &own, 0.5, 2.0));
    let node = node.int("axis", written);
    let node = if old { node } else { node.text("reduction", kind) };
    // Up to a few products of one element.
    node.input(draw, data).input(draw, at).input(draw, updates).tolerance(1e-5, 8e-3)
}

fn scatter_nd(draw: &mut Draw, node: Node) -> Node {
    let dims = full(draw, 1, 4);
    let kind = reduction(draw);
    let dtype = type_for(draw, kind);
    let outer = if kind == "none" { vec![1] } else { vec![draw.maybe_zero().min(5)] };
    let (at, slice) = tuples(draw, &outer, &dims);
    let data = draw.floats_within(dtype, &dims, 0.5, 2.0);
    let updates = draw.floats_within(dtype, &[outer, slice].concat(), 0.5, 2.0);
    let node = node.text("reduction", kind).input(draw, data).input(draw, at).input(draw, updates);
    node.tolerance(1e-5, 8e-3)
}

fn non_zero(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.any_type();
    let dims = draw.dims(0, 4);
    let x = draw.numbers(dtype, &dims, 0, 1);
    node.input(draw, x)
}

fn unique(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.pick(&[DType::F32, DType::I64, DType::I8, DType::F64]);
    let dims = full(draw, 1, 3);
    let x = draw.numbers(dtype, &dims, 0, 5);
    let (_, axis) = draw.axis(dims.len());
    let sorted = draw.flag();
    let node = node.flag("sorted", sorted).input(draw, x);
    let node = if draw.flag() { node.int("axis", axis) } else { node };
    if draw.flag() { node.some_outputs(draw, 4, 1) } else { node }
}

fn top_k(draw: &mut Draw, node: Node) -> Node {
    let dtype =
        draw.pick(&[DType::F32, DType::F32, DType::F16, DType::F64, DType::I32, DType::I64, DType::U8]);
    let dims = full(draw, 1, 4);
    let (axis, written) = draw.axis(dims.len());
    let x = draw.extremes(dtype, &dims);
    let k = draw.between(0, dims[axis] as i64);
    let largest = draw.flag();
    let k = draw.vector(DType::I64, &[k]);
    let node = node.int("axis", written).flag("largest", largest).flag("sorted", true);
    node.input(draw, x).setting(draw, k).outputs(&[true, true])
}

fn non_max_suppression(draw: &mut Draw, node: Node) -> Node {
    let (batches, classes) = (draw.between(1, 2) as usize, draw.between(1, 3) as usize);
    let boxes = draw.maybe_zero().min(33);
    let mut all = Vec::new();
    for _ in 0..batches * boxes {
        let (y, x) = (draw.float(0.0, 4.0), draw.float(0.0, 4.0));
        let (h, w) = (draw.float(0.25, 2.0), draw.float(0.25, 2.0));
        all.extend([y, x, y + h, x + w].map(f64::from));
    }
    let scores = draw.floats_within(DType::F32, &[batches, classes, boxes], 0.0, 1.0);
    let boxes = tensor(DType::F32, &[batches, boxes, 4], &all);
    let most = draw.between(0, 9);
    let centers = draw.flag();
    let node = node.flag("center_point_box", centers).input(draw, boxes).input(draw, scores);
    let most = draw.vector(DType::I64, &[most]);
    let node = node.setting(draw, most).setting(draw, tensor(DType::F32, &[1], &[0.375]));
    if draw.flag() { node.setting(draw, tensor(DType::F32, &[1], &[0.25])) } else { node }
}
