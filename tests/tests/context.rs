//! Contexts: what a host binds, on every device.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "test code")]

use sardonyx::{DType, Device, DeviceTensor, Error, Fallback, Model, Place, Select, Session, Tensor, wgpu};
use sardonyx_tests::onnx::{model, node, node_of};
use sardonyx_tests::{Random, gpu_turn, gpus, numbers};

#[path = "../../engine/examples/shared_device.rs"]
mod shared_device;

const DIMS: [usize; 2] = [3, 17];

/// `next = x + tanh(state)`, `y = relu(next) + state`; all f32 of the same dimensions.
fn recurrent() -> Model {
    let nodes = [
        node("Tanh", &["state"], "t"),
        node("Add", &["x", "t"], "next"),
        node("Relu", &["next"], "r"),
        node("Add", &["r", "state"], "y"),
    ];
    model(&nodes, &DIMS.map(|dim| dim as u8), &["x", "state"], &["y", "next"])
}

fn session(device: &Device) -> Session {
    Session::builder().device(device.clone()).fallback(Fallback::Deny).threads(1).build(&recurrent()).unwrap()
}

/// Three frames by plain arithmetic: the outputs `y`, and the last state.
fn expected(frames: &[Tensor]) -> (Vec<Vec<f64>>, Vec<f64>) {
    let mut state = vec![0.0; frames[0].len()];
    let all = frames.iter().map(|frame| {
        let next: Vec<f64> =
            numbers(frame).iter().zip(&state).map(|(x, s): (&f64, &f64)| x + s.tanh()).collect();
        let y = next.iter().zip(&state).map(|(n, s)| n.max(0.0) + s).collect();
        state = next;
        y
    });
    (all.collect(), state)
}

fn close(got: &Tensor, want: &[f64]) {
    for (got, want) in numbers(got).iter().zip(want) {
        assert!((got - want).abs() < 1e-5, "{got} {want}");
    }
}

fn frames() -> Vec<Tensor> {
    let mut random = Random(5);
    (0..3).map(|_| random.tensor(&DIMS)).collect()
}

#[test]
fn state_stays_on_the_device() {
    let _turn = gpu_turn();
    let frames = frames();
    let (want, last) = expected(&frames);
    for gpu in gpus() {
        let session = session(gpu);
        let new = || DeviceTensor::new(gpu, DType::F32, &DIMS).unwrap();
        // From one tensor into another and back; and in one tensor all the time.
        let one = new();
        for [mut old, mut next] in [[new(), new()], [one.clone(), one]] {
            let mut context = session.context().unwrap();
            for (frame, want) in frames.iter().zip(&want) {
                context.bind_input("x", frame).unwrap().bind_input("state", &old).unwrap();
                context.bind_output("next", &next).unwrap().run().unwrap();
                close(&context.output("y").unwrap(), want);
                std::mem::swap(&mut old, &mut next);
            }
            close(&old.download(gpu).unwrap(), &last);
            assert!(matches!(context.output("next"), Err(Error::Bind { .. })));
        }
    }
}

#[test]
fn a_hosts_buffers_serve_at_any_offset() {
    let _turn = gpu_turn();
    let frames = frames();
    let (want, _) = expected(&frames[..1]);
    for gpu in gpus() {
        let (device, queue) = gpu.wgpu().unwrap();
        let bytes = (DIMS[0] * DIMS[1] * 4) as u64;
        for (offset, room) in [(0, 64), (256, 64), (4, 0), (260, 0)] {
            let buffer = |usage: wgpu::BufferUsages| {
                device.create_buffer(&wgpu::BufferDescriptor {
                    label: None,
                    size: offset + bytes + room,
                    usage: usage | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
                    mapped_at_creation: false,
                })
            };
            let storage = wgpu::BufferUsages::STORAGE;
            let tensor = |buffer| DeviceTensor::from_wgpu(DType::F32, &DIMS, buffer, offset).unwrap();
            let x = tensor(buffer(storage));
            queue.write_buffer(x.buffer().0, offset, frames[0].bytes());
            let state = tensor(buffer(wgpu::BufferUsages::empty()));
            let y = tensor(buffer(storage));
            let session = session(gpu);
            let mut context = session.context().unwrap();
            context.bind_input("x", &x).unwrap().bind_input("state", &state).unwrap();
            context.bind_output("y", &y).unwrap();
            let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            context.encode(&mut encoder).unwrap();
            queue.submit([encoder.finish()]);
            close(&y.download(gpu).unwrap(), &want[0]);
            context.run().unwrap();
            close(&y.download(gpu).unwrap(), &want[0]);
            close(&context.output("next").unwrap(), &numbers(&frames[0]));
        }
        assert!(DeviceTensor::from_wgpu(DType::F32, &[1 << 20], buffer_of(device), 0).is_err());
    }
}

fn buffer_of(device: &wgpu::Device) -> wgpu::Buffer {
    let usage = wgpu::BufferUsages::STORAGE;
    device.create_buffer(&wgpu::BufferDescriptor { label: None, size: 256, usage, mapped_at_creation: false })
}

/// `a` and `b` lie within what is joined of them, and so do `c` and `d`, which are taken out of it.
#[test]
fn outputs_that_lie_within_others_reach_a_hosts_tensors() {
    let _turn = gpu_turn();
    let dims = [16, 4];
    let nodes = [
        node("Relu", &["x"], "a"),
        node("Neg", &["x"], "b"),
        node_of("Concat", &["a", "b"], &["all"], &[("axis", 0)]),
        node_of("Split", &["all"], &["c", "d"], &[("axis", 0)]),
    ];
    let model = model(&nodes, &dims.map(|dim| dim as u8), &["x"], &["b", "c"]);
    let x = Random(8).tensor(&dims);
    let negative: Vec<f64> = numbers(&x).iter().map(|x| -x).collect();
    let positive: Vec<f64> = numbers(&x).iter().map(|x| x.max(0.0)).collect();
    for gpu in gpus() {
        let session = Session::builder().device(gpu.clone()).fallback(Fallback::Deny).build(&model).unwrap();
        let views = session.placement().steps.iter().filter(|step| matches!(step.place, Place::View)).count();
        assert_eq!(views, 2);
        let tensor = || DeviceTensor::new(gpu, DType::F32, &dims).unwrap();
        let (b, c) = (tensor(), tensor());
        let mut context = session.context().unwrap();
        context.bind_input("x", &x).unwrap().bind_output("b", &b).unwrap();
        context.bind_output("c", &c).unwrap().run().unwrap();
        close(&b.download(gpu).unwrap(), &negative);
        close(&c.download(gpu).unwrap(), &positive);
    }
}

#[test]
fn contexts_run_on_the_cpu_too() {
    let frames = frames();
    let (want, _) = expected(&frames[..1]);
    let session = session(&Device::cpu());
    let mut context = session.context().unwrap();
    assert!(matches!(context.run(), Err(Error::Bind { .. })));
    let state = Tensor::zeroed(DType::F32, &DIMS).unwrap();
    context.bind_input("x", &frames[0]).unwrap().bind_input("state", state).unwrap().run().unwrap();
    close(&context.output("y").unwrap(), &want[0]);
    assert!(matches!(context.bind_input("z", &frames[0]), Err(Error::UnknownName { .. })));
    let other = Tensor::zeroed(DType::F32, &[3, 16]).unwrap();
    assert!(matches!(context.bind_input("x", other), Err(Error::Bind { .. })));
    assert!(DeviceTensor::new(&Device::cpu(), DType::F32, &DIMS).is_err());
}

#[test]
fn a_lost_device_is_an_error_and_a_new_one_works() {
    let _turn = gpu_turn();
    let frames = frames();
    for gpu in gpus() {
        let device = Device::open(Select::Name(&gpu.info().id)).unwrap();
        let lost = session(&device);
        let state = Tensor::zeroed(DType::F32, &DIMS).unwrap();
        let run = |session: &Session| session.run([("x", &frames[0]), ("state", &state)]);
        run(&lost).unwrap();
        device.wgpu().unwrap().0.destroy();
        for _ in 0..3 {
            let error = run(&lost).unwrap_err();
            assert!(matches!(error, Error::Device { .. }) && error.retryable(), "{error:?}");
        }
        drop(lost);
        let again = Device::open(Select::Name(&gpu.info().id)).unwrap();
        close(&run(&session(&again)).unwrap()["next"], &numbers(&frames[0]));
    }
}

#[test]
fn a_host_encodes_a_model_into_its_own_frame() {
    let _turn = gpu_turn();
    shared_device::main().unwrap();
}
