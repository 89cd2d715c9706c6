//! Checkers, checked: legal histories pass, and each check refuses what it is there to refuse.

mod black_box;
mod goldens;
mod proofs;
mod recording;
pub(crate) mod reference;
mod the_end;
mod white_box;

use crate::verdict::{CheckOutcome, CheckResult};
pub(crate) use reference::partition;

/// The checks that found a violation.
fn fired(results: &[CheckResult]) -> Vec<&str> {
    results.iter().filter(|result| result.outcome == CheckOutcome::Violation).map(|result| result.id.as_str()).collect()
}

/// The evidence of every violation, as text.
fn told(results: &[CheckResult]) -> String {
    let violations = results.iter().flat_map(|result| &result.violations);
    violations.map(|violation| format!("{}\n  {}\n", violation.check, violation.evidence.join("\n  "))).collect()
}
