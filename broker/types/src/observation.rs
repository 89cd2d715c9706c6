//! What a node tells its observer about itself.

use crate::{BrokerEpoch, BrokerId, LeaderEpoch, NodeId, Offset, PartitionEpoch, TopicIdPartition};
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
    /// The leader learnt that the controller committed this ISR.
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

    // ---- what the active controller decided; said when the records are committed
    /// A broker's registration was committed.
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
        /// The leader was not in the former ISR.
        unclean: bool,
    },

    // ---- anything else worth seeing
    /// A rare path was taken, by its name in the grammar of scenarios (`producer-fenced`, `isr-rejected`, ...).
    Mark {
        /// Lower case, words joined by hyphens.
        name: &'static str,
    },
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
