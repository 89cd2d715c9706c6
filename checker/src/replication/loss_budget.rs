//! How much may be lost before a guarantee ends.
//!
//! A committed record survives while fewer members of the ISR than `min.insync.replicas` have lost bytes since they were
//! last known to be whole, and no unclean election took place (KIP-966, section on durability). Without eligible leader
//! replicas the budget is nothing once the ISR is smaller than `min.insync.replicas`: its last member is elected again,
//! whatever it lost.

use crate::context::{Excuse, ExcuseKind, PartitionRules};
use crate::history::SimTime;
use crate::replication::replica_set::Believer;
use broker_types::{LeaderEpoch, NodeId, Offset};

/// One partition's account.
#[derive(Clone, Debug, Default)]
pub(crate) struct LossBudget {
    isr: Vec<NodeId>,
    /// Members that may have lost bytes and were not added to the ISR anew since.
    lossy: Vec<NodeId>,
    /// The last broker that the controller chose, and whether it has lost power since.
    leader: Option<(NodeId, bool)>,
    excuses: Vec<Excuse>,
    /// Excuses that did not end: place in `excuses`, and the leader epoch from which on leaders are not deposed.
    open: Vec<(usize, LeaderEpoch)>,
    /// The newest leader epoch that the controller committed.
    epoch: LeaderEpoch,
    /// Since the budget was exceeded there is a leader that has the log: one that lost nothing, or one that took over.
    led_since: bool,
    /// The newest leader, if its high watermark has not reached the start of its epoch: place in `excuses`, who, in which epoch,
    /// and where the epoch starts.
    recovering: Option<(usize, NodeId, LeaderEpoch, Offset)>,
}

impl LossBudget {
    pub(crate) fn isr(&self) -> &[NodeId] {
        &self.isr
    }

    pub(crate) fn in_isr(&self, node: NodeId) -> bool {
        self.isr.contains(&node)
    }

    pub(crate) fn is_lossy(&self, node: NodeId) -> bool {
        self.lossy.contains(&node)
    }

    /// Everything that excuses a loss.
    pub(crate) fn excuses(&self) -> &[Excuse] {
        &self.excuses
    }

    /// Why a committed record may be gone just now.
    pub(crate) fn open_excuse(&self) -> Option<&'static str> {
        self.open.iter().find_map(|(at, _)| match self.excuses[*at].kind {
            ExcuseKind::UncleanElection => Some("unclean-election"),
            ExcuseKind::LossBeyondBudget => Some("loss-beyond-budget"),
            ExcuseKind::LeaderChange | ExcuseKind::LeaderPowerLoss | ExcuseKind::HighWatermarkRecovering => None,
        })
    }

    fn open(&mut self, kind: ExcuseKind, at: SimTime, epoch: LeaderEpoch) {
        self.open.push((self.excuses.len(), epoch));
        self.excuses.push(Excuse { kind, at, until: None });
    }

    fn exceeded(&self, rules: PartitionRules) -> bool {
        let lossy = self.isr.iter().filter(|member| self.lossy.contains(member)).count();
        let min_isr = rules.min_isr.max(1) as usize;
        lossy > 0 && (lossy >= min_isr || self.isr.len() < min_isr)
    }

    fn account(&mut self, at: SimTime, rules: PartitionRules) {
        let is_open = self.open.iter().any(|(at, _)| self.excuses[*at].kind == ExcuseKind::LossBeyondBudget);
        if self.exceeded(rules) && !is_open {
            self.led_since = self.leader.is_some_and(|(leader, _)| !self.lossy.contains(&leader));
            self.open(ExcuseKind::LossBeyondBudget, at, self.epoch);
        }
    }

    /// The leader lost power, though its bytes may be safe.
    pub(crate) fn lost_power(&mut self, node: NodeId) {
        if let Some((leader, lost_power)) = &mut self.leader
            && *leader == node
        {
            *lost_power = true;
        }
    }

    /// `node` may have lost bytes of this partition.
    pub(crate) fn lost(&mut self, node: NodeId, at: SimTime, rules: PartitionRules) {
        if !self.lossy.contains(&node) {
            self.lossy.push(node);
        }
        self.led_since &= self.leader.is_none_or(|(leader, _)| leader != node);
        self.account(at, rules);
    }

    /// For a log without an ISR: some of it may be gone.
    pub(crate) fn give_up(&mut self, at: SimTime) {
        if self.open_excuse().is_none() {
            self.open(ExcuseKind::LossBeyondBudget, at, LeaderEpoch(i32::MAX));
        }
    }

    /// The controller committed a new registration.
    pub(crate) fn changed(
        &mut self,
        at: SimTime,
        (leader, epoch, unclean): (Option<NodeId>, LeaderEpoch, bool),
        isr: &[NodeId],
        rules: PartitionRules,
    ) {
        let is_outsider = |leader: NodeId| !self.isr.is_empty() && !self.isr.contains(&leader);
        let unclean = unclean || leader.is_some_and(is_outsider);
        let joined: Vec<NodeId> = isr.iter().filter(|member| !self.isr.contains(member)).copied().collect();
        // A clean leader let it in: it has caught up. One that an unclean election put there has not.
        self.lossy.retain(|node| unclean || !joined.contains(node));
        self.isr = isr.to_vec();
        self.epoch = self.epoch.max(epoch);
        if let Some(leader) = leader {
            match self.leader {
                Some((_, true)) => self.open(ExcuseKind::LeaderPowerLoss, at, epoch),
                Some((former, false)) if former == leader => {}
                Some((_, false)) => self.open(ExcuseKind::LeaderChange, at, epoch),
                None => {}
            }
            if self.leader.is_none_or(|(former, lost_power)| former != leader || lost_power) {
                self.leader = Some((leader, false));
            }
        }
        if unclean && rules.unclean_election {
            self.open(ExcuseKind::UncleanElection, at, epoch);
        }
        self.account(at, rules);
    }

    /// `node` took over: what it has is the log, whatever it lost.
    pub(crate) fn leads(
        &mut self,
        (node, epoch, start): (NodeId, LeaderEpoch, Offset),
        at: SimTime,
        believers: &[Believer],
        rules: PartitionRules,
    ) {
        if epoch < self.epoch {
            // It heard late, and was deposed before it began: until it hears of that, too, it is a stale leader.
            if let Some((place, since)) = self
                .excuses
                .iter()
                .rposition(|excuse| matches!(excuse.kind, ExcuseKind::LeaderChange | ExcuseKind::LeaderPowerLoss))
                .map(|place| (place, self.epoch))
                && self.open.iter().all(|(open, _)| *open != place)
            {
                self.excuses[place].until = None;
                self.open.push((place, since));
            }
            return;
        }
        self.lossy.retain(|lossy| *lossy != node);
        self.led_since = true;
        self.epoch = epoch;
        self.close(at, believers, rules);
        self.recovered(at);
        if start > Offset(0) {
            self.recovering = Some((self.excuses.len(), node, epoch, start));
            self.excuses.push(Excuse { kind: ExcuseKind::HighWatermarkRecovering, at, until: None });
        }
    }

    /// `node`, as leader of `epoch`, set its high watermark.
    pub(crate) fn high_watermark(&mut self, node: NodeId, epoch: LeaderEpoch, to: Offset, at: SimTime) {
        if self.recovering.is_some_and(|(_, who, led, start)| (who, led) == (node, epoch) && start <= to) {
            self.recovered(at);
        }
    }

    /// The newest leader knows what is committed; or there is a newer one, and what this one answers is stale.
    fn recovered(&mut self, at: SimTime) {
        if let Some((place, ..)) = self.recovering.take() {
            self.excuses[place].until = Some(at);
        }
    }

    /// Ends what has come to its end: no deposed leader still answers, and the newest one is at work.
    pub(crate) fn close(&mut self, at: SimTime, believers: &[Believer], rules: PartitionRules) {
        if self.open.is_empty() {
            return;
        }
        let exceeded = self.exceeded(rules);
        let (excuses, led_since) = (&mut self.excuses, self.led_since);
        self.open.retain(|(place, epoch)| {
            let excuse = &mut excuses[*place];
            let lasts = match excuse.kind {
                ExcuseKind::LossBeyondBudget => exceeded || !led_since || *epoch == LeaderEpoch(i32::MAX),
                _ => false,
            };
            let deposed = believers.iter().any(|believer| believer.epoch < *epoch);
            let begun = believers.iter().any(|believer| believer.epoch >= *epoch);
            let ends = !lasts && !deposed && begun;
            if ends {
                excuse.until = Some(at);
            }
            !ends
        });
    }
}
