//! The table of kernel variants: one row each. A name here is the pipeline's label, the row in a profile and the name of
//! the benchmark.

use crate::params::{
    Field, Params, attention, conv, matmul, movement, norm, pointwise, pool, recurrent, reduce, resize,
};
use crate::storage::Storage;

/// What a kernel hands to `emit4`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Accumulator {
    /// 32-bit floats.
    F32,
    /// 64-bit integers, such as positions.
    I64,
    /// 32-bit integers: sums of products of bytes.
    I32,
    /// The value type of the input with this index.
    Input(usize),
}

/// A tensor that a kernel reads.
#[derive(Debug)]
pub struct Input {
    /// The binding's name in the kernel.
    pub name: &'static str,
    /// Layouts it may have.
    pub storages: &'static [Storage],
}

/// One kernel variant.
#[derive(Debug)]
pub struct Variant {
    /// Its name: what it is, unique.
    pub name: &'static str,
    /// The text of its file.
    pub source: &'static str,
    /// The tensors it reads, in binding order.
    pub inputs: &'static [Input],
    /// Knobs that a [`crate::Kernel`] may set, with a value other than the file's default for the tests to try.
    pub knobs: &'static [(&'static str, u32)],
    /// What it hands to the expression.
    pub accumulator: Accumulator,
    /// It hands over single elements (`emit`) rather than four in a row (`emit4`).
    pub single: bool,
    /// Its parameters.
    pub params: &'static [Field],
}

impl PartialEq for Variant {
    fn eq(&self, other: &Variant) -> bool {
        self.name == other.name
    }
}

impl Eq for Variant {}

impl std::hash::Hash for Variant {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

/// The variant of this name.
pub fn find(name: &str) -> Option<&'static Variant> {
    VARIANTS.iter().copied().find(|variant| variant.name == name)
}

const FLOATS: &[Storage] = &[Storage::F32, Storage::F16];
const ANY: &[Storage] = &[
    Storage::F32,
    Storage::F16,
    Storage::I32,
    Storage::U32,
    Storage::I64,
    Storage::I8,
    Storage::U8,
    Storage::Bool,
];
/// Numbers, and bytes whose greatest is found as a number.
const POOLED: &[Storage] = &[Storage::F32, Storage::F16, Storage::I8, Storage::U8];
/// Layouts of masks: numbers, or truth values.
const MASKS: &[Storage] = &[Storage::F32, Storage::F16, Storage::Bool];
const I32: &[Storage] = &[Storage::I32];
const F32: &[Storage] = &[Storage::F32];
const U32: &[Storage] = &[Storage::U32];
const INDICES: &[Storage] = &[Storage::I64, Storage::I32];

const WORDS: &[Storage] = &[Storage::F32, Storage::F16, Storage::I32, Storage::U32, Storage::I64];

/// Layouts whose four values are a WGSL vector of numbers.
const VECTORS: &[Storage] =
    &[Storage::F32, Storage::F16, Storage::I32, Storage::U32, Storage::I8, Storage::U8];

macro_rules! variants {
    ($($(#[$doc:meta])* $id:ident = $file:literal {
        inputs: [$($input:ident: $storages:expr),* $(,)?],
        knobs: [$(($knob:literal, $value:literal)),* $(,)?],
        accumulator: $accumulator:expr,
        single: $single:literal,
        params: $params:ty $(,)?
    })*) => {
        $($(#[$doc])*
        pub static $id: Variant = Variant {
            name: $file,
            source: include_str!(concat!("../wgsl/", $file, ".wgsl")),
            inputs: &[$(Input { name: stringify!($input), storages: $storages }),*],
            knobs: &[$(($knob, $value)),*],
            accumulator: $accumulator,
            single: $single,
            params: <$params as Params>::FIELDS,
        };)*

        /// Every variant there is.
        pub static VARIANTS: &[&Variant] = &[$(&$id),*];
    };
}

variants! {
    /// A chain of pointwise operators: everything happens in the expression.
    POINTWISE = "pointwise" {
        inputs: [],
        knobs: [],
        accumulator: Accumulator::F32,
        single: false,
        params: pointwise::Pointwise,
    }
    /// Any affine map from output to input coordinates: transpose, slice, expand, split, flip, space ↔ depth.
    STRIDED_COPY = "strided_copy" {
        inputs: [x: ANY],
        knobs: [("FOUR", 1)],
        accumulator: Accumulator::Input(0),
        single: false,
        params: movement::StridedCopy,
    }
    /// Two matrices beside each other.
    CONCAT2 = "concat2" {
        inputs: [x0: ANY, x1: ANY],
        knobs: [("FOUR", 1)],
        accumulator: Accumulator::Input(0),
        single: false,
        params: movement::Concat,
    }
    /// Four matrices beside each other.
    CONCAT4 = "concat4" {
        inputs: [x0: ANY, x1: ANY, x2: ANY, x3: ANY],
        knobs: [("FOUR", 1)],
        accumulator: Accumulator::Input(0),
        single: false,
        params: movement::Concat,
    }
    /// Slices along an axis, picked by index.
    GATHER = "gather" {
        inputs: [x: ANY, indices: INDICES],
        knobs: [("FOUR", 1)],
        accumulator: Accumulator::Input(0),
        single: false,
        params: movement::Gather,
    }
    /// Single elements along an axis, an index to each.
    GATHER_ELEMENTS = "gather_elements" {
        inputs: [x: ANY, indices: INDICES],
        knobs: [],
        accumulator: Accumulator::Input(0),
        single: false,
        params: movement::GatherElements,
    }
    /// Updates replacing or meeting the elements that indices name.
    SCATTER = "scatter" {
        inputs: [x: ANY, indices: INDICES, updates: ANY],
        knobs: [("ND", 1), ("REDUCTION", 3)],
        accumulator: Accumulator::Input(0),
        single: false,
        params: movement::Scatter,
    }
    /// Slices picked by index tuples.
    GATHER_ND = "gather_nd" {
        inputs: [x: ANY, indices: INDICES],
        knobs: [("FOUR", 1)],
        accumulator: Accumulator::Input(0),
        single: false,
        params: movement::GatherNd,
    }
    /// Elements around a tensor.
    PAD = "pad" {
        inputs: [x: ANY, value: ANY],
        knobs: [("MODE", 1)],
        accumulator: Accumulator::Input(0),
        single: false,
        params: movement::Pad,
    }
    /// Triangles of matrices.
    TRILU = "trilu" {
        inputs: [x: ANY],
        knobs: [("UPPER", 1)],
        accumulator: Accumulator::Input(0),
        single: false,
        params: movement::Trilu,
    }
    /// A tensor read at the coordinates of a grid.
    GRID_SAMPLE = "grid_sample" {
        inputs: [x: FLOATS, grid: FLOATS],
        knobs: [("MODE", 2), ("PADDING", 2), ("ALIGN", 1)],
        accumulator: Accumulator::F32,
        single: false,
        params: resize::GridSample,
    }
    /// LSTM, GRU and RNN.
    RECURRENT = "recurrent" {
        inputs: [
            p: F32,
            r: FLOATS,
            bias: FLOATS,
            lengths: I32,
            h: FLOATS,
            c: FLOATS,
            peepholes: FLOATS,
        ],
        knobs: [("WORKGROUP", 256), ("CELL", 3), ("SEQUENCE", 1), ("CLIP", 1), ("GATE", 2), ("NEW", 8), ("OUT", 10)],
        accumulator: Accumulator::F32,
        single: true,
        params: recurrent::Recurrent,
    }
    /// Interpolation along two axes.
    RESIZE = "resize" {
        inputs: [x: FLOATS, index: I32, weight: F32],
        knobs: [("FOUR", 1)],
        accumulator: Accumulator::Input(0),
        single: false,
        params: resize::Resize,
    }
    /// Nearest elements along two axes.
    RESIZE_NEAREST = "resize_nearest" {
        inputs: [x: ANY, index: I32],
        knobs: [("FOUR", 1)],
        accumulator: Accumulator::Input(0),
        single: false,
        params: resize::Resize,
    }
    /// Maximum, mean or norm of windows over up to three dimensions.
    POOL = "pool" {
        inputs: [x: POOLED],
        knobs: [("KIND", 1)],
        accumulator: Accumulator::F32,
        single: false,
        params: pool::Pool,
    }
    /// A reduction of one dimension, an invocation to four outputs.
    REDUCE = "reduce" {
        inputs: [x: ANY],
        knobs: [("PREPARE", 3), ("COMBINE", 2), ("COMPLETE", 3), ("VECTOR", 1)],
        accumulator: Accumulator::Input(0),
        single: false,
        params: reduce::Reduce,
    }
    /// A reduction of one dimension, a workgroup to an output.
    REDUCE_ROW = "reduce_row" {
        inputs: [x: WORDS],
        knobs: [("WORKGROUP", 256), ("PREPARE", 3), ("COMBINE", 2), ("COMPLETE", 3), ("VECTOR", 1)],
        accumulator: Accumulator::Input(0),
        single: true,
        params: reduce::Reduce,
    }
    /// Positions of extreme elements, an invocation to four lines.
    ARGMAX = "argmax" {
        inputs: [x: VECTORS],
        knobs: [("SMALLEST", 1), ("LAST", 1), ("VECTOR", 1)],
        accumulator: Accumulator::I64,
        single: false,
        params: reduce::Lines,
    }
    /// Positions of extreme elements, a workgroup to a line.
    ARGMAX_ROW = "argmax_row" {
        inputs: [x: VECTORS],
        knobs: [("WORKGROUP", 256), ("SMALLEST", 1), ("LAST", 1)],
        accumulator: Accumulator::I64,
        single: true,
        params: reduce::Lines,
    }
    /// Running sums or products, an invocation to a line or to four.
    CUMSUM = "cumsum" {
        inputs: [x: WORDS],
        knobs: [("PRODUCT", 1), ("EXCLUSIVE", 1), ("REVERSE", 1), ("VECTOR", 1)],
        accumulator: Accumulator::Input(0),
        single: false,
        params: reduce::Lines,
    }
    /// Softmax, an invocation to a line or to four.
    SOFTMAX = "softmax" {
        inputs: [x: FLOATS],
        knobs: [("LOG", 1), ("VECTOR", 1)],
        accumulator: Accumulator::F32,
        single: false,
        params: reduce::Lines,
    }
    /// Softmax, a workgroup to a line.
    SOFTMAX_ROW = "softmax_row" {
        inputs: [x: FLOATS],
        knobs: [("WORKGROUP", 256), ("LOG", 1), ("VECTOR", 1)],
        accumulator: Accumulator::F32,
        single: false,
        params: reduce::Lines,
    }
    /// Normalisation of lines, an invocation to a line or to four.
    NORMALIZE = "normalize" {
        inputs: [x: FLOATS],
        knobs: [("STATISTIC", 2), ("VECTOR", 1)],
        accumulator: Accumulator::F32,
        single: false,
        params: norm::Normalize,
    }
    /// Normalisation of lines, a workgroup to a line.
    NORMALIZE_ROW = "normalize_row" {
        inputs: [x: FLOATS],
        knobs: [("WORKGROUP", 256), ("STATISTIC", 2), ("VECTOR", 1)],
        accumulator: Accumulator::F32,
        single: false,
        params: norm::Normalize,
    }
    /// Local response normalisation across channels.
    LRN = "lrn" {
        inputs: [x: FLOATS],
        knobs: [("VECTOR", 1)],
        accumulator: Accumulator::F32,
        single: false,
        params: norm::Lrn,
    }
    /// Matrix products from registers, four rows by four columns to an invocation.
    MATMUL_T4X4 = "matmul_t4x4" {
        inputs: [a: FLOATS, b: FLOATS],
        knobs: [("TRANS_A", 1), ("TRANS_B", 1), ("WIDE_A", 1), ("WIDE_B", 1)],
        accumulator: Accumulator::F32,
        single: false,
        params: matmul::Matmul,
    }
    /// Matrix products through workgroup memory, 64 rows by 64 columns to a workgroup.
    MATMUL_W64X64 = "matmul_w64x64" {
        inputs: [a: FLOATS, b: FLOATS],
        knobs: [("TRANS_A", 1), ("TRANS_B", 1), ("WIDE_A", 1), ("WIDE_B", 1)],
        accumulator: Accumulator::F32,
        single: false,
        params: matmul::Matmul,
    }
    /// Matrix products whose rows a subgroup loads together.
    MATMUL_SG = "matmul_sg" {
        inputs: [a: FLOATS, b: FLOATS],
        knobs: [("WORKGROUP", 32), ("ROWS", 4), ("QUADS", 1), ("WIDE_B", 1)],
        accumulator: Accumulator::F32,
        single: false,
        params: matmul::Matmul,
    }
    /// Matrix products of few rows, four columns to an invocation or to several that share the depth.
    MATVEC = "matvec" {
        inputs: [a: FLOATS, b: FLOATS],
        knobs: [("SPLIT", 16), ("TRANS_B", 1), ("WIDE_B", 1)],
        accumulator: Accumulator::F32,
        single: false,
        params: matmul::Matmul,
    }
    /// Products of bytes, four rows by four columns to an invocation.
    MATMUL_INT8 = "matmul_int8" {
        inputs: [a: U32, b: U32, constants: I32, zero: U32],
        knobs: [("SIGNED", 1), ("WHOLE", 1), ("ZEROS", 1)],
        accumulator: Accumulator::I32,
        single: false,
        params: matmul::MatmulInt8,
    }
    /// Products with packed codes, one or four rows by four columns to an invocation or several.
    MATMUL_NBITS = "matmul_nbits" {
        inputs: [a: FLOATS, b: U32, factors: F32],
        knobs: [("SPLIT", 16), ("BITS", 8), ("ROWS", 4), ("WHOLE", 1)],
        accumulator: Accumulator::F32,
        single: false,
        params: matmul::MatmulNbits,
    }
    /// Convolutions of bytes, four output channels by four output elements to an invocation.
    CONV_INT8 = "conv_int8" {
        inputs: [x: U32, w: U32, constants: I32, zero: U32],
        knobs: [("SIGNED", 1), ("ZEROS", 1), ("POINTWISE", 1)],
        accumulator: Accumulator::I32,
        single: false,
        params: conv::Conv,
    }
    /// Depthwise convolutions of bytes.
    CONV_INT8_DEPTHWISE = "conv_int8_depthwise" {
        inputs: [x: U32, w: I32, constants: I32, zero: U32],
        knobs: [("SIGNED", 1)],
        accumulator: Accumulator::I32,
        single: false,
        params: conv::Conv,
    }
    /// Convolutions of any kind, four output channels by four output elements to an invocation.
    CONV_DIRECT = "conv_direct" {
        inputs: [x: FLOATS, w: FLOATS],
        knobs: [("TRANSPOSED", 1), ("PACKED", 1)],
        accumulator: Accumulator::F32,
        single: false,
        params: conv::Conv,
    }
    /// Convolutions whose weights a subgroup loads together.
    CONV_SG = "conv_sg" {
        inputs: [x: FLOATS, w: FLOATS],
        knobs: [("WORKGROUP", 32), ("ROWS", 4), ("QUADS", 1)],
        accumulator: Accumulator::F32,
        single: false,
        params: conv::Conv,
    }
    /// Convolutions whose windows are dense and move one step along a row.
    CONV_SLIDE = "conv_slide" {
        inputs: [x: FLOATS, w: FLOATS],
        knobs: [("PACKED", 1)],
        accumulator: Accumulator::F32,
        single: false,
        params: conv::Conv,
    }
    /// Depthwise convolutions.
    CONV_DEPTHWISE = "conv_depthwise" {
        inputs: [x: FLOATS, w: FLOATS],
        knobs: [("SLIDE", 1)],
        accumulator: Accumulator::F32,
        single: false,
        params: conv::Conv,
    }
    /// Attention, a query to an invocation.
    ATTEND_TILE = "attend_tile" {
        inputs: [q: FLOATS, k: FLOATS, v: FLOATS, mask: MASKS, cosines: FLOATS, sines: FLOATS],
        knobs: [("SIZE4", 8), ("VALUE4", 12), ("MASK", 1), ("TURN", 1), ("NEAR_Q", 0), ("NEAR_K", 0), ("NEAR_V", 0)],
        accumulator: Accumulator::F32,
        single: false,
        params: attention::Attend,
    }
    /// Attention, a few queries to a subgroup.
    ATTEND_SG = "attend_sg" {
        inputs: [q: FLOATS, k: FLOATS, v: FLOATS, mask: MASKS, cosines: FLOATS, sines: FLOATS],
        knobs: [("WORKGROUP", 16), ("ROWS", 2), ("SIZE4", 20), ("VALUE4", 12), ("PARTS", 2), ("SHARES", 1), ("MASK", 1), ("TURN", 1), ("NEAR_Q", 0), ("NEAR_K", 0), ("NEAR_V", 0)],
        accumulator: Accumulator::F32,
        single: false,
        params: attention::Attend,
    }
    /// Attention, a query to a workgroup.
    ATTEND_ROW = "attend_row" {
        inputs: [q: FLOATS, k: FLOATS, v: FLOATS, mask: MASKS, cosines: FLOATS, sines: FLOATS],
        knobs: [("MASK", 3), ("TURN", 1), ("NEAR_Q", 1), ("NEAR_K", 1), ("NEAR_V", 1)],
        accumulator: Accumulator::F32,
        single: false,
        params: attention::Attend,
    }
    /// A cache with further rows, which may be turned, and perhaps a second one.
    APPEND = "append" {
        inputs: [past: FLOATS, x: FLOATS, cosines: FLOATS, sines: FLOATS, other_past: FLOATS, other: FLOATS],
        knobs: [("PAST", 1), ("TURN", 1), ("PAIR", 1)],
        accumulator: Accumulator::F32,
        single: false,
        params: attention::Append,
    }
}
