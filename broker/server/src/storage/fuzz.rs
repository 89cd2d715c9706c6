//! Targets for fuzzers: whatever lies on a disk is read without a panic, and what was made of it is read again.
//!
//! Only in tests and fuzzers' builds: the disk is one in memory.

use super::mem_disk::{MemEnv, now};
use super::*;
use crate::storage::segment::{INDEX, LOG, TIME_INDEX, file_name};
use broker_env::{Disk, Env, OpenMode};
use broker_types::{BatchSummary, LeaderEpoch, Offset};
use broker_wire::record_batch::{Compression, RecordBatchBuilder};
use bytes::Bytes;
use std::path::Path;
use std::sync::Arc;

const DIR: &str = "/data/orders-0";
/// Largest content of a compressed batch that is looked into.
const DECOMPRESSED_MAX_BYTES: usize = 64 << 10;

fn put(disk: &dyn Disk, path: &Path, bytes: &[u8]) {
    let file = now(disk.open(path, OpenMode::Create)).expect("the disk is well");
    now(file.truncate(0)).expect("the disk is well");
    now(file.append(vec![Bytes::copy_from_slice(bytes)])).expect("the disk is well");
}

/// Only what is wrong with the bytes is an error: the disk is well.
fn read<T>(outcome: Result<T, StorageError>) -> Option<T> {
    match outcome {
        Ok(value) => Some(value),
        Err(StorageError::Corrupt { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

/// The bytes as each of the small files. What can be read is written and read again.
pub fn fuzz_small_files(bytes: &[u8]) {
    let env = MemEnv::new();
    let disk = env.disk();
    let path = Path::new("/data/file");
    now(disk.create_dir_all(Path::new(DIR))).expect("the disk is well");
    macro_rules! again {
        ($read:ident, $write:ident, $found:pat => $value:expr) => {
            put(disk, path, bytes);
            if let Some(found) = read(now($read(disk, path))) {
                #[allow(irrefutable_let_patterns)]
                if let $found = &found {
                    now($write(disk, path, $value)).expect("the disk is well");
                    assert_eq!(read(now($read(disk, path))), Some(found));
                }
            }
        };
    }
    again!(read_offset_checkpoint, write_offset_checkpoint, offsets => offsets);
    again!(read_epoch_checkpoint, write_epoch_checkpoint, entries => entries);
    again!(read_partition_metadata, write_partition_metadata, Some(metadata) => *metadata);
    again!(read_meta_properties, write_meta_properties, Some(meta) => meta);
    again!(read_clean_shutdown, write_clean_shutdown, Some(mark) => *mark);
    again!(read_quorum_state, write_quorum_state, Some(state) => state);

    let end = Offset(7);
    put(disk, &file_name(Path::new(DIR), end, "snapshot"), bytes);
    if let Some(entries) = read(now(read_producer_snapshot(disk, Path::new(DIR), end))) {
        let entries = entries.expect("the file is there");
        now(write_producer_snapshot(disk, Path::new(DIR), end, &entries)).expect("the disk is well");
        assert_eq!(read(now(read_producer_snapshot(disk, Path::new(DIR), end))), Some(Some(entries)));
    }
}

/// Three bytes that say how the log is opened, then the files of up to two segments, each of the first five behind two
/// bytes of length.
///
/// Whatever the bytes, the log opens or says that they are corrupt. Once open it reads, finds by time, takes an append,
/// is cut and closed, and opens again where it ended.
pub fn fuzz_log(bytes: &[u8]) {
    let [how, point, second, rest @ ..] = bytes else { return };
    let env = MemEnv::new();
    now(env.disk().create_dir_all(Path::new(DIR))).expect("the disk is well");
    let mut rest = rest;
    let bases =
        [Offset(0), if how & 8 == 0 { Offset(i64::from(*second)) } else { Offset(i64::MAX - i64::from(*second)) }];
    for base in &bases[usize::from(how & 16 != 0)..] {
        for suffix in [LOG, INDEX, TIME_INDEX] {
            let mut content = rest;
            if let [high, low, tail @ ..] = rest {
                (content, rest) = tail.split_at(usize::from(u16::from_be_bytes([*high, *low])).min(tail.len()));
            } else {
                rest = &[];
            }
            put(env.disk(), &file_name(Path::new(DIR), *base, suffix), content);
        }
        if how & 1 == 0 {
            break;
        }
    }
    let opening = OpenLog {
        recovery_point: Offset(i64::from(*point)),
        log_start: if how & 2 == 0 { Offset::ZERO } else { Offset(i64::from(*point) / 2) },
        clean_shutdown: how & 4 != 0,
    };
    let config = LogConfig { segment_bytes: 1000, index_interval_bytes: 150, ..LogConfig::default() };
    let Some((log, loaded)) = read(now(Log::open(env.clone(), Path::new(DIR), config, opening))) else { return };
    assert!(loaded.log_start <= loaded.log_end, "{loaded:?}");
    use_log(log, &loaded, &env, config);
}

fn use_log(mut log: Log, loaded: &LoadedLog, env: &Arc<MemEnv>, config: LogConfig) {
    let (start, end) = (loaded.log_start, loaded.log_end);
    for from in [start, Offset(start.0 / 2 + end.0 / 2), end] {
        for max_bytes in [1, 300, usize::MAX] {
            let Ok(found) = log.read(from, max_bytes, end, true) else { continue };
            let Some(slices) = read(now(found.found())) else { continue };
            // What a log says it has is there, however wrong it may be.
            now(read_slices(&slices)).expect("the disk is well");
        }
    }
    let mut scan = log.scan(start);
    while let Some(Some(_)) = read(now(scan.next())) {}
    for timestamp in [i64::MIN, 0, 1000, i64::MAX] {
        read(now(log.offset_for_timestamp(timestamp, DECOMPRESSED_MAX_BYTES).run()));
    }
    read(now(log.offset_of_max_timestamp(DECOMPRESSED_MAX_BYTES).run()));

    // Beyond the largest offset nobody appends.
    if end.0 < i64::MAX - 10 {
        let epoch = loaded.batches.iter().filter_map(|batch: &BatchSummary| batch.leader_epoch).max();
        let mut builder = RecordBatchBuilder::new(Compression::None).at(end, epoch.unwrap_or(LeaderEpoch(0)));
        builder.push(2000, None, Some(&[7; 200]), &[]).expect("a small record");
        let batch = builder.build().expect("a small batch");
        let bytes = batch.bytes();
        let parts = [bytes.slice(..16), bytes.slice(16..)];
        now(log.append(vec![LogBatch { summary: batch.summary(), parts }])).expect("the disk is well");
        assert_eq!(log.log_end(), end + 1);
        let found = now(log.read(end, usize::MAX, end + 1, true).expect("within the log").found());
        let pieces = now(read_slices(&found.expect("it was just written"))).expect("the disk is well");
        assert_eq!(pieces.concat(), bytes[..]);
        read(now(log.truncate_to(end)));
    }
    let Some(closed_at) = read(now(log.close())) else { return };
    let opening = OpenLog { recovery_point: closed_at, log_start: Offset::ZERO, clean_shutdown: true };
    if let Some((log, again)) = read(now(Log::open(env.clone(), Path::new(DIR), config, opening))) {
        // Less of it only where a damaged index had the batches read again, and one of them had the wrong CRC.
        let cut = again.truncated_bytes > 0 && again.log_end < closed_at;
        assert!(cut || again.log_end == closed_at, "closed at {closed_at}: {again:?}");
        drop(log);
    }
}
