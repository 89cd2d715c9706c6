//! `broker`: a Kafka node, or a whole small cluster, on real sockets and disks.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // A program in the real world, not a simulated node.

mod cli;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::run(cli::Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("broker: {error:#}");
            ExitCode::FAILURE
        }
    }
}
