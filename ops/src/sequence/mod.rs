//! Sequences and optionals. Planning takes them apart: a sequence is the list of its members, so that these stay where they
//! are and nothing is left of the operators here but what they do to tensors.

pub mod at;
pub mod concat_from_sequence;
pub mod construct;
pub mod empty;
pub mod erase;
pub mod insert;
pub mod length;
pub mod map;
pub mod optional;
pub mod optional_get_element;
pub mod optional_has_element;
mod parts;
pub mod split_to_sequence;

use crate::build::OperatorRow;
pub(crate) use parts::parts;

/// The rows of the family.
pub const OPERATORS: &[OperatorRow] = &[
    OperatorRow { domain: "", name: "ConcatFromSequence", since: 11, build: concat_from_sequence::build },
    OperatorRow { domain: "", name: "Optional", since: 15, build: optional::build },
    OperatorRow { domain: "", name: "OptionalGetElement", since: 15, build: optional_get_element::build },
    OperatorRow { domain: "", name: "OptionalHasElement", since: 15, build: optional_has_element::build },
    OperatorRow { domain: "", name: "SequenceAt", since: 11, build: at::build },
    OperatorRow { domain: "", name: "SequenceConstruct", since: 11, build: construct::build },
    OperatorRow { domain: "", name: "SequenceEmpty", since: 11, build: empty::build },
    OperatorRow { domain: "", name: "SequenceErase", since: 11, build: erase::build },
    OperatorRow { domain: "", name: "SequenceInsert", since: 11, build: insert::build },
    OperatorRow { domain: "", name: "SequenceLength", since: 11, build: length::build },
    OperatorRow { domain: "", name: "SequenceMap", since: 17, build: map::build },
    OperatorRow { domain: "", name: "SplitToSequence", since: 11, build: split_to_sequence::build },
];

#[cfg(test)]
mod tests;
