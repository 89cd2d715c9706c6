//! What a node tells its observer about itself.

use crate::{
    BrokerEpoch, BrokerId, GroupId, LeaderEpoch, MemberId, NodeId, Offset, PartitionEpoch, ProducerEpoch, ProducerId,
    ProducerStamp, TopicId, TopicIdPartition, TopicName, TransactionalId,
};
use std::fmt;

/// The role of a replica when something happened to it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ReplicaRole {
    /// It leads the partition in its current leader epoch.
    Leader,
    /// It copies the leader.
    Follower,
}

/// One fact, said by the node it happened on at the moment it took effect there. On a real server it becomes a
/// `tracing` event and a metric; in a simulated world it is the trace, the judge's evidence and the report's data.
///
/// Facts that happen per batch hold no heap; only rare ones carry a list of brokers.
/// Partition facts about `__cluster_metadata` use [`TopicIdPartition::METADATA`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Observation {
    // ---- one replica's log (also the metadata log)
    /// A log was opened; recovery, if any, is over. Said before anything else about this partition in this incarnation.
    LogLoaded {
        /// The partition.
        partition: TopicIdPartition,
        /// First offset kept, inclusive.
        log_start: Offset,
        /// Log end offset, exclusive.
        log_end: Offset,
        /// The recovered high watermark.
        high_watermark: Offset,
        /// Bytes of a torn tail that recovery cut away.
        truncated_bytes: u64,
    },
    /// A batch entered the log (page cache).
    Appended {
        /// The partition.
        partition: TopicIdPartition,
        /// First offset, inclusive.
        base: Offset,
        /// Last offset, inclusive.
        last: Offset,
        /// The leader epoch written in the batch.
        leader_epoch: LeaderEpoch,
        /// Size in bytes, header included.
        size: u32,
        /// CRC-32C of the batch as stored in it; with base and epoch it names the batch's content.
        crc: u32,
        /// Whose batch it is, and where in his sequence; `None` for a producer without idempotence.
        producer: Option<ProducerStamp>,
        /// It is data, or a marker, of a transaction.
        is_transactional: bool,
        /// It holds a control record.
        is_control: bool,
        /// Whether this node appended as leader or copied as follower.
        role: ReplicaRole,
    },
    /// The log's end was cut back.
    Truncated {
        /// The partition.
        partition: TopicIdPartition,
        /// Former log end offset, exclusive.
        from: Offset,
        /// New log end offset, exclusive; less than `from`.
        to: Offset,
    },
    /// The high watermark was set. For a leader it never falls within `leader_epoch`; for a follower it may.
    HighWatermark {
        /// The partition.
        partition: TopicIdPartition,
        /// The replica's current leader epoch.
        leader_epoch: LeaderEpoch,
        /// The new value, exclusive.
        high_watermark: Offset,
        /// Log end offset at that moment.
        log_end: Offset,
        /// The replica's role.
        role: ReplicaRole,
    },
    /// The log's beginning moved up (retention, DeleteRecords, snapshots).
    LogStart {
        /// The partition.
        partition: TopicIdPartition,
        /// First offset kept, inclusive.
        log_start: Offset,
    },

    /// Whole segments at the log's beginning were deleted, by retention or because the log starts later (`cleanup.policy`).
    SegmentsDeleted {
        /// The partition.
        partition: TopicIdPartition,
        /// Base offset of the first, inclusive.
        from: Offset,
        /// End of the last, exclusive.
        until: Offset,
        /// Base offset of the active segment then.
        active: Offset,
    },
    /// The cleaner rewrote the segments below an offset, keeping the last record of each key (`cleanup.policy=compact`).
    Cleaned {
        /// The partition.
        partition: TopicIdPartition,
        /// End of what was rewritten, exclusive.
        until: Offset,
        /// Base offset of the active segment then.
        active: Offset,
    },

    // ---- one partition's replica
    /// This broker now leads the partition.
    BecameLeader {
        /// The partition.
        partition: TopicIdPartition,
        /// In this epoch.
        leader_epoch: LeaderEpoch,
        /// Its log end offset then: where the epoch begins.
        start: Offset,
        /// The ISR it was given.
        isr: Box<[BrokerId]>,
    },
    /// This broker now follows.
    BecameFollower {
        /// The partition.
        partition: TopicIdPartition,
        /// In this epoch.
        leader_epoch: LeaderEpoch,
        /// Whom; `None` when nobody leads.
        leader: Option<BrokerId>,
    },
    /// The leader asks the controller for another ISR. Until it is decided, both the old and the new one count.
    IsrProposed {
        /// The partition.
        partition: TopicIdPartition,
        /// The leader's epoch.
        leader_epoch: LeaderEpoch,
        /// The registration that it wants changed.
        partition_epoch: PartitionEpoch,
        /// The ISR it asks for.
        isr: Box<[BrokerId]>,
    },
    /// The leader learnt that this is the ISR that the controller committed: another one, or the old one because the
    /// controller refused what the leader had proposed.
    IsrCommitted {
        /// The partition.
        partition: TopicIdPartition,
        /// The leader's epoch.
        leader_epoch: LeaderEpoch,
        /// The registration's new epoch.
        partition_epoch: PartitionEpoch,
        /// The whole ISR.
        isr: Box<[BrokerId]>,
    },
    /// The leader answered an acks=all produce with success.
    Acknowledged {
        /// The partition.
        partition: TopicIdPartition,
        /// In this epoch.
        leader_epoch: LeaderEpoch,
        /// First offset acknowledged, inclusive.
        base: Offset,
        /// Last offset acknowledged, inclusive.
        last: Offset,
        /// The high watermark when it answered; greater than `last`.
        high_watermark: Offset,
        /// Members of the maximal ISR when it answered.
        isr_size: u32,
    },
    /// A log directory failed; what lay in it is offline.
    LogDirFailed,

    // ---- the metadata quorum
    /// The node entered a quorum epoch (durably).
    QuorumEpoch {
        /// The epoch.
        epoch: LeaderEpoch,
    },
    /// The node asks whether others would vote for it (KIP-996). It has changed nothing for that.
    QuorumProspective {
        /// The epoch it is in.
        epoch: LeaderEpoch,
    },
    /// The node stands for election in this epoch.
    QuorumCandidate {
        /// The epoch.
        epoch: LeaderEpoch,
    },
    /// The node gave its vote, durably, for this epoch.
    QuorumVote {
        /// The epoch.
        epoch: LeaderEpoch,
        /// For whom.
        candidate: NodeId,
    },
    /// The node won the election of this epoch: it is the active controller.
    QuorumLeader {
        /// The epoch.
        epoch: LeaderEpoch,
        /// Its log end offset then: where the epoch begins.
        start: Offset,
    },
    /// The node follows this leader in this epoch.
    QuorumFollower {
        /// The epoch.
        epoch: LeaderEpoch,
        /// The leader.
        leader: NodeId,
    },
    /// The leader of this epoch gave up (no majority fetched from it, or it shuts down).
    QuorumResigned {
        /// The epoch.
        epoch: LeaderEpoch,
    },

    /// The node wrote down the state that the metadata log comes to below an offset (KIP-630).
    SnapshotTaken(QuorumSnapshot),
    /// The node took a snapshot of another's in place of its own log, which begins anew where the snapshot ends.
    SnapshotLoaded(QuorumSnapshot),
    /// The leader of the quorum appended a record that changes the set of voters (KIP-853): it counts from there on.
    VotersChanged {
        /// The record's offset.
        offset: Offset,
        /// All voters from there on.
        voters: Box<[NodeId]>,
    },

    // ---- what the active controller decided; said when the records are committed
    /// A broker's registration was committed: the first one of its process. One that only amends it is not told.
    BrokerRegistered {
        /// The broker.
        broker: BrokerId,
        /// Its new epoch.
        broker_epoch: BrokerEpoch,
    },
    /// A broker was fenced.
    BrokerFenced {
        /// The broker.
        broker: BrokerId,
        /// The epoch of the fenced registration.
        broker_epoch: BrokerEpoch,
    },
    /// A broker was unfenced.
    BrokerUnfenced {
        /// The broker.
        broker: BrokerId,
        /// The epoch of its registration.
        broker_epoch: BrokerEpoch,
    },
    /// A broker said that it is about to stop; it leads nothing and joins no ISR any more (KIP-841).
    BrokerShuttingDown {
        /// The broker.
        broker: BrokerId,
        /// The epoch of its registration.
        broker_epoch: BrokerEpoch,
    },
    /// The active controller answered a request that was decided on records up to here.
    ControllerAnswered {
        /// End of the records it was decided on, exclusive.
        until: Offset,
    },
    /// A topic was created; its partitions are told next.
    TopicCreated {
        /// Its id: another than that of every topic which had the name before.
        topic: TopicId,
        /// Its name.
        name: TopicName,
    },
    /// A topic was deleted, and its partitions with it.
    TopicDeleted {
        /// Its id.
        topic: TopicId,
    },
    /// A partition's registration was created or changed.
    PartitionChanged {
        /// The partition.
        partition: TopicIdPartition,
        /// The leader; `None` when nobody leads.
        leader: Option<BrokerId>,
        /// The leader epoch.
        leader_epoch: LeaderEpoch,
        /// The registration's epoch.
        partition_epoch: PartitionEpoch,
        /// The ISR.
        isr: Box<[BrokerId]>,
        /// All replicas, in assignment order.
        replicas: Box<[BrokerId]>,
        /// Replicas that a reassignment brings; part of `replicas`.
        adding: Box<[BrokerId]>,
        /// Replicas that a reassignment takes away; part of `replicas`.
        removing: Box<[BrokerId]>,
        /// Eligible leader replicas (KIP-966).
        elr: Box<[BrokerId]>,
        /// Those that were eligible last and are no longer (KIP-966).
        last_known_elr: Box<[BrokerId]>,
        /// The leader was not in the former ISR.
        unclean: bool,
    },

    // ---- coordinators; said when the records that a fact rests on are committed
    /// The node has loaded one partition of a coordinator's topic and answers for what is in it.
    CoordinatorLoaded {
        /// Of what.
        kind: CoordinatorKind,
        /// Which partition of its topic.
        partition: i32,
        /// The leader epoch in which it loaded it.
        leader_epoch: LeaderEpoch,
    },
    /// The node answers for that partition no longer.
    CoordinatorUnloaded {
        /// Of what.
        kind: CoordinatorKind,
        /// Which partition of its topic.
        partition: i32,
    },
    /// A group changed.
    GroupChanged {
        /// The group.
        group: GroupId,
        /// The leader epoch of its coordinator.
        coordinator_epoch: LeaderEpoch,
        /// The generation of a classic group, the group epoch of one of KIP-848.
        epoch: i32,
        /// Its state.
        state: GroupState,
    },
    /// A member of a group got another assignment or epoch, or told what it owns.
    MemberChanged(Box<MemberFact>),
    /// A member left, was removed or timed out.
    MemberGone {
        /// The group.
        group: GroupId,
        /// The member.
        member: MemberId,
    },
    /// A group's offset was committed outside a transaction, or by the transaction's commit.
    OffsetCommitted {
        /// The group.
        group: GroupId,
        /// The partition read.
        partition: TopicIdPartition,
        /// The next offset to read.
        offset: Offset,
        /// The leader epoch of the coordinator that took it.
        coordinator_epoch: LeaderEpoch,
        /// Who committed; `None` for a client that is no member.
        member: Option<MemberId>,
        /// The generation or member epoch that it named; -1 without a member.
        epoch: i32,
    },
    /// A transaction changed its state.
    TransactionChanged(Box<TransactionFact>),
    /// The partition's leader wrote a transaction's marker.
    TransactionMarker {
        /// The partition.
        partition: TopicIdPartition,
        /// The marker's offset.
        offset: Offset,
        /// Whose transaction.
        producer: ProducerId,
        /// The producer epoch in the marker.
        producer_epoch: ProducerEpoch,
        /// The epoch of the coordinator that asked for it.
        coordinator_epoch: LeaderEpoch,
        /// Commit, or abort.
        commit: bool,
    },

    // ---- anything else worth seeing
    /// A rare path was taken, by its name in the grammar of scenarios (`producer-fenced`, `isr-rejected`, ...).
    Mark {
        /// Lower case, words joined by hyphens.
        name: &'static str,
    },
}

/// A snapshot of the metadata log.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct QuorumSnapshot {
    /// End of the records that it stands for, exclusive.
    pub end: Offset,
    /// The epoch of the last of them.
    pub epoch: LeaderEpoch,
    /// Hash over what they come to: two snapshots of one end have one digest.
    pub digest: u64,
}

/// What is coordinated.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum CoordinatorKind {
    /// Groups, in `__consumer_offsets`.
    Group,
    /// Transactions, in `__transaction_state`.
    Transaction,
}

/// The state of a group: of a classic one, or of one of KIP-848.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum GroupState {
    /// It has no members.
    Empty,
    /// Classic: members are asked to join.
    PreparingRebalance,
    /// Classic: the leader is asked for the assignment.
    CompletingRebalance,
    /// KIP-848: a new target is being computed.
    Assigning,
    /// KIP-848: members are on their way to their target.
    Reconciling,
    /// Every member has what it should have.
    Stable,
    /// It is deleted.
    Dead,
}

/// One member of a group, as its coordinator has it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct MemberFact {
    /// The group.
    pub group: GroupId,
    /// The member.
    pub member: MemberId,
    /// The leader epoch of its coordinator.
    pub coordinator_epoch: LeaderEpoch,
    /// The generation or member epoch.
    pub epoch: i32,
    /// It speaks the protocol from before KIP-848.
    pub is_classic: bool,
    /// What it may read: assigned, and not to be given up.
    pub assigned: Box<[TopicIdPartition]>,
    /// What it was asked to give up and may still read. Empty in a classic group.
    pub revoking: Box<[TopicIdPartition]>,
    /// What it is to have in the end; equal to `assigned` in a classic group.
    pub target: Box<[TopicIdPartition]>,
}

/// The state of a transaction (KIP-98).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum TransactionState {
    /// The producer has an id and no transaction yet.
    Empty,
    /// Partitions are in it.
    Ongoing,
    /// The commit is decided; markers are on their way.
    PrepareCommit,
    /// The abort is decided; markers are on their way.
    PrepareAbort,
    /// The commit is done.
    CompleteCommit,
    /// The abort is done.
    CompleteAbort,
    /// A new incarnation, or the timeout, fences the producer; the abort follows.
    PrepareEpochFence,
    /// The transactional id expired.
    Dead,
}

/// One transactional id, as its coordinator has it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct TransactionFact {
    /// The transactional id.
    pub transactional_id: TransactionalId,
    /// Its producer id.
    pub producer: ProducerId,
    /// Its producer epoch.
    pub producer_epoch: ProducerEpoch,
    /// The leader epoch of its coordinator.
    pub coordinator_epoch: LeaderEpoch,
    /// Its new state.
    pub state: TransactionState,
    /// The partitions in the transaction, also once it is complete.
    pub partitions: Box<[TopicIdPartition]>,
}

/// Takes a node's observations, in order, one node at a time. Must not block.
pub trait Observer: Send + Sync {
    /// `fact` just took effect.
    fn observe(&self, fact: Observation);
}

/// An observer that keeps nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn observe(&self, _: Observation) {}
}

impl fmt::Display for ReplicaRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ReplicaRole::Leader => "leader",
            ReplicaRole::Follower => "follower",
        })
    }
}
