//! `broker`: a Kafka node, or a whole small cluster, on real sockets and disks.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // A program in the real world, not a simulated node.

mod cli;

use clap::Parser;
use std::process::ExitCode;

// Features unify across a build: this looks at what is really linked, however it got in.
const _: () = assert!(
    !broker_core::planted::BUILT_IN,
    "broker-core has planted bugs in it: build the broker without feature `planted-bugs`"
);

fn main() -> ExitCode {
    match cli::run(cli::Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("broker: {error:#}");
            ExitCode::FAILURE
        }
    }
}
