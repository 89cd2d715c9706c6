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
        let batch = Batch { base, count: u32::try_from(last - base + 1).unwrap_or(u32::MAX), crc };
        if batches.last().is_none_or(|newest| newest.base + i64::from(newest.count) <= base) {
            *hint = batches.len() + 1;
            batches.push(batch);
            return Known::New;
        }
        if batches.get(*hint).is_some_and(|expected| *expected == batch) {
            *hint += 1;
            return Known::Same;
        }
        let after = batches.partition_point(|known| known.base <= base);
        let overlaps = |known: &Batch| known.base <= last && base < known.base + i64::from(known.count);
        let found = after.checked_sub(1).filter(|at| overlaps(&batches[*at]));
        match found.or((after < batches.len() && overlaps(&batches[after])).then_some(after)) {
            Some(at) if batches[at] == batch => {
                *hint = at + 1;
                Known::Same
            }
            Some(at) => {
                let Batch { base, count, crc } = batches[at];
                Known::Other { base, last: base + i64::from(count) - 1, crc }
            }
            None => {
                batches.insert(after, batch);
                *hint = after + 1;
                Known::New
            }
        }
    }

    /// Looks a batch up without remembering it.
    pub(crate) fn look_up(&self, epoch: i32, base: i64, last: i64, crc: u32) -> Known {
        let Ok(at) = self.epochs.binary_search_by_key(&epoch, |(epoch, _)| *epoch) else { return Known::New };
        let batches = &self.epochs[at].1;
        let after = batches.partition_point(|known| known.base <= base);
        let Some(known) = after.checked_sub(1).map(|at| batches[at]) else { return Known::New };
        let known_last = known.base + i64::from(known.count) - 1;
        match () {
            () if base > known_last => Known::New,
            () if (known.base, known_last, known.crc) == (base, last, crc) => Known::Same,
            () => Known::Other { base: known.base, last: known_last, crc: known.crc },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn runs_are_a_list_of_epochs_in_short(
            steps in prop::collection::vec((0u8..3, 0i64..6, -1i32..4), 0..30),
            others in prop::collection::vec((0u8..3, 0i64..6, -1i32..4), 0..30),
        ) {
            fn drive(steps: &[(u8, i64, i32)]) -> (Runs, Vec<i32>) {
                let (mut runs, mut naive) = (Runs::default(), Vec::new());
                for (step, count, epoch) in steps {
                    if *step == 0 {
                        let to = (naive.len() as i64 - count).max(0);
                        runs.truncate(to);
                        naive.truncate(to as usize);
                    } else {
                        naive.extend((0..*count).map(|_| *epoch));
                        runs.extend(naive.len() as i64, *epoch);
                    }
                }
                (runs, naive)
            }
            let ((runs, naive), (other, other_naive)) = (drive(&steps), drive(&others));
            prop_assert_eq!(runs.end(), naive.len() as i64);
            for (at, epoch) in naive.iter().enumerate() {
                prop_assert_eq!(runs.epoch_at(at as i64), Some(*epoch));
            }
            let differs = naive.iter().zip(&other_naive).position(|(a, b)| a != b && *a != UNKNOWN && *b != UNKNOWN);
            prop_assert_eq!(runs.first_difference(&other, 0, i64::MAX), differs.map(|at| at as i64));
        }
    }
}
