//! What may be asked of the active controller, and what it answers: Rust types, no wire.
//!
//! The names are Kafka's. A wire `-1` is `None` here. An answer to a whole request is
//! `Result<ControllerResponse, Refusal>`; requests about many topics or partitions carry one result for each.

use broker_types::{
    BrokerEpoch, BrokerId, DirectoryId, ErrorCode, LeaderEpoch, NodeId, Offset, PartitionEpoch, ProducerId, TopicId,
    TopicIdPartition, TopicName, Uuid,
};
use broker_wire::records::metadata::{ConfigResource, Endpoint, LeaderRecoveryState, SupportedFeature};
use std::sync::Arc;

/// Names one request between the driver and the controller; the driver draws it and finds its connection by it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId(pub u64);

/// Why a request, or one part of it, was refused.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Refusal {
    /// Kafka's error code; never `None`.
    pub error: ErrorCode,
    /// One sentence for a person; empty where Kafka sends none.
    pub message: Box<str>,
}

impl Refusal {
    /// A refusal with its reason.
    #[must_use]
    pub fn new(error: ErrorCode, message: impl Into<Box<str>>) -> Self {
        Refusal { error, message: message.into() }
    }
}

impl From<ErrorCode> for Refusal {
    fn from(error: ErrorCode) -> Self {
        Refusal { error, message: "".into() }
    }
}

/// A request to the active controller.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum ControllerRequest {
    /// A broker process asks to be part of the cluster (KIP-631).
    RegisterBroker(RegisterBroker),
    /// A broker says that it lives (KIP-631).
    BrokerHeartbeat(BrokerHeartbeat),
    /// An operator takes a broker out of the cluster for good.
    UnregisterBroker {
        /// The broker.
        broker: BrokerId,
    },
    /// A controller makes its endpoints known (KIP-919).
    RegisterController(RegisterController),
    /// Creates topics.
    CreateTopics {
        /// What to create; a name may appear once.
        topics: Vec<NewTopic>,
        /// Check and place, but write nothing.
        validate_only: bool,
    },
    /// Deletes topics.
    DeleteTopics {
        /// Which.
        topics: Vec<TopicRef>,
    },
    /// Adds partitions to topics.
    CreatePartitions {
        /// What to add; a name may appear once.
        topics: Vec<NewPartitions>,
        /// Check and place, but write nothing.
        validate_only: bool,
    },
    /// A leader proposes new in-sync replica sets (KIP-497, KIP-841, KIP-903).
    AlterPartition(AlterPartition),
    /// A broker wants a block of producer ids (KIP-730).
    AllocateProducerIds {
        /// The broker.
        broker: BrokerId,
        /// Its current epoch.
        broker_epoch: BrokerEpoch,
    },
    /// Changes single configuration values (KIP-339).
    IncrementalAlterConfigs {
        /// One entry a resource; a resource may appear once.
        resources: Vec<AlterConfigs>,
        /// Check, but write nothing.
        validate_only: bool,
    },
    /// Elects leaders (KIP-183, KIP-460).
    ElectLeaders {
        /// The kind of election.
        election: ElectionType,
        /// For which partitions; `None` for all that need one.
        partitions: Option<Vec<TopicIdPartition>>,
    },
}

impl ControllerRequest {
    /// Whether it changes topics for a client: if its answer is lost it must not be sent again on the client's behalf.
    /// The second attempt would be told of what the first one did (TOPIC_ALREADY_EXISTS), and the first may still come
    /// after it.
    #[must_use]
    pub fn is_asked_once(&self) -> bool {
        match self {
            ControllerRequest::CreateTopics { validate_only, .. }
            | ControllerRequest::CreatePartitions { validate_only, .. } => !validate_only,
            ControllerRequest::DeleteTopics { .. } => true,
            _ => false,
        }
    }

    /// Whether its answer, a refusal too, tells a client which topics there are and how many partitions they have.
    #[must_use]
    pub fn tells_of_topics(&self) -> bool {
        matches!(
            self,
            ControllerRequest::CreateTopics { .. }
                | ControllerRequest::CreatePartitions { .. }
                | ControllerRequest::DeleteTopics { .. }
        )
    }
}

/// See [`ControllerRequest::RegisterBroker`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RegisterBroker {
    /// The broker's node id.
    pub broker: BrokerId,
    /// The cluster it believes to belong to.
    pub cluster_id: Arc<str>,
    /// Drawn anew by each process: tells a restarted broker from a repeated request.
    pub incarnation: Uuid,
    /// Where clients and brokers reach it; at least one.
    pub endpoints: Vec<Endpoint>,
    /// Feature levels it can run.
    pub features: Vec<SupportedFeature>,
    /// Its rack.
    pub rack: Option<Arc<str>>,
    /// Its online log directories.
    pub log_dirs: Vec<DirectoryId>,
    /// The epoch in its clean-shutdown file (KIP-966); `None` after an unclean stop.
    pub previous_epoch: Option<BrokerEpoch>,
}

/// See [`ControllerRequest::BrokerHeartbeat`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct BrokerHeartbeat {
    /// The broker.
    pub broker: BrokerId,
    /// The epoch its registration was given.
    pub broker_epoch: BrokerEpoch,
    /// Last metadata offset it has applied, inclusive; `None` before the first.
    pub metadata_offset: Option<Offset>,
    /// It wants to stay, or become, fenced.
    pub want_fence: bool,
    /// It wants to stop.
    pub want_shutdown: bool,
}

/// See [`ControllerRequest::RegisterController`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RegisterController {
    /// The controller's node id.
    pub controller: NodeId,
    /// Drawn anew by each process.
    pub incarnation: Uuid,
    /// Where it is reached.
    pub endpoints: Vec<Endpoint>,
    /// Feature levels it can run.
    pub features: Vec<SupportedFeature>,
}

/// One topic to create.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct NewTopic {
    /// Its name, checked by the controller.
    pub name: TopicName,
    /// How many partitions; `None` for the default. Must be `None` with `assignments`.
    pub partitions: Option<i32>,
    /// How many replicas each; `None` for the default. Must be `None` with `assignments`.
    pub replication_factor: Option<i16>,
    /// Replicas of each partition by index, preferred leader first; empty to let the controller place them.
    pub assignments: Vec<(i32, Vec<BrokerId>)>,
    /// Its configuration; `None` as value is refused.
    pub configs: Vec<(Arc<str>, Option<Arc<str>>)>,
}

/// A topic named by the asker.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum TopicRef {
    /// By id: this incarnation and no other.
    Id(TopicId),
    /// By name: whatever bears it now.
    Name(TopicName),
}

/// Partitions to add to one topic.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct NewPartitions {
    /// The topic.
    pub name: TopicName,
    /// How many it shall have afterwards.
    pub count: i32,
    /// Replicas of each added partition, or `None` to let the controller place them.
    pub assignments: Option<Vec<Vec<BrokerId>>>,
}

/// See [`ControllerRequest::AlterPartition`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct AlterPartition {
    /// The asking broker.
    pub broker: BrokerId,
    /// Its current epoch.
    pub broker_epoch: BrokerEpoch,
    /// The partitions.
    pub partitions: Vec<AlterOnePartition>,
}

/// One partition of an AlterPartition request.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct AlterOnePartition {
    /// The partition.
    pub partition: TopicIdPartition,
    /// The epoch in which the asker leads.
    pub leader_epoch: LeaderEpoch,
    /// The registration the proposal is based on.
    pub partition_epoch: PartitionEpoch,
    /// The proposed ISR, each with the broker epoch its last fetch carried (KIP-903); `None` if unknown.
    pub isr: Vec<(BrokerId, Option<BrokerEpoch>)>,
    /// Whether the leader still recovers from an unclean election (KIP-704).
    pub recovery: LeaderRecoveryState,
}

/// Changes to one resource's configuration.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct AlterConfigs {
    /// The resource.
    pub resource: ConfigResource,
    /// The changes; a key may appear once.
    pub changes: Vec<(Arc<str>, ConfigOp)>,
}

/// One change of one configuration value.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum ConfigOp {
    /// Set it.
    Set(Arc<str>),
    /// Fall back to the default.
    Delete,
    /// Add elements to a list.
    Append(Arc<str>),
    /// Take elements from a list.
    Subtract(Arc<str>),
}

/// The kind of a requested election.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ElectionType {
    /// Give leadership to the first replica, if it is in the ISR and alive.
    Preferred,
    /// Give a leaderless partition to any live replica; may lose acknowledged records.
    Unclean,
}

/// A deleted topic's id and name.
pub type DeletedTopic = (TopicId, TopicName);

/// What the active controller answers, in the order of [`ControllerRequest`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum ControllerResponse {
    /// The registration is committed.
    RegisterBroker {
        /// Its epoch: the offset of its record.
        broker_epoch: BrokerEpoch,
    },
    /// The broker's standing.
    BrokerHeartbeat(HeartbeatReply),
    /// The broker is gone.
    UnregisterBroker,
    /// The controller's registration is committed.
    RegisterController,
    /// One result a topic, in the order asked.
    CreateTopics(Vec<(TopicName, Result<CreatedTopic, Refusal>)>),
    /// One result a topic, in the order asked; the deleted topic's id and name.
    DeleteTopics(Vec<(TopicRef, Result<DeletedTopic, Refusal>)>),
    /// One result a topic, in the order asked.
    CreatePartitions(Vec<(TopicName, Result<(), Refusal>)>),
    /// One result a partition, in the order asked.
    AlterPartition(Vec<(TopicIdPartition, Result<AlteredPartition, ErrorCode>)>),
    /// A block of ids that nobody else was or will be given.
    AllocateProducerIds {
        /// The first of them.
        first: ProducerId,
        /// How many.
        count: i32,
    },
    /// One result a resource, in the order asked.
    IncrementalAlterConfigs(Vec<(ConfigResource, Result<(), Refusal>)>),
    /// One result a partition, in the order asked; with no partitions asked, only those that had an election.
    ElectLeaders(Vec<(TopicIdPartition, Result<(), Refusal>)>),
}

/// A broker's standing after its heartbeat.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct HeartbeatReply {
    /// It has applied its own registration.
    pub caught_up: bool,
    /// It is fenced: no partition counts on it.
    pub fenced: bool,
    /// It may stop now: it leads nothing, and every live broker knows.
    pub should_shut_down: bool,
}

/// A topic that was created (or, with `validate_only`, could be).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct CreatedTopic {
    /// Its id; all zero with `validate_only`.
    pub id: TopicId,
    /// Its partitions.
    pub partitions: i32,
    /// Replicas of its first partition.
    pub replication_factor: i16,
    /// The values it was given.
    pub configs: Vec<(Arc<str>, Arc<str>)>,
}

/// A partition's registration after an accepted AlterPartition.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct AlteredPartition {
    /// Its leader; `None` when nobody leads.
    pub leader: Option<BrokerId>,
    /// The leader epoch.
    pub leader_epoch: LeaderEpoch,
    /// The ISR.
    pub isr: Vec<BrokerId>,
    /// Whether the leader recovers from an unclean election.
    pub recovery: LeaderRecoveryState,
    /// The registration's epoch; equal to the asked one when nothing changed.
    pub partition_epoch: PartitionEpoch,
}
