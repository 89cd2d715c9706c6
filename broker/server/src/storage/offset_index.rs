//! `.index`: offsets to file positions, one entry for about every `index.interval.bytes` of log.

use super::index_file::{Entry, IndexFile, IndexView};
use broker_types::Offset;
use bytes::{BufMut, BytesMut};

/// The last offset of a batch, relative to the segment's base, and where the batch begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct OffsetEntry {
    pub(super) relative: i32,
    pub(super) position: i32,
}

pub(super) type OffsetIndex = IndexFile<OffsetEntry>;
pub(super) type OffsetIndexView = IndexView<OffsetEntry>;

impl Entry for OffsetEntry {
    const LEN: usize = 8;

    fn put(self, into: &mut BytesMut) {
        into.put_i32(self.relative);
        into.put_i32(self.position);
    }

    fn get(bytes: &[u8]) -> Self {
        let word = |at: usize| i32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        OffsetEntry { relative: word(0), position: word(4) }
    }
}

/// The offset that an entry speaks of. A damaged index says what it likes; no offset is beyond the largest.
pub(super) fn absolute(base: Offset, relative: i32) -> Offset {
    Offset(base.0.saturating_add(i64::from(relative)))
}

/// `offset` relative to `base`, if it fits an entry.
pub(super) fn relative(base: Offset, offset: Offset) -> Option<i32> {
    i32::try_from(offset - base).ok().filter(|relative| *relative >= 0)
}
