//! T5: consume, transform, produce. The offsets of what was read are committed in the transaction of what was made of it, so that
//! each record is transformed once, whoever crashes.
//!
//! A group is judged on a partition when its sessions say which of that partition's records they made theirs of, and commit its
//! offsets in transactions only: outside of them Kafka promises that nothing is left out, and not that nothing comes twice.

use super::final_reads::committed;
use super::transactions::Fate;
use super::visibility::late_end;
use crate::context::Context;
use crate::groups::members::{GroupView, Standing, forgotten};
use crate::history::{Acks, Outcome};
use crate::index::{Index, excuse};
use crate::registry::TRANSFORM_ONCE;
use crate::verdict::CheckResult;
use broker_types::{Offset, TopicIdPartition};
use std::collections::{BTreeMap, BTreeSet};

/// `transform-once`.
pub(crate) fn check(index: &Index<'_>, ctx: &Context) -> CheckResult {
    let mut result = CheckResult::of(TRANSFORM_ONCE);
    if index.sourced.is_empty() {
        return result;
    }
    for (name, group) in &index.groups {
        // What its sessions made of each partition.
        let mut made: BTreeMap<TopicIdPartition, Vec<u32>> = BTreeMap::new();
        for at in index.sourced.iter().filter(|at| group.sessions.contains(&index.op(**at).session)) {
            if let Some(source) = &index.send(*at).1.source {
                made.entry(source.0).or_default().push(*at);
            }
        }
        for (input, made) in &made {
            let is_transactional = |at: &u32| index.transactions.of(*at).is_some();
            let mut commits = group.commits.iter().chain(made);
            if !commits.all(is_transactional) {
                continue;
            }
            if let Some(transform) = Transform::new(index, ctx, (name, group), (*input, made)) {
                transform.once(&mut result);
                transform.complete(&mut result);
                transform.in_order(&mut result);
            }
        }
    }
    result
}

/// One group's transformation of one partition, as it is at the end.
struct Transform<'a> {
    index: &'a Index<'a>,
    ctx: &'a Context,
    name: &'a str,
    input: TopicIdPartition,
    standing: Standing,
    /// By input's offset: the sends of what is there of it.
    outputs: BTreeMap<Offset, Vec<u32>>,
    /// By partition, in order of offset: input's offset, and the send.
    lying: Vec<(TopicIdPartition, Vec<(Offset, u32)>)>,
    /// By input's offset: whatever was sent of it.
    made: BTreeMap<Offset, Vec<u32>>,
}

impl<'a> Transform<'a> {
    /// `None` when the end of an output, or where the group stands, is not known.
    fn new(
        index: &'a Index<'a>,
        ctx: &'a Context,
        (name, group): (&'a str, &GroupView),
        (input, sends): (TopicIdPartition, &[u32]),
    ) -> Option<Self> {
        let standing = group.standing(index, input)?;
        let mut made: BTreeMap<Offset, Vec<u32>> = BTreeMap::new();
        for at in sends {
            made.entry(index.send(*at).1.source.as_ref()?.1).or_default().push(*at);
        }
        let ours: BTreeSet<u32> = sends.iter().copied().collect();
        let partitions: BTreeSet<TopicIdPartition> = sends.iter().map(|at| index.send(*at).1.partition).collect();
        let mut outputs: BTreeMap<Offset, Vec<u32>> = BTreeMap::new();
        let mut lying = Vec::new();
        for partition in partitions {
            let mut there = Vec::new();
            for (_, value) in committed(index, ctx, partition)? {
                let Some((at, _, send)) = index.sender(partition, value) else { continue };
                let Some(source) = send.source.as_ref().filter(|_| ours.contains(&at)) else { continue };
                let of_input = outputs.entry(source.1).or_default();
                // A record that lies there twice is the business of `duplicate`.
                if !of_input.contains(&at) {
                    of_input.push(at);
                    there.push((source.1, at));
                }
            }
            lying.push((partition, there));
        }
        Some(Transform { index, ctx, name, input, standing, outputs, lying, made })
    }

    /// No record gives two, and none at or above the group's offset gives any.
    fn once(&self, result: &mut CheckResult) {
        for (offset, sends) in &self.outputs {
            result.opportunity(1);
            if let [first, second, ..] = sends[..] {
                let reason = self.reason(&[first, second]);
                self.find(result, reason, *offset, &[first, second], "was transformed twice".to_owned());
            }
            // The transaction of an unknown end counted, as one sees: did it with its offsets, that was told for certain.
            let is_ok = |at: &u32| self.index.op(*at).outcome == Outcome::Ok;
            let counted = |at: &u32| {
                let known = self.index.transactions.of(*at);
                let is_known = known.is_some_and(|of| of.fate == Fate::Committed && of.parts.iter().all(is_ok));
                self.standing.is_certain || is_known
            };
            if *offset >= self.standing.offset
                && let Some(at) = sends.iter().copied().find(counted)
            {
                let what = format!("was transformed, and the group stands at {}", self.standing.offset);
                self.find(result, self.reason(&[at]), *offset, &[at, self.standing.by], what);
            }
        }
    }

    /// Every record below the group's offset gives one.
    fn complete(&self, result: &mut CheckResult) {
        let (index, ctx) = (self.index, self.ctx);
        let Some(view) = index.partitions.get(&self.input) else { return };
        for at in &view.sends {
            let Some(offset) = index.acknowledged(*at).filter(|offset| *offset < self.standing.offset) else {
                continue;
            };
            result.opportunity(1);
            let (op, send) = index.send(*at);
            if self.outputs.contains_key(&offset) || index.may_be_compacted(ctx, self.input, send.value, offset) {
                continue;
            }
            let of_it = self.made.get(&offset).map(Vec::as_slice).unwrap_or_default();
            let is_compacted = |at: &u32| {
                let send = index.send(*at).1;
                send.offset.is_some_and(|offset| index.may_be_compacted(ctx, send.partition, send.value, offset))
            };
            if of_it.iter().filter(|at| index.acknowledged(**at).is_some()).any(is_compacted) {
                continue;
            }
            let trimmed = ctx.rules(self.input).may_be_trimmed && offset < view.log_start;
            let lost = excuse(ctx, self.input, send.acks, op.invoked);
            let reason = trimmed.then_some("trimmed").or(lost).or_else(|| self.reason(of_it));
            let what = format!("was never transformed, and the group stands at {}", self.standing.offset);
            let told: Vec<u32> = [*at, self.standing.by].into_iter().chain(of_it.iter().copied().take(4)).collect();
            self.find(result, reason, offset, &told, what);
        }
    }

    /// What was made of a partition's records lies in their order.
    fn in_order(&self, result: &mut CheckResult) {
        for (_, lying) in &self.lying {
            result.opportunity(lying.len().saturating_sub(1) as u64);
            for pair in lying.windows(2).filter(|pair| pair[1].0 < pair[0].0) {
                let [(before, first), (offset, second)] = [pair[0], pair[1]];
                let what = format!("gave a record that lies behind that of offset {before}");
                self.find(result, self.reason(&[first, second]), offset, &[first, second], what);
            }
        }
    }

    /// Why these outputs, or what the coordinators knew of them, may not be as they should.
    fn reason(&self, sends: &[u32]) -> Option<&'static str> {
        let lost = |at: &u32| {
            let (op, send) = self.index.send(*at);
            let trimmed = self.ctx.rules(send.partition).may_be_trimmed.then_some("trimmed");
            trimmed.or_else(|| excuse(self.ctx, send.partition, Acks::All, op.invoked))
        };
        sends.iter().find_map(lost).or_else(|| forgotten(self.ctx)).or_else(|| late_end(self.ctx))
    }

    fn find(&self, result: &mut CheckResult, reason: Option<&'static str>, offset: Offset, told: &[u32], what: String) {
        let time = told.iter().map(|at| self.index.op(*at).invoked.0).max();
        result.find(TRANSFORM_ONCE, self.ctx, reason, time, || {
            let name = self.ctx.partition_name(self.input);
            let head = format!("group {}: offset {offset} of {name} {what}", self.name);
            let ends = told.iter().filter_map(|at| self.index.transactions.of(*at)?.end);
            let ends: BTreeSet<u32> = ends.collect();
            let lines = told.iter().copied().chain(ends).map(|at| self.index.tell(self.ctx, at));
            std::iter::once(head).chain(lines).collect()
        });
    }
}
