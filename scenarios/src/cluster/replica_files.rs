//! One replica's directory, read as a process on its host would read it, and by Kafka's formats alone: what the broker thinks
//! of its files is not asked.

use broker_types::{LeaderEpoch, NodeId, Offset, ProducerEpoch, ProducerId};
use broker_wire::record_batch::{BatchError, split_batches};
use bytes::{Buf, Bytes};
use checker::{BatchEnd, LastBatch, OffsetEntry, ProducerRow, ReplicaEnd, SegmentEnd, SnapshotEnd, TimeEntry};
use sim::DiskSnapshot;

/// Bytes of an entry: relative offset and position.
const OFFSET_ENTRY: usize = 8;
/// Bytes of an entry: timestamp and relative offset.
const TIME_ENTRY: usize = 12;
/// Bytes before the producers of a snapshot: version, CRC, count.
const SNAPSHOT_HEAD: usize = 10;
/// Where the bytes begin that a snapshot's CRC covers.
const SNAPSHOT_CRC_FROM: usize = 6;
/// Bytes of one producer in a snapshot.
const SNAPSHOT_ENTRY: usize = 46;
/// The only version of a snapshot that there is.
const SNAPSHOT_VERSION: i16 = 1;

/// The replica that lies in `folder`, whose path ends with a slash.
pub(super) fn read_replica(disk: &DiskSnapshot, folder: &str, node: NodeId, high_watermark: Offset) -> ReplicaEnd {
    let mut batches: Vec<BatchEnd> = Vec::new();
    let mut segments = Vec::new();
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    let mut damage = None;
    for base in named(disk, folder, ".log") {
        let file = |suffix: &str| disk.read(&format!("{folder}{base:020}{suffix}")).unwrap_or_default();
        let bytes = file(".log");
        hash.update(&bytes);
        match read_batches(bytes) {
            Ok(found) => {
                segments.push(segment(Offset(base), found.len(), &file(".index"), &file(".timeindex")));
                batches.extend(found);
            }
            Err(error) => damage = Some(format!("{folder}{base:020}.log: {error}")),
        }
    }
    let snapshots = named(disk, folder, ".snapshot").into_iter().map(|end| {
        let bytes = disk.read(&format!("{folder}{end:020}.snapshot")).unwrap_or_default();
        SnapshotEnd { end: Offset(end), producers: producers(&bytes).map_err(str::to_owned) }
    });
    let is_whole = damage.is_none();
    let checkpoint = disk.read(&format!("{folder}leader-epoch-checkpoint"));
    let epoch_starts = checkpoint.map(|text| epoch_starts(&text));
    if let Some(Err(line)) = &epoch_starts {
        damage.get_or_insert(format!("leader-epoch-checkpoint has the line '{line}'"));
    }
    ReplicaEnd {
        node,
        log_start: batches.first().map(|batch| batch.base).unwrap_or_default(),
        log_end: batches.last().map_or(Offset::ZERO, |batch| batch.last + 1),
        high_watermark,
        file_digest: Some(hash.digest128()),
        damage,
        epoch_starts: epoch_starts.and_then(Result::ok),
        segments: is_whole.then_some(segments),
        producer_snapshots: is_whole.then(|| snapshots.collect()),
        batches,
        last_stable: None,
        // Nobody cleans logs yet.
        cleaned: None,
    }
}

/// The offsets that files with this suffix are named after, in order.
fn named(disk: &DiskSnapshot, folder: &str, suffix: &str) -> Vec<i64> {
    let names = disk.files().filter_map(|(path, _)| path.strip_prefix(folder)?.strip_suffix(suffix)?.parse().ok());
    let mut offsets: Vec<i64> = names.collect();
    offsets.sort_unstable();
    offsets
}

fn read_batches(bytes: Bytes) -> Result<Vec<BatchEnd>, BatchError> {
    let batches = split_batches(bytes)?;
    let read = batches.iter().map(|batch| {
        let summary = batch.summary();
        BatchEnd {
            base: summary.base_offset,
            last: summary.last_from(summary.base_offset),
            leader_epoch: summary.leader_epoch.unwrap_or_default(),
            crc: summary.crc,
            size: summary.size,
            max_timestamp: summary.max_timestamp,
            producer: summary.producer,
            is_transactional: summary.is_transactional,
            is_control: summary.is_control,
        }
    });
    Ok(read.collect())
}

fn segment(base: Offset, batches: usize, index: &[u8], time_index: &[u8]) -> SegmentEnd {
    let offsets = index.chunks_exact(OFFSET_ENTRY).map(|mut entry| OffsetEntry {
        offset: base + i64::from(entry.get_u32()),
        position: u64::from(entry.get_u32()),
    });
    let times = time_index
        .chunks_exact(TIME_ENTRY)
        .map(|mut entry| TimeEntry { timestamp: entry.get_i64(), offset: base + i64::from(entry.get_u32()) });
    SegmentEnd {
        base,
        batches,
        offsets: offsets.collect(),
        times: times.collect(),
        torn_bytes: index.len() % OFFSET_ENTRY + time_index.len() % TIME_ENTRY,
    }
}

/// The producers of a snapshot; or what is wrong with the file.
fn producers(bytes: &[u8]) -> Result<Vec<ProducerRow>, &'static str> {
    let (Some(mut head), Some(covered)) = (bytes.get(..SNAPSHOT_HEAD), bytes.get(SNAPSHOT_CRC_FROM..)) else {
        return Err("is shorter than its head");
    };
    let (version, crc, count) = (head.get_i16(), head.get_u32(), head.get_u32());
    let body = &bytes[SNAPSHOT_HEAD..];
    if version != SNAPSHOT_VERSION {
        return Err("has a version that nobody knows");
    }
    if crc_fast::crc32_iscsi(covered) != crc {
        return Err("has not the CRC-32C that it was written with");
    }
    if body.len() as u64 != u64::from(count) * SNAPSHOT_ENTRY as u64 {
        return Err("is not as long as its number of producers says");
    }
    Ok(body.chunks_exact(SNAPSHOT_ENTRY).map(producer).collect())
}

fn producer(mut entry: &[u8]) -> ProducerRow {
    let (id, epoch) = (ProducerId(entry.get_i64()), ProducerEpoch(entry.get_i16()));
    let (sequence, offset, offset_delta) = (entry.get_i32(), entry.get_i64(), entry.get_i32());
    let timestamp = entry.get_i64();
    let _coordinator_epoch = entry.get_i32();
    let transaction_start = entry.get_i64();
    ProducerRow {
        id,
        epoch,
        last: (sequence >= 0).then_some(LastBatch { sequence, offset: Offset(offset), offset_delta }),
        timestamp,
        transaction_start: (transaction_start >= 0).then_some(Offset(transaction_start)),
    }
}

/// The lines `epoch offset` of a leader epoch checkpoint, after its version and their count; or the line that is none.
fn epoch_starts(text: &[u8]) -> Result<Vec<(LeaderEpoch, Offset)>, String> {
    let text = String::from_utf8_lossy(text);
    let entries = text.lines().skip(2).map(|line| {
        let mut words = line.split(' ').map(str::parse::<i64>);
        match (words.next(), words.next(), words.next()) {
            (Some(Ok(epoch)), Some(Ok(start)), None) => {
                Ok((LeaderEpoch(i32::try_from(epoch).map_err(|_| line.to_owned())?), Offset(start)))
            }
            _ => Err(line.to_owned()),
        }
    });
    entries.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Kafka 4.3 wrote it after one idempotent batch of three records.
    const SNAPSHOT: [u8; 56] = [
        0x00, 0x01, 0xc8, 0x65, 0x93, 0xfa, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x02,
        0x00, 0x00, 0x01, 0xa1, 0xfd, 0xa1, 0x3b, 0xc3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff,
    ];

    #[test]
    fn a_snapshot_of_producers_is_read_as_kafka_writes_it() {
        let row = ProducerRow {
            id: ProducerId(0),
            epoch: ProducerEpoch(0),
            last: Some(LastBatch { sequence: 2, offset: Offset(2), offset_delta: 2 }),
            timestamp: 0x01a1_fda1_3bc3,
            transaction_start: None,
        };
        assert_eq!(producers(&SNAPSHOT), Ok(vec![row]));
        let mut open = SNAPSHOT;
        open[48..].copy_from_slice(&1_i64.to_be_bytes());
        let crc = crc_fast::crc32_iscsi(&open[SNAPSHOT_CRC_FROM..]);
        open[2..6].copy_from_slice(&crc.to_be_bytes());
        assert_eq!(producers(&open), Ok(vec![ProducerRow { transaction_start: Some(Offset(1)), ..row }]));
    }

    #[test]
    fn a_snapshot_that_is_cut_or_changed_anywhere_is_none() {
        for at in 0..SNAPSHOT.len() {
            assert!(producers(&SNAPSHOT[..at]).is_err(), "cut at {at}");
            let mut changed = SNAPSHOT;
            changed[at] ^= 1;
            assert!(producers(&changed).is_err(), "changed at {at}");
        }
    }

    #[test]
    fn entries_of_an_index_count_from_their_segments_base() {
        let index = [0, 0, 0, 4, 0, 0, 1, 0, 0x80, 0, 0, 0, 0x80, 0, 0, 1, 9];
        let times = [0, 0, 0, 0, 0, 0, 3, 0xe8, 0, 0, 0, 2, 7, 7];
        let read = segment(Offset(100), 5, &index, &times);
        let entry = |offset, position| OffsetEntry { offset: Offset(offset), position };
        assert_eq!(read.offsets, [entry(104, 256), entry(100 + (1 << 31), (1 << 31) + 1)]);
        assert_eq!(read.times, [TimeEntry { timestamp: 1000, offset: Offset(102) }]);
        assert_eq!((read.base, read.batches, read.torn_bytes), (Offset(100), 5, 1 + 2));
    }
}
