//! Whether the names in a scenario name something: topics, partitions, nodes, racks, groups.
//!
//! Names are noted while the file is read and looked up when all of it is known, so that the order of a file's sections
//! does not matter.

use super::diagnostics::{Diagnostic, DiagnosticKind};
use super::scenario::{Cluster, Topic};
use super::table::Value;
use super::target::Target;
use super::words;
use broker_types::TopicPartition;
use std::cell::RefCell;

/// Where a target stands, and so which targets make sense.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// `node` of a fault: nodes of any kind.
    Node,
    /// One side of a partition: nodes, and also `rest` and `clients`.
    Side,
    /// `nodes` of a nemesis: what one node can be drawn from.
    Pool,
    /// One node by its name: `broker-1`.
    Broker,
    /// One controller by its name or role.
    Controller,
}

/// One name that must name something.
pub(super) enum Reference {
    Target(Target, Place),
    Partition(TopicPartition),
    Topic(String),
    Group(String),
}

/// Names noted so far, and what is there to be named.
#[derive(Default)]
pub(super) struct References<'a> {
    noted: RefCell<Vec<(Value<'a>, Reference)>>,
    /// Topics of the file and topics that its steps create.
    pub(super) topics: RefCell<Vec<Topic>>,
    /// Groups that its workloads have members in.
    pub(super) groups: RefCell<Vec<String>>,
}

/// Topics that Kafka makes itself, with their default number of partitions.
const INTERNAL_TOPICS: [(&str, u32); 3] =
    [("__consumer_offsets", 50), ("__transaction_state", 50), ("__cluster_metadata", 1)];

impl<'a> References<'a> {
    pub(super) fn note(&self, value: &Value<'a>, reference: Reference) {
        self.noted.borrow_mut().push((value.clone(), reference));
    }

    /// Reports every name that names nothing.
    pub(super) fn check(&self, cluster: &Cluster) {
        for (value, reference) in self.noted.borrow().iter() {
            match reference {
                Reference::Target(target, place) => self.check_target(value, target, *place, cluster),
                Reference::Partition(partition) => {
                    self.check_partition(value, partition);
                }
                Reference::Topic(topic) => {
                    self.check_topic(value, topic);
                }
                Reference::Group(group) => self.check_group(value, group),
            }
        }
    }

    /// The number of replicas of the topic's partitions, and of its partitions.
    fn check_topic(&self, value: &Value<'a>, name: &str) -> Option<(u32, u32)> {
        let topics = self.topics.borrow();
        if let Some(topic) = topics.iter().find(|topic| topic.name == name) {
            return Some((topic.replication_factor, topic.partitions));
        }
        if let Some((_, partitions)) = INTERNAL_TOPICS.iter().find(|(internal, _)| *internal == name) {
            return Some((u32::MAX, *partitions));
        }
        let mut names: Vec<&str> = topics.iter().map(|topic| topic.name.as_str()).collect();
        names.dedup();
        let help = if names.is_empty() {
            "the scenario has no `[[topic]]`".to_string()
        } else {
            format!("topics of this scenario are {}", words::list(&names))
        };
        let error = Diagnostic::new(
            DiagnosticKind::Reference,
            Some(value.span()),
            format!("there is no topic `{}`", words::shortened(name)),
        );
        let label = words::closest(name, names).map_or_else(String::new, |near| format!("did you mean `{near}`?"));
        value.report(error.label(label).help(help));
        None
    }

    fn check_partition(&self, value: &Value<'a>, partition: &TopicPartition) -> Option<u32> {
        let (replicas, partitions) = self.check_topic(value, partition.topic.as_str())?;
        if u32::try_from(partition.partition).is_ok_and(|index| index < partitions) {
            return Some(replicas);
        }
        value.contradicts(
            format!("topic `{}` has no partition {}", partition.topic, partition.partition),
            format!("its partitions are 0 to {}", partitions.saturating_sub(1)),
        );
        None
    }

    fn check_group(&self, value: &Value<'a>, group: &str) {
        let groups = self.groups.borrow();
        if groups.iter().any(|known| known == group) {
            return;
        }
        let help = if groups.is_empty() {
            "no workload consumes with a `group`".to_string()
        } else {
            format!(
                "{}groups of this scenario are {}",
                words::did_you_mean(group, groups.iter().map(String::as_str)),
                words::list(groups.iter())
            )
        };
        value.contradicts(format!("there is no group `{}`", words::shortened(group)), help);
    }

    fn check_target(&self, value: &Value<'a>, target: &Target, place: Place, cluster: &Cluster) {
        let controllers = if cluster.is_combined() { cluster.brokers } else { cluster.controllers };
        match target {
            Target::Broker(number) if *number > cluster.brokers => value.contradicts(
                format!("there is no `{target}`"),
                format!("brokers of this scenario are `broker-1` to `broker-{}`", cluster.brokers),
            ),
            Target::Controller(number) if *number > controllers => value.contradicts(
                format!("there is no `{target}`"),
                format!("controllers of this scenario are `controller-1` to `controller-{controllers}`"),
            ),
            Target::Leader(partition) | Target::Isr(partition) | Target::Replicas(partition) => {
                self.check_partition(value, partition);
            }
            Target::Follower(partition, number) => {
                if let Some(replicas) = self.check_partition(value, partition)
                    && *number >= replicas
                {
                    value.contradicts(
                        format!("`{partition}` has no follower {number}"),
                        format!("it has {replicas} replicas: one leader, followers 1 to {}", replicas - 1),
                    );
                }
            }
            Target::GroupCoordinator(group) => self.check_group(value, group),
            Target::Rack(rack) if !cluster.racks.contains(rack) => {
                let help = if cluster.racks.is_empty() {
                    "the cluster has no `racks`".to_string()
                } else {
                    let near = words::did_you_mean(rack, cluster.racks.iter().map(String::as_str));
                    format!("{near}racks of this scenario are {}", words::list(&cluster.racks))
                };
                value.contradicts(format!("there is no rack `{}`", words::shortened(rack)), help);
            }
            _ => {}
        }
        let fits = match place {
            Place::Side => true,
            Place::Node => !matches!(target, Target::Rest | Target::Clients),
            Place::Pool => !matches!(target, Target::Rest | Target::Clients | Target::Isr(_) | Target::Replicas(_)),
            Place::Broker => matches!(target, Target::Broker(_)),
            Place::Controller => {
                matches!(target, Target::Controller(_) | Target::AnyController | Target::ActiveController)
                    || (cluster.is_combined() && matches!(target, Target::Broker(_)))
            }
        };
        if !fits {
            let help = match place {
                Place::Side => "",
                Place::Node => "only the groups of a partition take `rest` and `clients`",
                Place::Pool => {
                    "a nemesis draws from nodes, racks, `any broker`, `any controller`, `any node`, `all`, or follows one role such as `leader(orders-0)`"
                }
                Place::Broker => "only a broker's name will do here: `broker-1`",
                Place::Controller => {
                    "only a controller will do here: `controller-1`, `any controller`, `active-controller`"
                }
            };
            value.contradicts(format!("`{target}` does not fit here"), help);
        }
    }
}
