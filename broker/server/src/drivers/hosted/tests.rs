use super::*;
use crate::storage::mem_disk::{MemEnv, now};
use broker_types::{LeaderEpoch, NodeId, ProducerEpoch, ProducerId, ProducerStamp, TopicIdPartition, TopicName, Uuid};
use broker_wire::record_batch::{Compression, RecordBatchBuilder};
use std::sync::Arc;

const DIR: &str = "/data/orders-0";

fn open_small(env: &Arc<MemEnv>) -> Hosted {
    let env: SharedEnv = env.clone();
    let name = TopicPartition { topic: TopicName::from("orders"), partition: 0 };
    let config = ReplicaConfig::new(NodeId(1), TopicIdPartition { topic: Uuid(7), partition: 0 });
    // Two batches do not fit into one segment.
    let small = LogConfig { segment_bytes: 100, ..LogConfig::default() };
    let opened = open(&env, Path::new(DIR), name, config, small, OpenLog::default(), Offset::ZERO);
    now(opened).expect("the disk is well").0
}

/// The only record of the batch at `at`, of producer 5.
fn record(at: i32) -> LogBatch {
    let producer = ProducerStamp { id: ProducerId(5), epoch: ProducerEpoch(0), base_sequence: Some(at) };
    let mut builder = RecordBatchBuilder::new(Compression::None).producer(producer);
    builder.push(0, None, Some(b"v"), &[]).expect("it fits");
    Hosted::place(builder.build().expect("it has a record"), Offset(i64::from(at)), LeaderEpoch(0))
}

fn snapshots(env: &Arc<MemEnv>) -> Vec<Offset> {
    let env: &dyn broker_env::Env = &**env;
    now(list_producer_snapshots(env.disk(), Path::new(DIR))).expect("the disk is well")
}

/// The last sequence number that a start would know of.
fn known(env: &Arc<MemEnv>, hosted: &Hosted) -> Option<i32> {
    let env: SharedEnv = env.clone();
    let state = now(producers(&env, Path::new(DIR), &hosted.log, hosted.log.log_end(), MonoTime(0)));
    state.expect("the disk is well").get(ProducerId(5))?.batches().last().map(|batch| batch.last_sequence)
}

/// A segment rolls while batches are appended, and its snapshot is written before the machine hears of them. Under the name of
/// the log's new end it would hide them from the next start: their retries would look new, and be in the log twice.
#[test]
fn a_snapshot_at_a_roll_hides_no_batch_that_the_machine_has_not_heard_of() {
    let env = MemEnv::new();
    let mut hosted = open_small(&env);
    assert!(now(hosted.append(vec![record(0), record(1)])).expect("the disk is well"), "the second batch rolls");
    let shared: SharedEnv = env.clone();
    now(hosted.snapshot_producers(&shared)).expect("the disk is well");
    assert_eq!(snapshots(&env), [Offset(0)]);
    assert_eq!(known(&env, &hosted), Some(1));
}

/// The snapshot was synced, the batches below it were not, and a power loss took them. Other batches come to their offsets.
#[test]
fn a_snapshot_past_the_end_of_a_log_is_gone_once_the_log_is_open() {
    let env = MemEnv::new();
    let mut hosted = open_small(&env);
    now(hosted.append(vec![record(0)])).expect("the disk is well");
    drop(hosted);
    let shared: SharedEnv = env.clone();
    for end in [1, 2] {
        now(write_producer_snapshot(shared.disk(), Path::new(DIR), Offset(end), &[])).expect("the disk is well");
    }
    let mut hosted = open_small(&env);
    assert_eq!(snapshots(&env), [Offset(1)], "the one at the end of what is there stays");
    now(hosted.append(vec![record(1)])).expect("the disk is well");
    assert_eq!(known(&env, &hosted), Some(1));
}

/// A leader is elected in epoch 1 at offset 3 and writes so into the checkpoint, which is synced. It loses power, and its log,
/// which is not, ends at 2. The next leader has offset 3 of epoch 0, and this replica copies it. When it starts once more
/// its offset 3 must not pass for one of epoch 1: its leader never had that, and this replica would cut it.
#[test]
fn an_epoch_that_went_with_the_power_does_not_come_back_when_the_log_has_grown_past_its_beginning() {
    let env = MemEnv::new();
    let mut hosted = open_small(&env);
    now(hosted.append(vec![record(0), record(1)])).expect("the disk is well");
    drop(hosted);
    let shared: SharedEnv = env.clone();
    let rows = [(0, 0), (1, 3)].map(|(epoch, start)| EpochEntry { epoch: LeaderEpoch(epoch), start: Offset(start) });
    now(write_epoch_checkpoint(shared.disk(), &Path::new(DIR).join(EPOCHS), &rows)).expect("the disk is well");
    let mut hosted = open_small(&env);
    assert_eq!(hosted.replica.log().epochs().latest(), Some(LeaderEpoch(0)));
    now(hosted.append(vec![record(2), record(3)])).expect("the disk is well");
    drop(hosted);
    let hosted = open_small(&env);
    assert_eq!(hosted.log.log_end(), Offset(4));
    assert_eq!(hosted.replica.log().epochs().latest(), Some(LeaderEpoch(0)));
}
