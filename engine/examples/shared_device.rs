//! A host program that shares its wgpu device with the engine: it encodes a model into its own frame, and reads the
//! result from its own buffer. `cargo run --release --example shared_device`.

#![allow(clippy::print_stdout, reason = "an example that prints its result")]

use std::error::Error;

use sardonyx::{DType, Device, DeviceTensor, Model, Session, wgpu};

const PICTURE: [usize; 4] = [1, 3, 240, 320];
const SCORES: [usize; 3] = [1, 1200, 6];

/// One frame.
pub fn main() -> Result<(), Box<dyn Error>> {
    // What a renderer has anyway: an adapter, a device, a queue.
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    let Some(adapter) = adapters.first() else {
        println!("no GPU here");
        return Ok(());
    };
    let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
        required_features: Device::required_features(adapter),
        required_limits: Device::required_limits(adapter),
        ..Default::default()
    }))?;

    let model = Model::open(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/detector/parts.onnx"))?;
    let engine = Device::from_wgpu(adapter, device.clone(), queue.clone());
    let session = Session::builder().device(engine).dim("batch", 1).build(&model)?;

    // The host's own buffers, with room for whole groups, so that kernels work in them directly.
    let buffer = |size: u64, usage: wgpu::BufferUsages| {
        device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
    };
    let storage = wgpu::BufferUsages::STORAGE;
    let picture = buffer(DeviceTensor::room(DType::F32, &PICTURE)?, storage | wgpu::BufferUsages::COPY_DST);
    let scores = buffer(DeviceTensor::room(DType::F32, &SCORES)?, storage | wgpu::BufferUsages::COPY_SRC);
    let bytes = (SCORES.iter().product::<usize>() * 4) as u64;
    let visible = buffer(bytes, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST);
    let mut context = session.context()?;
    context
        .bind_input("image", DeviceTensor::from_wgpu(DType::F32, &PICTURE, picture.clone(), 0)?)?
        .bind_output("scores", &DeviceTensor::from_wgpu(DType::F32, &SCORES, scores.clone(), 0)?)?;

    // A frame: the picture is made, the model runs, its result is used, all in one submission.
    let grey = vec![0.5f32; PICTURE.iter().product()];
    queue.write_buffer(&picture, 0, bytemuck::cast_slice(&grey));
    let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    context.encode(&mut encoder)?;
    encoder.copy_buffer_to_buffer(&scores, 0, &visible, 0, Some(bytes));
    queue.submit([encoder.finish()]);

    visible.map_async(wgpu::MapMode::Read, .., |_| {});
    device.poll(wgpu::PollType::wait_indefinitely())?;
    let mapped = visible.get_mapped_range(..)?;
    let best = bytemuck::cast_slice::<u8, f32>(&mapped).iter().fold(0.0f32, |best, &score| best.max(score));
    println!("best score on a grey picture {best:.3}, on {}", adapter.get_info().name);
    Ok(())
}
