//! `--expect`: comparing outputs with those of a file or an ONNX test set.

use std::path::{Path, PathBuf};

use sardonyx::Tensor;

use crate::compare::{Comparison, Tolerance, compare};
use crate::failure::{Failure, Fault};
use crate::formats::npz::Archive;
use crate::formats::{MOST_BYTES, protobuf, read_file, safetensors};
use crate::input::request::Sample;
use crate::output::{Console, format};
use crate::task::Output;

/// Arguments of the comparison.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Expectations")]
pub struct ExpectArgs {
    /// Compare with FILE.npz, FILE.safetensors (by name) or an ONNX test set; exit 1 when out of tolerance
    ///
    /// A test set given as input is compared with its own outputs without this option. Without -i, the inputs are
    /// those of the test set.
    #[arg(long, value_name = "PATH")]
    expect: Option<PathBuf>,
    /// Absolute tolerance [default: 1e-4 (f16: 2e-3) of the output's largest magnitude; integers exact]
    #[arg(long, value_name = "V")]
    atol: Option<f64>,
    /// Relative tolerance [default: 1e-3 (f16: 2e-2); integers exact]
    #[arg(long, value_name = "V")]
    rtol: Option<f64>,
}

impl ExpectArgs {
    /// The folder of `--expect`, when it brings inputs along.
    pub fn folder_with_inputs(&self) -> Option<&Path> {
        self.expect.as_deref().filter(|path| super::has_inputs(path))
    }

    /// What the outputs of sample `k` of `count` should be; `None` when nothing is expected.
    ///
    /// # Errors
    /// When files cannot be read, or hold names that are no outputs.
    pub fn expected(
        &self,
        sample: &Sample,
        k: usize,
        count: usize,
        outputs: &[Output],
    ) -> Result<Option<Vec<Output>>, Failure> {
        let Some(path) = &self.expect else {
            return match &sample.test_set {
                Some(folder) if folder.join("output_0.pb").is_file() => {
                    from_test_set(folder, outputs).map(Some)
                }
                _ => Ok(None),
            };
        };
        if path.is_dir() {
            let sets = protobuf::test_sets(path);
            let folder = match sets.len() {
                1 => sets.first(),
                n if n == count => sets.get(k),
                n => {
                    let message = format!("{}: {n} test sets for {count} samples", path.display());
                    return Err(Failure::new(Fault::Usage, message));
                }
            };
            return match folder {
                Some(folder) => from_test_set(folder, outputs).map(Some),
                None => Err(Failure::new(Fault::Usage, format!("{}: no test set", path.display()))),
            };
        }
        let bytes = read_file(path, MOST_BYTES)?;
        let named: Vec<Output> = match path.extension().and_then(|ending| ending.to_str()) {
            Some("npz") => {
                let mut archive = Archive::new(bytes, path)?;
                let keys = archive.keys();
                let dtype = |key: &str| outputs.iter().find(|(name, _)| name == key).map(|(_, t)| t.dtype());
                keys.into_iter()
                    .map(|key| archive.get(&key, dtype(&key)).map(|tensor| (key, tensor)))
                    .collect::<Result<_, Failure>>()?
            }
            Some("safetensors") => safetensors::read(&bytes, None, path)?,
            _ => {
                let message =
                    format!("{}: expected outputs are .npz, .safetensors or a test set", path.display());
                return Err(Failure::new(Fault::Usage, message));
            }
        };
        if let Some((name, _)) = named.iter().find(|(name, _)| outputs.iter().all(|(other, _)| other != name))
        {
            let message = format!("{}: the model has no output {:?}", path.display(), format::name(name, 60));
            return Err(Failure::new(Fault::Usage, message));
        }
        Ok(Some(named))
    }

    /// Checks that a tolerance has something to be held to.
    ///
    /// # Errors
    /// When neither `--expect` nor a sample has outputs to compare with.
    pub fn check(&self, samples: &[Sample]) -> Result<(), Failure> {
        let expects = self.expect.is_some() || samples.iter().any(|sample| sample.test_set.is_some());
        if expects || self.atol.or(self.rtol).is_none() {
            return Ok(());
        }
        Err(Failure::new(Fault::Usage, "--atol and --rtol need --expect or a test set"))
    }

    /// Compares the outputs that are both wanted and expected, and prints how far they are apart.
    ///
    /// # Errors
    /// When standard output cannot be written, or nothing that is expected is wanted.
    pub fn compare(
        &self,
        outputs: &[Output],
        expected: &[Output],
        wanted: &[&str],
        half: bool,
        console: &Console,
    ) -> Result<Vec<(String, Comparison)>, Failure> {
        let mut compared = Vec::new();
        for (name, want) in expected.iter().filter(|(name, _)| wanted.contains(&name.as_str())) {
            let got = outputs.iter().find(|(other, _)| other == name).map_or(want, |(_, got)| got);
            let comparison = compare(got, want, self.tolerance(want, half));
            let verdict = if comparison.passes() { "pass" } else { "FAIL" };
            console.line(format!("expect  {verdict}  {}", format::name(name, 40)))?;
            console.line(format!("        {}", comparison.to_text()))?;
            compared.push((name.clone(), comparison));
        }
        if compared.is_empty() {
            return Err(Failure::new(Fault::Usage, "--expect: none of the wanted outputs is expected"));
        }
        Ok(compared)
    }

    fn tolerance(&self, want: &Tensor, half: bool) -> Tolerance {
        let default = Tolerance::default_for(want.dtype(), half);
        if self.atol.is_none() && self.rtol.is_none() {
            return default;
        }
        Tolerance { rtol: self.rtol.unwrap_or(0.0), atol: self.atol.unwrap_or(0.0), scaled: false }
    }
}

/// The `output_J.pb` of a test set, under the names of the model's outputs.
fn from_test_set(folder: &Path, outputs: &[Output]) -> Result<Vec<Output>, Failure> {
    let files = protobuf::numbered(folder, "output");
    if files.len() > outputs.len() || files.is_empty() {
        let message =
            format!("{} has {} outputs, the model {}", folder.display(), files.len(), outputs.len());
        return Err(Failure::new(Fault::Usage, message));
    }
    let named = files.iter().zip(outputs);
    named.map(|(file, (name, _))| Ok((name.clone(), protobuf::read(file)?.1))).collect()
}
