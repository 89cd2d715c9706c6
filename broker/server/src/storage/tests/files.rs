use super::*;
use broker_env::{Env, OpenMode};
use broker_types::{BrokerEpoch, ErrorCode, NodeId, ProducerEpoch, ProducerId, TopicPartition, Uuid};
use std::collections::BTreeMap;

/// As Kafka 4.3 wrote it after one idempotent batch of three records.
const KAFKA_SNAPSHOT: [u8; 56] = [
    0x00, 0x01, 0xc8, 0x65, 0x93, 0xfa, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00,
    0x01, 0xa1, 0xfd, 0xa1, 0x3b, 0xc3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
];

fn root() -> Arc<MemEnv> {
    let env = MemEnv::new();
    now(env.disk().create_dir_all(Path::new("/data/orders-0"))).unwrap();
    now(env.disk().sync_dir(Path::new("/"))).unwrap();
    now(env.disk().sync_dir(Path::new("/data"))).unwrap();
    env
}

fn put(env: &MemEnv, path: &str, text: &str) {
    now(write_whole(env.disk(), Path::new(path), Bytes::copy_from_slice(text.as_bytes()))).unwrap();
}

fn text(env: &MemEnv, path: &str) -> String {
    String::from_utf8(content(env, path).to_vec()).unwrap()
}

fn path(name: &str) -> &Path {
    Path::new(name)
}

#[test]
fn whenever_the_power_goes_a_file_is_the_old_one_or_the_new_one() {
    let mut outcomes = Vec::new();
    for steps in 0..8 {
        let env = root();
        put(&env, "/data/f", "old");
        *env.faults.changes_left.lock().unwrap() = Some(steps);
        let outcome = now(write_whole(env.disk(), path("/data/f"), Bytes::from_static(b"new!")));
        *env.faults.changes_left.lock().unwrap() = None;
        env.power_loss(|unsynced| unsynced / 2);
        let found = text(&env, "/data/f");
        assert!(found == "new!" || (found == "old" && outcome.is_err()), "after {steps} steps: {found}");
        outcomes.push(outcome.is_ok());
    }
    // Create, write, sync, rename, sync the directory.
    assert_eq!(outcomes, [false, false, false, false, false, true, true, true]);
}

#[test]
fn a_temporary_file_that_was_left_does_not_get_into_the_next_one() {
    let env = root();
    let left = now(env.disk().open(path("/data/f.tmp"), OpenMode::Create)).unwrap();
    now(left.append(vec![Bytes::from_static(b"something longer")])).unwrap();
    put(&env, "/data/f", "new");
    assert_eq!(text(&env, "/data/f"), "new");
}

#[test]
fn offset_checkpoints_read_as_kafka_writes_them() {
    let env = root();
    let offsets = BTreeMap::from([
        (TopicPartition::new("orders", 10), Offset(5)),
        (TopicPartition::new("orders-eu.v2", 0), Offset(i64::MAX)),
    ]);
    now(write_offset_checkpoint(env.disk(), path("/data/c"), &offsets)).unwrap();
    assert_eq!(text(&env, "/data/c"), "0\n2\norders 10 5\norders-eu.v2 0 9223372036854775807\n");
    assert_eq!(now(read_offset_checkpoint(env.disk(), path("/data/c"))).unwrap(), offsets);
    assert!(now(read_offset_checkpoint(env.disk(), path("/data/none"))).unwrap().is_empty());
    for wrong in ["1\n0\n", "0\n", "0\n2\na 0 1\n", "0\n1\na 0\n", "0\n1\na 0 x\n", "0\n1\na 0 1 2\n", "\u{0}\u{0}"] {
        put(&env, "/data/c", wrong);
        let read = now(read_offset_checkpoint(env.disk(), path("/data/c")));
        assert_eq!(read.map_err(|error| error.code()).err(), Some(ErrorCode::KafkaStorageError), "{wrong:?}");
    }
}

#[test]
fn a_leader_epoch_checkpoint_reads_as_kafka_writes_it() {
    let env = root();
    let entries = [
        EpochEntry { epoch: LeaderEpoch(0), start: Offset(0) },
        EpochEntry { epoch: LeaderEpoch(7), start: Offset(120) },
    ];
    now(write_epoch_checkpoint(env.disk(), path("/data/e"), &entries)).unwrap();
    assert_eq!(text(&env, "/data/e"), "0\n2\n0 0\n7 120\n");
    assert_eq!(now(read_epoch_checkpoint(env.disk(), path("/data/e"))).unwrap(), entries);
    put(&env, "/data/e", "0\n1\n0 0\n7 120\n");
    assert!(now(read_epoch_checkpoint(env.disk(), path("/data/e"))).is_err());
}

#[test]
fn partition_metadata_and_meta_properties_read_as_kafka_writes_them() {
    let env = root();
    let topic_id = Uuid::parse("A7fktjUiSV2HnERLPy2qZw").unwrap();
    now(write_partition_metadata(env.disk(), path("/data/p"), PartitionMetadata { topic_id })).unwrap();
    assert_eq!(text(&env, "/data/p"), "version: 0\ntopic_id: A7fktjUiSV2HnERLPy2qZw");
    assert_eq!(
        now(read_partition_metadata(env.disk(), path("/data/p"))).unwrap(),
        Some(PartitionMetadata { topic_id })
    );

    let kafkas = "#\n#Sat Nov 21 10:22:40 UTC 2026\nnode.id=1\ndirectory.id=HohchjeC6K1Q-cFyRuXqHg\nversion=1\n\
                  cluster.id=ggypMEN-PYXbDk1dnECZvA\n";
    put(&env, "/data/m", kafkas);
    let meta = now(read_meta_properties(env.disk(), path("/data/m"))).unwrap().unwrap();
    let expected = MetaProperties {
        cluster_id: "ggypMEN-PYXbDk1dnECZvA".into(),
        node_id: NodeId(1),
        directory_id: Uuid::parse("HohchjeC6K1Q-cFyRuXqHg"),
    };
    assert_eq!(meta, expected);
    now(write_meta_properties(env.disk(), path("/data/m"), &meta)).unwrap();
    assert_eq!(now(read_meta_properties(env.disk(), path("/data/m"))).unwrap(), Some(expected));
    for wrong in ["", "version=0\nbroker.id=1\n", "version=1\nnode.id=x\ncluster.id=c\n", "version=1\nnode.id=1\n"] {
        put(&env, "/data/m", wrong);
        assert!(now(read_meta_properties(env.disk(), path("/data/m"))).is_err(), "{wrong:?}");
    }
}

#[test]
fn the_clean_shutdown_file_tells_the_broker_epoch_and_is_not_trusted_when_odd() {
    let env = root();
    let mark = CleanShutdown::new(Some(BrokerEpoch(13)));
    now(write_clean_shutdown(env.disk(), path("/data/s"), mark)).unwrap();
    assert_eq!(text(&env, "/data/s"), r#"{"version":0,"brokerEpoch":13}"#);
    let read = now(read_clean_shutdown(env.disk(), path("/data/s"))).unwrap().unwrap();
    assert_eq!(read.broker_epoch(), Some(BrokerEpoch(13)));
    assert_eq!(CleanShutdown::new(None).broker_epoch(), None);
    for odd in ["", "{}", r#"{"version":9,"brokerEpoch":13}"#] {
        put(&env, "/data/s", odd);
        assert_eq!(now(read_clean_shutdown(env.disk(), path("/data/s"))).unwrap(), None, "{odd:?}");
    }
    now(remove_clean_shutdown(env.disk(), path("/data/s"))).unwrap();
    env.power_loss(|_| 0);
    assert_eq!(now(read_clean_shutdown(env.disk(), path("/data/s"))).unwrap(), None);
}

#[test]
fn a_vote_survives_the_power_in_kafkas_words() {
    let env = root();
    let state = QuorumStateFile {
        epoch: LeaderEpoch(7),
        leader: None,
        voted: Some(NodeId(102)),
        voters: vec![NodeId(101), NodeId(102)],
    };
    assert_eq!(now(read_quorum_state(env.disk(), path("/data/quorum-state"))).unwrap(), None);
    now(write_quorum_state(env.disk(), path("/data/quorum-state"), &state)).unwrap();
    env.power_loss(|_| 0);
    assert_eq!(
        text(&env, "/data/quorum-state"),
        r#"{"clusterId":"","leaderId":-1,"leaderEpoch":7,"votedId":102,"appliedOffset":0,"currentVoters":[{"voterId":101},{"voterId":102}],"data_version":0}"#
    );
    assert_eq!(now(read_quorum_state(env.disk(), path("/data/quorum-state"))).unwrap(), Some(state));
    let voted_id_is_gone = r#"{"clusterId":"","leaderId":-1,"leaderEpoch":7,"appliedOffset":0,"data_version":0}"#;
    for wrong in ["", "{", voted_id_is_gone] {
        put(&env, "/data/quorum-state", wrong);
        assert!(now(read_quorum_state(env.disk(), path("/data/quorum-state"))).is_err(), "{wrong:?}");
    }
}

#[test]
fn a_producer_snapshot_is_kafkas_to_the_byte() {
    let entry = ProducerSnapshotEntry {
        producer_id: ProducerId(0),
        producer_epoch: ProducerEpoch(0),
        last_sequence: Some(2),
        last_offset: Some(Offset(2)),
        offset_delta: 2,
        timestamp: 0x0000_01a1_fda1_3bc3,
        coordinator_epoch: -1,
        current_txn_first_offset: None,
    };
    let env = root();
    now(write_producer_snapshot(env.disk(), path(DIR), Offset(3), &[entry])).unwrap();
    assert_eq!(content(&env, "/data/orders-0/00000000000000000003.snapshot"), &KAFKA_SNAPSHOT[..]);
    assert_eq!(now(read_producer_snapshot(env.disk(), path(DIR), Offset(3))).unwrap(), Some(vec![entry]));
    now(write_producer_snapshot(env.disk(), path(DIR), Offset(20), &[])).unwrap();
    assert_eq!(now(list_producer_snapshots(env.disk(), path(DIR))).unwrap(), [Offset(3), Offset(20)]);
    now(remove_old_producer_snapshots(env.disk(), path(DIR), 1)).unwrap();
    assert_eq!(now(read_producer_snapshot(env.disk(), path(DIR), Offset(3))).unwrap(), None);
    assert_eq!(now(list_producer_snapshots(env.disk(), path(DIR))).unwrap(), [Offset(20)]);

    for position in 0..KAFKA_SNAPSHOT.len() {
        let mut wrong = KAFKA_SNAPSHOT.to_vec();
        wrong[position] ^= 1;
        assert!(producer_snapshot::decode(&wrong).is_err(), "changed at {position}");
        assert!(producer_snapshot::decode(&KAFKA_SNAPSHOT[..position]).is_err(), "cut at {position}");
    }
}

#[test]
fn a_log_directory_tells_what_is_in_it() {
    let env = MemEnv::new();
    let data = Path::new("/disk/data");
    let (dir, contents) = now(LogDir::open(env.clone(), data)).unwrap();
    assert_eq!((contents.meta, contents.clean_shutdown, contents.partitions.len()), (None, None, 0));

    let meta = MetaProperties { cluster_id: "c".into(), node_id: NodeId(2), directory_id: Some(Uuid(5)) };
    now(dir.write_meta(&meta)).unwrap();
    let (orders, dashed) = (TopicPartition::new("orders", 11), TopicPartition::new("a-1.b", 0));
    let gone = TopicPartition::new(&"x".repeat(249), 3);
    for (partition, id) in [(&orders, 1), (&dashed, 2), (&gone, 3)] {
        now(dir.create_partition(partition, Uuid(id))).unwrap();
    }
    assert!(now(dir.create_partition(&orders, Uuid(9))).is_err(), "another topic of the same name");
    now(dir.create_partition(&orders, Uuid(1))).unwrap();
    let deleted = now(dir.begin_delete(&gone, 0xabc)).unwrap();
    assert!(deleted.file_name().unwrap().len() <= 255);
    now(dir.write_recovery_points(&BTreeMap::from([(orders.clone(), Offset(4))]))).unwrap();
    now(dir.write_high_watermarks(&BTreeMap::from([(orders.clone(), Offset(3))]))).unwrap();
    now(dir.write_log_starts(&BTreeMap::from([(orders.clone(), Offset(2))]))).unwrap();
    now(dir.write_clean_shutdown(CleanShutdown::new(None))).unwrap();
    // Half a partition, as a power loss leaves it, and things that are no partition.
    for name in ["half-0", "orders-011", "orders", "-1", "lost+found"] {
        now(env.disk().create_dir_all(&data.join(name))).unwrap();
    }
    now(env.disk().sync_dir(data)).unwrap();
    env.power_loss(|_| 0);

    let (dir, contents) = now(LogDir::open(env.clone(), data)).unwrap();
    assert_eq!(contents.meta, Some(meta));
    assert_eq!(contents.clean_shutdown, Some(CleanShutdown::new(None)));
    assert!(contents.is_recovered(), "its logs are taken at their word");
    let found: Vec<_> = contents.partitions.iter().map(|dir| (dir.partition.to_string(), dir.topic_id)).collect();
    let expected = [("a-1.b-0", Some(Uuid(2))), ("half-0", None), ("orders-11", Some(Uuid(1)))];
    assert_eq!(found, expected.map(|(name, id)| (name.to_owned(), id)));
    assert_eq!(contents.deleted, std::slice::from_ref(&deleted));
    assert_eq!(contents.recovery_points[&orders], Offset(4));
    assert_eq!((contents.high_watermarks[&orders], contents.log_starts[&orders]), (Offset(3), Offset(2)));
    now(dir.finish_delete(&deleted)).unwrap();
    now(dir.finish_delete(&deleted)).unwrap();
    now(dir.set_aside_stray(&dashed, 1)).unwrap();
    now(dir.remove_clean_shutdown()).unwrap();
    let (_, mut contents) = now(LogDir::open(env, data)).unwrap();
    assert_eq!((contents.deleted.len(), contents.strays.len(), contents.partitions.len()), (0, 1, 2));
    assert_eq!(contents.clean_shutdown, None);
    assert!(!contents.is_recovered(), "two logs were not opened since the end that was not clean");
    contents.partitions.clear();
    assert!(contents.is_recovered());
}

#[test]
fn an_offset_checkpoint_that_makes_no_sense_does_not_stop_the_start() {
    let env = root();
    put(&env, "/data/recovery-point-offset-checkpoint", "torn");
    let (_, contents) = now(LogDir::open(env, path("/data"))).unwrap();
    assert!(contents.recovery_points.is_empty());
}

#[test]
fn a_snapshot_of_what_was_truncated_does_not_come_back_with_the_power() {
    let env = root();
    for end in [10, 20, 30] {
        now(write_producer_snapshot(env.disk(), path(DIR), Offset(end), &[])).unwrap();
    }
    now(remove_producer_snapshots_beyond(env.disk(), path(DIR), Offset(20))).unwrap();
    env.power_loss(|_| 0);
    assert_eq!(now(list_producer_snapshots(env.disk(), path(DIR))).unwrap(), [Offset(10), Offset(20)]);
}
