//! Every model and tensor of the shared collections decodes.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "clippy's exemption for tests does not reach their helpers"
)]

use std::path::{Path, PathBuf};
use std::time::Instant;

use sardonyx_importer::onnx::{self, LoadLimits, TypeProto};
use sardonyx_ops::Item;

/// The shared collections, or `None` (said loudly) when this machine has none.
fn shared() -> Option<PathBuf> {
    let folder = match std::env::var_os("SARDONYX_SHARED") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
    };
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("NOT TESTED: there is no {}; set SARDONYX_SHARED", folder.display());
    None
}

/// All files below a folder with this extension, sorted.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|e| e == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn models_and_their_initializers_decode() {
    let Some(shared) = shared() else { return };
    let limits = LoadLimits::default();
    let (mut models, mut nodes, mut tensors, mut bytes) = (0, 0, 0, 0);
    let mut slowest = (0.0, PathBuf::new());
    // The stripped models' initializers have been emptied, against the rules.
    for (folder, filled) in [("models/real", true), ("models/stripped", false), ("onnx-conformance", true)] {
        for path in files(&shared.join(folder), "onnx") {
            let start = Instant::now();
            let file = sardonyx_importer::map::map_file(&path).unwrap();
            bytes += file.len();
            let read = if filled { onnx::read } else { onnx::read_structure };
            let model = read(file, &limits).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            let seconds = start.elapsed().as_secs_f64();
            if seconds > slowest.0 {
                slowest = (seconds, path.clone());
            }
            for tensor in model.graph.initializers.iter().filter(|_| filled) {
                onnx::to_tensor(tensor, &limits).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                tensors += 1;
            }
            models += 1;
            nodes += model.graph.nodes.len();
        }
    }
    eprintln!("{models} models, {nodes} nodes, {tensors} initializers in {bytes} bytes");
    eprintln!("slowest: {:.1} ms, {}", slowest.0 * 1e3, slowest.1.display());
    assert!(models >= 2000 && nodes >= 10_000 && tensors >= 1000);
}

#[test]
fn test_sets_decode_as_the_graph_declares_them() {
    let Some(shared) = shared() else { return };
    let limits = LoadLimits::default();
    let (mut tensors, mut others, mut unsupported) = (0, 0, Vec::new());
    for path in files(&shared.join("onnx-conformance"), "onnx") {
        let model = onnx::read(sardonyx_importer::map::map_file(&path).unwrap(), &limits).unwrap();
        let graph = &model.graph;
        let is_input = |name: &str| !graph.initializers.iter().any(|t| &*t.name == name);
        let inputs: Vec<_> = graph.inputs.iter().filter(|value| is_input(&value.name)).collect();
        let outputs: Vec<_> = graph.outputs.iter().collect();
        for file in files(path.parent().unwrap(), "pb") {
            let stem = file.file_stem().unwrap().to_str().unwrap();
            let (kind, index) = stem.rsplit_once('_').unwrap();
            let values = if kind == "input" { &inputs } else { &outputs };
            let ty = values[index.parse::<usize>().unwrap()].ty.clone().unwrap_or(TypeProto::Unspecified);
            let bytes = std::fs::read(&file).unwrap().into();
            match onnx::decode_value(bytes, &ty, &limits) {
                Ok(Item::Tensor(tensor)) => {
                    if let TypeProto::Tensor(declared) = &ty {
                        assert_eq!(
                            i64::from(tensor.dtype().to_onnx()),
                            declared.elem_type,
                            "{}",
                            file.display()
                        );
                    }
                    tensors += 1;
                }
                Ok(_) => others += 1,
                Err(error) if error.code() == "SDX-0305" => unsupported.push(file),
                Err(error) => panic!("{}: {error}", file.display()),
            }
        }
    }
    eprintln!("{tensors} tensors, {others} sequences and optionals, not supported: {unsupported:?}");
    assert!(tensors > 6000 && others > 10);
}
