//! What goes into a [`Replica`](super::Replica) and what comes out: plain data, no behaviour.
//!
//! Record bytes stay with the driver. It names each batch it holds with a [`BatchId`] and keeps the bytes until the
//! machine says [`Output::Append`] (write them) or [`Output::Discard`] (forget them): exactly one of the two, once.

use crate::log::{AppendOrigin, Ends, ProducerState};
use broker_types::{
    BatchSummary, BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, MonoTime, Observation, Offset, PartitionEpoch,
    TopicIdPartition,
};
use std::time::Duration;

/// One request as its driver names it; unique on one broker for as long as it waits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId(pub u64);

/// One batch of record bytes in the driver's hands; never used twice in one incarnation of the broker.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BatchId(pub u64);

/// One AlterPartition proposal of this replica. The answer carries it back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ProposalId(pub u64);

/// What one replica needs to know for as long as the broker runs.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ReplicaConfig {
    /// The broker this replica lives on.
    pub local: BrokerId,
    /// The partition it is a replica of.
    pub partition: TopicIdPartition,
    /// `replica.lag.time.max.ms`: a follower that has not caught up for longer leaves the ISR.
    pub replica_lag_time_max: Duration,
    /// `replica.fetch.backoff.ms`: pause before the next fetch after a failed one.
    pub fetch_backoff: Duration,
    /// Pause before a refused AlterPartition is proposed again.
    pub alter_partition_backoff: Duration,
    /// `producer.id.expiration.ms`: an idle producer is forgotten after this long on the monotonic clock.
    pub producer_id_expiration: Duration,
    /// Whether the high watermark stands still while the ISR is below `min.insync.replicas` (KIP-966, KAFKA-15583).
    /// Kafka does so since 3.7 whether or not the ELR feature is on; false gives the older behaviour.
    pub hw_needs_min_isr: bool,
}

impl ReplicaConfig {
    /// Kafka's defaults.
    #[must_use]
    pub fn new(local: BrokerId, partition: TopicIdPartition) -> Self {
        ReplicaConfig {
            local,
            partition,
            replica_lag_time_max: Duration::from_secs(30),
            fetch_backoff: Duration::from_secs(1),
            alter_partition_backoff: Duration::from_millis(50),
            producer_id_expiration: Duration::from_secs(24 * 60 * 60),
            hw_needs_min_isr: true,
        }
    }
}

/// The topic's settings that decide something here. They come with the metadata and may change at any time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TopicConfig {
    /// `min.insync.replicas`; the replication factor caps it.
    pub min_insync_replicas: u32,
    /// `max.message.bytes`: largest batch a client may send, header included.
    pub max_message_bytes: u32,
    /// `flush.messages` = 1: a record counts (for acks, for the high watermark, for the next fetch) only once flushed.
    pub flush_before_ack: bool,
    /// `cleanup.policy` contains `compact`: offsets may be missing between two batches of a leader's log.
    pub compacted: bool,
}

impl Default for TopicConfig {
    fn default() -> Self {
        TopicConfig { min_insync_replicas: 1, max_message_bytes: 1_048_588, flush_before_ack: false, compacted: false }
    }
}

/// What the broker's metadata image says of one partition, complete each time.
///
/// The registration (leader, epochs, ISR, replicas) counts only if it is newer than what the replica knows, since the
/// answer to an AlterPartition may overtake the metadata log. The rest always counts: the driver reads images in order.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PartitionMetadata {
    /// Who leads; `None` when nobody does.
    pub leader: Option<BrokerId>,
    /// The leader's term.
    pub leader_epoch: LeaderEpoch,
    /// The registration's version.
    pub partition_epoch: PartitionEpoch,
    /// In-sync replicas, as the controller committed them.
    pub isr: Box<[BrokerId]>,
    /// All replicas, in assignment order; during a reassignment the adding ones, too.
    pub replicas: Box<[BrokerId]>,
    /// Brokers that may be in an ISR: registered, unfenced, not in controlled shutdown; each with its current epoch.
    /// Replicas of this partition suffice.
    pub eligible: Box<[(BrokerId, BrokerEpoch)]>,
    /// The local broker's epoch, as it registered.
    pub local_broker_epoch: BrokerEpoch,
    /// The topic's settings.
    pub topic: TopicConfig,
}

/// The `acks` of a produce request.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Acks {
    /// 0: the client does not wait. A reply is still put out, for the driver to close the connection on an error.
    None,
    /// 1: answered once the leader has appended.
    Leader,
    /// -1: answered once the high watermark has passed.
    All,
}

/// A batch from a producer or a coordinator. Kafka allows exactly one per partition and request (v2 format).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Produce {
    /// Answered by exactly one [`Output::Reply`].
    pub request: RequestId,
    /// The bytes.
    pub batch: BatchId,
    /// Their header; `base_offset` is ignored.
    pub summary: BatchSummary,
    /// When to answer.
    pub acks: Acks,
    /// Who writes.
    pub origin: AppendOrigin,
    /// An acks=all request still waiting then is answered REQUEST_TIMED_OUT (the records stay).
    pub deadline: MonoTime,
}

/// What a leader sent for one partition in a fetch response.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum FetchResult {
    /// Records, perhaps none.
    Records {
        /// Batches in order, with offset and leader epoch as in the bytes. CRC already checked.
        batches: Vec<(BatchId, BatchSummary)>,
        /// The leader's high watermark when it answered.
        high_watermark: Offset,
        /// The leader's log start when it answered.
        log_start: Offset,
    },
    /// The logs part ways before the fetch offset (KIP-320, fetch version 12).
    Diverging {
        /// Largest epoch the leader has that is not above the last fetched one.
        epoch: LeaderEpoch,
        /// Where that epoch ends in the leader's log, exclusive.
        end_offset: Offset,
    },
    /// The leader refused, or could not be reached (NETWORK_EXCEPTION).
    Error(ErrorCode),
}

/// The leader's answer to one [`Output::FetchFrom`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct FetchResponse {
    /// The position that was asked; an answer to another than the latest changes nothing.
    pub asked: FetchPosition,
    /// What came.
    pub result: FetchResult,
}

/// Where a follower reads next: all that a Fetch request says about this partition.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FetchPosition {
    /// Counts this replica's fetches, so that a late answer to the same position is not taken for the awaited one.
    pub number: u64,
    /// Whom to ask.
    pub leader: BrokerId,
    /// The epoch to ask in (`current_leader_epoch`).
    pub leader_epoch: LeaderEpoch,
    /// First offset wanted: everything before it is in this replica's log (flushed, if `flush_before_ack`).
    pub offset: Offset,
    /// Epoch of the last record before `offset`; `None` for a log that never had one.
    pub last_fetched_epoch: Option<LeaderEpoch>,
    /// This replica's log start, which the leader wants to know.
    pub log_start: Offset,
}

/// What the controller answered to one [`Output::ProposeIsr`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct AlterPartitionResponse {
    /// The proposal.
    pub proposal: ProposalId,
    /// The registration as it is now, or the error (NETWORK_EXCEPTION or REQUEST_TIMED_OUT if none came).
    pub result: Result<CommittedIsr, ErrorCode>,
}

/// A registration as in the answer to AlterPartition.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct CommittedIsr {
    /// Who leads.
    pub leader: Option<BrokerId>,
    /// In which epoch.
    pub leader_epoch: LeaderEpoch,
    /// The registration's version.
    pub partition_epoch: PartitionEpoch,
    /// The ISR.
    pub isr: Box<[BrokerId]>,
}

/// One thing that happened. See [`Replica::step`](super::Replica::step); fetches and queries have functions of their
/// own because they return a value.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Input {
    /// The broker's metadata image changed.
    Metadata(Box<PartitionMetadata>),
    /// Someone wants to append.
    Produce(Produce),
    /// Every append put out up to and including this one is in the page cache.
    Appended {
        /// The last of them.
        through: BatchId,
    },
    /// An append failed. Nothing put out after it was written either. The replica goes offline: the driver feeds
    /// [`Input::LogDirFailed`] to the others of that directory.
    AppendFailed {
        /// The first that failed.
        batch: BatchId,
    },
    /// The log was synced: all below `to` survives a power loss.
    Flushed {
        /// Exclusive.
        to: Offset,
    },
    /// As follower: the answer to [`Output::FetchFrom`].
    FetchResponse(FetchResponse),
    /// As follower: the answer to [`Output::AskLeaderOffsets`]; an error is `Err`.
    LeaderOffsets {
        /// The position of the question.
        asked: FetchPosition,
        /// The leader's log start and log end, as ListOffsets says.
        result: Result<(Offset, Offset), ErrorCode>,
    },
    /// As leader: the answer to [`Output::ProposeIsr`].
    AlterPartition(AlterPartitionResponse),
    /// The answer to [`Output::ReloadProducers`]: the producers as the log below `up_to` has them.
    ProducersReloaded {
        /// As asked.
        up_to: Offset,
        /// The newest snapshot at or below `up_to`, then [`ProducerState::replay`] for each batch up to there.
        producers: Box<ProducerState>,
    },
    /// Retention or DeleteRecords: drop what is below `to` (never beyond the high watermark).
    AdvanceLogStart {
        /// New log start, inclusive.
        to: Offset,
    },
    /// It is [`Replica::wakeup`](super::Replica::wakeup) or later.
    Wakeup,
    /// The directory of this log failed.
    LogDirFailed,
}

/// How a produce request ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ProduceResult {
    /// NONE if appended, or a retry of what was appended before.
    pub error: ErrorCode,
    /// Offset of the first record; `None` on an error that appended nothing.
    pub base_offset: Option<Offset>,
    /// The log start then; `None` on an error.
    pub log_start: Option<Offset>,
}

/// One thing to do, at once and in order.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Output {
    /// Write the batch at the log's end with this base offset and leader epoch. [`Input::Appended`] answers.
    Append {
        /// Which bytes.
        batch: BatchId,
        /// Base offset, to be patched in as leader; already in the bytes as follower.
        at: Offset,
        /// Leader epoch, likewise.
        leader_epoch: LeaderEpoch,
    },
    /// Forget these bytes: they will never be appended.
    Discard {
        /// Which bytes.
        batch: BatchId,
    },
    /// Cut the log so that it ends at `to`, and with it whatever the driver keeps beyond (indexes, snapshots). If it
    /// cannot be done, [`Input::LogDirFailed`].
    Truncate {
        /// New log end, exclusive.
        to: Offset,
    },
    /// Empty the log and let it begin and end at `offset`.
    TruncateFullyAndStartAt {
        /// New log start and log end.
        offset: Offset,
    },
    /// Rebuild the producers from disk as of `up_to`. [`Input::ProducersReloaded`] answers; until then nothing is
    /// fetched and producers are turned away.
    ReloadProducers {
        /// The log's end, after a truncation.
        up_to: Offset,
    },
    /// The log's beginning moved: segments that end at or below may go, the checkpoint is due.
    LogStartMoved {
        /// First offset kept, inclusive.
        to: Offset,
    },
    /// The leader-epoch cache changed: write the checkpoint (`replica.log().epochs()`), soon and synced. Nothing waits.
    CheckpointEpochs,
    /// `flush_before_ack`: sync the log at least to here. [`Input::Flushed`] answers.
    Flush {
        /// Exclusive.
        to: Offset,
    },
    /// A produce request is done.
    Reply {
        /// Which.
        request: RequestId,
        /// How it ended.
        result: ProduceResult,
    },
    /// Something became readable, or whoever waits must look again: ask the purgatory. At most one per step, last.
    Moved {
        /// The ends now.
        ends: Ends,
        /// The role, its epoch or the log start changed: every waiting fetch of this partition has another answer.
        all: bool,
    },
    /// Send AlterPartition to the controller. Never two at once.
    ProposeIsr {
        /// Its name.
        proposal: ProposalId,
        /// The wished ISR; `None` for a member whose epoch this leader has not heard (the controller then trusts it).
        isr: Box<[(BrokerId, Option<BrokerEpoch>)]>,
        /// This leader's epoch.
        leader_epoch: LeaderEpoch,
        /// The version it is based on.
        partition_epoch: PartitionEpoch,
    },
    /// Fetch from here, once, after `delay`; replaces any earlier position. [`Input::FetchResponse`] answers.
    FetchFrom {
        /// Where.
        position: FetchPosition,
        /// Zero unless the last try failed.
        delay: Duration,
    },
    /// Ask the leader where its log begins and ends (ListOffsets as replica, in the position's epoch).
    AskLeaderOffsets {
        /// The position that was out of range.
        position: FetchPosition,
    },
    /// There is nobody to fetch from (any more).
    StopFetching,
    /// Tell the observer.
    Observe(Observation),
}

/// A follower's fetch, as its leader sees it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FollowerFetch {
    /// Who fetches.
    pub replica: BrokerId,
    /// Its broker epoch as in the request (KIP-903); `None` for the wire's -1.
    pub broker_epoch: Option<BrokerEpoch>,
    /// It has everything before this offset.
    pub offset: Offset,
    /// Epoch of its last record.
    pub last_fetched_epoch: Option<LeaderEpoch>,
    /// The epoch it believes in.
    pub current_leader_epoch: Option<LeaderEpoch>,
    /// Its log start.
    pub log_start: Option<Offset>,
}

/// A consumer's fetch.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ConsumerFetch {
    /// First offset wanted.
    pub offset: Offset,
    /// Only committed transactions?
    pub read_committed: bool,
    /// The epoch it believes in.
    pub current_leader_epoch: Option<LeaderEpoch>,
    /// Epoch of the last record it read; `None` does not check.
    pub last_fetched_epoch: Option<LeaderEpoch>,
    /// A follower may answer, up to its own high watermark (KIP-392, fetch version 11 and later).
    pub from_follower: bool,
}

/// What may be read for a fetch.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Read {
    /// Whole batches from the one that holds `from`, up to `up_to`; nothing if they are equal.
    Records {
        /// First offset wanted.
        from: Offset,
        /// Exclusive; never below `from`.
        up_to: Offset,
        /// The ends to report.
        ends: Ends,
        /// The log start to report.
        log_start: Offset,
    },
    /// The reader's log is not a prefix of ours.
    Diverging {
        /// Largest epoch we have that is not above the reader's last one.
        epoch: LeaderEpoch,
        /// Where it ends here, exclusive.
        end_offset: Offset,
        /// The ends to report.
        ends: Ends,
        /// The log start to report.
        log_start: Offset,
    },
}

/// An offset as ListOffsets answers it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ListedOffset {
    /// The offset.
    pub offset: Offset,
    /// The epoch to report with it.
    pub leader_epoch: Option<LeaderEpoch>,
}

/// How far a ListOffsets by timestamp may look.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TimestampBound {
    /// A hit at or beyond this offset does not count.
    pub up_to: Offset,
    /// Then answer this instead of "no such offset": a new leader's high watermark still lags (KIP-207).
    pub beyond: Option<ErrorCode>,
}

/// Who lists offsets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ListedBy {
    /// A client, by isolation level.
    Client {
        /// `read_committed`?
        read_committed: bool,
    },
    /// A follower whose fetch was out of range.
    Replica,
}
