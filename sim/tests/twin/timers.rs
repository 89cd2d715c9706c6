//! Timers and clocks.

use super::harness::Stage;
use broker_types::MonoTime;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Counts how often it is woken.
#[derive(Default)]
struct Wakes(AtomicU32);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

pub async fn a_timer_fires_at_its_deadline_and_not_before(stage: Stage) {
    let env = &stage.client.env;
    for wait in [ms(1), ms(7), ms(40)] {
        let deadline = env.mono() + wait;
        env.timer(deadline).await;
        let late = env.mono().since(deadline);
        assert!(env.mono() >= deadline, "fired {:?} early", deadline.since(env.mono()));
        assert!(late < ms(5_000), "fired {late:?} late");
    }
}

pub async fn timers_fire_in_the_order_of_their_deadlines(stage: Stage) {
    let env = &stage.client.env;
    let start = env.mono();
    let fired = Arc::new(Mutex::new(Vec::new()));
    for wait in [150, 30, 210, 90] {
        let (mut timer, fired) = (env.timer(start + ms(wait)), fired.clone());
        env.go("a timer", async move {
            (&mut timer).await;
            fired.lock().unwrap().push(wait);
        });
    }
    while fired.lock().unwrap().len() < 4 {
        env.sleep(ms(10)).await;
    }
    assert_eq!(*fired.lock().unwrap(), [30, 90, 150, 210]);
}

pub async fn a_deadline_in_the_past_fires_at_once(stage: Stage) {
    let env = &stage.client.env;
    env.sleep(ms(5)).await;
    for deadline in [MonoTime(0), env.mono()] {
        assert!(env.until(env.mono() + ms(5_000), env.timer(deadline)).await.is_some());
    }
}

pub async fn a_fired_timer_stays_fired(stage: Stage) {
    let env = &stage.client.env;
    let mut timer = env.timer(env.mono() + ms(2));
    (&mut timer).await;
    (&mut timer).await;
    let mut cx = Context::from_waker(Waker::noop());
    assert_eq!(pin!(&mut timer).poll(&mut cx), Poll::Ready(()));
}

pub async fn a_timer_reset_later_waits_longer(stage: Stage) {
    let env = &stage.client.env;
    let start = env.mono();
    let mut timer = env.timer(start + ms(20));
    assert!(env.until(start + ms(5), &mut timer).await.is_none());
    timer.reset(start + ms(120));
    assert!(env.until(start + ms(60), &mut timer).await.is_none(), "the old deadline fired");
    (&mut timer).await;
    assert!(env.mono() >= start + ms(120));
}

pub async fn a_timer_reset_earlier_fires_earlier(stage: Stage) {
    let env = &stage.client.env;
    let start = env.mono();
    let mut timer = env.timer(start + ms(60_000));
    assert!(env.until(start + ms(5), &mut timer).await.is_none());
    timer.reset(start + ms(20));
    assert!(env.until(start + ms(30_000), &mut timer).await.is_some());
    assert!(env.mono() >= start + ms(20));
}

pub async fn a_reset_wakes_a_waiter_that_was_not_polled_since(stage: Stage) {
    let env = &stage.client.env;
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(wakes.clone());
    let mut timer = env.timer(env.mono() + ms(60_000));
    assert_eq!(pin!(&mut timer).poll(&mut Context::from_waker(&waker)), Poll::Pending);
    timer.reset(env.mono() + ms(20));
    env.sleep(ms(300)).await;
    assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
}

pub async fn a_disarmed_timer_never_fires(stage: Stage) {
    let env = &stage.client.env;
    let mut timer = env.timer(env.mono() + ms(20));
    assert!(env.until(env.mono() + ms(2), &mut timer).await.is_none());
    timer.reset(MonoTime::NEVER);
    assert!(env.until(env.mono() + ms(200), &mut timer).await.is_none());
    let mut unborn = env.timer(MonoTime::NEVER);
    assert!(env.until(env.mono() + ms(50), &mut unborn).await.is_none());
}

pub async fn a_dropped_timer_wakes_nobody(stage: Stage) {
    let env = &stage.client.env;
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(wakes.clone());
    let mut timer = env.timer(env.mono() + ms(30));
    assert_eq!(pin!(&mut timer).poll(&mut Context::from_waker(&waker)), Poll::Pending);
    drop(timer);
    env.sleep(ms(200)).await;
    assert_eq!(wakes.0.load(Ordering::SeqCst), 0);
}

pub async fn a_fired_timer_can_be_armed_again(stage: Stage) {
    let env = &stage.client.env;
    let mut timer = env.timer(env.mono());
    (&mut timer).await;
    for _ in 0..3 {
        let deadline = env.mono() + ms(10);
        timer.reset(deadline);
        (&mut timer).await;
        assert!(env.mono() >= deadline);
    }
}

pub async fn until_gives_up_at_its_deadline(stage: Stage) {
    let env = &stage.client.env;
    let deadline = env.mono() + ms(30);
    assert_eq!(env.until(deadline, std::future::pending::<()>()).await, None);
    assert!(env.mono() >= deadline);
}

pub async fn until_prefers_the_work_that_is_done(stage: Stage) {
    let env = &stage.client.env;
    assert_eq!(env.until(MonoTime(0), async { 7 }).await, Some(7));
}

pub async fn clocks_move_forward(stage: Stage) {
    let env = &stage.client.env;
    let (mono, wall) = (env.mono(), env.wall());
    env.sleep(ms(50)).await;
    assert!(env.mono().since(mono) >= ms(50));
    let walked = env.wall().0 - wall.0;
    assert!((45..30_000).contains(&walked), "the wall clock walked {walked} ms in 50");
}
