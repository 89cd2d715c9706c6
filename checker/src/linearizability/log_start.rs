//! L4: where a log begins, as polls were told it.

use crate::context::Context;
use crate::history::SimTime;
use crate::index::Index;
use crate::registry::LOG_START;
use crate::verdict::CheckResult;
use broker_types::{NodeId, Offset};
use std::collections::BTreeMap;

/// `l4-log-start`. A broker keeps the log start in memory and writes it down now and then, so a restart may bring back one
/// from before; but with the restart comes another leader epoch.
pub(crate) fn check(index: &Index<'_>, ctx: &Context) -> CheckResult {
    let mut result = CheckResult::of(LOG_START);
    for (partition, view) in &index.partitions {
        // By broker: polls with what they were told, in order of their returns.
        let mut returned: Vec<(SimTime, NodeId, Offset, u32)> = Vec::new();
        for at in &view.polls {
            let (op, poll) = index.poll(*at);
            if let (Some(time), Some(start)) = (op.returned, poll.log_start) {
                returned.push((time, poll.broker, start, *at));
            }
        }
        returned.sort_unstable();
        let mut returned = returned.into_iter().peekable();
        let mut highest: BTreeMap<NodeId, (Offset, u32)> = BTreeMap::new();
        let mut polls = view.polls.clone();
        polls.sort_by_key(|at| index.op(*at).invoked);
        for at in &polls {
            let (op, poll) = index.poll(*at);
            let Some(start) = poll.log_start else { continue };
            while let Some((_, broker, start, poll)) = returned.next_if(|(time, ..)| *time < op.invoked) {
                let highest = highest.entry(broker).or_insert((start, poll));
                *highest = (*highest).max((start, poll));
            }
            let time = op.returned.unwrap_or(op.invoked).0;
            if let Some(high_watermark) = poll.high_watermark {
                result.opportunity(1);
                if start > high_watermark {
                    let what = format!("the log starts at {start}, past its high watermark {high_watermark}");
                    result.find(LOG_START, ctx, None, Some(time), || vec![what, index.tell_poll(ctx, *at)]);
                }
            }
            let Some((before, earlier)) = highest.get(&poll.broker).copied() else { continue };
            result.opportunity(1);
            if start < before {
                let is_restarted = index.poll(earlier).1.leader_epoch != poll.leader_epoch;
                let reason =
                    (is_restarted && ctx.rules(*partition).may_be_trimmed).then_some("log-start-from-checkpoint");
                result.find(LOG_START, ctx, reason, Some(time), || {
                    let what = format!("the log started at {before}, and later at {start} on the same broker");
                    vec![what, index.tell_poll(ctx, earlier), index.tell_poll(ctx, *at)]
                });
            }
        }
    }
    result
}
