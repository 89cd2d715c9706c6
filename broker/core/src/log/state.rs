//! One log's offsets, epochs and producers, changed together.

use super::{Ends, LeaderEpochCache, LogOffsets, ProducerState};
use broker_types::{BatchSummary, LeaderEpoch, MonoTime, Offset};

/// What storage found when it opened a log.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RecoveredLog {
    /// First offset kept, inclusive.
    pub log_start: Offset,
    /// End of the last valid batch, exclusive.
    pub log_end: Offset,
    /// As checkpointed; brought into the log if it lies outside.
    pub high_watermark: Offset,
    /// End of what is known to be durable, exclusive; brought into the log likewise.
    pub flushed_end: Offset,
    /// From the checkpoint or, if that is lost, from the batches; entries beyond the log's end are dropped.
    pub epochs: LeaderEpochCache,
    /// From the newest snapshot and the batches after it.
    pub producers: ProducerState,
}

impl RecoveredLog {
    /// A new log.
    #[must_use]
    pub fn empty() -> Self {
        RecoveredLog {
            log_start: Offset::ZERO,
            log_end: Offset::ZERO,
            high_watermark: Offset::ZERO,
            flushed_end: Offset::ZERO,
            epochs: LeaderEpochCache::default(),
            producers: ProducerState::default(),
        }
    }
}

/// What a truncation entails.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Truncation {
    /// The epoch cache changed.
    pub epochs_changed: bool,
    /// The producers were forgotten and must come back from disk.
    pub producers_lost: bool,
}

/// One log without its bytes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct LogState {
    offsets: LogOffsets,
    epochs: LeaderEpochCache,
    producers: ProducerState,
}

impl LogState {
    /// The log as it was found on disk. Nothing on disk can make this panic.
    #[must_use]
    pub fn recovered(found: RecoveredLog) -> Self {
        let log_end = found.log_end.max(found.log_start);
        let within = |offset: Offset| offset.clamp(found.log_start, log_end);
        let mut epochs = found.epochs;
        epochs.truncate_from_end(log_end);
        epochs.truncate_from_start(found.log_start);
        let mut producers = found.producers;
        if producers.reaches(log_end) {
            producers.clear();
        }
        LogState {
            offsets: LogOffsets {
                log_start: found.log_start,
                high_watermark: within(found.high_watermark),
                flushed_end: within(found.flushed_end),
                log_end,
                next: log_end,
            },
            epochs,
            producers,
        }
    }

    /// The marks.
    #[must_use]
    pub fn offsets(&self) -> &LogOffsets {
        &self.offsets
    }

    /// Which leader wrote what.
    #[must_use]
    pub fn epochs(&self) -> &LeaderEpochCache {
        &self.epochs
    }

    /// Who produced.
    #[must_use]
    pub fn producers(&self) -> &ProducerState {
        &self.producers
    }

    /// The ends that limit readers. The last stable offset is the high watermark or the start of the earliest
    /// transaction whose end is not committed, whichever comes first (KIP-98).
    #[must_use]
    pub fn ends(&self) -> Ends {
        let high_watermark = self.offsets.high_watermark;
        let last_stable_offset = match self.producers.first_unstable_offset() {
            Some(unstable) => unstable.min(high_watermark),
            None => high_watermark,
        };
        Ends { log_end: self.offsets.log_end, high_watermark, last_stable_offset }
    }

    /// `epoch` begins at `start`. Returns whether the cache changed.
    pub(crate) fn assign_epoch(&mut self, epoch: LeaderEpoch, start: Offset) -> bool {
        self.epochs.assign(epoch, start)
    }

    /// A batch of `count` offsets is on its way to `base`, which is at or after the next free offset.
    pub(crate) fn reserve(&mut self, base: Offset, count: i64) {
        debug_assert!(base >= self.offsets.next && count > 0, "{base} {count} {:?}", self.offsets);
        self.offsets.next = base + count;
    }

    /// Appends that did not reach the page cache never will.
    pub(crate) fn unreserve(&mut self) {
        self.offsets.next = self.offsets.log_end;
    }

    /// A reserved batch is in the page cache.
    pub(crate) fn appended(&mut self, base: Offset, summary: &BatchSummary, now: MonoTime) {
        self.offsets.log_end = summary.last_from(base) + 1;
        self.producers.replay(base, summary, now);
    }

    /// All below `to` is durable. A report from before a truncation counts up to the log's end.
    pub(crate) fn flushed(&mut self, to: Offset) {
        let to = to.min(self.offsets.log_end);
        self.offsets.flushed_end = self.offsets.flushed_end.max(to);
    }

    /// Sets the high watermark, which must lie in the log. Returns whether it changed.
    pub(crate) fn set_high_watermark(&mut self, to: Offset) -> bool {
        debug_assert!(to >= self.offsets.log_start && to <= self.offsets.log_end, "{to} {:?}", self.offsets);
        if to == self.offsets.high_watermark {
            return false;
        }
        self.offsets.high_watermark = to;
        self.producers.settle(to);
        true
    }

    /// Moves the log's beginning up to `to`, but not beyond the high watermark. `None` if it stays; otherwise whether
    /// the epoch cache changed.
    pub(crate) fn advance_log_start(&mut self, to: Offset) -> Option<bool> {
        let to = to.min(self.offsets.high_watermark);
        if to <= self.offsets.log_start {
            return None;
        }
        self.offsets.log_start = to;
        self.offsets.flushed_end = self.offsets.flushed_end.max(to);
        Some(self.epochs.truncate_from_start(to))
    }

    /// Cuts the log's end back to `to`, which lies in the log; nothing may be on its way. Producers first, ends last, so
    /// that the first unstable offset never points past the end (KAFKA-12153).
    pub(crate) fn truncate_to(&mut self, to: Offset) -> Truncation {
        let offsets = &mut self.offsets;
        assert!(
            to >= offsets.log_start && to <= offsets.log_end && offsets.next == offsets.log_end,
            "truncation to {to} of {offsets:?}"
        );
        let producers_lost = self.producers.reaches(to);
        if producers_lost {
            self.producers.clear();
        }
        let epochs_changed = self.epochs.truncate_from_end(to);
        offsets.high_watermark = offsets.high_watermark.min(to);
        offsets.flushed_end = offsets.flushed_end.min(to);
        offsets.log_end = to;
        offsets.next = to;
        Truncation { epochs_changed, producers_lost }
    }

    /// Empties the log and lets it begin and end at `offset`, high watermark included (KAFKA-9491). Returns whether the
    /// epoch cache changed.
    pub(crate) fn truncate_fully_and_start_at(&mut self, offset: Offset) -> bool {
        self.producers.clear();
        self.offsets = LogOffsets::empty_at(offset);
        self.epochs.clear()
    }

    /// The producers as disk has them after a truncation; those of another log are not believed.
    pub(crate) fn restore_producers(&mut self, producers: ProducerState) {
        self.producers = producers;
        if self.producers.reaches(self.offsets.log_end) {
            self.producers.clear();
        }
        self.producers.settle(self.offsets.high_watermark);
    }

    /// Forgets idle producers.
    pub(crate) fn expire_producers(&mut self, now: MonoTime, expiration: std::time::Duration) {
        self.producers.expire(now, expiration);
    }

    /// Panics, naming the numbers, when the parts contradict each other.
    pub fn check_invariants(&self) {
        self.offsets.check_invariants();
        self.epochs.check_invariants();
        self.producers.check_invariants(self.offsets.log_end);
        if let (Some(first), Some(last)) = (self.epochs.entries().first(), self.epochs.entries().last()) {
            assert!(last.start <= self.offsets.next, "epoch beyond the log: {last:?} {:?}", self.offsets);
            assert!(
                self.offsets.log_start == self.offsets.log_end || first.start <= self.offsets.log_start,
                "records before the first epoch: {first:?} {:?}",
                self.offsets
            );
        } else {
            assert!(self.offsets.log_start == self.offsets.log_end, "records without an epoch: {:?}", self.offsets);
        }
    }
}
