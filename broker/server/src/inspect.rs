//! A read-only look at what a node believes, for metrics and for people.

use crate::node::{Counters, Node};
use broker_core::metadata::MetadataImage;
use broker_core::raft::LeaderAndEpoch;
use broker_env::watch;
use std::sync::Arc;

/// A node's view of itself; it may outlive the node.
#[derive(Clone)]
pub struct Inspector {
    node: Arc<Node>,
}

/// What a node last believed of the cluster. It keeps nothing else of the node alive, and stands still when the node ends.
#[derive(Clone)]
pub struct Beliefs {
    metadata: watch::Receiver<Arc<MetadataImage>>,
    leader: watch::Receiver<LeaderAndEpoch>,
}

impl Beliefs {
    pub(crate) fn new(node: &Node) -> Self {
        Beliefs { metadata: node.metadata.clone(), leader: node.leader.clone() }
    }

    /// The metadata it has replayed.
    #[must_use]
    pub fn metadata(&self) -> Arc<MetadataImage> {
        self.metadata.borrow().clone()
    }

    /// Who leads the metadata quorum, and in which epoch.
    #[must_use]
    pub fn quorum_leader(&self) -> LeaderAndEpoch {
        *self.leader.borrow()
    }
}

/// Partitions with a replica on this broker, as the metadata that it has replayed says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PartitionCounts {
    /// Replicas here.
    pub replicas: u32,
    /// Of them, those that lead.
    pub leaders: u32,
    /// Of the led ones, those whose ISR lacks a replica.
    pub under_replicated: u32,
    /// Partitions of the whole cluster that nobody leads.
    pub offline: u32,
}

impl Inspector {
    pub(crate) fn new(node: Arc<Node>) -> Self {
        Inspector { node }
    }

    /// What the node counts.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.node.counters
    }

    /// Brokers that are not fenced, as far as this node knows.
    #[must_use]
    pub fn active_brokers(&self) -> usize {
        self.node.image().brokers().values().filter(|broker| !broker.fenced).count()
    }

    /// Its partitions.
    #[must_use]
    pub fn partitions(&self) -> PartitionCounts {
        let image = self.node.image();
        let own = self.node.config.node_id;
        let mut counts = PartitionCounts::default();
        for partition in image.topics().values().flat_map(|topic| topic.partitions.values()) {
            let leads = partition.leader == Some(own);
            counts.replicas += u32::from(partition.replicas.contains(&own));
            counts.leaders += u32::from(leads);
            counts.under_replicated += u32::from(leads && partition.isr.len() < partition.replicas.len());
            counts.offline += u32::from(partition.leader.is_none());
        }
        counts
    }

    /// Whether this node leads the metadata quorum.
    #[must_use]
    pub fn is_active_controller(&self) -> bool {
        self.node.config.is_controller && self.node.leader.borrow().leader == Some(self.node.config.node_id)
    }

    /// The quorum's epoch, as far as this node knows.
    #[must_use]
    pub fn quorum_epoch(&self) -> i32 {
        self.node.leader.borrow().epoch.0
    }

    /// First metadata offset that this node has not replayed.
    #[must_use]
    pub fn metadata_end(&self) -> i64 {
        self.node.image().last_offset().map_or(0, |last| last.0 + 1)
    }
}
