//! What lies on the disks at the end, replica by replica.

pub(crate) mod cleanup;
mod files;
mod indexes;
mod producers;

pub use files::{LastBatch, OffsetEntry, ProducerRow, SegmentEnd, SnapshotEnd, TimeEntry};

use crate::context::Context;
use crate::convergence::{BatchEnd, ReplicaEnd};
use crate::findings::Findings;
use crate::registry::{CheckInfo, EPOCH_CACHE, INDEX_ENTRIES, LOG_READABLE, PRODUCER_SNAPSHOT};
use broker_types::{LeaderEpoch, Offset, TopicIdPartition};

/// W-S1, W-S3, W-S4 and W-S5 for every replica of a partition.
pub(crate) fn check(partition: TopicIdPartition, replicas: &[ReplicaEnd], ctx: &Context, out: &mut Findings) {
    for replica in replicas {
        let mut judge = |check: &'static CheckInfo, looked_at: u64, wrong: Option<String>| {
            out.opportunity(check, looked_at);
            let Some(what) = wrong else { return };
            out.find(check, ctx, None, None, || {
                let (name, node) = (ctx.partition_name(partition), ctx.node_name(replica.node));
                vec![format!("{name} on {node}: {what}")]
            });
        };
        judge(LOG_READABLE, 1, replica.damage.clone().or_else(|| disorder(replica)));
        if let Some(starts) = &replica.epoch_starts {
            judge(EPOCH_CACHE, 1, miscached(replica, starts));
        }
        if let Some(segments) = &replica.segments {
            let (looked_at, wrong) = indexes::check(segments, &replica.batches);
            judge(INDEX_ENTRIES, looked_at, wrong);
        }
        if let Some(snapshots) = &replica.producer_snapshots {
            let (looked_at, wrong) = producers::check(replica, snapshots, ctx.producers_expire);
            judge(PRODUCER_SNAPSHOT, looked_at, wrong);
        }
    }
}

fn tell(batch: &BatchEnd) -> String {
    format!("batch {}..={} of leader epoch {}", batch.base, batch.last, batch.leader_epoch)
}

/// Batches that do not follow each other.
fn disorder(replica: &ReplicaEnd) -> Option<String> {
    let turned = replica.batches.iter().find(|batch| batch.last < batch.base);
    let overlaps = |pair: &&[BatchEnd]| pair[1].base <= pair[0].last || pair[1].leader_epoch < pair[0].leader_epoch;
    let pair = replica.batches.windows(2).find(overlaps);
    let past = replica.batches.last().filter(|last| last.last >= replica.log_end);
    turned
        .map(|batch| format!("{} ends before it begins", tell(batch)))
        .or_else(|| pair.map(|pair| format!("{} follows {}", tell(&pair[1]), tell(&pair[0]))))
        .or_else(|| past.map(|batch| format!("{} is past the log's end {}", tell(batch), replica.log_end)))
}

/// An epoch checkpoint that is not what the batches say. It may have epochs without a batch: elections without writes.
fn miscached(replica: &ReplicaEnd, starts: &[(LeaderEpoch, Offset)]) -> Option<String> {
    let falls = |pair: &&[(LeaderEpoch, Offset)]| pair[1].0 <= pair[0].0 || pair[1].1 <= pair[0].1;
    if let Some(pair) = starts.windows(2).find(falls) {
        let [(first, from), (second, to)] = pair else { return None };
        return Some(format!("leader epoch {second} from offset {to} follows {first} from {from}"));
    }
    let mut former = None;
    for batch in &replica.batches {
        if former == Some(batch.leader_epoch) {
            continue;
        }
        let is_first = former.is_none();
        former = Some(batch.leader_epoch);
        let cached = starts.iter().find(|(epoch, _)| *epoch == batch.leader_epoch);
        let fits = match cached {
            Some((_, start)) if is_first => *start <= batch.base,
            Some((_, start)) => *start == batch.base,
            None => false,
        };
        if !fits {
            let cached = cached.map_or("no entry".to_owned(), |(_, start)| format!("an entry from offset {start}"));
            return Some(format!("{} is the first of its epoch, which has {cached}", tell(batch)));
        }
    }
    None
}
