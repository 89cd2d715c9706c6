//! What a poll may return, alone and after the one before it.

use crate::context::Context;
use crate::history::{Acks, Isolation, Poll, SessionId, SimTime};
use crate::index::{Index, PartitionView, Seen, excuse};
use crate::registry::{CONTIGUITY, ISOLATION_BOUND, NONMONOTONIC_POLL, POLL_SKIP};
use crate::verdict::CheckResult;
use broker_types::{Offset, TopicIdPartition};
use std::collections::BTreeMap;

/// `contiguity`, `poll-skip`, `nonmonotonic-poll` and `isolation-bound`.
pub(crate) fn check(index: &Index<'_>, ctx: &Context) -> Vec<CheckResult> {
    let mut contiguity = CheckResult::of(CONTIGUITY);
    let mut skip = CheckResult::of(POLL_SKIP);
    let mut back = CheckResult::of(NONMONOTONIC_POLL);
    let mut bound = CheckResult::of(ISOLATION_BOUND);
    for (partition, view) in &index.partitions {
        let mut former: BTreeMap<SessionId, u32> = BTreeMap::new();
        for at in &view.polls {
            contiguous(index, ctx, *partition, view, *at, &mut contiguity);
            bounded(index, ctx, *at, &mut bound);
            let (op, poll) = index.poll(*at);
            if let Some(before) = former.insert(op.session, *at)
                && !poll.after_seek
            {
                follows(index, ctx, *partition, view, (before, *at), (&mut skip, &mut back));
            }
        }
    }
    vec![contiguity, skip, back, bound]
}

/// B5: what lies between the position and the next one is returned, each once, in order.
fn contiguous(
    index: &Index<'_>,
    ctx: &Context,
    partition: TopicIdPartition,
    view: &PartitionView,
    at: u32,
    result: &mut CheckResult,
) {
    let (op, poll) = index.poll(at);
    result.opportunity(u64::from(poll.next_position > poll.position));
    let time = op.returned.unwrap_or(op.invoked);
    let mut expected = poll.position;
    for read in &poll.records {
        if read.offset < expected {
            let what = match read.offset < poll.position {
                true => format!("offset {} was returned, before the position {}", read.offset, poll.position),
                false => format!("offset {} was returned after offset {}", read.offset, expected.0 - 1),
            };
            result.find(CONTIGUITY, ctx, None, Some(time.0), || vec![what, index.tell_poll(ctx, at)]);
            return;
        }
        expected = read.offset + 1;
    }
    if expected > poll.next_position {
        let what = format!("the position became {}, behind the last record returned", poll.next_position);
        result.find(CONTIGUITY, ctx, None, Some(time.0), || vec![what, index.tell_poll(ctx, at)]);
        return;
    }
    let mut returned = poll.records.iter().map(|read| read.offset).peekable();
    for seen in view.from(poll.position).iter().take_while(|seen| seen.offset < poll.next_position) {
        while returned.next_if(|offset| *offset < seen.offset).is_some() {}
        let is_compacted = || index.may_be_compacted(ctx, partition, seen.value, seen.offset);
        if returned.peek() != Some(&seen.offset) && visible(seen, poll) && !is_compacted() {
            let reason = missing(ctx, partition, view, seen);
            result.find(CONTIGUITY, ctx, reason, Some(time.0), || {
                let mut lines = vec![format!("offset {} was passed over", seen.offset), index.tell_poll(ctx, at)];
                lines.extend(index.tell_seen(ctx, partition, seen));
                lines
            });
        }
    }
}

/// Somebody with the same view of transactions read it there.
fn visible(seen: &Seen, poll: &Poll) -> bool {
    seen.read.is_some() && (seen.read_committed || poll.isolation == Isolation::ReadUncommitted)
}

/// Why a record that was read once may not be there at another time.
fn missing(ctx: &Context, partition: TopicIdPartition, view: &PartitionView, seen: &Seen) -> Option<&'static str> {
    if ctx.rules(partition).may_be_trimmed && seen.offset < view.log_start {
        return Some("trimmed");
    }
    excuse(ctx, partition, Acks::All, SimTime(0))
}

/// B6: without a seek, a poll goes on where the one before it ended.
fn follows(
    index: &Index<'_>,
    ctx: &Context,
    partition: TopicIdPartition,
    view: &PartitionView,
    (before, at): (u32, u32),
    (skip, back): (&mut CheckResult, &mut CheckResult),
) {
    let ((_, former), (op, poll)) = (index.poll(before), index.poll(at));
    let time = Some(op.returned.unwrap_or(op.invoked).0);
    skip.opportunity(1);
    back.opportunity(1);
    // The first offset that this poll says something about.
    let starts = poll.records.first().map_or(poll.position, |read| read.offset.min(poll.position));
    let ended = former.records.last().map_or(former.next_position, |read| former.next_position.max(read.offset + 1));
    if starts < ended {
        let reason = excuse(ctx, partition, Acks::All, SimTime(0));
        back.find(NONMONOTONIC_POLL, ctx, reason, time, || {
            let what = format!("offset {starts} came after the session had been past {ended}");
            vec![what, index.tell_poll(ctx, before), index.tell_poll(ctx, at)]
        });
        return;
    }
    let between = |seen: &&Seen| {
        let is_compacted = || index.may_be_compacted(ctx, partition, seen.value, seen.offset);
        visible(seen, poll) && !is_compacted()
    };
    if let Some(seen) = view.from(ended).iter().take_while(|seen| seen.offset < poll.position).find(between) {
        let reason = missing(ctx, partition, view, seen);
        skip.find(POLL_SKIP, ctx, reason, time, || {
            let mut lines = vec![format!("offset {} was skipped", seen.offset)];
            lines.extend([index.tell_poll(ctx, before), index.tell_poll(ctx, at)]);
            lines.extend(index.tell_seen(ctx, partition, seen));
            lines
        });
    }
}

/// B19: a poll returns nothing that its own answer calls invisible.
fn bounded(index: &Index<'_>, ctx: &Context, at: u32, result: &mut CheckResult) {
    let (op, poll) = index.poll(at);
    let (name, bound) = match poll.isolation {
        Isolation::ReadCommitted => ("last stable offset", poll.last_stable),
        Isolation::ReadUncommitted => ("high watermark", poll.high_watermark),
    };
    let Some(bound) = bound else { return };
    result.opportunity(1);
    let time = Some(op.returned.unwrap_or(op.invoked).0);
    if let Some(read) = poll.records.iter().find(|read| read.offset >= bound) {
        result.find(ISOLATION_BOUND, ctx, None, time, || {
            vec![format!("offset {} was returned with {name} {bound}", read.offset), index.tell_poll(ctx, at)]
        });
    }
    let high_watermark = poll.high_watermark.unwrap_or(Offset(i64::MAX));
    let last_stable = poll.last_stable.unwrap_or(high_watermark);
    if poll.log_start.is_some_and(|start| start > last_stable) || last_stable > high_watermark {
        result.find(ISOLATION_BOUND, ctx, None, time, || {
            let start = poll.log_start.unwrap_or_default();
            let what = format!("log start {start}, last stable offset {last_stable}, high watermark {high_watermark}");
            vec![what, index.tell_poll(ctx, at)]
        });
    }
}
