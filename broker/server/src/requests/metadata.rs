//! What clients ask about the cluster: Metadata, DescribeCluster, DescribeTopicPartitions.

use crate::node::{ListenerKind, Node};
use broker_core::metadata::{BrokerRegistration, MetadataImage, PartitionRegistration, TopicImage};
use broker_types::{BrokerId, ErrorCode, TopicId, TopicName};
use broker_wire::messages::convert::{
    from_optional_uuid, from_topic_name, text, to_broker_id, to_broker_ids, to_topic_name, to_uuid,
};
use broker_wire::messages::{
    CreateTopicsRequest, DescribeClusterRequest, DescribeClusterResponse, DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsResponse, MetadataRequest, MetadataResponse, create_topics_request,
    describe_cluster_response, describe_topic_partitions_response, metadata_response,
};
use broker_wire::{Request, RequestHeader, Response};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Authorized operations when none were asked for.
const NOT_ASKED: i32 = i32::MIN;

/// The metadata of topics, and who the brokers are.
pub(super) async fn metadata(node: &Arc<Node>, header: &RequestHeader, body: MetadataRequest) -> Response {
    let image = node.image();
    let version = header.api_version;
    let mut missing = Vec::new();
    let topics: Vec<metadata_response::MetadataResponseTopic> = match &body.topics {
        // Null means all, as does an empty list in version 0.
        None => image.topics().values().map(|topic| described(&image, node, topic, version)).collect(),
        Some(list) if list.is_empty() && version == 0 => {
            image.topics().values().map(|topic| described(&image, node, topic, version)).collect()
        }
        Some(list) => distinct(list, |wanted| (wanted.topic_id, wanted.name.clone()))
            .map(|wanted| {
                let id = from_optional_uuid(wanted.topic_id);
                let name = wanted.name.as_ref().map(from_topic_name);
                let found = match (id, &name) {
                    (Some(id), _) => image.topic(id),
                    (None, Some(name)) => image.topic_by_name(name),
                    (None, None) => None,
                };
                if let Some(topic) = found {
                    return described(&image, node, topic, version);
                }
                let error = match (&name, id) {
                    (_, Some(_)) => ErrorCode::UnknownTopicId,
                    (Some(name), None) if !is_legal(name) => ErrorCode::InvalidTopicException,
                    _ => ErrorCode::UnknownTopicOrPartition,
                };
                if let (Some(name), ErrorCode::UnknownTopicOrPartition) = (&name, error) {
                    missing.push(name.clone());
                }
                unknown(name.as_ref(), id, error)
            })
            .collect(),
    };
    let may_create = version < 4 || body.allow_auto_topic_creation;
    if !missing.is_empty() && may_create && node.config.settings.auto_create_topics {
        create(node, missing).await;
    }
    let brokers = active_brokers(&image).filter_map(|broker| {
        let endpoint = endpoint(node, broker)?;
        Some(
            metadata_response::MetadataResponseBroker::default()
                .with_node_id(to_broker_id(Some(broker.broker)))
                .with_host(text(&endpoint.host))
                .with_port(i32::from(endpoint.port))
                .with_rack(broker.rack.as_deref().map(text)),
        )
    });
    Response::Metadata(
        MetadataResponse::default()
            .with_brokers(brokers.collect())
            .with_cluster_id(Some(text(&node.config.cluster_id)))
            .with_controller_id(to_broker_id(contact(node, &image)))
            .with_topics(topics)
            .with_cluster_authorized_operations(NOT_ASKED),
    )
}

/// Each thing asked for once: a small request that names a large topic ten thousand times gets one answer.
pub(super) fn distinct<T, K: Ord>(asked: &[T], key: impl Fn(&T) -> K) -> impl Iterator<Item = &T> {
    let mut seen = BTreeSet::new();
    asked.iter().filter(move |one| seen.insert(key(one)))
}

/// The names Kafka takes (Topic.validate).
fn is_legal(name: &TopicName) -> bool {
    let name = name.as_str();
    !name.is_empty()
        && name != "."
        && name != ".."
        && name.len() <= 249
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// Asks the controller to create topics with the defaults; the client asks again.
async fn create(node: &Arc<Node>, names: Vec<TopicName>) {
    let topics = names.iter().map(|name| {
        create_topics_request::CreatableTopic::default()
            .with_name(to_topic_name(name))
            .with_num_partitions(-1)
            .with_replication_factor(-1)
    });
    let body = CreateTopicsRequest::default().with_topics(topics.collect()).with_timeout_ms(10_000);
    let request = Request::CreateTopics(body);
    let version = super::controller_api::version(&request);
    let again = request.clone();
    let failed = |error: ErrorCode| super::controller_api::refused(&again, &error.into());
    let _ = super::admin::forward(node, version, request, true, failed).await;
}

fn active_brokers(image: &MetadataImage) -> impl Iterator<Item = &Arc<BrokerRegistration>> {
    image.brokers().values().filter(|broker| !broker.fenced)
}

/// Where clients of the listener we answer on reach a broker. One client listener is served so far, so its name is the
/// first of ours.
fn endpoint<'a>(node: &Node, broker: &'a BrokerRegistration) -> Option<&'a broker_wire::records::metadata::Endpoint> {
    let name = node.config.advertised_listeners.first().map(|endpoint| endpoint.name.as_str());
    broker.endpoints.iter().find(|endpoint| Some(&*endpoint.name) == name)
}

/// The broker that clients may take for the controller: any live one, since all of them forward. Kafka draws one at
/// random; we name ourselves if we can, which saves a hop.
fn contact(node: &Node, image: &MetadataImage) -> Option<BrokerId> {
    let own = node.config.node_id;
    active_brokers(image)
        .map(|broker| broker.broker)
        .find(|id| *id == own)
        .or_else(|| active_brokers(image).map(|broker| broker.broker).next())
}

fn described(
    image: &MetadataImage,
    node: &Node,
    topic: &TopicImage,
    version: i16,
) -> metadata_response::MetadataResponseTopic {
    let _ = node;
    let partitions = topic.partitions.iter().map(|(index, partition)| {
        let (error, leader) = leader_or_error(image, partition);
        // Before version 1, an offline replica made the whole partition an error.
        let error = if version < 1 && error.is_none() && !offline(image, partition).is_empty() {
            ErrorCode::ReplicaNotAvailable
        } else {
            error
        };
        metadata_response::MetadataResponsePartition::default()
            .with_error_code(error.code())
            .with_partition_index(*index)
            .with_leader_id(to_broker_id(leader))
            .with_leader_epoch(partition.leader_epoch.0)
            .with_replica_nodes(to_broker_ids(&partition.replicas))
            .with_isr_nodes(to_broker_ids(&partition.isr))
            .with_offline_replicas(to_broker_ids(&offline(image, partition)))
    });
    metadata_response::MetadataResponseTopic::default()
        .with_name(Some(to_topic_name(&topic.name)))
        .with_topic_id(to_uuid(topic.id))
        .with_partitions(partitions.collect())
        .with_topic_authorized_operations(NOT_ASKED)
}

fn unknown(
    name: Option<&TopicName>,
    id: Option<TopicId>,
    error: ErrorCode,
) -> metadata_response::MetadataResponseTopic {
    let wire = metadata_response::MetadataResponseTopic::default()
        .with_error_code(error.code())
        .with_topic_authorized_operations(NOT_ASKED)
        .with_name(name.map(to_topic_name));
    match id {
        Some(id) => wire.with_topic_id(to_uuid(id)),
        None => wire,
    }
}

fn leader_or_error(image: &MetadataImage, partition: &PartitionRegistration) -> (ErrorCode, Option<BrokerId>) {
    match partition.leader {
        Some(leader) if image.broker(leader).is_some_and(|broker| !broker.fenced) => (ErrorCode::None, Some(leader)),
        _ => (ErrorCode::LeaderNotAvailable, None),
    }
}

fn offline(image: &MetadataImage, partition: &PartitionRegistration) -> Vec<BrokerId> {
    let is_down = |id: &BrokerId| image.broker(*id).is_none_or(|broker| broker.fenced);
    partition.replicas.iter().copied().filter(is_down).collect()
}

/// Who the brokers are; on a controller listener, who the controllers are (KIP-919).
pub(super) fn describe_cluster(node: &Node, kind: ListenerKind, body: &DescribeClusterRequest) -> Response {
    let wire = DescribeClusterResponse::default()
        .with_error_message(None)
        .with_endpoint_type(body.endpoint_type)
        .with_cluster_id(text(&node.config.cluster_id))
        .with_cluster_authorized_operations(NOT_ASKED);
    let endpoint_type = if kind == ListenerKind::Broker { 1 } else { 2 };
    if body.endpoint_type != endpoint_type {
        return Response::DescribeCluster(
            wire.with_error_code(ErrorCode::MismatchedEndpointType.code())
                .with_error_message(Some(text("this listener describes the other kind of endpoints"))),
        );
    }
    if kind == ListenerKind::Controller {
        let brokers = node.config.voters.iter().map(|voter| {
            describe_cluster_response::DescribeClusterBroker::default()
                .with_broker_id(to_broker_id(Some(voter.id)))
                .with_host(text(&voter.host))
                .with_port(i32::from(voter.port))
                .with_rack(None)
        });
        let leader = node.leader.borrow().leader;
        return Response::DescribeCluster(
            wire.with_controller_id(to_broker_id(leader)).with_brokers(brokers.collect()),
        );
    }
    let image = node.image();
    let brokers = image.brokers().values().filter(|broker| !broker.fenced || body.include_fenced_brokers);
    let brokers = brokers.filter_map(|broker| {
        let endpoint = endpoint(node, broker)?;
        Some(
            describe_cluster_response::DescribeClusterBroker::default()
                .with_broker_id(to_broker_id(Some(broker.broker)))
                .with_host(text(&endpoint.host))
                .with_port(i32::from(endpoint.port))
                .with_rack(broker.rack.as_deref().map(text))
                .with_is_fenced(broker.fenced),
        )
    });
    Response::DescribeCluster(
        wire.with_controller_id(to_broker_id(contact(node, &image))).with_brokers(brokers.collect()),
    )
}

/// Topics page by page, by name (KIP-966).
pub(super) fn describe_topic_partitions(node: &Node, body: &DescribeTopicPartitionsRequest) -> Response {
    use describe_topic_partitions_response as wire;
    let image = node.image();
    let mut names: Vec<TopicName> = if body.topics.is_empty() {
        image.topic_ids().keys().cloned().collect()
    } else {
        body.topics.iter().map(|topic| from_topic_name(&topic.name)).collect()
    };
    names.sort();
    names.dedup();
    let from = body.cursor.as_ref().map(|cursor| (from_topic_name(&cursor.topic_name), cursor.partition_index.max(0)));
    let mut left = usize::try_from(body.response_partition_limit).unwrap_or(0).clamp(1, 2000);
    let mut topics = Vec::new();
    let mut next_cursor = None;
    'topics: for name in names {
        if from.as_ref().is_some_and(|(first, _)| name < *first) {
            continue;
        }
        let mut described =
            wire::DescribeTopicPartitionsResponseTopic::default().with_topic_authorized_operations(NOT_ASKED);
        described.name = Some(to_topic_name(&name));
        let Some(topic) = image.topic_by_name(&name) else {
            let error =
                if is_legal(&name) { ErrorCode::UnknownTopicOrPartition } else { ErrorCode::InvalidTopicException };
            topics.push(described.with_error_code(error.code()));
            continue;
        };
        described.topic_id = to_uuid(topic.id);
        let first = from.as_ref().filter(|(first, _)| *first == name).map_or(0, |(_, index)| *index);
        for (index, partition) in topic.partitions.range(first..) {
            if left == 0 {
                next_cursor =
                    Some(wire::Cursor::default().with_topic_name(to_topic_name(&name)).with_partition_index(*index));
                if !described.partitions.is_empty() {
                    topics.push(described);
                }
                break 'topics;
            }
            left -= 1;
            let (error, leader) = leader_or_error(&image, partition);
            described.partitions.push(
                wire::DescribeTopicPartitionsResponsePartition::default()
                    .with_error_code(error.code())
                    .with_partition_index(*index)
                    .with_leader_id(to_broker_id(leader))
                    .with_leader_epoch(partition.leader_epoch.0)
                    .with_replica_nodes(to_broker_ids(&partition.replicas))
                    .with_isr_nodes(to_broker_ids(&partition.isr))
                    .with_eligible_leader_replicas(Some(to_broker_ids(&partition.elr)))
                    .with_last_known_elr(Some(to_broker_ids(&partition.last_known_elr)))
                    .with_offline_replicas(to_broker_ids(&offline(&image, partition))),
            );
        }
        topics.push(described);
    }
    Response::DescribeTopicPartitions(
        DescribeTopicPartitionsResponse::default().with_topics(topics).with_next_cursor(next_cursor),
    )
}
