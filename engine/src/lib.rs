//! Portable GPU inference for ONNX models.
//!
//! A [`Model`] is a file, mapped and checked. A [`Device`] is a GPU that wgpu finds, a host's own wgpu device, or the
//! CPU. A [`Session`] binds one to the other and runs.
//!
//! ```no_run
//! use sardonyx::{Device, Fallback, Model, Select, Session, Tensor};
//!
//! # fn main() -> sardonyx::Result<()> {
//! let model = Model::open("mobilenet.onnx")?;
//! let session = Session::builder().device(Device::open(Select::Auto)?).dim("batch", 1).build(&model)?;
//! let image = Tensor::from_vec(&[1, 3, 224, 224], vec![0.5f32; 3 * 224 * 224])?;
//! let outputs = session.run([("input", &image)])?;
//! let scores = outputs["output"].to_vec::<f32>()?;
//! let (on_device, all) = session.placement().on_device();
//! println!("{on_device} of {all} operators on {:?}, {} scores", session.device(), scores.len());
//! # Ok(())
//! # }
//! ```

mod bound;
mod cache;
mod context;
mod coverage;
mod device;
mod device_tensor;
mod error;
mod memory;
mod model;
mod observer;
mod placement;
mod profile;
mod program;
mod session;
mod stages;
mod taps;
mod transfer;
mod values;

pub use bound::PlanSession;
pub use context::{Context, InputTensor};
pub use coverage::Coverage;
pub use device::{Device, DeviceInfo, DeviceKind, Quirk, Select};
pub use device_tensor::DeviceTensor;
pub use error::{Error, Result};
pub use memory::MemoryPlan;
pub use model::Model;
pub use observer::{CacheUse, Event, Observer};
pub use placement::{Place, PlacedStep, Placement};
pub use profile::{Clock, HostStage, Profile, ProfiledRun, ProfiledStep, Roofs, StageSpan, StepSpan};
pub use sardonyx_importer::quantize;
pub use sardonyx_importer::{LoadLimits, Metadata, ValueSpec as TensorSpec};
pub use sardonyx_ops::ir::dim::Dim;
pub use sardonyx_ops::plan::{Decision, Outcome};
pub use sardonyx_ops::{DType, Element, Item, Tensor, TensorError};
pub use sardonyx_shaders::Capabilities;
pub use session::{Fallback, Precision, RunOptions, Session, SessionBuilder};
pub use taps::{Tap, TapValue};
pub use values::{Inputs, Outputs, Times, Value};
pub use wgpu;
