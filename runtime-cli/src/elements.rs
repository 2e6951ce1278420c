//! Elements of any numeric type as `f64`, and back.

use bytes::Bytes;
use half::{bf16, f16};
use sardonyx_ops::ir::tensor::TensorError;
use sardonyx_ops::{DType, Element, Tensor};

use crate::output::format;

/// The elements as `f64`; complex numbers as pairs; `None` for text and for types without a decoder here.
///
/// Integers beyond 2^53 are rounded: comparisons of integers look at the bytes instead.
pub fn to_f64(tensor: &Tensor) -> Option<Vec<f64>> {
    fn wide<T: Element>(tensor: &Tensor, widen: impl Fn(T) -> f64) -> Option<Vec<f64>> {
        Some(tensor.elements::<T>().ok()?.iter().map(|&element| widen(element)).collect())
    }
    match tensor.dtype() {
        DType::F32 => wide(tensor, |v: f32| v.into()),
        DType::F64 => wide(tensor, |v: f64| v),
        DType::F16 => wide(tensor, |v: f16| v.to_f64()),
        DType::BF16 => wide(tensor, |v: bf16| v.to_f64()),
        DType::I8 => wide(tensor, |v: i8| v.into()),
        DType::I16 => wide(tensor, |v: i16| v.into()),
        DType::I32 => wide(tensor, |v: i32| v.into()),
        DType::I64 => wide(tensor, |v: i64| v as f64),
        DType::U8 => wide(tensor, |v: u8| v.into()),
        DType::U16 => wide(tensor, |v: u16| v.into()),
        DType::U32 => wide(tensor, |v: u32| v.into()),
        DType::U64 => wide(tensor, |v: u64| v as f64),
        DType::Bool => Some(tensor.bytes().iter().map(|&v| v.into()).collect()),
        DType::C64 => {
            Some(bytemuck::pod_collect_to_vec::<u8, f32>(tensor.bytes()).into_iter().map(f64::from).collect())
        }
        DType::C128 => Some(bytemuck::pod_collect_to_vec(tensor.bytes())),
        DType::I4 => Some(unpack(tensor, 4).map(|v| f64::from((v << 4) as i8 >> 4)).collect()),
        DType::U4 => Some(unpack(tensor, 4).map(f64::from).collect()),
        DType::I2 => Some(unpack(tensor, 2).map(|v| f64::from((v << 6) as i8 >> 6)).collect()),
        DType::U2 => Some(unpack(tensor, 2).map(f64::from).collect()),
        _ => None,
    }
}

/// The first elements of a tensor in lines of 80 columns.
pub fn to_lines(tensor: &Tensor, count: usize) -> Vec<String> {
    const PER_LINE: usize = 8;
    let texts: Vec<String> = match (tensor.strings(), to_f64(tensor)) {
        (Some(strings), _) => {
            strings.iter().take(count).map(|text| format!("{:?}", format::name(text, 60))).collect()
        }
        (None, Some(values)) if tensor.dtype().is_float() => {
            values.iter().take(count).map(|&value| format::real(value)).collect()
        }
        (None, Some(values)) => values.iter().take(count).map(f64::to_string).collect(),
        (None, None) => tensor.bytes().iter().take(count).map(|byte| format!("{byte:#04x}")).collect(),
    };
    let per_line = if tensor.strings().is_some() { 1 } else { PER_LINE };
    texts.chunks(per_line).map(|chunk| chunk.join(" ")).collect()
}

/// The codes of packed elements narrower than a byte, lowest bits first.
pub fn unpack(tensor: &Tensor, bits: usize) -> impl Iterator<Item = u8> + '_ {
    let per_byte = 8 / bits;
    let mask = ((1u16 << bits) - 1) as u8;
    (0..tensor.len()).map(move |i| {
        let byte = tensor.bytes().get(i / per_byte).copied().unwrap_or(0);
        byte >> (bits * (i % per_byte)) & mask
    })
}

/// Packs codes narrower than a byte, lowest bits first.
pub fn pack(codes: &[u8], bits: usize) -> Vec<u8> {
    let per_byte = 8 / bits;
    let byte = |group: &[u8]| group.iter().enumerate().fold(0, |byte, (i, code)| byte | code << (bits * i));
    codes.chunks(per_byte).map(byte).collect()
}

/// A tensor of a numeric type from `f64` values: rounded to the nearest for floats, rounded to even and held to
/// the type's range for integers; not zero is true.
///
/// # Errors
/// When the count of values is not that of the dimensions; `None` for types that cannot be made here.
pub fn from_f64(dtype: DType, dims: &[usize], values: &[f64]) -> Option<Result<Tensor, TensorError>> {
    fn narrow<T: Element>(
        dims: &[usize],
        values: &[f64],
        narrow: impl Fn(f64) -> T,
    ) -> Result<Tensor, TensorError> {
        Tensor::from_vec(dims, values.iter().map(|&v| narrow(v)).collect())
    }
    let codes = |bits: usize, low: f64, high: f64| {
        let mask = ((1u16 << bits) - 1) as u8;
        let code = |v: &f64| v.round_ties_even().clamp(low, high) as i8 as u8 & mask;
        let codes: Vec<u8> = values.iter().map(code).collect();
        Tensor::from_bytes(dtype, dims, Bytes::from(pack(&codes, bits)))
    };
    let whole = f64::round_ties_even;
    Some(match dtype {
        DType::F32 => narrow(dims, values, |v| v as f32),
        DType::F64 => narrow(dims, values, |v| v),
        DType::F16 => narrow(dims, values, f16::from_f64),
        DType::BF16 => narrow(dims, values, bf16::from_f64),
        DType::I8 => narrow(dims, values, |v| whole(v) as i8),
        DType::I16 => narrow(dims, values, |v| whole(v) as i16),
        DType::I32 => narrow(dims, values, |v| whole(v) as i32),
        DType::I64 => narrow(dims, values, |v| whole(v) as i64),
        DType::U8 => narrow(dims, values, |v| whole(v) as u8),
        DType::U16 => narrow(dims, values, |v| whole(v) as u16),
        DType::U32 => narrow(dims, values, |v| whole(v) as u32),
        DType::U64 => narrow(dims, values, |v| whole(v) as u64),
        DType::Bool => Tensor::from_bools(dims, &values.iter().map(|&v| v != 0.0).collect::<Vec<_>>()),
        DType::I4 => codes(4, -8.0, 7.0),
        DType::U4 => codes(4, 0.0, 15.0),
        DType::I2 => codes(2, -2.0, 1.0),
        DType::U2 => codes(2, 0.0, 3.0),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_there_and_back() {
        let values = [0.0, 1.0, -2.0, 1.0, 0.0];
        for dtype in [
            DType::F32,
            DType::F64,
            DType::F16,
            DType::BF16,
            DType::I8,
            DType::I16,
            DType::I32,
            DType::I64,
            DType::I4,
            DType::I2,
        ] {
            let tensor = from_f64(dtype, &[5], &values).unwrap().unwrap();
            assert_eq!(tensor.dtype(), dtype);
            assert_eq!(to_f64(&tensor).unwrap(), values, "{dtype}");
        }
        let values = [0.0, 3.0, 1.0];
        for dtype in [DType::U8, DType::U16, DType::U32, DType::U64, DType::U4, DType::U2] {
            let tensor = from_f64(dtype, &[3], &values).unwrap().unwrap();
            assert_eq!(to_f64(&tensor).unwrap(), values, "{dtype}");
        }
        let held = from_f64(DType::I4, &[2], &[100.0, -100.0]).unwrap().unwrap();
        assert_eq!(to_f64(&held).unwrap(), [7.0, -8.0]);
        assert_eq!(
            from_f64(DType::U8, &[2], &[2.5, 300.0]).unwrap().unwrap().to_vec::<u8>().unwrap(),
            [2, 255]
        );
        assert!(from_f64(DType::Str, &[0], &[]).is_none());
        assert!(from_f64(DType::F32, &[2], &[1.0]).unwrap().is_err());
    }
}
