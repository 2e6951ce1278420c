//! One file or folder for each command.

pub mod bench;
pub mod check;
pub mod completions;
pub mod conformance;
pub mod devices;
pub mod inspect;
pub mod run;
