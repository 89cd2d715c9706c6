//! What a judgement looks like.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// The judgement of a whole run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Every check had its opportunity, or said that it had none, and none was violated.
    Pass,
    /// Nothing is proven: no progress, a required fault or mark never happened, a budget ran out.
    Inconclusive,
    /// A named guarantee was broken.
    Violation,
    /// The same build and seed gave two different runs.
    NonDeterministic,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Pass => "pass",
            Verdict::Inconclusive => "inconclusive",
            Verdict::Violation => "violation",
            Verdict::NonDeterministic => "non-deterministic",
        })
    }
}

/// How one check ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckOutcome {
    /// It had opportunities and found nothing.
    Pass,
    /// Its precondition never held: it proves nothing.
    Vacuous,
    /// Its budget ran out. Never a pass.
    Unknown,
    /// It found at least one violation.
    Violation,
}

/// What one check found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CheckResult {
    /// Stable name: `lost-write`, `log-matching`, ...
    pub id: String,
    /// How it ended.
    pub outcome: CheckOutcome,
    /// How often its precondition held.
    pub opportunities: u64,
    /// Findings that Kafka documents as possible under the run's configuration, by reason.
    pub allowed: BTreeMap<String, u64>,
    /// Findings that are not; the smallest evidence first. Bounded: see `violations_in_all`.
    pub violations: Vec<Violation>,
    /// All violations, also those not kept.
    pub violations_in_all: u64,
}

/// One broken guarantee.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Violation {
    /// The check's name.
    pub check: String,
    /// The guarantee in words: what Kafka promises.
    pub guarantee: String,
    /// What was seen instead: one fact a line, the offending record first.
    pub evidence: Vec<String>,
    /// When it happened or was seen, nanoseconds of simulated time; `None` when only the end shows it.
    pub at_ns: Option<u64>,
}

impl CheckResult {
    /// A result without findings yet.
    #[must_use]
    pub fn new(id: &str) -> Self {
        CheckResult {
            id: id.to_owned(),
            outcome: CheckOutcome::Vacuous,
            opportunities: 0,
            allowed: BTreeMap::new(),
            violations: Vec::new(),
            violations_in_all: 0,
        }
    }

    /// How many violations a result keeps with their evidence.
    pub const KEPT: usize = 10;

    /// The precondition held `times` more.
    pub fn opportunity(&mut self, times: u64) {
        self.opportunities += times;
        if times > 0 && self.outcome == CheckOutcome::Vacuous {
            self.outcome = CheckOutcome::Pass;
        }
    }

    /// Counts a finding that the configuration allows.
    pub fn allow(&mut self, reason: &str) {
        *self.allowed.entry(reason.to_owned()).or_default() += 1;
    }

    /// Keeps a violation.
    pub fn violate(&mut self, guarantee: &str, evidence: Vec<String>, at_ns: Option<u64>) {
        self.outcome = CheckOutcome::Violation;
        self.violations_in_all += 1;
        if self.violations.len() < Self::KEPT {
            let (check, guarantee) = (self.id.clone(), guarantee.to_owned());
            self.violations.push(Violation { check, guarantee, evidence, at_ns });
        }
    }

    /// Findings allowed, all reasons together.
    #[must_use]
    pub fn allowed_in_all(&self) -> u64 {
        self.allowed.values().sum()
    }
}
