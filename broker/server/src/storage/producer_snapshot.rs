//! `00000000000000000042.snapshot`: the producers of a log as they stood when its end offset was 42.
//!
//! After a restart the state is the latest snapshot's and the batches from its offset on.

use super::error::{Doing, StorageError};
use super::segment::{file_name, parse_file_name};
use super::whole_file::{read_whole, remove_if_there, write_whole};
use broker_env::Disk;
use broker_types::{Offset, ProducerEpoch, ProducerId};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::path::Path;

const SNAPSHOT: &str = "snapshot";
const VERSION: i16 = 1;
/// Version, CRC, count.
const HEAD: usize = 10;
/// The CRC-32C covers the file from here on.
const CRC_FROM: usize = 6;
const ENTRY: usize = 46;

/// One producer. Kafka keeps its last batch only.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ProducerSnapshotEntry {
    /// The producer.
    pub producer_id: ProducerId,
    /// Its epoch.
    pub producer_epoch: ProducerEpoch,
    /// Last sequence of its last batch; `None` before its first batch in this epoch.
    pub last_sequence: Option<i32>,
    /// Last offset of its last batch; `None` likewise.
    pub last_offset: Option<Offset>,
    /// Last sequence minus first sequence of its last batch.
    pub offset_delta: i32,
    /// Max timestamp of what it wrote last, or of the marker about it; milliseconds.
    pub timestamp: i64,
    /// Epoch of the transaction coordinator that wrote the last marker about it; -1 for none.
    pub coordinator_epoch: i32,
    /// First offset of its open transaction.
    pub current_txn_first_offset: Option<Offset>,
}

/// Writes the snapshot of a log in `dir` at `end`, durably.
///
/// # Errors
/// The disk's.
pub async fn write_producer_snapshot(
    disk: &dyn Disk,
    dir: &Path,
    end: Offset,
    entries: &[ProducerSnapshotEntry],
) -> Result<(), StorageError> {
    write_whole(disk, &file_name(dir, end, SNAPSHOT), encode(entries)).await
}

/// Reads the snapshot of a log in `dir` at `end`; `None` if there is none.
///
/// # Errors
/// The disk's; `Corrupt`: an older snapshot and more of the log do as well.
pub async fn read_producer_snapshot(
    disk: &dyn Disk,
    dir: &Path,
    end: Offset,
) -> Result<Option<Vec<ProducerSnapshotEntry>>, StorageError> {
    let path = file_name(dir, end, SNAPSHOT);
    let Some(bytes) = read_whole(disk, &path).await? else { return Ok(None) };
    decode(&bytes).map(Some).map_err(|what| StorageError::corrupt(&path, what))
}

/// The end offsets that there are snapshots of, in order.
///
/// # Errors
/// The disk's.
pub async fn list_producer_snapshots(disk: &dyn Disk, dir: &Path) -> Result<Vec<Offset>, StorageError> {
    let entries = disk.list(dir).await.doing("list", dir)?;
    let mut ends: Vec<Offset> = entries
        .iter()
        .filter_map(|entry| parse_file_name(&entry.name))
        .filter_map(|(end, suffix)| (suffix == SNAPSHOT).then_some(end))
        .collect();
    ends.sort_unstable();
    Ok(ends)
}

/// Removes the snapshots beyond `end`, durably: the batches that they speak of are gone, or were never synced. Others will take
/// their offsets, so that a snapshot that a power loss brings back would be believed.
///
/// # Errors
/// The disk's.
pub async fn remove_producer_snapshots_beyond(disk: &dyn Disk, dir: &Path, end: Offset) -> Result<(), StorageError> {
    let mut ends = list_producer_snapshots(disk, dir).await?;
    ends.retain(|snapshot| *snapshot > end);
    remove(disk, dir, &ends).await?;
    if ends.is_empty() { Ok(()) } else { disk.sync_dir(dir).await.doing("sync", dir) }
}

/// Removes all snapshots but the newest `kept`. What a power loss brings back is still true.
///
/// # Errors
/// The disk's.
pub async fn remove_old_producer_snapshots(disk: &dyn Disk, dir: &Path, kept: usize) -> Result<(), StorageError> {
    let ends = list_producer_snapshots(disk, dir).await?;
    remove(disk, dir, &ends[..ends.len().saturating_sub(kept)]).await
}

async fn remove(disk: &dyn Disk, dir: &Path, ends: &[Offset]) -> Result<(), StorageError> {
    for end in ends {
        remove_if_there(disk, &file_name(dir, *end, SNAPSHOT)).await?;
    }
    Ok(())
}

pub(super) fn encode(entries: &[ProducerSnapshotEntry]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(HEAD + ENTRY * entries.len());
    bytes.put_i16(VERSION);
    bytes.put_u32(0);
    bytes.put_i32(i32::try_from(entries.len()).expect("fewer producers than that"));
    for entry in entries {
        bytes.put_i64(entry.producer_id.0);
        bytes.put_i16(entry.producer_epoch.0);
        bytes.put_i32(entry.last_sequence.unwrap_or(-1));
        bytes.put_i64(entry.last_offset.map_or(-1, |offset| offset.0));
        bytes.put_i32(entry.offset_delta);
        bytes.put_i64(entry.timestamp);
        bytes.put_i32(entry.coordinator_epoch);
        bytes.put_i64(entry.current_txn_first_offset.map_or(-1, |offset| offset.0));
    }
    let crc = crc_fast::crc32_iscsi(&bytes[CRC_FROM..]);
    bytes[2..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
    bytes.freeze()
}

pub(super) fn decode(mut bytes: &[u8]) -> Result<Vec<ProducerSnapshotEntry>, &'static str> {
    if bytes.len() < HEAD {
        return Err("cut short");
    }
    let crc = crc_fast::crc32_iscsi(&bytes[CRC_FROM..]);
    if bytes.get_i16() != VERSION {
        return Err("unknown version");
    }
    if bytes.get_u32() != crc {
        return Err("CRC-32C does not match");
    }
    let count = usize::try_from(bytes.get_i32()).map_err(|_| "negative count")?;
    if !bytes.len().is_multiple_of(ENTRY) || count != bytes.len() / ENTRY {
        return Err("length does not match the count");
    }
    let offset = |offset: i64| (offset >= 0).then_some(Offset(offset));
    let entries = bytes.chunks_exact(ENTRY).map(|mut entry| ProducerSnapshotEntry {
        producer_id: ProducerId(entry.get_i64()),
        producer_epoch: ProducerEpoch(entry.get_i16()),
        last_sequence: Some(entry.get_i32()).filter(|sequence| *sequence >= 0),
        last_offset: offset(entry.get_i64()),
        offset_delta: entry.get_i32(),
        timestamp: entry.get_i64(),
        coordinator_epoch: entry.get_i32(),
        current_txn_first_offset: offset(entry.get_i64()),
    });
    Ok(entries.collect())
}
