//! Every function of the WGSL library is valid for every target, and is found under its name.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "test code")]

use naga::back::{hlsl, msl, spv};
use naga::valid::{Capabilities, ValidationFlags, Validator};
use sardonyx_shaders::library;

/// The library's files: (name, text).
fn files() -> Vec<(String, String)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/wgsl/lib");
    let mut all: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            (
                path.file_name().unwrap().to_string_lossy().into_owned(),
                std::fs::read_to_string(&path).unwrap(),
            )
        })
        .collect();
    all.sort();
    all
}

#[test]
fn every_function_is_found_by_its_name() {
    let mut count = 0;
    for (file, text) in files() {
        for line in text.lines().filter(|line| line.starts_with("fn ")) {
            let name = line[3..].split('(').next().unwrap();
            assert!(library::has(name), "{file}: {name}");
            count += 1;
        }
    }
    assert!(count > 200, "only {count} functions");
}

#[test]
fn the_whole_library_translates_to_every_target() {
    let mut source = "struct Long4 { lo: vec4<u32>, hi: vec4<u32> }\n".to_owned();
    files().iter().for_each(|(_, text)| source.push_str(text));
    source.push_str("@compute @workgroup_size(1) fn main() {}\n");
    let module =
        naga::front::wgsl::parse_str(&source).unwrap_or_else(|e| panic!("{}", e.emit_to_string(&source)));
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::empty());
    let info = validator.validate(&module).unwrap_or_else(|e| panic!("{}", e.emit_to_string(&source)));
    assert!(spv::write_vec(&module, &info, &spv::Options::default(), None).unwrap().len() > 1000);
    let msl_options = msl::Options { lang_version: (2, 4), ..Default::default() };
    let (msl, _) = msl::write_string(&module, &info, &msl_options, &msl::PipelineOptions::default()).unwrap();
    assert!(msl.contains("erf_f32"));
    let mut text = String::new();
    let options = hlsl::Options { shader_model: hlsl::ShaderModel::V6_0, ..Default::default() };
    hlsl::Writer::new(&mut text, &options, &hlsl::PipelineOptions::default())
        .write(&module, &info, None)
        .unwrap();
    assert!(text.contains("erf_f32"));
}
