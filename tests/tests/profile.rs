//! Profiles account for the whole run on every device, and the results of steps are those of the CPU.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "test code")]

use std::collections::HashMap;
use std::time::Duration;

use sardonyx::{Device, Fallback, HostStage, Model, Session, SessionBuilder, Tensor};
use sardonyx_tests::{Random, difference, gpu_turn, gpus};

fn model() -> Model {
    Model::open(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/detector/parts.onnx")).unwrap()
}

fn input(model: &Model) -> (String, Tensor) {
    let spec = &model.inputs()[0];
    let dims: Vec<usize> = spec.shape.iter().flatten().map(|dim| dim.known().unwrap_or(1)).collect();
    (spec.name.to_string(), Random(5).tensor(&dims))
}

fn builder(device: &Device) -> SessionBuilder {
    Session::builder().device(device.clone()).fallback(Fallback::Allow).threads(2)
}

fn devices() -> Vec<Device> {
    std::iter::once(Device::cpu()).chain(gpus().iter().cloned()).collect()
}

#[test]
fn every_part_of_a_run_is_accounted_for() {
    let _turn = gpu_turn();
    let model = model();
    let (name, tensor) = input(&model);
    for device in devices() {
        let id = device.info().id.clone();
        let session = builder(&device).shape(&name, tensor.dims()).build(&model).unwrap();
        let profile = session.profile([(name.as_str(), &tensor)], 3).unwrap();
        assert_eq!((profile.runs.len(), profile.plain.len()), (3, 3), "{id}");
        for run in &profile.runs {
            let sum: Duration = HostStage::ALL.iter().map(|&stage| run.stage(stage)).sum();
            assert_eq!(sum, run.total, "{id}");
            assert!(!run.spans.is_empty(), "{id}");
            let gpu = device.info().id != "cpu";
            let busy = if gpu { run.on_device() } else { run.on_cpu() };
            assert!(busy > Duration::ZERO && busy <= run.total, "{id}: {busy:?} of {:?}", run.total);
            for span in &run.spans {
                let end = span.start + span.duration;
                assert!(end <= run.total + run.alignment + Duration::from_micros(50), "{id}: {span:?}");
                let step = &run.steps[span.step];
                assert!(
                    step.kernels.len() > span.kernel && step.flops > 0 && step.bytes > 0,
                    "{id}: {step:?}"
                );
                assert!(!step.nodes.is_empty() && !step.outputs.is_empty(), "{id}: {step:?}");
            }
        }
        println!("{id}: {:?}", profile.clock);
    }
}

#[test]
fn taps_show_the_plan_that_runs() {
    let _turn = gpu_turn();
    let model = model();
    let (name, tensor) = input(&model);
    let mut right: HashMap<String, Tensor> = HashMap::new();
    for device in devices() {
        let id = device.info().id.clone();
        let plain = builder(&device).shape(&name, tensor.dims()).build(&model).unwrap();
        let tapped = builder(&device).shape(&name, tensor.dims()).taps().build(&model).unwrap();
        let want = plain.run([(name.as_str(), &tensor)]).unwrap();
        let (got, taps) = tapped.run_tapped([(name.as_str(), &tensor)]).unwrap();
        assert_eq!(plain.placement().steps, tapped.placement().steps, "{id}");
        assert_eq!(got.len(), want.len(), "{id}");
        for ((name, got), (_, want)) in got.iter().zip(want.iter()) {
            // On the CPU a value that is wanted keeps its channels apart, and sums go in another order than in blocks.
            let most = if id == "cpu" { 1e-5 } else { 0.0 };
            let off = difference(got, want);
            assert!(off <= most, "{id}: {name} is off by {off}");
        }
        assert!(taps.len() > 10, "{id}: {}", taps.len());
        for value in taps.iter().flat_map(|tap| &tap.values) {
            match right.get(&*value.name) {
                Some(want) => {
                    let off = difference(&value.tensor, want);
                    assert!(off < 1e-3, "{id}: {} is off by {off}", value.name);
                }
                None if id == "cpu" => drop(right.insert(value.name.to_string(), value.tensor.clone())),
                None => {}
            }
        }
    }
}

#[test]
fn what_lies_in_place_is_tapped_under_its_own_name() {
    let _turn = gpu_turn();
    let model = model();
    let (name, tensor) = input(&model);
    for device in devices() {
        let id = device.info().id.clone();
        let mut as_written = builder(&device).shape(&name, tensor.dims()).taps();
        for pass in sardonyx_importer::passes::names() {
            as_written = as_written.disable_pass(pass);
        }
        let (_, taps) = as_written.build(&model).unwrap().run_tapped([(name.as_str(), &tensor)]).unwrap();
        let values: HashMap<&str, &Tensor> =
            taps.iter().flat_map(|tap| &tap.values).map(|value| (&*value.name, &value.tensor)).collect();
        // The parts of this one are written where it lies: the step itself does nothing.
        let parts = ["pool/reduce/Mul", "pool/first/MaxPool", "pool/second/MaxPool"];
        let parts = parts.map(|part| values[format!("{part}_output_0").as_str()]);
        let whole = values["pool/concat/Concat_output_0"];
        let dims = parts[0].dims();
        assert_eq!(whole.dims(), [dims[0], 3 * dims[1], dims[2], dims[3]], "{id}");
        assert_eq!(whole.bytes(), parts.map(Tensor::bytes).concat(), "{id}");
    }
}
