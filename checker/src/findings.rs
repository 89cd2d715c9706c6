//! Results as they come together while a run goes on.

use crate::context::Context;
use crate::history::SimTime;
use crate::registry::{CHECKS, CheckInfo, Evidence};
use crate::verdict::{CheckOutcome, CheckResult};
use std::collections::BTreeMap;

/// One result for each check of one kind of evidence.
#[derive(Clone, Debug)]
pub(crate) struct Findings {
    results: BTreeMap<&'static str, CheckResult>,
}

impl Findings {
    pub(crate) fn of(evidence: Evidence) -> Self {
        let checks = CHECKS.iter().filter(|check| check.evidence == evidence);
        Findings { results: checks.map(|check| (check.id, CheckResult::of(check))).collect() }
    }

    fn get(&mut self, check: &'static CheckInfo) -> &mut CheckResult {
        self.results.entry(check.id).or_insert_with(|| CheckResult::of(check))
    }

    pub(crate) fn opportunity(&mut self, check: &'static CheckInfo, times: u64) {
        if times > 0 {
            self.get(check).opportunity(times);
        }
    }

    pub(crate) fn find(
        &mut self,
        check: &'static CheckInfo,
        ctx: &Context,
        excuse: Option<&str>,
        at: Option<SimTime>,
        evidence: impl FnOnce() -> Vec<String>,
    ) {
        self.get(check).find(check, ctx, excuse, at.map(|at| at.0), evidence);
    }

    /// The check cannot say: its budget ran out. A violation found before stays one.
    pub(crate) fn unknown(&mut self, check: &'static CheckInfo) {
        let result = self.get(check);
        if result.outcome != CheckOutcome::Violation {
            result.outcome = CheckOutcome::Unknown;
        }
    }

    pub(crate) fn into_results(self) -> Vec<CheckResult> {
        let mut results: Vec<CheckResult> = self.results.into_values().collect();
        crate::registry::sort(&mut results);
        results
    }
}
