//! What differs between two images.
//!
//! The maps of two images share what they have in common, so that the comparison costs what changed and not what is.

use super::image::{BrokerRegistration, MetadataImage, PartitionRegistration, TopicImage};
use broker_types::{BrokerId, TopicId, TopicIdPartition, TopicName};
use broker_wire::records::metadata::ConfigResource;
use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Everything that differs between two images; what is not named is equal.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MetadataDelta {
    /// Brokers whose registration came, went or changed, as they were before and are now.
    pub brokers: BTreeMap<BrokerId, BrokerDelta>,
    /// Topics that are new. A topic deleted and created again is in both lists, under its two ids.
    pub created_topics: BTreeMap<TopicId, TopicName>,
    /// Topics that are gone.
    pub deleted_topics: BTreeMap<TopicId, TopicName>,
    /// Partitions that are new, gone or changed, those of new and deleted topics included.
    pub partitions: BTreeMap<TopicIdPartition, PartitionDelta>,
    /// Resources whose own configuration changed.
    pub configs: BTreeSet<ConfigResource>,
    /// Whether a feature's level changed.
    pub features: bool,
}

/// One broker's registration, before and after. Never `None` twice.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BrokerDelta {
    /// As it was; `None` for a new one.
    pub before: Option<Arc<BrokerRegistration>>,
    /// As it is; `None` when it was unregistered.
    pub after: Option<Arc<BrokerRegistration>>,
}

/// One partition, before and after. Never `None` twice.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionDelta {
    /// Its topic's name.
    pub name: TopicName,
    /// As it was; `None` for a new one.
    pub before: Option<Arc<PartitionRegistration>>,
    /// As it is; `None` when it was deleted.
    pub after: Option<Arc<PartitionRegistration>>,
}

impl PartitionDelta {
    /// Somebody else leads, or the same one in a new epoch. Only then does a follower start over (KAFKA-13790).
    #[must_use]
    pub fn leader_epoch_changed(&self) -> bool {
        self.before.as_ref().map(|p| p.leader_epoch) != self.after.as_ref().map(|p| p.leader_epoch)
    }
}

/// What one broker must do about its own replicas.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LocalChanges {
    /// Replicas to stop and to delete: the partition is gone, or has no replica here any more.
    pub stop: BTreeSet<TopicIdPartition>,
    /// Partitions this broker leads whose registration changed.
    pub lead: BTreeMap<TopicIdPartition, Arc<PartitionRegistration>>,
    /// Partitions this broker follows whose registration changed, also those that nobody leads now.
    pub follow: BTreeMap<TopicIdPartition, Arc<PartitionRegistration>>,
}

impl MetadataDelta {
    /// What must be told to someone who knows `before`, so that he knows `after`.
    #[must_use]
    pub fn between(before: &MetadataImage, after: &MetadataImage) -> MetadataDelta {
        let mut delta = MetadataDelta { features: before.features() != after.features(), ..Default::default() };
        for item in before.brokers().diff(after.brokers()) {
            let (id, old, new) = sides(item);
            delta.brokers.insert(*id, BrokerDelta { before: old.cloned(), after: new.cloned() });
        }
        for item in before.configs().diff(after.configs()) {
            delta.configs.insert(sides(item).0.clone());
        }
        for item in before.topics().diff(after.topics()) {
            let (id, old, new) = sides(item);
            delta.add_topic(*id, old.map(Arc::as_ref), new.map(Arc::as_ref));
        }
        delta
    }

    fn add_topic(&mut self, id: TopicId, before: Option<&TopicImage>, after: Option<&TopicImage>) {
        let Some(name) = after.or(before).map(|topic| &topic.name) else { return };
        match (before, after) {
            (None, Some(_)) => drop(self.created_topics.insert(id, name.clone())),
            (Some(_), None) => drop(self.deleted_topics.insert(id, name.clone())),
            _ => {}
        }
        let none = OrdMap::new();
        let old = before.map_or(&none, |topic| &topic.partitions);
        let new = after.map_or(&none, |topic| &topic.partitions);
        for item in old.diff(new) {
            let (index, before, after) = sides(item);
            let partition = TopicIdPartition { topic: id, partition: *index };
            let change = PartitionDelta { name: name.clone(), before: before.cloned(), after: after.cloned() };
            self.partitions.insert(partition, change);
        }
    }

    /// Nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == MetadataDelta::default()
    }

    /// What `broker` must do about its own replicas.
    #[must_use]
    pub fn local_changes(&self, broker: BrokerId) -> LocalChanges {
        let mut local = LocalChanges::default();
        for (id, change) in &self.partitions {
            let was_here = change.before.as_ref().is_some_and(|p| p.replicas.contains(&broker));
            match &change.after {
                Some(now) if now.leader == Some(broker) => drop(local.lead.insert(*id, now.clone())),
                Some(now) if now.replicas.contains(&broker) => drop(local.follow.insert(*id, now.clone())),
                _ if was_here => {
                    local.stop.insert(*id);
                }
                _ => {}
            }
        }
        local
    }
}

fn sides<'a, K, V>(item: DiffItem<'a, 'a, K, V>) -> (&'a K, Option<&'a V>, Option<&'a V>) {
    match item {
        DiffItem::Add(key, value) => (key, None, Some(value)),
        DiffItem::Update { old, new } => (new.0, Some(old.1), Some(new.1)),
        DiffItem::Remove(key, value) => (key, Some(value), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use broker_types::{LeaderEpoch, NodeId, PartitionEpoch, Uuid};
    use broker_wire::records::metadata::{
        LeaderRecoveryState, MetadataRecord, PartitionChangeRecord, PartitionRecord, RemoveTopicRecord, TopicRecord,
    };

    const TOPIC: TopicId = Uuid(77);

    fn replayed(image: &MetadataImage, records: &[MetadataRecord]) -> MetadataImage {
        let mut image = image.clone();
        for record in records {
            image.replay(record, image.end().offset, LeaderEpoch(1)).unwrap();
        }
        image
    }

    fn partition(index: i32) -> MetadataRecord {
        MetadataRecord::Partition(PartitionRecord {
            partition: index,
            topic: TOPIC,
            replicas: vec![NodeId(1), NodeId(2)],
            isr: vec![NodeId(1), NodeId(2)],
            removing: vec![],
            adding: vec![],
            leader: Some(NodeId(1)),
            recovery: LeaderRecoveryState::Recovered,
            leader_epoch: LeaderEpoch(0),
            partition_epoch: PartitionEpoch(0),
            directories: vec![],
            elr: vec![],
            last_known_elr: vec![],
        })
    }

    fn two_partitions() -> MetadataImage {
        let topic = MetadataRecord::Topic(TopicRecord { name: "orders".into(), id: TOPIC });
        replayed(&MetadataImage::new(), &[topic, partition(0), partition(1)])
    }

    #[test]
    fn a_broker_is_told_only_of_replicas_that_changed() {
        let before = two_partitions();
        let moved = PartitionChangeRecord { leader: Some(Some(NodeId(2))), ..PartitionChangeRecord::new(TOPIC, 1) };
        let after = replayed(&before, &[MetadataRecord::PartitionChange(moved)]);
        let delta = MetadataDelta::between(&before, &after);
        let changed = TopicIdPartition { topic: TOPIC, partition: 1 };
        assert_eq!(delta.partitions.keys().collect::<Vec<_>>(), [&changed]);
        assert!(delta.partitions[&changed].leader_epoch_changed());
        assert_eq!(delta.local_changes(NodeId(2)).lead.keys().collect::<Vec<_>>(), [&changed]);
        assert_eq!(delta.local_changes(NodeId(1)).follow.keys().collect::<Vec<_>>(), [&changed]);
        assert_eq!(delta.local_changes(NodeId(3)), LocalChanges::default());
    }

    #[test]
    fn an_isr_change_is_no_change_of_leader_epoch() {
        let before = two_partitions();
        let shrunk = PartitionChangeRecord { isr: Some(vec![NodeId(1)]), ..PartitionChangeRecord::new(TOPIC, 0) };
        let after = replayed(&before, &[MetadataRecord::PartitionChange(shrunk)]);
        let delta = MetadataDelta::between(&before, &after);
        assert!(delta.partitions.values().all(|change| !change.leader_epoch_changed()));
    }

    #[test]
    fn a_recreated_topic_is_another_one() {
        let before = two_partitions();
        let recreated = [
            MetadataRecord::RemoveTopic(RemoveTopicRecord { topic: TOPIC }),
            MetadataRecord::Topic(TopicRecord { name: "orders".into(), id: Uuid(78) }),
        ];
        let delta = MetadataDelta::between(&before, &replayed(&before, &recreated));
        assert!(delta.deleted_topics.contains_key(&TOPIC) && delta.created_topics.contains_key(&Uuid(78)));
        assert_eq!(delta.local_changes(NodeId(1)).stop.len(), 2);
    }

    #[test]
    fn equal_images_differ_in_nothing() {
        let image = two_partitions();
        assert!(MetadataDelta::between(&image, &replayed(&image, &[MetadataRecord::NoOp])).is_empty());
    }
}
