//! One segment: `00000000000000000000.log` with its `.index` and `.timeindex`, named after its base offset.

use super::batch_scan::{BatchScan, ScanError};
use super::error::{Doing, StorageError};
use super::offset_index::{OffsetEntry, OffsetIndex, OffsetIndexView, absolute, relative};
use super::time_index::{TimeEntry, TimeIndex, TimeIndexView};
use super::whole_file::remove_if_there;
use broker_env::{Disk, File, OpenMode};
use broker_types::{Offset, WallTime};
use broker_wire::record_batch::BatchHeader;
use bytes::Bytes;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(super) const LOG: &str = "log";
pub(super) const INDEX: &str = "index";
pub(super) const TIME_INDEX: &str = "timeindex";
/// Kafka's index of aborted transactions. We keep none: the log says it all, and is read again.
pub(super) const TXN_INDEX: &str = "txnindex";
/// A segment's files in the order of their removal: what is left without its log is swept at the next start.
const FILES: [&str; 4] = [LOG, INDEX, TIME_INDEX, TXN_INDEX];

/// `dir/00000000000000000042.suffix`.
pub(super) fn file_name(dir: &Path, base: Offset, suffix: &str) -> PathBuf {
    dir.join(format!("{:020}.{suffix}", base.0))
}

/// The base offset and suffix of a file name as [`file_name`] makes it.
pub(super) fn parse_file_name(name: &str) -> Option<(Offset, &str)> {
    let (digits, suffix) = name.split_once('.')?;
    let plain = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok().map(|base| (Offset(base), suffix)))?
}

/// What is indexed about a batch.
#[derive(Clone, Copy)]
pub(super) struct Indexed {
    /// Last offset of the batch, inclusive.
    pub(super) last: Offset,
    pub(super) max_timestamp: i64,
    pub(super) size: u64,
}

impl From<&BatchHeader> for Indexed {
    fn from(header: &BatchHeader) -> Self {
        Indexed { last: header.end_offset() + -1, max_timestamp: header.max_timestamp, size: header.size() as u64 }
    }
}

/// The largest timestamp and the last offset of the first batch that has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct MaxTimestamp {
    pub(super) timestamp: i64,
    pub(super) last: Offset,
}

/// One segment. Only the last one of a log, the active one, is appended to.
pub(super) struct Segment {
    /// No offset of the segment is less.
    pub(super) base: Offset,
    path: PathBuf,
    file: Arc<dyn File>,
    /// Bytes of whole batches; what lies beyond is the rest of a failed append.
    pub(super) size: u64,
    pub(super) offsets: OffsetIndex,
    pub(super) times: TimeIndex,
    bytes_since_index: u64,
    pub(super) max_timestamp: Option<MaxTimestamp>,
    /// Max timestamp of the first batch; `None` while there is none, or it has none.
    pub(super) first_timestamp: Option<i64>,
    /// When this process created or opened it; stands in for timestamps that are missing.
    pub(super) since: WallTime,
    /// Something was written since the last flush.
    pub(super) dirty: bool,
}

/// What a reader needs of a segment, as it was at one moment.
#[derive(Clone)]
pub(super) struct SegmentView {
    pub(super) base: Offset,
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn File>,
    pub(super) size: u64,
    pub(super) offsets: OffsetIndexView,
    pub(super) times: TimeIndexView,
    pub(super) max_timestamp: Option<MaxTimestamp>,
}

impl Segment {
    /// An empty segment. What a file of the name held before is gone.
    pub(super) async fn create(disk: &dyn Disk, dir: &Path, base: Offset, now: WallTime) -> Result<Self, StorageError> {
        let mut segment = Segment::open(disk, dir, base, OpenMode::Create, now).await?;
        segment.offsets.clear().await?;
        segment.times.clear().await?;
        segment.cut_file(0).await?;
        segment.max_timestamp = None;
        segment.dirty = true;
        Ok(segment)
    }

    /// The files as they are; nothing is known of the batches yet.
    pub(super) async fn open(
        disk: &dyn Disk,
        dir: &Path,
        base: Offset,
        mode: OpenMode,
        now: WallTime,
    ) -> Result<Self, StorageError> {
        let path = file_name(dir, base, LOG);
        let file = disk.open(&path, mode).await.doing("open", &path)?;
        let offsets = OffsetIndex::open(disk, file_name(dir, base, INDEX)).await?;
        let times = TimeIndex::open(disk, file_name(dir, base, TIME_INDEX)).await?;
        let size = file.len();
        let max_timestamp = max_of(base, times.last());
        Ok(Segment {
            base,
            path,
            file,
            size,
            offsets,
            times,
            bytes_since_index: 0,
            max_timestamp,
            first_timestamp: None,
            since: now,
            dirty: false,
        })
    }

    /// Removes the files. Who has them open reads on.
    pub(super) async fn remove(self, disk: &dyn Disk, dir: &Path) -> Result<(), StorageError> {
        remove_files(disk, dir, self.base).await
    }

    /// Writes batches at the end, all in one go, then their index entries. On an error of the first step the segment
    /// is as before; on an error of the second the batches are in.
    pub(super) async fn append(
        &mut self,
        batches: impl Iterator<Item = Indexed>,
        bytes: Vec<Bytes>,
        index_interval_bytes: u64,
    ) -> Result<(), StorageError> {
        if self.file.len() != self.size {
            self.cut_file(self.size).await?;
        }
        self.dirty = true;
        if let Err(error) = self.file.append(bytes).await.doing("append to", &self.path) {
            // A part may be in. If this fails too, the next append tries again before it writes.
            let _ = self.cut_file(self.size).await;
            return Err(error);
        }
        for batch in batches {
            self.index(batch, index_interval_bytes);
        }
        self.write_indexes().await
    }

    /// Takes note of the batch at the end of what is known. Append and recovery both come here, so that a rebuilt
    /// index is the one that was lost (KAFKA-16310).
    pub(super) fn index(&mut self, batch: Indexed, index_interval_bytes: u64) {
        self.note_timestamp(batch);
        if self.bytes_since_index > index_interval_bytes {
            if let (Some(relative), Ok(position)) = (relative(self.base, batch.last), i32::try_from(self.size)) {
                self.offsets.push(OffsetEntry { relative, position });
            }
            self.push_max_timestamp();
            self.bytes_since_index = 0;
        }
        self.bytes_since_index += batch.size;
        self.size += batch.size;
    }

    fn note_timestamp(&mut self, batch: Indexed) {
        if self.size == 0 {
            self.first_timestamp = (batch.max_timestamp >= 0).then_some(batch.max_timestamp);
        }
        if batch.max_timestamp > self.max_timestamp.map_or(-1, |max| max.timestamp) {
            self.max_timestamp = Some(MaxTimestamp { timestamp: batch.max_timestamp, last: batch.last });
        }
    }

    fn push_max_timestamp(&mut self) {
        let Some(max) = self.max_timestamp else { return };
        if let Some(relative) = relative(self.base, max.last)
            && self.times.last().is_none_or(|last| last.timestamp < max.timestamp && last.relative <= relative)
        {
            self.times.push(TimeEntry { timestamp: max.timestamp, relative });
        }
    }

    async fn write_indexes(&mut self) -> Result<(), StorageError> {
        self.offsets.write().await?;
        self.times.write().await
    }

    /// The segment gets no more batches for now (a roll, a shutdown): its last time index entry becomes its largest
    /// timestamp.
    pub(super) async fn seal(&mut self) -> Result<(), StorageError> {
        let count = self.times.count();
        self.push_max_timestamp();
        if self.times.count() > count {
            self.dirty = true;
            self.times.write().await?;
        }
        Ok(())
    }

    /// Whether the indexes can be those of the log file: whole entries, in range, none lost.
    pub(super) fn indexes_are_sane(&self, sealed: bool) -> bool {
        let offsets = self.offsets.is_whole()
            && self.offsets.last().is_none_or(|last| {
                last.relative > 0 && last.position >= 0 && u64::from(last.position.cast_unsigned()) < self.size
            });
        // A batch is indexed in both at once, a sealed segment has its largest timestamp last. Records without any
        // timestamp lead to an index built in vain, now and then.
        let needs_times = self.size > 0 && (sealed || self.offsets.count() > 0);
        let times = self.times.is_whole()
            && match self.times.last() {
                Some(last) => last.relative >= 0 && last.timestamp >= 0 && self.size > 0,
                None => !needs_times,
            };
        offsets && times
    }

    /// Reads the first header: a roll by time needs its timestamp.
    pub(super) async fn read_first_timestamp(&mut self) -> Result<(), StorageError> {
        if let Some(header) = self.scan(0).next(false).await.map_err(|error| self.scan_error(error))? {
            self.first_timestamp = (header.max_timestamp >= 0).then_some(header.max_timestamp);
        }
        Ok(())
    }

    /// From what the indexes know, walks the headers to the end and learns the rest. Says the end offset, exclusive,
    /// and shows each batch walked over, with its position.
    ///
    /// # Errors
    /// `Corrupt` where no batch is; the caller recovers the segment then.
    pub(super) async fn resume(&mut self, mut seen: impl FnMut(&BatchHeader, u64)) -> Result<Offset, StorageError> {
        self.read_first_timestamp().await?;
        self.max_timestamp = max_of(self.base, self.times.last());
        self.bytes_since_index = 0;
        let from = self.offsets.last().map_or(0, |entry| u64::from(entry.position.cast_unsigned()));
        let mut scan = self.scan(from);
        let mut end = self.base;
        loop {
            let position = scan.position();
            let Some(header) = scan.next(false).await.map_err(|error| self.scan_error(error))? else { break };
            if header.base() < end {
                return Err(StorageError::corrupt(&self.path, format!("offsets go back at position {position}")));
            }
            end = header.end_offset();
            let batch = Indexed::from(&header);
            if batch.max_timestamp > self.max_timestamp.map_or(-1, |max| max.timestamp) {
                self.max_timestamp = Some(MaxTimestamp { timestamp: batch.max_timestamp, last: batch.last });
            }
            self.bytes_since_index += batch.size;
            seen(&header, position);
        }
        Ok(end)
    }

    /// Cuts away what lies from `position` on, where a batch begins whose offsets, and those after it, are not less
    /// than `offset`, durably. [`Segment::resume`] is to follow.
    pub(super) async fn truncate(&mut self, position: u64, offset: Offset) -> Result<(), StorageError> {
        self.dirty = true;
        let base = self.base;
        let keeps = |relative: i32| absolute(base, relative) < offset;
        // Indexes first: they may know less than the log, never more.
        let stays = |entry: OffsetEntry| u64::try_from(entry.position).is_ok_and(|at| at < position);
        self.offsets.truncate(|entry| keeps(entry.relative) && stays(entry)).await?;
        self.times.truncate(|entry| keeps(entry.relative)).await?;
        self.cut_file(position).await?;
        self.sync().await
    }

    async fn sync(&self) -> Result<(), StorageError> {
        for (file, path) in self.files() {
            file.sync_data().await.doing("sync", &path)?;
        }
        Ok(())
    }

    /// Forgets both indexes and all that is known of the batches; [`Segment::index`] builds it again.
    pub(super) async fn clear_indexes(&mut self) -> Result<(), StorageError> {
        self.dirty = true;
        self.offsets.clear().await?;
        self.times.clear().await?;
        (self.size, self.bytes_since_index, self.max_timestamp, self.first_timestamp) = (0, 0, None, None);
        Ok(())
    }

    /// Cuts the file, durably, to the batches that were indexed, and writes the indexes. Says how many bytes that took
    /// away.
    pub(super) async fn keep_indexed(&mut self) -> Result<u64, StorageError> {
        let beyond = self.file.len().saturating_sub(self.size);
        self.write_indexes().await?;
        if beyond > 0 {
            // What was cut must not come back below a recovery point that was capped at the cut.
            self.cut_file(self.size).await?;
            self.sync().await?;
        }
        Ok(beyond)
    }

    async fn cut_file(&mut self, len: u64) -> Result<(), StorageError> {
        self.file.truncate(len).await.doing("truncate", &self.path)?;
        self.size = len;
        Ok(())
    }

    pub(super) fn file_len(&self) -> u64 {
        self.file.len()
    }

    pub(super) fn scan(&self, from: u64) -> BatchScan {
        BatchScan::new(self.file.clone(), from, self.size)
    }

    /// From the first byte to the last one in the file, whatever is known of it.
    pub(super) fn scan_file(&self) -> BatchScan {
        BatchScan::new(self.file.clone(), 0, self.file.len())
    }

    pub(super) fn scan_error(&self, error: ScanError) -> StorageError {
        scan_error(&self.path, error)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The files to sync, with their paths.
    pub(super) fn files(&self) -> [(Arc<dyn File>, PathBuf); 3] {
        [
            (self.file.clone(), self.path.clone()),
            (self.offsets.file().clone(), self.offsets.path().to_owned()),
            (self.times.file().clone(), self.times.path().to_owned()),
        ]
    }

    pub(super) fn view(&self) -> SegmentView {
        SegmentView {
            base: self.base,
            path: self.path.clone(),
            file: self.file.clone(),
            size: self.size,
            offsets: self.offsets.view(),
            times: self.times.view(),
            max_timestamp: self.max_timestamp,
        }
    }
}

pub(super) async fn remove_files(disk: &dyn Disk, dir: &Path, base: Offset) -> Result<(), StorageError> {
    for suffix in FILES {
        remove_if_there(disk, &file_name(dir, base, suffix)).await?;
    }
    Ok(())
}

pub(super) fn scan_error(path: &Path, error: ScanError) -> StorageError {
    match error {
        ScanError::Io(source) => StorageError::Io { doing: "read", path: path.to_owned(), source },
        ScanError::Bad(what) => StorageError::corrupt(path, what.to_string()),
    }
}

fn max_of(base: Offset, last: Option<TimeEntry>) -> Option<MaxTimestamp> {
    last.map(|entry| MaxTimestamp { timestamp: entry.timestamp, last: absolute(base, entry.relative) })
}
