//! How much the nemesis may break at once, so that a lost quorum is a scenario's choice and not an accident.
//!
//! Within the budget a majority of the controllers hear each other, and never more brokers are away than every topic can
//! spare: replication factor less `min.insync.replicas`, but at least one, for a cluster that cannot lose a single broker
//! has nothing to show. Two rules more: a controller's disk is never wiped (a voter that forgets its vote may vote twice),
//! and losses of power count as simultaneous when they are less than 30 s apart, for so long may a record that every
//! in-sync replica acknowledged be in no more than their page caches.

use crate::file::{Budget, Scenario};
use broker_types::NodeId;
use std::collections::BTreeSet;

/// After this long a dirty page is durable by itself.
const WRITE_BACK_NANOS: u64 = 30_000_000_000;

/// Who a fault takes away.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Away {
    /// Nodes by id.
    pub nodes: BTreeSet<NodeId>,
    /// Brokers known only by a role, each perhaps any of them.
    pub some_brokers: u32,
    /// Controllers known only by a role.
    pub some_controllers: u32,
}

/// A fault that takes someone away for a while. Times are nanoseconds since the run's start; `to` is exclusive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Hold {
    pub from: u64,
    pub to: u64,
    pub away: Away,
    /// Whether page caches or disks are lost with it.
    pub loses_pages: bool,
}

impl Hold {
    fn overlaps(&self, other: &Hold) -> bool {
        let tail = if self.loses_pages && other.loses_pages { WRITE_BACK_NANOS } else { 0 };
        self.from < other.to.saturating_add(tail) && other.from < self.to.saturating_add(tail)
    }
}

/// What may be away at once, and what is.
pub(super) struct FaultBudget {
    brokers: BTreeSet<NodeId>,
    controllers: BTreeSet<NodeId>,
    broker_limit: usize,
    controller_limit: usize,
    /// Whether a broker's disk may be emptied: every topic has another replica.
    pub wipes: bool,
    unlimited: bool,
    holds: Vec<Hold>,
}

impl FaultBudget {
    pub fn of(scenario: &Scenario) -> FaultBudget {
        let brokers: BTreeSet<NodeId> = scenario.cluster.broker_ids().collect();
        let controllers: BTreeSet<NodeId> = scenario.cluster.controller_ids().collect();
        let setting =
            |config: &crate::file::Config| config.get("min.insync.replicas")?.to_string().trim().parse::<u32>().ok();
        let cluster_min = setting(&scenario.cluster.config).unwrap_or(1);
        let spare = |topic: &crate::file::Topic| {
            let min_isr = setting(&topic.config).unwrap_or(cluster_min);
            topic.replication_factor.saturating_sub(min_isr).max(1)
        };
        let most = u32::try_from(brokers.len()).unwrap_or(u32::MAX).saturating_sub(1).max(1);
        let broker_limit = scenario.topics.iter().map(spare).min().unwrap_or(1).min(most);
        FaultBudget {
            controller_limit: controllers.len().saturating_sub(1) / 2,
            broker_limit: usize::try_from(broker_limit).unwrap_or(usize::MAX),
            wipes: scenario.topics.iter().all(|topic| topic.replication_factor > 1),
            unlimited: scenario.run.budget == Budget::None,
            brokers,
            controllers,
            holds: Vec::new(),
        }
    }

    /// Whether anything goes.
    pub fn is_unlimited(&self) -> bool {
        self.unlimited
    }

    /// Whether the node is a controller, also in combined mode.
    pub fn is_controller(&self, node: NodeId) -> bool {
        self.controllers.contains(&node)
    }

    /// Whether the fault stays within the budget, and hits nobody who is away already.
    pub fn allows(&self, fault: &Hold) -> bool {
        let together: Vec<&Hold> = self.holds.iter().filter(|hold| hold.overlaps(fault)).collect();
        let already = |node| together.iter().any(|hold| hold.away.nodes.contains(node));
        if fault.away.nodes.iter().any(already) {
            return false;
        }
        if self.unlimited {
            return true;
        }
        // Faults that overlap this one need not overlap each other; counting all of them errs on the safe side.
        let mut nodes = fault.away.nodes.clone();
        let (mut some_brokers, mut some_controllers) = (fault.away.some_brokers, fault.away.some_controllers);
        for hold in together {
            nodes.extend(&hold.away.nodes);
            some_brokers += hold.away.some_brokers;
            some_controllers += hold.away.some_controllers;
        }
        if self.brokers == self.controllers {
            // Combined mode: any broker may be the active controller, and the other way round.
            some_brokers += some_controllers;
            some_controllers = some_brokers;
        }
        let count = |of: &BTreeSet<NodeId>, some: u32| {
            nodes.intersection(of).count() + usize::try_from(some).unwrap_or(usize::MAX)
        };
        let takes = |of: &BTreeSet<NodeId>, some: u32| some > 0 || fault.away.nodes.intersection(of).next().is_some();
        let combined = self.brokers == self.controllers;
        let (own_brokers, own_controllers) = (fault.away.some_brokers, fault.away.some_controllers);
        let touches_brokers = takes(&self.brokers, own_brokers) || (combined && own_controllers > 0);
        let touches_controllers = takes(&self.controllers, own_controllers) || (combined && own_brokers > 0);
        (!touches_brokers || count(&self.brokers, some_brokers) <= self.broker_limit)
            && (!touches_controllers || count(&self.controllers, some_controllers) <= self.controller_limit)
    }

    /// Remembers a fault, within the budget or not.
    pub fn take(&mut self, fault: Hold) {
        self.holds.push(fault);
    }
}
