//! What of a group's commits may be acknowledged, and what may be told of them.

use super::members::{Effect, GroupView, forgotten};
use crate::context::Context;
use crate::exactly_once::visibility::late_end;
use crate::history::{GroupProtocol, Isolation, OpKind, Outcome, SessionId, SimTime};
use crate::index::Index;
use crate::registry::{LOST_OFFSET, STALE_COMMIT};
use crate::verdict::CheckResult;
use broker_types::{Offset, TopicIdPartition};
use std::collections::BTreeMap;

/// `stale-commit` and `lost-offset`.
pub(crate) fn check(index: &Index<'_>, ctx: &Context) -> Vec<CheckResult> {
    let mut stale = CheckResult::of(STALE_COMMIT);
    let mut lost = CheckResult::of(LOST_OFFSET);
    for (name, group) in &index.groups {
        generations(index, ctx, group, &mut stale);
        for partition in group.partitions(index) {
            ranges(index, ctx, (name, group), partition, &mut stale);
            told(index, ctx, group, partition, &mut lost);
        }
    }
    vec![stale, lost]
}

/// T7: nothing counts that carries a generation which the coordinator had left. An assignment tells of a generation of the
/// whole group in the classic protocol, and of its own member's epoch alone since KIP-848.
fn generations(index: &Index<'_>, ctx: &Context, group: &GroupView, result: &mut CheckResult) {
    // Classic generations as they were told: when, the highest until then, and by which assignment.
    let mut classic: Vec<(SimTime, i32, u32)> = Vec::new();
    for at in &group.assigns {
        let (op, assign) = (index.op(*at), index.assign(*at));
        if let (Some(returned), GroupProtocol::Classic) = (op.returned, assign.protocol) {
            classic.push((returned, assign.generation, *at));
        }
    }
    classic.sort_unstable();
    for at in 1..classic.len() {
        if classic[at].1 < classic[at - 1].1 {
            (classic[at].1, classic[at].2) = (classic[at - 1].1, classic[at - 1].2);
        }
    }
    // The highest that each session was told itself.
    let mut own: BTreeMap<SessionId, (i32, u32)> = BTreeMap::new();
    let mut assigns = group.assigns.iter().copied().peekable();
    for at in &group.commits {
        while let Some(assign) = assigns.next_if(|assign| assign < at) {
            let told = (index.assign(assign).generation, assign);
            let known = own.entry(index.op(assign).session).or_insert(told);
            *known = (*known).max(told);
        }
        let op = index.op(*at);
        let Some(carried) = index.commit(*at).generation else { continue };
        let told = classic.partition_point(|(returned, ..)| *returned < op.invoked);
        let of_all = told.checked_sub(1).map(|last| (classic[last].1, classic[last].2));
        let own = own.get(&op.session).copied();
        let own = own.filter(|(_, at)| index.op(*at).returned.is_some_and(|returned| returned < op.invoked));
        let Some((newest, by)) = of_all.max(own).filter(|(newest, _)| *newest > carried) else { continue };
        result.opportunity(1);
        if op.outcome == Outcome::Ok {
            result.find(STALE_COMMIT, ctx, forgotten(ctx), Some(op.invoked.0), || {
                let what = format!("the second came in generation {carried}, after {newest}, and was acknowledged");
                vec![index.tell(ctx, by), index.tell(ctx, *at), what]
            });
        }
    }
}

/// What a session committed: from where it had begun, or committed before, to the commit.
#[derive(Clone, Copy)]
struct Range {
    from: Offset,
    to: Offset,
    at: u32,
}

/// T7: what one session has committed with its transactions no other one commits again. Only for readers of committed data,
/// for others may be told where to begin before an open transaction has come to its end.
fn ranges(
    index: &Index<'_>,
    ctx: &Context,
    (name, group): (&str, &GroupView),
    partition: TopicIdPartition,
    result: &mut CheckResult,
) {
    let done: Vec<(u32, Offset)> = group
        .commits_of(index, partition)
        .filter(|(at, _, effect)| effect.done.is_some() && index.transactions.of(*at).is_some())
        .map(|(at, to, _)| (at, to))
        .collect();
    let Some(view) = index.partitions.get(&partition).filter(|_| !done.is_empty()) else { return };
    // Assignments, polls and commits of each session, in its order.
    let mut events: Vec<u32> = view.polls.iter().chain(&group.assigns).copied().collect();
    events.extend(done.iter().map(|(at, _)| *at));
    events.sort_unstable();
    let offsets: BTreeMap<u32, Offset> = done.into_iter().collect();
    let mut begun: BTreeMap<SessionId, Option<Offset>> = BTreeMap::new();
    let mut ranges = Vec::new();
    for at in events {
        let op = index.op(at);
        match &op.kind {
            OpKind::Assign(assign) => {
                let holds = assign.partitions.contains(&partition);
                let before = begun.remove(&op.session).filter(|_| holds);
                if holds {
                    begun.insert(op.session, before.flatten());
                }
            }
            OpKind::Poll(poll) if poll.isolation == Isolation::ReadCommitted => {
                if let Some(begun) = begun.get_mut(&op.session) {
                    begun.get_or_insert(poll.position);
                }
            }
            OpKind::CommitOffsets(_) => {
                let Some(begun) = begun.get_mut(&op.session) else { continue };
                if let Some(from) = begun.replace(offsets[&at]) {
                    ranges.push((op.session, Range { from, to: offsets[&at], at }));
                }
            }
            _ => {}
        }
    }
    ranges.retain(|(_, range)| range.from < range.to);
    ranges.sort_by_key(|(_, range)| (range.from, range.to));
    result.opportunity(ranges.len().saturating_sub(1) as u64);
    let mut furthest: Option<(SessionId, Range)> = None;
    for (session, range) in ranges {
        if let Some((other, before)) = furthest
            && other != session
            && range.from < before.to
        {
            let reason = forgotten(ctx).or_else(|| late_end(ctx));
            result.find(STALE_COMMIT, ctx, reason, Some(index.op(range.at).invoked.0), || {
                let (from, to) = (range.from, before.to.min(range.to));
                let what = format!("group {name}: offsets {from} to {to} are committed by both, each in a transaction");
                vec![index.tell(ctx, before.at), index.tell(ctx, range.at), what]
            });
        }
        if furthest.is_none_or(|(_, before)| before.to < range.to) {
            furthest = Some((session, range));
        }
    }
}

/// L5: what is told is what was committed last: no commit was over, for sure, before another one began that was over when the
/// question came.
fn told(index: &Index<'_>, ctx: &Context, group: &GroupView, partition: TopicIdPartition, result: &mut CheckResult) {
    let commits: Vec<(u32, Offset, Effect)> = group.commits_of(index, partition).collect();
    // Those that counted for sure: when, and of those until then the one that began last.
    let mut done: Vec<(SimTime, SimTime, u32)> =
        commits.iter().filter_map(|(at, _, effect)| Some((effect.done?, effect.from, *at))).collect();
    done.sort_unstable();
    for at in 1..done.len() {
        if done[at].1 < done[at - 1].1 {
            (done[at].1, done[at].2) = (done[at - 1].1, done[at - 1].2);
        }
    }
    let mut by_offset: BTreeMap<Offset, Vec<Effect>> = BTreeMap::new();
    for (_, offset, effect) in &commits {
        by_offset.entry(*offset).or_default().push(*effect);
    }
    for at in &group.fetches {
        let (op, fetch) = (index.op(*at), index.fetch(*at));
        let Some((_, offset)) = fetch.offsets.iter().find(|(of, _)| *of == partition) else { continue };
        let before = done.partition_point(|(done, ..)| *done < op.invoked);
        let Some((_, began, commit)) = before.checked_sub(1).map(|last| done[last]) else { continue };
        let returned = op.returned.unwrap_or(SimTime(u64::MAX));
        let may_be = match offset {
            None => false,
            // Nobody here committed it: the group has other members, or the history begins late.
            Some(offset) => by_offset.get(offset).is_none_or(|effects| {
                effects.iter().any(|effect| effect.from <= returned && effect.done.is_none_or(|done| done >= began))
            }),
        };
        result.opportunity(1);
        if !may_be {
            let stale = (!fetch.require_stable).then_some("stale-coordinator");
            let reason = stale.or_else(|| forgotten(ctx)).or_else(|| late_end(ctx));
            result.find(LOST_OFFSET, ctx, reason, op.returned.map(|at| at.0), || {
                let end = index.transactions.of(commit).and_then(|transaction| transaction.end);
                let lines = [Some(commit), end, Some(*at)].into_iter().flatten();
                lines.map(|at| index.tell(ctx, at)).collect()
            });
        }
    }
}
