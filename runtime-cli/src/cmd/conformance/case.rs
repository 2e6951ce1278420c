//! One case: a model run on its test sets, in the worker.

use std::path::{Path, PathBuf};

use sardonyx::{Device, Error, Fallback, Inputs, Model};
use sardonyx_importer::ImportError;
use sardonyx_importer::map::map_file;
use sardonyx_importer::onnx::{self, LoadLimits, ModelProto, TypeProto, ValueInfoProto};
use sardonyx_ops::OpError;
use serde_json::{Value, json};

use crate::bind;
use crate::cli::Settings;
use crate::compare::{Tolerance, compare};
use crate::formats::protobuf;
use crate::output::format;

/// How a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// All outputs are within tolerance.
    Pass,
    /// Refused as unsupported.
    Skip,
    /// Anything else.
    Fail,
}

impl Status {
    /// The word in documents.
    pub fn name(self) -> &'static str {
        match self {
            Status::Pass => "pass",
            Status::Skip => "skip",
            Status::Fail => "fail",
        }
    }

    /// The status with this word.
    pub fn from_name(name: &str) -> Option<Status> {
        [Status::Pass, Status::Skip, Status::Fail].into_iter().find(|status| status.name() == name)
    }
}

/// The result of a case.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// How it ended.
    pub status: Status,
    /// Why, in one line; empty for a pass.
    pub reason: String,
    /// The only operator of the model, if it has just one (besides constants).
    pub operator: Option<String>,
    /// Time from opening the model to the last comparison.
    pub time_ns: u64,
}

impl Outcome {
    /// A failure that the worker could not report itself.
    pub fn failed(reason: impl Into<String>, time_ns: u64) -> Outcome {
        Outcome { status: Status::Fail, reason: reason.into(), operator: None, time_ns }
    }

    /// As a line of the worker's protocol.
    pub fn to_json(&self) -> Value {
        json!({"status": self.status.name(), "reason": self.reason, "operator": self.operator,
               "time_ns": self.time_ns})
    }

    /// From a line of the worker's protocol.
    pub fn from_json(value: &Value) -> Option<Outcome> {
        Some(Outcome {
            status: Status::from_name(value["status"].as_str()?)?,
            reason: value["reason"].as_str()?.to_owned(),
            operator: value["operator"].as_str().map(str::to_owned),
            time_ns: value["time_ns"].as_u64()?,
        })
    }
}

/// Why a case did not pass.
struct Trouble {
    status: Status,
    reason: String,
}

impl Trouble {
    fn fail(reason: impl Into<String>) -> Trouble {
        Trouble { status: Status::Fail, reason: reason.into() }
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Trouble {
        let unsupported = match &error {
            Error::Model(error) => matches!(**error, ImportError::Unsupported { .. }),
            Error::Unsupported { .. } => true,
            Error::Step { source, .. } => matches!(source, OpError::Unsupported { .. }),
            _ => false,
        };
        let status = if unsupported { Status::Skip } else { Status::Fail };
        Trouble { status, reason: format!("{} {error}", error.code()) }
    }
}

/// Runs the test sets of a folder.
pub fn run(folder: &Path, rtol: Option<f64>, device: &Device, settings: &Settings) -> Outcome {
    let start = std::time::Instant::now();
    let result = perform(folder, rtol, device, settings);
    let (status, reason) = match result {
        Ok(()) => (Status::Pass, String::new()),
        Err(trouble) => (trouble.status, format::name(&trouble.reason, 300)),
    };
    let time_ns = crate::describe::ns(start.elapsed());
    Outcome { status, reason, operator: only_operator(folder), time_ns }
}

fn perform(folder: &Path, rtol: Option<f64>, device: &Device, settings: &Settings) -> Result<(), Trouble> {
    let model = Model::open(folder.join("model.onnx"))?;
    let session = bind::builder(device, settings, Fallback::Deny).build(&model)?;
    let types = declared(folder, &model);
    for set in protobuf::test_sets(folder) {
        let read = |kind: &str, types: &[TypeProto]| -> Result<Vec<sardonyx::Value>, Trouble> {
            let paths = protobuf::numbered(&set, kind).into_iter().enumerate();
            let value = |(index, path): (usize, PathBuf)| {
                let declared = types.get(index).unwrap_or(&TypeProto::Unspecified);
                protobuf::read_value(&path, declared).map_err(|failure| Trouble::fail(failure.message()))
            };
            paths.map(value).collect()
        };
        let inputs = read("input", &types.inputs)?;
        let specs = model.inputs();
        if inputs.len() != specs.len() {
            return Err(Trouble::fail(format!(
                "{} inputs are given, the model has {}",
                inputs.len(),
                specs.len()
            )));
        }
        let named: Inputs<'_> = specs.iter().map(|spec| &*spec.name).zip(&inputs).collect();
        let outputs = session.run(named)?;
        let wanted = read("output", &types.outputs)?;
        if wanted.len() != outputs.len() {
            return Err(Trouble::fail(format!("{} outputs, {} are wanted", outputs.len(), wanted.len())));
        }
        for ((name, got), want) in outputs.values().zip(&wanted) {
            let name = format::name(name, 40);
            let forms = [got, want].map(|value| value.map(&mut |_| ()));
            if forms[0] != forms[1] {
                return Err(Trouble::fail(format!("{name}: got {}, want {}", form(got), form(want))));
            }
            for (got, want) in got.tensors().into_iter().zip(want.tensors()) {
                let official = Tolerance::official(want.dtype());
                // A looser tolerance of the suite counts, never a tighter one than the official.
                let rtol = rtol.map_or(official.rtol, |rtol| rtol.max(official.rtol));
                let comparison = compare(got, want, Tolerance { rtol, ..official });
                if !comparison.passes() {
                    return Err(Trouble::fail(format!("{name}: {}", comparison.to_text())));
                }
            }
        }
    }
    Ok(())
}

/// What a model declares about the values that it takes and gives.
struct Declared {
    inputs: Vec<TypeProto>,
    outputs: Vec<TypeProto>,
}

/// The declared types of a model's inputs and outputs; none when the file cannot be read.
fn declared(folder: &Path, model: &Model) -> Declared {
    let types = |all: &[ValueInfoProto]| {
        all.iter().map(|value| value.ty.clone().unwrap_or(TypeProto::Unspecified)).collect()
    };
    let Some(mut proto) = read_model(folder) else { return Declared { inputs: vec![], outputs: vec![] } };
    proto.graph.inputs.retain(|input| model.inputs().iter().any(|spec| spec.name == input.name));
    Declared { inputs: types(&proto.graph.inputs), outputs: types(&proto.graph.outputs) }
}

/// What a value is, with the number of its tensors.
fn form(value: &sardonyx::Value) -> String {
    format!("{} of {} tensors", value.kind(), value.tensors().len())
}

fn read_model(folder: &Path) -> Option<ModelProto> {
    let bytes = map_file(&folder.join("model.onnx")).ok()?;
    onnx::read(bytes, &LoadLimits::default()).ok()
}

/// The operator of a model that has one only. A file that cannot be read has none.
fn only_operator(folder: &Path) -> Option<String> {
    let model = read_model(folder)?;
    let mut names = model.graph.nodes.iter().map(|node| &*node.op_type).filter(|name| *name != "Constant");
    let first = names.next()?.to_owned();
    names.all(|name| name == first).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_travel_as_json() {
        let outcome = Outcome {
            status: Status::Skip,
            reason: "a \"b\"".into(),
            operator: Some("Relu".into()),
            time_ns: 7,
        };
        assert_eq!(Outcome::from_json(&outcome.to_json()), Some(outcome));
        assert_eq!(Outcome::from_json(&json!({"status": "odd", "reason": "", "time_ns": 1})), None);
        let refused = Trouble::from(Error::Unsupported {
            node: "n".into(),
            op: "Op",
            device: "cpu".into(),
            why: "w".into(),
        });
        assert_eq!(refused.status, Status::Skip);
        assert_eq!(Trouble::from(Error::Internal("x".into())).status, Status::Fail);
    }
}
