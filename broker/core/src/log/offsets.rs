//! The marks of one log.

use broker_types::Offset;

/// Where one log begins, is committed, is durable and ends.
///
/// `log_start <= high_watermark <= log_end <= next`, and `log_start <= flushed_end <= log_end`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LogOffsets {
    /// First offset kept, inclusive. Never goes back, but for a log emptied to start elsewhere.
    pub log_start: Offset,
    /// First offset not known to be committed, exclusive end of what consumers see.
    pub high_watermark: Offset,
    /// End of what surely survives a power loss, exclusive. May lag: the driver reports what it syncs.
    pub flushed_end: Offset,
    /// End of what is in the page cache, exclusive: Kafka's log end offset.
    pub log_end: Offset,
    /// Next free offset. Beyond `log_end` while appends are on their way to the page cache.
    pub next: Offset,
}

impl LogOffsets {
    /// An empty log that begins and ends at `offset`.
    #[must_use]
    pub fn empty_at(offset: Offset) -> Self {
        LogOffsets { log_start: offset, high_watermark: offset, flushed_end: offset, log_end: offset, next: offset }
    }

    /// Panics, naming the numbers, when the marks are out of order.
    pub fn check_invariants(&self) {
        assert!(
            self.log_start <= self.high_watermark && self.high_watermark <= self.log_end && self.log_end <= self.next,
            "offsets out of order: {self:?}"
        );
        assert!(
            self.log_start <= self.flushed_end && self.flushed_end <= self.log_end,
            "flushed end outside the log: {self:?}"
        );
    }
}

/// The three ends a reader may be limited by, all exclusive.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ends {
    /// End of what is in the page cache: followers read below it.
    pub log_end: Offset,
    /// Consumers read below it.
    pub high_watermark: Offset,
    /// `read_committed` consumers read below it. At most the high watermark.
    pub last_stable_offset: Offset,
}

/// Which end limits a reader.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ReadLimit {
    /// A follower.
    LogEnd,
    /// A `read_uncommitted` consumer.
    HighWatermark,
    /// A `read_committed` consumer.
    LastStableOffset,
}

impl Ends {
    /// The end that `limit` names.
    #[must_use]
    pub fn at(&self, limit: ReadLimit) -> Offset {
        match limit {
            ReadLimit::LogEnd => self.log_end,
            ReadLimit::HighWatermark => self.high_watermark,
            ReadLimit::LastStableOffset => self.last_stable_offset,
        }
    }
}
