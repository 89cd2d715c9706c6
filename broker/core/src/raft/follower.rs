//! Copying the leader: one Fetch at a time, from the end of what is on disk; append, or cut and ask again.

use super::quorum_state::ElectionState;
use super::{
    Fault, FetchOutcome, FetchRequest, FetchedRecords, Output, PeerResponse, Raft, RaftConfig, Request, Response, Role,
    SendId, Shutdown, retry_backoff,
};
use crate::planted::{Bug, planted};
use broker_types::{ErrorCode, LeaderEpoch, MonoTime, NodeId, Observation, Offset, OffsetAndEpoch, ReplicaRole};

/// Follows a leader.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Follower {
    /// The leader of this epoch.
    leader: NodeId,
    /// Without an answer by then, a voter asks for pre-votes and an observer looks for the leader.
    deadline: MonoTime,
    /// When the leader last answered a fetch in this epoch.
    heard: Option<MonoTime>,
    /// The leader said that it gave up. Its answers, if any still come, change nothing about that.
    resigned: bool,
    fetch: FetchState,
}

/// The one fetch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FetchState {
    /// To be sent at `at` (and once the log is flushed), after so many failures in a row.
    Ready { at: MonoTime, failures: u32 },
    /// Under way since then.
    Asked { id: SendId, since: MonoTime, failures: u32 },
}

impl FetchState {
    pub(super) fn wakeup(&self) -> MonoTime {
        match self {
            FetchState::Ready { at, .. } => *at,
            FetchState::Asked { .. } => MonoTime::NEVER,
        }
    }
}

impl Follower {
    /// Whether the leader answered lately and has not resigned: then it is not to be replaced.
    pub(super) fn hears_leader(&self, now: MonoTime, config: &RaftConfig) -> bool {
        !self.resigned && self.heard.is_some_and(|heard| now.since(heard) < config.fetch_timeout)
    }

    /// EndQuorumEpoch came: stand at `stand_at` rather than at the fetch timeout.
    pub(super) fn leader_resigned(&mut self, stand_at: MonoTime) {
        if !self.resigned {
            self.resigned = true;
            self.deadline = self.deadline.min(stand_at);
        }
    }
}

/// What one answer led to.
enum Fetched {
    /// Something new; ask again at once.
    Progress,
    /// Nothing new.
    Idle,
    /// Not usable; ask again after a pause.
    Failed,
    /// The role ended, or the machine did.
    Over,
}

impl Raft {
    pub(super) fn become_follower(&mut self, now: MonoTime, epoch: LeaderEpoch, leader: NodeId, out: &mut Vec<Output>) {
        let role = Role::Follower(Follower {
            leader,
            deadline: now + self.config.fetch_timeout,
            heard: None,
            resigned: false,
            fetch: FetchState::Ready { at: now, failures: 0 },
        });
        let raised = epoch > self.state.epoch();
        let voted = if raised { None } else { self.state.state().voted };
        self.elections_lost = 0;
        self.enter(ElectionState { epoch, leader: Some(leader), voted }, role, out);
        if raised {
            self.state.tell(Output::Observe(Observation::QuorumEpoch { epoch }), out);
        }
        self.state.tell(Output::Observe(Observation::QuorumFollower { epoch, leader }), out);
    }

    pub(super) fn wakeup_follower(&self, role: &Follower) -> MonoTime {
        let stands = !self.config.is_voter() || self.shutdown == Shutdown::No;
        let deadline = if stands { role.deadline } else { MonoTime::NEVER };
        if self.may_fetch() { role.fetch.wakeup().min(deadline) } else { deadline }
    }

    /// A voter's fetch offset tells the leader: up to here it is on my disk. An observer is not counted and need not
    /// wait.
    fn may_fetch(&self) -> bool {
        !self.config.is_voter() || self.log.is_flushed() || planted(Bug::K02)
    }

    pub(super) fn pursue_follower(&mut self, now: MonoTime, out: &mut Vec<Output>) {
        let Role::Follower(role) = &self.role else { return };
        let (leader, deadline, fetch) = (role.leader, role.deadline, role.fetch);
        if now >= deadline {
            if !self.config.is_voter() {
                let epoch = self.state.epoch();
                self.become_unattached(now, epoch, out);
                return;
            }
            if self.shutdown == Shutdown::No {
                self.become_prospective(now, out);
                return;
            }
        }
        let FetchState::Ready { at, failures } = fetch else { return };
        if now < at || !self.may_fetch() {
            return;
        }
        let request = self.next_fetch();
        let id = self.send(leader, Request::Fetch(request), out);
        if let Role::Follower(role) = &mut self.role {
            role.fetch = FetchState::Asked { id, since: now, failures };
        }
    }

    pub(super) fn next_fetch(&self) -> FetchRequest {
        FetchRequest {
            replica: Some(self.config.replica()),
            epoch: self.state.epoch(),
            fetch_offset: self.log.end(),
            last_fetched_epoch: self.log.last_epoch(),
            high_watermark: Some(self.high_watermark),
            max_wait: self.config.fetch_max_wait,
        }
    }

    pub(super) fn on_fetch_response(
        &mut self,
        now: MonoTime,
        from: NodeId,
        id: SendId,
        response: Option<PeerResponse>,
        out: &mut Vec<Output>,
    ) {
        let Role::Follower(role) = &self.role else { return };
        // Only the answer to the one fetch under way may touch the log: a late one speaks of a log that was since cut
        // or grew (Z08), or comes from a leader that is no longer ours (KAFKA-13207).
        let (since, failures) = match role.fetch {
            FetchState::Asked { id: asked, since, failures } if asked == id && role.leader == from => (since, failures),
            _ => return,
        };
        let fetched = match response {
            Some(Response::Fetch(response)) => {
                let current = response.current;
                if self.learn(now, current, out) {
                    return;
                }
                match response.error {
                    Some(error) => self.on_fetch_refused(error, current.epoch, current.leader, now),
                    None if current.epoch != self.state.epoch() => Fetched::Failed,
                    None => {
                        self.hear_leader(now);
                        self.on_fetched(from, response.high_watermark, response.outcome, out)
                    }
                }
            }
            _ => Fetched::Failed,
        };
        let failures = if matches!(fetched, Fetched::Failed) { failures.saturating_add(1) } else { 0 };
        let at = match fetched {
            Fetched::Over => return,
            Fetched::Progress => now,
            // The leader holds a fetch while it has nothing to say. One that does not is not asked in a tight loop.
            Fetched::Idle => now.max(since + self.config.retry_backoff),
            Fetched::Failed => now + retry_backoff(&self.config, failures, &mut self.rng),
        };
        if let Role::Follower(role) = &mut self.role {
            role.fetch = FetchState::Ready { at, failures };
        }
    }

    fn hear_leader(&mut self, now: MonoTime) {
        let timeout = self.config.fetch_timeout;
        if let Role::Follower(role) = &mut self.role
            && !role.resigned
        {
            role.heard = Some(now);
            role.deadline = now + timeout;
        }
    }

    fn on_fetch_refused(
        &mut self,
        error: ErrorCode,
        epoch: LeaderEpoch,
        leader: Option<NodeId>,
        now: MonoTime,
    ) -> Fetched {
        let gave_up = error == ErrorCode::NotLeaderOrFollower && leader.is_none() && epoch == self.state.epoch();
        let voter = self.config.is_voter();
        let pause = retry_backoff(&self.config, 3, &mut self.rng);
        if let Role::Follower(role) = &mut self.role
            && gave_up
        {
            // Its EndQuorumEpoch may be lost or late. A voter keeps its own time; an observer looks for the next
            // leader, after a pause, because the voters may still name this one.
            let stand_at = if voter { role.deadline } else { now + pause };
            role.leader_resigned(stand_at);
        }
        Fetched::Failed
    }

    fn on_fetched(
        &mut self,
        leader: NodeId,
        high_watermark: Offset,
        outcome: FetchOutcome<FetchedRecords>,
        out: &mut Vec<Output>,
    ) -> Fetched {
        let fetched = match outcome {
            FetchOutcome::Nothing => Fetched::Idle,
            FetchOutcome::Records(records) => self.append_fetched(leader, &records, out),
            // What is left after one cut may still differ from the leader's log: nothing of it is committed by this
            // answer.
            FetchOutcome::Diverging(shared) => return self.cut_divergence(leader, shared, out),
            FetchOutcome::Snapshot(snapshot) => {
                out.push(Output::NeedSnapshot { from: leader, snapshot });
                return Fetched::Failed;
            }
        };
        if let Fetched::Failed = fetched {
            return fetched;
        }
        // The leader speaks of its own log, which may be longer; and a new leader may know less than we do.
        let to = high_watermark.min(self.log.end());
        if to > self.high_watermark {
            self.advance_high_watermark(to, ReplicaRole::Follower, out);
            return Fetched::Progress;
        }
        fetched
    }

    /// Takes as many batches as follow our log without a gap, in epochs that do not fall and that this leader may have
    /// (R31).
    fn append_fetched(&mut self, leader: NodeId, records: &FetchedRecords, out: &mut Vec<Output>) -> Fetched {
        let epoch = self.state.epoch();
        let at = self.log.end();
        let mut batches = 0;
        for batch in &records.batches {
            let Some(batch_epoch) = batch.leader_epoch else { break };
            let follows = batch.base_offset == self.log.end() && batch.last_offset_delta >= 0;
            if !follows || batch_epoch < self.log.last_epoch() || batch_epoch > epoch {
                break;
            }
            self.log.append(batch_epoch, batch.offset_count());
            batches += 1;
        }
        if batches < records.batches.len() {
            tracing::warn!(node = %self.config.node, %leader, %epoch, %at, batches, refused = ?records.batches.get(batches), "fetched batch does not continue the log");
        }
        if batches == 0 {
            return Fetched::Failed;
        }
        out.push(Output::AppendFetched { records: records.id, batches, at, end: self.log.end() });
        Fetched::Progress
    }

    /// The leader's largest epoch at or below our last one ends at `shared`. Cut to the end of what both logs have of
    /// it; if we lack that epoch, to the end of our next lower one, and the next fetch asks about that (KIP-279).
    fn cut_divergence(&mut self, leader: NodeId, shared: OffsetAndEpoch, out: &mut Vec<Output>) -> Fetched {
        let ours = self.log.end_for_epoch(shared.epoch);
        let to = if ours.epoch == shared.epoch { ours.offset.min(shared.offset) } else { ours.offset };
        let to = to.max(self.log.start());
        let (epoch, from, high_watermark) = (self.state.epoch(), self.log.end(), self.high_watermark);
        if to >= from {
            tracing::warn!(node = %self.config.node, %leader, %epoch, ?shared, log_end = %from, "nothing to cut");
            return Fetched::Failed;
        }
        // planted: K04 (cut whatever the leader says; committed records go silently)
        if to < high_watermark {
            self.fail(Fault::TruncationBelowHighWatermark { leader, epoch, to, high_watermark }, out);
            return Fetched::Over;
        }
        tracing::info!(node = %self.config.node, %leader, %epoch, %from, %to, "metadata log truncated");
        self.log.truncate(to);
        out.push(Output::Truncate { to });
        Fetched::Progress
    }
}
