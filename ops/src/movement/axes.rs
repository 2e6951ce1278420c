//! Axes that are an attribute in old opsets and an input in new ones.

use super::sizes::{self, optional};
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::fact::Fact;
use crate::ir::view::View;

/// Where an operator's axes are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Axes {
    /// In the node itself; `None` when it does not name any.
    Attribute(Option<Vec<i64>>),
    /// In the input with this index, if given.
    Input(usize),
}

/// What inference knows of axes.
pub enum Known {
    /// There are none.
    Absent,
    /// These.
    These(Vec<i64>),
    /// Some, this many if that is known.
    Some(Option<usize>),
}

impl Axes {
    /// Reads the attribute `axes` before opset `since`; from there on they are input `input`.
    ///
    /// # Errors
    /// When the attribute has another type.
    pub fn from_spec(spec: &NodeSpec<'_>, since: i64, input: usize) -> Result<Axes, OpError> {
        if spec.opset < since {
            return Ok(Axes::Attribute(spec.attributes.ints("axes")?.map(<[i64]>::to_vec)));
        }
        Ok(Axes::Input(input))
    }

    /// What is known before a run.
    ///
    /// # Errors
    /// When the input has another type than an integer.
    pub fn known(&self, inputs: &[Option<&Fact>]) -> Result<Known, OpError> {
        Ok(match self {
            Axes::Attribute(None) => Known::Absent,
            Axes::Attribute(Some(axes)) => Known::These(axes.clone()),
            Axes::Input(index) => match optional(inputs, *index) {
                None => Known::Absent,
                Some(fact) => {
                    sizes::expect_indices(fact.dtype, *index)?;
                    match (fact.integers(), fact.dims().as_deref()) {
                        (Some(axes), _) => Known::These(axes),
                        (None, Some(&[count])) => Known::Some(Some(count)),
                        _ => Known::Some(None),
                    }
                }
            },
        })
    }

    /// The axes of a run, if there are any.
    ///
    /// # Errors
    /// When the input has another type than an integer.
    pub fn of_run(&self, inputs: &[Option<View<'_>>]) -> Result<Option<Vec<i64>>, OpError> {
        match self {
            Axes::Attribute(axes) => Ok(axes.clone()),
            Axes::Input(index) => {
                optional(inputs, *index).map(|axes| sizes::integers(&axes, *index)).transpose()
            }
        }
    }
}
