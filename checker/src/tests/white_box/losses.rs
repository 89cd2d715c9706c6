//! Power losses, elections that lose, and what bounds the judge's knowledge.

use super::*;

/// All of the ISR loses power at once, and what was committed goes with it.
fn power_loss_of_all(nodes: &[i32]) -> Vec<Event> {
    let mut story = story();
    story.extend(nodes.iter().map(|node| Lost(*node, LossKind::PowerLoss)));
    story.extend([
        Says(102, 0, changed(None, 2, 3, &[2, 3, 1])),
        Says(102, 0, changed(Some(3), 3, 4, &[2, 3])),
        Says(3, 1, loaded(1)),
        Says(3, 1, leads(3, 1, &[2, 3])),
        Says(3, 1, appended(data(), 1, 3, 40, ReplicaRole::Leader)),
        Says(3, 1, watermark(data(), 3, 2, 2, ReplicaRole::Leader)),
    ]);
    story
}

#[test]
fn a_power_loss_of_the_whole_isr_is_beyond_the_budget() {
    let results = tell(ctx(), &power_loss_of_all(&[1, 2, 3])).finish(&EndState::default());
    assert_eq!(fired(&results), Vec::<&str>::new(), "{}", told(&results));
    let completeness = results.iter().find(|result| result.id == "leader-completeness").expect("every check tells");
    assert_eq!(completeness.allowed, [("loss-beyond-budget".to_owned(), 1)].into());
    let excuses = &tell(ctx(), &power_loss_of_all(&[1, 2, 3])).excuses()[&data()];
    assert!(excuses.iter().any(|excuse| excuse.kind == ExcuseKind::LossBeyondBudget), "{excuses:?}");
}

#[test]
fn a_power_loss_of_one_member_pays_for_nothing() {
    assert_eq!(
        fired(&tell(ctx(), &power_loss_of_all(&[3])).finish(&EndState::default())),
        ["leader-completeness", "high-watermark"]
    );
}

#[test]
fn a_budget_that_was_exceeded_is_whole_again_once_the_member_has_rejoined() {
    // With min.insync.replicas = 1 any loss of a member is one too many.
    let mut story = story();
    story.extend([
        Lost(3, LossKind::PowerLoss),
        Says(102, 0, changed(Some(2), 1, 3, &[2, 1])),
        Says(3, 1, loaded(5)),
        Says(102, 0, changed(Some(2), 1, 4, &[2, 1, 3])),
    ]);
    let mut lone = ctx();
    lone.defaults.min_isr = 1;
    let excuses = &tell(lone, &story).excuses()[&data()];
    let beyond: Vec<_> = excuses.iter().filter(|excuse| excuse.kind == ExcuseKind::LossBeyondBudget).collect();
    assert!(!beyond.is_empty() && beyond.iter().all(|excuse| excuse.until.is_some()), "{excuses:?}");
}

/// Broker 2 leads and writes offset 5, which it does not live to tell; as leader again it goes on with sequence number 6.
fn untold(then: &[Event]) -> Vec<Event> {
    let mut story = story();
    story.extend([
        Down(2),
        Says(102, 0, changed(None, 2, 3, &[2])),
        Says(102, 0, changed(Some(2), 3, 4, &[2])),
        Says(2, 1, loaded(6)),
        Says(2, 1, leads(3, 6, &[2])),
    ]);
    story.extend_from_slice(then);
    story
}

#[test]
fn a_batch_that_a_crash_kept_from_being_told_is_no_gap_in_its_producers_sequence() {
    let goes_on = |node: i32, start: u32| Says(node, start, appended(data(), 6, 3, 31, ReplicaRole::Leader));
    let fires = |story: &[Event]| fired(&judge(story)).contains(&"producer-sequence");
    assert!(!fires(&untold(&[goes_on(2, 1)])), "nobody knows what offset 5 holds");
    // A follower tells, by copying it, and leads then.
    let copied = Says(3, 0, appended(data(), 5, 1, 30, ReplicaRole::Follower));
    let leads_now = Says(3, 0, leads(3, 6, &[3]));
    assert!(!fires(&untold(&[copied, leads_now.clone(), goes_on(3, 0)])));
    // What it copied is of another producer: then sequence number 5 is missing.
    let mut other = appended(data(), 5, 1, 30, ReplicaRole::Follower);
    if let Observation::Appended { producer, .. } = &mut other {
        *producer = Some(stamp(9, 0, Some(0)));
    }
    assert!(fires(&untold(&[Says(3, 0, other), leads_now, goes_on(3, 0)])));
}

#[test]
fn what_is_flushed_before_it_is_acknowledged_survives_any_power_loss() {
    let mut flushed = ctx();
    flushed.defaults.flush_before_ack = true;
    let results = tell(flushed, &power_loss_of_all(&[1, 2, 3])).finish(&EndState::default());
    assert_eq!(fired(&results), ["leader-completeness", "committed-truncated"]);
}

#[test]
fn an_unclean_election_counts_where_it_is_configured() {
    let mut story = story();
    story.extend([
        Says(102, 0, changed(Some(2), 1, 3, &[2])),
        Down(2),
        Says(102, 0, changed(Some(1), 2, 4, &[1])),
        Says(1, 1, truncated(data(), 4, 3)),
        Says(1, 1, leads(2, 3, &[1])),
    ]);
    let mut unclean = ctx();
    unclean.defaults.unclean_election = true;
    let results = tell(unclean, &story).finish(&EndState::default());
    assert_eq!(fired(&results), Vec::<&str>::new(), "{}", told(&results));
    for check in ["clean-election", "leader-completeness"] {
        let result = results.iter().find(|result| result.id == check).expect("every check tells");
        assert_eq!(result.allowed, [("unclean-election".to_owned(), 1)].into(), "{check}");
    }
    assert_eq!(fired(&judge(&story)), ["leader-completeness", "committed-truncated", "clean-election"]);
}

#[test]
fn more_batches_than_the_budget_pays_for_are_unknown_and_no_pass() {
    let small = Context { max_batches: 3, ..ctx() };
    let results = tell(small, &story()).finish(&EndState::default());
    let matching = results.iter().find(|result| result.id == "log-matching").expect("every check tells");
    assert_eq!(matching.outcome, CheckOutcome::Unknown);
}

#[test]
fn what_the_disk_holds_at_the_end_is_what_was_written() {
    let end = |crc: u32| {
        let mut end = disk();
        end.partitions[0].replicas[0].batches[0].crc = crc;
        end
    };
    assert_eq!(fired(&tell(ctx(), &story()).finish(&end(20))), Vec::<&str>::new());
    assert_eq!(fired(&tell(ctx(), &story()).finish(&end(77))), ["log-matching"]);
}
