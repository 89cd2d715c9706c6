//! Everything a consumer decides: positions, what to fetch where, resets, truncation.
//!
//! No I/O, no clock. A partition's position is in one of three states:
//!
//! - **Unknown**: to be looked up by ListOffsets, by the reset policy or a seek to an end;
//! - **Validating**: a new leader is known and the position was reached under an older one. Before fetching from it,
//!   OffsetForLeaderEpoch tells whether its log still holds what was read (KIP-320); if not, the log was truncated;
//! - **Fetching**.
//!
//! One fetch is in flight to each node at most, and none for a partition whose last fetch is not read yet: so what is
//! buffered is bounded by `max.partition.fetch.bytes` for each partition.

use super::fetched::{Aborted, Fetched, Step};
use super::{
    AutoOffsetReset, ConsumedRecord, ConsumerConfig, ConsumerError, ConsumerEvent, FetchFacts, IsolationLevel, Polled,
};
use crate::backoff::Backoff;
use crate::connection::CallError;
use broker_types::{ErrorCode, LeaderEpoch, MonoTime, NodeId, Offset, TopicId, TopicPartition};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Facts of fetches that brought nothing, kept for the next poll; the oldest go first.
const EMPTY_FACTS: usize = 256;
/// Events kept for the next poll.
const EVENTS: usize = 256;

/// What the machine sees of the cluster.
pub(super) trait View {
    fn leader(&self, partition: &TopicPartition) -> Option<Leader>;
    /// Whether a request to `node` could go out now; starts connecting otherwise.
    fn is_ready(&mut self, node: NodeId) -> bool;
}

/// A partition's leader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Leader {
    pub(super) node: NodeId,
    pub(super) epoch: Option<LeaderEpoch>,
    pub(super) topic_id: Option<TopicId>,
}

/// What to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Output {
    Fetch {
        token: u64,
        node: NodeId,
        parts: Vec<FetchPart>,
    },
    ListOffset {
        token: u64,
        node: NodeId,
        partition: TopicPartition,
        timestamp: i64,
        leader_epoch: Option<LeaderEpoch>,
    },
    EpochEnd {
        token: u64,
        node: NodeId,
        partition: TopicPartition,
        leader_epoch: Option<LeaderEpoch>,
        epoch: LeaderEpoch,
    },
    RefreshMetadata,
}

/// One partition of a fetch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct FetchPart {
    pub(super) partition: TopicPartition,
    pub(super) topic_id: Option<TopicId>,
    pub(super) offset: Offset,
    pub(super) leader_epoch: Option<LeaderEpoch>,
}

/// What a fetch said of one partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct FetchAnswer {
    pub(super) partition: TopicPartition,
    pub(super) error: ErrorCode,
    pub(super) high_watermark: Option<Offset>,
    pub(super) last_stable_offset: Option<Offset>,
    pub(super) log_start: Option<Offset>,
    pub(super) preferred_replica: Option<NodeId>,
    pub(super) aborted: Vec<Aborted>,
    pub(super) records: Bytes,
    /// The answer named a newer leader, and the cache has it.
    pub(super) knows_better_leader: bool,
}

/// Where reading goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Cursor {
    offset: Offset,
    /// Leader epoch of the record before `offset`, when it was read by us or told with the offset.
    record_epoch: Option<LeaderEpoch>,
    /// The leader epoch that `offset` was last found valid under.
    leader_epoch: Option<LeaderEpoch>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Position {
    /// `from` is where it was lost, `timestamp` is ListOffsets' word for where to go.
    Unknown {
        from: Option<Offset>,
        timestamp: i64,
    },
    Validating(Cursor),
    Fetching(Cursor),
}

struct Assigned {
    position: Position,
    topic_id: Option<TopicId>,
    buffered: Option<Buffered>,
    /// A request about this partition is out.
    asked: Option<u64>,
    not_before: MonoTime,
    /// Failures in a row.
    failures: u32,
    /// Where to fetch from instead of the leader, and until when (KIP-392).
    preferred: Option<(NodeId, MonoTime)>,
}

/// A fetch that is being read, and what was told with it.
struct Buffered {
    fetched: Fetched,
    facts: FetchFacts,
}

struct Asked {
    node: NodeId,
    at: MonoTime,
    parts: Vec<FetchPart>,
}

/// See the module.
pub(super) struct Machine {
    config: ConsumerConfig,
    partitions: BTreeMap<TopicPartition, Assigned>,
    /// Fetches in flight.
    fetches: BTreeMap<u64, Asked>,
    /// Offset and epoch lookups in flight.
    lookups: BTreeMap<u64, TopicPartition>,
    next_token: u64,
    backoff: Backoff,
    facts: VecDeque<FetchFacts>,
    events: VecDeque<ConsumerEvent>,
    /// Who is read first in the next poll: every partition gets its turn.
    turn: Option<TopicPartition>,
    max_batch_bytes: usize,
    preferred_for: Duration,
}

impl Machine {
    pub(super) fn new(
        config: ConsumerConfig,
        backoff: Backoff,
        max_batch_bytes: usize,
        preferred_for: Duration,
    ) -> Self {
        Machine {
            config,
            partitions: BTreeMap::new(),
            fetches: BTreeMap::new(),
            lookups: BTreeMap::new(),
            next_token: 0,
            backoff,
            facts: VecDeque::new(),
            events: VecDeque::new(),
            turn: None,
            max_batch_bytes,
            preferred_for,
        }
    }

    /// Reads exactly these partitions from now on; positions of those that stay, stay.
    pub(super) fn assign(&mut self, partitions: &[TopicPartition]) {
        self.partitions.retain(|partition, _| partitions.contains(partition));
        // Without a policy the first offset is a choice of the caller's: Kafka's own client fails there, and so does
        // this one, by an event, until it is told by a seek.
        let timestamp = self.config.auto_offset_reset.timestamp().unwrap_or(NO_POLICY);
        for partition in partitions {
            self.partitions.entry(partition.clone()).or_insert_with(|| Assigned {
                position: Position::Unknown { from: None, timestamp },
                topic_id: None,
                buffered: None,
                asked: None,
                not_before: MonoTime(0),
                failures: 0,
                preferred: None,
            });
        }
    }

    pub(super) fn seek(&mut self, partition: &TopicPartition, offset: Offset) -> bool {
        self.set_position(partition, Position::Fetching(Cursor { offset, record_epoch: None, leader_epoch: None }))
    }

    pub(super) fn seek_to(&mut self, partition: &TopicPartition, timestamp: i64) -> bool {
        self.set_position(partition, Position::Unknown { from: None, timestamp })
    }

    fn set_position(&mut self, partition: &TopicPartition, position: Position) -> bool {
        let Some(assigned) = self.partitions.get_mut(partition) else { return false };
        assigned.position = position;
        assigned.buffered = None;
        assigned.failures = 0;
        assigned.not_before = MonoTime(0);
        // What is in flight is about the old position; its answer will be ignored. What happened to that position and
        // was not told yet no longer matters to anybody.
        assigned.asked = None;
        self.events.retain(|event| match event {
            ConsumerEvent::Positioned { partition: of, .. } | ConsumerEvent::Truncated { partition: of, .. } => {
                of != partition
            }
            ConsumerEvent::Failed(_) => true,
        });
        true
    }

    pub(super) fn position(&self, partition: &TopicPartition) -> Option<Offset> {
        match self.partitions.get(partition)?.position {
            Position::Unknown { .. } => None,
            Position::Validating(cursor) | Position::Fetching(cursor) => Some(cursor.offset),
        }
    }

    /// What is to be asked now.
    pub(super) fn poll(&mut self, now: MonoTime, view: &mut dyn View, out: &mut Vec<Output>) {
        let mut fetches: BTreeMap<NodeId, Vec<FetchPart>> = BTreeMap::new();
        let mut refresh = false;
        for (name, assigned) in &mut self.partitions {
            if assigned.asked.is_some() || assigned.buffered.is_some() || assigned.not_before > now {
                continue;
            }
            let Some(leader) = view.leader(name) else {
                refresh = true;
                continue;
            };
            if assigned.topic_id != leader.topic_id {
                // Another topic of the same name: epochs of the old one mean nothing in it.
                if assigned.topic_id.is_some()
                    && let Position::Validating(cursor) | Position::Fetching(cursor) = &mut assigned.position
                {
                    (cursor.record_epoch, cursor.leader_epoch) = (None, None);
                    assigned.position = Position::Fetching(*cursor);
                }
                assigned.topic_id = leader.topic_id;
            }
            if let Position::Fetching(cursor) = &mut assigned.position
                && cursor.leader_epoch != leader.epoch
            {
                if cursor.record_epoch.is_some() && leader.epoch.is_some() && cursor.leader_epoch < leader.epoch {
                    assigned.position = Position::Validating(*cursor);
                } else {
                    cursor.leader_epoch = leader.epoch;
                }
            }
            match assigned.position {
                Position::Unknown { timestamp: NO_POLICY, .. } => {
                    let error =
                        ConsumerError { partition: name.clone(), code: ErrorCode::OffsetOutOfRange, offset: None };
                    note(&mut self.events, ConsumerEvent::Failed(error));
                    assigned.not_before = MonoTime::NEVER;
                }
                Position::Unknown { timestamp, .. } if view.is_ready(leader.node) => {
                    let token = next(&mut self.next_token);
                    assigned.asked = Some(token);
                    self.lookups.insert(token, name.clone());
                    let (node, leader_epoch) = (leader.node, leader.epoch);
                    out.push(Output::ListOffset { token, node, partition: name.clone(), timestamp, leader_epoch });
                }
                Position::Validating(cursor) if view.is_ready(leader.node) => {
                    let token = next(&mut self.next_token);
                    assigned.asked = Some(token);
                    self.lookups.insert(token, name.clone());
                    let epoch = cursor.record_epoch.unwrap_or_default();
                    let (node, leader_epoch) = (leader.node, leader.epoch);
                    out.push(Output::EpochEnd { token, node, partition: name.clone(), leader_epoch, epoch });
                }
                Position::Fetching(cursor) => {
                    assigned.preferred = assigned.preferred.filter(|(_, until)| *until > now);
                    let node = assigned.preferred.map_or(leader.node, |(node, _)| node);
                    let busy = self.fetches.values().any(|asked| asked.node == node);
                    if !busy && view.is_ready(node) {
                        fetches.entry(node).or_default().push(FetchPart {
                            partition: name.clone(),
                            topic_id: leader.topic_id,
                            offset: cursor.offset,
                            leader_epoch: cursor.leader_epoch,
                        });
                    }
                }
                _ => {}
            }
        }
        for (node, parts) in fetches {
            let token = next(&mut self.next_token);
            for part in &parts {
                self.partitions.get_mut(&part.partition).expect("it was just looked at").asked = Some(token);
            }
            self.fetches.insert(token, Asked { node, at: now, parts: parts.clone() });
            out.push(Output::Fetch { token, node, parts });
        }
        if refresh {
            out.push(Output::RefreshMetadata);
        }
    }

    /// When [`Machine::poll`] has something to do by itself.
    pub(super) fn wakeup(&self, now: MonoTime) -> MonoTime {
        let waiting =
            self.partitions.values().filter(|assigned| assigned.asked.is_none() && assigned.buffered.is_none());
        waiting.map(|assigned| assigned.not_before).filter(|at| *at > now).min().unwrap_or(MonoTime::NEVER)
    }

    /// A fetch was answered, or will never be.
    pub(super) fn fetched(
        &mut self,
        now: MonoTime,
        token: u64,
        answer: Result<Vec<FetchAnswer>, CallError>,
        out: &mut Vec<Output>,
    ) {
        let Some(asked) = self.fetches.remove(&token) else { return };
        let failed = answer.is_err();
        let mut answers = answer.unwrap_or_default();
        for part in &asked.parts {
            let Some(assigned) = self.partitions.get_mut(&part.partition) else { continue };
            if assigned.asked != Some(token) {
                continue;
            }
            assigned.asked = None;
            let told =
                answers.iter().position(|told| told.partition == part.partition).map(|at| answers.swap_remove(at));
            match told {
                Some(told) => self.fetched_part(now, &asked, part, told, out),
                None => {
                    assigned.not_before = now + self.backoff.delay(assigned.failures);
                    assigned.failures += 1;
                    assigned.preferred = None;
                    if failed {
                        out.push(Output::RefreshMetadata);
                    }
                }
            }
        }
    }

    fn fetched_part(
        &mut self,
        now: MonoTime,
        asked: &Asked,
        part: &FetchPart,
        told: FetchAnswer,
        out: &mut Vec<Output>,
    ) {
        let name = &part.partition;
        let Some(assigned) = self.partitions.get_mut(name) else { return };
        let facts = FetchFacts {
            partition: name.clone(),
            topic_id: part.topic_id,
            position_before: part.offset,
            position_after: part.offset,
            fetched_from: part.offset,
            high_watermark: told.high_watermark,
            last_stable_offset: told.last_stable_offset,
            log_start: told.log_start,
            leader_epoch: part.leader_epoch,
            served_by: asked.node,
            asked_at: asked.at,
            records: 0,
            isolation: self.config.isolation,
        };
        if told.error.is_none() {
            assigned.failures = 0;
            if let Some(replica) = told.preferred_replica {
                assigned.preferred = Some((replica, now + self.preferred_for));
            }
            match Fetched::new(told.records, self.config.isolation, told.aborted, self.max_batch_bytes) {
                Ok(fetched) if fetched.is_empty() => {
                    if self.facts.len() == EMPTY_FACTS {
                        self.facts.pop_front();
                    }
                    self.facts.push_back(facts);
                }
                Ok(fetched) => assigned.buffered = Some(Buffered { fetched, facts }),
                Err(code) => {
                    let error = ConsumerError { partition: name.clone(), code, offset: Some(part.offset) };
                    note(&mut self.events, ConsumerEvent::Failed(error));
                    assigned.not_before = now + self.backoff.delay(assigned.failures);
                    assigned.failures += 1;
                }
            }
            return;
        }
        let wait = if told.knows_better_leader { Duration::ZERO } else { self.backoff.delay(assigned.failures) };
        assigned.not_before = now + wait;
        assigned.failures += 1;
        let on_leader = assigned.preferred.take().is_none_or(|(preferred, _)| preferred != asked.node);
        if told.error == ErrorCode::OffsetOutOfRange {
            if on_leader {
                match self.config.auto_offset_reset.timestamp() {
                    Some(timestamp) => {
                        assigned.position = Position::Unknown { from: Some(part.offset), timestamp };
                        assigned.not_before = now;
                    }
                    None => {
                        let code = told.error;
                        let error = ConsumerError { partition: name.clone(), code, offset: Some(part.offset) };
                        note(&mut self.events, ConsumerEvent::Failed(error));
                    }
                }
            }
        } else {
            complain(&mut self.events, name, told.error, Some(part.offset), out);
        }
    }

    /// A ListOffsets request was answered. `current` is the leader epoch it was asked under.
    pub(super) fn listed(
        &mut self,
        now: MonoTime,
        token: u64,
        current: Option<LeaderEpoch>,
        answer: Result<(ErrorCode, Option<Offset>, Option<LeaderEpoch>), CallError>,
        out: &mut Vec<Output>,
    ) {
        let Some((name, assigned)) = looked_up(&mut self.lookups, &mut self.partitions, token) else { return };
        let Position::Unknown { from, .. } = assigned.position else { return };
        match answer {
            Ok((ErrorCode::None, Some(offset), record_epoch)) => {
                assigned.failures = 0;
                // The leader of that epoch gave the offset: under it, it is valid.
                assigned.position = Position::Fetching(Cursor { offset, record_epoch, leader_epoch: current });
                note(&mut self.events, ConsumerEvent::Positioned { partition: name, from, to: offset });
            }
            other => {
                assigned.not_before = now + self.backoff.delay(assigned.failures);
                assigned.failures += 1;
                match other {
                    Ok((code, ..)) if !code.is_none() => complain(&mut self.events, &name, code, from, out),
                    Ok(_) => {}
                    Err(_) => out.push(Output::RefreshMetadata),
                }
            }
        }
    }

    /// An OffsetForLeaderEpoch request was answered: the end of the largest epoch up to the one asked for, and that
    /// epoch. `current` is the leader epoch it was asked under.
    pub(super) fn epoch_end(
        &mut self,
        now: MonoTime,
        token: u64,
        current: Option<LeaderEpoch>,
        answer: Result<(ErrorCode, Option<LeaderEpoch>, Option<Offset>), CallError>,
        out: &mut Vec<Output>,
    ) {
        let Some((name, assigned)) = looked_up(&mut self.lookups, &mut self.partitions, token) else { return };
        let Position::Validating(cursor) = assigned.position else { return };
        match answer {
            // A broker that knows no such request cannot be asked; Kafka's client goes on without asking, too.
            Err(CallError::Unsupported) => {
                assigned.position = Position::Fetching(Cursor { leader_epoch: current, ..cursor });
            }
            Ok((ErrorCode::None, Some(epoch), Some(end))) => {
                assigned.failures = 0;
                if end >= cursor.offset {
                    assigned.position = Position::Fetching(Cursor { leader_epoch: current, ..cursor });
                    return;
                }
                // What was read between `end` and the position is no longer in the log.
                note(
                    &mut self.events,
                    ConsumerEvent::Truncated { partition: name, from: cursor.offset, to: Some(end) },
                );
                let to = Cursor { offset: end, record_epoch: Some(epoch), leader_epoch: current };
                assigned.position = Position::Fetching(to);
            }
            Ok((ErrorCode::None, ..)) => {
                // The leader knows no epoch as old as ours.
                note(&mut self.events, ConsumerEvent::Truncated { partition: name, from: cursor.offset, to: None });
                let timestamp = self.config.auto_offset_reset.timestamp().unwrap_or(NO_POLICY);
                assigned.position = Position::Unknown { from: Some(cursor.offset), timestamp };
            }
            other => {
                assigned.not_before = now + self.backoff.delay(assigned.failures);
                assigned.failures += 1;
                // Which leader it is will be looked at again.
                assigned.position = Position::Fetching(cursor);
                match other {
                    Ok((code, ..)) => complain(&mut self.events, &name, code, Some(cursor.offset), out),
                    Err(_) => out.push(Output::RefreshMetadata),
                }
            }
        }
    }

    /// Whether a poll has something to give.
    pub(super) fn has_something(&self) -> bool {
        !self.events.is_empty() || self.partitions.values().any(|assigned| assigned.buffered.is_some())
    }

    /// Up to `max_records` records, and what was told with them. Positions move.
    pub(super) fn take(&mut self, now: MonoTime, max_records: usize) -> Polled {
        let mut polled =
            Polled { records: Vec::new(), facts: std::mem::take(&mut self.facts).into(), events: Vec::new() };
        let mut order: Vec<TopicPartition> = self.partitions.keys().cloned().collect();
        if let Some(turn) = &self.turn {
            let first = order.iter().position(|partition| partition >= turn).unwrap_or(0);
            order.rotate_left(first);
        }
        for name in order {
            if polled.records.len() >= max_records {
                self.turn = Some(name);
                break;
            }
            self.take_from(now, &name, max_records, &mut polled);
        }
        polled.events.extend(self.events.drain(..));
        polled
    }

    fn take_from(&mut self, now: MonoTime, name: &TopicPartition, max_records: usize, polled: &mut Polled) {
        let Some(assigned) = self.partitions.get_mut(name) else { return };
        let Position::Fetching(cursor) = &mut assigned.position else { return };
        let Some(buffered) = &mut assigned.buffered else { return };
        let before = cursor.offset;
        let count = polled.records.len();
        let mut failed = None;
        let mut over = false;
        while polled.records.len() < max_records {
            match buffered.fetched.step(cursor.offset) {
                Ok(Step::Record(record, epoch)) => {
                    cursor.offset = record.offset + 1;
                    cursor.record_epoch = epoch.or(cursor.record_epoch);
                    polled.records.push(ConsumedRecord {
                        partition: name.clone(),
                        topic_id: assigned.topic_id,
                        offset: record.offset,
                        leader_epoch: epoch,
                        timestamp: record.timestamp,
                        key: record.key,
                        value: record.value,
                        headers: record.headers,
                    });
                }
                Ok(Step::Skipped(to, epoch)) => {
                    cursor.offset = to;
                    cursor.record_epoch = epoch.or(cursor.record_epoch);
                }
                Ok(Step::End) => {
                    over = true;
                    break;
                }
                Err(code) => {
                    failed = Some(code);
                    break;
                }
            }
        }
        let mut facts = buffered.facts.clone();
        facts.position_before = before;
        facts.position_after = cursor.offset;
        facts.records = polled.records.len() - count;
        polled.facts.push(facts);
        if let Some(code) = failed {
            let error = ConsumerError { partition: name.clone(), code, offset: Some(cursor.offset) };
            note(&mut self.events, ConsumerEvent::Failed(error));
            assigned.not_before = now + self.backoff.delay(assigned.failures);
            assigned.failures += 1;
        }
        if over || failed.is_some() {
            assigned.buffered = None;
        }
    }
}

/// Instead of a timestamp: `auto.offset.reset` is none.
const NO_POLICY: i64 = i64::MIN;

impl AutoOffsetReset {
    fn timestamp(self) -> Option<i64> {
        match self {
            AutoOffsetReset::Latest => Some(-1),
            AutoOffsetReset::Earliest => Some(-2),
            AutoOffsetReset::None => None,
        }
    }
}

impl IsolationLevel {
    pub(crate) fn wire(self) -> i8 {
        match self {
            IsolationLevel::ReadUncommitted => 0,
            IsolationLevel::ReadCommitted => 1,
        }
    }
}

fn next(token: &mut u64) -> u64 {
    *token += 1;
    *token
}

fn note(events: &mut VecDeque<ConsumerEvent>, event: ConsumerEvent) {
    if events.len() == EVENTS {
        events.pop_front();
    }
    events.push_back(event);
}

/// The partition that a lookup was about, if its answer is still wanted.
fn looked_up<'a>(
    lookups: &mut BTreeMap<u64, TopicPartition>,
    partitions: &'a mut BTreeMap<TopicPartition, Assigned>,
    token: u64,
) -> Option<(TopicPartition, &'a mut Assigned)> {
    let name = lookups.remove(&token)?;
    let assigned = partitions.get_mut(&name).filter(|assigned| assigned.asked == Some(token))?;
    assigned.asked = None;
    Some((name, assigned))
}

/// An error that passes asks for fresh metadata; one that does not is told to the application, and tried again later.
fn complain(
    events: &mut VecDeque<ConsumerEvent>,
    partition: &TopicPartition,
    code: ErrorCode,
    offset: Option<Offset>,
    out: &mut Vec<Output>,
) {
    if crate::producer::asks_for_metadata(code) || code == ErrorCode::OffsetNotAvailable {
        out.push(Output::RefreshMetadata);
    } else if !code.is_retriable() && code != ErrorCode::UnknownServerError {
        note(events, ConsumerEvent::Failed(ConsumerError { partition: partition.clone(), code, offset }));
    }
}

impl Machine {
    /// A poll found only batches without visible records; what was told with them waits for the next.
    pub(super) fn give_back(&mut self, polled: Polled) {
        self.facts.extend(polled.facts);
        while self.facts.len() > EMPTY_FACTS {
            self.facts.pop_front();
        }
    }
}
