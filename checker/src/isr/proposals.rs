//! What leaders propose and what comes of it (KIP-497): who may join an ISR, and on whose word it changes.

use crate::context::{Context, seconds};
use crate::findings::Findings;
use crate::isr::registration::Registration;
use crate::registry::{ISR_COMPLETE, ISR_PROPOSAL};
use crate::replication::replica_set::{Place, ReplicaSet};
use broker_types::{LeaderEpoch, NodeId, PartitionEpoch, TopicIdPartition};
use std::collections::{BTreeMap, VecDeque};

/// Proposals remembered for each partition; a leader has one on its way at a time, and repeats it.
const REMEMBERED: usize = 16;

#[derive(Clone, PartialEq, Eq, Debug)]
struct Proposal {
    leader: NodeId,
    leader_epoch: LeaderEpoch,
    partition_epoch: PartitionEpoch,
    isr: Vec<NodeId>,
}

/// The latest proposals of each partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proposals {
    latest: BTreeMap<TopicIdPartition, VecDeque<Proposal>>,
}

fn sorted(isr: &[NodeId]) -> Vec<NodeId> {
    let mut isr = isr.to_vec();
    isr.sort_unstable();
    isr
}

impl Proposals {
    /// W-R16: whoever is to join has everything up to the high watermark, and up to where the leader's epoch begins.
    pub(crate) fn proposed(
        &mut self,
        ctx: &Context,
        out: &mut Findings,
        place: Place,
        set: &mut ReplicaSet,
        (leader_epoch, partition_epoch, isr): (LeaderEpoch, PartitionEpoch, &[NodeId]),
    ) {
        let latest = self.latest.entry(set.id()).or_default();
        let proposal = Proposal { leader: place.node, leader_epoch, partition_epoch, isr: sorted(isr) };
        if latest.back() != Some(&proposal) {
            latest.push_back(proposal);
        }
        if latest.len() > REMEMBERED {
            latest.pop_front();
        }
        let must_have = set.led_to(place.node, leader_epoch);
        for joining in set.proposes(place.node, isr) {
            let Some((must_have, log)) = must_have.zip(set.log_of(joining)) else { continue };
            out.opportunity(ISR_COMPLETE, 1);
            if log.end() < must_have.0 {
                out.find(ISR_COMPLETE, ctx, None, Some(place.at), || {
                    let (name, joins) = (ctx.partition_name(set.id()), ctx.node_name(joining));
                    let (leader, at) = (ctx.node_name(place.node), seconds(place.at));
                    vec![
                        format!(
                            "{name}: {leader}, leader in epoch {leader_epoch}, asked at {at} to add {joins} to the ISR"
                        ),
                        format!("the log of {joins} ends at {}; it must have all up to {must_have}", log.end()),
                    ]
                });
            }
        }
    }

    /// W-R17 and W-R10: an ISR grows only as the partition's leader asked, on the registration that it knew; and who joined
    /// has everything that is committed.
    pub(crate) fn changed(
        &self,
        ctx: &Context,
        out: &mut Findings,
        place: Place,
        set: &ReplicaSet,
        (old, new): (Option<&Registration>, &Registration),
    ) {
        let Some((old, leader)) = old.zip(new.leader) else { return };
        let joined: Vec<NodeId> = new.isr.iter().filter(|member| !old.isr.contains(member)).copied().collect();
        if joined.is_empty() || (old.leader, old.leader_epoch) != (new.leader, new.leader_epoch) {
            return;
        }
        out.opportunity(ISR_PROPOSAL, 1);
        let wanted = Proposal {
            leader,
            leader_epoch: new.leader_epoch,
            partition_epoch: old.partition_epoch,
            isr: sorted(&new.isr),
        };
        if !self.latest.get(&set.id()).is_some_and(|latest| latest.contains(&wanted)) {
            out.find(ISR_PROPOSAL, ctx, None, Some(place.at), || {
                let (name, leader, at) = (ctx.partition_name(set.id()), ctx.node_name(leader), seconds(place.at));
                vec![
                    format!("{name}: {} joined the ISR at {at}", ctx.node_names(&joined)),
                    format!("{leader} never proposed that on partition epoch {}", old.partition_epoch),
                    format!("now {}", new.tell(ctx)),
                ]
            });
        }
        let Some(committed) = set.committed() else { return };
        for node in joined {
            let Some(log) = set.log_of(node) else { continue };
            out.opportunity(ISR_COMPLETE, 1);
            let lacks = (log.end() < committed.end()).then_some(log.end());
            let differs = log.first_difference(committed, committed.start(), committed.end());
            if let Some(offset) = lacks.into_iter().chain(differs).min() {
                out.find(ISR_COMPLETE, ctx, None, Some(place.at), || {
                    let (name, node, at) = (ctx.partition_name(set.id()), ctx.node_name(node), seconds(place.at));
                    vec![
                        format!("{name}: {node} joined the ISR at {at} without the committed offset {offset}"),
                        format!("its log ended at {}; committed was up to {}", log.end(), committed.end()),
                    ]
                });
            }
        }
    }

    /// W-R6: what a leader takes for committed is what the controller committed under that partition epoch.
    pub(crate) fn committed(
        ctx: &Context,
        out: &mut Findings,
        place: Place,
        partition: TopicIdPartition,
        (told, registered): (&[NodeId], Option<&Registration>),
    ) {
        let Some(registered) = registered else { return };
        out.opportunity(ISR_PROPOSAL, 1);
        if sorted(told) != sorted(&registered.isr) {
            out.find(ISR_PROPOSAL, ctx, None, Some(place.at), || {
                let (name, node, at) = (ctx.partition_name(partition), ctx.node_name(place.node), seconds(place.at));
                vec![
                    format!("{name}: {node} took the ISR {} for committed at {at}", ctx.node_names(told)),
                    format!("the controller committed {}", registered.tell(ctx)),
                ]
            });
        }
    }
}
