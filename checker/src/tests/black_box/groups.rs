//! Mutations of what groups did, and of what was made in transactions for them.

use super::super::reference::partition;
use super::{Mutation, drop_from_final_reads, exchange, poll, read_values, send};
use crate::history::*;
use broker_types::{Offset, TopicIdPartition};
use std::collections::BTreeSet;

fn assign(op: &Op) -> Option<&Assign> {
    if let OpKind::Assign(assign) = &op.kind { Some(assign) } else { None }
}

fn commit(op: &Op) -> Option<&CommitOffsets> {
    if let OpKind::CommitOffsets(commit) = &op.kind { Some(commit) } else { None }
}

fn covers(commit: &CommitOffsets, partition: TopicIdPartition) -> Option<Offset> {
    commit.offsets.iter().find(|(of, _)| *of == partition).map(|(_, offset)| *offset)
}

/// Acknowledged records that were made of others and are there at the end, in the order in which they were sent.
fn outputs(history: &History) -> Vec<(SessionId, Send)> {
    let read = read_values(history, true);
    let sends = history.ops.iter().filter_map(|op| Some((op.session, send(op)?.clone())));
    sends.filter(|(_, send)| send.source.is_some() && read.contains(&send.value)).collect()
}

/// Two outputs of one session that were made of one partition and lie in one.
fn neighbours(history: &History) -> Option<(Send, Send)> {
    let outputs = outputs(history);
    outputs.iter().enumerate().find_map(|(at, (session, first))| {
        let from = |send: &Send| send.source.as_ref().map(|source| source.0);
        let fits = |(other, second): &&(SessionId, Send)| {
            other == session && second.partition == first.partition && from(second) == from(first)
        };
        outputs[at + 1..].iter().find(fits).map(|(_, second)| (first.clone(), second.clone()))
    })
}

/// The last question where a group stands that was answered with an offset, and for which partition.
fn standing<'a>(history: &'a History, group: &str) -> Option<(usize, TopicIdPartition, Offset, &'a FetchOffsets)> {
    history.ops.iter().enumerate().rev().find_map(|(at, op)| match &op.kind {
        OpKind::FetchOffsets(fetch) if fetch.group == group => {
            let told = fetch.offsets.iter().find_map(|(of, offset)| Some((*of, (*offset)?)));
            told.map(|(of, offset)| (at, of, offset, fetch))
        }
        _ => None,
    })
}

/// A refused commit of whoever was left behind: its partition had been given to another session in a later generation, which
/// `polled` it, too, if that is asked.
fn left_behind(history: &History, protocol: GroupProtocol, polled: bool) -> Option<usize> {
    let ops = &history.ops;
    (0..ops.len()).find(|at| {
        let op = &ops[*at];
        let Some(commit) = commit(op).filter(|_| op.outcome == Outcome::Fail) else { return false };
        let is_winner = |other: &Op, told: &Assign| {
            other.session != op.session
                && told.group == commit.group
                && told.protocol == protocol
                && Some(told.generation) > commit.generation
                && told.partitions.iter().any(|of| covers(commit, *of).is_some())
        };
        (0..*at).any(|won| {
            let Some(told) = assign(&ops[won]).filter(|told| is_winner(&ops[won], told)) else { return false };
            let given = |of: TopicIdPartition| told.partitions.contains(&of) && covers(commit, of).is_some();
            let read = |later: &Op| {
                let is_before = later.returned.is_some_and(|returned| returned < op.invoked);
                let of = if let OpKind::Poll(poll) = &later.kind { Some(poll.partition) } else { None };
                later.session == ops[won].session && is_before && of.is_some_and(given)
            };
            !polled || ops[won..*at].iter().any(read)
        })
    })
}

pub(super) const MUTATIONS: &[(&str, &str, Mutation)] = &[
    ("group-delivery", "no member of a group was given a record below its offset", |history| {
        let Some((_, partition, end, _)) = standing(history, "group-0") else { return false };
        let members: BTreeSet<SessionId> = history
            .ops
            .iter()
            .filter(|op| assign(op).is_some_and(|assign| assign.group == "group-0"))
            .map(|op| op.session)
            .collect();
        let durable = super::durable(history);
        let Some(lost) =
            durable.iter().find(|send| send.partition == partition && send.offset.is_some_and(|at| at < end))
        else {
            return false;
        };
        let mut dropped = false;
        let polls = history.ops.iter_mut().filter(|op| members.contains(&op.session)).filter_map(poll);
        for poll in polls {
            let before = poll.records.len();
            poll.records.retain(|read| read.value != Some(lost.value));
            dropped |= poll.records.len() < before;
        }
        dropped
    }),
    ("double-ownership", "two members are given one partition in one generation", |history| {
        let ops = &history.ops;
        let told: Vec<(usize, &Assign)> =
            ops.iter().enumerate().filter_map(|(at, op)| Some((at, assign(op)?))).collect();
        let pair = told.iter().find_map(|(first, before)| {
            let alive = |from: usize| ops[from..].iter().any(|op| op.session == ops[*first].session);
            let fits = |(second, after): &&(usize, &Assign)| {
                second > first
                    && ops[*second].session != ops[*first].session
                    && (&after.group, after.generation) == (&before.group, before.generation)
                    && alive(second + 1)
            };
            let is_classic = before.protocol == GroupProtocol::Classic && !before.partitions.is_empty();
            let second = told.iter().filter(|_| is_classic).find(fits)?;
            Some((second.0, before.partitions[0]))
        });
        let Some((second, partition)) = pair else { return false };
        let OpKind::Assign(assign) = &mut history.ops[second].kind else { return false };
        assign.partitions.push(partition);
        true
    }),
    ("double-ownership", "who was left behind in a generation commits after its successor has read", |history| {
        let Some(at) = left_behind(history, GroupProtocol::Classic, true) else { return false };
        history.ops[at].outcome = Outcome::Ok;
        true
    }),
    ("double-ownership", "who was fenced commits after another member was given its partition", |history| {
        let Some(at) = left_behind(history, GroupProtocol::Consumer, false) else { return false };
        history.ops[at].outcome = Outcome::Ok;
        true
    }),
    ("stale-commit", "a commit in a generation that is over is acknowledged", |history| {
        let Some(at) = left_behind(history, GroupProtocol::Classic, false) else { return false };
        history.ops[at].outcome = Outcome::Ok;
        true
    }),
    ("stale-commit", "a member commits in an epoch that it was told is over", |history| {
        let ops = &history.ops;
        let found = (0..ops.len()).find(|at| {
            let before = |commit: &CommitOffsets| {
                ops[..*at].iter().filter(|op| op.session == ops[*at].session).filter_map(assign).any(|told| {
                    told.protocol == GroupProtocol::Consumer
                        && told.group == commit.group
                        && Some(told.generation) == commit.generation
                })
            };
            ops[*at].outcome == Outcome::Ok && commit(&ops[*at]).is_some_and(before)
        });
        let Some(OpKind::CommitOffsets(commit)) = found.map(|at| &mut history.ops[at].kind) else { return false };
        commit.generation = commit.generation.map(|epoch| epoch - 1);
        true
    }),
    ("stale-commit", "a member's transaction covers again what another's has committed", |history| {
        let ops = &history.ops;
        // The session's operations from one to the next assignment.
        let until_assigned = |from: usize| {
            let mine = (from + 1..ops.len()).filter(move |at| ops[*at].session == ops[from].session);
            mine.take_while(|at| assign(&ops[*at]).is_none())
        };
        let is_done = |at: usize| {
            let mut later = (at..ops.len()).filter(|later| ops[*later].session == ops[at].session);
            let end = later.find(|at| matches!(ops[*at].kind, OpKind::EndTransaction(_)));
            end.is_some_and(|at| {
                let op = &ops[at];
                op.outcome == Outcome::Ok && matches!(&op.kind, OpKind::EndTransaction(end) if end.commit)
            })
        };
        let committed = |at: usize, of: TopicIdPartition| {
            let commit = commit(&ops[at]).filter(|_| ops[at].outcome == Outcome::Ok && is_done(at));
            commit.and_then(|commit| covers(commit, of))
        };
        let found = (0..ops.len()).find_map(|given| {
            let told = assign(&ops[given]).filter(|told| ["group-2", "group-3"].contains(&told.group.as_str()))?;
            let mut earlier = ops[..given].iter().rev().filter(|op| op.session == ops[given].session);
            let former = earlier.find_map(assign);
            let new = told.partitions.iter().filter(|of| former.is_none_or(|former| !former.partitions.contains(of)));
            new.copied().find_map(|of| {
                let polls = until_assigned(given)
                    .filter_map(|at| if let OpKind::Poll(poll) = &ops[at].kind { Some((at, poll)) } else { None });
                let mut polls = polls.filter(|(_, poll)| poll.partition == of);
                let (at, poll) = polls.next().filter(|(_, poll)| poll.position > Offset(0))?;
                let goes_on = until_assigned(given).any(|at| committed(at, of).is_some_and(|to| to > poll.position));
                let other = (0..given).any(|at| {
                    let same = commit(&ops[at]).is_some_and(|commit| commit.group == told.group);
                    same && ops[at].session != ops[given].session && committed(at, of) == Some(poll.position)
                });
                (goes_on && other).then_some(at)
            })
        });
        let Some(poll) = found.and_then(|at| poll(&mut history.ops[at])) else { return false };
        poll.position = Offset(poll.position.0 - 1);
        true
    }),
    ("transform-once", "two records are made of one", |history| {
        let Some((first, second)) = neighbours(history) else { return false };
        let changed = history.ops.iter_mut().find_map(|op| match &mut op.kind {
            OpKind::Send(send) if send.value == second.value => Some(send),
            _ => None,
        });
        changed.is_some_and(|send| {
            send.source.clone_from(&first.source);
            true
        })
    }),
    ("transform-once", "what was made of a record is gone", |history| {
        // Of an input that is known to be there.
        let durable = super::durable(history);
        let is_known = |(_, output): &(SessionId, Send)| {
            let at = |send: &Send| Some((send.partition, send.offset?));
            let source = output.source.as_deref().copied();
            durable.iter().any(|send| at(send) == source)
        };
        let Some((_, gone)) = outputs(history).into_iter().find(is_known) else { return false };
        drop_from_final_reads(history, gone.value)
    }),
    ("transform-once", "what was made of two records changes places", |history| {
        neighbours(history).is_some_and(|(first, second)| exchange(history, &first, &second))
    }),
    ("transform-once", "a group stands before what it has transformed", |history| {
        let outputs = outputs(history);
        let read = |of: TopicIdPartition, sessions: &BTreeSet<SessionId>| {
            outputs.iter().any(|(session, send)| {
                sessions.contains(session) && send.source.as_ref().is_some_and(|source| source.0 == of)
            })
        };
        for group in ["group-2", "group-3"] {
            let members = history.ops.iter().filter(|op| assign(op).is_some_and(|told| told.group == group));
            let members: BTreeSet<SessionId> = members.map(|op| op.session).collect();
            let Some((at, ..)) = standing(history, group) else { continue };
            let is_last = !history.ops[at..].iter().any(|op| commit(op).is_some_and(|commit| commit.group == group));
            let OpKind::FetchOffsets(fetch) = &mut history.ops[at].kind else { continue };
            let told = fetch.offsets.iter_mut().find(|(of, offset)| offset.is_some() && read(*of, &members));
            if let Some((_, offset)) = told.filter(|_| is_last) {
                *offset = Some(Offset(0));
                return true;
            }
        }
        false
    }),
    ("compacted-last-value", "the cleaner takes the last record of a key", |history| {
        let keyed: Vec<Send> = history
            .ops
            .iter()
            .filter(|op| op.outcome != Outcome::Fail)
            .filter_map(send)
            .filter(|send| send.partition == partition(5))
            .cloned()
            .collect();
        let last = keyed.iter().rev().find(|send| {
            let later = keyed.iter().filter(|other| other.key == send.key && other.value != send.value);
            let is_durable = send.acks == Acks::All && send.idempotent;
            is_durable && later.into_iter().all(|other| other.offset.is_some() && other.offset < send.offset)
        });
        let Some(last) = last.map(|send| send.value) else { return false };
        drop_from_final_reads(history, last)
    }),
    ("conservation", "an account holds one more than its transfers gave it", |history| {
        let read = read_values(history, true);
        let mut last = history.ops.iter_mut().rev().filter_map(|op| match &mut op.kind {
            OpKind::Send(send) if send.balance.is_some() && read.contains(&send.value) => Some(send),
            _ => None,
        });
        last.next().is_some_and(|send| {
            send.balance = send.balance.map(|balance| balance + 1);
            true
        })
    }),
    ("lost-offset", "a group is told what it committed before it committed more", |history| {
        let Some((at, partition, told, _)) = standing(history, "group-0") else { return false };
        let commits: Vec<(Outcome, Offset)> = history.ops[..at]
            .iter()
            .filter_map(|op| Some((op.outcome, commit(op)?)))
            .filter(|(outcome, commit)| *outcome != Outcome::Fail && commit.group == "group-0")
            .filter_map(|(outcome, commit)| Some((outcome, covers(commit, partition)?)))
            .collect();
        let Some(last) = commits.iter().rposition(|(outcome, _)| *outcome == Outcome::Ok) else { return false };
        let is_old = |offset: Offset| {
            let same = |(at, (outcome, other)): (usize, &(Outcome, Offset))| {
                *other != offset || (*outcome == Outcome::Ok && at < last)
            };
            offset != told && commits.iter().enumerate().all(same)
        };
        let Some((_, old)) = commits.iter().find(|(_, offset)| is_old(*offset)) else { return false };
        let OpKind::FetchOffsets(fetch) = &mut history.ops[at].kind else { return false };
        let Some((_, offset)) = fetch.offsets.iter_mut().find(|(of, _)| *of == partition) else { return false };
        *offset = Some(*old);
        true
    }),
];
