//! The data path: Produce, Fetch, ListOffsets, OffsetForLeaderEpoch, DeleteRecords.

use super::{Reply, ReplyPart, frame};
use crate::drivers::replicas::{FetchAnswer, FetchAsk, FetchItem, ReplicaMessage};
use crate::net::admission::Hold;
use crate::node::Node;
use broker_core::metadata::MetadataImage;
use broker_core::partition::{Acks, ListedBy, ProduceResult, Read};
use broker_env::SharedEnv;
use broker_types::{ErrorCode, TopicId, TopicIdPartition, TopicName};
use broker_wire::fetch_response::{self as fetched, CurrentLeader, DivergingEpoch, FetchedPartition, FetchedTopic};
use broker_wire::messages::convert::{
    from_broker_epoch, from_broker_id, from_leader_epoch, from_offset, from_optional_uuid, from_topic_name,
    to_leader_epoch, to_offset, to_topic_name,
};
use broker_wire::messages::{
    DeleteRecordsRequest, DeleteRecordsResponse, FetchRequest, ListOffsetsRequest, ListOffsetsResponse,
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, ProduceRequest, ProduceResponse,
    delete_records_response, list_offsets_response, offset_for_leader_epoch_response, produce_response,
};
use broker_wire::record_batch::{RecordBatch, split_batches};
use broker_wire::{RequestHeader, Response, Segment};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Largest decompressed batch that is looked into.
const DECOMPRESSED_MAX_BYTES: usize = 128 << 20;
/// Records up to this size are read here; larger stretches are sent from their file.
const READ_MAX_BYTES: usize = 16 << 10;
/// What one answer may so hold in memory; beyond it small stretches are sent from their file too.
const READ_TOTAL_BYTES: usize = 512 << 10;

/// A topic as a request names it: by id where its version has ids, else by name.
fn resolve(image: &MetadataImage, name: &TopicName, id: Option<TopicId>) -> Result<TopicId, ErrorCode> {
    match id {
        Some(id) => image.topic(id).map(|topic| topic.id).ok_or(ErrorCode::UnknownTopicId),
        None => image.topic_by_name(name).map(|topic| topic.id).ok_or(ErrorCode::UnknownTopicOrPartition),
    }
}

async fn tell(node: &Node, message: ReplicaMessage) -> Result<(), ErrorCode> {
    let replicas: &mpsc::Sender<ReplicaMessage> = node.replicas.as_ref().ok_or(ErrorCode::NotLeaderOrFollower)?;
    replicas.send(message).await.map_err(|_| ErrorCode::NotLeaderOrFollower)
}

fn millis(wire: i32) -> Duration {
    Duration::from_millis(u64::try_from(wire).unwrap_or(0))
}

/// How long a request may wait: as it wishes, but not beyond the time when its connection is closed anyway.
fn patience(node: &Node, wire: i32) -> Duration {
    millis(wire).min(node.config.settings.connections_max_idle)
}

/// Appends records.
pub(super) async fn produce(node: &Arc<Node>, header: &RequestHeader, mut body: ProduceRequest, hold: Hold) -> Reply {
    let acks = match body.acks {
        0 => Acks::None,
        1 => Acks::Leader,
        -1 => Acks::All,
        _ => return refuse_produce(header, &body, ErrorCode::InvalidRequiredAcks),
    };
    if body.transactional_id.is_some() {
        return refuse_produce(header, &body, ErrorCode::InvalidRequest);
    }
    let deadline = node.env.mono() + patience(node, body.timeout_ms);
    let mut items: Vec<(TopicIdPartition, RecordBatch)> = Vec::new();
    // In the order of the request: where its batch went in `items`, or why it went nowhere.
    let mut fates: Vec<Result<usize, ErrorCode>> = Vec::new();
    {
        // Not borrowed: to look into compressed records takes long, and whoever publishes metadata would wait.
        let image = node.image();
        for topic in &mut body.topic_data {
            let id = from_optional_uuid(topic.topic_id).filter(|_| header.api_version >= 13);
            let name = from_topic_name(&topic.name);
            let topic_id = resolve(&image, &name, id);
            // While the request waits for replicas, nothing of it may keep its frame in memory: neither records nor a
            // name that is a slice of it.
            topic.name = to_topic_name(&name);
            for partition in &mut topic.partition_data {
                let records = partition.records.take();
                let fate = topic_id.and_then(|topic| {
                    let batch = checked(records)?;
                    items.push((TopicIdPartition { topic, partition: partition.index }, batch));
                    Ok(items.len() - 1)
                });
                fates.push(fate);
            }
        }
    }
    let results: Vec<ProduceResult> = if items.is_empty() {
        Vec::new()
    } else {
        let (reply, answer) = oneshot::channel();
        let count = items.len();
        let lost = |error| vec![ProduceResult { error, base_offset: None, log_start: None }; count];
        match tell(node, ReplicaMessage::Produce { items, acks, deadline, reply, hold }).await {
            Ok(()) => answer.await.unwrap_or_else(|_| lost(ErrorCode::NotLeaderOrFollower)),
            Err(error) => lost(error),
        }
    };
    let outcome = |fate: &Result<usize, ErrorCode>| match fate {
        Ok(at) => results[*at],
        Err(error) => ProduceResult { error: *error, base_offset: None, log_start: None },
    };
    if acks == Acks::None {
        // Nobody reads an answer; a closed connection is the only way to say that something went wrong.
        let failed = fates.iter().any(|fate| !outcome(fate).error.is_none());
        return if failed { Reply::Close("acks-0-error") } else { Reply::Nothing };
    }
    let mut fates = fates.iter();
    let image = node.metadata.borrow().clone();
    let responses = body.topic_data.iter().map(|topic| {
        let partitions = topic.partition_data.iter().map(|partition| {
            let result = outcome(fates.next().expect("one for each partition"));
            let mut wire = produce_response::PartitionProduceResponse::default()
                .with_index(partition.index)
                .with_error_code(result.error.code())
                .with_base_offset(to_offset(result.base_offset))
                .with_log_append_time_ms(-1)
                .with_log_start_offset(to_offset(result.log_start))
                .with_error_message(None);
            if result.error == ErrorCode::NotLeaderOrFollower && header.api_version >= 10 {
                let now = resolve(&image, &from_topic_name(&topic.name), from_optional_uuid(topic.topic_id))
                    .ok()
                    .and_then(|topic| image.partition(TopicIdPartition { topic, partition: partition.index }));
                if let Some(now) = now.filter(|now| now.leader != Some(node.config.node_id)) {
                    wire.current_leader = produce_response::LeaderIdAndEpoch::default()
                        .with_leader_id(broker_wire::messages::convert::to_broker_id(now.leader))
                        .with_leader_epoch(now.leader_epoch.0);
                }
            }
            wire
        });
        produce_response::TopicProduceResponse::default()
            .with_name(topic.name.clone())
            .with_topic_id(topic.topic_id)
            .with_partition_responses(partitions.collect())
    });
    let responses = responses.collect();
    frame(header, &Response::Produce(ProduceResponse::default().with_responses(responses)))
}

fn refuse_produce(header: &RequestHeader, body: &ProduceRequest, error: ErrorCode) -> Reply {
    if body.acks == 0 {
        return Reply::Close("acks-0-error");
    }
    let responses = body.topic_data.iter().map(|topic| {
        let partitions = topic.partition_data.iter().map(|partition| {
            produce_response::PartitionProduceResponse::default()
                .with_index(partition.index)
                .with_error_code(error.code())
                .with_base_offset(-1)
                .with_log_append_time_ms(-1)
                .with_log_start_offset(-1)
        });
        produce_response::TopicProduceResponse::default()
            .with_name(topic.name.clone())
            .with_topic_id(topic.topic_id)
            .with_partition_responses(partitions.collect())
    });
    let responses = responses.collect();
    frame(header, &Response::Produce(ProduceResponse::default().with_responses(responses)))
}

/// The one batch that a producer may send to a partition in one request (KIP-98), checked.
fn checked(records: Option<Bytes>) -> Result<RecordBatch, ErrorCode> {
    let mut batches = split_batches(records.unwrap_or_default()).map_err(|error| error.code())?;
    match (batches.pop(), batches.is_empty()) {
        (Some(batch), true) => {
            batch.validate_produced().map_err(|error| error.code())?;
            batch.validate_deep(DECOMPRESSED_MAX_BYTES).map_err(|error| error.code())?;
            Ok(batch)
        }
        _ => Err(ErrorCode::InvalidRecord),
    }
}

/// Reads records, for a consumer or a follower.
pub(super) async fn fetch(node: &Arc<Node>, header: &RequestHeader, body: FetchRequest, hold: Hold) -> Reply {
    let version = header.api_version;
    let replica_id = if version >= 15 { body.replica_state.replica_id } else { body.replica_id };
    let replica = from_broker_id(replica_id).map(|id| (id, from_broker_epoch(body.replica_state.replica_epoch)));
    let mut topics: Vec<FetchedTopic<RecordSlot>> = Vec::new();
    let mut items = Vec::new();
    let mut asked = BTreeSet::new();
    {
        let image = node.metadata.borrow();
        for topic in &body.topics {
            let id = from_optional_uuid(topic.topic_id).filter(|_| version >= 13);
            let name = from_topic_name(&topic.topic);
            let found =
                if version >= 13 && id.is_none() { Err(ErrorCode::UnknownTopicId) } else { resolve(&image, &name, id) };
            let place = topics.len();
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for partition in &topic.partitions {
                let error = match found {
                    // Who asks for the same again and again would have it read again for each record that comes.
                    Ok(topic) if !asked.insert((topic, partition.partition)) => ErrorCode::InvalidRequest,
                    Ok(topic) => {
                        items.push((
                            place,
                            partitions.len(),
                            FetchItem {
                                partition: TopicIdPartition { topic, partition: partition.partition },
                                offset: from_offset(partition.fetch_offset),
                                current_leader_epoch: from_leader_epoch(partition.current_leader_epoch),
                                last_fetched_epoch: from_leader_epoch(partition.last_fetched_epoch),
                                log_start: from_offset(partition.log_start_offset),
                                max_bytes: usize::try_from(partition.partition_max_bytes).unwrap_or(0),
                            },
                        ));
                        ErrorCode::UnknownServerError
                    }
                    Err(error) => error,
                };
                partitions.push(FetchedPartition::failed(partition.partition, error));
            }
            topics.push(FetchedTopic { name, id: id.unwrap_or_default(), partitions });
        }
    }
    let read_committed = body.isolation_level == 1;
    if !items.is_empty() {
        let max_bytes = usize::try_from(
            body.max_bytes.min(i32::try_from(node.config.settings.fetch_max_bytes).unwrap_or(i32::MAX)),
        );
        let (reply, answer) = oneshot::channel();
        let ask = FetchAsk {
            replica,
            read_committed,
            min_bytes: usize::try_from(body.min_bytes).unwrap_or(0),
            max_bytes: max_bytes.unwrap_or(0),
            deadline: node.env.mono() + patience(node, body.max_wait_ms),
            items: items.iter().map(|(_, _, item)| *item).collect(),
        };
        // Its wait may be long.
        drop((body, asked));
        let answers = match tell(node, ReplicaMessage::Fetch { ask, reply, hold }).await {
            Ok(()) => answer.await.map_err(|_| ErrorCode::NotLeaderOrFollower),
            Err(error) => Err(error),
        };
        let mut answers = answers.map(Vec::into_iter);
        for (topic, partition, item) in &items {
            let slot = &mut topics[*topic].partitions[*partition];
            *slot = match &mut answers {
                Ok(answers) => {
                    let answer = answers.next().expect("one for each item");
                    answered(node, version, read_committed, item, answer).await
                }
                Err(error) => FetchedPartition::failed(slot.index, *error),
            };
        }
    }
    let response = fetched::FetchResponse {
        throttle_time_ms: 0,
        error: ErrorCode::None,
        session_id: 0,
        topics,
        node_endpoints: Vec::new(),
    };
    let segments = match fetched::encode(version, header.correlation_id, response) {
        Ok(segments) => segments,
        Err(error) => {
            tracing::error!(%error, "our own answer cannot be said");
            return Reply::Close("unencodable-answer");
        }
    };
    match parts(&node.env, segments).await {
        Ok(parts) => Reply::Parts(parts),
        Err(error) => {
            tracing::error!(%error, "records of an answer cannot be read");
            Reply::Close("read-error")
        }
    }
}

/// Where one partition's records of an answer lie.
type RecordSlot = Vec<crate::storage::FileSlice>;

async fn answered(
    node: &Node,
    version: i16,
    read_committed: bool,
    item: &FetchItem,
    answer: FetchAnswer,
) -> FetchedPartition<RecordSlot> {
    let index = item.partition.partition;
    let mut wire = FetchedPartition::failed(index, ErrorCode::None);
    if read_committed {
        wire.aborted_transactions = Some(Vec::new());
    }
    match &answer.read {
        Ok(Read::Records { ends, log_start, .. }) => {
            wire.high_watermark = Some(ends.high_watermark);
            wire.last_stable_offset = Some(ends.last_stable_offset);
            wire.log_start = Some(*log_start);
            match answer.data.found().await {
                Ok(slices) => {
                    let size = slices.iter().map(|slice| slice.len).sum();
                    wire.records = Some(fetched::Records { size, slot: slices });
                }
                Err(error) => return FetchedPartition::failed(index, error.code()),
            }
        }
        Ok(Read::Diverging { epoch, end_offset, ends, log_start }) => {
            wire.high_watermark = Some(ends.high_watermark);
            wire.last_stable_offset = Some(ends.last_stable_offset);
            wire.log_start = Some(*log_start);
            wire.diverging = Some(DivergingEpoch { epoch: *epoch, end_offset: *end_offset });
        }
        Err(error) => {
            wire.error = *error;
            let stale = matches!(error, ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch);
            if stale && version >= 12 {
                let image = node.metadata.borrow();
                if let Some(now) = image.partition(item.partition) {
                    wire.current_leader = CurrentLeader { id: now.leader, epoch: Some(now.leader_epoch) };
                }
            }
        }
    }
    wire
}

/// Small stretches are read, large ones left to be sent from their files.
async fn parts(env: &SharedEnv, segments: Vec<Segment<RecordSlot>>) -> std::io::Result<Vec<ReplyPart>> {
    let _ = env;
    let mut parts = Vec::with_capacity(segments.len());
    let mut held = 0;
    for segment in segments {
        match segment {
            Segment::Bytes(bytes) => parts.push(ReplyPart::Bytes(bytes)),
            Segment::Records(slices) => {
                for slice in slices {
                    if slice.len <= READ_MAX_BYTES && held + slice.len <= READ_TOTAL_BYTES {
                        held += slice.len;
                        let bytes = slice.file.read_at(slice.position, slice.len).await?;
                        if bytes.len() < slice.len {
                            return Err(std::io::ErrorKind::UnexpectedEof.into());
                        }
                        parts.push(ReplyPart::Bytes(bytes));
                    } else {
                        parts.push(ReplyPart::File { file: slice.file, position: slice.position, len: slice.len });
                    }
                }
            }
        }
    }
    Ok(parts)
}

/// The special timestamps of ListOffsets.
pub(crate) mod timestamp {
    /// The log end, for the reader's isolation level.
    pub(crate) const LATEST: i64 = -1;
    /// The log start.
    pub(crate) const EARLIEST: i64 = -2;
    /// The offset of the largest timestamp (KIP-734).
    pub(crate) const MAX: i64 = -3;
    /// The log start on this broker (KIP-405); the same without tiered storage.
    pub(crate) const EARLIEST_LOCAL: i64 = -4;
}

/// Offsets by timestamp.
pub(super) async fn list_offsets(node: &Arc<Node>, version: i16, body: ListOffsetsRequest) -> Response {
    let by = match from_broker_id(body.replica_id) {
        Some(_) => ListedBy::Replica,
        None => ListedBy::Client { read_committed: body.isolation_level == 1 },
    };
    let image = node.image();
    let mut topics = Vec::new();
    for topic in &body.topics {
        let id = resolve(&image, &from_topic_name(&topic.name), None);
        let mut partitions = Vec::new();
        for asked in &topic.partitions {
            let listed = match id {
                Ok(topic) => {
                    let (reply, answer) = oneshot::channel();
                    let message = ReplicaMessage::ListOffsets {
                        partition: TopicIdPartition { topic, partition: asked.partition_index },
                        timestamp: asked.timestamp,
                        by,
                        current_leader_epoch: from_leader_epoch(asked.current_leader_epoch),
                        reply,
                    };
                    match tell(node, message).await {
                        Ok(()) => answer.await.unwrap_or(Err(ErrorCode::NotLeaderOrFollower)),
                        Err(error) => Err(error),
                    }
                }
                Err(error) => Err(error),
            };
            let wire = list_offsets_response::ListOffsetsPartitionResponse::default()
                .with_partition_index(asked.partition_index)
                .with_timestamp(-1)
                .with_offset(-1)
                .with_leader_epoch(-1);
            partitions.push(match listed {
                Ok(Some(found)) => wire
                    .with_timestamp(found.timestamp.unwrap_or(-1))
                    .with_offset(found.offset.0)
                    .with_leader_epoch(if version >= 4 { to_leader_epoch(found.leader_epoch) } else { -1 }),
                Ok(None) => wire,
                Err(error) => wire.with_error_code(error.code()),
            });
        }
        topics.push(
            list_offsets_response::ListOffsetsTopicResponse::default()
                .with_name(topic.name.clone())
                .with_partitions(partitions),
        );
    }
    Response::ListOffsets(ListOffsetsResponse::default().with_topics(topics))
}

/// Where an epoch ends (KIP-101, KIP-320).
pub(super) async fn offset_for_leader_epoch(node: &Arc<Node>, body: OffsetForLeaderEpochRequest) -> Response {
    let image = node.image();
    let mut topics = Vec::new();
    for topic in &body.topics {
        let id = resolve(&image, &from_topic_name(&topic.topic), None);
        let mut partitions = Vec::new();
        for asked in &topic.partitions {
            let found = match id {
                Ok(topic) => {
                    let (reply, answer) = oneshot::channel();
                    let message = ReplicaMessage::EndOfEpoch {
                        partition: TopicIdPartition { topic, partition: asked.partition },
                        epoch: from_leader_epoch(asked.leader_epoch),
                        current_leader_epoch: from_leader_epoch(asked.current_leader_epoch),
                        reply,
                    };
                    match tell(node, message).await {
                        Ok(()) => answer.await.unwrap_or(Err(ErrorCode::NotLeaderOrFollower)),
                        Err(error) => Err(error),
                    }
                }
                Err(error) => Err(error),
            };
            let wire = offset_for_leader_epoch_response::EpochEndOffset::default()
                .with_partition(asked.partition)
                .with_leader_epoch(-1)
                .with_end_offset(-1);
            partitions.push(match found {
                Ok(Some(end)) => wire.with_leader_epoch(end.epoch.0).with_end_offset(end.offset.0),
                Ok(None) => wire,
                Err(error) => wire.with_error_code(error.code()),
            });
        }
        topics.push(
            offset_for_leader_epoch_response::OffsetForLeaderTopicResult::default()
                .with_topic(topic.topic.clone())
                .with_partitions(partitions),
        );
    }
    Response::OffsetForLeaderEpoch(OffsetForLeaderEpochResponse::default().with_topics(topics))
}

/// Moves the log start up; answered when every replica's is (Kafka waits for that in purgatory, we answer the leader's).
pub(super) async fn delete_records(node: &Arc<Node>, body: DeleteRecordsRequest) -> Response {
    let image = node.image();
    let mut topics = Vec::new();
    for topic in &body.topics {
        let id = resolve(&image, &from_topic_name(&topic.name), None);
        let mut partitions = Vec::new();
        for asked in &topic.partitions {
            let low = match id {
                Ok(topic) => {
                    let (reply, answer) = oneshot::channel();
                    let message = ReplicaMessage::DeleteRecords {
                        partition: TopicIdPartition { topic, partition: asked.partition_index },
                        // -1 means: up to the high watermark.
                        before: from_offset(asked.offset),
                        reply,
                    };
                    match tell(node, message).await {
                        Ok(()) => answer.await.unwrap_or(Err(ErrorCode::NotLeaderOrFollower)),
                        Err(error) => Err(error),
                    }
                }
                Err(error) => Err(error),
            };
            let wire = delete_records_response::DeleteRecordsPartitionResult::default()
                .with_partition_index(asked.partition_index);
            partitions.push(match low {
                Ok(low) => wire.with_low_watermark(low.0),
                Err(error) => wire.with_low_watermark(-1).with_error_code(error.code()),
            });
        }
        topics.push(
            delete_records_response::DeleteRecordsTopicResult::default()
                .with_name(topic.name.clone())
                .with_partitions(partitions),
        );
    }
    Response::DeleteRecords(DeleteRecordsResponse::default().with_topics(topics))
}
