//! V11: what brokers owe a log at the end, by its retention and its cleaner.

use super::SegmentEnd;
use crate::context::{Cleanup, Compaction, Context};
use crate::convergence::{BatchEnd, Idle, PartitionEnd, ReplicaEnd};
use crate::findings::Findings;
use crate::registry::CLEANUP_PROGRESS;
use broker_types::Offset;

/// `cleanup-progress`. A replica counts when something was due, whether it was done or not.
pub(crate) fn check(partition: &PartitionEnd, idle: Idle, ctx: &Context, out: &mut Findings) {
    let rules = ctx.rules(partition.partition).cleanup;
    for replica in &partition.replicas {
        let segments = segments(replica);
        let owed = [
            retained(replica, &segments, rules, idle),
            rules.compaction.and_then(|rules| dirty(replica, &segments, rules, idle)),
        ];
        let was_done = replica.log_start > Offset(0) || replica.cleaned.is_some();
        out.opportunity(CLEANUP_PROGRESS, u64::from(was_done || owed.iter().any(Option::is_some)));
        for what in owed.into_iter().flatten() {
            out.find(CLEANUP_PROGRESS, ctx, None, None, || {
                let (name, node) = (ctx.partition_name(partition.partition), ctx.node_name(replica.node));
                vec![format!("{name} on {node}: {what}")]
            });
        }
    }
}

/// What matters of a segment: where it begins and ends, its bytes, its newest timestamp and that of its first batch.
struct Segment {
    base: Offset,
    /// Exclusive.
    end: Offset,
    bytes: u64,
    newest: i64,
    first: i64,
    is_active: bool,
}

fn segments(replica: &ReplicaEnd) -> Vec<Segment> {
    let Some(told) = &replica.segments else { return Vec::new() };
    let mut batches = replica.batches.as_slice();
    let ends = told.iter().skip(1).map(|next| Some(next.base)).chain([None]);
    let of = |(segment, next): (&SegmentEnd, Option<Offset>)| {
        let (own, rest) = batches.split_at(segment.batches.min(batches.len()));
        batches = rest;
        Segment {
            base: segment.base,
            end: next.unwrap_or(replica.log_end),
            bytes: own.iter().map(|batch: &BatchEnd| u64::from(batch.size)).sum(),
            newest: own.iter().map(|batch| batch.max_timestamp).max().unwrap_or(-1),
            first: own.first().map_or(-1, |batch| batch.max_timestamp),
            is_active: next.is_none(),
        }
    };
    told.iter().zip(ends).map(of).collect()
}

/// Why the oldest segment is to be gone: of the others none may go before it. The active one may go as well, once a new one
/// takes its place, but not if nothing is in it.
fn retained(replica: &ReplicaEnd, segments: &[Segment], rules: Cleanup, idle: Idle) -> Option<String> {
    let oldest = segments.first().filter(|oldest| !oldest.is_active || oldest.bytes > 0)?;
    if oldest.end > replica.high_watermark {
        return None;
    }
    let is_there = format!("the segment from offset {} to {} is still there", oldest.base, oldest.end);
    if !oldest.is_active && oldest.end <= replica.log_start {
        return Some(format!("{is_there}; the log starts at {}", replica.log_start));
    }
    if let Some(retention) = rules.retention_ms
        && is_older(oldest.newest, retention, idle)
    {
        let age = idle.since_ms - oldest.newest;
        return Some(format!("{is_there}; its newest record is {age} ms old or older, retention.ms is {retention}"));
    }
    let others: u64 = segments.iter().skip(1).map(|segment| segment.bytes).sum();
    let most = rules.retention_bytes.filter(|most| others >= *most)?;
    Some(format!("{is_there}; the others hold {others} bytes, retention.bytes is {most}"))
}

/// A record of that time was older than `age_ms` when nothing was written any more. One without a timestamp is of no age.
fn is_older(timestamp: i64, age_ms: u64, idle: Idle) -> bool {
    timestamp >= 0 && i128::from(idle.since_ms) - i128::from(timestamp) > i128::from(age_ms)
}

/// Why the log is to be cleaned. The cleaner works in whole segments, in order, up to what is stable, not in the active one, nor
/// in one that has a record too young.
fn dirty(replica: &ReplicaEnd, segments: &[Segment], rules: Compaction, idle: Idle) -> Option<String> {
    let from = replica.cleaned.unwrap_or(replica.log_start);
    let stable = replica.last_stable.unwrap_or(replica.high_watermark).min(replica.high_watermark);
    let is_cleanable = |segment: &&Segment| {
        !segment.is_active
            && segment.end <= stable
            && (rules.min_lag_ms == 0 || is_older(segment.newest, rules.min_lag_ms, idle))
    };
    let (clean, rest) = segments.split_at(segments.partition_point(|segment| segment.end <= from));
    let cleanable: Vec<&Segment> = rest.iter().take_while(is_cleanable).collect();
    let bytes = |segments: &mut dyn Iterator<Item = &Segment>| segments.map(|segment| segment.bytes).sum::<u64>();
    let (cleaned, dirty) = (bytes(&mut clean.iter()), bytes(&mut cleanable.iter().copied()));
    let (first, last) = (cleanable.first()?, cleanable.last()?);
    let is_there = format!("the cleaner has not been at offsets {} to {}", first.base.max(from), last.end);
    if u128::from(dirty) * 1_000_000 > u128::from(rules.min_dirty_ppm) * (u128::from(cleaned) + u128::from(dirty)) {
        let ratio = f64::from(rules.min_dirty_ppm) / 1e6;
        let all = cleaned + dirty;
        return Some(format!("{is_there}, {dirty} of {all} bytes; min.cleanable.dirty.ratio is {ratio}"));
    }
    let longest = rules.max_lag_ms.filter(|longest| is_older(first.first, *longest, idle))?;
    let age = idle.since_ms - first.first;
    Some(format!("{is_there}, of which the first are {age} ms old or older; max.compaction.lag.ms is {longest}"))
}
