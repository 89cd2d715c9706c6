//! A seeded world: network, disk, clock, processes and their faults. Knows no Kafka.
//!
//! [`run`] makes one world out of one 64-bit seed, on a thread of its own, and drives it to an end. In the world live
//! **hosts**: machines with a network card, a disk and a clock, each running one process at a time. What runs there is
//! any code written against [`broker_env::Env`]; it cannot tell that its world is not real. A host's process is
//! started, crashed, paused and started again as a new [`Incarnation`]; the host's disk, address and clock stay.
//!
//! ```
//! use sim::{Config, World};
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! let outcome = sim::run(42, Config::default(), |world: World| async move {
//!     let host = world.add_node("server", Arc::new(|env, _incarnation| Box::pin(async move {
//!         env.sleep(Duration::from_secs(3)).await; // takes no real time
//!     })));
//!     world.start(host);
//!     world.sleep(Duration::from_secs(10)).await;
//!     assert!(!world.is_up(host), "the process has exited by then");
//!     world.now()
//! });
//! assert!(outcome.finished().unwrap().as_secs() >= 10);
//! ```
//!
//! # What is promised
//!
//! The same seed, configuration, driver and build give the same run, to the byte of its [`Trace`]: everything that is
//! random is drawn from named streams of the seed ([`Seed`]), time is simulated, and tasks run one at a time in an order
//! drawn from the seed too. Idle time costs nothing.
//!
//! # Map
//!
//! [`World`] the driver's handle: hosts, faults, time · [`mod@env`] what a process sees · [`network`], [`disk`], [`clock`]
//! the three halves of the outside and their faults · [`trace`], [`determinism`] what a run leaves, and how two are
//! compared · [`fault_budget`] how much may be broken at once · [`seed`] how chance is split.

#[cfg(not(madsim))]
compile_error!(
    "the simulator needs `--cfg madsim`: build from the workspace root (its .cargo/config.toml sets it), \
     or add `--cfg madsim` to your own RUSTFLAGS"
);

#[cfg(madsim)]
mod alarm;
#[cfg(madsim)]
pub mod clock;
#[cfg(madsim)]
pub mod determinism;
#[cfg(madsim)]
pub mod disk;
#[cfg(madsim)]
pub mod env;
#[cfg(madsim)]
mod fault;
#[cfg(madsim)]
pub mod fault_budget;
pub mod meter;
#[cfg(madsim)]
pub mod network;
#[cfg(madsim)]
mod process;
#[cfg(madsim)]
mod run;
#[cfg(madsim)]
pub mod seed;
#[cfg(madsim)]
mod timers;
#[cfg(madsim)]
pub mod trace;
#[cfg(madsim)]
mod world;

#[cfg(madsim)]
pub use crate::{
    clock::{ClockFault, SimTime},
    disk::{DiskConfig, DiskFault, DiskSnapshot},
    env::SimEnv,
    fault::{Effects, Fault, FaultId},
    fault_budget::FaultBudget,
    network::{ConnectionId, LinkConfig, NetworkConfig, NetworkFault, NetworkTap, Sent, TapVerdict},
    process::{Boot, HostId, Incarnation, NodePanic, ProcessState},
    run::{Config, RunEnd, RunOutcome, current, run},
    seed::{DurationRange, Seed},
    trace::{Event, Trace, TraceRecord},
    world::World,
};
