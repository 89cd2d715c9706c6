//! Groups as their coordinators have them: classic ones, and those of KIP-848. What their clients tell of them is judged in the
//! modules below.
//!
//! A coordinator says a fact when the records it rests on are committed, so what one said its successor starts from. What
//! each said is kept here through any change of coordinator.

pub(crate) mod commits;
pub(crate) mod delivery;
pub(crate) mod members;
pub(crate) mod ownership;

use crate::context::{Context, seconds};
use crate::findings::Findings;
use crate::registry::{
    COMMIT_FENCING, COORDINATOR_PER_EPOCH, CheckInfo, GROUP_EPOCH_MONOTONE, SINGLE_OWNER, STABLE_GROUP,
};
use crate::replication::replica_set::Place;
use broker_types::{
    CoordinatorKind, GroupId, GroupState, LeaderEpoch, MemberFact, MemberId, NodeId, Observation, TopicIdPartition,
};
use std::collections::BTreeMap;

/// One group.
#[derive(Clone, Debug, Default)]
struct Group {
    epoch: i32,
    coordinator_epoch: LeaderEpoch,
    members: BTreeMap<MemberId, MemberFact>,
    /// Who may read what: kept beside the members, so that a change looks at its own partitions only.
    owners: BTreeMap<TopicIdPartition, MemberId>,
}

/// All groups, and who coordinates.
#[derive(Clone, Debug, Default)]
pub(crate) struct Groups {
    groups: BTreeMap<GroupId, Group>,
    /// Who loaded which partition in which epoch, ever.
    loaded: BTreeMap<(CoordinatorKind, i32, LeaderEpoch), (NodeId, u32)>,
    /// What each node answers for now.
    active: BTreeMap<(NodeId, CoordinatorKind, i32), LeaderEpoch>,
}

impl Groups {
    /// Takes a fact of a coordinator in.
    pub(crate) fn observe(&mut self, ctx: &Context, out: &mut Findings, place: Place, fact: &Observation) {
        match fact {
            Observation::CoordinatorLoaded { kind, partition, leader_epoch } => {
                self.loaded(ctx, out, place, (*kind, *partition, *leader_epoch));
            }
            Observation::CoordinatorUnloaded { kind, partition } => {
                self.active.remove(&(place.node, *kind, *partition));
            }
            Observation::GroupChanged { group, coordinator_epoch, epoch, state } => {
                self.is_active(ctx, out, place, CoordinatorKind::Group, *coordinator_epoch);
                let known = self.groups.entry(group.clone()).or_default();
                let told = Told { ctx, place, group };
                told.epochs(out, known, *epoch, *coordinator_epoch);
                match state {
                    GroupState::Stable => told.stable(out, known),
                    GroupState::Dead => {
                        self.groups.remove(group);
                    }
                    _ => {}
                }
            }
            Observation::MemberChanged(member) => {
                self.is_active(ctx, out, place, CoordinatorKind::Group, member.coordinator_epoch);
                let known = self.groups.entry(member.group.clone()).or_default();
                Told { ctx, place, group: &member.group }.member(out, known, member);
            }
            Observation::MemberGone { group, member } => {
                if let Some(known) = self.groups.get_mut(group) {
                    known.members.remove(member);
                    known.owners.retain(|_, owner| owner != member);
                }
            }
            Observation::OffsetCommitted { group, partition, coordinator_epoch, member, epoch, .. } => {
                self.is_active(ctx, out, place, CoordinatorKind::Group, *coordinator_epoch);
                let known = self.groups.entry(group.clone()).or_default();
                Told { ctx, place, group }.commit(out, known, (*partition, member.as_ref(), *epoch));
            }
            _ => {}
        }
    }

    /// The process of `node` ended.
    pub(crate) fn down(&mut self, node: NodeId) {
        self.active.retain(|(active, ..), _| *active != node);
    }

    /// W-G10, W-T3.
    fn loaded(
        &mut self,
        ctx: &Context,
        out: &mut Findings,
        place: Place,
        (kind, partition, epoch): (CoordinatorKind, i32, LeaderEpoch),
    ) {
        out.opportunity(COORDINATOR_PER_EPOCH, 1);
        let own = (place.node, place.incarnation);
        let known = *self.loaded.entry((kind, partition, epoch)).or_insert(own);
        if known != own {
            out.find(COORDINATOR_PER_EPOCH, ctx, None, Some(place.at), || {
                let (node, first, at) = (ctx.node_name(place.node), ctx.node_name(known.0), seconds(place.at));
                vec![
                    format!("{node} (start {}) loaded partition {partition} of {kind:?} coordinators in leader epoch {epoch} at {at}", place.incarnation),
                    format!("{first} (start {}) had loaded it in that epoch before", known.1),
                ]
            });
        }
        self.active.insert((place.node, kind, partition), epoch);
    }

    /// Whoever speaks for a group has loaded a partition in the epoch that it names.
    pub(crate) fn is_active(
        &self,
        ctx: &Context,
        out: &mut Findings,
        place: Place,
        kind: CoordinatorKind,
        epoch: LeaderEpoch,
    ) {
        out.opportunity(COORDINATOR_PER_EPOCH, 1);
        let own = (place.node, kind, i32::MIN)..=(place.node, kind, i32::MAX);
        if !self.active.range(own).any(|(_, loaded)| *loaded == epoch) {
            out.find(COORDINATOR_PER_EPOCH, ctx, None, Some(place.at), || {
                let (node, at) = (ctx.node_name(place.node), seconds(place.at));
                vec![format!("{node} coordinated in leader epoch {epoch} at {at}, in which it has loaded nothing")]
            });
        }
    }
}

/// One fact about one group.
struct Told<'a> {
    ctx: &'a Context,
    place: Place,
    group: &'a GroupId,
}

impl Told<'_> {
    fn find(&self, out: &mut Findings, check: &'static CheckInfo, what: impl FnOnce() -> String) {
        out.find(check, self.ctx, None, Some(self.place.at), || {
            let (node, at) = (self.ctx.node_name(self.place.node), seconds(self.place.at));
            vec![format!("group {}: {}", self.group, what()), format!("said by {node} at {at}")]
        });
    }

    /// W-G6, W-G7.
    fn epochs(&self, out: &mut Findings, known: &mut Group, epoch: i32, coordinator: LeaderEpoch) {
        out.opportunity(GROUP_EPOCH_MONOTONE, 1);
        if epoch < known.epoch || coordinator < known.coordinator_epoch {
            let (former, by) = (known.epoch, known.coordinator_epoch);
            self.find(out, GROUP_EPOCH_MONOTONE, || {
                format!("epoch {epoch} from a coordinator of leader epoch {coordinator}, after {former} from {by}")
            });
        }
        known.epoch = known.epoch.max(epoch);
        known.coordinator_epoch = known.coordinator_epoch.max(coordinator);
    }

    /// W-G1, W-G3, W-G7; and W-G6 for the member's own epoch.
    fn member(&self, out: &mut Findings, known: &mut Group, member: &MemberFact) {
        out.opportunity(GROUP_EPOCH_MONOTONE, 1);
        if let Some(former) = known.members.get(&member.member).filter(|former| member.epoch < former.epoch) {
            let former = former.epoch;
            self.find(out, GROUP_EPOCH_MONOTONE, || {
                format!("member {} went from epoch {former} back to {}", member.member, member.epoch)
            });
        }
        known.owners.retain(|_, owner| *owner != member.member);
        for partition in member.assigned.iter().chain(&member.revoking) {
            out.opportunity(SINGLE_OWNER, 1);
            let other = known.owners.insert(*partition, member.member.clone());
            let other = other.and_then(|other| known.members.get(&other));
            // Classic: a member of an older generation may linger; it is fenced when it commits.
            if let Some(other) = other.filter(|other| !member.is_classic || other.epoch == member.epoch) {
                self.find(out, SINGLE_OWNER, || {
                    let name = self.ctx.partition_name(*partition);
                    format!(
                        "{name} belongs to {} in epoch {} and to {} in epoch {}",
                        member.member, member.epoch, other.member, other.epoch
                    )
                });
            }
        }
        known.members.insert(member.member.clone(), member.clone());
    }

    /// W-G2, W-G4, W-G5.
    fn stable(&self, out: &mut Findings, known: &Group) {
        out.opportunity(STABLE_GROUP, 1);
        let mut targets: BTreeMap<TopicIdPartition, &MemberId> = BTreeMap::new();
        for member in known.members.values() {
            let name = &member.member;
            let unlike = |what: &str| format!("it is stable in epoch {}, but member {name} {what}", known.epoch);
            if member.epoch != known.epoch {
                self.find(out, STABLE_GROUP, || unlike(&format!("is in epoch {}", member.epoch)));
            }
            if !member.revoking.is_empty() {
                self.find(out, STABLE_GROUP, || unlike("still has partitions to give up"));
            }
            let sorted = |partitions: &[TopicIdPartition]| {
                let mut sorted = partitions.to_vec();
                sorted.sort_unstable();
                sorted
            };
            if sorted(&member.assigned) != sorted(&member.target) {
                self.find(out, STABLE_GROUP, || unlike("has another assignment than its target"));
            }
            for partition in &member.target {
                if let Some(other) = targets.insert(*partition, name) {
                    let partition = self.ctx.partition_name(*partition);
                    self.find(out, STABLE_GROUP, || unlike(&format!("is to have {partition}, as {other} is")));
                }
            }
        }
    }

    /// W-G8.
    fn commit(
        &self,
        out: &mut Findings,
        known: &Group,
        (partition, member, epoch): (TopicIdPartition, Option<&MemberId>, i32),
    ) {
        out.opportunity(COMMIT_FENCING, 1);
        let name = self.ctx.partition_name(partition);
        match member {
            None if known.members.is_empty() => {}
            None => self.find(out, COMMIT_FENCING, || {
                format!("an offset of {name} was committed by no member, while there are {}", known.members.len())
            }),
            Some(member) => match known.members.get(member) {
                Some(current) if current.epoch == epoch => {}
                Some(current) => self.find(out, COMMIT_FENCING, || {
                    format!(
                        "an offset of {name} was committed by {member} of epoch {epoch}, which is in {}",
                        current.epoch
                    )
                }),
                None => self.find(out, COMMIT_FENCING, || {
                    format!("an offset of {name} was committed by {member}, which is no member")
                }),
            },
        }
    }
}
