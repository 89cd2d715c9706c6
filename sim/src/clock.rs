//! Time: the world's own, and what each host takes it for.
//!
//! A host has a monotonic clock, which may run too fast or too slow but never jumps, and a wall clock, which follows
//! the monotonic one and may also be wrong by an offset, jump, or stand still. Only the world knows [`SimTime`].

use crate::alarm::lock;
use crate::fault::{EffectCounters, FaultId};
use broker_types::{MonoTime, WallTime};
use std::fmt;
use std::ops::{Add, Sub};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The world's time: nanoseconds since its beginning. No process can read it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SimTime(pub u64);

impl SimTime {
    /// A moment that never comes.
    pub const NEVER: SimTime = SimTime(u64::MAX);

    /// `ms` milliseconds after the beginning.
    #[must_use]
    pub const fn from_millis(ms: u64) -> Self {
        SimTime(ms * 1_000_000)
    }

    /// `secs` seconds after the beginning.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        SimTime(secs * 1_000_000_000)
    }

    /// Whole milliseconds since the beginning.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Whole seconds since the beginning.
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        self.0 / 1_000_000_000
    }

    /// How long `earlier` is past; zero if it is not.
    #[must_use]
    pub fn since(self, earlier: SimTime) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for SimTime {
    type Output = SimTime;
    fn add(self, by: Duration) -> SimTime {
        SimTime(self.0.saturating_add(crate::seed::nanos(by)))
    }
}

impl Sub<SimTime> for SimTime {
    type Output = Duration;
    fn sub(self, earlier: SimTime) -> Duration {
        self.since(earlier)
    }
}

impl fmt::Display for SimTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}s", self.0 / 1_000_000_000, self.0 / 1_000_000 % 1000)
    }
}

impl fmt::Debug for SimTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}s", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

/// How good the clocks of a world are before any fault.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClockConfig {
    /// What the wall clocks show at the beginning.
    pub start: WallTime,
    /// Each host's wall clock is off by a drawn amount, at most this, either way.
    pub max_skew: Duration,
    /// Each host's clocks drift by a drawn rate, at most this many parts per million, either way.
    pub max_drift_ppm: u32,
}

impl Default for ClockConfig {
    /// 2026-01-01T00:00:00Z, wall clocks within 2 ms, crystals within 20 ppm.
    fn default() -> Self {
        ClockConfig { start: WallTime(1_767_225_600_000), max_skew: Duration::from_millis(2), max_drift_ppm: 20 }
    }
}

/// What may be wrong with a host's clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClockFault {
    /// While it holds, the wall clock is off by this many milliseconds; then it is right again.
    Skew {
        /// Positive: ahead.
        by_ms: i64,
    },
    /// The wall clock jumps, once, and stays there. Removing the fault ends the counting of readings, nothing else.
    Step {
        /// Positive: forward.
        by_ms: i64,
    },
    /// While it holds, both clocks run at a wrong rate. What was gained or lost stays.
    Drift {
        /// Positive: fast. At least -900 000.
        ppm: i64,
    },
    /// While it holds, the wall clock stands still; then it jumps to where it would be.
    Freeze,
}

/// One host's clocks.
pub(crate) struct HostClock {
    /// Whether the monotonic clock is simulated time plus `plain_base`, which is when no lock is needed.
    plain: AtomicBool,
    plain_base: AtomicU64,
    state: Mutex<ClockState>,
    effects: Arc<Mutex<EffectCounters>>,
}

struct ClockState {
    /// The monotonic clock is `anchor_mono` at `anchor` and runs at a millionth of `1_000_000 + rate` from there.
    anchor: SimTime,
    anchor_mono: u64,
    rate_ppm: i64,
    own_ppm: i64,
    /// Wall minus monotonic, in nanoseconds, skew faults left out.
    wall_base: i128,
    faults: Vec<(FaultId, ClockFault, Option<i128>)>,
}

/// Slower than a tenth of real speed makes no sense and would stop time.
const SLOWEST_PPM: i64 = -900_000;

impl ClockState {
    fn mono(&self, now: SimTime) -> u64 {
        let passed = u128::from(now.0.saturating_sub(self.anchor.0));
        self.anchor_mono + (passed * (1_000_000 + self.rate_ppm) as u128 / 1_000_000) as u64
    }

    /// In nanoseconds since the Unix epoch, every fault but freezing applied.
    fn running_wall(&self, now: SimTime) -> i128 {
        let skew: i64 = self.faults.iter().map(|f| if let ClockFault::Skew { by_ms } = f.1 { by_ms } else { 0 }).sum();
        i128::from(self.mono(now)) + self.wall_base + i128::from(skew) * 1_000_000
    }

    fn wall(&self, now: SimTime) -> i128 {
        let frozen = self.faults.iter().find_map(|f| f.2);
        frozen.unwrap_or_else(|| self.running_wall(now))
    }

    fn set_rate(&mut self, now: SimTime) {
        self.anchor_mono = self.mono(now);
        self.anchor = now;
        let extra: i64 = self.faults.iter().map(|f| if let ClockFault::Drift { ppm } = f.1 { ppm } else { 0 }).sum();
        self.rate_ppm = self.own_ppm.saturating_add(extra).max(SLOWEST_PPM);
    }
}

impl HostClock {
    /// A clock that shows `mono` nanoseconds and, on the wall, `wall_ns` at the beginning, and runs `ppm` too fast.
    pub(crate) fn new(now: SimTime, mono: u64, wall_ns: i128, ppm: i64, effects: Arc<Mutex<EffectCounters>>) -> Self {
        let state = ClockState {
            anchor: now,
            anchor_mono: mono,
            rate_ppm: ppm,
            own_ppm: ppm,
            wall_base: wall_ns - i128::from(mono),
            faults: Vec::new(),
        };
        let clock = HostClock {
            plain: AtomicBool::new(false),
            plain_base: AtomicU64::new(0),
            state: Mutex::new(state),
            effects,
        };
        clock.settle();
        clock
    }

    fn settle(&self) {
        let state = lock(&self.state);
        let drifts = state.faults.iter().any(|f| matches!(f.1, ClockFault::Drift { .. }));
        let plain = state.rate_ppm == 0 && !drifts && state.anchor_mono >= state.anchor.0;
        self.plain_base.store(state.anchor_mono.wrapping_sub(state.anchor.0), Ordering::Relaxed);
        self.plain.store(plain, Ordering::Relaxed);
    }

    /// The monotonic clock, without counting as a reading.
    pub(crate) fn mono_at(&self, now: SimTime) -> u64 {
        if self.plain.load(Ordering::Relaxed) {
            return now.0 + self.plain_base.load(Ordering::Relaxed);
        }
        lock(&self.state).mono(now)
    }

    /// A process reads its monotonic clock.
    pub(crate) fn read_mono(&self, now: SimTime) -> MonoTime {
        if self.plain.load(Ordering::Relaxed) {
            return MonoTime(now.0 + self.plain_base.load(Ordering::Relaxed));
        }
        let state = lock(&self.state);
        self.count(&state, |fault| matches!(fault, ClockFault::Drift { .. }));
        MonoTime(state.mono(now))
    }

    /// A process reads its wall clock.
    pub(crate) fn read_wall(&self, now: SimTime) -> WallTime {
        let state = lock(&self.state);
        self.count(&state, |_| true);
        WallTime(state.wall(now).div_euclid(1_000_000) as i64)
    }

    fn count(&self, state: &ClockState, moved_by: impl Fn(&ClockFault) -> bool) {
        for (id, fault, _) in &state.faults {
            if moved_by(fault) {
                lock(&self.effects).count(*id, "readings", 1);
            }
        }
    }

    /// The first simulated moment at which the monotonic clock shows `mono` or more.
    pub(crate) fn when_mono_is(&self, mono: u64) -> SimTime {
        let state = lock(&self.state);
        if mono <= state.anchor_mono {
            return state.anchor;
        }
        let rate = (1_000_000 + state.rate_ppm) as u128;
        let ahead = u128::from(mono - state.anchor_mono);
        let wait = (ahead * 1_000_000).div_ceil(rate);
        SimTime(state.anchor.0.saturating_add(u64::try_from(wait).unwrap_or(u64::MAX)))
    }

    pub(crate) fn install(&self, now: SimTime, id: FaultId, fault: ClockFault) {
        let mut state = lock(&self.state);
        let frozen = (fault == ClockFault::Freeze).then(|| state.wall(now));
        if let ClockFault::Step { by_ms } = fault {
            state.wall_base += i128::from(by_ms) * 1_000_000;
        }
        state.faults.push((id, fault, frozen));
        state.set_rate(now);
        drop(state);
        self.settle();
    }

    pub(crate) fn remove(&self, now: SimTime, id: FaultId) {
        let mut state = lock(&self.state);
        state.anchor_mono = state.mono(now);
        state.anchor = now;
        state.faults.retain(|f| f.0 != id);
        state.set_rate(now);
        drop(state);
        self.settle();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(ppm: i64) -> HostClock {
        HostClock::new(SimTime(0), 1_000, 5_000_000_000, ppm, Arc::default())
    }

    #[test]
    fn drift_moves_both_clocks_and_what_was_gained_stays() {
        let clock = clock(0);
        clock.install(SimTime::from_secs(10), FaultId(1), ClockFault::Drift { ppm: 100_000 });
        clock.remove(SimTime::from_secs(20), FaultId(1));
        assert_eq!(clock.mono_at(SimTime::from_secs(30)), 1_000 + 31_000_000_000);
        assert_eq!(clock.read_wall(SimTime::from_secs(30)), WallTime(5_000 + 31_000));
        assert_eq!(clock.read_mono(SimTime::from_secs(30)).0, clock.mono_at(SimTime::from_secs(30)));
    }

    #[test]
    fn skew_step_and_freeze_move_the_wall_clock_only() {
        let clock = clock(0);
        let wall = |at: u64| clock.read_wall(SimTime::from_secs(at)).0;
        clock.install(SimTime::from_secs(1), FaultId(1), ClockFault::Skew { by_ms: -2_000 });
        assert_eq!(wall(1), 5_000 + 1_000 - 2_000);
        clock.remove(SimTime::from_secs(2), FaultId(1));
        assert_eq!(wall(2), 5_000 + 2_000);
        clock.install(SimTime::from_secs(3), FaultId(2), ClockFault::Step { by_ms: 60_000 });
        clock.remove(SimTime::from_secs(3), FaultId(2));
        assert_eq!(wall(4), 5_000 + 4_000 + 60_000, "a step stays");
        clock.install(SimTime::from_secs(5), FaultId(3), ClockFault::Freeze);
        assert_eq!((wall(6), wall(9)), (70_000, 70_000));
        assert_eq!(clock.mono_at(SimTime::from_secs(9)), 1_000 + 9_000_000_000, "the monotonic clock goes on");
        clock.remove(SimTime::from_secs(10), FaultId(3));
        assert_eq!(wall(10), 75_000);
    }

    #[test]
    fn readings_while_a_fault_holds_are_its_effects() {
        let clock = clock(0);
        let _ = clock.read_wall(SimTime(1));
        clock.install(SimTime(2), FaultId(7), ClockFault::Skew { by_ms: 5 });
        assert!(lock(&clock.effects).of(FaultId(7)).is_empty());
        let (_, _) = (clock.read_wall(SimTime(3)), clock.read_mono(SimTime(3)));
        clock.remove(SimTime(4), FaultId(7));
        let _ = clock.read_wall(SimTime(5));
        assert_eq!(lock(&clock.effects).of(FaultId(7)), [("readings", 1)].into());
    }

    proptest::proptest! {
        #[test]
        fn a_moment_of_the_monotonic_clock_is_found_exactly(
            ppm in -500_000_i64..500_000, start in 0_u64..1 << 40, wait in 0_u64..1 << 45,
        ) {
            let clock = clock(ppm);
            let target = clock.mono_at(SimTime(start)) + wait;
            let at = clock.when_mono_is(target);
            proptest::prop_assert!(clock.mono_at(at) >= target);
            proptest::prop_assert!(at.0 == 0 || clock.mono_at(SimTime(at.0 - 1)) < target);
        }
    }
}
