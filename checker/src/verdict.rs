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

/// What a run got done, beside what its checks say.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// Records acknowledged to producers.
    pub acked: u64,
    /// Records delivered to consumers.
    pub read: u64,
    /// The scenario has producers: without one acknowledged record it shows nothing.
    pub produces: bool,
    /// The scenario has consumers: without one delivered record it shows nothing.
    pub consumes: bool,
    /// Why the run ended before its time, in words; `None` when it did not.
    pub stuck: Option<String>,
    /// Marks that the scenario expects and that were not reached.
    pub missing_marks: Vec<String>,
    /// Required faults that never fired or had no effect, each as one phrase.
    pub faults_without_effect: Vec<String>,
}

/// Judges a whole run, and says why when it is no pass. A violation wins over everything; stuck or idle is never a pass.
#[must_use]
pub fn verdict(results: &[CheckResult], progress: &Progress) -> (Verdict, Vec<String>) {
    let violated: Vec<String> = results
        .iter()
        .filter(|result| result.outcome == CheckOutcome::Violation)
        .map(|result| {
            let first = result.violations.first().map_or("", |violation| &violation.guarantee);
            match result.violations_in_all {
                1 => format!("{}: {first}", result.id),
                many => format!("{} ({many} times): {first}", result.id),
            }
        })
        .collect();
    if !violated.is_empty() {
        return (Verdict::Violation, violated);
    }
    let mut reasons = Vec::new();
    if let Some(stuck) = &progress.stuck {
        reasons.push(format!("stuck: {stuck}"));
    }
    if progress.produces && progress.acked == 0 {
        reasons.push("no record was acknowledged".to_owned());
    }
    if progress.consumes && progress.read == 0 {
        reasons.push("no record was read".to_owned());
    }
    reasons.extend(progress.faults_without_effect.iter().map(|fault| format!("fault without effect: {fault}")));
    reasons.extend(progress.missing_marks.iter().map(|mark| format!("mark not reached: {mark}")));
    let unknown = results.iter().filter(|result| result.outcome == CheckOutcome::Unknown);
    reasons.extend(unknown.map(|result| format!("check {} ran out of its budget", result.id)));
    if results.iter().all(|result| result.opportunities == 0) {
        reasons.push("no check had an opportunity".to_owned());
    }
    match reasons.is_empty() {
        true => (Verdict::Pass, reasons),
        false => (Verdict::Inconclusive, reasons),
    }
}
