//! Convolutions and poolings: one, two and three axes, every way to pad.

use sardonyx_ops::DType;

use crate::driver::{Generator, microsoft, onnx};
use crate::node::{Draw, Node, tensor};

pub const GENERATORS: &[Generator] = &[
    onnx("AveragePool", |draw, node| {
        let include = draw.flag();
        pool(draw, node.flag("count_include_pad", include))
    }),
    onnx("Col2Im", col2im),
    onnx("Conv", conv),
    onnx("ConvTranspose", conv_transpose),
    onnx("DeformConv", deform_conv),
    onnx("LpPool", |draw, node| {
        let p = draw.between(1, 3);
        pool(draw, node.int("p", p))
    }),
    onnx("MaxPool", max_pool),
    onnx("MaxRoiPool", max_roi_pool),
    onnx("MaxUnpool", max_unpool),
    onnx("RoiAlign", roi_align),
    microsoft("FusedConv", |draw, node| {
        let activation = draw.pick(&["Relu", "Tanh", "Sigmoid"]);
        conv(draw, node.text("activation", activation))
    }),
    microsoft("NhwcMaxPool", nhwc_max_pool),
];

/// Where a window goes along each axis.
pub struct Windows {
    pub kernel: Vec<i64>,
    pub strides: Vec<i64>,
    pub dilations: Vec<i64>,
    /// Before each axis, then after each.
    pub pads: Vec<i64>,
    /// Extents of the input, which every window fits.
    pub input: Vec<usize>,
}

/// Random windows over few axes.
pub fn windows(draw: &mut Draw) -> Windows {
    let rank = draw.pick(&[1usize, 2, 2, 2, 2, 3]);
    let mut all = Windows {
        kernel: vec![],
        strides: vec![],
        dilations: vec![],
        pads: vec![0; 2 * rank],
        input: vec![],
    };
    let square = draw.flag();
    for axis in 0..rank {
        let kernel = if axis > 0 && square { all.kernel[0] } else { draw.pick(&[1, 1, 2, 3, 3, 3, 5]) };
        let dilation = draw.pick(&[1, 1, 1, 2, 3]);
        let reach = (kernel - 1) * dilation + 1;
        all.kernel.push(kernel);
        all.dilations.push(dilation);
        all.strides.push(draw.pick(&[1, 1, 1, 2, 3]));
        if draw.flag() {
            // Less than a window, so that each window holds something.
            all.pads[axis] = draw.between(0, (kernel - 1).min(3));
            all.pads[axis + rank] = draw.between(0, (kernel - 1).min(3));
        }
        let most = [40, 12, 6][rank - 1];
        all.input.push(reach as usize + draw.between(0, most) as usize);
    }
    all
}

/// The attributes of windows, defaults left out now and then; `auto` also lets the operator pad by itself.
pub fn written(draw: &mut Draw, node: Node, all: &Windows, auto: bool) -> Node {
    let ones = |list: &[i64]| list.iter().all(|&n| n == 1);
    let node = if ones(&all.strides) && draw.flag() { node } else { node.ints("strides", &all.strides) };
    let node =
        if ones(&all.dilations) && draw.flag() { node } else { node.ints("dilations", &all.dilations) };
    match draw.below(6) {
        0 if auto => node.text("auto_pad", "SAME_UPPER"),
        1 if auto => node.text("auto_pad", "SAME_LOWER"),
        2 if auto => node.text("auto_pad", "VALID"),
        _ => node.ints("pads", &all.pads),
    }
}

/// Channels in and out of a group, and groups.
fn channels(draw: &mut Draw) -> [usize; 3] {
    match draw.below(4) {
        // Depthwise.
        0 => [1, draw.pick(&[1, 1, 2]), draw.extent().min(33)],
        1 => [draw.between(1, 5) as usize, draw.between(1, 5) as usize, draw.between(2, 4) as usize],
        _ => [draw.extent().min(33), draw.extent().min(33), 1],
    }
}

fn conv(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.float_type();
    let all = windows(draw);
    let [c, m, groups] = channels(draw);
    let n = draw.maybe_zero().min(2);
    let x = draw.data(dtype, &[vec![n, c * groups], all.input.clone()].concat());
    let kernel: Vec<usize> = all.kernel.iter().map(|&k| k as usize).collect();
    let w = draw.data(dtype, &[vec![m * groups, c], kernel].concat());
    let bias = draw.flag().then(|| draw.data(dtype, &[m * groups]));
    let node = written(draw, node, &all, true).int("group", groups as i64);
    let node = if draw.flag() { node.ints("kernel_shape", &all.kernel) } else { node };
    let node = node.input(draw, x).setting(draw, w);
    // Sums of up to a thousand products.
    let node = node.tolerance(2e-5, 8e-3).sums();
    match bias {
        Some(bias) => node.setting(draw, bias),
        None => node,
    }
}

fn conv_transpose(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.float_type();
    let mut all = windows(draw);
    let rank = all.kernel.len();
    let [c, m, groups] = channels(draw);
    all.input.iter_mut().for_each(|dim| *dim = draw.between(1, [20, 8, 4][rank - 1]) as usize);
    // Less is taken away than there is.
    for axis in 0..rank {
        let reach = (all.kernel[axis] - 1) * all.dilations[axis];
        all.pads[axis] = all.pads[axis].min(reach / 2);
        all.pads[axis + rank] = all.pads[axis + rank].min(reach / 2);
    }
    let n = draw.maybe_zero().min(2);
    let x = draw.data(dtype, &[vec![n, c * groups], all.input.clone()].concat());
    let kernel: Vec<usize> = all.kernel.iter().map(|&k| k as usize).collect();
    let w = draw.data(dtype, &[vec![c * groups, m], kernel].concat());
    let bias = draw.flag().then(|| draw.data(dtype, &[m * groups]));
    let more: Vec<i64> = all.strides.iter().map(|&stride| draw.between(0, stride - 1)).collect();
    let node =
        node.int("group", groups as i64).ints("strides", &all.strides).ints("dilations", &all.dilations);
    let node = match draw.below(4) {
        0 => {
            let shape: Vec<i64> = (0..rank).map(|axis| all.input[axis] as i64 * all.strides[axis]).collect();
            node.text("auto_pad", draw.pick(&["SAME_UPPER", "SAME_LOWER", "NOTSET"]))
                .ints("output_shape", &shape)
        }
        1 => node.ints("pads", &all.pads).ints("output_padding", &more),
        _ => node.ints("pads", &all.pads),
    };
    let node = node.input(draw, x).setting(draw, w).tolerance(2e-5, 8e-3).sums();
    match bias {
        Some(bias) => node.setting(draw, bias),
        None => node,
    }
}

fn pool(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.float_type();
    let mut all = windows(draw);
    // A window of padding alone has no mean.
    let rank = all.kernel.len();
    (0..2 * rank).for_each(|at| all.pads[at] = all.pads[at].min(all.kernel[at % rank] / 2));
    let (n, c) = (draw.maybe_zero().min(2), draw.extent().min(9));
    let x = draw.floats_within(dtype, &[vec![n, c], all.input.clone()].concat(), 0.25, 2.0);
    let ceil = draw.flag();
    let node = written(draw, node.ints("kernel_shape", &all.kernel).flag("ceil_mode", ceil), &all, true);
    node.input(draw, x)
}

fn max_pool(draw: &mut Draw, node: Node) -> Node {
    let dtype =
        draw.pick(&[DType::F32, DType::F32, DType::F32, DType::F16, DType::F64, DType::I8, DType::U8]);
    let mut all = windows(draw);
    let rank = all.kernel.len();
    (0..2 * rank).for_each(|at| all.pads[at] = all.pads[at].min(all.kernel[at % rank] / 2));
    let (n, c) = (draw.maybe_zero().min(2), draw.extent().min(9));
    let x = draw.data(dtype, &[vec![n, c], all.input.clone()].concat());
    let (ceil, order) = (draw.flag(), draw.flag());
    let node = node.ints("kernel_shape", &all.kernel).flag("ceil_mode", ceil);
    let node = written(draw, node, &all, true).input(draw, x);
    if draw.one_in(3) { node.flag("storage_order", order).outputs(&[true, true]) } else { node }
}

fn nhwc_max_pool(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.pick(&[DType::F32, DType::I8, DType::U8]);
    let mut all = windows(draw);
    let rank = all.kernel.len();
    (0..2 * rank).for_each(|at| all.pads[at] = all.pads[at].min(all.kernel[at % rank] / 2));
    let x = draw.extremes(dtype, &[vec![2], all.input.clone(), vec![3]].concat());
    written(draw, node.ints("kernel_shape", &all.kernel), &all, true).input(draw, x)
}

fn max_unpool(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.pick(&[DType::F32, DType::F16, DType::F64]);
    let (n, c) = (draw.between(1, 2) as usize, draw.between(1, 5) as usize);
    let (h, w, k) = (draw.between(1, 7) as usize, draw.between(1, 7) as usize, draw.between(1, 3) as usize);
    let x = draw.data(dtype, &[n, c, h, w]);
    // One place in each window, as a pooling without overlap writes them.
    let mut at = Vec::new();
    for plane in 0..n * c {
        for y in 0..h {
            for x in 0..w {
                let (dy, dx) = (draw.below(k), draw.below(k));
                at.push((plane * h * k * w * k + (y * k + dy) * w * k + x * k + dx) as f64);
            }
        }
    }
    let node = node.ints("kernel_shape", &[k as i64; 2]).ints("strides", &[k as i64; 2]).input(draw, x);
    let node = node.input(draw, tensor(DType::I64, &[n, c, h, w], &at));
    let shape = draw.vector(DType::I64, &[n as i64, c as i64, (h * k) as i64, (w * k) as i64]);
    if draw.flag() { node.setting(draw, shape) } else { node }
}

/// Rectangles within a picture.
fn rois(draw: &mut Draw, dtype: DType, count: usize, extent: f32) -> Vec<f64> {
    let mut all = Vec::new();
    for _ in 0..count {
        let (x, y) = (draw.float(0.0, extent / 2.0), draw.float(0.0, extent / 2.0));
        let (w, h) = (draw.float(0.5, extent / 2.0), draw.float(0.5, extent / 2.0));
        all.extend([x, y, x + w, y + h].map(f64::from));
    }
    sardonyx_tests::numbers(&tensor(dtype, &[all.len()], &all))
}

fn roi_align(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.pick(&[DType::F32, DType::F32, DType::F64]);
    let (n, c, count) = (draw.between(1, 2) as usize, draw.between(1, 5) as usize, draw.maybe_zero().min(7));
    let (h, w) = (draw.between(3, 17) as usize, draw.between(3, 17) as usize);
    let x = draw.data(dtype, &[n, c, h, w]);
    let all = rois(draw, dtype, count, 16.0);
    let batches = draw.numbers(DType::I64, &[count], 0, n as i64 - 1);
    let (oh, ow, ratio) = (draw.between(1, 5), draw.between(1, 5), draw.between(0, 3));
    let (mode, corners) = (draw.pick(&["avg", "max"]), draw.pick(&["half_pixel", "output_half_pixel"]));
    let node = node.text("mode", mode).text("coordinate_transformation_mode", corners);
    let node = node.int("output_height", oh).int("output_width", ow).int("sampling_ratio", ratio);
    let node = node.float("spatial_scale", 0.5).input(draw, x);
    let node = node.input(draw, tensor(dtype, &[count, 4], &all)).input(draw, batches);
    // Where a sample falls beside a pixel depends on the last digit of a coordinate.
    node.tolerance(1e-4, 1e-2).sums().unhalved()
}

fn max_roi_pool(draw: &mut Draw, node: Node) -> Node {
    let (n, c, count) =
        (draw.between(1, 2) as usize, draw.between(1, 5) as usize, draw.between(1, 5) as usize);
    let (h, w) = (draw.between(3, 17) as usize, draw.between(3, 17) as usize);
    let x = draw.data(DType::F32, &[n, c, h, w]);
    let mut all = Vec::new();
    for _ in 0..count {
        let (x, y) = (draw.below(w) as f64, draw.below(h) as f64);
        let (right, bottom) = (x + draw.below(w) as f64, y + draw.below(h) as f64);
        all.extend([draw.below(n) as f64, x, y, right, bottom]);
    }
    let pooled = [draw.between(1, 4), draw.between(1, 4)];
    let node = node.ints("pooled_shape", &pooled).float("spatial_scale", 1.0).input(draw, x);
    node.input(draw, tensor(DType::F32, &[count, 5], &all))
}

fn col2im(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.float_type();
    let all = windows(draw);
    let rank = all.kernel.len();
    let (n, c) = (draw.between(1, 2) as usize, draw.between(1, 4) as usize);
    let steps: usize = (0..rank)
        .map(|axis| {
            let reach = (all.kernel[axis] - 1) * all.dilations[axis] + 1;
            let room = all.input[axis] as i64 + all.pads[axis] + all.pads[axis + rank] - reach;
            (room / all.strides[axis] + 1) as usize
        })
        .product();
    let block: i64 = all.kernel.iter().product();
    let x = draw.data(dtype, &[n, c * block as usize, steps]);
    let image: Vec<i64> = all.input.iter().map(|&dim| dim as i64).collect();
    let (image, block) = (draw.vector(DType::I64, &image), draw.vector(DType::I64, &all.kernel));
    let node = node.ints("strides", &all.strides).ints("dilations", &all.dilations).ints("pads", &all.pads);
    node.input(draw, x).setting(draw, image).setting(draw, block).sums()
}

fn deform_conv(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.pick(&[DType::F32, DType::F32, DType::F64]);
    let (n, groups, parts) =
        (draw.between(1, 2) as usize, draw.between(1, 2) as usize, draw.between(1, 2) as usize);
    let (c, m) = (2 * draw.between(1, 3) as usize, 2 * draw.between(1, 3) as usize);
    let (kh, kw) = (draw.between(1, 3) as usize, draw.between(1, 3) as usize);
    let (h, w) = (draw.between(3, 9) as usize, draw.between(3, 9) as usize);
    let (oh, ow) = (h + 2 - kh + 1, w + 2 - kw + 1);
    let x = draw.data(dtype, &[n, c, h, w]);
    let weights = draw.data(dtype, &[m, c / groups, kh, kw]);
    let offsets = draw.data(dtype, &[n, parts * kh * kw * 2, oh, ow]);
    let bias = draw.flag().then(|| draw.data(dtype, &[m]));
    let mask = draw.flag().then(|| draw.data(dtype, &[n, parts * kh * kw, oh, ow]));
    let node = node.ints("pads", &[1; 4]).int("group", groups as i64).int("offset_group", parts as i64);
    let node = node.ints("kernel_shape", &[kh as i64, kw as i64]);
    let node = node.input(draw, x).input(draw, weights).input(draw, offsets);
    node.optional(draw, bias).optional(draw, mask).tolerance(2e-5, 8e-3).sums()
}
