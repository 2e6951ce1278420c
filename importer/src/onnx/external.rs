//! Weights in files beside the model (`TensorProto.external_data`), mapped and shared, never copied.
//!
//! A location is a relative name of a regular file at or beneath the model's folder. Symbolic links are
//! followed only as far as they stay beneath it; hard links are refused unless allowed, because they can lead
//! anywhere. `checksum` is the SHA-1 of the whole file: giving it costs one reading of the file.
//!
//! A location that ends in `.safetensors` and has no offset means the tensor of the initializer's own name
//! inside that file.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use sardonyx_ops::{DType, Tensor};

use super::limits::LoadLimits;
use super::tensor::{Layout, TensorData, TensorProto, from_raw, to_tensor};
use crate::error::{Budget, ImportError, InvalidFault, Place};
use crate::map::map_open_file;

type Result<T> = std::result::Result<T, ImportError>;

/// The longest location, in bytes.
const LONGEST_LOCATION: usize = 4096;

/// The largest header of a safetensors file, in bytes.
const LARGEST_HEADER: u64 = 16 << 20;

/// The files beside one model, opened as its tensors ask for them.
#[derive(Debug)]
pub struct ExternalData {
    /// Canonical.
    folder: PathBuf,
    hard_links: bool,
    files: HashMap<Arc<str>, DataFile>,
}

/// An open file and what has been learnt about it.
struct DataFile {
    bytes: Bytes,
    sha1: Option<Arc<str>>,
    safetensors: Option<Arc<Safetensors>>,
}

impl std::fmt::Debug for DataFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.bytes.len())
    }
}

/// The header of a safetensors file.
struct Safetensors {
    metadata: safetensors::tensor::Metadata,
    /// Where the elements begin.
    data_start: usize,
}

impl ExternalData {
    /// Data beneath the folder that holds the model.
    ///
    /// # Errors
    /// [`ImportError::Io`] when there is no such folder.
    pub fn new(folder: &Path) -> Result<ExternalData> {
        let canonical = folder.canonicalize().map_err(|source| io_error(Place::model(), folder, source))?;
        Ok(ExternalData { folder: canonical, hard_links: false, files: HashMap::new() })
    }

    /// Whether files with more than one hard link may be read; by default not. A caller that knows the
    /// files, from a manifest for instance, may allow them.
    #[must_use]
    pub fn with_hard_links(self, allowed: bool) -> ExternalData {
        ExternalData { hard_links: allowed, ..self }
    }

    /// The tensor of a constant, in the model or outside. Tensors of one file share its mapping.
    ///
    /// # Errors
    /// As [`to_tensor`]; [`ImportError::Invalid`] for a location that is not a plain relative name, leads out
    /// of the folder or to something else than a regular file, for data that does not fit the file or the
    /// tensor; [`ImportError::Io`] for a file that cannot be read; [`ImportError::Integrity`] for a file of
    /// another checksum; [`ImportError::BudgetExceeded`] for too many files.
    pub fn tensor(&mut self, tensor: &TensorProto, limits: &LoadLimits) -> Result<Tensor> {
        let TensorData::External(entries) = &tensor.data else { return to_tensor(tensor, limits) };
        let layout = tensor.layout(limits)?;
        let place = tensor.place();
        let wanted = Location::parse(entries).map_err(|detail| invalid(&place, detail))?;
        let file = self.open(&wanted, &place, limits)?;
        file.verify(&wanted, &place)?;
        let by_name = wanted.offset.is_none() && wanted.name.ends_with(".safetensors");
        let range = if by_name {
            file.safetensors(&place)?.range(&tensor.name, &layout, &place)?
        } else {
            plain_range(&wanted, &layout, file.bytes.len(), &place)?
        };
        if wanted.length.is_some_and(|length| length != layout.bytes as u64) {
            let detail = format!("length is {:?}, the tensor needs {} bytes", wanted.length, layout.bytes);
            return Err(invalid(&place, detail));
        }
        match file.bytes.get(range) {
            Some(data) => from_raw(&layout, file.bytes.slice_ref(data), tensor),
            None => Err(invalid(&place, "the data runs past the end of its file".into())),
        }
    }

    fn open(&mut self, wanted: &Location<'_>, place: &Place, limits: &LoadLimits) -> Result<&mut DataFile> {
        if !self.files.contains_key(&**wanted.name) {
            let asked = (self.files.len() as u64).saturating_add(1);
            if asked > limits.external_files {
                let allowed = limits.external_files;
                return Err(ImportError::budget(place.clone(), Budget::ExternalFiles, asked, allowed));
            }
            let relative = relative_path(wanted.name).map_err(|detail| invalid(place, detail.into()))?;
            let file = open_beneath(&self.folder, &relative, self.hard_links, place)?;
            let bytes = map_open_file(&file).map_err(|source| io_error(place.clone(), &relative, source))?;
            self.files.insert(wanted.name.clone(), DataFile { bytes, sha1: None, safetensors: None });
        }
        // The entry was there or has just been made.
        self.files.get_mut(&**wanted.name).ok_or_else(|| invalid(place, "the file is gone".into()))
    }
}

fn invalid(place: &Place, detail: String) -> ImportError {
    ImportError::invalid(place.clone(), InvalidFault::ExternalData, detail)
}

fn io_error(at: Place, path: &Path, source: io::Error) -> ImportError {
    ImportError::Io { at: Box::new(at), path: path.to_owned(), source: Arc::new(source) }
}

/// What `external_data` says.
struct Location<'t> {
    name: &'t Arc<str>,
    offset: Option<u64>,
    length: Option<u64>,
    checksum: Option<&'t Arc<str>>,
}

impl<'t> Location<'t> {
    /// Unknown keys are left alone; known ones may stand once.
    fn parse(entries: &'t [(Arc<str>, Arc<str>)]) -> std::result::Result<Location<'t>, String> {
        let (mut name, mut offset, mut length, mut checksum) = (None, None, None, None);
        for (key, value) in entries {
            let slot = match &**key {
                "location" => &mut name,
                "offset" => &mut offset,
                "length" => &mut length,
                "checksum" => &mut checksum,
                _ => continue,
            };
            if slot.replace(value).is_some() {
                return Err(format!("{key:?} is given twice"));
            }
        }
        let number = |key, value: Option<&Arc<str>>| match value {
            None => Ok(None),
            // `parse` alone would take a plus sign.
            Some(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
                text.parse().map(Some).map_err(|_| format!("{key} {text:?} is not a number of bytes"))
            }
            Some(text) => Err(format!("{key} {text:?} is not a number of bytes")),
        };
        Ok(Location {
            name: name.ok_or("there is no location")?,
            offset: number("offset", offset)?,
            length: number("length", length)?,
            checksum,
        })
    }
}

/// A location as a path, if it is a plain relative name on every platform.
fn relative_path(location: &str) -> std::result::Result<PathBuf, &'static str> {
    let bytes = location.as_bytes();
    if location.is_empty() || location.len() > LONGEST_LOCATION {
        return Err("the location is empty or too long");
    }
    if location.contains(['\0', '\\']) {
        return Err("the location contains a backslash or a NUL");
    }
    let drive = bytes.first().is_some_and(u8::is_ascii_alphabetic) && bytes.get(1) == Some(&b':');
    if location.starts_with('/')
        || drive
        || location.contains("://")
        || (cfg!(windows) && location.contains(':'))
    {
        return Err("the location is absolute, or a URL");
    }
    let mut path = PathBuf::new();
    for component in location.split('/') {
        match component {
            "" | ".." => return Err("the location has an empty or a parent component"),
            "." => {}
            name => path.push(name),
        }
    }
    if path.as_os_str().is_empty() { Err("the location names no file") } else { Ok(path) }
}

/// Opens a regular file beneath a canonical folder.
///
/// The standard library cannot open relative to a folder's handle, so the path is resolved, opened, and
/// resolved again: what was opened must be what the path, free of links, still names.
fn open_beneath(folder: &Path, relative: &Path, hard_links: bool, place: &Place) -> Result<File> {
    let io = |source| io_error(place.clone(), relative, source);
    let path = folder.join(relative).canonicalize().map_err(io)?;
    if !path.starts_with(folder) {
        return Err(invalid(place, format!("{} leads out of the model's folder", relative.display())));
    }
    // Before opening: to open a pipe or a device can wait for ever, or act.
    let regular = |metadata: &Metadata| {
        if metadata.is_file() {
            return Ok(());
        }
        Err(invalid(place, format!("{} is not a regular file", relative.display())))
    };
    regular(&path.symlink_metadata().map_err(io)?)?;
    let file = File::open(&path).map_err(io)?;
    let opened = file.metadata().map_err(io)?;
    regular(&opened)?;
    let named = path.symlink_metadata().map_err(io)?;
    if path.canonicalize().map_err(io)? != path || identity(&named) != identity(&opened) {
        return Err(invalid(place, format!("{} changed while it was opened", relative.display())));
    }
    if !hard_links && has_hard_links(&opened) {
        return Err(invalid(place, format!("{} has several hard links", relative.display())));
    }
    Ok(file)
}

/// What tells one file from another.
#[cfg(unix)]
fn identity(metadata: &Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino())
}

/// What tells one file from another, as far as the standard library knows.
#[cfg(not(unix))]
fn identity(metadata: &Metadata) -> (u64, Option<std::time::SystemTime>) {
    (metadata.len(), metadata.modified().ok())
}

#[cfg(unix)]
fn has_hard_links(metadata: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    metadata.nlink() > 1
}

/// Not known to the standard library.
#[cfg(not(unix))]
fn has_hard_links(_: &Metadata) -> bool {
    false
}

/// Where the bytes of a tensor lie in a file without structure.
fn plain_range(
    wanted: &Location<'_>,
    layout: &Layout,
    size: usize,
    place: &Place,
) -> Result<std::ops::Range<usize>> {
    let start = usize::try_from(wanted.offset.unwrap_or(0)).ok();
    let end = start.and_then(|start| start.checked_add(layout.bytes));
    match (start, end) {
        (Some(start), Some(end)) if end <= size => Ok(start..end),
        _ => {
            let offset = wanted.offset.unwrap_or(0);
            let detail = format!("{} bytes at offset {offset} of a file of {size}", layout.bytes);
            Err(invalid(place, detail))
        }
    }
}

impl DataFile {
    /// Compares the checksum, if the model gives one.
    fn verify(&mut self, wanted: &Location<'_>, place: &Place) -> Result<()> {
        let Some(expected) = wanted.checksum else { return Ok(()) };
        let bytes = &self.bytes;
        let got = self.sha1.get_or_insert_with(|| sha1_smol::Sha1::from(bytes).digest().to_string().into());
        if got.eq_ignore_ascii_case(expected) {
            return Ok(());
        }
        Err(ImportError::Integrity {
            at: Box::new(place.clone()),
            file: wanted.name.clone(),
            expected: expected.clone(),
            got: got.clone(),
        })
    }

    /// The header, read once.
    fn safetensors(&mut self, place: &Place) -> Result<Arc<Safetensors>> {
        if let Some(header) = &self.safetensors {
            return Ok(header.clone());
        }
        let header = Arc::new(Safetensors::read(&self.bytes, place)?);
        self.safetensors = Some(header.clone());
        Ok(header)
    }
}

impl Safetensors {
    fn read(bytes: &[u8], place: &Place) -> Result<Safetensors> {
        let fail = |detail: String| invalid(place, format!("not a safetensors file: {detail}"));
        let (length, rest) =
            bytes.split_first_chunk().ok_or_else(|| fail("shorter than its length field".into()))?;
        let length = u64::from_le_bytes(*length);
        if length > LARGEST_HEADER {
            return Err(fail(format!("the header claims {length} bytes")));
        }
        let header = usize::try_from(length).ok().and_then(|length| rest.get(..length));
        let header = header.ok_or_else(|| fail("the header runs past the end".into()))?;
        let metadata: safetensors::tensor::Metadata =
            serde_json::from_slice(header).map_err(|error| fail(error.to_string()))?;
        let data_start = header.len().saturating_add(8);
        Ok(Safetensors { metadata, data_start })
    }

    /// Where the bytes of a tensor lie in the file; its type and dimensions must be the model's.
    fn range(&self, name: &str, layout: &Layout, place: &Place) -> Result<std::ops::Range<usize>> {
        let Some(info) = self.metadata.info(name) else {
            return Err(invalid(place, "the safetensors file has no tensor of this name".into()));
        };
        if dtype_of(info.dtype) != Some(layout.dtype) || info.shape != layout.dims {
            let detail = format!(
                "the model says {}{:?}, the safetensors file {:?}{:?}",
                layout.dtype, layout.dims, info.dtype, info.shape
            );
            return Err(invalid(place, detail));
        }
        let (start, end) = info.data_offsets;
        match (self.data_start.checked_add(start), self.data_start.checked_add(end)) {
            (Some(start), Some(end)) if end.checked_sub(start) == Some(layout.bytes) => Ok(start..end),
            _ => Err(invalid(place, "the safetensors file gives the tensor another length".into())),
        }
    }
}

fn dtype_of(dtype: safetensors::Dtype) -> Option<DType> {
    use safetensors::Dtype;
    Some(match dtype {
        Dtype::BOOL => DType::Bool,
        Dtype::F4 => DType::F4E2M1,
        Dtype::U8 => DType::U8,
        Dtype::I8 => DType::I8,
        Dtype::F8_E5M2 => DType::F8E5M2,
        Dtype::F8_E4M3 => DType::F8E4M3FN,
        Dtype::F8_E8M0 => DType::F8E8M0,
        Dtype::F8_E4M3FNUZ => DType::F8E4M3FNUZ,
        Dtype::F8_E5M2FNUZ => DType::F8E5M2FNUZ,
        Dtype::I16 => DType::I16,
        Dtype::U16 => DType::U16,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::I32 => DType::I32,
        Dtype::U32 => DType::U32,
        Dtype::F32 => DType::F32,
        Dtype::C64 => DType::C64,
        Dtype::F64 => DType::F64,
        Dtype::I64 => DType::I64,
        Dtype::U64 => DType::U64,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
