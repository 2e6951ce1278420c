//! Just enough of a protobuf writer to make models by hand.

use super::encode::{length_field, varint_field};

/// An integer field.
pub fn int(number: u32, value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    varint_field(&mut out, number, value);
    out
}

/// A bytes, string or message field.
pub fn bytes(number: u32, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    length_field(&mut out, number, content);
    out
}

/// A 4-byte field.
pub fn fixed32(number: u32, bits: u32) -> Vec<u8> {
    let mut out = int(number, 0);
    out.pop();
    let last = out.len() - 1;
    // Field numbers below 16 have a tag of one byte.
    out[last] |= 5;
    out.extend(bits.to_le_bytes());
    out
}

/// A packed list of integers.
pub fn packed(number: u32, values: &[u64]) -> Vec<u8> {
    let run: Vec<u8> = values.iter().flat_map(|value| int(1, *value).split_off(1)).collect();
    bytes(number, &run)
}
