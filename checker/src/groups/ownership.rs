//! B22: of two sessions of a group at most one may go on with a partition.
//!
//! What a session holds is what it was told last. One that was left behind learns late, and reads on until it does; that is
//! legal, as long as nothing that it commits counts.
//!
//! - Classic: a generation has one assignment, so no two sessions hold a partition in the same one. Whoever holds it in an older
//!   one commits nothing once its successor has polled.
//! - KIP-848: a partition is given to a member once the one before has let go of it, or was fenced. So while a session holds a
//!   partition, it commits nothing once another has been given it in a later epoch.
//! - A static member (KIP-345) takes the place of who had its instance before, in the same generation: that one is fenced, and commits
//!   nothing from then on.

use super::members::{GroupView, forgotten};
use crate::context::Context;
use crate::history::{GroupProtocol, Outcome, SessionId, SimTime};
use crate::index::Index;
use crate::registry::DOUBLE_OWNERSHIP;
use crate::verdict::CheckResult;
use broker_types::TopicIdPartition;
use std::collections::BTreeMap;

/// A session holds a partition, from one assignment that has it to the first that has it no more.
#[derive(Clone, Copy)]
struct Holding<'a> {
    session: SessionId,
    /// `group.instance.id`.
    instance: Option<&'a str>,
    protocol: GroupProtocol,
    /// The assignment it began with, and the last that had it: places in the history.
    first: u32,
    last: u32,
    /// Generation of the first.
    began_in: i32,
    from: SimTime,
    /// When it was told that it holds it no more, or did anything at all for the last time.
    until: SimTime,
    /// The assignment that ended it: a place in the history.
    ended: Option<u32>,
    /// When the session's first poll of it returned.
    polled: Option<SimTime>,
}

type Holdings<'a> = BTreeMap<TopicIdPartition, Vec<Holding<'a>>>;

/// `double-ownership`.
pub(crate) fn check(index: &Index<'_>, ctx: &Context) -> CheckResult {
    let mut result = CheckResult::of(DOUBLE_OWNERSHIP);
    if index.groups.values().all(|group| group.assigns.is_empty()) {
        return result;
    }
    let mut alive: BTreeMap<SessionId, SimTime> = BTreeMap::new();
    for op in index.ops {
        let last = alive.entry(op.session).or_default();
        *last = (*last).max(op.returned.unwrap_or(op.invoked));
    }
    for (name, group) in &index.groups {
        let mut commits: BTreeMap<TopicIdPartition, Vec<u32>> = BTreeMap::new();
        for at in group.commits.iter().filter(|at| index.op(**at).outcome == Outcome::Ok) {
            index.commit(*at).offsets.iter().for_each(|(of, _)| commits.entry(*of).or_default().push(*at));
        }
        for (partition, held) in &holdings(index, group, &alive) {
            let this = Owned { index, ctx, name, partition: *partition, held };
            this.generations(&mut result);
            this.commits(commits.get(partition).map(Vec::as_slice).unwrap_or_default(), &mut result);
        }
    }
    result
}

/// By partition, in order of time.
fn holdings<'a>(index: &Index<'a>, group: &GroupView, alive: &BTreeMap<SessionId, SimTime>) -> Holdings<'a> {
    let mut all = Holdings::new();
    let mut open: BTreeMap<SessionId, BTreeMap<TopicIdPartition, Holding<'a>>> = BTreeMap::new();
    for at in &group.assigns {
        let (op, assign) = (index.op(*at), index.assign(*at));
        let (Outcome::Ok, Some(from)) = (op.outcome, op.returned) else { continue };
        let session = op.session;
        let before = open.remove(&session).unwrap_or_default();
        let now = open.entry(session).or_default();
        let (protocol, generation) = (assign.protocol, assign.generation);
        for partition in &assign.partitions {
            let until = alive.get(&session).copied().unwrap_or(from);
            // A generation's assignment is a holding of its own: it is what others of that generation are compared with.
            let goes_on = |known: &&Holding| protocol == GroupProtocol::Consumer || known.began_in == generation;
            let holding = match before.get(partition).filter(goes_on) {
                Some(known) => Holding { last: *at, ..*known },
                None => Holding {
                    session,
                    instance: assign.instance.as_deref(),
                    protocol,
                    first: *at,
                    last: *at,
                    began_in: generation,
                    from,
                    until,
                    ended: None,
                    polled: None,
                },
            };
            now.insert(*partition, holding);
        }
        for (partition, holding) in before {
            if now.get(&partition).is_none_or(|now| now.first != holding.first) {
                all.entry(partition).or_default().push(Holding { until: op.invoked, ended: Some(*at), ..holding });
            }
        }
    }
    for (partition, holding) in open.into_values().flatten() {
        all.entry(partition).or_default().push(holding);
    }
    for (partition, held) in &mut all {
        held.sort_by_key(|holding| (holding.from, holding.first));
        polled(index, *partition, held);
    }
    all
}

/// When each holder's first poll returned.
fn polled(index: &Index<'_>, partition: TopicIdPartition, held: &mut [Holding<'_>]) {
    let Some(view) = index.partitions.get(&partition) else { return };
    let mut polls: BTreeMap<SessionId, Vec<(SimTime, SimTime)>> =
        held.iter().map(|holding| (holding.session, Vec::new())).collect();
    for op in view.polls.iter().map(|at| index.op(*at)).filter(|op| op.outcome == Outcome::Ok) {
        if let (Some(polls), Some(returned)) = (polls.get_mut(&op.session), op.returned) {
            polls.push((op.invoked, returned));
        }
    }
    polls.values_mut().for_each(|polls| polls.sort_unstable());
    for holding in held {
        let polls = &polls[&holding.session];
        let first = polls.partition_point(|(invoked, _)| *invoked < holding.from);
        holding.polled = polls.get(first).map(|(_, returned)| *returned);
    }
}

/// Both are the same static member, the one after the other.
fn is_same_instance(first: &Holding<'_>, second: &Holding<'_>) -> bool {
    first.instance.is_some() && first.instance == second.instance
}

struct Owned<'a> {
    index: &'a Index<'a>,
    ctx: &'a Context,
    name: &'a str,
    partition: TopicIdPartition,
    held: &'a [Holding<'a>],
}

impl Owned<'_> {
    /// No two hold it in one generation at a time.
    fn generations(&self, result: &mut CheckResult) {
        result.opportunity(self.held.windows(2).filter(|pair| pair[0].session != pair[1].session).count() as u64);
        let mut lasting: BTreeMap<i32, Holding<'_>> = BTreeMap::new();
        for holding in self.held.iter().filter(|holding| holding.protocol == GroupProtocol::Classic) {
            let Some(before) = lasting.get(&holding.began_in).copied() else {
                lasting.insert(holding.began_in, *holding);
                continue;
            };
            let is_replaced = is_same_instance(&before, holding);
            if before.session != holding.session && holding.from < before.until && !is_replaced {
                let what = format!("both hold {} in generation", self.ctx.partition_name(self.partition));
                self.find(result, (before, *holding), holding.from, &[], format!("{what} {}", holding.began_in));
            }
            if before.until < holding.until || is_replaced {
                lasting.insert(holding.began_in, *holding);
            }
        }
    }

    /// Whoever was succeeded commits nothing.
    fn commits(&self, commits: &[u32], result: &mut CheckResult) {
        let mut by_session: BTreeMap<SessionId, Vec<usize>> = BTreeMap::new();
        for (number, holding) in self.held.iter().enumerate() {
            by_session.entry(holding.session).or_default().push(number);
        }
        by_session.values_mut().for_each(|numbers| numbers.sort_by_key(|number| self.held[*number].first));
        for at in commits {
            let op = self.index.op(*at);
            // What it holds in its own view, in the order of its own operations.
            let Some(numbers) = by_session.get(&op.session) else { continue };
            let before = numbers.partition_point(|number| self.held[*number].first < *at);
            let Some(number) = before.checked_sub(1).map(|last| numbers[last]) else { continue };
            let own = self.held[number];
            if own.ended.is_some_and(|ended| ended < *at) {
                continue;
            }
            let has_succeeded = |other: &&Holding| match own.protocol {
                _ if other.session == own.session => false,
                _ if is_same_instance(&own, other) => true,
                GroupProtocol::Classic => {
                    other.began_in > own.began_in && other.polled.is_some_and(|polled| polled < op.invoked)
                }
                GroupProtocol::Consumer => other.began_in > own.began_in,
            };
            let mut later = self.held[number + 1..].iter().take_while(|other| other.from < op.invoked);
            if let Some(winner) = later.find(has_succeeded) {
                let what = "the first was succeeded by the second, and its commit counted".to_owned();
                self.find(result, (own, *winner), op.invoked, &[*at], what);
            }
        }
    }

    fn find(
        &self,
        result: &mut CheckResult,
        (first, second): (Holding<'_>, Holding<'_>),
        at: SimTime,
        also: &[u32],
        what: String,
    ) {
        result.find(DOUBLE_OWNERSHIP, self.ctx, forgotten(self.ctx), Some(at.0), || {
            let told = [first.last, second.first].into_iter().chain(also.iter().copied());
            let lines = told.map(|at| self.index.tell(self.ctx, at));
            lines.chain([format!("group {}: {what}", self.name)]).collect()
        });
    }
}
