//! Models times devices in a file.

use std::fmt::Write;
use std::path::Path;

use sardonyx::Device;
use serde_json::{Value, json};

use super::coverage::Cell;
use crate::failure::{Failure, Fault};
use crate::output::atomic;

/// The form of the file, by its ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A table in Markdown.
    Markdown,
    /// The documents of all models.
    Json,
}

impl Form {
    /// The form that a path asks for.
    ///
    /// # Errors
    /// When it is neither `.md` nor `.json`.
    pub fn of(path: &Path) -> Result<Form, Failure> {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("md") => Ok(Form::Markdown),
            Some("json") => Ok(Form::Json),
            _ => Err(Failure::new(Fault::Usage, "--matrix writes a .md or a .json file")),
        }
    }
}

/// Writes the matrix.
///
/// # Errors
/// When the file cannot be written.
pub fn write(
    form: Form,
    path: &Path,
    devices: &[Device],
    rows: &[(String, Vec<Cell>)],
    documents: &[Value],
) -> Result<(), Failure> {
    let text = match form {
        Form::Json => format!("{:#}\n", json!({"schema": "sardonyx.check/1", "models": documents})),
        Form::Markdown => {
            let names: Vec<String> =
                devices.iter().map(|device| format!("{} {}", device.info().id, device.info().name)).collect();
            let rows = rows.iter().map(|(name, cells)| (name.as_str(), cells.iter().map(Cell::short)));
            markdown(&names, rows)
        }
    };
    atomic::write(path, text.as_bytes())
}

/// Operators on the device of all, for each model and device.
fn markdown<'a>(
    devices: &[String],
    rows: impl Iterator<Item = (&'a str, impl Iterator<Item = String>)>,
) -> String {
    let escape = |text: &str| text.replace('|', "\\|");
    let mut text = String::from("| model |");
    devices.iter().for_each(|name| {
        let _ = write!(text, " {} |", escape(name));
    });
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(devices.len()));
    for (name, cells) in rows {
        let _ = write!(text, "\n| {} |", escape(name));
        for cell in cells {
            let _ = write!(text, " {} |", escape(&cell));
        }
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_in_markdown() {
        let row = ("a|b.onnx", ["3/3".to_owned(), "no: X".to_owned()].into_iter());
        let text = markdown(&["cpu".to_owned(), "vulkan:0".to_owned()], [row].into_iter());
        assert_eq!(text, "| model | cpu | vulkan:0 |\n|---|---|---|\n| a\\|b.onnx | 3/3 | no: X |\n");
        assert!(Form::of(Path::new("m.txt")).is_err());
        assert_eq!(Form::of(Path::new("m.json")).ok(), Some(Form::Json));
    }
}
