//! `sardonyx man DIR`: manual pages, one for each command.

use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory};

use crate::cli::Cli;
use crate::failure::Failure;
use crate::output::atomic;

/// Arguments of `man`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder to write to
    folder: PathBuf,
}

/// Writes the pages.
///
/// # Errors
/// When a file cannot be written.
pub fn run(arguments: &Args) -> Result<(), Failure> {
    std::fs::create_dir_all(&arguments.folder).map_err(|error| Failure::file(&arguments.folder, &error))?;
    let mut root = Cli::command();
    root.build();
    write(&arguments.folder, "sardonyx", &root)?;
    root.get_subcommands().filter(|command| command.get_name() != "help").try_for_each(|command| {
        write(&arguments.folder, &format!("sardonyx-{}", command.get_name()), command)
    })
}

fn write(folder: &Path, name: &str, command: &Command) -> Result<(), Failure> {
    atomic::write(&folder.join(format!("{name}.1")), page(name, command).as_bytes())
}

/// A page in the man macros: what `--help` says, in the form of manuals.
fn page(name: &str, command: &Command) -> String {
    let about = command.get_about().map_or_else(String::new, ToString::to_string);
    let mut text = format!(".TH {} 1\n.SH NAME\n{name} \\- {}\n", name.to_uppercase(), escape(&about));
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").split_whitespace().collect::<Vec<_>>().join(" ");
    text += &format!(".SH SYNOPSIS\n{}\n", escape(&usage));
    let commands: Vec<&Command> =
        command.get_subcommands().filter(|command| command.get_name() != "help").collect();
    if !commands.is_empty() {
        text += ".SH COMMANDS\n";
        for command in commands {
            let about = command.get_about().map_or_else(String::new, ToString::to_string);
            text += &format!(".TP\n.BR sardonyx\\-{} (1)\n{}\n", escape(command.get_name()), escape(&about));
        }
    }
    text += ".SH OPTIONS\n";
    for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
        let long = argument.get_long().map(|long| format!("--{long}"));
        let short = argument.get_short().map(|short| format!("-{short}"));
        let mut names: Vec<String> = [short, long].into_iter().flatten().collect();
        let values: Vec<String> =
            argument.get_value_names().unwrap_or_default().iter().map(ToString::to_string).collect();
        let takes = argument.get_num_args().is_some_and(|count| count.takes_values());
        if names.is_empty() {
            names.push(values.join(" "));
        } else if takes && !values.is_empty() {
            let last = names.len() - 1;
            names[last] += &format!(" {}", values.join(" "));
        }
        let help = argument.get_long_help().or_else(|| argument.get_help());
        let help = help.map_or_else(String::new, ToString::to_string);
        text += &format!(".TP\n.B {}\n{}\n", escape(&names.join(", ")), escape(&help));
    }
    text
}

/// Text for the man macros: no line begins with a control character, and minus signs stay minus signs.
fn escape(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let line = line.replace('\\', "\\e").replace('-', "\\-");
        if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line }
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let mut root = Cli::command();
        root.build();
        let bench = root.find_subcommand("bench").unwrap();
        let text = page("sardonyx-bench", bench);
        assert!(text.contains(".B \\-\\-repeat N\n") && !text.contains("worker"), "{text}");
        assert_eq!(escape(".a\nb-c\\"), "\\&.a\nb\\-c\\e");
    }
}
