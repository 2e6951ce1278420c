//! Where an input comes from, as written on the command line.

use std::path::{Path, PathBuf};

use sardonyx_ops::DType;

use super::generate::Recipe;
use super::picture;
use crate::failure::{Failure, Fault};
use crate::glob;

/// A source of one input.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// `x.npy`.
    Npy(PathBuf),
    /// `x.npz:key`; the key may be left out.
    Npz(PathBuf, Option<String>),
    /// `x.safetensors:key`; the key may be left out.
    Safetensors(PathBuf, Option<String>),
    /// `x.pb`: a `TensorProto`.
    Protobuf(PathBuf),
    /// A picture.
    Picture(PathBuf),
    /// `x.wav`.
    Sound(PathBuf),
    /// `x.bin:f32:1x3x224x224`.
    Raw(PathBuf, DType, Vec<usize>),
    /// `[[1, 2], [3, 4]]`.
    Literal(String),
    /// `random:seed=1`.
    Made(Recipe),
}

impl Source {
    /// Parses a source of a single tensor.
    ///
    /// # Errors
    /// When its kind cannot be told from the text.
    pub fn parse(text: &str) -> Result<Source, Failure> {
        if let Some(recipe) = Recipe::parse(text) {
            return recipe.map(Source::Made);
        }
        if let Some((path, rest)) = split_after(text, ".bin:") {
            return raw(path, rest);
        }
        for (ending, make) in [
            (".npz", Source::Npz as fn(PathBuf, Option<String>) -> Source),
            (".safetensors", Source::Safetensors),
        ] {
            if let Some((path, key)) = split_after(text, &format!("{ending}:")) {
                return Ok(make(path, Some(key.to_owned())));
            }
            if text.ends_with(ending) {
                return Ok(make(PathBuf::from(text), None));
            }
        }
        let path = PathBuf::from(text);
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase());
        match ending.as_deref() {
            Some("npy") => return Ok(Source::Npy(path)),
            Some("pb") => return Ok(Source::Protobuf(path)),
            Some("wav") => return Ok(Source::Sound(path)),
            Some(ending) if picture::ENDINGS.contains(&ending) => return Ok(Source::Picture(path)),
            _ => {}
        }
        if looks_literal(text) {
            return Ok(Source::Literal(text.to_owned()));
        }
        let exists = path.exists();
        let message = match exists {
            true => format!("{text}: the kind of the file is not known"),
            false => format!("{text:?} is neither a file nor a literal nor a made-up input"),
        };
        let fault = if exists || path.extension().is_none() { Fault::Source } else { Fault::File };
        Err(Failure::new(fault, message).help(
            "files: .npy .npz:key .safetensors:key .pb .jpg .png .bmp .webp .ppm .pgm .wav .bin:f32:1x3x8; \
             literals: [[1,2]]; made up: random normal zeros ones arange",
        ))
    }

    /// The source in words of the command line.
    pub fn describe(&self) -> String {
        match self {
            Source::Npy(path) | Source::Protobuf(path) | Source::Picture(path) | Source::Sound(path) => {
                path.display().to_string()
            }
            Source::Npz(path, key) | Source::Safetensors(path, key) => match key {
                Some(key) => format!("{}:{key}", path.display()),
                None => path.display().to_string(),
            },
            Source::Raw(path, dtype, dims) => {
                format!("{}:{dtype}:{}", path.display(), crate::output::format::dims(dims))
            }
            Source::Literal(text) => crate::output::format::name(text, 60),
            Source::Made(recipe) => recipe.to_string(),
        }
    }
}

/// A number, a list, a text in quotes, or a truth value.
pub fn looks_literal(text: &str) -> bool {
    let first = text.trim_start().chars().next();
    let is_number = || text.trim().parse::<f64>().is_ok();
    matches!(first, Some('[' | '"')) || is_number() || matches!(text.trim(), "true" | "false")
}

/// The files that a pattern in the last part of a path stands for, or the pictures of a folder; sorted by name.
/// `None` when the text is neither.
///
/// # Errors
/// When nothing fits the pattern, or the folder cannot be read or has no pictures.
pub fn several(text: &str) -> Option<Result<Vec<PathBuf>, Failure>> {
    let path = Path::new(text);
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
    if path.is_dir() {
        let is_picture = |name: &str| {
            let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
            ending.is_some_and(|ending| picture::ENDINGS.contains(&&*ending))
        };
        return Some(list(path, is_picture, "has no pictures"));
    }
    if !glob::is_pattern(name) || path.exists() || looks_literal(text) {
        return None;
    }
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Some(list(folder, |file| glob::matches(name, file), &format!("has no file like {name}")))
}

fn list(folder: &Path, wanted: impl Fn(&str) -> bool, none: &str) -> Result<Vec<PathBuf>, Failure> {
    let entries = std::fs::read_dir(folder).map_err(|error| Failure::file(folder, &error))?;
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(&wanted) && entry.path().is_file())
        .map(|entry| entry.path())
        .collect();
    files.sort();
    match files.is_empty() {
        true => Err(Failure::new(Fault::File, format!("{} {none}", folder.display()))),
        false => Ok(files),
    }
}

/// Splits `a.bin:rest` into `a.bin` and `rest`.
fn split_after<'t>(text: &'t str, ending: &str) -> Option<(PathBuf, &'t str)> {
    let at = text.find(ending)? + ending.len();
    Some((PathBuf::from(&text[..at - 1]), &text[at..]))
}

fn raw(path: PathBuf, rest: &str) -> Result<Source, Failure> {
    let (dtype, dims) = rest.split_once(':').unwrap_or((rest, ""));
    let known = DType::from_name(dtype).filter(|dtype| dtype.bits() > 0);
    let dtype = known.ok_or_else(|| {
        Failure::new(Fault::Source, format!("{}: {dtype:?} is no element type", path.display()))
            .help("write PATH.bin:TYPE:DIMENSIONS, for example x.bin:f32:1x3x224x224")
    })?;
    let dims = dimensions(dims).ok_or_else(|| {
        Failure::new(Fault::Source, format!("{}: {dims:?} are no dimensions", path.display()))
            .help("write PATH.bin:TYPE:DIMENSIONS, for example x.bin:f32:1x3x224x224")
    })?;
    Ok(Source::Raw(path, dtype, dims))
}

/// `1x3x224x224`; nothing or `scalar` for a scalar.
pub fn dimensions(text: &str) -> Option<Vec<usize>> {
    match text {
        "" | "scalar" => Some(Vec::new()),
        text => text.split(['x', ',']).map(|dim| dim.trim().parse().ok()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;

    #[test]
    fn the_text_says_the_kind() {
        let path = |text: &str| PathBuf::from(text);
        for (text, source) in [
            ("a/b.npy", Source::Npy(path("a/b.npy"))),
            ("b.npz", Source::Npz(path("b.npz"), None)),
            ("b.npz:x:0", Source::Npz(path("b.npz"), Some("x:0".into()))),
            ("w.safetensors:k", Source::Safetensors(path("w.safetensors"), Some("k".into()))),
            ("i.pb", Source::Protobuf(path("i.pb"))),
            ("F.JPG", Source::Picture(path("F.JPG"))),
            ("s.wav", Source::Sound(path("s.wav"))),
            ("x.bin:f16:2x3", Source::Raw(path("x.bin"), DType::F16, vec![2, 3])),
            ("x.bin:i64:", Source::Raw(path("x.bin"), DType::I64, vec![])),
            ("-1.5", Source::Literal("-1.5".into())),
            ("[1]", Source::Literal("[1]".into())),
            ("ones", Source::Made(Recipe::Ones)),
        ] {
            assert_eq!(Source::parse(text).unwrap(), source, "{text}");
        }
        for text in ["what", "x.bin:f3:1", "x.bin:f32:1x", "x.bin:str:1", "x.xyz", "zeros:x"] {
            assert!(Source::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn folders_and_patterns_are_sorted() {
        let scratch = Scratch::new("several");
        for name in ["b.png", "a.PGM", "c.txt", "d.npy"] {
            scratch.write(name, b"");
        }
        let folder = scratch.path("").to_str().unwrap().to_owned();
        let all = several(&folder).unwrap().unwrap();
        assert_eq!(all, [scratch.path("a.PGM"), scratch.path("b.png")]);
        let some = several(&format!("{folder}/*.gif")).unwrap();
        assert_eq!(some.unwrap_err().status(), 7);
        let some = several(&format!("{folder}/?.np*")).unwrap().unwrap();
        assert_eq!(some, [scratch.path("d.npy")]);
        assert!(several(&format!("{folder}/a.PGM")).is_none());
        assert!(several("[\"a*\"]").is_none());
    }
}
