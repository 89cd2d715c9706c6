//! A frame being decoded, with a purse.

use bytes::{Buf, Bytes};
use proto_kafka::protocol::buf::{ByteBuf, NotEnoughBytesError};
use std::ops::Range;

/// Reads allowed in a request: each field costs one or a few.
pub(super) const REQUEST_READS: usize = 1 << 21;
/// Most elements of one array in a request.
pub(super) const REQUEST_ELEMENTS: usize = 1 << 17;
/// Reads allowed in a response, which comes from a server that we chose to talk to.
pub(super) const RESPONSE_READS: usize = 1 << 24;
/// Most elements of one array in a response.
pub(super) const RESPONSE_ELEMENTS: usize = 1 << 20;

/// The bytes of a frame, and how many more reads and how long an array the decoder may dare.
///
/// The codec compares an array's claimed length with [`Buf::remaining`] and then allocates for that many elements at
/// once. A hundred megabytes of zeros would so pay for tens of gigabytes of structs. Here `remaining` never says more
/// than `elements`, and 0 once the reads are used up, which the codec takes for the end of the frame; byte strings and
/// records, whose memory the frame itself is, see the true number in [`ByteBuf::try_get_bytes`].
pub(crate) struct Guarded {
    bytes: Bytes,
    reads_left: usize,
    elements: usize,
}

impl Guarded {
    pub(super) fn request(bytes: Bytes) -> Self {
        Guarded { bytes, reads_left: REQUEST_READS, elements: REQUEST_ELEMENTS }
    }

    pub(super) fn response(bytes: Bytes) -> Self {
        Guarded { bytes, reads_left: RESPONSE_READS, elements: RESPONSE_ELEMENTS }
    }

    /// Bytes not read yet, as they are.
    pub(super) fn left(&self) -> usize {
        self.bytes.len()
    }

    /// Whether the decoder read more often than it may.
    pub(super) fn is_spent(&self) -> bool {
        self.reads_left == 0
    }
}

impl Buf for Guarded {
    fn remaining(&self) -> usize {
        if self.is_spent() { 0 } else { self.bytes.len().min(self.elements) }
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes[..self.remaining()]
    }

    fn advance(&mut self, count: usize) {
        self.reads_left = self.reads_left.saturating_sub(1);
        self.bytes.advance(count);
    }
}

impl ByteBuf for Guarded {
    fn peek_bytes(&mut self, range: Range<usize>) -> Bytes {
        self.bytes.slice(range)
    }

    fn get_bytes(&mut self, size: usize) -> Bytes {
        self.reads_left = self.reads_left.saturating_sub(1);
        self.bytes.split_to(size)
    }

    fn try_peek_bytes(&mut self, range: Range<usize>) -> Result<Bytes, NotEnoughBytesError> {
        if self.bytes.len() < range.end { Err(NotEnoughBytesError) } else { Ok(self.peek_bytes(range)) }
    }

    fn try_get_bytes(&mut self, size: usize) -> Result<Bytes, NotEnoughBytesError> {
        if self.is_spent() || self.bytes.len() < size { Err(NotEnoughBytesError) } else { Ok(self.get_bytes(size)) }
    }
}
