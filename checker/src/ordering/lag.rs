//! B21: how long records lay there before anybody who reads on asked for them. A measure, not a check: it breaks no promise.

use crate::history::{History, OpKind, Outcome, SessionId, SimTime};
use broker_types::{Offset, TopicIdPartition};
use std::collections::BTreeMap;

/// The poll that came the longest after what it asked for was known to be there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RealtimeLag {
    /// Of which partition.
    pub partition: TopicIdPartition,
    /// Who polled.
    pub session: SessionId,
    /// The next offset that it wanted.
    pub offset: Offset,
    /// When somebody first knew of a record there or further: it was acknowledged, or a high watermark past it was told.
    pub known: SimTime,
    /// When the poll was sent.
    pub polled: SimTime,
}

impl RealtimeLag {
    /// Nanoseconds from the one to the other.
    #[must_use]
    pub fn ns(&self) -> u64 {
        self.polled.0.saturating_sub(self.known.0)
    }
}

/// The worst of a history; `None` when no poll came after what it wanted was known. Final reads do not count, nor what a session
/// reads first after it was given a position.
#[must_use]
pub fn realtime_lag(history: &History) -> Option<RealtimeLag> {
    // By partition: what was known when, as the offset after it; and who asked for what.
    let mut known: BTreeMap<TopicIdPartition, Vec<(SimTime, Offset)>> = BTreeMap::new();
    let mut polls = Vec::new();
    for op in history.ops.iter().filter(|op| op.outcome == Outcome::Ok) {
        let Some(returned) = op.returned else { continue };
        match &op.kind {
            OpKind::Send(send) => {
                if let Some(offset) = send.offset {
                    known.entry(send.partition).or_default().push((returned, Offset(offset.0.saturating_add(1))));
                }
            }
            OpKind::Poll(poll) => {
                if let Some(end) = poll.high_watermark {
                    known.entry(poll.partition).or_default().push((returned, end));
                }
                if !poll.is_final && !poll.after_seek {
                    polls.push((op.invoked, op.session, poll.partition, poll.position));
                }
            }
            _ => {}
        }
    }
    for ends in known.values_mut() {
        ends.sort_unstable();
        let mut furthest = Offset(i64::MIN);
        ends.retain(|(_, end)| {
            let is_further = *end > furthest;
            furthest = furthest.max(*end);
            is_further
        });
    }
    let lags = polls.into_iter().filter_map(|(polled, session, partition, offset)| {
        let ends = known.get(&partition)?;
        let (known, _) = *ends.get(ends.partition_point(|(_, end)| *end <= offset))?;
        (known < polled).then_some(RealtimeLag { partition, session, offset, known, polled })
    });
    lags.max_by_key(|lag| (lag.ns(), std::cmp::Reverse((lag.polled, lag.session))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Acks, Isolation, Op, OpId, OpKind, Poll};
    use crate::tests::reference::{partition, sent};
    use broker_types::NodeId;

    fn op(session: u32, (invoked, returned): (u64, u64), kind: OpKind) -> Op {
        let (invoked, returned) = (SimTime(invoked), Some(SimTime(returned)));
        Op { id: OpId(invoked.0), session: SessionId(session), invoked, returned, outcome: Outcome::Ok, kind }
    }

    fn acked(offset: i64, at: u64) -> Op {
        let send = crate::history::Send {
            acks: Acks::All,
            offset: Some(Offset(offset)),
            ..sent(0, crate::history::ValueId(offset as u64))
        };
        op(1, (at - 1, at), OpKind::Send(send))
    }

    fn poll(position: i64) -> Poll {
        Poll {
            partition: partition(0),
            position: Offset(position),
            next_position: Offset(position),
            records: Vec::new(),
            high_watermark: None,
            last_stable: None,
            log_start: None,
            leader_epoch: None,
            broker: NodeId(1),
            isolation: Isolation::ReadUncommitted,
            is_final: false,
            after_seek: false,
        }
    }

    fn polls(session: u32, position: i64, at: u64) -> Op {
        op(session, (at, at + 1), OpKind::Poll(poll(position)))
    }

    #[test]
    fn the_worst_is_the_poll_that_came_the_longest_after_what_it_wanted_was_known() {
        // Offset 2 was acknowledged before 1 was: then 1 is known to be there.
        let ops = vec![acked(0, 10), acked(2, 20), acked(1, 90), polls(5, 0, 40), polls(6, 1, 60), polls(5, 2, 55)];
        let history = History { ops };
        let lag = realtime_lag(&history).expect("three polls were behind");
        let judged = crate::judge_text(&crate::write_history(&history), &crate::Options::default());
        assert_eq!(judged.expect("it was just written").lag, Some(lag));
        assert_eq!(
            (lag.session, lag.offset, lag.known, lag.polled),
            (SessionId(6), Offset(1), SimTime(20), SimTime(60))
        );
        assert_eq!(lag.ns(), 40);
    }

    #[test]
    fn a_told_high_watermark_makes_known_what_lies_below_it() {
        let mut told = poll(0);
        told.high_watermark = Some(Offset(3));
        let ops = vec![op(5, (9, 10), OpKind::Poll(told)), polls(6, 2, 30), polls(7, 3, 99)];
        let lag = realtime_lag(&History { ops }).expect("offset 2 was known to be there");
        assert_eq!((lag.session, lag.ns()), (SessionId(6), 20));
    }

    #[test]
    fn nobody_is_behind_who_asks_in_time_or_begins_or_reads_at_the_end() {
        let (mut begins, mut ends) = (poll(0), poll(0));
        (begins.after_seek, ends.is_final) = (true, true);
        let mut ops = vec![acked(0, 10), polls(5, 0, 10), polls(5, 1, 90)];
        ops.extend([op(6, (50, 51), OpKind::Poll(begins)), op(7, (60, 61), OpKind::Poll(ends))]);
        assert_eq!(realtime_lag(&History { ops }), None);
    }
}
