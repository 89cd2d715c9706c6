//! One machine at a time: each rule of the quorum as a sentence.

mod replication;

use super::*;
use broker_types::{BatchSummary, Uuid};
use rand_core::SeedableRng;

// ---- speaking briefly

fn n(id: i32) -> NodeId {
    NodeId(id)
}

fn e(epoch: i32) -> LeaderEpoch {
    LeaderEpoch(epoch)
}

fn at(offset: i64) -> Offset {
    Offset(offset)
}

fn end(offset: i64, epoch: i32) -> OffsetAndEpoch {
    OffsetAndEpoch { offset: at(offset), epoch: e(epoch) }
}

/// Node `id` on its own disk.
fn key(id: i32) -> ReplicaKey {
    ReplicaKey { id: n(id), directory: Some(Uuid(id as u128)) }
}

fn told(leader: Option<i32>, epoch: i32) -> LeaderAndEpoch {
    LeaderAndEpoch { leader: leader.map(NodeId), epoch: e(epoch) }
}

fn file(epoch: i32, leader: Option<i32>, voted: Option<i32>) -> ElectionState {
    ElectionState { epoch: e(epoch), leader: leader.map(NodeId), voted: voted.map(key) }
}

/// Reads "e1:0..10 e2:10..15".
fn log(text: &str) -> LogView {
    let mut epochs = Vec::new();
    let mut log_end = Offset::ZERO;
    for part in text.split_whitespace() {
        let (epoch, range) = part.split_once(':').expect("epoch:range");
        let (from, to) = range.split_once("..").expect("from..to");
        let number = |text: &str| text.parse::<i64>().expect("a number");
        epochs.push(EpochStart { epoch: e(number(&epoch[1..]) as i32), start: at(number(from)) });
        log_end = at(number(to));
    }
    LogView::recovered(end(0, 0), log_end, log_end, epochs)
}

/// A machine, its time, and a disk that answers when told to.
struct Replica {
    raft: Raft,
    ms: u64,
    requests: u64,
}

impl Replica {
    /// Node `id` among voters 1 to `voters`, with what its disk has.
    fn of(voters: i32, id: i32, state: ElectionState, log: LogView) -> (Replica, Vec<Output>) {
        let set = VoterSet::new((1..=voters).map(|id| (n(id), Some(Uuid(id as u128))))).expect("voters");
        let config = RaftConfig::new(n(id), Uuid(id as u128), set);
        let restored = Restored { quorum_state: state, log, high_watermark: Offset::ZERO };
        let raft = Raft::new(config, restored, ChaCha8Rng::seed_from_u64(id as u64), MonoTime(0));
        let mut replica = Replica { raft, ms: 0, requests: 0 };
        let out = replica.step(Input::Wakeup);
        (replica, out)
    }

    fn new(voters: i32, id: i32, state: ElectionState, log_text: &str) -> Replica {
        let (mut replica, out) = Replica::of(voters, id, state, log(log_text));
        if out.iter().any(|output| matches!(output, Output::Persist(_))) {
            replica.step(Input::Persisted);
        }
        replica
    }

    /// Leader of epoch 1 among three: LeaderChange at 0, nothing flushed, nothing fetched.
    fn leader() -> Replica {
        let mut replica = Replica::new(3, 1, ElectionState::default(), "");
        replica.stand();
        replica.persisted();
        let ballots = replica.asked(2);
        replica.respond(2, ballots, vote(true, None, 1));
        assert_eq!(replica.raft.role(), RaftRole::Leader);
        replica.persisted();
        replica
    }

    /// Node 1 of three, following node 2 in `epoch`. Its first fetch is under way.
    fn follower(epoch: i32, log_text: &str) -> Replica {
        let mut replica = Replica::new(3, 1, file(epoch, None, None), log_text);
        replica.ask(begin(2, epoch));
        replica.persisted();
        assert_eq!(replica.raft.current(), told(Some(2), epoch));
        replica
    }

    fn step(&mut self, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        self.raft.step(MonoTime::from_millis(self.ms), input, &mut out);
        self.raft.check_invariants();
        out
    }

    fn wait(&mut self, ms: u64) -> Vec<Output> {
        self.ms += ms;
        self.step(Input::Wakeup)
    }

    /// Time passes, in wakeups, until the machine asks for something else than patience or `limit_ms` is over.
    fn wait_until(&mut self, limit_ms: u64, wanted: impl Fn(&Raft) -> bool) -> Vec<Output> {
        let (mut all, limit) = (Vec::new(), self.ms + limit_ms);
        while !wanted(&self.raft) && self.ms < limit {
            all.extend(self.wait(10));
        }
        assert!(wanted(&self.raft), "still {:?} after {limit_ms} ms", self.raft.describe());
        all
    }

    fn ask(&mut self, request: Request) -> Vec<Output> {
        self.requests += 1;
        self.step(Input::Request { id: RequestId(self.requests), request })
    }

    fn respond(&mut self, from: i32, id: SendId, response: PeerResponse) -> Vec<Output> {
        self.step(Input::Response { from: n(from), id, response })
    }

    fn persisted(&mut self) -> Vec<Output> {
        self.step(Input::Persisted)
    }

    fn flushed(&mut self) -> Vec<Output> {
        let to = self.raft.log().end();
        self.step(Input::LogFlushed { to })
    }

    fn propose(&mut self, epoch: i32, records: u32) -> Vec<Output> {
        self.step(Input::Propose { epoch: e(epoch), batches: vec![ProposedBatch { id: BatchId(7), records }] })
    }

    /// Time passes until it asks for pre-votes; one other voter gives it. It is then a candidate whose vote is not
    /// durable.
    fn stand(&mut self) -> Vec<Output> {
        self.wait_until(5000, |raft| raft.role() == RaftRole::Prospective);
        let epoch = self.raft.current().epoch.0;
        let id = self.asked(2);
        let out = self.respond(2, id, vote(true, None, epoch));
        assert_eq!(self.raft.role(), RaftRole::Candidate);
        out
    }

    /// The name of the last request: ids are given in order, to voters in order.
    fn asked(&self, to: i32) -> SendId {
        let others = self.raft.config().voters.ids().filter(|id| *id != self.raft.config().node);
        let place = others.clone().position(|id| id == n(to)).expect("another voter") as u64;
        SendId(self.raft.next_send - others.count() as u64 + place)
    }

    fn fetch_id(&self) -> SendId {
        SendId(self.raft.next_send - 1)
    }
}

fn vote(granted: bool, leader: Option<i32>, epoch: i32) -> PeerResponse {
    Response::Vote(VoteResponse { error: None, current: told(leader, epoch), granted })
}

fn ask_vote(candidate: i32, epoch: i32, log_end: OffsetAndEpoch, pre_vote: bool) -> Request {
    Request::Vote(VoteRequest { candidate: key(candidate), epoch: e(epoch), log_end, pre_vote, voter: None })
}

fn begin(leader: i32, epoch: i32) -> Request {
    Request::BeginQuorumEpoch(BeginQuorumEpochRequest { leader: n(leader), epoch: e(epoch), voter: None })
}

fn resigned(leader: i32, epoch: i32, successors: &[i32]) -> Request {
    Request::EndQuorumEpoch(EndQuorumEpochRequest {
        leader: n(leader),
        epoch: e(epoch),
        preferred_successors: successors.iter().map(|id| key(*id)).collect(),
    })
}

fn fetch(replica: i32, epoch: i32, from: OffsetAndEpoch) -> Request {
    Request::Fetch(FetchRequest {
        replica: Some(key(replica)),
        epoch: e(epoch),
        fetch_offset: from.offset,
        last_fetched_epoch: from.epoch,
        high_watermark: None,
        max_wait: Duration::from_millis(500),
    })
}

fn fetched(epoch: i32, high_watermark: i64, outcome: FetchOutcome<FetchedRecords>) -> PeerResponse {
    Response::Fetch(FetchResponse {
        error: None,
        current: told(Some(2), epoch),
        high_watermark: at(high_watermark),
        log_start: Offset::ZERO,
        outcome,
    })
}

fn refused(error: ErrorCode, current: LeaderAndEpoch) -> PeerResponse {
    let outcome = FetchOutcome::Nothing;
    let log_start = Offset::ZERO;
    Response::Fetch(FetchResponse { error: Some(error), current, high_watermark: Offset::ZERO, log_start, outcome })
}

/// Batches as (base, last, epoch).
fn records(batches: &[(i64, i64, i32)]) -> FetchOutcome<FetchedRecords> {
    let batch = |(base, last, epoch): &(i64, i64, i32)| BatchSummary {
        base_offset: at(*base),
        last_offset_delta: (last - base) as i32,
        leader_epoch: Some(e(*epoch)),
        record_count: (last - base + 1) as u32,
        size: 100,
        crc: 0,
        base_timestamp: 0,
        max_timestamp: 0,
        producer: None,
        is_transactional: false,
        is_control: false,
    };
    FetchOutcome::Records(FetchedRecords { id: BatchId(9), batches: batches.iter().map(batch).collect() })
}

fn vote_replies(out: &[Output]) -> Vec<VoteResponse> {
    let reply = |output: &Output| match output {
        Output::Reply { response: Response::Vote(vote), .. } => Some(*vote),
        _ => None,
    };
    out.iter().filter_map(reply).collect()
}

fn fetch_replies(out: &[Output]) -> Vec<(u64, FetchResponse<LogRange>)> {
    let reply = |output: &Output| match output {
        Output::Reply { id, response: Response::Fetch(response) } => Some((id.0, response.clone())),
        _ => None,
    };
    out.iter().filter_map(reply).collect()
}

fn sent(out: &[Output]) -> Vec<(NodeId, Request)> {
    let send = |output: &Output| match output {
        Output::Send { to, request, .. } => Some((*to, request.clone())),
        _ => None,
    };
    out.iter().filter_map(send).collect()
}

fn fetches(out: &[Output]) -> Vec<(NodeId, Offset)> {
    let fetch = |(to, request): (NodeId, Request)| match request {
        Request::Fetch(fetch) => Some((to, fetch.fetch_offset)),
        _ => None,
    };
    sent(out).into_iter().filter_map(fetch).collect()
}

fn high_watermarks(out: &[Output]) -> Vec<i64> {
    let high_watermark = |output: &Output| match output {
        Output::HighWatermark { offset } => Some(offset.0),
        _ => None,
    };
    out.iter().filter_map(high_watermark).collect()
}

// ---- elections

#[test]
fn a_single_voter_leads_once_its_own_vote_is_durable_and_commits_once_its_log_is() {
    let (mut only, out) = Replica::of(1, 1, ElectionState::default(), LogView::empty());
    assert!(out.contains(&Output::Persist(file(1, None, Some(1)))), "{out:?}");
    assert_eq!(only.raft.role(), RaftRole::Candidate, "its vote is not on disk yet");
    let out = only.persisted();
    assert!(out.contains(&Output::BecameLeader { epoch: e(1), start: at(0) }), "{out:?}");
    assert!(out.contains(&Output::Flush { to: at(1) }) && high_watermarks(&out).is_empty(), "{out:?}");
    assert_eq!(high_watermarks(&only.flushed()), [1]);
    only.persisted();
    for _ in 0..100 {
        only.wait(1000);
    }
    assert_eq!(only.raft.role(), RaftRole::Leader, "one voter is its own majority");
}

#[test]
fn nobody_is_asked_for_a_vote_before_the_new_epoch_is_durable() {
    let mut voter = Replica::new(3, 1, ElectionState::default(), "");
    let out = voter.stand();
    assert!(out.contains(&Output::Persist(file(1, None, Some(1)))), "{out:?}");
    assert_eq!(sent(&out), [], "the epoch is not on disk");
    let said = |output: &Output| matches!(output, Output::Observe(fact) if !matches!(fact, Observation::QuorumProspective { .. }));
    assert!(!out.iter().any(said), "nor is it said: {out:?}");
    let out = voter.persisted();
    assert!(
        matches!(
            &out[..3],
            [
                Output::Observe(Observation::QuorumEpoch { epoch: LeaderEpoch(1) }),
                Output::Observe(Observation::QuorumVote { epoch: LeaderEpoch(1), candidate: NodeId(1) }),
                Output::Observe(Observation::QuorumCandidate { epoch: LeaderEpoch(1) })
            ]
        ),
        "{out:?}"
    );
    let asked = sent(&out);
    assert_eq!(asked.iter().map(|(to, _)| *to).collect::<Vec<_>>(), [n(2), n(3)]);
    assert!(
        asked.iter().all(|(_, request)| matches!(request, Request::Vote(vote) if !vote.pre_vote && vote.epoch == e(1)))
    );
}

#[test]
fn a_vote_is_told_only_when_it_is_durable() {
    let mut voter = Replica::new(3, 1, ElectionState::default(), "");
    let out = voter.ask(ask_vote(2, 1, end(0, 0), false));
    assert_eq!(out.last(), Some(&Output::Persist(file(1, None, Some(2)))), "epoch and vote are one write: {out:?}");
    assert_eq!(vote_replies(&out), []);
    let out = voter.ask(ask_vote(3, 1, end(0, 0), false));
    assert!(out.is_empty(), "not even a refusal in an epoch that is not durable: {out:?}");
    let out = voter.persisted();
    let answer = |granted| VoteResponse { error: None, current: told(None, 1), granted };
    assert_eq!(vote_replies(&out), [answer(true), answer(false)]);
    assert!(out.contains(&Output::Observe(Observation::QuorumVote { epoch: e(1), candidate: n(2) })), "{out:?}");
}

#[test]
fn a_voter_votes_once_in_an_epoch_and_says_so_again_to_the_same_candidate() {
    let mut voter = Replica::new(3, 1, file(4, None, Some(2)), "");
    let granted = |out: Vec<Output>| vote_replies(&out)[0].granted;
    assert!(!granted(voter.ask(ask_vote(3, 4, end(9, 3), false))));
    assert!(granted(voter.ask(ask_vote(2, 4, end(0, 0), false))), "its answer may have been lost");
}

#[test]
fn a_vote_goes_only_to_a_log_that_is_at_least_as_long_the_last_epoch_first() {
    for (log_end, expected) in [(end(15, 2), true), (end(11, 3), true), (end(14, 2), false), (end(99, 1), false)] {
        let mut voter = Replica::new(3, 1, file(4, None, None), "e1:0..10 e2:10..15");
        for pre_vote in [true, false] {
            let out = voter.ask(ask_vote(2, 4, log_end, pre_vote));
            let replies = if pre_vote || !expected { vote_replies(&out) } else { vote_replies(&voter.persisted()) };
            assert_eq!(replies[0].granted, expected, "{log_end:?}, pre-vote {pre_vote}");
        }
    }
}

#[test]
fn a_request_for_a_vote_is_refused_to_strangers_to_replaced_disks_and_to_older_epochs() {
    let mut voter = Replica::new(3, 1, file(4, None, None), "");
    let asked = |candidate, voter, epoch| {
        Request::Vote(VoteRequest { candidate, epoch: e(epoch), log_end: end(9, 3), pre_vote: false, voter })
    };
    let replaced = |id| ReplicaKey { id: n(id), directory: Some(Uuid(99)) };
    let errors = [
        (asked(key(8), None, 9), ErrorCode::InconsistentVoterSet),
        // K10: a voter that lost its disk could help to elect a leader that lacks committed records.
        (asked(replaced(2), None, 9), ErrorCode::InconsistentVoterSet),
        (asked(key(2), Some(replaced(1)), 9), ErrorCode::InvalidVoterKey),
        (asked(key(2), Some(key(3)), 9), ErrorCode::InvalidVoterKey),
        (asked(key(1), None, 9), ErrorCode::InvalidRequest),
        (asked(key(2), None, 3), ErrorCode::FencedLeaderEpoch),
    ];
    for (request, error) in errors {
        let out = voter.ask(request);
        assert_eq!(vote_replies(&out), [VoteResponse { error: Some(error), current: told(None, 4), granted: false }]);
    }
}

#[test]
fn a_pre_vote_changes_neither_epoch_nor_vote() {
    let mut voter = Replica::new(3, 1, file(4, None, None), "");
    let out = voter.ask(ask_vote(2, 4, end(0, 0), true));
    assert!(vote_replies(&out)[0].granted);
    assert!(!out.iter().any(|output| matches!(output, Output::Persist(_))), "{out:?}");
    assert_eq!(voter.raft.state.state(), file(4, None, None));

    let mut asks = Replica::new(3, 1, file(4, None, None), "");
    asks.wait_until(2100, |raft| raft.role() == RaftRole::Prospective);
    assert_eq!(asks.raft.state.state(), file(4, None, None));
    // Nobody answers: it goes on asking now and then, and its epoch stays (K06).
    for _ in 0..1000 {
        asks.wait(20);
    }
    assert_eq!(asks.raft.state.state(), file(4, None, None));
}

#[test]
fn a_follower_that_hears_its_leader_refuses_pre_votes_until_the_leader_is_silent() {
    let mut follower = Replica::follower(4, "e1:0..10");
    let granted = |out: Vec<Output>| vote_replies(&out)[0].granted;
    assert!(granted(follower.ask(ask_vote(3, 4, end(10, 1), true))), "it has not heard node 2 itself");
    let id = follower.fetch_id();
    follower.respond(2, id, fetched(4, 0, FetchOutcome::Nothing));
    assert!(!granted(follower.ask(ask_vote(3, 4, end(10, 1), true))));
    follower.ms += 1999;
    assert!(!granted(follower.ask(ask_vote(3, 4, end(10, 1), true))));
    follower.ms += 1;
    assert!(granted(follower.ask(ask_vote(3, 4, end(10, 1), true))));
}

#[test]
fn a_voter_that_lost_its_leader_alone_goes_back_to_it_without_a_new_epoch() {
    let mut follower = Replica::follower(4, "e1:0..10");
    follower.wait_until(2000, |raft| raft.role() == RaftRole::Prospective);
    for from in [2, 3] {
        let id = follower.asked(from);
        follower.respond(from, id, vote(false, Some(2), 4));
    }
    let out = follower.wait(0);
    assert_eq!(follower.raft.current(), told(Some(2), 4), "{out:?}");
    assert_eq!(follower.raft.role(), RaftRole::Follower);
}

#[test]
fn a_candidate_follows_the_leader_of_its_epoch_and_a_refused_one_tries_again_later() {
    let mut loses = Replica::new(3, 1, ElectionState::default(), "");
    loses.stand();
    loses.persisted();
    let id = loses.asked(3);
    loses.respond(3, id, vote(false, Some(3), 1));
    assert_eq!(loses.raft.current(), told(Some(3), 1));

    let mut refused = Replica::new(3, 1, ElectionState::default(), "");
    refused.stand();
    refused.persisted();
    let (two, three) = (refused.asked(2), refused.asked(3));
    refused.respond(2, two, vote(false, None, 1));
    refused.respond(3, three, vote(false, None, 1));
    refused.wait_until(1000, |raft| raft.role() == RaftRole::Prospective);
    assert_eq!(refused.raft.current(), told(None, 1), "the next epoch begins when a majority would vote");
}

#[test]
fn a_late_or_foreign_answer_elects_nobody() {
    let mut voter = Replica::new(3, 1, ElectionState::default(), "");
    voter.wait_until(2100, |raft| raft.role() == RaftRole::Prospective);
    let pre_vote = voter.asked(2);
    voter.respond(2, pre_vote, vote(true, None, 0));
    voter.persisted();
    // Node 3's pre-vote comes late; it is no vote. Nor is an answer that names another node or another epoch.
    voter.respond(3, SendId(pre_vote.0 + 1), vote(true, None, 0));
    let ballot = voter.asked(3);
    voter.respond(2, ballot, vote(true, None, 1));
    voter.respond(3, ballot, vote(true, None, 0));
    assert_eq!(voter.raft.role(), RaftRole::Candidate);
}

// ---- restarts

#[test]
fn a_restarted_leader_is_resigned_and_never_leads_its_old_epoch() {
    let (mut led, out) = Replica::of(3, 1, file(4, Some(1), Some(1)), log("e4:0..9"));
    assert_eq!(led.raft.role(), RaftRole::Resigned);
    let ends = sent(&out);
    assert!(ends.iter().all(|(_, request)| *request == resigned(1, 4, &[2, 3])) && ends.len() == 2, "{out:?}");
    led.persisted();
    let out = led.ask(fetch(2, 4, end(9, 4)));
    assert_eq!(fetch_replies(&out)[0].1.error, Some(ErrorCode::NotLeaderOrFollower));
    led.wait_until(2100, |raft| raft.role() == RaftRole::Unattached);
    led.stand();
    assert_eq!(led.raft.current().epoch, e(5));
}

#[test]
fn a_restarted_candidate_does_not_stand_again_in_its_epoch() {
    let mut stood = Replica::new(3, 1, file(4, None, Some(1)), "");
    assert_eq!(stood.raft.role(), RaftRole::Unattached);
    stood.stand();
    assert_eq!(stood.raft.state.state(), file(5, None, Some(1)));
}

#[test]
fn the_epoch_of_the_log_is_kept_when_the_file_is_lost() {
    let (mut voter, out) = Replica::of(3, 1, ElectionState::default(), log("e4:0..9"));
    assert!(out.contains(&Output::Persist(file(4, None, None))), "{out:?}");
    let out = voter.ask(ask_vote(2, 4, end(9, 4), true));
    assert_eq!(vote_replies(&out), [], "epoch 4 is in no file yet");
    assert!(vote_replies(&voter.persisted())[0].granted);
}

#[test]
fn what_recovery_did_not_sync_is_flushed_before_the_first_fetch() {
    let log = LogView::recovered(end(0, 0), at(9), at(5), vec![EpochStart { epoch: e(1), start: at(0) }]);
    let (mut voter, out) = Replica::of(3, 1, file(1, None, None), log);
    assert!(out.contains(&Output::Flush { to: at(9) }), "{out:?}");
    assert_eq!(fetches(&voter.ask(begin(2, 1))), []);
    assert_eq!(fetches(&voter.flushed()), [(n(2), at(9))]);
}

// ---- handing over

#[test]
fn the_preferred_successor_stands_at_once_and_finds_votes_though_the_old_leader_was_just_heard() {
    let mut first = Replica::follower(4, "e1:0..10");
    let mut second = Replica::follower(4, "e1:0..10");
    for follower in [&mut first, &mut second] {
        let id = follower.fetch_id();
        follower.respond(2, id, fetched(4, 0, FetchOutcome::Nothing));
    }
    first.ask(resigned(2, 4, &[1, 3]));
    assert_eq!(first.raft.role(), RaftRole::Prospective);
    second.ask(resigned(2, 4, &[3, 1]));
    assert_eq!(second.raft.role(), RaftRole::Follower);
    assert!(vote_replies(&second.ask(ask_vote(3, 4, end(10, 1), true)))[0].granted);
    second.wait_until(500, |raft| raft.role() == RaftRole::Prospective);
}

#[test]
fn a_leader_that_shuts_down_hands_over_and_does_not_stand_again() {
    let mut leader = Replica::leader();
    leader.flushed();
    leader.ask(fetch(3, 1, end(1, 1)));
    let out = leader.step(Input::Shutdown);
    assert!(
        sent(&out).iter().all(|(_, request)| *request == resigned(1, 1, &[3, 2])) && sent(&out).len() == 2,
        "{out:?}"
    );
    assert!(!out.contains(&Output::ShutdownReady));
    let (two, three) = (leader.asked(2), leader.asked(3));
    let heard = Response::EndQuorumEpoch(EpochResponse { error: None, current: told(Some(1), 1) });
    assert!(!leader.respond(2, two, heard.clone()).contains(&Output::ShutdownReady));
    assert!(leader.respond(3, three, heard).contains(&Output::ShutdownReady));
    leader.persisted();
    for _ in 0..1000 {
        leader.wait(20);
    }
    assert_eq!(leader.raft.role(), RaftRole::Unattached);
    let granted = leader.ask(ask_vote(3, 1, end(1, 1), true));
    assert!(vote_replies(&granted)[0].granted, "it still votes");
    assert_eq!(Replica::follower(4, "").step(Input::Shutdown), [Output::ShutdownReady]);
}

#[test]
fn the_controller_can_ask_for_another_leader_in_its_own_epoch_only() {
    let mut leader = Replica::leader();
    leader.step(Input::Resign { epoch: e(0) });
    assert_eq!(leader.raft.role(), RaftRole::Leader);
    leader.step(Input::Resign { epoch: e(1) });
    assert_eq!(leader.raft.role(), RaftRole::Resigned);
}

// ---- observers

#[test]
fn an_observer_asks_voters_until_one_names_the_leader_and_never_votes_or_stands() {
    let (mut observer, out) = Replica::of(3, 9, ElectionState::default(), LogView::empty());
    let [(_, Request::Fetch(first))] = &sent(&out)[..] else { panic!("{out:?}") };
    assert_eq!(first.max_wait, Duration::ZERO);
    let Some(Output::Send { to, id, .. }) = out.iter().find(|output| matches!(output, Output::Send { .. })) else {
        panic!()
    };
    let out = observer.respond(to.0, *id, refused(ErrorCode::FencedLeaderEpoch, told(Some(2), 7)));
    assert_eq!(fetches(&out), [], "epoch 7 is not durable yet");
    assert_eq!(fetches(&observer.persisted()), [(n(2), at(0))]);

    let out = observer.ask(ask_vote(2, 8, end(9, 9), false));
    assert_eq!(vote_replies(&out)[0].error, Some(ErrorCode::InconsistentVoterSet));
    let id = observer.fetch_id();
    let out = observer.respond(2, id, fetched(7, 1, records(&[(0, 0, 7)])));
    assert!(!out.iter().any(|output| matches!(output, Output::Flush { .. })), "{out:?}");
    assert_eq!(fetches(&out), [(n(2), at(1))], "nobody counts its disk");

    let out = observer.wait(2000);
    assert_eq!((observer.raft.role(), fetches(&out).len()), (RaftRole::Unattached, 1), "it asks around: {out:?}");
    for _ in 0..1000 {
        observer.wait(20);
    }
    assert_eq!(observer.raft.role(), RaftRole::Unattached);
}

#[test]
fn a_voter_with_a_replaced_disk_only_observes() {
    let set = VoterSet::new((1..=3).map(|id| (n(id), Some(Uuid(id as u128))))).expect("voters");
    let config = RaftConfig::new(n(1), Uuid(99), set);
    assert!(!config.is_voter());
}

#[test]
fn an_observer_leaves_a_leader_that_resigned() {
    let (mut observer, out) = Replica::of(3, 9, ElectionState::default(), LogView::empty());
    let Some(Output::Send { to, id, .. }) = out.iter().find(|output| matches!(output, Output::Send { .. })) else {
        panic!()
    };
    observer.respond(to.0, *id, refused(ErrorCode::FencedLeaderEpoch, told(Some(2), 7)));
    observer.persisted();
    let id = observer.fetch_id();
    observer.respond(2, id, refused(ErrorCode::NotLeaderOrFollower, told(None, 7)));
    observer.wait_until(150, |raft| raft.role() == RaftRole::Unattached);
}

// ---- bounds, numbers, pictures

#[test]
fn while_the_disk_hangs_requests_are_refused_rather_than_hoarded() {
    let mut voter = Replica::new(3, 1, ElectionState::default(), "");
    let mut answered = 0;
    for _ in 0..5000 {
        answered += vote_replies(&voter.ask(ask_vote(2, 1, end(0, 0), false))).len();
    }
    assert!(answered > 3900, "{answered}");
    let out = voter.ask(ask_vote(2, 1, end(0, 0), false));
    let refusal = VoteResponse { error: Some(ErrorCode::BrokerNotAvailable), current: told(None, 0), granted: false };
    assert_eq!(vote_replies(&out), [refusal], "with the epoch that the disk has");
}

#[test]
fn a_flush_under_way_when_the_log_is_cut_covers_only_what_stays() {
    let mut log = log("e1:0..10");
    log.append(e(2), 5);
    let mut out = Vec::new();
    log.maybe_flush(&mut out);
    log.truncate(at(8));
    log.append(e(3), 5);
    log.flushed();
    log.check_invariants();
    assert_eq!((log.flushed_end(), log.end(), log.is_flushed()), (at(8), at(13), false));
}

#[test]
fn the_leader_describes_how_far_everyone_is() {
    let mut leader = Replica::leader();
    leader.flushed();
    leader.ms = 5000;
    leader.ask(fetch(2, 1, end(0, 0)));
    leader.ms = 6000;
    leader.ask(fetch(2, 1, end(1, 1)));
    leader.propose(1, 2);
    leader.ms = 7000;
    leader.ask(fetch(2, 1, end(1, 1)));
    leader.ask(fetch(9, 1, end(3, 1)));
    let ms = |ms| Some(MonoTime::from_millis(ms));
    let described = leader.raft.describe();
    assert_eq!(
        (described.role, described.current, described.high_watermark),
        (RaftRole::Leader, told(Some(1), 1), at(1))
    );
    let behind =
        ReplicaDescription { replica: key(2), log_end: Some(at(1)), last_fetch: ms(7000), last_caught_up: ms(6000) };
    assert_eq!(described.voters[1], behind);
    assert_eq!((described.voters[0].log_end, described.voters[2].log_end), (Some(at(3)), None));
    let observer =
        ReplicaDescription { replica: key(9), log_end: Some(at(3)), last_fetch: ms(7000), last_caught_up: ms(7000) };
    assert_eq!(described.observers, [observer]);
}

#[test]
fn an_election_in_conversation() {
    let mut nodes: Vec<Replica> = (1..=3).map(|id| Replica::new(3, id, ElectionState::default(), "")).collect();
    let mut transcript = String::new();
    let mut inbox: std::collections::VecDeque<(usize, Input)> = std::collections::VecDeque::new();
    let mut asked: Vec<(usize, SendId)> = Vec::new();
    let ms = (0..).step_by(10).find(|ms| nodes[1].raft.wakeup() <= Some(MonoTime::from_millis(*ms))).expect("an alarm");
    nodes[1].ms = ms;
    inbox.push_back((1, Input::Wakeup));
    while let Some((at, input)) = inbox.pop_front() {
        for output in nodes[at].step(input) {
            transcript += &format!("n{} {}\n", at + 1, brief(&output));
            match output {
                Output::Persist(_) => inbox.push_back((at, Input::Persisted)),
                Output::Flush { to } => inbox.push_back((at, Input::LogFlushed { to })),
                Output::Send { to, id, request } => {
                    asked.push((at, id));
                    let name = RequestId(asked.len() as u64 - 1);
                    inbox.push_back((to.0 as usize - 1, Input::Request { id: name, request }));
                }
                Output::Reply { id, response } => {
                    let (to, send) = asked[id.0 as usize];
                    let from = n(at as i32 + 1);
                    inbox.push_back((to, Input::Response { from, id: send, response: carried(response) }));
                }
                _ => {}
            }
        }
    }
    insta::assert_snapshot!(transcript);
}

/// What the other side receives: single-record batches of epoch 1.
fn carried(reply: Reply) -> PeerResponse {
    match reply {
        Response::Vote(response) => Response::Vote(response),
        Response::BeginQuorumEpoch(response) => Response::BeginQuorumEpoch(response),
        Response::EndQuorumEpoch(response) => Response::EndQuorumEpoch(response),
        Response::Fetch(FetchResponse { error, current, high_watermark, log_start, outcome }) => {
            let outcome = match outcome {
                FetchOutcome::Nothing => FetchOutcome::Nothing,
                FetchOutcome::Diverging(shared) => FetchOutcome::Diverging(shared),
                FetchOutcome::Snapshot(snapshot) => FetchOutcome::Snapshot(snapshot),
                FetchOutcome::Records(LogRange { from, to }) => {
                    records(&(from.0..to.0).map(|at| (at, at, 1)).collect::<Vec<_>>())
                }
            };
            Response::Fetch(FetchResponse { error, current, high_watermark, log_start, outcome })
        }
    }
}

/// An output in a few words.
fn brief(output: &Output) -> String {
    match output {
        Output::Persist(state) => {
            format!("persist {:?} leader {:?} voted {:?}", state.epoch, state.leader, state.voted.map(|key| key.id))
        }
        Output::Send { to, request, .. } => match request {
            Request::Vote(vote) => {
                format!("-> {to:?} {} {:?}", if vote.pre_vote { "pre-vote?" } else { "vote?" }, vote.epoch)
            }
            Request::BeginQuorumEpoch(begin) => format!("-> {to:?} I lead {:?}", begin.epoch),
            Request::EndQuorumEpoch(end) => format!("-> {to:?} I led {:?}", end.epoch),
            Request::Fetch(fetch) => format!("-> {to:?} fetch {:?} in {:?}", fetch.fetch_offset, fetch.epoch),
        },
        Output::Reply { response, .. } => match response {
            Response::Vote(vote) => {
                format!("<- {} {:?}", if vote.granted { "granted" } else { "refused" }, vote.current)
            }
            Response::Fetch(fetch) => format!("<- {:?} hw {}", fetch.outcome, fetch.high_watermark),
            Response::BeginQuorumEpoch(other) | Response::EndQuorumEpoch(other) => format!("<- {:?}", other.current),
        },
        Output::Observe(fact) => format!("observe {fact:?}"),
        other => format!("{other:?}"),
    }
}
