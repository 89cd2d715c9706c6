//! Making batches.

use super::header::{CONTROL, LOG_APPEND_TIME, TRANSACTIONAL};
use super::records::{MAX_VARINT_LEN, put_varint, varint_len};
use super::{ATTRIBUTES_AT, BatchError, BatchHeader, Compression, HEADER_LEN, LOG_OVERHEAD, RecordBatch, RecordHeader};
use broker_types::{LeaderEpoch, Offset, ProducerStamp};
use bytes::{BufMut, BytesMut};

/// Collects records into one batch: timestamps, keys, values and headers as given, offsets in order of pushing.
///
/// Starts as a plain producer's batch: base offset 0, no leader epoch, no producer, create time.
#[derive(Clone, Debug)]
pub struct RecordBatchBuilder {
    compression: Compression,
    base_offset: Offset,
    leader_epoch: i32,
    attributes: i16,
    producer: Option<ProducerStamp>,
    /// The header's place, then the records, not compressed.
    buffer: BytesMut,
    record_count: i32,
    /// Offset delta of the last record; -1 before the first.
    last_offset_delta: i32,
    /// Timestamp of the first record.
    base_timestamp: i64,
    max_timestamp: i64,
}

impl RecordBatchBuilder {
    /// No record yet.
    #[must_use]
    pub fn new(compression: Compression) -> Self {
        let mut buffer = BytesMut::with_capacity(512);
        buffer.put_bytes(0, HEADER_LEN);
        RecordBatchBuilder {
            compression,
            base_offset: Offset::ZERO,
            leader_epoch: -1,
            attributes: 0,
            producer: None,
            buffer,
            record_count: 0,
            last_offset_delta: -1,
            base_timestamp: -1,
            max_timestamp: -1,
        }
    }

    /// A control batch of one record (leader change, snapshot header or footer, voters, transaction marker). With a
    /// producer stamp it is a transaction marker; its sequence is to be `None`.
    ///
    /// # Errors
    /// `TooLarge`.
    pub fn control(
        base: Offset,
        epoch: LeaderEpoch,
        timestamp: i64,
        producer: Option<ProducerStamp>,
        key: &[u8],
        value: &[u8],
    ) -> Result<RecordBatch, BatchError> {
        let mut builder = RecordBatchBuilder::new(Compression::None).at(base, epoch).control_batch();
        if let Some(stamp) = producer {
            builder = builder.producer(stamp).transactional();
        }
        builder.push(timestamp, Some(key), Some(value), &[])?;
        builder.build()
    }

    /// Sets base offset and leader epoch, for one who writes to a log of its own.
    #[must_use]
    pub fn at(mut self, base: Offset, epoch: LeaderEpoch) -> Self {
        (self.base_offset, self.leader_epoch) = (base, epoch.0);
        self
    }

    /// Stamps the batch with its producer.
    #[must_use]
    pub fn producer(mut self, stamp: ProducerStamp) -> Self {
        self.producer = Some(stamp);
        self
    }

    /// Makes the batch part of a transaction.
    #[must_use]
    pub fn transactional(mut self) -> Self {
        self.attributes |= TRANSACTIONAL;
        self
    }

    /// Makes the records control records.
    #[must_use]
    pub fn control_batch(mut self) -> Self {
        self.attributes |= CONTROL;
        self
    }

    /// Marks the timestamps as the log's own. All records should then be pushed with the same one.
    #[must_use]
    pub fn log_append_time(mut self) -> Self {
        self.attributes |= LOG_APPEND_TIME;
        self
    }

    /// Adds a record at the next offset. `timestamp` is in milliseconds.
    ///
    /// # Errors
    /// `TooLarge` if the batch could not hold it; the builder is as before then.
    pub fn push(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[RecordHeader],
    ) -> Result<(), BatchError> {
        let delta = self.last_offset_delta.checked_add(1).ok_or(BatchError::TooLarge { limit: MAX_BATCH })?;
        self.push_at(delta, timestamp, key, value, headers)
    }

    /// Adds a record at base offset + `offset_delta`, as compaction does: offsets may be left out, never repeated.
    ///
    /// # Errors
    /// `BadOffsetDelta` if it is not beyond the last one; `TooLarge` if the batch could not hold it. The builder is as
    /// before then.
    pub fn push_at(
        &mut self,
        offset_delta: i32,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[RecordHeader],
    ) -> Result<(), BatchError> {
        if offset_delta <= self.last_offset_delta {
            return Err(BatchError::BadOffsetDelta {
                delta: offset_delta,
                before: self.last_offset_delta,
                last_offset_delta: i32::MAX,
            });
        }
        if self.record_count == 0 {
            (self.base_timestamp, self.max_timestamp) = (timestamp, timestamp);
        }
        let body = self.body_len(offset_delta, timestamp, key, value, headers);
        if self.buffer.len().saturating_add(body).saturating_add(MAX_VARINT_LEN) > MAX_BATCH {
            return Err(BatchError::TooLarge { limit: MAX_BATCH });
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        let into = &mut self.buffer;
        into.reserve(body + MAX_VARINT_LEN);
        put_varint(into, body as i64);
        into.put_i8(0);
        put_varint(into, timestamp.wrapping_sub(self.base_timestamp));
        put_varint(into, i64::from(offset_delta));
        put_nullable(into, key);
        put_nullable(into, value);
        put_varint(into, headers.len() as i64);
        for header in headers {
            put_nullable(into, Some(&header.key));
            put_nullable(into, header.value.as_deref());
        }
        self.last_offset_delta = offset_delta;
        self.record_count += 1;
        Ok(())
    }

    /// Records so far.
    #[must_use]
    pub fn record_count(&self) -> usize {
        usize::try_from(self.record_count).expect("counts up from 0")
    }

    /// Whether there is no record yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.record_count == 0
    }

    /// Bytes of the batch so far, header included, before compression.
    #[must_use]
    pub fn uncompressed_size(&self) -> usize {
        self.buffer.len()
    }

    /// How many bytes a record would add, at most, before compression.
    #[must_use]
    pub fn record_size_bound(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[RecordHeader]) -> usize {
        let fields: usize =
            headers.iter().map(|header| header.key.len() + header.value.as_ref().map_or(0, |v| v.len())).sum();
        key.map_or(0, <[u8]>::len)
            + value.map_or(0, <[u8]>::len)
            + fields
            + 1
            + MAX_VARINT_LEN * (6 + 2 * headers.len())
    }

    /// The batch. Without records it takes one offset and holds none, as compaction leaves it.
    ///
    /// # Errors
    /// `TooLarge` if compression made it larger than a batch can be.
    pub fn build(mut self) -> Result<RecordBatch, BatchError> {
        if self.compression != Compression::None {
            let records = self.buffer.split_off(HEADER_LEN);
            self.compression.compress(&records, &mut self.buffer)?;
        }
        if self.buffer.len() > MAX_BATCH {
            return Err(BatchError::TooLarge { limit: MAX_BATCH });
        }
        let mut header = BatchHeader {
            base_offset: self.base_offset.0,
            batch_length: (self.buffer.len() - LOG_OVERHEAD) as i32,
            leader_epoch: self.leader_epoch,
            crc: 0,
            attributes: self.attributes | i16::from(self.compression.id()),
            last_offset_delta: self.last_offset_delta.max(0),
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: self.producer.map_or(-1, |stamp| stamp.id.0),
            producer_epoch: self.producer.map_or(-1, |stamp| stamp.epoch.0),
            base_sequence: self.producer.and_then(|stamp| stamp.base_sequence).unwrap_or(-1),
            record_count: self.record_count,
        };
        let head: &mut [u8; HEADER_LEN] = self.buffer.first_chunk_mut().expect("the header's place");
        header.write(head);
        header.crc = crc_fast::crc32_iscsi(&self.buffer[ATTRIBUTES_AT..]);
        header.write(self.buffer.first_chunk_mut().expect("the header's place"));
        Ok(RecordBatch { header, bytes: self.buffer.freeze() })
    }

    fn body_len(
        &self,
        offset_delta: i32,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[RecordHeader],
    ) -> usize {
        let mut len = 1
            + varint_len(timestamp.wrapping_sub(self.base_timestamp))
            + varint_len(i64::from(offset_delta))
            + nullable_len(key)
            + nullable_len(value)
            + varint_len(headers.len() as i64);
        for header in headers {
            len += nullable_len(Some(&header.key)) + nullable_len(header.value.as_deref());
        }
        len
    }
}

/// What a length field of 32 bits lets a batch be.
const MAX_BATCH: usize = i32::MAX as usize;

fn nullable_len(field: Option<&[u8]>) -> usize {
    field.map_or(1, |bytes| varint_len(bytes.len() as i64) + bytes.len())
}

fn put_nullable(into: &mut BytesMut, field: Option<&[u8]>) {
    match field {
        None => put_varint(into, -1),
        Some(bytes) => {
            put_varint(into, bytes.len() as i64);
            into.put_slice(bytes);
        }
    }
}
