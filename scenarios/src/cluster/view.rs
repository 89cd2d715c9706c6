//! What the cluster looks like from outside, put together from what its nodes say.
//!
//! Faults aim at roles, steps wait for predicates, the status line and the story need names: all of them ask the view.
//! It judges nothing.

use broker_types::{LeaderEpoch, NodeId, Observation, Offset, PartitionEpoch, ReplicaRole, TopicId, TopicIdPartition};
use std::collections::{BTreeMap, BTreeSet};

/// Most events kept for the story; later ones are counted only.
const EVENTS_KEPT: usize = 20_000;

/// One partition as the active controller last committed it, and as its replicas last spoke.
#[derive(Clone, Debug, Default)]
pub struct PartitionView {
    /// Who leads.
    pub leader: Option<NodeId>,
    /// In which epoch.
    pub leader_epoch: LeaderEpoch,
    /// The registration's epoch; what is older is not news.
    pub partition_epoch: PartitionEpoch,
    /// The in-sync replicas.
    pub isr: Vec<NodeId>,
    /// All replicas, in assignment order.
    pub replicas: Vec<NodeId>,
    /// What each replica last said of its log.
    pub logs: BTreeMap<NodeId, LogView>,
    /// Records that producers were told are written.
    pub acked: u64,
}

/// One replica's log.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogView {
    /// Log end offset, exclusive.
    pub log_end: Offset,
    /// High watermark, exclusive.
    pub high_watermark: Offset,
    /// Its leader epoch.
    pub leader_epoch: LeaderEpoch,
}

/// One thing worth telling.
#[derive(Clone, PartialEq, Debug)]
pub struct Event {
    /// Simulated time, nanoseconds.
    pub at_ns: u64,
    /// Where.
    pub node: NodeId,
    /// What.
    pub what: Happening,
}

/// What can be worth telling.
#[derive(Clone, PartialEq, Debug)]
pub enum Happening {
    /// A partition got a leader, or lost it.
    Leader {
        /// The partition.
        partition: TopicIdPartition,
        /// The former leader.
        from: Option<NodeId>,
        /// The new one.
        to: Option<NodeId>,
        /// In this epoch.
        leader_epoch: LeaderEpoch,
        /// It was not in the ISR.
        unclean: bool,
    },
    /// The ISR changed.
    Isr {
        /// The partition.
        partition: TopicIdPartition,
        /// Before.
        from: Vec<NodeId>,
        /// After.
        to: Vec<NodeId>,
    },
    /// A controller was elected.
    Controller {
        /// In this epoch.
        epoch: LeaderEpoch,
    },
    /// A controller gave up.
    ControllerResigned {
        /// Of this epoch.
        epoch: LeaderEpoch,
    },
    /// A log was cut back.
    Truncated {
        /// The partition.
        partition: TopicIdPartition,
        /// From here.
        from: Offset,
        /// To here.
        to: Offset,
    },
    /// Recovery cut a torn tail.
    Recovered {
        /// The partition.
        partition: TopicIdPartition,
        /// Bytes cut.
        bytes: u64,
    },
    /// A broker was fenced.
    Fenced {
        /// Which.
        broker: NodeId,
    },
    /// A broker was unfenced.
    Unfenced {
        /// Which.
        broker: NodeId,
    },
    /// A log directory failed.
    LogDirFailed,
}

/// The cluster from outside.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Every topic's name, also of those that are gone: what was said of them stays readable.
    names: BTreeMap<TopicId, String>,
    /// Topics that are there, by name.
    ids: BTreeMap<String, TopicId>,
    /// Topics that are gone. A controller that is behind may still speak of them.
    deleted: BTreeSet<TopicId>,
    /// Partitions by id.
    pub partitions: BTreeMap<TopicIdPartition, PartitionView>,
    /// The controller elected last, by epoch.
    pub controller: Option<(LeaderEpoch, NodeId)>,
    /// How often each mark was reached.
    pub marks: BTreeMap<&'static str, u64>,
    /// Brokers registered and not fenced, as the active controller committed it.
    pub unfenced: BTreeMap<NodeId, bool>,
    /// Nodes whose present process was unfenced: what is said of them is said of it.
    pub settled: BTreeSet<NodeId>,
    /// What happened, in order.
    pub events: Vec<Event>,
    /// Events that were not kept.
    pub events_dropped: u64,
}

impl View {
    /// The topic of that name.
    #[must_use]
    pub fn topic_id(&self, name: &str) -> Option<TopicId> {
        self.ids.get(name).copied()
    }

    /// A topic's name; its id when nobody told.
    #[must_use]
    pub fn topic_name(&self, id: TopicId) -> String {
        if id == TopicId::METADATA_TOPIC {
            return "__cluster_metadata".to_owned();
        }
        self.names.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }

    /// `orders-0`.
    #[must_use]
    pub fn partition_name(&self, partition: TopicIdPartition) -> String {
        format!("{}-{}", self.topic_name(partition.topic), partition.partition)
    }

    /// One partition by its topic's name.
    #[must_use]
    pub fn partition(&self, topic: &str, partition: i32) -> Option<&PartitionView> {
        self.partitions.get(&TopicIdPartition { topic: self.topic_id(topic)?, partition })
    }

    /// A producer was told that a record is written.
    pub fn acked(&mut self, partition: TopicIdPartition) {
        self.partitions.entry(partition).or_default().acked += 1;
    }

    /// Counts a mark.
    pub fn mark(&mut self, name: &'static str) {
        *self.marks.entry(name).or_default() += 1;
    }

    fn tell(&mut self, at_ns: u64, node: NodeId, what: Happening) {
        if self.events.len() < EVENTS_KEPT {
            self.events.push(Event { at_ns, node, what });
        } else {
            self.events_dropped += 1;
        }
    }

    /// Takes one observation in.
    pub fn observe(&mut self, at_ns: u64, node: NodeId, fact: &Observation) {
        match fact {
            Observation::Appended { partition, last, leader_epoch, role, .. } => {
                let log = self.log(*partition, node);
                log.log_end = *last + 1;
                if *role == ReplicaRole::Leader {
                    log.leader_epoch = *leader_epoch;
                }
            }
            Observation::HighWatermark { partition, leader_epoch, high_watermark, log_end, .. } => {
                *self.log(*partition, node) =
                    LogView { log_end: *log_end, high_watermark: *high_watermark, leader_epoch: *leader_epoch };
            }
            Observation::LogLoaded { partition, log_end, high_watermark, truncated_bytes, .. } => {
                let log = self.log(*partition, node);
                (log.log_end, log.high_watermark) = (*log_end, *high_watermark);
                if *partition == TopicIdPartition::METADATA {
                    self.settled.remove(&node);
                }
                if *truncated_bytes > 0 {
                    self.mark("torn-tail-truncated");
                    self.tell(at_ns, node, Happening::Recovered { partition: *partition, bytes: *truncated_bytes });
                }
            }
            Observation::Truncated { partition, from, to } => {
                self.log(*partition, node).log_end = *to;
                self.mark("log-truncated");
                self.tell(at_ns, node, Happening::Truncated { partition: *partition, from: *from, to: *to });
            }
            Observation::QuorumLeader { epoch, .. } => {
                if self.controller.is_some() {
                    self.mark("controller-elected");
                }
                if self.controller.is_none_or(|(known, _)| *epoch > known) {
                    self.controller = Some((*epoch, node));
                }
                self.tell(at_ns, node, Happening::Controller { epoch: *epoch });
            }
            Observation::QuorumResigned { epoch } => {
                self.mark("quorum-resigned");
                self.tell(at_ns, node, Happening::ControllerResigned { epoch: *epoch });
            }
            Observation::BrokerRegistered { broker, .. } => {
                let known = self.unfenced.insert(*broker, false).is_some();
                if known {
                    self.mark("broker-registered");
                }
            }
            Observation::BrokerFenced { broker, .. } => {
                let before = self.unfenced.insert(*broker, false);
                if before == Some(true) {
                    self.mark("broker-fenced");
                    self.tell(at_ns, node, Happening::Fenced { broker: *broker });
                }
            }
            Observation::BrokerUnfenced { broker, .. } => {
                self.settled.insert(*broker);
                let before = self.unfenced.insert(*broker, true);
                if before != Some(true) {
                    self.mark("broker-unfenced");
                    self.tell(at_ns, node, Happening::Unfenced { broker: *broker });
                }
            }
            Observation::TopicCreated { topic, name } if !self.deleted.contains(topic) => {
                self.names.insert(*topic, name.as_str().to_owned());
                self.ids.insert(name.as_str().to_owned(), *topic);
            }
            Observation::TopicDeleted { topic } => self.topic_deleted(*topic),
            Observation::PartitionChanged { partition, .. } if !self.deleted.contains(&partition.topic) => {
                self.partition_changed(at_ns, node, fact);
            }
            Observation::LogDirFailed => {
                self.mark("log-dir-failed");
                self.tell(at_ns, node, Happening::LogDirFailed);
            }
            Observation::Mark { name } => self.mark(name),
            // What only the judge asks for.
            _ => {}
        }
    }

    fn topic_deleted(&mut self, topic: TopicId) {
        if !self.deleted.insert(topic) {
            return;
        }
        self.ids.retain(|_, id| *id != topic);
        self.partitions.retain(|id, _| id.topic != topic);
        self.mark("topic-deleted");
    }

    fn log(&mut self, partition: TopicIdPartition, node: NodeId) -> &mut LogView {
        self.partitions.entry(partition).or_default().logs.entry(node).or_default()
    }

    fn partition_changed(&mut self, at_ns: u64, node: NodeId, fact: &Observation) {
        let Observation::PartitionChanged {
            partition,
            leader,
            leader_epoch,
            partition_epoch,
            isr,
            replicas,
            unclean,
            ..
        } = fact
        else {
            return;
        };
        let known = self.partitions.entry(*partition).or_default();
        let is_new = known.replicas.is_empty();
        if !is_new && *partition_epoch <= known.partition_epoch {
            return;
        }
        let (old_leader, old_epoch, old_isr) = (known.leader, known.leader_epoch, std::mem::take(&mut known.isr));
        known.leader = *leader;
        known.leader_epoch = *leader_epoch;
        known.partition_epoch = *partition_epoch;
        known.isr = isr.to_vec();
        known.replicas = replicas.to_vec();
        if is_new {
            return;
        }
        if *leader_epoch > old_epoch {
            self.mark("epoch-bumped");
        }
        if *leader != old_leader {
            if leader.is_some() {
                self.mark("leader-elected");
            }
            let (from, to, leader_epoch, unclean) = (old_leader, *leader, *leader_epoch, *unclean);
            self.tell(at_ns, node, Happening::Leader { partition: *partition, from, to, leader_epoch, unclean });
        }
        if *unclean {
            self.mark("unclean-leader-elected");
        }
        if isr.len() < old_isr.len() {
            self.mark("isr-shrunk");
        } else if isr.len() > old_isr.len() {
            self.mark("isr-expanded");
        }
        if isr[..] != old_isr[..] {
            self.tell(at_ns, node, Happening::Isr { partition: *partition, from: old_isr, to: isr.to_vec() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use broker_types::Uuid;

    const PARTITION: TopicIdPartition = TopicIdPartition { topic: Uuid(7), partition: 0 };

    fn changed(leader: Option<i32>, leader_epoch: i32, partition_epoch: i32, isr: &[i32]) -> Observation {
        Observation::PartitionChanged {
            partition: PARTITION,
            leader: leader.map(NodeId),
            leader_epoch: LeaderEpoch(leader_epoch),
            partition_epoch: PartitionEpoch(partition_epoch),
            isr: isr.iter().map(|id| NodeId(*id)).collect(),
            replicas: [1, 2, 3].map(NodeId).into(),
            adding: Box::default(),
            removing: Box::default(),
            elr: Box::default(),
            last_known_elr: Box::default(),
            unclean: false,
        }
    }

    #[test]
    fn a_partition_that_is_told_twice_counts_once() {
        let mut view = View::default();
        view.observe(1, NodeId(101), &changed(Some(1), 0, 0, &[1, 2, 3]));
        assert!(view.marks.is_empty(), "creation is no election");
        for _ in 0..2 {
            view.observe(2, NodeId(102), &changed(Some(2), 1, 1, &[2, 3]));
        }
        assert_eq!(view.marks["leader-elected"], 1);
        assert_eq!(view.marks["isr-shrunk"], 1);
        view.observe(3, NodeId(101), &changed(Some(1), 0, 0, &[1, 2, 3]));
        assert_eq!(view.partitions[&PARTITION].leader, Some(NodeId(2)), "what is older is not news");
    }
}
