//! The driver's handle on the world.

use crate::alarm::{Alarm, lock};
use crate::clock::{HostClock, SimTime};
use crate::disk::{DiskSnapshot, HostDisk};
use crate::env::SimEnv;
use crate::fault::{EffectCounters, Effects, Fault, FaultId};
use crate::meter;
use crate::network::{Departure, LinkConfig, NetworkCore, NetworkTap};
use crate::process::{Boot, Host, HostId, Incarnation, Life, NodePanic, Process, ProcessState};
use crate::run::{Config, panic_text, set_current};
use crate::seed::{Seed, below, nanos};
use crate::timers::{Action, Key, Timers};
use crate::trace::{NOWHERE, Trace, kind};
use broker_env::{SharedEnv, Task};
use madsim::runtime::Handle;
use madsim::task::AbortHandle;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::future::Future;
use std::net::Ipv4Addr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// The world, as its driver holds it: hosts, faults, time. A cheap handle; clones are the same world.
///
/// A host that no [`World::add_node`] returned is a mistake of the driver, and panics.
#[derive(Clone)]
pub struct World(Arc<Shared>);

/// Everything there is. No lock in it is held while code of a process, a waker or the executor runs.
pub(crate) struct Shared {
    pub(crate) seed: Seed,
    config: Config,
    pub(crate) alarm: Arc<Alarm>,
    /// What is due at a simulated time, for the kernels and devices of the world.
    events: Arc<Timers>,
    events_task: Mutex<Option<AbortHandle>>,
    pub(crate) network: Arc<NetworkCore>,
    pub(crate) trace: Trace,
    effects: Arc<Mutex<EffectCounters>>,
    executor: Handle,
    hosts: Mutex<Vec<Arc<Host>>>,
    faults: Mutex<BTreeMap<FaultId, Fault>>,
    next_fault: AtomicU64,
    panics: Mutex<Vec<NodePanic>>,
    polls: AtomicU64,
    /// Of the driver, to be woken when the polls run out.
    driver: Mutex<Option<Waker>>,
    spawned: AtomicU64,
    last_activity: AtomicU64,
}

/// A process that panics panics at most this often in the records of one run.
const MAX_PANICS: usize = 1000;
/// The executor forgets finished tasks only when asked; we ask each time so many were spawned.
const SWEEP_TASKS_EVERY: u64 = 4096;

impl World {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        World(shared)
    }

    /// Adds a host; its process is not started yet. `name` is its host name, and unlike every other one.
    pub fn add_node(&self, name: &str, boot: Boot) -> HostId {
        self.0.add_node(name, boot)
    }

    /// Replaces what a host's process does, from its next start on.
    pub fn set_boot(&self, host: HostId, boot: Boot) {
        let host = self.0.host(host);
        let old = lock(&host.process).boot.replace(boot);
        drop(old);
    }

    /// Starts a host's process as a new incarnation; gives the host power if it had none. Does nothing if it is up.
    pub fn start(&self, host: HostId) -> Incarnation {
        self.0.start(host)
    }

    /// Kills a host's process: its memory is lost, the page cache stays, its connections are reset. False if it was not
    /// up.
    pub fn crash(&self, host: HostId) -> bool {
        self.0.stop(host, ProcessState::Crashed, kind::CRASH)
    }

    /// Cuts a host's power: as a crash, and the page cache is lost or torn, and nobody is told. False if the host had
    /// no power already.
    pub fn power_loss(&self, host: HostId) -> bool {
        self.0.stop(host, ProcessState::PowerLost, kind::POWER_LOSS)
    }

    /// Gives a host power back without starting its process: its kernel answers again, with resets.
    pub fn power_on(&self, host: HostId) {
        self.0.power_on(host);
    }

    /// Stops a host's process where it stands. Its kernel goes on; its timers are late. False if it was not running.
    pub fn pause(&self, host: HostId) -> bool {
        self.0.pause(host)
    }

    /// Lets a paused process go on. False if it was not paused.
    pub fn resume(&self, host: HostId) -> bool {
        self.0.resume(host)
    }

    /// Kills a host's process, if it is up, and starts it again as a new incarnation.
    pub fn restart(&self, host: HostId) -> Incarnation {
        self.crash(host);
        self.start(host)
    }

    /// Deletes everything on a host's disk. The process, if it is up, is killed first: it could not bear the sight.
    pub fn wipe_disk(&self, host: HostId) {
        self.crash(host);
        let host = self.0.host(host);
        host.disk.wipe();
        self.0.record(host.id, kind::WIPE, &[]);
    }

    /// Kills every process.
    pub fn kill_all(&self) {
        for host in self.hosts() {
            self.crash(host);
        }
    }

    /// Whether a host's process is up, be it paused.
    #[must_use]
    pub fn is_up(&self, host: HostId) -> bool {
        self.state(host).is_up()
    }

    /// What a host's process is doing.
    #[must_use]
    pub fn state(&self, host: HostId) -> ProcessState {
        lock(&self.0.host(host).process).state
    }

    /// The latest incarnation of a host's process, up or not; `None` if it never started.
    #[must_use]
    pub fn incarnation(&self, host: HostId) -> Option<Incarnation> {
        let incarnation = lock(&self.0.host(host).process).incarnation;
        (incarnation > 0).then_some(Incarnation(incarnation))
    }

    /// Every host, in the order in which they were added.
    #[must_use]
    pub fn hosts(&self) -> Vec<HostId> {
        lock(&self.0.hosts).iter().map(|host| host.id).collect()
    }

    /// A host's name.
    #[must_use]
    pub fn name(&self, host: HostId) -> String {
        self.0.host(host).name.clone()
    }

    /// A host's address.
    #[must_use]
    pub fn ip(&self, host: HostId) -> Ipv4Addr {
        self.0.host(host).ip
    }

    /// The host of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<HostId> {
        lock(&self.0.hosts).iter().find(|host| host.name == name).map(|host| host.id)
    }

    /// The doors of the process that runs on a host now, for a driver that wants to act in its place. They die with it.
    #[must_use]
    pub fn env(&self, host: HostId) -> Option<SharedEnv> {
        let host = self.0.host(host);
        let life = lock(&host.process).life.clone()?;
        Some(Arc::new(SimEnv::new(&self.0, &host, life)))
    }

    /// Runs a task in the process on a host. False, and the task is dropped, if that is not up.
    pub fn spawn_on(&self, host: HostId, name: &'static str, task: Task) -> bool {
        let life = lock(&self.0.host(host).process).life.clone();
        match life {
            Some(life) => {
                self.0.spawn(&life, name, task);
                true
            }
            None => false,
        }
    }

    /// Simulated time.
    #[must_use]
    pub fn now(&self) -> SimTime {
        self.0.alarm.now()
    }

    /// Waits for simulated time to pass.
    pub async fn sleep(&self, duration: Duration) {
        self.sleep_until(self.now() + duration).await;
    }

    /// Waits until a moment of simulated time; not at all if it is past.
    pub async fn sleep_until(&self, at: SimTime) {
        DriverSleep { world: &self.0, at, registered: None }.await;
    }

    /// Waits until `condition` holds, looking each `every`; false if it did not before `deadline`.
    pub async fn wait_for(&self, deadline: SimTime, every: Duration, mut condition: impl FnMut() -> bool) -> bool {
        loop {
            if condition() {
                return true;
            }
            if self.now() >= deadline {
                return false;
            }
            self.sleep_until((self.now() + every.max(Duration::from_micros(1))).min(deadline)).await;
        }
    }

    /// The world's seed.
    #[must_use]
    pub fn seed(&self) -> Seed {
        self.0.seed
    }

    /// A stream of chance for the driver, by name. The same name gives the same sequence.
    #[must_use]
    pub fn entropy(&self, stream: &str) -> ChaCha8Rng {
        self.0.seed.stream(&format!("driver/{stream}"))
    }

    /// The trace.
    #[must_use]
    pub fn trace(&self) -> &Trace {
        &self.0.trace
    }

    /// Does `work`; a meter counts what it takes for `label`.
    pub fn metered<T>(&self, label: &'static str, work: impl FnOnce() -> T) -> T {
        match &self.0.config.meter {
            Some(meter) => meter.within(label, work),
            None => work(),
        }
    }

    /// Records an event now. `kind` from [`trace::kind::FIRST_FREE`](crate::trace::kind::FIRST_FREE) on.
    pub fn record(&self, host: HostId, kind: u16, payload: &[u8]) {
        self.0.record(host, kind, payload);
    }

    /// Installs a fault. It holds until it is removed.
    pub fn install(&self, fault: impl Into<Fault>) -> FaultId {
        self.0.install(fault.into())
    }

    /// Removes a fault. False if it was not there.
    pub fn remove(&self, fault: FaultId) -> bool {
        self.0.remove(fault)
    }

    /// Removes every fault, and resumes who is paused. Does not start who is down.
    pub fn heal(&self) {
        let faults: Vec<FaultId> = lock(&self.0.faults).keys().copied().collect();
        for fault in faults {
            self.remove(fault);
        }
        for host in self.hosts() {
            self.resume(host);
        }
    }

    /// The faults that hold now.
    #[must_use]
    pub fn faults(&self) -> Vec<(FaultId, Fault)> {
        lock(&self.0.faults).iter().map(|(id, fault)| (*id, fault.clone())).collect()
    }

    /// What a fault has done so far, also after it was removed.
    #[must_use]
    pub fn fault_effects(&self, fault: FaultId) -> Effects {
        lock(&self.0.effects).of(fault)
    }

    /// Changes one direction between two hosts, from now on.
    pub fn set_link(&self, from: HostId, to: HostId, link: LinkConfig) {
        self.0.network.set_link(from, to, link);
    }

    /// Has somebody look at every write between hosts; replaces who did before.
    pub fn set_tap(&self, tap: Box<dyn NetworkTap>) {
        self.0.network.set_tap(Some(tap));
    }

    /// A host's files as a process on it would read them now: the page cache, not what a power loss would leave.
    #[must_use]
    pub fn disk_snapshot(&self, host: HostId) -> DiskSnapshot {
        self.0.host(host).disk.snapshot()
    }

    /// Processes that panicked so far.
    #[must_use]
    pub fn panics(&self) -> Vec<NodePanic> {
        lock(&self.0.panics).clone()
    }
}

impl Shared {
    /// Must be called in the executor's context.
    pub(crate) fn new(seed: u64, config: Config) -> Arc<Self> {
        let alarm = Arc::new(Alarm::new());
        let events = Timers::new(Arc::clone(&alarm), None);
        let effects = Arc::<Mutex<EffectCounters>>::default();
        let network = NetworkCore::new(
            config.network.clone(),
            Seed(seed),
            Arc::clone(&alarm),
            Arc::clone(&events),
            Arc::clone(&effects),
        );
        let shared = Arc::new(Shared {
            seed: Seed(seed),
            trace: Trace::new(config.trace_bytes),
            config,
            alarm,
            events,
            events_task: Mutex::default(),
            network,
            effects,
            executor: Handle::current(),
            hosts: Mutex::default(),
            faults: Mutex::default(),
            next_fault: AtomicU64::new(1),
            panics: Mutex::default(),
            polls: AtomicU64::new(0),
            driver: Mutex::default(),
            spawned: AtomicU64::new(0),
            last_activity: AtomicU64::new(0),
        });
        shared.record(NOWHERE, kind::WORLD, &seed.to_le_bytes());
        let drive = Arc::clone(&shared.events).drive();
        let task = Guarded { task: Some(Box::pin(drive)), name: meter::WORLD, life: None, shared: Arc::clone(&shared) };
        let handle = madsim::task::spawn(task);
        *lock(&shared.events_task) = Some(handle.abort_handle());
        shared
    }

    pub(crate) fn host(&self, id: HostId) -> Arc<Host> {
        lock(&self.hosts).get(id.index()).map_or_else(|| panic!("no {id} in this world"), Arc::clone)
    }

    pub(crate) fn record(&self, host: HostId, kind: u16, payload: &[u8]) {
        self.trace.record_at(self.alarm.now(), host, kind, payload);
    }

    fn add_node(&self, name: &str, boot: Boot) -> HostId {
        let index = lock(&self.hosts).len() as u32;
        let id = HostId(index);
        let known = lock(&self.hosts).iter().any(|host| host.name == name);
        assert!(!known, "two hosts named {name}");
        let ip = Ipv4Addr::new(10, 0, (index / 250) as u8, (index % 250 + 1) as u8);
        let node = self.executor.create_node().name(name).build();

        let mut rng = self.seed.stream(&format!("clock/{name}"));
        let clocks = &self.config.clock;
        let uptime = below(&mut rng, 1_000_000) * 1_000_000;
        let skew = nanos(clocks.max_skew);
        let skew = i128::from(below(&mut rng, 2 * skew + 1)) - i128::from(skew);
        let ppm = below(&mut rng, 2 * u64::from(clocks.max_drift_ppm) + 1) as i64 - i64::from(clocks.max_drift_ppm);
        let wall = i128::from(clocks.start.0) * 1_000_000 + i128::from(self.alarm.now().0) + skew;
        let clock = HostClock::new(self.alarm.now(), uptime, wall, ppm, Arc::clone(&self.effects));
        let disk = HostDisk::new(
            name,
            self.seed,
            self.config.disk.clone(),
            Arc::clone(&self.alarm),
            Arc::clone(&self.events),
            Arc::clone(&self.effects),
        );
        let process = Process { state: ProcessState::New, incarnation: 0, life: None, boot: Some(boot) };
        let host = Host {
            id,
            name: name.to_owned(),
            ip,
            clock: Arc::new(clock),
            disk,
            node: node.id(),
            process: Mutex::new(process),
        };
        self.network.add_host(id, name, ip);
        lock(&self.hosts).push(Arc::new(host));
        self.record(id, kind::HOST, name.as_bytes());
        id
    }

    fn start(self: &Arc<Self>, id: HostId) -> Incarnation {
        let host = self.host(id);
        let mut process = lock(&host.process);
        if process.state.is_up() {
            return Incarnation(process.incarnation);
        }
        let Some(boot) = process.boot.clone() else { return Incarnation(process.incarnation) };
        if process.incarnation > 0 {
            // The executor marks whatever is left of the old process as dead, and begins a new one.
            self.executor.kill(host.node);
            self.executor.restart(host.node);
        }
        process.incarnation += 1;
        let incarnation = Incarnation(process.incarnation);
        let timers = Timers::new(Arc::clone(&self.alarm), Some(Arc::clone(&host.clock)));
        let spawner = self.executor.get_node(host.node).expect("the executor knows its nodes");
        let life = Arc::new(Life::new(id, incarnation, timers, spawner));
        process.life = Some(Arc::clone(&life));
        process.state = ProcessState::Up;
        drop(process);

        self.network.power_on(id);
        self.record(id, kind::START, &incarnation.0.to_le_bytes());
        let drive: Task = Box::pin(Arc::clone(&life.timers).drive());
        self.spawn(&life, "timers", drive);
        let env: SharedEnv = Arc::new(SimEnv::new(self, &host, Arc::clone(&life)));
        let (shared, mortal) = (Arc::downgrade(self), Arc::downgrade(&life));
        let main = async move {
            boot(env, incarnation).await;
            if let (Some(shared), Some(life)) = (shared.upgrade(), mortal.upgrade()) {
                shared.exited(&life);
            }
        };
        self.spawn(&life, "main", Box::pin(main));
        incarnation
    }

    /// Runs a task in a process.
    pub(crate) fn spawn(self: &Arc<Self>, life: &Arc<Life>, name: &'static str, task: Task) {
        if self.spawned.fetch_add(1, Ordering::Relaxed) % SWEEP_TASKS_EVERY == SWEEP_TASKS_EVERY - 1 {
            let _ = self.executor.metrics().num_tasks();
        }
        let guarded = Guarded { task: Some(task), name, life: Some(Arc::clone(life)), shared: Arc::clone(self) };
        drop(life.spawner.spawn(guarded));
    }

    /// The life's process returned from its boot task.
    fn exited(&self, life: &Life) {
        if life.is_alive() {
            self.end(life.host, ProcessState::Exited, kind::EXIT);
        }
    }

    fn panicked(&self, life: &Life, panic: &(dyn std::any::Any + Send)) {
        let (message, location) = panic_text(panic);
        let host = self.host(life.host);
        let mut panics = lock(&self.panics);
        if panics.len() < MAX_PANICS {
            panics.push(NodePanic {
                host: life.host,
                name: host.name.clone(),
                incarnation: life.incarnation,
                at: self.alarm.now(),
                message: message.clone(),
                location: location.clone(),
            });
        }
        drop(panics);
        tracing::error!(host = %host.name, incarnation = life.incarnation.0, message, location, "process panicked");
        if life.is_alive() {
            self.end(life.host, ProcessState::Panicked, kind::PANIC);
        }
    }

    fn stop(&self, id: HostId, state: ProcessState, event: u16) -> bool {
        let host = self.host(id);
        let before = lock(&host.process).state;
        if state == ProcessState::PowerLost && before == ProcessState::PowerLost {
            return false;
        }
        if state != ProcessState::PowerLost && !before.is_up() {
            return false;
        }
        self.end(id, state, event);
        true
    }

    /// The process of a host is over, in whatever way.
    fn end(&self, id: HostId, state: ProcessState, event: u16) {
        let host = self.host(id);
        let mut process = lock(&host.process);
        let paused = process.state == ProcessState::Paused;
        let life = process.life.take();
        process.state = state;
        let incarnation = process.incarnation;
        drop(process);
        self.record(id, event, &incarnation.to_le_bytes());

        // 1. From here on nothing that the process does reaches anybody.
        if let Some(life) = &life {
            life.end();
            life.timers.close();
        }
        // 2. Its peers.
        self.network.depart(
            id,
            match state {
                ProcessState::Exited => Departure::Exit,
                ProcessState::PowerLost => Departure::PowerLoss,
                _ => Departure::Crash,
            },
        );
        // 3. Its files.
        if state == ProcessState::PowerLost {
            let losses = host.disk.power_loss();
            tracing::debug!(host = %host.name, ?losses, "power lost");
        }
        // 4. Its tasks. A paused one would be dropped under the executor's lock: so it is let go on first.
        if incarnation > 0 {
            if paused {
                self.executor.resume(host.node);
            }
            self.executor.kill(host.node);
        }
    }

    fn power_on(&self, id: HostId) {
        let host = self.host(id);
        let mut process = lock(&host.process);
        if process.state == ProcessState::PowerLost {
            process.state = ProcessState::Crashed;
            drop(process);
            self.network.power_on(id);
        }
    }

    fn pause(&self, id: HostId) -> bool {
        let host = self.host(id);
        let mut process = lock(&host.process);
        if process.state != ProcessState::Up {
            return false;
        }
        process.state = ProcessState::Paused;
        drop(process);
        self.record(id, kind::PAUSE, &[]);
        self.executor.pause(host.node);
        true
    }

    fn resume(&self, id: HostId) -> bool {
        let host = self.host(id);
        let mut process = lock(&host.process);
        if process.state != ProcessState::Paused {
            return false;
        }
        process.state = ProcessState::Up;
        drop(process);
        self.record(id, kind::RESUME, &[]);
        self.executor.resume(host.node);
        true
    }

    fn install(&self, fault: Fault) -> FaultId {
        let id = FaultId(self.next_fault.fetch_add(1, Ordering::Relaxed));
        let host = match &fault {
            Fault::Network(_) => NOWHERE,
            Fault::Disk(host, _) | Fault::Clock(host, _) => *host,
        };
        let mut payload = id.0.to_le_bytes().to_vec();
        payload.extend_from_slice(format!("{fault:?}").as_bytes());
        self.record(host, kind::FAULT_START, &payload);
        lock(&self.faults).insert(id, fault.clone());
        match fault {
            Fault::Network(fault) => self.network.install(id, fault),
            Fault::Disk(host, fault) => self.host(host).disk.install(id, fault),
            Fault::Clock(host, fault) => {
                let host = self.host(host);
                host.clock.install(self.alarm.now(), id, fault);
                clock_changed(&host);
            }
        }
        id
    }

    fn remove(&self, id: FaultId) -> bool {
        let Some(fault) = lock(&self.faults).remove(&id) else { return false };
        let at = match &fault {
            Fault::Network(_) => NOWHERE,
            Fault::Disk(host, _) | Fault::Clock(host, _) => *host,
        };
        self.record(at, kind::FAULT_END, &id.0.to_le_bytes());
        match fault {
            Fault::Network(_) => self.network.remove(id),
            Fault::Disk(host, _) => self.host(host).disk.remove(id),
            Fault::Clock(host, _) => {
                let host = self.host(host);
                host.clock.remove(self.alarm.now(), id);
                clock_changed(&host);
            }
        }
        true
    }

    /// To be called at the beginning of each poll of a task, or of the driver: reads the clock, and says for the length
    /// of the poll whose it is.
    pub(crate) fn enter(&self, host: Option<HostId>) -> Entered {
        let now = self.alarm.tick();
        let polls = self.polls.fetch_add(1, Ordering::Relaxed);
        self.last_activity.store(now.0, Ordering::Relaxed);
        if self.config.poll_limit.is_some_and(|limit| polls >= limit) {
            let driver = lock(&self.driver).clone();
            if let Some(driver) = driver {
                driver.wake();
            }
        }
        Entered(set_current(host.map(|host| (host, now))))
    }

    /// Whether the polls have run out; else remembers whom to wake when they do.
    pub(crate) fn over_poll_limit(&self, driver: &Waker) -> bool {
        let Some(limit) = self.config.poll_limit else { return false };
        if self.polls() > limit {
            return true;
        }
        let old = lock(&self.driver).replace(driver.clone());
        drop(old);
        false
    }

    pub(crate) fn polls(&self) -> u64 {
        self.polls.load(Ordering::Relaxed)
    }

    pub(crate) fn last_activity(&self) -> SimTime {
        SimTime(self.last_activity.load(Ordering::Relaxed))
    }

    /// Whether nothing will ever happen again.
    pub(crate) fn is_idle(&self) -> bool {
        let hosts = lock(&self.hosts).clone();
        let asleep = |host: &Arc<Host>| lock(&host.process).life.as_ref().is_none_or(|life| life.timers.is_idle());
        self.events.is_idle() && hosts.iter().all(asleep)
    }

    /// Kills everybody, quietly: the run is over.
    pub(crate) fn take_down(&self) {
        let hosts = lock(&self.hosts).clone();
        for host in &hosts {
            let mut process = lock(&host.process);
            let paused = process.state == ProcessState::Paused;
            let (life, boot) = (process.life.take(), process.boot.take());
            process.state = ProcessState::Crashed;
            drop(process);
            if let Some(life) = &life {
                life.end();
                life.timers.close();
            }
            if paused {
                self.executor.resume(host.node);
            }
            self.executor.kill(host.node);
            drop((life, boot));
        }
        let events = lock(&self.events_task).take();
        if let Some(events) = events {
            events.abort();
        }
    }

    /// Lets go of whatever could hold the world in a circle.
    pub(crate) fn forget(&self) {
        self.events.close();
        self.network.clear();
        let driver = lock(&self.driver).take();
        drop(driver);
    }

    pub(crate) fn take_panics(&self) -> Vec<NodePanic> {
        std::mem::take(&mut lock(&self.panics))
    }
}

fn clock_changed(host: &Host) {
    let life = lock(&host.process).life.clone();
    if let Some(life) = life {
        life.timers.clock_changed();
    }
}

/// Marks the length of a poll.
pub(crate) struct Entered(Option<(HostId, SimTime)>);

impl Drop for Entered {
    fn drop(&mut self) {
        set_current(self.0);
    }
}

/// A task whose panic is the crash of its process, and not the end of the simulation.
struct Guarded {
    task: Option<Task>,
    name: &'static str,
    /// None for the world's own.
    life: Option<Arc<Life>>,
    shared: Arc<Shared>,
}

impl Future for Guarded {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let Some(task) = &mut this.task else { return Poll::Ready(()) };
        let _here = this.shared.enter(this.life.as_ref().map(|life| life.host));
        let metered = this.shared.config.meter.as_ref().map(|meter| meter.enter(this.name));
        let polled = catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(cx)));
        drop(metered);
        match (polled, &this.life) {
            (Ok(Poll::Pending), _) => return Poll::Pending,
            (Ok(Poll::Ready(())), _) => {}
            (Err(panic), Some(life)) => this.shared.panicked(life, &*panic),
            (Err(panic), None) => std::panic::resume_unwind(panic),
        }
        this.bury();
        Poll::Ready(())
    }
}

impl Guarded {
    /// Drops the task, which may run any code.
    fn bury(&mut self) {
        let Some(task) = self.task.take() else { return };
        if let (Err(panic), Some(life)) = (catch_unwind(AssertUnwindSafe(|| drop(task))), &self.life) {
            self.shared.panicked(life, &*panic);
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.bury();
    }
}

/// The driver waits.
struct DriverSleep<'a> {
    world: &'a Shared,
    at: SimTime,
    registered: Option<Key>,
}

impl Future for DriverSleep<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(key) = self.registered.take() {
            drop(self.world.events.cancel(key));
        }
        if self.world.alarm.now() >= self.at {
            return Poll::Ready(());
        }
        self.registered = self.world.events.add(self.at.0, Action::Wake(cx.waker().clone()));
        Poll::Pending
    }
}

impl Drop for DriverSleep<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.registered {
            drop(self.world.events.cancel(key));
        }
    }
}
