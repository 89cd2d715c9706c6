//! Chores of this repository: `cargo xtask check`, `cargo xtask tidy`, `cargo xtask museum`.

mod check;
mod museum;
mod run;
mod tidy;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Chores of this repository.
#[derive(Parser, Debug)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand, Debug)]
enum Chore {
    /// Everything that must hold before a commit: format, tidy, clippy, crates alone, what ships, tests, the catalog
    Check(check::CheckArgs),
    /// What no compiler looks at: who imports whom, banned words, long and dead files, broken links
    Tidy,
    /// Each planted bug is found with it in, and its scenario is green without it
    Museum(museum::MuseumArgs),
}

fn main() -> ExitCode {
    let done = root().and_then(|root| match Cli::parse().chore {
        Chore::Check(args) => check::check(&root, &args),
        Chore::Tidy => tidy::tidy(&root),
        Chore::Museum(args) => museum::museum(&root, &args),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The folder of the workspace.
fn root() -> Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(here.parent().context("xtask lies in the workspace")?.to_owned())
}
