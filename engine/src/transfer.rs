//! Between tensors as the host has them and as a device holds them.

use std::borrow::Cow;

use half::{bf16, f16};
use sardonyx_ops::DType;
use sardonyx_ops::ir::view::View;
use sardonyx_shaders::storage::Storage;

/// Bytes behind a tensor that kernels may read or write: groups of four end there.
const SLACK: u64 = 16;

/// Bytes of a buffer for `len` elements: whole groups of four, and a group more for unaligned loads at the end.
pub(crate) fn buffer_bytes(storage: Storage, len: usize) -> u64 {
    let bytes = (len as u64).saturating_mul(storage.bytes() as u64);
    bytes.saturating_add(2 * SLACK - 1) / SLACK * SLACK + if storage.bytes() > 4 { SLACK } else { 0 }
}

/// The device's bytes of a tensor, a multiple of four long.
pub(crate) fn to_device<'a>(view: &View<'a>, storage: Storage) -> Cow<'a, [u8]> {
    fn convert<A: bytemuck::AnyBitPattern, B: bytemuck::NoUninit>(
        bytes: &[u8],
        f: impl Fn(A) -> B,
    ) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len() / size_of::<A>() * size_of::<B>() + 4);
        for element in bytes.chunks_exact(size_of::<A>()) {
            out.extend_from_slice(bytemuck::bytes_of(&f(bytemuck::pod_read_unaligned(element))));
        }
        out
    }
    let bytes = view.bytes;
    let mut device = match (view.dtype, storage) {
        // Weights beyond the range of f16 are masks such as -1e38: the largest finite value serves, infinity would not.
        (DType::F32, Storage::F16) => Cow::Owned(convert(bytes, |x: f32| {
            f16::from_f32(if x.is_finite() { x.clamp(-65504.0, 65504.0) } else { x })
        })),
        (DType::F16, Storage::F32) => Cow::Owned(convert(bytes, |x: f16| x.to_f32())),
        (DType::BF16, Storage::F32) => Cow::Owned(convert(bytes, |x: bf16| x.to_f32())),
        (DType::BF16, Storage::F16) => Cow::Owned(convert(bytes, |x: bf16| f16::from_f32(x.to_f32()))),
        (DType::I16, Storage::I32) => Cow::Owned(convert(bytes, |x: i16| i32::from(x))),
        (DType::U16, Storage::U32) => Cow::Owned(convert(bytes, |x: u16| u32::from(x))),
        _ => Cow::Borrowed(bytes),
    };
    let padded = device.len().next_multiple_of(4);
    if padded != device.len() {
        device.to_mut().resize(padded, 0);
    }
    device
}

/// Fills a tensor's bytes from the device's.
pub(crate) fn from_device(device: &[u8], storage: Storage, dtype: DType, out: &mut [u8]) {
    fn convert<A: bytemuck::AnyBitPattern, B: bytemuck::NoUninit>(
        device: &[u8],
        out: &mut [u8],
        f: impl Fn(A) -> B,
    ) {
        for (to, from) in out.chunks_exact_mut(size_of::<B>()).zip(device.chunks_exact(size_of::<A>())) {
            to.copy_from_slice(bytemuck::bytes_of(&f(bytemuck::pod_read_unaligned(from))));
        }
    }
    match (storage, dtype) {
        (Storage::F16, DType::F32) => convert(device, out, |x: f16| x.to_f32()),
        (Storage::F16, DType::BF16) => convert(device, out, |x: f16| bf16::from_f32(x.to_f32())),
        (Storage::F32, DType::F16) => convert(device, out, |x: f32| f16::from_f32(x)),
        (Storage::F32, DType::BF16) => convert(device, out, |x: f32| bf16::from_f32(x)),
        (Storage::I32, DType::I16) => convert(device, out, |x: i32| x as i16),
        (Storage::U32, DType::U16) => convert(device, out, |x: u32| x as u16),
        _ => {
            let len = out.len().min(device.len());
            out[..len].copy_from_slice(&device[..len]);
        }
    }
}

#[cfg(test)]
mod tests {
    use sardonyx_ops::Tensor;

    use super::*;

    #[test]
    fn every_conversion_returns_what_went_in() {
        let cases: Vec<(Tensor, Storage)> = vec![
            (Tensor::from_vec(&[3], vec![1.5f32, -2.25, 1e-3]).unwrap(), Storage::F32),
            (Tensor::from_vec(&[3], vec![1.5f32, -2.25, 1024.0]).unwrap(), Storage::F16),
            (Tensor::from_vec(&[3], [1.5f32, -2.0, 7.0].map(f16::from_f32).to_vec()).unwrap(), Storage::F32),
            (Tensor::from_vec(&[3], [1.5f32, -2.0, 7.0].map(f16::from_f32).to_vec()).unwrap(), Storage::F16),
            (Tensor::from_vec(&[3], [1.5f32, -2.0, 7.0].map(bf16::from_f32).to_vec()).unwrap(), Storage::F32),
            (Tensor::from_vec(&[3], vec![1i16, -2, i16::MIN]).unwrap(), Storage::I32),
            (Tensor::from_vec(&[3], vec![1u16, 2, u16::MAX]).unwrap(), Storage::U32),
            (Tensor::from_vec(&[5], vec![1u8, 2, 3, 4, 255]).unwrap(), Storage::U8),
            (Tensor::from_bools(&[3], &[true, false, true]).unwrap(), Storage::Bool),
            (Tensor::from_vec(&[2], vec![i64::MIN, i64::MAX]).unwrap(), Storage::I64),
        ];
        for (tensor, storage) in cases {
            let device = to_device(&tensor.view(), storage);
            assert_eq!(device.len() % 4, 0);
            assert!(device.len() as u64 <= buffer_bytes(storage, tensor.len()));
            let mut back = vec![0xAA; tensor.bytes().len()];
            from_device(&device, storage, tensor.dtype(), &mut back);
            assert_eq!(back, tensor.bytes(), "{tensor:?} as {storage:?}");
        }
    }

    #[test]
    fn masks_stay_finite_in_f16() {
        let tensor = Tensor::from_vec(&[2], vec![-3.4e38f32, f32::NEG_INFINITY]).unwrap();
        let device = to_device(&tensor.view(), Storage::F16);
        let halves: &[f16] = bytemuck::cast_slice(&device);
        assert_eq!(halves[0].to_f32(), -65504.0);
        assert_eq!(halves[1].to_f32(), f32::NEG_INFINITY);
    }
}
