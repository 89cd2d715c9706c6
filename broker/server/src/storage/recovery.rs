//! Opening a log.
//!
//! After a clean shutdown the files are taken at their word. After any other end the segments that reach beyond the
//! recovery point are read again: each batch must be whole, have the CRC it was written with, lie beyond the offsets
//! before it, and be of no older leader epoch. The log is cut at the first one that is not. Indexes are built anew on
//! the way.
//!
//! No CRC covers a batch's base offset and leader epoch; as in Kafka, a changed one is noticed only where it goes back.
//!
//! We differ from Kafka in two ways. A segment beyond the recovery point that does not begin where the one before
//! ends is cut away, with all after it: the end of the one before was in the page cache and never reached the disk.
//! And broken bytes in a sealed segment below the recovery point fail the start instead of being cut out silently:
//! they were synced, so the disk broke its word.

use super::batch_scan::ScanError;
use super::error::{Doing, StorageError};
use super::log::{LogConfig, OpenLog};
use super::offset_index::relative;
use super::segment::{INDEX, Indexed, LOG, Segment, TIME_INDEX, TXN_INDEX, parse_file_name, remove_files};
use super::whole_file::{TEMPORARY, create_dir_durably, remove_if_there};
use broker_env::{OpenMode, SharedEnv};
use broker_types::{BatchSummary, Offset};
use std::io;
use std::path::Path;

/// Suffixes of files that something unfinished left behind.
const LEFTOVERS: [&str; 4] = [TEMPORARY, ".deleted", ".cleaned", ".swap"];

pub(super) struct Loaded {
    /// Never empty.
    pub(super) segments: Vec<Segment>,
    pub(super) truncated_bytes: u64,
    pub(super) recovered_from: Option<Offset>,
    pub(super) batches: Vec<BatchSummary>,
}

pub(super) async fn load(
    env: &SharedEnv,
    dir: &Path,
    config: &LogConfig,
    opening: OpenLog,
) -> Result<Loaded, StorageError> {
    let bases = sweep(env, dir).await?;
    let mut loader = Loader {
        interval: config.index_interval_bytes,
        loaded: Loaded { segments: Vec::new(), truncated_bytes: 0, recovered_from: None, batches: Vec::new() },
        end: None,
        epoch: None,
    };
    for (number, &base) in bases.iter().enumerate() {
        let next = bases.get(number + 1).copied();
        let segment = Segment::open(env.disk(), dir, base, OpenMode::Write, env.wall()).await?;
        let synced = opening.clean_shutdown || next.is_some_and(|next| next <= opening.recovery_point);
        // A flush that got beyond the segment's end came after the roll, and synced the last index entries with it. One
        // that got just there may have come before.
        let sealed = opening.clean_shutdown || next.is_some_and(|next| next < opening.recovery_point);
        let continues = synced || loader.end.is_none_or(|end| end == base);
        if !continues || !loader.load(segment, next, Vouched { synced, sealed }).await? {
            let from = if continues { number + 1 } else { number };
            loader.loaded.truncated_bytes += remove_from(env, dir, &bases[from..]).await?;
            break;
        }
    }
    if loader.loaded.segments.is_empty() {
        let segment = Segment::create(env.disk(), dir, opening.log_start, env.wall()).await?;
        loader.loaded.segments.push(segment);
    }
    Ok(loader.loaded)
}

/// What the recovery point, or a clean shutdown, says of a segment.
#[derive(Clone, Copy)]
struct Vouched {
    /// Its batches were synced.
    synced: bool,
    /// Its indexes too.
    sealed: bool,
}

struct Loader {
    interval: u64,
    loaded: Loaded,
    /// End of the segment before, if it was read again.
    end: Option<Offset>,
    /// Leader epoch of the last batch that was read again.
    epoch: Option<i32>,
}

impl Loader {
    /// Takes the next segment; false if it had to be cut, so that nothing may follow.
    async fn load(
        &mut self,
        mut segment: Segment,
        next: Option<Offset>,
        vouched: Vouched,
    ) -> Result<bool, StorageError> {
        let sane = segment.indexes_are_sane(next.is_some());
        let mut whole = true;
        // The last segment's end is not in its indexes: headers tell it, if they make sense.
        let rebuild =
            !vouched.sealed || !sane || (next.is_none() && segment.resume(|_, _| {}).await.is_err_and(is_corrupt));
        if rebuild {
            self.recover(&mut segment).await?;
            let broken = segment.file_len() - segment.size;
            if broken > 0 && vouched.synced && next.is_some() {
                let what = format!("{broken} bytes are broken in a segment that was synced");
                return Err(StorageError::corrupt(segment.path(), what));
            }
            let cut = segment.keep_indexed().await?;
            if next.is_some() {
                segment.seal().await?;
            }
            self.loaded.truncated_bytes += cut;
            whole = cut == 0;
        } else {
            self.end = None;
        }
        self.loaded.segments.push(segment);
        Ok(whole)
    }

    /// Reads every batch up to where no good one follows, and builds the indexes.
    async fn recover(&mut self, segment: &mut Segment) -> Result<(), StorageError> {
        self.loaded.recovered_from.get_or_insert(segment.base);
        segment.clear_indexes().await?;
        let mut scan = segment.scan_file();
        let mut end = segment.base;
        loop {
            let header = match scan.next(true).await {
                Ok(Some(header)) => header,
                Ok(None) | Err(ScanError::Bad(_)) => break,
                Err(error) => return Err(segment.scan_error(error)),
            };
            let batch = Indexed::from(&header);
            let follows = header.base() >= end && self.epoch.is_none_or(|epoch| header.leader_epoch >= epoch);
            if !follows || relative(segment.base, batch.last).is_none() {
                break;
            }
            segment.index(batch, self.interval);
            end = header.end_offset();
            self.epoch = Some(header.leader_epoch);
            self.loaded.batches.push(header.summary());
        }
        self.end = Some(end);
        Ok(())
    }
}

fn is_corrupt(error: StorageError) -> bool {
    matches!(error, StorageError::Corrupt { .. })
}

/// Makes the directory if there is none, removes what something unfinished left, and says where segments begin.
async fn sweep(env: &SharedEnv, dir: &Path) -> Result<Vec<Offset>, StorageError> {
    let disk = env.disk();
    let entries = match disk.list(dir).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create_dir_durably(disk, dir).await?;
            Vec::new()
        }
        listed => listed.doing("list", dir)?,
    };
    let mut bases = Vec::new();
    for entry in entries.iter().filter(|entry| !entry.is_dir) {
        if let Some((base, LOG)) = parse_file_name(&entry.name) {
            bases.push(base);
        }
    }
    bases.sort_unstable();
    for entry in entries.iter().filter(|entry| !entry.is_dir) {
        let leftover = LEFTOVERS.iter().any(|suffix| entry.name.ends_with(suffix));
        let orphan = matches!(parse_file_name(&entry.name),
            Some((base, INDEX | TIME_INDEX | TXN_INDEX)) if bases.binary_search(&base).is_err());
        if leftover || orphan {
            remove_if_there(disk, &dir.join(&entry.name)).await?;
        }
    }
    Ok(bases)
}

/// Removes segments, durably, the latest first. Says how many bytes of log that took away.
async fn remove_from(env: &SharedEnv, dir: &Path, bases: &[Offset]) -> Result<u64, StorageError> {
    let mut bytes = 0;
    for &base in bases.iter().rev() {
        let segment = Segment::open(env.disk(), dir, base, OpenMode::Write, env.wall()).await?;
        bytes += segment.file_len();
        drop(segment);
        remove_files(env.disk(), dir, base).await?;
    }
    if !bases.is_empty() {
        env.disk().sync_dir(dir).await.doing("sync", dir)?;
    }
    Ok(bytes)
}
