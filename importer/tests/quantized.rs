//! Groups of dequantization, operators and quantization become operators over integers, with the same results.

#![allow(clippy::unwrap_used, reason = "clippy's exemption for tests does not reach their helpers")]

mod interpreter;

use std::sync::Arc;

use interpreter::run;
use sardonyx_importer::{PlanOptions, prepare, table};
use sardonyx_ops::build::NodeSpec;
use sardonyx_ops::ir::attributes::{Attribute, Attributes};
use sardonyx_ops::ir::fact::Fact;
use sardonyx_ops::ir::graph::{Graph, Node, ValueId};
use sardonyx_ops::{DType, Tensor};

#[derive(Default)]
struct Sketch(Graph);

impl Sketch {
    fn constant(&mut self, tensor: Tensor) -> ValueId {
        let id = self.0.add_value(format!("constant{}", self.0.names.len()));
        self.0.constants.insert(id, tensor);
        id
    }

    fn node(&mut self, name: &str, inputs: &[ValueId], attributes: &[(&str, Attribute)]) -> ValueId {
        self.nodes(name, inputs, attributes, 1)[0]
    }

    fn nodes(
        &mut self,
        name: &str,
        inputs: &[ValueId],
        attributes: &[(&str, Attribute)],
        outputs: usize,
    ) -> Vec<ValueId> {
        let mut all = Attributes::default();
        attributes.iter().for_each(|(name, value)| all.insert(*name, value.clone()));
        let spec = NodeSpec {
            op_type: name,
            opset: 17,
            inputs: &vec![true; inputs.len()],
            outputs: &vec![true; outputs],
            attributes: &all,
        };
        let op = (table::lookup("", name, 17).unwrap().build)(&spec).unwrap();
        let ids: Vec<ValueId> =
            (0..outputs).map(|i| self.0.add_value(format!("{name}{}.{i}", self.0.nodes.len()))).collect();
        let inputs = inputs.iter().copied().map(Some).collect();
        let name: Arc<str> = format!("{name}{}", self.0.nodes.len()).into();
        self.0.nodes.push(Node { name, op, inputs, outputs: ids.iter().copied().map(Some).collect() });
        ids
    }

    fn quantize(&mut self, x: ValueId, scale: f32, zero: u8) -> ValueId {
        let (scale, zero) = (self.constant(Tensor::scalar(scale)), self.constant(Tensor::scalar(zero)));
        self.node("QuantizeLinear", &[x, scale, zero], &[])
    }

    fn dequantize(&mut self, x: ValueId, scale: f32, zero: u8) -> ValueId {
        let (scale, zero) = (self.constant(Tensor::scalar(scale)), self.constant(Tensor::scalar(zero)));
        self.node("DequantizeLinear", &[x, scale, zero], &[])
    }

    fn both(&mut self, x: ValueId, scale: f32, zero: u8) -> ValueId {
        let bytes = self.quantize(x, scale, zero);
        self.dequantize(bytes, scale, zero)
    }

    /// A dequantized constant with scales along axis 0.
    fn weights(&mut self, dims: &[usize], scales: &[f32]) -> ValueId {
        let len: usize = dims.iter().product();
        let all: Vec<i8> = (0..len).map(|i| (i * 89 % 251) as i8).collect();
        let (w, scale) = (
            self.constant(Tensor::from_vec(dims, all).unwrap()),
            self.constant(Tensor::from_slice(&[scales.len()], scales).unwrap()),
        );
        let zero = self.constant(Tensor::zeroed(DType::I8, &[scales.len()]).unwrap());
        self.node("DequantizeLinear", &[w, scale, zero], &[("axis", Attribute::Int(0))])
    }

    fn bias(&mut self, values: &[i32], scales: &[f32]) -> ValueId {
        let values = self.constant(Tensor::from_slice(&[values.len()], values).unwrap());
        let scale = self.constant(Tensor::from_slice(&[scales.len()], scales).unwrap());
        self.node("DequantizeLinear", &[values, scale], &[("axis", Attribute::Int(0))])
    }
}

fn operators(graph: &Graph) -> Vec<&'static str> {
    graph.nodes.iter().map(|node| node.op.name()).collect()
}

/// The graph's results with and without the passes; how often each is one step off.
fn compare(graph: &Graph, inputs: &[Tensor]) -> (Graph, usize) {
    let disabled = ["quantized", "dynamic_quantized"].map(str::to_owned).to_vec();
    let mut options = PlanOptions::default();
    let prepared = prepare(graph, &options).unwrap().graph;
    let got = run(&prepared, inputs, &options).unwrap().outputs.remove(0);
    options.disabled_passes = disabled;
    let plain = prepare(graph, &options).unwrap().graph;
    let want = run(&plain, inputs, &options).unwrap().outputs.remove(0);
    assert_eq!((got.dtype(), got.dims()), (want.dtype(), want.dims()));
    let mut off = 0;
    for (got, want) in got.bytes().iter().zip(want.bytes()) {
        assert!(got.abs_diff(*want) <= 1, "{got} {want}");
        off += usize::from(got != want);
    }
    (prepared, off)
}

fn image(dims: &[usize]) -> Tensor {
    let len: usize = dims.iter().product();
    Tensor::from_vec(dims, (0..len).map(|i| ((i * 37 % 101) as f32 - 50.0) / 25.0).collect()).unwrap()
}

#[test]
fn convolutions_stay_in_bytes() {
    let mut sketch = Sketch::default();
    let x = sketch.0.add_value("x");
    sketch.0.inputs.push((x, Fact::known(DType::F32, &[1, 3, 9, 9])));
    let scales = [0.011, 0.02, 0.003, 0.007];
    let bias: Vec<f32> = scales.iter().map(|scale| 0.02 * scale).collect();
    let a = sketch.both(x, 0.02, 128);
    let (w, b) = (sketch.weights(&[4, 3, 3, 3], &scales), sketch.bias(&[100, -2000, 5, 31], &bias));
    let y = sketch.node("Conv", &[a, w, b], &[("pads", Attribute::Ints(vec![1; 4]))]);
    let y = sketch.node("Relu", &[y], &[]);
    let y = sketch.both(y, 0.1, 3);
    let (low, high) = (sketch.constant(Tensor::scalar(0.5f32)), sketch.constant(Tensor::scalar(6f32)));
    let y = sketch.node("Clip", &[y, low, high], &[]);
    let y = sketch.both(y, 0.1, 3);
    let y = sketch.node(
        "MaxPool",
        &[y],
        &[("kernel_shape", Attribute::Ints(vec![2; 2])), ("strides", Attribute::Ints(vec![2; 2]))],
    );
    let y = sketch.both(y, 0.1, 3);
    let z = sketch.both(y, 0.2, 100);
    let both = sketch.node("Concat", &[y, z], &[("axis", Attribute::Int(1))]);
    let both = sketch.both(both, 0.1, 3);
    let flat = sketch.node("Flatten", &[both], &[]);
    let flat = sketch.both(flat, 0.1, 3);
    let (w, b) = (sketch.weights(&[5, 128], &[0.01]), sketch.bias(&[1, 2, 3, 4, 5], &[0.1 * 0.01]));
    let y = sketch.node("Gemm", &[flat, w, b], &[("transB", Attribute::Int(1))]);
    let y = sketch.quantize(y, 0.3, 120);
    sketch.0.outputs = vec![y];
    let (prepared, off) = compare(&sketch.0, &[image(&[1, 3, 9, 9])]);
    let names = operators(&prepared);
    for name in ["QLinearConv", "QGemm", "MaxPool", "Concat"] {
        assert_eq!(names.iter().filter(|&&n| n == name).count(), 1, "{name} in {names:?}");
    }
    for name in ["Conv", "Gemm", "Relu", "Clip"] {
        assert!(!names.contains(&name), "{name} in {names:?}");
    }
    // The input, the first scale back, the second there and back, and the first there again.
    assert_eq!(names.iter().filter(|name| name.contains("uantizeLinear")).count(), 5, "{names:?}");
    assert!(off <= 1, "{off}");
}

#[test]
fn other_biases_and_readers_stay_floats() {
    let mut sketch = Sketch::default();
    let x = sketch.0.add_value("x");
    sketch.0.inputs.push((x, Fact::known(DType::F32, &[1, 3, 5, 5])));
    let a = sketch.both(x, 0.02, 128);
    let (w, b) = (sketch.weights(&[2, 3, 1, 1], &[0.01]), sketch.bias(&[7, -9], &[0.5]));
    let y = sketch.node("Conv", &[a, w, b], &[]);
    let y = sketch.quantize(y, 0.1, 3);
    sketch.0.outputs = vec![y];
    let (prepared, off) = compare(&sketch.0, &[image(&[1, 3, 5, 5])]);
    assert!(operators(&prepared).contains(&"Conv") && off == 0);
    let decisions = prepare(&sketch.0, &PlanOptions::default()).unwrap().decisions;
    assert!(decisions.iter().any(|decision| decision.pass == "quantized"));
}

#[test]
fn dynamic_products_become_one_operator() {
    let mut sketch = Sketch::default();
    let x = sketch.0.add_value("x");
    sketch.0.inputs.push((x, Fact::known(DType::F32, &[2, 3, 8])));
    let all = sketch.nodes("DynamicQuantizeLinear", &[x], &[], 3);
    let w: Vec<i8> = (0..40).map(|i| (i * 89 % 251) as i8).collect();
    let (w, zero) =
        (sketch.constant(Tensor::from_vec(&[8, 5], w).unwrap()), sketch.constant(Tensor::scalar(3i8)));
    let scale = sketch.constant(Tensor::from_slice(&[5], &[0.1f32, 0.2, 0.3, 0.01, 0.02]).unwrap());
    let factor = sketch.node("Mul", &[all[1], scale], &[]);
    let y = sketch.node("MatMulInteger", &[all[0], w, all[2], zero], &[]);
    let y = sketch.node("Cast", &[y], &[("to", Attribute::Int(1))]);
    let y = sketch.node("Mul", &[y, factor], &[]);
    let bias = sketch.constant(Tensor::from_slice(&[5], &[1f32, 2.0, -3.0, 4.0, 0.1]).unwrap());
    let y = sketch.node("Add", &[bias, y], &[]);
    sketch.0.outputs = vec![y];
    let (prepared, off) = compare(&sketch.0, &[image(&[2, 3, 8])]);
    assert_eq!(operators(&prepared), ["DynamicQuantizeLinear", "MatMulIntegerToFloat"]);
    assert_eq!(off, 0);
}
