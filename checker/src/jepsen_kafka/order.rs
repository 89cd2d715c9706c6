//! B16: cycles among transactions.
//!
//! A transaction that polls what another sent comes after it: the other had committed. So it may not come before it as well, be
//! that by polls, by its own process, or in real time. The order of writes proves nothing by itself: transactions write at
//! the same time, and their records mix.

use super::checks::Judge;
use crate::exactly_once::cycles::{self, Class, Cycle, CycleType};
use crate::exactly_once::dependency_graph::{DependencyGraph, Edge, Kinds, process_order, realtime};
use crate::history::Outcome;
use crate::verdict::{CheckOutcome, CheckResult};
use std::collections::BTreeMap;

/// One result for each kind of cycle that writes and reads can make.
pub(super) fn check(judge: &Judge<'_, '_>, budget: u64) -> Vec<CheckResult> {
    let operations = judge.operations;
    let (writes, reads) = edges(judge);
    let possible: Vec<u32> =
        operations.numbers().filter(|at| operations.all[*at as usize].outcome != Outcome::Fail).collect();
    let intervals: Vec<_> = possible.iter().map(|at| operations.all[*at as usize].interval).collect();
    let mut order: Vec<Edge> = Vec::new();
    realtime(&intervals, &mut order);
    for edge in &mut order {
        (edge.from, edge.to) = (possible[edge.from as usize], possible[edge.to as usize]);
    }
    let ok = operations.numbers().filter(|at| operations.all[*at as usize].outcome == Outcome::Ok);
    order.extend(process_order(ok.map(|at| (operations.all[at as usize].process as u64, at))));
    let nodes = operations.all.len();

    let proving = cycles::find(&DependencyGraph::new(nodes, &[&reads[..], &order[..]].concat()), budget);
    let all = cycles::find(&DependencyGraph::new(nodes, &[&writes[..], &reads[..], &order[..]].concat()), budget);
    let mut results: BTreeMap<CycleType, CheckResult> = CycleType::all()
        .filter(|of| matches!(of.class, Class::G0 | Class::G1c))
        .map(|of| (of, CheckResult::new(of.name())))
        .collect();
    for (of, result) in &mut results {
        result.opportunity(if of.class == Class::G0 { writes.len() } else { reads.len() } as u64);
        if proving.gave_up {
            result.outcome = CheckOutcome::Unknown;
        }
    }
    for cycle in all.cycles.iter().filter(|cycle| cycle.kinds.contains(&Kinds::WW)) {
        if let Some(result) = results.get_mut(&cycle.of) {
            result.allow("no-write-isolation");
        }
    }
    for cycle in &proving.cycles {
        if let Some(result) = results.get_mut(&cycle.of) {
            let guarantee = "A transaction is polled once it has committed, and polls nothing that came after that.";
            result.violate(guarantee, explain(judge, cycle), None);
        }
    }
    results.into_values().collect()
}

/// Who wrote after whom, and who read what whom wrote.
fn edges(judge: &Judge<'_, '_>) -> (Vec<Edge>, Vec<Edge>) {
    let logs = judge.logs;
    let (mut writes, mut reads) = (Vec::new(), Vec::new());
    for (key, log) in (0..).zip(&logs.logs) {
        let writers =
            log.places.iter().flat_map(|(_, values)| values.iter().filter_map(move |value| logs.writer(key, *value)));
        let mut before = None;
        for to in writers {
            if let Some(from) = before.replace(to).filter(|from| *from != to) {
                writes.push(Edge { from, to, kinds: Kinds::WW });
            }
        }
    }
    for to in judge.operations.numbers() {
        let mut last = None;
        for record in judge.operations.polled(to) {
            let from = logs.writer(record.key, record.value).filter(|from| *from != to && last != Some(*from));
            // What failed and is read nevertheless is another check's business.
            let from = from.filter(|from| logs.committed[*from as usize]);
            if let Some(from) = from {
                last = Some(from);
                reads.push(Edge { from, to, kinds: Kinds::WR });
            }
        }
    }
    (writes, reads)
}

fn explain(judge: &Judge<'_, '_>, cycle: &Cycle) -> Vec<String> {
    const MOST: usize = 16;
    let operations = judge.operations;
    let length = cycle.nodes.len();
    let name = |at: usize| format!("T{}", at % length + 1);
    let mut lines = vec![format!("a cycle of {length} transactions, each of which comes before the next")];
    for (at, kind) in cycle.kinds.iter().enumerate().take(MOST) {
        let (from, to) = (cycle.nodes[at], cycle.nodes[(at + 1) % length]);
        let (before, after) = (name(at), name(at + 1));
        let op = &operations.all[from as usize];
        let why = match *kind {
            Kinds::WR => {
                let wrote = |key: u32, value| judge.logs.writer(key, value) == Some(from);
                let read = operations.polled(to).find(|record| wrote(record.key, record.value));
                read.map(|record| {
                    let (value, key) = (operations.names.name(record.value), operations.key(record.key));
                    format!("{after} polled {value} in key {key}, which {before} sent")
                })
            }
            Kinds::PROCESS => Some(format!("process {} did {before} before {after}", op.process)),
            _ => op.lines.1.map(|line| {
                let invoked = operations.all[to as usize].lines.0;
                format!("{before} returned (line {line}) before {after} was invoked (line {invoked})")
            }),
        };
        let why = why.unwrap_or_else(|| format!("{kind:?}"));
        lines.push(format!("{before} < {after}: {why}"));
    }
    lines.extend(
        cycle.nodes.iter().enumerate().take(MOST).map(|(at, node)| format!("{} = {}", name(at), judge.tell(*node))),
    );
    lines
}
