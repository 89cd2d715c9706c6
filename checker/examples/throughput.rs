//! What judging costs: prints how long a million appends, and the whole suite on a million sends and three million
//! deliveries, take, and what one observation costs the white box.
//!
//! `cargo run --release -p checker --example throughput`

use broker_types::{
    LeaderEpoch, NodeId, Observation, Offset, ProducerEpoch, ProducerId, ProducerStamp, ReplicaRole, TopicIdPartition,
    Uuid,
};
use checker::{
    Acks, Context, EndState, History, Isolation, Op, OpId, OpKind, Outcome, Poll, Read, Send, SessionId, SimTime,
    ValueId, WhiteBox, judge,
};
use std::time::Instant;

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

#[expect(clippy::disallowed_methods, reason = "it measures the machine, and nothing depends on the figures")]
fn main() {
    let sends = 1_000_000;
    let mut history = History { ops: (0..sends).map(send).collect() };
    let started = Instant::now();
    let results = judge(&history, &Context::default());
    println!("1M acknowledged appends, all checks: {:?}", started.elapsed());
    assert!(results.iter().all(|result| result.violations.is_empty()));

    polls(sends, &mut history);
    let ctx = Context {
        final_reads_reached_end: (0..PARTITIONS).map(partition).collect(),
        excuses: Some([].into()),
        ..Context::default()
    };
    let started = Instant::now();
    let results = judge(&history, &ctx);
    println!("1M sends and 3M deliveries, all checks: {:?}", started.elapsed());
    for result in &results {
        println!("  {:24} {:?}, {} opportunities", result.id, result.outcome, result.opportunities);
    }

    let rounds = 1_000_000u64;
    let mut judge = WhiteBox::new(Context::default());
    let started = Instant::now();
    for round in 0..rounds {
        let (partition, base) = (partition(round), Offset((round / PARTITIONS) as i64));
        for node in 1..=3 {
            let role = if node == 1 { ReplicaRole::Leader } else { ReplicaRole::Follower };
            let leader_epoch = LeaderEpoch(0);
            let crc = round as u32;
            let base_sequence = Some(base.0 as i32);
            let producer = Some(ProducerStamp { id: ProducerId(1), epoch: ProducerEpoch(0), base_sequence });
            let fact = Observation::Appended {
                partition,
                base,
                last: base,
                leader_epoch,
                size: 100,
                crc,
                producer,
                is_transactional: false,
                is_control: false,
                role,
            };
            judge.observe(SimTime(round), NodeId(node), 0, &fact);
            let (high_watermark, log_end) = (base, base + 1);
            let fact = Observation::HighWatermark { partition, leader_epoch, high_watermark, log_end, role };
            judge.observe(SimTime(round), NodeId(node), 0, &fact);
        }
    }
    let each = started.elapsed() / (6 * rounds as u32);
    println!("white box: {each:?} per observation");
    assert!(judge.finish(&EndState::default()).iter().all(|result| result.violations.is_empty()));
}
