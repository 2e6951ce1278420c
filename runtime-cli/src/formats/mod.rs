//! Files that hold tensors. All of them are untrusted: no size in a file is believed before it was compared with
//! the bytes that are there.

pub mod npy;
pub mod npz;
pub mod protobuf;
pub mod raw;
pub mod safetensors;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use bytes::Bytes;

use crate::failure::{Failure, Fault};

/// The most bytes that are read from one tensor file, and that one compressed member may grow to.
pub const MOST_BYTES: u64 = 4 << 30;

/// Reads a regular file of at most `most` bytes.
///
/// # Errors
/// When it cannot be opened or read, is no regular file (a pipe may never end), or is larger.
pub fn read_file(path: &Path, most: u64) -> Result<Bytes, Failure> {
    let fail = |error: std::io::Error| Failure::file(path, &error);
    // Asked before opening: opening a pipe without a writer blocks.
    let meta = std::fs::metadata(path).map_err(fail)?;
    if !meta.is_file() {
        return Err(Failure::new(Fault::File, format!("{}: not a regular file", path.display())));
    }
    let too_large = || {
        let message = format!("{}: larger than {most} bytes", path.display());
        Failure::new(Fault::File, message)
    };
    if meta.len() > most {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(most + 1).read_to_end(&mut bytes)).map_err(fail)?;
    if bytes.len() as u64 > most {
        return Err(too_large());
    }
    Ok(Bytes::from(bytes))
}

/// A damaged file, or one of another kind.
fn malformed(path: &Path, what: impl std::fmt::Display) -> Failure {
    Failure::new(Fault::Malformed, format!("{}: {what}", path.display()))
}
