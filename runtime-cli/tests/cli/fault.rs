//! A fault planted in a kernel is found: at its step of a deep model, and in a model cut down to it.

use super::model;
use super::schema::fits;
use super::{Scratch, sardonyx};

const BLOCKS: usize = 26;
const WIDE: usize = 22;

/// The GPUs of this machine. `SARDONYX_TEST_ADAPTERS` demands some, as for the tests across crates.
fn gpus(scratch: &Scratch) -> Vec<String> {
    let document = sardonyx(scratch, &["devices", "--json"]).json();
    let devices = document["devices"].as_array().unwrap();
    let gpus: Vec<String> = devices
        .iter()
        .filter(|device| device["kind"] != "cpu")
        .map(|device| device["id"].as_str().unwrap().to_owned())
        .collect();
    let demanded = std::env::var("SARDONYX_TEST_ADAPTERS").unwrap_or_default();
    let demanded = demanded.split(',').filter(|wanted| !wanted.trim().is_empty()).count();
    assert!(gpus.len() >= demanded, "SARDONYX_TEST_ADAPTERS demands {demanded} adapters, not {gpus:?}");
    if gpus.is_empty() {
        eprintln!("*** NO GPU ADAPTER: no fault is planted. ***");
    }
    gpus
}

/// The text of a kernel of Sardonyx.
fn own(name: &str) -> String {
    let file = format!("{}/../shaders/wgsl/{name}.wgsl", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(file).unwrap()
}

/// Puts a kernel with a change into a folder.
fn plant(scratch: &Scratch, folder: &str, name: &str, from: &str, to: &str) {
    let text = own(name);
    assert!(text.contains(from), "{name} has no {from:?}");
    scratch.write(&format!("{folder}/{name}.wgsl"), text.replace(from, to).as_bytes());
}

#[test]
fn a_fault_in_a_kernel_is_found_at_its_step() {
    let scratch = Scratch::new("fault");
    scratch.write("deep.onnx", &model::deep(BLOCKS, WIDE));
    let inspected = sardonyx(&scratch, &["inspect", "deep.onnx", "--json"]).json();
    let nodes = inspected["ops"].as_array().unwrap().iter().map(|op| op["count"].as_u64().unwrap());
    assert!(nodes.sum::<u64>() >= 150, "{inspected}");
    // A quarter too much in lines of more than 16: every block has a softmax, and one of them is wrong.
    for kernel in ["softmax", "softmax_row"] {
        let wrong = "exp(v) / sum * select(1.0, 1.25, params.len > 16u)";
        plant(&scratch, "planted", kernel, "exp(v) / sum", wrong);
    }
    for gpu in gpus(&scratch) {
        let compare = ["compare", "deep.onnx", "--device", &gpu, "--layers", "first", "--json"];
        let sound = sardonyx(&scratch, &compare);
        assert_eq!(sound.code, 0, "{gpu}: {}{}", sound.out, sound.err);
        let small = ["--kernels", "planted", "--isolate", "--reduce", "small.onnx"];
        let ended = sardonyx(&scratch, &[&compare[..], &small].concat());
        assert_eq!(ended.code, 1, "{gpu}: {}{}", ended.out, ended.err);
        assert!(ended.err.contains("kernels of planted stand in"), "{gpu}: {}", ended.err);
        let document = ended.json();
        fits("compare", &document);
        assert_eq!(document["device"]["changed_kernels"], serde_json::json!(["softmax", "softmax_row"]));
        let layers = &document["samples"][0]["layers"];
        let first = &layers["first_divergence"];
        assert_eq!(first["nodes"][0], format!("block_{WIDE}/Softmax"), "{gpu}: {layers}");
        assert_eq!(first["isolated"]["pass"], false, "{gpu}: {layers}");
        let left = layers["reduced"]["nodes"].as_u64().unwrap();
        assert!((1..=3).contains(&left), "{gpu}: {layers}");
        let again = ["compare", "small.onnx", "-i", "small.npz", "--device", &gpu];
        let wrong = sardonyx(&scratch, &[&again[..], &["--kernels", "planted"]].concat());
        assert_eq!(wrong.code, 1, "{gpu}: {}{}", wrong.out, wrong.err);
        let sound = sardonyx(&scratch, &again);
        assert_eq!(sound.code, 0, "{gpu}: {}{}", sound.out, sound.err);
    }
}

#[test]
fn kernels_that_are_wrong_are_left_out() {
    let scratch = Scratch::new("self-test");
    scratch.write("deep.onnx", &model::deep(1, 0));
    plant(&scratch, "planted", "softmax", "exp(v) / sum", "exp(v) / sum * 1.25");
    let gpus = gpus(&scratch);
    let doctor = sardonyx(&scratch, &["doctor", "--kernels", "planted", "--cache", "kept", "--json"]);
    let document = doctor.json();
    fits("doctor", &document);
    assert_eq!(doctor.code, i32::from(!gpus.is_empty()), "{}{}", doctor.out, doctor.err);
    assert!(!scratch.0.join("kept/quarantine.json").exists(), "what is planted is not kept");
    for gpu in &gpus {
        let tests =
            document["kernels"].as_array().unwrap().iter().filter(|test| test["device"] == gpu.as_str());
        let wrong = tests.filter(|test| !test["fault"].is_null());
        let names: std::collections::BTreeSet<&str> =
            wrong.map(|test| test["kernel"].as_str().unwrap()).collect();
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["softmax"], "{gpu}");
    }
    // What doctor keeps of a device is obeyed by the commands after it.
    let devices = sardonyx(&scratch, &["devices", "--json"]).json();
    for device in devices["devices"].as_array().unwrap().iter().filter(|device| device["kind"] != "cpu") {
        let (id, name) = (device["id"].as_str().unwrap(), device["name"].as_str().unwrap());
        let key = format!("{name}, {}", device["driver"].as_str().unwrap());
        let faults = serde_json::json!({"softmax": "wrong", "softmax_row": "wrong"});
        let kept = serde_json::json!({"engine": env!("CARGO_PKG_VERSION"), "devices": {key: faults}});
        scratch.write("kept/quarantine.json", kept.to_string().as_bytes());
        let run = |fallback: &str| {
            let arguments = ["run", "deep.onnx", "--device", id, "--cache", "kept", "--fallback", fallback];
            sardonyx(&scratch, &arguments)
        };
        let denied = run("deny");
        assert_ne!(denied.code, 0, "{id}: {}", denied.out);
        assert!(denied.err.contains("kernels are left out"), "{id}: {}", denied.err);
        assert!(denied.err.contains("softmax: left out on this device"), "{id}: {}", denied.err);
        let allowed = run("allow");
        assert_eq!(allowed.code, 0, "{id}: {}", allowed.err);
        let json =
            sardonyx(&scratch, &["run", "deep.onnx", "--device", id, "--cache", "kept", "--json"]).json();
        assert_eq!(json["device"]["left_out_kernels"], serde_json::json!(["softmax", "softmax_row"]), "{id}");
    }
}

#[test]
fn the_kernels_of_a_plan_can_be_read() {
    let scratch = Scratch::new("texts");
    scratch.write("deep.onnx", &model::deep(2, 0));
    let inspect = |device: &str| {
        sardonyx(&scratch, &["inspect", "deep.onnx", "--device", device, "--wgsl", "texts", "--json"])
    };
    assert!(inspect("cpu").err.contains("the CPU runs no kernels"));
    for gpu in gpus(&scratch) {
        let document = inspect(&gpu).json();
        let shaders = document["shaders"].as_array().unwrap();
        let softmax = shaders.iter().find(|shader| shader["launches"][0]["operator"] == "Softmax").unwrap();
        assert_eq!(softmax["launches"][0]["nodes"][0], "block_0/Softmax", "{gpu}: {softmax}");
        let file = scratch.0.join("texts").join(softmax["file"].as_str().unwrap());
        let text = std::fs::read_to_string(file).unwrap();
        assert!(text.starts_with("// Softmax block_0/Softmax") && text.contains("fn main("), "{gpu}: {text}");
    }
}

#[test]
fn kernels_that_cannot_stand_in_are_refused() {
    let scratch = Scratch::new("unfit");
    scratch.write("deep.onnx", &model::deep(1, 0));
    let on = |device: &str, folder: &str| {
        sardonyx(&scratch, &["run", "deep.onnx", "--device", device, "--kernels", folder])
    };
    scratch.write("unknown/dance.wgsl", b"fn main() {}");
    assert!(on("cpu", "unknown").err.contains("there is no such kernel"));
    plant(&scratch, "cpu", "softmax", "64u", "32u");
    assert!(on("cpu", "cpu").err.contains("the CPU runs no kernels"));
    let broken = [
        ("syntax", "fn one(", "fn fn one(", "reserved keyword"),
        ("parameters", "lines: u32, len: u32", "len: u32, lines: u32", "must have the parameters"),
        ("workgroup", "@workgroup_size(WORKGROUP)", "@workgroup_size(1)", "must have workgroups of"),
        ("knob", "const VECTOR = 0u;", "const VECTOR = 0u + 0u;", ""),
        ("no-knob", "const VECTOR = 0u;", "override VECTOR = 0u;", "there is no line"),
    ];
    for gpu in gpus(&scratch) {
        for (folder, from, to, says) in broken {
            for kernel in ["softmax", "softmax_row"] {
                let from =
                    if kernel == "softmax_row" { from.replace("fn one(", "fn load(") } else { from.into() };
                let to = if kernel == "softmax_row" { to.replace("fn one(", "fn load(") } else { to.into() };
                plant(&scratch, folder, kernel, &from, &to);
            }
            let ended = on(&gpu, folder);
            let wanted = if says.is_empty() { 0 } else { 2 };
            assert_eq!(ended.code, wanted, "{gpu}, {folder}: {}", ended.err);
            assert!(ended.err.contains(says), "{gpu}, {folder}: {}", ended.err);
        }
    }
}
