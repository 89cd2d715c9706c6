//! One 64-bit seed, split by name.
//!
//! Whoever needs chance asks for a stream of its own, by name: `network/link/broker-1/broker-2`, `disk/broker-1`,
//! `node/broker-2/3/0/raft` (host, incarnation, how often this name was asked for, name). A stream is a ChaCha8
//! generator whose 256-bit key is two XXH3-128 hashes over the name, one keyed with the seed, one with its complement.
//! So a new draw in one place moves no other, and a schedule that is shrunk leaves the rest of the world as it was.
//! The order in which ready tasks run is drawn from the seed by the executor; it is the one stream without a name.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use std::time::Duration;
use xxhash_rust::xxh3::xxh3_128_with_seed;

/// The seed of a world.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seed(pub u64);

impl Seed {
    /// The stream of this name. The same name gives the same sequence, from its beginning.
    #[must_use]
    pub fn stream(self, name: &str) -> ChaCha8Rng {
        let mut key = [0; 32];
        key[..16].copy_from_slice(&xxh3_128_with_seed(name.as_bytes(), self.0).to_le_bytes());
        key[16..].copy_from_slice(&xxh3_128_with_seed(name.as_bytes(), !self.0).to_le_bytes());
        ChaCha8Rng::from_seed(key)
    }
}

/// A number below `end`, without floats. `end` = 0 gives 0.
pub(crate) fn below(rng: &mut ChaCha8Rng, end: u64) -> u64 {
    ((u128::from(rng.next_u64()) * u128::from(end)) >> 64) as u64
}

/// True `ppm` times in a million. Draws nothing for "never".
pub(crate) fn chance_ppm(rng: &mut ChaCha8Rng, ppm: u32) -> bool {
    ppm > 0 && below(rng, 1_000_000) < u64::from(ppm)
}

/// Durations between two bounds, both inclusive, drawn evenly.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DurationRange {
    /// The least.
    pub min: Duration,
    /// The most; not below `min`.
    pub max: Duration,
}

impl DurationRange {
    /// Between `min` and `max`. Panics when they are the wrong way round.
    #[must_use]
    pub const fn new(min: Duration, max: Duration) -> Self {
        assert!(min.as_nanos() <= max.as_nanos(), "a duration range starts at its least");
        DurationRange { min, max }
    }

    /// Between two numbers of microseconds.
    #[must_use]
    pub const fn micros(min: u64, max: u64) -> Self {
        Self::new(Duration::from_micros(min), Duration::from_micros(max))
    }

    /// Between two numbers of milliseconds.
    #[must_use]
    pub const fn millis(min: u64, max: u64) -> Self {
        Self::new(Duration::from_millis(min), Duration::from_millis(max))
    }

    /// Always the same.
    #[must_use]
    pub const fn fixed(value: Duration) -> Self {
        DurationRange { min: value, max: value }
    }

    /// Draws one. Always takes one draw, also from a range of one value.
    pub fn draw(&self, rng: &mut ChaCha8Rng) -> Duration {
        Duration::from_nanos(self.draw_nanos(rng))
    }

    pub(crate) fn draw_nanos(&self, rng: &mut ChaCha8Rng) -> u64 {
        let (min, max) = (nanos(self.min), nanos(self.max));
        min + below(rng, max - min + 1)
    }
}

/// Nanoseconds of a duration; 584 years and more are the same to us.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 4).min(u64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_depends_on_seed_and_name_and_on_nothing_else() {
        let first = |seed: u64, name: &str| Seed(seed).stream(name).next_u64();
        assert_eq!(first(1, "disk/a"), first(1, "disk/a"));
        assert_ne!(first(1, "disk/a"), first(1, "disk/b"));
        assert_ne!(first(1, "disk/a"), first(2, "disk/a"));
    }

    #[test]
    fn draws_stay_inside_their_bounds_and_reach_both() {
        let mut rng = Seed(7).stream("t");
        let range = DurationRange::new(Duration::from_nanos(3), Duration::from_nanos(5));
        let mut seen = [false; 3];
        for _ in 0..200 {
            seen[(range.draw_nanos(&mut rng) - 3) as usize] = true;
        }
        assert_eq!(seen, [true; 3]);
        assert!(!chance_ppm(&mut rng, 0) && chance_ppm(&mut rng, 1_000_000));
    }
}
