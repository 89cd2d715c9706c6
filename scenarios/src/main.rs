//! `trial`: see `trial --help`.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    scenarios::commands::main(scenarios::cli::Cli::parse())
}
