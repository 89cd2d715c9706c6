//! `trial doctor`.

use super::explore::{jobs, select};
use super::{NOT_DETERMINISTIC, NOTHING_SELECTED};
use crate::cli::{Common, DoctorArgs, Format};
use crate::explore::{Named, seed_of, side_by_side};
use crate::file;
use crate::rerun::{Compared, Said, read_checkpoints, where_they_part, with_checkpoints};
use crate::run::{Options, Watch, run_traced};
use serde_json::json;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Version of the JSON.
const SCHEMA: &str = "kafka-trial/doctor/v1";

/// One scenario and seed, run in two processes.
struct Pair {
    scenario: String,
    seed: u64,
    fingerprints: [String; 2],
    /// `None` when they are equal; else where they part, or why a run said nothing.
    difference: Option<String>,
}

pub(super) fn doctor(args: &DoctorArgs, common: &Common) -> ExitCode {
    let names = match args.scenarios.is_empty() {
        true => file::list_catalog().into_iter().map(|entry| entry.name).collect(),
        false => args.scenarios.clone(),
    };
    let scenarios = match select(&names, common) {
        Ok(scenarios) => scenarios,
        Err(code) => return code,
    };
    let canaries = sim::determinism::canaries();
    let text = common.format == Format::Text;
    if text {
        for canary in &canaries {
            let sign = if canary.ok { "ok" } else { "NOT" };
            outln!("{sign:<4} {}: {}", canary.name, canary.detail);
        }
    }
    let mut pairs = compare_all(scenarios, args, |pair| {
        if text {
            let sign = if pair.difference.is_none() { "ok" } else { "NOT" };
            outln!("{sign:<4} {:<34} {:016x}  {}", pair.scenario, pair.seed, pair.fingerprints[0]);
            if let Some(difference) = &pair.difference {
                outln!("     {difference}");
            }
        }
    });
    pairs.sort_by(|a, b| (&a.scenario, a.seed).cmp(&(&b.scenario, b.seed)));
    let equal = pairs.iter().filter(|pair| pair.difference.is_none()).count();
    let well = canaries.iter().all(|canary| canary.ok);
    if text {
        outln!("{equal} of {} pairs of runs are equal", pairs.len());
    } else {
        let value = json!({
            "schema": SCHEMA,
            "canaries": canaries.iter().map(|canary| json!({
                "name": canary.name, "ok": canary.ok, "detail": canary.detail,
            })).collect::<Vec<_>>(),
            "pairs": pairs.len(),
            "equal": equal,
            "runs": pairs.iter().map(|pair| json!({
                "scenario": pair.scenario,
                "seed": format!("{:016x}", pair.seed),
                "fingerprints": pair.fingerprints,
                "difference": pair.difference,
            })).collect::<Vec<_>>(),
        });
        outln!("{value:#}");
    }
    match () {
        () if pairs.is_empty() => ExitCode::from(NOTHING_SELECTED),
        () if well && equal == pairs.len() => ExitCode::SUCCESS,
        () => ExitCode::from(NOT_DETERMINISTIC),
    }
}

/// Every scenario with every seed, in two processes; `told` hears of each pair as it is done.
fn compare_all(scenarios: Vec<Named>, args: &DoctorArgs, mut told: impl FnMut(&Pair)) -> Vec<Pair> {
    let dir = std::env::temp_dir().join(format!("trial-doctor-{}", std::process::id()));
    let _ = std::fs::create_dir_all(&dir);
    let count = args.seeds * scenarios.len() as u64;
    let (scenarios, folder) = (Arc::new(scenarios), dir.clone());
    let work = move |k: u64| {
        let named = &scenarios[usize::try_from(k % scenarios.len() as u64).unwrap_or(0)];
        pair(named, seed_of(0, k), &folder, k)
    };
    let mut pairs = Vec::new();
    for pair in side_by_side(jobs(args.jobs), Some(count), &Arc::new(AtomicBool::new(false)), work) {
        told(&pair);
        pairs.push(pair);
    }
    let _ = std::fs::remove_dir_all(&dir);
    pairs
}

/// One run in this process, after all that it has run before, and one in a process of its own: what a run leaves behind
/// for the next one shows as well as what the machine adds.
fn pair(named: &Named, seed: u64, dir: &Path, k: u64) -> Pair {
    let options = Options { named: named.named.clone(), ..Options::default() };
    let (report, own) = run_traced(&named.scenario, seed, &options, &Arc::new(Watch::default()));
    let file = dir.join(k.to_string());
    let said = with_checkpoints(&named.named, seed, &file);
    let difference = match said.clone().compare(report.fingerprint, report.events) {
        Compared::Same => None,
        Compared::Failed(why) => Some(why),
        Compared::Different { .. } => {
            let other = read_checkpoints(&std::fs::read_to_string(&file).unwrap_or_default());
            Some(where_they_part(&own, &other))
        }
    };
    let _ = std::fs::remove_file(&file);
    let other = match said {
        Said::Ran { fingerprint, .. } => fingerprint,
        Said::Nothing(_) => "-".to_owned(),
    };
    let fingerprints = [format!("{:032x}", report.fingerprint), other];
    Pair { scenario: named.scenario.name.clone(), seed, fingerprints, difference }
}
