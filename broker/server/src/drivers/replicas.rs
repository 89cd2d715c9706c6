//! The replicas' hands: one task owns every replica of this broker, its log and the requests that wait for it.
//!
//! A produce or fetch reaches this task once and is answered from here; nothing on its way is locked. Bytes are
//! checked by the connection before and read by the connection after, so that this task only decides and writes.

mod disk;
mod following;

use super::fetcher::{Fetched, Plan};
use super::hosted::{self, Hosted};
use super::isr::Proposal;
use crate::net::admission::Hold;
use crate::node::Node;
use crate::requests::timestamp;
use crate::storage::{self, Flushed, LogConfig, LogDir, LogDirContents, OpenLog, StorageError};
use broker_core::metadata::{MetadataDelta, MetadataImage, PartitionRegistration};
use broker_core::partition::{
    Acks, AlterPartitionResponse, AppendOrigin, BatchId, ConsumerFetch, FetchPosition, FollowerFetch, Input, ListedBy,
    Output, PartitionMetadata, Produce, ProduceResult, Read, ReadLimit, ReplicaConfig, RequestId, TopicConfig,
};
use broker_core::purgatory::{Purgatory, Watch};
use broker_env::watch;
use broker_types::{
    BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, MonoTime, NodeId, Offset, OffsetAndEpoch, TopicIdPartition,
    TopicPartition,
};
use broker_wire::record_batch::RecordBatch;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Messages that wait for the driver, at most; connections wait beyond.
pub(crate) const INBOX: usize = 4096;
/// Messages taken at once.
const GULP: usize = 128;
/// Partitions in one produce request, at most.
const MAX_PARTITIONS: u64 = 1 << 16;
/// Partitions that all parked fetches watch, together, at most. A fetch beyond is answered with what there is.
const MAX_PARKED: usize = 1 << 19;
/// Bound on a compressed batch that a search by time looks into.
const SEARCH_MAX_BYTES: usize = 64 << 20;

/// One partition of a fetch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FetchItem {
    pub(crate) partition: TopicIdPartition,
    /// `None` for a negative offset, which is out of range.
    pub(crate) offset: Option<Offset>,
    pub(crate) current_leader_epoch: Option<LeaderEpoch>,
    pub(crate) last_fetched_epoch: Option<LeaderEpoch>,
    pub(crate) log_start: Option<Offset>,
    pub(crate) max_bytes: usize,
}

/// A whole fetch.
pub(crate) struct FetchAsk {
    /// A follower and its broker epoch; `None` for a consumer.
    pub(crate) replica: Option<(BrokerId, Option<BrokerEpoch>)>,
    pub(crate) read_committed: bool,
    pub(crate) min_bytes: usize,
    pub(crate) max_bytes: usize,
    pub(crate) deadline: MonoTime,
    pub(crate) items: Vec<FetchItem>,
}

/// One partition's answer, in the order asked.
pub(crate) struct FetchAnswer {
    pub(crate) read: Result<Read, ErrorCode>,
    /// Where the bytes lie.
    pub(crate) data: storage::Read,
}

/// An offset found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listed {
    pub(crate) timestamp: Option<i64>,
    pub(crate) offset: Offset,
    pub(crate) leader_epoch: Option<LeaderEpoch>,
}

/// What this task is told and asked.
pub(crate) enum ReplicaMessage {
    Produce {
        items: Vec<(TopicIdPartition, RecordBatch)>,
        acks: Acks,
        deadline: MonoTime,
        reply: oneshot::Sender<Vec<ProduceResult>>,
        /// Until the records were appended, or refused.
        hold: Hold,
    },
    Fetch {
        ask: FetchAsk,
        reply: oneshot::Sender<Vec<FetchAnswer>>,
        /// Until it was answered, or parked.
        hold: Hold,
    },
    ListOffsets {
        partition: TopicIdPartition,
        timestamp: i64,
        by: ListedBy,
        current_leader_epoch: Option<LeaderEpoch>,
        reply: oneshot::Sender<Result<Option<Listed>, ErrorCode>>,
    },
    EndOfEpoch {
        partition: TopicIdPartition,
        epoch: Option<LeaderEpoch>,
        current_leader_epoch: Option<LeaderEpoch>,
        reply: oneshot::Sender<Result<Option<OffsetAndEpoch>, ErrorCode>>,
    },
    DeleteRecords {
        partition: TopicIdPartition,
        before: Option<Offset>,
        reply: oneshot::Sender<Result<Offset, ErrorCode>>,
    },
    /// A leader answered a fetch.
    Fetched { leader: NodeId, answers: Vec<Fetched> },
    /// A leader said where its log begins and ends.
    LeaderOffsets {
        leader: NodeId,
        partition: TopicIdPartition,
        asked: FetchPosition,
        result: Result<(Offset, Offset), ErrorCode>,
    },
    /// The controller answered proposals.
    Altered(Vec<(TopicIdPartition, AlterPartitionResponse)>),
    /// A flush ended.
    Flushed { partition: TopicIdPartition, result: Result<Flushed, StorageError> },
    /// Close every log; answered when the disk has everything.
    Shutdown { done: oneshot::Sender<()> },
}

struct PendingProduce {
    results: Vec<Option<ProduceResult>>,
    left: usize,
    reply: oneshot::Sender<Vec<ProduceResult>>,
}

struct PendingFetch {
    ask: FetchAsk,
    reply: oneshot::Sender<Vec<FetchAnswer>>,
}

/// What is fetched from one leader.
struct Lane {
    plans: mpsc::Sender<Plan>,
    /// A plan is out.
    busy: bool,
    positions: BTreeMap<TopicIdPartition, (MonoTime, FetchPosition)>,
    questions: VecDeque<(TopicIdPartition, FetchPosition)>,
}

/// See the module's documentation.
pub(crate) struct Replicas {
    node: Arc<Node>,
    inbox: mpsc::Receiver<ReplicaMessage>,
    own: mpsc::Sender<ReplicaMessage>,
    proposals: mpsc::Sender<Proposal>,
    dir: LogDir,
    /// What the directory held when it was opened; taken out as partitions are hosted.
    found: LogDirContents,
    hosted: BTreeMap<TopicIdPartition, Hosted>,
    alarms: BTreeSet<(MonoTime, TopicIdPartition)>,
    lanes: BTreeMap<NodeId, Lane>,
    produces: BTreeMap<u64, PendingProduce>,
    /// Parked.
    fetches: BTreeMap<u64, PendingFetch>,
    /// Partitions that they ask for, together.
    parked: usize,
    purgatory: Purgatory<u64, TopicIdPartition>,
    /// Fetches whose partitions moved, in order.
    ready: Vec<u64>,
    next_id: u64,
    /// What the hosted replicas were told.
    image: Arc<MetadataImage>,
    failed: bool,
    out: Vec<Output>,
    checkpoint_due: MonoTime,
    recovery_checkpoint_due: MonoTime,
}

impl Replicas {
    pub(crate) fn new(
        node: Arc<Node>,
        inbox: mpsc::Receiver<ReplicaMessage>,
        own: mpsc::Sender<ReplicaMessage>,
        proposals: mpsc::Sender<Proposal>,
        dir: LogDir,
        found: LogDirContents,
    ) -> Self {
        let now = node.env.mono();
        let settings = &node.config.settings;
        let checkpoint_due = now + settings.replica_high_watermark_checkpoint_interval;
        let recovery_checkpoint_due = now + settings.log_flush_offset_checkpoint_interval;
        Replicas {
            node,
            inbox,
            own,
            proposals,
            dir,
            found,
            hosted: BTreeMap::new(),
            alarms: BTreeSet::new(),
            lanes: BTreeMap::new(),
            produces: BTreeMap::new(),
            fetches: BTreeMap::new(),
            parked: 0,
            purgatory: Purgatory::default(),
            ready: Vec::new(),
            next_id: 0,
            image: Arc::new(MetadataImage::new()),
            failed: false,
            out: Vec::new(),
            checkpoint_due,
            recovery_checkpoint_due,
        }
    }

    /// Runs until the node stops.
    pub(crate) async fn run(mut self) {
        use crate::net::race::{First, race};
        let mut metadata = self.node.metadata.clone();
        let mut registered = self.node.broker_epoch.clone();
        let mut timer = self.node.env.timer(MonoTime::NEVER);
        let mut armed = MonoTime::NEVER;
        let mut messages = Vec::with_capacity(GULP);
        loop {
            self.answer_ready_fetches().await;
            self.send_plans();
            let wakeup = self.wakeup();
            if wakeup != armed {
                timer.reset(wakeup);
                armed = wakeup;
            }
            let told = race(wait_news(&mut metadata, &mut registered), &mut timer);
            match race(self.inbox.recv_many(&mut messages, GULP), told).await {
                First::Left(0) => return,
                First::Left(_) => {
                    for message in messages.drain(..) {
                        if let ReplicaMessage::Shutdown { done } = message {
                            self.close().await;
                            let _ = done.send(());
                            return;
                        }
                        self.take(message).await;
                    }
                }
                First::Right(First::Left(())) => self.apply_metadata().await,
                First::Right(First::Right(())) => {
                    armed = MonoTime::NEVER;
                    self.wake().await;
                }
            }
        }
    }

    fn wakeup(&self) -> MonoTime {
        let lanes = self.lanes.values().filter(|lane| !lane.busy);
        let delayed = lanes.flat_map(|lane| lane.positions.values().map(|(due, _)| *due)).min();
        [
            self.alarms.first().map(|(due, _)| *due),
            self.purgatory.wakeup(),
            delayed,
            Some(self.checkpoint_due),
            Some(self.recovery_checkpoint_due),
        ]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(MonoTime::NEVER)
    }

    async fn wake(&mut self) {
        let now = self.node.env.mono();
        self.purgatory.expire(now, &mut self.ready);
        while let Some((due, partition)) = self.alarms.first().copied()
            && due <= now
        {
            self.alarms.remove(&(due, partition));
            if let Some(hosted) = self.hosted.get_mut(&partition) {
                hosted.alarm = None;
            }
            self.drive(partition, Input::Wakeup).await;
        }
        let settings = &self.node.config.settings;
        if now >= self.checkpoint_due {
            self.checkpoint_due = now + settings.replica_high_watermark_checkpoint_interval;
            self.forget_abandoned();
            let outcome = self.checkpoint_high_watermarks().await;
            self.check(outcome).await;
        }
        if now >= self.recovery_checkpoint_due {
            self.recovery_checkpoint_due = now + self.node.config.settings.log_flush_offset_checkpoint_interval;
            let outcome = self.checkpoint_recovery_points().await;
            self.check(outcome).await;
        }
    }

    async fn take(&mut self, message: ReplicaMessage) {
        match message {
            ReplicaMessage::Produce { items, acks, deadline, reply, hold } => {
                self.produce(items, acks, deadline, reply).await;
                drop(hold);
            }
            ReplicaMessage::Fetch { ask, reply, hold } => {
                let id = self.draw_id();
                self.fetch(id, PendingFetch { ask, reply }, true).await;
                drop(hold);
            }
            ReplicaMessage::ListOffsets { partition, timestamp, by, current_leader_epoch, reply } => {
                self.list_offsets(partition, timestamp, by, current_leader_epoch, reply);
            }
            ReplicaMessage::EndOfEpoch { partition, epoch, current_leader_epoch, reply } => {
                let found = match (self.hosted.get(&partition), epoch) {
                    (None, _) => Err(self.absent(partition)),
                    (Some(_), None) => Ok(None),
                    (Some(hosted), Some(epoch)) => hosted.replica.offset_for_leader_epoch(epoch, current_leader_epoch),
                };
                let _ = reply.send(found);
            }
            ReplicaMessage::DeleteRecords { partition, before, reply } => {
                let _ = reply.send(self.delete_records(partition, before).await);
            }
            ReplicaMessage::Fetched { leader, answers } => {
                if let Some(lane) = self.lanes.get_mut(&leader) {
                    lane.busy = false;
                }
                for fetched in answers {
                    self.fetched(fetched).await;
                }
            }
            ReplicaMessage::LeaderOffsets { leader, partition, asked, result } => {
                if let Some(lane) = self.lanes.get_mut(&leader) {
                    lane.busy = false;
                }
                self.drive(partition, Input::LeaderOffsets { asked, result }).await;
            }
            ReplicaMessage::Altered(answers) => {
                for (partition, answer) in answers {
                    self.drive(partition, Input::AlterPartition(answer)).await;
                }
            }
            ReplicaMessage::Flushed { partition, result } => self.flushed(partition, result).await,
            ReplicaMessage::Shutdown { .. } => {}
        }
    }

    fn draw_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Why a partition is not here: nobody knows it, or another broker has it.
    fn absent(&self, partition: TopicIdPartition) -> ErrorCode {
        // Of the node's image, which may be newer than what the replicas were told.
        match self.node.image().partition(partition) {
            Some(_) if self.failed => ErrorCode::KafkaStorageError,
            Some(_) => ErrorCode::NotLeaderOrFollower,
            None => ErrorCode::UnknownTopicOrPartition,
        }
    }

    // ---- the machines

    /// Steps one replica and does what it says, until it has nothing more to say at once.
    async fn drive(&mut self, partition: TopicIdPartition, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let Some(hosted) = self.hosted.get_mut(&partition) else { return };
            let mut out = std::mem::take(&mut self.out);
            hosted.replica.step(self.node.env.mono(), input, &mut out);
            self.carry_out(partition, &mut out, &mut inputs).await;
            self.out = out;
        }
        self.set_alarm(partition);
    }

    fn set_alarm(&mut self, partition: TopicIdPartition) {
        let Some(hosted) = self.hosted.get_mut(&partition) else { return };
        let alarm = hosted.replica.wakeup();
        if alarm != hosted.alarm {
            if let Some(old) = hosted.alarm {
                self.alarms.remove(&(old, partition));
            }
            if let Some(new) = alarm {
                self.alarms.insert((new, partition));
            }
            hosted.alarm = alarm;
        }
    }

    async fn carry_out(&mut self, partition: TopicIdPartition, out: &mut Vec<Output>, inputs: &mut VecDeque<Input>) {
        let mut appends = Vec::new();
        let mut through = None;
        for output in out.drain(..) {
            if let Output::Append { batch, at, leader_epoch } = output {
                let hosted = self.hosted.get_mut(&partition).expect("it just spoke");
                let bytes = hosted.batches.remove(&batch.0).expect("a batch is appended or discarded once");
                appends.push(Hosted::place(bytes, at, leader_epoch));
                through = Some(batch);
                continue;
            }
            if let Some(through) = through.take() {
                self.append(partition, std::mem::take(&mut appends), through, inputs).await;
            }
            self.do_one(partition, output, inputs).await;
        }
        if let Some(through) = through {
            self.append(partition, appends, through, inputs).await;
        }
    }

    async fn append(
        &mut self,
        partition: TopicIdPartition,
        batches: Vec<storage::LogBatch>,
        through: BatchId,
        inputs: &mut VecDeque<Input>,
    ) {
        let hosted = self.hosted.get_mut(&partition).expect("it just spoke");
        match hosted.append(batches).await {
            Ok(rolled) => {
                inputs.push_back(Input::Appended { through });
                let enough = hosted.unflushed >= self.node.config.settings.log_flush_interval_messages;
                if rolled {
                    // The machine hears of these batches next: it is as of the end before them, at or before the roll.
                    let outcome = hosted.snapshot_producers(&self.node.env).await;
                    self.check(outcome).await;
                }
                if rolled || enough {
                    self.start_flush(partition);
                }
            }
            Err(error) => {
                inputs.push_back(Input::AppendFailed { batch: through });
                self.fail(&error).await;
            }
        }
    }

    async fn do_one(&mut self, partition: TopicIdPartition, output: Output, inputs: &mut VecDeque<Input>) {
        match output {
            Output::Append { .. } => {}
            Output::Discard { batch } => {
                if let Some(hosted) = self.hosted.get_mut(&partition) {
                    hosted.batches.remove(&batch.0);
                }
            }
            Output::Truncate { to } => {
                let outcome = self.truncate(partition, to).await;
                self.check(outcome).await;
            }
            Output::TruncateFullyAndStartAt { offset } => {
                let outcome = self.truncate_fully(partition, offset).await;
                self.check(outcome).await;
            }
            Output::ReloadProducers { up_to } => {
                let Some(hosted) = self.hosted.get(&partition) else { return };
                let (env, dir) = (self.node.env.clone(), hosted.log.dir().to_owned());
                let now = env.mono();
                match hosted::producers(&env, &dir, &hosted.log, up_to, now).await {
                    Ok(producers) => {
                        inputs.push_back(Input::ProducersReloaded { up_to, producers: Box::new(producers) });
                    }
                    Err(error) => self.fail(&error).await,
                }
            }
            Output::LogStartMoved { to } => {
                let outcome = self.move_log_start(partition, to).await;
                self.check(outcome).await;
            }
            Output::CheckpointEpochs => {
                let Some(hosted) = self.hosted.get(&partition) else { return };
                let outcome = hosted.checkpoint_epochs(&self.node.env).await;
                self.check(outcome).await;
            }
            Output::Flush { to } => {
                let Some(hosted) = self.hosted.get_mut(&partition) else { return };
                if hosted.flushing {
                    hosted.flush_again = Some(to);
                } else {
                    self.start_flush(partition);
                }
            }
            Output::Reply { request, result } => self.produced(request, result),
            Output::Moved { ends, all } => self.purgatory.moved(partition, &ends, all, &mut self.ready),
            Output::ProposeIsr { proposal, isr, leader_epoch, partition_epoch } => {
                let sent =
                    self.proposals.try_send(Proposal { partition, proposal, isr, leader_epoch, partition_epoch });
                if sent.is_err() {
                    let result = Err(ErrorCode::NetworkException);
                    inputs.push_back(Input::AlterPartition(AlterPartitionResponse { proposal, result }));
                }
            }
            Output::FetchFrom { position, delay } => self.plan(partition, position, delay),
            Output::AskLeaderOffsets { position } => {
                self.stop_fetching(partition);
                self.lane(position.leader).questions.push_back((partition, position));
            }
            Output::StopFetching => self.stop_fetching(partition),
            Output::Observe(fact) => self.node.observer.observe(fact),
        }
    }

    // ---- requests

    async fn produce(
        &mut self,
        items: Vec<(TopicIdPartition, RecordBatch)>,
        acks: Acks,
        deadline: MonoTime,
        reply: oneshot::Sender<Vec<ProduceResult>>,
    ) {
        let id = self.draw_id();
        let count = items.len();
        if count as u64 >= MAX_PARTITIONS
            || self.produces.len() as i64 >= self.node.config.settings.queued_max_requests * 64
        {
            // Nothing was written; a producer tries again.
            let error =
                if count as u64 >= MAX_PARTITIONS { ErrorCode::InvalidRequest } else { ErrorCode::RequestTimedOut };
            let refused = ProduceResult { error, base_offset: None, log_start: None };
            let _ = reply.send(vec![refused; count]);
            return;
        }
        self.produces.insert(id, PendingProduce { results: vec![None; count], left: count, reply });
        for (index, (partition, bytes)) in items.into_iter().enumerate() {
            let request = RequestId(id * MAX_PARTITIONS + index as u64);
            let batch = BatchId(self.draw_id());
            let Some(hosted) = self.hosted.get_mut(&partition) else {
                let error = self.absent(partition);
                self.produced(request, ProduceResult { error, base_offset: None, log_start: None });
                continue;
            };
            let summary = bytes.summary();
            hosted.batches.insert(batch.0, bytes);
            let origin = AppendOrigin::Client;
            self.drive(partition, Input::Produce(Produce { request, batch, summary, acks, origin, deadline })).await;
        }
    }

    fn produced(&mut self, request: RequestId, result: ProduceResult) {
        let (id, index) = (request.0 / MAX_PARTITIONS, request.0 % MAX_PARTITIONS);
        let Some(pending) = self.produces.get_mut(&id) else { return };
        let slot = &mut pending.results[usize::try_from(index).expect("below the bound")];
        if slot.replace(result).is_none() {
            pending.left -= 1;
        }
        if pending.left == 0
            && let Some(done) = self.produces.remove(&id)
        {
            let results = done.results.into_iter().map(|result| result.expect("none is left")).collect();
            let _ = done.reply.send(results);
        }
    }

    async fn answer_ready_fetches(&mut self) {
        // Answering may move ends again (an answer never does, but a follower's first fetch does).
        while !self.ready.is_empty() {
            for id in std::mem::take(&mut self.ready) {
                if let Some(pending) = self.unpark(id).filter(|pending| !pending.reply.is_closed()) {
                    self.fetch(id, pending, false).await;
                }
            }
        }
    }

    fn unpark(&mut self, id: u64) -> Option<PendingFetch> {
        let pending = self.fetches.remove(&id)?;
        self.parked -= pending.ask.items.len();
        Some(pending)
    }

    /// Lets go of fetches whose connections are gone.
    fn forget_abandoned(&mut self) {
        let gone = self.fetches.iter().filter(|(_, pending)| pending.reply.is_closed()).map(|(id, _)| *id);
        for id in gone.collect::<Vec<_>>() {
            self.purgatory.cancel(id);
            self.unpark(id);
        }
    }

    /// Reads for a fetch; parks it if there is too little. `first`: it just came, and a follower's position counts.
    async fn fetch(&mut self, id: u64, pending: PendingFetch, first: bool) {
        let now = self.node.env.mono();
        let ask = &pending.ask;
        let mut answers = Vec::with_capacity(ask.items.len());
        let mut bytes = 0_usize;
        let mut at_once = ask.items.is_empty() || now >= ask.deadline;
        for item in &ask.items {
            let read = self.read_for(ask, item, first).await;
            let left = ask.max_bytes.saturating_sub(bytes);
            let mut data = storage::Read::Ready(Vec::new());
            let mut read = read;
            match read {
                Ok(Read::Records { from, up_to, .. }) if from < up_to && (left > 0 || bytes == 0) => {
                    let hosted = self.hosted.get(&item.partition).expect("it just answered");
                    match hosted.log.read(from, item.max_bytes.min(left), up_to, bytes == 0) {
                        Ok(found) => {
                            bytes += match &found {
                                storage::Read::Ready(slices) => slices.iter().map(|slice| slice.len).sum(),
                                // Cold data is there in plenty; only the disk knows how much.
                                storage::Read::Search(_) => ask.min_bytes.max(1),
                            };
                            data = found;
                        }
                        Err(error) => read = Err(error.code()),
                    }
                }
                Ok(Read::Records { .. }) => {}
                Ok(Read::Diverging { .. }) | Err(_) => at_once = true,
            }
            answers.push(FetchAnswer { read, data });
        }
        if self.parked + ask.items.len() > MAX_PARKED {
            self.forget_abandoned();
        }
        let ask = &pending.ask;
        if at_once || bytes >= ask.min_bytes || self.parked + ask.items.len() > MAX_PARKED {
            let _ = pending.reply.send(answers);
            return;
        }
        let limit = match (ask.replica, ask.read_committed) {
            (Some(_), _) => ReadLimit::LogEnd,
            (None, true) => ReadLimit::LastStableOffset,
            (None, false) => ReadLimit::HighWatermark,
        };
        let watches = ask.items.iter().zip(&answers).filter_map(|(item, answer)| match &answer.read {
            Ok(Read::Records { ends, .. }) => Some(Watch { partition: item.partition, limit, beyond: ends.at(limit) }),
            _ => None,
        });
        self.purgatory.park(id, ask.deadline, watches);
        self.parked += pending.ask.items.len();
        self.fetches.insert(id, pending);
    }

    async fn read_for(&mut self, ask: &FetchAsk, item: &FetchItem, first: bool) -> Result<Read, ErrorCode> {
        let partition = item.partition;
        let Some(hosted) = self.hosted.get_mut(&partition) else { return Err(self.absent(partition)) };
        let offset = item.offset.ok_or(ErrorCode::OffsetOutOfRange)?;
        let Some((replica, broker_epoch)) = ask.replica else {
            return hosted.replica.consumer_fetch(&ConsumerFetch {
                offset,
                read_committed: ask.read_committed,
                current_leader_epoch: item.current_leader_epoch,
                last_fetched_epoch: item.last_fetched_epoch,
                from_follower: false,
            });
        };
        let fetch = FollowerFetch {
            replica,
            broker_epoch,
            offset,
            last_fetched_epoch: item.last_fetched_epoch,
            current_leader_epoch: item.current_leader_epoch,
            log_start: item.log_start,
        };
        if !first {
            return hosted.replica.reread_follower_fetch(&fetch);
        }
        let mut out = std::mem::take(&mut self.out);
        let read = hosted.replica.follower_fetch(self.node.env.mono(), &fetch, &mut out);
        let mut inputs = VecDeque::new();
        self.carry_out(partition, &mut out, &mut inputs).await;
        self.out = out;
        while let Some(input) = inputs.pop_front() {
            self.drive(partition, input).await;
        }
        self.set_alarm(partition);
        read
    }

    fn list_offsets(
        &mut self,
        partition: TopicIdPartition,
        wanted: i64,
        by: ListedBy,
        current: Option<LeaderEpoch>,
        reply: oneshot::Sender<Result<Option<Listed>, ErrorCode>>,
    ) {
        let Some(hosted) = self.hosted.get(&partition) else {
            let _ = reply.send(Err(self.absent(partition)));
            return;
        };
        let listed = |found: broker_core::partition::ListedOffset| {
            Some(Listed { timestamp: None, offset: found.offset, leader_epoch: found.leader_epoch })
        };
        let search = match wanted {
            timestamp::LATEST => {
                let _ = reply.send(hosted.replica.latest_offset(by, current).map(listed));
                return;
            }
            timestamp::EARLIEST | timestamp::EARLIEST_LOCAL => {
                let _ = reply.send(hosted.replica.earliest_offset(current).map(listed));
                return;
            }
            timestamp::MAX => hosted.log.offset_of_max_timestamp(SEARCH_MAX_BYTES),
            wanted if wanted >= 0 => hosted.log.offset_for_timestamp(wanted, SEARCH_MAX_BYTES),
            _ => {
                // Tiered storage's timestamps: nothing is there.
                let _ = reply.send(Ok(None));
                return;
            }
        };
        let bound = match hosted.replica.timestamp_bound(by, current) {
            Ok(bound) => bound,
            Err(error) => {
                let _ = reply.send(Err(error));
                return;
            }
        };
        self.node.env.go("search-by-time", async move {
            let found = match search.run().await {
                Ok(Some(hit)) if hit.offset < bound.up_to => Ok(Some(Listed {
                    timestamp: Some(hit.timestamp),
                    offset: hit.offset,
                    leader_epoch: hit.leader_epoch,
                })),
                Ok(Some(_)) => bound.beyond.map_or(Ok(None), Err),
                Ok(None) => Ok(None),
                Err(error) => Err(error.code()),
            };
            let _ = reply.send(found);
        });
    }

    async fn delete_records(
        &mut self,
        partition: TopicIdPartition,
        before: Option<Offset>,
    ) -> Result<Offset, ErrorCode> {
        let Some(hosted) = self.hosted.get(&partition) else { return Err(self.absent(partition)) };
        if hosted.replica.isr().is_none() {
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        let offsets = *hosted.replica.log().offsets();
        let to = before.unwrap_or(offsets.high_watermark);
        if to > offsets.high_watermark {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        if to > offsets.log_start {
            self.drive(partition, Input::AdvanceLogStart { to }).await;
        }
        let hosted = self.hosted.get(&partition).ok_or(ErrorCode::NotLeaderOrFollower)?;
        Ok(hosted.replica.log().offsets().log_start)
    }

    // ---- metadata

    /// Tells the replicas what changed. Before this broker's registration is accepted and replayed they are told
    /// nothing: a restarted leader must not resume an epoch whose tail it may have lost (KAFKA-14139 and its kin).
    async fn apply_metadata(&mut self) {
        let image = self.node.image();
        let own = self.node.config.node_id;
        let Some(epoch) = *self.node.broker_epoch.borrow() else { return };
        if image.broker(own).is_none_or(|broker| broker.epoch < epoch) || self.failed {
            return;
        }
        let delta = MetadataDelta::between(&self.image, &image);
        let first = self.image.brokers().is_empty();
        self.image = image;
        if delta.is_empty() {
            return;
        }
        let changes = delta.local_changes(own);
        for partition in &changes.stop {
            self.stop(*partition).await;
        }
        let mut concerned: BTreeMap<TopicIdPartition, Arc<PartitionRegistration>> = changes.lead;
        concerned.extend(changes.follow);
        if first {
            self.set_strays_aside(&concerned).await;
        }
        for partition in concerned.keys() {
            if !self.hosted.contains_key(partition)
                && let Some(topic) = self.image.topic(partition.topic)
            {
                let name = TopicPartition { topic: topic.name.clone(), partition: partition.partition };
                if let Err(error) = self.host(*partition, name).await {
                    self.fail(&error).await;
                    return;
                }
            }
        }
        let everyone = !delta.brokers.is_empty() || !delta.configs.is_empty();
        let told: Vec<TopicIdPartition> =
            if everyone { self.hosted.keys().copied().collect() } else { concerned.keys().copied().collect() };
        for partition in told {
            let Some(registration) = self.image.partition(partition) else { continue };
            let news = self.describe(partition, registration, epoch);
            let Some(hosted) = self.hosted.get_mut(&partition) else { continue };
            if hosted.told.as_ref() != Some(&news) {
                hosted.told = Some(news.clone());
                self.drive(partition, Input::Metadata(Box::new(news))).await;
            }
        }
    }

    fn describe(
        &self,
        partition: TopicIdPartition,
        registration: &PartitionRegistration,
        local_broker_epoch: BrokerEpoch,
    ) -> PartitionMetadata {
        let eligible = registration.replicas.iter().filter_map(|id| {
            let broker = self.image.broker(*id)?;
            (!broker.fenced && !broker.in_controlled_shutdown).then_some((*id, broker.epoch))
        });
        PartitionMetadata {
            leader: registration.leader,
            leader_epoch: registration.leader_epoch,
            partition_epoch: registration.partition_epoch,
            isr: registration.isr.clone().into(),
            replicas: registration.replicas.clone().into(),
            eligible: eligible.collect(),
            local_broker_epoch,
            topic: self.topic_config(partition),
        }
    }

    fn topic_config(&self, partition: TopicIdPartition) -> TopicConfig {
        let settings = &self.node.config.settings;
        let number = |key: &str, default: i64| {
            let topic = self.image.topic(partition.topic)?;
            let value = self.image.topic_config(&topic.name, Some(self.node.config.node_id), key)?;
            Some(value.parse::<i64>().unwrap_or(default))
        };
        let min_isr = number("min.insync.replicas", 1).unwrap_or(settings.min_insync_replicas);
        let max_bytes = number("max.message.bytes", 1_048_588).unwrap_or(settings.message_max_bytes);
        let flush = number("flush.messages", i64::MAX).unwrap_or(settings.log_flush_interval_messages);
        TopicConfig {
            min_insync_replicas: u32::try_from(min_isr).unwrap_or(1),
            max_message_bytes: u32::try_from(max_bytes).unwrap_or(u32::MAX),
            flush_before_ack: flush == 1,
            compacted: false,
        }
    }

    fn log_config(&self) -> LogConfig {
        let settings = &self.node.config.settings;
        let bytes = |value: i64| u64::try_from(value).unwrap_or(0);
        LogConfig {
            segment_bytes: bytes(settings.log_segment_bytes),
            segment_ms: settings.log_roll,
            segment_index_bytes: bytes(settings.log_index_size_max_bytes),
            index_interval_bytes: bytes(settings.log_index_interval_bytes),
        }
    }

    async fn host(&mut self, partition: TopicIdPartition, name: TopicPartition) -> Result<(), StorageError> {
        let env = self.node.env.clone();
        let known = self.found.partitions.iter().find(|dir| dir.partition == name);
        let path = match known.map(|dir| (dir.topic_id, dir.path.clone())) {
            Some((Some(id), path)) if id == partition.topic => path,
            Some(_) => {
                // Another incarnation of the topic, or a directory whose id was never synced (KAFKA-16814): not ours.
                let unique = u128::from(self.draw_id()) | partition.topic.0;
                self.dir.set_aside_stray(&name, unique).await?;
                self.dir.create_partition(&name, partition.topic).await?
            }
            None => self.dir.create_partition(&name, partition.topic).await?,
        };
        self.found.partitions.retain(|dir| dir.partition != name);
        let offset = |map: &BTreeMap<TopicPartition, Offset>| map.get(&name).copied().unwrap_or(Offset::ZERO);
        let opening = OpenLog {
            recovery_point: offset(&self.found.recovery_points),
            log_start: offset(&self.found.log_starts),
            clean_shutdown: self.found.clean_shutdown.is_some(),
        };
        let settings = &self.node.config.settings;
        let config = ReplicaConfig {
            replica_lag_time_max: settings.replica_lag_time_max,
            fetch_backoff: settings.replica_fetch_backoff,
            producer_id_expiration: settings.producer_id_expiration,
            ..ReplicaConfig::new(self.node.config.node_id, partition)
        };
        let high_watermark = offset(&self.found.high_watermarks);
        let (hosted, fact) =
            hosted::open(&env, &path, name, config, self.log_config(), opening, high_watermark).await?;
        self.node.observer.observe(fact);
        self.hosted.insert(partition, hosted);
        Ok(())
    }

    /// The partition is gone, or has no replica here any more.
    async fn stop(&mut self, partition: TopicIdPartition) {
        self.stop_fetching(partition);
        let Some(hosted) = self.hosted.remove(&partition) else { return };
        if let Some(alarm) = hosted.alarm {
            self.alarms.remove(&(alarm, partition));
        }
        // Whoever waits reads again and is told that the partition is not here.
        let ends = hosted.replica.log().ends();
        self.purgatory.moved(partition, &ends, true, &mut self.ready);
        let name = hosted.name.clone();
        drop(hosted);
        let unique = u128::from(self.draw_id()) | partition.topic.0;
        let outcome = match self.dir.begin_delete(&name, unique).await {
            Ok(path) => self.dir.finish_delete(&path).await,
            Err(error) => Err(error),
        };
        self.check(outcome).await;
    }

    /// Directories of partitions that the cluster no longer has here (KAFKA-14616: before anything else is opened).
    async fn set_strays_aside(&mut self, here: &BTreeMap<TopicIdPartition, Arc<PartitionRegistration>>) {
        let is_here = |dir: &storage::PartitionDir| {
            dir.topic_id
                .is_some_and(|topic| here.contains_key(&TopicIdPartition { topic, partition: dir.partition.partition }))
        };
        let strays: Vec<_> = self.found.partitions.iter().filter(|dir| !is_here(dir)).cloned().collect();
        for stray in strays {
            tracing::warn!(partition = %stray.partition, "a stray log is set aside");
            let unique = u128::from(self.draw_id()) | stray.topic_id.unwrap_or_default().0;
            let outcome = self.dir.set_aside_stray(&stray.partition, unique).await.map(drop);
            self.check(outcome).await;
            self.found.partitions.retain(|dir| dir.partition != stray.partition);
        }
    }
}

/// Waits for a new image, or for the registration that lets one count.
async fn wait_news(
    metadata: &mut watch::Receiver<Arc<MetadataImage>>,
    registered: &mut watch::Receiver<Option<BrokerEpoch>>,
) {
    use crate::net::race::race;
    race(next_change(metadata), next_change(registered)).await;
}

/// Waits for a new value; for ever when nobody can send one any more.
async fn next_change<T>(of: &mut watch::Receiver<T>) {
    if of.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
