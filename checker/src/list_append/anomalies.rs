//! Anomalies that single transactions, or two of them, show: no graph is needed.

use super::transactions::{Step, Transactions};
use super::versions::Versions;
use crate::history::Outcome;
use crate::readers::atoms::Atom;
use crate::verdict::CheckResult;
use std::collections::{BTreeMap, BTreeSet};

/// What was found under each name: how often, and the first of it in words, a fact a line.
#[derive(Default)]
pub(crate) struct Anomalies(pub(crate) BTreeMap<&'static str, (u64, Vec<Vec<String>>)>);

impl Anomalies {
    pub(crate) fn add(&mut self, name: &'static str, evidence: impl FnOnce() -> Vec<String>) {
        let (count, kept) = self.0.entry(name).or_default();
        *count += 1;
        if kept.len() < CheckResult::KEPT {
            kept.push(evidence());
        }
    }
}

/// Who did a transaction, where it is told, and what it did.
pub(crate) fn tell(transactions: &Transactions<'_>, at: u32) -> String {
    const MOST: usize = 32;
    let transaction = &transactions.all[at as usize];
    let steps = transactions.steps(at);
    let told = steps.iter().take(MOST).map(|step| match *step {
        Step::Append { key, element } => {
            format!("[:append {} {}]", transactions.key(key), transactions.names.name(element))
        }
        Step::Read { key, list } => {
            let list = transactions.list(list).map_or("nil".to_owned(), |list| transactions.names.list(list));
            format!("[:r {} {list}]", transactions.key(key))
        }
    });
    let told = told.collect::<Vec<_>>().join(" ");
    let more = if steps.len() > MOST { " …" } else { "" };
    let came = match transaction.outcome {
        Outcome::Ok => "",
        Outcome::Fail => ", failed",
        Outcome::Unknown => ", outcome unknown",
    };
    let (from, end) = transaction.lines;
    let lines = match end {
        Some(end) if end != from => format!("lines {from} and {end}"),
        _ => format!("line {from}"),
    };
    format!("process {} ({lines}{came}): [{told}{more}]", transaction.process)
}

/// Finds them all, and counts the lists that were read.
pub(crate) fn find(versions: &Versions<'_, '_>, found: &mut Anomalies) -> u64 {
    let mut finder = Finder { versions, transactions: versions.transactions, found, reads: 0, keys: Vec::new() };
    let tainted = finder.tainted();
    let mut again = Vec::new();
    for at in 0..finder.transactions.all.len() as u32 {
        finder.lists(at, &tainted);
        if finder.transactions.outcome(at) == Outcome::Ok && finder.comes_back(at) {
            finder.internal(at);
            finder.future_read(at);
            again.push(at);
        }
    }
    finder.contradictions();
    finder.dirty_updates();
    finder.lost_updates(&again);
    finder.reads
}

struct Finder<'f, 'v, 'a> {
    versions: &'f Versions<'v, 'a>,
    transactions: &'v Transactions<'a>,
    found: &'f mut Anomalies,
    reads: u64,
    /// Scratch space: the keys of one transaction.
    keys: Vec<u32>,
}

impl<'v> Finder<'_, 'v, '_> {
    fn name(&self, atom: Atom) -> String {
        self.transactions.names.name(atom)
    }

    fn tell(&self, at: u32) -> String {
        tell(self.transactions, at)
    }

    fn known_lists(&self, at: u32) -> impl Iterator<Item = (u32, &'v [Atom])> + use<'v> {
        let transactions = self.transactions;
        transactions.steps(at).iter().filter_map(|step| match *step {
            Step::Read { key, list } => Some((key, transactions.list(list)?)),
            Step::Append { .. } => None,
        })
    }

    /// For each key, how many elements of its order come before the first that nobody appended, or that was aborted.
    fn tainted(&self) -> Vec<usize> {
        let orders = (0..).zip(&self.versions.orders);
        let clean = |key: u32, element: Atom| {
            let append = self.versions.append(key, element);
            append.is_some_and(|append| self.transactions.outcome(append.by) != Outcome::Fail)
        };
        orders.map(|(key, order)| order.elements.iter().take_while(|element| clean(key, **element)).count()).collect()
    }

    /// What is wrong with each list that a transaction read.
    fn lists(&mut self, at: u32, tainted: &[usize]) {
        let outcome = self.transactions.outcome(at);
        if outcome == Outcome::Fail {
            return;
        }
        for (key, list) in self.known_lists(at) {
            self.reads += 1;
            if let Some(last) = list.last().filter(|_| outcome == Outcome::Ok)
                && let Some(append) =
                    self.versions.append(key, *last).filter(|append| append.intermediate && append.by != at)
            {
                let (by, last) = (append.by, self.name(*last));
                let evidence = vec![
                    format!(
                        "T1 read key {} up to {last}, after which T2 appended more to it",
                        self.transactions.key(key)
                    ),
                    format!("T1 = {}", self.tell(at)),
                    format!("T2 = {}", self.tell(by)),
                ];
                self.found.add("G1b", || evidence);
            }
            let order = &self.versions.orders[key as usize].elements;
            // Nearly always: the beginning of what is known to be in order.
            if list.len() > tainted[key as usize] || !order.starts_with(list) {
                self.each_element(at, key, list);
            }
        }
    }

    /// Elements that are there twice, that nobody appended, or whose transaction failed.
    fn each_element(&mut self, at: u32, key: u32, list: &[Atom]) {
        let mut sorted = list.to_vec();
        sorted.sort_unstable();
        let of = || format!("key {}", self.transactions.key(key));
        if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            let evidence = vec![
                format!("{} is more than once in {}", self.name(twice[0]), of()),
                format!("T1 = {}", self.tell(at)),
            ];
            self.found.add("duplicate-elements", || evidence);
        }
        let appends = || list.iter().map(|element| (*element, self.versions.append(key, *element)));
        if let Some((element, _)) = appends().find(|(_, append)| append.is_none()) {
            let evidence = vec![
                format!("{} is in {}, and nobody appended it", self.name(element), of()),
                format!("T1 = {}", self.tell(at)),
            ];
            self.found.add("garbage-read", || evidence);
        }
        let aborted = |by: u32| self.transactions.outcome(by) == Outcome::Fail;
        let failed = appends().find_map(|(element, append)| Some((element, append?.by)).filter(|(_, by)| aborted(*by)));
        if let Some((element, by)) = failed.filter(|_| self.transactions.outcome(at) == Outcome::Ok) {
            let evidence = vec![
                format!("T1 read {} in {}, which T2 appended, and T2 failed", self.name(element), of()),
                format!("T1 = {}", self.tell(at)),
                format!("T2 = {}", self.tell(by)),
            ];
            self.found.add("G1a", || evidence);
        }
    }

    /// Whether a transaction has several steps on one key: without, it can neither contradict itself nor update what it read.
    fn comes_back(&mut self, at: u32) -> bool {
        self.keys.clear();
        self.keys.extend(self.transactions.steps(at).iter().map(|step| match *step {
            Step::Append { key, .. } | Step::Read { key, .. } => key,
        }));
        self.keys.sort_unstable();
        self.keys.windows(2).any(|pair| pair[0] == pair[1])
    }

    /// What a transaction reads is what it read last of that key, and what it appended since.
    fn internal(&mut self, at: u32) {
        // By key: what was read, if anything, and what was appended since.
        let mut states: BTreeMap<u32, (Option<&[Atom]>, Vec<Atom>)> = BTreeMap::new();
        for step in self.transactions.steps(at) {
            match *step {
                Step::Append { key, element } => states.entry(key).or_default().1.push(element),
                Step::Read { key, list } => {
                    let list = self.transactions.list(list).unwrap_or_default();
                    let Some((before, since)) = states.insert(key, (Some(list), Vec::new())) else { continue };
                    let as_expected = match before {
                        Some(before) => list.strip_prefix(before).is_some_and(|rest| rest == since),
                        None => list.ends_with(&since),
                    };
                    if !as_expected {
                        let names = &self.transactions.names;
                        let expected = match before {
                            Some(before) => names.list(&[before, &since[..]].concat()),
                            None => format!("a list that ends with {}", names.list(&since)),
                        };
                        let (key, read) = (self.transactions.key(key), names.list(list));
                        let evidence = vec![
                            format!("T1 read key {key} as {read}, and its own steps before leave {expected}"),
                            format!("T1 = {}", self.tell(at)),
                        ];
                        self.found.add("internal", || evidence);
                        return;
                    }
                }
            }
        }
    }

    /// A transaction does not read what it appends only later.
    fn future_read(&mut self, at: u32) {
        let steps = self.transactions.steps(at);
        for (place, step) in steps.iter().enumerate() {
            let Step::Append { key, element } = *step else { continue };
            let reads_it = |step: &Step| match *step {
                Step::Read { key: of, list } => {
                    of == key && self.transactions.list(list).is_some_and(|list| list.contains(&element))
                }
                Step::Append { .. } => false,
            };
            if steps[..place].iter().any(reads_it) {
                let (element, key) = (self.name(element), self.transactions.key(key));
                let evidence = vec![
                    format!("T1 read {element} in key {key} before it appended it"),
                    format!("T1 = {}", self.tell(at)),
                ];
                self.found.add("future-read", || evidence);
                return;
            }
        }
    }

    /// Two reads of one key of which neither is the beginning of the other.
    fn contradictions(&mut self) {
        for (key, order) in (0..).zip(&self.versions.orders) {
            let Some((one, other)) = order.contradiction else { continue };
            let evidence = vec![
                format!("no order of the elements of key {} explains what T1 and T2 read", self.transactions.key(key)),
                format!("T1 = {}", self.tell(one)),
                format!("T2 = {}", self.tell(other)),
            ];
            self.found.add("incompatible-order", || evidence);
        }
    }

    /// A transaction that took effect appended to what one that failed had left.
    fn dirty_updates(&mut self) {
        for (key, order) in (0..).zip(&self.versions.orders) {
            let mut aborted: Option<u32> = None;
            for element in &order.elements {
                let Some(by) = self.versions.append(key, *element).map(|append| append.by) else { continue };
                match self.transactions.outcome(by) {
                    Outcome::Fail => aborted = aborted.or(Some(by)),
                    Outcome::Unknown => {}
                    Outcome::Ok => {
                        let Some(failed) = aborted.take() else { continue };
                        let (element, key) = (self.name(*element), self.transactions.key(key));
                        let evidence = vec![
                            format!("T2 appended {element} to key {key} on top of what T1 had appended, and T1 failed"),
                            format!("T1 = {}", self.tell(failed)),
                            format!("T2 = {}", self.tell(by)),
                        ];
                        self.found.add("dirty-update", || evidence);
                    }
                }
            }
        }
    }

    /// Two transactions read the same list and then both appended to it. `all` are those that took effect and may have.
    fn lost_updates(&mut self, all: &[u32]) {
        let mut updates: Vec<(u32, &[Atom], u32)> = Vec::new();
        for at in all.iter().copied() {
            let mut read: BTreeMap<u32, &[Atom]> = BTreeMap::new();
            let mut appended = BTreeSet::new();
            for step in self.transactions.steps(at) {
                match *step {
                    Step::Read { key, list } => {
                        read.entry(key).or_insert(self.transactions.list(list).unwrap_or_default());
                    }
                    Step::Append { key, .. } if appended.insert(key) => {
                        updates.extend(read.get(&key).map(|list| (key, *list, at)));
                        // What it reads afterwards has its own append in it.
                        read.entry(key).or_default();
                    }
                    Step::Append { .. } => {}
                }
            }
        }
        // Length and last element first: lists are long, and mostly these tell them apart.
        updates.sort_unstable_by(|(key, list, at), (other_key, other, other_at)| {
            let ends = (key, list.len(), list.last()).cmp(&(other_key, other.len(), other.last()));
            ends.then_with(|| list.cmp(other)).then(at.cmp(other_at))
        });
        for same in updates.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)).filter(|same| same.len() > 1) {
            let (key, list, _) = same[0];
            let (key, list) = (self.transactions.key(key), self.transactions.names.list(list));
            let (count, names) = (same.len(), (1..).zip(same).take(8));
            let mut evidence = vec![format!("{count} transactions read key {key} as {list} and appended to it")];
            evidence.extend(names.map(|(name, (.., at))| format!("T{name} = {}", self.tell(*at))));
            self.found.add("lost-update", || evidence);
        }
    }
}
