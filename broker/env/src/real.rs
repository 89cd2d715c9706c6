//! The real world, on tokio: TCP, files, clocks and the operating system's entropy.
//!
//! Sockets and timers live on the runtime whose handle [`TokioEnv::new`] got. File operations that end in the page
//! cache (appends, short reads, names) are done where they are called and are ready at once; what waits for the device
//! (`sync_data`, `sync_dir`, long reads) goes to the runtime's blocking threads. A completion only listens: the work
//! behind it ends whether or not anybody still waits.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // This is the one place that may touch the real world.

mod disk;
mod network;

use crate::{Completion, Disk, Env, Network, RawTimer, Task, Timer};
use broker_types::{MonoTime, WallTime};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::runtime::Handle;
use tokio::time::{Instant, Sleep, sleep_until};

/// The real world, as one process sees it.
pub struct TokioEnv {
    handle: Handle,
    network: network::TcpNetwork,
    disk: disk::LocalDisk,
    /// Zero of [`Env::mono`].
    zero: Instant,
    /// Seeded by the operating system; each stream's seed is the next draw of it.
    seeds: Mutex<ChaCha8Rng>,
}

impl TokioEnv {
    /// The real world on `handle`'s runtime, which must have I/O and time enabled and must live as long as this.
    ///
    /// # Panics
    /// If the operating system has no entropy to give.
    #[must_use]
    pub fn new(handle: Handle) -> Arc<TokioEnv> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).expect("the operating system gives entropy");
        Arc::new(TokioEnv {
            network: network::TcpNetwork::new(handle.clone()),
            disk: disk::LocalDisk::new(handle.clone()),
            zero: Instant::now(),
            seeds: Mutex::new(ChaCha8Rng::from_seed(seed)),
            handle,
        })
    }
}

impl Env for TokioEnv {
    fn mono(&self) -> MonoTime {
        MonoTime(u64::try_from(self.zero.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn wall(&self) -> WallTime {
        let ms = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        WallTime(match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(after) => ms(after),
            Err(before) => -ms(before.duration()),
        })
    }

    fn timer(&self, deadline: MonoTime) -> Timer {
        Timer::new(Box::new(TokioTimer { handle: self.handle.clone(), zero: self.zero, deadline, sleep: None }))
    }

    fn spawn(&self, _name: &'static str, task: Task) {
        drop(self.handle.spawn(task));
    }

    fn entropy(&self, _stream: &str) -> ChaCha8Rng {
        // Names need no part in it here: each call draws a fresh seed, so no two streams share a sequence.
        let mut seed = [0; 32];
        self.seeds.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(&mut seed);
        ChaCha8Rng::from_seed(seed)
    }

    fn network(&self) -> &dyn Network {
        &self.network
    }

    fn disk(&self) -> &dyn Disk {
        &self.disk
    }
}

/// A deadline on tokio's timer wheel, which it joins when it is first polled.
struct TokioTimer {
    handle: Handle,
    zero: Instant,
    deadline: MonoTime,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl TokioTimer {
    /// Further than this tokio's clock does not count; it stands for "never".
    const HORIZON: Duration = Duration::from_secs(60 * 60 * 24 * 365 * 10);

    fn instant(&self) -> Instant {
        let after_zero = Duration::from_nanos(self.deadline.0);
        self.zero + after_zero.min(self.zero.elapsed() + Self::HORIZON)
    }
}

impl RawTimer for TokioTimer {
    fn poll_fired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.sleep.is_none() {
            let at = self.instant();
            let _runtime = self.handle.enter();
            self.sleep = Some(Box::pin(sleep_until(at)));
        }
        self.sleep.as_mut().map_or(Poll::Pending, |sleep| sleep.as_mut().poll(cx))
    }

    fn reset(&mut self, deadline: MonoTime) {
        self.deadline = deadline;
        let at = self.instant();
        // A waiting waker stays with the timer: it fires at the new deadline though nobody polled since.
        if let Some(sleep) = &mut self.sleep {
            sleep.as_mut().reset(at);
        }
    }
}

/// Runs `work` on a blocking thread. It ends also if nobody waits for it.
fn on_blocking_thread<T: Send + 'static>(
    handle: &Handle,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Completion<T> {
    let (completer, completion) = Completion::pending();
    drop(handle.spawn_blocking(move || completer.complete(work())));
    completion
}
