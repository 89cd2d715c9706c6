//! Every request and response in use, and their way to bytes and back.
//!
//! The structs are the codec crate's, generated from Kafka's schemas: plain fields, `Default` with the schema's defaults,
//! a `with_` method a field. They speak the wire's language, where -1 stands for nothing; [`convert`] is the border.
//! A message's structs live in a module of its name, [`fetch_request::FetchTopic`].
//!
//! **Memory.** Strings and records of a decoded message are slices of its frame: whoever keeps one keeps the frame, so
//! copy what outlives the request. An array is refused when its claimed length exceeds what the frame still holds, and a
//! request that packs more than some two million fields, or 131,072 elements in one array, is refused as
//! [`WireError::TooManyFields`](crate::WireError::TooManyFields) or malformed: with one byte an element on the wire and
//! hundreds in memory, the frame limit alone would not bound memory.

pub(crate) mod codec;
pub mod convert;
mod guarded;

pub use codec::{
    RequestHeader, decode_request, decode_response, encode_request, encode_response, response_correlation_id,
};
pub use proto_kafka::messages::{BrokerId, GroupId, ProducerId, TopicName, TransactionalId};
pub use proto_kafka::protocol::StrBytes;

use crate::api_versions::ApiVersionRange;
use guarded::Guarded;
use proto_kafka::error::ProtoError;
use proto_kafka::protocol::{Decodable, Encodable, HeaderVersion, Message};
use std::fmt;

macro_rules! apis {
    ($($name:ident = $key:literal, $request_mod:ident::$request:ident, $response_mod:ident::$response:ident;)*) => {
        $(
            pub use proto_kafka::messages::{$request_mod, $response_mod, $request, $response};
        )*

        /// The APIs in use, with Kafka's names and numbers.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(i16)]
        #[allow(missing_docs)]
        pub enum ApiKey {
            $($name = $key,)*
        }

        impl ApiKey {
            /// Every API in use, in the order of the numbers.
            pub const ALL: &'static [ApiKey] = &[$(ApiKey::$name,)*];

            /// The API with this number; `None` if we use none.
            #[must_use]
            pub const fn from_code(code: i16) -> Option<Self> {
                match code {
                    $($key => Some(ApiKey::$name),)*
                    _ => None,
                }
            }

            /// Kafka's name: `DescribeTopicPartitions`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(ApiKey::$name => stringify!($name),)*
                }
            }

            /// The versions that can be decoded and encoded, request and response.
            #[must_use]
            pub const fn versions(self) -> ApiVersionRange {
                let (request, response) = match self {
                    $(ApiKey::$name => (<$request as Message>::VERSIONS, <$response as Message>::VERSIONS),)*
                };
                ApiVersionRange {
                    api_key: self,
                    min: if request.min > response.min { request.min } else { response.min },
                    max: if request.max < response.max { request.max } else { response.max },
                }
            }

            /// Version of the request header in front of a request of `version`.
            fn request_header_version(self, version: i16) -> i16 {
                match self {
                    $(ApiKey::$name => <$request as HeaderVersion>::header_version(version),)*
                }
            }

            /// Version of the response header; ApiVersions keeps 0 for ever, so that any client can read it (KIP-511).
            pub(crate) fn response_header_version(self, version: i16) -> i16 {
                match self {
                    $(ApiKey::$name => <$response as HeaderVersion>::header_version(version),)*
                }
            }
        }

        /// A request's body.
        #[derive(Clone, PartialEq, Debug)]
        #[allow(missing_docs, clippy::large_enum_variant)]
        pub enum Request {
            $($name($request),)*
        }

        impl Request {
            /// Which API it asks.
            #[must_use]
            pub fn api_key(&self) -> ApiKey {
                match self {
                    $(Request::$name(_) => ApiKey::$name,)*
                }
            }

            fn decode(api_key: ApiKey, from: &mut Guarded, version: i16) -> Result<Self, ProtoError> {
                match api_key {
                    $(ApiKey::$name => <$request as Decodable>::decode(from, version).map(Request::$name),)*
                }
            }
        }

        /// A response's body.
        #[derive(Clone, PartialEq, Debug)]
        #[allow(missing_docs, clippy::large_enum_variant)]
        pub enum Response {
            $($name($response),)*
        }

        impl Response {
            /// Which API it answers.
            #[must_use]
            pub fn api_key(&self) -> ApiKey {
                match self {
                    $(Response::$name(_) => ApiKey::$name,)*
                }
            }

            fn decode(api_key: ApiKey, from: &mut Guarded, version: i16) -> Result<Self, ProtoError> {
                match api_key {
                    $(ApiKey::$name => <$response as Decodable>::decode(from, version).map(Response::$name),)*
                }
            }
        }

        impl codec::Body for Request {
            fn size(&self, version: i16) -> Result<usize, ProtoError> {
                match self {
                    $(Request::$name(body) => body.compute_size(version),)*
                }
            }

            fn write(&self, into: &mut bytes::BytesMut, version: i16) -> Result<(), ProtoError> {
                match self {
                    $(Request::$name(body) => body.encode(into, version),)*
                }
            }
        }

        impl codec::Body for Response {
            fn size(&self, version: i16) -> Result<usize, ProtoError> {
                match self {
                    $(Response::$name(body) => body.compute_size(version),)*
                }
            }

            fn write(&self, into: &mut bytes::BytesMut, version: i16) -> Result<(), ProtoError> {
                match self {
                    $(Response::$name(body) => body.encode(into, version),)*
                }
            }
        }
    };
}

apis! {
    Produce = 0, produce_request::ProduceRequest, produce_response::ProduceResponse;
    Fetch = 1, fetch_request::FetchRequest, fetch_response::FetchResponse;
    ListOffsets = 2, list_offsets_request::ListOffsetsRequest, list_offsets_response::ListOffsetsResponse;
    Metadata = 3, metadata_request::MetadataRequest, metadata_response::MetadataResponse;
    FindCoordinator = 10, find_coordinator_request::FindCoordinatorRequest,
        find_coordinator_response::FindCoordinatorResponse;
    ApiVersions = 18, api_versions_request::ApiVersionsRequest, api_versions_response::ApiVersionsResponse;
    CreateTopics = 19, create_topics_request::CreateTopicsRequest, create_topics_response::CreateTopicsResponse;
    DeleteTopics = 20, delete_topics_request::DeleteTopicsRequest, delete_topics_response::DeleteTopicsResponse;
    DeleteRecords = 21, delete_records_request::DeleteRecordsRequest, delete_records_response::DeleteRecordsResponse;
    InitProducerId = 22, init_producer_id_request::InitProducerIdRequest,
        init_producer_id_response::InitProducerIdResponse;
    OffsetForLeaderEpoch = 23, offset_for_leader_epoch_request::OffsetForLeaderEpochRequest,
        offset_for_leader_epoch_response::OffsetForLeaderEpochResponse;
    DescribeConfigs = 32, describe_configs_request::DescribeConfigsRequest,
        describe_configs_response::DescribeConfigsResponse;
    CreatePartitions = 37, create_partitions_request::CreatePartitionsRequest,
        create_partitions_response::CreatePartitionsResponse;
    ElectLeaders = 43, elect_leaders_request::ElectLeadersRequest, elect_leaders_response::ElectLeadersResponse;
    IncrementalAlterConfigs = 44, incremental_alter_configs_request::IncrementalAlterConfigsRequest,
        incremental_alter_configs_response::IncrementalAlterConfigsResponse;
    AlterPartitionReassignments = 45, alter_partition_reassignments_request::AlterPartitionReassignmentsRequest,
        alter_partition_reassignments_response::AlterPartitionReassignmentsResponse;
    ListPartitionReassignments = 46, list_partition_reassignments_request::ListPartitionReassignmentsRequest,
        list_partition_reassignments_response::ListPartitionReassignmentsResponse;
    Vote = 52, vote_request::VoteRequest, vote_response::VoteResponse;
    BeginQuorumEpoch = 53, begin_quorum_epoch_request::BeginQuorumEpochRequest,
        begin_quorum_epoch_response::BeginQuorumEpochResponse;
    EndQuorumEpoch = 54, end_quorum_epoch_request::EndQuorumEpochRequest,
        end_quorum_epoch_response::EndQuorumEpochResponse;
    DescribeQuorum = 55, describe_quorum_request::DescribeQuorumRequest,
        describe_quorum_response::DescribeQuorumResponse;
    AlterPartition = 56, alter_partition_request::AlterPartitionRequest,
        alter_partition_response::AlterPartitionResponse;
    Envelope = 58, envelope_request::EnvelopeRequest, envelope_response::EnvelopeResponse;
    FetchSnapshot = 59, fetch_snapshot_request::FetchSnapshotRequest, fetch_snapshot_response::FetchSnapshotResponse;
    DescribeCluster = 60, describe_cluster_request::DescribeClusterRequest,
        describe_cluster_response::DescribeClusterResponse;
    BrokerRegistration = 62, broker_registration_request::BrokerRegistrationRequest,
        broker_registration_response::BrokerRegistrationResponse;
    BrokerHeartbeat = 63, broker_heartbeat_request::BrokerHeartbeatRequest,
        broker_heartbeat_response::BrokerHeartbeatResponse;
    UnregisterBroker = 64, unregister_broker_request::UnregisterBrokerRequest,
        unregister_broker_response::UnregisterBrokerResponse;
    AllocateProducerIds = 67, allocate_producer_ids_request::AllocateProducerIdsRequest,
        allocate_producer_ids_response::AllocateProducerIdsResponse;
    ControllerRegistration = 70, controller_registration_request::ControllerRegistrationRequest,
        controller_registration_response::ControllerRegistrationResponse;
    DescribeTopicPartitions = 75, describe_topic_partitions_request::DescribeTopicPartitionsRequest,
        describe_topic_partitions_response::DescribeTopicPartitionsResponse;
}

impl ApiKey {
    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> i16 {
        self as i16
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests;
