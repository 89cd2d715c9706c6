//! The ISR as its leader sees it: committed by the controller, or with one change on its way (KIP-497).
//!
//! While a change is undecided the leader counts with the larger set, the *maximal ISR*: whoever may be in the ISR by
//! the time the answer comes must have what is called committed.

use super::ProposalId;
use broker_types::{BrokerEpoch, BrokerId, MonoTime};

/// In-sync replicas, sorted by id, the leader among them.
pub(super) type Isr = Vec<BrokerId>;

/// How far a proposed change has come.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Progress {
    /// AlterPartition is out.
    Sent(ProposalId),
    /// It failed in a way that says nothing about its effect; it is proposed again then.
    RetryAt(MonoTime),
    /// The controller knows something newer than this leader: metadata will decide.
    AwaitMetadata,
}

/// The ISR and at most one undecided change.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum IsrState {
    /// As the controller has it.
    Committed { isr: Isr },
    /// acks=all already waits for `joining`.
    PendingExpand {
        isr: Isr,
        joining: BrokerId,
        /// The incarnation that caught up, by its own fetch. A retry names the same one, so that a later incarnation
        /// with an empty disk cannot join on its merits (KIP-903, KAFKA-15221).
        joining_epoch: Option<BrokerEpoch>,
        progress: Progress,
    },
    /// acks=all still waits for `leaving`.
    PendingShrink { isr: Isr, leaving: Vec<BrokerId>, progress: Progress },
}

impl IsrState {
    pub(super) fn new(isr: &[BrokerId]) -> Self {
        let mut isr = isr.to_vec();
        isr.sort_unstable();
        isr.dedup();
        IsrState::Committed { isr }
    }

    /// The last ISR the controller committed.
    pub(super) fn committed(&self) -> &[BrokerId] {
        match self {
            IsrState::Committed { isr } | IsrState::PendingExpand { isr, .. } | IsrState::PendingShrink { isr, .. } => {
                isr
            }
        }
    }

    /// Whether `broker` is in the ISR or may be by now.
    pub(super) fn maximal_contains(&self, broker: BrokerId) -> bool {
        self.committed().contains(&broker)
            || matches!(self, IsrState::PendingExpand { joining, .. } if *joining == broker)
    }

    /// Size of the maximal ISR.
    pub(super) fn maximal_len(&self) -> usize {
        self.committed().len() + usize::from(matches!(self, IsrState::PendingExpand { .. }))
    }

    /// Whether no change is undecided.
    pub(super) fn is_settled(&self) -> bool {
        matches!(self, IsrState::Committed { .. })
    }

    /// How far the undecided change has come.
    pub(super) fn progress(&self) -> Option<Progress> {
        match self {
            IsrState::Committed { .. } => None,
            IsrState::PendingExpand { progress, .. } | IsrState::PendingShrink { progress, .. } => Some(*progress),
        }
    }

    pub(super) fn set_progress(&mut self, to: Progress) {
        match self {
            IsrState::Committed { .. } => {}
            IsrState::PendingExpand { progress, .. } | IsrState::PendingShrink { progress, .. } => *progress = to,
        }
    }

    /// Back to what was committed last: the controller said that the change did not happen.
    pub(super) fn revert(&mut self) {
        let isr = match self {
            IsrState::Committed { isr } | IsrState::PendingExpand { isr, .. } | IsrState::PendingShrink { isr, .. } => {
                std::mem::take(isr)
            }
        };
        *self = IsrState::Committed { isr };
    }

    /// The ISR that the undecided change wishes for.
    pub(super) fn wished(&self) -> Isr {
        match self {
            IsrState::Committed { isr } => isr.clone(),
            IsrState::PendingExpand { isr, joining, .. } => {
                let mut isr = isr.clone();
                if let Err(at) = isr.binary_search(joining) {
                    isr.insert(at, *joining);
                }
                isr
            }
            IsrState::PendingShrink { isr, leaving, .. } => {
                isr.iter().copied().filter(|member| !leaving.contains(member)).collect()
            }
        }
    }
}
