//! Tensors as `TensorProto` files, models as `ModelProto` files.

mod model;

use sardonyx_ops::Tensor;

pub use model::{Encoded, encode_model};

/// Writes a tensor as a `TensorProto` message, its elements as raw data (strings as `string_data`).
pub fn encode_tensor(tensor: &Tensor, name: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(tensor.bytes().len().saturating_add(64));
    for &dim in tensor.dims() {
        varint_field(&mut out, 1, dim as u64);
    }
    varint_field(&mut out, 2, tensor.dtype().to_onnx().unsigned_abs().into());
    if let Some(strings) = tensor.strings() {
        for string in strings {
            length_field(&mut out, 6, string.as_bytes());
        }
    }
    if !name.is_empty() {
        length_field(&mut out, 8, name.as_bytes());
    }
    if tensor.strings().is_none() {
        length_field(&mut out, 9, tensor.bytes());
    }
    out
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            out.push(low & 0x7f);
            return;
        }
        out.push(low | 0x80);
    }
}

pub(super) fn varint_field(out: &mut Vec<u8>, number: u32, value: u64) {
    varint(out, u64::from(number) << 3);
    varint(out, value);
}

pub(super) fn length_field(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    varint(out, u64::from(number) << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}
