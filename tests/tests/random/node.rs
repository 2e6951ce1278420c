//! A node as a model would write it, and the random choices that it is made by.

use std::sync::Arc;

use half::{bf16, f16};
use sardonyx_importer::table;
use sardonyx_ops::build::NodeSpec;
use sardonyx_ops::ir::attributes::{Attribute, Attributes};
use sardonyx_ops::{DType, Operator, Tensor};
use sardonyx_tests::Random;

/// The newest operator set that any row asks for.
const NEWEST: i64 = 28;

/// One use of an operator with all that it is given.
#[derive(Clone, Debug)]
pub struct Node {
    pub domain: &'static str,
    pub name: &'static str,
    pub opset: i64,
    pub attributes: Vec<(&'static str, Attribute)>,
    pub inputs: Vec<Option<Tensor>>,
    /// For each input, whether it is a constant of the model.
    pub constant: Vec<bool>,
    pub outputs: Vec<bool>,
    pub tolerance: Tolerance,
    /// f32 inputs survive being held as f16, and small errors in them stay small.
    pub half: bool,
    /// Output 0 may pass through further operators.
    pub ending: bool,
}

/// The largest error allowed, relative to the largest element of an output; integers are exact.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    pub f64: f64,
    pub f32: f64,
    /// For f16, and for f32 held as f16.
    pub f16: f64,
    pub bf16: f64,
    /// For integers, the difference itself.
    pub integer: f64,
    /// What the largest element counts as when it is smaller: where results cancel out, their terms' size.
    pub least: f64,
}

/// Sums of hundreds of terms in another order, and one rounding to the type of the result.
pub const TOLERANCE: Tolerance =
    Tolerance { f64: 1e-12, f32: 1e-5, f16: 4e-3, bf16: 1e-2, integer: 0.0, least: 1e-6 };

impl Node {
    /// A node without inputs and with one output.
    pub fn new(domain: &'static str, name: &'static str) -> Node {
        Node {
            domain,
            name,
            opset: if domain.is_empty() { NEWEST } else { 1 },
            attributes: Vec::new(),
            inputs: Vec::new(),
            constant: Vec::new(),
            outputs: vec![true],
            tolerance: TOLERANCE,
            half: true,
            ending: true,
        }
    }

    /// As of an older operator set.
    pub fn opset(mut self, opset: i64) -> Node {
        self.opset = opset;
        self
    }

    pub fn int(self, name: &'static str, value: i64) -> Node {
        self.attribute(name, Attribute::Int(value))
    }

    pub fn flag(self, name: &'static str, value: bool) -> Node {
        self.int(name, i64::from(value))
    }

    pub fn float(self, name: &'static str, value: f32) -> Node {
        self.attribute(name, Attribute::Float(value))
    }

    pub fn text(self, name: &'static str, value: &str) -> Node {
        self.attribute(name, Attribute::Str(value.to_owned()))
    }

    pub fn ints(self, name: &'static str, values: &[i64]) -> Node {
        self.attribute(name, Attribute::Ints(values.to_vec()))
    }

    pub fn attribute(mut self, name: &'static str, value: Attribute) -> Node {
        self.attributes.push((name, value));
        self
    }

    /// The next input, given by the caller or, now and then, a constant of the model.
    pub fn input(self, draw: &mut Draw, tensor: Tensor) -> Node {
        let constant = draw.one_in(4);
        self.push(Some(tensor), constant)
    }

    /// The next input, mostly a constant: sizes, axes, scales.
    pub fn setting(self, draw: &mut Draw, tensor: Tensor) -> Node {
        let constant = !draw.one_in(8);
        self.push(Some(tensor), constant)
    }

    /// The next input, or its absence.
    pub fn optional(self, draw: &mut Draw, tensor: Option<Tensor>) -> Node {
        let constant = draw.one_in(2);
        self.push(tensor, constant)
    }

    fn push(mut self, tensor: Option<Tensor>, constant: bool) -> Node {
        self.inputs.push(tensor);
        self.constant.push(constant);
        self
    }

    /// Which outputs are wanted.
    pub fn outputs(mut self, outputs: &[bool]) -> Node {
        self.outputs = outputs.to_vec();
        self
    }

    /// This many outputs, of which those after the first `needed` are wanted more often than not.
    pub fn some_outputs(self, draw: &mut Draw, count: usize, needed: usize) -> Node {
        let mut wanted: Vec<bool> = (0..count).map(|index| index < needed || !draw.one_in(3)).collect();
        if !wanted.contains(&true) {
            wanted[0] = true;
        }
        self.outputs(&wanted)
    }

    /// Other tolerances; the reason belongs beside the call.
    pub fn tolerance(mut self, f32: f64, f16: f64) -> Node {
        self.tolerance = Tolerance { f32, f16, bf16: TOLERANCE.bf16.max(2.0 * f16), ..self.tolerance };
        self
    }

    /// Results are sums whose terms may cancel out: errors count relative to 1, about the size of a term, at least.
    pub fn sums(mut self) -> Node {
        self.tolerance.least = 1.0;
        self
    }

    /// Integers may be off by one: what they are rounded from is not exact.
    pub fn off_by_one(mut self) -> Node {
        self.tolerance.integer = 1.0;
        self
    }

    /// Not with f32 tensors held as f16: their rounding is not what is tested here.
    pub fn unhalved(mut self) -> Node {
        self.half = false;
        self
    }

    /// The operator, made as the importer makes it.
    pub fn build(&self) -> Result<Arc<dyn Operator>, String> {
        let mut attributes = Attributes::default();
        self.attributes.iter().for_each(|(name, value)| attributes.insert(*name, value.clone()));
        let row = table::lookup(self.domain, self.name, self.opset).ok_or("no such operator")?;
        let inputs: Vec<bool> = self.inputs.iter().map(Option::is_some).collect();
        let spec = NodeSpec {
            op_type: self.name,
            opset: self.opset,
            inputs: &inputs,
            outputs: &self.outputs,
            attributes: &attributes,
        };
        let op = (row.build)(&spec).map_err(|error| error.to_string())?;
        let unread = attributes.unread();
        if unread.is_empty() { Ok(op) } else { Err(format!("attributes are not read: {unread:?}")) }
    }

    /// Elements of all inputs: what shrinking makes less of.
    pub fn size(&self) -> usize {
        self.inputs.iter().flatten().map(|tensor| tensor.len() + tensor.dims().len()).sum()
    }
}

/// Floating-point types, the common one most often.
pub const FLOATS: [DType; 6] = [DType::F32, DType::F32, DType::F32, DType::F16, DType::BF16, DType::F64];

/// Integer types.
pub const INTEGERS: [DType; 8] =
    [DType::I8, DType::I16, DType::I32, DType::I64, DType::U8, DType::U16, DType::U32, DType::U64];

/// Random choices: all that a case is made by, so that a seed and a level say everything.
pub struct Draw {
    random: Random,
    /// 0 for the smallest cases, 2 for what is usual.
    level: usize,
    /// One dimension of this case is zero.
    zero: bool,
    /// Numbers of few digits, which every float type holds.
    coarse: bool,
}

impl Draw {
    pub fn new(seed: u64, level: usize) -> Draw {
        let mut random = Random(seed);
        random.bits();
        let (zero, coarse) = (random.below(16) == 0, random.below(4) != 0);
        Draw { random, level, zero, coarse }
    }

    /// Whether f32 numbers drawn so far fit f16.
    pub fn coarse(&self) -> bool {
        self.coarse
    }

    pub fn below(&mut self, n: usize) -> usize {
        self.random.below(n)
    }

    /// A number between both, which count.
    pub fn between(&mut self, low: i64, high: i64) -> i64 {
        low + self.below((high - low + 1) as usize) as i64
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn flag(&mut self) -> bool {
        self.one_in(2)
    }

    pub fn pick<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }

    pub fn bits(&mut self) -> u64 {
        self.random.bits()
    }

    pub fn float_type(&mut self) -> DType {
        self.pick(&FLOATS)
    }

    /// Any type of numbers, floats half of the time.
    pub fn number_type(&mut self) -> DType {
        if self.flag() { self.float_type() } else { self.pick(&INTEGERS) }
    }

    /// Any type that every operator moves.
    pub fn any_type(&mut self) -> DType {
        if self.one_in(8) { DType::Bool } else { self.number_type() }
    }

    /// An extent, never zero.
    pub fn extent(&mut self) -> usize {
        const SMALL: [usize; 4] = [1, 2, 3, 4];
        const USUAL: [usize; 12] = [1, 1, 2, 3, 4, 5, 7, 8, 12, 16, 17, 33];
        const LARGE: [usize; 6] = [31, 64, 65, 127, 128, 260];
        let large = self.one_in(12);
        match self.level {
            0 => self.pick(&SMALL),
            _ if large => self.pick(&LARGE),
            _ => self.pick(&USUAL),
        }
    }

    /// An extent that may be zero in a case with nothing in it.
    pub fn maybe_zero(&mut self) -> usize {
        if self.zero && self.one_in(3) { 0 } else { self.extent() }
    }

    /// Dimensions of a rank between both, of few thousand elements.
    pub fn dims(&mut self, least: usize, most: usize) -> Vec<usize> {
        const MOST: usize = 6000;
        let rank = self.between(least as i64, most as i64) as usize;
        let mut dims: Vec<usize> = (0..rank).map(|_| self.maybe_zero()).collect();
        while dims.iter().product::<usize>() > MOST {
            let at = self.below(rank);
            dims[at] = (dims[at] / 2).max(1);
        }
        dims
    }

    /// The same, without zeros.
    pub fn full_dims(&mut self, least: usize, most: usize) -> Vec<usize> {
        let zero = std::mem::take(&mut self.zero);
        let dims = self.dims(least, most);
        self.zero = zero;
        dims
    }

    /// From now on no dimension is zero.
    pub fn no_zeros(&mut self) {
        self.zero = false;
    }

    /// Dimensions that broadcast to these.
    pub fn broadcast_to(&mut self, dims: &[usize]) -> Vec<usize> {
        let skip = if self.one_in(3) { self.below(dims.len() + 1) } else { 0 };
        dims[skip..].iter().map(|&dim| if self.one_in(4) { 1 } else { dim }).collect()
    }

    /// An axis, counted from either end.
    pub fn axis(&mut self, rank: usize) -> (usize, i64) {
        let axis = self.below(rank);
        (axis, self.signed(axis, rank))
    }

    /// The axis as a model may write it.
    pub fn signed(&mut self, axis: usize, rank: usize) -> i64 {
        axis as i64 - if self.flag() { rank as i64 } else { 0 }
    }

    /// Some axes in any order, each once.
    pub fn axes(&mut self, rank: usize, least: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..rank).collect();
        self.shuffle(&mut all);
        let count = self.between(least.min(rank) as i64, rank as i64) as usize;
        all.truncate(count);
        all
    }

    pub fn shuffle<T>(&mut self, all: &mut [T]) {
        for i in (1..all.len()).rev() {
            let j = self.below(i + 1);
            all.swap(i, j);
        }
    }

    /// A float between both, of few digits where the case is coarse.
    pub fn float(&mut self, low: f32, high: f32) -> f32 {
        let x = self.random.float(low, high);
        if self.coarse {
            (x * 64.0).round().clamp((low * 64.0).ceil(), (high * 64.0).floor()) / 64.0
        } else {
            x
        }
    }

    /// A tensor: floats between -2 and 2, small integers, truth values.
    pub fn data(&mut self, dtype: DType, dims: &[usize]) -> Tensor {
        self.floats_within(dtype, dims, -2.0, 2.0)
    }

    /// The same, with infinities and NaN among the floats now and then: for operators that compare.
    pub fn extremes(&mut self, dtype: DType, dims: &[usize]) -> Tensor {
        let data = self.data(dtype, dims);
        if !dtype.is_float() || !self.one_in(4) {
            return data;
        }
        let special = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
        let mut all = sardonyx_tests::numbers(&data);
        for x in &mut all {
            if self.one_in(8) {
                *x = self.pick(&special);
            }
        }
        tensor(dtype, dims, &all)
    }

    /// The same with floats between these; integers and truth values as ever.
    pub fn floats_within(&mut self, dtype: DType, dims: &[usize], low: f32, high: f32) -> Tensor {
        let len: usize = dims.iter().product();
        match dtype {
            DType::F32 | DType::F64 | DType::F16 | DType::BF16 => {
                let all: Vec<f64> = (0..len).map(|_| f64::from(self.float(low, high))).collect();
                tensor(dtype, dims, &all)
            }
            _ => self.random.tensor_of(dtype, dims),
        }
    }

    /// A tensor of whole numbers between both.
    pub fn numbers(&mut self, dtype: DType, dims: &[usize], low: i64, high: i64) -> Tensor {
        let len: usize = dims.iter().product();
        let all: Vec<f64> = (0..len).map(|_| self.between(low, high) as f64).collect();
        tensor(dtype, dims, &all)
    }

    /// A tensor of any bits for integers, of data for other types: what is only moved.
    pub fn bulk(&mut self, dtype: DType, dims: &[usize]) -> Tensor {
        if !dtype.is_integer() || dtype.bits() < 8 {
            return self.data(dtype, dims);
        }
        let len: usize = dims.iter().product();
        let bytes: Vec<u8> = (0..len * dtype.bits() / 8).map(|_| self.bits() as u8).collect();
        Tensor::from_bytes(dtype, dims, bytes.into()).unwrap()
    }

    /// A vector of sizes, axes or the like.
    pub fn vector(&mut self, dtype: DType, all: &[i64]) -> Tensor {
        let all: Vec<f64> = all.iter().map(|&n| n as f64).collect();
        tensor(dtype, &[all.len()], &all)
    }
}

/// A tensor of numbers in any type of plain numbers.
pub fn tensor(dtype: DType, dims: &[usize], all: &[f64]) -> Tensor {
    macro_rules! make {
        ($one:expr) => {
            Tensor::from_vec(dims, all.iter().map($one).collect()).unwrap()
        };
    }
    match dtype {
        DType::F32 => make!(|&x| x as f32),
        DType::F64 => make!(|&x| x),
        DType::F16 => make!(|&x| f16::from_f64(x)),
        DType::BF16 => make!(|&x| bf16::from_f64(x)),
        DType::I8 => make!(|&x| x as i8),
        DType::I16 => make!(|&x| x as i16),
        DType::I32 => make!(|&x| x as i32),
        DType::I64 => make!(|&x| x as i64),
        DType::U8 => make!(|&x| x as u8),
        DType::U16 => make!(|&x| x as u16),
        DType::U32 => make!(|&x| x as u32),
        DType::U64 => make!(|&x| x as u64),
        DType::Bool => {
            let all: Vec<bool> = all.iter().map(|&x| x != 0.0).collect();
            Tensor::from_bools(dims, &all).unwrap()
        }
        other => panic!("no numbers in {other}"),
    }
}
