//! A value that changes, and those who wait for it to change.
//!
//! As `tokio::sync::watch`, but whoever waits is woken in the order in which he began to wait. Tokio spreads its waiters
//! over eight queues by a random number of the process as soon as somebody in the build asks for its runtime; a
//! simulated world could not repeat itself then.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

struct Shared<T> {
    value: Mutex<T>,
    /// Counts what was sent. Only written with `value` locked.
    version: AtomicU64,
    closed: AtomicBool,
    changed: Notify,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, T> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Changes the value. Dropped, it leaves the last one.
pub struct Sender<T>(Arc<Shared<T>>);

/// Reads the value and waits for the next.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    /// The version read last by [`Receiver::changed`] or its kin.
    seen: u64,
}

/// The value, borrowed; not to be held across an await.
pub struct Ref<'a, T>(MutexGuard<'a, T>);

impl<T> Deref for Ref<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

/// Nobody can change the value any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Closed;

/// A value and the first who may wait for the next.
pub fn channel<T>(value: T) -> (Sender<T>, Receiver<T>) {
    let sender = Sender::new(value);
    let receiver = sender.subscribe();
    (sender, receiver)
}

impl<T> Sender<T> {
    /// A value that nobody waits for yet.
    pub fn new(value: T) -> Self {
        let (version, closed) = (AtomicU64::new(0), AtomicBool::new(false));
        Sender(Arc::new(Shared { value: Mutex::new(value), version, closed, changed: Notify::new() }))
    }

    /// One more reader. What is there now is not news to him.
    #[must_use]
    pub fn subscribe(&self) -> Receiver<T> {
        Receiver { shared: self.0.clone(), seen: self.0.version.load(Ordering::Acquire) }
    }

    /// Replaces the value and wakes everyone who waits, the longest waiting first.
    pub fn send(&self, value: T) {
        self.send_modify(|old| *old = value);
    }

    /// Changes the value in place and wakes everyone who waits.
    pub fn send_modify(&self, change: impl FnOnce(&mut T)) {
        {
            let mut value = self.0.lock();
            change(&mut value);
            self.0.version.fetch_add(1, Ordering::Release);
        }
        self.0.changed.notify_waiters();
    }

    /// The value.
    #[must_use]
    pub fn borrow(&self) -> Ref<'_, T> {
        Ref(self.0.lock())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Release);
        self.0.changed.notify_waiters();
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Receiver { shared: self.shared.clone(), seen: self.seen }
    }
}

impl<T> Receiver<T> {
    /// The value.
    #[must_use]
    pub fn borrow(&self) -> Ref<'_, T> {
        Ref(self.shared.lock())
    }

    /// The value; the next [`Receiver::changed`] waits for another one.
    pub fn borrow_and_update(&mut self) -> Ref<'_, T> {
        let value = self.shared.lock();
        self.seen = self.shared.version.load(Ordering::Acquire);
        Ref(value)
    }

    /// Waits for a value that was not seen yet.
    ///
    /// # Errors
    /// There will be none.
    pub async fn changed(&mut self) -> Result<(), Closed> {
        loop {
            let mut next = std::pin::pin!(self.shared.changed.notified());
            next.as_mut().enable();
            let version = self.shared.version.load(Ordering::Acquire);
            if version != self.seen {
                self.seen = version;
                return Ok(());
            }
            if self.shared.closed.load(Ordering::Acquire) {
                return Err(Closed);
            }
            next.await;
        }
    }

    /// Waits until `condition` holds; looks at the present value first.
    ///
    /// # Errors
    /// It never will: nobody can change the value any more.
    pub async fn wait_for(&mut self, mut condition: impl FnMut(&T) -> bool) -> Result<(), Closed> {
        loop {
            let mut next = std::pin::pin!(self.shared.changed.notified());
            next.as_mut().enable();
            {
                let value = self.shared.lock();
                self.seen = self.shared.version.load(Ordering::Acquire);
                if condition(&value) {
                    return Ok(());
                }
            }
            if self.shared.closed.load(Ordering::Acquire) {
                return Err(Closed);
            }
            next.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::sync::Mutex;
    use std::task::{Context, Poll, Wake, Waker};

    struct Told(u32, Arc<Mutex<Vec<u32>>>);

    impl Wake for Told {
        fn wake(self: Arc<Self>) {
            self.1.lock().unwrap().push(self.0);
        }
    }

    #[test]
    fn waiters_are_woken_in_the_order_in_which_they_began_to_wait() {
        let (sender, receiver) = channel(0);
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut receivers: Vec<_> = (0..40).map(|_| receiver.clone()).collect();
        let mut waiting: Vec<_> = receivers.iter_mut().map(|receiver| Box::pin(receiver.changed())).collect();
        for (index, future) in (0..).zip(&mut waiting) {
            let waker = Waker::from(Arc::new(Told(index, order.clone())));
            assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        }
        sender.send(1);
        assert_eq!(*order.lock().unwrap(), (0..40).collect::<Vec<_>>());
    }

    #[test]
    fn a_receiver_sees_what_it_has_not_seen_and_the_end() {
        let (sender, mut receiver) = channel(0);
        let poll = |future: std::pin::Pin<&mut dyn Future<Output = Result<(), Closed>>>| {
            future.poll(&mut Context::from_waker(Waker::noop()))
        };
        assert!(poll(pin!(receiver.changed())).is_pending());
        sender.send(7);
        assert_eq!(poll(pin!(receiver.changed())), Poll::Ready(Ok(())));
        assert_eq!(*receiver.borrow(), 7);
        assert_eq!(poll(pin!(receiver.wait_for(|value| *value == 7))), Poll::Ready(Ok(())));
        drop(sender);
        assert_eq!(poll(pin!(receiver.wait_for(|value| *value == 8))), Poll::Ready(Err(Closed)));
        assert_eq!(poll(pin!(receiver.changed())), Poll::Ready(Err(Closed)));
    }
}
