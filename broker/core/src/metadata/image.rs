//! The state that the metadata log describes, and the one way to change it: [`MetadataImage::replay`].
//!
//! Active controller, standby, broker and snapshot all use this very function, so equal prefixes give equal images
//! (W-K6). A record that does not fit is an error and never skipped: a node that went on would decide, or serve,
//! from a state that no one else has (KAFKA-14275).

use broker_types::{
    BrokerEpoch, BrokerId, DirectoryId, LeaderEpoch, NodeId, Offset, OffsetAndEpoch, PartitionEpoch, ProducerId,
    TopicId, TopicIdPartition, TopicName, Uuid,
};
use broker_wire::records::metadata::{
    BrokerRegistrationChangeRecord, ConfigRecord, ConfigResource, Endpoint, FeatureLevelRecord, LeaderRecoveryState,
    METADATA_VERSION, MetadataRecord, PartitionChangeRecord, PartitionRecord, ProducerIdsRecord, RegisterBrokerRecord,
    RegisterControllerRecord, SupportedFeature, TopicRecord,
};
use imbl::OrdMap;
use std::sync::Arc;

/// The directory of a replica that its broker has not placed yet (KIP-858).
pub const UNASSIGNED_DIRECTORY: DirectoryId = Uuid::ZERO;

/// The cluster after a prefix of the metadata log.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct MetadataImage {
    /// End of the prefix, exclusive, and the epoch of its last record. Never goes back.
    end: OffsetAndEpoch,
    /// Finalised level of each feature; a feature at level 0 is absent.
    features: OrdMap<Arc<str>, i16>,
    brokers: OrdMap<BrokerId, Arc<BrokerRegistration>>,
    controllers: OrdMap<NodeId, Arc<ControllerRegistration>>,
    topics: OrdMap<TopicId, Arc<TopicImage>>,
    /// Names point at ids of `topics`, one to one.
    topics_by_name: OrdMap<TopicName, TopicId>,
    /// No resource is present without a value; a topic's go when it is deleted.
    configs: OrdMap<ConfigResource, OrdMap<Arc<str>, Arc<str>>>,
    /// First producer id that was given to nobody. Never goes back (KIP-730).
    next_producer_id: ProducerId,
    /// The image before a metadata transaction that is still open (KIP-868).
    before_transaction: Option<Arc<MetadataImage>>,
}

/// One broker's registration.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct BrokerRegistration {
    /// The broker.
    pub broker: BrokerId,
    /// Names the registration. Grows with each incarnation of the same broker (W-R22).
    pub epoch: BrokerEpoch,
    /// Which process it is.
    pub incarnation: Uuid,
    /// Where it is reached.
    pub endpoints: Vec<Endpoint>,
    /// What it can run.
    pub features: Vec<SupportedFeature>,
    /// Its rack.
    pub rack: Option<Arc<str>>,
    /// No partition may count on it: it leads nothing, and is in an ISR only as its last member (W-R5).
    pub fenced: bool,
    /// It is about to stop: it gets no new leadership and joins no ISR (KIP-841). Ends with fencing's next incarnation.
    pub in_controlled_shutdown: bool,
    /// Its online log directories.
    pub log_dirs: Vec<DirectoryId>,
    /// Directories that take no new replicas; `None` until it said so.
    pub cordoned_log_dirs: Option<Vec<DirectoryId>>,
}

impl BrokerRegistration {
    /// Neither fenced nor about to stop: it may lead and join ISRs.
    #[must_use]
    pub fn is_active(&self) -> bool {
        !self.fenced && !self.in_controlled_shutdown
    }
}

/// One controller's registration (KIP-919).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ControllerRegistration {
    /// The controller.
    pub controller: NodeId,
    /// Which process it is.
    pub incarnation: Uuid,
    /// Where it is reached.
    pub endpoints: Vec<Endpoint>,
    /// What it can run.
    pub features: Vec<SupportedFeature>,
}

/// One topic.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct TopicImage {
    /// Its id.
    pub id: TopicId,
    /// Its name.
    pub name: TopicName,
    /// Its partitions by index, without gaps.
    pub partitions: OrdMap<i32, Arc<PartitionRegistration>>,
}

/// One partition.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PartitionRegistration {
    /// All replicas, preferred leader first. Never empty, no broker twice.
    pub replicas: Vec<BrokerId>,
    /// The log directory of each replica, in the order of `replicas`; empty when the log never said.
    pub directories: Vec<DirectoryId>,
    /// In-sync replicas: part of `replicas`, never empty (without eligible leader replicas the last member stays).
    pub isr: Vec<BrokerId>,
    /// Replicas that a reassignment takes away.
    pub removing: Vec<BrokerId>,
    /// Replicas that a reassignment brings.
    pub adding: Vec<BrokerId>,
    /// Eligible leader replicas (KIP-966); no member of the ISR.
    pub elr: Vec<BrokerId>,
    /// Last known eligible leader replicas (KIP-966).
    pub last_known_elr: Vec<BrokerId>,
    /// The leader, a member of the ISR (W-R3); `None` when nobody leads.
    pub leader: Option<BrokerId>,
    /// Whether the leader still recovers from an unclean election (KIP-704).
    pub recovery: LeaderRecoveryState,
    /// Grows by one with each record that sets the leader, even to the same one (W-R2).
    pub leader_epoch: LeaderEpoch,
    /// Grows by one with each change (W-R2).
    pub partition_epoch: PartitionEpoch,
}

impl PartitionRegistration {
    fn from_record(record: &PartitionRecord) -> Self {
        PartitionRegistration {
            replicas: record.replicas.clone(),
            directories: record.directories.clone(),
            isr: record.isr.clone(),
            removing: record.removing.clone(),
            adding: record.adding.clone(),
            elr: record.elr.clone(),
            last_known_elr: record.last_known_elr.clone(),
            leader: record.leader,
            recovery: record.recovery,
            leader_epoch: record.leader_epoch,
            partition_epoch: record.partition_epoch,
        }
    }

    fn to_record(&self, topic: TopicId, partition: i32) -> PartitionRecord {
        PartitionRecord {
            partition,
            topic,
            replicas: self.replicas.clone(),
            isr: self.isr.clone(),
            removing: self.removing.clone(),
            adding: self.adding.clone(),
            leader: self.leader,
            recovery: self.recovery,
            leader_epoch: self.leader_epoch,
            partition_epoch: self.partition_epoch,
            directories: self.directories.clone(),
            elr: self.elr.clone(),
            last_known_elr: self.last_known_elr.clone(),
        }
    }

    /// The registration after `change`.
    #[must_use]
    pub fn merge(&self, change: &PartitionChangeRecord) -> Self {
        let mut next = self.clone();
        // The directory belongs to the replica, not to its place in the list.
        if let Some(replicas) = &change.replicas
            && change.directories.is_none()
            && !self.directories.is_empty()
        {
            next.directories = replicas.iter().map(|r| self.directory(*r).unwrap_or(UNASSIGNED_DIRECTORY)).collect();
        }
        let set = |field: &mut Vec<BrokerId>, value: &Option<Vec<BrokerId>>| {
            if let Some(value) = value {
                field.clone_from(value);
            }
        };
        set(&mut next.replicas, &change.replicas);
        set(&mut next.isr, &change.isr);
        set(&mut next.removing, &change.removing);
        set(&mut next.adding, &change.adding);
        set(&mut next.elr, &change.elr);
        set(&mut next.last_known_elr, &change.last_known_elr);
        if let Some(directories) = &change.directories {
            next.directories.clone_from(directories);
        }
        if let Some(recovery) = change.recovery {
            next.recovery = recovery;
        }
        if let Some(leader) = change.leader {
            next.leader = leader;
            next.leader_epoch = next.leader_epoch.next();
        }
        next.partition_epoch = next.partition_epoch.next();
        next
    }

    /// The replica that leads when all are well.
    #[must_use]
    pub fn preferred_leader(&self) -> Option<BrokerId> {
        self.replicas.first().copied()
    }

    /// Where `replica` keeps this partition, as far as the log says.
    #[must_use]
    pub fn directory(&self, replica: BrokerId) -> Option<DirectoryId> {
        let at = self.replicas.iter().position(|r| *r == replica)?;
        self.directories.get(at).copied()
    }
}

/// A record that does not fit the image it was replayed on. Fatal: the log, or this node's copy of it, is broken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReplayError {
    /// The record was replayed before, or out of order.
    #[error("record at offset {at} replayed on an image that ends at {end}")]
    OutOfOrder {
        /// Where the record lies.
        at: Offset,
        /// Where the image ends, exclusive.
        end: Offset,
    },
    /// The record speaks of a broker, or an epoch of it, that is not registered.
    #[error("record at offset {at} speaks of broker {broker} in epoch {broker_epoch}, which is not registered")]
    UnknownBroker {
        /// Where the record lies.
        at: Offset,
        /// The broker.
        broker: BrokerId,
        /// Its epoch.
        broker_epoch: BrokerEpoch,
    },
    /// The record speaks of a topic that is not there.
    #[error("record at offset {at} speaks of unknown topic {topic}")]
    UnknownTopic {
        /// Where the record lies.
        at: Offset,
        /// The topic.
        topic: TopicId,
    },
    /// The record speaks of a partition that is not there.
    #[error("record at offset {at} speaks of unknown partition {partition}")]
    UnknownPartition {
        /// Where the record lies.
        at: Offset,
        /// The partition.
        partition: TopicIdPartition,
    },
    /// The record creates a topic whose name or id is taken.
    #[error("record at offset {at} creates topic {name} a second time")]
    TopicExists {
        /// Where the record lies.
        at: Offset,
        /// Its name.
        name: TopicName,
    },
    /// The record would take a number back.
    #[error("record at offset {at} takes {what} back")]
    Regression {
        /// Where the record lies.
        at: Offset,
        /// Which number.
        what: &'static str,
    },
    /// A transaction begins within another, or ends outside of one.
    #[error("record at offset {at} begins or ends a metadata transaction out of place")]
    Transaction {
        /// Where the record lies.
        at: Offset,
    },
}

impl Default for MetadataImage {
    fn default() -> Self {
        MetadataImage {
            end: OffsetAndEpoch { offset: Offset::ZERO, epoch: LeaderEpoch(0) },
            features: OrdMap::new(),
            brokers: OrdMap::new(),
            controllers: OrdMap::new(),
            topics: OrdMap::new(),
            topics_by_name: OrdMap::new(),
            configs: OrdMap::new(),
            next_producer_id: ProducerId(0),
            before_transaction: None,
        }
    }
}

impl MetadataImage {
    /// The image of an empty log.
    #[must_use]
    pub fn new() -> Self {
        MetadataImage::default()
    }

    /// End of the replayed prefix, exclusive, and the epoch of its last record.
    #[must_use]
    pub fn end(&self) -> OffsetAndEpoch {
        self.end
    }

    /// Offset of the last replayed record; `None` on an empty log.
    #[must_use]
    pub fn last_offset(&self) -> Option<Offset> {
        (self.end.offset > Offset::ZERO).then(|| Offset(self.end.offset.0 - 1))
    }

    /// Finalised features and their levels.
    #[must_use]
    pub fn features(&self) -> &OrdMap<Arc<str>, i16> {
        &self.features
    }

    /// The finalised metadata.version; `None` before the log's first record.
    #[must_use]
    pub fn metadata_version(&self) -> Option<i16> {
        self.features.get(METADATA_VERSION).copied()
    }

    /// All registered brokers, by id.
    #[must_use]
    pub fn brokers(&self) -> &OrdMap<BrokerId, Arc<BrokerRegistration>> {
        &self.brokers
    }

    /// One broker's registration.
    #[must_use]
    pub fn broker(&self, broker: BrokerId) -> Option<&BrokerRegistration> {
        self.brokers.get(&broker).map(Arc::as_ref)
    }

    /// Whether `broker` is registered, unfenced and not about to stop.
    #[must_use]
    pub fn is_active(&self, broker: BrokerId) -> bool {
        self.broker(broker).is_some_and(BrokerRegistration::is_active)
    }

    /// All registered controllers, by id.
    #[must_use]
    pub fn controllers(&self) -> &OrdMap<NodeId, Arc<ControllerRegistration>> {
        &self.controllers
    }

    /// All topics, by id.
    #[must_use]
    pub fn topics(&self) -> &OrdMap<TopicId, Arc<TopicImage>> {
        &self.topics
    }

    /// All topics' ids, by name.
    #[must_use]
    pub fn topic_ids(&self) -> &OrdMap<TopicName, TopicId> {
        &self.topics_by_name
    }

    /// The topic with this id.
    #[must_use]
    pub fn topic(&self, id: TopicId) -> Option<&TopicImage> {
        self.topics.get(&id).map(Arc::as_ref)
    }

    /// The topic that bears this name now.
    #[must_use]
    pub fn topic_by_name(&self, name: &TopicName) -> Option<&TopicImage> {
        self.topic(*self.topics_by_name.get(name)?)
    }

    /// One partition.
    #[must_use]
    pub fn partition(&self, partition: TopicIdPartition) -> Option<&PartitionRegistration> {
        self.topic(partition.topic)?.partitions.get(&partition.partition).map(Arc::as_ref)
    }

    /// Every partition, in the order of topic id and index.
    pub fn partitions(&self) -> impl Iterator<Item = (TopicIdPartition, &Arc<PartitionRegistration>)> {
        self.topics.values().flat_map(|topic| {
            topic
                .partitions
                .iter()
                .map(|(index, partition)| (TopicIdPartition { topic: topic.id, partition: *index }, partition))
        })
    }

    /// The values set for one resource; what is inherited or default is not among them.
    #[must_use]
    pub fn config(&self, resource: &ConfigResource) -> Option<&OrdMap<Arc<str>, Arc<str>>> {
        self.configs.get(resource)
    }

    /// Every resource with values of its own.
    #[must_use]
    pub fn configs(&self) -> &OrdMap<ConfigResource, OrdMap<Arc<str>, Arc<str>>> {
        &self.configs
    }

    /// The value of `key` for a topic: its own, else that of `broker`, else the one all brokers share.
    #[must_use]
    pub fn topic_config(&self, topic: &TopicName, broker: Option<BrokerId>, key: &str) -> Option<&Arc<str>> {
        let own = self.configs.get(&ConfigResource::topic(topic)).and_then(|c| c.get(key));
        let broker = || {
            let broker = broker.map(ConfigResource::broker)?;
            self.configs.get(&broker).and_then(|c| c.get(key))
        };
        let shared = || self.configs.get(&ConfigResource::all_brokers()).and_then(|c| c.get(key));
        own.or_else(broker).or_else(shared)
    }

    /// First producer id that was given to nobody.
    #[must_use]
    pub fn next_producer_id(&self) -> ProducerId {
        self.next_producer_id
    }

    /// The image a broker may act on: without the changes of a metadata transaction that may yet be aborted.
    #[must_use]
    pub fn visible(&self) -> &MetadataImage {
        self.before_transaction.as_deref().unwrap_or(self)
    }

    /// The log was read up to `end`, and what lay there was no metadata record (a control batch).
    ///
    /// # Errors
    ///
    /// [`ReplayError::OutOfOrder`] if the image is already further.
    pub fn advance(&mut self, end: OffsetAndEpoch) -> Result<(), ReplayError> {
        if end.offset < self.end.offset {
            return Err(ReplayError::OutOfOrder { at: end.offset, end: self.end.offset });
        }
        self.end = end;
        Ok(())
    }

    /// Replays the record that lies at offset `at`, appended in quorum epoch `epoch`.
    ///
    /// # Errors
    ///
    /// A record that does not fit. The image is unchanged then, and its owner must not go on.
    pub fn replay(&mut self, record: &MetadataRecord, at: Offset, epoch: LeaderEpoch) -> Result<(), ReplayError> {
        if at < self.end.offset {
            return Err(ReplayError::OutOfOrder { at, end: self.end.offset });
        }
        match record {
            MetadataRecord::RegisterBroker(r) => self.replay_register_broker(r, at)?,
            MetadataRecord::UnregisterBroker(r) => {
                self.registered(r.broker, r.broker_epoch, at)?;
                self.brokers.remove(&r.broker);
            }
            MetadataRecord::BrokerRegistrationChange(r) => self.replay_registration_change(r, at)?,
            MetadataRecord::RegisterController(r) => self.replay_register_controller(r),
            MetadataRecord::Topic(r) => self.replay_topic(r, at)?,
            MetadataRecord::RemoveTopic(r) => {
                let topic = self.topics.remove(&r.topic).ok_or(ReplayError::UnknownTopic { at, topic: r.topic })?;
                self.topics_by_name.remove(&topic.name);
                self.configs.remove(&ConfigResource::topic(&topic.name));
            }
            MetadataRecord::Partition(r) => {
                let topic = self.topics.get_mut(&r.topic).ok_or(ReplayError::UnknownTopic { at, topic: r.topic })?;
                let partition = Arc::new(PartitionRegistration::from_record(r));
                Arc::make_mut(topic).partitions.insert(r.partition, partition);
            }
            MetadataRecord::PartitionChange(r) => self.replay_partition_change(r, at)?,
            MetadataRecord::Config(r) => self.replay_config(r),
            MetadataRecord::FeatureLevel(FeatureLevelRecord { name, level: 0 }) => {
                self.features.remove(name);
            }
            MetadataRecord::FeatureLevel(r) => {
                self.features.insert(r.name.clone(), r.level);
            }
            MetadataRecord::ProducerIds(r) => self.replay_producer_ids(r, at)?,
            MetadataRecord::NoOp => {}
            MetadataRecord::BeginTransaction { .. } => {
                if self.before_transaction.is_some() {
                    return Err(ReplayError::Transaction { at });
                }
                self.before_transaction = Some(Arc::new(self.clone()));
            }
            MetadataRecord::EndTransaction => {
                self.before_transaction.take().ok_or(ReplayError::Transaction { at })?;
            }
            MetadataRecord::AbortTransaction { .. } => {
                let before = self.before_transaction.take().ok_or(ReplayError::Transaction { at })?;
                *self = (*before).clone();
            }
        }
        self.end = OffsetAndEpoch { offset: at + 1, epoch };
        Ok(())
    }

    fn registered(
        &self,
        broker: BrokerId,
        broker_epoch: BrokerEpoch,
        at: Offset,
    ) -> Result<&Arc<BrokerRegistration>, ReplayError> {
        let unknown = ReplayError::UnknownBroker { at, broker, broker_epoch };
        self.brokers.get(&broker).filter(|registration| registration.epoch == broker_epoch).ok_or(unknown)
    }

    fn replay_register_broker(&mut self, r: &RegisterBrokerRecord, at: Offset) -> Result<(), ReplayError> {
        if self.brokers.get(&r.broker).is_some_and(|former| former.epoch > r.broker_epoch) {
            return Err(ReplayError::Regression { at, what: "a broker epoch" });
        }
        let registration = BrokerRegistration {
            broker: r.broker,
            epoch: r.broker_epoch,
            incarnation: r.incarnation,
            endpoints: r.endpoints.clone(),
            features: r.features.clone(),
            rack: r.rack.clone(),
            fenced: r.fenced,
            in_controlled_shutdown: r.in_controlled_shutdown,
            log_dirs: r.log_dirs.clone(),
            cordoned_log_dirs: r.cordoned_log_dirs.clone(),
        };
        self.brokers.insert(r.broker, Arc::new(registration));
        Ok(())
    }

    fn replay_registration_change(
        &mut self,
        r: &BrokerRegistrationChangeRecord,
        at: Offset,
    ) -> Result<(), ReplayError> {
        let mut next = BrokerRegistration::clone(self.registered(r.broker, r.broker_epoch, at)?);
        if let Some(fenced) = r.fenced {
            next.fenced = fenced;
        }
        next.in_controlled_shutdown |= r.in_controlled_shutdown;
        if !r.log_dirs.is_empty() {
            next.log_dirs.clone_from(&r.log_dirs);
        }
        if let Some(cordoned) = &r.cordoned_log_dirs {
            next.cordoned_log_dirs = Some(cordoned.clone());
        }
        self.brokers.insert(r.broker, Arc::new(next));
        Ok(())
    }

    fn replay_register_controller(&mut self, r: &RegisterControllerRecord) {
        let registration = ControllerRegistration {
            controller: r.controller,
            incarnation: r.incarnation,
            endpoints: r.endpoints.clone(),
            features: r.features.clone(),
        };
        self.controllers.insert(r.controller, Arc::new(registration));
    }

    fn replay_topic(&mut self, r: &TopicRecord, at: Offset) -> Result<(), ReplayError> {
        if self.topics_by_name.contains_key(&r.name) || self.topics.contains_key(&r.id) {
            return Err(ReplayError::TopicExists { at, name: r.name.clone() });
        }
        self.topics_by_name.insert(r.name.clone(), r.id);
        let topic = TopicImage { id: r.id, name: r.name.clone(), partitions: OrdMap::new() };
        self.topics.insert(r.id, Arc::new(topic));
        Ok(())
    }

    fn replay_partition_change(&mut self, r: &PartitionChangeRecord, at: Offset) -> Result<(), ReplayError> {
        let topic = self.topics.get_mut(&r.topic).ok_or(ReplayError::UnknownTopic { at, topic: r.topic })?;
        let id = TopicIdPartition { topic: r.topic, partition: r.partition };
        let Some(partition) = topic.partitions.get(&r.partition) else {
            return Err(ReplayError::UnknownPartition { at, partition: id });
        };
        let merged = Arc::new(partition.merge(r));
        Arc::make_mut(topic).partitions.insert(r.partition, merged);
        Ok(())
    }

    fn replay_config(&mut self, r: &ConfigRecord) {
        let mut values = self.configs.get(&r.resource).cloned().unwrap_or_default();
        match &r.value {
            Some(value) => values.insert(r.key.clone(), value.clone()),
            None => values.remove(&r.key),
        };
        if values.is_empty() {
            self.configs.remove(&r.resource);
        } else {
            self.configs.insert(r.resource.clone(), values);
        }
    }

    fn replay_producer_ids(&mut self, r: &ProducerIdsRecord, at: Offset) -> Result<(), ReplayError> {
        if r.next < self.next_producer_id {
            return Err(ReplayError::Regression { at, what: "the next producer id" });
        }
        self.next_producer_id = r.next;
        Ok(())
    }

    /// The records of a snapshot of this image (KIP-630): replayed on an empty image they give this one again.
    /// A transaction that is open is left out, as the log after the snapshot still holds all of it.
    #[must_use]
    pub fn to_records(&self) -> Vec<MetadataRecord> {
        let image = self.visible();
        let mut records = Vec::new();
        // metadata.version comes first: it says how to read the rest.
        let (first, others): (Vec<_>, Vec<_>) =
            image.features.iter().partition(|(name, _)| &***name == METADATA_VERSION);
        for (name, level) in first.into_iter().chain(others) {
            records.push(MetadataRecord::FeatureLevel(FeatureLevelRecord { name: name.clone(), level: *level }));
        }
        for b in image.brokers.values() {
            records.push(MetadataRecord::RegisterBroker(RegisterBrokerRecord {
                broker: b.broker,
                incarnation: b.incarnation,
                broker_epoch: b.epoch,
                endpoints: b.endpoints.clone(),
                features: b.features.clone(),
                rack: b.rack.clone(),
                fenced: b.fenced,
                in_controlled_shutdown: b.in_controlled_shutdown,
                log_dirs: b.log_dirs.clone(),
                cordoned_log_dirs: b.cordoned_log_dirs.clone(),
            }));
        }
        for c in image.controllers.values() {
            records.push(MetadataRecord::RegisterController(RegisterControllerRecord {
                controller: c.controller,
                incarnation: c.incarnation,
                endpoints: c.endpoints.clone(),
                features: c.features.clone(),
            }));
        }
        for topic in image.topics.values() {
            records.push(MetadataRecord::Topic(TopicRecord { name: topic.name.clone(), id: topic.id }));
            for (index, partition) in &topic.partitions {
                records.push(MetadataRecord::Partition(partition.to_record(topic.id, *index)));
            }
        }
        for (resource, values) in &image.configs {
            for (key, value) in values {
                let (resource, key, value) = (resource.clone(), key.clone(), Some(value.clone()));
                records.push(MetadataRecord::Config(ConfigRecord { resource, key, value }));
            }
        }
        if image.next_producer_id > ProducerId(0) {
            let next = image.next_producer_id;
            records.push(MetadataRecord::ProducerIds(ProducerIdsRecord { broker: None, broker_epoch: None, next }));
        }
        records
    }

    /// Rebuilds the image of a snapshot that covers the log up to `end`.
    ///
    /// # Errors
    ///
    /// The records are not those of a snapshot.
    pub fn from_records<'a>(
        records: impl IntoIterator<Item = &'a MetadataRecord>,
        end: OffsetAndEpoch,
    ) -> Result<MetadataImage, ReplayError> {
        let mut image = MetadataImage::new();
        for record in records {
            // Records of a snapshot have no offsets of their own.
            image.replay(record, Offset::ZERO, end.epoch)?;
            image.end.offset = Offset::ZERO;
        }
        image.end = end;
        Ok(image)
    }

    /// Checks what must hold between whole batches, by a scan of everything. For tests and simulation.
    ///
    /// # Panics
    ///
    /// When one of the invariants W-R3, W-R4, W-R5 or an index is broken.
    pub fn check_invariants(&self) {
        assert_eq!(self.topics.len(), self.topics_by_name.len(), "topics by id and by name differ");
        for (name, id) in &self.topics_by_name {
            assert_eq!(self.topics.get(id).map(|t| &t.name), Some(name), "name {name} points at {id}");
        }
        for (resource, values) in &self.configs {
            assert!(!values.is_empty(), "{resource} is configured with nothing");
        }
        for topic in self.topics.values() {
            let indexes: Vec<i32> = topic.partitions.keys().copied().collect();
            assert_eq!(indexes, (0..topic.partitions.len() as i32).collect::<Vec<_>>(), "{}: a gap", topic.name);
        }
        for (id, partition) in self.partitions() {
            partition.check_invariants(id);
            for member in &partition.isr {
                let active = self.broker(*member).is_some_and(|b| !b.fenced);
                let alone = partition.isr.len() == 1;
                assert!(active || alone, "{id}: {member} is fenced or unknown, yet in isr {:?}", partition.isr);
            }
            if let Some(leader) = partition.leader {
                let live = self.broker(leader).is_some_and(|b| !b.fenced);
                assert!(live, "{id}: led by {leader}, which is fenced or unknown");
            }
        }
    }
}

impl PartitionRegistration {
    fn check_invariants(&self, id: TopicIdPartition) {
        let PartitionRegistration { replicas, isr, elr, leader, .. } = self;
        assert!(!replicas.is_empty() && !isr.is_empty(), "{id}: replicas {replicas:?}, isr {isr:?}");
        for (list, what) in [(replicas, "replicas"), (isr, "isr"), (elr, "elr")] {
            let mut sorted = list.clone();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), list.len(), "{id}: a broker twice in {what} {list:?}");
            assert!(list.iter().all(|r| replicas.contains(r)), "{id}: {what} {list:?} not in replicas {replicas:?}");
        }
        assert!(!elr.iter().any(|r| isr.contains(r)), "{id}: elr {elr:?} and isr {isr:?} overlap");
        assert!(leader.is_none_or(|l| isr.contains(&l)), "{id}: leader {leader:?} not in isr {isr:?}");
        assert!(
            self.directories.is_empty() || self.directories.len() == replicas.len(),
            "{id}: {} directories for {} replicas",
            self.directories.len(),
            replicas.len()
        );
        if self.recovery == LeaderRecoveryState::Recovering {
            assert_eq!(isr.len(), 1, "{id}: isr {isr:?} grew before the leader recovered");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: TopicId = Uuid(77);
    const E1: LeaderEpoch = LeaderEpoch(1);

    fn nodes(ids: &[i32]) -> Vec<NodeId> {
        ids.iter().map(|id| NodeId(*id)).collect()
    }

    fn image_of(records: &[MetadataRecord]) -> MetadataImage {
        let mut image = MetadataImage::new();
        for record in records {
            image.replay(record, image.end().offset, E1).unwrap();
        }
        image
    }

    fn topic() -> MetadataRecord {
        MetadataRecord::Topic(TopicRecord { name: "orders".into(), id: TOPIC })
    }

    fn partition() -> PartitionRecord {
        PartitionRecord {
            partition: 0,
            topic: TOPIC,
            replicas: nodes(&[1, 2]),
            isr: nodes(&[1, 2]),
            removing: vec![],
            adding: vec![],
            leader: Some(NodeId(1)),
            recovery: LeaderRecoveryState::Recovered,
            leader_epoch: LeaderEpoch(0),
            partition_epoch: PartitionEpoch(0),
            directories: vec![Uuid(11), Uuid(22)],
            elr: vec![],
            last_known_elr: vec![],
        }
    }

    fn set(key: &str, value: Option<&str>) -> MetadataRecord {
        let resource = ConfigResource::topic(&"orders".into());
        MetadataRecord::Config(ConfigRecord { resource, key: key.into(), value: value.map(Into::into) })
    }

    #[test]
    fn naming_the_leader_bumps_both_epochs_and_any_other_change_only_one() {
        let mut image = image_of(&[topic(), MetadataRecord::Partition(partition())]);
        let id = TopicIdPartition { topic: TOPIC, partition: 0 };
        let shrink = PartitionChangeRecord { isr: Some(nodes(&[1])), ..PartitionChangeRecord::new(TOPIC, 0) };
        image.replay(&MetadataRecord::PartitionChange(shrink), Offset(2), E1).unwrap();
        let now = image.partition(id).unwrap();
        assert_eq!((now.leader_epoch, now.partition_epoch), (LeaderEpoch(0), PartitionEpoch(1)));
        let same = PartitionChangeRecord { leader: Some(Some(NodeId(1))), ..PartitionChangeRecord::new(TOPIC, 0) };
        image.replay(&MetadataRecord::PartitionChange(same), Offset(3), E1).unwrap();
        let now = image.partition(id).unwrap();
        assert_eq!((now.leader_epoch, now.partition_epoch), (LeaderEpoch(1), PartitionEpoch(2)));
    }

    #[test]
    fn a_directory_follows_its_replica_when_the_order_changes() {
        let registration = PartitionRegistration::from_record(&partition());
        let swapped =
            PartitionChangeRecord { replicas: Some(nodes(&[2, 3, 1])), ..PartitionChangeRecord::new(TOPIC, 0) };
        assert_eq!(registration.merge(&swapped).directories, [Uuid(22), UNASSIGNED_DIRECTORY, Uuid(11)]);
    }

    #[test]
    fn a_deleted_topic_takes_its_configuration_along() {
        let mut image = image_of(&[topic(), set("retention.ms", Some("1")), set("segment.ms", Some("2"))]);
        image
            .replay(
                &MetadataRecord::RemoveTopic(broker_wire::records::metadata::RemoveTopicRecord { topic: TOPIC }),
                Offset(3),
                E1,
            )
            .unwrap();
        assert_eq!(image, MetadataImage { end: image.end, ..MetadataImage::new() });
    }

    #[test]
    fn taking_the_last_value_back_leaves_no_trace() {
        let image = image_of(&[topic(), set("retention.ms", Some("1")), set("retention.ms", None)]);
        assert!(image.configs().is_empty());
    }

    #[test]
    fn an_aborted_transaction_leaves_only_the_offset() {
        let begin = MetadataRecord::BeginTransaction { name: None };
        let mut image = image_of(&[begin, topic()]);
        assert!(image.topic(TOPIC).is_some() && image.visible().topic(TOPIC).is_none());
        image.replay(&MetadataRecord::AbortTransaction { reason: None }, Offset(2), E1).unwrap();
        assert_eq!(image, MetadataImage { end: image.end, ..MetadataImage::new() });
        assert_eq!(image.end().offset, Offset(3));
        let stray = image.replay(&MetadataRecord::EndTransaction, Offset(3), E1);
        assert_eq!(stray, Err(ReplayError::Transaction { at: Offset(3) }));
    }

    #[test]
    fn a_record_that_does_not_fit_is_an_error_and_changes_nothing() {
        let mut image = image_of(&[topic()]);
        let before = image.clone();
        let change = PartitionChangeRecord { leader: Some(None), ..PartitionChangeRecord::new(TOPIC, 9) };
        let missing = TopicIdPartition { topic: TOPIC, partition: 9 };
        assert_eq!(
            image.replay(&MetadataRecord::PartitionChange(change), Offset(1), E1),
            Err(ReplayError::UnknownPartition { at: Offset(1), partition: missing })
        );
        assert_eq!(
            image.replay(&topic(), Offset(1), E1),
            Err(ReplayError::TopicExists { at: Offset(1), name: "orders".into() })
        );
        assert_eq!(
            image.replay(&MetadataRecord::NoOp, Offset(0), E1),
            Err(ReplayError::OutOfOrder { at: Offset(0), end: Offset(1) })
        );
        let fence = BrokerRegistrationChangeRecord::new(NodeId(1), BrokerEpoch(5));
        assert!(image.replay(&MetadataRecord::BrokerRegistrationChange(fence), Offset(1), E1).is_err());
        assert_eq!(image, before);
    }

    #[test]
    fn a_snapshot_replayed_gives_the_same_image() {
        let image = image_of(&[
            MetadataRecord::FeatureLevel(FeatureLevelRecord { name: "group.version".into(), level: 1 }),
            MetadataRecord::FeatureLevel(FeatureLevelRecord { name: METADATA_VERSION.into(), level: 30 }),
            topic(),
            MetadataRecord::Partition(partition()),
            set("retention.ms", Some("1")),
            MetadataRecord::ProducerIds(ProducerIdsRecord {
                broker: Some(NodeId(1)),
                broker_epoch: Some(BrokerEpoch(1)),
                next: ProducerId(2000),
            }),
        ]);
        let records = image.to_records();
        assert!(matches!(&records[0], MetadataRecord::FeatureLevel(f) if &*f.name == METADATA_VERSION));
        assert_eq!(MetadataImage::from_records(&records, image.end()), Ok(image));
    }
}
