//! Operations by their returns: which are open at each.

use super::{Model, Span};
use std::collections::{BTreeMap, VecDeque};

/// Most entries of the table of open operations: 256 MB.
const MOST: usize = 1 << 26;

/// The returns in their order, and what is open at each of them.
pub(super) struct Timeline {
    /// The operation that returns, by position.
    pub(super) returns: Vec<u32>,
    /// Where the bit of each operation is in a set. Those that return share slots: a slot is free again after the return.
    pub(super) slot: Vec<u32>,
    /// Words of a set that those take which return.
    pub(super) closed_words: usize,
    /// Words of a set.
    pub(super) words: usize,
    /// What is open and returns some time, by position and then by return: the ranges are `starts`. Without what only reads.
    writes: Vec<u32>,
    /// For each of them the slot of the one before it that is equal.
    write_twins: Vec<Option<u32>>,
    write_starts: Vec<usize>,
    /// The same of what only reads.
    reads: Vec<u32>,
    read_starts: Vec<usize>,
    /// Those that never return and may change a state, by invocation.
    endless: Vec<u32>,
    /// How many of them were invoked, by position.
    endless_open: Vec<usize>,
    /// The one before among those equal, by place in `endless`.
    twin: Vec<Option<u32>>,
}

impl Timeline {
    /// `None` when the table would be too large.
    pub(super) fn of(model: &impl Model, spans: &[Span]) -> Option<Self> {
        let count = u32::try_from(spans.len()).ok()?;
        let span = |op: u32| spans[op as usize];
        let mut calls: Vec<u32> = (0..count).collect();
        calls.sort_by_key(|op| span(*op).invoked);
        let mut returns: Vec<u32> = (0..count).filter(|op| span(*op).returned != u64::MAX).collect();
        returns.sort_by_key(|op| span(*op).returned);
        let mut rank = vec![u32::MAX; spans.len()];
        for (at, op) in (0..).zip(&returns) {
            rank[*op as usize] = at;
        }
        let names = names(model, spans.len());
        let is_endless = |op: &u32| span(*op).returned == u64::MAX && !model.only_reads(*op as usize);
        let endless: Vec<u32> = calls.iter().copied().filter(is_endless).collect();
        let mut timeline = Timeline {
            slot: vec![0; spans.len()],
            closed_words: 0,
            words: 0,
            writes: Vec::new(),
            write_twins: Vec::new(),
            write_starts: vec![0],
            reads: Vec::new(),
            read_starts: vec![0],
            endless_open: Vec::with_capacity(returns.len()),
            twin: twins(&names, &endless),
            endless,
            returns,
        };
        let mut calls = calls.into_iter().filter(|op| rank[*op as usize] != u32::MAX).peekable();
        let mut endless_open = 0;
        // By return, so the next to return is first.
        let mut open: VecDeque<u32> = VecDeque::new();
        let (mut free, mut slots) = (Vec::new(), 0);
        // The last of each name, and at which return.
        let mut last = vec![(usize::MAX, 0); spans.len()];
        for at in 0..timeline.returns.len() {
            let returning = timeline.returns[at];
            let now = span(returning).returned;
            while let Some(op) = calls.next_if(|op| span(*op).invoked <= now) {
                let place = open.partition_point(|other| rank[*other as usize] < rank[op as usize]);
                open.insert(place, op);
                timeline.slot[op as usize] = free.pop().unwrap_or_else(|| {
                    slots += 1;
                    slots - 1
                });
            }
            while timeline.endless.get(endless_open).is_some_and(|op| span(*op).invoked <= now) {
                endless_open += 1;
            }
            for op in &open {
                if model.only_reads(*op as usize) {
                    timeline.reads.push(*op);
                    continue;
                }
                let last = &mut last[names[*op as usize] as usize];
                timeline.writes.push(*op);
                timeline.write_twins.push((last.0 == at).then_some(last.1));
                *last = (at, timeline.slot[*op as usize]);
            }
            timeline.write_starts.push(timeline.writes.len());
            timeline.read_starts.push(timeline.reads.len());
            timeline.endless_open.push(endless_open);
            if timeline.writes.len() + timeline.reads.len() > MOST {
                return None;
            }
            open.pop_front();
            free.push(timeline.slot[returning as usize]);
        }
        timeline.closed_words = (slots as usize).div_ceil(64);
        timeline.words = timeline.closed_words + timeline.endless.len().div_ceil(64);
        Some(timeline)
    }

    /// How many returns there are.
    pub(super) fn len(&self) -> usize {
        self.returns.len()
    }

    /// What only reads and is open at a return, and what returns there.
    pub(super) fn reads(&self, position: usize) -> (&[u32], u32) {
        (&self.reads[self.read_starts[position]..self.read_starts[position + 1]], self.returns[position])
    }

    /// How many [`Timeline::candidate`]s there are.
    pub(super) fn candidates(&self, position: usize) -> usize {
        self.write_starts[position + 1] - self.write_starts[position] + self.endless_open[position]
    }

    /// An operation that may take effect next, and its bit: none if it did already, or if one that is equal goes before it.
    pub(super) fn candidate(&self, position: usize, at: usize, sets: &[u64]) -> Option<(u32, usize)> {
        let is_set = |bit: usize| sets[bit / 64] & (1 << (bit % 64)) != 0;
        let (start, end) = (self.write_starts[position], self.write_starts[position + 1]);
        match self.writes[start..end].get(at) {
            Some(op) => {
                let bit = self.slot[*op as usize] as usize;
                let goes_first = self.write_twins[start + at].is_some_and(|twin| !is_set(twin as usize));
                (!is_set(bit) && !goes_first).then_some((*op, bit))
            }
            None => {
                let at = at - (end - start);
                let bit = |at: usize| self.closed_words * 64 + at;
                let goes_first = self.twin[at].is_some_and(|twin| !is_set(bit(twin as usize)));
                (!is_set(bit(at)) && !goes_first).then(|| (self.endless[at], bit(at)))
            }
        }
    }
}

/// The names of operations, as small numbers.
fn names(model: &impl Model, count: usize) -> Vec<u32> {
    let mut numbers = BTreeMap::new();
    let number = |op| {
        let next = numbers.len() as u32;
        *numbers.entry(model.name(op)).or_insert(next)
    };
    (0..count).map(number).collect()
}

/// For each the last one before it that is equal.
fn twins(names: &[u32], endless: &[u32]) -> Vec<Option<u32>> {
    let mut last = BTreeMap::new();
    (0..).zip(endless).map(|(at, op)| last.insert(names[*op as usize], at)).collect()
}
