//! The records inside a batch.

use super::{BatchError, BatchHeader, TimestampType};
use broker_types::Offset;
use bytes::{BufMut, Bytes, BytesMut};
use std::ops::Range;

/// One record. Keys and values share the batch's buffer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Its place in the log, if the batch knows its own.
    pub offset: Offset,
    /// Milliseconds since the Unix epoch; -1 for none.
    pub timestamp: i64,
    /// The key; null and empty differ.
    pub key: Option<Bytes>,
    /// The value; null is a tombstone.
    pub value: Option<Bytes>,
    /// Headers in the producer's order; a key may occur twice.
    pub headers: Vec<RecordHeader>,
}

/// One header of a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordHeader {
    /// UTF-8 by convention, not checked.
    pub key: Bytes,
    /// The value; null and empty differ.
    pub value: Option<Bytes>,
}

/// Iterates a batch's records; made by [`super::RecordBatch::records`]. Ends after the first error.
#[derive(Clone, Debug)]
pub struct Records {
    header: BatchHeader,
    body: Bytes,
    position: usize,
    left: i32,
    last_delta: i32,
}

impl Records {
    pub(super) fn new(header: BatchHeader, body: Bytes) -> Self {
        Records { header, body, position: 0, left: header.record_count, last_delta: -1 }
    }

    fn read(&mut self) -> Result<Record, BatchError> {
        let mut reader = Reader { bytes: &self.body, position: self.position };
        let raw = read_record(&mut reader)?;
        check_delta(&self.header, raw.offset_delta, self.last_delta)?;
        let after = reader.position;
        if self.left == 1 && after != self.body.len() {
            return Err(BatchError::Leftover(self.body.len() - after));
        }
        let mut fields = Reader { bytes: &self.body[..raw.headers.end], position: raw.headers.start };
        // Two bytes is the least that a header takes.
        let mut headers = Vec::with_capacity(raw.header_count.min(raw.headers.len() / 2));
        for _ in 0..raw.header_count {
            let (key, value) = read_header(&mut fields)?;
            headers.push(RecordHeader { key: self.body.slice(key), value: value.map(|range| self.body.slice(range)) });
        }
        self.last_delta = raw.offset_delta;
        self.position = after;
        let timestamp = match self.header.timestamp_type() {
            TimestampType::CreateTime => self.header.base_timestamp.wrapping_add(raw.timestamp_delta),
            TimestampType::LogAppendTime => self.header.max_timestamp,
        };
        Ok(Record {
            offset: Offset(self.header.base_offset + i64::from(raw.offset_delta)),
            timestamp,
            key: raw.key.map(|range| self.body.slice(range)),
            value: raw.value.map(|range| self.body.slice(range)),
            headers,
        })
    }
}

impl Iterator for Records {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let record = self.read();
        self.left = if record.is_ok() { self.left - 1 } else { 0 };
        Some(record)
    }
}

/// Checks that `body` is exactly the records that `header` speaks of.
pub(super) fn walk(header: &BatchHeader, body: &[u8]) -> Result<(), BatchError> {
    let mut reader = Reader { bytes: body, position: 0 };
    let mut last_delta = -1;
    for _ in 0..header.record_count {
        if reader.position == body.len() {
            return Err(header.bad_count());
        }
        let raw = read_record(&mut reader)?;
        check_delta(header, raw.offset_delta, last_delta)?;
        last_delta = raw.offset_delta;
    }
    match body.len() - reader.position {
        0 => Ok(()),
        left => Err(BatchError::Leftover(left)),
    }
}

fn check_delta(header: &BatchHeader, delta: i32, before: i32) -> Result<(), BatchError> {
    if delta <= before || delta > header.last_offset_delta {
        return Err(BatchError::BadOffsetDelta { delta, before, last_offset_delta: header.last_offset_delta });
    }
    Ok(())
}

/// Where a record's fields lie in the body.
struct RawRecord {
    timestamp_delta: i64,
    offset_delta: i32,
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
    header_count: usize,
    headers: Range<usize>,
}

fn read_record(reader: &mut Reader<'_>) -> Result<RawRecord, BatchError> {
    let len = reader.length("record length")?.ok_or(BatchError::MalformedRecord("negative record length"))?;
    let end = reader.position + len;
    let mut record = Reader { bytes: &reader.bytes[..end], position: reader.position };
    record.skip(1, "attributes")?;
    let timestamp_delta = record.varint()?;
    let offset_delta =
        i32::try_from(record.varint()?).map_err(|_| BatchError::MalformedRecord("offset delta beyond 32 bits"))?;
    let key = record.nullable("key")?;
    let value = record.nullable("value")?;
    let header_count = usize::try_from(record.varint()?).map_err(|_| BatchError::MalformedRecord("header count"))?;
    let from = record.position;
    for _ in 0..header_count {
        read_header(&mut record)?;
    }
    if record.position != end {
        return Err(BatchError::MalformedRecord("length beyond its fields"));
    }
    reader.position = end;
    Ok(RawRecord { timestamp_delta, offset_delta, key, value, header_count, headers: from..end })
}

type HeaderRanges = (Range<usize>, Option<Range<usize>>);

fn read_header(record: &mut Reader<'_>) -> Result<HeaderRanges, BatchError> {
    let key = record.nullable("header key")?.ok_or(BatchError::MalformedRecord("null header key"))?;
    Ok((key, record.nullable("header value")?))
}

struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl Reader<'_> {
    /// Zigzag, at most ten bytes; what does not fit 64 bits is malformed.
    fn varint(&mut self) -> Result<i64, BatchError> {
        let mut raw = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.position).ok_or(BatchError::MalformedRecord("cut short in a varint"))?;
            self.position += 1;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            raw |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed());
            }
        }
        Err(BatchError::MalformedRecord("varint too long"))
    }

    /// A length that fits the bytes that are left; `None` for -1.
    fn length(&mut self, what: &'static str) -> Result<Option<usize>, BatchError> {
        match self.varint()? {
            -1 => Ok(None),
            len => match usize::try_from(len) {
                Ok(len) if len <= self.bytes.len() - self.position => Ok(Some(len)),
                _ => Err(BatchError::MalformedRecord(what)),
            },
        }
    }

    fn nullable(&mut self, what: &'static str) -> Result<Option<Range<usize>>, BatchError> {
        let Some(len) = self.length(what)? else { return Ok(None) };
        let from = self.position;
        self.position += len;
        Ok(Some(from..self.position))
    }

    fn skip(&mut self, len: usize, what: &'static str) -> Result<(), BatchError> {
        if len > self.bytes.len() - self.position {
            return Err(BatchError::MalformedRecord(what));
        }
        self.position += len;
        Ok(())
    }
}

/// Bytes of the longest varint.
pub(super) const MAX_VARINT_LEN: usize = 10;

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

pub(super) fn varint_len(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

pub(super) fn put_varint(into: &mut BytesMut, value: i64) {
    let mut raw = zigzag(value);
    while raw >= 0x80 {
        into.put_u8((raw & 0x7f) as u8 | 0x80);
        raw >>= 7;
    }
    into.put_u8(raw as u8);
}
