//! Liveness after healing: what a cluster must look like some time after the last fault ended.

use crate::context::{Context, seconds};
use crate::findings::Findings;
use crate::history::SimTime;
use crate::isr::registration::Registration;
use crate::registry::{
    BROKERS_UNFENCED, CANARIES, CONVERGES, Evidence, GROUPS_STABLE, HIGH_WATERMARK_AT_END, ISR_FULL, LEADER_EVERYWHERE,
    METADATA_EVERYWHERE, ONE_CONTROLLER, REASSIGNMENTS_END, REPLICAS_EQUAL, TRANSACTIONS_DECIDED,
};
use crate::storage::{self, SegmentEnd, SnapshotEnd};
use crate::verdict::CheckResult;
use broker_types::{GroupId, GroupState, LeaderEpoch, NodeId, Offset, ProducerStamp, TopicIdPartition};
use std::collections::BTreeMap;

/// The cluster once faults have ended, traffic has stopped and it had its time to get well.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct EndState {
    /// Every partition of every topic.
    pub partitions: Vec<PartitionEnd>,
    /// The metadata log of every running node; empty when nobody read any.
    pub metadata_logs: Vec<ReplicaEnd>,
    /// The controllers as they see the quorum; empty when nobody asked.
    pub controllers: Vec<ControllerEnd>,
    /// What every running node knows of the metadata; empty when nobody asked.
    pub images: Vec<ImageEnd>,
    /// Brokers that run, and whether they are registered and unfenced; empty when nobody asked.
    pub brokers: Vec<BrokerEnd>,
    /// Groups that have members, as their coordinators see them.
    pub groups: Vec<GroupEnd>,
    /// How long the cluster took to be whole; `None` when nobody waited for it.
    pub convergence: Option<Convergence>,
    /// What was tried at the end on purpose, to see that the cluster serves.
    pub canaries: Vec<Canary>,
    /// How long brokers had to clean up; `None` when nobody gave them the time.
    pub idle: Option<Idle>,
}

/// One partition at the end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionEnd {
    /// Which.
    pub partition: TopicIdPartition,
    /// Who leads, as the controller says.
    pub leader: Option<NodeId>,
    /// The ISR, as the controller says.
    pub isr: Vec<NodeId>,
    /// The replicas that it is assigned to.
    pub assigned: Vec<NodeId>,
    /// Its replicas on nodes that run and whose disks are whole. An assigned replica that is missing here is not expected
    /// to be in the ISR: its node was left broken on purpose.
    pub replicas: Vec<ReplicaEnd>,
}

/// One replica's log at the end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReplicaEnd {
    /// Where.
    pub node: NodeId,
    /// First offset kept, inclusive.
    pub log_start: Offset,
    /// Log end offset, exclusive.
    pub log_end: Offset,
    /// High watermark, exclusive.
    pub high_watermark: Offset,
    /// Every batch, as read from the disk, in order.
    pub batches: Vec<BatchEnd>,
    /// Hash over all bytes of all batches; `None` when nobody computed it.
    pub file_digest: Option<u128>,
    /// Why the log does not parse, or which batch is broken, in words.
    pub damage: Option<String>,
    /// The leader epoch checkpoint as it lies on the disk: each epoch and its first offset. `None` when nobody read it.
    pub epoch_starts: Option<Vec<(LeaderEpoch, Offset)>>,
    /// Its segments and their indexes, in order; `None` when nobody read them, or the log does not parse.
    pub segments: Option<Vec<SegmentEnd>>,
    /// The snapshots of its producers, in order; `None` likewise.
    pub producer_snapshots: Option<Vec<SnapshotEnd>>,
    /// The last stable offset, exclusive; `None` when nobody asked.
    pub last_stable: Option<Offset>,
    /// First offset that the cleaner has not been at, as its checkpoint says; `None` when it was never there.
    pub cleaned: Option<Offset>,
}

/// How long healing took, in nanoseconds of simulated time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Convergence {
    /// The most that it may take.
    pub within_ns: u64,
    /// What it took; `None` if it was not over when the time was.
    pub took_ns: Option<u64>,
}

/// The time in which nothing was written any more. Long enough for whoever cleans up to have come by several times
/// (`log.retention.check.interval.ms`, `log.cleaner.backoff.ms`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Idle {
    /// When it began, in milliseconds since 1970, as the slowest broker's clock has it.
    pub since_ms: i64,
}

/// One group at the end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupEnd {
    /// Which.
    pub group: GroupId,
    /// Its state.
    pub state: GroupState,
    /// Partitions that it subscribes to and that no member reads.
    pub unowned: Vec<TopicIdPartition>,
}

/// One batch as read from the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BatchEnd {
    /// First offset, inclusive.
    pub base: Offset,
    /// Last offset, inclusive.
    pub last: Offset,
    /// Its leader epoch.
    pub leader_epoch: LeaderEpoch,
    /// CRC-32C as stored.
    pub crc: u32,
    /// Bytes, header included.
    pub size: u32,
    /// Largest timestamp, milliseconds; negative for none.
    pub max_timestamp: i64,
    /// The idempotent or transactional producer; `None` for a plain one.
    pub producer: Option<ProducerStamp>,
    /// It belongs to a transaction.
    pub is_transactional: bool,
    /// It holds control records.
    pub is_control: bool,
}

/// One controller at the end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ControllerEnd {
    /// Which.
    pub node: NodeId,
    /// Its quorum epoch.
    pub epoch: LeaderEpoch,
    /// Who leads the quorum, as it believes.
    pub leader: Option<NodeId>,
    /// Its metadata log's end, exclusive.
    pub log_end: Offset,
    /// Its high watermark, exclusive.
    pub high_watermark: Offset,
}

/// The metadata that one running node has replayed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ImageEnd {
    /// Which node.
    pub node: NodeId,
    /// First metadata offset that it has not replayed.
    pub end: Offset,
    /// The partitions it knows of.
    pub partitions: BTreeMap<TopicIdPartition, Registration>,
}

/// One running broker at the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BrokerEnd {
    /// Which.
    pub node: NodeId,
    /// The controller holds it for unfenced.
    pub unfenced: bool,
}

/// One thing tried at the end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Canary {
    /// What: `produce to orders-0`.
    pub what: String,
    /// `None` when it worked, else what came instead.
    pub error: Option<String>,
}

/// Judges the end of a run by every check that rests on it.
#[must_use]
pub fn converged(end: &EndState, ctx: &Context) -> Vec<CheckResult> {
    let mut out = Findings::of(Evidence::End);
    for partition in &end.partitions {
        has_leader(partition, ctx, &mut out);
        has_full_isr(partition, ctx, &mut out);
        has_all_committed(partition, ctx, &mut out);
        has_equal_replicas(partition, ctx, &mut out);
        has_no_open_transaction(partition, ctx, &mut out);
        storage::check(partition.partition, &partition.replicas, ctx, &mut out);
        if let Some(idle) = end.idle {
            storage::cleanup::check(partition, idle, ctx, &mut out);
        }
    }
    storage::check(TopicIdPartition::METADATA, &end.metadata_logs, ctx, &mut out);
    in_time(end, ctx, &mut out);
    reassignments_end(end, ctx, &mut out);
    groups_stable(end, ctx, &mut out);
    one_controller(end, ctx, &mut out);
    metadata_everywhere(end, ctx, &mut out);
    for broker in &end.brokers {
        out.opportunity(BROKERS_UNFENCED, 1);
        if !broker.unfenced {
            out.find(BROKERS_UNFENCED, ctx, None, None, || {
                vec![format!("{} runs and is still fenced", ctx.node_name(broker.node))]
            });
        }
    }
    for canary in &end.canaries {
        out.opportunity(CANARIES, 1);
        if let Some(error) = &canary.error {
            out.find(CANARIES, ctx, None, None, || vec![format!("{}: {error}", canary.what)]);
        }
    }
    out.into_results()
}

fn describe(partition: &PartitionEnd, ctx: &Context) -> String {
    format!(
        "{}: leader {}, ISR {}, replicas {}",
        ctx.partition_name(partition.partition),
        partition.leader.map_or("none".to_owned(), |leader| ctx.node_name(leader)),
        ctx.node_names(&partition.isr),
        ctx.node_names(&partition.assigned),
    )
}

/// V3: not asked of a partition none of whose possible leaders is alive.
fn has_leader(partition: &PartitionEnd, ctx: &Context, out: &mut Findings) {
    let may_lead =
        |replica: &ReplicaEnd| partition.isr.contains(&replica.node) || ctx.rules(partition.partition).unclean_election;
    if !partition.replicas.iter().any(may_lead) {
        return;
    }
    out.opportunity(LEADER_EVERYWHERE, 1);
    let is_alive = |leader: NodeId| partition.replicas.iter().any(|replica| replica.node == leader);
    if !partition.leader.is_some_and(is_alive) {
        out.find(LEADER_EVERYWHERE, ctx, None, None, || vec![describe(partition, ctx)]);
    }
}

/// V4.
fn has_full_isr(partition: &PartitionEnd, ctx: &Context, out: &mut Findings) {
    out.opportunity(ISR_FULL, 1);
    let missing: Vec<NodeId> = partition.replicas.iter().map(|replica| replica.node).collect();
    let missing: Vec<NodeId> = missing.into_iter().filter(|node| !partition.isr.contains(node)).collect();
    if !missing.is_empty() {
        out.find(ISR_FULL, ctx, None, None, || {
            let missing = format!("alive and not in the ISR: {}", ctx.node_names(&missing));
            vec![describe(partition, ctx), missing]
        });
    }
}

/// V5, the half about the high watermark.
fn has_all_committed(partition: &PartitionEnd, ctx: &Context, out: &mut Findings) {
    for replica in &partition.replicas {
        out.opportunity(HIGH_WATERMARK_AT_END, 1);
        if replica.high_watermark != replica.log_end {
            out.find(HIGH_WATERMARK_AT_END, ctx, None, None, || {
                let (node, end) = (ctx.node_name(replica.node), replica.log_end);
                vec![
                    describe(partition, ctx),
                    format!("{node}: high watermark {}, log end {end}", replica.high_watermark),
                ]
            });
        }
    }
}

/// V5, the half about the bytes. Replicas may have dropped different amounts of their beginning.
fn has_equal_replicas(partition: &PartitionEnd, ctx: &Context, out: &mut Findings) {
    let Some((first, others)) = partition.replicas.split_first() else { return };
    for other in others {
        out.opportunity(REPLICAS_EQUAL, 1);
        if let Some(difference) = difference(first, other) {
            out.find(REPLICAS_EQUAL, ctx, None, None, || {
                let (left, right) = (ctx.node_name(first.node), ctx.node_name(other.node));
                let name = ctx.partition_name(partition.partition);
                vec![format!("{name}: {left} and {right} differ: {difference}"), describe(partition, ctx)]
            });
        }
    }
}

fn difference(left: &ReplicaEnd, right: &ReplicaEnd) -> Option<String> {
    if left.log_end != right.log_end {
        return Some(format!("one log ends at {}, the other at {}", left.log_end, right.log_end));
    }
    let start = left.log_start.max(right.log_start);
    let above = |replica: &'_ ReplicaEnd| replica.batches.partition_point(|batch| batch.last < start);
    let (mut ours, mut theirs) = (left.batches[above(left)..].iter(), right.batches[above(right)..].iter());
    loop {
        match (ours.next(), theirs.next()) {
            (None, None) => break,
            (Some(our), Some(their)) if our == their => {}
            (our, their) => {
                let tell = |batch: Option<&BatchEnd>| match batch {
                    Some(batch) => {
                        let BatchEnd { base, last, leader_epoch, crc, .. } = batch;
                        format!("batch {base}..={last} of leader epoch {leader_epoch} with CRC {crc:08x}")
                    }
                    None => "no further batch".to_owned(),
                };
                return Some(format!("{} against {}", tell(our), tell(their)));
            }
        }
    }
    let digests = left.file_digest.zip(right.file_digest).filter(|_| left.log_start == right.log_start);
    let differing = digests.filter(|(ours, theirs)| ours != theirs);
    differing.map(|(ours, theirs)| format!("the same batches, but other bytes: {ours:032x} against {theirs:032x}"))
}

/// V1.
fn one_controller(end: &EndState, ctx: &Context, out: &mut Findings) {
    let Some(first) = end.controllers.first() else { return };
    out.opportunity(ONE_CONTROLLER, 1);
    let agrees = |controller: &ControllerEnd| {
        let same = |c: &ControllerEnd| (c.leader, c.epoch, c.high_watermark);
        controller.leader.is_some() && same(controller) == same(first)
    };
    if !end.controllers.iter().all(agrees) {
        out.find(ONE_CONTROLLER, ctx, None, None, || {
            let tell = |controller: &ControllerEnd| {
                format!(
                    "{}: epoch {}, leader {}, high watermark {}, log end {}",
                    ctx.node_name(controller.node),
                    controller.epoch,
                    controller.leader.map_or("none".to_owned(), |leader| ctx.node_name(leader)),
                    controller.high_watermark,
                    controller.log_end
                )
            };
            end.controllers.iter().map(tell).collect()
        });
    }
}

/// The newest registration of every partition that any node knows, and who.
fn newest(end: &EndState) -> BTreeMap<TopicIdPartition, (&Registration, NodeId)> {
    let mut newest: BTreeMap<TopicIdPartition, (&Registration, NodeId)> = BTreeMap::new();
    for image in &end.images {
        for (partition, registration) in &image.partitions {
            let known = newest.entry(*partition).or_insert((registration, image.node));
            if registration.partition_epoch > known.0.partition_epoch {
                *known = (registration, image.node);
            }
        }
    }
    newest
}

/// V9: no reassignment goes on for ever. Voters that change are in the metadata log, whose end [`one_controller`] looks at.
fn reassignments_end(end: &EndState, ctx: &Context, out: &mut Findings) {
    for (partition, (registration, by)) in newest(end) {
        out.opportunity(REASSIGNMENTS_END, 1);
        if registration.is_reassigning() {
            out.find(REASSIGNMENTS_END, ctx, None, None, || {
                let (name, by) = (ctx.partition_name(partition), ctx.node_name(by));
                vec![format!("{name}: {by} knows {}", registration.tell(ctx))]
            });
        }
    }
}

/// V4, the half about what nodes know: the newest registration of every partition has reached all of them.
fn metadata_everywhere(end: &EndState, ctx: &Context, out: &mut Findings) {
    let newest = newest(end);
    for image in &end.images {
        for (partition, (registration, by)) in &newest {
            out.opportunity(METADATA_EVERYWHERE, 1);
            let own = image.partitions.get(partition);
            if own.is_some_and(|own| own.partition_epoch >= registration.partition_epoch) {
                continue;
            }
            out.find(METADATA_EVERYWHERE, ctx, None, None, || {
                let (name, node, by) = (ctx.partition_name(*partition), ctx.node_name(image.node), ctx.node_name(*by));
                vec![
                    format!("{name}: {by} knows {}", registration.tell(ctx)),
                    match own {
                        Some(own) => format!("{node}, which has replayed up to {}, knows {}", image.end, own.tell(ctx)),
                        None => format!("{node}, which has replayed up to {}, does not know it", image.end),
                    },
                ]
            });
        }
    }
}

/// All of the above, in time: what is whole in the end may have been whole too late.
fn in_time(end: &EndState, ctx: &Context, out: &mut Findings) {
    let Some(Convergence { within_ns, took_ns }) = end.convergence else { return };
    out.opportunity(CONVERGES, 1);
    if took_ns.is_none_or(|took| took > within_ns) {
        out.find(CONVERGES, ctx, None, None, || {
            let within = seconds(SimTime(within_ns));
            let took =
                took_ns.map_or("it was not by then".to_owned(), |took| format!("it took {}", seconds(SimTime(took))));
            vec![format!("the cluster was to be whole within {within} after the last fault; {took}")]
        });
    }
}

/// V7.
fn groups_stable(end: &EndState, ctx: &Context, out: &mut Findings) {
    for group in &end.groups {
        out.opportunity(GROUPS_STABLE, 1);
        if group.state != GroupState::Stable || !group.unowned.is_empty() {
            out.find(GROUPS_STABLE, ctx, None, None, || {
                let names: Vec<String> = group.unowned.iter().map(|id| ctx.partition_name(*id)).collect();
                let unowned = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                vec![format!("group {}: {:?}; partitions that nobody reads: {unowned}", group.group, group.state)]
            });
        }
    }
}

/// V8.
fn has_no_open_transaction(partition: &PartitionEnd, ctx: &Context, out: &mut Findings) {
    for replica in &partition.replicas {
        let Some(last_stable) = replica.last_stable else { continue };
        out.opportunity(TRANSACTIONS_DECIDED, 1);
        if last_stable != replica.high_watermark {
            out.find(TRANSACTIONS_DECIDED, ctx, None, None, || {
                let (node, high_watermark) = (ctx.node_name(replica.node), replica.high_watermark);
                vec![
                    describe(partition, ctx),
                    format!("{node}: last stable offset {last_stable}, high watermark {high_watermark}"),
                ]
            });
        }
    }
}
