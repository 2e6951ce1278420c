//! `--kernels`: a folder whose WGSL files stand in for kernels of Sardonyx.

use std::path::Path;

use sardonyx::Device;

use crate::bind;
use crate::failure::{Failure, Fault};
use crate::formats::{MOST_BYTES, read_file};
use crate::output::{Console, format};

/// The kernels of a folder: the name of each file without `.wgsl`, and its text; in the order of their names.
///
/// # Errors
/// When there are none, or one cannot be read.
fn read(folder: &Path) -> Result<Vec<(String, String)>, Failure> {
    let fail = |error| Failure::file(folder, &error);
    let mut kernels = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".wgsl")) else {
            continue;
        };
        let text = String::from_utf8(read_file(&path, MOST_BYTES)?.to_vec());
        let text = text.map_err(|_| Failure::new(Fault::Malformed, format!("{} is no text", path.display())));
        kernels.push((name.to_owned(), text?));
    }
    kernels.sort();
    if kernels.is_empty() {
        let message = format!("--kernels {}: there is no file NAME.wgsl", folder.display());
        return Err(Failure::new(Fault::Usage, message));
    }
    Ok(kernels)
}

/// The device with the kernels of a folder.
///
/// # Errors
/// When the folder cannot be read or has something else in it, or the device runs no kernels.
pub fn change(device: &Device, folder: &Path) -> Result<Device, Failure> {
    let changed = device.with_kernels(read(folder)?);
    changed.map_err(|error| bind::failure(&error, Path::new("")))
}

/// Warns of the kernels of a folder, before any of them is used.
///
/// # Errors
/// As [`change`].
pub fn announce(folder: &Path, console: &Console) -> Result<(), Failure> {
    let names: Vec<String> = read(folder)?.into_iter().map(|(name, _)| name).collect();
    let names = format::name(&names.join(", "), 200);
    console.warn(format!(
        "kernels of {} stand in for Sardonyx's own: {names}; nobody has checked what they compute",
        folder.display()
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;

    #[test]
    fn a_folder_of_kernels() {
        let scratch = Scratch::new("kernels");
        let folder = scratch.path("");
        assert_eq!(read(&folder).unwrap_err().status(), 2, "an empty folder");
        scratch.write("softmax.wgsl", b"text");
        scratch.write("notes.txt", b"no kernel");
        assert_eq!(read(&folder).unwrap(), [("softmax".to_owned(), "text".to_owned())]);
        assert_eq!(change(&Device::cpu(), &folder).unwrap_err().status(), 2, "the CPU has none");
        scratch.write("dance.wgsl", b"text");
        assert_eq!(change(&Device::cpu(), &folder).unwrap_err().status(), 2, "there is no such kernel");
        assert_eq!(read(&folder.join("absent")).unwrap_err().status(), 7);
    }
}
