//! One file: what its readers see, what of it is durable, and the writes between the two.

use super::rope::Rope;
use crate::clock::SimTime;
use bytes::Bytes;
use std::collections::VecDeque;

/// One change of a file that is not durable yet.
#[derive(Clone)]
pub(crate) struct Write {
    /// Counts all writes of this file.
    pub(crate) seq: u64,
    /// When the kernel writes it back by itself.
    pub(crate) due: SimTime,
    pub(crate) what: What,
}

#[derive(Clone)]
pub(crate) enum What {
    Data {
        position: u64,
        len: u64,
        /// `None`: what the page cache holds there, which nothing has changed since.
        bytes: Option<Bytes>,
        /// A failed sync has marked it clean: it never becomes durable, and nobody is told again.
        lost: bool,
    },
    Length(u64),
}

/// What a power loss leaves for certain.
enum Durable {
    /// The first so many bytes of the page cache. The usual case; costs nothing.
    Prefix(u64),
    /// Something else: part of it was overwritten or cut off and that is not durable yet, or a sync has failed.
    Own(Rope),
}

pub(crate) struct FileData {
    /// What readers see.
    pub(crate) cache: Rope,
    durable: Durable,
    /// Oldest first.
    pub(crate) dirty: VecDeque<Write>,
    next: u64,
    /// Whether a failed sync has made the page cache and the disk differ for good.
    diverged: bool,
}

impl FileData {
    pub(crate) fn empty() -> Self {
        FileData {
            cache: Rope::default(),
            durable: Durable::Prefix(0),
            dirty: VecDeque::new(),
            next: 0,
            diverged: false,
        }
    }

    /// A file that was found on the disk: all of it is durable.
    pub(crate) fn found(content: Rope) -> Self {
        FileData { durable: Durable::Prefix(content.len()), cache: content, ..FileData::empty() }
    }

    fn push(&mut self, due: SimTime, what: What) {
        self.dirty.push_back(Write { seq: self.next, due, what });
        self.next += 1;
    }

    pub(crate) fn append(&mut self, bytes: Bytes, due: SimTime) {
        let (position, len) = (self.cache.len(), bytes.len() as u64);
        if len > 0 {
            self.cache.append(bytes);
            self.push(due, What::Data { position, len, bytes: None, lost: false });
        }
    }

    pub(crate) fn write(&mut self, position: u64, bytes: Bytes, due: SimTime) {
        if position == self.cache.len() {
            return self.append(bytes, due);
        }
        self.detach();
        let len = bytes.len() as u64;
        self.cache.write(position, bytes.clone());
        self.push(due, What::Data { position, len, bytes: Some(bytes), lost: false });
    }

    pub(crate) fn set_len(&mut self, len: u64, due: SimTime) {
        if len != self.cache.len() {
            self.detach();
            self.cache.set_len(len);
            self.push(due, What::Length(len));
        }
    }

    /// The page cache is about to change where it stands for older writes and for the disk: they get their own copies.
    fn detach(&mut self) {
        for write in &mut self.dirty {
            if let What::Data { position, len, bytes: bytes @ None, .. } = &mut write.what {
                *bytes = Some(self.cache.read(*position, *len as usize));
            }
        }
        if let Durable::Prefix(len) = self.durable {
            self.durable = Durable::Own(self.cache.prefix(len));
        }
    }

    /// The number that the next write will have: a sync covers those below.
    pub(crate) fn next_write(&self) -> u64 {
        self.next
    }

    /// How many bytes wait to be written back.
    pub(crate) fn dirty_bytes(&self) -> u64 {
        self.dirty.iter().map(|write| if let What::Data { len, .. } = write.what { len } else { 0 }).sum()
    }

    /// Takes over what the kernel has written back by now, in order. Later writes that are due stay on the list, and
    /// count as durable all the same.
    pub(crate) fn settle_due(&mut self, now: SimTime) {
        while self.dirty.front().is_some_and(|write| write.due <= now) {
            self.settle_front();
        }
    }

    /// A sync of the writes below `end` has succeeded.
    pub(crate) fn synced(&mut self, end: u64) {
        while self.dirty.front().is_some_and(|write| write.seq < end) {
            self.settle_front();
        }
    }

    /// A sync of the writes below `end` has failed: the data is marked clean, as Linux does, and lost.
    pub(crate) fn sync_failed(&mut self, end: u64) -> u64 {
        self.detach();
        let mut bytes = 0;
        for write in self.dirty.iter_mut().take_while(|write| write.seq < end) {
            if let What::Data { len, lost, .. } = &mut write.what {
                bytes += if *lost { 0 } else { *len };
                *lost = true;
                self.diverged = true;
            }
        }
        bytes
    }

    fn settle_front(&mut self) {
        let Some(write) = self.dirty.pop_front() else { return };
        match (&mut self.durable, write.what) {
            (_, What::Data { lost: true, .. }) => {}
            (Durable::Prefix(end), What::Data { position, len, .. }) => {
                debug_assert_eq!(*end, position, "only appends leave the disk a prefix of the page cache");
                *end = position + len;
            }
            (Durable::Own(disk), What::Data { position, len, bytes, .. }) => {
                disk.write(position, bytes.unwrap_or_else(|| self.cache.read(position, len as usize)));
            }
            (Durable::Own(disk), What::Length(len)) => disk.set_len(len),
            (Durable::Prefix(_), What::Length(_)) => unreachable!("a change of length detaches"),
        }
        if self.dirty.is_empty() && !self.diverged {
            self.durable = Durable::Prefix(self.cache.len());
        }
    }

    /// What is durable, unsynced writes left out.
    pub(crate) fn on_disk(&self) -> Rope {
        match &self.durable {
            Durable::Prefix(len) => self.cache.prefix(*len),
            Durable::Own(disk) => disk.clone(),
        }
    }

    pub(crate) fn durable_len(&self) -> u64 {
        match &self.durable {
            Durable::Prefix(len) => *len,
            Durable::Own(disk) => disk.len(),
        }
    }

    /// A durable bit goes bad. The page cache is taken to have been dropped and read again.
    pub(crate) fn rot(&mut self, position: u64, bit: u32) {
        let flip = |rope: &mut Rope| {
            if let Some(byte) = rope.read(position, 1).first() {
                rope.write(position, Bytes::copy_from_slice(&[byte ^ (1 << (bit % 8))]));
            }
        };
        if let Durable::Own(disk) = &mut self.durable {
            flip(disk);
        }
        flip(&mut self.cache);
    }
}
