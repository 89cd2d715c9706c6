//! Waking one loop.

use broker_env::{Env, Timer};
use broker_types::MonoTime;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// A flag that one task waits for. Raised while nobody waits, it is found raised.
#[derive(Default)]
pub(crate) struct Signal {
    raised: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Signal {
    /// Raises the flag and wakes whoever waits.
    pub(crate) fn raise(&self) {
        if !self.raised.swap(true, Ordering::SeqCst) {
            let waiting = lock(&self.waker).take();
            if let Some(waker) = waiting {
                waker.wake();
            }
        }
    }

    /// Ready, and the flag down again, if it was raised.
    pub(crate) fn poll_raised(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.raised.swap(false, Ordering::SeqCst) {
            return Poll::Ready(());
        }
        *lock(&self.waker) = Some(cx.waker().clone());
        // Raised between the look and the waker: the raiser may have found no waker.
        if self.raised.swap(false, Ordering::SeqCst) { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// A loop's own timer, set again only when its deadline changes.
pub(crate) struct Alarm {
    timer: Timer,
    at: MonoTime,
}

impl Alarm {
    pub(crate) fn new(env: &dyn Env) -> Self {
        Alarm { timer: env.timer(MonoTime::NEVER), at: MonoTime::NEVER }
    }

    /// Changes the deadline.
    pub(crate) fn set(&mut self, at: MonoTime) {
        if at != self.at {
            self.at = at;
            self.timer.reset(at);
        }
    }

    pub(crate) fn poll_fired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.timer).poll(cx)
    }

    /// Waits for the signal, at most until `at`.
    pub(crate) async fn or_signal(&mut self, signal: &Signal, at: MonoTime) {
        self.set(at);
        std::future::poll_fn(|cx| {
            if signal.poll_raised(cx).is_ready() {
                return Poll::Ready(());
            }
            self.poll_fired(cx)
        })
        .await;
    }
}

/// Locks. A panic elsewhere while the lock was held is that task's own end, not ours.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
