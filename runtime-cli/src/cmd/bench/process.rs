//! Measuring in fresh processes: what one process happens to have, memory layout and caches, is not in the result of all.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::measured::Measured;
use crate::failure::{Exit, Failure, Fault};

/// The hidden option that makes a process write what it measured to a file, and nothing else.
pub const WORKER: &str = "--worker";

/// Runs this command once more in a process of its own, with its own arguments and `more`, and takes what it measured.
///
/// # Errors
/// When the process fails; its own error was printed by then.
pub fn measure(more: &[String], file: &Path) -> Result<Vec<Measured>, Failure> {
    let fail = |what: String| Failure::new(Fault::Defect, what);
    let program =
        std::env::current_exe().map_err(|error| fail(format!("this program has no path: {error}")))?;
    let own: Vec<OsString> = std::env::args_os().skip(1).collect();
    let status = Command::new(program)
        .args(own)
        .args(more)
        .arg(WORKER)
        .arg(file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .map_err(|error| fail(format!("a process to measure in cannot be started: {error}")))?;
    if !status.success() {
        let code = status.code().map_or_else(|| "by a signal".to_owned(), |code| format!("with {code}"));
        let exit = match status.code() {
            Some(3) => Exit::Model,
            Some(4) => Exit::Input,
            Some(5) => Exit::Device,
            Some(7) => Exit::File,
            _ => Exit::Defect,
        };
        return Err(Failure::with_code(exit, "SDX-0807", format!("a process to measure in ended {code}")));
    }
    let bytes = std::fs::read(file).map_err(|error| Failure::file(file, &error))?;
    // It was made for this process only; left behind, it does no harm.
    let _ = std::fs::remove_file(file);
    let document: Value = serde_json::from_slice(&bytes).map_err(|error| fail(error.to_string()))?;
    let list = document.as_array().and_then(|all| all.iter().map(Measured::from_json).collect());
    list.ok_or_else(|| fail("a process to measure in wrote something else".to_owned()))
}

/// A file for what a process measured.
pub fn file(name: &str) -> std::path::PathBuf {
    std::env::temp_dir().join(format!("sardonyx-bench-{}-{name}.json", std::process::id()))
}
