//! What each command does.

/// Prints a line to stdout. Whoever reads it may leave when he has seen enough (`| head`): that changes nothing.
macro_rules! outln {
    ($($arg:tt)*) => {{
        let _ = writeln!(std::io::stdout(), $($arg)*);
    }};
}

/// Prints to stdout, as [`outln`] does, without ending the line.
macro_rules! out {
    ($($arg:tt)*) => {{
        let _ = write!(std::io::stdout(), $($arg)*);
    }};
}

mod bench;
mod bugs;
mod check;
mod doctor;
mod explore;
mod run;
mod scenario;

use crate::cli::{Cli, Command, Common, Progress, When};
use clap::CommandFactory;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

/// Wrong usage.
pub(crate) const USAGE: u8 = 2;
/// Nothing selected.
pub(crate) const NOTHING_SELECTED: u8 = 4;
/// A guarantee was violated.
pub(crate) const VIOLATED: u8 = 10;
/// Nothing is proven.
pub(crate) const INCONCLUSIVE: u8 = 11;
/// Two processes made two runs of one seed.
pub(crate) const NOT_DETERMINISTIC: u8 = 12;
/// A file is invalid.
pub(crate) const INVALID_FILE: u8 = 14;

/// Runs the command.
#[must_use]
pub fn main(cli: Cli) -> ExitCode {
    let common = cli.common;
    match cli.command {
        Command::Run(args) => run::run(&args, &common),
        Command::Check(args) => check::check(&args, &common),
        Command::Bench(args) => bench::bench(&args, &common),
        Command::Scenario(command) => scenario::scenario(&command, &common),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "trial", &mut script);
            let _ = std::io::stdout().write_all(&script);
            ExitCode::SUCCESS
        }
        Command::Man => {
            let mut page = Vec::new();
            let _ = clap_mangen::Man::new(Cli::command()).render(&mut page);
            let _ = std::io::stdout().write_all(&page);
            ExitCode::SUCCESS
        }
        Command::Explore(args) => explore::explore(&args, &common),
        Command::Bugs(command) => bugs::bugs(&command, &common),
        Command::Doctor(args) => doctor::doctor(&args, &common),
    }
}

/// Whether stdout gets colours.
pub(crate) fn color(common: &Common) -> bool {
    match common.color {
        When::Always => true,
        When::Never => false,
        When::Auto => std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
    }
}

/// Whether stderr gets a live line, plain lines, or nothing.
pub(crate) fn progress(common: &Common) -> Progress {
    match common.progress {
        Progress::Auto if common.quiet => Progress::None,
        Progress::Auto if !std::io::stderr().is_terminal() => Progress::Plain,
        other => other,
    }
}
