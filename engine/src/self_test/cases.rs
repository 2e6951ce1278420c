//! The problems: small, of odd sizes, at least one for each kernel.

use std::sync::Arc;

use sardonyx_importer::table;
use sardonyx_ops::attention::{Append, Attend, Sizes, Spot};
use sardonyx_ops::build::NodeSpec;
use sardonyx_ops::ir::attributes::{Attribute, Attributes};
use sardonyx_ops::ir::graph::ValueId;
use sardonyx_ops::plan::{Plan, PlanStep, PlanValue};
use sardonyx_ops::{OpError, Operator, Tensor};

/// An operator with inputs.
pub(super) struct Case {
    op: Arc<dyn Operator>,
    inputs: Vec<Option<Tensor>>,
    /// Inputs from this one on are constants.
    constant: usize,
}

impl Case {
    /// The operator and the dimensions of its inputs, for people.
    pub(super) fn name(&self) -> String {
        let dims = |input: &Option<Tensor>| match input {
            Some(tensor) => tensor.dims().iter().map(usize::to_string).collect::<Vec<_>>().join("x"),
            None => "-".to_owned(),
        };
        format!("{} {}", self.op.name(), self.inputs.iter().map(dims).collect::<Vec<_>>().join(" "))
    }

    /// The results by the definition.
    pub(super) fn reference(&self) -> Result<Vec<Tensor>, OpError> {
        let views: Vec<_> = self.inputs.iter().map(|input| input.as_ref().map(Tensor::view)).collect();
        self.op.reference(&views, 1)
    }

    /// A plan of one step, and what it is run on: the inputs that are no constants.
    pub(super) fn plan(&self, results: &[Tensor]) -> (Plan, Vec<Tensor>) {
        let mut plan = Plan::default();
        let mut add = |tensor: &Tensor, constant: bool| {
            plan.values.push(PlanValue {
                name: format!("value{}", plan.values.len()).into(),
                dtype: tensor.dtype(),
                dims: tensor.dims().to_vec(),
                constant: constant.then(|| tensor.clone()),
            });
            ValueId(plan.values.len() - 1)
        };
        let mut given = Vec::new();
        let mut inputs = Vec::new();
        for (index, input) in self.inputs.iter().enumerate() {
            let id = input.as_ref().map(|tensor| add(tensor, index >= self.constant));
            inputs.push(id);
            if let (Some(id), true) = (id, index < self.constant) {
                given.extend(input.clone().map(|tensor| (id, tensor)));
            }
        }
        let outputs: Vec<Option<ValueId>> = results.iter().map(|tensor| Some(add(tensor, false))).collect();
        plan.inputs = given.iter().map(|(id, _)| *id).collect();
        plan.outputs = outputs.iter().flatten().copied().collect();
        let nodes = vec![self.op.name().into()];
        plan.steps.push(PlanStep { op: Arc::clone(&self.op), inputs, outputs, epilogue: None, nodes });
        (plan, given.into_iter().map(|(_, tensor)| tensor).collect())
    }
}

/// Numbers that look random and are the same each time.
struct Numbers(u32);

impl Numbers {
    fn below(&mut self, most: u32) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) % most
    }

    fn make<T: sardonyx_ops::Element>(
        &mut self,
        dims: &[usize],
        mut one: impl FnMut(&mut Numbers) -> T,
    ) -> Option<Tensor> {
        let all = (0..dims.iter().product::<usize>()).map(|_| one(self)).collect();
        Tensor::from_vec(dims, all).ok()
    }

    /// Floats between -1 and 1 that 16 bits hold exactly.
    fn floats(&mut self, dims: &[usize]) -> Option<Tensor> {
        self.make(dims, |numbers| numbers.below(257) as f32 / 128.0 - 1.0)
    }

    /// Bytes.
    fn bytes(&mut self, dims: &[usize]) -> Option<Tensor> {
        self.make(dims, |numbers| numbers.below(256) as u8)
    }

    /// Signed bytes.
    fn signed(&mut self, dims: &[usize]) -> Option<Tensor> {
        self.make(dims, |numbers| (numbers.below(255) as i32 - 127) as i8)
    }

    /// Positions below a size, those along the last axis all different while they are no more than the size.
    fn positions(&mut self, dims: &[usize], size: u32) -> Option<Tensor> {
        let (row, step) = (dims.last().copied().unwrap_or(1), 1 + self.below(3) * 2);
        let (mut index, mut at) = (0, 0);
        self.make(dims, |numbers| {
            at = if index % row == 0 { numbers.below(size) } else { (at + step) % size };
            index += 1;
            i64::from(at)
        })
    }
}

fn scale(value: f32) -> Option<Tensor> {
    Some(Tensor::scalar(value))
}

fn int(value: i64) -> Attribute {
    Attribute::Int(value)
}

fn ints(values: &[i64]) -> Attribute {
    Attribute::Ints(values.to_vec())
}

fn word(value: &str) -> Attribute {
    Attribute::Str(value.to_owned())
}

#[derive(Default)]
struct Cases(Vec<Case>);

impl Cases {
    /// Adds an operator of ONNX, or of the domain before a colon. Inputs from `constant` on are constants.
    fn add(
        &mut self,
        name: &'static str,
        inputs: Vec<Option<Tensor>>,
        constant: usize,
        attributes: &[(&str, Attribute)],
    ) -> Result<(), OpError> {
        let (domain, name) = name.split_once(':').unwrap_or(("", name));
        let opset = if domain.is_empty() { 18 } else { 1 };
        let mut all = Attributes::default();
        attributes.iter().for_each(|(name, value)| all.insert(*name, value.clone()));
        let given: Vec<bool> = inputs.iter().map(Option::is_some).collect();
        let row = table::lookup(domain, name, opset).ok_or(OpError::Internal("an operator is missing"))?;
        let spec = NodeSpec { op_type: name, opset, inputs: &given, outputs: &[true], attributes: &all };
        self.0.push(Case { op: (row.build)(&spec)?, inputs, constant });
        Ok(())
    }
}

/// All of them.
///
/// # Errors
/// When an operator refuses its attributes.
pub(super) fn all() -> Result<Vec<Case>, OpError> {
    let mut all = Cases::default();
    let n = &mut Numbers(7);
    elements(&mut all, n)?;
    movement(&mut all, n)?;
    rows(&mut all, n)?;
    products(&mut all, n)?;
    images(&mut all, n)?;
    integers(&mut all, n)?;
    sequences(&mut all, n)?;
    Ok(all.0)
}

fn elements(all: &mut Cases, n: &mut Numbers) -> Result<(), OpError> {
    all.add("Mul", vec![n.floats(&[17, 33]), n.floats(&[33])], 2, &[])?;
    all.add("Add", vec![n.floats(&[3, 1, 65]), n.floats(&[17, 1])], 2, &[])?;
    for name in ["Erf", "Exp", "Tanh", "Sigmoid", "HardSwish"] {
        all.add(name, vec![n.floats(&[127])], 1, &[])?;
    }
    Ok(())
}

fn movement(all: &mut Cases, n: &mut Numbers) -> Result<(), OpError> {
    all.add("Transpose", vec![n.floats(&[3, 17, 33])], 1, &[("perm", ints(&[2, 0, 1]))])?;
    all.add("Transpose", vec![n.floats(&[64, 32])], 1, &[])?;
    all.add("Concat", vec![n.floats(&[5, 3]), n.floats(&[5, 7])], 2, &[("axis", int(1))])?;
    let four = [3, 1, 17, 8].iter().map(|&size| n.floats(&[5, size])).collect();
    all.add("Concat", four, 4, &[("axis", int(1))])?;
    all.add("Gather", vec![n.floats(&[65, 17]), n.positions(&[3, 5], 65)], 2, &[])?;
    let along = [("axis", int(1))];
    all.add("GatherElements", vec![n.floats(&[5, 17]), n.positions(&[5, 9], 17)], 2, &along)?;
    let scattered = vec![n.floats(&[5, 17]), n.positions(&[5, 9], 17), n.floats(&[5, 9])];
    all.add("ScatterElements", scattered, 3, &along)?;
    all.add("GatherND", vec![n.floats(&[5, 5, 3]), n.positions(&[9, 2], 5)], 2, &[])?;
    let pads = Tensor::from_vec(&[4], vec![2i64, 1, 0, 3]).ok();
    all.add("Pad", vec![n.floats(&[9, 17]), pads], 1, &[("mode", word("reflect"))])?;
    all.add("Trilu", vec![n.floats(&[17, 33])], 1, &[])
}

fn rows(all: &mut Cases, n: &mut Numbers) -> Result<(), OpError> {
    for axis in [0, 1] {
        for dims in [[17, 65], [3, 1000]] {
            let own = [("axis", int(axis))];
            let axes = Tensor::from_vec(&[1], vec![axis]).ok();
            all.add("ReduceMean", vec![n.floats(&dims), axes], 1, &[])?;
            all.add("ArgMax", vec![n.floats(&dims)], 1, &own)?;
            all.add("Softmax", vec![n.floats(&dims)], 1, &own)?;
        }
        let axis = Tensor::from_vec(&[], vec![axis]).ok();
        all.add("CumSum", vec![n.floats(&[17, 33]), axis], 1, &[])?;
    }
    for columns in [17, 1000] {
        let inputs = vec![n.floats(&[5, columns]), n.floats(&[columns]), n.floats(&[columns])];
        all.add("LayerNormalization", inputs, 1, &[])?;
    }
    for size in [5, 33] {
        let inputs = vec![n.floats(&[1, 3, size, size]), n.floats(&[3]), n.floats(&[3])];
        all.add("InstanceNormalization", inputs, 1, &[])?;
    }
    all.add("LRN", vec![n.floats(&[1, 7, 5, 9])], 1, &[("size", int(3))])
}

fn products(all: &mut Cases, n: &mut Numbers) -> Result<(), OpError> {
    for (rows, columns, depth) in [(65, 127, 17), (64, 64, 64), (1, 100, 512), (3, 33, 67)] {
        for constant in [1, 2] {
            all.add("MatMul", vec![n.floats(&[rows, depth]), n.floats(&[depth, columns])], constant, &[])?;
        }
        let transposed = [("transB", int(1))];
        let inputs = vec![n.floats(&[rows, depth]), n.floats(&[columns, depth]), n.floats(&[columns])];
        all.add("Gemm", inputs, 1, &transposed)?;
    }
    Ok(())
}

fn images(all: &mut Cases, n: &mut Numbers) -> Result<(), OpError> {
    let around = |k: i64| ints(&[k / 2; 4]);
    for (inputs, outputs, kernel, stride) in [(16, 32, 3, 1), (3, 17, 3, 2), (32, 64, 1, 1), (5, 7, 5, 1)] {
        let weights = n.floats(&[outputs, inputs, kernel, kernel]);
        let given = vec![n.floats(&[1, inputs, 17, 19]), weights, n.floats(&[outputs])];
        let attributes = [("pads", around(kernel as i64)), ("strides", ints(&[stride, stride]))];
        all.add("Conv", given, 1, &attributes)?;
    }
    let depthwise = vec![n.floats(&[1, 12, 17, 19]), n.floats(&[12, 1, 3, 3]), n.floats(&[12])];
    all.add("Conv", depthwise, 1, &[("pads", around(3)), ("group", int(12))])?;
    let window = [("kernel_shape", ints(&[3, 3])), ("strides", ints(&[2, 2])), ("pads", around(3))];
    all.add("MaxPool", vec![n.floats(&[1, 5, 17, 19])], 1, &window)?;
    all.add("AveragePool", vec![n.floats(&[1, 5, 17, 19])], 1, &window)?;
    for mode in ["linear", "nearest"] {
        let scales = Tensor::from_vec(&[4], vec![1.0f32, 1.0, 2.0, 1.5]).ok();
        all.add("Resize", vec![n.floats(&[1, 3, 7, 10]), None, scales], 1, &[("mode", word(mode))])?;
    }
    all.add("GridSample", vec![n.floats(&[1, 3, 9, 11]), n.floats(&[1, 5, 7, 2])], 2, &[])
}

fn integers(all: &mut Cases, n: &mut Numbers) -> Result<(), OpError> {
    let (byte, signed) = (Some(Tensor::scalar(117u8)), Some(Tensor::scalar(0i8)));
    let product = vec![
        n.bytes(&[17, 67]),
        scale(0.02),
        byte.clone(),
        n.signed(&[67, 33]),
        scale(0.01),
        signed.clone(),
        scale(0.25),
        byte.clone(),
    ];
    all.add("QLinearMatMul", product, 1, &[])?;
    for (inputs, outputs, groups) in [(5, 17, 1), (1, 12, 12)] {
        let convolution = vec![
            n.bytes(&[1, inputs * groups, 9, 11]),
            scale(0.02),
            byte.clone(),
            n.signed(&[outputs, inputs, 3, 3]),
            scale(0.01),
            signed.clone(),
            scale(0.1),
            byte.clone(),
        ];
        let attributes = [("pads", ints(&[1; 4])), ("group", int(groups as i64))];
        all.add("QLinearConv", convolution, 1, &attributes)?;
    }
    let (columns, depth, block) = (33, 96, 32);
    let codes = n.bytes(&[columns, depth / block, block / 2]);
    let scales = n.make(&[columns * depth / block], |n| (1 + n.below(64)) as f32 / 1024.0);
    let sizes = [
        ("K", int(depth as i64)),
        ("N", int(columns as i64)),
        ("bits", int(4)),
        ("block_size", int(block as i64)),
    ];
    all.add("com.microsoft:MatMulNBits", vec![n.floats(&[3, depth]), codes, scales], 1, &sizes)
}

fn sequences(all: &mut Cases, n: &mut Numbers) -> Result<(), OpError> {
    for (name, gates) in [("LSTM", 4), ("GRU", 3)] {
        let (steps, batch, size, hidden) = (5, 2, 7, 8);
        let weights = [n.floats(&[1, gates * hidden, size]), n.floats(&[1, gates * hidden, hidden])];
        let inputs = [vec![n.floats(&[steps, batch, size])], weights.to_vec()].concat();
        all.add(name, inputs, 1, &[("hidden_size", int(hidden as i64))])?;
    }
    for (queries, keys) in [(17, 65), (1, 129)] {
        let (batch, heads, key_heads, size) = (1, 2, 1, 32);
        let sizes = Sizes { batch, heads, key_heads, queries, keys, size, value_size: size };
        let inputs = vec![
            n.floats(&[batch, heads, queries, size]),
            n.floats(&[batch, key_heads, keys, size]),
            n.floats(&[batch, key_heads, keys, size]),
        ];
        all.0.push(Case { op: Arc::new(Attend::dense(sizes, 0.5)), inputs, constant: 3 });
    }
    let (extents, past) = ([1, 2, 3, 16], 9);
    let x = Spot::dense(extents);
    let none = Spot::default();
    let append = Append { extents, past, x, cos: none, sin: none, other: None };
    let inputs = vec![n.floats(&extents), n.floats(&[1, 2, past, 16])];
    all.0.push(Case { op: Arc::new(append), inputs, constant: 2 });
    Ok(())
}
