//! The network: byte streams between hosts, as TCP gives them, and what goes wrong with them.
//!
//! **Lazy delivery.** A write moves its [`Bytes`](bytes::Bytes) at once into the receiver's queue, with the time of
//! their arrival; if the receiver's reader is parked, its own waker is armed for that time. No task carries packets. A
//! fault sweeps over the queues of the links it touches, which is rare.
//!
//! What a connection goes through:
//!
//! - **open**: bytes arrive in order, each no earlier than the one before; lost packets come later, and all that is
//!   behind them. A writer stalls when the reader leaves [`NetworkConfig::send_buffer`] bytes unread.
//! - **blocked** (a partition): what is sent waits, and goes through at the first retransmission after the partition
//!   has ended. If that takes longer than [`NetworkConfig::give_up`], the end that has unacknowledged data gets
//!   `TimedOut`, and its peer a reset as soon as a packet gets through. An end with nothing to send finds out by
//!   [`NetworkConfig::keepalive`].
//! - **half-open**: the other host lost power. Nothing comes back, as above, until that host has power again and answers
//!   with a reset to what is sent to it, data or keep-alive probe.
//! - **reset**: the other process was killed, or closed the connection without reading all. What arrived before can
//!   still be read.
//!
//! Connecting takes a round trip; nobody listening is `ConnectionRefused`; no answer within
//! [`NetworkConfig::connect_timeout`] is `TimedOut`. Simplified: acknowledgements take no bandwidth, a freed send
//! buffer is known to the writer one least latency later, and there is no congestion window.

mod connection;
mod dial;
mod halves;
mod link;
mod partition;
mod tap;
#[cfg(test)]
mod tests;

pub use partition::NetworkFault;
pub use tap::{ConnectionId, NetworkTap, Sent, TapVerdict};

pub(crate) use dial::SimNetwork;

use crate::alarm::{Alarm, Wakes, lock};
use crate::clock::SimTime;
use crate::fault::{EffectCounters, FaultId};
use crate::process::HostId;
use crate::seed::{DurationRange, Seed, below};
use crate::timers::{Action, Timers};
use connection::{Conn, Kernel};
use dial::ListenQueue;
use link::Link;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// How one direction between two hosts behaves without any fault.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkConfig {
    /// How long a packet takes.
    pub latency: DurationRange,
    /// How wide it is; `None` for no limit.
    pub bytes_per_second: Option<u64>,
    /// How many of a million packets are lost, and sent again.
    pub loss_ppm: u32,
}

impl Default for LinkConfig {
    /// 0.2 to 2 ms, 10 Gbit/s, nothing lost.
    fn default() -> Self {
        LinkConfig { latency: DurationRange::micros(200, 2_000), bytes_per_second: Some(1_250_000_000), loss_ppm: 0 }
    }
}

/// How the network behaves without any fault.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NetworkConfig {
    /// Every link that [`World::set_link`](crate::World::set_link) did not change.
    pub link: LinkConfig,
    /// How long bytes take from a host to itself.
    pub loopback: DurationRange,
    /// How much may be on its way or unread in one direction of a connection before its writer stalls.
    pub send_buffer: usize,
    /// When a connect that nobody answers fails with `TimedOut`.
    pub connect_timeout: Duration,
    /// After how long without an acknowledgement an established connection fails with `TimedOut`.
    pub give_up: Duration,
    /// After how long a silent connection is probed, when it is broken; `None`: never.
    pub keepalive: Option<Duration>,
    /// The wait before something is sent again for the first time.
    pub retransmission_timeout: Duration,
    /// How many connections may wait to be accepted, per listener.
    pub backlog: usize,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        NetworkConfig {
            link: LinkConfig::default(),
            loopback: DurationRange::micros(10, 30),
            send_buffer: 256 * 1024,
            connect_timeout: Duration::from_secs(5),
            give_up: Duration::from_secs(20),
            keepalive: Some(Duration::from_secs(10)),
            retransmission_timeout: Duration::from_millis(200),
            backlog: 1024,
        }
    }
}

/// How a process, or its whole host, went away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Departure {
    /// The process returned: its connections are closed as if dropped.
    Exit,
    /// The process was killed: its connections are reset.
    Crash,
    /// The host is off: its connections fall silent.
    PowerLoss,
}

/// The network of a world.
pub(crate) struct NetworkCore {
    pub(crate) alarm: Arc<Alarm>,
    /// Runs what is due at a simulated time.
    pub(crate) events: Arc<Timers>,
    state: Mutex<Net>,
}

pub(crate) struct NetHost {
    pub(crate) name: String,
    pub(crate) ip: Ipv4Addr,
    /// Without power, a host answers nothing.
    pub(crate) powered: bool,
    pub(crate) listeners: BTreeMap<u16, ListenQueue>,
    pub(crate) next_port: u16,
    /// For latencies of the host with itself.
    pub(crate) loopback: ChaCha8Rng,
}

/// Everything behind the network's lock.
pub(crate) struct Net {
    pub(crate) config: NetworkConfig,
    seed: Seed,
    pub(crate) hosts: Vec<NetHost>,
    pub(crate) names: BTreeMap<String, HostId>,
    /// By sender, then by receiver.
    links: Vec<Vec<Link>>,
    faults: BTreeMap<FaultId, NetworkFault>,
    /// Connections by slot. A slot is free again when both processes have dropped both their halves.
    pub(crate) conns: Vec<Option<Box<Conn>>>,
    pub(crate) free_slots: Vec<usize>,
    pub(crate) next_connection: u64,
    pub(crate) next_listener: u64,
    pub(crate) tap: Option<Box<dyn NetworkTap>>,
    pub(crate) effects: Arc<Mutex<EffectCounters>>,
}

impl NetworkCore {
    pub(crate) fn new(
        config: NetworkConfig,
        seed: Seed,
        alarm: Arc<Alarm>,
        events: Arc<Timers>,
        effects: Arc<Mutex<EffectCounters>>,
    ) -> Arc<Self> {
        let net = Net {
            config,
            seed,
            hosts: Vec::new(),
            names: BTreeMap::new(),
            links: Vec::new(),
            faults: BTreeMap::new(),
            conns: Vec::new(),
            free_slots: Vec::new(),
            next_connection: 0,
            next_listener: 0,
            tap: None,
            effects,
        };
        Arc::new(NetworkCore { alarm, events, state: Mutex::new(net) })
    }

    pub(crate) fn now(&self) -> SimTime {
        self.alarm.now()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Net> {
        lock(&self.state)
    }

    /// Does something under the lock and then wakes whom it woke.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut Net, &mut Wakes) -> T) -> T {
        let mut wakes = Wakes::default();
        let mut net = self.lock();
        let result = act(&mut net, &mut wakes);
        drop(net);
        wakes.run(&self.alarm);
        result
    }

    pub(crate) fn add_host(&self, id: HostId, name: &str, ip: Ipv4Addr) {
        self.lock().add_host(id, name, ip);
    }

    pub(crate) fn set_link(&self, from: HostId, to: HostId, config: LinkConfig) {
        if let Some(link) = self.lock().link(from, to) {
            link.config = config;
        }
    }

    pub(crate) fn set_tap(&self, tap: Option<Box<dyn NetworkTap>>) {
        let old = std::mem::replace(&mut self.lock().tap, tap);
        drop(old);
    }

    /// The host's process, or the host, is gone.
    pub(crate) fn depart(&self, host: HostId, how: Departure) {
        let now = self.now();
        let listeners = self.with(|net, wakes| net.depart(now, host, how, wakes));
        drop(listeners);
    }

    /// The host has power again.
    pub(crate) fn power_on(&self, host: HostId) {
        let now = self.now();
        self.with(|net, wakes| net.power_on(now, host, wakes));
    }

    pub(crate) fn install(self: &Arc<Self>, id: FaultId, fault: NetworkFault) {
        let now = self.now();
        if let NetworkFault::Flaky { every, .. } = &fault {
            let rng = self.lock().seed.stream(&format!("network/flaky/{}", id.0));
            self.schedule_flake(id, *every, rng);
        }
        self.with(|net, wakes| {
            net.faults.insert(id, fault);
            net.faults_changed(now, wakes);
        });
    }

    pub(crate) fn remove(&self, id: FaultId) {
        let now = self.now();
        self.with(|net, wakes| {
            net.faults.remove(&id);
            net.faults_changed(now, wakes);
        });
    }

    fn schedule_flake(self: &Arc<Self>, id: FaultId, every: DurationRange, mut rng: ChaCha8Rng) {
        let at = self.now() + every.draw(&mut rng).max(Duration::from_micros(1));
        let network = Arc::clone(self);
        let flake = move || {
            let now = network.now();
            let held = network.with(|net, wakes| net.flake(now, id, &mut rng, wakes));
            if held {
                network.schedule_flake(id, every, rng);
            }
        };
        self.events.add(at.0, Action::Run(Box::new(flake)));
    }

    /// Forgets every connection and listener: the end of the run.
    pub(crate) fn clear(&self) {
        let mut net = self.lock();
        let rest: Vec<_> = net.hosts.iter_mut().map(|host| std::mem::take(&mut host.listeners)).collect();
        let tap = net.tap.take();
        drop(net);
        drop((rest, tap));
    }
}

impl Net {
    fn add_host(&mut self, id: HostId, name: &str, ip: Ipv4Addr) {
        assert_eq!(id.index(), self.hosts.len(), "hosts are numbered in order");
        self.hosts.push(NetHost {
            name: name.to_owned(),
            ip,
            powered: true,
            listeners: BTreeMap::new(),
            next_port: 32_768,
            loopback: self.seed.stream(&format!("network/loopback/{name}")),
        });
        self.names.insert(name.to_owned(), id);
        let names: Vec<String> = self.hosts.iter().map(|host| host.name.clone()).collect();
        let link = |from: &str, to: &str| Link::new(self.seed, from, to, self.config.link.clone());
        for (index, row) in self.links.iter_mut().enumerate() {
            row.push(link(&names[index], name));
        }
        let row = names.iter().map(|to| link(name, to)).collect();
        self.links.push(row);
        self.apply_faults();
    }

    pub(crate) fn link(&mut self, from: HostId, to: HostId) -> Option<&mut Link> {
        self.links.get_mut(from.index())?.get_mut(to.index())
    }

    /// Whether nothing gets from one host to the other because of a fault.
    pub(crate) fn is_blocked(&self, from: HostId, to: HostId) -> bool {
        from != to && self.links[from.index()][to.index()].is_blocked()
    }

    /// Counts an effect for each fault that blocks this way.
    pub(crate) fn count_blocked(&self, from: HostId, to: HostId, effect: &'static str, by: u64) {
        for id in self.links[from.index()][to.index()].blockers() {
            lock(&self.effects).count(*id, effect, by);
        }
    }

    /// Counts an effect, once, for each fault that blocks one way or the other.
    pub(crate) fn count_cut(&self, a: HostId, b: HostId, effect: &'static str) {
        let way = |from: HostId, to: HostId| self.links[from.index()][to.index()].blockers();
        let back = way(b, a).iter().filter(|id| !way(a, b).contains(id));
        for id in way(a, b).iter().chain(back) {
            lock(&self.effects).count(*id, effect, 1);
        }
    }

    /// When `len` bytes sent now from one host to another arrive, if nothing blocks them.
    pub(crate) fn transit(&mut self, now: SimTime, from: HostId, to: HostId, len: usize) -> SimTime {
        if from == to {
            let loopback = self.config.loopback;
            return SimTime(now.0 + loopback.draw_nanos(&mut self.hosts[from.index()].loopback));
        }
        let rto = self.config.retransmission_timeout;
        self.links[from.index()][to.index()].transit(now, len, rto, &self.effects)
    }

    /// The same for bytes that are sent at `then`, some time from now: when they have left, and when they are there.
    pub(crate) fn transit_later(&mut self, then: SimTime, from: HostId, to: HostId, len: usize) -> (SimTime, SimTime) {
        if from == to {
            return (then, self.transit(then, from, to, len));
        }
        let rto = self.config.retransmission_timeout;
        self.links[from.index()][to.index()].transit_later(then, len, rto, &self.effects)
    }

    fn apply_faults(&mut self) {
        for (from, row) in self.links.iter_mut().enumerate() {
            for (to, link) in row.iter_mut().enumerate() {
                link.clear_faults();
                for (id, fault) in &self.faults {
                    if let Some(on_link) = fault.on_link(HostId(from as u32), HostId(to as u32)) {
                        link.add_fault(*id, on_link);
                    }
                }
            }
        }
    }

    fn faults_changed(&mut self, now: SimTime, wakes: &mut Wakes) {
        // Whoever had given up by now did so under the old faults.
        self.give_up_due(now);
        self.apply_faults();
        self.sweep(now, wakes);
    }

    /// Resets one of the connections that a flaky link carries. False when the fault is over.
    fn flake(&mut self, now: SimTime, id: FaultId, rng: &mut ChaCha8Rng, wakes: &mut Wakes) -> bool {
        let Some(fault) = self.faults.get(&id) else { return false };
        let carried: Vec<usize> = (0..self.conns.len())
            .filter(|slot| {
                self.conns[*slot].as_ref().is_some_and(|conn| {
                    let open = conn.ends.iter().all(|end| end.kernel == Kernel::Open && end.reset.is_none());
                    open && fault.resets(conn.ends[0].host, conn.ends[1].host)
                })
            })
            .collect();
        let drawn = below(rng, carried.len() as u64) as usize;
        if let Some(slot) = carried.get(drawn) {
            self.reset_both(now, *slot, wakes);
            lock(&self.effects).count(id, "resets", 1);
        }
        true
    }
}
