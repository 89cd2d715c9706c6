//! Legal histories from the reference cluster pass; each mutation is refused by the check it is made for.

mod cluster;
mod groups;
mod soundness;

use super::fired;
use super::reference::{Step, digest, partition, run, steps};
use crate::context::Context;
use crate::history::*;
use crate::judge;
use crate::registry::{CHECKS, Evidence};
use broker_types::Offset;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use std::collections::BTreeSet;
use std::fmt::Write;

/// Sessions from here on are producers with transactional ids.
const TRANSACTIONAL: u32 = 1000;

type Mutation = fn(&mut History) -> bool;

fn sends(history: &mut History) -> impl Iterator<Item = (usize, &mut Op)> {
    history.ops.iter_mut().enumerate().filter(|(_, op)| matches!(op.kind, OpKind::Send(_)))
}

fn poll(op: &mut Op) -> Option<&mut Poll> {
    if let OpKind::Poll(poll) = &mut op.kind { Some(poll) } else { None }
}

/// Of a partition that nobody cleans, and that only its clients write to.
fn is_plain(poll: &Poll) -> bool {
    [partition(0), partition(1)].contains(&poll.partition)
}

fn send(op: &Op) -> Option<&Send> {
    if let OpKind::Send(send) = &op.kind { Some(send) } else { None }
}

/// Values that polls returned; `finally`: final reads only, else all others only.
fn read_values(history: &History, finally: bool) -> BTreeSet<ValueId> {
    let polls = history.ops.iter().filter_map(|op| if let OpKind::Poll(poll) = &op.kind { Some(poll) } else { None });
    polls.filter(|poll| poll.is_final == finally).flat_map(|poll| &poll.records).filter_map(|read| read.value).collect()
}

/// Acknowledged with acks=all to an idempotent producer, outside of transactions and of compacted partitions.
fn durable(history: &History) -> Vec<Send> {
    let alone = history.ops.iter().filter(|op| op.outcome == Outcome::Ok && op.session.0 < TRANSACTIONAL);
    let sends = alone.filter_map(send);
    sends.filter(|send| send.acks == Acks::All && send.idempotent && send.key.is_none()).cloned().collect()
}

fn drop_from_final_reads(history: &mut History, value: ValueId) -> bool {
    let mut dropped = false;
    for poll in history.ops.iter_mut().filter_map(poll).filter(|poll| poll.is_final) {
        let before = poll.records.len();
        poll.records.retain(|read| read.value != Some(value));
        dropped |= poll.records.len() < before;
    }
    dropped
}

/// Exchanges what lies at two offsets of one partition, in everybody's eyes.
fn exchange(history: &mut History, left: &Send, right: &Send) -> bool {
    let other = |value: ValueId| match value {
        value if value == left.value => Some((right.value, left.offset)),
        value if value == right.value => Some((left.value, right.offset)),
        _ => None,
    };
    for op in &mut history.ops {
        match &mut op.kind {
            OpKind::Send(send) if send.value == left.value => send.offset = right.offset,
            OpKind::Send(send) if send.value == right.value => send.offset = left.offset,
            OpKind::Poll(poll) => {
                for read in &mut poll.records {
                    if let Some((value, _)) = read.value.and_then(other) {
                        (read.value, read.digest) = (Some(value), digest(value));
                    }
                }
            }
            _ => {}
        }
    }
    true
}

/// Transactions that were committed and that the final reads have: where they end, and their values. None of the bank's, whose
/// records may be cleaned away.
fn read_transactions(history: &History) -> impl Iterator<Item = (usize, Vec<ValueId>)> + use<> {
    let read = read_values(history, true);
    let mut open: std::collections::BTreeMap<SessionId, Vec<ValueId>> = std::collections::BTreeMap::new();
    let mut found = Vec::new();
    for (at, op) in history.ops.iter().enumerate() {
        match &op.kind {
            OpKind::Begin => {
                open.insert(op.session, Vec::new());
            }
            OpKind::Send(send) if send.key.is_some() => {
                open.remove(&op.session);
            }
            OpKind::Send(send) => {
                if let Some(values) = open.get_mut(&op.session) {
                    values.push(send.value);
                }
            }
            OpKind::EndTransaction(end) => {
                let values = open.remove(&op.session).unwrap_or_default();
                let is_read = values.first().is_some_and(|value| read.contains(value));
                if end.commit && op.outcome == Outcome::Ok && is_read {
                    found.push((at, values));
                }
            }
            _ => {}
        }
    }
    found.into_iter()
}

const MUTATIONS: &[(&str, &str, Mutation)] = &[
    ("lost-write", "the final reads pass over an acknowledged record", |history| {
        let seen = read_values(history, false);
        let Some(send) = durable(history).into_iter().find(|send| !seen.contains(&send.value)) else { return false };
        drop_from_final_reads(history, send.value)
    }),
    ("unseen", "the log ends before the last acknowledged record", |history| {
        let durable = durable(history);
        let mut ends: Vec<usize> = Vec::new();
        for partition in [partition(0), partition(1)] {
            let is_end = |op: &mut Op| poll(op).is_some_and(|poll| poll.is_final && poll.partition == partition);
            ends.extend(history.ops.iter_mut().rposition(is_end));
        }
        for end in ends {
            let poll = poll(&mut history.ops[end]).expect("it was one above");
            let Some(last) = poll.records.last().copied() else { continue };
            if durable.iter().any(|send| Some(send.value) == last.value) {
                poll.next_position = last.offset;
                poll.records.pop();
                return true;
            }
        }
        false
    }),
    ("dirty-read", "a record without a known outcome was read, and is gone at the end", |history| {
        let unknown: BTreeSet<ValueId> = history
            .ops
            .iter()
            .filter(|op| op.outcome == Outcome::Unknown)
            .filter_map(send)
            .map(|send| send.value)
            .collect();
        let Some(value) = read_values(history, false).intersection(&unknown).next().copied() else { return false };
        drop_from_final_reads(history, value)
    }),
    ("inconsistent-offset", "one reader sees another record at an offset", |history| {
        let durable = durable(history);
        let partition = durable[0].partition;
        let mut reads =
            history.ops.iter_mut().filter_map(poll).filter(|poll| !poll.is_final && poll.partition == partition);
        let Some(read) = reads.find_map(|poll| poll.records.first_mut()) else { return false };
        let Some(other) = durable.iter().find(|s| s.partition == partition && Some(s.value) != read.value) else {
            return false;
        };
        (read.value, read.digest) = (Some(other.value), digest(other.value));
        true
    }),
    ("failed-write-read", "a record that was read had been refused", |history| {
        let read = read_values(history, true);
        let Some((_, op)) = sends(history).find(|(_, op)| send(op).is_some_and(|send| read.contains(&send.value)))
        else {
            return false;
        };
        op.outcome = Outcome::Fail;
        if let OpKind::Send(send) = &mut op.kind {
            send.offset = None;
        }
        true
    }),
    ("duplicate", "an idempotent producer's record is there again at the end", |history| {
        let send = durable(history).remove(0);
        let polls =
            history.ops.iter_mut().filter_map(poll).filter(|poll| poll.is_final && poll.partition == send.partition);
        let Some(last) = polls.last() else { return false };
        let read =
            Read { offset: last.next_position, value: Some(send.value), digest: send.digest, leader_epoch: None };
        last.records.push(read);
        last.next_position += 1;
        last.high_watermark = Some(last.next_position);
        last.last_stable = Some(last.next_position);
        true
    }),
    ("contiguity", "a poll leaves out a record in its middle", |history| {
        let read = read_values(history, true);
        let stays = |poll: &Poll| poll.records.len() > 2 && poll.records[1].value.is_some_and(|at| read.contains(&at));
        let mut polls = history.ops.iter_mut().filter_map(poll).filter(|poll| is_plain(poll));
        let Some(poll) = polls.find(|poll| !poll.is_final && stays(poll)) else { return false };
        poll.records.remove(1);
        true
    }),
    ("poll-skip", "a consumer goes on one record too far", |history| {
        let polls = history.ops.iter_mut().filter_map(poll).filter(|poll| is_plain(poll));
        let mut polls = polls.filter(|poll| !poll.is_final && !poll.after_seek && poll.records.len() > 1);
        let Some(poll) = polls.next() else { return false };
        poll.records.remove(0);
        poll.position += 1;
        true
    }),
    ("nonmonotonic-poll", "a consumer gets its last record again", |history| {
        let polls = history.ops.iter_mut().filter_map(poll);
        let mut polls = polls.filter(|poll| poll.is_final && !poll.after_seek && !poll.records.is_empty());
        let Some(poll) = polls.next() else { return false };
        poll.position = Offset(poll.position.0 - 1);
        true
    }),
    ("nonmonotonic-send", "two records of one producer change places", |history| {
        let sends: Vec<(SessionId, Send)> = history
            .ops
            .iter()
            .filter(|op| op.outcome == Outcome::Ok)
            .filter_map(|op| Some((op.session, send(op)?.clone())))
            .filter(|(_, send)| send.idempotent)
            .collect();
        let pair = sends.iter().enumerate().find_map(|(at, (session, first))| {
            let mut later = sends[at + 1..].iter();
            later
                .find(|(other, second)| other == session && second.partition == first.partition)
                .map(|later| (first, &later.1))
        });
        let Some((first, second)) = pair else { return false };
        exchange(history, &first.clone(), &second.clone())
    }),
    ("garbage-read", "a poll returns bytes that nobody sent", |history| {
        let mut reads = history.ops.iter_mut().filter_map(poll).flat_map(|poll| &mut poll.records);
        let Some(read) = reads.next() else { return false };
        read.value = None;
        true
    }),
    ("future-read", "a record is read before it is sent", |history| {
        let read = read_values(history, false);
        let late = history.ops.iter().map(|op| op.invoked).max().unwrap_or_default();
        let Some((_, op)) = sends(history).find(|(_, op)| send(op).is_some_and(|send| read.contains(&send.value)))
        else {
            return false;
        };
        (op.invoked, op.returned) = (SimTime(late.0 + 1), Some(SimTime(late.0 + 2)));
        true
    }),
    ("record-integrity", "a record is read with another digest", |history| {
        let mut reads = history.ops.iter_mut().filter_map(poll).flat_map(|poll| &mut poll.records);
        let Some(read) = reads.next() else { return false };
        read.digest ^= 1;
        true
    }),
    ("isolation-bound", "a poll returns a record at its high watermark", |history| {
        let mut polls = history.ops.iter_mut().filter_map(poll).filter(|poll| !poll.records.is_empty());
        let Some(poll) = polls.next() else { return false };
        poll.high_watermark = poll.records.last().map(|read| read.offset);
        poll.last_stable = poll.high_watermark;
        true
    }),
    ("stale-poll", "a poll is told an end of the log from long ago", |history| {
        let durable = durable(history);
        let mut polls = history.ops.iter_mut().filter_map(poll).filter(|poll| poll.is_final && poll.after_seek);
        let Some(poll) = polls.find(|poll| durable.iter().any(|send| send.partition == poll.partition)) else {
            return false;
        };
        (poll.high_watermark, poll.last_stable) = (Some(Offset(0)), Some(Offset(0)));
        true
    }),
    ("l1-append-order", "a record lies before one that was acknowledged before it was sent", |history| {
        let ops: Vec<(SimTime, SimTime, SessionId, Send)> = history
            .ops
            .iter()
            .filter(|op| op.outcome == Outcome::Ok)
            .filter_map(|op| Some((op.invoked, op.returned?, op.session, send(op)?.clone())))
            .filter(|(.., send)| send.acks == Acks::All && send.idempotent)
            .collect();
        let pair = ops.iter().enumerate().find_map(|(at, (_, returned, session, first))| {
            let mut later = ops[at + 1..].iter();
            later
                .find(|(invoked, _, other, second)| {
                    invoked > returned && other != session && second.partition == first.partition
                })
                .map(|later| (first, &later.3))
        });
        let Some((first, second)) = pair else { return false };
        exchange(history, &first.clone(), &second.clone())
    }),
    ("l2-end-reads", "the end of the log is told as it was before an acknowledged record", |history| {
        let acked: Vec<(SimTime, Send)> = history
            .ops
            .iter()
            .filter(|op| op.outcome == Outcome::Ok)
            .filter_map(|op| Some((op.returned?, send(op)?.clone())))
            .filter(|(_, send)| send.acks == Acks::All)
            .collect();
        for op in &mut history.ops {
            let OpKind::TailRead(read) = &mut op.kind else { continue };
            let before =
                |(returned, send): &&(SimTime, Send)| *returned < op.invoked && send.partition == read.partition;
            if let Some(offset) = acked.iter().rfind(before).and_then(|(_, send)| send.offset) {
                read.end = offset;
                return true;
            }
        }
        false
    }),
    ("l3-end-monotone", "the end of the log goes back from one read of it to the next", |history| {
        let mut former: Option<(SimTime, TailRead)> = None;
        for op in &mut history.ops {
            let OpKind::TailRead(read) = &mut op.kind else { continue };
            if let Some((returned, before)) = former
                && returned < op.invoked
                && before.partition == read.partition
                && before.end > Offset(0)
            {
                read.end = Offset(before.end.0 - 1);
                return true;
            }
            former = op.returned.map(|returned| (returned, *read));
        }
        false
    }),
    ("l4-log-start", "a log starts later for one poll than for those after it", |history| {
        let mut polls = history.ops.iter_mut().filter_map(poll);
        let Some(poll) = polls.find(|poll| !poll.is_final && poll.high_watermark > Some(Offset(0))) else {
            return false;
        };
        poll.log_start = Some(Offset(1));
        true
    }),
    ("aborted-read", "a transaction that was read was to be aborted", |history| {
        let Some((at, _)) = read_transactions(history).next() else { return false };
        history.ops[at].kind = OpKind::EndTransaction(EndTransaction { commit: false, error: None });
        true
    }),
    ("precommitted-read", "a transaction is committed after it was read", |history| {
        let late = history.ops.iter().filter_map(|op| op.returned).max().unwrap_or_default();
        let Some((at, _)) = read_transactions(history).next() else { return false };
        let op = &mut history.ops[at];
        (op.invoked, op.returned) = (SimTime(late.0 + 1), Some(SimTime(late.0 + 2)));
        true
    }),
    ("torn-transaction", "the final reads pass over one record of a committed transaction", |history| {
        let torn = read_transactions(history).find(|(_, values)| values.len() > 1);
        torn.is_some_and(|(_, values)| drop_from_final_reads(history, values[0]))
    }),
    ("transaction-cycle", "a transaction begins after somebody read it", |history| {
        let late = history.ops.iter().filter_map(|op| op.returned).max().unwrap_or_default();
        let Some((at, _)) = read_transactions(history).next() else { return false };
        let session = history.ops[at].session;
        let mut before = history.ops[..at].iter_mut().rev();
        let Some(begin) = before.find(|op| op.session == session && op.kind == OpKind::Begin) else { return false };
        (begin.invoked, begin.returned) = (SimTime(late.0 + 1), Some(SimTime(late.0 + 2)));
        true
    }),
    ("zombie-write", "a fenced producer's write is acknowledged", |history| {
        let fenced = |send: &Send| send.error.as_deref() == Some("INVALID_PRODUCER_EPOCH");
        let inits: Vec<(SimTime, String)> = history
            .ops
            .iter()
            .filter_map(|op| if let OpKind::InitProducer(init) = &op.kind { Some((op, init)) } else { None })
            .filter_map(|(op, init)| Some((op.returned?, init.transactional_id.clone())))
            .collect();
        // One whose successor knew of its success before the zombie woke up.
        let is_late = |op: &Op| {
            let id = format!("transaction-{}", op.session.0 / 1000 - 1);
            let known = inits.iter().filter(|(returned, of)| *returned < op.invoked && *of == id);
            known.count() as u32 > op.session.0 % 1000
        };
        let Some((_, op)) = sends(history).find(|(_, op)| send(op).is_some_and(fenced) && is_late(op)) else {
            return false;
        };
        op.outcome = Outcome::Ok;
        true
    }),
    ("initialised-epochs", "a producer gets the epoch of its predecessor", |history| {
        let mut first: Option<InitProducer> = None;
        let mut inits = history.ops.iter_mut().filter_map(|op| match &mut op.kind {
            OpKind::InitProducer(init) => Some((op.invoked, op.returned, init)),
            _ => None,
        });
        let mut returned = SimTime(u64::MAX);
        let later = inits.find_map(|(invoked, at, init)| {
            if first.is_none() {
                (first, returned) = (Some(init.clone()), at.unwrap_or(returned));
                return None;
            }
            let same = first.as_ref().is_some_and(|first| first.transactional_id == init.transactional_id);
            (same && returned < invoked).then_some(init)
        });
        let Some((later, first)) = later.zip(first) else { return false };
        later.producer = first.producer;
        true
    }),
    ("aborted-offset", "a group is told an offset that was never committed", |history| {
        let mut open = std::collections::BTreeMap::new();
        let mut aborted = None;
        for op in &history.ops {
            match &op.kind {
                OpKind::CommitOffsets(commit) if commit.group == "billing" => {
                    open.insert(op.session, commit.offsets[0]);
                }
                OpKind::EndTransaction(end) => {
                    let offset = open.remove(&op.session);
                    aborted = aborted.or(offset.filter(|_| !end.commit && op.outcome == Outcome::Ok));
                }
                _ => {}
            }
        }
        let fetches = history.ops.iter_mut().rev().find_map(|op| match &mut op.kind {
            OpKind::FetchOffsets(fetch) if fetch.group == "billing" => Some(fetch),
            _ => None,
        });
        let Some(((partition, offset), fetch)) = aborted.zip(fetches) else { return false };
        fetch.offsets = vec![(partition, Some(offset))];
        true
    }),
    ("unresolved-op", "an operation never returns", |history| {
        let Some(op) = history.ops.first_mut() else { return false };
        op.returned = None;
        true
    }),
];

fn mutations() -> impl Iterator<Item = &'static (&'static str, &'static str, Mutation)> {
    MUTATIONS.iter().chain(groups::MUTATIONS).chain(cluster::MUTATIONS)
}

/// Each mutation: the check that refuses it, and what it does.
pub(super) fn refused() -> Vec<(&'static str, &'static str)> {
    mutations().map(|(check, what, _)| (*check, *what)).collect()
}

#[test]
fn every_mutation_is_refused_by_the_check_it_is_made_for() {
    let mut runner = TestRunner::deterministic();
    let sample: Vec<(History, Context)> = (0..20)
        .map(|_| {
            let mut steps = steps(600..601).new_tree(&mut runner).expect("a strategy without filters").current();
            // A leader change may excuse what the mutation does.
            steps.retain(|step| !matches!(step, Step::ChangeLeader { .. }));
            run(&steps)
        })
        .collect();
    let mut matrix = String::new();
    for (check, story, mutate) in mutations() {
        let mut also = BTreeSet::new();
        let mut sites = 0;
        for (history, ctx) in &sample {
            let mut mutated = history.clone();
            assert_eq!(fired(&judge(history, ctx)), Vec::<&str>::new());
            if !mutate(&mut mutated) {
                continue;
            }
            assert_ne!(&mutated, history, "{check}: the mutation changed nothing");
            sites += 1;
            let results = judge(&mutated, ctx);
            assert!(fired(&results).contains(check), "{check} did not see that {story}; fired {:?}", fired(&results));
            also.extend(fired(&results).iter().filter(|id| *id != check).map(|id| (*id).to_owned()));
        }
        assert!(sites > 0, "{check}: no history has a place where {story}");
        writeln!(matrix, "{check}: {story}\n    also: {}", also.into_iter().collect::<Vec<_>>().join(" "))
            .expect("a string");
    }
    for check in CHECKS.iter().filter(|check| check.evidence == Evidence::BlackBox) {
        assert!(mutations().any(|(id, ..)| *id == check.id), "{} has no mutation", check.id);
    }
    insta::assert_snapshot!("kill_matrix_black_box", matrix);
}

#[test]
fn every_black_box_check_has_opportunities_in_a_long_history() {
    let mut runner = TestRunner::deterministic();
    let (history, ctx) = run(&steps(1500..1501).new_tree(&mut runner).expect("a strategy without filters").current());
    for result in judge(&history, &ctx) {
        assert!(result.opportunities > 0, "{} had none", result.id);
    }
}

#[test]
fn an_empty_history_proves_nothing() {
    for result in judge(&History::default(), &Context::default()) {
        assert_eq!((result.outcome, result.opportunities), (crate::CheckOutcome::Vacuous, 0), "{}", result.id);
    }
}

#[test]
fn before_transaction_version_2_a_wrong_decision_is_counted_and_named() {
    let mut runner = TestRunner::deterministic();
    let (_, _, abort) = MUTATIONS.iter().find(|(id, ..)| *id == "aborted-read").expect("every check has one");
    let (history, ctx) = (0..20)
        .find_map(|_| {
            let steps = steps(300..301).new_tree(&mut runner).expect("a strategy without filters").current();
            let (mut history, ctx) = run(&steps);
            abort(&mut history).then_some((history, ctx))
        })
        .expect("a transaction that was read");
    assert!(fired(&judge(&history, &ctx)).contains(&"aborted-read"));
    let old = Context { transaction_version: crate::TransactionVersion(1), ..ctx };
    let results = judge(&history, &old);
    assert_eq!(fired(&results), Vec::<&str>::new());
    let read = results.iter().find(|result| result.id == "aborted-read").expect("every check tells");
    assert!(read.allowed["known:KAFKA-17754"] > 0, "{:?}", read.allowed);
}
