//! What a result is held against: another device, another model, saved outputs, ONNX Runtime.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sardonyx::{Device, Fallback, Select, Session, Tap, Tensor};

use crate::bind::{self, Opened};
use crate::cli::Settings;
use crate::failure::{Failure, Fault};
use crate::formats::npz::{self, Archive};
use crate::formats::{MOST_BYTES, read_file, safetensors};
use crate::input::Given;
use crate::output::{Console, atomic};

/// Where right values come from.
pub enum Reference {
    /// A session with taps, of this model on another device or of another model.
    Session(Box<Session>),
    /// Saved tensors.
    Saved(Vec<(String, Tensor)>),
    /// ONNX Runtime, through this Python.
    Ort(String),
}

/// Right values by name, and those of outputs in order.
#[derive(Default)]
pub struct Values {
    /// The outputs.
    pub outputs: Vec<(String, Tensor)>,
    /// Everything known, outputs included.
    pub all: HashMap<String, Tensor>,
}

/// The named inputs of a run.
pub fn named(given: &[Given]) -> Vec<(&str, &Tensor)> {
    given.iter().map(|given| (given.name.as_str(), &given.tensor)).collect()
}

/// Builds a session with taps for these inputs.
///
/// # Errors
/// When the model cannot run there.
pub fn tapped(
    opened: &Opened,
    device: &Device,
    settings: &Settings,
    given: &[Given],
    console: &Console,
) -> Result<Session, Failure> {
    let mut builder = bind::builder(device, settings, Fallback::Allow).taps();
    for given in given {
        builder = builder.shape(&given.name, given.tensor.dims());
    }
    opened.session(builder, console)
}

impl Reference {
    /// Understands `--against`.
    ///
    /// # Errors
    /// When it is neither a file nor a device, or a file cannot be read.
    pub fn new(
        against: &str,
        opened: &Opened,
        settings: &Settings,
        given: &[Given],
        console: &Console,
    ) -> Result<Reference, Failure> {
        if let Some(python) = against.strip_prefix("ort:") {
            return Ok(Reference::Ort(python.to_owned()));
        }
        let path = Path::new(against);
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("npz") => {
                let mut archive = Archive::new(read_file(path, MOST_BYTES)?, path)?;
                let keys = archive.keys();
                let saved = keys.into_iter().map(|key| archive.get(&key, None).map(|tensor| (key, tensor)));
                Ok(Reference::Saved(saved.collect::<Result<_, Failure>>()?))
            }
            Some("safetensors") => {
                Ok(Reference::Saved(safetensors::read(&read_file(path, MOST_BYTES)?, None, path)?))
            }
            Some("onnx") => {
                let other = Opened::open(path, console)?;
                let session = tapped(&other, &Device::cpu(), settings, given, console)?;
                Ok(Reference::Session(Box::new(session)))
            }
            _ => {
                let device = Device::open(Select::parse(against))
                    .map_err(|error| bind::failure(&error, Path::new("")))?;
                Ok(Reference::Session(Box::new(tapped(opened, &device, settings, given, console)?)))
            }
        }
    }

    /// The right values for these inputs.
    ///
    /// # Errors
    /// When the reference cannot be run.
    pub fn values(&self, opened: &Opened, given: &[Given]) -> Result<Values, Failure> {
        let outputs = match self {
            Reference::Session(session) => {
                let run = session.run_tapped(named(given));
                let (outputs, taps) = run.map_err(|error| opened.failure(&error))?;
                let outputs =
                    outputs.iter().map(|(name, tensor)| (name.to_owned(), tensor.clone())).collect();
                return Ok(Values::new(outputs, &taps));
            }
            Reference::Saved(saved) => saved.clone(),
            Reference::Ort(python) => ort(python, &opened.path, given)?,
        };
        Ok(Values::new(outputs, &[]))
    }
}

impl Values {
    /// Outputs and the results of steps.
    pub fn new(outputs: Vec<(String, Tensor)>, taps: &[Tap]) -> Values {
        let mut all: HashMap<String, Tensor> = HashMap::new();
        for value in taps.iter().flat_map(|tap| &tap.values) {
            all.insert(value.name.to_string(), value.tensor.clone());
        }
        all.extend(outputs.iter().cloned());
        Values { outputs, all }
    }
}

const SCRIPT: &str = "import sys, numpy, onnxruntime\n\
session = onnxruntime.InferenceSession(sys.argv[1], providers=['CPUExecutionProvider'])\n\
given = numpy.load(sys.argv[2])\n\
outputs = session.run(None, {i.name: given[i.name] for i in session.get_inputs()})\n\
numpy.savez(sys.argv[3], **{o.name: v for o, v in zip(session.get_outputs(), outputs)})\n";

/// Runs a model with ONNX Runtime in a Python that has it.
fn ort(python: &str, model: &Path, given: &[Given]) -> Result<Vec<(String, Tensor)>, Failure> {
    let file = |name: &str| -> PathBuf {
        std::env::temp_dir().join(format!("sardonyx-compare-{}-{name}.npz", std::process::id()))
    };
    let (inputs, outputs) = (file("inputs"), file("outputs"));
    atomic::write(&inputs, &npz::write(named(given))?)?;
    let ended = Command::new(python)
        .args(["-c", SCRIPT])
        .args([model, &inputs, &outputs])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Failure::new(Fault::File, format!("{python}: {error}")));
    let read = ended.and_then(|ended| {
        if !ended.status.success() {
            let text = String::from_utf8_lossy(&ended.stderr);
            let last = text.trim().lines().last().unwrap_or("it said nothing").to_owned();
            let message = format!("ONNX Runtime in {python} did not run the model");
            return Err(Failure::new(Fault::File, message).why(crate::output::format::name(&last, 300)));
        }
        let mut archive = Archive::new(read_file(&outputs, MOST_BYTES)?, &outputs)?;
        let keys = archive.keys();
        keys.into_iter().map(|key| archive.get(&key, None).map(|tensor| (key, tensor))).collect()
    });
    for path in [&inputs, &outputs] {
        // They were made for this comparison only; left behind, they do no harm.
        let _ = std::fs::remove_file(path);
    }
    read
}
