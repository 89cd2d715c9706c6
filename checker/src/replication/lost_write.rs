//! Acknowledged or read once, gone later.

use crate::context::Context;
use crate::exactly_once::transactions::Fate;
use crate::history::{Acks, Outcome};
use crate::index::{Index, PartitionView, Seen, excuse};
use crate::registry::{DIRTY_READ, LOST_WRITE, UNSEEN};
use crate::verdict::CheckResult;
use broker_types::{Offset, TopicIdPartition};

/// `lost-write` (B3), `unseen` (B4) and `dirty-read`.
///
/// A lost record that readers have passed is a lost write; one at the end of the log, which only a read up to the known
/// end can miss, is unseen; one that was read before it vanished is a dirty read, whoever sent it.
pub(crate) fn check(index: &Index<'_>, ctx: &Context) -> Vec<CheckResult> {
    let mut lost = CheckResult::of(LOST_WRITE);
    let mut unseen = CheckResult::of(UNSEEN);
    let mut dirty = CheckResult::of(DIRTY_READ);
    for (partition, view) in &index.partitions {
        let reached_end = ctx.final_reads_reached_end.contains(partition);
        for at in &view.sends {
            let at = Write { index, ctx, partition: *partition, view, at: *at, reached_end };
            at.check(&mut lost, &mut unseen);
        }
        dirty_reads(index, ctx, *partition, view, reached_end, &mut dirty);
    }
    vec![lost, unseen, dirty]
}

struct Write<'a> {
    index: &'a Index<'a>,
    ctx: &'a Context,
    partition: TopicIdPartition,
    view: &'a PartitionView,
    at: u32,
    reached_end: bool,
}

impl Write<'_> {
    fn check(&self, lost: &mut CheckResult, unseen: &mut CheckResult) {
        let (op, send) = self.index.send(self.at);
        // A transaction's record is there for all once the transaction has committed, and not before.
        let transaction = self.index.transactions.of(self.at);
        if op.outcome != Outcome::Ok || transaction.is_some_and(|transaction| transaction.fate != Fate::Committed) {
            return;
        }
        let is_there = self.view.places(send.value).any(|seen| seen.read_finally.is_some());
        let acked = op.returned.unwrap_or(op.invoked);
        let is_compacted =
            || send.offset.is_some_and(|at| self.index.may_be_compacted(self.ctx, self.partition, send.value, at));
        let reason = || self.trimmed(send.offset).or_else(|| excuse(self.ctx, self.partition, send.acks, op.invoked));
        // Below the end of the final reads, where most are, an absent record is a lost write.
        unseen.opportunity(u64::from(self.reached_end));
        match (send.offset, self.view.final_end()) {
            (Some(offset), Some(end)) if offset < end => {
                if !self.reached_end && !self.view.finally_covered(offset) {
                    return;
                }
                lost.opportunity(1);
                if !is_there && !is_compacted() {
                    let find = || self.tell(offset, self.passer(offset));
                    lost.find(LOST_WRITE, self.ctx, reason(), Some(acked.0), find);
                }
            }
            (None, Some(_)) | (Some(_), _) if self.reached_end && !is_there && !is_compacted() => {
                let end = self.view.final_end();
                unseen.find(UNSEEN, self.ctx, reason(), Some(acked.0), || {
                    let end = end.map_or("found the log empty".to_owned(), |end| format!("ended at offset {end}"));
                    vec![self.index.tell_send(self.ctx, self.at), format!("the final reads {end} without it")]
                });
            }
            (Some(offset), None) => {
                // Nobody read at the end: whoever passed the offset after the acknowledgement must have seen it.
                let Some(passer) = self.passer(offset) else { return };
                lost.opportunity(1);
                if self.view.places(send.value).all(|seen| seen.read.is_none()) && !is_compacted() {
                    lost.find(LOST_WRITE, self.ctx, reason(), Some(acked.0), || self.tell(offset, Some(passer)));
                }
            }
            _ => {}
        }
    }

    fn trimmed(&self, offset: Option<Offset>) -> Option<&'static str> {
        let trimmed = self.ctx.rules(self.partition).may_be_trimmed;
        offset.is_some_and(|offset| trimmed && offset < self.view.log_start).then_some("trimmed")
    }

    /// A poll, best a final one, that was sent after the acknowledgement and went past `offset`.
    fn passer(&self, offset: Offset) -> Option<u32> {
        let acked = self.index.op(self.at).returned?;
        let passed = |at: &&u32| {
            let (op, poll) = self.index.poll(**at);
            op.invoked > acked && poll.position <= offset && offset < poll.next_position
        };
        let last = self.view.polls.iter().rev();
        last.clone()
            .find(|at| passed(at) && self.index.poll(**at).1.is_final)
            .or_else(|| last.clone().find(passed))
            .copied()
    }

    fn tell(&self, offset: Offset, passer: Option<u32>) -> Vec<String> {
        let mut lines = vec![self.index.tell_send(self.ctx, self.at)];
        lines.extend(passer.map(|at| self.index.tell_poll(self.ctx, at)));
        let instead = self.view.from(offset).iter().take_while(|seen| seen.offset == offset);
        let instead = instead.filter(|seen| seen.value != self.index.send(self.at).1.value && seen.read.is_some());
        lines.extend(instead.map(|seen| format!("read there instead: value {}", seen.value.0)));
        lines
    }
}

fn dirty_reads(
    index: &Index<'_>,
    ctx: &Context,
    partition: TopicIdPartition,
    view: &PartitionView,
    reached_end: bool,
    result: &mut CheckResult,
) {
    let readers = |seen: &Seen| seen.read.zip(seen.read_last);
    for seen in &view.seen {
        let Some((first, last)) = readers(seen) else { continue };
        let judged = reached_end || view.finally_covered(seen.offset);
        result.opportunity(u64::from(judged));
        let sender = index.sender(partition, seen.value).and_then(|(at, ..)| index.transactions.of(at));
        let is_uncommitted = sender.is_some_and(|transaction| transaction.fate != Fate::Committed);
        if !judged || seen.read_finally.is_some() || (is_uncommitted && !seen.read_committed) {
            continue;
        }
        if index.may_be_compacted(ctx, partition, seen.value, seen.offset) {
            continue;
        }
        let op = index.op(last);
        let trimmed = ctx.rules(partition).may_be_trimmed && seen.offset < view.log_start;
        let reason = match trimmed {
            true => Some("trimmed"),
            false => excuse(ctx, partition, Acks::All, op.invoked),
        };
        result.find(DIRTY_READ, ctx, reason, op.returned.map(|at| at.0), || {
            let what = format!(
                "{}: value {} was read at offset {} and the final reads have it no more",
                ctx.partition_name(partition),
                seen.value.0,
                seen.offset
            );
            let mut lines = vec![what, index.tell_poll(ctx, first)];
            lines.extend(index.sender(partition, seen.value).map(|(at, ..)| index.tell_send(ctx, at)));
            lines
        });
    }
}
