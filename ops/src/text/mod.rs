//! Operators on strings.

mod concat;
pub mod equal;
mod normalizer;
mod pattern;
mod regex_full_match;
mod split;
mod tf_idf;

pub use concat::StringConcat;
pub use normalizer::{Case, StringNormalizer};
pub use regex_full_match::RegexFullMatch;
pub use split::StringSplit;
pub use tf_idf::{Mode, Pool, TfIdfVectorizer};

use crate::build::OperatorRow;
use crate::error::OpError;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::view::View;

/// The operators of this family.
pub const OPERATORS: &[OperatorRow] = &[
    OperatorRow { domain: "", name: "RegexFullMatch", since: 20, build: regex_full_match::build },
    OperatorRow { domain: "", name: "StringConcat", since: 20, build: concat::build },
    OperatorRow { domain: "", name: "StringNormalizer", since: 10, build: normalizer::build },
    OperatorRow { domain: "", name: "StringSplit", since: 20, build: split::build },
    OperatorRow { domain: "", name: "TfIdfVectorizer", since: 9, build: tf_idf::build },
];

/// Whether an input holds strings.
fn expect_strings(fact: &Fact, input: usize) -> Result<(), OpError> {
    match fact.dtype {
        DType::Str => Ok(()),
        got => Err(OpError::Type { input, expected: "str", got }),
    }
}

/// The strings of input `input` of a run.
fn strings<'a>(inputs: &[Option<View<'a>>], input: usize) -> Result<(&'a [usize], &'a [String]), OpError> {
    let view = crate::movement::sizes::view(inputs, input)?;
    match view.strings {
        Some(strings) if strings.len() == view.len() => Ok((view.dims, strings)),
        Some(_) => Err(OpError::Internal("as many strings as the dimensions do not say")),
        None => Err(OpError::Type { input, expected: "str", got: view.dtype }),
    }
}
