//! A run: from a seed to an outcome, on a thread of its own.

use crate::clock::{ClockConfig, SimTime};
use crate::disk::DiskConfig;
use crate::meter::Meter;
use crate::network::NetworkConfig;
use crate::process::{HostId, NodePanic};
use crate::trace::TraceRecord;
use crate::world::{Shared, World};
use madsim::runtime::Runtime;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Once};
use std::task::Poll;
use std::time::Duration;

/// What a world is like.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The network.
    pub network: NetworkConfig,
    /// The disks.
    pub disk: DiskConfig,
    /// The clocks.
    pub clock: ClockConfig,
    /// Simulated time after which the run ends, whatever the driver waits for.
    pub time_limit: Option<Duration>,
    /// Number of polls after which the run ends: against a world that spins without getting on.
    pub poll_limit: Option<u64>,
    /// How many bytes of events the trace keeps.
    pub trace_bytes: usize,
    /// Counts where processor time goes. For benchmarks.
    pub meter: Option<Meter>,
}

impl Default for Config {
    /// A data centre's network and disks, no limits of time, 8 MiB of trace.
    fn default() -> Self {
        Config {
            network: NetworkConfig::default(),
            disk: DiskConfig::default(),
            clock: ClockConfig::default(),
            time_limit: None,
            poll_limit: None,
            trace_bytes: 8 << 20,
            meter: None,
        }
    }
}

/// How a run ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RunEnd<T> {
    /// The driver returned.
    Finished(T),
    /// The driver panicked.
    DriverPanicked {
        /// What it said.
        message: String,
        /// Where.
        location: String,
    },
    /// [`Config::time_limit`] was reached.
    TimeLimit,
    /// [`Config::poll_limit`] was reached.
    PollLimit,
    /// Everybody waits, and nothing will ever happen.
    Stuck,
}

/// What a run leaves.
#[derive(Clone, Debug)]
pub struct RunOutcome<T> {
    /// How it ended.
    pub end: RunEnd<T>,
    /// The seed it was made of.
    pub seed: u64,
    /// What happened.
    pub trace: TraceRecord,
    /// Processes that panicked, in order.
    pub panics: Vec<NodePanic>,
    /// How much time passed in it. If it was stuck, until it was.
    pub simulated: SimTime,
    /// How many times a task was polled.
    pub polls: u64,
}

impl<T> RunOutcome<T> {
    /// What the driver returned, if it did.
    pub fn finished(self) -> Option<T> {
        match self.end {
            RunEnd::Finished(value) => Some(value),
            _ => None,
        }
    }

    /// What the driver returned.
    ///
    /// # Panics
    /// When the run ended otherwise, or a process panicked: for tests.
    pub fn expect_clean(self) -> T {
        assert!(self.panics.is_empty(), "seed {:016x}: processes panicked: {:#?}", self.seed, self.panics);
        match self.end {
            RunEnd::Finished(value) => value,
            RunEnd::DriverPanicked { message, location } => {
                panic!("seed {:016x}: the driver panicked at {location}: {message}", self.seed)
            }
            RunEnd::TimeLimit => panic!("seed {:016x}: time limit reached at {}", self.seed, self.simulated),
            RunEnd::PollLimit => panic!("seed {:016x}: poll limit reached at {}", self.seed, self.simulated),
            RunEnd::Stuck => panic!("seed {:016x}: stuck since {}", self.seed, self.simulated),
        }
    }
}

/// As good as never, and far enough from the end of the executor's clock.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Makes a world of `seed`, lets `driver` have its way with it, and takes it down.
///
/// The run has a thread of its own, so that nothing of one run is left to the next, and the executor's `HashMap` seeds
/// and the like are those of a first run. `driver` is a task of no host: it reads no clock and has no network; clients
/// are hosts like any other.
///
/// # Panics
/// When no thread can be made.
pub fn run<T, D, F>(seed: u64, config: Config, driver: D) -> RunOutcome<T>
where
    T: Send + 'static,
    D: FnOnce(World) -> F + Send + 'static,
    F: Future<Output = T>,
{
    catch_panic_texts();
    #[expect(clippy::disallowed_types, reason = "the one thread of a world")]
    let thread = std::thread::Builder::new().name("world".to_owned()).stack_size(16 << 20);
    let joined = thread.spawn(move || run_here(seed, config, driver)).expect("a thread can be made").join();
    joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn run_here<T, D, F>(seed: u64, config: Config, driver: D) -> RunOutcome<T>
where
    D: FnOnce(World) -> F,
    F: Future<Output = T>,
{
    IN_RUN.set(true);
    let limit = config.time_limit.unwrap_or(FOR_EVER).min(FOR_EVER);
    let runtime = Runtime::with_seed_and_config(seed, madsim::Config::default());
    let outcome = runtime.block_on(async move {
        let shared = Shared::new(seed, config);
        let end = drive(&shared, limit, driver).await;
        let (simulated, polls) = (shared.last_activity(), shared.polls());
        shared.take_down();
        // Killed tasks are dropped by the executor, in its own time.
        madsim::time::sleep(Duration::from_millis(1)).await;
        shared.forget();
        let (trace, panics) = (shared.trace.take(), shared.take_panics());
        RunOutcome { end, seed, trace, panics, simulated, polls }
    });
    drop(runtime);
    IN_RUN.set(false);
    outcome
}

async fn drive<T, D, F>(shared: &Arc<Shared>, limit: Duration, driver: D) -> RunEnd<T>
where
    D: FnOnce(World) -> F,
    F: Future<Output = T>,
{
    let limit = SimTime(0) + limit;
    // The driver is dropped before the world is taken down, whether it is done or not.
    let world = World::new(Arc::clone(shared));
    let driver = match catch_unwind(AssertUnwindSafe(|| driver(world))) {
        Ok(driver) => driver,
        Err(panic) => return driver_panicked(&*panic),
    };
    let mut driver = pin!(driver);
    let mut armed = false;
    poll_fn(|cx| {
        let now = shared.alarm.peek();
        if now >= limit {
            let idle = shared.is_idle();
            shared.alarm.tick();
            return Poll::Ready(if idle { RunEnd::Stuck } else { RunEnd::TimeLimit });
        }
        let _here = shared.enter(None);
        if shared.over_poll_limit(cx.waker()) {
            return Poll::Ready(RunEnd::PollLimit);
        }
        if !std::mem::replace(&mut armed, true) {
            shared.alarm.arm(limit, cx.waker());
        }
        match catch_unwind(AssertUnwindSafe(|| driver.as_mut().poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(value)) => Poll::Ready(RunEnd::Finished(value)),
            Err(panic) => Poll::Ready(driver_panicked(&*panic)),
        }
    })
    .await
}

fn driver_panicked<T>(panic: &(dyn Any + Send)) -> RunEnd<T> {
    let (message, location) = panic_text(panic);
    RunEnd::DriverPanicked { message, location }
}

thread_local! {
    static IN_RUN: Cell<bool> = const { Cell::new(false) };
    static LOCATION: RefCell<String> = const { RefCell::new(String::new()) };
    static CURRENT: Cell<Option<(HostId, SimTime)>> = const { Cell::new(None) };
}

/// The host whose task runs on this thread just now, and the simulated time: for logging. `None` outside any process.
#[must_use]
pub fn current() -> Option<(HostId, SimTime)> {
    CURRENT.get()
}

pub(crate) fn set_current(current: Option<(HostId, SimTime)>) -> Option<(HostId, SimTime)> {
    CURRENT.replace(current)
}

/// In a run, a panic is part of the outcome: its place is noted and nothing is printed. Elsewhere all is as before.
fn catch_panic_texts() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if IN_RUN.get() {
                let location = info.location().map(ToString::to_string).unwrap_or_default();
                LOCATION.with_borrow_mut(|slot| *slot = location);
            } else {
                before(info);
            }
        }));
    });
}

/// What a panic said, and where it was.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> (String, String) {
    let message = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without words".to_owned());
    (message, LOCATION.with_borrow_mut(std::mem::take))
}
