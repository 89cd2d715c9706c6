//! What lies where: each key's log as sends and polls tell it.

use super::operations::Operations;
use crate::history::Outcome;
use crate::readers::atoms::Atom;
use std::collections::{BTreeMap, BTreeSet};

/// One key's log.
#[derive(Default)]
pub(crate) struct Log {
    /// Every value seen at each offset at which anything was seen, by offset: holes are left out.
    pub(crate) places: Vec<(i64, Vec<Atom>)>,
    /// The first and the last place of each value.
    pub(crate) of: BTreeMap<Atom, (u32, u32)>,
}

impl Log {
    /// Where a value lies; its first place, should there be several.
    pub(crate) fn place(&self, value: Atom) -> Option<i64> {
        self.of.get(&value).map(|(first, _)| i64::from(*first))
    }

    /// The values between two places.
    pub(crate) fn between(&self, from: i64, to: i64) -> impl Iterator<Item = Atom> {
        let range = (from + 1).max(0) as usize..to.max(from + 1).max(0) as usize;
        self.places[range].iter().filter_map(|(_, values)| values.first().copied())
    }
}

/// Logs by key, and who sent and read what.
pub(crate) struct Logs {
    pub(crate) logs: Vec<Log>,
    pub(crate) writers: BTreeMap<(u32, Atom), u32>,
    /// The first operation that took effect and polled a value.
    pub(crate) readers: BTreeMap<(u32, Atom), u32>,
    /// Operations that must have committed: they said so, or what they sent was read.
    pub(crate) committed: Vec<bool>,
}

impl Logs {
    /// Polls of all operations count: a consumer is given what is committed, whatever becomes of its own transaction. Of
    /// sends only those count that must have committed.
    pub(crate) fn new(operations: &Operations<'_>) -> Self {
        let (mut writers, mut readers) = (BTreeMap::new(), BTreeMap::new());
        for at in operations.numbers() {
            writers.extend(operations.sent(at).map(|record| ((record.key, record.value), at)));
            if operations.all[at as usize].outcome == Outcome::Ok {
                for record in operations.polled(at) {
                    readers.entry((record.key, record.value)).or_insert(at);
                }
            }
        }
        let committed: Vec<bool> = operations
            .numbers()
            .map(|at| match operations.all[at as usize].outcome {
                Outcome::Ok => true,
                Outcome::Fail => false,
                Outcome::Unknown => operations.sent(at).any(|record| readers.contains_key(&(record.key, record.value))),
            })
            .collect();
        let mut seen: BTreeSet<(u32, i64, Atom)> = BTreeSet::new();
        for at in operations.numbers() {
            let counts = |is_send: bool| !is_send || committed[at as usize];
            let records = operations.records(at).iter().filter(|record| counts(record.is_send));
            seen.extend(records.filter_map(|record| Some((record.key, record.offset?, record.value))));
        }
        let mut logs: Vec<Log> = operations.keys.iter().map(|_| Log::default()).collect();
        for (key, offset, value) in seen {
            let log = &mut logs[key as usize];
            match log.places.last_mut() {
                Some((last, values)) if *last == offset => values.push(value),
                _ => log.places.push((offset, vec![value])),
            }
            let place = log.places.len() as u32 - 1;
            log.of.entry(value).or_insert((place, place)).1 = place;
        }
        Logs { logs, writers, readers, committed }
    }

    pub(crate) fn writer(&self, key: u32, value: Atom) -> Option<u32> {
        self.writers.get(&(key, value)).copied()
    }
}
