//! The `sardonyx` command: run, inspect and measure ONNX models.

mod bind;
mod cache;
mod cli;
mod cmd;
mod compare;
mod describe;
mod elements;
mod environment;
mod failure;
mod formats;
mod glob;
mod input;
mod kernels;
mod limits;
mod noise;
mod output;
mod quarantine;
mod task;
#[cfg(test)]
mod testing;
mod yardstick;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use cache::Cache;
use cli::{Cli, Color, Command};
use failure::{Failure, Fault};
use output::{Console, log};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return wrong_usage(&error),
    };
    let global = &cli.global;
    let color = match global.color {
        Color::Auto => anstream::ColorChoice::Auto,
        Color::Always => anstream::ColorChoice::Always,
        Color::Never => anstream::ColorChoice::Never,
    };
    let progress = !global.no_progress && !global.json;
    let console =
        Console::new(global.json, global.out.clone(), global.quiet, global.verbose, color, progress);
    let cache = Cache::new(global.cache.as_deref());
    let logged = global.log.as_deref().map_or(Ok(()), log::start);
    if !matches!(cli.command, Command::Doctor(_)) {
        quarantine::obey(&cache, &console);
    }
    let announced = cli.command.kernels().map_or(Ok(()), |folder| kernels::announce(folder, &console));
    ended(logged.and(announced).and_then(|()| perform(&cli.command, &console, &cache)), &console)
}

fn perform(command: &Command, console: &Console, cache: &Cache) -> Result<(), Failure> {
    match command {
        Command::Run(arguments) => cmd::run::run(arguments, console, cache),
        Command::Bench(arguments) => cmd::bench::run(arguments, console, cache),
        Command::Profile(arguments) => cmd::profile::run(arguments, console, cache),
        Command::BenchKernel(arguments) => cmd::bench_kernel::run(arguments, console),
        Command::Inspect(arguments) => cmd::inspect::run(arguments, console),
        Command::Explain(arguments) => cmd::explain::run(arguments, console),
        Command::Check(arguments) => cmd::check::run(arguments, console),
        Command::Devices(arguments) => cmd::devices::run(arguments, console),
        Command::Conformance(arguments) => cmd::conformance::run(arguments, console),
        Command::Compare(arguments) => cmd::compare::run(arguments, console),
        Command::Eval(arguments) => cmd::eval::run(arguments, console),
        Command::Quantize(arguments) => cmd::quantize::run(arguments, console),
        Command::Doctor(arguments) => cmd::doctor::run(arguments, console, cache),
        Command::Schema(arguments) => cmd::schema::run(arguments, console),
        Command::Man(arguments) => cmd::man::run(arguments),
        Command::Completions(arguments) => cmd::completions::run(arguments),
    }
}

fn ended(result: Result<(), Failure>, console: &Console) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Failure::Error(report) = &failure {
                console.error(report);
            }
            ExitCode::from(failure.status())
        }
    }
}

/// Help and version are results; everything else is an error in the form of the contract.
fn wrong_usage(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // A reader that went away has seen enough.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let text = error.render().to_string();
    let text = text.trim_end().strip_prefix("error: ").unwrap_or(text.trim_end());
    let console = Console::new(false, None, false, 0, anstream::ColorChoice::Auto, false);
    ended(Err(Failure::new(Fault::Usage, text)), &console)
}
