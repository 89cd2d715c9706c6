//! The checks that need no graph.

use super::logs::Logs;
use super::operations::{Kafka, Operations, Record};
use crate::history::Outcome;
use crate::readers::atoms::Atom;
use crate::registry::{
    DUPLICATE, GARBAGE_READ, INCONSISTENT_OFFSET, LOST_WRITE, NONMONOTONIC_POLL, NONMONOTONIC_SEND, POLL_SKIP, UNSEEN,
};
use crate::verdict::CheckResult;
use std::collections::{BTreeMap, BTreeSet};

/// A history with its logs.
pub(super) struct Judge<'j, 'a> {
    pub(super) operations: &'j Operations<'a>,
    pub(super) logs: &'j Logs,
}

/// Where a consumer may go on: the place of what it read last, and the operation that read it.
type Position = (i64, u32);

impl Judge<'_, '_> {
    fn name(&self, value: Atom) -> String {
        self.operations.names.name(value)
    }

    fn key(&self, key: u32) -> String {
        self.operations.key(key)
    }

    fn outcome(&self, at: u32) -> Outcome {
        self.operations.all[at as usize].outcome
    }

    /// Who did it, where it is told, and its records: `sent x=[0:a], polled y=[3:b 4:c]`.
    pub(super) fn tell(&self, at: u32) -> String {
        const MOST: usize = 12;
        let op = &self.operations.all[at as usize];
        let mut parts: BTreeMap<(bool, u32), Vec<String>> = BTreeMap::new();
        for record in self.operations.records(at) {
            let offset = record.offset.map_or("?".to_owned(), |offset| offset.to_string());
            let told = parts.entry((!record.is_send, record.key)).or_default();
            told.push(format!("{offset}:{}", self.name(record.value)));
        }
        let parts = parts.into_iter().map(|((is_poll, key), told)| {
            let verb = if is_poll { "polled" } else { "sent" };
            let more = if told.len() > MOST { format!(" … {} more", told.len() - MOST) } else { String::new() };
            format!("{verb} {}=[{}{more}]", self.key(key), told[..told.len().min(MOST)].join(" "))
        });
        let came = match op.outcome {
            Outcome::Ok => "",
            Outcome::Fail => ", failed",
            Outcome::Unknown => ", outcome unknown",
        };
        let (from, end) = op.lines;
        let lines = end.map_or(format!("line {from}"), |end| format!("lines {from} and {end}"));
        format!("process {} ({lines}{came}): {}", op.process, parts.collect::<Vec<_>>().join(", "))
    }

    /// B3: a reader has passed its place, and nobody was ever given it.
    pub(super) fn lost_write(&self) -> CheckResult {
        let mut result = CheckResult::of(LOST_WRITE);
        let mut polled: BTreeSet<(u32, Atom)> = BTreeSet::new();
        for at in self.operations.numbers() {
            polled.extend(self.operations.polled(at).map(|record| (record.key, record.value)));
        }
        // By key: the furthest place that was read for sure, and by whom.
        let mut bounds: BTreeMap<u32, Position> = BTreeMap::new();
        for ((key, value), reader) in &self.logs.readers {
            if let Some(place) = self.logs.logs[*key as usize].place(*value) {
                let bound = bounds.entry(*key).or_insert((place, *reader));
                *bound = (*bound).max((place, *reader));
            }
        }
        for (key, (bound, reader)) in bounds {
            for (value, (_, last)) in &self.logs.logs[key as usize].of {
                let Some(writer) = self.logs.writer(key, *value) else { continue };
                if i64::from(*last) > bound || !self.logs.committed[writer as usize] {
                    continue;
                }
                result.opportunity(1);
                if !polled.contains(&(key, *value)) {
                    result.violate(
                        LOST_WRITE.guarantee,
                        vec![
                            format!(
                                "{} in key {} was never polled, though T2 polled past it",
                                self.name(*value),
                                self.key(key)
                            ),
                            format!("T1 = {}", self.tell(writer)),
                            format!("T2 = {}", self.tell(reader)),
                        ],
                        None,
                    );
                }
            }
        }
        result
    }

    /// B4: the log was read from its beginning at the end, and what was acknowledged before is not there.
    pub(super) fn unseen(&self) -> CheckResult {
        let mut result = CheckResult::of(UNSEEN);
        // By key: when the last read began of a consumer that had started at the beginning.
        let mut readers: BTreeMap<i64, BTreeSet<u32>> = BTreeMap::new();
        let mut last: BTreeMap<u32, u64> = BTreeMap::new();
        let mut polled: BTreeSet<(u32, Atom)> = BTreeSet::new();
        for at in self.operations.numbers() {
            let op = &self.operations.all[at as usize];
            polled.extend(self.operations.polled(at).map(|record| (record.key, record.value)));
            match &op.kafka {
                Kafka::Assign { keys, from_beginning, .. } => {
                    readers.insert(op.process, if *from_beginning { keys.clone() } else { BTreeSet::new() });
                }
                Kafka::Records if op.outcome == Outcome::Ok && self.operations.sent(at).next().is_none() => {
                    for key in readers.get(&op.process).into_iter().flatten() {
                        last.insert(*key, op.interval.invoked);
                    }
                }
                Kafka::Records => {}
            }
        }
        for at in self.operations.numbers().filter(|at| self.outcome(*at) == Outcome::Ok) {
            let returned = self.operations.all[at as usize].interval.returned.unwrap_or(u64::MAX);
            for record in self.operations.sent(at) {
                let is_there = polled.contains(&(record.key, record.value));
                match last.get(&record.key) {
                    Some(began) if returned < *began => {
                        result.opportunity(1);
                        if !is_there {
                            let (value, key) = (self.name(record.value), self.key(record.key));
                            let what = format!("{value} was acknowledged in key {key}, and no poll returned it");
                            let evidence = vec![what, format!("T1 = {}", self.tell(at))];
                            result.violate(UNSEEN.guarantee, evidence, None);
                        }
                    }
                    _ if !is_there => result.allow("not-read-to-the-end"),
                    _ => {}
                }
            }
        }
        result
    }

    /// B1 and B2: one value at an offset, one offset for a value.
    pub(super) fn offsets(&self) -> Vec<CheckResult> {
        let (mut inconsistent, mut duplicate) = (CheckResult::of(INCONSISTENT_OFFSET), CheckResult::of(DUPLICATE));
        for (key, log) in (0..).zip(&self.logs.logs) {
            inconsistent.opportunity(log.places.len() as u64);
            duplicate.opportunity(log.of.len() as u64);
            for (offset, values) in log.places.iter().filter(|(_, values)| values.len() > 1) {
                let named: Vec<String> = values.iter().map(|value| self.name(*value)).collect();
                let mut evidence =
                    vec![format!("offset {offset} of key {} holds {}", self.key(key), named.join(" and "))];
                evidence.extend(values.iter().take(4).flat_map(|value| self.tell_value(key, *value)));
                inconsistent.violate(INCONSISTENT_OFFSET.guarantee, evidence, None);
            }
            for (value, (first, last)) in log.of.iter().filter(|(_, (first, last))| first != last) {
                let [first, last] = [first, last].map(|place| log.places[*place as usize].0);
                let (named, key_named) = (self.name(*value), self.key(key));
                let mut evidence = vec![format!("{named} is at offset {first} of key {key_named}, and at {last}")];
                evidence.extend(self.tell_value(key, *value));
                duplicate.violate(DUPLICATE.guarantee, evidence, None);
            }
        }
        vec![inconsistent, duplicate]
    }

    fn tell_value(&self, key: u32, value: Atom) -> Vec<String> {
        let named = self.name(value);
        let writer = self.logs.writer(key, value).map(|at| format!("{named} sent by {}", self.tell(at)));
        let reader = self.logs.readers.get(&(key, value)).map(|at| format!("{named} polled by {}", self.tell(*at)));
        writer.into_iter().chain(reader).collect()
    }

    /// B10, B11 and B12: what is polled was sent, by another transaction, and one that did not fail.
    pub(super) fn reads(&self) -> Vec<CheckResult> {
        let mut aborted = CheckResult::new("G1a");
        let mut own = CheckResult::new("precommitted-read");
        let mut garbage = CheckResult::of(GARBAGE_READ);
        for at in self.operations.numbers() {
            for record in self.operations.polled(at) {
                garbage.opportunity(1);
                let value = || format!("{} in key {}", self.name(record.value), self.key(record.key));
                let Some(writer) = self.logs.writer(record.key, record.value) else {
                    let evidence = vec![format!("nobody sent {}", value()), format!("T1 = {}", self.tell(at))];
                    garbage.violate(GARBAGE_READ.guarantee, evidence, None);
                    continue;
                };
                aborted.opportunity(1);
                own.opportunity(1);
                if writer == at {
                    let evidence =
                        vec![format!("T1 polled {}, which it sent itself", value()), format!("T1 = {}", self.tell(at))];
                    own.violate("No transaction polls what it has sent and not yet committed.", evidence, None);
                } else if self.outcome(writer) == Outcome::Fail {
                    let evidence = vec![
                        format!("T1 polled {}, which T2 sent, and T2 failed", value()),
                        format!("T1 = {}", self.tell(at)),
                        format!("T2 = {}", self.tell(writer)),
                    ];
                    aborted.violate("Nobody polls what an aborted transaction sent.", evidence, None);
                }
            }
        }
        vec![aborted, own, garbage]
    }

    fn by_key<'r>(records: impl Iterator<Item = &'r Record>) -> BTreeMap<u32, Vec<Atom>> {
        let mut by_key: BTreeMap<u32, Vec<Atom>> = BTreeMap::new();
        for record in records {
            by_key.entry(record.key).or_default().push(record.value);
        }
        by_key
    }

    fn place(&self, key: u32, value: Atom) -> Option<i64> {
        self.logs.logs[key as usize].place(value)
    }

    fn passed_over(&self, key: u32, from: i64, to: i64) -> String {
        let named = self.logs.logs[key as usize].between(from, to).take(8).map(|value| self.name(value));
        named.collect::<Vec<_>>().join(" ")
    }

    /// B6 and B7: polls go on where the one before ended.
    pub(super) fn polls(&self) -> Vec<CheckResult> {
        let mut skip = CheckResult::of(POLL_SKIP);
        let mut back = CheckResult::of(NONMONOTONIC_POLL);
        let mut inner_skip = CheckResult::new("int-poll-skip");
        let mut inner_back = CheckResult::new("int-nonmonotonic-poll");
        // By process: whether its consumer subscribes, and where it may go on, by key.
        let mut consumers: BTreeMap<i64, (bool, BTreeMap<u32, Vec<Position>>)> = BTreeMap::new();
        for at in self.operations.numbers() {
            let op = &self.operations.all[at as usize];
            let (subscribes, positions) = consumers.entry(op.process).or_default();
            if let Kafka::Assign { keys, subscribe, from_beginning } = &op.kafka {
                if op.outcome != Outcome::Fail {
                    *subscribes = *subscribe;
                    positions.retain(|key, _| keys.contains(key) && !from_beginning);
                }
                continue;
            }
            for (key, values) in Self::by_key(self.operations.polled(at)) {
                let rebalanced = op.rebalanced.contains(&key);
                let excuse = rebalanced.then_some("rebalance");
                for pair in values.windows(2) {
                    let (Some(from), Some(to)) = (self.place(key, pair[0]), self.place(key, pair[1])) else { continue };
                    inner_skip.opportunity(1);
                    inner_back.opportunity(1);
                    let step = (from, to, key);
                    self.step(
                        &mut inner_skip,
                        &mut inner_back,
                        step,
                        excuse,
                        &[at],
                        "Within a transaction, polls go on where the one before ended.",
                    );
                }
                let (first, last) = (self.place(key, values[0]), self.place(key, values[values.len() - 1]));
                if let (Some(to), Some(before)) = (first, positions.get(&key)) {
                    skip.opportunity(1);
                    back.opportunity(1);
                    let goes_on = before.iter().any(|(place, _)| place + 1 == to);
                    // Between two places where it may go on, nothing is sure.
                    let (lowest, highest) = (before.iter().min(), before.iter().max());
                    if let (false, Some(lowest), Some(highest)) = (goes_on, lowest, highest) {
                        let from =
                            if to <= lowest.0 { Some(lowest) } else { Some(highest).filter(|highest| to > highest.0) };
                        if let Some((from, former)) = from {
                            let excuse = if *subscribes { Some("subscribe") } else { excuse };
                            self.step(&mut skip, &mut back, (*from, to, key), excuse, &[*former, at], "");
                        }
                    }
                }
                if let Some(last) = last {
                    let places = positions.entry(key).or_default();
                    if op.outcome == Outcome::Ok {
                        places.clear();
                    }
                    places.push((last, at));
                }
            }
        }
        vec![skip, back, inner_skip, inner_back]
    }

    /// One step from a place in a log to another.
    fn step(
        &self,
        skip: &mut CheckResult,
        back: &mut CheckResult,
        (from, to, key): (i64, i64, u32),
        excuse: Option<&str>,
        by: &[u32],
        guarantee: &str,
    ) {
        if to == from + 1 {
            return;
        }
        let result = if to > from { skip } else { back };
        if let Some(reason) = excuse {
            result.allow(reason);
            return;
        }
        let place = |place: i64| self.logs.logs[key as usize].places[place as usize].0;
        let (key_named, from_offset, to_offset) = (self.key(key), place(from), place(to));
        let what = match to > from {
            true => format!(
                "key {key_named}: from offset {from_offset} to {to_offset}, past {}",
                self.passed_over(key, from, to)
            ),
            false => format!("key {key_named}: from offset {from_offset} back to {to_offset}"),
        };
        let told = (1..).zip(by).map(|(name, at)| format!("T{name} = {}", self.tell(*at)));
        let evidence = std::iter::once(what).chain(told).collect();
        let known = crate::CheckInfo::find(&result.id).map_or(guarantee, |check| check.guarantee);
        result.violate(known, evidence, None);
    }

    /// B8 and B9: what one process sends to a key lies there in the order it was sent.
    pub(super) fn sends(&self) -> Vec<CheckResult> {
        let mut back = CheckResult::of(NONMONOTONIC_SEND);
        let mut inner_back = CheckResult::new("int-nonmonotonic-send");
        let mut inner_skip = CheckResult::new("int-send-skip");
        let mut ignored = CheckResult::new("send-skip");
        let mut last: BTreeMap<(i64, u32), Position> = BTreeMap::new();
        for at in self.operations.numbers().filter(|at| self.outcome(*at) != Outcome::Fail) {
            for (key, values) in Self::by_key(self.operations.sent(at)) {
                for pair in values.windows(2) {
                    let (Some(from), Some(to)) = (self.place(key, pair[0]), self.place(key, pair[1])) else { continue };
                    inner_back.opportunity(1);
                    inner_skip.opportunity(1);
                    let guarantee = "A transaction's records to one partition lie there in the order they were sent.";
                    let excuse = (to > from).then_some("no-write-isolation");
                    self.step(&mut inner_skip, &mut inner_back, (from, to, key), excuse, &[at], guarantee);
                }
                let process = self.operations.all[at as usize].process;
                let (first, end) = (self.place(key, values[0]), self.place(key, values[values.len() - 1]));
                if let (Some(to), Some((from, former))) = (first, last.get(&(process, key))) {
                    back.opportunity(1);
                    if to <= *from {
                        self.step(&mut ignored, &mut back, (*from, to, key), None, &[*former, at], "");
                    }
                }
                if let Some(end) = end {
                    last.insert((process, key), (end, at));
                }
            }
        }
        vec![back, inner_back, inner_skip]
    }
}
