//! Carries leaders' proposals of new in-sync replica sets to the controller (KIP-497), one request at a time.

use super::forward::ControllerChannel;
use super::replicas::ReplicaMessage;
use crate::node::Node;
use crate::requests::controller_api;
use broker_core::partition::{AlterPartitionResponse, CommittedIsr, ProposalId};
use broker_types::{BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, PartitionEpoch, TopicIdPartition};
use broker_wire::messages::convert::{
    from_broker_id, from_broker_ids, from_error_code, from_uuid, to_broker_epoch, to_uuid,
};
use broker_wire::messages::{AlterPartitionRequest, BrokerId as WireBrokerId, alter_partition_request};
use broker_wire::{Request, Response};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Proposals that wait, at most; each partition has at most one.
pub(crate) const INBOX: usize = 4096;
/// Proposals in one request, at most.
const GULP: usize = 256;

/// One leader's proposal.
pub(crate) struct Proposal {
    pub(crate) partition: TopicIdPartition,
    pub(crate) proposal: ProposalId,
    pub(crate) isr: Box<[(BrokerId, Option<BrokerEpoch>)]>,
    pub(crate) leader_epoch: LeaderEpoch,
    pub(crate) partition_epoch: PartitionEpoch,
}

/// Runs until the node stops.
pub(crate) async fn run(node: Arc<Node>, replicas: mpsc::Sender<ReplicaMessage>, mut inbox: mpsc::Receiver<Proposal>) {
    let mut channel = ControllerChannel::new(node.clone(), "alter-partition");
    let mut proposals = Vec::new();
    while inbox.recv_many(&mut proposals, GULP).await > 0 {
        let epoch = *node.broker_epoch.borrow();
        let request = Request::AlterPartition(to_wire(&node, epoch, &proposals));
        let deadline = node.env.mono() + node.config.settings.session_timeout;
        let reply = channel.ask(controller_api::version(&request), &request, deadline).await;
        let answers = proposals.drain(..).map(|proposal| {
            let result = answer(reply.as_ref(), proposal.partition);
            (proposal.partition, AlterPartitionResponse { proposal: proposal.proposal, result })
        });
        if replicas.send(ReplicaMessage::Altered(answers.collect())).await.is_err() {
            return;
        }
    }
}

fn to_wire(node: &Node, epoch: Option<BrokerEpoch>, proposals: &[Proposal]) -> AlterPartitionRequest {
    let topics = proposals.iter().map(|proposal| {
        let isr = proposal.isr.iter().map(|(broker, epoch)| {
            alter_partition_request::BrokerState::default()
                .with_broker_id(WireBrokerId(broker.0))
                .with_broker_epoch(to_broker_epoch(*epoch))
        });
        let partition = alter_partition_request::PartitionData::default()
            .with_partition_index(proposal.partition.partition)
            .with_leader_epoch(proposal.leader_epoch.0)
            .with_new_isr_with_epochs(isr.collect())
            .with_partition_epoch(proposal.partition_epoch.0);
        alter_partition_request::TopicData::default()
            .with_topic_id(to_uuid(proposal.partition.topic))
            .with_partitions(vec![partition])
    });
    AlterPartitionRequest::default()
        .with_broker_id(WireBrokerId(node.config.node_id.0))
        .with_broker_epoch(to_broker_epoch(epoch))
        .with_topics(topics.collect())
}

fn answer(reply: Option<&Response>, wanted: TopicIdPartition) -> Result<CommittedIsr, ErrorCode> {
    let Some(Response::AlterPartition(body)) = reply else { return Err(ErrorCode::NetworkException) };
    if body.error_code != 0 {
        return Err(from_error_code(body.error_code));
    }
    let partition = body
        .topics
        .iter()
        .filter(|topic| from_uuid(topic.topic_id) == wanted.topic)
        .flat_map(|topic| &topic.partitions)
        .find(|partition| partition.partition_index == wanted.partition)
        .ok_or(ErrorCode::UnknownServerError)?;
    if partition.error_code != 0 {
        return Err(from_error_code(partition.error_code));
    }
    Ok(CommittedIsr {
        leader: from_broker_id(partition.leader_id),
        leader_epoch: LeaderEpoch(partition.leader_epoch),
        partition_epoch: PartitionEpoch(partition.partition_epoch),
        isr: from_broker_ids(&partition.isr).into(),
    })
}
