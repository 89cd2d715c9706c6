//! A batch on its way: its bytes, and what its attempts so far say.

use crate::error::Outcome;
use broker_types::{ErrorCode, MonoTime, ProducerEpoch, ProducerId, ProducerStamp};
use broker_wire::record_batch::{Compression, RecordBatch, RecordBatchBuilder};
use bytes::Bytes;

/// A producer id with its epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Session {
    pub(super) id: ProducerId,
    pub(super) epoch: ProducerEpoch,
}

impl Session {
    pub(super) fn stamp(self, sequence: i32) -> ProducerStamp {
        ProducerStamp { id: self.id, epoch: self.epoch, base_sequence: Some(sequence) }
    }
}

/// Where a batch is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// Here. `not_before` is the end of its backoff.
    Waiting { not_before: MonoTime },
    /// In the request of this number.
    InFlight { request: u64 },
}

/// Records that travel together. `T` is what the owner of a record is told by.
#[derive(Clone, Debug)]
pub(super) struct Batch<T> {
    /// One for each record, in order; empty once they were told.
    pub(super) receipts: Vec<T>,
    /// Records, also after the receipts are gone.
    pub(super) count: i32,
    /// When its first record came: linger and delivery timeout count from here.
    pub(super) created: MonoTime,
    /// Bytes of buffer memory it holds.
    pub(super) memory: usize,
    body: Body,
    /// Its place in its producer's sequence. Changes only when no attempt under the old one can have had an effect
    /// (or the configuration says to do as Kafka does).
    pub(super) stamp: Option<ProducerStamp>,
    pub(super) place: Place,
    /// Attempts that failed.
    pub(super) failures: u32,
    /// Some attempt may have had an effect. Never goes back to false.
    pub(super) doubtful: bool,
    /// What the latest failure said.
    pub(super) last_error: Option<ErrorCode>,
    /// Its owners were told that it timed out; it is only here until its request is answered.
    pub(super) settled: bool,
}

#[derive(Clone, Debug)]
enum Body {
    /// Takes records.
    Open(RecordBatchBuilder),
    /// As sent, with the stamp it was sent with.
    Built(RecordBatch, Option<ProducerStamp>),
    /// Could not be built; the batch is about to fail.
    Gone,
}

impl<T> Batch<T> {
    pub(super) fn new(now: MonoTime, compression: Compression) -> Self {
        Batch {
            receipts: Vec::new(),
            count: 0,
            created: now,
            memory: 0,
            body: Body::Open(RecordBatchBuilder::new(compression)),
            stamp: None,
            place: Place::Waiting { not_before: MonoTime(0) },
            failures: 0,
            doubtful: false,
            last_error: None,
            settled: false,
        }
    }

    /// The builder while it takes records.
    pub(super) fn open(&mut self) -> Option<&mut RecordBatchBuilder> {
        match &mut self.body {
            Body::Open(builder) if self.failures == 0 => Some(builder),
            _ => None,
        }
    }

    /// Bytes before compression, header included.
    pub(super) fn size(&self) -> usize {
        match &self.body {
            Body::Open(builder) => builder.uncompressed_size(),
            Body::Built(batch, _) => batch.size(),
            Body::Gone => self.memory,
        }
    }

    pub(super) fn in_flight(&self) -> bool {
        matches!(self.place, Place::InFlight { .. })
    }

    /// What is known of its effect should it be given up now.
    pub(super) fn outcome(&self) -> Outcome {
        if self.doubtful || self.in_flight() { Outcome::Indeterminate } else { Outcome::Definite }
    }

    /// Its bytes under its present stamp. `None` if they cannot be made (a batch beyond what a length field holds).
    pub(super) fn bytes(&mut self, compression: Compression) -> Option<Bytes> {
        if let Body::Built(batch, stamp) = &self.body
            && *stamp == self.stamp
        {
            return Some(batch.bytes().clone());
        }
        let builder = match std::mem::replace(&mut self.body, Body::Gone) {
            Body::Open(builder) => builder,
            Body::Built(batch, _) => rebuild(&batch, compression)?,
            Body::Gone => return None,
        };
        let builder = match self.stamp {
            Some(stamp) => builder.producer(stamp),
            None => builder,
        };
        let built = builder.build().ok()?;
        let bytes = built.bytes().clone();
        self.body = Body::Built(built, self.stamp);
        Some(bytes)
    }
}

/// The same records in a batch of no producer. The sequence lies inside the CRC and a new one is rare: so the batch is
/// taken apart and made again.
fn rebuild(batch: &RecordBatch, compression: Compression) -> Option<RecordBatchBuilder> {
    let mut builder = RecordBatchBuilder::new(compression);
    for record in batch.records(usize::MAX).ok()? {
        let record = record.ok()?;
        builder.push(record.timestamp, record.key.as_deref(), record.value.as_deref(), &record.headers).ok()?;
    }
    Some(builder)
}
