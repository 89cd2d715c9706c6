//! Three replicas, a naive controller and a few idempotent producers talk over a network that delays and loses, while
//! brokers crash and leaders move. Whatever was acknowledged stays; logs agree below their high watermarks; nothing is
//! doubled or reordered; and when the faults end, all become one.

use super::*;
use crate::log::{EpochEntry, LeaderEpochCache, ProducerState};
use broker_types::{NodeId, ProducerEpoch, ProducerId, ProducerStamp, TopicIdPartition, Uuid};
use std::collections::{BTreeMap, BTreeSet};

const NODES: usize = 3;
const PRODUCERS: usize = 3;
const PARTITION: TopicIdPartition = TopicIdPartition { topic: Uuid(7), partition: 0 };

/// splitmix64: enough chance for a test, and the same everywhere.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stored {
    base: Offset,
    summary: BatchSummary,
    leader_epoch: LeaderEpoch,
}

impl Stored {
    fn end(&self) -> Offset {
        self.summary.last_from(self.base) + 1
    }
}

struct Node {
    id: BrokerId,
    up: bool,
    incarnation: u64,
    broker_epoch: BrokerEpoch,
    replica: Replica,
    /// Page cache and disk; survives a crash.
    disk: Vec<Stored>,
    /// The log's end when there is no batch to tell.
    disk_start: Offset,
    flushed: Offset,
    epochs: Vec<EpochEntry>,
    checkpointed_high_watermark: Offset,
    /// Bytes in the driver's hands.
    held: BTreeMap<BatchId, BatchSummary>,
    next_batch: u64,
    /// How much of the metadata log it has seen.
    seen: usize,
    /// The highest leader high watermark per epoch, to see it never falls.
    led: BTreeMap<LeaderEpoch, Offset>,
}

impl Node {
    fn disk_end(&self) -> Offset {
        self.disk.last().map_or(self.disk_start, Stored::end)
    }

    fn producers_on_disk(&self, now: MonoTime) -> ProducerState {
        let mut state = ProducerState::default();
        for batch in &self.disk {
            state.replay(batch.base, &batch.summary, now);
        }
        state
    }
}

#[derive(Clone, Debug)]
struct Registration {
    leader: Option<BrokerId>,
    leader_epoch: LeaderEpoch,
    partition_epoch: PartitionEpoch,
    isr: Vec<BrokerId>,
    live: BTreeMap<BrokerId, BrokerEpoch>,
}

struct Producer {
    id: ProducerId,
    next_sequence: i32,
    /// Sent and not acknowledged: sequence, record count; oldest first.
    unacked: Vec<(i32, i32)>,
    acked_any: bool,
    attempt: u64,
    /// Messages of one attempt keep their order.
    connection_free_at: u64,
    last_progress: u64,
}

#[derive(Clone, Debug)]
enum Event {
    Input {
        node: usize,
        incarnation: u64,
        input: Input,
    },
    Fetch {
        from: usize,
        incarnation: u64,
        position: FetchPosition,
        broker_epoch: BrokerEpoch,
    },
    Produce {
        to: usize,
        producer: usize,
        sequence: i32,
        count: i32,
        attempt: u64,
    },
    Answer {
        producer: usize,
        sequence: i32,
        attempt: u64,
        result: ProduceResult,
        said_in: LeaderEpoch,
    },
    AlterPartition {
        from: usize,
        incarnation: u64,
        proposal: ProposalId,
        isr: Vec<(BrokerId, Option<BrokerEpoch>)>,
        leader_epoch: LeaderEpoch,
        partition_epoch: PartitionEpoch,
    },
    Metadata {
        node: usize,
    },
    Wake {
        node: usize,
        incarnation: u64,
    },
    Producer {
        producer: usize,
    },
    Consume {
        node: usize,
    },
    Fault,
    Restart {
        node: usize,
    },
}

#[derive(Clone, Copy, Default, Debug)]
struct Seen {
    truncations: u64,
    elections: u64,
    acks: u64,
    duplicates: u64,
    isr_changes: u64,
    diverging: u64,
    reloads: u64,
}

struct World {
    seed: u64,
    chance: Chance,
    now: u64,
    order: u64,
    queue: BTreeMap<(u64, u64), Event>,
    nodes: Vec<Node>,
    registrations: Vec<Registration>,
    producers: Vec<Producer>,
    /// Which request is whose: (node, request) → producer, sequence, attempt.
    requests: BTreeMap<(usize, u64), (usize, i32, u64)>,
    next_request: u64,
    /// Acknowledged: base offset → the batch, and the epoch of the leader that said so.
    acked: BTreeMap<Offset, (BatchSummary, LeaderEpoch)>,
    consumed: BTreeMap<Offset, u32>,
    topic: TopicConfig,
    calm: bool,
    seen: Seen,
}

const MS: u64 = 1_000_000;

impl World {
    fn new(seed: u64) -> Self {
        let mut chance = Chance(seed);
        let topic = TopicConfig {
            min_insync_replicas: 1 + u32::try_from(chance.below(2)).unwrap(),
            flush_before_ack: chance.percent(40),
            ..TopicConfig::default()
        };
        let nodes = (0..NODES)
            .map(|index| Node {
                id: NodeId(i32::try_from(index).unwrap()),
                up: true,
                incarnation: 0,
                broker_epoch: BrokerEpoch(i64::try_from(index).unwrap() + 1),
                replica: Replica::new(config(index), RecoveredLog::empty(), MonoTime::default()),
                disk: Vec::new(),
                disk_start: Offset::ZERO,
                flushed: Offset::ZERO,
                epochs: Vec::new(),
                checkpointed_high_watermark: Offset::ZERO,
                held: BTreeMap::new(),
                next_batch: 0,
                seen: 0,
                led: BTreeMap::new(),
            })
            .collect::<Vec<_>>();
        let first = Registration {
            leader: Some(NodeId(0)),
            leader_epoch: LeaderEpoch(0),
            partition_epoch: PartitionEpoch(0),
            isr: nodes.iter().map(|node| node.id).collect(),
            live: nodes.iter().map(|node| (node.id, node.broker_epoch)).collect(),
        };
        let producers = (0..PRODUCERS)
            .map(|index| Producer {
                id: ProducerId(i64::try_from(index).unwrap() + 100),
                next_sequence: 0,
                unacked: Vec::new(),
                acked_any: false,
                attempt: 0,
                connection_free_at: 0,
                last_progress: 0,
            })
            .collect();
        let mut world = World {
            seed,
            chance,
            now: 0,
            order: 0,
            queue: BTreeMap::new(),
            nodes,
            registrations: vec![first],
            producers,
            requests: BTreeMap::new(),
            next_request: 0,
            acked: BTreeMap::new(),
            consumed: BTreeMap::new(),
            topic,
            calm: false,
            seen: Seen::default(),
        };
        for node in 0..NODES {
            world.after(MS, Event::Metadata { node });
            world.after(5 * MS, Event::Consume { node });
        }
        for producer in 0..PRODUCERS {
            world.after(3 * MS, Event::Producer { producer });
        }
        world.after(40 * MS, Event::Fault);
        world
    }

    fn after(&mut self, delay: u64, event: Event) {
        self.order += 1;
        self.queue.insert((self.now + delay, self.order), event);
    }

    fn latency(&mut self) -> u64 {
        if !self.calm && self.chance.percent(3) {
            (20 + self.chance.below(100)) * MS
        } else {
            MS / 2 + self.chance.below(2 * MS)
        }
    }

    fn lost(&mut self) -> bool {
        !self.calm && self.chance.percent(4)
    }

    fn mono(&self) -> MonoTime {
        MonoTime(self.now)
    }

    fn run_until(&mut self, end: u64) {
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > end {
                break;
            }
            let ((at, _), event) = entry.remove_entry();
            self.now = at;
            self.handle(event);
        }
        self.now = end;
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Input { node, incarnation, input } => {
                if self.nodes[node].up && self.nodes[node].incarnation == incarnation {
                    self.step(node, input);
                }
            }
            Event::Fetch { from, incarnation, position, broker_epoch } => {
                self.serve_fetch(from, incarnation, position, broker_epoch);
            }
            Event::Produce { to, producer, sequence, count, attempt } => {
                self.serve_produce(to, producer, sequence, count, attempt);
            }
            Event::Answer { producer, sequence, attempt, result, said_in } => {
                self.answered(producer, sequence, attempt, result, said_in);
            }
            Event::AlterPartition { from, incarnation, proposal, isr, leader_epoch, partition_epoch } => {
                let result = self.alter_partition(from, &isr, leader_epoch, partition_epoch);
                let result = if self.lost() { Err(ErrorCode::RequestTimedOut) } else { result };
                let delay = self.latency();
                let input = Input::AlterPartition(AlterPartitionResponse { proposal, result });
                self.after(delay, Event::Input { node: from, incarnation, input });
            }
            Event::Metadata { node } => {
                self.read_metadata(node);
                let delay = if !self.calm && self.chance.percent(5) { 80 * MS } else { MS + self.chance.below(4 * MS) };
                self.after(delay, Event::Metadata { node });
            }
            Event::Wake { node, incarnation } => {
                let at = self.mono();
                let current = self.nodes[node].up && self.nodes[node].incarnation == incarnation;
                if current && self.nodes[node].replica.wakeup().is_some_and(|wakeup| wakeup <= at) {
                    self.step(node, Input::Wakeup);
                }
            }
            Event::Producer { producer } => {
                self.produce(producer);
                let delay = MS + self.chance.below(6 * MS);
                self.after(delay, Event::Producer { producer });
            }
            Event::Consume { node } => {
                self.consume(node);
                self.after(7 * MS, Event::Consume { node });
            }
            Event::Fault => {
                if !self.calm {
                    self.fault();
                    let delay = (20 + self.chance.below(60)) * MS;
                    self.after(delay, Event::Fault);
                }
            }
            Event::Restart { node } => self.restart(node),
        }
    }

    // ---- one node's hands

    fn step(&mut self, node: usize, input: Input) {
        let mut out = Vec::new();
        let now = self.mono();
        self.nodes[node].replica.step(now, input, &mut out);
        self.carry_out(node, out);
    }

    fn carry_out(&mut self, node: usize, out: Vec<Output>) {
        let now = self.mono();
        let incarnation = self.nodes[node].incarnation;
        let mut appended = None;
        let mut reload = None;
        for output in out {
            match output {
                Output::Append { batch, at, leader_epoch } => {
                    let node = &mut self.nodes[node];
                    let mut summary = node.held.remove(&batch).expect("bytes of an append");
                    summary.base_offset = at;
                    summary.leader_epoch = Some(leader_epoch);
                    assert_eq!(node.disk_end(), at, "seed {}: append leaves a gap on {}", self.seed, node.id);
                    node.disk.push(Stored { base: at, summary, leader_epoch });
                    appended = Some(batch);
                }
                Output::Discard { batch } => {
                    self.nodes[node].held.remove(&batch).expect("bytes of a discard");
                }
                Output::Truncate { to } => {
                    self.seen.truncations += 1;
                    self.check_truncation(node, to);
                    let node = &mut self.nodes[node];
                    node.disk.retain(|batch| batch.base < to);
                    assert_eq!(node.disk_end(), to, "seed {}: truncation inside a batch", self.seed);
                    node.flushed = node.flushed.min(to);
                }
                Output::TruncateFullyAndStartAt { offset } => {
                    let node = &mut self.nodes[node];
                    node.disk.clear();
                    node.disk_start = offset;
                    node.flushed = offset;
                }
                Output::ReloadProducers { up_to } => {
                    self.seen.reloads += 1;
                    reload = Some(up_to);
                }
                Output::CheckpointEpochs => {
                    self.nodes[node].epochs = self.nodes[node].replica.log().epochs().entries().to_vec();
                }
                Output::Flush { to } => {
                    let delay = self.chance.below(12 * MS);
                    self.after(delay, Event::Input { node, incarnation, input: Input::Flushed { to } });
                }
                Output::Reply { request, result } => {
                    let (producer, sequence, attempt) =
                        self.requests.remove(&(node, request.0)).expect("one reply for each request");
                    if !self.lost() {
                        let delay = self.latency();
                        let said_in = self.nodes[node].replica.leader_epoch().unwrap_or_default();
                        self.after(delay, Event::Answer { producer, sequence, attempt, result, said_in });
                    }
                }
                Output::ProposeIsr { proposal, isr, leader_epoch, partition_epoch } => {
                    let delay = self.latency();
                    if self.lost() {
                        let input = Input::AlterPartition(AlterPartitionResponse {
                            proposal,
                            result: Err(ErrorCode::NetworkException),
                        });
                        self.after(delay, Event::Input { node, incarnation, input });
                    } else {
                        let isr = isr.into_vec();
                        let from = node;
                        self.after(
                            delay,
                            Event::AlterPartition { from, incarnation, proposal, isr, leader_epoch, partition_epoch },
                        );
                    }
                }
                Output::FetchFrom { position, delay } => {
                    let wait = u64::try_from(delay.as_nanos()).unwrap() + self.latency();
                    let broker_epoch = self.nodes[node].broker_epoch;
                    self.after(wait, Event::Fetch { from: node, incarnation, position, broker_epoch });
                    // The driver's own timeout: it answers a lost fetch, and may come before a slow answer.
                    let failed =
                        FetchResponse { asked: position, result: FetchResult::Error(ErrorCode::NetworkException) };
                    let input = Input::FetchResponse(failed);
                    self.after(wait + 60 * MS, Event::Input { node, incarnation, input });
                }
                Output::AskLeaderOffsets { position } => {
                    let input = Input::LeaderOffsets { asked: position, result: Err(ErrorCode::NetworkException) };
                    self.after(5 * MS, Event::Input { node, incarnation, input });
                }
                Output::Observe(fact) => self.observe(node, &fact),
                Output::LogStartMoved { .. } | Output::StopFetching | Output::Moved { .. } => {}
            }
        }
        if let Some(up_to) = reload {
            assert_eq!(up_to, self.nodes[node].disk_end());
            let producers = Box::new(self.nodes[node].producers_on_disk(now));
            self.step(node, Input::ProducersReloaded { up_to, producers });
        }
        if let Some(through) = appended {
            let input = Input::Appended { through };
            if self.chance.percent(10) {
                let delay = self.chance.below(4 * MS);
                self.after(delay, Event::Input { node, incarnation, input });
            } else {
                self.step(node, input);
            }
        }
        let state = &self.nodes[node];
        state.replica.check_invariants();
        assert_eq!(state.replica.log().offsets().next, state.disk_end(), "seed {}: log and disk differ", self.seed);
        if let Some(at) = state.replica.wakeup() {
            let delay = at.0.saturating_sub(self.now).max(MS);
            if delay < 1_000 * MS {
                self.after(delay, Event::Wake { node, incarnation });
            }
        }
    }

    fn observe(&mut self, node: usize, fact: &Observation) {
        let seed = self.seed;
        match fact {
            Observation::HighWatermark { leader_epoch, high_watermark, log_end, role, .. } => {
                assert!(high_watermark <= log_end, "seed {seed}");
                if *role == ReplicaRole::Leader {
                    let before = self.nodes[node].led.insert(*leader_epoch, *high_watermark);
                    assert!(before.is_none_or(|before| before < *high_watermark), "seed {seed}: high watermark fell");
                }
            }
            Observation::BecameLeader { leader_epoch, .. } => {
                self.seen.elections += 1;
                // A broker that is late may learn of an epoch that is over; it owes what was acknowledged before it.
                for (offset, (summary, _)) in self.acked.iter().filter(|(_, (_, said_in))| said_in < leader_epoch) {
                    let found = self.nodes[node].disk.binary_search_by_key(offset, |batch| batch.base);
                    let found = found.ok().map(|index| self.nodes[node].disk[index].summary.crc);
                    assert_eq!(
                        found,
                        Some(summary.crc),
                        "seed {seed}: {fact:?} on {} without the acknowledged batch at {offset}",
                        self.nodes[node].id
                    );
                }
            }
            Observation::IsrCommitted { .. } => self.seen.isr_changes += 1,
            Observation::Mark { name: "duplicate-recognised" } => self.seen.duplicates += 1,
            Observation::Mark { name: "fetched-batch-refused" } => {
                panic!("seed {seed}: an honest leader's batch was refused on {}", self.nodes[node].id)
            }
            Observation::Acknowledged { last, high_watermark, isr_size, .. } => {
                assert!(last < high_watermark, "seed {seed}: {fact:?}");
                assert!(*isr_size >= self.topic.min_insync_replicas, "seed {seed}: {fact:?}");
            }
            _ => {}
        }
    }

    /// A member of the committed ISR never cuts what was acknowledged.
    fn check_truncation(&self, node: usize, to: Offset) {
        let isr = &self.registrations.last().unwrap().isr;
        if isr.contains(&self.nodes[node].id) {
            let lost = self.acked.range(to..).next();
            assert!(lost.is_none(), "seed {}: {} cuts to {to}, acknowledged {lost:?}", self.seed, self.nodes[node].id);
        }
    }

    // ---- requests

    fn serve_fetch(&mut self, from: usize, incarnation: u64, position: FetchPosition, broker_epoch: BrokerEpoch) {
        let to = usize::try_from(position.leader.0).unwrap();
        if !self.nodes[to].up || self.lost() {
            return;
        }
        let fetch = FollowerFetch {
            replica: self.nodes[from].id,
            broker_epoch: Some(broker_epoch),
            offset: position.offset,
            last_fetched_epoch: position.last_fetched_epoch,
            current_leader_epoch: Some(position.leader_epoch),
            log_start: Some(position.log_start),
        };
        let mut out = Vec::new();
        let now = self.mono();
        let read = self.nodes[to].replica.follower_fetch(now, &fetch, &mut out);
        self.carry_out(to, out);
        let result = match read {
            Ok(Read::Records { from: start, up_to, ends, log_start }) => {
                let batches = self.nodes[to].disk.iter().filter(|batch| batch.base >= start && batch.end() <= up_to);
                let batches: Vec<BatchSummary> = batches.take(4).map(|batch| batch.summary).collect();
                let receiver = &mut self.nodes[from];
                let mut fetched = Vec::new();
                for summary in batches {
                    let batch = BatchId(receiver.next_batch);
                    receiver.next_batch += 1;
                    fetched.push((batch, summary));
                }
                FetchResult::Records { batches: fetched, high_watermark: ends.high_watermark, log_start }
            }
            Ok(Read::Diverging { epoch, end_offset, .. }) => {
                self.seen.diverging += 1;
                FetchResult::Diverging { epoch, end_offset }
            }
            Err(error) => FetchResult::Error(error),
        };
        if self.lost() || self.nodes[from].incarnation != incarnation || !self.nodes[from].up {
            return;
        }
        if let FetchResult::Records { batches, .. } = &result {
            self.nodes[from].held.extend(batches.iter().copied());
        }
        let idle = matches!(&result, FetchResult::Records { batches, .. } if batches.is_empty());
        let delay = self.latency() + if idle { 3 * MS } else { 0 };
        let input = Input::FetchResponse(FetchResponse { asked: position, result });
        self.after(delay, Event::Input { node: from, incarnation, input });
    }

    fn serve_produce(&mut self, to: usize, producer: usize, sequence: i32, count: i32, attempt: u64) {
        if !self.nodes[to].up {
            return;
        }
        let id = self.producers[producer].id;
        let node = &mut self.nodes[to];
        let batch = BatchId(node.next_batch);
        node.next_batch += 1;
        let summary = batch_of(id, sequence, count);
        node.held.insert(batch, summary);
        self.next_request += 1;
        let request = RequestId(self.next_request);
        self.requests.insert((to, request.0), (producer, sequence, attempt));
        let deadline = MonoTime(self.now + 50 * MS);
        let produce = Produce { request, batch, summary, acks: Acks::All, origin: AppendOrigin::Client, deadline };
        self.step(to, Input::Produce(produce));
    }

    fn produce(&mut self, index: usize) {
        let stuck = self.now - self.producers[index].last_progress > 120 * MS;
        let to = match self.registrations.last().unwrap().leader {
            Some(leader) if self.calm || !self.chance.percent(5) => leader,
            _ => NodeId(i32::try_from(self.chance.below(NODES as u64)).unwrap()),
        };
        let to = usize::try_from(to.0).unwrap();
        if stuck && !self.producers[index].unacked.is_empty() {
            self.resend(index, to);
            return;
        }
        let count = 1 + i32::try_from(self.chance.below(3)).unwrap();
        let producer = &mut self.producers[index];
        // The first batch goes alone: with no state at the leader, a second one could pass it (KAFKA-14359).
        let window = if producer.acked_any { 5 } else { 1 };
        if producer.unacked.len() >= window || self.calm {
            return;
        }
        let sequence = producer.next_sequence;
        if producer.unacked.is_empty() {
            producer.last_progress = self.now;
        }
        producer.next_sequence += count;
        producer.unacked.push((sequence, count));
        self.send(index, to, sequence, count);
    }

    fn send(&mut self, index: usize, to: usize, sequence: i32, count: i32) {
        let lost = self.lost();
        let latency = self.latency();
        let producer = &mut self.producers[index];
        let at = (self.now + latency).max(producer.connection_free_at + 1);
        producer.connection_free_at = at;
        let attempt = producer.attempt;
        if !lost {
            self.after(at - self.now, Event::Produce { to, producer: index, sequence, count, attempt });
        }
    }

    fn resend(&mut self, index: usize, to: usize) {
        let producer = &mut self.producers[index];
        producer.attempt += 1;
        producer.last_progress = self.now;
        producer.connection_free_at = self.now;
        for (sequence, count) in producer.unacked.clone() {
            self.send(index, to, sequence, count);
        }
    }

    fn answered(&mut self, index: usize, sequence: i32, attempt: u64, result: ProduceResult, said_in: LeaderEpoch) {
        let producer = &mut self.producers[index];
        if !result.error.is_none() {
            if attempt == producer.attempt {
                producer.last_progress = self.now.saturating_sub(115 * MS);
            }
            return;
        }
        // Answers come in the order of requests; behind a lost one the connection is dead, and a retry will ask again.
        if producer.unacked.first().is_none_or(|(oldest, _)| *oldest != sequence) {
            return;
        }
        producer.last_progress = self.now;
        producer.acked_any = true;
        let (_, count) = producer.unacked.remove(0);
        let summary = batch_of(producer.id, sequence, count);
        let base = result.base_offset.expect("a base offset with success");
        let before = self.acked.insert(base, (summary, said_in));
        assert!(before.is_none(), "seed {}: two batches acknowledged at {base}", self.seed);
        self.seen.acks += 1;
    }

    fn consume(&mut self, node: usize) {
        if !self.nodes[node].up {
            return;
        }
        let offset = Offset(i64::try_from(self.chance.below(1 + self.nodes[node].disk.len() as u64)).unwrap());
        let fetch = ConsumerFetch {
            offset,
            read_committed: self.chance.percent(50),
            current_leader_epoch: None,
            last_fetched_epoch: None,
            from_follower: self.chance.percent(30),
        };
        let Ok(Read::Records { from, up_to, .. }) = self.nodes[node].replica.consumer_fetch(&fetch) else { return };
        for batch in self.nodes[node].disk.iter().filter(|batch| batch.base >= from && batch.end() <= up_to) {
            let before = *self.consumed.entry(batch.base).or_insert(batch.summary.crc);
            assert_eq!(before, batch.summary.crc, "seed {}: what was read at {} changed", self.seed, batch.base);
        }
    }

    // ---- controller

    fn read_metadata(&mut self, node: usize) {
        let latest = self.registrations.len();
        let state = &mut self.nodes[node];
        if !state.up || state.seen >= latest {
            return;
        }
        // A broker may apply several changes as one.
        state.seen = if self.chance.percent(30) { latest } else { state.seen + 1 };
        let registration = &self.registrations[state.seen - 1];
        let metadata = PartitionMetadata {
            leader: registration.leader,
            leader_epoch: registration.leader_epoch,
            partition_epoch: registration.partition_epoch,
            isr: registration.isr.clone().into(),
            replicas: (0..NODES).map(|index| NodeId(i32::try_from(index).unwrap())).collect(),
            eligible: registration.live.iter().map(|(id, epoch)| (*id, *epoch)).collect(),
            local_broker_epoch: state.broker_epoch,
            topic: self.topic,
        };
        self.step(node, Input::Metadata(Box::new(metadata)));
    }

    fn change(&mut self, change: impl FnOnce(&mut Registration)) {
        let mut next = self.registrations.last().unwrap().clone();
        let (leader, isr) = (next.leader, next.isr.clone());
        change(&mut next);
        if next.leader.is_none_or(|leader| !next.live.contains_key(&leader) || !next.isr.contains(&leader)) {
            next.leader = next.isr.iter().copied().find(|id| next.live.contains_key(id));
        }
        if next.leader != leader {
            next.leader_epoch = next.leader_epoch.next();
        }
        if next.leader != leader || next.isr != isr {
            next.partition_epoch = next.partition_epoch.next();
        }
        self.registrations.push(next);
    }

    fn alter_partition(
        &mut self,
        from: usize,
        isr: &[(BrokerId, Option<BrokerEpoch>)],
        leader_epoch: LeaderEpoch,
        partition_epoch: PartitionEpoch,
    ) -> Result<CommittedIsr, ErrorCode> {
        let current = self.registrations.last().unwrap();
        if leader_epoch < current.leader_epoch || current.leader != Some(self.nodes[from].id) {
            return Err(ErrorCode::FencedLeaderEpoch);
        }
        if partition_epoch != current.partition_epoch {
            return Err(ErrorCode::InvalidUpdateVersion);
        }
        for (id, epoch) in isr {
            if !current.live.get(id).is_some_and(|live| epoch.is_none_or(|epoch| epoch == *live)) {
                return Err(ErrorCode::IneligibleReplica);
            }
        }
        let isr: Vec<BrokerId> = isr.iter().map(|(id, _)| *id).collect();
        self.change(|next| next.isr = isr);
        let current = self.registrations.last().unwrap();
        Ok(CommittedIsr {
            leader: current.leader,
            leader_epoch: current.leader_epoch,
            partition_epoch: current.partition_epoch,
            isr: current.isr.clone().into(),
        })
    }

    // ---- faults

    fn fault(&mut self) {
        let node = usize::try_from(self.chance.below(NODES as u64)).unwrap();
        let id = self.nodes[node].id;
        match self.chance.below(10) {
            0..4 if self.nodes[node].up => self.crash(node),
            4..8 => {
                let current = self.registrations.last().unwrap();
                if current.isr.contains(&id) && current.live.contains_key(&id) {
                    self.change(|next| next.leader = Some(id));
                }
            }
            // A session that ends although the broker lives: it is fenced, and comes back.
            8 if self.nodes[node].up => {
                let epoch = self.nodes[node].broker_epoch;
                self.fence(id);
                self.change(|next| {
                    next.live.insert(id, epoch);
                });
            }
            _ => {}
        }
    }

    fn fence(&mut self, id: BrokerId) {
        self.change(|next| {
            next.live.remove(&id);
            if next.isr.len() > 1 {
                next.isr.retain(|member| *member != id);
            }
        });
    }

    fn crash(&mut self, node: usize) {
        let id = self.nodes[node].id;
        let state = &mut self.nodes[node];
        state.up = false;
        state.held.clear();
        let high_watermark = state.replica.log().offsets().high_watermark;
        state.flushed = state.replica.log().offsets().flushed_end;
        state.checkpointed_high_watermark =
            Offset(i64::try_from(self.chance.below(1 + u64::try_from(high_watermark.0).unwrap())).unwrap());
        if self.topic.flush_before_ack && self.chance.percent(60) {
            // Power loss: with a flush before each ack even the page cache may go.
            let flushed = state.flushed;
            state.disk.retain(|batch| batch.end() <= flushed);
        }
        self.requests.retain(|(other, _), _| *other != node);
        if self.chance.percent(70) {
            self.fence(id);
        }
        let delay = (5 + self.chance.below(60)) * MS;
        self.after(delay, Event::Restart { node });
    }

    fn restart(&mut self, node: usize) {
        let id = self.nodes[node].id;
        // A new incarnation: the old one is fenced first, then this one is registered.
        if self.registrations.last().unwrap().live.contains_key(&id) {
            self.fence(id);
        }
        let now = self.mono();
        let broker_epoch = BrokerEpoch(i64::try_from(self.registrations.len()).unwrap() + 10);
        self.change(|next| {
            next.live.insert(id, broker_epoch);
        });
        let latest = self.registrations.len();
        let state = &mut self.nodes[node];
        let found = RecoveredLog {
            log_start: state.disk_start,
            log_end: state.disk_end(),
            high_watermark: state.checkpointed_high_watermark,
            flushed_end: state.flushed.min(state.disk_end()),
            epochs: LeaderEpochCache::from_entries(state.epochs.iter().map(|entry| (entry.epoch, entry.start))),
            producers: state.producers_on_disk(now),
        };
        state.up = true;
        state.incarnation += 1;
        state.broker_epoch = broker_epoch;
        state.seen = latest - 1;
        state.replica = Replica::new(config(node), found, now);
        state.replica.check_invariants();
    }

    // ---- verdicts

    fn check_logs_agree(&self) {
        for a in &self.nodes {
            for b in &self.nodes {
                if a.id >= b.id || !a.up || !b.up {
                    continue;
                }
                let end = a.replica.log().offsets().high_watermark.min(b.replica.log().offsets().high_watermark);
                let below = |node: &Node| -> Vec<Stored> {
                    node.disk.iter().copied().filter(|batch| batch.end() <= end).collect()
                };
                assert_eq!(below(a), below(b), "seed {}: {} and {} differ below {end}", self.seed, a.id, b.id);
            }
        }
    }

    fn check_converged(&self) {
        let seed = self.seed;
        let registration = self.registrations.last().unwrap();
        let leader = registration.leader.unwrap_or_else(|| panic!("seed {seed}: nobody leads"));
        assert_eq!(registration.isr.len(), NODES, "seed {seed}: the ISR is not full: {registration:?}");
        for node in &self.nodes {
            let offsets = node.replica.log().offsets();
            assert_eq!(offsets.high_watermark, offsets.log_end, "seed {seed}: {} has uncommitted records", node.id);
            assert_eq!(node.replica.role() == Some(ReplicaRole::Leader), node.id == leader, "seed {seed}");
            assert_eq!(node.disk, self.nodes[0].disk, "seed {seed}: {} differs", node.id);
            assert!(node.held.is_empty(), "seed {seed}: {} still holds {:?}", node.id, node.held);
        }
        for producer in &self.producers {
            assert!(producer.unacked.is_empty(), "seed {seed}: never acknowledged: {:?}", producer.unacked);
        }
        let mut next = BTreeMap::new();
        let mut crcs = BTreeSet::new();
        for batch in &self.nodes[0].disk {
            let stamp = batch.summary.producer.unwrap();
            let expected = next.entry(stamp.id).or_insert(0);
            assert_eq!(stamp.base_sequence, Some(*expected), "seed {seed}: doubled, lost or reordered: {batch:?}");
            *expected += batch.summary.last_offset_delta + 1;
            assert!(crcs.insert(batch.summary.crc), "seed {seed}: twice: {batch:?}");
        }
    }
}

fn config(index: usize) -> ReplicaConfig {
    let mut config = ReplicaConfig::new(NodeId(i32::try_from(index).unwrap()), PARTITION);
    config.replica_lag_time_max = Duration::from_millis(60);
    config.fetch_backoff = Duration::from_millis(10);
    config.alter_partition_backoff = Duration::from_millis(5);
    config
}

fn batch_of(producer: ProducerId, sequence: i32, count: i32) -> BatchSummary {
    BatchSummary {
        base_offset: Offset::ZERO,
        last_offset_delta: count - 1,
        leader_epoch: None,
        record_count: u32::try_from(count).unwrap(),
        size: 100,
        crc: u32::try_from(producer.0).unwrap() * 1_000_000 + u32::try_from(sequence).unwrap(),
        base_timestamp: 0,
        max_timestamp: 0,
        producer: Some(ProducerStamp { id: producer, epoch: ProducerEpoch(0), base_sequence: Some(sequence) }),
        is_transactional: false,
        is_control: false,
    }
}

fn run(seed: u64) -> Seen {
    let mut world = World::new(seed);
    for _ in 0..10 {
        let until = world.now + 80 * MS;
        world.run_until(until);
        world.check_logs_agree();
    }
    world.calm = true;
    let until = world.now + 1_500 * MS;
    world.run_until(until);
    world.check_logs_agree();
    world.check_converged();
    world.seen
}

#[test]
#[expect(clippy::disallowed_methods, reason = "whoever runs the test may ask for more seeds")]
fn acknowledged_records_survive_crashes_and_leader_moves() {
    let seeds = std::env::var("PARTITION_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2_000);
    let mut total = Seen::default();
    for seed in 0..seeds {
        let seen = run(seed);
        total.truncations += seen.truncations;
        total.elections += seen.elections;
        total.acks += seen.acks;
        total.duplicates += seen.duplicates;
        total.isr_changes += seen.isr_changes;
        total.diverging += seen.diverging;
        total.reloads += seen.reloads;
    }
    println!("{seeds} seeds: {total:?}");
    // A simulation that never met its faults proves nothing.
    assert!(total.truncations > seeds / 10 && total.elections > seeds && total.acks > seeds, "{total:?}");
    assert!(total.duplicates > seeds / 10 && total.isr_changes > seeds && total.diverging > seeds / 10, "{total:?}");
    assert!(total.reloads > seeds / 100, "{total:?}");
}
