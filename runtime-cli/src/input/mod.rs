//! Inputs: from what stands on the command line to tensors that fit the model.

pub mod generate;
pub mod literal;
pub mod load;
pub mod picture;
pub mod recipe;
pub mod request;
pub mod sizes;
pub mod sound;
pub mod source;

use image::RgbImage;
use sardonyx_ops::ir::dim::Dim;
use sardonyx_ops::{DType, Tensor};

use crate::output::format;

/// What a model says about one of its inputs.
#[derive(Clone, Debug)]
pub struct Signature {
    /// The name.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Dimensions; `None` when not even their number is known.
    pub shape: Option<Vec<Dim>>,
}

impl Signature {
    /// `f32[batch,3,224,224]`.
    pub fn describe(&self) -> String {
        match &self.shape {
            Some(shape) => format::signature(self.dtype, shape),
            None => format!("{}[...]", self.dtype),
        }
    }

    /// The dimensions that are numbers; empty when their number is not known.
    pub fn known(&self) -> Vec<Option<usize>> {
        self.shape.iter().flatten().map(Dim::known).collect()
    }
}

/// An input, ready for the model.
#[derive(Clone, Debug)]
pub struct Given {
    /// The input's name.
    pub name: String,
    /// Its value.
    pub tensor: Tensor,
    /// Where the value comes from, in words of the command line.
    pub source: String,
    /// The resolved recipe of a picture or sound.
    pub recipe: Option<String>,
    /// Nobody asked for this value: it was made up.
    pub made_up: bool,
    /// The picture it was made from, and the way back to it.
    pub picture: Option<(RgbImage, picture::Geometry)>,
}

/// The names of all inputs, for messages.
fn names(signatures: &[Signature]) -> String {
    const SHOWN: usize = 8;
    let mut names: Vec<String> = signatures
        .iter()
        .take(SHOWN)
        .map(|signature| format!("{:?}", format::name(&signature.name, 60)))
        .collect();
    if signatures.len() > SHOWN {
        names.push(format!("and {} more", signatures.len() - SHOWN));
    }
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
