//! A group as its clients tell of it: who was assigned what, who committed what, and where it stands in the end.

use crate::context::{Context, ExcuseKind};
use crate::exactly_once::transactions::{Fate, Transaction};
use crate::history::{Acks, Assign, CommitOffsets, FetchOffsets, OpKind, Outcome, SessionId, SimTime};
use crate::index::{Index, excuse};
use broker_types::{Offset, TopicIdPartition};
use std::collections::BTreeSet;

/// What a history has of one group. Lists are places in the history, in its order.
#[derive(Default)]
pub(crate) struct GroupView {
    pub(crate) assigns: Vec<u32>,
    pub(crate) commits: Vec<u32>,
    pub(crate) fetches: Vec<u32>,
    /// Whoever was assigned something for it, or committed for it.
    pub(crate) sessions: BTreeSet<SessionId>,
}

/// Where a group stands in a partition at the end.
#[derive(Clone, Copy)]
pub(crate) struct Standing {
    /// The next offset to read.
    pub(crate) offset: Offset,
    /// Who says so: a fetch of offsets, else a commit.
    pub(crate) by: u32,
    /// It was told after everything, with no transaction of the group left open.
    pub(crate) is_certain: bool,
}

/// When an offset may have come to count, and when it did for sure.
#[derive(Clone, Copy)]
pub(crate) struct Effect {
    pub(crate) from: SimTime,
    /// `None`: nobody was told so.
    pub(crate) done: Option<SimTime>,
}

impl GroupView {
    pub(crate) fn assigned(&mut self, at: u32, session: SessionId) {
        self.assigns.push(at);
        self.sessions.insert(session);
    }

    pub(crate) fn committed(&mut self, at: u32, session: SessionId) {
        self.commits.push(at);
        self.sessions.insert(session);
    }

    /// Everything that was assigned or committed.
    pub(crate) fn partitions(&self, index: &Index<'_>) -> BTreeSet<TopicIdPartition> {
        let assigned = self.assigns.iter().flat_map(|at| index.assign(*at).partitions.iter().copied());
        let committed = self.commits.iter().flat_map(|at| index.commit(*at).offsets.iter().map(|(at, _)| *at));
        assigned.chain(committed).collect()
    }

    /// The commits that cover `partition` and may have counted, with their offsets.
    pub(crate) fn commits_of<'a>(
        &'a self,
        index: &'a Index<'_>,
        partition: TopicIdPartition,
    ) -> impl Iterator<Item = (u32, Offset, Effect)> + 'a {
        let offset = move |at: u32| {
            let mut offsets = index.commit(at).offsets.iter().rev();
            offsets.find(|(of, _)| *of == partition).map(|(_, offset)| *offset)
        };
        self.commits.iter().filter_map(move |at| Some((*at, offset(*at)?, index.effect(*at)?)))
    }

    /// What was told last, after all commits had returned; else the highest offset whose commit was acknowledged.
    pub(crate) fn standing(&self, index: &Index<'_>, partition: TopicIdPartition) -> Option<Standing> {
        let end = |at: u32| match index.transactions.of(at) {
            Some(transaction) => transaction.end.and_then(|end| index.op(end).returned),
            None => index.op(at).returned,
        };
        let settled = self.commits_of(index, partition).map(|(at, ..)| end(at).unwrap_or(SimTime(u64::MAX))).max();
        let fetches = self.fetches.iter().filter_map(|at| {
            let fetch = index.fetch(*at);
            let (_, offset) = fetch.offsets.iter().find(|(of, _)| *of == partition)?;
            let op = index.op(*at);
            let is_last = op.outcome == Outcome::Ok && settled.is_none_or(|settled| settled < op.invoked);
            is_last.then_some((op.invoked, *at, offset.unwrap_or(Offset::ZERO), fetch.require_stable))
        });
        if let Some((_, by, offset, is_certain)) = fetches.max() {
            return Some(Standing { offset, by, is_certain });
        }
        let done = self.commits_of(index, partition).filter(|(.., effect)| effect.done.is_some());
        let highest = done.max_by_key(|(_, offset, _)| *offset);
        highest.map(|(by, offset, _)| Standing { offset, by, is_certain: false })
    }
}

impl<'a> Index<'a> {
    pub(crate) fn assign(&self, at: u32) -> &'a Assign {
        match &self.ops[at as usize].kind {
            OpKind::Assign(assign) => assign,
            _ => unreachable!("operation {at} is listed as an assignment"),
        }
    }

    pub(crate) fn commit(&self, at: u32) -> &CommitOffsets {
        match &self.ops[at as usize].kind {
            OpKind::CommitOffsets(commit) => commit,
            _ => unreachable!("operation {at} is listed as a commit of offsets"),
        }
    }

    pub(crate) fn fetch(&self, at: u32) -> &FetchOffsets {
        match &self.ops[at as usize].kind {
            OpKind::FetchOffsets(fetch) => fetch,
            _ => unreachable!("operation {at} is listed as a fetch of offsets"),
        }
    }

    /// When a commit came to count: at once, or with its transaction. `None`: never.
    fn effect(&self, at: u32) -> Option<Effect> {
        let op = self.op(at);
        let is_ok = op.outcome == Outcome::Ok;
        match self.transactions.of(at) {
            _ if op.outcome == Outcome::Fail => None,
            None => Some(Effect { from: op.invoked, done: op.returned.filter(|_| is_ok) }),
            Some(Transaction { fate: Fate::Aborted, .. }) => None,
            Some(Transaction { fate, end, .. }) => {
                let end = self.op((*end)?);
                let is_done = is_ok && *fate == Fate::Committed;
                Some(Effect { from: end.invoked, done: end.returned.filter(|_| is_done) })
            }
        }
    }
}

/// Why a coordinator may have forgotten what it answered for. Its records are in a partition of which clients know nothing.
pub(crate) fn forgotten(ctx: &Context) -> Option<&'static str> {
    let Some(all) = &ctx.excuses else {
        let nowhere = TopicIdPartition::METADATA;
        return excuse(ctx, nowhere, Acks::All, SimTime(0));
    };
    let mut kinds = all.values().flatten().map(|excuse| excuse.kind);
    kinds.find_map(|kind| match kind {
        ExcuseKind::LossBeyondBudget => Some("loss-beyond-budget"),
        ExcuseKind::UncleanElection => Some("unclean-election"),
        _ => None,
    })
}
