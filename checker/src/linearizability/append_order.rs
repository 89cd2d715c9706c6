//! L1 to L3: appends and reads of the end, in real time. L1 is the order of appends among themselves, L2 that of appends and
//! reads of the end, L3 that of reads of the end among themselves.
//!
//! Offsets fix the order of a log, so there is no search: give an append at offset `o` the slot `2o + 1` and a read of
//! the end `E` the slot `2E`. The history is linearizable exactly when no operation starts after one of a higher slot has
//! returned. (A cycle of slot order and real time contains such a pair; without one, sorting by slot and invocation is a
//! linearization, for equal slots are reads, which commute.) One sweep over time finds the pair, which is also the
//! smallest evidence. O(n log n).
//!
//! An append with acks=1 is in order with other appends, but no read of the end need know of it: the end is the high
//! watermark, which acks=1 does not wait for.

use crate::context::Context;
use crate::history::{Acks, OpKind, Outcome, SimTime};
use crate::index::{Index, PartitionView, excuse, stale_leader};
use crate::registry::{APPEND_ORDER, END_MONOTONE, END_READS};
use crate::verdict::CheckResult;
use broker_types::TopicIdPartition;

/// What an operation does to the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// An append that is below the high watermark when it returns.
    Append,
    /// An append that need not be.
    WeakAppend,
    /// A read of the end.
    TailRead,
}

/// One operation on the log, as the sweep sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Interval {
    pub(crate) invoked: u64,
    /// `u64::MAX` when it may still take effect.
    pub(crate) returned: u64,
    pub(crate) slot: i64,
    pub(crate) op: u32,
    pub(crate) kind: Kind,
}

/// `l1-append-order`, `l2-end-reads` and `l3-end-monotone`.
pub(crate) fn check(index: &Index<'_>, ctx: &Context) -> [CheckResult; 3] {
    let mut results = [APPEND_ORDER, END_READS, END_MONOTONE].map(CheckResult::of);
    for (partition, view) in &index.partitions {
        let mut intervals = intervals(index, ctx, *partition, view);
        sweep(&mut intervals, |earlier, later| {
            let reason = reason(index, ctx, *partition, earlier.op, later.op);
            let check = match (earlier.kind, later.kind) {
                (Kind::TailRead, Kind::TailRead) => END_MONOTONE,
                (Kind::TailRead, _) | (_, Kind::TailRead) => END_READS,
                _ => APPEND_ORDER,
            };
            let result = results.iter_mut().find(|result| result.id == check.id).expect("one of the three");
            result.find(check, ctx, reason, Some(later.invoked), || {
                let what = "the second started after the first had returned, and lies before it in the log".to_owned();
                vec![index.tell(ctx, earlier.op), index.tell(ctx, later.op), what]
            });
            reason.is_some()
        });
        let reads = intervals.iter().filter(|op| op.kind == Kind::TailRead).count() as u64;
        let appends = intervals.len() as u64 - reads;
        results[0].opportunity(appends.saturating_sub(1));
        results[1].opportunity(if appends > 0 { reads } else { 0 });
        results[2].opportunity(reads.saturating_sub(1));
    }
    results
}

fn intervals(index: &Index<'_>, ctx: &Context, partition: TopicIdPartition, view: &PartitionView) -> Vec<Interval> {
    let mut intervals = Vec::with_capacity(view.sends.len() + view.tail_reads.len());
    for at in &view.sends {
        let (op, send) = index.send(*at);
        if op.outcome == Outcome::Fail || send.acks == Acks::None {
            continue;
        }
        let slot = |offset: broker_types::Offset| offset.0.saturating_mul(2).saturating_add(1);
        let (offset, returned) = match (op.outcome, send.offset) {
            (Outcome::Ok, Some(offset)) => (offset, op.returned.map_or(u64::MAX, |at| at.0)),
            // Nobody told its offset: it counts where a reader found it, and may have been written at any time.
            _ => match view.places(send.value).next() {
                Some(seen) => (seen.offset, u64::MAX),
                None => continue,
            },
        };
        // What is lost for a documented reason is in no order with what came to its place.
        let is_lost = || view.final_end().is_some() && !view.places(send.value).any(|seen| seen.read_finally.is_some());
        if send.acks == Acks::Leader && excuse(ctx, partition, send.acks, op.invoked).is_some() && is_lost() {
            continue;
        }
        let kind = if send.acks == Acks::All { Kind::Append } else { Kind::WeakAppend };
        intervals.push(Interval { invoked: op.invoked.0, returned, slot: slot(offset), op: *at, kind });
    }
    for at in &view.tail_reads {
        let (op, read) = index.tail_read(*at);
        if let (Outcome::Ok, Some(returned)) = (op.outcome, op.returned) {
            let slot = read.end.0.saturating_mul(2);
            let (invoked, returned) = (op.invoked.0, returned.0);
            intervals.push(Interval { invoked, returned, slot, op: *at, kind: Kind::TailRead });
        }
    }
    intervals
}

/// Tells every operation that starts after one of a higher slot has returned: with the highest append, and with the
/// highest read of the end. When `found` says that the pair is excused, the earlier one no longer counts.
pub(crate) fn sweep(intervals: &mut [Interval], mut found: impl FnMut(&Interval, &Interval) -> bool) {
    if !intervals.is_sorted_by_key(|op| op.invoked) {
        intervals.sort_unstable_by_key(|op| (op.invoked, op.op));
    }
    let mut by_return: Vec<(u64, u32)> = (0u32..)
        .zip(intervals.iter())
        .filter(|(_, op)| op.returned != u64::MAX)
        .map(|(at, op)| (op.returned, at))
        .collect();
    if !by_return.is_sorted() {
        by_return.sort_unstable();
    }
    let mut done = by_return.into_iter().map(|(returned, at)| (returned, intervals[at as usize])).peekable();
    // The highest that has returned, of each kind.
    let mut highest: [Option<Interval>; 3] = [None; 3];
    for op in intervals.iter() {
        while let Some((_, returned)) = done.next_if(|(returned, _)| *returned < op.invoked) {
            let highest = &mut highest[returned.kind as usize];
            if highest.is_none_or(|highest| highest.slot < returned.slot) {
                *highest = Some(returned);
            }
        }
        let [append, weak, read] = highest;
        // A read of the end need not know of a weak append.
        let append = match op.kind {
            Kind::TailRead => append,
            _ => append.into_iter().chain(weak).max_by_key(|op| op.slot),
        };
        for earlier in [append, read].into_iter().flatten() {
            if earlier.slot > op.slot && found(&earlier, op) {
                highest[earlier.kind as usize] = None;
            }
        }
    }
}

fn reason(
    index: &Index<'_>,
    ctx: &Context,
    partition: TopicIdPartition,
    earlier: u32,
    later: u32,
) -> Option<&'static str> {
    let (first, second) = (index.op(earlier), index.op(later));
    let acks = |at: u32| match &index.op(at).kind {
        OpKind::Send(send) => send.acks,
        _ => Acks::All,
    };
    if let OpKind::TailRead(_) = second.kind {
        // A leader whose high watermark is recovering answers OFFSET_NOT_AVAILABLE (KIP-207): only a deposed one is behind.
        let until = second.returned.unwrap_or(SimTime(u64::MAX));
        if let Some(reason) = stale_leader(ctx, partition, second.invoked, until) {
            return Some(reason);
        }
    }
    // The earlier one may be gone from the log by the time of the later.
    let gone = excuse(ctx, partition, acks(earlier), first.invoked);
    gone.or_else(|| excuse(ctx, partition, acks(later), second.invoked))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Tries every order that real time permits: some order must have ascending slots.
    fn some_order_explains(ops: &[Interval]) -> bool {
        fn place(ops: &[Interval], placed: &mut Vec<usize>) -> bool {
            if placed.len() == ops.len() {
                return true;
            }
            for next in 0..ops.len() {
                if placed.contains(&next) {
                    continue;
                }
                // Whatever returned before this one started must have its place already.
                let waits = (0..ops.len())
                    .any(|other| other != next && !placed.contains(&other) && ops[other].returned < ops[next].invoked);
                let ascends = placed.last().is_none_or(|last| ops[*last].slot <= ops[next].slot);
                if !waits && ascends {
                    placed.push(next);
                    if place(ops, placed) {
                        return true;
                    }
                    placed.pop();
                }
            }
            false
        }
        place(ops, &mut Vec::new())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn the_sweep_agrees_with_trying_every_order(
            spans in prop::collection::vec((0u64..12, prop::option::weighted(0.9, 0u64..6), 0i64..6), 0..=6),
        ) {
            // Appends have the odd slots, reads of the end the even ones.
            let mut ops: Vec<Interval> = (0u32..).zip(spans).map(|(op, (invoked, lasts, slot))| Interval {
                invoked,
                returned: lasts.map_or(u64::MAX, |lasts| invoked + lasts),
                slot,
                op,
                kind: if slot % 2 == 1 { Kind::Append } else { Kind::TailRead },
            }).collect();
            let explained = some_order_explains(&ops);
            let mut found = 0;
            sweep(&mut ops, |_, _| { found += 1; false });
            prop_assert_eq!(found == 0, explained, "{:?}", ops);
        }
    }
}
