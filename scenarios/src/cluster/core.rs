//! Who is healed when a run's time is over: everybody, or a core that is enough to go on with.

use super::Cluster;
use broker_types::{NodeId, TopicIdPartition};
use rand_core::Rng;
use std::collections::BTreeSet;

/// The nodes that are left to go on when not more than `spare` brokers are given up: a majority of the quorum, and of each
/// partition a member of the ISR that stays in it. Which ones, the seed says.
#[must_use]
pub fn draw(cluster: &Cluster, spare: usize) -> BTreeSet<NodeId> {
    let mut rng = cluster.world.entropy("heal/core");
    let mut order: Vec<NodeId> = cluster.hosts.keys().copied().collect();
    for last in (1..order.len()).rev() {
        let chosen = (u128::from(rng.next_u64()) * (last as u128 + 1)) >> 64;
        order.swap(last, usize::try_from(chosen).unwrap_or(last));
    }
    // Of each of these groups one must go on.
    let needed: Vec<Vec<NodeId>> = cluster.shared.view(|view| {
        let data = view.partitions.iter().filter(|(id, _)| **id != TopicIdPartition::METADATA);
        // A broker that is down, or just back, leaves the ISR when that is noticed: only the last member stays.
        let counts = |node: &NodeId| {
            view.settled.contains(node)
                && view.unfenced.get(node).copied().unwrap_or(false)
                && cluster.world.is_up(cluster.hosts[node])
        };
        // Of members that count any one will do; where none does, nobody knows yet who will be the last, and all must.
        let needed = |isr: &[NodeId]| match isr.iter().copied().filter(counts).collect::<Vec<_>>() {
            none if none.is_empty() => isr.iter().map(|member| vec![*member]).collect(),
            some => vec![some],
        };
        data.flat_map(|(_, state)| needed(&state.isr)).collect()
    });
    let mut core: BTreeSet<NodeId> = order.iter().copied().collect();
    let mut brokers = spare;
    for node in order {
        let is_broker = node.0 <= 100;
        if is_broker && brokers == 0 {
            continue;
        }
        core.remove(&node);
        let voters = cluster.voters.iter().filter(|voter| core.contains(voter)).count();
        let serves = |group: &Vec<NodeId>| group.iter().any(|member| core.contains(member));
        if voters * 2 > cluster.voters.len() && needed.iter().all(serves) {
            brokers -= usize::from(is_broker);
        } else {
            core.insert(node);
        }
    }
    core
}
