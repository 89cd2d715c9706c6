//! What the two indexes of a segment have in common: a file of entries of one size, sorted, only ever appended to or
//! cut at the end. Searches read the file; only the last entry is kept in memory.

use super::error::{Doing, StorageError};
use broker_env::{Disk, File, OpenMode};
use bytes::{Bytes, BytesMut};
use std::io;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One entry of an index.
pub(super) trait Entry: Copy {
    /// Bytes of an entry.
    const LEN: usize;
    fn put(self, into: &mut BytesMut);
    /// From exactly `LEN` bytes.
    fn get(bytes: &[u8]) -> Self;
}

/// An index that is being written.
pub(super) struct IndexFile<E> {
    path: PathBuf,
    file: Arc<dyn File>,
    /// Entries, those of `unwritten` included.
    count: usize,
    last: Option<E>,
    /// Entries that are not in the file yet.
    unwritten: BytesMut,
}

/// What a reader needs of an index, as it was at one moment.
pub(super) struct IndexView<E> {
    file: Arc<dyn File>,
    count: usize,
    entry: PhantomData<fn() -> E>,
}

impl<E> Clone for IndexView<E> {
    fn clone(&self) -> Self {
        IndexView { file: self.file.clone(), count: self.count, entry: PhantomData }
    }
}

impl<E: Entry> IndexFile<E> {
    /// Opens or creates it, whatever it holds.
    pub(super) async fn open(disk: &dyn Disk, path: PathBuf) -> Result<Self, StorageError> {
        let file = disk.open(&path, OpenMode::Create).await.doing("open", &path)?;
        let count = usize::try_from(file.len()).unwrap_or(usize::MAX) / E::LEN;
        let mut index = IndexFile { path, file, count, last: None, unwritten: BytesMut::new() };
        index.read_last().await?;
        Ok(index)
    }

    /// Whether the file's length is that of whole entries.
    pub(super) fn is_whole(&self) -> bool {
        self.file.len() == (self.count * E::LEN) as u64
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn last(&self) -> Option<E> {
        self.last
    }

    pub(super) fn file(&self) -> &Arc<dyn File> {
        &self.file
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds an entry, to be written by [`IndexFile::write`].
    pub(super) fn push(&mut self, entry: E) {
        entry.put(&mut self.unwritten);
        self.count += 1;
        self.last = Some(entry);
    }

    /// Writes what was pushed.
    pub(super) async fn write(&mut self) -> Result<(), StorageError> {
        if self.unwritten.is_empty() {
            return Ok(());
        }
        let bytes = self.unwritten.split().freeze();
        self.file.append(vec![bytes]).await.doing("append to", &self.path).map(drop)
    }

    /// Keeps the leading entries for which `keep` holds.
    pub(super) async fn truncate(&mut self, keep: impl Fn(E) -> bool) -> Result<(), StorageError> {
        self.write().await?;
        let kept = self.view().partition(keep).await.doing("read", &self.path)?;
        self.cut(kept).await
    }

    /// Forgets everything.
    pub(super) async fn clear(&mut self) -> Result<(), StorageError> {
        self.unwritten.clear();
        self.cut(0).await
    }

    async fn cut(&mut self, count: usize) -> Result<(), StorageError> {
        self.count = count;
        let len = (count * E::LEN) as u64;
        if self.file.len() != len {
            self.file.truncate(len).await.doing("truncate", &self.path)?;
        }
        self.read_last().await
    }

    async fn read_last(&mut self) -> Result<(), StorageError> {
        self.last = match self.count.checked_sub(1) {
            None => None,
            Some(at) => Some(self.view().entry(at).await.doing("read", &self.path)?),
        };
        Ok(())
    }

    /// The entries that are in the file.
    pub(super) fn view(&self) -> IndexView<E> {
        let count = self.count - self.unwritten.len() / E::LEN;
        IndexView { file: self.file.clone(), count, entry: PhantomData }
    }
}

/// Entries that one read fetches once the search has come down to so many.
const CHUNK: usize = 256;

impl<E: Entry> IndexView<E> {
    /// How many leading entries `holds` is true for; it is true for a prefix.
    pub(super) async fn partition(&self, holds: impl Fn(E) -> bool) -> io::Result<usize> {
        let (mut from, mut to) = (0, self.count);
        while to - from > CHUNK {
            let middle = from + (to - from) / 2;
            if holds(self.entry(middle).await?) {
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        let chunk = self.entries(from, to).await?;
        Ok(from + chunk.chunks_exact(E::LEN).take_while(|bytes| holds(E::get(bytes))).count())
    }

    /// The last entry that `holds` is true for; it is true for a prefix.
    pub(super) async fn floor(&self, holds: impl Fn(E) -> bool) -> io::Result<Option<E>> {
        match self.partition(holds).await? {
            0 => Ok(None),
            count => self.entry(count - 1).await.map(Some),
        }
    }

    async fn entry(&self, at: usize) -> io::Result<E> {
        self.entries(at, at + 1).await.map(|bytes| E::get(&bytes))
    }

    async fn entries(&self, from: usize, to: usize) -> io::Result<Bytes> {
        let len = (to - from) * E::LEN;
        let bytes = self.file.read_at((from * E::LEN) as u64, len).await?;
        // A concurrent truncation is the one reason for fewer.
        if bytes.len() < len { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(bytes) }
    }
}
