//! Storage on a disk in memory, with power losses.

mod files;
mod hostile;
mod log;
mod model;
mod recovery;

use super::mem_disk::{MemEnv, now};
use super::*;
use broker_types::{BatchSummary, LeaderEpoch, Offset};
use broker_wire::record_batch::{Compression, RecordBatch, RecordBatchBuilder};
use bytes::Bytes;
use std::path::Path;
use std::sync::Arc;

const DIR: &str = "/data/orders-0";

/// A batch of `records` records from `base` on, timestamps from `timestamp` on, with about `bytes` bytes.
fn batch(base: i64, records: i32, epoch: i32, timestamp: i64, bytes: usize) -> RecordBatch {
    let mut builder = RecordBatchBuilder::new(Compression::None).at(Offset(base), LeaderEpoch(epoch));
    let value = vec![base as u8; bytes / records as usize];
    for number in 0..records {
        builder.push(timestamp + i64::from(number), None, Some(&value), &[]).unwrap();
    }
    builder.build().unwrap()
}

/// As a leader hands it on: head and body apart.
fn split(batch: &RecordBatch) -> LogBatch {
    let bytes = batch.bytes();
    LogBatch { summary: batch.summary(), parts: [bytes.slice(..16), bytes.slice(16..)] }
}

fn append(log: &mut Log, batches: &[RecordBatch]) {
    now(log.append(batches.iter().map(split).collect())).unwrap();
}

/// Every byte from `from` to `up_to`.
fn read(log: &Log, from: i64, up_to: i64) -> Bytes {
    read_at_most(log, from, up_to, usize::MAX, true)
}

fn read_at_most(log: &Log, from: i64, up_to: i64, max_bytes: usize, min_one: bool) -> Bytes {
    let slices = now(log.read(Offset(from), max_bytes, Offset(up_to), min_one).unwrap().found()).unwrap();
    now(read_slices(&slices)).unwrap().concat().into()
}

fn bytes_of(batches: &[RecordBatch]) -> Vec<u8> {
    batches.iter().flat_map(|batch| batch.bytes().to_vec()).collect()
}

fn small() -> LogConfig {
    LogConfig { segment_bytes: 1000, index_interval_bytes: 150, ..LogConfig::default() }
}

fn open(env: &Arc<MemEnv>, config: LogConfig, opening: OpenLog) -> (Log, LoadedLog) {
    now(Log::open(env.clone(), Path::new(DIR), config, opening)).unwrap()
}

fn summaries(batches: &[RecordBatch]) -> Vec<BatchSummary> {
    batches.iter().map(RecordBatch::summary).collect()
}

fn names(env: &MemEnv, dir: &str) -> Vec<String> {
    use broker_env::Env;
    now(env.disk().list(Path::new(dir))).unwrap().into_iter().map(|entry| entry.name).collect()
}

fn content(env: &MemEnv, path: &str) -> Bytes {
    use broker_env::Env;
    now(read_whole(env.disk(), Path::new(path))).unwrap().unwrap_or_else(|| panic!("no file {path}"))
}
