//! Liveness after healing: what a cluster must look like some time after the last fault ended.

use crate::context::Context;
use crate::verdict::CheckResult;
use broker_types::{LeaderEpoch, NodeId, Offset, TopicIdPartition};

/// The cluster once faults have ended, traffic has stopped and it had its time to get well.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct EndState {
    /// Every partition of every topic.
    pub partitions: Vec<PartitionEnd>,
    /// The controllers as they see the quorum; empty when nobody asked.
    pub controllers: Vec<ControllerEnd>,
    /// Brokers that run, and whether they are registered and unfenced; empty when nobody asked.
    pub brokers: Vec<BrokerEnd>,
    /// What was tried at the end on purpose, to see that the cluster serves.
    pub canaries: Vec<Canary>,
}

/// One partition at the end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionEnd {
    /// Which.
    pub partition: TopicIdPartition,
    /// Who leads, as the controller says.
    pub leader: Option<NodeId>,
    /// The ISR, as the controller says.
    pub isr: Vec<NodeId>,
    /// The replicas that it is assigned to.
    pub assigned: Vec<NodeId>,
    /// Its replicas on nodes that run and whose disks are whole. An assigned replica that is missing here is not expected
    /// to be in the ISR: its node was left broken on purpose.
    pub replicas: Vec<ReplicaEnd>,
}

/// One replica's log at the end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReplicaEnd {
    /// Where.
    pub node: NodeId,
    /// First offset kept, inclusive.
    pub log_start: Offset,
    /// Log end offset, exclusive.
    pub log_end: Offset,
    /// High watermark, exclusive.
    pub high_watermark: Offset,
    /// Every batch, as read from the disk, in order.
    pub batches: Vec<BatchEnd>,
    /// Hash over all bytes of all batches; `None` when nobody computed it.
    pub file_digest: Option<u128>,
}

/// One batch as read from the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchEnd {
    /// First offset, inclusive.
    pub base: Offset,
    /// Last offset, inclusive.
    pub last: Offset,
    /// Its leader epoch.
    pub leader_epoch: LeaderEpoch,
    /// CRC-32C as stored.
    pub crc: u32,
}

/// One controller at the end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ControllerEnd {
    /// Which.
    pub node: NodeId,
    /// Its quorum epoch.
    pub epoch: LeaderEpoch,
    /// Who leads the quorum, as it believes.
    pub leader: Option<NodeId>,
    /// Its metadata log's end, exclusive.
    pub log_end: Offset,
    /// Its high watermark, exclusive.
    pub high_watermark: Offset,
}

/// One running broker at the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BrokerEnd {
    /// Which.
    pub node: NodeId,
    /// The controller holds it for unfenced.
    pub unfenced: bool,
}

/// One thing tried at the end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Canary {
    /// What: `produce to orders-0`.
    pub what: String,
    /// `None` when it worked, else what came instead.
    pub error: Option<String>,
}

/// Judges the end of a run.
#[must_use]
pub fn converged(end: &EndState, ctx: &Context) -> Vec<CheckResult> {
    let _ = (end, ctx);
    Vec::new()
}
