//! B18: the high watermark in a fetch's answer, as a read of the end of the log.

use crate::context::Context;
use crate::history::{Acks, Outcome, SimTime};
use crate::index::{Index, stale_high_watermark};
use crate::registry::STALE_POLL;
use crate::verdict::CheckResult;
use broker_types::Offset;

/// `stale-poll`. An empty answer alone proves nothing, for a broker may fill its answer with other partitions first; a
/// high watermark that is not past what acks=all had acknowledged before the fetch was sent does.
pub(crate) fn check(index: &Index<'_>, ctx: &Context) -> CheckResult {
    let mut result = CheckResult::of(STALE_POLL);
    for (partition, view) in &index.partitions {
        let mut acked: Vec<(SimTime, Offset, u32)> = Vec::new();
        for at in &view.sends {
            let (op, send) = index.send(*at);
            let still_there =
                view.final_end().is_none() || view.places(send.value).any(|seen| seen.read_finally.is_some());
            if let (Outcome::Ok, Acks::All, Some(offset), Some(returned), true) =
                (op.outcome, send.acks, send.offset, op.returned, still_there)
            {
                acked.push((returned, offset, *at));
            }
        }
        acked.sort_unstable();
        let mut acked = acked.into_iter().peekable();
        let mut highest: Option<(Offset, SimTime, u32)> = None;
        let mut polls = view.polls.clone();
        polls.sort_by_key(|at| index.op(*at).invoked);
        for at in polls {
            let (op, poll) = index.poll(at);
            while let Some((returned, offset, send)) = acked.next_if(|(returned, ..)| *returned < op.invoked) {
                highest = highest.max(Some((offset, returned, send)));
            }
            let (Some((offset, _, send)), Some(high_watermark), Some(returned)) =
                (highest, poll.high_watermark, op.returned)
            else {
                continue;
            };
            result.opportunity(1);
            if high_watermark <= offset {
                let reason = stale_high_watermark(ctx, *partition, op.invoked, returned);
                result.find(STALE_POLL, ctx, reason, Some(returned.0), || {
                    vec![index.tell_send(ctx, send), index.tell_poll(ctx, at)]
                });
            }
        }
    }
    result
}
