//! The order in which one producer's records lie in the log.

use crate::context::Context;
use crate::history::{Acks, Outcome, SessionId};
use crate::index::{Index, Seen, excuse};
use crate::ordering::offsets::vanished;
use crate::registry::NONMONOTONIC_SEND;
use crate::verdict::CheckResult;
use std::collections::BTreeMap;

/// `nonmonotonic-send` (B8).
pub(crate) fn check(index: &Index<'_>, ctx: &Context) -> Vec<CheckResult> {
    let mut result = CheckResult::of(NONMONOTONIC_SEND);
    for (partition, view) in &index.partitions {
        let mut highest: BTreeMap<SessionId, (u32, Seen)> = BTreeMap::new();
        for at in &view.sends {
            let (op, send) = index.send(*at);
            if op.outcome == Outcome::Fail {
                continue;
            }
            // The first place: a later one is a duplicate, and that is another check's business.
            let Some(seen) = view.places(send.value).next() else { continue };
            let Some((before, higher)) = highest.get(&op.session).copied() else {
                highest.insert(op.session, (*at, *seen));
                continue;
            };
            result.opportunity(1);
            if seen.offset > higher.offset {
                highest.insert(op.session, (*at, *seen));
                continue;
            }
            let reason = match send.idempotent && index.send(before).1.idempotent {
                false => Some("no-idempotence-retry"),
                true => None,
            };
            let lost = || vanished(index, ctx, *partition, &higher).or_else(|| vanished(index, ctx, *partition, seen));
            // A log that lost its records lost what it knew of their producer, and takes any sequence for its first. Of
            // two requests in flight the first may be refused (NOT_ENOUGH_REPLICAS, while the ISR fills), the second be
            // taken, and the first come again under a new producer epoch (KIP-360): behind it.
            let forgotten = || excuse(ctx, *partition, Acks::All, index.op(before).invoked);
            let reason = reason.or_else(lost).or_else(forgotten);
            result.find(NONMONOTONIC_SEND, ctx, reason, Some(op.invoked.0), || {
                let what = format!("value {} lies at offset {}", send.value.0, seen.offset);
                let earlier = format!("value {}, sent before it, lies at offset {}", higher.value.0, higher.offset);
                vec![what, earlier, index.tell_send(ctx, *at), index.tell_send(ctx, before)]
            });
            // What comes next is compared with this one: one loss must not be told again by every later record.
            if reason.is_some() {
                highest.insert(op.session, (*at, *seen));
            }
        }
    }
    vec![result]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::{Excuse, ExcuseKind};
    use crate::history::{History, Op, OpId, OpKind, Send, SimTime, ValueId};
    use crate::tests::partition;
    use broker_types::Offset;

    /// Value 1 was sent first and lies behind value 2.
    fn overtaken() -> History {
        let send = |value: u64, invoked: u64, offset: i64| Op {
            id: OpId(value),
            session: SessionId(1),
            invoked: SimTime(invoked),
            returned: Some(SimTime(100)),
            outcome: Outcome::Ok,
            kind: OpKind::Send(Send {
                partition: partition(0),
                value: ValueId(value),
                digest: 0,
                acks: Acks::All,
                idempotent: true,
                offset: Some(Offset(offset)),
                error: None,
                source: None,
                key: None,
                is_tombstone: false,
                balance: None,
            }),
        };
        History { ops: vec![send(1, 40, 7), send(2, 50, 3)] }
    }

    fn context(excuses: Vec<Excuse>) -> Context {
        Context { excuses: Some([(partition(0), excuses)].into()), ..Context::default() }
    }

    fn loss(at: u64, until: u64) -> Excuse {
        Excuse { kind: ExcuseKind::LossBeyondBudget, at: SimTime(at), until: Some(SimTime(until)) }
    }

    #[test]
    fn a_log_that_forgot_its_producer_may_take_the_second_request_first() {
        let history = overtaken();
        let check = |ctx: &Context| check(&Index::new(&history), ctx).remove(0);
        let forgot = check(&context(vec![loss(30, 60)]));
        assert_eq!((forgot.violations_in_all, forgot.allowed_in_all()), (0, 1));
        assert!(forgot.allowed.contains_key("loss-beyond-budget"));
        // The log was whole again before the first of the two was sent; or it never lost anything.
        assert_eq!(check(&context(vec![loss(10, 30)])).violations_in_all, 1);
        assert_eq!(check(&context(Vec::new())).violations_in_all, 1);
    }
}
