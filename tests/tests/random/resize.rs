//! Resampling and signals.

use sardonyx_ops::DType;
use sardonyx_ops::ir::attributes::Attribute;

use crate::driver::{Generator, onnx};
use crate::node::{Draw, Node, tensor};

pub const GENERATORS: &[Generator] = &[
    onnx("AffineGrid", affine_grid),
    onnx("BlackmanWindow", window),
    onnx("DFT", dft),
    onnx("GridSample", grid_sample),
    onnx("HammingWindow", window),
    onnx("HannWindow", window),
    onnx("MelWeightMatrix", mel),
    onnx("Resize", resize),
    onnx("STFT", stft),
    onnx("Upsample", upsample),
];

fn resize(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.pick(&[DType::F32, DType::F32, DType::F32, DType::F16, DType::F64, DType::U8]);
    let mode = match dtype {
        DType::U8 => "nearest",
        _ => draw.pick(&["nearest", "nearest", "linear", "linear", "cubic"]),
    };
    let mut dims = draw.full_dims(3, 4);
    dims.iter_mut().for_each(|dim| *dim = (*dim).min(17));
    let x = draw.data(dtype, &dims);
    let spatial: Vec<usize> = (2..dims.len()).collect();
    let transform = draw.pick(&[
        "half_pixel",
        "half_pixel",
        "half_pixel_symmetric",
        "pytorch_half_pixel",
        "align_corners",
        "asymmetric",
    ]);
    let node = node.text("mode", mode).text("coordinate_transformation_mode", transform);
    let node = match mode {
        "nearest" => {
            let rounding = draw.pick(&["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]);
            node.text("nearest_mode", rounding)
        }
        "cubic" if draw.flag() => node.flag("exclude_outside", true),
        _ => node,
    };
    let node = if mode != "nearest" && draw.one_in(4) { node.flag("antialias", true) } else { node };
    let listed = draw.one_in(3);
    let node = match listed {
        true => node.ints("axes", &spatial.iter().map(|&axis| axis as i64).collect::<Vec<_>>()),
        false => node,
    };
    let axes: Vec<usize> = if listed { spatial } else { (0..dims.len()).collect() };
    let node = node.input(draw, x).optional(draw, None);
    if draw.flag() {
        // Of a few bits, so that coordinates are exact.
        let scale =
            |axis: usize, draw: &mut Draw| if axis < 2 { 1.0 } else { draw.pick(&[0.5, 1.0, 1.5, 2.0, 3.0]) };
        let all: Vec<f64> = axes.iter().map(|&axis| scale(axis, draw)).collect();
        let empty = axes.iter().zip(&all).any(|(&axis, scale)| dims[axis] as f64 * scale < 1.0);
        let all = if empty { vec![1.0; all.len()] } else { all };
        return node.setting(draw, tensor(DType::F32, &[all.len()], &all)).tolerance(1e-4, 1e-2).sums();
    }
    // Multiples of the input's, for the same reason.
    let size = |axis: usize, draw: &mut Draw| {
        if axis < 2 { dims[axis] } else { dims[axis] * draw.between(1, 4) as usize }
    };
    let sizes: Vec<i64> = axes.iter().map(|&axis| size(axis, draw) as i64).collect();
    let sizes = draw.vector(DType::I64, &sizes);
    let policy = draw.pick(&["stretch", "stretch", "not_larger", "not_smaller"]);
    let node = if listed { node.text("keep_aspect_ratio_policy", policy) } else { node };
    node.optional(draw, None).setting(draw, sizes).tolerance(1e-4, 1e-2).sums()
}

fn upsample(draw: &mut Draw, node: Node) -> Node {
    let mut dims = draw.full_dims(4, 4);
    dims.iter_mut().for_each(|dim| *dim = (*dim).min(9));
    let x = draw.data(DType::F32, &dims);
    let scales = [1.0, 1.0, draw.pick(&[1.0, 2.0, 3.0]), draw.pick(&[1.0, 1.5, 2.0])];
    let mode = draw.pick(&["nearest", "linear"]);
    let node = node.text("mode", mode).input(draw, x).tolerance(1e-4, 1e-2).sums();
    match draw.flag() {
        true => node.opset(7).attribute("scales", Attribute::Floats(scales.map(|x| x as f32).to_vec())),
        false => node.opset(9).setting(draw, tensor(DType::F32, &[4], &scales)),
    }
}

fn grid_sample(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.pick(&[DType::F32, DType::F32, DType::F64]);
    let mode = draw.pick(&["linear", "nearest", "cubic"]);
    let rank = if mode == "cubic" { 2 } else { draw.pick(&[2usize, 2, 3]) };
    let (n, c) = (draw.between(1, 2) as usize, draw.between(1, 5) as usize);
    let extents: Vec<usize> = (0..rank).map(|_| draw.between(2, 9) as usize).collect();
    let outputs: Vec<usize> = (0..rank).map(|_| draw.between(1, 9) as usize).collect();
    let x = draw.data(dtype, &[vec![n, c], extents].concat());
    let len = n * outputs.iter().product::<usize>() * rank;
    // Never halfway between two elements, nor at an edge.
    let all: Vec<f64> = (0..len).map(|_| draw.between(-13, 13) as f64 / 10.0 + 0.013).collect();
    let grid = tensor(dtype, &[vec![n], outputs, vec![rank]].concat(), &all);
    let (padding, corners) = (draw.pick(&["zeros", "border", "reflection"]), draw.flag());
    let node = node.text("mode", mode).text("padding_mode", padding).flag("align_corners", corners);
    // Weights come from differences of coordinates of up to ten.
    node.input(draw, x).input(draw, grid).tolerance(1e-4, 2e-2).sums().unhalved()
}

fn affine_grid(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.pick(&[DType::F32, DType::F64, DType::F16]);
    let rank = draw.between(2, 3) as usize;
    let n = draw.between(1, 3) as usize;
    let theta = draw.data(dtype, &[n, rank, rank + 1]);
    let sizes: Vec<i64> = (0..rank).map(|_| draw.between(1, 9)).collect();
    let sizes = draw.vector(DType::I64, &[vec![n as i64, 3], sizes].concat());
    let corners = draw.flag();
    node.flag("align_corners", corners).input(draw, theta).setting(draw, sizes).sums()
}

fn window(draw: &mut Draw, node: Node) -> Node {
    let size = draw.between(1, 65);
    let periodic = draw.flag();
    let dtype = draw.pick(&[DType::F32, DType::F64, DType::F16]);
    let node = node.flag("periodic", periodic).int("output_datatype", i64::from(dtype.to_onnx()));
    node.setting(draw, tensor(DType::I64, &[], &[size as f64]))
}

fn mel(draw: &mut Draw, node: Node) -> Node {
    let (bands, length) = (draw.between(1, 17) as f64, draw.between(16, 128) as f64);
    let integers = [bands, length, 8192.0];
    let node = integers.into_iter().fold(node, |node, n| node.setting(draw, tensor(DType::I64, &[], &[n])));
    [0.0, 4096.0].into_iter().fold(node, |node, x| node.setting(draw, tensor(DType::F32, &[], &[x])))
}

fn dft(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.pick(&[DType::F32, DType::F32, DType::F64]);
    let mut dims = draw.full_dims(2, 3);
    let (axis, written) = (draw.below(dims.len()), dims.len() as i64 + 1);
    let written = axis as i64 - if draw.flag() { written } else { 0 };
    let (inverse, onesided) = (draw.flag(), draw.flag());
    let complex = inverse || (!onesided && draw.flag());
    if inverse && onesided {
        dims[axis] += 1;
    }
    dims.push(if complex { 2 } else { 1 });
    let x = draw.data(dtype, &dims);
    let node = node.flag("inverse", inverse).flag("onesided", onesided).tolerance(3e-5, 1e-2).sums();
    if draw.flag() {
        return node.opset(17).int("axis", written).input(draw, x);
    }
    let length = (!(inverse && onesided) && draw.flag()).then(|| {
        tensor(
            DType::I64,
            &[],
            &[(dims[axis] as i64 + draw.between(-(dims[axis] as i64 - 1).min(3), 5)) as f64],
        )
    });
    let axis = tensor(DType::I64, &[], &[written as f64]);
    let node = node.input(draw, x);
    match length {
        Some(length) => node.setting(draw, length).setting(draw, axis),
        None => node.optional(draw, None).setting(draw, axis),
    }
}

fn stft(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.pick(&[DType::F32, DType::F32, DType::F64]);
    let (batch, length) = (draw.between(1, 3) as usize, draw.between(16, 128) as usize);
    let frame = draw.between(1, 16);
    let step = tensor(DType::I64, &[], &[draw.between(1, 9) as f64]);
    let x = draw.data(dtype, &[batch, length, 1]);
    let onesided = draw.flag();
    let window = draw.flag().then(|| draw.data(dtype, &[frame as usize]));
    let node = node.flag("onesided", onesided).input(draw, x).setting(draw, step);
    let frame = tensor(DType::I64, &[], &[frame as f64]);
    node.optional(draw, window).setting(draw, frame).tolerance(3e-5, 1e-2).sums()
}
