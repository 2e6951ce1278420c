//! How tensors lie in storage buffers, and the WGSL that reads and writes them.
//!
//! A kernel never indexes a buffer itself. It calls accessors that the specialiser writes for each binding: for an input
//! `x`, `x_at(i)` is element `i` and `x_at4(i)` the four from `i` on, in the *value type* of the storage. So one kernel
//! text serves every element type.

use std::fmt::Write;

use crate::bound::Slot;

/// The layout of a tensor's elements in a buffer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Storage {
    /// 32-bit floats.
    F32,
    /// 16-bit floats; needs the `f16` capability. Values are `f32`.
    F16,
    /// 32-bit signed integers.
    I32,
    /// 32-bit unsigned integers.
    U32,
    /// 64-bit integers, signed or not: pairs of words, low word first.
    I64,
    /// Bytes holding signed integers, four to a word. Values are `i32`.
    I8,
    /// Bytes holding unsigned integers, four to a word. Values are `u32`.
    U8,
    /// Bytes holding 0 or 1, four to a word. Values are `bool`.
    Bool,
}

/// The WGSL type that a kernel computes with.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ValueType {
    /// `f32`.
    F32,
    /// `i32`.
    I32,
    /// `u32`.
    U32,
    /// `vec2<u32>`; four of them are `Long4 { lo, hi }`.
    I64,
    /// `bool`.
    Bool,
}

/// How many elements a kernel moves at a time through a binding.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Width {
    /// Any index. Four elements are four loads.
    One,
    /// Groups of four begin at multiples of four. The buffer holds whole groups.
    Four,
}

impl Storage {
    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        match self {
            Storage::I64 => 8,
            Storage::F32 | Storage::I32 | Storage::U32 => 4,
            Storage::F16 => 2,
            Storage::I8 | Storage::U8 | Storage::Bool => 1,
        }
    }

    /// The type a kernel sees.
    pub fn value(self) -> ValueType {
        match self {
            Storage::F32 | Storage::F16 => ValueType::F32,
            Storage::I32 | Storage::I8 => ValueType::I32,
            Storage::U32 | Storage::U8 => ValueType::U32,
            Storage::I64 => ValueType::I64,
            Storage::Bool => ValueType::Bool,
        }
    }

    /// One element can be written without touching its neighbours.
    pub fn writes_single(self) -> bool {
        self.bytes() >= 4 || self == Storage::F16
    }

    /// The element of the array that a binding is, and its bytes.
    fn element(self, width: Width) -> (&'static str, u64) {
        match (self, width) {
            (Storage::F32, Width::One) => ("f32", 4),
            (Storage::F32, Width::Four) => ("vec4<f32>", 16),
            (Storage::F16, Width::One) => ("f16", 2),
            (Storage::F16, Width::Four) => ("vec4<f16>", 8),
            (Storage::I32, Width::One) => ("i32", 4),
            (Storage::I32, Width::Four) => ("vec4<i32>", 16),
            (Storage::U32, Width::One) => ("u32", 4),
            (Storage::U32, Width::Four) => ("vec4<u32>", 16),
            (Storage::I64, _) => ("vec2<u32>", 8),
            (Storage::I8 | Storage::U8 | Storage::Bool, _) => ("u32", 4),
        }
    }
}

impl ValueType {
    /// The suffix of library functions: `relu_f32`.
    pub fn suffix(self) -> &'static str {
        match self {
            ValueType::F32 => "f32",
            ValueType::I32 => "i32",
            ValueType::U32 => "u32",
            ValueType::I64 => "i64",
            ValueType::Bool => "bool",
        }
    }

    /// The WGSL type of one value.
    pub fn scalar(self) -> &'static str {
        match self {
            ValueType::I64 => "vec2<u32>",
            other => other.suffix(),
        }
    }

    /// The WGSL type of four values.
    pub fn vector(self) -> &'static str {
        match self {
            ValueType::F32 => "vec4<f32>",
            ValueType::I32 => "vec4<i32>",
            ValueType::U32 => "vec4<u32>",
            ValueType::I64 => "Long4",
            ValueType::Bool => "vec4<bool>",
        }
    }

    /// An expression of four values from four expressions of one.
    pub fn gather(self, parts: [&str; 4]) -> String {
        let [a, b, c, d] = parts;
        match self {
            ValueType::I64 => {
                format!("Long4(vec4<u32>({a}.x, {b}.x, {c}.x, {d}.x), vec4<u32>({a}.y, {b}.y, {c}.y, {d}.y))")
            }
            other => format!("{}({a}, {b}, {c}, {d})", other.vector()),
        }
    }

    /// An expression of lane `lane` of an expression of four values.
    pub fn lane(self, vector: &str, lane: usize) -> String {
        let letter = ["x", "y", "z", "w"][lane & 3];
        match self {
            ValueType::I64 => format!("vec2<u32>({vector}.lo.{letter}, {vector}.hi.{letter})"),
            _ => format!("{vector}.{letter}"),
        }
    }
}

/// Four 64-bit integers, for kernels with such a binding.
pub(crate) const LONG4: &str = "struct Long4 { lo: vec4<u32>, hi: vec4<u32> }\n";

/// Writes the bindings and the accessors `NAME_at` and `NAME_at4` of an input.
pub(crate) fn write_input(out: &mut String, slot: &Slot<'_>, storage: Storage, width: Width) {
    let (name, value) = (slot.name, storage.value());
    let (scalar, vector) = (value.scalar(), value.vector());
    let (element, bytes) = storage.element(width);
    slot.declare(out, element, bytes);
    let (each, group) = (slot.load("i"), slot.load("i >> 2u"));
    let one = match (storage, width) {
        (Storage::F32 | Storage::I32 | Storage::U32, Width::Four) => format!("{group}[i & 3u]"),
        (Storage::F32 | Storage::I32 | Storage::U32, Width::One) | (Storage::I64, _) => each,
        (Storage::F16, Width::Four) => format!("f32({group}[i & 3u])"),
        (Storage::F16, Width::One) => format!("f32({each})"),
        (Storage::U8, _) => format!("extractBits({group}, (i & 3u) * 8u, 8u)"),
        (Storage::I8, _) => format!("extractBits(bitcast<i32>({group}), (i & 3u) * 8u, 8u)"),
        (Storage::Bool, _) => format!("(({group} >> ((i & 3u) * 8u)) & 255u) != 0u"),
    };
    let _ = writeln!(out, "fn {name}_at(i: u32) -> {scalar} {{ return {one}; }}");
    let four = match (storage, width) {
        (Storage::F32 | Storage::I32 | Storage::U32, Width::Four) => group,
        (Storage::F16, Width::Four) => format!("vec4<f32>({group})"),
        (Storage::U8, Width::Four) => format!("unpack4xU8({group})"),
        (Storage::I8, Width::Four) => format!("unpack4xI8({group})"),
        (Storage::Bool, Width::Four) => format!("unpack4xU8({group}) != vec4<u32>(0u)"),
        _ => value.gather([
            &format!("{name}_at(i)"),
            &format!("{name}_at(i + 1u)"),
            &format!("{name}_at(i + 2u)"),
            &format!("{name}_at(i + 3u)"),
        ]),
    };
    let _ = writeln!(out, "fn {name}_at4(i: u32) -> {vector} {{ return {four}; }}");
}

/// Writes the bindings and the accessor `NAME_put4(i, v, n)` of an output, which stores the first `n` lanes of `v` from
/// element `i` on. With [`Width::Four`] the index is a multiple of four and all lanes are stored: the padding behind a
/// tensor takes the excess. Storage that can also gets `NAME_put(i, v)`.
pub(crate) fn write_output(out: &mut String, slot: &Slot<'_>, storage: Storage, width: Width) {
    let (name, value) = (slot.name, storage.value());
    let (scalar, vector) = (value.scalar(), value.vector());
    let (element, bytes) = storage.element(width);
    slot.declare(out, element, bytes);
    slot.declare_stores(out, element, bytes);
    if storage.writes_single() && (width == Width::One || storage == Storage::I64) {
        let put = slot.store("i", if storage == Storage::F16 { "f16(v)" } else { "v" });
        let _ = writeln!(out, "fn {name}_put(i: u32, v: {scalar}) {{ {put} }}");
    }
    let all = match (storage, width) {
        (Storage::F32 | Storage::I32 | Storage::U32, Width::Four) => slot.store("i >> 2u", "v"),
        (Storage::F16, Width::Four) => slot.store("i >> 2u", "vec4<f16>(v)"),
        (Storage::U8, _) => slot.store("i >> 2u", "pack4xU8(v)"),
        (Storage::I8, _) => slot.store("i >> 2u", "pack4xI8(v)"),
        (Storage::Bool, _) => slot.store("i >> 2u", "pack4xU8(select(vec4<u32>(0u), vec4<u32>(1u), v))"),
        _ => (0..4).fold(String::new(), |mut text, lane| {
            let v = value.lane("v", lane);
            let _ = match lane {
                0 => write!(text, "{name}_put(i, {v}); "),
                _ => write!(text, "if (n > {lane}u) {{ {name}_put(i + {lane}u, {v}); }} "),
            };
            text
        }),
    };
    let _ = writeln!(out, "fn {name}_put4(i: u32, v: {vector}, n: u32) {{ {all} }}");
}
