//! What a run costs the host: recording and submitting a program of 100 dispatches that do next to nothing, by the CPU
//! time of the calling thread. `cargo bench --workspace --bench host_time`.

#![allow(clippy::unwrap_used, reason = "a benchmark")]

use cpu_time::ThreadTime;
use criterion::{Criterion, Throughput};
use sardonyx::{DeviceTensor, Session, Tensor, wgpu};
use sardonyx_tests::{gpus, onnx};

const STEPS: usize = 100;

/// What a benchmark times.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Record,
    RecordAndSubmit,
}

fn main() {
    let names: Vec<String> = (0..=STEPS).map(|step| format!("x{step}")).collect();
    let nodes: Vec<Vec<u8>> =
        names.windows(2).map(|pair| onnx::node("MatMul", &[&pair[0], "w"], &pair[1])).collect();
    let model = onnx::model(&nodes, &[4, 4], &["x0", "w"], &[&names[STEPS]]);
    // Most of the time goes by while devices work, which is not counted.
    let seconds = std::time::Duration::from_secs;
    let mut criterion =
        Criterion::default().warm_up_time(seconds(1)).measurement_time(seconds(2)).configure_from_args();
    let mut group = criterion.benchmark_group("host time");
    for device in gpus() {
        let session = Session::builder().device(device.clone()).build(&model).unwrap();
        let mut context = session.context().unwrap();
        let values = (0..16).map(|index| (index % 5) as f32 / 8.0).collect();
        let values = Tensor::from_vec(&[4, 4], values).unwrap();
        let tensor = || DeviceTensor::upload(device, &values).unwrap();
        context.bind_input("x0", tensor()).unwrap().bind_input("w", tensor()).unwrap();
        context.bind_output(&names[STEPS], &tensor()).unwrap();
        let (wgpu, queue) = device.wgpu().unwrap();
        let mut once = |part: Part| {
            let start = ThreadTime::now();
            let mut encoder = wgpu.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            context.encode(&mut encoder).unwrap();
            let commands = encoder.finish();
            let recorded = start.elapsed();
            queue.submit([commands]);
            let submitted = start.elapsed();
            wgpu.poll(wgpu::PollType::wait_indefinitely()).unwrap();
            if part == Part::Record { recorded } else { submitted }
        };
        // The rate is of dispatches.
        group.throughput(Throughput::Elements(session.placement().dispatches as u64));
        let name = |what: &str| format!("{what} on {} {}", device.info().id, device.info().name);
        for (what, part) in [("record", Part::Record), ("record and submit", Part::RecordAndSubmit)] {
            group.bench_function(name(what), |bencher| {
                bencher.iter_custom(|runs| (0..runs).map(|_| once(part)).sum());
            });
        }
    }
    group.finish();
}
