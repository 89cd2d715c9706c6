//! Small histories with the words they are refused in.

mod answers;
mod boundaries;
mod cluster;
mod groups;
mod rows;

use super::reference::{digest, partition, sent};
use super::{fired, told};
use crate::context::{Allowed, Context, Excuse, ExcuseKind, PartitionRules};
use crate::history::*;
use crate::{CheckOutcome, Progress, Verdict, judge, verdict};
use broker_types::{LeaderEpoch, NodeId, Offset};

/// Writes a history down, one operation a millisecond.
struct Story {
    history: History,
    now: u64,
}

impl Story {
    fn new() -> Self {
        Story { history: History::default(), now: 0 }
    }

    fn op(mut self, session: u32, outcome: Outcome, kind: OpKind) -> Self {
        self.now += 2_000_000;
        let (id, invoked) = (OpId(self.history.ops.len() as u64), SimTime(self.now));
        let returned = Some(SimTime(self.now + 1_000_000));
        self.history.ops.push(Op { id, session: SessionId(session), invoked, returned, outcome, kind });
        self
    }

    fn send(self, session: u32, acks: Acks, value: u64, offset: i64) -> Self {
        let (value, idempotent) = (ValueId(value), acks == Acks::All);
        let offset = Some(Offset(offset));
        let send = Send { acks, idempotent, offset, ..sent(0, value) };
        self.op(session, Outcome::Ok, OpKind::Send(send))
    }

    fn reads(self, session: u32, position: i64, values: &[u64], is_final: bool) -> Self {
        let end = position + values.len() as i64;
        let read = |(offset, value): (i64, &u64)| {
            let value = ValueId(*value);
            Read {
                offset: Offset(offset),
                value: Some(value),
                digest: digest(value),
                leader_epoch: Some(LeaderEpoch(0)),
            }
        };
        let poll = Poll {
            partition: partition(0),
            position: Offset(position),
            next_position: Offset(end),
            records: (position..).zip(values).map(read).collect(),
            high_watermark: Some(Offset(end)),
            last_stable: Some(Offset(end)),
            log_start: Some(Offset(0)),
            leader_epoch: Some(LeaderEpoch(0)),
            broker: NodeId(1),
            isolation: Isolation::ReadUncommitted,
            is_final,
            after_seek: position == 0,
        };
        self.op(session, Outcome::Ok, OpKind::Poll(poll))
    }

    fn ctx(excuses: &[Excuse]) -> Context {
        Context {
            defaults: PartitionRules { min_isr: 2, replication_factor: 3, ..PartitionRules::default() },
            topics: [(partition(0).topic, "orders".to_owned())].into(),
            nodes: [(NodeId(1), "broker-1".to_owned())].into(),
            excuses: Some([(partition(0), excuses.to_vec())].into()),
            final_reads_reached_end: [partition(0)].into(),
            ..Context::default()
        }
    }
}

fn power_loss_at(ms: u64) -> Excuse {
    let at = SimTime(ms * 1_000_000);
    Excuse { kind: ExcuseKind::LeaderPowerLoss, at, until: Some(at) }
}

/// The leader acknowledged values 2 and 3 with acks=1 and lost power; the next leader never had them, and wrote value 4
/// where value 2 had been.
fn leader_loses_power(acks: Acks) -> History {
    Story::new()
        .send(1, Acks::All, 1, 0)
        .send(2, acks, 2, 1)
        .send(2, acks, 3, 2)
        .send(3, Acks::All, 4, 1)
        .reads(9, 0, &[1, 4], true)
        .history
}

#[test]
fn a_record_lost_with_acks_1_is_counted_under_its_reason() {
    let results = judge(&leader_loses_power(Acks::Leader), &Story::ctx(&[power_loss_at(7)]));
    assert_eq!(fired(&results), Vec::<&str>::new(), "{}", told(&results));
    let by_id = |id: &str| results.iter().find(|result| result.id == id).expect("every check tells");
    assert_eq!(by_id("lost-write").allowed, [("acks-1-power-loss".to_owned(), 1)].into());
    assert_eq!(by_id("unseen").allowed, [("acks-1-power-loss".to_owned(), 1)].into());
    assert_eq!(by_id("inconsistent-offset").allowed, [("acks-1-power-loss".to_owned(), 1)].into());
}

#[test]
fn a_run_that_allows_no_loss_names_the_lost_record() {
    let ctx = Context { allowed: Allowed::None, ..Story::ctx(&[power_loss_at(7)]) };
    let results = judge(&leader_loses_power(Acks::Leader), &ctx);
    insta::assert_snapshot!("acks_1_with_nothing_allowed", told(&results));
}

#[test]
fn a_leader_change_excuses_acks_1_and_not_acks_all() {
    let change = Excuse { kind: ExcuseKind::LeaderChange, ..power_loss_at(7) };
    assert_eq!(fired(&judge(&leader_loses_power(Acks::Leader), &Story::ctx(&[change]))), Vec::<&str>::new());
    let results = judge(&leader_loses_power(Acks::All), &Story::ctx(&[change]));
    insta::assert_snapshot!("acks_all_lost", told(&results));
}

#[test]
fn a_loss_excuses_only_what_was_sent_before_it_ended() {
    let results = judge(&leader_loses_power(Acks::Leader), &Story::ctx(&[power_loss_at(1)]));
    assert_eq!(fired(&results), ["lost-write", "unseen", "inconsistent-offset", "l1-append-order"]);
}

#[test]
fn a_loss_beyond_the_budget_is_no_violation_of_acks_all() {
    let beyond = Excuse { kind: ExcuseKind::LossBeyondBudget, ..power_loss_at(7) };
    let results = judge(&leader_loses_power(Acks::All), &Story::ctx(&[beyond]));
    assert_eq!(fired(&results), Vec::<&str>::new(), "{}", told(&results));
    assert_eq!(results[0].allowed, [("loss-beyond-budget".to_owned(), 1)].into());
}

#[test]
fn an_unclean_election_excuses_only_where_it_is_configured() {
    let unclean = Excuse { kind: ExcuseKind::UncleanElection, ..power_loss_at(7) };
    let mut ctx = Story::ctx(&[unclean]);
    assert!(fired(&judge(&leader_loses_power(Acks::All), &ctx)).contains(&"lost-write"));
    ctx.defaults.unclean_election = true;
    assert_eq!(fired(&judge(&leader_loses_power(Acks::All), &ctx)), Vec::<&str>::new());
}

#[test]
fn a_consumer_that_starts_in_the_middle_proves_no_loss() {
    let history = Story::new().send(1, Acks::All, 1, 0).send(1, Acks::All, 2, 1).reads(9, 1, &[2], false).history;
    let ctx = Context { final_reads_reached_end: [].into(), ..Story::ctx(&[]) };
    let results = judge(&history, &ctx);
    assert_eq!(fired(&results), Vec::<&str>::new(), "{}", told(&results));
    let lost = &results[0];
    assert_eq!((lost.id.as_str(), lost.opportunities), ("lost-write", 1), "only the record that it passed counts");
}

#[test]
fn a_tail_that_nobody_can_read_is_unseen() {
    let history = Story::new().send(1, Acks::All, 1, 0).send(1, Acks::All, 2, 1).reads(9, 0, &[1], true).history;
    assert_eq!(fired(&judge(&history, &Story::ctx(&[]))), ["unseen"]);
}

#[test]
fn an_end_offset_that_goes_back_is_refused_unless_its_leader_was_deposed() {
    let tail = |end| {
        let (broker, leader_epoch) = (NodeId(1), Some(LeaderEpoch(0)));
        OpKind::TailRead(TailRead { partition: partition(0), end: Offset(end), broker, leader_epoch })
    };
    let story = Story::new().send(1, Acks::All, 1, 0).op(5, Outcome::Ok, tail(1)).op(5, Outcome::Ok, tail(0));
    let history = story.reads(9, 0, &[1], true).history;
    assert_eq!(fired(&judge(&history, &Story::ctx(&[]))), ["l2-end-reads", "l3-end-monotone"]);
    let deposed = Excuse { kind: ExcuseKind::LeaderChange, at: SimTime(0), until: None };
    let results = judge(&history, &Story::ctx(&[deposed]));
    assert_eq!(fired(&results), Vec::<&str>::new());
    let order = results.iter().find(|result| result.id == "l3-end-monotone").expect("every check tells");
    assert_eq!(order.allowed, [("stale-leader".to_owned(), 1)].into());
}

#[test]
fn a_leader_that_was_elected_again_may_tell_a_fetch_too_little_but_loses_nothing_and_tells_no_end() {
    let recovering = Excuse { kind: ExcuseKind::HighWatermarkRecovering, at: SimTime(0), until: None };
    let acked = || Story::new().send(1, Acks::All, 1, 0);
    let refused = |history: Story, excuses: &[Excuse]| {
        let history = history.reads(9, 0, &[1], true).history;
        fired(&judge(&history, &Story::ctx(excuses))).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let poll = || acked().reads(5, 0, &[], false);
    assert_eq!(refused(poll(), &[]), ["stale-poll"]);
    assert_eq!(refused(poll(), &[recovering]), Vec::<&str>::new());
    let (broker, leader_epoch) = (NodeId(1), Some(LeaderEpoch(0)));
    let tail = OpKind::TailRead(TailRead { partition: partition(0), end: Offset(0), broker, leader_epoch });
    assert_eq!(refused(acked().op(5, Outcome::Ok, tail), &[recovering]), ["l2-end-reads"]);
    let lost = judge(&leader_loses_power(Acks::Leader), &Story::ctx(&[recovering]));
    assert_eq!(fired(&lost), ["lost-write", "unseen", "inconsistent-offset", "l1-append-order"]);
}

#[test]
fn a_violation_wins_and_idleness_is_never_a_pass() {
    let results = judge(&leader_loses_power(Acks::All), &Story::ctx(&[]));
    let busy = Progress { acked: 4, read: 2, produces: true, consumes: true, ..Progress::default() };
    let (found, reasons) = verdict(&results, &Progress { stuck: Some("no event left".to_owned()), ..busy.clone() });
    assert_eq!(found, Verdict::Violation);
    assert!(reasons[0].starts_with("lost-write: An acknowledged record"), "{reasons:?}");

    let clean = judge(&Story::new().send(1, Acks::All, 1, 0).reads(9, 0, &[1], true).history, &Story::ctx(&[]));
    assert_eq!(verdict(&clean, &busy), (Verdict::Pass, Vec::new()));
    let (found, reasons) = verdict(&clean, &Progress { acked: 0, ..busy.clone() });
    assert_eq!((found, reasons), (Verdict::Inconclusive, vec!["no record was acknowledged".to_owned()]));
    for incomplete in [
        Progress { read: 0, ..busy.clone() },
        Progress { stuck: Some("no event left".to_owned()), ..busy.clone() },
        Progress { missing_marks: vec!["leader-elected".to_owned()], ..busy.clone() },
        Progress { faults_without_effect: vec!["crash of broker-1".to_owned()], ..busy.clone() },
    ] {
        assert_eq!(verdict(&clean, &incomplete).0, Verdict::Inconclusive, "{incomplete:?}");
    }
    let mut unknown = clean;
    unknown[0].outcome = CheckOutcome::Unknown;
    assert_eq!(verdict(&unknown, &busy).0, Verdict::Inconclusive);
    assert_eq!(verdict(&judge(&History::default(), &Story::ctx(&[])), &Progress::default()).0, Verdict::Inconclusive);
}
