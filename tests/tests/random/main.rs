//! Random cases of every operator on every device, against the operator's reference.
//!
//! Each family has a table of generators: a function that makes one random use of an operator as a model would write it.
//! Every case has a seed, which a failure names: `SARDONYX_CASE=Name:seed:level` runs that one again.
//! `SARDONYX_SOAK=cases` runs more of each operator than usual.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "test code")]

mod attention;
mod driver;
mod graphs;
mod indexing;
mod matmul;
mod motifs;
mod movement;
mod node;
mod norm;
mod operators;
mod pointwise;
mod quantize;
mod recurrent;
mod reduce;
mod repeat;
mod resize;
mod rest;
mod specification;
mod windows;

use driver::{Generator, check_family};

/// Operators without a generator, and why.
const EXEMPT: &[(&str, &[&str])] = &[
    (
        "its results are random",
        &[
            "Bernoulli",
            "Multinomial",
            "RandomNormal",
            "RandomNormalLike",
            "RandomUniform",
            "RandomUniformLike",
        ],
    ),
    ("it runs nested graphs, which the models of the importer's tests try", &["If", "Loop", "Scan"]),
    (
        "planning takes it apart, which the importer's tests of sequences try",
        &[
            "ConcatFromSequence",
            "Optional",
            "OptionalGetElement",
            "OptionalHasElement",
            "SequenceAt",
            "SequenceConstruct",
            "SequenceEmpty",
            "SequenceErase",
            "SequenceInsert",
            "SequenceLength",
            "SequenceMap",
            "SplitToSequence",
        ],
    ),
    ("it reads files, of which random bytes are none", &["ImageDecoder"]),
    ("maps are refused", &["DictVectorizer", "ZipMap"]),
    ("it reads or writes text in most models; its own tests try it", &["CategoryMapper"]),
    (
        "it reads text, of which random cases say little",
        &["RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit", "TfIdfVectorizer"],
    ),
];

const FAMILIES: &[&[Generator]] = &[
    attention::GENERATORS,
    indexing::GENERATORS,
    matmul::GENERATORS,
    movement::GENERATORS,
    norm::GENERATORS,
    pointwise::GENERATORS,
    quantize::GENERATORS,
    recurrent::GENERATORS,
    reduce::GENERATORS,
    resize::GENERATORS,
    rest::GENERATORS,
    windows::GENERATORS,
];

#[test]
fn attention_operators() {
    check_family(attention::GENERATORS);
}

#[test]
fn indexing_operators() {
    check_family(indexing::GENERATORS);
}

#[test]
fn matmul_operators() {
    check_family(matmul::GENERATORS);
}

#[test]
fn movement_operators() {
    check_family(movement::GENERATORS);
}

#[test]
fn norm_operators() {
    check_family(norm::GENERATORS);
}

#[test]
fn pointwise_operators() {
    check_family(pointwise::GENERATORS);
}

#[test]
fn quantize_operators() {
    check_family(quantize::GENERATORS);
}

#[test]
fn recurrent_operators() {
    check_family(recurrent::GENERATORS);
}

#[test]
fn reduce_operators() {
    check_family(reduce::GENERATORS);
}

#[test]
fn resize_operators() {
    check_family(resize::GENERATORS);
}

#[test]
fn rest_operators() {
    check_family(rest::GENERATORS);
}

#[test]
fn windows_operators() {
    check_family(windows::GENERATORS);
}

#[test]
fn every_operator_has_a_generator_or_a_reason() {
    let exempt = |name: &str| EXEMPT.iter().any(|(_, names)| names.contains(&name));
    let tried = |domain: &str, name: &str| {
        FAMILIES.iter().copied().flatten().any(|one| (one.domain, one.name) == (domain, name))
    };
    let mut wrong: Vec<String> = Vec::new();
    for row in sardonyx_importer::table::rows() {
        match (tried(row.domain, row.name), exempt(row.name)) {
            (false, false) => wrong.push(format!("{} {} has no generator", row.domain, row.name)),
            (true, true) => wrong.push(format!("{} is exempt, but has a generator", row.name)),
            _ => {}
        }
    }
    wrong.dedup();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
