//! One replica of one partition: who leads it, what is in sync, what is committed.
//!
//! ```text
//!                     metadata: I lead                      metadata: another leads
//!   Unassigned ───────────────────────▶ Leader ◀──────────────────────────────▶ Follower
//!       └──────────────────────────────────────────────────────────────────────▶ ▲
//!   any role ── an append failed, or the log directory ──▶ Offline (until the broker restarts)
//! ```
//!
//! A replica that has just been opened leads and follows nothing until metadata tells it to. Each leader epoch begins
//! afresh: a leader knows nothing of its followers until they fetch in this epoch, a follower asks from its log's end
//! and cuts only what the leader of this very epoch says is not its own (KIP-101, KIP-279, KIP-320). A change of the
//! ISR within an epoch resets nothing (KAFKA-13790).
//!
//! The driver carries out outputs at once and in order, and answers with inputs: [`Input::Appended`] when bytes are in
//! the page cache, [`Input::Flushed`] when they are durable. Readers come by functions that return what may be read;
//! those that find too little wait in a [`Purgatory`](crate::purgatory::Purgatory) until [`Output::Moved`].
//!
//! Where we differ from Kafka: the high watermark in a fetch answer already counts the fetch it answers; the idle
//! producer rule (see [`ProducerState`](crate::log::ProducerState)); the leader retries a refused ISR change only
//! after a pause.

mod follower;
mod io;
mod isr;
mod leader;
mod reads;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub use crate::log::{AppendOrigin, Ends, ReadLimit};
pub use io::{
    Acks, AlterPartitionResponse, BatchId, CommittedIsr, ConsumerFetch, FetchPosition, FetchResponse, FetchResult,
    FollowerFetch, Input, ListedBy, ListedOffset, Output, PartitionMetadata, Produce, ProduceResult, ProposalId, Read,
    ReplicaConfig, RequestId, TimestampBound, TopicConfig,
};

use crate::log::{LogState, RecoveredLog};
use crate::planted::{Bug, planted};
use broker_types::{
    BatchSummary, BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, MonoTime, Observation, Offset, PartitionEpoch,
    ReplicaRole,
};
use follower::Follower;
use leader::{Leader, Waiter};
use std::collections::VecDeque;
use std::time::Duration;
use tracing::{debug, info, warn};

/// How often idle producers are looked for, at most.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(600);

/// One replica of one partition.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Replica {
    config: ReplicaConfig,
    /// As the last metadata said.
    topic: TopicConfig,
    log: LogState,
    /// Epoch and version of the registration this replica goes by; `None` before the first. They never go back.
    known: Option<(LeaderEpoch, PartitionEpoch)>,
    local_broker_epoch: BrokerEpoch,
    role: Role,
    /// Appends put out and not yet answered, in log order: they fill the log from its end to its next offset.
    in_flight: VecDeque<InFlight>,
    /// The producers are being rebuilt as of this log end.
    reloading: Option<Offset>,
    /// The AlterPartition that is out, whether or not its outcome still matters: never two (KAFKA-12686).
    outstanding: Option<ProposalId>,
    last_proposal: u64,
    last_fetch: u64,
    /// A flush up to here was asked for; never beyond the log's end.
    flush_asked: Offset,
    next_expiry: MonoTime,
    /// The ends when `Moved` was last put out.
    told: Ends,
    /// Waiting readers must look again even if no end moved.
    reread: bool,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Role {
    /// Nothing is known yet.
    Unassigned,
    Leader(Leader),
    Follower(Follower),
    /// The log cannot be used any more.
    Offline,
}

/// An append on its way to the page cache.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct InFlight {
    batch: BatchId,
    base: Offset,
    summary: BatchSummary,
    leader_epoch: LeaderEpoch,
    role: ReplicaRole,
    /// Who wants to hear of it, on a leader that still leads.
    waiter: Option<Waiter>,
}

impl Replica {
    /// A replica with the log that storage found, waiting for metadata.
    #[must_use]
    pub fn new(config: ReplicaConfig, found: RecoveredLog, now: MonoTime) -> Self {
        let log = LogState::recovered(found);
        let told = log.ends();
        let flush_asked = log.offsets().flushed_end;
        let next_expiry = now + expiry_interval(&config);
        Replica {
            config,
            topic: TopicConfig::default(),
            log,
            known: None,
            local_broker_epoch: BrokerEpoch::default(),
            role: Role::Unassigned,
            in_flight: VecDeque::new(),
            reloading: None,
            outstanding: None,
            last_proposal: 0,
            last_fetch: 0,
            flush_asked,
            next_expiry,
            told,
            reread: false,
        }
    }

    /// Takes in one fact and puts out what is to be done, behind what `out` already holds.
    pub fn step(&mut self, now: MonoTime, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Appended { through } => self.appended(now, through, out),
            Input::Produce(produce) => self.produce(now, produce, out),
            Input::FetchResponse(response) => self.fetch_response(now, response, out),
            Input::Flushed { to } => self.flushed(now, to, out),
            Input::Metadata(metadata) => self.metadata(now, *metadata, out),
            Input::AlterPartition(response) => self.alter_partition_response(now, response, out),
            Input::LeaderOffsets { asked, result } => self.leader_offsets(asked, result, out),
            Input::ProducersReloaded { up_to, producers } => {
                if self.reloading == Some(up_to) {
                    self.reloading = None;
                    self.log.restore_producers(*producers);
                    self.reread = true;
                    self.maybe_fetch(out);
                }
            }
            Input::AdvanceLogStart { to } => self.advance_log_start(to, out),
            Input::Wakeup => self.wake(now, out),
            Input::AppendFailed { batch } => {
                warn!(partition = %self.config.partition, ?batch, "append failed");
                self.go_offline(out);
            }
            Input::LogDirFailed => self.go_offline(out),
        }
        self.tell_moved(out);
    }

    /// When it next wants [`Input::Wakeup`]. May be too early, never too late.
    #[must_use]
    pub fn wakeup(&self) -> Option<MonoTime> {
        let expiry = (!self.log.producers().is_empty()).then_some(self.next_expiry);
        let role = match &self.role {
            Role::Leader(leader) => leader.wakeup(),
            Role::Unassigned | Role::Follower(_) => None,
            Role::Offline => return None,
        };
        match (expiry, role) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// The log, for checkpoints, snapshots and inspection.
    #[must_use]
    pub fn log(&self) -> &LogState {
        &self.log
    }

    /// What this replica is of.
    #[must_use]
    pub fn config(&self) -> &ReplicaConfig {
        &self.config
    }

    /// Its role; `None` before the first metadata and after a failure of the log directory.
    #[must_use]
    pub fn role(&self) -> Option<ReplicaRole> {
        match self.role {
            Role::Leader(_) => Some(ReplicaRole::Leader),
            Role::Follower(_) => Some(ReplicaRole::Follower),
            Role::Unassigned | Role::Offline => None,
        }
    }

    /// Whether the log directory failed.
    #[must_use]
    pub fn is_offline(&self) -> bool {
        self.role == Role::Offline
    }

    /// The epoch it goes by.
    #[must_use]
    pub fn leader_epoch(&self) -> Option<LeaderEpoch> {
        self.known.map(|(leader_epoch, _)| leader_epoch)
    }

    /// The version of the registration it goes by.
    #[must_use]
    pub fn partition_epoch(&self) -> Option<PartitionEpoch> {
        self.known.map(|(_, partition_epoch)| partition_epoch)
    }

    /// As leader: the committed ISR, by id.
    #[must_use]
    pub fn isr(&self) -> Option<&[BrokerId]> {
        match &self.role {
            Role::Leader(leader) => Some(leader.isr.committed()),
            _ => None,
        }
    }

    /// Panics, naming the numbers, when something that must hold does not. Looks at everything: for tests and
    /// simulated worlds, after each step.
    pub fn check_invariants(&self) {
        self.log.check_invariants();
        let offsets = self.log.offsets();
        let mut end = offsets.log_end;
        for append in &self.in_flight {
            assert!(append.base >= end, "{}: overlapping appends {:?}", self.config.partition, self.in_flight);
            end = append.summary.last_from(append.base) + 1;
        }
        assert_eq!(end, offsets.next, "{}: appends do not fill the log to its next offset", self.config.partition);
        if let Role::Leader(leader) = &self.role {
            leader.check_invariants(&self.config, &self.log);
        }
    }

    // ---- metadata and roles

    fn metadata(&mut self, now: MonoTime, metadata: PartitionMetadata, out: &mut Vec<Output>) {
        if self.role == Role::Offline {
            return;
        }
        self.topic = metadata.topic;
        self.local_broker_epoch = metadata.local_broker_epoch;
        let news = (metadata.leader_epoch, metadata.partition_epoch);
        let known = self.known;
        if known.is_none_or(|(leader_epoch, _)| metadata.leader_epoch > leader_epoch) {
            self.known = Some(news);
            if metadata.leader == Some(self.config.local) {
                self.become_leader(now, &metadata, out);
            } else {
                self.become_follower(&metadata, out);
            }
        } else if known.is_some_and(|known| news > known) {
            // The leader epoch did not change: followers, positions and epoch cache stay as they are (KAFKA-13790).
            self.known = Some(news);
            if let Role::Leader(leader) = &mut self.role {
                let (before, was_settled) = (leader.isr.committed().to_vec(), leader.isr.is_settled());
                leader.adopt_registration(now, &self.config, &metadata);
                if leader.isr.committed() != before || !was_settled {
                    let isr = leader.isr.committed().into();
                    self.observe_isr(isr, out);
                }
            }
        }
        // Who is fenced and how the topic is configured changes without a new registration.
        if let Role::Leader(leader) = &mut self.role {
            leader.set_eligible(&metadata.eligible, &self.topic);
            self.maybe_flush(out);
            self.progress(now, out);
        } else {
            self.maybe_flush(out);
            self.maybe_fetch(out);
        }
    }

    fn become_leader(&mut self, now: MonoTime, metadata: &PartitionMetadata, out: &mut Vec<Output>) {
        let epoch = metadata.leader_epoch;
        // What is still on its way into the log is part of it: either it arrives or the log goes offline.
        let start = self.log.offsets().next;
        // Before the first record of the epoch, or an election without writes would leave no trace and this leader could
        // not say where the epochs before it ended (KAFKA-7415).
        if self.log.assign_epoch(epoch, start) {
            out.push(Output::CheckpointEpochs);
        }
        let former = std::mem::replace(&mut self.role, Role::Unassigned);
        let mut leader = Leader::new(now, &self.config, metadata, start);
        match former {
            // Led before and leads again, never having followed in between: its log is whole, and what waits is still
            // at its offset. It is answered once this epoch's followers have it.
            Role::Leader(former) => leader.inherit(former),
            Role::Follower(_) => out.push(Output::StopFetching),
            Role::Unassigned | Role::Offline => {}
        }
        info!(partition = %self.config.partition, leader_epoch = %epoch, %start, "became leader");
        out.push(Output::Observe(Observation::BecameLeader {
            partition: self.config.partition,
            leader_epoch: epoch,
            start,
            isr: metadata.isr.clone(),
        }));
        self.role = Role::Leader(leader);
        self.reread = true;
    }

    fn become_follower(&mut self, metadata: &PartitionMetadata, out: &mut Vec<Output>) {
        let epoch = metadata.leader_epoch;
        // A follower's high watermark is a round trip behind: what it cut here, a producer may have been told is safe.
        // The tail stays until the leader of this epoch says where their histories part (KIP-101).
        if planted(Bug::R01) && self.in_flight.is_empty() {
            self.truncate_to(self.log.offsets().high_watermark, out);
        }
        self.answer_all_waiting(ErrorCode::NotLeaderOrFollower, out);
        info!(partition = %self.config.partition, leader_epoch = %epoch, leader = ?metadata.leader, "became follower");
        out.push(Output::Observe(Observation::BecameFollower {
            partition: self.config.partition,
            leader_epoch: epoch,
            leader: metadata.leader,
        }));
        self.role = Role::Follower(Follower::new(metadata));
        if metadata.leader.is_none() {
            out.push(Output::StopFetching);
        }
        self.reread = true;
    }

    fn go_offline(&mut self, out: &mut Vec<Output>) {
        if self.role == Role::Offline {
            return;
        }
        self.answer_all_waiting(ErrorCode::KafkaStorageError, out);
        if matches!(self.role, Role::Follower(_)) {
            out.push(Output::StopFetching);
        }
        warn!(partition = %self.config.partition, "replica offline");
        self.role = Role::Offline;
        self.in_flight.clear();
        self.log.unreserve();
        self.reloading = None;
        self.reread = true;
    }

    /// Answers every produce request that waits, in the order of their offsets, and lets none wait on.
    fn answer_all_waiting(&mut self, error: ErrorCode, out: &mut Vec<Output>) {
        if let Role::Leader(leader) = &mut self.role {
            leader.answer_all(error, out);
        }
        for append in &mut self.in_flight {
            if let Some(waiter) = append.waiter.take() {
                out.push(refusal(waiter.request, error));
            }
        }
    }

    // ---- the disk's answers

    fn appended(&mut self, now: MonoTime, through: BatchId, out: &mut Vec<Output>) {
        let Some(position) = self.in_flight.iter().position(|append| append.batch == through) else { return };
        for append in self.in_flight.drain(..=position) {
            self.log.appended(append.base, &append.summary, now);
            let last = append.summary.last_from(append.base);
            out.push(Output::Observe(Observation::Appended {
                partition: self.config.partition,
                base: append.base,
                last,
                leader_epoch: append.leader_epoch,
                size: append.summary.size,
                crc: append.summary.crc,
                producer: append.summary.producer,
                is_transactional: append.summary.is_transactional,
                is_control: append.summary.is_control,
                role: append.role,
            }));
            if let (Role::Leader(leader), Some(waiter)) = (&mut self.role, append.waiter) {
                // acks=all waits for the high watermark: until then the record is on this one disk only.
                let acks = if planted(Bug::Z01) { Acks::Leader } else { waiter.acks };
                leader.park(append.base, last, Waiter { acks, ..waiter });
            }
        }
        self.maybe_flush(out);
        self.progress(now, out);
    }

    fn flushed(&mut self, now: MonoTime, to: Offset, out: &mut Vec<Output>) {
        self.log.flushed(to);
        if self.topic.flush_before_ack {
            self.progress(now, out);
        }
    }

    /// The log grew, became durable, or an ISR changed: does all that may follow from it.
    fn progress(&mut self, now: MonoTime, out: &mut Vec<Output>) {
        match &mut self.role {
            Role::Leader(_) => {
                self.advance_leader_high_watermark(now, out);
                self.answer_ready(out);
            }
            Role::Follower(_) => {
                self.follow_high_watermark(out);
                self.maybe_fetch(out);
            }
            Role::Unassigned | Role::Offline => {}
        }
    }

    /// With `flush.messages` = 1, asks for a flush of what is not durable yet, once.
    fn maybe_flush(&mut self, out: &mut Vec<Output>) {
        let offsets = self.log.offsets();
        if self.topic.flush_before_ack && offsets.log_end > self.flush_asked.max(offsets.flushed_end) {
            self.flush_asked = offsets.log_end;
            out.push(Output::Flush { to: offsets.log_end });
        }
    }

    /// The end of what counts as this replica's own: in the page cache as in Kafka, durable with `flush.messages` = 1.
    fn own_end(&self) -> Offset {
        if self.topic.flush_before_ack { self.log.offsets().flushed_end } else { self.log.offsets().log_end }
    }

    fn advance_log_start(&mut self, to: Offset, out: &mut Vec<Output>) {
        if self.role == Role::Offline {
            return;
        }
        if let Some(epochs_changed) = self.log.advance_log_start(to) {
            let log_start = self.log.offsets().log_start;
            self.flush_asked = self.flush_asked.max(log_start);
            out.push(Output::LogStartMoved { to: log_start });
            if epochs_changed {
                out.push(Output::CheckpointEpochs);
            }
            out.push(Output::Observe(Observation::LogStart { partition: self.config.partition, log_start }));
            self.reread = true;
        }
    }

    fn wake(&mut self, now: MonoTime, out: &mut Vec<Output>) {
        if now >= self.next_expiry {
            self.next_expiry = now + expiry_interval(&self.config);
            self.log.expire_producers(now, self.config.producer_id_expiration);
        }
        if matches!(self.role, Role::Leader(_)) {
            self.wake_leader(now, out);
        }
    }

    // ---- what is told

    fn tell_moved(&mut self, out: &mut Vec<Output>) {
        let ends = self.log.ends();
        if ends != self.told || self.reread {
            out.push(Output::Moved { ends, all: self.reread });
            self.told = ends;
            self.reread = false;
        }
    }

    fn observe_high_watermark(&self, role: ReplicaRole, out: &mut Vec<Output>) {
        let offsets = self.log.offsets();
        let leader_epoch = self.leader_epoch().unwrap_or_default();
        debug!(
            partition = %self.config.partition, %leader_epoch, high_watermark = %offsets.high_watermark,
            log_end = %offsets.log_end, ?role, "high watermark set"
        );
        out.push(Output::Observe(Observation::HighWatermark {
            partition: self.config.partition,
            leader_epoch,
            high_watermark: offsets.high_watermark,
            log_end: offsets.log_end,
            role,
        }));
    }

    fn observe_isr(&self, isr: Box<[BrokerId]>, out: &mut Vec<Output>) {
        let (leader_epoch, partition_epoch) = self.known.unwrap_or_default();
        info!(partition = %self.config.partition, %leader_epoch, %partition_epoch, ?isr, "ISR committed");
        out.push(Output::Observe(Observation::IsrCommitted {
            partition: self.config.partition,
            leader_epoch,
            partition_epoch,
            isr,
        }));
    }
}

/// A reply that says no.
fn refusal(request: RequestId, error: ErrorCode) -> Output {
    Output::Reply { request, result: ProduceResult { error, base_offset: None, log_start: None } }
}

fn expiry_interval(config: &ReplicaConfig) -> Duration {
    EXPIRY_INTERVAL.min(config.producer_id_expiration)
}
