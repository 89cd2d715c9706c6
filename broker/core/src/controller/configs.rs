//! Configuration values kept in the metadata log (KIP-226, KIP-339): what may be set, and what setting it sets off.
//!
//! Topic keys are known by name, type and range. A broker's own keys are judged by the broker that gets them, as in
//! Kafka, but for the few that the controller itself reads.

use super::partition_change::{Election, PartitionChange};
use super::{
    Active, AlterConfigs, ConfigOp, ControllerConfig, ControllerResponse, Decision, Refusal, check_batch_size,
};
use crate::metadata::MetadataImage;
use broker_types::{ErrorCode, TopicName};
use broker_wire::records::metadata::{ConfigRecord, ConfigResource, ConfigResourceType, MetadataRecord};
use std::collections::BTreeSet;
use std::sync::Arc;

pub(super) const UNCLEAN_LEADER_ELECTION: &str = "unclean.leader.election.enable";

/// Values a key may have.
#[derive(Clone, Copy, Debug)]
enum Allowed {
    Bool,
    /// A number of Kafka's type INT, at least and at most.
    Int(i32, i32),
    /// A number of Kafka's type LONG, at least.
    Long(i64),
    /// A decimal between 0 and 1.
    Ratio,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A list of these words.
    ListOf(&'static [&'static str]),
    /// A list of anything.
    AnyList,
}

use Allowed::{AnyList, Bool, Int, ListOf, Long, OneOf, Ratio};

/// Kafka 4.3's topic keys.
const TOPIC_KEYS: [(&str, Allowed); 34] = [
    ("cleanup.policy", ListOf(&["compact", "delete"])),
    ("compression.gzip.level", Int(-1, 9)),
    ("compression.lz4.level", Int(1, 17)),
    ("compression.type", OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"])),
    ("compression.zstd.level", Int(-131_072, 22)),
    ("delete.retention.ms", Long(0)),
    ("file.delete.delay.ms", Long(0)),
    ("flush.messages", Long(1)),
    ("flush.ms", Long(0)),
    ("follower.replication.throttled.replicas", AnyList),
    ("index.interval.bytes", Int(0, i32::MAX)),
    ("internal.segment.bytes", Int(0, i32::MAX)),
    ("leader.replication.throttled.replicas", AnyList),
    ("local.retention.bytes", Long(-2)),
    ("local.retention.ms", Long(-2)),
    ("max.compaction.lag.ms", Long(1)),
    ("max.message.bytes", Int(0, i32::MAX)),
    ("message.timestamp.after.max.ms", Long(0)),
    ("message.timestamp.before.max.ms", Long(0)),
    ("message.timestamp.type", OneOf(&["CreateTime", "LogAppendTime"])),
    ("min.cleanable.dirty.ratio", Ratio),
    ("min.compaction.lag.ms", Long(0)),
    ("min.insync.replicas", Int(1, i32::MAX)),
    ("preallocate", Bool),
    ("remote.log.copy.disable", Bool),
    ("remote.log.delete.on.disable", Bool),
    ("remote.storage.enable", Bool),
    ("retention.bytes", Long(i64::MIN)),
    ("retention.ms", Long(-1)),
    ("segment.bytes", Int(1_048_576, i32::MAX)),
    ("segment.index.bytes", Int(4, i32::MAX)),
    ("segment.jitter.ms", Long(0)),
    ("segment.ms", Long(1)),
    (UNCLEAN_LEADER_ELECTION, Bool),
];

/// Broker keys that decide what happens to topics.
const BROKER_KEYS: [(&str, Allowed); 2] = [("min.insync.replicas", Int(1, i32::MAX)), (UNCLEAN_LEADER_ELECTION, Bool)];

impl Allowed {
    fn check(self, value: &str) -> Result<(), String> {
        let value = value.trim();
        let elements = || value.split(',').map(str::trim).filter(|element| !element.is_empty());
        let (fits, wanted) = match self {
            Bool => (is_word(value, &["true", "false"]), "true or false".to_owned()),
            Int(least, most) => (
                value.parse().is_ok_and(|number: i32| (least..=most).contains(&number)),
                format!("a whole number from {least} to {most}"),
            ),
            Long(least) => {
                (value.parse().is_ok_and(|number: i64| number >= least), format!("a whole number of at least {least}"))
            }
            Ratio => (
                value.parse().is_ok_and(|number: f64| (0.0..=1.0).contains(&number)),
                "a decimal from 0 to 1".to_owned(),
            ),
            OneOf(words) => (words.contains(&value), format!("one of {}", words.join(", "))),
            ListOf(words) => {
                (elements().all(|element| words.contains(&element)), format!("a list of {}", words.join(", ")))
            }
            AnyList => (true, String::new()),
        };
        if fits { Ok(()) } else { Err(format!("{value:?} is not {wanted}")) }
    }

    fn is_list(self) -> bool {
        matches!(self, ListOf(_) | AnyList)
    }
}

fn is_word(value: &str, words: &[&str]) -> bool {
    words.iter().any(|word| value.eq_ignore_ascii_case(word))
}

fn allowed(kind: ConfigResourceType, key: &str) -> Option<Allowed> {
    let find = |keys: &[(&str, Allowed)]| keys.iter().find(|(name, _)| *name == key).map(|(_, allowed)| *allowed);
    match kind {
        ConfigResourceType::Topic => find(&TOPIC_KEYS),
        _ => find(&BROKER_KEYS),
    }
}

/// Refuses a key that a resource does not have, or a value the key cannot have.
pub(super) fn check_value(kind: ConfigResourceType, key: &str, value: &str) -> Result<(), Refusal> {
    let checked = match allowed(kind, key) {
        Some(allowed) => allowed.check(value),
        None if kind == ConfigResourceType::Topic => Err("unknown topic config name".to_owned()),
        None => Ok(()),
    };
    checked.map_err(|why| Refusal::new(ErrorCode::InvalidConfig, format!("{key}: {why}")))
}

impl Active {
    pub(super) fn alter_configs(
        &self,
        config: &ControllerConfig,
        resources: Vec<AlterConfigs>,
        validate_only: bool,
    ) -> Result<Decision, Refusal> {
        let mut records = Vec::new();
        let mut results = Vec::with_capacity(resources.len());
        let mut seen = BTreeSet::new();
        for AlterConfigs { resource, changes } in resources {
            let result = if seen.insert(resource.clone()) {
                self.config_records(&resource, &changes).map(|changed| records.extend(changed))
            } else {
                Err(Refusal::new(ErrorCode::InvalidRequest, "the resource appears twice"))
            };
            results.push((resource, result));
        }
        let may_unlock = records
            .iter()
            .any(|record| matches!(record, MetadataRecord::Config(r) if &*r.key == UNCLEAN_LEADER_ELECTION));
        if may_unlock {
            let elections = self.unclean_elections(config, &records);
            records.extend(elections);
        }
        if validate_only {
            records.clear();
        }
        check_batch_size(config, &records)?;
        Ok(Decision { records, response: ControllerResponse::IncrementalAlterConfigs(results) })
    }

    fn config_records(
        &self,
        resource: &ConfigResource,
        changes: &[(Arc<str>, ConfigOp)],
    ) -> Result<Vec<MetadataRecord>, Refusal> {
        self.check_resource(resource)?;
        let mut keys = BTreeSet::new();
        let mut records = Vec::new();
        for (key, change) in changes {
            if !keys.insert(key) {
                return Err(Refusal::new(ErrorCode::InvalidRequest, format!("{key} appears twice")));
            }
            let current = self.speculative.config(resource).and_then(|values| values.get(key)).cloned();
            let list = || match allowed(resource.kind, key).is_some_and(Allowed::is_list) {
                true => Ok(current.iter().flat_map(|list| list.split(',')).map(str::trim).filter(|e| !e.is_empty())),
                false => Err(Refusal::new(ErrorCode::InvalidConfig, format!("{key} is not a list"))),
            };
            let value: Option<Arc<str>> = match change {
                ConfigOp::Set(value) => Some(value.clone()),
                ConfigOp::Delete => None,
                ConfigOp::Append(more) => {
                    let mut elements: Vec<&str> = list()?.collect();
                    for element in more.split(',').map(str::trim) {
                        if !elements.contains(&element) {
                            elements.push(element);
                        }
                    }
                    Some(elements.join(",").into())
                }
                ConfigOp::Subtract(less) => {
                    let less: Vec<&str> = less.split(',').map(str::trim).collect();
                    let elements: Vec<&str> = list()?.filter(|element| !less.contains(element)).collect();
                    Some(elements.join(",").into())
                }
            };
            if let Some(value) = &value {
                check_value(resource.kind, key, value)?;
            }
            // What is set already is not set again.
            if value != current {
                let (resource, key) = (resource.clone(), key.clone());
                records.push(MetadataRecord::Config(ConfigRecord { resource, key, value }));
            }
        }
        Ok(records)
    }

    fn check_resource(&self, resource: &ConfigResource) -> Result<(), Refusal> {
        let name = &resource.name;
        let refuse = |error, message: &str| Err(Refusal::new(error, format!("{message}: {name:?}")));
        match resource.kind {
            ConfigResourceType::Topic if !self.speculative.topic_ids().contains_key(&TopicName(name.clone())) => {
                refuse(ErrorCode::UnknownTopicOrPartition, "no such topic")
            }
            ConfigResourceType::Broker if !name.is_empty() && name.parse::<u32>().is_err() => {
                refuse(ErrorCode::InvalidRequest, "not a broker id")
            }
            ConfigResourceType::BrokerLogger => {
                refuse(ErrorCode::InvalidRequest, "a logger belongs to its broker, not to the controller")
            }
            ConfigResourceType::Group | ConfigResourceType::ClientMetrics if name.is_empty() => {
                refuse(ErrorCode::InvalidRequest, "the resource has no name")
            }
            _ => Ok(()),
        }
    }

    /// Elections for leaderless partitions that `records` open for replicas outside of the ISR.
    fn unclean_elections(&self, config: &ControllerConfig, records: &[MetadataRecord]) -> Vec<MetadataRecord> {
        let mut image: MetadataImage = self.speculative.clone();
        for record in records {
            let at = image.end().offset;
            image.replay(record, at, self.epoch).expect("a configuration record fits any image");
        }
        let mut elections = Vec::new();
        for (id, partition) in image.partitions().filter(|(_, partition)| partition.leader.is_none()) {
            if super::partition_change::unclean_enabled(config, &image, id.topic) {
                let (target_isr, recovery) = (partition.isr.clone(), partition.recovery);
                let change = PartitionChange { id, partition, target_isr, recovery, election: Election::Unclean };
                elections.extend(change.build(&|r| image.is_active(r)).map(MetadataRecord::PartitionChange));
            }
        }
        elections
    }
}
