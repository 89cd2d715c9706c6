//! The operations of Jepsen's Kafka workload: sends and polls in transactions, and what a consumer is assigned.

use crate::exactly_once::dependency_graph::Interval;
use crate::history::Outcome;
use crate::readers;
use crate::readers::atoms::{Atom, Names, shortened};
use crate::readers::edn::{Kind, Value};
use std::collections::{BTreeMap, BTreeSet};

/// One record sent or polled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    pub(crate) key: u32,
    pub(crate) value: Atom,
    /// `None`: nobody told.
    pub(crate) offset: Option<i64>,
    pub(crate) is_send: bool,
}

/// What an operation was.
#[derive(Clone, Debug)]
pub(crate) enum Kafka {
    /// Sends, polls, or both.
    Records,
    /// The consumer reads these keys from now on.
    Assign { keys: BTreeSet<u32>, subscribe: bool, from_beginning: bool },
}

/// One operation.
#[derive(Clone, Debug)]
pub(crate) struct Op {
    pub(crate) process: i64,
    pub(crate) outcome: Outcome,
    pub(crate) interval: Interval,
    pub(crate) kafka: Kafka,
    /// The lines of its invocation and of its return.
    pub(crate) lines: (u32, Option<u32>),
    records: (usize, usize),
    /// Keys that the consumer lost or got while it lasted.
    pub(crate) rebalanced: BTreeSet<u32>,
}

/// A history, in order of invocation.
#[derive(Default)]
pub(crate) struct Operations<'a> {
    pub(crate) all: Vec<Op>,
    records: Vec<Record>,
    pub(crate) keys: Vec<Atom>,
    key_numbers: BTreeMap<Atom, u32>,
    pub(crate) names: Names<'a>,
}

impl<'a> Operations<'a> {
    pub(crate) fn records(&self, at: u32) -> &[Record] {
        let (from, end) = self.all[at as usize].records;
        &self.records[from..end]
    }

    /// What an operation polled, in order.
    pub(crate) fn polled(&self, at: u32) -> impl Iterator<Item = &Record> {
        self.records(at).iter().filter(|record| !record.is_send)
    }

    /// What it sent, in order.
    pub(crate) fn sent(&self, at: u32) -> impl Iterator<Item = &Record> {
        self.records(at).iter().filter(|record| record.is_send)
    }

    pub(crate) fn key(&self, key: u32) -> String {
        self.names.name(self.keys[key as usize])
    }

    /// Every operation's number.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u32> + use<> {
        0..self.all.len() as u32
    }

    fn key_number(&mut self, key: &Value<'a>) -> u32 {
        let atom = self.names.atom(key);
        let next = self.keys.len() as u32;
        let number = *self.key_numbers.entry(atom).or_insert(next);
        if number == next {
            self.keys.push(atom);
        }
        number
    }

    fn read_step(&mut self, step: &Value<'a>) -> Result<(), String> {
        let wrong = || {
            format!(
                "a step is [:send key value], [:send key [offset value]] or [:poll {{key [[offset value] …]}}], not `{}`",
                shortened(step)
            )
        };
        match step.items() {
            Some([word, key, value]) if word.keyword() == Some("send") => {
                let key = self.key_number(key);
                let (offset, value) = match value.items() {
                    Some([offset, value]) => (offset_of(offset)?, value),
                    Some(_) => return Err(wrong()),
                    None => (None, value),
                };
                let value = self.names.atom(value);
                self.records.push(Record { key, value, offset, is_send: true });
                Ok(())
            }
            Some([word]) if word.keyword() == Some("poll") => Ok(()),
            Some([word, Value { kind: Kind::Nil, .. }]) if word.keyword() == Some("poll") => Ok(()),
            Some([word, Value { kind: Kind::Map(polled), .. }]) if word.keyword() == Some("poll") => {
                for (key, pairs) in polled {
                    let key = self.key_number(key);
                    for pair in pairs.items().ok_or_else(wrong)? {
                        let Some([offset, value]) = pair.items() else { return Err(wrong()) };
                        let (offset, value) = (offset_of(offset)?, self.names.atom(value));
                        self.records.push(Record { key, value, offset, is_send: false });
                    }
                }
                Ok(())
            }
            _ => Err(wrong()),
        }
    }

    fn keys_of(&mut self, value: &Value<'a>) -> Result<BTreeSet<u32>, String> {
        let keys = match &value.kind {
            Kind::Vector(keys) | Kind::List(keys) | Kind::Set(keys) => keys,
            Kind::Nil => return Ok(BTreeSet::new()),
            _ => return Err(format!("keys are a vector, not `{}`", shortened(value))),
        };
        Ok(keys.iter().map(|key| self.key_number(key)).collect())
    }
}

fn offset_of(value: &Value<'_>) -> Result<Option<i64>, String> {
    match value.kind {
        Kind::Nil => Ok(None),
        Kind::Integer(offset @ 0..) => Ok(Some(offset)),
        _ => Err(format!("an offset is a number from 0 or nil, not `{}`", shortened(value))),
    }
}

/// A transaction returns the steps it was invoked with; only what was polled, and offsets, are new.
fn same_steps(asked: &[Value<'_>], answered: &[Value<'_>]) -> Result<(), String> {
    if asked.len() != answered.len() {
        return Err(format!("{} steps are returned, and {} were invoked", answered.len(), asked.len()));
    }
    for (asked, answered) in asked.iter().zip(answered) {
        let same = match (asked.items(), answered.items()) {
            (Some([send, key, value]), Some([sent, to, with])) => {
                // The value, with or without an offset.
                let bare = |value: &'_ Value<'_>| value.items().and_then(<[_]>::last).unwrap_or(value).to_string();
                send == sent && key == to && bare(value) == bare(with)
            }
            (Some([poll, ..]), Some([polled, ..])) => poll == polled,
            _ => true,
        };
        if !same {
            let (asked, answered) = (shortened(asked), shortened(answered));
            return Err(format!("{answered} is returned where {asked} was invoked"));
        }
    }
    Ok(())
}

/// Reads every operation; `:crash`, `:debug-topic-partitions` and whatever else no record is told by are left out.
///
/// # Errors
/// The line of the first that is wrong, or that sends what was sent before.
pub(crate) fn read<'a>(operations: &readers::Operations<'a>) -> Result<Operations<'a>, String> {
    let mut all = Operations::default();
    let mut sent: BTreeMap<(u32, Atom), u32> = BTreeMap::new();
    for operation in operations.iter() {
        let answer = operation.completion.as_ref().filter(|_| !operation.answered().is_nil());
        let (map, value) = answer.map_or((&operation.call, operation.asked()), |map| (map, operation.answered()));
        let wrong = |what: String| format!("line {}: {what}", map.line);
        let from = all.records.len();
        let kafka = match operation.name {
            "send" | "poll" | "txn" => {
                let steps = value.items();
                let steps = steps
                    .ok_or_else(|| wrong(format!("a transaction is a vector of steps, not `{}`", shortened(value))))?;
                if let Some(asked) = operation.asked().items() {
                    same_steps(asked, steps).map_err(wrong)?;
                }
                for step in steps {
                    all.read_step(step).map_err(|what| format!("line {}: {what}", step.line))?;
                }
                Kafka::Records
            }
            "assign" | "subscribe" => {
                let told = |name: &str| {
                    [Some(&operation.call), operation.completion.as_ref()]
                        .into_iter()
                        .flatten()
                        .any(|map| map.get(name).is_some_and(|value| value.kind == Kind::Bool(true)))
                };
                let (subscribe, from_beginning) = (operation.name == "subscribe", told("seek-to-beginning?"));
                Kafka::Assign { keys: all.keys_of(value).map_err(wrong)?, subscribe, from_beginning }
            }
            "crash" | "debug-topic-partitions" => continue,
            name => {
                return Err(wrong(format!(
                    "Kafka's operations are :send, :poll, :txn, :assign, :subscribe, :crash and :debug-topic-partitions, not :{name}"
                )));
            }
        };
        for record in all.records[from..].iter().filter(|record| record.is_send) {
            if let Some(before) = sent.insert((record.key, record.value), map.line) {
                let (value, key) = (all.names.name(record.value), all.key(record.key));
                return Err(wrong(format!(
                    "{value} was sent to key {key} before, in line {before}: values must be unique"
                )));
            }
        }
        let mut rebalanced = BTreeSet::new();
        for event in map.get("rebalance-log").and_then(Value::items).unwrap_or_default() {
            if let Some(keys) = event.get("keys") {
                rebalanced.extend(all.keys_of(keys).map_err(wrong)?);
            }
        }
        all.all.push(Op {
            process: operation.process,
            outcome: operation.outcome,
            interval: Interval::of(&operation),
            kafka,
            lines: operation.lines(),
            records: (from, all.records.len()),
            rebalanced,
        });
    }
    Ok(all)
}
