//! Rules as sentences, on a bench of controllers that share one log; then random histories against the invariants.

mod bench;
mod histories;

use super::*;
use bench::{Bench, broker, brokers, new_topic};
use broker_types::{BrokerEpoch, PartitionEpoch, ProducerId, TopicIdPartition, TopicName, Uuid};
use broker_wire::records::metadata::{ConfigResource, LeaderRecoveryState, METADATA_VERSION, SupportedFeature};
use rand_core::SeedableRng;
use std::collections::BTreeMap;

// ---- registration and sessions

#[test]
fn an_empty_log_begins_with_the_metadata_version() {
    let bench = Bench::new(3, 0);
    assert!(matches!(&bench.log[1].records[0], MetadataRecord::FeatureLevel(f) if f.level == 30));
    assert_eq!(bench.image().metadata_version(), Some(30));
}

#[test]
fn a_broker_epoch_is_the_offset_of_its_registration() {
    let mut bench = Bench::new(1, 0);
    let at = bench.end();
    assert_eq!(bench.register(1), Ok(BrokerEpoch(at.0)));
    assert!(bench.image().broker(broker(1)).unwrap().fenced);
}

#[test]
fn a_broker_is_unfenced_only_once_it_has_applied_its_own_registration() {
    let mut bench = Bench::new(1, 0);
    let epoch = bench.register(1).unwrap();
    let early = bench.beat(1, |b| b.metadata_offset = Some(Offset(epoch.0 - 1))).unwrap();
    assert_eq!(early, HeartbeatReply { caught_up: false, fenced: true, should_shut_down: false });
    assert!(bench.beat(1, |b| b.want_fence = true).unwrap().fenced);
    assert!(!bench.beat(1, |b| b.metadata_offset = Some(Offset(epoch.0))).unwrap().fenced);
    assert_eq!(bench.facts.last(), Some(&Observation::BrokerUnfenced { broker: broker(1), broker_epoch: epoch }));
}

#[test]
fn a_new_incarnation_is_refused_while_the_old_session_lives_then_the_old_one_is_fenced() {
    let mut bench = Bench::new(1, 3);
    let topic = bench.topic("orders", &[&[1, 2, 3]]);
    assert_eq!(bench.register(1), Err(ErrorCode::DuplicateBrokerRegistration));
    bench.let_expire(1);
    let fenced = bench.partition(topic, 0);
    assert_eq!((fenced.leader, fenced.isr.as_slice()), (Some(broker(2)), brokers(&[2, 3]).as_slice()));
    let old = bench.epochs[&broker(1)];
    assert!(bench.register(1).unwrap() > old);
    assert_eq!(bench.partition(topic, 0), fenced, "registering lets nobody into an ISR");
}

#[test]
fn a_repeated_registration_of_the_same_process_keeps_its_epoch_and_standing() {
    let mut bench = Bench::new(1, 1);
    let incarnation = bench.image().broker(broker(1)).unwrap().incarnation;
    let request = bench.registration(1, incarnation.0);
    let told = bench.facts.len();
    let again = bench.ask(ControllerRequest::RegisterBroker(request)).unwrap();
    assert_eq!(again, ControllerResponse::RegisterBroker { broker_epoch: bench.epochs[&broker(1)] });
    assert!(!bench.image().broker(broker(1)).unwrap().fenced);
    assert_eq!(bench.facts[told..], [], "no new registration is told");
}

/// KAFKA-18106: the leader stops in a controlled way, its next process registers before it was fenced.
#[test]
fn a_leader_that_registers_anew_within_its_session_loses_leadership_and_isr_first() {
    let mut bench = Bench::new(1, 3);
    let alone = bench.topic("alone", &[&[1]]);
    let shared = bench.topic("shared", &[&[1, 2]]);
    bench.beat(1, |b| b.want_shutdown = true).unwrap();
    let before = bench.partition(alone, 0);
    bench.register(1).unwrap();
    assert_eq!(bench.partition(shared, 0).isr, brokers(&[2]));
    let (after, now) = (bench.partition(alone, 0), bench.image().broker(broker(1)).unwrap().clone());
    assert_eq!((after.leader, after.isr.as_slice()), (None, brokers(&[1]).as_slice()));
    assert!(now.fenced && !now.in_controlled_shutdown);
    bench.beat(1, |_| ()).unwrap();
    assert!(bench.partition(alone, 0).leader_epoch > before.leader_epoch, "a new process leads in a new epoch");
}

/// KAFKA-18106: the session is over, but the registration of the next process comes before the alarm.
#[test]
fn a_leader_whose_session_just_ended_is_fenced_by_its_own_next_registration() {
    let mut bench = Bench::new(1, 2);
    let topic = bench.topic("orders", &[&[1, 2]]);
    let old = bench.epochs[&broker(1)];
    bench.now += Duration::from_secs(9);
    let (before, facts) = (bench.partition(topic, 0), bench.facts.len());
    let new = bench.register(1).unwrap();
    let after = bench.partition(topic, 0);
    assert_eq!((after.leader, after.isr.as_slice()), (Some(broker(2)), brokers(&[2]).as_slice()));
    assert_eq!(after.leader_epoch, before.leader_epoch.next());
    let said: Vec<_> =
        bench.facts[facts..].iter().filter(|fact| !matches!(fact, Observation::PartitionChanged { .. })).collect();
    let fenced = Observation::BrokerFenced { broker: broker(1), broker_epoch: old };
    let registered = Observation::BrokerRegistered { broker: broker(1), broker_epoch: new };
    assert_eq!(said, [&fenced, &registered], "the old registration is fenced first");
}

#[test]
fn a_broker_that_cannot_be_part_of_the_cluster_is_refused_with_the_reason() {
    let mut bench = Bench::new(1, 0);
    let good = bench.registration(1, 1);
    let mut refusal =
        |request: RegisterBroker| bench.ask(ControllerRequest::RegisterBroker(request)).unwrap_err().error;
    assert_eq!(
        refusal(RegisterBroker { cluster_id: "other".into(), ..good.clone() }),
        ErrorCode::InconsistentClusterId
    );
    assert_eq!(refusal(RegisterBroker { endpoints: vec![], ..good.clone() }), ErrorCode::InvalidRegistration);
    let old = vec![SupportedFeature { name: METADATA_VERSION.into(), min: 1, max: 29 }];
    assert_eq!(refusal(RegisterBroker { features: old, ..good }), ErrorCode::UnsupportedVersion);
}

#[test]
fn a_silent_broker_is_fenced_when_its_session_ends_and_not_before() {
    let mut bench = Bench::new(1, 2);
    let topic = bench.topic("orders", &[&[1, 2]]);
    bench.beat(1, |_| ()).unwrap();
    bench.pass(8_999);
    assert!(bench.image().is_active(broker(1)));
    bench.beat(2, |_| ()).unwrap();
    bench.pass(1);
    assert!(!bench.image().is_active(broker(1)) && bench.image().is_active(broker(2)));
    let partition = bench.partition(topic, 0);
    assert_eq!((partition.leader, partition.isr.as_slice()), (Some(broker(2)), brokers(&[2]).as_slice()));
    assert_eq!((partition.leader_epoch, partition.partition_epoch), (LeaderEpoch(1), PartitionEpoch(1)));
}

#[test]
fn a_stale_heartbeat_is_refused() {
    let mut bench = Bench::new(1, 1);
    assert_eq!(bench.beat(1, |b| b.broker_epoch = BrokerEpoch(0)), Err(ErrorCode::StaleBrokerEpoch));
    assert_eq!(bench.beat(1, |b| b.broker = broker(9)), Err(ErrorCode::StaleBrokerEpoch));
}

#[test]
fn a_fail_over_gives_every_broker_a_whole_new_session() {
    let mut bench = Bench::new(3, 2);
    bench.pass(8_900);
    bench.elect(1);
    bench.pass(8_999);
    assert!(bench.image().is_active(broker(1)));
    bench.pass(1);
    assert!(!bench.image().is_active(broker(1)));
}

#[test]
fn an_unregistered_broker_leaves_leaderships_and_isrs() {
    let mut bench = Bench::new(1, 2);
    let topic = bench.topic("orders", &[&[1, 2]]);
    bench.ask(ControllerRequest::UnregisterBroker { broker: broker(1) }).unwrap();
    assert_eq!(bench.partition(topic, 0).isr, brokers(&[2]));
    assert!(bench.image().broker(broker(1)).is_none());
    let again = bench.ask(ControllerRequest::UnregisterBroker { broker: broker(1) }).unwrap_err();
    assert_eq!(again.error, ErrorCode::BrokerIdNotRegistered);
}

// ---- controlled shutdown

#[test]
fn a_stopping_broker_hands_over_and_stops_when_every_live_broker_knows() {
    let mut bench = Bench::new(1, 3);
    let topic = bench.topic("orders", &[&[1, 2, 3]]);
    let before = bench.end();
    let reply = bench.beat(1, |b| b.want_shutdown = true).unwrap();
    assert_eq!((reply.fenced, reply.should_shut_down), (false, false));
    assert_eq!(bench.partition(topic, 0).isr, brokers(&[2, 3]));
    for id in [2, 3] {
        assert!(!bench.beat(1, |b| b.want_shutdown = true).unwrap().should_shut_down, "broker {id} does not know");
        bench.beat(id, |b| b.metadata_offset = Some(Offset(before.0 - 1))).unwrap();
        assert!(!bench.beat(1, |b| b.want_shutdown = true).unwrap().should_shut_down, "broker {id} does not know");
        bench.beat(id, |_| ()).unwrap();
    }
    let reply = bench.beat(1, |b| b.want_shutdown = true).unwrap();
    assert!(reply.fenced && reply.should_shut_down && bench.image().broker(broker(1)).unwrap().fenced);
}

#[test]
fn a_broker_that_leads_nothing_stops_at_once() {
    let mut bench = Bench::new(1, 2);
    let topic = bench.topic("orders", &[&[1, 2]]);
    assert!(bench.beat(2, |b| b.want_shutdown = true).unwrap().should_shut_down);
    assert_eq!(bench.partition(topic, 0).isr, brokers(&[1]));
}

#[test]
fn a_controlled_shutdown_goes_on_under_a_new_controller() {
    let mut bench = Bench::new(3, 2);
    let topic = bench.topic("orders", &[&[1, 2]]);
    bench.beat(1, |b| b.want_shutdown = true).unwrap();
    bench.elect(2);
    assert!(!bench.beat(1, |b| b.want_shutdown = true).unwrap().should_shut_down);
    bench.beat(2, |_| ()).unwrap();
    assert!(bench.beat(1, |b| b.want_shutdown = true).unwrap().should_shut_down);
    assert_eq!(bench.partition(topic, 0).isr, brokers(&[2]));
}

// ---- ISR changes

#[test]
fn an_isr_shrinks_and_grows_without_a_new_leader_epoch() {
    let mut bench = Bench::new(1, 3);
    let topic = bench.topic("orders", &[&[1, 2, 3]]);
    let shrunk = bench.alter(topic, &[1, 2], |_| ()).unwrap();
    assert_eq!((shrunk.leader_epoch, shrunk.partition_epoch), (LeaderEpoch(0), PartitionEpoch(1)));
    let grown = bench.alter(topic, &[1, 2, 3], |_| ()).unwrap();
    assert_eq!((grown.leader_epoch, grown.partition_epoch), (LeaderEpoch(0), PartitionEpoch(2)));
    let records = bench.log.len();
    let same = bench.alter(topic, &[1, 2, 3], |_| ()).unwrap();
    assert_eq!((same, bench.log.len()), (grown, records), "nothing changes, nothing is written");
}

/// KIP-841, KIP-903: B catches up, crashes, comes back empty; the leader's proposal still names the old B.
#[test]
fn a_replica_that_is_fenced_stopping_or_of_another_incarnation_joins_no_isr() {
    let mut bench = Bench::new(1, 3);
    let topic = bench.topic("orders", &[&[1, 2, 3]]);
    bench.alter(topic, &[1], |_| ()).unwrap();
    let old = bench.epochs[&broker(2)];
    bench.let_expire(2);
    assert_eq!(bench.alter(topic, &[1, 2], |_| ()), Err(ErrorCode::IneligibleReplica), "fenced");
    bench.bring_up(2);
    let stale = |request: &mut AlterPartition| request.partitions[0].isr[1].1 = Some(old);
    assert_eq!(bench.alter(topic, &[1, 2], stale), Err(ErrorCode::IneligibleReplica), "another incarnation");
    assert!(bench.alter(topic, &[1, 2], |_| ()).is_ok());
    bench.topic("keeps-3-busy", &[&[3]]);
    bench.beat(3, |b| b.want_shutdown = true).unwrap();
    assert_eq!(bench.alter(topic, &[1, 2, 3], |_| ()), Err(ErrorCode::IneligibleReplica), "stopping");
}

#[test]
fn only_the_leader_on_the_newest_registration_may_change_the_isr() {
    use ErrorCode as E;
    let mut bench = Bench::new(1, 3);
    let topic = bench.topic("orders", &[&[1, 2, 3]]);
    bench.alter(topic, &[1, 2], |_| ()).unwrap();
    let two = bench.epochs[&broker(2)];
    type Change = Box<dyn FnOnce(&mut AlterPartition)>;
    let cases: Vec<(E, Change)> = vec![
        (E::StaleBrokerEpoch, Box::new(|r| r.broker_epoch = BrokerEpoch(0))),
        (E::UnknownTopicId, Box::new(|r| r.partitions[0].partition.topic = Uuid(5))),
        (E::UnknownTopicOrPartition, Box::new(|r| r.partitions[0].partition.partition = 7)),
        (E::NotController, Box::new(|r| r.partitions[0].leader_epoch = LeaderEpoch(1))),
        (E::NotController, Box::new(|r| r.partitions[0].partition_epoch = PartitionEpoch(9))),
        (E::InvalidRequest, Box::new(move |r| (r.broker, r.broker_epoch) = (broker(2), two))),
        (E::InvalidUpdateVersion, Box::new(|r| r.partitions[0].partition_epoch = PartitionEpoch(0))),
        (E::InvalidRequest, Box::new(|r| r.partitions[0].isr = vec![(broker(2), None)])),
        (E::InvalidRequest, Box::new(|r| r.partitions[0].isr = vec![(broker(1), None), (broker(9), None)])),
        (E::InvalidRequest, Box::new(|r| r.partitions[0].isr = vec![(broker(1), None), (broker(1), None)])),
        (E::InvalidRequest, Box::new(|r| r.partitions[0].recovery = LeaderRecoveryState::Recovering)),
    ];
    let before = bench.partition(topic, 0);
    for (index, (error, change)) in cases.into_iter().enumerate() {
        assert_eq!(bench.alter(topic, &[1, 2], change), Err(error), "case {index}");
    }
    assert_eq!(bench.partition(topic, 0), before);
    bench.let_expire(1);
    bench.bring_up(1);
    let old_epoch = |r: &mut AlterPartition| r.partitions[0].leader_epoch = LeaderEpoch(0);
    assert_eq!(bench.alter(topic, &[2, 1], old_epoch), Err(E::FencedLeaderEpoch));
}

// ---- elections

#[test]
fn the_last_member_of_an_isr_stays_and_is_the_only_one_elected() {
    let mut bench = Bench::new(1, 2);
    let topic = bench.topic("orders", &[&[1, 2]]);
    bench.alter(topic, &[1], |_| ()).unwrap();
    bench.let_expire(1);
    let offline = bench.partition(topic, 0);
    assert_eq!(
        (offline.leader, offline.isr.as_slice()),
        (None, brokers(&[1]).as_slice()),
        "2 lives, but may lack data"
    );
    bench.bring_up(1);
    let back = bench.partition(topic, 0);
    assert_eq!((back.leader, back.recovery), (Some(broker(1)), LeaderRecoveryState::Recovered));
    assert_eq!(back.leader_epoch, LeaderEpoch(2));
}

#[test]
fn an_unclean_leader_is_elected_only_where_allowed_and_recovers_alone() {
    let mut bench = Bench::new(1, 2);
    let topic = bench.topic("orders", &[&[1, 2]]);
    bench.alter(topic, &[1], |_| ()).unwrap();
    bench.let_expire(1);
    assert_eq!(bench.partition(topic, 0).leader, None);
    let resource = ConfigResource::topic(&"orders".into());
    bench.set(resource, "unclean.leader.election.enable", "true").unwrap();
    let elected = bench.partition(topic, 0);
    assert_eq!((elected.leader, elected.isr.as_slice()), (Some(broker(2)), brokers(&[2]).as_slice()));
    assert_eq!(elected.recovery, LeaderRecoveryState::Recovering);
    assert!(bench.facts.iter().any(|fact| matches!(fact, Observation::PartitionChanged { unclean: true, .. })));
    bench.bring_up(1);
    let still = |r: &mut AlterPartition| r.partitions[0].recovery = LeaderRecoveryState::Recovering;
    assert_eq!(bench.alter(topic, &[2, 1], still), Err(ErrorCode::InvalidRequest));
    let recovered = bench.alter(topic, &[2, 1], |_| ()).unwrap();
    assert_eq!((recovered.recovery, recovered.leader_epoch), (LeaderRecoveryState::Recovered, elected.leader_epoch));
}

#[test]
fn a_preferred_leader_is_elected_from_the_isr_on_request() {
    let mut bench = Bench::new(1, 2);
    let topic = bench.topic("orders", &[&[1, 2]]);
    let id = TopicIdPartition { topic, partition: 0 };
    let request = ControllerRequest::ElectLeaders { election: ElectionType::Preferred, partitions: Some(vec![id]) };
    let elect = |bench: &mut Bench| match bench.ask(request.clone()).unwrap() {
        ControllerResponse::ElectLeaders(results) => results[0].1.clone().map_err(|r| r.error),
        other => panic!("{other:?}"),
    };
    assert_eq!(elect(&mut bench), Err(ErrorCode::ElectionNotNeeded));
    bench.let_expire(1);
    bench.bring_up(1);
    assert_eq!(elect(&mut bench), Err(ErrorCode::PreferredLeaderNotAvailable), "1 is not in the ISR");
    bench.alter(topic, &[2, 1], |_| ()).unwrap();
    assert_eq!(elect(&mut bench), Ok(()));
    assert_eq!(bench.partition(topic, 0).leader, Some(broker(1)));
}

#[test]
fn leaderships_go_back_to_preferred_leaders_by_themselves() {
    let mut bench = Bench::new(1, 2);
    bench.nodes[0].config.preferred_election_interval = Some(Duration::from_secs(5));
    bench.elect(0);
    let topic = bench.topic("orders", &[&[1, 2]]);
    bench.let_expire(1);
    bench.bring_up(1);
    bench.alter(topic, &[2, 1], |_| ()).unwrap();
    bench.pass(5_000);
    assert_eq!(bench.partition(topic, 0).leader, Some(broker(1)));
}

// ---- topics

#[test]
fn replicas_spread_over_racks_and_leaders_over_brokers() {
    let mut bench = Bench::new(1, 9);
    let created = bench.create(new_topic("orders", Some(90), Some(3))).unwrap();
    let mut leads = BTreeMap::new();
    let mut holds = BTreeMap::new();
    for index in 0..90 {
        let partition = bench.partition(created.id, index);
        let racks: std::collections::BTreeSet<i32> = partition.replicas.iter().map(|r| (r.0 - 1) % 3).collect();
        assert_eq!(racks.len(), 3, "{:?}", partition.replicas);
        *leads.entry(partition.leader.unwrap()).or_insert(0) += 1;
        partition.replicas.iter().for_each(|r| *holds.entry(*r).or_insert(0) += 1);
    }
    assert!(leads.len() == 9 && leads.values().all(|n| (5..=15).contains(n)), "{leads:?}");
    assert!(holds.values().all(|n| (20..=40).contains(n)), "{holds:?}");
}

#[test]
fn a_fenced_broker_gets_replicas_only_for_want_of_others_and_is_never_in_sync() {
    let mut bench = Bench::new(1, 2);
    bench.register(3).unwrap();
    let two = bench.create(new_topic("two", Some(8), Some(1))).unwrap();
    assert!((0..8).all(|index| bench.partition(two.id, index).leader != Some(broker(3))));
    let three = bench.create(new_topic("three", Some(4), Some(3))).unwrap();
    for index in 0..4 {
        let partition = bench.partition(three.id, index);
        assert_eq!(partition.replicas.len(), 3);
        assert!(!partition.isr.contains(&broker(3)) && partition.isr.len() == 2);
    }
}

#[test]
fn a_topic_that_cannot_be_is_refused_with_its_code() {
    use ErrorCode as E;
    let mut bench = Bench::new(1, 2);
    bench.topic("my.topic", &[&[1]]);
    let by_hand = |assignments: Vec<(i32, Vec<BrokerId>)>| NewTopic { assignments, ..new_topic("t", None, None) };
    let config = |key: &str, value: Option<&str>| NewTopic {
        configs: vec![(key.into(), value.map(Into::into))],
        ..new_topic("t", None, None)
    };
    let long = "x".repeat(250);
    let cases = [
        (E::TopicAlreadyExists, new_topic("my.topic", None, None)),
        (E::InvalidTopicException, new_topic("my_topic", None, None)),
        (E::InvalidTopicException, new_topic("", None, None)),
        (E::InvalidTopicException, new_topic("..", None, None)),
        (E::InvalidTopicException, new_topic("a/b", None, None)),
        (E::InvalidTopicException, new_topic("__cluster_metadata", None, None)),
        (E::InvalidTopicException, new_topic(&long, None, None)),
        (E::InvalidPartitions, new_topic("t", Some(0), None)),
        (E::PolicyViolation, new_topic("t", Some(i32::MAX), None)),
        (E::InvalidReplicationFactor, new_topic("t", None, Some(0))),
        (E::InvalidReplicationFactor, new_topic("t", None, Some(3))),
        (E::InvalidReplicaAssignment, by_hand(vec![(1, brokers(&[1]))])),
        (E::InvalidReplicaAssignment, by_hand(vec![(0, brokers(&[1, 1]))])),
        (E::InvalidReplicaAssignment, by_hand(vec![(0, brokers(&[9]))])),
        (E::InvalidReplicaAssignment, by_hand(vec![(0, brokers(&[1, 2])), (1, brokers(&[1]))])),
        (E::InvalidRequest, NewTopic { partitions: Some(1), ..by_hand(vec![(0, brokers(&[1]))]) }),
        (E::InvalidConfig, config("no.such.key", Some("1"))),
        (E::InvalidConfig, config("min.insync.replicas", Some("0"))),
        (E::InvalidConfig, config("cleanup.policy", Some("shred"))),
        (E::InvalidConfig, config("retention.ms", None)),
    ];
    for (error, topic) in cases {
        assert_eq!(bench.create(topic.clone()), Err(error), "{topic:?}");
    }
    assert_eq!(bench.image().topics().len(), 1);
}

#[test]
fn validate_only_changes_nothing() {
    let mut bench = Bench::new(1, 1);
    let before = bench.end();
    let topics = vec![new_topic("orders", Some(2), Some(1))];
    let answer = bench.ask(ControllerRequest::CreateTopics { topics, validate_only: true }).unwrap();
    let ControllerResponse::CreateTopics(results) = answer else { panic!() };
    assert_eq!(results[0].1.as_ref().map(|created| (created.id, created.partitions)), Ok((Uuid::ZERO, 2)));
    assert_eq!(bench.end(), before + 1, "only the record that its answer waits for");
    assert_eq!(bench.log.last().unwrap().records, [MetadataRecord::NoOp]);
}

/// KAFKA-14204: what does not fit in one batch is refused before anything changes.
#[test]
fn a_request_too_large_for_one_batch_is_refused_whole() {
    let mut bench = Bench::new(1, 1);
    bench.nodes[0].config.max_batch_records = 10;
    let topics = vec![new_topic("a", Some(6), Some(1)), new_topic("b", Some(6), Some(1))];
    let refusal = bench.ask(ControllerRequest::CreateTopics { topics, validate_only: false }).unwrap_err();
    assert_eq!(refusal.error, ErrorCode::PolicyViolation);
    assert!(bench.image().topics().is_empty());
}

#[test]
fn a_fencing_too_large_for_one_batch_is_written_in_several() {
    let mut bench = Bench::new(1, 2);
    bench.create(new_topic("orders", Some(12), Some(2))).unwrap();
    bench.nodes[0].config.max_batch_records = 5;
    bench.let_expire(1);
    assert!(bench.image().partitions().all(|(_, p)| p.leader == Some(broker(2))));
}

#[test]
fn a_recreated_topic_has_another_id() {
    let mut bench = Bench::new(1, 1);
    let first = bench.topic("orders", &[&[1]]);
    let topics = vec![TopicRef::Name("orders".into()), TopicRef::Id(Uuid(9)), TopicRef::Name("none".into())];
    let answer = bench.ask(ControllerRequest::DeleteTopics { topics }).unwrap();
    let ControllerResponse::DeleteTopics(results) = answer else { panic!() };
    let codes: Vec<_> = results.iter().map(|(_, r)| r.as_ref().err().map(|r| r.error)).collect();
    assert_eq!(codes, [None, Some(ErrorCode::UnknownTopicId), Some(ErrorCode::UnknownTopicOrPartition)]);
    assert_ne!(bench.topic("orders", &[&[1]]), first);
}

#[test]
fn partitions_are_added_and_never_taken_away() {
    let mut bench = Bench::new(1, 3);
    let topic = bench.topic("orders", &[&[1, 2]]);
    let mut grow = |name: &str, count: i32, assignments: Option<Vec<Vec<BrokerId>>>| {
        let topics = vec![NewPartitions { name: name.into(), count, assignments }];
        match bench.ask(ControllerRequest::CreatePartitions { topics, validate_only: false }).unwrap() {
            ControllerResponse::CreatePartitions(results) => results[0].1.clone().map_err(|r| r.error),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(grow("orders", 3, None), Ok(()));
    assert_eq!(grow("orders", 3, None), Err(ErrorCode::InvalidPartitions));
    assert_eq!(grow("orders", 2, None), Err(ErrorCode::InvalidPartitions));
    assert_eq!(grow("none", 2, None), Err(ErrorCode::UnknownTopicOrPartition));
    assert_eq!(grow("orders", 4, Some(vec![])), Err(ErrorCode::InvalidReplicaAssignment));
    assert_eq!(grow("orders", 4, Some(vec![brokers(&[1])])), Err(ErrorCode::InvalidReplicaAssignment));
    assert_eq!(grow("orders", 4, Some(vec![brokers(&[3, 1])])), Ok(()));
    assert_eq!(bench.partition(topic, 2).replicas.len(), 2);
    assert_eq!(bench.partition(topic, 3).replicas, brokers(&[3, 1]));
}

// ---- producer ids and configuration

#[test]
fn no_producer_id_is_given_twice_not_even_over_a_fail_over() {
    let mut bench = Bench::new(3, 1);
    let request = ControllerRequest::AllocateProducerIds { broker: broker(1), broker_epoch: bench.epochs[&broker(1)] };
    for (index, leader) in [(0, 0), (1, 0), (2, 1), (3, 2)] {
        if bench.leader != Some(leader) {
            bench.elect(leader);
        }
        let first = ProducerId(index * 1000);
        let block = ControllerResponse::AllocateProducerIds { first, count: 1000 };
        assert_eq!(bench.ask(request.clone()), Ok(block));
    }
}

#[test]
fn lists_are_appended_to_and_subtracted_from() {
    let mut bench = Bench::new(1, 1);
    bench.topic("orders", &[&[1]]);
    let resource = ConfigResource::topic(&TopicName::from("orders"));
    let alter = |bench: &mut Bench, key: &str, op: ConfigOp| {
        let resources = vec![AlterConfigs { resource: resource.clone(), changes: vec![(key.into(), op)] }];
        match bench.ask(ControllerRequest::IncrementalAlterConfigs { resources, validate_only: false }).unwrap() {
            ControllerResponse::IncrementalAlterConfigs(results) => results[0].1.clone().map_err(|r| r.error),
            other => panic!("{other:?}"),
        }
    };
    let value =
        |bench: &Bench| bench.image().topic_config(&"orders".into(), None, "cleanup.policy").map(ToString::to_string);
    alter(&mut bench, "cleanup.policy", ConfigOp::Append("compact".into())).unwrap();
    alter(&mut bench, "cleanup.policy", ConfigOp::Append("delete".into())).unwrap();
    assert_eq!(value(&bench).as_deref(), Some("compact,delete"));
    alter(&mut bench, "cleanup.policy", ConfigOp::Subtract("compact".into())).unwrap();
    assert_eq!(value(&bench).as_deref(), Some("delete"));
    alter(&mut bench, "cleanup.policy", ConfigOp::Delete).unwrap();
    assert_eq!(value(&bench), None);
    assert_eq!(alter(&mut bench, "retention.ms", ConfigOp::Append("1".into())), Err(ErrorCode::InvalidConfig));
}

// ---- leadership of the quorum

#[test]
fn a_reply_waits_until_its_records_are_committed() {
    let mut bench = Bench::new(1, 1);
    bench.auto_commit = false;
    let create = ControllerRequest::CreateTopics { topics: vec![new_topic("a", None, None)], validate_only: false };
    let first = bench.send(create.clone());
    let second = bench.send(create);
    assert!(bench.replies.is_empty(), "TOPIC_ALREADY_EXISTS rests on a record that may never be");
    bench.commit();
    assert!(bench.replies[&first].is_ok() && bench.replies[&second].is_ok());
}

/// KAFKA-14204: the topic was never created, and the next leader creates it afresh.
#[test]
fn a_deposed_controller_forgets_what_was_not_committed() {
    let mut bench = Bench::new(3, 1);
    bench.auto_commit = false;
    let request = ControllerRequest::CreateTopics { topics: vec![new_topic("a", None, None)], validate_only: false };
    let id = bench.send(request.clone());
    bench.lose_tail(1);
    bench.auto_commit = true;
    bench.elect(1);
    assert_eq!(bench.replies[&id].as_ref().unwrap_err().error, ErrorCode::RequestTimedOut);
    bench.elect(0);
    let ControllerResponse::CreateTopics(results) = bench.ask(request).unwrap() else { panic!() };
    assert!(results[0].1.is_ok());
}

/// It may be committed by the next controller: whoever forwards it must not ask again and be told of its own doing.
#[test]
fn only_what_may_be_asked_twice_is_told_that_the_controller_is_another() {
    let mut bench = Bench::new(3, 1);
    bench.auto_commit = false;
    let topics = || vec![new_topic("a", None, None)];
    let change = bench.send(ControllerRequest::CreateTopics { topics: topics(), validate_only: false });
    let question = bench.send(ControllerRequest::CreateTopics { topics: topics(), validate_only: true });
    let deletion = bench.send(ControllerRequest::DeleteTopics { topics: vec![TopicRef::Name("a".into())] });
    bench.auto_commit = true;
    bench.elect(1);
    let told = [change, question, deletion].map(|id| bench.replies[&id].as_ref().unwrap_err().error);
    assert_eq!(told, [ErrorCode::RequestTimedOut, ErrorCode::NotController, ErrorCode::RequestTimedOut]);
}

/// A controller is cut off from the quorum; another one deletes the topic. The first has nothing under way, so it would
/// answer at once that the topic exists: it answers nothing until a record of its own is committed, and that never is.
#[test]
fn an_answer_about_topics_without_records_waits_for_one_that_proves_who_leads() {
    let mut bench = Bench::new(3, 1);
    bench.topic("a", &[&[1]]);
    bench.auto_commit = false;
    let before = bench.end();
    let topics = || vec![new_topic("a", None, None)];
    let refused = bench.send(ControllerRequest::CreateTopics { topics: topics(), validate_only: false });
    let question = bench.send(ControllerRequest::CreateTopics { topics: topics(), validate_only: true });
    let grown = vec![NewPartitions { name: "a".into(), count: 2, assignments: None }];
    let grows = bench.send(ControllerRequest::CreatePartitions { topics: grown, validate_only: true });
    assert!(bench.replies.is_empty(), "an answer now could be about a topic that another controller deleted");
    assert_eq!(bench.end(), before + 3, "each waits for a record written after it came");
    bench.commit();
    assert!([refused, question, grows].iter().all(|id| bench.replies[id].is_ok()));
}

#[test]
fn a_refused_append_makes_the_controller_revert_and_resign() {
    let mut bench = Bench::new(1, 1);
    bench.refuse_appends = true;
    let request = ControllerRequest::CreateTopics { topics: vec![new_topic("a", None, None)], validate_only: false };
    assert_eq!(bench.ask(request.clone()).unwrap_err().error, ErrorCode::RequestTimedOut);
    assert_eq!((bench.leader, bench.nodes[0].active_epoch()), (None, None));
    assert_eq!(bench.ask(request).unwrap_err().error, ErrorCode::NotController);
}

#[test]
fn an_elected_controller_serves_only_after_it_replayed_everything_before_its_epoch() {
    let mut bench = Bench::new(3, 1);
    bench.auto_commit = false;
    let request = ControllerRequest::CreateTopics { topics: vec![new_topic("a", None, None)], validate_only: false };
    bench.send(request.clone());
    bench.elect(1);
    assert_eq!(bench.nodes[1].active_epoch(), None);
    assert_eq!(bench.ask(request.clone()).unwrap_err().error, ErrorCode::NotController);
    bench.commit();
    assert_eq!(bench.nodes[1].active_epoch(), Some(bench.epoch));
    let id = bench.send(request);
    bench.commit();
    let ControllerResponse::CreateTopics(results) = bench.replies[&id].clone().unwrap() else { panic!() };
    assert_eq!(results[0].1.as_ref().unwrap_err().error, ErrorCode::TopicAlreadyExists, "the kept tail counts");
}

#[test]
fn an_idle_controller_writes_a_no_op_twice_a_second_and_a_waiting_one_none() {
    let mut bench = Bench::new(1, 0);
    let before = bench.log.len();
    bench.pass(5_000);
    assert_eq!(bench.log.len(), before + 10);
    bench.auto_commit = false;
    bench.pass(5_000);
    assert_eq!(bench.log.len(), before + 11);
}

#[test]
fn parked_replies_are_bounded() {
    let mut bench = Bench::new(1, 1);
    bench.nodes[0].config.max_parked = 2;
    bench.auto_commit = false;
    let request = ControllerRequest::AllocateProducerIds { broker: broker(1), broker_epoch: bench.epochs[&broker(1)] };
    let ids: Vec<_> = (0..3).map(|_| bench.send(request.clone())).collect();
    assert_eq!(bench.replies[&ids[2]].as_ref().unwrap_err().error, ErrorCode::RequestTimedOut);
    bench.commit();
    assert!(ids[..2].iter().all(|id| bench.replies[id].is_ok()));
}

#[test]
fn a_standby_that_starts_from_a_snapshot_is_where_the_others_are() {
    let mut bench = Bench::new(1, 3);
    bench.topic("orders", &[&[1, 2, 3], &[2, 3, 1]]);
    bench.set(ConfigResource::topic(&"orders".into()), "min.insync.replicas", "2").unwrap();
    let image = bench.image();
    let copy = MetadataImage::from_records(&image.to_records(), image.end()).unwrap();
    let mut late = Controller::new(bench.nodes[0].config.clone(), ChaCha8Rng::seed_from_u64(9));
    late.step(bench.now, Input::SnapshotLoaded { image: Box::new(copy) }, &mut Vec::new());
    assert_eq!(late.committed(), bench.image());
}

#[test]
#[should_panic(expected = "does not follow offset")]
fn a_gap_in_the_committed_log_is_fatal() {
    let mut bench = Bench::new(1, 0);
    let (at, epoch) = (bench.end() + 1, bench.epoch);
    bench.step(0, Input::Committed(CommittedBatch { base: at, last: at, epoch, records: vec![MetadataRecord::NoOp] }));
}
