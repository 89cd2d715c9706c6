//! The replica as leader: appends, followers, ISR, high watermark, answers to producers.

use super::isr::{IsrState, Progress};
use super::{
    Acks, AlterPartitionResponse, AppendOrigin, FollowerFetch, InFlight, Output, PartitionMetadata, Produce,
    ProduceResult, ProposalId, Read, ReadLimit, Replica, ReplicaConfig, RequestId, Role, TopicConfig, refusal,
};
use crate::log::{LogState, SequenceCheck};
use broker_types::{
    BatchSummary, BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, MonoTime, Observation, Offset, ReplicaRole,
};
use std::collections::VecDeque;
use std::time::Duration;
use tracing::{debug, info};

/// What a leader knows in one leader epoch.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Leader {
    pub(super) epoch: LeaderEpoch,
    /// Where the epoch begins in the log. A high watermark below it may lag behind what former leaders committed.
    pub(super) epoch_start: Offset,
    pub(super) isr: IsrState,
    /// The other replicas, sorted by id.
    followers: Vec<FollowerProgress>,
    /// How many replicas there are, this one included.
    replication_factor: usize,
    /// `min.insync.replicas`, at most the replication factor and at least 1.
    min_isr: usize,
    /// acks 0 and 1, waiting for the own end; sorted by offset.
    local: VecDeque<Parked>,
    /// acks=all, waiting for the high watermark; sorted by offset.
    committed: VecDeque<Parked>,
    /// No deadline in `committed` is earlier.
    earliest_deadline: MonoTime,
    /// When followers are next looked at for lag.
    next_isr_check: MonoTime,
    /// No new ISR change before then: the controller refused the last one.
    no_proposal_before: MonoTime,
}

/// What a leader knows of one other replica, all of it from fetches in this leader epoch.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct FollowerProgress {
    id: BrokerId,
    /// It has everything before this offset; `None` until it fetches.
    log_end: Option<Offset>,
    /// Its log start, likewise.
    log_start: Option<Offset>,
    /// The incarnation that fetched last. Set together with `log_end`: decisions take both or neither.
    broker_epoch: Option<BrokerEpoch>,
    /// The last moment at which it had all that the leader had; `None` for never.
    last_caught_up: Option<MonoTime>,
    last_fetch_at: MonoTime,
    /// The leader's log end at that fetch.
    leader_end_at_last_fetch: Option<Offset>,
    /// Member of the maximal ISR.
    counts: bool,
    /// Its current broker epoch, if it is unfenced and not shutting down.
    eligible: Option<BrokerEpoch>,
}

/// Who waits for an append.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Waiter {
    pub(super) request: RequestId,
    pub(super) acks: Acks,
    pub(super) deadline: MonoTime,
}

/// A produce request whose records are in the log.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Parked {
    request: RequestId,
    base: Offset,
    last: Offset,
    deadline: MonoTime,
}

impl FollowerProgress {
    fn new(id: BrokerId) -> Self {
        FollowerProgress {
            id,
            log_end: None,
            log_start: None,
            broker_epoch: None,
            last_caught_up: None,
            last_fetch_at: MonoTime::default(),
            leader_end_at_last_fetch: None,
            counts: false,
            eligible: None,
        }
    }

    /// It fetched from `fetch.offset` while the leader's log ended at `leader_end`.
    ///
    /// It has caught up if it has all the leader has now, or all the leader had when it fetched before: a leader under
    /// load is always a little ahead.
    fn fetched(&mut self, now: MonoTime, fetch: &FollowerFetch, leader_end: Offset) {
        if fetch.offset >= leader_end {
            self.last_caught_up = Some(now);
        } else if self.leader_end_at_last_fetch.is_some_and(|end| fetch.offset >= end) {
            self.last_caught_up = self.last_caught_up.max(Some(self.last_fetch_at));
        }
        self.log_end = Some(fetch.offset);
        self.log_start = fetch.log_start;
        self.broker_epoch = fetch.broker_epoch;
        self.last_fetch_at = now;
        self.leader_end_at_last_fetch = Some(leader_end);
    }

    fn is_caught_up(&self, now: MonoTime, leader_end: Offset, lag: Duration) -> bool {
        self.log_end == Some(leader_end) || self.last_caught_up.is_some_and(|at| now.since(at) <= lag)
    }

    /// Unfenced, not shutting down, and the very incarnation that fetched (KIP-841, KIP-903). A fetch without a broker
    /// epoch is taken at its word, as Kafka does.
    fn may_join(&self) -> bool {
        self.eligible.is_some_and(|current| self.broker_epoch.is_none_or(|fetched| fetched == current))
    }
}

impl Leader {
    pub(super) fn new(now: MonoTime, config: &ReplicaConfig, metadata: &PartitionMetadata, start: Offset) -> Self {
        let mut leader = Leader {
            epoch: metadata.leader_epoch,
            epoch_start: start,
            isr: IsrState::new(&metadata.isr),
            followers: Vec::with_capacity(metadata.replicas.len()),
            replication_factor: 1,
            min_isr: 1,
            local: VecDeque::new(),
            committed: VecDeque::new(),
            earliest_deadline: MonoTime::NEVER,
            next_isr_check: now + config.replica_lag_time_max / 2,
            no_proposal_before: now,
        };
        leader.adopt_registration(now, config, metadata);
        // Members of the ISR begin with a full lag allowance, the others with none.
        for follower in &mut leader.followers {
            follower.last_caught_up = follower.counts.then_some(now);
        }
        leader
    }

    /// Takes over the requests that waited in an earlier epoch of the same leader.
    pub(super) fn inherit(&mut self, former: Leader) {
        self.local = former.local;
        self.committed = former.committed;
        self.earliest_deadline = former.earliest_deadline;
    }

    /// A registration newer than any change on its way: it decides (KAFKA-12686). Followers that stay keep their
    /// progress.
    pub(super) fn adopt_registration(&mut self, now: MonoTime, config: &ReplicaConfig, metadata: &PartitionMetadata) {
        self.isr = IsrState::new(&metadata.isr);
        self.replication_factor = metadata.replicas.len().max(1);
        let local = config.local;
        self.followers.retain(|follower| metadata.replicas.contains(&follower.id));
        for id in metadata.replicas.iter().copied().filter(|id| *id != local) {
            if let Err(at) = self.followers.binary_search_by_key(&id, |follower| follower.id) {
                self.followers.insert(at, FollowerProgress::new(id));
            }
        }
        self.recount(now);
    }

    /// The maximal ISR changed: marks who counts.
    fn recount(&mut self, now: MonoTime) {
        for follower in &mut self.followers {
            let counts = self.isr.maximal_contains(follower.id);
            // A member that the controller added without our asking gets its allowance, too.
            if counts && follower.last_caught_up.is_none() {
                follower.last_caught_up = Some(now);
            }
            follower.counts = counts;
        }
    }

    pub(super) fn set_eligible(&mut self, eligible: &[(BrokerId, BrokerEpoch)], topic: &TopicConfig) {
        for follower in &mut self.followers {
            follower.eligible = eligible.iter().find(|(id, _)| *id == follower.id).map(|(_, epoch)| *epoch);
        }
        let asked = usize::try_from(topic.min_insync_replicas).unwrap_or(usize::MAX);
        self.min_isr = asked.clamp(1, self.replication_factor);
    }

    pub(super) fn wakeup(&self) -> Option<MonoTime> {
        let mut at = self.earliest_deadline;
        // A lagging member may have to leave, or whoever waits waits for a replica that is about to join and lags.
        if self.isr.committed().len() > 1 || !self.committed.is_empty() {
            at = at.min(self.next_isr_check);
        }
        if let Some(Progress::RetryAt(retry)) = self.isr.progress() {
            at = at.min(retry);
        }
        (at != MonoTime::NEVER).then_some(at)
    }

    /// `waiter`'s records are in the log at `base..=last`: it is answered when its acks are met.
    pub(super) fn park(&mut self, base: Offset, last: Offset, waiter: Waiter) {
        let parked = Parked { request: waiter.request, base, last, deadline: waiter.deadline };
        let queue = match waiter.acks {
            Acks::None | Acks::Leader => &mut self.local,
            Acks::All => {
                self.earliest_deadline = self.earliest_deadline.min(waiter.deadline);
                &mut self.committed
            }
        };
        // In the order of offsets; only a retry of something older has to look for its place.
        let behind = queue.iter().rev().take_while(|other| other.last > last).count();
        queue.insert(queue.len() - behind, parked);
    }

    pub(super) fn answer_all(&mut self, error: ErrorCode, out: &mut Vec<Output>) {
        for parked in self.local.drain(..).chain(self.committed.drain(..)) {
            out.push(refusal(parked.request, error));
        }
        self.earliest_deadline = MonoTime::NEVER;
    }

    /// Answers acks=all requests whose time is over. Their records stay, and may be committed later.
    fn expire(&mut self, now: MonoTime, log_start: Offset, out: &mut Vec<Output>) {
        self.earliest_deadline = MonoTime::NEVER;
        let earliest = &mut self.earliest_deadline;
        self.committed.retain(|parked| {
            let keep = parked.deadline > now;
            if keep {
                *earliest = (*earliest).min(parked.deadline);
            } else {
                out.push(reply(parked, ErrorCode::RequestTimedOut, log_start));
            }
            keep
        });
    }

    /// The broker epochs to send with a proposed ISR: each from the fetch that the decision was taken on.
    fn with_epochs(&self, local: (BrokerId, BrokerEpoch)) -> Box<[(BrokerId, Option<BrokerEpoch>)]> {
        let epoch_of = |id: BrokerId| match &self.isr {
            _ if id == local.0 => Some(local.1),
            IsrState::PendingExpand { joining, joining_epoch, .. } if *joining == id => *joining_epoch,
            _ => self.follower(id).and_then(|follower| follower.broker_epoch),
        };
        self.isr.wished().into_iter().map(|id| (id, epoch_of(id))).collect()
    }

    fn follower(&self, id: BrokerId) -> Option<&FollowerProgress> {
        self.followers.iter().find(|follower| follower.id == id)
    }

    pub(super) fn check_invariants(&self, config: &ReplicaConfig, log: &LogState) {
        let partition = config.partition;
        let offsets = log.offsets();
        assert_eq!(log.epochs().latest(), Some(self.epoch), "{partition}: leads without an epoch entry");
        assert!(self.epoch_start <= offsets.next, "{partition}: epoch begins beyond the log: {self:?}");
        for follower in &self.followers {
            assert_eq!(
                follower.counts,
                self.isr.maximal_contains(follower.id),
                "{partition}: {follower:?} against {:?}",
                self.isr
            );
        }
        for queue in [&self.local, &self.committed] {
            for (a, b) in queue.iter().zip(queue.iter().skip(1)) {
                assert!(a.last <= b.last, "{partition}: parked out of order: {a:?} {b:?}");
            }
        }
        assert!(
            self.committed.iter().all(|parked| parked.last >= offsets.high_watermark),
            "{partition}: committed and not answered: {:?} {offsets:?}",
            self.committed
        );
        assert!(
            self.committed.iter().all(|parked| parked.deadline >= self.earliest_deadline),
            "{partition}: a deadline before {}",
            self.earliest_deadline
        );
    }
}

fn reply(parked: &Parked, error: ErrorCode, log_start: Offset) -> Output {
    let result = ProduceResult { error, base_offset: Some(parked.base), log_start: Some(log_start) };
    Output::Reply { request: parked.request, result }
}

impl Replica {
    // ---- produce

    pub(super) fn produce(&mut self, now: MonoTime, produce: Produce, out: &mut Vec<Output>) {
        match self.admit(&produce) {
            Err(error) => {
                debug!(partition = %self.config.partition, request = ?produce.request, %error, "produce refused");
                out.push(Output::Discard { batch: produce.batch });
                out.push(refusal(produce.request, error));
            }
            Ok(SequenceCheck::Duplicate { base, last }) => {
                out.push(Output::Discard { batch: produce.batch });
                out.push(Output::Observe(Observation::Mark { name: "duplicate-recognised" }));
                let waiter = waiter(&produce);
                if let Role::Leader(leader) = &mut self.role {
                    leader.park(base, last, waiter);
                }
                self.progress(now, out);
            }
            Ok(SequenceCheck::Append) => self.append_as_leader(produce, out),
        }
    }

    /// Whether the batch may be appended, and whether it has been before. Changes nothing.
    fn admit(&self, produce: &Produce) -> Result<SequenceCheck, ErrorCode> {
        let leader = match &self.role {
            Role::Leader(leader) if self.reloading.is_none() => leader,
            Role::Offline => return Err(ErrorCode::KafkaStorageError),
            _ => return Err(ErrorCode::NotLeaderOrFollower),
        };
        if produce.acks == Acks::All && leader.isr.committed().len() < leader.min_isr {
            return Err(ErrorCode::NotEnoughReplicas);
        }
        check_batch(&produce.summary, produce.origin, &self.topic)?;
        let in_flight = self.in_flight.iter().map(|append| (append.base, &append.summary));
        self.log.producers().check(&produce.summary, produce.origin, in_flight)
    }

    fn append_as_leader(&mut self, produce: Produce, out: &mut Vec<Output>) {
        let Role::Leader(leader) = &self.role else { return };
        let leader_epoch = leader.epoch;
        let base = self.log.offsets().next;
        self.log.reserve(base, produce.summary.offset_count());
        out.push(Output::Append { batch: produce.batch, at: base, leader_epoch });
        self.in_flight.push_back(InFlight {
            batch: produce.batch,
            base,
            summary: produce.summary,
            leader_epoch,
            role: ReplicaRole::Leader,
            waiter: Some(waiter(&produce)),
        });
    }

    /// Answers the requests whose acks are met.
    pub(super) fn answer_ready(&mut self, out: &mut Vec<Output>) {
        let own_end = self.own_end();
        let Role::Leader(leader) = &mut self.role else { return };
        let offsets = self.log.offsets();
        while let Some(parked) = leader.local.front()
            && parked.last < own_end
        {
            out.push(reply(parked, ErrorCode::None, offsets.log_start));
            leader.local.pop_front();
        }
        while let Some(parked) = leader.committed.front()
            && parked.last < offsets.high_watermark
        {
            let isr_size = leader.isr.maximal_len();
            if isr_size < leader.min_isr {
                out.push(reply(parked, ErrorCode::NotEnoughReplicasAfterAppend, offsets.log_start));
            } else {
                out.push(Output::Observe(Observation::Acknowledged {
                    partition: self.config.partition,
                    leader_epoch: leader.epoch,
                    base: parked.base,
                    last: parked.last,
                    high_watermark: offsets.high_watermark,
                    isr_size: u32::try_from(isr_size).unwrap_or(u32::MAX),
                }));
                out.push(reply(parked, ErrorCode::None, offsets.log_start));
            }
            leader.committed.pop_front();
        }
        if leader.committed.is_empty() {
            leader.earliest_deadline = MonoTime::NEVER;
        }
    }

    // ---- high watermark

    /// The high watermark is the least end among the maximal ISR and those about to join it. A caught-up replica that may
    /// join counts already: or the high watermark would keep running ahead of it and it could never join.
    pub(super) fn advance_leader_high_watermark(&mut self, now: MonoTime, out: &mut Vec<Output>) {
        let mut to = self.own_end();
        let Role::Leader(leader) = &self.role else { return };
        let offsets = self.log.offsets();
        if self.config.hw_needs_min_isr && leader.isr.committed().len() < leader.min_isr {
            return;
        }
        for follower in &leader.followers {
            if follower.log_end.is_none_or(|end| end < to)
                && (follower.counts
                    || (follower.may_join()
                        && follower.is_caught_up(now, offsets.log_end, self.config.replica_lag_time_max)))
            {
                match follower.log_end {
                    Some(end) => to = end,
                    None => return, // Not heard of in this epoch: it may have anything.
                }
            }
        }
        if to > offsets.high_watermark && self.log.set_high_watermark(to) {
            self.observe_high_watermark(ReplicaRole::Leader, out);
        }
    }

    /// The lowest log start among this leader and its reachable followers: DeleteRecords is done when it gets there.
    /// `None` if this replica does not lead, or such a follower has not been heard of in this epoch.
    #[must_use]
    pub fn low_watermark(&self) -> Option<Offset> {
        let Role::Leader(leader) = &self.role else { return None };
        let mut followers = leader.followers.iter().filter(|follower| follower.eligible.is_some());
        followers.try_fold(self.log.offsets().log_start, |least, follower| Some(least.min(follower.log_start?)))
    }

    // ---- followers

    /// A follower fetches: what it may read, and what its fetch proves. Its position counts as replicated only if the
    /// answer is records; on an error or a diverging answer nothing is noted, for what it says to have may not be what
    /// this log has (KAFKA-13141).
    ///
    /// # Errors
    /// FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH (also for a replica this leader does not know of yet),
    /// NOT_LEADER_OR_FOLLOWER (also for a fetch of a former incarnation), OFFSET_OUT_OF_RANGE, KAFKA_STORAGE_ERROR.
    pub fn follower_fetch(
        &mut self,
        now: MonoTime,
        fetch: &FollowerFetch,
        out: &mut Vec<Output>,
    ) -> Result<Read, ErrorCode> {
        let index = self.check_follower_fetch(fetch)?;
        let read = self.read(fetch.offset, fetch.last_fetched_epoch, ReadLimit::LogEnd)?;
        // planted: R10 (note the position of a diverging fetch as well)
        if matches!(read, Read::Diverging { .. }) {
            return Ok(read);
        }
        let leader_end = self.log.offsets().log_end;
        let Role::Leader(leader) = &mut self.role else { return Err(ErrorCode::NotLeaderOrFollower) };
        leader.followers[index].fetched(now, fetch, leader_end);
        self.maybe_expand_isr(now, index, out);
        self.progress(now, out);
        self.tell_moved(out);
        // Once more, to tell it the high watermark that its own fetch has moved.
        self.read(fetch.offset, fetch.last_fetched_epoch, ReadLimit::LogEnd)
    }

    /// The same fetch again, after it waited: it proves nothing new.
    ///
    /// # Errors
    /// As [`Replica::follower_fetch`].
    pub fn reread_follower_fetch(&self, fetch: &FollowerFetch) -> Result<Read, ErrorCode> {
        self.check_follower_fetch(fetch)?;
        self.read(fetch.offset, fetch.last_fetched_epoch, ReadLimit::LogEnd)
    }

    fn check_follower_fetch(&self, fetch: &FollowerFetch) -> Result<usize, ErrorCode> {
        let leader = self.leader_in(fetch.current_leader_epoch)?;
        let Some(index) = leader.followers.iter().position(|follower| follower.id == fetch.replica) else {
            // With the epoch right, the replica set here is merely behind the follower's: it tries again.
            return Err(match fetch.current_leader_epoch {
                Some(_) => ErrorCode::UnknownLeaderEpoch,
                None => ErrorCode::NotLeaderOrFollower,
            });
        };
        if let (Some(current), Some(fetched)) = (leader.followers[index].eligible, fetch.broker_epoch)
            && fetched < current
        {
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        Ok(index)
    }

    // ---- ISR

    /// A follower joins once it has everything committed. The high watermark alone does not tell: a new leader's may lag
    /// behind what its predecessors committed, but its epoch's start does not (KAFKA-7128).
    fn maybe_expand_isr(&mut self, now: MonoTime, index: usize, out: &mut Vec<Output>) {
        let high_watermark = self.log.offsets().high_watermark;
        let Role::Leader(leader) = &mut self.role else { return };
        let follower = &leader.followers[index];
        if follower.counts
            || !leader.isr.is_settled()
            || self.outstanding.is_some()
            || now < leader.no_proposal_before
            || !follower.may_join()
            || follower.log_end.is_none_or(|end| end < high_watermark || end < leader.epoch_start)
        {
            return;
        }
        let (joining, joining_epoch) = (follower.id, follower.broker_epoch);
        let isr = leader.isr.committed().to_vec();
        info!(partition = %self.config.partition, leader_epoch = %leader.epoch, ?isr, %joining, "expanding ISR");
        leader.isr = IsrState::PendingExpand { isr, joining, joining_epoch, progress: Progress::AwaitMetadata };
        leader.recount(now);
        self.propose(out);
    }

    /// Followers that have lagged for too long leave.
    fn maybe_shrink_isr(&mut self, now: MonoTime, out: &mut Vec<Output>) {
        let leader_end = self.log.offsets().log_end;
        let lag = self.config.replica_lag_time_max;
        let local = self.config.local;
        let Role::Leader(leader) = &mut self.role else { return };
        if !leader.isr.is_settled() || self.outstanding.is_some() || now < leader.no_proposal_before {
            return;
        }
        let in_sync = |id: BrokerId| {
            id == local || leader.follower(id).is_some_and(|follower| follower.is_caught_up(now, leader_end, lag))
        };
        // A member that is no replica any more lags by definition (KAFKA-9672).
        let leaving: Vec<BrokerId> = leader.isr.committed().iter().copied().filter(|id| !in_sync(*id)).collect();
        if leaving.is_empty() {
            return;
        }
        let isr = leader.isr.committed().to_vec();
        info!(partition = %self.config.partition, leader_epoch = %leader.epoch, ?isr, ?leaving, "shrinking ISR");
        leader.isr = IsrState::PendingShrink { isr, leaving, progress: Progress::AwaitMetadata };
        self.propose(out);
    }

    /// Sends the undecided change.
    fn propose(&mut self, out: &mut Vec<Output>) {
        let Role::Leader(leader) = &mut self.role else { return };
        let Some((leader_epoch, partition_epoch)) = self.known else { return };
        self.last_proposal += 1;
        let proposal = ProposalId(self.last_proposal);
        self.outstanding = Some(proposal);
        leader.isr.set_progress(Progress::Sent(proposal));
        let isr = leader.with_epochs((self.config.local, self.local_broker_epoch));
        out.push(Output::Observe(Observation::IsrProposed {
            partition: self.config.partition,
            leader_epoch,
            partition_epoch,
            isr: isr.iter().map(|(member, _)| *member).collect(),
        }));
        out.push(Output::ProposeIsr { proposal, isr, leader_epoch, partition_epoch });
    }

    pub(super) fn alter_partition_response(
        &mut self,
        now: MonoTime,
        response: AlterPartitionResponse,
        out: &mut Vec<Output>,
    ) {
        if self.outstanding == Some(response.proposal) {
            self.outstanding = None;
        }
        let backoff = self.config.alter_partition_backoff;
        let Role::Leader(leader) = &mut self.role else { return };
        leader.next_isr_check = leader.next_isr_check.min(now + backoff);
        if leader.isr.progress() != Some(Progress::Sent(response.proposal)) {
            return; // Newer metadata or a new epoch has decided meanwhile.
        }
        match response.result {
            Ok(committed) => {
                let known = self.known;
                if committed.leader_epoch != leader.epoch
                    || known.is_some_and(|(_, partition_epoch)| committed.partition_epoch < partition_epoch)
                {
                    leader.isr.set_progress(Progress::AwaitMetadata);
                    return;
                }
                // An equal partition epoch is an answer as well: the ISR was so already (KAFKA-12751).
                self.known = Some((committed.leader_epoch, committed.partition_epoch));
                leader.isr = IsrState::new(&committed.isr);
                leader.recount(now);
                self.observe_isr(committed.isr, out);
                self.progress(now, out);
            }
            // The controller says that it did not, and that no earlier one did.
            Err(error @ (ErrorCode::IneligibleReplica | ErrorCode::OperationNotAttempted)) => {
                info!(partition = %self.config.partition, leader_epoch = %leader.epoch, %error, "ISR change refused");
                leader.isr.revert();
                leader.recount(now);
                leader.no_proposal_before = now + backoff;
                let isr = leader.isr.committed().into();
                out.push(Output::Observe(Observation::Mark { name: "isr-rejected" }));
                self.observe_isr(isr, out);
                self.progress(now, out);
            }
            // The controller is ahead of us; what it knows will come. Until then the larger set counts.
            Err(
                error @ (ErrorCode::UnknownTopicOrPartition
                | ErrorCode::UnknownTopicId
                | ErrorCode::FencedLeaderEpoch
                | ErrorCode::InvalidUpdateVersion
                | ErrorCode::InvalidRequest
                | ErrorCode::NewLeaderElected),
            ) => {
                info!(partition = %self.config.partition, leader_epoch = %leader.epoch, %error, "ISR change refused");
                leader.isr.set_progress(Progress::AwaitMetadata);
                out.push(Output::Observe(Observation::Mark { name: "isr-rejected" }));
            }
            Err(error) => {
                debug!(partition = %self.config.partition, leader_epoch = %leader.epoch, %error, "ISR change unanswered");
                leader.isr.set_progress(Progress::RetryAt(now + backoff));
            }
        }
    }

    pub(super) fn wake_leader(&mut self, now: MonoTime, out: &mut Vec<Output>) {
        let log_start = self.log.offsets().log_start;
        let Role::Leader(leader) = &mut self.role else { return };
        if now >= leader.earliest_deadline {
            leader.expire(now, log_start, out);
        }
        if let Some(Progress::RetryAt(at)) = leader.isr.progress()
            && now >= at
            && self.outstanding.is_none()
        {
            self.propose(out);
        }
        let Role::Leader(leader) = &mut self.role else { return };
        if now >= leader.next_isr_check {
            leader.next_isr_check = now + self.config.replica_lag_time_max / 2;
            self.maybe_shrink_isr(now, out);
            // A replica outside the ISR may have stopped counting by lagging.
            self.progress(now, out);
        }
    }
}

/// What makes a batch unfit for any log, whoever leads.
fn check_batch(summary: &BatchSummary, origin: AppendOrigin, topic: &TopicConfig) -> Result<(), ErrorCode> {
    if summary.last_offset_delta < 0 || i64::from(summary.record_count) != summary.offset_count() {
        return Err(ErrorCode::InvalidRecord);
    }
    if origin == AppendOrigin::Client {
        if summary.is_control || (summary.is_transactional && summary.producer.is_none()) {
            return Err(ErrorCode::InvalidRecord);
        }
        if summary.size > topic.max_message_bytes {
            return Err(ErrorCode::MessageTooLarge);
        }
    }
    Ok(())
}

fn waiter(produce: &Produce) -> Waiter {
    Waiter { request: produce.request, acks: produce.acks, deadline: produce.deadline }
}
