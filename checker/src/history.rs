//! What clients invoked and got, with invocation and return times.

use broker_types::{LeaderEpoch, NodeId, Offset, ProducerEpoch, ProducerId, TopicIdPartition};
use serde::{Deserialize, Serialize};

/// Nanoseconds of simulated time (or of any clock that all sessions share).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SimTime(pub u64);

/// One client incarnation. A client that restarts is a new session.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(pub u32);

/// Names one operation in its history.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OpId(pub u64);

/// The globally unique identity of one record's value. A workload never sends the same one twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ValueId(pub u64);

/// What came of an operation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It took effect.
    Ok,
    /// It surely had, and will have, no effect.
    Fail,
    /// Nobody knows: it may take effect at any later time.
    Unknown,
}

/// One operation.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Op {
    /// Its name.
    pub id: OpId,
    /// Who invoked it.
    pub session: SessionId,
    /// When it was invoked.
    pub invoked: SimTime,
    /// When it returned; `None` if it never did.
    pub returned: Option<SimTime>,
    /// What came of it.
    pub outcome: Outcome,
    /// What it was.
    pub kind: OpKind,
}

/// What was invoked.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OpKind {
    /// A produce of one record.
    Send(Send),
    /// A fetch of one partition.
    Poll(Poll),
    /// ListOffsets(latest), read_uncommitted.
    TailRead(TailRead),
    /// InitProducerId with a transactional id: the session is that id's producer from now on, and fences those before it.
    InitProducer(InitProducer),
    /// A transaction begins; nothing is sent for it. Until its end, what the session sends belongs to it.
    Begin,
    /// A transaction ends.
    EndTransaction(EndTransaction),
    /// Offsets are committed for a group, within the session's transaction if there is one.
    CommitOffsets(CommitOffsets),
    /// A group's committed offsets are asked for.
    FetchOffsets(FetchOffsets),
    /// A group's member is told what it may read.
    Assign(Assign),
    /// A topic is created, deleted, given partitions, or asked for, at the active controller.
    Topic(TopicRequest),
    /// A voter is added to the metadata quorum or removed from it, or all are asked for, at its leader (KIP-853).
    Voters(VoterRequest),
    /// InitProducerId without a transactional id.
    ProducerId(ProducerIdRequest),
    /// A broker tells who leads (Metadata).
    Metadata(MetadataRead),
    /// A configuration is set at the active controller (IncrementalAlterConfigs), or a broker tells it (DescribeConfigs).
    Config(ConfigRequest),
}

/// `acks` of a produce.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Acks {
    /// acks=0.
    None,
    /// acks=1.
    Leader,
    /// acks=all.
    All,
}

/// One record produced.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Send {
    /// Where to.
    pub partition: TopicIdPartition,
    /// The record's identity.
    pub value: ValueId,
    /// Hash over key, value, headers and timestamp as sent.
    pub digest: u64,
    /// Durability asked for.
    pub acks: Acks,
    /// Whether the producer was idempotent.
    pub idempotent: bool,
    /// The offset the broker told; `None` unless the outcome is ok and acks > 0.
    pub offset: Option<Offset>,
    /// The error's name, when the outcome is not ok.
    pub error: Option<String>,
    /// The record that this one was made of, by whoever consumes, transforms and produces. Boxed, for most have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Box<(TopicIdPartition, Offset)>>,
    /// The identity of the record's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<u64>,
    /// It has no value: it deletes its key, and compaction may take it once nothing older of that key is left.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_tombstone: bool,
    /// What the record says that its key's account holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balance: Option<i64>,
}

/// Visibility asked for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// Up to the high watermark.
    ReadUncommitted,
    /// Up to the last stable offset, without aborted data.
    ReadCommitted,
}

/// One fetch of one partition that was answered.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Poll {
    /// Where from.
    pub partition: TopicIdPartition,
    /// The next offset wanted.
    pub position: Offset,
    /// The position afterwards.
    pub next_position: Offset,
    /// What was delivered, in order.
    pub records: Vec<Read>,
    /// The answer's high watermark.
    pub high_watermark: Option<Offset>,
    /// The answer's last stable offset.
    pub last_stable: Option<Offset>,
    /// The answer's log start.
    pub log_start: Option<Offset>,
    /// The leader epoch the consumer knew.
    pub leader_epoch: Option<LeaderEpoch>,
    /// Who answered.
    pub broker: NodeId,
    /// Visibility asked for.
    pub isolation: Isolation,
    /// It belongs to the final reads after the world was healed.
    pub is_final: bool,
    /// The position was set by seek, assignment or an out-of-range reset since the session's last poll here.
    pub after_seek: bool,
}

/// One record delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Read {
    /// Its offset.
    pub offset: Offset,
    /// Its identity; `None` when no workload could have sent these bytes.
    pub value: Option<ValueId>,
    /// Hash over key, value, headers and timestamp as read.
    pub digest: u64,
    /// Leader epoch of its batch.
    pub leader_epoch: Option<LeaderEpoch>,
}

/// One ListOffsets(latest) that was answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TailRead {
    /// Of which partition.
    pub partition: TopicIdPartition,
    /// The end offset told, exclusive.
    pub end: Offset,
    /// Who answered.
    pub broker: NodeId,
    /// Its leader epoch.
    pub leader_epoch: Option<LeaderEpoch>,
}

/// One InitProducerId.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct InitProducer {
    /// `transactional.id`.
    pub transactional_id: String,
    /// The producer id and epoch told; `None` unless the outcome is ok.
    pub producer: Option<(ProducerId, ProducerEpoch)>,
    /// The error's name, when the outcome is not ok.
    pub error: Option<String>,
}

/// One EndTxn.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EndTransaction {
    /// It was to commit; else to abort.
    pub commit: bool,
    /// The error's name, when the outcome is not ok.
    pub error: Option<String>,
}

/// One OffsetCommit, or TxnOffsetCommit between [`OpKind::Begin`] and [`OpKind::EndTransaction`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CommitOffsets {
    /// `group.id`.
    pub group: String,
    /// The next offset to read of each partition.
    pub offsets: Vec<(TopicIdPartition, Offset)>,
    /// The error's name, when the outcome is not ok.
    pub error: Option<String>,
    /// The generation, or the member epoch, that the request carried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i32>,
}

/// How a group's members and its coordinator agree on who reads what.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GroupProtocol {
    /// JoinGroup and SyncGroup: an assignment per generation.
    Classic,
    /// KIP-848: each member comes to its target at its own pace.
    Consumer,
}

/// A change of what a member of a group may read, as its rebalance listener hears it. From its return on the session is a
/// member and holds exactly these partitions.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Assign {
    /// `group.id`.
    pub group: String,
    /// The generation; the member epoch with [`GroupProtocol::Consumer`].
    pub generation: i32,
    /// Which of the two.
    pub protocol: GroupProtocol,
    /// `group.instance.id` of a static member (KIP-345): who joins with it takes the place of who had it before, in the same
    /// generation, and fences him.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// All that it holds. Empty: nothing any more.
    pub partitions: Vec<TopicIdPartition>,
}

/// One OffsetFetch that was answered.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FetchOffsets {
    /// `group.id`.
    pub group: String,
    /// Whether offsets of open transactions held the answer back.
    pub require_stable: bool,
    /// What was told; `None` where nothing is committed.
    pub offsets: Vec<(TopicIdPartition, Option<Offset>)>,
}

/// One request about one topic, and no retry of it: that would be told of what the first one did.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TopicRequest {
    /// Its name.
    pub name: String,
    /// What for.
    pub ask: TopicAsk,
    /// How many partitions it has; `None` unless that was asked, and it is there.
    pub told: Option<i32>,
    /// The error's name, when the outcome is not ok: `TOPIC_ALREADY_EXISTS`, `UNKNOWN_TOPIC_OR_PARTITION` and
    /// `INVALID_PARTITIONS` tell of the topic.
    pub error: Option<String>,
}

/// What is asked about a topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TopicAsk {
    /// CreateTopics, with so many partitions.
    Create(i32),
    /// DeleteTopics.
    Delete,
    /// CreatePartitions: so many in all.
    CreatePartitions(i32),
    /// How many there are.
    Describe,
    /// CreateTopics with `validate_only`, which changes nothing: whether there is no such topic yet.
    ValidateCreate,
    /// CreatePartitions with `validate_only`, which changes nothing: whether there are fewer than that.
    ValidatePartitions(i32),
}

/// One request about the voters.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VoterRequest {
    /// What for.
    pub ask: VoterAsk,
    /// The voters, if they were asked for.
    pub told: Vec<NodeId>,
    /// The error's name, when the outcome is not ok: `DUPLICATE_VOTER` and `VOTER_NOT_FOUND` tell of the voters.
    pub error: Option<String>,
}

/// What is asked about the voters.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VoterAsk {
    /// AddRaftVoter.
    Add(NodeId),
    /// RemoveRaftVoter.
    Remove(NodeId),
    /// DescribeQuorum.
    Describe,
}

/// One InitProducerId of a producer that has no transactional id.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProducerIdRequest {
    /// The producer id told; `None` unless the outcome is ok.
    pub producer: Option<ProducerId>,
    /// The error's name, when the outcome is not ok.
    pub error: Option<String>,
}

/// One Metadata that was answered. What a broker tells may be old; it knows the metadata up to some offset of its log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MetadataRead {
    /// Who answered.
    pub broker: NodeId,
    /// Every partition of the topics that it told of.
    pub partitions: Vec<PartitionRead>,
}

/// What a broker tells of a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PartitionRead {
    /// Which.
    pub partition: TopicIdPartition,
    /// Its leader epoch.
    pub leader_epoch: LeaderEpoch,
    /// Who leads in it; `None` when nobody does, or when the broker knows no way to him.
    pub leader: Option<NodeId>,
}

/// One request about one configuration of one resource.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ConfigRequest {
    /// What it is a configuration of: `topic orders`, `broker 1`. Of a topic that goes and comes again another each time, for its
    /// configurations begin anew.
    pub resource: String,
    /// Its name: `retention.ms`.
    pub key: String,
    /// What for.
    pub ask: ConfigAsk,
    /// The value in force; `None` unless that was asked, and there is one to be shown.
    pub told: Option<String>,
    /// The error's name, when the outcome is not ok.
    pub error: Option<String>,
}

/// What is asked about a configuration.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConfigAsk {
    /// IncrementalAlterConfigs: the value; `None` for its default again.
    Set(Option<String>),
    /// DescribeConfigs, answered by that broker; -1 when by nobody.
    Describe(NodeId),
}

/// A run's operations. Those of a session stand in the order in which it did them; those of several in any.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct History {
    /// The operations.
    pub ops: Vec<Op>,
}

#[cfg(test)]
mod tests {
    use super::Op;

    #[test]
    fn an_operation_does_not_grow_unnoticed() {
        // Ten million of them are held at once: each byte here is ten megabytes there.
        assert!(size_of::<Op>() <= 208, "{} bytes", size_of::<Op>());
    }
}
