//! Mutations of what a cluster keeps beside records.

use super::Mutation;
use crate::history::*;
use broker_types::{LeaderEpoch, NodeId, TopicIdPartition};
use std::collections::BTreeSet;

fn kinds(history: &mut History) -> impl Iterator<Item = (Outcome, &mut OpKind)> {
    history.ops.iter_mut().map(|op| (op.outcome, &mut op.kind))
}

pub(super) const MUTATIONS: &[(&str, &str, Mutation)] = &[
    ("linearizable-offset", "a group is told its first commit after others", |history| {
        let covers = |op: &Op| match &op.kind {
            OpKind::CommitOffsets(commit) if commit.group == "group-0" => commit.offsets.first().copied(),
            _ => None,
        };
        // In a transaction it counts once that has ended, and who knows when, or never.
        let begun: BTreeSet<SessionId> =
            history.ops.iter().filter(|op| op.kind == OpKind::Begin).map(|op| op.session).collect();
        let is_sure = |op: &&Op| op.outcome == Outcome::Ok && !begun.contains(&op.session);
        let mut sure = history.ops.iter().filter(is_sure).filter(|op| covers(op).is_some());
        let Some((before, (partition, first))) = sure.next().and_then(|op| Some((op, covers(op)?))) else {
            return false;
        };
        // Once, and others after it.
        let commits = history.ops.iter().filter(|op| op.outcome != Outcome::Fail && covers(op) == covers(before));
        let is_after =
            |op: &&Op| before.returned < Some(op.invoked) && covers(op).is_some_and(|(of, _)| of == partition);
        let Some(after) = sure.find(is_after).and_then(|op| op.returned).filter(|_| commits.count() == 1) else {
            return false;
        };
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
    ("metadata-answers", "a broker tells of an older leader epoch again", |history| {
        let told = answers(history);
        let before = told.iter().find(|(at, broker, partition, _)| {
            told.iter().any(|(later, by, of, _)| (by, of) == (broker, partition) && is_over(history, *at, *later))
        });
        let Some((at, _, partition, epoch)) = before.copied() else { return false };
        let OpKind::Metadata(read) = &mut history.ops[at].kind else { return false };
        let one = read.partitions.iter_mut().find(|one| one.partition == partition).expect("it was told");
        (one.leader_epoch, one.leader) = (LeaderEpoch(epoch.0 + 100), None);
        true
    }),
    ("metadata-answers", "a leader epoch has two leaders", |history| {
        let mut led: BTreeSet<(TopicIdPartition, LeaderEpoch)> = BTreeSet::new();
        let told = kinds(history).filter_map(|(_, kind)| match kind {
            OpKind::Metadata(read) => Some(&mut read.partitions),
            _ => None,
        });
        let mut led_again = told.flatten().filter(|one| one.leader.is_some());
        let again = led_again.find(|one| !led.insert((one.partition, one.leader_epoch)));
        again.is_some_and(|one| {
            one.leader = Some(NodeId(17));
            true
        })
    }),
    ("metadata-answers", "a broker forgets a partition", |history| {
        let told = answers(history);
        let again = told.iter().rev().find_map(|(at, broker, of, _)| {
            let is_before =
                |(before, by, known, _): &Answer| (by, known) == (broker, of) && is_over(history, *before, *at);
            (of.partition > 0 && told.iter().any(is_before)).then_some(*at)
        });
        let Some(OpKind::Metadata(read)) = again.map(|at| &mut history.ops[at].kind) else { return false };
        let before = read.partitions.len();
        read.partitions.truncate(1);
        before > 1
    }),
    ("config-answers", "a broker tells a configuration that was replaced", |history| {
        let told = |op: &Op| match &op.kind {
            OpKind::Config(ConfigRequest { ask: ConfigAsk::Describe(broker), told: Some(value), .. }) => {
                Some((*broker, value.clone()))
            }
            _ => None,
        };
        let asked = |op: &Op, value: &str| match &op.kind {
            OpKind::Config(ConfigRequest { ask: ConfigAsk::Set(Some(to)), .. }) => to == value,
            _ => false,
        };
        // Told first, before anybody asked for anything: the default. Later a value that was asked for, and then the first again.
        let Some(first) = history.ops.iter().find_map(told).filter(|(_, value)| value == "default") else {
            return false;
        };
        let is_reset = |op: &Op| matches!(&op.kind, OpKind::Config(request) if request.ask == ConfigAsk::Set(None));
        if history.ops.iter().any(is_reset) {
            return false;
        }
        let set = history.ops.iter().enumerate().find_map(|(at, op)| {
            let (broker, value) = told(op).filter(|(_, value)| *value != first.1)?;
            let is_known = history.ops.iter().any(|op| op.outcome == Outcome::Ok && asked(op, &value));
            is_known.then_some((at, broker))
        });
        let Some((at, broker)) = set else { return false };
        let over = history.ops[at].returned;
        let again = history.ops.iter_mut().filter(|op| Some(op.invoked) > over).find_map(|op| match &mut op.kind {
            OpKind::Config(request) if request.ask == ConfigAsk::Describe(broker) => Some(request),
            _ => None,
        });
        again.is_some_and(|request| {
            request.told = Some(first.1);
            true
        })
    }),
    ("config-answers", "a broker tells two values that nobody set", |history| {
        let mut told = kinds(history).filter_map(|(_, kind)| match kind {
            OpKind::Config(ConfigRequest { ask: ConfigAsk::Describe(NodeId(1)), told: Some(value), .. }) => Some(value),
            _ => None,
        });
        let (Some(first), Some(second)) = (told.next(), told.next()) else { return false };
        (*first, *second) = ("17".to_owned() + first, "18".to_owned() + second);
        true
    }),
];

/// One returned before the other was invoked.
fn is_over(history: &History, before: usize, at: usize) -> bool {
    history.ops[before].returned.is_some_and(|returned| returned < history.ops[at].invoked)
}

/// Number of the operation, who answered, and what about a partition.
type Answer = (usize, NodeId, TopicIdPartition, LeaderEpoch);

fn answers(history: &History) -> Vec<Answer> {
    let read = |(at, op): (usize, &Op)| match &op.kind {
        OpKind::Metadata(read) => {
            let told = read.partitions.iter().map(move |one| (at, read.broker, one.partition, one.leader_epoch));
            Some(told.collect::<Vec<_>>())
        }
        _ => None,
    };
    history.ops.iter().enumerate().filter_map(read).flatten().collect()
}
