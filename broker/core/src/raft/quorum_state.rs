//! Epoch and vote: what a voter has promised, whether the promise is on disk, and what waits for that.

use super::{LeaderAndEpoch, Output, ReplicaKey};
use broker_types::{LeaderEpoch, NodeId};
use std::collections::VecDeque;

/// The content of the file `quorum-state`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct ElectionState {
    /// The largest epoch this replica knows. Never falls.
    pub epoch: LeaderEpoch,
    /// The leader of `epoch`, if known. Changes at most from `None` to one node and back.
    pub leader: Option<NodeId>,
    /// Whom it voted for in `epoch`. Once set it stays until the epoch rises.
    pub voted: Option<ReplicaKey>,
}

/// The election state in memory, its copy on disk, and all that must not be told before the disk has caught up.
///
/// Epoch and vote are promises and are counted; the leader's name is no promise (nobody is told anything that a crash
/// could make untrue), so it is written too, but nothing waits for it.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct QuorumState {
    state: ElectionState,
    /// What the disk has.
    durable: ElectionState,
    /// The state being written, with the number of promises it holds. At most one write at a time.
    writing: Option<(u64, ElectionState)>,
    /// Changes of epoch or vote so far.
    promised: u64,
    /// Changes of epoch or vote that are on disk. At most `promised`.
    kept: u64,
    /// What to tell, in order, each as soon as so many promises are kept. Numbers rise and are greater than `kept`.
    untold: VecDeque<(u64, Output)>,
}

/// With so many messages waiting for the disk, further requests are refused.
const CROWDED: usize = 1024;

impl QuorumState {
    /// `state` as the machine begins with, `durable` as the file says. They may differ in the leader, or after the loss
    /// of the file in the epoch, which is then written first.
    pub(super) fn new(state: ElectionState, durable: ElectionState) -> Self {
        let promised = u64::from((state.epoch, state.voted) != (durable.epoch, durable.voted));
        QuorumState { state, durable, writing: None, promised, kept: 0, untold: VecDeque::new() }
    }

    pub(super) fn epoch(&self) -> LeaderEpoch {
        self.state.epoch
    }

    pub(super) fn current(&self) -> LeaderAndEpoch {
        LeaderAndEpoch { leader: self.state.leader, epoch: self.state.epoch }
    }

    pub(super) fn state(&self) -> ElectionState {
        self.state
    }

    pub(super) fn durable_epoch(&self) -> LeaderEpoch {
        self.durable.epoch
    }

    /// Whether all that was promised is on disk.
    pub(super) fn is_durable(&self) -> bool {
        self.kept == self.promised
    }

    pub(super) fn is_crowded(&self) -> bool {
        self.untold.len() >= CROWDED
    }

    /// Takes on a new state. Requests that were not sent yet belong to the role that ends and are forgotten; answers
    /// and observations stay.
    pub(super) fn change(&mut self, to: ElectionState) {
        let from = self.state;
        assert!(to.epoch >= from.epoch, "quorum epoch back from {from:?} to {to:?}");
        if to.epoch == from.epoch {
            assert!(from.voted.is_none() || to.voted == from.voted, "second vote in one epoch: {from:?} to {to:?}");
            let named_anew = matches!((from.leader, to.leader), (Some(from), Some(to)) if from != to);
            assert!(!named_anew, "second leader in one epoch: {from:?} to {to:?}");
        }
        self.state = to;
        if (from.epoch, from.voted) != (to.epoch, to.voted) {
            self.promised += 1;
        }
        self.untold.retain(|(_, output)| !matches!(output, Output::Send { .. }));
    }

    /// Says it now if all promises are kept, else as soon as they are.
    pub(super) fn tell(&mut self, output: Output, out: &mut Vec<Output>) {
        // planted: Z03 (tell at once: a voter that crashes here may vote twice in one epoch)
        if self.is_durable() {
            out.push(output);
        } else {
            self.untold.push_back((self.promised, output));
        }
    }

    /// The disk has what was written last.
    pub(super) fn persisted(&mut self, out: &mut Vec<Output>) {
        let Some((promises, state)) = self.writing.take() else {
            return;
        };
        self.durable = state;
        self.kept = promises;
        while let Some((needs, _)) = self.untold.front()
            && *needs <= self.kept
        {
            out.extend(self.untold.pop_front().map(|(_, output)| output));
        }
    }

    /// At the end of a step: writes the state if the disk has another one. A new epoch and the vote in it are one
    /// write.
    pub(super) fn maybe_write(&mut self, out: &mut Vec<Output>) {
        if self.writing.is_none() && self.durable != self.state {
            self.writing = Some((self.promised, self.state));
            out.push(Output::Persist(self.state));
        }
    }

    pub(super) fn check_invariants(&self) {
        let QuorumState { state, durable, writing, promised, kept, untold } = self;
        assert!(durable.epoch <= state.epoch, "durable {durable:?} is ahead of {state:?}");
        assert!(kept <= promised, "{kept} promises kept of {promised}");
        assert!(writing.is_some() || durable == state, "{state:?} is never written, the disk has {durable:?}");
        assert!(untold.iter().all(|(needs, _)| needs > kept), "told too late: {kept} kept, {untold:?}");
    }
}
