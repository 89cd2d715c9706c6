//! The doors to the outside: network, disk, clock, timers, tasks, entropy. No word of Kafka.
//!
//! Broker and client reach the world through one object-safe trait, [`Env`], held as `Arc<dyn Env>`, one per node.
//! `TokioEnv` (feature `real`) is the real world; the crate `sim` has a simulated one. The same integration tests run
//! against both and find no difference.
//!
//! Every operation takes owned buffers and returns a [`Completion`], which may be ready at once: an append to the
//! page cache costs no task switch. **Dropping a completion never undoes its operation**, in either world.

mod completion;
mod disk;
mod network;
#[cfg(feature = "real")]
mod real;
mod timer;
pub mod watch;

pub use completion::{Completer, Completion};
pub use disk::{DirEntry, Disk, File, OpenMode};
pub use network::{Accepted, Connection, Listener, Network, ReadHalf, StreamReader, StreamWriter, WriteHalf};
#[cfg(feature = "real")]
pub use real::TokioEnv;
pub use timer::{RawTimer, Timer};

use broker_types::{MonoTime, WallTime};
use rand_chacha::ChaCha8Rng;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// A task's work. It ends by returning, or is dropped where it waits when its node dies.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send + 'static>>;

/// One node's view of the outside.
pub trait Env: Send + Sync + 'static {
    /// This node's monotonic clock. Never jumps; a simulated one may drift.
    fn mono(&self) -> MonoTime;

    /// This node's wall clock. May jump; safety and liveness must not depend on it.
    fn wall(&self) -> WallTime;

    /// A timer that fires at `deadline` on [`Env::mono`]; dropped or reset, its old deadline costs nothing.
    fn timer(&self, deadline: MonoTime) -> Timer;

    /// Runs `task` on this node until it returns or the node dies. `name` is for people.
    fn spawn(&self, name: &'static str, task: Task);

    /// A generator of its own for `stream` ("broker/2/raft"): another name, another sequence; the same name twice in
    /// one incarnation of a node goes on with a fresh sequence.
    fn entropy(&self, stream: &str) -> ChaCha8Rng;

    /// The network door.
    fn network(&self) -> &dyn Network;

    /// The disk door.
    fn disk(&self) -> &dyn Disk;
}

/// Conveniences over any [`Env`].
impl dyn Env {
    /// Waits until `duration` has passed on this node's monotonic clock.
    pub async fn sleep(&self, duration: Duration) {
        self.timer(self.mono() + duration).await;
    }

    /// Waits for `work`, at most until `deadline`; `None` when the deadline came first. `work` is dropped then.
    pub async fn until<T>(&self, deadline: MonoTime, work: impl Future<Output = T>) -> Option<T> {
        let mut timer = self.timer(deadline);
        let mut work = std::pin::pin!(work);
        std::future::poll_fn(|cx| {
            if let std::task::Poll::Ready(value) = work.as_mut().poll(cx) {
                return std::task::Poll::Ready(Some(value));
            }
            Pin::new(&mut timer).poll(cx).map(|()| None)
        })
        .await
    }

    /// As [`Env::spawn`], for an unboxed future.
    pub fn go(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn(name, Box::pin(task));
    }
}

/// How a node holds its doors.
pub type SharedEnv = Arc<dyn Env>;
