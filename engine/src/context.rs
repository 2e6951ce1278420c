//! Contexts: runs with inputs and outputs bound beforehand, in host memory or on the device.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use sardonyx_ops::Tensor;

use crate::device_tensor::DeviceTensor;
use crate::error::{Error, Result};
use crate::hooks::{Hooks, install};
use crate::profile::Recorder;
use crate::program::{self, Given};
use crate::session::{Session, unwound};
use crate::stages::Stage;

/// A session's program with memory of its own and with bound inputs and outputs. A run looks nothing up and compiles
/// nothing; what is bound on the device stays there, so that an output of one run can be an input of the next.
///
/// ```no_run
/// # fn main() -> sardonyx::Result<()> {
/// # use sardonyx::{DType, DeviceTensor, Model, Session, Tensor};
/// let session = Session::builder().build(&Model::open("recurrent.onnx")?)?;
/// let mut state = [0, 1].map(|_| DeviceTensor::new(session.device(), DType::F32, &[1, 64]));
/// let [mut old, mut new] = state.map(|tensor| tensor.expect("memory"));
/// let mut context = session.context()?;
/// for frame in [[0.5f32; 16], [0.25f32; 16]] {
///     context.bind_input("frame", Tensor::from_vec(&[1, 16], frame.to_vec())?)?;
///     context.bind_input("state", old.clone())?.bind_output("next_state", &new)?;
///     context.run()?;
///     println!("{:?}", context.output("score")?);
///     std::mem::swap(&mut old, &mut new);
/// }
/// # Ok(())
/// # }
/// ```
pub struct Context {
    stage: Arc<Stage>,
    hooks: Arc<Hooks>,
    pool: Arc<rayon::ThreadPool>,
    names: Names,
    inputs: Vec<Given>,
    outputs: Vec<Option<DeviceTensor>>,
    /// Inputs in host memory; what is bound on the device has an empty tensor here.
    tensors: Vec<Tensor>,
    memory: program::Context,
    /// A binding has changed since the last run.
    changed: bool,
}

/// Names of inputs and outputs, in the program's order.
struct Names {
    inputs: Vec<Arc<str>>,
    outputs: Arc<[Arc<str>]>,
}

/// What [`Context::bind_input`] takes: a tensor in host memory or on the device.
#[derive(Clone, Debug)]
pub struct InputTensor(Given);

impl From<Tensor> for InputTensor {
    fn from(tensor: Tensor) -> InputTensor {
        InputTensor(Given::Host(tensor.aligned()))
    }
}

impl From<&Tensor> for InputTensor {
    fn from(tensor: &Tensor) -> InputTensor {
        tensor.clone().into()
    }
}

impl From<DeviceTensor> for InputTensor {
    fn from(tensor: DeviceTensor) -> InputTensor {
        InputTensor(Given::Device(tensor))
    }
}

impl From<&DeviceTensor> for InputTensor {
    fn from(tensor: &DeviceTensor) -> InputTensor {
        tensor.clone().into()
    }
}

impl Session {
    /// Makes a context, with activations of its own.
    ///
    /// # Errors
    /// When the sizes of the inputs were not all known when the session was built, or those of values in the model
    /// depend on data; when the device has not the memory.
    pub fn context(&self) -> Result<Context> {
        let stage = self.only_stage()?;
        let bound = stage.compiled().ok_or_else(|| {
            let what =
                "sizes in this model depend on data, so that no run of it is known beforehand".to_owned();
            Error::Bind { what }
        })?;
        let program = bound.program();
        let memory = program.context(self.device())?;
        let inputs = program.inputs.iter().map(|id| Arc::clone(&program.values[id.0].name)).collect();
        let empty = program.inputs.iter().map(|id| Tensor::zeroed(program.values[id.0].dtype, &[0]));
        Ok(Context {
            inputs: program.inputs.iter().map(|_| Given::Nothing).collect(),
            outputs: program.outputs.iter().map(|_| None).collect(),
            tensors: empty.collect::<Result<_, _>>()?,
            names: Names { inputs, outputs: self.output_names() },
            hooks: Arc::clone(self.hooks()),
            pool: self.pool(),
            memory,
            stage,
            changed: false,
        })
    }
}

impl Context {
    /// Binds an input: host memory, which every run uploads, or a tensor on the device, which is read where it lies.
    ///
    /// # Errors
    /// When the model has no such input, or the tensor does not fit it.
    pub fn bind_input(&mut self, name: &str, tensor: impl Into<InputTensor>) -> Result<&mut Context> {
        let InputTensor(given) = tensor.into();
        let index = find(&self.names.inputs, name, "input")?;
        let program = self.program()?;
        let value = &program.values[program.inputs[index].0];
        let (dtype, dims) = match &given {
            Given::Host(tensor) => (tensor.dtype(), tensor.dims()),
            Given::Device(tensor) => (tensor.dtype, &*tensor.dims),
            Given::Nothing => (value.dtype, &*value.dims),
        };
        fits(name, (dtype, dims), (value.dtype, &value.dims))?;
        let empty = Tensor::zeroed(dtype, &[0])?;
        let device = matches!(given, Given::Device(_)) || matches!(self.inputs[index], Given::Device(_));
        if device && self.hooks.device.gpu().is_none() {
            return Err(Error::Bind { what: "this session runs on the CPU".to_owned() });
        }
        self.tensors[index] = match &given {
            Given::Host(tensor) => tensor.clone(),
            _ => empty,
        };
        self.inputs[index] = given;
        // Other contents of host memory move no binding.
        self.changed |= device;
        Ok(self)
    }

    /// Binds an output to a tensor on the device, which every run fills.
    ///
    /// # Errors
    /// When the model has no such output, the tensor does not fit it, or the session runs on the CPU.
    pub fn bind_output(&mut self, name: &str, tensor: &DeviceTensor) -> Result<&mut Context> {
        let index = find(&self.names.outputs, name, "output")?;
        let program = self.program()?;
        let value = &program.values[program.outputs[index].0];
        fits(name, (tensor.dtype, &tensor.dims), (value.dtype, &value.dims))?;
        if self.hooks.device.gpu().is_none() {
            return Err(Error::Bind { what: "this session runs on the CPU".to_owned() });
        }
        self.outputs[index] = Some(tensor.clone());
        self.changed = true;
        Ok(self)
    }

    /// Runs once, and waits for the outputs that are not bound. Those that are bound are on the device when what is
    /// submitted to its queue next reads them.
    ///
    /// # Errors
    /// When an input is not bound, a binding does not fit the program, or a step fails.
    pub fn run(&mut self) -> Result<()> {
        let (stage, hooks) = (Arc::clone(&self.stage), Arc::clone(&self.hooks));
        hooks.run(
            &mut Recorder::default(),
            |recorder| unwound(|| self.run_recorded(&stage, recorder)),
            |()| Some(stage.digest),
        )
    }

    fn run_recorded(&mut self, stage: &Stage, recorder: &mut Recorder<'_>) -> Result<()> {
        let start = Instant::now();
        self.prepare()?;
        let bound = stage.compiled().ok_or_else(missing)?;
        let (program, memory) = (bound.program(), &mut self.memory);
        let (device, tensors) = (&self.hooks.device, &self.tensors);
        let done = {
            let recorder = &mut *recorder;
            let mut run = move || program.replay(memory, device, tensors, &|| Ok(()), recorder);
            if bound.uses_cpu() { install(&self.pool, run) } else { run() }
        };
        recorder.times.total = start.elapsed();
        done
    }

    /// Records a run into a host's own encoder, between what it records before and after. Inputs in host memory are
    /// written to the device when the encoder's commands are submitted; outputs that are not bound are not read back.
    ///
    /// # Errors
    /// When a step runs on the CPU, an input is not bound, or a binding does not fit the program.
    pub fn encode(&mut self, encoder: &mut wgpu::CommandEncoder) -> Result<()> {
        unwound(|| {
            self.prepare()?;
            let stage = Arc::clone(&self.stage);
            let bound = stage.compiled().ok_or_else(missing)?;
            let gpu = self
                .hooks
                .device
                .gpu()
                .ok_or_else(|| Error::Bind { what: "this session runs on the CPU".to_owned() })?;
            bound.program().encode(&self.memory, gpu, &self.tensors, encoder)
        })
    }

    /// An output of the latest run, read from host memory: of those that are not bound.
    ///
    /// # Errors
    /// When the model has no such output, it is bound to the device, or there was no run.
    pub fn output(&self, name: &str) -> Result<Tensor> {
        let index = find(&self.names.outputs, name, "output")?;
        if self.outputs[index].is_some() {
            return Err(Error::Bind { what: format!("output \"{name}\" is bound to the device") });
        }
        self.program()?.output(index, &self.memory, &self.tensors)
    }

    fn program(&self) -> Result<&program::Program> {
        Ok(self.stage.compiled().ok_or_else(missing)?.program())
    }

    /// Everything is bound, and the device's bind groups say so.
    fn prepare(&mut self) -> Result<()> {
        if let Some(index) = self.inputs.iter().position(|given| matches!(given, Given::Nothing)) {
            return Err(Error::Bind { what: format!("input \"{}\" is not bound", self.names.inputs[index]) });
        }
        if let (true, Some(gpu)) = (self.changed, self.hooks.device.gpu()) {
            let stage = Arc::clone(&self.stage);
            let program = stage.compiled().ok_or_else(missing)?.program();
            program.bind(&mut self.memory, gpu, &self.inputs, &self.outputs)?;
            self.changed = false;
        }
        Ok(())
    }
}

fn missing() -> Error {
    Error::Internal("a context without a program".to_owned())
}

fn find(names: &[Arc<str>], name: &str, what: &'static str) -> Result<usize> {
    names.iter().position(|known| &**known == name).ok_or_else(|| Error::UnknownName {
        what,
        name: name.to_owned(),
        known: names.join(", "),
    })
}

type Shape<'a> = (sardonyx_ops::DType, &'a [usize]);

fn fits(name: &str, got: Shape<'_>, wanted: Shape<'_>) -> Result<()> {
    if got == wanted {
        return Ok(());
    }
    let what = format!("\"{name}\" is {}{:?}, not {}{:?}", wanted.0, wanted.1, got.0, got.1);
    Err(Error::Bind { what })
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Context({:?}, {} inputs, {} outputs)",
            self.hooks.device,
            self.inputs.len(),
            self.outputs.len()
        )
    }
}
