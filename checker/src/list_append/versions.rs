//! The order of each key's versions, and what it says about the transactions.
//!
//! A list shows its whole past: the longest one read is the order in which its elements came. What was never read came after
//! it, in an order that nobody knows. A key with one append and no read has one order.

use super::transactions::{Step, Transactions};
use crate::exactly_once::dependency_graph::{DependencyGraph, Edge, Kinds, process_order, realtime};
use crate::history::Outcome;
use crate::readers::atoms::Atom;

/// Who appended what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Append {
    pub(crate) key: u32,
    pub(crate) element: Atom,
    pub(crate) by: u32,
    /// It appends to that key again.
    pub(crate) intermediate: bool,
}

/// One key's versions.
#[derive(Default)]
pub(crate) struct Order {
    /// Its elements, each once.
    pub(crate) elements: Vec<Atom>,
    /// Places in `elements`, by element.
    places: Vec<u32>,
    /// The transaction that read the longest list, and two reads that contradict each other, if there are any.
    pub(crate) contradiction: Option<(u32, u32)>,
}

impl Order {
    /// How many versions there are up to the one that ends with `element`; `None` for an element that is not in the order.
    pub(crate) fn version(&self, element: Atom) -> Option<u32> {
        let at = self.places.binary_search_by_key(&element, |place| self.elements[*place as usize]).ok()?;
        Some(self.places[at] + 1)
    }
}

/// All appends and orders of a history.
pub(crate) struct Versions<'t, 'a> {
    pub(crate) transactions: &'t Transactions<'a>,
    /// By key, then element.
    appends: Vec<Append>,
    /// Where each key's appends begin in them; one more at the end.
    starts: Vec<usize>,
    pub(crate) orders: Vec<Order>,
}

/// Most pairs of a reader of the last version and an append that nobody read that become edges, for one key.
const UNREAD_PAIRS: usize = 1_000_000;

impl<'t, 'a> Versions<'t, 'a> {
    pub(crate) fn new(transactions: &'t Transactions<'a>) -> Self {
        let mut appends = Vec::new();
        for by in 0..transactions.all.len() as u32 {
            let steps = transactions.steps(by);
            for (at, step) in steps.iter().enumerate() {
                let Step::Append { key, element } = *step else { continue };
                let again = |later: &Step| matches!(later, Step::Append { key: other, .. } if *other == key);
                let intermediate = steps[at + 1..].iter().any(again);
                appends.push(Append { key, element, by, intermediate });
            }
        }
        appends.sort_unstable_by_key(|append| (append.key, append.element));
        let mut starts = vec![0; transactions.keys.len() + 1];
        for append in &appends {
            starts[append.key as usize + 1] += 1;
        }
        for key in 0..transactions.keys.len() {
            starts[key + 1] += starts[key];
        }
        let mut versions = Versions { transactions, appends, starts, orders: Vec::new() };
        versions.orders = versions.find_orders();
        versions
    }

    /// Every list read by a transaction that may have taken effect, with its key.
    fn reads(&self) -> impl Iterator<Item = (u32, u32, &[Atom])> {
        let possible =
            (0..self.transactions.all.len() as u32).filter(|at| self.transactions.outcome(*at) != Outcome::Fail);
        possible.flat_map(move |at| {
            self.transactions.steps(at).iter().filter_map(move |step| match step {
                Step::Read { key, list } => Some((at, *key, self.transactions.list(*list)?)),
                Step::Append { .. } => None,
            })
        })
    }

    fn find_orders(&self) -> Vec<Order> {
        let mut longest: Vec<Option<(u32, &[Atom])>> = vec![None; self.transactions.keys.len()];
        for (at, key, list) in self.reads().filter(|(.., list)| !list.is_empty()) {
            let known = &mut longest[key as usize];
            if known.is_none_or(|(_, before)| before.len() < list.len()) {
                *known = Some((at, list));
            }
        }
        let mut orders: Vec<Order> = Vec::with_capacity(longest.len());
        for (key, longest) in (0..).zip(&longest) {
            let mut elements = match longest {
                Some((_, list)) => list.to_vec(),
                None => {
                    match self.appends_to(key).iter().filter(|append| self.is_possible(append.by)).collect::<Vec<_>>()[..]
                    {
                        [only] => vec![only.element],
                        _ => Vec::new(),
                    }
                }
            };
            let mut places: Vec<u32> = (0..elements.len() as u32).collect();
            places.sort_unstable_by_key(|place| (elements[*place as usize], *place));
            let all = places.len();
            places.dedup_by_key(|place| elements[*place as usize]);
            if places.len() < all {
                // An element that is there twice came when it came first.
                let mut kept = places.clone();
                kept.sort_unstable();
                elements = kept.iter().map(|place| elements[*place as usize]).collect();
                places = (0..elements.len() as u32).collect();
                places.sort_unstable_by_key(|place| elements[*place as usize]);
            }
            orders.push(Order { elements, places, contradiction: None });
        }
        for (at, key, list) in self.reads() {
            let Some((by, whole)) = longest[key as usize] else { continue };
            if orders[key as usize].contradiction.is_none() && !whole.starts_with(list) {
                orders[key as usize].contradiction = Some((at, by));
            }
        }
        orders
    }

    fn appends_to(&self, key: u32) -> &[Append] {
        &self.appends[self.starts[key as usize]..self.starts[key as usize + 1]]
    }

    /// The append of `element` to `key`.
    pub(crate) fn append(&self, key: u32, element: Atom) -> Option<&Append> {
        let appends = self.appends_to(key);
        let at = appends.binary_search_by_key(&element, |append| append.element).ok()?;
        Some(&appends[at])
    }

    /// It took effect, or may have.
    fn is_possible(&self, at: u32) -> bool {
        self.transactions.outcome(at) != Outcome::Fail
    }

    /// Which transaction appended `element`, unless it had no effect or is `but`.
    fn writer(&self, key: u32, element: Atom, but: u32) -> Option<u32> {
        self.append(key, element).map(|append| append.by).filter(|by| *by != but && self.is_possible(*by))
    }

    /// The version that an append of `element` overwrote, as far as is known; 0 is the empty list.
    fn overwritten(&self, key: u32, element: Atom) -> u32 {
        let order = &self.orders[key as usize];
        order.version(element).map_or(order.elements.len() as u32, |version| version - 1)
    }

    /// The last element of a version; `None` for the empty list.
    fn last_of(&self, key: u32, version: u32) -> Option<Atom> {
        Some(self.orders[key as usize].elements[version.checked_sub(1)? as usize])
    }

    /// The version that was read; `None` when it is not in the order.
    fn version_read(&self, key: u32, list: &[Atom]) -> Option<u32> {
        let order = &self.orders[key as usize];
        match list.last() {
            None => Some(0),
            // Nearly always: a read is the beginning of the longest one.
            Some(last) if order.elements.get(list.len() - 1) == Some(last) => Some(list.len() as u32),
            Some(last) => order.version(*last),
        }
    }

    /// What orders the transactions: nodes are as in [`Transactions::all`]. Says also how many edges are from data, and whether
    /// some had to be left out.
    pub(crate) fn graph(&self, with_processes: bool) -> (DependencyGraph, u64, bool) {
        let transactions = self.transactions;
        let mut edges = Vec::new();
        // Readers by key and version, and appends by what they overwrote.
        let (mut readers, mut writers) = (Vec::<(u32, u32, u32)>::new(), Vec::<(u32, u32, u32)>::new());
        for at in (0..transactions.all.len() as u32).filter(|at| self.is_possible(*at)) {
            for step in transactions.steps(at) {
                match *step {
                    Step::Append { key, element } => {
                        let before = self.overwritten(key, element);
                        writers.push((key, before, at));
                        let writer = self.last_of(key, before).and_then(|last| self.writer(key, last, at));
                        edges.extend(writer.map(|from| Edge { from, to: at, kinds: Kinds::WW }));
                    }
                    Step::Read { key, list } => {
                        let Some(list) = transactions.list(list) else { continue };
                        readers.extend(self.version_read(key, list).map(|version| (key, version, at)));
                        let writer = list.last().and_then(|last| self.writer(key, *last, at));
                        edges.extend(writer.map(|from| Edge { from, to: at, kinds: Kinds::WR }));
                    }
                }
            }
        }
        readers.sort_unstable();
        readers.dedup();
        writers.sort_unstable();
        writers.dedup();
        let mut incomplete = false;
        let same = |a: &(u32, u32, u32), b: &(u32, u32, u32)| (a.0, a.1) == (b.0, b.1);
        for overwriting in writers.chunk_by(same) {
            let (key, version, _) = overwriting[0];
            let from = readers.partition_point(|reader| (reader.0, reader.1) < (key, version));
            let reading = readers[from..].iter().take_while(|reader| same(reader, &overwriting[0]));
            let most = UNREAD_PAIRS / overwriting.len() + 1;
            incomplete |= reading.clone().nth(most).is_some();
            for (_, _, from) in reading.take(most) {
                let rw = |(_, _, to): &(u32, u32, u32)| Edge { from: *from, to: *to, kinds: Kinds::RW };
                edges.extend(overwriting.iter().map(rw).filter(|edge| edge.from != edge.to));
            }
        }
        let data = edges.len() as u64;
        if with_processes {
            let ok = (0..).zip(&transactions.all).filter(|(_, op)| op.outcome == Outcome::Ok);
            edges.extend(process_order(ok.map(|(at, op)| (op.process as u64, at))));
        }
        let possible: Vec<u32> = (0..transactions.all.len() as u32).filter(|at| self.is_possible(*at)).collect();
        let intervals: Vec<_> = possible.iter().map(|at| transactions.all[*at as usize].interval).collect();
        let first = edges.len();
        realtime(&intervals, &mut edges);
        for edge in &mut edges[first..] {
            (edge.from, edge.to) = (possible[edge.from as usize], possible[edge.to as usize]);
        }
        (DependencyGraph::new(transactions.all.len(), &edges), data, incomplete)
    }

    /// Why `from` comes directly before `to` by `kind`, in words. Both are told by their names.
    pub(crate) fn explain(&self, kind: Kinds, (from, name): (u32, &str), (to, other): (u32, &str)) -> String {
        let transactions = self.transactions;
        let atom = |atom: Atom| transactions.names.name(atom);
        let appends = || {
            transactions.steps(to).iter().filter_map(|step| match *step {
                Step::Append { key, element } => Some((key, element, self.overwritten(key, element))),
                Step::Read { .. } => None,
            })
        };
        let lists = |at: u32| {
            transactions.steps(at).iter().filter_map(|step| match *step {
                Step::Read { key, list } => Some((key, transactions.list(list)?)),
                Step::Append { .. } => None,
            })
        };
        let why = match kind {
            Kinds::WW => appends().find_map(|(key, element, before)| {
                let last = self.last_of(key, before).filter(|last| self.writer(key, *last, to) == Some(from))?;
                let (element, last, key) = (atom(element), atom(last), transactions.key(key));
                Some(format!("{name} appended {last} to key {key} before {other} appended {element}"))
            }),
            Kinds::WR => lists(to).find_map(|(key, list)| {
                let last = list.last().filter(|last| self.writer(key, **last, to) == Some(from))?;
                let (last, key) = (atom(*last), transactions.key(key));
                Some(format!("{other} read key {key} up to {last}, which {name} appended"))
            }),
            Kinds::RW => appends().find_map(|(key, element, before)| {
                let saw = |(of, list): &(u32, &[Atom])| *of == key && self.version_read(key, list) == Some(before);
                let (_, list) = lists(from).find(saw)?;
                let (element, key) = (atom(element), transactions.key(key));
                let list = transactions.names.list(list);
                Some(format!("{name} read key {key} as {list}, without the {element} that {other} appended"))
            }),
            Kinds::PROCESS => {
                Some(format!("process {} did {name} before {other}", transactions.all[from as usize].process))
            }
            _ => {
                let (returned, invoked) =
                    (transactions.all[from as usize].lines.1, transactions.all[to as usize].lines.0);
                returned
                    .map(|line| format!("{name} returned (line {line}) before {other} was invoked (line {invoked})"))
            }
        };
        why.unwrap_or_else(|| format!("{name} comes before {other} ({kind:?})"))
    }
}
