//! The producer.
//!
//! [`Producer::send`] puts a record into its partition's batch at once and returns; one loop for each producer sends
//! the batches. What the loop does is decided by [`machine::Machine`]; how order survives failures is told in
//! [`partition`].

mod batch;
mod machine;
mod outcome;
mod partition;
mod partitioner;
#[cfg(test)]
mod tests;

pub(crate) use outcome::asks_for_metadata;

use crate::backoff::Backoff;
use crate::client::{Client, link_config};
use crate::connection::{Answer, CallError, Inbox, Lane, Readiness, Reply};
use crate::error::Outcome;
use crate::metadata_cache::{MetadataCache, NodeAddress};
use crate::signal::{Alarm, lock};
use broker_types::LeaderEpoch;
use broker_types::{
    ErrorCode, MonoTime, NodeId, Offset, ProducerEpoch, ProducerId, ProducerStamp, TopicId, TopicName, TopicPartition,
};
use broker_wire::messages::convert::{
    from_broker_id, from_error_code, from_leader_epoch, from_offset, from_producer_epoch, from_producer_id, from_uuid,
    to_optional_uuid, to_topic_name,
};
use broker_wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use broker_wire::messages::{
    ApiKey, InitProducerIdRequest, ProduceRequest, ProduceResponse, ProducerId as WireProducerId, Request, Response,
};
use broker_wire::record_batch::Compression;
pub use broker_wire::record_batch::RecordHeader;
use bytes::Bytes;
use machine::{Leader, Machine, Output, Part, PartAnswer, Refused, View};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tracing::debug;

/// `acks`: when the leader answers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Acks {
    /// `0`: never. A record counts as sent when the network took it.
    None,
    /// `1`: when the leader has appended.
    Leader,
    /// `all`: when every in-sync replica has it.
    All,
}

impl Acks {
    fn wire(self) -> i16 {
        match self {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        }
    }
}

/// What becomes of batches whose sequence number turns out to be wrong, once the epoch was raised.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum AfterEpochBump {
    /// Only batches that surely had no effect are sent again; the others fail as indeterminate.
    #[default]
    OnlyDefinite,
    /// All are sent again, as Kafka's own producer does, which may store a batch twice if its first attempt had an
    /// effect that the broker has forgotten.
    AsKafka,
}

/// How a producer behaves. Names, meanings and defaults are Kafka's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProducerConfig {
    /// `acks`.
    pub acks: Acks,
    /// `enable.idempotence`; has an effect only with acks=all and at most five requests in flight (KIP-679).
    pub idempotence: bool,
    /// `linger.ms`.
    pub linger: Duration,
    /// `batch.size`, in bytes before compression.
    pub batch_size: usize,
    /// `buffer.memory`, in bytes.
    pub buffer_memory: usize,
    /// `max.request.size`, in bytes; also the largest record.
    pub max_request_size: usize,
    /// `delivery.timeout.ms`: from [`Producer::send`] to the end of all attempts.
    pub delivery_timeout: Duration,
    /// `request.timeout.ms`: the connection ends when an answer takes longer; also what the broker is told to wait
    /// for its replicas.
    pub request_timeout: Duration,
    /// `retries`.
    pub retries: u32,
    /// `retry.backoff.ms`.
    pub retry_backoff: Duration,
    /// `retry.backoff.max.ms`.
    pub retry_backoff_max: Duration,
    /// `max.in.flight.requests.per.connection`.
    pub max_in_flight: usize,
    /// `compression.type`.
    pub compression: Compression,
    /// Kafka has no such key.
    pub after_epoch_bump: AfterEpochBump,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        ProducerConfig {
            acks: Acks::All,
            idempotence: true,
            linger: Duration::from_millis(5),
            batch_size: 16 * 1024,
            buffer_memory: 32 * 1024 * 1024,
            max_request_size: 1024 * 1024,
            delivery_timeout: Duration::from_secs(120),
            request_timeout: Duration::from_secs(30),
            retries: i32::MAX.unsigned_abs(),
            retry_backoff: Duration::from_millis(100),
            retry_backoff_max: Duration::from_secs(1),
            max_in_flight: 5,
            compression: Compression::None,
            after_epoch_bump: AfterEpochBump::OnlyDefinite,
        }
    }
}

/// A record to be sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Where to.
    pub topic: TopicName,
    /// Which partition; `None` lets key or load decide.
    pub partition: Option<i32>,
    /// Milliseconds since the Unix epoch; the caller's clock (KIP-32).
    pub timestamp: i64,
    /// The key.
    pub key: Option<Bytes>,
    /// The value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Headers, in order; a key may occur twice.
    pub headers: Vec<RecordHeader>,
}

/// A record in the log, as far as the answer tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordMetadata {
    /// Where it went.
    pub partition: TopicPartition,
    /// Its offset; `None` with acks=0, or when a retry was answered as a duplicate whose offset the broker has forgotten.
    pub offset: Option<Offset>,
    /// The broker's time, in a topic with LogAppendTime.
    pub log_append_time: Option<i64>,
    /// The epoch of the leader that the batch was sent to, as the client believed.
    pub leader_epoch: Option<LeaderEpoch>,
    /// Producer id, epoch and the sequence number of the batch's first record; `None` without idempotence.
    pub producer: Option<ProducerStamp>,
    /// Attempts that failed before.
    pub failures: u32,
}

/// Why a record is not known to be in the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProduceError {
    /// Kafka's code; REQUEST_TIMED_OUT when `delivery.timeout.ms` ran out, NETWORK_EXCEPTION when the connection or the
    /// producer ended, OPERATION_NOT_ATTEMPTED when the buffer is full or the producer closed.
    pub code: ErrorCode,
    /// Definite only if every attempt was.
    pub outcome: Outcome,
    /// Where it was to go; `None` if that was not decided.
    pub partition: Option<TopicPartition>,
    /// As in [`RecordMetadata::producer`], of the last attempt.
    pub producer: Option<ProducerStamp>,
}

impl std::fmt::Display for ProduceError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({:?})", self.code, self.outcome)
    }
}

impl std::error::Error for ProduceError {}

/// What a producer is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProducerState {
    /// Its newest id and epoch; `None` before the first record, or without idempotence.
    pub session: Option<(ProducerId, ProducerEpoch)>,
    /// Bytes of `buffer.memory` in use.
    pub buffered: usize,
}

/// What becomes of a record. Dropping it changes nothing.
#[must_use = "the record's fate is to be awaited, or dropped on purpose"]
#[derive(Debug)]
pub struct Delivery(Fate);

#[derive(Debug)]
enum Fate {
    Pending(oneshot::Receiver<Result<RecordMetadata, ProduceError>>),
    Refused(Option<ProduceError>),
}

impl Future for Delivery {
    type Output = Result<RecordMetadata, ProduceError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let lost = || {
            let code = ErrorCode::NetworkException;
            ProduceError { code, outcome: Outcome::Indeterminate, partition: None, producer: None }
        };
        match &mut self.0 {
            Fate::Pending(told) => Pin::new(told).poll(cx).map(|fate| fate.unwrap_or_else(|_| Err(lost()))),
            Fate::Refused(error) => Poll::Ready(Err(error.take().unwrap_or_else(lost))),
        }
    }
}

type Receipt = oneshot::Sender<Result<RecordMetadata, ProduceError>>;

/// Sends records. Dropping it ends its loop: what was not settled fails, as indeterminate if it was on its way.
pub struct Producer {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    lane: Lane,
    config: ProducerConfig,
    machine: Mutex<Machine<Receipt>>,
    /// Topics that the client already keeps for us.
    topics: Mutex<std::collections::BTreeSet<TopicName>>,
    /// Told whenever records were settled.
    settled: Notify,
    closed: AtomicBool,
}

impl Producer {
    /// A producer with a loop and connections of its own.
    #[must_use]
    pub fn new(client: &Client, config: ProducerConfig) -> Producer {
        let core = &client.core;
        let mut links = link_config(&core.env, &core.config);
        links.request_timeout = config.request_timeout;
        let backoff =
            Backoff::new(config.retry_backoff, config.retry_backoff_max, core.env.entropy("client/producer/backoff"));
        let machine = Machine::new(config.clone(), backoff, core.env.entropy("client/producer/partitioner"));
        let shared = Arc::new(Shared {
            lane: Lane::new(links),
            client: client.clone(),
            config,
            machine: Mutex::new(machine),
            topics: Mutex::default(),
            settled: Notify::new(),
            closed: AtomicBool::new(false),
        });
        core.listen(&shared.lane.inbox);
        core.env.go("producer", keep_producing(shared.clone()));
        Producer { shared }
    }

    /// Sends a record. Records of one partition are appended in the order of these calls. When `buffer.memory` is used
    /// up the record fails at once and surely; [`Producer::room`] waits for room.
    pub fn send(&self, record: Record) -> Delivery {
        let core = &self.shared.client.core;
        if lock(&self.shared.topics).insert(record.topic.clone()) {
            core.want(&record.topic);
        }
        let partitions = match record.partition {
            Some(_) => None,
            None => lock(&core.metadata).topic(&record.topic).map(|t| i32::try_from(t.partitions.len()).unwrap_or(0)),
        };
        let partition = record.partition.map(|p| TopicPartition { topic: record.topic.clone(), partition: p });
        let (receipt, told) = oneshot::channel();
        let taken = lock(&self.shared.machine).append(core.env.mono(), record, partitions, receipt);
        match taken {
            Ok(wake) => {
                if wake {
                    self.shared.lane.inbox.signal.raise();
                }
                Delivery(Fate::Pending(told))
            }
            Err((refused, _)) => {
                let code = match refused {
                    Refused::BufferFull => ErrorCode::OperationNotAttempted,
                    Refused::TooLarge => ErrorCode::MessageTooLarge,
                    Refused::Fatal(code) => code,
                };
                let error = ProduceError { code, outcome: Outcome::Definite, partition, producer: None };
                Delivery(Fate::Refused(Some(error)))
            }
        }
    }

    /// Waits until at least half of `buffer.memory` is free.
    pub async fn room(&self) {
        self.until(|machine| machine.buffered() <= self.shared.config.buffer_memory / 2).await;
    }

    /// Sends what waits without linger, and waits until nothing waits and nothing is in flight.
    pub async fn flush(&self) {
        lock(&self.shared.machine).flush();
        self.shared.lane.inbox.signal.raise();
        self.until(Machine::is_empty).await;
    }

    /// What it is doing.
    #[must_use]
    pub fn state(&self) -> ProducerState {
        let machine = lock(&self.shared.machine);
        ProducerState { session: machine.session(), buffered: machine.buffered() }
    }

    async fn until(&self, condition: impl Fn(&Machine<Receipt>) -> bool) {
        loop {
            let mut settled = std::pin::pin!(self.shared.settled.notified());
            settled.as_mut().enable();
            if condition(&lock(&self.shared.machine)) {
                return;
            }
            settled.await;
        }
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        self.shared.lane.inbox.signal.raise();
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
    fn partition_count(&self, topic: &TopicName) -> Option<i32> {
        i32::try_from(self.cache.topic(topic)?.partitions.len()).ok()
    }

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

/// What was sent, to read the answer by.
struct Asked {
    node: NodeId,
    parts: Vec<(TopicPartition, Option<TopicId>)>,
}

/// The token of the request for a producer id; produce requests count from 1.
const PRODUCER_ID: u64 = 0;

/// The loop.
async fn keep_producing(shared: Arc<Shared>) {
    let env = shared.client.core.env.clone();
    let mut alarm = Alarm::new(&*env);
    let mut asked: BTreeMap<u64, Asked> = BTreeMap::new();
    let mut out = Vec::new();
    let mut attempts = 0;
    loop {
        let now = env.mono();
        let closed = shared.closed.load(Ordering::SeqCst);
        let answers = shared.lane.inbox.take();
        if shared.lane.inbox.take_went_down() {
            shared.client.core.refresh_soon();
        }
        let (wakeup, retry_at) = {
            let mut machine = lock(&shared.machine);
            for (token, answer) in answers {
                if token == PRODUCER_ID {
                    machine.got_producer_id(now, read_producer_id(answer));
                } else if let Some(asked) = asked.remove(&token) {
                    let answer = read_answer(&shared.client, &asked, answer);
                    machine.answered(now, token, answer, &mut out);
                }
            }
            if closed {
                machine.abort(&mut out);
            }
            let cache = lock(&shared.client.core.metadata);
            let mut view = ClusterView { cache: &cache, lane: &shared.lane, retry_at: MonoTime::NEVER };
            if !closed {
                machine.poll(now, &mut view, &mut out);
            }
            #[cfg(debug_assertions)]
            machine.check_invariants();
            (machine.wakeup(now), view.retry_at)
        };
        let mut again = false;
        let mut settled = false;
        for output in out.drain(..) {
            match output {
                Output::Settle(receipt, fate) => {
                    settled = true;
                    let _ = receipt.send(fate);
                }
                Output::RefreshMetadata => shared.client.core.refresh_soon(),
                Output::AskProducerId => {
                    again |= !ask_producer_id(&shared, attempts);
                    attempts += 1;
                }
                Output::Send { request, node, parts } => {
                    let names = parts.iter().map(|part| (part.partition.clone(), part.topic_id)).collect();
                    match send(&shared, request, node, parts) {
                        Ok(()) if shared.config.acks == Acks::None => {
                            asked.remove(&request);
                            let mut late = Vec::new();
                            lock(&shared.machine).sent_unanswered(request, &mut late);
                            for output in late {
                                if let Output::Settle(receipt, fate) = output {
                                    let _ = receipt.send(fate);
                                }
                            }
                            (again, settled) = (true, true);
                        }
                        Ok(()) => drop(asked.insert(request, Asked { node, parts: names })),
                        Err(error) => {
                            debug!(%node, ?error, "produce request not sent");
                            // Told to the machine in the next round, as if the connection had.
                            asked.insert(request, Asked { node, parts: names });
                            shared.lane.inbox.put(request, Err(error));
                            again = true;
                        }
                    }
                }
            }
        }
        if settled {
            shared.settled.notify_waiters();
        }
        if closed {
            return;
        }
        if !again {
            alarm.or_signal(&shared.lane.inbox.signal, wakeup.min(retry_at)).await;
        }
    }
}

fn send(shared: &Shared, request: u64, node: NodeId, parts: Vec<Part>) -> Result<(), CallError> {
    let address = node_address(shared, node).ok_or(CallError::NotSent)?;
    let link = shared.lane.link(node, &address);
    let mut version = link.version(ApiKey::Produce)?;
    if parts.iter().any(|part| part.topic_id.is_none()) {
        // From 13 topics go by id alone.
        version = version.min(12);
    }
    let mut topics: Vec<TopicProduceData> = Vec::new();
    for part in parts {
        let name = to_topic_name(&part.partition.topic);
        let data =
            PartitionProduceData::default().with_index(part.partition.partition).with_records(Some(part.records));
        match topics.last_mut() {
            // Partitions come in order of their topics.
            Some(topic) if topic.name == name => topic.partition_data.push(data),
            _ => topics.push(
                TopicProduceData::default()
                    .with_name(name)
                    .with_topic_id(to_optional_uuid(part.topic_id))
                    .with_partition_data(vec![data]),
            ),
        }
    }
    let body = ProduceRequest::default()
        .with_acks(shared.config.acks.wire())
        .with_timeout_ms(i32::try_from(shared.config.request_timeout.as_millis()).unwrap_or(i32::MAX))
        .with_topic_data(topics);
    let reply = if shared.config.acks == Acks::None { Reply::None } else { Reply::Inbox(request) };
    link.send(ApiKey::Produce, version, &Request::Produce(body), reply)
}

fn node_address(shared: &Shared, node: NodeId) -> Option<NodeAddress> {
    lock(&shared.client.core.metadata).nodes().get(&node).cloned()
}

/// Asks any node that is up, or opens one. False if another try is due at once.
fn ask_producer_id(shared: &Arc<Shared>, attempts: u32) -> bool {
    let inbox = shared.lane.inbox.clone();
    let Some((node, address)) = shared.client.core.any_node(attempts) else {
        inbox.put(PRODUCER_ID, Err(CallError::NotSent));
        return false;
    };
    let ask = InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_transaction_timeout_ms(i32::MAX)
        .with_producer_id(WireProducerId(-1))
        .with_producer_epoch(-1);
    let shared = shared.clone();
    let env = shared.client.core.env.clone();
    // Rare: once in a producer's life, and after 32,767 epochs.
    env.clone().go("producer id", async move {
        let deadline = env.mono() + shared.config.request_timeout;
        let make = |_| Request::InitProducerId(ask);
        let answer = shared.client.core.lane.call(node, &address, ApiKey::InitProducerId, deadline, make).await;
        inbox.put(PRODUCER_ID, answer);
    });
    true
}

fn read_producer_id(answer: Answer) -> Result<(ProducerId, ProducerEpoch), ErrorCode> {
    match answer {
        Ok(Response::InitProducerId(told)) => {
            let error = from_error_code(told.error_code);
            match (error, from_producer_id(told.producer_id), from_producer_epoch(told.producer_epoch)) {
                (ErrorCode::None, Some(id), Some(epoch)) => Ok((id, epoch)),
                (ErrorCode::None, ..) => Err(ErrorCode::NetworkException),
                (error, ..) => Err(error),
            }
        }
        Ok(_) => Err(ErrorCode::NetworkException),
        Err(CallError::Unsupported) => Err(ErrorCode::UnsupportedVersion),
        Err(_) => Err(ErrorCode::NetworkException),
    }
}

fn read_answer(client: &Client, asked: &Asked, answer: Answer) -> Result<Vec<PartAnswer>, CallError> {
    match answer? {
        Response::Produce(told) => Ok(read_produce(client, asked, &told)),
        _ => Err(CallError::Malformed),
    }
}

fn read_produce(client: &Client, asked: &Asked, told: &ProduceResponse) -> Vec<PartAnswer> {
    let mut answers = Vec::new();
    let mut better = false;
    for topic in &told.responses {
        for part in &topic.partition_responses {
            let id = from_uuid(topic.topic_id);
            let found = asked.parts.iter().find(|(name, asked_id)| {
                name.partition == part.index
                    && (*asked_id == Some(id)
                        || (!topic.name.0.is_empty() && topic.name.0.as_str() == name.topic.as_str()))
            });
            let Some((name, _)) = found else { continue };
            let error = from_error_code(part.error_code);
            let mut knows_better_leader = false;
            if let (Some(leader), Some(epoch)) =
                (from_broker_id(part.current_leader.leader_id), from_leader_epoch(part.current_leader.leader_epoch))
            {
                let endpoint = told.node_endpoints.iter().find(|node| node.node_id == part.current_leader.leader_id);
                let endpoint = endpoint.and_then(|node| {
                    let port = u16::try_from(node.port).ok()?;
                    let rack = node.rack.as_ref().map(ToString::to_string);
                    Some(NodeAddress { host: node.host.to_string(), port, rack })
                });
                knows_better_leader = lock(&client.core.metadata).merge_leader(name, leader, epoch, endpoint);
                better |= knows_better_leader;
            }
            if !error.is_none() {
                debug!(partition = %name, node = %asked.node, %error, "batch refused");
            }
            answers.push(PartAnswer {
                partition: name.clone(),
                error,
                base_offset: from_offset(part.base_offset),
                log_append_time: (part.log_append_time_ms >= 0).then_some(part.log_append_time_ms),
                knows_better_leader,
            });
        }
    }
    if better {
        client.core.announce();
    }
    answers
}

const _: fn() = || {
    fn is_send_and_sync<T: Send + Sync>() {}
    is_send_and_sync::<Producer>();
    is_send_and_sync::<Arc<Inbox>>();
};
