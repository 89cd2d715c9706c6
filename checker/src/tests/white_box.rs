//! A small cluster's observations, legal as they stand; each change to them is refused by the check it is made for.

use super::reference::partition;
use super::{fired, told};
use crate::context::{Context, ExcuseKind, LossKind, PartitionRules};
use crate::convergence::{BatchEnd, EndState, PartitionEnd, ReplicaEnd};
use crate::history::SimTime;
use crate::registry::{CHECKS, Evidence};
use crate::{CheckOutcome, CheckResult, WhiteBox};
use broker_types::{
    BrokerEpoch, LeaderEpoch, NodeId, Observation, Offset, PartitionEpoch, ReplicaRole, TopicIdPartition,
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
    Observation::Appended { partition, base, last, leader_epoch, size: 100, crc, role }
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
    says(101, 0, &[epoch(1), votes(1, 101)]);
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
    // Broker 1 leads; offsets 0 and 1 are committed, 2 and 3 it has alone.
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
    story.push(Down(101));
    story.push(Lost(1, LossKind::PowerLoss));
    let mut says = |node: i32, incarnation: u32, facts: &[Observation]| {
        story.extend(facts.iter().map(|fact| Says(node, incarnation, fact.clone())));
    };
    // 102 is elected, fences broker 1, and broker 2 takes over.
    says(102, 0, &[epoch(2), votes(2, 102)]);
    says(103, 0, &[epoch(2), votes(2, 102), names(2, 102)]);
    says(102, 0, &[wins(2, 2), appended(META, 2, 2, 13, Leader)]);
    says(103, 0, &[appended(META, 2, 2, 13, Follower)]);
    says(102, 0, &[watermark(META, 2, 3, 3, Leader)]);
    says(102, 0, &[changed(Some(2), 1, 1, &[2, 3]), fenced(1, 1)]);
    says(103, 0, &registrations);
    says(103, 0, &[changed(Some(1), 0, 0, &[1, 2, 3]), changed(Some(2), 1, 1, &[2, 3]), fenced(1, 1)]);
    says(2, 0, &[leads(1, 2, &[2, 3]), appended(data(), 2, 1, 24, Leader)]);
    says(3, 0, &[follows(1, 2), appended(data(), 2, 1, 24, Follower)]);
    says(2, 0, &[watermark(data(), 1, 3, 3, Leader), acknowledged(1, 2, 3, 2)]);
    says(3, 0, &[watermark(data(), 1, 3, 3, Follower)]);
    // Both are back, without what was theirs alone.
    says(101, 1, &[epoch(2), names(2, 102), truncated(META, 3, 2), appended(META, 2, 2, 13, Follower)]);
    says(102, 0, &[registered(1, 9), unfenced(1, 9)]);
    says(1, 1, &[loaded(3), follows(1, 2), truncated(data(), 3, 2), appended(data(), 2, 1, 24, Follower)]);
    says(102, 0, &[changed(Some(2), 1, 2, &[2, 3, 1])]);
    says(103, 0, &[registered(1, 9), unfenced(1, 9), changed(Some(2), 1, 2, &[2, 3, 1])]);
    let isr_committed = Observation::IsrCommitted {
        partition: data(),
        leader_epoch: LeaderEpoch(1),
        partition_epoch: PartitionEpoch(2),
        isr: nodes(&[2, 3, 1]),
    };
    says(2, 0, &[isr_committed, appended(data(), 3, 1, 25, Leader)]);
    says(3, 0, &[appended(data(), 3, 1, 25, Follower)]);
    says(1, 1, &[watermark(data(), 1, 3, 3, Follower), appended(data(), 3, 1, 25, Follower)]);
    says(2, 0, &[watermark(data(), 1, 4, 4, Leader), acknowledged(1, 3, 4, 3)]);
    // A member of the ISR cuts what is not committed.
    says(2, 0, &[appended(data(), 4, 1, 26, Leader)]);
    says(3, 0, &[appended(data(), 4, 1, 26, Follower), truncated(data(), 5, 4)]);
    says(3, 0, &[appended(data(), 4, 1, 26, Follower)]);
    says(103, 0, &[appended(META, 3, 2, 14, Follower), truncated(META, 4, 3)]);
    says(102, 0, &[appended(META, 3, 2, 14, Leader)]);
    says(103, 0, &[appended(META, 3, 2, 14, Follower)]);
    says(102, 0, &[watermark(META, 2, 4, 4, Leader)]);
    story
}

fn ctx() -> Context {
    Context {
        defaults: PartitionRules { min_isr: 2, replication_factor: 3, ..PartitionRules::default() },
        topics: [(data().topic, "orders".to_owned())].into(),
        nodes: [1, 2, 3].map(|id| (NodeId(id), format!("broker-{id}"))).into(),
        voters: nodes(&[101, 102, 103]).into(),
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

fn judge(story: &[Event]) -> Vec<CheckResult> {
    tell(ctx(), story).finish(&EndState::default())
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
    assert_eq!(excuses.len(), 1, "{excuses:?}");
    assert_eq!(excuses[0].kind, ExcuseKind::LeaderPowerLoss);
    assert!(excuses[0].until.is_some_and(|until| until > excuses[0].at), "{excuses:?}");
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
    ("isr-of-replicas", "the ISR is empty", |story| story.push(Says(102, 0, changed(None, 2, 3, &[])))),
    ("isr-unfenced", "a fenced broker joins", |story| {
        replace(story, &Says(102, 0, unfenced(1, 9)), &[]);
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
    ("registration-epochs", "the partition epoch skips one", |story| {
        story.push(Says(102, 0, changed(Some(2), 1, 4, &[2, 3])));
    }),
    ("registration-epochs", "the leader epoch falls", |story| {
        story.push(Says(102, 0, changed(Some(2), 0, 3, &[2, 3, 1])));
    }),
    ("registration-agreement", "two controllers replay another ISR", |story| {
        let old = Says(103, 0, changed(Some(2), 1, 2, &[2, 3, 1]));
        replace(story, &old, &[Says(103, 0, changed(Some(2), 1, 2, &[2, 3]))]);
    }),
    ("broker-epochs", "a broker gets an older broker epoch", |story| story.push(Says(102, 0, registered(1, 5)))),
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
    ("metadata-log-matching", "a voter has other bytes", |story| {
        let old = Says(101, 1, appended(META, 2, 2, 13, ReplicaRole::Follower));
        replace(story, &old, &[Says(101, 1, appended(META, 2, 2, 99, ReplicaRole::Follower))]);
    }),
];

#[test]
fn every_change_is_refused_by_the_check_it_is_made_for() {
    let mut matrix = String::new();
    for (check, what, change) in CHANGES {
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
        assert!(CHANGES.iter().any(|(id, ..)| *id == check.id), "{} has no change", check.id);
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
    let results = judge(&power_loss_of_all(&[1, 2, 3]));
    assert_eq!(fired(&results), Vec::<&str>::new(), "{}", told(&results));
    let completeness = results.iter().find(|result| result.id == "leader-completeness").expect("every check tells");
    assert_eq!(completeness.allowed, [("loss-beyond-budget".to_owned(), 1)].into());
    let excuses = &tell(ctx(), &power_loss_of_all(&[1, 2, 3])).excuses()[&data()];
    assert!(excuses.iter().any(|excuse| excuse.kind == ExcuseKind::LossBeyondBudget), "{excuses:?}");
}

#[test]
fn a_power_loss_of_one_member_pays_for_nothing() {
    assert_eq!(fired(&judge(&power_loss_of_all(&[3]))), ["leader-completeness"]);
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
    let end = |crc: u32| EndState {
        partitions: vec![PartitionEnd {
            partition: data(),
            leader: Some(NodeId(2)),
            isr: nodes(&[2]).into(),
            assigned: nodes(&[1, 2, 3]).into(),
            replicas: vec![ReplicaEnd {
                node: NodeId(2),
                log_start: Offset(0),
                log_end: Offset(1),
                high_watermark: Offset(1),
                batches: vec![BatchEnd { base: Offset(0), last: Offset(0), leader_epoch: LeaderEpoch(0), crc }],
                file_digest: None,
            }],
        }],
        ..EndState::default()
    };
    assert_eq!(fired(&tell(ctx(), &story()).finish(&end(20))), Vec::<&str>::new());
    assert_eq!(fired(&tell(ctx(), &story()).finish(&end(77))), ["log-matching"]);
}
