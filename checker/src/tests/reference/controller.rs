//! The active controller: topics, voters, producer ids and a configuration. A request takes effect when it is invoked, or never.
//! And what brokers tell of it, each of which knows what was so when it last heard.

use super::{Cluster, Step, partition};
use crate::history::*;
use broker_types::{LeaderEpoch, NodeId, ProducerId};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// At first.
pub(super) const VOTERS: [NodeId; 3] = [NodeId(101), NodeId(102), NodeId(103)];

#[derive(Clone, Copy, Debug)]
pub(in super::super) enum Asks {
    Topic(u8, TopicAsk),
    Voter(VoterAsk),
    ProducerId,
    /// The configuration; `false`: its default again.
    Set(bool),
    Broker(Tells),
}

/// Something is asked of a broker, which hears the news before, or does not.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Tells {
    broker: i32,
    hears: bool,
    of: Of,
}

#[derive(Clone, Copy, Debug)]
enum Of {
    Metadata,
    Config,
}

/// What a broker knows.
#[derive(Clone, Default)]
struct Known {
    epochs: BTreeMap<i32, LeaderEpoch>,
    config: Option<u64>,
}

#[derive(Default)]
pub(super) struct Controller {
    topics: BTreeMap<u8, i32>,
    /// Beyond those of the beginning, and those of the beginning that are gone.
    changed: BTreeSet<NodeId>,
    producers: i64,
    lost: u32,
    sets: u64,
    config: Option<u64>,
    brokers: BTreeMap<i32, Known>,
}

impl Controller {
    fn voters(&self) -> BTreeSet<NodeId> {
        let first: BTreeSet<NodeId> = VOTERS.into();
        first.symmetric_difference(&self.changed).copied().collect()
    }

    fn topic(&mut self, topic: u8, ask: TopicAsk) -> Result<Option<i32>, &'static str> {
        let known = self.topics.get(&topic).copied();
        match (ask, known) {
            (TopicAsk::Create(_) | TopicAsk::ValidateCreate, Some(_)) => Err("TOPIC_ALREADY_EXISTS"),
            (TopicAsk::ValidateCreate, None) => Ok(None),
            (TopicAsk::Create(partitions), None) => {
                self.topics.insert(topic, partitions);
                Ok(None)
            }
            (_, None) => Err("UNKNOWN_TOPIC_OR_PARTITION"),
            (TopicAsk::Delete, _) => {
                self.topics.remove(&topic);
                Ok(None)
            }
            (TopicAsk::CreatePartitions(partitions) | TopicAsk::ValidatePartitions(partitions), Some(known))
                if partitions <= known =>
            {
                Err("INVALID_PARTITIONS")
            }
            (TopicAsk::ValidatePartitions(_), _) => Ok(None),
            (TopicAsk::CreatePartitions(partitions), _) => {
                self.topics.insert(topic, partitions);
                Ok(None)
            }
            (TopicAsk::Describe, known) => Ok(known),
        }
    }

    fn voter(&mut self, ask: VoterAsk) -> Result<Vec<NodeId>, &'static str> {
        let voters = self.voters();
        let (node, is_there) = match ask {
            VoterAsk::Describe => return Ok(voters.into_iter().collect()),
            VoterAsk::Add(node) | VoterAsk::Remove(node) => (node, voters.contains(&node)),
        };
        match (ask, is_there) {
            (VoterAsk::Add(_), true) => return Err("DUPLICATE_VOTER"),
            (VoterAsk::Remove(_), false) => return Err("VOTER_NOT_FOUND"),
            (VoterAsk::Remove(_), _) if voters.len() == 1 => return Err("INVALID_REQUEST"),
            _ => {}
        }
        if !self.changed.remove(&node) {
            self.changed.insert(node);
        }
        Ok(Vec::new())
    }
}

fn configuration(ask: ConfigAsk, told: Option<String>, error: Option<String>) -> OpKind {
    OpKind::Config(ConfigRequest {
        resource: "topic orders".to_owned(),
        key: "retention.ms".to_owned(),
        ask,
        told,
        error,
    })
}

impl Cluster {
    fn tells(&mut self, Tells { broker, hears, of }: Tells) -> OpKind {
        let current = || Known {
            epochs: self.logs.iter().map(|(at, log)| (*at, log.epoch)).collect(),
            config: self.controller.config,
        };
        let known = match self.controller.brokers.get(&broker) {
            Some(known) if !hears => known.clone(),
            _ => current(),
        };
        self.controller.brokers.insert(broker, known.clone());
        let broker = NodeId(broker);
        match of {
            Of::Metadata => {
                let told = known.epochs.iter().map(|(at, epoch)| PartitionRead {
                    partition: partition(*at),
                    leader_epoch: *epoch,
                    // Of some epochs nobody knows a way to the leader.
                    leader: (epoch.0 % 4 != 3).then_some(NodeId(1 + epoch.0 % 3)),
                });
                OpKind::Metadata(MetadataRead { broker, partitions: told.collect() })
            }
            Of::Config => {
                let told = known.config.map_or("default".to_owned(), |value| value.to_string());
                configuration(ConfigAsk::Describe(broker), Some(told), None)
            }
        }
    }

    /// `known`: nobody is told what came of it; it took effect, or did not.
    pub(super) fn controller(&mut self, asks: Asks, session: u32, known: Option<bool>, lasts: u64) {
        // A session that knows no more is over.
        let session = 30_000 + 10 * self.controller.lost + session;
        self.controller.lost += u32::from(known.is_some());
        let (outcome, late) = match known {
            None => (Outcome::Ok, None),
            Some(_) => (Outcome::Unknown, Some("REQUEST_TIMED_OUT")),
        };
        let happens = known != Some(false);
        let error = |error: &str| Some(error.to_owned());
        let failed = |refused: Option<&'static str>| match (refused, late) {
            (_, Some(late)) => (outcome, error(late)),
            (Some(refused), None) => (Outcome::Fail, error(refused)),
            (None, None) => (Outcome::Ok, None),
        };
        let (outcome, kind) = match asks {
            Asks::Topic(topic, ask) => {
                let came = if happens { self.controller.topic(topic, ask) } else { Ok(None) };
                let (outcome, error) = failed(came.err());
                let told = came.unwrap_or_default().filter(|_| late.is_none());
                (outcome, OpKind::Topic(TopicRequest { name: format!("topic-{topic}"), ask, told, error }))
            }
            Asks::Voter(ask) => {
                let came = if happens { self.controller.voter(ask) } else { Ok(Vec::new()) };
                let (outcome, error) = failed(came.as_ref().err().copied());
                let told = if late.is_none() { came.unwrap_or_default() } else { Vec::new() };
                (outcome, OpKind::Voters(VoterRequest { ask, told, error }))
            }
            Asks::Set(is_set) => {
                self.controller.sets += 1;
                let value = is_set.then_some(self.controller.sets);
                if happens {
                    self.controller.config = value;
                }
                let ask = ConfigAsk::Set(value.map(|value| value.to_string()));
                (outcome, configuration(ask, None, late.and_then(error)))
            }
            // Whoever hears nothing is told nothing.
            Asks::Broker(_) if known.is_some() => return,
            Asks::Broker(tells) => (Outcome::Ok, self.tells(tells)),
            Asks::ProducerId => {
                self.controller.producers += 1;
                let producer = Some(ProducerId(7000 + self.controller.producers)).filter(|_| late.is_none());
                (outcome, OpKind::ProducerId(ProducerIdRequest { producer, error: late.and_then(error) }))
            }
        };
        self.op(session, outcome, lasts, kind);
    }
}

pub(super) fn steps() -> impl Strategy<Value = Step> {
    let count = 1i32..5;
    let topic = prop_oneof![
        2 => count.clone().prop_map(TopicAsk::Create),
        1 => Just(TopicAsk::Delete),
        1 => count.prop_map(TopicAsk::CreatePartitions),
        2 => Just(TopicAsk::Describe),
    ];
    let node = (101i32..106).prop_map(NodeId);
    let voter = prop_oneof![
        1 => node.clone().prop_map(VoterAsk::Add),
        1 => node.prop_map(VoterAsk::Remove),
        1 => Just(VoterAsk::Describe),
    ];
    let asks = prop_oneof![
        4 => (0u8..2, topic).prop_map(|(topic, ask)| Asks::Topic(topic, ask)),
        3 => voter.prop_map(Asks::Voter),
        1 => Just(Asks::ProducerId),
        1 => prop::bool::weighted(0.8).prop_map(Asks::Set),
        4 => (1i32..4, any::<bool>(), prop_oneof![Just(Of::Metadata), Just(Of::Config)])
            .prop_map(|(broker, hears, of)| Asks::Broker(Tells { broker, hears, of })),
    ];
    let known = prop::option::weighted(0.1, any::<bool>());
    (asks, 0u32..3, known, 0u64..35).prop_map(|(asks, session, known, lasts)| {
        let asks = match asks {
            Asks::Topic(topic, TopicAsk::Describe) => Asks::Topic(topic, question(lasts)),
            asks => asks,
        };
        Step::Controller { asks, session, known, lasts }
    })
}

/// There are three ways to ask about a topic.
fn question(lasts: u64) -> TopicAsk {
    match lasts % 3 {
        0 => TopicAsk::Describe,
        1 => TopicAsk::ValidateCreate,
        _ => TopicAsk::ValidatePartitions(1 + i32::from(lasts.to_le_bytes()[0] % 4)),
    }
}
