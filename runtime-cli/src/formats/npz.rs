//! NumPy's `.npz` files: a zip archive of `.npy` files.

use std::io::{Cursor, Read, Write};
use std::path::Path;

use bytes::Bytes;
use sardonyx_ops::{DType, Tensor};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::{MOST_BYTES, malformed, npy};
use crate::failure::{Failure, Fault};

/// An archive whose members are read on demand.
#[derive(Debug)]
pub struct Archive<'p> {
    archive: ZipArchive<Cursor<Bytes>>,
    path: &'p Path,
}

impl<'p> Archive<'p> {
    /// Reads the directory of an archive.
    ///
    /// # Errors
    /// When the bytes are no zip archive.
    pub fn new(bytes: Bytes, path: &'p Path) -> Result<Archive<'p>, Failure> {
        let archive = ZipArchive::new(Cursor::new(bytes)).map_err(|error| malformed(path, error))?;
        Ok(Archive { archive, path })
    }

    /// The keys, in the archive's order.
    pub fn keys(&self) -> Vec<String> {
        let names = self.archive.file_names();
        names.filter_map(|name| Some(name.ok()?.strip_suffix(".npy")?.to_owned())).collect()
    }

    /// The array of a key; `wanted` as in [`npy::read`].
    ///
    /// # Errors
    /// When there is no such key, the member is damaged, or it grows beyond [`MOST_BYTES`].
    pub fn get(&mut self, key: &str, wanted: Option<DType>) -> Result<Tensor, Failure> {
        let member = self
            .archive
            .by_name(&format!("{key}.npy"))
            .map_err(|error| malformed(self.path, format!("member {key:?}: {error}")))?;
        let mut bytes = Vec::new();
        member
            .take(MOST_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| malformed(self.path, format!("member {key:?}: {error}")))?;
        if bytes.len() as u64 > MOST_BYTES {
            return Err(malformed(self.path, format!("member {key:?} is larger than {MOST_BYTES} bytes")));
        }
        npy::read(&Bytes::from(bytes), wanted, self.path)
    }
}

/// Writes an uncompressed archive.
///
/// # Errors
/// When two arrays have one name, or an archive cannot hold them.
pub fn write<'a>(arrays: impl IntoIterator<Item = (&'a str, &'a Tensor)>) -> Result<Vec<u8>, Failure> {
    let fail = |error: &dyn std::fmt::Display| {
        Failure::new(Fault::File, format!("cannot make the archive: {error}"))
    };
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    // Without a date the same arrays make the same bytes.
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(zip::DateTime::default());
    for (name, tensor) in arrays {
        let bytes = npy::write(tensor);
        let options = options.large_file(bytes.len() as u64 > u64::from(u32::MAX));
        archive.start_file(format!("{name}.npy"), options).map_err(|error| fail(&error))?;
        archive.write_all(&bytes).map_err(|error| fail(&error))?;
    }
    Ok(archive.finish().map_err(|error| fail(&error))?.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_there_and_back_and_damage() {
        let a = Tensor::from_vec(&[2, 2], vec![1f32, 2.0, 3.0, 4.0]).unwrap();
        let b = Tensor::scalar(-5i64);
        let path = Path::new("a.npz");
        let bytes = write([("x/y:0", &a), ("b", &b)]).unwrap();
        let mut archive = Archive::new(Bytes::from(bytes.clone()), path).unwrap();
        assert_eq!(archive.keys(), ["x/y:0", "b"]);
        assert_eq!(archive.get("x/y:0", None).unwrap().bytes(), a.bytes());
        assert_eq!(archive.get("b", None).unwrap().to_vec::<i64>().unwrap(), [-5]);
        assert!(archive.get("c", None).is_err());
        assert!(write([("b", &a), ("b", &b)]).is_err());
        for cut in 0..bytes.len() {
            let cut = Bytes::copy_from_slice(&bytes[..cut]);
            if let Ok(mut archive) = Archive::new(cut, path) {
                assert!(archive.get("x/y:0", None).is_err() || archive.get("b", None).is_err());
            }
        }
        // A damaged element is found by the checksum.
        let at = bytes.windows(4).position(|w| w == 2f32.to_le_bytes()).unwrap();
        let mut flipped = bytes;
        flipped[at] ^= 1;
        let mut archive = Archive::new(Bytes::from(flipped), path).unwrap();
        assert!(archive.get("x/y:0", None).is_err());
    }
}
