//! Random histories against the invariants.

use super::super::*;
use super::bench::{Bench, broker, new_topic};
use broker_types::{BrokerEpoch, TopicId, TopicName};
use broker_wire::records::metadata::{ConfigResource, LeaderRecoveryState};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Event {
    Register(i32),
    Beat { id: i32, want_fence: bool, want_shutdown: bool, lag: i64 },
    Create { partitions: i32, replicas: i16 },
    Delete(usize),
    Grow(usize),
    Alter { partition: usize, members: u8, stale: bool, recovering: bool },
    Elect(bool),
    Unclean(bool, Option<usize>),
    ProducerIds(i32),
    Unregister(i32),
    Pass(u64),
    Commit,
    AutoCommit(bool),
    FailOver { node: usize, lost: usize },
    RefuseAppend,
}

fn event() -> impl Strategy<Value = Event> {
    let id = 1..6i32;
    prop_oneof![
        4 => id.clone().prop_map(Event::Register),
        12 => (id.clone(), prop::bool::weighted(0.1), prop::bool::weighted(0.15), 0..4i64)
            .prop_map(|(id, want_fence, want_shutdown, lag)| Event::Beat { id, want_fence, want_shutdown, lag }),
        3 => (1..4i32, 1..5i16).prop_map(|(partitions, replicas)| Event::Create { partitions, replicas }),
        1 => (0..8usize).prop_map(Event::Delete),
        1 => (0..8usize).prop_map(Event::Grow),
        8 => (0..16usize, any::<u8>(), prop::bool::weighted(0.1), prop::bool::weighted(0.2)).prop_map(
            |(partition, members, stale, recovering)| Event::Alter { partition, members, stale, recovering }
        ),
        1 => prop::bool::weighted(0.8).prop_map(Event::Elect),
        1 => (any::<bool>(), prop::option::of(0..8usize)).prop_map(|(on, topic)| Event::Unclean(on, topic)),
        1 => id.clone().prop_map(Event::ProducerIds),
        1 => id.prop_map(Event::Unregister),
        5 => (0..6_000u64).prop_map(Event::Pass),
        2 => Just(Event::Commit),
        2 => any::<bool>().prop_map(Event::AutoCommit),
        2 => (0..3usize, 0..3usize).prop_map(|(node, lost)| Event::FailOver { node, lost }),
        1 => Just(Event::RefuseAppend),
    ]
}

impl Bench {
    fn play(&mut self, event: Event) {
        if self.leader.is_none() {
            self.elect(0);
        }
        let topics: Vec<(TopicId, TopicName)> =
            self.image().topics().values().map(|topic| (topic.id, topic.name.clone())).collect();
        let epoch = |bench: &Bench, id: i32| {
            bench.image().broker(broker(id)).map_or(BrokerEpoch(0), |registration| registration.epoch)
        };
        let request = match event {
            Event::Register(id) => {
                self.incarnations += 1;
                ControllerRequest::RegisterBroker(self.registration(id, self.incarnations))
            }
            Event::Beat { id, want_fence, want_shutdown, lag } => ControllerRequest::BrokerHeartbeat(BrokerHeartbeat {
                broker: broker(id),
                broker_epoch: epoch(self, id),
                metadata_offset: self.image().last_offset().map(|last| Offset((last.0 - lag).max(0))),
                want_fence,
                want_shutdown,
            }),
            Event::Create { partitions, replicas } => {
                self.incarnations += 1;
                let name = format!("t{}", self.incarnations);
                let topics = vec![new_topic(&name, Some(partitions), Some(replicas))];
                ControllerRequest::CreateTopics { topics, validate_only: false }
            }
            Event::Delete(which) => {
                let topics = topics.get(which).map(|(id, _)| TopicRef::Id(*id)).into_iter().collect();
                ControllerRequest::DeleteTopics { topics }
            }
            Event::Grow(which) => {
                let grown = topics.get(which).map(|(_, name)| NewPartitions {
                    name: name.clone(),
                    count: 5,
                    assignments: None,
                });
                ControllerRequest::CreatePartitions { topics: grown.into_iter().collect(), validate_only: false }
            }
            Event::Alter { partition, members, stale, recovering } => {
                let Some((id, now)) = self.image().partitions().nth(partition).map(|(id, p)| (id, p.clone())) else {
                    return;
                };
                let Some(leader) = now.leader else { return };
                let chosen = |at: usize, replica: BrokerId| replica == leader || members & (1 << (at % 8)) != 0;
                let isr: Vec<BrokerId> = (0..)
                    .zip(&now.replicas)
                    .filter(|(at, replica)| chosen(*at, **replica))
                    .map(|(_, replica)| *replica)
                    .collect();
                let lag = i64::from(stale);
                let isr = isr.into_iter().map(|r| (r, Some(BrokerEpoch(epoch(self, r.0).0 - lag)))).collect();
                let asked = AlterOnePartition {
                    partition: id,
                    leader_epoch: now.leader_epoch,
                    partition_epoch: now.partition_epoch,
                    isr,
                    recovery: if recovering { LeaderRecoveryState::Recovering } else { LeaderRecoveryState::Recovered },
                };
                let broker_epoch = epoch(self, leader.0);
                ControllerRequest::AlterPartition(AlterPartition {
                    broker: leader,
                    broker_epoch,
                    partitions: vec![asked],
                })
            }
            Event::Elect(preferred) => {
                self.asked_for_unclean |= !preferred;
                let election = if preferred { ElectionType::Preferred } else { ElectionType::Unclean };
                ControllerRequest::ElectLeaders { election, partitions: None }
            }
            Event::Unclean(on, which) => {
                let resource = match which.and_then(|which| topics.get(which)) {
                    Some((_, name)) => ConfigResource::topic(name),
                    None => ConfigResource::all_brokers(),
                };
                let value = if on { "true" } else { "false" };
                let changes = vec![(configs::UNCLEAN_LEADER_ELECTION.into(), ConfigOp::Set(value.into()))];
                let resources = vec![AlterConfigs { resource, changes }];
                ControllerRequest::IncrementalAlterConfigs { resources, validate_only: false }
            }
            Event::ProducerIds(id) => {
                ControllerRequest::AllocateProducerIds { broker: broker(id), broker_epoch: epoch(self, id) }
            }
            Event::Unregister(id) => ControllerRequest::UnregisterBroker { broker: broker(id) },
            Event::Pass(ms) => return self.pass(ms),
            Event::Commit => return self.commit(),
            Event::AutoCommit(on) => {
                self.auto_commit = on;
                return self.maybe_commit();
            }
            Event::FailOver { node, lost } => {
                self.lose_tail(lost);
                return self.elect(node);
            }
            Event::RefuseAppend => {
                self.refuse_appends = true;
                self.pass(500);
                self.refuse_appends = false;
                return;
            }
        };
        self.send(request);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// W-R2, W-R3, W-R4, W-R5, W-R18, W-K6 and W-K16 after each step of a random history with fail-overs, lost tails,
    /// refused appends, expired sessions and new incarnations; every request is answered exactly once.
    #[test]
    fn random_histories_keep_every_invariant(events in prop::collection::vec(event(), 1..120)) {
        let mut bench = Bench::new(3, 3);
        for event in events {
            bench.play(event);
        }
        bench.commit();
        bench.elect(1);
        bench.commit();
        prop_assert_eq!(bench.replies.len() as u64 + setup_requests(3), bench.next_id);
        // Replaying the whole log from nothing leads to the same place, and so does a snapshot of it.
        let mut again = MetadataImage::new();
        for batch in &bench.log {
            for (index, record) in (0..).zip(&batch.records) {
                again.replay(record, batch.base + index, batch.epoch).unwrap();
            }
            again.advance(OffsetAndEpoch { offset: batch.last + 1, epoch: batch.epoch }).unwrap();
        }
        prop_assert_eq!(&again, bench.image());
        prop_assert_eq!(&MetadataImage::from_records(&again.to_records(), again.end()).unwrap(), bench.image());
    }
}

/// Requests that [`Bench::new`] asked and took the answers of: a registration and a heartbeat each.
fn setup_requests(brokers: u64) -> u64 {
    2 * brokers
}
