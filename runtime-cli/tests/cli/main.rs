//! The command as a process: exit codes, the form of errors, documents, files.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "test code")]

mod commands;
mod errors;
mod eval;
mod fault;
mod measure;
mod model;
mod quantize;
mod schema;

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// What a process left behind.
pub struct Ended {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Ended {
    /// The document on standard output.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}\n{}", self.out, self.err))
    }
}

/// Runs the command on the CPU in a folder of its own.
pub fn sardonyx(scratch: &Scratch, arguments: &[&str]) -> Ended {
    let output = Command::new(env!("CARGO_BIN_EXE_sardonyx"))
        .args(arguments)
        .current_dir(&scratch.0)
        .env("SARDONYX_DEVICE", "cpu")
        .env("SARDONYX_CACHE_DIR", scratch.0.join("cache"))
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A fresh folder, removed at the end.
pub struct Scratch(pub PathBuf);

impl Scratch {
    /// A folder whose name holds `name` and the process.
    pub fn new(name: &str) -> Scratch {
        let folder = std::env::temp_dir().join(format!("sardonyx-command-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        Scratch(folder)
    }

    /// Writes a file in the folder.
    pub fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
