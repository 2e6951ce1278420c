//! Named tensors in and out of a run.

use std::ops::Index;
use std::sync::Arc;
use std::time::Duration;

use sardonyx_ops::{Item, Tensor};

use crate::error::{Error, Result};

/// A value of a model: a tensor, or for models that say so a sequence or an optional.
pub type Value = Item<Tensor>;

/// Inputs of a run by name, in any order.
#[derive(Clone, Debug, Default)]
pub struct Inputs<'a> {
    pub(crate) named: Vec<(&'a str, Item<&'a Tensor>)>,
}

impl<'a, const N: usize> From<[(&'a str, &'a Tensor); N]> for Inputs<'a> {
    fn from(named: [(&'a str, &'a Tensor); N]) -> Self {
        named.into_iter().collect()
    }
}

impl<'a> From<Vec<(&'a str, &'a Tensor)>> for Inputs<'a> {
    fn from(named: Vec<(&'a str, &'a Tensor)>) -> Self {
        named.into_iter().collect()
    }
}

impl<'a> FromIterator<(&'a str, &'a Tensor)> for Inputs<'a> {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a Tensor)>>(named: I) -> Self {
        Inputs { named: named.into_iter().map(|(name, tensor)| (name, Item::Tensor(tensor))).collect() }
    }
}

impl<'a> FromIterator<(&'a str, &'a Value)> for Inputs<'a> {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a Value)>>(named: I) -> Self {
        let tensors = |value: &'a Value| value.map(&mut |tensor| tensor);
        Inputs { named: named.into_iter().map(|(name, value)| (name, tensors(value))).collect() }
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
    pub(crate) values: Vec<Value>,
}

impl Outputs {
    /// The tensor of this name.
    ///
    /// # Errors
    /// When the model has no such output, or it is no tensor.
    pub fn get(&self, name: &str) -> Result<&Tensor> {
        let value = self.value(name)?;
        value.tensor().ok_or_else(|| Error::Output {
            name: name.to_owned(),
            problem: format!("it is {}, not a tensor", value.kind()),
        })
    }

    /// The output of this name, whatever it is.
    ///
    /// # Errors
    /// When the model has no such output.
    pub fn value(&self, name: &str) -> Result<&Value> {
        let index = self.names.iter().position(|n| &**n == name);
        index.and_then(|index| self.values.get(index)).ok_or_else(|| Error::Output {
            name: name.to_owned(),
            problem: format!("the model has {}", self.names.join(", ")),
        })
    }

    /// Names and tensors, in the model's order; those of a sequence one after another under its name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.values().flat_map(|(name, value)| value.tensors().into_iter().map(move |tensor| (name, tensor)))
    }

    /// Names and values, in the model's order.
    pub fn values(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.names.iter().map(|name| &**name).zip(&self.values)
    }

    /// Where the time of the run went.
    pub fn times(&self) -> Times {
        self.times
    }

    /// The number of outputs.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// No outputs at all.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

/// The tensor of this name.
///
/// # Panics
/// When the model has no such output, or it is no tensor, like a slice index out of range; [`Outputs::get`] gives an error instead.
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

/// The tensor at this place.
///
/// # Panics
/// When there is none, or it is no tensor, as indexing by name.
impl Index<usize> for Outputs {
    type Output = Tensor;

    #[allow(clippy::panic, reason = "indexing panics by contract; `get` is the fallible form")]
    fn index(&self, index: usize) -> &Tensor {
        match &self.values[index] {
            Item::Tensor(tensor) => tensor,
            other => panic!("the output is {}", other.kind()),
        }
    }
}
