//! Portable GPU inference for ONNX models.
//!
//! A [`Model`] is a file, mapped and checked. A [`Device`] is a GPU that wgpu finds, a host's own wgpu device, or the
//! CPU. A [`Session`] binds one to the other and runs.

mod device;
mod error;
mod memory;
mod placement;
mod program;
mod session;
mod transfer;
mod values;

pub use device::{Device, DeviceInfo, DeviceKind, Select};
pub use error::{Error, Result};
pub use memory::MemoryPlan;
pub use placement::{Place, PlacedStep, Placement};
pub use sardonyx_ops::{DType, Element, Tensor};
pub use sardonyx_shaders::Capabilities;
pub use session::{Fallback, PlanSession, Precision};
pub use values::{Inputs, Outputs};
pub use wgpu;
