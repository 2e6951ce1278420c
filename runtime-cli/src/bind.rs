//! From arguments to models, devices and sessions, and from the engine's errors to those of the command.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sardonyx::{Device, Error, Fallback, Model, SavedPlan, Select, Session, SessionBuilder};
use sardonyx_importer::ImportError;

use crate::cli::{DeviceArgs, PlanArgs, Settings, SizeArgs};
use crate::failure::{Exit, Failure, Fault, Report};
use crate::formats::{MOST_BYTES, read_file};
use crate::input::Signature;
use crate::input::sizes::Sizes;
use crate::kernels;
use crate::limits;
use crate::output::{Console, format};
use crate::quarantine;

/// A model and how long it took to open.
#[derive(Debug)]
pub struct Opened {
    /// The file.
    pub path: PathBuf,
    /// The model.
    pub model: Model,
    /// From the file to the checked graph.
    pub load: Duration,
}

impl Opened {
    /// Opens a model file.
    ///
    /// # Errors
    /// When it cannot be read or is refused.
    pub fn open(path: &Path, console: &Console) -> Result<Opened, Failure> {
        let _progress = console.progress(None, "loading the model");
        let start = Instant::now();
        let model = Model::open(path).map_err(|error| failure(&error, path))?;
        Ok(Opened { path: path.to_owned(), model, load: start.elapsed() })
    }

    /// Binds the model as `builder` says.
    ///
    /// # Errors
    /// When it cannot run there.
    pub fn session(&self, builder: SessionBuilder, console: &Console) -> Result<Session, Failure> {
        let _progress = console.progress(None, "planning and compiling");
        builder.build(&self.model).map_err(|error| self.failure(&error))
    }

    /// The name of the file, as messages show it.
    pub fn name(&self) -> String {
        file_name(&self.path)
    }

    /// What the model takes.
    ///
    /// # Errors
    /// When an input is no tensor.
    pub fn signatures(&self) -> Result<Vec<Signature>, Failure> {
        let signature = |spec: &sardonyx::TensorSpec| {
            let dtype = spec.dtype.ok_or_else(|| {
                let name = format::name(&spec.name, 60);
                Failure::new(Fault::ElementType, format!("the element type of input {name:?} is not known"))
            })?;
            Ok(Signature { name: spec.name.to_string(), dtype, shape: spec.shape.clone() })
        };
        self.model.inputs().iter().map(signature).collect()
    }

    /// SHA-256 of the model's file, without external weights.
    pub fn digest(&self) -> String {
        self.model.digest().to_string()
    }

    /// The sizes that the arguments ask for.
    ///
    /// # Errors
    /// When a name is not in the model.
    pub fn sizes(&self, signatures: &[Signature], arguments: &SizeArgs) -> Result<Sizes, Failure> {
        Sizes::new(signatures, &arguments.dim, &arguments.shape)
    }

    /// An error of the engine about this model.
    pub fn failure(&self, error: &Error) -> Failure {
        failure(error, &self.path)
    }
}

/// The last part of a path, cut and escaped.
pub fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    format::name(&name.to_string_lossy(), 80)
}

/// Opens the device asked for, without the kernels that are wrong on it.
///
/// # Errors
/// When nothing matches, or the driver refuses.
pub fn open_device(name: &str) -> Result<Device, Failure> {
    let device = Device::open(Select::parse(name)).map_err(|error| failure(&error, Path::new("")))?;
    Ok(quarantine::leave_out(device))
}

/// Opens the device asked for, within `--limits` when they are given.
///
/// # Errors
/// As [`open_device`]; when the limits are not known.
pub fn open_limited(name: &str, limits: Option<&str>) -> Result<Device, Failure> {
    let Some(limits) = limits else { return open_device(name) };
    let narrow = limits::parse(limits)?;
    let device = Device::open_narrowed(Select::parse(name), &narrow);
    Ok(quarantine::leave_out(device.map_err(|error| failure(&error, Path::new("")))?))
}

/// Opens the device asked for, within `--limits` and with `--kernels` where they are given.
///
/// # Errors
/// As [`open_limited`]; when there is something wrong with the kernels.
pub fn open_as_set(name: &str, settings: &Settings) -> Result<Device, Failure> {
    let device = open_limited(name, settings.limits.as_deref())?;
    settings.kernels.as_deref().map_or(Ok(device.clone()), |folder| kernels::change(&device, folder))
}

/// The plan of a file.
///
/// # Errors
/// When the file cannot be read, or is none.
fn saved_plan(path: &Path) -> Result<SavedPlan, Failure> {
    let text = String::from_utf8(read_file(path, MOST_BYTES)?.to_vec());
    let no_text = |_| Failure::new(Fault::Malformed, format!("{} is no text", path.display()));
    SavedPlan::from_json(&text.map_err(no_text)?).map_err(|error| failure(&error, Path::new("")))
}

/// A session builder with everything that the arguments say; `default` is the fallback when they do not.
pub fn builder(device: &Device, settings: &Settings, default: Fallback) -> SessionBuilder {
    let mut builder = Session::builder()
        .device(device.clone())
        .fallback(settings.fallback.map_or(default, Fallback::from))
        .precision(settings.precision.into());
    for pass in settings.disabled_passes() {
        builder = builder.disable_pass(pass);
    }
    if let Some(threads) = settings.threads {
        builder = builder.threads(threads.into());
    }
    if let Some(bytes) = settings.memory_budget {
        builder = builder.memory_budget(bytes);
    }
    builder
}

/// The same with the plan of `--plan`.
///
/// # Errors
/// When the file cannot be read or is none, or the plan has another precision.
pub fn planned_builder(
    device: &Device,
    settings: &Settings,
    plan: &PlanArgs,
    default: Fallback,
) -> Result<SessionBuilder, Failure> {
    let builder = builder(device, settings, default);
    let Some(path) = &plan.plan else { return Ok(builder) };
    let plan = saved_plan(path)?;
    let (saved, asked) = (plan.precision.name(), settings.precision.name());
    if saved != asked {
        let message = format!("{} is a plan for --precision {saved}, not {asked}", path.display());
        return Err(Failure::new(Fault::Usage, message));
    }
    Ok(builder.plan(plan))
}

/// Opens the device of the arguments.
///
/// # Errors
/// As [`open_as_set`].
pub fn device(arguments: &DeviceArgs) -> Result<Device, Failure> {
    open_as_set(&arguments.device, &arguments.settings)
}

/// An error of the engine as one of the command; `path` is the model's, empty when there is none.
pub fn failure(error: &Error, path: &Path) -> Failure {
    let model = (!path.as_os_str().is_empty()).then(|| file_name(path));
    let at = |node: &str| model.clone().map(|model| format!("{model}, node {:?}", format::name(node, 100)));
    let (message, model, why) = match error {
        Error::Unsupported { node, op, device, why } => {
            (format!("operator {op} is not supported on {device}"), at(node), Some(why.clone()))
        }
        Error::Step { node, op, source } => (format!("operator {op}: {source}"), at(node), None),
        error => (error.to_string(), model, None),
    };
    let report = Report {
        exit: exit(error),
        code: error.code(),
        message: printable(&message),
        model,
        why: why.map(|why| printable(&why)),
        help: error.hint().map(|hint| printable(&hint)),
    };
    Failure::from(report)
}

fn exit(error: &Error) -> Exit {
    match error {
        Error::Model(error) if matches!(**error, ImportError::Io { .. }) => Exit::File,
        Error::Model(_) | Error::Unsupported { .. } | Error::Step { .. } => Exit::Model,
        Error::UnknownName { .. } | Error::Kernel { .. } | Error::Plan { .. } => Exit::Usage,
        Error::InputName { .. } | Error::InputType { .. } | Error::InputShape { .. } => Exit::Input,
        Error::Output { .. } | Error::Tensor(_) => Exit::Input,
        Error::NoDevice { .. }
        | Error::Device { .. }
        | Error::DeviceTimeout { .. }
        | Error::Memory { .. } => Exit::Device,
        Error::Deadline { .. } | Error::Cancelled => Exit::Deadline,
        _ => Exit::Defect,
    }
}

/// Text from a model with its control characters escaped, so that it cannot steer a terminal.
fn printable(text: &str) -> String {
    const LONGEST: usize = 2000;
    let show = |c: char| if c.is_control() { c.escape_debug().to_string() } else { c.to_string() };
    text.chars().take(LONGEST).map(show).collect()
}
