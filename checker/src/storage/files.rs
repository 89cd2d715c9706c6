//! The files beside a log's batches, as they lie on a disk at the end: data only, whoever read them.

use broker_types::{Offset, ProducerEpoch, ProducerId};

/// One segment of a replica's log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SegmentEnd {
    /// The offset that its files are named after: no batch in it has a lesser one.
    pub base: Offset,
    /// How many of the replica's batches lie in it, one after the other from the file's first byte on. Segments and batches
    /// are both in order.
    pub batches: usize,
    /// The `.index`, in the file's order.
    pub offsets: Vec<OffsetEntry>,
    /// The `.timeindex`, in the file's order.
    pub times: Vec<TimeEntry>,
    /// Bytes after the last whole entry, in both indexes together.
    pub torn_bytes: usize,
}

/// One entry of a segment's `.index`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OffsetEntry {
    /// Last offset of a batch, inclusive; the file has it relative to the segment's base.
    pub offset: Offset,
    /// Byte of the segment's `.log` at which that batch begins.
    pub position: u64,
}

/// One entry of a segment's `.timeindex`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimeEntry {
    /// The largest timestamp in the segment so far, milliseconds.
    pub timestamp: i64,
    /// Last offset, inclusive, of the first batch that has it; the file has it relative to the segment's base.
    pub offset: Offset,
}

/// One `.snapshot` of a log's producers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotEnd {
    /// The log's end when it was taken, exclusive, as the file is named.
    pub end: Offset,
    /// What it says; or why it does not parse, in words.
    pub producers: Result<Vec<ProducerRow>, String>,
}

/// What a snapshot says of one producer: Kafka's format keeps its last batch only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProducerRow {
    /// Which.
    pub id: ProducerId,
    /// Its newest epoch.
    pub epoch: ProducerEpoch,
    /// Its last batch of records in that epoch; `None` if it wrote none.
    pub last: Option<LastBatch>,
    /// Largest timestamp of its last batch of any kind, a marker too; milliseconds.
    pub timestamp: i64,
    /// First offset of its open transaction.
    pub transaction_start: Option<Offset>,
}

/// The last batch of records of a producer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LastBatch {
    /// Sequence number of its last record.
    pub sequence: i32,
    /// Offset of its last record, inclusive.
    pub offset: Offset,
    /// Its last offset minus its first.
    pub offset_delta: i32,
}
