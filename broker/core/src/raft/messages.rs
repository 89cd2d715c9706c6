//! What the replicas of the metadata log say to each other, in types: Vote (KIP-595, pre-vote of KIP-996),
//! BeginQuorumEpoch, EndQuorumEpoch and Fetch (KIP-595, KIP-853, KIP-1166). Cluster ids, topic names and endpoints are
//! checked and filled in by the driver.

use super::{BatchId, ReplicaKey};
use broker_types::{BatchSummary, ErrorCode, LeaderEpoch, NodeId, Offset, OffsetAndEpoch};
use std::time::Duration;

/// A request to a peer, or from one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// Give me your vote (or say whether you would).
    Vote(VoteRequest),
    /// I lead.
    BeginQuorumEpoch(BeginQuorumEpochRequest),
    /// I led.
    EndQuorumEpoch(EndQuorumEpochRequest),
    /// What comes after this offset?
    Fetch(FetchRequest),
}

/// Asks for a vote.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VoteRequest {
    /// Who asks (`ReplicaId`, `ReplicaDirectoryId`).
    pub candidate: ReplicaKey,
    /// The epoch the candidate stands in. In a pre-vote: the epoch it is in now, which it has not raised.
    pub epoch: LeaderEpoch,
    /// Where the candidate's log ends, and the epoch of its last record.
    pub log_end: OffsetAndEpoch,
    /// Only asks whether the vote would be given; the one who answers remembers nothing (KIP-996).
    pub pre_vote: bool,
    /// Whom the request is meant for (`VoterId`, `VoterDirectoryId`); `None` if it does not say.
    pub voter: Option<ReplicaKey>,
}

/// A leader tells a voter that it won the election. Repeated until the voter fetches.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BeginQuorumEpochRequest {
    /// The leader.
    pub leader: NodeId,
    /// Its epoch.
    pub epoch: LeaderEpoch,
    /// Whom the request is meant for; `None` if it does not say.
    pub voter: Option<ReplicaKey>,
}

/// A leader tells a voter that it gives up its epoch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndQuorumEpochRequest {
    /// The leader that was.
    pub leader: NodeId,
    /// Its epoch.
    pub epoch: LeaderEpoch,
    /// Who should stand next, the best first: the voter at position 0 stands at once, later ones wait longer.
    pub preferred_successors: Vec<ReplicaKey>,
}

/// A follower or an observer asks the leader for what comes next; to the leader it is also the acknowledgement of all
/// before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchRequest {
    /// Who asks; `None` (wire -1) for a reader that is no replica and is not counted in anything.
    pub replica: Option<ReplicaKey>,
    /// The asker's epoch (`CurrentLeaderEpoch`).
    pub epoch: LeaderEpoch,
    /// The end of the asker's log, which a voter has on disk (fsync) when it asks.
    pub fetch_offset: Offset,
    /// Epoch of the record before `fetch_offset`; 0 for an empty log.
    pub last_fetched_epoch: LeaderEpoch,
    /// The high watermark the asker knows (version 18, KIP-1166): the leader answers at once if its own is larger.
    /// `None` if the version has no such field.
    pub high_watermark: Option<Offset>,
    /// How long the leader may hold the request when there is nothing to tell.
    pub max_wait: Duration,
}

/// The answer to a [`Request`]. `R` is what a Fetch answer carries: [`LogRange`] when we answer (the driver reads these
/// offsets from the log), [`FetchedRecords`] when a peer answered us.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Response<R> {
    /// To a Vote.
    Vote(VoteResponse),
    /// To a BeginQuorumEpoch.
    BeginQuorumEpoch(EpochResponse),
    /// To an EndQuorumEpoch.
    EndQuorumEpoch(EpochResponse),
    /// To a Fetch.
    Fetch(FetchResponse<R>),
}

/// What we answer.
pub type Reply = Response<LogRange>;
/// What a peer answered.
pub type PeerResponse = Response<FetchedRecords>;

/// Who leads, in which epoch, as far as the answering node knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeaderAndEpoch {
    /// The leader; `None` while it is not known.
    pub leader: Option<NodeId>,
    /// The epoch.
    pub epoch: LeaderEpoch,
}

/// Answers a [`VoteRequest`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VoteResponse {
    /// Why the request was refused; `None` when it was considered. `FENCED_LEADER_EPOCH`, `INCONSISTENT_VOTER_SET`,
    /// `INVALID_VOTER_KEY`, `INVALID_REQUEST`, `BROKER_NOT_AVAILABLE`.
    pub error: Option<ErrorCode>,
    /// What the voter knows.
    pub current: LeaderAndEpoch,
    /// Whether the vote was given; durable by then unless it was a pre-vote.
    pub granted: bool,
}

/// Answers a [`BeginQuorumEpochRequest`] or an [`EndQuorumEpochRequest`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EpochResponse {
    /// Why the request was refused.
    pub error: Option<ErrorCode>,
    /// What the voter knows.
    pub current: LeaderAndEpoch,
}

/// Answers a [`FetchRequest`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchResponse<R> {
    /// Why nothing was read: `NOT_LEADER_OR_FOLLOWER`, `FENCED_LEADER_EPOCH`, `UNKNOWN_LEADER_EPOCH`,
    /// `BROKER_NOT_AVAILABLE`. The `outcome` is then [`FetchOutcome::Nothing`].
    pub error: Option<ErrorCode>,
    /// What the answering node knows.
    pub current: LeaderAndEpoch,
    /// The leader's high watermark, exclusive. It may be behind what the asker knows: a new leader learns it anew.
    pub high_watermark: Offset,
    /// The first offset in the leader's log.
    pub log_start: Offset,
    /// What the leader has to say about the asked offset.
    pub outcome: FetchOutcome<R>,
}

/// What a leader found at the asked offset.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FetchOutcome<R> {
    /// Nothing to say yet.
    Nothing,
    /// Records from the asked offset on.
    Records(R),
    /// The asker's log is not a prefix of the leader's. The leader's log has, at or below the asked epoch, `epoch` as
    /// its largest, and that epoch ends at `offset`: cut there and ask again.
    Diverging(OffsetAndEpoch),
    /// The asked offset was compacted away: load this snapshot first (KIP-630).
    Snapshot(OffsetAndEpoch),
}

/// Offsets to be read from the local log for a Fetch answer: whole batches, the first one always, then as many as the
/// request's byte limits allow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogRange {
    /// First offset, inclusive.
    pub from: Offset,
    /// The log end offset, exclusive.
    pub to: Offset,
}

/// Record batches that a peer sent. Their bytes stay with the driver.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchedRecords {
    /// The driver's name for the bytes. Valid during this one step: what `Output::AppendFetched` does not take is
    /// dropped.
    pub id: BatchId,
    /// The batches, in the order of the bytes. A torn last batch is left out by the driver.
    pub batches: Vec<BatchSummary>,
}
