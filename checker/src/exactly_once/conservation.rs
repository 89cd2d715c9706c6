//! T12: transfers between accounts leave their sum as it was. Reads in the middle may see a transfer half done: its two
//! partitions become visible one after the other.

use super::final_reads::committed;
use super::visibility::late_end;
use crate::context::Context;
use crate::history::{Acks, SimTime};
use crate::index::{Index, excuse};
use crate::registry::CONSERVATION;
use crate::verdict::CheckResult;
use broker_types::TopicIdPartition;
use std::collections::{BTreeMap, BTreeSet};

/// `conservation`.
pub(crate) fn check(index: &Index<'_>, ctx: &Context) -> CheckResult {
    let mut result = CheckResult::of(CONSERVATION);
    let Some(total) = ctx.conserved_total else { return result };
    let partitions: BTreeSet<TopicIdPartition> = index.balances.iter().map(|at| index.send(*at).1.partition).collect();
    // By key: what its last record says, and the send of that.
    let mut accounts: BTreeMap<(TopicIdPartition, u64), (i64, u32)> = BTreeMap::new();
    for partition in &partitions {
        let Some(found) = committed(index, ctx, *partition) else { return result };
        for (_, value) in found {
            let Some((at, _, send)) = index.sender(*partition, value) else { continue };
            if let Some((key, balance)) = send.key.zip(send.balance) {
                accounts.insert((*partition, key), (balance, at));
            }
        }
    }
    if partitions.is_empty() {
        return result;
    }
    result.opportunity(accounts.len() as u64);
    let sum: i128 = accounts.values().map(|(balance, _)| i128::from(*balance)).sum();
    if sum != i128::from(total) {
        let lost = partitions.iter().find_map(|partition| excuse(ctx, *partition, Acks::All, SimTime(0)));
        result.find(CONSERVATION, ctx, lost.or_else(|| late_end(ctx)), None, || {
            let what = format!("{} accounts hold {sum} in the end; they are to hold {total}", accounts.len());
            let told = accounts.iter().take(16).map(|((_, key), (balance, at))| {
                format!("account {key} holds {balance}: {}", index.tell_send(ctx, *at))
            });
            std::iter::once(what).chain(told).collect()
        });
    }
    result
}
