//! What brokers admit: the white box, judged while the run goes on.

use crate::context::{Context, Excuse, Loss, LossKind};
use crate::convergence::EndState;
use crate::findings::Findings;
use crate::groups::Groups;
use crate::history::SimTime;
use crate::isr::proposals::Proposals;
use crate::isr::registration::{Registration, Registrations};
use crate::registry::{Evidence, LOG_MATCHING, METADATA_LOG_MATCHING};
use crate::replication::cleanup;
use crate::replication::quorum::Quorum;
use crate::replication::quorum_log::QuorumLog;
use crate::replication::replica_set::{Name, Place, ReplicaSet};
use crate::transactions::{Stamped, Transactions};
use crate::verdict::CheckResult;
use broker_types::{CoordinatorKind, NodeId, Observation, ReplicaRole, TopicIdPartition};
use std::collections::BTreeMap;

/// Judges every observation as it comes. The rules need only what is told: they hold whatever the broker does inside.
#[derive(Clone, Debug)]
pub struct WhiteBox {
    ctx: Context,
    findings: Findings,
    places: BTreeMap<TopicIdPartition, usize>,
    partitions: Vec<ReplicaSet>,
    /// The partition looked up last: observations come in bursts.
    latest: Option<(TopicIdPartition, usize)>,
    registrations: Registrations,
    proposals: Proposals,
    quorum: Quorum,
    quorum_log: QuorumLog,
    groups: Groups,
    transactions: Transactions,
    batches: usize,
    over_budget: bool,
}

impl WhiteBox {
    /// A judge of a run under `ctx`. Of the context it reads the configuration and the names, both of which may still
    /// be told later ([`Self::context_mut`]: topics get their ids when they are created). A topic's name it also learns
    /// from what is observed.
    #[must_use]
    pub fn new(ctx: Context) -> Self {
        WhiteBox {
            ctx,
            findings: Findings::of(Evidence::WhiteBox),
            places: BTreeMap::new(),
            partitions: Vec::new(),
            latest: None,
            registrations: Registrations::default(),
            proposals: Proposals::default(),
            quorum: Quorum::default(),
            quorum_log: QuorumLog::default(),
            groups: Groups::default(),
            transactions: Transactions::default(),
            batches: 0,
            over_budget: false,
        }
    }

    /// The context, to add topics to as they are created.
    pub fn context_mut(&mut self) -> &mut Context {
        &mut self.ctx
    }

    /// The context.
    #[must_use]
    pub fn context(&self) -> &Context {
        &self.ctx
    }

    fn partition(&mut self, id: TopicIdPartition) -> usize {
        if let Some((latest, at)) = self.latest
            && latest == id
        {
            return at;
        }
        let at = *self.places.entry(id).or_insert_with(|| {
            self.partitions.push(ReplicaSet::new(id));
            if self.over_budget {
                self.partitions.last_mut().expect("just pushed").forget_batches();
            }
            self.partitions.len() - 1
        });
        self.latest = Some((id, at));
        at
    }

    /// `node`, in its `incarnation` (which rises with every start), said `fact` at `at`.
    pub fn observe(&mut self, at: SimTime, node: NodeId, incarnation: u32, fact: &Observation) {
        let place = Place { at, node, incarnation };
        match *fact {
            Observation::Appended {
                partition,
                base,
                last,
                leader_epoch,
                crc,
                producer,
                is_transactional,
                is_control,
                role,
                ..
            } => {
                let set = self.partition(partition);
                let set = &mut self.partitions[set];
                let before = set.batches;
                let name = Name { base, last, epoch: leader_epoch, crc };
                set.appended(&self.ctx, &mut self.findings, place, name, role);
                let grew = set.batches > before;
                if let Some(stamp) = producer {
                    let batch = Stamped { base, last, epoch: leader_epoch, stamp, is_transactional, is_control };
                    match role {
                        ReplicaRole::Leader => {
                            self.transactions.appended(&self.ctx, &mut self.findings, place, set, batch);
                        }
                        ReplicaRole::Follower if grew => self.transactions.copied(partition, batch),
                        ReplicaRole::Follower => {}
                    }
                }
                if grew {
                    self.batches += 1;
                    self.keep_to_budget();
                }
            }
            Observation::HighWatermark { partition, leader_epoch, high_watermark, log_end, role } => {
                let set = self.partition(partition);
                let told = (leader_epoch, high_watermark, log_end);
                self.partitions[set].high_watermark(&self.ctx, &mut self.findings, place, told, role);
            }
            Observation::Acknowledged { partition, base, last, high_watermark, isr_size, .. } => {
                let set = self.partition(partition);
                let told = (high_watermark, isr_size);
                self.partitions[set].acknowledged(&self.ctx, &mut self.findings, place, (base, last), told);
            }
            Observation::LogLoaded { partition, log_start, log_end, high_watermark, .. } => {
                let set = self.partition(partition);
                let told = (log_start, log_end, high_watermark);
                self.partitions[set].loaded(&self.ctx, &mut self.findings, place, told);
            }
            Observation::Truncated { partition, from, to } => {
                let set = self.partition(partition);
                self.partitions[set].truncated(&self.ctx, &mut self.findings, place, from, to);
            }
            Observation::LogStart { partition, log_start } => {
                let set = self.partition(partition);
                self.partitions[set].log_start(&self.ctx, &mut self.findings, place, log_start);
                if partition == TopicIdPartition::METADATA {
                    self.quorum_log.log_start(&self.ctx, &mut self.findings, place, log_start);
                }
            }
            Observation::SegmentsDeleted { partition, from, until, active } => {
                let set = self.partition(partition);
                let set = &mut self.partitions[set];
                cleanup::deleted(&self.ctx, &mut self.findings, place, set, [from, until, active]);
            }
            Observation::Cleaned { partition, until, active } => {
                let set = self.partition(partition);
                cleanup::cleaned(&self.ctx, &mut self.findings, place, &self.partitions[set], (until, active));
            }
            Observation::BecameLeader { .. }
            | Observation::BecameFollower { .. }
            | Observation::IsrProposed { .. }
            | Observation::IsrCommitted { .. }
            | Observation::PartitionChanged { .. } => self.observe_leadership(place, fact),
            Observation::CoordinatorLoaded { .. }
            | Observation::CoordinatorUnloaded { .. }
            | Observation::GroupChanged { .. }
            | Observation::MemberChanged(_)
            | Observation::MemberGone { .. }
            | Observation::OffsetCommitted { .. } => {
                self.groups.observe(&self.ctx, &mut self.findings, place, fact);
            }
            Observation::TransactionChanged(_) | Observation::TransactionMarker { .. } => {
                if let Observation::TransactionChanged(told) = fact {
                    let kind = CoordinatorKind::Transaction;
                    self.groups.is_active(&self.ctx, &mut self.findings, place, kind, told.coordinator_epoch);
                }
                self.transactions.observe(&self.ctx, &mut self.findings, place, fact);
            }
            _ => self.observe_quorum(place, fact),
        }
    }

    fn observe_leadership(&mut self, place: Place, fact: &Observation) {
        match fact {
            Observation::BecameLeader { partition, leader_epoch, start, isr } => {
                let set = self.partition(*partition);
                self.registrations.took_over(place, *partition, *leader_epoch);
                let (ctx, out) = (&self.ctx, &mut self.findings);
                self.partitions[set].became_leader(ctx, out, place, *leader_epoch, *start, isr.to_vec());
            }
            Observation::IsrProposed { partition, leader_epoch, partition_epoch, isr } => {
                let set = self.partition(*partition);
                let (ctx, out) = (&self.ctx, &mut self.findings);
                let told = (*leader_epoch, *partition_epoch, &isr[..]);
                self.proposals.proposed(ctx, out, place, &mut self.partitions[set], told);
            }
            Observation::BecameFollower { partition, leader, leader_epoch } => {
                let set = self.partition(*partition);
                self.partitions[set].follows(place, *leader, *leader_epoch);
                self.close_excuses(set, place.at);
            }
            Observation::IsrCommitted { partition, partition_epoch, isr, .. } => {
                let set = self.partition(*partition);
                self.partitions[set].isr_committed(place.node, isr);
                let registered = self.registrations.known(*partition, *partition_epoch);
                Proposals::committed(&self.ctx, &mut self.findings, place, *partition, (isr, registered));
            }
            Observation::PartitionChanged {
                partition,
                leader,
                leader_epoch,
                partition_epoch,
                isr,
                replicas,
                adding,
                removing,
                elr,
                last_known_elr,
                unclean,
            } => {
                let registration = Registration {
                    leader: *leader,
                    leader_epoch: *leader_epoch,
                    partition_epoch: *partition_epoch,
                    isr: isr.clone(),
                    replicas: replicas.clone(),
                    adding: adding.clone(),
                    removing: removing.clone(),
                    elr: elr.clone(),
                    last_known_elr: last_known_elr.clone(),
                };
                let (ctx, out) = (&self.ctx, &mut self.findings);
                if let Some(old) = self.registrations.changed(ctx, out, place, *partition, (&registration, *unclean)) {
                    let set = self.partition(*partition);
                    let (ctx, out) = (&self.ctx, &mut self.findings);
                    let change = (old.as_ref(), &registration);
                    self.proposals.changed(ctx, out, place, &self.partitions[set], change);
                    let rules = self.ctx.rules(*partition);
                    let elected = (*leader, *leader_epoch, *unclean);
                    self.partitions[set].budget.changed(place.at, elected, isr, rules);
                    self.close_excuses(set, place.at);
                }
            }
            _ => {}
        }
    }

    fn observe_quorum(&mut self, place: Place, fact: &Observation) {
        let set = self.partition(TopicIdPartition::METADATA);
        let (ctx, out) = (&self.ctx, &mut self.findings);
        match *fact {
            Observation::QuorumEpoch { epoch } => self.quorum.entered(ctx, out, place, epoch),
            Observation::QuorumVote { epoch, candidate } => self.quorum.voted(ctx, out, place, epoch, candidate),
            Observation::QuorumFollower { epoch, leader } => {
                self.quorum.names_leader(ctx, out, place, epoch, leader);
                self.partitions[set].follows(place, Some(leader), epoch);
            }
            Observation::QuorumProspective { epoch } => self.quorum.prospective(ctx, out, place, epoch),
            Observation::QuorumCandidate { epoch } => self.quorum.stands(ctx, out, place, epoch),
            Observation::ControllerAnswered { until } => {
                self.partitions[set].controller_answered(ctx, out, place, until);
            }
            Observation::SnapshotTaken(snapshot) => {
                self.quorum_log.taken(ctx, out, place, &self.partitions[set], snapshot);
            }
            Observation::SnapshotLoaded(snapshot) => {
                self.quorum_log.loaded(ctx, out, place, &mut self.partitions[set], snapshot);
            }
            Observation::VotersChanged { offset, ref voters } => {
                self.quorum_log.voters(ctx, out, place, &self.partitions[set], (offset, voters));
                self.ctx.voters = voters.to_vec();
            }
            Observation::BrokerShuttingDown { broker, broker_epoch } => {
                self.registrations.shutting_down(broker, broker_epoch);
            }
            Observation::QuorumLeader { epoch, start } => {
                if let Some(voters) = self.quorum_log.voters_of(&self.partitions[set], place.node) {
                    self.ctx.voters = voters;
                }
                let (ctx, out) = (&self.ctx, &mut self.findings);
                self.quorum.won(ctx, out, place, epoch);
                self.partitions[set].became_leader(ctx, out, place, epoch, start, Vec::new());
            }
            Observation::QuorumResigned { epoch } => {
                self.quorum.resigned(ctx, out, place, epoch);
                self.partitions[set].stopped_leading(place.node);
            }
            Observation::TopicCreated { topic, ref name } => {
                self.ctx.topics.insert(topic, name.as_str().to_owned());
            }
            Observation::TopicDeleted { topic } => self.registrations.deleted(topic),
            Observation::BrokerRegistered { broker, broker_epoch } => {
                self.registrations.registered(ctx, out, place, broker, broker_epoch);
            }
            Observation::BrokerFenced { broker, broker_epoch } => {
                self.registrations.fenced(ctx, out, place, (broker, broker_epoch), true);
            }
            Observation::BrokerUnfenced { broker, broker_epoch } => {
                self.registrations.fenced(ctx, out, place, (broker, broker_epoch), false);
            }
            _ => {}
        }
    }

    fn close_excuses(&mut self, set: usize, at: SimTime) {
        let set = &mut self.partitions[set];
        let rules = self.ctx.rules(set.id());
        set.budget.close(at, &set.believers, rules);
    }

    fn keep_to_budget(&mut self) {
        let most = if self.ctx.max_batches == 0 { Context::BATCHES } else { self.ctx.max_batches };
        if self.batches > most && !self.over_budget {
            self.over_budget = true;
            self.partitions.iter_mut().for_each(ReplicaSet::forget_batches);
            self.batches = 0;
        }
    }

    /// The process of `node` ended; its page cache is kept.
    pub fn node_down(&mut self, node: NodeId, at: SimTime) {
        self.groups.down(node);
        for set in 0..self.partitions.len() {
            self.partitions[set].down(node);
            self.close_excuses(set, at);
        }
    }

    /// `node` may have lost bytes that it had written. For a power loss or a wipe this says that the process ended, too.
    pub fn node_lost(&mut self, node: NodeId, at: SimTime, kind: LossKind) {
        self.ctx.losses.push(Loss { node, at, kind });
        if kind == LossKind::PowerLoss {
            self.registrations.lost_power(node);
        }
        for set in &mut self.partitions {
            let rules = self.ctx.rules(set.id());
            if kind == LossKind::PowerLoss {
                set.budget.lost_power(node);
            }
            if set.id() == TopicIdPartition::METADATA {
                // The quorum syncs before it counts: only what breaks that can cost it anything.
                if kind != LossKind::PowerLoss && self.ctx.voters.contains(&node) {
                    set.budget.give_up(at);
                }
            } else if kind != LossKind::PowerLoss || !rules.flush_before_ack {
                set.budget.lost(node, at, rules);
            }
            set.lost(node, kind == LossKind::DiskWipe);
        }
        if kind == LossKind::DiskWipe {
            self.quorum.wiped(node);
            self.quorum_log.wiped(node);
        }
        if matches!(kind, LossKind::PowerLoss | LossKind::DiskWipe) {
            self.node_down(node, at);
        }
    }

    /// What excuses losses, by partition, so far: the black box needs it as [`Context::excuses`].
    #[must_use]
    pub fn excuses(&self) -> BTreeMap<TopicIdPartition, Vec<Excuse>> {
        self.partitions.iter().map(|set| (set.id(), set.budget.excuses().to_vec())).collect()
    }

    /// Ends the run: compares what the disks hold with what was observed, and tells what every check found.
    #[must_use]
    pub fn finish(mut self, end: &EndState) -> Vec<CheckResult> {
        for partition in &end.partitions {
            let set = self.partition(partition.partition);
            self.partitions[set].check_on_disk(&self.ctx, &mut self.findings, &partition.replicas);
            for replica in &partition.replicas {
                for batch in &replica.batches {
                    let name = Name { base: batch.base, last: batch.last, epoch: batch.leader_epoch, crc: batch.crc };
                    self.partitions[set].on_disk(&self.ctx, &mut self.findings, replica.node, name);
                }
            }
        }
        self.registrations.finish(&self.ctx, &mut self.findings, &end.images);
        for set in &self.partitions {
            set.count(&mut self.findings);
        }
        if self.over_budget {
            self.findings.unknown(LOG_MATCHING);
            self.findings.unknown(METADATA_LOG_MATCHING);
        }
        self.findings.into_results()
    }
}
