//! Registrations of partitions and brokers, as controllers replay them.
//!
//! Each controller tells them in the order of the metadata log. Rules about a step are judged within one controller's
//! telling; between controllers, one partition epoch must mean one registration.

use crate::context::{Context, seconds};
use crate::convergence::ImageEnd;
use crate::findings::Findings;
use crate::history::SimTime;
use crate::isr::{eligible, reassignment};
use crate::registry::{
    BROKER_EPOCHS, CLEAN_ELECTION, ISR_OF_REPLICAS, ISR_UNFENCED, LEADER_IN_ISR, REGISTRATION_AGREEMENT,
    REGISTRATION_EPOCHS,
};
use crate::replication::replica_set::Place;
use broker_types::{BrokerEpoch, LeaderEpoch, NodeId, PartitionEpoch, TopicId, TopicIdPartition};
use std::collections::{BTreeMap, BTreeSet};

/// Most registrations remembered, over all partitions.
const REMEMBERED: usize = 400_000;

/// A fenced broker's partitions may change in records after the one that fences it; all are committed together.
const FENCING_TAKES_NS: u64 = 100_000_000;

/// One partition's registration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Registration {
    /// Who leads; `None` when nobody does.
    pub leader: Option<NodeId>,
    /// The leader epoch.
    pub leader_epoch: LeaderEpoch,
    /// Rises by one with each change.
    pub partition_epoch: PartitionEpoch,
    /// The ISR.
    pub isr: Box<[NodeId]>,
    /// All replicas, in assignment order.
    pub replicas: Box<[NodeId]>,
    /// Those that a reassignment brings.
    pub adding: Box<[NodeId]>,
    /// Those that a reassignment takes away.
    pub removing: Box<[NodeId]>,
    /// Eligible leader replicas (KIP-966).
    pub elr: Box<[NodeId]>,
    /// Those that were eligible last and are no longer (KIP-966).
    pub last_known_elr: Box<[NodeId]>,
}

impl Registration {
    pub(crate) fn tell(&self, ctx: &Context) -> String {
        let mut text = format!(
            "partition epoch {}: leader {} in leader epoch {}, ISR {}, replicas {}",
            self.partition_epoch,
            self.leader.map_or("none".to_owned(), |leader| ctx.node_name(leader)),
            self.leader_epoch,
            ctx.node_names(&self.isr),
            ctx.node_names(&self.replicas)
        );
        let more = [
            ("adding", &self.adding),
            ("removing", &self.removing),
            ("ELR", &self.elr),
            ("last known ELR", &self.last_known_elr),
        ];
        for (what, nodes) in more.into_iter().filter(|(_, nodes)| !nodes.is_empty()) {
            text.push_str(&format!(", {what} {}", ctx.node_names(nodes)));
        }
        text
    }

    /// A reassignment is under way.
    pub(crate) fn is_reassigning(&self) -> bool {
        !self.adding.is_empty() || !self.removing.is_empty()
    }
}

/// One controller's telling in one incarnation.
#[derive(Clone, Debug, Default)]
struct Telling {
    incarnation: u32,
    partitions: BTreeMap<TopicIdPartition, Registration>,
    /// Broker epoch, and whether it is fenced.
    brokers: BTreeMap<NodeId, (BrokerEpoch, bool)>,
    /// Brokers fenced whose partitions are still to be looked at.
    fenced: Vec<Fenced>,
}

/// A broker that was fenced, or registered and not yet unfenced.
#[derive(Clone, Copy, Debug)]
struct Fenced {
    at: SimTime,
    broker: NodeId,
    /// It was registered after a power loss: it may lack what it had.
    unclean: bool,
}

/// What all controllers told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Registrations {
    tellings: BTreeMap<NodeId, Telling>,
    newest: BTreeMap<TopicIdPartition, PartitionEpoch>,
    /// As whoever was active told last: broker epoch, and whether the broker is fenced.
    brokers: BTreeMap<NodeId, (BrokerEpoch, bool)>,
    all: BTreeMap<(TopicIdPartition, PartitionEpoch), Registration>,
    /// Brokers that became leaders: when, who, of what, in which epoch.
    took_over: Vec<(SimTime, NodeId, TopicIdPartition, LeaderEpoch)>,
    /// Topics that are gone. A controller that is behind may still tell of them.
    deleted: BTreeSet<TopicId>,
    /// Brokers that are about to stop, by the broker epoch in which they said so.
    stopping: BTreeMap<NodeId, BrokerEpoch>,
    /// Brokers that lost power since they were registered last.
    lost_power: BTreeSet<NodeId>,
}

impl Registrations {
    fn telling(&mut self, place: Place) -> &mut Telling {
        let telling = self.tellings.entry(place.node).or_default();
        if telling.incarnation != place.incarnation {
            *telling = Telling { incarnation: place.incarnation, ..Telling::default() };
        }
        telling
    }

    /// Takes a registration in. If no controller told one as new before, gives the one before it.
    pub(crate) fn changed(
        &mut self,
        ctx: &Context,
        out: &mut Findings,
        place: Place,
        partition: TopicIdPartition,
        (new, unclean): (&Registration, bool),
    ) -> Option<Option<Registration>> {
        self.agree(ctx, out, place.node, Some(place.at), (partition, new));
        self.settle_fenced(ctx, out, place);
        if self.deleted.contains(&partition.topic) {
            return None;
        }
        // A controller that has just become active tells of changes only: what was before, its predecessor told.
        let former = self.all.get(&(partition, PartitionEpoch(new.partition_epoch.0.wrapping_sub(1)))).cloned();
        let telling = self.telling(place);
        // It may also have been active before, been silent since, and be active again.
        let old = match (telling.partitions.insert(partition, new.clone()), former) {
            (Some(own), Some(former)) if own.partition_epoch < former.partition_epoch => Some(former),
            (own, former) => own.or(former),
        };
        let step = Step { ctx, at: place.at, partition, old: old.as_ref(), new, unclean };
        step.check(out, &self.brokers, &self.stopping);
        let newest = self.newest.get(&partition).copied();
        let is_news = newest.is_none_or(|newest| new.partition_epoch > newest);
        if is_news {
            self.newest.insert(partition, new.partition_epoch);
        }
        is_news.then_some(old)
    }

    /// A topic is gone, and its partitions are in nobody's hands: a fenced broker is in no ISR of theirs.
    pub(crate) fn deleted(&mut self, topic: TopicId) {
        self.deleted.insert(topic);
        self.newest.retain(|partition, _| partition.topic != topic);
        for telling in self.tellings.values_mut() {
            telling.partitions.retain(|partition, _| partition.topic != topic);
        }
    }

    /// What the controllers committed under that partition epoch.
    pub(crate) fn known(&self, partition: TopicIdPartition, epoch: PartitionEpoch) -> Option<&Registration> {
        self.all.get(&(partition, epoch))
    }

    /// A broker took over; whether it was to, the end shows.
    pub(crate) fn took_over(&mut self, place: Place, partition: TopicIdPartition, epoch: LeaderEpoch) {
        if self.took_over.len() < REMEMBERED {
            self.took_over.push((place.at, place.node, partition, epoch));
        }
    }

    /// A broker is about to stop.
    pub(crate) fn shutting_down(&mut self, broker: NodeId, epoch: BrokerEpoch) {
        self.stopping.insert(broker, epoch);
    }

    /// A node lost power: if it is a broker, what it registers next is no clean start.
    pub(crate) fn lost_power(&mut self, node: NodeId) {
        self.lost_power.insert(node);
    }

    /// Whoever leads was registered to, in that epoch.
    fn check_leaders(&self, ctx: &Context, out: &mut Findings) {
        let mut registered: BTreeMap<(TopicIdPartition, LeaderEpoch), Option<NodeId>> = BTreeMap::new();
        for ((partition, _), known) in &self.all {
            // A partition may lose its leader within the epoch's first registration only with a new epoch.
            registered.entry((*partition, known.leader_epoch)).or_insert(known.leader);
        }
        for (at, node, partition, epoch) in &self.took_over {
            let Some(leader) = registered.get(&(*partition, *epoch)) else { continue };
            out.opportunity(REGISTRATION_AGREEMENT, 1);
            if *leader != Some(*node) {
                out.find(REGISTRATION_AGREEMENT, ctx, None, Some(*at), || {
                    let (name, node) = (ctx.partition_name(*partition), ctx.node_name(*node));
                    let leader = leader.map_or("nobody".to_owned(), |leader| ctx.node_name(leader));
                    vec![format!("{name}: {node} took over in leader epoch {epoch}, for which {leader} is registered")]
                });
            }
        }
    }

    fn agree(
        &mut self,
        ctx: &Context,
        out: &mut Findings,
        node: NodeId,
        at: Option<SimTime>,
        (partition, new): (TopicIdPartition, &Registration),
    ) {
        match self.all.get(&(partition, new.partition_epoch)) {
            Some(known) => {
                out.opportunity(REGISTRATION_AGREEMENT, 1);
                if known != new {
                    out.find(REGISTRATION_AGREEMENT, ctx, None, at, || {
                        let (name, node) = (ctx.partition_name(partition), ctx.node_name(node));
                        vec![
                            format!("{name}: {node} replayed {}", new.tell(ctx)),
                            format!("another node, or it before, replayed {}", known.tell(ctx)),
                        ]
                    });
                }
            }
            None if self.all.len() < REMEMBERED => {
                self.all.insert((partition, new.partition_epoch), new.clone());
            }
            None => out.unknown(REGISTRATION_AGREEMENT),
        }
    }

    pub(crate) fn registered(
        &mut self,
        ctx: &Context,
        out: &mut Findings,
        place: Place,
        broker: NodeId,
        epoch: BrokerEpoch,
    ) {
        self.settle_fenced(ctx, out, place);
        let is_stopping = |known: BrokerEpoch| self.stopping.get(&broker) == Some(&known);
        let former = self.brokers.get(&broker).copied();
        if let Some((known, false)) = former.filter(|(known, _)| *known < epoch && !is_stopping(*known)) {
            out.find(BROKER_EPOCHS, ctx, None, Some(place.at), || {
                let (name, at) = (ctx.node_name(broker), seconds(place.at));
                vec![format!("{name} was registered again at {at} while its broker epoch {known} was not fenced")]
            });
        }
        self.brokers.insert(broker, (epoch, true));
        let unclean = self.lost_power.remove(&broker);
        let telling = self.telling(place);
        if let Some((former, _)) = telling.brokers.insert(broker, (epoch, true)) {
            out.opportunity(BROKER_EPOCHS, 1);
            if epoch <= former {
                out.find(BROKER_EPOCHS, ctx, None, Some(place.at), || {
                    let (name, at) = (ctx.node_name(broker), seconds(place.at));
                    vec![format!("{name} was registered with broker epoch {epoch} at {at}, after {former}")]
                });
            }
        } else {
            out.opportunity(BROKER_EPOCHS, 1);
        }
        telling.fenced.push(Fenced { at: place.at, broker, unclean });
    }

    pub(crate) fn fenced(
        &mut self,
        ctx: &Context,
        out: &mut Findings,
        place: Place,
        (broker, epoch): (NodeId, BrokerEpoch),
        is_fenced: bool,
    ) {
        self.settle_fenced(ctx, out, place);
        self.brokers.insert(broker, (epoch, is_fenced));
        for telling in self.tellings.values_mut() {
            telling.fenced.retain(|fenced| fenced.broker != broker);
        }
        let telling = self.telling(place);
        telling.brokers.insert(broker, (epoch, is_fenced));
        telling.fenced.retain(|fenced| fenced.broker != broker);
        if is_fenced {
            telling.fenced.push(Fenced { at: place.at, broker, unclean: false });
        }
    }

    /// W-R5, the half about leaving: some time after a broker was fenced it is in no ISR but as the last. With eligible leader
    /// replicas (W-R19) one that lost power is in none at all, nor eligible.
    fn settle_fenced(&mut self, ctx: &Context, out: &mut Findings, place: Place) {
        self.telling(place);
        let Some(telling) = self.tellings.get_mut(&place.node) else { return };
        while let Some(Fenced { at: fenced_at, broker, unclean }) = telling.fenced.first().copied() {
            if place.at.0 < fenced_at.0.saturating_add(FENCING_TAKES_NS) {
                return;
            }
            telling.fenced.remove(0);
            // What it told when it was active before, and another controller has changed since, is no news of today.
            let current = |partition, told: PartitionEpoch| self.newest.get(partition).is_none_or(|now| *now <= told);
            for (partition, known) in
                telling.partitions.iter().filter(|(id, known)| current(*id, known.partition_epoch))
            {
                out.opportunity(ISR_UNFENCED, 1);
                if known.isr.len() > 1 && known.isr.contains(&broker) {
                    out.find(ISR_UNFENCED, ctx, None, Some(fenced_at), || {
                        let (name, node, at) =
                            (ctx.partition_name(*partition), ctx.node_name(broker), seconds(fenced_at));
                        vec![format!("{name}: {node}, fenced since {at}, is still there: {}", known.tell(ctx))]
                    });
                }
                if unclean && ctx.elr {
                    eligible::check_unclean(ctx, out, (*partition, known), broker, fenced_at);
                }
            }
        }
    }

    /// Looks at what is still to be looked at, and at what every node knows at the end.
    pub(crate) fn finish(&mut self, ctx: &Context, out: &mut Findings, images: &[ImageEnd]) {
        for image in images {
            for (partition, registration) in &image.partitions {
                self.agree(ctx, out, image.node, None, (*partition, registration));
            }
        }
        self.check_leaders(ctx, out);
        let controllers: Vec<(NodeId, u32)> = self.tellings.iter().map(|(node, t)| (*node, t.incarnation)).collect();
        for (node, incarnation) in controllers {
            // What was fenced in the last moment of the run has had no time.
            let last = self.tellings[&node].fenced.last().map_or(SimTime(0), |fenced| fenced.at);
            self.settle_fenced(ctx, out, Place { at: last, node, incarnation });
        }
    }
}

/// One step from a registration to the next.
pub(super) struct Step<'a> {
    pub(super) ctx: &'a Context,
    pub(super) at: SimTime,
    pub(super) partition: TopicIdPartition,
    pub(super) old: Option<&'a Registration>,
    pub(super) new: &'a Registration,
    pub(super) unclean: bool,
}

impl Step<'_> {
    pub(super) fn tell(&self, what: &str) -> Vec<String> {
        let mut lines = vec![
            format!("{}: {what}, at {}", self.ctx.partition_name(self.partition), seconds(self.at)),
            format!("now {}", self.new.tell(self.ctx)),
        ];
        lines.extend(self.old.map(|old| format!("before {}", old.tell(self.ctx))));
        lines
    }

    fn check(
        &self,
        out: &mut Findings,
        brokers: &BTreeMap<NodeId, (BrokerEpoch, bool)>,
        stopping: &BTreeMap<NodeId, BrokerEpoch>,
    ) {
        let (ctx, new, at) = (self.ctx, self.new, Some(self.at));
        if let Some(leader) = new.leader {
            out.opportunity(LEADER_IN_ISR, 1);
            if !new.isr.contains(&leader) {
                let what = || self.tell(&format!("{} leads from outside the ISR", ctx.node_name(leader)));
                out.find(LEADER_IN_ISR, ctx, None, at, what);
            }
        }
        out.opportunity(ISR_OF_REPLICAS, 1);
        let stranger = new.isr.iter().find(|member| !new.replicas.contains(member));
        let repeated = (1..new.isr.len()).find(|place| new.isr[..*place].contains(&new.isr[*place]));
        let wrong = match (stranger, repeated) {
            (Some(stranger), _) => Some(format!("{} is in the ISR and no replica", ctx.node_name(*stranger))),
            (_, Some(place)) => Some(format!("{} is in the ISR twice", ctx.node_name(new.isr[place]))),
            _ if new.isr.is_empty() && !ctx.elr => Some("the ISR is empty".to_owned()),
            _ => None,
        };
        if let Some(wrong) = wrong {
            out.find(ISR_OF_REPLICAS, ctx, None, at, || self.tell(&wrong));
        }
        reassignment::check(self, out);
        eligible::check(self, out);
        let Some(old) = self.old else { return };
        for joined in new.isr.iter().filter(|member| !old.isr.contains(member)) {
            out.opportunity(ISR_UNFENCED, 1);
            if brokers.get(joined).is_some_and(|(_, fenced)| *fenced) {
                let what = || self.tell(&format!("{} joined the ISR while it was fenced", ctx.node_name(*joined)));
                out.find(ISR_UNFENCED, ctx, None, at, what);
            }
            // KIP-841: nor one that is about to stop; a new registration ends that.
            let stops =
                stopping.get(joined).zip(brokers.get(joined)).is_some_and(|(in_epoch, (now, _))| in_epoch == now);
            if stops {
                let what =
                    || self.tell(&format!("{} joined the ISR while it was about to stop", ctx.node_name(*joined)));
                out.find(ISR_UNFENCED, ctx, None, at, what);
            }
        }
        self.check_epochs(out, old);
        self.check_election(out, old);
    }

    fn check_epochs(&self, out: &mut Findings, old: &Registration) {
        let (new, at) = (self.new, Some(self.at));
        out.opportunity(REGISTRATION_EPOCHS, 1);
        let wrong = match () {
            () if new.partition_epoch <= old.partition_epoch => "the partition epoch did not rise",
            () if new.partition_epoch != old.partition_epoch.next() => "the partition epoch rose by more than one",
            () if new.leader_epoch < old.leader_epoch => "the leader epoch fell",
            () if new.leader_epoch > old.leader_epoch.next() => "the leader epoch rose by more than one",
            () if new.leader != old.leader && new.leader_epoch == old.leader_epoch => {
                "the leader changed within its leader epoch"
            }
            () => return,
        };
        out.find(REGISTRATION_EPOCHS, self.ctx, None, at, || self.tell(wrong));
    }

    /// W-R18.
    fn check_election(&self, out: &mut Findings, old: &Registration) {
        let (ctx, new) = (self.ctx, self.new);
        let Some(leader) = new.leader.filter(|_| new.leader != old.leader) else { return };
        out.opportunity(CLEAN_ELECTION, 1);
        let is_clean = old.isr.contains(&leader) && !self.unclean;
        if !is_clean && !eligible::may_lead(ctx, old, leader) {
            let allowed = ctx.rules(self.partition).unclean_election.then_some("unclean-election");
            let what = || self.tell(&format!("{} was elected from outside the ISR", ctx.node_name(leader)));
            out.find(CLEAN_ELECTION, ctx, allowed, Some(self.at), what);
        }
    }
}
