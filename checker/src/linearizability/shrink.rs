//! A smaller history that cannot be linearized either.
//!
//! An operation may be dropped when the rest would still be linearizable if all were: what only reads always may, and what
//! writes together with everything that might have observed it. So what is left after any dropping still accuses.

use super::search::{Answer, Budget, Model, Span, State, search};

/// Some of a model's operations, as a model.
struct Part<'a, M> {
    whole: &'a M,
    ops: &'a [u32],
}

impl<M: Model> Model for Part<'_, M> {
    fn initial(&self) -> State {
        self.whole.initial()
    }

    fn step(&self, state: State, op: usize) -> Option<State> {
        self.whole.step(state, self.ops[op] as usize)
    }

    fn only_reads(&self, op: usize) -> bool {
        self.whole.only_reads(self.ops[op] as usize)
    }

    fn is_telling(&self, op: usize) -> bool {
        self.whole.is_telling(self.ops[op] as usize)
    }

    fn name(&self, op: usize) -> u64 {
        self.whole.name(self.ops[op] as usize)
    }

    fn is_promising(&self, state: State) -> bool {
        self.whole.is_promising(state)
    }

    fn observes(&self, op: usize, writer: usize) -> bool {
        self.whole.observes(self.ops[op] as usize, self.ops[writer] as usize)
    }

    fn overwrites(&self, op: usize) -> bool {
        self.whole.overwrites(self.ops[op] as usize)
    }

    fn tell(&self, op: usize) -> String {
        self.whole.tell(self.ops[op] as usize)
    }
}

/// Searches among some of the operations; the answer names them as the whole does.
pub(super) fn search_part<M: Model>(model: &M, spans: &[Span], ops: &[u32], budget: &mut Budget) -> Answer {
    let part: Vec<Span> = ops.iter().map(|op| spans[*op as usize]).collect();
    let named = |order: Vec<u32>| order.into_iter().map(|op| ops[op as usize]).collect();
    match search(&Part { whole: model, ops }, &part, budget) {
        Answer::Linearizable(order) => Answer::Linearizable(named(order)),
        Answer::Impossible { stuck, longest } => {
            Answer::Impossible { stuck: ops[stuck as usize], longest: named(longest) }
        }
        Answer::Unknown => Answer::Unknown,
    }
}

/// As few of the operations as can be found within the budget, among which there is still no order. `stuck` is where the
/// search among all of them ended.
pub(super) fn shrink<M: Model>(model: &M, spans: &[Span], stuck: u32, budget: &mut Budget) -> Vec<u32> {
    let end = spans[stuck as usize].returned;
    // What was invoked later has no part in it.
    let mut ops: Vec<u32> = (0..spans.len() as u32).filter(|op| spans[*op as usize].invoked <= end).collect();
    if let Some(few) = around(model, spans, &ops, stuck, budget) {
        ops = few;
    }
    // First what was overwritten counts as if it could be seen: that is quicker, and leaves less for the second round.
    for overwritten_too in [false, true] {
        loop {
            let before = ops.len();
            for reads in [true, false] {
                ops = Dropping { model, spans, reads, overwritten_too }.from(ops, budget);
            }
            if ops.len() == before {
                break;
            }
        }
    }
    ops
}

/// How many of the last operations are looked at first.
const NEAR: usize = 2;
/// How many at most; each time four times as many.
const NEAR_MOST: usize = 1024;

/// The last operations before `stuck` and what they may have observed, if there is no order of those already. In a long history
/// that is quicker than to drop all the others bit by bit.
fn around<M: Model>(model: &M, spans: &[Span], ops: &[u32], stuck: u32, budget: &mut Budget) -> Option<Vec<u32>> {
    let mut latest: Vec<u32> = ops.to_vec();
    latest.sort_by_key(|op| std::cmp::Reverse(spans[*op as usize].invoked));
    let overwriting = OverwrittenBy::of(model, spans, ops);
    let writers: Vec<(u32, u64)> = ops
        .iter()
        .filter(|op| !model.only_reads(**op as usize))
        .map(|op| (*op, overwriting.after(spans[*op as usize].returned)))
        .collect();
    let mut near = NEAR;
    while near <= NEAR_MOST && near * 2 < ops.len() {
        let window: Vec<u32> = latest[..near].iter().copied().chain([stuck]).collect();
        let mut is_kept = vec![false; spans.len()];
        window.iter().for_each(|op| is_kept[*op as usize] = true);
        looked_at(window.len() as u64 * writers.len() as u64, budget)?;
        for op in window {
            let origins = || writers.iter().filter(|(writer, _)| model.observes(op as usize, *writer as usize));
            let visible = origins().filter(|(_, gone)| spans[op as usize].invoked <= *gone);
            let mut kept = 0;
            visible.for_each(|(writer, _)| {
                is_kept[*writer as usize] = true;
                kept += 1;
            });
            // It came from nowhere that can be seen any more: then the last that it might come from.
            if kept == 0
                && let Some((writer, _)) = origins().max_by_key(|(writer, _)| spans[*writer as usize].returned)
            {
                is_kept[*writer as usize] = true;
            }
        }
        let dropped: Vec<u32> = ops.iter().copied().filter(|op| !is_kept[*op as usize]).collect();
        if dropped.len() * 2 < ops.len() {
            return None;
        }
        let rest = without(model, spans, ops, dropped, true, budget)?;
        let is_told = keeps_origins(model, ops, &rest, budget);
        if is_told && matches!(search_part(model, spans, &rest, budget), Answer::Impossible { .. }) {
            return Some(rest);
        }
        near *= 4;
    }
    None
}

/// Looking whether one operation may have observed another costs less than a step of a search. `None`: there is not so much left.
fn looked_at(pairs: u64, budget: &mut Budget) -> Option<()> {
    budget.steps = budget.steps.saturating_sub(pairs / 16);
    (budget.steps > 0).then_some(())
}

/// Whatever might come from somewhere among all still might among the rest. Not when the budget ends before that is known.
fn keeps_origins<M: Model>(model: &M, ops: &[u32], rest: &[u32], budget: &mut Budget) -> bool {
    let mut has_origin = |op: u32, among: &[u32]| {
        let found = among.iter().position(|writer| model.observes(op as usize, *writer as usize));
        looked_at(found.unwrap_or(among.len()) as u64, budget).map(|()| found.is_some())
    };
    rest.iter().all(|op| has_origin(*op, rest) == Some(true) || has_origin(*op, ops) == Some(false))
}

/// One kind of dropping.
struct Dropping<'a, M> {
    model: &'a M,
    spans: &'a [Span],
    /// What only reads is dropped, else what may write.
    reads: bool,
    /// What writes is dropped also when somebody reads what it wrote, but wrote too late for it to come from there. Then at
    /// least one is kept that it might come from.
    overwritten_too: bool,
}

impl<M: Model> Dropping<'_, M> {
    /// Drops what can be dropped: all at once, then half, and so on to single ones.
    fn from(&self, mut ops: Vec<u32>, budget: &mut Budget) -> Vec<u32> {
        let is_of_kind = |op: &u32| self.model.only_reads(*op as usize) == self.reads;
        let mut size = ops.iter().filter(|op| is_of_kind(op)).count();
        while size > 0 && budget.steps > 0 {
            let mut from = 0;
            loop {
                let chunk: Vec<u32> = ops.iter().copied().filter(is_of_kind).skip(from).take(size).collect();
                if chunk.is_empty() {
                    break;
                }
                let Some(rest) = without(self.model, self.spans, &ops, chunk, self.overwritten_too, budget) else {
                    return ops;
                };
                let needs_origins = self.overwritten_too && !self.reads;
                let is_told = !needs_origins || keeps_origins(self.model, &ops, &rest, budget);
                if is_told && matches!(search_part(self.model, self.spans, &rest, budget), Answer::Impossible { .. }) {
                    ops = rest;
                } else {
                    from += size;
                }
            }
            size /= 2;
        }
        ops
    }
}

/// The operations without some of them, and without what might have observed those, and so on. In an order of all of them,
/// whatever is left still finds what it found: who wrote that is left too. With `overwritten_too` it counts that nobody observes
/// what was overwritten before. `None`: the budget is at its end.
pub(super) fn without<M: Model>(
    model: &M,
    spans: &[Span],
    ops: &[u32],
    mut dropped: Vec<u32>,
    overwritten_too: bool,
    budget: &mut Budget,
) -> Option<Vec<u32>> {
    let overwriting = OverwrittenBy::of(model, spans, ops);
    let mut is_dropped = vec![false; spans.len()];
    dropped.iter().for_each(|op| is_dropped[*op as usize] = true);
    let mut rest: Vec<u32> = ops.iter().copied().filter(|op| !is_dropped[*op as usize]).collect();
    while let Some(writer) = dropped.pop() {
        if model.only_reads(writer as usize) {
            continue;
        }
        looked_at(rest.len() as u64, budget)?;
        let gone = if overwritten_too { overwriting.after(spans[writer as usize].returned) } else { u64::MAX };
        rest.retain(|op| {
            let may_observe = spans[*op as usize].invoked <= gone && model.observes(*op as usize, writer as usize);
            if may_observe {
                dropped.push(*op);
            }
            !may_observe
        });
    }
    Some(rest)
}

/// When what was written is surely overwritten.
struct OverwrittenBy {
    /// What overwrites: when it was invoked, and when the first of those invoked then or later had returned.
    writes: Vec<(u64, u64)>,
}

impl OverwrittenBy {
    fn of<M: Model>(model: &M, spans: &[Span], ops: &[u32]) -> Self {
        let overwriting = ops.iter().filter(|op| model.overwrites(**op as usize)).map(|op| spans[*op as usize]);
        let mut writes: Vec<(u64, u64)> = overwriting.map(|span| (span.invoked, span.returned)).collect();
        writes.sort_unstable();
        let mut first = u64::MAX;
        for (_, returned) in writes.iter_mut().rev() {
            first = first.min(*returned);
            *returned = first;
        }
        OverwrittenBy { writes }
    }

    /// When something invoked after `returned` had returned; `u64::MAX`: never.
    fn after(&self, returned: u64) -> u64 {
        let at = self.writes.partition_point(|(invoked, _)| *invoked <= returned);
        self.writes.get(at).map_or(u64::MAX, |(_, returned)| *returned)
    }
}
