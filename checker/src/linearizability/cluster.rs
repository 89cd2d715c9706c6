//! What a cluster keeps for its clients beside records, each as one linearizable object: a group's offset in a partition (L5), a
//! topic (L6), the voters (L10); and that a producer id is given away once (L8).

use super::models::register::{self, Register, Values};
use super::models::{topic, voters};
use super::objects::{self, By, Object};
use super::search::{Model, Span};
use crate::context::Context;
use crate::exactly_once::visibility::late_end;
use crate::groups::members::forgotten;
use crate::history::{Acks, OpKind, Outcome, SimTime};
use crate::index::{Index, excuse};
use crate::registry::{CheckInfo, LINEARIZABLE_OFFSET, LINEARIZABLE_TOPIC, LINEARIZABLE_VOTERS, PRODUCER_ID_ONCE};
use crate::verdict::{CheckOutcome, CheckResult};
use broker_types::{NodeId, Offset, ProducerId, TopicIdPartition};
use std::collections::{BTreeMap, BTreeSet};

/// What the searches of one history may cost, each check apart.
const STEPS: u64 = 20_000_000;

/// `linearizable-offset`, `linearizable-topic`, `linearizable-voters` and `producer-id-once`.
pub(crate) fn check(index: &Index<'_>, ctx: &Context) -> Vec<CheckResult> {
    let metadata_lost = excuse(ctx, TopicIdPartition::METADATA, Acks::All, SimTime(0));
    let mut registers = Vec::new();
    for (name, group) in &index.groups {
        for partition in group.partitions(index) {
            let name = format!("group {name}, {}", ctx.partition_name(partition));
            registers.extend(offset(index, name, group, partition));
        }
    }
    let topics: Vec<Object<topic::Topic>> = index.topics.iter().map(|(name, at)| one_topic(index, name, at)).collect();
    vec![
        judged(LINEARIZABLE_OFFSET, &registers, forgotten(ctx).or_else(|| late_end(ctx))),
        judged(LINEARIZABLE_TOPIC, &topics, metadata_lost),
        all_voters(index, ctx, metadata_lost),
        producer_ids(index, ctx, metadata_lost),
    ]
}

/// The search's result; with an `excuse`, what it found is counted.
fn judged<M: Model>(check: &CheckInfo, objects: &[Object<M>], excuse: Option<&str>) -> CheckResult {
    let found = objects::check(check.id, check.guarantee, objects, STEPS);
    let Some(reason) = excuse.filter(|_| found.outcome == CheckOutcome::Violation) else { return found };
    let mut counted = CheckResult::of(check);
    counted.opportunity(found.opportunities);
    (0..found.violations_in_all).for_each(|_| counted.allow(reason));
    counted
}

/// An operation's place and span among those of an object.
fn push<M>(object: &mut Object<M>, index: &Index<'_>, at: u32, span: Span) {
    let op = index.op(at);
    object.spans.push(span);
    object.who.push((i64::from(op.session.0), u32::try_from(op.id.0).unwrap_or(u32::MAX)));
}

/// From its invocation to its return; what nobody knows the outcome of may take effect at any later time.
fn span(index: &Index<'_>, at: u32) -> Span {
    let op = index.op(at);
    let returned = op.returned.filter(|_| op.outcome != Outcome::Unknown);
    Span { invoked: op.invoked.0, returned: returned.map_or(u64::MAX, |at| at.0) }
}

/// L5: a register that commits write, and that those read who ask with `require_stable`. `None` when nobody does.
fn offset(
    index: &Index<'_>,
    name: String,
    group: &crate::groups::members::GroupView,
    partition: TopicIdPartition,
) -> Option<Object<Register>> {
    let commits: Vec<_> = group.commits_of(index, partition).collect();
    let written: BTreeSet<Offset> = commits.iter().map(|(_, offset, _)| *offset).collect();
    let mut values = Values::new();
    let register = Register { accesses: Vec::new(), values: Vec::new().into() };
    let mut object = Object::new(name, By::SESSION, register);
    for (at, offset, effect) in commits {
        let span = Span { invoked: effect.from.0, returned: effect.done.map_or(u64::MAX, |at| at.0) };
        push(&mut object, index, at, span);
        object.model.accesses.push(register::Access::Write(values.number(offset.to_string())));
    }
    for at in &group.fetches {
        let fetch = index.fetch(*at);
        if index.op(*at).outcome != Outcome::Ok {
            continue;
        }
        let told = fetch.offsets.iter().find(|(of, _)| *of == partition).filter(|_| fetch.require_stable);
        // An offset that nobody here committed: the group has other members, or the history begins late.
        let Some((_, told)) = told.filter(|(_, told)| told.is_none_or(|told| written.contains(&told))) else {
            continue;
        };
        push(&mut object, index, *at, span(index, *at));
        let value = told.map_or("nil".to_owned(), |told| told.to_string());
        object.model.accesses.push(register::Access::Read(values.number(value)));
    }
    object.model.values = values.into_names();
    let is_read = object.model.accesses.iter().any(|access| matches!(access, register::Access::Read(_)));
    is_read.then_some(object)
}

fn one_topic(index: &Index<'_>, name: &str, requests: &[u32]) -> Object<topic::Topic> {
    let model = topic::Topic { accesses: Vec::new() };
    let mut object = Object::new(format!("topic {name}"), By::SESSION, model);
    for at in requests {
        let OpKind::Topic(request) = &index.op(*at).kind else { continue };
        if let Some(access) = topic::access(index.op(*at), request) {
            push(&mut object, index, *at, span(index, *at));
            object.model.accesses.push(access);
        }
    }
    object
}

fn all_voters(index: &Index<'_>, ctx: &Context, excuse: Option<&str>) -> CheckResult {
    let requests = index.voters.iter().filter_map(|at| match &index.op(*at).kind {
        OpKind::Voters(request) => Some((*at, request)),
        _ => None,
    });
    let mut nodes: BTreeSet<NodeId> = ctx.voters.iter().copied().collect();
    for (_, request) in requests.clone() {
        nodes.extend(&request.told);
        if let crate::history::VoterAsk::Add(node) | crate::history::VoterAsk::Remove(node) = request.ask {
            nodes.insert(node);
        }
    }
    // Who they are at first is not known.
    if ctx.voters.is_empty() {
        return CheckResult::of(LINEARIZABLE_VOTERS);
    }
    if nodes.len() > voters::MOST {
        let mut result = CheckResult::of(LINEARIZABLE_VOTERS);
        result.outcome = CheckOutcome::Unknown;
        return result;
    }
    let nodes: Vec<NodeId> = nodes.into_iter().collect();
    let initial = voters::set(&ctx.voters, &nodes);
    let model = voters::Voters { initial, accesses: Vec::new(), nodes };
    let mut object = Object::new(String::new(), By::SESSION, model);
    for (at, request) in requests {
        if let Some(access) = voters::access(index.op(at), request, &object.model.nodes) {
            push(&mut object, index, at, span(index, at));
            object.model.accesses.push(access);
        }
    }
    judged(LINEARIZABLE_VOTERS, &[object], excuse)
}

/// L8. Transactional ids keep theirs, so only those of others must be new.
fn producer_ids(index: &Index<'_>, ctx: &Context, excuse: Option<&str>) -> CheckResult {
    let mut result = CheckResult::of(PRODUCER_ID_ONCE);
    let mut given: BTreeMap<ProducerId, (u32, Option<&str>)> = BTreeMap::new();
    for at in &index.producers {
        let op = index.op(*at);
        let (producer, of) = match &op.kind {
            OpKind::ProducerId(request) => (request.producer, None),
            OpKind::InitProducer(init) => (init.producer.map(|(id, _)| id), Some(init.transactional_id.as_str())),
            _ => continue,
        };
        let Some(producer) = producer.filter(|_| op.outcome == Outcome::Ok) else { continue };
        result.opportunity(1);
        let (first, before) = *given.entry(producer).or_insert((*at, of));
        if first != *at && (of.is_none() || of != before) {
            result.find(PRODUCER_ID_ONCE, ctx, excuse, Some(op.invoked.0), || {
                vec![index.tell(ctx, first), index.tell(ctx, *at)]
            });
        }
    }
    result
}
