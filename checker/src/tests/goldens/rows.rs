//! Rows of the research notes that have no check of their own: what clients see of each of their faults, and which check sees it.

use super::super::{fired, told};
use super::Story;
use super::groups::{OK, assign, commit, ctx, end, read, send, told_offset};
use crate::context::{Context, TransactionVersion};
use crate::history::*;
use crate::judge;
use broker_types::TopicIdPartition;

fn plain() -> Context {
    Context { partitions: Default::default(), conserved_total: None, ..ctx() }
}

fn sends(value: u64, offset: i64) -> OpKind {
    OpKind::Send(send(0, value, offset))
}

/// A transaction of records 1 and 2, ended as told; of which `there` is there in the end.
fn transaction(commit: bool, came: Outcome, there: &[(i64, u64)]) -> History {
    Story::new()
        .op(1, OK, OpKind::Begin)
        .op(1, OK, sends(1, 0))
        .op(1, OK, sends(2, 1))
        .op(1, came, end(commit))
        .op(9, OK, read(0, 0, 3, there, true))
        .history
}

fn refused(history: &History, ctx: &Context) -> Vec<String> {
    fired(&judge(history, ctx)).into_iter().map(str::to_owned).collect()
}

#[test]
fn t9_a_decision_that_was_meant_for_another_transaction_is_seen_and_known_before_version_2() {
    let old = Context { transaction_version: TransactionVersion(1), ..plain() };
    for (check, history) in [
        // An old commit decided a transaction that its producer aborted, or did not end.
        ("aborted-read", transaction(false, OK, &[(0, 1), (1, 2)])),
        // An old abort came between the two records of one that was committed.
        ("torn-transaction", transaction(true, OK, &[(1, 2)])),
    ] {
        assert!(refused(&history, &plain()).contains(&check.to_owned()), "{check}: {:?}", refused(&history, &plain()));
        let results = judge(&history, &old);
        let result = results.iter().find(|result| result.id == check).expect("every check tells");
        assert!(result.allowed.contains_key("known:KAFKA-17754"), "{check}: {}", told(&results));
    }
}

#[test]
fn t10_a_commit_after_the_coordinators_abort_is_seen_whatever_it_is_answered() {
    let both = [(0, 1), (1, 2)];
    assert_eq!(refused(&transaction(true, OK, &both), &plain()), Vec::<String>::new());
    assert_eq!(refused(&transaction(true, Outcome::Fail, &[]), &plain()), Vec::<String>::new());
    // Told to have succeeded, and nothing of it is there; or a part.
    assert_eq!(refused(&transaction(true, OK, &[]), &plain()), ["lost-write"]);
    let part = refused(&transaction(true, OK, &both[..1]), &plain());
    assert!(part.contains(&"torn-transaction".to_owned()), "{part:?}");
    // Refused, and all of it is there, or a part.
    for there in [&both[..], &both[..1]] {
        assert_eq!(refused(&transaction(true, Outcome::Fail, there), &plain()), ["aborted-read"]);
    }
    // It was about a group's offsets alone.
    let offsets = |came: Outcome, then: Option<i64>| {
        Story::new()
            .op(5, OK, assign(GroupProtocol::Classic, 1, &[0]))
            .op(5, OK, OpKind::Begin)
            .op(5, OK, commit(1, 3))
            .op(5, came, end(true))
            .op(9, OK, told_offset(true, then))
            .history
    };
    assert_eq!(refused(&offsets(OK, Some(3)), &plain()), Vec::<String>::new());
    assert_eq!(refused(&offsets(OK, None), &plain()), ["lost-offset", "linearizable-offset"]);
    assert_eq!(refused(&offsets(Outcome::Fail, Some(3)), &plain()), ["aborted-offset"]);
}

#[test]
fn t13_a_hole_a_repeat_and_a_change_of_order_in_what_a_producer_sent_are_seen() {
    let sent = |offsets: [i64; 3], there: &[(i64, u64)]| {
        let [first, second, third] = offsets;
        let story = Story::new().op(1, OK, sends(1, first)).op(1, OK, sends(2, second)).op(1, OK, sends(3, third));
        let history = story.op(9, OK, read(0, 0, 4, there, true)).history;
        refused(&history, &plain())
    };
    assert_eq!(sent([0, 1, 2], &[(0, 1), (1, 2), (2, 3)]), Vec::<String>::new());
    assert_eq!(sent([0, 1, 2], &[(0, 1), (2, 3)]), ["lost-write"]);
    assert_eq!(sent([0, 1, 2], &[(0, 1), (1, 2), (2, 3), (3, 2)]), ["duplicate"]);
    let swapped = sent([0, 2, 1], &[(0, 1), (1, 3), (2, 2)]);
    assert!(swapped.contains(&"nonmonotonic-send".to_owned()), "{swapped:?}");
}

#[test]
fn t11_an_aborted_record_that_the_cleaner_leaves_is_seen() {
    let at: TopicIdPartition = send(2, 1, 0).partition;
    let keyed = |value: u64, offset: i64| OpKind::Send(Send { key: Some(1), ..send(2, value, offset) });
    let story = |there: &[(i64, u64)]| {
        let begun = Story::new().op(1, OK, keyed(1, 0)).op(1, OK, OpKind::Begin).op(1, OK, keyed(2, 1));
        begun.op(1, OK, end(false)).op(9, OK, read(2, 0, 3, there, true)).history
    };
    let ctx = Context { conserved_total: None, ..ctx() };
    assert!(ctx.rules(at).compacted);
    assert_eq!(refused(&story(&[(0, 1)]), &ctx), Vec::<String>::new());
    assert_eq!(refused(&story(&[(0, 1), (1, 2)]), &ctx), ["aborted-read"]);
    // The aborted record took the committed one with it.
    let taken = refused(&story(&[]), &ctx);
    assert!(taken.contains(&"compacted-last-value".to_owned()), "{taken:?}");
}
