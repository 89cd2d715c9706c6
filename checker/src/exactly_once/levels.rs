//! Isolation levels: which is stronger than which, and which anomaly refutes which.
//!
//! After Adya's *Weak Consistency*, Cerone, Bernardi and Gotsman's framework, Bailis and Fekete, as Elle puts them together;
//! names are Elle's. An anomaly may be a special case of others (every G0 is a G1c); a level forbids what it
//! names, what is a special case of it, and all that weaker levels forbid.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

struct Row {
    name: &'static str,
    /// Adya's name, where it differs.
    other: &'static str,
    /// Levels that hold where this one holds.
    weaker: &'static [&'static str],
    forbids: &'static [&'static str],
}

macro_rules! levels {
    ($($name:literal $other:literal: $($weaker:literal)*; $($forbids:literal)*.)*) => {
        /// Weaker ones come before the stronger.
        const LEVELS: &[Row] = &[$(Row {
            name: $name, other: $other, weaker: &[$($weaker),*], forbids: &[$($forbids),*],
        }),*];
    };
}

levels! {
    "read-uncommitted" "PL-1":; "G0" "duplicate-elements" "PL-1-cycle-exists".
    "strong-session-read-uncommitted" "strong-session-PL-1": "read-uncommitted";
        "G0-process" "strong-session-PL-1-cycle-exists".
    "strong-read-uncommitted" "strong-PL-1": "strong-session-read-uncommitted"; "G0-realtime" "strong-PL-1-cycle-exists".
    "read-committed" "PL-2": "read-uncommitted"; "G1" "PL-2-cycle-exists".
    "strong-session-read-committed" "strong-session-PL-2": "read-committed" "strong-session-read-uncommitted";
        "G1c-process" "strong-session-PL-2-cycle-exists".
    "strong-read-committed" "strong-PL-2": "strong-session-read-committed" "strong-read-uncommitted";
        "G1c-realtime" "strong-PL-2-cycle-exists".
    "cursor-stability" "PL-CS": "read-committed"; "G1" "lost-update".
    "monotonic-view" "PL-2L": "read-committed"; "G1".
    "monotonic-snapshot-read" "PL-MSR": "read-committed"; "G1".
    "monotonic-atomic-view" "monotonic-atomic-view": "read-committed";.
    "read-atomic" "read-atomic": "monotonic-atomic-view"; "internal" "G1a" "future-read".
    "update-atomic" "update-atomic": "read-atomic"; "lost-update".
    "causal-cerone" "causal-cerone": "read-atomic"; "internal" "G1a".
    "prefix" "prefix": "causal-cerone"; "internal" "G1a".
    "parallel-snapshot-isolation" "parallel-snapshot-isolation": "causal-cerone" "update-atomic"; "internal" "G1a".
    "consistent-view" "PL-2+": "cursor-stability" "monotonic-view"; "G1" "G-single".
    "forward-consistent-view" "PL-FCV": "consistent-view"; "G1".
    "repeatable-read" "PL-2.99": "cursor-stability" "monotonic-atomic-view";
        "G1" "G2-item" "lost-update" "PL-2.99-cycle-exists".
    "update-serializable" "PL-3U": "forward-consistent-view"; "G1".
    "snapshot-isolation" "PL-SI":
        "forward-consistent-view" "monotonic-atomic-view" "monotonic-snapshot-read" "parallel-snapshot-isolation" "prefix";
        "internal" "G1" "G-nonadjacent" "PL-SI-cycle-exists".
    "strong-session-snapshot-isolation" "strong-session-snapshot-isolation":
        "snapshot-isolation" "strong-session-read-committed";
        "internal" "G1-process" "G-nonadjacent-process" "strong-session-snapshot-isolation-cycle-exists".
    "strong-snapshot-isolation" "strong-snapshot-isolation":
        "strong-session-snapshot-isolation" "strong-read-committed";
        "internal" "G1-realtime" "G-nonadjacent-realtime" "strong-snapshot-isolation-cycle-exists".
    "serializable" "PL-3": "repeatable-read" "update-serializable" "snapshot-isolation";
        "internal" "G1" "G2" "PL-3-cycle-exists".
    "strong-session-serializable" "strong-session-serializable": "serializable" "strong-session-snapshot-isolation";
        "G1-process" "G2-process" "strong-session-serializable-cycle-exists".
    "strict-serializable" "PL-SS": "serializable" "strong-snapshot-isolation" "strong-session-serializable";
        "G1" "G1c-realtime" "G2-realtime" "PL-SS-cycle-exists".
}

/// What an anomaly is a special case of.
fn special_case_of(anomaly: &str) -> &'static [&'static str] {
    match anomaly {
        "G0" => &["G1c", "G0-process"],
        "G0-process" => &["G1c-process", "G0-realtime"],
        "G0-realtime" => &["G1c-realtime"],
        "G1a" | "G1b" => &["G1"],
        "G1c" => &["G1", "G1c-process"],
        "G1c-process" => &["G1c-realtime", "G1-process"],
        "G1c-realtime" | "G1-process" => &["G1-realtime"],
        "G1" => &["G1-process"],
        "G-single-item" => &["G-single", "G-single-item-process", "G-nonadjacent-item"],
        "G-single-item-process" => &["G-single-process", "G-single-item-realtime", "G-nonadjacent-item-process"],
        "G-single-item-realtime" => &["G-single-realtime", "G-nonadjacent-item-realtime"],
        "G-single" => &["G-nonadjacent", "G-single-process"],
        "G-single-process" => &["G-nonadjacent-process", "G-single-realtime"],
        "G-single-realtime" => &["G-nonadjacent-realtime"],
        "G-nonadjacent-item" => &["G-nonadjacent", "G2-item", "G-nonadjacent-item-process"],
        "G-nonadjacent-item-process" => &["G-nonadjacent-process", "G2-item-process", "G-nonadjacent-item-realtime"],
        "G-nonadjacent-item-realtime" => &["G2-item-realtime", "G-nonadjacent-realtime"],
        "G-nonadjacent" => &["G2", "G-nonadjacent-process"],
        "G-nonadjacent-process" => &["G2-process", "G-nonadjacent-realtime"],
        "G-nonadjacent-realtime" | "G2-process" | "G2-item-realtime" => &["G2-realtime"],
        "G2" => &["G2-process"],
        "G2-item" => &["G2", "G2-item-process"],
        "G2-item-process" => &["G2-process", "G2-item-realtime"],
        // Two reads that no one history of appends explains: one of them was of something that did not last.
        "incompatible-order" | "dirty-update" | "garbage-read" => &["G1a"],
        "future-read" => &["G1c"],
        "lost-update" => &["G2-item"],
        _ => &[],
    }
}

/// An isolation level that transactions may be held to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level(u8);

impl Level {
    /// Every transaction takes effect at one moment between its invocation and its return.
    pub const STRICT_SERIALIZABLE: Level = Level(LEVELS.len() as u8 - 1);

    /// All, the weaker before the stronger.
    pub fn all() -> impl Iterator<Item = Level> {
        (0..LEVELS.len() as u8).map(Level)
    }

    fn row(self) -> &'static Row {
        &LEVELS[usize::from(self.0)]
    }

    /// Its name in plain words.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().name
    }

    fn find(name: &str) -> Option<Level> {
        let named = |row: &Row| row.name == name || row.other.eq_ignore_ascii_case(name);
        LEVELS.iter().position(named).map(|at| Level(at as u8))
    }

    /// This level and all that hold where it holds.
    fn with_weaker(self) -> BTreeSet<Level> {
        let mut all = BTreeSet::from([self]);
        // Weaker ones come first in the table: one pass downwards meets them all.
        for level in (0..=self.0).rev().map(Level).filter(|level| *level <= self) {
            if all.contains(&level) {
                all.extend(level.row().weaker.iter().filter_map(|name| Level::find(name)));
            }
        }
        all
    }

    /// Whether it, or a level that holds where it holds, forbids the anomaly.
    #[must_use]
    pub fn forbids(self, anomaly: &str) -> bool {
        let cases = cases(anomaly);
        self.with_weaker().iter().any(|level| level.row().forbids.iter().any(|name| cases.contains(name)))
    }

    /// Of the levels that these anomalies refute, those that are not stronger than another one refuted.
    #[must_use]
    pub fn weakest_refuted<'a>(anomalies: impl IntoIterator<Item = &'a str>) -> Vec<Level> {
        let cases: BTreeSet<&str> = anomalies.into_iter().flat_map(cases).collect();
        let refuted: BTreeSet<Level> = Level::all()
            .filter(|level| {
                level.with_weaker().iter().any(|at| at.row().forbids.iter().any(|name| cases.contains(name)))
            })
            .collect();
        let is_weakest =
            |level: &&Level| level.with_weaker().iter().all(|weaker| weaker == *level || !refuted.contains(weaker));
        refuted.iter().filter(is_weakest).copied().collect()
    }
}

/// The anomaly and all that it is a special case of.
fn cases(anomaly: &str) -> BTreeSet<&str> {
    let mut all = BTreeSet::from([anomaly]);
    let mut open = vec![anomaly];
    while let Some(anomaly) = open.pop() {
        open.extend(special_case_of(anomaly).iter().filter(|case| all.insert(case)));
    }
    all
}

impl Default for Level {
    fn default() -> Self {
        Level::STRICT_SERIALIZABLE
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = match text {
            "strong-serializable" => "strict-serializable",
            "conflict-serializable" => "serializable",
            name => name,
        };
        let names = || LEVELS.iter().map(|row| row.name).collect::<Vec<_>>().join(", ");
        Level::find(name).ok_or_else(|| format!("`{text}` is no isolation level; there are {}", names()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exactly_once::cycles::CycleType;

    fn level(name: &str) -> Level {
        name.parse().expect("a level")
    }

    #[test]
    fn every_level_names_levels_that_come_before_it() {
        for at in Level::all() {
            for weaker in at.row().weaker {
                assert!(level(weaker) < at, "{at}: {weaker}");
            }
            assert_eq!(level(at.name()), at);
            assert_eq!(level(at.row().other), at);
        }
        assert_eq!(Level::STRICT_SERIALIZABLE.name(), "strict-serializable");
        let everything: BTreeSet<Level> = Level::all().collect();
        assert_eq!(Level::STRICT_SERIALIZABLE.with_weaker(), everything);
        assert!("serialisable".parse::<Level>().expect_err("no level").contains("serializable, strong-session"));
    }

    #[test]
    fn a_level_forbids_what_it_should() {
        let forbids = |name: &str| -> Vec<&str> {
            CycleType::all().map(CycleType::name).filter(|anomaly| level(name).forbids(anomaly)).collect()
        };
        assert_eq!(forbids("read-uncommitted"), ["G0"]);
        assert_eq!(forbids("read-committed"), ["G0", "G1c"]);
        assert_eq!(forbids("snapshot-isolation"), ["G0", "G1c", "G-single-item", "G-nonadjacent-item"]);
        assert_eq!(forbids("serializable"), ["G0", "G1c", "G-single-item", "G-nonadjacent-item", "G2-item"]);
        assert_eq!(forbids("strict-serializable").len(), 15);
        assert!(!level("strong-session-serializable").forbids("G-single-item-realtime"));
        assert!(level("snapshot-isolation").forbids("lost-update") && !level("read-committed").forbids("lost-update"));
        assert!(level("read-committed").forbids("G1b") && !level("read-committed").forbids("internal"));
    }

    #[test]
    fn anomalies_refute_the_weakest_levels_that_forbid_them() {
        let not = |anomalies: &[&str]| -> Vec<&str> {
            Level::weakest_refuted(anomalies.iter().copied()).into_iter().map(Level::name).collect()
        };
        assert_eq!(not(&["G0"]), ["read-uncommitted"]);
        assert_eq!(not(&["G1a", "G1c"]), ["read-committed"]);
        assert_eq!(not(&["internal"]), ["read-atomic"]);
        assert_eq!(not(&["G-single-item"]), ["consistent-view", "repeatable-read"]);
        assert_eq!(not(&["G-nonadjacent-item"]), ["repeatable-read", "snapshot-isolation"]);
        assert_eq!(not(&["G2-item"]), ["repeatable-read"]);
        assert_eq!(not(&["lost-update", "G2-item"]), ["cursor-stability", "update-atomic"]);
        assert_eq!(not(&["G-single-item-realtime"]), ["strong-snapshot-isolation"]);
        assert_eq!(not(&["G1c-process"]), ["strong-session-read-committed"]);
        assert_eq!(not(&["G2-item-realtime"]), ["strict-serializable"]);
        assert_eq!(not(&["PL-SI-cycle-exists"]), ["snapshot-isolation"]);
        assert_eq!(not(&[]), Vec::<&str>::new());
    }
}
