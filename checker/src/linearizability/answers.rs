//! L7: what single brokers tell of the cluster. It may be old, so it is no linearizable object; but each broker replays one log of
//! metadata, so what it tells later is not older.

use crate::context::Context;
use crate::history::{Acks, ConfigAsk, OpKind, Outcome, SimTime};
use crate::index::{Index, excuse};
use crate::registry::{CONFIG_ANSWERS, METADATA_ANSWERS};
use crate::verdict::CheckResult;
use broker_types::{LeaderEpoch, NodeId, TopicId, TopicIdPartition};
use std::collections::{BTreeMap, BTreeSet};

/// `metadata-answers` and `config-answers`.
pub(crate) fn check(index: &Index<'_>, ctx: &Context) -> [CheckResult; 2] {
    // A log of metadata that was lost begins again.
    let metadata_lost = excuse(ctx, TopicIdPartition::METADATA, Acks::All, SimTime(0));
    let mut configs = CheckResult::of(CONFIG_ANSWERS);
    for ((resource, key), requests) in &index.configs {
        config(index, ctx, metadata_lost, &format!("{key} of {resource}"), requests, &mut configs);
    }
    [metadata(index, ctx, metadata_lost), configs]
}

/// One answer about one thing, as far as it is comparable: it shows that the broker knew at least `knew`, and would be in order
/// from one that knew at most `fits`.
struct Answer<K, V> {
    of: K,
    knew: V,
    fits: V,
    at: u32,
}

/// Each answer that comes after another about the same thing, with the one that knew most of those that were over before it was
/// asked for.
fn later<'a, K: Ord + Copy, V: Ord + Copy>(
    index: &Index<'_>,
    answers: &'a [Answer<K, V>],
) -> Vec<[&'a Answer<K, V>; 2]> {
    let mut asked: Vec<&Answer<K, V>> = answers.iter().collect();
    asked.sort_by_key(|answer| index.op(answer.at).invoked);
    let mut over: Vec<(SimTime, &Answer<K, V>)> =
        answers.iter().filter_map(|answer| Some((index.op(answer.at).returned?, answer))).collect();
    over.sort_by_key(|(returned, answer)| (*returned, answer.at));
    let mut over = over.into_iter().peekable();
    let mut known: BTreeMap<K, &Answer<K, V>> = BTreeMap::new();
    let mut pairs = Vec::new();
    for answer in asked {
        while let Some((_, before)) = over.next_if(|(returned, _)| *returned < index.op(answer.at).invoked) {
            let most = known.entry(before.of).or_insert(before);
            if before.knew > most.knew {
                *most = before;
            }
        }
        pairs.extend(known.get(&answer.of).map(|before| [*before, answer]));
    }
    pairs
}

fn metadata(index: &Index<'_>, ctx: &Context, excuse: Option<&str>) -> CheckResult {
    let mut result = CheckResult::of(METADATA_ANSWERS);
    let mut epochs: Vec<Answer<(NodeId, TopicIdPartition), LeaderEpoch>> = Vec::new();
    let mut counts: Vec<Answer<(NodeId, TopicId), usize>> = Vec::new();
    let mut leaders: BTreeMap<(TopicIdPartition, LeaderEpoch), (NodeId, u32)> = BTreeMap::new();
    for at in &index.metadata {
        let OpKind::Metadata(read) = &index.op(*at).kind else { continue };
        let mut told: BTreeMap<TopicId, BTreeSet<i32>> = BTreeMap::new();
        for one in &read.partitions {
            let (of, knew) = ((read.broker, one.partition), one.leader_epoch);
            epochs.push(Answer { of, knew, fits: knew, at: *at });
            told.entry(one.partition.topic).or_default().insert(one.partition.partition);
            let Some(leader) = one.leader else { continue };
            let (first, before) = *leaders.entry((one.partition, one.leader_epoch)).or_insert((leader, *at));
            result.opportunity(u64::from(before != *at));
            if first != leader {
                result.find(METADATA_ANSWERS, ctx, excuse, Some(index.op(*at).invoked.0), || {
                    let (name, epoch) = (ctx.partition_name(one.partition), one.leader_epoch);
                    let (first, leader) = (ctx.node_name(first), ctx.node_name(leader));
                    let what = format!("{name}: the leader of leader epoch {epoch} is {first}, and it is {leader}");
                    vec![what, index.tell(ctx, before), index.tell(ctx, *at)]
                });
            }
        }
        let broker = read.broker;
        let counted = told.iter().map(|(topic, told)| (topic, told.len()));
        counts.extend(counted.map(|(topic, knew)| Answer { of: (broker, *topic), knew, fits: knew, at: *at }));
    }
    let mut judge = |before: u32, at: u32, what: Option<String>| {
        result.opportunity(1);
        let Some(what) = what else { return };
        result.find(METADATA_ANSWERS, ctx, excuse, Some(index.op(at).invoked.0), || {
            vec![what, index.tell(ctx, before), index.tell(ctx, at)]
        });
    };
    for [before, answer] in later(index, &epochs) {
        let (broker, partition) = answer.of;
        let what = (answer.fits < before.knew).then(|| {
            let (name, broker) = (ctx.partition_name(partition), ctx.node_name(broker));
            format!("{name}: {broker} told of leader epoch {}, and later of {}", before.knew, answer.knew)
        });
        judge(before.at, answer.at, what);
    }
    for [before, answer] in later(index, &counts) {
        let (broker, topic) = answer.of;
        let what = (answer.fits < before.knew).then(|| {
            let name = ctx.topics.get(&topic).cloned().unwrap_or_else(|| topic.to_string());
            let broker = ctx.node_name(broker);
            format!("{name}: {broker} told of {} partitions, and later of {}", before.knew, answer.knew)
        });
        judge(before.at, answer.at, what);
    }
    result
}

/// One configuration: a value is in force from a moment after it was asked for until some moment before another one's request was
/// answered, or later.
fn config(
    index: &Index<'_>,
    ctx: &Context,
    excuse: Option<&str>,
    name: &str,
    requests: &[u32],
    result: &mut CheckResult,
) {
    let mut sets: Vec<(Option<&str>, SimTime, SimTime)> = Vec::new();
    let mut told: Vec<(NodeId, &str, u32)> = Vec::new();
    for at in requests {
        let op = index.op(*at);
        let OpKind::Config(request) = &op.kind else { continue };
        match (&request.ask, &request.told) {
            (ConfigAsk::Set(_), _) if op.outcome == Outcome::Fail => {}
            (ConfigAsk::Set(value), _) => {
                let done = op.returned.filter(|_| op.outcome == Outcome::Ok).unwrap_or(SimTime(u64::MAX));
                sets.push((value.as_deref(), op.invoked, done));
            }
            (ConfigAsk::Describe(broker), Some(value)) if op.outcome == Outcome::Ok => told.push((*broker, value, *at)),
            (ConfigAsk::Describe(_), _) => {}
        }
    }
    // What was told before anybody had asked for it is the default, which may be another on another broker.
    let is_set_before = |value: &str, at: u32| {
        let over = index.op(at).returned.unwrap_or(SimTime(u64::MAX));
        sets.iter().any(|(to, invoked, _)| *to == Some(value) && *invoked <= over)
    };
    let mut defaults: BTreeMap<NodeId, (&str, u32)> = BTreeMap::new();
    for (broker, value, at) in told.iter().filter(|(_, value, at)| !is_set_before(value, *at)) {
        let (default, first) = *defaults.entry(*broker).or_insert((value, *at));
        result.opportunity(u64::from(first != *at));
        if default != *value {
            result.find(CONFIG_ANSWERS, ctx, excuse, Some(index.op(*at).invoked.0), || {
                let broker = ctx.node_name(*broker);
                let what = format!("{name}: {broker} told {default} and {value}, and nobody had set either");
                vec![what, index.tell(ctx, first), index.tell(ctx, *at)]
            });
        }
    }
    let answers: Vec<_> = told
        .iter()
        .map(|(broker, value, at)| {
            let may_be_default = defaults.get(broker).is_none_or(|(default, _)| default == value);
            let may_be = sets.iter().filter(|(to, ..)| *to == Some(value) || may_be_default && to.is_none());
            let from_start = may_be_default.then_some(SimTime(0));
            // In force at the earliest from, and replaced by what began after, at the latest.
            let knew = may_be.clone().map(|(_, invoked, _)| *invoked).chain(from_start).min().unwrap_or_default();
            let fits = may_be.map(|(.., done)| *done).chain(from_start).max().unwrap_or(SimTime(u64::MAX));
            Answer { of: *broker, knew, fits, at: *at }
        })
        .collect();
    for [before, answer] in later(index, &answers) {
        result.opportunity(1);
        if answer.fits < before.knew {
            result.find(CONFIG_ANSWERS, ctx, excuse, Some(index.op(answer.at).invoked.0), || {
                let broker = ctx.node_name(answer.of);
                let what = format!("{name}: {broker} told what had been replaced before what it told earlier was set");
                vec![what, index.tell(ctx, before.at), index.tell(ctx, answer.at)]
            });
        }
    }
}
