//! Which leader wrote which part of a log.
//!
//! One entry per epoch: the epoch and the offset at which it begins. A leader writes its entry when it is elected,
//! before its first record (KAFKA-7415), so that it can say where every earlier epoch ended even if it never wrote.
//! A follower writes one with the first batch of an epoch.
//!
//! Both columns strictly increase. An entry may begin at the log's end (elected, nothing written yet).
//!
//! We differ from Kafka in one answer: asked for an epoch above all it knows, the cache names its largest one, where
//! Kafka says "undefined". The rule is then the same for every question: the largest epoch not above the asked one.

use broker_types::{LeaderEpoch, Offset, OffsetAndEpoch};

/// One epoch of a log.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct EpochEntry {
    /// The epoch.
    pub epoch: LeaderEpoch,
    /// Offset of its first record, inclusive; where that would be, if it has none.
    pub start: Offset,
}

/// The epochs of one log, oldest first.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct LeaderEpochCache {
    /// Strictly increasing in epoch and in start.
    entries: Vec<EpochEntry>,
}

impl LeaderEpochCache {
    /// A cache from what a checkpoint or a log scan says, oldest first. An entry that contradicts a later one gives way
    /// to it: the later one was written with the knowledge of the earlier.
    #[must_use]
    pub fn from_entries(entries: impl IntoIterator<Item = (LeaderEpoch, Offset)>) -> Self {
        let mut cache = LeaderEpochCache::default();
        for (epoch, start) in entries {
            cache.assign(epoch, start);
        }
        cache
    }

    /// All entries, oldest first.
    #[must_use]
    pub fn entries(&self) -> &[EpochEntry] {
        &self.entries
    }

    /// The newest epoch, with or without records.
    #[must_use]
    pub fn latest(&self) -> Option<LeaderEpoch> {
        self.entries.last().map(|entry| entry.epoch)
    }

    /// Where `epoch` begins, if the cache has it.
    #[must_use]
    pub fn start_of(&self, epoch: LeaderEpoch) -> Option<Offset> {
        let index = self.entries.binary_search_by_key(&epoch, |entry| entry.epoch).ok()?;
        Some(self.entries[index].start)
    }

    /// The epoch that wrote the record at `offset`, given that the log holds one.
    #[must_use]
    pub fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let after = self.entries.partition_point(|entry| entry.start <= offset);
        Some(self.entries[after.checked_sub(1)?].epoch)
    }

    /// `epoch` begins at `start`. Conflicting entries (a later epoch, or a later start) were of a history that did not
    /// come to be, and go. Does nothing for the newest epoch at or after its start. Returns whether anything changed.
    pub fn assign(&mut self, epoch: LeaderEpoch, start: Offset) -> bool {
        if let Some(last) = self.entries.last()
            && last.epoch == epoch
            && last.start <= start
        {
            return false;
        }
        self.entries.retain(|entry| entry.epoch < epoch && entry.start < start);
        self.entries.push(EpochEntry { epoch, start });
        true
    }

    /// The largest epoch not above `asked`, and its end in a log that ends at `log_end` (exclusive). `None` if the
    /// cache is empty.
    ///
    /// An epoch below all known ones is answered with itself and the start of the first known one: its records are
    /// gone from this log, and whoever has any beyond that start differs.
    #[must_use]
    pub fn end_offset_for(&self, asked: LeaderEpoch, log_end: Offset) -> Option<OffsetAndEpoch> {
        let after = self.entries.partition_point(|entry| entry.epoch <= asked);
        let offset = match self.entries.get(after) {
            Some(next) => next.start,
            None if self.entries.is_empty() => return None,
            None => log_end,
        };
        let epoch = after.checked_sub(1).map_or(asked, |floor| self.entries[floor].epoch);
        Some(OffsetAndEpoch { offset, epoch })
    }

    /// The log now ends at `end`: epochs that begin there or later go, also when the log was not longer (KAFKA-10706: a
    /// last epoch without records must not outlive the truncation that refutes it). Returns whether anything changed.
    pub fn truncate_from_end(&mut self, end: Offset) -> bool {
        let keep = self.entries.partition_point(|entry| entry.start < end);
        let changed = keep < self.entries.len();
        self.entries.truncate(keep);
        changed
    }

    /// The log now begins at `start`: of the epochs that began there or earlier the last one stays, and begins at
    /// `start`. Returns whether anything changed.
    pub fn truncate_from_start(&mut self, start: Offset) -> bool {
        let begun = self.entries.partition_point(|entry| entry.start <= start);
        if begun == 0 || (begun == 1 && self.entries[0].start == start) {
            return false;
        }
        self.entries.drain(..begun - 1);
        self.entries[0].start = start;
        true
    }

    /// Forgets everything.
    pub fn clear(&mut self) -> bool {
        let changed = !self.entries.is_empty();
        self.entries.clear();
        changed
    }

    /// Panics, naming the entries, when epochs or starts do not strictly increase.
    pub fn check_invariants(&self) {
        for pair in self.entries.windows(2) {
            assert!(
                pair[0].epoch < pair[1].epoch && pair[0].start < pair[1].start,
                "leader epochs out of order: {:?}",
                self.entries
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cache(entries: &[(i32, i64)]) -> LeaderEpochCache {
        LeaderEpochCache::from_entries(entries.iter().map(|(epoch, start)| (LeaderEpoch(*epoch), Offset(*start))))
    }

    fn end(cache: &LeaderEpochCache, asked: i32, log_end: i64) -> (i32, i64) {
        let found = cache.end_offset_for(LeaderEpoch(asked), Offset(log_end)).unwrap();
        (found.epoch.0, found.offset.0)
    }

    #[test]
    fn an_epoch_ends_where_the_next_one_begins() {
        let cache = cache(&[(1, 0), (2, 10), (5, 20)]);
        assert_eq!(end(&cache, 1, 30), (1, 10));
        assert_eq!(end(&cache, 2, 30), (2, 20));
        assert_eq!(end(&cache, 5, 30), (5, 30));
    }

    #[test]
    fn an_epoch_the_log_never_had_is_answered_with_the_largest_below_it() {
        let cache = cache(&[(1, 0), (2, 10), (5, 20)]);
        assert_eq!(end(&cache, 4, 30), (2, 20));
        assert_eq!(end(&cache, 9, 30), (5, 30));
    }

    #[test]
    fn an_epoch_below_all_known_ones_ends_at_the_first_known_start() {
        assert_eq!(end(&cache(&[(3, 7), (5, 20)]), 2, 30), (2, 7));
        assert_eq!(cache(&[]).end_offset_for(LeaderEpoch(2), Offset(0)), None);
    }

    #[test]
    fn an_election_without_writes_still_ends_the_epoch_before_it() {
        let mut cache = cache(&[(1, 0)]);
        assert!(cache.assign(LeaderEpoch(2), Offset(10)));
        assert!(cache.assign(LeaderEpoch(3), Offset(10)), "the empty epoch 2 gives way to 3 at the same offset");
        assert_eq!(end(&cache, 1, 10), (1, 10));
        assert_eq!(end(&cache, 2, 10), (1, 10));
    }

    #[test]
    fn truncation_to_the_log_end_drops_an_epoch_without_records() {
        let mut cache = cache(&[(1, 0), (2, 10)]);
        assert!(cache.truncate_from_end(Offset(10)));
        assert_eq!(cache.latest(), Some(LeaderEpoch(1)));
        assert!(!cache.truncate_from_end(Offset(10)));
    }

    #[test]
    fn truncation_from_the_start_keeps_the_epoch_of_the_first_record_left() {
        let mut cache = cache(&[(1, 0), (2, 10), (5, 20)]);
        assert!(cache.truncate_from_start(Offset(15)));
        assert_eq!(cache.entries()[0], EpochEntry { epoch: LeaderEpoch(2), start: Offset(15) });
        assert!(!cache.truncate_from_start(Offset(15)));
        assert!(!cache.truncate_from_start(Offset(3)));
    }

    #[derive(Clone, Debug)]
    enum Change {
        Append { epoch_step: i32, count: i64 },
        Elect { epoch_step: i32 },
        CutEnd { keep: u8 },
        CutStart { drop: u8 },
    }

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            (0..3, 1..5i64).prop_map(|(epoch_step, count)| Change::Append { epoch_step, count }),
            (1..3).prop_map(|epoch_step| Change::Elect { epoch_step }),
            any::<u8>().prop_map(|keep| Change::CutEnd { keep }),
            any::<u8>().prop_map(|drop| Change::CutStart { drop }),
        ]
    }

    /// The log as a list of (offset, epoch), and the epochs that were announced beyond its end.
    #[derive(Default)]
    struct Naive {
        records: Vec<(i64, i32)>,
        log_start: i64,
        log_end: i64,
        latest: i32,
    }

    proptest! {
        /// Below the newest epoch the cache answers as a scan of the records would.
        #[test]
        fn the_cache_answers_as_a_scan_of_the_log(changes in prop::collection::vec(change(), 0..60)) {
            let mut cache = LeaderEpochCache::default();
            let mut naive = Naive::default();
            for change in changes {
                match change {
                    Change::Append { epoch_step, count } => {
                        naive.latest += epoch_step;
                        cache.assign(LeaderEpoch(naive.latest), Offset(naive.log_end));
                        for _ in 0..count {
                            naive.records.push((naive.log_end, naive.latest));
                            naive.log_end += 1;
                        }
                    }
                    Change::Elect { epoch_step } => {
                        naive.latest += epoch_step;
                        cache.assign(LeaderEpoch(naive.latest), Offset(naive.log_end));
                    }
                    Change::CutEnd { keep } => {
                        let length = naive.log_end - naive.log_start;
                        naive.log_end = naive.log_start + length * i64::from(keep) / 255;
                        naive.records.retain(|(offset, _)| *offset < naive.log_end);
                        cache.truncate_from_end(Offset(naive.log_end));
                    }
                    Change::CutStart { drop } => {
                        let length = naive.log_end - naive.log_start;
                        naive.log_start += length * i64::from(drop) / 255;
                        naive.records.retain(|(offset, _)| *offset >= naive.log_start);
                        cache.truncate_from_start(Offset(naive.log_start));
                    }
                }
                cache.check_invariants();
                for (offset, epoch) in &naive.records {
                    prop_assert_eq!(cache.epoch_at(Offset(*offset)), Some(LeaderEpoch(*epoch)));
                }
                for asked in 0..=naive.latest {
                    let floor = naive.records.iter().rev().find(|(_, epoch)| *epoch <= asked);
                    let above = naive.records.iter().find(|(_, epoch)| *epoch > asked);
                    if let (Some((_, epoch)), Some((next, _))) = (floor, above) {
                        let found = cache.end_offset_for(LeaderEpoch(asked), Offset(naive.log_end)).unwrap();
                        prop_assert_eq!((found.epoch.0, found.offset.0), (*epoch, *next), "asked {}", asked);
                    } else if let (Some(_), None) = (floor, above) {
                        let found = cache.end_offset_for(LeaderEpoch(asked), Offset(naive.log_end)).unwrap();
                        prop_assert_eq!(found.offset.0, naive.log_end, "asked {}", asked);
                    }
                }
            }
        }
    }
}
