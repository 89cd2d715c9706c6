//! Hosts and the processes on them.

use crate::clock::{HostClock, SimTime};
use crate::disk::HostDisk;
use crate::timers::Timers;
use broker_env::{SharedEnv, Task};
use madsim::runtime::NodeHandle;
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// A machine of the world: an address, a disk, a clock, and one process at a time. Counts from 0 in the order of
/// [`World::add_node`](crate::World::add_node).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HostId(pub u32);

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "host-{}", self.0)
    }
}

impl HostId {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// Which life of a host's process this is: 1 for the first start, one more for each further start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Incarnation(pub u64);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a host's process does, from its start: called once for each incarnation. When the task returns, the process has
/// exited and every other task of it ends.
pub type Boot = Arc<dyn Fn(SharedEnv, Incarnation) -> Task + Send + Sync>;

/// What a host's process is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProcessState {
    /// Never started.
    New,
    /// Running.
    Up,
    /// Stopped where it stands, as by a long collection of garbage: the kernel goes on, no task of it runs.
    Paused,
    /// Its boot task returned.
    Exited,
    /// Killed: memory lost, page cache kept.
    Crashed,
    /// As crashed, by a panic of its own.
    Panicked,
    /// The whole host is without power; the page cache is lost.
    PowerLost,
}

impl ProcessState {
    /// Whether there is a process, be it paused.
    #[must_use]
    pub fn is_up(self) -> bool {
        matches!(self, ProcessState::Up | ProcessState::Paused)
    }
}

/// A panic in a process, which crashed it. Always a finding.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodePanic {
    /// Where.
    pub host: HostId,
    /// The host's name.
    pub name: String,
    /// In which life.
    pub incarnation: Incarnation,
    /// When.
    pub at: SimTime,
    /// What it said.
    pub message: String,
    /// File, line and column. Not part of the trace: it differs between builds.
    pub location: String,
}

/// One incarnation of a process, from its start to its end.
pub(crate) struct Life {
    pub(crate) host: HostId,
    pub(crate) incarnation: Incarnation,
    /// False from the moment the process is gone. Its tasks are dropped a little later, and what they try to do while
    /// they are dropped must reach nobody.
    alive: AtomicBool,
    pub(crate) timers: Arc<Timers>,
    /// Spawns on exactly this incarnation; on a dead one, nothing runs any more.
    pub(crate) spawner: NodeHandle,
}

impl Life {
    pub(crate) fn new(host: HostId, incarnation: Incarnation, timers: Arc<Timers>, spawner: NodeHandle) -> Self {
        Life { host, incarnation, alive: AtomicBool::new(true), timers, spawner }
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Relaxed)
    }

    pub(crate) fn end(&self) {
        self.alive.store(false, Ordering::Relaxed);
    }
}

/// A machine.
pub(crate) struct Host {
    pub(crate) id: HostId,
    pub(crate) name: String,
    pub(crate) ip: Ipv4Addr,
    pub(crate) clock: Arc<HostClock>,
    pub(crate) disk: Arc<HostDisk>,
    /// The executor's node of this host.
    pub(crate) node: madsim::task::NodeId,
    pub(crate) process: Mutex<Process>,
}

pub(crate) struct Process {
    pub(crate) state: ProcessState,
    /// The latest; 0 before the first start.
    pub(crate) incarnation: u64,
    /// Of the latest incarnation, if it is up.
    pub(crate) life: Option<Arc<Life>>,
    /// Emptied at the end of the run: it may hold the world, which holds it.
    pub(crate) boot: Option<Boot>,
}
