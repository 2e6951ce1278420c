//! What a program needs of memory, known before it runs.

/// Bytes by use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MemoryPlan {
    /// Weights on the device.
    pub device_weights: u64,
    /// Values between steps on the device, for each concurrent run.
    pub device_activations: u64,
    /// The most that values on the device which are alive together take: less than this is not possible.
    pub device_live: u64,
    /// Read-back buffer, for each concurrent run.
    pub device_staging: u64,
    /// Values between steps on the host, for each concurrent run.
    pub host_activations: u64,
    /// The most that values on the host which are alive together take: less than this is not possible.
    pub host_live: u64,
    /// Scratch memory of CPU kernels, for each concurrent run.
    pub host_scratch: u64,
}

impl MemoryPlan {
    /// Everything on the device, for one run at a time.
    pub fn device(&self) -> u64 {
        self.device_weights + self.device_activations + self.device_staging
    }

    /// Everything, for one run at a time. Weights that stay in the mapped model file are not counted.
    pub fn total(&self) -> u64 {
        self.device() + self.host_activations + self.host_scratch
    }
}
