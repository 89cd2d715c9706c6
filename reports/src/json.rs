//! `--format json`: one value; its schema, versioned, is `schemas/run.v1.json`. Times are milliseconds of simulated time.

use crate::RunReport;
use serde_json::{Value, json};

/// Version of the JSON of a run.
pub const SCHEMA: &str = "kafka-trial/run/v1";

/// One run as JSON.
#[must_use]
pub fn run_json(report: &RunReport) -> Value {
    json!({
        "schema": SCHEMA,
        "scenario": report.scenario,
        "seed": report.seed_text(),
        "verdict": report.verdict,
        "expected": report.expected,
        "reasons": report.reasons,
        "fingerprint": format!("{:032x}", report.fingerprint),
        "events": report.events,
        "simulated_ms": report.simulated_ms,
        "marks": report.marks,
        "story": report.story,
        "traffic": report.traffic,
        "realtime_lag_ms": report.realtime_lag.as_ref().map(|lag| lag.ms),
        "realtime_lag_partition": report.realtime_lag.as_ref().map(|lag| &lag.partition),
        "reproduce": report.reproduce,
        "faults": report.faults.iter().map(|fault| json!({
            "kind": fault.kind,
            "target": fault.target,
            "from_ms": fault.from_ms,
            "to_ms": fault.to_ms,
            "effects": fault.effects,
            "required": fault.required,
        })).collect::<Vec<_>>(),
        "checks": report.checks.iter().map(|check| json!({
            "id": check.id,
            "outcome": check.outcome,
            "opportunities": check.opportunities,
            "allowed": check.allowed.values().sum::<u64>(),
            "allowed_reasons": check.allowed,
            "violations": check.violations,
        })).collect::<Vec<_>>(),
        "violations": report.violations.iter().map(|violation| json!({
            "check": violation.check,
            "guarantee": violation.guarantee,
            "evidence": violation.evidence,
            "at_ms": violation.at_ns.map(|ns| ns / 1_000_000),
        })).collect::<Vec<_>>(),
    })
}
