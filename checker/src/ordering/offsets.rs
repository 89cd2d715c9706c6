//! One offset, one value; one value, one offset.

use crate::context::Context;
use crate::history::Acks;
use crate::index::{Index, PartitionView, Seen, excuse};
use crate::registry::{DUPLICATE, INCONSISTENT_OFFSET};
use crate::verdict::CheckResult;
use broker_types::TopicIdPartition;

/// `inconsistent-offset` and `duplicate`.
pub(crate) fn check(index: &Index<'_>, ctx: &Context) -> Vec<CheckResult> {
    let mut inconsistent = CheckResult::of(INCONSISTENT_OFFSET);
    let mut duplicate = CheckResult::of(DUPLICATE);
    for (partition, view) in &index.partitions {
        inconsistent_offsets(index, ctx, *partition, view, &mut inconsistent);
        duplicates(index, ctx, *partition, view, &mut duplicate);
    }
    vec![inconsistent, duplicate]
}

fn inconsistent_offsets(
    index: &Index<'_>,
    ctx: &Context,
    partition: TopicIdPartition,
    view: &PartitionView,
    result: &mut CheckResult,
) {
    for at_offset in view.seen.chunk_by(|a, b| a.offset == b.offset) {
        // An offset proves something once two looked at it.
        let looked = at_offset.len() > 1 || at_offset[0].read_last != at_offset[0].read || at_offset[0].acked.is_some();
        result.opportunity(u64::from(looked));
        if at_offset.len() == 1 {
            continue;
        }
        // All but one of the values must be gone for a reason that Kafka documents.
        let reasons: Vec<_> = at_offset.iter().map(|seen| vanished(index, ctx, partition, seen)).collect();
        let lasting = reasons.iter().filter(|reason| reason.is_none()).count();
        let reason = if lasting > 1 { None } else { reasons.iter().flatten().min().copied() };
        result.find(INCONSISTENT_OFFSET, ctx, reason, None, || {
            at_offset.iter().flat_map(|seen| index.tell_seen(ctx, partition, seen)).collect()
        });
    }
}

/// Why what was seen may be gone: a record that was read was committed, whatever its acks; one only acknowledged is as
/// durable as its acks.
pub(crate) fn vanished(
    index: &Index<'_>,
    ctx: &Context,
    partition: TopicIdPartition,
    seen: &Seen,
) -> Option<&'static str> {
    // The invocation: the answer of a leader that was deposed may have been on its way.
    let time = |at: u32| index.op(at).invoked;
    match (seen.read_last, seen.acked) {
        (Some(read), _) => excuse(ctx, partition, Acks::All, time(read)),
        (None, Some(acked)) => excuse(ctx, partition, index.send(acked).1.acks, time(acked)),
        (None, None) => None,
    }
}

fn duplicates(
    index: &Index<'_>,
    ctx: &Context,
    partition: TopicIdPartition,
    view: &PartitionView,
    result: &mut CheckResult,
) {
    let sends = view.sends.iter().map(|at| index.send(*at).1);
    let judged = sends.filter(|send| send.idempotent && view.places(send.value).next().is_some());
    result.opportunity(judged.count() as u64);
    for (value, places) in view.values() {
        let Some((_, op, send)) = index.sender(partition, value) else { continue };
        let reason = match send.idempotent {
            false => Some("no-idempotence-retry"),
            // The copy that was seen first may be gone together with what the broker knew of its producer.
            true => excuse(ctx, partition, Acks::All, op.invoked),
        };
        result.find(DUPLICATE, ctx, reason, Some(op.invoked.0), || {
            places.iter().flat_map(|seen| index.tell_seen(ctx, partition, seen)).collect()
        });
    }
}
