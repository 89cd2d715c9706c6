//! Who produced into a log, and how far: what makes a retry harmless (KIP-98, KIP-360).
//!
//! Per producer id: its epoch and its last five batches, because a producer may have five requests in flight and any
//! of them may come again (KAFKA-5494). A known batch is answered with its old offset; the next one in sequence is
//! appended; anything else is refused.
//!
//! Nothing is changed before the log is: [`ProducerState::check`] only looks, [`ProducerState::replay`] changes, once
//! the batch is in the log (KAFKA-6683). Leader, follower and recovery take the same step, so a new leader knows what
//! the old one knew.
//!
//! We differ from Kafka in the clock: an idle producer is forgotten after `producer.id.expiration.ms` on the monotonic
//! clock since this broker last saw it, not by record timestamps against the wall clock. A stepped clock or an old
//! timestamp cannot make a retry look new.

use broker_types::{
    BatchSummary, ErrorCode, MonoTime, Offset, ProducerEpoch, ProducerId, ProducerStamp, increment_sequence,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// Batches remembered per producer; equals the most requests an idempotent producer has in flight.
pub const WINDOW: usize = 5;

/// One appended batch, as far as a retry of it needs to be recognised.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct BatchRecord {
    /// Sequence number of its first record.
    pub first_sequence: i32,
    /// Sequence number of its last record.
    pub last_sequence: i32,
    /// Offset of its last record, inclusive.
    pub last_offset: Offset,
    /// Last offset minus base offset.
    pub offset_delta: i32,
    /// Its largest timestamp, milliseconds.
    pub timestamp: i64,
}

impl BatchRecord {
    /// Offset of its first record.
    #[must_use]
    pub fn base_offset(&self) -> Offset {
        self.last_offset + -i64::from(self.offset_delta)
    }
}

/// What a log knows of one producer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ProducerEntry {
    /// The newest epoch that wrote.
    pub epoch: ProducerEpoch,
    /// The last batches of that epoch, oldest first; unused slots at the end are zero.
    window: [BatchRecord; WINDOW],
    /// How many of them are in use.
    used: u8,
    /// Offset of the last record of any kind, control records too.
    pub last_offset: Offset,
    /// Largest timestamp of the last batch, milliseconds.
    pub last_timestamp: i64,
    /// First offset of its open transaction.
    pub transaction_start: Option<Offset>,
    /// When this broker last saw it write, on the monotonic clock; after a restart, when it was loaded.
    pub last_seen: MonoTime,
}

/// One line of a producer snapshot: what Kafka's file format keeps, which is the last batch only.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ProducerSnapshotRow {
    /// The producer.
    pub id: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
    /// Sequence number of its last record; `None` (-1) if this epoch wrote none.
    pub last_sequence: Option<i32>,
    /// Offset of its last record, inclusive; `None` (-1) likewise.
    pub last_offset: Option<Offset>,
    /// Last offset minus base offset of the last batch.
    pub offset_delta: i32,
    /// Its largest timestamp, milliseconds.
    pub timestamp: i64,
    /// First offset of its open transaction.
    pub transaction_start: Option<Offset>,
}

/// Who wants records appended on a leader.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AppendOrigin {
    /// A producer: sequence numbers are checked, control batches refused.
    Client,
    /// A coordinator of this broker: control batches allowed, no sequences.
    Coordinator,
}

/// What to do with a batch.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SequenceCheck {
    /// It is new and next: append it.
    Append,
    /// It is in the log already.
    Duplicate {
        /// First offset it has there.
        base: Offset,
        /// Last offset it has there, inclusive.
        last: Offset,
    },
}

impl ProducerEntry {
    fn new(epoch: ProducerEpoch, now: MonoTime) -> Self {
        ProducerEntry {
            epoch,
            window: [BatchRecord::default(); WINDOW],
            used: 0,
            last_offset: Offset::ZERO,
            last_timestamp: -1,
            transaction_start: None,
            last_seen: now,
        }
    }

    /// The remembered batches, oldest first.
    #[must_use]
    pub fn batches(&self) -> &[BatchRecord] {
        &self.window[..usize::from(self.used)]
    }

    fn remember(&mut self, batch: BatchRecord) {
        if usize::from(self.used) == WINDOW {
            self.window.copy_within(1.., 0);
            self.window[WINDOW - 1] = batch;
        } else {
            self.window[usize::from(self.used)] = batch;
            self.used += 1;
        }
    }

    fn forget_batches(&mut self) {
        self.window = [BatchRecord::default(); WINDOW];
        self.used = 0;
    }

    /// `summary` is in the log at `base`.
    fn apply(&mut self, base: Offset, summary: &BatchSummary, stamp: ProducerStamp, now: MonoTime) {
        if stamp.epoch != self.epoch {
            self.epoch = stamp.epoch;
            self.forget_batches();
        }
        let last_offset = summary.last_from(base);
        self.last_offset = last_offset;
        self.last_timestamp = summary.max_timestamp;
        self.last_seen = now;
        if summary.is_control {
            self.transaction_start = None;
            return;
        }
        if summary.is_transactional && self.transaction_start.is_none() {
            self.transaction_start = Some(base);
        }
        if let Some(first_sequence) = stamp.base_sequence {
            self.remember(BatchRecord {
                first_sequence,
                last_sequence: increment_sequence(first_sequence, summary.last_offset_delta),
                last_offset,
                offset_delta: summary.last_offset_delta,
                timestamp: summary.max_timestamp,
            });
        }
    }

    fn duplicate_of(&self, summary: &BatchSummary, stamp: ProducerStamp) -> Option<&BatchRecord> {
        let last_sequence = stamp.last_sequence(summary.last_offset_delta)?;
        self.batches().iter().find(|batch| {
            self.epoch == stamp.epoch
                && Some(batch.first_sequence) == stamp.base_sequence
                && batch.last_sequence == last_sequence
        })
    }
}

/// All producers of one log, as of its end.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct ProducerState {
    producers: BTreeMap<ProducerId, ProducerEntry>,
    /// Open transactions: first offset, who.
    open: BTreeMap<Offset, ProducerId>,
    /// Ended transactions whose marker is not yet below the high watermark: first offset, offset of the marker. Until
    /// then they hold the last stable offset, or a reader could see a transaction whose end is still undecided.
    ended: BTreeMap<Offset, Offset>,
}

impl ProducerState {
    /// What a snapshot says. Of each producer only the last batch is known; the log beyond the snapshot tells the rest.
    #[must_use]
    pub fn from_rows(rows: impl IntoIterator<Item = ProducerSnapshotRow>, now: MonoTime) -> Self {
        let mut state = ProducerState::default();
        for row in rows {
            let mut entry = ProducerEntry::new(row.epoch, now);
            entry.last_timestamp = row.timestamp;
            entry.transaction_start = row.transaction_start;
            if let (Some(last_sequence), Some(last_offset)) = (row.last_sequence, row.last_offset) {
                entry.last_offset = last_offset;
                entry.remember(BatchRecord {
                    first_sequence: decrement_sequence(last_sequence, row.offset_delta),
                    last_sequence,
                    last_offset,
                    offset_delta: row.offset_delta,
                    timestamp: row.timestamp,
                });
            }
            if let Some(start) = row.transaction_start {
                state.open.insert(start, row.id);
            }
            state.producers.insert(row.id, entry);
        }
        state
    }

    /// The lines of a snapshot, by producer id.
    pub fn rows(&self) -> impl Iterator<Item = ProducerSnapshotRow> + '_ {
        self.producers.iter().map(|(id, entry)| {
            let last = entry.batches().last();
            ProducerSnapshotRow {
                id: *id,
                epoch: entry.epoch,
                last_sequence: last.map(|batch| batch.last_sequence),
                last_offset: last.map(|batch| batch.last_offset),
                offset_delta: last.map_or(0, |batch| batch.offset_delta),
                timestamp: entry.last_timestamp,
                transaction_start: entry.transaction_start,
            }
        })
    }

    /// What is known of one producer.
    #[must_use]
    pub fn get(&self, id: ProducerId) -> Option<&ProducerEntry> {
        self.producers.get(&id)
    }

    /// How many producers are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.producers.len()
    }

    /// Whether none is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }

    /// May `summary` be appended by a leader? Changes nothing. `in_flight` are the batches on their way into the log,
    /// with their base offsets, in order: they count as if they had arrived.
    ///
    /// A producer that the log does not know may start at any sequence, as in Kafka: its earlier records may be gone
    /// by retention.
    ///
    /// # Errors
    /// INVALID_PRODUCER_EPOCH for an epoch older than the log's; OUT_OF_ORDER_SEQUENCE_NUMBER for a gap, a batch older
    /// than the window, or a new epoch that does not begin at 0; INVALID_TXN_STATE for a plain batch inside a
    /// transaction; INVALID_RECORD for a client's batch with a producer id but no sequence.
    pub fn check<'a>(
        &self,
        summary: &BatchSummary,
        origin: AppendOrigin,
        in_flight: impl Iterator<Item = (Offset, &'a BatchSummary)>,
    ) -> Result<SequenceCheck, ErrorCode> {
        let Some(stamp) = summary.producer else { return Ok(SequenceCheck::Append) };
        let known = self.producers.get(&stamp.id);
        let mut ahead: Option<ProducerEntry> = None;
        for (base, other) in in_flight {
            if let Some(theirs) = other.producer
                && theirs.id == stamp.id
            {
                ahead
                    .get_or_insert_with(|| {
                        known.copied().unwrap_or_else(|| ProducerEntry::new(theirs.epoch, MonoTime::default()))
                    })
                    .apply(base, other, theirs, MonoTime::default());
            }
        }
        check_entry(ahead.as_ref().or(known), summary, stamp, origin)
    }

    /// `summary` is in the log at `base`.
    pub fn replay(&mut self, base: Offset, summary: &BatchSummary, now: MonoTime) {
        let Some(stamp) = summary.producer else { return };
        let entry = self.producers.entry(stamp.id).or_insert_with(|| ProducerEntry::new(stamp.epoch, now));
        let before = entry.transaction_start;
        entry.apply(base, summary, stamp, now);
        match (before, entry.transaction_start) {
            (None, Some(start)) => {
                self.open.insert(start, stamp.id);
            }
            (Some(start), None) => {
                self.open.remove(&start);
                self.ended.insert(start, summary.last_from(base));
            }
            _ => {}
        }
    }

    /// First offset of the earliest transaction that is open, or whose end is not yet committed.
    #[must_use]
    pub fn first_unstable_offset(&self) -> Option<Offset> {
        let open = self.open.first_key_value().map(|(start, _)| *start);
        let ended = self.ended.first_key_value().map(|(start, _)| *start);
        match (open, ended) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// The high watermark moved: transactions whose marker is below it are settled.
    pub fn settle(&mut self, high_watermark: Offset) {
        if !self.ended.is_empty() {
            self.ended.retain(|_, marker| *marker >= high_watermark);
        }
    }

    /// Whether a truncation to `end` takes away anything that this state knows of. Then it must be rebuilt from disk:
    /// what a producer did before the five batches kept here is only in the log.
    #[must_use]
    pub fn reaches(&self, end: Offset) -> bool {
        self.producers.values().any(|entry| entry.last_offset >= end)
            || self.ended.values().any(|marker| *marker >= end)
    }

    /// Forgets producers that have been idle for `expiration`, but never one with an open transaction.
    pub fn expire(&mut self, now: MonoTime, expiration: Duration) {
        self.producers.retain(|_, entry| entry.transaction_start.is_some() || now.since(entry.last_seen) < expiration);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = ProducerState::default();
    }

    /// Panics, naming the producer, when something lies beyond `log_end` or a window is out of order.
    pub fn check_invariants(&self, log_end: Offset) {
        for (id, entry) in &self.producers {
            assert!(
                entry.last_offset < log_end || entry.last_offset == Offset::ZERO,
                "producer {id} beyond the log end {log_end}: {entry:?}"
            );
            for pair in entry.batches().windows(2) {
                assert!(pair[0].last_offset < pair[1].base_offset(), "producer {id}: window out of order: {entry:?}");
            }
            if let Some(start) = entry.transaction_start {
                assert!(self.open.get(&start) == Some(id), "producer {id}: transaction at {start} is not listed as open");
            }
        }
        for (start, id) in &self.open {
            let entry = self.producers.get(id);
            assert!(
                entry.is_some_and(|entry| entry.transaction_start == Some(*start)),
                "open transaction at {start} has no producer {id}: {entry:?}"
            );
        }
    }
}

fn check_entry(
    entry: Option<&ProducerEntry>,
    summary: &BatchSummary,
    stamp: ProducerStamp,
    origin: AppendOrigin,
) -> Result<SequenceCheck, ErrorCode> {
    if origin == AppendOrigin::Client && (summary.is_control || stamp.base_sequence.is_none()) {
        return Err(ErrorCode::InvalidRecord);
    }
    let Some(entry) = entry else { return Ok(SequenceCheck::Append) };
    if origin == AppendOrigin::Client
        && let Some(batch) = entry.duplicate_of(summary, stamp)
    {
        return Ok(SequenceCheck::Duplicate { base: batch.base_offset(), last: batch.last_offset });
    }
    if stamp.epoch < entry.epoch {
        return Err(ErrorCode::InvalidProducerEpoch);
    }
    if let (AppendOrigin::Client, Some(first)) = (origin, stamp.base_sequence) {
        let expected = match entry.batches().last() {
            Some(last) if stamp.epoch == entry.epoch => increment_sequence(last.last_sequence, 1),
            // A new epoch is a new session, and an epoch known only by its marker has written nothing: both begin at 0.
            _ => 0,
        };
        if first != expected {
            return Err(ErrorCode::OutOfOrderSequenceNumber);
        }
    }
    if entry.transaction_start.is_some() && !summary.is_transactional {
        return Err(ErrorCode::InvalidTxnState);
    }
    Ok(SequenceCheck::Append)
}

/// `sequence` minus `by`, wrapping from 0 to `i32::MAX`.
fn decrement_sequence(sequence: i32, by: i32) -> i32 {
    if sequence >= by { sequence - by } else { i32::MAX - (by - sequence) + 1 }
}
