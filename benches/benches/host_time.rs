//! What a run costs the host: recording and submitting a program of 100 dispatches that do next to nothing, by the CPU
//! time of the calling thread. `cargo bench --bench host_time`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

use sardonyx::{DType, DeviceTensor, Session, Tensor, wgpu};
use sardonyx_tests::{gpus, onnx};

const STEPS: usize = 100;
const RUNS: usize = 200;

/// Nanoseconds that this thread has run, where the system says so.
fn thread_time() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0)
}

fn main() {
    let names: Vec<String> = (0..=STEPS).map(|step| format!("x{step}")).collect();
    let nodes: Vec<Vec<u8>> =
        names.windows(2).map(|pair| onnx::node("MatMul", &[&pair[0], "w"], &pair[1])).collect();
    let model = onnx::model(&nodes, &[4, 4], &["x0", "w"], &[&names[STEPS]]);
    for device in gpus() {
        let session = Session::builder().device(device.clone()).build(&model).unwrap();
        let mut context = session.context().unwrap();
        let tensor = || DeviceTensor::upload(device, &Tensor::zeroed(DType::F32, &[4, 4]).unwrap()).unwrap();
        context.bind_input("x0", tensor()).unwrap().bind_input("w", tensor()).unwrap();
        context.bind_output(&names[STEPS], &tensor()).unwrap();
        let (wgpu, queue) = device.wgpu().unwrap();
        let mut times: Vec<u64> = (0..RUNS)
            .map(|_| {
                let start = thread_time();
                let mut encoder = wgpu.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
                context.encode(&mut encoder).unwrap();
                queue.submit([encoder.finish()]);
                let took = thread_time() - start;
                wgpu.poll(wgpu::PollType::wait_indefinitely()).unwrap();
                took
            })
            .collect();
        times.sort_unstable();
        let dispatches = session.placement().dispatches;
        let each = |at: usize| times[at] as f64 / 1e3 / dispatches as f64;
        println!(
            "{} {}: {dispatches} dispatches, host time per dispatch median {:.2} us, best {:.2} us",
            device.info().id,
            device.info().name,
            each(RUNS / 2),
            each(0)
        );
    }
}
