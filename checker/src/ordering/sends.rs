//! The order in which one producer's records lie in the log.

use crate::context::Context;
use crate::history::{Outcome, SessionId};
use crate::index::{Index, Seen};
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
            let reason = reason.or_else(lost);
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
