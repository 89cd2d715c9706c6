//! The scenarios that come with the program, and what the command line does with scenario files.

use super::diagnostics::{Diagnostic, DiagnosticKind, Diagnostics};
use super::read::{MAX_FILE_BYTES, parse, parse_bytes};
use super::scenario::Scenario;
use super::supported::check_supported;
use super::words;
use serde::Serialize;
use std::io::Read;
use std::path::Path;

/// Names each file of the catalog once and embeds it.
macro_rules! embedded {
    ($($path:literal,)*) => {
        &[$((concat!("scenarios/catalog/", $path, ".toml"), include_str!(concat!("../../catalog/", $path, ".toml")))),*]
    };
}

/// Path in the repository, and text. Within a folder by name; the folders from the simple to the special.
const CATALOG: &[(&str, &str)] = embedded![
    "smoke/smoke",
    "smoke/idle",
    "leadership/admin-churn",
    "leadership/bridge-partition",
    "leadership/controller-crash",
    "leadership/controller-isolated-from-brokers",
    "leadership/double-crash",
    "leadership/isolated-leader",
    "leadership/leader-crash",
    "leadership/leader-paused",
    "leadership/one-way-cut",
    "leadership/rolling-restart",
    "replication/acks-1-power-loss",
    "replication/power-loss-one-broker",
    "replication/power-loss-whole-cluster-flushed",
    "replication/power-loss-whole-cluster",
    "replication/rack-power-loss",
    "replication/core-heals",
    "replication/random-crashes",
    "replication/admin-churn-crashes",
    "isr/follower-crash",
    "disk/disk-io-error",
    "disk/full-disk",
    "disk/rolling-segments",
    "disk/slow-disk",
    "network/flaky-links",
    "network/lossy-network",
    "network/random-partitions",
    "time/clock-drift",
    "time/clock-step-controller",
    "regressions/late-fetch-response",
    "regressions/leader-gone-for-good",
    "regressions/quorum-power-loss",
    "regressions/second-leader-crash",
    "regressions/shutdown-before-recovery",
    "regressions/slow-replication",
    "regressions/stale-epoch-checkpoint",
];

/// One scenario of the catalog, as `trial scenario list` shows it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct CatalogEntry {
    /// How the command line calls it.
    pub name: String,
    /// What a run of it answers.
    pub question: String,
    /// Its file in the repository.
    pub path: String,
    /// Words to select it by.
    pub tags: Vec<String>,
}

/// A scenario with the text it was read from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Loaded {
    /// The scenario.
    pub scenario: Scenario,
    /// What error messages call its file.
    pub file: String,
    /// The text of its file.
    pub text: String,
}

/// Every scenario of the catalog, in its order.
///
/// # Panics
///
/// When a file of the catalog is wrong; a test reads them all.
#[must_use]
pub fn list_catalog() -> Vec<CatalogEntry> {
    let entry = |(path, text): &(&str, &str)| {
        let scenario = parse(path, text).unwrap_or_else(|errors| panic!("{errors}"));
        CatalogEntry {
            name: scenario.name,
            question: scenario.question,
            path: (*path).to_string(),
            tags: scenario.tags,
        }
    };
    CATALOG.iter().map(entry).collect()
}

/// The scenario of the catalog with that name.
///
/// # Panics
///
/// As [`list_catalog`].
#[must_use]
pub fn find(name: &str) -> Option<Loaded> {
    let (path, text) = CATALOG.iter().find(|(path, _)| name_of(path) == name)?;
    let scenario = parse(path, text).unwrap_or_else(|errors| panic!("{errors}"));
    Some(Loaded { scenario, file: (*path).to_string(), text: (*text).to_string() })
}

/// The names nearest to one that [`find`] does not know.
#[must_use]
pub fn nearest_name(name: &str) -> Option<&'static str> {
    words::closest(name, CATALOG.iter().map(|(path, _)| name_of(path)))
}

/// A file of the catalog is called as its scenario.
fn name_of(path: &'static str) -> &'static str {
    path.rsplit('/').next().and_then(|file| file.strip_suffix(".toml")).unwrap_or(path)
}

/// Reads a scenario file, whole and checked, also that this version can run it.
///
/// # Errors
///
/// Every error in the file; a file that cannot be read is one error without a place.
pub fn check(path: &Path) -> Result<Loaded, Diagnostics> {
    let file = path.display().to_string();
    let unreadable = |why: std::io::Error| {
        Diagnostics::new(
            &file,
            "",
            vec![Diagnostic::new(DiagnosticKind::Syntax, None, format!("the file cannot be read: {why}"))],
        )
    };
    let mut bytes = Vec::new();
    // One byte more than is allowed is enough to know; a device that never ends is not read to its end.
    let limit = u64::try_from(MAX_FILE_BYTES).unwrap_or(u64::MAX) + 1;
    open(path).map_err(&unreadable)?.take(limit).read_to_end(&mut bytes).map_err(&unreadable)?;
    let scenario = parse_bytes(&file, &bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    check_supported(&file, &text, &scenario)?;
    Ok(Loaded { scenario, file, text })
}

#[allow(clippy::disallowed_methods, reason = "the command line reads a user's file before any simulation starts")]
fn open(path: &Path) -> std::io::Result<std::fs::File> {
    std::fs::File::open(path)
}

/// The text of a new scenario: it runs as it is, and its comments say what may be changed.
#[must_use]
pub fn new_template(name: &str) -> String {
    include_str!("template.toml").replace("NAME", name)
}
