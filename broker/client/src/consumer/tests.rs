//! The machine against a naive model of a partition.

use super::machine::{FetchAnswer, FetchPart, Leader, Machine, Output, View};
use super::{AutoOffsetReset, ConsumerConfig, ConsumerEvent, Polled};
use crate::backoff::Backoff;
use crate::connection::CallError;
use broker_types::{ErrorCode, LeaderEpoch, MonoTime, NodeId, Offset, TopicPartition, Uuid};
use broker_wire::record_batch::{Compression, RecordBatchBuilder};
use bytes::Bytes;
use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use std::time::Duration;

fn orders() -> TopicPartition {
    TopicPartition::new("orders", 0)
}

/// One batch: where it begins, under which epoch, which values; compaction may have left none.
type ModelBatch = (i64, i32, Vec<u32>);

/// A partition as its leader has it.
struct World {
    now: MonoTime,
    machine: Machine,
    batches: Vec<ModelBatch>,
    log_start: i64,
    leader: Leader,
    up: bool,
    /// Requests without answer.
    wire: Vec<Output>,
    next_value: u32,
}

impl View for (Leader, bool) {
    fn leader(&self, _partition: &TopicPartition) -> Option<Leader> {
        Some(self.0)
    }
    fn is_ready(&mut self, _node: NodeId) -> bool {
        self.1
    }
}

impl World {
    fn new(auto_offset_reset: AutoOffsetReset) -> Self {
        let config = ConsumerConfig { auto_offset_reset, ..ConsumerConfig::default() };
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1), ChaCha8Rng::seed_from_u64(1));
        let mut machine = Machine::new(config, backoff, 1 << 20, Duration::from_secs(300));
        machine.assign(&[orders()]);
        World {
            now: MonoTime::from_millis(1000),
            machine,
            batches: Vec::new(),
            log_start: 0,
            leader: Leader { node: NodeId(1), epoch: Some(LeaderEpoch(1)), topic_id: Some(Uuid(7)) },
            up: true,
            wire: Vec::new(),
            next_value: 0,
        }
    }

    fn end(&self) -> i64 {
        self.batches.last().map_or(self.log_start, |(base, _, values)| base + values.len() as i64)
    }

    fn produce(&mut self, count: u32) {
        let values = (0..count).map(|n| self.next_value + n).collect();
        self.next_value += count;
        let (base, epoch) = (self.end(), self.leader.epoch.unwrap().0);
        self.batches.push((base, epoch, values));
    }

    /// Another leader, whose log lacks the newest `lost` batches.
    fn elect(&mut self, lost: usize) {
        let keep = self.batches.len().saturating_sub(lost);
        self.batches.truncate(keep);
        self.leader.node = NodeId(3 - self.leader.node.0);
        self.leader.epoch = self.leader.epoch.map(LeaderEpoch::next);
    }

    fn ask(&mut self) {
        let mut view = (self.leader, self.up);
        let mut out = Vec::new();
        self.machine.poll(self.now, &mut view, &mut out);
        self.wire.extend(out.into_iter().filter(|output| *output != Output::RefreshMetadata));
    }

    /// All that was asked is answered, or lost.
    fn answer(&mut self, error: Option<CallError>) {
        for output in std::mem::take(&mut self.wire) {
            let mut out = Vec::new();
            match output {
                Output::Fetch { token, node, parts } => {
                    let answer = match error {
                        Some(error) => Err(error),
                        None => Ok(parts.iter().map(|part| self.fetch(node, part)).collect()),
                    };
                    self.machine.fetched(self.now, token, answer, &mut out);
                }
                Output::ListOffset { token, node, timestamp, leader_epoch, .. } => {
                    let code = self.check(node, leader_epoch);
                    let offset = if timestamp == -2 { self.log_start } else { self.end() };
                    let told = (code, code.is_none().then_some(Offset(offset)), self.leader.epoch);
                    self.machine.listed(self.now, token, leader_epoch, error.map_or(Ok(told), Err), &mut out);
                }
                Output::EpochEnd { token, node, leader_epoch, epoch, .. } => {
                    let code = self.check(node, leader_epoch);
                    let at = self.batches.iter().rposition(|(_, of, _)| *of <= epoch.0);
                    let mut found = at.map(|at| {
                        let end = self.batches.get(at + 1).map_or(self.end(), |(base, ..)| *base);
                        (LeaderEpoch(self.batches[at].1), Offset(end))
                    });
                    if Some(epoch) == self.leader.epoch {
                        found = Some((epoch, Offset(self.end())));
                    }
                    let told = (code, found.map(|f| f.0), found.map(|f| f.1));
                    self.machine.epoch_end(self.now, token, leader_epoch, error.map_or(Ok(told), Err), &mut out);
                }
                Output::RefreshMetadata => {}
            }
        }
    }

    fn check(&self, node: NodeId, epoch: Option<LeaderEpoch>) -> ErrorCode {
        match epoch.cmp(&self.leader.epoch) {
            std::cmp::Ordering::Less => ErrorCode::FencedLeaderEpoch,
            std::cmp::Ordering::Greater => ErrorCode::UnknownLeaderEpoch,
            std::cmp::Ordering::Equal if node != self.leader.node => ErrorCode::NotLeaderOrFollower,
            std::cmp::Ordering::Equal => ErrorCode::None,
        }
    }

    fn fetch(&self, node: NodeId, part: &FetchPart) -> FetchAnswer {
        let mut error = self.check(node, part.leader_epoch);
        if error.is_none() && !(self.log_start..=self.end()).contains(&part.offset.0) {
            error = ErrorCode::OffsetOutOfRange;
        }
        let mut records = Vec::new();
        if error.is_none() {
            // Two batches at most, whole ones, beginning with the one that holds the offset.
            let wanted = self.batches.iter().filter(|(base, _, values)| base + values.len() as i64 > part.offset.0);
            for (base, epoch, values) in wanted.take(2) {
                let mut builder = RecordBatchBuilder::new(Compression::None).at(Offset(*base), LeaderEpoch(*epoch));
                for value in values {
                    builder.push(5, None, Some(&value.to_be_bytes()), &[]).unwrap();
                }
                records.extend_from_slice(builder.build().unwrap().bytes());
            }
        }
        let known = |offset| error.is_none().then_some(Offset(offset));
        FetchAnswer {
            partition: part.partition.clone(),
            error,
            high_watermark: known(self.end()),
            last_stable_offset: known(self.end()),
            log_start: known(self.log_start),
            preferred_replica: None,
            aborted: vec![],
            records: records.into(),
            knows_better_leader: false,
        }
    }

    fn take(&mut self, max: usize) -> Polled {
        self.machine.take(self.now, max)
    }

    fn position(&self) -> Option<i64> {
        self.machine.position(&orders()).map(|offset| offset.0)
    }

    fn run(&mut self, rounds: usize) -> Vec<u32> {
        let mut values = Vec::new();
        for _ in 0..rounds {
            self.ask();
            self.answer(None);
            values.extend(values_of(&self.take(500)));
            self.now += Duration::from_millis(1100);
        }
        values
    }
}

fn values_of(polled: &Polled) -> Vec<u32> {
    let value = |bytes: &Bytes| u32::from_be_bytes(bytes[..].try_into().unwrap());
    polled.records.iter().map(|record| value(record.value.as_ref().unwrap())).collect()
}

#[derive(Clone, Debug)]
enum Event {
    Produce(u32),
    Ask,
    Answer,
    Lose,
    Take(usize),
    Pass(u64),
    Elect(usize),
    Retain(usize),
    Seek(i64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        5 => (1..5u32).prop_map(Event::Produce),
        6 => Just(Event::Ask),
        6 => Just(Event::Answer),
        1 => Just(Event::Lose),
        5 => (1..6usize).prop_map(Event::Take),
        3 => (1..1200u64).prop_map(Event::Pass),
        1 => (0..3usize).prop_map(Event::Elect),
        1 => (1..4usize).prop_map(Event::Retain),
        1 => (0..60i64).prop_map(Event::Seek),
    ];
    prop::collection::vec(event, 1..150)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_offset_is_read_once_and_in_order_except_where_an_event_says_otherwise(events in events()) {
        let mut world = World::new(AutoOffsetReset::Earliest);
        let mut expected: Option<i64> = None;
        for event in events {
            match event {
                Event::Produce(count) => world.produce(count),
                Event::Ask => world.ask(),
                Event::Answer => world.answer(None),
                Event::Lose => world.answer(Some(CallError::Lost)),
                Event::Pass(ms) => world.now += Duration::from_millis(ms),
                Event::Elect(lost) => world.elect(lost),
                Event::Retain(batches) => {
                    let gone = batches.min(world.batches.len().saturating_sub(1));
                    world.batches.drain(..gone);
                    world.log_start = world.batches.first().map_or(world.log_start, |(base, ..)| *base);
                }
                Event::Seek(offset) => {
                    prop_assert!(world.machine.seek(&orders(), Offset(offset)));
                    expected = Some(offset);
                }
                Event::Take(max) => {
                    let polled = world.take(max);
                    prop_assert!(polled.records.len() <= max);
                    for event in &polled.events {
                        // Nothing was read since: a reset or truncation empties what is buffered.
                        match event {
                            ConsumerEvent::Positioned { to, .. } => expected = Some(to.0),
                            ConsumerEvent::Truncated { from, to, .. } => {
                                prop_assert_eq!(Some(from.0), expected);
                                expected = to.map(|to| to.0);
                            }
                            ConsumerEvent::Failed(error) => prop_assert!(false, "{:?}", error),
                        }
                    }
                    for facts in &polled.facts {
                        prop_assert!(facts.position_before <= facts.position_after);
                        prop_assert!(Some(facts.position_after) <= facts.high_watermark);
                    }
                    for record in &polled.records {
                        prop_assert_eq!(Some(record.offset.0), expected);
                        expected = Some(record.offset.0 + 1);
                    }
                }
            }
        }
        // In peace it reads to the end.
        world.run(60 + world.batches.len());
        prop_assert_eq!(world.position(), Some(world.end()));
    }
}

#[test]
fn the_reset_policy_says_where_to_begin() {
    for (policy, begin) in [(AutoOffsetReset::Earliest, 0), (AutoOffsetReset::Latest, 3)] {
        let mut world = World::new(policy);
        world.produce(3);
        world.ask();
        world.answer(None);
        assert_eq!(world.position(), Some(begin), "{policy:?}");
    }
    let mut world = World::new(AutoOffsetReset::None);
    world.ask();
    assert!(world.wire.is_empty());
    let polled = world.take(10);
    assert!(matches!(&polled.events[..], [ConsumerEvent::Failed(error)] if error.code == ErrorCode::OffsetOutOfRange));
    world.machine.seek(&orders(), Offset(0));
    world.produce(2);
    assert_eq!(world.run(3), [0, 1]);
}

#[test]
fn what_a_seek_leaves_behind_is_not_returned() {
    let mut world = World::new(AutoOffsetReset::Earliest);
    for _ in 0..4 {
        world.produce(2);
    }
    world.run(1);
    world.ask();
    world.machine.seek(&orders(), Offset(5));
    world.answer(None);
    assert!(world.take(10).records.is_empty(), "the answer was about the old position");
    assert_eq!(world.run(3), [5, 6, 7]);
}

#[test]
fn a_new_leader_is_asked_whether_what_was_read_is_still_there() {
    let mut world = World::new(AutoOffsetReset::Latest);
    world.ask();
    world.answer(None);
    for _ in 0..3 {
        world.produce(2);
    }
    assert_eq!(world.run(3), [0, 1, 2, 3, 4, 5]);
    world.elect(1);
    world.produce(1);
    world.ask();
    assert!(matches!(world.wire[..], [Output::EpochEnd { epoch: LeaderEpoch(1), .. }]), "before any fetch");
    world.answer(None);
    let events = world.take(10).events;
    assert_eq!(events, [ConsumerEvent::Truncated { partition: orders(), from: Offset(6), to: Some(Offset(4)) }]);
    assert_eq!(world.run(2), [6], "the new record at offset 4");
    assert_eq!(world.position(), Some(5));
}

#[test]
fn facts_tell_of_empty_fetches_and_of_fetches_read_in_parts() {
    let mut world = World::new(AutoOffsetReset::Earliest);
    world.run(1);
    world.ask();
    world.answer(None);
    let facts = world.take(10).facts;
    assert_eq!((facts.len(), facts[0].records, facts[0].high_watermark), (1, 0, Some(Offset(0))));
    world.produce(3);
    world.ask();
    world.answer(None);
    let (first, second) = (world.take(2).facts, world.take(2).facts);
    assert_eq!((first[0].position_before, first[0].position_after), (Offset(0), Offset(2)));
    assert_eq!((second[0].position_before, second[0].position_after), (Offset(2), Offset(3)));
    assert_eq!(second[0].fetched_from, Offset(0));
    assert_eq!(second[0].leader_epoch, Some(LeaderEpoch(1)));
}
