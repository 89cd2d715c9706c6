//! How much of the world is let in: connections, requests being taken up, and the bytes of large ones.
//!
//! One set of limits for all listeners of a kind, as Kafka's controllers and brokers have: clients that exhaust theirs
//! leave the quorum alone.
//!
//! - `max.connections`: who comes after waits to be accepted, in the kernel's queue, until somebody leaves. The
//!   inter-broker listener is exempt when it is not the only one. (Kafka also closes the connection that was idle for
//!   longest on another listener then; we do not.)
//! - `max.connections.per.ip`: who comes after is closed at once.
//! - `queued.max.requests`: requests that were decoded and not yet taken up by whoever answers them. Beyond, a
//!   connection leaves its next request undecoded. Requests that wait for records, for replicas or for the controller
//!   were taken up, and do not count: a long poll keeps nobody out.
//! - `queued.max.request.bytes`: bytes of frames above [`SMALL`], counted at their announced size from when they have
//!   come so far until they were taken up. Beyond, such a frame is not read on. As in Kafka the last one let in may go
//!   beyond the limit by its own size, and whoever was let in can always finish. Small frames always come through; a
//!   connection holds at most `SMALL` bytes for them.

use crate::config::Settings;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Frames of up to so many bytes are read whatever others hold.
pub(crate) const SMALL: usize = 64 << 10;

/// The limits of one kind of listener, and what of them is in use.
pub(crate) struct Admission {
    max_connections: i64,
    max_connections_per_ip: i64,
    open: Mutex<Open>,
    /// A connection left.
    left: Notify,
    /// `queued.max.requests`, less those in use.
    requests: Arc<Semaphore>,
    /// `queued.max.request.bytes`; `None` for no limit.
    max_bytes: Option<u64>,
    /// Bytes of large frames that were let in.
    bytes: Mutex<u64>,
    /// `bytes` fell below the limit.
    drained: Notify,
}

#[derive(Default)]
struct Open {
    connections: i64,
    /// Only addresses with a connection.
    by_address: BTreeMap<IpAddr, i64>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("never held across a panic")
}

impl Admission {
    pub(crate) fn new(settings: &Settings) -> Arc<Self> {
        let requests = usize::try_from(settings.queued_max_requests).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Arc::new(Admission {
            max_connections: settings.max_connections,
            max_connections_per_ip: settings.max_connections_per_ip,
            open: Mutex::default(),
            left: Notify::new(),
            requests: Arc::new(Semaphore::new(requests)),
            max_bytes: u64::try_from(settings.queued_max_request_bytes).ok().filter(|bytes| *bytes > 0),
            bytes: Mutex::new(0),
            drained: Notify::new(),
        })
    }

    /// Waits until one more connection may be accepted.
    pub(crate) async fn room(&self) {
        loop {
            // Registered before the look, so that no leave is missed. Every listener is told, and looks again.
            let mut left = std::pin::pin!(self.left.notified());
            left.as_mut().enable();
            if lock(&self.open).connections < self.max_connections {
                return;
            }
            left.await;
        }
    }

    /// A place for a connection from `address`; `None` when its address has as many as it may.
    pub(crate) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let mut open = lock(&self.open);
        let here = open.by_address.get(&address).copied().unwrap_or(0);
        if here >= self.max_connections_per_ip {
            return None;
        }
        open.connections += 1;
        open.by_address.insert(address, here + 1);
        Some(Place { admission: self.clone(), address })
    }

    /// Waits until one more request may be decoded.
    pub(crate) async fn turn(&self) -> Turn {
        let permit = match self.requests.clone().try_acquire_owned() {
            Ok(permit) => Some(permit),
            Err(_) => self.requests.clone().acquire_owned().await.ok(),
        };
        Turn { _permit: permit }
    }

    /// Waits until a frame of `len` bytes may be read on.
    pub(crate) async fn bytes(self: &Arc<Self>, len: usize) -> Charge {
        let len = len as u64;
        let Some(max) = self.max_bytes else { return Charge { admission: None, len } };
        loop {
            let mut drained = std::pin::pin!(self.drained.notified());
            drained.as_mut().enable();
            {
                let mut bytes = lock(&self.bytes);
                if *bytes < max {
                    *bytes += len;
                    return Charge { admission: Some(self.clone()), len };
                }
            }
            drained.await;
        }
    }
}

/// One connection's place; given back when dropped, however the connection ends.
pub(crate) struct Place {
    admission: Arc<Admission>,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = lock(&self.admission.open);
        open.connections -= 1;
        if let Some(here) = open.by_address.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                open.by_address.remove(&self.address);
            }
        }
        drop(open);
        self.admission.left.notify_waiters();
    }
}

/// One request's turn to be decoded; given back when dropped.
pub(crate) struct Turn {
    _permit: Option<OwnedSemaphorePermit>,
}

/// One large frame's bytes; given back when dropped.
pub(crate) struct Charge {
    admission: Option<Arc<Admission>>,
    len: u64,
}

impl Drop for Charge {
    fn drop(&mut self) {
        if let Some(admission) = &self.admission {
            *lock(&admission.bytes) -= self.len;
            admission.drained.notify_waiters();
        }
    }
}

/// What a request holds until somebody has taken it up.
pub(crate) struct Hold {
    pub(crate) _turn: Turn,
    pub(crate) _charge: Option<Charge>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::task::{Context, Poll, Waker};

    fn now<T>(work: impl Future<Output = T>) -> Option<T> {
        match std::pin::pin!(work).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    fn admission(change: impl FnOnce(&mut Settings)) -> Arc<Admission> {
        let mut settings = Settings::default();
        change(&mut settings);
        Admission::new(&settings)
    }

    #[test]
    fn an_address_gets_as_many_places_as_it_may_and_gives_them_back() {
        let admission = admission(|settings| settings.max_connections_per_ip = 2);
        let [one, other] = [IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2])];
        let first = admission.admit(one).unwrap();
        let _second = admission.admit(one).unwrap();
        assert!(admission.admit(one).is_none());
        assert!(admission.admit(other).is_some());
        drop(first);
        assert!(admission.admit(one).is_some());
        assert_eq!(lock(&admission.open).by_address.len(), 1);
    }

    #[test]
    fn the_whole_broker_has_room_again_when_somebody_leaves() {
        let admission = admission(|settings| settings.max_connections = 1);
        assert!(now(admission.room()).is_some());
        let place = admission.admit(IpAddr::from([10, 0, 0, 1])).unwrap();
        let mut waiting = Box::pin(admission.room());
        assert!(now(waiting.as_mut()).is_none());
        drop(place);
        assert!(now(waiting).is_some());
    }

    #[test]
    fn requests_take_turns() {
        let admission = admission(|settings| settings.queued_max_requests = 1);
        let turn = now(admission.turn()).unwrap();
        assert!(now(admission.turn()).is_none());
        drop(turn);
        assert!(now(admission.turn()).is_some());
    }

    #[test]
    fn large_frames_come_in_while_the_limit_is_not_reached_and_the_last_may_exceed_it() {
        let admission = admission(|settings| settings.queued_max_request_bytes = 100);
        let first = now(admission.bytes(99)).unwrap();
        let second = now(admission.bytes(1000)).unwrap();
        let mut third = Box::pin(admission.bytes(1));
        assert!(now(third.as_mut()).is_none());
        drop(first);
        assert!(now(third.as_mut()).is_none(), "1000 are still in");
        drop(second);
        assert!(now(third).is_some());
        assert_eq!(*lock(&admission.bytes), 0);
    }
}
