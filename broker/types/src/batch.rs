//! What a deciding machine needs to know of a record batch, without its bytes.

use crate::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

/// The header facts of one v2 record batch (KIP-98). Read once from the bytes, which then stay opaque.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct BatchSummary {
    /// First offset as written in the bytes; a producer sends 0.
    pub base_offset: Offset,
    /// Last offset minus base offset. At least 0.
    pub last_offset_delta: i32,
    /// Leader epoch as written in the bytes; `None` for a producer's -1.
    pub leader_epoch: Option<LeaderEpoch>,
    /// Records in the batch; 0 only in a batch that compaction emptied.
    pub record_count: u32,
    /// Bytes, header included.
    pub size: u32,
    /// CRC-32C as stored; it covers all but base offset, length and leader epoch.
    pub crc: u32,
    /// Timestamp of the first record, milliseconds.
    pub base_timestamp: i64,
    /// Largest timestamp, milliseconds.
    pub max_timestamp: i64,
    /// The idempotent or transactional producer; `None` for a plain one.
    pub producer: Option<ProducerStamp>,
    /// The batch belongs to a transaction.
    pub is_transactional: bool,
    /// The batch holds a control record (transaction marker, leader change, snapshot header or footer).
    pub is_control: bool,
}

/// Who wrote a batch, and where in its sequence.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ProducerStamp {
    /// The producer id.
    pub id: ProducerId,
    /// The session's epoch.
    pub epoch: ProducerEpoch,
    /// Sequence number of the first record; `None` (wire -1) only in a control batch. Wraps from `i32::MAX` to 0.
    pub base_sequence: Option<i32>,
}

impl BatchSummary {
    /// Last offset, inclusive, if the batch began at `base`.
    #[must_use]
    pub fn last_from(&self, base: Offset) -> Offset {
        base + i64::from(self.last_offset_delta)
    }

    /// First offset after the batch as written in the bytes.
    #[must_use]
    pub fn end_offset(&self) -> Offset {
        self.base_offset + i64::from(self.last_offset_delta) + 1
    }

    /// Offsets the batch takes.
    #[must_use]
    pub fn offset_count(&self) -> i64 {
        i64::from(self.last_offset_delta) + 1
    }
}

impl ProducerStamp {
    /// Sequence number of the last record of a batch of `last_offset_delta`, wrapping as Kafka does.
    #[must_use]
    pub fn last_sequence(&self, last_offset_delta: i32) -> Option<i32> {
        self.base_sequence.map(|base| increment_sequence(base, last_offset_delta))
    }
}

/// `sequence` plus `by`, wrapping from `i32::MAX` to 0.
#[must_use]
pub fn increment_sequence(sequence: i32, by: i32) -> i32 {
    sequence.checked_add(by).unwrap_or_else(|| by - (i32::MAX - sequence) - 1)
}
