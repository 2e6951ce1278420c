//! Plans on disk: what is saved is what runs again, and what does not fit is refused.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "test code")]

use sardonyx::{Device, DeviceKind, Error, Model, Precision, SavedPlan, Session, SessionBuilder, Tensor};
use sardonyx_tests::onnx::{model, node};
use sardonyx_tests::{Random, difference, gpu_turn, gpus};

const SIZE: usize = 65;

fn product() -> Model {
    let nodes = [
        node("Relu", &["x"], "a"),
        node("MatMul", &["a", "w"], "b"),
        node("Add", &["b", "x"], "c"),
        node("Softmax", &["c"], "y"),
    ];
    model(&nodes, &[SIZE as u8, SIZE as u8], &["x", "w"], &["y"])
}

fn run(session: &Session) -> Tensor {
    let mut random = Random(7);
    let (x, w) = (random.tensor(&[SIZE, SIZE]), random.tensor(&[SIZE, SIZE]));
    session.run([("x", &x), ("w", &w)]).unwrap()["y"].clone()
}

fn on(device: &Device) -> SessionBuilder {
    Session::builder().device(device.clone())
}

fn devices() -> Vec<Device> {
    if gpus().is_empty() {
        eprintln!("*** NO GPU ADAPTER: plans are saved for the CPU only. ***");
    }
    [&[Device::cpu()], gpus()].concat()
}

/// The reason for which a plan is refused.
fn refusal(device: &Device, plan: SavedPlan) -> String {
    match on(device).plan(plan).build(&product()).map(|_| ()) {
        Err(Error::Plan { what }) => what,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_saved_plan_is_the_plan_that_runs() {
    for device in devices() {
        let _turn = gpu_turn();
        for pass in [None, Some("fuse_epilogue")] {
            let builder = pass.map_or(on(&device), |pass| on(&device).disable_pass(pass));
            let session = builder.precision(Precision::F32).build(&product()).unwrap();
            let text = session.plan().unwrap().to_json();
            let saved = SavedPlan::from_json(&text).unwrap();
            assert_eq!((saved.to_json(), &saved), (text, &session.plan().unwrap()));
            let again = on(&device).plan(saved).build(&product()).unwrap();
            assert_eq!(again.placement(), session.placement());
            assert_eq!(again.plan_digest(), session.plan_digest());
            assert_eq!(run(&again).bytes(), run(&session).bytes());
        }
    }
}

#[test]
fn kernels_are_chosen_in_the_file() {
    let mut chosen = 0;
    for device in devices().iter().filter(|device| device.info().kind != DeviceKind::Cpu) {
        let _turn = gpu_turn();
        let session = on(device).build(&product()).unwrap();
        let want = run(&session);
        for kernel in ["matmul_t4x4", "matmul_w64x64", "matmul_sg"] {
            let mut plan = session.plan().unwrap();
            let step = plan.steps.iter_mut().find(|step| step.op == "MatMul").unwrap();
            let before = std::mem::replace(&mut step.kernels, vec![kernel.to_owned()]);
            match on(device).plan(plan.clone()).build(&product()) {
                Ok(session) => {
                    assert_eq!(session.plan().unwrap(), plan);
                    assert!(difference(&run(&session), &want) < 1e-5, "{kernel} for {before:?}");
                    chosen += 1;
                }
                Err(Error::Plan { what }) => {
                    assert!(what.contains("MatMul") && what.contains(kernel), "{what}");
                    assert_eq!(kernel, "matmul_sg", "a kernel for every device");
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert!(chosen >= 2 * gpus().len(), "{chosen}");
}

#[test]
fn what_is_another_plan_is_refused() {
    let device = Device::cpu();
    let session = on(&device).build(&product()).unwrap();
    let sound = || session.plan().unwrap();
    let with = |change: fn(&mut SavedPlan)| {
        let mut plan = sound();
        change(&mut plan);
        refusal(&device, plan)
    };
    assert!(with(|plan| plan.engine = "0.0.0-old".to_owned()).contains("another engine: 0.0.0-old"));
    assert!(with(|plan| plan.device = "GPU".to_owned()).contains("another device: GPU"));
    assert!(with(|plan| plan.driver = "old".to_owned()).contains("another driver: old"));
    assert!(
        with(|plan| plan.disabled_passes = vec!["fuse_epilogue".to_owned()]).contains("another fused plan")
    );
    assert!(with(|plan| plan.steps[0].op = "Dance".to_owned()).contains("it says Dance of node"));
    assert!(with(|plan| drop(plan.steps.pop())).contains("others than those saved"));
    // Another model that takes the same.
    let other = model(&[node("Relu", &["x"], "y")], &[SIZE as u8, SIZE as u8], &["x", "w"], &["y"]);
    assert!(matches!(on(&device).plan(sound()).build(&other), Err(Error::Plan { .. })));
}

#[test]
fn what_is_planned_in_parts_has_no_plan_to_save() {
    // Which elements are not zero is known when the first part has run.
    let nodes = [node("NonZero", &["x"], "i"), node("Transpose", &["i"], "y")];
    let model = model(&nodes, &[3, 3], &["x"], &["y"]);
    let session = on(&Device::cpu()).build(&model).unwrap();
    assert!(matches!(session.plan(), Err(Error::Plan { .. })));
}

#[test]
fn what_is_no_plan_is_refused() {
    let session = on(&Device::cpu()).build(&product()).unwrap();
    let text = session.plan().unwrap().to_json();
    let refused = |text: &str| matches!(SavedPlan::from_json(text), Err(Error::Plan { .. }));
    for length in (0..text.len() - 2).filter(|&length| text.is_char_boundary(length)) {
        assert!(refused(&text[..length]), "{length} bytes");
    }
    for (from, to) in [
        ("sardonyx.plan/1", "sardonyx.plan/2"),
        ("\"steps\"", "\"stairs\""),
        ("\"precision\": \"model\"", "\"precision\": \"f8\""),
        ("\"dims\": [", "\"dims\": [-"),
        ("\"dims\": [", "\"dims\": [1e99, "),
        ("\"engine\": ", "\"engine\": 1, \"motor\": "),
        ("\"kernels\": []", "\"kernels\": [3]"),
    ] {
        let from = if text.contains(from) { from.to_owned() } else { from.replace(": [", ": [\n        ") };
        let changed = text.replace(&from, to);
        assert!(changed != text && refused(&changed), "{from} {to}");
    }
    assert!(refused(&"[".repeat(100_000)), "deep");
}
