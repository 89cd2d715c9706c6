//! What brokers admit: the white box, judged while the run goes on.

use crate::context::{Context, Excuse, LossKind};
use crate::convergence::EndState;
use crate::history::SimTime;
use crate::verdict::CheckResult;
use broker_types::{NodeId, Observation, TopicIdPartition};
use std::collections::BTreeMap;

/// Judges every observation as it comes.
#[derive(Clone, Debug)]
pub struct WhiteBox {
    ctx: Context,
}

impl WhiteBox {
    /// A judge of a run under `ctx`. Of the context it reads the configuration and the names, both of which may still
    /// be told later ([`Self::context_mut`]: topics get their ids when they are created).
    #[must_use]
    pub fn new(ctx: Context) -> Self {
        WhiteBox { ctx }
    }

    /// The context, to add topics to as they are created.
    pub fn context_mut(&mut self) -> &mut Context {
        &mut self.ctx
    }

    /// `node`, in its `incarnation` (which rises with every start), said `fact` at `at`.
    pub fn observe(&mut self, at: SimTime, node: NodeId, incarnation: u32, fact: &Observation) {
        let _ = (at, node, incarnation, fact);
    }

    /// The process of `node` ended; its page cache is kept.
    pub fn node_down(&mut self, node: NodeId, at: SimTime) {
        let _ = (node, at);
    }

    /// `node` may have lost bytes that it had written. Implies [`Self::node_down`] for power loss and wipe.
    pub fn node_lost(&mut self, node: NodeId, at: SimTime, kind: LossKind) {
        let _ = (node, at, kind);
    }

    /// What excuses losses, by partition, so far: the black box needs it as [`Context::excuses`].
    #[must_use]
    pub fn excuses(&self) -> BTreeMap<TopicIdPartition, Vec<Excuse>> {
        BTreeMap::new()
    }

    /// Ends the run: compares what the disks hold with what was observed, and tells what every check found.
    #[must_use]
    pub fn finish(self, end: &EndState) -> Vec<CheckResult> {
        let _ = end;
        Vec::new()
    }
}
