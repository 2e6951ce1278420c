//! What classifiers and regressors do with the scores of a row, and the classes that they name.

use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::dtype::DType;
use crate::ir::tensor::Tensor;
use crate::norm::{Form, Softmax};

/// What becomes of the scores of a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum After {
    None,
    Softmax,
    Logistic,
    /// Softmax of the scores that are not zero; zeros stay.
    SoftmaxZero,
}

impl After {
    /// By its number, as newer operators write it.
    pub(super) fn from_number(number: i64) -> Result<After, OpError> {
        Ok(match number {
            0 => After::None,
            1 => After::Softmax,
            2 => After::Logistic,
            3 => After::SoftmaxZero,
            4 => return Err(OpError::unsupported("post_transform PROBIT")),
            _ => return Err(OpError::Attribute { name: "post_transform", expected: "a number from 0 to 4" }),
        })
    }

    /// By its name, as the attribute `post_transform` of older operators has it.
    pub(super) fn from_spec(spec: &NodeSpec<'_>) -> Result<After, OpError> {
        let names = ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"];
        let name = spec.attributes.str_or("post_transform", "NONE".to_owned())?;
        let number = names.iter().position(|known| *known == name).and_then(|at| i64::try_from(at).ok());
        After::from_number(number.unwrap_or(-1))
    }

    /// Turns the scores of a row into what is given out.
    pub(super) fn apply(self, scores: &mut [f64]) -> Result<(), OpError> {
        let softmax = Softmax { form: Form::Soft, axis: 0, flatten: false };
        match self {
            After::None => {}
            After::Softmax => softmax.transform(scores, &[scores.len()])?,
            After::Logistic => scores.iter_mut().for_each(|x| *x = logistic(*x)),
            After::SoftmaxZero => {
                let mut others: Vec<f64> = scores.iter().copied().filter(|&x| x != 0.0).collect();
                let count = others.len();
                softmax.transform(&mut others, &[count])?;
                scores.iter_mut().filter(|x| **x != 0.0).zip(others).for_each(|(x, soft)| *x = soft);
            }
        }
        Ok(())
    }

    /// The scores of two classes where the model has one score for the second of them. `is_share` says that it is the
    /// share of that class, not a distance from the border between the two.
    pub(super) fn of_two(self, score: f64, is_share: bool) -> [f64; 2] {
        match (self, is_share) {
            (_, true) => [1.0 - score, score],
            (After::Logistic, false) => [logistic(-score), logistic(score)],
            (_, false) => [-score, score],
        }
    }
}

fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The names of classes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Classes {
    Strings(Vec<String>),
    Integers(Vec<i64>),
}

impl Classes {
    /// Those of the attribute `classlabels_strings`, or of that for integers.
    pub(super) fn from_spec(spec: &NodeSpec<'_>, integers: &'static str) -> Result<Classes, OpError> {
        let strings = spec.attributes.strs("classlabels_strings")?.unwrap_or_default();
        let integers_given = spec.attributes.ints(integers)?.unwrap_or_default();
        match (strings, integers_given) {
            ([], []) => Err(OpError::Attribute { name: integers, expected: "the names of the classes" }),
            (strings, []) => Ok(Classes::Strings(strings.to_vec())),
            ([], all) => Ok(Classes::Integers(all.to_vec())),
            _ => Err(OpError::constraint("names of the classes", "strings or integers", "both")),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Classes::Strings(all) => all.len(),
            Classes::Integers(all) => all.len(),
        }
    }

    pub(super) fn dtype(&self) -> DType {
        match self {
            Classes::Strings(_) => DType::Str,
            Classes::Integers(_) => DType::I64,
        }
    }

    /// The names of the classes with these indices.
    pub(super) fn tensor(&self, indices: &[usize]) -> Result<Tensor, OpError> {
        let lost = OpError::Internal("a class without a name");
        Ok(match self {
            Classes::Strings(all) => {
                let names = indices.iter().map(|&index| all.get(index).cloned());
                Tensor::from_strings(&[indices.len()], names.collect::<Option<_>>().ok_or(lost)?)?
            }
            Classes::Integers(all) => {
                let names = indices.iter().map(|&index| all.get(index).copied());
                Tensor::from_vec(&[indices.len()], names.collect::<Option<_>>().ok_or(lost)?)?
            }
        })
    }
}

/// The index of the first of the largest scores.
pub(super) fn largest(scores: impl IntoIterator<Item = f64>) -> usize {
    let mut best = (0, f64::NEG_INFINITY);
    for (index, score) in scores.into_iter().enumerate() {
        if score > best.1 {
            best = (index, score);
        }
    }
    best.0
}
