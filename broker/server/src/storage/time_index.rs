//! `.timeindex`: the largest timestamp so far, and the last offset of the batch that brought it. Timestamps rise from
//! entry to entry, also where those of the records do not.

use super::index_file::{Entry, IndexFile, IndexView};
use bytes::{BufMut, BytesMut};

/// The first batch whose max timestamp reached `timestamp` ends at `relative` (to the segment's base).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TimeEntry {
    pub(super) timestamp: i64,
    pub(super) relative: i32,
}

pub(super) type TimeIndex = IndexFile<TimeEntry>;
pub(super) type TimeIndexView = IndexView<TimeEntry>;

impl Entry for TimeEntry {
    const LEN: usize = 12;

    fn put(self, into: &mut BytesMut) {
        into.put_i64(self.timestamp);
        into.put_i32(self.relative);
    }

    fn get(bytes: &[u8]) -> Self {
        let (timestamp, relative) = bytes.split_at(8);
        TimeEntry {
            timestamp: i64::from_be_bytes(timestamp.try_into().expect("eight bytes")),
            relative: i32::from_be_bytes(relative[..4].try_into().expect("four bytes")),
        }
    }
}
