//! `transaction-cycle`: no transaction reads what came after its own commit.
//!
//! A transaction's polls are those that its session makes between its beginning and its end; a poll outside of one is a transaction of
//! its own. Only reads and real time count: open transactions' writes mix, and Kafka promises no snapshot.

use crate::context::Context;
use crate::exactly_once::cycles;
use crate::exactly_once::dependency_graph::{DependencyGraph, Edge, Interval, Kinds, realtime};
use crate::exactly_once::transactions::Fate;
use crate::history::{Isolation, OpKind, SessionId};
use crate::index::Index;
use crate::registry::TRANSACTION_CYCLE;
use crate::verdict::{CheckOutcome, CheckResult};
use std::collections::BTreeMap;

/// How many edges the search may look at: some seconds.
const WORK: u64 = 100_000_000;

pub(crate) fn check(index: &Index<'_>, ctx: &Context) -> CheckResult {
    let mut result = CheckResult::of(TRANSACTION_CYCLE);
    let transactions = &index.transactions.all;
    if transactions.is_empty() {
        return result;
    }
    let time = |at: u32| index.op(at).invoked.0;
    let mut nodes: Vec<Interval> = transactions
        .iter()
        .map(|transaction| {
            let committed = transaction.end.filter(|_| transaction.fate == Fate::Committed);
            let returned = committed.and_then(|end| index.op(end).returned).map(|at| at.0);
            Interval { invoked: time(transaction.begin), returned }
        })
        .collect();
    // What each node is told by: its operations, the one that matters first.
    let mut told: Vec<u32> =
        transactions.iter().map(|transaction| transaction.end.unwrap_or(transaction.begin)).collect();
    let mut reads = Vec::new();
    let mut open: BTreeMap<SessionId, u32> = BTreeMap::new();
    let mut begun = 0;
    for (at, op) in (0..).zip(index.ops) {
        match &op.kind {
            OpKind::Begin => {
                open.insert(op.session, begun);
                begun += 1;
            }
            OpKind::EndTransaction(_) => {
                open.remove(&op.session);
            }
            OpKind::Poll(poll) if poll.isolation == Isolation::ReadCommitted => {
                let writers = poll.records.iter().filter_map(|read| {
                    let (sent, ..) = index.sender(poll.partition, read.value?)?;
                    index.transactions.number_of(sent)
                });
                let mut writers: Vec<u32> = writers.collect();
                writers.dedup();
                if writers.is_empty() {
                    continue;
                }
                let to = open.get(&op.session).copied().unwrap_or_else(|| {
                    nodes.push(Interval { invoked: op.invoked.0, returned: op.returned.map(|at| at.0) });
                    told.push(at);
                    nodes.len() as u32 - 1
                });
                reads.extend(writers.iter().filter(|from| **from != to).map(|from| Edge {
                    from: *from,
                    to,
                    kinds: Kinds::WR,
                }));
            }
            _ => {}
        }
    }
    result.opportunity(reads.len() as u64);
    realtime(&nodes, &mut reads);
    let found = cycles::find(&DependencyGraph::new(nodes.len(), &reads), WORK);
    for cycle in &found.cycles {
        let last = cycle.nodes.iter().map(|node| nodes[*node as usize].invoked).max();
        result.find(TRANSACTION_CYCLE, ctx, None, last, || {
            let why = cycle.kinds.iter().map(|kind| match *kind {
                Kinds::WR => "the next read what this one sent",
                _ => "the next began after this one had ended",
            });
            let steps = cycle.nodes.iter().zip(why).take(16);
            let lines = steps.map(|(node, why)| format!("{}: {why}", index.tell(ctx, told[*node as usize])));
            std::iter::once(format!("{}, and the last leads to the first:", cycle.of.name())).chain(lines).collect()
        });
    }
    if found.gave_up && found.cycles.is_empty() {
        result.outcome = CheckOutcome::Unknown;
    }
    result
}
