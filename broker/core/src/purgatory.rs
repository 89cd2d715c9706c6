//! Requests that wait for an offset, or for time.
//!
//! A fetch that found too few bytes is parked with what would change its answer: per partition, the end it is limited
//! by and where that end was. When the end moves on ([`Output::Moved`](crate::partition::Output::Moved)), or its
//! deadline comes, the request leaves the purgatory and its driver reads again; if there are still too few bytes it
//! parks once more. A request is handed out exactly once for each time it was parked.
//!
//! Produce requests with acks=all wait inside the replica, which alone knows when they are committed.

use crate::log::{Ends, ReadLimit};
use broker_types::{MonoTime, Offset};
use std::collections::{BTreeMap, BTreeSet};

/// One end that a request waits for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Watch<P> {
    /// Of which partition.
    pub partition: P,
    /// Which end.
    pub limit: ReadLimit,
    /// It must be greater than this.
    pub beyond: Offset,
}

/// Waiting requests `R`, watching partitions `P`. Its driver bounds how many there may be.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Purgatory<R, P> {
    waiting: BTreeMap<R, Waiting<P>>,
    /// Who watches a partition, in the order they parked. By place, so that one leaves without a look at the others:
    /// ten thousand who wait for the same partition leave together when a record comes.
    watchers: BTreeMap<P, BTreeMap<Place, (R, Offset)>>,
    deadlines: BTreeSet<(MonoTime, R)>,
    /// Greater than the turn of any that waits; 0 when none does.
    next_turn: u64,
}

/// A request's turn, and what it is limited by.
type Place = (u64, ReadLimit);

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Waiting<P> {
    deadline: MonoTime,
    turn: u64,
    watches: Box<[Watch<P>]>,
}

impl<R, P> Default for Purgatory<R, P> {
    fn default() -> Self {
        Purgatory { waiting: BTreeMap::new(), watchers: BTreeMap::new(), deadlines: BTreeSet::new(), next_turn: 0 }
    }
}

impl<R: Ord + Copy, P: Ord + Copy> Purgatory<R, P> {
    /// Parks `request` until one of `watches` is met or `deadline` comes. A request that waits already is replaced.
    pub fn park(&mut self, request: R, deadline: MonoTime, watches: impl IntoIterator<Item = Watch<P>>) {
        self.cancel(request);
        let watches: Box<[Watch<P>]> = watches.into_iter().collect();
        let turn = self.next_turn;
        self.next_turn += 1;
        for watch in &watches {
            let watchers = self.watchers.entry(watch.partition).or_default();
            let (_, beyond) = watchers.entry((turn, watch.limit)).or_insert((request, watch.beyond));
            *beyond = watch.beyond.min(*beyond);
        }
        self.deadlines.insert((deadline, request));
        self.waiting.insert(request, Waiting { deadline, turn, watches });
    }

    /// The ends of `partition` moved: puts the requests that waited for it into `ready`, in the order they parked.
    /// With `all`, everyone who watches the partition is released.
    pub fn moved(&mut self, partition: P, ends: &Ends, all: bool, ready: &mut Vec<R>) {
        let Some(watchers) = self.watchers.get(&partition) else { return };
        let first = ready.len();
        for ((_, limit), (request, beyond)) in watchers {
            if (all || ends.at(*limit) > *beyond) && ready[first..].last() != Some(request) {
                ready.push(*request);
            }
        }
        for request in &ready[first..] {
            self.cancel(*request);
        }
    }

    /// Puts the requests whose deadline is `now` or earlier into `ready`, earliest first.
    pub fn expire(&mut self, now: MonoTime, ready: &mut Vec<R>) {
        while let Some((deadline, request)) = self.deadlines.first().copied()
            && deadline <= now
        {
            self.cancel(request);
            ready.push(request);
        }
    }

    /// When [`Purgatory::expire`] next finds something.
    #[must_use]
    pub fn wakeup(&self) -> Option<MonoTime> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Takes `request` out (its connection is gone). Returns whether it waited.
    pub fn cancel(&mut self, request: R) -> bool {
        let Some(Waiting { deadline, turn, watches }) = self.waiting.remove(&request) else { return false };
        self.deadlines.remove(&(deadline, request));
        for watch in &watches {
            if let Some(watchers) = self.watchers.get_mut(&watch.partition) {
                watchers.remove(&(turn, watch.limit));
                if watchers.is_empty() {
                    self.watchers.remove(&watch.partition);
                }
            }
        }
        if self.waiting.is_empty() {
            self.next_turn = 0;
        }
        true
    }

    /// How many requests wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(log_end: i64, high_watermark: i64) -> Ends {
        Ends {
            log_end: Offset(log_end),
            high_watermark: Offset(high_watermark),
            last_stable_offset: Offset(high_watermark),
        }
    }

    fn watch(partition: u8, limit: ReadLimit, beyond: i64) -> Watch<u8> {
        Watch { partition, limit, beyond: Offset(beyond) }
    }

    #[test]
    fn a_request_leaves_when_the_end_it_waits_for_moves_and_only_once() {
        let mut purgatory = Purgatory::default();
        purgatory.park(1, MonoTime(100), [watch(0, ReadLimit::LogEnd, 5), watch(1, ReadLimit::LogEnd, 9)]);
        purgatory.park(2, MonoTime(100), [watch(0, ReadLimit::HighWatermark, 5)]);
        let mut ready = Vec::new();
        purgatory.moved(0, &ends(5, 5), false, &mut ready);
        assert!(ready.is_empty());
        purgatory.moved(0, &ends(6, 5), false, &mut ready);
        assert_eq!(ready, [1]);
        purgatory.moved(1, &ends(50, 50), false, &mut ready);
        purgatory.moved(0, &ends(6, 6), false, &mut ready);
        assert_eq!(ready, [1, 2]);
        assert!(purgatory.is_empty() && purgatory == Purgatory::default());
    }

    #[test]
    fn a_changed_role_releases_everyone_who_watches_in_the_order_they_parked() {
        let mut purgatory = Purgatory::default();
        for request in [3, 1, 2] {
            purgatory.park(
                request,
                MonoTime(100),
                [watch(0, ReadLimit::LogEnd, 5), watch(0, ReadLimit::HighWatermark, 5)],
            );
        }
        purgatory.park(9, MonoTime(100), [watch(1, ReadLimit::LogEnd, 5)]);
        let mut ready = vec![77];
        purgatory.moved(0, &ends(0, 0), true, &mut ready);
        assert_eq!(ready, [77, 3, 1, 2]);
        assert_eq!(purgatory.len(), 1);
    }

    #[test]
    fn a_partition_watched_twice_for_the_same_end_counts_where_it_is_met_first() {
        let mut purgatory = Purgatory::default();
        purgatory.park(1, MonoTime(100), [watch(0, ReadLimit::LogEnd, 7), watch(0, ReadLimit::LogEnd, 5)]);
        purgatory.park(2, MonoTime(100), [watch(0, ReadLimit::LogEnd, 5), watch(0, ReadLimit::LogEnd, 7)]);
        let mut ready = Vec::new();
        purgatory.moved(0, &ends(6, 0), false, &mut ready);
        assert_eq!(ready, [1, 2]);
        assert!(purgatory == Purgatory::default());
    }

    #[test]
    fn ten_thousand_who_wait_for_one_partition_leave_together_and_soon() {
        let mut purgatory = Purgatory::default();
        let mut ready = Vec::new();
        for end in 1..20 {
            for request in 0..10_000 {
                purgatory.park(request, MonoTime(100), [watch(0, ReadLimit::LogEnd, end - 1)]);
            }
            purgatory.moved(0, &ends(end, 0), false, &mut ready);
            assert_eq!(ready.len(), 10_000);
            assert!(purgatory.is_empty());
            ready.clear();
        }
    }

    #[test]
    fn deadlines_come_in_order_and_a_cancelled_request_never_returns() {
        let mut purgatory = Purgatory::default();
        purgatory.park(1, MonoTime(30), [watch(0, ReadLimit::LogEnd, 5)]);
        purgatory.park(2, MonoTime(20), [watch(0, ReadLimit::LogEnd, 5)]);
        purgatory.park(3, MonoTime(10), [watch(0, ReadLimit::LogEnd, 5)]);
        assert!(purgatory.cancel(3) && !purgatory.cancel(3));
        assert_eq!(purgatory.wakeup(), Some(MonoTime(20)));
        let mut ready = Vec::new();
        purgatory.expire(MonoTime(30), &mut ready);
        assert_eq!(ready, [2, 1]);
        assert_eq!(purgatory.wakeup(), None);
    }
}
