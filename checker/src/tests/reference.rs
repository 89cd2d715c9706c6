//! A cluster in one struct: sequential, in memory, correct by construction. It makes histories that are legal and odd:
//! writes without a known outcome that did or did not take effect, or did later; duplicates without idempotence; seeks;
//! leaders that change and lose what acks=1 left on them; transactions that commit, abort, or end without a known outcome, and
//! producers that are fenced while theirs is open; groups whose members come, crash, and are left behind, and that consume,
//! transform and produce; transfers between accounts; compaction; and topics and
//! voters that come and go.

mod bank;
mod controller;
mod groups;

pub(super) use groups::Does;

use crate::context::{Context, Excuse, ExcuseKind, PartitionRules};
use crate::history::*;
use broker_types::{LeaderEpoch, NodeId, Offset, ProducerEpoch, ProducerId, TopicId, TopicIdPartition};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug)]
pub(super) enum Step {
    Send { session: u32, partition: i32, acks: Acks, idempotent: bool, came: Came, lasts: u64 },
    Poll { session: u32, partition: i32, most: usize, lasts: u64 },
    Seek { session: u32, partition: i32, to: u8 },
    TailRead { session: u32, partition: i32, lasts: u64 },
    Replicate { partition: i32 },
    ChangeLeader { partition: i32 },
    Transactional { producer: u32, what: What, lasts: u64 },
    FetchOffset { session: u32 },
    Group { group: u32, does: Does, lasts: u64 },
    Transfer { from: u64, to: u64, amount: i64, came: bank::Came },
    Compact { partition: i32 },
    Controller { asks: controller::Asks, session: u32, known: Option<bool>, lasts: u64 },
}

/// What a transactional producer does. What it cannot do at the moment, it leaves.
#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    /// A new session takes the id over; an open transaction is aborted.
    Init,
    /// To a partition, in a transaction: one begins if none is open.
    Send(i32),
    /// A group's offset is committed in the transaction.
    Offset,
    /// The transaction ends. `None`: the outcome is known.
    End { commit: bool, unknown: Option<bool> },
    /// The session before this one wakes up and sends.
    Zombie(i32),
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Came {
    Ok,
    Refused,
    Unknown {
        took_effect: bool,
    },
    /// Without idempotence: taken effect, and again after a retry.
    Twice,
    /// Without idempotence: takes effect some steps later.
    Late,
}

pub(crate) fn partition(index: i32) -> TopicIdPartition {
    TopicIdPartition { topic: TopicId::parse("AAAAAAAAAAAAAAAAAAAABw").expect("22 characters"), partition: index }
}

pub(super) fn digest(value: ValueId) -> u64 {
    value.0.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[derive(Clone, Copy)]
struct Record {
    /// `None`: the marker of a transaction's end.
    value: Option<ValueId>,
    epoch: LeaderEpoch,
    transaction: Option<usize>,
    key: Option<u64>,
    is_tombstone: bool,
    /// Compaction took it.
    is_gone: bool,
}

/// Where the bank keeps its accounts, and where keys are written without transactions: both are compacted.
const ACCOUNTS: i32 = 4;
const KEYED: i32 = 5;

#[derive(Clone, Copy, PartialEq)]
enum State {
    Open,
    Committed,
    Aborted,
}

#[derive(Default)]
struct Producer {
    /// Sessions so far.
    sessions: u32,
    transaction: Option<usize>,
    /// Its outcome is unknown to the session, which can do no more.
    is_stuck: bool,
    /// The offset to be committed.
    offset: Option<Offset>,
}

#[derive(Default)]
struct Log {
    records: Vec<Record>,
    high_watermark: usize,
    epoch: LeaderEpoch,
    late: Vec<Record>,
    excuses: Vec<Excuse>,
}

/// The cluster.
#[derive(Default)]
struct Cluster {
    now: u64,
    values: u64,
    logs: BTreeMap<i32, Log>,
    positions: BTreeMap<(u32, i32), (usize, bool)>,
    producers: BTreeMap<u32, Producer>,
    transactions: Vec<State>,
    offsets: i64,
    committed_offset: Option<Offset>,
    groups: BTreeMap<u32, groups::Group>,
    bank: bank::Bank,
    controller: controller::Controller,
    history: History,
}

impl Cluster {
    fn op(&mut self, session: u32, outcome: Outcome, lasts: u64, kind: OpKind) {
        let (id, invoked) = (OpId(self.history.ops.len() as u64), SimTime(self.now * 1_000_000));
        let returned = Some(SimTime((self.now + 2 + lasts) * 1_000_000));
        self.history.ops.push(Op { id, session: SessionId(session), invoked, returned, outcome, kind });
    }

    fn step(&mut self, step: &Step) {
        self.now += 10;
        match *step {
            Step::Send { session, partition, acks, idempotent, came, lasts } => {
                self.send(session, partition, acks, idempotent, came, lasts);
            }
            Step::Poll { session, partition, most, lasts } => self.poll(session, partition, most, lasts, false),
            Step::Seek { session, partition, to } => {
                let end = self.logs.entry(partition).or_default().high_watermark;
                self.positions.insert((session, partition), (usize::from(to) % (end + 1), true));
            }
            Step::TailRead { session, partition: at, lasts } => {
                let log = self.logs.entry(at).or_default();
                let (end, leader_epoch) = (Offset(log.high_watermark as i64), Some(log.epoch));
                let read = TailRead { partition: partition(at), end, broker: NodeId(1), leader_epoch };
                self.op(session, Outcome::Ok, lasts, OpKind::TailRead(read));
            }
            Step::Replicate { partition } => self.replicate(partition),
            Step::Transactional { producer, what, lasts } => self.transactional(producer, what, lasts),
            Step::FetchOffset { session } => {
                let offsets = vec![(partition(0), self.committed_offset)];
                let fetch = FetchOffsets { group: "billing".to_owned(), require_stable: true, offsets };
                self.op(session, Outcome::Ok, 0, OpKind::FetchOffsets(fetch));
            }
            Step::Group { group, does, lasts } => self.group(group, does, lasts),
            Step::Transfer { from, to, amount, came } => self.transfer((from, to), amount, came),
            Step::Compact { partition } => self.compact(partition),
            Step::Controller { asks, session, known, lasts } => self.controller(asks, session, known, lasts),
            Step::ChangeLeader { partition } => {
                let now = SimTime(self.now * 1_000_000);
                let log = self.logs.entry(partition).or_default();
                log.records.truncate(log.high_watermark);
                log.epoch = log.epoch.next();
                log.excuses.push(Excuse { kind: ExcuseKind::LeaderChange, at: now, until: Some(now) });
            }
        }
    }

    fn replicate(&mut self, partition: i32) {
        let log = self.logs.entry(partition).or_default();
        let epoch = log.epoch;
        log.records.extend(log.late.drain(..).map(|record| Record { epoch, ..record }));
        log.high_watermark = log.records.len();
    }

    fn send(&mut self, session: u32, at: i32, acks: Acks, idempotent: bool, came: Came, lasts: u64) {
        // Kafka's client is idempotent with acks=all only. Sessions are one or the other.
        let idempotent = idempotent && acks == Acks::All;
        let session = session + if idempotent { 10 } else { 20 };
        self.values += 1;
        let value = ValueId(self.values);
        let log = self.logs.entry(at).or_default();
        let key = (at == KEYED).then_some(self.values % 3);
        let is_tombstone = key.is_some() && self.values.is_multiple_of(4);
        let record =
            Record { value: Some(value), epoch: log.epoch, transaction: None, key, is_tombstone, is_gone: false };
        let offset = Offset(log.records.len() as i64);
        let came = match came {
            Came::Twice | Came::Late if idempotent => Came::Ok,
            came => came,
        };
        match came {
            Came::Ok | Came::Unknown { took_effect: true } => log.records.push(record),
            Came::Twice => log.records.extend([record, record]),
            Came::Late => log.late.push(record),
            Came::Refused | Came::Unknown { took_effect: false } => {}
        }
        if acks == Acks::All && matches!(came, Came::Ok | Came::Twice) {
            log.high_watermark = log.records.len();
        }
        let (outcome, offset, error) = match came {
            Came::Ok => (Outcome::Ok, Some(offset), None),
            // Only the retry was answered.
            Came::Twice => (Outcome::Ok, Some(offset + 1), None),
            Came::Refused => (Outcome::Fail, None, Some("NOT_ENOUGH_REPLICAS".to_owned())),
            _ => (Outcome::Unknown, None, Some("REQUEST_TIMED_OUT".to_owned())),
        };
        let offset = offset.filter(|_| acks != Acks::None);
        let send = Send { acks, idempotent, offset, error, key, is_tombstone, ..sent(at, value) };
        self.op(session, outcome, lasts, OpKind::Send(send));
    }

    fn poll(&mut self, session: u32, at: i32, most: usize, lasts: u64, is_final: bool) {
        let isolation = if session.is_multiple_of(2) { Isolation::ReadUncommitted } else { Isolation::ReadCommitted };
        let log = self.logs.entry(at).or_default();
        let (position, after_seek) = self.positions.get(&(session, at)).copied().unwrap_or((0, true));
        let is_open = |record: &Record| record.transaction.is_some_and(|at| self.transactions[at] == State::Open);
        let last_stable = log.records.iter().position(is_open).unwrap_or(usize::MAX).min(log.high_watermark);
        let bound = if isolation == Isolation::ReadCommitted { last_stable } else { log.high_watermark };
        let next = (position + most).min(bound).max(position);
        let is_aborted = |record: &Record| record.transaction.is_some_and(|at| self.transactions[at] == State::Aborted);
        let records = (position..next).filter_map(|offset| {
            let record = log.records[offset];
            let value = record.value.filter(|_| !record.is_gone)?;
            let value = Some(value).filter(|_| isolation == Isolation::ReadUncommitted || !is_aborted(&record))?;
            let (offset, leader_epoch) = (Offset(offset as i64), Some(record.epoch));
            Some(Read { offset, value: Some(value), digest: digest(value), leader_epoch })
        });
        let poll = Poll {
            partition: partition(at),
            position: Offset(position as i64),
            next_position: Offset(next as i64),
            records: records.collect(),
            high_watermark: Some(Offset(log.high_watermark as i64)),
            last_stable: Some(Offset(last_stable as i64)),
            log_start: Some(Offset(0)),
            leader_epoch: Some(log.epoch),
            broker: NodeId(1),
            isolation,
            is_final,
            after_seek,
        };
        self.positions.insert((session, at), (next, false));
        self.op(session, Outcome::Ok, lasts, OpKind::Poll(poll));
    }

    fn transactional(&mut self, number: u32, what: What, lasts: u64) {
        let mut producer = self.producers.remove(&number).unwrap_or_default();
        let session = 1000 * (number + 1) + producer.sessions;
        let is_able = producer.sessions > 0 && !producer.is_stuck;
        match what {
            What::Init => {
                self.end(&mut producer, State::Aborted);
                producer.sessions += 1;
                producer.is_stuck = false;
                let told = (ProducerId(i64::from(number)), ProducerEpoch(producer.sessions as i16));
                let transactional_id = format!("transaction-{number}");
                let init = InitProducer { transactional_id, producer: Some(told), error: None };
                self.op(session + 1, Outcome::Ok, lasts, OpKind::InitProducer(init));
            }
            What::Send(at) if is_able => {
                let transaction = self.begun(&mut producer, session);
                let offset = self.append(at, transaction, None);
                self.transactional_send(session, at, Outcome::Ok, Some(offset), lasts);
            }
            What::Offset if is_able => {
                self.begun(&mut producer, session);
                self.offsets += 1;
                producer.offset = Some(Offset(self.offsets));
                let offsets = vec![(partition(0), Offset(self.offsets))];
                let commit = CommitOffsets { group: "billing".to_owned(), offsets, error: None, generation: None };
                self.op(session, Outcome::Ok, lasts, OpKind::CommitOffsets(commit));
            }
            What::End { commit, unknown } if is_able && producer.transaction.is_some() => {
                if unknown != Some(false) {
                    self.end(&mut producer, if commit { State::Committed } else { State::Aborted });
                }
                producer.is_stuck = unknown.is_some();
                let error = unknown.map(|_| "REQUEST_TIMED_OUT".to_owned());
                let outcome = if unknown.is_some() { Outcome::Unknown } else { Outcome::Ok };
                self.op(session, outcome, lasts, OpKind::EndTransaction(EndTransaction { commit, error }));
            }
            What::Zombie(at) if producer.sessions > 1 => {
                self.transactional_send(session - 1, at, Outcome::Fail, None, lasts);
            }
            What::Send(_) | What::Offset | What::End { .. } | What::Zombie(_) => {}
        }
        self.producers.insert(number, producer);
    }

    fn transactional_send(&mut self, session: u32, at: i32, outcome: Outcome, offset: Option<Offset>, lasts: u64) {
        self.values += u64::from(outcome == Outcome::Fail);
        let value = ValueId(self.values);
        let error = (outcome == Outcome::Fail).then(|| "INVALID_PRODUCER_EPOCH".to_owned());
        self.op(session, outcome, lasts, OpKind::Send(Send { offset, error, ..sent(at, value) }));
    }

    /// The producer's transaction.
    fn begun(&mut self, producer: &mut Producer, session: u32) -> usize {
        if let Some(transaction) = producer.transaction {
            return transaction;
        }
        self.op(session, Outcome::Ok, 0, OpKind::Begin);
        self.transactions.push(State::Open);
        producer.transaction = Some(self.transactions.len() - 1);
        self.transactions.len() - 1
    }

    /// Appends the next value, replicated at once.
    fn append(&mut self, at: i32, transaction: usize, key: Option<u64>) -> Offset {
        self.values += 1;
        let log = self.logs.entry(at).or_default();
        log.records.push(Record {
            value: Some(ValueId(self.values)),
            epoch: log.epoch,
            transaction: Some(transaction),
            key,
            is_tombstone: false,
            is_gone: false,
        });
        log.high_watermark = log.records.len();
        Offset(log.records.len() as i64 - 1)
    }

    /// The open transaction's end: a marker in each log that has records of it.
    fn end(&mut self, producer: &mut Producer, state: State) {
        let offset = producer.offset.take();
        let Some(transaction) = producer.transaction.take() else { return };
        if state == State::Committed {
            self.committed_offset = offset.or(self.committed_offset);
        }
        self.decide(transaction, state);
    }

    fn decide(&mut self, transaction: usize, state: State) {
        self.transactions[transaction] = state;
        for log in self.logs.values_mut() {
            if log.records.iter().any(|record| record.transaction == Some(transaction)) {
                let (epoch, transaction) = (log.epoch, Some(transaction));
                let marker = Record { value: None, epoch, transaction, key: None, is_tombstone: false, is_gone: false };
                log.records.push(marker);
                log.high_watermark = log.records.len();
            }
        }
    }

    /// The cleaner takes what was aborted, what a later record of its key replaces, and tombstones of which nothing older was
    /// left, up to the last stable offset.
    fn compact(&mut self, at: i32) {
        let log = self.logs.entry(at).or_default();
        let state = |record: &Record| record.transaction.map(|transaction| self.transactions[transaction]);
        let open = log.records.iter().position(|record| state(record) == Some(State::Open));
        let end = open.unwrap_or(usize::MAX).min(log.high_watermark);
        let mut older: BTreeSet<u64> = BTreeSet::new();
        for record in log.records[..end].iter_mut().filter(|record| !record.is_gone) {
            let Some(key) = record.key else { continue };
            record.is_gone = older.insert(key) && record.is_tombstone;
        }
        let mut later: BTreeSet<u64> = BTreeSet::new();
        for record in log.records[..end].iter_mut().rev().filter(|record| record.value.is_some()) {
            let is_aborted = record.transaction.is_some_and(|at| self.transactions[at] == State::Aborted);
            let is_replaced = !is_aborted && record.key.is_some_and(|key| !later.insert(key));
            record.is_gone |= is_aborted || is_replaced;
        }
    }
}

/// A record as most are sent.
pub(crate) fn sent(at: i32, value: ValueId) -> Send {
    Send {
        partition: partition(at),
        value,
        digest: digest(value),
        acks: Acks::All,
        idempotent: true,
        offset: None,
        error: None,
        source: None,
        key: None,
        is_tombstone: false,
        balance: None,
    }
}

/// What the cluster does, and the context it is judged in.
pub(super) fn run(steps: &[Step]) -> (History, Context) {
    let mut cluster = Cluster::default();
    steps.iter().for_each(|step| cluster.step(step));
    let mut ctx = Context {
        defaults: PartitionRules { min_isr: 2, replication_factor: 3, ..PartitionRules::default() },
        topics: [(partition(0).topic, "orders".to_owned())].into(),
        nodes: [(NodeId(1), "broker-1".to_owned())].into(),
        conserved_total: Some(bank::TOTAL),
        voters: controller::VOTERS.to_vec(),
        excuses: Some(BTreeMap::new()),
        ..Context::default()
    };
    for at in [ACCOUNTS, KEYED] {
        ctx.partitions.insert(partition(at), PartitionRules { compacted: true, ..ctx.defaults });
    }
    // Who never came back is timed out.
    cluster.close_groups();
    let mut producers = std::mem::take(&mut cluster.producers);
    producers.values_mut().for_each(|producer| cluster.end(producer, State::Aborted));
    for index in cluster.logs.keys().copied().collect::<Vec<_>>() {
        cluster.now += 100;
        cluster.replicate(index);
        while cluster.positions.get(&(99, index)).is_none_or(|(at, _)| *at < cluster.logs[&index].high_watermark) {
            cluster.now += 10;
            cluster.poll(99, index, 7, 0, true);
            if cluster.logs[&index].records.is_empty() {
                break;
            }
        }
        ctx.final_reads_reached_end.insert(partition(index));
        let excuses = cluster.logs[&index].excuses.clone();
        ctx.excuses.as_mut().expect("set above").insert(partition(index), excuses);
    }
    (cluster.history, ctx)
}

pub(super) fn steps(length: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = Vec<Step>> {
    let acks = prop_oneof![6 => Just(Acks::All), 2 => Just(Acks::Leader), 1 => Just(Acks::None)];
    let came = prop_oneof![
        8 => Just(Came::Ok),
        1 => Just(Came::Refused),
        1 => any::<bool>().prop_map(|took_effect| Came::Unknown { took_effect }),
        1 => Just(Came::Twice),
        1 => Just(Came::Late),
    ];
    let (session, partition, lasts) = (0u32..3, 0i32..2, 0u64..35);
    let to = prop_oneof![5 => partition.clone(), 1 => Just(KEYED)];
    let send = (session.clone(), to, acks, any::<bool>(), came, lasts.clone()).prop_map(
        |(session, partition, acks, idempotent, came, lasts)| Step::Send {
            session,
            partition,
            acks,
            idempotent,
            came,
            lasts,
        },
    );
    let read = prop_oneof![4 => partition.clone(), 1 => Just(ACCOUNTS), 1 => Just(KEYED)];
    let poll = (session.clone(), read, 1usize..6, lasts.clone())
        .prop_map(|(session, partition, most, lasts)| Step::Poll { session, partition, most, lasts });
    let seek = (session.clone(), partition.clone(), any::<u8>()).prop_map(|(session, partition, to)| Step::Seek {
        session,
        partition,
        to,
    });
    let what = prop_oneof![
        2 => Just(What::Init),
        8 => partition.clone().prop_map(What::Send),
        2 => Just(What::Offset),
        4 => (prop::bool::weighted(0.7), prop::option::weighted(0.15, any::<bool>()))
            .prop_map(|(commit, unknown)| What::End { commit, unknown }),
        1 => partition.clone().prop_map(What::Zombie),
    ];
    let transactional = (0u32..2, what, lasts.clone()).prop_map(|(producer, what, lasts)| Step::Transactional {
        producer,
        what,
        lasts,
    });
    let tail = (session, partition.clone(), lasts.clone()).prop_map(|(session, partition, lasts)| Step::TailRead {
        session,
        partition,
        lasts,
    });
    let step = prop_oneof![
        10 => send,
        10 => transactional,
        12 => groups::steps(lasts),
        3 => bank::steps(),
        8 => controller::steps(),
        1 => prop_oneof![Just(ACCOUNTS), Just(KEYED)].prop_map(|partition| Step::Compact { partition }),
        1 => (0u32..3).prop_map(|session| Step::FetchOffset { session }),
        8 => poll,
        1 => seek,
        2 => tail,
        2 => partition.clone().prop_map(|partition| Step::Replicate { partition }),
        1 => partition.prop_map(|partition| Step::ChangeLeader { partition }),
    ];
    prop::collection::vec(step, length)
}
