//! The quorum controller: it decides who is in the cluster, who leads each partition and who is in its ISR.
//!
//! A request becomes records and a parked reply; only replaying a record changes what the controller believes. The
//! active controller, a standby and a restarted one therefore walk the same path (KIP-500, KIP-631).
//!
//! States: **standby** replays what the quorum commits. **Claiming** has won the quorum's election but not yet
//! replayed everything before its own epoch, and refuses requests as a standby does. **Active** answers requests: it
//! keeps a *committed* image, fed only by [`Input::Committed`], and a *speculative* one that is ahead of it by the
//! records proposed and not yet committed. Losing the quorum, or one failed append, throws the speculative image away
//! and refuses what is parked: nobody was told of a change that may not be (KAFKA-14204).
//!
//! Differences from Kafka: what clients are told of topics is linearizable, refusals and `validate_only` included. Such an
//! answer rests on no record of its own, and Kafka gives it at once if nothing is under way: a controller that another
//! one has replaced, and that has not heard of it, tells of a topic that is gone. Here it waits for a record written after
//! it was asked for. And a client's change that is parked when the quorum is lost is refused with REQUEST_TIMED_OUT and
//! not with NOT_CONTROLLER, on which whoever forwards it asks again and is told of its own doing; sessions are checked
//! exactly when they end and not by a periodic task; enabling unclean election elects for leaderless partitions at
//! once, not within five minutes; eligible leader replicas (KIP-966) are carried through but not elected from.

mod brokers;
mod configs;
mod heartbeats;
mod observations;
mod partition_change;
mod placement;
mod producer_ids;
mod request;
#[cfg(test)]
mod tests;
mod topics;

pub use request::*;

use crate::metadata::MetadataImage;
use broker_types::{BrokerId, ErrorCode, LeaderEpoch, MonoTime, NodeId, Observation, Offset, OffsetAndEpoch};
use broker_wire::records::metadata::MetadataRecord;
use heartbeats::Sessions;
use rand_chacha::ChaCha8Rng;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// What an operator may set.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ControllerConfig {
    /// This controller's `node.id`.
    pub node: NodeId,
    /// The cluster's id; brokers that name another are refused.
    pub cluster_id: Arc<str>,
    /// `broker.session.timeout.ms`: a broker unheard of for so long is fenced.
    pub session_timeout: Duration,
    /// `metadata.max.idle.interval.ms`: an idle controller writes a NoOpRecord this often (KIP-835). Zero: never.
    pub max_idle_interval: Duration,
    /// `leader.imbalance.check.interval.seconds`, with `auto.leader.rebalance.enable`. `None`: never.
    pub preferred_election_interval: Option<Duration>,
    /// `num.partitions`.
    pub default_partitions: i32,
    /// `default.replication.factor`.
    pub default_replication_factor: i16,
    /// `min.insync.replicas` of this node's file: the value for topics for which nothing else is set.
    pub min_insync_replicas: i32,
    /// `unclean.leader.election.enable` of this node's file.
    pub unclean_leader_election: bool,
    /// `delete.topic.enable`.
    pub delete_topics: bool,
    /// The metadata.version an empty log is started with.
    pub bootstrap_metadata_version: i16,
    /// Most records in one batch; a request that needs more in one piece is refused. Kafka: 10,000.
    pub max_batch_records: usize,
    /// Most replies waiting for their records to be committed.
    pub max_parked: usize,
}

impl ControllerConfig {
    /// Kafka 4.3's defaults.
    #[must_use]
    pub fn new(node: NodeId, cluster_id: &str) -> Self {
        ControllerConfig {
            node,
            cluster_id: cluster_id.into(),
            session_timeout: Duration::from_secs(9),
            max_idle_interval: Duration::from_millis(500),
            preferred_election_interval: Some(Duration::from_secs(300)),
            default_partitions: 1,
            default_replication_factor: 1,
            min_insync_replicas: 1,
            unclean_leader_election: false,
            delete_topics: true,
            bootstrap_metadata_version: 30,
            max_batch_records: 10_000,
            max_parked: 10_000,
        }
    }
}

/// What a driver tells the controller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// The quorum elected this node.
    BecameLeader {
        /// In this epoch.
        epoch: LeaderEpoch,
        /// The log end after the leader-change record that opens the epoch. The next proposal is appended here.
        /// The controller becomes active once everything before it is committed and replayed (KIP-595).
        next_offset: Offset,
    },
    /// This node leads the quorum no more. Harmless when it never did.
    LostLeadership,
    /// The next batch of the metadata log, committed. Every batch, in order, also control batches and, while active,
    /// the controller's own.
    Committed(CommittedBatch),
    /// A snapshot stands in for the log before it. Never while this node leads (W-K12).
    SnapshotLoaded {
        /// The image, replayed from the snapshot's records.
        image: Box<MetadataImage>,
    },
    /// Raft appended the oldest proposal that was not yet answered. Comes before any later change of leadership.
    Appended {
        /// Where: must be what [`Output::Propose`] said.
        base: Offset,
    },
    /// Raft refused the oldest proposal that was not yet answered. The controller gives up its epoch.
    AppendFailed,
    /// Somebody asks.
    Request {
        /// Named in the reply.
        id: RequestId,
        /// What.
        request: ControllerRequest,
    },
    /// The time of [`Controller::wakeup`] has come.
    Wakeup,
}

/// One batch of the metadata log below the high watermark.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommittedBatch {
    /// First offset, inclusive.
    pub base: Offset,
    /// Last offset, inclusive.
    pub last: Offset,
    /// The quorum epoch written in it.
    pub epoch: LeaderEpoch,
    /// Its records; empty for a control batch, otherwise one for each offset.
    pub records: Vec<MetadataRecord>,
}

/// What the controller wants done, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Append these records to the metadata log as one batch. Answered by [`Input::Appended`] or
    /// [`Input::AppendFailed`], and later by [`Input::Committed`].
    Propose {
        /// The epoch in which this node leads; raft refuses another.
        epoch: LeaderEpoch,
        /// Where the batch must begin.
        base: Offset,
        /// The records; at least one, at most `max_batch_records`.
        records: Vec<MetadataRecord>,
    },
    /// Answer a request.
    Reply {
        /// Which.
        id: RequestId,
        /// The answer. NOT_CONTROLLER sends the asker to look for the active one.
        response: Result<ControllerResponse, Refusal>,
    },
    /// Give up leadership of the quorum (KAFKA-13104: both step down, or nobody leads).
    Resign {
        /// Of this epoch.
        epoch: LeaderEpoch,
    },
    /// Say what took effect; only the active controller does, when the records are committed.
    Observe(Observation),
}

/// The quorum controller of one node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Controller {
    config: ControllerConfig,
    /// Draws topic ids and placements. Only the active controller draws.
    rng: ChaCha8Rng,
    /// The committed prefix of the metadata log, replayed. Never goes back.
    committed: MetadataImage,
    role: Role,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Role {
    Standby,
    /// Elected, but the log before `next_offset` is not yet replayed to its end.
    Claiming {
        epoch: LeaderEpoch,
        next_offset: Offset,
    },
    Active(Box<Active>),
}

/// What only the active controller holds, and loses with its role.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Active {
    epoch: LeaderEpoch,
    /// The committed image and every proposed record after it. Requests are decided on it.
    speculative: MetadataImage,
    /// Which brokers were heard of, and when. Not in the log: a new active controller gives each a whole new session.
    sessions: Sessions,
    /// Where each proposal begins that raft has not yet answered, oldest first.
    unanswered: VecDeque<Offset>,
    /// Replies waiting for the log to be committed up to an offset; the offsets never fall. At most `max_parked`.
    parked: VecDeque<Parked>,
    next_no_op: MonoTime,
    next_preferred_election: MonoTime,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Parked {
    /// First offset that the reply does not depend on, exclusive.
    until: Offset,
    id: RequestId,
    response: Result<ControllerResponse, Refusal>,
    /// Whoever asked for a change must learn that it may have been made: it is not to be asked for twice.
    asked_once: bool,
}

/// What a request comes to: records to write and what to answer once they are committed.
struct Decision {
    records: Vec<MetadataRecord>,
    response: ControllerResponse,
}

impl std::hash::Hash for Controller {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (&self.config, &self.committed, &self.role).hash(state);
        (self.rng.get_seed(), self.rng.get_stream(), self.rng.get_word_pos()).hash(state);
    }
}

impl Controller {
    /// A standby that has replayed nothing. `rng` is its own stream.
    #[must_use]
    pub fn new(config: ControllerConfig, rng: ChaCha8Rng) -> Self {
        Controller { config, rng, committed: MetadataImage::new(), role: Role::Standby }
    }

    /// What the quorum has committed, as far as this node was told.
    #[must_use]
    pub fn committed(&self) -> &MetadataImage {
        &self.committed
    }

    /// The epoch in which this node is the active controller and answers requests.
    #[must_use]
    pub fn active_epoch(&self) -> Option<LeaderEpoch> {
        match &self.role {
            Role::Active(active) => Some(active.epoch),
            _ => None,
        }
    }

    /// When the controller next wants [`Input::Wakeup`].
    #[must_use]
    pub fn wakeup(&self) -> Option<MonoTime> {
        let Role::Active(active) = &self.role else { return None };
        let session = active.sessions.first_deadline(&active.speculative);
        let next = active.next_no_op.min(active.next_preferred_election).min(session.unwrap_or(MonoTime::NEVER));
        (next < MonoTime::NEVER).then_some(next)
    }

    /// Takes one input and appends what is to be done to `out`.
    ///
    /// # Panics
    ///
    /// When a committed record does not fit the committed image, or a batch is missing: a controller that went on
    /// would lead with a hole in its state (KAFKA-14275).
    pub fn step(&mut self, now: MonoTime, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::BecameLeader { epoch, next_offset } => {
                self.stand_down(out);
                self.role = Role::Claiming { epoch, next_offset };
                self.maybe_activate(now, out);
            }
            Input::LostLeadership => self.stand_down(out),
            Input::Committed(batch) => {
                self.replay(&batch, out);
                self.answer_committed(out);
                self.maybe_activate(now, out);
            }
            Input::SnapshotLoaded { image } => {
                assert!(
                    !matches!(self.role, Role::Active(_)),
                    "snapshot up to {:?} loaded by the active controller",
                    image.end()
                );
                assert!(
                    image.end().offset >= self.committed.end().offset,
                    "snapshot up to {:?} loaded over an image up to {:?}",
                    image.end(),
                    self.committed.end()
                );
                self.committed = *image;
                self.maybe_activate(now, out);
            }
            Input::Appended { base } => {
                let Role::Active(active) = &mut self.role else { return };
                // An answer to a proposal of a term that was given up finds nothing to answer.
                if let Some(expected) = active.unanswered.pop_front()
                    && expected != base
                {
                    tracing::error!(%expected, at = %base, "metadata records were appended at the wrong place");
                    self.resign(out);
                }
            }
            Input::AppendFailed => self.resign(out),
            Input::Request { id, request } => self.answer(now, id, request, out),
            Input::Wakeup => self.wake(now, out),
        }
    }

    /// Gives up what is not committed: nobody was told of it, and what is parked is refused.
    fn stand_down(&mut self, out: &mut Vec<Output>) {
        let Role::Active(active) = std::mem::replace(&mut self.role, Role::Standby) else { return };
        tracing::info!(
            epoch = %active.epoch,
            committed = %self.committed.end().offset,
            speculative = %active.speculative.end().offset,
            "no longer the active controller"
        );
        for parked in active.parked {
            // The next controller may find the records in its log.
            let error = if parked.asked_once { ErrorCode::RequestTimedOut } else { ErrorCode::NotController };
            let response = Err(Refusal::new(error, "the controller lost its leadership"));
            out.push(Output::Reply { id: parked.id, response });
        }
    }

    fn resign(&mut self, out: &mut Vec<Output>) {
        let Some(epoch) = self.active_epoch() else { return };
        self.stand_down(out);
        out.push(Output::Resign { epoch });
    }

    fn maybe_activate(&mut self, now: MonoTime, out: &mut Vec<Output>) {
        let Role::Claiming { epoch, next_offset } = self.role else { return };
        if self.committed.end().offset < next_offset {
            return;
        }
        assert_eq!(self.committed.end().offset, next_offset, "somebody wrote in our epoch {epoch}");
        tracing::info!(%epoch, %next_offset, "now the active controller");
        let mut active = Active {
            epoch,
            speculative: self.committed.clone(),
            sessions: Sessions::start(&self.committed, now + self.config.session_timeout),
            unanswered: VecDeque::new(),
            parked: VecDeque::new(),
            next_no_op: match self.config.max_idle_interval {
                Duration::ZERO => MonoTime::NEVER,
                interval => now + interval,
            },
            next_preferred_election: self.config.preferred_election_interval.map_or(MonoTime::NEVER, |i| now + i),
        };
        active.propose(&self.config, active.bootstrap_records(&self.config), out);
        self.role = Role::Active(Box::new(active));
    }

    /// The one way in which the committed image changes, on the active controller as on a standby.
    fn replay(&mut self, batch: &CommittedBatch, out: &mut Vec<Output>) {
        let at = self.committed.end().offset;
        assert_eq!(batch.base, at, "committed batch {}..={} does not follow offset {at}", batch.base, batch.last);
        let is_elected = !matches!(self.role, Role::Standby);
        for (index, record) in (0..).zip(&batch.records) {
            if is_elected {
                out.extend(observations::observation(&self.committed, record).map(Output::Observe));
            }
            if let Err(error) = self.committed.replay(record, batch.base + index, batch.epoch) {
                panic!("the metadata log cannot be replayed: {error}");
            }
        }
        let end = OffsetAndEpoch { offset: batch.last + 1, epoch: batch.epoch };
        if let Err(error) = self.committed.advance(end) {
            panic!("the metadata log cannot be replayed: {error}");
        }
    }

    fn answer_committed(&mut self, out: &mut Vec<Output>) {
        let Role::Active(active) = &mut self.role else { return };
        let committed = self.committed.end().offset;
        while let Some(parked) = active.parked.pop_front_if(|parked| parked.until <= committed) {
            out.push(Output::Observe(Observation::ControllerAnswered { until: parked.until }));
            out.push(Output::Reply { id: parked.id, response: parked.response });
        }
    }

    fn answer(&mut self, now: MonoTime, id: RequestId, request: ControllerRequest, out: &mut Vec<Output>) {
        let Role::Active(active) = &mut self.role else {
            out.push(Output::Reply { id, response: Err(ErrorCode::NotController.into()) });
            return;
        };
        if active.parked.len() >= self.config.max_parked {
            let response = Err(Refusal::new(ErrorCode::RequestTimedOut, "too many requests wait for the quorum"));
            out.push(Output::Reply { id, response });
            return;
        }
        let (asked_once, tells_of_topics) = (request.is_asked_once(), request.tells_of_topics());
        let before = active.speculative.end();
        let response = match active.decide(&self.config, &mut self.rng, now, request) {
            Ok(decision) => {
                active.propose(&self.config, decision.records, out);
                Ok(decision.response)
            }
            Err(refusal) => Err(refusal),
        };
        // Another controller may have been elected meanwhile, and have changed what this answer tells of. A record that is
        // proposed now and comes to be committed proves that none was; one that was proposed before does not.
        if tells_of_topics && active.speculative.end() == before {
            active.propose(&self.config, vec![MetadataRecord::NoOp], out);
        }
        // An answer may have been decided on records that are not committed, also one that writes none: it waits for
        // all that was proposed so far.
        let until = active.speculative.end().offset;
        active.parked.push_back(Parked { until, id, response, asked_once });
        self.answer_committed(out);
    }

    fn wake(&mut self, now: MonoTime, out: &mut Vec<Output>) {
        let Role::Active(active) = &mut self.role else { return };
        while let Some(broker) = active.sessions.first_expired(&active.speculative, now) {
            tracing::info!(%broker, "broker's session ended");
            let records = active.fence(&self.config, broker);
            active.propose(&self.config, records, out);
        }
        if active.next_preferred_election <= now {
            let interval = self.config.preferred_election_interval.unwrap_or(Duration::MAX);
            active.next_preferred_election = now + interval;
            let records = active.preferred_elections();
            active.propose(&self.config, records, out);
        }
        if active.next_no_op <= now {
            active.next_no_op = now + self.config.max_idle_interval;
            // Whoever waits for the quorum is not idle.
            if active.speculative.end() == self.committed.end() {
                active.propose(&self.config, vec![MetadataRecord::NoOp], out);
            }
        }
    }

    /// Checks what must hold after each step, by a scan of everything. For tests and simulation.
    ///
    /// # Panics
    ///
    /// When an invariant of the images is broken, or the active controller is not ahead of what is committed.
    pub fn check_invariants(&self) {
        self.committed.check_invariants();
        let Role::Active(active) = &self.role else { return };
        active.speculative.check_invariants();
        let (committed, speculative) = (self.committed.end().offset, active.speculative.end().offset);
        assert!(committed <= speculative, "committed up to {committed}, speculative only up to {speculative}");
        if committed == speculative {
            assert_eq!(self.committed, active.speculative, "two paths to offset {committed} give two images");
        }
        let mut until = committed;
        for parked in &active.parked {
            assert!(parked.until > committed && parked.until >= until, "{:?} parked out of order", parked.id);
            until = parked.until;
        }
        assert!(until <= speculative, "a reply waits for offset {until}, beyond {speculative}");
    }
}

impl Active {
    /// Writes records: the one way in which the speculative image changes. They go out in as many batches as they need.
    fn propose(&mut self, config: &ControllerConfig, mut records: Vec<MetadataRecord>, out: &mut Vec<Output>) {
        while !records.is_empty() {
            let rest = records.split_off(records.len().min(config.max_batch_records));
            let base = self.speculative.end().offset;
            for (index, record) in (0..).zip(&records) {
                if let Err(error) = self.speculative.replay(record, base + index, self.epoch) {
                    panic!("the active controller wrote what cannot be replayed: {error}: {record:?}");
                }
            }
            self.unanswered.push_back(base);
            out.push(Output::Propose { epoch: self.epoch, base, records });
            records = rest;
        }
    }

    fn decide(
        &mut self,
        config: &ControllerConfig,
        rng: &mut ChaCha8Rng,
        now: MonoTime,
        request: ControllerRequest,
    ) -> Result<Decision, Refusal> {
        match request {
            ControllerRequest::RegisterBroker(request) => self.register_broker(config, now, request),
            ControllerRequest::BrokerHeartbeat(request) => self.heartbeat(config, now, &request),
            ControllerRequest::UnregisterBroker { broker } => self.unregister_broker(config, broker),
            ControllerRequest::RegisterController(request) => Ok(self.register_controller(request)),
            ControllerRequest::CreateTopics { topics, validate_only } => {
                self.create_topics(config, rng, &topics, validate_only)
            }
            ControllerRequest::DeleteTopics { topics } => self.delete_topics(config, topics),
            ControllerRequest::CreatePartitions { topics, validate_only } => {
                self.create_partitions(config, rng, &topics, validate_only)
            }
            ControllerRequest::AlterPartition(request) => self.alter_partition(config, &request),
            ControllerRequest::AllocateProducerIds { broker, broker_epoch } => {
                self.allocate_producer_ids(broker, broker_epoch)
            }
            ControllerRequest::IncrementalAlterConfigs { resources, validate_only } => {
                self.alter_configs(config, resources, validate_only)
            }
            ControllerRequest::ElectLeaders { election, partitions } => self.elect_leaders(election, partitions),
        }
    }

    /// What an empty log begins with: the version that says how to read the rest.
    fn bootstrap_records(&self, config: &ControllerConfig) -> Vec<MetadataRecord> {
        use broker_wire::records::metadata::{FeatureLevelRecord, METADATA_VERSION};
        if self.speculative.metadata_version().is_some() {
            return Vec::new();
        }
        let (name, level) = (METADATA_VERSION.into(), config.bootstrap_metadata_version);
        vec![MetadataRecord::FeatureLevel(FeatureLevelRecord { name, level })]
    }

    /// Refuses whoever does not speak for the broker's current registration (KIP-631).
    fn check_broker_epoch(&self, broker: BrokerId, epoch: broker_types::BrokerEpoch) -> Result<(), Refusal> {
        match self.speculative.broker(broker) {
            Some(registration) if registration.epoch == epoch => Ok(()),
            Some(registration) => Err(Refusal::new(
                ErrorCode::StaleBrokerEpoch,
                format!("broker {broker} is registered with epoch {}, not {epoch}", registration.epoch),
            )),
            None => Err(Refusal::new(ErrorCode::StaleBrokerEpoch, format!("broker {broker} is not registered"))),
        }
    }
}

/// A request whose records would not fit in one batch is refused before anything is written (KAFKA-14204).
fn check_batch_size(config: &ControllerConfig, records: &[MetadataRecord]) -> Result<(), Refusal> {
    if records.len() <= config.max_batch_records {
        return Ok(());
    }
    Err(Refusal::new(
        ErrorCode::PolicyViolation,
        format!("the request needs {} records, more than the {} of one batch", records.len(), config.max_batch_records),
    ))
}
