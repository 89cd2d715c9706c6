//! What judging costs, and how it grows: generated histories of 10^3 operations and more, tenfold each time. Of each it
//! prints the time, how many times that of the line above it is, and the most memory held so far.
//!
//! `cargo bench -p checker`, or `cargo bench -p checker -- 7` to go on to 10^7.

use broker_types::{
    LeaderEpoch, NodeId, Observation, Offset, ProducerEpoch, ProducerId, ProducerStamp, ReplicaRole, TopicIdPartition,
    Uuid,
};
use checker::{
    Acks, Context, EndState, History, Isolation, Op, OpId, OpKind, Outcome, Poll, Read, Send, SessionId, SimTime,
    ValueId, WhiteBox, judge,
};
use std::time::{Duration, Instant};

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

/// Appends alone: what is left is almost only the sweep over the log (L1).
fn appends(sends: u64) -> History {
    History { ops: (0..sends).map(send).collect() }
}

/// Appends, and three deliveries of each.
fn with_readers(sends: u64) -> History {
    let mut history = appends(sends);
    polls(sends, &mut history);
    history
}

fn judge_history(history: &History) {
    let ctx = Context {
        final_reads_reached_end: (0..PARTITIONS).map(partition).collect(),
        excuses: Some([].into()),
        ..Context::default()
    };
    let has_readers = history.ops.iter().any(|op| matches!(op.kind, OpKind::Poll(_)));
    let ctx = if has_readers { ctx } else { Context::default() };
    for result in judge(history, &ctx) {
        assert!(result.violations.is_empty(), "{}", result.id);
    }
}

/// Batches that a leader appends and two followers copy, each with its high watermark.
fn observe(batches: u64) {
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

/// The most memory that this process ever held, in megabytes; `None` where nobody says.
fn peak_megabytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? / 1024)
}

#[expect(clippy::disallowed_methods, reason = "it measures the machine, and nothing depends on the figures")]
fn grow(what: &str, decades: u32, unit: &str, mut run: impl FnMut(u64) -> Duration) {
    println!("{what}");
    let mut former: Option<Duration> = None;
    for decade in 3..=decades {
        let took = run(10u64.pow(decade));
        let factor =
            former.map_or(String::new(), |former| format!("{:5.1}x", took.as_secs_f64() / former.as_secs_f64()));
        let peak = peak_megabytes().map_or(String::new(), |peak| format!("{peak:6} MB"));
        println!("  10^{decade} {unit:12} {:>12} {factor:>7} {peak}", format!("{took:.1?}"));
        former = Some(took);
    }
}

#[expect(clippy::disallowed_methods, reason = "it measures the machine, and nothing depends on the figures")]
fn timed(act: impl FnOnce()) -> Duration {
    let started = Instant::now();
    act();
    started.elapsed()
}

fn main() {
    let wanted = std::env::args().skip(1).find_map(|word| word.parse::<u32>().ok());
    let decades = wanted.unwrap_or(6).clamp(3, 7);
    grow("white box: 6 observations a batch", decades, "batches", |batches| timed(|| observe(batches)));
    grow("black box: acknowledged appends", decades, "sends", |sends| {
        let history = appends(sends);
        timed(|| judge_history(&history))
    });
    grow("black box: appends and three deliveries of each", decades.min(6), "sends", |sends| {
        let history = with_readers(sends);
        timed(|| judge_history(&history))
    });
}
