//! Heap allocations of a run, counted. What a session does for the caller's convenience (finding inputs by name, handing
//! out outputs) is not in it: a context is what hosts use that run again and again.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code")]
#![allow(
    unsafe_code,
    reason = "an allocator is unsafe to write; this one passes everything on to the system's"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use sardonyx::{DType, Device, DeviceTensor, Session, Tensor};
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

#[test]
fn a_run_takes_little_from_the_heap() {
    let _turn = gpu_turn();
    let tensor = Tensor::zeroed(DType::F32, &[8, 8]).unwrap();
    let mut growth = Vec::new();
    for steps in [10, 40] {
        let session = products(&Device::cpu(), steps);
        let mut context = session.context().unwrap();
        context.bind_input("x0", &tensor).unwrap().bind_input("w", &tensor).unwrap();
        let count = counted(|| context.run().unwrap());
        println!("cpu: {count} allocations a run of {steps} steps");
        growth.push(count);
    }
    for device in gpus() {
        for steps in [10, 40] {
            let session = products(device, steps);
            let on_device = || DeviceTensor::upload(device, &tensor).unwrap();
            let mut context = session.context().unwrap();
            context.bind_input("x0", on_device()).unwrap().bind_input("w", on_device()).unwrap();
            context.bind_output(&format!("x{steps}"), &on_device()).unwrap();
            let count = counted(|| {
                context.run().unwrap();
                device.wgpu().unwrap().0.poll(sardonyx::wgpu::PollType::wait_indefinitely()).unwrap();
            });
            println!("{}: {count} allocations a run of {steps} steps", device.info().id);
        }
    }
    // The engine takes nothing for a step on the CPU; the kernel of a product takes at most one piece of working memory.
    assert!(growth[1] - growth[0] <= 30.0, "{growth:?}");
}
