//! Topics: creation, deletion, more partitions.

use super::configs::check_value;
use super::placement::Placer;
use super::{
    Active, ControllerConfig, ControllerResponse, CreatedTopic, Decision, NewPartitions, NewTopic, Refusal, TopicRef,
    check_batch_size,
};
use crate::metadata::{TopicImage, UNASSIGNED_DIRECTORY};
use broker_types::{BrokerId, DirectoryId, ErrorCode, LeaderEpoch, PartitionEpoch, TopicId, TopicName, Uuid};
use broker_wire::records::metadata::{
    ConfigRecord, ConfigResource, ConfigResourceType, LeaderRecoveryState, MetadataRecord, PartitionRecord,
    RemoveTopicRecord, TopicRecord,
};
use rand_chacha::ChaCha8Rng;
use rand_core::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A configuration key and its value.
type Setting = (Arc<str>, Arc<str>);

/// The directory of a replica on a broker that did not name its directories (KIP-858).
const MIGRATING_DIRECTORY: DirectoryId = Uuid(2);
const MAX_NAME_LENGTH: usize = 249;

impl Active {
    pub(super) fn create_topics(
        &self,
        config: &ControllerConfig,
        rng: &mut ChaCha8Rng,
        topics: &[NewTopic],
        validate_only: bool,
    ) -> Result<Decision, Refusal> {
        let mut names: BTreeMap<&TopicName, usize> = BTreeMap::new();
        topics.iter().for_each(|topic| *names.entry(&topic.name).or_default() += 1);
        let mut taken: BTreeSet<TopicId> = BTreeSet::new();
        let mut collisions: BTreeMap<String, TopicName> = BTreeMap::new();
        for name in self.speculative.topic_ids().keys().filter(|name| name.as_str().contains(['.', '_'])) {
            collisions.insert(without_dots(name), name.clone());
        }
        let (mut records, mut results) = (Vec::new(), Vec::with_capacity(topics.len()));
        for topic in topics {
            let result = self.new_topic(config, rng, topic, &mut taken, names[&topic.name], &collisions);
            let result = result.and_then(|(created, new)| {
                check_batch_size(config, &new)?;
                if topic.name.as_str().contains(['.', '_']) {
                    collisions.insert(without_dots(&topic.name), topic.name.clone());
                }
                records.extend(new);
                Ok(created)
            });
            results.push((topic.name.clone(), result));
            // Now and not at the end: a request of many topics with many partitions each fills the memory before.
            check_batch_size(config, &records)?;
        }
        if validate_only {
            records.clear();
            results.iter_mut().filter_map(|(_, r)| r.as_mut().ok()).for_each(|created| created.id = Uuid::ZERO);
        }
        Ok(Decision { records, response: ControllerResponse::CreateTopics(results) })
    }

    fn new_topic(
        &self,
        config: &ControllerConfig,
        rng: &mut ChaCha8Rng,
        topic: &NewTopic,
        taken: &mut BTreeSet<TopicId>,
        mentions: usize,
        collisions: &BTreeMap<String, TopicName>,
    ) -> Result<(CreatedTopic, Vec<MetadataRecord>), Refusal> {
        let name = &topic.name;
        if mentions > 1 {
            return Err(Refusal::new(ErrorCode::InvalidRequest, format!("{name} appears {mentions} times")));
        }
        check_name(name)?;
        if self.speculative.topic_ids().contains_key(name) {
            return Err(Refusal::new(ErrorCode::TopicAlreadyExists, format!("topic {name} already exists")));
        }
        if let Some(other) = collisions.get(&without_dots(name)) {
            let message = format!("topic {name} differs from {other} only in '.' and '_'");
            return Err(Refusal::new(ErrorCode::InvalidTopicException, message));
        }
        let configs = checked_configs(topic)?;
        let assignments = self.assignments(config, rng, topic)?;
        let id = draw_topic_id(rng, |id| taken.contains(&id) || self.speculative.topic(id).is_some());
        taken.insert(id);
        let created = CreatedTopic {
            id,
            partitions: assignments.len() as i32,
            replication_factor: assignments.first().map_or(0, |replicas| replicas.len() as i16),
            configs: configs.clone(),
        };
        let mut records = vec![MetadataRecord::Topic(TopicRecord { name: name.clone(), id })];
        let resource = ConfigResource::topic(name);
        records.extend(configs.into_iter().map(|(key, value)| {
            MetadataRecord::Config(ConfigRecord { resource: resource.clone(), key, value: Some(value) })
        }));
        for (index, replicas) in (0..).zip(assignments) {
            records.push(self.new_partition(id, index, replicas)?);
        }
        Ok((created, records))
    }

    /// The replicas of each partition, as the asker says or as we place them.
    fn assignments(
        &self,
        config: &ControllerConfig,
        rng: &mut ChaCha8Rng,
        topic: &NewTopic,
    ) -> Result<Vec<Vec<BrokerId>>, Refusal> {
        if topic.assignments.is_empty() {
            let replicas = topic.replication_factor.unwrap_or(config.default_replication_factor);
            let partitions = topic.partitions.unwrap_or(config.default_partitions);
            if replicas <= 0 {
                let message = format!("replication factor {replicas} is not at least 1");
                return Err(Refusal::new(ErrorCode::InvalidReplicationFactor, message));
            }
            if partitions <= 0 {
                let message = format!("{partitions} partitions are not at least 1");
                return Err(Refusal::new(ErrorCode::InvalidPartitions, message));
            }
            check_partition_count(config, partitions)?;
            let mut placer = Placer::new(&self.speculative, rng);
            return (0..partitions).map(|_| placer.place(replicas, rng)).collect();
        }
        if topic.replication_factor.is_some() || topic.partitions.is_some() {
            let message = "replicas are assigned by hand, so neither their number nor that of partitions may be given";
            return Err(Refusal::new(ErrorCode::InvalidRequest, message));
        }
        let mut by_index: Vec<&(i32, Vec<BrokerId>)> = topic.assignments.iter().collect();
        by_index.sort_by_key(|(index, _)| *index);
        let mut assignments: Vec<Vec<BrokerId>> = Vec::with_capacity(by_index.len());
        for (expected, (index, replicas)) in (0..).zip(by_index) {
            if *index != expected {
                let message = "the partitions of an assignment must be numbered from 0 without gaps";
                return Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
            }
            self.check_assignment(replicas, assignments.first().map(Vec::len))?;
            assignments.push(replicas.clone());
        }
        Ok(assignments)
    }

    fn check_assignment(&self, replicas: &[BrokerId], others: Option<usize>) -> Result<(), Refusal> {
        let refuse = |message: String| Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
        let distinct: BTreeSet<&BrokerId> = replicas.iter().collect();
        if replicas.is_empty() || distinct.len() != replicas.len() {
            return refuse(format!("{replicas:?} is no list of distinct brokers"));
        }
        if let Some(unknown) = replicas.iter().find(|broker| self.speculative.broker(**broker).is_none()) {
            return refuse(format!("broker {unknown} is not registered"));
        }
        match others {
            Some(others) if others != replicas.len() => {
                refuse(format!("{} replicas, while other partitions have {others}", replicas.len()))
            }
            _ => Ok(()),
        }
    }

    /// A new partition's record. Only live brokers are in sync from the start: a fenced one could be elected later
    /// without ever having seen the partition.
    fn new_partition(&self, topic: TopicId, index: i32, replicas: Vec<BrokerId>) -> Result<MetadataRecord, Refusal> {
        let isr: Vec<BrokerId> = replicas.iter().copied().filter(|r| self.speculative.is_active(*r)).collect();
        if isr.is_empty() {
            let message = format!("all brokers of {replicas:?} are fenced or about to stop");
            return Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
        }
        Ok(MetadataRecord::Partition(PartitionRecord {
            partition: index,
            topic,
            directories: replicas.iter().map(|replica| self.default_directory(*replica)).collect(),
            leader: isr.first().copied(),
            isr,
            replicas,
            removing: Vec::new(),
            adding: Vec::new(),
            recovery: LeaderRecoveryState::Recovered,
            leader_epoch: LeaderEpoch(0),
            partition_epoch: PartitionEpoch(0),
            elr: Vec::new(),
            last_known_elr: Vec::new(),
        }))
    }

    /// Where a broker will put a new replica, if there is only one choice.
    fn default_directory(&self, broker: BrokerId) -> DirectoryId {
        match self.speculative.broker(broker).map(|registration| registration.log_dirs.as_slice()) {
            Some([]) | None => MIGRATING_DIRECTORY,
            Some([only]) => *only,
            Some(_) => UNASSIGNED_DIRECTORY,
        }
    }

    pub(super) fn delete_topics(&self, config: &ControllerConfig, topics: Vec<TopicRef>) -> Result<Decision, Refusal> {
        if !config.delete_topics {
            return Err(Refusal::new(ErrorCode::TopicDeletionDisabled, "delete.topic.enable is false"));
        }
        let (mut records, mut deleted) = (Vec::new(), BTreeSet::new());
        let mut results = Vec::with_capacity(topics.len());
        for asked in topics {
            let (topic, unknown) = match &asked {
                TopicRef::Id(id) => (self.speculative.topic(*id), ErrorCode::UnknownTopicId),
                TopicRef::Name(name) => (self.speculative.topic_by_name(name), ErrorCode::UnknownTopicOrPartition),
            };
            let result = match topic {
                None => Err(Refusal::new(unknown, "no such topic")),
                Some(topic) if deleted.insert(topic.id) => {
                    records.push(MetadataRecord::RemoveTopic(RemoveTopicRecord { topic: topic.id }));
                    Ok((topic.id, topic.name.clone()))
                }
                Some(_) => Err(Refusal::new(ErrorCode::InvalidRequest, "the topic appears twice")),
            };
            results.push((asked, result));
        }
        check_batch_size(config, &records)?;
        Ok(Decision { records, response: ControllerResponse::DeleteTopics(results) })
    }

    pub(super) fn create_partitions(
        &self,
        config: &ControllerConfig,
        rng: &mut ChaCha8Rng,
        topics: &[NewPartitions],
        validate_only: bool,
    ) -> Result<Decision, Refusal> {
        let mut mentions: BTreeMap<&TopicName, usize> = BTreeMap::new();
        topics.iter().for_each(|topic| *mentions.entry(&topic.name).or_default() += 1);
        let (mut records, mut results) = (Vec::new(), Vec::with_capacity(topics.len()));
        for new in topics {
            let result = match (mentions[&new.name], self.speculative.topic_by_name(&new.name)) {
                (1, Some(topic)) => self.more_partitions(config, rng, topic, new),
                (1, None) => Err(Refusal::new(ErrorCode::UnknownTopicOrPartition, "no such topic")),
                _ => Err(Refusal::new(ErrorCode::InvalidRequest, "the topic appears twice")),
            };
            results.push((new.name.clone(), result.map(|new| records.extend(new))));
            check_batch_size(config, &records)?;
        }
        if validate_only {
            records.clear();
        }
        Ok(Decision { records, response: ControllerResponse::CreatePartitions(results) })
    }

    fn more_partitions(
        &self,
        config: &ControllerConfig,
        rng: &mut ChaCha8Rng,
        topic: &TopicImage,
        new: &NewPartitions,
    ) -> Result<Vec<MetadataRecord>, Refusal> {
        let present = topic.partitions.len() as i32;
        if new.count <= present {
            let message = format!("the topic has {present} partitions; {} would not be an increase", new.count);
            return Err(Refusal::new(ErrorCode::InvalidPartitions, message));
        }
        let added = new.count - present;
        check_partition_count(config, added)?;
        let replicas = topic.partitions.get(&0).map_or(1, |partition| partition.replicas.len());
        let assignments = match &new.assignments {
            Some(assignments) => {
                if assignments.len() as i64 != i64::from(added) {
                    let message = format!("{} assignments for {added} new partitions", assignments.len());
                    return Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
                }
                assignments.iter().try_for_each(|a| self.check_assignment(a, Some(replicas)))?;
                assignments.clone()
            }
            None => {
                let mut placer = Placer::new(&self.speculative, rng);
                (0..added).map(|_| placer.place(replicas as i16, rng)).collect::<Result<_, _>>()?
            }
        };
        (present..).zip(assignments).map(|(index, replicas)| self.new_partition(topic.id, index, replicas)).collect()
    }
}

/// Before placing anything, so that a request for two billion partitions costs nothing.
fn check_partition_count(config: &ControllerConfig, partitions: i32) -> Result<(), Refusal> {
    if usize::try_from(partitions).is_ok_and(|partitions| partitions < config.max_batch_records) {
        return Ok(());
    }
    let message = format!("{partitions} partitions are more than one request may create");
    Err(Refusal::new(ErrorCode::PolicyViolation, message))
}

/// Kafka's rule for topic names.
fn check_name(name: &TopicName) -> Result<(), Refusal> {
    let text = name.as_str();
    let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let why = match text {
        "" => "the empty string is no topic name".to_owned(),
        "." | ".." => format!("{text:?} is no topic name"),
        "__cluster_metadata" => "the metadata log is no topic".to_owned(),
        _ if text.len() > MAX_NAME_LENGTH => format!("the name has {} letters, more than 249", text.len()),
        _ if !text.chars().all(is_legal) => format!("{text:?} holds more than letters, digits, '.', '_' and '-'"),
        _ => return Ok(()),
    };
    Err(Refusal::new(ErrorCode::InvalidTopicException, why))
}

/// Names that differ only in '.' and '_' would share their metrics' names.
fn without_dots(name: &TopicName) -> String {
    name.as_str().replace('.', "_")
}

fn checked_configs(topic: &NewTopic) -> Result<Vec<Setting>, Refusal> {
    let mut configs: BTreeMap<Arc<str>, Arc<str>> = BTreeMap::new();
    for (key, value) in &topic.configs {
        let Some(value) = value else {
            return Err(Refusal::new(ErrorCode::InvalidConfig, format!("{key} has no value")));
        };
        check_value(ConfigResourceType::Topic, key, value)?;
        configs.insert(key.clone(), value.clone());
    }
    Ok(configs.into_iter().collect())
}

/// A random topic id. Low numbers mean something special to Kafka, and an id that starts with a hyphen looks like an
/// option on a command line.
fn draw_topic_id(rng: &mut ChaCha8Rng, is_taken: impl Fn(TopicId) -> bool) -> TopicId {
    const RESERVED: u128 = 100;
    const HYPHEN: u128 = 62;
    loop {
        let id = Uuid(u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64()));
        if id.0 > RESERVED && id.0 >> 122 != HYPHEN && !is_taken(id) {
            return id;
        }
    }
}
