//! Who a fault hits: a node by its name, or by the role it plays when the step fires.

use super::quantity::written_as_text;
use broker_types::{NodeId, TopicPartition};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// The first controller's node id when controllers are processes of their own; the first broker's is 1.
pub const FIRST_CONTROLLER_ID: i32 = 101;

/// One or more nodes, by name or by role. A role is resolved when its step fires.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// `broker-N`: the broker with node id N, from 1.
    Broker(u32),
    /// `controller-N`: the N-th controller, from 1; its node id is 100 + N. In combined mode, the same node as `broker-N`.
    Controller(u32),
    /// `leader(T-P)`: the partition's leader.
    Leader(TopicPartition),
    /// `follower(T-P, N)`: the N-th replica, from 1, in replica order without the leader.
    Follower(TopicPartition, u32),
    /// `isr(T-P)`: every member of the in-sync replica set.
    Isr(TopicPartition),
    /// `replicas(T-P)`: every replica.
    Replicas(TopicPartition),
    /// `active-controller`: the leader of the metadata quorum.
    ActiveController,
    /// `coordinator(group G)`: the broker that coordinates the consumer group.
    GroupCoordinator(String),
    /// `coordinator(transaction T)`: the broker that coordinates the transactional id.
    TransactionCoordinator(String),
    /// `rack(R)`: every node of the rack, brokers and controllers.
    Rack(String),
    /// `any broker`: one, drawn from the seed before the run.
    AnyBroker,
    /// `any controller`: one, drawn from the seed before the run.
    AnyController,
    /// `any node`: one broker or controller, drawn from the seed before the run.
    AnyNode,
    /// `all`: every broker and every controller.
    All,
    /// `rest`: whoever no other group of the partition names.
    Rest,
    /// `clients`: every client; only in a partition.
    Clients,
}

/// The spellings of [`Target`], for error messages, completions and documentation, each with what it names.
pub const TARGETS: &[(&str, &str)] = &[
    ("broker-N", "the broker with node id N, from 1"),
    ("controller-N", "the N-th controller, from 1 (node id 100 + N; in combined mode the same as `broker-N`)"),
    ("leader(T-P)", "the leader of partition P of topic T"),
    ("follower(T-P, N)", "the N-th replica, from 1, in replica order without the leader"),
    ("isr(T-P)", "every in-sync replica"),
    ("replicas(T-P)", "every replica"),
    ("active-controller", "the leader of the metadata quorum"),
    ("coordinator(group G)", "the coordinator of consumer group G"),
    ("coordinator(transaction T)", "the coordinator of transactional id T"),
    ("rack(R)", "every broker and controller of rack R"),
    ("any broker", "one broker, drawn from the seed"),
    ("any controller", "one controller, drawn from the seed"),
    ("any node", "one broker or controller, drawn from the seed"),
    ("all", "every broker and controller"),
    ("rest", "in a partition: everyone that no other group names"),
    ("clients", "in a partition: the clients, who otherwise reach both sides"),
];

impl Target {
    /// Whether it may name more than one node.
    #[must_use]
    pub fn is_set(&self) -> bool {
        matches!(
            self,
            Target::Isr(_) | Target::Replicas(_) | Target::Rack(_) | Target::All | Target::Rest | Target::Clients
        )
    }

    /// Whether who it names depends on what the cluster did: it must be resolved when its step fires.
    #[must_use]
    pub fn is_role(&self) -> bool {
        matches!(
            self,
            Target::Leader(_)
                | Target::Follower(..)
                | Target::Isr(_)
                | Target::Replicas(_)
                | Target::ActiveController
                | Target::GroupCoordinator(_)
                | Target::TransactionCoordinator(_)
        )
    }

    /// Whether the seed decides whom it names; none is left in a resolved schedule.
    #[must_use]
    pub fn is_drawn(&self) -> bool {
        matches!(self, Target::AnyBroker | Target::AnyController | Target::AnyNode)
    }

    /// The partition whose state decides whom it names.
    #[must_use]
    pub fn partition(&self) -> Option<&TopicPartition> {
        match self {
            Target::Leader(partition)
            | Target::Follower(partition, _)
            | Target::Isr(partition)
            | Target::Replicas(partition) => Some(partition),
            _ => None,
        }
    }
}

/// Node id of the broker that is called `broker-{number}`.
#[must_use]
pub fn broker_id(number: u32) -> NodeId {
    NodeId(i32::try_from(number).unwrap_or(i32::MAX))
}

/// Reads `name-12` as a topic and a partition: the last hyphen separates them, as in a log directory.
pub(super) fn read_partition(text: &str) -> Result<TopicPartition, String> {
    let shape = || {
        format!("`{}` is no partition: a topic, a hyphen and a number, as in `orders-0`", super::words::shortened(text))
    };
    let (topic, partition) = text.trim().rsplit_once('-').ok_or_else(shape)?;
    let index: i32 = partition.parse().map_err(|_| shape())?;
    if topic.is_empty() || index < 0 || partition.starts_with('+') {
        return Err(shape());
    }
    Ok(TopicPartition::new(topic, index))
}

fn unknown_target(text: &str) -> String {
    let words = TARGETS.iter().map(|(spelling, _)| *spelling);
    let shown = super::words::shortened(text);
    match super::words::closest(
        text.split('(').next().unwrap_or(text),
        words.map(|word| word.split('(').next().unwrap_or(word)),
    ) {
        Some(word) if text.contains('(') => format!("no target is written `{shown}`; did you mean `{word}(...)`?"),
        Some(word) => format!("no target is written `{shown}`; did you mean `{word}`?"),
        None => format!("no target is written `{shown}`"),
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let numbered = |number: &str| match number.parse::<u32>() {
            Ok(0) => Err("node numbers start at 1".to_string()),
            Ok(number) if number <= 1000 => Ok(number),
            _ => Err(unknown_target(text)),
        };
        match text {
            "active-controller" => return Ok(Target::ActiveController),
            "any broker" => return Ok(Target::AnyBroker),
            "any controller" => return Ok(Target::AnyController),
            "any node" => return Ok(Target::AnyNode),
            "all" => return Ok(Target::All),
            "rest" => return Ok(Target::Rest),
            "clients" => return Ok(Target::Clients),
            _ => {}
        }
        if let Some(number) = text.strip_prefix("broker-") {
            return numbered(number).map(Target::Broker);
        }
        if let Some(number) = text.strip_prefix("controller-") {
            return numbered(number).map(Target::Controller);
        }
        let Some((role, argument)) = text.strip_suffix(')').and_then(|text| text.split_once('(')) else {
            return Err(unknown_target(text));
        };
        let argument = argument.trim();
        match role.trim_end() {
            "leader" => read_partition(argument).map(Target::Leader),
            "isr" => read_partition(argument).map(Target::Isr),
            "replicas" => read_partition(argument).map(Target::Replicas),
            "follower" => {
                let shape = "`follower` takes a partition and a number from 1: `follower(orders-0, 1)`";
                let (partition, number) = argument.split_once(',').ok_or(shape)?;
                match number.trim().parse::<u32>() {
                    Ok(0) => Err("followers are counted from 1, in replica order without the leader".to_string()),
                    Ok(number) => Ok(Target::Follower(read_partition(partition)?, number)),
                    Err(_) => Err(shape.to_string()),
                }
            }
            "coordinator" => match argument.split_once(' ').map(|(kind, name)| (kind, name.trim())) {
                Some(("group", name)) if !name.is_empty() => Ok(Target::GroupCoordinator(name.to_string())),
                Some(("transaction", name)) if !name.is_empty() => Ok(Target::TransactionCoordinator(name.to_string())),
                _ => Err("`coordinator` takes `group NAME` or `transaction NAME`".to_string()),
            },
            "rack" if !argument.is_empty() => Ok(Target::Rack(argument.to_string())),
            "rack" => Err("`rack` takes the name of a rack: `rack(a)`".to_string()),
            _ => Err(unknown_target(text)),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Broker(number) => write!(f, "broker-{number}"),
            Target::Controller(number) => write!(f, "controller-{number}"),
            Target::Leader(partition) => write!(f, "leader({partition})"),
            Target::Follower(partition, number) => write!(f, "follower({partition}, {number})"),
            Target::Isr(partition) => write!(f, "isr({partition})"),
            Target::Replicas(partition) => write!(f, "replicas({partition})"),
            Target::ActiveController => f.write_str("active-controller"),
            Target::GroupCoordinator(group) => write!(f, "coordinator(group {group})"),
            Target::TransactionCoordinator(id) => write!(f, "coordinator(transaction {id})"),
            Target::Rack(rack) => write!(f, "rack({rack})"),
            Target::AnyBroker => f.write_str("any broker"),
            Target::AnyController => f.write_str("any controller"),
            Target::AnyNode => f.write_str("any node"),
            Target::All => f.write_str("all"),
            Target::Rest => f.write_str("rest"),
            Target::Clients => f.write_str("clients"),
        }
    }
}

const TARGET_PATTERN: &str = concat!(
    r"^(broker-\d+|controller-\d+|leader\(.+-\d+\)|follower\(.+-\d+\s*,\s*\d+\)|isr\(.+-\d+\)|replicas\(.+-\d+\)",
    r"|active-controller|coordinator\((group|transaction) .+\)|rack\(.+\)|any broker|any controller|any node|all|rest|clients)$"
);

written_as_text!(Target, TARGET_PATTERN, "Nodes by name or by role: `broker-1`, `leader(orders-0)`, `any broker`.");

/// Some targets together: one text, or a list of texts.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Targets(pub Vec<Target>);

impl From<Target> for Targets {
    fn from(only: Target) -> Self {
        Targets(vec![only])
    }
}

impl fmt::Display for Targets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, target) in self.0.iter().enumerate() {
            write!(f, "{}{target}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl Serialize for Targets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [only] => only.serialize(serializer),
            several => several.serialize(serializer),
        }
    }
}

impl JsonSchema for Targets {
    fn schema_name() -> Cow<'static, str> {
        "Targets".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<Target>();
        json_schema!({
            "description": "One target, or a list of them.",
            "anyOf": [one, { "type": "array", "items": one, "minItems": 1 }]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_reads_back_what_it_prints() {
        let orders = TopicPartition::new("orders-by-day", 3);
        for target in [
            Target::Broker(1),
            Target::Controller(2),
            Target::Leader(orders.clone()),
            Target::Follower(orders.clone(), 2),
            Target::Isr(orders.clone()),
            Target::Replicas(orders),
            Target::ActiveController,
            Target::GroupCoordinator("billing (eu)".into()),
            Target::TransactionCoordinator("tx-1".into()),
            Target::Rack("a".into()),
            Target::AnyBroker,
            Target::AnyController,
            Target::AnyNode,
            Target::All,
            Target::Rest,
            Target::Clients,
        ] {
            assert_eq!(target.to_string().parse::<Target>(), Ok(target.clone()), "{target}");
        }
        assert_eq!("follower(orders-0,1)".parse(), Ok(Target::Follower(TopicPartition::new("orders", 0), 1)));
    }

    #[test]
    fn a_wrong_target_says_what_was_meant() {
        let says = |text: &str| text.parse::<Target>().unwrap_err();
        assert!(says("leeder(orders-0)").contains("did you mean `leader(...)`"), "{}", says("leeder(orders-0)"));
        assert!(says("any brokr").contains("`any broker`"), "{}", says("any brokr"));
        assert!(says("broker-0").contains("start at 1"));
        assert!(says("follower(orders-0, 0)").contains("from 1"));
        assert!(says("leader(orders)").contains("no partition"));
        for text in
            ["", "(", ")", "leader(", "leader()", "coordinator(group )", "rack()", "broker--1", "broker-99999999999"]
        {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
