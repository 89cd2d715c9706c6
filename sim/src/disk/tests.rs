//! The page cache and the power loss against a naive model: the file after each of its writes, in full.

use super::crash::{Losses, SECTOR, survivor};
use super::page_cache::FileData;
use crate::clock::SimTime;
use crate::seed::Seed;
use bytes::Bytes;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    Append(usize),
    /// At a share of the length, in 256ths.
    Write(u64, usize),
    /// To a share of the length, in 256ths.
    Truncate(u64),
    Sync,
    /// Milliseconds.
    Wait(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (1_usize..2_000).prop_map(Op::Append),
        1 => (4_000_usize..20_000).prop_map(Op::Append),
        2 => (0_u64..=256, 1_usize..1_500).prop_map(|(at, len)| Op::Write(at, len)),
        2 => (0_u64..=256).prop_map(Op::Truncate),
        2 => Just(Op::Sync),
        2 => (0_u64..20_000).prop_map(Op::Wait),
    ]
}

/// The model: every content that the file had, and how many of these are surely not to be lost.
struct Model {
    versions: Vec<Vec<u8>>,
    /// When each version is written back by itself.
    due: Vec<SimTime>,
    synced: usize,
}

impl Model {
    fn now_is(&self) -> &Vec<u8> {
        self.versions.last().unwrap()
    }

    fn change(&mut self, due: SimTime, change: impl FnOnce(&mut Vec<u8>)) {
        let mut next = self.now_is().clone();
        change(&mut next);
        self.versions.push(next);
        self.due.push(due);
    }

    /// The first version whose length may be left: lengths are journaled in order.
    fn oldest_length(&self, now: SimTime) -> usize {
        let written_back = self.due.iter().rposition(|due| *due <= now).unwrap_or(0);
        self.synced.max(written_back)
    }

    /// The first version that may be left of a sector: the last that was synced, or that changed it and was written back.
    fn oldest_content(&self, sector: u64, now: SimTime) -> usize {
        let changed = |version: usize| {
            let [before, after] = [version - 1, version].map(|v| sector_of(&self.versions[v], sector, SECTOR as usize));
            self.due[version] <= now && before != after
        };
        let written_back = (1..self.versions.len()).rev().find(|version| changed(*version)).unwrap_or(0);
        self.synced.max(written_back)
    }
}

/// A sector of a version, as long as what is left of the file there, zeros behind its end.
fn sector_of(version: &[u8], sector: u64, len: usize) -> Vec<u8> {
    let from = (sector * SECTOR) as usize;
    let mut bytes = version.get(from..).map_or(Vec::new(), |rest| rest[..rest.len().min(len)].to_vec());
    bytes.resize(len, 0);
    bytes
}

fn play(ops: &[Op], seed: u64) -> (FileData, Model, SimTime) {
    let mut rng = Seed(seed).stream("due");
    let mut file = FileData::empty();
    let mut model = Model { versions: vec![Vec::new()], due: vec![SimTime(0)], synced: 0 };
    let mut now = SimTime::from_secs(1);
    for (index, op) in ops.iter().enumerate() {
        let due = now + crate::seed::DurationRange::millis(1_000, 30_000).draw(&mut rng);
        let fill = |len: usize| -> Vec<u8> { (0..len).map(|at| 1 + ((index * 37 + at) % 250) as u8).collect() };
        let len = model.now_is().len() as u64;
        match *op {
            Op::Append(size) => {
                file.append(Bytes::from(fill(size)), due);
                model.change(due, |bytes| bytes.extend(fill(size)));
            }
            Op::Write(share, size) => {
                let at = len * share / 256;
                file.write(at, Bytes::from(fill(size)), due);
                model.change(due, |bytes| {
                    bytes.resize(bytes.len().max(at as usize + size), 0);
                    bytes[at as usize..at as usize + size].copy_from_slice(&fill(size));
                });
            }
            Op::Truncate(share) if share < 256 && len > 0 => {
                file.set_len(len * share / 256, due);
                model.change(due, |bytes| bytes.truncate((len * share / 256) as usize));
            }
            Op::Truncate(_) => {}
            Op::Sync => {
                file.synced(file.next_write());
                model.synced = model.versions.len() - 1;
            }
            Op::Wait(ms) => now = now + std::time::Duration::from_millis(ms),
        }
        file.settle_due(now);
        assert_eq!(&file.cache.read(0, usize::MAX)[..], &model.now_is()[..], "what readers see after {op:?}");
    }
    (file, model, now)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn a_power_loss_leaves_in_each_sector_what_was_there_at_some_moment_since_the_last_sync(
        ops in proptest::collection::vec(op(), 1..30), seed in any::<u64>(),
    ) {
        let (mut file, model, now) = play(&ops, seed);
        let mut losses = Losses::default();
        let left = survivor(&mut file, now, &mut Seed(seed).stream("power"), &mut losses).read(0, usize::MAX);

        let allowed = &model.versions[model.oldest_length(now)..];
        prop_assert!(allowed.iter().any(|version| version.len() == left.len()), "no version has {} bytes", left.len());
        for (sector, bytes) in left.chunks(SECTOR as usize).enumerate() {
            let allowed = &model.versions[model.oldest_content(sector as u64, now)..];
            let known = allowed.iter().any(|version| sector_of(version, sector as u64, bytes.len()) == bytes);
            prop_assert!(known, "sector {sector} holds what it never held since it was last made durable");
        }
    }

    #[test]
    fn what_is_synced_survives_whole(ops in proptest::collection::vec(op(), 1..30), seed in any::<u64>()) {
        let (mut file, model, now) = play(&ops, seed);
        file.synced(file.next_write());
        let left = survivor(&mut file, now, &mut Seed(seed).stream("power"), &mut Losses::default());
        prop_assert_eq!(&left.read(0, usize::MAX)[..], &model.now_is()[..]);
    }

    #[test]
    fn after_thirty_seconds_everything_survives(ops in proptest::collection::vec(op(), 1..30), seed in any::<u64>()) {
        let (mut file, model, now) = play(&ops, seed);
        let later = now + std::time::Duration::from_secs(30);
        let left = survivor(&mut file, later, &mut Seed(seed).stream("power"), &mut Losses::default());
        prop_assert_eq!(&left.read(0, usize::MAX)[..], &model.now_is()[..]);
    }
}

#[test]
fn every_fate_of_an_unsynced_write_occurs() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let mut file = FileData::empty();
        file.append(Bytes::from(vec![1; 2048]), SimTime::from_secs(30));
        file.append(Bytes::from(vec![2; 2048]), SimTime::from_secs(30));
        let mut rng = Seed(seed).stream("power");
        let left = survivor(&mut file, SimTime(0), &mut rng, &mut Losses::default()).read(0, usize::MAX);
        let has = |byte, range: std::ops::Range<usize>| {
            left.get(range).map(|bytes| bytes.iter().filter(|b| **b == byte).count())
        };
        seen.insert(match (has(1, 0..2048), has(2, 2048..4096)) {
            (Some(2048), Some(2048)) => "both kept",
            (Some(0), Some(2048)) => "the first dropped, the second kept: zeros between",
            (Some(1..2048), _) => "the first torn",
            (None, _) => "the length not journaled",
            _ => "other",
        });
    }
    assert_eq!(seen.len(), 5, "{seen:?}");
}

#[test]
fn what_a_failed_sync_has_marked_clean_never_becomes_durable() {
    let mut file = FileData::empty();
    file.append(Bytes::from_static(b"safe"), SimTime::from_secs(30));
    file.synced(file.next_write());
    file.append(Bytes::from_static(b"lost"), SimTime::from_secs(30));
    assert_eq!(file.sync_failed(file.next_write()), 4);
    file.append(Bytes::from_static(b"more"), SimTime::from_secs(30));
    assert_eq!(file.cache.read(0, 99), "safelostmore", "readers see it until the power goes");
    file.synced(file.next_write());
    let mut rng = Seed(1).stream("power");
    let left = survivor(&mut file, SimTime::from_secs(60), &mut rng, &mut Losses::default());
    assert_eq!(left.read(0, 99), &b"safe\0\0\0\0more"[..], "a later sync says yes, and does not bring it back");
}

#[test]
fn an_append_only_file_is_not_kept_twice() {
    let mut file = FileData::empty();
    for n in 0..1_000_u64 {
        file.append(Bytes::from(vec![7; 100]), SimTime(n));
        file.settle_due(SimTime(n));
    }
    assert_eq!((file.durable_len(), file.dirty.len()), (100_000, 0));
}
