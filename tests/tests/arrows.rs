//! Dependencies between the crates point one way.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "test code")]

use std::process::Command;

/// Each crate and the crates of this workspace that it may name.
const ARROWS: &[(&str, &[&str])] = &[
    ("sardonyx-shaders", &[]),
    ("sardonyx-ops", &["sardonyx-shaders"]),
    ("sardonyx-importer", &["sardonyx-shaders", "sardonyx-ops"]),
    ("sardonyx", &["sardonyx-shaders", "sardonyx-ops", "sardonyx-importer"]),
    ("sardonyx-cli", &["sardonyx-shaders", "sardonyx-ops", "sardonyx-importer", "sardonyx"]),
];

/// Crates that only one room may name.
const ROOMS: &[(&str, &str)] =
    &[("wgpu", "sardonyx"), ("gemm", "sardonyx-ops"), ("memmap2", "sardonyx-importer")];

#[test]
fn dependencies_point_one_way() {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline", "--manifest-path", manifest])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let mut seen = 0;
    for package in packages {
        let name = package["name"].as_str().unwrap();
        let normal: Vec<&str> = package["dependencies"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|dependency| dependency["kind"].is_null())
            .map(|dependency| dependency["name"].as_str().unwrap())
            .collect();
        if let Some((_, allowed)) = ARROWS.iter().find(|(crate_name, _)| *crate_name == name) {
            for dependency in normal.iter().filter(|dependency| dependency.starts_with("sardonyx")) {
                assert!(allowed.contains(dependency), "{name} must not depend on {dependency}");
            }
            for (library, room) in ROOMS {
                assert!(
                    name == *room || !normal.contains(library),
                    "only {room} may depend on {library}, not {name}"
                );
            }
            seen += 1;
        } else {
            assert!(
                package["publish"].as_array().is_some_and(Vec::is_empty),
                "{name} is neither in the table of arrows nor unpublished"
            );
        }
    }
    assert_eq!(seen, ARROWS.len());
}
