//! The machine against a naive model of brokers.

use super::machine::{Leader, Machine, Output, Part, PartAnswer, View};
use super::{Acks, AfterEpochBump, ProduceError, ProducerConfig, Record, RecordMetadata};
use crate::backoff::Backoff;
use crate::connection::CallError;
use crate::error::Outcome;
use broker_types::{
    ErrorCode, MonoTime, NodeId, Offset, ProducerEpoch, ProducerId, ProducerStamp, TopicName, TopicPartition,
    increment_sequence,
};
use broker_wire::record_batch::RecordBatch;
use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

const PARTITIONS: i32 = 2;

/// One partition's log with Kafka's rules for idempotent producers, the same whoever leads.
#[derive(Default)]
struct Log {
    values: Vec<u32>,
    epoch: Option<ProducerEpoch>,
    /// The newest batches of the epoch: first and last sequence, base offset.
    recent: VecDeque<(i32, i32, Offset)>,
    remembers: usize,
}

impl Log {
    fn append(&mut self, stamp: Option<ProducerStamp>, values: &[u32]) -> Result<Offset, ErrorCode> {
        let base = Offset(self.values.len() as i64);
        if let Some(stamp) = stamp {
            let first = stamp.base_sequence.unwrap();
            let last = increment_sequence(first, values.len() as i32 - 1);
            match self.epoch {
                Some(epoch) if stamp.epoch < epoch => return Err(ErrorCode::InvalidProducerEpoch),
                Some(epoch) if stamp.epoch == epoch => {
                    if let Some(known) = self.recent.iter().find(|known| (known.0, known.1) == (first, last)) {
                        return Ok(known.2);
                    }
                    let expected = self.recent.back().map_or(0, |newest| increment_sequence(newest.1, 1));
                    if first != expected {
                        return Err(ErrorCode::OutOfOrderSequenceNumber);
                    }
                }
                _ if first != 0 => return Err(ErrorCode::OutOfOrderSequenceNumber),
                _ => {
                    self.epoch = Some(stamp.epoch);
                    self.recent.clear();
                }
            }
            self.recent.push_back((first, last, base));
            while self.recent.len() > self.remembers {
                self.recent.pop_front();
            }
        }
        self.values.extend(values);
        Ok(base)
    }
}

/// What a request of one partition holds.
fn read(part: &Part) -> (Option<ProducerStamp>, Vec<u32>) {
    let batch = RecordBatch::parse(part.records.clone()).unwrap();
    batch.validate_produced().unwrap();
    let values = batch
        .records(usize::MAX)
        .unwrap()
        .map(|record| u32::from_be_bytes(record.unwrap().value.unwrap()[..4].try_into().unwrap()));
    (batch.summary().producer, values.collect())
}

struct Cluster {
    leader: NodeId,
    /// Whether connections can be used.
    up: bool,
}

impl View for Cluster {
    fn partition_count(&self, _topic: &TopicName) -> Option<i32> {
        Some(PARTITIONS)
    }
    fn leader(&self, _partition: &TopicPartition) -> Option<Leader> {
        Some(Leader { node: self.leader, epoch: None, topic_id: None })
    }
    fn is_ready(&mut self, _node: NodeId) -> bool {
        self.up
    }
}

/// A producer, its brokers, and everything between them.
struct World {
    now: MonoTime,
    machine: Machine<u32>,
    cluster: Cluster,
    logs: BTreeMap<i32, Log>,
    /// Requests on their way, in order.
    wire: VecDeque<(u64, NodeId, Vec<Part>)>,
    /// Copies of requests whose connection ended before they were answered: the broker may still get to them.
    ghosts: Vec<Vec<Part>>,
    fates: BTreeMap<u32, Result<RecordMetadata, ProduceError>>,
    /// What was sent to which partition, in order.
    sent: BTreeMap<i32, Vec<u32>>,
    next_value: u32,
    most_in_flight: usize,
}

impl World {
    fn new(config: ProducerConfig) -> Self {
        let rng = ChaCha8Rng::seed_from_u64(1);
        let backoff = Backoff::new(config.retry_backoff, config.retry_backoff_max, rng.clone());
        let logs = (0..PARTITIONS).map(|p| (p, Log { remembers: 5, ..Log::default() })).collect();
        World {
            now: MonoTime::from_millis(1000),
            machine: Machine::new(config, backoff, rng),
            cluster: Cluster { leader: NodeId(1), up: true },
            logs,
            wire: VecDeque::new(),
            ghosts: Vec::new(),
            fates: BTreeMap::new(),
            sent: BTreeMap::new(),
            next_value: 0,
            most_in_flight: 0,
        }
    }

    fn send(&mut self, partition: i32) -> u32 {
        let value = self.next_value;
        self.next_value += 1;
        let record = Record {
            topic: "orders".into(),
            partition: Some(partition),
            timestamp: 7,
            key: None,
            value: Some(value.to_be_bytes().to_vec().into()),
            headers: vec![],
        };
        self.machine.append(self.now, record, None, value).expect("there is room");
        self.sent.entry(partition).or_default().push(value);
        value
    }

    fn poll(&mut self) {
        loop {
            let before = self.machine.session();
            let mut out = Vec::new();
            self.machine.poll(self.now, &mut self.cluster, &mut out);
            self.take(out);
            self.machine.check_invariants();
            // A producer id that was just given makes more possible.
            if before.is_some() || self.machine.session().is_none() {
                return;
            }
        }
    }

    fn take(&mut self, out: Vec<Output<u32>>) {
        for output in out {
            match output {
                Output::Send { request, node, parts } => {
                    self.wire.push_back((request, node, parts));
                    self.most_in_flight = self.most_in_flight.max(self.wire.len());
                }
                Output::Settle(value, fate) => {
                    let before = self.fates.insert(value, fate);
                    assert!(before.is_none(), "{value} was settled twice");
                }
                Output::AskProducerId => self.machine.got_producer_id(self.now, Ok((ProducerId(9), ProducerEpoch(0)))),
                Output::RefreshMetadata => {}
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.poll();
    }

    /// The brokers take the oldest request off the wire and answer it. `trouble` is said instead of appending, or, for
    /// an error that may also come after, instead of success.
    fn serve(&mut self, trouble: Option<(ErrorCode, bool)>) {
        let Some((request, node, parts)) = self.wire.pop_front() else { return };
        let answers = parts.iter().map(|part| {
            let (stamp, values) = read(part);
            let mut told = if node != self.cluster.leader {
                Err(ErrorCode::NotLeaderOrFollower)
            } else {
                match trouble {
                    Some((code, false)) => Err(code),
                    Some((code, true)) => self.log(part).append(stamp, &values).and(Err(code)),
                    None => self.log(part).append(stamp, &values),
                }
            };
            if told == Err(ErrorCode::None) {
                told = Ok(Offset(0));
            }
            PartAnswer {
                partition: part.partition.clone(),
                error: told.err().unwrap_or(ErrorCode::None),
                base_offset: told.ok(),
                log_append_time: None,
                knows_better_leader: false,
            }
        });
        let answers = answers.collect();
        let mut out = Vec::new();
        self.machine.answered(self.now, request, Ok(answers), &mut out);
        self.take(out);
        self.poll();
    }

    fn log(&mut self, part: &Part) -> &mut Log {
        self.logs.get_mut(&part.partition.partition).unwrap()
    }

    /// The connection ends: the brokers got the first `reached` requests on it, and may get to the others later.
    fn disconnect(&mut self, reached: usize) {
        for (index, (request, node, parts)) in std::mem::take(&mut self.wire).into_iter().enumerate() {
            if index < reached && node == self.cluster.leader {
                for part in &parts {
                    let (stamp, values) = read(part);
                    let _ = self.log(part).append(stamp, &values);
                }
            } else {
                self.ghosts.push(parts);
            }
            let mut out = Vec::new();
            self.machine.answered(self.now, request, Err(CallError::Lost), &mut out);
            self.take(out);
        }
        self.poll();
    }

    /// The oldest ghost reaches the brokers.
    fn haunt(&mut self) {
        if !self.ghosts.is_empty() {
            for part in self.ghosts.remove(0) {
                let (stamp, values) = read(&part);
                let _ = self.log(&part).append(stamp, &values);
            }
        }
    }

    /// Nothing goes wrong any more, until everything is settled.
    fn settle(&mut self) {
        self.cluster.up = true;
        for _ in 0..10_000 {
            if self.machine.is_empty() {
                return;
            }
            while !self.wire.is_empty() {
                self.serve(None);
            }
            self.pass(Duration::from_millis(50));
        }
        panic!("it never settles");
    }

    /// Every promise at once.
    fn judge(&self) {
        assert_eq!(self.machine.buffered(), 0);
        for (partition, sent) in &self.sent {
            let log = &self.logs[partition].values;
            let mut rest = sent.iter();
            for value in log {
                assert!(rest.any(|next| next == value), "{log:?} repeats or reorders {value} of {sent:?}");
            }
            for value in sent {
                let stored = log.iter().position(|stored| stored == value);
                match &self.fates[value] {
                    Ok(metadata) => {
                        let stored = stored.unwrap_or_else(|| panic!("{value} was acknowledged and is not in {log:?}"));
                        if let Some(offset) = metadata.offset {
                            assert_eq!(offset, Offset(stored as i64), "of {value}");
                        }
                    }
                    Err(error) if error.outcome == Outcome::Definite => {
                        assert_eq!(stored, None, "{value} surely failed with {error} and is in {log:?}");
                    }
                    Err(_) => {}
                }
            }
        }
    }
}

/// Batches of three records, no linger.
fn config() -> ProducerConfig {
    ProducerConfig { batch_size: 150, linger: Duration::ZERO, ..ProducerConfig::default() }
}

#[derive(Clone, Debug)]
enum Event {
    Send(i32, usize),
    Serve,
    Refuse(ErrorCode),
    AppendAndSay(ErrorCode),
    Disconnect(usize),
    Haunt,
    MoveLeader,
    Pass(u64),
    Down,
    Up,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    use ErrorCode::*;
    let refusal = prop::sample::select(vec![
        NotEnoughReplicas,
        NotLeaderOrFollower,
        UnknownTopicOrPartition,
        MessageTooLarge,
        InvalidRecord,
        UnknownServerError,
    ]);
    let late = prop::sample::select(vec![
        NotLeaderOrFollower,
        NotEnoughReplicasAfterAppend,
        RequestTimedOut,
        KafkaStorageError,
        UnknownServerError,
    ]);
    let event = prop_oneof![
        6 => (0..PARTITIONS, 1..8usize).prop_map(|(partition, count)| Event::Send(partition, count)),
        6 => Just(Event::Serve),
        1 => refusal.prop_map(Event::Refuse),
        1 => late.prop_map(Event::AppendAndSay),
        1 => (0..6usize).prop_map(Event::Disconnect),
        1 => Just(Event::Haunt),
        1 => Just(Event::MoveLeader),
        3 => (1..400u64).prop_map(Event::Pass),
        1 => (1..130_000u64).prop_map(Event::Pass),
        1 => Just(Event::Down),
        2 => Just(Event::Up),
    ];
    prop::collection::vec(event, 1..120)
}

fn play(config: ProducerConfig, events: &[Event]) -> World {
    let mut world = World::new(config);
    for event in events {
        match event {
            Event::Send(partition, count) => {
                for _ in 0..*count {
                    world.send(*partition);
                }
                world.poll();
            }
            Event::Serve => world.serve(None),
            Event::Refuse(code) => world.serve(Some((*code, false))),
            Event::AppendAndSay(code) => world.serve(Some((*code, true))),
            Event::Disconnect(reached) => world.disconnect(*reached),
            Event::Haunt => world.haunt(),
            Event::MoveLeader => world.cluster.leader = NodeId(3 - world.cluster.leader.0),
            Event::Pass(ms) => world.pass(Duration::from_millis(*ms)),
            Event::Down => world.cluster.up = false,
            Event::Up => world.cluster.up = true,
        }
    }
    world.settle();
    while !world.ghosts.is_empty() {
        world.haunt();
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_idempotent_producer_never_repeats_reorders_or_lies(events in events()) {
        play(config(), &events).judge();
    }

    #[test]
    fn one_request_in_flight_changes_no_promise(events in events()) {
        let world = play(ProducerConfig { max_in_flight: 1, ..config() }, &events);
        prop_assert!(world.most_in_flight <= 2, "one for each leader");
        world.judge();
    }

    #[test]
    fn every_record_is_settled_also_without_idempotence(events in events()) {
        let world = play(ProducerConfig { idempotence: false, ..config() }, &events);
        prop_assert_eq!(world.fates.len(), world.next_value as usize);
        for (partition, sent) in &world.sent {
            for value in sent {
                let stored = world.logs[partition].values.contains(value);
                match &world.fates[value] {
                    Ok(_) => prop_assert!(stored),
                    Err(error) => prop_assert!(error.outcome == Outcome::Indeterminate || !stored),
                }
            }
        }
    }
}

fn send_batches(world: &mut World, batches: usize) -> Vec<u32> {
    let values = (0..batches * 3).map(|_| world.send(0)).collect();
    world.poll();
    values
}

/// The first batch alone, so that the rest may travel together.
fn acknowledged_first_batch() -> World {
    let mut world = World::new(config());
    send_batches(&mut world, 1);
    world.serve(None);
    world
}

#[test]
fn a_batch_waits_for_linger_unless_it_is_full() {
    let mut world = World::new(ProducerConfig { linger: Duration::from_millis(5), ..config() });
    world.send(0);
    world.poll();
    assert!(world.wire.is_empty());
    assert_eq!(world.machine.wakeup(world.now), world.now + Duration::from_millis(5));
    world.pass(Duration::from_millis(5));
    assert_eq!(world.wire.len(), 1);
    send_batches(&mut world, 1);
    world.send(0);
    world.poll();
    assert_eq!(world.wire.len(), 2, "a full batch goes, the newest lingers");
}

#[test]
fn five_batches_travel_together_and_no_sixth() {
    let mut world = acknowledged_first_batch();
    send_batches(&mut world, 7);
    assert_eq!(world.wire.len(), 5);
    let sequences: Vec<_> = world.wire.iter().map(|(_, _, parts)| read(&parts[0]).0.unwrap().base_sequence).collect();
    assert_eq!(sequences, [3, 6, 9, 12, 15].map(Some));
    world.settle();
    world.judge();
}

#[test]
fn answers_that_are_lost_are_asked_for_again_under_the_same_numbers() {
    let mut world = acknowledged_first_batch();
    let values = send_batches(&mut world, 5);
    world.disconnect(5);
    world.settle();
    assert!(values.iter().all(|value| world.fates[value].as_ref().is_ok_and(|told| told.failures == 1)));
    assert_eq!(world.machine.session(), Some((ProducerId(9), ProducerEpoch(0))), "no epoch was raised");
    world.judge();
}

#[test]
fn a_retry_goes_alone_and_ahead_of_what_came_later() {
    let mut world = acknowledged_first_batch();
    send_batches(&mut world, 3);
    world.serve(Some((ErrorCode::NotEnoughReplicas, false)));
    world.serve(None);
    world.serve(None);
    assert!(world.wire.is_empty(), "what followed was refused for its sake, and nothing goes before its backoff");
    world.pass(Duration::from_millis(150));
    assert_eq!(world.wire.len(), 1);
    send_batches(&mut world, 2);
    assert_eq!(world.wire.len(), 1, "nothing goes behind a retry");
    world.settle();
    world.judge();
    assert!(world.fates.values().all(Result::is_ok));
}

#[test]
fn a_batch_refused_for_good_raises_the_epoch_and_the_next_ones_go_on_in_order() {
    let mut world = acknowledged_first_batch();
    let values = send_batches(&mut world, 4);
    world.serve(Some((ErrorCode::MessageTooLarge, false)));
    world.settle();
    for (index, value) in values.iter().enumerate() {
        match &world.fates[value] {
            Err(error) => assert!(index < 3 && error.outcome == Outcome::Definite),
            Ok(told) => assert_eq!(told.producer.unwrap().epoch, ProducerEpoch(1), "{value}"),
        }
    }
    world.judge();
}

#[test]
fn an_earlier_batch_in_doubt_is_settled_before_the_epoch_is_raised() {
    // KAFKA-14034: the first is stored and its answer lost in purgatory, the second is refused for good.
    let mut world = acknowledged_first_batch();
    let values = send_batches(&mut world, 3);
    world.serve(Some((ErrorCode::NotLeaderOrFollower, true)));
    world.serve(Some((ErrorCode::InvalidRecord, false)));
    world.serve(None);
    world.settle();
    let first = world.fates[&values[0]].clone().unwrap();
    assert_eq!((first.producer.unwrap().epoch, first.offset), (ProducerEpoch(0), Some(Offset(3))));
    let third = world.fates[&values[6]].clone().unwrap();
    assert_eq!((third.producer.unwrap().epoch, third.producer.unwrap().base_sequence), (ProducerEpoch(1), Some(0)));
    world.judge();
}

#[test]
fn an_idle_partition_begins_its_sequence_anew_under_a_raised_epoch() {
    // KAFKA-12152.
    let mut world = acknowledged_first_batch();
    let early = world.send(1);
    world.poll();
    world.serve(None);
    send_batches(&mut world, 1);
    world.serve(Some((ErrorCode::MessageTooLarge, false)));
    send_batches(&mut world, 1);
    world.settle();
    let late = world.send(1);
    world.settle();
    let stamp = |value: u32| world.fates[&value].clone().unwrap().producer.unwrap();
    assert_eq!((stamp(early).epoch, stamp(early).base_sequence), (ProducerEpoch(0), Some(0)));
    assert_eq!((stamp(late).epoch, stamp(late).base_sequence), (ProducerEpoch(1), Some(0)));
    world.judge();
}

/// Five stored batches whose answers were all lost, at a broker that remembers only one: it takes the retries for gaps.
fn forgetful_broker(mode: AfterEpochBump) -> World {
    let mut world = World::new(ProducerConfig { after_epoch_bump: mode, ..config() });
    send_batches(&mut world, 1);
    world.serve(None);
    world.logs.get_mut(&0).unwrap().remembers = 1;
    send_batches(&mut world, 5);
    world.disconnect(5);
    world.settle();
    world
}

#[test]
fn a_batch_in_doubt_that_the_broker_has_forgotten_fails_as_indeterminate_and_is_not_stored_twice() {
    let world = forgetful_broker(AfterEpochBump::OnlyDefinite);
    world.judge();
    let error = world.fates[&3].clone().unwrap_err();
    assert_eq!((error.code, error.outcome), (ErrorCode::OutOfOrderSequenceNumber, Outcome::Indeterminate));
}

#[test]
fn as_kafka_it_is_sent_again_and_stored_twice() {
    let world = forgetful_broker(AfterEpochBump::AsKafka);
    assert!(world.fates.values().all(Result::is_ok));
    let twice = world.logs[&0].values.iter().filter(|value| **value == 3).count();
    assert_eq!(twice, 2);
}

#[test]
fn a_record_that_was_never_sent_expires_surely_and_one_in_flight_does_not() {
    let mut world = World::new(config());
    world.cluster.up = false;
    let unsent = world.send(0);
    world.pass(Duration::from_secs(120));
    assert_eq!(world.fates[&unsent].clone().unwrap_err().outcome, Outcome::Definite);
    world.cluster.up = true;
    let in_flight = world.send(0);
    world.poll();
    world.pass(Duration::from_secs(120));
    assert_eq!(world.fates[&in_flight].clone().unwrap_err().outcome, Outcome::Indeterminate);
    assert!(!world.machine.is_empty(), "its number is in use until the answer comes");
    world.serve(None);
    assert!(world.machine.is_empty());
    let next = world.send(0);
    world.settle();
    let stamp = world.fates[&next].clone().unwrap().producer.unwrap();
    assert_eq!((stamp.epoch, stamp.base_sequence), (ProducerEpoch(0), Some(1)), "it was stored: no gap");
}

#[test]
fn a_full_buffer_refuses_at_once() {
    let mut machine: Machine<u32> = {
        let world = World::new(ProducerConfig { buffer_memory: 1000, ..config() });
        world.machine
    };
    let record = Record {
        topic: "orders".into(),
        partition: Some(0),
        timestamp: 0,
        key: None,
        value: Some(vec![0; 300].into()),
        headers: vec![],
    };
    let taken = (0..5).filter(|n| machine.append(MonoTime(0), record.clone(), None, *n).is_ok()).count();
    assert_eq!(taken, 2);
    assert!(machine.buffered() <= 1000);
}

#[test]
fn acks_other_than_all_are_never_idempotent() {
    let plain = |acks| ProducerConfig { acks, ..ProducerConfig::default() };
    assert!(plain(Acks::All).idempotent());
    assert!(!plain(Acks::Leader).idempotent() && !plain(Acks::None).idempotent());
    assert!(!ProducerConfig { max_in_flight: 6, ..ProducerConfig::default() }.idempotent());
}
