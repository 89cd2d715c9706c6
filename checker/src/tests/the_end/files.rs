//! The files beside the batches: a partition whose replicas have two segments and two snapshots of their producers, and every
//! way in which these may be wrong.

use super::Change;
use crate::convergence::{BatchEnd, EndState, PartitionEnd, ReplicaEnd};
use crate::storage::{LastBatch, OffsetEntry, ProducerRow, SegmentEnd, SnapshotEnd, TimeEntry};
use crate::tests::{fired, partition, told};
use crate::{CheckResult, Context, converged};
use broker_types::{NodeId, Offset, ProducerEpoch, ProducerId, ProducerStamp, TopicIdPartition};

/// `base`, `last`, bytes, largest timestamp, and of its producer: id, epoch, sequence of the first record.
type Written = (i64, i64, u32, i64, Option<(i64, i16, Option<i32>)>);

/// Producer 7 writes, and again in its next epoch; producer 8 writes in a transaction, which is ended at offset 13.
const BATCHES: [Written; 6] = [
    (0, 4, 100, 1000, Some((7, 0, Some(0)))),
    (5, 8, 80, 1040, Some((7, 0, Some(5)))),
    (9, 9, 70, 1020, Some((8, 1, Some(0)))),
    (10, 12, 90, 1050, Some((7, 1, Some(0)))),
    (13, 13, 78, 1060, Some((8, 1, None))),
    (14, 19, 200, 1045, None),
];

fn batch((base, last, size, max_timestamp, producer): Written) -> BatchEnd {
    let of_eight = producer.is_some_and(|(id, _, _)| id == 8);
    BatchEnd {
        base: Offset(base),
        last: Offset(last),
        crc: size,
        size,
        max_timestamp,
        producer: producer.map(|(id, epoch, base_sequence)| ProducerStamp {
            id: ProducerId(id),
            epoch: ProducerEpoch(epoch),
            base_sequence,
        }),
        is_transactional: of_eight,
        is_control: of_eight && last == 13,
        ..BatchEnd::default()
    }
}

fn segment(base: i64, batches: usize, offsets: &[(i64, u64)], times: &[(i64, i64)]) -> SegmentEnd {
    let offsets = offsets.iter().map(|(offset, position)| OffsetEntry { offset: Offset(*offset), position: *position });
    let times = times.iter().map(|(timestamp, offset)| TimeEntry { timestamp: *timestamp, offset: Offset(*offset) });
    SegmentEnd { base: Offset(base), batches, offsets: offsets.collect(), times: times.collect(), torn_bytes: 0 }
}

fn row(id: i64, epoch: i16, last: (i32, i64, i32), timestamp: i64, transaction_start: Option<i64>) -> ProducerRow {
    let (sequence, offset, offset_delta) = last;
    ProducerRow {
        id: ProducerId(id),
        epoch: ProducerEpoch(epoch),
        last: Some(LastBatch { sequence, offset: Offset(offset), offset_delta }),
        timestamp,
        transaction_start: transaction_start.map(Offset),
    }
}

fn snapshot(end: i64, rows: &[ProducerRow]) -> SnapshotEnd {
    SnapshotEnd { end: Offset(end), producers: Ok(rows.to_vec()) }
}

fn replica(node: NodeId) -> ReplicaEnd {
    ReplicaEnd {
        node,
        log_start: Offset(0),
        log_end: Offset(20),
        high_watermark: Offset(20),
        batches: BATCHES.map(batch).into(),
        file_digest: Some(8),
        damage: None,
        epoch_starts: None,
        segments: Some(vec![
            segment(0, 3, &[(8, 100), (9, 180)], &[(1040, 8)]),
            segment(10, 3, &[(13, 90), (19, 168)], &[(1050, 12), (1060, 13)]),
        ]),
        producer_snapshots: Some(vec![
            snapshot(10, &[row(7, 0, (8, 8, 3), 1040, None), row(8, 1, (0, 9, 0), 1020, Some(9))]),
            snapshot(20, &[row(7, 1, (2, 12, 2), 1050, None), row(8, 1, (0, 9, 0), 1060, None)]),
        ]),
        last_stable: None,
        cleaned: None,
    }
}

/// A partition that got well, beside that of [`super::well`].
pub(super) fn well() -> PartitionEnd {
    let nodes = [1, 2, 3].map(NodeId);
    PartitionEnd {
        partition: partition(1),
        leader: Some(NodeId(1)),
        isr: nodes.into(),
        assigned: nodes.into(),
        replicas: nodes.map(replica).into(),
    }
}

fn second(end: &mut EndState) -> &mut ReplicaEnd {
    &mut end.partitions[1].replicas[1]
}

fn segments(end: &mut EndState) -> &mut [SegmentEnd] {
    second(end).segments.as_mut().expect("they were read")
}

fn snapshots(end: &mut EndState) -> &mut Vec<SnapshotEnd> {
    second(end).producer_snapshots.as_mut().expect("they were read")
}

fn rows(end: &mut EndState, number: usize) -> &mut Vec<ProducerRow> {
    snapshots(end)[number].producers.as_mut().expect("it parses")
}

fn last(end: &mut EndState, number: usize) -> &mut LastBatch {
    rows(end, number)[0].last.as_mut().expect("it wrote")
}

pub(super) const CHANGES: &[(&str, &str, Change)] = &[
    ("index-entries", "offsets are out of order", |end| segments(end)[1].offsets.swap(0, 1)),
    ("index-entries", "zeros at the end of an index", |end| {
        // Zeros at the end, as where a file grew and nothing was written.
        segments(end)[1].offsets.push(OffsetEntry { offset: Offset(10), position: 0 });
    }),
    ("index-entries", "a position within a batch", |end| segments(end)[1].offsets[0].position = 91),
    ("index-entries", "a position at the end of the segment", |end| segments(end)[1].offsets[1].position = 368),
    ("index-entries", "a position past the log's end", |end| segments(end)[1].offsets[1].position = 5000),
    ("index-entries", "an offset that ends no batch", |end| segments(end)[0].offsets[0].offset = Offset(7)),
    ("index-entries", "half an entry at the end", |end| segments(end)[0].torn_bytes = 3),
    ("index-entries", "timestamps are out of order", |end| segments(end)[1].times.swap(0, 1)),
    ("index-entries", "a timestamp that no batch has", |end| segments(end)[1].times[1].timestamp = 1059),
    ("index-entries", "a timestamp at a batch that does not have it", |end| {
        segments(end)[1].times[1].offset = Offset(19);
    }),
    ("index-entries", "a timestamp at an offset within a batch", |end| segments(end)[1].times[1].offset = Offset(14)),
    ("index-entries", "a timestamp past the log's end", |end| segments(end)[1].times[1].offset = Offset(20)),
    ("index-entries", "a timestamp that is not the largest of its segment", |end| {
        segments(end)[0].times = vec![TimeEntry { timestamp: 1020, offset: Offset(9) }];
    }),
    ("index-entries", "a segment with no timestamp and another after it", |end| segments(end)[0].times.clear()),
    ("index-entries", "a timestamp where no batch has one", |end| {
        // A batch without a timestamp has an entry.
        end.partitions[1].replicas.iter_mut().for_each(|replica| replica.batches[0].max_timestamp = -1);
        segments(end)[0].times = vec![TimeEntry { timestamp: 1000, offset: Offset(4) }];
    }),
    ("index-entries", "a position of another batch in the metadata log", |end| {
        let mut log = second(end).clone();
        log.segments.as_mut().expect("they were read")[0].offsets[0].position = 0;
        end.metadata_logs = vec![log];
    }),
    ("producer-snapshot", "another last sequence", |end| last(end, 1).sequence = 1),
    ("producer-snapshot", "another last offset", |end| last(end, 1).offset = Offset(8)),
    ("producer-snapshot", "another offset delta", |end| last(end, 0).offset_delta = 0),
    ("producer-snapshot", "a producer that wrote has no batch", |end| rows(end, 1)[0].last = None),
    ("producer-snapshot", "an old epoch", |end| rows(end, 1)[0].epoch = ProducerEpoch(0)),
    ("producer-snapshot", "another timestamp", |end| rows(end, 1)[1].timestamp = 1020),
    ("producer-snapshot", "an open transaction is left out", |end| rows(end, 0)[1].transaction_start = None),
    ("producer-snapshot", "a transaction is open that is not", |end| {
        rows(end, 1)[1].transaction_start = Some(Offset(9));
    }),
    ("producer-snapshot", "a producer is missing", |end| rows(end, 1).truncate(1)),
    ("producer-snapshot", "a producer that never wrote", |end| rows(end, 1).push(row(9, 0, (0, 3, 0), 1000, None))),
    ("producer-snapshot", "a producer twice", |end| {
        let first = rows(end, 1)[0];
        rows(end, 1).push(first);
    }),
    ("producer-snapshot", "the producers of an earlier end under a later name", |end| {
        // What was known before the batches at 10 and 13 were appended, under the name of the log's end after them.
        let early = snapshots(end)[0].producers.clone();
        snapshots(end)[1].producers = early;
    }),
    ("producer-snapshot", "a snapshot past the log's end", |end| snapshots(end)[1].end = Offset(25)),
    ("producer-snapshot", "a snapshot at the log's beginning has a producer", |end| {
        snapshots(end).insert(0, snapshot(0, &[row(7, 0, (8, 8, 3), 1040, None)]));
    }),
    ("producer-snapshot", "a snapshot within a batch", |end| snapshots(end)[1].end = Offset(11)),
    ("producer-snapshot", "a snapshot that does not parse", |end| {
        snapshots(end)[1].producers = Err("has 7 bytes".to_owned());
    }),
];

fn judge(change: impl FnOnce(&mut EndState), ctx: &Context) -> Vec<CheckResult> {
    let mut end = EndState { partitions: vec![super::well().partitions.remove(0), well()], ..EndState::default() };
    change(&mut end);
    let results = converged(&end, ctx);
    results.into_iter().filter(|result| ["index-entries", "producer-snapshot"].contains(&&*result.id)).collect()
}

fn opportunities(results: &[CheckResult]) -> Vec<u64> {
    results.iter().map(|result| result.opportunities).collect()
}

#[test]
fn every_entry_and_every_producer_is_looked_at() {
    // Of each of three replicas: seven entries, and the end of one segment; twice two producers.
    assert_eq!(opportunities(&judge(|_| {}, &Context::default())), [24, 12]);
}

#[test]
fn files_that_nobody_read_prove_nothing() {
    let forget = |end: &mut EndState| {
        for replica in &mut end.partitions[1].replicas {
            (replica.segments, replica.producer_snapshots) = (None, None);
        }
    };
    assert_eq!(opportunities(&judge(forget, &Context::default())), [0, 0]);
}

#[test]
fn a_log_without_timestamps_needs_no_index_of_them() {
    let results = judge(
        |end| {
            for replica in &mut end.partitions[1].replicas {
                replica.batches.iter_mut().for_each(|batch| batch.max_timestamp = -1);
                replica.segments.as_mut().expect("they were read").iter_mut().for_each(|segment| segment.times.clear());
                replica.producer_snapshots = None;
            }
        },
        &Context::default(),
    );
    assert_eq!(fired(&results), Vec::<&str>::new(), "{}", told(&results));
}

/// Every replica has lost its first segment to DeleteRecords.
fn delete_the_beginning(end: &mut EndState) {
    for replica in &mut end.partitions[1].replicas {
        replica.log_start = Offset(10);
        replica.batches.drain(..3);
        replica.segments.as_mut().expect("they were read").remove(0);
    }
}

#[test]
fn a_snapshot_may_know_what_is_deleted_from_the_log() {
    let results = judge(delete_the_beginning, &Context::default());
    assert_eq!(fired(&results), Vec::<&str>::new(), "{}", told(&results));
    assert_eq!(opportunities(&results)[1], 6, "the snapshot at the log's new start cannot be tried");
    let stale = |end: &mut EndState| {
        delete_the_beginning(end);
        *last(end, 1) = LastBatch { sequence: 8, offset: Offset(8), offset_delta: 3 };
    };
    assert_eq!(fired(&judge(stale, &Context::default())), ["producer-snapshot"], "its next batch is still there");
    let stranger = |offset: i64| {
        judge(
            |end| {
                delete_the_beginning(end);
                rows(end, 1).push(row(9, 0, (0, offset, 0), 1000, None));
            },
            &Context::default(),
        )
    };
    assert_eq!(fired(&stranger(9)), Vec::<&str>::new(), "all that it wrote is deleted");
    assert_eq!(fired(&stranger(10)), ["producer-snapshot"], "no batch at offset 10 is of it");
}

#[test]
fn a_transaction_may_have_begun_in_what_is_deleted() {
    let still_open = |end: &mut EndState| {
        delete_the_beginning(end);
        for replica in &mut end.partitions[1].replicas {
            (replica.batches[1].is_control, replica.batches[1].producer) = (false, batch(BATCHES[2]).producer);
            let rows = replica.producer_snapshots.as_mut().expect("they were read")[1].producers.as_mut();
            rows.expect("it parses")[1] = row(8, 1, (0, 13, 0), 1060, Some(9));
        }
    };
    let results = judge(still_open, &Context::default());
    assert_eq!(fired(&results), Vec::<&str>::new(), "{}", told(&results));
}

#[test]
fn a_log_that_is_all_deleted_ends_where_its_segment_begins() {
    let results = judge(
        |end| {
            for replica in &mut end.partitions[1].replicas {
                (replica.batches, replica.log_end) = (Vec::new(), Offset(0));
                replica.segments = Some(vec![segment(20, 0, &[], &[])]);
            }
        },
        &Context::default(),
    );
    assert_eq!(fired(&results), Vec::<&str>::new(), "{}", told(&results));
}

#[test]
fn an_idle_producer_may_be_forgotten_where_the_configuration_says_so() {
    let forget = |end: &mut EndState| rows(end, 1).truncate(1);
    let ctx = Context { producers_expire: true, ..Context::default() };
    assert_eq!(fired(&judge(forget, &ctx)), Vec::<&str>::new());
    assert_eq!(fired(&judge(forget, &Context::default())), ["producer-snapshot"]);
    let after_a_marker = |end: &mut EndState| rows(end, 1)[1].last = None;
    assert_eq!(fired(&judge(after_a_marker, &ctx)), Vec::<&str>::new());
}

#[test]
fn the_metadata_log_is_read_as_well() {
    let metadata = |end: &mut EndState| end.metadata_logs = vec![replica(NodeId(101))];
    assert_eq!(opportunities(&judge(metadata, &Context::default())), [32, 16]);
    let broken = |end: &mut EndState| {
        metadata(end);
        end.metadata_logs[0].segments.as_mut().expect("they were read")[0].torn_bytes = 1;
    };
    let results = judge(broken, &Context::default());
    assert!(
        told(&results).contains(&Context::default().partition_name(TopicIdPartition::METADATA)),
        "{}",
        told(&results)
    );
}
