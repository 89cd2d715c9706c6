//! Transactions that append to lists and read them, held to an isolation level.
//!
//! A list read shows every append before it, in order: nearly all dependencies between transactions can be told from
//! reads alone. Anomalies are found whatever the level, under the names that Elle gives them; those that the level permits are counted
//! as allowed. A transaction without a known outcome counts as far as others read what it appended.

mod anomalies;
mod transactions;
mod versions;

use crate::exactly_once::cycles::{self, Cycle, CycleType, Found};
use crate::exactly_once::dependency_graph::Kinds;
use crate::exactly_once::levels::Level;
use crate::readers::Operations;
use crate::verdict::{CheckOutcome, CheckResult};
use anomalies::Anomalies;
use versions::Versions;

#[cfg(test)]
mod tests;

/// What is found without a graph, each with what it breaks.
const READS: [(&str, &str); 10] = [
    ("duplicate-elements", "An element that was appended once is in its list once."),
    ("garbage-read", "Every element that is read was appended."),
    ("incompatible-order", "Of two reads of one list, one is the beginning of the other."),
    ("G1a", "No transaction reads what a failed one wrote."),
    ("G1b", "No transaction reads a state that another one left for a moment only."),
    ("dirty-update", "No transaction that took effect builds on what a failed one wrote."),
    ("internal", "Within a transaction, a read returns what the transaction itself left or read before."),
    ("future-read", "No transaction reads what it writes only later."),
    ("lost-update", "Of two transactions that read the same state and both change it, at most one takes effect."),
    ("cycle-search-timeout", "Every cluster of cycles is searched to its end."),
];

/// What cycles of a kind break.
fn guarantee(of: CycleType) -> &'static str {
    match of.class {
        cycles::Class::G0 => "All writes of a transaction come before, or all after, those of another.",
        cycles::Class::G1c => "No transaction learns of another one that in turn depends on it.",
        cycles::Class::GSingle => "A transaction sees all of another one, or nothing of it.",
        cycles::Class::GNonadjacent => "All transactions read from snapshots of one history.",
        cycles::Class::G2 => "There is an order of all transactions that explains what each of them read.",
    }
}

/// The levels whose failure is told by the mere existence of cycles, when no cycle could be told: over which edges, and
/// whether reads of overwritten values may lie between, one at a time.
const EXISTENCE: [(&str, &str, Kinds, bool); 13] = {
    let (writes, reads) = (Kinds::WW, Kinds::WW.and(Kinds::WR));
    let all = reads.and(Kinds::RW);
    let (process, time) = (Kinds::PROCESS, Kinds::REALTIME.and(Kinds::PROCESS));
    [
        ("PL-1", "PL-1-cycle-exists", writes, false),
        ("PL-2", "PL-2-cycle-exists", reads, false),
        ("PL-SI", "PL-SI-cycle-exists", reads, true),
        ("PL-2.99", "PL-2.99-cycle-exists", all, false),
        ("PL-3", "PL-3-cycle-exists", all, false),
        ("strong-session-PL-1", "strong-session-PL-1-cycle-exists", writes.and(process), false),
        ("strong-session-PL-2", "strong-session-PL-2-cycle-exists", reads.and(process), false),
        (
            "strong-session-snapshot-isolation",
            "strong-session-snapshot-isolation-cycle-exists",
            reads.and(process),
            true,
        ),
        ("strong-session-serializable", "strong-session-serializable-cycle-exists", all.and(process), false),
        ("strong-PL-1", "strong-PL-1-cycle-exists", writes.and(time), false),
        ("strong-PL-2", "strong-PL-2-cycle-exists", reads.and(time), false),
        ("strong-snapshot-isolation", "strong-snapshot-isolation-cycle-exists", reads.and(time), true),
        ("PL-SS", "PL-SS-cycle-exists", all.and(time), false),
    ]
};

/// Judges transactions of `[:append key element]` and `[:r key list]`. `budget` bounds the search for cycles.
///
/// # Errors
/// The line of the first operation that is none, or contradicts its invocation or an earlier append.
pub(crate) fn judge(operations: &Operations<'_>, level: Level, budget: u64) -> Result<Vec<CheckResult>, String> {
    let transactions = transactions::read(operations)?;
    let versions = Versions::new(&transactions);
    let mut found = Anomalies::default();
    let reads = anomalies::find(&versions, &mut found);
    // Where the level asks for the order of processes but not for that of real time, both are told apart.
    let with_processes = level.forbids("G1c-process") && !level.forbids("G1c-realtime");
    let (graph, edges, incomplete) = versions.graph(with_processes);
    let cycles = cycles::find(&graph, budget);
    for cycle in &cycles.cycles {
        found.add(cycle.of.name(), || explain(&versions, cycle));
    }
    if edges > 0 {
        existence(&cycles, &mut found);
    }
    let mut checks = vec![summary(&found, level, reads + edges)];
    let named = |name: &'static str, guarantee: &str, opportunities: u64| {
        let mut check = CheckResult::new(name);
        check.opportunity(opportunities);
        let (count, evidence) = found.0.get(name).cloned().unwrap_or_default();
        let mut evidence = evidence.into_iter();
        let is_forbidden = level.forbids(name);
        for _ in 0..count {
            match is_forbidden {
                true => check.violate(guarantee, evidence.next().unwrap_or_default(), None),
                false => check.allow(&format!("permitted by {level}")),
            }
        }
        check
    };
    checks.extend(READS.map(|(name, guarantee)| named(name, guarantee, reads)));
    checks.extend(CycleType::all().map(|of| named(of.name(), guarantee(of), edges)));
    for (model, name, ..) in EXISTENCE.iter().filter(|(_, name, ..)| found.0.contains_key(name)) {
        let model: Level = model.parse().expect("the table names levels");
        checks.push(named(name, &format!("Under {model}, there is an order of all transactions."), edges));
    }
    if (cycles.gave_up || incomplete)
        && let Some(search) = checks.iter_mut().find(|check| check.id == "cycle-search-timeout")
    {
        search.outcome = CheckOutcome::Unknown;
    }
    Ok(checks)
}

/// All anomalies together: what they are called, and which levels they refute.
fn summary(found: &Anomalies, level: Level, opportunities: u64) -> CheckResult {
    let mut check = CheckResult::new("isolation-level");
    check.opportunity(opportunities);
    if found.0.is_empty() {
        return check;
    }
    let names: Vec<&str> = found.0.keys().copied().collect();
    let refuted = Level::weakest_refuted(names.iter().copied());
    let refuted = refuted.into_iter().map(Level::name).collect::<Vec<_>>().join(", ");
    if names.iter().any(|name| level.forbids(name)) {
        let evidence =
            vec![format!("anomalies: {}", names.join(", ")), format!("the weakest levels refuted: {refuted}")];
        check.violate(&format!("The history is {level}."), evidence, None);
    } else {
        check.allow(&format!("refutes {refuted}"));
    }
    check
}

/// A cycle, step by step.
fn explain(versions: &Versions<'_, '_>, cycle: &Cycle) -> Vec<String> {
    const MOST: usize = 24;
    let length = cycle.nodes.len();
    let name = |at: usize| format!("T{}", at % length + 1);
    let mut lines =
        vec![format!("{}: a cycle of {length} transactions, each of which comes before the next", cycle.of.name())];
    let steps = cycle.kinds.iter().enumerate().take(MOST).map(|(at, kind)| {
        let (from, to) = (cycle.nodes[at], cycle.nodes[(at + 1) % length]);
        format!("{} < {}: {}", name(at), name(at + 1), versions.explain(*kind, (from, &name(at)), (to, &name(at + 1))))
    });
    lines.extend(steps);
    let nodes = cycle.nodes.iter().enumerate().take(MOST);
    lines.extend(nodes.map(|(at, node)| format!("{} = {}", name(at), anomalies::tell(versions.transactions, *node))));
    if length > MOST {
        lines.push(format!("and {} more", length - MOST));
    }
    lines
}

/// Names levels that only a cluster of cycles refutes, when no anomaly found refutes them already.
fn existence(cycles: &Found, found: &mut Anomalies) {
    for (model, name, kinds, nonadjacent) in EXISTENCE {
        let model: Level = model.parse().expect("the table names levels");
        if found.0.keys().any(|anomaly| model.forbids(anomaly)) {
            continue;
        }
        if let Some(size) = cycles.smallest_cluster(kinds, nonadjacent) {
            found.add(name, || vec![format!("{size} transactions that all come before each other")]);
        }
    }
}
