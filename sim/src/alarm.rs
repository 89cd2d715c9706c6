//! Simulated time: read once per poll, and the one place that arms the executor's timers.

use crate::clock::SimTime;
use madsim::time::{Sleep, TimeHandle};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

/// Locks, also after a panic elsewhere: every lock of the world is released in a consistent state.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wakes a waker at a simulated time.
///
/// The executor's `Sleep` has a floor of one millisecond at birth but none when reset, and each poll of it adds one
/// timer that wakes the given waker once. One `Sleep` for the whole world, reset and polled for every alarm, is
/// therefore a plain "wake this then", without a clone of its handles. Alarms cannot be taken back: who arms must bear
/// a wake-up too many.
pub(crate) struct Alarm {
    sleep: Mutex<Pin<Box<Sleep>>>,
    time: TimeHandle,
    /// The executor's instant at simulated time zero.
    base: Instant,
    /// The time of the poll that is running. Time stands still within a poll, so one look per poll will do.
    now: AtomicU64,
}

impl Alarm {
    /// Must be called in the runtime's context.
    pub(crate) fn new() -> Self {
        let time = TimeHandle::current();
        let base = time.now_instant() - time.elapsed();
        Alarm { sleep: Mutex::new(Box::pin(time.sleep_until(base))), time, base, now: AtomicU64::new(0) }
    }

    /// Simulated time, as of the beginning of this poll.
    pub(crate) fn now(&self) -> SimTime {
        SimTime(self.now.load(Ordering::Relaxed))
    }

    /// The executor's clock, which may be ahead of the poll that is remembered.
    pub(crate) fn peek(&self) -> SimTime {
        SimTime(self.time.elapsed().as_nanos() as u64)
    }

    /// To be called at the beginning of each poll.
    pub(crate) fn tick(&self) -> SimTime {
        let now = self.peek();
        self.now.store(now.0, Ordering::Relaxed);
        now
    }

    /// Wakes `waker` at `at`; at once if that is past. Never call this from a waker: those run under the timer lock.
    pub(crate) fn arm(&self, at: SimTime, waker: &Waker) {
        let mut sleep = lock(&self.sleep);
        sleep.as_mut().reset(self.base + Duration::from_nanos(at.0));
        let past = sleep.as_mut().poll(&mut Context::from_waker(waker)).is_ready();
        drop(sleep);
        if past {
            waker.wake_by_ref();
        }
    }
}

/// What is to be woken or armed once the lock under which it was decided is released: a waker may belong to any code.
#[derive(Default)]
#[must_use = "wakers that are dropped are lost wake-ups"]
pub(crate) struct Wakes {
    /// The common case has one alarm and needs no allocation.
    first: Option<(SimTime, Waker)>,
    more: Vec<(SimTime, Waker)>,
}

impl Wakes {
    /// Wake `waker` at `at`.
    pub(crate) fn at(&mut self, at: SimTime, waker: Waker) {
        if self.first.is_none() {
            self.first = Some((at, waker));
        } else {
            self.more.push((at, waker));
        }
    }

    /// Wake `waker` as soon as the lock is gone.
    pub(crate) fn now(&mut self, waker: Waker) {
        self.at(SimTime(0), waker);
    }

    /// To be called with no lock held.
    pub(crate) fn run(self, alarm: &Alarm) {
        for (at, waker) in self.first.into_iter().chain(self.more) {
            if at == SimTime(0) {
                waker.wake();
            } else {
                alarm.arm(at, &waker);
            }
        }
    }
}
