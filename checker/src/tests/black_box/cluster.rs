//! Mutations of what a cluster keeps beside records.

use super::Mutation;
use crate::history::*;
use broker_types::{NodeId, Offset};

fn kinds(history: &mut History) -> impl Iterator<Item = (Outcome, &mut OpKind)> {
    history.ops.iter_mut().map(|op| (op.outcome, &mut op.kind))
}

pub(super) const MUTATIONS: &[(&str, &str, Mutation)] = &[
    ("linearizable-offset", "a group is told its first commit after others", |history| {
        let covers = |op: &Op| match &op.kind {
            OpKind::CommitOffsets(commit) if commit.group == "group-0" => commit.offsets.first().copied(),
            _ => None,
        };
        let Some((partition, first)) = history.ops.iter().find_map(covers) else { return false };
        let commits: Vec<(&Op, Offset)> = history
            .ops
            .iter()
            .filter(|op| op.outcome != Outcome::Fail)
            .filter_map(|op| Some((op, covers(op).filter(|(of, _)| *of == partition)?.1)))
            .collect();
        let [(before, _), others @ ..] = commits.as_slice() else { return false };
        // Once, for sure, and others after it, for sure.
        let is_after = |(op, _): &&(&Op, Offset)| op.outcome == Outcome::Ok && before.returned < Some(op.invoked);
        let Some(after) = others.iter().find(is_after).and_then(|(op, _)| op.returned) else { return false };
        if others.iter().any(|(_, offset)| *offset == first) || before.outcome != Outcome::Ok {
            return false;
        }
        let mut told = history.ops.iter_mut().filter(|op| op.invoked > after).filter_map(|op| match &mut op.kind {
            OpKind::FetchOffsets(fetch) if fetch.group == "group-0" && fetch.require_stable => Some(fetch),
            _ => None,
        });
        let told = told.find_map(|fetch| fetch.offsets.iter_mut().find(|(of, _)| *of == partition));
        told.is_some_and(|(_, told)| {
            *told = Some(first);
            true
        })
    }),
    ("linearizable-topic", "a topic has more partitions than anybody asked for", |history| {
        let told = kinds(history).find_map(|(_, kind)| match kind {
            OpKind::Topic(request) => request.told.as_mut(),
            _ => None,
        });
        told.is_some_and(|told| {
            *told += 100;
            true
        })
    }),
    ("linearizable-topic", "a topic that is there is created again", |history| {
        let request = |op: &Op| match &op.kind {
            OpKind::Topic(request) => Some((request.name.clone(), request.ask, op.outcome)),
            _ => None,
        };
        // Since it was created, for sure, nobody may have deleted it.
        let is_there = |at: usize, name: &str| {
            let before = history.ops[..at].iter().rev().filter_map(request).filter(|(other, ..)| other == name);
            let mut before = before.filter(|(.., outcome)| *outcome != Outcome::Fail);
            before.find_map(|(_, ask, outcome)| match (ask, outcome) {
                (TopicAsk::Delete, _) => Some(false),
                (TopicAsk::Create(_), Outcome::Ok) => Some(true),
                _ => None,
            })
        };
        let again = (0..history.ops.len()).find(|at| {
            let asked = request(&history.ops[*at]);
            asked.is_some_and(|(name, ask, outcome)| {
                outcome == Outcome::Fail && matches!(ask, TopicAsk::Create(_)) && is_there(*at, &name) == Some(true)
            })
        });
        let Some(again) = again else { return false };
        history.ops[again].outcome = Outcome::Ok;
        // One request after the other.
        for (at, op) in (0u64..).zip(&mut history.ops).filter(|(_, op)| request(op).is_some()) {
            (op.invoked, op.returned) = (SimTime(at * 10_000_000), Some(SimTime(at * 10_000_000 + 1)));
            if op.outcome == Outcome::Unknown {
                op.outcome = Outcome::Fail;
            }
        }
        true
    }),
    ("linearizable-topic", "a topic that has partitions could be given fewer", |history| {
        // One is the least that a topic has.
        let asked = kinds(history).find_map(|(outcome, kind)| match kind {
            OpKind::Topic(TopicRequest { ask: TopicAsk::ValidatePartitions(partitions), .. })
                if outcome == Outcome::Ok =>
            {
                Some(partitions)
            }
            _ => None,
        });
        asked.is_some_and(|asked| {
            *asked = 1;
            true
        })
    }),
    ("producer-id-once", "two producers get one id", |history| {
        let mut given = kinds(history).filter_map(|(_, kind)| match kind {
            OpKind::ProducerId(request) => request.producer.as_mut(),
            _ => None,
        });
        let (Some(first), Some(second)) = (given.next(), given.next()) else { return false };
        *second = *first;
        true
    }),
    ("linearizable-voters", "a voter is told whom nobody added", |history| {
        let told = kinds(history).find_map(|(outcome, kind)| match kind {
            OpKind::Voters(request) if request.ask == VoterAsk::Describe && outcome == Outcome::Ok => Some(request),
            _ => None,
        });
        told.is_some_and(|request| {
            request.told.push(NodeId(199));
            true
        })
    }),
];
