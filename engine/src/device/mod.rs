//! Devices: what this machine can run models on.

mod changed;
mod gpu;
mod limits;
mod list;
mod quirks;
mod select;
mod stored;

use std::fmt;
use std::sync::Arc;

pub(crate) use gpu::{BoundKernel, Gpu, Pipeline, Staging};
pub use list::{DeviceInfo, DeviceKind};
pub use quirks::Quirk;
use sardonyx_shaders::Capabilities;
pub use select::Select;
pub(crate) use stored::Compiler;

use crate::error::{Error, Result};
use changed::Changed;

/// A device to run on: a GPU through wgpu, or the CPU. Cheap to clone; clones share pipelines.
#[derive(Clone)]
pub struct Device {
    inner: Arc<Inner>,
}

struct Inner {
    info: DeviceInfo,
    /// `None` for the CPU.
    gpu: Option<Gpu>,
}

impl Device {
    /// The backends that are compiled in, as [`DeviceInfo::backend`] names them.
    pub fn backends() -> Vec<&'static str> {
        list::backends()
    }

    /// Every device of this machine: the GPUs that wgpu finds, real ones first, then the CPU.
    pub fn list() -> Vec<DeviceInfo> {
        list::all().into_iter().map(|found| found.info).collect()
    }

    /// Opens a device.
    ///
    /// # Errors
    /// When nothing matches, or the driver refuses.
    pub fn open(select: Select<'_>) -> Result<Device> {
        // Asking the drivers for their adapters takes longer than many models run.
        if select == Select::Cpu {
            return Ok(Device::cpu());
        }
        let found = list::all();
        let chosen = select.choose(&found)?;
        Device::from_found(chosen, None)
    }

    /// Opens a device and lets it use no more than `narrow` has: a large one rehearses what a small one will do. The CPU
    /// stays as it is.
    ///
    /// # Errors
    /// As [`Device::open`].
    pub fn open_narrowed(select: Select<'_>, narrow: &Capabilities) -> Result<Device> {
        if select == Select::Cpu {
            return Ok(Device::cpu());
        }
        let found = list::all();
        Device::from_found(select.choose(&found)?, Some(narrow))
    }

    /// The CPU.
    pub fn cpu() -> Device {
        Device { inner: Arc::new(Inner { info: DeviceInfo::cpu(), gpu: None }) }
    }

    /// A host's own wgpu device, shared with its renderer. Ask for features and limits with
    /// [`Device::required_features`] and [`Device::required_limits`] when making it; with fewer, fewer kernels fit.
    ///
    /// The engine installs no error or device-lost handler on a host's device.
    pub fn from_wgpu(adapter: &wgpu::Adapter, device: wgpu::Device, queue: wgpu::Queue) -> Device {
        let info = DeviceInfo::from_adapter(adapter, 0);
        let gpu = Gpu::new(&info, device, queue, false);
        Device { inner: Arc::new(Inner { info, gpu: Some(gpu) }) }
    }

    /// The same GPU, on which kernels have other texts than Sardonyx's own: pairs of a kernel's name, as placements and
    /// profiles show it, and the text of its file. This is for whoever tunes a kernel: it is tried without building
    /// anything. A text must take the same bindings, parameters, knobs and workgroups as the one that it stands in for,
    /// which is checked when it is compiled; whether it computes the same is the caller's business.
    ///
    /// # Errors
    /// When there is no kernel of such a name, or the device is the CPU, which has none in WGSL.
    pub fn with_kernels(&self, texts: impl IntoIterator<Item = (String, String)>) -> Result<Device> {
        let changed = Changed::new(texts)?;
        let first = changed.names().next();
        match (&self.inner.gpu, first) {
            (_, None) => Ok(self.clone()),
            (None, Some(name)) => {
                let what = "the CPU runs no kernels in WGSL".to_owned();
                Err(Error::Kernel { name: name.to_owned(), what })
            }
            (Some(gpu), Some(_)) => {
                let gpu = Some(gpu.with_kernels(changed));
                Ok(Device { inner: Arc::new(Inner { info: self.inner.info.clone(), gpu }) })
            }
        }
    }

    /// The same GPU, on which these kernels are not used, by the names of [`crate::KernelTest::kernel`]: what they would do
    /// is done by others, or, where there are none, by the CPU if the session lets it. The CPU stays as it is.
    pub fn without_kernels(&self, names: impl IntoIterator<Item = String>) -> Device {
        let info = self.inner.info.clone();
        let gpu = self.inner.gpu.as_ref().map(|gpu| gpu.without_kernels(names));
        Device { inner: Arc::new(Inner { info, gpu }) }
    }

    /// The names of the kernels with other texts than Sardonyx's own.
    pub fn changed_kernels(&self) -> impl Iterator<Item = &'static str> {
        self.inner.gpu.iter().flat_map(|gpu| gpu.changed().names())
    }

    /// Features that kernels can use, of those the adapter has.
    pub fn required_features(adapter: &wgpu::Adapter) -> wgpu::Features {
        adapter.features() & gpu::WANTED_FEATURES
    }

    /// Limits that let every kernel of ours run which the adapter can run.
    pub fn required_limits(adapter: &wgpu::Adapter) -> wgpu::Limits {
        adapter.limits()
    }

    /// What it is.
    pub fn info(&self) -> &DeviceInfo {
        &self.inner.info
    }

    /// What its kernels may use; `None` for the CPU.
    pub fn capabilities(&self) -> Option<&Capabilities> {
        self.inner.gpu.as_ref().map(Gpu::caps)
    }

    /// The wgpu device and queue; `None` for the CPU.
    pub fn wgpu(&self) -> Option<(&wgpu::Device, &wgpu::Queue)> {
        self.inner.gpu.as_ref().map(|gpu| (gpu.device(), gpu.queue()))
    }

    /// Frees what finished work has left over. For hosts that run rarely and keep the device.
    pub fn poll(&self) {
        if let Some(gpu) = &self.inner.gpu {
            // Nothing is waited for, so there is no outcome to report.
            let _ = gpu.device().poll(wgpu::PollType::Poll);
        }
    }

    pub(crate) fn gpu(&self) -> Option<&Gpu> {
        self.inner.gpu.as_ref()
    }

    fn from_found(found: &list::Found, narrow: Option<&Capabilities>) -> Result<Device> {
        let gpu = match &found.adapter {
            Some(adapter) => Some(gpu::open(&found.info, adapter, narrow)?),
            None => None,
        };
        Ok(Device { inner: Arc::new(Inner { info: found.info.clone(), gpu }) })
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({} \"{}\")", self.inner.info.id, self.inner.info.name)
    }
}
