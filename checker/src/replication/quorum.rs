//! Elections of the metadata quorum (KRaft, KIP-595).

use crate::context::{Context, seconds};
use crate::findings::Findings;
use crate::registry::{QUORUM_EPOCH_MONOTONE, QUORUM_LEADER_PER_EPOCH, QUORUM_ROLES, QUORUM_VOTE};
use crate::replication::replica_set::Place;
use broker_types::{LeaderEpoch, NodeId};
use std::collections::BTreeMap;

/// Who led, who voted, and which epoch each node is in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Quorum {
    /// The leader of each epoch, and the first node that named it.
    leaders: BTreeMap<LeaderEpoch, (NodeId, NodeId)>,
    /// The incarnation that won each epoch.
    winners: BTreeMap<LeaderEpoch, (NodeId, u32)>,
    votes: BTreeMap<(NodeId, LeaderEpoch), NodeId>,
    epochs: BTreeMap<NodeId, LeaderEpoch>,
    /// The epoch in which each node last asked for pre-votes, and the one in which it last stood, with the incarnation.
    asked: BTreeMap<NodeId, (LeaderEpoch, u32)>,
    stood: BTreeMap<NodeId, (LeaderEpoch, u32)>,
}

impl Quorum {
    /// W-K1.
    pub(crate) fn names_leader(
        &mut self,
        ctx: &Context,
        out: &mut Findings,
        place: Place,
        epoch: LeaderEpoch,
        leader: NodeId,
    ) {
        out.opportunity(QUORUM_LEADER_PER_EPOCH, 1);
        let (known, by) = *self.leaders.entry(epoch).or_insert((leader, place.node));
        if known != leader {
            out.find(QUORUM_LEADER_PER_EPOCH, ctx, None, Some(place.at), || {
                let (node, by) = (ctx.node_name(place.node), ctx.node_name(by));
                let (leader, known) = (ctx.node_name(leader), ctx.node_name(known));
                let at = seconds(place.at);
                vec![format!("quorum epoch {epoch}: {node} has {leader} for its leader at {at}, {by} had {known}")]
            });
        }
    }

    /// A node won: once in an epoch, and in one incarnation.
    pub(crate) fn won(&mut self, ctx: &Context, out: &mut Findings, place: Place, epoch: LeaderEpoch) {
        self.names_leader(ctx, out, place, epoch, place.node);
        out.opportunity(QUORUM_ROLES, 1);
        if self.stood.get(&place.node) != Some(&(epoch, place.incarnation)) {
            Self::out_of_role(ctx, out, place, epoch, "it leads, and never stood for election");
        }
        let votes = ctx.voters.iter().filter(|voter| self.votes.get(&(**voter, epoch)) == Some(&place.node)).count();
        if !ctx.voters.is_empty() && votes * 2 <= ctx.voters.len() {
            let what = format!("it leads with {votes} votes of {}", ctx.voters.len());
            Self::out_of_role(ctx, out, place, epoch, &what);
        }
        let winner = (place.node, place.incarnation);
        let known = *self.winners.entry(epoch).or_insert(winner);
        if known != winner && known.0 == winner.0 {
            out.find(QUORUM_LEADER_PER_EPOCH, ctx, None, Some(place.at), || {
                let (node, start) = (ctx.node_name(place.node), place.incarnation);
                vec![format!(
                    "quorum epoch {epoch}: {node} leads it again in start {start}, after it had in start {}",
                    known.1
                )]
            });
        }
    }

    fn out_of_role(ctx: &Context, out: &mut Findings, place: Place, epoch: LeaderEpoch, what: &str) {
        out.find(QUORUM_ROLES, ctx, None, Some(place.at), || {
            vec![format!("quorum epoch {epoch}: {} at {}: {what}", ctx.node_name(place.node), seconds(place.at))]
        });
    }

    /// W-K15: asking whether others would vote changes nothing.
    pub(crate) fn prospective(&mut self, ctx: &Context, out: &mut Findings, place: Place, epoch: LeaderEpoch) {
        out.opportunity(QUORUM_ROLES, 1);
        if let Some(known) = self.epochs.get(&place.node).filter(|known| **known != epoch) {
            Self::out_of_role(ctx, out, place, epoch, &format!("it asks for pre-votes, but its epoch is {known}"));
        }
        self.asked.insert(place.node, (epoch, place.incarnation));
    }

    /// W-K14, W-K15: who stands has asked for pre-votes in the epoch before.
    pub(crate) fn stands(&mut self, ctx: &Context, out: &mut Findings, place: Place, epoch: LeaderEpoch) {
        out.opportunity(QUORUM_ROLES, 1);
        let asked = self.asked.get(&place.node).copied();
        if ctx.voters.len() > 1 && asked.is_none_or(|(before, by)| (before.next(), by) != (epoch, place.incarnation)) {
            Self::out_of_role(ctx, out, place, epoch, "it stands for election without having asked for pre-votes");
        }
        self.stood.insert(place.node, (epoch, place.incarnation));
    }

    /// W-K14: only who leads gives up.
    pub(crate) fn resigned(&mut self, ctx: &Context, out: &mut Findings, place: Place, epoch: LeaderEpoch) {
        out.opportunity(QUORUM_ROLES, 1);
        if self.winners.get(&epoch).is_none_or(|(winner, _)| *winner != place.node) {
            Self::out_of_role(ctx, out, place, epoch, "it resigned, and never led");
        }
    }

    /// W-K3.
    pub(crate) fn voted(
        &mut self,
        ctx: &Context,
        out: &mut Findings,
        place: Place,
        epoch: LeaderEpoch,
        candidate: NodeId,
    ) {
        out.opportunity(QUORUM_VOTE, 1);
        let known = *self.votes.entry((place.node, epoch)).or_insert(candidate);
        if known != candidate {
            out.find(QUORUM_VOTE, ctx, None, Some(place.at), || {
                let (node, candidate, known) =
                    (ctx.node_name(place.node), ctx.node_name(candidate), ctx.node_name(known));
                let at = seconds(place.at);
                vec![format!("quorum epoch {epoch}: {node} voted for {candidate} at {at}, and for {known} before")]
            });
        }
    }

    /// W-K2.
    pub(crate) fn entered(&mut self, ctx: &Context, out: &mut Findings, place: Place, epoch: LeaderEpoch) {
        out.opportunity(QUORUM_EPOCH_MONOTONE, 1);
        let known = *self.epochs.entry(place.node).or_insert(epoch);
        if epoch < known {
            out.find(QUORUM_EPOCH_MONOTONE, ctx, None, Some(place.at), || {
                let (node, at) = (ctx.node_name(place.node), seconds(place.at));
                vec![format!("{node} entered quorum epoch {epoch} at {at}, after epoch {known}")]
            });
        }
        self.epochs.insert(place.node, epoch.max(known));
    }

    /// A node lost its disk, and with it what it had promised.
    pub(crate) fn wiped(&mut self, node: NodeId) {
        self.epochs.remove(&node);
        self.votes.retain(|(voter, _), _| *voter != node);
    }
}
