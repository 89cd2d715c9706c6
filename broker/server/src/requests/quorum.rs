//! Requests between the replicas of the metadata log.

use super::quorum_api;
use crate::drivers::quorum::QuorumMessage;
use crate::node::{ListenerKind, Node};
use broker_core::raft::{RaftRole, ReplicaDescription};
use broker_types::{ErrorCode, MonoTime};
use broker_wire::messages::convert::{to_broker_id, to_optional_uuid};
use broker_wire::messages::{
    BrokerId, DescribeQuorumRequest, DescribeQuorumResponse, FetchSnapshotResponse, describe_quorum_response,
};
use broker_wire::{Request, Response};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Asks raft.
pub(super) async fn peer(node: &Arc<Node>, request: Request) -> Response {
    if let Request::FetchSnapshot(_) = request {
        // Snapshots of the metadata log are not built yet; nobody was told of one.
        return Response::FetchSnapshot(
            FetchSnapshotResponse::default().with_error_code(ErrorCode::SnapshotNotFound.code()),
        );
    }
    let asked = match quorum_api::from_wire(&request, &node.config.cluster_id, node.config.node_id) {
        Ok(asked) => asked,
        Err(error) => return quorum_api::refused(&request, error),
    };
    let (reply, answer) = oneshot::channel();
    if node.quorum.send(QuorumMessage::Peer { request: asked, reply }).await.is_err() {
        return quorum_api::refused(&request, ErrorCode::BrokerNotAvailable);
    }
    match answer.await {
        Ok((response, records)) => quorum_api::reply_to_wire(&response, records),
        Err(_) => quorum_api::refused(&request, ErrorCode::BrokerNotAvailable),
    }
}

/// DescribeQuorum: only the leader knows; a broker asks it on behalf of its client.
pub(super) async fn describe(
    node: &Arc<Node>,
    kind: ListenerKind,
    version: i16,
    body: DescribeQuorumRequest,
) -> Response {
    if kind == ListenerKind::Broker {
        let request = Request::DescribeQuorum(body);
        return super::admin::forward(node, version, request, false, |error| described(version, error, None, node))
            .await;
    }
    let (reply, answer) = oneshot::channel();
    let sent = node.quorum.send(QuorumMessage::Describe { reply }).await.is_ok();
    match if sent { answer.await.ok() } else { None } {
        Some(description) if description.role == RaftRole::Leader => {
            described(version, ErrorCode::None, Some(description), node)
        }
        _ => described(version, ErrorCode::NotLeaderOrFollower, None, node),
    }
}

fn described(
    version: i16,
    error: ErrorCode,
    description: Option<broker_core::raft::QuorumDescription>,
    node: &Node,
) -> Response {
    let now = node.env.mono();
    let wall = node.env.wall().0;
    let when = |time: Option<MonoTime>| {
        time.map_or(-1, |time| wall - i64::try_from(now.since(time).as_millis()).unwrap_or(i64::MAX))
    };
    let state = |one: &ReplicaDescription| {
        describe_quorum_response::ReplicaState::default()
            .with_replica_id(BrokerId(one.replica.id.0))
            .with_replica_directory_id(to_optional_uuid(one.replica.directory))
            .with_log_end_offset(quorum_api::described_end(one.log_end))
            .with_last_fetch_timestamp(when(one.last_fetch))
            .with_last_caught_up_timestamp(when(one.last_caught_up))
    };
    let mut partition = describe_quorum_response::PartitionData::default()
        .with_error_code(error.code())
        .with_error_message(None)
        .with_leader_id(BrokerId(-1));
    if let Some(description) = &description {
        partition = partition
            .with_leader_id(to_broker_id(description.current.leader))
            .with_leader_epoch(quorum_api::described_epoch(description.current))
            .with_high_watermark(description.high_watermark.0)
            .with_current_voters(description.voters.iter().map(state).collect())
            .with_observers(description.observers.iter().map(state).collect());
    }
    // Before version 2 there was no place for them (KIP-853).
    let voters = if version >= 2 { node.config.voters.as_slice() } else { &[] };
    let nodes = voters.iter().map(|voter| {
        describe_quorum_response::Node::default().with_node_id(BrokerId(voter.id.0)).with_listeners(vec![
            describe_quorum_response::Listener::default()
                .with_name(broker_wire::messages::convert::text("CONTROLLER"))
                .with_host(broker_wire::messages::convert::text(&voter.host))
                .with_port(voter.port),
        ])
    });
    let topic = describe_quorum_response::TopicData::default()
        .with_topic_name(broker_wire::messages::TopicName(broker_wire::messages::StrBytes::from_static_str(
            quorum_api::METADATA_TOPIC,
        )))
        .with_partitions(vec![partition]);
    Response::DescribeQuorum(
        DescribeQuorumResponse::default().with_error_message(None).with_topics(vec![topic]).with_nodes(nodes.collect()),
    )
}
