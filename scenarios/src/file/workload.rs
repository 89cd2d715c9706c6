//! What the clients of a scenario do.

use super::quantity::{ByteRange, Bytes, Rate, SimDuration};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use std::borrow::Cow;

/// One `[[workload]]`: some clients that do the same.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Workload {
    /// Producers.
    Produce(Produce),
    /// Consumers.
    Consume(Consume),
    /// Clients that create, change and delete topics.
    AdminChurn(AdminChurn),
}

/// Words for workloads that have a place in the grammar and are not built yet.
pub const PLANNED_WORKLOADS: &[&str] = &["transfer", "list-append", "consume-transform-produce"];

/// Producers that write records with unique values at a steady rate, each record to the partition of its key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct Produce {
    /// To this topic.
    pub topic: String,
    /// How many producers, each with its own connections and, if idempotent, its own producer id.
    #[schemars(default = "one", range(min = 1, max = 1000))]
    pub clients: u32,
    /// Records per time, all producers of this workload together.
    #[schemars(default)]
    pub rate: Rate,
    /// When a record counts as written.
    #[schemars(default)]
    pub acks: Acks,
    /// Whether the brokers recognise a batch that is sent twice. Needs `acks = "all"`; by default on exactly then.
    #[schemars(default = "yes")]
    pub idempotence: bool,
    /// How many different keys, dealt over the partitions by hash; 0: no keys, partitions in turn.
    #[schemars(default = "default_keys", range(max = 1_000_000))]
    pub keys: u32,
    /// The size of a value, drawn for each record.
    #[schemars(default = "default_value_bytes")]
    pub value_bytes: ByteRange,
    /// How long a producer waits for more records before it sends a batch.
    #[schemars(default)]
    pub linger: SimDuration,
    /// The codec of the batches.
    #[schemars(default)]
    pub compression: Compression,
    /// Unanswered requests per connection: `max.in.flight.requests.per.connection`. At most 5 with idempotence.
    #[schemars(default = "default_max_in_flight", range(min = 1, max = 100))]
    pub max_in_flight: u32,
}

fn one() -> u32 {
    1
}

fn yes() -> bool {
    true
}

fn default_keys() -> u32 {
    16
}

fn default_value_bytes() -> ByteRange {
    ByteRange { min: Bytes(16), max: Bytes(512) }
}

fn default_max_in_flight() -> u32 {
    5
}

impl Default for Rate {
    fn default() -> Self {
        Rate::per_second(100)
    }
}

impl Produce {
    /// The defaults of a file that names only the topic.
    #[must_use]
    pub fn to(topic: &str) -> Self {
        Produce {
            topic: topic.to_string(),
            clients: one(),
            rate: Rate::default(),
            acks: Acks::All,
            idempotence: yes(),
            keys: default_keys(),
            value_bytes: default_value_bytes(),
            linger: SimDuration::ZERO,
            compression: Compression::None,
            max_in_flight: default_max_in_flight(),
        }
    }
}

/// `acks`: when the leader answers a produce request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize)]
pub enum Acks {
    /// `"all"`: when every in-sync replica has the records.
    #[default]
    #[serde(rename = "all")]
    All,
    /// `"1"`: when the leader has them.
    #[serde(rename = "1")]
    Leader,
    /// `"0"`: never; the producer does not wait.
    #[serde(rename = "0")]
    None,
}

impl JsonSchema for Acks {
    fn schema_name() -> Cow<'static, str> {
        "Acks".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "When the leader answers a produce request: when every in-sync replica has the records, when it has them itself, or never.",
            "enum": ["all", "1", "0", "-1", -1, 0, 1]
        })
    }
}

/// The codec of a batch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Compression {
    /// As it is.
    #[default]
    None,
    /// gzip.
    Gzip,
    /// Snappy, in Kafka's framing.
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// Zstandard.
    Zstd,
}

/// Consumers that read a topic from its beginning and go on until the end of the run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct Consume {
    /// From this topic.
    pub topic: String,
    /// Without a group: how many consumers, each of which reads every partition. Only without a group; 1 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clients: Option<u32>,
    /// With a group: its members share the partitions. `None` exactly when `clients` is `Some`.
    #[serde(flatten)]
    pub group: Option<GroupMembership>,
    /// Which records are seen.
    #[schemars(default)]
    pub isolation: Isolation,
}

impl Consume {
    /// `clients` consumers that read every partition.
    #[must_use]
    pub fn assigned(topic: &str, clients: u32) -> Self {
        Consume { topic: topic.to_string(), clients: Some(clients), group: None, isolation: Isolation::ReadUncommitted }
    }
}

/// Clients that create topics of their own, delete them, give them partitions, and ask whether they are there and how many
/// partitions they have. Which of it comes next, of which topic, is drawn. Each client does one thing after the other, and
/// asks each once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct AdminChurn {
    /// How many clients.
    #[schemars(default = "default_churn_clients", range(min = 1, max = 100))]
    pub clients: u32,
    /// Requests per time, all clients of this workload together.
    #[schemars(default = "default_churn_rate")]
    pub rate: Rate,
    /// How many topics, called `churn-0`, `churn-1` and so on. Each has one to five partitions while it is there, and as many
    /// replicas as there are brokers, at most three.
    #[schemars(default = "default_churn_topics", range(min = 1, max = 100))]
    pub topics: u32,
}

fn default_churn_clients() -> u32 {
    2
}

fn default_churn_rate() -> Rate {
    Rate::per_second(5)
}

fn default_churn_topics() -> u32 {
    4
}

impl AdminChurn {
    /// The topic with that number, from 0.
    #[must_use]
    pub fn topic(number: u32) -> String {
        format!("churn-{number}")
    }
}

impl Default for AdminChurn {
    fn default() -> Self {
        AdminChurn { clients: default_churn_clients(), rate: default_churn_rate(), topics: default_churn_topics() }
    }
}

/// Consumers that share a topic's partitions.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct GroupMembership {
    /// `group.id`.
    pub group: String,
    /// How many members.
    #[schemars(default = "one", range(min = 1, max = 1000))]
    pub members: u32,
    /// `group.protocol`.
    #[schemars(default)]
    pub protocol: GroupProtocol,
}

/// `group.protocol`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GroupProtocol {
    /// The members agree among themselves; a leader among them assigns.
    #[default]
    Classic,
    /// The coordinator assigns (KIP-848).
    Consumer,
}

/// `isolation.level`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// Everything below the high watermark.
    #[default]
    ReadUncommitted,
    /// Only what no open or aborted transaction wrote.
    ReadCommitted,
}
