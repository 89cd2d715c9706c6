//! W-R24: a partition on its way from some replicas to others.

use crate::findings::Findings;
use crate::isr::registration::{Registration, Step};
use crate::registry::REASSIGNMENT;
use broker_types::NodeId;

/// One step of a registration, if replicas come or go by it.
pub(super) fn check(step: &Step<'_>, out: &mut Findings) {
    let (ctx, new) = (step.ctx, step.new);
    let (gained, dropped) = step.old.map_or_else(Default::default, |old| {
        (without(&new.replicas, &old.replicas), without(&old.replicas, &new.replicas))
    });
    let was = step.old.filter(|old| old.is_reassigning());
    if was.is_none() && !new.is_reassigning() && gained.is_empty() && dropped.is_empty() {
        return;
    }
    out.opportunity(REASSIGNMENT, 1);
    let strangers = || without(&[&new.adding[..], &new.removing[..]].concat(), &new.replicas);
    let both = || new.adding.iter().find(|node| new.removing.contains(node)).copied();
    let uncalled = || without(&gained, &new.adding);
    let wrong = if let Some(stranger) = strangers().first() {
        format!("{} is to come or to go, and is no replica", ctx.node_name(*stranger))
    } else if let Some(node) = both() {
        format!("{} is to come and to go", ctx.node_name(node))
    } else if let Some(node) = uncalled().first() {
        format!("{} became a replica that no reassignment brings", ctx.node_name(*node))
    } else if step.old.is_some_and(|old| !dropped.is_empty() && old.leader_epoch == new.leader_epoch) {
        format!("{} is no replica any more, in the same leader epoch", ctx.node_names(&dropped))
    } else if was.is_some_and(|old| !new.is_reassigning() && !has_ended(old, new) && !step.unclean) {
        "the reassignment ended, and neither are all its targets in the ISR nor is it all as it was".to_owned()
    } else {
        return;
    };
    out.find(REASSIGNMENT, ctx, None, Some(step.at), || step.tell(&wrong));
}

/// A reassignment ends when all of its targets are in the ISR, or is taken back.
fn has_ended(old: &Registration, new: &Registration) -> bool {
    let targets = without(&old.replicas, &old.removing);
    let is_done = same(&new.replicas, &targets) && without(&targets, &new.isr).is_empty();
    is_done || same(&new.replicas, &without(&old.replicas, &old.adding))
}

fn without(nodes: &[NodeId], others: &[NodeId]) -> Vec<NodeId> {
    nodes.iter().filter(|node| !others.contains(node)).copied().collect()
}

fn same(nodes: &[NodeId], others: &[NodeId]) -> bool {
    without(nodes, others).is_empty() && without(others, nodes).is_empty()
}
