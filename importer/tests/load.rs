//! Loading costs what the graph costs, not what the weights weigh. Alone in its process, because it measures
//! the process.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "clippy's exemption for tests does not reach their helpers"
)]

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use sardonyx_importer::onnx::{self, LoadLimits};

/// A field of `onnx.proto` with a length.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2][..], &varint(content.len() as u64), content].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// Writes `y = x + w` with `bytes` of weights as a file with a hole.
fn write_model(path: &Path, bytes: u64) {
    let ty = field(1, &[0x08, 0x01]);
    let value = |name: &[u8]| [field(1, name), field(2, &ty)].concat();
    let node = [field(1, b"x"), field(1, b"w"), field(2, b"y"), field(4, b"Add")].concat();
    let rest = [field(1, &node), field(11, &value(b"x")), field(12, &value(b"y"))].concat();
    let tensor =
        [&field(1, &varint(bytes))[..], &[0x10, 0x02], &field(8, b"w"), &[0x4a], &varint(bytes)].concat();
    let tensor_length = tensor.len() as u64 + bytes;
    let head = [&rest[..], &[0x2a], &varint(tensor_length), &tensor].concat();
    let graph_length = head.len() as u64 + bytes;
    let start = [&[0x08, 0x08][..], &field(8, &[0x10, 0x11]), &[0x3a], &varint(graph_length), &head].concat();
    let mut file = std::fs::File::create(path).unwrap();
    file.write_all(&start).unwrap();
    file.set_len(start.len() as u64 + bytes).unwrap();
}

/// Pages of this process in memory, where the system tells.
fn resident_pages() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    text.split_whitespace().nth(1)?.parse().ok()
}

#[test]
fn load_time_does_not_grow_with_the_weights() {
    let path = std::env::temp_dir().join(format!("sardonyx-load-{}.onnx", std::process::id()));
    for mebibytes in [16u64, 256] {
        write_model(&path, mebibytes << 20);
        let before = resident_pages();
        let start = Instant::now();
        let file = sardonyx_importer::map::map_file(&path).unwrap();
        let inside = file.as_ptr_range();
        let model = onnx::read(file, &LoadLimits::default()).unwrap();
        let tensor = onnx::to_tensor(&model.graph.initializers[0], &LoadLimits::default()).unwrap();
        let elapsed = start.elapsed();
        assert_eq!(tensor.bytes().len() as u64, mebibytes << 20);
        assert!(inside.contains(&tensor.bytes().as_ptr()), "the tensor lies in the mapped file");
        eprintln!("{mebibytes} MiB: {elapsed:?}");
        if let (Some(before), Some(after)) = (before, resident_pages()) {
            let grown = after.saturating_sub(before) * 4096;
            assert!(grown < 4 << 20, "{mebibytes} MiB of weights took {grown} bytes of memory");
        }
    }
    std::fs::remove_file(&path).unwrap();
}
