//! 8-bit integers with ranges measured before: QuantizeLinear and DequantizeLinear around operators.
//!
//! A [`StaticPlan`] knows which values are quantized. The caller measures their ranges on the float model and gives them
//! to [`StaticPlan::apply`]:
//!
//! * Activations get one scale and zero point each. Every reader of a quantized value reads it dequantized.
//! * Constant weights get signed symmetric codes, with a scale for each output channel if wanted.
//! * A bias becomes 32-bit integers in steps of `x_scale * w_scale`, so that it can be added to the integer sum.
//! * `Relu` and `Clip` behind an operator are left out where the codes cannot leave their bounds anyway.
//! * Operators that only move elements keep the scale of what they move.

mod apply;
mod choose;
mod prepare;

use std::collections::HashMap;
use std::sync::Arc;

use super::draft::Draft;
use super::range::Range;
use super::{Excluded, Summary};
use crate::error::{ImportError, Place, UnsupportedFault};

use choose::Choice;

type Result<T> = std::result::Result<T, ImportError>;

/// How codes are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StaticOptions {
    /// Each output channel of a weight has a scale of its own.
    pub per_channel: bool,
    /// Codes of activations have a sign.
    pub signed_activations: bool,
}

/// A model of which it is settled what will be quantized.
#[derive(Debug, Clone)]
pub struct StaticPlan {
    draft: Draft,
    options: StaticOptions,
    choice: Choice,
}

impl StaticPlan {
    /// Settles what is quantized. Batch normalization behind convolutions is folded into them; operators of sets before
    /// 13 are rewritten, because older sets have no scales by channel.
    ///
    /// # Errors
    /// [`ImportError::Unsupported`] when the model's operator set is too old, or an operator in it cannot be rewritten;
    /// what inference of types finds wrong.
    pub fn new(mut draft: Draft, options: &StaticOptions, excluded: &Excluded) -> Result<StaticPlan> {
        const OLDEST: i64 = 7;
        let version = draft.version("").unwrap_or_default();
        if version < OLDEST {
            let detail = format!("operator set {version}; export the model with 13 or newer");
            return Err(ImportError::unsupported(Place::model(), UnsupportedFault::Operator, detail));
        }
        prepare::upgrade(&mut draft)?;
        prepare::fold_normalization(&mut draft)?;
        let choice = Choice::new(&draft, excluded)?;
        Ok(StaticPlan { draft, options: *options, choice })
    }

    /// The values of the float model whose ranges [`StaticPlan::apply`] needs.
    pub fn measured(&self) -> Vec<Arc<str>> {
        self.choice.roots()
    }

    /// The quantized model.
    ///
    /// # Errors
    /// [`ImportError::Input`] when a range is missing.
    pub fn apply(&self, ranges: &HashMap<Arc<str>, Range>) -> Result<(Draft, Summary)> {
        apply::apply(self.draft.clone(), &self.options, &self.choice, ranges)
    }
}

#[cfg(test)]
mod tests;
