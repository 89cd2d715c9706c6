//! Writes a message around records that are not copied.

use bytes::{BufMut, Bytes, BytesMut};

/// One stretch of an encoded message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Segment<S> {
    /// Bytes of the message itself.
    Bytes(Bytes),
    /// Records, wherever the caller keeps them.
    Records(S),
}

/// A message being written: one buffer for all that is not records, and where records go in between.
pub(crate) struct Spliced<S> {
    bytes: BytesMut,
    /// Positions in `bytes`, rising, with what comes there.
    slots: Vec<(usize, S)>,
    /// Bytes of all the slots.
    slot_bytes: usize,
}

impl<S> Spliced<S> {
    /// Begins a frame: its length prefix comes last, in [`Spliced::finish`].
    pub(crate) fn frame(estimate: usize) -> Self {
        let mut bytes = BytesMut::with_capacity(estimate);
        bytes.put_i32(0);
        Spliced { bytes, slots: Vec::new(), slot_bytes: 0 }
    }

    /// The buffer, to write on.
    pub(crate) fn out(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }

    /// `size` bytes of records come here; their length prefix is already written.
    pub(crate) fn records(&mut self, size: usize, slot: S) {
        if size > 0 {
            self.slot_bytes += size;
            self.slots.push((self.bytes.len(), slot));
        }
    }

    /// Bytes of the frame so far, its length prefix not counted.
    pub(crate) fn frame_size(&self) -> usize {
        self.bytes.len() - 4 + self.slot_bytes
    }

    /// Writes the length prefix and cuts the buffer where records go in.
    pub(crate) fn finish(mut self, prefix: i32) -> Vec<Segment<S>> {
        self.bytes[..4].copy_from_slice(&prefix.to_be_bytes());
        let bytes = self.bytes.freeze();
        let mut segments = Vec::with_capacity(2 * self.slots.len() + 1);
        let mut from = 0;
        for (at, slot) in self.slots {
            if at > from {
                segments.push(Segment::Bytes(bytes.slice(from..at)));
            }
            segments.push(Segment::Records(slot));
            from = at;
        }
        if from < bytes.len() {
            segments.push(Segment::Bytes(bytes.slice(from..)));
        }
        segments
    }
}

/// Kafka's primitive types, as far as the messages written by hand need them. `flexible` selects KIP-482's forms.
pub(crate) trait PutKafka: BufMut {
    fn put_uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.put_u8(value as u8);
    }

    /// The length of an array; callers keep it within `i32`.
    fn put_array_len(&mut self, len: usize, flexible: bool) {
        match flexible {
            true => self.put_uvarint(len as u32 + 1),
            false => self.put_i32(len as i32),
        }
    }

    /// A string; callers keep it within `i16`.
    fn put_string(&mut self, text: Option<&str>, flexible: bool) {
        match (text, flexible) {
            (Some(text), true) => self.put_uvarint(text.len() as u32 + 1),
            (Some(text), false) => self.put_i16(text.len() as i16),
            (None, true) => self.put_uvarint(0),
            (None, false) => self.put_i16(-1),
        }
        self.put_slice(text.unwrap_or_default().as_bytes());
    }

    /// The length of records; callers keep it within `i32`.
    fn put_records_len(&mut self, size: Option<usize>, flexible: bool) {
        match (size, flexible) {
            (Some(size), true) => self.put_uvarint(size as u32 + 1),
            (Some(size), false) => self.put_i32(size as i32),
            (None, true) => self.put_uvarint(0),
            (None, false) => self.put_i32(-1),
        }
    }
}

impl PutKafka for BytesMut {}

/// Bytes that `value` takes as an unsigned varint.
pub(crate) fn uvarint_size(value: u32) -> usize {
    (38 - (value | 1).leading_zeros() as usize) / 7
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_varint_is_as_long_as_it_was_measured() {
        for shift in 0..32 {
            for value in [(1u32 << shift) - 1, 1 << shift, u32::MAX >> shift] {
                let mut out = BytesMut::new();
                out.put_uvarint(value);
                assert_eq!(out.len(), uvarint_size(value), "{value}");
            }
        }
    }
}
