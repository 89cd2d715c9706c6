//! From "no leader" to "leader": waiting, pre-vote, vote, resignation; and the answers to those who ask for votes.

use super::follower::FetchState;
use super::quorum_state::ElectionState;
use super::{
    BeginQuorumEpochRequest, EndQuorumEpochRequest, EpochResponse, FetchRequest, LeaderAndEpoch, Output, PeerResponse,
    Raft, RaftConfig, ReplicaKey, Request, RequestId, Response, Role, SendId, Shutdown, VoteRequest, VoteResponse,
    below, jittered, retry_backoff,
};
use broker_types::{ErrorCode, LeaderEpoch, MonoTime, NodeId, Observation};
use rand_chacha::ChaCha8Rng;
use rand_core::Rng;
use std::collections::BTreeMap;
use std::time::Duration;

/// Knows no leader.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Unattached {
    /// When a voter asks for pre-votes. An observer never does.
    deadline: MonoTime,
    /// An observer asks random voters who leads. A voter is told by the leader, or stands.
    discovery: FetchState,
}

/// Asks for votes: pre-votes as Prospective, votes as Candidate.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Nominee {
    /// One per voter, this node included.
    ballots: BTreeMap<NodeId, Ballot>,
    /// When the election is given up. Comes forward once a majority has refused.
    deadline: MonoTime,
    /// A majority has refused.
    refused: bool,
}

/// How far a request to one voter is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ballot {
    /// To be sent at `at`, after so many failures.
    Due { at: MonoTime, failures: u32 },
    /// Sent.
    Asked { id: SendId, failures: u32 },
    /// The vote was given.
    Granted,
    /// The vote was refused.
    Refused,
    /// This node's own vote, which counts once it is durable.
    OwnUnkept,
}

/// Led, and tells the voters that it no longer does.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Resigned {
    /// When it takes part in elections again.
    deadline: MonoTime,
    /// The voters that have not yet acknowledged EndQuorumEpoch.
    untold: BTreeMap<NodeId, Ballot>,
    /// All other voters, the longest log first.
    successors: Vec<ReplicaKey>,
}

impl Unattached {
    pub(super) fn new(config: &RaftConfig, now: MonoTime, rng: &mut ChaCha8Rng) -> Self {
        Unattached {
            deadline: now + jittered(rng, config.election_timeout),
            discovery: FetchState::Ready { at: now, failures: 0 },
        }
    }
}

impl Nominee {
    fn new(config: &RaftConfig, own: Ballot, now: MonoTime, rng: &mut ChaCha8Rng) -> Self {
        let ballot = |id| if id == config.node { own } else { Ballot::Due { at: now, failures: 0 } };
        Nominee {
            ballots: config.voters.ids().map(|id| (id, ballot(id))).collect(),
            deadline: now + jittered(rng, config.election_timeout),
            refused: false,
        }
    }

    pub(super) fn wakeup(&self) -> MonoTime {
        if self.refused { self.deadline } else { next_due(&self.ballots).min(self.deadline) }
    }

    fn count(&self, of: Ballot) -> usize {
        self.ballots.values().filter(|ballot| **ballot == of).count()
    }
}

impl Resigned {
    /// A voter whose file says that it led when it went down.
    pub(super) fn restarted(config: &RaftConfig, now: MonoTime, rng: &mut ChaCha8Rng) -> Self {
        let successors = config.voters.keys().filter(|voter| voter.id != config.node).collect();
        Resigned::new(config, successors, now, rng)
    }

    fn new(config: &RaftConfig, successors: Vec<ReplicaKey>, now: MonoTime, rng: &mut ChaCha8Rng) -> Self {
        Resigned {
            deadline: now + jittered(rng, config.election_timeout),
            untold: successors.iter().map(|voter| (voter.id, Ballot::Due { at: now, failures: 0 })).collect(),
            successors,
        }
    }

    pub(super) fn wakeup(&self) -> MonoTime {
        next_due(&self.untold).min(self.deadline)
    }

    pub(super) fn everyone_knows(&self) -> bool {
        self.untold.is_empty()
    }
}

fn next_due(ballots: &BTreeMap<NodeId, Ballot>) -> MonoTime {
    let due = |ballot: &Ballot| if let Ballot::Due { at, .. } = ballot { Some(*at) } else { None };
    ballots.values().filter_map(due).min().unwrap_or(MonoTime::NEVER)
}

/// The voters whose request is due, with the failures so far.
fn due_now(ballots: &BTreeMap<NodeId, Ballot>, now: MonoTime) -> Vec<(NodeId, u32)> {
    let due = |(id, ballot): (&NodeId, &Ballot)| match ballot {
        Ballot::Due { at, failures } if *at <= now => Some((*id, *failures)),
        _ => None,
    };
    ballots.iter().filter_map(due).collect()
}

// ---- standing

impl Raft {
    pub(super) fn become_unattached(&mut self, now: MonoTime, epoch: LeaderEpoch, out: &mut Vec<Output>) {
        let role = Role::Unattached(Unattached::new(&self.config, now, &mut self.rng));
        let raised = epoch > self.state.epoch();
        let voted = if raised { None } else { self.state.state().voted };
        self.enter(ElectionState { epoch, leader: None, voted }, role, out);
        if raised {
            self.state.tell(Output::Observe(Observation::QuorumEpoch { epoch }), out);
        }
    }

    pub(super) fn become_prospective(&mut self, now: MonoTime, out: &mut Vec<Output>) {
        let nominee = Nominee::new(&self.config, Ballot::Granted, now, &mut self.rng);
        let state = self.state.state();
        tracing::info!(node = %self.config.node, epoch = %state.epoch, "asks for pre-votes");
        self.enter(state, Role::Prospective(nominee), out);
        self.state.tell(Output::Observe(Observation::QuorumProspective { epoch: state.epoch }), out);
        self.count_votes(now, out);
    }

    /// A new epoch, and the own vote in it. Nobody is asked, and the own vote does not count, before both are durable.
    pub(super) fn become_candidate(&mut self, now: MonoTime, out: &mut Vec<Output>) {
        let nominee = Nominee::new(&self.config, Ballot::OwnUnkept, now, &mut self.rng);
        let (epoch, candidate) = (self.state.epoch().next(), self.config.replica());
        let state = ElectionState { epoch, leader: None, voted: Some(candidate) };
        tracing::info!(node = %self.config.node, %epoch, "stands for election");
        self.enter(state, Role::Candidate(nominee), out);
        for fact in [
            Observation::QuorumEpoch { epoch },
            Observation::QuorumVote { epoch, candidate: candidate.id },
            Observation::QuorumCandidate { epoch },
        ] {
            self.state.tell(Output::Observe(fact), out);
        }
    }

    /// The disk has caught up: a candidate's own vote counts from now on.
    pub(super) fn count_own_vote(&mut self, now: MonoTime, out: &mut Vec<Output>) {
        if let Role::Candidate(nominee) = &mut self.role
            && self.state.is_durable()
        {
            let own = nominee.ballots.entry(self.config.node).or_insert(Ballot::OwnUnkept);
            if *own == Ballot::OwnUnkept {
                *own = Ballot::Granted;
                self.count_votes(now, out);
            }
        }
    }

    fn count_votes(&mut self, now: MonoTime, out: &mut Vec<Output>) {
        let (nominee, stands) = match &mut self.role {
            Role::Prospective(nominee) => (nominee, false),
            Role::Candidate(nominee) => (nominee, true),
            _ => return,
        };
        let majority = self.config.voters.majority();
        if nominee.count(Ballot::Granted) >= majority {
            if stands {
                let granted = |(id, ballot): (&NodeId, &Ballot)| (*ballot == Ballot::Granted).then_some(*id);
                let granting = nominee.ballots.iter().filter_map(granted).collect();
                self.become_leader(now, granting, out);
            } else {
                self.become_candidate(now, out);
            }
            return;
        }
        let out_of_reach = nominee.count(Ballot::Refused) > self.config.voters.len() - majority;
        if out_of_reach && !nominee.refused {
            nominee.refused = true;
            // Two candidates that refused each other must not meet again in step: a random pause, longer after each
            // loss.
            let pause = if stands {
                self.elections_lost += 1;
                let longest = self.config.retry_backoff.saturating_mul(1 << self.elections_lost.min(10));
                below(&mut self.rng, longest.min(self.config.election_backoff_max))
            } else {
                Duration::ZERO
            };
            nominee.deadline = nominee.deadline.min(now + pause);
        }
    }

    /// Asks the voters that are to be asked; gives up when the time is over.
    pub(super) fn pursue_election(&mut self, now: MonoTime, out: &mut Vec<Output>) {
        let (nominee, pre_vote) = match &self.role {
            Role::Prospective(nominee) => (nominee, true),
            Role::Candidate(nominee) => (nominee, false),
            _ => return,
        };
        if now >= nominee.deadline {
            match (pre_vote, self.state.current()) {
                (false, _) => self.become_prospective(now, out),
                // Nobody else misses the leader: it may be this node's link that was broken. Fetch again.
                (true, LeaderAndEpoch { leader: Some(leader), epoch }) => self.become_follower(now, epoch, leader, out),
                (true, LeaderAndEpoch { leader: None, epoch }) => self.become_unattached(now, epoch, out),
            }
            return;
        }
        if nominee.refused {
            return;
        }
        let due = due_now(&nominee.ballots, now);
        let keys: BTreeMap<NodeId, ReplicaKey> = self.config.voters.keys().map(|key| (key.id, key)).collect();
        for (to, failures) in due {
            let request = VoteRequest {
                candidate: self.config.replica(),
                epoch: self.state.epoch(),
                log_end: self.log.end_and_epoch(),
                pre_vote,
                voter: keys.get(&to).copied(),
            };
            let id = self.send(to, Request::Vote(request), out);
            if let Role::Prospective(nominee) | Role::Candidate(nominee) = &mut self.role {
                nominee.ballots.insert(to, Ballot::Asked { id, failures });
            }
        }
    }

    pub(super) fn on_vote_response(
        &mut self,
        now: MonoTime,
        from: NodeId,
        id: SendId,
        response: Option<PeerResponse>,
        out: &mut Vec<Output>,
    ) {
        let (Role::Prospective(nominee) | Role::Candidate(nominee)) = &mut self.role else { return };
        let Some(ballot) = nominee.ballots.get_mut(&from) else { return };
        let failures = match *ballot {
            Ballot::Asked { id: asked, failures } if asked == id => failures,
            _ => return,
        };
        let epoch = self.state.epoch();
        *ballot = match &response {
            Some(Response::Vote(VoteResponse { error: None, current, granted })) if current.epoch == epoch => {
                if *granted {
                    Ballot::Granted
                } else {
                    Ballot::Refused
                }
            }
            // This voter will never vote for us: it is none, or its disk is not the one that we think.
            Some(Response::Vote(VoteResponse {
                error: Some(ErrorCode::InconsistentVoterSet | ErrorCode::InvalidVoterKey),
                ..
            })) => Ballot::Refused,
            _ => Ballot::Due {
                at: now + retry_backoff(&self.config, failures + 1, &mut self.rng),
                failures: failures.saturating_add(1),
            },
        };
        if let Some(Response::Vote(VoteResponse { current, .. })) = response
            && self.learn(now, current, out)
        {
            return;
        }
        self.count_votes(now, out);
    }

    // ---- voting

    pub(super) fn on_vote(&mut self, now: MonoTime, id: RequestId, request: &VoteRequest, out: &mut Vec<Output>) {
        let error = self.vote_error(request);
        if error.is_none() && request.epoch > self.state.epoch() {
            self.become_unattached(now, request.epoch, out);
        }
        let granted = error.is_none() && self.would_vote(now, request);
        if granted && !request.pre_vote && self.state.state().voted.is_none() {
            self.vote(now, request.candidate, out);
        }
        let current = self.state.current();
        self.reply(id, Response::Vote(VoteResponse { error, current, granted }), out);
    }

    fn vote_error(&self, request: &VoteRequest) -> Option<ErrorCode> {
        let voters = &self.config.voters;
        if !self.config.is_voter() || !voters.contains(request.candidate) {
            Some(ErrorCode::InconsistentVoterSet)
        } else if request.epoch < self.state.epoch() {
            Some(ErrorCode::FencedLeaderEpoch)
        } else if request.candidate.id == self.config.node {
            Some(ErrorCode::InvalidRequest)
        } else {
            self.addressee_error(request.voter)
        }
    }

    /// A request that was meant for another disk than ours must not be answered from this one (KIP-853).
    fn addressee_error(&self, voter: Option<ReplicaKey>) -> Option<ErrorCode> {
        let ours = voter.is_none_or(|voter| {
            voter.id == self.config.node && voter.directory.is_none_or(|directory| directory == self.config.directory)
        });
        if ours { None } else { Some(ErrorCode::InvalidVoterKey) }
    }

    /// The request is in our epoch, from another voter.
    fn would_vote(&self, now: MonoTime, request: &VoteRequest) -> bool {
        // Its log must be at least as long as ours, the last epoch first: so it holds all that is committed (Raft
        // §5.4.1).
        let up_to_date = request.log_end >= self.log.end_and_epoch();
        let state = self.state.state();
        match &self.role {
            Role::Leader(_) => false,
            // Who hears the leader keeps it: else one voter with a broken link could depose it again and again
            // (KIP-996).
            // planted: K06 (pre-votes granted whatever the leader does)
            Role::Follower(follower) => request.pre_vote && up_to_date && !follower.hears_leader(now, &self.config),
            Role::Candidate(_) | Role::Resigned(_) => request.pre_vote && up_to_date,
            Role::Unattached(_) | Role::Prospective(_) if request.pre_vote => up_to_date,
            Role::Unattached(_) | Role::Prospective(_) => match state.voted {
                Some(voted) => voted == request.candidate,
                None => state.leader.is_none() && up_to_date,
            },
        }
    }

    fn vote(&mut self, now: MonoTime, candidate: ReplicaKey, out: &mut Vec<Output>) {
        let state = ElectionState { voted: Some(candidate), ..self.state.state() };
        let role = Role::Unattached(Unattached::new(&self.config, now, &mut self.rng));
        tracing::info!(node = %self.config.node, epoch = %state.epoch, candidate = %candidate.id, "votes");
        self.enter(state, role, out);
        let fact = Observation::QuorumVote { epoch: state.epoch, candidate: candidate.id };
        self.state.tell(Output::Observe(fact), out);
    }

    // ---- without a leader

    pub(super) fn wakeup_unattached(&self, role: &Unattached) -> MonoTime {
        if !self.config.is_voter() {
            return role.discovery.wakeup();
        }
        if self.shutdown == Shutdown::No { role.deadline } else { MonoTime::NEVER }
    }

    pub(super) fn pursue_unattached(&mut self, now: MonoTime, out: &mut Vec<Output>) {
        let Role::Unattached(role) = &self.role else { return };
        if self.config.is_voter() {
            if now >= role.deadline && self.shutdown == Shutdown::No {
                self.become_prospective(now, out);
            }
            return;
        }
        let FetchState::Ready { at, failures } = role.discovery else { return };
        if now < at {
            return;
        }
        let others = self.config.voters.ids().filter(|id| *id != self.config.node);
        let Some(count) = u64::try_from(others.clone().count()).ok().filter(|count| *count > 0) else { return };
        let pick = usize::try_from(self.rng.next_u64() % count).unwrap_or(0);
        let Some(to) = others.into_iter().nth(pick) else { return };
        let request = FetchRequest { max_wait: Duration::ZERO, ..self.next_fetch() };
        let id = self.send(to, Request::Fetch(request), out);
        if let Role::Unattached(role) = &mut self.role {
            role.discovery = FetchState::Asked { id, since: now, failures };
        }
    }

    /// Only who leads is of interest; the leader is then fetched from in the ordinary way.
    pub(super) fn on_discovery_response(
        &mut self,
        now: MonoTime,
        from: NodeId,
        id: SendId,
        response: Option<PeerResponse>,
        out: &mut Vec<Output>,
    ) {
        let Role::Unattached(role) = &mut self.role else { return };
        let failures = match role.discovery {
            FetchState::Asked { id: asked, failures, .. } if asked == id => failures.saturating_add(1),
            _ => return,
        };
        let at = now + retry_backoff(&self.config, failures, &mut self.rng);
        role.discovery = FetchState::Ready { at, failures };
        if let Some(Response::Fetch(response)) = response {
            tracing::debug!(node = %self.config.node, %from, ?response.current, "asked for the leader");
            self.learn(now, response.current, out);
        }
    }

    // ---- a leader begins and ends

    pub(super) fn on_begin_quorum_epoch(
        &mut self,
        now: MonoTime,
        id: RequestId,
        request: &BeginQuorumEpochRequest,
        out: &mut Vec<Output>,
    ) {
        let error = self.announcement_error(request.leader, request.epoch, request.voter);
        if error.is_none() {
            let told = LeaderAndEpoch { leader: Some(request.leader), epoch: request.epoch };
            let learnt = self.learn(now, told, out);
            if !learnt && matches!(self.role, Role::Prospective(_)) {
                // The leader that was not heard for a while speaks.
                self.become_follower(now, request.epoch, request.leader, out);
            }
        }
        let current = self.state.current();
        self.reply(id, Response::BeginQuorumEpoch(EpochResponse { error, current }), out);
    }

    pub(super) fn on_end_quorum_epoch(
        &mut self,
        now: MonoTime,
        id: RequestId,
        request: &EndQuorumEpochRequest,
        out: &mut Vec<Output>,
    ) {
        let error = self.announcement_error(request.leader, request.epoch, None);
        if error.is_none() {
            self.learn(now, LeaderAndEpoch { leader: Some(request.leader), epoch: request.epoch }, out);
            let position = request.preferred_successors.iter().position(|key| key.id == self.config.node);
            let pause = self.succession_pause(position, request.preferred_successors.len());
            if let Role::Follower(follower) = &mut self.role {
                follower.leader_resigned(now + pause);
            }
        }
        let current = self.state.current();
        self.reply(id, Response::EndQuorumEpoch(EpochResponse { error, current }), out);
    }

    /// The preferred successor stands at once; each next one waits twice as long as the one before, the last the
    /// longest.
    fn succession_pause(&self, position: Option<usize>, successors: usize) -> Duration {
        let position = position.unwrap_or(successors);
        if position == 0 {
            return Duration::ZERO;
        }
        let halvings = u32::try_from(successors.max(position) - position).unwrap_or(31).min(31);
        self.config.election_backoff_max / (1 << halvings)
    }

    fn announcement_error(&self, leader: NodeId, epoch: LeaderEpoch, voter: Option<ReplicaKey>) -> Option<ErrorCode> {
        let current = self.state.current();
        if !self.config.voters.contains_id(leader) {
            Some(ErrorCode::InconsistentVoterSet)
        } else if epoch < current.epoch {
            Some(ErrorCode::FencedLeaderEpoch)
        } else if let Some(error) = self.addressee_error(voter) {
            Some(error)
        } else {
            let led_by_another = current.leader.is_some_and(|known| known != leader);
            let led_by_us = matches!(self.role, Role::Leader(_) | Role::Resigned(_)) || leader == self.config.node;
            let contradicts = epoch == current.epoch && (led_by_another || led_by_us);
            (contradicts || leader == self.config.node).then_some(ErrorCode::InvalidRequest)
        }
    }

    // ---- giving up leadership

    /// Stops leading and says so. The epoch stays: a larger one is for those who are elected.
    pub(super) fn resign(&mut self, now: MonoTime, out: &mut Vec<Output>) {
        let Role::Leader(leader) = &self.role else { return };
        let successors = leader.preferred_successors();
        let role = Resigned::new(&self.config, successors, now, &mut self.rng);
        let state = ElectionState { leader: None, ..self.state.state() };
        tracing::info!(node = %self.config.node, epoch = %state.epoch, "resigns");
        self.enter(state, Role::Resigned(role), out);
        self.state.tell(Output::Observe(Observation::QuorumResigned { epoch: state.epoch }), out);
    }

    pub(super) fn pursue_resigned(&mut self, now: MonoTime, out: &mut Vec<Output>) {
        let Role::Resigned(role) = &self.role else { return };
        let epoch = self.state.epoch();
        if now >= role.deadline {
            self.become_unattached(now, epoch, out);
            return;
        }
        let due = due_now(&role.untold, now);
        let preferred_successors = if due.is_empty() { Vec::new() } else { role.successors.clone() };
        for (to, failures) in due {
            let request = EndQuorumEpochRequest {
                leader: self.config.node,
                epoch,
                preferred_successors: preferred_successors.clone(),
            };
            let id = self.send(to, Request::EndQuorumEpoch(request), out);
            if let Role::Resigned(role) = &mut self.role {
                role.untold.insert(to, Ballot::Asked { id, failures });
            }
        }
    }

    pub(super) fn on_end_quorum_epoch_response(
        &mut self,
        now: MonoTime,
        from: NodeId,
        id: SendId,
        response: Option<PeerResponse>,
        out: &mut Vec<Output>,
    ) {
        let Role::Resigned(role) = &mut self.role else { return };
        let failures = match role.untold.get(&from) {
            Some(Ballot::Asked { id: asked, failures }) if *asked == id => failures.saturating_add(1),
            _ => return,
        };
        match response {
            Some(Response::EndQuorumEpoch(response)) => {
                role.untold.remove(&from);
                self.learn(now, response.current, out);
            }
            _ => {
                let at = now + retry_backoff(&self.config, failures, &mut self.rng);
                role.untold.insert(from, Ballot::Due { at, failures });
            }
        }
    }
}
