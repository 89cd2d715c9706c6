//! B20: a group that commits an offset has been given what lies before it.
//!
//! Sessions of a group are those that were assigned something for it or committed for it. A group of which nobody was assigned
//! a partition nor polled it had its offset there set from outside. A member that seeks forward on purpose is accused: no
//! workload whose groups are to be judged does that.

use super::members::GroupView;
use crate::context::{Context, OffsetReset};
use crate::index::{Index, PartitionView, excuse};
use crate::registry::GROUP_DELIVERY;
use crate::verdict::CheckResult;
use broker_types::{Offset, TopicIdPartition};
use std::collections::BTreeSet;

/// `group-delivery`.
pub(crate) fn check(index: &Index<'_>, ctx: &Context) -> CheckResult {
    let mut result = CheckResult::of(GROUP_DELIVERY);
    for (name, group) in &index.groups {
        for partition in group.partitions(index) {
            if let Some(view) = index.partitions.get(&partition) {
                delivered(index, ctx, (name, group), (partition, view), &mut result);
            }
        }
    }
    result
}

fn delivered(
    index: &Index<'_>,
    ctx: &Context,
    (name, group): (&str, &GroupView),
    (partition, view): (TopicIdPartition, &PartitionView),
    result: &mut CheckResult,
) {
    let polls = view.polls.iter().filter(|at| group.sessions.contains(&index.op(**at).session));
    let polls: Vec<_> = polls.map(|at| index.poll(*at).1).collect();
    let is_assigned = group.assigns.iter().any(|at| index.assign(*at).partitions.contains(&partition));
    let from = match ctx.offset_reset {
        OffsetReset::Earliest if is_assigned || !polls.is_empty() => Some(Offset::ZERO),
        OffsetReset::Earliest => None,
        OffsetReset::Latest => polls.iter().map(|poll| poll.position).min(),
    };
    let Some((from, standing)) = from.zip(group.standing(index, partition)) else { return };
    let delivered: BTreeSet<_> =
        polls.iter().flat_map(|poll| &poll.records).filter_map(|read| Some((read.value?, read.offset))).collect();
    for at in &view.sends {
        let Some(offset) = index.acknowledged(*at).filter(|offset| (from..standing.offset).contains(offset)) else {
            continue;
        };
        result.opportunity(1);
        let (op, send) = index.send(*at);
        let anywhere = (send.value, Offset::ZERO)..=(send.value, Offset(i64::MAX));
        if delivered.range(anywhere).next().is_some() || index.may_be_compacted(ctx, partition, send.value, offset) {
            continue;
        }
        let trimmed = ctx.rules(partition).may_be_trimmed && offset < view.log_start;
        let reason = if trimmed { Some("trimmed") } else { excuse(ctx, partition, send.acks, op.invoked) };
        let time = op.returned.unwrap_or(op.invoked);
        result.find(GROUP_DELIVERY, ctx, reason, Some(time.0), || {
            let what =
                format!("group {name} stands at offset {}, and none of its sessions was given this", standing.offset);
            vec![what, index.tell_send(ctx, *at), index.tell(ctx, standing.by)]
        });
    }
}
