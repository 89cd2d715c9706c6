//! The end of a run: what the cluster says of itself, and what its disks hold.

use super::replica_files::read_replica;
use super::{Cluster, DATA};
use broker_types::{NodeId, TopicIdPartition};
use checker::{
    BrokerEnd, Canary, ControllerEnd, Convergence, EndState, ImageEnd, PartitionEnd, Registration, ReplicaEnd,
};
use sim::DiskSnapshot;
use std::collections::BTreeMap;

/// The state of every partition and broker, as the controller last said it and as the disks have it. Whether brokers had time to
/// clean up, whoever gave it to them knows.
#[must_use]
pub fn end_state(cluster: &Cluster, canaries: Vec<Canary>, convergence: Convergence) -> EndState {
    let running = cluster.hosts.iter().filter(|(node, _)| is_up(cluster, **node));
    let disks: BTreeMap<NodeId, DiskSnapshot> =
        running.map(|(node, host)| (*node, cluster.world.disk_snapshot(*host))).collect();
    let partitions: Vec<_> = cluster.shared.view(|view| {
        let named = view
            .partitions
            .iter()
            .filter(|(id, state)| **id != TopicIdPartition::METADATA && !state.replicas.is_empty());
        named.map(|(id, state)| (*id, view.partition_name(*id), state.clone())).collect()
    });
    let partitions = partitions
        .into_iter()
        .map(|(partition, name, state)| PartitionEnd {
            partition,
            leader: state.leader,
            isr: state.isr.clone(),
            assigned: state.replicas.clone(),
            replicas: state
                .replicas
                .iter()
                .filter_map(|node| {
                    let said = state.logs.get(node).copied().unwrap_or_default();
                    Some(read_replica(disks.get(node)?, &format!("{DATA}/{name}/"), *node, said.high_watermark))
                })
                .collect(),
        })
        .collect();
    let brokers = cluster.hosts.keys().filter(|node| node.0 <= 100 && is_up(cluster, **node)).map(|node| BrokerEnd {
        node: *node,
        unfenced: cluster.shared.view(|view| view.unfenced.get(node).copied().unwrap_or(false)),
    });
    EndState {
        partitions,
        metadata_logs: metadata_logs(cluster, &disks),
        controllers: controllers(cluster),
        images: images(cluster),
        brokers: brokers.collect(),
        // Nobody coordinates groups or transactions yet.
        groups: Vec::new(),
        convergence: Some(convergence),
        canaries,
        idle: None,
    }
}

/// The metadata log of every running node.
fn metadata_logs(cluster: &Cluster, disks: &BTreeMap<NodeId, DiskSnapshot>) -> Vec<ReplicaEnd> {
    let said =
        cluster.shared.view(|view| view.partitions.get(&TopicIdPartition::METADATA).cloned()).unwrap_or_default();
    let folder = format!("{DATA}/__cluster_metadata-0/");
    let logs = disks.iter().map(|(node, disk)| {
        let said = said.logs.get(node).copied().unwrap_or_default();
        read_replica(disk, &folder, *node, said.high_watermark)
    });
    logs.collect()
}

/// The running controllers, as they see the quorum.
fn controllers(cluster: &Cluster) -> Vec<ControllerEnd> {
    let running = cluster.voters.iter().filter(|node| is_up(cluster, **node));
    let seen = running.filter_map(|node| {
        let current = cluster.shared.beliefs(*node)?.quorum_leader();
        let logs = |view: &super::View| Some(*view.partitions.get(&TopicIdPartition::METADATA)?.logs.get(node)?);
        let log = cluster.shared.view(logs).unwrap_or_default();
        Some(ControllerEnd {
            node: *node,
            epoch: current.epoch,
            leader: current.leader,
            log_end: log.log_end,
            high_watermark: log.high_watermark,
        })
    });
    seen.collect()
}

/// Whether all running controllers follow one of them and know of the same commits.
#[must_use]
pub fn controllers_agree(cluster: &Cluster) -> bool {
    let seen = controllers(cluster);
    let view = |one: &ControllerEnd| (one.leader, one.epoch, one.high_watermark);
    seen.iter().all(|one| one.leader.is_some() && view(one) == view(&seen[0]))
}

/// The metadata that each running node has replayed.
fn images(cluster: &Cluster) -> Vec<ImageEnd> {
    let running = cluster.hosts.keys().filter(|node| is_up(cluster, **node));
    let known = running.filter_map(|node| {
        let image = cluster.shared.beliefs(*node)?.metadata();
        let partitions = image.partitions().map(|(id, known)| {
            let registration = Registration {
                leader: known.leader,
                leader_epoch: known.leader_epoch,
                partition_epoch: known.partition_epoch,
                isr: known.isr.clone().into(),
                replicas: known.replicas.clone().into(),
                adding: known.adding.clone().into(),
                removing: known.removing.clone().into(),
                elr: known.elr.clone().into(),
                last_known_elr: known.last_known_elr.clone().into(),
            };
            (id, registration)
        });
        Some(ImageEnd { node: *node, end: image.end().offset, partitions: partitions.collect() })
    });
    known.collect()
}

fn is_up(cluster: &Cluster, node: NodeId) -> bool {
    cluster.hosts.get(&node).is_some_and(|host| cluster.world.is_up(*host))
}
