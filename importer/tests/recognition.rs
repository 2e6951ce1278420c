//! What exporters scatter, found again: on graphs made by hand, against the same graphs without passes.

#![allow(clippy::unwrap_used, reason = "clippy's exemption for tests does not reach their helpers")]

mod interpreter;

use interpreter::sketch::{Sketch, made, made_with};
use interpreter::{rewrites, run};
use sardonyx_importer::{PlanOptions, passes, prepare};
use sardonyx_ops::ir::dim::from_known;
use sardonyx_ops::ir::graph::{Graph, ValueId};
use sardonyx_ops::plan::Plan;
use sardonyx_ops::{DType, Tensor};

fn ramp(dims: &[usize], start: f32) -> Tensor {
    let count: usize = dims.iter().product();
    Tensor::from_vec(dims, (0..count).map(|i| (start + i as f32 * 0.37).sin()).collect::<Vec<_>>()).unwrap()
}

/// More graphs in one line per node.
trait Draws {
    fn given(&mut self, dims: &[usize]) -> ValueId;
    fn call(&mut self, name: &str, inputs: &[ValueId]) -> ValueId;
    fn number(&mut self, number: f32) -> ValueId;
    fn reshape(&mut self, x: ValueId, dims: &[i64]) -> ValueId;
    fn transpose(&mut self, x: ValueId, order: &[i64]) -> ValueId;
    fn softmax(&mut self, x: ValueId) -> ValueId;
    fn mean(&mut self, x: ValueId) -> ValueId;
    fn slice(&mut self, x: ValueId, axis: i64, bounds: [i64; 2]) -> ValueId;
    fn concat(&mut self, axis: i64, parts: [ValueId; 2]) -> ValueId;
}

impl Draws for Sketch {
    fn given(&mut self, dims: &[usize]) -> ValueId {
        let name = format!("input{}", self.0.inputs.len());
        self.input(&name, DType::F32, &from_known(dims))
    }
    fn call(&mut self, name: &str, inputs: &[ValueId]) -> ValueId {
        self.node_of(&format!("{name}{}", self.0.nodes.len()), made(name, None, inputs.len()), inputs)
    }
    fn number(&mut self, number: f32) -> ValueId {
        self.constant(Tensor::scalar(number))
    }
    fn reshape(&mut self, x: ValueId, dims: &[i64]) -> ValueId {
        let shape = self.constant(Tensor::from_slice(&[dims.len()], dims).unwrap());
        self.call("Reshape", &[x, shape])
    }
    fn transpose(&mut self, x: ValueId, order: &[i64]) -> ValueId {
        self.node_of(&format!("t{}", self.0.nodes.len()), made_with("Transpose", &[("perm", order)], 1), &[x])
    }
    fn softmax(&mut self, x: ValueId) -> ValueId {
        self.node_of("softmax", made("Softmax", Some(("axis", -1)), 1), &[x])
    }
    fn mean(&mut self, x: ValueId) -> ValueId {
        let name = format!("mean{}", self.0.nodes.len());
        self.node_of(&name, made_with("ReduceMean", &[("axes", &[-1])], 1), &[x])
    }
    fn slice(&mut self, x: ValueId, axis: i64, [start, end]: [i64; 2]) -> ValueId {
        let bound = |sketch: &mut Sketch, n: i64| sketch.constant(Tensor::from_slice(&[1], &[n]).unwrap());
        let inputs = [x, bound(self, start), bound(self, end), bound(self, axis)];
        self.call("Slice", &inputs)
    }
    fn concat(&mut self, axis: i64, parts: [ValueId; 2]) -> ValueId {
        let name = format!("concat{}", self.0.nodes.len());
        self.node_of(&name, made("Concat", Some(("axis", axis)), 2), &parts)
    }
}

/// Plans and runs a graph with all passes and with none, and compares the results.
fn fused(graph: Graph, inputs: &[Tensor]) -> Plan {
    let mut none = PlanOptions::default();
    none.disabled_passes = passes::names().map(str::to_owned).collect();
    let plain = run(&graph, inputs, &none).unwrap();
    let graph = prepare(&graph, &PlanOptions::default()).unwrap().graph;
    let mut got = run(&graph, inputs, &PlanOptions::default()).unwrap();
    for (got, plain) in got.outputs.iter().zip(&plain.outputs) {
        assert_eq!(got.dims(), plain.dims());
        for (got, plain) in got.to_vec::<f32>().unwrap().iter().zip(plain.to_vec::<f32>().unwrap()) {
            assert!((got - plain).abs() < 2e-5, "{got} instead of {plain}");
        }
    }
    got.plans.remove(0)
}

fn names(plan: &Plan) -> Vec<&'static str> {
    plan.steps.iter().map(|step| step.op.name()).collect()
}

#[test]
fn scattered_normalisations_are_found() {
    for form in 0..4 {
        let mut sketch = Sketch::default();
        let x = sketch.given(&[2, 3, 8]);
        let (scale, bias) = (sketch.constant(ramp(&[8], 0.3)), sketch.constant(ramp(&[8], 0.9)));
        let (two, epsilon, one) = (sketch.number(2.0), sketch.number(1e-5), sketch.number(1.0));
        let mut d = x;
        if form < 2 {
            let mean = sketch.mean(x);
            d = sketch.call("Sub", &[x, mean]);
        }
        let square = if form % 2 == 0 { sketch.call("Pow", &[d, two]) } else { sketch.call("Mul", &[d, d]) };
        let variance = sketch.mean(square);
        let variance = sketch.call("Add", &[epsilon, variance]);
        let root = sketch.call("Sqrt", &[variance]);
        let y = match form {
            0 => sketch.call("Div", &[d, root]),
            1 => {
                let inverse = sketch.call("Reciprocal", &[root]);
                sketch.call("Mul", &[inverse, d])
            }
            _ => {
                let inverse = sketch.call("Div", &[one, root]);
                sketch.call("Mul", &[d, inverse])
            }
        };
        let mut y = sketch.call("Mul", &[scale, y]);
        if form < 2 {
            y = sketch.call("Add", &[y, bias]);
        }
        let plan = fused(sketch.output(&[y]), &[ramp(&[2, 3, 8], 0.0)]);
        let expected = if form < 2 { "LayerNormalization" } else { "RMSNormalization" };
        assert_eq!(names(&plan), [expected], "{plan}");
        assert_eq!(rewrites(&plan, "recognize_normalization"), 1);
        assert_eq!(plan.steps[0].inputs.len(), if form < 2 { 3 } else { 2 });
    }
}

#[test]
fn statistics_over_other_dimensions_stay() {
    let mut sketch = Sketch::default();
    let x = sketch.given(&[2, 3, 8]);
    let (two, epsilon) = (sketch.number(2.0), sketch.number(1e-5));
    let square = sketch.call("Pow", &[x, two]);
    let op = made_with("ReduceMean", &[("axes", &[1])], 1);
    let mean = sketch.node_of("mean", op, &[square]);
    let sum = sketch.call("Add", &[mean, epsilon]);
    let root = sketch.call("Sqrt", &[sum]);
    let y = sketch.call("Div", &[x, root]);
    let plan = fused(sketch.output(&[y]), &[ramp(&[2, 3, 8], 0.0)]);
    assert_eq!(rewrites(&plan, "recognize_normalization"), 0);
}

/// Heads of a projection: `[batch, length, heads · size]` to `[batch, heads, length, size]`.
fn heads(sketch: &mut Sketch, x: ValueId, count: i64) -> ValueId {
    let split = sketch.reshape(x, &[0, 0, count, -1]);
    sketch.transpose(split, &[0, 2, 1, 3])
}

#[test]
fn an_encoder_layer_is_few_steps() {
    for batch in [1, 2] {
        let mut sketch = Sketch::default();
        let x = sketch.given(&[batch, 5, 12]);
        let mask = sketch.given(&[batch, 1, 1, 5]);
        let project = |sketch: &mut Sketch, seed: f32| {
            let factor = sketch.constant(ramp(&[12, 12], seed));
            let bias = sketch.constant(ramp(&[12], seed + 0.5));
            let product = sketch.call("MatMul", &[x, factor]);
            sketch.call("Add", &[bias, product])
        };
        let (q, k, v) = (project(&mut sketch, 0.1), project(&mut sketch, 0.2), project(&mut sketch, 0.3));
        let (q, v) = (heads(&mut sketch, q, 3), heads(&mut sketch, v, 3));
        let k = sketch.reshape(k, &[0, 0, 3, 4]);
        let k = sketch.transpose(k, &[0, 2, 3, 1]);
        let (scale, root) = (sketch.number(0.25), sketch.number(2.0));
        let q = sketch.call("Div", &[q, root]);
        let scores = sketch.call("MatMul", &[q, k]);
        let scores = sketch.call("Mul", &[scores, scale]);
        let scores = sketch.call("Add", &[scores, mask]);
        let weights = sketch.softmax(scores);
        let y = sketch.call("MatMul", &[weights, v]);
        let y = sketch.transpose(y, &[0, 2, 1, 3]);
        let y = sketch.reshape(y, &[0, 0, 12]);
        let plan = fused(sketch.output(&[y]), &[ramp(&[batch, 5, 12], 0.0), ramp(&[batch, 1, 1, 5], 0.7)]);
        assert_eq!(names(&plan), ["MatMul", "Attend"], "{plan}");
        assert!(plan.steps[0].epilogue.is_some());
    }
}

#[test]
fn repeated_keys_are_read_once_and_blind_queries_give_zeros() {
    let mut sketch = Sketch::default();
    let q = sketch.given(&[2, 6, 3, 4]);
    let (k, v) = (sketch.given(&[2, 2, 5, 4]), sketch.given(&[2, 2, 5, 4]));
    let seen = sketch.constant(Tensor::from_bools(&[3, 5], &[true; 15]).unwrap());
    let repeated = |sketch: &mut Sketch, x: ValueId| {
        let x = sketch.reshape(x, &[2, 2, 1, 5, 4]);
        let shape = sketch.constant(Tensor::from_slice(&[5], &[2i64, 2, 3, 5, 4]).unwrap());
        let x = sketch.call("Expand", &[x, shape]);
        sketch.reshape(x, &[2, 6, 5, 4])
    };
    let (k, v) = (repeated(&mut sketch, k), repeated(&mut sketch, v));
    let k = sketch.transpose(k, &[0, 1, 3, 2]);
    let scores = sketch.call("MatMul", &[q, k]);
    let (never, zero) = (sketch.number(f32::NEG_INFINITY), sketch.number(0.0));
    let scores = sketch.call("Where", &[seen, scores, never]);
    let weights = sketch.softmax(scores);
    let blind = sketch.call("IsNaN", &[weights]);
    let weights = sketch.call("Where", &[blind, zero, weights]);
    let y = sketch.call("MatMul", &[weights, v]);
    let inputs = [ramp(&[2, 6, 3, 4], 0.0), ramp(&[2, 2, 5, 4], 1.0), ramp(&[2, 2, 5, 4], 2.0)];
    let plan = fused(sketch.output(&[y]), &inputs);
    assert_eq!(names(&plan), ["Attend"], "{plan}");
}

#[test]
fn other_uses_of_scores_keep_them() {
    let mut sketch = Sketch::default();
    let [q, k, v] = [(); 3].map(|()| sketch.given(&[2, 3, 4]));
    let k = sketch.transpose(k, &[0, 2, 1]);
    let scores = sketch.call("MatMul", &[q, k]);
    let weights = sketch.softmax(scores);
    let y = sketch.call("MatMul", &[weights, v]);
    let plan = fused(sketch.output(&[y, weights]), &[0.0, 1.0, 2.0].map(|seed| ramp(&[2, 3, 4], seed)));
    assert_eq!(rewrites(&plan, "recognize_attention"), 0);
}

#[test]
fn turned_keys_go_into_their_cache() {
    let mut sketch = Sketch::default();
    let x = sketch.given(&[2, 3, 8]);
    let (cos, sin) = (sketch.given(&[2, 3, 4]), sketch.given(&[2, 3, 4]));
    let (keys, values) = (sketch.given(&[2, 2, 5, 4]), sketch.given(&[2, 2, 5, 4]));
    let rows = heads(&mut sketch, x, 2);
    let cos = sketch.reshape(cos, &[2, 1, 3, 4]);
    let sin = sketch.reshape(sin, &[2, 1, 3, 4]);
    let plain = sketch.call("Mul", &[rows, cos]);
    let (front, back) = (sketch.slice(rows, 3, [0, 2]), sketch.slice(rows, 3, [2, i64::MAX]));
    let back = sketch.call("Neg", &[back]);
    let around = sketch.concat(-1, [back, front]);
    let around = sketch.call("Mul", &[around, sin]);
    let turned = sketch.call("Add", &[plain, around]);
    let keys = sketch.concat(-2, [keys, turned]);
    let values = sketch.concat(2, [values, rows]);
    let inputs = [
        ramp(&[2, 3, 8], 0.0),
        ramp(&[2, 3, 4], 1.0),
        ramp(&[2, 3, 4], 2.0),
        ramp(&[2, 2, 5, 4], 3.0),
        ramp(&[2, 2, 5, 4], 4.0),
    ];
    let plan = fused(sketch.output(&[keys, values]), &inputs);
    assert_eq!(names(&plan), ["Append"], "{plan}");
    assert_eq!((plan.steps[0].outputs.len(), rewrites(&plan, "pair_caches")), (2, 1));
}

#[test]
fn moves_become_views_and_single_copies() {
    let mut sketch = Sketch::default();
    let x = sketch.given(&[1, 4, 6]);
    let turned = sketch.transpose(x, &[1, 0, 2]);
    let parts = sketch.reshape(turned, &[4, 2, 3]);
    let part = sketch.slice(parts, 1, [1, 2]);
    let y = sketch.transpose(part, &[2, 1, 0]);
    let plan = fused(sketch.output(&[y]), &[ramp(&[1, 4, 6], 0.0)]);
    assert_eq!(names(&plan), ["Rearrange"], "{plan}");
    assert_eq!(rewrites(&plan, "relabel"), 1);
}

#[test]
fn scattered_softmax_is_found() {
    for (axis, wanted) in [(-1, &["Softmax"][..]), (1, &["Softmax"])] {
        let mut sketch = Sketch::default();
        let x = sketch.given(&[2, 3, 5]);
        let top = sketch.node_of("top", made_with("ReduceMax", &[("axes", &[axis])], 1), &[x]);
        let shifted = sketch.call("Sub", &[x, top]);
        let powers = sketch.call("Exp", &[shifted]);
        let axis = sketch.constant(Tensor::from_vec(&[1], vec![axis]).unwrap());
        let sum = sketch.call("ReduceSum", &[powers, axis]);
        let y = sketch.call("Div", &[powers, sum]);
        let plan = fused(sketch.output(&[y]), &[ramp(&[2, 3, 5], 0.0)]);
        assert_eq!(names(&plan), wanted, "{plan}");
    }
    // The sum of other dimensions than the greatest was found in.
    let mut sketch = Sketch::default();
    let x = sketch.given(&[2, 3, 5]);
    let top = sketch.node_of("top", made_with("ReduceMax", &[("axes", &[-1])], 1), &[x]);
    let shifted = sketch.call("Sub", &[x, top]);
    let powers = sketch.call("Exp", &[shifted]);
    let axis = sketch.constant(Tensor::from_vec(&[1], vec![1i64]).unwrap());
    let sum = sketch.call("ReduceSum", &[powers, axis]);
    let y = sketch.call("Div", &[powers, sum]);
    let plan = fused(sketch.output(&[y]), &[ramp(&[2, 3, 5], 0.0)]);
    assert_eq!(rewrites(&plan, "recognize_softmax"), 0, "{plan}");
}

#[test]
fn groups_of_channels_are_found() {
    for (scale, inputs) in [(1.0f32, 1), (2.0, 3)] {
        let mut sketch = Sketch::default();
        let x = sketch.given(&[2, 6, 3, 5]);
        let rows = sketch.reshape(x, &[2, 3, -1]);
        let scales = sketch.constant(Tensor::from_vec(&[3], vec![scale; 3]).unwrap());
        let biases = sketch.constant(Tensor::from_vec(&[3], vec![0.0f32; 3]).unwrap());
        let y = sketch.call("InstanceNormalization", &[rows, scales, biases]);
        let y = sketch.reshape(y, &[2, 6, 3, 5]);
        let (weight, bias) = (sketch.constant(ramp(&[6, 1, 1], 0.3)), sketch.constant(ramp(&[6, 1, 1], 0.9)));
        let y = sketch.call("Mul", &[y, weight]);
        let y = sketch.call("Add", &[y, bias]);
        let plan = fused(sketch.output(&[y]), &[ramp(&[2, 6, 3, 5], 0.0)]);
        assert_eq!(names(&plan), ["GroupNormalization"], "{plan}");
        assert_eq!(plan.steps[0].inputs.len(), inputs);
    }
}

#[test]
fn convolutions_take_the_zeros_around_their_input() {
    let padded = |pads: &[i64], value: f32, own: &[i64]| {
        let mut sketch = Sketch::default();
        let x = sketch.given(&[1, 2, 5, 7]);
        let pads = sketch.constant(Tensor::from_slice(&[pads.len()], pads).unwrap());
        let value = sketch.number(value);
        let wide = sketch.call("Pad", &[x, pads, value]);
        let weights = sketch.constant(ramp(&[3, 2, 3, 3], 0.4));
        let y = sketch.node_of(
            "y",
            made_with("Conv", &[("pads", own), ("strides", &[2, 2])], 2),
            &[wide, weights],
        );
        fused(sketch.output(&[y]), &[ramp(&[1, 2, 5, 7], 0.0)])
    };
    assert_eq!(names(&padded(&[0, 0, 0, 1, 0, 0, 1, 2], 0.0, &[0, 0, 0, 0])), ["Conv"]);
    assert_eq!(names(&padded(&[0, 0, 0, 1, 0, 0, 1, 2], 0.0, &[1, 1, 0, 0])), ["Conv"]);
    // Other numbers, and channels.
    assert_eq!(names(&padded(&[0, 0, 0, 1, 0, 0, 1, 2], 0.5, &[0, 0, 0, 0])), ["Pad", "Conv"]);
    assert_eq!(names(&padded(&[0, 0, -1, 1, 0, 0, 1, 2], 0.0, &[1, 1, 0, 0])), ["Pad", "Conv"]);
    for (own, steps) in [(0, &["AveragePool"][..]), (1, &["Pad", "AveragePool"])] {
        let mut sketch = Sketch::default();
        let x = sketch.given(&[1, 2, 5, 7]);
        let pads = sketch.constant(Tensor::from_slice(&[8], &[0i64, 0, 1, 1, 0, 0, 1, 1]).unwrap());
        let wide = sketch.call("Pad", &[x, pads]);
        let lists: [(&str, &[i64]); 2] = [("kernel_shape", &[3, 3]), ("pads", &[own; 4])];
        let y = sketch.node_of("y", made_with("AveragePool", &lists, 1), &[wide]);
        let plan = fused(sketch.output(&[y]), &[ramp(&[1, 2, 5, 7], 0.0)]);
        assert_eq!(names(&plan), steps, "{plan}");
    }
}
