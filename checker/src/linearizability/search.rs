//! Whether some order of operations explains what they returned: the general search.
//!
//! Just-in-time linearization, after Wing and Gong, and Lowe. Time is cut at the returns: an operation must take effect
//! before its own, so a place in the search is a return, the set of operations still open that took effect already, and
//! the state. From a place one goes on by letting one more of the open operations take effect, until the one that returns
//! has. The search goes into the depth, keeps its own stack, and never visits a place twice.
//!
//! Three things keep it small, and none costs exactness:
//!
//! - what only reads is let take effect as soon as it can: it changes nothing, so it costs nothing;
//! - what nobody knows the outcome of (it never returns) may be left out. A place that was reached with fewer of them used,
//!   and from which there was no way on, has none with more of them used either;
//! - of operations that are equal the one that returns first goes first.
//!
//! The sets are of open operations only, not of all, so a place takes a few words however long the history is.

mod memo;
mod timeline;

use memo::Memo;
use timeline::Timeline;

/// A state of a model, as the model numbers it.
pub(crate) type State = u64;

/// What operations do.
pub(crate) trait Model {
    /// The state before the first of them.
    fn initial(&self) -> State;

    /// The state after operation `op`, or `None` if it cannot have returned what it did.
    fn step(&self, state: State, op: usize) -> Option<State>;

    /// Operation `op` never changes a state.
    fn only_reads(&self, op: usize) -> bool;

    /// What operation `op` returned says something about the state it found.
    fn is_telling(&self, op: usize) -> bool;

    /// Two operations that may change a state and have equal names do the same, and return the same.
    fn name(&self, op: usize) -> u64;

    /// Whether `state` looks as if it leads on, to be tried before others. Only a matter of speed.
    fn is_promising(&self, state: State) -> bool;

    /// Without `writer`, `op` might not have returned what it did. Never for one that only writes.
    fn observes(&self, op: usize, writer: usize) -> bool;

    /// If it took effect, nothing before it can be seen any more, unless by itself.
    fn overwrites(&self, op: usize) -> bool;

    /// The operation in words: `write 3`, `get → "a"`.
    fn tell(&self, op: usize) -> String;
}

/// When an operation may take effect. Two operations are in order if the first returned before the second was invoked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    /// From here.
    pub(crate) invoked: u64,
    /// Up to here; `u64::MAX`: any time later, or never.
    pub(crate) returned: u64,
}

/// What a search may cost: steps of the model, and of the memory of places. One budget may serve several searches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Budget {
    pub(crate) steps: u64,
}

impl Budget {
    fn spend(&mut self, steps: u64) -> bool {
        let enough = self.steps >= steps;
        self.steps = self.steps.saturating_sub(steps);
        enough
    }
}

/// For how many operations a search keeps the order that got furthest: noting it costs time for each of them.
pub(crate) const TOLD: usize = 4096;

/// What a search found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// Some order explains everything: this one, without what was left out.
    Linearizable(Vec<u32>),
    /// None does.
    Impossible {
        /// The operation whose return no order gets past.
        stuck: u32,
        /// The order that got furthest, and in which `stuck` cannot come next. Empty when there are more than [`TOLD`].
        longest: Vec<u32>,
    },
    /// The budget ran out.
    Unknown,
}

/// A place on the way down.
struct Frame {
    position: usize,
    state: State,
    /// The next to try: all that are open, first those that promise something, then the rest.
    next: usize,
    /// How many had taken effect.
    depth: usize,
}

/// Looks for an order of the operations with these `spans`.
pub(crate) fn search(model: &impl Model, spans: &[Span], budget: &mut Budget) -> Answer {
    let Some(timeline) = Timeline::of(model, spans) else { return Answer::Unknown };
    Search { model, timeline: &timeline, order: Vec::new(), longest: Vec::new(), furthest: 0 }.run(budget)
}

struct Search<'a, M> {
    model: &'a M,
    timeline: &'a Timeline,
    /// What took effect, in order, up to the current place.
    order: Vec<u32>,
    longest: Vec<u32>,
    furthest: usize,
}

impl<M: Model> Search<'_, M> {
    fn run(mut self, budget: &mut Budget) -> Answer {
        let timeline = self.timeline;
        let words = timeline.words;
        let mut memo = Memo::new(timeline.closed_words, words - timeline.closed_words);
        let mut sets = vec![0u64; words];
        let mut stack: Vec<Frame> = Vec::new();
        match self.settle(0, self.model.initial(), &mut sets, budget) {
            None => return Answer::Unknown,
            Some(position) if position == timeline.len() => return Answer::Linearizable(self.order),
            Some(position) => {
                let state = self.model.initial();
                stack.push(Frame { position, state, next: 0, depth: self.order.len() });
            }
        }
        while let Some(frame) = stack.last_mut() {
            self.order.truncate(frame.depth);
            let base = sets.len() - words;
            let candidates = timeline.candidates(frame.position);
            if frame.next == 2 * candidates {
                stack.pop();
                sets.truncate(base);
                continue;
            }
            let (round, at) = (frame.next / candidates, frame.next % candidates);
            frame.next += 1;
            let (position, before) = (frame.position, frame.state);
            let Some((op, bit)) = timeline.candidate(position, at, &sets[base..]) else { continue };
            if !budget.spend(1) {
                return Answer::Unknown;
            }
            let Some(state) = self.model.step(before, op as usize) else { continue };
            let changes_nothing = bit >= timeline.closed_words * 64 && state == before;
            if changes_nothing || (round == 0) != self.model.is_promising(state) {
                continue;
            }
            sets.extend_from_within(base..);
            sets[base + words + bit / 64] |= 1 << (bit % 64);
            self.order.push(op);
            let Some(position) = self.settle(position, state, &mut sets[base + words..], budget) else {
                return Answer::Unknown;
            };
            if position == timeline.len() {
                return Answer::Linearizable(self.order);
            }
            match memo.insert(position, state, &sets[base + words..], budget) {
                None => return Answer::Unknown,
                Some(true) => stack.push(Frame { position, state, next: 0, depth: self.order.len() }),
                Some(false) => sets.truncate(base + words),
            }
        }
        Answer::Impossible { stuck: timeline.returns[self.furthest], longest: self.longest }
    }

    /// Lets everything that only reads, and may read this state, take effect, and goes past every return whose operation
    /// has. Gives the return that is left to reach; `None` when the budget ran out.
    fn settle(&mut self, mut position: usize, state: State, sets: &mut [u64], budget: &mut Budget) -> Option<usize> {
        let timeline = self.timeline;
        loop {
            if position == timeline.len() {
                return Some(position);
            }
            let (reads, first) = timeline.reads(position);
            if !budget.spend(reads.len() as u64 + 1) {
                return None;
            }
            for op in reads {
                let slot = timeline.slot[*op as usize] as usize;
                let is_open = sets[slot / 64] & (1 << (slot % 64)) == 0;
                if is_open && self.model.step(state, *op as usize).is_some() {
                    sets[slot / 64] |= 1 << (slot % 64);
                    self.order.push(*op);
                }
            }
            let slot = timeline.slot[first as usize] as usize;
            if sets[slot / 64] & (1 << (slot % 64)) == 0 {
                break;
            }
            sets[slot / 64] &= !(1 << (slot % 64));
            position += 1;
        }
        let is_longest = position > self.furthest || self.order.len() > self.longest.len();
        if position >= self.furthest {
            self.furthest = position;
            if is_longest && self.timeline.slot.len() <= TOLD {
                self.longest.clone_from(&self.order);
            }
        }
        Some(position)
    }
}
