//! Where a world's processor time goes: time by label, each moment counted once, for the innermost label.
//!
//! For benchmarks alone. A world without a meter asks no clock; one with a meter makes the same run, a little later.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Counts the time of everything that runs in a world by the name of its task, and of what [`Meter::within`] wraps by
/// the label given there. What has no label is the executor's and the world's own.
#[derive(Clone, Debug)]
pub struct Meter(Arc<Mutex<Spent>>);

/// The same meter, not the same figures.
impl PartialEq for Meter {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Meter {}

/// The label of what has none: executor, network, disks, clocks.
pub const WORLD: &str = "world";

#[derive(Debug)]
struct Spent {
    clock: fn() -> Duration,
    by_label: BTreeMap<&'static str, Duration>,
    within: Vec<&'static str>,
    since: Duration,
}

impl Meter {
    /// Starts to count. `clock` tells real time, or the processor time of the thread; a world has none of its own to ask.
    #[must_use]
    pub fn new(clock: fn() -> Duration) -> Self {
        let spent = Spent { clock, by_label: BTreeMap::new(), within: Vec::new(), since: clock() };
        Meter(Arc::new(Mutex::new(spent)))
    }

    /// Time by label so far.
    #[must_use]
    pub fn spent(&self) -> BTreeMap<&'static str, Duration> {
        let mut spent = self.lock();
        spent.charge();
        spent.by_label.clone()
    }

    /// Counts what `work` takes for `label`, but for what has a label of its own in it.
    pub fn within<T>(&self, label: &'static str, work: impl FnOnce() -> T) -> T {
        let _here = self.enter(label);
        work()
    }

    pub(crate) fn enter(&self, label: &'static str) -> Within<'_> {
        let mut spent = self.lock();
        spent.charge();
        spent.within.push(label);
        Within(self)
    }

    fn lock(&self) -> MutexGuard<'_, Spent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spent {
    /// Counts the time since the last change of label for the label that was.
    fn charge(&mut self) {
        let now = (self.clock)();
        let label = self.within.last().copied().unwrap_or(WORLD);
        *self.by_label.entry(label).or_default() += now.saturating_sub(self.since);
        self.since = now;
    }
}

/// A label holds until this goes.
pub(crate) struct Within<'a>(&'a Meter);

impl Drop for Within<'_> {
    fn drop(&mut self) {
        let mut spent = self.0.lock();
        spent.charge();
        spent.within.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    thread_local! {
        static NOW: Cell<u64> = const { Cell::new(0) };
    }

    fn clock() -> Duration {
        Duration::from_secs(NOW.get())
    }

    fn pass(seconds: u64) {
        NOW.set(NOW.get() + seconds);
    }

    #[test]
    fn each_second_counts_once_for_the_innermost_label() {
        let meter = Meter::new(clock);
        pass(1);
        meter.within("task", || {
            pass(10);
            meter.within("judge", || pass(100));
            pass(1000);
        });
        pass(10_000);
        let seconds = |label| meter.spent().get(label).map(Duration::as_secs);
        assert_eq!([seconds(WORLD), seconds("task"), seconds("judge")], [Some(10_001), Some(1010), Some(100)]);
    }

    #[test]
    fn a_panic_leaves_its_label() {
        let meter = Meter::new(clock);
        let inner = meter.clone();
        let panicked = std::panic::catch_unwind(move || inner.within("task", || panic!("on purpose")));
        assert!(panicked.is_err());
        pass(5);
        assert_eq!(meter.spent().get(WORLD), Some(&Duration::from_secs(5)));
    }
}
