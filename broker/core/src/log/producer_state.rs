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
                assert!(
                    self.open.get(&start) == Some(id),
                    "producer {id}: transaction at {start} is not listed as open"
                );
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn batch(id: i64, epoch: i16, first: Option<i32>, count: i32) -> BatchSummary {
        BatchSummary {
            base_offset: Offset::ZERO,
            last_offset_delta: count - 1,
            leader_epoch: None,
            record_count: u32::try_from(count).unwrap(),
            size: 0,
            crc: 0,
            base_timestamp: 0,
            max_timestamp: 5,
            producer: Some(ProducerStamp { id: ProducerId(id), epoch: ProducerEpoch(epoch), base_sequence: first }),
            is_transactional: false,
            is_control: false,
        }
    }

    fn check(state: &ProducerState, summary: &BatchSummary) -> Result<SequenceCheck, ErrorCode> {
        state.check(summary, AppendOrigin::Client, std::iter::empty())
    }

    fn state_of(batches: &[(i64, BatchSummary)]) -> ProducerState {
        let mut state = ProducerState::default();
        for (base, summary) in batches {
            state.replay(Offset(*base), summary, MonoTime::default());
        }
        state
    }

    #[test]
    fn an_unknown_producer_may_begin_anywhere() {
        assert_eq!(check(&ProducerState::default(), &batch(1, 3, Some(77), 1)), Ok(SequenceCheck::Append));
    }

    #[test]
    fn a_new_epoch_begins_at_zero_and_an_old_one_is_fenced() {
        let state = state_of(&[(0, batch(1, 3, Some(0), 5))]);
        assert_eq!(check(&state, &batch(1, 4, Some(5), 1)), Err(ErrorCode::OutOfOrderSequenceNumber));
        assert_eq!(check(&state, &batch(1, 4, Some(0), 1)), Ok(SequenceCheck::Append));
        assert_eq!(check(&state, &batch(1, 2, Some(5), 1)), Err(ErrorCode::InvalidProducerEpoch));
    }

    #[test]
    fn sequence_numbers_wrap_from_the_largest_to_zero() {
        let state = state_of(&[(0, batch(1, 0, Some(i32::MAX - 1), 2))]);
        assert_eq!(check(&state, &batch(1, 0, Some(0), 3)), Ok(SequenceCheck::Append));
        let state = state_of(&[(0, batch(1, 0, Some(i32::MAX - 1), 4))]);
        assert_eq!(state.get(ProducerId(1)).unwrap().batches()[0].last_sequence, 1);
        assert_eq!(check(&state, &batch(1, 0, Some(2), 1)), Ok(SequenceCheck::Append));
        assert_eq!(
            check(&state, &batch(1, 0, Some(i32::MAX - 1), 4)),
            Ok(SequenceCheck::Duplicate { base: Offset(0), last: Offset(3) })
        );
    }

    #[test]
    fn a_batch_that_only_overlaps_a_known_one_is_no_retry() {
        let state = state_of(&[(0, batch(1, 0, Some(0), 4))]);
        assert_eq!(check(&state, &batch(1, 0, Some(0), 3)), Err(ErrorCode::OutOfOrderSequenceNumber));
    }

    #[test]
    fn an_idle_producer_is_forgotten_on_the_monotonic_clock_but_not_inside_a_transaction() {
        let day = Duration::from_secs(86_400);
        let open = BatchSummary { is_transactional: true, ..batch(2, 0, Some(0), 1) };
        let mut state = state_of(&[(0, batch(1, 0, Some(0), 1)), (1, open)]);
        state.expire(MonoTime::default() + day / 2, day);
        assert_eq!(state.len(), 2);
        state.expire(MonoTime::default() + day, day);
        assert_eq!(state.rows().map(|row| row.id.0).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn an_open_transaction_holds_the_last_stable_offset_until_its_end_is_committed() {
        let open = BatchSummary { is_transactional: true, ..batch(1, 0, Some(0), 2) };
        let marker = BatchSummary { is_transactional: true, is_control: true, ..batch(1, 0, None, 1) };
        let mut state = state_of(&[(4, open)]);
        assert_eq!(state.first_unstable_offset(), Some(Offset(4)));
        assert_eq!(check(&state, &batch(1, 0, Some(2), 1)), Err(ErrorCode::InvalidTxnState));
        state.replay(Offset(6), &marker, MonoTime::default());
        state.settle(Offset(6));
        assert_eq!(state.first_unstable_offset(), Some(Offset(4)), "the marker itself is not committed");
        state.settle(Offset(7));
        assert_eq!(state.first_unstable_offset(), None);
        assert!(state.reaches(Offset(6)) && !state.reaches(Offset(7)));
    }

    #[test]
    fn a_snapshot_keeps_the_last_batch_of_each_producer() {
        let state = state_of(&[(0, batch(1, 0, Some(0), 2)), (2, batch(1, 0, Some(2), 3)), (5, batch(9, 1, None, 1))]);
        let loaded = ProducerState::from_rows(state.rows(), MonoTime::default());
        assert_eq!(loaded.rows().collect::<Vec<_>>(), state.rows().collect::<Vec<_>>());
        assert_eq!(
            check(&loaded, &batch(1, 0, Some(2), 3)),
            Ok(SequenceCheck::Duplicate { base: Offset(2), last: Offset(4) })
        );
        assert_eq!(check(&loaded, &batch(1, 0, Some(5), 1)), Ok(SequenceCheck::Append));
    }

    /// The whole history of one log, and the rules read off it.
    fn naive(log: &[(i64, BatchSummary)], summary: &BatchSummary) -> Result<SequenceCheck, ErrorCode> {
        let stamp = summary.producer.unwrap();
        let stamp_of = |batch: &BatchSummary| batch.producer.unwrap();
        let theirs: Vec<_> = log.iter().filter(|(_, batch)| stamp_of(batch).id == stamp.id).collect();
        let Some((_, newest)) = theirs.last() else { return Ok(SequenceCheck::Append) };
        let epoch = stamp_of(newest).epoch;
        let session: Vec<_> = theirs.iter().rev().take_while(|(_, batch)| stamp_of(batch).epoch == epoch).collect();
        for (base, batch) in session.iter().take(5) {
            if epoch == stamp.epoch
                && stamp_of(batch).base_sequence == stamp.base_sequence
                && batch.last_offset_delta == summary.last_offset_delta
            {
                let last = Offset(base + i64::from(batch.last_offset_delta));
                return Ok(SequenceCheck::Duplicate { base: Offset(*base), last });
            }
        }
        if stamp.epoch < epoch {
            return Err(ErrorCode::InvalidProducerEpoch);
        }
        let next = (i64::from(stamp_of(newest).base_sequence.unwrap()) + newest.offset_count()) % (1 << 31);
        let expected = if stamp.epoch == epoch { next } else { 0 };
        if i64::from(stamp.base_sequence.unwrap()) == expected {
            Ok(SequenceCheck::Append)
        } else {
            Err(ErrorCode::OutOfOrderSequenceNumber)
        }
    }

    #[derive(Clone, Debug)]
    enum Attempt {
        Next { id: i64, count: i32 },
        Again { id: i64, back: usize },
        Skip { id: i64, by: i32 },
        Bump { id: i64, first: i32 },
        Old { id: i64 },
    }

    fn attempt() -> impl Strategy<Value = Attempt> {
        prop_oneof![
            4 => (0..3i64, 1..4i32).prop_map(|(id, count)| Attempt::Next { id, count }),
            3 => (0..3i64, 0..8usize).prop_map(|(id, back)| Attempt::Again { id, back }),
            1 => (0..3i64, 1..3i32).prop_map(|(id, by)| Attempt::Skip { id, by }),
            1 => (0..3i64, 0..2i32).prop_map(|(id, first)| Attempt::Bump { id, first }),
            1 => (0..3i64).prop_map(|id| Attempt::Old { id }),
        ]
    }

    proptest! {
        /// With any number of the last batches still in flight the answer is that of the whole history.
        #[test]
        fn five_batches_answer_as_the_whole_history_would(
            attempts in prop::collection::vec((attempt(), 0..4usize), 1..80),
            start in prop_oneof![Just(0), Just(i32::MAX - 7)],
        ) {
            let mut state = ProducerState::default();
            let mut published = 0;
            let mut log: Vec<(i64, BatchSummary)> = Vec::new();
            for (attempt, in_flight) in attempts {
                let (Attempt::Next { id, .. } | Attempt::Again { id, .. } | Attempt::Skip { id, .. }
                    | Attempt::Bump { id, .. } | Attempt::Old { id }) = attempt;
                let theirs: Vec<BatchSummary> =
                    log.iter().map(|(_, batch)| *batch).filter(|batch| batch.producer.unwrap().id.0 == id).collect();
                let (epoch, next) = theirs.last().map_or((0, start), |batch| {
                    let stamp = batch.producer.unwrap();
                    (stamp.epoch.0, increment_sequence(stamp.base_sequence.unwrap(), batch.last_offset_delta + 1))
                });
                let summary = match attempt {
                    Attempt::Next { count, .. } => batch(id, epoch, Some(next), count),
                    Attempt::Again { back, .. } => match theirs.iter().rev().nth(back) {
                        Some(batch) => *batch,
                        None => continue,
                    },
                    Attempt::Skip { by, .. } => batch(id, epoch, Some(increment_sequence(next, by)), 1),
                    Attempt::Bump { first, .. } => batch(id, epoch + 1, Some(first), 1),
                    Attempt::Old { .. } => batch(id, epoch - 1, Some(next), 1),
                };
                while published + in_flight < log.len() {
                    let (base, batch) = log[published];
                    state.replay(Offset(base), &batch, MonoTime::default());
                    published += 1;
                }
                let waiting = log[published..].iter().map(|(base, batch)| (Offset(*base), batch));
                let found = state.check(&summary, AppendOrigin::Client, waiting);
                prop_assert_eq!(found, naive(&log, &summary), "{:?} after {:?}", summary.producer, log);
                if found == Ok(SequenceCheck::Append) {
                    let base = log.last().map_or(0, |(base, batch)| base + batch.offset_count());
                    log.push((base, summary));
                }
                state.check_invariants(Offset(i64::MAX));
            }
        }
    }
}
