//! Each change to the stories, with the check that is to refuse it.

use super::*;

/// Replaces the only event equal to `old`.
pub(super) fn replace(story: &mut Vec<Event>, old: &Event, new: &[Event]) {
    let places: Vec<usize> = (0..story.len()).filter(|at| story[*at] == *old).collect();
    assert_eq!(places.len(), 1, "{old:?}");
    story.splice(places[0]..=places[0], new.iter().cloned());
}

pub(super) type Change = fn(&mut Vec<Event>);

pub(super) const CHANGES: &[(&str, &str, Change)] = &[
    ("leader-per-epoch", "another broker appends as leader of the same epoch", |story| {
        story.push(Says(3, 0, appended(data(), 5, 1, 30, ReplicaRole::Leader)));
    }),
    ("leader-per-epoch", "a leader restarts and goes on in its epoch", |story| {
        story.extend([Down(2), Says(2, 1, loaded(5)), Says(2, 1, appended(data(), 5, 1, 30, ReplicaRole::Leader))]);
    }),
    ("leader-completeness", "a follower that lacks a committed record is elected", |story| {
        replace(
            story,
            &Says(2, 0, leads(1, 2, &[2, 3])),
            &[
                Says(
                    2,
                    0,
                    Observation::BecameFollower { partition: data(), leader_epoch: LeaderEpoch(1), leader: None },
                ),
                Says(1, 1, loaded(1)),
                Says(1, 1, leads(1, 1, &[2, 3])),
            ],
        );
    }),
    ("committed-truncated", "a follower truncates to its own high watermark when the leader changes", |story| {
        replace(
            story,
            &Says(3, 0, follows(1, 2)),
            &[
                Says(3, 0, follows(1, 2)),
                Says(3, 0, truncated(data(), 2, 0)),
                Says(3, 0, appended(data(), 0, 0, 20, ReplicaRole::Follower)),
                Says(3, 0, appended(data(), 1, 0, 21, ReplicaRole::Follower)),
            ],
        );
    }),
    ("committed-truncated", "recovery cuts a committed record though nothing was lost", |story| {
        story.extend([Down(3), Says(3, 1, loaded(1))]);
    }),
    ("log-matching", "a follower has other bytes at the same offset and epoch", |story| {
        let old = Says(3, 0, appended(data(), 3, 1, 25, ReplicaRole::Follower));
        replace(story, &old, &[Says(3, 0, appended(data(), 3, 1, 99, ReplicaRole::Follower))]);
    }),
    ("log-matching", "a follower keeps its own tail below the high watermark", |story| {
        replace(story, &Says(1, 1, truncated(data(), 3, 2)), &[]);
        replace(story, &Says(1, 1, appended(data(), 2, 1, 24, ReplicaRole::Follower)), &[]);
    }),
    ("log-matching", "a follower appends a batch of an older leader epoch", |story| {
        story.push(Says(3, 0, appended(data(), 5, 0, 30, ReplicaRole::Follower)));
    }),
    ("log-matching", "a follower leaves an offset out", |story| {
        story.push(Says(3, 0, appended(data(), 6, 1, 30, ReplicaRole::Follower)));
    }),
    ("ack-rule", "acks=all is answered at the log's end", |story| {
        replace(story, &Says(1, 0, acknowledged(0, 1, 2, 3)), &[Says(1, 0, acknowledged(0, 2, 2, 3))]);
    }),
    ("ack-rule", "acks=all is answered with a lie about the high watermark", |story| {
        story.push(Says(2, 0, acknowledged(1, 4, 5, 3)));
    }),
    ("ack-rule", "acks=all is answered with an ISR that is too small", |story| {
        replace(story, &Says(2, 0, acknowledged(1, 2, 3, 2)), &[Says(2, 0, acknowledged(1, 2, 3, 1))]);
    }),
    ("high-watermark", "the high watermark passes a member of the ISR", |story| {
        story.push(Says(2, 0, watermark(data(), 1, 5, 5, ReplicaRole::Leader)));
    }),
    ("high-watermark", "the high watermark passes a replica that is about to join the ISR", |story| {
        let fact = watermark(data(), 1, 4, 4, ReplicaRole::Leader);
        replace(story, &Says(2, 0, isr_committed(2, &[2, 3, 1])), &[]);
        replace(story, &Says(1, 1, appended(data(), 3, 1, 25, ReplicaRole::Follower)), &[]);
        assert!(story.contains(&Says(2, 0, fact)));
    }),
    ("high-watermark", "the high watermark moves while the ISR is too small", |story| {
        let old = Says(2, 0, leads(1, 2, &[2, 3]));
        replace(story, &old, &[Says(2, 0, leads(1, 2, &[2]))]);
    }),
    ("high-watermark", "a member of the ISR has another record", |story| {
        replace(story, &Says(3, 0, truncated(data(), 3, 2)), &[]);
        replace(story, &Says(3, 0, appended(data(), 2, 1, 24, ReplicaRole::Follower)), &[]);
    }),
    ("high-watermark", "the log starts past the high watermark", |story| {
        story.push(Says(2, 0, Observation::LogStart { partition: data(), log_start: Offset(5) }));
    }),
    ("high-watermark", "a follower's high watermark passes its leader's", |story| {
        story.push(Says(3, 0, watermark(data(), 1, 5, 5, ReplicaRole::Follower)));
    }),
    ("high-watermark", "the high watermark passes the log's end", |story| {
        story.push(Says(2, 0, watermark(data(), 1, 6, 5, ReplicaRole::Leader)));
    }),
    ("high-watermark-monotone", "a leader's high watermark falls", |story| {
        story.push(Says(2, 0, watermark(data(), 1, 3, 5, ReplicaRole::Leader)));
    }),
    ("leader-in-isr", "the leader drops out of the ISR", |story| {
        story.push(Says(102, 0, changed(Some(2), 1, 3, &[3, 1])));
    }),
    ("isr-of-replicas", "a stranger is in the ISR", |story| {
        story.push(Says(102, 0, changed(Some(2), 1, 3, &[2, 3, 1, 4])));
    }),
    ("isr-unfenced", "a fenced broker joins", |story| {
        replace(story, &Says(102, 0, unfenced(1, 9)), &[]);
    }),
    ("isr-unfenced", "a broker joins while it is about to stop", |story| {
        let stops = Observation::BrokerShuttingDown { broker: NodeId(1), broker_epoch: BrokerEpoch(9) };
        replace(story, &Says(102, 0, unfenced(1, 9)), &[Says(102, 0, unfenced(1, 9)), Says(102, 0, stops)]);
    }),
    ("isr-unfenced", "a fenced broker stays", |story| {
        story.extend([Says(102, 0, fenced(3, 3)), Says(102, 0, registered(7, 20)), Says(102, 0, registered(8, 21))]);
        story.push(Says(102, 0, registered(9, 22)));
    }),
    ("clean-election", "a replica from outside the ISR is elected", |story| {
        let third = [Says(102, 0, changed(Some(2), 1, 3, &[2])), Says(102, 0, changed(Some(3), 2, 4, &[3]))];
        story.extend(third);
    }),
    ("registration-epochs", "the leader changes within its epoch", |story| {
        story.push(Says(102, 0, changed(Some(3), 1, 3, &[2, 3, 1])));
    }),
    ("registration-epochs", "the partition epoch stays", |story| {
        story.push(Says(102, 0, changed(Some(2), 1, 2, &[2, 3, 1])));
    }),
    ("registration-epochs", "the partition epoch skips one", |story| {
        story.push(Says(102, 0, changed(Some(2), 1, 4, &[2, 3])));
    }),
    ("registration-epochs", "the leader epoch falls", |story| {
        story.push(Says(102, 0, changed(Some(2), 0, 3, &[2, 3, 1])));
    }),
    ("registration-agreement", "a broker leads in an epoch registered for another", |story| {
        story.push(Says(3, 0, leads(1, 5, &[2, 3, 1])));
    }),
    ("registration-agreement", "two controllers replay another ISR", |story| {
        let old = Says(103, 0, changed(Some(2), 1, 2, &[2, 3, 1]));
        replace(story, &old, &[Says(103, 0, changed(Some(2), 1, 2, &[2, 3]))]);
    }),
    ("broker-epochs", "a broker is registered anew before it is fenced", |story| {
        story.push(Says(102, 0, registered(3, 20)));
    }),
    ("broker-epochs", "a broker gets an older broker epoch", |story| story.push(Says(102, 0, registered(1, 5)))),
    ("broker-epochs", "a controller that was started again gives out an older broker epoch", |story| {
        story.extend([registered(7, 20), registered(7, 19)].map(|fact| Says(101, 1, fact)));
    }),
    ("quorum-leader-per-epoch", "two controllers win one epoch", |story| story.push(Says(103, 0, wins(2, 4)))),
    ("quorum-leader-per-epoch", "a controller restarts and leads its epoch again", |story| {
        story.extend([Down(102), Says(102, 1, wins(2, 4))]);
    }),
    ("quorum-leader-per-epoch", "a node follows another leader", |story| story.push(Says(101, 1, names(2, 103)))),
    ("quorum-vote", "a voter forgets its vote in a restart", |story| {
        story.extend([Down(103), Says(103, 1, votes(2, 101))]);
    }),
    ("quorum-epoch-monotone", "a node forgets its epoch in a restart", |story| {
        story.extend([Down(103), Says(103, 1, epoch(1))]);
    }),
    ("quorum-high-watermark", "the leader alone commits", |story| {
        let more = [appended(META, 4, 2, 15, ReplicaRole::Leader), watermark(META, 2, 5, 5, ReplicaRole::Leader)];
        story.extend(more.map(|fact| Says(102, 0, fact)));
    }),
    ("quorum-high-watermark", "the high watermark moves to the epoch's start, not past it", |story| {
        let old = Says(102, 0, watermark(META, 2, 3, 3, ReplicaRole::Leader));
        let early = Says(102, 0, watermark(META, 2, 2, 3, ReplicaRole::Leader));
        replace(story, &old, &[early, old.clone()]);
    }),
    ("quorum-high-watermark", "the high watermark falls", |story| {
        story.push(Says(102, 0, watermark(META, 2, 3, 4, ReplicaRole::Leader)));
    }),
    ("metadata-leader-completeness", "a controller without a committed record wins", |story| {
        story.extend([Says(101, 1, epoch(3)), Says(101, 1, wins(3, 3))]);
    }),
    ("metadata-truncated", "a voter cuts a committed record", |story| {
        story.push(Says(103, 0, truncated(META, 4, 3)));
    }),
    ("truncation-point", "a follower cuts what its leader has as well", |story| {
        story.push(Says(3, 0, truncated(data(), 5, 4)));
    }),
    ("truncation-point", "a follower cuts its log before it follows anybody", |story| {
        story.extend([Down(3), Says(3, 1, loaded(5)), Says(3, 1, truncated(data(), 5, 4))]);
    }),
    ("truncation-point", "a voter cuts what is below its high watermark", |story| {
        let own = Says(103, 0, watermark(META, 2, 4, 4, ReplicaRole::Follower));
        story.extend([own, Says(103, 0, truncated(META, 4, 3))]);
    }),
    ("recovered-log", "a crash takes what was in the page cache", |story| {
        story.extend([Down(3), Says(3, 1, loaded(4))]);
    }),
    ("recovered-log", "a log opens with its high watermark past its end", |story| {
        let (log_start, log_end, high_watermark) = (Offset(0), Offset(5), Offset(6));
        let opened =
            Observation::LogLoaded { partition: data(), log_start, log_end, high_watermark, truncated_bytes: 0 };
        story.extend([Down(3), Says(3, 1, opened)]);
    }),
    ("isr-proposal", "the controller adds a replica that nobody proposed", |story| {
        replace(story, &Says(2, 0, proposes(1, 1, &[2, 3, 1])), &[]);
    }),
    ("isr-proposal", "the controller takes a proposal for an older registration", |story| {
        replace(story, &Says(2, 0, proposes(1, 1, &[2, 3, 1])), &[Says(2, 0, proposes(1, 0, &[2, 3, 1]))]);
    }),
    ("isr-proposal", "a leader takes another ISR for committed", |story| {
        replace(story, &Says(2, 0, isr_committed(2, &[2, 3, 1])), &[Says(2, 0, isr_committed(2, &[2, 3]))]);
    }),
    ("isr-complete", "a replica is proposed below the start of the leader's epoch", |story| {
        let early = Says(2, 0, proposes(1, 1, &[2, 3, 1]));
        let lead = Says(2, 0, leads(1, 2, &[2, 3]));
        replace(story, &early, &[]);
        replace(story, &Says(1, 1, loaded(3)), &[Says(1, 1, loaded(1)), early]);
        replace(
            story,
            &Says(1, 1, truncated(data(), 3, 2)),
            &[Says(1, 1, appended(data(), 1, 0, 21, ReplicaRole::Follower))],
        );
        assert!(story.contains(&lead));
    }),
    ("isr-complete", "a replica is in the ISR before it has what is committed", |story| {
        let joins = Says(102, 0, changed(Some(2), 1, 2, &[2, 3, 1]));
        replace(story, &joins, &[]);
        replace(story, &Says(1, 1, truncated(data(), 3, 2)), &[Says(1, 1, truncated(data(), 3, 2)), joins]);
    }),
    ("quorum-roles", "a node stands for election without pre-votes", |story| {
        replace(story, &Says(102, 0, asks(1)), &[]);
    }),
    ("quorum-roles", "a pre-vote raises the epoch", |story| {
        story.extend([Says(103, 0, epoch(3)), Says(103, 0, asks(2))]);
    }),
    ("quorum-roles", "a candidate leads without a majority", |story| {
        replace(story, &Says(103, 0, votes(2, 102)), &[]);
    }),
    ("quorum-roles", "a follower resigns", |story| {
        story.push(Says(103, 0, Observation::QuorumResigned { epoch: LeaderEpoch(2) }));
    }),
    ("controller-answer", "the controller answers before its records are committed", |story| {
        replace(story, &Says(102, 0, answered(3)), &[Says(102, 0, answered(4))]);
    }),
    ("producer-sequence", "a retry is appended again", |story| {
        story.push(stamped(8, stamp(50, 0, Some(3)), false));
    }),
    ("producer-sequence", "a batch is left out", |story| story.push(stamped(8, stamp(50, 0, Some(5)), false))),
    ("producer-sequence", "a fenced producer writes", |story| {
        story.push(stamped(8, stamp(8, 1, Some(0)), false));
        story.push(stamped(9, stamp(8, 0, Some(1)), false));
    }),
    ("producer-sequence", "a new epoch begins in the middle", |story| {
        story.push(stamped(8, stamp(8, 1, Some(1)), false));
    }),
    ("coordinator-per-epoch", "two brokers load a partition in one epoch", |story| {
        story.push(Says(3, 0, coordinates(CoordinatorKind::Group, 5)));
    }),
    ("coordinator-per-epoch", "a broker coordinates what it has unloaded", |story| {
        let gone = Observation::CoordinatorUnloaded { kind: CoordinatorKind::Group, partition: 0 };
        story.extend([Says(2, 0, gone), group("billing", 3, GroupState::Assigning)]);
    }),
    ("group-epoch-monotone", "a group's epoch falls", |story| story.push(group("billing", 1, GroupState::Assigning))),
    ("group-epoch-monotone", "a member's epoch falls", |story| story.push(member("a", 1, [&[0], &[], &[0]]))),
    ("single-owner", "a partition is given away before it is given up", |story| {
        replace(story, &member("b", 2, [&[], &[], &[1]]), &[member("b", 2, [&[1], &[], &[1]])]);
    }),
    ("stable-group", "a group is stable before a member has its target", |story| {
        replace(story, &member("b", 2, [&[1], &[], &[1]]), &[]);
    }),
    ("stable-group", "a group is stable with a member of an older epoch", |story| {
        replace(story, &member("a", 2, [&[0], &[], &[0]]), &[member("a", 1, [&[0], &[], &[0]])]);
        replace(story, &committed("billing", Some("a"), 2), &[]);
    }),
    ("stable-group", "a partition is the target of two members", |story| {
        replace(story, &member("b", 2, [&[1], &[], &[1]]), &[member("b", 2, [&[1, 0], &[], &[1, 0]])]);
    }),
    ("commit-fencing", "a member that was removed commits", |story| {
        story.extend([gone("b"), committed("billing", Some("b"), 2)]);
    }),
    ("commit-fencing", "a member commits in an older epoch", |story| {
        story.push(committed("billing", Some("a"), 1));
    }),
    ("commit-fencing", "somebody commits for a group with members", |story| {
        story.push(committed("billing", None, -1));
    }),
    ("transaction-state", "a decision flips", |story| {
        let old = transaction("transfer", 50, 0, TransactionState::CompleteAbort, &[1]);
        replace(story, &old, &[transaction("transfer", 50, 0, TransactionState::CompleteCommit, &[1])]);
    }),
    ("transaction-state", "a partition leaves an open transaction", |story| {
        story.push(transaction("transfer", 50, 0, TransactionState::Ongoing, &[0, 1]));
        story.push(transaction("transfer", 50, 0, TransactionState::Ongoing, &[0]));
    }),
    ("producer-epochs", "a producer's epoch falls", |story| {
        story.push(transaction("transfer", 50, 1, TransactionState::Empty, &[]));
        story.push(transaction("transfer", 50, 0, TransactionState::Empty, &[]));
    }),
    ("producer-epochs", "two transactional ids share a producer id", |story| {
        story.push(transaction("refund", 50, 0, TransactionState::Empty, &[]));
    }),
    ("transaction-markers", "a marker is missing", |story| {
        replace(story, &marker(2, 6, true), &[]);
    }),
    ("transaction-markers", "a marker says the contrary", |story| {
        replace(story, &marker(2, 6, true), &[marker(2, 6, false)]);
    }),
    ("transaction-markers", "a deposed coordinator writes a marker", |story| {
        replace(story, &marker(7, 6, false), &[marker(7, 5, false)]);
    }),
    ("transaction-data", "data comes after the abort", |story| {
        story.push(stamped(8, stamp(50, 0, Some(4)), true));
    }),
    ("transaction-data", "a producer writes past its own transaction", |story| {
        replace(
            story,
            &stamped(5, stamp(50, 0, Some(3)), true),
            &[stamped(5, stamp(50, 0, Some(3)), true), stamped(6, stamp(50, 0, Some(4)), false)],
        );
        replace(story, &stamped(6, stamp(50, 0, None), true), &[]);
    }),
    ("committed-on-disk", "every disk forgets a committed record", |story| {
        story.push(Says(1, 1, appended(data(), 4, 1, 26, ReplicaRole::Follower)));
        let role = |node: i32| if node == 2 { ReplicaRole::Leader } else { ReplicaRole::Follower };
        let six =
            [(2, 0), (3, 0), (1, 1)].map(|(node, start)| Says(node, start, appended(data(), 5, 1, 27, role(node))));
        story.extend(six);
        story.push(Says(2, 0, watermark(data(), 1, 6, 6, ReplicaRole::Leader)));
    }),
    ("metadata-log-matching", "a voter has other bytes", |story| {
        let old = Says(101, 1, appended(META, 2, 2, 13, ReplicaRole::Follower));
        replace(story, &old, &[Says(101, 1, appended(META, 2, 2, 99, ReplicaRole::Follower))]);
    }),
];
