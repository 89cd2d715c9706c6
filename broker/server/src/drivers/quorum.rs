//! The metadata quorum's hands: one task owns the raft machine, the metadata log and, on a controller, the controller.
//!
//! The controller acts strictly in the order of the metadata log, so the two machines share a task: what raft says of
//! the log reaches the controller before anything else can happen. As in Kafka, this task waits for its own fsyncs.

use crate::net::channel::Channel;
use crate::node::Node;
use crate::requests::quorum_api;
use crate::storage::{Log, LogBatch, QuorumStateFile, StorageError, read_slices, write_quorum_state};
use broker_core::controller::{self, CommittedBatch, Controller, ControllerRequest, ControllerResponse, Refusal};
use broker_core::metadata::MetadataImage;
use broker_core::raft::{
    self, BatchId, FetchOutcome, FetchedRecords, LogRange, ProposedBatch, QuorumDescription, Raft, Reply, SendId,
};
use broker_env::watch;
use broker_types::TopicIdPartition;
use broker_types::{ErrorCode, LeaderEpoch, MonoTime, NodeId, Observation, Offset, OffsetAndEpoch, ReplicaRole};
use broker_wire::record_batch::{Compression, RecordBatch, RecordBatchBuilder, split_fetched_batches};
use broker_wire::records::control::{ControlRecord, LeaderChange, Voter};
use broker_wire::records::metadata::MetadataRecord;
use bytes::{Bytes, BytesMut};
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Messages that wait for the driver, at most; senders wait beyond.
pub(crate) const INBOX: usize = 1024;
/// Messages taken at once.
const GULP: usize = 64;
/// Bytes of committed log decoded at once.
const COMMIT_READ_BYTES: usize = 1 << 20;

/// What connections and channels tell the driver.
pub(crate) enum QuorumMessage {
    /// A peer asks; answered with the reply and the records it names.
    Peer { request: raft::Request, reply: oneshot::Sender<(Reply, Bytes)> },
    /// A peer answered; `None`: it could not be reached.
    Answer { from: NodeId, id: SendId, answer: Option<(raft::Response<()>, Bytes)> },
    /// Somebody asks the active controller.
    Controller { request: ControllerRequest, reply: oneshot::Sender<Result<ControllerResponse, Refusal>> },
    /// DescribeQuorum; `NotLeaderOrFollower` unless this node leads.
    Describe { reply: oneshot::Sender<QuorumDescription> },
    /// The node is going to stop.
    Shutdown { done: oneshot::Sender<()> },
}

/// The ends of the driver's publications.
pub(crate) struct Publish {
    pub(crate) metadata: watch::Sender<Arc<MetadataImage>>,
    pub(crate) leader: watch::Sender<raft::LeaderAndEpoch>,
}

enum Next {
    Raft(raft::Input),
    Controller(controller::Input),
}

/// See the module's documentation.
pub(crate) struct Quorum {
    node: Arc<Node>,
    raft: Raft,
    controller: Option<Controller>,
    log: Log,
    /// Where `quorum-state` lies.
    state_file: PathBuf,
    inbox: mpsc::Receiver<QuorumMessage>,
    publish: Publish,
    /// What the metadata log says up to `applied`; for this node's broker side.
    image: MetadataImage,
    /// First offset that was not handed to the controller and the image.
    applied: Offset,
    next: VecDeque<Next>,
    next_id: u64,
    peers: BTreeMap<NodeId, Peer>,
    peer_replies: BTreeMap<raft::RequestId, oneshot::Sender<(Reply, Bytes)>>,
    controller_replies: BTreeMap<controller::RequestId, oneshot::Sender<Result<ControllerResponse, Refusal>>>,
    /// Bytes between a proposal or an answer and their append.
    batches: BTreeMap<BatchId, Vec<RecordBatch>>,
    shutting_down: Vec<oneshot::Sender<()>>,
    raft_out: Vec<raft::Output>,
    controller_out: Vec<controller::Output>,
}

/// Two channels to a voter: a fetch that waits at the leader must not hold up a vote.
struct Peer {
    fetch: mpsc::Sender<(SendId, raft::Request)>,
    other: mpsc::Sender<(SendId, raft::Request)>,
}

impl Quorum {
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn new(
        node: Arc<Node>,
        raft: Raft,
        controller: Option<Controller>,
        log: Log,
        state_file: PathBuf,
        inbox: mpsc::Receiver<QuorumMessage>,
        publish: Publish,
    ) -> Self {
        let mut peers = BTreeMap::new();
        for voter in node.config.voters.clone() {
            if voter.id == node.config.node_id && node.config.is_controller {
                continue;
            }
            let channel = |node: &Arc<Node>| {
                let (tx, rx) = mpsc::channel(16);
                let name = format!("raft-client-{}", node.config.node_id);
                let channel = Channel::new(node.env.clone(), name, voter.host.clone(), voter.port);
                node.env.go("quorum-channel", ask_peer(node.clone(), voter.id, channel, rx));
                tx
            };
            peers.insert(voter.id, Peer { fetch: channel(&node), other: channel(&node) });
        }
        Quorum {
            node,
            raft,
            controller,
            log,
            state_file,
            inbox,
            publish,
            image: MetadataImage::new(),
            applied: Offset::ZERO,
            next: VecDeque::new(),
            next_id: 0,
            peers,
            peer_replies: BTreeMap::new(),
            controller_replies: BTreeMap::new(),
            batches: BTreeMap::new(),
            shutting_down: Vec::new(),
            raft_out: Vec::new(),
            controller_out: Vec::new(),
        }
    }

    /// Runs until the node stops, or a disk or a belief is broken.
    pub(crate) async fn run(mut self) {
        self.next.push_back(Next::Raft(raft::Input::Wakeup));
        let mut timer = self.node.env.timer(MonoTime::NEVER);
        let mut messages = Vec::with_capacity(GULP);
        let mut stopping = self.node.stopping.clone();
        loop {
            if let Err(error) = self.work().await {
                tracing::error!(%error, "the metadata log failed; the node stops");
                self.node.observer.observe(Observation::LogDirFailed);
                self.node.fail();
                return;
            }
            let wakeup = [self.raft.wakeup(), self.controller.as_ref().and_then(Controller::wakeup)];
            timer.reset(wakeup.into_iter().flatten().min().unwrap_or(MonoTime::NEVER));
            use crate::net::race::{First, race};
            let told = race(self.inbox.recv_many(&mut messages, GULP), &mut timer);
            match race(stopping.wait_for(|stop| *stop), told).await {
                // A node that has shut down touches its disk no more.
                First::Left(_) | First::Right(First::Left(0)) => return,
                First::Right(First::Left(_)) => {
                    for message in messages.drain(..) {
                        self.take(message);
                    }
                }
                First::Right(First::Right(())) => {
                    self.next.push_back(Next::Raft(raft::Input::Wakeup));
                    if self.controller.is_some() {
                        self.next.push_back(Next::Controller(controller::Input::Wakeup));
                    }
                }
            }
        }
    }

    fn take(&mut self, message: QuorumMessage) {
        match message {
            QuorumMessage::Peer { request, reply } => {
                let id = raft::RequestId(self.draw_id());
                self.peer_replies.insert(id, reply);
                self.next.push_back(Next::Raft(raft::Input::Request { id, request }));
            }
            QuorumMessage::Answer { from, id, answer } => {
                let input = match answer.and_then(|(response, bytes)| self.receive(response, bytes)) {
                    Some(response) => raft::Input::Response { from, id, response },
                    None => raft::Input::SendFailed { to: from, id },
                };
                self.next.push_back(Next::Raft(input));
            }
            QuorumMessage::Controller { request, reply } => {
                if self.controller.is_none() {
                    let _ = reply.send(Err(Refusal::from(ErrorCode::NotController)));
                    return;
                }
                let id = controller::RequestId(self.draw_id());
                self.controller_replies.insert(id, reply);
                self.next.push_back(Next::Controller(controller::Input::Request { id, request }));
            }
            QuorumMessage::Describe { reply } => {
                let _ = reply.send(self.raft.describe());
            }
            QuorumMessage::Shutdown { done } => {
                self.shutting_down.push(done);
                self.next.push_back(Next::Raft(raft::Input::Shutdown));
            }
        }
    }

    fn draw_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Keeps a Fetch answer's batches under a name; `None` if they are no batches.
    fn receive(&mut self, response: raft::Response<()>, bytes: Bytes) -> Option<raft::PeerResponse> {
        let fetch = match response {
            raft::Response::Vote(vote) => return Some(raft::Response::Vote(vote)),
            raft::Response::BeginQuorumEpoch(answer) => return Some(raft::Response::BeginQuorumEpoch(answer)),
            raft::Response::EndQuorumEpoch(answer) => return Some(raft::Response::EndQuorumEpoch(answer)),
            raft::Response::Fetch(fetch) => fetch,
        };
        let outcome = match fetch.outcome {
            FetchOutcome::Nothing => FetchOutcome::Nothing,
            FetchOutcome::Diverging(at) => FetchOutcome::Diverging(at),
            FetchOutcome::Snapshot(id) => FetchOutcome::Snapshot(id),
            FetchOutcome::Records(()) => {
                let batches = match split_fetched_batches(bytes) {
                    Ok(batches) => batches,
                    Err(error) => {
                        tracing::warn!(%error, "metadata batches of a fetch are refused");
                        return None;
                    }
                };
                let id = BatchId(self.draw_id());
                let summaries = batches.iter().map(RecordBatch::summary).collect();
                self.batches.insert(id, batches);
                FetchOutcome::Records(FetchedRecords { id, batches: summaries })
            }
        };
        Some(raft::Response::Fetch(raft::FetchResponse {
            error: fetch.error,
            current: fetch.current,
            high_watermark: fetch.high_watermark,
            log_start: fetch.log_start,
            outcome,
        }))
    }

    /// Steps the machines until nothing is left to do at once.
    async fn work(&mut self) -> Result<(), StorageError> {
        while let Some(next) = self.next.pop_front() {
            let now = self.node.env.mono();
            match next {
                Next::Raft(input) => {
                    let fetched = match &input {
                        raft::Input::Response { response: raft::Response::Fetch(fetch), .. } => match &fetch.outcome {
                            FetchOutcome::Records(records) => Some(records.id),
                            _ => None,
                        },
                        _ => None,
                    };
                    let mut out = std::mem::take(&mut self.raft_out);
                    self.raft.step(now, input, &mut out);
                    for output in out.drain(..) {
                        self.carry_out(output).await?;
                    }
                    self.raft_out = out;
                    // What raft did not take of a Fetch answer is dropped.
                    fetched.map(|id| self.batches.remove(&id));
                }
                Next::Controller(input) => {
                    let Some(controller) = &mut self.controller else { continue };
                    let mut out = std::mem::take(&mut self.controller_out);
                    controller.step(now, input, &mut out);
                    for output in out.drain(..) {
                        self.obey(output);
                    }
                    self.controller_out = out;
                }
            }
        }
        Ok(())
    }

    async fn carry_out(&mut self, output: raft::Output) -> Result<(), StorageError> {
        match output {
            raft::Output::Persist(state) => {
                let file = QuorumStateFile {
                    epoch: state.epoch,
                    leader: state.leader,
                    voted: state.voted.map(|voter| voter.id),
                    voters: self.node.config.voter_ids(),
                };
                write_quorum_state(self.node.env.disk(), &self.state_file, &file).await?;
                self.next.push_back(Next::Raft(raft::Input::Persisted));
            }
            raft::Output::AppendLeaderChange { at, epoch, leader, voters, granting } => {
                let voters_of = |ids: Vec<NodeId>| ids.into_iter().map(|id| Voter { id, directory: None }).collect();
                let change = LeaderChange { leader, voters: voters_of(voters), granting_voters: voters_of(granting) };
                let (key, value) = ControlRecord::LeaderChange(change).encode();
                let now = self.node.env.wall().0;
                let batch = RecordBatchBuilder::control(at, epoch, now, None, &key, &value).expect("a small batch");
                self.append(vec![batch], ReplicaRole::Leader).await?;
            }
            raft::Output::Append { batch, at, last, epoch } => {
                let batches = self.batches.remove(&batch).expect("raft appends what was proposed");
                let summary = batches[0].summary();
                assert_eq!(
                    (summary.base_offset, summary.last_from(at), summary.leader_epoch),
                    (at, last, Some(epoch)),
                    "the controller's base offset is the log end"
                );
                self.append(batches, ReplicaRole::Leader).await?;
                self.next.push_back(Next::Controller(controller::Input::Appended { base: at }));
            }
            raft::Output::ProposalRefused { batch, .. } => {
                self.batches.remove(&batch);
                self.next.push_back(Next::Controller(controller::Input::AppendFailed));
            }
            raft::Output::AppendFetched { records, batches, at, end } => {
                let mut fetched = self.batches.remove(&records).expect("raft appends what was fetched");
                fetched.truncate(batches);
                let bounds = fetched.first().zip(fetched.last());
                let bounds = bounds.map(|(first, last)| (first.summary().base_offset, last.summary().end_offset()));
                assert_eq!(bounds, Some((at, end)), "raft counts what it appends");
                self.append(fetched, ReplicaRole::Follower).await?;
            }
            raft::Output::Truncate { to } => {
                let from = self.log.log_end();
                self.log.truncate_to(to).await?;
                self.observe(Observation::Truncated { partition: TopicIdPartition::METADATA, from, to });
            }
            raft::Output::Flush { to } => {
                self.log.flush_now().await?;
                self.next.push_back(Next::Raft(raft::Input::LogFlushed { to }));
            }
            raft::Output::Send { to, id, request } => self.send(to, id, request),
            raft::Output::Reply { id, response } => {
                if let Some(reply) = self.peer_replies.remove(&id) {
                    let bytes = match &response {
                        raft::Response::Fetch(fetch) => match fetch.outcome {
                            FetchOutcome::Records(range) => self.read(range).await?,
                            _ => Bytes::new(),
                        },
                        _ => Bytes::new(),
                    };
                    let _ = reply.send((response, bytes));
                }
            }
            raft::Output::HighWatermark { offset } => self.apply(offset).await?,
            raft::Output::BecameLeader { epoch, start } => {
                let next_offset = start + 1;
                self.next.push_back(Next::Controller(controller::Input::BecameLeader { epoch, next_offset }));
            }
            raft::Output::LostLeadership { .. } => {
                self.next.push_back(Next::Controller(controller::Input::LostLeadership));
            }
            raft::Output::LeaderChanged { current } => {
                self.publish.leader.send(current);
            }
            raft::Output::NeedSnapshot { from, snapshot } => {
                tracing::warn!(%from, ?snapshot, "snapshots of the metadata log are not built yet");
            }
            raft::Output::Observe(fact) => self.observe(fact),
            raft::Output::ShutdownReady => {
                for done in self.shutting_down.drain(..) {
                    let _ = done.send(());
                }
            }
            raft::Output::Fault(fault) => panic!("{fault}"),
        }
        Ok(())
    }

    fn obey(&mut self, output: controller::Output) {
        match output {
            controller::Output::Propose { epoch, base, records } => {
                let count = u32::try_from(records.len()).expect("bounded by max_batch_records");
                let batch = self.encode(epoch, base, &records);
                let id = BatchId(self.draw_id());
                self.batches.insert(id, vec![batch]);
                let batches = vec![ProposedBatch { id, records: count }];
                self.next.push_back(Next::Raft(raft::Input::Propose { epoch, batches }));
            }
            controller::Output::Reply { id, response } => {
                if let Some(reply) = self.controller_replies.remove(&id) {
                    let _ = reply.send(response);
                }
            }
            controller::Output::Resign { epoch } => {
                self.next.push_back(Next::Raft(raft::Input::Resign { epoch }));
            }
            controller::Output::Observe(fact) => self.observe(fact),
        }
    }

    fn encode(&self, epoch: LeaderEpoch, base: Offset, records: &[MetadataRecord]) -> RecordBatch {
        let now = self.node.env.wall().0;
        let mut builder = RecordBatchBuilder::new(Compression::None).at(base, epoch);
        let mut value = BytesMut::new();
        for record in records {
            value.clear();
            record.encode(&mut value);
            builder.push(now, None, Some(&value), &[]).expect("a batch of metadata is bounded by its controller");
        }
        builder.build().expect("a batch of at least one record")
    }

    async fn append(&mut self, batches: Vec<RecordBatch>, role: ReplicaRole) -> Result<(), StorageError> {
        let summaries: Vec<_> = batches.iter().map(RecordBatch::summary).collect();
        let place =
            |batch: RecordBatch| LogBatch { summary: batch.summary(), parts: [batch.into_bytes(), Bytes::new()] };
        self.log.append(batches.into_iter().map(place).collect()).await?;
        for summary in summaries {
            self.observe(Observation::Appended {
                partition: TopicIdPartition::METADATA,
                base: summary.base_offset,
                last: summary.last_from(summary.base_offset),
                leader_epoch: summary.leader_epoch.unwrap_or_default(),
                size: summary.size,
                crc: summary.crc,
                producer: summary.producer,
                is_transactional: summary.is_transactional,
                is_control: summary.is_control,
                role,
            });
        }
        Ok(())
    }

    async fn read(&mut self, range: LogRange) -> Result<Bytes, StorageError> {
        let max = usize::try_from(self.node.config.settings.quorum_fetch_max_bytes).unwrap_or(1 << 20);
        self.read_bytes(range.from, max, range.to).await
    }

    async fn read_bytes(&mut self, from: Offset, max: usize, up_to: Offset) -> Result<Bytes, StorageError> {
        let slices = self.log.read(from, max, up_to, true)?.found().await?;
        let mut pieces = read_slices(&slices).await.map_err(|error| self.corrupt(error.to_string()))?;
        if pieces.len() == 1 {
            return Ok(pieces.remove(0));
        }
        Ok(pieces.concat().into())
    }

    fn corrupt(&self, what: impl Into<String>) -> StorageError {
        StorageError::Corrupt { path: self.log.dir().to_owned(), what: what.into() }
    }

    fn send(&mut self, to: NodeId, id: SendId, request: raft::Request) {
        let sent = self.peers.get(&to).is_some_and(|peer| {
            let channel = if matches!(request, raft::Request::Fetch(_)) { &peer.fetch } else { &peer.other };
            channel.try_send((id, request)).is_ok()
        });
        if !sent {
            self.next.push_back(Next::Raft(raft::Input::SendFailed { to, id }));
        }
    }

    /// Hands what is committed to the controller and to the broker's image, in order.
    async fn apply(&mut self, high_watermark: Offset) -> Result<(), StorageError> {
        while self.applied < high_watermark {
            let bytes = self.read_bytes(self.applied, COMMIT_READ_BYTES, high_watermark).await?;
            let batches = split_fetched_batches(bytes).map_err(|error| self.corrupt(error.to_string()))?;
            if batches.is_empty() {
                return Err(self.corrupt(format!("no batch at {} below {high_watermark}", self.applied)));
            }
            for batch in batches {
                let committed = decode(&batch).map_err(|what| self.corrupt(what))?;
                if committed.base != self.applied {
                    return Err(self.corrupt(format!("batch at {} instead of {}", committed.base, self.applied)));
                }
                self.applied = committed.last + 1;
                self.replay(&committed);
                if self.controller.is_some() {
                    self.next.push_back(Next::Controller(controller::Input::Committed(committed)));
                }
            }
        }
        self.publish.metadata.send(Arc::new(self.image.visible().clone()));
        Ok(())
    }

    fn replay(&mut self, batch: &CommittedBatch) {
        for (index, record) in (0..).zip(&batch.records) {
            let at = batch.base + index;
            // A committed record that does not fit means that nodes disagree on what is committed (KAFKA-14275).
            if let Err(error) = self.image.replay(record, at, batch.epoch) {
                panic!("metadata record at {at}: {error}");
            }
        }
        let end = OffsetAndEpoch { offset: batch.last + 1, epoch: batch.epoch };
        self.image.advance(end).expect("the log is replayed in order");
    }

    fn observe(&self, fact: Observation) {
        self.node.observer.observe(fact);
    }
}

/// One committed batch's records.
fn decode(batch: &RecordBatch) -> Result<CommittedBatch, String> {
    let summary = batch.summary();
    let mut records = Vec::new();
    if !summary.is_control {
        for record in batch.records(COMMIT_READ_BYTES * 16).map_err(|error| error.to_string())? {
            let record = record.map_err(|error| error.to_string())?;
            let value = record.value.unwrap_or_default();
            records.push(MetadataRecord::decode(&value).map_err(|error| error.to_string())?);
        }
    }
    let base = summary.base_offset;
    Ok(CommittedBatch { base, last: summary.last_from(base), epoch: summary.leader_epoch.unwrap_or_default(), records })
}

/// Carries questions to one voter and its answers back, one at a time.
async fn ask_peer(
    node: Arc<Node>,
    peer: NodeId,
    mut channel: Channel,
    mut questions: mpsc::Receiver<(SendId, raft::Request)>,
) {
    let settings = &node.config.settings;
    let max_bytes = i32::try_from(settings.quorum_fetch_max_bytes).unwrap_or(i32::MAX);
    while let Some((id, question)) = questions.recv().await {
        let request = quorum_api::to_wire(&question, &node.config.cluster_id, peer, max_bytes);
        let version = request.api_key().versions().max;
        let answer = channel.ask(version, &request, settings.quorum_request_timeout).await;
        let answer = match answer {
            Ok(response) => quorum_api::reply_from_wire(response),
            Err(error) => {
                tracing::debug!(%peer, %error, "quorum request failed");
                None
            }
        };
        if node.quorum.send(QuorumMessage::Answer { from: peer, id, answer }).await.is_err() {
            return;
        }
    }
}
