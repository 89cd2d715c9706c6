//! One direction between two hosts: how long a packet takes, and whether it gets through at all.

use super::LinkConfig;
use crate::alarm::lock;
use crate::clock::SimTime;
use crate::fault::{EffectCounters, FaultId};
use crate::seed::{DurationRange, Seed, chance_ppm};
use rand_chacha::ChaCha8Rng;
use std::sync::Mutex;
use std::time::Duration;

/// Payload of one packet on the wire.
const PACKET_BYTES: u64 = 1448;
/// A packet that is lost this often in a row gets through the next time.
const MAX_LOSSES: u32 = 6;

pub(crate) struct Link {
    rng: ChaCha8Rng,
    pub(crate) config: LinkConfig,
    /// Until when the wire is taken by what was sent before.
    busy_until: SimTime,
    /// Whether any of the lists below holds anything.
    faulty: bool,
    blocked: Vec<FaultId>,
    slow: Vec<(FaultId, DurationRange)>,
    lossy: Vec<(FaultId, u32)>,
    throttled: Vec<(FaultId, u64)>,
}

/// What a fault does to one link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LinkFault {
    Block,
    Slow(DurationRange),
    Lossy(u32),
    Throttle(u64),
}

impl Link {
    pub(crate) fn new(seed: Seed, from: &str, to: &str, config: LinkConfig) -> Self {
        Link {
            rng: seed.stream(&format!("network/link/{from}/{to}")),
            config,
            busy_until: SimTime(0),
            faulty: false,
            blocked: Vec::new(),
            slow: Vec::new(),
            lossy: Vec::new(),
            throttled: Vec::new(),
        }
    }

    pub(crate) fn clear_faults(&mut self) {
        self.faulty = false;
        self.blocked.clear();
        self.slow.clear();
        self.lossy.clear();
        self.throttled.clear();
    }

    pub(crate) fn add_fault(&mut self, id: FaultId, fault: LinkFault) {
        self.faulty = true;
        match fault {
            LinkFault::Block => self.blocked.push(id),
            LinkFault::Slow(by) => self.slow.push((id, by)),
            LinkFault::Lossy(ppm) => self.lossy.push((id, ppm)),
            LinkFault::Throttle(rate) => self.throttled.push((id, rate)),
        }
    }

    pub(crate) fn is_blocked(&self) -> bool {
        !self.blocked.is_empty()
    }

    /// Who blocks it: the faults that get the credit for what does not arrive.
    pub(crate) fn blockers(&self) -> &[FaultId] {
        &self.blocked
    }

    /// When `len` bytes sent now arrive, if nothing blocks them. `rto` is the wait before a lost packet is sent again.
    pub(crate) fn transit(
        &mut self,
        now: SimTime,
        len: usize,
        rto: Duration,
        effects: &Mutex<EffectCounters>,
    ) -> SimTime {
        let wire = self.wire_nanos(len, effects);
        let mut sent = now;
        if let Some(wire) = wire {
            sent = SimTime(now.max(self.busy_until).0 + wire);
            self.busy_until = sent;
        }
        self.arrival(sent, len, rto, effects)
    }

    /// The same for bytes that will be sent at `then`, which may be a while from now. They do not occupy the link: what
    /// is sent before `then` must not wait for them. Returns when they have left, too.
    pub(crate) fn transit_later(
        &mut self,
        then: SimTime,
        len: usize,
        rto: Duration,
        effects: &Mutex<EffectCounters>,
    ) -> (SimTime, SimTime) {
        let sent = match self.wire_nanos(len, effects) {
            Some(wire) => SimTime(then.max(self.busy_until).0 + wire),
            None => then,
        };
        (sent, self.arrival(sent, len, rto, effects))
    }

    /// How long `len` bytes occupy the link; `None` when it has no limit.
    fn wire_nanos(&self, len: usize, effects: &Mutex<EffectCounters>) -> Option<u64> {
        let mut rate = self.config.bytes_per_second;
        if self.faulty {
            for &(id, limit) in &self.throttled {
                lock(effects).count(id, "bytes-delayed", len as u64);
                rate = Some(rate.map_or(limit, |rate| rate.min(limit)));
            }
        }
        rate.map(|rate| (len as u128 * 1_000_000_000 / u128::from(rate.max(1))) as u64)
    }

    /// When bytes that leave at `sent` are there.
    fn arrival(&mut self, sent: SimTime, len: usize, rto: Duration, effects: &Mutex<EffectCounters>) -> SimTime {
        let mut arrive = sent.0 + self.config.latency.draw_nanos(&mut self.rng);
        if self.faulty {
            for (id, by) in &self.slow {
                arrive += by.draw_nanos(&mut self.rng);
                lock(effects).count(*id, "bytes-delayed", len as u64);
            }
        }
        if self.config.loss_ppm > 0 || self.faulty {
            arrive += self.losses(len, rto, effects);
        }
        SimTime(arrive)
    }

    /// How much later everything arrives because packets of it are lost, one after the other in doubling intervals.
    fn losses(&mut self, len: usize, rto: Duration, effects: &Mutex<EffectCounters>) -> u64 {
        let packets = (len as u64).div_ceil(PACKET_BYTES).clamp(1, 16);
        let mut worst = 0;
        for _ in 0..packets {
            let mut wait = 0;
            for round in 0..MAX_LOSSES {
                let mut lost = chance_ppm(&mut self.rng, self.config.loss_ppm);
                for &(id, ppm) in &self.lossy {
                    if chance_ppm(&mut self.rng, ppm) {
                        lost = true;
                        let mut effects = lock(effects);
                        effects.count(id, "packets-lost", 1);
                        effects.count(id, "bytes-lost", PACKET_BYTES.min(len as u64));
                    }
                }
                if !lost {
                    break;
                }
                wait += crate::seed::nanos(rto) << round;
            }
            worst = worst.max(wait);
        }
        worst
    }
}

/// When something that was sent at `sent` and did not get through is sent again, for the first time at or after
/// `from`: after one retransmission timeout, then after twice that, and so on.
pub(crate) fn next_retransmission(sent: SimTime, rto: Duration, from: SimTime) -> SimTime {
    let mut wait = crate::seed::nanos(rto).max(1_000_000);
    let mut at = sent.0;
    while at < from.0 {
        at += wait;
        wait = wait.saturating_mul(2).min(120_000_000_000);
    }
    SimTime(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn retransmissions_double_their_distance() {
        let rto = Duration::from_millis(200);
        let next = |from| next_retransmission(SimTime::from_secs(1), rto, SimTime::from_millis(from)).as_millis();
        assert_eq!([next(900), next(1_001), next(1_201), next(1_700)], [1_000, 1_200, 1_600, 2_400]);
    }

    #[test]
    fn a_narrow_link_sends_one_thing_after_the_other() {
        let config = LinkConfig {
            latency: DurationRange::fixed(Duration::from_millis(1)),
            bytes_per_second: Some(1_000_000),
            loss_ppm: 0,
        };
        let mut link = Link::new(Seed(1), "a", "b", config);
        let effects = Mutex::default();
        let mut send = |at| link.transit(SimTime::from_millis(at), 10_000, Duration::from_millis(200), &effects);
        assert_eq!([send(0), send(0), send(100)].map(SimTime::as_millis), [11, 21, 111]);
    }
}
