//! The 61 bytes before a batch's records.

use super::{BatchError, Compression};
use broker_types::{BatchSummary, LeaderEpoch, Offset, ProducerEpoch, ProducerId, ProducerStamp};

/// Bytes of a v2 batch header, base offset and length included.
pub const HEADER_LEN: usize = 61;
/// Bytes of base offset and length; the length field counts what comes after them.
pub const LOG_OVERHEAD: usize = 12;
/// Bytes that a log may rewrite without touching the CRC: base offset, length, leader epoch.
pub(super) const PATCHABLE: usize = 16;
pub(super) const CRC_AT: usize = 17;
/// The CRC covers everything from here on.
pub(super) const ATTRIBUTES_AT: usize = 21;
pub(super) const MAX_TIMESTAMP_AT: usize = 35;

const COMPRESSION: i16 = 0x07;
pub(super) const LOG_APPEND_TIME: i16 = 0x08;
pub(super) const TRANSACTIONAL: i16 = 0x10;
pub(super) const CONTROL: i16 = 0x20;
const DELETE_HORIZON: i16 = 0x40;

/// Who set the records' timestamps.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TimestampType {
    /// The producer; each record has its own.
    #[default]
    CreateTime,
    /// The leader at append; every record has the batch's max timestamp.
    LogAppendTime,
}

/// A parsed header, numbers as written. The checks of [`BatchHeader::parse`] hold for it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct BatchHeader {
    /// First offset. Not negative.
    pub base_offset: i64,
    /// Bytes after this field: whole batch minus [`LOG_OVERHEAD`]. At least a header's rest.
    pub batch_length: i32,
    /// Leader epoch, -1 from a producer.
    pub leader_epoch: i32,
    /// CRC-32C from the attributes to the end.
    pub crc: u32,
    /// Compression (3 bits), timestamp type, transactional, control, delete horizon.
    pub attributes: i16,
    /// Last offset minus base offset. Not negative; their sum is an offset.
    pub last_offset_delta: i32,
    /// Timestamp that the records' deltas count from.
    pub base_timestamp: i64,
    /// Largest timestamp.
    pub max_timestamp: i64,
    /// Producer id, or -1.
    pub producer_id: i64,
    /// Producer epoch, or -1.
    pub producer_epoch: i16,
    /// Sequence of the first record, or -1.
    pub base_sequence: i32,
    /// Records. Not negative, at most one per offset.
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads the first [`HEADER_LEN`] bytes; more may follow. Nothing but the header is looked at, no CRC.
    ///
    /// # Errors
    /// Too few bytes, another magic, a length, offsets or a count that cannot be.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        // Magic comes first, where it can be seen: the formats before v2 have shorter headers.
        match bytes.get(PATCHABLE) {
            None => {
                return Err(BatchError::Truncated { need: HEADER_LEN, have: bytes.len() });
            }
            Some(2) => {}
            Some(magic) => return Err(BatchError::UnsupportedMagic(magic.cast_signed())),
        }
        let Some(head) = bytes.first_chunk::<HEADER_LEN>() else {
            return Err(BatchError::Truncated { need: HEADER_LEN, have: bytes.len() });
        };
        let header = BatchHeader {
            base_offset: i64::from_be_bytes(at(head, 0)),
            batch_length: i32::from_be_bytes(at(head, 8)),
            leader_epoch: i32::from_be_bytes(at(head, 12)),
            crc: u32::from_be_bytes(at(head, CRC_AT)),
            attributes: i16::from_be_bytes(at(head, ATTRIBUTES_AT)),
            last_offset_delta: i32::from_be_bytes(at(head, 23)),
            base_timestamp: i64::from_be_bytes(at(head, 27)),
            max_timestamp: i64::from_be_bytes(at(head, MAX_TIMESTAMP_AT)),
            producer_id: i64::from_be_bytes(at(head, 43)),
            producer_epoch: i16::from_be_bytes(at(head, 51)),
            base_sequence: i32::from_be_bytes(at(head, 53)),
            record_count: i32::from_be_bytes(at(head, 57)),
        };
        header.check()?;
        Ok(header)
    }

    /// The whole size that the first [`LOG_OVERHEAD`] bytes speak of; `None` if fewer are there.
    ///
    /// # Errors
    /// A length that is less than a header.
    pub fn peek_size(bytes: &[u8]) -> Result<Option<usize>, BatchError> {
        let Some(length) = bytes.get(8..LOG_OVERHEAD) else {
            return Ok(None);
        };
        let length = i32::from_be_bytes(length.try_into().expect("four bytes"));
        size_of(length).map(Some)
    }

    fn check(&self) -> Result<(), BatchError> {
        size_of(self.batch_length)?;
        let last = self.base_offset.checked_add(i64::from(self.last_offset_delta)).and_then(|last| last.checked_add(1));
        if self.base_offset < 0 || self.last_offset_delta < 0 || last.is_none() {
            return Err(BatchError::BadOffsets {
                base_offset: self.base_offset,
                last_offset_delta: self.last_offset_delta,
            });
        }
        if self.record_count < 0 || i64::from(self.record_count) > i64::from(self.last_offset_delta) + 1 {
            return Err(self.bad_count());
        }
        self.compression().map(drop)
    }

    pub(super) fn bad_count(&self) -> BatchError {
        BatchError::BadCount { record_count: self.record_count, last_offset_delta: self.last_offset_delta }
    }

    /// Writes the header, magic included, to the front of `into`.
    pub(super) fn write(&self, into: &mut [u8; HEADER_LEN]) {
        into[0..8].copy_from_slice(&self.base_offset.to_be_bytes());
        into[8..12].copy_from_slice(&self.batch_length.to_be_bytes());
        into[12..16].copy_from_slice(&self.leader_epoch.to_be_bytes());
        into[16] = 2;
        into[17..21].copy_from_slice(&self.crc.to_be_bytes());
        into[21..23].copy_from_slice(&self.attributes.to_be_bytes());
        into[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        into[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        into[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        into[43..51].copy_from_slice(&self.producer_id.to_be_bytes());
        into[51..53].copy_from_slice(&self.producer_epoch.to_be_bytes());
        into[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        into[57..61].copy_from_slice(&self.record_count.to_be_bytes());
    }

    /// Bytes of the batch, header included.
    #[must_use]
    pub fn size(&self) -> usize {
        LOG_OVERHEAD + usize::try_from(self.batch_length).expect("checked when parsed")
    }

    /// First offset.
    #[must_use]
    pub fn base(&self) -> Offset {
        Offset(self.base_offset)
    }

    /// First offset after the batch.
    #[must_use]
    pub fn end_offset(&self) -> Offset {
        Offset(self.base_offset + i64::from(self.last_offset_delta) + 1)
    }

    /// The records' codec.
    ///
    /// # Errors
    /// A codec that Kafka does not have; [`BatchHeader::parse`] refuses it.
    pub fn compression(&self) -> Result<Compression, BatchError> {
        let id = u8::try_from(self.attributes & COMPRESSION).expect("three bits");
        Compression::from_id(id).ok_or(BatchError::UnknownCompression(id))
    }

    /// Who set the timestamps.
    #[must_use]
    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes & LOG_APPEND_TIME == 0 { TimestampType::CreateTime } else { TimestampType::LogAppendTime }
    }

    /// The batch belongs to a transaction.
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// The batch holds control records.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// When compaction may drop the batch's tombstones and markers, if it said so (KIP-534).
    #[must_use]
    pub fn delete_horizon(&self) -> Option<i64> {
        (self.attributes & DELETE_HORIZON != 0).then_some(self.base_timestamp)
    }

    /// What the deciding machines need to know.
    #[must_use]
    pub fn summary(&self) -> BatchSummary {
        BatchSummary {
            base_offset: Offset(self.base_offset),
            last_offset_delta: self.last_offset_delta,
            leader_epoch: (self.leader_epoch >= 0).then_some(LeaderEpoch(self.leader_epoch)),
            record_count: self.record_count.cast_unsigned(),
            size: u32::try_from(self.size()).expect("an i32 and 12"),
            crc: self.crc,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer: (self.producer_id >= 0).then_some(ProducerStamp {
                id: ProducerId(self.producer_id),
                epoch: ProducerEpoch(self.producer_epoch),
                base_sequence: (self.base_sequence >= 0).then_some(self.base_sequence),
            }),
            is_transactional: self.is_transactional(),
            is_control: self.is_control(),
        }
    }
}

fn size_of(batch_length: i32) -> Result<usize, BatchError> {
    match usize::try_from(batch_length) {
        Ok(length) if length + LOG_OVERHEAD >= HEADER_LEN => Ok(length + LOG_OVERHEAD),
        _ => Err(BatchError::BadLength(batch_length)),
    }
}

fn at<const N: usize>(head: &[u8; HEADER_LEN], from: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&head[from..from + N]);
    field
}
