//! The inputs to evaluate on, with their right answers.

use std::path::{Path, PathBuf};

use crate::failure::{Failure, Fault};
use crate::formats::read_file;
use crate::input::Signature;
use crate::input::request::{self, Sample};
use crate::input::source::Source;
use crate::output::format;
use crate::task::labels::Labels;

/// The most bytes of a file of right answers.
const MOST_BYTES: u64 = 256 << 20;

/// An input and its right answer.
#[derive(Debug)]
pub struct Item {
    /// The name of the file, or of the test set.
    pub name: String,
    /// Where to read it.
    pub sample: Sample,
    /// The right class, when one is needed.
    pub class: Option<usize>,
}

/// Finds the inputs. `labelled` ones have classes, from a file of `FILE, CLASS` lines or from the folders they are in;
/// others are what `run -i` takes.
///
/// # Errors
/// When files cannot be read, a class is neither a number nor a name, or there is nothing.
pub fn items(
    folder: &Path,
    labels: Option<&Path>,
    names: &Labels,
    labelled: bool,
    signatures: &[Signature],
) -> Result<Vec<Item>, Failure> {
    if !labelled {
        let samples = request::samples(&[folder.to_string_lossy().into_owned()], signatures)?;
        let item = |sample: Sample| Item { name: sample.label.clone(), sample, class: None };
        return Ok(samples.into_iter().map(item).collect());
    }
    if signatures.len() != 1 {
        let message = format!("labelled data is for models of one input; this one has {}", signatures.len());
        return Err(Failure::new(Fault::Usage, message));
    }
    let files = match labels {
        Some(labels) => listed(folder, labels, names)?,
        None => by_folder(folder, names)?,
    };
    if files.is_empty() {
        return Err(Failure::new(Fault::Source, format!("{} has no labelled inputs", folder.display()))
            .help("give --labels FILE, or put the inputs in a folder for each class"));
    }
    let item = |(path, class): (PathBuf, usize)| {
        let name = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().into_owned();
        let source = Source::parse(&path.to_string_lossy())?;
        let sample = Sample { sources: vec![(0, source)], test_set: None, label: name.clone() };
        Ok(Item { name, sample, class: Some(class) })
    };
    files.into_iter().map(item).collect()
}

/// A class by number or name.
fn class(text: &str, names: &Labels) -> Option<usize> {
    text.parse().ok().or_else(|| names.find(text))
}

/// The lines of a file of right answers. What stands behind the last comma or space is the class.
fn listed(folder: &Path, labels: &Path, names: &Labels) -> Result<Vec<(PathBuf, usize)>, Failure> {
    let bytes = read_file(labels, MOST_BYTES)?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| Failure::new(Fault::Malformed, format!("{}: no UTF-8", labels.display())))?;
    let mut files = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let parts = line.rsplit_once(',').or_else(|| line.trim().rsplit_once(char::is_whitespace));
        let found = parts.and_then(|(file, label)| Some((file.trim(), class(label.trim(), names)?)));
        let (file, class) = found.ok_or_else(|| {
            let shown = format::name(line, 80);
            let message = format!("{}, line {}: {shown:?} is not FILE, CLASS", labels.display(), number + 1);
            Failure::new(Fault::Malformed, message).help("a class is a number, or a name of --names FILE")
        })?;
        files.push((folder.join(file), class));
    }
    Ok(files)
}

/// The files in the folders of classes: numbers, names, or else in the order of the alphabet.
fn by_folder(folder: &Path, names: &Labels) -> Result<Vec<(PathBuf, usize)>, Failure> {
    let folders: Vec<PathBuf> = entries(folder)?.into_iter().filter(|path| path.is_dir()).collect();
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let classes: Option<Vec<usize>> = folders.iter().map(|path| class(&name(path), names)).collect();
    let classes = classes.unwrap_or_else(|| (0..folders.len()).collect());
    let mut files = Vec::new();
    for (path, class) in folders.iter().zip(classes) {
        files.extend(entries(path)?.into_iter().filter(|path| path.is_file()).map(|path| (path, class)));
    }
    Ok(files)
}

/// What is in a folder, sorted; hidden files are left out.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let fail = |error: std::io::Error| Failure::file(folder, &error);
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')) {
            all.push(path);
        }
    }
    all.sort();
    Ok(all)
}
