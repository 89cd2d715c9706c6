//! The Fetch response, written around records that stay where they are.
//!
//! A broker answers a fetch from its segment files. The codec crate would copy every record into one buffer first; here
//! the caller says how many bytes come where, and gets back the stretches of a frame: our bytes, a slot for records, our
//! bytes again. The slots may be file ranges for sendfile or slices of the page cache.
//!
//! Layout as Kafka's FetchResponse, versions 4 to 18: flexible from 12 (KIP-482), topic ids from 13 (KIP-516), endpoints
//! of current leaders from 16 (KIP-951). The bytes equal the codec's for the same response.

use crate::error::WireError;
use crate::messages::codec::{check_version, frame_length};
use crate::messages::convert;
use crate::messages::{ApiKey, StrBytes};
use crate::spliced::{PutKafka, Segment, Spliced, uvarint_size};
use broker_types::{BrokerId, ErrorCode, LeaderEpoch, Offset, OffsetAndEpoch, ProducerId, TopicId, TopicName};
use bytes::{BufMut, BytesMut};

/// A Fetch response whose records are slots of type `S`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchResponse<S> {
    /// How long the client is asked to wait, milliseconds.
    pub throttle_time_ms: i32,
    /// The error of the whole fetch, from version 7; earlier versions leave it out.
    pub error: ErrorCode,
    /// The fetch session, 0 for none (KIP-227). Must be 0 before version 7.
    pub session_id: i32,
    /// The topics.
    pub topics: Vec<FetchedTopic<S>>,
    /// Where the leaders named in the partitions listen: a hint, which versions before 16 leave out.
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// One topic of a Fetch response.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchedTopic<S> {
    /// Its name: what versions up to 12 say.
    pub name: TopicName,
    /// Its id: what versions from 13 say.
    pub id: TopicId,
    /// The partitions.
    pub partitions: Vec<FetchedPartition<S>>,
}

/// One partition of a Fetch response.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchedPartition<S> {
    /// Partition index.
    pub index: i32,
    /// The partition's error.
    pub error: ErrorCode,
    /// High watermark, exclusive.
    pub high_watermark: Option<Offset>,
    /// Last stable offset, exclusive (KIP-98).
    pub last_stable_offset: Option<Offset>,
    /// First offset kept, from version 5.
    pub log_start: Option<Offset>,
    /// Where the fetcher's log and the leader's part, from version 12 (KIP-595); must be `None` before.
    pub diverging: Option<DivergingEpoch>,
    /// Who leads now: a hint, which versions before 12 leave out.
    pub current_leader: CurrentLeader,
    /// The snapshot to fetch instead, from version 12 (KIP-630); must be `None` before.
    pub snapshot: Option<OffsetAndEpoch>,
    /// Transactions aborted in this range; `None` for a fetch that reads uncommitted.
    pub aborted_transactions: Option<Vec<AbortedTransaction>>,
    /// The replica to fetch from instead, from version 11 (KIP-392); must be `None` before.
    pub preferred_read_replica: Option<BrokerId>,
    /// The records. No records are written as an empty set and not as null, as Kafka's brokers do.
    pub records: Option<Records<S>>,
}

impl<S> FetchedPartition<S> {
    /// A partition that answers with `error` and nothing else.
    #[must_use]
    pub fn failed(index: i32, error: ErrorCode) -> Self {
        FetchedPartition {
            index,
            error,
            high_watermark: None,
            last_stable_offset: None,
            log_start: None,
            diverging: None,
            current_leader: CurrentLeader::default(),
            snapshot: None,
            aborted_transactions: None,
            preferred_read_replica: None,
            records: None,
        }
    }
}

/// The largest epoch that both logs share, and where it ends for the leader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DivergingEpoch {
    /// The epoch.
    pub epoch: LeaderEpoch,
    /// Its end offset, exclusive.
    pub end_offset: Offset,
}

/// What the answering broker knows of a partition's leadership.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CurrentLeader {
    /// The leader.
    pub id: Option<BrokerId>,
    /// The latest epoch it knows.
    pub epoch: Option<LeaderEpoch>,
}

/// A transaction that was aborted (KIP-98).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AbortedTransaction {
    /// The producer.
    pub producer_id: ProducerId,
    /// The transaction's first offset in the partition.
    pub first_offset: Offset,
}

/// Where a node listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeEndpoint {
    /// The node.
    pub id: BrokerId,
    /// Its host.
    pub host: StrBytes,
    /// Its port.
    pub port: i32,
    /// Its rack.
    pub rack: Option<StrBytes>,
}

/// Records of a partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Records<S> {
    /// How many bytes the slot will send: exactly.
    pub size: usize,
    /// Where the caller keeps them.
    pub slot: S,
}

/// Writes `response` as a whole frame, length prefix included: segments to be sent in this order. Slots of no bytes are
/// left out. One allocation holds all that is not records.
///
/// # Errors
/// [`WireError::UnsupportedVersion`]; [`WireError::Unencodable`] for a field that the version lacks, a name above 32,767
/// bytes, or a frame above 2 GiB.
pub fn encode<S>(
    api_version: i16,
    correlation_id: i32,
    response: FetchResponse<S>,
) -> Result<Vec<Segment<S>>, WireError> {
    check_version(ApiKey::Fetch, api_version)?;
    let flexible = api_version >= 12;
    check_fields(&response, api_version)?;
    let mut frame = Spliced::frame(estimate(&response));
    let out = frame.out();
    out.put_i32(correlation_id);
    if ApiKey::Fetch.response_header_version(api_version) >= 1 {
        out.put_uvarint(0);
    }
    out.put_i32(response.throttle_time_ms);
    if api_version >= 7 {
        out.put_i16(response.error.code());
        out.put_i32(response.session_id);
    }
    out.put_array_len(response.topics.len(), flexible);
    for topic in response.topics {
        let out = frame.out();
        if api_version >= 13 {
            out.put_u128(topic.id.0);
        } else {
            out.put_string(Some(topic.name.as_str()), flexible);
        }
        out.put_array_len(topic.partitions.len(), flexible);
        for partition in topic.partitions {
            put_partition(&mut frame, partition, api_version);
        }
        if flexible {
            frame.out().put_uvarint(0);
        }
    }
    if flexible {
        let endpoints = if api_version >= 16 { &response.node_endpoints[..] } else { &[] };
        put_endpoints(frame.out(), endpoints);
    }
    let prefix = frame_length(ApiKey::Fetch, api_version, frame.frame_size())?;
    Ok(frame.finish(prefix))
}

fn put_partition<S>(frame: &mut Spliced<S>, partition: FetchedPartition<S>, api_version: i16) {
    let flexible = api_version >= 12;
    let out = frame.out();
    out.put_i32(partition.index);
    out.put_i16(partition.error.code());
    out.put_i64(convert::to_offset(partition.high_watermark));
    out.put_i64(convert::to_offset(partition.last_stable_offset));
    if api_version >= 5 {
        out.put_i64(convert::to_offset(partition.log_start));
    }
    match &partition.aborted_transactions {
        None if flexible => out.put_uvarint(0),
        None => out.put_i32(-1),
        Some(aborted) => {
            out.put_array_len(aborted.len(), flexible);
            for transaction in aborted {
                out.put_i64(transaction.producer_id.0);
                out.put_i64(transaction.first_offset.0);
                if flexible {
                    out.put_uvarint(0);
                }
            }
        }
    }
    if api_version >= 11 {
        out.put_i32(partition.preferred_read_replica.map_or(-1, |id| id.0));
    }
    let tags = Tags {
        diverging: partition.diverging,
        current_leader: Some(partition.current_leader).filter(|leader| *leader != CurrentLeader::default()),
        snapshot: partition.snapshot,
    };
    out.put_records_len(Some(partition.records.as_ref().map_or(0, |records| records.size)), flexible);
    if let Some(records) = partition.records {
        frame.records(records.size, records.slot);
    }
    if flexible {
        tags.put(frame.out());
    }
}

/// The tagged fields of a partition. Each is a struct of fixed size with an empty tag section of its own.
struct Tags {
    diverging: Option<DivergingEpoch>,
    current_leader: Option<CurrentLeader>,
    snapshot: Option<OffsetAndEpoch>,
}

impl Tags {
    fn put(&self, out: &mut BytesMut) {
        let count = [self.diverging.is_some(), self.current_leader.is_some(), self.snapshot.is_some()];
        out.put_uvarint(count.into_iter().map(u32::from).sum());
        if let Some(diverging) = self.diverging {
            out.put_slice(&[0, 13]);
            out.put_i32(diverging.epoch.0);
            out.put_i64(diverging.end_offset.0);
            out.put_uvarint(0);
        }
        if let Some(leader) = self.current_leader {
            out.put_slice(&[1, 9]);
            out.put_i32(leader.id.map_or(-1, |id| id.0));
            out.put_i32(convert::to_leader_epoch(leader.epoch));
            out.put_uvarint(0);
        }
        if let Some(snapshot) = self.snapshot {
            out.put_slice(&[2, 13]);
            out.put_i64(snapshot.offset.0);
            out.put_i32(snapshot.epoch.0);
            out.put_uvarint(0);
        }
    }
}

/// The response's own tag section.
fn put_endpoints(out: &mut BytesMut, endpoints: &[NodeEndpoint]) {
    if endpoints.is_empty() {
        out.put_uvarint(0);
        return;
    }
    let text_size = |text: &str| uvarint_size(text.len() as u32 + 1) + text.len();
    let size: usize = endpoints
        .iter()
        .map(|endpoint| 4 + text_size(&endpoint.host) + 4 + endpoint.rack.as_deref().map_or(1, text_size) + 1)
        .sum();
    let count = endpoints.len() as u32 + 1;
    out.put_uvarint(1);
    out.put_uvarint(0);
    out.put_uvarint((uvarint_size(count) + size) as u32);
    out.put_uvarint(count);
    for endpoint in endpoints {
        out.put_i32(endpoint.id.0);
        out.put_string(Some(&endpoint.host), true);
        out.put_i32(endpoint.port);
        out.put_string(endpoint.rack.as_deref(), true);
        out.put_uvarint(0);
    }
}

/// Refuses what must not be left out where the version has no place for it, and strings too long for any.
fn check_fields<S>(response: &FetchResponse<S>, api_version: i16) -> Result<(), WireError> {
    let refuse = |detail: String| Err(WireError::Unencodable { api_key: ApiKey::Fetch, api_version, detail });
    if api_version < 7 && response.session_id != 0 {
        return refuse("session id".to_owned());
    }
    let too_long = |text: &str| text.len() > i16::MAX as usize;
    for endpoint in response.node_endpoints.iter().filter(|_| api_version >= 16) {
        if too_long(&endpoint.host) || endpoint.rack.as_deref().is_some_and(too_long) {
            return refuse(format!("the endpoint of node {}", endpoint.id));
        }
    }
    for topic in &response.topics {
        if api_version < 13 && too_long(topic.name.as_str()) {
            return refuse(format!("a topic name of {} bytes", topic.name.as_str().len()));
        }
        for partition in &topic.partitions {
            // Without them the fetcher would take the answer for "nothing new" and never truncate, never load.
            if api_version < 12 && (partition.diverging.is_some() || partition.snapshot.is_some()) {
                return refuse(format!("the diverging epoch or snapshot of {}-{}", topic.name, partition.index));
            }
            if api_version < 11 && partition.preferred_read_replica.is_some() {
                return refuse(format!("the preferred read replica of {}-{}", topic.name, partition.index));
            }
        }
    }
    Ok(())
}

/// At least the bytes that are not records, so that the buffer is allocated once.
fn estimate<S>(response: &FetchResponse<S>) -> usize {
    let partition = |partition: &FetchedPartition<S>| {
        64 + 15 + 11 + 15 + 17 * partition.aborted_transactions.as_ref().map_or(0, Vec::len)
    };
    let topic = |topic: &FetchedTopic<S>| {
        16 + 8 + topic.name.as_str().len() + topic.partitions.iter().map(partition).sum::<usize>()
    };
    let endpoint =
        |endpoint: &NodeEndpoint| 19 + endpoint.host.len() + endpoint.rack.as_ref().map_or(0, |rack| rack.len());
    48 + response.topics.iter().map(topic).sum::<usize>() + response.node_endpoints.iter().map(endpoint).sum::<usize>()
}

#[cfg(test)]
mod tests;
