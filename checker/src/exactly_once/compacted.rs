//! T11: compaction takes what a later record of the same key replaces, and nothing else. That no aborted record is there
//! afterwards, `aborted-read` sees. A tombstone deletes its key: it is taken itself once nothing older of the key is left.

use super::final_reads::committed;
use super::transactions::Fate;
use crate::context::Context;
use crate::history::{Outcome, ValueId};
use crate::index::{Index, PartitionView, excuse};
use crate::registry::COMPACTED_LAST_VALUE;
use crate::verdict::CheckResult;
use broker_types::{Offset, TopicIdPartition};
use std::collections::BTreeMap;

/// `compacted-last-value`.
pub(crate) fn check(index: &Index<'_>, ctx: &Context) -> CheckResult {
    let mut result = CheckResult::of(COMPACTED_LAST_VALUE);
    for (partition, view) in index.partitions.iter().filter(|(partition, _)| ctx.rules(**partition).compacted) {
        if let Some(found) = committed(index, ctx, *partition) {
            last_values(index, ctx, (*partition, view), &found, &mut result);
        }
    }
    result
}

fn last_values(
    index: &Index<'_>,
    ctx: &Context,
    (partition, view): (TopicIdPartition, &PartitionView),
    found: &[(Offset, ValueId)],
    result: &mut CheckResult,
) {
    // By key: the last that is there, of those that may have been committed.
    let mut last: BTreeMap<u64, Offset> = BTreeMap::new();
    for (offset, value) in found {
        let Some((at, op, send)) = index.sender(partition, *value) else { continue };
        let is_aborted = index.transactions.of(at).is_some_and(|transaction| transaction.fate == Fate::Aborted);
        if let Some(key) = send.key.filter(|_| op.outcome != Outcome::Fail && !is_aborted) {
            last.insert(key, *offset);
        }
    }
    let deleted = deleted(index, view);
    for at in &view.sends {
        let (op, send) = index.send(*at);
        let Some((key, offset)) = send.key.zip(index.acknowledged(*at)) else { continue };
        result.opportunity(1);
        let there = last.get(&key).copied();
        let is_deleted = there.is_none() && deleted.get(&key).is_some_and(|tombstone| *tombstone >= offset);
        if is_deleted || there.is_some_and(|there| there >= offset) {
            continue;
        }
        let trimmed = ctx.rules(partition).may_be_trimmed && offset < view.log_start;
        let reason = if trimmed { Some("trimmed") } else { excuse(ctx, partition, send.acks, op.invoked) };
        result.find(COMPACTED_LAST_VALUE, ctx, reason, Some(op.invoked.0), || {
            let what = match there {
                Some(there) => format!("the last record of key {key} that is there lies at offset {there}"),
                None => format!("no record of key {key} is there"),
            };
            vec![index.tell_send(ctx, *at), what]
        });
    }
}

/// By key: where its last tombstone may lie.
fn deleted(index: &Index<'_>, view: &PartitionView) -> BTreeMap<u64, Offset> {
    let mut last: BTreeMap<u64, Offset> = BTreeMap::new();
    for at in &view.sends {
        let (op, send) = index.send(*at);
        let is_aborted = index.transactions.of(*at).is_some_and(|transaction| transaction.fate == Fate::Aborted);
        if let Some(key) = send.key.filter(|_| send.is_tombstone && op.outcome != Outcome::Fail && !is_aborted) {
            let place = last.entry(key).or_insert(Offset::ZERO);
            *place = (*place).max(send.offset.unwrap_or(Offset(i64::MAX)));
        }
    }
    last
}
