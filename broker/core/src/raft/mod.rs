//! The metadata quorum: one replica of `__cluster_metadata-0` under KRaft (KIP-595, pre-vote of KIP-996, check-quorum
//! of KAFKA-15489). Decides who leads, what is appended and cut, and what is committed.
//!
//! # Roles
//!
//! ```text
//!              election timeout             majority would vote           majority voted
//!  Unattached -----------------> Prospective --------------> Candidate -----------------> Leader
//!    ^   |  ^                      |  ^   ^                    |                            |
//!    |   |  +--- refused, no leader+  |   +--- lost, timed out-+                            | no majority fetched,
//!    |   |                            |                                                     | shutdown, Input::Resign
//!    |   +--> Follower ---------------+ fetch timeout (a voter)                             v
//!    +------- fetch timeout (an observer) ; election timeout ---------------------------- Resigned
//! ```
//!
//! Any role meets a larger epoch: Follower if its leader is named, else Unattached. Unattached, Prospective and
//! Candidate learn of a leader in their own epoch: Follower. A voter starts Unattached, or Resigned if its file says
//! that it led. An observer is only ever Unattached (asking random voters for the leader) or Follower.
//!
//! # What makes it safe
//!
//! - **Told only when durable.** An epoch and a vote are promises. All messages and observations that follow from a new
//!   promise wait inside the machine until [`Input::Persisted`]; a candidate's own vote counts only then. So a crash
//!   can take back nothing that anyone was told.
//! - **Counted only when durable.** A voter fetches from the end of its *flushed* log, for a fetch offset is an
//!   acknowledgement; the leader counts itself up to its flushed end. Partition data counts in the page cache, the
//!   metadata log does not (KAFKA-10533).
//! - **A leader leads in one incarnation only.** After a restart even its own epoch is a foreign one, because the tail
//!   it wrote may be gone and another record would take the same (epoch, offset) (KAFKA-10527).
//! - **The high watermark passes only with a record of the leader's own epoch**, the LeaderChange at its beginning
//!   (Raft §5.4.2).
//! - **Nothing below the high watermark is cut.** A leader that asks for it gets [`Output::Fault`] and a stopped node
//!   instead.
//!
//! # How the driver treats it
//!
//! 1. Open `quorum-state` and the log, cut torn tails, build [`Restored`], call [`Raft::new`], then `step` with
//!    [`Input::Wakeup`].
//! 2. Carry out outputs strictly in order. An `Append`, `AppendFetched` or `Truncate` is done (in the page cache)
//!    before the next output is begun, in particular before the log is read for a `Reply`; `Persist` and `Flush` are
//!    started and answer later as inputs, at most one of each at a time. If any of them fails, the node stops: the
//!    machine has already counted on it.
//! 3. Call `step(Input::Wakeup)` when [`Raft::wakeup`] has come. It is never in the past for ever: each such step moves
//!    it on.
//! 4. Each `Send` is answered once: [`Input::Response`], or [`Input::SendFailed`] after an error or `request_timeout`.
//!    Each `Input::Request` is answered once by a `Reply`, perhaps much later; an answer to a closed connection is
//!    dropped.
//! 5. The driver itself observes `LogLoaded`, `Appended` and `Truncated`, because it knows sizes and checksums; all
//!    else that is worth seeing comes as [`Output::Observe`].
//!
//! # Where we differ from Kafka
//!
//! - A voter that was a candidate restarts Unattached (Kafka: candidate again). It voted for itself, so it can win only
//!   a new epoch.
//! - A resigned leader returns to Unattached in its own epoch, so an isolated one does not raise epochs.
//! - A follower that heard EndQuorumEpoch grants pre-votes at once, so a leader that shuts down is replaced without
//!   waiting for timeouts.
//!
//! # Not here yet
//!
//! Snapshots (KIP-630): [`LogView`] carries a log start and a Fetch below it is answered with the snapshot that is
//! needed, but a follower that gets such an answer only says [`Output::NeedSnapshot`] and asks again later. Voter
//! changes (KIP-853).

mod election;
mod follower;
mod leader;
mod log_view;
mod messages;
mod quorum_state;
mod voter_set;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub use log_view::{EpochStart, LogView};
pub use messages::{
    BeginQuorumEpochRequest, EndQuorumEpochRequest, EpochResponse, FetchOutcome, FetchRequest, FetchResponse,
    FetchedRecords, LeaderAndEpoch, LogRange, PeerResponse, Reply, Request, Response, VoteRequest, VoteResponse,
};
pub use quorum_state::ElectionState;
pub use voter_set::{ReplicaKey, VoterSet};

use broker_types::{
    DirectoryId, ErrorCode, LeaderEpoch, MonoTime, NodeId, Observation, Offset, OffsetAndEpoch, ReplicaRole,
    TopicIdPartition,
};
use election::{Nominee, Resigned, Unattached};
use follower::Follower;
use leader::Leader;
use quorum_state::QuorumState;
use rand_chacha::ChaCha8Rng;
use rand_core::Rng;
use std::time::Duration;

/// What one replica is told at birth and never again.
#[derive(Clone, PartialEq, Debug)]
pub struct RaftConfig {
    /// This node.
    pub node: NodeId,
    /// The directory id of its metadata log.
    pub directory: DirectoryId,
    /// Who may vote. A node that is not in it is an observer.
    pub voters: VoterSet,
    /// `controller.quorum.election.timeout.ms`: the least time without a leader before a voter stands; the real one is
    /// drawn from once to twice this.
    pub election_timeout: Duration,
    /// `controller.quorum.fetch.timeout.ms`: how long a follower goes without an answer from its leader before it
    /// stands. A leader resigns after one and a half times this without a majority fetching.
    pub fetch_timeout: Duration,
    /// `controller.quorum.election.backoff.max.ms`: the longest pause after a lost election.
    pub election_backoff_max: Duration,
    /// `controller.quorum.retry.backoff.ms`: the first pause after a failed request; doubled up to
    /// [`RaftConfig::MAX_RETRY_BACKOFF`].
    pub retry_backoff: Duration,
    /// How long our fetches ask the leader to wait; and the longest that we, leading, hold one.
    pub fetch_max_wait: Duration,
    /// Fetches held at the same time, at most; further ones are answered at once.
    pub max_parked_fetches: usize,
    /// Observers remembered for DescribeQuorum, at most; the one that fetched longest ago is forgotten first.
    pub max_observers: usize,
}

impl RaftConfig {
    /// The longest pause between two tries of one request.
    pub const MAX_RETRY_BACKOFF: Duration = Duration::from_secs(1);
    /// An observer that did not fetch for so long is no longer described.
    pub const OBSERVER_SESSION: Duration = Duration::from_secs(300);

    /// Kafka's defaults.
    #[must_use]
    pub fn new(node: NodeId, directory: DirectoryId, voters: VoterSet) -> Self {
        RaftConfig {
            node,
            directory,
            voters,
            election_timeout: Duration::from_millis(1000),
            fetch_timeout: Duration::from_millis(2000),
            election_backoff_max: Duration::from_millis(1000),
            retry_backoff: Duration::from_millis(20),
            fetch_max_wait: Duration::from_millis(500),
            max_parked_fetches: 2000,
            max_observers: 10_000,
        }
    }

    /// This replica.
    #[must_use]
    pub fn replica(&self) -> ReplicaKey {
        ReplicaKey { id: self.node, directory: Some(self.directory) }
    }

    /// Whether this replica votes.
    #[must_use]
    pub fn is_voter(&self) -> bool {
        self.voters.contains(self.replica())
    }
}

/// What was found on disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Restored {
    /// The content of `quorum-state`; the default if there is no such file.
    pub quorum_state: ElectionState,
    /// The recovered log.
    pub log: LogView,
    /// What is known to be committed: the end of the newest snapshot, or the log start. Kafka keeps no high watermark
    /// of this log.
    pub high_watermark: Offset,
}

/// Names a request from a peer until it is answered. Chosen by the driver, never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId(pub u64);

/// Names a request to a peer until it is answered. Chosen by the machine, never used twice in one incarnation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SendId(pub u64);

/// Names record bytes that the driver keeps. Chosen by the driver.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BatchId(pub u64);

/// A batch that the active controller wants appended, all of it or nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProposedBatch {
    /// Its bytes.
    pub id: BatchId,
    /// Its records; at least 1. It takes as many offsets.
    pub records: u32,
}

/// What happened outside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// Time has come to [`Raft::wakeup`], or the machine was just made.
    Wakeup,
    /// A peer asks.
    Request {
        /// Under this name it is answered.
        id: RequestId,
        /// What it asks.
        request: Request,
    },
    /// A peer answered an [`Output::Send`].
    Response {
        /// The peer that was asked.
        from: NodeId,
        /// The name of the request.
        id: SendId,
        /// The answer, of the request's kind; any other kind counts as a failure.
        response: PeerResponse,
    },
    /// An [`Output::Send`] could not be sent, or was not answered within the driver's request timeout.
    SendFailed {
        /// The peer that was asked.
        to: NodeId,
        /// The name of the request.
        id: SendId,
    },
    /// The state of the last [`Output::Persist`] is on disk: written, synced, renamed, directory synced.
    Persisted,
    /// The last [`Output::Flush`] is done: what was in the log when it was output is on disk.
    LogFlushed {
        /// `to` of that output.
        to: Offset,
    },
    /// The active controller of `epoch` wants records in the log. All batches are appended, or all refused.
    Propose {
        /// The epoch in which they were decided.
        epoch: LeaderEpoch,
        /// In this order.
        batches: Vec<ProposedBatch>,
    },
    /// The active controller of `epoch` cannot go on and wants another one to be elected.
    Resign {
        /// Its epoch; nothing happens if it has passed.
        epoch: LeaderEpoch,
    },
    /// The node is going to stop: hand leadership over, do not stand again. Answered by [`Output::ShutdownReady`].
    Shutdown,
}

/// What is to be done, in this order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Make this the content of `quorum-state`, durably, and say [`Input::Persisted`]. Never output again before that.
    Persist(ElectionState),
    /// Append a control batch with one LeaderChange record at the log's end.
    AppendLeaderChange {
        /// Its offset: the log end.
        at: Offset,
        /// Its leader epoch.
        epoch: LeaderEpoch,
        /// The leader: this node.
        leader: NodeId,
        /// The voters.
        voters: Vec<NodeId>,
        /// Those who voted for the leader, as far as known then.
        granting: Vec<NodeId>,
    },
    /// Append this proposed batch at the log's end.
    Append {
        /// The batch.
        batch: BatchId,
        /// Its base offset: the log end.
        at: Offset,
        /// Its last offset, inclusive.
        last: Offset,
        /// Its leader epoch, to be patched in.
        epoch: LeaderEpoch,
    },
    /// A proposal was not appended and never will be: this node does not lead that epoch.
    ProposalRefused {
        /// The batch.
        batch: BatchId,
        /// Who leads instead, if known.
        current: LeaderAndEpoch,
    },
    /// Append the first batches of a Fetch answer, bytes unchanged, at the log's end.
    AppendFetched {
        /// The answer's bytes.
        records: BatchId,
        /// How many batches to take, from the first. At least 1.
        batches: usize,
        /// Base offset of the first: the log end.
        at: Offset,
        /// The new log end, exclusive.
        end: Offset,
    },
    /// Cut the log's end back. Epoch entries that start at or after `to` go too.
    Truncate {
        /// The new log end, exclusive.
        to: Offset,
    },
    /// `sync_data` the log as it is now and say [`Input::LogFlushed`]. Never output again before that. Observers get
    /// none.
    Flush {
        /// The log end.
        to: Offset,
    },
    /// Ask a peer.
    Send {
        /// The peer.
        to: NodeId,
        /// The name for the answer.
        id: SendId,
        /// The question.
        request: Request,
    },
    /// Answer a peer.
    Reply {
        /// The request's name.
        id: RequestId,
        /// The answer.
        response: Reply,
    },
    /// Everything below is committed. Rises only, within one incarnation.
    HighWatermark {
        /// Exclusive.
        offset: Offset,
    },
    /// This node won the election of `epoch`. The controller may act once it has replayed all below a high watermark
    /// greater than `start`: only then has it seen every record of former epochs (R34).
    BecameLeader {
        /// The epoch.
        epoch: LeaderEpoch,
        /// Offset of the epoch's LeaderChange record.
        start: Offset,
    },
    /// This node no longer leads `epoch`. Records above the high watermark may or may not stay.
    LostLeadership {
        /// The epoch.
        epoch: LeaderEpoch,
    },
    /// The known leader or the epoch changed.
    LeaderChanged {
        /// What is known now.
        current: LeaderAndEpoch,
    },
    /// The leader no longer has what follows our log: its snapshot is needed. Repeated, with a pause, until the log
    /// start moves.
    NeedSnapshot {
        /// The leader.
        from: NodeId,
        /// The snapshot's name.
        snapshot: OffsetAndEpoch,
    },
    /// For the observer; it took effect, durably where that matters.
    Observe(Observation),
    /// After [`Input::Shutdown`]: nothing is left to hand over.
    ShutdownReady,
    /// A belief of ours is broken. Stop the node; the machine does nothing any more.
    Fault(Fault),
}

/// A broken belief.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Fault {
    /// The leader's log lacks records that were committed: some voter lost its disk, or a disk lied.
    #[error(
        "leader {leader} of epoch {epoch} wants the log cut to {to}, below the high watermark {high_watermark}: \
         committed metadata would be lost"
    )]
    TruncationBelowHighWatermark {
        /// The leader that asked for it.
        leader: NodeId,
        /// Its epoch.
        epoch: LeaderEpoch,
        /// Where the log would end.
        to: Offset,
        /// What was committed.
        high_watermark: Offset,
    },
}

/// What a replica is at the moment, for people and for DescribeQuorum.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RaftRole {
    /// Knows no leader.
    Unattached,
    /// Asks whether it would be elected.
    Prospective,
    /// Stands for election.
    Candidate,
    /// Copies the leader.
    Follower,
    /// Leads.
    Leader,
    /// Led, and waits for another leader.
    Resigned,
}

/// An answer to DescribeQuorum, and what `inspect` shows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QuorumDescription {
    /// What this replica is.
    pub role: RaftRole,
    /// The leader it knows, and its epoch.
    pub current: LeaderAndEpoch,
    /// Its high watermark, exclusive.
    pub high_watermark: Offset,
    /// Its log end offset, exclusive.
    pub log_end: Offset,
    /// The end of what is known to be on its disk, exclusive.
    pub flushed_end: Offset,
    /// The voters. Only a leader knows how far they are; the leader itself is among them.
    pub voters: Vec<ReplicaDescription>,
    /// The observers that fetched lately. Only a leader knows them.
    pub observers: Vec<ReplicaDescription>,
}

/// How far a replica is, as its leader sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReplicaDescription {
    /// The replica.
    pub replica: ReplicaKey,
    /// The end of its log, exclusive; `None` before it fetched in this epoch.
    pub log_end: Option<Offset>,
    /// When it fetched last.
    pub last_fetch: Option<MonoTime>,
    /// The last time it had everything the leader had.
    pub last_caught_up: Option<MonoTime>,
}

/// One replica of the metadata log. See the module's documentation.
#[derive(Clone, PartialEq, Debug)]
pub struct Raft {
    config: RaftConfig,
    /// Stream "NODE/raft". Drawn from only when a role begins or a request is retried.
    rng: ChaCha8Rng,
    /// Epoch, vote and leader, and what waits for them to be durable.
    state: QuorumState,
    /// The log as it is once all outputs are carried out.
    log: LogView,
    /// Everything below is committed. Exclusive; rises only within one incarnation; at most the log end.
    high_watermark: Offset,
    role: Role,
    /// Elections this node stood in and lost since it last knew a leader; the pause after the next loss grows with it.
    elections_lost: u32,
    /// The first step was made.
    started: bool,
    /// [`Input::Shutdown`] came: never stand again.
    shutdown: Shutdown,
    /// Once set, every step does nothing.
    fault: Option<Fault>,
    next_send: u64,
}

#[derive(Clone, PartialEq, Debug)]
enum Role {
    Unattached(Unattached),
    Prospective(Nominee),
    Candidate(Nominee),
    Follower(Follower),
    Leader(Leader),
    Resigned(Resigned),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Shutdown {
    No,
    Asked,
    Ready,
}

impl Raft {
    /// A replica that was just started. It wants its first step at once: [`Raft::wakeup`] is `now`.
    #[must_use]
    pub fn new(config: RaftConfig, restored: Restored, mut rng: ChaCha8Rng, now: MonoTime) -> Raft {
        let Restored { mut quorum_state, log, high_watermark } = restored;
        let durable = quorum_state;
        // The log is flushed apart from quorum-state. If that file was lost, no epoch of the log may be entered anew.
        if log.last_epoch() > quorum_state.epoch {
            quorum_state = ElectionState { epoch: log.last_epoch(), leader: None, voted: None };
        }
        let led_before = quorum_state.leader == Some(config.node) && config.is_voter();
        // Whom we followed is worth nothing after a restart: the leader tells us, or we ask.
        quorum_state.leader = None;
        let role = if led_before {
            Role::Resigned(Resigned::restarted(&config, now, &mut rng))
        } else {
            Role::Unattached(Unattached::new(&config, now, &mut rng))
        };
        let high_watermark = high_watermark.max(log.start()).min(log.end());
        Raft {
            state: QuorumState::new(quorum_state, durable),
            config,
            rng,
            log,
            high_watermark,
            role,
            elections_lost: 0,
            started: false,
            shutdown: Shutdown::No,
            fault: None,
            next_send: 0,
        }
    }

    /// Takes in what happened and appends to `out` what is to be done about it. `now` never goes back.
    pub fn step(&mut self, now: MonoTime, input: Input, out: &mut Vec<Output>) {
        if self.fault.is_some() {
            return;
        }
        if !self.started {
            self.started = true;
            self.start(now, out);
        }
        match input {
            Input::Wakeup => {}
            Input::Request { id, request } => self.answer(now, id, request, out),
            Input::Response { from, id, response } => self.on_response(now, from, id, Some(response), out),
            Input::SendFailed { to, id } => self.on_response(now, to, id, None, out),
            Input::Persisted => {
                self.state.persisted(out);
                self.count_own_vote(now, out);
            }
            Input::LogFlushed { to: _ } => self.log.flushed(),
            Input::Propose { epoch, batches } => self.propose(epoch, &batches, out),
            Input::Resign { epoch } => {
                if epoch == self.state.epoch() && matches!(self.role, Role::Leader(_)) {
                    self.resign(now, out);
                }
            }
            Input::Shutdown => self.begin_shutdown(now, out),
        }
        if self.fault.is_none() {
            self.pursue(now, out);
        }
    }

    /// When the machine next wants [`Input::Wakeup`]; `None`: not before something else happens.
    #[must_use]
    pub fn wakeup(&self) -> Option<MonoTime> {
        if self.fault.is_some() {
            return None;
        }
        if !self.started {
            return Some(MonoTime(0));
        }
        let at = match &self.role {
            Role::Unattached(role) => self.wakeup_unattached(role),
            Role::Prospective(role) | Role::Candidate(role) => role.wakeup(),
            Role::Follower(role) => self.wakeup_follower(role),
            Role::Leader(role) => role.wakeup(&self.config),
            Role::Resigned(role) => role.wakeup(),
        };
        (at != MonoTime::NEVER).then_some(at)
    }

    /// What this replica knows.
    #[must_use]
    pub fn describe(&self) -> QuorumDescription {
        let unknown = |replica| ReplicaDescription { replica, log_end: None, last_fetch: None, last_caught_up: None };
        let (voters, observers) = match &self.role {
            Role::Leader(leader) => leader.describe(&self.config, self.log.end()),
            _ => (self.config.voters.keys().map(unknown).collect(), Vec::new()),
        };
        QuorumDescription {
            role: self.role(),
            current: self.state.current(),
            high_watermark: self.high_watermark,
            log_end: self.log.end(),
            flushed_end: self.log.flushed_end(),
            voters,
            observers,
        }
    }

    /// What this replica is at the moment.
    #[must_use]
    pub fn role(&self) -> RaftRole {
        match self.role {
            Role::Unattached(_) => RaftRole::Unattached,
            Role::Prospective(_) => RaftRole::Prospective,
            Role::Candidate(_) => RaftRole::Candidate,
            Role::Follower(_) => RaftRole::Follower,
            Role::Leader(_) => RaftRole::Leader,
            Role::Resigned(_) => RaftRole::Resigned,
        }
    }

    /// The leader this replica knows, and its epoch.
    #[must_use]
    pub fn current(&self) -> LeaderAndEpoch {
        self.state.current()
    }

    /// Everything below is committed.
    #[must_use]
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// The log as it is once all outputs are carried out.
    #[must_use]
    pub fn log(&self) -> &LogView {
        &self.log
    }

    /// What was told to the caller in [`RaftConfig`].
    #[must_use]
    pub fn config(&self) -> &RaftConfig {
        &self.config
    }

    /// Scans everything. Panics with the numbers if a belief is broken.
    pub fn check_invariants(&self) {
        self.log.check_invariants();
        self.state.check_invariants();
        let (node, epoch, state) = (self.config.node, self.state.epoch(), self.state.state());
        let (start, end, high_watermark) = (self.log.start(), self.log.end(), self.high_watermark);
        assert!(
            start <= high_watermark && high_watermark <= end,
            "{node:?} {epoch:?}: log start {start} <= high watermark {high_watermark} <= log end {end} does not hold"
        );
        assert!(self.log.last_epoch() <= epoch, "{node:?}: log of {:?} in {epoch:?}", self.log.last_epoch());
        let leader_fits = match &self.role {
            Role::Leader(_) => state.leader == Some(node),
            Role::Follower(_) => state.leader.is_some_and(|leader| leader != node),
            // A prospective remembers the leader it no longer hears: if nobody would vote for it, it goes back.
            Role::Prospective(_) => state.leader != Some(node),
            Role::Unattached(_) | Role::Candidate(_) | Role::Resigned(_) => state.leader.is_none(),
        };
        assert!(leader_fits, "{node:?}: {state:?} does not fit {:?}", self.role());
        if let Role::Candidate(_) | Role::Leader(_) = &self.role {
            assert_eq!(state.voted, Some(self.config.replica()), "{node:?} stands or leads without its own vote");
        }
        if !self.config.is_voter() {
            let fits = matches!(self.role, Role::Unattached(_) | Role::Follower(_));
            assert!(fits, "{node:?} is an observer, yet {:?} with {state:?}", self.role());
        }
        if let Role::Leader(leader) = &self.role {
            assert!(self.state.is_durable(), "{node:?} leads {epoch:?} before its vote is durable");
            leader.check_invariants(&self.config, &self.log, epoch);
        }
    }
}

impl Raft {
    fn start(&mut self, now: MonoTime, out: &mut Vec<Output>) {
        let current = self.state.current();
        if current.epoch > LeaderEpoch(0) {
            self.state.tell(Output::Observe(Observation::QuorumEpoch { epoch: current.epoch }), out);
        }
        out.push(Output::LeaderChanged { current });
        if let Role::Resigned(_) = self.role {
            // planted: K01 (self.become_leader(now, Vec::new(), out): it leads on in the epoch that its file names)
            self.state.tell(Output::Observe(Observation::QuorumResigned { epoch: current.epoch }), out);
        }
        if self.config.is_voter() && self.config.voters.len() == 1 {
            self.become_candidate(now, out);
        }
    }

    fn answer(&mut self, now: MonoTime, id: RequestId, request: Request, out: &mut Vec<Output>) {
        if self.state.is_crowded() {
            // The disk does not answer. What is durable may be told; nothing new is promised.
            out.push(Output::Reply { id, response: self.not_available(&request) });
            return;
        }
        match request {
            Request::Vote(request) => self.on_vote(now, id, &request, out),
            Request::BeginQuorumEpoch(request) => self.on_begin_quorum_epoch(now, id, &request, out),
            Request::EndQuorumEpoch(request) => self.on_end_quorum_epoch(now, id, &request, out),
            Request::Fetch(request) => self.on_fetch(now, id, &request, out),
        }
    }

    fn not_available(&self, request: &Request) -> Reply {
        let error = Some(ErrorCode::BrokerNotAvailable);
        let current = LeaderAndEpoch { leader: None, epoch: self.state.durable_epoch() };
        match request {
            Request::Vote(_) => Response::Vote(VoteResponse { error, current, granted: false }),
            Request::BeginQuorumEpoch(_) => Response::BeginQuorumEpoch(EpochResponse { error, current }),
            Request::EndQuorumEpoch(_) => Response::EndQuorumEpoch(EpochResponse { error, current }),
            Request::Fetch(_) => Response::Fetch(FetchResponse {
                error,
                current,
                high_watermark: self.high_watermark,
                log_start: self.log.start(),
                outcome: FetchOutcome::Nothing,
            }),
        }
    }

    /// `response` is `None` after a failure. An answer that nobody waits for any more is dropped by the role it meets.
    fn on_response(
        &mut self,
        now: MonoTime,
        from: NodeId,
        id: SendId,
        response: Option<PeerResponse>,
        out: &mut Vec<Output>,
    ) {
        match &self.role {
            Role::Prospective(_) | Role::Candidate(_) => self.on_vote_response(now, from, id, response, out),
            Role::Unattached(_) => self.on_discovery_response(now, from, id, response, out),
            Role::Follower(_) => self.on_fetch_response(now, from, id, response, out),
            Role::Leader(_) => self.on_begin_quorum_epoch_response(now, from, id, response, out),
            Role::Resigned(_) => self.on_end_quorum_epoch_response(now, from, id, response, out),
        }
    }

    /// Does what the time and the state ask for. Called at the end of each step, so that no path can forget it.
    fn pursue(&mut self, now: MonoTime, out: &mut Vec<Output>) {
        loop {
            let role = self.role();
            match role {
                RaftRole::Unattached => self.pursue_unattached(now, out),
                RaftRole::Prospective | RaftRole::Candidate => self.pursue_election(now, out),
                RaftRole::Follower => self.pursue_follower(now, out),
                RaftRole::Leader => self.pursue_leader(now, out),
                RaftRole::Resigned => self.pursue_resigned(now, out),
            }
            // A role that just ended gave way to one that may have work at once. This ends, because each role begins
            // with its deadlines in the future.
            if self.role() == role {
                break;
            }
        }
        self.state.maybe_write(out);
        if self.config.is_voter() {
            self.log.maybe_flush(out);
        }
        if self.shutdown == Shutdown::Asked && self.has_handed_over() {
            self.shutdown = Shutdown::Ready;
            out.push(Output::ShutdownReady);
        }
    }

    fn begin_shutdown(&mut self, now: MonoTime, out: &mut Vec<Output>) {
        if self.shutdown != Shutdown::No {
            return;
        }
        self.shutdown = Shutdown::Asked;
        match self.role {
            Role::Leader(_) => self.resign(now, out),
            Role::Prospective(_) | Role::Candidate(_) => {
                let epoch = self.state.epoch();
                self.become_unattached(now, epoch, out);
            }
            _ => {}
        }
    }

    fn has_handed_over(&self) -> bool {
        match &self.role {
            Role::Resigned(role) => role.everyone_knows(),
            Role::Leader(_) => false,
            _ => true,
        }
    }

    /// Replaces role and election state together. Leaving leadership answers the fetches that were held.
    fn enter(&mut self, state: ElectionState, role: Role, out: &mut Vec<Output>) {
        let before = self.state.current();
        let left = std::mem::replace(&mut self.role, role);
        self.state.change(state);
        let current = self.state.current();
        if current != before {
            tracing::info!(node = %self.config.node, epoch = %current.epoch, leader = ?current.leader, role = ?self.role(), "quorum leader changed");
        }
        if let Role::Leader(left) = left {
            out.push(Output::LostLeadership { epoch: before.epoch });
            for parked in left.into_parked() {
                let response = self.fetch_error(ErrorCode::NotLeaderOrFollower);
                self.state.tell(Output::Reply { id: parked, response }, out);
            }
        }
        if current != before {
            out.push(Output::LeaderChanged { current });
        }
    }

    /// Believes a peer about a larger epoch, or about the leader of ours. Returns whether this ended the role.
    fn learn(&mut self, now: MonoTime, told: LeaderAndEpoch, out: &mut Vec<Output>) -> bool {
        let known = self.state.current();
        let leader =
            told.leader.filter(|leader| *leader != self.config.node && self.config.voters.contains_id(*leader));
        if told.epoch > known.epoch {
            match leader {
                Some(leader) => self.become_follower(now, told.epoch, leader, out),
                None => self.become_unattached(now, told.epoch, out),
            }
            return true;
        }
        if told.epoch == known.epoch && known.leader.is_none() {
            let can_follow = matches!(self.role, Role::Unattached(_) | Role::Prospective(_) | Role::Candidate(_));
            if let Some(leader) = leader.filter(|_| can_follow) {
                self.become_follower(now, told.epoch, leader, out);
                return true;
            }
        }
        if told.epoch == known.epoch && known.leader.is_some() && leader.is_some() && leader != known.leader {
            tracing::error!(node = %self.config.node, epoch = %known.epoch, ?known.leader, told = ?leader, "two leaders in one epoch");
        }
        false
    }

    fn advance_high_watermark(&mut self, to: Offset, role: ReplicaRole, out: &mut Vec<Output>) {
        let from = self.high_watermark;
        let (leader_epoch, log_end) = (self.state.epoch(), self.log.end());
        assert!(
            from < to && to <= log_end,
            "{:?} {leader_epoch:?}: high watermark from {from} to {to}, log end {log_end}",
            self.config.node
        );
        self.high_watermark = to;
        out.push(Output::HighWatermark { offset: to });
        out.push(Output::Observe(Observation::HighWatermark {
            partition: TopicIdPartition::METADATA,
            leader_epoch,
            high_watermark: to,
            log_end,
            role,
        }));
    }

    fn fail(&mut self, fault: Fault, out: &mut Vec<Output>) {
        tracing::error!(node = %self.config.node, %fault, "metadata log is broken");
        self.fault = Some(fault);
        out.push(Output::Fault(fault));
    }

    fn send(&mut self, to: NodeId, request: Request, out: &mut Vec<Output>) -> SendId {
        let id = SendId(self.next_send);
        self.next_send += 1;
        self.state.tell(Output::Send { to, id, request }, out);
        id
    }

    fn reply(&mut self, id: RequestId, response: Reply, out: &mut Vec<Output>) {
        self.state.tell(Output::Reply { id, response }, out);
    }
}

/// `base` to twice `base`.
fn jittered(rng: &mut ChaCha8Rng, base: Duration) -> Duration {
    base + below(rng, base)
}

/// Zero to `bound`, `bound` excluded.
fn below(rng: &mut ChaCha8Rng, bound: Duration) -> Duration {
    let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
    // The high half of a 128-bit product: as even as a division, without one.
    Duration::from_nanos(((u128::from(rng.next_u64()) * u128::from(nanos)) >> 64) as u64)
}

/// The pause before the next try of a request that failed `failures` times in a row; at least 1.
fn retry_backoff(config: &RaftConfig, failures: u32, rng: &mut ChaCha8Rng) -> Duration {
    let doubled = config.retry_backoff.saturating_mul(1u32 << failures.clamp(1, 16).saturating_sub(1));
    let pause = doubled.min(RaftConfig::MAX_RETRY_BACKOFF);
    pause / 2 + below(rng, pause)
}
