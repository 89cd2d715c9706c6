//! Snapshots of the metadata log (KIP-630), and changes of the quorum's voters (KIP-853).

use crate::context::{Context, seconds};
use crate::findings::Findings;
use crate::registry::{QUORUM_SNAPSHOT, VOTER_CHANGES};
use crate::replication::replica_set::{Place, ReplicaSet};
use broker_types::{LeaderEpoch, NodeId, Offset, QuorumSnapshot};
use std::collections::{BTreeMap, BTreeSet};

/// Most snapshots and changes of voters that are remembered.
const REMEMBERED: usize = 100_000;

/// What was told of both.
#[derive(Clone, Debug, Default)]
pub(crate) struct QuorumLog {
    /// By end: epoch, digest, and who told it first.
    snapshots: BTreeMap<Offset, (LeaderEpoch, u64, NodeId)>,
    /// The ends of the snapshots that each node has.
    kept: BTreeMap<NodeId, BTreeSet<Offset>>,
    /// In the order in which they were told.
    changes: Vec<VoterChange>,
}

/// A record that changes the voters: where it is, who leads there, and the voters from there on.
#[derive(Clone, Debug)]
struct VoterChange {
    offset: Offset,
    epoch: LeaderEpoch,
    before: Vec<NodeId>,
    voters: Vec<NodeId>,
}

impl QuorumLog {
    /// W-K10, W-K11: a snapshot stands for committed records only, as the node itself has them; and two of one end are equal.
    pub(crate) fn taken(
        &mut self,
        ctx: &Context,
        out: &mut Findings,
        place: Place,
        set: &ReplicaSet,
        snapshot: QuorumSnapshot,
    ) {
        let QuorumSnapshot { end, epoch, .. } = snapshot;
        let high_watermark = set.high_watermark_of(place.node);
        let own = set.log_of(place.node).and_then(|log| log.epoch_at(end.0 - 1)).filter(|own| *own >= 0);
        let wrong = if end > high_watermark {
            Some(format!("its high watermark was {high_watermark}"))
        } else {
            own.filter(|own| *own != epoch.0).map(|own| format!("its record before {end} is of epoch {own}"))
        };
        self.remember(ctx, out, place, snapshot, wrong, "took");
    }

    /// W-K11, W-K12: what a node loads is what was taken somewhere, and it does not lead meanwhile.
    pub(crate) fn loaded(
        &mut self,
        ctx: &Context,
        out: &mut Findings,
        place: Place,
        set: &mut ReplicaSet,
        snapshot: QuorumSnapshot,
    ) {
        let leads = set.believers.iter().find(|believer| believer.node == place.node);
        let is_known = self.snapshots.contains_key(&snapshot.end);
        let wrong = match leads {
            Some(leader) => Some(format!("it led the quorum in epoch {}", leader.epoch)),
            None => (!is_known).then(|| "nobody had taken one that ends there".to_owned()),
        };
        self.remember(ctx, out, place, snapshot, wrong, "loaded");
        set.begins_anew(place, snapshot.end);
    }

    fn remember(
        &mut self,
        ctx: &Context,
        out: &mut Findings,
        place: Place,
        QuorumSnapshot { end, epoch, digest }: QuorumSnapshot,
        wrong: Option<String>,
        what: &str,
    ) {
        out.opportunity(QUORUM_SNAPSHOT, 1);
        if self.snapshots.len() >= REMEMBERED {
            out.unknown(QUORUM_SNAPSHOT);
            return;
        }
        let (known_epoch, known, by) = *self.snapshots.entry(end).or_insert((epoch, digest, place.node));
        let differs = || {
            let by = ctx.node_name(by);
            format!("{by} had one of epoch {known_epoch} there, with digest {known:016x}")
        };
        let wrong = wrong.or_else(|| ((known_epoch, known) != (epoch, digest)).then(differs));
        if let Some(wrong) = wrong {
            out.find(QUORUM_SNAPSHOT, ctx, None, Some(place.at), || {
                let (node, at) = (ctx.node_name(place.node), seconds(place.at));
                let which = format!("a snapshot up to {end} of epoch {epoch}, with digest {digest:016x}");
                vec![format!("{node} {what} {which}, at {at}"), wrong]
            });
        }
        self.kept.entry(place.node).or_default().insert(end);
    }

    /// W-K10: a metadata log begins where a snapshot that the node has ends.
    pub(crate) fn log_start(&self, ctx: &Context, out: &mut Findings, place: Place, start: Offset) {
        if start == Offset(0) {
            return;
        }
        out.opportunity(QUORUM_SNAPSHOT, 1);
        if !self.kept.get(&place.node).is_some_and(|kept| kept.contains(&start)) {
            out.find(QUORUM_SNAPSHOT, ctx, None, Some(place.at), || {
                let (node, at) = (ctx.node_name(place.node), seconds(place.at));
                vec![format!("{node} began its metadata log at {start}, at {at}, and has no snapshot that ends there")]
            });
        }
    }

    /// All that a node had is gone.
    pub(crate) fn wiped(&mut self, node: NodeId) {
        self.kept.remove(&node);
    }

    /// W-K13: voters change one at a time, each time once the change before is committed and the leader has committed in its own
    /// epoch; and who becomes one has caught up to where that epoch begins.
    pub(crate) fn voters(
        &mut self,
        ctx: &Context,
        out: &mut Findings,
        place: Place,
        set: &ReplicaSet,
        (offset, voters): (Offset, &[NodeId]),
    ) {
        out.opportunity(VOTER_CHANGES, 1);
        if self.changes.len() >= REMEMBERED {
            out.unknown(VOTER_CHANGES);
            return;
        }
        let before = &ctx.voters;
        let without = |nodes: &[NodeId], others: &[NodeId]| -> Vec<NodeId> {
            nodes.iter().filter(|node| !others.contains(node)).copied().collect()
        };
        let (joins, leaves) = (without(voters, before), without(before, voters));
        let leader = set.believers.iter().find(|believer| believer.node == place.node);
        let high_watermark = set.high_watermark_of(place.node);
        let start = leader.map_or(Offset(0), |leader| leader.start);
        let is_behind = |voter: &&NodeId| set.log_of(**voter).is_none_or(|log| log.end() < start.0);
        let open = self.last_in(set, place.node).filter(|change| change.offset >= high_watermark);
        let wrong = if leader.is_none() {
            Some("it did not lead the quorum".to_owned())
        } else if joins.len() + leaves.len() != 1 {
            Some(format!("{} were to join, {} to leave: one at a time may", joins.len(), leaves.len()))
        } else if let Some(VoterChange { offset, .. }) = open {
            Some(format!("the change at {offset} was not committed; its high watermark was {high_watermark}"))
        } else if high_watermark <= start {
            Some(format!("it had committed nothing in its epoch, which begins at {start}"))
        } else {
            joins.iter().find(is_behind).map(|voter| format!("{} had not caught up to {start}", ctx.node_name(*voter)))
        };
        if let Some(wrong) = wrong {
            out.find(VOTER_CHANGES, ctx, None, Some(place.at), || {
                let (node, at) = (ctx.node_name(place.node), seconds(place.at));
                let (from, to) = (ctx.node_names(before), ctx.node_names(voters));
                vec![format!("{node} changed the voters {from} to {to} at offset {offset}, at {at}"), wrong]
            });
        }
        let epoch = leader.map_or(LeaderEpoch(-1), |leader| leader.epoch);
        self.changes.push(VoterChange { offset, epoch, before: before.clone(), voters: voters.to_vec() });
    }

    /// The last change that is in the log of `node`. What another leader wrote over is in none.
    fn last_in(&self, set: &ReplicaSet, node: NodeId) -> Option<&VoterChange> {
        let log = set.log_of(node)?;
        let is_there = |change: &&VoterChange| log.epoch_at(change.offset.0) == Some(change.epoch.0);
        self.changes.iter().filter(is_there).max_by_key(|change| change.offset)
    }

    /// The voters as `node`, which was elected, has them; `None` when no change was ever told.
    pub(crate) fn voters_of(&self, set: &ReplicaSet, node: NodeId) -> Option<Vec<NodeId>> {
        let first = self.changes.first()?;
        Some(self.last_in(set, node).map_or(&first.before, |change| &change.voters).clone())
    }
}
