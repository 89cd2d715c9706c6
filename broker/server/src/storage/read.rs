//! Reading a log: finding where offsets and timestamps lie, without copying what lies there.

use super::batch_scan::BatchScan;
use super::error::{Doing, StorageError};
use super::offset_index::absolute;
use super::segment::{SegmentView, scan_error};
use broker_env::File;
use broker_types::{BatchSummary, LeaderEpoch, Offset};
use broker_wire::record_batch::{BatchHeader, RecordBatch, TimestampType};
use bytes::Bytes;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes of a segment file.
#[derive(Clone)]
pub struct FileSlice {
    /// The file, readable until dropped, also when the segment is deleted.
    pub file: Arc<dyn File>,
    /// Where they begin.
    pub position: u64,
    /// How many.
    pub len: usize,
}

impl fmt::Debug for FileSlice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSlice").field("position", &self.position).field("len", &self.len).finish_non_exhaustive()
    }
}

/// What [`super::Log::read`] found.
#[must_use]
pub enum Read {
    /// Known without asking the disk: the tail, or nothing.
    Ready(Vec<FileSlice>),
    /// The disk has to be asked.
    Search(ColdRead),
}

impl Read {
    /// The slices.
    ///
    /// # Errors
    /// As [`ColdRead::run`].
    pub async fn found(self) -> Result<Vec<FileSlice>, StorageError> {
        match self {
            Read::Ready(slices) => Ok(slices),
            Read::Search(search) => search.run().await,
        }
    }
}

/// How much to read.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// First offset wanted.
    pub(super) from: Offset,
    /// No batch that reaches to this offset or beyond.
    pub(super) up_to: Offset,
    pub(super) max_bytes: usize,
    /// The first batch whole, whatever its size.
    pub(super) min_one: bool,
}

/// Where a batch lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    /// The segment's number, among those at hand.
    pub(super) segment: usize,
    pub(super) position: u64,
    /// Bytes of the batch; 0 for the end of the log.
    pub(super) size: u64,
}

/// A read that has to look into indexes and headers. Owns what it needs: it runs while the log goes on. If the log is
/// cut meanwhile, it finds what was there, or fails; the caller checks that it still serves the same leader epoch.
pub struct ColdRead {
    /// From the segment that holds `from` on, as far as the bytes can reach; at least one.
    pub(super) segments: Vec<SegmentView>,
    /// The first batch to read, if it is known.
    pub(super) start: Option<Place>,
    /// The first batch not to read, if it is known; the end of `segments` at the furthest.
    pub(super) bound: Option<Place>,
    pub(super) limits: Limits,
}

impl ColdRead {
    /// Finds the slices.
    ///
    /// # Errors
    /// The disk's; `Corrupt` where a batch should be and none is.
    pub async fn run(self) -> Result<Vec<FileSlice>, StorageError> {
        let start = match self.start {
            Some(place) => Some(place),
            None => find(&self.segments, self.limits.from).await?.map(|(place, _)| place),
        };
        let Some(start) = start else { return Ok(Vec::new()) };
        let bound = match self.bound {
            Some(place) => place,
            None => match find(&self.segments, self.limits.up_to).await? {
                Some((place, _)) => place,
                None => end_of(&self.segments),
            },
        };
        Ok(slices(&self.segments, start, bound, self.limits))
    }
}

fn end_of(segments: &[SegmentView]) -> Place {
    let segment = segments.len() - 1;
    Place { segment, position: segments[segment].size, size: 0 }
}

/// The first batch that holds `offset` or lies beyond it.
pub(super) async fn find(
    segments: &[SegmentView],
    offset: Offset,
) -> Result<Option<(Place, BatchHeader)>, StorageError> {
    // The last segment that begins at or before the offset; compaction may have emptied its end.
    let first = segments.partition_point(|view| view.base <= offset).saturating_sub(1);
    for (segment, view) in segments.iter().enumerate().skip(first) {
        let base = view.base;
        let floor = view.offsets.floor(|entry| absolute(base, entry.relative) <= offset).await;
        let from = floor.doing("search the index of", &view.path)?.map_or(0, |entry| entry.position);
        let mut scan = view.scan(u64::try_from(from).unwrap_or(0));
        loop {
            let position = scan.position();
            match scan.next(false).await.map_err(|error| scan_error(&view.path, error))? {
                None => break,
                Some(header) if header.end_offset() > offset => {
                    return Ok(Some((Place { segment, position, size: header.size() as u64 }, header)));
                }
                Some(_) => {}
            }
        }
    }
    Ok(None)
}

/// The bytes from `start` to `bound`, as the limits allow.
pub(super) fn slices(segments: &[SegmentView], start: Place, bound: Place, limits: Limits) -> Vec<FileSlice> {
    let mut slices = Vec::new();
    if (start.segment, start.position) >= (bound.segment, bound.position) {
        return slices;
    }
    let mut budget = limits.max_bytes as u64;
    if start.size > budget {
        if !limits.min_one {
            return slices;
        }
        budget = start.size;
    }
    for (number, view) in segments.iter().enumerate().take(bound.segment + 1).skip(start.segment) {
        let from = if number == start.segment { start.position } else { 0 };
        let to = if number == bound.segment { bound.position } else { view.size };
        let len = (to - from).min(budget);
        if len > 0 {
            let len = usize::try_from(len).expect("not more than a usize of budget");
            slices.push(FileSlice { file: view.file.clone(), position: from, len });
        }
        budget -= len;
        if budget == 0 {
            break;
        }
    }
    slices
}

/// The bytes of slices, for one who has to look at them.
///
/// # Errors
/// The disk's; `UnexpectedEof` if the log was cut meanwhile.
pub async fn read_slices(slices: &[FileSlice]) -> std::io::Result<Vec<Bytes>> {
    let mut pieces = Vec::with_capacity(slices.len());
    for slice in slices {
        let bytes = slice.file.read_at(slice.position, slice.len).await?;
        if bytes.len() < slice.len {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        pieces.push(bytes);
    }
    Ok(pieces)
}

/// Goes over the headers of a log as it was when [`super::Log::scan`] was called.
pub struct Scan {
    /// Those still to go over, in reverse.
    segments: Vec<SegmentView>,
    current: Option<(PathBuf, BatchScan)>,
    from: Offset,
}

impl Scan {
    pub(super) fn new(mut segments: Vec<SegmentView>, from: Offset) -> Self {
        segments.reverse();
        Scan { segments, current: None, from }
    }

    /// The next batch that holds an offset not less than the one asked for, or `None` at the end.
    ///
    /// # Errors
    /// The disk's; `Corrupt` where a batch should be and none is.
    pub async fn next(&mut self) -> Result<Option<BatchSummary>, StorageError> {
        loop {
            let Some((path, scan)) = &mut self.current else {
                let Some(view) = self.segments.pop() else { return Ok(None) };
                let (base, from) = (view.base, self.from);
                let floor = view.offsets.floor(|entry| absolute(base, entry.relative) <= from).await;
                let position = floor.doing("search the index of", &view.path)?.map_or(0, |entry| entry.position);
                self.current = Some((view.path.clone(), view.scan(u64::try_from(position).unwrap_or(0))));
                continue;
            };
            match scan.next(false).await.map_err(|error| scan_error(path, error))? {
                None => self.current = None,
                Some(header) if header.end_offset() > self.from => return Ok(Some(header.summary())),
                Some(_) => {}
            }
        }
    }
}

/// The answer to a search by time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimestampedOffset {
    /// The record's timestamp, milliseconds.
    pub timestamp: i64,
    /// The record's offset.
    pub offset: Offset,
    /// The leader epoch of its batch.
    pub leader_epoch: Option<LeaderEpoch>,
}

/// A search by time, as [`super::Log::offset_for_timestamp`] and [`super::Log::offset_of_max_timestamp`] make it.
pub struct TimeSearch {
    pub(super) segments: Vec<SegmentView>,
    /// First record with a timestamp not less than this; `None`: the first with the largest there is.
    pub(super) target: Option<i64>,
    /// No record below this offset.
    pub(super) log_start: Offset,
    /// Bound on what a compressed batch may hold.
    pub(super) max_bytes: usize,
}

impl TimeSearch {
    /// The record, if there is one.
    ///
    /// # Errors
    /// The disk's; `Corrupt` for a batch that is none.
    pub async fn run(mut self) -> Result<Option<TimestampedOffset>, StorageError> {
        let target = match self.target {
            Some(target) => target,
            None => {
                let stamps = self.segments.iter().filter_map(|view| view.max_timestamp.map(|max| max.timestamp));
                let Some(max) = stamps.max() else { return Ok(None) };
                max
            }
        };
        self.segments.retain(|view| view.max_timestamp.is_some_and(|max| max.timestamp >= target));
        for view in &self.segments {
            if let Some(found) = self.search(view, target).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    async fn search(&self, view: &SegmentView, target: i64) -> Result<Option<TimestampedOffset>, StorageError> {
        // Every batch up to the entry's has a lesser timestamp.
        let floor = view.times.floor(|entry| entry.timestamp < target).await.doing("search", &view.path)?;
        let known = floor.map_or(-1, |entry| entry.relative);
        let near = view.offsets.floor(|entry| entry.relative <= known).await.doing("search", &view.path)?;
        let mut scan = view.scan(near.map_or(0, |entry| u64::try_from(entry.position).unwrap_or(0)));
        loop {
            let position = scan.position();
            let Some(header) = scan.next(false).await.map_err(|error| scan_error(&view.path, error))? else {
                return Ok(None);
            };
            if header.max_timestamp < target || header.end_offset() <= self.log_start {
                continue;
            }
            if let Some(found) = self.search_batch(view, &header, position, target).await? {
                return Ok(Some(found));
            }
        }
    }

    async fn search_batch(
        &self,
        view: &SegmentView,
        header: &BatchHeader,
        position: u64,
        target: i64,
    ) -> Result<Option<TimestampedOffset>, StorageError> {
        let leader_epoch = header.summary().leader_epoch;
        if header.timestamp_type() == TimestampType::LogAppendTime && header.base() >= self.log_start {
            let found = TimestampedOffset { timestamp: header.max_timestamp, offset: header.base(), leader_epoch };
            return Ok(Some(found));
        }
        // The scan saw that the batch lies within the file, so its size may size a read.
        let bytes = view.file.read_at(position, header.size()).await.doing("read", &view.path)?;
        let broken = |what: &dyn fmt::Display| StorageError::corrupt(&view.path, what.to_string());
        let batch = RecordBatch::parse(bytes).map_err(|error| broken(&error))?;
        for record in batch.records(self.max_bytes).map_err(|error| broken(&error))? {
            let record = record.map_err(|error| broken(&error))?;
            if record.timestamp >= target && record.offset >= self.log_start {
                let (timestamp, offset) = (record.timestamp, record.offset);
                return Ok(Some(TimestampedOffset { timestamp, offset, leader_epoch }));
            }
        }
        Ok(None)
    }
}

impl SegmentView {
    pub(super) fn scan(&self, from: u64) -> BatchScan {
        BatchScan::new(self.file.clone(), from.min(self.size), self.size)
    }
}
