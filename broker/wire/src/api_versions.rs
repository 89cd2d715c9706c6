//! Which APIs at which versions a listener serves, and how ApiVersions says so (KIP-35, KIP-511).
//!
//! The versions are Kafka's of 4.3, after KIP-896, where the codec has them: ListOffsets stops at 10 (Kafka: 11) and
//! BrokerHeartbeat at 1 (Kafka: 2). A golden pins the tables: a change of what we serve is a change that someone reads.

use crate::WireError;
use crate::messages::api_versions_response::ApiVersion;
use crate::messages::{ApiKey, ApiVersionsResponse, Response, encode_response};
use broker_types::ErrorCode;
use bytes::Bytes;

/// Who talks there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Listener {
    /// Clients and other brokers.
    Broker,
    /// The quorum: controllers, and brokers as its observers and petitioners.
    Controller,
}

/// One API's versions, both ends inclusive.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ApiVersionRange {
    /// The API.
    pub api_key: ApiKey,
    /// Lowest version.
    pub min: i16,
    /// Highest version.
    pub max: i16,
}

impl ApiVersionRange {
    /// Whether `version` is in the range.
    #[must_use]
    pub fn contains(&self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }
}

const fn all_versions(api_key: ApiKey) -> ApiVersionRange {
    api_key.versions()
}

/// What a broker listener advertises, by key.
///
/// No key of the group coordinator is in it until groups work. FindCoordinator is one of them; until it comes librdkafka,
/// which takes that key as the mark of a broker that reads LZ4, sends batches uncompressed instead.
const BROKER: [ApiVersionRange; 15] = [
    // Kafka advertises Produce from 0 although it refuses 0 to 2: old librdkafka finds out about compression codecs and
    // the message format by whether its own range and this one overlap (KAFKA-18659).
    ApiVersionRange { api_key: ApiKey::Produce, min: 0, max: ApiKey::Produce.versions().max },
    all_versions(ApiKey::Fetch),
    all_versions(ApiKey::ListOffsets),
    all_versions(ApiKey::Metadata),
    all_versions(ApiKey::ApiVersions),
    all_versions(ApiKey::CreateTopics),
    all_versions(ApiKey::DeleteTopics),
    all_versions(ApiKey::DeleteRecords),
    all_versions(ApiKey::InitProducerId),
    all_versions(ApiKey::OffsetForLeaderEpoch),
    all_versions(ApiKey::DescribeConfigs),
    all_versions(ApiKey::CreatePartitions),
    all_versions(ApiKey::DescribeQuorum),
    all_versions(ApiKey::DescribeCluster),
    all_versions(ApiKey::DescribeTopicPartitions),
];

/// What a controller listener advertises, by key.
const CONTROLLER: [ApiVersionRange; 22] = [
    all_versions(ApiKey::Fetch),
    all_versions(ApiKey::ApiVersions),
    all_versions(ApiKey::CreateTopics),
    all_versions(ApiKey::DeleteTopics),
    all_versions(ApiKey::DescribeConfigs),
    all_versions(ApiKey::CreatePartitions),
    all_versions(ApiKey::ElectLeaders),
    all_versions(ApiKey::IncrementalAlterConfigs),
    all_versions(ApiKey::AlterPartitionReassignments),
    all_versions(ApiKey::ListPartitionReassignments),
    all_versions(ApiKey::Vote),
    all_versions(ApiKey::BeginQuorumEpoch),
    all_versions(ApiKey::EndQuorumEpoch),
    all_versions(ApiKey::DescribeQuorum),
    all_versions(ApiKey::AlterPartition),
    all_versions(ApiKey::Envelope),
    all_versions(ApiKey::FetchSnapshot),
    all_versions(ApiKey::DescribeCluster),
    all_versions(ApiKey::BrokerRegistration),
    all_versions(ApiKey::BrokerHeartbeat),
    all_versions(ApiKey::UnregisterBroker),
    all_versions(ApiKey::AllocateProducerIds),
];

/// What `listener` advertises, in the order of the keys. A request within these ranges is decoded, except Produce below
/// its codec's minimum, which is refused as an unsupported version.
#[must_use]
pub fn supported_versions(listener: Listener) -> &'static [ApiVersionRange] {
    match listener {
        Listener::Broker => &BROKER,
        Listener::Controller => &CONTROLLER,
    }
}

/// Whether `listener` serves `api_key` at all.
#[must_use]
pub fn is_served(listener: Listener, api_key: ApiKey) -> bool {
    supported_versions(listener).binary_search_by_key(&api_key, |range| range.api_key).is_ok()
}

/// The highest version that we and a peer both speak, given the peer's ApiVersions response; `None` if there is none.
#[must_use]
pub fn highest_common_version(api_key: ApiKey, peer: &ApiVersionsResponse) -> Option<i16> {
    let theirs = peer.api_keys.iter().find(|theirs| theirs.api_key == api_key.code())?;
    let ours = api_key.versions();
    let version = ours.max.min(theirs.max_version);
    (version >= ours.min && version >= theirs.min_version).then_some(version)
}

/// The body of an ApiVersions response of `listener`, without features: those are the caller's to add.
#[must_use]
pub fn response(listener: Listener) -> ApiVersionsResponse {
    let entries = supported_versions(listener).iter().map(|range| entry(*range));
    ApiVersionsResponse::default().with_api_keys(entries.collect())
}

fn entry(range: ApiVersionRange) -> ApiVersion {
    ApiVersion::default().with_api_key(range.api_key.code()).with_min_version(range.min).with_max_version(range.max)
}

/// The answer to an ApiVersions request of a version that we lack: body and header of version 0, error 35, and the range
/// of ApiVersions itself, from which the client learns what to ask (KIP-511). A whole frame, length prefix included.
///
/// # Errors
/// None: the response is constant.
pub fn encode_unsupported_version(correlation_id: i32) -> Result<Bytes, WireError> {
    let body = ApiVersionsResponse::default()
        .with_error_code(ErrorCode::UnsupportedVersion.code())
        .with_api_keys(vec![entry(ApiKey::ApiVersions.versions())]);
    encode_response(0, correlation_id, &Response::ApiVersions(body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::{Request, decode_request, decode_response, encode_request};

    fn table(listener: Listener) -> String {
        let line = |range: &ApiVersionRange| {
            format!("{:>2} {} {}-{}\n", range.api_key.code(), range.api_key, range.min, range.max)
        };
        supported_versions(listener).iter().map(line).collect()
    }

    #[test]
    fn what_each_listener_advertises_is_what_was_reviewed() {
        insta::assert_snapshot!("broker_listener", table(Listener::Broker));
        insta::assert_snapshot!("controller_listener", table(Listener::Controller));
    }

    #[test]
    fn the_tables_are_sorted_by_key_and_hold_none_twice() {
        for listener in [Listener::Broker, Listener::Controller] {
            assert!(supported_versions(listener).is_sorted_by(|a, b| a.api_key < b.api_key));
            assert!(supported_versions(listener).iter().all(|range| is_served(listener, range.api_key)));
        }
        assert!(!is_served(Listener::Broker, ApiKey::Vote));
        assert!(!is_served(Listener::Controller, ApiKey::Produce));
    }

    #[test]
    fn no_coordinator_key_is_advertised() {
        assert!(!is_served(Listener::Broker, ApiKey::FindCoordinator));
    }

    #[test]
    fn an_api_versions_request_from_the_future_is_answered_in_version_0_with_our_range() {
        let ask = encode_request(4, 77, None, &Request::ApiVersions(Default::default())).unwrap();
        let mut frame = ask.slice(4..).to_vec();
        for version in [5, 6, i16::MAX, -1] {
            frame[2..4].copy_from_slice(&i16::to_be_bytes(version));
            let error = decode_request(Listener::Broker, frame.clone().into()).unwrap_err();
            assert_eq!(error.api_versions_fallback(), Some(77), "{version}");
        }
        let answer = encode_unsupported_version(77).unwrap();
        assert_eq!(&answer[..10], [0, 0, 0, 16, 0, 0, 0, 77, 0, 35]);
        let (id, Response::ApiVersions(body)) = decode_response(ApiKey::ApiVersions, 0, answer.slice(4..)).unwrap()
        else {
            panic!("another response")
        };
        assert_eq!((id, body.error_code, body.api_keys.len()), (77, 35, 1));
        assert_eq!(highest_common_version(ApiKey::ApiVersions, &body), Some(4));
    }

    #[test]
    fn the_highest_common_version_needs_an_overlap() {
        let peer = |min, max| {
            let theirs = ApiVersion::default().with_api_key(1).with_min_version(min).with_max_version(max);
            ApiVersionsResponse::default().with_api_keys(vec![theirs])
        };
        assert_eq!(highest_common_version(ApiKey::Fetch, &peer(0, 11)), Some(11));
        assert_eq!(highest_common_version(ApiKey::Fetch, &peer(4, 99)), Some(18));
        assert_eq!(highest_common_version(ApiKey::Fetch, &peer(0, 3)), None);
        assert_eq!(highest_common_version(ApiKey::Fetch, &peer(19, 20)), None);
        assert_eq!(highest_common_version(ApiKey::Produce, &peer(0, 20)), None);
    }
}
