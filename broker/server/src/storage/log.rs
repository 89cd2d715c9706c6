//! One partition's log: a row of segments.
//!
//! The log is told which offsets and epochs its batches have; it decides where they go, and finds them again. It never
//! looks at the high watermark: what a reader may see is the caller's `up_to`.

use super::error::{Doing, StorageError};
use super::offset_index::relative;
use super::read::{ColdRead, Limits, Place, Read, Scan, TimeSearch, find, slices};
use super::recovery;
use super::segment::{Indexed, Segment, SegmentView};
use broker_env::{File, SharedEnv};
use broker_types::{BatchSummary, Offset};
use bytes::Bytes;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// When a log rolls and how densely it is indexed, named as the topic's configuration names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogConfig {
    /// `segment.bytes`: a segment is not larger, unless one batch is.
    pub segment_bytes: u64,
    /// `segment.ms`: a segment's timestamps span no more, or without timestamps its age is no more.
    pub segment_ms: Duration,
    /// `segment.index.bytes`: an index is not larger.
    pub segment_index_bytes: u64,
    /// `index.interval.bytes`: more than so many bytes of log lie between two index entries.
    pub index_interval_bytes: u64,
}

impl Default for LogConfig {
    fn default() -> Self {
        LogConfig {
            segment_bytes: 1 << 30,
            segment_ms: Duration::from_secs(7 * 24 * 60 * 60),
            segment_index_bytes: 10 << 20,
            index_interval_bytes: 4096,
        }
    }
}

/// What the checkpoints say of a log that is to be opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OpenLog {
    /// Everything below was synced.
    pub recovery_point: Offset,
    /// First offset kept. A log that is empty begins here.
    pub log_start: Offset,
    /// The process ended by a clean shutdown: files are taken at their word.
    pub clean_shutdown: bool,
}

/// What opening a log brought to light.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LoadedLog {
    /// First offset kept, inclusive.
    pub log_start: Offset,
    /// Log end offset, exclusive.
    pub log_end: Offset,
    /// Bytes that recovery cut away.
    pub truncated_bytes: u64,
    /// First offset of the segments that were read again; `None` if none was.
    pub recovered_from: Option<Offset>,
    /// Every batch of the segments that were read again, in order. For those before, see [`Log::scan`].
    pub batches: Vec<BatchSummary>,
}

/// A batch with its place in the log written into it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogBatch {
    /// As the bytes say: the assigned base offset and leader epoch.
    pub summary: BatchSummary,
    /// The batch's bytes, one part after the other; the second may be empty.
    pub parts: [Bytes; 2],
}

/// A log's end was cut back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Truncation {
    /// Former log end offset, exclusive.
    pub from: Offset,
    /// New log end offset, exclusive: what was asked for, or less if a batch lay across it or no batch ended there.
    pub to: Offset,
}

/// One segment, for one who decides about retention.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentInfo {
    /// First offset that it can hold.
    pub base: Offset,
    /// Where the next one begins, or the log ends.
    pub end: Offset,
    /// Bytes of its batches.
    pub size: u64,
    /// Largest timestamp in it, milliseconds; `None` without timestamps.
    pub max_timestamp: Option<i64>,
}

/// Where a batch lies that was appended not long ago.
#[derive(Clone, Copy)]
struct TailBatch {
    segment: Offset,
    base: Offset,
    end: Offset,
    position: u64,
    size: u64,
}

/// Batches whose place is remembered. Followers and consumers that keep up read within them.
const TAIL: usize = 256;

/// A partition's log on one disk. One task owns it.
pub struct Log {
    env: SharedEnv,
    dir: PathBuf,
    config: LogConfig,
    /// By base offset; never empty. The last one is active.
    pub(super) segments: Vec<Segment>,
    /// First offset that readers may ask for.
    log_start: Offset,
    /// Log end offset, exclusive: where the last batch ends, or the active segment begins. Readers get nothing that
    /// lies beyond, whatever the file holds.
    end: Offset,
    /// Everything below was synced. Never beyond `end`.
    recovery_point: Offset,
    /// The latest batches, without gaps between them but those of the log.
    tail: VecDeque<TailBatch>,
    /// Counts truncations: a flush that began before one says nothing of what was written after it.
    truncations: u64,
    /// Counts files made and removed, and how many of these changes the directory has synced.
    names: u64,
    names_synced: u64,
}

impl Log {
    /// Opens the log in `dir`, or makes an empty one, and recovers it after an unclean end.
    ///
    /// # Errors
    /// The disk's; `Corrupt` if bytes are broken that had been synced, in a segment that is not the last: cutting
    /// there would give up records that this broker promised to keep.
    pub async fn open(
        env: SharedEnv,
        dir: &Path,
        config: LogConfig,
        opening: OpenLog,
    ) -> Result<(Log, LoadedLog), StorageError> {
        let loaded = recovery::load(&env, dir, &config, opening).await?;
        let mut log = Log {
            env,
            dir: dir.to_owned(),
            config,
            segments: loaded.segments,
            log_start: opening.log_start,
            end: Offset::ZERO,
            recovery_point: opening.recovery_point,
            tail: VecDeque::new(),
            truncations: 0,
            names: 1,
            names_synced: 0,
        };
        log.resume_active().await?;
        if log.end < opening.log_start {
            // What lies below the log's start is deleted by definition; the log goes on where it starts.
            log.truncate_fully_and_start_at(opening.log_start).await?;
        }
        log.log_start = opening.log_start.max(log.segments[0].base);
        log.recovery_point = opening.recovery_point.min(log.end);
        // The next flush covers everything that no earlier one vouches for.
        let unsynced = log.holding(log.recovery_point);
        let all_synced = log.recovery_point == log.end;
        log.segments[unsynced..].iter_mut().for_each(|segment| segment.dirty |= !all_synced);
        let report = LoadedLog {
            log_start: log.log_start,
            log_end: log.end,
            truncated_bytes: loaded.truncated_bytes,
            recovered_from: loaded.recovered_from,
            batches: loaded.batches,
        };
        Ok((log, report))
    }

    /// First offset kept, inclusive.
    #[must_use]
    pub fn log_start(&self) -> Offset {
        self.log_start
    }

    /// Log end offset, exclusive.
    #[must_use]
    pub fn log_end(&self) -> Offset {
        self.end
    }

    /// Everything below was synced: what the recovery point checkpoint is to say.
    #[must_use]
    pub fn recovery_point(&self) -> Offset {
        self.recovery_point
    }

    /// Bytes of all batches.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.segments.iter().map(|segment| segment.size).sum()
    }

    /// First offset that the active segment can hold; a roll moves it.
    #[must_use]
    pub fn active_base(&self) -> Offset {
        self.active().base
    }

    /// The log's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Takes a changed topic configuration; it tells at the next append.
    pub fn set_config(&mut self, config: LogConfig) {
        self.config = config;
    }

    /// The segments, oldest first; the last is active.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentInfo> {
        let ends = self.segments.iter().skip(1).map(|next| next.base).chain([self.end]);
        let info = |(segment, end): (&Segment, Offset)| SegmentInfo {
            base: segment.base,
            end,
            size: segment.size,
            max_timestamp: segment.max_timestamp.map(|max| max.timestamp),
        };
        self.segments.iter().zip(ends).map(info).collect()
    }

    /// Writes batches at the end of the log: one write, unless they take more than one segment. Done when first polled
    /// if the page cache takes them. The future must not be dropped before it is done.
    ///
    /// # Errors
    /// The disk's. [`Log::log_end`] then tells which batches are in.
    ///
    /// # Panics
    /// If offsets would go back.
    pub async fn append(&mut self, batches: Vec<LogBatch>) -> Result<(), StorageError> {
        let mut batches = VecDeque::from(batches);
        while let Some(first) = batches.front() {
            let summary = first.summary;
            assert!(
                summary.base_offset >= self.end,
                "append at {} to a log that ends at {}",
                summary.base_offset,
                self.end
            );
            if self.should_roll(&summary) {
                // Offsets in a segment are relative to its base, in 31 bits.
                let least = summary.last_from(summary.base_offset) + -i64::from(i32::MAX);
                self.roll(self.end.max(least)).await?;
            }
            let active = self.active();
            let (mut size, base) = (active.size, active.base);
            let mut count = 0;
            for batch in &batches {
                let summary = &batch.summary;
                let fits = size + u64::from(summary.size) <= self.config.segment_bytes
                    && relative(base, summary.last_from(summary.base_offset)).is_some();
                if count > 0 && !fits {
                    break;
                }
                size += u64::from(summary.size);
                count += 1;
            }
            self.append_to_active(batches.drain(..count).collect()).await?;
        }
        Ok(())
    }

    async fn append_to_active(&mut self, batches: Vec<LogBatch>) -> Result<(), StorageError> {
        let mut bytes = Vec::with_capacity(2 * batches.len());
        let mut summaries = Vec::with_capacity(batches.len());
        for LogBatch { summary, parts } in batches {
            debug_assert_eq!(parts.iter().map(Bytes::len).sum::<usize>(), summary.size as usize);
            bytes.extend(parts.into_iter().filter(|part| !part.is_empty()));
            summaries.push(summary);
        }
        let interval = self.config.index_interval_bytes;
        let active = self.segments.last_mut().expect("never empty");
        let (segment, mut position) = (active.base, active.size);
        let indexed = summaries.iter().map(|summary| Indexed {
            last: summary.last_from(summary.base_offset),
            max_timestamp: summary.max_timestamp,
            size: u64::from(summary.size),
        });
        let outcome = active.append(indexed, bytes, interval).await;
        // What is in the file is in the log, also if an index could not be written: offsets that were used once must
        // not be used again (KAFKA-7866).
        if active.size > position {
            for summary in &summaries {
                let (base, end, size) = (summary.base_offset, summary.end_offset(), u64::from(summary.size));
                self.remember(TailBatch { segment, base, end, position, size });
                position += size;
                self.end = end;
            }
        }
        outcome
    }

    fn should_roll(&self, batch: &BatchSummary) -> bool {
        let active = self.active();
        if relative(active.base, batch.last_from(batch.base_offset)).is_none() {
            return true;
        }
        if active.size == 0 {
            return false;
        }
        let waited_ms = match active.first_timestamp {
            Some(first) if batch.max_timestamp >= 0 => batch.max_timestamp.saturating_sub(first),
            _ => self.env.wall().0.saturating_sub(active.since.0),
        };
        let index_bytes = self.config.segment_index_bytes;
        active.size + u64::from(batch.size) > self.config.segment_bytes
            || u128::try_from(waited_ms).is_ok_and(|waited| waited > self.config.segment_ms.as_millis())
            || (active.offsets.count() as u64 + 1) * 8 > index_bytes
            // One entry is kept free for the seal.
            || (active.times.count() as u64 + 2) * 12 > index_bytes
    }

    async fn roll(&mut self, base: Offset) -> Result<(), StorageError> {
        let env = self.env.clone();
        self.segments.last_mut().expect("never empty").seal().await?;
        let next = Segment::create(env.disk(), &self.dir, base, env.wall()).await?;
        self.names += 1;
        if self.active().size == 0
            && let Some(empty) = self.segments.pop()
        {
            // Its offsets were left out; the segment would only be in the way (KAFKA-6388).
            empty.remove(env.disk(), &self.dir).await?;
        }
        self.segments.push(next);
        Ok(())
    }

    /// Finds the bytes of whole batches from the one that holds `from`, below `up_to`, not more than `max_bytes`; the
    /// end may lie inside a batch. With `min_one` the first batch comes whole, however large. Nothing if the first
    /// batch is too large otherwise, or if there is none below `up_to`.
    ///
    /// # Errors
    /// `OutOfRange` if `from` is below the log's start or beyond its end.
    pub fn read(&self, from: Offset, max_bytes: usize, up_to: Offset, min_one: bool) -> Result<Read, StorageError> {
        if from < self.log_start || from > self.end {
            return Err(StorageError::OutOfRange { offset: from, log_start: self.log_start, log_end: self.end });
        }
        let up_to = up_to.min(self.end);
        if from >= up_to {
            return Ok(Read::Ready(Vec::new()));
        }
        let limits = Limits { from, up_to, max_bytes, min_one };
        let start = self.place(from);
        let bound = if up_to == self.end { Some(self.end_place()) } else { self.place(up_to) };
        let first = start.map_or_else(|| self.holding(from), |place| place.segment);
        let segments = self.views(first, max_bytes.max(1));
        // The segments at hand may end before the bound does: then they are it.
        let shift = |place: Place| Place { segment: place.segment - first, ..place };
        let last = segments.len() - 1;
        let reaches = bound.map_or_else(|| self.holding(up_to), |place| place.segment) - first <= last;
        let bound = match bound {
            Some(place) if reaches => Some(shift(place)),
            None if reaches => None,
            _ => Some(Place { segment: last, position: segments[last].size, size: 0 }),
        };
        Ok(match (start.map(shift), bound) {
            (Some(start), Some(bound)) => Read::Ready(slices(&segments, start, bound, limits)),
            (start, bound) => Read::Search(ColdRead { segments, start, bound, limits }),
        })
    }

    /// The headers from the batch that holds `from` to the end, as they are now.
    #[must_use]
    pub fn scan(&self, from: Offset) -> Scan {
        let first = self.holding(from);
        Scan::new(self.segments[first..].iter().map(Segment::view).collect(), from)
    }

    /// Searches for the first record whose timestamp is not less than `timestamp`. Compressed batches are looked into
    /// as far as `max_bytes`.
    #[must_use]
    pub fn offset_for_timestamp(&self, timestamp: i64, max_bytes: usize) -> TimeSearch {
        self.time_search(Some(timestamp), max_bytes)
    }

    /// Searches for the first record with the largest timestamp in the log (KIP-734).
    #[must_use]
    pub fn offset_of_max_timestamp(&self, max_bytes: usize) -> TimeSearch {
        self.time_search(None, max_bytes)
    }

    fn time_search(&self, target: Option<i64>, max_bytes: usize) -> TimeSearch {
        let first = self.holding(self.log_start);
        let segments = self.segments[first..].iter().map(Segment::view).collect();
        TimeSearch { segments, target, log_start: self.log_start, max_bytes }
    }

    /// Moves the log's start up; never down. Says whether it moved. Segments stay until
    /// [`Log::delete_segments_below_start`].
    pub fn advance_log_start(&mut self, to: Offset) -> bool {
        assert!(to <= self.end, "log start {to} beyond the log end {}", self.end);
        let moved = to > self.log_start;
        self.log_start = self.log_start.max(to);
        moved
    }

    /// Deletes the segments whose every offset is below the log's start; never the active one. Says how many. The
    /// log's start is to be checkpointed before.
    ///
    /// # Errors
    /// The disk's.
    pub async fn delete_segments_below_start(&mut self) -> Result<usize, StorageError> {
        let mut count = 0;
        while self.segments.get(1).is_some_and(|next| next.base <= self.log_start) {
            let segment = self.segments.remove(0);
            self.names += 1;
            segment.remove(self.env.disk(), &self.dir).await?;
            count += 1;
        }
        let first = self.segments[0].base;
        self.tail.retain(|batch| batch.segment >= first);
        Ok(count)
    }

    /// Cuts the log so that no offset is left that is not less than `offset`; `None` if there was none. A batch that
    /// lies across the cut goes as a whole. The cut is durable, unlike Kafka's: a power loss does not bring back what
    /// the leader never had.
    ///
    /// The recovery point goes back with the log's end. **It must be checkpointed before the log takes appends
    /// again**: after a power loss an older checkpoint would vouch for bytes that were never synced (KAFKA-10101).
    ///
    /// # Errors
    /// The disk's.
    pub async fn truncate_to(&mut self, offset: Offset) -> Result<Option<Truncation>, StorageError> {
        let from = self.end;
        if offset >= from {
            return Ok(None);
        }
        if offset < self.segments[0].base {
            self.truncate_fully_and_start_at(offset).await?;
            return Ok(Some(Truncation { from, to: offset }));
        }
        let number = self.holding(offset);
        let views = [self.segments[number].view()];
        let (position, beyond) = match find(&views, offset).await? {
            Some((place, header)) => (place.position, offset.min(header.base())),
            None => (views[0].size, offset),
        };
        self.truncations += 1;
        self.end = beyond;
        self.tail.clear();
        // The latest goes first: a crash between leaves a shorter log, not one with a hole.
        while self.segments.len() > number + 1 {
            self.remove_last().await?;
        }
        self.sync_names().await?;
        self.segments[number].truncate(position, beyond).await?;
        // Where compaction left offsets out, the log ends where its last batch does: a segment that begins elsewhere
        // would look, after a crash, as if the end of the one before were lost.
        self.resume_active().await?;
        let to = self.end;
        self.log_start = self.log_start.min(to);
        self.recovery_point = self.recovery_point.min(to);
        Ok(Some(Truncation { from, to }))
    }

    /// Forgets every batch; the log is empty and begins at `offset`. As for [`Log::truncate_to`], the recovery point
    /// must be checkpointed before the next append.
    ///
    /// # Errors
    /// The disk's.
    pub async fn truncate_fully_and_start_at(&mut self, offset: Offset) -> Result<(), StorageError> {
        self.truncations += 1;
        self.tail.clear();
        (self.end, self.log_start) = (offset, offset);
        self.recovery_point = self.recovery_point.min(offset);
        while !self.segments.is_empty() {
            self.remove_last().await?;
        }
        let env = self.env.clone();
        self.segments.push(Segment::create(env.disk(), &self.dir, offset, env.wall()).await?);
        self.names += 1;
        self.sync_names().await
    }

    async fn sync_names(&mut self) -> Result<(), StorageError> {
        if self.names != self.names_synced {
            self.env.disk().sync_dir(&self.dir).await.doing("sync", &self.dir)?;
            self.names_synced = self.names;
        }
        Ok(())
    }

    async fn remove_last(&mut self) -> Result<(), StorageError> {
        if let Some(segment) = self.segments.pop() {
            self.names += 1;
            segment.remove(self.env.disk(), &self.dir).await?;
        }
        Ok(())
    }

    /// Everything that is in the log now, to be synced; it runs while the log goes on. Its outcome is to be given to
    /// [`Log::flushed`].
    #[must_use]
    pub fn flush(&self) -> Flush {
        let dirty = self.segments.iter().filter(|segment| segment.dirty);
        Flush {
            env: self.env.clone(),
            files: dirty.clone().flat_map(Segment::files).collect(),
            dir: (self.names != self.names_synced).then(|| self.dir.clone()),
            flushed: Flushed {
                end: self.end,
                truncations: self.truncations,
                names: self.names,
                sizes: dirty.map(|segment| (segment.base, segment.size)).collect(),
            },
        }
    }

    /// Takes note of a flush: the recovery point moves up, unless the log was cut since the flush began.
    pub fn flushed(&mut self, flushed: Flushed) {
        if flushed.truncations != self.truncations {
            return;
        }
        self.names_synced = self.names_synced.max(flushed.names);
        for (base, size) in flushed.sizes {
            if let Ok(number) = self.segments.binary_search_by_key(&base, |segment| segment.base) {
                self.segments[number].dirty &= self.segments[number].size != size;
            }
        }
        self.recovery_point = self.recovery_point.max(flushed.end.min(self.end));
    }

    /// Flushes and waits for it.
    ///
    /// # Errors
    /// As [`Flush::run`].
    pub async fn flush_now(&mut self) -> Result<(), StorageError> {
        let flushed = self.flush().run().await?;
        self.flushed(flushed);
        Ok(())
    }

    /// The end of a clean shutdown: last index entries, and everything synced.
    ///
    /// # Errors
    /// The disk's: the shutdown is not clean then.
    pub async fn close(mut self) -> Result<Offset, StorageError> {
        self.segments.last_mut().expect("never empty").seal().await?;
        self.flush_now().await?;
        Ok(self.recovery_point)
    }

    /// Learns the active segment's end from its file.
    async fn resume_active(&mut self) -> Result<(), StorageError> {
        self.tail.clear();
        let mut tail = Vec::new();
        let active = self.segments.last_mut().expect("never empty");
        let segment = active.base;
        let end = active
            .resume(|header, position| {
                let (base, end, size) = (header.base(), header.end_offset(), header.size() as u64);
                tail.push(TailBatch { segment, base, end, position, size });
            })
            .await?;
        self.end = end;
        for batch in tail {
            self.remember(batch);
        }
        Ok(())
    }

    fn remember(&mut self, batch: TailBatch) {
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(batch);
    }

    /// The first batch that holds `offset` or lies beyond it, if it is in the tail, or the log's end if there is none.
    fn place(&self, offset: Offset) -> Option<Place> {
        let first = self.tail.front()?;
        if offset < first.base {
            return None;
        }
        let number = self.tail.partition_point(|batch| batch.end <= offset);
        let Some(batch) = self.tail.get(number) else { return Some(self.end_place()) };
        let segment = self.segments.binary_search_by_key(&batch.segment, |segment| segment.base).ok()?;
        Some(Place { segment, position: batch.position, size: batch.size })
    }

    fn end_place(&self) -> Place {
        Place { segment: self.segments.len() - 1, position: self.active().size, size: 0 }
    }

    /// The last segment that begins at or before `offset`.
    fn holding(&self, offset: Offset) -> usize {
        self.segments.partition_point(|segment| segment.base <= offset).saturating_sub(1)
    }

    /// From the segment `first` on, as many as can matter to a read of `max_bytes`: later ones count in full.
    fn views(&self, first: usize, max_bytes: usize) -> Vec<SegmentView> {
        let mut budget = max_bytes as u64;
        let mut views = vec![self.segments[first].view()];
        for segment in &self.segments[first + 1..] {
            if budget == 0 {
                break;
            }
            views.push(segment.view());
            budget = budget.saturating_sub(segment.size);
        }
        views
    }

    fn active(&self) -> &Segment {
        self.segments.last().expect("never empty")
    }
}

/// A flush that is to run; made by [`Log::flush`].
pub struct Flush {
    env: SharedEnv,
    files: Vec<(Arc<dyn File>, PathBuf)>,
    /// The directory, if names in it changed.
    dir: Option<PathBuf>,
    flushed: Flushed,
}

/// What a finished [`Flush`] has made durable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Flushed {
    end: Offset,
    truncations: u64,
    names: u64,
    sizes: Vec<(Offset, u64)>,
}

impl Flush {
    /// Syncs the files, then the directory that names them (KAFKA-3968: without it a power loss takes a new segment
    /// with all that was synced in it).
    ///
    /// # Errors
    /// The disk's. What was to be synced must be taken for lost, and the log directory with it.
    pub async fn run(self) -> Result<Flushed, StorageError> {
        for (file, path) in &self.files {
            file.sync_data().await.doing("sync", path)?;
        }
        if let Some(dir) = &self.dir {
            self.env.disk().sync_dir(dir).await.doing("sync", dir)?;
        }
        Ok(self.flushed)
    }
}

impl Flushed {
    /// Log end offset when the flush began.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.end
    }
}
