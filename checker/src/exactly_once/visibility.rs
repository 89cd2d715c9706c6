//! What of a transaction is seen, and when: all of it once it has committed, and nothing before, or without.
//!
//! Atomic commit is not atomic visibility: partitions become visible one after the other, and a fetch may end in the middle of a
//! transaction. So only the end tells whether a transaction is torn.

use crate::context::{Context, TransactionVersion, seconds};
use crate::exactly_once::transactions::{Fate, Transaction};
use crate::history::{Acks, FetchOffsets, Isolation, OpKind, Outcome, SimTime, ValueId};
use crate::index::{Index, excuse};
use crate::registry::{ABORTED_OFFSET, ABORTED_READ, PRECOMMITTED_READ, TORN_TRANSACTION};
use crate::verdict::CheckResult;
use broker_types::{Offset, TopicIdPartition};
use std::collections::{BTreeMap, BTreeSet};

/// `aborted-read`, `precommitted-read`, `torn-transaction` and `aborted-offset`.
pub(crate) fn check(index: &Index<'_>, ctx: &Context) -> Vec<CheckResult> {
    let mut results = reads(index, ctx);
    results.push(torn(index, ctx));
    results.push(offsets(index, ctx));
    results
}

/// Why a transaction may have been decided by another one's EndTxn.
pub(crate) fn late_end(ctx: &Context) -> Option<&'static str> {
    (ctx.transaction_version < TransactionVersion(2)).then_some("known:KAFKA-17754")
}

fn reads(index: &Index<'_>, ctx: &Context) -> Vec<CheckResult> {
    let mut aborted = CheckResult::of(ABORTED_READ);
    let mut early = CheckResult::of(PRECOMMITTED_READ);
    for (partition, view) in &index.partitions {
        for at in &view.polls {
            let (op, poll) = index.poll(*at);
            if poll.isolation == Isolation::ReadUncommitted {
                continue;
            }
            let returned = op.returned.unwrap_or(op.invoked);
            for read in &poll.records {
                let sender = read.value.and_then(|value| index.sender(*partition, value));
                let Some((sent, ..)) = sender else { continue };
                let Some(transaction) = index.transactions.of(sent) else { continue };
                aborted.opportunity(1);
                early.opportunity(1);
                let tell = |what: String| {
                    let end = transaction.end.map(|end| index.tell(ctx, end));
                    let lines = [what, index.tell_send(ctx, sent), index.tell_poll(ctx, *at)];
                    lines.into_iter().chain(end).collect()
                };
                let end = transaction.end.map(|end| index.op(end).invoked);
                if transaction.fate == Fate::Aborted {
                    let reason = late_end(ctx);
                    aborted.find(ABORTED_READ, ctx, reason, Some(returned.0), || {
                        tell(format!("offset {}: read, and its transaction was never committed", read.offset))
                    });
                } else if let Some(end) = end.filter(|end| returned < *end) {
                    early.find(PRECOMMITTED_READ, ctx, None, Some(returned.0), || {
                        let (read_at, end) = (seconds(returned), seconds(end));
                        tell(format!("offset {}: read by {read_at}, and committed from {end} on", read.offset))
                    });
                }
            }
        }
    }
    vec![aborted, early]
}

fn torn(index: &Index<'_>, ctx: &Context) -> CheckResult {
    let mut result = CheckResult::of(TORN_TRANSACTION);
    // Partitions of which a read_committed reader saw the end, and what it saw.
    let mut read: BTreeMap<TopicIdPartition, BTreeSet<ValueId>> = BTreeMap::new();
    for (partition, view) in &index.partitions {
        let polls = view.polls.iter().map(|at| index.poll(*at).1);
        for poll in polls.filter(|poll| poll.is_final && poll.isolation == Isolation::ReadCommitted) {
            let values = read.entry(*partition).or_default();
            values.extend(poll.records.iter().filter_map(|read| read.value));
        }
    }
    read.retain(|partition, _| ctx.final_reads_reached_end.contains(partition));
    for transaction in index.transactions.all.iter().filter(|transaction| transaction.fate != Fate::Aborted) {
        let sends = transaction.parts.iter().filter(|at| matches!(index.op(**at).kind, OpKind::Send(_)));
        let acked: Vec<u32> = sends.filter(|at| index.op(**at).outcome == Outcome::Ok).copied().collect();
        if acked.len() < 2 || !acked.iter().all(|at| read.contains_key(&index.send(*at).1.partition)) {
            continue;
        }
        result.opportunity(1);
        let is_there = |at: &&u32| {
            let send = index.send(**at).1;
            read[&send.partition].contains(&send.value)
        };
        let Some(seen) = acked.iter().find(is_there) else { continue };
        let is_compacted = |at: &u32| {
            let send = index.send(*at).1;
            send.offset.is_some_and(|offset| index.may_be_compacted(ctx, send.partition, send.value, offset))
        };
        let Some(missing) = acked.iter().find(|at| !is_there(at) && !is_compacted(at)) else { continue };
        let (op, send) = index.send(*missing);
        let trimmed = ctx.rules(send.partition).may_be_trimmed.then_some("trimmed");
        let lost = trimmed.or_else(|| excuse(ctx, send.partition, Acks::All, op.invoked));
        let reason = lost.or_else(|| late_end(ctx));
        result.find(TORN_TRANSACTION, ctx, reason, Some(op.invoked.0), || {
            let mut lines = vec!["the first of these is there at the end, the second is not".to_owned()];
            lines.extend([*seen, *missing].map(|at| index.tell_send(ctx, at)));
            lines.extend(transaction.end.map(|end| index.tell(ctx, end)));
            lines
        });
    }
    result
}

/// T6: a committed offset comes from a transaction that committed.
fn offsets(index: &Index<'_>, ctx: &Context) -> CheckResult {
    let mut result = CheckResult::of(ABORTED_OFFSET);
    // Who committed an offset: places in the history.
    let mut commits: BTreeMap<(&str, TopicIdPartition, Offset), Vec<u32>> = BTreeMap::new();
    for (at, op) in (0..).zip(index.ops) {
        if let OpKind::CommitOffsets(commit) = &op.kind
            && op.outcome != Outcome::Fail
        {
            for (partition, offset) in &commit.offsets {
                commits.entry((&commit.group, *partition, *offset)).or_default().push(at);
            }
        }
    }
    for (at, op) in (0..).zip(index.ops) {
        let OpKind::FetchOffsets(FetchOffsets { group, offsets, .. }) = &op.kind else { continue };
        let returned = op.returned.unwrap_or(SimTime(u64::MAX));
        for (partition, offset) in offsets.iter().filter_map(|(partition, offset)| Some((partition, (*offset)?))) {
            let known = commits.get(&(group.as_str(), *partition, offset)).map(Vec::as_slice).unwrap_or_default();
            // Nobody here committed it: the group has other members, or the history begins late.
            if known.is_empty() {
                continue;
            }
            result.opportunity(1);
            let may_be = |commit: &u32| match index.transactions.of(*commit) {
                None => index.op(*commit).invoked <= returned,
                Some(Transaction { fate: Fate::Aborted, .. }) => false,
                Some(transaction) => transaction.end.is_some_and(|end| index.op(end).invoked <= returned),
            };
            if known.iter().any(may_be) {
                continue;
            }
            let transaction = index.transactions.of(known[0]);
            let reason = late_end(ctx);
            result.find(ABORTED_OFFSET, ctx, reason, op.returned.map(|at| at.0), || {
                let mut lines = vec![index.tell(ctx, at), index.tell(ctx, known[0])];
                let end = transaction.and_then(|transaction| transaction.end);
                lines.push(end.map_or("its transaction was never ended".to_owned(), |end| index.tell(ctx, end)));
                lines
            });
        }
    }
    result
}
