//! Each record read, held against the send it came from.

use crate::context::{Context, seconds};
use crate::history::Outcome;
use crate::index::Index;
use crate::registry::{FAILED_WRITE_READ, FUTURE_READ, GARBAGE_READ, RECORD_INTEGRITY};
use crate::verdict::CheckResult;

/// `garbage-read`, `future-read`, `record-integrity` and `failed-write-read`.
pub(crate) fn check(index: &Index<'_>, ctx: &Context) -> Vec<CheckResult> {
    let mut garbage = CheckResult::of(GARBAGE_READ);
    let mut future = CheckResult::of(FUTURE_READ);
    let mut integrity = CheckResult::of(RECORD_INTEGRITY);
    let mut failed = CheckResult::of(FAILED_WRITE_READ);
    for (partition, view) in &index.partitions {
        let refused = view.sends.iter().filter(|at| index.op(**at).outcome == Outcome::Fail).count() as u64;
        if !view.polls.is_empty() {
            failed.opportunity(refused);
        }
        for at in &view.polls {
            let (op, poll) = index.poll(*at);
            let time = op.returned.unwrap_or(op.invoked);
            garbage.opportunity(poll.records.len() as u64);
            for read in &poll.records {
                let sender = read.value.and_then(|value| index.sender(*partition, value));
                let Some((send_at, sender, send)) = sender else {
                    garbage.find(GARBAGE_READ, ctx, None, Some(time.0), || {
                        let what = read.value.map_or("bytes that no producer sends".to_owned(), |value| {
                            format!("value {}, which was never sent there", value.0)
                        });
                        vec![format!("offset {}: {what}", read.offset), index.tell_poll(ctx, *at)]
                    });
                    continue;
                };
                integrity.opportunity(1);
                future.opportunity(1);
                let tell = |what: String| vec![what, index.tell_send(ctx, send_at), index.tell_poll(ctx, *at)];
                if read.digest != send.digest {
                    integrity.find(RECORD_INTEGRITY, ctx, None, Some(time.0), || {
                        let (was, is) = (send.digest, read.digest);
                        tell(format!("offset {}: sent with digest {was:016x}, read with digest {is:016x}", read.offset))
                    });
                }
                if op.returned.is_some_and(|returned| returned < sender.invoked) {
                    future.find(FUTURE_READ, ctx, None, Some(time.0), || {
                        let sent = seconds(sender.invoked);
                        tell(format!("offset {}: read by {} but sent at {sent}", read.offset, seconds(time)))
                    });
                }
                if sender.outcome == Outcome::Fail {
                    failed.find(FAILED_WRITE_READ, ctx, None, Some(time.0), || {
                        tell(format!("offset {}: value {} was refused and is there", read.offset, send.value.0))
                    });
                }
            }
        }
    }
    vec![garbage, future, integrity, failed]
}
