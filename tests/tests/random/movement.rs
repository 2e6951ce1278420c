//! Operators that move elements: every type, every attribute, sizes that are inputs.

use sardonyx_ops::ir::attributes::Attribute;
use sardonyx_ops::{DType, Tensor};

use crate::driver::{Generator, microsoft, onnx};
use crate::node::{Draw, Node, tensor};

pub const GENERATORS: &[Generator] = &[
    onnx("BitCast", bit_cast),
    onnx("CenterCropPad", center_crop_pad),
    onnx("Concat", concat),
    onnx("Constant", constant),
    onnx("ConstantOfShape", constant_of_shape),
    onnx("DepthToSpace", depth_to_space),
    onnx("Dropout", dropout),
    onnx("Expand", expand),
    onnx("EyeLike", eye_like),
    onnx("Flatten", flatten),
    onnx("Identity", any),
    onnx("OneHot", one_hot),
    onnx("Pad", pad),
    onnx("Range", range),
    onnx("Reshape", reshape),
    onnx("ReverseSequence", reverse_sequence),
    onnx("Shape", shape),
    onnx("Size", any),
    onnx("Slice", slice),
    onnx("SpaceToDepth", space_to_depth),
    onnx("Split", split),
    onnx("Squeeze", squeeze),
    onnx("Tile", tile),
    onnx("Transpose", transpose),
    onnx("Trilu", trilu),
    onnx("Unsqueeze", unsqueeze),
    microsoft("Trilu", trilu),
];

/// A tensor of any type and rank.
fn bulk(draw: &mut Draw, least: usize, most: usize) -> Tensor {
    let dtype = draw.any_type();
    let dims = draw.dims(least, most);
    draw.bulk(dtype, &dims)
}

fn any(draw: &mut Draw, node: Node) -> Node {
    let x = bulk(draw, 0, 5);
    node.input(draw, x)
}

fn bit_cast(draw: &mut Draw, node: Node) -> Node {
    let dims = draw.dims(0, 4);
    let (from, to) = draw.pick(&[
        (DType::I32, DType::U32),
        (DType::U16, DType::I16),
        (DType::F32, DType::I32),
        (DType::U64, DType::I64),
        (DType::I8, DType::U8),
    ]);
    let x = draw.bulk(from, &dims);
    node.int("to", i64::from(to.to_onnx())).input(draw, x)
}

fn center_crop_pad(draw: &mut Draw, node: Node) -> Node {
    let x = bulk(draw, 1, 4);
    let rank = x.dims().len();
    let axes = draw.axes(rank, 1);
    let (axes, node) = match draw.flag() {
        true => {
            let written: Vec<i64> = axes.iter().map(|&axis| draw.signed(axis, rank)).collect();
            (axes, node.ints("axes", &written))
        }
        false => ((0..rank).collect(), node),
    };
    let sizes: Vec<i64> = axes.iter().map(|_| draw.between(1, 9)).collect();
    let sizes = draw.vector(DType::I64, &sizes);
    node.input(draw, x).setting(draw, sizes)
}

fn concat(draw: &mut Draw, node: Node) -> Node {
    let first = bulk(draw, 1, 5);
    let (axis, written) = draw.axis(first.dims().len());
    let count = draw.between(0, 9);
    let node = node.int("axis", written).input(draw, first.clone());
    (0..count).fold(node, |node, _| {
        let mut dims = first.dims().to_vec();
        dims[axis] = draw.maybe_zero().min(17);
        let next = draw.bulk(first.dtype(), &dims);
        node.input(draw, next)
    })
}

fn constant(draw: &mut Draw, node: Node) -> Node {
    match draw.below(4) {
        0 => node.float("value_float", 0.5),
        1 => node.int("value_int", -3),
        2 => node.ints("value_ints", &[1, 2, 3]),
        _ => {
            let value = bulk(draw, 0, 3);
            node.attribute("value", Attribute::Tensor(value))
        }
    }
}

fn constant_of_shape(draw: &mut Draw, node: Node) -> Node {
    let dims: Vec<i64> = draw.dims(0, 4).into_iter().map(|dim| dim as i64).collect();
    let sizes = draw.vector(DType::I64, &dims);
    let dtype = draw.any_type();
    let value = draw.bulk(dtype, &[1]);
    let node = if draw.flag() { node.attribute("value", Attribute::Tensor(value)) } else { node };
    node.setting(draw, sizes)
}

fn depth_to_space(draw: &mut Draw, node: Node) -> Node {
    let block = draw.between(1, 3) as usize;
    let (n, c) = (draw.maybe_zero().min(3), draw.between(1, 5) as usize);
    let (h, w) = (draw.extent().min(17), draw.extent().min(17));
    let dtype = draw.any_type();
    let x = draw.bulk(dtype, &[n, c * block * block, h, w]);
    let mode = draw.pick(&["DCR", "CRD"]);
    node.int("blocksize", block as i64).text("mode", mode).input(draw, x)
}

fn space_to_depth(draw: &mut Draw, node: Node) -> Node {
    let block = draw.between(1, 3) as usize;
    let (n, c) = (draw.maybe_zero().min(3), draw.between(1, 5) as usize);
    let (h, w) = (draw.extent().min(9), draw.extent().min(9));
    let dtype = draw.any_type();
    let x = draw.bulk(dtype, &[n, c, h * block, w * block]);
    node.int("blocksize", block as i64).input(draw, x)
}

fn dropout(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.float_type();
    let dims = draw.dims(0, 4);
    let x = draw.data(dtype, &dims);
    let mask = draw.flag();
    let node = node.opset(13).input(draw, x);
    if mask { node.outputs(&[true, true]) } else { node }
}

fn expand(draw: &mut Draw, node: Node) -> Node {
    let dims = draw.dims(0, 5);
    let from = draw.broadcast_to(&dims);
    let dtype = draw.any_type();
    let x = draw.bulk(dtype, &from);
    // A one in the target keeps the input's extent.
    let target: Vec<i64> = dims.iter().map(|&dim| if draw.one_in(6) { 1 } else { dim as i64 }).collect();
    let target = draw.vector(DType::I64, &target);
    node.input(draw, x).setting(draw, target)
}

fn eye_like(draw: &mut Draw, node: Node) -> Node {
    let x = bulk(draw, 2, 2);
    let k = draw.between(-3, 3);
    let node = node.int("k", k).input(draw, x);
    let to = draw.any_type();
    if draw.flag() { node.int("dtype", i64::from(to.to_onnx())) } else { node }
}

fn flatten(draw: &mut Draw, node: Node) -> Node {
    let x = bulk(draw, 0, 5);
    let rank = x.dims().len() as i64;
    let axis = draw.between(-rank, rank);
    node.int("axis", axis).input(draw, x)
}

fn one_hot(draw: &mut Draw, node: Node) -> Node {
    let dims = draw.dims(1, 3);
    let depth = draw.between(1, 17);
    let index = draw.pick(&[DType::I64, DType::I32, DType::F32, DType::U8]);
    let low = if index == DType::U8 { 0 } else { -depth - 2 };
    let indices = draw.numbers(index, &dims, low, depth + 2);
    let count = draw.pick(&[DType::I64, DType::I32, DType::F32]);
    let depth = tensor(count, if draw.flag() { &[] } else { &[1] }, &[depth as f64]);
    let dtype = draw.any_type();
    let values = draw.bulk(dtype, &[2]);
    let axis = draw.between(-(dims.len() as i64) - 1, dims.len() as i64);
    node.int("axis", axis).input(draw, indices).setting(draw, depth).setting(draw, values)
}

fn pad(draw: &mut Draw, node: Node) -> Node {
    let mode = draw.pick(&["constant", "constant", "edge", "reflect", "wrap"]);
    if mode != "constant" {
        draw.no_zeros();
    }
    let x = bulk(draw, 1, 4);
    let rank = x.dims().len();
    let axes: Vec<usize> = if draw.flag() { (0..rank).collect() } else { draw.axes(rank, 0) };
    let listed = axes.len() != rank || axes.windows(2).any(|pair| pair[0] > pair[1]) || draw.one_in(4);
    let mut pads = vec![0; 2 * axes.len()];
    for (index, &axis) in axes.iter().enumerate() {
        let extent = x.dims()[axis] as i64;
        let most = match mode {
            "reflect" => (extent - 1).min(5),
            "wrap" => extent.min(5),
            _ => 5,
        };
        let (before, after) = (draw.between(0, most), draw.between(0, most));
        // What is taken away on one side leaves something.
        let before = if mode == "constant" && draw.one_in(5) { -draw.between(0, extent / 3) } else { before };
        (pads[index], pads[index + axes.len()]) = (before, after);
    }
    if !listed && mode != "wrap" && draw.one_in(5) && x.dtype().is_float() {
        let node = if mode == "constant" { node.float("value", 0.5) } else { node };
        return node.opset(2).text("mode", mode).ints("pads", &pads).input(draw, x);
    }
    let pads = draw.vector(DType::I64, &pads);
    let fill = (mode == "constant" && draw.flag()).then(|| draw.bulk(x.dtype(), &[]));
    let node = node.text("mode", mode).input(draw, x).setting(draw, pads);
    match (fill, listed) {
        (None, false) => node,
        (fill, false) => node.optional(draw, fill),
        (fill, true) => {
            let written: Vec<i64> = axes.iter().map(|&axis| draw.signed(axis, rank)).collect();
            let written = draw.vector(DType::I64, &written);
            node.optional(draw, fill).setting(draw, written)
        }
    }
}

fn range(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.pick(&[DType::F32, DType::F64, DType::I16, DType::I32, DType::I64]);
    let start = draw.between(-20, 20);
    let delta = draw.pick(&[-3i64, -1, 1, 2, 5]);
    let limit = start + draw.between(-3, 70) * delta.signum();
    [start, limit, delta]
        .into_iter()
        .fold(node, |node, number| node.setting(draw, tensor(dtype, &[], &[number as f64])))
}

fn reshape(draw: &mut Draw, node: Node) -> Node {
    let x = bulk(draw, 0, 5);
    let mut target: Vec<i64> = x.dims().iter().map(|&dim| dim as i64).collect();
    // Merge two neighbours, put a one somewhere.
    if target.len() >= 2 && draw.flag() {
        let at = draw.below(target.len() - 1);
        let next = target.remove(at + 1);
        target[at] *= next;
    } else if draw.flag() {
        let at = draw.below(target.len() + 1);
        target.insert(at, 1);
    }
    let empty = target.contains(&0);
    if !empty && !target.is_empty() && draw.flag() {
        let at = draw.below(target.len());
        target[at] = -1;
    }
    let node = if empty { node.flag("allowzero", true) } else { node };
    if !empty
        && !target.is_empty()
        && target[0] == x.dims().first().map_or(-2, |&dim| dim as i64)
        && draw.flag()
    {
        target[0] = 0;
    }
    let target = draw.vector(DType::I64, &target);
    node.input(draw, x).setting(draw, target)
}

fn reverse_sequence(draw: &mut Draw, node: Node) -> Node {
    draw.no_zeros();
    let x = bulk(draw, 2, 4);
    let batch = draw.below(2);
    let (count, most) = (x.dims()[batch], x.dims()[1 - batch] as i64);
    let lengths: Vec<i64> = (0..count).map(|_| draw.between(1, most)).collect();
    let lengths = draw.vector(DType::I64, &lengths);
    let node = node.int("batch_axis", batch as i64).int("time_axis", 1 - batch as i64);
    node.input(draw, x).input(draw, lengths)
}

fn shape(draw: &mut Draw, node: Node) -> Node {
    let x = bulk(draw, 0, 5);
    let (start, end) = (draw.between(-6, 6), draw.between(-6, 6));
    let node = node.input(draw, x);
    let node = if draw.flag() { node.int("start", start) } else { node };
    if draw.flag() { node.int("end", end) } else { node }
}

fn slice(draw: &mut Draw, node: Node) -> Node {
    let x = bulk(draw, 1, 5);
    let rank = x.dims().len();
    let axes = draw.axes(rank, 1);
    let (mut starts, mut ends, mut steps) = (Vec::new(), Vec::new(), Vec::new());
    let old = draw.one_in(5);
    for &axis in &axes {
        let extent = x.dims()[axis] as i64;
        starts.push(draw.between(-extent - 2, extent + 2));
        let far = draw.pick(&[i64::MAX, i64::MIN, 0]);
        ends.push(if draw.one_in(6) { far } else { draw.between(-extent - 2, extent + 2) });
        steps.push(if old || draw.flag() { 1 } else { draw.pick(&[-3, -2, -1, 2, 3]) });
    }
    let written: Vec<i64> = axes.iter().map(|&axis| draw.signed(axis, rank)).collect();
    let node = node.input(draw, x);
    if old {
        return node.opset(1).ints("starts", &starts).ints("ends", &ends).ints("axes", &written);
    }
    let dtype =
        if ends.iter().any(|end| end.abs_diff(0) > 1 << 20) || draw.flag() { DType::I64 } else { DType::I32 };
    let (starts, ends) = (draw.vector(dtype, &starts), draw.vector(dtype, &ends));
    let (written, steps) = (draw.vector(dtype, &written), draw.vector(dtype, &steps));
    node.setting(draw, starts).setting(draw, ends).setting(draw, written).setting(draw, steps)
}

fn split(draw: &mut Draw, node: Node) -> Node {
    let x = bulk(draw, 1, 4);
    let (axis, written) = draw.axis(x.dims().len());
    let extent = x.dims()[axis];
    let count = draw.between(1, 4) as usize;
    let node = node.int("axis", written);
    let wanted: Vec<bool> = (0..count).map(|index| index == 0 || !draw.one_in(6)).collect();
    match draw.below(3) {
        0 if extent >= count => node.int("num_outputs", count as i64).input(draw, x).outputs(&wanted),
        old => {
            let mut parts = vec![0i64; count];
            (0..extent).for_each(|_| parts[draw.below(count)] += 1);
            if old == 1 {
                return node.opset(11).ints("split", &parts).input(draw, x).outputs(&wanted);
            }
            let parts = draw.vector(DType::I64, &parts);
            node.input(draw, x).setting(draw, parts).outputs(&wanted)
        }
    }
}

fn squeeze(draw: &mut Draw, node: Node) -> Node {
    let x = bulk(draw, 1, 5);
    let rank = x.dims().len();
    let ones: Vec<usize> = (0..rank).filter(|&axis| x.dims()[axis] == 1).collect();
    let axes: Vec<i64> = ones.iter().map(|&axis| draw.signed(axis, rank)).collect();
    let node = node.input(draw, x);
    match draw.below(3) {
        0 => node,
        1 => node.opset(11).ints("axes", &axes),
        _ => {
            let axes = draw.vector(DType::I64, &axes);
            node.setting(draw, axes)
        }
    }
}

fn unsqueeze(draw: &mut Draw, node: Node) -> Node {
    let x = bulk(draw, 0, 3);
    let rank = x.dims().len() + draw.between(1, 2) as usize;
    let mut axes: Vec<usize> = (0..rank).collect();
    draw.shuffle(&mut axes);
    axes.truncate(rank - x.dims().len());
    let axes: Vec<i64> = axes.iter().map(|&axis| draw.signed(axis, rank)).collect();
    let node = node.input(draw, x);
    if draw.one_in(3) {
        return node.opset(11).ints("axes", &axes);
    }
    let axes = draw.vector(DType::I64, &axes);
    node.setting(draw, axes)
}

fn tile(draw: &mut Draw, node: Node) -> Node {
    let x = bulk(draw, 1, 4);
    let repeats: Vec<i64> = x.dims().iter().map(|_| draw.pick(&[1, 1, 2, 3])).collect();
    let repeats = draw.vector(DType::I64, &repeats);
    node.input(draw, x).setting(draw, repeats)
}

fn transpose(draw: &mut Draw, node: Node) -> Node {
    let x = bulk(draw, 0, 6);
    let mut order: Vec<i64> = (0..x.dims().len() as i64).collect();
    draw.shuffle(&mut order);
    let node = node.input(draw, x);
    if draw.one_in(5) { node } else { node.ints("perm", &order) }
}

fn trilu(draw: &mut Draw, node: Node) -> Node {
    let x = bulk(draw, 2, 4);
    let upper = draw.flag();
    let k = draw.between(-5, 5);
    let node = node.flag("upper", upper).input(draw, x);
    if draw.flag() { node.setting(draw, Tensor::scalar(k)) } else { node }
}
