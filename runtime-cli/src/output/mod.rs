//! What the command writes: results on standard output, notes and errors on standard error, files.

pub mod atomic;
pub mod console;
pub mod format;
pub mod log;
pub mod page;
pub mod progress;
pub mod save;
pub mod statistics;
pub mod svg;
pub mod table;

pub use console::Console;
