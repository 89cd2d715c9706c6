//! What happens in a run besides the workloads: steps that the file names, and faults that a nemesis draws.

use super::predicate::Predicate;
use super::quantity::{ByteRate, DurationRange, Proportion, SignedDuration, SignedRange, SimDuration};
use super::scenario::{Config, Topic};
use super::target::{Target, Targets};
use schemars::JsonSchema;
use serde::Serialize;

/// One `[[step]]`: when, and what.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Step {
    /// When it fires; once.
    #[serde(flatten)]
    pub trigger: Trigger,
    /// What it does.
    #[serde(flatten)]
    pub action: Action,
    /// Whether a run in which it never fired, or had no effect, is inconclusive.
    #[serde(skip_serializing_if = "is_true")]
    #[schemars(default = "yes")]
    pub required: bool,
}

fn yes() -> bool {
    true
}

fn one() -> u32 {
    1
}

fn is_true(required: &bool) -> bool {
    *required
}

impl Step {
    /// A required step at a time.
    #[must_use]
    pub fn at(at: SimDuration, action: Action) -> Self {
        Step { trigger: Trigger::At(at), action, required: true }
    }

    /// A required step that waits for a predicate.
    #[must_use]
    pub fn when(when: Predicate, action: Action) -> Self {
        Step { trigger: Trigger::When(when), action, required: true }
    }
}

/// When a step fires.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Trigger {
    /// So long after the run's start.
    At(SimDuration),
    /// When this first holds.
    When(Predicate),
}

/// One thing that happens. Its serialised form is externally tagged: `crash = { node = "broker-1" }`.
///
/// Where `lasts` (written `for`) or `down` is absent, it lasts until a `heal {}` or the end of the run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// The process ends at once: memory is lost, the page cache is kept.
    Crash(NodeDown),
    /// The machine loses power: memory and what was not synced are lost.
    PowerLoss(NodeDown),
    /// The process ends and its disk is empty when it starts again.
    Wipe(NodeDown),
    /// The process stands still, as in a long garbage collection, and then goes on.
    Pause(NodeFault),
    /// The process is asked to end, and does so in order.
    Shutdown(NodeDown),
    /// The process is asked to end, ends in order, and starts again at once.
    Restart(NodeOnly),
    /// Each of the nodes in turn is restarted in order.
    RollingRestart(RollingRestart),
    /// Packets between some nodes are lost.
    Partition(Partition),
    /// Packets between the node and everyone else, clients too, are lost.
    Isolate(NodeFault),
    /// Packets between two nodes take longer.
    SlowLink(SlowLink),
    /// Part of the packets between two nodes is lost and sent again.
    LossyLink(LossyLink),
    /// Connections between two nodes are reset again and again.
    FlakyLink(FlakyLink),
    /// Less fits between two nodes.
    Throttle(Throttle),
    /// The n-th request of an API to a node is lost, and its connection with it.
    DropRequest(RequestFault),
    /// The n-th request of an API to a node arrives late.
    DelayRequest(DelayedRequestFault),
    /// The n-th response of an API from a node is lost, and its connection with it.
    DropResponse(RequestFault),
    /// The n-th response of an API from a node arrives late.
    DelayResponse(DelayedRequestFault),
    /// Reads and syncs take longer.
    SlowDisk(SlowDisk),
    /// Reads and syncs do not come back while it lasts.
    StallDisk(NodeFault),
    /// Writes fail for want of space.
    FullDisk(NodeFault),
    /// Reads fail.
    ReadError(NodeFault),
    /// Writes fail.
    WriteError(NodeFault),
    /// Syncs fail, and what they should have made durable is lost, as on Linux.
    SyncError(NodeFault),
    /// Stored bits flip.
    BitRot(NodeFault),
    /// The node's wall clock is off by this.
    ClockSkew(ClockShift),
    /// The node's wall clock jumps by this, once.
    ClockStep(ClockShift),
    /// The node's clocks run faster or slower.
    ClockDrift(ClockDrift),
    /// The node's wall clock stands still.
    ClockFreeze(NodeFault),
    /// The preferred replica is asked to lead.
    ElectLeader(ElectLeader),
    /// A partition's replicas move.
    Reassign(Reassign),
    /// A topic is created.
    CreateTopic(Topic),
    /// A topic is deleted.
    DeleteTopic(TopicOnly),
    /// A topic gets more partitions.
    AddPartitions(AddPartitions),
    /// A topic's, a broker's or the cluster's configuration changes.
    AlterConfig(AlterConfig),
    /// A partition forgets its first records.
    DeleteRecords(DeleteRecords),
    /// A controller becomes a voter of the metadata quorum.
    AddVoter(NodeOnly),
    /// A controller stops being a voter.
    RemoveVoter(NodeOnly),
    /// A broker that was removed, or never started, joins the cluster.
    AddBroker(NodeOnly),
    /// A broker is drained, shut down in order and unregistered.
    RemoveBroker(NodeOnly),
    /// Another consumer joins a group.
    JoinGroup(GroupOnly),
    /// One consumer leaves a group.
    LeaveGroup(GroupOnly),
    /// One consumer of a group leaves and comes back as a new member.
    RestartConsumer(GroupOnly),
    /// Everything that is broken is made whole, now.
    Heal(Nothing),
    /// Every check that looks at the cluster's state is made, now.
    Check(Nothing),
}

impl Action {
    /// Every target it names, in the order of the file, to be looked at or replaced.
    pub fn targets_mut(&mut self) -> Vec<&mut Target> {
        match self {
            Action::Crash(fault) | Action::PowerLoss(fault) | Action::Wipe(fault) | Action::Shutdown(fault) => {
                vec![&mut fault.node]
            }
            Action::Pause(fault)
            | Action::Isolate(fault)
            | Action::StallDisk(fault)
            | Action::FullDisk(fault)
            | Action::ReadError(fault)
            | Action::WriteError(fault)
            | Action::SyncError(fault)
            | Action::BitRot(fault)
            | Action::ClockFreeze(fault) => vec![&mut fault.node],
            Action::Restart(fault)
            | Action::AddVoter(fault)
            | Action::RemoveVoter(fault)
            | Action::AddBroker(fault)
            | Action::RemoveBroker(fault) => vec![&mut fault.node],
            Action::RollingRestart(restart) => restart.nodes.0.iter_mut().collect(),
            Action::Partition(Partition::Groups(partition)) => partition.groups.iter_mut().flatten().collect(),
            Action::Partition(Partition::OneWay(partition)) => {
                partition.from.0.iter_mut().chain(partition.to.0.iter_mut()).collect()
            }
            Action::Partition(Partition::Bridge(partition)) => vec![&mut partition.bridge],
            Action::SlowLink(link) => link.between.iter_mut().collect(),
            Action::LossyLink(link) => link.between.iter_mut().collect(),
            Action::FlakyLink(link) => link.between.iter_mut().collect(),
            Action::Throttle(link) => link.between.iter_mut().collect(),
            Action::DropRequest(fault) | Action::DropResponse(fault) => vec![&mut fault.node],
            Action::DelayRequest(fault) | Action::DelayResponse(fault) => vec![&mut fault.node],
            Action::SlowDisk(fault) => vec![&mut fault.node],
            Action::ClockSkew(shift) | Action::ClockStep(shift) => vec![&mut shift.node],
            Action::ClockDrift(drift) => vec![&mut drift.node],
            Action::Reassign(reassign) => reassign.replicas.iter_mut().collect(),
            Action::AlterConfig(change) => change.node.iter_mut().collect(),
            Action::ElectLeader(_)
            | Action::CreateTopic(_)
            | Action::DeleteTopic(_)
            | Action::AddPartitions(_)
            | Action::DeleteRecords(_)
            | Action::JoinGroup(_)
            | Action::LeaveGroup(_)
            | Action::RestartConsumer(_)
            | Action::Heal(_)
            | Action::Check(_) => Vec::new(),
        }
    }

    /// How long it lasts, if it says so: its `for` or its `down`.
    #[must_use]
    pub fn lasts(&self) -> Option<SimDuration> {
        match self {
            Action::Crash(fault) | Action::PowerLoss(fault) | Action::Wipe(fault) | Action::Shutdown(fault) => {
                fault.down
            }
            Action::Pause(fault)
            | Action::Isolate(fault)
            | Action::StallDisk(fault)
            | Action::FullDisk(fault)
            | Action::ReadError(fault)
            | Action::WriteError(fault)
            | Action::SyncError(fault)
            | Action::BitRot(fault)
            | Action::ClockFreeze(fault) => fault.lasts,
            Action::Partition(Partition::Groups(partition)) => partition.lasts,
            Action::Partition(Partition::OneWay(partition)) => partition.lasts,
            Action::Partition(Partition::Bridge(partition)) => partition.lasts,
            Action::SlowLink(link) => link.lasts,
            Action::LossyLink(link) => link.lasts,
            Action::FlakyLink(link) => link.lasts,
            Action::Throttle(link) => link.lasts,
            Action::SlowDisk(fault) => fault.lasts,
            Action::ClockSkew(shift) | Action::ClockStep(shift) => shift.lasts,
            Action::ClockDrift(drift) => drift.lasts,
            _ => None,
        }
    }
}

impl NemesisRule {
    /// Whom it draws from, how often, and for how long.
    #[must_use]
    pub fn pool(&self) -> (&Targets, DurationRange, Option<DurationRange>) {
        match self {
            NemesisRule::Crash(rule)
            | NemesisRule::PowerLoss(rule)
            | NemesisRule::Wipe(rule)
            | NemesisRule::Shutdown(rule) => (&rule.nodes, rule.every, Some(rule.down)),
            NemesisRule::Restart(rule) => (&rule.nodes, rule.every, None),
            NemesisRule::Pause(rule)
            | NemesisRule::Partition(rule)
            | NemesisRule::Isolate(rule)
            | NemesisRule::StallDisk(rule)
            | NemesisRule::FullDisk(rule)
            | NemesisRule::ReadError(rule)
            | NemesisRule::WriteError(rule)
            | NemesisRule::SyncError(rule)
            | NemesisRule::BitRot(rule)
            | NemesisRule::ClockFreeze(rule) => (&rule.nodes, rule.every, Some(rule.lasts)),
            NemesisRule::SlowLink(rule) | NemesisRule::SlowDisk(rule) => (&rule.nodes, rule.every, Some(rule.lasts)),
            NemesisRule::LossyLink(rule) => (&rule.nodes, rule.every, Some(rule.lasts)),
            NemesisRule::FlakyLink(rule) => (&rule.nodes, rule.every, Some(rule.lasts)),
            NemesisRule::Throttle(rule) => (&rule.nodes, rule.every, Some(rule.lasts)),
            NemesisRule::ClockSkew(rule) | NemesisRule::ClockStep(rule) => (&rule.nodes, rule.every, rule.lasts),
            NemesisRule::ClockDrift(rule) => (&rule.nodes, rule.every, Some(rule.lasts)),
        }
    }
}

/// A node that goes down, and perhaps comes back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct NodeDown {
    /// Which.
    pub node: Target,
    /// For how long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub down: Option<SimDuration>,
}

/// Something wrong with a node for a while.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct NodeFault {
    /// Which.
    pub node: Target,
    /// For how long.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<SimDuration>,
}

/// A node and nothing else.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct NodeOnly {
    /// Which.
    pub node: Target,
}

/// No fields: `heal = {}`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Nothing {}

/// Restarts in turn.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct RollingRestart {
    /// Which, in this order; a set of nodes in the order of their ids. `any broker` here is every broker, and so on.
    pub nodes: Targets,
    /// From one node's return to the next one's shutdown.
    pub pause: SimDuration,
}

/// Which packets are lost. In a partition clients reach both sides unless a group names `clients`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Partition {
    /// Nodes of different groups do not hear each other.
    Groups(PartitionGroups),
    /// What `from` sends does not arrive at `to`; the other way all is well.
    OneWay(PartitionOneWay),
    /// Two halves do not hear each other; the bridge hears both.
    Bridge(PartitionBridge),
}

/// `partition = { groups, for }`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct PartitionGroups {
    /// At least two. A node that no group names hears everyone; `rest` names them all.
    pub groups: Vec<Vec<Target>>,
    /// For how long.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<SimDuration>,
}

/// `partition = { from, to, for }`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct PartitionOneWay {
    /// Who is not heard.
    pub from: Targets,
    /// By whom.
    pub to: Targets,
    /// For how long.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<SimDuration>,
}

/// `partition = { bridge, for }`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct PartitionBridge {
    /// The one node that hears everyone. The other brokers, and apart from them the other controllers, are dealt in turn
    /// to the two halves, in the order of their ids.
    pub bridge: Target,
    /// For how long.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<SimDuration>,
}

/// `slow-link = { between, latency, for }`, both directions.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct SlowLink {
    /// The two ends; of sets, every pair.
    pub between: [Target; 2],
    /// One way, in place of the network's own.
    pub latency: DurationRange,
    /// For how long.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<SimDuration>,
}

/// `lossy-link = { between, loss, for }`, both directions.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct LossyLink {
    /// The two ends; of sets, every pair.
    pub between: [Target; 2],
    /// The part of the packets that is lost and sent again.
    pub loss: Proportion,
    /// For how long.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<SimDuration>,
}

/// `flaky-link = { between, every, for }`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct FlakyLink {
    /// The two ends; of sets, every pair.
    pub between: [Target; 2],
    /// From one reset of the pair's connections to the next, drawn each time.
    pub every: DurationRange,
    /// For how long.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<SimDuration>,
}

/// `throttle = { between, rate, for }`, each direction by itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct Throttle {
    /// The two ends; of sets, every pair.
    pub between: [Target; 2],
    /// What still fits.
    pub rate: ByteRate,
    /// For how long.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<SimDuration>,
}

/// `drop-request = { api, node, nth }` and its twin for responses.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct RequestFault {
    /// Kafka's name of the API: `Produce`, `AlterPartition`.
    pub api: String,
    /// Who serves the request.
    pub node: Target,
    /// Counted from 1, from when the step fires.
    #[schemars(default = "one", range(min = 1, max = 1_000_000))]
    pub nth: u32,
}

/// `delay-request = { api, node, nth, by }` and its twin for responses.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct DelayedRequestFault {
    /// Kafka's name of the API: `Produce`, `AlterPartition`.
    pub api: String,
    /// Who serves the request.
    pub node: Target,
    /// Counted from 1, from when the step fires.
    #[schemars(default = "one", range(min = 1, max = 1_000_000))]
    pub nth: u32,
    /// How much later it arrives.
    pub by: SimDuration,
}

/// `slow-disk = { node, latency, for }`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct SlowDisk {
    /// Whose.
    pub node: Target,
    /// Of each read and sync, in place of the disk's own.
    pub latency: DurationRange,
    /// For how long.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<SimDuration>,
}

/// `clock-skew = { node, by }`, `clock-step = { node, by }`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct ClockShift {
    /// Whose.
    pub node: Target,
    /// How far; negative is back.
    pub by: SignedDuration,
    /// For how long; then the clock is right again. Absent for a step: it stays off until the world heals.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<SimDuration>,
}

/// `clock-drift = { node, ppm }`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct ClockDrift {
    /// Whose.
    pub node: Target,
    /// Millionths; positive runs fast. Within 500,000 either way.
    pub ppm: i32,
    /// For how long.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<SimDuration>,
}

/// `elect-leader = { partition, unclean }`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct ElectLeader {
    /// Of which partition, as `orders-0`.
    pub partition: PartitionName,
    /// Any live replica may lead, in sync or not.
    #[schemars(default)]
    pub unclean: bool,
}

/// `reassign = { partition, replicas }`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct Reassign {
    /// Which partition, as `orders-0`.
    pub partition: PartitionName,
    /// Its new replicas, the preferred leader first, as `broker-N`.
    pub replicas: Vec<Target>,
}

/// `delete-topic = { topic }`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct TopicOnly {
    /// Which.
    pub topic: String,
}

/// `add-partitions = { topic, count }`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct AddPartitions {
    /// To which topic.
    pub topic: String,
    /// How many more, at least one.
    #[schemars(default = "one", range(min = 1, max = 1000))]
    pub count: u32,
}

/// `alter-config = { topic | node | neither, config }`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct AlterConfig {
    /// A topic's configuration. Never together with `node`; neither of them is the cluster's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// A broker's own configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<Target>,
    /// The new values, by Kafka's keys; at least one.
    pub config: Config,
}

/// `delete-records = { partition, before }`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct DeleteRecords {
    /// Which partition, as `orders-0`.
    pub partition: PartitionName,
    /// The new first offset; absent: the high watermark.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
}

/// `join-group = { group }` and its kin.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct GroupOnly {
    /// `group.id`.
    pub group: String,
}

/// A topic and a partition, written `orders-0`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionName(pub broker_types::TopicPartition);

impl std::fmt::Display for PartitionName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

mod partition_name {
    //! Its text form; the macro wants its own imports.
    use super::super::quantity::written_as_text;
    use super::PartitionName;
    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
    use serde::{Serialize, Serializer};
    use std::borrow::Cow;
    use std::fmt;

    written_as_text!(PartitionName, r"^.+-\d+$", "A topic and a partition: `orders-0`.");
}

/// One `[[nemesis]]`: a fault that is drawn again and again, from the seed, before the run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NemesisRule {
    /// The step `crash`, of one of the nodes at a time.
    Crash(NemesisDown),
    /// The step `power-loss`, of one of the nodes at a time.
    PowerLoss(NemesisDown),
    /// The step `wipe`, of one of the nodes at a time; never of a controller within the budget.
    Wipe(NemesisDown),
    /// The step `shutdown`, of one of the nodes at a time.
    Shutdown(NemesisDown),
    /// The step `restart`, of one of the nodes at a time.
    Restart(NemesisOnce),
    /// The step `pause`, of one of the nodes at a time.
    Pause(NemesisFault),
    /// A random split, with one of the nodes on the smaller side.
    Partition(NemesisFault),
    /// The step `isolate`, of one of the nodes at a time.
    Isolate(NemesisFault),
    /// The step `slow-link`, between one of the nodes and every other.
    SlowLink(NemesisLatency),
    /// The step `lossy-link`, between one of the nodes and every other.
    LossyLink(NemesisLoss),
    /// The step `flaky-link`, between one of the nodes and every other.
    FlakyLink(NemesisResets),
    /// The step `throttle`, between one of the nodes and every other.
    Throttle(NemesisThrottle),
    /// The step `slow-disk`, of one of the nodes at a time.
    SlowDisk(NemesisLatency),
    /// The step `stall-disk`, of one of the nodes at a time.
    StallDisk(NemesisFault),
    /// The step `full-disk`, of one of the nodes at a time.
    FullDisk(NemesisFault),
    /// The step `read-error`, of one of the nodes at a time.
    ReadError(NemesisFault),
    /// The step `write-error`, of one of the nodes at a time.
    WriteError(NemesisFault),
    /// The step `sync-error`, of one of the nodes at a time.
    SyncError(NemesisFault),
    /// The step `bit-rot`, of one of the nodes at a time.
    BitRot(NemesisFault),
    /// The step `clock-skew`, of one of the nodes at a time.
    ClockSkew(NemesisShift),
    /// The step `clock-step`, of one of the nodes at a time.
    ClockStep(NemesisShift),
    /// The step `clock-drift`, of one of the nodes at a time.
    ClockDrift(NemesisDrift),
    /// The step `clock-freeze`, of one of the nodes at a time.
    ClockFreeze(NemesisFault),
}

/// A node goes down and comes back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct NemesisDown {
    /// One of these at a time.
    pub nodes: Targets,
    /// From one draw to the next.
    pub every: DurationRange,
    /// For how long; drawn each time.
    pub down: DurationRange,
}

/// Something is wrong with a node for a while.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct NemesisFault {
    /// One of these at a time.
    pub nodes: Targets,
    /// From one draw to the next.
    pub every: DurationRange,
    /// For how long; drawn each time.
    #[serde(rename = "for")]
    pub lasts: DurationRange,
}

/// Something happens to a node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct NemesisOnce {
    /// One of these at a time.
    pub nodes: Targets,
    /// From one draw to the next.
    pub every: DurationRange,
}

/// A link or a disk gets slow.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct NemesisLatency {
    /// One of these at a time.
    pub nodes: Targets,
    /// From one draw to the next.
    pub every: DurationRange,
    /// The latency while it lasts.
    pub latency: DurationRange,
    /// For how long; drawn each time.
    #[serde(rename = "for")]
    pub lasts: DurationRange,
}

/// A node's links lose packets.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct NemesisLoss {
    /// One of these at a time.
    pub nodes: Targets,
    /// From one draw to the next.
    pub every: DurationRange,
    /// The part that is lost while it lasts.
    pub loss: Proportion,
    /// For how long; drawn each time.
    #[serde(rename = "for")]
    pub lasts: DurationRange,
}

/// A node's connections are reset.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct NemesisResets {
    /// One of these at a time.
    pub nodes: Targets,
    /// From one draw to the next.
    pub every: DurationRange,
    /// From one reset to the next while it lasts.
    pub resets: DurationRange,
    /// For how long; drawn each time.
    #[serde(rename = "for")]
    pub lasts: DurationRange,
}

/// A node's links carry less.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct NemesisThrottle {
    /// One of these at a time.
    pub nodes: Targets,
    /// From one draw to the next.
    pub every: DurationRange,
    /// What still fits while it lasts.
    pub rate: ByteRate,
    /// For how long; drawn each time.
    #[serde(rename = "for")]
    pub lasts: DurationRange,
}

/// A node's wall clock is moved.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct NemesisShift {
    /// One of these at a time.
    pub nodes: Targets,
    /// From one draw to the next.
    pub every: DurationRange,
    /// How far; drawn each time.
    pub by: SignedRange,
    /// For how long; drawn each time. Absent: until the world heals.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<DurationRange>,
}

/// A node's clocks run fast or slow.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct NemesisDrift {
    /// One of these at a time.
    pub nodes: Targets,
    /// From one draw to the next.
    pub every: DurationRange,
    /// At most so many millionths, fast or slow; drawn each time.
    pub ppm: i32,
    /// For how long; drawn each time.
    #[serde(rename = "for")]
    pub lasts: DurationRange,
}
