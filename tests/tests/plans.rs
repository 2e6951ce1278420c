//! Plans as text: what is fused and which kernels do it, for each model and set of capabilities, under `tests/plans/`. A
//! change there is to be looked at; `SARDONYX_WRITE=1 cargo test --workspace --test plans` accepts it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "test code")]

use std::fmt::Write;
use std::path::Path;

use sardonyx::{Capabilities, Device, Dim, Model, Place, PlacedStep, Select, Session};
use sardonyx_tests::{gpus, shared, zoo};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/plans");
const DETECTOR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/detector/parts.onnx");

/// A model with the sizes of its inputs.
struct Case {
    name: String,
    model: Model,
    shapes: Vec<(String, Vec<usize>)>,
}

/// The model of this repository, and the trained ones of the shared folder where it is.
fn cases() -> Vec<Case> {
    let detector = Model::open(DETECTOR).unwrap();
    let shapes = detector.inputs().iter().map(|input| {
        let dims = input.shape.iter().flatten().map(|dim| match dim {
            Dim::Known(extent) => *extent,
            _ => 1,
        });
        (input.name.to_string(), dims.collect())
    });
    let shapes = shapes.collect();
    let mut cases = vec![Case { name: "detector".to_owned(), model: detector, shapes }];
    for entry in shared().iter().flat_map(|folder| zoo::real(folder)) {
        let inputs = entry.inputs(0).into_iter();
        let shapes = inputs.map(|(name, tensor)| (name, tensor.dims().to_vec())).collect();
        cases.push(Case { model: Model::open(&entry.file).unwrap(), name: entry.name, shapes });
    }
    cases
}

fn line(step: &PlacedStep) -> String {
    let place = match &step.place {
        Place::Device { kernels } => kernels.join("+"),
        Place::Cpu { reason } if reason.is_empty() => "cpu".to_owned(),
        Place::Cpu { reason } => format!("cpu: {reason}"),
        _ => "view".to_owned(),
    };
    format!("{} [{}] {place}", step.op, step.nodes.join(", "))
}

/// The plan of a model on a device.
fn text(case: &Case, device: &Device) -> String {
    let mut builder = Session::builder().device(device.clone());
    for (name, dims) in &case.shapes {
        builder = builder.shape(name, dims);
    }
    let coverage = builder.check(&case.model).unwrap();
    let (on_device, all) = coverage.placement.on_device();
    let steps = &coverage.placement.steps;
    let mut text = format!("{all} operators in {} steps, {on_device} on the device\n", steps.len());
    steps.iter().for_each(|step| writeln!(text, "{}", line(step)).unwrap());
    coverage.waiting.iter().for_each(|(node, op)| writeln!(text, "{op} [{node}] waits for data").unwrap());
    text
}

#[track_caller]
fn compare(case: &Case, set: &str, fresh: &str) {
    let file = Path::new(FOLDER).join(format!("{}.{set}.txt", case.name));
    if std::env::var_os("SARDONYX_WRITE").is_some() {
        std::fs::create_dir_all(FOLDER).unwrap();
        std::fs::write(&file, fresh).unwrap();
    }
    let known = std::fs::read_to_string(&file).unwrap_or_default();
    let differs = known.lines().zip(fresh.lines()).find(|(known, fresh)| known != fresh);
    assert!(known == fresh, "{} is stale, first at {differs:?}", file.display());
}

#[test]
fn plans_for_the_cpu() {
    cases().iter().for_each(|case| compare(case, "cpu", &text(case, &Device::cpu())));
}

/// Devices narrowed to the same capabilities have the same plans.
#[test]
fn plans_for_what_every_gpu_has() {
    let cases = cases();
    for gpu in gpus() {
        let baseline = Device::open_narrowed(Select::Name(&gpu.info().id), &Capabilities::BASELINE).unwrap();
        cases.iter().for_each(|case| compare(case, "baseline", &text(case, &baseline)));
    }
}
