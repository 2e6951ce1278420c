//! The two streams: results on standard output, everything else on standard error.

use std::cell::RefCell;
use std::io::{self, Write};
use std::path::PathBuf;

use anstream::{AutoStream, ColorChoice};
use serde_json::{Map, Value, json};

use super::atomic;
use super::progress::{Progress, Screen};
use crate::failure::{Failure, Fault, Report};

/// How much is said, where, and in which form.
#[derive(Debug)]
pub struct Console {
    json: bool,
    out: Option<PathBuf>,
    quiet: bool,
    verbosity: u8,
    color: ColorChoice,
    progress: bool,
    screen: Screen,
    warnings: RefCell<Vec<String>>,
}

impl Console {
    /// A console as the global options want it.
    pub fn new(
        json: bool,
        out: Option<PathBuf>,
        quiet: bool,
        verbosity: u8,
        color: ColorChoice,
        progress: bool,
    ) -> Console {
        Console {
            json,
            out,
            quiet,
            verbosity,
            color,
            progress,
            screen: Screen::default(),
            warnings: RefCell::default(),
        }
    }

    /// A console that takes everything and says nothing.
    pub fn silent() -> Console {
        Console::new(true, None, true, 0, ColorChoice::Never, false)
    }

    /// More is wanted than usual: `-v`.
    pub fn is_verbose(&self) -> bool {
        self.verbosity > 0
    }

    /// Work that begins, of `length` parts or of unknown length. It is spoken of when it takes longer than two seconds,
    /// unless nobody wants that.
    pub fn progress(&self, length: impl Into<Option<u64>>, what: &'static str) -> Progress {
        match self.progress && !self.quiet {
            true => Progress::new(length.into(), what, &self.screen),
            false => Progress::default(),
        }
    }

    /// A line of the human result, ended by a line break.
    ///
    /// # Errors
    /// When standard output cannot be written; [`Failure::Closed`] when its reader went away.
    pub fn line(&self, text: impl AsRef<str>) -> Result<(), Failure> {
        if self.json {
            return Ok(());
        }
        self.write_out(text.as_ref())
    }

    /// A line of a result that is the same with and without `--json`.
    ///
    /// # Errors
    /// As [`Console::line`].
    pub fn result(&self, text: impl AsRef<str>) -> Result<(), Failure> {
        self.write_out(text.as_ref())
    }

    /// Something worth knowing that is no result: goes to standard error unless `--quiet`.
    pub fn note(&self, text: impl AsRef<str>) {
        if !self.quiet {
            self.write_err("", "", text.as_ref());
        }
    }

    /// Details for those who gave `-v`.
    pub fn detail(&self, text: impl AsRef<str>) {
        if self.is_verbose() {
            self.note(text);
        }
    }

    /// A warning: goes to standard error unless `--quiet`, and into the document in any case.
    pub fn warn(&self, text: impl Into<String>) {
        let text = text.into();
        if !self.quiet {
            self.write_err("\x1b[1;33m", "warning", &text);
        }
        self.warnings.borrow_mut().push(text);
    }

    /// An error in the form of the contract.
    pub fn error(&self, report: &Report) {
        self.write_err("\x1b[1;31m", &format!("error[{}]", report.code), &report.to_string());
    }

    /// The document of a command: its fields, with the schema before and the warnings so far after them.
    pub fn document(&self, command: &str, fields: Map<String, Value>) -> Map<String, Value> {
        let mut document = Map::new();
        document.insert("schema".to_owned(), json!(format!("sardonyx.{command}/1")));
        document.extend(fields);
        document.insert("warnings".to_owned(), json!(*self.warnings.borrow()));
        document
    }

    /// Ends a command: adds schema and warnings to its document and puts it where it is wanted.
    ///
    /// # Errors
    /// When a file or standard output cannot be written.
    pub fn finish(&self, command: &str, fields: Map<String, Value>) -> Result<(), Failure> {
        if !self.json && self.out.is_none() {
            return Ok(());
        }
        let document = self.document(command, fields);
        let text = serde_json::to_string_pretty(&document)
            .map_err(|error| Failure::new(Fault::Defect, format!("the document has no text: {error}")))?;
        if let Some(path) = &self.out {
            atomic::write(path, format!("{text}\n").as_bytes())?;
        }
        if self.json { self.write_out(&text) } else { Ok(()) }
    }

    fn write_out(&self, text: &str) -> Result<(), Failure> {
        let written = self.screen.write(|| {
            let mut stream = AutoStream::new(io::stdout().lock(), self.color);
            writeln!(stream, "{text}").and_then(|()| stream.flush())
        });
        written.map_err(|error| {
            if error.kind() == io::ErrorKind::BrokenPipe {
                Failure::Closed
            } else {
                Failure::new(Fault::File, format!("standard output: {error}"))
            }
        })
    }

    fn write_err(&self, style: &str, label: &str, text: &str) {
        self.screen.write(|| {
            let mut stream = AutoStream::new(io::stderr().lock(), self.color);
            // Where standard error is gone there is nobody left to tell.
            let _ = match label {
                "" => writeln!(stream, "{text}"),
                label => writeln!(stream, "{style}{label}\x1b[0m: {text}"),
            };
        });
    }
}
