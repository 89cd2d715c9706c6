//! What one fetch brought of one partition, read record by record.

use super::IsolationLevel;
use broker_types::{ErrorCode, LeaderEpoch, Offset, ProducerId};
use broker_wire::record_batch::{Record, RecordBatch, Records, split_fetched_batches};
use bytes::Bytes;
use std::collections::{BTreeSet, VecDeque};

/// A transaction that was aborted, as the broker lists them beside the records.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Aborted {
    /// The transaction's first offset in this partition.
    pub(super) first_offset: Offset,
    pub(super) producer: ProducerId,
}

/// Batches that were fetched and not yet read. With READ_COMMITTED, records of aborted transactions are left out:
/// from a transaction's first offset to its abort marker all transactional batches of that producer are (KIP-98).
#[derive(Clone, Debug)]
pub(super) struct Fetched {
    batches: VecDeque<RecordBatch>,
    /// The batch that is being read, and what of it is left.
    current: Option<(RecordBatch, Records)>,
    isolation: IsolationLevel,
    /// Aborted transactions that begin further on, by first offset.
    coming: VecDeque<Aborted>,
    /// Producers whose transaction, as far as was read, will be aborted.
    aborting: BTreeSet<ProducerId>,
    max_batch_bytes: usize,
}

/// The next thing to know.
#[derive(Debug)]
pub(super) enum Step {
    /// A record; the position is behind it.
    Record(Record, Option<LeaderEpoch>),
    /// Nothing visible up to here; the position is here.
    Skipped(Offset, Option<LeaderEpoch>),
    /// All was read.
    End,
}

impl Fetched {
    pub(super) fn new(
        records: Bytes,
        isolation: IsolationLevel,
        mut aborted: Vec<Aborted>,
        max_batch_bytes: usize,
    ) -> Result<Self, ErrorCode> {
        // A damaged batch hides what is behind it, but not what is before it: the brokers' log goes on there.
        let batches = split_fetched_batches(records).map_err(|_| ErrorCode::CorruptMessage)?;
        aborted.sort_unstable();
        Ok(Fetched {
            batches: batches.into(),
            current: None,
            isolation,
            coming: aborted.into(),
            aborting: BTreeSet::new(),
            max_batch_bytes,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.current.is_none() && self.batches.is_empty()
    }

    /// Reads on at `position`. Records before it, which come with it because a batch is sent whole, are skipped.
    pub(super) fn step(&mut self, position: Offset) -> Result<Step, ErrorCode> {
        loop {
            if let Some((batch, records)) = &mut self.current {
                let epoch = epoch_of(batch);
                for record in records {
                    let record = record.map_err(|_| ErrorCode::CorruptMessage)?;
                    if record.offset >= position {
                        return Ok(Step::Record(record, epoch));
                    }
                }
                let end = batch.header().end_offset();
                self.current = None;
                // Compaction may have taken the batch's last records: their offsets are passed all the same.
                if end > position {
                    return Ok(Step::Skipped(end, epoch));
                }
            }
            let Some(batch) = self.batches.pop_front() else { return Ok(Step::End) };
            let end = batch.header().end_offset();
            if self.is_visible(&batch)? {
                let records = batch.records(self.max_batch_bytes).map_err(|_| ErrorCode::CorruptMessage)?;
                self.current = Some((batch, records));
            } else if end > position {
                return Ok(Step::Skipped(end, epoch_of(&batch)));
            }
        }
    }

    /// Whether the application may see the batch; keeps count of aborted transactions on the way.
    fn is_visible(&mut self, batch: &RecordBatch) -> Result<bool, ErrorCode> {
        let header = batch.header();
        let producer = ProducerId(header.producer_id);
        if self.isolation == IsolationLevel::ReadCommitted && header.producer_id >= 0 {
            while let Some(aborted) = self.coming.front().filter(|next| next.first_offset < header.end_offset()) {
                self.aborting.insert(aborted.producer);
                self.coming.pop_front();
            }
            if header.is_control() {
                if is_abort_marker(batch)? {
                    self.aborting.remove(&producer);
                }
            } else if header.is_transactional() && self.aborting.contains(&producer) {
                return Ok(false);
            }
        }
        Ok(!header.is_control())
    }
}

fn epoch_of(batch: &RecordBatch) -> Option<LeaderEpoch> {
    let epoch = batch.header().leader_epoch;
    (epoch >= 0).then_some(LeaderEpoch(epoch))
}

/// The key of a transaction marker is a version and a type, 0 for abort.
fn is_abort_marker(batch: &RecordBatch) -> Result<bool, ErrorCode> {
    let corrupt = |_| ErrorCode::CorruptMessage;
    match batch.records(1024).map_err(corrupt)?.next() {
        Some(record) => Ok(record.map_err(corrupt)?.key.is_some_and(|key| key.get(2..4) == Some(&[0, 0][..]))),
        None => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use broker_types::{ProducerEpoch, ProducerStamp};
    use broker_wire::record_batch::{Compression, RecordBatchBuilder};

    fn stamp(id: i64) -> ProducerStamp {
        ProducerStamp { id: ProducerId(id), epoch: ProducerEpoch(0), base_sequence: Some(0) }
    }

    fn batch(base: i64, values: &[&str], transaction: Option<i64>) -> Bytes {
        let mut builder = RecordBatchBuilder::new(Compression::None).at(Offset(base), LeaderEpoch(3));
        if let Some(id) = transaction {
            builder = builder.producer(stamp(id)).transactional();
        }
        for value in values {
            builder.push(1, None, Some(value.as_bytes()), &[]).unwrap();
        }
        builder.build().unwrap().into_bytes()
    }

    fn marker(base: i64, id: i64, commit: bool) -> Bytes {
        let stamp = ProducerStamp { base_sequence: None, ..stamp(id) };
        let key = [0, 0, 0, u8::from(commit)];
        let value = [0, 0, 0, 0, 0, 0];
        RecordBatchBuilder::control(Offset(base), LeaderEpoch(3), 1, Some(stamp), &key, &value).unwrap().into_bytes()
    }

    fn read(log: &[Bytes], from: i64, isolation: IsolationLevel, aborted: Vec<Aborted>) -> (Vec<String>, i64) {
        let mut fetched = Fetched::new(log.concat().into(), isolation, aborted, 1 << 20).unwrap();
        let (mut position, mut seen) = (Offset(from), Vec::new());
        loop {
            match fetched.step(position).unwrap() {
                Step::Record(record, epoch) => {
                    assert_eq!(epoch, Some(LeaderEpoch(3)));
                    position = record.offset + 1;
                    seen.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
                }
                Step::Skipped(to, _) => position = to,
                Step::End => return (seen, position.0),
            }
        }
    }

    #[test]
    fn records_before_the_position_are_skipped_and_control_batches_passed() {
        let log = [batch(0, &["a", "b", "c"], None), marker(3, 7, true), batch(4, &["d"], None)];
        for isolation in [IsolationLevel::ReadUncommitted, IsolationLevel::ReadCommitted] {
            assert_eq!(read(&log, 1, isolation, vec![]), (vec!["b".into(), "c".into(), "d".into()], 5));
            assert_eq!(read(&log[..2], 3, isolation, vec![]), (vec![], 4));
        }
    }

    #[test]
    fn an_aborted_transaction_is_left_out_until_its_marker_and_only_with_read_committed() {
        let log = [
            batch(0, &["x1"], Some(7)),
            batch(1, &["y1"], Some(8)),
            batch(2, &["x2"], Some(7)),
            marker(3, 7, false),
            batch(4, &["x3"], Some(7)),
            marker(5, 7, true),
            marker(6, 8, true),
        ];
        let aborted = vec![Aborted { first_offset: Offset(0), producer: ProducerId(7) }];
        let committed = read(&log, 0, IsolationLevel::ReadCommitted, aborted.clone());
        assert_eq!(committed, (vec!["y1".into(), "x3".into()], 7));
        let all = read(&log, 0, IsolationLevel::ReadUncommitted, aborted);
        assert_eq!(all, (vec!["x1".into(), "y1".into(), "x2".into(), "x3".into()], 7));
    }

    #[test]
    fn a_damaged_batch_is_an_error_and_a_cut_one_is_not() {
        let whole = batch(0, &["a"], None);
        let mut damaged = whole.to_vec();
        damaged[65] ^= 1;
        let fetched = Fetched::new(damaged.into(), IsolationLevel::ReadUncommitted, vec![], 1 << 20);
        assert_eq!(fetched.err(), Some(ErrorCode::CorruptMessage));
        let next = batch(1, &["b"], None);
        let cut = [whole, next.slice(..next.len() - 1)];
        assert_eq!(read(&cut, 0, IsolationLevel::ReadUncommitted, vec![]), (vec!["a".into()], 1));
    }
}
