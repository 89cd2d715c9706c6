//! What can be wrong with a batch.

use broker_types::ErrorCode;
use thiserror::Error;

/// Why bytes are not a batch that we take. [`BatchError::code`] is what the peer hears.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum BatchError {
    /// The bytes end before the batch does.
    #[error("batch cut short: it needs {need} bytes, there are {have}")]
    Truncated {
        /// Bytes that the batch says it has, at least.
        need: usize,
        /// Bytes that are there.
        have: usize,
    },
    /// The length field is less than a header, or negative.
    #[error("batch length field {0} cannot be")]
    BadLength(i32),
    /// Bytes are left after the one batch that was expected, or after its last record.
    #[error("{0} bytes are left over")]
    Leftover(usize),
    /// Not a v2 batch.
    #[error("magic {0} is not 2")]
    UnsupportedMagic(i8),
    /// The stored CRC-32C is not that of the bytes.
    #[error("CRC-32C of the bytes is {computed:#010x}, the batch says {stored:#010x}")]
    CrcMismatch {
        /// As written in the header.
        stored: u32,
        /// Of the bytes.
        computed: u32,
    },
    /// Offsets that cannot be: a negative one, or a last offset before the first.
    #[error("base offset {base_offset} and last offset delta {last_offset_delta} cannot be")]
    BadOffsets {
        /// As written.
        base_offset: i64,
        /// As written.
        last_offset_delta: i32,
    },
    /// The number of records does not fit the offsets, or the records that are there.
    #[error("{record_count} records with a last offset delta of {last_offset_delta} cannot be")]
    BadCount {
        /// As written.
        record_count: i32,
        /// As written.
        last_offset_delta: i32,
    },
    /// A record's offset delta is not greater than the one before, or is beyond the last.
    #[error("record offset delta {delta} after {before}, last {last_offset_delta}")]
    BadOffsetDelta {
        /// Of this record.
        delta: i32,
        /// Of the record before; -1 for the first.
        before: i32,
        /// As the header says.
        last_offset_delta: i32,
    },
    /// A record's fields do not fit its length, or a number in it cannot be.
    #[error("malformed record: {0}")]
    MalformedRecord(&'static str),
    /// The attributes name a codec that Kafka does not have.
    #[error("unknown compression type {0}")]
    UnknownCompression(u8),
    /// The compressed bytes do not decompress.
    #[error("cannot decompress")]
    Decompression,
    /// More bytes than the caller allows, compressed or not.
    #[error("more than {limit} bytes")]
    TooLarge {
        /// The caller's bound, or what a batch can hold at all.
        limit: usize,
    },
    /// A client may not write this kind of batch, or stamps it wrongly.
    #[error("a client may not send this batch: {0}")]
    Forbidden(&'static str),
}

impl BatchError {
    /// The error code that tells a peer.
    #[must_use]
    pub fn code(self) -> ErrorCode {
        match self {
            BatchError::Truncated { .. } | BatchError::BadLength(_) | BatchError::CrcMismatch { .. } => {
                ErrorCode::CorruptMessage
            }
            // Magic 0 and 1 are Kafka's own former formats: well-formed, and not taken any more.
            BatchError::UnsupportedMagic(0 | 1) => ErrorCode::InvalidRecord,
            BatchError::UnsupportedMagic(_) => ErrorCode::CorruptMessage,
            BatchError::UnknownCompression(_) => ErrorCode::UnsupportedCompressionType,
            BatchError::TooLarge { .. } => ErrorCode::MessageTooLarge,
            BatchError::Leftover(_)
            | BatchError::BadOffsets { .. }
            | BatchError::BadCount { .. }
            | BatchError::BadOffsetDelta { .. }
            | BatchError::MalformedRecord(_)
            | BatchError::Decompression
            | BatchError::Forbidden(_) => ErrorCode::InvalidRecord,
        }
    }
}
