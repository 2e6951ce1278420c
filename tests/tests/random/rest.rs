//! Losses, steps of training, and what classical models are made of.

use sardonyx_ops::ir::attributes::Attribute;
use sardonyx_ops::{DType, Tensor};

use crate::driver::{Generator, onnx};
use crate::node::{Draw, Node, tensor};

/// A row for an operator of classical machine learning.
const fn classical(name: &'static str, make: fn(&mut Draw, Node) -> Node) -> Generator {
    Generator { domain: "ai.onnx.ml", name, make }
}

/// A row for an operator of training.
const fn training(name: &'static str, make: fn(&mut Draw, Node) -> Node) -> Generator {
    Generator { domain: "ai.onnx.preview.training", name, make }
}

pub const GENERATORS: &[Generator] = &[
    onnx("NegativeLogLikelihoodLoss", loss),
    onnx("SoftmaxCrossEntropyLoss", loss),
    training("Adagrad", |draw, node| {
        let node = node.float("decay_factor", 0.125).float("epsilon", 0.25).float("norm_coefficient", 0.125);
        optimizer(draw, node, 1)
    }),
    training("Adam", |draw, node| {
        let node = node.float("alpha", 0.75).float("beta", 0.875).float("epsilon", 0.25);
        optimizer(draw, node, 2)
    }),
    training("Momentum", |draw, node| {
        let mode = draw.pick(&["standard", "nesterov"]);
        let node =
            node.text("mode", mode).float("alpha", 0.75).float("beta", 0.5).float("norm_coefficient", 0.125);
        optimizer(draw, node, 1)
    }),
    classical("ArrayFeatureExtractor", feature),
    classical("Binarizer", |draw, node| {
        let dims = draw.dims(1, 4);
        let dtype = draw.pick(&[DType::F32, DType::F64, DType::I64, DType::I32]);
        let x = draw.data(dtype, &dims);
        node.float("threshold", 0.25).input(draw, x)
    }),
    classical("FeatureVectorizer", |draw, node| {
        let (rows, types) = (draw.extent(), [DType::F32, DType::F64, DType::I64, DType::I32]);
        let (a, b) = (draw.pick(&types), draw.pick(&types));
        let (a, b) = (draw.data(a, &[rows, 3]), draw.data(b, &[rows, 2]));
        node.ints("inputdimensions", &[3, 2]).input(draw, a).input(draw, b)
    }),
    classical("Imputer", |draw, node| {
        let x = features(draw, &[DType::F32]);
        node.attribute("imputed_value_floats", Attribute::Floats(vec![0.5, 1.5, -2.5, 3.0])).input(draw, x)
    }),
    classical("LabelEncoder", label_encoder),
    classical("LinearClassifier", |draw, node| {
        let node = node.ints("classlabels_ints", &[3, 5]);
        linear(draw, node)
    }),
    classical("LinearRegressor", |draw, node| {
        let node = node.int("targets", 2);
        linear(draw, node).outputs(&[true])
    }),
    classical("Normalizer", |draw, node| {
        let norm = draw.pick(&["L1", "L2"]);
        let x = features(draw, &[DType::F32, DType::F64]);
        node.text("norm", norm).input(draw, x)
    }),
    classical("OneHotEncoder", |draw, node| {
        let dims = draw.dims(1, 2);
        let x = draw.numbers(DType::I64, &dims, 0, 6);
        node.attribute("cats_int64s", Attribute::Ints(vec![1, 3, 5])).input(draw, x)
    }),
    classical("Scaler", |draw, node| {
        let x = features(draw, &[DType::F32, DType::F64, DType::I64, DType::I32]);
        let node = node.attribute("offset", Attribute::Floats(vec![0.5, 1.5, -2.5, 0.25]));
        node.attribute("scale", Attribute::Floats(vec![2.0])).input(draw, x)
    }),
    classical("TreeEnsemble", tree),
    classical("TreeEnsembleClassifier", |draw, node| {
        let node = node.ints("classlabels_int64s", &[3, 5]).outputs(&[true, true]);
        forest(draw, node, "class")
    }),
    classical("TreeEnsembleRegressor", |draw, node| {
        let node = node.int("n_targets", 2);
        forest(draw, node, "target")
    }),
];

/// Rows of four features.
fn features(draw: &mut Draw, types: &[DType]) -> Tensor {
    let (dtype, rows) = (draw.pick(types), draw.extent());
    draw.data(dtype, &[rows, 4])
}

fn linear(draw: &mut Draw, node: Node) -> Node {
    let x = features(draw, &[DType::F32, DType::F64, DType::I64, DType::I32]);
    let weights = Attribute::Floats((0..8).map(|_| draw.float(-1.5, 1.5)).collect());
    let node =
        node.attribute("coefficients", weights).attribute("intercepts", Attribute::Floats(vec![0.5, -0.5]));
    node.input(draw, x).outputs(&[true, true])
}

/// One tree of two inner nodes and three leaves, as older operators write it.
fn forest(draw: &mut Draw, node: Node, leaves: &str) -> Node {
    let x = features(draw, &[DType::F32, DType::F64, DType::I64, DType::I32]);
    let texts = |all: &[&str]| Attribute::Strs(all.iter().map(|text| (*text).to_owned()).collect());
    let floats =
        |draw: &mut Draw, count| Attribute::Floats((0..count).map(|_| draw.float(-1.5, 1.5)).collect());
    let mode = draw.pick(&["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT"]);
    let values = floats(draw, 5);
    let weights = floats(draw, 3);
    let [trees, nodes, ids, named] = match leaves {
        "class" => ["class_treeids", "class_nodeids", "class_ids", "class_weights"],
        _ => ["target_treeids", "target_nodeids", "target_ids", "target_weights"],
    };
    let node = node.ints("nodes_treeids", &[0; 5]).ints("nodes_nodeids", &[0, 1, 2, 3, 4]);
    let node = node.ints("nodes_featureids", &[0, 3, 0, 0, 0]).attribute("nodes_values", values);
    let node = node.attribute("nodes_modes", texts(&[mode, mode, "LEAF", "LEAF", "LEAF"]));
    let node = node.ints("nodes_truenodeids", &[1, 2, 0, 0, 0]).ints("nodes_falsenodeids", &[4, 3, 0, 0, 0]);
    let node = node.ints(trees, &[0; 3]).ints(nodes, &[2, 3, 4]).ints(ids, &[0, 1, 0]);
    node.attribute(named, weights).input(draw, x)
}

fn loss(draw: &mut Draw, node: Node) -> Node {
    let dtype = draw.pick(&[DType::F32, DType::F32, DType::F16, DType::F64]);
    let dims = draw.full_dims(2, 4);
    let classes = dims[1];
    let scores = draw.floats_within(dtype, &dims, 0.25, 2.0);
    let index = draw.pick(&[DType::I64, DType::I32]);
    let targets = draw.numbers(index, &[&dims[..1], &dims[2..]].concat(), 0, classes as i64 - 1);
    let weights = draw.flag().then(|| draw.floats_within(dtype, &[classes], 0.25, 2.0));
    let reduction = draw.pick(&["none", "sum", "mean"]);
    let node = node.text("reduction", reduction);
    // The mean of nothing is not a number.
    let node = if reduction != "mean" && draw.one_in(3) { node.int("ignore_index", 0) } else { node };
    let both = node.name == "SoftmaxCrossEntropyLoss" && draw.flag();
    let node = node.input(draw, scores).input(draw, targets).tolerance(2e-5, 1e-2);
    let node = if weights.is_some() { node.optional(draw, weights) } else { node };
    if both { node.outputs(&[true; 2]) } else { node }
}

fn optimizer(draw: &mut Draw, node: Node, states: usize) -> Node {
    let dtype = draw.pick(&[DType::F32, DType::F64]);
    let count = draw.between(1, 3) as usize;
    let shapes: Vec<Vec<usize>> = (0..count).map(|_| draw.dims(0, 3)).collect();
    let steps = draw.between(0, 5) as f64;
    let node =
        node.setting(draw, tensor(dtype, &[], &[0.125])).setting(draw, tensor(DType::I64, &[], &[steps]));
    let node = (0..2 + states).fold(node, |node, kind| {
        shapes.iter().fold(node, |node, dims| {
            let low = if kind > 1 { 0.25 } else { -2.0 };
            let x = draw.floats_within(dtype, dims, low, 2.0);
            node.input(draw, x)
        })
    });
    node.outputs(&vec![true; count * (1 + states)])
}

fn feature(draw: &mut Draw, node: Node) -> Node {
    let dims = draw.full_dims(1, 3);
    let dtype = draw.pick(&[DType::F32, DType::F64, DType::I64, DType::I32]);
    let x = draw.data(dtype, &dims);
    let count = draw.between(1, 9) as usize;
    let at = draw.numbers(DType::I64, &[count], 0, dims[dims.len() - 1] as i64 - 1);
    node.input(draw, x).input(draw, at)
}

fn label_encoder(draw: &mut Draw, node: Node) -> Node {
    let dims = draw.dims(0, 3);
    let x = draw.numbers(DType::I64, &dims, 0, 9);
    let node = node.opset(4).attribute("keys_int64s", Attribute::Ints(vec![1, 3, 5, 7]));
    let node = node.attribute("values_floats", Attribute::Floats(vec![0.5, -1.5, 2.5, 9.0]));
    node.float("default_float", -4.0).input(draw, x)
}

/// One tree of three inner nodes and four leaves.
fn tree(draw: &mut Draw, node: Node) -> Node {
    let floats = |all: &[f64]| Attribute::Tensor(Tensor::from_slice(&[all.len()], all).unwrap());
    let splits: Vec<f64> = (0..3).map(|_| f64::from(draw.float(-1.5, 1.5))).collect();
    let weights: Vec<f64> = (0..4).map(|_| f64::from(draw.float(-1.5, 1.5))).collect();
    let modes: Vec<u8> = (0..3).map(|_| draw.below(6) as u8).collect();
    let features: Vec<i64> = (0..3).map(|_| draw.between(0, 3)).collect();
    let aggregate = draw.between(0, 3);
    let rows = draw.extent();
    let x = draw.data(DType::F64, &[rows, 4]);
    let node =
        node.opset(5).int("aggregate_function", aggregate).int("post_transform", 0).int("n_targets", 2);
    let node = node.ints("leaf_targetids", &[0, 1, 0, 1]).attribute("leaf_weights", floats(&weights));
    let node = node.ints("nodes_featureids", &features).attribute("nodes_splits", floats(&splits));
    let modes = Tensor::from_slice(&[3], &modes).unwrap();
    let node = node.attribute("nodes_modes", Attribute::Tensor(modes));
    let node = node.ints("nodes_truenodeids", &[1, 0, 1]).ints("nodes_trueleafs", &[0, 1, 1]);
    let node = node.ints("nodes_falsenodeids", &[2, 2, 3]).ints("nodes_falseleafs", &[0, 1, 1]);
    node.ints("tree_roots", &[0]).input(draw, x)
}
