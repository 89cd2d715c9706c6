//! What is there for good: what a reader of committed data finds when it reads a partition to its end, after everything.

use crate::context::Context;
use crate::history::{Isolation, ValueId};
use crate::index::Index;
use broker_types::{Offset, TopicIdPartition};

/// By offset. `None` when nobody read `partition` to its end like that; where no transaction wrote, any reader does.
pub(crate) fn committed(
    index: &Index<'_>,
    ctx: &Context,
    partition: TopicIdPartition,
) -> Option<Vec<(Offset, ValueId)>> {
    let view = index.partitions.get(&partition).filter(|_| ctx.final_reads_reached_end.contains(&partition))?;
    let all_count = !view.sends.iter().any(|at| index.transactions.of(*at).is_some());
    let polls = view.polls.iter().map(|at| index.poll(*at).1);
    let mut polls =
        polls.filter(|poll| poll.is_final && (all_count || poll.isolation == Isolation::ReadCommitted)).peekable();
    polls.peek()?;
    let mut found: Vec<(Offset, ValueId)> =
        polls.flat_map(|poll| &poll.records).filter_map(|read| Some((read.offset, read.value?))).collect();
    found.sort_unstable();
    found.dedup();
    Some(found)
}
