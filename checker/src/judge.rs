//! The black box: a history is judged by what clients saw alone.

use crate::context::Context;
use crate::history::History;
use crate::index::Index;
use crate::verdict::CheckResult;
use crate::{exactly_once, groups, linearizability, ordering, replication};

/// Runs every black-box check on `history`. Each gives a result, also when it had no opportunity.
#[must_use]
pub fn judge(history: &History, ctx: &Context) -> Vec<CheckResult> {
    let index = Index::new(history);
    let mut results = replication::lost_write::check(&index, ctx);
    results.extend(ordering::offsets::check(&index, ctx));
    results.extend(ordering::polls::check(&index, ctx));
    results.extend(ordering::sends::check(&index, ctx));
    results.extend(ordering::records::check(&index, ctx));
    results.push(linearizability::stale_poll::check(&index, ctx));
    results.extend(log(&index, ctx));
    results.extend(exactly_once::visibility::check(&index, ctx));
    results.extend(exactly_once::fencing::check(&index, ctx));
    results.push(exactly_once::order::check(&index, ctx));
    results.push(exactly_once::transform::check(&index, ctx));
    results.push(exactly_once::compacted::check(&index, ctx));
    results.push(exactly_once::conservation::check(&index, ctx));
    results.push(groups::delivery::check(&index, ctx));
    results.push(groups::ownership::check(&index, ctx));
    results.extend(groups::commits::check(&index, ctx));
    results.extend(linearizability::cluster::check(&index, ctx));
    results.extend(linearizability::answers::check(&index, ctx));
    results.push(unresolved(&index, ctx));
    crate::registry::sort(&mut results);
    results
}

/// Runs the checks of a partition as one linearizable log: L1 to L4.
#[must_use]
pub fn judge_log(history: &History, ctx: &Context) -> Vec<CheckResult> {
    log(&Index::new(history), ctx)
}

fn log(index: &Index<'_>, ctx: &Context) -> Vec<CheckResult> {
    let mut results = linearizability::append_order::check(index, ctx).to_vec();
    results.push(linearizability::log_start::check(index, ctx));
    results
}

/// V6: once the world is healed, every operation returns.
fn unresolved(index: &Index<'_>, ctx: &Context) -> CheckResult {
    let check = crate::registry::UNRESOLVED_OP;
    let mut result = CheckResult::of(check);
    result.opportunity(index.ops.len() as u64);
    for (at, op) in index.ops.iter().enumerate().filter(|(_, op)| op.returned.is_none()) {
        result.find(check, ctx, None, Some(op.invoked.0), || vec![index.tell(ctx, at as u32)]);
    }
    result
}
