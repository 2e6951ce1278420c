//! Writing a file so that others see the old one or the whole new one, never a part.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::failure::{Failure, Fault};

/// Writes `bytes` to a new file beside `path`, flushes it, and renames it over `path`.
///
/// Devices and pipes (`/dev/stdout`) are written directly: they cannot be replaced.
///
/// # Errors
/// When the file cannot be made, written or renamed; nothing is left behind then.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    write_pieces(path, &[bytes])
}

/// Writes a file of several pieces as [`write`] does.
///
/// # Errors
/// As [`write`].
pub fn write_pieces<P: AsRef<[u8]>>(path: &Path, pieces: &[P]) -> Result<(), Failure> {
    let fail = |error: std::io::Error| Failure::file(path, &error);
    if fs::metadata(path).is_ok_and(|meta| !meta.is_file() && !meta.is_dir()) {
        let mut file = File::options().write(true).open(path).map_err(fail)?;
        return pieces.iter().try_for_each(|piece| file.write_all(piece.as_ref())).map_err(fail);
    }
    let temporary = beside(path)?;
    let written = File::create_new(&temporary)
        .and_then(|file| {
            let mut buffered = BufWriter::new(&file);
            pieces.iter().try_for_each(|piece| buffered.write_all(piece.as_ref()))?;
            buffered.flush()?;
            drop(buffered);
            file.sync_all()
        })
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The first error is the one to report; a file that is not there need not be removed.
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(fail)
}

/// A name in the same folder that nothing else uses, not even what a killed process left behind.
fn beside(path: &Path) -> Result<PathBuf, Failure> {
    let name = path
        .file_name()
        .ok_or_else(|| Failure::new(Fault::File, format!("{} does not name a file", path.display())))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}-{now}.part", std::process::id()));
    Ok(path.with_file_name(temporary))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;

    #[test]
    fn replaces_whole_files_and_leaves_nothing_behind() {
        let scratch = Scratch::new("atomic");
        let path = scratch.path("a.txt");
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert!(write(&scratch.path("no/such/folder.txt"), b"x").is_err());
        assert!(write(&scratch.path(""), b"x").is_err(), "a folder is not replaced");
        assert_eq!(fs::read_dir(scratch.path("")).unwrap().count(), 1);
    }
}
