//! The records of `__cluster_metadata`, byte for byte Kafka's (KIP-500, KIP-746).
//!
//! A record's value is a frame: frame version 1, the record's api key and its version, each an unsigned varint, then
//! the message in Kafka's flexible encoding. We write the versions that Kafka 4.3 writes at its own metadata.version
//! (level 30), and read all that it reads. Access control, quota, SCRAM and token records are not ours yet: a log
//! that holds one is refused, because a controller that skipped a record would lead with a hole (KAFKA-14275).

mod primitives;
#[cfg(test)]
mod tests;

use broker_types::{
    BrokerEpoch, BrokerId, DirectoryId, LeaderEpoch, NodeId, PartitionEpoch, ProducerId, TopicId, TopicName, Uuid,
};
use bytes::{BufMut, Bytes, BytesMut};
use primitives::{Reader, Tagged, Write};
use std::fmt;
use std::sync::Arc;

/// The name of the feature whose level says which records the log may hold.
pub const METADATA_VERSION: &str = "metadata.version";

/// One record of the metadata log.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs)]
pub enum MetadataRecord {
    RegisterBroker(RegisterBrokerRecord),
    UnregisterBroker(UnregisterBrokerRecord),
    Topic(TopicRecord),
    Partition(PartitionRecord),
    Config(ConfigRecord),
    PartitionChange(PartitionChangeRecord),
    RemoveTopic(RemoveTopicRecord),
    FeatureLevel(FeatureLevelRecord),
    ProducerIds(ProducerIdsRecord),
    BrokerRegistrationChange(BrokerRegistrationChangeRecord),
    NoOp,
    BeginTransaction { name: Option<Arc<str>> },
    EndTransaction,
    AbortTransaction { reason: Option<Arc<str>> },
    RegisterController(RegisterControllerRecord),
}

/// A broker's process asked to join the cluster. Replaces any registration of the same id.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RegisterBrokerRecord {
    /// The broker.
    pub broker: BrokerId,
    /// Drawn by the process at its start.
    pub incarnation: Uuid,
    /// Names this registration; the offset of its first record.
    pub broker_epoch: BrokerEpoch,
    /// Where it is reached.
    pub endpoints: Vec<Endpoint>,
    /// What it can run.
    pub features: Vec<SupportedFeature>,
    /// Its rack.
    pub rack: Option<Arc<str>>,
    /// Whether it begins fenced; a new incarnation does.
    pub fenced: bool,
    /// Whether it is about to stop.
    pub in_controlled_shutdown: bool,
    /// Its online log directories (KIP-858).
    pub log_dirs: Vec<DirectoryId>,
    /// Log directories that take no new replicas (KIP-1066); `None` until the broker said so.
    pub cordoned_log_dirs: Option<Vec<DirectoryId>>,
}

/// One listener of a node.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Endpoint {
    /// The listener's name.
    pub name: Arc<str>,
    /// Host name or address.
    pub host: Arc<str>,
    /// TCP port.
    pub port: u16,
    /// Kafka's number of the security protocol: 0 plaintext, 1 SSL, 2 SASL plaintext, 3 SASL SSL.
    pub security_protocol: i16,
}

/// The levels of one feature that a node can run.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct SupportedFeature {
    /// The feature.
    pub name: Arc<str>,
    /// Lowest level, inclusive.
    pub min: i16,
    /// Highest level, inclusive.
    pub max: i16,
}

/// A broker left for good.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct UnregisterBrokerRecord {
    /// The broker.
    pub broker: BrokerId,
    /// The registration that ends.
    pub broker_epoch: BrokerEpoch,
}

/// A topic was created.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct TopicRecord {
    /// Its name.
    pub name: TopicName,
    /// Its id.
    pub id: TopicId,
}

/// The state of a partition whose leader may have been elected uncleanly (KIP-704).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum LeaderRecoveryState {
    /// The leader holds everything acknowledged, or has got over what was lost.
    #[default]
    Recovered,
    /// The leader was elected uncleanly and has not got over it.
    Recovering,
}

/// A partition, whole.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PartitionRecord {
    /// Index in the topic.
    pub partition: i32,
    /// The topic.
    pub topic: TopicId,
    /// The replicas, preferred leader first.
    pub replicas: Vec<BrokerId>,
    /// Those in sync.
    pub isr: Vec<BrokerId>,
    /// Replicas that a reassignment takes away.
    pub removing: Vec<BrokerId>,
    /// Replicas that a reassignment brings.
    pub adding: Vec<BrokerId>,
    /// The leader; `None` when nobody leads.
    pub leader: Option<BrokerId>,
    /// Whether the leader recovers from an unclean election.
    pub recovery: LeaderRecoveryState,
    /// The leader's term.
    pub leader_epoch: LeaderEpoch,
    /// Counts the changes.
    pub partition_epoch: PartitionEpoch,
    /// The log directory of each replica, in the order of `replicas`; empty before version 1.
    pub directories: Vec<DirectoryId>,
    /// Eligible leader replicas (KIP-966); empty is written as null.
    pub elr: Vec<BrokerId>,
    /// The last known eligible leader replicas (KIP-966); empty is written as null.
    pub last_known_elr: Vec<BrokerId>,
}

/// What kind of thing is configured.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(i8)]
#[allow(missing_docs)]
pub enum ConfigResourceType {
    Topic = 2,
    Broker = 4,
    BrokerLogger = 8,
    ClientMetrics = 16,
    Group = 32,
}

/// What is configured: a topic by name, a broker by its id in digits, or all brokers by the empty name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConfigResource {
    /// Its kind.
    pub kind: ConfigResourceType,
    /// Its name.
    pub name: Arc<str>,
}

/// A configuration value was set or taken back.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ConfigRecord {
    /// Whose.
    pub resource: ConfigResource,
    /// The key.
    pub key: Arc<str>,
    /// The value; `None` takes it back.
    pub value: Option<Arc<str>>,
}

/// Parts of a partition that changed; what is `None` did not. Adds one to the partition epoch.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PartitionChangeRecord {
    /// Index in the topic.
    pub partition: i32,
    /// The topic.
    pub topic: TopicId,
    /// The new ISR.
    pub isr: Option<Vec<BrokerId>>,
    /// The new leader, `Some(None)` for nobody. Setting it, even to the same one, adds one to the leader epoch.
    pub leader: Option<Option<BrokerId>>,
    /// The new replicas.
    pub replicas: Option<Vec<BrokerId>>,
    /// The new list of replicas being removed.
    pub removing: Option<Vec<BrokerId>>,
    /// The new list of replicas being added.
    pub adding: Option<Vec<BrokerId>>,
    /// The new recovery state.
    pub recovery: Option<LeaderRecoveryState>,
    /// The new directories, in the order of the replicas.
    pub directories: Option<Vec<DirectoryId>>,
    /// The new eligible leader replicas.
    pub elr: Option<Vec<BrokerId>>,
    /// The new last known eligible leader replicas.
    pub last_known_elr: Option<Vec<BrokerId>>,
}

impl PartitionChangeRecord {
    /// A record that changes nothing yet.
    #[must_use]
    pub fn new(topic: TopicId, partition: i32) -> Self {
        PartitionChangeRecord {
            partition,
            topic,
            isr: None,
            leader: None,
            replicas: None,
            removing: None,
            adding: None,
            recovery: None,
            directories: None,
            elr: None,
            last_known_elr: None,
        }
    }

    /// Whether it changes nothing; such a record is never written.
    #[must_use]
    pub fn is_no_op(&self) -> bool {
        *self == PartitionChangeRecord::new(self.topic, self.partition)
    }
}

/// A topic was deleted, with its partitions and its configuration.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RemoveTopicRecord {
    /// Which.
    pub topic: TopicId,
}

/// A feature's level was finalised (KIP-584). The first record of each log names metadata.version.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct FeatureLevelRecord {
    /// The feature.
    pub name: Arc<str>,
    /// Its level; 0 takes it away.
    pub level: i16,
}

/// A block of producer ids was given away (KIP-730).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ProducerIdsRecord {
    /// To this broker; `None` in a snapshot, where it no longer matters.
    pub broker: Option<BrokerId>,
    /// In its registration of this epoch; `None` in a snapshot.
    pub broker_epoch: Option<BrokerEpoch>,
    /// First id of the *next* block: the given one ends before it.
    pub next: ProducerId,
}

/// A broker was fenced or unfenced, began to stop, or its directories changed.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct BrokerRegistrationChangeRecord {
    /// The broker.
    pub broker: BrokerId,
    /// Its current epoch.
    pub broker_epoch: BrokerEpoch,
    /// Fenced or unfenced; `None` for no change.
    pub fenced: Option<bool>,
    /// It begins a controlled shutdown; `false` for no change.
    pub in_controlled_shutdown: bool,
    /// Its online log directories; empty for no change.
    pub log_dirs: Vec<DirectoryId>,
    /// Its cordoned log directories; `None` for no change.
    pub cordoned_log_dirs: Option<Vec<DirectoryId>>,
}

impl BrokerRegistrationChangeRecord {
    /// A record that changes nothing yet.
    #[must_use]
    pub fn new(broker: BrokerId, broker_epoch: BrokerEpoch) -> Self {
        BrokerRegistrationChangeRecord {
            broker,
            broker_epoch,
            fenced: None,
            in_controlled_shutdown: false,
            log_dirs: Vec::new(),
            cordoned_log_dirs: None,
        }
    }
}

/// A controller's endpoints (KIP-919). Replaces any registration of the same id.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RegisterControllerRecord {
    /// The controller.
    pub controller: NodeId,
    /// Drawn by the process at its start.
    pub incarnation: Uuid,
    /// Where it is reached.
    pub endpoints: Vec<Endpoint>,
    /// What it can run.
    pub features: Vec<SupportedFeature>,
}

/// Why bytes are no metadata record of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RecordError {
    /// The bytes end too early.
    #[error("the record ends after {have} bytes, inside a field that needs {need} more")]
    Truncated {
        /// Bytes in the whole value.
        have: usize,
        /// Bytes that are missing.
        need: usize,
    },
    /// Bytes are left over.
    #[error("{left} bytes follow the record")]
    TrailingBytes {
        /// How many.
        left: usize,
    },
    /// The frame version is not 1.
    #[error("frame version {0} is not 1")]
    FrameVersion(u32),
    /// No record of ours has this api key.
    #[error("unknown metadata record type {0}")]
    UnknownType(u32),
    /// The record type has no such version.
    #[error("metadata record type {key} has no version {version}")]
    UnknownVersion {
        /// The api key.
        key: u32,
        /// The version.
        version: u32,
    },
    /// A field holds what it may not.
    #[error("field {0} holds an impossible value")]
    InvalidField(&'static str),
}

const FRAME_VERSION: u32 = 1;

impl MetadataRecord {
    /// Kafka's api key of the record's type and the version we write.
    #[must_use]
    pub fn key_and_version(&self) -> (u32, u32) {
        match self {
            MetadataRecord::RegisterBroker(_) => (0, 4),
            MetadataRecord::UnregisterBroker(_) => (1, 0),
            MetadataRecord::Topic(_) => (2, 0),
            MetadataRecord::Partition(_) => (3, 2),
            MetadataRecord::Config(_) => (4, 0),
            MetadataRecord::PartitionChange(_) => (5, 2),
            MetadataRecord::RemoveTopic(_) => (9, 0),
            MetadataRecord::FeatureLevel(_) => (12, 0),
            MetadataRecord::ProducerIds(_) => (15, 0),
            // Kafka writes the lowest version that holds the change.
            MetadataRecord::BrokerRegistrationChange(r) if r.cordoned_log_dirs.is_some() => (17, 3),
            MetadataRecord::BrokerRegistrationChange(r) if !r.log_dirs.is_empty() => (17, 2),
            MetadataRecord::BrokerRegistrationChange(r) => (17, u32::from(r.in_controlled_shutdown)),
            MetadataRecord::NoOp => (20, 0),
            MetadataRecord::BeginTransaction { .. } => (23, 0),
            MetadataRecord::EndTransaction => (24, 0),
            MetadataRecord::AbortTransaction { .. } => (25, 0),
            MetadataRecord::RegisterController(_) => (27, 0),
        }
    }

    /// Appends the record's frame, the value of one log record.
    pub fn encode(&self, out: &mut BytesMut) {
        let (key, version) = self.key_and_version();
        out.varint(FRAME_VERSION);
        out.varint(key);
        out.varint(version);
        let mut tags = Tagged::default();
        match self {
            MetadataRecord::RegisterBroker(r) => r.encode(out, &mut tags),
            MetadataRecord::UnregisterBroker(r) => {
                out.node(r.broker);
                out.put_i64(r.broker_epoch.0);
            }
            MetadataRecord::Topic(r) => {
                out.string(r.name.as_str());
                out.uuid(r.id);
            }
            MetadataRecord::Partition(r) => r.encode(out, &mut tags),
            MetadataRecord::Config(r) => {
                out.put_i8(r.resource.kind as i8);
                out.string(&r.resource.name);
                out.string(&r.key);
                out.nullable_string(r.value.as_deref());
            }
            MetadataRecord::PartitionChange(r) => r.encode(out, &mut tags),
            MetadataRecord::RemoveTopic(r) => out.uuid(r.topic),
            MetadataRecord::FeatureLevel(r) => {
                out.string(&r.name);
                out.put_i16(r.level);
            }
            MetadataRecord::ProducerIds(r) => {
                out.put_i32(r.broker.map_or(-1, |broker| broker.0));
                out.put_i64(r.broker_epoch.map_or(-1, |epoch| epoch.0));
                out.put_i64(r.next.0);
            }
            MetadataRecord::BrokerRegistrationChange(r) => r.encode(out, &mut tags),
            MetadataRecord::NoOp | MetadataRecord::EndTransaction => {}
            MetadataRecord::BeginTransaction { name: text } | MetadataRecord::AbortTransaction { reason: text } => {
                if let Some(text) = text {
                    tags.add(0, |b| b.string(text));
                }
            }
            MetadataRecord::RegisterController(r) => {
                out.node(r.controller);
                out.uuid(r.incarnation);
                out.put_u8(0); // ready for a migration from ZooKeeper: never
                encode_endpoints(out, &r.endpoints);
                encode_features(out, &r.features);
            }
        }
        tags.finish(out);
    }

    /// Reads one record's frame. The whole value must be one record.
    ///
    /// # Errors
    ///
    /// Whatever is not Kafka's encoding of a record we hold; see [`RecordError`].
    pub fn decode(value: &Bytes) -> Result<MetadataRecord, RecordError> {
        let mut reader = Reader::new(value);
        let frame = reader.varint()?;
        if frame != FRAME_VERSION {
            return Err(RecordError::FrameVersion(frame));
        }
        let (key, version) = (reader.varint()?, reader.varint()?);
        let highest = match key {
            0 => 4,
            3 | 5 => 2,
            17 => 3,
            1 | 2 | 4 | 9 | 12 | 15 | 20 | 23 | 24 | 25 | 27 => 0,
            other => return Err(RecordError::UnknownType(other)),
        };
        if version > highest {
            return Err(RecordError::UnknownVersion { key, version });
        }
        let record = decode_body(&mut reader, key, version)?;
        match reader.left() {
            0 => Ok(record),
            left => Err(RecordError::TrailingBytes { left }),
        }
    }
}

fn decode_body(r: &mut Reader<'_>, key: u32, version: u32) -> Result<MetadataRecord, RecordError> {
    Ok(match key {
        0 => MetadataRecord::RegisterBroker(RegisterBrokerRecord::decode(r, version)?),
        1 => {
            let record = UnregisterBrokerRecord { broker: r.node("BrokerId")?, broker_epoch: BrokerEpoch(r.i64()?) };
            r.no_tags()?;
            MetadataRecord::UnregisterBroker(record)
        }
        2 => {
            let record = TopicRecord { name: TopicName(r.string("Name")?), id: r.uuid()? };
            r.no_tags()?;
            MetadataRecord::Topic(record)
        }
        3 => MetadataRecord::Partition(PartitionRecord::decode(r, version)?),
        4 => {
            let kind = ConfigResourceType::from_code(r.i8()?).ok_or(RecordError::InvalidField("ResourceType"))?;
            let resource = ConfigResource { kind, name: r.string("ResourceName")? };
            let record = ConfigRecord { resource, key: r.string("Name")?, value: r.nullable_string()? };
            r.no_tags()?;
            MetadataRecord::Config(record)
        }
        5 => MetadataRecord::PartitionChange(PartitionChangeRecord::decode(r, version)?),
        9 => {
            let record = RemoveTopicRecord { topic: r.uuid()? };
            r.no_tags()?;
            MetadataRecord::RemoveTopic(record)
        }
        12 => {
            let record = FeatureLevelRecord { name: r.string("Name")?, level: r.i16()? };
            r.no_tags()?;
            MetadataRecord::FeatureLevel(record)
        }
        15 => {
            let broker = r.nullable_node("BrokerId")?;
            let broker_epoch = Some(r.i64()?).filter(|epoch| *epoch >= 0).map(BrokerEpoch);
            let next = r.i64()?;
            if next < 0 {
                return Err(RecordError::InvalidField("NextProducerId"));
            }
            r.no_tags()?;
            MetadataRecord::ProducerIds(ProducerIdsRecord { broker, broker_epoch, next: ProducerId(next) })
        }
        17 => MetadataRecord::BrokerRegistrationChange(BrokerRegistrationChangeRecord::decode(r, version)?),
        20 => {
            r.no_tags()?;
            MetadataRecord::NoOp
        }
        23 | 25 => {
            let mut text = None;
            r.tags(|tag, r| {
                if tag == 0 {
                    text = r.nullable_string()?;
                }
                Ok(tag == 0)
            })?;
            match key {
                23 => MetadataRecord::BeginTransaction { name: text },
                _ => MetadataRecord::AbortTransaction { reason: text },
            }
        }
        24 => {
            r.no_tags()?;
            MetadataRecord::EndTransaction
        }
        _ => {
            let (controller, incarnation) = (r.node("ControllerId")?, r.uuid()?);
            let _zk_migration_ready = r.bool()?;
            let (endpoints, features) = (decode_endpoints(r)?, decode_features(r)?);
            r.no_tags()?;
            MetadataRecord::RegisterController(RegisterControllerRecord {
                controller,
                incarnation,
                endpoints,
                features,
            })
        }
    })
}

impl RegisterBrokerRecord {
    fn encode(&self, out: &mut BytesMut, tags: &mut Tagged) {
        out.node(self.broker);
        out.put_u8(0); // migrating from ZooKeeper: never
        out.uuid(self.incarnation);
        out.put_i64(self.broker_epoch.0);
        encode_endpoints(out, &self.endpoints);
        encode_features(out, &self.features);
        out.nullable_string(self.rack.as_deref());
        out.put_u8(u8::from(self.fenced));
        out.put_u8(u8::from(self.in_controlled_shutdown));
        if !self.log_dirs.is_empty() {
            tags.add(0, |b| b.uuids(&self.log_dirs));
        }
        if let Some(dirs) = &self.cordoned_log_dirs {
            tags.add(1, |b| b.uuids(dirs));
        }
    }

    fn decode(r: &mut Reader<'_>, version: u32) -> Result<Self, RecordError> {
        let broker = r.node("BrokerId")?;
        if version >= 2 {
            r.bool()?;
        }
        let (incarnation, broker_epoch) = (r.uuid()?, BrokerEpoch(r.i64()?));
        let (endpoints, features) = (decode_endpoints(r)?, decode_features(r)?);
        let (rack, fenced) = (r.nullable_string()?, r.bool()?);
        let in_controlled_shutdown = version >= 1 && r.bool()?;
        let (mut log_dirs, mut cordoned_log_dirs) = (Vec::new(), None);
        r.tags(|tag, r| {
            match tag {
                0 if version >= 3 => log_dirs = r.uuids()?.ok_or(RecordError::InvalidField("LogDirs"))?,
                1 if version >= 4 => cordoned_log_dirs = r.uuids()?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(RegisterBrokerRecord {
            broker,
            incarnation,
            broker_epoch,
            endpoints,
            features,
            rack,
            fenced,
            in_controlled_shutdown,
            log_dirs,
            cordoned_log_dirs,
        })
    }
}

impl PartitionRecord {
    fn encode(&self, out: &mut BytesMut, tags: &mut Tagged) {
        out.put_i32(self.partition);
        out.uuid(self.topic);
        out.nodes(&self.replicas);
        out.nodes(&self.isr);
        out.nodes(&self.removing);
        out.nodes(&self.adding);
        out.put_i32(self.leader.map_or(-1, |leader| leader.0));
        out.put_i32(self.leader_epoch.0);
        out.put_i32(self.partition_epoch.0);
        out.uuids(&self.directories);
        if self.recovery != LeaderRecoveryState::Recovered {
            tags.add(0, |b| b.put_i8(self.recovery.code()));
        }
        if !self.elr.is_empty() {
            tags.add(1, |b| b.nodes(&self.elr));
        }
        if !self.last_known_elr.is_empty() {
            tags.add(2, |b| b.nodes(&self.last_known_elr));
        }
    }

    fn decode(r: &mut Reader<'_>, version: u32) -> Result<Self, RecordError> {
        let (partition, topic) = (r.index("PartitionId")?, r.uuid()?);
        let (replicas, isr) = (r.some_nodes("Replicas")?, r.some_nodes("Isr")?);
        let (removing, adding) = (r.some_nodes("RemovingReplicas")?, r.some_nodes("AddingReplicas")?);
        let leader = r.nullable_node("Leader")?;
        let leader_epoch = LeaderEpoch(r.index("LeaderEpoch")?);
        let partition_epoch = PartitionEpoch(r.index("PartitionEpoch")?);
        let directories = match version {
            0 => Vec::new(),
            _ => r.uuids()?.ok_or(RecordError::InvalidField("Directories"))?,
        };
        let (mut recovery, mut elr, mut last_known_elr) = (LeaderRecoveryState::Recovered, None, None);
        r.tags(|tag, r| {
            match tag {
                0 => recovery = LeaderRecoveryState::from_code(r.i8()?)?,
                1 if version >= 2 => elr = r.nodes("EligibleLeaderReplicas")?,
                2 if version >= 2 => last_known_elr = r.nodes("LastKnownElr")?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(PartitionRecord {
            partition,
            topic,
            replicas,
            isr,
            removing,
            adding,
            leader,
            recovery,
            leader_epoch,
            partition_epoch,
            directories,
            elr: elr.unwrap_or_default(),
            last_known_elr: last_known_elr.unwrap_or_default(),
        })
    }
}

impl PartitionChangeRecord {
    fn encode(&self, out: &mut BytesMut, tags: &mut Tagged) {
        out.put_i32(self.partition);
        out.uuid(self.topic);
        let mut nodes = |tag, list: &Option<Vec<BrokerId>>| {
            if let Some(list) = list {
                tags.add(tag, |b| b.nodes(list));
            }
        };
        nodes(0, &self.isr);
        nodes(2, &self.replicas);
        nodes(3, &self.removing);
        nodes(4, &self.adding);
        nodes(6, &self.elr);
        nodes(7, &self.last_known_elr);
        if let Some(leader) = self.leader {
            tags.add(1, |b| b.put_i32(leader.map_or(-1, |leader| leader.0)));
        }
        if let Some(recovery) = self.recovery {
            tags.add(5, |b| b.put_i8(recovery.code()));
        }
        if let Some(directories) = &self.directories {
            tags.add(8, |b| b.uuids(directories));
        }
    }

    fn decode(r: &mut Reader<'_>, version: u32) -> Result<Self, RecordError> {
        let partition = r.index("PartitionId")?;
        let mut change = PartitionChangeRecord::new(r.uuid()?, partition);
        r.tags(|tag, r| {
            match tag {
                0 => change.isr = r.nodes("Isr")?,
                1 => {
                    change.leader = match r.i32()? {
                        -2 => None,
                        -1 => Some(None),
                        id if id >= 0 => Some(Some(NodeId(id))),
                        _ => return Err(RecordError::InvalidField("Leader")),
                    }
                }
                2 => change.replicas = r.nodes("Replicas")?,
                3 => change.removing = r.nodes("RemovingReplicas")?,
                4 => change.adding = r.nodes("AddingReplicas")?,
                5 => {
                    change.recovery = match r.i8()? {
                        -1 => None,
                        code => Some(LeaderRecoveryState::from_code(code)?),
                    }
                }
                6 if version >= 2 => change.elr = r.nodes("EligibleLeaderReplicas")?,
                7 if version >= 2 => change.last_known_elr = r.nodes("LastKnownElr")?,
                8 if version >= 1 => change.directories = r.uuids()?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(change)
    }
}

impl BrokerRegistrationChangeRecord {
    fn encode(&self, out: &mut BytesMut, tags: &mut Tagged) {
        out.node(self.broker);
        out.put_i64(self.broker_epoch.0);
        if let Some(fenced) = self.fenced {
            tags.add(0, |b| b.put_i8(if fenced { 1 } else { -1 }));
        }
        if self.in_controlled_shutdown {
            tags.add(1, |b| b.put_i8(1));
        }
        if !self.log_dirs.is_empty() {
            tags.add(2, |b| b.uuids(&self.log_dirs));
        }
        if let Some(dirs) = &self.cordoned_log_dirs {
            tags.add(3, |b| b.uuids(dirs));
        }
    }

    fn decode(r: &mut Reader<'_>, version: u32) -> Result<Self, RecordError> {
        let broker = r.node("BrokerId")?;
        let mut change = BrokerRegistrationChangeRecord::new(broker, BrokerEpoch(r.i64()?));
        r.tags(|tag, r| {
            match tag {
                0 => {
                    change.fenced = match r.i8()? {
                        -1 => Some(false),
                        0 => None,
                        1 => Some(true),
                        _ => return Err(RecordError::InvalidField("Fenced")),
                    }
                }
                1 if version >= 1 => {
                    change.in_controlled_shutdown = match r.i8()? {
                        0 => false,
                        1 => true,
                        _ => return Err(RecordError::InvalidField("InControlledShutdown")),
                    }
                }
                2 if version >= 2 => change.log_dirs = r.uuids()?.ok_or(RecordError::InvalidField("LogDirs"))?,
                3 if version >= 3 => change.cordoned_log_dirs = r.uuids()?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(change)
    }
}

fn encode_endpoints(out: &mut BytesMut, endpoints: &[Endpoint]) {
    out.length(endpoints.len());
    for endpoint in endpoints {
        out.string(&endpoint.name);
        out.string(&endpoint.host);
        out.put_u16(endpoint.port);
        out.put_i16(endpoint.security_protocol);
        out.varint(0);
    }
}

fn decode_endpoints(r: &mut Reader<'_>) -> Result<Vec<Endpoint>, RecordError> {
    // Two strings, a port, a protocol and the tags: at least seven bytes each.
    r.array(7, |r| {
        let (name, host) = (r.string("EndPoints.Name")?, r.string("EndPoints.Host")?);
        let endpoint = Endpoint { name, host, port: r.u16()?, security_protocol: r.i16()? };
        r.no_tags()?;
        Ok(endpoint)
    })?
    .ok_or(RecordError::InvalidField("EndPoints"))
}

fn encode_features(out: &mut BytesMut, features: &[SupportedFeature]) {
    out.length(features.len());
    for feature in features {
        out.string(&feature.name);
        out.put_i16(feature.min);
        out.put_i16(feature.max);
        out.varint(0);
    }
}

fn decode_features(r: &mut Reader<'_>) -> Result<Vec<SupportedFeature>, RecordError> {
    r.array(6, |r| {
        let feature = SupportedFeature { name: r.string("Features.Name")?, min: r.i16()?, max: r.i16()? };
        r.no_tags()?;
        Ok(feature)
    })?
    .ok_or(RecordError::InvalidField("Features"))
}

impl LeaderRecoveryState {
    /// Kafka's number.
    #[must_use]
    pub fn code(self) -> i8 {
        match self {
            LeaderRecoveryState::Recovered => 0,
            LeaderRecoveryState::Recovering => 1,
        }
    }

    fn from_code(code: i8) -> Result<Self, RecordError> {
        match code {
            0 => Ok(LeaderRecoveryState::Recovered),
            1 => Ok(LeaderRecoveryState::Recovering),
            _ => Err(RecordError::InvalidField("LeaderRecoveryState")),
        }
    }
}

impl ConfigResourceType {
    /// The kind with this number on the wire.
    #[must_use]
    pub fn from_code(code: i8) -> Option<Self> {
        Some(match code {
            2 => ConfigResourceType::Topic,
            4 => ConfigResourceType::Broker,
            8 => ConfigResourceType::BrokerLogger,
            16 => ConfigResourceType::ClientMetrics,
            32 => ConfigResourceType::Group,
            _ => return None,
        })
    }
}

impl ConfigResource {
    /// A topic's configuration.
    #[must_use]
    pub fn topic(name: &TopicName) -> Self {
        ConfigResource { kind: ConfigResourceType::Topic, name: name.0.clone() }
    }

    /// One broker's configuration.
    #[must_use]
    pub fn broker(broker: BrokerId) -> Self {
        ConfigResource { kind: ConfigResourceType::Broker, name: broker.to_string().into() }
    }

    /// What all brokers share, unless they have their own.
    #[must_use]
    pub fn all_brokers() -> Self {
        ConfigResource { kind: ConfigResourceType::Broker, name: "".into() }
    }
}

impl fmt::Display for ConfigResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}", self.kind, &*self.name)
    }
}
