//! What is legal in a run: the configuration it ran under and what was done to it.
//!
//! The same finding can be a broken promise or a documented possibility. A record acknowledged with acks=1 may go with
//! its leader; one acknowledged with acks=all may not, unless more of the ISR lost power at once than
//! `min.insync.replicas` pays for. The context is where a check learns which of the two it looks at.

use crate::history::SimTime;
use broker_types::{NodeId, TopicId, TopicIdPartition};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Whether a loss that Kafka documents as possible is only counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Allowed {
    /// Counted and named, no violation.
    #[default]
    Counted,
    /// A violation as any other: the scenario asks for more than its configuration promises.
    None,
}

/// What holds for one partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct PartitionRules {
    /// `min.insync.replicas`. At least 1.
    pub min_isr: u32,
    /// Replicas the partition was created with.
    pub replication_factor: u32,
    /// `unclean.leader.election.enable`.
    pub unclean_election: bool,
    /// `flush.messages` = 1: a record is on the disk before it is acknowledged or counts for the high watermark.
    pub flush_before_ack: bool,
    /// Its beginning may go away: retention, or DeleteRecords.
    pub may_be_trimmed: bool,
    /// `cleanup.policy` has compact: a record may go once a later one of its key is there.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub compacted: bool,
    /// When brokers are to make its log shorter.
    #[serde(skip_serializing_if = "Cleanup::is_never")]
    pub cleanup: Cleanup,
}

/// `cleanup.policy` and what goes with it: from when on a broker owes a log its cleaning. By default never.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Cleanup {
    /// `retention.ms` of a log whose policy has delete: a segment goes when its newest record is older. `None`: for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_ms: Option<u64>,
    /// `retention.bytes` of a log whose policy has delete: the oldest segment goes while the others hold as many. `None`: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_bytes: Option<u64>,
    /// When the cleaner has work, for a log whose policy has compact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compaction: Option<Compaction>,
}

impl Cleanup {
    fn is_never(&self) -> bool {
        *self == Cleanup::default()
    }
}

/// When the cleaner has work in a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Compaction {
    /// `min.cleanable.dirty.ratio`, in millionths: when more of the bytes than that were never cleaned.
    pub min_dirty_ppm: u32,
    /// `min.compaction.lag.ms`: no segment with a younger record is cleaned.
    pub min_lag_ms: u64,
    /// `max.compaction.lag.ms`: when a record that was never cleaned is older, whatever the ratio. `None`: never for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_lag_ms: Option<u64>,
}

impl Default for Compaction {
    /// Kafka's own.
    fn default() -> Self {
        Compaction { min_dirty_ppm: 500_000, min_lag_ms: 0, max_lag_ms: None }
    }
}

impl Default for PartitionRules {
    fn default() -> Self {
        PartitionRules {
            min_isr: 1,
            replication_factor: 1,
            unclean_election: false,
            flush_before_ack: false,
            may_be_trimmed: false,
            compacted: false,
            cleanup: Cleanup::default(),
        }
    }
}

/// `auto.offset.reset` of groups: where one begins that has committed nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OffsetReset {
    /// At the log's start.
    #[default]
    Earliest,
    /// At its end: what was there before the group's first poll is not the group's.
    Latest,
}

impl OffsetReset {
    fn is_earliest(&self) -> bool {
        *self == OffsetReset::Earliest
    }
}

/// How a node lost what it had written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LossKind {
    /// The page cache went: what was not synced may be lost.
    PowerLoss,
    /// The disk came back empty.
    DiskWipe,
    /// A sync failed and dropped the dirty pages, as Linux does.
    SyncError,
    /// Bytes that were durable changed.
    BitRot,
}

/// One event that may have cost a node bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Loss {
    /// Which node.
    pub node: NodeId,
    /// When.
    pub at: SimTime,
    /// How.
    pub kind: LossKind,
}

/// Why records of a partition may be gone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExcuseKind {
    /// Another leader took over: what the former one had alone (acks=0 and acks=1) may be gone.
    LeaderChange,
    /// The same, after the former leader lost power.
    LeaderPowerLoss,
    /// A replica from outside the ISR was elected, as the configuration allows.
    UncleanElection,
    /// More members of the ISR lost bytes than the configuration pays for.
    LossBeyondBudget,
    /// A leader took over, or was elected again, and did not know yet how far the log was committed before: its high watermark
    /// was below the start of its epoch (KIP-207). It excuses no loss, only a fetch that is told too little.
    HighWatermarkRecovering,
}

/// One event that excuses a loss, or an answer that is behind. It covers every record acknowledged up to `until`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Excuse {
    /// Why.
    pub kind: ExcuseKind,
    /// When it happened.
    pub at: SimTime,
    /// Until when a record could still fall under it: a deposed leader goes on answering until it hears of its successor.
    /// `None`: it never ended.
    pub until: Option<SimTime>,
}

/// `transaction.version`: from 2 on (KIP-890) every transaction has an epoch of its own. Before, an EndTxn that came late, or
/// twice, could decide a later transaction of its producer (KAFKA-17754).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TransactionVersion(pub u8);

impl Default for TransactionVersion {
    fn default() -> Self {
        TransactionVersion(2)
    }
}

/// What the checks need to know of the run beside the history.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Context {
    /// What holds where `partitions` says nothing.
    pub defaults: PartitionRules,
    /// What holds for single partitions.
    #[serde(with = "crate::jsonl::pairs")]
    pub partitions: BTreeMap<TopicIdPartition, PartitionRules>,
    /// `transaction.version` of the cluster.
    pub transaction_version: TransactionVersion,
    /// Whether documented losses are violations.
    pub allowed: Allowed,
    /// Power losses, disk wipes and so on, as they happened, in order of time.
    pub losses: Vec<Loss>,
    /// What excuses losses, by partition, as [`crate::WhiteBox::excuses`] found it. `None` when nobody watched the
    /// brokers (a history of a cluster elsewhere): then `losses` and the configuration must do.
    #[serde(with = "crate::jsonl::pairs::optional")]
    pub excuses: Option<BTreeMap<TopicIdPartition, Vec<Excuse>>>,
    /// The partitions whose final reads reached the end of the log.
    pub final_reads_reached_end: BTreeSet<TopicIdPartition>,
    /// Topics' names, for evidence.
    #[serde(with = "crate::jsonl::pairs")]
    pub topics: BTreeMap<TopicId, String>,
    /// Nodes' names, for evidence.
    #[serde(with = "crate::jsonl::pairs")]
    pub nodes: BTreeMap<NodeId, String>,
    /// The voters of the metadata quorum. Empty: rules that need them have no opportunity.
    pub voters: Vec<NodeId>,
    /// Eligible leader replicas (KIP-966) are in use.
    pub elr: bool,
    /// Where groups begin.
    #[serde(skip_serializing_if = "OffsetReset::is_earliest")]
    pub offset_reset: OffsetReset,
    /// What all accounts hold together, whatever is transferred between them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conserved_total: Option<i64>,
    /// A run may be longer than `producer.id.expiration.ms`: brokers forget producers that were idle for so long.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub producers_expire: bool,
    /// Most batches that the white box remembers; beyond it the checks that need them end as unknown.
    /// 0 means [`Context::BATCHES`].
    pub max_batches: usize,
}

impl Context {
    /// The default of `max_batches`: at 16 bytes each, 64 MB.
    pub const BATCHES: usize = 4_000_000;

    /// What holds for `partition`.
    #[must_use]
    pub fn rules(&self, partition: TopicIdPartition) -> PartitionRules {
        self.partitions.get(&partition).copied().unwrap_or(self.defaults)
    }

    /// `orders-0`; the topic's id when nobody named it.
    #[must_use]
    pub fn partition_name(&self, partition: TopicIdPartition) -> String {
        if partition == TopicIdPartition::METADATA {
            return "__cluster_metadata-0".to_owned();
        }
        match self.topics.get(&partition.topic) {
            Some(name) => format!("{name}-{}", partition.partition),
            None => partition.to_string(),
        }
    }

    /// `broker-1`; `node 1` when nobody named it.
    #[must_use]
    pub fn node_name(&self, node: NodeId) -> String {
        self.nodes.get(&node).cloned().unwrap_or_else(|| format!("node {node}"))
    }

    /// `broker-1, broker-2`.
    pub(crate) fn node_names(&self, nodes: &[NodeId]) -> String {
        match nodes {
            [] => "nobody".to_owned(),
            nodes => nodes.iter().map(|node| self.node_name(*node)).collect::<Vec<_>>().join(", "),
        }
    }
}

/// A moment as seconds: `12.345s`.
#[must_use]
pub(crate) fn seconds(at: SimTime) -> String {
    format!("{}.{:03}s", at.0 / 1_000_000_000, at.0 / 1_000_000 % 1000)
}
