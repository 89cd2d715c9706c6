//! The end of a run: what the disks hold, read as a process on each host would read it.

use super::{Cluster, DATA};
use broker_types::{LeaderEpoch, NodeId, Offset, TopicIdPartition};
use broker_wire::record_batch::split_batches;
use checker::{
    BatchEnd, BrokerEnd, Canary, ControllerEnd, Convergence, EndState, ImageEnd, PartitionEnd, Registration, ReplicaEnd,
};
use sim::HostId;

/// The state of every partition and broker, as the controller last said it and as the disks have it.
#[must_use]
pub fn end_state(cluster: &Cluster, canaries: Vec<Canary>, convergence: Convergence) -> EndState {
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
                    let host = *cluster.hosts.get(node)?;
                    if !cluster.world.is_up(host) {
                        return None;
                    }
                    let said = state.logs.get(node).copied().unwrap_or_default();
                    Some(replica(cluster, host, *node, &name, said.high_watermark))
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
        controllers: controllers(cluster),
        images: images(cluster),
        brokers: brokers.collect(),
        // Nobody coordinates groups or transactions yet.
        groups: Vec::new(),
        convergence: Some(convergence),
        canaries,
    }
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

fn replica(cluster: &Cluster, host: HostId, node: NodeId, partition: &str, high_watermark: Offset) -> ReplicaEnd {
    let disk = cluster.world.disk_snapshot(host);
    let folder = format!("{DATA}/{partition}/");
    let mut segments: Vec<String> = disk
        .files()
        .filter(|(path, _)| path.starts_with(&folder) && path.ends_with(".log"))
        .map(|(path, _)| path.to_owned())
        .collect();
    segments.sort();
    let mut batches = Vec::new();
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    let (mut log_start, mut damage) = (None, None);
    for path in segments {
        let bytes = disk.read(&path).unwrap_or_default();
        hash.update(&bytes);
        match split_batches(bytes) {
            Ok(found) => {
                for batch in found {
                    let summary = batch.summary();
                    log_start.get_or_insert(summary.base_offset);
                    batches.push(BatchEnd {
                        base: summary.base_offset,
                        last: summary.last_from(summary.base_offset),
                        leader_epoch: summary.leader_epoch.unwrap_or_default(),
                        crc: summary.crc,
                    });
                }
            }
            Err(error) => damage = Some(format!("{path}: {error}")),
        }
    }
    let checkpoint = disk.read(&format!("{folder}leader-epoch-checkpoint"));
    let epoch_starts = checkpoint.map(|text| epoch_starts(&text));
    if let Some(Err(line)) = &epoch_starts {
        damage.get_or_insert(format!("leader-epoch-checkpoint has the line '{line}'"));
    }
    ReplicaEnd {
        node,
        log_start: log_start.unwrap_or_default(),
        log_end: batches.last().map_or(Offset::ZERO, |batch| batch.last + 1),
        high_watermark,
        batches,
        file_digest: Some(hash.digest128()),
        damage,
        epoch_starts: epoch_starts.and_then(Result::ok),
        last_stable: None,
    }
}

/// The lines `epoch offset` of a leader epoch checkpoint, after its version and their count; or the line that is none.
fn epoch_starts(text: &[u8]) -> Result<Vec<(LeaderEpoch, Offset)>, String> {
    let text = String::from_utf8_lossy(text);
    let entries = text.lines().skip(2).map(|line| {
        let mut words = line.split(' ').map(str::parse::<i64>);
        match (words.next(), words.next(), words.next()) {
            (Some(Ok(epoch)), Some(Ok(start)), None) => {
                Ok((LeaderEpoch(i32::try_from(epoch).map_err(|_| line.to_owned())?), Offset(start)))
            }
            _ => Err(line.to_owned()),
        }
    });
    entries.collect()
}
