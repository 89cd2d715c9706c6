//! Rules as sentences, on a bench of controllers that share one log; then random histories against the invariants.

use super::*;
use crate::metadata::PartitionRegistration;
use broker_types::{BrokerEpoch, PartitionEpoch, ProducerId, TopicId, TopicIdPartition, TopicName, Uuid};
use broker_wire::records::metadata::{
    ConfigResource, Endpoint, LeaderRecoveryState, METADATA_VERSION, SupportedFeature,
};
use proptest::prelude::*;
use rand_core::SeedableRng;
use std::collections::BTreeMap;

/// Controllers, and one metadata log that the elected one appends to.
struct Bench {
    now: MonoTime,
    nodes: Vec<Controller>,
    leader: Option<usize>,
    epoch: LeaderEpoch,
    log: Vec<CommittedBatch>,
    /// Batches of `log` that are committed and were delivered to every node.
    committed: usize,
    /// Commit at once whatever is appended.
    auto_commit: bool,
    refuse_appends: bool,
    next_id: u64,
    replies: BTreeMap<RequestId, Result<ControllerResponse, Refusal>>,
    facts: Vec<Observation>,
    epochs: BTreeMap<BrokerId, BrokerEpoch>,
    incarnations: u128,
}

fn broker(id: i32) -> BrokerId {
    NodeId(id)
}

fn brokers(ids: &[i32]) -> Vec<BrokerId> {
    ids.iter().map(|id| NodeId(*id)).collect()
}

impl Bench {
    /// Controller 0 of `controllers` leads, and `brokers` brokers, 1 and up, are unfenced.
    fn new(controllers: usize, brokers: i32) -> Self {
        let nodes = (0..controllers).map(|index| {
            let mut config = ControllerConfig::new(NodeId(100 + index as i32), "cluster");
            config.preferred_election_interval = None;
            Controller::new(config, ChaCha8Rng::seed_from_u64(index as u64))
        });
        let mut bench = Bench {
            now: MonoTime::from_millis(1000),
            nodes: nodes.collect(),
            leader: None,
            epoch: LeaderEpoch(0),
            log: Vec::new(),
            committed: 0,
            auto_commit: true,
            refuse_appends: false,
            next_id: 0,
            replies: BTreeMap::new(),
            facts: Vec::new(),
            epochs: BTreeMap::new(),
            incarnations: 1000,
        };
        bench.elect(0);
        (1..=brokers).for_each(|id| bench.bring_up(id));
        bench
    }

    fn end(&self) -> Offset {
        self.log.last().map_or(Offset::ZERO, |batch| batch.last + 1)
    }

    fn append(&mut self, records: Vec<MetadataRecord>) -> Offset {
        let base = self.end();
        let last = base + (records.len().max(1) as i64 - 1);
        self.log.push(CommittedBatch { base, last, epoch: self.epoch, records });
        base
    }

    fn elect(&mut self, node: usize) {
        self.depose();
        self.epoch = self.epoch.next();
        self.leader = Some(node);
        self.append(Vec::new());
        let (epoch, next_offset) = (self.epoch, self.end());
        self.step(node, Input::BecameLeader { epoch, next_offset });
        self.maybe_commit();
    }

    fn depose(&mut self) {
        if let Some(leader) = self.leader.take() {
            self.step(leader, Input::LostLeadership);
        }
    }

    /// The last `batches` appended but uncommitted ones are lost with the minority that had them.
    fn lose_tail(&mut self, batches: usize) {
        let keep = self.log.len().saturating_sub(batches).max(self.committed);
        self.log.truncate(keep);
    }

    fn step(&mut self, node: usize, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut out = Vec::new();
            self.nodes[node].step(self.now, input, &mut out);
            for output in out {
                match output {
                    Output::Propose { .. } if self.refuse_appends => inputs.push_back(Input::AppendFailed),
                    Output::Propose { epoch, base, records } => {
                        assert_eq!((self.leader, epoch, base), (Some(node), self.epoch, self.end()));
                        assert!(!records.is_empty());
                        inputs.push_back(Input::Appended { base });
                        self.append(records);
                    }
                    Output::Reply { id, response } => {
                        let former = self.replies.insert(id, response);
                        assert_eq!(former, None, "{id:?} answered twice");
                    }
                    Output::Resign { epoch } => {
                        assert_eq!((self.leader, epoch), (Some(node), self.epoch));
                        self.leader = None;
                        inputs.push_back(Input::LostLeadership);
                    }
                    Output::Observe(fact) => self.facts.push(fact),
                }
            }
            self.nodes[node].check_invariants();
        }
    }

    fn maybe_commit(&mut self) {
        if self.auto_commit {
            self.commit();
        }
    }

    fn commit(&mut self) {
        while self.committed < self.log.len() {
            let batch = self.log[self.committed].clone();
            self.committed += 1;
            let before = self.nodes[0].committed().clone();
            for node in 0..self.nodes.len() {
                self.step(node, Input::Committed(batch.clone()));
                assert_eq!(self.nodes[node].committed(), self.nodes[0].committed(), "standby and active differ");
            }
            check_transition(&before, self.nodes[0].committed(), &batch.records, &self.nodes[0].config);
        }
    }

    /// Asks without waiting for the commit.
    fn send(&mut self, request: ControllerRequest) -> RequestId {
        let id = RequestId(self.next_id);
        self.next_id += 1;
        let node = self.leader.unwrap_or(0);
        self.step(node, Input::Request { id, request });
        self.maybe_commit();
        id
    }

    fn ask(&mut self, request: ControllerRequest) -> Result<ControllerResponse, Refusal> {
        let id = self.send(request);
        self.replies.remove(&id).expect("an answer")
    }

    fn pass(&mut self, ms: u64) {
        let until = self.now + Duration::from_millis(ms);
        while let Some(node) = self.leader {
            let Some(at) = self.nodes[node].wakeup().filter(|at| *at <= until) else { break };
            self.now = self.now.max(at);
            self.step(node, Input::Wakeup);
            self.maybe_commit();
            assert!(self.nodes[node].wakeup().is_none_or(|at| at > self.now), "a wakeup that changes nothing");
        }
        self.now = until;
    }

    fn registration(&mut self, id: i32, incarnation: u128) -> RegisterBroker {
        RegisterBroker {
            broker: broker(id),
            cluster_id: "cluster".into(),
            incarnation: Uuid(incarnation),
            endpoints: vec![Endpoint {
                name: "PLAINTEXT".into(),
                host: "host".into(),
                port: 9092,
                security_protocol: 0,
            }],
            features: vec![SupportedFeature { name: METADATA_VERSION.into(), min: 7, max: 30 }],
            rack: Some(["a", "b", "c"][(id as usize - 1) % 3].into()),
            log_dirs: vec![Uuid(500 + id as u128)],
            previous_epoch: None,
        }
    }

    /// A new process of the broker registers.
    fn register(&mut self, id: i32) -> Result<BrokerEpoch, ErrorCode> {
        self.incarnations += 1;
        let request = self.registration(id, self.incarnations);
        match self.ask(ControllerRequest::RegisterBroker(request)) {
            Ok(ControllerResponse::RegisterBroker { broker_epoch }) => {
                self.epochs.insert(broker(id), broker_epoch);
                Ok(broker_epoch)
            }
            Ok(other) => panic!("{other:?}"),
            Err(refusal) => Err(refusal.error),
        }
    }

    fn beat(&mut self, id: i32, change: impl FnOnce(&mut BrokerHeartbeat)) -> Result<HeartbeatReply, ErrorCode> {
        let mut request = BrokerHeartbeat {
            broker: broker(id),
            broker_epoch: self.epochs[&broker(id)],
            metadata_offset: self.nodes[0].committed().last_offset(),
            want_fence: false,
            want_shutdown: false,
        };
        change(&mut request);
        match self.ask(ControllerRequest::BrokerHeartbeat(request)) {
            Ok(ControllerResponse::BrokerHeartbeat(reply)) => Ok(reply),
            Ok(other) => panic!("{other:?}"),
            Err(refusal) => Err(refusal.error),
        }
    }

    fn bring_up(&mut self, id: i32) {
        self.register(id).unwrap();
        let reply = self.beat(id, |_| ()).unwrap();
        assert_eq!(reply, HeartbeatReply { caught_up: true, fenced: false, should_shut_down: false });
    }

    /// Its session ends while all other brokers heartbeat.
    fn let_expire(&mut self, dead: i32) {
        for _ in 0..10 {
            let alive: Vec<i32> = self.epochs.keys().map(|id| id.0).filter(|id| *id != dead).collect();
            for id in alive {
                let fenced = self.image().broker(broker(id)).is_none_or(|r| r.fenced);
                let _ = self.beat(id, |request| request.want_fence = fenced);
            }
            self.pass(1000);
        }
        assert!(self.image().broker(broker(dead)).unwrap().fenced);
    }

    fn image(&self) -> &MetadataImage {
        self.nodes[0].committed()
    }

    fn topic(&mut self, name: &str, assignments: &[&[i32]]) -> TopicId {
        let topic = NewTopic {
            assignments: (0..).zip(assignments.iter().map(|replicas| brokers(replicas))).collect(),
            ..new_topic(name, None, None)
        };
        self.create(topic).unwrap().id
    }

    fn create(&mut self, topic: NewTopic) -> Result<CreatedTopic, ErrorCode> {
        let request = ControllerRequest::CreateTopics { topics: vec![topic], validate_only: false };
        match self.ask(request).unwrap() {
            ControllerResponse::CreateTopics(mut results) => {
                results.remove(0).1.map_err(|refusal| refusal.error)
            }
            other => panic!("{other:?}"),
        }
    }

    fn partition(&self, topic: TopicId, index: i32) -> PartitionRegistration {
        self.image().partition(TopicIdPartition { topic, partition: index }).expect("the partition").clone()
    }

    /// The leader of partition 0 proposes an ISR on the newest registration.
    fn alter(
        &mut self,
        topic: TopicId,
        isr: &[i32],
        change: impl FnOnce(&mut AlterPartition),
    ) -> Result<AlteredPartition, ErrorCode> {
        let now = self.partition(topic, 0);
        let leader = now.leader.expect("a leader");
        let asked = AlterOnePartition {
            partition: TopicIdPartition { topic, partition: 0 },
            leader_epoch: now.leader_epoch,
            partition_epoch: now.partition_epoch,
            isr: isr.iter().map(|id| (broker(*id), self.epochs.get(&broker(*id)).copied())).collect(),
            recovery: LeaderRecoveryState::Recovered,
        };
        let mut request =
            AlterPartition { broker: leader, broker_epoch: self.epochs[&leader], partitions: vec![asked] };
        change(&mut request);
        match self.ask(ControllerRequest::AlterPartition(request)) {
            Ok(ControllerResponse::AlterPartition(mut results)) => results.remove(0).1,
            Ok(other) => panic!("{other:?}"),
            Err(refusal) => Err(refusal.error),
        }
    }

    fn set(&mut self, resource: ConfigResource, key: &str, value: &str) -> Result<(), ErrorCode> {
        let changes = vec![(key.into(), ConfigOp::Set(value.into()))];
        let resources = vec![AlterConfigs { resource, changes }];
        match self.ask(ControllerRequest::IncrementalAlterConfigs { resources, validate_only: false }).unwrap() {
            ControllerResponse::IncrementalAlterConfigs(mut results) => results.remove(0).1.map_err(|r| r.error),
            other => panic!("{other:?}"),
        }
    }
}

fn new_topic(name: &str, partitions: Option<i32>, replication_factor: Option<i16>) -> NewTopic {
    NewTopic { name: name.into(), partitions, replication_factor, assignments: vec![], configs: vec![] }
}

/// W-R2, W-R5 and W-R18 over one committed batch, computed from the records and not through `merge`.
fn check_transition(
    before: &MetadataImage,
    after: &MetadataImage,
    records: &[MetadataRecord],
    config: &ControllerConfig,
) {
    let (mut changes, mut elections) = (BTreeMap::new(), BTreeMap::new());
    for record in records {
        if let MetadataRecord::PartitionChange(r) = record {
            let id = TopicIdPartition { topic: r.topic, partition: r.partition };
            *changes.entry(id).or_insert(0) += 1;
            *elections.entry(id).or_insert(0) += i32::from(r.leader.is_some());
        }
    }
    for (id, new) in after.partitions() {
        let old = before.partition(id);
        if let Some(old) = old {
            let (by, bumps) = (changes.get(&id).unwrap_or(&0), elections.get(&id).unwrap_or(&0));
            assert_eq!(new.partition_epoch, PartitionEpoch(old.partition_epoch.0 + by), "{id}");
            assert_eq!(new.leader_epoch, LeaderEpoch(old.leader_epoch.0 + bumps), "{id}");
            assert!(new.leader == old.leader || new.leader_epoch > old.leader_epoch, "{id}: a silent election");
            if let Some(leader) = new.leader.filter(|leader| !old.isr.contains(leader)) {
                assert!(partition_change::unclean_enabled(config, after, id.topic), "{id}: {leader} unclean");
                assert_eq!((new.isr.as_slice(), new.recovery), ([leader].as_slice(), LeaderRecoveryState::Recovering));
            }
        }
        for member in &new.isr {
            let joined = old.is_none_or(|old| !old.isr.contains(member));
            assert!(!joined || after.is_active(*member), "{id}: {member} joined the isr, but is not active");
            let stays = after.is_active(*member) || new.isr.len() == 1;
            assert!(stays, "{id}: {member} is no longer active, yet in isr {:?}", new.isr);
        }
    }
    for (id, new) in after.brokers() {
        if let Some(old) = before.broker(*id) {
            assert!(new.epoch >= old.epoch, "broker {id}: epoch back");
            if new.epoch > old.epoch {
                let led = before.partitions().filter(|(_, p)| p.leader == Some(*id)).count();
                assert!(new.fenced && (led == 0 || after.partitions().all(|(_, p)| p.leader != Some(*id))));
            }
        }
    }
}

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
    let again = bench.ask(ControllerRequest::RegisterBroker(request)).unwrap();
    assert_eq!(again, ControllerResponse::RegisterBroker { broker_epoch: bench.epochs[&broker(1)] });
    assert!(!bench.image().broker(broker(1)).unwrap().fenced);
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

#[test]
fn a_broker_that_cannot_be_part_of_the_cluster_is_refused_with_the_reason() {
    let mut bench = Bench::new(1, 0);
    let good = bench.registration(1, 1);
    let mut refusal = |request: RegisterBroker| {
        bench.ask(ControllerRequest::RegisterBroker(request)).unwrap_err().error
    };
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
    assert_eq!((offline.leader, offline.isr.as_slice()), (None, brokers(&[1]).as_slice()), "2 lives, but may lack data");
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
    let mut elect = |bench: &mut Bench| match bench.ask(request.clone()).unwrap() {
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
fn validate_only_writes_nothing() {
    let mut bench = Bench::new(1, 1);
    let before = bench.end();
    let topics = vec![new_topic("orders", Some(2), Some(1))];
    let answer = bench.ask(ControllerRequest::CreateTopics { topics, validate_only: true }).unwrap();
    let ControllerResponse::CreateTopics(results) = answer else { panic!() };
    assert_eq!(results[0].1.as_ref().map(|created| (created.id, created.partitions)), Ok((Uuid::ZERO, 2)));
    assert_eq!(bench.end(), before);
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
    let mut alter = |bench: &mut Bench, key: &str, op: ConfigOp| {
        let resources = vec![AlterConfigs { resource: resource.clone(), changes: vec![(key.into(), op)] }];
        match bench.ask(ControllerRequest::IncrementalAlterConfigs { resources, validate_only: false }).unwrap() {
            ControllerResponse::IncrementalAlterConfigs(results) => results[0].1.clone().map_err(|r| r.error),
            other => panic!("{other:?}"),
        }
    };
    let value = |bench: &Bench| {
        bench.image().topic_config(&"orders".into(), None, "cleanup.policy").map(ToString::to_string)
    };
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
    assert_eq!(bench.replies[&id].as_ref().unwrap_err().error, ErrorCode::NotController);
    bench.elect(0);
    let ControllerResponse::CreateTopics(results) = bench.ask(request).unwrap() else { panic!() };
    assert!(results[0].1.is_ok());
}

#[test]
fn a_refused_append_makes_the_controller_revert_and_resign() {
    let mut bench = Bench::new(1, 1);
    bench.refuse_appends = true;
    let request = ControllerRequest::CreateTopics { topics: vec![new_topic("a", None, None)], validate_only: false };
    assert_eq!(bench.ask(request.clone()).unwrap_err().error, ErrorCode::NotController);
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

// ---- random histories

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
        1 => any::<bool>().prop_map(Event::Elect),
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
            Event::Beat { id, want_fence, want_shutdown, lag } => {
                ControllerRequest::BrokerHeartbeat(BrokerHeartbeat {
                    broker: broker(id),
                    broker_epoch: epoch(self, id),
                    metadata_offset: self.image().last_offset().map(|last| Offset((last.0 - lag).max(0))),
                    want_fence,
                    want_shutdown,
                })
            }
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
            Event::Elect(preferred) => ControllerRequest::ElectLeaders {
                election: if preferred { ElectionType::Preferred } else { ElectionType::Unclean },
                partitions: None,
            },
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
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

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
