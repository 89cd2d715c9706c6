//! What a process sees: one [`Env`] per incarnation.

use crate::disk::SimDisk;
use crate::network::SimNetwork;
use crate::process::{HostId, Incarnation, Life};
use crate::seed::Seed;
use crate::timers::SimTimer;
use crate::world::Shared;
use broker_env::{Disk, Env, Network, RawTimer, Task, Timer};
use broker_types::{MonoTime, WallTime};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};

/// The simulated doors of one incarnation of one host's process. When the process is gone, they lead nowhere: tasks
/// never run, I/O fails, timers stay silent.
pub struct SimEnv {
    world: Weak<Shared>,
    life: Arc<Life>,
    clock: Arc<crate::clock::HostClock>,
    alarm: Arc<crate::alarm::Alarm>,
    network: SimNetwork,
    disk: SimDisk,
    seed: Seed,
    host_name: String,
    /// How often each stream was asked for.
    streams: Mutex<BTreeMap<String, u64>>,
}

impl SimEnv {
    pub(crate) fn new(world: &Arc<Shared>, host: &crate::process::Host, life: Arc<Life>) -> Self {
        SimEnv {
            world: Arc::downgrade(world),
            clock: Arc::clone(&host.clock),
            alarm: Arc::clone(&world.alarm),
            network: SimNetwork { core: Arc::clone(&world.network), life: Arc::clone(&life) },
            disk: SimDisk { disk: Arc::clone(&host.disk), life: Arc::clone(&life) },
            seed: world.seed,
            host_name: host.name.clone(),
            life,
            streams: Mutex::default(),
        }
    }

    /// Where the process runs.
    #[must_use]
    pub fn host(&self) -> HostId {
        self.life.host
    }

    /// Which life of it this is.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.life.incarnation
    }
}

impl Env for SimEnv {
    fn mono(&self) -> MonoTime {
        self.clock.read_mono(self.alarm.now())
    }

    fn wall(&self) -> WallTime {
        self.clock.read_wall(self.alarm.now())
    }

    fn timer(&self, deadline: MonoTime) -> Timer {
        let raw: Box<dyn RawTimer> = Box::new(SimTimer::new(Arc::clone(&self.life.timers), deadline));
        Timer::new(raw)
    }

    fn spawn(&self, name: &'static str, task: Task) {
        match self.world.upgrade() {
            Some(world) if self.life.is_alive() => world.spawn(&self.life, name, task),
            _ => drop(task),
        }
    }

    fn entropy(&self, stream: &str) -> ChaCha8Rng {
        let mut streams = crate::alarm::lock(&self.streams);
        let nth = streams.entry(stream.to_owned()).or_default();
        *nth += 1;
        let (host, incarnation, nth) = (&self.host_name, self.life.incarnation, *nth - 1);
        self.seed.stream(&format!("node/{host}/{incarnation}/{nth}/{stream}"))
    }

    fn network(&self) -> &dyn Network {
        &self.network
    }

    fn disk(&self) -> &dyn Disk {
        &self.disk
    }
}
