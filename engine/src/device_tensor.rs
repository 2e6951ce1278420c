//! Tensors that lie on a device: a range of a wgpu buffer, the engine's or a host's.

use sardonyx_ops::ir::view::ViewMut;
use sardonyx_ops::problem::storage_of;
use sardonyx_ops::{DType, Tensor};
use sardonyx_shaders::storage::Storage;

use crate::device::{Device, Gpu, Staging};
use crate::error::{Error, Result};
use crate::transfer::{buffer_bytes, to_device};

/// A tensor on a device: elements of `dtype`, densely packed, row-major, from an offset of a buffer on. Cheap to clone;
/// clones are the same memory.
///
/// A [`crate::Context`] binds it without a copy where the buffer has the usage `STORAGE`, the offset is a multiple of
/// 256, and the buffer reaches [`DeviceTensor::room`] bytes beyond it: kernels move groups of elements. Otherwise the
/// elements are copied on the device.
#[derive(Clone, Debug)]
pub struct DeviceTensor {
    pub(crate) dtype: DType,
    pub(crate) dims: Vec<usize>,
    pub(crate) buffer: wgpu::Buffer,
    pub(crate) offset: u64,
}

/// Usages that let a buffer be bound, filled and read.
const USAGE: wgpu::BufferUsages =
    wgpu::BufferUsages::STORAGE.union(wgpu::BufferUsages::COPY_SRC).union(wgpu::BufferUsages::COPY_DST);

/// How devices hold elements of a type as they are, bit for bit.
pub(crate) fn plain(dtype: DType) -> Result<Storage> {
    let storage = storage_of(dtype, true).filter(|storage| storage.bytes() * 8 == dtype.bits());
    storage.ok_or_else(|| Error::Bind { what: format!("a device cannot hold {dtype} as it is") })
}

fn gpu(device: &Device) -> Result<&Gpu> {
    device.gpu().ok_or_else(|| Error::Bind { what: "the CPU has no tensors on a device".to_owned() })
}

impl DeviceTensor {
    /// Bytes that a buffer needs for a tensor that is bound without a copy: the elements, and room for whole groups.
    ///
    /// # Errors
    /// When no device can hold the type.
    pub fn room(dtype: DType, dims: &[usize]) -> Result<u64> {
        Ok(buffer_bytes(plain(dtype)?, dims.iter().product()))
    }

    /// A tensor in a buffer of its own, full of zeros.
    ///
    /// # Errors
    /// When the device is the CPU, cannot hold the type, or has not the memory.
    pub fn new(device: &Device, dtype: DType, dims: &[usize]) -> Result<DeviceTensor> {
        let (gpu, size) = (gpu(device)?, DeviceTensor::room(dtype, dims)?);
        let descriptor =
            wgpu::BufferDescriptor { label: Some("tensor"), size, usage: USAGE, mapped_at_creation: false };
        let buffer = gpu.scoped(|| gpu.device().create_buffer(&descriptor))?;
        Ok(DeviceTensor { dtype, dims: dims.to_vec(), buffer, offset: 0 })
    }

    /// A tensor with the elements of one in host memory.
    ///
    /// # Errors
    /// As [`DeviceTensor::new`].
    pub fn upload(device: &Device, tensor: &Tensor) -> Result<DeviceTensor> {
        let made = DeviceTensor::new(device, tensor.dtype(), tensor.dims())?;
        let gpu = gpu(device)?;
        gpu.queue().write_buffer(&made.buffer, 0, &to_device(&tensor.view(), plain(tensor.dtype())?));
        gpu.check()?;
        Ok(made)
    }

    /// A tensor in a host's own buffer, from `offset` bytes on.
    ///
    /// # Errors
    /// When the buffer is too small, the offset no multiple of four, or no device can hold the type.
    pub fn from_wgpu(
        dtype: DType,
        dims: &[usize],
        buffer: wgpu::Buffer,
        offset: u64,
    ) -> Result<DeviceTensor> {
        let made = DeviceTensor { dtype, dims: dims.to_vec(), buffer, offset };
        let end = offset.checked_add(made.bytes()?);
        if !offset.is_multiple_of(4) || end.is_none_or(|end| end > made.buffer.size()) {
            let (size, bytes) = (made.buffer.size(), made.bytes()?);
            let what = format!("{bytes} bytes from {offset} on do not fit a buffer of {size}");
            return Err(Error::Bind { what });
        }
        Ok(made)
    }

    /// Reads the elements back, after everything submitted before.
    ///
    /// # Errors
    /// When the buffer has not the usage `COPY_SRC`, or the device refuses.
    pub fn download(&self, device: &Device) -> Result<Tensor> {
        let (gpu, bytes) = (gpu(device)?, self.bytes()?);
        if !self.buffer.usage().contains(wgpu::BufferUsages::COPY_SRC) {
            return Err(Error::Bind { what: "the buffer has not the usage COPY_SRC".to_owned() });
        }
        let mut words = vec![0u64; usize::try_from(bytes.div_ceil(8)).unwrap_or(0)];
        if bytes > 0 {
            let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
            let descriptor = wgpu::BufferDescriptor {
                label: Some("read-back"),
                size: bytes,
                usage,
                mapped_at_creation: false,
            };
            let staging = Staging::new(gpu.scoped(|| gpu.device().create_buffer(&descriptor))?);
            let mut encoder = gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            encoder.copy_buffer_to_buffer(&self.buffer, self.offset, &staging.buffer, 0, Some(bytes));
            gpu.queue().submit([encoder.finish()]);
            gpu.map(&staging, crate::program::WAIT_LIMIT)?;
            let range = staging.buffer.get_mapped_range(..).map_err(|error| gpu.fault(error.to_string()))?;
            bytemuck::cast_slice_mut::<u64, u8>(&mut words)[..range.len()].copy_from_slice(&range);
        }
        let len = self.dtype.bytes_for(self.dims.iter().product()).unwrap_or(0);
        let bytes = &mut bytemuck::cast_slice_mut::<u64, u8>(&mut words)[..len];
        Ok(ViewMut { dtype: self.dtype, dims: &self.dims, bytes }.as_view().to_tensor())
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The dimensions.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// The buffer, and where in it the elements begin.
    pub fn buffer(&self) -> (&wgpu::Buffer, u64) {
        (&self.buffer, self.offset)
    }

    /// Bytes of the elements, in whole words as they are copied.
    pub(crate) fn bytes(&self) -> Result<u64> {
        let len: usize = self.dims.iter().product();
        Ok(((len * plain(self.dtype)?.bytes()) as u64).next_multiple_of(4))
    }

    /// Whether kernels can bind it, with `room` bytes.
    pub(crate) fn binds(&self, room: u64, alignment: u64) -> bool {
        self.buffer.usage().contains(wgpu::BufferUsages::STORAGE)
            && self.offset.is_multiple_of(alignment)
            && self.offset.checked_add(room).is_some_and(|end| end <= self.buffer.size())
    }
}
