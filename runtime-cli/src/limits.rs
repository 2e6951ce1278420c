//! `--limits`: what another device has, by name or from a file.

use std::path::Path;
use std::sync::LazyLock;

use sardonyx::Capabilities;
use serde_json::Value;

use crate::failure::{Failure, Fault};
use crate::formats::{MOST_BYTES, read_file};

/// Devices that are often aimed at, as their drivers report them; where drivers differ, the smaller value.
static PROFILES: LazyLock<[(&str, Capabilities); 5]> = LazyLock::new(|| {
    [
        ("webgpu-default", Capabilities::BASELINE),
        (
            "jetson-orin",
            Capabilities {
                f16: true,
                subgroups: Some((32, 32)),
                storage_buffers: 16,
                workgroup_invocations: 1024,
                workgroup_memory: 48 << 10,
                binding_bytes: 1 << 31,
                buffer_bytes: 1 << 31,
                ..Capabilities::BASELINE
            },
        ),
        (
            "intel-igpu",
            Capabilities {
                f16: true,
                subgroups: Some((8, 32)),
                storage_buffers: 16,
                workgroup_invocations: 1024,
                workgroup_memory: 32 << 10,
                binding_bytes: 1 << 30,
                buffer_bytes: 1 << 31,
                ..Capabilities::BASELINE
            },
        ),
        (
            "adreno",
            Capabilities {
                subgroups: Some((64, 128)),
                storage_buffers: 16,
                workgroup_invocations: 512,
                workgroup_memory: 32 << 10,
                binding_bytes: 128 << 20,
                buffer_bytes: 1 << 30,
                ..Capabilities::BASELINE
            },
        ),
        (
            "mali",
            Capabilities {
                f16: true,
                subgroups: Some((8, 16)),
                storage_buffers: 16,
                workgroup_invocations: 384,
                workgroup_memory: 32 << 10,
                binding_bytes: 128 << 20,
                buffer_bytes: 1 << 30,
                ..Capabilities::BASELINE
            },
        ),
    ]
});

/// The names of profiles.
pub fn names() -> impl Iterator<Item = &'static str> {
    PROFILES.iter().map(|(name, _)| *name)
}

/// The capabilities of a profile or a file.
///
/// # Errors
/// When there is no such profile, and no such file with limits.
pub fn parse(text: &str) -> Result<Capabilities, Failure> {
    if let Some((_, caps)) = PROFILES.iter().find(|(name, _)| *name == text) {
        return Ok(caps.clone());
    }
    let path = Path::new(text);
    if !path.exists() {
        let known: Vec<&str> = names().collect();
        let message = format!("--limits {text}: neither a file nor one of {}", known.join(", "));
        return Err(Failure::new(Fault::Usage, message));
    }
    let malformed = |what: String| Failure::new(Fault::Malformed, format!("{}: {what}", path.display()));
    let document: Value = serde_json::from_slice(&read_file(path, MOST_BYTES)?)
        .map_err(|error| malformed(error.to_string()))?;
    from_document(&document).ok_or_else(|| malformed("it holds no limits of a device".to_owned()))
}

/// From an entry of a `devices` document, from such a document with one GPU, or from limits alone.
fn from_document(document: &Value) -> Option<Capabilities> {
    if let Some(devices) = document["devices"].as_array() {
        return devices.iter().find(|device| device["limits"].is_object()).and_then(from_document);
    }
    let limits = if document["limits"].is_object() { &document["limits"] } else { document };
    let known = [
        "storage_buffers",
        "binding_bytes",
        "buffer_bytes",
        "workgroup_invocations",
        "workgroup_memory_bytes",
        "grid_axis",
    ];
    if known.iter().all(|name| limits[*name].is_null()) {
        return None;
    }
    let base = Capabilities::BASELINE;
    let long = |name: &str, default: u64| limits[name].as_u64().unwrap_or(default);
    let short = |name: &str, default: u32| u32::try_from(long(name, default.into())).unwrap_or(u32::MAX);
    let features = document["features"].as_array();
    let has = |feature: &str| features.is_some_and(|all| all.iter().any(|one| one == feature));
    Some(Capabilities {
        f16: has("f16"),
        subgroups: has("subgroups").then_some((1, 128)),
        hides_latency: document["kind"] != "software",
        storage_buffers: short("storage_buffers", base.storage_buffers),
        workgroup_invocations: short("workgroup_invocations", base.workgroup_invocations),
        workgroup_memory: short("workgroup_memory_bytes", base.workgroup_memory),
        grid_axis: short("grid_axis", base.grid_axis),
        binding_bytes: long("binding_bytes", base.binding_bytes),
        buffer_bytes: long("buffer_bytes", base.buffer_bytes),
        ..base
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;

    #[test]
    fn profiles_and_files() {
        assert_eq!(parse("webgpu-default").unwrap(), Capabilities::BASELINE);
        assert_eq!(parse("mali").unwrap().workgroup_invocations, 384);
        assert_eq!(parse("commodore").unwrap_err().status(), 2);
        let scratch = Scratch::new("limits");
        let entry = r#"{"id":"vulkan:0","features":["f16"],"limits":{"workgroup_memory_bytes":1000}}"#;
        let file =
            scratch.write("d.json", format!("{{\"devices\":[{{\"limits\":null}},{entry}]}}").as_bytes());
        let caps = parse(&file.to_string_lossy()).unwrap();
        assert!(caps.f16 && caps.workgroup_memory == 1000 && caps.storage_buffers == 8);
        let file = scratch.write("x.json", b"{}");
        assert_eq!(parse(&file.to_string_lossy()).unwrap_err().status(), 4);
    }
}
