//! One history that was judged, or could not be; as JSON, whose schema is `schemas/check.v1.json`.

use checker::{CheckInfo, CheckResult, Judged, Verdict, Violation};
use serde_json::{Value, json};

/// One history and what came of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checked {
    /// What it was called on the command line.
    pub history: String,
    /// The judgement, or why there is none: what is wrong, and in which line.
    pub judged: Result<Judged, String>,
}

impl Checked {
    /// The exit code for this history alone.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match &self.judged {
            Err(_) => 14,
            Ok(Judged { verdict: Verdict::Violation | Verdict::NonDeterministic, .. }) => 10,
            Ok(Judged { verdict: Verdict::Inconclusive, .. }) => 11,
            Ok(Judged { verdict: Verdict::Pass, .. }) => 0,
        }
    }
}

/// Histories as one JSON value.
#[must_use]
pub fn check_json(histories: &[Checked]) -> Value {
    histories.iter().map(one).collect()
}

fn one(checked: &Checked) -> Value {
    let judged = checked.judged.as_ref().ok();
    let checks = judged.map_or(&[][..], |judged| &judged.checks);
    json!({
        "history": checked.history,
        "verdict": judged.map_or_else(|| "invalid".to_owned(), |judged| judged.verdict.to_string()),
        "error": checked.judged.as_ref().err(),
        "model": judged.and_then(|judged| judged.model).map(|model| model.to_string()),
        "operations": judged.map_or(0, |judged| judged.operations),
        "realtime_lag_ms": judged.and_then(|judged| judged.lag).map(|lag| lag.ns() / 1_000_000),
        "reasons": judged.map_or(&[][..], |judged| &judged.reasons),
        "checks": checks.iter().map(check).collect::<Vec<_>>(),
        "violations": checks.iter().flat_map(|check| &check.violations).map(violation).collect::<Vec<_>>(),
    })
}

/// The check's row in the research notes; for what has none, an anomaly, its name.
fn row(id: &str) -> &str {
    CheckInfo::find(id).map_or(id, |check| check.row)
}

fn check(result: &CheckResult) -> Value {
    json!({
        "id": result.id,
        "row": row(&result.id),
        "outcome": result.outcome,
        "opportunities": result.opportunities,
        "allowed": result.allowed_in_all(),
        "allowed_reasons": result.allowed,
        "violations": result.violations_in_all,
    })
}

fn violation(violation: &Violation) -> Value {
    json!({
        "check": violation.check,
        "row": row(&violation.check),
        "guarantee": violation.guarantee,
        "evidence": violation.evidence,
        "at_ms": violation.at_ns.map(|ns| ns / 1_000_000),
    })
}
