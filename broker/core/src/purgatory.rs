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
    waiting: BTreeMap<R, (MonoTime, Box<[Watch<P>]>)>,
    /// Who watches a partition, in the order they parked.
    watchers: BTreeMap<P, Vec<(R, ReadLimit, Offset)>>,
    deadlines: BTreeSet<(MonoTime, R)>,
}

impl<R, P> Default for Purgatory<R, P> {
    fn default() -> Self {
        Purgatory { waiting: BTreeMap::new(), watchers: BTreeMap::new(), deadlines: BTreeSet::new() }
    }
}

impl<R: Ord + Copy, P: Ord + Copy> Purgatory<R, P> {
    /// Parks `request` until one of `watches` is met or `deadline` comes. A request that waits already is replaced.
    pub fn park(&mut self, request: R, deadline: MonoTime, watches: impl IntoIterator<Item = Watch<P>>) {
        self.cancel(request);
        let watches: Box<[Watch<P>]> = watches.into_iter().collect();
        for watch in &watches {
            self.watchers.entry(watch.partition).or_default().push((request, watch.limit, watch.beyond));
        }
        self.deadlines.insert((deadline, request));
        self.waiting.insert(request, (deadline, watches));
    }

    /// The ends of `partition` moved: puts the requests that waited for it into `ready`, in the order they parked.
    /// With `all`, everyone who watches the partition is released.
    pub fn moved(&mut self, partition: P, ends: &Ends, all: bool, ready: &mut Vec<R>) {
        let Some(watchers) = self.watchers.get(&partition) else { return };
        let first = ready.len();
        for (request, limit, beyond) in watchers {
            if (all || ends.at(*limit) > *beyond) && ready[first..].last() != Some(request) {
                ready.push(*request);
            }
        }
        let mut kept = first;
        for index in first..ready.len() {
            // A request may watch a partition twice; only the first of its entries still finds it waiting.
            if self.cancel(ready[index]) {
                ready.swap(kept, index);
                kept += 1;
            }
        }
        ready.truncate(kept);
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
        let Some((deadline, watches)) = self.waiting.remove(&request) else { return false };
        self.deadlines.remove(&(deadline, request));
        for watch in &watches {
            if let Some(watchers) = self.watchers.get_mut(&watch.partition) {
                watchers.retain(|(other, ..)| *other != request);
                if watchers.is_empty() {
                    self.watchers.remove(&watch.partition);
                }
            }
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
