//! Whole models and the ONNX backend cases, imported and run by the operators' references.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "clippy's exemption for tests does not reach their helpers"
)]

mod interpreter;

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use sardonyx_importer::onnx::{LoadLimits, decode_tensor};
use sardonyx_importer::{ImportError, Model, PlanOptions, Work, plan, prepare};
use sardonyx_ops::ir::fact::Fact;
use sardonyx_ops::{DType, Tensor};

/// The shared collections, or `None` (said loudly) when this machine has none.
fn shared() -> Option<PathBuf> {
    let folder = match std::env::var_os("SARDONYX_SHARED") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
    };
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("NOT TESTED: there is no {}; set SARDONYX_SHARED", folder.display());
    None
}

/// The tensors `KIND_0.pb`, `KIND_1.pb` … of a test set.
fn tensors(set: &Path, kind: &str) -> Result<Vec<Tensor>, ImportError> {
    let mut all = Vec::new();
    while let Ok(bytes) = std::fs::read(set.join(format!("{kind}_{}.pb", all.len()))) {
        all.push(decode_tensor(bytes.into(), &LoadLimits::default())?.1);
    }
    Ok(all)
}

/// The elements as numbers; `None` for strings and other types that are compared bit for bit.
fn numbers(tensor: &Tensor) -> Option<Vec<f64>> {
    macro_rules! floats {
        ($rust:ty) => {
            tensor.elements::<$rust>().unwrap().iter().map(|&x| f64::from(x)).collect()
        };
    }
    Some(match tensor.dtype() {
        DType::F32 => floats!(f32),
        DType::F64 => floats!(f64),
        DType::F16 => floats!(f16),
        DType::BF16 => floats!(bf16),
        _ => return None,
    })
}

/// The tolerance of ONNX's own backend tests: 1e-7 absolute plus 1e-3 relative; 1e-6 covers sums in another order.
fn compare(got: &Tensor, expected: &Tensor) -> Result<(), String> {
    if (got.dtype(), got.dims()) != (expected.dtype(), expected.dims()) {
        return Err(format!("{got:?} instead of {expected:?}"));
    }
    let (Some(a), Some(b)) = (numbers(got), numbers(expected)) else {
        let same = got.bytes() == expected.bytes() && got.strings() == expected.strings();
        return if same { Ok(()) } else { Err("other contents".to_owned()) };
    };
    // The official runner's tolerances.
    let relative = if got.dtype() == DType::BF16 { 1.0 / 64.0 } else { 1e-3 };
    for (index, (x, y)) in a.iter().zip(&b).enumerate() {
        let close = x == y || (x.is_nan() && y.is_nan()) || (x - y).abs() <= 1e-6 + relative * y.abs();
        if !close {
            return Err(format!("element {index} is {x} instead of {y}"));
        }
    }
    Ok(())
}

/// Runs one test set of a model; `Ok(None)` when its inputs are not tensors.
fn run_set(model: &Model, set: &Path) -> Result<Option<usize>, String> {
    let text = |error: ImportError| format!("{} {error}", error.code());
    let (Ok(inputs), Ok(expected)) = (tensors(set, "input"), tensors(set, "output")) else { return Ok(None) };
    if inputs.len() != model.inputs().len() || expected.len() != model.outputs().len() {
        return Ok(None);
    }
    let run = interpreter::run(model.graph(), &inputs, &PlanOptions::default()).map_err(text)?;
    for (spec, (got, expected)) in model.outputs().iter().zip(run.outputs.iter().zip(&expected)) {
        compare(got, expected).map_err(|error| format!("{}: {error}", spec.name))?;
    }
    Ok(Some(run.plans.iter().map(|plan| plan.steps.len()).sum()))
}

/// Models of real size plan, and with test sets beside them run: `SARDONYX_SETS` is a folder of
/// `NAME/{model.onnx,test_data_set_0/}`.
#[test]
fn whole_models() {
    let Some(shared) = shared() else { return };
    let only = std::env::var("SARDONYX_CASE").unwrap_or_default();
    let mut files: Vec<PathBuf> = match std::env::var_os("SARDONYX_SETS") {
        Some(sets) => children(Path::new(&sets)).into_iter().map(|set| set.join("model.onnx")).collect(),
        None => children(&shared.join("models/real")),
    };
    files.retain(|path| path.to_string_lossy().contains(&only));
    let mut failures = Vec::new();
    for file in files {
        let folder = file.parent().unwrap();
        let start = std::time::Instant::now();
        let outcome =
            Model::open(&file).map_err(|error| format!("{} {error}", error.code())).and_then(|model| {
                let opened = start.elapsed();
                let prepared = prepare(model.graph(), &PlanOptions::default()).map_err(|e| e.to_string())?;
                let nodes = prepared.graph.nodes.len();
                let set = folder.join("test_data_set_0");
                let steps = if set.is_dir() {
                    let inputs = tensors(&set, "input").map_err(|e| e.to_string())?;
                    let facts: Vec<Fact> =
                        inputs.iter().map(|tensor| Fact::known(tensor.dtype(), tensor.dims())).collect();
                    let stage =
                        plan(&prepared.graph, &facts, &PlanOptions::default()).map_err(|e| e.to_string())?;
                    if std::env::var_os("SARDONYX_PRINT").is_some()
                        && let Work::Compiled(plan) = &stage.work
                    {
                        eprintln!("{plan}");
                    }
                    let first = match &stage.work {
                        Work::Compiled(plan) => format!("{} steps", plan.steps.len()),
                        Work::Evaluate { node, .. } => format!("{} on the host", node.name),
                    };
                    let more = stage
                        .rest
                        .map_or(String::new(), |rest| format!(", {} nodes wait", rest.graph.nodes.len()));
                    let planned = start.elapsed();
                    let run = match std::env::var_os("SARDONYX_RUN") {
                        Some(_) => format!("{:?}", run_set(&model, &set)),
                        None => String::new(),
                    };
                    format!("{first}{more}, planned in {planned:.1?} {run}")
                } else {
                    String::new()
                };
                Ok(format!(
                    "opened in {opened:.1?}, {} nodes, {nodes} prepared, {steps}",
                    model.graph().nodes.len()
                ))
            });
        match outcome {
            Ok(text) => eprintln!("{}: {text}", file.display()),
            Err(error) if error.starts_with("SDX-03") => eprintln!("SKIP {}: {error}", file.display()),
            Err(error) => failures.push(format!("{}: {error}", file.display())),
        }
    }
    failures.iter().for_each(|failure| eprintln!("FAIL {failure}"));
    assert!(failures.is_empty());
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all
}

/// Cases known to fail, with the reason. One that passes must leave the list.
///
/// - JPEG files: the standard leaves the rounding of the inverse transform open, and decoders differ in single steps.
const KNOWN_FAILURES: &[&str] = &[
    "test_image_decoder_decode_jpeg_bgr",
    "test_image_decoder_decode_jpeg_grayscale",
    "test_image_decoder_decode_jpeg_rgb",
];

/// Cases whose outputs are random: they must run and give the right types and shapes, with other elements.
const RANDOM: &str = "test_bernoulli";

/// Every case whose operators are all there must pass.
#[test]
fn backend_cases() {
    let Some(shared) = shared() else { return };
    let only = std::env::var("SARDONYX_CASE").unwrap_or_default();
    let mut folders = children(&shared.join("onnx-conformance/node"));
    folders.retain(|path| path.to_string_lossy().contains(&only));
    let (mut passed, mut unsupported, mut failures) = (0, 0, Vec::new());
    for folder in &folders {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let outcome = match Model::open(folder.join("model.onnx")) {
            Ok(model) => {
                let run = AssertUnwindSafe(|| run_set(&model, &folder.join("test_data_set_0")));
                std::panic::catch_unwind(run).unwrap_or_else(|panic| {
                    let text = panic.downcast_ref::<String>().map_or("panicked", String::as_str);
                    Err(text.to_owned())
                })
            }
            Err(error) => Err(format!("{} {error}", error.code())),
        };
        match outcome {
            Ok(Some(_)) if KNOWN_FAILURES.contains(&&*name) => failures.push(format!("{name}: passes now")),
            Ok(Some(_)) => passed += 1,
            Ok(None) => unsupported += 1,
            // An operator may refuse a variant only when it meets the data.
            Err(error) if error.starts_with("SDX-03") || error.ends_with("is not supported") => {
                unsupported += 1;
                if !only.is_empty() {
                    eprintln!("SKIP {name}: {error}");
                }
            }
            Err(_) if KNOWN_FAILURES.contains(&&*name) => {}
            Err(error) if name.starts_with(RANDOM) && error.contains(": element ") => {
                eprintln!("RANDOM {name}: only its types and shapes are checked");
            }
            Err(error) => failures.push(format!("{name}: {error}")),
        }
    }
    eprintln!("{passed} passed, {} failed, {unsupported} not supported", failures.len());
    failures.iter().for_each(|failure| eprintln!("FAIL {failure}"));
    assert!(passed > 0);
    assert!(failures.is_empty());
}
