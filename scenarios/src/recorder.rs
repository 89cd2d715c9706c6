//! What clients saw, as a history that the judge reads.

use broker_client::{ClientError, MetadataHeard, TopicConfig};
use broker_types::{NodeId, Offset, ProducerId, TopicId, TopicIdPartition};
use checker::{
    Acks, ConfigAsk, ConfigRequest, History, Isolation, MetadataRead, Op, OpId, OpKind, Outcome, PartitionRead, Poll,
    ProducerIdRequest, Read, Send, SessionId, SimTime, TopicAsk, TopicRequest, ValueId,
};
use std::sync::{Arc, Mutex};

/// The history being written. A cheap handle; clones write the same one.
#[derive(Clone, Default)]
pub struct Recorder(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    history: History,
    sessions: u32,
    values: u64,
    acked: u64,
    read: u64,
}

/// What a record looks like on its way out; enough to recognise it on its way in.
#[derive(Clone, Copy, Debug)]
pub struct Sending {
    /// Where to.
    pub partition: TopicIdPartition,
    /// The value's identity.
    pub value: ValueId,
    /// Hash over key, value, headers and timestamp.
    pub digest: u64,
    /// Durability asked for.
    pub acks: Acks,
    /// Whether the producer is idempotent.
    pub idempotent: bool,
}

impl Recorder {
    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        act(&mut self.0.lock().expect("one thread a world"))
    }

    /// A new client incarnation.
    #[must_use]
    pub fn session(&self) -> SessionId {
        self.with(|inner| {
            inner.sessions += 1;
            SessionId(inner.sessions)
        })
    }

    /// A value that nobody sent before.
    #[must_use]
    pub fn value(&self) -> ValueId {
        self.with(|inner| {
            inner.values += 1;
            ValueId(inner.values)
        })
    }

    /// A produce was invoked.
    #[must_use]
    pub fn send(&self, session: SessionId, at: SimTime, sending: Sending) -> OpId {
        let Sending { partition, value, digest, acks, idempotent } = sending;
        let send = Send {
            partition,
            value,
            digest,
            acks,
            idempotent,
            offset: None,
            error: None,
            source: None,
            key: None,
            is_tombstone: false,
            balance: None,
        };
        self.push(session, at, None, Outcome::Unknown, OpKind::Send(send))
    }

    fn push(
        &self,
        session: SessionId,
        invoked: SimTime,
        returned: Option<SimTime>,
        outcome: Outcome,
        kind: OpKind,
    ) -> OpId {
        self.with(|inner| {
            let id = OpId(inner.history.ops.len() as u64);
            inner.history.ops.push(Op { id, session, invoked, returned, outcome, kind });
            id
        })
    }

    /// A produce returned.
    pub fn sent(&self, op: OpId, at: SimTime, outcome: Outcome, offset: Option<Offset>, error: Option<String>) {
        self.with(|inner| {
            let op = &mut inner.history.ops[usize::try_from(op.0).expect("ours")];
            op.returned = Some(at);
            op.outcome = outcome;
            if let OpKind::Send(send) = &mut op.kind {
                (send.offset, send.error) = (offset, error);
            }
            if outcome == Outcome::Ok {
                inner.acked += 1;
            }
        });
    }

    /// A poll returned.
    pub fn polled(&self, session: SessionId, invoked: SimTime, returned: SimTime, poll: Poll) {
        self.with(|inner| inner.read += poll.records.len() as u64);
        let _ = self.push(session, invoked, Some(returned), Outcome::Ok, OpKind::Poll(poll));
    }

    /// A lookup of a log's end returned.
    pub fn tail(&self, session: SessionId, invoked: SimTime, returned: SimTime, tail: checker::TailRead) {
        let _ = self.push(session, invoked, Some(returned), Outcome::Ok, OpKind::TailRead(tail));
    }

    /// A request about a topic was invoked.
    #[must_use]
    pub fn topic(&self, session: SessionId, at: SimTime, name: &str, ask: TopicAsk) -> OpId {
        let request = TopicRequest { name: name.to_owned(), ask, told: None, error: None };
        self.push(session, at, None, Outcome::Unknown, OpKind::Topic(request))
    }

    /// A request about a topic returned.
    pub fn topic_answered(&self, op: OpId, at: SimTime, answer: Result<(), &ClientError>) {
        self.with(|inner| {
            let op = &mut inner.history.ops[usize::try_from(op.0).expect("ours")];
            op.returned = Some(at);
            op.outcome = answer.map_or_else(|error| outcome(error.outcome), |()| Outcome::Ok);
            if let OpKind::Topic(request) = &mut op.kind {
                request.error = answer.err().map(|error| error.code.name().to_owned());
            }
        });
    }

    /// A producer without a transactional id was given its producer id.
    pub fn producer_id(&self, session: SessionId, invoked: SimTime, returned: SimTime, producer: ProducerId) {
        let request = ProducerIdRequest { producer: Some(producer), error: None };
        let _ = self.push(session, invoked, Some(returned), Outcome::Ok, OpKind::ProducerId(request));
    }

    /// A broker answered a Metadata.
    pub fn metadata(&self, session: SessionId, invoked: SimTime, returned: SimTime, heard: &MetadataHeard) {
        let told = heard.topics.iter().filter_map(|(_, told)| Some((told.id?, &told.partitions)));
        let partitions = told.flat_map(|(topic, partitions)| {
            partitions.iter().filter_map(move |(index, known)| {
                let partition = partition_of(topic, *index);
                Some(PartitionRead { partition, leader_epoch: known.leader_epoch?, leader: known.leader })
            })
        });
        let read = MetadataRead { broker: broker(heard.served_by), partitions: partitions.collect() };
        let _ = self.push(session, invoked, Some(returned), Outcome::Ok, OpKind::Metadata(read));
    }

    /// A request about a configuration was invoked.
    #[must_use]
    pub fn config(&self, session: SessionId, at: SimTime, resource: String, key: &str, set: Option<String>) -> OpId {
        // Whoever answers a question is known afterwards.
        let ask = set.map_or(ConfigAsk::Describe(NodeId(-1)), |value| ConfigAsk::Set(Some(value)));
        let request = ConfigRequest { resource, key: key.to_owned(), ask, told: None, error: None };
        self.push(session, at, None, Outcome::Unknown, OpKind::Config(request))
    }

    /// A request about a configuration returned; for a question, with who told what.
    pub fn config_answered(&self, op: OpId, at: SimTime, answer: Result<Option<TopicConfig>, ClientError>) {
        self.with(|inner| {
            let op = &mut inner.history.ops[usize::try_from(op.0).expect("ours")];
            op.returned = Some(at);
            op.outcome = answer.as_ref().map_or_else(|error| outcome(error.outcome), |_| Outcome::Ok);
            let OpKind::Config(request) = &mut op.kind else { return };
            match answer {
                Ok(told) => {
                    if let Some(told) = told {
                        request.ask = ConfigAsk::Describe(broker(told.served_by));
                        request.told = told.value;
                    }
                }
                Err(error) => request.error = Some(error.code.name().to_owned()),
            }
        });
    }

    /// Records acknowledged so far, and records delivered.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        self.with(|inner| (inner.acked, inner.read))
    }

    /// Takes the history out: a session's operations in the order in which it did them.
    #[must_use]
    pub fn take(&self) -> History {
        self.with(|inner| std::mem::take(&mut inner.history))
    }
}

/// What a client knows of the effect of what failed, as the judge names it.
#[must_use]
pub fn outcome(of: broker_client::Outcome) -> Outcome {
    match of {
        broker_client::Outcome::Definite => Outcome::Fail,
        broker_client::Outcome::Indeterminate => Outcome::Unknown,
    }
}

/// An isolation level as the judge names it.
#[must_use]
pub fn isolation(level: broker_client::IsolationLevel) -> Isolation {
    match level {
        broker_client::IsolationLevel::ReadUncommitted => Isolation::ReadUncommitted,
        broker_client::IsolationLevel::ReadCommitted => Isolation::ReadCommitted,
    }
}

/// When a run proper begins: the cluster has booted by then, and every time that is told counts from here.
pub const START: sim::SimTime = sim::SimTime::from_secs(10);

/// Simulated time as the judge counts it: from [`START`]; whatever was before is at zero.
#[must_use]
pub fn moment(at: sim::SimTime) -> SimTime {
    SimTime(at.0.saturating_sub(START.0))
}

/// One record as the judge keeps it.
#[must_use]
pub fn read_of(record: &broker_client::ConsumedRecord) -> Read {
    Read {
        offset: record.offset,
        value: crate::workload::value_id(record.value.as_deref()),
        digest: crate::workload::digest(
            record.key.as_deref(),
            record.value.as_deref(),
            record.timestamp,
            record.headers.iter().map(|header| (&header.key[..], header.value.as_deref())),
        ),
        leader_epoch: record.leader_epoch,
    }
}

/// Turns what one poll brought into operations, one for each partition that was fetched, with the time at which the
/// fetch was sent: a consumer fetches ahead, and what it is told is as old as its question.
#[must_use]
pub fn polls_of(
    polled: &broker_client::Polled,
    is_final: bool,
    seeked: &[broker_types::TopicPartition],
    asked: impl Fn(broker_types::MonoTime) -> SimTime,
) -> Vec<(SimTime, Poll)> {
    let mut polls = Vec::new();
    let mut taken: std::collections::BTreeMap<&broker_types::TopicPartition, usize> = std::collections::BTreeMap::new();
    for facts in &polled.facts {
        let Some(topic) = facts.topic_id else { continue };
        let skip = taken.entry(&facts.partition).or_default();
        let of_partition = polled.records.iter().filter(|record| record.partition == facts.partition);
        let records: Vec<Read> = of_partition.skip(*skip).take(facts.records).map(read_of).collect();
        *skip += facts.records;
        let poll = Poll {
            partition: partition_of(topic, facts.partition.partition),
            position: facts.position_before,
            next_position: facts.position_after,
            records,
            high_watermark: facts.high_watermark,
            last_stable: facts.last_stable_offset,
            log_start: facts.log_start,
            leader_epoch: facts.leader_epoch,
            broker: NodeId(facts.served_by.0),
            isolation: isolation(facts.isolation),
            is_final,
            after_seek: seeked.contains(&facts.partition),
        };
        polls.push((asked(facts.asked_at), poll));
    }
    polls
}

/// Who served a client: bootstrap servers, which clients know by negative numbers, are the brokers from 1 on.
fn broker(served_by: NodeId) -> NodeId {
    NodeId(served_by.0.abs())
}

fn partition_of(topic: TopicId, partition: i32) -> TopicIdPartition {
    TopicIdPartition { topic, partition }
}
