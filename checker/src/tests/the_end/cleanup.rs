//! A partition whose policy is `compact,delete`, of which nothing is owed, and every way in which something may be.

use super::Change;
use crate::convergence::{BatchEnd, EndState, Idle, PartitionEnd, ReplicaEnd};
use crate::storage::SegmentEnd;
use crate::tests::partition;
use crate::{CheckOutcome, CheckResult, Cleanup, Compaction, Context, PartitionRules, converged};
use broker_types::{NodeId, Offset};

pub(super) const IDLE: Idle = Idle { since_ms: 100_000 };

/// What holds for the partition.
pub(super) fn ctx() -> Context {
    let compaction = Compaction { min_dirty_ppm: 500_000, min_lag_ms: 1000, max_lag_ms: Some(50_000) };
    let cleanup = Cleanup { retention_ms: Some(60_000), retention_bytes: Some(1000), compaction: Some(compaction) };
    let mut ctx = Context::default();
    let rules = PartitionRules { may_be_trimmed: true, compacted: true, cleanup, ..ctx.defaults };
    ctx.partitions.insert(partition(2), rules);
    ctx
}

/// Three segments of one batch each. The first was cleaned, the second has a record too young for that, the third is active.
fn replica(node: NodeId) -> ReplicaEnd {
    let batch = |base: i64, size: u32, max_timestamp: i64| BatchEnd {
        base: Offset(base),
        last: Offset(base + 9),
        size,
        max_timestamp,
        ..BatchEnd::default()
    };
    let segment = |base: i64| SegmentEnd {
        base: Offset(base),
        batches: 1,
        offsets: Vec::new(),
        times: Vec::new(),
        torn_bytes: 0,
    };
    ReplicaEnd {
        node,
        log_start: Offset(10),
        log_end: Offset(40),
        high_watermark: Offset(40),
        batches: vec![batch(10, 300, -1), batch(20, 300, -1), batch(30, 100, -1)],
        file_digest: Some(9),
        damage: None,
        epoch_starts: None,
        segments: Some([10, 20, 30].map(segment).into()),
        producer_snapshots: None,
        last_stable: Some(Offset(40)),
        cleaned: Some(Offset(20)),
    }
}

pub(super) fn well() -> PartitionEnd {
    let nodes = [1, 2, 3].map(NodeId);
    let mut partition = PartitionEnd {
        partition: partition(2),
        leader: Some(NodeId(1)),
        isr: nodes.into(),
        assigned: nodes.into(),
        replicas: nodes.map(replica).into(),
    };
    for replica in &mut partition.replicas {
        written(replica, [60_000, 99_500, 99_900]);
    }
    partition
}

/// The largest timestamp of each batch, and their entries in the indexes.
fn written(replica: &mut ReplicaEnd, timestamps: [i64; 3]) {
    let segments = replica.segments.iter_mut().flatten();
    for ((batch, segment), timestamp) in replica.batches.iter_mut().zip(segments).zip(timestamps) {
        batch.max_timestamp = timestamp;
        segment.times = vec![crate::TimeEntry { timestamp, offset: batch.last }];
    }
}

fn all(end: &mut EndState, change: impl Fn(&mut ReplicaEnd)) {
    end.partitions[2].replicas.iter_mut().for_each(change);
}

pub(super) const CHANGES: &[(&str, &str, Change)] = &[
    ("cleanup-progress", "the oldest segment is older than its retention", |end| {
        all(end, |replica| written(replica, [39_999, 99_500, 99_900]));
    }),
    ("cleanup-progress", "the other segments hold all that is to be retained", |end| {
        all(end, |replica| replica.batches[2].size = 700);
    }),
    ("cleanup-progress", "the log starts after its oldest segment", |end| {
        all(end, |replica| replica.log_start = Offset(20));
    }),
    ("cleanup-progress", "the active segment is older than its retention, and alone", |end| {
        let alone = |replica: &mut ReplicaEnd| {
            written(replica, [0, 0, 39_999]);
            replica.batches.drain(..2);
            replica.segments.as_mut().expect("they were read").drain(..2);
            replica.log_start = Offset(30);
        };
        all(end, alone);
    }),
    ("cleanup-progress", "the cleaner was never there", |end| all(end, |replica| replica.cleaned = None)),
    ("cleanup-progress", "more than half of a log is dirty", |end| {
        all(end, |replica| {
            written(replica, [60_000, 98_999, 99_900]);
            replica.batches[1].size = 301;
        });
    }),
    ("cleanup-progress", "a record is dirty for longer than it may be", |end| {
        all(end, |replica| written(replica, [60_000, 49_999, 99_900]));
    }),
];

fn judge(ctx: &Context, change: impl FnOnce(&mut EndState)) -> CheckResult {
    let mut end = super::well();
    change(&mut end);
    let results = converged(&end, ctx);
    results.into_iter().find(|result| result.id == "cleanup-progress").expect("it always gives a result")
}

fn passes(change: impl Fn(&mut ReplicaEnd)) {
    let result = judge(&ctx(), |end| all(end, change));
    assert_eq!(result.violations, Vec::new());
}

#[test]
fn nothing_is_owed_before_its_time() {
    // To the millisecond and to the byte.
    passes(|replica| written(replica, [40_000, 99_500, 99_900]));
    passes(|replica| replica.batches[2].size = 699);
    passes(|replica| replica.log_start = Offset(19));
    passes(|replica| written(replica, [60_000, 50_000, 99_900]));
    passes(|replica| {
        written(replica, [60_000, 99_000, 99_900]);
        replica.batches[1].size = 301;
    });
}

#[test]
fn nothing_is_owed_of_what_is_not_committed_or_not_stable() {
    passes(|replica| {
        written(replica, [39_999, 99_500, 99_900]);
        replica.high_watermark = Offset(19);
    });
    passes(|replica| (replica.cleaned, replica.last_stable) = (None, Some(Offset(19))));
    passes(|replica| (replica.cleaned, replica.last_stable, replica.high_watermark) = (None, None, Offset(19)));
}

#[test]
fn an_empty_log_and_records_without_a_time_are_of_no_age() {
    passes(|replica| {
        replica.batches.clear();
        let segments = replica.segments.as_mut().expect("they were read");
        segments.drain(..2);
        segments[0].batches = 0;
        replica.log_start = Offset(40);
    });
    passes(|replica| written(replica, [-1, 99_500, 99_900]));
}

#[test]
fn a_replica_counts_once_something_was_due() {
    assert_eq!(judge(&ctx(), |_| {}).opportunities, 3);
    let never = |end: &mut EndState| {
        all(end, |replica| {
            for (offset, batch) in (0..).step_by(10).zip(&mut replica.batches) {
                (batch.base, batch.last) = (Offset(offset), Offset(offset + 9));
            }
            (replica.log_start, replica.cleaned) = (Offset(0), None);
        });
    };
    let one = |log_start: i64, cleaned: Option<Offset>| {
        let change =
            move |replica: &mut ReplicaEnd| (replica.log_start, replica.cleaned) = (Offset(log_start), cleaned);
        judge(&Context::default(), |end| all(end, change)).opportunities
    };
    assert_eq!((one(10, None), one(0, Some(Offset(20)))), (3, 3), "a log was trimmed, or cleaned");
    let result = judge(&Context::default(), never);
    assert_eq!((result.outcome, result.opportunities), (CheckOutcome::Vacuous, 0), "no policy asks for anything");
    assert_eq!(judge(&ctx(), |end| end.idle = None).opportunities, 0, "nobody gave them the time");
    let unread = |end: &mut EndState| {
        all(end, |replica| (replica.segments, replica.log_start, replica.cleaned) = (None, Offset(0), None));
    };
    assert_eq!(judge(&ctx(), unread).opportunities, 0, "nobody looked at their disks");
}
