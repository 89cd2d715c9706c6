//! One partition's batches in order, and their sequence numbers.
//!
//! The queue holds the batches in the order of their records, oldest first; nothing overtakes. With idempotence
//! (KIP-98) a batch gets its sequence number when it is first sent, and keeps it for every retry: the broker knows the
//! last five and answers a repeated one with its old offset.
//!
//! **A retry goes alone**: it waits until it is the oldest and nothing else is in flight, and nothing is sent behind it
//! until it is answered. So a failure in the middle of five costs a few round trips and never an order.
//!
//! **A gap** opens when a batch leaves the queue and its sequence number is not surely in the log: it expired, or was
//! refused for good. The broker will refuse what was numbered after it (OUT_OF_ORDER_SEQUENCE_NUMBER). Those batches
//! need new numbers, from 0 under a higher producer epoch (KIP-360), which also shuts out any late copy of the old
//! ones. Three rules keep that safe:
//!
//! 1. The new session begins only when no batch with an old number is left, in flight or waiting (KAFKA-14034: an
//!    earlier batch, perhaps stored and not yet acknowledged, must not be renumbered).
//! 2. A batch is renumbered only if every attempt so far was surely without effect. Otherwise it is tried under its old
//!    number until the broker knows it or refuses it, and then it is given up as indeterminate. Kafka's own producer
//!    renumbers it all the same and may store it twice; [`AfterEpochBump::AsKafka`] does so too.
//! 3. The session is the partition's own: another partition goes on under its old epoch until it has nothing numbered
//!    left, then adopts the new one and begins at 0 (KAFKA-12152).

use super::AfterEpochBump;
use super::batch::{Batch, Place, Session};
use broker_types::{MonoTime, NodeId, increment_sequence};
use std::collections::VecDeque;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Partition<T> {
    pub(super) queue: VecDeque<Batch<T>>,
    /// Under which producer id and epoch the numbered batches are.
    pub(super) session: Option<Session>,
    /// The number of the next batch; wraps from `i32::MAX` to 0.
    pub(super) next_sequence: i32,
    /// A number is missing in `session`: no further batch gets one from it.
    pub(super) gap: bool,
    /// Who has the batches in flight; of no meaning when none is.
    pub(super) sent_to: Option<NodeId>,
}

/// What stands between a batch and its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Numbering {
    /// Nothing: it has one, or can get one.
    Ready,
    /// The producer has no id yet.
    NoSession,
    /// Numbered batches must leave first.
    Wait,
    /// The epoch must be raised first.
    NeedsBump,
}

impl<T> Partition<T> {
    pub(super) fn new() -> Self {
        Partition { queue: VecDeque::new(), session: None, next_sequence: 0, gap: false, sent_to: None }
    }

    pub(super) fn in_flight(&self) -> usize {
        self.queue.iter().filter(|batch| batch.in_flight()).count()
    }

    /// The batch that may be sent next to `node`, if order allows any. Says nothing about linger.
    pub(super) fn next(&self, now: MonoTime, node: NodeId, max_in_flight: usize) -> Option<usize> {
        let mut index = self.queue.iter().position(|batch| !batch.in_flight())?;
        let in_flight = self.in_flight();
        if in_flight == 0 && self.queue[index].stamp.is_none() {
            // Rule 1 the other way round: what still has an old number is settled first, wherever it stands.
            index = self.queue.iter().position(|batch| batch.stamp.is_some()).unwrap_or(index);
        }
        let batch = &self.queue[index];
        let Place::Waiting { not_before } = batch.place else { return None };
        if not_before > now {
            return None;
        }
        if in_flight > 0 {
            let retrying = batch.failures > 0 || self.queue.iter().take(index).any(|before| before.failures > 0);
            let elsewhere = self.sent_to.is_some_and(|other| other != node);
            if retrying || elsewhere || in_flight >= max_in_flight {
                return None;
            }
        }
        Some(index)
    }

    /// Whether the batch at `index` has or can get a number, `current` being the producer's newest session.
    pub(super) fn numbering(&self, index: usize, current: Option<Session>) -> Numbering {
        if self.queue[index].stamp.is_some() {
            return Numbering::Ready;
        }
        let Some(current) = current else { return Numbering::NoSession };
        if self.session == Some(current) && !self.gap {
            return Numbering::Ready;
        }
        if self.queue.iter().any(|batch| batch.stamp.is_some()) {
            // A session that is merely old goes on until its numbers are used up; one with a gap gives no more.
            return if self.gap || self.session.is_none() { Numbering::Wait } else { Numbering::Ready };
        }
        if self.session == Some(current) { Numbering::NeedsBump } else { Numbering::Ready }
    }

    /// Numbers the batch at `index`, if it is not. [`Partition::numbering`] must have said `Ready`.
    pub(super) fn number(&mut self, index: usize, current: Session) {
        if self.queue[index].stamp.is_some() {
            return;
        }
        let numbered = self.queue.iter().any(|batch| batch.stamp.is_some());
        if self.session != Some(current) && !numbered {
            (self.session, self.next_sequence, self.gap) = (Some(current), 0, false);
        }
        let session = self.session.expect("a session was adopted");
        assert!(!self.gap, "a number after a gap in {session:?} at {}", self.next_sequence);
        self.queue[index].stamp = Some(session.stamp(self.next_sequence));
        self.next_sequence = increment_sequence(self.next_sequence, self.queue[index].count);
    }

    /// The number before `index` is not surely in the log: what waits from there on gives its number back.
    pub(super) fn open_gap(&mut self, index: usize, mode: AfterEpochBump) {
        self.gap = true;
        for batch in self.queue.iter_mut().skip(index) {
            if !batch.in_flight() && (!batch.doubtful || mode == AfterEpochBump::AsKafka) {
                batch.stamp = None;
            }
        }
    }

    /// Whether the batch at `index` is the oldest that has a number.
    pub(super) fn is_first_numbered(&self, index: usize) -> bool {
        self.queue.iter().take(index).all(|before| before.stamp.is_none())
    }

    /// Every number in flight or waiting is one of the session, rising along the queue.
    #[cfg(any(test, debug_assertions))]
    pub(super) fn check_invariants(&self) {
        let mut last: Option<i32> = None;
        for batch in &self.queue {
            let Some(stamp) = batch.stamp else { continue };
            assert_eq!(Some(stamp.id), self.session.map(|session| session.id), "a number of another session");
            assert_eq!(Some(stamp.epoch), self.session.map(|session| session.epoch), "a number of another session");
            if let (Some(before), Some(sequence)) = (last, stamp.base_sequence) {
                let distance = sequence.wrapping_sub(before);
                assert!(distance > 0 || before > i32::MAX / 2, "{sequence} stands behind {before}");
            }
            last = stamp.base_sequence;
        }
    }
}
