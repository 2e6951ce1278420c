//! The specialiser: from a variant and its choices to WGSL source.

use std::fmt::Write;

use crate::bound::{Bound, Slot};
use crate::expression::{Expression, OPERAND_PARAMS};
use crate::library;
use crate::storage::{self, LONG4, Storage, ValueType, Width};
use crate::table::Variant;
use crate::unroll::unroll;

/// A variant with everything chosen that its source depends on. Equal kernels have equal source, so a kernel is the key
/// of its pipeline.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Kernel {
    /// The row of the table.
    pub variant: &'static Variant,
    /// Layout of each input.
    pub inputs: Vec<(Storage, Width)>,
    /// Values of knobs, by name; others keep the default in the file.
    pub knobs: Vec<(&'static str, u32)>,
    /// What happens to each result.
    pub expression: Expression,
}

/// A kernel's source, and what it binds. All in group 0: inputs, the expression's operands, outputs, then one uniform
/// buffer of parameters and, with operands, one of [`crate::expression::OperandParams`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    /// WGSL with entry point `main`.
    pub wgsl: String,
    /// Storage bindings that are read, from 0 on; a tensor bound in pieces has several.
    pub reads: usize,
    /// Those of them that are bound for writing all the same, a bit to each.
    pub writable: u64,
    /// Read-write storage bindings, after the reads.
    pub writes: usize,
    /// Uniform bindings, after the writes: 1 or 2.
    pub uniforms: usize,
    /// It needs [`crate::Capabilities::f16`].
    pub f16: bool,
}

impl Kernel {
    /// Writes the source. A call `f_of_x(...)` in the kernel's file is one of library function `f` for the value type of
    /// input `x`, such as `f_f32` or `f_i64`.
    pub fn source(&self) -> Source {
        self.source_with(&Bound::default())
    }

    /// The same for tensors that are bound otherwise than each for reading or writing in one range.
    pub fn source_with(&self, bound: &Bound) -> Source {
        self.source_from(self.variant.source, bound)
    }

    /// The same with `file` for the text of the variant's file: another way to do the same with the same inputs, knobs and
    /// parameters.
    pub fn source_from(&self, file: &str, bound: &Bound) -> Source {
        let variant = self.variant;
        let mut text = String::with_capacity(4096);
        let storages = || {
            self.inputs
                .iter()
                .map(|(storage, _)| *storage)
                .chain(self.expression.operands.iter().map(|operand| operand.storage))
                .chain(self.expression.outputs.iter().map(|output| output.storage))
        };
        let f16 = storages().any(|storage| storage == Storage::F16);
        if f16 {
            text.push_str("enable f16;\n");
        }
        let longs = |value| value == ValueType::I64;
        if storages().any(|storage| longs(storage.value()))
            || longs(self.expression.accumulator)
            || self.expression.steps.iter().any(|step| step.value().is_some_and(longs))
        {
            text.push_str(LONG4);
        }
        let mut body = unroll(&self.with_knobs(file));
        for (input, (storage, _)) in variant.inputs.iter().zip(&self.inputs) {
            let typed = format!("_{}(", storage.value().suffix());
            body = body.replace(&format!("_of_{}(", input.name), &typed);
        }
        text.push_str(&body);
        let mut slots = Slots { bound, tensors: 0, bindings: 0, writable: 0 };
        for (input, (storage, width)) in variant.inputs.iter().zip(&self.inputs) {
            storage::write_input(&mut text, &slots.next(input.name, input.name, false), *storage, *width);
            let value = storage.value();
            let (name, one, four) = (input.name, value.scalar(), value.vector());
            let _ = writeln!(text, "alias {name}_value = {one};\nalias {name}_value4 = {four};");
            let parts = value.gather(["a", "b", "c", "d"]);
            let _ = writeln!(
                text,
                "fn {name}_pack(a: {one}, b: {one}, c: {one}, d: {one}) -> {four} {{ return {parts}; }}"
            );
            let lanes: Vec<String> = (0..4).map(|lane| value.lane("v", lane)).collect();
            let _ = writeln!(
                text,
                "fn {name}_lanes(v: {four}) -> array<{one}, 4> {{ return array<{one}, 4>({}); }}",
                lanes.join(", ")
            );
        }
        let before = variant.inputs.len() + self.expression.operands.len();
        for (index, operand) in self.expression.operands.iter().enumerate() {
            let name = format!("e{index}");
            let replaced = bound.replaced_by(slots.tensors).and_then(|tensor| tensor.checked_sub(before));
            let array = replaced.map_or_else(|| name.clone(), |output| format!("y{output}"));
            let slot = slots.next(&name, &array, false);
            storage::write_input(&mut text, &slot, operand.storage, operand.width);
        }
        let reads = slots.bindings;
        for (index, output) in self.expression.outputs.iter().enumerate() {
            let name = format!("y{index}");
            let slot = slots.next(&name, &name, true);
            storage::write_output(&mut text, &slot, output.storage, output.width);
        }
        let (binding, writable) = (slots.bindings, slots.writable);
        let writes = binding - reads;
        let _ = writeln!(text, "@group(0) @binding({binding}) var<uniform> params: Params;");
        let operands = self.expression.operands.len();
        if operands > 0 {
            text.push_str(OPERAND_PARAMS);
            let _ = writeln!(
                text,
                "@group(0) @binding({}) var<uniform> operand_params: array<OperandParams, {operands}>;",
                binding + 1
            );
        }
        self.expression.write(&mut text, variant.single);
        library::append(&mut text);
        Source { wgsl: text, reads, writable, writes, uniforms: 1 + usize::from(operands > 0), f16 }
    }

    /// A file's text with the chosen values in its `const NAME = value;` lines.
    fn with_knobs(&self, file: &str) -> String {
        let mut text = String::with_capacity(file.len());
        for line in file.lines() {
            let knob = line.strip_prefix("const ").and_then(|rest| {
                let (name, default) = rest.split_once('=')?;
                let (_, value) = self.knobs.iter().find(|(knob, _)| *knob == name.trim())?;
                let suffix = if default.contains('u') { "u" } else { "" };
                Some(format!("const {name}= {value}{suffix};"))
            });
            text.push_str(knob.as_deref().unwrap_or(line));
            text.push('\n');
        }
        text
    }
}

/// Hands out bindings, tensor by tensor.
struct Slots<'a> {
    bound: &'a Bound,
    tensors: usize,
    bindings: usize,
    /// Reads bound for writing, a bit to each binding.
    writable: u64,
}

impl Slots<'_> {
    /// The bindings of the next tensor, which may lie in the array of another one.
    fn next<'n>(&mut self, name: &'n str, array: &'n str, written: bool) -> Slot<'n> {
        let bindings = self.bound.pieces(self.tensors);
        // Its elements are found as those of the array that holds them.
        let pieces =
            self.bound.replaced_by(self.tensors).map_or(bindings, |holder| self.bound.pieces(holder));
        let write = written || self.bound.writable(self.tensors);
        let index = self.bindings;
        self.tensors += 1;
        self.bindings += bindings as usize;
        if write && !written {
            let bits = (index..self.bindings).filter_map(|at| 1u64.checked_shl(u32::try_from(at).ok()?));
            self.writable |= bits.fold(0, |all, bit| all | bit);
        }
        Slot { index, name, array, write, pieces, piece_bytes: self.bound.piece_bytes }
    }
}
