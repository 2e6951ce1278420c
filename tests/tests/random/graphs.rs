//! Small random graphs, planned with every pass, with none, and with some: always what the references make of them node
//! by node. It is what guards fusion and the memory plan.

use sardonyx::{Device, Precision};
use sardonyx_importer::{PlanOptions, passes};
use sardonyx_ops::ir::graph::{Graph, Node as GraphNode, ValueId};
use sardonyx_ops::{DType, Tensor};
use sardonyx_tests::{gpu_turn, gpus};

use crate::driver::{Case, Ran, add_value, compare, open_sizes, run};
use crate::motifs;
use crate::node::{Draw, Node, TOLERANCE, Tolerance};

/// A graph under construction, with what its values should be.
pub struct Builder {
    /// How many values are inputs of the graph: the first ones.
    pub inputs: usize,
    case: Case,
    values: Vec<(ValueId, Tensor)>,
    read: Vec<ValueId>,
    text: String,
}

impl Builder {
    /// Adds a node that reads values of the graph, and constants behind them. Returns its first output.
    pub fn add(&mut self, node: Node, reads: &[usize], constants: &[Tensor]) -> usize {
        let mut ids: Vec<Option<ValueId>> = reads.iter().map(|&at| Some(self.values[at].0)).collect();
        let mut tensors: Vec<Option<Tensor>> =
            reads.iter().map(|&at| Some(self.values[at].1.clone())).collect();
        self.read.extend(ids.iter().flatten());
        for tensor in constants {
            let id = add_value(&mut self.case.graph, &mut self.case.given, "constant", tensor, true);
            ids.push(Some(id));
            tensors.push(Some(tensor.clone()));
        }
        let name = format!("{}{}", node.name, self.case.graph.nodes.len());
        let count = node.outputs.len();
        let op = Node { inputs: tensors.clone(), ..node }.build().unwrap();
        let views: Vec<_> = tensors.iter().map(|tensor| tensor.as_ref().map(Tensor::view)).collect();
        let want =
            op.reference(&views, count).unwrap_or_else(|error| panic!("{name}: {error}\n{}", self.text));
        self.text += &format!("  {name} of {:?}", ids.iter().flatten().map(|id| id.0).collect::<Vec<_>>());
        let mut outputs = Vec::new();
        for tensor in want {
            let id = self.case.graph.add_value(format!("value{}", self.case.graph.names.len()));
            self.text += &format!(" -> {} {:?}", id.0, tensor.dims());
            outputs.push(Some(id));
            self.values.push((id, tensor));
        }
        self.text += "\n";
        self.case.graph.nodes.push(GraphNode { name: name.as_str().into(), op, inputs: ids, outputs });
        self.values.len() - count
    }

    /// A node that reads constants only.
    pub fn constant(&mut self, node: Node, constants: &[Tensor]) -> usize {
        self.add(node, &[], constants)
    }

    /// The dimensions of a value.
    pub fn dims(&self, at: usize) -> Vec<usize> {
        self.values[at].1.dims().to_vec()
    }
}

/// A graph of 3 to 12 nodes and the text that says which.
pub fn random_graph(draw: &mut Draw) -> (Case, String) {
    // The errors of a few nodes add up; what is subtracted may be nothing but them.
    let tolerance = Tolerance { f32: 1e-4, least: 0.25, ..TOLERANCE };
    let case = Case { graph: Graph::default(), given: vec![], want: vec![], tolerance, half: false };
    let mut builder = Builder { inputs: 0, case, values: vec![], read: vec![], text: String::new() };
    let dims: Vec<usize> = match draw.below(3) {
        0 => vec![1, draw.between(1, 9) as usize, draw.between(4, 12) as usize, draw.between(4, 12) as usize],
        1 => vec![draw.between(1, 3) as usize, draw.between(1, 17) as usize, draw.between(2, 33) as usize],
        _ => vec![draw.between(1, 33) as usize, draw.between(2, 33) as usize],
    };
    for _ in 0..draw.between(1, 3) {
        let own = if draw.one_in(3) { draw.broadcast_to(&dims) } else { dims.clone() };
        let x = draw.data(DType::F32, &own);
        let id = add_value(&mut builder.case.graph, &mut builder.case.given, "input", &x, false);
        builder.text += &format!("  input {} {:?}\n", id.0, own);
        builder.values.push((id, x));
        builder.inputs += 1;
    }
    for _ in 0..draw.between(3, 12) {
        grow(draw, &mut builder);
    }
    let Builder { mut case, values, read, text, .. } = builder;
    for (id, tensor) in values {
        let made = case.graph.nodes.iter().any(|node| node.outputs.contains(&Some(id)));
        if made && (!read.contains(&id) || draw.one_in(5)) {
            case.graph.outputs.push(id);
            case.want.push(tensor);
        }
    }
    if draw.flag() {
        open_sizes(&mut case.graph);
    }
    (case, text)
}

/// Adds one node of any kind that fits a random value, a late one more often than an early one.
fn grow(draw: &mut Draw, builder: &mut Builder) {
    let numbers: Vec<usize> =
        (0..builder.values.len()).filter(|&at| builder.values[at].1.dtype() == DType::F32).collect();
    let count = numbers.len();
    let at = numbers[count - 1 - draw.below(count).min(draw.below(count))];
    let dims = builder.dims(at);
    let (rank, last) = (dims.len(), *dims.last().unwrap_or(&1));
    let node = |name| Node::new("", name);
    let small = dims.iter().product::<usize>() <= 6000;
    match draw.below(16) {
        0 | 1 => {
            let name = draw.pick(&[
                "Relu",
                "Sigmoid",
                "Tanh",
                "Neg",
                "Abs",
                "Softplus",
                "Erf",
                "Identity",
                "HardSwish",
            ]);
            builder.add(node(name), &[at], &[]);
        }
        2 => {
            let own = draw.broadcast_to(&dims);
            let name = draw.pick(&["Add", "Mul", "Sub", "Max"]);
            let constant = draw.data(DType::F32, &own);
            builder.add(node(name), &[at], &[constant]);
        }
        3 | 4 => {
            let others: Vec<usize> = numbers
                .into_iter()
                .filter(|&other| {
                    sardonyx_ops::broadcast::dims(&[&dims, &builder.dims(other)])
                        .is_ok_and(|all| all.iter().product::<usize>() <= 6000)
                })
                .collect();
            let other = if others.is_empty() { at } else { draw.pick(&others) };
            let name = draw.pick(&["Add", "Mul", "Sub", "Max"]);
            builder.add(node(name), &[at, other], &[]);
        }
        5 if rank >= 1 => {
            let axes = draw.axes(rank, 1);
            let axes: Vec<i64> = axes.iter().map(|&axis| draw.signed(axis, rank)).collect();
            let (axes, keep) = (draw.vector(DType::I64, &axes), draw.flag());
            let name = draw.pick(&["ReduceMean", "ReduceMax", "ReduceL2"]);
            builder.add(node(name).flag("keepdims", keep), &[at], &[axes]);
        }
        6 if rank >= 2 => {
            let n = draw.extent().min(33);
            let weights = draw.floats_within(DType::F32, &[last, n], -0.25, 0.25);
            builder.add(node("MatMul"), &[at], &[weights]);
        }
        7 if rank == 4 => convolve(draw, builder, at),
        8 => {
            let mut order: Vec<i64> = (0..rank as i64).collect();
            draw.shuffle(&mut order);
            builder.add(node("Transpose").ints("perm", &order), &[at], &[]);
        }
        9 if rank >= 2 => {
            let target = draw
                .vector(DType::I64, &[vec![-1], dims[2..].iter().map(|&dim| dim as i64).collect()].concat());
            builder.add(node("Reshape"), &[at], &[target]);
        }
        10 if rank >= 1 && small => {
            let (axis, written) = draw.axis(rank);
            let same: Vec<usize> = numbers
                .into_iter()
                .filter(|&other| {
                    let own = builder.dims(other);
                    own.len() == rank && (0..rank).all(|i| i == axis || own[i] == dims[i])
                })
                .collect();
            let other = draw.pick(&same);
            builder.add(node("Concat").int("axis", written), &[at, other], &[]);
        }
        11 if rank >= 1 && last >= 2 => match draw.flag() {
            true => {
                let cut = draw.between(1, last as i64 - 1);
                let parts = draw.vector(DType::I64, &[cut, last as i64 - cut]);
                builder.add(node("Split").int("axis", -1).outputs(&[true; 2]), &[at], &[parts]);
            }
            false => {
                let (start, end) = (draw.vector(DType::I64, &[1]), draw.vector(DType::I64, &[i64::MAX]));
                let axis = draw.vector(DType::I64, &[-1]);
                builder.add(node("Slice"), &[at], &[start, end, axis]);
            }
        },
        12 if rank >= 1 && draw.flag() => {
            builder.add(node("Softmax").int("axis", -1), &[at], &[]);
        }
        12 if rank >= 1 => {
            let (scale, bias) = (draw.data(DType::F32, &[last]), draw.data(DType::F32, &[last]));
            builder.add(node("LayerNormalization").float("epsilon", 0.125), &[at], &[scale, bias]);
        }
        13.. => motifs::add(draw, builder, at),
        _ => {
            builder.add(node("Sigmoid"), &[at], &[]);
        }
    }
}

/// A convolution, a pooling, or the normalisation behind one.
fn convolve(draw: &mut Draw, builder: &mut Builder, at: usize) {
    let channels = builder.dims(at)[1];
    let node = |name| Node::new("", name);
    match draw.below(4) {
        0 => {
            let all: Vec<Tensor> = (0..3).map(|_| draw.data(DType::F32, &[channels])).collect();
            let variance = draw.floats_within(DType::F32, &[channels], 0.5, 2.0);
            builder.add(node("BatchNormalization"), &[at], &[all, vec![variance]].concat());
        }
        1 => {
            builder.add(node("MaxPool").ints("kernel_shape", &[3, 3]).ints("pads", &[1; 4]), &[at], &[]);
        }
        depthwise => {
            let (m, c, groups) = match depthwise {
                2 => (channels, 1, channels),
                _ => (draw.extent().min(17), channels, 1),
            };
            let k = draw.pick(&[1, 3]);
            let weights = draw.floats_within(DType::F32, &[m, c, k, k], -0.25, 0.25);
            let bias = draw.data(DType::F32, &[m]);
            let pad = k as i64 / 2;
            builder.add(
                node("Conv").ints("pads", &[pad; 4]).int("group", groups as i64),
                &[at],
                &[weights, bias],
            );
        }
    }
}

/// No pass, every pass, or about half of them.
fn plannings(draw: &mut Draw) -> [PlanOptions; 3] {
    let all: Vec<String> = passes::names().map(str::to_owned).collect();
    let some = all.iter().filter(|_| draw.flag()).cloned().collect();
    [all, Vec::new(), some].map(|disabled_passes| {
        let mut options = PlanOptions::default();
        options.disabled_passes = disabled_passes;
        options
    })
}

fn check(seed: u64, device: &Device) {
    let mut draw = Draw::new(seed, 2);
    draw.no_zeros();
    let (case, text) = random_graph(&mut draw);
    for options in plannings(&mut draw) {
        let label = || format!("graph {seed} on {device:?} without {:?}\n{text}", options.disabled_passes);
        let ran = run(&case.graph, &case.given, device, Precision::Model, &options);
        match ran.unwrap_or_else(|what| panic!("{}: {what}", label())) {
            Ran::Refused(why) => panic!("{}: refused: {why}", label()),
            Ran::Done(got, _) => compare(&got, &case.want, case.tolerance, Precision::Model)
                .unwrap_or_else(|what| panic!("{}: {what}", label())),
        }
    }
}

#[test]
fn graphs_mean_the_same_with_and_without_passes() {
    let soak: Option<u64> = std::env::var("SARDONYX_SOAK").ok().and_then(|text| text.parse().ok());
    let only: Option<u64> = std::env::var("SARDONYX_GRAPH").ok().and_then(|text| text.parse().ok());
    let (cpu, gpu) = soak.map_or((1000, 8), |cases| (10 * cases, cases));
    let seeds = |count: u64| only.map_or(0..count, |only| only..only + 1);
    seeds(cpu).for_each(|seed| check(seed, &Device::cpu()));
    let lavapipe =
        |device: &&Device| device.info().id.contains("vulkan") && device.info().name.contains("llvmpipe");
    if let Some(device) = gpus().iter().find(lavapipe) {
        let _turn = gpu_turn();
        seeds(gpu).for_each(|seed| check(seed, device));
    }
}
