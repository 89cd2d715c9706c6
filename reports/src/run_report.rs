//! What is told of one run.

use checker::{CheckOutcome, CheckResult, Verdict, Violation};
use std::collections::BTreeMap;

/// How far a reader was behind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lag {
    /// How long what it asked for had been known to be there, milliseconds.
    pub ms: u64,
    /// Of which partition: `orders-0`.
    pub partition: String,
    /// When it asked, milliseconds since the run proper began.
    pub at_ms: u64,
}

/// A finished run. Holds nothing that differs between two runs of the same build and seed.
#[derive(Clone, Debug)]
pub struct RunReport {
    /// The scenario's name.
    pub scenario: String,
    /// The question that the scenario asks.
    pub question: String,
    /// The seed.
    pub seed: u64,
    /// What was found.
    pub verdict: Verdict,
    /// What the scenario expects to be found.
    pub expected: Verdict,
    /// Why the verdict is not a plain pass; empty for a pass.
    pub reasons: Vec<String>,
    /// The trace's final hash.
    pub fingerprint: u128,
    /// Entries in the trace.
    pub events: u64,
    /// Length of the run in simulated time, milliseconds.
    pub simulated_ms: u64,
    /// How often each mark was reached.
    pub marks: BTreeMap<String, u64>,
    /// Faults, in order of their start.
    pub faults: Vec<FaultLine>,
    /// Checks, in order of their name.
    pub checks: Vec<CheckLine>,
    /// What was violated; the most telling first.
    pub violations: Vec<Violation>,
    /// What happened, in at most eight plain sentences, in order of time.
    pub story: Vec<String>,
    /// What clients did, in one line.
    pub traffic: String,
    /// The longest that a record was known to be there before a reader asked for it (B21); `None` if none was.
    pub realtime_lag: Option<Lag>,
    /// The line that runs this again.
    pub reproduce: String,
}

/// One fault as it went.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FaultLine {
    /// `crash`, `partition`, ...
    pub kind: String,
    /// What it was aimed at and what that resolved to: `leader(orders-0) = broker-2`.
    pub target: String,
    /// When it started, milliseconds.
    pub from_ms: u64,
    /// When it ended, milliseconds; `None` if it never did.
    pub to_ms: Option<u64>,
    /// What it did, by name.
    pub effects: BTreeMap<String, u64>,
    /// Whether the scenario depends on it.
    pub required: bool,
}

/// One check as it ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CheckLine {
    /// The check's name.
    pub id: String,
    /// How it ended.
    pub outcome: CheckOutcome,
    /// How often its precondition held.
    pub opportunities: u64,
    /// Findings that Kafka documents as possible here, by reason.
    pub allowed: BTreeMap<String, u64>,
    /// Violations in all.
    pub violations: u64,
}

impl From<&CheckResult> for CheckLine {
    fn from(result: &CheckResult) -> Self {
        CheckLine {
            id: result.id.clone(),
            outcome: result.outcome,
            opportunities: result.opportunities,
            allowed: result.allowed.clone(),
            violations: result.violations_in_all,
        }
    }
}

impl RunReport {
    /// The seed as it is always printed: 16 hex digits.
    #[must_use]
    pub fn seed_text(&self) -> String {
        format!("{:016x}", self.seed)
    }

    /// The process's exit code: 0 when the verdict is the expected one.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if self.verdict == self.expected && self.verdict != Verdict::Inconclusive {
            return 0;
        }
        match self.verdict {
            // A scenario that should have failed and did not proves nothing of what it set out to show.
            Verdict::Pass | Verdict::Inconclusive => 11,
            Verdict::Violation => 10,
            Verdict::NonDeterministic => 12,
        }
    }
}
