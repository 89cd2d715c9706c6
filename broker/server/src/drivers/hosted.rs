//! One replica and its files: opening it, writing what its machine appends, rebuilding its producers.

use crate::storage::{
    EpochEntry, Log, LogBatch, LogConfig, OpenLog, ProducerSnapshotEntry, StorageError, list_producer_snapshots,
    read_epoch_checkpoint, read_producer_snapshot, remove_old_producer_snapshots, remove_producer_snapshots_beyond,
    write_epoch_checkpoint, write_producer_snapshot,
};
use broker_core::log::{LeaderEpochCache, ProducerSnapshotRow, ProducerState, RecoveredLog};
use broker_core::partition::{PartitionMetadata, Replica, ReplicaConfig};
use broker_env::SharedEnv;
use broker_types::{BatchSummary, MonoTime, Observation, Offset, TopicPartition};
use broker_wire::record_batch::RecordBatch;
use std::collections::BTreeMap;
use std::path::Path;

#[cfg(test)]
mod tests;

/// Name of the epoch checkpoint in a partition's directory.
const EPOCHS: &str = "leader-epoch-checkpoint";
/// Producer snapshots kept: the newest, and one that is older than the last segment.
const SNAPSHOTS_KEPT: usize = 2;

/// One partition's replica on this broker.
pub(super) struct Hosted {
    pub(super) name: TopicPartition,
    pub(super) replica: Replica,
    pub(super) log: Log,
    /// Bytes between their arrival and `Append` or `Discard`.
    pub(super) batches: BTreeMap<u64, RecordBatch>,
    /// What the machine was last told of the cluster.
    pub(super) told: Option<PartitionMetadata>,
    /// When the machine wants to be woken.
    pub(super) alarm: Option<MonoTime>,
    /// A flush is under way.
    pub(super) flushing: bool,
    /// The machine asked for a flush up to here while one was under way.
    pub(super) flush_again: Option<Offset>,
    /// Records appended since the last flush began.
    pub(super) unflushed: i64,
    /// First offset of the active segment, to notice a roll.
    active_base: Offset,
}

/// Opens a partition's log and brings its machine to life.
pub(super) async fn open(
    env: &SharedEnv,
    dir: &Path,
    name: TopicPartition,
    config: ReplicaConfig,
    log_config: LogConfig,
    opening: OpenLog,
    high_watermark: Offset,
) -> Result<(Hosted, Observation), StorageError> {
    let disk = env.disk();
    let (log, loaded) = Log::open(env.clone(), dir, log_config, opening).await?;
    let now = env.mono();
    let checkpoint = read_epoch_checkpoint(disk, &dir.join(EPOCHS)).await.unwrap_or_default();
    // What begins at the log's end or beyond was lost with the power, or nothing of it was ever written.
    let mut epochs = LeaderEpochCache::from_entries(
        checkpoint.iter().filter(|entry| entry.start < loaded.log_end).map(|entry| (entry.epoch, entry.start)),
    );
    // A checkpoint may be lost or older than the log (it is not synced with every append): the batches decide.
    let lost = checkpoint.is_empty();
    let mut scan = log.scan(if lost { loaded.log_start } else { loaded.recovered_from.unwrap_or(loaded.log_end) });
    while let Some(batch) = scan.next().await? {
        if let Some(epoch) = batch.leader_epoch
            && epochs.latest().is_none_or(|latest| epoch > latest)
        {
            epochs.assign(epoch, batch.base_offset);
        }
    }
    // An epoch that is dropped in memory only comes back at the next start, when the log has grown past its beginning:
    // records of another epoch would pass for its own, and this replica would cut them off although they are committed.
    let known = rows_of(&epochs);
    if known != checkpoint {
        write_epoch_checkpoint(disk, &dir.join(EPOCHS), &known).await?;
    }
    // A snapshot is durable before the batches below it are: after a power loss the log may end before it does, and goes on
    // with other batches. Or the process ended between a truncation and the removal of what it made wrong.
    remove_producer_snapshots_beyond(disk, dir, loaded.log_end).await?;
    let producers = producers(env, dir, &log, loaded.log_end, now).await?;
    let found = RecoveredLog {
        log_start: loaded.log_start,
        log_end: loaded.log_end,
        high_watermark,
        flushed_end: log.recovery_point(),
        epochs,
        producers,
    };
    let partition = config.partition;
    let replica = Replica::new(config, found, now);
    let fact = Observation::LogLoaded {
        partition,
        log_start: loaded.log_start,
        log_end: loaded.log_end,
        high_watermark: replica.log().offsets().high_watermark,
        truncated_bytes: loaded.truncated_bytes,
    };
    let active_base = active_base(&log);
    let hosted = Hosted {
        name,
        replica,
        log,
        batches: BTreeMap::new(),
        told: None,
        alarm: None,
        flushing: false,
        flush_again: None,
        unflushed: 0,
        active_base,
    };
    Ok((hosted, fact))
}

/// The lines of an epoch checkpoint.
fn rows_of(epochs: &LeaderEpochCache) -> Vec<EpochEntry> {
    epochs.entries().iter().map(|entry| EpochEntry { epoch: entry.epoch, start: entry.start }).collect()
}

fn active_base(log: &Log) -> Offset {
    log.active_base()
}

/// The producers as the log below `up_to` has them: the newest snapshot at or below, then every batch after it.
pub(super) async fn producers(
    env: &SharedEnv,
    dir: &Path,
    log: &Log,
    up_to: Offset,
    now: MonoTime,
) -> Result<ProducerState, StorageError> {
    let disk = env.disk();
    let mut from = log.log_start();
    let mut state = ProducerState::default();
    let mut snapshots = list_producer_snapshots(disk, dir).await?;
    snapshots.retain(|end| *end <= up_to && *end >= from);
    snapshots.sort();
    while let Some(end) = snapshots.pop() {
        // A snapshot that is torn or corrupt is passed over: the log says the same, more slowly.
        if let Ok(Some(entries)) = read_producer_snapshot(disk, dir, end).await {
            state = ProducerState::from_rows(entries.iter().map(row), now);
            from = end;
            break;
        }
    }
    let mut scan = log.scan(from);
    while let Some(batch) = scan.next().await? {
        if batch.base_offset >= up_to {
            break;
        }
        if batch.base_offset >= from {
            state.replay(batch.base_offset, &batch, now);
        }
    }
    Ok(state)
}

fn row(entry: &ProducerSnapshotEntry) -> ProducerSnapshotRow {
    ProducerSnapshotRow {
        id: entry.producer_id,
        epoch: entry.producer_epoch,
        last_sequence: entry.last_sequence,
        last_offset: entry.last_offset,
        offset_delta: entry.offset_delta,
        timestamp: entry.timestamp,
        transaction_start: entry.current_txn_first_offset,
    }
}

fn entry(row: &ProducerSnapshotRow) -> ProducerSnapshotEntry {
    ProducerSnapshotEntry {
        producer_id: row.id,
        producer_epoch: row.epoch,
        last_sequence: row.last_sequence,
        last_offset: row.last_offset,
        offset_delta: row.offset_delta,
        timestamp: row.timestamp,
        coordinator_epoch: -1,
        current_txn_first_offset: row.transaction_start,
    }
}

impl Hosted {
    /// Writes batches at the log's end. Says whether a segment was rolled: the old one is to be flushed.
    pub(super) async fn append(&mut self, batches: Vec<LogBatch>) -> Result<bool, StorageError> {
        self.unflushed += batches.iter().map(|batch| i64::from(batch.summary.record_count)).sum::<i64>();
        self.log.append(batches).await?;
        let base = active_base(&self.log);
        let rolled = base != self.active_base;
        self.active_base = base;
        Ok(rolled)
    }

    /// Writes the epoch checkpoint.
    pub(super) async fn checkpoint_epochs(&self, env: &SharedEnv) -> Result<(), StorageError> {
        let rows = rows_of(self.replica.log().epochs());
        write_epoch_checkpoint(env.disk(), &self.log.dir().join(EPOCHS), &rows).await
    }

    /// Writes a snapshot of the producers, and removes old ones. It is as of what the machine knows of: batches that were
    /// appended and that it was not told of yet are not in it, nor below its offset.
    pub(super) async fn snapshot_producers(&self, env: &SharedEnv) -> Result<(), StorageError> {
        let (disk, dir, log) = (env.disk(), self.log.dir(), self.replica.log());
        let entries: Vec<ProducerSnapshotEntry> = log.producers().rows().map(|row| entry(&row)).collect();
        write_producer_snapshot(disk, dir, log.offsets().log_end, &entries).await?;
        remove_old_producer_snapshots(disk, dir, SNAPSHOTS_KEPT).await
    }

    /// Snapshots beyond the log's end speak of batches that are gone.
    pub(super) async fn drop_snapshots_beyond(&self, env: &SharedEnv, end: Offset) -> Result<(), StorageError> {
        remove_producer_snapshots_beyond(env.disk(), self.log.dir(), end).await
    }

    /// The log's form of a batch that the machine placed.
    pub(super) fn place(batch: RecordBatch, at: Offset, epoch: broker_types::LeaderEpoch) -> LogBatch {
        let mut summary: BatchSummary = batch.summary();
        if summary.base_offset == at && summary.leader_epoch == Some(epoch) {
            return LogBatch { summary, parts: [batch.into_bytes(), bytes::Bytes::new()] };
        }
        summary.base_offset = at;
        summary.leader_epoch = Some(epoch);
        LogBatch { summary, parts: batch.assign(at, epoch) }
    }
}
