//! Eligible leader replicas (KIP-966): those that left the ISR when it fell below `min.insync.replicas`, and have all of it.

use crate::context::{Context, seconds};
use crate::findings::Findings;
use crate::history::SimTime;
use crate::isr::registration::{Registration, Step};
use crate::registry::ELIGIBLE_LEADERS;
use broker_types::{NodeId, TopicIdPartition};

/// W-R4, the half about them, and W-R20: one step of a registration.
pub(super) fn check(step: &Step<'_>, out: &mut Findings) {
    let (ctx, new) = (step.ctx, step.new);
    if !ctx.elr {
        return;
    }
    out.opportunity(ELIGIBLE_LEADERS, 1);
    let min_isr = (ctx.rules(step.partition).min_isr.max(1) as usize).min(new.replicas.len());
    let was_there = |node: &NodeId| step.old.is_none_or(|old| old.isr.contains(node) || old.elr.contains(node));
    let find = |wrong: &dyn Fn(&&NodeId) -> bool| new.elr.iter().find(wrong).map(|node| ctx.node_name(*node));
    let wrong = if let Some(node) = find(&|node| !new.replicas.contains(node)) {
        format!("{node} is eligible and no replica")
    } else if let Some(node) = find(&|node| new.isr.contains(node)) {
        format!("{node} is eligible and in the ISR")
    } else if let Some(node) = find(&|node| !was_there(node)) {
        format!("{node} became eligible, and was not in the ISR")
    } else if new.isr.len() >= min_isr && !new.elr.is_empty() {
        format!("the ISR has its {min_isr} members and others are eligible")
    } else if new.isr.is_empty() && new.elr.is_empty() && new.last_known_elr.is_empty() {
        "nobody is in the ISR nor eligible, and nobody known who was last".to_owned()
    } else {
        return;
    };
    out.find(ELIGIBLE_LEADERS, ctx, None, Some(step.at), || step.tell(&wrong));
}

/// W-R19: a broker that lost power is in no ISR, and not eligible, until it has caught up again.
pub(super) fn check_unclean(
    ctx: &Context,
    out: &mut Findings,
    (partition, known): (TopicIdPartition, &Registration),
    broker: NodeId,
    at: SimTime,
) {
    out.opportunity(ELIGIBLE_LEADERS, 1);
    if known.isr.contains(&broker) || known.elr.contains(&broker) {
        out.find(ELIGIBLE_LEADERS, ctx, None, Some(at), || {
            let (name, node, at) = (ctx.partition_name(partition), ctx.node_name(broker), seconds(at));
            vec![
                format!("{name}: {node} was registered at {at} after it had lost power, and is still there"),
                known.tell(ctx),
            ]
        });
    }
}

/// Without an ISR an eligible replica may lead; without those, too, the one that led last.
pub(super) fn may_lead(ctx: &Context, old: &Registration, leader: NodeId) -> bool {
    let nobody = old.isr.is_empty() && old.elr.is_empty();
    ctx.elr && (old.elr.contains(&leader) || nobody && old.last_known_elr.contains(&leader))
}
