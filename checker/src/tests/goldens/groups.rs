//! Groups and what is made for them, in small: what each check says, and the legal twin that it lets pass.

use super::super::reference::{digest, partition, sent};
use super::super::{fired, told};
use super::Story;
use crate::context::{Context, OffsetReset, PartitionRules};
use crate::history::*;
use crate::{CheckOutcome, judge};
use broker_types::{NodeId, Offset, TopicIdPartition};
use std::fmt::Write;

pub(super) fn assign(protocol: GroupProtocol, generation: i32, partitions: &[i32]) -> OpKind {
    let partitions = partitions.iter().map(|at| partition(*at)).collect();
    OpKind::Assign(Assign { group: "billing".to_owned(), generation, protocol, instance: None, partitions })
}

pub(super) fn commit(generation: i32, to: i64) -> OpKind {
    let (group, offsets) = ("billing".to_owned(), vec![(partition(0), Offset(to))]);
    OpKind::CommitOffsets(CommitOffsets { group, offsets, error: None, generation: Some(generation) })
}

pub(super) fn told_offset(require_stable: bool, at: Option<i64>) -> OpKind {
    let offsets = vec![(partition(0), at.map(Offset))];
    OpKind::FetchOffsets(FetchOffsets { group: "billing".to_owned(), require_stable, offsets })
}

pub(super) fn send(at: i32, value: u64, offset: i64) -> Send {
    Send { offset: Some(Offset(offset)), ..sent(at, ValueId(value)) }
}

/// Of the first partition's records, by offset.
pub(super) fn made(value: u64, offset: i64, source: i64) -> OpKind {
    let source = Some(Box::new((partition(0), Offset(source))));
    OpKind::Send(Send { source, ..send(3, value, offset) })
}

pub(super) fn end(commit: bool) -> OpKind {
    OpKind::EndTransaction(EndTransaction { commit, error: None })
}

/// A read_committed poll that goes from `position` to `next`.
pub(super) fn read(at: i32, position: i64, next: i64, records: &[(i64, u64)], is_final: bool) -> OpKind {
    let read = |(offset, value): &(i64, u64)| {
        let value = ValueId(*value);
        Read { offset: Offset(*offset), value: Some(value), digest: digest(value), leader_epoch: None }
    };
    OpKind::Poll(Poll {
        partition: partition(at),
        position: Offset(position),
        next_position: Offset(next),
        records: records.iter().map(read).collect(),
        high_watermark: None,
        last_stable: None,
        log_start: Some(Offset(0)),
        leader_epoch: None,
        broker: NodeId(1),
        isolation: Isolation::ReadCommitted,
        is_final,
        after_seek: true,
    })
}

pub(super) fn ctx() -> Context {
    let at: Vec<TopicIdPartition> = [0, 2, 3].map(partition).into();
    let compacted = PartitionRules { compacted: true, ..Story::ctx(&[]).defaults };
    Context {
        final_reads_reached_end: at.iter().copied().collect(),
        excuses: Some(at.iter().map(|at| (*at, Vec::new())).collect()),
        partitions: [(partition(2), compacted)].into(),
        conserved_total: Some(200),
        ..Story::ctx(&[])
    }
}

pub(super) const OK: Outcome = Outcome::Ok;
use GroupProtocol::{Classic, Consumer};

/// Three records, of which session 5 is given `given`, and commits up to `to`.
fn delivered(given: i64, to: i64) -> Story {
    let records = [(0, 1), (1, 2), (2, 3)];
    Story::new()
        .send(1, Acks::All, 1, 0)
        .send(1, Acks::All, 2, 1)
        .send(1, Acks::All, 3, 2)
        .op(5, OK, assign(Classic, 1, &[0]))
        .op(5, OK, read(0, 0, given, &records[..given as usize], false))
        .op(5, OK, commit(1, to))
        .op(9, OK, read(0, 0, 3, &records, true))
}

/// Session 5 holds the partition in generation 3, and 6 in `generation`, and polls it; then 5 commits.
fn succeeded(protocol: GroupProtocol, generation: i32, came: Outcome) -> Story {
    Story::new()
        .send(1, Acks::All, 1, 0)
        .op(5, OK, assign(protocol, 3, &[0]))
        .op(5, OK, read(0, 0, 1, &[(0, 1)], false))
        .op(6, OK, assign(protocol, generation, &[0]))
        .op(6, OK, read(0, 0, 1, &[(0, 1)], false))
        .op(5, came, commit(3, 1))
        .op(9, OK, read(0, 0, 1, &[(0, 1)], true))
}

/// Session 6 joins as the instance that session 5 was, in its generation; then 5 commits.
fn replaced(came: Outcome) -> Story {
    let mut story = succeeded(Classic, 3, came);
    for op in &mut story.history.ops {
        if let OpKind::Assign(assign) = &mut op.kind {
            assign.instance = Some("rack-7".to_owned());
        }
    }
    story
}

/// Sessions 5 and 6 make records 11 and 12 of two, each in a transaction; 6 begins at `from`.
pub(super) fn transformed(from: i64, source: i64, offsets: [i64; 2]) -> Story {
    let records = [(0, 1), (1, 2)];
    Story::new()
        .send(1, Acks::All, 1, 0)
        .send(1, Acks::All, 2, 1)
        .op(5, OK, assign(Classic, 1, &[0]))
        .op(5, OK, OpKind::Begin)
        .op(5, OK, read(0, 0, 1, &records[..1], false))
        .op(5, OK, made(11, offsets[0], 0))
        .op(5, OK, commit(1, 1))
        .op(5, OK, end(true))
        .op(5, OK, assign(Classic, 1, &[]))
        .op(6, OK, assign(Classic, 2, &[0]))
        .op(6, OK, OpKind::Begin)
        .op(6, OK, read(0, from, 2, &records[from as usize..], false))
        .op(6, OK, made(12, offsets[1], source))
        .op(6, OK, commit(2, 2))
        .op(6, OK, end(true))
        .op(9, OK, read(0, 0, 2, &records, true))
}

/// Keys 1, 2 and 1 again: the last of key 1 is gone, or the first.
pub(super) fn compacted(there: &[(i64, u64)]) -> Story {
    let keyed = |value: u64, offset: i64, key: u64| OpKind::Send(Send { key: Some(key), ..send(2, value, offset) });
    Story::new().op(1, OK, keyed(1, 0, 1)).op(1, OK, keyed(2, 1, 2)).op(1, OK, keyed(3, 2, 1)).op(
        9,
        OK,
        read(2, 0, 3, there, true),
    )
}

/// Key 1 is written, and deleted by value 3.
fn deleted(there: &[(i64, u64)]) -> Story {
    let mut story = compacted(there);
    for op in &mut story.history.ops {
        if let OpKind::Send(send) = &mut op.kind {
            send.is_tombstone = send.value == ValueId(3);
        }
    }
    story
}

/// Account 1 gives 10 to account 2, which has `second` then.
fn transferred(second: i64) -> Story {
    let account = |value: u64, offset: i64, key: u64, balance: i64| {
        OpKind::Send(Send { key: Some(key), balance: Some(balance), ..send(2, value, offset) })
    };
    Story::new()
        .op(1, OK, OpKind::Begin)
        .op(1, OK, account(1, 0, 1, 100))
        .op(1, OK, account(2, 1, 2, 100))
        .op(1, OK, end(true))
        .op(1, OK, OpKind::Begin)
        .op(1, OK, account(3, 3, 1, 90))
        .op(1, OK, account(4, 4, 2, second))
        .op(1, OK, end(true))
        .op(9, OK, read(2, 0, 6, &[(3, 3), (4, 4)], true))
}

fn refused(text: &mut String, story: &str, check: &str, history: &History) {
    let results = judge(history, &ctx());
    assert!(fired(&results).contains(&check), "{story}: {check} is not among {:?}", fired(&results));
    let violation = results.iter().find(|result| result.id == check).map(|result| &result.violations[0]);
    let evidence = violation.expect("it fired").evidence.join("\n    ");
    writeln!(text, "{story}\n  {check}\n    {evidence}").expect("a string");
}

#[test]
fn each_check_of_groups_tells_what_it_refuses() {
    let mut text = String::new();
    let mut refuse = |story: &str, check: &str, told: Story| refused(&mut text, story, check, &told.history);
    refuse("a group passes over a record", "group-delivery", delivered(2, 3));
    refuse("one generation, two owners", "double-ownership", succeeded(Classic, 3, Outcome::Fail));
    refuse("a commit after the successor's poll", "double-ownership", succeeded(Classic, 4, OK));
    refuse("a commit of an instance that was replaced", "double-ownership", replaced(OK));
    refuse("a commit after the successor's assignment", "double-ownership", succeeded(Consumer, 4, OK));
    refuse("a commit in a generation that is over", "stale-commit", succeeded(Classic, 4, OK));
    let own = Story::new().op(5, OK, assign(Consumer, 3, &[0])).op(5, OK, assign(Consumer, 4, &[0]));
    refuse("a commit in the member's own former epoch", "stale-commit", own.op(5, OK, commit(3, 0)));
    let outputs = |from: i64, source: i64, there: &[(i64, u64)]| {
        transformed(from, source, [0, 2]).op(9, OK, read(3, 0, 4, there, true))
    };
    refuse("two transactions over one range", "stale-commit", outputs(0, 1, &[(0, 11), (2, 12)]));
    refuse("one record made of one twice", "transform-once", outputs(0, 0, &[(0, 11), (2, 12)]));
    refuse("a record of which none is made", "transform-once", outputs(1, 1, &[(0, 11)]));
    let swapped = transformed(1, 1, [2, 0]).op(9, OK, read(3, 0, 4, &[(0, 12), (2, 11)], true));
    refuse("records out of order", "transform-once", swapped);
    let before = outputs(1, 1, &[(0, 11), (2, 12)]).op(9, OK, told_offset(true, Some(1)));
    refuse("a group that stands too early", "transform-once", before);
    refuse("the last record of a key is gone", "compacted-last-value", compacted(&[(0, 1), (1, 2)]));
    refuse("a deleted key is there again", "compacted-last-value", deleted(&[(0, 1), (1, 2)]));
    refuse("a key is gone that was not deleted", "compacted-last-value", deleted(&[]));
    refuse("a transfer gives less than it takes", "conservation", transferred(109));
    let back = delivered(3, 1).op(5, OK, commit(1, 3)).op(5, OK, told_offset(true, Some(1)));
    refuse("a group is told what it had committed before", "lost-offset", back);
    insta::assert_snapshot!("groups_refused", text);
}

#[test]
fn the_legal_twins_pass() {
    let there = [(0, 11), (2, 12)];
    let outputs = || transformed(1, 1, [0, 2]).op(9, OK, read(3, 0, 4, &there, true));
    for (story, told_story) in [
        ("all is delivered", delivered(3, 3)),
        ("what is not committed need not be", delivered(2, 2)),
        ("who was left behind is refused", succeeded(Classic, 4, Outcome::Fail)),
        ("who was fenced is refused", succeeded(Consumer, 4, Outcome::Fail)),
        ("an instance that was replaced is refused", replaced(Outcome::Fail)),
        ("each record is transformed once", outputs()),
        ("and the group is told so", outputs().op(9, OK, told_offset(true, Some(2)))),
        ("the last of each key stays", compacted(&[(1, 2), (2, 3)])),
        ("a tombstone may stay", deleted(&[(1, 2), (2, 3)])),
        ("a deleted key may be gone", deleted(&[(1, 2)])),
        ("the sum stays", transferred(110)),
        (
            "offsets of one's own may go back",
            delivered(3, 3).op(5, OK, commit(1, 1)).op(5, OK, told_offset(true, Some(1))),
        ),
    ] {
        let results = judge(&told_story.history, &ctx());
        assert_eq!(fired(&results), Vec::<&str>::new(), "{story}: {}", told(&results));
    }
}

#[test]
fn a_group_that_begins_at_the_end_need_not_be_given_what_lay_before() {
    let story = Story::new()
        .send(1, Acks::All, 1, 0)
        .send(1, Acks::All, 2, 1)
        .op(5, OK, assign(Classic, 1, &[0]))
        .op(5, OK, read(0, 1, 2, &[(1, 2)], false))
        .op(5, OK, commit(1, 2))
        .op(9, OK, read(0, 0, 2, &[(0, 1), (1, 2)], true));
    assert_eq!(fired(&judge(&story.history, &ctx())), ["group-delivery"]);
    let latest = Context { offset_reset: OffsetReset::Latest, ..ctx() };
    assert_eq!(fired(&judge(&story.history, &latest)), Vec::<&str>::new());
}

#[test]
fn an_offset_asked_for_without_require_stable_may_be_an_old_one() {
    let history = delivered(3, 1).op(5, OK, commit(1, 3)).op(5, OK, told_offset(false, Some(1))).history;
    let results = judge(&history, &ctx());
    let lost = results.iter().find(|result| result.id == "lost-offset").expect("every check tells");
    assert_eq!(lost.allowed, [("stale-coordinator".to_owned(), 1)].into());
}

#[test]
fn a_coordinator_that_lost_its_log_may_have_forgotten() {
    let story = succeeded(Classic, 4, OK).history;
    let loss = crate::Excuse { kind: crate::ExcuseKind::LossBeyondBudget, at: SimTime(0), until: Some(SimTime(1)) };
    let forgot = Context { excuses: Some([(partition(7), vec![loss])].into()), ..ctx() };
    let results = judge(&story, &forgot);
    assert_eq!(fired(&results), Vec::<&str>::new(), "{}", told(&results));
}

#[test]
fn offsets_committed_outside_of_transactions_promise_at_least_once_only() {
    let mut history = transformed(0, 0, [0, 2]).op(9, OK, read(3, 0, 4, &[(0, 11), (2, 12)], true)).history;
    history.ops.retain(|op| !matches!(op.kind, OpKind::Begin | OpKind::EndTransaction(_)));
    let results = judge(&history, &ctx());
    assert_eq!(fired(&results), Vec::<&str>::new(), "{}", told(&results));
    let once = results.iter().find(|result| result.id == "transform-once").expect("every check tells");
    assert_eq!(once.outcome, CheckOutcome::Vacuous);
}
