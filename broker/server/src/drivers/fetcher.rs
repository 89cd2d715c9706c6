//! Copies records from one leader for all partitions that follow it: one fetch in flight, as in Kafka.

use super::replicas::ReplicaMessage;
use crate::net::channel::Channel;
use crate::node::Node;
use broker_core::partition::{FetchPosition, FetchResponse, FetchResult};
use broker_types::{ErrorCode, NodeId, Offset, TopicIdPartition, TopicName};
use broker_wire::messages::convert::{
    from_error_code, from_leader_epoch, from_offset, from_uuid, to_broker_epoch, to_leader_epoch, to_topic_name,
    to_uuid,
};
use broker_wire::messages::{
    BrokerId as WireBrokerId, FetchRequest, ListOffsetsRequest, fetch_request, fetch_response, list_offsets_request,
};
use broker_wire::record_batch::{RecordBatch, split_fetched_batches};
use broker_wire::{Request, Response};
use std::io;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Fetch, with topic ids and broker epochs.
const FETCH_VERSION: i16 = 17;
/// ListOffsets, with leader epochs.
const LIST_OFFSETS_VERSION: i16 = 7;

/// One round: what to ask of the leader.
pub(crate) enum Plan {
    /// Records of these partitions.
    Fetch(Vec<(TopicIdPartition, FetchPosition)>),
    /// Where the leader's log begins and ends.
    Offsets { partition: TopicIdPartition, topic: TopicName, position: FetchPosition },
}

/// One partition's answer, its batches beside it.
pub(crate) struct Fetched {
    pub(crate) partition: TopicIdPartition,
    pub(crate) asked: FetchPosition,
    pub(crate) answer: FetchedAnswer,
}

/// As [`FetchResult`], with the batches themselves.
pub(crate) enum FetchedAnswer {
    Records { batches: Vec<RecordBatch>, high_watermark: Offset, log_start: Offset },
    Other(FetchResult),
}

/// Asks `leader` one plan after the other until the driver of the replicas is gone.
pub(crate) async fn run(
    node: Arc<Node>,
    leader: NodeId,
    mut plans: mpsc::Receiver<Plan>,
    replicas: mpsc::Sender<ReplicaMessage>,
) {
    let mut channel: Option<Channel> = None;
    while let Some(plan) = plans.recv().await {
        point(&node, leader, &mut channel);
        let message = match plan {
            Plan::Fetch(positions) => {
                let answers = fetch(&node, channel.as_mut(), &positions).await;
                ReplicaMessage::Fetched { leader, answers }
            }
            Plan::Offsets { partition, topic, position } => {
                let result = leader_offsets(&node, channel.as_mut(), partition, &topic, &position).await;
                ReplicaMessage::LeaderOffsets { leader, partition, asked: position, result }
            }
        };
        if replicas.send(message).await.is_err() {
            return;
        }
    }
}

/// Makes `channel` lead to where the metadata says that the leader listens.
fn point(node: &Node, leader: NodeId, channel: &mut Option<Channel>) {
    let image = node.metadata.borrow();
    let endpoint = image
        .broker(leader)
        .and_then(|broker| broker.endpoints.iter().find(|one| *one.name == *node.config.inter_broker_listener));
    let Some(endpoint) = endpoint else { return };
    if channel.as_ref().is_none_or(|channel| !channel.leads_to(&endpoint.host, endpoint.port)) {
        let name = format!("broker-{}-fetcher", node.config.node_id);
        *channel = Some(Channel::new(node.env.clone(), name, endpoint.host.to_string(), endpoint.port));
    }
}

async fn fetch(
    node: &Node,
    channel: Option<&mut Channel>,
    positions: &[(TopicIdPartition, FetchPosition)],
) -> Vec<Fetched> {
    let settings = &node.config.settings;
    let reply = match channel {
        Some(channel) => {
            let request = Request::Fetch(to_wire(node, positions));
            channel.ask(FETCH_VERSION, &request, settings.replica_socket_timeout).await
        }
        None => Err(io::ErrorKind::NotFound.into()),
    };
    let all_failed = |error: ErrorCode| {
        let failed = |(partition, asked): &(TopicIdPartition, FetchPosition)| Fetched {
            partition: *partition,
            asked: *asked,
            answer: FetchedAnswer::Other(FetchResult::Error(error)),
        };
        positions.iter().map(failed).collect()
    };
    match reply {
        Ok(Response::Fetch(body)) if body.error_code == 0 => {
            let mut answers = body.responses;
            let take = |(partition, asked): &(TopicIdPartition, FetchPosition)| {
                let found = answers
                    .iter_mut()
                    .filter(|topic| from_uuid(topic.topic_id) == partition.topic)
                    .flat_map(|topic| &mut topic.partitions)
                    .find(|one| one.partition_index == partition.partition);
                let answer = match found {
                    Some(answer) => from_wire(answer),
                    None => FetchedAnswer::Other(FetchResult::Error(ErrorCode::UnknownTopicOrPartition)),
                };
                Fetched { partition: *partition, asked: *asked, answer }
            };
            positions.iter().map(take).collect()
        }
        Ok(Response::Fetch(body)) => all_failed(from_error_code(body.error_code)),
        Ok(_) => all_failed(ErrorCode::UnknownServerError),
        Err(error) => {
            tracing::debug!(%error, "fetch from the leader failed");
            all_failed(ErrorCode::NetworkException)
        }
    }
}

fn to_wire(node: &Node, positions: &[(TopicIdPartition, FetchPosition)]) -> FetchRequest {
    let settings = &node.config.settings;
    let int = |value: i64| i32::try_from(value).unwrap_or(i32::MAX);
    let mut topics: Vec<fetch_request::FetchTopic> = Vec::new();
    for (partition, position) in positions {
        let id = to_uuid(partition.topic);
        if topics.last().is_none_or(|topic| topic.topic_id != id) {
            topics.push(fetch_request::FetchTopic::default().with_topic_id(id));
        }
        topics.last_mut().expect("just pushed").partitions.push(
            fetch_request::FetchPartition::default()
                .with_partition(partition.partition)
                .with_current_leader_epoch(position.leader_epoch.0)
                .with_fetch_offset(position.offset.0)
                .with_last_fetched_epoch(to_leader_epoch(position.last_fetched_epoch))
                .with_log_start_offset(position.log_start.0)
                .with_partition_max_bytes(int(settings.replica_fetch_max_bytes)),
        );
    }
    FetchRequest::default()
        .with_replica_state(
            fetch_request::ReplicaState::default()
                .with_replica_id(WireBrokerId(node.config.node_id.0))
                .with_replica_epoch(to_broker_epoch(*node.broker_epoch.borrow())),
        )
        .with_max_wait_ms(int(i64::try_from(settings.replica_fetch_wait_max.as_millis()).unwrap_or(500)))
        .with_min_bytes(int(settings.replica_fetch_min_bytes))
        .with_max_bytes(int(settings.replica_fetch_response_max_bytes))
        .with_session_epoch(-1)
        .with_topics(topics)
}

fn from_wire(answer: &mut fetch_response::PartitionData) -> FetchedAnswer {
    if answer.error_code != 0 {
        return FetchedAnswer::Other(FetchResult::Error(from_error_code(answer.error_code)));
    }
    if let Some(epoch) = from_leader_epoch(answer.diverging_epoch.epoch) {
        let end_offset = from_offset(answer.diverging_epoch.end_offset).unwrap_or(Offset::ZERO);
        return FetchedAnswer::Other(FetchResult::Diverging { epoch, end_offset });
    }
    match split_fetched_batches(answer.records.take().unwrap_or_default()) {
        Ok(batches) => FetchedAnswer::Records {
            batches,
            high_watermark: from_offset(answer.high_watermark).unwrap_or(Offset::ZERO),
            log_start: from_offset(answer.log_start_offset).unwrap_or(Offset::ZERO),
        },
        Err(error) => {
            tracing::warn!(%error, "batches of a fetch are refused");
            FetchedAnswer::Other(FetchResult::Error(ErrorCode::CorruptMessage))
        }
    }
}

/// The answer for the machine, the batches' bytes apart from it.
pub(crate) fn respond(asked: FetchPosition, result: FetchResult) -> FetchResponse {
    FetchResponse { asked, result }
}

async fn leader_offsets(
    node: &Node,
    channel: Option<&mut Channel>,
    partition: TopicIdPartition,
    topic: &TopicName,
    position: &FetchPosition,
) -> Result<(Offset, Offset), ErrorCode> {
    let channel = channel.ok_or(ErrorCode::NetworkException)?;
    let mut found = [Offset::ZERO; 2];
    for (timestamp, found) in [-2, -1].into_iter().zip(&mut found) {
        let body =
            ListOffsetsRequest::default().with_replica_id(WireBrokerId(node.config.node_id.0)).with_topics(vec![
                list_offsets_request::ListOffsetsTopic::default().with_name(to_topic_name(topic)).with_partitions(
                    vec![
                        list_offsets_request::ListOffsetsPartition::default()
                            .with_partition_index(partition.partition)
                            .with_current_leader_epoch(position.leader_epoch.0)
                            .with_timestamp(timestamp),
                    ],
                ),
            ]);
        let timeout = node.config.settings.request_timeout;
        let reply = channel.ask(LIST_OFFSETS_VERSION, &Request::ListOffsets(body), timeout).await;
        let Ok(Response::ListOffsets(body)) = reply else { return Err(ErrorCode::NetworkException) };
        let answer = body.topics.first().and_then(|topic| topic.partitions.first());
        let answer = answer.ok_or(ErrorCode::UnknownServerError)?;
        if answer.error_code != 0 {
            return Err(from_error_code(answer.error_code));
        }
        *found = from_offset(answer.offset).ok_or(ErrorCode::UnknownServerError)?;
    }
    Ok((found[0], found[1]))
}
