//! The consumer: assigned partitions, seek, poll.
//!
//! It has no task of its own: [`Consumer::poll`] does the work while it is awaited, and leaves the next fetches in
//! flight when it returns, so that brokers work while the application does. A poll that is dropped loses nothing. What
//! it does is decided by [`machine::Machine`].

mod fetched;
mod machine;
#[cfg(test)]
mod tests;

use crate::backoff::Backoff;
use crate::client::{Client, link_config};
use crate::connection::{Answer, CallError, Lane, Readiness, Reply};
use crate::metadata_cache::{MetadataCache, NodeAddress};
use crate::signal::{Alarm, lock};
use broker_types::{ErrorCode, LeaderEpoch, MonoTime, NodeId, Offset, ProducerId, TopicId, TopicPartition};
use broker_wire::messages::convert::{
    from_broker_id, from_error_code, from_leader_epoch, from_offset, from_uuid, text, to_leader_epoch,
    to_optional_uuid, to_topic_name,
};
use broker_wire::messages::fetch_request::{FetchPartition, FetchTopic};
use broker_wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use broker_wire::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use broker_wire::messages::{
    ApiKey, BrokerId as WireBrokerId, FetchRequest, FetchResponse, ListOffsetsRequest, OffsetForLeaderEpochRequest,
    Request, Response,
};
use broker_wire::record_batch::RecordHeader;
use bytes::Bytes;
use fetched::Aborted;
use machine::{FetchAnswer, FetchPart, Leader, Machine, Output, View};
use std::collections::BTreeMap;
use std::time::Duration;

/// `isolation.level`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum IsolationLevel {
    /// Everything up to the high watermark.
    #[default]
    ReadUncommitted,
    /// Nothing of open or aborted transactions: up to the last stable offset.
    ReadCommitted,
}

/// `auto.offset.reset`: where to go without a position, or with one that the log does not hold.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum AutoOffsetReset {
    /// The log's start.
    Earliest,
    /// The log's end.
    #[default]
    Latest,
    /// Nowhere: a [`ConsumerEvent::Failed`] says so, and a seek helps.
    None,
}

/// How a consumer behaves. Names, meanings and defaults are Kafka's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConsumerConfig {
    /// `isolation.level`.
    pub isolation: IsolationLevel,
    /// `auto.offset.reset`.
    pub auto_offset_reset: AutoOffsetReset,
    /// `fetch.min.bytes`.
    pub fetch_min_bytes: i32,
    /// `fetch.max.bytes`.
    pub fetch_max_bytes: i32,
    /// `max.partition.fetch.bytes`.
    pub max_partition_fetch_bytes: i32,
    /// `fetch.max.wait.ms`.
    pub fetch_max_wait: Duration,
    /// `max.poll.records`.
    pub max_poll_records: usize,
    /// `client.rack`; empty for none.
    pub client_rack: String,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        ConsumerConfig {
            isolation: IsolationLevel::ReadUncommitted,
            auto_offset_reset: AutoOffsetReset::Latest,
            fetch_min_bytes: 1,
            fetch_max_bytes: 50 * 1024 * 1024,
            max_partition_fetch_bytes: 1024 * 1024,
            fetch_max_wait: Duration::from_millis(500),
            max_poll_records: 500,
            client_rack: String::new(),
        }
    }
}

/// A record that was read. Key, value and headers are slices of what was fetched: keep them and you keep that.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConsumedRecord {
    /// Where it was read.
    pub partition: TopicPartition,
    /// The topic's id, if the broker knows one.
    pub topic_id: Option<TopicId>,
    /// Its offset.
    pub offset: Offset,
    /// Epoch of the leader that appended it.
    pub leader_epoch: Option<LeaderEpoch>,
    /// Milliseconds: the producer's, or the broker's with LogAppendTime.
    pub timestamp: i64,
    /// The key.
    pub key: Option<Bytes>,
    /// The value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Headers, in order.
    pub headers: Vec<RecordHeader>,
}

/// What one fetch of one partition said: evidence about broker and client alike.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchFacts {
    /// Of which partition.
    pub partition: TopicPartition,
    /// The topic id that was asked for.
    pub topic_id: Option<TopicId>,
    /// The position before this poll took records of this fetch.
    pub position_before: Offset,
    /// The position after it. Between the two every offset was either returned or is invisible: a control batch, an
    /// aborted transaction, or compacted away.
    pub position_after: Offset,
    /// The offset that was asked for. A fetch that is read in several polls has several facts with the same one.
    pub fetched_from: Offset,
    /// The serving replica's high watermark when it answered, exclusive.
    pub high_watermark: Option<Offset>,
    /// Its last stable offset, exclusive.
    pub last_stable_offset: Option<Offset>,
    /// Its log start offset.
    pub log_start: Option<Offset>,
    /// The leader epoch that was asked under.
    pub leader_epoch: Option<LeaderEpoch>,
    /// Who answered.
    pub served_by: NodeId,
    /// When it was asked, on this client's monotonic clock. What the answer says is at least as new as that.
    pub asked_at: MonoTime,
    /// How many records this poll returned of it.
    pub records: usize,
    /// How it was asked.
    pub isolation: IsolationLevel,
}

/// What could not be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConsumerError {
    /// Where.
    pub partition: TopicPartition,
    /// Kafka's code; CORRUPT_MESSAGE for a batch that fails its CRC.
    pub code: ErrorCode,
    /// At which position, if there was one.
    pub offset: Option<Offset>,
}

/// What happened to a position otherwise than by reading.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConsumerEvent {
    /// Looked up: at the start, by a seek to an end, or because the log no longer or not yet held `from`.
    Positioned {
        /// Where.
        partition: TopicPartition,
        /// The position that was lost.
        from: Option<Offset>,
        /// The new one.
        to: Offset,
    },
    /// A new leader's log ends before what was read: those records are gone (KIP-320).
    Truncated {
        /// Where.
        partition: TopicPartition,
        /// The old position.
        from: Offset,
        /// The new one; `None` if even the epoch is unknown there, and the reset policy decides.
        to: Option<Offset>,
    },
    /// An error that does not pass by itself. It is tried again all the same.
    Failed(ConsumerError),
}

/// What a poll brings.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Polled {
    /// Records, in order of offsets within each partition.
    pub records: Vec<ConsumedRecord>,
    /// What the fetches said that these records came from, and those since the last poll that brought nothing.
    pub facts: Vec<FetchFacts>,
    /// What happened to positions since the last poll, in order, and before any of `records` was read; a seek since then
    /// takes its partition's events with it. And what failed.
    pub events: Vec<ConsumerEvent>,
}

/// Reads assigned partitions.
pub struct Consumer {
    client: Client,
    lane: Lane,
    config: ConsumerConfig,
    machine: Machine,
    asked: BTreeMap<u64, Asked>,
    alarm: Alarm,
}

/// What was asked, to read the answer by.
enum Asked {
    Fetch(Vec<FetchPart>),
    /// With the leader epoch that was asked under.
    Offset(Option<LeaderEpoch>),
    /// Likewise.
    EpochEnd(Option<LeaderEpoch>),
}

impl Consumer {
    /// A consumer with connections of its own.
    #[must_use]
    pub fn new(client: &Client, config: ConsumerConfig) -> Consumer {
        let core = &client.core;
        let rng = core.env.entropy("client/consumer/backoff");
        let backoff = Backoff::new(core.config.retry_backoff, core.config.retry_backoff_max, rng);
        let max_batch = core.config.max_response_bytes.saturating_mul(4);
        let machine = Machine::new(config.clone(), backoff, max_batch, core.config.metadata_max_age);
        let lane = Lane::new(link_config(&core.env, &core.config));
        core.listen(&lane.inbox);
        let alarm = Alarm::new(&*core.env);
        Consumer { client: client.clone(), lane, config, machine, asked: BTreeMap::new(), alarm }
    }

    /// Reads exactly these partitions from now on. Positions of those that were assigned already stay.
    pub fn assign(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.client.core.want(&partition.topic);
        }
        self.machine.assign(partitions);
    }

    /// The next poll reads at `offset`. False if the partition is not assigned.
    pub fn seek(&mut self, partition: &TopicPartition, offset: Offset) -> bool {
        self.machine.seek(partition, offset)
    }

    /// The next poll reads at the log's start. False if the partition is not assigned.
    pub fn seek_to_beginning(&mut self, partition: &TopicPartition) -> bool {
        self.machine.seek_to(partition, -2)
    }

    /// The next poll reads at the log's end. False if the partition is not assigned.
    pub fn seek_to_end(&mut self, partition: &TopicPartition) -> bool {
        self.machine.seek_to(partition, -1)
    }

    /// Offset of the next record to be returned; `None` while it is not known.
    #[must_use]
    pub fn position(&self, partition: &TopicPartition) -> Option<Offset> {
        self.machine.position(partition)
    }

    /// Waits for records or events, at most `max_wait`, and returns what there is: at most `max.poll.records` records.
    pub async fn poll(&mut self, max_wait: Duration) -> Polled {
        let env = self.client.core.env.clone();
        let deadline = env.mono() + max_wait;
        loop {
            let wakeup = self.work(env.mono());
            let now = env.mono();
            if self.machine.has_something() || now >= deadline {
                let polled = self.machine.take(now, self.config.max_poll_records);
                // The next fetch is on its way while the application works.
                self.work(now);
                // Batches without a visible record move the position only.
                if !polled.records.is_empty() || !polled.events.is_empty() || now >= deadline {
                    return polled;
                }
                self.machine.give_back(polled);
                continue;
            }
            self.alarm.or_signal(&self.lane.inbox.signal, deadline.min(wakeup)).await;
        }
    }

    /// Takes what was answered, asks what is to be asked, and says when to look again.
    fn work(&mut self, now: MonoTime) -> MonoTime {
        let mut out = Vec::new();
        if self.lane.inbox.take_went_down() {
            self.client.core.refresh_soon();
        }
        for (token, answer) in self.lane.inbox.take() {
            self.answered(now, token, answer, &mut out);
        }
        let mut retry_at = MonoTime::NEVER;
        loop {
            {
                let cache = lock(&self.client.core.metadata);
                let mut view = ClusterView { cache: &cache, lane: &self.lane, retry_at: MonoTime::NEVER };
                self.machine.poll(now, &mut view, &mut out);
                retry_at = retry_at.min(view.retry_at);
            }
            if out.is_empty() {
                return retry_at.min(self.machine.wakeup(now));
            }
            let mut refresh = false;
            for output in std::mem::take(&mut out) {
                match output {
                    Output::RefreshMetadata => refresh = true,
                    ask => {
                        if let Err((token, error)) = self.ask(ask) {
                            self.answered(now, token, Err(error), &mut out);
                        }
                    }
                }
            }
            if refresh {
                self.client.core.refresh_soon();
                if out.is_empty() {
                    return retry_at.min(self.machine.wakeup(now));
                }
            }
        }
    }

    fn answered(&mut self, now: MonoTime, token: u64, answer: Answer, out: &mut Vec<Output>) {
        match self.asked.remove(&token) {
            None => {}
            Some(Asked::Fetch(parts)) => {
                let answer = answer.and_then(|told| match told {
                    Response::Fetch(told) => self.read_fetch(&parts, told),
                    _ => Err(CallError::Malformed),
                });
                self.machine.fetched(now, token, answer, out);
            }
            Some(Asked::Offset(current)) => {
                let answer = answer.and_then(|told| match told {
                    Response::ListOffsets(told) => {
                        let part = told.topics.first().and_then(|topic| topic.partitions.first());
                        let part = part.ok_or(CallError::Malformed)?;
                        let error = from_error_code(part.error_code);
                        Ok((error, from_offset(part.offset), from_leader_epoch(part.leader_epoch)))
                    }
                    _ => Err(CallError::Malformed),
                });
                self.machine.listed(now, token, current, answer, out);
            }
            Some(Asked::EpochEnd(current)) => {
                let answer = answer.and_then(|told| match told {
                    Response::OffsetForLeaderEpoch(told) => {
                        let part = told.topics.first().and_then(|topic| topic.partitions.first());
                        let part = part.ok_or(CallError::Malformed)?;
                        let error = from_error_code(part.error_code);
                        Ok((error, from_leader_epoch(part.leader_epoch), from_offset(part.end_offset)))
                    }
                    _ => Err(CallError::Malformed),
                });
                self.machine.epoch_end(now, token, current, answer, out);
            }
        }
    }

    /// Sends one request; on failure its token, to be told to the machine.
    fn ask(&mut self, output: Output) -> Result<(), (u64, CallError)> {
        let (token, node) = match &output {
            Output::Fetch { token, node, .. }
            | Output::ListOffset { token, node, .. }
            | Output::EpochEnd { token, node, .. } => (*token, *node),
            Output::RefreshMetadata => return Ok(()),
        };
        let asked = match &output {
            Output::Fetch { parts, .. } => Asked::Fetch(parts.clone()),
            Output::EpochEnd { leader_epoch, .. } => Asked::EpochEnd(*leader_epoch),
            Output::ListOffset { leader_epoch, .. } => Asked::Offset(*leader_epoch),
            Output::RefreshMetadata => return Ok(()),
        };
        self.asked.insert(token, asked);
        let address = lock(&self.client.core.metadata).nodes().get(&node).cloned();
        let address = address.ok_or((token, CallError::NotSent))?;
        let link = self.lane.link(node, &address);
        let (api, request) = match output {
            Output::Fetch { parts, .. } => (ApiKey::Fetch, self.fetch_request(&parts)),
            Output::ListOffset { partition, timestamp, leader_epoch, .. } => {
                let part = ListOffsetsPartition::default()
                    .with_partition_index(partition.partition)
                    .with_current_leader_epoch(to_leader_epoch(leader_epoch))
                    .with_timestamp(timestamp);
                let topic =
                    ListOffsetsTopic::default().with_name(to_topic_name(&partition.topic)).with_partitions(vec![part]);
                let body = ListOffsetsRequest::default()
                    .with_replica_id(WireBrokerId(-1))
                    .with_isolation_level(self.config.isolation.wire())
                    .with_topics(vec![topic]);
                (ApiKey::ListOffsets, Request::ListOffsets(body))
            }
            Output::EpochEnd { partition, leader_epoch, epoch, .. } => {
                let part = OffsetForLeaderPartition::default()
                    .with_partition(partition.partition)
                    .with_current_leader_epoch(to_leader_epoch(leader_epoch))
                    .with_leader_epoch(epoch.0);
                let topic = OffsetForLeaderTopic::default()
                    .with_topic(to_topic_name(&partition.topic))
                    .with_partitions(vec![part]);
                let body =
                    OffsetForLeaderEpochRequest::default().with_replica_id(WireBrokerId(-1)).with_topics(vec![topic]);
                (ApiKey::OffsetForLeaderEpoch, Request::OffsetForLeaderEpoch(body))
            }
            Output::RefreshMetadata => return Ok(()),
        };
        let failed = |error| (token, error);
        let mut version = link.version(api).map_err(failed)?;
        if let Request::Fetch(body) = &request
            && body.topics.iter().any(|topic| topic.topic_id.is_nil())
        {
            // From 13 topics go by id alone.
            version = version.min(12);
        }
        link.send(api, version, &request, Reply::Inbox(token)).map_err(failed)
    }

    fn fetch_request(&self, parts: &[FetchPart]) -> Request {
        let mut topics: Vec<FetchTopic> = Vec::new();
        for part in parts {
            let name = to_topic_name(&part.partition.topic);
            let partition = FetchPartition::default()
                .with_partition(part.partition.partition)
                .with_current_leader_epoch(to_leader_epoch(part.leader_epoch))
                .with_fetch_offset(part.offset.0)
                .with_partition_max_bytes(self.config.max_partition_fetch_bytes);
            match topics.last_mut() {
                // Partitions come in order of their topics.
                Some(topic) if topic.topic == name => topic.partitions.push(partition),
                _ => topics.push(
                    FetchTopic::default()
                        .with_topic(name)
                        .with_topic_id(to_optional_uuid(part.topic_id))
                        .with_partitions(vec![partition]),
                ),
            }
        }
        // No fetch session (KIP-227): with a handful of partitions it would save little.
        let body = FetchRequest::default()
            .with_max_wait_ms(i32::try_from(self.config.fetch_max_wait.as_millis()).unwrap_or(i32::MAX))
            .with_min_bytes(self.config.fetch_min_bytes)
            .with_max_bytes(self.config.fetch_max_bytes)
            .with_isolation_level(self.config.isolation.wire())
            .with_rack_id(text(&self.config.client_rack))
            .with_topics(topics);
        Request::Fetch(body)
    }

    fn read_fetch(&self, asked: &[FetchPart], told: FetchResponse) -> Result<Vec<FetchAnswer>, CallError> {
        if !from_error_code(told.error_code).is_none() {
            return Err(CallError::Malformed);
        }
        let mut answers = Vec::new();
        let mut better = false;
        for topic in told.responses {
            let id = from_uuid(topic.topic_id);
            for part in topic.partitions {
                let found = asked.iter().find(|asked| {
                    let by_name = !topic.topic.0.is_empty() && topic.topic.0.as_str() == asked.partition.topic.as_str();
                    asked.partition.partition == part.partition_index && (asked.topic_id == Some(id) || by_name)
                });
                let Some(found) = found else { continue };
                let mut knows_better_leader = false;
                if let (Some(leader), Some(epoch)) =
                    (from_broker_id(part.current_leader.leader_id), from_leader_epoch(part.current_leader.leader_epoch))
                {
                    let endpoint =
                        told.node_endpoints.iter().find(|node| node.node_id == part.current_leader.leader_id);
                    let endpoint = endpoint.and_then(|node| {
                        let port = u16::try_from(node.port).ok()?;
                        let rack = node.rack.as_ref().map(ToString::to_string);
                        Some(NodeAddress { host: node.host.to_string(), port, rack })
                    });
                    knows_better_leader =
                        lock(&self.client.core.metadata).merge_leader(&found.partition, leader, epoch, endpoint);
                    better |= knows_better_leader;
                }
                let aborted = part.aborted_transactions.unwrap_or_default().into_iter().map(|aborted| Aborted {
                    first_offset: Offset(aborted.first_offset),
                    producer: ProducerId(aborted.producer_id.0),
                });
                answers.push(FetchAnswer {
                    partition: found.partition.clone(),
                    error: from_error_code(part.error_code),
                    high_watermark: from_offset(part.high_watermark),
                    last_stable_offset: from_offset(part.last_stable_offset),
                    log_start: from_offset(part.log_start_offset),
                    preferred_replica: from_broker_id(part.preferred_read_replica),
                    aborted: aborted.collect(),
                    records: part.records.unwrap_or_default(),
                    knows_better_leader,
                });
            }
        }
        if better {
            self.client.core.announce();
        }
        Ok(answers)
    }
}

/// The cluster, for the machine.
struct ClusterView<'a> {
    cache: &'a MetadataCache,
    lane: &'a Lane,
    /// When a link that is wanted may be opened again.
    retry_at: MonoTime,
}

impl View for ClusterView<'_> {
    fn leader(&self, partition: &TopicPartition) -> Option<Leader> {
        let topic = self.cache.topic(&partition.topic)?;
        let known = topic.partitions.get(&partition.partition)?;
        let node = known.leader.filter(|node| self.cache.nodes().contains_key(node))?;
        Some(Leader { node, epoch: known.leader_epoch, topic_id: topic.id })
    }

    fn is_ready(&mut self, node: NodeId) -> bool {
        let Some(address) = self.cache.nodes().get(&node) else { return false };
        match self.lane.link(node, address).readiness() {
            Readiness::Up => true,
            Readiness::Connecting => false,
            Readiness::DownUntil(at) => {
                self.retry_at = self.retry_at.min(at);
                false
            }
        }
    }
}
