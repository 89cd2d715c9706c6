//! One log as observations tell it, without a byte of content.
//!
//! A log is a list of runs, each a range of offsets that one leader epoch wrote. As long as the same offset and leader
//! epoch mean the same batch, which [`Canon`] checks as batches come, two logs are equal below an offset exactly when
//! their runs are: comparing replicas costs a step per epoch, and memory is one copy of each batch's name per partition.

/// The epoch of offsets that nobody observed being written (a crash came between the write and its observation).
pub(crate) const UNKNOWN: i32 = -1;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Run {
    from: i64,
    epoch: i32,
}

/// Offsets from `start`, inclusive, to `end`, exclusive, by the leader epoch that wrote them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Runs {
    start: i64,
    runs: Vec<Run>,
    end: i64,
}

impl Runs {
    pub(crate) fn start(&self) -> i64 {
        self.start
    }

    pub(crate) fn end(&self) -> i64 {
        self.end
    }

    /// The epoch of the last run that is known.
    pub(crate) fn last_epoch(&self) -> i32 {
        self.runs.iter().rev().map(|run| run.epoch).find(|epoch| *epoch != UNKNOWN).unwrap_or(UNKNOWN)
    }

    /// Adds offsets up to `end` at the end.
    pub(crate) fn extend(&mut self, end: i64, epoch: i32) {
        if end <= self.end {
            return;
        }
        if self.runs.last().is_none_or(|run| run.epoch != epoch) {
            self.runs.push(Run { from: self.end, epoch });
        }
        self.end = end;
    }

    /// Forgets everything from `to` on.
    pub(crate) fn truncate(&mut self, to: i64) {
        if to >= self.end {
            return;
        }
        while self.runs.last().is_some_and(|run| run.from >= to) {
            self.runs.pop();
        }
        self.end = to;
        self.start = self.start.min(to);
    }

    /// An empty log that begins at `at`.
    pub(crate) fn reset(&mut self, at: i64) {
        *self = Runs { start: at, runs: Vec::new(), end: at };
    }

    /// The log begins at `start` from now on.
    pub(crate) fn set_start(&mut self, start: i64) {
        if start > self.end {
            self.reset(start);
        }
        self.start = start;
    }

    /// The epoch that wrote `offset`; `None` if it is not in the log.
    pub(crate) fn epoch_at(&self, offset: i64) -> Option<i32> {
        if offset < self.start || offset >= self.end {
            return None;
        }
        let after = self.runs.partition_point(|run| run.from <= offset);
        Some(after.checked_sub(1).map_or(UNKNOWN, |at| self.runs[at].epoch))
    }

    /// Whether nobody saw who wrote some of `from..to`.
    pub(crate) fn has_unknown(&self, from: i64, to: i64) -> bool {
        let mut at = from.max(self.start);
        while at < to.min(self.end) {
            let (epoch, end) = self.run_at(at);
            if epoch == UNKNOWN {
                return true;
            }
            at = end;
        }
        false
    }

    /// The first offset in `from..to` that both logs have and that different epochs wrote.
    pub(crate) fn first_difference(&self, other: &Runs, from: i64, to: i64) -> Option<i64> {
        let mut at = from.max(self.start).max(other.start);
        let to = to.min(self.end).min(other.end);
        while at < to {
            let (own, own_end) = self.run_at(at);
            let (others, others_end) = other.run_at(at);
            if own != others && own != UNKNOWN && others != UNKNOWN {
                return Some(at);
            }
            at = own_end.min(others_end);
        }
        None
    }

    fn run_at(&self, offset: i64) -> (i32, i64) {
        let after = match self.runs.last() {
            Some(last) if last.from <= offset => self.runs.len(),
            _ => self.runs.partition_point(|run| run.from <= offset),
        };
        let end = self.runs.get(after).map_or(self.end, |run| run.from);
        (after.checked_sub(1).map_or(UNKNOWN, |at| self.runs[at].epoch), end)
    }

    /// Takes over what `other` has from this log's end to `to`.
    pub(crate) fn extend_from(&mut self, other: &Runs, to: i64) {
        while self.end < to {
            let (epoch, end) = match self.end < other.end {
                true => other.run_at(self.end),
                false => (UNKNOWN, to),
            };
            self.extend(end.min(to), epoch);
        }
    }

    /// Where offsets of `epoch` and later begin.
    pub(crate) fn end_below(&self, epoch: i32) -> i64 {
        self.runs.iter().find(|run| run.epoch >= epoch).map_or(self.end, |run| run.from)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Batch {
    base: i64,
    count: u32,
    crc: u32,
}

impl Batch {
    fn new(base: i64, last: i64, crc: u32) -> Self {
        Batch { base, count: u32::try_from(last - base + 1).unwrap_or(u32::MAX), crc }
    }

    /// The offset after its last.
    fn end(&self) -> i64 {
        self.base + i64::from(self.count)
    }

    fn known(&self) -> Known {
        Known::Other { base: self.base, last: self.end() - 1, crc: self.crc }
    }
}

/// Every batch of one partition by offset and leader epoch: what each name stands for, whoever wrote it first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Canon {
    /// By epoch, ascending; within, by base, ascending and disjoint.
    epochs: Vec<(i32, Vec<Batch>)>,
}

/// What the canon says of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Known {
    /// Nobody wrote these offsets in that epoch before.
    New,
    /// It is the batch that is known by that name.
    Same,
    /// Another one is: its first offset, its last, its CRC.
    Other { base: i64, last: i64, crc: u32 },
}

impl Canon {
    /// Looks a batch up, and remembers it if it is new. `hint` is where its writer's last one was.
    pub(crate) fn enter(&mut self, epoch: i32, base: i64, last: i64, crc: u32, hint: &mut usize) -> Known {
        let at = match self.epochs.last() {
            Some((newest, _)) if *newest == epoch => self.epochs.len() - 1,
            _ => match self.epochs.binary_search_by_key(&epoch, |(epoch, _)| *epoch) {
                Ok(at) => at,
                Err(at) => {
                    self.epochs.insert(at, (epoch, Vec::new()));
                    at
                }
            },
        };
        let batches = &mut self.epochs[at].1;
        let batch = Batch::new(base, last, crc);
        if batches.last().is_none_or(|newest| newest.end() <= base) {
            *hint = batches.len() + 1;
            batches.push(batch);
            return Known::New;
        }
        if batches.get(*hint).is_some_and(|expected| *expected == batch) {
            *hint += 1;
            return Known::Same;
        }
        match overlapping(batches, base, last) {
            Ok(at) if batches[at] == batch => {
                *hint = at + 1;
                Known::Same
            }
            Ok(at) => batches[at].known(),
            Err(at) => {
                batches.insert(at, batch);
                *hint = at + 1;
                Known::New
            }
        }
    }

    /// Looks a batch up without remembering it.
    pub(crate) fn look_up(&self, epoch: i32, base: i64, last: i64, crc: u32) -> Known {
        let Ok(at) = self.epochs.binary_search_by_key(&epoch, |(epoch, _)| *epoch) else { return Known::New };
        let batches = &self.epochs[at].1;
        match overlapping(batches, base, last) {
            Ok(at) if batches[at] == Batch::new(base, last, crc) => Known::Same,
            Ok(at) => batches[at].known(),
            Err(_) => Known::New,
        }
    }
}

/// The first batch that has any offset of `base..=last`, which is not empty; else where such a batch would be.
fn overlapping(batches: &[Batch], base: i64, last: i64) -> Result<usize, usize> {
    let at = batches.partition_point(|known| known.end() <= base);
    if batches.get(at).is_some_and(|known| known.base <= last) { Ok(at) } else { Err(at) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn runs(spec: &[(i64, i32)]) -> Runs {
        let mut runs = Runs::default();
        for (end, epoch) in spec {
            runs.extend(*end, *epoch);
        }
        runs
    }

    #[test]
    fn logs_differ_where_another_epoch_wrote() {
        let (left, right) = (runs(&[(10, 1), (15, 2)]), runs(&[(12, 1), (15, 2)]));
        assert_eq!(left.first_difference(&right, 0, 15), Some(10));
        assert_eq!(left.first_difference(&right, 0, 10), None);
        assert_eq!(left.first_difference(&right, 12, 15), None);
        let unknown = runs(&[(10, 1), (15, UNKNOWN)]);
        assert_eq!(left.first_difference(&unknown, 0, 15), None, "what nobody saw accuses nobody");
        assert_eq!(left.end_below(2), 10);
        assert!(!left.has_unknown(0, 15) && unknown.has_unknown(0, 11) && !unknown.has_unknown(0, 10));
    }

    #[test]
    fn a_name_stands_for_one_batch() {
        let (mut canon, mut leader, mut follower) = (Canon::default(), 0, 0);
        assert_eq!(canon.enter(1, 0, 4, 7, &mut leader), Known::New);
        assert_eq!(canon.enter(1, 5, 5, 8, &mut leader), Known::New);
        assert_eq!(canon.enter(1, 0, 4, 7, &mut follower), Known::Same);
        assert_eq!(canon.enter(1, 5, 5, 9, &mut follower), Known::Other { base: 5, last: 5, crc: 8 });
        assert_eq!(canon.enter(1, 3, 5, 8, &mut follower), Known::Other { base: 0, last: 4, crc: 7 });
        assert_eq!(canon.enter(2, 5, 5, 9, &mut follower), Known::New);
        assert_eq!(canon.look_up(1, 5, 5, 8), Known::Same);
        assert_eq!(canon.look_up(1, 4, 4, 8), Known::Other { base: 0, last: 4, crc: 7 });
    }

    #[test]
    fn a_batch_over_the_beginning_of_another_is_another() {
        let mut canon = Canon::default();
        assert_eq!(canon.enter(1, 3, 4, 7, &mut 0), Known::New);
        assert_eq!(canon.look_up(1, 0, 3, 7), Known::Other { base: 3, last: 4, crc: 7 });
        assert_eq!(canon.look_up(1, 0, 2, 7), Known::New);
        assert_eq!(canon.enter(1, 0, 3, 7, &mut 0), Known::Other { base: 3, last: 4, crc: 7 });
        assert_eq!(canon.enter(1, 0, 2, 7, &mut 0), Known::New);
    }

    #[test]
    fn a_log_whose_records_are_all_deleted_knows_who_wrote_last() {
        let mut log = runs(&[(5, 1), (9, UNKNOWN)]);
        log.set_start(9);
        assert_eq!((log.start(), log.end(), log.last_epoch()), (9, 9, 1));
        log.set_start(10);
        assert_eq!((log.start(), log.end(), log.last_epoch()), (10, 10, UNKNOWN), "what is there now is another log");
    }

    /// A log as a list of epochs.
    #[derive(Default, Debug)]
    struct Naive {
        start: i64,
        end: i64,
        epochs: BTreeMap<i64, i32>,
    }

    impl Naive {
        fn epoch(&self, offset: i64) -> i32 {
            self.epochs.get(&offset).copied().unwrap_or(UNKNOWN)
        }

        fn kept(&self) -> std::ops::Range<i64> {
            self.start..self.end
        }

        fn extend(&mut self, to: i64, epoch: impl Fn(i64) -> i32) {
            self.epochs.extend((self.end..to).map(|at| (at, epoch(at))));
            self.end = self.end.max(to);
        }
    }

    type Step = (u8, i64, i32);

    fn drive(steps: &[Step]) -> (Runs, Naive) {
        let (mut runs, mut naive) = (Runs::default(), Naive::default());
        for (step, count, epoch) in steps {
            match step {
                0 => {
                    let to = naive.end.min(naive.end - count + 1).max(0);
                    runs.truncate(to);
                    naive.epochs.retain(|at, _| *at < to);
                    (naive.end, naive.start) = (to, naive.start.min(to));
                }
                1 => {
                    let start = (naive.end + 2 - count).max(0);
                    runs.set_start(start);
                    if start > naive.end {
                        (naive.end, naive.epochs) = (start, BTreeMap::new());
                    }
                    naive.start = start;
                }
                _ => {
                    // One before the end adds nothing.
                    let to = (naive.end + count - 1).max(0);
                    runs.extend(to, *epoch);
                    naive.extend(to, |_| *epoch);
                }
            }
        }
        (runs, naive)
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        prop::collection::vec((0u8..4, 0i64..6, -1i32..4), 0..20)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn runs_are_a_list_of_epochs_in_short(left in steps(), right in steps(), from in 0i64..12, to in 0i64..24) {
            let ((mut runs, mut naive), (other, other_naive)) = (drive(&left), drive(&right));
            prop_assert_eq!((runs.start(), runs.end()), (naive.start, naive.end));
            for at in -1..=naive.end {
                prop_assert_eq!(runs.epoch_at(at), naive.kept().contains(&at).then(|| naive.epoch(at)));
            }
            let known = naive.epochs.values().rev().find(|epoch| **epoch != UNKNOWN);
            prop_assert_eq!(runs.last_epoch(), known.copied().unwrap_or(UNKNOWN));
            for epoch in 0..4 {
                let first = naive.epochs.iter().find(|(_, by)| **by >= epoch).map_or(naive.end, |(at, _)| *at);
                prop_assert_eq!(runs.end_below(epoch), first);
            }
            let unknown = naive.kept().any(|at| (from..to).contains(&at) && naive.epoch(at) == UNKNOWN);
            prop_assert_eq!(runs.has_unknown(from, to), unknown);
            let differs = |at: &i64| {
                let (own, others) = (naive.epoch(*at), other_naive.epoch(*at));
                other_naive.kept().contains(at) && own != others && own != UNKNOWN && others != UNKNOWN
            };
            let first = naive.kept().filter(|at| (from..to).contains(at)).find(differs);
            prop_assert_eq!(runs.first_difference(&other, from, to), first);
            runs.extend_from(&other, to);
            naive.extend(to, |at| if at < other_naive.end { other_naive.epoch(at) } else { UNKNOWN });
            prop_assert_eq!(runs.end(), naive.end);
            for at in naive.kept() {
                prop_assert_eq!(runs.epoch_at(at), Some(naive.epoch(at)));
            }
        }

        #[test]
        fn a_name_stands_for_the_first_batch_that_was_there(
            batches in prop::collection::vec((0i32..2, 0i64..10, 0i64..4, 0u32..2, 0usize..3), 0..20),
        ) {
            let (mut canon, mut hints, mut known) = (Canon::default(), [0; 3], Vec::new());
            for (epoch, base, more, crc, writer) in batches {
                let last = base + more;
                let there = |entry: &&(i32, i64, i64, u32)| entry.0 == epoch && entry.1 <= last && base <= entry.2;
                let expected = match known.iter().filter(there).min_by_key(|entry| entry.1) {
                    None => Known::New,
                    Some(entry) if *entry == (epoch, base, last, crc) => Known::Same,
                    Some((_, base, last, crc)) => Known::Other { base: *base, last: *last, crc: *crc },
                };
                prop_assert_eq!(canon.look_up(epoch, base, last, crc), expected);
                prop_assert_eq!(canon.enter(epoch, base, last, crc, &mut hints[writer]), expected);
                if expected == Known::New {
                    known.push((epoch, base, last, crc));
                }
            }
        }
    }
}
