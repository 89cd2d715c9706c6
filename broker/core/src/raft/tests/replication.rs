//! The leader and its followers, one machine at a time: what is appended, counted, cut and committed.

use super::*;

// ---- the leader

#[test]
fn the_leader_counts_its_own_log_and_the_followers_only_up_to_what_is_flushed() {
    let mut leader = Replica::leader();
    assert_eq!(high_watermarks(&leader.ask(fetch(2, 1, end(0, 0)))), [] as [i64; 0]);
    leader.propose(1, 3);
    // Node 2 has all four records on disk, the leader none of its own: one of three.
    assert_eq!(high_watermarks(&leader.ask(fetch(2, 1, end(4, 1)))), [] as [i64; 0]);
    // The flush that began with the LeaderChange is done: two disks have offset 0.
    let out = leader.step(Input::LogFlushed { to: at(1) });
    assert_eq!(high_watermarks(&out), [1]);
    assert!(out.contains(&Output::Flush { to: at(4) }), "{out:?}");
    assert_eq!(high_watermarks(&leader.flushed()), [4]);
    // Two followers are a majority without the leader's disk.
    leader.propose(1, 1);
    assert_eq!(high_watermarks(&leader.ask(fetch(2, 1, end(5, 1)))), [] as [i64; 0]);
    assert_eq!(high_watermarks(&leader.ask(fetch(3, 1, end(5, 1)))), [5]);
}

#[test]
fn records_of_older_epochs_are_committed_only_with_one_of_the_leaders_own() {
    let mut leader = Replica::new(3, 1, file(4, None, None), "e2:0..10");
    leader.stand();
    leader.persisted();
    let id = leader.asked(2);
    let out = leader.respond(2, id, vote(true, None, 5));
    assert!(
        out.contains(&Output::AppendLeaderChange {
            at: at(10),
            epoch: e(5),
            leader: n(1),
            voters: vec![n(1), n(2), n(3)],
            granting: vec![n(1), n(2)],
        }),
        "{out:?}"
    );
    leader.persisted();
    leader.flushed();
    assert_eq!(
        high_watermarks(&leader.ask(fetch(2, 5, end(10, 2)))),
        [] as [i64; 0],
        "a majority has 0..10, all of epoch 2"
    );
    assert_eq!(high_watermarks(&leader.ask(fetch(2, 5, end(11, 5)))), [11]);
}

#[test]
fn a_diverging_fetch_is_answered_at_once_and_counts_for_nothing() {
    let mut leader = Replica::leader();
    leader.propose(1, 3);
    leader.flushed();
    leader.flushed();
    // R10: node 2 names offset 4, of an epoch that this leader's log does not have.
    let out = leader.ask(fetch(2, 1, end(4, 0)));
    assert_eq!(high_watermarks(&out), [] as [i64; 0]);
    assert_eq!(fetch_replies(&out)[0].1.outcome, FetchOutcome::Diverging(end(0, 0)));
    assert_eq!(leader.raft.describe().voters[1].log_end, None);
    let out = leader.ask(fetch(2, 1, end(9, 1)));
    assert_eq!(fetch_replies(&out)[0].1.outcome, FetchOutcome::Diverging(end(4, 1)), "longer than the leader's log");
}

#[test]
fn a_fetch_below_the_log_start_names_the_snapshot() {
    let log = LogView::recovered(end(20, 2), at(30), at(30), vec![EpochStart { epoch: e(2), start: at(20) }]);
    for (asked, outcome) in [
        (end(0, 0), FetchOutcome::Snapshot(end(20, 2))),
        (end(19, 2), FetchOutcome::Snapshot(end(20, 2))),
        (end(20, 1), FetchOutcome::Snapshot(end(20, 2))),
        (end(20, 2), FetchOutcome::Records(LogRange { from: at(20), to: at(30) })),
        (end(25, 1), FetchOutcome::Diverging(end(20, 2))),
        (end(31, 2), FetchOutcome::Diverging(end(30, 2))),
        (end(30, 2), FetchOutcome::Nothing),
    ] {
        assert_eq!(log.read_after(asked), outcome, "{asked:?}");
    }
}

#[test]
fn a_fetch_of_another_epoch_or_to_another_node_is_refused_with_what_is_known() {
    let mut leader = Replica::leader();
    let error = |out: Vec<Output>| fetch_replies(&out)[0].1.clone();
    let fenced = error(leader.ask(fetch(2, 0, end(0, 0))));
    assert_eq!((fenced.error, fenced.current), (Some(ErrorCode::FencedLeaderEpoch), told(Some(1), 1)));
    let unknown = error(leader.ask(fetch(2, 2, end(0, 0))));
    assert_eq!((unknown.error, unknown.current), (Some(ErrorCode::UnknownLeaderEpoch), told(Some(1), 1)));
    let mut follower = Replica::follower(4, "");
    let elsewhere = error(follower.ask(fetch(3, 4, end(0, 0))));
    assert_eq!((elsewhere.error, elsewhere.current), (Some(ErrorCode::NotLeaderOrFollower), told(Some(2), 4)));
}

#[test]
fn a_held_fetch_is_answered_once_by_records_by_the_high_watermark_by_time_or_by_the_end_of_the_epoch() {
    let mut leader = Replica::leader();
    leader.flushed();
    let out = fetch_replies(&leader.ask(fetch(2, 1, end(1, 1))));
    assert_eq!((out.len(), out[0].1.high_watermark), (1, at(1)), "this very fetch moved the high watermark");
    assert_eq!(fetch_replies(&leader.ask(fetch(2, 1, end(1, 1)))).len(), 0, "held");
    let held = leader.requests;

    let out = fetch_replies(&leader.propose(1, 2));
    assert_eq!(out.len(), 1);
    assert_eq!((out[0].0, &out[0].1.outcome), (held, &FetchOutcome::Records(LogRange { from: at(1), to: at(3) })));

    leader.flushed();
    leader.ask(fetch(3, 1, end(3, 1)));
    assert!(fetch_replies(&leader.ask(fetch(3, 1, end(3, 1)))).is_empty(), "node 3 knows all");
    assert!(fetch_replies(&leader.ask(fetch(2, 1, end(3, 1)))).is_empty(), "node 2 too: it moved nothing");
    let waits = leader.requests;
    let out = fetch_replies(&leader.propose(1, 1));
    assert_eq!(out.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [waits - 1, waits]);

    leader.ask(fetch(2, 1, end(4, 1)));
    let waits = leader.requests;
    let out = fetch_replies(&leader.flushed());
    assert_eq!((out[0].0, out[0].1.high_watermark), (waits, at(4)), "the leader's disk was the second to have it");

    leader.ask(fetch(2, 1, end(4, 1)));
    let waits = leader.requests;
    assert!(fetch_replies(&leader.wait(499)).is_empty());
    let out = fetch_replies(&leader.wait(1));
    assert_eq!((out.len(), out[0].0, &out[0].1.outcome), (1, waits, &FetchOutcome::Nothing));

    leader.ask(fetch(2, 1, end(4, 1)));
    let waits = leader.requests;
    let mut out = leader.ask(begin(3, 2));
    assert!(out.contains(&Output::LostLeadership { epoch: e(1) }) && fetch_replies(&out).is_empty(), "{out:?}");
    out = leader.persisted();
    let replies = fetch_replies(&out);
    assert_eq!(
        (replies[0].0, replies[0].1.error),
        (waits, Some(ErrorCode::NotLeaderOrFollower)),
        "once epoch 2 is durable"
    );
    assert_eq!(replies[0].1.current, told(Some(3), 2));
}

#[test]
fn a_replica_that_knows_an_older_high_watermark_is_told_at_once() {
    let mut leader = Replica::leader();
    leader.flushed();
    leader.ask(fetch(2, 1, end(1, 1)));
    let Request::Fetch(request) = fetch(3, 1, end(1, 1)) else { unreachable!() };
    let out = leader.ask(Request::Fetch(FetchRequest { high_watermark: Some(at(0)), ..request.clone() }));
    assert_eq!(fetch_replies(&out)[0].1.high_watermark, at(1));
    let out = leader.ask(Request::Fetch(FetchRequest { high_watermark: Some(at(1)), ..request }));
    assert!(fetch_replies(&out).is_empty());
}

#[test]
fn a_replica_has_one_fetch_held_and_the_number_of_held_ones_is_bounded() {
    let mut leader = Replica::leader();
    leader.flushed();
    leader.ask(fetch(2, 1, end(1, 1)));
    leader.ask(fetch(2, 1, end(1, 1)));
    let first = leader.requests;
    let out = fetch_replies(&leader.ask(fetch(2, 1, end(1, 1))));
    assert_eq!(out.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [first]);

    leader.raft.config.max_parked_fetches = 2;
    leader.raft.config.max_observers = 2;
    for observer in 10..20 {
        leader.ms += 1;
        let out = fetch_replies(&leader.ask(fetch(observer, 1, end(1, 1))));
        assert_eq!(out.len(), usize::from(observer > 10), "observer {observer}");
    }
    let observers: Vec<_> = leader.raft.describe().observers.iter().map(|observer| observer.replica.id.0).collect();
    assert_eq!(observers, [18, 19]);
}

#[test]
fn a_leader_without_a_majority_fetching_resigns_after_one_and_a_half_fetch_timeouts() {
    let mut leader = Replica::leader();
    leader.flushed();
    for _ in 0..20 {
        leader.wait(1000);
        leader.ask(fetch(2, 1, end(1, 1)));
    }
    assert_eq!(leader.raft.role(), RaftRole::Leader, "node 2 makes a majority");
    leader.wait(2999);
    assert_eq!(leader.raft.role(), RaftRole::Leader);
    let out = leader.wait(1);
    assert_eq!(leader.raft.role(), RaftRole::Resigned);
    assert!(out.contains(&Output::LostLeadership { epoch: e(1) }), "{out:?}");
    assert!(out.contains(&Output::Observe(Observation::QuorumResigned { epoch: e(1) })), "{out:?}");
    let successors = sent(&out).into_iter().find_map(|(_, request)| match request {
        Request::EndQuorumEpoch(end) => Some(end.preferred_successors),
        _ => None,
    });
    assert_eq!(successors, Some(vec![key(2), key(3)]), "node 3 never fetched");
    leader.persisted();
    leader.wait_until(2100, |raft| raft.role() == RaftRole::Unattached);
    assert_eq!(leader.raft.current().epoch, e(1), "an isolated node raises no epoch");
}

#[test]
fn a_voter_is_told_who_leads_until_it_fetches() {
    let mut leader = Replica::leader();
    let told_to = |out: &[Output]| {
        let begin = |(to, request): (NodeId, Request)| matches!(request, Request::BeginQuorumEpoch(_)).then_some(to.0);
        sent(out).into_iter().filter_map(begin).collect::<Vec<_>>()
    };
    let (two, three) = (leader.asked(2), leader.asked(3));
    let said = Response::BeginQuorumEpoch(EpochResponse { error: None, current: told(Some(1), 1) });
    leader.respond(2, two, said);
    leader.ask(fetch(2, 1, end(0, 0)));
    leader.step(Input::SendFailed { to: n(3), id: three });
    let out = leader.wait(100);
    assert_eq!(told_to(&out), [3], "the failed one is sent again after a pause");
    leader.step(Input::SendFailed { to: n(3), id: leader.fetch_id() });
    leader.ask(fetch(2, 1, end(0, 0)));
    assert_eq!(told_to(&leader.wait(999)), [3]);
    assert_eq!(told_to(&leader.wait(1)), [2], "a second without a fetch: did it forget?");
}

#[test]
fn a_proposal_of_another_epoch_is_refused_whole() {
    let mut leader = Replica::leader();
    let batches = vec![ProposedBatch { id: BatchId(1), records: 2 }, ProposedBatch { id: BatchId(2), records: 1 }];
    let current = told(Some(1), 1);
    let out = leader.step(Input::Propose { epoch: e(0), batches: batches.clone() });
    assert_eq!(out, [1, 2].map(|id| Output::ProposalRefused { batch: BatchId(id), current }));
    let out = leader.step(Input::Propose { epoch: e(1), batches });
    assert_eq!(
        out,
        [
            Output::Append { batch: BatchId(1), at: at(1), last: at(2), epoch: e(1) },
            Output::Append { batch: BatchId(2), at: at(3), last: at(3), epoch: e(1) },
        ],
        "the first flush is still under way, the next one follows it"
    );
}

// ---- the follower

#[test]
fn a_voter_fetches_again_only_when_what_it_fetched_is_flushed() {
    let mut follower = Replica::follower(4, "e1:0..10");
    let id = follower.fetch_id();
    let out = follower.respond(2, id, fetched(4, 12, records(&[(10, 11, 4), (12, 12, 4)])));
    assert_eq!(out[0], Output::AppendFetched { records: BatchId(9), batches: 2, at: at(10), end: at(13) });
    assert_eq!(high_watermarks(&out), [12]);
    assert!(out.contains(&Output::Flush { to: at(13) }) && fetches(&out).is_empty(), "{out:?}");
    assert_eq!(fetches(&follower.flushed()), [(n(2), at(13))]);
}

#[test]
fn a_follower_takes_only_batches_that_continue_its_log() {
    let taken = |batches: &[(i64, i64, i32)]| {
        let mut follower = Replica::follower(4, "e1:0..10 e2:10..15");
        let id = follower.fetch_id();
        follower.respond(2, id, fetched(4, 0, records(batches)));
        follower.raft.log().end().0
    };
    assert_eq!(taken(&[(15, 16, 2), (17, 20, 4)]), 21);
    assert_eq!(taken(&[(16, 17, 2)]), 15, "a gap");
    assert_eq!(taken(&[(14, 17, 2)]), 15, "an overlap");
    assert_eq!(taken(&[(15, 15, 1)]), 15, "an epoch that fell");
    assert_eq!(taken(&[(15, 15, 2), (16, 16, 5)]), 16, "an epoch that this leader cannot have (R31)");
    assert_eq!(taken(&[(15, 15, 4), (17, 17, 4)]), 16, "the part before the gap");
}

#[test]
fn a_follower_truncates_to_the_end_of_the_last_shared_epoch() {
    let cut = |log: &str, shared| {
        let mut follower = Replica::follower(9, log);
        let id = follower.fetch_id();
        let out = follower.respond(2, id, fetched(9, 0, FetchOutcome::Diverging(shared)));
        let to = out.iter().find_map(|output| if let Output::Truncate { to } = output { Some(to.0) } else { None });
        assert_eq!(fetches(&out), [], "the cut is flushed first: {out:?}");
        (to, follower.raft.log().epochs().len())
    };
    assert_eq!(cut("e1:0..10 e2:10..15", end(8, 1)), (Some(8), 1), "the leader's epoch 1 is shorter");
    assert_eq!(cut("e1:0..10 e2:10..15", end(12, 1)), (Some(10), 1), "ours is shorter");
    assert_eq!(cut("e1:0..10 e4:10..15", end(12, 3)), (Some(10), 1), "KIP-279: we have no epoch 3");
    assert_eq!(cut("e2:0..10", end(5, 1)), (Some(0), 0), "nothing is shared");
    assert_eq!(cut("e1:0..10", end(10, 1)), (None, 1), "nothing to cut: a leader that contradicts itself");
}

#[test]
fn a_cut_commits_nothing_because_what_is_left_may_differ_too() {
    // The leader has e1:0..5 e3:5..20. We lack epoch 3, cut to the end of our epoch 2, and that is to be cut next.
    let mut follower = Replica::follower(9, "e1:0..5 e2:5..10 e4:10..15");
    let id = follower.fetch_id();
    let out = follower.respond(2, id, fetched(9, 20, FetchOutcome::Diverging(end(20, 3))));
    assert_eq!((&out[0], high_watermarks(&out)), (&Output::Truncate { to: at(10) }, vec![]));
    follower.flushed();
    let id = follower.fetch_id();
    let out = follower.respond(2, id, fetched(9, 20, FetchOutcome::Diverging(end(5, 1))));
    assert_eq!((&out[0], high_watermarks(&out)), (&Output::Truncate { to: at(5) }, vec![]));
}

#[test]
fn a_cut_below_the_high_watermark_is_refused_and_ends_the_machine() {
    let mut follower = Replica::follower(9, "e1:0..10 e2:10..15");
    let id = follower.fetch_id();
    follower.respond(2, id, fetched(9, 12, FetchOutcome::Nothing));
    follower.wait(20);
    let id = follower.fetch_id();
    let out = follower.respond(2, id, fetched(9, 12, FetchOutcome::Diverging(end(8, 1))));
    let fault = Fault::TruncationBelowHighWatermark { leader: n(2), epoch: e(9), to: at(8), high_watermark: at(12) };
    assert_eq!(out, [Output::Fault(fault)]);
    assert_eq!(follower.raft.log().end(), at(15));
    assert_eq!((follower.ask(begin(2, 9)), follower.raft.wakeup()), (vec![], None));
}

#[test]
fn one_fetch_is_under_way_and_a_failed_one_is_repeated_after_a_pause_that_grows() {
    let mut follower = Replica::follower(4, "");
    assert_eq!(fetches(&follower.wait(100)), [], "one is under way");
    let mut pauses = Vec::new();
    follower.raft.config.fetch_timeout = Duration::from_secs(100);
    follower.ask(begin(3, 5));
    follower.persisted();
    for _ in 0..8 {
        let id = follower.fetch_id();
        assert_eq!(fetches(&follower.step(Input::SendFailed { to: n(3), id })), []);
        let failed = follower.ms;
        while fetches(&follower.wait(1)).is_empty() {}
        pauses.push(follower.ms - failed);
    }
    assert!(pauses[0] >= 10 && pauses[0] <= 31, "{pauses:?}");
    assert!(pauses[7] >= 500 && pauses[7] <= 1501, "{pauses:?}");
}

#[test]
fn a_leader_that_answers_nothing_at_once_is_not_asked_in_a_tight_loop() {
    let mut follower = Replica::follower(4, "");
    let id = follower.fetch_id();
    assert_eq!(fetches(&follower.respond(2, id, fetched(4, 0, FetchOutcome::Nothing))), []);
    assert_eq!(fetches(&follower.wait(20)), [(n(2), at(0))]);
}

#[test]
fn an_answer_of_a_former_leader_touches_nothing() {
    let mut follower = Replica::follower(4, "e1:0..10");
    let old = follower.fetch_id();
    follower.ask(begin(3, 5));
    follower.persisted();
    let before = follower.raft.clone();
    assert_eq!(follower.respond(2, old, fetched(4, 9, records(&[(10, 11, 4)]))), []);
    assert_eq!(follower.respond(2, old, fetched(4, 9, FetchOutcome::Diverging(end(5, 1)))), []);
    assert_eq!(follower.raft, before);
}

#[test]
fn the_high_watermark_of_a_follower_stays_within_its_log_and_never_falls() {
    let mut follower = Replica::follower(4, "e1:0..10");
    let mut answer = |high_watermark| {
        let id = follower.fetch_id();
        let out = follower.respond(2, id, fetched(4, high_watermark, FetchOutcome::Nothing));
        follower.wait(20);
        high_watermarks(&out)
    };
    assert_eq!(answer(7), [7]);
    assert_eq!(answer(5), [] as [i64; 0], "a new leader learns it anew");
    assert_eq!(answer(99), [10]);
}

#[test]
fn a_follower_that_needs_a_snapshot_says_so_and_asks_again() {
    let mut follower = Replica::follower(4, "");
    let id = follower.fetch_id();
    let out = follower.respond(2, id, fetched(4, 50, FetchOutcome::Snapshot(end(20, 2))));
    assert_eq!(out, [Output::NeedSnapshot { from: n(2), snapshot: end(20, 2) }]);
    assert_eq!(fetches(&follower.wait(100)), [(n(2), at(0))]);
}

#[test]
fn a_second_leader_in_one_epoch_is_refused() {
    let mut follower = Replica::follower(4, "");
    let error = |out: Vec<Output>| match &out[..] {
        [Output::Reply { response: Response::BeginQuorumEpoch(response), .. }] => response.error,
        other => panic!("{other:?}"),
    };
    assert_eq!(error(follower.ask(begin(3, 4))), Some(ErrorCode::InvalidRequest));
    assert_eq!(error(follower.ask(begin(2, 4))), None, "the same one may repeat itself");
    assert_eq!(error(follower.ask(begin(2, 3))), Some(ErrorCode::FencedLeaderEpoch));
    assert_eq!(error(follower.ask(begin(8, 5))), Some(ErrorCode::InconsistentVoterSet));
    assert_eq!(error(Replica::leader().ask(begin(3, 1))), Some(ErrorCode::InvalidRequest));
}
