//! Deadlines that can be taken back: one queue per incarnation of a process, on its monotonic clock, and one for the
//! world, on simulated time. A queue has one task, which runs what is due, and one armed alarm, for what is due next;
//! a deadline that is cancelled or moved costs nothing later.

use crate::alarm::{Alarm, lock};
use crate::clock::{HostClock, SimTime};
use broker_env::RawTimer;
use broker_types::MonoTime;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

/// What happens at a deadline.
pub(crate) enum Action {
    Wake(Waker),
    Run(Box<dyn FnOnce() + Send>),
}

/// Deadline, then order of registration.
pub(crate) type Key = (u64, u64);

pub(crate) struct Timers {
    alarm: Arc<Alarm>,
    /// The clock that deadlines are on; none for simulated time itself.
    clock: Option<Arc<HostClock>>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    entries: BTreeMap<Key, Action>,
    next: u64,
    /// The alarm we count on. Alarms cannot be taken back, so it may be earlier than anything that is left.
    armed: Option<SimTime>,
    /// Of the queue's task; none until it first ran.
    task: Option<Waker>,
    closed: bool,
}

impl Timers {
    pub(crate) fn new(alarm: Arc<Alarm>, clock: Option<Arc<HostClock>>) -> Arc<Self> {
        Arc::new(Timers { alarm, clock, queue: Mutex::default() })
    }

    /// The queue's clock.
    fn now(&self) -> u64 {
        let now = self.alarm.now();
        self.clock.as_ref().map_or(now.0, |clock| clock.mono_at(now))
    }

    fn when(&self, deadline: u64) -> SimTime {
        self.clock.as_ref().map_or(SimTime(deadline), |clock| clock.when_mono_is(deadline))
    }

    /// Registers an action; `None` when the queue is closed.
    pub(crate) fn add(&self, deadline: u64, action: Action) -> Option<Key> {
        let mut queue = lock(&self.queue);
        if queue.closed {
            drop(queue);
            drop(action);
            return None;
        }
        let key = (deadline, queue.next);
        queue.next += 1;
        queue.entries.insert(key, action);
        if queue.entries.first_key_value().is_some_and(|(first, _)| *first == key) {
            self.arm_first(queue);
        }
        Some(key)
    }

    /// Takes an action back, if it has not run.
    pub(crate) fn cancel(&self, key: Key) -> Option<Action> {
        lock(&self.queue).entries.remove(&key)
    }

    /// Replaces the waker of a registered deadline; false if it is not there any more.
    fn replace_waker(&self, key: Key, waker: &Waker) -> bool {
        let mut queue = lock(&self.queue);
        match queue.entries.get_mut(&key) {
            Some(Action::Wake(old)) if old.will_wake(waker) => true,
            Some(action @ Action::Wake(_)) => {
                let old = std::mem::replace(action, Action::Wake(waker.clone()));
                drop(queue);
                drop(old);
                true
            }
            _ => false,
        }
    }

    fn arm_first(&self, mut queue: std::sync::MutexGuard<'_, Queue>) {
        let Some((&(deadline, _), _)) = queue.entries.first_key_value() else { return };
        let Some(task) = queue.task.clone() else { return };
        let at = self.when(deadline);
        if queue.armed.is_none_or(|armed| at < armed) && deadline < u64::MAX / 4 {
            queue.armed = Some(at);
            drop(queue);
            self.alarm.arm(at, &task);
        }
    }

    /// To be called when the clock's rate has changed.
    pub(crate) fn clock_changed(&self) {
        let mut queue = lock(&self.queue);
        queue.armed = None;
        self.arm_first(queue);
    }

    /// Whether nothing is waited for.
    pub(crate) fn is_idle(&self) -> bool {
        lock(&self.queue).entries.range(..(u64::MAX / 4, 0)).next().is_none()
    }

    /// Forgets everything and takes nothing more.
    pub(crate) fn close(&self) {
        let mut queue = lock(&self.queue);
        queue.closed = true;
        let rest = (std::mem::take(&mut queue.entries), queue.task.take());
        drop(queue);
        drop(rest);
    }

    fn take_due(&self) -> Vec<Action> {
        let now = self.now();
        let mut queue = lock(&self.queue);
        let mut due = Vec::new();
        while queue.entries.first_key_value().is_some_and(|(key, _)| key.0 <= now) {
            due.extend(queue.entries.pop_first().map(|(_, action)| action));
        }
        due
    }

    /// The queue's task: runs what is due, for ever.
    pub(crate) async fn drive(self: Arc<Self>) {
        poll_fn(|cx| {
            self.poll_due(cx);
            Poll::<()>::Pending
        })
        .await;
    }

    fn poll_due(&self, cx: &mut Context<'_>) {
        loop {
            let due = self.take_due();
            if due.is_empty() {
                break;
            }
            for action in due {
                match action {
                    Action::Wake(waker) => waker.wake(),
                    Action::Run(run) => run(),
                }
            }
        }
        let mut queue = lock(&self.queue);
        if queue.task.as_ref().is_none_or(|task| !task.will_wake(cx.waker())) {
            queue.task = Some(cx.waker().clone());
        }
        if queue.armed.is_some_and(|armed| armed <= self.alarm.now()) {
            queue.armed = None;
        }
        self.arm_first(queue);
    }
}

/// A process's timer.
pub(crate) struct SimTimer {
    timers: Arc<Timers>,
    deadline: MonoTime,
    registered: Option<Key>,
}

impl SimTimer {
    pub(crate) fn new(timers: Arc<Timers>, deadline: MonoTime) -> Self {
        SimTimer { timers, deadline, registered: None }
    }
}

impl RawTimer for SimTimer {
    fn poll_fired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.timers.now() >= self.deadline.0 {
            if let Some(key) = self.registered.take() {
                drop(self.timers.cancel(key));
            }
            return Poll::Ready(());
        }
        if self.registered.is_none_or(|key| !self.timers.replace_waker(key, cx.waker())) {
            self.registered = self.timers.add(self.deadline.0, Action::Wake(cx.waker().clone()));
        }
        Poll::Pending
    }

    fn reset(&mut self, deadline: MonoTime) {
        self.deadline = deadline;
        // Whoever waits keeps waiting, now for the new deadline.
        if let Some(action) = self.registered.take().and_then(|key| self.timers.cancel(key)) {
            self.registered = self.timers.add(deadline.0, action);
        }
    }
}

impl Drop for SimTimer {
    fn drop(&mut self) {
        if let Some(key) = self.registered {
            drop(self.timers.cancel(key));
        }
    }
}
