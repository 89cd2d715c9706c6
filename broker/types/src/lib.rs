//! Kafka's nouns as newtypes, without behaviour.
//!
//! Everything here is plain data that any crate may name: identifiers, offsets, epochs, times, error codes, and
//! [`Observation`], the typed fact that a node tells its observer.

mod batch;
mod epoch;
mod error_code;
mod ids;
mod observation;
mod offset;
mod time;

pub use batch::{BatchSummary, ProducerStamp, increment_sequence};
pub use epoch::{BrokerEpoch, LeaderEpoch, PartitionEpoch, ProducerEpoch};
pub use error_code::ErrorCode;
pub use ids::{
    BrokerId, DirectoryId, GroupId, MemberId, NodeId, ProducerId, TopicId, TopicIdPartition, TopicName, TopicPartition,
    TransactionalId, Uuid,
};
pub use observation::{
    CoordinatorKind, GroupState, MemberFact, Observation, Observer, QuorumSnapshot, ReplicaRole, Silent,
    TransactionFact, TransactionState,
};
pub use offset::{Offset, OffsetAndEpoch};
pub use time::{MonoTime, WallTime};
