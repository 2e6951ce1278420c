//! One file or folder for each command.

pub mod bench;
pub mod bench_kernel;
pub mod check;
pub mod compare;
pub mod completions;
pub mod conformance;
pub mod devices;
pub mod doctor;
pub mod eval;
pub mod explain;
pub mod inspect;
pub mod man;
pub mod profile;
pub mod quantize;
pub mod run;
pub mod schema;
