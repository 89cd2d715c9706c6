//! Groups: members that join, crash and are left behind, in both protocols. Those of the even ones have generations, those of the
//! odd ones (KIP-848) epochs of their own; the first two only read, the others make one record of each that they read, and
//! commit its offset in the same transaction.

use super::{Cluster, KEYED, State, Step, partition, sent};
use crate::history::*;
use broker_types::Offset;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// The session that asks for groups' offsets.
const ASKS: u32 = 98;

/// What a group's member does: the first number chooses it. What it cannot do at the moment, it leaves.
#[derive(Clone, Copy, Debug)]
pub(in super::super) enum Does {
    /// A new one comes.
    Join,
    /// It is gone, and its transaction stays open.
    Crash(u8),
    /// It sleeps past its session timeout, and does not know.
    Pause(u8),
    /// Of one of its partitions; and transforms what it gets, if that is what the group does.
    Poll(u8, u8, usize),
    /// Its transaction is committed, if it has one. `Some`: nobody is told whether it took effect.
    Commit(u8, Option<bool>),
    Abort(u8),
    /// Transactions of those that crashed are timed out.
    Expire,
    /// Somebody asks where the group stands.
    Fetch,
}

struct Member {
    session: u32,
    generation: i32,
    /// The coordinator knows it still.
    is_current: bool,
    held: BTreeSet<i32>,
    transaction: Option<usize>,
    /// How far it came in its transaction.
    moved: BTreeMap<i32, Offset>,
}

#[derive(Default)]
pub(super) struct Group {
    number: u32,
    sessions: u32,
    generation: i32,
    members: Vec<Member>,
    committed: BTreeMap<i32, Offset>,
    orphans: Vec<usize>,
}

impl Group {
    fn protocol(&self) -> GroupProtocol {
        if self.number.is_multiple_of(2) { GroupProtocol::Classic } else { GroupProtocol::Consumer }
    }

    fn transforms(&self) -> bool {
        self.number > 1
    }

    fn inputs(&self) -> &'static [i32] {
        if self.transforms() { &[0, 1] } else { &[0, 1, KEYED] }
    }

    fn name(&self) -> String {
        format!("group-{}", self.number)
    }
}

impl Cluster {
    pub(super) fn group(&mut self, number: u32, does: Does, lasts: u64) {
        let mut group = self.groups.remove(&number).unwrap_or_else(|| Group { number, ..Group::default() });
        self.does(&mut group, does, lasts);
        self.groups.insert(number, group);
    }

    fn does(&mut self, group: &mut Group, does: Does, lasts: u64) {
        let chosen = match does {
            Does::Join | Does::Expire | Does::Fetch => None,
            Does::Crash(member)
            | Does::Pause(member)
            | Does::Poll(member, ..)
            | Does::Commit(member, _)
            | Does::Abort(member) => {
                if group.members.is_empty() {
                    return;
                }
                Some(usize::from(member) % group.members.len())
            }
        };
        match (does, chosen) {
            (Does::Join, _) if group.members.len() < 3 => {
                group.sessions += 1;
                let (session, generation) = match group.transforms() {
                    // Odd: it reads what is committed.
                    true => (10_001 + 1000 * group.number + 2 * group.sessions, 0),
                    false => (100 + 100 * group.number + group.sessions, 0),
                };
                let (held, moved) = (BTreeSet::new(), BTreeMap::new());
                group.members.push(Member { session, generation, is_current: true, held, transaction: None, moved });
                self.rebalance(group);
            }
            (Does::Crash(_), Some(at)) => self.leave(group, at),
            (Does::Pause(_), Some(at)) if group.members[at].is_current => {
                group.members[at].is_current = false;
                self.rebalance(group);
            }
            (Does::Poll(_, which, most), Some(at)) => self.member_poll(group, at, (which, most), lasts),
            (Does::Commit(_, unknown), Some(at)) => match group.transforms() {
                true => self.commit_transaction(group, at, unknown),
                false => self.commit(group, at, unknown),
            },
            (Does::Abort(_), Some(at)) => self.abort(group, at),
            (Does::Expire, _) => group.orphans.drain(..).for_each(|orphan| self.decide(orphan, State::Aborted)),
            (Does::Fetch, _) => self.fetch(group),
            _ => {}
        }
    }

    /// Transactions that are open are timed out; then some groups are asked for the last time.
    pub(super) fn close_groups(&mut self) {
        self.now += 100;
        for group in std::mem::take(&mut self.groups).into_values() {
            let open = group.members.iter().filter_map(|member| member.transaction);
            open.chain(group.orphans.iter().copied()).for_each(|open| self.decide(open, State::Aborted));
            if group.generation % 3 > 0 {
                self.fetch(&group);
            }
        }
    }

    fn member_op(&mut self, session: u32, outcome: Outcome, kind: OpKind) {
        self.now += 3;
        self.op(session, outcome, 0, kind);
    }

    fn fetch(&mut self, group: &Group) {
        let offsets = group.inputs().iter().map(|at| (partition(*at), group.committed.get(at).copied())).collect();
        let fetch = FetchOffsets { group: group.name(), require_stable: true, offsets };
        self.member_op(ASKS, Outcome::Ok, OpKind::FetchOffsets(fetch));
    }

    fn assign(&mut self, group: &mut Group, at: usize, generation: i32, held: BTreeSet<i32>) {
        let partitions = held.iter().map(|at| partition(*at)).collect();
        let assign = Assign { group: group.name(), generation, protocol: group.protocol(), instance: None, partitions };
        let member = &mut group.members[at];
        self.member_op(member.session, Outcome::Ok, OpKind::Assign(assign));
        for gained in held.difference(&member.held) {
            let from = group.committed.get(gained).map_or(0, |offset| offset.0 as usize);
            self.positions.insert((member.session, *gained), (from, true));
        }
        (member.generation, member.held) = (generation, held);
    }

    /// Those that the coordinator knows share the partitions, each in turn.
    fn rebalance(&mut self, group: &mut Group) {
        group.generation += 1;
        let members: Vec<usize> = (0..group.members.len()).filter(|at| group.members[*at].is_current).collect();
        let mut targets: BTreeMap<usize, BTreeSet<i32>> = members.iter().map(|at| (*at, BTreeSet::new())).collect();
        for (turn, input) in (group.generation as usize..).zip(group.inputs()) {
            if !members.is_empty() {
                targets.entry(members[turn % members.len()]).or_default().insert(*input);
            }
        }
        for (at, target) in &targets {
            self.abort(group, *at);
            let held = &group.members[*at].held;
            let (generation, kept) = match group.protocol() {
                GroupProtocol::Classic => (group.members[*at].generation, BTreeSet::new()),
                GroupProtocol::Consumer => (group.generation, held & target),
            };
            if *held != kept {
                self.assign(group, *at, generation, kept);
            }
        }
        for (at, target) in targets {
            self.assign(group, at, group.generation, target);
        }
    }

    fn leave(&mut self, group: &mut Group, at: usize) {
        let member = group.members.remove(at);
        group.orphans.extend(member.transaction);
        if member.is_current {
            self.rebalance(group);
        }
    }

    fn member_poll(&mut self, group: &mut Group, at: usize, (which, most): (u8, usize), lasts: u64) {
        let transforms = group.transforms();
        let member = &mut group.members[at];
        let session = member.session;
        if member.held.is_empty() {
            return;
        }
        let input = *member.held.iter().nth(usize::from(which) % member.held.len()).expect("below its length");
        if !transforms {
            return self.poll(session, input, most, lasts, false);
        }
        let transaction = *member.transaction.get_or_insert_with(|| {
            self.transactions.push(State::Open);
            self.transactions.len() - 1
        });
        if member.moved.is_empty() {
            self.member_op(session, Outcome::Ok, OpKind::Begin);
        }
        self.now += 3;
        self.poll(session, input, most, 0, false);
        let Some(OpKind::Poll(poll)) = self.history.ops.last().map(|op| op.kind.clone()) else { return };
        member.moved.insert(input, poll.next_position);
        for read in poll.records {
            let to = 2 + (read.offset.0 % 2) as i32;
            let offset = Some(self.append(to, transaction, None));
            let source = Some(Box::new((poll.partition, read.offset)));
            let send = Send { offset, source, ..sent(to, ValueId(self.values)) };
            self.member_op(session, Outcome::Ok, OpKind::Send(send));
        }
    }

    fn commit_op(&mut self, group: &Group, at: usize, offsets: &BTreeMap<i32, Offset>, unknown: Option<bool>) {
        let member = &group.members[at];
        let (outcome, error) = match (member.is_current, unknown, group.protocol()) {
            (true, None, _) => (Outcome::Ok, None),
            (true, Some(_), _) => (Outcome::Unknown, Some("REQUEST_TIMED_OUT")),
            (false, _, GroupProtocol::Classic) => (Outcome::Fail, Some("ILLEGAL_GENERATION")),
            (false, _, GroupProtocol::Consumer) => (Outcome::Fail, Some("STALE_MEMBER_EPOCH")),
        };
        let offsets = offsets.iter().map(|(at, offset)| (partition(*at), *offset)).collect();
        let (error, generation) = (error.map(str::to_owned), Some(member.generation));
        let commit = CommitOffsets { group: group.name(), offsets, error, generation };
        self.member_op(member.session, outcome, OpKind::CommitOffsets(commit));
    }

    /// It learns that it was left behind, and that it holds nothing.
    fn lost(&mut self, group: &mut Group, at: usize) {
        let generation = group.members[at].generation;
        self.assign(group, at, generation, BTreeSet::new());
        group.members.remove(at);
    }

    fn commit(&mut self, group: &mut Group, at: usize, unknown: Option<bool>) {
        let member = &group.members[at];
        let position = |input: &i32| Offset(self.positions[&(member.session, *input)].0 as i64);
        let offsets: BTreeMap<i32, Offset> = member.held.iter().map(|input| (*input, position(input))).collect();
        let is_current = member.is_current;
        if offsets.is_empty() {
            return;
        }
        self.commit_op(group, at, &offsets, unknown);
        match (is_current, unknown) {
            (true, None | Some(true)) => group.committed.extend(offsets),
            // It may not understand at once.
            (false, None) => self.lost(group, at),
            _ => {}
        }
    }

    fn commit_transaction(&mut self, group: &mut Group, at: usize, unknown: Option<bool>) {
        let member = &mut group.members[at];
        let (session, is_current) = (member.session, member.is_current);
        if member.transaction.is_none() {
            return;
        }
        let moved = member.moved.clone();
        self.commit_op(group, at, &moved, None);
        if !is_current {
            self.abort(group, at);
            return self.lost(group, at);
        }
        let Some(transaction) = group.members[at].transaction.take() else { return };
        group.members[at].moved.clear();
        let commits = unknown != Some(false);
        self.decide(transaction, if commits { State::Committed } else { State::Aborted });
        if commits {
            group.committed.extend(moved);
        }
        let (outcome, error) = match unknown {
            None => (Outcome::Ok, None),
            Some(_) => (Outcome::Unknown, Some("REQUEST_TIMED_OUT".to_owned())),
        };
        self.member_op(session, outcome, OpKind::EndTransaction(EndTransaction { commit: true, error }));
        if unknown.is_some() {
            // It can do no more.
            self.leave(group, at);
        }
    }

    /// It goes back to where the group stands.
    fn abort(&mut self, group: &mut Group, at: usize) {
        let member = &mut group.members[at];
        let Some(transaction) = member.transaction.take() else { return };
        member.moved.clear();
        for input in &member.held {
            let to = group.committed.get(input).map_or(0, |offset| offset.0 as usize);
            self.positions.insert((member.session, *input), (to, true));
        }
        let session = member.session;
        self.decide(transaction, State::Aborted);
        let end = EndTransaction { commit: false, error: None };
        self.member_op(session, Outcome::Ok, OpKind::EndTransaction(end));
    }
}

pub(super) fn steps(lasts: impl Strategy<Value = u64>) -> impl Strategy<Value = Step> {
    let member = any::<u8>();
    let does = prop_oneof![
        2 => Just(Does::Join),
        1 => member.prop_map(Does::Crash),
        1 => member.prop_map(Does::Pause),
        9 => (member, any::<u8>(), 1usize..5).prop_map(|(member, which, most)| Does::Poll(member, which, most)),
        6 => (member, prop::option::weighted(0.15, any::<bool>()))
            .prop_map(|(member, unknown)| Does::Commit(member, unknown)),
        1 => member.prop_map(Does::Abort),
        1 => Just(Does::Expire),
        1 => Just(Does::Fetch),
    ];
    (0u32..4, does, lasts).prop_map(|(group, does, lasts)| Step::Group { group, does, lasts })
}
