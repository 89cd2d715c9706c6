//! Several machines, a network that delays, drops and cuts, disks that forget what was not synced, and the invariants
//! of a quorum checked after each event. Everything comes from one seed.

use super::*;
use broker_types::{BatchSummary, Uuid};
use rand_core::SeedableRng;
use std::collections::{BTreeMap, BTreeSet};

const MS: u64 = 1_000_000;
/// Of checks.md §5: three times election timeout, fetch timeout and backoff.
const CONVERGES_WITHIN: u64 = 12_000 * MS;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Record {
    epoch: LeaderEpoch,
    value: u64,
}

/// Whether the disk keeps its word. A liar shows that the checks can fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Disk {
    Honest,
    /// Says that the log is synced, and leaves it in the page cache.
    ForgetsFlushes,
    /// Says that quorum-state is synced, and leaves it in the page cache.
    ForgetsVotes,
}

enum Event {
    Request { from: usize, to: usize, incarnation: u64, id: SendId, request: Request },
    Response { from: usize, to: usize, incarnation: u64, id: SendId, response: PeerResponse, records: Vec<Record> },
    Timeout { node: usize, incarnation: u64, to: usize, id: SendId },
    Persisted { node: usize, incarnation: u64, state: ElectionState },
    Flushed { node: usize, incarnation: u64, log: Vec<Record> },
    Propose,
    Nemesis,
    Restart { node: usize },
}

struct Node {
    raft: Option<Raft>,
    incarnation: u64,
    /// Page cache.
    log: Vec<Record>,
    disk: Vec<Record>,
    disk_state: ElectionState,
    /// The largest epoch that the disk ever had.
    disk_epoch: LeaderEpoch,
    /// Added to the world's time: nobody shares a clock.
    clock: u64,
    /// Requests without an answer so far, this incarnation's.
    open: BTreeSet<SendId>,
    votes: BTreeMap<LeaderEpoch, NodeId>,
    leads: Option<LeaderEpoch>,
}

/// A request that arrived: who asked whom, in which incarnation and under which name, when, and whether it asks for a
/// vote that binds.
struct Asked {
    from: usize,
    to: usize,
    incarnation: u64,
    id: SendId,
    at: u64,
    vote: bool,
}

#[derive(Default, Debug)]
struct Seen {
    events: u64,
    elections: u64,
    committed: u64,
    truncations: u64,
    power_losses: u64,
    resignations: u64,
    pre_votes_refused: u64,
    converged_after_ms: u64,
}

struct World {
    rng: ChaCha8Rng,
    now: u64,
    next: u64,
    queue: BTreeMap<(u64, u64), Event>,
    nodes: Vec<Node>,
    voters: usize,
    disk: Disk,
    cut: BTreeSet<(usize, usize)>,
    stormy: bool,
    /// Requests that wait for an answer.
    asked: BTreeMap<RequestId, Asked>,
    values: u64,
    /// What is committed, and the epoch of the leader that committed it.
    committed: Vec<(Record, LeaderEpoch)>,
    leaders: BTreeMap<LeaderEpoch, NodeId>,
    last_leader_high_watermark: (LeaderEpoch, Offset),
    seen: Seen,
}

type Checked<T = ()> = Result<T, String>;

macro_rules! ensure {
    ($holds:expr, $($message:tt)*) => {
        if !$holds {
            return Err(format!($($message)*));
        }
    };
}

impl World {
    fn new(seed: u64, disk: Disk) -> World {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let voters = [1, 3, 3, 3, 3, 5][(rng.next_u64() % 6) as usize];
        let observers = (rng.next_u64() % 2) as usize;
        let mut world = World {
            rng,
            now: 0,
            next: 0,
            queue: BTreeMap::new(),
            nodes: Vec::new(),
            voters,
            disk,
            cut: BTreeSet::new(),
            stormy: true,
            asked: BTreeMap::new(),
            values: 0,
            committed: Vec::new(),
            leaders: BTreeMap::new(),
            last_leader_high_watermark: (LeaderEpoch(0), Offset::ZERO),
            seen: Seen::default(),
        };
        for _ in 0..voters + observers {
            let clock = world.below(1 << 40);
            world.nodes.push(Node {
                raft: None,
                incarnation: 0,
                log: Vec::new(),
                disk: Vec::new(),
                disk_state: ElectionState::default(),
                disk_epoch: LeaderEpoch(0),
                clock,
                open: BTreeSet::new(),
                votes: BTreeMap::new(),
                leads: None,
            });
        }
        world
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.rng.next_u64() % bound.max(1)
    }

    fn at(&mut self, after: u64, event: Event) {
        self.next += 1;
        self.queue.insert((self.now + after, self.next), event);
    }

    fn node_id(node: usize) -> NodeId {
        NodeId(node as i32 + 1)
    }

    fn index(id: NodeId) -> usize {
        id.0 as usize - 1
    }

    fn boot(&mut self, node: usize) -> Checked {
        let id = Self::node_id(node);
        let voters = VoterSet::new((0..self.voters).map(|voter| (Self::node_id(voter), Some(Uuid(voter as u128 + 1)))));
        let config = RaftConfig::new(id, Uuid(node as u128 + 1), voters.expect("at least one voter"));
        let rng = ChaCha8Rng::seed_from_u64(self.rng.next_u64());
        let this = &mut self.nodes[node];
        this.incarnation += 1;
        this.open.clear();
        this.leads = None;
        let mut epochs: Vec<EpochStart> = Vec::new();
        for (offset, record) in this.log.iter().enumerate() {
            if epochs.last().is_none_or(|last| last.epoch < record.epoch) {
                epochs.push(EpochStart { epoch: record.epoch, start: Offset(offset as i64) });
            }
        }
        let shared = this.disk.iter().zip(&this.log).take_while(|(a, b)| a == b).count();
        let start = OffsetAndEpoch { offset: Offset::ZERO, epoch: LeaderEpoch(0) };
        let log = LogView::recovered(start, Offset(this.log.len() as i64), Offset(shared as i64), epochs);
        let restored = Restored { quorum_state: this.disk_state, log, high_watermark: Offset::ZERO };
        this.raft = Some(Raft::new(config, restored, rng, MonoTime(self.now + this.clock)));
        self.step(node, Input::Wakeup, &[])
    }

    /// The process is gone. After a power loss so is what was not synced: each disk keeps some of what was in its page
    /// cache.
    fn crash(&mut self, node: usize, power: bool) {
        let (keep, chance) = (self.rng.next_u64(), self.rng.next_u64());
        let this = &mut self.nodes[node];
        this.raft = None;
        this.leads = None;
        self.asked.retain(|_, asked| asked.to != node);
        if power {
            self.seen.power_losses += 1;
            let shared = this.disk.iter().zip(&this.log).take_while(|(a, b)| a == b).count();
            if shared == this.disk.len() || chance % 2 == 0 {
                let unsynced = this.log.len() as u64 - shared as u64;
                this.log.truncate(shared + (keep % (unsynced + 1)) as usize);
                // A cut that was not synced may come undone, but what was synced is not half undone.
                if this.log.len() < this.disk.len() && shared < this.disk.len() {
                    this.log = this.disk.clone();
                }
            } else {
                this.log = this.disk.clone();
            }
            this.disk = this.log.clone();
        }
    }

    fn step(&mut self, node: usize, input: Input, records: &[Record]) -> Checked {
        let this = &mut self.nodes[node];
        let now = MonoTime(self.now + this.clock);
        let Some(raft) = &mut this.raft else { return Ok(()) };
        let mut out = Vec::new();
        raft.step(now, input, &mut out);
        raft.check_invariants();
        if let Some(wakeup) = raft.wakeup() {
            ensure!(wakeup > now, "{:?} wants to be woken at {wakeup:?}, at {now:?}", Self::node_id(node));
        }
        for output in out {
            self.carry_out(node, output, records)?;
        }
        self.check_leaders(node)
    }

    fn carry_out(&mut self, node: usize, output: Output, records: &[Record]) -> Checked {
        let id = Self::node_id(node);
        let incarnation = self.nodes[node].incarnation;
        let slow = self.stormy && self.below(20) == 0;
        let latency = if slow { self.below(1500 * MS) } else { self.below(8 * MS) };
        match output {
            Output::Persist(state) => {
                let state = if self.disk == Disk::ForgetsVotes { self.nodes[node].disk_state } else { state };
                self.at(latency, Event::Persisted { node, incarnation, state });
            }
            Output::Flush { to } => {
                let log = self.nodes[node].log.clone();
                ensure!(to == Offset(log.len() as i64), "{id:?} flushes to {to}, the log ends at {}", log.len());
                self.at(latency, Event::Flushed { node, incarnation, log });
            }
            Output::AppendLeaderChange { at, epoch, .. } => self.append(node, at, epoch)?,
            Output::Append { at, last, epoch, .. } => {
                for offset in at.0..=last.0 {
                    self.append(node, Offset(offset), epoch)?;
                }
            }
            Output::AppendFetched { batches, at, end, .. } => {
                let this = &mut self.nodes[node];
                ensure!(
                    at == Offset(this.log.len() as i64),
                    "{id:?} appends at {at}, the log ends at {}",
                    this.log.len()
                );
                this.log.extend_from_slice(&records[..batches]);
                ensure!(end == Offset(this.log.len() as i64), "{id:?} ends at {end}, the log at {}", this.log.len());
            }
            Output::Truncate { to } => {
                self.seen.truncations += 1;
                self.nodes[node].log.truncate(to.0 as usize);
            }
            Output::Send { to, id, request } => {
                let to = Self::index(to);
                self.nodes[node].open.insert(id);
                self.at(2000 * MS, Event::Timeout { node, incarnation, to, id });
                if let Some(delay) = self.travel(node, to) {
                    self.at(delay, Event::Request { from: node, to, incarnation, id, request });
                }
            }
            Output::Reply { id, response } => self.reply(node, id, response)?,
            Output::HighWatermark { offset } => self.check_high_watermark(node, offset)?,
            Output::BecameLeader { epoch, start } => self.check_new_leader(node, epoch, start)?,
            Output::LostLeadership { epoch } => {
                ensure!(self.nodes[node].leads == Some(epoch), "{id:?} lost {epoch:?}, which it did not lead");
                self.nodes[node].leads = None;
            }
            Output::Fault(fault) => return Err(format!("W-K9: {id:?}: {fault}")),
            Output::Observe(Observation::QuorumResigned { .. }) => self.seen.resignations += 1,
            Output::NeedSnapshot { .. } => return Err(format!("{id:?} needs a snapshot of a log that keeps all")),
            Output::Observe(_)
            | Output::LeaderChanged { .. }
            | Output::ProposalRefused { .. }
            | Output::ShutdownReady => {}
        }
        Ok(())
    }

    fn append(&mut self, node: usize, at: Offset, epoch: LeaderEpoch) -> Checked {
        self.values += 1;
        let this = &mut self.nodes[node];
        ensure!(at == Offset(this.log.len() as i64), "append at {at}, the log ends at {}", this.log.len());
        this.log.push(Record { epoch, value: self.values });
        Ok(())
    }

    /// How long a message takes; `None` if it is lost.
    fn travel(&mut self, from: usize, to: usize) -> Option<u64> {
        let fate = self.below(100);
        if self.cut.contains(&(from, to)) || (self.stormy && fate < 2) {
            return None;
        }
        Some(if self.stormy && fate < 6 { self.below(4000 * MS) } else { MS / 5 + self.below(5 * MS) })
    }

    fn reply(&mut self, node: usize, id: RequestId, response: Reply) -> Checked {
        let answered = self.asked.remove(&id);
        let Some(Asked { from: asker, incarnation, id: send, vote, .. }) = answered else {
            return Err(format!("{:?} answers {id:?} twice", Self::node_id(node)));
        };
        let mut records = Vec::new();
        let response = match response {
            Response::Vote(response) => {
                if response.granted && vote {
                    self.check_vote(node, asker, response.current.epoch)?;
                }
                Response::Vote(response)
            }
            Response::BeginQuorumEpoch(response) => Response::BeginQuorumEpoch(response),
            Response::EndQuorumEpoch(response) => Response::EndQuorumEpoch(response),
            Response::Fetch(FetchResponse { error, current, high_watermark, log_start, outcome }) => {
                let outcome = match outcome {
                    FetchOutcome::Nothing => FetchOutcome::Nothing,
                    FetchOutcome::Diverging(shared) => FetchOutcome::Diverging(shared),
                    FetchOutcome::Snapshot(snapshot) => FetchOutcome::Snapshot(snapshot),
                    FetchOutcome::Records(LogRange { from, to }) => {
                        ensure!(from < to, "a Fetch is answered with no records: {from} to {to}");
                        let most = 1 + self.below(20) as usize;
                        let log = &self.nodes[node].log[from.0 as usize..to.0 as usize];
                        records = log.iter().take(most).copied().collect();
                        let summary = |(at, record): (usize, &Record)| summary(from + at as i64, record.epoch);
                        let batches = records.iter().enumerate().map(summary).collect();
                        FetchOutcome::Records(FetchedRecords { id: BatchId(0), batches })
                    }
                };
                Response::Fetch(FetchResponse { error, current, high_watermark, log_start, outcome })
            }
        };
        if let Some(delay) = self.travel(node, asker) {
            self.at(delay, Event::Response { from: node, to: asker, incarnation, id: send, response, records });
        }
        Ok(())
    }

    fn handle(&mut self, event: Event) -> Checked {
        self.seen.events += 1;
        let alive = |world: &World, node: usize, incarnation| {
            world.nodes[node].raft.is_some() && world.nodes[node].incarnation == incarnation
        };
        match event {
            Event::Request { from, to, incarnation, id, request } => {
                if self.nodes[to].raft.is_none() || self.cut.contains(&(from, to)) {
                    return Ok(());
                }
                self.next += 1;
                let name = RequestId(self.next);
                let vote = matches!(request, Request::Vote(VoteRequest { pre_vote: false, .. }));
                self.asked.insert(name, Asked { from, to, incarnation, id, at: self.now, vote });
                if let Request::Vote(VoteRequest { pre_vote: true, .. }) = request {
                    self.seen.pre_votes_refused += u64::from(self.nodes[to].leads.is_some());
                }
                self.step(to, Input::Request { id: name, request }, &[])
            }
            Event::Response { from, to, incarnation, id, response, records } => {
                if alive(self, to, incarnation) && !self.cut.contains(&(from, to)) && self.nodes[to].open.remove(&id) {
                    return self.step(to, Input::Response { from: Self::node_id(from), id, response }, &records);
                }
                Ok(())
            }
            Event::Timeout { node, incarnation, to, id } => {
                if alive(self, node, incarnation) && self.nodes[node].open.remove(&id) {
                    return self.step(node, Input::SendFailed { to: Self::node_id(to), id }, &[]);
                }
                Ok(())
            }
            Event::Persisted { node, incarnation, state } => {
                if !alive(self, node, incarnation) {
                    return Ok(());
                }
                let this = &mut self.nodes[node];
                ensure!(
                    state.epoch >= this.disk_epoch,
                    "W-K2: durable epoch back from {:?} to {state:?}",
                    this.disk_epoch
                );
                this.disk_epoch = state.epoch;
                this.disk_state = state;
                self.step(node, Input::Persisted, &[])
            }
            Event::Flushed { node, incarnation, log } => {
                if !alive(self, node, incarnation) {
                    return Ok(());
                }
                let to = Offset(log.len() as i64);
                if self.disk != Disk::ForgetsFlushes {
                    self.nodes[node].disk = log;
                }
                self.step(node, Input::LogFlushed { to }, &[])
            }
            Event::Propose => {
                self.propose()?;
                let pause = 20 * MS + self.below(150 * MS);
                self.at(pause, Event::Propose);
                Ok(())
            }
            Event::Restart { node } => {
                if self.nodes[node].raft.is_none() {
                    self.boot(node)
                } else {
                    Ok(())
                }
            }
            Event::Nemesis => self.nemesis(),
        }
    }

    fn propose(&mut self) -> Checked {
        for node in 0..self.nodes.len() {
            if let Some(epoch) = self.nodes[node].leads {
                let records = 1 + self.below(3) as u32;
                let batches = vec![ProposedBatch { id: BatchId(1), records }];
                self.step(node, Input::Propose { epoch, batches }, &[])?;
            }
        }
        Ok(())
    }

    fn nemesis(&mut self) -> Checked {
        if !self.stormy {
            return Ok(());
        }
        let count = self.nodes.len();
        let node = self.below(count as u64) as usize;
        match self.below(10) {
            kind @ 0..=2 => {
                self.crash(node, kind > 0);
                let down = self.below(4000 * MS);
                self.at(down, Event::Restart { node });
            }
            3 => {
                // The power of the whole rack.
                for node in 0..count {
                    self.crash(node, true);
                    let down = self.below(1500 * MS);
                    self.at(down, Event::Restart { node });
                }
            }
            4 | 5 => {
                let side = self.below(1 << count);
                let one_way = self.below(3) == 0;
                for (a, b) in (0..count).flat_map(|a| (0..count).map(move |b| (a, b))) {
                    if side >> a & 1 != side >> b & 1 && (!one_way || side >> a & 1 == 1) {
                        self.cut.insert((a, b));
                    }
                }
            }
            6 | 7 => self.cut.clear(),
            8 => {
                self.step(node, Input::Shutdown, &[])?;
                let down = self.below(1000 * MS);
                self.crash(node, false);
                self.at(down, Event::Restart { node });
            }
            _ => {
                let epoch = self.nodes[node].leads.unwrap_or_default();
                self.step(node, Input::Resign { epoch }, &[])?;
            }
        }
        let pause = self.below(2500 * MS);
        self.at(pause, Event::Nemesis);
        Ok(())
    }

    /// The next event or wakeup, whichever is first.
    fn advance(&mut self) -> Checked {
        let event = self.queue.first_key_value().map_or(u64::MAX, |((at, _), _)| *at);
        let wakeup = |(node, this): (usize, &Node)| {
            let at = this.raft.as_ref()?.wakeup()?;
            Some((at.0.saturating_sub(this.clock).max(self.now), node))
        };
        match self.nodes.iter().enumerate().filter_map(wakeup).min() {
            Some((at, node)) if at <= event => {
                self.now = at;
                self.seen.events += 1;
                self.step(node, Input::Wakeup, &[])
            }
            _ => {
                let Some(((at, _), event)) = self.queue.pop_first() else { return Err("nothing happens".to_owned()) };
                self.now = at;
                self.handle(event)
            }
        }
    }

    fn run(mut self) -> Checked<Seen> {
        for node in 0..self.nodes.len() {
            self.boot(node)?;
        }
        self.at(0, Event::Propose);
        self.at(3000 * MS, Event::Nemesis);
        let storm = 8000 * MS + self.below(10_000 * MS);
        while self.now < storm {
            self.advance()?;
        }
        // Faults end, everyone is started: now the quorum must get well.
        self.stormy = false;
        self.cut.clear();
        for node in 0..self.nodes.len() {
            if self.nodes[node].raft.is_none() {
                self.boot(node)?;
            }
        }
        let healed = self.now;
        let mut goal = None;
        loop {
            self.advance()?;
            // The first agreement may be with a leader that a cut has already cost its followers: then the next one
            // counts.
            match (self.agreed(), goal) {
                (Some((leader, _)), Some((known, end))) if leader == known => {
                    if self.nodes.iter().all(|node| node.raft.as_ref().is_some_and(|raft| raft.high_watermark() >= end))
                    {
                        break;
                    }
                }
                (agreed, _) => goal = agreed,
            }
            ensure!(self.now < healed + CONVERGES_WITHIN, "no agreement after healing: {}", self.describe());
        }
        // A fetch is held for half a second, and a reply waits for at most two slow writes.
        let overdue = self.asked.values().find(|asked| self.now > asked.at + 4000 * MS);
        ensure!(
            overdue.is_none(),
            "{:?} owes an answer since {}",
            overdue.map(|asked| Self::node_id(asked.to)),
            overdue.map_or(0, |asked| asked.at)
        );
        self.seen.converged_after_ms = (self.now - healed) / MS;
        self.seen.committed = self.committed.len() as u64;
        self.seen.elections = self.leaders.len() as u64;
        Ok(self.seen)
    }

    /// If all follow one leader: who, and where its log ends.
    fn agreed(&self) -> Option<(LeaderAndEpoch, Offset)> {
        let first = self.nodes[0].raft.as_ref()?.current();
        let leader = self.nodes[Self::index(first.leader?)].raft.as_ref()?;
        let agrees = |node: &Node| node.raft.as_ref().is_some_and(|raft| raft.current() == first);
        self.nodes.iter().all(agrees).then(|| (first, leader.log().end()))
    }

    fn describe(&self) -> String {
        let describe = |node: &Node| match &node.raft {
            Some(raft) => format!(
                "{:?} {:?} {:?} hw {}",
                raft.role(),
                raft.current(),
                raft.log().end_and_epoch(),
                raft.high_watermark()
            ),
            None => "down".to_owned(),
        };
        self.nodes.iter().map(describe).collect::<Vec<_>>().join("; ")
    }

    // ---- invariants

    /// W-K1: all that know a leader of an epoch know the same one.
    fn check_leaders(&mut self, node: usize) -> Checked {
        let Some(raft) = &self.nodes[node].raft else { return Ok(()) };
        if let LeaderAndEpoch { leader: Some(leader), epoch } = raft.current() {
            let known = *self.leaders.entry(epoch).or_insert(leader);
            ensure!(known == leader, "W-K1: {epoch:?} is led by {known:?} and by {leader:?}");
        }
        Ok(())
    }

    /// W-K3: one vote in one epoch, on disk before it is told.
    fn check_vote(&mut self, node: usize, candidate: usize, epoch: LeaderEpoch) -> Checked {
        let (voter, candidate) = (Self::node_id(node), Self::node_id(candidate));
        let this = &mut self.nodes[node];
        let ElectionState { epoch: disk_epoch, voted, .. } = this.disk_state;
        // A later epoch on disk keeps the promise as well: this voter never votes in the earlier one again.
        let kept = disk_epoch > epoch || (disk_epoch == epoch && voted.is_some_and(|voted| voted.id == candidate));
        ensure!(
            kept || self.disk == Disk::ForgetsVotes,
            "W-K3: {voter:?} votes for {candidate:?} in {epoch:?}, its disk: {:?}",
            this.disk_state
        );
        let first = *this.votes.entry(epoch).or_insert(candidate);
        ensure!(first == candidate, "W-K3: {voter:?} voted for {first:?} and {candidate:?} in {epoch:?}");
        Ok(())
    }

    /// W-K5: who is elected has everything that was committed in earlier epochs.
    fn check_new_leader(&mut self, node: usize, epoch: LeaderEpoch, start: Offset) -> Checked {
        let id = Self::node_id(node);
        ensure!(
            self.nodes[node].disk_state.epoch == epoch || self.disk == Disk::ForgetsVotes,
            "K01: {id:?} leads {epoch:?}, the disk does not know"
        );
        let known = self.leaders.insert(epoch, id);
        ensure!(known.is_none(), "W-K1: {epoch:?} was won by {id:?} and by {known:?}");
        self.nodes[node].leads = Some(epoch);
        let log = &self.nodes[node].log;
        for (offset, (record, committed_in)) in self.committed.iter().enumerate() {
            if *committed_in < epoch {
                let has = offset < start.0 as usize && log.get(offset) == Some(record);
                ensure!(
                    has,
                    "W-K5: {id:?} leads {epoch:?} from {start} without {record:?}, committed at {offset} in {committed_in:?}"
                );
            }
        }
        Ok(())
    }

    /// W-K4, W-K6: committed logs agree. W-K7: a majority has what a leader commits, on disk. W-K8: a leader's high
    /// watermark passes its epoch's start, and the newest leader's never falls.
    fn check_high_watermark(&mut self, node: usize, to: Offset) -> Checked {
        let id = Self::node_id(node);
        let end = to.0 as usize;
        let leads = self.nodes[node].leads;
        ensure!(end <= self.nodes[node].log.len(), "{id:?}: high watermark {to} above the log end");
        for offset in 0..end {
            let record = self.nodes[node].log[offset];
            match self.committed.get(offset) {
                Some((committed, _)) => {
                    ensure!(
                        *committed == record,
                        "W-K4: {id:?} has {record:?} at {offset}, committed was {committed:?}"
                    );
                }
                None => {
                    let Some(epoch) = leads else {
                        return Err(format!("W-K4: follower {id:?} commits {offset} before any leader"));
                    };
                    self.committed.push((record, epoch));
                }
            }
        }
        let Some(epoch) = leads else { return Ok(()) };
        let last = self.nodes[node].log[end - 1];
        ensure!(last.epoch == epoch, "W-K8: {id:?} commits up to {last:?} as leader of {epoch:?}");
        if epoch >= self.last_leader_high_watermark.0 {
            let before = self.last_leader_high_watermark.1;
            ensure!(to >= before, "W-K8: high watermark of the newest leader {id:?} back from {before} to {to}");
            self.last_leader_high_watermark = (epoch, to);
        }
        let on_disk = |voter: &&Node| voter.disk.get(end - 1) == Some(&last);
        let count = self.nodes[..self.voters].iter().filter(on_disk).count();
        let lies = self.disk == Disk::ForgetsFlushes;
        ensure!(
            count > self.voters / 2 || lies,
            "W-K7: {id:?} commits {to} in {epoch:?} with {count} disks of {}",
            self.voters
        );
        Ok(())
    }
}

fn summary(base: Offset, epoch: LeaderEpoch) -> BatchSummary {
    BatchSummary {
        base_offset: base,
        last_offset_delta: 0,
        leader_epoch: Some(epoch),
        record_count: 1,
        size: 70,
        crc: 0,
        base_timestamp: 0,
        max_timestamp: 0,
        producer: None,
        is_transactional: false,
        is_control: false,
    }
}

#[expect(clippy::disallowed_methods, reason = "whoever runs the test may ask for more seeds")]
fn seeds(default: u64) -> std::ops::Range<u64> {
    let number = |name: &str, default| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let first = number("RAFT_SEED", 0);
    first..first + number("RAFT_SEEDS", default)
}

#[test]
fn the_quorum_keeps_its_promises_under_crashes_cuts_and_power_losses_and_gets_well_after() {
    let (mut all, mut slowest) = (Seen::default(), (0, 0));
    for seed in seeds(4000) {
        let seen = match World::new(seed, Disk::Honest).run() {
            Ok(seen) => seen,
            Err(violation) => panic!("RAFT_SEED={seed} RAFT_SEEDS=1: {violation}"),
        };
        all.events += seen.events;
        all.elections += seen.elections;
        all.committed += seen.committed;
        all.truncations += seen.truncations;
        all.power_losses += seen.power_losses;
        all.resignations += seen.resignations;
        all.pre_votes_refused += seen.pre_votes_refused;
        slowest = slowest.max((seen.converged_after_ms, seed));
    }
    all.converged_after_ms = slowest.0;
    eprintln!("{all:?}, slowest to converge: seed {}", slowest.1);
    if seeds(4000).count() >= 100 {
        assert!(all.elections > 100 && all.committed > 1000 && all.truncations > 20, "nothing much happened: {all:?}");
        assert!(all.power_losses > 100 && all.resignations > 20 && all.pre_votes_refused > 0, "too calm: {all:?}");
    }
}

/// The first seed that shows what this disk does. A panic of a machine's own assertion shows it too.
fn found(disk: Disk) -> Option<(u64, String)> {
    (0..1000).find_map(|seed| World::new(seed, disk).run().err().map(|violation| (seed, violation)))
}

#[test]
fn a_disk_that_forgets_flushed_records_is_found_out() {
    let (seed, violation) = found(Disk::ForgetsFlushes).expect("the checks see nothing");
    eprintln!("seed {seed}: {violation}");
}

#[test]
fn a_disk_that_forgets_votes_is_found_out() {
    let (seed, violation) = found(Disk::ForgetsVotes).expect("the checks see nothing");
    eprintln!("seed {seed}: {violation}");
}

#[test]
fn one_seed_is_one_history() {
    let run = |seed| format!("{:?}", World::new(seed, Disk::Honest).run());
    for seed in 0..5 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}
