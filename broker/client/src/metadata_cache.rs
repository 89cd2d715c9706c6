//! What the client believes of the cluster: nodes, topics, leaders.
//!
//! A plain struct. It merges what brokers say: answers to Metadata, and the new leaders that Produce and Fetch answers
//! name (KIP-951). A partition's leader epoch never goes back while its topic id stays (KIP-320): a broker that has not
//! heard of an election cannot send us back to the deposed leader. Another topic id is another topic and starts anew.

use broker_types::{ErrorCode, LeaderEpoch, MonoTime, NodeId, TopicId, TopicName, TopicPartition};
use std::collections::{BTreeMap, BTreeSet};

/// Where a node listens.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct NodeAddress {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// `broker.rack`, if told.
    pub rack: Option<String>,
}

/// One topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicMetadata {
    /// Its id; `None` from brokers that know none.
    pub id: Option<TopicId>,
    /// Its partitions by index.
    pub partitions: BTreeMap<i32, PartitionMetadata>,
}

/// One partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionMetadata {
    /// Who leads it; `None` while nobody is known to.
    pub leader: Option<NodeId>,
    /// The leader's epoch; `None` from brokers that do not say. Never goes back for the same topic id.
    pub leader_epoch: Option<LeaderEpoch>,
    /// Replicas in order of assignment.
    pub replicas: Vec<NodeId>,
    /// In-sync replicas.
    pub isr: Vec<NodeId>,
}

/// One broker's answer, in our words.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct MetadataAnswer {
    pub(crate) cluster_id: Option<String>,
    pub(crate) controller: Option<NodeId>,
    pub(crate) nodes: BTreeMap<NodeId, NodeAddress>,
    pub(crate) topics: Vec<(TopicName, Result<TopicMetadata, ErrorCode>)>,
}

/// What is known.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct MetadataCache {
    pub(crate) cluster_id: Option<String>,
    pub(crate) controller: Option<NodeId>,
    nodes: BTreeMap<NodeId, NodeAddress>,
    topics: BTreeMap<TopicName, TopicMetadata>,
    /// Why a wanted topic is not in `topics`, or is out of date.
    errors: BTreeMap<TopicName, ErrorCode>,
    /// Topics that somebody asked for.
    wanted: BTreeSet<TopicName>,
    /// Counts the answers merged.
    version: u64,
    /// When the last answer was merged.
    refreshed_at: Option<MonoTime>,
    /// Somebody found something out of date since the last request was sent.
    stale: bool,
}

impl MetadataCache {
    /// Merges an answer. True if a wanted topic is still without a leader somewhere, so that asking again is right.
    pub(crate) fn merge(&mut self, now: MonoTime, answer: MetadataAnswer) -> bool {
        self.version += 1;
        self.refreshed_at = Some(now);
        self.cluster_id = answer.cluster_id.or(self.cluster_id.take());
        self.controller = answer.controller;
        if !answer.nodes.is_empty() {
            self.nodes = answer.nodes;
        }
        let mut incomplete = false;
        for (name, told) in answer.topics {
            match told {
                Ok(told) => {
                    incomplete |= told.partitions.values().any(|partition| partition.leader.is_none());
                    self.errors.remove(&name);
                    self.merge_topic(name, told);
                }
                Err(code) => {
                    incomplete |= code.is_retriable();
                    if code == ErrorCode::UnknownTopicOrPartition {
                        self.topics.remove(&name);
                    }
                    self.errors.insert(name, code);
                }
            }
        }
        incomplete
    }

    fn merge_topic(&mut self, name: TopicName, mut told: TopicMetadata) {
        let Some(known) = self.topics.get(&name) else {
            self.topics.insert(name, told);
            return;
        };
        if known.id == told.id || told.id.is_none() {
            for (index, partition) in &mut told.partitions {
                if let Some(before) = known.partitions.get(index)
                    && before.leader_epoch > partition.leader_epoch
                {
                    *partition = before.clone();
                }
            }
        }
        self.topics.insert(name, told);
    }

    /// A produce or fetch answer named a leader. Taken only when its epoch is newer. True if it was.
    pub(crate) fn merge_leader(
        &mut self,
        partition: &TopicPartition,
        leader: NodeId,
        epoch: LeaderEpoch,
        endpoint: Option<NodeAddress>,
    ) -> bool {
        let Some(known) =
            self.topics.get_mut(&partition.topic).and_then(|t| t.partitions.get_mut(&partition.partition))
        else {
            return false;
        };
        if known.leader_epoch >= Some(epoch) || !(self.nodes.contains_key(&leader) || endpoint.is_some()) {
            return false;
        }
        (known.leader, known.leader_epoch) = (Some(leader), Some(epoch));
        if let Some(endpoint) = endpoint {
            self.nodes.insert(leader, endpoint);
        }
        self.version += 1;
        true
    }

    /// From now on requests ask for `topic` too. True if that is new.
    pub(crate) fn want(&mut self, topic: &TopicName) -> bool {
        self.wanted.insert(topic.clone())
    }

    /// The next request goes out as soon as its backoff allows.
    pub(crate) fn mark_stale(&mut self) {
        self.stale = true;
    }

    /// A request is about to go out.
    pub(crate) fn begin_refresh(&mut self) -> Vec<TopicName> {
        self.stale = false;
        self.wanted.iter().cloned().collect()
    }

    pub(crate) fn is_stale(&self) -> bool {
        self.stale
    }

    pub(crate) fn refreshed_at(&self) -> Option<MonoTime> {
        self.refreshed_at
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn nodes(&self) -> &BTreeMap<NodeId, NodeAddress> {
        &self.nodes
    }

    pub(crate) fn topic(&self, name: &TopicName) -> Option<&TopicMetadata> {
        self.topics.get(name)
    }

    pub(crate) fn error(&self, name: &TopicName) -> Option<ErrorCode> {
        self.errors.get(name).copied()
    }

    pub(crate) fn partition(&self, partition: &TopicPartition) -> Option<&PartitionMetadata> {
        self.topics.get(&partition.topic)?.partitions.get(&partition.partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use broker_types::Uuid;

    fn answer(id: u128, epoch: i32, leader: i32) -> MetadataAnswer {
        let partition = PartitionMetadata {
            leader: (leader >= 0).then_some(NodeId(leader)),
            leader_epoch: (epoch >= 0).then_some(LeaderEpoch(epoch)),
            replicas: vec![],
            isr: vec![],
        };
        let topic = TopicMetadata { id: Some(Uuid(id)), partitions: BTreeMap::from([(0, partition)]) };
        let node = |n: i32| (NodeId(n), NodeAddress { host: format!("b{n}"), port: 9092, rack: None });
        MetadataAnswer {
            nodes: BTreeMap::from([node(1), node(2), node(3)]),
            topics: vec![("orders".into(), Ok(topic))],
            ..MetadataAnswer::default()
        }
    }

    fn leader(cache: &MetadataCache) -> (Option<NodeId>, Option<LeaderEpoch>) {
        let partition = cache.partition(&TopicPartition::new("orders", 0)).unwrap();
        (partition.leader, partition.leader_epoch)
    }

    #[test]
    fn a_leader_epoch_never_goes_back_for_the_same_topic_id() {
        let mut cache = MetadataCache::default();
        cache.merge(MonoTime(1), answer(7, 5, 2));
        cache.merge(MonoTime(2), answer(7, 4, 1));
        assert_eq!(leader(&cache), (Some(NodeId(2)), Some(LeaderEpoch(5))));
        cache.merge(MonoTime(3), answer(7, 5, -1));
        assert_eq!(leader(&cache), (None, Some(LeaderEpoch(5))), "the same epoch may lose its leader");
        cache.merge(MonoTime(4), answer(7, 6, 3));
        assert_eq!(leader(&cache), (Some(NodeId(3)), Some(LeaderEpoch(6))));
    }

    #[test]
    fn a_recreated_topic_starts_its_epochs_anew() {
        let mut cache = MetadataCache::default();
        cache.merge(MonoTime(1), answer(7, 5, 2));
        cache.merge(MonoTime(2), answer(8, 0, 1));
        assert_eq!(leader(&cache), (Some(NodeId(1)), Some(LeaderEpoch(0))));
        assert_eq!(cache.topic(&"orders".into()).unwrap().id, Some(Uuid(8)));
    }

    #[test]
    fn a_leader_named_in_passing_counts_only_when_its_epoch_is_newer() {
        let mut cache = MetadataCache::default();
        cache.merge(MonoTime(1), answer(7, 5, 2));
        let orders = TopicPartition::new("orders", 0);
        assert!(!cache.merge_leader(&orders, NodeId(1), LeaderEpoch(5), None));
        assert!(!cache.merge_leader(&orders, NodeId(9), LeaderEpoch(6), None), "nobody knows where 9 listens");
        assert!(cache.merge_leader(&orders, NodeId(1), LeaderEpoch(6), None));
        assert_eq!(leader(&cache), (Some(NodeId(1)), Some(LeaderEpoch(6))));
    }

    #[test]
    fn a_topic_without_leader_or_with_a_passing_error_asks_for_another_refresh() {
        let mut cache = MetadataCache::default();
        assert!(!cache.merge(MonoTime(1), answer(7, 5, 2)));
        assert!(cache.merge(MonoTime(2), answer(7, 5, -1)));
        let unknown = MetadataAnswer {
            topics: vec![("orders".into(), Err(ErrorCode::UnknownTopicOrPartition))],
            ..MetadataAnswer::default()
        };
        assert!(cache.merge(MonoTime(3), unknown));
        assert_eq!(cache.topic(&"orders".into()), None);
        assert_eq!(cache.error(&"orders".into()), Some(ErrorCode::UnknownTopicOrPartition));
        assert_eq!(cache.nodes().len(), 3, "an answer without nodes takes none away");
    }
}
