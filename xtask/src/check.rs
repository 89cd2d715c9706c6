//! `cargo xtask check`: everything that must hold before a commit.

use crate::run::{cargo, output_of, stage, succeed, target_dir};
use crate::tidy;
use anyhow::{Result, bail};
use clap::Args;
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

/// What to leave out.
#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    /// Leaves the tests out, because they have been run already
    #[arg(long)]
    skip_tests: bool,
}

/// Libraries that must build without what the rest of the workspace switches on: a leaked feature shows here only.
const ALONE: &[&[&str]] = &[
    &["-p", "broker-types"],
    &["-p", "broker-wire"],
    &["-p", "broker-core"],
    &["-p", "broker-env"],
    &["-p", "broker-client"],
    &["-p", "broker-server", "--lib", "--no-default-features"],
];

/// Crates that have no business in the `broker` binary, and why.
const NEVER_SHIPPED: &[(&str, &str)] = &[
    ("madsim ", "the binary runs on the real world alone"),
    ("sim ", "the binary runs on the real world alone"),
    ("checker ", "the judge does not ship with the accused"),
    ("scenarios ", "it imports, and is imported by nobody"),
    ("broker-client ", "broker and client share no decision"),
    ("getrandom v0.2", "entropy has one door, Env::entropy"),
    ("ahash ", "seeded at run time by default: its order would differ from run to run"),
];

pub(crate) fn check(root: &Path, args: &CheckArgs) -> Result<()> {
    stage("format", || succeed(cargo(root, &["fmt", "--all", "--", "--check"])))?;
    stage("tidy", || tidy::tidy(root))?;
    stage("clippy", || {
        succeed(cargo(root, &["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]))
    })?;
    stage("crates alone", || {
        ALONE.iter().try_for_each(|package| succeed(cargo(root, &[&["check", "--quiet"], *package].concat())))
    })?;
    stage("what ships", || what_ships(root))?;
    if !args.skip_tests {
        stage("tests", || succeed(cargo(root, &["test", "--quiet", "--workspace"])))?;
    }
    stage("catalog", || catalog(root))
}

/// The crates in the `broker` binary.
fn what_ships(root: &Path) -> Result<()> {
    let tree = ["tree", "-p", "broker-server", "--edges", "normal,no-proc-macro", "--prefix", "none"];
    let shipped = output_of(cargo(root, &tree))?;
    let unwanted: Vec<String> = NEVER_SHIPPED
        .iter()
        .filter(|(name, _)| shipped.lines().any(|line| line.starts_with(name)))
        .map(|(name, why)| format!("{}: {why}", name.trim()))
        .collect();
    if !unwanted.is_empty() {
        bail!("the broker binary links what it must not:\n  {}", unwanted.join("\n  "));
    }
    Ok(())
}

/// Every scenario of the catalog reads without an error and is listed, and the program's schema is the one checked in.
fn catalog(root: &Path) -> Result<()> {
    // Of the whole workspace, as the tests were: another selection of packages would build with other features.
    succeed(cargo(root, &["build", "--quiet", "--workspace", "--bins"]))?;
    let trial = target_dir(root).join("debug/trial");
    let files: Vec<_> = tidy::files(root)?.into_iter().filter(|file| tidy::is_catalog(file)).collect();
    if files.is_empty() {
        bail!("the catalog is empty");
    }
    let mut args: Vec<OsString> = ["--quiet", "scenario", "check"].map(OsString::from).into();
    args.extend(files.iter().map(OsString::from));
    let mut reads = Command::new(&trial);
    reads.current_dir(root).args(args);
    succeed(reads)?;
    let mut list = Command::new(&trial);
    list.current_dir(root).args(["--format", "json", "scenario", "list"]);
    let listed: serde_json::Value = serde_json::from_str(&output_of(list)?)?;
    let listed: Vec<&str> =
        listed.as_array().into_iter().flatten().filter_map(|entry| entry["path"].as_str()).collect();
    for file in &files {
        if !listed.contains(&file.as_str()) {
            bail!("{file} lies in the catalog's folder and is not listed");
        }
    }
    eprintln!("    {} scenarios", listed.len());
    Ok(())
}
