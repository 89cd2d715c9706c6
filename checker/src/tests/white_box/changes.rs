//! Replicas that come and go, snapshots and voters of the quorum, and what is taken out of a log on purpose.

use super::*;
use broker_types::QuorumSnapshot;

/// Partition 2, created with brokers 2 and 3: `[adding, removing, ELR, last known ELR]` come last.
fn standing(leader: Option<i32>, epochs: (i32, i32), isr: &[i32], replicas: &[i32], more: [&[i32]; 4]) -> Event {
    let [adding, removing, elr, last_known_elr] = more.map(nodes);
    let fact = Observation::PartitionChanged {
        partition: partition(2),
        leader: leader.map(NodeId),
        leader_epoch: LeaderEpoch(epochs.0),
        partition_epoch: PartitionEpoch(epochs.1),
        isr: nodes(isr),
        replicas: nodes(replicas),
        adding,
        removing,
        elr,
        last_known_elr,
        unclean: false,
    };
    Says(102, 0, fact)
}

/// Broker 4 comes in place of broker 3.
fn under_way() -> Event {
    standing(Some(2), (0, 1), &[2, 3], &[2, 4, 3], [&[4], &[3], &[], &[]])
}

fn moved() -> Event {
    standing(Some(2), (1, 2), &[2, 4], &[2, 4], [&[]; 4])
}

/// Broker 4 falls behind, and stays eligible.
fn below_min_isr() -> Event {
    standing(Some(2), (1, 3), &[2], &[2, 4], [&[], &[], &[4], &[]])
}

fn leaderless() -> Event {
    standing(None, (2, 4), &[], &[2, 4], [&[], &[], &[4, 2], &[]])
}

fn from_the_eligible() -> Event {
    standing(Some(4), (3, 5), &[4], &[2, 4], [&[], &[], &[2], &[]])
}

/// The story of partition 2.
pub(super) fn reassignment() -> Vec<Event> {
    let created = standing(Some(2), (0, 0), &[2, 3], &[2, 3], [&[]; 4]);
    vec![created, under_way(), moved(), below_min_isr(), leaderless(), from_the_eligible()]
}

fn snapshot(end: i64, epoch: i32, digest: u64) -> QuorumSnapshot {
    QuorumSnapshot { end: Offset(end), epoch: LeaderEpoch(epoch), digest }
}

fn takes(node: i32, end: i64, epoch: i32, digest: u64) -> Event {
    Says(node, 0, Observation::SnapshotTaken(snapshot(end, epoch, digest)))
}

fn loads(end: i64, epoch: i32, digest: u64) -> Event {
    Says(101, 1, Observation::SnapshotLoaded(snapshot(end, epoch, digest)))
}

fn begins_at(node: i32, start: i64) -> Event {
    Says(node, 0, Observation::LogStart { partition: META, log_start: Offset(start) })
}

fn voters(node: i32, offset: i64, voters: &[i32]) -> Event {
    Says(node, 0, Observation::VotersChanged { offset: Offset(offset), voters: nodes(voters) })
}

/// Voter 102, which leads, writes the record at `offset`, and 103 copies it; then it is committed.
fn written(offset: i64) -> [Event; 3] {
    use ReplicaRole::{Follower, Leader};
    let crc = 100 + offset as u32;
    [
        Says(102, 0, appended(META, offset, 2, crc, Leader)),
        Says(103, 0, appended(META, offset, 2, crc, Follower)),
        Says(102, 0, watermark(META, 2, offset + 1, offset + 1, Leader)),
    ]
}

/// Snapshots are taken and one is loaded; voter 101 leaves and joins again.
pub(super) fn quorum() -> Vec<Event> {
    let mut story = vec![
        Says(103, 0, watermark(META, 2, 4, 4, ReplicaRole::Follower)),
        takes(102, 3, 2, 77),
        takes(103, 3, 2, 77),
        begins_at(102, 3),
        loads(3, 2, 77),
    ];
    for (offset, after) in [(4, &[102, 103][..]), (5, &[101, 102, 103])] {
        let [appends, copies, commits] = written(offset);
        story.extend([appends, voters(102, offset, after), copies, commits]);
    }
    story
}

fn deletes(until: i64, active: i64) -> Event {
    let (from, until, active) = (Offset(0), Offset(until), Offset(active));
    Says(2, 0, Observation::SegmentsDeleted { partition: partition(1), from, until, active })
}

fn cleans(until: i64, active: i64) -> Event {
    let (until, active) = (Offset(until), Offset(active));
    Says(2, 0, Observation::Cleaned { partition: partition(1), until, active })
}

/// Broker 2 deletes a segment of partition 1 and cleans the next ones; its high watermark there is 6, its log ends at 8.
pub(super) fn cleanups() -> Vec<Event> {
    let committed = Says(2, 0, watermark(partition(1), 3, 6, 8, ReplicaRole::Leader));
    vec![committed, deletes(2, 5), cleans(4, 5)]
}

pub(super) const CHANGES: &[(&str, &str, Change)] = &[
    ("reassignment", "a broker becomes a replica that nobody called", |story| {
        let uncalled = standing(Some(2), (0, 1), &[2, 3], &[2, 4, 3], [&[], &[3], &[], &[]]);
        replace(story, &under_way(), &[uncalled]);
    }),
    ("reassignment", "a broker is to come and to go", |story| {
        let both = standing(Some(2), (0, 1), &[2, 3], &[2, 4, 3], [&[4], &[3, 4], &[], &[]]);
        replace(story, &under_way(), &[both]);
    }),
    ("reassignment", "a broker is to go that is no replica", |story| {
        let stranger = standing(Some(2), (0, 1), &[2, 3], &[2, 4, 3], [&[4], &[3, 9], &[], &[]]);
        replace(story, &under_way(), &[stranger]);
    }),
    ("reassignment", "a broker is to go that is no replica, and nobody comes", |story| {
        let stranger = standing(Some(2), (0, 1), &[2, 3], &[2, 3], [&[], &[9], &[], &[]]);
        replace(story, &under_way(), &[stranger]);
    }),
    ("reassignment", "it is taken back, and a replica that was to stay is gone", |story| {
        replace(story, &moved(), &[standing(Some(2), (1, 2), &[2], &[2], [&[]; 4])]);
    }),
    ("reassignment", "it ends before its target has caught up", |story| {
        replace(story, &moved(), &[standing(Some(2), (1, 2), &[2], &[2, 4], [&[]; 4])]);
    }),
    ("reassignment", "a replica goes within a leader epoch", |story| {
        replace(story, &moved(), &[standing(Some(2), (0, 2), &[2, 4], &[2, 4], [&[]; 4])]);
    }),
    ("eligible-leaders", "a stranger is eligible", |story| {
        replace(story, &below_min_isr(), &[standing(Some(2), (1, 3), &[2], &[2, 4], [&[], &[], &[9], &[]])]);
    }),
    ("eligible-leaders", "a member of the ISR is eligible as well", |story| {
        replace(story, &below_min_isr(), &[standing(Some(2), (1, 3), &[2], &[2, 4], [&[], &[], &[4, 2], &[]])]);
    }),
    ("eligible-leaders", "one becomes eligible that was not in the ISR", |story| {
        let late = standing(Some(2), (1, 4), &[2], &[2, 4], [&[], &[], &[4], &[]]);
        let alone = standing(Some(2), (1, 3), &[2], &[2, 4], [&[]; 4]);
        replace(story, &below_min_isr(), &[alone, late]);
        replace(story, &leaderless(), &[]);
        replace(story, &from_the_eligible(), &[]);
    }),
    ("eligible-leaders", "others stay eligible beside an ISR that is large enough", |story| {
        let idle = standing(Some(2), (1, 2), &[2, 4], &[2, 4, 3], [&[], &[], &[3], &[]]);
        replace(story, &moved(), &[idle]);
    }),
    ("eligible-leaders", "nobody knows who was last", |story| {
        replace(story, &leaderless(), &[standing(None, (2, 4), &[], &[2, 4], [&[]; 4])]);
    }),
    ("eligible-leaders", "a broker that lost power is registered again and stays eligible", |story| {
        story.extend([Lost(2, LossKind::PowerLoss), Says(102, 0, registered(2, 30))]);
        story.extend([1, 1, 1].map(|broker| Says(102, 0, unfenced(broker, 9))));
    }),
    ("clean-election", "a leader that is neither in the ISR nor eligible", |story| {
        replace(story, &from_the_eligible(), &[]);
        story.push(standing(Some(3), (3, 5), &[3], &[2, 4, 3], [&[3], &[], &[4, 2], &[]]));
    }),
    ("quorum-snapshot", "a snapshot of records that are not committed", |story| {
        replace(story, &takes(102, 3, 2, 77), &[takes(102, 3, 2, 77), takes(102, 5, 2, 78)]);
    }),
    ("quorum-snapshot", "a snapshot with another epoch than the log has", |story| {
        replace(story, &takes(102, 3, 2, 77), &[takes(102, 3, 2, 77), takes(102, 2, 2, 76)]);
    }),
    ("quorum-snapshot", "two snapshots of one end differ", |story| {
        replace(story, &takes(103, 3, 2, 77), &[takes(103, 3, 2, 99)]);
    }),
    ("quorum-snapshot", "a leader loads a snapshot", |story| {
        story.push(Says(102, 0, Observation::SnapshotLoaded(snapshot(3, 2, 77))));
    }),
    ("quorum-snapshot", "a voter loads a snapshot that nobody took", |story| {
        replace(story, &loads(3, 2, 77), &[loads(4, 2, 78)]);
    }),
    ("quorum-snapshot", "a log begins where no snapshot ends", |story| {
        replace(story, &begins_at(102, 3), &[begins_at(102, 2)]);
    }),
    ("voter-changes", "two voters leave at once", |story| {
        replace(story, &voters(102, 4, &[102, 103]), &[voters(102, 4, &[102])]);
    }),
    ("voter-changes", "the voters change again before the change is committed", |story| {
        let [_, _, commits] = written(4);
        replace(story, &commits, &[]);
    }),
    ("voter-changes", "a leader changes the voters before it has committed in its epoch", |story| {
        let commits = Says(102, 0, watermark(META, 2, 3, 3, ReplicaRole::Leader));
        replace(story, &commits, &[voters(102, 3, &[102, 103]), commits.clone()]);
    }),
    ("voter-changes", "a voter joins that has nothing", |story| {
        replace(story, &voters(102, 5, &[101, 102, 103]), &[voters(102, 5, &[102, 103, 104])]);
    }),
    ("voter-changes", "a voter that does not lead changes the voters", |story| {
        replace(story, &voters(102, 4, &[102, 103]), &[voters(103, 4, &[102, 103])]);
    }),
    ("deleted-segments", "retention deletes what is not committed", |story| {
        replace(story, &deletes(2, 5), &[deletes(7, 8)]);
    }),
    ("deleted-segments", "retention deletes the active segment", |story| {
        replace(story, &deletes(2, 5), &[deletes(5, 3)]);
    }),
    ("deleted-segments", "retention leaves something older", |story| {
        let (from, until, active) = (Offset(1), Offset(2), Offset(5));
        let later = Observation::SegmentsDeleted { partition: partition(1), from, until, active };
        replace(story, &deletes(2, 5), &[Says(2, 0, later)]);
    }),
    ("cleaned-range", "the cleaner rewrites what is not committed", |story| {
        replace(story, &cleans(4, 5), &[cleans(7, 8)]);
    }),
    ("cleaned-range", "the cleaner rewrites the active segment", |story| {
        replace(story, &cleans(4, 5), &[cleans(5, 4)]);
    }),
];

#[test]
fn a_reassignment_may_be_taken_back_and_another_may_take_its_place() {
    let created = standing(Some(2), (0, 0), &[2, 3], &[2, 3], [&[]; 4]);
    let back = standing(Some(2), (1, 2), &[2, 3], &[2, 3], [&[]; 4]);
    assert_eq!(fired(&judge(&[created.clone(), under_way(), back])), Vec::<&str>::new());
    let other = standing(Some(2), (1, 2), &[2, 3], &[2, 5, 3], [&[5], &[3], &[], &[]]);
    assert_eq!(fired(&judge(&[created, under_way(), other])), Vec::<&str>::new());
}

#[test]
fn without_eligible_leader_replicas_the_last_member_stays_in_the_isr() {
    let without = Context { elr: false, ..ctx() };
    let story = [changed(Some(1), 0, 0, &[1, 2, 3]), changed(None, 1, 1, &[])].map(|fact| Says(102, 0, fact));
    let results = tell(without, &story).finish(&EndState::default());
    assert_eq!(fired(&results), ["isr-of-replicas"], "{}", told(&results));
}

#[test]
fn a_change_of_voters_that_is_written_over_never_was() {
    let mut story = story();
    // 102 changes the voters in a record that nobody else gets; 103 is elected, and writes something else there.
    story.extend([
        Says(102, 0, appended(META, 6, 2, 206, ReplicaRole::Leader)),
        voters(102, 6, &[102, 103]),
        Says(101, 1, epoch(3)),
        Says(101, 1, votes(3, 103)),
        Says(103, 0, asks(2)),
        Says(103, 0, epoch(3)),
        Says(103, 0, votes(3, 103)),
        Says(103, 0, stands(3)),
        Says(103, 0, wins(3, 6)),
        Says(103, 0, appended(META, 6, 3, 207, ReplicaRole::Leader)),
        Says(102, 0, epoch(3)),
        Says(102, 0, names(3, 103)),
        Says(102, 0, truncated(META, 7, 6)),
        Says(102, 0, appended(META, 6, 3, 207, ReplicaRole::Follower)),
        Says(103, 0, watermark(META, 3, 7, 7, ReplicaRole::Leader)),
        voters(103, 7, &[102, 103]),
    ]);
    assert_eq!(fired(&judge(&story)), Vec::<&str>::new(), "{}", told(&judge(&story)));
}
