//! Leading an epoch: appending, answering fetches, counting the followers' disks, and noticing when nobody follows.

use super::quorum_state::ElectionState;
use super::{
    BeginQuorumEpochRequest, FetchOutcome, FetchRequest, FetchResponse, LogRange, LogView, Output, PeerResponse,
    ProposedBatch, Raft, RaftConfig, ReplicaDescription, ReplicaKey, Reply, Request, RequestId, Response, Role, SendId,
    retry_backoff,
};
use crate::planted::{Bug, planted};
use broker_types::{ErrorCode, LeaderEpoch, MonoTime, NodeId, Observation, Offset, OffsetAndEpoch, ReplicaRole};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Leads.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Leader {
    /// When it was elected.
    since: MonoTime,
    /// Offset of the epoch's LeaderChange record, the first of the epoch. The high watermark has to pass it before it
    /// may move.
    epoch_start: Offset,
    /// The other voters.
    voters: BTreeMap<NodeId, VoterProgress>,
    /// Replicas that fetch and have no vote. At most `max_observers`.
    observers: BTreeMap<ReplicaKey, Progress>,
    /// Fetches that wait for records or for the high watermark, the oldest first; at most one of each replica, and at
    /// most `max_parked_fetches`.
    parked: VecDeque<ParkedFetch>,
    /// The high watermark that the parked fetches know of, at least.
    told_high_watermark: Offset,
}

/// How far a replica is.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Progress {
    /// The end of its log, from its last fetch that fitted our log. For a voter all below is on its disk. `None` before
    /// the first.
    end: Option<Offset>,
    /// When it made that fetch.
    last_fetch: Option<MonoTime>,
    /// Our log end when it asked.
    end_at_last_fetch: Offset,
    /// The last time it had everything we had.
    last_caught_up: Option<MonoTime>,
}

/// How far a voter is, and whether it knows who leads.
#[derive(Clone, PartialEq, Debug)]
struct VoterProgress {
    /// Its key as configured.
    key: ReplicaKey,
    progress: Progress,
    /// When it last asked, in this epoch, whatever it was told: then it believed in this leader.
    contact: Option<MonoTime>,
    begin: Begin,
}

/// BeginQuorumEpoch to one voter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Begin {
    /// To be sent at `at` unless it fetches before.
    Due { at: MonoTime, failures: u32 },
    /// Sent.
    Asked { id: SendId, failures: u32 },
}

#[derive(Clone, PartialEq, Debug)]
struct ParkedFetch {
    id: RequestId,
    replica: Option<ReplicaKey>,
    from: Offset,
    deadline: MonoTime,
}

impl Progress {
    /// It asked for `from`, which fits our log that ends at `log_end`.
    fn fetched(&mut self, now: MonoTime, from: Offset, log_end: Offset) {
        if from >= log_end {
            self.last_caught_up = Some(now);
        } else if self.last_fetch.is_some() && from >= self.end_at_last_fetch {
            // It has all that we had when it asked before.
            self.last_caught_up = self.last_caught_up.max(self.last_fetch);
        }
        self.end = Some(from);
        self.end_at_last_fetch = log_end;
        self.last_fetch = Some(now);
    }

    fn describe(&self, replica: ReplicaKey) -> ReplicaDescription {
        let Progress { end, last_fetch, last_caught_up, .. } = *self;
        ReplicaDescription { replica, log_end: end, last_fetch, last_caught_up }
    }
}

impl Leader {
    fn new(config: &RaftConfig, now: MonoTime, epoch_start: Offset, high_watermark: Offset) -> Self {
        let voter = |key: ReplicaKey| VoterProgress {
            key,
            progress: Progress::default(),
            contact: None,
            begin: Begin::Due { at: now, failures: 0 },
        };
        let others = config.voters.keys().filter(|key| key.id != config.node);
        Leader {
            since: now,
            epoch_start,
            voters: others.map(|key| (key.id, voter(key))).collect(),
            observers: BTreeMap::new(),
            parked: VecDeque::new(),
            told_high_watermark: high_watermark,
        }
    }

    pub(super) fn wakeup(&self, config: &RaftConfig) -> MonoTime {
        let begin = self.voters.values().filter_map(|voter| match voter.begin {
            Begin::Due { at, .. } => Some(at),
            Begin::Asked { .. } => None,
        });
        let parked = self.parked.iter().map(|parked| parked.deadline);
        begin.chain(parked).chain(self.check_quorum_deadline(config)).min().unwrap_or(MonoTime::NEVER)
    }

    /// When a majority, this node included, will not have fetched for one and a half fetch timeouts. `None` for a
    /// single voter.
    fn check_quorum_deadline(&self, config: &RaftConfig) -> Option<MonoTime> {
        let needed = config.voters.majority() - 1;
        let mut contacts: Vec<MonoTime> =
            self.voters.values().map(|voter| voter.contact.unwrap_or(self.since)).collect();
        contacts.sort_unstable_by(|a, b| b.cmp(a));
        let oldest_needed = contacts.get(needed.checked_sub(1)?)?;
        // planted: K05 (return None: a leader that nobody hears leads on)
        Some(*oldest_needed + config.fetch_timeout * 3 / 2)
    }

    /// The largest offset below which a majority has everything on disk. `None` before a majority has fetched.
    fn majority_end(&self, config: &RaftConfig, own_end: Offset) -> Option<Offset> {
        let mut ends: Vec<Offset> = self.voters.values().filter_map(|voter| voter.progress.end).collect();
        ends.push(own_end);
        ends.sort_unstable_by(|a, b| b.cmp(a));
        ends.get(config.voters.majority() - 1).copied()
    }

    /// The other voters, the longest log first; who was never heard of is last.
    pub(super) fn preferred_successors(&self) -> Vec<ReplicaKey> {
        let mut voters: Vec<(Option<Offset>, ReplicaKey)> =
            self.voters.values().map(|voter| (voter.progress.end, voter.key)).collect();
        voters.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        voters.into_iter().map(|(_, key)| key).collect()
    }

    pub(super) fn into_parked(self) -> impl Iterator<Item = RequestId> {
        self.parked.into_iter().map(|parked| parked.id)
    }

    pub(super) fn describe(
        &self,
        config: &RaftConfig,
        log_end: Offset,
    ) -> (Vec<ReplicaDescription>, Vec<ReplicaDescription>) {
        let own =
            |key| ReplicaDescription { replica: key, log_end: Some(log_end), last_fetch: None, last_caught_up: None };
        let voter = |key: ReplicaKey| self.voters.get(&key.id).map_or(own(key), |voter| voter.progress.describe(key));
        let observers = self.observers.iter().map(|(key, progress)| progress.describe(*key)).collect();
        (config.voters.keys().map(voter).collect(), observers)
    }

    pub(super) fn check_invariants(&self, config: &RaftConfig, log: &LogView, epoch: LeaderEpoch) {
        let (start, end) = (self.epoch_start, log.end());
        let first = log.epochs().last();
        assert!(
            first.is_some_and(|first| first.epoch == epoch && first.start == start),
            "leader of {epoch:?} from {start}, log {log:?}"
        );
        for (id, voter) in &self.voters {
            let reported = voter.progress.end;
            assert!(
                reported.is_none_or(|reported| reported <= end),
                "{id:?} has {reported:?}, the leader ends at {end}"
            );
        }
        assert!(self.parked.len() <= config.max_parked_fetches, "{} parked fetches", self.parked.len());
        assert!(self.observers.len() <= config.max_observers, "{} observers", self.observers.len());
        assert!(self.parked.iter().all(|parked| parked.from == end), "a parked fetch has records: {:?}", self.parked);
    }
}

impl Raft {
    /// A majority voted, and the own vote is durable. The first record of the epoch is written at once: without it
    /// nothing of former epochs could be counted as committed, were there never another one.
    pub(super) fn become_leader(&mut self, now: MonoTime, granting: Vec<NodeId>, out: &mut Vec<Output>) {
        let state = ElectionState { leader: Some(self.config.node), ..self.state.state() };
        let (epoch, at) = (state.epoch, self.log.end());
        let leader = Leader::new(&self.config, now, at, self.high_watermark);
        self.elections_lost = 0;
        self.enter(state, Role::Leader(leader), out);
        self.log.append(epoch, 1);
        let voters = self.config.voters.ids().collect();
        out.push(Output::AppendLeaderChange { at, epoch, leader: self.config.node, voters, granting });
        out.push(Output::BecameLeader { epoch, start: at });
        self.state.tell(Output::Observe(Observation::QuorumLeader { epoch, start: at }), out);
    }

    pub(super) fn propose(&mut self, epoch: LeaderEpoch, batches: &[ProposedBatch], out: &mut Vec<Output>) {
        let current = self.state.current();
        if !matches!(self.role, Role::Leader(_)) || epoch != current.epoch {
            out.extend(batches.iter().map(|batch| Output::ProposalRefused { batch: batch.id, current }));
            return;
        }
        for batch in batches {
            let at = self.log.end();
            let end = self.log.append(epoch, i64::from(batch.records));
            out.push(Output::Append { batch: batch.id, at, last: end + -1, epoch });
        }
    }

    pub(super) fn pursue_leader(&mut self, now: MonoTime, out: &mut Vec<Output>) {
        let Role::Leader(leader) = &self.role else { return };
        if leader.check_quorum_deadline(&self.config).is_some_and(|deadline| now >= deadline) {
            // A majority may have elected another leader; who still reads here reads the past (KAFKA-15489).
            self.resign(now, out);
            return;
        }
        self.count_disks(out);
        self.answer_parked(now, out);
        self.announce(now, out);
    }

    /// The high watermark is what a majority of disks has, once that includes a record of this epoch: an older record
    /// on a majority can still be replaced by a leader that has a newer epoch in its log (Raft §5.4.2).
    fn count_disks(&mut self, out: &mut Vec<Output>) {
        let Role::Leader(leader) = &self.role else { return };
        // Only what is on disk counts: a power loss takes back the rest, and with it what was called committed.
        let own_end = if planted(Bug::K02) { self.log.end() } else { self.log.flushed_end() };
        let Some(to) = leader.majority_end(&self.config, own_end) else { return };
        if to > leader.epoch_start && to > self.high_watermark {
            self.advance_high_watermark(to, ReplicaRole::Leader, out);
        }
    }

    fn answer_parked(&mut self, now: MonoTime, out: &mut Vec<Output>) {
        let (end, high_watermark) = (self.log.end(), self.high_watermark);
        let Role::Leader(leader) = &mut self.role else { return };
        let news = leader.told_high_watermark < high_watermark;
        leader.told_high_watermark = high_watermark;
        let (ready, waiting) = std::mem::take(&mut leader.parked)
            .into_iter()
            .partition(|parked| news || parked.from < end || parked.deadline <= now);
        leader.parked = waiting;
        let ready: VecDeque<ParkedFetch> = ready;
        for parked in ready {
            self.answer_fetch(parked.id, parked.from, out);
        }
    }

    fn answer_fetch(&mut self, id: RequestId, from: Offset, out: &mut Vec<Output>) {
        let to = self.log.end();
        let outcome = if from < to { FetchOutcome::Records(LogRange { from, to }) } else { FetchOutcome::Nothing };
        let response = self.fetch_response(None, outcome);
        self.reply(id, response, out);
    }

    fn fetch_response(&self, error: Option<ErrorCode>, outcome: FetchOutcome<LogRange>) -> Reply {
        Response::Fetch(FetchResponse {
            error,
            current: self.state.current(),
            high_watermark: self.high_watermark,
            log_start: self.log.start(),
            outcome,
        })
    }

    pub(super) fn fetch_error(&self, error: ErrorCode) -> Reply {
        self.fetch_response(Some(error), FetchOutcome::Nothing)
    }

    pub(super) fn on_fetch(&mut self, now: MonoTime, id: RequestId, request: &FetchRequest, out: &mut Vec<Output>) {
        let epoch = self.state.epoch();
        let refusal = if request.epoch < epoch {
            Some(ErrorCode::FencedLeaderEpoch)
        } else if request.epoch > epoch {
            Some(ErrorCode::UnknownLeaderEpoch)
        } else if !matches!(self.role, Role::Leader(_)) {
            Some(ErrorCode::NotLeaderOrFollower)
        } else {
            None
        };
        if let Some(error) = refusal {
            let response = self.fetch_error(error);
            self.reply(id, response, out);
            return;
        }
        self.note_contact(now, request);
        let from = OffsetAndEpoch { offset: request.fetch_offset, epoch: request.last_fetched_epoch };
        let outcome = self.log.read_after(from);
        if let FetchOutcome::Diverging(_) | FetchOutcome::Snapshot(_) = outcome {
            // planted: R10 (note the progress first: the offset of a foreign tail would count as replicated)
            let response = self.fetch_response(None, outcome);
            self.reply(id, response, out);
            return;
        }
        self.note_progress(now, request);
        self.count_disks(out);
        let news = request.high_watermark.is_some_and(|known| known < self.high_watermark);
        if outcome != FetchOutcome::Nothing || news || request.max_wait == Duration::ZERO {
            self.answer_fetch(id, from.offset, out);
        } else {
            self.park(now, id, request, out);
        }
    }

    /// The replica is alive and believes in this leader. What it has is another question.
    fn note_contact(&mut self, now: MonoTime, request: &FetchRequest) {
        let quiet = self.config.fetch_timeout / 2;
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(key) = request.replica.filter(|key| self.config.voters.contains(*key)) else { return };
        if let Some(voter) = leader.voters.get_mut(&key.id) {
            voter.contact = Some(now);
            if let Begin::Due { .. } = voter.begin {
                voter.begin = Begin::Due { at: now + quiet, failures: 0 };
            }
        }
    }

    fn note_progress(&mut self, now: MonoTime, request: &FetchRequest) {
        let log_end = self.log.end();
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(key) = request.replica else { return };
        if self.config.voters.contains(key) {
            if let Some(voter) = leader.voters.get_mut(&key.id) {
                voter.progress.fetched(now, request.fetch_offset, log_end);
            }
            return;
        }
        if key.id == self.config.node {
            return;
        }
        let idle = |progress: &Progress| now.since(progress.last_fetch.unwrap_or(now)) >= RaftConfig::OBSERVER_SESSION;
        leader.observers.retain(|_, progress| !idle(progress));
        if !leader.observers.contains_key(&key) && leader.observers.len() >= self.config.max_observers {
            let oldest = leader.observers.iter().min_by_key(|(_, progress)| progress.last_fetch).map(|(key, _)| *key);
            if let Some(oldest) = oldest {
                leader.observers.remove(&oldest);
            }
        }
        if self.config.max_observers > 0 {
            leader.observers.entry(key).or_default().fetched(now, request.fetch_offset, log_end);
        }
    }

    fn park(&mut self, now: MonoTime, id: RequestId, request: &FetchRequest, out: &mut Vec<Output>) {
        let deadline = now + request.max_wait.min(self.config.fetch_max_wait);
        let Role::Leader(leader) = &mut self.role else { return };
        // A replica has one fetch under way. An older one belongs to a connection that it gave up.
        let stale = request.replica.and_then(|key| leader.parked.iter().position(|parked| parked.replica == Some(key)));
        let stale = stale.and_then(|at| leader.parked.remove(at));
        let from = request.fetch_offset;
        let full = leader.parked.len() >= self.config.max_parked_fetches;
        if !full {
            leader.parked.push_back(ParkedFetch { id, replica: request.replica, from, deadline });
        }
        if let Some(stale) = stale {
            self.answer_fetch(stale.id, stale.from, out);
        }
        if full {
            self.answer_fetch(id, from, out);
        }
    }

    /// Tells the voters that do not fetch who leads.
    fn announce(&mut self, now: MonoTime, out: &mut Vec<Output>) {
        let Role::Leader(leader) = &self.role else { return };
        let due: Vec<(ReplicaKey, u32)> = leader
            .voters
            .values()
            .filter_map(|voter| match voter.begin {
                Begin::Due { at, failures } if at <= now => Some((voter.key, failures)),
                _ => None,
            })
            .collect();
        for (key, failures) in due {
            let request =
                BeginQuorumEpochRequest { leader: self.config.node, epoch: self.state.epoch(), voter: Some(key) };
            let id = self.send(key.id, Request::BeginQuorumEpoch(request), out);
            if let Role::Leader(leader) = &mut self.role
                && let Some(voter) = leader.voters.get_mut(&key.id)
            {
                voter.begin = Begin::Asked { id, failures };
            }
        }
    }

    pub(super) fn on_begin_quorum_epoch_response(
        &mut self,
        now: MonoTime,
        from: NodeId,
        id: SendId,
        response: Option<PeerResponse>,
        out: &mut Vec<Output>,
    ) {
        let quiet = self.config.fetch_timeout / 2;
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(voter) = leader.voters.get_mut(&from) else { return };
        let failures = match voter.begin {
            Begin::Asked { id: asked, failures } if asked == id => failures,
            _ => return,
        };
        let (at, failures) = match &response {
            Some(Response::BeginQuorumEpoch(response)) if response.error.is_none() => (now + quiet, 0),
            _ => (now + retry_backoff(&self.config, failures + 1, &mut self.rng), failures.saturating_add(1)),
        };
        let recent_fetch = voter.contact.map_or(at, |fetched| fetched + quiet);
        voter.begin = Begin::Due { at: at.max(recent_fetch), failures };
        if let Some(Response::BeginQuorumEpoch(response)) = response {
            self.learn(now, response.current, out);
        }
    }
}
