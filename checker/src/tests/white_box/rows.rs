//! Rows of the research notes about transactions that have no check of their own: each of their faults is admitted by the brokers, and
//! seen by a check that is there for another row as well.

use super::super::fired;
use super::{Event, ctx, disk, judge, marker, replace, stamp, stamped, story, tell, transaction, transactions};
use broker_types::{Offset, TransactionState};

/// What fires when `more` comes after the story.
fn after(more: &[Event]) -> Vec<String> {
    let events: Vec<Event> = story().into_iter().chain(more.iter().cloned()).collect();
    fired(&judge(&events)).into_iter().map(str::to_owned).collect()
}

#[test]
fn t8_data_that_enters_no_transaction_of_its_coordinator_hangs_and_is_seen() {
    assert_eq!(after(&[stamped(8, stamp(50, 0, Some(4)), true)]), ["transaction-data"]);
    // A transaction that its coordinator has, and this partition not in it.
    let elsewhere = transaction("transfer", 50, 0, TransactionState::Ongoing, &[0]);
    assert_eq!(after(&[elsewhere, stamped(8, stamp(50, 0, Some(4)), true)]), ["transaction-data"]);
    // At the end what hangs holds the last stable offset back.
    let mut end = disk();
    end.partitions[0].replicas[0].last_stable = Some(Offset(2));
    assert!(fired(&crate::converged(&end, &ctx())).contains(&"transactions-decided"));
}

#[test]
fn t9_a_late_marker_that_decides_the_next_transaction_is_seen() {
    let mut late = transactions();
    let data = stamped(5, stamp(50, 0, Some(3)), true);
    let commit = [data.clone(), stamped(6, stamp(50, 0, None), true), marker(6, 6, true)];
    late.truncate(late.iter().position(|event| *event == data).expect("it is in the story") + 1);
    assert_eq!(fired(&tell(ctx(), &late).finish(&disk())), Vec::<&str>::new(), "the transaction is open");
    replace(&mut late, &data, &commit);
    assert_eq!(fired(&tell(ctx(), &late).finish(&disk())), ["transaction-markers"]);
}

#[test]
fn t10_a_commit_that_wins_over_the_coordinators_abort_is_seen() {
    let commit = |state| transaction("transfer", 50, 0, state, &[1]);
    let seen = after(&[commit(TransactionState::PrepareCommit), commit(TransactionState::CompleteCommit)]);
    assert!(seen.contains(&"transaction-state".to_owned()), "{seen:?}");
    assert!(seen.contains(&"transaction-markers".to_owned()), "{seen:?}");
}

#[test]
fn t13_a_hole_a_repeat_and_a_change_of_order_in_a_producers_sequence_are_seen() {
    let next = |offset: i64, sequence: i32| stamped(offset, stamp(50, 0, Some(sequence)), false);
    assert_eq!(after(&[next(8, 4), next(9, 5)]), Vec::<String>::new());
    for (what, wrong) in [
        ("a hole", vec![next(8, 5)]),
        ("a repeat", vec![next(8, 4), next(9, 4)]),
        ("the second before the first", vec![next(8, 5), next(9, 4)]),
        ("a new epoch that begins late", vec![stamped(8, stamp(50, 1, Some(1)), false)]),
    ] {
        assert_eq!(after(&wrong), ["producer-sequence"], "{what}");
    }
}
