//! How long to wait before trying again.

use rand_chacha::ChaCha8Rng;
use rand_core::Rng;
use std::time::Duration;

/// Doubles from `initial` to `max`, each time give or take a fifth, as Kafka's clients do (KIP-580).
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Backoff {
    initial: Duration,
    max: Duration,
    rng: ChaCha8Rng,
}

impl Backoff {
    pub(crate) fn new(initial: Duration, max: Duration, rng: ChaCha8Rng) -> Self {
        Backoff { initial, max: max.max(initial), rng }
    }

    /// The wait after `failures` failures in a row before the latest one: 0 gives `initial`. Never beyond `max`.
    pub(crate) fn delay(&mut self, failures: u32) -> Duration {
        let doubled = self.initial.saturating_mul(1 << failures.min(20)).min(self.max);
        let per_mille = 800 + self.rng.next_u32() % 401;
        (doubled * per_mille / 1000).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::SeedableRng;

    #[test]
    fn waits_double_with_jitter_up_to_the_maximum() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(100), ms(1000), ChaCha8Rng::seed_from_u64(1));
        for (failures, middle) in [(0, 100), (1, 200), (2, 400), (3, 800), (4, 1000), (99, 1000)] {
            let draws: Vec<Duration> = (0..200).map(|_| backoff.delay(failures)).collect();
            assert!(draws.iter().all(|draw| (ms(middle * 8 / 10)..=ms(middle * 12 / 10).min(ms(1000))).contains(draw)));
            assert!(draws.iter().any(|draw| *draw < ms(middle * 9 / 10)), "the jitter reaches down");
        }
    }
}
