//! The self-test of devices.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code")]

use std::collections::BTreeSet;

use sardonyx::{Fallback, Place, Session, Tensor};
use sardonyx_shaders::table;
use sardonyx_tests::onnx::{model, node};
use sardonyx_tests::{gpu_turn, gpus};

#[test]
fn every_kernel_is_right_here_and_a_wrong_one_is_found_and_left_out() {
    let _turn = gpu_turn();
    for device in gpus() {
        let mut problems = 0;
        let tests = device.self_test(&mut || problems += 1).unwrap();
        let wrong: Vec<_> = tests.iter().filter(|test| test.fault.is_some()).collect();
        assert!(wrong.is_empty(), "{device:?}: {wrong:#?}");
        let kernels: BTreeSet<&str> = tests.iter().map(|test| test.kernel.as_str()).collect();
        println!("{device:?}: {} kernels, {} tests, {problems} problems", kernels.len(), tests.len());
        assert!(kernels.len() >= 30 && problems >= 50, "{kernels:?}");

        let text = table::SOFTMAX.source.replace("exp(v) / sum", "exp(v) / sum * 1.25");
        let planted = device.with_kernels([("softmax".to_owned(), text)]).unwrap();
        let tests = planted.self_test(&mut || ()).unwrap();
        let wrong = tests.iter().filter(|test| test.fault.is_some()).map(|test| test.kernel.clone());
        let wrong: BTreeSet<String> = wrong.collect();
        assert_eq!(wrong, BTreeSet::from(["softmax".to_owned()]), "{device:?}");

        // Nothing else does such lines on a GPU: that is an error, or the CPU does them if it may.
        let sound = planted.without_kernels(wrong);
        let model = model(&[node("Softmax", &["x"], "y")], &[8, 8], &["x"], &["y"]);
        let build = |fallback| Session::builder().device(sound.clone()).fallback(fallback).build(&model);
        let denied = build(Fallback::Deny).err().unwrap();
        assert!(denied.to_string().contains("softmax: left out on this device"), "{denied}");
        let session = build(Fallback::Allow).unwrap();
        let x = Tensor::from_vec(&[8, 8], (0..64).map(|i| (i % 7) as f32).collect()).unwrap();
        let outputs = session.run([("x", &x)]).unwrap();
        for row in outputs["y"].to_vec::<f32>().unwrap().chunks(8) {
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5, "{device:?}: {row:?}");
        }
        let place = &session.placement().steps[0].place;
        assert!(matches!(place, Place::Cpu { reason } if reason.contains("left out")), "{place:?}");
    }
    assert!(sardonyx::Device::cpu().self_test(&mut || ()).unwrap().is_empty());
}
