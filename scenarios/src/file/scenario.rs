//! A scenario as a value: what a file says, and what Rust code may build instead.

use super::action::{NemesisRule, Step};
use super::config_value::ConfigValue;
use super::marks::Mark;
use super::quantity::{ByteRate, Bytes, DurationRange, Proportion, SimDuration};
use super::target::FIRST_CONTROLLER_ID;
use super::workload::Workload;
use broker_types::NodeId;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;

/// Kafka configuration by key.
pub type Config = BTreeMap<String, ConfigValue>;

/// One scenario: a cluster, what its clients do, what goes wrong, and what is expected of it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct Scenario {
    /// How the command line calls it: lower case, digits and hyphens.
    pub name: String,
    /// What a run of it answers, for people.
    #[schemars(default)]
    pub question: String,
    /// Words to select it by; a scenario meant to fail carries `fails-on-purpose`.
    #[schemars(default)]
    pub tags: Vec<String>,
    /// The nodes.
    #[schemars(default)]
    pub cluster: Cluster,
    /// Created before the workloads begin.
    #[serde(rename = "topic")]
    #[schemars(default)]
    pub topics: Vec<Topic>,
    /// Every link between two nodes, and between a client and a node.
    #[schemars(default)]
    pub network: Network,
    /// Every node's disk.
    #[schemars(default)]
    pub disk: Disk,
    /// What clients do, from the start of the run to its end.
    #[serde(rename = "workload")]
    #[schemars(default)]
    pub workloads: Vec<Workload>,
    /// Faults and operations that the file names one by one.
    #[serde(rename = "step")]
    #[schemars(default)]
    pub steps: Vec<Step>,
    /// Faults drawn from the seed.
    #[schemars(default)]
    pub nemesis: Vec<NemesisRule>,
    /// How long, and under which seed and budget.
    #[schemars(default)]
    pub run: Run,
    /// What must come of it.
    #[schemars(default)]
    pub expect: Expect,
}

/// The nodes of the cluster.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(default, deny_unknown_fields)]
pub struct Cluster {
    /// How many brokers; node ids from 1. At least one, at most 50.
    #[schemars(range(min = 1, max = 50))]
    pub brokers: u32,
    /// How many controllers; node ids from 101. 0 is combined mode: the brokers are the controllers.
    #[schemars(range(max = 9))]
    pub controllers: u32,
    /// Racks, dealt in turn to the brokers and, apart from them, to the controllers. None: no rack is set.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub racks: Vec<String>,
    /// Every node's configuration, by Kafka's keys.
    #[serde(skip_serializing_if = "Config::is_empty")]
    pub config: Config,
}

impl Default for Cluster {
    fn default() -> Self {
        Cluster { brokers: 3, controllers: 3, racks: Vec::new(), config: Config::new() }
    }
}

impl Cluster {
    /// The most brokers a scenario may have.
    pub const MAX_BROKERS: u32 = 50;
    /// The most controllers a scenario may have.
    pub const MAX_CONTROLLERS: u32 = 9;

    /// Whether the brokers are the controllers.
    #[must_use]
    pub fn is_combined(&self) -> bool {
        self.controllers == 0
    }

    /// The brokers' node ids, in order.
    pub fn broker_ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (1..=i32::try_from(self.brokers).unwrap_or(i32::MAX)).map(NodeId)
    }

    /// The controllers' node ids, in order; in combined mode the brokers'.
    pub fn controller_ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        let (first, count) =
            if self.is_combined() { (1, self.brokers) } else { (FIRST_CONTROLLER_ID, self.controllers) };
        (0..i32::try_from(count).unwrap_or(0)).map(move |index| NodeId(first + index))
    }

    /// Every node id, in order, each once.
    pub fn node_ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        let controllers: Vec<NodeId> = if self.is_combined() { Vec::new() } else { self.controller_ids().collect() };
        self.broker_ids().chain(controllers)
    }

    /// The rack of a node, if racks are set. Racks are dealt in turn to the brokers and, apart from them, to the controllers.
    #[must_use]
    pub fn rack_of(&self, node: NodeId) -> Option<&str> {
        let index =
            usize::try_from(if node.0 >= FIRST_CONTROLLER_ID { node.0 - FIRST_CONTROLLER_ID } else { node.0 - 1 });
        let index = index.ok()?;
        (!self.racks.is_empty()).then(|| self.racks[index % self.racks.len()].as_str())
    }

    /// The nodes of a rack, in order.
    #[must_use]
    pub fn nodes_in_rack(&self, rack: &str) -> Vec<NodeId> {
        self.node_ids().filter(|node| self.rack_of(*node) == Some(rack)).collect()
    }
}

/// A topic, created before the workloads begin (or by a `create-topic` step).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// How many partitions, at least one.
    #[schemars(default = "one", range(min = 1, max = 1000))]
    pub partitions: u32,
    /// How many replicas each partition has; never more than there are brokers.
    #[schemars(default = "three", range(min = 1, max = 50))]
    pub replication_factor: u32,
    /// The topic's own configuration, by Kafka's keys.
    #[serde(skip_serializing_if = "Config::is_empty")]
    #[schemars(default)]
    pub config: Config,
}

fn one() -> u32 {
    1
}

fn three() -> u32 {
    3
}

impl Topic {
    /// A topic with the cluster's configuration.
    #[must_use]
    pub fn new(name: &str, partitions: u32, replication_factor: u32) -> Self {
        Topic { name: name.to_string(), partitions, replication_factor, config: Config::new() }
    }
}

/// Every link of the network.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(default, deny_unknown_fields)]
pub struct Network {
    /// One way, drawn for each packet.
    pub latency: DurationRange,
    /// The part of the packets that is lost on the way and sent again, a delay to the stream.
    pub loss: Proportion,
    /// Of each link and direction; none: unlimited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<ByteRate>,
    /// What a sender may have on the way before it must wait.
    pub send_buffer: Bytes,
}

impl Default for Network {
    fn default() -> Self {
        Network {
            latency: DurationRange { min: SimDuration::from_nanos(200_000), max: SimDuration::from_millis(2) },
            loss: Proportion::default(),
            bandwidth: None,
            send_buffer: Bytes(256 << 10),
        }
    }
}

/// Every node's disk.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(default, deny_unknown_fields)]
pub struct Disk {
    /// Of one read that the page cache cannot answer.
    pub read_latency: DurationRange,
    /// Of one sync.
    pub sync_latency: DurationRange,
    /// After which a dirty page becomes durable by itself; at most 30 s.
    pub write_back: DurationRange,
    /// Of reads and syncs; none: unlimited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<ByteRate>,
    /// How much fits; none: unlimited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Bytes>,
}

impl Default for Disk {
    fn default() -> Self {
        let tenth = SimDuration::from_nanos(100_000);
        Disk {
            read_latency: DurationRange { min: tenth, max: SimDuration::from_millis(1) },
            sync_latency: DurationRange { min: SimDuration::from_nanos(500_000), max: SimDuration::from_millis(5) },
            write_back: DurationRange::from_millis(1_000, 30_000),
            bandwidth: None,
            capacity: None,
        }
    }
}

/// How long a run takes, and under which seed and budget.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(default, deny_unknown_fields)]
pub struct Run {
    /// Simulated time from the moment the cluster is ready; then faults end, the world heals, and the cluster must converge.
    pub duration: SimDuration,
    /// Used when the command line gives no `--seed`.
    #[serde(serialize_with = "seed_as_text", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<SeedText>")]
    pub seed: Option<u64>,
    /// What the nemesis may break at once.
    pub budget: Budget,
    /// What heals at the end.
    pub heal: Heal,
}

impl Default for Run {
    fn default() -> Self {
        Run { duration: SimDuration::from_secs(60), seed: None, budget: Budget::Recoverable, heal: Heal::All }
    }
}

/// How a seed is written: 16 hexadecimal digits or `0x...`, or a decimal number that is shorter.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
enum SeedText {
    Number(u64),
    Text(String),
}

fn seed_as_text<S: serde::Serializer>(seed: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    match seed {
        Some(seed) => serializer.collect_str(&format_args!("{seed:016x}")),
        None => serializer.serialize_none(),
    }
}

/// What the nemesis may break at once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Budget {
    /// A majority of the controllers, and enough brokers for every topic's `min.insync.replicas`, stay whole.
    #[default]
    Recoverable,
    /// Anything may break at once.
    None,
}

/// What heals when the run's time is over.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Heal {
    /// Everything.
    #[default]
    All,
    /// A core, drawn from the seed, that is enough to go on with; the rest stays broken.
    Core,
}

/// What must come of a run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(default, deny_unknown_fields)]
pub struct Expect {
    /// The verdict with which the command succeeds.
    pub verdict: ExpectedVerdict,
    /// With `verdict = "violation"`: the checks of which at least one must be the one that failed. None: any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<String>,
    /// Marks that must be reached; a run that misses one is inconclusive.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<Mark>,
    /// Whether losses that Kafka documents as possible under this configuration are violations too.
    pub allowed: Allowed,
    /// From healing to a cluster that is whole; none: three times the timers in the chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub converges_within: Option<SimDuration>,
}

impl Default for Expect {
    fn default() -> Self {
        Expect {
            verdict: ExpectedVerdict::Pass,
            checks: Vec::new(),
            marks: Vec::new(),
            allowed: Allowed::Counted,
            converges_within: None,
        }
    }
}

/// The verdict with which the command succeeds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ExpectedVerdict {
    /// Every check held and everything required happened.
    #[default]
    Pass,
    /// A guarantee was broken.
    Violation,
    /// No progress, or something required never happened.
    Inconclusive,
}

/// What becomes of an anomaly that Kafka documents as possible under the run's configuration.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Allowed {
    /// It is counted and named in the report.
    #[default]
    Counted,
    /// It is a violation.
    None,
}
