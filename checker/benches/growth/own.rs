//! Histories of our own, and what a cluster tells of itself.

use broker_types::{
    LeaderEpoch, NodeId, Observation, Offset, ProducerEpoch, ProducerId, ProducerStamp, ReplicaRole, TopicIdPartition,
    Uuid,
};
use checker::{
    Acks, Context, EndState, History, Isolation, Op, OpId, OpKind, Outcome, Poll, Read, Send, SessionId, SimTime,
    ValueId, WhiteBox, judge, judge_log,
};

const PARTITIONS: u64 = 8;

fn partition(index: u64) -> TopicIdPartition {
    TopicIdPartition { topic: Uuid(7), partition: (index % PARTITIONS) as i32 }
}

fn send(value: u64) -> Op {
    let send = Send {
        partition: partition(value),
        value: ValueId(value),
        digest: value,
        acks: Acks::All,
        idempotent: true,
        offset: Some(Offset((value / PARTITIONS) as i64)),
        error: None,
        source: None,
        key: None,
        is_tombstone: false,
        balance: None,
    };
    Op {
        id: OpId(value),
        session: SessionId((value % 64) as u32),
        invoked: SimTime(value * 1000),
        returned: Some(SimTime(value * 1000 + 64_000)),
        outcome: Outcome::Ok,
        kind: OpKind::Send(send),
    }
}

/// Each of three readers gets everything, a hundred records a poll; the last reads at the end.
fn polls(sends: u64, history: &mut History) {
    let per_partition = sends / PARTITIONS;
    for reader in 0..3u32 {
        for index in 0..PARTITIONS {
            for position in (0..per_partition).step_by(100) {
                let end = (position + 100).min(per_partition);
                let read = |offset: u64| {
                    let value = offset * PARTITIONS + index;
                    let leader_epoch = Some(LeaderEpoch(0));
                    Read { offset: Offset(offset as i64), value: Some(ValueId(value)), digest: value, leader_epoch }
                };
                let poll = Poll {
                    partition: partition(index),
                    position: Offset(position as i64),
                    next_position: Offset(end as i64),
                    records: (position..end).map(read).collect(),
                    high_watermark: Some(Offset(per_partition as i64)),
                    last_stable: Some(Offset(per_partition as i64)),
                    log_start: Some(Offset(0)),
                    leader_epoch: Some(LeaderEpoch(0)),
                    broker: NodeId(1),
                    isolation: Isolation::ReadUncommitted,
                    is_final: reader == 2,
                    after_seek: position == 0,
                };
                let id = history.ops.len() as u64;
                let (invoked, session) = (SimTime(sends * 1000 + 100_000 + id), SessionId(100 + reader));
                let returned = Some(SimTime(invoked.0 + 10));
                history.ops.push(Op {
                    id: OpId(id),
                    session,
                    invoked,
                    returned,
                    outcome: Outcome::Ok,
                    kind: OpKind::Poll(poll),
                });
            }
        }
    }
}

/// Appends of 64 producers, one in flight each, to eight partitions.
pub(crate) fn appends(sends: u64) -> History {
    History { ops: (0..sends).map(send).collect() }
}

/// Appends, and three deliveries of each.
pub(crate) fn with_readers(sends: u64) -> History {
    let mut history = appends(sends);
    polls(sends, &mut history);
    history
}

/// Every black-box check.
pub(crate) fn judge_all(history: &History) {
    let has_readers = history.ops.iter().any(|op| matches!(op.kind, OpKind::Poll(_)));
    let mut ctx = Context::default();
    if has_readers {
        ctx.final_reads_reached_end = (0..PARTITIONS).map(partition).collect();
        ctx.excuses = Some([].into());
    }
    let results = judge(history, &ctx);
    assert!(results.iter().all(|result| result.violations.is_empty()));
}

/// The sweeps over logs alone, L1 to L4.
pub(crate) fn judge_logs(history: &History) {
    let results = judge_log(history, &Context::default());
    assert!(results.iter().all(|result| result.violations.is_empty()));
}

/// Batches that a leader appends and two followers copy, each with its high watermark.
pub(crate) fn observe(batches: u64) {
    let mut judge = WhiteBox::new(Context { max_batches: usize::MAX, ..Context::default() });
    for batch in 0..batches {
        let (partition, base) = (partition(batch), Offset((batch / PARTITIONS) as i64));
        for node in 1..=3 {
            let role = if node == 1 { ReplicaRole::Leader } else { ReplicaRole::Follower };
            let leader_epoch = LeaderEpoch(0);
            let base_sequence = Some(base.0 as i32);
            let producer = Some(ProducerStamp { id: ProducerId(1), epoch: ProducerEpoch(0), base_sequence });
            let fact = Observation::Appended {
                partition,
                base,
                last: base,
                leader_epoch,
                size: 100,
                crc: batch as u32,
                producer,
                is_transactional: false,
                is_control: false,
                role,
            };
            judge.observe(SimTime(batch), NodeId(node), 0, &fact);
            let (high_watermark, log_end) = (base, base + 1);
            let fact = Observation::HighWatermark { partition, leader_epoch, high_watermark, log_end, role };
            judge.observe(SimTime(batch), NodeId(node), 0, &fact);
        }
    }
    assert!(judge.finish(&EndState::default()).iter().all(|result| result.violations.is_empty()));
}
