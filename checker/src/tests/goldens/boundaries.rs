//! Where the rules end, as clients see it: histories that are only just legal, and what makes them illegal.

use super::super::fired;
use super::super::reference::partition;
use super::Story;
use super::groups::{OK, assign, commit, compacted, ctx, end, read, send, told_offset, transformed};
use crate::context::{Context, PartitionRules};
use crate::history::*;
use crate::index::Index;
use crate::judge;
use GroupProtocol::Classic;
use broker_types::{LeaderEpoch, NodeId, Offset, ProducerEpoch, ProducerId};

fn refuses(check: &str, story: &Story, ctx: &Context) -> bool {
    fired(&judge(&story.history, ctx)).contains(&check)
}

/// A value is found by a hash, and many share a place.
#[test]
fn each_value_is_found_where_it_was_sent_first() {
    let value = |number: u64| number * number * 7919;
    let sent = |story: Story, number: u64| story.op(1, OK, OpKind::Send(send(0, value(number), number as i64)));
    // Each of the last hundred was sent before.
    let story = (0..400).chain(0..100).fold(Story::new(), sent);
    let index = Index::new(&story.history);
    for number in 0..800 {
        let found = index.sender(partition(0), ValueId(value(number))).map(|(at, ..)| u64::from(at));
        assert_eq!(found, (number < 400).then_some(number));
    }
}

fn becomes_producer(epoch: i16) -> OpKind {
    let producer = Some((ProducerId(7), ProducerEpoch(epoch)));
    OpKind::InitProducer(InitProducer { transactional_id: "transfer".to_owned(), producer, error: None })
}

#[test]
fn a_producer_that_was_succeeded_ends_no_transaction_and_commits_no_offsets() {
    let succeeded = |then: OpKind, came: Outcome| {
        let begun = Story::new().op(1, OK, becomes_producer(0)).op(1, OK, OpKind::Begin);
        begun.op(2, OK, becomes_producer(1)).op(1, came, then)
    };
    for what in [end(true), commit(1, 0)] {
        assert!(refuses("zombie-write", &succeeded(what.clone(), OK), &ctx()), "{what:?}");
        assert!(!refuses("zombie-write", &succeeded(what, Outcome::Fail), &ctx()));
    }
    assert!(!refuses("zombie-write", &succeeded(end(false), OK), &ctx()), "to abort again does no harm");
}

#[test]
fn of_two_that_became_producers_at_one_time_either_may_have_been_the_last() {
    let mut story = Story::new().op(1, OK, becomes_producer(1)).op(2, OK, becomes_producer(0)).op(1, OK, end(true));
    assert!(refuses("zombie-write", &story, &ctx()));
    story.history.ops[0].returned = story.history.ops[1].returned.map(|at| SimTime(at.0 - 1));
    assert!(!refuses("zombie-write", &story, &ctx()));
}

/// Partition `at` begins at `log_start` in the end, for DeleteRecords may have been asked for.
fn trimmed(mut story: Story, at: i32, log_start: i64) -> (Story, Context) {
    for op in &mut story.history.ops {
        if let OpKind::Poll(poll) = &mut op.kind
            && poll.partition == partition(at)
        {
            poll.log_start = Some(Offset(log_start));
        }
    }
    let mut ctx = ctx();
    let rules = PartitionRules { may_be_trimmed: true, ..ctx.rules(partition(at)) };
    ctx.partitions.insert(partition(at), rules);
    (story, ctx)
}

#[test]
fn what_lies_below_the_log_start_may_be_gone_and_what_lies_at_it_may_not() {
    // Of key 2, at offset 1, nothing is there.
    for (log_start, is_refused) in [(1, true), (2, false)] {
        let (story, ctx) = trimmed(compacted(&[(2, 3)]), 2, log_start);
        assert_eq!(refuses("compacted-last-value", &story, &ctx), is_refused, "the log starts at {log_start}");
        // Nothing is made of the record at offset 1.
        let story = transformed(1, 1, [0, 2]).op(9, OK, read(3, 0, 4, &[(0, 11)], true));
        let (story, ctx) = trimmed(story, 0, log_start);
        assert_eq!(refuses("transform-once", &story, &ctx), is_refused, "the log starts at {log_start}");
    }
}

#[test]
fn a_generation_that_somebody_hears_of_late_is_not_the_newest() {
    let story = Story::new().op(5, OK, assign(Classic, 3, &[0])).op(6, OK, assign(Classic, 4, &[])).op(
        7,
        OK,
        assign(Classic, 3, &[]),
    );
    assert!(refuses("stale-commit", &story.op(5, OK, commit(3, 0)), &ctx()));
}

#[test]
fn ranges_of_those_who_read_what_is_not_committed_may_overlap() {
    let mut story = transformed(0, 1, [0, 2]).op(9, OK, read(3, 0, 4, &[(0, 11), (2, 12)], true));
    assert!(refuses("stale-commit", &story, &ctx()));
    for op in &mut story.history.ops {
        if let OpKind::Poll(poll) = &mut op.kind {
            poll.isolation = Isolation::ReadUncommitted;
        }
    }
    assert!(!refuses("stale-commit", &story, &ctx()));
}

#[test]
fn an_offset_that_was_set_from_outside_promises_no_delivery() {
    let sent = || Story::new().send(1, Acks::All, 1, 0);
    let ends = |story: Story| story.op(5, OK, commit(1, 1)).op(9, OK, read(0, 0, 1, &[(0, 1)], true));
    assert!(!refuses("group-delivery", &ends(sent()), &ctx()));
    assert!(refuses("group-delivery", &ends(sent().op(5, OK, assign(Classic, 1, &[0]))), &ctx()));
    assert!(refuses("group-delivery", &ends(sent().op(5, OK, read(0, 1, 1, &[], false))), &ctx()));
}

#[test]
fn what_no_final_read_covered_is_not_lost() {
    let sent = || Story::new().send(1, Acks::All, 1, 0).send(1, Acks::All, 2, 1).send(1, Acks::All, 3, 2);
    let partly = Context { final_reads_reached_end: [].into(), ..ctx() };
    let lost = |story: Story| refuses("lost-write", &story, &partly);
    assert!(!lost(sent().op(9, OK, read(0, 1, 3, &[(1, 2), (2, 3)], true))), "nobody looked at offset 0");
    let first = || sent().op(9, OK, read(0, 0, 1, &[(0, 1)], true));
    assert!(!lost(first().op(9, OK, read(0, 2, 3, &[(2, 3)], true))), "nobody looked at offset 1");
    assert!(lost(first().op(9, OK, read(0, 1, 3, &[(2, 3)], true))), "the second read goes on where the first ended");
}

#[test]
fn a_log_start_goes_back_with_another_leader_epoch_only() {
    let told = |log_start: i64, leader_epoch: i32| {
        let mut poll = read(0, 0, 0, &[], false);
        if let OpKind::Poll(poll) = &mut poll {
            (poll.log_start, poll.leader_epoch) = (Some(Offset(log_start)), Some(LeaderEpoch(leader_epoch)));
        }
        poll
    };
    let mut trims = ctx();
    trims.defaults.may_be_trimmed = true;
    let back = |ctx: &Context, leader_epoch: i32| {
        refuses("l4-log-start", &Story::new().op(5, OK, told(3, 0)).op(6, OK, told(1, leader_epoch)), ctx)
    };
    assert!(back(&trims, 0));
    assert!(!back(&trims, 1), "the broker was started again, and its checkpoint was an old one");
    assert!(back(&ctx(), 1), "nothing was trimmed that a checkpoint could be behind of");
    let mut at_once = Story::new().op(5, OK, told(3, 0)).op(6, OK, told(1, 0));
    at_once.history.ops[1].invoked = at_once.history.ops[0].invoked;
    assert!(!refuses("l4-log-start", &at_once, &trims), "the second may have been answered first");
}

#[test]
fn who_was_told_that_it_holds_nothing_may_commit_what_it_had_done() {
    let story = |told: &[i32]| {
        Story::new()
            .send(1, Acks::All, 1, 0)
            .op(5, OK, assign(Classic, 3, &[0]))
            .op(5, OK, read(0, 0, 1, &[(0, 1)], false))
            .op(5, OK, assign(Classic, 3, told))
            .op(6, OK, assign(Classic, 4, &[0]))
            .op(6, OK, read(0, 0, 1, &[(0, 1)], false))
            .op(5, OK, commit(4, 1))
    };
    assert!(refuses("double-ownership", &story(&[0]), &ctx()));
    assert!(!refuses("double-ownership", &story(&[]), &ctx()));
}

#[test]
fn within_a_generation_a_partition_may_go_from_one_to_the_other() {
    let story = |told: &[i32]| {
        Story::new()
            .op(5, OK, assign(Classic, 3, &[0]))
            .op(5, OK, assign(Classic, 3, told))
            .op(6, OK, assign(Classic, 3, &[0]))
            .op(5, OK, read(2, 0, 0, &[], false))
    };
    assert!(refuses("double-ownership", &story(&[0]), &ctx()));
    assert!(!refuses("double-ownership", &story(&[]), &ctx()));
}

#[test]
fn a_commit_that_was_under_way_when_a_group_was_asked_need_not_be_told() {
    let mut story = Story::new().op(5, OK, assign(Classic, 1, &[0])).op(5, OK, commit(1, 3)).op(5, OK, commit(1, 5));
    story = story.op(6, OK, told_offset(true, Some(3)));
    assert!(refuses("lost-offset", &story, &ctx()));
    story.history.ops[3].invoked = story.history.ops[2].returned.expect("it was answered");
    assert!(!refuses("lost-offset", &story, &ctx()));
}

#[test]
fn of_the_record_that_a_group_stands_at_nothing_need_be_made() {
    let story = |stands_at: i64| {
        let story = transformed(1, 1, [0, 2]).send(1, Acks::All, 3, 2);
        let story = story.op(9, OK, read(3, 0, 4, &[(0, 11), (2, 12)], true));
        story.op(9, OK, told_offset(true, Some(stands_at)))
    };
    assert!(!refuses("transform-once", &story(2), &ctx()));
    assert!(refuses("transform-once", &story(3), &ctx()));
}

fn opportunities(check: &str, story: &Story) -> u64 {
    let results = judge(&story.history, &ctx());
    results.iter().find(|result| result.id == check).expect("every check tells").opportunities
}

fn asks_for_the_end(end: i64) -> OpKind {
    OpKind::TailRead(TailRead { partition: partition(0), end: Offset(end), broker: NodeId(1), leader_epoch: None })
}

#[test]
fn only_what_could_have_been_wrong_counts() {
    let of_offset = |times: i64| {
        let sent = Story::new().op(1, Outcome::Unknown, OpKind::Send(Send { offset: None, ..send(0, 1, 0) }));
        (0..times).fold(sent, |story, _| story.op(5, OK, read(0, 0, 1, &[(0, 1)], false)))
    };
    assert_eq!([1, 2].map(|times| opportunities("inconsistent-offset", &of_offset(times))), [0, 1]);
    let polled = |next: i64| Story::new().op(5, OK, read(0, 0, next, &[], false));
    assert_eq!([0, 1].map(|next| opportunities("contiguity", &polled(next))), [0, 1]);
    let ends = Story::new().op(5, OK, asks_for_the_end(0)).op(5, OK, asks_for_the_end(0));
    assert_eq!(["l2-end-reads", "l3-end-monotone"].map(|check| opportunities(check, &ends)), [0, 1]);
    assert_eq!(opportunities("l2-end-reads", &ends.send(1, Acks::All, 1, 0)), 2);
}

#[test]
fn a_refused_record_that_is_read_is_in_no_order_with_appends() {
    let lies_before = |came: Outcome| {
        let story = Story::new().send(1, Acks::All, 1, 3);
        story.op(2, came, OpKind::Send(Send { offset: None, ..send(0, 2, 0) })).op(
            5,
            OK,
            read(0, 1, 3, &[(1, 2)], false),
        )
    };
    assert!(refuses("l1-append-order", &lies_before(Outcome::Unknown), &ctx()));
    assert!(!refuses("l1-append-order", &lies_before(Outcome::Fail), &ctx()), "that it is there at all is told");
    assert!(refuses("failed-write-read", &lies_before(Outcome::Fail), &ctx()));
}

#[test]
fn a_fetch_need_not_know_of_a_record_that_was_acknowledged_when_it_was_sent() {
    let mut polled = read(0, 0, 0, &[], false);
    if let OpKind::Poll(poll) = &mut polled {
        poll.high_watermark = Some(Offset(0));
    }
    let mut story = Story::new().send(1, Acks::All, 1, 0).op(5, OK, polled);
    assert!(refuses("stale-poll", &story, &ctx()));
    story.history.ops[1].invoked = story.history.ops[0].returned.expect("it was acknowledged");
    assert!(!refuses("stale-poll", &story, &ctx()));
}

#[test]
fn of_a_trimmed_log_only_what_lies_below_its_start_may_be_gone_at_the_end() {
    for (log_start, is_refused) in [(1, true), (2, false)] {
        let sent = || Story::new().send(1, Acks::All, 1, 0).send(1, Acks::All, 2, 1).send(1, Acks::All, 3, 2);
        let ends = |story: Story| trimmed(story.op(9, OK, read(0, 0, 3, &[(2, 3)], true)), 0, log_start);
        let (story, ctx) = ends(sent());
        assert_eq!(refuses("lost-write", &story, &ctx), is_refused, "the log starts at {log_start}");
        let (story, ctx) = ends(sent().op(5, OK, read(0, 0, 2, &[(0, 1), (1, 2)], false)));
        assert_eq!(refuses("dirty-read", &story, &ctx), is_refused, "the log starts at {log_start}");
    }
}

#[test]
fn what_was_read_and_no_final_read_covered_is_not_dirty() {
    let partly = Context { final_reads_reached_end: [].into(), ..ctx() };
    let dirty = |from: i64| {
        let was_read = Story::new().send(1, Acks::All, 1, 0).op(5, OK, read(0, 0, 1, &[(0, 1)], false));
        refuses("dirty-read", &was_read.op(9, OK, read(0, from, 2, &[], true)), &partly)
    };
    assert!(dirty(0) && !dirty(1));
}

#[test]
fn an_aborted_record_is_dirty_once_a_reader_of_what_is_committed_has_read_it() {
    let story = |isolation: Isolation| {
        let mut seen = read(0, 0, 1, &[(0, 1)], false);
        if let OpKind::Poll(poll) = &mut seen {
            poll.isolation = isolation;
        }
        let begun = Story::new().op(1, OK, OpKind::Begin).op(1, OK, OpKind::Send(send(0, 1, 0))).op(5, OK, seen);
        begun.op(1, OK, end(false)).op(9, OK, read(0, 0, 2, &[], true))
    };
    assert!(refuses("dirty-read", &story(Isolation::ReadCommitted), &ctx()));
    assert!(!refuses("dirty-read", &story(Isolation::ReadUncommitted), &ctx()));
}

#[test]
fn a_record_may_be_read_at_the_moment_it_is_sent() {
    let mut story = Story::new().op(5, OK, read(0, 0, 1, &[(0, 1)], false)).send(1, Acks::All, 1, 0);
    assert!(refuses("future-read", &story, &ctx()));
    story.history.ops[0].returned = Some(story.history.ops[1].invoked);
    assert!(!refuses("future-read", &story, &ctx()));
}

#[test]
fn a_poll_goes_past_what_it_returned_and_over_nothing_but_what_was_trimmed() {
    let ends = |next: i64| Story::new().send(1, Acks::All, 1, 0).op(5, OK, read(0, 0, next, &[(0, 1)], false));
    assert_eq!([0, 1].map(|next| refuses("contiguity", &ends(next), &ctx())), [true, false]);
    for (log_start, is_refused) in [(0, true), (1, false)] {
        let (story, ctx) = trimmed(ends(1).op(6, OK, read(0, 0, 2, &[], false)), 0, log_start);
        assert_eq!(refuses("contiguity", &story, &ctx), is_refused, "the log starts at {log_start}");
    }
}
