//! Everything a producer decides: batching, linger, order, sequence numbers, retries, expiry.
//!
//! No I/O, no clock. The loop tells what happened ([`Machine::append`], [`Machine::answered`], ...), asks
//! [`Machine::poll`] what to do, and sleeps until [`Machine::wakeup`]. `T` is what a record's owner is told by; tests
//! use numbers. The rules of order are [`super::partition`]'s.

use super::batch::{Batch, Place, Session};
use super::outcome::{asks_for_metadata, of_attempt};
use super::partition::{Numbering, Partition};
use super::partitioner::Partitioner;
use super::{Acks, AfterEpochBump, ProduceError, ProducerConfig, Record, RecordMetadata};
use crate::backoff::Backoff;
use crate::connection::CallError;
use crate::error::Outcome;
use broker_types::{
    ErrorCode, LeaderEpoch, MonoTime, NodeId, Offset, ProducerEpoch, ProducerId, TopicId, TopicName, TopicPartition,
};
use broker_wire::record_batch::RecordBatchBuilder;
use bytes::Bytes;
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, VecDeque};

/// What the machine sees of the cluster.
pub(crate) trait View {
    /// How many partitions a topic has, if known.
    fn partition_count(&self, topic: &TopicName) -> Option<i32>;
    /// Who leads a partition, if known.
    fn leader(&self, partition: &TopicPartition) -> Option<Leader>;
    /// Whether a request to `node` could go out now; starts connecting otherwise.
    fn is_ready(&mut self, node: NodeId) -> bool;
}

/// A partition's leader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Leader {
    pub(crate) node: NodeId,
    pub(crate) epoch: Option<LeaderEpoch>,
    pub(crate) topic_id: Option<TopicId>,
}

/// What to do, in order.
#[derive(Debug)]
pub(crate) enum Output<T> {
    /// Send a produce request; then say [`Machine::answered`].
    Send { request: u64, node: NodeId, parts: Vec<Part> },
    /// Tell a record's owner.
    Settle(T, Result<RecordMetadata, ProduceError>),
    /// Ask any broker for a producer id; then say [`Machine::got_producer_id`].
    AskProducerId,
    /// Our idea of the cluster is old.
    RefreshMetadata,
}

/// One partition's batch in a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Part {
    pub(crate) partition: TopicPartition,
    pub(crate) topic_id: Option<TopicId>,
    pub(crate) records: Bytes,
}

/// What a broker said of one partition's batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct PartAnswer {
    pub(crate) partition: TopicPartition,
    pub(crate) error: ErrorCode,
    pub(crate) base_offset: Option<Offset>,
    pub(crate) log_append_time: Option<i64>,
    /// The answer named a newer leader, and the cache has it.
    pub(crate) knows_better_leader: bool,
}

/// Why a record was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refused {
    /// `buffer.memory` is used up.
    BufferFull,
    /// Greater than `max.request.size`.
    TooLarge,
    /// The producer cannot go on.
    Fatal(ErrorCode),
}

/// The producer id's state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Identity {
    /// Not idempotent: none is needed.
    Plain,
    /// To be asked for, not before then.
    Needed { not_before: MonoTime, failures: u32 },
    /// Asked for.
    Asked { failures: u32 },
    /// The newest session. Partitions adopt it one by one.
    Known(Session),
    /// None to be had.
    Fatal(ErrorCode),
}

struct Sent {
    node: NodeId,
    partitions: Vec<TopicPartition>,
    /// The leader epochs believed in when it was sent.
    epochs: Vec<Option<LeaderEpoch>>,
}

/// A request being put together.
struct Draft {
    request: u64,
    parts: Vec<Part>,
    epochs: Vec<Option<LeaderEpoch>>,
    size: usize,
}

/// Records without partition, until the topic's partitions are known.
struct Unassigned<T> {
    records: VecDeque<(MonoTime, Record, usize, T)>,
    partitioner: Partitioner,
}

/// See the module.
pub(crate) struct Machine<T> {
    config: ProducerConfig,
    identity: Identity,
    topics: BTreeMap<TopicName, Unassigned<T>>,
    partitions: BTreeMap<TopicPartition, Partition<T>>,
    /// Bytes of buffer memory in use; at most `buffer_memory`.
    buffered: usize,
    requests: BTreeMap<u64, Sent>,
    next_request: u64,
    /// Send what is there without waiting for linger.
    flushing: bool,
    backoff: Backoff,
    rng: ChaCha8Rng,
}

impl<T> Machine<T> {
    pub(crate) fn new(config: ProducerConfig, backoff: Backoff, rng: ChaCha8Rng) -> Self {
        let identity = if config.idempotent() {
            Identity::Needed { not_before: MonoTime(0), failures: 0 }
        } else {
            Identity::Plain
        };
        Machine {
            config,
            identity,
            topics: BTreeMap::new(),
            partitions: BTreeMap::new(),
            buffered: 0,
            requests: BTreeMap::new(),
            next_request: 0,
            flushing: false,
            backoff,
            rng,
        }
    }

    /// Takes a record. `partitions` is how many its topic has, if known. True if there may be something to do now.
    pub(crate) fn append(
        &mut self,
        now: MonoTime,
        record: Record,
        partitions: Option<i32>,
        receipt: T,
    ) -> Result<bool, (Refused, T)> {
        let size =
            RecordBatchBuilder::record_size_bound(record.key.as_deref(), record.value.as_deref(), &record.headers);
        let refused = if let Identity::Fatal(code) = self.identity {
            Some(Refused::Fatal(code))
        } else if size > self.config.max_request_size {
            Some(Refused::TooLarge)
        } else if self.buffered + size > self.config.buffer_memory {
            Some(Refused::BufferFull)
        } else {
            None
        };
        if let Some(refused) = refused {
            return Err((refused, receipt));
        }
        self.buffered += size;
        if let Some(partition) = record.partition {
            let partition = TopicPartition { topic: record.topic.clone(), partition };
            return Ok(self.add(now, partition, record, size, receipt));
        }
        let topic = self
            .topics
            .entry(record.topic.clone())
            .or_insert_with(|| Unassigned { records: VecDeque::new(), partitioner: Partitioner::default() });
        match partitions.filter(|count| *count > 0) {
            // Behind those that wait already.
            Some(count) if topic.records.is_empty() => {
                let key = record.key.as_deref();
                let index = topic.partitioner.choose(key, size, self.config.batch_size, count, &mut self.rng);
                let partition = TopicPartition { topic: record.topic.clone(), partition: index };
                Ok(self.add(now, partition, record, size, receipt))
            }
            _ => {
                topic.records.push_back((now, record, size, receipt));
                Ok(true)
            }
        }
    }

    /// Puts a record into its partition's newest batch. True if that began a batch or filled one.
    fn add(&mut self, now: MonoTime, partition: TopicPartition, record: Record, size: usize, receipt: T) -> bool {
        let queue = &mut self.partitions.entry(partition).or_insert_with(Partition::new).queue;
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        if let Some(newest) = queue.back_mut()
            && newest.size() + size <= self.config.batch_size
            && !newest.in_flight()
            && newest.stamp.is_none()
            && let Some(builder) = newest.open()
            && builder.push(record.timestamp, key, value, &record.headers).is_ok()
        {
            newest.count += 1;
            newest.memory += size;
            newest.receipts.push(receipt);
            return newest.size() >= self.config.batch_size;
        }
        let mut batch = Batch::new(now, self.config.compression);
        let builder = batch.open().expect("a new batch takes records");
        builder
            .push(record.timestamp, key, value, &record.headers)
            .expect("max.request.size is far below a batch's limit");
        batch.count = 1;
        batch.memory = size;
        batch.receipts.push(receipt);
        queue.push_back(batch);
        true
    }

    /// From now on nothing lingers, until nothing is left.
    pub(crate) fn flush(&mut self) {
        self.flushing = true;
    }

    /// Nothing waits and nothing is in flight.
    pub(crate) fn is_empty(&self) -> bool {
        self.requests.is_empty()
            && self.partitions.values().all(|partition| partition.queue.is_empty())
            && self.topics.values().all(|topic| topic.records.is_empty())
    }

    /// Bytes of records that wait or are in flight.
    pub(crate) fn buffered(&self) -> usize {
        self.buffered
    }

    /// The newest producer id and epoch.
    pub(crate) fn session(&self) -> Option<(ProducerId, ProducerEpoch)> {
        match self.identity {
            Identity::Known(session) => Some((session.id, session.epoch)),
            _ => None,
        }
    }

    /// What is to be done now.
    pub(crate) fn poll(&mut self, now: MonoTime, view: &mut dyn View, out: &mut Vec<Output<T>>) {
        self.assign(view, out);
        self.expire(now, out);
        self.fail_if_fatal(out);
        if let Identity::Needed { not_before, failures } = self.identity
            && not_before <= now
            && self.partitions.values().any(|partition| !partition.queue.is_empty())
        {
            self.identity = Identity::Asked { failures };
            out.push(Output::AskProducerId);
        }
        while self.send_one_of_each(now, view, out) {}
        if self.flushing && self.is_empty() {
            self.flushing = false;
        }
    }

    /// Gives partitions to records that came before their topic was known.
    fn assign(&mut self, view: &dyn View, out: &mut Vec<Output<T>>) {
        let mut waiting = Vec::new();
        for (name, topic) in &mut self.topics {
            if topic.records.is_empty() {
                continue;
            }
            let Some(count) = view.partition_count(name).filter(|count| *count > 0) else {
                out.push(Output::RefreshMetadata);
                continue;
            };
            for (created, record, size, receipt) in topic.records.drain(..) {
                let key = record.key.as_deref();
                let index = topic.partitioner.choose(key, size, self.config.batch_size, count, &mut self.rng);
                waiting.push((
                    created,
                    TopicPartition { topic: name.clone(), partition: index },
                    record,
                    size,
                    receipt,
                ));
            }
        }
        for (created, partition, record, size, receipt) in waiting {
            self.add(created, partition, record, size, receipt);
        }
    }

    /// Gives up what is older than `delivery.timeout.ms`.
    fn expire(&mut self, now: MonoTime, out: &mut Vec<Output<T>>) {
        let timeout = self.config.delivery_timeout;
        for (name, topic) in &mut self.topics {
            while topic.records.front().is_some_and(|(created, ..)| *created + timeout <= now) {
                let Some((_, record, size, receipt)) = topic.records.pop_front() else { break };
                self.buffered -= size;
                let partition = record.partition.map(|p| TopicPartition { topic: name.clone(), partition: p });
                let error = ProduceError {
                    code: ErrorCode::RequestTimedOut,
                    outcome: Outcome::Definite,
                    partition,
                    producer: None,
                };
                out.push(Output::Settle(receipt, Err(error)));
            }
        }
        for (name, partition) in &mut self.partitions {
            let mut index = 0;
            while let Some(batch) = partition.queue.get_mut(index) {
                if batch.created + timeout > now {
                    break;
                }
                if batch.in_flight() {
                    // Its owners hear of it; its number stays in use until the request is answered.
                    if !batch.settled {
                        batch.settled = true;
                        fail(name, batch, ErrorCode::RequestTimedOut, out);
                    }
                    index += 1;
                } else {
                    self.buffered -= drop_failed(name, partition, index, ErrorCode::RequestTimedOut, &self.config, out);
                }
            }
        }
    }

    fn fail_if_fatal(&mut self, out: &mut Vec<Output<T>>) {
        let Identity::Fatal(code) = self.identity else { return };
        for (name, partition) in &mut self.partitions {
            while let Some(index) = partition.queue.iter().position(|batch| !batch.in_flight()) {
                self.buffered -= drop_failed(name, partition, index, code, &self.config, out);
            }
        }
        for topic in self.topics.values_mut() {
            for (_, _, size, receipt) in topic.records.drain(..) {
                self.buffered -= size;
                let error = ProduceError { code, outcome: Outcome::Definite, partition: None, producer: None };
                out.push(Output::Settle(receipt, Err(error)));
            }
        }
    }

    /// At most one request to each node, with at most one batch of each partition. True if anything was sent.
    fn send_one_of_each(&mut self, now: MonoTime, view: &mut dyn View, out: &mut Vec<Output<T>>) -> bool {
        let mut requests: BTreeMap<NodeId, Draft> = BTreeMap::new();
        let mut refresh = false;
        let full = self.buffered + self.config.batch_size > self.config.buffer_memory;
        let hurry = self.flushing || full;
        for (name, partition) in &mut self.partitions {
            if partition.queue.is_empty() {
                continue;
            }
            let Some(leader) = view.leader(name) else {
                refresh = true;
                continue;
            };
            let node = leader.node;
            let limit = self.config.max_in_flight.min(if self.config.idempotent() { 5 } else { usize::MAX });
            let Some(index) = partition.next(now, node, limit) else { continue };
            let batch = &partition.queue[index];
            let is_newest = index + 1 == partition.queue.len();
            let ripe = hurry
                || !is_newest
                || batch.failures > 0
                || batch.size() >= self.config.batch_size
                || batch.created + self.config.linger <= now;
            let busy = self.requests.values().filter(|sent| sent.node == node).count();
            if !ripe || busy >= self.config.max_in_flight || !view.is_ready(node) {
                continue;
            }
            let size = batch.size();
            let next_request = &mut self.next_request;
            let draft = requests.entry(node).or_insert_with(|| {
                *next_request += 1;
                Draft { request: *next_request, parts: Vec::new(), epochs: Vec::new(), size: 0 }
            });
            if draft.size > 0 && draft.size + size > self.config.max_request_size {
                continue;
            }
            if self.config.idempotent() && !number(&mut self.identity, partition, index) {
                continue;
            }
            let Some(records) = partition.queue[index].bytes(self.config.compression) else {
                self.buffered -= drop_failed(name, partition, index, ErrorCode::RecordListTooLarge, &self.config, out);
                continue;
            };
            partition.queue[index].place = Place::InFlight { request: draft.request };
            partition.sent_to = Some(node);
            draft.parts.push(Part { partition: name.clone(), topic_id: leader.topic_id, records });
            draft.epochs.push(leader.epoch);
            draft.size += size;
        }
        if refresh {
            out.push(Output::RefreshMetadata);
        }
        let mut sent = false;
        for (node, Draft { request, parts, epochs, .. }) in requests {
            if parts.is_empty() {
                continue;
            }
            sent = true;
            let partitions = parts.iter().map(|part| part.partition.clone()).collect();
            self.requests.insert(request, Sent { node, partitions, epochs });
            out.push(Output::Send { request, node, parts });
        }
        sent
    }

    /// A request was answered, or will never be. Partitions that the answer leaves out are as good as unanswered.
    pub(crate) fn answered(
        &mut self,
        now: MonoTime,
        request: u64,
        answer: Result<Vec<PartAnswer>, CallError>,
        out: &mut Vec<Output<T>>,
    ) {
        let Some(sent) = self.requests.remove(&request) else { return };
        let answers = answer.as_ref().map(Vec::as_slice).unwrap_or_default();
        for (partition, epoch) in sent.partitions.iter().zip(sent.epochs) {
            match answers.iter().find(|answer| answer.partition == *partition) {
                Some(told) if matches!(told.error, ErrorCode::None | ErrorCode::DuplicateSequenceNumber) => {
                    self.appended(partition, request, told, epoch, out);
                }
                Some(told) => {
                    let doubtful = of_attempt(told.error, self.config.acks) == Outcome::Indeterminate;
                    self.refused(now, partition, request, told.error, doubtful, told.knows_better_leader, out);
                }
                None => {
                    let (code, doubtful) = match &answer {
                        Err(error) => (error.code(), !error.is_definite()),
                        Ok(_) => (ErrorCode::NetworkException, true),
                    };
                    self.refused(now, partition, request, code, doubtful, false, out);
                }
            }
        }
    }

    /// A request of acks=0 was handed to the network: nobody will say more.
    pub(crate) fn sent_unanswered(&mut self, request: u64, out: &mut Vec<Output<T>>) {
        let Some(sent) = self.requests.remove(&request) else { return };
        for (partition, epoch) in sent.partitions.into_iter().zip(sent.epochs) {
            let told = PartAnswer {
                partition,
                error: ErrorCode::None,
                base_offset: None,
                log_append_time: None,
                knows_better_leader: false,
            };
            self.appended(&told.partition, request, &told, epoch, out);
        }
    }

    fn appended(
        &mut self,
        name: &TopicPartition,
        request: u64,
        told: &PartAnswer,
        leader_epoch: Option<LeaderEpoch>,
        out: &mut Vec<Output<T>>,
    ) {
        let Some(partition) = self.partitions.get_mut(name) else { return };
        let Some(index) = find(partition, request) else { return };
        let Some(batch) = partition.queue.remove(index) else { return };
        self.buffered -= batch.memory;
        // Of a duplicate the broker may no longer know the offset.
        let base = told.base_offset.filter(|_| told.error.is_none());
        for (delta, receipt) in (0i64..).zip(batch.receipts) {
            let metadata = RecordMetadata {
                partition: name.clone(),
                offset: base.map(|base| base + delta),
                log_append_time: told.log_append_time,
                leader_epoch,
                producer: batch.stamp,
                failures: batch.failures,
            };
            out.push(Output::Settle(receipt, Ok(metadata)));
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn refused(
        &mut self,
        now: MonoTime,
        name: &TopicPartition,
        request: u64,
        code: ErrorCode,
        doubtful: bool,
        knows_better_leader: bool,
        out: &mut Vec<Output<T>>,
    ) {
        let config = &self.config;
        let Some(partition) = self.partitions.get_mut(name) else { return };
        let Some(index) = find(partition, request) else { return };
        if asks_for_metadata(code) {
            out.push(Output::RefreshMetadata);
        }
        let first_numbered = partition.is_first_numbered(index);
        let batch = &mut partition.queue[index];
        batch.doubtful |= doubtful;
        batch.last_error = Some(code);
        let wait = if knows_better_leader { std::time::Duration::ZERO } else { self.backoff.delay(batch.failures) };
        batch.failures += 1;
        batch.place = Place::Waiting { not_before: now + wait };
        let out_of_sequence = matches!(code, ErrorCode::OutOfOrderSequenceNumber | ErrorCode::UnknownProducerId);
        let keep = if batch.settled || batch.failures > config.retries {
            false
        } else if out_of_sequence && batch.stamp.is_some() {
            if first_numbered {
                // Nothing older is missing that could still come: the number itself is wrong for this log.
                let renumber = !batch.doubtful || config.after_epoch_bump == AfterEpochBump::AsKafka;
                if renumber {
                    partition.open_gap(index, config.after_epoch_bump);
                }
                renumber
            } else {
                // An older batch failed before it; this one was refused for that one's sake.
                true
            }
        } else {
            code.is_retriable() || code == ErrorCode::NetworkException
        };
        if !keep {
            self.buffered -= drop_failed(name, partition, index, code, config, out);
        }
    }

    /// The answer to [`Output::AskProducerId`].
    pub(crate) fn got_producer_id(&mut self, now: MonoTime, answer: Result<(ProducerId, ProducerEpoch), ErrorCode>) {
        let Identity::Asked { failures } = self.identity else { return };
        self.identity = match answer {
            Ok((id, epoch)) => Identity::Known(Session { id, epoch }),
            Err(code) if code.is_retriable() => {
                Identity::Needed { not_before: now + self.backoff.delay(failures), failures: failures + 1 }
            }
            Err(code) => Identity::Fatal(code),
        };
    }

    /// Tells every owner that the producer is gone.
    pub(crate) fn abort(&mut self, out: &mut Vec<Output<T>>) {
        self.identity = Identity::Fatal(ErrorCode::OperationNotAttempted);
        self.fail_if_fatal(out);
        for (name, partition) in &mut self.partitions {
            for batch in &mut partition.queue {
                fail(name, batch, ErrorCode::NetworkException, out);
            }
        }
    }

    /// When [`Machine::poll`] has something to do by itself. What waits for a leader, a connection or an answer is not
    /// in it: those come with events.
    pub(crate) fn wakeup(&self, now: MonoTime) -> MonoTime {
        let mut at = MonoTime::NEVER;
        let mut waits = false;
        for partition in self.partitions.values() {
            let Some(oldest) = partition.queue.front() else { continue };
            waits = true;
            let mut consider = |moment: MonoTime| {
                if moment > now {
                    at = at.min(moment);
                }
            };
            if let Some(unsettled) = partition.queue.iter().find(|batch| !batch.settled) {
                consider(unsettled.created + self.config.delivery_timeout);
            }
            if let Place::Waiting { not_before } = oldest.place {
                consider(not_before);
            }
            if let Some(waiting) = partition.queue.iter().find(|batch| !batch.in_flight()) {
                if let Place::Waiting { not_before } = waiting.place {
                    consider(not_before);
                }
                consider(waiting.created + self.config.linger);
            }
            if let Some(numbered) = partition.queue.iter().find(|batch| !batch.in_flight() && batch.stamp.is_some())
                && let Place::Waiting { not_before } = numbered.place
            {
                consider(not_before);
            }
        }
        for topic in self.topics.values() {
            if let Some((created, ..)) = topic.records.front() {
                at = at.min(*created + self.config.delivery_timeout);
            }
        }
        if let Identity::Needed { not_before, .. } = self.identity
            && waits
            && not_before > now
        {
            at = at.min(not_before);
        }
        at
    }

    /// What must hold after every step.
    #[cfg(any(test, debug_assertions))]
    pub(crate) fn check_invariants(&self) {
        for partition in self.partitions.values() {
            partition.check_invariants();
            for batch in &partition.queue {
                assert!(
                    !batch.in_flight() || self.requests.contains_key(&request_of(batch)),
                    "a batch is in flight in request {}, which is not",
                    request_of(batch)
                );
            }
        }
        let batches: usize = self.partitions.values().flat_map(|p| &p.queue).map(|batch| batch.memory).sum();
        let waiting: usize = self.topics.values().flat_map(|topic| &topic.records).map(|(_, _, size, _)| *size).sum();
        assert_eq!(self.buffered, batches + waiting, "buffer memory is miscounted");
    }
}

/// Numbers the batch, raising the epoch first if that is due. False if it has to wait.
fn number<T>(identity: &mut Identity, partition: &mut Partition<T>, index: usize) -> bool {
    let current = if let Identity::Known(session) = *identity { Some(session) } else { None };
    let session = match (partition.numbering(index, current), current) {
        (Numbering::Ready, Some(session)) => session,
        (Numbering::NeedsBump, Some(session)) if session.epoch.0 < i16::MAX => {
            let raised = Session { id: session.id, epoch: session.epoch.next() };
            *identity = Identity::Known(raised);
            raised
        }
        // The epochs are used up: another producer id.
        (Numbering::NeedsBump, Some(_)) => {
            *identity = Identity::Needed { not_before: MonoTime(0), failures: 0 };
            return false;
        }
        (Numbering::Ready, None) => return partition.queue[index].stamp.is_some(),
        _ => return false,
    };
    partition.number(index, session);
    true
}

#[cfg(any(test, debug_assertions))]
fn request_of<T>(batch: &Batch<T>) -> u64 {
    match batch.place {
        Place::InFlight { request } => request,
        Place::Waiting { .. } => u64::MAX,
    }
}

fn find<T>(partition: &Partition<T>, request: u64) -> Option<usize> {
    partition.queue.iter().position(|batch| batch.place == Place::InFlight { request })
}

/// Tells a batch's owners that it failed.
fn fail<T>(name: &TopicPartition, batch: &mut Batch<T>, code: ErrorCode, out: &mut Vec<Output<T>>) {
    let outcome = batch.outcome();
    // A timeout is told by what kept it from going well, if anything said so and it is sure.
    let code = match batch.last_error {
        Some(last) if code == ErrorCode::RequestTimedOut && outcome == Outcome::Definite => last,
        _ => code,
    };
    for receipt in batch.receipts.drain(..) {
        let error = ProduceError { code, outcome, partition: Some(name.clone()), producer: batch.stamp };
        out.push(Output::Settle(receipt, Err(error)));
    }
}

/// Takes a batch that is not in flight out of the queue, tells its owners, and says how much memory that frees.
fn drop_failed<T>(
    name: &TopicPartition,
    partition: &mut Partition<T>,
    index: usize,
    code: ErrorCode,
    config: &ProducerConfig,
    out: &mut Vec<Output<T>>,
) -> usize {
    let Some(mut batch) = partition.queue.remove(index) else { return 0 };
    fail(name, &mut batch, code, out);
    if batch.stamp.is_some() {
        partition.open_gap(index, config.after_epoch_bump);
    }
    batch.memory
}

impl ProducerConfig {
    /// Whether sequence numbers are used: asked for, and possible with these acks (KIP-679).
    #[must_use]
    pub fn idempotent(&self) -> bool {
        self.idempotence && self.acks == Acks::All && self.max_in_flight <= 5
    }
}
