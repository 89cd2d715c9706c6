//! The bench: controllers that share one log, and what must hold over each committed batch.

use super::super::*;
use crate::metadata::PartitionRegistration;
use broker_types::{BrokerEpoch, PartitionEpoch, TopicId, TopicIdPartition, Uuid};
use broker_wire::records::metadata::{
    ConfigResource, Endpoint, LeaderRecoveryState, METADATA_VERSION, SupportedFeature,
};
use rand_core::SeedableRng;
use std::collections::BTreeMap;

/// Controllers, and one metadata log that the elected one appends to.
pub(super) struct Bench {
    pub(super) now: MonoTime,
    pub(super) nodes: Vec<Controller>,
    pub(super) leader: Option<usize>,
    pub(super) epoch: LeaderEpoch,
    pub(super) log: Vec<CommittedBatch>,
    /// Batches of `log` that are committed and were delivered to every node.
    pub(super) committed: usize,
    /// Commit at once whatever is appended.
    pub(super) auto_commit: bool,
    pub(super) refuse_appends: bool,
    pub(super) next_id: u64,
    pub(super) replies: BTreeMap<RequestId, Result<ControllerResponse, Refusal>>,
    pub(super) facts: Vec<Observation>,
    pub(super) epochs: BTreeMap<BrokerId, BrokerEpoch>,
    pub(super) incarnations: u128,
    /// An operator asked for unclean elections: from then on they need no configuration.
    pub(super) asked_for_unclean: bool,
}

pub(super) fn broker(id: i32) -> BrokerId {
    NodeId(id)
}

pub(super) fn brokers(ids: &[i32]) -> Vec<BrokerId> {
    ids.iter().map(|id| NodeId(*id)).collect()
}

impl Bench {
    /// Controller 0 of `controllers` leads, and `brokers` brokers, 1 and up, are unfenced.
    pub(super) fn new(controllers: usize, brokers: i32) -> Self {
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
            asked_for_unclean: false,
        };
        bench.elect(0);
        (1..=brokers).for_each(|id| bench.bring_up(id));
        bench
    }

    pub(super) fn end(&self) -> Offset {
        self.log.last().map_or(Offset::ZERO, |batch| batch.last + 1)
    }

    pub(super) fn append(&mut self, records: Vec<MetadataRecord>) -> Offset {
        let base = self.end();
        let last = base + (records.len().max(1) as i64 - 1);
        self.log.push(CommittedBatch { base, last, epoch: self.epoch, records });
        base
    }

    pub(super) fn elect(&mut self, node: usize) {
        self.depose();
        self.epoch = self.epoch.next();
        self.leader = Some(node);
        self.append(Vec::new());
        let (epoch, next_offset) = (self.epoch, self.end());
        self.step(node, Input::BecameLeader { epoch, next_offset });
        self.maybe_commit();
    }

    pub(super) fn depose(&mut self) {
        if let Some(leader) = self.leader.take() {
            self.step(leader, Input::LostLeadership);
        }
    }

    /// The last `batches` appended but uncommitted ones are lost with the minority that had them.
    pub(super) fn lose_tail(&mut self, batches: usize) {
        let keep = self.log.len().saturating_sub(batches).max(self.committed);
        self.log.truncate(keep);
    }

    pub(super) fn step(&mut self, node: usize, input: Input) {
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
                    Output::Observe(Observation::ControllerAnswered { .. }) => {}
                    Output::Observe(fact) => self.facts.push(fact),
                }
            }
            self.nodes[node].check_invariants();
        }
    }

    pub(super) fn maybe_commit(&mut self) {
        if self.auto_commit {
            self.commit();
        }
    }

    pub(super) fn commit(&mut self) {
        while self.committed < self.log.len() {
            let batch = self.log[self.committed].clone();
            self.committed += 1;
            let before = self.nodes[0].committed().clone();
            for node in 0..self.nodes.len() {
                self.step(node, Input::Committed(batch.clone()));
                assert_eq!(self.nodes[node].committed(), self.nodes[0].committed(), "standby and active differ");
            }
            let after = self.nodes[0].committed();
            check_transition(&before, after, &batch.records, |topic| {
                self.asked_for_unclean || partition_change::unclean_enabled(&self.nodes[0].config, after, topic)
            });
        }
    }

    /// Asks without waiting for the commit.
    pub(super) fn send(&mut self, request: ControllerRequest) -> RequestId {
        let id = RequestId(self.next_id);
        self.next_id += 1;
        let node = self.leader.unwrap_or(0);
        self.step(node, Input::Request { id, request });
        self.maybe_commit();
        id
    }

    pub(super) fn ask(&mut self, request: ControllerRequest) -> Result<ControllerResponse, Refusal> {
        let id = self.send(request);
        self.replies.remove(&id).expect("an answer")
    }

    pub(super) fn pass(&mut self, ms: u64) {
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

    pub(super) fn registration(&mut self, id: i32, incarnation: u128) -> RegisterBroker {
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
    pub(super) fn register(&mut self, id: i32) -> Result<BrokerEpoch, ErrorCode> {
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

    pub(super) fn beat(
        &mut self,
        id: i32,
        change: impl FnOnce(&mut BrokerHeartbeat),
    ) -> Result<HeartbeatReply, ErrorCode> {
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

    pub(super) fn bring_up(&mut self, id: i32) {
        self.register(id).unwrap();
        let reply = self.beat(id, |_| ()).unwrap();
        assert_eq!(reply, HeartbeatReply { caught_up: true, fenced: false, should_shut_down: false });
    }

    /// Its session ends while all other brokers heartbeat.
    pub(super) fn let_expire(&mut self, dead: i32) {
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

    pub(super) fn image(&self) -> &MetadataImage {
        self.nodes[0].committed()
    }

    pub(super) fn topic(&mut self, name: &str, assignments: &[&[i32]]) -> TopicId {
        let topic = NewTopic {
            assignments: (0..).zip(assignments.iter().map(|replicas| brokers(replicas))).collect(),
            ..new_topic(name, None, None)
        };
        self.create(topic).unwrap().id
    }

    pub(super) fn create(&mut self, topic: NewTopic) -> Result<CreatedTopic, ErrorCode> {
        let request = ControllerRequest::CreateTopics { topics: vec![topic], validate_only: false };
        match self.ask(request).unwrap() {
            ControllerResponse::CreateTopics(mut results) => results.remove(0).1.map_err(|refusal| refusal.error),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn partition(&self, topic: TopicId, index: i32) -> PartitionRegistration {
        self.image().partition(TopicIdPartition { topic, partition: index }).expect("the partition").clone()
    }

    /// The leader of partition 0 proposes an ISR on the newest registration.
    pub(super) fn alter(
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

    pub(super) fn set(&mut self, resource: ConfigResource, key: &str, value: &str) -> Result<(), ErrorCode> {
        let changes = vec![(key.into(), ConfigOp::Set(value.into()))];
        let resources = vec![AlterConfigs { resource, changes }];
        match self.ask(ControllerRequest::IncrementalAlterConfigs { resources, validate_only: false }).unwrap() {
            ControllerResponse::IncrementalAlterConfigs(mut results) => results.remove(0).1.map_err(|r| r.error),
            other => panic!("{other:?}"),
        }
    }
}

pub(super) fn new_topic(name: &str, partitions: Option<i32>, replication_factor: Option<i16>) -> NewTopic {
    NewTopic { name: name.into(), partitions, replication_factor, assignments: vec![], configs: vec![] }
}

/// W-R2, W-R5 and W-R18 over one committed batch, computed from the records and not through `merge`.
pub(super) fn check_transition(
    before: &MetadataImage,
    after: &MetadataImage,
    records: &[MetadataRecord],
    unclean_allowed: impl Fn(TopicId) -> bool,
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
                assert!(unclean_allowed(id.topic), "{id}: {leader} elected uncleanly");
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
