//! The metadata log as the quorum sees it: where it starts and ends, how much of it is on disk, and where each epoch
//! begins.

use super::{FetchOutcome, LogRange, Output};
use broker_types::{LeaderEpoch, Offset, OffsetAndEpoch};

/// Where one epoch begins in the log.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct EpochStart {
    /// The epoch.
    pub epoch: LeaderEpoch,
    /// Its first offset.
    pub start: Offset,
}

/// A log without its bytes. It changes when the machine decides, not when the driver has written: outputs are carried
/// out in order, so whoever sees an output sees the log that it speaks of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogView {
    /// First offset kept; what is below is in a snapshot. At most `end`.
    start: Offset,
    /// Epoch of the record before `start`; 0 if there was none.
    epoch_before_start: LeaderEpoch,
    /// Log end offset, exclusive.
    end: Offset,
    /// Everything below is on disk. At most `end`.
    flushed: Offset,
    /// The end that a flush under way will have made durable. Falls when the log is cut meanwhile.
    flushing: Option<Offset>,
    /// Something was appended or cut since the last flush was begun.
    unsynced: bool,
    /// Where each epoch begins, oldest first. Epochs and starts both strictly increase; all starts are below `end`.
    epochs: Vec<EpochStart>,
}

impl LogView {
    /// A log of no records.
    #[must_use]
    pub fn empty() -> Self {
        LogView::recovered(
            OffsetAndEpoch { offset: Offset::ZERO, epoch: LeaderEpoch(0) },
            Offset::ZERO,
            Offset::ZERO,
            Vec::new(),
        )
    }

    /// A log as recovery found it. `start` is the first offset kept and the epoch of the record before it (0 if there
    /// was none); `end` is exclusive; of `flushed`, recovery knows that all below is on disk: `end` if it has synced
    /// the log, else the recovery point. `epochs` come from the batches or the leader-epoch checkpoint. Whatever
    /// contradicts is left out.
    #[must_use]
    pub fn recovered(start: OffsetAndEpoch, end: Offset, flushed: Offset, epochs: Vec<EpochStart>) -> Self {
        let end = end.max(start.offset);
        let mut kept: Vec<EpochStart> = Vec::with_capacity(epochs.len());
        for entry in epochs {
            let follows = kept.last().is_none_or(|last| last.epoch < entry.epoch && last.start < entry.start);
            if follows && entry.start < end {
                kept.push(entry);
            }
        }
        LogView {
            start: start.offset,
            epoch_before_start: start.epoch,
            end,
            flushed: flushed.clamp(start.offset, end),
            flushing: None,
            unsynced: flushed < end,
            epochs: kept,
        }
    }

    /// First offset kept, inclusive.
    #[must_use]
    pub fn start(&self) -> Offset {
        self.start
    }

    /// Log end offset, exclusive.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.end
    }

    /// Everything below is on disk.
    #[must_use]
    pub fn flushed_end(&self) -> Offset {
        self.flushed
    }

    /// Epoch of the last record; 0 for an empty log.
    #[must_use]
    pub fn last_epoch(&self) -> LeaderEpoch {
        self.epochs.last().map_or(self.epoch_before_start, |last| last.epoch)
    }

    /// What elections compare.
    #[must_use]
    pub fn end_and_epoch(&self) -> OffsetAndEpoch {
        OffsetAndEpoch { offset: self.end, epoch: self.last_epoch() }
    }

    /// Where each epoch begins, oldest first.
    #[must_use]
    pub fn epochs(&self) -> &[EpochStart] {
        &self.epochs
    }

    /// The largest epoch of the log that is at most `epoch`, and where it ends. Before the first one: the log start.
    #[must_use]
    pub fn end_for_epoch(&self, epoch: LeaderEpoch) -> OffsetAndEpoch {
        let after = self.epochs.partition_point(|entry| entry.epoch <= epoch);
        let end = self.epochs.get(after).map_or(self.end, |next| next.start);
        match after.checked_sub(1).and_then(|at| self.epochs.get(at)) {
            Some(entry) => OffsetAndEpoch { offset: end, epoch: entry.epoch },
            None => OffsetAndEpoch { offset: self.start, epoch: self.epoch_before_start },
        }
    }

    /// What a leader answers to someone whose log ends at `asked`.
    pub(super) fn read_after(&self, asked: OffsetAndEpoch) -> FetchOutcome<LogRange> {
        let nothing_yet = asked.offset == Offset::ZERO && asked.epoch == LeaderEpoch(0);
        if !(nothing_yet && self.start == Offset::ZERO) {
            let at_start = asked.offset == self.start && asked.epoch == self.epoch_before_start;
            if asked.offset < self.start || (asked.offset == self.start && !at_start && self.start > Offset::ZERO) {
                return FetchOutcome::Snapshot(OffsetAndEpoch { offset: self.start, epoch: self.epoch_before_start });
            }
            let shared = self.end_for_epoch(asked.epoch);
            if shared.epoch != asked.epoch || shared.offset < asked.offset {
                return FetchOutcome::Diverging(shared);
            }
        }
        if asked.offset < self.end {
            FetchOutcome::Records(LogRange { from: asked.offset, to: self.end })
        } else {
            FetchOutcome::Nothing
        }
    }

    /// Whether everything is on disk.
    pub(super) fn is_flushed(&self) -> bool {
        !self.unsynced && self.flushing.is_none()
    }

    /// `count` records of `epoch` are appended. Returns the new end.
    pub(super) fn append(&mut self, epoch: LeaderEpoch, count: i64) -> Offset {
        assert!(count > 0 && epoch >= self.last_epoch(), "append of {count} in {epoch:?} to {self:?}");
        if self.last_epoch() < epoch {
            self.epochs.push(EpochStart { epoch, start: self.end });
        }
        self.end += count;
        self.unsynced = true;
        self.end
    }

    /// The end is cut back to `to`.
    pub(super) fn truncate(&mut self, to: Offset) {
        assert!(self.start <= to && to < self.end, "truncate to {to}: {self:?}");
        self.epochs.retain(|entry| entry.start < to);
        self.end = to;
        self.flushed = self.flushed.min(to);
        // A flush under way speaks of the records that were there when it began; what takes their place is not covered.
        self.flushing = self.flushing.map(|end| end.min(to));
        self.unsynced = true;
    }

    /// Begins a flush if one is due and none is under way.
    pub(super) fn maybe_flush(&mut self, out: &mut Vec<Output>) {
        if self.unsynced && self.flushing.is_none() {
            self.unsynced = false;
            self.flushing = Some(self.end);
            out.push(Output::Flush { to: self.end });
        }
    }

    /// The flush under way is done.
    pub(super) fn flushed(&mut self) {
        if let Some(end) = self.flushing.take() {
            self.flushed = self.flushed.max(end);
        }
    }

    pub(super) fn check_invariants(&self) {
        let LogView { start, end, flushed, flushing, epochs, .. } = self;
        assert!(start <= flushed && flushed <= end, "log start <= flushed <= end does not hold: {self:?}");
        assert!(flushing.is_none_or(|flushing| flushing <= *end), "flushing above the end: {self:?}");
        assert!(!self.is_flushed() || flushed == end, "nothing left to flush, yet not flushed: {self:?}");
        let rising = epochs.windows(2).all(|pair| pair[0].epoch < pair[1].epoch && pair[0].start < pair[1].start);
        assert!(rising && epochs.last().is_none_or(|last| last.start < *end), "epochs out of order: {self:?}");
    }
}
