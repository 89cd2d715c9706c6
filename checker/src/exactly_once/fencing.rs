//! One transactional id, one producer: whoever is initialised later fences those before it.

use crate::context::Context;
use crate::history::{OpKind, Outcome, SessionId, SimTime};
use crate::index::Index;
use crate::registry::{INITIALISED_EPOCHS, ZOMBIE_WRITE};
use crate::verdict::CheckResult;
use std::collections::BTreeMap;

/// An InitProducerId that succeeded.
#[derive(Clone, Copy)]
struct Init {
    at: u32,
    invoked: SimTime,
    returned: SimTime,
}

/// `zombie-write` and `initialised-epochs`.
pub(crate) fn check(index: &Index<'_>, ctx: &Context) -> Vec<CheckResult> {
    let mut inits: BTreeMap<&str, Vec<Init>> = BTreeMap::new();
    for (at, op) in (0..).zip(index.ops) {
        if let (OpKind::InitProducer(init), Outcome::Ok, Some(returned)) = (&op.kind, op.outcome, op.returned) {
            inits.entry(&init.transactional_id).or_default().push(Init { at, invoked: op.invoked, returned });
        }
    }
    inits.values_mut().for_each(|inits| inits.sort_by_key(|init| init.returned));
    vec![zombies(index, ctx, &inits), epochs(index, ctx, &inits)]
}

/// T4: after a successor was initialised, nothing of its predecessor takes effect any more.
fn zombies(index: &Index<'_>, ctx: &Context, inits: &BTreeMap<&str, Vec<Init>>) -> CheckResult {
    let mut result = CheckResult::of(ZOMBIE_WRITE);
    // Of those that had returned, up to each: the one that was invoked last.
    let latest: BTreeMap<&str, Vec<Init>> = inits
        .iter()
        .map(|(id, inits)| {
            let mut best = inits[0];
            let later = |init: &Init| {
                if init.invoked > best.invoked {
                    best = *init;
                }
                best
            };
            (*id, inits.iter().map(later).collect())
        })
        .collect();
    let mut own: BTreeMap<SessionId, (&str, Init)> = BTreeMap::new();
    for (at, op) in (0..).zip(index.ops) {
        let seen = match &op.kind {
            OpKind::InitProducer(init) => {
                if let (Outcome::Ok, Some(returned)) = (op.outcome, op.returned) {
                    own.insert(op.session, (&init.transactional_id, Init { at, invoked: op.invoked, returned }));
                }
                continue;
            }
            OpKind::Send(send) => {
                let view = index.partitions.get(&send.partition);
                view.is_some_and(|view| view.places(send.value).any(|seen| seen.read_committed))
            }
            OpKind::EndTransaction(end) if end.commit => false,
            OpKind::CommitOffsets(_) if index.transactions.of(at).is_some() => false,
            _ => continue,
        };
        let Some((id, mine)) = own.get(&op.session) else { continue };
        let returned_before = inits[id].partition_point(|init| init.returned < op.invoked);
        let Some(successor) = returned_before.checked_sub(1).map(|last| latest[id][last]) else { continue };
        if successor.invoked <= mine.returned || index.op(successor.at).session == op.session {
            continue;
        }
        result.opportunity(1);
        if op.outcome == Outcome::Ok || seen {
            result.find(ZOMBIE_WRITE, ctx, None, Some(op.invoked.0), || {
                let what = if seen { "it was read afterwards" } else { "it was told to have succeeded" };
                let lines = [at, mine.at, successor.at].map(|at| index.tell(ctx, at));
                lines
                    .into_iter()
                    .chain([format!("the first came from a producer that had been fenced, and {what}")])
                    .collect()
            });
        }
    }
    result
}

/// L9: every initialisation gets a higher epoch than those before it, or a new producer id.
fn epochs(index: &Index<'_>, ctx: &Context, inits: &BTreeMap<&str, Vec<Init>>) -> CheckResult {
    let mut result = CheckResult::of(INITIALISED_EPOCHS);
    let producer = |init: &Init| match &index.op(init.at).kind {
        OpKind::InitProducer(init) => init.producer,
        _ => None,
    };
    for returned in inits.values() {
        let mut invoked = returned.clone();
        invoked.sort_by_key(|init| init.invoked);
        let mut before = returned.iter().peekable();
        // By producer id: the highest epoch told so far, and by which.
        let mut highest = BTreeMap::new();
        for init in invoked {
            while let Some(earlier) = before.next_if(|earlier| earlier.returned < init.invoked) {
                if let Some((id, epoch)) = producer(earlier) {
                    let known = highest.entry(id).or_insert((epoch, earlier.at));
                    *known = (*known).max((epoch, earlier.at));
                }
            }
            let Some((id, epoch)) = producer(&init) else { continue };
            result.opportunity(u64::from(!highest.is_empty()));
            if let Some((known, earlier)) = highest.get(&id).filter(|(known, _)| *known >= epoch) {
                result.find(INITIALISED_EPOCHS, ctx, None, Some(init.invoked.0), || {
                    let what = format!("epoch {epoch} of producer {id} was given after epoch {known}");
                    vec![what, index.tell(ctx, init.at), index.tell(ctx, *earlier)]
                });
            }
        }
    }
    result
}
