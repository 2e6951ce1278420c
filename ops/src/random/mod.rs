//! Operators that draw random numbers. All of them use [`generator::Generator`]: with a seed, each run gives the same
//! numbers; without one, each run gives others.

mod bernoulli;
mod distribution;
mod dropout;
pub mod generator;
mod multinomial;

pub use bernoulli::Bernoulli;
pub use distribution::{Distribution, Random};
pub use dropout::TrainingDropout;
pub use multinomial::Multinomial;

use crate::build::{Build, OperatorRow};

const fn row(name: &'static str, since: i64, build: Build) -> OperatorRow {
    OperatorRow { domain: "", name, since, build }
}

/// The operators of this family.
pub const OPERATORS: &[OperatorRow] = &[
    row("Bernoulli", 15, bernoulli::build),
    row("Dropout", 12, dropout::build),
    row("Multinomial", 7, multinomial::build),
    row("RandomNormal", 1, distribution::normal),
    row("RandomNormalLike", 1, distribution::normal_like),
    row("RandomUniform", 1, distribution::uniform),
    row("RandomUniformLike", 1, distribution::uniform_like),
];
