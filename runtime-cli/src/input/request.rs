//! The `-i` options of one command, sorted out: which source is for which input, and how many samples there are.

use std::path::{Path, PathBuf};

use super::source::{self, Source};
use super::{Signature, names};
use crate::failure::{Failure, Fault};
use crate::formats::npz::Archive;
use crate::formats::{MOST_BYTES, protobuf, read_file, safetensors};
use crate::output::format;

/// One set of inputs to run with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// Sources by the index of the input.
    pub sources: Vec<(usize, Source)>,
    /// The folder of the ONNX test set that the sample comes from: its expected outputs lie there.
    pub test_set: Option<PathBuf>,
    /// What tells this sample from others: a file's or folder's name; empty when there is only one.
    pub label: String,
}

/// Sorts out `-i` options. There is always at least one sample; inputs without a source are made up later.
///
/// # Errors
/// When a name is unknown or given twice, a source cannot be understood, or sources of several files have
/// different counts.
pub fn samples(options: &[String], signatures: &[Signature]) -> Result<Vec<Sample>, Failure> {
    let mut sets: Vec<PathBuf> = Vec::new();
    let mut lists: Vec<(usize, Vec<Source>)> = Vec::new();
    for option in options {
        let (input, text) = split(option, signatures)?;
        let path = Path::new(text);
        if input.is_none() && path.is_dir() && !protobuf::test_sets(path).is_empty() {
            sets.extend(protobuf::test_sets(path));
            continue;
        }
        if let Some(input) = input {
            lists.push((input, sources(text)?));
            continue;
        }
        if signatures.len() == 1 {
            lists.push((0, sources(text)?));
            continue;
        }
        for (input, source) in bundle(text, signatures)? {
            lists.push((input, vec![source]));
        }
    }
    if !sets.is_empty() {
        if !lists.is_empty() {
            let message = "a test set gives all inputs; no other -i can stand beside it";
            return Err(Failure::new(Fault::Usage, message));
        }
        return sets.iter().map(|folder| test_set(folder, signatures, sets.len() > 1)).collect();
    }
    for (i, (input, _)) in lists.iter().enumerate() {
        if lists[..i].iter().any(|(other, _)| other == input) {
            let name = format::name(&signatures[*input].name, 60);
            return Err(Failure::new(Fault::Usage, format!("input {name:?} is given twice")));
        }
    }
    spread(lists, signatures)
}

/// Splits `NAME=SOURCE`. The longest input name that fits wins, since names may hold `=`; without one, a text that is
/// a source as it stands has no name.
fn split<'o>(option: &'o str, signatures: &[Signature]) -> Result<(Option<usize>, &'o str), Failure> {
    let named = signatures.iter().enumerate().filter_map(|(i, signature)| {
        let rest = option.strip_prefix(signature.name.as_str())?.strip_prefix('=')?;
        Some((signature.name.len(), i, rest))
    });
    if let Some((_, input, rest)) = named.max_by_key(|(length, ..)| *length) {
        return Ok((Some(input), rest));
    }
    let is_source = !option.contains('=')
        || Path::new(option).exists()
        || source::looks_literal(option)
        || super::generate::Recipe::parse(option).is_some();
    if is_source {
        return Ok((None, option));
    }
    let name = option.split('=').next().unwrap_or(option);
    Err(Failure::new(Fault::UnknownInput, format!("the model has no input {:?}", format::name(name, 60)))
        .why(format!("its inputs are {}", names(signatures))))
}

/// The sources of one input: several for a folder of pictures or a pattern.
fn sources(text: &str) -> Result<Vec<Source>, Failure> {
    match source::several(text) {
        Some(paths) => paths?.iter().map(|path| Source::parse(&path.to_string_lossy())).collect(),
        None => Ok(vec![Source::parse(text)?]),
    }
}

/// The members of an archive by the names of inputs.
fn bundle(text: &str, signatures: &[Signature]) -> Result<Vec<(usize, Source)>, Failure> {
    let unnamed = || {
        Failure::new(Fault::Usage, format!("-i {text}: the model has {} inputs", signatures.len()))
            .why(format!("its inputs are {}", names(signatures)))
            .help("say which one: -i NAME=SOURCE")
    };
    if signatures.is_empty() {
        return Err(Failure::new(Fault::UnknownInput, "the model has no inputs"));
    }
    let source = Source::parse(text)?;
    let (path, keys) = match &source {
        Source::Npz(path, None) => (path, Archive::new(read_file(path, MOST_BYTES)?, path)?.keys()),
        Source::Safetensors(path, None) => {
            let tensors = safetensors::read(&read_file(path, MOST_BYTES)?, None, path)?;
            (path, tensors.into_iter().map(|(name, _)| name).collect())
        }
        _ => return Err(unnamed()),
    };
    keys.into_iter()
        .map(|key| {
            let input = signatures.iter().position(|signature| signature.name == key).ok_or_else(|| {
                let message =
                    format!("{}: the model has no input {:?}", path.display(), format::name(&key, 60));
                Failure::new(Fault::UnknownInput, message)
                    .why(format!("its inputs are {}", names(signatures)))
            })?;
            let source = match &source {
                Source::Npz(path, _) => Source::Npz(path.clone(), Some(key)),
                _ => Source::Safetensors(path.clone(), Some(key)),
            };
            Ok((input, source))
        })
        .collect()
}

fn test_set(folder: &Path, signatures: &[Signature], labelled: bool) -> Result<Sample, Failure> {
    let files = protobuf::numbered(folder, "input");
    if files.len() > signatures.len() {
        let message =
            format!("{} has {} inputs, the model has {}", folder.display(), files.len(), signatures.len());
        return Err(Failure::new(Fault::UnknownInput, message));
    }
    let label = folder.file_name().filter(|_| labelled).map(|name| name.to_string_lossy().into_owned());
    Ok(Sample {
        sources: files.into_iter().map(Source::Protobuf).enumerate().collect(),
        test_set: Some(folder.to_owned()),
        label: label.unwrap_or_default(),
    })
}

/// One sample per file of the longest list; lists of one serve all samples.
fn spread(lists: Vec<(usize, Vec<Source>)>, signatures: &[Signature]) -> Result<Vec<Sample>, Failure> {
    let count = lists.iter().map(|(_, sources)| sources.len()).max().unwrap_or(1);
    if let Some((input, sources)) = lists.iter().find(|(_, list)| list.len() != 1 && list.len() != count) {
        let name = format::name(&signatures[*input].name, 60);
        let message = format!("input {name:?} has {} files, another has {count}", sources.len());
        return Err(Failure::new(Fault::Usage, message));
    }
    let at = |list: &[Source], k: usize| list.get(k).or(list.first()).cloned();
    let sample = |k: usize| {
        let sources: Vec<(usize, Source)> =
            lists.iter().filter_map(|(input, list)| Some((*input, at(list, k)?))).collect();
        let label = lists.iter().find(|(_, list)| list.len() > 1).and_then(|(_, list)| at(list, k));
        Sample { sources, test_set: None, label: label.map(|source| source.describe()).unwrap_or_default() }
    };
    Ok((0..count).map(sample).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::npz;
    use crate::testing::Scratch;
    use sardonyx_ops::{DType, Tensor};

    fn signatures(names: &[&str]) -> Vec<Signature> {
        let signature = |name: &&str| Signature { name: (*name).into(), dtype: DType::F32, shape: None };
        names.iter().map(signature).collect()
    }

    fn ask(options: &[&str], names: &[&str]) -> Result<Vec<Sample>, Failure> {
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        samples(&options, &signatures(names))
    }

    #[test]
    fn names_may_be_left_out_and_may_hold_anything() {
        assert_eq!(ask(&[], &["a", "b"]).unwrap(), [Sample::default()]);
        let one = ask(&["random:seed=1"], &["x"]).unwrap();
        assert!(matches!(one[0].sources[..], [(0, Source::Made(_))]));
        let one = ask(&["a=b=zeros", "a=ones"], &["a", "a=b"]).unwrap();
        assert_eq!(one[0].sources.iter().map(|(i, _)| *i).collect::<Vec<_>>(), [1, 0]);
        assert_eq!(ask(&["y=zeros"], &["x"]).unwrap_err().status(), 4);
        assert_eq!(ask(&["zeros"], &["x", "y"]).unwrap_err().status(), 2);
        assert_eq!(ask(&["x=zeros", "x=ones"], &["x", "y"]).unwrap_err().status(), 2);
        assert_eq!(ask(&["zeros"], &[]).unwrap_err().status(), 4);
    }

    #[test]
    fn archives_test_sets_and_folders() {
        let scratch = Scratch::new("request");
        let tensor = Tensor::scalar(1f32);
        let path = scratch.write("two.npz", &npz::write([("b", &tensor), ("a", &tensor)]).unwrap());
        let text = path.to_str().unwrap();
        let sample = &ask(&[text], &["a", "b"]).unwrap()[0];
        assert_eq!(sample.sources[0], (1, Source::Npz(path.clone(), Some("b".into()))));
        assert_eq!(ask(&[text], &["a", "c"]).unwrap_err().status(), 4);
        for k in 0..2 {
            std::fs::create_dir(scratch.path(&format!("test_data_set_{k}"))).unwrap();
            scratch.write(&format!("test_data_set_{k}/input_0.pb"), b"");
        }
        let folder = scratch.path("");
        let sets = ask(&[folder.to_str().unwrap()], &["a", "b"]).unwrap();
        assert_eq!((sets.len(), sets[1].label.as_str()), (2, "test_data_set_1"));
        assert_eq!(sets[0].sources.len(), 1);
        assert!(ask(&[folder.to_str().unwrap(), "a=zeros"], &["a", "b"]).is_err());
        let pictures = Scratch::new("request-pictures");
        for name in ["1.png", "2.png", "3.png"] {
            pictures.write(name, b"");
        }
        let folder = pictures.path("");
        let samples = ask(&[&format!("a={}", folder.display()), "b=zeros"], &["a", "b"]).unwrap();
        assert_eq!((samples.len(), samples[2].sources.len()), (3, 2));
        assert!(samples[2].label.ends_with("3.png"));
    }
}
