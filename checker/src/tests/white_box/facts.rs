//! What nodes say, in few words.

use super::*;

pub(super) const META: TopicIdPartition = TopicIdPartition::METADATA;

/// Something that happened to the cluster.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Event {
    Says(i32, u32, Observation),
    Down(i32),
    Lost(i32, LossKind),
}
pub(super) use Event::{Down, Lost, Says};

pub(super) fn data() -> TopicIdPartition {
    partition(0)
}

pub(super) fn nodes(ids: &[i32]) -> Box<[NodeId]> {
    ids.iter().map(|id| NodeId(*id)).collect()
}

pub(super) fn appended(partition: TopicIdPartition, base: i64, epoch: i32, crc: u32, role: ReplicaRole) -> Observation {
    let (base, last, leader_epoch) = (Offset(base), Offset(base), LeaderEpoch(epoch));
    Observation::Appended {
        partition,
        base,
        last,
        leader_epoch,
        size: 100,
        crc,
        // One producer, one record a batch.
        producer: (partition == data()).then_some(stamp(7, 0, Some(base.0 as i32))),
        is_transactional: false,
        is_control: false,
        role,
    }
}

pub(super) fn stamp(id: i64, epoch: i16, base_sequence: Option<i32>) -> ProducerStamp {
    ProducerStamp { id: ProducerId(id), epoch: ProducerEpoch(epoch), base_sequence }
}

/// Broker 2, leader of another partition, appends one record or marker of a transactional producer.
pub(super) fn stamped(base: i64, stamp: ProducerStamp, is_transactional: bool) -> Event {
    let is_control = stamp.base_sequence.is_none();
    let mut fact = appended(partition(1), base, 3, base as u32, ReplicaRole::Leader);
    if let Observation::Appended { producer, is_transactional: transactional, is_control: control, .. } = &mut fact {
        (*producer, *transactional, *control) = (Some(stamp), is_transactional, is_control);
    }
    Says(2, 0, fact)
}

pub(super) fn marker(offset: i64, coordinator_epoch: i32, commit: bool) -> Event {
    let (partition, offset, coordinator_epoch) = (partition(1), Offset(offset), LeaderEpoch(coordinator_epoch));
    let (producer, producer_epoch) = (ProducerId(50), ProducerEpoch(0));
    let fact =
        Observation::TransactionMarker { partition, offset, producer, producer_epoch, coordinator_epoch, commit };
    Says(2, 0, fact)
}

/// Broker 3 coordinates transactions.
pub(super) fn transaction(id: &str, producer: i64, epoch: i16, state: TransactionState, partitions: &[i32]) -> Event {
    let fact = TransactionFact {
        transactional_id: id.into(),
        producer: ProducerId(producer),
        producer_epoch: ProducerEpoch(epoch),
        coordinator_epoch: LeaderEpoch(6),
        state,
        partitions: partitions.iter().map(|index| partition(*index)).collect(),
    };
    Says(3, 0, Observation::TransactionChanged(Box::new(fact)))
}

/// Broker 2 coordinates groups.
pub(super) fn group(name: &str, epoch: i32, state: GroupState) -> Event {
    let (group, coordinator_epoch) = (name.into(), LeaderEpoch(5));
    Says(2, 0, Observation::GroupChanged { group, coordinator_epoch, epoch, state })
}

pub(super) fn member(name: &str, epoch: i32, [assigned, revoking, target]: [&[i32]; 3]) -> Event {
    let partitions = |indexes: &[i32]| indexes.iter().map(|index| partition(*index)).collect();
    let fact = MemberFact {
        group: "billing".into(),
        member: name.into(),
        coordinator_epoch: LeaderEpoch(5),
        epoch,
        is_classic: false,
        assigned: partitions(assigned),
        revoking: partitions(revoking),
        target: partitions(target),
    };
    Says(2, 0, Observation::MemberChanged(Box::new(fact)))
}

pub(super) fn gone(name: &str) -> Event {
    Says(2, 0, Observation::MemberGone { group: "billing".into(), member: name.into() })
}

pub(super) fn committed(group: &str, member: Option<&str>, epoch: i32) -> Event {
    let fact = Observation::OffsetCommitted {
        group: group.into(),
        partition: partition(0),
        offset: Offset(3),
        coordinator_epoch: LeaderEpoch(5),
        member: member.map(MemberId::from),
        epoch,
    };
    Says(2, 0, fact)
}

pub(super) fn coordinates(kind: CoordinatorKind, epoch: i32) -> Observation {
    Observation::CoordinatorLoaded { kind, partition: 0, leader_epoch: LeaderEpoch(epoch) }
}

pub(super) fn asks(epoch: i32) -> Observation {
    Observation::QuorumProspective { epoch: LeaderEpoch(epoch) }
}

pub(super) fn stands(epoch: i32) -> Observation {
    Observation::QuorumCandidate { epoch: LeaderEpoch(epoch) }
}

pub(super) fn proposes(leader_epoch: i32, partition_epoch: i32, isr: &[i32]) -> Observation {
    let (leader_epoch, partition_epoch) = (LeaderEpoch(leader_epoch), PartitionEpoch(partition_epoch));
    Observation::IsrProposed { partition: data(), leader_epoch, partition_epoch, isr: nodes(isr) }
}

pub(super) fn isr_committed(partition_epoch: i32, isr: &[i32]) -> Observation {
    let (leader_epoch, partition_epoch) = (LeaderEpoch(1), PartitionEpoch(partition_epoch));
    Observation::IsrCommitted { partition: data(), leader_epoch, partition_epoch, isr: nodes(isr) }
}

pub(super) fn answered(until: i64) -> Observation {
    Observation::ControllerAnswered { until: Offset(until) }
}

pub(super) fn watermark(partition: TopicIdPartition, epoch: i32, to: i64, end: i64, role: ReplicaRole) -> Observation {
    let (high_watermark, log_end, leader_epoch) = (Offset(to), Offset(end), LeaderEpoch(epoch));
    Observation::HighWatermark { partition, leader_epoch, high_watermark, log_end, role }
}

pub(super) fn changed(leader: Option<i32>, leader_epoch: i32, partition_epoch: i32, isr: &[i32]) -> Observation {
    Observation::PartitionChanged {
        partition: data(),
        leader: leader.map(NodeId),
        leader_epoch: LeaderEpoch(leader_epoch),
        partition_epoch: PartitionEpoch(partition_epoch),
        isr: nodes(isr),
        replicas: nodes(&[1, 2, 3]),
        adding: Box::default(),
        removing: Box::default(),
        elr: Box::default(),
        last_known_elr: Box::default(),
        unclean: false,
    }
}

pub(super) fn leads(epoch: i32, start: i64, isr: &[i32]) -> Observation {
    let (leader_epoch, start) = (LeaderEpoch(epoch), Offset(start));
    Observation::BecameLeader { partition: data(), leader_epoch, start, isr: nodes(isr) }
}

pub(super) fn follows(epoch: i32, leader: i32) -> Observation {
    Observation::BecameFollower { partition: data(), leader_epoch: LeaderEpoch(epoch), leader: Some(NodeId(leader)) }
}

pub(super) fn acknowledged(epoch: i32, offset: i64, high_watermark: i64, isr_size: u32) -> Observation {
    let (base, last) = (Offset(offset), Offset(offset));
    let (leader_epoch, high_watermark) = (LeaderEpoch(epoch), Offset(high_watermark));
    Observation::Acknowledged { partition: data(), leader_epoch, base, last, high_watermark, isr_size }
}

pub(super) fn loaded(end: i64) -> Observation {
    let (log_start, log_end, high_watermark) = (Offset(0), Offset(end), Offset(0));
    Observation::LogLoaded { partition: data(), log_start, log_end, high_watermark, truncated_bytes: 0 }
}

pub(super) fn truncated(partition: TopicIdPartition, from: i64, to: i64) -> Observation {
    Observation::Truncated { partition, from: Offset(from), to: Offset(to) }
}

pub(super) fn registered(broker: i32, epoch: i64) -> Observation {
    Observation::BrokerRegistered { broker: NodeId(broker), broker_epoch: BrokerEpoch(epoch) }
}

pub(super) fn unfenced(broker: i32, epoch: i64) -> Observation {
    Observation::BrokerUnfenced { broker: NodeId(broker), broker_epoch: BrokerEpoch(epoch) }
}

pub(super) fn fenced(broker: i32, epoch: i64) -> Observation {
    Observation::BrokerFenced { broker: NodeId(broker), broker_epoch: BrokerEpoch(epoch) }
}

pub(super) fn epoch(epoch: i32) -> Observation {
    Observation::QuorumEpoch { epoch: LeaderEpoch(epoch) }
}

pub(super) fn votes(epoch: i32, candidate: i32) -> Observation {
    Observation::QuorumVote { epoch: LeaderEpoch(epoch), candidate: NodeId(candidate) }
}

pub(super) fn wins(epoch: i32, start: i64) -> Observation {
    Observation::QuorumLeader { epoch: LeaderEpoch(epoch), start: Offset(start) }
}

pub(super) fn names(epoch: i32, leader: i32) -> Observation {
    Observation::QuorumFollower { epoch: LeaderEpoch(epoch), leader: NodeId(leader) }
}
