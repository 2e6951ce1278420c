//! Heap allocations of a run, counted. What a session does for the caller's convenience (finding inputs by name, handing
//! out outputs) is not in it: a context is what hosts use that run again and again. Kernels on the CPU have their working
//! memory from the program; only products of two large computed matrices take some in the crate `gemm`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code")]
#![allow(
    unsafe_code,
    reason = "an allocator is unsafe to write; this one passes everything on to the system's"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use sardonyx::{DType, Device, DeviceTensor, Session, Tensor, wgpu};
use sardonyx_tests::onnx::{model, node};
use sardonyx_tests::{gpu_turn, gpus};

struct Counting;

static COUNT: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` comes from `System` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const RUNS: usize = 32;

/// Allocations of one run, on average after warming up.
fn counted(mut run: impl FnMut()) -> f64 {
    (0..4).for_each(|_| run());
    let before = COUNT.load(Ordering::Relaxed);
    (0..RUNS).for_each(|_| run());
    (COUNT.load(Ordering::Relaxed) - before) as f64 / RUNS as f64
}

/// A session of `steps` matrix products, and how many steps the plan has.
fn products(device: &Device, steps: usize) -> Session {
    let names: Vec<String> = (0..=steps).map(|step| format!("x{step}")).collect();
    let nodes: Vec<Vec<u8>> =
        names.windows(2).map(|pair| node("MatMul", &[&pair[0], "w"], &pair[1])).collect();
    let model = model(&nodes, &[8, 8], &["x0", "w"], &[&names[steps]]);
    Session::builder().device(device.clone()).threads(1).build(&model).unwrap()
}

/// As many dispatches with wgpu alone, each reading what the one before it wrote: what every program takes.
struct Bare {
    pipeline: wgpu::ComputePipeline,
    groups: Vec<wgpu::BindGroup>,
}

impl Bare {
    fn new(device: &wgpu::Device, dispatches: usize) -> Bare {
        let source = "@group(0) @binding(0) var<storage, read> x: array<f32>;
            @group(0) @binding(1) var<storage, read> w: array<f32>;
            @group(0) @binding(2) var<storage, read_write> y: array<f32>;
            @group(0) @binding(3) var<uniform> size: vec4<u32>;
            @compute @workgroup_size(1) fn main() { y[0] = x[0] + w[size.x]; }";
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: None,
            source: wgpu::ShaderSource::Wgsl(source.into()),
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: None,
            module: &module,
            entry_point: None,
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            cache: None,
        });
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::UNIFORM;
        let descriptor = wgpu::BufferDescriptor { label: None, size: 256, usage, mapped_at_creation: false };
        let [first, second, weights, sizes] = [(); 4].map(|()| device.create_buffer(&descriptor));
        let group = |index: usize| {
            let (x, y) = if index.is_multiple_of(2) { (&first, &second) } else { (&second, &first) };
            let entries: [wgpu::BindGroupEntry<'_>; 4] = std::array::from_fn(|index| wgpu::BindGroupEntry {
                binding: index as u32,
                resource: [x, &weights, y, &sizes][index].as_entire_binding(),
            });
            device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: None,
                layout: &pipeline.get_bind_group_layout(0),
                entries: &entries,
            })
        };
        let groups = (0..dispatches).map(group).collect();
        Bare { pipeline, groups }
    }

    fn run(&self, device: &wgpu::Device, queue: &wgpu::Queue) {
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        for group in &self.groups {
            pass.set_pipeline(&self.pipeline);
            pass.set_bind_group(0, group, &[]);
            pass.dispatch_workgroups(1, 1, 1);
        }
        drop(pass);
        queue.submit([encoder.finish()]);
        device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
    }
}

#[test]
fn a_run_takes_nothing_from_the_heap_but_what_wgpu_does() {
    let _turn = gpu_turn();
    let tensor = Tensor::zeroed(DType::F32, &[8, 8]).unwrap();
    for steps in [10, 40] {
        let session = products(&Device::cpu(), steps);
        let mut context = session.context().unwrap();
        context.bind_input("x0", &tensor).unwrap().bind_input("w", &tensor).unwrap();
        let count = counted(|| context.run().unwrap());
        println!("cpu: {count} allocations a run of {steps} steps");
        assert_eq!(count, 0.0);
    }
    for device in gpus() {
        for steps in [10, 40] {
            let session = products(device, steps);
            let on_device = || DeviceTensor::upload(device, &tensor).unwrap();
            let mut context = session.context().unwrap();
            context.bind_input("x0", on_device()).unwrap().bind_input("w", on_device()).unwrap();
            context.bind_output(&format!("x{steps}"), &on_device()).unwrap();
            let (wgpu, queue) = device.wgpu().unwrap();
            let count = counted(|| {
                context.run().unwrap();
                wgpu.poll(wgpu::PollType::wait_indefinitely()).unwrap();
            });
            let bare = Bare::new(wgpu, session.placement().dispatches);
            let least = counted(|| bare.run(wgpu, queue));
            println!(
                "{}: {count} allocations a run of {steps} steps, {least} of them wgpu's",
                device.info().id
            );
        }
    }
}
