//! Record batches, format v2 (KIP-98), as opaque bytes.
//!
//! A broker reads a batch's header, checks the whole, assigns offsets, and passes the bytes on: it never decodes
//! records to encode them again. [`RecordBatch`] is such a checked batch. What a log rewrites (base offset and leader
//! epoch) lies outside the CRC, in the first 16 bytes, so [`RecordBatch::assign`] copies these 16 and nothing else.
//!
//! Clients build batches with [`RecordBatchBuilder`] and read them with [`RecordBatch::records`].
//!
//! A lying length costs the peer an error and us nothing: no buffer is sized by a number that a peer wrote, except
//! where that many bytes are already here, and decompression stops at the caller's bound.
//!
//! Unlike Kafka we take no batch of the formats before v2; a Kafka 4 broker takes none from producers either.

mod builder;
mod compression;
mod error;
mod header;
mod records;
#[cfg(test)]
mod tests;

pub use builder::RecordBatchBuilder;
pub use compression::Compression;
pub use error::BatchError;
pub use header::{BatchHeader, HEADER_LEN, LOG_OVERHEAD, TimestampType};
pub use records::{Record, RecordHeader, Records};

use broker_types::{BatchSummary, LeaderEpoch, Offset};
use bytes::{Bytes, BytesMut};
use header::{ATTRIBUTES_AT, CRC_AT, LOG_APPEND_TIME, MAX_TIMESTAMP_AT, PATCHABLE};
use std::fmt;

/// One checked batch: header fields that can be, CRC right and, when not compressed, records that fill the body
/// exactly, as many as the header says, with rising offset deltas up to the last.
#[derive(Clone, PartialEq, Eq)]
pub struct RecordBatch {
    header: BatchHeader,
    /// The whole batch; `header` is its parse.
    bytes: Bytes,
}

impl RecordBatch {
    /// Takes exactly one batch and checks it. Compressed records are not looked into: see
    /// [`RecordBatch::validate_deep`].
    ///
    /// # Errors
    /// Any [`BatchError`] but `Decompression`, `TooLarge` and `Forbidden`.
    pub fn parse(bytes: Bytes) -> Result<Self, BatchError> {
        let header = BatchHeader::parse(&bytes)?;
        match header.size() {
            need if need > bytes.len() => {
                return Err(BatchError::Truncated { need, have: bytes.len() });
            }
            size if size < bytes.len() => return Err(BatchError::Leftover(bytes.len() - size)),
            _ => {}
        }
        let computed = crc_fast::crc32_iscsi(&bytes[ATTRIBUTES_AT..]);
        if computed != header.crc {
            return Err(BatchError::CrcMismatch { stored: header.crc, computed });
        }
        if header.compression()? == Compression::None {
            records::walk(&header, &bytes[HEADER_LEN..])?;
        }
        Ok(RecordBatch { header, bytes })
    }

    /// Decompresses the records, to at most `max_bytes`, and checks them as [`RecordBatch::parse`] checks
    /// uncompressed ones. Free for an uncompressed batch.
    ///
    /// # Errors
    /// `Decompression`, `TooLarge`, or what is wrong with a record.
    pub fn validate_deep(&self, max_bytes: usize) -> Result<(), BatchError> {
        match self.compression() {
            Compression::None => Ok(()),
            codec => records::walk(&self.header, &codec.decompress(self.body(), max_bytes)?),
        }
    }

    /// The rules for a batch that a client produced, beyond those for any batch: one record for every offset and at
    /// least one; no control batch; a producer id comes with an epoch and a sequence, a transaction with a producer
    /// id. Header only: with [`RecordBatch::validate_deep`] the records' offset deltas are then 0, 1, 2, ...
    ///
    /// # Errors
    /// `BadCount`, `Forbidden`.
    pub fn validate_produced(&self) -> Result<(), BatchError> {
        let header = &self.header;
        if i64::from(header.record_count) != i64::from(header.last_offset_delta) + 1 {
            return Err(header.bad_count());
        }
        if header.is_control() {
            return Err(BatchError::Forbidden("control batch"));
        }
        if header.producer_id >= 0 && (header.producer_epoch < 0 || header.base_sequence < 0) {
            return Err(BatchError::Forbidden("producer id without epoch or sequence"));
        }
        if header.producer_id < 0 && header.is_transactional() {
            return Err(BatchError::Forbidden("transaction without producer id"));
        }
        Ok(())
    }

    /// The header's fields.
    #[must_use]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// What the deciding machines need to know.
    #[must_use]
    pub fn summary(&self) -> BatchSummary {
        self.header.summary()
    }

    /// The whole batch.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The whole batch, without the view.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// Bytes, header included.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The records' codec.
    #[must_use]
    pub fn compression(&self) -> Compression {
        self.header.compression().expect("checked when parsed")
    }

    /// The batch at its place in a log: base offset and leader epoch written into it. The two parts, one after the
    /// other, are the batch; the body is never copied. The second part is empty when nobody else held the bytes and
    /// they could be changed in place.
    #[must_use]
    pub fn assign(self, base: Offset, epoch: LeaderEpoch) -> [Bytes; 2] {
        match self.bytes.try_into_mut() {
            Ok(mut owned) => {
                patch(&mut owned, base, epoch);
                [owned.freeze(), Bytes::new()]
            }
            Err(shared) => {
                let mut head: [u8; PATCHABLE] = *shared.first_chunk().expect("a batch has a header");
                patch(&mut head, base, epoch);
                [Bytes::copy_from_slice(&head), shared.slice(PATCHABLE..)]
            }
        }
    }

    /// As [`RecordBatch::assign`], in one piece: copies the batch when somebody else holds its bytes too.
    #[must_use]
    pub fn with_offset(self, base: Offset, epoch: LeaderEpoch) -> RecordBatch {
        let mut header = self.header;
        (header.base_offset, header.leader_epoch) = (base.0, epoch.0);
        let mut owned = own(self.bytes);
        patch(&mut owned, base, epoch);
        RecordBatch { header, bytes: owned.freeze() }
    }

    /// The batch with `LogAppendTime` and the leader's time (milliseconds) as every record's timestamp. Changes the
    /// CRC; copies the batch when somebody else holds its bytes too.
    #[must_use]
    pub fn with_log_append_time(self, now: i64) -> RecordBatch {
        let mut header = self.header;
        header.attributes |= LOG_APPEND_TIME;
        header.max_timestamp = now;
        let mut owned = own(self.bytes);
        owned[ATTRIBUTES_AT..ATTRIBUTES_AT + 2].copy_from_slice(&header.attributes.to_be_bytes());
        owned[MAX_TIMESTAMP_AT..MAX_TIMESTAMP_AT + 8].copy_from_slice(&now.to_be_bytes());
        header.crc = crc_fast::crc32_iscsi(&owned[ATTRIBUTES_AT..]);
        owned[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&header.crc.to_be_bytes());
        RecordBatch { header, bytes: owned.freeze() }
    }

    /// The records, in order, decompressed to at most `max_bytes`. Keys and values share the batch's (or the
    /// decompressed) buffer.
    ///
    /// # Errors
    /// `Decompression`, `TooLarge`; the iterator's items say what is wrong with a record, and the first such item is
    /// the last.
    pub fn records(&self, max_bytes: usize) -> Result<Records, BatchError> {
        let body = match self.compression() {
            Compression::None => self.bytes.slice(HEADER_LEN..),
            codec => codec.decompress(self.body(), max_bytes)?,
        };
        if self.header.record_count == 0 && !body.is_empty() {
            return Err(BatchError::Leftover(body.len()));
        }
        Ok(Records::new(self.header, body))
    }

    fn body(&self) -> &[u8] {
        &self.bytes[HEADER_LEN..]
    }
}

impl fmt::Debug for RecordBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RecordBatch").field(&self.header).finish()
    }
}

/// Takes bytes apart into whole batches, as a produce request has them; each is checked as by [`RecordBatch::parse`].
///
/// # Errors
/// Any error of [`RecordBatch::parse`]; bytes that end inside a batch are `Truncated`.
pub fn split_batches(bytes: Bytes) -> Result<Vec<RecordBatch>, BatchError> {
    split(bytes, false)
}

/// As [`split_batches`], for the answer to a fetch: it may end inside a batch, which is dropped.
///
/// # Errors
/// Any error of [`RecordBatch::parse`] about a batch that is there in full.
pub fn split_fetched_batches(bytes: Bytes) -> Result<Vec<RecordBatch>, BatchError> {
    split(bytes, true)
}

fn split(mut bytes: Bytes, partial_tail: bool) -> Result<Vec<RecordBatch>, BatchError> {
    let mut batches = Vec::new();
    while !bytes.is_empty() {
        let have = bytes.len();
        let need = BatchHeader::peek_size(&bytes)?.unwrap_or(HEADER_LEN);
        if need > have {
            if partial_tail {
                break;
            }
            // An older format's message may be shorter than our header; its magic explains more than its length.
            BatchHeader::parse(&bytes)?;
            return Err(BatchError::Truncated { need, have });
        }
        batches.push(RecordBatch::parse(bytes.split_to(need))?);
    }
    Ok(batches)
}

fn own(bytes: Bytes) -> BytesMut {
    bytes.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]))
}

fn patch(head: &mut [u8], base: Offset, epoch: LeaderEpoch) {
    head[0..8].copy_from_slice(&base.0.to_be_bytes());
    head[LOG_OVERHEAD..PATCHABLE].copy_from_slice(&epoch.0.to_be_bytes());
}
