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
//!
//! # Watching it
//!
//! Nothing here prints, logs or keeps counts unless a host asks for it, and then with names and numbers, never with
//! values of tensors.
//!
//! * An [`Observer`] is called for every plan, compilation, fallback, run and error of a session, with the device and the
//!   digests of model and plan.
//! * The subscriber of the crate [`tracing`](https://docs.rs/tracing) sees the spans `load`, `plan`, `compile` and `run`
//!   at the level of information. At the level of debugging there are `prepare`, what is done once for all sizes, within
//!   `plan` its parts `fuse`, `decide`, `verify` and `weights`, and within a run a span `stage` for each of [`HostStage`].
//!   Without a subscriber they cost a load of an atomic each.
//! * The recorder of the crate [`metrics`](https://docs.rs/metrics) counts the sessions that
//!   [`SessionBuilder::metrics`] gives a name. It must be installed before they are built.
//! * [`Error::code`] is stable, and in the events, the spans and the metrics.
//!
//! | metric | kind | labels besides `model`, `model_digest`, `device`, `precision` |
//! |---|---|---|
//! | `sardonyx_inference_total` | counter | `outcome`: `ok`, `error` |
//! | `sardonyx_inference_seconds` | histogram | |
//! | `sardonyx_stage_seconds` | histogram | `stage`: `prepare`, `upload`, `compute`, `read`, `host` |
//! | `sardonyx_fallback_operators` | gauge: operators on the CPU although the device is a GPU, in the latest plan | |
//! | `sardonyx_device_share` | gauge: the part of the operators that runs on the device, in the latest plan | |
//! | `sardonyx_device_memory_bytes`, `sardonyx_host_memory_bytes` | gauges: what the latest plan needs | |
//! | `sardonyx_plan_cache_total` | counter | `result`: `hit`, a run that needed no new plan; `miss`, a plan made |
//! | `sardonyx_shader_compile_seconds` | histogram | |
//! | `sardonyx_errors_total` | counter | `code`: that of the error |
//! | `sardonyx_device_lost_total` | counter | |
//! | `sardonyx_info` | gauge, always 1 | instead of those: `version`, `driver` |

mod bound;
mod cache;
mod context;
mod coverage;
mod device;
mod device_tensor;
mod digest;
mod error;
mod hooks;
mod memory;
mod meters;
mod model;
mod observer;
mod placement;
mod profile;
mod program;
mod saved_plan;
mod self_test;
mod session;
mod shader;
mod stages;
mod taps;
mod transfer;
mod values;

pub use bound::PlanSession;
pub use context::{Context, InputTensor};
pub use coverage::Coverage;
pub use device::{Device, DeviceInfo, DeviceKind, Quirk, Select};
pub use device_tensor::DeviceTensor;
pub use digest::Digest;
pub use error::{Error, Result};
pub use memory::MemoryPlan;
pub use model::Model;
pub use observer::{About, CacheUse, Event, Observer};
pub use placement::{Place, PlacedStep, Placement};
pub use profile::{Clock, HostStage, Profile, ProfiledRun, ProfiledStep, Roofs, StageSpan, StepSpan};
pub use sardonyx_importer::quantize;
pub use sardonyx_importer::{LoadLimits, Metadata, ValueSpec as TensorSpec};
pub use sardonyx_ops::ir::dim::Dim;
pub use sardonyx_ops::plan::{Decision, Outcome};
pub use sardonyx_ops::{DType, Element, Item, Tensor, TensorError};
pub use sardonyx_shaders::Capabilities;
pub use saved_plan::{SavedPlan, SavedStep};
pub use self_test::KernelTest;
pub use session::{Fallback, Precision, RunOptions, Session, SessionBuilder};
pub use shader::{Shader, ShaderLaunch};
pub use taps::{Tap, TapValue};
pub use values::{Inputs, Outputs, Times, Value};
pub use wgpu;
