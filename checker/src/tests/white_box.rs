//! A small cluster's observations, legal as they stand; each change to them is refused by the check it is made for.

mod boundaries;
mod changes;
mod facts;
mod losses;
mod mutations;
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
use facts::*;
use mutations::{CHANGES, Change, replace};
use std::collections::BTreeSet;
use std::fmt::Write;

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
