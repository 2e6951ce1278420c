//! Files as shared bytes, mapped rather than read: a weight costs nothing until something touches it.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::{ImportError, ParseFault};

/// Maps a model file. Every slice of the result shares the one mapping, which ends with the last slice.
///
/// # Errors
/// [`ImportError::Io`] when the path cannot be opened or is not a regular file; [`ImportError::Parse`] when
/// the file is empty, which no ONNX file is.
pub fn map_file(path: &Path) -> Result<Bytes, ImportError> {
    let failed = |source: io::Error| ImportError::Io {
        at: Box::default(),
        path: path.to_owned(),
        source: Arc::new(source),
    };
    // Looked at before it is opened: opening a named pipe would wait for its other end.
    require_regular(&std::fs::metadata(path).map_err(failed)?).map_err(failed)?;
    let file = File::open(path).map_err(failed)?;
    require_regular(&file.metadata().map_err(failed)?).map_err(failed)?;
    let bytes = map_open_file(&file).map_err(failed)?;
    if bytes.is_empty() {
        return Err(ImportError::Parse { what: ParseFault::NotOnnx, offset: 0 });
    }
    Ok(bytes)
}

fn require_regular(metadata: &std::fs::Metadata) -> io::Result<()> {
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok(())
}

/// Maps an open regular file; an empty file gives empty bytes.
#[allow(unsafe_code, reason = "mapping a file is the one unsafe act of this crate")]
pub(crate) fn map_open_file(file: &File) -> io::Result<Bytes> {
    if file.metadata()?.len() == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: the mapping is private and read-only, and `Bytes` keeps it alive as long as any slice of it.
    // Its content may change only if another process rewrites the file in place meanwhile: every reader
    // checks lengths against this mapping and treats the content as untrusted, so changed bytes give other
    // numbers or an error. A file truncated while mapped is the one thing no reader of a mapping can mend;
    // models are replaced by renaming, not by truncation.
    let mapping = unsafe { memmap2::Mmap::map(file)? };
    Ok(Bytes::from_owner(mapping))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_what_is_written_and_refuses_the_rest() {
        let folder = std::env::temp_dir().join(format!("sardonyx-map-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("a.onnx");
        std::fs::write(&file, b"\x08\x07").unwrap();
        assert_eq!(map_file(&file).unwrap().as_ref(), b"\x08\x07");
        std::fs::write(&file, b"").unwrap();
        let empty = map_file(&file).unwrap_err();
        assert!(matches!(empty, ImportError::Parse { what: ParseFault::NotOnnx, .. }), "{empty}");
        assert_eq!(map_file(&folder).unwrap_err().code(), "SDX-0101");
        assert_eq!(map_file(&folder.join("absent")).unwrap_err().code(), "SDX-0101");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
