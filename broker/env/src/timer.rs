//! Timers with cancel.

use broker_types::MonoTime;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// What a world implements for [`Timer`].
pub trait RawTimer: Send {
    /// Ready once the deadline has passed; otherwise wakes `cx` when it has. May be polled again after it was ready.
    fn poll_fired(&mut self, cx: &mut Context<'_>) -> Poll<()>;
    /// Replaces the deadline. The old one is forgotten and costs nothing any more.
    fn reset(&mut self, deadline: MonoTime);
}

/// Fires at a deadline on the node's monotonic clock. Dropping it cancels it at once.
pub struct Timer(Box<dyn RawTimer>);

impl Timer {
    /// Wraps a world's timer.
    #[must_use]
    pub fn new(raw: Box<dyn RawTimer>) -> Self {
        Timer(raw)
    }

    /// Replaces the deadline; `MonoTime::NEVER` disarms.
    pub fn reset(&mut self, deadline: MonoTime) {
        self.0.reset(deadline);
    }
}

impl Future for Timer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll_fired(cx)
    }
}
