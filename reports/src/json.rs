//! `--format json`: one value, its schema versioned. Times are milliseconds of simulated time.

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

/// The JSON schema of [`run_json`], as checked in under `docs/`.
#[must_use]
pub fn schema() -> Value {
    let text = json!({ "type": "string" });
    let count = json!({ "type": "integer", "minimum": 0 });
    let counts = json!({ "type": "object", "additionalProperties": count });
    let object = |properties: Value| {
        let required: Vec<String> = properties.as_object().map(|map| map.keys().cloned().collect()).unwrap_or_default();
        json!({ "type": "object", "required": required, "properties": properties })
    };
    let verdict = json!({ "enum": ["pass", "violation", "inconclusive", "non-deterministic"] });
    let mut schema = object(json!({
        "schema": { "const": SCHEMA },
        "scenario": text,
        "seed": { "type": "string", "pattern": "^[0-9a-f]{16}$" },
        "verdict": verdict,
        "expected": verdict,
        "reasons": { "type": "array", "items": text },
        "fingerprint": { "type": "string", "pattern": "^[0-9a-f]{32}$" },
        "events": count,
        "simulated_ms": count,
        "marks": counts,
        "story": { "type": "array", "items": text },
        "traffic": text,
        "reproduce": text,
        "faults": { "type": "array", "items": object(json!({
            "kind": text, "target": text, "from_ms": count, "to_ms": { "type": ["integer", "null"] },
            "effects": counts, "required": { "type": "boolean" },
        })) },
        "checks": { "type": "array", "items": object(json!({
            "id": text, "outcome": { "enum": ["pass", "vacuous", "unknown", "violation"] },
            "opportunities": count, "allowed": count, "allowed_reasons": counts, "violations": count,
        })) },
        "violations": { "type": "array", "items": object(json!({
            "check": text, "guarantee": text, "evidence": { "type": "array", "items": text },
            "at_ms": { "type": ["integer", "null"] },
        })) },
    }));
    schema["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    schema["title"] = json!("One run of `trial run`");
    schema
}
