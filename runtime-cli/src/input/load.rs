//! From a sample's sources to tensors.

use std::path::Path;

use sardonyx_ops::Tensor;

use super::generate::Recipe as Made;
use super::picture;
use super::recipe::{Frame, Recipe};
use super::request::Sample;
use super::sizes::Sizes;
use super::source::Source;
use super::{Given, Signature, literal, names, sound};
use crate::elements;
use crate::failure::{Failure, Fault};
use crate::formats::npz::Archive;
use crate::formats::{MOST_BYTES, npy, protobuf, raw, read_file, safetensors};
use crate::output::{Console, format};

/// Recipes by the index of the input, as the `--pre` options give them.
#[derive(Clone, Debug, Default)]
pub struct Recipes(Vec<(usize, String)>);

impl Recipes {
    /// Sorts out `--pre NAME=RECIPE`; the name may be left out when the model has one input.
    ///
    /// # Errors
    /// When the model has no such input, or an input has two recipes.
    pub fn new(options: &[String], signatures: &[Signature]) -> Result<Recipes, Failure> {
        let mut recipes = Vec::new();
        for option in options {
            let named = signatures.iter().enumerate().filter_map(|(i, signature)| {
                let rest = option.strip_prefix(signature.name.as_str())?.strip_prefix('=')?;
                Some((signature.name.len(), i, rest))
            });
            let (input, text) = match named.max_by_key(|(length, ..)| *length) {
                Some((_, input, text)) => (input, text),
                None if signatures.len() == 1 => (0, option.as_str()),
                None => {
                    let message = format!("--pre {option:?} names no input of the model");
                    return Err(Failure::new(Fault::UnknownInput, message)
                        .why(format!("its inputs are {}", names(signatures))));
                }
            };
            if recipes.iter().any(|(other, _)| *other == input) {
                let name = format::name(&signatures[input].name, 60);
                return Err(Failure::new(Fault::Usage, format!("input {name:?} has two recipes")));
            }
            recipes.push((input, text.to_owned()));
        }
        Ok(Recipes(recipes))
    }

    fn of(&self, input: usize) -> Option<&str> {
        self.0.iter().find(|(other, _)| *other == input).map(|(_, text)| text.as_str())
    }

    /// Checks that every recipe has a picture or a sound to work on.
    fn all_used(&self, sample: &Sample, signatures: &[Signature]) -> Result<(), Failure> {
        for (input, _) in &self.0 {
            let source = sample.sources.iter().find(|(other, _)| other == input).map(|(_, source)| source);
            if !matches!(source, Some(Source::Picture(_) | Source::Sound(_))) {
                let name = format::name(&signatures[*input].name, 60);
                let message = format!("--pre for input {name:?}, which gets no picture and no sound");
                return Err(Failure::new(Fault::Usage, message));
            }
        }
        Ok(())
    }
}

/// Loads a sample: reads what has a source, then makes up the rest and says so on the console. The result is in the
/// model's order.
///
/// # Errors
/// When a source cannot be read, or does not fit the model.
pub fn load(
    sample: &Sample,
    signatures: &[Signature],
    recipes: &Recipes,
    mut sizes: Sizes,
    console: &Console,
) -> Result<Vec<Given>, Failure> {
    recipes.all_used(sample, signatures)?;
    let mut given: Vec<Option<Given>> = vec![None; signatures.len()];
    let mut recipes_of_made: Vec<Option<&Made>> = vec![None; signatures.len()];
    for (input, source) in &sample.sources {
        let signature = &signatures[*input];
        if let Source::Made(recipe) = source {
            recipes_of_made[*input] = Some(recipe);
            continue;
        }
        let value = read(source, signature, recipes.of(*input))?;
        sizes.admit(signature, &value.tensor, &value.source)?;
        given[*input] = Some(value);
    }
    let made = given.iter_mut().zip(signatures).zip(recipes_of_made).enumerate();
    for (i, ((slot, signature), asked)) in made {
        if slot.is_none() {
            *slot = Some(make(signature, asked, i + 1, &mut sizes, console)?);
        }
    }
    Ok(given.into_iter().flatten().collect())
}

fn make(
    signature: &Signature,
    asked: Option<&Made>,
    number: usize,
    sizes: &mut Sizes,
    console: &Console,
) -> Result<Given, Failure> {
    let recipe = asked.cloned().unwrap_or_else(|| Made::default_random(number));
    let (dims, defaulted) = sizes.choose(signature);
    let name = format::name(&signature.name, 60);
    for symbol in defaulted {
        console.warn(format!(
            "dimension {symbol} of input {name:?} is not given: 1 (set it with --dim {symbol}=N)"
        ));
    }
    if signature.shape.is_none() && dims.is_empty() {
        console.warn(format!(
            "the dimensions of input {name:?} are not known: a scalar (set them with --shape)"
        ));
    }
    if asked.is_none() {
        let made = format::signature(signature.dtype, &dims);
        console.warn(format!("input {name:?} is not given: made up as {recipe}, {made}"));
    }
    Ok(Given {
        name: signature.name.clone(),
        tensor: recipe.make(signature.dtype, &dims)?,
        source: recipe.to_string(),
        recipe: None,
        made_up: asked.is_none(),
        picture: None,
    })
}

fn read(source: &Source, signature: &Signature, recipe: Option<&str>) -> Result<Given, Failure> {
    let given = |tensor: Tensor| Given {
        name: signature.name.clone(),
        tensor,
        source: source.describe(),
        recipe: None,
        made_up: false,
        picture: None,
    };
    let bytes = |path: &Path| read_file(path, MOST_BYTES);
    Ok(match source {
        Source::Npy(path) => given(npy::read(&bytes(path)?, Some(signature.dtype), path)?),
        Source::Npz(path, key) => {
            let mut archive = Archive::new(bytes(path)?, path)?;
            let key = only_key(key.as_deref(), &archive.keys(), signature, path)?;
            given(archive.get(&key, Some(signature.dtype))?)
        }
        Source::Safetensors(path, key) => {
            let mut tensors = safetensors::read(&bytes(path)?, key.as_deref(), path)?;
            let keys: Vec<String> = tensors.iter().map(|(name, _)| name.clone()).collect();
            let key = only_key(key.as_deref(), &keys, signature, path)?;
            // `only_key` gives a key that is there.
            let at = tensors.iter().position(|(name, _)| *name == key).unwrap_or(0);
            given(tensors.swap_remove(at).1)
        }
        Source::Protobuf(path) => given(protobuf::read(path)?.1),
        Source::Raw(path, dtype, dims) => given(raw::read(bytes(path)?, *dtype, dims, path)?),
        Source::Literal(text) => given(literal::read(text, signature.dtype)?),
        Source::Picture(path) => {
            let frame = frame(signature, path)?;
            let recipe = match recipe {
                Some(text) => Recipe::parse(text, &frame)?,
                None => frame.default_recipe(),
            };
            let recipe = recipe.resolve(&frame)?;
            let picture = picture::read(path)?;
            let rank = signature.shape.as_ref().map_or(4, Vec::len);
            let made = picture::prepare(&picture, &recipe, signature.dtype, rank)?;
            let mut value = given(made.tensor);
            value.recipe = Some(recipe.to_string());
            value.picture = Some((picture, made.geometry));
            value
        }
        Source::Sound(path) => {
            let (tensor, steps) = sound_tensor(path, signature, recipe)?;
            let mut value = given(tensor);
            value.recipe = Some(steps);
            value
        }
        Source::Made(recipe) => {
            return Err(Failure::new(Fault::Defect, format!("{recipe} cannot be read")));
        }
    })
}

/// The key asked for, the input's own name, or the only key there is.
fn only_key(
    key: Option<&str>,
    keys: &[String],
    signature: &Signature,
    path: &Path,
) -> Result<String, Failure> {
    if let Some(key) = key {
        return Ok(key.to_owned());
    }
    match keys {
        [only] => Ok(only.clone()),
        keys if keys.contains(&signature.name) => Ok(signature.name.clone()),
        keys => {
            let shown: Vec<String> = keys.iter().take(8).map(|key| format::name(key, 40)).collect();
            let message = format!("{} holds {} tensors", path.display(), keys.len());
            Err(Failure::new(Fault::Source, message)
                .why(format!("its keys begin with {}", shown.join(", ")))
                .help(format!("say which one: {}:KEY", path.display())))
        }
    }
}

fn frame(signature: &Signature, path: &Path) -> Result<Frame, Failure> {
    let known = signature.known();
    let unranked = [None, None, None, None];
    let shape = if signature.shape.is_none() { &unranked[..] } else { &known };
    Frame::of(shape, signature.dtype.is_float()).ok_or_else(|| {
        let name = format::name(&signature.name, 60);
        let message = format!("input {name:?} is {}, which is no picture", signature.describe());
        Failure::new(Fault::Shape, message).why(format!("the source is {}", path.display()))
    })
}

/// A sound as a tensor: the samples along the last dimension, 1 elsewhere. The recipe may cut: `slice=START:COUNT`.
fn sound_tensor(
    path: &Path,
    signature: &Signature,
    recipe: Option<&str>,
) -> Result<(Tensor, String), Failure> {
    let sound = sound::read(path)?;
    let mut steps = format!("mono of {} at {} Hz", sound.channels, sound.rate);
    let mut samples = sound.samples.as_slice();
    if let Some(recipe) = recipe {
        let fail = |what: String| {
            Failure::new(Fault::Recipe, what).help("the recipe of a sound is slice=START:COUNT")
        };
        let range = recipe.strip_prefix("slice=").and_then(|range| {
            let (start, count) = range.split_once(':')?;
            Some((start.parse::<usize>().ok()?, count.parse::<usize>().ok()?))
        });
        let (start, count) = range.ok_or_else(|| fail(format!("{recipe:?} is no recipe of a sound")))?;
        let end = start.checked_add(count);
        samples = end.and_then(|end| samples.get(start..end)).ok_or_else(|| {
            fail(format!("{recipe}: {} has {} samples", path.display(), sound.samples.len()))
        })?;
        steps = format!("{steps} {recipe}");
    }
    let mut dims = vec![1; signature.shape.as_ref().map_or(2, |shape| shape.len().max(1))];
    if let Some(last) = dims.last_mut() {
        *last = samples.len();
    }
    if !signature.dtype.is_float() {
        let message = format!("a sound has samples of floats, the input is {}", signature.describe());
        return Err(Failure::new(Fault::ElementType, message));
    }
    let values: Vec<f64> = samples.iter().map(|&sample| f64::from(sample)).collect();
    let tensor = elements::from_f64(signature.dtype, &dims, &values)
        .ok_or_else(|| {
            Failure::new(
                Fault::ElementType,
                format!("a sound cannot be given to an input of {}", signature.dtype),
            )
        })?
        .map_err(|error| Failure::new(Fault::Shape, error.to_string()))?;
    Ok((tensor, steps))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::npz;
    use crate::testing::Scratch;
    use sardonyx_ops::DType;
    use sardonyx_ops::ir::dim::Dim;

    fn signature(name: &str, dtype: DType, shape: &[Dim]) -> Signature {
        Signature { name: name.into(), dtype, shape: Some(shape.to_vec()) }
    }

    fn quiet() -> Console {
        Console::new(false, None, true, 0, anstream::ColorChoice::Never, false)
    }

    fn run(options: &[&str], pre: &[&str], all: &[Signature]) -> Result<Vec<Given>, Failure> {
        let own = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<String>>();
        let samples = super::super::request::samples(&own(options), all)?;
        let recipes = Recipes::new(&own(pre), all)?;
        load(&samples[0], all, &recipes, Sizes::new(all, &[], &[])?, &quiet())
    }

    #[test]
    fn every_kind_of_file_arrives() {
        let scratch = Scratch::new("load");
        let all = [signature("x", DType::F32, &[Dim::named("n"), Dim::Known(2)])];
        let tensor = Tensor::from_vec(&[2, 2], vec![1f32, 2.0, 3.0, 4.0]).unwrap();
        let named = || [("x", &tensor)];
        let raw: Vec<u8> = tensor.bytes().to_vec();
        let raw = scratch.write("x.bin", &raw);
        let files = [
            scratch.write("x.npy", &npy::write(&tensor)),
            scratch.write("x.npz", &npz::write(named()).unwrap()),
            scratch.write("x.safetensors", &safetensors::write(named()).unwrap()),
            scratch.write("x.pb", &sardonyx_importer::onnx::encode_tensor(&tensor, "y")),
        ];
        let mut texts: Vec<String> = files.iter().map(|path| path.display().to_string()).collect();
        texts.push(format!("{}:x", files[1].display()));
        texts.push(format!("x={}:x", files[2].display()));
        texts.push(format!("{}:f32:2x2", raw.display()));
        texts.push("[[1,2],[3,4]]".to_owned());
        for text in texts {
            let given = run(&[&text], &[], &all).unwrap();
            assert_eq!(given[0].tensor.bytes(), tensor.bytes(), "{text}");
            assert!(!given[0].made_up);
        }
        let made = run(&[], &[], &all).unwrap();
        assert!(made[0].made_up && made[0].tensor.dims() == [1, 2]);
        assert_eq!(run(&["[[1,2,3]]"], &[], &all).unwrap_err().status(), 4);
        let wrong = scratch.write("w.npy", &npy::write(&Tensor::scalar(1f64)));
        assert_eq!(run(&[wrong.to_str().unwrap()], &[], &all).unwrap_err().status(), 4);
        assert_eq!(run(&["missing.npy"], &[], &all).unwrap_err().status(), 7);
    }

    #[test]
    fn pictures_and_sounds() {
        let scratch = Scratch::new("load-media");
        let path = scratch.path("p.png");
        image::RgbImage::from_pixel(8, 6, image::Rgb([255, 0, 51])).save(&path).unwrap();
        let text = format!("img={}", path.display());
        let known = |dims: &[usize]| dims.iter().map(|&n| Dim::Known(n)).collect::<Vec<_>>();
        let all = [signature("img", DType::F32, &known(&[1, 3, 3, 4]))];
        let given = &run(&[&text], &[], &all).unwrap()[0];
        assert_eq!(given.tensor.dims(), [1, 3, 3, 4]);
        assert_eq!(given.tensor.to_vec::<f32>().unwrap()[24], 0.2);
        assert!(given.recipe.as_deref().unwrap().contains("resize=4x3"));
        let given = &run(&[&text], &["img=mean=255"], &all).unwrap()[0];
        assert_eq!(given.tensor.to_vec::<f32>().unwrap()[0], 0.0);
        assert_eq!(run(&["zeros"], &["unit"], &all).unwrap_err().status(), 2);
        assert_eq!(run(&[&text], &["flip"], &all).unwrap_err().status(), 2);
        let seven = [signature("img", DType::F32, &known(&[1, 7, 3, 4]))];
        assert_eq!(run(&[&text], &[], &seven).unwrap_err().status(), 4);

        let path = scratch.path("s.wav");
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: 8000,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut writer = hound::WavWriter::create(&path, spec).unwrap();
        for sample in [0i16, 8192, 16384, -32768] {
            writer.write_sample(sample).unwrap();
        }
        writer.finalize().unwrap();
        let all = [signature("a", DType::F32, &[Dim::named("batch"), Dim::named("n")])];
        let text = path.to_str().unwrap();
        let given = &run(&[text], &["slice=1:3"], &all).unwrap()[0];
        assert_eq!(given.tensor.to_vec::<f32>().unwrap(), [0.25, 0.5, -1.0]);
        assert_eq!(given.tensor.dims(), [1, 3]);
        assert_eq!(run(&[text], &["slice=2:3"], &all).unwrap_err().status(), 2);
    }
}
