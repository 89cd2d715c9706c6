//! A small cluster's observations, legal as they stand; each change to them is refused by the check it is made for.

mod boundaries;
mod changes;
mod rows;

use super::reference::partition;
use super::{fired, told};
use crate::context::{Context, ExcuseKind, LossKind, PartitionRules};
use crate::convergence::{BatchEnd, EndState, PartitionEnd, ReplicaEnd};
use crate::history::SimTime;
use crate::registry::{CHECKS, Evidence};
use crate::{CheckOutcome, CheckResult, WhiteBox};
use broker_types::{
    BrokerEpoch, CoordinatorKind, GroupState, LeaderEpoch, MemberFact, MemberId, NodeId, Observation, Offset,
    PartitionEpoch, ProducerEpoch, ProducerId, ProducerStamp, ReplicaRole, TopicIdPartition, TransactionFact,
    TransactionState,
};
use std::collections::BTreeSet;
use std::fmt::Write;

const META: TopicIdPartition = TopicIdPartition::METADATA;

/// Something that happened to the cluster.
#[derive(Clone, PartialEq, Debug)]
enum Event {
    Says(i32, u32, Observation),
    Down(i32),
    Lost(i32, LossKind),
}
use Event::{Down, Lost, Says};

fn data() -> TopicIdPartition {
    partition(0)
}

fn nodes(ids: &[i32]) -> Box<[NodeId]> {
    ids.iter().map(|id| NodeId(*id)).collect()
}

fn appended(partition: TopicIdPartition, base: i64, epoch: i32, crc: u32, role: ReplicaRole) -> Observation {
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

fn stamp(id: i64, epoch: i16, base_sequence: Option<i32>) -> ProducerStamp {
    ProducerStamp { id: ProducerId(id), epoch: ProducerEpoch(epoch), base_sequence }
}

/// Broker 2, leader of another partition, appends one record or marker of a transactional producer.
fn stamped(base: i64, stamp: ProducerStamp, is_transactional: bool) -> Event {
    let is_control = stamp.base_sequence.is_none();
    let mut fact = appended(partition(1), base, 3, base as u32, ReplicaRole::Leader);
    if let Observation::Appended { producer, is_transactional: transactional, is_control: control, .. } = &mut fact {
        (*producer, *transactional, *control) = (Some(stamp), is_transactional, is_control);
    }
    Says(2, 0, fact)
}

fn marker(offset: i64, coordinator_epoch: i32, commit: bool) -> Event {
    let (partition, offset, coordinator_epoch) = (partition(1), Offset(offset), LeaderEpoch(coordinator_epoch));
    let (producer, producer_epoch) = (ProducerId(50), ProducerEpoch(0));
    let fact =
        Observation::TransactionMarker { partition, offset, producer, producer_epoch, coordinator_epoch, commit };
    Says(2, 0, fact)
}

/// Broker 3 coordinates transactions.
fn transaction(id: &str, producer: i64, epoch: i16, state: TransactionState, partitions: &[i32]) -> Event {
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
fn group(name: &str, epoch: i32, state: GroupState) -> Event {
    let (group, coordinator_epoch) = (name.into(), LeaderEpoch(5));
    Says(2, 0, Observation::GroupChanged { group, coordinator_epoch, epoch, state })
}

fn member(name: &str, epoch: i32, [assigned, revoking, target]: [&[i32]; 3]) -> Event {
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

fn gone(name: &str) -> Event {
    Says(2, 0, Observation::MemberGone { group: "billing".into(), member: name.into() })
}

fn committed(group: &str, member: Option<&str>, epoch: i32) -> Event {
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

fn coordinates(kind: CoordinatorKind, epoch: i32) -> Observation {
    Observation::CoordinatorLoaded { kind, partition: 0, leader_epoch: LeaderEpoch(epoch) }
}

fn asks(epoch: i32) -> Observation {
    Observation::QuorumProspective { epoch: LeaderEpoch(epoch) }
}

fn stands(epoch: i32) -> Observation {
    Observation::QuorumCandidate { epoch: LeaderEpoch(epoch) }
}

fn proposes(leader_epoch: i32, partition_epoch: i32, isr: &[i32]) -> Observation {
    let (leader_epoch, partition_epoch) = (LeaderEpoch(leader_epoch), PartitionEpoch(partition_epoch));
    Observation::IsrProposed { partition: data(), leader_epoch, partition_epoch, isr: nodes(isr) }
}

fn isr_committed(partition_epoch: i32, isr: &[i32]) -> Observation {
    let (leader_epoch, partition_epoch) = (LeaderEpoch(1), PartitionEpoch(partition_epoch));
    Observation::IsrCommitted { partition: data(), leader_epoch, partition_epoch, isr: nodes(isr) }
}

fn answered(until: i64) -> Observation {
    Observation::ControllerAnswered { until: Offset(until) }
}

fn watermark(partition: TopicIdPartition, epoch: i32, to: i64, end: i64, role: ReplicaRole) -> Observation {
    let (high_watermark, log_end, leader_epoch) = (Offset(to), Offset(end), LeaderEpoch(epoch));
    Observation::HighWatermark { partition, leader_epoch, high_watermark, log_end, role }
}

fn changed(leader: Option<i32>, leader_epoch: i32, partition_epoch: i32, isr: &[i32]) -> Observation {
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

fn leads(epoch: i32, start: i64, isr: &[i32]) -> Observation {
    let (leader_epoch, start) = (LeaderEpoch(epoch), Offset(start));
    Observation::BecameLeader { partition: data(), leader_epoch, start, isr: nodes(isr) }
}

fn follows(epoch: i32, leader: i32) -> Observation {
    Observation::BecameFollower { partition: data(), leader_epoch: LeaderEpoch(epoch), leader: Some(NodeId(leader)) }
}

fn acknowledged(epoch: i32, offset: i64, high_watermark: i64, isr_size: u32) -> Observation {
    let (base, last) = (Offset(offset), Offset(offset));
    let (leader_epoch, high_watermark) = (LeaderEpoch(epoch), Offset(high_watermark));
    Observation::Acknowledged { partition: data(), leader_epoch, base, last, high_watermark, isr_size }
}

fn loaded(end: i64) -> Observation {
    let (log_start, log_end, high_watermark) = (Offset(0), Offset(end), Offset(0));
    Observation::LogLoaded { partition: data(), log_start, log_end, high_watermark, truncated_bytes: 0 }
}

fn truncated(partition: TopicIdPartition, from: i64, to: i64) -> Observation {
    Observation::Truncated { partition, from: Offset(from), to: Offset(to) }
}

fn registered(broker: i32, epoch: i64) -> Observation {
    Observation::BrokerRegistered { broker: NodeId(broker), broker_epoch: BrokerEpoch(epoch) }
}

fn unfenced(broker: i32, epoch: i64) -> Observation {
    Observation::BrokerUnfenced { broker: NodeId(broker), broker_epoch: BrokerEpoch(epoch) }
}

fn fenced(broker: i32, epoch: i64) -> Observation {
    Observation::BrokerFenced { broker: NodeId(broker), broker_epoch: BrokerEpoch(epoch) }
}

fn epoch(epoch: i32) -> Observation {
    Observation::QuorumEpoch { epoch: LeaderEpoch(epoch) }
}

fn votes(epoch: i32, candidate: i32) -> Observation {
    Observation::QuorumVote { epoch: LeaderEpoch(epoch), candidate: NodeId(candidate) }
}

fn wins(epoch: i32, start: i64) -> Observation {
    Observation::QuorumLeader { epoch: LeaderEpoch(epoch), start: Offset(start) }
}

fn names(epoch: i32, leader: i32) -> Observation {
    Observation::QuorumFollower { epoch: LeaderEpoch(epoch), leader: NodeId(leader) }
}

/// Brokers 1 to 3, controllers 101 to 103. The first controller and the first leader fail; what they had alone is cut off
/// when they return, and all get well.
fn story() -> Vec<Event> {
    use ReplicaRole::{Follower, Leader};
    let mut story = Vec::new();
    let mut says = |node: i32, incarnation: u32, facts: &[Observation]| {
        story.extend(facts.iter().map(|fact| Says(node, incarnation, fact.clone())));
    };
    // The quorum elects 101, which commits an offset and writes one more that 103 never gets.
    says(101, 0, &[asks(0), epoch(1), votes(1, 101), stands(1)]);
    says(102, 0, &[epoch(1), votes(1, 101), names(1, 101)]);
    says(103, 0, &[epoch(1), names(1, 101)]);
    says(101, 0, &[wins(1, 0), appended(META, 0, 1, 10, Leader), appended(META, 1, 1, 11, Leader)]);
    says(102, 0, &[appended(META, 0, 1, 10, Follower), appended(META, 1, 1, 11, Follower)]);
    says(103, 0, &[appended(META, 0, 1, 10, Follower), appended(META, 1, 1, 11, Follower)]);
    says(101, 0, &[watermark(META, 1, 2, 2, Leader)]);
    says(102, 0, &[watermark(META, 1, 2, 2, Follower)]);
    let registrations =
        [registered(1, 1), unfenced(1, 1), registered(2, 2), unfenced(2, 2), registered(3, 3), unfenced(3, 3)];
    says(101, 0, &registrations);
    says(101, 0, &[changed(Some(1), 0, 0, &[1, 2, 3])]);
    says(102, 0, &registrations);
    says(102, 0, &[changed(Some(1), 0, 0, &[1, 2, 3])]);
    says(101, 0, &[appended(META, 2, 1, 12, Leader)]);
    // Broker 1 leads; offsets 0 and 1 are committed, 2 only broker 3 has as well, 3 nobody.
    for node in 1..=3 {
        says(node, 0, &[loaded(0)]);
    }
    says(1, 0, &[leads(0, 0, &[1, 2, 3]), appended(data(), 0, 0, 20, Leader), appended(data(), 1, 0, 21, Leader)]);
    for node in 2..=3 {
        says(node, 0, &[follows(0, 1), appended(data(), 0, 0, 20, Follower), appended(data(), 1, 0, 21, Follower)]);
    }
    says(1, 0, &[watermark(data(), 0, 1, 2, Leader), acknowledged(0, 0, 1, 3), watermark(data(), 0, 2, 2, Leader)]);
    says(1, 0, &[acknowledged(0, 1, 2, 3), appended(data(), 2, 0, 22, Leader), appended(data(), 3, 0, 23, Leader)]);
    says(2, 0, &[watermark(data(), 0, 2, 2, Follower)]);
    says(3, 0, &[appended(data(), 2, 0, 22, Follower)]);
    story.push(Down(101));
    story.push(Lost(1, LossKind::PowerLoss));
    let mut says = |node: i32, incarnation: u32, facts: &[Observation]| {
        story.extend(facts.iter().map(|fact| Says(node, incarnation, fact.clone())));
    };
    // 102 is elected, fences broker 1, and broker 2 takes over.
    says(102, 0, &[asks(1), epoch(2), votes(2, 102), stands(2)]);
    says(103, 0, &[epoch(2), votes(2, 102), names(2, 102)]);
    says(102, 0, &[wins(2, 2), appended(META, 2, 2, 13, Leader)]);
    says(103, 0, &[appended(META, 2, 2, 13, Follower)]);
    says(102, 0, &[watermark(META, 2, 3, 3, Leader)]);
    says(102, 0, &[changed(Some(2), 1, 1, &[2, 3]), fenced(1, 1)]);
    says(103, 0, &registrations);
    says(103, 0, &[changed(Some(1), 0, 0, &[1, 2, 3]), changed(Some(2), 1, 1, &[2, 3]), fenced(1, 1)]);
    says(2, 0, &[leads(1, 2, &[2, 3]), appended(data(), 2, 1, 24, Leader)]);
    // A member of the ISR cuts what is not committed.
    says(3, 0, &[follows(1, 2), truncated(data(), 3, 2), appended(data(), 2, 1, 24, Follower)]);
    says(2, 0, &[watermark(data(), 1, 3, 3, Leader), acknowledged(1, 2, 3, 2)]);
    says(3, 0, &[watermark(data(), 1, 3, 3, Follower)]);
    // Both are back, without what was theirs alone.
    says(101, 1, &[epoch(2), names(2, 102), truncated(META, 3, 2), appended(META, 2, 2, 13, Follower)]);
    says(102, 0, &[registered(1, 9), unfenced(1, 9)]);
    says(1, 1, &[loaded(3), follows(1, 2), truncated(data(), 3, 2), appended(data(), 2, 1, 24, Follower)]);
    says(2, 0, &[proposes(1, 1, &[2, 3, 1])]);
    says(102, 0, &[changed(Some(2), 1, 2, &[2, 3, 1]), answered(3)]);
    says(103, 0, &[registered(1, 9), unfenced(1, 9), changed(Some(2), 1, 2, &[2, 3, 1])]);
    says(2, 0, &[isr_committed(2, &[2, 3, 1]), appended(data(), 3, 1, 25, Leader)]);
    says(3, 0, &[appended(data(), 3, 1, 25, Follower)]);
    says(1, 1, &[watermark(data(), 1, 3, 3, Follower), appended(data(), 3, 1, 25, Follower)]);
    says(2, 0, &[watermark(data(), 1, 4, 4, Leader), acknowledged(1, 3, 4, 3)]);
    says(2, 0, &[appended(data(), 4, 1, 26, Leader)]);
    says(3, 0, &[appended(data(), 4, 1, 26, Follower)]);
    says(103, 0, &[appended(META, 3, 2, 14, Follower), truncated(META, 4, 3)]);
    says(102, 0, &[appended(META, 3, 2, 14, Leader)]);
    says(103, 0, &[appended(META, 3, 2, 14, Follower)]);
    says(102, 0, &[watermark(META, 2, 4, 4, Leader)]);
    story.extend(groups());
    story.extend(transactions());
    story.extend(changes::reassignment());
    story.extend(changes::quorum());
    story.extend(changes::cleanups());
    story
}

/// Group `billing` gets a member, and another one, to which the first gives up a partition; group `stock` is empty.
fn groups() -> Vec<Event> {
    vec![
        Says(2, 0, coordinates(CoordinatorKind::Group, 5)),
        group("billing", 1, GroupState::Assigning),
        member("a", 1, [&[0, 1], &[], &[0, 1]]),
        group("billing", 1, GroupState::Stable),
        committed("billing", Some("a"), 1),
        group("billing", 2, GroupState::Reconciling),
        member("a", 1, [&[0], &[1], &[0]]),
        member("b", 2, [&[], &[], &[1]]),
        member("a", 2, [&[0], &[], &[0]]),
        member("b", 2, [&[1], &[], &[1]]),
        group("billing", 2, GroupState::Stable),
        committed("billing", Some("a"), 2),
        group("stock", 0, GroupState::Empty),
        committed("stock", None, -1),
    ]
}

/// One transaction is committed, its successor aborted; the abort's marker is written twice, as a new coordinator may.
fn transactions() -> Vec<Event> {
    use TransactionState::{CompleteAbort, CompleteCommit, Empty, Ongoing, PrepareAbort, PrepareCommit};
    vec![
        Says(3, 0, coordinates(CoordinatorKind::Transaction, 6)),
        transaction("transfer", 50, 0, Empty, &[]),
        transaction("transfer", 50, 0, Ongoing, &[1]),
        stamped(0, stamp(50, 0, Some(0)), true),
        stamped(1, stamp(50, 0, Some(1)), true),
        transaction("transfer", 50, 0, PrepareCommit, &[1]),
        stamped(2, stamp(50, 0, None), true),
        marker(2, 6, true),
        transaction("transfer", 50, 0, CompleteCommit, &[1]),
        stamped(3, stamp(8, 0, Some(0)), false),
        stamped(4, stamp(50, 0, Some(2)), false),
        transaction("transfer", 50, 0, Ongoing, &[1]),
        stamped(5, stamp(50, 0, Some(3)), true),
        transaction("transfer", 50, 0, PrepareAbort, &[1]),
        stamped(6, stamp(50, 0, None), true),
        marker(6, 6, false),
        stamped(7, stamp(50, 0, None), true),
        marker(7, 6, false),
        transaction("transfer", 50, 0, CompleteAbort, &[1]),
    ]
}

fn ctx() -> Context {
    Context {
        defaults: PartitionRules { min_isr: 2, replication_factor: 3, ..PartitionRules::default() },
        topics: [(data().topic, "orders".to_owned())].into(),
        nodes: [1, 2, 3].map(|id| (NodeId(id), format!("broker-{id}"))).into(),
        voters: nodes(&[101, 102, 103]).into(),
        elr: true,
        ..Context::default()
    }
}

fn tell(ctx: Context, story: &[Event]) -> WhiteBox {
    let mut judge = WhiteBox::new(ctx);
    for (at, event) in (1u64..).zip(story) {
        let at = SimTime(at * 50_000_000);
        match event {
            Says(node, incarnation, fact) => judge.observe(at, NodeId(*node), *incarnation, fact),
            Down(node) => judge.node_down(NodeId(*node), at),
            Lost(node, kind) => judge.node_lost(NodeId(*node), at, *kind),
        }
    }
    judge
}

/// What broker 2 has on its disk at the end of the story.
fn disk() -> EndState {
    let batch = |(base, epoch, crc): (i64, i32, u32)| BatchEnd {
        base: Offset(base),
        last: Offset(base),
        leader_epoch: LeaderEpoch(epoch),
        crc,
        ..BatchEnd::default()
    };
    let batches = [(0, 0, 20), (1, 0, 21), (2, 1, 24), (3, 1, 25), (4, 1, 26)].map(batch);
    let replica = ReplicaEnd {
        node: NodeId(2),
        log_start: Offset(0),
        log_end: Offset(5),
        high_watermark: Offset(4),
        batches: batches.into(),
        file_digest: None,
        damage: None,
        epoch_starts: None,
        segments: None,
        producer_snapshots: None,
        last_stable: None,
        cleaned: None,
    };
    let partition = PartitionEnd {
        partition: data(),
        leader: Some(NodeId(2)),
        isr: nodes(&[2, 3, 1]).into(),
        assigned: nodes(&[1, 2, 3]).into(),
        replicas: vec![replica],
    };
    EndState { partitions: vec![partition], ..EndState::default() }
}

fn judge(story: &[Event]) -> Vec<CheckResult> {
    tell(ctx(), story).finish(&disk())
}

#[test]
fn a_correct_story_is_never_accused_and_gives_every_check_its_opportunity() {
    let results = judge(&story());
    assert_eq!(fired(&results), Vec::<&str>::new(), "{}", told(&results));
    assert_eq!(results.len(), CHECKS.iter().filter(|check| check.evidence == Evidence::WhiteBox).count());
    for result in &results {
        assert!(result.opportunities > 0, "{} had none", result.id);
        assert!(result.allowed.is_empty(), "{}: {:?}", result.id, result.allowed);
    }
}

#[test]
fn the_leaders_power_loss_excuses_what_it_had_alone_until_its_successor_is_at_work() {
    let excuses = tell(ctx(), &story()).excuses();
    let excuses = &excuses[&data()];
    let kinds: Vec<_> = excuses.iter().map(|excuse| excuse.kind).collect();
    assert_eq!(kinds, [ExcuseKind::LeaderPowerLoss, ExcuseKind::HighWatermarkRecovering]);
    assert!(excuses.iter().all(|excuse| excuse.until.is_some_and(|until| until > excuse.at)), "{excuses:?}");
}

#[test]
fn a_leader_that_is_elected_again_may_be_behind_until_it_is_past_the_start_of_its_epoch() {
    let mut story = story();
    story.extend([
        Says(102, 0, changed(Some(2), 1, 3, &[2])),
        Down(2),
        Says(102, 0, changed(None, 2, 4, &[2])),
        Says(102, 0, changed(Some(2), 3, 5, &[2])),
        Says(2, 2, loaded(5)),
        Says(2, 2, leads(3, 5, &[2])),
        Says(2, 2, watermark(data(), 3, 4, 5, ReplicaRole::Leader)),
    ]);
    let last = |story: &[Event]| *tell(ctx(), story).excuses()[&data()].last().expect("it was elected again");
    let (kind, until) = (last(&story).kind, last(&story).until);
    assert_eq!((kind, until), (ExcuseKind::HighWatermarkRecovering, None), "4 of 5 is not enough");
    story.push(Says(2, 2, watermark(data(), 3, 5, 5, ReplicaRole::Leader)));
    assert!(last(&story).until.is_some_and(|until| until > last(&story).at));
}

/// Replaces the only event equal to `old`.
fn replace(story: &mut Vec<Event>, old: &Event, new: &[Event]) {
    let places: Vec<usize> = (0..story.len()).filter(|at| story[*at] == *old).collect();
    assert_eq!(places.len(), 1, "{old:?}");
    story.splice(places[0]..=places[0], new.iter().cloned());
}

type Change = fn(&mut Vec<Event>);

const CHANGES: &[(&str, &str, Change)] = &[
    ("leader-per-epoch", "another broker appends as leader of the same epoch", |story| {
        story.push(Says(3, 0, appended(data(), 5, 1, 30, ReplicaRole::Leader)));
    }),
    ("leader-per-epoch", "a leader restarts and goes on in its epoch", |story| {
        story.extend([Down(2), Says(2, 1, loaded(5)), Says(2, 1, appended(data(), 5, 1, 30, ReplicaRole::Leader))]);
    }),
    ("leader-completeness", "a follower that lacks a committed record is elected", |story| {
        replace(
            story,
            &Says(2, 0, leads(1, 2, &[2, 3])),
            &[
                Says(
                    2,
                    0,
                    Observation::BecameFollower { partition: data(), leader_epoch: LeaderEpoch(1), leader: None },
                ),
                Says(1, 1, loaded(1)),
                Says(1, 1, leads(1, 1, &[2, 3])),
            ],
        );
    }),
    ("committed-truncated", "a follower truncates to its own high watermark when the leader changes", |story| {
        replace(
            story,
            &Says(3, 0, follows(1, 2)),
            &[
                Says(3, 0, follows(1, 2)),
                Says(3, 0, truncated(data(), 2, 0)),
                Says(3, 0, appended(data(), 0, 0, 20, ReplicaRole::Follower)),
                Says(3, 0, appended(data(), 1, 0, 21, ReplicaRole::Follower)),
            ],
        );
    }),
    ("committed-truncated", "recovery cuts a committed record though nothing was lost", |story| {
        story.extend([Down(3), Says(3, 1, loaded(1))]);
    }),
    ("log-matching", "a follower has other bytes at the same offset and epoch", |story| {
        let old = Says(3, 0, appended(data(), 3, 1, 25, ReplicaRole::Follower));
        replace(story, &old, &[Says(3, 0, appended(data(), 3, 1, 99, ReplicaRole::Follower))]);
    }),
    ("log-matching", "a follower keeps its own tail below the high watermark", |story| {
        replace(story, &Says(1, 1, truncated(data(), 3, 2)), &[]);
        replace(story, &Says(1, 1, appended(data(), 2, 1, 24, ReplicaRole::Follower)), &[]);
    }),
    ("log-matching", "a follower appends a batch of an older leader epoch", |story| {
        story.push(Says(3, 0, appended(data(), 5, 0, 30, ReplicaRole::Follower)));
    }),
    ("log-matching", "a follower leaves an offset out", |story| {
        story.push(Says(3, 0, appended(data(), 6, 1, 30, ReplicaRole::Follower)));
    }),
    ("ack-rule", "acks=all is answered at the log's end", |story| {
        replace(story, &Says(1, 0, acknowledged(0, 1, 2, 3)), &[Says(1, 0, acknowledged(0, 2, 2, 3))]);
    }),
    ("ack-rule", "acks=all is answered with a lie about the high watermark", |story| {
        story.push(Says(2, 0, acknowledged(1, 4, 5, 3)));
    }),
    ("ack-rule", "acks=all is answered with an ISR that is too small", |story| {
        replace(story, &Says(2, 0, acknowledged(1, 2, 3, 2)), &[Says(2, 0, acknowledged(1, 2, 3, 1))]);
    }),
    ("high-watermark", "the high watermark passes a member of the ISR", |story| {
        story.push(Says(2, 0, watermark(data(), 1, 5, 5, ReplicaRole::Leader)));
    }),
    ("high-watermark", "the high watermark passes a replica that is about to join the ISR", |story| {
        let fact = watermark(data(), 1, 4, 4, ReplicaRole::Leader);
        replace(story, &Says(2, 0, isr_committed(2, &[2, 3, 1])), &[]);
        replace(story, &Says(1, 1, appended(data(), 3, 1, 25, ReplicaRole::Follower)), &[]);
        assert!(story.contains(&Says(2, 0, fact)));
    }),
    ("high-watermark", "the high watermark moves while the ISR is too small", |story| {
        let old = Says(2, 0, leads(1, 2, &[2, 3]));
        replace(story, &old, &[Says(2, 0, leads(1, 2, &[2]))]);
    }),
    ("high-watermark", "a member of the ISR has another record", |story| {
        replace(story, &Says(3, 0, truncated(data(), 3, 2)), &[]);
        replace(story, &Says(3, 0, appended(data(), 2, 1, 24, ReplicaRole::Follower)), &[]);
    }),
    ("high-watermark", "the log starts past the high watermark", |story| {
        story.push(Says(2, 0, Observation::LogStart { partition: data(), log_start: Offset(5) }));
    }),
    ("high-watermark", "a follower's high watermark passes its leader's", |story| {
        story.push(Says(3, 0, watermark(data(), 1, 5, 5, ReplicaRole::Follower)));
    }),
    ("high-watermark", "the high watermark passes the log's end", |story| {
        story.push(Says(2, 0, watermark(data(), 1, 6, 5, ReplicaRole::Leader)));
    }),
    ("high-watermark-monotone", "a leader's high watermark falls", |story| {
        story.push(Says(2, 0, watermark(data(), 1, 3, 5, ReplicaRole::Leader)));
    }),
    ("leader-in-isr", "the leader drops out of the ISR", |story| {
        story.push(Says(102, 0, changed(Some(2), 1, 3, &[3, 1])));
    }),
    ("isr-of-replicas", "a stranger is in the ISR", |story| {
        story.push(Says(102, 0, changed(Some(2), 1, 3, &[2, 3, 1, 4])));
    }),
    ("isr-unfenced", "a fenced broker joins", |story| {
        replace(story, &Says(102, 0, unfenced(1, 9)), &[]);
    }),
    ("isr-unfenced", "a broker joins while it is about to stop", |story| {
        let stops = Observation::BrokerShuttingDown { broker: NodeId(1), broker_epoch: BrokerEpoch(9) };
        replace(story, &Says(102, 0, unfenced(1, 9)), &[Says(102, 0, unfenced(1, 9)), Says(102, 0, stops)]);
    }),
    ("isr-unfenced", "a fenced broker stays", |story| {
        story.extend([Says(102, 0, fenced(3, 3)), Says(102, 0, registered(7, 20)), Says(102, 0, registered(8, 21))]);
        story.push(Says(102, 0, registered(9, 22)));
    }),
    ("clean-election", "a replica from outside the ISR is elected", |story| {
        let third = [Says(102, 0, changed(Some(2), 1, 3, &[2])), Says(102, 0, changed(Some(3), 2, 4, &[3]))];
        story.extend(third);
    }),
    ("registration-epochs", "the leader changes within its epoch", |story| {
        story.push(Says(102, 0, changed(Some(3), 1, 3, &[2, 3, 1])));
    }),
    ("registration-epochs", "the partition epoch stays", |story| {
        story.push(Says(102, 0, changed(Some(2), 1, 2, &[2, 3, 1])));
    }),
    ("registration-epochs", "the partition epoch skips one", |story| {
        story.push(Says(102, 0, changed(Some(2), 1, 4, &[2, 3])));
    }),
    ("registration-epochs", "the leader epoch falls", |story| {
        story.push(Says(102, 0, changed(Some(2), 0, 3, &[2, 3, 1])));
    }),
    ("registration-agreement", "a broker leads in an epoch registered for another", |story| {
        story.push(Says(3, 0, leads(1, 5, &[2, 3, 1])));
    }),
    ("registration-agreement", "two controllers replay another ISR", |story| {
        let old = Says(103, 0, changed(Some(2), 1, 2, &[2, 3, 1]));
        replace(story, &old, &[Says(103, 0, changed(Some(2), 1, 2, &[2, 3]))]);
    }),
    ("broker-epochs", "a broker is registered anew before it is fenced", |story| {
        story.push(Says(102, 0, registered(3, 20)));
    }),
    ("broker-epochs", "a broker gets an older broker epoch", |story| story.push(Says(102, 0, registered(1, 5)))),
    ("broker-epochs", "a controller that was started again gives out an older broker epoch", |story| {
        story.extend([registered(7, 20), registered(7, 19)].map(|fact| Says(101, 1, fact)));
    }),
    ("quorum-leader-per-epoch", "two controllers win one epoch", |story| story.push(Says(103, 0, wins(2, 4)))),
    ("quorum-leader-per-epoch", "a controller restarts and leads its epoch again", |story| {
        story.extend([Down(102), Says(102, 1, wins(2, 4))]);
    }),
    ("quorum-leader-per-epoch", "a node follows another leader", |story| story.push(Says(101, 1, names(2, 103)))),
    ("quorum-vote", "a voter forgets its vote in a restart", |story| {
        story.extend([Down(103), Says(103, 1, votes(2, 101))]);
    }),
    ("quorum-epoch-monotone", "a node forgets its epoch in a restart", |story| {
        story.extend([Down(103), Says(103, 1, epoch(1))]);
    }),
    ("quorum-high-watermark", "the leader alone commits", |story| {
        let more = [appended(META, 4, 2, 15, ReplicaRole::Leader), watermark(META, 2, 5, 5, ReplicaRole::Leader)];
        story.extend(more.map(|fact| Says(102, 0, fact)));
    }),
    ("quorum-high-watermark", "the high watermark moves to the epoch's start, not past it", |story| {
        let old = Says(102, 0, watermark(META, 2, 3, 3, ReplicaRole::Leader));
        let early = Says(102, 0, watermark(META, 2, 2, 3, ReplicaRole::Leader));
        replace(story, &old, &[early, old.clone()]);
    }),
    ("quorum-high-watermark", "the high watermark falls", |story| {
        story.push(Says(102, 0, watermark(META, 2, 3, 4, ReplicaRole::Leader)));
    }),
    ("metadata-leader-completeness", "a controller without a committed record wins", |story| {
        story.extend([Says(101, 1, epoch(3)), Says(101, 1, wins(3, 3))]);
    }),
    ("metadata-truncated", "a voter cuts a committed record", |story| {
        story.push(Says(103, 0, truncated(META, 4, 3)));
    }),
    ("truncation-point", "a follower cuts what its leader has as well", |story| {
        story.push(Says(3, 0, truncated(data(), 5, 4)));
    }),
    ("truncation-point", "a follower cuts its log before it follows anybody", |story| {
        story.extend([Down(3), Says(3, 1, loaded(5)), Says(3, 1, truncated(data(), 5, 4))]);
    }),
    ("truncation-point", "a voter cuts what is below its high watermark", |story| {
        let own = Says(103, 0, watermark(META, 2, 4, 4, ReplicaRole::Follower));
        story.extend([own, Says(103, 0, truncated(META, 4, 3))]);
    }),
    ("recovered-log", "a crash takes what was in the page cache", |story| {
        story.extend([Down(3), Says(3, 1, loaded(4))]);
    }),
    ("recovered-log", "a log opens with its high watermark past its end", |story| {
        let (log_start, log_end, high_watermark) = (Offset(0), Offset(5), Offset(6));
        let opened =
            Observation::LogLoaded { partition: data(), log_start, log_end, high_watermark, truncated_bytes: 0 };
        story.extend([Down(3), Says(3, 1, opened)]);
    }),
    ("isr-proposal", "the controller adds a replica that nobody proposed", |story| {
        replace(story, &Says(2, 0, proposes(1, 1, &[2, 3, 1])), &[]);
    }),
    ("isr-proposal", "the controller takes a proposal for an older registration", |story| {
        replace(story, &Says(2, 0, proposes(1, 1, &[2, 3, 1])), &[Says(2, 0, proposes(1, 0, &[2, 3, 1]))]);
    }),
    ("isr-proposal", "a leader takes another ISR for committed", |story| {
        replace(story, &Says(2, 0, isr_committed(2, &[2, 3, 1])), &[Says(2, 0, isr_committed(2, &[2, 3]))]);
    }),
    ("isr-complete", "a replica is proposed below the start of the leader's epoch", |story| {
        let early = Says(2, 0, proposes(1, 1, &[2, 3, 1]));
        let lead = Says(2, 0, leads(1, 2, &[2, 3]));
        replace(story, &early, &[]);
        replace(story, &Says(1, 1, loaded(3)), &[Says(1, 1, loaded(1)), early]);
        replace(
            story,
            &Says(1, 1, truncated(data(), 3, 2)),
            &[Says(1, 1, appended(data(), 1, 0, 21, ReplicaRole::Follower))],
        );
        assert!(story.contains(&lead));
    }),
    ("isr-complete", "a replica is in the ISR before it has what is committed", |story| {
        let joins = Says(102, 0, changed(Some(2), 1, 2, &[2, 3, 1]));
        replace(story, &joins, &[]);
        replace(story, &Says(1, 1, truncated(data(), 3, 2)), &[Says(1, 1, truncated(data(), 3, 2)), joins]);
    }),
    ("quorum-roles", "a node stands for election without pre-votes", |story| {
        replace(story, &Says(102, 0, asks(1)), &[]);
    }),
    ("quorum-roles", "a pre-vote raises the epoch", |story| {
        story.extend([Says(103, 0, epoch(3)), Says(103, 0, asks(2))]);
    }),
    ("quorum-roles", "a candidate leads without a majority", |story| {
        replace(story, &Says(103, 0, votes(2, 102)), &[]);
    }),
    ("quorum-roles", "a follower resigns", |story| {
        story.push(Says(103, 0, Observation::QuorumResigned { epoch: LeaderEpoch(2) }));
    }),
    ("controller-answer", "the controller answers before its records are committed", |story| {
        replace(story, &Says(102, 0, answered(3)), &[Says(102, 0, answered(4))]);
    }),
    ("producer-sequence", "a retry is appended again", |story| {
        story.push(stamped(8, stamp(50, 0, Some(3)), false));
    }),
    ("producer-sequence", "a batch is left out", |story| story.push(stamped(8, stamp(50, 0, Some(5)), false))),
    ("producer-sequence", "a fenced producer writes", |story| {
        story.push(stamped(8, stamp(8, 1, Some(0)), false));
        story.push(stamped(9, stamp(8, 0, Some(1)), false));
    }),
    ("producer-sequence", "a new epoch begins in the middle", |story| {
        story.push(stamped(8, stamp(8, 1, Some(1)), false));
    }),
    ("coordinator-per-epoch", "two brokers load a partition in one epoch", |story| {
        story.push(Says(3, 0, coordinates(CoordinatorKind::Group, 5)));
    }),
    ("coordinator-per-epoch", "a broker coordinates what it has unloaded", |story| {
        let gone = Observation::CoordinatorUnloaded { kind: CoordinatorKind::Group, partition: 0 };
        story.extend([Says(2, 0, gone), group("billing", 3, GroupState::Assigning)]);
    }),
    ("group-epoch-monotone", "a group's epoch falls", |story| story.push(group("billing", 1, GroupState::Assigning))),
    ("group-epoch-monotone", "a member's epoch falls", |story| story.push(member("a", 1, [&[0], &[], &[0]]))),
    ("single-owner", "a partition is given away before it is given up", |story| {
        replace(story, &member("b", 2, [&[], &[], &[1]]), &[member("b", 2, [&[1], &[], &[1]])]);
    }),
    ("stable-group", "a group is stable before a member has its target", |story| {
        replace(story, &member("b", 2, [&[1], &[], &[1]]), &[]);
    }),
    ("stable-group", "a group is stable with a member of an older epoch", |story| {
        replace(story, &member("a", 2, [&[0], &[], &[0]]), &[member("a", 1, [&[0], &[], &[0]])]);
        replace(story, &committed("billing", Some("a"), 2), &[]);
    }),
    ("stable-group", "a partition is the target of two members", |story| {
        replace(story, &member("b", 2, [&[1], &[], &[1]]), &[member("b", 2, [&[1, 0], &[], &[1, 0]])]);
    }),
    ("commit-fencing", "a member that was removed commits", |story| {
        story.extend([gone("b"), committed("billing", Some("b"), 2)]);
    }),
    ("commit-fencing", "a member commits in an older epoch", |story| {
        story.push(committed("billing", Some("a"), 1));
    }),
    ("commit-fencing", "somebody commits for a group with members", |story| {
        story.push(committed("billing", None, -1));
    }),
    ("transaction-state", "a decision flips", |story| {
        let old = transaction("transfer", 50, 0, TransactionState::CompleteAbort, &[1]);
        replace(story, &old, &[transaction("transfer", 50, 0, TransactionState::CompleteCommit, &[1])]);
    }),
    ("transaction-state", "a partition leaves an open transaction", |story| {
        story.push(transaction("transfer", 50, 0, TransactionState::Ongoing, &[0, 1]));
        story.push(transaction("transfer", 50, 0, TransactionState::Ongoing, &[0]));
    }),
    ("producer-epochs", "a producer's epoch falls", |story| {
        story.push(transaction("transfer", 50, 1, TransactionState::Empty, &[]));
        story.push(transaction("transfer", 50, 0, TransactionState::Empty, &[]));
    }),
    ("producer-epochs", "two transactional ids share a producer id", |story| {
        story.push(transaction("refund", 50, 0, TransactionState::Empty, &[]));
    }),
    ("transaction-markers", "a marker is missing", |story| {
        replace(story, &marker(2, 6, true), &[]);
    }),
    ("transaction-markers", "a marker says the contrary", |story| {
        replace(story, &marker(2, 6, true), &[marker(2, 6, false)]);
    }),
    ("transaction-markers", "a deposed coordinator writes a marker", |story| {
        replace(story, &marker(7, 6, false), &[marker(7, 5, false)]);
    }),
    ("transaction-data", "data comes after the abort", |story| {
        story.push(stamped(8, stamp(50, 0, Some(4)), true));
    }),
    ("transaction-data", "a producer writes past its own transaction", |story| {
        replace(
            story,
            &stamped(5, stamp(50, 0, Some(3)), true),
            &[stamped(5, stamp(50, 0, Some(3)), true), stamped(6, stamp(50, 0, Some(4)), false)],
        );
        replace(story, &stamped(6, stamp(50, 0, None), true), &[]);
    }),
    ("committed-on-disk", "every disk forgets a committed record", |story| {
        story.push(Says(1, 1, appended(data(), 4, 1, 26, ReplicaRole::Follower)));
        let role = |node: i32| if node == 2 { ReplicaRole::Leader } else { ReplicaRole::Follower };
        let six =
            [(2, 0), (3, 0), (1, 1)].map(|(node, start)| Says(node, start, appended(data(), 5, 1, 27, role(node))));
        story.extend(six);
        story.push(Says(2, 0, watermark(data(), 1, 6, 6, ReplicaRole::Leader)));
    }),
    ("metadata-log-matching", "a voter has other bytes", |story| {
        let old = Says(101, 1, appended(META, 2, 2, 13, ReplicaRole::Follower));
        replace(story, &old, &[Says(101, 1, appended(META, 2, 2, 99, ReplicaRole::Follower))]);
    }),
];

fn all_changes() -> impl Iterator<Item = &'static (&'static str, &'static str, Change)> {
    CHANGES.iter().chain(changes::CHANGES)
}

/// Each change: the check that refuses it, and what it does.
pub(super) fn refused() -> Vec<(&'static str, &'static str)> {
    all_changes().map(|(check, what, _)| (*check, *what)).collect()
}

#[test]
fn every_change_is_refused_by_the_check_it_is_made_for() {
    let mut matrix = String::new();
    for (check, what, change) in all_changes() {
        let mut changed = story();
        change(&mut changed);
        assert_ne!(changed, story(), "{what}: changed nothing");
        let results = judge(&changed);
        assert!(fired(&results).contains(check), "{check} did not see that {what}; fired {:?}", fired(&results));
        let also: BTreeSet<&str> = fired(&results).into_iter().filter(|id| id != check).collect();
        let result = results.iter().find(|result| result.id == *check).expect("it fired");
        let also: Vec<&str> = also.into_iter().collect();
        writeln!(matrix, "{check}: {what}\n    also: {}", also.join(" ")).expect("a string");
        for line in &result.violations[0].evidence {
            writeln!(matrix, "    | {line}").expect("a string");
        }
    }
    for check in CHECKS.iter().filter(|check| check.evidence == Evidence::WhiteBox) {
        assert!(all_changes().any(|(id, ..)| *id == check.id), "{} has no change", check.id);
    }
    insta::assert_snapshot!("kill_matrix_white_box", matrix);
}

#[test]
fn a_new_controllers_first_election_is_held_against_what_its_predecessor_told() {
    let mut story = story();
    story.push(Says(101, 1, changed(Some(1), 2, 3, &[1])));
    assert_eq!(fired(&judge(&story)), Vec::<&str>::new());
    let last = story.len() - 1;
    story[last] = Says(101, 1, changed(Some(3), 3, 3, &[3]));
    assert_eq!(fired(&judge(&story)), ["registration-epochs"]);
    story.insert(last, Says(102, 0, changed(Some(2), 1, 3, &[2])));
    story[last + 1] = Says(101, 1, changed(Some(3), 2, 4, &[3]));
    assert_eq!(fired(&judge(&story)), ["clean-election"]);
}

#[test]
fn what_a_controller_told_before_another_was_active_is_not_held_against_it() {
    let mut story = story();
    // 103 takes broker 3 out while 102 is silent; 102, active again, has no reason to tell of that partition.
    story.push(Says(103, 0, changed(Some(2), 1, 3, &[2, 1])));
    story.extend([Says(102, 0, fenced(3, 3)), Says(102, 0, registered(7, 20)), Says(102, 0, registered(8, 21))]);
    story.push(Says(102, 0, registered(9, 22)));
    let results = judge(&story);
    assert_eq!(fired(&results), Vec::<&str>::new(), "{}", told(&results));
}

#[test]
fn a_fenced_broker_is_in_no_isr_of_a_topic_that_is_gone() {
    let fences = [
        Says(102, 0, fenced(3, 3)),
        Says(102, 0, registered(7, 20)),
        Says(102, 0, registered(8, 21)),
        Says(102, 0, registered(9, 22)),
    ];
    let mut kept = story();
    kept.extend(fences.clone());
    assert_eq!(fired(&judge(&kept)), ["isr-unfenced"], "broker 3 is fenced and stays in the ISR");
    let mut deleted = story();
    deleted.push(Says(102, 0, Observation::TopicDeleted { topic: data().topic }));
    // A controller that is behind tells of it once more.
    deleted.push(Says(101, 1, changed(Some(2), 1, 2, &[2, 3, 1])));
    deleted.extend(fences);
    let results = judge(&deleted);
    assert_eq!(fired(&results), Vec::<&str>::new(), "{}", told(&results));
}

/// All of the ISR loses power at once, and what was committed goes with it.
fn power_loss_of_all(nodes: &[i32]) -> Vec<Event> {
    let mut story = story();
    story.extend(nodes.iter().map(|node| Lost(*node, LossKind::PowerLoss)));
    story.extend([
        Says(102, 0, changed(None, 2, 3, &[2, 3, 1])),
        Says(102, 0, changed(Some(3), 3, 4, &[2, 3])),
        Says(3, 1, loaded(1)),
        Says(3, 1, leads(3, 1, &[2, 3])),
        Says(3, 1, appended(data(), 1, 3, 40, ReplicaRole::Leader)),
        Says(3, 1, watermark(data(), 3, 2, 2, ReplicaRole::Leader)),
    ]);
    story
}

#[test]
fn a_power_loss_of_the_whole_isr_is_beyond_the_budget() {
    let results = tell(ctx(), &power_loss_of_all(&[1, 2, 3])).finish(&EndState::default());
    assert_eq!(fired(&results), Vec::<&str>::new(), "{}", told(&results));
    let completeness = results.iter().find(|result| result.id == "leader-completeness").expect("every check tells");
    assert_eq!(completeness.allowed, [("loss-beyond-budget".to_owned(), 1)].into());
    let excuses = &tell(ctx(), &power_loss_of_all(&[1, 2, 3])).excuses()[&data()];
    assert!(excuses.iter().any(|excuse| excuse.kind == ExcuseKind::LossBeyondBudget), "{excuses:?}");
}

#[test]
fn a_power_loss_of_one_member_pays_for_nothing() {
    assert_eq!(
        fired(&tell(ctx(), &power_loss_of_all(&[3])).finish(&EndState::default())),
        ["leader-completeness", "high-watermark"]
    );
}

#[test]
fn a_budget_that_was_exceeded_is_whole_again_once_the_member_has_rejoined() {
    // With min.insync.replicas = 1 any loss of a member is one too many.
    let mut story = story();
    story.extend([
        Lost(3, LossKind::PowerLoss),
        Says(102, 0, changed(Some(2), 1, 3, &[2, 1])),
        Says(3, 1, loaded(5)),
        Says(102, 0, changed(Some(2), 1, 4, &[2, 1, 3])),
    ]);
    let mut lone = ctx();
    lone.defaults.min_isr = 1;
    let excuses = &tell(lone, &story).excuses()[&data()];
    let beyond: Vec<_> = excuses.iter().filter(|excuse| excuse.kind == ExcuseKind::LossBeyondBudget).collect();
    assert!(!beyond.is_empty() && beyond.iter().all(|excuse| excuse.until.is_some()), "{excuses:?}");
}

/// Broker 2 leads and writes offset 5, which it does not live to tell; as leader again it goes on with sequence number 6.
fn untold(then: &[Event]) -> Vec<Event> {
    let mut story = story();
    story.extend([
        Down(2),
        Says(102, 0, changed(None, 2, 3, &[2])),
        Says(102, 0, changed(Some(2), 3, 4, &[2])),
        Says(2, 1, loaded(6)),
        Says(2, 1, leads(3, 6, &[2])),
    ]);
    story.extend_from_slice(then);
    story
}

#[test]
fn a_batch_that_a_crash_kept_from_being_told_is_no_gap_in_its_producers_sequence() {
    let goes_on = |node: i32, start: u32| Says(node, start, appended(data(), 6, 3, 31, ReplicaRole::Leader));
    let fires = |story: &[Event]| fired(&judge(story)).contains(&"producer-sequence");
    assert!(!fires(&untold(&[goes_on(2, 1)])), "nobody knows what offset 5 holds");
    // A follower tells, by copying it, and leads then.
    let copied = Says(3, 0, appended(data(), 5, 1, 30, ReplicaRole::Follower));
    let leads_now = Says(3, 0, leads(3, 6, &[3]));
    assert!(!fires(&untold(&[copied, leads_now.clone(), goes_on(3, 0)])));
    // What it copied is of another producer: then sequence number 5 is missing.
    let mut other = appended(data(), 5, 1, 30, ReplicaRole::Follower);
    if let Observation::Appended { producer, .. } = &mut other {
        *producer = Some(stamp(9, 0, Some(0)));
    }
    assert!(fires(&untold(&[Says(3, 0, other), leads_now, goes_on(3, 0)])));
}

#[test]
fn what_is_flushed_before_it_is_acknowledged_survives_any_power_loss() {
    let mut flushed = ctx();
    flushed.defaults.flush_before_ack = true;
    let results = tell(flushed, &power_loss_of_all(&[1, 2, 3])).finish(&EndState::default());
    assert_eq!(fired(&results), ["leader-completeness", "committed-truncated"]);
}

#[test]
fn an_unclean_election_counts_where_it_is_configured() {
    let mut story = story();
    story.extend([
        Says(102, 0, changed(Some(2), 1, 3, &[2])),
        Down(2),
        Says(102, 0, changed(Some(1), 2, 4, &[1])),
        Says(1, 1, truncated(data(), 4, 3)),
        Says(1, 1, leads(2, 3, &[1])),
    ]);
    let mut unclean = ctx();
    unclean.defaults.unclean_election = true;
    let results = tell(unclean, &story).finish(&EndState::default());
    assert_eq!(fired(&results), Vec::<&str>::new(), "{}", told(&results));
    for check in ["clean-election", "leader-completeness"] {
        let result = results.iter().find(|result| result.id == check).expect("every check tells");
        assert_eq!(result.allowed, [("unclean-election".to_owned(), 1)].into(), "{check}");
    }
    assert_eq!(fired(&judge(&story)), ["leader-completeness", "committed-truncated", "clean-election"]);
}

#[test]
fn more_batches_than_the_budget_pays_for_are_unknown_and_no_pass() {
    let small = Context { max_batches: 3, ..ctx() };
    let results = tell(small, &story()).finish(&EndState::default());
    let matching = results.iter().find(|result| result.id == "log-matching").expect("every check tells");
    assert_eq!(matching.outcome, CheckOutcome::Unknown);
}

#[test]
fn what_the_disk_holds_at_the_end_is_what_was_written() {
    let end = |crc: u32| {
        let mut end = disk();
        end.partitions[0].replicas[0].batches[0].crc = crc;
        end
    };
    assert_eq!(fired(&tell(ctx(), &story()).finish(&end(20))), Vec::<&str>::new());
    assert_eq!(fired(&tell(ctx(), &story()).finish(&end(77))), ["log-matching"]);
}
