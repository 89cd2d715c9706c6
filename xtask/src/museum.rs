//! `cargo xtask museum`: the planted bugs, each found with it in, by the check that its exhibit names, and each scenario
//! green without it.

use crate::run::{cargo, code_and_output_of, output_of, stage, succeed, target_dir};
use anyhow::{Context, Result, bail};
use clap::Args;
use std::path::Path;
use std::process::Command;

/// How hard to look.
#[derive(Args, Debug)]
pub(crate) struct MuseumArgs {
    /// Only these bugs; all when none is named
    ids: Vec<String>,
    /// Most seeds to try for each bug, and how many must be green without it
    #[arg(long, default_value_t = 100)]
    seeds: u64,
}

/// `trial` says that a guarantee was violated.
const VIOLATED: i32 = 10;

pub(crate) fn museum(root: &Path, args: &MuseumArgs) -> Result<()> {
    let build = ["build", "--release", "--quiet", "-p", "scenarios", "--features", "planted-bugs", "--bin", "trial"];
    stage("build", || succeed(cargo(root, &build)))?;
    let trial = target_dir(root).join("release/trial");
    let call = |words: &[&str]| {
        let mut command = Command::new(&trial);
        command.current_dir(root).args(words);
        command
    };
    let list: serde_json::Value = serde_json::from_str(&output_of(call(&["--format", "json", "bugs", "list"]))?)?;
    let bugs: Vec<(&str, &str, &str)> = list
        .as_array()
        .context("`bugs list` prints a list")?
        .iter()
        .filter_map(|bug| Some((bug["id"].as_str()?, bug["scenario"].as_str()?, bug["check"].as_str()?)))
        .filter(|(id, ..)| args.ids.is_empty() || args.ids.iter().any(|wanted| wanted.eq_ignore_ascii_case(id)))
        .collect();
    if bugs.is_empty() {
        bail!("no such bug; `cargo museum list` names them");
    }
    let seeds = args.seeds.to_string();
    let mut wrong = Vec::new();
    for (id, scenario, check) in bugs {
        let outcome = stage(&format!("{id} on {scenario}"), || {
            let (code, hunt) =
                code_and_output_of(call(&["--quiet", "--format", "json", "bugs", "run", id, "--seeds", &seeds]))?;
            if code != VIOLATED {
                bail!("{id} was not found in {seeds} seeds (exit {code}, not {VIOLATED})");
            }
            let hunt: serde_json::Value = serde_json::from_str(&hunt)?;
            let fired: Vec<&str> = hunt["failures"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|failure| failure["check"].as_str())
                .flat_map(|checks| checks.split('+'))
                .collect();
            if !fired.contains(&check) {
                bail!("{id} was found, but not by {check}: {fired:?}");
            }
            eprintln!("    {id}: found by {check} with seed {} of {scenario}", hunt["seeds_to_detection"]);
            match code_and_output_of(call(&["--quiet", "explore", scenario, "--seeds", &seeds]))? {
                (0, _) => Ok(()),
                (code, told) => bail!("{scenario} is not green without {id} (exit {code}): {told}"),
            }
        });
        wrong.extend(outcome.err());
    }
    if let Some(first) = wrong.first() {
        bail!("{} of the museum's bugs do not behave; the first: {first:#}", wrong.len());
    }
    Ok(())
}
