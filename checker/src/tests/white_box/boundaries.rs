//! Where the rules end: stories that are only just legal, and what makes them illegal.

use super::*;

/// What fires when `more` comes after the story.
fn after(more: &[Event]) -> Vec<String> {
    let events: Vec<Event> = story().into_iter().chain(more.iter().cloned()).collect();
    fired(&judge(&events)).into_iter().map(str::to_owned).collect()
}

/// A moment passes, in which a controller settles what it has fenced.
fn a_moment() -> [Event; 3] {
    [7, 8, 9].map(|broker| Says(102, 0, registered(broker, 20 + i64::from(broker))))
}

#[test]
fn a_fenced_broker_may_stay_in_an_isr_as_the_last() {
    let fenced_with = |isr: &[i32]| {
        let events = [Says(102, 0, changed(Some(2), 1, 3, isr)), Says(102, 0, fenced(2, 2))];
        after(&[&events[..], &a_moment()].concat())
    };
    assert_eq!(fenced_with(&[2]), Vec::<String>::new());
    assert_eq!(fenced_with(&[2, 3]), ["isr-unfenced"]);
}

#[test]
fn a_controller_that_is_active_again_goes_on_from_what_another_told_meanwhile() {
    let another = Says(103, 0, changed(Some(2), 1, 3, &[2, 1]));
    let again = |partition_epoch: i32| Says(102, 0, changed(Some(2), 1, partition_epoch, &[2]));
    assert_eq!(after(&[another.clone(), again(4)]), Vec::<String>::new());
    assert_eq!(after(&[another, again(5)]), ["registration-epochs"]);
}

fn deleted(from: i64, until: i64, active: i64) -> Event {
    let (from, until, active) = (Offset(from), Offset(until), Offset(active));
    Says(2, 0, Observation::SegmentsDeleted { partition: partition(1), from, until, active })
}

#[test]
fn segments_go_one_after_the_other_up_to_the_active_one_and_the_high_watermark() {
    let cleaned = Says(2, 0, Observation::Cleaned { partition: partition(1), until: Offset(6), active: Offset(6) });
    // The story deleted offsets 0 and 1; the high watermark is 6.
    assert_eq!(after(&[deleted(2, 5, 5), deleted(5, 6, 7), cleaned]), Vec::<String>::new());
    assert_eq!(after(&[deleted(3, 5, 5)]), ["deleted-segments"], "offset 2 is left");
    assert_eq!(after(&[deleted(2, 2, 5)]), ["deleted-segments"], "nothing is deleted");
}

fn opened(node: i32, [log_start, log_end, high_watermark]: [i64; 3]) -> Event {
    let [log_start, log_end, high_watermark] = [log_start, log_end, high_watermark].map(Offset);
    let truncated_bytes = 0;
    let fact = Observation::LogLoaded { partition: data(), log_start, log_end, high_watermark, truncated_bytes };
    Says(node, 1, fact)
}

#[test]
fn a_log_may_open_empty_and_all_of_it_committed_and_begins_nowhere_past_its_end() {
    assert_eq!(after(&[Down(3), opened(3, [5, 5, 5])]), Vec::<String>::new());
    assert_eq!(after(&[Down(3), opened(3, [6, 5, 5])]), ["recovered-log"]);
    // What lost power may open shorter, and what was wiped with nothing.
    assert_eq!(after(&[Lost(3, LossKind::PowerLoss), opened(3, [0, 4, 4])]), Vec::<String>::new());
    assert_eq!(after(&[Lost(3, LossKind::DiskWipe), opened(3, [0, 0, 0])]), Vec::<String>::new());
}

#[test]
fn a_wiped_node_has_promised_nothing_and_has_no_snapshot() {
    let begins = Says(103, 1, Observation::LogStart { partition: META, log_start: Offset(3) });
    let again = [Says(103, 1, epoch(1)), Says(103, 1, votes(2, 101))];
    assert_eq!(after(&[&[Down(103)], &again[..]].concat()), ["quorum-vote", "quorum-epoch-monotone"]);
    assert_eq!(after(&[Down(103), begins.clone()]), Vec::<String>::new());
    let wiped = Lost(103, LossKind::DiskWipe);
    assert_eq!(after(&[std::slice::from_ref(&wiped), &again[..]].concat()), Vec::<String>::new());
    assert_eq!(after(&[wiped, begins]), ["quorum-snapshot"]);
    // Another one's promises stay, and a power loss takes none.
    assert_eq!(after(&[&[Lost(102, LossKind::DiskWipe)], &again[..]].concat()).len(), 2);
    assert_eq!(after(&[&[Lost(103, LossKind::PowerLoss)], &again[..]].concat()).len(), 2);
}

/// 101 is elected by `votes` of `voters`, and commits a record that as many have.
fn elected(voters: i32, votes_and_holders: i32) -> Vec<String> {
    use ReplicaRole::{Follower, Leader};
    let mut story: Vec<Event> = Vec::new();
    if voters > 1 {
        story.push(Says(101, 0, asks(0)));
    }
    let all = 101..101 + votes_and_holders;
    story.extend(all.clone().flat_map(|node| [Says(node, 0, epoch(1)), Says(node, 0, votes(1, 101))]));
    story.extend([Says(101, 0, stands(1)), Says(101, 0, wins(1, 0))]);
    let role = |node: i32| if node == 101 { Leader } else { Follower };
    story.extend(all.map(|node| Says(node, 0, appended(META, 0, 1, 10, role(node)))));
    story.push(Says(101, 0, watermark(META, 1, 1, 1, Leader)));
    let ctx = Context { voters: (101..101 + voters).map(NodeId).collect(), ..ctx() };
    fired(&tell(ctx, &story).finish(&EndState::default())).into_iter().map(str::to_owned).collect()
}

#[test]
fn a_majority_is_more_than_half_of_the_voters() {
    for (voters, enough) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3)] {
        assert_eq!(elected(voters, enough), Vec::<String>::new(), "{enough} of {voters}");
        if enough > 1 {
            let both = ["quorum-high-watermark", "quorum-roles"];
            assert_eq!(elected(voters, enough - 1), both, "{} of {voters}", enough - 1);
        }
    }
    assert_eq!(elected(0, 1), ["quorum-roles"; 0], "who votes is not known");
}

/// The excuses for losses beyond the budget after the story and `more`: whether each has ended.
fn beyond_budget(more: &[Event]) -> Vec<bool> {
    let events: Vec<Event> = story().into_iter().chain(more.iter().cloned()).collect();
    let excuses = tell(ctx(), &events).excuses().remove(&data()).expect("it was told of");
    let beyond = excuses.iter().filter(|excuse| excuse.kind == ExcuseKind::LossBeyondBudget);
    beyond.map(|excuse| excuse.until.is_some()).collect()
}

#[test]
fn as_many_members_may_lose_bytes_as_leave_fewer_than_min_isr_of_them_lossy() {
    let lost = |node: i32| Lost(node, LossKind::PowerLoss);
    let isr = |isr: &[i32]| Says(102, 0, changed(Some(2), 1, 3, isr));
    assert_eq!(beyond_budget(&[lost(3)]), [false; 0]);
    assert_eq!(beyond_budget(&[lost(3), lost(1)]), [false]);
    // A member that was lossy, and is none any more, is no loss of the ISR.
    assert_eq!(beyond_budget(&[lost(3), isr(&[2, 1]), lost(1)]), [false; 0]);
    // One that stays is lossy until it has left and is let in again.
    let again = Says(102, 0, changed(Some(2), 1, 4, &[2, 1, 3]));
    assert_eq!(beyond_budget(&[lost(3), isr(&[2, 1, 3]), lost(1)]), [false]);
    assert_eq!(beyond_budget(&[lost(3), isr(&[2, 1]), again, lost(1)]), [false; 0]);
    // Below min.insync.replicas the budget is nothing; nothing lost is still nothing.
    assert_eq!(beyond_budget(&[isr(&[2])]), [false; 0]);
    assert_eq!(beyond_budget(&[isr(&[2]), lost(3)]), [false; 0]);
    assert_eq!(beyond_budget(&[isr(&[2]), lost(2)]), [false]);
}

#[test]
fn a_loss_beyond_the_budget_lasts_until_a_leader_has_the_log() {
    let lost = |node: i32| Lost(node, LossKind::PowerLoss);
    // The leader lost nothing: it is over as soon as those that did are out.
    let out = Says(102, 0, changed(Some(2), 1, 3, &[2]));
    assert_eq!(beyond_budget(&[lost(3), lost(1), out.clone()]), [true]);
    assert_eq!(beyond_budget(&[lost(3), lost(1), lost(3), out]), [true]);
    // It did: the next one's log is the log, once it has taken over.
    let elected = Says(102, 0, changed(Some(1), 2, 3, &[1]));
    let took_over = Says(1, 1, leads(2, 5, &[1]));
    assert_eq!(beyond_budget(&[lost(2), lost(3), elected.clone()]), [false]);
    let goes_on = Lost(2, LossKind::SyncError);
    assert_eq!(beyond_budget(&[goes_on, lost(3), elected.clone()]), [false], "the former one still answers");
    assert_eq!(beyond_budget(&[lost(2), lost(3), elected.clone(), took_over.clone()]), [true]);
    assert_eq!(beyond_budget(&[lost(3), lost(2), elected, took_over]), [true]);
}

#[test]
fn a_leader_that_took_over_too_late_is_a_stale_one_until_it_hears_of_its_successor() {
    use ExcuseKind::{HighWatermarkRecovering, LeaderChange, LossBeyondBudget};
    let open = |events: &[Event]| {
        let excuses = tell(ctx(), events).excuses().remove(&data()).expect("it was told of");
        excuses.iter().filter(|excuse| excuse.until.is_none()).map(|excuse| excuse.kind).collect::<Vec<_>>()
    };
    // Whatever else is excused meanwhile.
    for lossy in [&[][..], &[1, 3]] {
        let mut events = story();
        events.extend(lossy.iter().map(|node| Lost(*node, LossKind::SyncError)));
        events.extend([
            Says(102, 0, changed(Some(3), 2, 3, &[2, 3, 1])),
            Says(102, 0, changed(Some(2), 3, 4, &[2, 3, 1])),
            Says(2, 0, leads(3, 5, &[2, 3, 1])),
        ]);
        let with = |kinds: &[ExcuseKind]| -> Vec<ExcuseKind> {
            let beyond = lossy.first().map(|_| LossBeyondBudget);
            beyond.into_iter().chain(kinds.iter().copied()).collect()
        };
        // Broker 2 has not set its high watermark yet.
        assert_eq!(open(&events), with(&[HighWatermarkRecovering]));
        events.push(Says(3, 0, leads(2, 5, &[2, 3, 1])));
        assert_eq!(open(&events), with(&[LeaderChange, HighWatermarkRecovering]));
        events.push(Says(3, 0, follows(3, 2)));
        assert_eq!(open(&events), with(&[HighWatermarkRecovering]));
    }
}

#[test]
fn a_follower_that_cuts_nothing_keeps_what_it_has() {
    let mut events = story();
    replace(&mut events, &Says(3, 0, truncated(data(), 3, 2)), &[Says(3, 0, truncated(data(), 3, 3))]);
    replace(&mut events, &Says(3, 0, appended(data(), 2, 1, 24, ReplicaRole::Follower)), &[]);
    assert!(fired(&judge(&events)).contains(&"high-watermark"), "it has another record at offset 2");
}

#[test]
fn who_has_left_the_isr_holds_the_high_watermark_back_no_more() {
    let shrinks = |isr: &[i32]| [Says(102, 0, changed(Some(2), 1, 3, isr)), Says(2, 0, isr_committed(3, isr))];
    let moves = |to: i64| Says(2, 0, watermark(data(), 1, to, 5, ReplicaRole::Leader));
    // Broker 1 has no offset 4.
    assert_eq!(after(&[&shrinks(&[2, 3])[..], &[moves(5)]].concat()), Vec::<String>::new());
    assert_eq!(after(&[&shrinks(&[2, 1])[..], &[moves(5)]].concat()), ["high-watermark"]);
    // Alone, the leader may say again how far the log was committed.
    assert_eq!(after(&[&shrinks(&[2])[..], &[moves(4)]].concat()), Vec::<String>::new());
    assert_eq!(after(&[&shrinks(&[2])[..], &[moves(5)]].concat()), ["high-watermark"]);
}

#[test]
fn a_voter_that_is_behind_goes_on_where_the_snapshot_of_all_that_is_committed_ends() {
    let snapshot = broker_types::QuorumSnapshot { end: Offset(6), epoch: LeaderEpoch(2), digest: 88 };
    let loads = Says(101, 1, Observation::SnapshotLoaded(snapshot));
    let mut events = vec![
        Says(102, 0, Observation::SnapshotTaken(snapshot)),
        Says(102, 0, appended(META, 6, 2, 206, ReplicaRole::Leader)),
        loads.clone(),
        Says(101, 1, appended(META, 6, 2, 206, ReplicaRole::Follower)),
    ];
    assert_eq!(after(&events), Vec::<String>::new());
    replace(&mut events, &loads, &[]);
    assert_eq!(after(&events), ["metadata-log-matching"]);
}

#[test]
fn a_voter_may_join_that_has_caught_up_to_where_the_leaders_epoch_begins_and_no_further() {
    let mut events = story();
    let snapshot = broker_types::QuorumSnapshot { end: Offset(3), epoch: LeaderEpoch(2), digest: 77 };
    replace(&mut events, &Says(101, 1, appended(META, 2, 2, 13, ReplicaRole::Follower)), &[]);
    replace(&mut events, &Says(101, 1, Observation::SnapshotLoaded(snapshot)), &[]);
    assert_eq!(fired(&judge(&events)), Vec::<&str>::new(), "{}", told(&judge(&events)));
    replace(&mut events, &Says(101, 1, truncated(META, 3, 2)), &[Says(101, 1, truncated(META, 3, 1))]);
    assert!(fired(&judge(&events)).contains(&"voter-changes"));
}

#[test]
fn what_the_newest_leader_commits_while_a_loss_is_excused_is_committed() {
    let lossy = [1, 3].map(|node| Lost(node, LossKind::SyncError));
    let commits = Says(2, 0, watermark(data(), 1, 5, 5, ReplicaRole::Leader));
    let whole_again = Says(102, 0, changed(Some(2), 1, 3, &[2]));
    let cut = [Down(2), opened(2, [0, 4, 4])];
    let events = [&lossy[..], &[commits, whole_again.clone()], &cut].concat();
    assert_eq!(after(&events), ["committed-truncated", "recovered-log"]);
    assert_eq!(after(&[&lossy[..], &[whole_again], &cut].concat()), ["recovered-log"], "nobody committed it");
}

#[test]
fn a_group_that_died_may_begin_anew_under_its_name() {
    let begins = [group("billing", 1, GroupState::Assigning), member("c", 1, [&[0, 1], &[], &[0, 1]])];
    assert_eq!(after(&begins), ["group-epoch-monotone", "single-owner"]);
    assert_eq!(after(&[&[group("billing", 3, GroupState::Dead)], &begins[..]].concat()), Vec::<String>::new());
}

/// Broker 3 says it in that epoch of its partition of the transactions' log.
fn said_in(coordinator_epoch: i32, told: Event) -> Event {
    let Says(node, start, Observation::TransactionChanged(mut fact)) = told else { panic!("of a transaction") };
    fact.coordinator_epoch = LeaderEpoch(coordinator_epoch);
    Says(node, start, Observation::TransactionChanged(fact))
}

#[test]
fn a_transaction_goes_from_state_to_state_as_kafka_has_it() {
    use TransactionState::{
        CompleteAbort, CompleteCommit, Dead, Empty, Ongoing, PrepareAbort, PrepareCommit, PrepareEpochFence,
    };
    let all = [Empty, Ongoing, PrepareCommit, PrepareAbort, CompleteCommit, CompleteAbort, PrepareEpochFence, Dead];
    let next = |state: TransactionState| -> &[TransactionState] {
        match state {
            Empty | CompleteCommit | CompleteAbort => &[Empty, Ongoing, PrepareAbort, Dead],
            Ongoing => &[Ongoing, PrepareCommit, PrepareAbort, PrepareEpochFence],
            PrepareCommit => &[CompleteCommit],
            PrepareAbort => &[CompleteAbort],
            PrepareEpochFence => &[PrepareAbort],
            Dead => &[],
        }
    };
    let told = |state: TransactionState| transaction("refund", 60, 0, state, &[]);
    for (old, new) in all.into_iter().flat_map(|old| all.map(|new| (old, new))) {
        let refused = !next(old).contains(&new);
        let fires = |events: &[Event]| after(events).contains(&"transaction-state".to_owned());
        assert_eq!(fires(&[told(old), told(new)]), refused, "from {old:?} to {new:?}");
        // What it loaded, the next coordinator may say again.
        let loaded = Says(3, 0, coordinates(CoordinatorKind::Transaction, 7));
        let by_next = [told(old), loaded, said_in(7, told(new))];
        assert_eq!(fires(&by_next), refused && old != new, "from {old:?} to {new:?} with another coordinator");
    }
}

#[test]
fn a_coordinator_speaks_of_a_transaction_no_more_once_another_has() {
    let told = || transaction("refund", 60, 0, TransactionState::Empty, &[]);
    let loaded = Says(3, 0, coordinates(CoordinatorKind::Transaction, 7));
    assert_eq!(after(&[told(), loaded.clone(), said_in(7, told()), said_in(7, told())]), Vec::<String>::new());
    assert!(after(&[loaded, said_in(7, told()), told()]).contains(&"producer-epochs".to_owned()));
}
