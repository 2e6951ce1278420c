//! Named tensors in and out of a run.

use std::ops::Index;
use std::sync::Arc;
use std::time::Duration;

use sardonyx_ops::Tensor;

use crate::error::{Error, Result};

/// Inputs of a run by name, in any order.
#[derive(Clone, Debug, Default)]
pub struct Inputs<'a> {
    pub(crate) named: Vec<(&'a str, &'a Tensor)>,
}

impl<'a, const N: usize> From<[(&'a str, &'a Tensor); N]> for Inputs<'a> {
    fn from(named: [(&'a str, &'a Tensor); N]) -> Self {
        Inputs { named: named.into() }
    }
}

impl<'a> From<Vec<(&'a str, &'a Tensor)>> for Inputs<'a> {
    fn from(named: Vec<(&'a str, &'a Tensor)>) -> Self {
        Inputs { named }
    }
}

impl<'a> FromIterator<(&'a str, &'a Tensor)> for Inputs<'a> {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a Tensor)>>(named: I) -> Self {
        Inputs { named: named.into_iter().collect() }
    }
}

/// Where the time of a run went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// Planning and compiling, when the sizes were new.
    pub prepare: Duration,
    /// Writing inputs to the device.
    pub upload: Duration,
    /// Recording, submitting, and waiting for the device.
    pub compute: Duration,
    /// Reading results back.
    pub read: Duration,
    /// Steps on the CPU.
    pub host: Duration,
    /// Everything.
    pub total: Duration,
}

/// Outputs of a run, in the model's order.
#[derive(Clone, Debug)]
pub struct Outputs {
    pub(crate) times: Times,
    pub(crate) names: Arc<[Arc<str>]>,
    pub(crate) tensors: Vec<Tensor>,
}

impl Outputs {
    /// The output of this name.
    ///
    /// # Errors
    /// When the model has no such output.
    pub fn get(&self, name: &str) -> Result<&Tensor> {
        let index = self.names.iter().position(|n| &**n == name);
        index.and_then(|index| self.tensors.get(index)).ok_or_else(|| Error::Output {
            name: name.to_owned(),
            problem: format!("the model has {}", self.names.join(", ")),
        })
    }

    /// Names and tensors, in the model's order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.names.iter().map(|name| &**name).zip(&self.tensors)
    }

    /// Where the time of the run went.
    pub fn times(&self) -> Times {
        self.times
    }

    /// The number of outputs.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// No outputs at all.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }
}

/// The output of this name.
///
/// # Panics
/// When the model has no such output, like a slice index out of range; [`Outputs::get`] gives an error instead.
impl Index<&str> for Outputs {
    type Output = Tensor;

    #[allow(clippy::panic, reason = "indexing panics by contract; `get` is the fallible form")]
    fn index(&self, name: &str) -> &Tensor {
        match self.get(name) {
            Ok(tensor) => tensor,
            Err(error) => panic!("{error}"),
        }
    }
}

/// The output at this place.
impl Index<usize> for Outputs {
    type Output = Tensor;

    fn index(&self, index: usize) -> &Tensor {
        &self.tensors[index]
    }
}
