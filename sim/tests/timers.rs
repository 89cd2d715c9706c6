//! A process's timers against a naive model: each fires at its last deadline, never before, unless it was dropped.

use broker_types::MonoTime;
use proptest::prelude::*;
use sim::clock::ClockConfig;
use sim::{ClockFault, Config, Fault};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// One timer: its deadline, then what happens to it while it waits. All in milliseconds.
#[derive(Clone, Debug)]
struct Script {
    deadline: u64,
    /// When, and to which deadline.
    reset: Option<(u64, u64)>,
    /// When it is dropped.
    drop: Option<u64>,
}

impl Script {
    /// When it fires, if it does. What is done to it comes too late once it has fired.
    fn expected(&self) -> Option<u64> {
        let mut deadline = self.deadline;
        let dropped = self.drop.unwrap_or(u64::MAX);
        if let Some((at, to)) = self.reset.filter(|(at, _)| *at < deadline && *at < dropped) {
            deadline = to.max(at);
        }
        (deadline < dropped).then_some(deadline)
    }
}

fn script() -> impl Strategy<Value = Script> {
    // Deadlines are even, what is done to timers happens at odd times: no ties.
    let time = || (1_u64..2_000).prop_map(|ms| 2 * ms);
    let moment = || (1_u64..2_000).prop_map(|ms| 2 * ms + 1);
    (time(), proptest::option::of((moment(), time())), proptest::option::of(moment()))
        .prop_map(|(deadline, reset, drop)| Script { deadline, reset, drop })
}

fn fired(seed: u64, scripts: Vec<Script>, drift: i64) -> Vec<(usize, u64)> {
    let clock = ClockConfig { max_drift_ppm: 200, ..ClockConfig::default() };
    sim::run(seed, Config { clock, ..Config::default() }, move |world| async move {
        let host = world.add_node("host", Arc::new(|_, _| Box::pin(std::future::pending())));
        world.start(host);
        let env = world.env(host).expect("just started");
        world.install(Fault::Clock(host, ClockFault::Drift { ppm: drift }));
        let fired = Arc::new(Mutex::new(Vec::new()));
        let zero = env.mono();
        let at = move |ms: u64| zero + Duration::from_millis(ms);
        for (index, script) in scripts.into_iter().enumerate() {
            let (env, fired) = (Arc::clone(&env), Arc::clone(&fired));
            env.clone().go("timer", async move {
                let mut timer = env.timer(at(script.deadline));
                // Each thing done to the timer ends one wait for it and begins the next.
                let mut moments: Vec<(u64, Option<u64>)> = Vec::new();
                moments.extend(script.reset.map(|(when, to)| (when, Some(to))));
                moments.extend(script.drop.map(|when| (when, None)));
                moments.sort_unstable();
                for (when, to) in moments {
                    if env.until(at(when), &mut timer).await.is_some() {
                        fired.lock().expect("alive").push((index, env.mono()));
                        return;
                    }
                    match to {
                        Some(to) => timer.reset(at(to)),
                        None => return,
                    }
                }
                timer.await;
                fired.lock().expect("alive").push((index, env.mono()));
            });
        }
        env.sleep(Duration::from_secs(10)).await;
        let fired = fired.lock().expect("alive");
        let since = |mono: MonoTime| mono.since(zero).as_micros() as u64;
        fired.iter().map(|(index, mono)| (*index, since(*mono))).collect()
    })
    .expect_clean()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    #[test]
    fn timers_fire_at_their_last_deadline_in_order_and_on_their_own_clock(
        seed in any::<u64>(), scripts in proptest::collection::vec(script(), 1..40), drift in -300_000_i64..300_000,
    ) {
        let mut expected: Vec<(usize, u64)> =
            scripts.iter().enumerate().filter_map(|(index, script)| Some((index, script.expected()?))).collect();
        let mut fired = fired(seed, scripts, drift);
        prop_assert!(fired.is_sorted_by_key(|(_, at)| *at));
        fired.sort_unstable();
        expected.sort_unstable();
        prop_assert_eq!(fired.len(), expected.len());
        for ((index, at), (other, due)) in fired.into_iter().zip(expected) {
            prop_assert_eq!(index, other);
            prop_assert!(at >= due * 1000 && at < due * 1000 + 100, "timer {} due at {} ms fired at {} us", index, due, at);
        }
    }
}
