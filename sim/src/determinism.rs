//! Is a run the same as the last time?
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the canaries look at what nobody else may look at"
)]

use crate::run::{Config, run};
use crate::trace::{CHECKPOINT_EVERY, Checkpoint, Event, TraceRecord};
use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, SystemTime};

/// Where two traces of what should be the same run part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Divergence {
    /// They agree on this many events, by the last checkpoint before the difference.
    pub agree_on: u64,
    /// The difference is among the events before this one.
    pub differ_before: u64,
    /// The first event that differs, on either side, if both traces still hold it.
    pub first: Option<(Option<Event>, Option<Event>)>,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the runs agree on {} events and differ before event {}", self.agree_on, self.differ_before)?;
        if let Some((left, right)) = &self.first {
            write!(f, ": {left:?} against {right:?}")?;
        }
        Ok(())
    }
}

/// The first checkpoint at which two lists differ: how many events both agree on before it, and its own number of
/// events. `None` when one list is a beginning of the other.
#[must_use]
pub fn first_differing_checkpoint(left: &[Checkpoint], right: &[Checkpoint]) -> Option<(u64, u64)> {
    let index = left.iter().zip(right).position(|(l, r)| l != r)?;
    Some((index as u64 * CHECKPOINT_EVERY, left[index].events))
}

/// Compares two traces; `None` when they are the same.
#[must_use]
pub fn compare(left: &TraceRecord, right: &TraceRecord) -> Option<Divergence> {
    if left.fingerprint == right.fingerprint && left.events == right.events {
        return None;
    }
    let common = left.checkpoints.len().min(right.checkpoints.len()) as u64 * CHECKPOINT_EVERY;
    let (agree_on, differ_before) = first_differing_checkpoint(&left.checkpoints, &right.checkpoints)
        .unwrap_or((common, left.events.max(right.events)));
    let kept = left.first_kept() <= agree_on && right.first_kept() <= agree_on;
    let first = kept.then(|| {
        let mut events = (left.iter().skip_while(|e| e.seq < agree_on), right.iter().skip_while(|e| e.seq < agree_on));
        loop {
            let pair = (events.0.next(), events.1.next());
            if pair.0 != pair.1 || pair.0.is_none() {
                break pair;
            }
        }
    });
    Some(Divergence { agree_on, differ_before, first })
}

/// One thing that must hold for runs to repeat on this machine and with this build.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Canary {
    /// What is looked at.
    pub name: &'static str,
    /// Whether it is as it must be.
    pub ok: bool,
    /// What was seen.
    pub detail: String,
}

/// Looks whether the executor has really taken the place of the machine's clock and chance: a build in which it has not
/// would run, and never repeat itself.
#[must_use]
pub fn canaries() -> Vec<Canary> {
    let [first, second, other] = [7, 7, 8].map(|seed| {
        run(seed, Config::default(), |world| async move {
            let year =
                SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |t| 1970 + t.as_secs() / 31_557_600);
            let before = world.now();
            world.sleep(Duration::from_secs(3600)).await;
            let mut bytes = [0; 8];
            let drawn = getrandom::fill(&mut bytes).map(|()| u64::from_le_bytes(bytes));
            let order: HashMap<u32, ()> = (0..64).map(|n| (n, ())).collect();
            let order: Vec<u32> = order.into_keys().collect();
            (year, world.now() - before, drawn.ok(), order)
        })
        .finished()
    });
    let (Some(first), Some(second), Some(other)) = (first, second, other) else {
        return vec![Canary {
            name: "a world runs",
            ok: false,
            detail: "the canaries' world did not finish".to_owned(),
        }];
    };
    let canary = |name, ok, detail| Canary { name, ok, detail };
    vec![
        canary("wall clocks are simulated", first.0 == 2022 || first.0 == 2021, format!("the year is {}", first.0)),
        canary("time is simulated", first.1 >= Duration::from_secs(3600), format!("an hour took {:?}", first.1)),
        canary(
            "the system's chance comes from the seed",
            first.2.is_some() && first.2 == second.2 && first.2 != other.2,
            format!("{:x?} and {:x?} with one seed, {:x?} with another", first.2, second.2, other.2),
        ),
        canary(
            "hash maps have one order per seed",
            first.3 == second.3 && first.3 != other.3,
            format!("{:?} and {:?} with one seed", &first.3[..4], &second.3[..4]),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SimTime;
    use crate::process::HostId;
    use crate::trace::Trace;

    fn trace_with(odd_one: Option<u64>) -> TraceRecord {
        let trace = Trace::new(1 << 20);
        for n in 0..5_000 {
            let payload = if odd_one == Some(n) { b"b" } else { b"a" };
            trace.record_at(SimTime(n), HostId(0), 300, payload);
        }
        trace.take()
    }

    #[test]
    fn the_first_differing_event_is_found_by_its_checkpoint() {
        let (one, two) = (trace_with(None), trace_with(Some(3_000)));
        assert_eq!(compare(&one, &trace_with(None)), None);
        let found = compare(&one, &two).unwrap();
        assert_eq!((found.agree_on, found.differ_before), (2_048, 3_072));
        let (left, right) = found.first.unwrap();
        assert_eq!((left.unwrap().seq, right.unwrap().payload), (3_000, b"b".to_vec()));
    }

    #[test]
    fn the_executor_has_taken_the_place_of_clock_and_chance() {
        for canary in canaries() {
            assert!(canary.ok, "{}: {}", canary.name, canary.detail);
        }
    }
}
