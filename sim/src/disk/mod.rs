//! One disk per host: a page cache, what is durable beneath it, and what goes wrong.
//!
//! Written bytes are in the page cache at once. `sync_data` makes durable what was dirty when it was called, at the
//! moment when it returns; a name (created, renamed, removed) is durable after `sync_dir` of its directory, and a new
//! directory's own name after that of its parent. What is not synced becomes durable by itself after a drawn time, at
//! most [`DiskConfig::write_back`]. A killed process leaves the page cache as it is. A power loss leaves what
//! the module `crash` says: each unsynced write is kept, dropped or torn. A sync that was under way keeps going after its process
//! was killed, and is void after a power loss.

pub(crate) mod crash;
mod door;
mod faults;
mod page_cache;
mod rope;
#[cfg(test)]
mod tests;
mod tree;

pub use faults::DiskFault;

pub(crate) use door::SimDisk;

use crate::alarm::{Alarm, lock};
use crate::clock::SimTime;
use crate::fault::{EffectCounters, FaultId};
use crate::seed::{DurationRange, Seed, below, chance_ppm};
use crate::timers::{Action, Timers};
use broker_env::Completion;
use bytes::Bytes;
use faults::DiskFaults;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tree::Tree;

/// How a disk behaves without any fault.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DiskConfig {
    /// Its size in bytes.
    pub capacity: u64,
    /// How long a `sync_data` or `sync_dir` takes, whatever there is to write.
    pub sync_latency: DurationRange,
    /// How fast dirty bytes are written by a sync, on top of that; `None`: at once.
    pub bytes_per_second: Option<u64>,
    /// How long the kernel waits before it writes a change back by itself. At most 30 s.
    pub write_back: DurationRange,
}

impl Default for DiskConfig {
    /// 64 GiB, syncs of 0.1 to 1 ms, 1 GB/s, written back after 1 to 30 s.
    fn default() -> Self {
        DiskConfig {
            capacity: 64 << 30,
            sync_latency: DurationRange::micros(100, 1_000),
            bytes_per_second: Some(1_000_000_000),
            write_back: DurationRange::millis(1_000, 30_000),
        }
    }
}

/// Linux's EIO.
pub(crate) fn io_error() -> io::Error {
    io::Error::from_raw_os_error(5)
}

/// A host's disk.
pub(crate) struct HostDisk {
    name: String,
    seed: Seed,
    config: DiskConfig,
    alarm: Arc<Alarm>,
    events: Arc<Timers>,
    effects: Arc<Mutex<EffectCounters>>,
    state: Mutex<State>,
}

pub(crate) struct State {
    pub(crate) tree: Tree,
    rng: ChaCha8Rng,
    faults: DiskFaults,
    /// One more after each power loss and wipe: what was under way then is void.
    generation: u64,
    /// Bytes of all files, if nothing was removed since they were counted.
    pub(crate) used: Option<u64>,
}

impl State {
    pub(crate) fn used(&mut self) -> u64 {
        *self.used.get_or_insert_with(|| self.tree.used())
    }
}

impl HostDisk {
    pub(crate) fn new(
        name: &str,
        seed: Seed,
        config: DiskConfig,
        alarm: Arc<Alarm>,
        events: Arc<Timers>,
        effects: Arc<Mutex<EffectCounters>>,
    ) -> Arc<Self> {
        let state = State {
            tree: Tree::new(),
            rng: seed.stream(&format!("disk/{name}")),
            faults: DiskFaults::default(),
            generation: 0,
            used: Some(0),
        };
        let name = name.to_owned();
        Arc::new(HostDisk { name, seed, config, alarm, events, effects, state: Mutex::new(state) })
    }

    fn count(&self, id: FaultId, effect: &'static str, by: u64) {
        lock(&self.effects).count(id, effect, by);
    }

    /// When a change made now is written back by itself.
    fn due(&self, state: &mut State) -> SimTime {
        self.alarm.now() + self.config.write_back.draw(&mut state.rng)
    }

    /// How many more bytes there is room for.
    fn free(&self, state: &mut State) -> u64 {
        if state.faults.full().is_some() { 0 } else { self.config.capacity.saturating_sub(state.used()) }
    }

    /// Draws whether a fault makes this operation fail.
    fn fails(&self, state: &mut State, effect: &'static str, pick: impl Fn(&DiskFault) -> Option<u32>) -> bool {
        if state.faults.is_empty() {
            return false;
        }
        let Some((id, ppm)) = state.faults.find(pick) else { return false };
        let fails = chance_ppm(&mut state.rng, ppm);
        if fails {
            self.count(id, effect, 1);
        }
        fails
    }

    /// What slow disks add to an operation.
    fn slowness(&self, state: &mut State) -> Duration {
        let mut delay = Duration::ZERO;
        for (id, latency) in state.faults.slow() {
            delay += latency.draw(&mut state.rng);
            self.count(id, "operations-delayed", 1);
        }
        delay
    }

    /// An outcome that is there at once, unless the disk is slow or stalls.
    pub(crate) fn answer<T: Send + 'static>(
        self: &Arc<Self>,
        state: &mut State,
        outcome: io::Result<T>,
    ) -> Completion<T> {
        if state.faults.is_empty() {
            return Completion::ready(outcome);
        }
        let delay = self.slowness(state);
        if delay.is_zero() && state.faults.stall().is_none() {
            return Completion::ready(outcome);
        }
        let (completer, completion) = Completion::pending();
        self.after(state, delay, move || completer.complete(outcome));
        completion
    }

    /// Does something after a delay, and not while the disk stalls.
    pub(crate) fn after(self: &Arc<Self>, state: &mut State, delay: Duration, act: impl FnOnce() + Send + 'static) {
        if let Some(id) = state.faults.stall() {
            self.count(id, "operations-delayed", 1);
            let disk = Arc::clone(self);
            state.faults.stalled.push(Box::new(move || {
                let at = disk.alarm.now() + delay;
                disk.events.add(at.0, Action::Run(Box::new(act)));
            }));
            return;
        }
        let disk = Arc::clone(self);
        let at = self.alarm.now() + delay;
        // A stall that begins in the meantime holds it back as well.
        let act = move || {
            let mut state = lock(&disk.state);
            if let Some(id) = state.faults.stall() {
                disk.count(id, "operations-delayed", 1);
                state.faults.stalled.push(Box::new(act));
                return;
            }
            drop(state);
            act();
        };
        self.events.add(at.0, Action::Run(Box::new(act)));
    }

    /// How long a sync of so many dirty bytes takes.
    pub(crate) fn sync_time(&self, state: &mut State, dirty: u64) -> Duration {
        let writing = self
            .config
            .bytes_per_second
            .map_or(0, |rate| (u128::from(dirty) * 1_000_000_000 / u128::from(rate.max(1))) as u64);
        self.config.sync_latency.draw(&mut state.rng) + Duration::from_nanos(writing) + self.slowness(state)
    }

    pub(crate) fn install(&self, id: FaultId, fault: DiskFault) {
        let mut state = lock(&self.state);
        if let DiskFault::BitRot { path_contains, bits } = &fault {
            let rng = self.seed.stream(&format!("disk/{}/rot/{}", self.name, id.0));
            let flipped = rot(&mut state, path_contains, *bits, rng);
            self.count(id, "bits-flipped", flipped);
        }
        state.faults.add(id, fault);
    }

    pub(crate) fn remove(&self, id: FaultId) {
        let mut state = lock(&self.state);
        state.faults.remove(id);
        let released =
            if state.faults.stall().is_none() { std::mem::take(&mut state.faults.stalled) } else { Vec::new() };
        drop(state);
        for act in released {
            act();
        }
    }

    /// The power goes: what was not durable is decided now.
    pub(crate) fn power_loss(&self) -> crash::Losses {
        let mut state = lock(&self.state);
        state.generation += 1;
        let mut rng = self.seed.stream(&format!("disk/{}/power-loss/{}", self.name, state.generation));
        let losses = state.tree.power_loss(self.alarm.now(), &mut rng);
        state.used = None;
        let void = std::mem::take(&mut state.faults.stalled);
        drop(state);
        drop(void);
        losses
    }

    /// Everything on it is gone.
    pub(crate) fn wipe(&self) {
        let mut state = lock(&self.state);
        state.generation += 1;
        state.used = Some(0);
        let old = std::mem::replace(&mut state.tree, Tree::new());
        let void = std::mem::take(&mut state.faults.stalled);
        drop(state);
        drop((old, void));
    }

    /// The files as a reader on the host would see them now.
    pub(crate) fn snapshot(&self) -> DiskSnapshot {
        let mut state = lock(&self.state);
        let files = state.tree.files();
        let content = files.into_iter().filter_map(|(path, inode)| {
            let rope = state.tree.file(inode).ok()?.data.cache.clone();
            Some((path, rope))
        });
        DiskSnapshot(content.collect())
    }
}

/// Flips durable bits of files whose path contains `part`; says how many.
fn rot(state: &mut State, part: &str, bits: u32, mut rng: ChaCha8Rng) -> u64 {
    let mut candidates = state.tree.files();
    candidates.retain(|(path, inode)| {
        path.contains(part) && state.tree.file(*inode).is_ok_and(|file| file.data.durable_len() > 0)
    });
    for _ in 0..bits {
        let drawn = below(&mut rng, candidates.len() as u64) as usize;
        let Some((_, inode)) = candidates.get(drawn) else { return 0 };
        if let Ok(file) = state.tree.file(*inode) {
            let position = below(&mut rng, file.data.durable_len());
            file.data.rot(position, below(&mut rng, 8) as u32);
        }
    }
    u64::from(bits)
}

/// A host's files at one moment. Sharing the bytes, it costs little and does not change any more.
#[derive(Clone)]
pub struct DiskSnapshot(BTreeMap<String, rope::Rope>);

impl DiskSnapshot {
    /// Every file: its path from the root, with a leading slash, and its length; in order of the paths.
    pub fn files(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(path, rope)| (path.as_str(), rope.len()))
    }

    /// A file's content; `None` when there is no such file.
    #[must_use]
    pub fn read(&self, path: &str) -> Option<Bytes> {
        self.0.get(path).map(|rope| rope.read(0, usize::MAX))
    }

    /// A part of a file's content; shorter at its end.
    #[must_use]
    pub fn read_at(&self, path: &str, position: u64, len: usize) -> Option<Bytes> {
        self.0.get(path).map(|rope| rope.read(position, len))
    }
}
