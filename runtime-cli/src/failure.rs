//! What a command ends with when it does not end well: an exit code, a stable error code, and text for people.

use std::fmt;
use std::path::Path;

/// The exit codes of the command, part of its contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// A gate failed: tolerance, coverage, a change for the worse.
    Gate = 1,
    /// Wrong usage.
    Usage = 2,
    /// The model was refused.
    Model = 3,
    /// An input does not fit the model.
    Input = 4,
    /// The device is missing, lost or out of memory.
    Device = 5,
    /// A deadline passed.
    Deadline = 6,
    /// A file or the network failed.
    File = 7,
    /// Noise hides the answer.
    Inconclusive = 8,
    /// A defect in Sardonyx.
    Defect = 70,
}

/// What is wrong, for errors that the command itself finds. Codes `SDX-08xx`, and the engine's
/// own where it would find the same a little later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Options that contradict each other, or an option that matches nothing.
    Usage,
    /// No input of the model has this name.
    UnknownInput,
    /// A source of an input cannot be understood.
    Source,
    /// The element type differs from the model's.
    ElementType,
    /// The dimensions differ from the model's.
    Shape,
    /// A tensor, picture or sound file is damaged or of another kind.
    Malformed,
    /// A preprocess recipe cannot be understood or does not fit.
    Recipe,
    /// A file cannot be read or written.
    File,
    /// A task does not fit the model's outputs.
    Task,
    /// A defect of ours.
    Defect,
}

impl Fault {
    /// The stable code.
    pub fn code(self) -> &'static str {
        match self {
            Fault::Usage => "SDX-0801",
            Fault::UnknownInput => "SDX-0502",
            Fault::Source => "SDX-0802",
            Fault::ElementType => "SDX-0503",
            Fault::Shape => "SDX-0504",
            Fault::Malformed => "SDX-0803",
            Fault::Recipe => "SDX-0804",
            Fault::File => "SDX-0805",
            Fault::Task => "SDX-0806",
            Fault::Defect => "SDX-0901",
        }
    }

    fn exit(self) -> Exit {
        match self {
            Fault::Usage | Fault::Source | Fault::Recipe => Exit::Usage,
            Fault::UnknownInput | Fault::ElementType | Fault::Shape | Fault::Malformed => Exit::Input,
            Fault::File => Exit::File,
            Fault::Task => Exit::Usage,
            Fault::Defect => Exit::Defect,
        }
    }
}

/// Why a command stopped.
#[derive(Clone, Debug)]
pub enum Failure {
    /// The reader of standard output went away: nobody wants the rest, and nobody is to blame.
    Closed,
    /// A gate failed; what failed was printed as a result.
    Gate,
    /// An error to be shown.
    Error(Box<Report>),
}

/// An error as it is shown.
#[derive(Clone, Debug)]
pub struct Report {
    /// Exit code.
    pub exit: Exit,
    /// Stable code, `SDX-0805`.
    pub code: &'static str,
    /// One sentence.
    pub message: String,
    /// The model, and where in it.
    pub model: Option<String>,
    /// The reason, when the message does not say it all.
    pub why: Option<String>,
    /// What to do next.
    pub help: Option<String>,
}

impl Failure {
    /// An error found by the command itself.
    pub fn new(fault: Fault, message: impl Into<String>) -> Failure {
        Failure::with_code(fault.exit(), fault.code(), message)
    }

    /// An error with a code from another crate.
    pub fn with_code(exit: Exit, code: &'static str, message: impl Into<String>) -> Failure {
        Failure::Error(Box::new(Report {
            exit,
            code,
            message: message.into(),
            model: None,
            why: None,
            help: None,
        }))
    }

    /// A file that cannot be read or written.
    pub fn file(path: &Path, error: &std::io::Error) -> Failure {
        Failure::new(Fault::File, format!("{}: {error}", path.display()))
    }

    /// Adds the reason.
    #[must_use]
    pub fn why(mut self, why: impl Into<String>) -> Failure {
        if let Failure::Error(report) = &mut self {
            report.why = Some(why.into());
        }
        self
    }

    /// Adds what to do next.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Failure {
        if let Failure::Error(report) = &mut self {
            report.help = Some(help.into());
        }
        self
    }

    /// Adds the model, unless one is named already.
    #[must_use]
    pub fn in_model(mut self, model: impl Into<String>) -> Failure {
        if let Failure::Error(report) = &mut self
            && report.model.is_none()
        {
            report.model = Some(model.into());
        }
        self
    }

    /// The exit status of the process.
    pub fn status(&self) -> u8 {
        match self {
            Failure::Closed => 0,
            Failure::Gate => Exit::Gate as u8,
            Failure::Error(report) => report.exit as u8,
        }
    }

    /// The sentence of the error, for places that show it in a line of their own.
    pub fn message(&self) -> &str {
        match self {
            Failure::Closed => "standard output was closed",
            Failure::Gate => "a gate failed",
            Failure::Error(report) => &report.message,
        }
    }
}

impl fmt::Display for Report {
    /// The lines after `error[CODE]: `, each indented under it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let lines = [("model", &self.model), ("why", &self.why), ("help", &self.help)];
        for (label, text) in lines {
            if let Some(text) = text {
                write!(f, "\n  {label:<7} {text}")?;
            }
        }
        Ok(())
    }
}

impl From<Report> for Failure {
    fn from(report: Report) -> Failure {
        Failure::Error(Box::new(report))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_an_error() {
        let failure = Failure::new(Fault::Shape, "input x has the wrong shape")
            .in_model("a.onnx")
            .in_model("ignored")
            .help("use --shape");
        let Failure::Error(report) = &failure else { panic!("an error") };
        assert_eq!(
            report.to_string(),
            "input x has the wrong shape\n  model   a.onnx\n  help    use --shape"
        );
        assert_eq!((failure.status(), report.code), (4, "SDX-0504"));
    }
}
