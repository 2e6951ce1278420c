//! A folder for the files of one unit test.

use std::path::{Path, PathBuf};

/// A fresh folder under the system's temporary one, removed at the end.
pub struct Scratch(PathBuf);

impl Scratch {
    /// A folder whose name holds `name` and the process.
    pub fn new(name: &str) -> Scratch {
        let folder = std::env::temp_dir().join(format!("sardonyx-cli-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        Scratch(folder)
    }

    /// A path within.
    pub fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.0.clone() } else { self.0.join(name) }
    }

    /// Writes a file and gives its path.
    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(Path::new(&self.0));
    }
}
