//! The same inputs give the same bytes, run after run and from several threads at once.

use std::path::Path;

use sardonyx::{Device, DeviceKind, Fallback, Model, PlanSession, Precision, Session, Tensor};
use sardonyx_importer::{PlanOptions, Work, plan, prepare};
use sardonyx_ops::ir::fact::Fact;
use sardonyx_tests::{Random, gpu_turn, gpus};

use crate::driver::Case;
use crate::graphs::random_graph;
use crate::node::Draw;

/// A random graph bound to a device.
fn bound(case: &Case, device: &Device) -> PlanSession {
    let options = PlanOptions::default();
    let graph = prepare(&case.graph, &options).unwrap().graph;
    let facts: Vec<Fact> =
        case.given.iter().map(|tensor| Fact::known(tensor.dtype(), tensor.dims())).collect();
    let Work::Compiled(plan) = plan(&graph, &facts, &options).unwrap().work else {
        panic!("it has one stage")
    };
    PlanSession::new(plan, device, Fallback::Deny, Precision::Model).unwrap()
}

fn bytes(outputs: &[Tensor]) -> Vec<Vec<u8>> {
    outputs.iter().map(|tensor| tensor.bytes().to_vec()).collect()
}

#[test]
fn random_graphs_repeat_to_the_byte() {
    let _turn = gpu_turn();
    for device in std::iter::once(&Device::cpu()).chain(gpus()) {
        let graphs = if device.info().kind == DeviceKind::Cpu { 40 } else { 2 };
        for seed in 0..graphs {
            let mut draw = Draw::new(1000 + seed, 2);
            draw.no_zeros();
            let (case, text) = random_graph(&mut draw);
            let session = bound(&case, device);
            let want = bytes(&session.run(&case.given).unwrap());
            for round in 0..20 {
                let got = bytes(&session.run(&case.given).unwrap());
                assert!(got == want, "run {round} on {device:?} differs\n{text}");
            }
            let again = bytes(&bound(&case, device).run(&case.given).unwrap());
            assert!(again == want, "another session on {device:?} differs\n{text}");
        }
    }
}

/// The detector of the examples, shared between four threads that each look at another picture.
#[test]
fn a_session_is_shared_between_threads() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/detector");
    let model = Model::open(folder.join("parts.onnx")).unwrap();
    let name = model.inputs()[0].name.to_string();
    let mut random = Random(91);
    let mut picture = || {
        const DIMS: [usize; 4] = [1, 3, 240, 320];
        let all: Vec<f32> = (0..DIMS.iter().product()).map(|_| random.float(0.0, 1.0)).collect();
        Tensor::from_vec(&DIMS, all).unwrap()
    };
    let pictures: Vec<Tensor> = (0..4).map(|_| picture()).collect();
    let run = |session: &Session, picture: &Tensor| -> Vec<Vec<u8>> {
        let outputs = session.run([(name.as_str(), picture)]).unwrap();
        outputs.iter().map(|(_, tensor)| tensor.bytes().to_vec()).collect()
    };
    let _turn = gpu_turn();
    // One GPU stands for all: what threads share is above the drivers.
    for device in std::iter::once(&Device::cpu()).chain(gpus().iter().take(1)) {
        let builder = Session::builder().device(device.clone()).fallback(Fallback::Allow).threads(2);
        let session = builder.build(&model).unwrap();
        let want: Vec<_> = pictures.iter().map(|picture| run(&session, picture)).collect();
        std::thread::scope(|scope| {
            for (picture, want) in pictures.iter().zip(&want) {
                let (session, run) = (&session, &run);
                scope.spawn(move || {
                    for round in 0..3 {
                        assert!(run(session, picture) == *want, "run {round} on {device:?} differs");
                    }
                });
            }
        });
    }
}
